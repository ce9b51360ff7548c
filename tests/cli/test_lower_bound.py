"""``surefoot reproduce lower-bound`` end to end, tiny."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.running import run

TINY = (
    "reproduce lower-bound --agents pce:theory,always-safe --accuracies 0.25,0.15 --margins 0.8,0.5 --task-counts 2,3 --horizons 6,8 "
    "--base 0.15,0.5,2,8 --runs 2 --share 0.0002 --shortest 100 --seed 5"
).split()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_tables_figure_and_logs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run([*TINY, "--out", "a"], capsys)
    assert (found.status, found.err) == (0, "")
    assert "theorem 5.1" in found.out and "\npce:theory (computed)" in found.out
    assert found.out.rstrip().endswith("written: a/summary.json  a/lower-bound.png")
    assert {p.name for p in Path("a").iterdir()} == {"summary.json", "lower-bound.png", "runs"}
    again = run([*TINY, "--out", "a"], capsys)
    assert (again.status, again.out) == (2, "")
    assert "out must be a new directory" in again.err


def test_json_needs_no_matplotlib_without_figures(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused = run([*TINY, "--json", "--out", "a"], capsys)
    assert (refused.status, refused.out, (folder / "a").exists()) == (2, "", False)
    assert 'pip install "surefoot[figures]"' in refused.err
    found = run([*TINY, "--json", "--no-figures", "--out", "a"], capsys)
    assert json.loads(found.out) == json.loads(Path("a/summary.json").read_text())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--accuracies", "a,b"], "accuracies must be numbers with commas between them, got 'a,b'; e.g. 0.2,0.1"),
        (["--base", "1,2"], "base must be 4 numbers with commas between them, got '1,2'"),
        (["--task-counts", "2.5,4"], "task-counts must hold whole numbers of tasks, got 2.5"),
        (["--horizons", "8"], "horizon must have two levels or more"),
        (["--delta", "0.5"], "delta must be a number in (0, 0.333333), got 0.5"),
        (["--agents", "sage"], "agent must be one of"),
        (["--margins", "9,0.5"], "margin must be a number in (0, 0.8], got 9"),
    ],
)
def test_errors_are_told_in_one_line(
    extra: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run([*TINY, *extra, "--no-figures", "--out", "a"], capsys)
    assert (found.status, found.out) == (2, "")
    assert message in found.err and found.err.count("\n") == 1
    assert not (folder / "a").exists()
