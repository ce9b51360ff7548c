"""Locomotion families: the same bodies as Gymnasium's, the stated rewards and costs, ground that changes them, shipped libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from surefoot.experiments.locomotion.families import (
    BODIES,
    LOCOMOTION,
    PlanarRunner,
    half_cheetah,
    half_cheetah_dynamics,
    hopper,
    locomotion,
)
from surefoot.gym.rollout import rollout
from tests.refusals import refused


def drive(env: Any, rng: np.random.Generator, steps: int) -> list[tuple[Any, ...]]:
    """Random actions until the episode ends."""
    taken = []
    for _ in range(steps):
        action = rng.uniform(-1.0, 1.0, env.action_space.shape).astype(np.float32)
        taken.append((action, *env.step(action)))
        if taken[-1][3]:
            break
    return taken


@pytest.mark.parametrize(("body", "name"), [("hopper", "Hopper-v5"), ("half-cheetah", "HalfCheetah-v5")])
def test_bodies_are_those_of_gymnasium(body: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Gymnasium's half-cheetah makes MuJoCo write a log into the current folder.
    monkeypatch.chdir(tmp_path)
    theirs, ours = gymnasium.make(name), PlanarRunner(body, 0.5)
    falls = 0
    for seed in range(6):
        np.testing.assert_array_equal(ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0])
        pairs = zip(*(drive(env, np.random.default_rng(seed), 60) for env in (ours, theirs)))
        for (_, seen, _, over, _, info), (_, seen_there, _, over_there, _, info_there) in pairs:
            np.testing.assert_array_equal(seen, seen_there)
            assert (over, info["x_velocity"]) == (over_there, info_there["x_velocity"])
            falls += over
    assert falls == (6 if body == "hopper" else 0)
    theirs.close()


@pytest.mark.parametrize("name", ["hopper", "half-cheetah"])
def test_rewards_and_costs_are_the_stated_ones(name: str) -> None:
    family, rng = locomotion(name), np.random.default_rng(3)
    env = family.make(np.array([0.7]))
    env.reset(seed=3)
    gap, weight = (1.5, 1e-3) if name == "hopper" else (2.0, 0.0)
    for action, seen, reward, over, _, info in drive(env, rng, 40):
        effort = float((action.astype(float) ** 2).sum())
        upright = float(name == "hopper" and not over)
        wanted = upright - weight * effort - min(abs(info["x_velocity"] - 0.7), gap)
        assert reward == pytest.approx(wanted)
        assert info["cost"] == pytest.approx(0.1 * effort)
        others = family.rewards(np.array([[0.7], [0.0]]), seen, action, seen, reward, info)  # type: ignore[misc]
        np.testing.assert_allclose(others, [reward, upright - weight * effort - min(abs(info["x_velocity"]), gap)])


def test_the_ground_decides_about_the_stopping_distance() -> None:
    family = half_cheetah_dynamics()
    rng = np.random.default_rng(4)
    for scales in family.sample(3, rng):
        env = family.make(scales)
        env.reset(seed=5)
        for _, _, reward, over, _, info in drive(env, rng, 40):
            distance = max(info["x_velocity"], 0.0) ** 2 / (2.0 * 0.4 * scales[1] * 9.81 * scales[3])
            assert info["cost"] == pytest.approx(min(distance, 0.5))
            assert reward == pytest.approx(-min(abs(info["x_velocity"] - 2.0), 2.0))
            assert not over


def test_every_scale_changes_the_motion_and_none_leaks_into_other_tasks() -> None:
    def final(scales: Any) -> Any:
        env = PlanarRunner("half-cheetah", 2.0, scales)
        env.reset(seed=1)
        return drive(env, np.random.default_rng(1), 30)[-1][1]

    plain = final(np.ones(4))
    for k in range(4):
        scales = np.ones(4)
        scales[k] = 1.2
        assert np.abs(final(scales) - plain).max() > 1e-3
    np.testing.assert_array_equal(final(np.ones(4)), plain)


@pytest.mark.parametrize(("family", "mean", "deviation"), [(hopper(), 0.5, 0.1), (half_cheetah(), 1.0, 0.3)])
def test_wanted_speeds_are_truncated_normals(family: Any, mean: float, deviation: float) -> None:
    speeds = family.sample(4000, np.random.default_rng(0))
    assert speeds.min() >= family.support[0, 0]
    assert speeds.max() <= family.support[0, 1]
    # Four standard errors; truncation at several deviations moves the moments by less.
    assert speeds.mean() == pytest.approx(mean, abs=4 * deviation / np.sqrt(4000))
    assert speeds.std() == pytest.approx(deviation, rel=0.06)


@pytest.mark.parametrize("name", list(LOCOMOTION))
def test_wild_actions_stay_within_the_declared_ranges(name: str) -> None:
    family = locomotion(name)
    size = family.make(family.support.mean(axis=1)).action_space.shape[0]
    bang = np.random.default_rng(6)

    def wild(observation: Any) -> Any:
        return np.sign(bang.normal(size=size)).astype(np.float32)

    (done,) = rollout(family, family.sample(1, np.random.default_rng(7))[0], [wild], episodes=3, seed=8)
    low, high = family.ranges()
    assert (done.outcomes() >= low).all()
    assert (done.outcomes() <= high).all()
    assert (done.lengths < 200).all() == (name == "hopper")


def test_actions_beyond_the_space_cost_no_more_than_its_ends() -> None:
    env = PlanarRunner("hopper", 0.5)
    env.reset(seed=0)
    assert env.step(np.array([9.0, -9.0, 9.0]))[4]["cost"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (
            lambda: locomotion("ant"),
            ("SF-ARGUMENT-CHOICE", "name", "hopper, half-cheetah, half-cheetah-dynamics", "'ant'"),
        ),
        (lambda: PlanarRunner("ant", 1.0), ("SF-ARGUMENT-CHOICE", "body", "hopper, half-cheetah", "'ant'")),
        (lambda: PlanarRunner("hopper", 1.0, np.array([1.0, 0.0, 1.0, 1.0])), ("SF-ARGUMENT-RANGE", "scales", "0")),
        (lambda: PlanarRunner("hopper", 1.0, np.ones(3)), ("SF-ARGUMENT-SHAPE", "scales")),
    ],
)
def test_what_does_not_exist_is_refused(call: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        call()


def test_no_body_is_left_untested() -> None:
    assert set(BODIES) == {"hopper", "half-cheetah"}


def test_the_old_home_of_the_families_still_works_and_warns() -> None:
    from surefoot.gym import locomotion as old

    with pytest.warns(DeprecationWarning, match=r"experiments\.locomotion\.families\.hopper"):
        found = old.hopper
    assert found is hopper
    with pytest.raises(AttributeError):
        getattr(old, "no_such_family")  # noqa: B009
