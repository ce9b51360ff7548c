"""Logged episodes from files: what is read, and what is refused with row, column, value and remedy."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.criterion import Criterion
from surefoot.deploy.history_files import parse_columns
from tests.deploy.worlds import hand_made
from tests.journal.plants import small_set
from tests.refusals import refused

ONE = small_set(states=True, signals=True)
TWO = replace(
    hand_made(np.ones((2, 2)), np.ones((2, 2, 2)), limits=(1.5, 1.5), ceilings=(9.0, 9.0)),
    criterion=Criterion(0.9, np.array([1.5, 1.5]), (0.0, 1.0), np.ones(2), cost_names=("heat", "noise")),
)


def read(
    tmp_path: Path, text: str | bytes, columns: Mapping[str, str] | None = None, policy_set: Any = ONE, **how: Any
) -> sf.History:
    path = tmp_path / "days.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return sf.read_history(path, policy_set, columns, **how)


def numbers(found: sf.History) -> tuple[Any, ...]:
    return tuple(
        None if part is None else np.asarray(part).tolist()
        for part in (found.reward, found.costs, found.initial_state, found.signals)
    )


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("reward,cost\n2,0.3\n1.5,.25\n", None),
        ("\ufeffreward,cost\r\n2,0.3\r\n1.5,.25\r\n\r\n", None),  # a byte order mark, as spreadsheets write it
        (
            'day;"comfort; mean";energy\n1;2;0,3\n2;1,5;0,25\n;;\n',
            {"reward": "comfort; mean", "cost": "energy", "episode": "day"},
        ),
        ("reward\tcost\n 2 \t0.3\n+15e-1\t2.5E-1", None),
        ('cost,note,reward\n0.3,,2\n0.25,"a\nb",1.5\n', None),
    ],
)
def test_the_same_two_days(text: str, columns: dict[str, str] | None, tmp_path: Path) -> None:
    assert numbers(read(tmp_path, text, columns)) == ([2.0, 1.5], [[0.3], [0.25]], None, None)


def test_everything_that_a_row_may_hold(tmp_path: Path) -> None:
    text = "id,reward,cost,initial_state,wear\na,2,0.3,0,0.5\nb,1,0.2,1.0,0.6\n"
    assert numbers(read(tmp_path, text)) == ([2.0, 1.0], [[0.3], [0.2]], [0, 1], [[0.5], [0.6]])
    assert numbers(read(tmp_path, text, {"episode": "id"}))[2] == [0, 1]
    found = read(tmp_path, "r,loud,hot\n1,2,3\n", {"reward": "r", "heat": "hot", "noise": "loud"}, TWO)
    assert numbers(found) == ([1.0], [[3.0, 2.0]], None, None)
    limits = [sf.Mean(1.0), sf.Exceeds(2.0, at_most=0.1)]
    chance = replace(TWO, criterion=Criterion(0.9, limits, (0.0, 1.0), np.ones(1)))
    assert numbers(read(tmp_path, "reward,cost\n1,3\n", None, chance))[1] == [
        [3.0]
    ]  # what the plant reports, before it is measured


def test_decimal_signs_that_leave_nothing_open(tmp_path: Path) -> None:
    assert read(tmp_path, "reward;cost\n1.250;0.300\n").reward.tolist() == [1.25]  # thousands never begin with a zero
    assert read(tmp_path, "reward;cost\n1.250;1.300\n", decimal=".").costs.tolist() == [[1.3]]
    assert read(tmp_path, "reward;cost\n1,250;1,300\n", decimal=",").reward.tolist() == [1.25]
    assert read(tmp_path, "reward,cost\n1.250,1.300\n").reward.tolist() == [1.25]
    assert read(tmp_path, 'reward,cost\n"1,25","1,300"\n').costs.tolist() == [[1.3]]
    for text in ("reward;cost\n1.250;1.300\n", "reward;cost\n1,250;1,300\n", 'reward,cost\n"1,250","1,300"\n'):
        with refused("SF-REPORT-FILE", "days.csv", "row 1", "decimal"):
            read(tmp_path, text)
    with refused("SF-REPORT-FILE", "1.5", "row 1", "0,3", "row 2"):
        read(tmp_path, "reward;cost\n1.5;2\n1;0,3\n")
    with refused("SF-REPORT-ROW", "row 1", "1,5"):
        read(tmp_path, "reward;cost\n1,5;2\n", decimal=".")
    with refused("SF-REPORT-ROW", "1.250,5"):
        read(tmp_path, "reward;cost\n1.250,5;2\n")


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("", ("empty", "ceiling")),
        ("NaN", ("finite", "NaN")),
        ("-inf", ("finite", "-inf")),
        ("1e999", ("finite", "1e999")),
        ("x", ("number", "x")),
        ("1_000", ("number", "1_000")),
        ("0x10", ("number", "0x10")),
        ("٣", ("number",)),
        ("1 000", ("number", "1 000")),
        ("-0.1", (">= 0", "-0.1")),
    ],
)
def test_a_cell_that_is_wrong_is_named_with_row_line_column_value_and_remedy(
    cell: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    with refused("SF-REPORT-ROW", "days.csv", "1 mistakes", "row 2", "line 3", "energy", "cost", *names):
        read(tmp_path, f"reward,energy\n1,0.5\n2,{cell}\n3,0.5\n", {"cost": "energy"})


def test_all_mistakes_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    rows = "".join(f"{k},x\n" for k in range(9))
    with refused("SF-REPORT-ROW", "9 mistakes", "row 1", "row 5", "and 4 more") as caught:
        read(tmp_path, "reward,cost\n" + rows)
    assert "row 6" not in str(caught.value)


def test_states_and_names_of_episodes(tmp_path: Path) -> None:
    for state in ("-1", "0.5", "1e17"):
        with refused("SF-REPORT-ROW", "initial_state", "whole number", state):
            read(tmp_path, f"reward,cost,initial_state\n1,0,{state}\n")
    with refused("SF-REPORT-ROW", "row 3", "day", "monday", "row 1"):
        read(tmp_path, "day,reward,cost\nmonday,1,0\ntuesday,1,0\nmonday ,1,0\n", {"episode": "day"})
    with refused("SF-REPORT-ROW", "row 1", "empty"):
        read(tmp_path, "day,reward,cost\n,1,0\n", {"episode": "day"})


@pytest.mark.parametrize(
    ("text", "code", "names"),
    [
        ("", "SF-REPORT-FILE", ("days.csv", "header")),
        ("\n\n", "SF-REPORT-FILE", ("days.csv", "header")),
        ("reward,cost\n", "SF-REPORT-FILE", ("one episode",)),
        ("reward,cost,reward\n1,2,3\n", "SF-REPORT-FILE", ("reward", "twice")),
        ("reward,cost,note,note\n1,2,3,4\n", "SF-REPORT-FILE", ("note", "twice")),
        (b"reward,cost\n1,2\xff\n", "SF-REPORT-FILE", ("UTF-8",)),
        ("reward,cost\n1,2\n".encode("utf-16"), "SF-REPORT-FILE", ("UTF-8",)),
        ('reward,cost\n"1,2\n', "SF-REPORT-FILE", ("CSV",)),
        ("reward,cost\n1\n", "SF-REPORT-ROW", ("row 1", "line 2", "2 cells", "1")),
        ("reward,cost\n1,2,3\n", "SF-REPORT-ROW", ("row 1", "2 cells", "3")),
        ("reward,cost\n1,2\n\n3,4\n", "SF-REPORT-ROW", ("row 2", "line 3")),
        ("reward,energy\n1,2\n", "SF-ARGUMENT-KEYS", ("days.csv", "cost", "energy", "columns")),
        ("return;cost\n1;2\n", "SF-ARGUMENT-KEYS", ("reward", "return")),
    ],
)
def test_files_that_are_no_such_table(text: str | bytes, code: str, names: tuple[str, ...], tmp_path: Path) -> None:
    with refused(code, *names):
        read(tmp_path, text)
    with refused("SF-REPORT-FILE", "days.csv"):
        sf.read_history(tmp_path / "no" / "days.csv", ONE)


def test_columns_that_do_not_fit(tmp_path: Path) -> None:
    text = "reward,cost,heat\n1,2,3\n"
    with refused("SF-ARGUMENT-KEYS", "cots"):
        read(tmp_path, text, {"cots": "cost"})
    with refused("SF-ARGUMENT-KEYS", "start", "initial_state"):
        read(tmp_path, text, {"initial_state": "start"})
    with refused("SF-ARGUMENT-KEYS", "noise"):
        read(tmp_path, text, None, TWO)
    with refused("SF-ARGUMENT-KEYS", "cost"):
        read(tmp_path, "reward,cost,heat,noise\n1,2,3,4\n", {"cost": "cost"}, TWO)
    odd = replace(
        TWO, criterion=Criterion(0.9, np.array([1.5, 1.5]), (0.0, 1.0), np.ones(2), cost_names=("reward", "noise"))
    )
    with refused("SF-ARGUMENT-DISTINCT", "reward", "noise"):
        read(tmp_path, text, None, odd)
    for how in ({"delimiter": "|"}, {"decimal": "'"}):
        with refused("SF-ARGUMENT-CHOICE", *how):
            read(tmp_path, text, **how)
    assert read(tmp_path, "reward;cost,x\n1;2\n", {"cost": "cost,x"}, delimiter=";").reward.tolist() == [1.0]


def test_columns_as_text() -> None:
    assert parse_columns(["reward=comfort, cost = energy use", "episode=day"]) == {
        "reward": "comfort",
        "cost": "energy use",
        "episode": "day",
    }
    assert parse_columns([]) == {}
    for text in ("reward", "=x", "reward=", "reward=a,,cost=b"):
        with refused("SF-ARGUMENT-SYNTAX", "ROLE"):
            parse_columns([text])
    with refused("SF-ARGUMENT-DISTINCT", "reward", "a", "b"):
        parse_columns(["reward=a", "reward=b"])


# ------------------------------------------------------------------------------------------------------------ Parquet


class Frame:
    """What pandas gives, as far as it is used."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns, self._parts = list(columns), columns

    def __getitem__(self, name: str) -> Any:
        return np.array(self._parts[name], dtype=object)


def library(monkeypatch: pytest.MonkeyPatch, name: str, columns: dict[str, list[Any]] | Exception) -> None:
    """A stand-in for one of the libraries; the other one is not there."""

    def load(path: Path) -> Any:
        assert path.name == "days.parquet"
        if isinstance(columns, Exception):
            raise columns
        table: Any = ModuleType("table")
        table.to_pydict = lambda: columns
        return Frame(columns) if name == "pandas" else table

    parquet: Any = ModuleType(name)
    parquet.read_table = parquet.read_parquet = load
    for each in ("pyarrow", "pyarrow.parquet", "pandas"):
        monkeypatch.setitem(sys.modules, each, None)
    if name == "pyarrow.parquet":
        monkeypatch.setitem(sys.modules, "pyarrow", ModuleType("pyarrow"))
    if name:
        monkeypatch.setitem(sys.modules, name, parquet)


@pytest.mark.parametrize("name", ["pyarrow.parquet", "pandas"])
def test_parquet_is_read_by_what_is_installed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "days.parquet"
    library(monkeypatch, name, {"reward": [2, 1.5], "cost": [0.25, np.float32(0.5)], "initial_state": [1, 0]})
    assert numbers(sf.read_history(path, ONE)) == ([2.0, 1.5], [[0.25], [0.5]], [1, 0], None)
    for bad in (None, float("nan"), True, "x", [1]):
        library(monkeypatch, name, {"reward": [2.0, 1.0], "cost": [0.25, bad]})
        with refused("SF-REPORT-ROW", "days.parquet", "row 2", "cost"):
            sf.read_history(path, ONE)
    library(monkeypatch, name, OSError("not a file"))
    with refused("SF-REPORT-FILE", "days.parquet", "not a file"):
        sf.read_history(path, ONE)


def test_parquet_without_a_library_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library(monkeypatch, "", {})
    with refused("SF-REPORT-FILE", "days.parquet", "pip install pyarrow"):
        sf.read_history(tmp_path / "days.parquet", ONE)
