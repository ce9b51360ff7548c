"""Bounds from order statistics against exact enumeration with fractions, closed forms and seeded failure rates."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from surefoot.stats.binomial import rate_test
from surefoot.stats.order_statistics import (
    exceedance_threshold,
    quantile_lower,
    quantile_lower_rank,
    quantile_upper,
    quantile_upper_rank,
)
from tests.refusals import refused

LAWS = [
    {0.0: Fraction(1, 2), 1.0: Fraction(3, 10), math.inf: Fraction(1, 5)},
    {0.0: Fraction(1, 10), 1.0: Fraction(1, 10), 2.0: Fraction(4, 5)},
    {-math.inf: Fraction(1, 4), 3.0: Fraction(1, 2), 4.0: Fraction(1, 4)},
]


def tail(least: int, trials: int, rate: Fraction) -> Fraction:
    """``P(Bin(trials, rate) >= least)``."""
    terms = (math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(max(least, 0), trials + 1))
    return sum(terms, Fraction(0))


@pytest.mark.parametrize("count", [1, 2, 5, 13, 40])
@pytest.mark.parametrize("q", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("delta", [0.3, 0.05])
def test_ranks_are_the_tightest_that_the_binomial_law_allows(count: int, q: float, delta: float) -> None:
    good = [r for r in range(1, count + 1) if tail(r, count, Fraction(q)) <= Fraction(delta)]
    assert quantile_upper_rank(count, q, delta) == min(good, default=None)
    # the s-th smallest is above the quantile if fewer than s values are at or below it
    good = [s for s in range(1, count + 1) if 1 - tail(s, count, Fraction(q)) <= Fraction(delta)]
    assert quantile_lower_rank(count, q, delta) == max(good, default=None)


@pytest.mark.parametrize("count", [1, 7, 30])
@pytest.mark.parametrize("q", [0.25, 0.6])
def test_the_two_sides_mirror_each_other(count: int, q: float) -> None:
    upper, lower = quantile_upper_rank(count, q, 0.1), quantile_lower_rank(count, 1.0 - q, 0.1)
    assert (upper is None) == (lower is None)
    if upper is not None and lower is not None:
        assert upper + lower == count + 1


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("q", [0.3, 0.5, 0.6, 0.8])
@pytest.mark.parametrize("delta", [0.45, 0.2, 0.05])
def test_bounds_hold_for_laws_with_atoms_by_enumeration(law: dict[float, Fraction], q: float, delta: float) -> None:
    """All 3^6 samples with their exact probabilities: each statement fails with probability at most delta."""
    failed_upper = failed_lower = Fraction(0)
    for sample in itertools.product(law, repeat=6):
        chance = math.prod((law[z] for z in sample), start=Fraction(1))
        upper, lower = quantile_upper(sample, q, delta), quantile_lower(sample, q, delta)
        failed_upper += chance * (sum(p for z, p in law.items() if z <= upper) < q)
        failed_lower += chance * (sum(p for z, p in law.items() if z < lower) > q)
    assert failed_upper <= delta
    assert failed_lower <= delta


def test_a_rank_less_would_fail_for_a_continuous_law() -> None:
    """For uniform values ``P(Z_(r) < q) = P(Beta(r, m + 1 - r) < q)``: simulated, the rank is right and its neighbour is not."""
    rng, m, q, delta, runs = np.random.default_rng(0), 60, 0.8, 0.05, 4000
    ordered = np.sort(rng.random((runs, m)), axis=1)
    upper, lower = quantile_upper_rank(m, q, delta), quantile_lower_rank(m, q, delta)
    assert upper is not None
    assert lower is not None
    failures = int((ordered[:, upper - 1] < q).sum()), int((ordered[:, lower - 1] > q).sum())
    mutants = int((ordered[:, upper - 2] < q).sum()), int((ordered[:, lower] > q).sum())
    assert all(rate_test(count, runs, delta) >= 1e-3 for count in failures)
    assert all(rate_test(count, runs, delta) < 1e-3 for count in mutants)


def test_what_was_not_reached_counts_as_infinite() -> None:
    reached, rank = list(range(100)), quantile_upper_rank(120, 0.75, 0.05)
    assert rank is not None
    assert rank <= 100
    assert quantile_upper([*reached, *[math.inf] * 20], 0.75, 0.05) == rank - 1
    assert quantile_upper([*reached, *[math.inf] * 20], 0.85, 0.05) == math.inf
    assert quantile_lower([math.inf] * 60, 0.5, 0.05) == math.inf


def test_too_few_values_say_nothing() -> None:
    assert quantile_upper([], 0.5, 0.05) == math.inf
    assert quantile_lower([], 0.5, 0.05) == -math.inf
    assert quantile_upper([1.0] * 58, 0.95, 0.05) == math.inf
    assert quantile_upper([1.0] * 59, 0.95, 0.05) == 1.0
    assert quantile_lower([1.0] * 58, 0.05, 0.05) == -math.inf
    assert quantile_lower([1.0] * 59, 0.05, 0.05) == 1.0
    assert exceedance_threshold([], 0.05) == math.inf


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3, 0.7, 0.99, 1e-9])
def test_threshold_rank_is_exact(alpha: float) -> None:
    """Where ``(1 - alpha) (m + 1)`` is whole, a rounding error must not move the rank."""
    for m in range(120):
        percent = round(alpha * 100)
        rank = m + 1 if alpha == 1e-9 else -(-(100 - percent) * (m + 1) // 100)
        assert exceedance_threshold(np.arange(1, m + 1), alpha) == (rank if rank <= m else math.inf)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("alpha", [0.15, 0.2, 0.4, 0.6])
def test_threshold_is_rarely_exceeded_by_enumeration(law: dict[float, Fraction], alpha: float) -> None:
    exceeded = Fraction(0)
    for sample in itertools.product(law, repeat=6):
        chance = math.prod((law[z] for z in sample), start=Fraction(1))
        exceeded += chance * (sample[-1] > exceedance_threshold(sample[:-1], alpha))
    assert exceeded <= alpha


def test_threshold_is_as_low_as_can_be() -> None:
    """Without ties the last of m + 1 exceeds the r-th smallest of the others with probability exactly ``1 - r / (m + 1)``."""
    for m, alpha in [(4, 0.2), (4, 0.45), (5, 0.34)]:
        orders = list(itertools.permutations(range(m + 1)))
        exceeded = sum(order[-1] > exceedance_threshold(order[:-1], alpha) for order in orders)
        rank = math.ceil((1 - alpha) * (m + 1))
        assert Fraction(exceeded, len(orders)) == 1 - Fraction(rank, m + 1) <= alpha


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda: quantile_upper([1.0, math.nan], 0.5, 0.1), ("SF-ARGUMENT-FINITE", "values[1]", "nan")),
        (lambda: quantile_upper([[1.0]], 0.5, 0.1), ("SF-ARGUMENT-SHAPE", "values")),
        (lambda: quantile_lower(["a"], 0.5, 0.1), ("SF-ARGUMENT-TYPE", "values")),  # type: ignore[list-item]
        (lambda: quantile_lower_rank(5, 1.0, 0.1), ("SF-ARGUMENT-RANGE", "q", "(0, 1)", "1")),
        (lambda: quantile_upper_rank(5, 0.5, 0.0), ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "0")),
        (lambda: quantile_upper_rank(-1, 0.5, 0.1), ("SF-ARGUMENT-RANGE", "count", "0", "-1")),
        (lambda: exceedance_threshold([1.0], 1.0), ("SF-ARGUMENT-RANGE", "alpha", "(0, 1)", "1")),
    ],
)
def test_bad_arguments_are_named(call: object, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        call()  # type: ignore[operator]
