"""``surefoot reproduce unknowns`` end to end, tiny."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from surefoot.experiments.unknowns import run as experiment
from surefoot.training import pipeline
from tests.cli.running import run

TINY = (
    "reproduce unknowns --unknowns 1,2 --tasks 2 --episodes 60 --plants 12 --alpha 0.4 --p-max 0.3 --holdout 30 --cells 6,2 --policies 3 "
    "--training-tasks 40 --seed 3"
).split()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "BELIEF_TASKS", 40)
    return tmp_path


@pytest.mark.slow
def test_table_figure_and_log(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run([*TINY, "--out", "a"], capsys)
    assert found.status == 0
    assert "1 unknown parameter (1 of 2)\n" in found.err and "2 unknown parameters (2 of 2)\n" in found.err
    rows = [line.split() for line in found.out.splitlines()]
    assert ["unknown", "never", "adapting", "data", "envelope", "cells", "rehearsed"] in rows
    (two,) = [row for row in rows if row[:1] == ["2"] and "none" in row]
    assert two.index("none") == 6, "no number of cells passes with two unknown parameters"
    assert found.out.rstrip().endswith("written: a/summary.json  a/unknowns.png")
    written = {"settings.json", "unknowns-1.json", "unknowns-2.json", "summary.json", "unknowns.png"}
    assert {p.name for p in Path("a").iterdir()} == written
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
    given: dict[str, Any] = {}

    def made_up(out: Path, **settings: Any) -> dict[str, Any]:
        given.update(settings)
        return {"schema": 1}

    monkeypatch.setattr(experiment, "reproduce", made_up)
    found = run([*TINY, "--json", "--no-figures", "--out", "a"], capsys)
    assert (found.status, found.err, json.loads(found.out)) == (0, "", {"schema": 1})
    assert given == {
        "unknowns": (1, 2), "tasks": 2, "episodes": 60, "plants": 12, "alpha": 0.4, "p_max": 0.3, "holdout": 30, "cells": (6, 2), "policies": 3,
        "training_tasks": 40, "seed": 3, "delta": 0.05, "delta_coverage": 0.05, "workers": 1, "progress": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--unknowns", "a,b"], "SF-ARGUMENT-SYNTAX: unknowns "),
        (["--unknowns", "1.5"], "SF-ARGUMENT-SYNTAX: unknowns "),
        (["--unknowns", "4,2"], "SF-ARGUMENT-ORDER: unknowns "),
        (["--unknowns", "0"], "SF-ARGUMENT-RANGE: unknowns "),
        (["--cells", "1"], "SF-ARGUMENT-RANGE: cells "),
        (["--plants", "3"], "SF-ARGUMENT-RANGE: plants "),
        (["--holdout", "3"], "SF-TRAINING-HOLDOUT: holdout "),
        (["--episodes", "0"], "SF-ARGUMENT-RANGE: episodes "),
    ],
)
def test_errors_are_told_in_one_line(
    extra: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run([*TINY, *extra, "--no-figures", "--out", "a"], capsys)
    assert (found.status, found.out) == (2, "")
    assert message in found.err and found.err.count("\n") == 1
    assert not (folder / "a").exists()
