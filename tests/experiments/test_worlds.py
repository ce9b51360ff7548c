"""The runner for worlds, on a small one: what is written, what is counted, and what is judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.deploy.trace import Trace
from surefoot.experiments.worlds import Outside, Sizes, TabularPlant, World, reproduce_world
from surefoot.experiments.worlds import run as module
from surefoot.policyset.schema import PolicySet
from surefoot.stats.binomial import clopper_pearson
from surefoot.training import pipeline
from tests.refusals import refused

FAMILY = sf.tasks.ZonedGridworld(zones=1)
LIMITS = np.array([1.0])


def train_small(cells: int | None, previous: PolicySet | None, seed: int, workers: int, progress: bool) -> PolicySet:
    return sf.train(
        FAMILY, tasks=30, holdout=0 if cells is None else 60, cells=cells, policies=3, previous=previous, strict=False, seed=seed, workers=workers,
        progress=progress,
    )  # fmt: skip


def small(**changes: Any) -> World:
    settings: dict[str, Any] = {
        "name": "small", "title": "a grid", "family": FAMILY, "train": train_small, "plant": TabularPlant, "episodes": 30, "ladder": (4.0, 3.0),
        "cells": (2,), "p_max": 0.4, "outside": (Outside("as ever", "nothing differs", FAMILY),),
    }  # fmt: skip
    return World(**settings | changes)


@pytest.mark.slow
def test_every_level_is_trained_deployed_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "BELIEF_TASKS", 40)
    sizes = Sizes(plants=12, runs=3, episodes=30, outside_runs=2, alpha=0.4, seed=3, progress=False)
    summary = reproduce_world(small(), tmp_path / "run", sizes)
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    assert (summary["schema"], summary["experiment"], summary["runs"]) == (1, "small", 3)
    points = module.fresh_tasks(FAMILY, 3, 3)
    models = [FAMILY.cmdp(p) for p in points]
    optima = [sf.solve(m).value for m in models]
    safe = [sf.evaluate(m, FAMILY.safe_policy()).reward for m in models]
    assert summary["oracle"]["reward"] == pytest.approx(np.mean(optima), rel=1e-9)
    assert summary["oracle"]["binding"] == 1.0, "the optimum of these grids sits on the limit"
    assert summary["safe"]["reward"] == pytest.approx(np.mean(safe), rel=1e-6)
    rows = summary["levels"]
    assert list(rows) == ["never adapting", "best fixed", "data", "envelope", "cells", "rehearsed"]
    never = rows["never adapting"]
    assert (never["violating"], never["gain"], never["half_never"]) == (0, 0.0, 1.0)
    assert 0.0 < rows["best fixed"]["gain"] < 1.0 and rows["best fixed"]["half_median"] in (0.0, None)
    for level, row in rows.items():
        if "refused" not in row:
            assert row["violating"] == 0, level
            assert (row["rate_lower"], row["rate_upper"]) == pytest.approx(clopper_pearson(0, 3, 0.05))
    (study,) = summary["mismatch"]
    assert study["name"] == "as ever" and study["levels"]["data"]["before_alarm"] == 0.0


def trace(ends: list[int], rewards: list[float], costs: list[float]) -> Trace:
    return Trace(np.array(ends), np.array(rewards), np.array(costs)[:, None], np.zeros(len(ends)), 1.0, 1.0)


def test_a_run_is_scored_against_the_safe_policy_and_the_oracle() -> None:
    played = trace([10, 30, 60, 100], [2.0, 3.0, 4.0, 5.0], [0.5, 1.2, 1.0, 1.1])
    run = module._score(played, None, np.array([6.0, 1.0]), np.array([2.0, 0.5]), LIMITS)
    assert (run.gain, run.possible) == (20 * 1.0 + 30 * 2.0 + 40 * 3.0, 400.0)
    assert run.half == 30, "half of what there is to gain is reached by the third batch"
    assert (run.violating, run.before, run.alarm) == (60, 60, None)
    assert run.excess == pytest.approx(0.2)
    stopped = module._score(played, 60, np.array([6.0, 1.0]), np.array([2.0, 0.5]), LIMITS)
    assert (stopped.violating, stopped.before) == (60, 20), "what follows the alarm is counted apart"
    assert module._score(played, None, np.array([20.0, 1.0]), np.array([2.0, 0.5]), LIMITS).half is None


def test_the_gain_is_a_ratio_of_sums() -> None:
    share, low, high = module.ratio_interval(np.array([1.0, 3.0]), np.array([2.0, 10.0]), 0)
    assert share == pytest.approx(4.0 / 12.0)
    assert (low, high) == pytest.approx((0.3, 0.5)), "the two pairs alone are the ends"
    assert module.ratio_interval(np.zeros(2), np.zeros(2), 0) == (0.0, 0.0, 0.0)
    assert module.ratio_interval(np.array([1.0, 0.0]), np.array([2.0, 0.0]), 0) == (0.5, 0.5, 0.5)


def test_the_best_fixed_mixture_keeps_the_limits_on_every_plant_of_its_own(
    gridworld_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two plants on which one policy returns most and costs most: its weight is what the dearer plant allows."""
    values = [np.array([[0.0, 0.4], [1.0, 1.4]]), np.array([[0.0, 0.2], [2.0, 2.2]])]
    monkeypatch.setattr(module, "map_tasks", lambda *_, **__: values)
    family = small().family
    limit = float(family.criterion.cost_limits[0])
    weights = module._best_fixed(small(), gridworld_set, Sizes(plants=80, runs=2, episodes=10))
    expected = min((limit - 0.4) / 1.0, (limit - 0.2) / 2.0, 1.0)
    np.testing.assert_allclose(weights, [1.0 - expected, expected], atol=1e-9)
    monkeypatch.setattr(module, "map_tasks", lambda *_, **__: [v + 9.0 for v in values])
    np.testing.assert_array_equal(
        module._best_fixed(small(), gridworld_set, Sizes(plants=80, runs=2, episodes=10)), [1, 0]
    )


def test_episodes_before_an_alarm_are_counted_where_it_is_seen() -> None:
    class Agent:
        policies, wants, together, alarm = (), frozenset({"transitions"}), None, None

        def ask(self, n: int) -> int:
            return n

        def tell(self, ids: Any, **outcome: Any) -> None:
            self.alarm = outcome["alarm"]

    agent = Agent()
    watched = module._Watched(agent)  # type: ignore[arg-type]
    for n, alarm in ((10, None), (20, "costly"), (30, "costly")):
        assert watched.ask(n) == n
        watched.tell(None, alarm=alarm)
    assert watched.found() == 30
    assert watched.wants == {"transitions"}


def test_sizes_that_no_certificate_could_come_of_are_refused() -> None:
    with refused("SF-ARGUMENT-RANGE", "plants"):
        Sizes(plants=20, runs=3, episodes=10)
    with refused("SF-ARGUMENT-RANGE", "runs"):
        Sizes(plants=100, runs=1, episodes=10)
