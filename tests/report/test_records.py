"""Logs are checked once, when they are read, and a broken one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot.report.records import Summary, curve_path, read_curves, read_landscape, read_summary
from tests.refusals import refused
from tests.report.runs import write_run


def test_a_run_is_read_back(tmp_path: Path) -> None:
    raw = write_run(tmp_path / "run", limits=(1.5, 0.2))
    summary = read_summary(tmp_path / "run")
    assert [agent.name for agent in summary.agents] == list(raw["agents"])
    assert summary.cost_limits.tolist() == [1.5, 0.2]
    pce = summary.agents[-1]
    assert pce.final_regret.tolist() == raw["agents"]["pce"]["regret"]["2000"]
    assert (pce.last_checkpoint, pce.tasks_violated) == (2000, 3)
    curves = read_curves(tmp_path / "run", "pce", tasks=3, constraints=2)
    assert curves.regret[:, -1].tolist() == pce.final_regret.tolist()
    np.testing.assert_array_equal(curves.cost.max(axis=1), pce.max_cost)


def test_one_cost_per_task_will_do_for_one_constraint_only(tmp_path: Path) -> None:
    raw = write_run(tmp_path / "run")
    assert Summary.of(raw).agents[0].max_cost.shape == (3, 1)
    raw["cost_limits"] = [1.5, 0.2]
    with refused("SF-ARGUMENT-SHAPE", "(3, 2)", "(3,)"):
        Summary.of(raw)


@pytest.mark.parametrize(
    ("assumptions", "sentences", "holds"),
    [
        ({"holds": True, "statement": "All is well."}, ("All is well.",), True),
        ({"holds": False, "statement": ["One.", "Two."]}, ("One.", "Two."), False),
        (["It fails."], ("It fails.",), False),
        ("It fails.", ("It fails.",), False),
        ([], (), None),
    ],
)
def test_assumptions_come_in_several_forms(
    tmp_path: Path, assumptions: Any, sentences: tuple[str, ...], holds: bool | None
) -> None:
    summary = Summary.of(write_run(tmp_path / "run", assumptions=assumptions))
    assert (summary.assumptions, summary.assumptions_hold) == (sentences, holds)


@pytest.mark.parametrize(
    ("path", "value", "refusal"),
    [
        (["schema"], 2, ("SF-RECORD-SCHEMA", "summary.schema", "1", "2")),
        (["agents"], {}, ("SF-RECORD-FIELD", "summary.agents")),
        (["tasks"], [], ("SF-RECORD-FIELD", "summary.tasks")),
        (["cost_limits"], [float("nan")], ("SF-ARGUMENT-FINITE", "summary.cost_limits[0]")),
        (["agents", "pce", "regret"], {}, ("SF-RECORD-FIELD", "summary.agents['pce'].regret")),
        (["agents", "pce", "regret"], {"10": [1.0]}, ("SF-ARGUMENT-SHAPE", "(3)", "(1,)")),
        (["agents", "pce", "violating_episodes"], ["x", 1, 2], ("SF-ARGUMENT-TYPE",)),
    ],
)
def test_a_broken_summary_is_refused(tmp_path: Path, path: list[str], value: Any, refusal: tuple[str, ...]) -> None:
    raw = write_run(tmp_path / "run")
    parent = raw
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    with refused(*refusal):
        Summary.of(raw)


@pytest.mark.parametrize("key", ["experiment", "seed", "episodes", "cost_limits", "tasks", "agents"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    raw = write_run(tmp_path / "run")
    del raw[key]
    with refused("SF-RECORD-FIELD", "summary", f"'{key}'"):
        Summary.of(raw)


@pytest.mark.parametrize(("text", "refusal"), [("{", ("SF-RECORD-UNREADABLE",)), ("[]", ("SF-RECORD-FIELD", "list"))])
def test_a_file_that_is_no_summary_is_refused(tmp_path: Path, text: str, refusal: tuple[str, ...]) -> None:
    (tmp_path / "summary.json").write_text(text)
    with refused(*refusal):
        read_summary(tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with refused("SF-RECORD-MISSING", "summary.json"):
        read_summary(tmp_path)
    with refused("SF-RECORD-MISSING", "figure1.npz"):
        read_landscape(tmp_path)
    with refused("SF-RECORD-MISSING", "pce.npz"):
        read_curves(tmp_path, "pce", tasks=3, constraints=1)


def test_damaged_and_hostile_arrays_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path)
    path = curve_path(tmp_path, "pce")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with refused("SF-RECORD-UNREADABLE", "pce.npz"):
        read_curves(tmp_path, "pce", tasks=3, constraints=1)
    np.savez(path, episodes=np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    with refused("SF-RECORD-UNREADABLE", "pce.npz"):
        read_curves(tmp_path, "pce", tasks=3, constraints=1)


def test_curves_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path)
    with refused("SF-ARGUMENT-SHAPE", "pce.npz:regret", "(4, 50)", "(3, 50)"):
        read_curves(tmp_path, "pce", tasks=4, constraints=1)
    np.savez(curve_path(tmp_path, "pce"), episodes=np.arange(3))
    with refused("SF-RECORD-FIELD", "pce.npz", "regret"):
        read_curves(tmp_path, "pce", tasks=3, constraints=1)


def test_a_landscape_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path)
    with np.load(tmp_path / "figure1.npz") as archive:
        arrays = dict(archive)
    np.savez(tmp_path / "figure1.npz", **{**arrays, "safe_value": np.zeros(2)})
    with refused("SF-RECORD-FIELD", "figure1.npz:safe_value", "(11,)", "(2,)"):
        read_landscape(tmp_path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "..", "safe-pce:theory", "<b>"])
def test_no_agent_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    assert curve_path(tmp_path, name).resolve().parent == (tmp_path / "curves").resolve()


def test_the_colon_of_an_agent_name_becomes_a_dash(tmp_path: Path) -> None:
    assert curve_path(tmp_path, "robust-fixed:0.36").name == "robust-fixed-0.36.npz"


def test_summaries_survive_json(tmp_path: Path) -> None:
    raw = write_run(tmp_path / "run", published={"pce": 13_000})
    assert Summary.of(json.loads(json.dumps(raw))).published == {"pce": 13_000.0}
