"""Streams and shares of hold-outs: what changes them, and what may not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surefoot.policy import TabularPolicy
from surefoot.policyset.file import load
from surefoot.policyset.lineage import fingerprint, holdout_stream, look_share, looks_paid
from surefoot.policyset.schema import Certificate, PolicySet
from surefoot.stats.ledger import Ledger
from tests.strategies import random_policy_set


@pytest.fixture
def judged() -> PolicySet:
    return random_policy_set(np.random.default_rng(0), kernel=True, conditional=True, signals=1)


def scaled(policy_set: PolicySet, factor: float) -> PolicySet:
    cells = policy_set.cells
    seen = cells.predictions
    return replace(policy_set, cells=replace(cells, predictions=replace(seen, cost_upper=seen.cost_upper * factor)))


def test_the_fingerprint_is_of_what_is_judged_and_of_nothing_else(judged: PolicySet) -> None:
    same = {
        "certificate": Certificate(50, 3, 0.2, 1, 0.1, 0.01),
        "ledger": Ledger(0.2),
        "seed": 9,
        "version": "9",
        "extra": {"a": 1},
        "lineage_known": False,
    }
    for name, value in same.items():
        assert fingerprint(replace(judged, **{name: value})) == fingerprint(judged), name
    other = {
        "policies": tuple(TabularPolicy(p.table[:, ::-1]) for p in judged.policies if isinstance(p, TabularPolicy)),
        "assumption": replace(judged.assumption, safe_margin=0.26),
        "bounds": replace(judged.bounds, cost_ceilings=(9.0,)),
        "criterion": replace(judged.criterion, cost_limits=np.array([2.1])),
        "cells": replace(judged.cells, kernel=None),
    }
    for name, value in other.items():
        assert fingerprint(replace(judged, **{name: value})) != fingerprint(judged), name
    assert fingerprint(scaled(judged, 1.001)) != fingerprint(judged)


def test_the_fingerprint_of_a_set_stays_what_it_was_for_good() -> None:
    """Other hold-outs would be drawn for the same cells, and looks at old ones not be recognised."""
    golden = Path(__file__).parents[1] / "golden" / "policyset-v1.sf"
    assert fingerprint(load(golden)) == "6ce50faf7d7c8ffd9b735acc359db15cf0a35ccf6116818d73cfe3531d44245f"


def test_the_last_bits_of_a_machine_do_not_change_the_fingerprint(judged: PolicySet) -> None:
    assert fingerprint(scaled(judged, 1.0 + 1e-13)) == fingerprint(judged)


def test_streams_differ_by_seed_by_what_is_judged_and_by_look() -> None:
    def first(seed: int, judged: str, attempt: int) -> float:
        return float(holdout_stream(seed, judged, attempt).random())

    drawn = {first(seed, judged, attempt) for seed in (0, 1) for judged in ("0a" * 32, "0b" * 32) for attempt in (1, 2)}
    assert len(drawn) == 8
    assert first(0, "0a" * 32, 1) == first(0, "0a" * 32, 1)


def test_all_looks_together_pay_what_there_is() -> None:
    assert [look_share(a) for a in (1, 2, 3)] == [0.5, 0.25, 0.125]
    for attempt in range(1, 20):
        ledger = looks_paid(0.05, attempt).spend("coverage", 0.05 * look_share(attempt), "this look")
        assert ledger.left == pytest.approx(0.05 * look_share(attempt)), (
            "as much is left for all later looks as this one paid"
        )
