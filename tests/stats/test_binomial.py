"""Clopper-Pearson limits against the defining binomial sums, computed with exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from surefoot.stats import binomial
from tests.refusals import refused

CASES = [(0, 1), (1, 1), (0, 10), (3, 10), (9, 10), (10, 10), (1, 60), (30, 60)]
LEVELS = [0.5, 0.05, 0.01, 1e-6]


def tail_at_most(failures: int, trials: int, rate: float) -> float:
    p = Fraction(rate)
    return float(sum(math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(failures + 1)))


@pytest.mark.parametrize(("failures", "trials"), CASES)
@pytest.mark.parametrize("alpha", LEVELS)
def test_upper_limit_solves_its_defining_equation(failures: int, trials: int, alpha: float) -> None:
    upper = binomial.clopper_pearson_upper(failures, trials, alpha)
    if failures == trials:
        assert upper == 1.0
    else:
        assert tail_at_most(failures, trials, upper) == pytest.approx(alpha, rel=1e-9)


@pytest.mark.parametrize(("failures", "trials"), CASES)
@pytest.mark.parametrize("alpha", LEVELS)
def test_lower_limit_mirrors_the_upper_limit(failures: int, trials: int, alpha: float) -> None:
    lower = binomial.clopper_pearson_lower(failures, trials, alpha)
    assert lower == pytest.approx(1 - binomial.clopper_pearson_upper(trials - failures, trials, alpha), abs=1e-12)


@pytest.mark.parametrize("alpha", LEVELS)
@pytest.mark.parametrize("rate", [0.02, 0.3, 0.77])
def test_upper_limit_covers_every_rate_exactly(alpha: float, rate: float) -> None:
    """Coverage by full enumeration of the outcomes, not by simulation."""
    trials, missed = 25, 0.0
    for k in range(trials + 1):
        if binomial.clopper_pearson_upper(k, trials, alpha) < rate:
            missed += math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k)
    assert missed <= alpha * (1 + 1e-12)


def test_no_trials_say_nothing() -> None:
    assert binomial.clopper_pearson(0, 0, 0.05) == (0.0, 1.0)
    assert binomial.clopper_pearson_upper(0, 0, 0.05) == 1.0
    assert binomial.rate_test(0, 0, 0.1) == 1.0


def test_two_sided_interval_spends_half_on_each_side() -> None:
    low, high = binomial.clopper_pearson(4, 40, 0.1)
    assert low == binomial.clopper_pearson_lower(4, 40, 0.05)
    assert high == binomial.clopper_pearson_upper(4, 40, 0.05)


def test_huge_samples_and_tiny_levels_keep_relative_precision() -> None:
    assert binomial.clopper_pearson_upper(0, 10**12, 1e-12) == pytest.approx(-math.log(1e-12) * 1e-12, rel=1e-9)
    # k = 1: (1-p)^m (1 + m p/(1-p)) = alpha, in the Poisson limit exp(-x)(1+x) = alpha at x = m p
    x = 10**12 * binomial.clopper_pearson_upper(1, 10**12, 1e-12)
    assert math.log1p(x) - x == pytest.approx(math.log(1e-12), rel=1e-9)


def test_trials_without_failure() -> None:
    assert binomial.trials_without_failure(0.01, 0.01) == 459
    assert binomial.clopper_pearson_upper(0, 459, 0.01) <= 0.01 < binomial.clopper_pearson_upper(0, 458, 0.01)
    assert binomial.trials_without_failure(0.99, 0.5) == 1


@pytest.mark.parametrize(("failures", "trials", "rate"), [(3, 20, 0.05), (20, 20, 0.9), (1, 1000, 1e-3)])
def test_rate_test_is_the_exact_upper_tail(failures: int, trials: int, rate: float) -> None:
    exact = 1 - Fraction(tail_at_most(failures - 1, trials, rate))
    assert binomial.rate_test(failures, trials, rate) == pytest.approx(float(exact), rel=1e-9)


def test_rate_test_decides_as_the_lower_limit_does() -> None:
    for failures in range(1, 30):
        rejected = binomial.rate_test(failures, 100, 0.05) < 1e-3
        assert rejected == (binomial.clopper_pearson_lower(failures, 100, 1e-3) > 0.05)


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda: binomial.clopper_pearson_upper(3, 2, 0.1), ("SF-ARGUMENT-RANGE", "failures", "0", "2", "3")),
        (lambda: binomial.clopper_pearson_upper(-1, 2, 0.1), ("SF-ARGUMENT-RANGE", "failures", "0")),
        (lambda: binomial.clopper_pearson_upper(1, 2, 0.0), ("SF-ARGUMENT-RANGE", "alpha", "(0, 1)", "0")),
        (lambda: binomial.clopper_pearson(1, 2, 1.5), ("SF-ARGUMENT-RANGE", "alpha", "(0, 1)", "1.5")),
        (lambda: binomial.rate_test(1, 2, 1.5), ("SF-ARGUMENT-RANGE", "rate", "[0, 1]", "1.5")),
        (lambda: binomial.trials_without_failure(0.0, 0.1), ("SF-ARGUMENT-RANGE", "p_max", "(0, 1)", "0")),
        (lambda: binomial.clopper_pearson_lower(1.0, 2, 0.1), ("SF-ARGUMENT-TYPE", "failures")),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_named(call: object, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        call()  # type: ignore[operator]


@pytest.mark.parametrize("alpha", [0.3, 1e-2, 1e-6, 1e-8, 1e-12])
@pytest.mark.parametrize(("failures", "trials"), [(0, 200), (3, 200), (12, 5000)])
def test_what_simulation_adds_is_enough_at_every_error(failures: int, trials: int, alpha: float) -> None:
    """A failure is noticed with probability 1 - beta only: the rate is at most limit / (1 - beta), and what is stated once must cover that."""
    for noticed in (0.9, 0.5):
        added = (1.0 / noticed - 1.0) * binomial.clopper_pearson_upper(failures, trials, 1e-6)
        exact = min(1.0, binomial.clopper_pearson_upper(failures, trials, alpha) / noticed)
        found = binomial.simulated_upper(failures, trials, alpha, added)
        assert found >= exact * (1.0 - 1e-12)
        if alpha <= 1e-6:
            assert found == pytest.approx(exact)
    # What shared episodes add does not depend on the error; it is never made smaller.
    assert binomial.simulated_upper(failures, trials, alpha, 0.005) >= 0.005 + binomial.clopper_pearson_upper(
        failures, trials, alpha
    )


# --- tests of a rate --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trials", [1, 7, 40])
@pytest.mark.parametrize(("rate", "delta"), [(0.05, 0.2), (0.3, 0.05), (0.5, 0.5), (0.9, 0.01)])
def test_rejections_follow_the_exact_lower_tail(trials: int, rate: float, delta: float) -> None:
    exact = [tail_at_most(k, trials, rate) <= delta for k in range(trials + 1)]
    assert [binomial.rejects(k, trials, rate, delta) for k in range(trials + 1)] == exact
    assert binomial.failures_allowed(trials, rate, delta) == max(
        (k for k, yes in enumerate(exact) if yes), default=None
    )


def test_trials_needed_is_the_smallest_number() -> None:
    """The published table at 5% and 5%, and its defining property by exact sums."""
    found = [binomial.trials_needed(k, 0.05, 0.05) for k in (0, 1, 2, 5, 10, 16)]
    assert found == [59, 93, 124, 208, 336, 482]
    for k, m in zip((0, 1, 2, 5, 10, 16), found):
        assert tail_at_most(k, m, 0.05) <= 0.05 < tail_at_most(k, m - 1, 0.05)
        assert binomial.failures_allowed(m, 0.05, 0.05) == k
    assert binomial.trials_needed(0, 0.01, 0.01) == binomial.trials_without_failure(0.01, 0.01)
    assert binomial.trials_needed(3, 0.99, 0.5) == 4  # P(Bin(4, .99) <= 3) = 1 - .99^4 = .04


def test_rejection_is_the_upper_limit_at_most_the_rate() -> None:
    for failures in range(30):
        limit = binomial.clopper_pearson_upper(failures, 400, 0.05)
        assert binomial.rejects(failures, 400, 0.05, 0.05) == (limit <= 0.05)


def test_walk_stops_at_the_first_refusal() -> None:
    walk = binomial.fixed_sequence
    assert walk([0, 16, 3, 17, 0], 500, 0.05, 0.05) == 2
    assert walk([17, 0, 0], 500, 0.05, 0.05) is None
    assert walk([0, 0], 500, 0.05, 0.05) == 1
    assert walk([], 500, 0.05, 0.05) is None
    assert walk([0], 58, 0.05, 0.05) is None


def test_walk_chooses_a_bad_setting_with_probability_at_most_delta() -> None:
    """Runs of nested violations: the third setting is at the rate. Mutants that pass more failures, or take the best anywhere, are caught."""
    rng, trials, runs, rates = np.random.default_rng(3), 120, 3000, np.array([0.02, 0.06, 0.1, 0.12, 0.13])
    counts = (rng.random((runs, trials))[:, :, None] < rates).sum(axis=1)
    chosen = [binomial.fixed_sequence(row.tolist(), trials, 0.1, 0.1) for row in counts]
    assert binomial.rate_test(sum(c is not None and c >= 2 for c in chosen), runs, 0.1) >= 1e-3
    assert sum(c is not None for c in chosen) > 0.9 * runs
    more = [binomial.fixed_sequence((row - 1).clip(0).tolist(), trials, 0.1, 0.1) for row in counts]
    assert binomial.rate_test(sum(c is not None and c >= 2 for c in more), runs, 0.1) < 1e-3
    independent = (rng.random((runs, trials, 8)) < 0.1).sum(axis=1)
    anywhere = sum(any(binomial.rejects(int(k), trials, 0.1, 0.1) for k in row) for row in independent[:600])
    assert binomial.rate_test(anywhere, 600, 0.1) < 1e-3


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda: binomial.rejects(3, 2, 0.1, 0.1), ("SF-ARGUMENT-RANGE", "failures", "2", "3")),
        (lambda: binomial.rejects(1, 2, 0.0, 0.1), ("SF-ARGUMENT-RANGE", "rate", "(0, 1)", "0")),
        (lambda: binomial.trials_needed(-1, 0.1, 0.1), ("SF-ARGUMENT-RANGE", "failures", "0", "-1")),
        (lambda: binomial.failures_allowed(5, 0.1, 1.0), ("SF-ARGUMENT-RANGE", "(0, 1)", "1")),
        (lambda: binomial.fixed_sequence([6], 5, 0.1, 0.1), ("SF-ARGUMENT-RANGE", "failures", "5", "6")),
    ],
)
def test_bad_arguments_of_rate_tests_are_named(call: object, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        call()  # type: ignore[operator]
