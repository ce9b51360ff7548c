"""Joint bets on returns and costs: fair for the whole box of means, positive on the whole box of outcomes, fixed before the episode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from surefoot import PolicySet
from surefoot.arrays import FloatArray
from surefoot.deploy.evidence import joint
from surefoot.deploy.evidence.alternatives import Alternatives
from surefoot.deploy.evidence.joint import LARGEST_LOSS, JointWealth, Scale
from surefoot.deploy.evidence.predictions import PredictionTable
from surefoot.stats.binomial import rate_test
from tests.deploy.mutants import kelly
from tests.deploy.worlds import corners, hand_made, table_of, two_point

seeds = st.integers(0, 10**6)
Bet = Callable[..., tuple[FloatArray, float]]


def random_table(
    rng: np.random.Generator, signals: int, *, cells: int = 2, policies: int = 2, states: int = 2
) -> PredictionTable:
    """Boxes and points in and around a random outcome range; some intervals are points, some reach over the range."""
    low = rng.normal(size=signals)
    high = low + 10.0 ** rng.uniform(-1, 2, signals)
    shape = (cells, policies, signals, states + 1)
    unit = (low[:, None], (high - low)[:, None])
    center = unit[0] + unit[1] * rng.random((cells + 1, *shape[1:]))
    half = unit[1] * rng.choice([0.0, 0.02, 0.3], size=shape) * rng.random(shape)
    return PredictionTable(center[:cells] - half, center[:cells] + half, center, np.arange(states), low, high)


def random_inverse(rng: np.random.Generator, table: PredictionTable) -> FloatArray:
    """(B+1, F, F) inverse covariances, some of them strongly correlated."""
    size, count = table.low.size, table.states.size + 1
    mixing = rng.normal(size=(count, size, size)) * rng.choice([0.05, 1.0], size=(count, 1, size))
    scale = (0.3 * (table.high - table.low))[None, :, None] * mixing
    result: FloatArray = np.linalg.inv(scale @ scale.transpose(0, 2, 1) + 1e-6 * np.diag((table.high - table.low) ** 2))
    return result


def pair(alternatives: int = 1, *, cells: int = 2, first: int = 1) -> Alternatives:
    """Every cell has the points ``first, first + 1, ...`` as alternatives."""
    index = np.tile(np.arange(first, first + alternatives), (cells, 1))
    return Alternatives(index, np.full(index.shape, -np.log(alternatives)))


def factor(
    table: PredictionTable,
    alternatives: Alternatives,
    bets: FloatArray,
    cell: int,
    policy: int,
    column: int,
    x: FloatArray,
) -> float:
    """What the evidence multiplies into the wealth of (cell, its first alternative)."""
    found = JointWealth(table, alternatives)
    found.update(np.array([policy]), np.array([column]), x[None], bets, np.ones(len(table.lower), dtype=bool))
    return float(np.exp(found.log_wealth[cell, 0]))


def affine(
    table: PredictionTable, alternatives: Alternatives, bets: FloatArray, cell: int, policy: int, column: int
) -> tuple[FloatArray, float]:
    """Direction u and offset of the factor ``1 + u . x - offset``, read off at the corner ``low`` and its neighbours."""
    base = factor(table, alternatives, bets, cell, policy, column, table.low)
    width = table.high - table.low
    u = np.array(
        [
            (factor(table, alternatives, bets, cell, policy, column, table.low + width * e) - base) / (width @ e)
            for e in np.eye(table.low.size)
        ]
    )
    return u, 1.0 + float(u @ table.low) - base


def largest_mean(
    u: FloatArray, offset: float, lower: FloatArray, upper: FloatArray, low: FloatArray, high: FloatArray
) -> float:
    """The largest mean of ``1 + u . X - offset`` over all laws on the corners of ``[low, high]`` whose mean lies in the box: a linear program.

    Laws on other points change nothing, because the factor is affine and corners span the range.
    """
    ends = corners(low, high)
    within = np.vstack([ends.T, -ends.T])
    bounds = np.concatenate([upper, -lower])
    answer = linprog(-(1.0 + ends @ u - offset), within, bounds, np.ones((1, len(ends))), [1.0], method="highs")
    return float(-answer.fun) if answer.status == 0 else -np.inf


@settings(max_examples=25)
@given(seeds, st.integers(1, 3))
@pytest.mark.statistical
def test_factors_are_affine_positive_and_fair_for_every_mean_in_the_box(seed: int, signals: int) -> None:
    rng = np.random.default_rng(seed)
    table = random_table(rng, signals)
    bets, alternatives = random_inverse(rng, table), pair()
    for policy in range(2):
        for column in range(3):
            u, offset = affine(table, alternatives, bets, 0, policy, column)
            lower, upper = table.lower[0, policy, :, column], table.upper[0, policy, :, column]
            for x in corners(table.low, table.high):
                value = factor(table, alternatives, bets, 0, policy, column, x)
                assert abs(value - (1.0 + u @ x - offset)) < 1e-9
                assert value >= 1.0 - LARGEST_LOSS - 1e-9
            assert largest_mean(u, offset, lower, upper, table.low, table.high) <= 1.0 + 1e-7
            assert max(1.0 + u @ m - offset for m in corners(lower, upper)) <= 1.0 + 1e-9


@settings(max_examples=60)
@given(seeds, st.integers(1, 3))
def test_the_bet_gains_under_its_rival_and_is_fair_at_the_edge_it_leans_on(seed: int, signals: int) -> None:
    """A sign error or a bet given away would show here: the mean is above one under the alternative, and one at the worst point of the box."""
    rng = np.random.default_rng(seed)
    table = random_table(rng, signals)
    bets, alternatives = random_inverse(rng, table), pair()
    u, offset = affine(table, alternatives, bets, 0, 0, 0)
    lower, upper, alternative = table.lower[0, 0, :, 0], table.upper[0, 0, :, 0], table.center[1, 0, :, 0]
    if ((alternative >= lower) & (alternative <= upper)).all():
        np.testing.assert_array_equal(u, 0.0)
    else:
        assert 1.0 + u @ alternative - offset > 1.0
        assert abs(max(u @ m for m in corners(lower, upper)) - offset) < 1e-9 * (1.0 + np.abs(u) @ np.abs(upper))


def test_there_is_no_bet_where_the_rival_lies_in_the_box() -> None:
    table = table_of(hand_made([[5.0, 5.0], [5.1, 5.2]], [[[1.0], [1.0]], [[1.1], [1.0]]], width=0.3))
    found = JointWealth(table, pair())
    found.update(
        np.array([0, 1, 1]),
        np.zeros(3, dtype=int),
        np.array([[0.0, 0.0], [10.0, 10.0], [3.0, 0.0]]),
        found.bets(),
        np.ones(2, bool),
    )
    np.testing.assert_array_equal(found.log_wealth[0], 0.0)


@settings(max_examples=60)
@given(seeds, st.integers(1, 3))
def test_the_bet_is_the_stated_rule(seed: int, signals: int) -> None:
    rng = np.random.default_rng(seed)
    table = random_table(rng, signals)
    bets = random_inverse(rng, table)
    u, offset = affine(table, pair(), bets, 0, 1, 2)
    expected = kelly(
        table.lower[0, 1, :, 2], table.upper[0, 1, :, 2], table.center[1, 1, :, 2], bets[2], table.low, table.high
    )
    width = table.high - table.low
    np.testing.assert_allclose(u * width, expected[0] * width, atol=1e-8)
    assert abs(offset - expected[1]) < 1e-8 * (1.0 + np.abs(expected[0]) @ np.abs(table.high))


def test_mutants_break_fairness_or_positivity() -> None:
    lower, upper, alternative = np.array([4.0, 1.0]), np.array([6.0, 2.0]), np.array([7.0, 0.5])
    low, high, inverse = np.zeros(2), np.array([10.0, 20.0]), np.diag([0.1, 0.2])
    box = (lower, upper, low, high)
    assert largest_mean(*kelly(lower, upper, alternative, inverse, low, high), *box) <= 1.0 + 1e-9
    assert largest_mean(*kelly(lower, upper, alternative, inverse, low, high, "centre"), *box) > 1.02
    u, offset = kelly(lower, upper, alternative, 40.0 * inverse, low, high, "no cap")
    assert min(1.0 + u @ x - offset for x in corners(low, high)) < 0.0
    u, offset = kelly(lower, upper, alternative, 40.0 * inverse, low, high)
    assert abs(min(1.0 + u @ x - offset for x in corners(low, high)) - (1.0 - LARGEST_LOSS)) < 1e-12


@settings(max_examples=40)
@given(seeds, st.integers(1, 60))
def test_batches_and_their_order_do_not_matter(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    table = random_table(rng, 2, cells=3, policies=3)
    bets, alternatives, active = random_inverse(rng, table), pair(2, cells=3), np.array([True, False, True])
    policy, column = rng.integers(0, 3, n), rng.integers(0, 3, n)
    outcomes = table.low + (table.high - table.low) * rng.random((n, 2))
    one, two = JointWealth(table, alternatives), JointWealth(table, alternatives)
    one.update(policy, column, outcomes, bets, active)
    for k in rng.permutation(n):
        two.update(policy[k : k + 1], column[k : k + 1], outcomes[k : k + 1], bets, active)
    np.testing.assert_allclose(one.log_wealth, two.log_wealth, atol=1e-9)
    np.testing.assert_allclose(one.bets(), two.bets(), rtol=1e-6)
    np.testing.assert_array_equal(one.log_wealth[1], 0.0)


def test_long_products_neither_overflow_nor_vanish() -> None:
    table = table_of(hand_made([[5.0, 5.0], [5.0, 9.0]], [[[1.0], [1.0]], [[1.0], [1.0]]]))
    for value, sign in ((10.0, 1.0), (0.0, -1.0)):
        found = JointWealth(table, pair())
        bets, n = 10.0 * found.bets(), 20_000
        outcomes = np.tile([value, 1.0], (n, 1))
        found.update(np.ones(n, dtype=int), np.zeros(n, dtype=int), outcomes, bets, np.ones(2, bool))
        single = factor(table, pair(), bets, 0, 1, 0, outcomes[0])
        assert sign * found.log_wealth[0, 0] > 1000.0
        assert abs(found.log_wealth[0, 0] - n * np.log(single)) < 1e-6 * n


@settings(max_examples=40)
@given(seeds, st.integers(1, 3))
def test_a_lost_episode_takes_the_smallest_factor_any_outcome_could_give(seed: int, signals: int) -> None:
    rng = np.random.default_rng(seed)
    table = random_table(rng, signals)
    bets = random_inverse(rng, table)
    found = JointWealth(table, pair())
    found.forfeit(1, bets, np.ones(2, bool))
    possible = [factor(table, pair(), bets, 0, 1, b, x) for b in range(3) for x in corners(table.low, table.high)]
    assert abs(np.exp(found.log_wealth[0, 0]) - min(1.0, *possible)) < 1e-9


def test_losses_spare_dead_cells_and_padding() -> None:
    table = random_table(np.random.default_rng(0), 2)
    alternatives = Alternatives(np.array([[1, 0], [0, 2]]), np.array([[0.0, -np.inf], [np.log(0.5), np.log(0.5)]]))
    found = JointWealth(table, alternatives)
    found.forfeit(0, 50.0 * found.bets(), np.array([False, True]))
    assert found.log_wealth[0].tolist() == [0.0, 0.0]
    assert (found.log_wealth[1] < 0.0).any()
    assert np.isfinite(found.log_mean()).all()


def test_an_average_weighs_rivals_as_stated() -> None:
    table = random_table(np.random.default_rng(1), 2)
    found = JointWealth(table, Alternatives(np.array([[1, 2], [0, 2]]), np.log([[0.25, 0.75], [0.5, 0.5]])))
    found.log_wealth[:] = np.log([[2.0, 4.0], [1.0, 3.0]])
    np.testing.assert_allclose(np.exp(found.log_mean()), [3.5, 2.0])


# The table.


def test_columns_find_labels_and_leave_unknown_ones_unconditional() -> None:
    table = PredictionTable(*(np.zeros((1, 1, 1, 4)),) * 3, np.array([2, 5, 9]), np.zeros(1), np.ones(1))
    assert table.column(np.array([5, 2, 9, 0, 3, 10]), 6).tolist() == [1, 0, 2, 3, 3, 3]
    assert table.column(None, 2).tolist() == [3, 3]
    assert table.column(5, 2).tolist() == [1, 1]
    bare = PredictionTable(*(np.zeros((1, 1, 1, 1)),) * 3, np.zeros(0, dtype=np.int64), np.zeros(1), np.ones(1))
    assert bare.column(np.array([5, 2]), 2).tolist() == [0, 0]


def test_the_table_keeps_signals_policies_and_states_apart(deploy_set: PolicySet) -> None:
    table, cells = table_of(deploy_set), deploy_set.cells
    assert cells.conditional is not None and cells.outside is not None
    np.testing.assert_array_equal(table.lower[:, :, 0, -1], cells.predictions.reward_lower)
    np.testing.assert_array_equal(table.upper[:, :, 1, -1], cells.predictions.cost_upper[:, :, 0])
    np.testing.assert_array_equal(table.lower[:, :, 0, :-1], cells.conditional.reward_lower)
    np.testing.assert_array_equal(table.upper[:, :, 1, :-1], cells.conditional.cost_upper[:, :, 0])
    np.testing.assert_array_equal(table.center[len(cells) :, :, 1, -1], cells.outside.cost[:, :, 0])
    np.testing.assert_array_equal(table.center[len(cells) :, :, 1, :-1], cells.outside.cost_by_state[:, :, 0])
    assert table.low.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(table.high, [100.0, deploy_set.bounds.cost_ceilings[0]], rtol=1e-12)


# The scale.


def test_the_scale_estimates_the_residual_covariance_of_each_state() -> None:
    table = random_table(np.random.default_rng(0), 2)
    rng, scale, n = np.random.default_rng(1), Scale(table), 200_000
    root = np.array([[0.5, 0.0], [0.3, 0.2]])
    residuals = rng.normal(size=(n, 2)) @ root.T
    residuals[n // 2 :] *= 3.0
    columns = np.repeat([0, 1], n // 2)
    scale.update(columns, residuals)
    truth = np.linalg.inv(root @ root.T)
    np.testing.assert_allclose(scale.inverse()[0], truth, rtol=0.05)
    np.testing.assert_allclose(scale.inverse()[1], truth / 9.0, rtol=0.05)
    np.testing.assert_allclose(
        scale.inverse()[2], truth / 5.0, rtol=0.05, err_msg="a state without data has the pooled covariance"
    )


def test_bets_are_copies_that_later_outcomes_do_not_change() -> None:
    table = random_table(np.random.default_rng(0), 2)
    found = JointWealth(table, pair())
    fixed = found.bets()
    kept = fixed.copy()
    found.update(np.array([0]), np.array([0]), table.high[None], fixed, np.ones(2, bool))
    np.testing.assert_array_equal(fixed, kept)
    assert not np.array_equal(found.bets(), kept)


def test_constant_outcomes_leave_the_scale_invertible() -> None:
    table = table_of(hand_made([[5.0, 5.0]], [[[0.0], [0.0]]]))
    found = JointWealth(table, pair(cells=1, first=0))
    n = 1_000_000
    found.scale.update(np.zeros(n, dtype=np.int64), np.zeros((n, 2)))
    assert np.isfinite(found.bets()).all()


# Simulation: crossing under the null with means at vertices, beside the mutant that bets at the centre of the box.

DELTA, RUNS, EPISODES = 0.1, 3000, 150


def crossing(mutant: str) -> int:
    """Runs in which a true cell is rejected; the mean stands at the vertex nearest the alternative, outcomes are two-point laws."""
    lower, upper, alternative = np.array([4.0, 1.0]), np.array([5.0, 1.6]), np.array([5.6, 2.0])
    low, high = np.zeros(2), np.array([10.0, 6.0])
    inverse = np.diag([0.08, 0.12])
    u, offset = kelly(lower, upper, alternative, inverse, low, high, mutant)
    rng = np.random.default_rng(5)
    means = np.clip(np.broadcast_to(alternative, (RUNS, 2)), lower, upper)
    wealth, active = np.zeros(RUNS), np.ones(RUNS, dtype=bool)
    for _ in range(EPISODES):
        wealth += np.log1p(two_point(means, low, high, rng) @ u - offset)
        active &= wealth < -np.log(DELTA)
    return int((~active).sum())


@pytest.mark.parametrize(("mutant", "guilty"), [("", False), ("centre", True)])
def test_the_simulation_convicts_the_bet_at_the_centre(mutant: str, guilty: bool) -> None:
    assert (rate_test(crossing(mutant), RUNS, DELTA) < 1e-3) == guilty


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_pairs_side_by_side_are_multiplied_as_one_by_one(rng: np.random.Generator, size: int, unknown: bool) -> None:
    """Over more pairs than are worked on at once, with extreme products and cells without alternatives."""
    cells, policies, states, rivals, n = 120, 3, 2, 9, 480
    lower = rng.random((cells, policies, size, states + 1))
    upper, center = lower + 0.3 * rng.random(lower.shape), lower + 0.1
    if unknown:
        center[::3, :, -1] = np.nan
    used, rows = rng.integers(0, rivals + 1, cells), np.flatnonzero(rng.random(cells) < 0.8)
    other = rng.integers(0, cells, (cells, rivals))
    assert used[rows].sum() > joint.PAIRS_AT_ONCE
    root = rng.normal(size=(states + 1, size, size))
    inverse = 3.0 * np.linalg.inv(root @ root.transpose(0, 2, 1) + 0.01 * np.eye(size))
    low, high = np.zeros(size), np.full(size, 4.0)
    policy, column = rng.integers(0, policies, n), rng.integers(0, states + 1, n)
    found, wanted, middles = np.zeros((cells, rivals)), np.zeros((cells, rivals)), np.empty((n, size))
    gap, u = np.empty(size), np.empty(size)
    x = 4.0 * rng.random((n, size))
    joint._update(
        lower, upper, center, other, used, rows, policy, column, x, inverse, low, high, found, middles
    )  # fmt: skip
    for a in rows:
        for r in range(used[a]):
            product = 1.0
            for t in np.argsort(policy * (states + 1) + column):
                where = (policy[t], slice(None), column[t])
                rival = center[other[a, r]][where]
                offset, _ = joint._bet(
                    lower[a][where], upper[a][where], rival, inverse[column[t]], low, high, gap, u
                )  # fmt: skip
                gain = -offset
                for f in range(size):
                    gain += u[f] * x[t, f]
                product *= 1.0 + gain
                if product < 1e-100 or product > 1e100:
                    wanted[a, r] += np.log(product)
                    product = 1.0
            wanted[a, r] += np.log(product)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    assert np.abs(wanted).max() > 240.0
    given = 0.5 * (lower[rows[:, None], policy, :, column] + upper[rows[:, None], policy, :, column])
    np.testing.assert_allclose(middles, given.mean(axis=0), rtol=1e-14)
