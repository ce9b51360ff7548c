"""Deterministic policies as action indices: the same results as their tables, to the last bit where nothing is solved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import surefoot as sf
from surefoot.cmdp.model import DENSE_STATES
from tests.models import random_cmdp
from tests.refusals import refused


def sparse_task(states: int, actions: int) -> sf.TabularCMDP:
    """Three successors per pair, one cost."""
    rng = np.random.default_rng(5)
    successors = rng.integers(0, states, (states * actions, 3))
    chances = rng.dirichlet(np.ones(3), states * actions)
    begin = np.arange(0, 3 * states * actions + 1, 3)
    kernel = csr_matrix((chances.ravel(), successors.ravel(), begin), shape=(states * actions, states))
    signals = rng.random((2, states, actions))
    return sf.TabularCMDP(kernel, signals[0], signals[1:], [5.0], np.full(states, 1.0 / states), 0.9)


def drawn(task: sf.TabularCMDP, many: int) -> sf.DeterministicPolicies:
    actions = np.random.default_rng(6).integers(0, task.n_actions, (many, task.n_states))
    return sf.DeterministicPolicies(actions, task.n_actions)


def test_they_hold_one_byte_each_and_nobody_changes_them() -> None:
    given = np.array([[0, 2, 1], [2, 2, 0]])
    policies = sf.DeterministicPolicies(given, 3)
    given[:] = 0
    assert policies.actions.dtype == np.uint8 and not policies.actions.flags.writeable
    assert policies.actions.tolist() == [[0, 2, 1], [2, 2, 0]]
    assert (len(policies), policies.n_states) == (2, 3)
    np.testing.assert_array_equal(policies.tables.argmax(axis=2), policies.actions)
    assert sf.DeterministicPolicies([300, 0], 301).actions.dtype == np.uint16


@pytest.mark.parametrize("states", [7, DENSE_STATES + 100])
def test_rollouts_are_those_of_the_tables_to_the_last_bit(states: int) -> None:
    task = (
        random_cmdp(np.random.default_rng(1), states=7, actions=3, constraints=2)
        if states == 7
        else sparse_task(states, 3)
    )
    policies = drawn(task, 3)
    index = np.arange(600) % 3
    found = [
        sf.Simulator(task, given).run(index, seed=3, groups=index % 2, visits=True)
        for given in (policies, policies.tables)
    ]
    for name in ("returns", "costs", "initial_states", "transitions"):
        np.testing.assert_array_equal(*(getattr(f, name) for f in found))
    for name in ("count", "discounted", "to_go"):
        np.testing.assert_array_equal(*(getattr(f.visits, name) for f in found))
    assert found[0].steps == found[1].steps


@pytest.mark.parametrize("states", [7, DENSE_STATES + 100])
def test_values_and_ceilings_are_those_of_the_tables(states: int) -> None:
    task = (
        random_cmdp(np.random.default_rng(1), states=7, actions=3, constraints=2)
        if states == 7
        else sparse_task(states, 3)
    )
    policies = drawn(task, 4)
    np.testing.assert_allclose(sf.evaluate_many(task, policies), sf.evaluate_many(task, policies.tables), rtol=1e-10)
    one = sf.DeterministicPolicies(policies.actions[2], task.n_actions)
    np.testing.assert_allclose(sf.evaluate(task, one).costs, sf.evaluate(task, policies.tables[2]).costs, rtol=1e-10)
    ours, theirs = sf.ceilings(task, policies), sf.ceilings(task, policies.tables)
    assert (ours.return_lower, ours.return_upper) == (theirs.return_lower, theirs.return_upper)
    np.testing.assert_array_equal(ours.costs, theirs.costs)
    with refused("SF-ARGUMENT-SHAPE"):
        sf.evaluate(task, policies)


def test_the_mixture_of_the_large_solver_can_be_evaluated_and_played() -> None:
    task = sparse_task(DENSE_STATES + 100, 3)
    best = sf.solve(task, method="columns").value_or_raise()
    assert best.mixture is not None
    values = best.mixture.weights @ sf.evaluate_many(task, best.mixture.policies)
    np.testing.assert_allclose(values, [best.value, *best.costs], rtol=1e-8)
    episodes = sf.simulate(task, best.mixture.policies, weights=best.mixture.weights, episodes=4000, seed=2)
    assert abs(episodes.returns.mean() - best.value) < 4.0 * episodes.returns.std() / np.sqrt(4000)


@pytest.mark.parametrize(
    ("actions", "n_actions", "code"),
    [
        ([[0, 3]], 3, "SF-ARGUMENT-RANGE"),
        ([[0, -1]], 3, "SF-ARGUMENT-RANGE"),
        ([[0.0, 1.0]], 3, "SF-ARGUMENT-TYPE"),
        ([[[0]]], 3, "SF-ARGUMENT-TYPE"),
        ([], 3, "SF-ARGUMENT-TYPE"),
        ([0], 0, "SF-ARGUMENT-RANGE"),
    ],
)
def test_what_names_no_action_is_refused(actions: Any, n_actions: int, code: str) -> None:
    with refused(code):
        sf.DeterministicPolicies(actions, n_actions)


@pytest.mark.parametrize("wrong", [(np.zeros((1, 6), int), 3), (np.zeros((1, 7), int), 2)])
def test_those_of_another_model_are_refused(wrong: Any) -> None:
    task, policies = random_cmdp(np.random.default_rng(1), states=7, actions=3), sf.DeterministicPolicies(*wrong)
    for use in (sf.Simulator, sf.evaluate, sf.evaluate_many, sf.ceilings, sf.state_values):
        with refused("SF-ARGUMENT-SHAPE"):
            use(task, policies)  # type: ignore[operator]
