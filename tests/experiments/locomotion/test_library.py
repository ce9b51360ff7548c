"""Libraries as data: they come back as they were written, and the shipped ones do what they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot.controllers import MLPPolicy
from surefoot.errors import InvalidInput
from surefoot.experiments.locomotion.families import locomotion
from surefoot.experiments.locomotion.library import RECIPES, Library, load_library, read_library, save_library
from surefoot.gym.rollout import rollout
from tests.refusals import refused


def policy(rng: np.random.Generator, **more: Any) -> MLPPolicy:
    weights = (rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(2, 6)))
    return MLPPolicy(weights, (rng.normal(size=6), rng.normal(size=2)), **({"low": -1.0, "high": 1.0} | more))


def test_a_library_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written = Library((policy(rng), policy(rng, clip=2.0, shift=rng.normal(size=4))), np.array([[0.1], [0.9]]))
    save_library(tmp_path / "own.npz", written)
    read = read_library("hopper", tmp_path / "own.npz")
    np.testing.assert_array_equal(read.parameters, written.parameters)
    for old, new in zip(written.policies, read.policies):
        for observation in rng.normal(scale=3.0, size=(5, 4)):
            np.testing.assert_array_equal(new.predict(observation)[0], old.predict(observation)[0])


def test_what_a_library_cannot_hold_is_refused(tmp_path: Path) -> None:
    squashed = Library((policy(np.random.default_rng(1), squash=True),), np.zeros((1, 1)))
    with refused("SF-POLICY-KIND", "policies[0]"):
        save_library(tmp_path / "own.npz", squashed)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"\x80\x04pickle"])
def test_a_file_that_is_no_library_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "own.npz").write_bytes(content)
    with refused("SF-RECORD-UNREADABLE", "path"):
        load_library("hopper", tmp_path / "own.npz")


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", parameters=np.array([{"a": 1}], dtype=object))
    with refused("SF-RECORD-UNREADABLE", "allow_pickle"):
        load_library("hopper", tmp_path / "own.npz")


def test_an_unknown_family_has_none() -> None:
    with refused("SF-ARGUMENT-CHOICE", "name", "hopper, half-cheetah, half-cheetah-dynamics", "'ant'"):
        load_library("ant")


@pytest.mark.parametrize("name", list(RECIPES))
def test_shipped_libraries_fit_their_families(name: str) -> None:
    library, family = read_library(name), locomotion(name)
    np.testing.assert_array_equal(library.parameters[1:], RECIPES[name].members)
    family.check("library", library.parameters[1:])
    env = family.make(library.parameters[0])
    for member in library.policies:
        assert member.n_inputs == env.observation_space.shape[0]
        np.testing.assert_array_equal(np.asarray(member.low), env.action_space.low)
        np.testing.assert_array_equal(np.asarray(member.high), env.action_space.high)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "slow", "fast"), [("hopper", 2, 8), ("half-cheetah", 2, 9)])
def test_shipped_policies_are_best_at_their_own_speed_and_within_the_limit(name: str, slow: int, fast: int) -> None:
    library, family = read_library(name), locomotion(name)
    speeds = library.parameters[[slow, fast]]
    pair = [library.policies[slow], library.policies[fast]]
    results = rollout(family, speeds[0], pair, episodes=2, seed=0, rewards_at=speeds)
    returns = np.stack([result.returns.mean(axis=0) for result in results])
    assert returns[0, 0] > returns[1, 0] + 5.0
    assert returns[1, 1] > returns[0, 1] + 5.0
    for result in results:
        assert (result.costs <= family.criterion.cost_limits).all()


def test_the_same_policy_is_allowed_on_one_ground_and_forbidden_on_another() -> None:
    library, family = read_library("half-cheetah-dynamics"), locomotion("half-cheetah-dynamics")
    bold, safe = library.policies[8], library.policies[0]
    limit = family.criterion.cost_limits[0]
    grippy, slippery = np.array([1.0, 1.4, 1.0, 1.0]), np.array([1.0, 0.6, 1.0, 0.9])
    costs = {
        ground[1]: [r.costs.mean() for r in rollout(family, ground, [safe, bold], episodes=2, seed=0)]
        for ground in (grippy, slippery)
    }
    assert costs[1.4][1] <= limit < costs[0.6][1]
    assert max(costs[1.4][0], costs[0.6][0]) <= 0.7 * limit


def test_damaged_files_are_refused_and_never_a_traceback(tmp_path: Path) -> None:
    """Flipped bytes anywhere: either the file still says the same kind of thing, or InvalidInput."""
    from importlib import resources

    from surefoot.experiments.locomotion.run import Judgement

    rng, refused = np.random.default_rng(0), 0
    for name, read in (
        ("hopper-policies.npz", lambda p: read_library("hopper", p)),
        ("hopper-judged.npz", Judgement.load),
    ):
        good = np.frombuffer(
            (resources.files("surefoot.experiments.locomotion") / "data" / name).read_bytes(), dtype=np.uint8
        )
        for k in range(60):
            bad = good.copy()
            # The ends hold the archive's own structure.
            places = rng.integers(0, good.size, 3) if k % 2 else good.size - 1 - rng.integers(0, 2000, 3)
            bad[places] ^= rng.integers(1, 256, 3).astype(np.uint8)
            path = tmp_path / "damaged.npz"
            path.write_bytes(bad.tobytes())
            try:
                read(path)
            except InvalidInput:
                refused += 1
        path.write_bytes(b"\x93NUMPY\x01\x00")
        with pytest.raises(InvalidInput):
            read(path)
        np.save(tmp_path / "lone.npy", np.zeros(3))
        with pytest.raises(InvalidInput):
            read(tmp_path / "lone.npy")
    assert refused > 60
