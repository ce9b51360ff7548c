"""Slow independent answers about families: the Lagrangian dual by value iteration, and envelopes of enumerated policies.

Nothing here uses the library's solver or its evaluation.

Letters: S states, A actions, J policies.
"""

from __future__ import annotations

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.cmdp.model import TabularCMDP
from tests.models import iterate_values

__all__ = ["birth_death_law", "deterministic", "dual_optimum", "envelope_at", "swept_values"]

GOLDEN = 0.5 * (5.0**0.5 - 1.0)


def dual_optimum(cmdp: TabularCMDP, largest_multiplier: float = 20.0) -> float:
    """``min over l >= 0 of max over pi of V_{r - l c}(pi) + l d``: the constrained optimum, by strong duality, for one constraint."""

    def dual(multiplier: float) -> float:
        signal = cmdp.rewards - multiplier * cmdp.costs[0]
        return iterate_values(cmdp, signal, largest=True) + multiplier * float(cmdp.cost_limits[0])

    low, high = 0.0, largest_multiplier
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = dual(left), dual(right)
    while high - low > 1e-6:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = dual(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = dual(right)
    return min(at_left, at_right, dual(0.0))


def swept_values(cmdp: TabularCMDP, tables: FloatArray) -> FloatArray:
    """(J, 1+I) values of (J, S, A) policies by iterating their Bellman operators, all at once."""
    kernels = np.einsum("jsa,sat->jst", tables, cmdp.dense)
    signals = np.einsum("jsa,fsa->jsf", tables, np.asarray(cmdp.signals))
    values = np.zeros_like(signals)
    for _ in range(int(np.ceil(np.log(1e-13) / np.log(cmdp.discount)))):
        values = signals + cmdp.discount * kernels @ values
    result: FloatArray = np.einsum("jsf,s->jf", values, cmdp.start)
    return result


def envelope_at(costs: FloatArray, returns: FloatArray, limit: float) -> float:
    """Largest return of a mixture of two of J policies whose cost is at most ``limit``: the concave envelope of (J,) points."""
    best = float(returns[costs <= limit].max(initial=-np.inf))
    for cheap, worth in zip(costs[costs <= limit], returns[costs <= limit]):
        dear = costs > limit
        share = (limit - cheap) / (costs[dear] - cheap)
        best = max(best, float((worth + share * (returns[dear] - worth)).max(initial=-np.inf)))
    return best


def deterministic(actions: FloatArray, n_actions: int) -> FloatArray:
    """(S, A) table of a policy given by its action in every state."""
    return np.eye(n_actions)[np.asarray(actions, dtype=np.int64)]


def birth_death_law(up: FloatArray, down: FloatArray) -> FloatArray:
    """Stationary law in product form: ``pi_{s+1} / pi_s = up_s / down_{s+1}``, for (S-1,) ``up`` from s and ``down`` from s+1."""
    weights = np.concatenate([[1.0], np.cumprod(np.asarray(up) / np.asarray(down))])
    law: FloatArray = weights / weights.sum()
    return law
