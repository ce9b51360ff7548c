"""Who spends which error probability: a union bound, kept as a book.

If the statement named i fails with probability at most ``delta_i`` and ``sum_i delta_i <= delta``, then all of them
hold together with probability at least ``1 - delta``, however they depend on each other (Boole). The book makes that
sum explicit: each part is spent once, under a name, for a stated purpose, and never more than there is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from surefoot.arrays import check_real
from surefoot.errors import InvalidInput, LedgerError

__all__ = ["Entry", "Ledger"]

TOLERANCE = 1e-12
"""Share of the total that rounding may overdraw: ten times 0.005 is not exactly 0.05."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One part of the error probability: ``name`` for programs, ``purpose`` for people."""

    name: str
    delta: float
    purpose: str

    def __post_init__(self) -> None:
        for field in ("name", "purpose"):
            text = getattr(self, field)
            if not isinstance(text, str) or not text.strip():
                raise InvalidInput(
                    f"{field} must be a non-empty string, got {text!r}; say who spends it and what for",
                    code="SF-ARGUMENT-TEXT",
                )
        delta = check_real("delta", self.delta, low=0.0, high=1.0, open_low=True, open_high=True)
        object.__setattr__(self, "delta", delta)


@dataclass(frozen=True, slots=True)
class Ledger:
    """An error budget ``total`` and the entries that spend it; frozen, spending returns the next ledger.

    >>> ledger = Ledger(0.05).spend("delta_b", 0.02, "cost bounds").spend("delta_e", 0.03, "eliminations")
    >>> round(ledger.spent, 12), ledger.left
    (0.05, 0.0)
    """

    total: float
    entries: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        total = check_real("total", self.total, low=0.0, high=1.0, open_low=True, open_high=True)
        object.__setattr__(self, "total", total)
        object.__setattr__(self, "entries", tuple(self.entries))
        _refuse_double_names(self.entries)
        if self.spent > self.total * (1.0 + TOLERANCE):
            parts = ", ".join(f"{e.name}={e.delta:g}" for e in self.entries)
            raise LedgerError(
                f"delta must sum to at most {self.total:g}, got {self.spent:g} ({parts}); spend less or raise the total",
                code="SF-LEDGER-OVERSPENT",
            )

    def spend(self, name: str, delta: float, purpose: str) -> Ledger:
        """The ledger after ``delta`` is spent under ``name``.

        Raises:
            LedgerError: the name has spent before, or less than ``delta`` is left.
            InvalidInput: an empty name or purpose, or a delta outside (0, 1).
        """
        return Ledger(self.total, (*self.entries, Entry(name, delta, purpose)))

    @property
    def spent(self) -> float:
        """Sum of all entries, correctly rounded, so that the order of spending does not matter."""
        return math.fsum(entry.delta for entry in self.entries)

    def spent_on(self, name: str) -> float:
        """What was spent under a name; 0 if nothing was."""
        return math.fsum(entry.delta for entry in self.entries if entry.name == name)

    @property
    def left(self) -> float:
        """What may still be spent; never negative."""
        return max(0.0, self.total - self.spent)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a file; :meth:`from_dict` is its inverse."""
        entries = [{"name": e.name, "delta": e.delta, "purpose": e.purpose} for e in self.entries]
        return {"total": self.total, "entries": entries}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Ledger:
        """The ledger written by :meth:`as_dict`, checked as if it were spent anew.

        Raises:
            InvalidInput: keys missing or unknown, or values of the wrong kind.
            LedgerError: a name twice, or more spent than the total.
        """
        _check_keys("ledger", data, {"total", "entries"})
        rows = data["entries"]
        if not isinstance(rows, list | tuple):
            raise InvalidInput(
                f"ledger['entries'] must be a list, got {type(rows).__name__}; write it with as_dict",
                code="SF-ARGUMENT-TYPE",
            )
        for index, row in enumerate(rows):
            _check_keys(f"ledger['entries'][{index}]", row, {"name", "delta", "purpose"})
        return cls(data["total"], tuple(Entry(row["name"], row["delta"], row["purpose"]) for row in rows))


def _refuse_double_names(entries: tuple[Entry, ...]) -> None:
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        if entry.name in seen:
            raise LedgerError(
                f"entries[{index}].name must be new, got {entry.name!r} a second time; "
                "spend each part once, under its own name",
                code="SF-LEDGER-TWICE",
            )
        seen.add(entry.name)


def _check_keys(name: str, data: object, keys: set[str]) -> None:
    if not isinstance(data, Mapping):
        raise InvalidInput(
            f"{name} must be a mapping, got {type(data).__name__}; write it with as_dict", code="SF-ARGUMENT-TYPE"
        )
    if set(data) != keys:
        got = sorted(map(str, data))
        raise InvalidInput(
            f"{name} must have exactly the keys {sorted(keys)}, got {got}; write it with as_dict",
            code="SF-ARGUMENT-KEYS",
        )
