"""The ledger never lets more be spent than there is, nor anything twice."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from surefoot.errors import LedgerError
from surefoot.stats.ledger import Entry, Ledger
from tests.refusals import refused


def filled() -> Ledger:
    return Ledger(0.05).spend("delta_e", 0.03, "eliminations").spend("delta_b", 0.015, "cost bounds")


def test_spending_returns_a_new_ledger_and_leaves_the_old_one() -> None:
    empty = Ledger(0.05)
    after = empty.spend("delta_e", 0.03, "eliminations")
    assert (empty.spent, empty.left) == (0.0, 0.05)
    assert after.spent == 0.03
    assert after.left == pytest.approx(0.02)
    assert after.entries == (Entry("delta_e", 0.03, "eliminations"),)


def test_a_name_spends_once() -> None:
    with refused("SF-LEDGER-TWICE", "entries[2].name", "'delta_e'"):
        filled().spend("delta_e", 0.001, "again")


def test_overspending_is_refused_and_names_the_parts() -> None:
    with refused("SF-LEDGER-OVERSPENT", "0.05", "0.051 (delta_e=0.03, delta_b=0.015, x=0.006)"):
        filled().spend("x", 0.006, "too much")


def test_the_whole_total_can_be_spent_in_ten_rounded_parts() -> None:
    ledger = Ledger(0.05)
    for index in range(10):
        ledger = ledger.spend(f"part {index}", 0.005, "a tenth")
    assert ledger.left <= 1e-12
    with pytest.raises(LedgerError):
        ledger.spend("more", 1e-13, "above the tolerance")


def test_a_small_total_is_as_exact_as_a_large_one() -> None:
    with refused("SF-LEDGER-OVERSPENT", "1e-12", "2e-12"):
        Ledger(1e-12).spend("one", 1e-12, "all of it").spend("two", 1e-12, "as much again")


def test_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        filled().total = 1.0  # type: ignore[misc]


def test_round_trip_through_json() -> None:
    assert Ledger.from_dict(json.loads(json.dumps(filled().as_dict()))) == filled()


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda d: d.pop("total"), ("SF-ARGUMENT-KEYS", "ledger", "'entries'", "'total'")),
        (lambda d: d.update(extra=1), ("SF-ARGUMENT-KEYS", "['entries', 'extra', 'total']")),
        (lambda d: d.update(entries="abc"), ("SF-ARGUMENT-TYPE", "ledger['entries']", "str")),
        (lambda d: d["entries"].append(3), ("SF-ARGUMENT-TYPE", "ledger['entries'][2]", "int")),
        (lambda d: d["entries"][1].pop("delta"), ("SF-ARGUMENT-KEYS", "ledger['entries'][1]")),
        (lambda d: d["entries"][1].update(delta="0.1"), ("SF-ARGUMENT-TYPE", "delta", "(0, 1)", "'0.1'")),
        (lambda d: d["entries"][1].update(delta=float("nan")), ("SF-ARGUMENT-RANGE", "delta", "(0, 1)")),
        (
            lambda d: d["entries"][1].update(delta=-0.01),
            ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "-0.01"),
        ),
        (lambda d: d["entries"][0].update(name=""), ("SF-ARGUMENT-TEXT", "name", "''")),
        (lambda d: d["entries"][0].update(purpose=7), ("SF-ARGUMENT-TEXT", "purpose", "7")),
        (lambda d: d["entries"][1].update(name="delta_e"), ("SF-LEDGER-TWICE", "'delta_e'")),
        (lambda d: d.update(total=0.04), ("SF-LEDGER-OVERSPENT", "0.04", "0.045")),
        (lambda d: d.update(total=1.0), ("SF-ARGUMENT-RANGE", "total", "(0, 1)", "1")),
    ],
)
def test_a_damaged_record_is_refused(change: Any, refusal: tuple[str, ...]) -> None:
    data = filled().as_dict()
    change(data)
    with refused(*refusal):
        Ledger.from_dict(data)


def test_a_record_must_be_a_mapping() -> None:
    with refused("SF-ARGUMENT-TYPE", "ledger", "list"):
        Ledger.from_dict([1, 2])  # type: ignore[arg-type]
