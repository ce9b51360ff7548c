"""``surefoot calibrate``: a table for people, JSON for programs, a file that presets can read, errors that say what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import surefoot.baselines
from tests.cli.running import run

TINY = "calibrate --episodes 40 --tasks 1 --cells 4 --policies 2 --policy-set-tasks 40".split()


@pytest.mark.slow
def test_the_chosen_row_is_marked_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.json"
    said = run([*TINY, "--agents", "dope, optpess-lp", "--out", str(path)], capsys)
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[0].split() == ["agent", "multiplier", "mean", "regret", "violating", "episodes"]
    assert sum(line.endswith("chosen") for line in lines) == 2
    assert lines[-1] == f"written: {path}"
    assert lines[-2].startswith("to be named as: dope:calibrated=") and ", optpess-lp:calibrated=" in lines[-2]
    table = json.loads(path.read_text())["families"]["gridworld (truncated)"]
    assert set(table) == {"dope", "optpess-lp"}
    again = run([*TINY, "--agents", "dope", "--out", str(path), "--json"], capsys)
    assert json.loads(again.out)["dope"] == table["dope"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--agents", "nobody"], "error SF-ARGUMENT-CHOICE: agent "),
        (["--agents", "dope:theory"], "error SF-ARGUMENT-CHOICE: preset of dope "),
        (["--agents", "dope", "--family", "mars"], "error SF-ARGUMENT-CHOICE: family "),
        (["--agents", "dope", "--episodes", "0"], "error SF-ARGUMENT-RANGE: episodes "),
        (["--agents", "dope", "--delta", "0"], "error SF-ARGUMENT-RANGE: delta "),
    ],
)
def test_wrong_lines_are_refused_before_anything_is_trained(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = run([*TINY, *more, "--out", str(tmp_path / "table.json")], capsys)
    assert said.status == 2 and said.err.startswith(message)
    assert not (tmp_path / "table.json").exists()


def test_agents_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    said = run(["calibrate"], capsys)
    assert said.status == 2 and "--agents" in said.err


@pytest.mark.slow
def test_the_librarys_own_table_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Path(surefoot.baselines.__path__[0]) / "calibrated.json"
    before = own.read_bytes()
    monkeypatch.chdir(tmp_path)
    assert run([*TINY, "--agents", "dope", "--family", "surefoot.tasks:SlipperyLake"], capsys).status == 0
    assert own.read_bytes() == before
    assert set(json.loads((tmp_path / "calibrated.json").read_text())["families"]) == {"slippery lake"}
