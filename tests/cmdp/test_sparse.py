"""Compiled sweeps over sparse rows against dense linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot import TabularCMDP
from surefoot.cmdp.sparse import SparseRows
from tests.models import cmdps, random_cmdp, random_policy

seeds = st.integers(0, 2**32)


@given(cmdps(), seeds)
def test_values_and_visits_of_a_policy_are_those_of_a_dense_solve(cmdp: TabularCMDP, seed: int) -> None:
    """Deterministic and stationary policies, from any values to begin with."""
    rng = np.random.default_rng(seed)
    rows, n = SparseRows(cmdp), cmdp.n_states
    actions = rng.integers(0, cmdp.n_actions, n).astype(np.int32)
    stationary = random_policy(rng, n, cmdp.n_actions)
    for under, table in (
        (rows.under(actions), np.eye(cmdp.n_actions)[actions]),
        (rows.under_table(stationary), stationary),
    ):
        system = np.eye(n) - cmdp.discount * np.einsum("sa,sat->st", table, cmdp.dense)
        signal, value = rng.normal(size=n), 10.0 * rng.normal(size=n)
        left = under.solve(signal, value)
        np.testing.assert_allclose(value, np.linalg.solve(system, signal), rtol=1e-9, atol=1e-11)
        assert np.abs(signal - system @ value).max() <= left + 1e-14 * (1.0 + np.abs(value).max())
        np.testing.assert_allclose(
            under.visits(cmdp.start), np.linalg.solve(system.T, cmdp.start), rtol=1e-9, atol=1e-11
        )


@given(cmdps(), seeds)
def test_a_greedy_step_is_that_of_the_bellman_operator(cmdp: TabularCMDP, seed: int) -> None:
    rng = np.random.default_rng(seed)
    value = rng.normal(size=cmdp.n_states)
    actions = rng.integers(0, cmdp.n_actions, cmdp.n_states).astype(np.int32)
    most, least, _ = SparseRows(cmdp).greedy(cmdp.rewards, value, actions)
    ahead = cmdp.rewards + cmdp.discount * cmdp.dense @ value
    np.testing.assert_allclose([most, least], [(ahead.max(1) - value).max(), (ahead.max(1) - value).min()], atol=1e-12)
    np.testing.assert_allclose(ahead[np.arange(cmdp.n_states), actions], ahead.max(axis=1), atol=1e-12)


def test_ties_keep_the_action_that_is_held() -> None:
    cmdp = TabularCMDP(np.full((3, 3, 3), 1 / 3), np.ones((3, 3)), np.zeros((0, 3, 3)), [], np.full(3, 1 / 3), 0.9)
    actions = np.array([2, 1, 0], np.int32)
    assert SparseRows(cmdp).greedy(cmdp.rewards, np.array([0.1, 0.2, 0.7]), actions)[2] == 0
    assert actions.tolist() == [2, 1, 0]


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6, 0.0])
def test_the_residual_that_is_asked_for_is_kept(tolerance: float) -> None:
    cmdp = random_cmdp(np.random.default_rng(0), states=200, actions=2, discount=0.999, density=0.02)
    under, value = SparseRows(cmdp).under(np.zeros(200, np.int32)), np.zeros(200)
    left = under.solve(cmdp.rewards[:, 0], value, tolerance)
    true = np.abs(cmdp.rewards[:, 0] + cmdp.discount * cmdp.dense[:, 0] @ value - value).max()
    assert true <= left * (1.0 + 1e-6) + 1e-12
    assert left <= max(tolerance, 1e-10)
