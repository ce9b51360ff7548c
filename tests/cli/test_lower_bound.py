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
    assert "SF-OUTPUT-EXISTS: out " in again.err


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
        (["--accuracies", "a,b"], "SF-ARGUMENT-SYNTAX: accuracies "),
        (["--base", "1,2"], "SF-ARGUMENT-SYNTAX: base "),
        (["--task-counts", "2.5,4"], "SF-ARGUMENT-TYPE: task-counts "),
        (["--horizons", "8"], "SF-ARGUMENT-EMPTY: horizon "),
        (["--delta", "0.5"], "SF-ARGUMENT-RANGE: delta "),
        (["--agents", "sage"], "SF-ARGUMENT-CHOICE: agent "),
        (["--margins", "9,0.5"], "SF-ARGUMENT-RANGE: margin "),
    ],
)
def test_errors_are_told_in_one_line(
    extra: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run([*TINY, *extra, "--no-figures", "--out", "a"], capsys)
    assert (found.status, found.out) == (2, "")
    assert message in found.err and found.err.count("\n") == 1
    assert not (folder / "a").exists()
