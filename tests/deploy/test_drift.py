"""The detector of changes: sums of products over start times, run lengths, steps, and mutants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.audit.monitor import ChangeWatch
from surefoot.deploy.drift import FALSE_ALARM_EVERY, CostDetector
from surefoot.deploy.monitor import MONITOR_BETS
from surefoot.deploy.reorder import Released
from surefoot.deploy.report import Report
from surefoot.stats.binomial import rate_test
from tests.refusals import refused

LIMITS, CEILINGS = np.array([2.0, 0.5]), np.array([10.0, 4.0])


def by_start_times(costs: np.ndarray, limits: np.ndarray) -> float:
    """The average over bets and constraints of the sum over s of the product from s on, computed as it reads."""
    values = []
    for i, d in enumerate(limits):
        for fraction in MONITOR_BETS:
            factors = [1.0 + fraction / d * (cost - d) for cost in costs[:, i]]
            values.append(sum(math.prod(factors[s:]) for s in range(len(factors))))
    return float(np.mean(values))


def random_costs(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 2)) * CEILINGS


@given(st.integers(0, 1000), st.integers(1, 30), st.integers(0, 30))
def test_it_is_the_sum_over_start_times_of_products(seed: int, n: int, cut: int) -> None:
    costs = random_costs(seed, n)
    detector = CostDetector(LIMITS, CEILINGS, 1e300)
    detector.update(costs[:cut])
    detector.update(costs[cut:])
    assert math.isclose(math.exp(detector.log_value), by_start_times(costs, LIMITS), rel_tol=1e-9)


@given(st.integers(0, 1000), st.integers(1, 30))
def test_the_audit_computes_the_same(seed: int, n: int) -> None:
    costs = random_costs(seed, n)
    watch, whole = ChangeWatch(LIMITS, CEILINGS, 7.0), ChangeWatch(LIMITS, CEILINGS, 7.0)
    peaks = []
    for row in costs:
        watch.update(row[None])
        detector = CostDetector(LIMITS, CEILINGS, 7.0)
        detector.update(costs[: len(peaks) + 1])
        peaks.append(detector.log_value - math.log(7.0))
        assert math.isclose(watch.peak, max(peaks), rel_tol=1e-9, abs_tol=1e-9)
        assert detector.rejected == (watch.peak >= 0.0)
    whole.update(costs)
    assert math.isclose(whole.peak, watch.peak, rel_tol=1e-12)


def test_one_more_episode_adds_one_on_average() -> None:
    """E M_n = n where costs have mean d exactly: two-point costs, all sequences."""
    limit, dear = np.array([0.5]), 2.0
    for n in (1, 2, 6):
        mean = 0.0
        for mask in range(2**n):
            costs = np.array([dear if mask >> k & 1 else 0.0 for k in range(n)])
            hits = int((costs > 0).sum())
            detector = CostDetector(limit, np.array([9.0]), 1e300)
            detector.update(costs[:, None])
            mean += 0.25**hits * 0.75 ** (n - hits) * math.exp(detector.log_value)
        assert abs(mean - n) < 1e-9


def run_lengths(runs: int, every: float, mean: float, seed: int, longest: int, *, start: float = 1.0) -> np.ndarray:
    """(runs,) episodes until an alarm of the detector for costs of two values; ``longest`` if there was none. ``start``: 1, or 0 for a mutant."""
    rng = np.random.default_rng(seed)
    bets, found = np.array(MONITOR_BETS) / 0.5, np.full(runs, longest)
    values, going = np.zeros((runs, bets.size)), np.ones(runs, dtype=bool)
    for k in range(longest):
        costs = 2.0 * (rng.random(runs) < mean / 2.0)
        values = (1.0 + bets * (costs - 0.5)[:, None]) * (start + values)
        crossed = going & (values.mean(axis=1) >= every)
        found[crossed] = k + 1
        going &= ~crossed
    return found


@pytest.mark.statistical
def test_the_mean_run_length_is_at_least_the_stated_one() -> None:
    """Costs of mean d exactly, the hardest that meets the limit. Lengths are cut off, which makes their mean smaller."""
    every, runs = 50.0, 2000
    lengths = run_lengths(runs, every, 0.5, 1, 2000)
    room = 3.1 * lengths.std() / math.sqrt(runs)
    assert lengths.mean() + room >= every
    assert lengths.mean() < 4.0 * every  # not vacuous: the bound is nearly attained, see the martingale above
    # The stated law of a false alarm within n episodes.
    for n in (5, 25):
        assert np.mean(lengths <= n) <= n / every + 3.1 * math.sqrt(n / every / runs)


def test_those_run_lengths_are_the_detectors() -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        seed = int(rng.integers(1000))
        length = int(run_lengths(1, 50.0, 0.8, seed, 500)[0])
        same = np.random.default_rng(seed)
        costs = np.array([2.0 * (same.random(1)[0] < 0.4) for _ in range(length)])
        detector = CostDetector(np.array([0.5]), np.array([9.0]), 50.0)
        detector.update(costs[:-1, None])
        assert not detector.rejected
        detector.update(costs[-1:, None])
        assert detector.rejected


def test_it_finds_a_step_after_a_long_good_phase_that_buries_the_monitor() -> None:
    rng = np.random.default_rng(0)
    detector = CostDetector(np.array([0.5]), np.array([9.0]), FALSE_ALARM_EVERY)
    detector.update(2.0 * (rng.random((20_000, 1)) < 0.1))
    assert not detector.rejected
    delay = 0
    while not detector.rejected:
        detector.update(2.0 * (rng.random((1, 1)) < 0.5))
        delay += 1
    assert delay < 100


def test_without_the_one_there_is_no_detector() -> None:
    """The mutant M_n = L_n M_{n-1} starts at nothing and stays there."""
    assert (run_lengths(5, 50.0, 1.5, 0, 300, start=0.0) == 300).all()
    assert (run_lengths(5, 50.0, 1.5, 0, 300) < 300).all()


@pytest.mark.statistical
def test_costs_of_the_drawn_policy_against_its_own_limit_would_alarm_too_early() -> None:
    """The null concerns the mixture: a policy above the limit, played seldom beside a free one, must not count against the limit alone.

    The mutant takes only the episodes of the dear policy; the detector takes all.
    """
    rng, every = np.random.default_rng(5), 4000.0
    own, all_of_them = [], []
    for _ in range(30):
        dear = rng.random(400) < 0.25
        costs = np.where(dear, 4.0 * (rng.random(400) < 0.5), 0.0)  # the mixture's mean is 0.5
        for drawn, sink in ((costs[dear], own), (costs, all_of_them)):
            detector = CostDetector(np.array([0.55]), np.array([9.0]), every)
            detector.update(drawn[:, None])
            sink.append(detector.rejected)
    assert np.mean(own) > 0.95
    assert rate_test(int(np.sum(all_of_them)), 30, 400 / every) >= 1e-3


def test_a_limit_of_zero_is_rejected_by_costs_alone() -> None:
    zero = np.array([0.0])
    detector, watch = CostDetector(zero, np.array([10.0]), 50.0), ChangeWatch(zero, np.array([10.0]), 50.0)
    detector.update(np.zeros((1000, 1)))
    watch.update(np.zeros((1000, 1)))
    assert not detector.rejected
    assert watch.peak < 0.0
    detector.update(np.full((40, 1), 10.0))
    watch.update(np.full((40, 1), 10.0))
    assert detector.rejected
    assert watch.peak >= 0.0


def test_without_constraints_or_switched_off_it_is_silent() -> None:
    for limits, every in ((np.zeros(0), 2.0), (np.array([0.5]), 0.0)):
        detector, watch = CostDetector(limits, limits + 9.0, every), ChangeWatch(limits, limits + 9.0, every)
        detector.update(np.full((50, limits.size), 9.0))
        watch.update(np.full((50, limits.size), 9.0))
        assert not detector.rejected
        assert watch.peak < 0.0


def test_nothing_overflows() -> None:
    detector, watch = CostDetector(LIMITS, CEILINGS, 1e9), ChangeWatch(LIMITS, CEILINGS, 1e9)
    for costs in (np.tile(CEILINGS, (3000, 1)), np.zeros((3000, 2)), np.tile(CEILINGS, (3000, 1))):
        detector.update(costs)
        watch.update(costs)
        assert np.isfinite(detector.log_value)
    assert detector.rejected
    assert math.isclose(watch.peak, detector.log_value - math.log(1e9), rel_tol=1e-9)


def test_it_reads_in_ask_order_and_lost_episodes_cost_nothing() -> None:
    costs = random_costs(2, 6)
    straight, released = CostDetector(LIMITS, CEILINGS, 1e9), CostDetector(LIMITS, CEILINGS, 1e9)
    costs[3] = 0.0
    straight.update(costs)

    def group(ids: list[int]) -> Report:
        n = len(ids)
        return Report(np.array(ids), np.zeros(n), costs[ids])

    released.released(Released([group([0, 5]), group([1, 2, 4])], [3], []))
    assert released.log_value == straight.log_value


def test_the_stated_time_is_an_episode_at_least_or_nothing() -> None:
    from surefoot.deploy.drift import check_false_alarm_every

    assert check_false_alarm_every(0) == 0.0
    assert check_false_alarm_every(1) == 1.0
    for value in (0.5, -1.0, math.nan, math.inf):
        with refused("SF-ARGUMENT-RANGE", "false_alarm_every"):
            check_false_alarm_every(value)
