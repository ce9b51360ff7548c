"""The lower-bound experiment: its arithmetic on hand-made runs, what is computed against the real agents, and the whole in small."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from surefoot import PCE, CertifiedAgent, SafePCE, evaluate_many
from surefoot.experiments.lower_bound import FACTORS, Levels, reproduce
from surefoot.experiments.lower_bound.analytic import (
    cover_radius,
    information_floor,
    noise_free_episodes,
    theorem_episodes,
    upper_bound_episodes,
)
from surefoot.experiments.lower_bound.listed import listed_set
from surefoot.experiments.lower_bound.run import Setting, _enough, _Good, _settled, _slope
from surefoot.experiments.runner import Trace
from surefoot.stats import hoeffding
from surefoot.tasks import HardInstance
from tests.refusals import refused

SMALL = HardInstance(depth=1, margin=0.2, accuracy=0.07, discount=0.6, ratio=1.8)
LEVELS = Levels(
    base=Setting(accuracy=0.15, margin=0.5, tasks=2, horizon=8.0),
    accuracy=(0.25, 0.15), margin=(0.8, 0.5), tasks=(2, 3), horizon=(6.0, 8.0),
)  # fmt: skip
AGENTS = ("certified:cells", "always-safe", "safe-pce:theory", "pce:theory")
TINY: dict[str, Any] = {
    "agents": AGENTS, "levels": LEVELS, "runs": 6, "share": 0.0005, "shortest": 500, "seed": 5, "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("runs") / "bound"
    return out, reproduce(out, **TINY)


# The policy set


def test_every_task_is_a_cell_of_its_own() -> None:
    family = HardInstance(depth=2, tasks=3)
    found = listed_set(family, radius=1e-4, delta=0.05, seed=1)
    assert len(found.cells) == 3
    assert found.safe_margin == pytest.approx(family.margin, abs=1e-6)
    predictions = found.cells.predictions
    assert (predictions.cost_upper - predictions.cost_lower).max() < 1e-6
    tables = np.stack([p.table for p in found.policies])  # type: ignore[attr-defined]
    for k in range(3):
        exact = evaluate_many(family.cmdp(k), tables)
        np.testing.assert_allclose(predictions.reward_center[k], exact[:, 0], atol=1e-9)
        np.testing.assert_allclose(predictions.cost_center[k], exact[:, 1:], atol=1e-9)
    assert found.certificate is not None
    assert (found.certificate.uncovered, found.certificate.holdout) == (0, 200)
    CertifiedAgent(found)  # its certificate is good enough for trust in cells


# What is computed


def test_the_theorems_expression_and_the_corollarys_fixed_point() -> None:
    family = HardInstance(depth=2, margin=0.5, accuracy=0.1, discount=0.9)
    assert theorem_episodes(family) == pytest.approx(4 * 0.5**-2 * 0.1**-2 * 0.1**-4)
    needed = upper_bound_episodes(family, 0.05)
    levels = hoeffding.last_level(0.5, cover_radius(family), 190.0) + 2
    log_term = math.log(4 * needed * 4 * levels / 0.05)
    assert needed == pytest.approx(log_term * theorem_episodes(family), rel=1e-6)


def test_the_floor_is_the_change_of_measure_over_the_cheapest_spread_of_errors() -> None:
    """Information of an entry as a series over the number of loops, errors spread by another minimiser."""
    family, delta = SMALL, 0.1
    q0, _, q2 = family.loop_probabilities
    loops = np.arange(2000)
    own, other = (1.0 - q0) * q0**loops, np.log((1.0 - q0) / (1.0 - q2)) + loops * np.log(q0 / q2)
    entry = float(own @ other)

    def told_apart(first: float) -> float:
        p, q = 1.0 - first, 2.0 * delta - first
        return p * math.log(p / q) + (1.0 - p) * math.log((1.0 - p) / (1.0 - q))

    best = minimize_scalar(
        told_apart, bounds=(1e-9, 2.0 * delta - 1e-9), method="bounded", options={"xatol": 1e-10}
    ).fun
    assert information_floor(family, delta) == pytest.approx(best / entry, rel=1e-4)
    with refused("SF-ARGUMENT-RANGE", "delta", "(0, 0.5)", "0.5"):
        information_floor(family, 0.5)


def test_the_floor_falls_with_easier_instances_and_larger_errors() -> None:
    floors = [information_floor(HardInstance(depth=2, accuracy=eps), 0.05) for eps in (0.4, 0.2, 0.1, 0.05)]
    assert all(2.5 < b / a < 6.0 for a, b in pairwise(floors))
    assert information_floor(HardInstance(), 0.01) > information_floor(HardInstance(), 0.1)


@pytest.mark.parametrize("task", [0, 1])
@pytest.mark.parametrize(("kind", "safe_start"), [(SafePCE, True), (PCE, False)])
def test_the_noise_free_schedule_is_the_agents_when_every_episode_reports_the_mean(
    kind: type[SafePCE], safe_start: bool, task: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a logarithm a thousand times smaller than the proof's, so that the real agent can be played to the end."""
    monkeypatch.setattr(hoeffding, "log_term", lambda *_: 0.02)
    policy_set = listed_set(SMALL, radius=cover_radius(SMALL), delta=0.05, seed=0)
    good, model = _Good.of(SMALL, task), SMALL.cmdp(task)
    needed = noise_free_episodes(policy_set, model, good, delta=0.1, safe_start=safe_start, episodes=1000)
    agent, batch, played, since = kind(policy_set, preset="theory", delta=0.1, episodes=1000), 40, 0, math.inf
    exact = evaluate_many(model, np.stack([p.table for p in agent.policies]))  # type: ignore[attr-defined]
    windows = 0
    while played < 1.2 * needed + 500:
        asked = agent.ask(batch)
        mean, before = asked.weights @ exact, (agent.candidate, agent.level)
        since = min(since, played) if good(float(mean[0]), mean[1:]) else math.inf
        agent.tell(asked.ids, np.full(batch, mean[0]), np.full((batch, 1), mean[1]))
        played += batch
        windows += before != (agent.candidate, agent.level)
    # Every window ends with the batch in which it could.
    assert needed <= since + 1e-6 <= needed + batch * (windows + 1)


def test_a_schedule_that_never_gets_there_is_infinite() -> None:
    policy_set = listed_set(SMALL, radius=0.1, delta=0.05, seed=0)
    never = noise_free_episodes(policy_set, SMALL.cmdp(1), _Good.of(SMALL, 1), delta=0.1, safe_start=True)
    assert math.isinf(never), "so coarse a cover leaves the weight at 0"


# What is measured


def trace(ends: list[int], reward: list[float], costs: list[float]) -> Trace:
    size = len(ends)
    return Trace(np.array(ends), np.array(reward), np.array(costs)[:, None], np.zeros(size), 0.0, 0.0)


def test_a_run_has_settled_after_its_last_bad_mixture() -> None:
    best, limit, eps = SMALL.optimal_value(1), float(SMALL.criterion.cost_limits[0]), SMALL.accuracy
    good = _Good.of(SMALL, 1)
    ok, short = best - eps, best - 1.01 * eps
    assert _settled(trace([10, 20, 30], [ok, ok, best], [limit] * 3), good) == 0.0
    assert _settled(trace([10, 20, 30], [ok, short, best], [limit] * 3), good) == 20.0
    assert _settled(trace([10, 20, 30], [short, ok, best], [limit, limit + 1e-3, limit]), good) == 20.0
    assert _settled(trace([10, 20, 30], [ok, ok, short], [limit] * 3), good) == math.inf


def test_enough_is_the_smallest_number_that_serves_the_share() -> None:
    settled = np.array([5.0, 1.0, np.inf, 3.0, 2.0, 4.0, 6.0, 8.0, 9.0, 7.0])
    assert _enough(settled, 0.1) == 9.0, "nine of ten"
    assert _enough(settled, 0.09) == math.inf
    assert _enough(settled, 0.5) == 5.0


def test_slopes_are_those_of_power_laws() -> None:
    x = np.array([0.3, 0.1, 0.05])
    assert _slope(np.log(x), 7.0 * x**-2.0) == pytest.approx(-2.0)
    assert _slope(np.log(x), np.array([0.0, 1.0, 1.0])) == 0.0, "no episodes count as one"


@pytest.mark.slow
def test_the_summary_has_a_number_per_setting_and_agent(run: tuple[Path, dict[str, Any]]) -> None:
    out, summary = run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert {k: summary[k] for k in ("schema", "experiment", "seed", "runs", "delta")} == {
        "schema": 1, "experiment": "lower-bound", "seed": 5, "runs": 6, "delta": 0.05,
    }  # fmt: skip
    assert summary["agents"] == dict(zip(AGENTS, ("measured", "measured", "computed", "computed")))
    assert set(summary["sweeps"]) == set(summary["factors"]) == set(FACTORS)
    for factor, where in summary["sweeps"].items():
        assert [summary["settings"][k][factor] for k in where] == list(getattr(LEVELS, factor))
    for row in summary["settings"]:
        assert set(row["agents"]) == set(AGENTS)
        measured = row["agents"]["certified:cells"]
        assert measured["violating_runs"] == 0
        assert measured["episodes"] is None or row["floor"] <= measured["episodes"] <= measured["played"]
        assert row["floor"] < row["theorem"] < row["upper_bound"]
        assert row["agents"]["safe-pce:theory"]["episodes"] > row["agents"]["pce:theory"]["episodes"] > row["floor"]


def test_an_agent_that_never_learns_is_censored_and_so_is_its_slope(run: tuple[Path, dict[str, Any]]) -> None:
    _, summary = run
    for row in summary["settings"]:
        never = row["agents"]["always-safe"]
        assert (never["episodes"], never["censored_runs"], never["interval"]) == (None, 6, [None, None])
    fit = summary["fits"]["always-safe"]["accuracy"]
    assert (fit["censored_levels"], fit["censored_replicates"]) == (2, 1.0)


def test_slopes_of_what_is_computed_come_without_an_interval(run: tuple[Path, dict[str, Any]]) -> None:
    _, summary = run
    for name in ("pce:theory", "safe-pce:theory", "floor", "upper_bound"):
        fits = summary["fits"][name]
        assert all(fits[factor]["interval"] is None for factor in FACTORS)
        assert fits["accuracy"]["exponent"] < -1.0 and fits["horizon"]["exponent"] > 2.0
    ends = [summary["settings"][k]["floor"] for k in summary["sweeps"]["horizon"]]
    by_hand = math.log(ends[1] / ends[0]) / math.log(8.0 / 6.0)
    assert summary["fits"]["floor"]["horizon"]["exponent"] == pytest.approx(by_hand)


def test_the_logs_hold_every_run(run: tuple[Path, dict[str, Any]]) -> None:
    out, summary = run
    with np.load(out / "runs" / "certified-cells.npz", allow_pickle=False) as logs:
        assert logs["settled"].shape == logs["violating"].shape == logs["task"].shape == (len(summary["settings"]), 6)
        for k, row in enumerate(summary["settings"]):
            assert sorted(set(logs["task"][k].tolist())) == list(range(row["tasks"]))
            assert np.isinf(logs["settled"][k]).sum() == row["agents"]["certified:cells"]["censored_runs"]
            assert _enough(logs["settled"][k], 0.05) == (row["agents"]["certified:cells"]["episodes"] or math.inf)
    assert not (out / "runs" / "pce-theory.npz").exists()


@pytest.mark.slow
def test_workers_change_nothing(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    again = reproduce(tmp_path / "two", **(TINY | {"workers": 2}))
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in run[1].items() if k != "seconds"}


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"agents": ("sage",)}, ("SF-ARGUMENT-CHOICE", "agent", "'sage'")),
        ({"agents": ()}, ("SF-ARGUMENT-DISTINCT", "agents")),
        ({"runs": 0}, ("SF-ARGUMENT-RANGE", "runs", "1", "0")),
        ({"workers": 0}, ("SF-ARGUMENT-RANGE", "workers", "1", "0")),
        ({"shortest": 0}, ("SF-ARGUMENT-RANGE", "shortest", "1", "0")),
        ({"share": 0.0}, ("SF-ARGUMENT-RANGE", "share", "(0, inf]", "0")),
        ({"delta": 0.4}, ("SF-ARGUMENT-RANGE", "delta", "(0, 0.333333)", "0.4")),
        (
            {"levels": Levels(accuracy=(0.1, 0.1))},
            ("SF-ARGUMENT-EMPTY", "accuracy", "[0.1, 0.1]"),
        ),
        ({"levels": Levels(horizon=(2.0, 3.0))}, ("SF-ARGUMENT-RANGE", "scale", "(0, 0.125]", "0.4")),
        ({"levels": Levels(horizon=(1.0, 3.0))}, ("SF-ARGUMENT-RANGE", "horizon", "(1, inf]", "1")),
        ({"levels": Levels(tasks=(1, 4))}, ("SF-ARGUMENT-RANGE", "tasks", "2", "1")),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    changes: dict[str, Any], refusal: tuple[str, ...], tmp_path: Path
) -> None:
    with refused(*refusal):
        reproduce(tmp_path / "out", **(TINY | changes))
    assert not (tmp_path / "out").exists()


def test_a_directory_is_never_written_over(run: tuple[Path, dict[str, Any]]) -> None:
    with refused("SF-OUTPUT-EXISTS", "out"):
        reproduce(run[0], **TINY)
