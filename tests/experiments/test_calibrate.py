"""Calibration: the rule, the budget, the file, and test tasks that are never looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot.experiments.calibrate import (
    MULTIPLIERS,
    Search,
    calibrate,
    choose_multiplier,
    merge,
    training_tasks,
)
from surefoot.experiments.comparison import fresh_tasks
from surefoot.tasks import NoisyGridworld
from surefoot.tasks.gridworld import PUBLISHED_NOISES
from tests.refusals import refused

WORLD = NoisyGridworld()
TINY = Search(multipliers=(1e-5, 1.0), tasks=2, episodes=300, cells=5, policies=3, policy_set_tasks=60)


def row(multiplier: float, regret: float, *violating: int) -> dict[str, Any]:
    return {"multiplier": multiplier, "mean_regret": regret, "violating_episodes": list(violating)}


@pytest.mark.parametrize(
    ("table", "chosen"),
    [
        ([row(1e-3, 10.0, 0, 0), row(1e-2, 20.0, 0, 0), row(1.0, 30.0, 0, 0)], 1e-3),
        ([row(1e-3, 10.0, 0, 1), row(1e-2, 20.0, 0, 0), row(1.0, 30.0, 0, 0)], 1e-2),
        ([row(1e-3, 99.0, 0, 0), row(1e-2, 30.0, 0, 0), row(1.0, 30.0, 0, 0)], 1.0),
        ([row(1.0, 30.0, 0, 0), row(1e-2, 30.0 + 1e-9, 0, 0), row(1e-3, 30.0 - 1e-9, 0, 0)], 1.0),
        ([row(1e-3, 10.0, 5, 0), row(1e-2, 90.0, 2, 2), row(1.0, 30.0, 4, 4)], 1e-2),
    ],
)
def test_the_rule(table: list[dict[str, Any]], chosen: float) -> None:
    assert choose_multiplier(table) == chosen
    assert choose_multiplier(table[::-1]) == chosen


def test_the_grid_is_logarithmic_and_ends_at_the_proof() -> None:
    assert len(MULTIPLIERS) == 13 and MULTIPLIERS[0] == 1e-6 and MULTIPLIERS[-1] == 1.0
    np.testing.assert_allclose(np.diff(np.log10(MULTIPLIERS)), 0.5, atol=2e-3)


def test_training_tasks_are_not_test_tasks() -> None:
    tasks = training_tasks(WORLD, Search(tasks=50))
    assert tasks.shape == (50, 1)
    assert not np.isin(np.round(tasks, 8), np.round(PUBLISHED_NOISES, 8)).any()
    assert not np.isin(tasks, fresh_tasks(WORLD, 200, 0)).any()
    np.testing.assert_array_equal(tasks, training_tasks(WORLD, Search(tasks=50)))
    assert not np.isin(tasks, training_tasks(WORLD, Search(tasks=50, seed=1))).any()


@pytest.fixture(scope="module")
def entries() -> dict[str, Any]:
    return calibrate(WORLD, ["dope", "optpess-lp"], TINY, progress=False)


@pytest.mark.slow
def test_every_method_gets_the_same_budget(entries: dict[str, Any]) -> None:
    assert set(entries) == {"dope", "optpess-lp"}
    for entry in entries.values():
        assert entry["settings"]["multipliers"] == TINY.multipliers and entry["settings"]["episodes"] == 300
        assert [r["multiplier"] for r in entry["table"]] == [1e-5, 1.0]
        assert all(
            len(r["regret"]) == len(r["violating_episodes"]) == len(r["largest_excess"]) == 2 for r in entry["table"]
        )
        assert entry["multiplier"] == choose_multiplier(entry["table"])
        np.testing.assert_array_equal(entry["training_tasks"], training_tasks(WORLD, TINY))
        assert entry["always_safe"]["violating_episodes"] == [0, 0]


def test_scores_are_those_of_the_runs(entries: dict[str, Any]) -> None:
    """At multiplier 1 nothing moves within 300 episodes, so the score is always-safe's; at 1e-5 the agent leaves it."""
    for entry in entries.values():
        small, one = entry["table"]
        assert one["regret"] == entry["always_safe"]["regret"]
        assert one["mean_regret"] == pytest.approx(np.mean(one["regret"]))
        assert small["regret"] != one["regret"]
        assert max(one["largest_excess"]) < 0.0


@pytest.mark.slow
def test_the_answer_does_not_depend_on_the_company(entries: dict[str, Any]) -> None:
    assert calibrate(WORLD, ["dope"], TINY, progress=False) == {"dope": entries["dope"]}


@pytest.mark.parametrize(
    ("agents", "refusal"),
    [
        (["dope", "dope"], ("SF-ARGUMENT-DISTINCT", "agents")),
        ([], ("SF-ARGUMENT-DISTINCT", "agents")),
        (["nobody"], ("SF-ARGUMENT-CHOICE", "agent")),
        (["safe-pce"], ("SF-ARGUMENT-CHOICE", "preset of safe-pce", '"theory"', '"published"', "'calibrated=1e-05'")),
        (["dope:theory"], ("SF-ARGUMENT-CHOICE", "preset of dope")),
    ],
)
def test_agents_without_a_multiplier_are_refused(agents: list[str], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        calibrate(WORLD, agents, TINY, progress=False)


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"multipliers": ()}, ("SF-ARGUMENT-EMPTY", "multipliers")),
        ({"multipliers": (1.0, 0.0)}, ("SF-ARGUMENT-RANGE", "multipliers[1]", "0")),
        ({"tasks": 0}, ("SF-ARGUMENT-RANGE", "tasks", "1", "0")),
        ({"episodes": 0}, ("SF-ARGUMENT-RANGE", "episodes", "1", "0")),
        ({"delta": 0.0}, ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "0")),
        ({"seed": -1}, ("SF-ARGUMENT-RANGE", "seed", "0", "-1")),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        Search(**settings)


def test_entries_are_merged_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    merge(path, "one", {"dope": {"multiplier": 0.1}})
    merge(path, "two", {"dope": {"multiplier": 0.2}})
    merge(path, "one", {"lb-sgd": {"multiplier": 0.3}})
    table = merge(path, "one", {"dope": {"multiplier": 0.4}})
    assert table == json.loads(path.read_text())
    assert table["families"] == {
        "one": {"dope": {"multiplier": 0.4}, "lb-sgd": {"multiplier": 0.3}},
        "two": {"dope": {"multiplier": 0.2}},
    }


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "SF-RECORD-UNREADABLE"),
        ("[]", "SF-RECORD-FIELD"),
        ("{", "SF-RECORD-UNREADABLE"),
        ('{"schema": 2, "families": {}}', "SF-RECORD-SCHEMA"),
        ('{"schema": 1, "families": []}', "SF-RECORD-SCHEMA"),
        ("\xff", "SF-RECORD-UNREADABLE"),
    ],
)
def test_a_file_that_is_no_table_is_left_alone(tmp_path: Path, content: str, code: str) -> None:
    path = tmp_path / "table.json"
    path.write_bytes(content.encode("latin-1"))
    with refused(code, "table.json"):
        merge(path, "one", {})
    assert path.read_bytes() == content.encode("latin-1")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with refused("SF-RECORD-UNREADABLE", "out"):
        merge(tmp_path / "nowhere" / "table.json", "one", {})
