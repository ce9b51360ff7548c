"""Data bounds: who gets which part of delta_b, which episodes count, and that selected bounds fail at most at their level."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot.arrays import FloatArray
from surefoot.deploy.bounds import SELECTION_SHARES, CostBounds
from surefoot.stats.betting import MeanUpperBounds
from surefoot.stats.binomial import rate_test
from tests.refusals import refused

CEILINGS, LIMITS, DELTA = np.array([10.0, 4.0]), np.array([1.5, 2.0]), 0.05


def bounds(policies: int = 3, *, selected: bool, start: Any = None, delta: float = DELTA) -> CostBounds:
    first = np.broadcast_to(CEILINGS, (policies, 2)) if start is None else np.asarray(start, dtype=float)
    return CostBounds(first, CEILINGS, LIMITS, delta, selected=selected)


def play(process: CostBounds, first: int, policy: Any, costs: FloatArray) -> bool:
    """Ask and tell episodes with consecutive ids."""
    n = len(costs)
    ids, index = np.arange(first, first + n), np.broadcast_to(np.asarray(policy, dtype=np.int64), (n,)).copy()
    process.asked(ids, index)
    return process.told(ids, index, costs)


def reference(costs: FloatArray, log_threshold: float, lost: int = 0) -> FloatArray:
    """(I,) bounds of one policy from its episodes, straight from the statistics module."""
    found = []
    for i, (ceiling, limit) in enumerate(zip(CEILINGS, LIMITS)):
        stream = MeanUpperBounds([ceiling], focus=limit)
        stream.update(0, costs[:, i].copy())
        stream.mark_lost(0, lost)
        found.append(stream.bound(0, log_threshold))
    return np.array(found)


def draw(rng: np.random.Generator, n: int) -> FloatArray:
    return np.column_stack([rng.exponential(0.8, n).clip(0, 10), rng.random(n)])


def test_whole_history_pays_for_every_policy_and_constraint(rng: np.random.Generator) -> None:
    process, costs = bounds(selected=False), draw(rng, 300)
    play(process, 0, 1, costs)
    np.testing.assert_array_equal(process.values[1], reference(costs, math.log(3 * 2 / DELTA)))
    np.testing.assert_array_equal(process.values[[0, 2]], np.tile(CEILINGS, (2, 1)))


def test_selections_share_delta_and_the_shares_are_all_of_it(rng: np.random.Generator) -> None:
    assert abs(sum(SELECTION_SHARES) - 1.0) < 1e-12
    assert min(SELECTION_SHARES) > 0.0
    process, first = bounds(selected=True), 0
    for s, share in enumerate(SELECTION_SHARES):
        costs = draw(rng, 300)
        process.select(s, first)
        play(process, first, s, costs)
        first += 300
        np.testing.assert_array_equal(process.values[s], reference(costs, math.log(2 / (DELTA * share))))
    with refused("SF-LEDGER-OVERSPENT", "selections", "2"):
        process.select(0, first)


def test_without_selection_data_prove_nothing(rng: np.random.Generator) -> None:
    process = bounds(selected=True)
    assert not play(process, 0, 1, draw(rng, 500))
    np.testing.assert_array_equal(process.values[1], CEILINGS)


def test_only_episodes_asked_after_the_selection_count(rng: np.random.Generator) -> None:
    """Three were asked before and are told after it: they are not evidence, however good they look."""
    process, late, fresh = bounds(selected=True), np.zeros((3, 2)), draw(rng, 100)
    process.asked(np.arange(3), np.ones(3, dtype=int))
    process.select(1, 3)
    play(process, 3, 1, fresh)
    before = process.values[1].copy()
    process.told(np.arange(3), np.ones(3, dtype=int), late)
    np.testing.assert_array_equal(process.values[1], before)
    np.testing.assert_array_equal(before, reference(fresh, math.log(2 / (DELTA * SELECTION_SHARES[0]))))


def test_selecting_again_forgets_episodes_and_keeps_what_they_proved(rng: np.random.Generator) -> None:
    process = bounds(selected=True)
    process.select(1, 0)
    play(process, 0, 1, np.zeros((400, 2)))
    proved = process.values[1].copy()
    process.asked(np.arange(400, 410), np.ones(10, dtype=int))
    process.select(1, 410)
    dear = np.tile([5.0, 3.0], (50, 1))
    play(process, 410, 1, dear)
    np.testing.assert_array_equal(process.values[1], proved)
    process.drop_start(np.tile(CEILINGS, (3, 1)))
    np.testing.assert_array_equal(process.values[1], reference(dear, math.log(2 / (DELTA * SELECTION_SHARES[1]))))


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.booleans())
def test_what_is_not_told_counts_as_the_ceiling_until_it_is(seed: int, selected: bool) -> None:
    rng = np.random.default_rng(seed)
    process, n = bounds(selected=selected), int(rng.integers(5, 60))
    if selected:
        process.select(1, 0)
    costs, ids, index = draw(rng, n), np.arange(n), np.ones(n, dtype=int)
    threshold = math.log(2 / (DELTA * SELECTION_SHARES[0])) if selected else math.log(6 / DELTA)
    process.asked(ids, index)
    order = rng.permutation(n)
    told, smallest = np.zeros(0, dtype=int), CEILINGS
    for part in np.array_split(order, 4):
        told = np.concatenate([told, part])
        process.told(part, index[part], costs[part])
        smallest = np.minimum(smallest, reference(costs[told], threshold, n - told.size))
        np.testing.assert_allclose(process.values[1], smallest, rtol=1e-9)


def test_losing_half_of_the_episodes_proves_nothing_below_half_the_ceiling(rng: np.random.Generator) -> None:
    process, n = bounds(selected=False), 2000
    process.asked(np.arange(n), np.ones(n, dtype=int))
    process.told(np.arange(0, n, 2), np.ones(n // 2, dtype=int), np.zeros((n // 2, 2)))
    assert (process.values[1] > 0.5 * CEILINGS).all()


def test_bounds_never_rise_and_say_when_they_fall(rng: np.random.Generator) -> None:
    process = bounds(selected=False)
    assert play(process, 0, 0, np.zeros((200, 2)))
    low = process.values.copy()
    assert not play(process, 200, 0, np.tile([9.0, 3.9], (300, 1)))
    np.testing.assert_array_equal(process.values, low)


def test_starting_values_are_kept_below_the_ceilings_and_until_data_beat_them(rng: np.random.Generator) -> None:
    start = np.array([[1.2, 99.0], [5.0, 1.0], [10.0, 4.0]])
    process = bounds(selected=False, start=start)
    np.testing.assert_array_equal(process.values, np.minimum(start, CEILINGS))
    play(process, 0, 1, np.zeros((1000, 2)))
    assert process.values[1, 0] < 0.5 and process.values[1, 1] < 1.0
    np.testing.assert_array_equal(process.values[0], [1.2, 4.0])


@pytest.mark.parametrize("selected", [False, True])
def test_dropping_the_start_leaves_what_data_prove(rng: np.random.Generator, selected: bool) -> None:
    start = np.array([[0.5, 0.5], [0.6, 0.6], [0.7, 0.7]])
    process, costs = bounds(selected=selected, start=start), draw(rng, 200)
    if selected:
        process.select(1, 0)
    play(process, 0, 1, costs)
    process.drop_start(np.array([[1.0, 1.1], [99.0, 99.0], [99.0, 99.0]]))
    np.testing.assert_array_equal(process.values[0], [1.0, 1.1])
    np.testing.assert_array_equal(process.values[2], CEILINGS)
    level = DELTA * SELECTION_SHARES[0] / 2 if selected else DELTA / 6
    np.testing.assert_array_equal(process.values[1], reference(costs, -math.log(level)))


def test_costs_above_the_ceiling_count_as_the_ceiling() -> None:
    one, two = bounds(selected=False), bounds(selected=False)
    play(one, 0, 0, np.array([[0.1, 0.1]] * 300 + [[11.0, 400.0]]))
    play(two, 0, 0, np.array([[0.1, 0.1]] * 300 + [[10.0, 4.0]]))
    np.testing.assert_array_equal(one.values, two.values)


def test_a_limit_at_or_above_the_ceiling_is_no_focus() -> None:
    process = CostBounds(np.full((1, 2), 4.0), np.array([4.0, 4.0]), np.array([4.0, 0.0]), DELTA, selected=False)
    play(process, 0, 0, np.zeros((500, 2)))
    assert (process.values < 0.2).all()


RUNS, EPISODES, TRUE = 400, 150, 0.5


@pytest.mark.statistical
@pytest.mark.parametrize("selected", [True, False])
def test_all_bounds_hold_for_all_times_except_with_probability_delta(selected: bool) -> None:
    """Adaptive play of three policies, one constraint each time read after every batch; some episodes stay away."""
    rng, failures, delta = np.random.default_rng(8), 0, 0.2
    for _ in range(RUNS):
        ceilings = np.array([2.0])
        process = CostBounds(np.full((3, 1), 2.0), ceilings, np.array([0.6]), delta, selected=selected)
        first, failed = 0, False
        if selected:
            process.select(0, 0)
        for _ in range(EPISODES // 10):
            policy = int(process.values[:, 0].argmin()) if rng.random() < 0.7 else int(rng.integers(3))
            ids, index = np.arange(first, first + 10), np.full(10, policy)
            process.asked(ids, index)
            costs = np.where(rng.random((10, 1)) < TRUE / 2.0, 2.0, 0.0)
            # Only cheap episodes are told at once; costly ones come late, some never.
            keep = (costs[:, 0] < 1.0) | (rng.random(10) < 0.9)
            process.told(ids[keep], index[keep], costs[keep])
            first += 10
            failed |= bool((process.values < TRUE).any())
            if selected and first == 50:
                process.select(1 + int(rng.integers(2)), first)
        failures += failed
    assert rate_test(failures, RUNS, delta) > 1e-3
