"""Small finite CMDPs, and slow independent answers about them: enumeration, value iteration, plain loops.

Nothing here imports the library's evaluation or its solver, so that tests compare two ways of computing one number.

Letters: S states, A actions, I constraints, K deterministic policies.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import strategies as st

from surefoot.arrays import FloatArray
from surefoot.cmdp.model import TabularCMDP

__all__ = [
    "cmdps",
    "deterministic_policies",
    "fork",
    "hull_optimum",
    "iterate_values",
    "one_state",
    "random_cmdp",
    "random_policy",
    "slow_values",
]


def random_cmdp(
    rng: np.random.Generator,
    states: int = 4,
    actions: int = 3,
    constraints: int = 1,
    discount: float = 0.8,
    limits: Any = None,
    density: float = 0.6,
) -> TabularCMDP:
    """A CMDP with random sparse rows; by default the limits lie between the cheapest and the dearest constant action."""
    weights = rng.random((states, actions, states)) * (rng.random((states, actions, states)) < density)
    weights[..., 0] += 1e-3
    kernel = weights / weights.sum(axis=-1, keepdims=True)
    costs = 2.0 * rng.random((constraints, states, actions))
    limits = 0.9 / (1.0 - discount) * np.ones(constraints) if limits is None else limits
    start = rng.dirichlet(np.ones(states))
    return TabularCMDP(kernel, rng.normal(size=(states, actions)), costs, limits, start, discount)


def random_policy(rng: np.random.Generator, states: int, actions: int, count: int | None = None) -> FloatArray:
    """(S, A), or (count, S, A), with some zero probabilities."""
    shape = (states, actions) if count is None else (count, states, actions)
    weights = rng.random(shape) * (rng.random(shape) < 0.7) + 1e-3 * (np.arange(actions) == 0)
    table: FloatArray = weights / weights.sum(axis=-1, keepdims=True)
    return table


@st.composite
def cmdps(draw: st.DrawFn, max_constraints: int = 2) -> TabularCMDP:
    """Random CMDPs of up to 5 states and 3 actions."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return random_cmdp(
        rng,
        states=draw(st.integers(1, 5)),
        actions=draw(st.integers(1, 3)),
        constraints=draw(st.integers(0, max_constraints)),
        discount=draw(st.floats(0.05, 0.97)),
        density=draw(st.floats(0.1, 1.0)),
    )


def one_state(rewards: Any, costs: Any, limits: Any, discount: float = 0.9) -> TabularCMDP:
    """A bandit: one state that every action returns to."""
    arms = len(rewards)
    return TabularCMDP(
        np.ones((1, arms, 1)), np.asarray([rewards]), np.asarray(costs)[:, None, :], limits, np.ones(1), discount
    )


def fork(limit: float, discount: float = 0.9) -> TabularCMDP:
    """State 0 leads to the goal 2 at once for a cost of 1 (action 0), or for nothing through state 1 (action 1)."""
    kernel = np.zeros((3, 2, 3))
    kernel[0, 0, 2] = kernel[0, 1, 1] = 1.0
    kernel[1, :, 2] = kernel[2, :, 2] = 1.0
    rewards = np.zeros((3, 2))
    rewards[2] = 1.0
    costs = np.zeros((1, 3, 2))
    costs[0, 0, 0] = 1.0
    return TabularCMDP(kernel, rewards, costs, np.array([limit]), np.array([1.0, 0.0, 0.0]), discount)


def deterministic_policies(states: int, actions: int) -> FloatArray:
    """(A^S, S, A) all of them."""
    choices = np.array(list(itertools.product(range(actions), repeat=states)))
    return np.eye(actions)[choices]


def slow_values(cmdp: TabularCMDP, table: FloatArray, sweeps: int = 2000) -> FloatArray:
    """(1+I,) values of one policy by iterating the Bellman operator in plain loops over states."""
    kernel, signals = np.asarray(cmdp.dense), np.asarray(cmdp.signals)
    values = np.zeros((len(signals), cmdp.n_states))
    for _ in range(sweeps):
        update = np.empty_like(values)
        for s in range(cmdp.n_states):
            future = values @ kernel[s].T
            update[:, s] = (signals[:, s, :] + cmdp.discount * future) @ table[s]
        if np.abs(update - values).max() < 1e-14:
            break
        values = update
    result: FloatArray = values @ cmdp.start
    return result


def iterate_values(cmdp: TabularCMDP, signal: FloatArray, *, largest: bool) -> float:
    """Unconstrained optimum of one signal by value iteration."""
    value = np.zeros(cmdp.n_states)
    pick = np.max if largest else np.min
    for _ in range(5000):
        update = pick(signal + cmdp.discount * (cmdp.dense @ value), axis=1)
        change, value = float(np.abs(update - value).max()), update
        if change < 1e-14:
            break
    return float(cmdp.start @ value)


def hull_optimum(cmdp: TabularCMDP) -> float:
    """``V*`` by enumeration, or ``-inf`` when nothing is feasible.

    The attainable (return, costs) are the convex hull of those of the K deterministic policies, so the optimum is attained by a
    combination of at most I + 1 of them at which the chosen constraints are tight: try them all.
    """
    points = np.array([slow_values(cmdp, t) for t in deterministic_policies(cmdp.n_states, cmdp.n_actions)])
    returns, costs, best = points[:, 0], points[:, 1:], -np.inf
    for tight in range(cmdp.n_constraints + 1):
        for rows in itertools.combinations(range(cmdp.n_constraints), tight):
            for members in itertools.combinations(range(len(points)), tight + 1):
                best = max(best, _combination(returns, costs, cmdp.cost_limits, list(rows), list(members)))
    return best


def _combination(
    returns: FloatArray, costs: FloatArray, limits: FloatArray, rows: list[int], members: list[int]
) -> float:
    system = np.vstack([costs[members][:, rows].T, np.ones(len(members))])
    try:
        weights = np.linalg.solve(system, np.append(limits[rows], 1.0))
    except np.linalg.LinAlgError:
        return -np.inf
    feasible = weights.min() >= -1e-12 and (weights @ costs[members] <= limits + 1e-9).all()
    return float(weights @ returns[members]) if feasible else -np.inf
