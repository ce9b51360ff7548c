"""Bounds on running means: exact supermartingales, an oracle that solves the same equation another way, and coverage while the mean moves."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from surefoot.stats.betting import mean_interval
from surefoot.stats.binomial import clopper_pearson
from surefoot.stats.running_mean import RunningMeanBounds
from tests.refusals import refused


def wealth(bounds: RunningMeanBounds, values: list[float], means: list[float], *, lower: bool) -> float:
    """The mixture's wealth with the true conditional means put in, written out from the definition."""
    a, low, high = float(bounds.anchor[0]), float(bounds.low[0]), float(bounds.high[0])
    total = 0.0
    for c in bounds.fractions:
        factor = 1.0
        for x, mu in zip(values, means, strict=True):
            y, m = (
                ((x - a) / (a - low), (mu - a) / (a - low)) if lower else ((a - x) / (high - a), (a - mu) / (high - a))
            )
            factor *= (1.0 + c * y) * math.exp(-c * m)
        total += factor / bounds.fractions.size
    return total


@pytest.mark.parametrize("lower", [False, True])
def test_wealth_is_a_supermartingale_while_the_mean_depends_on_the_past(lower: bool) -> None:
    """By enumeration: the mean of the next outcome is .1 or .8 of the range, depending on the last one."""
    bounds = RunningMeanBounds([-1.0], [4.0], [0.5])
    for length in range(1, 6):
        expected = 0.0
        for path in product((0, 1), repeat=length):
            chance, means, p = 1.0, [], 0.3
            for step in path:
                means.append(-1.0 + 5.0 * p)
                chance *= p if step else 1.0 - p
                p = 0.8 if step else 0.1
            expected += chance * wealth(bounds, [-1.0 + 5.0 * step for step in path], means, lower=lower)
        assert expected <= 1.0 + 1e-12
    # It is no martingale of anything smaller: with the anchor at the mean it is one.
    fair = RunningMeanBounds([0.0], [1.0], [0.5])
    half = [0.5 * (wealth(fair, [0.0], [0.5], lower=lower) + wealth(fair, [1.0], [0.5], lower=lower))]
    assert half[0] == pytest.approx(1.0, abs=1e-12)


def test_bounds_are_where_the_wealth_crosses() -> None:
    """Bisection on the written-out wealth, with all means equal."""
    values = list(np.random.default_rng(0).random(40) ** 3 * 5.0 - 1.0)
    bounds = RunningMeanBounds([-1.0], [4.0], [0.5])
    low, high = bounds.bounds(bounds.observe(bounds.start, np.array(values)[:, None]), 0.1)
    for lower, found in ((False, high[0]), (True, low[0])):
        inside, outside = (0.5, 40.0) if not lower else (0.5, -40.0)
        for _ in range(80):
            middle = 0.5 * (inside + outside)
            crossed = wealth(bounds, values, [middle] * len(values), lower=lower) >= 20.0
            inside, outside = (inside, middle) if crossed else (middle, outside)
        assert found == pytest.approx(min(max(outside, -1.0), 4.0), rel=1e-6)


def test_order_and_batches_do_not_matter_and_missing_values_count_at_their_worst() -> None:
    rng = np.random.default_rng(1)
    values = np.column_stack([rng.random(60), 3.0 * rng.random(60)])
    bounds = RunningMeanBounds([0.0, 0.0], [1.0, 3.0], [0.4, 2.0])
    whole = bounds.observe(bounds.start, values)
    parts = bounds.joined(bounds.observe(bounds.start, values[30:]), bounds.observe(bounds.start, values[:30]))
    assert whole.n == parts.n == 60
    np.testing.assert_allclose(np.array(bounds.bounds(whole, 0.05)), np.array(bounds.bounds(parts, 0.05)), rtol=1e-12)
    low, high = bounds.bounds(whole, 0.05, missing=5)
    worst_low, _ = bounds.bounds(bounds.observe(whole, np.zeros((5, 2))), 0.05)
    _, worst_high = bounds.bounds(bounds.observe(whole, np.tile([1.0, 3.0], (5, 1))), 0.05)
    np.testing.assert_allclose(low, worst_low, rtol=1e-9)
    np.testing.assert_allclose(high, worst_high, rtol=1e-9)


def test_without_observations_the_interval_is_the_range() -> None:
    bounds = RunningMeanBounds([-2.0], [3.0], [0.0])
    low, high = bounds.bounds(bounds.start, 0.05)
    assert (low[0], high[0]) == (-2.0, 3.0)


def test_it_is_not_much_wider_than_bounds_on_a_mean_that_stays() -> None:
    rng = np.random.default_rng(2)
    values = np.where(rng.random(4000) < 0.15, np.minimum(rng.exponential(9.0, 4000), 30.0), 0.0)
    bounds = RunningMeanBounds([0.0], [30.0], [1.5])
    low, high = bounds.bounds(bounds.observe(bounds.start, values[:, None]), 0.05)
    fixed = mean_interval(values, 0.0, 30.0, 0.05)
    assert low[0] < values.mean() < high[0]
    assert high[0] - low[0] < 1.7 * (fixed[1] - fixed[0])  # time-uniform against a fixed n


def deployment(rng: np.random.Generator, episodes: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, n) costs of 0 or 1 and their conditional means, K runs; whoever was lucky becomes bold."""
    runs = 400
    costs, means = np.empty((runs, episodes)), np.empty((runs, episodes))
    total = np.zeros(runs)
    for t in range(episodes):
        means[:, t] = np.where(total <= 0.2 * t, 0.35, 0.05)
        costs[:, t] = rng.random(runs) < means[:, t]
        total += costs[:, t]
    return costs, means


@pytest.mark.statistical
@pytest.mark.parametrize("anchor", [0.2, 0.5])
def test_the_average_of_conditional_means_stays_inside_at_all_times(anchor: float) -> None:
    """400 runs whose means follow the past; looked at after every tenth episode. At alpha = 20% each side errs in at most 10% of them."""
    costs, means = deployment(np.random.default_rng(3), 400)
    bounds = RunningMeanBounds([0.0], [1.0], [anchor])
    above = below = 0
    for cost, mean in zip(costs, means, strict=True):
        state, states = bounds.start, []
        for t in range(0, 400, 10):
            state = bounds.observe(state, cost[t : t + 10, None])
            states.append(state)
        low, high = bounds.bounds_of(states, 0.2, [0] * len(states))
        truth = (np.cumsum(mean) / np.arange(1, 401))[9::10]
        above += bool((truth > high[:, 0]).any())
        below += bool((truth < low[:, 0]).any())
    for errors in (above, below):
        assert clopper_pearson(errors, 400, 1e-3)[0] <= 0.1
    assert above + below > 0  # the intervals are not idle


@pytest.mark.parametrize(
    ("arguments", "code", "name"),
    [
        (([0.0], [1.0], [1.0]), "SF-ARGUMENT-ORDER", "anchor"),
        (([0.0], [0.0], [0.0]), "SF-ARGUMENT-ORDER", "anchor"),
        (([0.0, 0.0], [1.0], [0.5]), "SF-ARGUMENT-SHAPE", "high"),
    ],
)
def test_ranges_and_anchors_are_checked(arguments: tuple[list[float], ...], code: str, name: str) -> None:
    with refused(code, name):
        RunningMeanBounds(*arguments)


def test_values_outside_the_range_are_refused() -> None:
    bounds = RunningMeanBounds([0.0], [1.0], [0.5])
    with refused("SF-ARGUMENT-RANGE", "values"):
        bounds.observe(bounds.start, [[1.1]])
