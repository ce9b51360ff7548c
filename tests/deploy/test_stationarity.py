"""Are a policy's outcomes still what they were: uniform ranks, run lengths under adaptive choice, steps, and the audit's own computation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot.arrays import FloatArray
from surefoot.audit.groups import Group
from surefoot.audit.stationarity import StationarityWatch
from surefoot.deploy.reorder import Released
from surefoot.deploy.report import Report
from surefoot.deploy.stationarity import FIRST, StationarityDetector, bets, uniforms
from surefoot.stats.binomial import rate_test


def test_every_bet_has_mean_one() -> None:
    edges = np.linspace(0.0, 1.0, 200_001)
    p = (edges[1:] + edges[:-1]) / 2
    np.testing.assert_allclose(bets(p).mean(axis=0), 1.0, atol=2e-3)
    assert (bets(p) > 0.0).all()


def test_the_numbers_between_ties_are_uniform_and_distinct() -> None:
    u = uniforms(3, np.arange(20_000), 2).ravel()
    assert np.unique(u).size == u.size and u.min() > 0.0 and u.max() < 1.0
    counts = np.histogram(u, bins=20, range=(0.0, 1.0))[0]
    assert ((counts - 2000.0) ** 2 / 2000.0).sum() < 50.0  # 19 degrees of freedom, 1e-4
    assert (uniforms(4, np.arange(5), 2) != uniforms(3, np.arange(5), 2)).all()


@pytest.mark.parametrize("law", ["few values", "one value", "continuous"])
def test_ranks_are_uniform_and_independent_of_the_one_before(law: str) -> None:
    rng, n = np.random.default_rng(1), 60
    cells = np.zeros((4, 4))
    for run in range(60):
        found = StationarityDetector(1, 1, 1e9, run)
        x = {
            "few values": rng.integers(3, size=n).astype(float),
            "one value": np.ones(n),
            "continuous": rng.exponential(size=n),
        }[law]
        found._add(0, np.arange(FIRST), x[:FIRST, None])
        p = found._ranks(0, np.arange(FIRST, n), x[FIRST:, None])[:, 0]
        quarter = np.minimum((4 * p).astype(int), 3)
        np.add.at(cells, (quarter[:-1], quarter[1:]), 1.0)
    expected = cells.sum() / 16
    assert ((cells - expected) ** 2 / expected).sum() < 44.3  # 15 degrees of freedom, 1e-4


def play(detector: StationarityDetector, rng: np.random.Generator, n: int, *, shift: float = 0.0, at: int = 0) -> int:
    """Episodes until the alarm, or n + 1; which policy is played depends on what was seen."""
    last = 0.0
    for k in range(n):
        j = int(last > 0.5) if rng.random() < 0.7 else int(rng.integers(3))
        last = float(rng.normal()) + shift
        detector.update(np.array([at + k]), np.array([j]), np.array([[last, float(last > 0.0)]]))
        if detector.changed >= 0:
            return k + 1
    return n + 1


@pytest.mark.statistical
def test_false_alarms_are_as_rare_as_stated_though_policies_are_chosen_by_outcomes() -> None:
    every, runs, n = 150.0, 40, 150
    early = sum(play(StationarityDetector(3, 2, every, s), np.random.default_rng(s), n) <= n for s in range(runs))
    assert rate_test(early, runs, n / (2 * every)) >= 1e-3


def test_a_step_is_found_and_not_before() -> None:
    for sign in (-1.0, 1.0):
        rng, detector = np.random.default_rng(2), StationarityDetector(3, 2, 1e5, 7)
        assert play(detector, rng, 400) == 401
        assert play(detector, rng, 300, shift=2.0 * sign, at=400) < 150


def test_a_ramp_of_outcomes_in_a_row_would_be_no_accident_for_a_mutant_without_ties() -> None:
    """With U = 0 equal outcomes would all get rank zero: an alarm on a plant that always does the same."""
    detector = StationarityDetector(1, 1, 1e5, 0)
    detector.update(np.arange(2000), np.zeros(2000, dtype=np.int64), np.ones((2000, 1)))
    assert detector.changed < 0
    steps = np.log(bets(np.full(60, 1e-9)))
    assert steps.sum(axis=0).max() > detector.log_threshold(0)


def reports(seed: int, n: int) -> tuple[np.ndarray, FloatArray]:
    rng = np.random.default_rng(seed)
    outcomes = np.column_stack([rng.normal(size=n).round(1), rng.random(n)])
    outcomes[n // 2 :] += rng.choice([0.0, 3.0])
    return rng.integers(2, size=n), outcomes


@given(st.integers(0, 500), st.lists(st.integers(1, 60), min_size=1, max_size=6))
@settings(max_examples=20)
def test_the_audit_computes_the_same_and_batches_do_not_matter(seed: int, sizes: list[int]) -> None:
    n = sum(sizes) + 80
    drawn, outcomes = reports(seed, n)
    detector, watch = StationarityDetector(3, 2, 10.0, seed), StationarityWatch(10.0, seed)
    one = StationarityDetector(3, 2, 10.0, seed)
    first = 0
    for size in (*sizes, 80):
        ids = np.arange(first, first + size)
        detector.update(ids, drawn[ids], outcomes[ids])
        body: dict[str, Any] = {"ids": ids.tolist(), "reward": outcomes[ids, 0].tolist()}
        watch.settle([Group({**body, "costs": outcomes[ids, 1:].tolist()}, drawn[ids].tolist())])
        first += size
        assert (detector.changed >= 0) == (watch.peak >= 0.0)
    for k in range(n):
        one.update(np.array([k]), drawn[k : k + 1], outcomes[k : k + 1])
    for j in set(drawn.tolist()):
        assert (
            math.isclose(one.log_value(j), detector.log_value(j), rel_tol=1e-9, abs_tol=1e-9) or one.log_value(j) < -1e9
        )
        known = watch._policies[j].log_value
        assert math.isclose(known, detector.log_value(j), rel_tol=1e-9, abs_tol=1e-9) or known == detector.log_value(j)


def test_reports_are_read_in_ask_order_and_lost_ones_are_skipped() -> None:
    drawn, outcomes = reports(1, 90)
    straight, released = StationarityDetector(3, 2, 1e9, 0), StationarityDetector(3, 2, 1e9, 0)
    kept = np.array([k for k in range(90) if k not in (5, 70)])
    straight.update(kept, drawn[kept], outcomes[kept])

    def group(ids: np.ndarray) -> Report:
        return Report(ids, outcomes[ids, 0], outcomes[ids, 1:], drawn=drawn[ids])

    released.released(Released([group(kept[::2]), group(kept[1::2])], [5], [70]))
    np.testing.assert_array_equal(straight._logs, released._logs)
    off = StationarityDetector(3, 2, 0.0, 0)
    off.released(Released([group(kept)], [], []))
    assert off._seen.sum() == 0
