"""The monitor: a martingale at the limit, silent under feasible mixtures, loud under others."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.deploy.monitor import MONITOR_BETS, Monitor
from surefoot.stats.binomial import rate_test

LEVEL = 0.1


def wealth(monitor: Monitor) -> float:
    """The average that is compared with 1 / level."""
    return float(np.exp(monitor._log_wealth).mean())


@pytest.mark.parametrize(("limit", "dear"), [(0.5, 2.0), (1.5, 90.0), (0.25, 0.5)])
def test_the_wealth_is_a_martingale_at_the_limit(limit: float, dear: float) -> None:
    """All 2^8 sequences of two-point costs with mean exactly d, weighted by their probabilities."""
    p, mean = limit / dear, 0.0
    for sequence in itertools.product([0.0, dear], repeat=8):
        monitor = Monitor(np.array([limit]), np.array([100.0]), 1e-9)
        monitor.update(np.array(sequence)[:, None])
        hits = sum(c > 0 for c in sequence)
        mean += p**hits * (1 - p) ** (8 - hits) * wealth(monitor)
    assert abs(mean - 1.0) < 1e-9


@given(st.floats(0.0, 5.0))
def test_one_episode_moves_it_by_the_stated_factor(cost: float) -> None:
    monitor = Monitor(np.array([2.0]), np.array([100.0]), LEVEL)
    monitor.update(np.array([[cost]]))
    assert abs(wealth(monitor) - np.mean([1.0 + f / 2.0 * (cost - 2.0) for f in MONITOR_BETS])) < 1e-12


def test_fractions_keep_factors_positive() -> None:
    assert 0.0 < min(MONITOR_BETS) and max(MONITOR_BETS) < 1.0
    monitor = Monitor(np.array([2.0]), np.array([100.0]), LEVEL)
    monitor.update(np.zeros((100_000, 1)))
    assert np.isfinite(monitor._log_wealth).all()
    assert not monitor.rejected


def test_a_limit_of_zero_is_refuted_by_any_cost_and_by_no_other() -> None:
    monitor = Monitor(np.array([0.0]), np.array([10.0]), LEVEL)
    monitor.update(np.zeros((1000, 1)))
    assert wealth(monitor) == 1.0
    monitor.update(np.full((40, 1), 10.0))
    assert monitor.rejected


def test_no_constraint_no_alarm() -> None:
    monitor = Monitor(np.zeros(0), np.zeros(0), LEVEL)
    monitor.update(np.zeros((5, 0)))
    monitor.forfeit()
    assert not monitor.rejected


RUNS, EPISODES = 3000, 200


def false_alarms(limit: float, draw: object, runs: int = RUNS) -> int:
    rng, alarms = np.random.default_rng(4), 0
    for _ in range(runs):
        monitor = Monitor(np.array([limit]), np.array([20.0]), LEVEL)
        monitor.update(draw(rng))  # type: ignore[operator]
        alarms += monitor.rejected
    return alarms


def test_false_alarms_stay_below_the_level_at_the_limit() -> None:
    alarms = false_alarms(1.0, lambda rng: np.where(rng.random((EPISODES, 1)) < 0.25, 4.0, 0.0))
    assert rate_test(alarms, RUNS, LEVEL) > 1e-3
    assert alarms > 0.1 * LEVEL * RUNS, "a monitor that never speaks would pass as well"


def test_a_feasible_mixture_of_an_infeasible_policy_and_a_safe_one_is_no_violation() -> None:
    """Policy 1 costs 3 on average, the safe one 0.5; at weight .2 the mixture costs exactly the limit."""

    def draw(rng: np.random.Generator) -> object:
        dear = rng.random((EPISODES, 1)) < 0.2
        return np.where(
            dear,
            np.where(rng.random((EPISODES, 1)) < 0.75, 4.0, 0.0),
            np.where(rng.random((EPISODES, 1)) < 0.125, 4.0, 0.0),
        )

    assert rate_test(false_alarms(1.0, draw), RUNS, LEVEL) > 1e-3


def test_a_mutant_whose_bet_depends_on_the_draw_alarms_falsely() -> None:
    """Betting only on episodes of the infeasible policy tests another hypothesis, which is false here."""
    rng, alarms = np.random.default_rng(4), 0
    for _ in range(300):
        monitor = Monitor(np.array([1.0]), np.array([20.0]), LEVEL)
        monitor.update(np.where(rng.random((EPISODES // 5, 1)) < 0.75, 4.0, 0.0))
        alarms += monitor.rejected
    assert rate_test(alarms, 300, LEVEL) < 1e-3


def test_violating_mixtures_are_noticed() -> None:
    """Half as much again as the limit: nine runs of ten within 1000 episodes."""
    rng, alarms = np.random.default_rng(4), 0
    for _ in range(100):
        monitor = Monitor(np.array([1.0]), np.array([20.0]), LEVEL)
        monitor.update(np.where(rng.random((1000, 1)) < 0.375, 4.0, 0.0))
        alarms += monitor.rejected
    assert alarms >= 90


def test_one_of_several_constraints_is_enough() -> None:
    rng = np.random.default_rng(0)
    monitor = Monitor(np.array([1.0, 1.0]), np.array([20.0, 20.0]), LEVEL)
    monitor.update(np.column_stack([np.zeros(2000), np.where(rng.random(2000) < 0.5, 4.0, 0.0)]))
    assert monitor.rejected


def test_it_is_read_after_every_episode_not_only_at_the_end_of_a_batch() -> None:
    costs = np.concatenate([np.full((60, 1), 4.0), np.zeros((4000, 1))])
    monitor = Monitor(np.array([1.0]), np.array([20.0]), LEVEL)
    monitor.update(costs)
    assert monitor.rejected
    assert wealth(monitor) < 1.0 / LEVEL


@given(st.integers(0, 10**6))
def test_batches_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs = rng.exponential(1.2, size=(60, 2))
    one, two = (Monitor(np.array([1.0, 1.4]), np.array([20.0, 20.0]), LEVEL) for _ in range(2))
    one.update(costs)
    for part in np.array_split(costs, 7):
        two.update(part)
    np.testing.assert_allclose(one._log_wealth, two._log_wealth, atol=1e-10)
    assert one.rejected == two.rejected


def test_a_lost_episode_counts_like_one_that_cost_nothing() -> None:
    one, two, three = (Monitor(np.array([1.0]), np.array([20.0]), LEVEL) for _ in range(3))
    one.forfeit()
    two.update(np.zeros((1, 1)))
    three.update(np.full((1, 1), 1e-3))
    np.testing.assert_allclose(one._log_wealth, two._log_wealth)
    assert (one._log_wealth < three._log_wealth).all()


@pytest.mark.parametrize("level", [0.01, 0.05])
def test_the_threshold_is_one_over_the_level(level: float) -> None:
    """Against the average of plain products; half the evidence would reject several episodes sooner."""
    limit, cost = 1.5, 1.65
    bets = np.asarray(MONITOR_BETS) / limit
    wealth = np.mean((1.0 + bets[None] * (cost - limit)) ** np.arange(1, 400)[:, None], axis=1)
    first = int(np.flatnonzero(wealth >= 1.0 / level)[0]) + 1
    assert int(np.flatnonzero(wealth >= 0.5 / level)[0]) + 1 < first - 2
    one = Monitor(np.array([limit]), np.array([10.0]), level)
    one.update(np.full((first - 1, 1), cost))
    assert not one.rejected
    one.update(np.array([[cost]]))
    assert one.rejected
