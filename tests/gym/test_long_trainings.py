"""Trainings that take hours: what is said before they begin, episodes that fail, and going on after an interruption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.controllers import LinearPolicy
from surefoot.gym.pipeline import train_simulated
from surefoot.gym.rollout import RolloutWorker
from surefoot.gym.values import Widths, estimate, interval_ends
from surefoot.gym.workload import least_episodes
from tests.gym.toys import CRITERION, HORIZON, WEIGHT, Coins, coins, shared_coins
from tests.refusals import refused

pytestmark = pytest.mark.slow

LIBRARY = [LinearPolicy(np.zeros((1, 2)), np.array([action]), 0.0, 1.0) for action in (0.1, 0.7)]
QUICK: dict[str, Any] = {
    "tasks": 6, "holdout": 5, "cells": 3, "widths": Widths(reward=0.6, cost=0.6), "max_episodes": 150, "progress": False,
}  # fmt: skip


class Tripping(Coins):
    """The coins, but in some steps (by a generator of its own, seeded by reset) the simulator gives up."""

    def __init__(self, gain: float, how: str, chance: float) -> None:
        super().__init__(gain)
        self.how, self.chance = how, chance

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._trip = np.random.default_rng(seed)
        if self.how == "reset" and self._trip.random() < self.chance:
            raise ArithmeticError("no start was found")
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        seen, reward, ended, cut, info = super().step(action)
        if self._trip.random() < self.chance:
            if self.how == "raise":
                raise FloatingPointError("the solver did not converge")
            if self.how == "observation":
                return seen * np.nan, reward, ended, cut, info
            if self.how == "reward":
                return seen, float("nan"), ended, cut, info
            if self.how == "cost":
                return seen, reward, ended, cut, info | {"cost": float("inf")}
        return seen, reward, ended, cut, info


def tripping(how: str, chance: float) -> sf.gym.GymFamily:
    return replace(coins(), make=lambda p: Tripping(float(p[0]), how, chance))


# Before


def free(limit: float, top: float, policies: int = 3) -> tuple[sf.gym.GymFamily, list[Any]]:
    """Nothing costs anything; an episode may cost up to ``top``."""
    family = replace(
        coins(), criterion=sf.Criterion(1.0 - 1e-9, [limit], (0.0, 1.0), [top / HORIZON], HORIZON), cost=lambda *_: 0.0
    )
    return family, [LIBRARY[0]] * policies


def test_a_budget_that_cannot_show_a_margin_is_refused_before_anything_is_simulated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    family, library = free(limit=6.0, top=60.0)
    monkeypatch.setattr(RolloutWorker, "run", lambda *_, **__: pytest.fail("an episode was run"))
    with refused("SF-TRAINING-BUDGET", "[6.0]", "60") as caught:
        train_simulated(family, library, tasks=4, holdout=3, max_episodes=60, progress=False)
    named = int(str(caught.value).split("max_episodes=")[1].split(" ")[0])
    assert 60 < named < 400


def test_the_named_budget_suffices_and_one_less_does_not() -> None:
    """By training: the widest cell keeps a margin at the named number, and keeps none one episode earlier."""
    family, library = free(limit=6.0, top=60.0, policies=2)
    least = least_episodes(family, 2, alpha=0.1, margin=None, slack=0.52)
    assert least is not None
    options: dict[str, Any] = {
        "tasks": 3,
        "holdout": 0,
        "cells": 1,
        "widths": Widths(cost=1e-3, reward=1e-3),
        "progress": False,
    }
    found = train_simulated(family, library, max_episodes=least, **options)
    assert 0.0 < found.safe_margin < 0.1
    with refused("SF-TRAINING-BUDGET", f"max_episodes={least}"):
        train_simulated(family, library, max_episodes=least - 1, **options)
    # The pipeline's own rule agrees: without the check the margin is refused after all that work.
    upper = interval_ends(np.zeros((least - 1, 1)), np.zeros(1), family.ranges()[1][1:2], 0.1 / 4)[1]
    assert 6.0 - 1.52 * float(upper[0]) <= 0.0


def test_a_stated_margin_and_a_limit_of_zero_are_part_of_it() -> None:
    family, _ = free(limit=6.0, top=60.0)
    any_, two, all_ = (least_episodes(family, 2, alpha=0.1, margin=m, slack=0.52) for m in (None, 3.0, 6.0))
    assert any_ is not None and two is not None and any_ < two and all_ is None
    with refused("SF-TRAINING-HOPELESS"):
        train_simulated(*free(limit=0.0, top=60.0), tasks=4, holdout=3, progress=False)


def test_what_is_ahead_is_forecast_and_holds() -> None:
    ahead = sf.gym.forecast_training(coins(), LIBRARY, tasks=6, holdout=5, max_episodes=150)
    found = train_simulated(coins(), LIBRARY, **QUICK)
    spent = sum(found.extra["simulation"]["episodes"].values())
    assert ahead.fewest <= spent <= ahead.most
    assert ahead.least_episodes is not None and ahead.least_episodes <= 150
    assert 0.0 < ahead.seconds[0] <= ahead.seconds[1] and ahead.memory_mb > 0.0
    assert f"between {ahead.fewest:,} and {ahead.most:,} episodes" in str(ahead)
    shared = sf.gym.forecast_training(shared_coins(), LIBRARY, tasks=6, holdout=5, max_episodes=150)
    assert shared.most == 2 * 2 * 150, "tasks share their episodes: two batches of two policies"


# Failed episodes


@pytest.mark.parametrize("how", ["raise", "observation", "reward", "cost", "reset"])
def test_episodes_that_fail_are_reported_and_the_others_go_on(how: str) -> None:
    family = tripping(how, 0.004 if how != "reset" else 0.02)
    options: dict[str, Any] = {"alpha": 0.1, "seed": 1, "max_episodes": 300, "widths": Widths(cost=0.01, reward=0.01)}
    found = estimate(family, [[0.5], [0.8]], LIBRARY, failed_share=0.1, **options)
    clean = estimate(coins(), [[0.5], [0.8]], LIBRARY, **options)
    assert found.failed.sum() > 3 and (found.failed < 0.1 * found.episodes).all()
    assert found.failure is not None and "coins at [" in found.failure and "episode" in found.failure
    assert found.episodes.tolist() == clean.episodes.tolist() and not clean.failed.any()
    # Wider on both sides by about what the failed episodes could have been.
    share = found.failed / found.episodes
    high = family.ranges()[1]
    assert ((found.upper - clean.upper)[:, :, 1] > 0.5 * share * (high[1] - clean.mean[:, :, 1]) - 0.02).all()
    assert (found.lower <= clean.lower + 0.05).all() and (found.upper >= clean.upper - 0.05).all()
    again = estimate(family, [[0.5], [0.8]], LIBRARY, failed_share=0.1, workers=2, num_envs=3, **options)
    np.testing.assert_array_equal(again.upper, found.upper)


def test_failing_selectively_does_not_make_a_policy_look_cheap() -> None:
    """Expensive episodes never finish: what is left costs nothing, and the interval still holds the true cost."""

    class Hiding(Coins):
        def step(self, action: Any) -> Any:
            seen, reward, ended, cut, info = super().step(action)
            if info["cost"] > 0.0:
                raise RuntimeError("crashed")
            return seen, reward, ended, cut, info

    family = replace(coins(), make=lambda p: Hiding(float(p[0])))
    found = estimate(
        family, [[0.5]], LIBRARY[:1], failed_share=0.5, alpha=0.05, seed=2, max_episodes=500, widths=Widths(cost=0.01)
    )
    assert found.failed[0, 0] > 50
    true = WEIGHT * 0.05
    assert found.lower[0, 0, 1] <= true <= found.upper[0, 0, 1] and found.upper[0, 0, 1] > true + 0.1


def test_the_checks_before_training_forgive_what_training_forgives() -> None:
    """One episode in ten fails: policies and parameters are checked on the others, and the simulator's own fault is no fault of theirs."""
    for how in ("raise", "reset", "observation"):
        family = tripping(how, 0.025 if how != "reset" else 0.1)
        found = train_simulated(family, LIBRARY, **QUICK | {"max_episodes": 100}, failed_share=0.5, strict=False)
        assert found.extra["simulation"]["failed"]["simulating tasks"]["episodes"] > 5


def test_a_failed_episode_stands_with_the_worst_it_could_have_been() -> None:
    family = tripping("raise", 0.1)
    with RolloutWorker(family, np.array([0.5])) as worker:
        seen = worker.run(LIBRARY[0], 0, seed=1, first=0, count=60, tolerant=True)
    low, high = family.ranges()
    assert 0 < seen.failed.sum() < 60
    assert (seen.costs[seen.failed] == high[1]).all() and (seen.returns[seen.failed] == low[0]).all()


def test_too_many_failures_are_an_error_that_names_where_and_what() -> None:
    with refused("SF-SIMULATION-FAILURES", "0.02", "0"):
        train_simulated(tripping("raise", 0.05), LIBRARY, **QUICK)
    with refused("SF-SIMULATION-RAISED", "step", "FloatingPointError"):
        estimate(tripping("raise", 0.05), [[0.5]], LIBRARY, alpha=0.1, seed=1)
    with refused("SF-SIMULATION-FAILURES", "32", "32"):
        estimate(tripping("reset", 1.0), [[0.5]], LIBRARY, alpha=0.1, seed=1, failed_share=0.9)


def test_what_breaks_a_rule_is_no_failure() -> None:
    """A cost above its bound would become a wrong certificate: it stays an error, however few there are."""
    family = replace(coins(), cost=lambda *_: 1.5)
    with refused("SF-SIMULATION-RANGE", "criterion.cost_bounds"):
        estimate(family, [[0.5]], LIBRARY, alpha=0.1, seed=1, failed_share=0.5)


def test_the_policy_set_says_what_failed_and_what_keeps_intervals_wide(capsys: pytest.CaptureFixture[str]) -> None:
    found = train_simulated(
        tripping("raise", 0.001), LIBRARY, **QUICK | {"widths": Widths(cost=0.01, reward=0.6)}, failed_share=0.2
    )
    report = found.extra["simulation"]
    assert report["failed"]["simulating tasks"]["episodes"] > 0
    assert "did not converge" in report["failed"]["simulating tasks"]["first"]
    widest = report["widest"]["simulating tasks"]
    assert (
        (widest["policy"], widest["quantity"]) == (1, "cost 'cost'")
        and widest["times"] > 5.0
        and widest["episodes"] > 10_000
    )
    assert capsys.readouterr().err == "", "nothing is said without progress"
    train_simulated(coins(), LIBRARY, **QUICK | {"widths": Widths(cost=0.01, reward=0.6), "progress": True})
    said = capsys.readouterr().err
    assert "widest is cost 'cost' of policy 1" in said and "episodes would do" in said


# Checkpoints


class Killed(BaseException):
    """The process was killed."""


def after(units: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the training once so many results were kept."""
    from surefoot.gym.checkpoint import Checkpoint

    put, kept = Checkpoint.put, [0]

    def counted(self: Any, key: Any, result: Any) -> None:
        put(self, key, result)
        kept[0] += 1
        if kept[0] == units:
            raise Killed

    monkeypatch.setattr(Checkpoint, "put", counted)


@pytest.mark.parametrize("family", [coins, shared_coins], ids=["own episodes", "shared episodes"])
@pytest.mark.parametrize("units", [1, 3])
def test_a_killed_training_goes_on_to_the_same_set(
    family: Any, units: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = QUICK | ({"max_episodes": 900} if family is shared_coins else {})
    whole = train_simulated(family(), LIBRARY, **options)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        after(units, patched)
        train_simulated(family(), LIBRARY, **options, checkpoint=tmp_path / "kept")
    assert len(list((tmp_path / "kept").glob("*.npz"))) == units
    assert train_simulated(family(), LIBRARY, **options, checkpoint=tmp_path / "kept").hash == whole.hash
    # Everything is there now: nothing is simulated but the checks before.
    with monkeypatch.context() as patched:
        patched.setattr("surefoot.gym.values._unit", lambda *_: pytest.fail("simulated again"))
        assert train_simulated(family(), LIBRARY, **options, checkpoint=tmp_path / "kept").hash == whole.hash


def test_other_numbers_of_cells_use_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_simulated(coins(), LIBRARY, **QUICK, checkpoint=tmp_path)
    before = len(list(tmp_path.glob("*.npz")))
    other = train_simulated(coins(), LIBRARY, **QUICK | {"cells": 1}, checkpoint=tmp_path)
    assert other.hash == train_simulated(coins(), LIBRARY, **QUICK | {"cells": 1}).hash
    assert len(list(tmp_path.glob("*.npz"))) == before + QUICK["holdout"], (
        "other cells meet another hold-out, and the same tasks"
    )


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"seed": 1}, "probe"),
        ({"max_episodes": 151}, "max_episodes"),
        ({"widths": Widths(reward=0.5, cost=0.6)}, "widths"),
        ({"library": [LIBRARY[0], LinearPolicy(np.zeros((1, 2)), np.array([0.6]), 0.0, 1.0)]}, "probe"),
        ({"family": replace(coins(), criterion=replace(CRITERION, cost_limits=np.array([1.3])))}, "cost_limits"),
    ],
)
def test_a_folder_of_another_training_is_refused(changes: dict[str, Any], name: str, tmp_path: Path) -> None:
    train_simulated(coins(), LIBRARY, **QUICK, checkpoint=tmp_path)
    given = {"family": coins(), "library": LIBRARY, **QUICK, **changes}
    with refused("SF-TRAINING-RESUMED", name):
        train_simulated(given.pop("family"), given.pop("library"), **given, checkpoint=tmp_path)


def test_damaged_files_are_simulated_again_and_other_folders_left_alone(tmp_path: Path) -> None:
    kept, other = tmp_path / "kept", tmp_path / "other"
    whole = train_simulated(coins(), LIBRARY, **QUICK, checkpoint=kept)
    first, second, third, *_ = sorted(kept.glob("*.npz"))
    first.write_bytes(first.read_bytes()[:100])
    second.write_bytes(b"")
    third.write_bytes(sorted(kept.glob("*.npz"))[3].read_bytes())
    assert train_simulated(coins(), LIBRARY, **QUICK, checkpoint=kept).hash == whole.hash
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with refused("SF-TRAINING-FOLDER"):
        train_simulated(coins(), LIBRARY, **QUICK, checkpoint=other)
    assert [path.name for path in other.iterdir()] == ["notes.txt"]
    (kept / "training.json").write_text("{")
    with refused("SF-RECORD-UNREADABLE", "training.json"):
        train_simulated(coins(), LIBRARY, **QUICK, checkpoint=kept)


def test_control_c_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("surefoot.gym.pipeline._HoldOut.judge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train_simulated(coins(), LIBRARY, **QUICK, checkpoint=tmp_path)
    assert f"kept in {tmp_path}: the same call goes on there" in capsys.readouterr().err
    assert json.loads((tmp_path / "training.json").read_text())["seed"] == 0
