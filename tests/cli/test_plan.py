"""``surefoot plan`` as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import run
from tests.experiments.validation_worlds import small_set


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sets") / "small.sf"
    small_set().save(file)
    return file


SMALL = ["--runs", "2", "--episodes", "60"]


def test_a_table_for_people(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(["plan", str(path), *SMALL], capsys)
    assert result.status == 0
    rows = [line.split()[0] for line in result.out.splitlines() if line.startswith("  ") and line.split()]
    assert {"trust", "cells", "envelope", "data"} <= set(rows)
    assert "8 cells, 7 policies" in result.out


def test_json_for_programs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(["plan", str(path), *SMALL, "--trust", "data", "--eps", "0.3", "--json"], capsys)
    found = json.loads(result.out)
    assert (result.status, list(found["trust"]), found["eps"], found["runs"]) == (0, ["data"], 0.3, 2)
    assert len(found["trust"]["data"]["runs"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trust", "moon"], "Invalid value for '--trust'"),
        (["--runs", "0"], "SF-ARGUMENT-RANGE: runs "),
        (["--cost-ceiling", "1", "--cost-ceiling", "2", "--trust", "data"], "SF-ARGUMENT-SHAPE: cost_ceilings "),
    ],
)
def test_mistakes_exit_with_two(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    result = run(["plan", str(path), *SMALL, *arguments], capsys)
    assert (result.status, message in result.err) == (2, True), result.err


def test_a_missing_file_exits_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(tmp_path / "nowhere.sf")], capsys).status == 2
