"""``surefoot reproduce suite`` end to end, tiny."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import run

TINY = (
    "reproduce suite --families lake,inventory --episodes 100 --tasks 2 --training-tasks 40 --cells 3 --policies 2 --holdout 10 --seed 5 "
    "--agents always-safe,certified:data"
).split()


@pytest.mark.slow
def test_the_table_and_the_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found = run([*TINY, "--out", "a"], capsys)
    assert (found.status, found.err) == (0, "")
    assert "2 fresh tasks per family, 100 episodes each" in found.out
    assert "\nalways-safe " in found.out and "written: a/summary.json" in found.out
    assert {p.name for p in Path("a").iterdir()} == {"summary.json", "lake", "inventory"}
    again = run([*TINY, "--out", "a"], capsys)
    assert (again.status, again.out) == (2, "")
    assert "SF-OUTPUT-EXISTS: out " in again.err


@pytest.mark.slow
def test_json_is_the_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found = run([*TINY, "--json", "--out", "a"], capsys)
    assert json.loads(found.out) == json.loads(Path("a/summary.json").read_text())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--families", "pond"], "SF-ARGUMENT-CHOICE: family "),
        (["--agents", "sage"], "SF-ARGUMENT-CHOICE: agent "),
        (["--tasks", "0"], "SF-ARGUMENT-RANGE: tasks "),
    ],
)
def test_errors_are_told_in_one_line(
    extra: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run([*TINY, *extra, "--out", "a"], capsys)
    assert (found.status, found.out) == (2, "")
    assert message in found.err and found.err.count("\n") == 1
