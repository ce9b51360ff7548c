"""Many small CMDPs at once against the occupancy program, enumeration and closed forms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import TabularCMDP, evaluate, solve
from surefoot.cmdp.elimination import plan_elimination
from surefoot.solvers import bulk, certify
from surefoot.solvers.bulk import solve_many
from surefoot.solvers.linear_program import Solution
from surefoot.tasks import NoisyGridworld
from tests.models import hull_optimum, iterate_values, one_state, random_cmdp
from tests.refusals import refused


def assert_same(cmdp: TabularCMDP, found: Solution, expected: Solution) -> None:
    """Status, value, costs and bound agree, and the certificate that knows nothing of the bulk solver accepts the policy."""
    assert found.status == expected.status
    if expected.status == "infeasible":
        assert found.excess == pytest.approx(expected.excess, rel=1e-7)
        assert np.isnan(found.value) and found.bound == -np.inf and found.gap == np.inf
        return
    scale = 1.0 + abs(expected.value)
    assert found.value == pytest.approx(expected.value, abs=1e-6 * scale)
    assert found.bound == pytest.approx(expected.bound, abs=1e-6 * scale)
    proof = certify(cmdp, found.policy, found.multipliers)
    assert proof.relative_gap <= 1e-7 and proof.relative_excess <= 1e-7
    assert proof.value == pytest.approx(found.value, rel=1e-9, abs=1e-9)
    assert proof.costs == pytest.approx(found.costs, rel=1e-9, abs=1e-9)


@settings(max_examples=40)
@given(
    st.integers(0, 2**32), st.integers(1, 7), st.integers(1, 4), st.sampled_from([0.3, 0.9, 0.999]), st.floats(0.2, 1.0)
)
def test_random_tasks_are_solved_as_one_by_one(
    seed: int, states: int, actions: int, discount: float, density: float
) -> None:
    rng = np.random.default_rng(seed)
    tasks = [
        random_cmdp(rng, states, actions, 1, discount, [share / (1.0 - discount)], density)
        for share in (0.0, 0.3, 0.7, 0.9, 1.0, 3.0)
    ]
    found = solve_many(tasks)
    for task, answer in zip(tasks, found.answers):
        assert_same(task, answer, solve(task))
    assert found.methods.count("bulk") >= 4, "the occupancy program is the exception"


def test_small_tasks_agree_with_the_hull_of_all_deterministic_policies() -> None:
    rng = np.random.default_rng(5)
    tasks = [random_cmdp(rng, 3, 2, 1, 0.8, [limit]) for limit in (2.0, 3.0, 4.0, 5.0, 6.0)]
    found = solve_many(tasks)
    assert set(found.methods) == {"bulk"}
    for task, answer in zip(tasks, found.answers):
        expected = hull_optimum(task)
        if expected == -np.inf:
            assert answer.status == "infeasible"
        else:
            assert answer.value == pytest.approx(expected, abs=1e-9)


def test_the_mixture_costs_what_is_allowed_and_the_multiplier_is_the_slope() -> None:
    # Arm 1 earns 1 and costs 1 per step, episodes are two steps long on average: half of them at a limit of 1.
    task = one_state([0.0, 1.0], [[0.0, 1.0]], [1.0], 0.5)
    (answer,) = solve_many([task]).answers
    np.testing.assert_allclose(answer.policy, [[0.5, 0.5]], atol=1e-12)
    assert (answer.value, answer.costs[0], answer.multipliers[0]) == pytest.approx((1.0, 1.0, 1.0))
    higher = solve_many([task.with_limits([1.25])]).answers[0]
    assert higher.value - answer.value == pytest.approx(0.25 * answer.multipliers[0])


def test_the_gridworld_over_all_noises_up_to_where_nothing_is_feasible() -> None:
    tasks = [NoisyGridworld("published").cmdp(q) for q in np.linspace(0.0, 0.5, 12)]
    found = solve_many(tasks)
    assert set(found.methods) == {"bulk"}
    for task, answer in zip(tasks, found.answers):
        assert_same(task, answer, solve(task))
    assert {a.status for a in found.answers} == {"optimal", "infeasible"}


def test_what_stands_beside_a_task_does_not_change_its_answer() -> None:
    rng = np.random.default_rng(3)
    tasks = [random_cmdp(rng, 5, 3, 1, 0.9, [limit], 1.0) for limit in rng.uniform(2.0, 12.0, 40)]
    together = solve_many(tasks).answers
    for k in (0, 17, 39):
        alone = solve_many([tasks[k]]).answers[0]
        np.testing.assert_array_equal(alone.policy, together[k].policy)
        assert alone.bound == together[k].bound
    for forward, backward in zip(together, solve_many(tasks[::-1]).answers[::-1]):
        assert forward.bound == backward.bound


def edges() -> list[tuple[str, TabularCMDP]]:
    rng = np.random.default_rng(11)
    base = random_cmdp(rng, 5, 3, 1, 0.9, [4.0])
    same = TabularCMDP(base.dense, np.ones((5, 3)), base.costs, base.cost_limits, base.start, 0.9)
    free = TabularCMDP(base.dense, base.rewards, np.zeros((1, 5, 3)), [0.0], base.start, 0.9)
    # Every action costs the same, exactly what is allowed.
    exact = TabularCMDP(base.dense, base.rewards, np.full((1, 5, 3), 0.5), [5.0], base.start, 0.9)
    over = exact.with_limits([5.0 * (1.0 - 1e-6)])
    chain = np.zeros((4, 2, 4))
    chain[[0, 1, 2, 3], :, [0, 1, 2, 3]] = 1.0
    apart = TabularCMDP(
        chain, np.tile([0.0, 1.0], (4, 1)), np.tile([0.0, 1.0], (1, 4, 1)), [2.0], np.array([0.5, 0.5, 0.0, 0.0]), 0.9
    )
    large = TabularCMDP(base.dense, 1e9 * base.rewards, 1e-9 * base.costs, [4e-9], base.start, 0.9)
    small = TabularCMDP(base.dense, 1e-9 * base.rewards, 1e9 * base.costs, [4e9], base.start, 0.9)
    rare = base.dense.copy()
    rare[:, :, 0] += 1e-9
    rare /= rare.sum(axis=2, keepdims=True)
    cheapest = float(evaluate(base, solve(base.with_limits([0.0])).policy).costs[0])
    return [
        ("all rewards alike", same),
        ("no costs, no room", free),
        ("at the edge", exact),
        ("beyond the edge", over),
        ("disconnected", apart),
        ("large rewards, small costs", large),
        ("small rewards, large costs", small),
        ("rare transitions", TabularCMDP(rare, base.rewards, base.costs, base.cost_limits, base.start, 0.9)),
        ("just feasible", base.with_limits([cheapest * (1.0 + 1e-9)])),
        ("just infeasible", base.with_limits([cheapest * (1.0 - 1e-6)])),
    ]


@pytest.mark.parametrize(("name", "task"), edges(), ids=[name for name, _ in edges()])
def test_degenerate_and_ill_scaled_tasks(name: str, task: TabularCMDP) -> None:
    found = solve_many([task, task])
    expected = solve(task)
    for answer in found.answers:
        assert answer.status == expected.status
        if expected.status == "optimal":
            proof = certify(task, answer.policy, answer.multipliers)
            assert proof.relative_gap <= 1e-7 and proof.relative_excess <= 1e-7
            assert abs(answer.value - expected.value) <= 2e-7 * proof.scale + 1e-7 * proof.scale


def test_several_constraints_none_and_functionals_are_named_as_the_occupancy_programs() -> None:
    rng = np.random.default_rng(2)
    for count in (0, 2):
        tasks = [random_cmdp(rng, 4, 2, count) for _ in range(3)]
        found = solve_many(tasks)
        assert found.methods == ("occupancy",) * 3
        for task, answer in zip(tasks, found.answers):
            np.testing.assert_array_equal(answer.policy, solve(task).policy)


@pytest.mark.parametrize("what", ["value", "bound", "policy"])
def test_a_wrong_answer_is_not_believed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the search or the elimination returns, the proof fails and the occupancy program answers."""
    tasks = [random_cmdp(np.random.default_rng(k), 5, 3, 1, 0.9, [8.0], 1.0) for k in range(3)]
    expected = [solve(t) for t in tasks]
    if what == "value":
        original: Any = bulk._evaluated

        def wrong(*arguments: Any) -> Any:
            values, off = original(*arguments)
            return values, off + 1e-3

        monkeypatch.setattr(bulk, "_evaluated", wrong)
    elif what == "bound":
        search: Any = bulk._search

        def poor(*arguments: Any) -> Any:
            found = list(search(*arguments))
            found[4] = found[4] * 1.5 + 1.0
            return tuple(found)

        monkeypatch.setattr(bulk, "_search", poor)
    else:
        mixed: Any = bulk._mixed

        def shuffled(*arguments: Any) -> Any:
            return np.full_like(mixed(*arguments), 1.0 / 3.0)

        monkeypatch.setattr(bulk, "_mixed", shuffled)
    found = solve_many(tasks)
    assert set(found.methods) == {"occupancy"}
    for answer, right in zip(found.answers, expected):
        assert answer.bound == pytest.approx(right.bound, rel=1e-9)


def test_tasks_that_differ_in_size_and_empty_lists_are_refused() -> None:
    rng = np.random.default_rng(0)
    with refused("SF-ARGUMENT-EMPTY", "cmdps"):
        solve_many([])
    with refused("SF-ARGUMENT-MISMATCH", "cmdps", "(4, 2, 1)", "(5, 2, 1)"):
        solve_many([random_cmdp(rng, 4, 2), random_cmdp(rng, 5, 2)])


def test_answers_are_as_many_as_tasks() -> None:
    found = solve_many([random_cmdp(np.random.default_rng(0), 3, 2)] * 3)
    assert len(found) == len(found.answers) == len(found.methods) == 3
    assert replace(found, methods=("bulk",) * 3).answers is found.answers


def test_the_bound_holds_for_any_numbers_and_is_exact_for_the_right_ones() -> None:
    rng = np.random.default_rng(8)
    tasks = [random_cmdp(rng, 3, 2, 1, 0.9, [3.0], 1.0) for _ in range(4)]
    plan = plan_elimination(tasks[0].keys, 3, 2)
    assert plan is not None
    batch = bulk._Batch(plan, tasks, np.stack([t.probabilities for t in tasks]), 0.9)
    share, price = np.array([1.0, 1.0, 0.0, 1.0]), np.array([0.0, 0.7, 1.0, 2.0])
    signals = [w * t.rewards - p * t.costs[0] for t, w, p in zip(tasks, share, price)]
    best = np.array([iterate_values(t, f, largest=True) for t, f in zip(tasks, signals)])
    for _ in range(20):
        value = rng.normal(scale=10.0, size=(4, 3))
        assert (batch._bound(share, price, value) >= best - 1e-9).all()
    right = np.zeros((4, 3))
    for _ in range(500):
        right = np.stack([np.max(f + 0.9 * (t.dense @ v), axis=1) for t, f, v in zip(tasks, signals, right)])
    np.testing.assert_allclose(batch._bound(share, price, right), best, rtol=1e-8)


def test_an_elimination_that_goes_wrong_is_noticed_by_its_residual() -> None:
    task = random_cmdp(np.random.default_rng(9), 6, 2, 1, 0.9, [8.0], 1.0)
    plan = plan_elimination(task.keys, 6, 2)
    assert plan is not None
    assert bulk.BulkProgram(plan).solve([task]).methods == ("bulk",)
    broken = replace(plan, diagonal=np.roll(plan.diagonal, 1))
    answer = bulk.BulkProgram(broken).solve([task])
    assert answer.methods == ("occupancy",)
    assert answer.answers[0].value == solve(task).value
