"""``surefoot reproduce gridworld`` end to end, tiny."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.running import run

AGENTS = ["oracle", "always-safe", "certified:data"]
TINY = (
    "reproduce gridworld --episodes 300 --tasks fresh:2 --training-tasks 40 --cells 3 --policies 3 --holdout 20 --seed 5 "
    f"--agents {','.join(AGENTS)}"
).split()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def without_seconds(value: Any) -> Any:
    """Everything in a summary that a seed decides."""
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if "seconds" not in k}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_the_summary_has_the_promised_shape(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run([*TINY, "--json", "--no-figures", "--out", "a"], capsys)
    assert found.status == 0
    summary = json.loads(found.out)
    assert summary == json.loads((folder / "a" / "summary.json").read_text())
    promised = {"schema": 1, "experiment": "gridworld", "seed": 5, "episodes": 300, "cost_limits": [1.5]}
    assert {key: summary[key] for key in promised} == promised
    assert [set(task) >= {"noise", "optimal_value"} for task in summary["tasks"]] == [True, True]
    assert {"tasks_sampled", "cells", "uncovered_upper_bound", "confidence", "seconds"} <= set(summary["training"])
    assert list(summary["agents"]) == AGENTS
    for agent in summary["agents"].values():
        assert len(agent["regret"]["300"]) == len(agent["max_cost"]) == len(agent["violating_episodes"]) == 2
    assert np.allclose(summary["agents"]["oracle"]["regret"]["300"], 0.0, atol=1e-6)
    assert min(summary["agents"]["always-safe"]["regret"]["300"]) > 0.0


@pytest.mark.slow
def test_the_same_seed_gives_the_same_logs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (
        json.loads(run([*TINY, "--json", "--no-figures", "--out", name], capsys).out) for name in ("a", "b")
    )
    assert json.dumps(without_seconds(first)) == json.dumps(without_seconds(second))
    for name in ["policy-set.sf", "figure1.npz", *(f"curves/{a.replace(':', '-')}.npz" for a in AGENTS)]:
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes(), name


@pytest.mark.slow
def test_figures_and_a_table_come_with_it_and_nothing_is_written_over(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run([*TINY, "--out", "a"], capsys)
    assert found.status == 0
    assert all(f"\n{name} " in "\n" + found.out for name in AGENTS)
    written = found.out.split("written: ")[1].split()
    assert [Path(path).name for path in written] == ["summary.json", "figure1.png", "figure2.png", "report.html"]
    before = {path: path.read_bytes() for path in (folder / "a").rglob("*") if path.is_file()}
    assert all(before[folder / path] for path in written)
    again = run([*TINY, "--out", "a"], capsys)
    assert (again.status, again.out) == (2, "")
    assert "SF-OUTPUT-EXISTS: out " in again.err
    assert before == {path: path.read_bytes() for path in (folder / "a").rglob("*") if path.is_file()}


@pytest.mark.slow
def test_without_matplotlib_the_extra_is_named_before_anything_is_computed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = run([*TINY, "--out", "a"], capsys)
    assert (found.status, found.out) == (2, "")
    assert 'matplotlib is not installed; it comes with an extra: pip install "surefoot[figures]"' in found.err
    assert not (folder / "a").exists()
    assert run([*TINY, "--no-figures", "--out", "a"], capsys).status == 0


@pytest.mark.slow
def test_rehearsed_methods_are_reproduced_with_table_and_figure(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "reproduce gridworld --rehearsed --agents rehearsed,pce --episodes 60 --tasks fresh:2 --training-tasks 40 --cells 3 --policies 3".split()
    found = run([*small, *"--holdout 20 --plants 7 --alpha 0.4 --delta-coverage 0.1 --out a".split()], capsys)
    assert found.status == 0
    assert "rehearsed on 7 fresh plants, 60 episodes each" in found.out
    assert "no rung accepted" in found.out
    assert (folder / "a" / "figure2.png").exists() and (folder / "a" / "report.html").exists()
    refusal = run([*small, *"--plants 10 --out b".split()], capsys)
    assert refusal.status == 2 and "plants must be at least 59" in refusal.err
    assert not (folder / "b").exists()
