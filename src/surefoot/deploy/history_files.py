"""Logged episodes from files: one row per episode, one column per quantity.

    day;comfort;energy             read_history("days.csv", policy_set, {"reward": "comfort", "cost": "energy", "episode": "day"})
    2026-01-01;12,5;3,25

A *role* is what a column says: ``reward``; every cost that the plant reports, by its name in the criterion (``cost`` where there is one only);
``initial_state``; every declared signal, by its name; ``episode``, any text that must be another one in every row, so that no episode counts twice.
Returns and costs are discounted as the criterion says, one number per episode. Transitions do not fit into such a table: give them by
:class:`~surefoot.deploy.history.History`.

Nothing is guessed that could be read in two ways. A file is refused as a whole, with the rows that are wrong: a cell that is empty, not finite or
no number, a row with too few cells, a header in which a name stands twice, decimal points and commas in one file. A row cannot be left
out: what a log leaves out because of what happened makes it invalid.

Letters: n episodes, K costs that a plant reports, X declared signals.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from surefoot.deploy.history import History
from surefoot.errors import InvalidInput, InvalidReport
from surefoot.policyset.schema import PolicySet

__all__ = ["parse_columns", "read_history"]

REWARD, COST, STATE, EPISODE = "reward", "cost", "initial_state", "episode"
DELIMITERS = (",", ";", "\t")
PARQUET = (".parquet", ".pq")
SHOWN = 5
"""Mistakes that a message names; of the others it gives the number."""
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}", re.ASCII)
_NOT_FINITE = frozenset(
    {"nan", "na", "n/a", "null", "none", "inf", "infinity", "-inf", "+inf", "-infinity", "+infinity"}
)
_FILL = "fill a missing episode in with its cost at the ceiling, never leave it out"


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """Column by role from texts like ``reward=comfort,cost=energy``.

    Raises:
        InvalidInput: no such text, or a role that stands twice.
    """
    found: dict[str, str] = {}
    for part in (part for text in texts for part in text.split(",")):
        role, sign, column = (piece.strip() for piece in part.partition("="))
        if not (role and sign and column):
            raise InvalidInput(
                f"columns must read ROLE=COLUMN,ROLE=COLUMN, got {part!r}; write it like reward=comfort,cost=energy (columns whose names hold "
                "commas: in Python, surefoot.read_history)",
                code="SF-ARGUMENT-SYNTAX",
            )
        if role in found:
            raise InvalidInput(
                f"columns must name {role!r} once, got {found[role]!r} and {column!r}; drop one",
                code="SF-ARGUMENT-DISTINCT",
            )
        found[role] = column
    return found


def read_history(
    path: str | os.PathLike[str],
    policy_set: PolicySet,
    columns: Mapping[str, str] | None = None,
    *,
    delimiter: str | None = None,
    decimal: str | None = None,
) -> History:
    """Logged episodes of the safe policy from a CSV file, or from a Parquet file where ``pyarrow`` or ``pandas`` is installed.

    Args:
        path: UTF-8 with a header, with or without a byte order mark; a name that ends in ``.parquet`` or ``.pq`` is read as Parquet.
        policy_set: whose costs and signals the columns are about.
        columns: column by role (see the module's docstring); a role that is not named is looked for under its own name. ``reward`` and all costs
            must be found, the others may be missing.
        delimiter: by default the one of comma, semicolon and tab that the header has most of.
        decimal: ``"."`` or ``","``; by default what the numbers show, and refused where they could be read in two ways.

    Raises:
        InvalidReport: the file cannot be read as such a table; every row that is wrong is counted, and the first are named.
        InvalidInput: a role or column that is not there.
    """
    file, roles = Path(path), _Roles.of(policy_set)
    for name, value, choices in (("delimiter", delimiter, DELIMITERS), ("decimal", decimal, (".", ","))):
        if value is not None and value not in choices:
            raise InvalidInput(
                f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}; choose one",
                code="SF-ARGUMENT-CHOICE",
            )
    if file.suffix.lower() in PARQUET:
        table, delimiter = _parquet(file), None
    else:
        table, delimiter = _csv(file, delimiter)
    places = roles.found(table.header, dict(columns or {}), file.name)
    return _Reader(file.name, table, delimiter, decimal).read(places, roles)


@dataclass(frozen=True)
class _Table:
    """Cells as texts, or as the values that a Parquet file has.

    Attributes:
        header: names of the columns.
        rows: number of the line (0 where there are no lines) and cells, for every row.
    """

    header: list[str]
    rows: list[tuple[int, list[Any]]]


@dataclass(frozen=True)
class _Roles:
    """What columns may say.

    Attributes:
        costs: K names.
        signals: X names.
    """

    costs: tuple[str, ...]
    signals: tuple[str, ...]

    @staticmethod
    def of(policy_set: PolicySet) -> _Roles:
        signals = policy_set.cells.signals
        return _Roles(tuple(policy_set.criterion.signal_names), () if signals is None else tuple(signals.names))

    @property
    def all(self) -> tuple[str, ...]:
        return (REWARD, *self.costs, STATE, *self.signals, EPISODE)

    def found(self, header: list[str], columns: dict[str, str], name: str) -> dict[str, int]:
        """Position of the column of every role that is there."""
        if len(set(self.all)) < len(self.all):
            raise InvalidInput(
                f"costs and signals must have names of their own to be read from columns, got {', '.join(self.all)}; give them by "
                "surefoot.History",
                code="SF-ARGUMENT-DISTINCT",
            )
        if len(self.costs) == 1 and COST not in self.all and COST in columns and self.costs[0] not in columns:
            columns[self.costs[0]] = columns.pop(COST)
        unknown = sorted(set(columns) - set(self.all))
        if unknown:
            raise InvalidInput(
                f"columns must name roles among {', '.join(self.all)}, got {unknown[0]!r}; check the spelling",
                code="SF-ARGUMENT-KEYS",
            )
        places = {role: header.index(columns.get(role, role)) for role in self.all if columns.get(role, role) in header}
        if len(self.costs) == 1 and self.costs[0] not in {*places, *columns} and COST in header:
            places[self.costs[0]] = header.index(COST)
        for role in self.all:
            if role not in places and (role in columns or role in (REWARD, *self.costs)):
                raise InvalidInput(
                    f"{name} must have a column {columns.get(role, role)!r} for {role}, got {', '.join(map(repr, header))}; name it with "
                    f"columns ({role}=COLUMN)",
                    code="SF-ARGUMENT-KEYS",
                )
        some = [signal for signal in self.signals if signal in places]
        if some and len(some) < len(self.signals):
            raise InvalidInput(
                f"{name} must have columns for all declared signals {', '.join(self.signals)} or for none, got {', '.join(some)}; name the others "
                "with columns",
                code="SF-ARGUMENT-KEYS",
            )
        return places


# ------------------------------------------------------------------------------------------------------------ files


def _refuse(name: str, what: str, remedy: str) -> NoReturn:
    raise InvalidReport(f"{name} {what}; {remedy}", code="SF-REPORT-FILE")


def _csv(file: Path, delimiter: str | None) -> tuple[_Table, str]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            text = handle.read()
    except UnicodeDecodeError as error:
        _refuse(file.name, f"must be UTF-8 text, got other bytes at {error.start}", "save it as CSV in UTF-8")
    except OSError as error:
        _refuse(
            file.name, f"must be a file that can be read, got {error.strerror or error}", "check its path and rights"
        )
    head = next((line for line in text.splitlines() if line.strip()), "")
    found = delimiter or max(DELIMITERS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=found, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        _refuse(file.name, f"must be a CSV file, got {error} in line {reader.line_num}", "check its quotes")
    while rows and not any(cell.strip() for cell in rows[-1][1]):
        rows.pop()  # spreadsheets leave them behind
    header = [] if not rows else [cell.strip() for cell in rows[0][1]]
    return _checked(file.name, header, rows[1:]), found


def _parquet(file: Path) -> _Table:
    columns = _parquet_columns(file)
    lists = [list(values) for values in columns.values()]
    rows = [(0, [values[k] for values in lists]) for k in range(len(lists[0]) if lists else 0)]
    return _checked(file.name, [str(name) for name in columns], rows)


def _parquet_columns(file: Path) -> Mapping[Any, Sequence[Any]]:
    """Values by column, from whichever library is installed."""
    name, library = _library(file.name)
    try:
        if name == "pandas":
            frame = library.read_parquet(file)
            return {column: frame[column].tolist() for column in frame.columns}
        columns: Mapping[Any, Sequence[Any]] = library.read_table(file).to_pydict()
        return columns
    except Exception as error:  # whatever these libraries raise for a damaged file
        _refuse(file.name, f"must be a Parquet file, got: {error}", "write it again, or save the table as CSV")


def _library(file: str) -> tuple[str, Any]:
    """What reads Parquet; neither is a dependency."""
    for name in ("pyarrow.parquet", "pandas"):
        try:
            return name, import_module(name)
        except ImportError:
            continue
    _refuse(
        file, "must be a CSV file here, for reading Parquet needs pyarrow or pandas and neither is installed",
        "pip install pyarrow, or save the table as CSV",
    )  # fmt: skip


def _checked(name: str, header: list[str], rows: list[tuple[int, list[Any]]]) -> _Table:
    if not any(header):
        _refuse(
            name, "must begin with a header, got an empty file", "write the names of the columns into its first line"
        )
    twice = sorted({column for column in header if column and header.count(column) > 1})
    if twice:
        _refuse(name, f"must name every column once, got {twice[0]!r} twice in its header", "rename one of them")
    if not rows:
        _refuse(name, "must hold at least one episode, got a header alone", "leave an empty log out")
    return _Table(header, rows)


# ------------------------------------------------------------------------------------------------------------ rows


class _Mistake(Exception):
    """One cell."""


class _Reader:
    """Reads the rows of a table and collects what is wrong."""

    def __init__(self, name: str, table: _Table, delimiter: str | None, decimal: str | None) -> None:
        self._name, self._table, self._mistakes = name, table, list[str]()
        self._delimiter, self._decimal = delimiter, decimal

    def read(self, places: dict[str, int], roles: _Roles) -> History:
        """The history, or all that is wrong with it."""
        decimal = self._sign([at for role, at in places.items() if role != EPISODE])
        values: dict[str, list[float]] = {role: [] for role in places if role != EPISODE}
        seen: dict[str, str] = {}
        for where, cells in self._whole_rows():
            for role, at in places.items():
                column = f"{where}, column {self._table.header[at]!r} ({role})"
                try:
                    if role == EPISODE:
                        self._distinct(str(cells[at]).strip(), where, seen)
                    else:
                        values[role].append(_number(cells[at], role, roles, decimal))
                except _Mistake as mistake:
                    self._mistakes.append(f"{column}: {mistake}")
        self._refuse_mistakes()
        return History(
            np.array(values[REWARD]),
            np.column_stack([values[name] for name in roles.costs]),
            np.array(values[STATE], dtype=np.int64) if STATE in values else None,
            None,
            np.column_stack([values[name] for name in roles.signals])
            if roles.signals and roles.signals[0] in values
            else None,
        )

    def _whole_rows(self) -> Iterator[tuple[str, list[Any]]]:
        """Rows with as many cells as the header has, and how people find them."""
        size = len(self._table.header)
        for k, (line, cells) in enumerate(self._table.rows, start=1):
            where = f"row {k} (line {line})" if line else f"row {k}"
            if len(cells) < size or any(str(cell).strip() for cell in cells[size:]):
                self._mistakes.append(
                    f"{where}: must have {size} cells, as the header has, got {len(cells)}; {_FILL}, and quote cells that hold the delimiter"
                )
                continue
            yield where, cells

    @staticmethod
    def _distinct(text: str, where: str, seen: dict[str, str]) -> None:
        if not text:
            raise _Mistake("must name the episode, got an empty cell; fill it in, or leave the column out")
        if text in seen:
            raise _Mistake(f"must name another episode in every row, got {text!r} as in {seen[text]}; drop the copy")
        seen[text] = where

    def _sign(self, places: list[int]) -> str:
        """The decimal sign of the file."""
        texts = [
            (k, str(cells[at]).strip())
            for k, (_, cells) in enumerate(self._table.rows, start=1)
            for at in places
            if at < len(cells) and isinstance(cells[at], str)
        ]
        signs = {sign: [(k, text) for k, text in texts if sign in text and _NUMBER.fullmatch(text)] for sign in ".,"}
        if self._decimal is not None:
            return self._decimal
        if signs["."] and signs[","]:
            (k, one), (m, two) = signs["."][0], signs[","][0]
            _refuse(
                self._name, f"must use one decimal sign, got {one!r} in row {k} and {two!r} in row {m}",
                "write numbers without separators of thousands",
            )  # fmt: skip
        sign = "," if signs[","] else "."
        found = signs[sign]
        # 1,250 may be a thousand and a quarter thousand, or one and a quarter; so may 1.250 where commas are decimal signs.
        if found and (sign == "," or self._delimiter == ";") and all(_THOUSANDS.fullmatch(text) for _, text in found):
            k, text = found[0]
            _refuse(
                self._name, f"must hold numbers that can be read in one way, got {text!r} in row {k}",
                f"say decimal={sign!r} (--decimal) if that is a decimal sign, or write numbers without separators of thousands",
            )  # fmt: skip
        return sign

    def _refuse_mistakes(self) -> None:
        found = self._mistakes
        if found:
            rest = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
            raise InvalidReport(
                "\n  ".join(
                    [
                        f"{self._name} must hold a whole number of sound episodes, got {len(found)} mistakes; mend them:",
                        *found[:SHOWN],
                        *rest,
                    ]
                ),
                code="SF-REPORT-ROW",
            )


def _number(cell: Any, role: str, roles: _Roles, decimal: str) -> float:
    """The number in a cell."""
    value = _parsed(cell, decimal)
    if role == STATE and not (value.is_integer() and 0.0 <= value < 2.0**53):
        raise _Mistake(f"must be a whole number >= 0, got {cell!r}; count states from 0")
    if role in roles.costs and value < 0.0:
        raise _Mistake(f"must be >= 0, got {cell!r}; costs are nonnegative, check sign and unit")
    return value


def _parsed(cell: Any, decimal: str) -> float:
    text = "" if cell is None else str(cell).strip()
    if not text:
        raise _Mistake(f"must hold a number, got an empty cell; {_FILL}")
    if isinstance(cell, bool):
        raise _Mistake(f"must be a number, got {cell!r}; write 0 or 1")
    if text.lower() in _NOT_FINITE:
        raise _Mistake(f"must be finite, got {text!r}; {_FILL}")
    other = "," if decimal == "." else "."
    if not isinstance(cell, str):
        found = _converted(cell)
    elif not _NUMBER.fullmatch(text) or other in text:
        raise _Mistake(
            f"must be a number with {decimal!r} as its decimal sign, got {text[:40]!r}; write it like 1{decimal}5"
        )
    else:
        found = float(text.replace(decimal, "."))
    if not math.isfinite(found):
        raise _Mistake(f"must be finite, got {text[:40]!r}; {_FILL}")
    return found


def _converted(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        raise _Mistake(f"must be a number, got {str(cell)[:40]!r}; convert the column") from None
