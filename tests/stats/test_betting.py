"""Betting processes: closed forms, exact enumeration of the martingale property, failure rates, and mutants.

Each check that a guarantee rests on is a function of an implementation. It passes on ours and is shown to fail on a
mutant with one sign or constant changed, so that none of them is a check that cannot fail.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot.stats.betting import (
    BetGrid,
    IntervalWealth,
    MeanLowerBounds,
    MeanUpperBounds,
    bet_grid,
    empirical_bernstein_upper,
    mean_grid,
    mean_interval,
    mean_lower,
    mean_upper,
)
from surefoot.stats.binomial import rate_test
from tests.refusals import refused
from tests.stats import wsr_reference as reference

TWO_BETS = BetGrid(np.array([0.3, 0.9]), np.array([0.25, 0.75]))


def upper_at(means: list[float], ceiling: float = 1.0, bets: BetGrid = TWO_BETS) -> MeanUpperBounds:
    return MeanUpperBounds([ceiling], means=np.array(means)[None, :], bets=bets)


def log_average(log_wealth: Any, weights: Any) -> Any:
    """Log of the weighted average over axis 0."""
    return np.log(np.einsum("k,k...->...", weights, np.exp(log_wealth)))


def costs(rng: np.random.Generator, n: int) -> Any:
    """Gridworld-like episode costs: mean 1.4, standard deviation 3, ceiling 100."""
    return np.where(rng.random(n) < 0.65, 0.0, np.minimum(100.0, rng.exponential(4.0, n)))


# --- bets and grids ---------------------------------------------------------------------------------------------------


def test_bet_grid_is_log_spaced_and_tilted() -> None:
    grid = bet_grid(5, 0.01, 0.9, tilt=1.0)
    ratios = grid.fractions[1:] / grid.fractions[:-1]
    assert np.allclose(ratios, ratios[0])
    assert np.allclose(grid.weights, grid.fractions / grid.fractions.sum())
    assert (1 - grid.fractions[-1]) ** grid.period >= 2.0**-100
    assert (1 + grid.fractions[-1]) ** grid.period <= 2.0**100
    assert bet_grid(1).fractions.tolist() == [0.99]


@pytest.mark.parametrize(
    ("fractions", "weights", "refusal"),
    [
        ([0.5, 0.2], [0.5, 0.5], ("SF-ARGUMENT-ORDER", "fractions")),
        ([0.5, 1.0], [0.5, 0.5], ("SF-ARGUMENT-ORDER", "fractions")),
        ([0.0, 0.5], [0.5, 0.5], ("SF-ARGUMENT-ORDER", "fractions")),
        ([], [], ("SF-ARGUMENT-ORDER", "fractions")),
        ([0.2, 0.5], [0.5, 0.6], ("SF-ARGUMENT-SIMPLEX", "weights", "1")),
        ([0.2, 0.5], [0.0, 1.0], ("SF-ARGUMENT-SIMPLEX", "weights", "1")),
        ([0.2, 0.5], [1.0], ("SF-ARGUMENT-SHAPE", "weights", "(2)")),
    ],
)
def test_bad_bets_are_refused(fractions: list[float], weights: list[float], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        BetGrid(np.array(fractions), np.array(weights))


@settings(max_examples=100, deadline=None)
@given(st.floats(0.01, 1e4), st.floats(0.001, 0.999), st.integers(3, 100))
def test_mean_grid_spans_the_range_and_contains_the_focus(ceiling: float, where: float, points: int) -> None:
    focus = where * ceiling
    grid = mean_grid(ceiling, focus, points)
    assert grid.size == points
    assert grid[0] == 0.0
    assert 0.9989 * ceiling <= grid[-1] < ceiling
    assert 0.98 * (ceiling - focus) <= grid[-1] - focus
    assert focus in grid
    assert np.all(np.diff(grid) > 0)


def test_mean_grid_is_dense_at_the_focus() -> None:
    grid = mean_grid(100.0, 1.5, 64)
    gaps, middle = np.diff(grid), int(np.searchsorted(grid, 1.5))
    assert gaps[middle] < 0.1
    assert gaps[middle] < gaps[0] < gaps.max()
    away = (grid > 5.0) & (grid < 95.0)
    assert np.all(gaps[away[:-1]] < 0.3 * np.minimum(grid, 100.0 - grid)[:-1][away[:-1]])
    assert mean_grid(2.0, None, 5) == pytest.approx([0.0, 0.75, 1.5, 2 - 0.5 * math.sqrt(0.004), 1.998])


# --- upper bounds on means --------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.floats(0.0, 1.0), st.floats(0.1, 50.0), st.floats(0.0, 1.0))
def test_one_observation_has_its_closed_form(x: float, ceiling: float, m: float) -> None:
    means = np.array([0.0, 0.01 + 0.98 * m, 0.995])
    process = upper_at((means * ceiling).tolist(), ceiling)
    process.update(0, [x * ceiling])
    expected = np.log(1 + TWO_BETS.fractions[:, None] / (1 - means) * (means - x))
    assert np.allclose(process.log_wealth(0), expected, atol=1e-11)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30),
    st.integers(0, 3),
    st.floats(0.0, 0.999),
    st.floats(1e-6, 1.0),
)
def test_the_wealth_increases_in_the_mean_whatever_was_observed(
    x: list[float], lost: int, m: float, gap: float
) -> None:
    larger = m + gap * (0.9999 - m)
    process = upper_at(sorted({0.0, 3 * m, 3 * larger}), 3.0)
    process.update(0, 3 * np.array(x))
    process.mark_lost(0, lost)
    assert np.all(np.diff(process.log_wealth(0), axis=1) >= -1e-12)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20), st.integers(0, 19), st.floats(0.0, 1.0), st.floats(0.1, 9)
)
def test_a_smaller_observation_never_raises_the_bound(x: list[float], where: int, share: float, level: float) -> None:
    before, after = (MeanUpperBounds([5.0], focus=1.0, points=20) for _ in range(2))
    values = 5 * np.array(x)
    before.update(0, values)
    values[where % len(x)] *= share
    after.update(0, values)
    assert after.bound(0, level) <= before.bound(0, level) + 1e-9


def test_the_crossing_of_one_bet_is_solved_exactly() -> None:
    """n zeros, one bet c, grid mean m*: (1 - c + c / (1 - m*))^n is the wealth; the bound at that threshold is m*."""
    single = BetGrid(np.array([0.9]), np.array([1.0]))
    process = upper_at([0.0, 0.25, 0.4, 0.9], bets=single)
    process.update(0, np.zeros(30))
    at, after = (30 * math.log(0.1 + 0.9 / (1 - m)) for m in (0.25, 0.4))
    assert process.bound(0, at) == pytest.approx(0.25, abs=1e-9)
    odds = 0.5 * (1 / 0.75 + 1 / 0.6)
    assert process.bound(0, 0.5 * (at + after)) == pytest.approx(1 - 1 / odds, abs=1e-9)
    assert process.bound(0, 1e6) == 1.0


@pytest.mark.parametrize("n", [1, 2, 5, 10, 100])
def test_zeros_come_close_to_the_binomial_limit_and_never_below_it(n: int) -> None:
    """No failure in n trials: the exact limit is 1 - delta^(1/n); a bet that ignores m proves nothing for n < 5."""
    delta = 0.05
    process = MeanUpperBounds([100.0], focus=1.5, bets=bet_grid(1))
    process.update(0, np.zeros(n))
    exact = 1 - delta ** (1 / n)
    assert 100 * exact <= process.bound(0, -math.log(delta)) <= 102 * exact
    mixture = MeanUpperBounds([100.0], focus=1.5)
    mixture.update(0, np.zeros(n))
    assert 100 * exact <= mixture.bound(0, -math.log(delta)) <= min(99.0, 130 * exact)


UpperLog = Callable[[Any, float, float], float]


def our_upper_log(x: Any, m: float, ceiling: float) -> float:
    process = upper_at([0.0, m], ceiling)
    process.update(0, x)
    return float(log_average(process.log_wealth(0), TWO_BETS.weights)[1])


def flipped_upper_log(x: Any, m: float, ceiling: float) -> float:
    """Mutant: bets on large outcomes."""
    lam = TWO_BETS.fractions[:, None] / ceiling
    return float(np.log(TWO_BETS.weights @ np.prod(1 - lam * (m - np.asarray(x)), axis=1)))


def undivided_upper_log(x: Any, m: float, ceiling: float) -> float:
    """Mutant: the factor's denominator ``1 - m / H`` is forgotten."""
    return our_upper_log(x, m, ceiling) + len(x) * math.log(1 - m / ceiling)


def overbet_upper_log(x: Any, m: float, ceiling: float) -> float:
    """Mutant: the numerator keeps ``1 - c^2`` instead of ``1 - c``."""
    c = TWO_BETS.fractions[:, None]
    factors = 1 - c**2 + c * (1 - np.asarray(x) / ceiling) / (1 - m / ceiling)
    return float(np.log(TWO_BETS.weights @ np.prod(factors, axis=1)))


def centred_upper_log(x: Any, m: float, ceiling: float) -> float:
    """Mutant: the hypothesised mean is 5% too large."""
    return our_upper_log(x, 1.05 * m, ceiling)


def expected_wealth(log_wealth: UpperLog, points: list[float], chances: list[float], m: float, horizon: int) -> float:
    """E[wealth at the horizon] by enumeration of every path."""
    total = 0.0
    for path in itertools.product(range(len(points)), repeat=horizon):
        chance = math.prod(chances[i] for i in path)
        total += chance * math.exp(log_wealth([points[i] for i in path], m, 2.0))
    return total


LAWS = [([0.0, 2.0], [0.3, 0.7]), ([0.0, 0.5, 2.0], [0.6, 0.3, 0.1]), ([0.4, 1.0, 1.9], [0.2, 0.5, 0.3])]


def is_martingale_at_the_mean_and_super_above(log_wealth: UpperLog) -> bool:
    for points, chances in LAWS:
        mean = float(np.dot(points, chances))
        at = expected_wealth(log_wealth, points, chances, mean, 5)
        larger_mean = expected_wealth(log_wealth, points, chances, 0.8 * mean, 5)
        if abs(at - 1) > 1e-12 or larger_mean > 1 + 1e-12:
            return False
    return True


def test_wealth_is_a_martingale_by_enumeration() -> None:
    assert is_martingale_at_the_mean_and_super_above(our_upper_log)


@pytest.mark.parametrize("mutant", [flipped_upper_log, centred_upper_log, undivided_upper_log, overbet_upper_log])
def test_mutants_are_no_martingales(mutant: UpperLog) -> None:
    assert not is_martingale_at_the_mean_and_super_above(mutant)


@pytest.mark.parametrize("n", [1, 20, 300, 5000])
@pytest.mark.parametrize("points", [8, 64])
def test_chords_never_undercut_the_exact_bound(n: int, points: int) -> None:
    bets = bet_grid(6, 0.02, 0.99)
    for seed, focus in itertools.product(range(3), (0.02, 0.3, None)):
        x = np.random.default_rng(seed).beta(0.4, 4.0, n)
        process = MeanUpperBounds([1.0], focus=focus, points=points, bets=bets)
        process.update(0, x)
        exact = reference.fixed_bets_upper(x, 0.01, bets.fractions, bets.weights)
        bound = process.bound(0, math.log(100))
        grid = np.append(process.means[0], 1.0)
        assert exact - 1e-12 <= bound <= grid[min(points, int(np.searchsorted(grid, exact)))] + 1e-9


def test_fine_chords_reproduce_the_exact_bound() -> None:
    for n, loose in ((1, 0.5), (5, 0.5), (30, 0.2), (300, 0.01), (4000, 1e-3)):
        x = costs(np.random.default_rng(5), n)
        process = MeanUpperBounds([100.0], focus=1.5)
        process.update(0, x)
        exact = 100 * reference.fixed_bets_upper(x / 100, 0.001, process.bets.fractions, process.bets.weights)
        assert exact - 1e-9 <= process.bound(0, math.log(1000)) <= exact + loose


def test_batches_equal_single_updates_bit_for_bit() -> None:
    x = costs(np.random.default_rng(0), 1000)
    batch, single = MeanUpperBounds([100.0], focus=1.5), MeanUpperBounds([100.0], focus=1.5)
    batch.update(0, x[:333])
    batch.update(0, x[333:])
    for value in x:
        single.update(0, [value])
    assert np.array_equal(batch.mantissa, single.mantissa)
    assert np.array_equal(batch.exponent, single.exponent)
    assert batch.bound(0, 5.0) == single.bound(0, 5.0)


def test_streams_do_not_touch_each_other_and_bounds_is_bound() -> None:
    rng = np.random.default_rng(3)
    process = MeanUpperBounds([100.0, 50.0, 1.0], focus=1.5)
    process.update(0, costs(rng, 500))
    process.update(2, rng.random(500))
    assert process.bound(1, 3.0) == 50.0
    levels = np.array([3.0, 4.0, 5.0])
    assert process.bounds(levels).tolist() == [process.bound(j, level) for j, level in enumerate(levels)]
    assert process.bounds(3.0)[0] == process.bound(0, 3.0) < process.bound(0, 30.0)
    alone = MeanUpperBounds([1.0], means=process.means[2][None, :])
    alone.update(0, rng.random(1))
    twin = process.copy()
    twin.reset(2)
    assert twin.bound(2, 3.0) == 1.0 > process.bound(2, 3.0)
    twin.update(0, np.zeros(100))
    assert twin.bound(0, 3.0) < process.bound(0, 3.0)


def test_lost_counts_as_the_ceiling_and_replaced_as_never_lost() -> None:
    x = costs(np.random.default_rng(1), 200)
    lossy, ceiling, clean = (MeanUpperBounds([100.0], focus=1.5) for _ in range(3))
    lossy.update(0, x[:100])
    lossy.mark_lost(0, 3)
    ceiling.update(0, np.append(x[:100], [100.0] * 3))
    assert np.allclose(lossy.log_wealth(0), ceiling.log_wealth(0), atol=1e-10)
    assert lossy.bound(0, 4.0) == pytest.approx(ceiling.bound(0, 4.0), rel=1e-9)
    lossy.update(0, x[100:150])
    lossy.replace_lost(0, x[150:153])
    clean.update(0, x[:153])
    assert np.array_equal(lossy.mantissa, clean.mantissa)
    assert lossy.bound(0, 4.0) == clean.bound(0, 4.0)
    assert int(lossy.lost[0]) == 0
    assert int(lossy.counts[0]) == 153


def late_reports(rng: np.random.Generator, asked: int, bad: Callable[[float], bool]) -> list[tuple[int, float, int]]:
    """``(told after, value, asked as)`` of fair coins, in order of telling; bad outcomes arrive 50 episodes late."""
    coins = (rng.random(asked) < 0.5).astype(float)
    return sorted((t + 50 * bad(x), x, t) for t, x in enumerate(coins.tolist()))


def runs_with_a_bound_below_the_mean(drop_pending: bool) -> tuple[int, int]:
    """High costs are told late. Every episode is marked lost when asked, or (the mutant) only counted once told."""
    runs, asked, failures = 150, 200, 0
    for seed in range(runs):
        reports = late_reports(np.random.default_rng(seed), asked, lambda x: x == 1.0)
        process = MeanUpperBounds([1.0], points=20, bets=bet_grid(4, 0.1))
        lowest = 1.0
        for now in range(asked):
            process.mark_lost(0, 0 if drop_pending else 1)
            while reports and reports[0][0] <= now:
                _, value, _ = reports.pop(0)
                (process.update if drop_pending else process.replace_lost)(0, [value])
            lowest = min(lowest, process.bound(0, math.log(20)))
        failures += lowest < 0.5
    return failures, runs


@pytest.mark.slow
def test_late_reports_do_not_break_the_bound() -> None:
    assert rate_test(*runs_with_a_bound_below_the_mean(drop_pending=False), 0.05) > 1e-3


@pytest.mark.slow
def test_dropping_pending_episodes_breaks_the_bound_in_every_run() -> None:
    failures, runs = runs_with_a_bound_below_the_mean(drop_pending=True)
    assert failures == runs


def test_ten_million_observations_keep_nine_digits() -> None:
    """Two-point data have the closed form n1 log(1 - c) + n0 log(1 - c + c / (1 - m)); the bound stays above it."""
    process = upper_at([0.0, 0.3, 0.5, 0.5001, 0.999])
    ones, block = 30_017, np.zeros(100_000)
    block[:ones] = 1.0
    for _ in range(100):
        process.update(0, block)
    n1, n0 = 100 * ones, 100 * (block.size - ones)
    c, m = TWO_BETS.fractions[:, None], process.means[0]
    exact = n1 * np.log1p(-c) + n0 * np.log(1 - c + c / (1 - m))
    assert np.allclose(process.log_wealth(0), exact, rtol=1e-11, atol=1e-7)
    average = float(np.logaddexp(*(exact[:, 2] + np.log(TWO_BETS.weights))))
    assert 0.5 <= process.bound(0, average) <= 0.5 + 1e-9


@pytest.mark.parametrize("focus", [1e-9, 1.5, 99.0, 100 - 1e-9])
@pytest.mark.parametrize("value", [0.0, 100.0])
def test_extreme_observations_neither_underflow_nor_overflow(focus: float, value: float) -> None:
    process = MeanUpperBounds([100.0], focus=focus)
    process.update(0, np.full(3000, value))
    c, m = process.bets.fractions[:, None], process.means[0]
    exact = 3000 * np.log(1 - c + c * (100 - value) / (100 - m))
    assert np.allclose(process.log_wealth(0), exact, rtol=1e-10, atol=1e-9)


def paths_of_bounds(x: Any, ceiling: float, level: float, checks: int, scale: float = 1.0) -> Any:
    """(runs, checks) upper bounds along each row of ``x``; ``scale`` 2 is a mutant that spends twice the level."""
    process = MeanUpperBounds(np.full(len(x), ceiling), focus=0.4 * ceiling, points=24, bets=bet_grid(4, 0.02, 0.9))
    out = []
    for chunk in np.split(x, checks, axis=1):
        for j, row in enumerate(chunk):
            process.update(j, row)
        out.append(process.bounds(-math.log(scale * level)))
    return np.array(out).T


def failures_over_time(scale: float) -> tuple[int, int]:
    rng = np.random.default_rng(7)
    x = np.where(rng.random((2000, 2000)) < 0.1, 2.0, 0.6 * rng.random((2000, 2000)))
    bounds = paths_of_bounds(x, 2.0, 0.05, 50, scale)
    return int(np.any(bounds < 0.1 * 2.0 + 0.9 * 0.3, axis=1).sum()), len(x)


@pytest.mark.statistical
def test_bounds_fail_at_most_at_their_level_at_any_time() -> None:
    assert rate_test(*failures_over_time(1.0), 0.05) > 1e-3


@pytest.mark.slow
def test_the_failure_check_notices_a_level_spent_eightfold() -> None:
    assert rate_test(*failures_over_time(8.0), 0.05) < 1e-3


def short_failures(scale: float) -> tuple[int, int]:
    """Runs of 40 rare failures in which some bound, read after every observation, falls below the mean."""
    rng, chance, runs = np.random.default_rng(17), 0.15, 2000
    x = np.where(rng.random((runs, 40)) < chance, 2.0, 0.0)
    process = MeanUpperBounds(np.full(runs, 2.0), focus=2 * chance, points=24)
    failed = np.zeros(runs, np.bool_)
    for column in x.T:
        for j in range(runs):
            process.update(j, column[j : j + 1])
        failed |= process.bounds(-math.log(0.05 * scale)) < 2 * chance
    return int(failed.sum()), runs


@pytest.mark.statistical
def test_bounds_of_few_observations_fail_at_most_at_their_level() -> None:
    assert rate_test(*short_failures(1.0), 0.05) > 1e-3


@pytest.mark.slow
def test_the_short_failure_check_notices_a_level_spent_eightfold() -> None:
    assert rate_test(*short_failures(8.0), 0.05) < 1e-3


def test_narrower_than_the_published_bounds_on_gridworld_costs() -> None:
    """Ceiling 100, standard deviation 3, mean 1.4: at each size no published bound is narrower by more than 5%."""
    for n in (300, 2000, 20_000):
        ours, theirs = [], []
        for seed in range(4):
            x = costs(np.random.default_rng(seed), n)
            ours.append(mean_upper(x, 100.0, 0.01, focus=1.5) - 1.4)
            hedged = 100 * reference.hedged_upper(x / 100, 0.01) - 1.4
            bernstein = empirical_bernstein_upper(x, 100.0, 0.01)[-1] - 1.4
            hoeffding = 100 * reference.hoeffding_upper(x / 100, 0.01) - 1.4
            theirs.append(min(hedged, bernstein, hoeffding))
        assert np.mean(ours) <= 1.05 * np.mean(theirs)


@pytest.mark.parametrize(("n", "share"), [(3, 0.8), (10, 0.8), (30, 0.9), (100, 0.97), (300, 1.0), (4000, 1.01)])
def test_narrower_than_bets_that_ignore_the_mean(n: int, share: float) -> None:
    """The same fractions and weights, bet as c / H: (far) wider for few observations, the same for many."""
    bets, ours, theirs = bet_grid(), 0.0, 0.0
    for seed in range(10):
        x = costs(np.random.default_rng(seed), n)
        ours += mean_upper(x, 100.0, 0.02, focus=1.5)
        theirs += 100 * reference.fixed_bets_upper(x / 100, 0.02, bets.fractions, bets.weights, scaled=False)
    assert ours <= share * theirs


def test_empirical_bernstein_by_hand_and_against_betting() -> None:
    """Two observations, computed from the paper's formulas with plain floats."""
    delta, x1, x2 = 0.1, 0.2, 0.7
    lam1 = min(0.5, math.sqrt(2 * math.log(10) / (0.25 * math.log(2))))
    mu1 = (0.5 + x1) / 2
    s1 = (0.25 + (x1 - mu1) ** 2) / 2
    lam2 = min(0.5, math.sqrt(2 * math.log(10) / (s1 * 2 * math.log(3))))
    psi = (-math.log(0.5) - 0.5) / 4
    assert lam1 == lam2 == 0.5
    upper = (lam1 * x1 + lam2 * x2 + math.log(10) + 4 * psi * ((x1 - 0.5) ** 2 + (x2 - mu1) ** 2)) / (lam1 + lam2)
    assert upper > 1
    assert empirical_bernstein_upper([x1, x2], 1.0, delta).tolist() == [1.0, 1.0]
    delta = 0.999
    loose = empirical_bernstein_upper([3 * x1, 3 * x2], 3.0, delta)
    bets = [min(0.5, math.sqrt(-2 * math.log(delta) / (v * t * math.log1p(t)))) for v, t in ((0.25, 1), (s1, 2))]
    psis = [-math.log(1 - b) - b for b in bets]
    by_hand = bets[0] * x1 + bets[1] * x2 - math.log(delta) + psis[0] * 0.09 + psis[1] * (x2 - mu1) ** 2
    first = (bets[0] * x1 - math.log(delta) + psis[0] * 0.09) / bets[0]
    assert loose.tolist() == pytest.approx([3 * first, 3 * min(first, by_hand / sum(bets))])


def test_empirical_bernstein_covers_over_time() -> None:
    rng = np.random.default_rng(11)
    failures = 0
    for _ in range(1000):
        x = np.where(rng.random(1000) < 0.1, 2.0, 0.6 * rng.random(1000))
        failures += bool(empirical_bernstein_upper(x, 2.0, 0.05)[-1] < 0.47)
    assert rate_test(failures, 1000, 0.05) > 1e-3


def test_lower_bounds_are_reflections() -> None:
    x = np.random.default_rng(2).beta(2, 5, 500) * 3
    bets = bet_grid(6)
    lower = MeanLowerBounds([3.0, 3.0], focus=0.9, bets=bets)
    lower.update(1, x)
    lower.mark_lost(1, 2)
    upper = MeanUpperBounds([3.0, 3.0], focus=2.1, bets=bets)
    upper.update(1, 3.0 - x)
    upper.mark_lost(1, 2)
    assert lower.bound(1, 4.0) == pytest.approx(3.0 - upper.bound(1, 4.0))
    assert lower.bound(0, 4.0) == 0.0
    lower.replace_lost(1, [0.5, 0.6])
    assert lower.bounds(4.0)[1] == lower.bound(1, 4.0)
    low, high = mean_lower(x, 3.0, 0.05), mean_upper(x, 3.0, 0.05)
    assert 0.5 < low < 6 / 7 < high < 1.1


def test_lower_bounds_scale_with_the_mean_not_with_the_ceiling() -> None:
    """The reflected bet is c / m: a thousandfold ceiling costs the lower bound of small values next to nothing."""
    x = np.random.default_rng(6).exponential(0.2, 500).clip(max=1.0)
    near, far = (MeanLowerBounds([b], focus=0.2) for b in (1.0, 1000.0))
    near.update(0, x)
    far.update(0, x)
    assert 0.15 < 0.97 * near.bound(0, 3.0) < far.bound(0, 3.0) < 0.2


def test_lower_bounds_fail_at_most_at_their_level() -> None:
    rng = np.random.default_rng(4)
    failures = sum(mean_lower(rng.random(300) < 0.3, 1.0, 0.05) > 0.3 for _ in range(400))
    assert rate_test(int(failures), 400, 0.05) > 1e-3
    assert all(mean_lower(rng.random(3000) < 0.3, 1.0, 0.05) > 0.2 for _ in range(20))


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda p: p.update(0, [0.5, 2.5]), ("SF-ARGUMENT-RANGE", "values[1]", "[0, 2]", "2.5")),
        (lambda p: p.update(0, [-1e-9]), ("SF-ARGUMENT-RANGE", "values[0]", "[0, 2]")),
        (lambda p: p.update(0, [0.1, float("nan")]), ("SF-ARGUMENT-RANGE", "values[1]", "[0, 2]", "nan")),
        (lambda p: p.update(0, 0.5), ("SF-ARGUMENT-SHAPE", "values", "()")),
        (lambda p: p.update(0, ["x"]), ("SF-ARGUMENT-TYPE", "values")),
        (lambda p: p.update(1, [0.5]), ("SF-ARGUMENT-RANGE", "stream", "0", "0", "1")),
        (lambda p: p.bound(0, 0.0), ("SF-ARGUMENT-RANGE", "log_threshold", "(0, inf]", "0")),
        (lambda p: p.replace_lost(0, [0.5]), ("SF-ARGUMENT-RANGE", "values", "1 for 0")),
        (lambda p: p.mark_lost(0, -1), ("SF-ARGUMENT-RANGE", "count", "0", "-1")),
        (lambda p: MeanUpperBounds([1.0, 0.0]), ("SF-ARGUMENT-RANGE", "ceilings[1]", "0", "0")),
        (lambda p: MeanUpperBounds([]), ("SF-ARGUMENT-EMPTY", "ceilings")),
        (lambda p: MeanUpperBounds([1.0], means=[[0.0, 0.5, 1.0]]), ("SF-ARGUMENT-ORDER", "means", "0")),
        (lambda p: mean_grid(1.0, 1.0), ("SF-ARGUMENT-RANGE", "focus", "(0, 1)", "1")),
        (lambda p: p.bounds([-1.0]), ("SF-ARGUMENT-RANGE", "log_thresholds[0]", "0", "-1")),
        (lambda p: mean_upper([0.5], 1.0, 0.0), ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "0")),
        (lambda p: empirical_bernstein_upper([1.5], 1.0, 0.1), ("SF-ARGUMENT-RANGE", "values[0]", "[0, 1]", "1.5")),
        (lambda p: MeanLowerBounds([2.0]).update(0, [3.0]), ("SF-ARGUMENT-RANGE", "values[0]", "[0, 2]", "3")),
    ],
)
def test_bad_arguments_change_nothing(call: Callable[[MeanUpperBounds], object], refusal: tuple[str, ...]) -> None:
    process = MeanUpperBounds([2.0], points=5)
    process.update(0, [0.3])
    before = process.log_wealth(0)
    with refused(*refusal):
        call(process)
    assert np.array_equal(process.log_wealth(0), before)
    assert int(process.counts[0]) == 1


# --- intervals --------------------------------------------------------------------------------------------------------

CELLS = np.array([0.2, 0.5, 0.9]), np.array([0.4, 0.5, 1.4])


def wealth_of(policies: int = 2, bets: BetGrid = TWO_BETS, **options: Any) -> IntervalWealth:
    return IntervalWealth(3, policies, -1.0, 2.0, bets=bets, **options)


def test_one_observation_of_an_interval_has_its_closed_form() -> None:
    process = wealth_of()
    process.update(1, [1.7], *CELLS)
    lam = TWO_BETS.fractions / 3
    log_wealth = process.log_wealth()
    assert log_wealth.shape == (3, 2, 2, 2)
    for i in range(3):
        assert np.allclose(log_wealth[i, 1, 0], np.log(1 + lam * (1.7 - CELLS[1][i])), atol=1e-14)
        assert np.allclose(log_wealth[i, 1, 1], np.log(1 + lam * (CELLS[0][i] - 1.7)), atol=1e-14)
    assert np.all(log_wealth[:, 0] == 0.0)


def mean_of(log_wealth: Any, bets: BetGrid, weights: Any) -> Any:
    """(N,) log average over policies, sides and bets, by definition."""
    return np.log(np.einsum("njsk,j,k->n", np.exp(log_wealth), weights, 0.5 * bets.weights))


def test_log_mean_is_the_average_by_definition() -> None:
    rng = np.random.default_rng(0)
    process = IntervalWealth(4, 5, 0.0, 1.0, hull_minus=0.1, hull_plus=0.7)
    weights = np.array([0.4, 0.3, 0.1, 0.1, 0.1])
    assert np.allclose(process.log_mean(), 0.0, atol=1e-15)
    for policy in (3, 0, 3, 1):
        process.update(policy, rng.random(40), np.full(4, 0.2), rng.uniform(0.2, 0.7, 4))
        expected = mean_of(process.log_wealth(), process.bets, weights)
        assert np.allclose(process.log_mean(weights), expected, atol=1e-12)
    process.mark_lost(4, 2)
    process.mark_lost(3, 1)
    assert np.allclose(process.log_mean(weights), mean_of(process.log_wealth(), process.bets, weights), atol=1e-12)
    some = np.array([True, False, True, False])
    assert np.isnan(process.log_mean(active=some)).tolist() == [False, True, False, True]


Path_ = list[tuple[int, float]]
Bettor = Callable[[Path_], Any]


def our_components(path: Path_, shift: float = 0.0) -> Any:
    process = wealth_of()
    for policy, value in path:
        process.update(policy, [value], CELLS[0] + shift, CELLS[1] + shift)
    return np.exp(process.log_wealth())


def shifted_components(path: Path_) -> Any:
    """Mutant: the interval is moved by .01."""
    return our_components(path, 0.01)


def by_definition(path: Path_, up: Callable[[float], Any], down: Callable[[float], Any]) -> Any:
    """(N, J, 2, K) from two functions that give the ``lam``-free bets (N,) of an outcome."""
    wealth = np.ones((3, 2, 2, 2))
    for policy, value in path:
        for side, bet in enumerate((up, down)):
            wealth[:, policy, side] *= 1 + TWO_BETS.fractions / 3 * bet(value)[:, None]
    return wealth


def flipped_components(path: Path_) -> Any:
    """Mutant: each bet is on the other side of its end."""
    return by_definition(path, lambda x: CELLS[1] - x, lambda x: x - CELLS[0])


def swapped_components(path: Path_) -> Any:
    """Mutant: the ends of the interval are exchanged."""
    return by_definition(path, lambda x: x - CELLS[0], lambda x: CELLS[1] - x)


def expectation(components: Bettor, laws: list[tuple[list[float], list[float]]], horizon: int) -> Any:
    """E[components] (N, J, 2, K), by enumeration, when the next policy depends on the last outcome."""
    total = np.zeros((3, 2, 2, 2))

    def walk(path: Path_, chance: float, policy: int) -> None:
        nonlocal total
        if len(path) == horizon:
            total = total + chance * components(path)
            return
        for value, p in zip(*laws[policy], strict=True):
            walk([*path, (policy, value)], chance * p, int(value > 0.5))

    walk([], 1.0, 0)
    return total


def law(mean: float) -> tuple[list[float], list[float]]:
    """Two points of the range with the given mean."""
    p = (mean + 1) / 3
    return [-1.0, 2.0], [1 - p, p]


def is_supermartingale_inside_every_interval(components: Bettor) -> bool:
    for i, (low, high) in enumerate(zip(*CELLS, strict=True)):
        for first, second in itertools.product((low, 0.5 * (low + high), high), repeat=2):
            if np.any(expectation(components, [law(first), law(second)], 4)[i] > 1 + 1e-12):
                return False
    return True


def test_components_are_supermartingales_under_adaptive_choices() -> None:
    assert is_supermartingale_inside_every_interval(our_components)


def test_components_are_martingales_at_their_own_end_and_grow_outside() -> None:
    for i, (low, high) in enumerate(zip(*CELLS, strict=True)):
        assert np.allclose(expectation(our_components, [law(high), law(high)], 4)[i, :, 0], 1.0, atol=1e-12)
        assert np.allclose(expectation(our_components, [law(low), law(low)], 4)[i, :, 1], 1.0, atol=1e-12)
        assert np.all(expectation(our_components, [law(high + 0.1), law(high + 0.1)], 4)[i, :, 0] > 1.003)
        assert np.all(expectation(our_components, [law(low - 0.1), law(low - 0.1)], 4)[i, :, 1] > 1.003)


def test_our_components_are_the_definition() -> None:
    path = [(0, -1.0), (1, 2.0), (1, 0.3), (0, 0.7)]
    assert np.allclose(our_components(path), by_definition(path, lambda x: x - CELLS[1], lambda x: CELLS[0] - x))


@pytest.mark.parametrize("mutant", [flipped_components, swapped_components, shifted_components])
def test_interval_mutants_are_caught(mutant: Bettor) -> None:
    assert not is_supermartingale_inside_every_interval(mutant)


def test_predictions_may_depend_on_the_observation_and_values_on_the_cell() -> None:
    rng = np.random.default_rng(8)
    x = rng.uniform(-1, 2, 50)
    minus = rng.uniform(-1, 1, (50, 3))
    plus = minus + rng.uniform(0, 1, (50, 3))
    batch, single, wide = wealth_of(), wealth_of(), wealth_of()
    batch.update(0, x, minus, plus)
    wide.update(0, np.tile(x[:, None], 3), minus, plus)
    for t in range(50):
        single.update(0, x[t : t + 1], minus[t], plus[t])
    assert np.array_equal(batch.mantissa, single.mantissa)
    assert np.array_equal(batch.mantissa, wide.mantissa)
    lam = TWO_BETS.fractions / 3
    direct = np.log(1 + lam * (x[:, None] - plus)[..., None]).sum(axis=0)
    assert np.allclose(batch.log_wealth()[:, 0, 0], direct, atol=1e-12)
    assert np.array_equal(batch.log_mean(), single.log_mean())


def test_ranges_may_differ_by_cell_and_policy() -> None:
    low = np.array([[0.0, -1.0], [0.0, -4.0], [0.0, 0.0]])
    process = IntervalWealth(3, 2, low, low + [[1.0, 2.0]], bets=TWO_BETS)
    signal = low[:, 1] + 0.5
    process.update(1, signal[None, :], low[:, 1] + 0.25, low[:, 1] + 0.25)
    expected = np.log(1 + TWO_BETS.fractions / 2 * 0.25)
    assert np.allclose(process.log_wealth()[:, 1, 0], expected, atol=1e-14)


def test_dead_cells_stand_still() -> None:
    process = wealth_of()
    process.update(0, [0.1, 1.9], *CELLS)
    before = process.log_wealth()
    active = np.array([True, False, True])
    bad = CELLS[0].copy(), CELLS[1].copy()
    bad[0][1] = np.nan
    process.update(0, [0.3], *bad, active)
    moved = np.any(process.log_wealth() != before, axis=(1, 2, 3))
    assert moved.tolist() == [True, False, True]


def test_lost_is_the_smallest_factor_and_replaced_is_never_lost() -> None:
    x = np.random.default_rng(6).uniform(-1, 2, 30)
    least, most = np.array([[0.1], [0.5], [0.3]]), np.array([[0.6], [0.7], [1.4]])
    hulls: dict[str, Any] = {"hull_minus": least, "hull_plus": most}
    lossy, clean = wealth_of(**hulls), wealth_of(**hulls)
    lossy.mark_lost(1, 2)
    lam = TWO_BETS.fractions / 3
    worst_up = 2 * np.log(1 + lam * (-1.0 - most))
    worst_down = 2 * np.log(1 + lam * (least - 2.0))
    assert np.allclose(lossy.log_wealth()[:, 1, 0], worst_up, atol=1e-12)
    assert np.allclose(lossy.log_wealth()[:, 1, 1], worst_down, atol=1e-12)
    for value in np.linspace(-1, 2, 7):
        told = wealth_of(**hulls)
        told.update(1, [value, value], *CELLS)
        assert np.all(told.log_wealth() >= lossy.log_wealth() - 1e-15)
        assert np.all(told.log_mean() >= lossy.log_mean())
    lossy.update(1, x[:10], *CELLS)
    lossy.replace_lost(1, x[10:12], *CELLS)
    clean.update(1, x[:12], *CELLS)
    assert np.array_equal(lossy.mantissa, clean.mantissa)
    assert np.array_equal(lossy.log_mean(), clean.log_mean())


def runs_that_kill_the_true_cell(drop_pending: bool) -> tuple[int, int]:
    runs, asked, failures = 60, 200, 0
    for seed in range(runs):
        reports = late_reports(np.random.default_rng(seed), asked, lambda x: x == 0.0)
        process = IntervalWealth(1, 1, 0.0, 1.0, hull_minus=0.5, hull_plus=0.5)
        top = -math.inf
        for now in range(asked):
            process.mark_lost(0, 0 if drop_pending else 1)
            while reports and reports[0][0] <= now:
                _, value, _ = reports.pop(0)
                (process.update if drop_pending else process.replace_lost)(0, [value], [0.5], [0.5])
            top = max(top, float(process.log_mean()[0]))
        failures += top >= math.log(20)
    return failures, runs


def test_late_reports_do_not_kill_the_true_cell() -> None:
    assert rate_test(*runs_that_kill_the_true_cell(drop_pending=False), 0.05) > 1e-3


def test_dropping_pending_episodes_kills_the_true_cell_in_every_run() -> None:
    failures, runs = runs_that_kill_the_true_cell(drop_pending=True)
    assert failures == runs


def test_narrow_hulls_make_losses_cheap() -> None:
    narrow, wide = wealth_of(hull_minus=0.1, hull_plus=1.5), wealth_of()
    narrow.mark_lost(0)
    wide.mark_lost(0)
    assert np.all(narrow.log_mean() > wide.log_mean())
    assert np.allclose(wide.log_wealth()[:, 0], np.log(1 - TWO_BETS.fractions), atol=1e-12)


def test_thousands_of_lost_episodes_stay_finite() -> None:
    process = wealth_of()
    process.mark_lost(0, 10_000)
    assert np.all(np.isfinite(process.log_mean([1.0, 0.0])))
    assert np.allclose(process.log_mean([0.5, 0.5]), math.log(0.5))


def test_interval_wealth_is_stable_over_ten_million_observations() -> None:
    """Two-point data at the interval's centre; the closed form counts the two outcomes."""
    process = IntervalWealth(1, 1, 0.0, 1.0, bets=TWO_BETS)
    ones, block = 50_100, np.zeros(100_000)
    block[:ones] = 1.0
    for _ in range(100):
        process.update(0, block, [0.4], [0.6])
    n1, n0 = 100 * ones, 100 * (block.size - ones)
    lam = TWO_BETS.fractions
    up = n1 * np.log1p(lam * 0.4) + n0 * np.log1p(-lam * 0.6)
    down = n1 * np.log1p(-lam * 0.6) + n0 * np.log1p(lam * 0.4)
    assert np.allclose(process.log_wealth()[0, 0], [up, down], rtol=1e-11, atol=1e-7)
    assert np.isfinite(process.log_mean()[0])
    weights = np.concatenate([0.5 * TWO_BETS.weights] * 2)
    logs = np.concatenate([up, down]) + np.log(weights)
    assert process.log_mean()[0] == pytest.approx(logs.max() + math.log(np.exp(logs - logs.max()).sum()), rel=1e-11)


def test_a_wrong_cell_dies_and_the_true_one_does_not() -> None:
    """Method, third test: a policy off by .2 is caught although the safe policy's interval is wide around the truth."""
    rng = np.random.default_rng(9)
    process = IntervalWealth(2, 2, 0.0, 1.0)
    for _ in range(1000):
        policy = int(rng.random() < 0.2)
        minus, plus = ([0.4, 0.4], [0.6, 0.6]) if policy == 0 else ([0.3, 0.5], [0.3, 0.5])
        process.update(policy, [float(rng.random() < 0.5)], minus, plus)
    assert process.log_mean()[0] > math.log(1 / 0.05)
    assert process.log_mean()[1] < math.log(1 / 0.05)


def crossings(stretch: float) -> tuple[int, int]:
    """Runs whose average ever reaches 20 while the truth sits on the intervals' ends; ``stretch`` 1 is honest.

    Cells are independent runs: each has its own signal column. Policies alternate with the outcome.
    """
    rng = np.random.default_rng(12)
    runs, steps = 2000, 2000
    process = IntervalWealth(runs, 2, 0.0, 1.0, bets=bet_grid(4, 0.05, 0.9))
    truth = np.array([0.2, 0.7])
    ever = np.zeros(runs, np.bool_)
    for step in range(steps // 20):
        policy = step % 2
        x = (rng.random((20, runs)) < truth[policy]).astype(float)
        end = np.full(runs, truth[policy] + (1 - stretch) * 0.05)
        process.update(policy, x, np.maximum(end - 0.1, 0), end)
        ever |= process.log_mean() >= math.log(20)
    return int(ever.sum()), runs


def test_true_cells_die_at_most_at_their_level() -> None:
    assert rate_test(*crossings(1.0), 0.05) > 1e-3


def test_the_death_check_notices_ends_moved_inside() -> None:
    assert rate_test(*crossings(2.0), 0.05) < 1e-3


def test_copies_are_independent() -> None:
    process = wealth_of()
    process.update(0, [1.0], *CELLS)
    twin = process.copy()
    twin.update(1, [2.0], *CELLS)
    twin.mark_lost(0)
    assert int(process.counts[1]) == 0
    assert np.allclose(process.log_mean(), mean_of(process.log_wealth(), TWO_BETS, [0.5, 0.5]), atol=1e-14)


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda p: p.update(0, [0.0, 2.1], *CELLS), ("SF-ARGUMENT-RANGE", "values[1]", "[-1, 2]", "2.1")),
        (lambda p: p.update(0, [float("nan")], *CELLS), ("SF-ARGUMENT-RANGE", "values[0]", "[-1, 2]", "nan")),
        (
            lambda p: p.update(0, [0.0], CELLS[0], CELLS[1] + 1),
            ("SF-ARGUMENT-RANGE", "[0, 2]", "[0, 2]"),
        ),
        (lambda p: p.update(0, [0.0], CELLS[1], CELLS[0]), ("SF-ARGUMENT-RANGE", "[0, 0]", "[0, 0]", "0.4 and 0.2")),
        (
            lambda p: p.update(0, [0.0], CELLS[0][:2], CELLS[1][:2]),
            ("SF-ARGUMENT-SHAPE", "m_minus", "(N,)", "(n, N)", "3"),
        ),
        (
            lambda p: p.update(0, [[0.0, 1.0]], *CELLS),
            ("SF-ARGUMENT-SHAPE", "values", "(n, N)", "3", "(1, 2)"),
        ),
        (
            lambda p: p.update(0, [0.0] * 2, *(np.tile(c, (3, 1)) for c in CELLS)),
            ("SF-ARGUMENT-SHAPE", "2", "(3, 3) and (3, 3)"),
        ),
        (lambda p: p.update(2, [0.0], *CELLS), ("SF-ARGUMENT-RANGE", "policy", "0", "1", "2")),
        (lambda p: p.update(0, ["a"], *CELLS), ("SF-ARGUMENT-TYPE", "values")),
        (lambda p: p.update(0, [0.0], *CELLS, [1, 0, 1]), ("SF-ARGUMENT-SHAPE", "alive", "(3,)", "int64")),
        (lambda p: p.replace_lost(0, [0.0], *CELLS), ("SF-ARGUMENT-RANGE", "values", "1 for 0")),
        (lambda p: p.mark_lost(0, -2), ("SF-ARGUMENT-RANGE", "count", "0", "-2")),
        (lambda p: p.log_mean([0.5, 0.6]), ("SF-ARGUMENT-SIMPLEX", "policy_weights", "0", "1", "sum 1.1")),
        (lambda p: IntervalWealth(2, 2, 1.0, 1.0), ("SF-ARGUMENT-ORDER", "low", "1 and 1 at (0, 0)")),
        (lambda p: IntervalWealth(2, 2, 0.0, 1.0, hull_plus=1.5), ("SF-ARGUMENT-ORDER", "hull_plus", "1.5 and 1")),
        (lambda p: IntervalWealth(2, 2, 0.0, 1.0, hull_minus=-0.5), ("SF-ARGUMENT-ORDER", "low", "0 and -0.5")),
        (lambda p: IntervalWealth(2, 2, [0.0] * 3, 1.0), ("SF-ARGUMENT-SHAPE", "low", "(N, J)", "(2, 2)", "(3,)")),
        (lambda p: IntervalWealth(0, 2, 0.0, 1.0), ("SF-ARGUMENT-RANGE", "cells", "1", "0")),
    ],
)
def test_bad_interval_arguments_change_nothing(
    call: Callable[[IntervalWealth], object], refusal: tuple[str, ...]
) -> None:
    process = wealth_of()
    process.update(0, [0.3], *CELLS)
    before = process.log_wealth()
    with refused(*refusal):
        call(process)
    assert np.array_equal(process.log_wealth(), before)
    assert process.counts.tolist() == [1, 0]


# --- interval of a mean after a fixed number of values ---------------------------------------------------------------


def plug_in_wealth(x: list[float], ceiling: float, mean: float, delta: float) -> float:
    """The wealth of :func:`mean_interval`'s upper side in a plain loop."""
    total, square, wealth = 0.0, 0.25 * ceiling**2, 1.0
    for t, value in enumerate(x, start=1):
        bet = math.sqrt(2.0 * math.log(1.0 / delta) / (len(x) * square / t))
        wealth *= 1.0 + min(bet, 0.9 / (ceiling - mean)) * (mean - value)
        total += value
        square += (value - (0.5 * ceiling + total) / (t + 1)) ** 2
    return wealth


@pytest.mark.parametrize("low", [0.0, -7.0, 1e3])
def test_interval_ends_are_where_the_wealth_crosses(low: float) -> None:
    rng = np.random.default_rng(5)
    x = (3.0 * rng.beta(2.0, 5.0, 80)).tolist()
    lower, upper = mean_interval(np.array(x) + low, low, low + 3.0, 0.1)
    assert lower < float(np.mean(x)) + low < upper
    for end, data in [(upper - low, x), (3.0 - (lower - low), [3.0 - v for v in x])]:
        assert (
            plug_in_wealth(data, 3.0, end * (1 + 1e-7), 0.05) > 20.0 > plug_in_wealth(data, 3.0, end * (1 - 1e-7), 0.05)
        )


@pytest.mark.parametrize("law", [{0.0: 0.9, 1.0: 0.1}, {0.0: 0.5, 0.5: 0.2, 1.0: 0.3}, {0.2: 0.5, 0.4: 0.5}])
@pytest.mark.parametrize("delta", [0.6, 0.3, 0.1])
def test_interval_covers_the_mean_by_enumeration(law: dict[float, float], delta: float) -> None:
    mean = sum(z * p for z, p in law.items())
    missed_above = missed_below = 0.0
    for sample in itertools.product(law, repeat=6):
        chance = math.prod(law[z] for z in sample)
        lower, upper = mean_interval(sample, 0.0, 1.0, delta)
        missed_above += chance * (upper < mean)
        missed_below += chance * (lower > mean)
    assert max(missed_above, missed_below) <= 0.5 * delta


def test_interval_covers_and_is_narrow() -> None:
    rng, runs, delta = np.random.default_rng(8), 1500, 0.2
    values = (rng.random((runs, 100)) < 0.3).astype(float)
    ends = np.array([mean_interval(row, 0.0, 1.0, delta) for row in values])
    assert rate_test(int((ends[:, 1] < 0.3).sum()), runs, 0.5 * delta) >= 1e-3
    assert rate_test(int((ends[:, 0] > 0.3).sum()), runs, 0.5 * delta) >= 1e-3
    # Hoeffding's half-width; the variance .21 is below its 1/4, and the bets know little at first
    assert np.diff(ends).mean() < 2.05 * math.sqrt(math.log(2.0 / delta) / 200.0)


def test_interval_of_nothing_is_the_range_and_of_extremes_stays_inside() -> None:
    assert mean_interval([], -1.0, 2.0, 0.1) == (-1.0, 2.0)
    lower, upper = mean_interval([2.0] * 500, -1.0, 2.0, 0.1)
    assert 1.97 < lower < upper == 2.0
    lower, upper = mean_interval([-1.0] * 500, -1.0, 2.0, 0.1)
    assert -1.0 == lower < upper < -0.97


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda: mean_interval([0.5, 1.5], 0.0, 1.0, 0.1), ("SF-ARGUMENT-RANGE", "values[1]", "0", "1", "1.5")),
        (lambda: mean_interval([math.nan], 0.0, 1.0, 0.1), ("SF-ARGUMENT-RANGE", "values[0]", "nan")),
        (lambda: mean_interval([0.5], 1.0, 1.0, 0.1), ("SF-ARGUMENT-RANGE", "high", "1")),
        (lambda: mean_interval([0.5], -1e308, 1e308, 0.1), ("SF-ARGUMENT-FINITE", "high", "low")),
        (lambda: mean_interval([0.5], 0.0, 1.0, 1.0), ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "1")),
    ],
)
def test_interval_refuses(call: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        call()
