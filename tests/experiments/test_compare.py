"""Agents compared on a family of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import surefoot as sf
from surefoot.cli import cli
from surefoot.deploy.fixed import FixedAgent
from surefoot.experiments.comparison import Comparison, results_table
from surefoot.experiments.registry import AgentContext
from surefoot.experiments.runner import Trace
from surefoot.report import load
from surefoot.tasks import SlipperyLake
from tests.refusals import refused

TRAINING = {"tasks": 30, "holdout": 0, "cells": 3}
SMALL: dict[str, Any] = {"tasks": 2, "episodes": 150, "training": TRAINING, "progress": False}


def safe_again(context: AgentContext) -> FixedAgent:
    """An agent of one's own."""
    return FixedAgent(context.policy_set.safe_policy, context.policy_set.criterion, seed=context.seed)


def without_seconds(summary: dict[str, Any]) -> dict[str, Any]:
    agents = {
        name: {k: v for k, v in row.items() if not k.endswith("seconds")} for name, row in summary["agents"].items()
    }
    return {**summary, "agents": agents, "training": {**summary["training"], "seconds": 0.0}}


def test_an_agent_of_ones_own_meets_what_the_others_meet() -> None:
    found = sf.compare({"mine": safe_again, "data": "certified:data"}, SlipperyLake(), **SMALL)
    agents = found.summary["agents"]
    assert list(agents) == ["oracle", "always-safe", "mine", "data"]
    assert agents["mine"]["regret"] == agents["always-safe"]["regret"]
    assert max(agents["oracle"]["regret"]["150"]) < 1e-9 < min(agents["mine"]["regret"]["150"])
    assert "delta = 0.05 allows 0.1 of 2 runs" in found.text
    assert repr(found).startswith("Compared(oracle, always-safe, mine, data on 2 tasks of 150 episodes")


def test_neither_workers_nor_a_file_nor_an_interruption_change_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = sf.compare(["certified:data"], SlipperyLake(), **SMALL)
    alone.policy_set.save(tmp_path / "set.sf")
    two = sf.compare(["certified:data"], SlipperyLake(), **SMALL, policy_set=tmp_path / "set.sf", workers=2)
    assert without_seconds(two.summary) == without_seconds(alone.summary) and two.rows == alone.rows

    def stop(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("surefoot.experiments.comparison.summarised", stop)  # curves are written by then
        with pytest.raises(KeyboardInterrupt):
            sf.compare(["certified:data"], SlipperyLake(), **SMALL, out=tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr("surefoot.experiments.comparison.play", stop)
        patch.setattr("surefoot.experiments.compare.train", stop)
        again = sf.compare(["certified:data"], SlipperyLake(), **SMALL, out=tmp_path / "out")
    assert without_seconds(again.summary) == without_seconds(alone.summary)


def test_who_refuses_the_family_is_said_and_plays_nothing() -> None:
    found = sf.compare(["certified:cells", "certified:data"], SlipperyLake(), **SMALL)
    assert list(found.refused) == ["certified:cells"] == list(found.summary["refused"])
    assert "certified:cells" not in found.summary["agents"]
    assert "certified:cells refused: trust='cells' needs" in found.text


def test_rows_are_tidy_and_true() -> None:
    trace = Trace(
        ends=np.array([400, 1000, 1500]),
        reward=np.array([1.0, 2.0, 3.0]),
        costs=np.array([[0.5], [1.5], [0.9]]),
        weight=np.array([0.0, 0.5, 0.25]),
        seconds=1.0,
        agent_seconds=1.0,
    )
    found = Comparison(np.zeros((1, 1)), np.array([3.0]), np.array([1.0]), 1500, {"a": [trace]}, {"a": []})
    header = {"experiment": "e", "family": "f", "seed": 4, "tasks": [{"slip": 0.25, "optimal_value": 3.0}]}
    columns, rows = results_table(found, header)
    assert [dict(zip(columns, row)) for row in rows] == [
        {
            "experiment": "e", "family": "f", "seed": 4, "agent": "a", "task": 0, "slip": 0.25, "optimal_value": 3.0, "episode": episode,
            "regret": regret, "reward": reward, "cost_0": cost, "weight": weight, "violating_episodes": 600,
        }
        for episode, regret, reward, cost, weight in ((1000, 1400.0, 2.0, 1.5, 0.5), (1500, 1400.0, 3.0, 0.9, 0.25))
    ]  # fmt: skip


def test_tables_of_runs_become_one_data_frame(tmp_path: Path) -> None:
    for name in ("one", "two"):
        sf.compare(["certified:data"], SlipperyLake(), **SMALL, out=tmp_path / name)
    frame = load(tmp_path)
    assert sorted(set(frame.folder)) == ["one", "two"] and len(frame) == 2 * 3 * 2
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    last = frame[(frame.folder == "one") & (frame.agent == "always-safe") & (frame.episode == 150)]
    np.testing.assert_allclose(last.regret, summary["agents"]["always-safe"]["regret"]["150"])
    assert last.slip.tolist() == [task["slip"] for task in summary["tasks"]]
    with refused("SF-RECORD-MISSING"):
        load(tmp_path / "three")
    (tmp_path / "one" / "results.csv").write_bytes(b"\x00\xff" * 10)
    with refused("SF-RECORD-UNREADABLE"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("agents", "code"),
    [
        (["certified:data", "certified:data"], "SF-ARGUMENT-DISTINCT"),
        ("certified:data", "SF-ARGUMENT-TYPE"),
        (["certifiable"], "SF-ARGUMENT-CHOICE"),
        ({"mine": FixedAgent}, "SF-ARGUMENT-TYPE"),
        ({"mine": 3}, "SF-ARGUMENT-TYPE"),
        ({"": safe_again}, "SF-ARGUMENT-TYPE"),
    ],
)
def test_agents_that_cannot_be_meant_are_refused_before_training(agents: Any, code: str) -> None:
    with refused(code):
        sf.compare(agents, SlipperyLake(), **SMALL)


def test_what_is_no_agent_and_what_has_no_models_is_refused() -> None:
    found = sf.compare({"mine": lambda context: object()}, SlipperyLake(), **SMALL)
    assert "without policies, wants, ask, tell" in found.refused["mine"]
    with refused("SF-ARGUMENT-TYPE"):
        sf.compare(["certified:data"], object(), **SMALL)


def test_the_command_compares_on_a_family_of_ones_own(tmp_path: Path) -> None:
    arguments = [
        "reproduce",
        "compare",
        "--family",
        "surefoot.tasks:SlipperyLake",
        "--agents",
        "certified:data",
        "--tasks",
        "2",
    ]
    arguments += [
        "--episodes",
        "150",
        "--training-tasks",
        "30",
        "--holdout",
        "0",
        "--cells",
        "3",
        "--out",
        str(tmp_path / "out"),
    ]
    found = CliRunner().invoke(cli, [*arguments, "--no-figures"], catch_exceptions=False)
    assert found.exit_code == 0 and "certified:data" in found.output and "delta = 0.05 allows" in found.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "curves",
        "policy-set.sf",
        "results.csv",
        "summary.json",
    ]
