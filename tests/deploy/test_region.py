"""The product region: what is left of two costs together, against brute force, and how often the truth is outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from surefoot.arrays import FloatArray
from surefoot.audit.groups import Group
from surefoot.audit.region import Region
from surefoot.deploy.bounds import CASH, STEPS, CostBounds, ProductRegion
from surefoot.stats.betting import bet_grid
from surefoot.stats.binomial import rate_test
from tests.refusals import refused

CEILING, LIMIT, DELTA, TARGET = 10.0, 1.5, 0.05, 2


def region(
    start: Any = None, *, ceilings: Any = (CEILING,), limits: Any = (LIMIT,), delta: float = DELTA
) -> ProductRegion:
    top = np.asarray(ceilings, dtype=float)
    first = np.tile(top, (4, 1)) if start is None else np.asarray(start, dtype=float)
    return ProductRegion(first, top, np.asarray(limits, dtype=float), delta)


def play(one: Any, first: int, policies: Any, costs: FloatArray) -> None:
    ids, index = np.arange(first, first + len(costs)), np.asarray(policies, dtype=np.int64)
    one.asked(ids, index)
    one.told(ids, index, costs)


def draw(rng: np.random.Generator, n: int) -> FloatArray:
    return rng.exponential(0.8, (n, 1)).clip(0.0, CEILING)


def wealth(costs: FloatArray, means: FloatArray, lost: int = 0, ceiling: float = CEILING) -> FloatArray:
    """(n+1, M) exact wealths of the prefixes, with the share kept out of bets; the largest bets that keep factors positive, from the definition."""
    grid = bet_grid()
    costs = np.concatenate([costs, np.full(lost, ceiling)])
    bets = grid.fractions[None, None, :] / (ceiling - means)[None, :, None]
    logs = np.log(1.0 + bets * (means[None, :, None] - costs[:, None, None]))
    total = np.cumsum(np.concatenate([np.zeros((1, means.size, grid.fractions.size)), logs]), axis=0)
    return CASH + (1.0 - CASH) * np.exp(np.minimum(total, 300.0)) @ grid.weights


def test_the_region_is_what_the_product_of_both_wealths_leaves(rng: np.random.Generator) -> None:
    """Sound: no pair that the product never rejected is cut off. Sharp: the worst pair costs a mixture hardly less than the rows say."""
    start = np.full((4, 1), CEILING)
    start[0] = 1.4
    one = region(start)
    one.select(0, 0)
    safe, late = draw(rng, 300)[:, 0], draw(rng, 200)[:, 0] * 1.5
    play(one, 0, np.zeros(200), safe[:200, None])
    one.select(TARGET, 200)
    order = rng.permutation(np.repeat([0, TARGET], [100, 200]))
    each = {0: iter(safe[200:]), TARGET: iter(late)}
    sequence = np.array([next(each[p]) for p in order])
    for k, p in enumerate(order):
        play(one, 200 + k, [p], sequence[k : k + 1, None])
    m0, m1 = np.linspace(0.0, 1.4, 141), np.linspace(0.0, 9.9, 400)
    first, second = wealth(safe, m0), wealth(late, m1)
    played = np.concatenate([[0], np.cumsum(order == 0)])
    largest = np.zeros((m0.size, m1.size))
    for k in range(201):
        largest = np.maximum(largest, np.outer(first[k], second[0]))
    for k in range(1, len(order) + 1):
        largest = np.maximum(largest, np.outer(first[200 + played[k]], second[k - played[k]]))
    left = np.argwhere(largest < 1.0 / DELTA)
    rows = one.staircase[:, :, 0]
    inside = ((m0[left[:, 0], None] <= rows[:, 0] + 1e-9) & (m1[left[:, 1], None] <= rows[:, 1] + 1e-9)).any(axis=1)
    assert inside.all()
    for w in (0.01, 0.1, 0.3, 0.6, 1.0):
        worst = ((1.0 - w) * m0[left[:, 0]] + w * m1[left[:, 1]]).max()
        said = ((1.0 - w) * one.rows[:, 0, 0] + w * one.rows[:, TARGET, 0]).max()
        assert worst - 1e-9 <= said <= worst + 0.06 * max(worst, 1.0)


def test_the_region_is_smaller_than_two_bounds_that_share_the_error(rng: np.random.Generator) -> None:
    one, two = (
        region(),
        CostBounds(np.full((4, 1), CEILING), np.array([CEILING]), np.array([LIMIT]), DELTA, selected=True),
    )
    costs = draw(rng, 800)
    for it in (one, two):
        it.select(0, 0)
        play(it, 0, np.zeros(400), costs[:400])
        it.select(TARGET, 400)
        play(it, 400, np.full(400, TARGET), costs[400:])
    for w in (0.05, 0.3, 0.7):
        mixture = np.array([1.0 - w, 0.0, w, 0.0])
        assert (one.rows[:, :, 0] @ mixture).max() < (two.rows[:, :, 0] @ mixture).max()


def test_other_policies_stay_where_they_start(rng: np.random.Generator) -> None:
    start = np.array([[1.2], [3.0], [4.0], [99.0]])
    one = region(start)
    np.testing.assert_array_equal(one.values, [[1.2], [3.0], [4.0], [CEILING]])
    one.select(0, 0)
    play(one, 0, np.tile([1, 3], 200), np.zeros((400, 1)))
    np.testing.assert_array_equal(one.values, [[1.2], [3.0], [4.0], [CEILING]])
    play(one, 400, np.zeros(2000), draw(rng, 2000) * 0.3)
    assert one.values[0, 0] < 0.5
    np.testing.assert_array_equal(one.values[1:], [[3.0], [4.0], [CEILING]])
    one.drop_start(np.array([[1.4], [99.0], [99.0], [5.0]]))
    assert one.values[0, 0] < 0.5
    np.testing.assert_array_equal(one.values[1:], [[CEILING], [CEILING], [5.0]])


def test_episodes_asked_before_the_selection_do_not_count() -> None:
    """However good they look: they may be why the policy was selected."""
    one = region()
    one.select(0, 0)
    play(one, 0, np.full(300, TARGET), np.zeros((300, 1)))
    one.asked(np.arange(300, 310), np.full(10, TARGET))
    one.select(TARGET, 310)
    one.told(np.arange(300, 310), np.full(10, TARGET), np.zeros((10, 1)))
    assert one.values[TARGET, 0] == CEILING
    play(one, 310, np.full(300, TARGET), np.zeros((300, 1)))
    assert one.values[TARGET, 0] < 1.0
    with refused("SF-LEDGER-OVERSPENT", "selections", "2"):
        one.select(1, 610)


def test_what_was_ruled_out_stays_ruled_out(rng: np.random.Generator) -> None:
    one = region()
    one.select(0, 0)
    one.select(TARGET, 0)
    before = one.rows.copy()
    for k in range(12):
        policy = 0 if k % 3 else TARGET
        play(one, 100 * k, np.full(100, policy), draw(rng, 100) if k < 6 else np.full((100, 1), 6.0))
        assert (one.rows.max(axis=0) <= before.max(axis=0)).all()
        for w in (0.1, 0.5, 0.9):
            mixture = np.array([1.0 - w, 0.0, w, 0.0])
            assert (one.rows[:, :, 0] @ mixture).max() <= (before[:, :, 0] @ mixture).max() + 1e-12
        before = one.rows.copy()


def test_a_contradiction_leaves_the_smallest_step_and_never_nothing() -> None:
    one = region()
    one.select(0, 0)
    one.select(TARGET, 0)
    play(one, 0, np.tile([0, TARGET], 3000), np.zeros((6000, 1)))
    assert one.staircase.shape == (STEPS, 2, 1)
    assert 0.0 < one.values[0, 0] < 0.1
    assert 0.0 <= one.values[TARGET, 0] < 0.05


def test_what_is_not_told_counts_as_the_ceiling_until_it_is(rng: np.random.Generator) -> None:
    """Bit for bit what it is without delay, once everything is there; and what is left out is worth what ceilings would be worth."""
    costs, order = draw(rng, 300), rng.permutation(300)
    late, prompt, ceilings = region(), region(), region()
    index = np.where(np.arange(300) % 2, TARGET, 0)
    for one in (late, prompt, ceilings):
        one.select(0, 0)
        one.select(TARGET, 0)
    late.asked(np.arange(300), index)
    late.told(order[:150], index[order[:150]], costs[order[:150]])
    play(ceilings, 0, index, np.where(np.isin(np.arange(300), order[:150])[:, None], costs, CEILING))
    np.testing.assert_allclose(late.staircase, ceilings.staircase, rtol=1e-9)
    late.told(order[150:], index[order[150:]], costs[order[150:]])
    prompt.asked(np.arange(300), index)
    prompt.told(np.arange(300), index, costs)
    assert (late.rows.max(axis=0) <= prompt.rows.max(axis=0) + 1e-12).all()
    for stream in (0, 1):
        np.testing.assert_allclose(
            late._processes[0].log_wealth(stream), prompt._processes[0].log_wealth(stream), rtol=1e-9, atol=1e-9
        )


def test_two_constraints_share_the_error(rng: np.random.Generator) -> None:
    costs = np.repeat(draw(rng, 300), 2, axis=1)
    two, half = region(ceilings=(CEILING, CEILING), limits=(LIMIT, LIMIT)), region(delta=DELTA / 2.0)
    for one, seen in ((two, costs), (half, costs[:, :1])):
        one.select(0, 0)
        one.select(TARGET, 0)
        play(one, 0, np.tile([0, TARGET], 150), seen)
    np.testing.assert_allclose(two.staircase[:, :, 0], half.staircase[:, :, 0], rtol=1e-12)
    np.testing.assert_allclose(two.staircase[:, :, 1], half.staircase[:, :, 0], rtol=1e-12)


def same_region(theirs: Region, ours: ProductRegion) -> None:
    """Step by step what the agent has; and a mixture costs at most the same by rows and steps."""
    target = ours._streams[1] if ours.selections > 1 else None
    np.testing.assert_allclose(theirs.rows[:, 0], ours.staircase[:, 0], rtol=1e-9)
    if target is not None:
        np.testing.assert_allclose(theirs.rows[:, target], ours.staircase[:, 1], rtol=1e-9)
    np.testing.assert_allclose(theirs.values, ours.values, rtol=1e-9)
    assert ours.rows.shape == (STEPS, *ours.values.shape)
    for weights in np.random.default_rng(0).dirichlet(np.full(len(ours.values), 0.5), size=50):
        most = [np.einsum("j,hji->hi", weights, rows).max(axis=0) for rows in (theirs.rows, ours.rows)]
        np.testing.assert_allclose(most[0], most[1], rtol=1e-9)
        np.testing.assert_allclose(ours.held(weights)[0], most[1], rtol=1e-12)
    if target is not None:
        np.testing.assert_array_equal(ours.held(np.eye(len(ours.values))[0]), ours.values[[0, target]])


def group(first: int, policies: Any, costs: FloatArray) -> Group:
    body = {"ids": list(range(first, first + len(costs))), "reward": [0.0] * len(costs), "costs": costs.tolist()}
    return Group(body, [int(p) for p in policies])


@pytest.mark.parametrize("singly", [True, False])
@pytest.mark.parametrize("own", [False, True])
def test_the_audit_finds_the_same_region(rng: np.random.Generator, singly: bool, own: bool) -> None:
    top, limits = np.tile([CEILING, 4.0], (4, 1)), np.array([LIMIT, 1.0])
    if own:
        top[0], top[TARGET] = [7.0, 1.3], [6.0, 0.9]  # below its limit
    start = top.copy()
    start[0], start[TARGET] = limits - 0.1, [5.0, 4.0]
    ours, theirs = ProductRegion(start, top, limits, DELTA), Region(start, top, limits, DELTA)
    for one in (ours, theirs):
        one.select(0, 0)
    first = 0
    for part in range(12):
        n = int(rng.integers(20, 90))
        index = np.where(rng.random(n) < (0.0 if part < 2 else 0.4), TARGET, rng.choice([0, 1], n))
        costs = np.column_stack([rng.exponential(0.7, n), rng.random(n) * 1.2]).clip(0.0, top[index])
        if singly:
            for k in range(n):
                play(ours, first + k, index[k : k + 1], costs[k : k + 1])
            theirs.told_singly(index, costs)()
        else:
            play(ours, first, index, costs)
            theirs.asked(first, index.tolist())
            theirs.told(group(first, index, costs))
        same_region(theirs, ours)
        first += n
        if part == 1:
            for one in (ours, theirs):
                one.select(TARGET, first)
        if part == 5:
            for k, policy in ((0, 0), (1, TARGET)):
                ours.asked(np.array([first + k]), np.array([policy]))
                theirs.asked(first + k, [policy])
            first += 2
    assert ours.values[TARGET, 0] < 3.0
    for one in (ours, theirs):
        one.drop_start(top)
    same_region(theirs, ours)
    again = ProductRegion(start, top, limits, DELTA)
    again.load_state_dict(ours.state_dict())
    np.testing.assert_array_equal(again.staircase, ours.staircase)
    np.testing.assert_array_equal(again._processes[0].ceilings, top[[0, TARGET], 0])


def test_logged_episodes_of_the_safe_policy_count_as_played(rng: np.random.Generator) -> None:
    costs = draw(rng, 500)
    logged, played, theirs = (
        region(),
        region(),
        Region(np.full((4, 1), CEILING), np.array([CEILING]), np.array([LIMIT]), DELTA),
    )
    for one in (logged, played, theirs):
        one.select(0, 0)
    logged.recalled(costs[:300])
    logged.recalled(costs[300:])
    theirs.recalled(costs[:300])
    theirs.recalled(costs[300:])
    play(played, 0, np.zeros(300), costs[:300])
    play(played, 300, np.zeros(200), costs[300:])
    np.testing.assert_array_equal(logged.staircase, played.staircase)
    same_region(theirs, logged)
    assert logged.values[0, 0] < LIMIT


RUNS, TRUE = 300, (1.0, 1.6)


def misses(
    rng: np.random.Generator, delta: float, *, wait: bool = True, tops: Any = (2.0, 2.0), said: Any = None
) -> int:
    """Runs in which the true pair was ever outside: costs of 0 or the ceiling, half of the costly ones never told, adaptive choice."""
    found = 0
    ceilings = np.array([tops if said is None else said]).T
    for _ in range(RUNS):
        one = ProductRegion(ceilings, ceilings, np.array([1.9]), delta)
        one.select(0, 0)
        outside, first = False, 0
        for part in range(12):
            policy = int(one.values[1, 0] < one.values[0, 0]) if rng.random() < 0.5 else int(rng.integers(2))
            ids, index = np.arange(first, first + 15), np.full(15, policy)
            costs = np.where(rng.random((15, 1)) < TRUE[policy] / tops[policy], tops[policy], 0.0)
            keep = (costs[:, 0] < 1.0) | (rng.random(15) < 0.5)
            one.asked(ids if wait else ids[keep], index if wait else index[keep])
            one.told(ids[keep], index[keep], costs[keep])
            first += 15
            rows = one.staircase[:, :, 0]
            outside |= not bool(((rows[:, 0] >= TRUE[0]) & (rows[:, 1] >= TRUE[1])).any())
            if part == 2:
                one.select(1, first)
        found += outside
    return found


@pytest.mark.statistical
@pytest.mark.parametrize("wait", [True, False])
def test_the_true_pair_is_ever_outside_with_probability_delta_at_most(wait: bool) -> None:
    """Unless late episodes are left out until they are told: then it is outside nearly always."""
    found = misses(np.random.default_rng(4), 0.2, wait=wait)
    assert rate_test(found, RUNS, 0.2) > 1e-3 if wait else rate_test(found, RUNS, 0.2) < 1e-3


@pytest.mark.statistical
@pytest.mark.parametrize("said", [None, (4.0, 1.7)])
def test_each_policy_may_have_a_ceiling_of_its_own(said: Any) -> None:
    """The true pair stays inside as often as promised with the ceilings that hold; with the two exchanged it does not."""
    tops = (4.0, 1.7) if said is None else (1.7, 4.0)
    found = misses(np.random.default_rng(5), 0.2, tops=tops, said=said)
    assert rate_test(found, RUNS, 0.2) > 1e-3 if said is None else rate_test(found, RUNS, 0.2) < 1e-3


def test_a_lower_ceiling_of_the_target_alone_lowers_what_is_proved_of_it(rng: np.random.Generator) -> None:
    costs, proved = draw(rng, 400).clip(0.0, 3.0), []
    for top in (CEILING, 3.0):
        ceilings = np.full((4, 1), CEILING)
        ceilings[TARGET] = top
        one = ProductRegion(ceilings, ceilings, np.array([LIMIT]), DELTA)
        one.select(0, 0)
        play(one, 0, np.zeros(200), costs[:200])
        one.select(TARGET, 200)
        assert one.values[TARGET, 0] == top
        play(one, 200, np.full(200, TARGET), costs[200:])
        proved.append(one.values[[0, TARGET], 0])
    np.testing.assert_allclose(proved[0][0], proved[1][0], rtol=1e-12)  # by the safe policy's own episodes
    assert costs[200:].mean() < proved[1][1] < 0.95 * proved[0][1]


@pytest.mark.statistical
@pytest.mark.parametrize("afterwards", [True, False])
def test_a_target_picked_for_its_luck_is_judged_by_what_comes_afterwards(afterwards: bool) -> None:
    """The luckiest of 200 equal policies is picked: judged by the episodes that it was picked by, it seems cheaper than it is."""
    rng, delta, cost, found = np.random.default_rng(6), 0.2, 0.4, 0
    for _ in range(150):
        lucky = (rng.random((200, 40)) < cost).astype(float)
        best = lucky[int(lucky.sum(axis=1).argmin())]
        one = ProductRegion(np.full((2, 1), 1.0), np.ones(1), np.array([0.5]), delta)
        one.select(0, 0)
        one.select(1, 40 if afterwards else 0)
        play(one, 0, np.ones(40), best[:, None])
        outside = False
        for part in range(6):
            play(one, 40 + 40 * part, np.ones(40), (rng.random((40, 1)) < cost).astype(float))
            outside |= bool(one.values[1, 0] < cost)
        found += outside
    assert rate_test(found, 150, delta) > 1e-3 if afterwards else rate_test(found, 150, delta) < 1e-3


def test_the_share_kept_out_of_bets_is_no_gift() -> None:
    """With nothing played the product is 1: the region is everything, and the share and the bets sum to what there is."""
    assert 0.0 < CASH < 1.0
    np.testing.assert_allclose(wealth(np.zeros(0), np.array([1.0, 5.0])), 1.0)
    start = np.full((4, 1), CEILING)
    start[0] = LIMIT
    one = region(start, delta=0.999)
    one.select(0, 0)
    one.select(TARGET, 0)
    one._processes[0].tighten(one._edges[0], one._proved[0], one._threshold, CASH)
    np.testing.assert_allclose(one.values, start)
