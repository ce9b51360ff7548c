"""Is this policy feasible, and how far from optimal can it be? Answered without trusting any solver.

For multipliers ``lam >= 0`` weak duality bounds the optimum of a CMDP by an unconstrained problem,

    V* <= max_pi V_{r - lam c}(pi) + lam . d .

The right side is found by policy iteration written here, and made rigorous by its Bellman residual: with
``e(s) = (T v)(s) - v(s)`` every policy collects at most ``max_pi V(pi) <= rho . v + max e / (1 - gamma)``. Where rounding in states that
are hardly ever reached makes that crude, the identity ``V_f(pi) = rho . v + V_g(pi)``, ``g(s,a) = f(s,a) + gamma P v - v(s)``, is used to
bound the rest by the same method. Feasibility and value of the policy come from its exact evaluation. Nothing in this module knows
linear programming.

That no policy meets the limits is proved by weights ``mu >= 0`` of the constraints (Farkas): ``min_pi V_{mu c}(pi) > mu . d``.

Every quantity is judged in its own unit, so that a task may be stated in any: an excess relative to its limit, a gap relative to the
rewards that the policy collects (in absolute value).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, as_floats
from surefoot.cmdp.evaluate import evaluate_many, state_values
from surefoot.cmdp.model import TabularCMDP

__all__ = ["OptimalityCertificate", "best_response", "certify", "least_excess", "limit_units"]

PATIENT = 5
"""Sweeps of policy iteration that improve no value beyond rounding before it ends."""
MAX_SWEEPS = 1000
ROUNDING = 1e-13
"""Of the largest terms of a Bellman backup: improvements below are none."""
COARSE = 1e-9
"""Part of a bound that its residual may make up before it is refined."""
RESOLVED = 2.0**-20
"""A quantity below this share of what the uniform policy collects is judged in units of that share: evaluation resolves no more."""


@dataclass(frozen=True, eq=False)
class OptimalityCertificate:
    """What is proved about a policy.

    Attributes:
        value, costs: exact values of the policy, costs (I,).
        excess: largest ``V_c - d``; <= 0 means feasible.
        bound: upper bound on the value of every feasible policy.
        relative_excess: largest ``(V_c - d) / u`` with the units of :func:`limit_units`.
        scale: unit of the gap: what the policy collects of ``|r|``, or a small share of what the uniform policy does or of the limits' price.
    """

    value: float
    costs: FloatArray
    excess: float
    bound: float
    relative_excess: float
    scale: float

    @property
    def gap(self) -> float:
        """``bound - value``: the policy is this close to optimal or closer."""
        return self.bound - self.value

    @property
    def relative_gap(self) -> float:
        """The gap in its unit; 0 where both are 0."""
        return self.gap / self.scale if self.scale > 0.0 else (0.0 if self.gap == 0.0 else np.inf)


def limit_units(cmdp: TabularCMDP) -> FloatArray:
    """(I,) what an excess is measured in: the limit, or a small share of what wandering about costs where the limit is (next to) zero."""
    _, costs = _ordinary(cmdp)
    units = np.maximum(cmdp.cost_limits, RESOLVED * costs)
    return np.where(units > 0.0, units, 1.0)


def _ordinary(cmdp: TabularCMDP) -> tuple[float, FloatArray]:
    """``|r|`` and costs (I,) that the uniform policy collects: the order of magnitude of this task, rare and unreachable states included."""
    uniform = np.full((cmdp.n_states, cmdp.n_actions), 1.0 / cmdp.n_actions)
    reward = float(evaluate_many(cmdp.with_reward_only(np.abs(cmdp.rewards)), uniform)[0, 0])
    return reward, evaluate_many(cmdp, uniform)[0, 1:]


def certify(cmdp: TabularCMDP, policy: Any, multipliers: Any) -> OptimalityCertificate:
    """Check a policy against the dual bound of ``multipliers`` (I,); negative multipliers count as zero."""
    lam = np.maximum(as_floats("multipliers", multipliers, (cmdp.n_constraints,)), 0.0)
    values = evaluate_many(cmdp, policy)[0]
    _, bound = best_response(cmdp, cmdp.rewards - np.tensordot(lam, cmdp.costs, axes=1), policy)
    costs, price = values[1:], float(lam @ cmdp.cost_limits)
    collected = float(evaluate_many(cmdp.with_reward_only(np.abs(cmdp.rewards)), policy)[0, 0])
    # What evaluation cannot resolve is no gap either.
    rounding = RESOLVED * max(_ordinary(cmdp)[0], price)
    return OptimalityCertificate(
        value=float(values[0]),
        costs=costs,
        excess=float((costs - cmdp.cost_limits).max(initial=-np.inf)),
        bound=bound + price,
        relative_excess=float(((costs - cmdp.cost_limits) / limit_units(cmdp)).max(initial=-np.inf)),
        scale=max(collected, rounding),
    )


def least_excess(cmdp: TabularCMDP, weights: Any, policy: Any) -> float:
    """Lower bound on the worst excess, in the units of :func:`limit_units`, that any policy must leave; > 0 proves the task infeasible.

    Args:
        cmdp: the task.
        weights: (I,) of the constraints, in those units; negative ones count as zero. Any weights give a valid bound.
        policy: (S, A) where policy iteration starts; it affects the time only.
    """
    mu = np.maximum(as_floats("weights", weights, (cmdp.n_constraints,)), 0.0)
    if not mu.sum() > 0.0:
        return -np.inf
    prices = mu / mu.sum() / limit_units(cmdp)
    _, bound = best_response(cmdp, -np.tensordot(prices, cmdp.costs, axes=1), policy)
    return -bound - float(prices @ cmdp.cost_limits)


def best_response(cmdp: TabularCMDP, signal: FloatArray, policy: Any) -> tuple[FloatArray, float]:
    """Unconstrained optimum of ``signal`` (S, A) by policy iteration from ``policy``.

    Returns the deterministic policy (S, A) and an upper bound on the optimal value that holds whether or not the
    iteration converged.
    """
    table, value, advantage = _policy_iteration(cmdp, signal, policy)
    found, rest = float(cmdp.start @ value), _rest(cmdp, advantage)
    if rest > COARSE * abs(found):
        _, more, left = _policy_iteration(cmdp, advantage, table)
        rest = min(rest, float(cmdp.start @ more) + _rest(cmdp, left))
    return table, found + rest


def _rest(cmdp: TabularCMDP, advantage: FloatArray) -> float:
    return max(float(advantage.max()), 0.0) / (1.0 - cmdp.discount)


def _policy_iteration(cmdp: TabularCMDP, signal: FloatArray, policy: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A deterministic policy (S, A), the values (S,) of the last one that was evaluated and the advantages (S, A) over it."""
    table = np.asarray(getattr(policy, "table", policy), dtype=np.float64)
    twin = cmdp.with_reward_only(signal)
    states = np.arange(cmdp.n_states)
    best, idle = -np.inf, 0
    for _ in range(MAX_SWEEPS):
        value = state_values(twin, table)[0, 0]
        action_values = signal + cmdp.discount * _expected(cmdp, value).reshape(signal.shape)
        advantage = action_values - value[:, None]
        # Ties keep the first maximiser, and improvement below rounding stops: policy iteration cannot cycle.
        greedy = np.zeros_like(table)
        greedy[states, action_values.argmax(axis=1)] = 1.0
        terms = np.abs(signal) + cmdp.discount * _expected(cmdp, np.abs(value)).reshape(signal.shape)
        found = float(value.sum())  # grows with every sweep that improves any state
        idle = 0 if found > best + ROUNDING * abs(found) else idle + 1
        best = max(best, found)
        # Rounding of the linear solve is a share of the largest value: where values are far smaller, improvements may be rounding and go
        # round in circles. What is left of them is part of the bound.
        if idle > PATIENT or (advantage.max(axis=1) <= ROUNDING * terms.max(axis=1)).all():
            return greedy, value, advantage
        table = greedy
    return table, value, advantage


def _expected(cmdp: TabularCMDP, value: FloatArray) -> FloatArray:
    """(S*A,) expected ``value`` (S,) of the next state."""
    result: FloatArray = np.add.reduceat(cmdp.probabilities * value[cmdp.successors], cmdp.row_start[:-1])
    return result
