"""Is this policy feasible, and how far from optimal can it be? Answered without trusting any solver.

For multipliers ``lam >= 0`` weak duality bounds the optimum of a CMDP by an unconstrained problem,

    V* <= max_pi V_{r - lam c}(pi) + lam . d .

The right side is found by policy iteration written here, and made rigorous by its Bellman residual: if
``(T v)(s) - v(s) <= e`` for all s then ``max_pi V(pi) <= rho . v + e / (1 - gamma)``. Feasibility and value of the policy come
from its exact evaluation. Nothing in this module knows linear programming.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, as_floats
from surefoot.cmdp.evaluate import evaluate_many, state_values
from surefoot.cmdp.model import TabularCMDP

__all__ = ["OptimalityCertificate", "best_response", "certify"]

MAX_SWEEPS = 1000


@dataclass(frozen=True, eq=False)
class OptimalityCertificate:
    """What is proved about a policy.

    Attributes:
        value, costs: exact values of the policy, costs (I,).
        excess: largest ``V_c - d``; <= 0 means feasible.
        bound: upper bound on the value of every feasible policy.
    """

    value: float
    costs: FloatArray
    excess: float
    bound: float

    @property
    def gap(self) -> float:
        """``bound - value``: the policy is this close to optimal or closer."""
        return self.bound - self.value


def certify(cmdp: TabularCMDP, policy: Any, multipliers: Any) -> OptimalityCertificate:
    """Check a policy against the dual bound of ``multipliers`` (I,); negative multipliers count as zero."""
    lam = np.maximum(as_floats("multipliers", multipliers, (cmdp.n_constraints,)), 0.0)
    values = evaluate_many(cmdp, policy)[0]
    _, bound = best_response(cmdp, cmdp.rewards - np.tensordot(lam, cmdp.costs, axes=1), policy)
    costs = values[1:]
    return OptimalityCertificate(
        value=float(values[0]),
        costs=costs,
        excess=float((costs - cmdp.cost_limits).max(initial=-np.inf)),
        bound=bound + float(lam @ cmdp.cost_limits),
    )


def best_response(cmdp: TabularCMDP, signal: FloatArray, policy: Any) -> tuple[FloatArray, float]:
    """Unconstrained optimum of ``signal`` (S, A) by policy iteration from ``policy``.

    Returns the deterministic policy (S, A) and an upper bound on the optimal value that holds whether or not the
    iteration converged.
    """
    table = np.asarray(getattr(policy, "table", policy), dtype=np.float64)
    twin = cmdp.with_reward_only(signal)
    scale = max(1.0, float(np.abs(signal).max()))
    for _ in range(MAX_SWEEPS):
        value = state_values(twin, table)[0, 0]
        ahead = np.add.reduceat(cmdp.probabilities * value[cmdp.successors], cmdp.row_start[:-1])
        action_values = signal + cmdp.discount * ahead.reshape(signal.shape)
        residual = float((action_values.max(axis=1) - value).max())
        # Ties keep the first maximiser, and improvement below rounding stops: policy iteration cannot cycle.
        greedy = np.zeros_like(table)
        greedy[np.arange(cmdp.n_states), action_values.argmax(axis=1)] = 1.0
        if residual <= 1e-12 * scale / (1.0 - cmdp.discount):
            break
        table = greedy
    return table, float(cmdp.start @ value) + max(residual, 0.0) / (1.0 - cmdp.discount)
