"""The published experiment in small: what is written, and that nothing is ever written over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot import OutputExists, PolicySet, solve
from surefoot.experiments.comparison import comparison_header, new_directory, play_all, write_comparison
from surefoot.experiments.gridworld import reproduce
from surefoot.experiments.gridworld.run import test_tasks as tasks_called
from surefoot.tasks import NoisyGridworld
from surefoot.tasks.gridworld import PUBLISHED_NOISES
from tests.refusals import refused

WORLD = NoisyGridworld()
SMALL: dict[str, Any] = {
    "episodes": 1200, "cells": 6, "training_tasks": 60, "holdout": 40, "seed": 3, "progress": False,
    "agents": ("always-safe", "safe-pce:published"), "tasks": "fresh:2",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("runs") / "one"
    return out, reproduce(out, **SMALL)


@pytest.mark.slow
def test_the_summary_has_the_promised_shape(run: tuple[Path, dict[str, Any]]) -> None:
    out, summary = run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert {k: summary[k] for k in ("schema", "experiment", "seed", "episodes", "cost_limits")} == {
        "schema": 1, "experiment": "gridworld", "seed": 3, "episodes": 1200, "cost_limits": [1.5],
    }  # fmt: skip
    for task in summary["tasks"]:
        assert task["optimal_value"] == pytest.approx(solve(WORLD.cmdp(task["noise"])).value)
    training = summary["training"]
    assert (training["tasks_sampled"], training["cells"] <= 6, training["confidence"]) == (60, True, 0.975)
    assert 0.0 < training["uncovered_upper_bound"] <= 1.0
    for agent in summary["agents"].values():
        assert set(agent["regret"]) == {"1000", "1200"}
        for key in ("max_cost", "violating_episodes", "final_candidate_weight"):
            assert len(agent[key]) == 2
        assert agent["regret"]["1000"][0] < agent["regret"]["1200"][0]


def test_the_arrays_agree_with_the_summary(run: tuple[Path, dict[str, Any]]) -> None:
    out, summary = run
    for name in SMALL["agents"]:
        with np.load(out / "curves" / f"{name.replace(':', '-')}.npz", allow_pickle=False) as curves:
            assert curves["episodes"][-1] == 1200
            np.testing.assert_allclose(curves["regret"][:, -1], summary["agents"][name]["regret"]["1200"])
            assert curves["cost"].shape == (2, curves["episodes"].size, 1)
            np.testing.assert_allclose(curves["weight"][:, -1], summary["agents"][name]["final_candidate_weight"])
    loaded = PolicySet.load(out / "policy-set.sf")
    assert loaded.hash == summary["training"]["policy_set"]
    with np.load(out / "figure1.npz", allow_pickle=False) as figure:
        nearest = int(np.abs(figure["noise"] - 0.3).argmin())
        assert figure["optimal_value"][nearest] == pytest.approx(51.96, abs=0.005)
        assert figure["policy"].shape == (2, 49, 4)
        assert np.isnan(figure["optimal_value"][figure["noise"] > 0.437]).all()


@pytest.mark.slow
def test_runs_repeat_exactly(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    def timeless(summary: dict[str, Any]) -> str:
        agents = {
            name: {k: v for k, v in agent.items() if not k.endswith("seconds")}
            for name, agent in summary["agents"].items()
        }
        training = {k: v for k, v in summary["training"].items() if k != "seconds"}
        return json.dumps(summary | {"agents": agents, "training": training}, sort_keys=True)

    assert timeless(reproduce(tmp_path / "two", **SMALL)) == timeless(run[1])


def test_workers_do_not_change_the_comparison(gridworld_set: PolicySet, tmp_path: Path) -> None:
    points = np.array([[0.31], [0.34]])
    found = [
        play_all(
            WORLD, gridworld_set, gridworld_set, points, ["always-safe", "safe-pce:published", "pce"],
            episodes=300, delta=0.05, seed=2, workers=workers, progress=False,
        )
        for workers in (1, 2)
    ]  # fmt: skip
    for name, traces in found[0].traces.items():
        for one, two in zip(traces, found[1].traces[name]):
            np.testing.assert_array_equal(one.costs, two.costs)
            np.testing.assert_array_equal(one.weight, two.weight)
    assert found[0].notes == found[1].notes
    header = comparison_header("gridworld", WORLD, gridworld_set, found[0], delta=0.05, seed=2, seconds=0.0)
    summary = write_comparison(new_directory(tmp_path / "w"), found[0], header)
    assert summary["agents"]["pce"]["violating_episodes"][1] > 0, "a run that violates stays in and is counted"


def test_a_directory_is_never_written_over(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, _ = run
    before = (out / "summary.json").read_bytes()
    with refused("SF-OUTPUT-EXISTS", "out"):
        reproduce(out, **SMALL)
    assert (out / "summary.json").read_bytes() == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputExists):
        new_directory(tmp_path / "file")


def test_fresh_tasks_come_from_the_family_and_the_published_ones_are_fixed() -> None:
    np.testing.assert_array_equal(tasks_called(WORLD, "published", 0)[:, 0], PUBLISHED_NOISES)
    one, two, other = (tasks_called(WORLD, "fresh:50", s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).all()
    assert one.shape == (50, 1)
    assert 0.2 < one.min() and one.max() <= 0.38


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        (
            {"tasks": "fresh:0"},
            ("SF-ARGUMENT-SYNTAX", "tasks", '"published"', '"published:R"', '"fresh:N"', "1", "'fresh:0'"),
        ),
        ({"tasks": "fresh"}, ("SF-ARGUMENT-SYNTAX", "tasks", '"published"', '"published:R"', '"fresh:N"')),
        ({"tasks": "fresh:-3"}, ("SF-ARGUMENT-SYNTAX", "tasks", '"published"', '"published:R"', '"fresh:N"')),
        ({"tasks": "published:0"}, ("SF-ARGUMENT-SYNTAX", "tasks", '"published"', '"published:R"', '"fresh:N"')),
        ({"tasks": "all"}, ("SF-ARGUMENT-SYNTAX", "tasks", '"published"', '"published:R"', '"fresh:N"', "'all'")),
        ({"episodes": 0}, ("SF-ARGUMENT-RANGE", "episodes", "1", "0")),
        ({"agents": ()}, ("SF-ARGUMENT-DISTINCT", "agents", "[]")),
        ({"agents": ("pce", "pce")}, ("SF-ARGUMENT-DISTINCT", "agents", "['pce', 'pce']")),
        ({"family": "wide"}, ("SF-ARGUMENT-CHOICE", "variant", '"truncated"', '"published"', "'wide'")),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    changes: dict[str, Any], refusal: tuple[str, ...], tmp_path: Path
) -> None:
    with refused(*refusal):
        reproduce(tmp_path / "out", **(SMALL | changes))
    assert not (tmp_path / "out").exists()


def test_an_unknown_agent_is_refused_before_training(tmp_path: Path) -> None:
    with refused("SF-ARGUMENT-CHOICE", "agent"):
        reproduce(tmp_path / "out", **(SMALL | {"agents": ("always-safe", "sage")}))
    assert not (tmp_path / "out").exists()
