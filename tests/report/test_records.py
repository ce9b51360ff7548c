"""Logs are checked once, when they are read, and a broken one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot.errors import InvalidInput
from surefoot.report.records import Summary, curve_path, read_curves, read_landscape, read_summary
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
    with pytest.raises(InvalidInput, match=r"max_cost must have shape \(3, 2\), got \(3,\)"):
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
    ("path", "value", "message"),
    [
        (["schema"], 2, r"summary.schema must be 1, got 2; use the matching version"),
        (["agents"], {}, r"summary.agents must not be empty"),
        (["tasks"], [], r"summary.tasks must not be empty"),
        (["cost_limits"], [float("nan")], r"summary.cost_limits\[0\] must be finite"),
        (["agents", "pce", "regret"], {}, r"summary.agents\['pce'\].regret must hold at least one checkpoint"),
        (["agents", "pce", "regret"], {"10": [1.0]}, r"regret\[10\] must have shape \(3\), got \(1,\)"),
        (["agents", "pce", "violating_episodes"], ["x", 1, 2], r"violating_episodes must hold real numbers"),
    ],
)
def test_a_broken_summary_is_refused(tmp_path: Path, path: list[str], value: Any, message: str) -> None:
    raw = write_run(tmp_path / "run")
    parent = raw
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    with pytest.raises(InvalidInput, match=message):
        Summary.of(raw)


@pytest.mark.parametrize("key", ["experiment", "seed", "episodes", "cost_limits", "tasks", "agents"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    raw = write_run(tmp_path / "run")
    del raw[key]
    with pytest.raises(InvalidInput, match=f"summary must have the key '{key}'"):
        Summary.of(raw)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "must be readable JSON"), ("[]", "must hold a JSON object, got list")]
)
def test_a_file_that_is_no_summary_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_summary(tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"summary.json is missing"):
        read_summary(tmp_path)
    with pytest.raises(InvalidInput, match=r"figure1.npz is missing"):
        read_landscape(tmp_path)
    with pytest.raises(InvalidInput, match=r"pce.npz is missing"):
        read_curves(tmp_path, "pce", tasks=3, constraints=1)


def test_damaged_and_hostile_arrays_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path)
    path = curve_path(tmp_path, "pce")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match="must be an npz archive of plain arrays"):
        read_curves(tmp_path, "pce", tasks=3, constraints=1)
    np.savez(path, episodes=np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidInput, match="must be an npz archive of plain arrays"):
        read_curves(tmp_path, "pce", tasks=3, constraints=1)


def test_curves_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path)
    with pytest.raises(InvalidInput, match=r"pce.npz:regret must have shape \(4, 50\), got \(3, 50\)"):
        read_curves(tmp_path, "pce", tasks=4, constraints=1)
    np.savez(curve_path(tmp_path, "pce"), episodes=np.arange(3))
    with pytest.raises(InvalidInput, match="lacks an array"):
        read_curves(tmp_path, "pce", tasks=3, constraints=1)


def test_a_landscape_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path)
    with np.load(tmp_path / "figure1.npz") as archive:
        arrays = dict(archive)
    np.savez(tmp_path / "figure1.npz", **{**arrays, "safe_value": np.zeros(2)})
    with pytest.raises(InvalidInput, match=r"figure1.npz:safe_value must have shape \(11,\), got \(2,\)"):
        read_landscape(tmp_path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "..", "safe-pce:theory", "<b>"])
def test_no_agent_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    assert curve_path(tmp_path, name).resolve().parent == (tmp_path / "curves").resolve()


def test_the_colon_of_an_agent_name_becomes_a_dash(tmp_path: Path) -> None:
    assert curve_path(tmp_path, "robust-fixed:0.36").name == "robust-fixed-0.36.npz"


def test_summaries_survive_json(tmp_path: Path) -> None:
    raw = write_run(tmp_path / "run", published={"pce": 13_000})
    assert Summary.of(json.loads(json.dumps(raw))).published == {"pce": 13_000.0}
