"""Planned elimination against LAPACK, and its plan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import TabularCMDP
from surefoot.cmdp import elimination
from surefoot.cmdp.elimination import plan_elimination, planned_values
from surefoot.cmdp.evaluate import state_values
from surefoot.training.coverage import joint_support
from tests.models import random_cmdp, random_policy, slow_values


@settings(max_examples=30)
@given(
    st.integers(0, 2**32),
    st.integers(1, 9),
    st.integers(1, 3),
    st.sampled_from([0.1, 0.9, 0.9999]),
    st.floats(0.1, 1.0),
)
def test_values_are_those_of_a_solver_with_pivots(
    seed: int, states: int, actions: int, discount: float, density: float
) -> None:
    rng = np.random.default_rng(seed)
    tasks = [random_cmdp(rng, states, actions, 2, discount, [1.0, 1.0], density) for _ in range(2)]
    plan = plan_elimination(joint_support(tasks), states, actions)
    tables = random_policy(rng, states, actions, count=40)
    for task in tasks:
        found, expected = planned_values(plan, task, tables), state_values(task, tables)
        scale = np.abs(expected).max(axis=(0, 2), keepdims=True) + 1.0
        # The condition of the system is at most 2 / (1 - gamma).
        np.testing.assert_array_less(np.abs(found - expected) / scale, 1e-14 * 20.0 / (1.0 - discount))


def test_values_are_those_of_iterating() -> None:
    rng = np.random.default_rng(1)
    task = random_cmdp(rng, 6, 3, 1)
    table = random_policy(rng, 6, 3)
    found = planned_values(plan_elimination(joint_support([task]), 6, 3), task, table[None])[0] @ task.start
    np.testing.assert_allclose(found, slow_values(task, table), rtol=1e-9)


def test_certain_moves_and_discounts_next_to_one_lose_no_digits() -> None:
    """A ring: the dominance of the diagonal is as weak as it gets."""
    n, discount = 50, 1.0 - 1e-7
    kernel = np.zeros((n, 1, n))
    kernel[np.arange(n), 0, (np.arange(n) + 1) % n] = 1.0
    rewards = np.zeros((n, 1))
    rewards[0] = 1.0
    task = TabularCMDP(kernel, rewards, np.ones((1, n, 1)), [1.0], np.full(n, 1.0 / n), discount)
    found = planned_values(plan_elimination(joint_support([task]), n, 1), task, np.ones((1, n, 1)))[0]
    np.testing.assert_allclose(found[1], 1.0 / (1.0 - discount), rtol=1e-8)
    np.testing.assert_allclose(found[0, 0], 1.0 / (1.0 - discount**n), rtol=1e-7)


def test_a_policys_values_do_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(4)
    task = random_cmdp(rng, 7, 3, 1)
    plan, tables = plan_elimination(joint_support([task]), 7, 3), random_policy(rng, 7, 3, count=70)
    together = planned_values(plan, task, tables)
    for k in (0, 31, 32, 69):
        np.testing.assert_array_equal(planned_values(plan, task, tables[k : k + 1])[0], together[k])


def test_a_chain_has_no_fill_and_a_star_is_eliminated_from_its_leaves() -> None:
    n = 30
    chain = np.zeros((n, 1, n))
    for s in range(n):
        chain[s, 0, [max(s - 1, 0), min(s + 1, n - 1)]] += 0.5
    star = np.zeros((n, 1, n))
    star[1:, 0, 0], star[0, 0] = 1.0, 1.0 / n
    for kernel, size in ((chain, 3 * n - 2), (star, 3 * n - 2)):
        keys = np.flatnonzero(kernel)
        plan = plan_elimination(keys, n, 1)
        assert plan is not None and plan.size == size
        assert sorted(plan.order.tolist()) == list(range(n))


def test_tasks_outside_the_plan_and_large_ones_are_evaluated_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    inside, outside = random_cmdp(rng, 4, 2, density=0.2), random_cmdp(rng, 4, 2, density=1.0)
    plan = plan_elimination(joint_support([inside]), 4, 2)
    assert plan is not None
    assert plan.probabilities(outside) is None
    tables = random_policy(rng, 4, 2, count=3)
    np.testing.assert_array_equal(planned_values(plan, outside, tables), state_values(outside, tables))
    np.testing.assert_array_equal(planned_values(None, inside, tables), state_values(inside, tables))
    monkeypatch.setattr(elimination, "MOST_STATES", 3)
    assert plan_elimination(joint_support([inside]), 4, 2) is None
