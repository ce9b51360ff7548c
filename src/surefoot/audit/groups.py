"""What audits recompute from: logarithms that are summed, reports as arrays, and what cells predict.

Letters: N cells, J policies, I constraints, F = 1 + I signals, B initial states, n episodes.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.criterion import CVaR, Exceeds, Mean
from surefoot.policyset.schema import PolicySet

__all__ = ["Group", "PredictedBoxes", "limited", "log_sum"]


def log_sum(logs: FloatArray, axis: int | tuple[int, ...] | None = None) -> Any:
    """``log sum exp``; ``-inf`` for nothing but ``-inf``."""
    top = np.max(logs, axis=axis, keepdims=True)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.sum(np.exp(logs - safe), axis=axis)) + np.squeeze(safe, axis=axis)


def limited(functionals: tuple[Any, ...], costs: FloatArray) -> FloatArray:
    """(n, I) what is limited of reported costs (n, K); number by number, by code of its own."""
    if not functionals or max(f.signal for f in functionals) >= costs.shape[1]:
        return costs  # an audit looks at the width
    table = np.empty((len(costs), len(functionals)))
    for i, f in enumerate(functionals):
        for k, cost in enumerate(costs[:, f.signal].tolist()):
            if isinstance(f, Exceeds):
                table[k, i] = 1.0 if cost > f.threshold else 0.0
            elif isinstance(f, CVaR):
                beyond = cost - float(f.threshold or 0.0)
                table[k, i] = float(f.threshold or 0.0) + (beyond / f.level if beyond > 0.0 else 0.0)
            elif isinstance(f, Mean):
                table[k, i] = cost
            else:
                table[k, i] = float(f.of(np.float64(cost)))
    return table


class Group:
    """Episodes that were told together.

    Attributes:
        ids, policies: (n,).
        reported: (n, K) costs as the plant reported them.
        outcomes: (n, F), of what is limited.
        starts: (n,) or ``None``.
        rows: (m, 4) or ``None``.
        signals: (n, X) or ``None``.
    """

    def __init__(self, body: dict[str, Any], policies: list[int], functionals: tuple[Any, ...] = ()) -> None:
        n = len(body["ids"])
        costs = np.array(body["costs"], float).reshape(n, -1)
        self.ids, self.policies = np.array(body["ids"], dtype=np.int64), np.array(policies, dtype=np.int64)
        self.reported = costs
        self.outcomes = np.column_stack([np.array(body["reward"], float), limited(functionals, costs)])
        self.starts = None if body.get("initial_state") is None else np.array(body["initial_state"], dtype=np.int64)
        rows, signals = body.get("transitions"), body.get("signals")
        self.rows = None if rows is None else np.array(rows, dtype=np.int64).reshape(-1, 4)
        self.signals = None if signals is None else np.array(signals, float).reshape(n, -1)

    def sound(self, low: float, high: float) -> Any:
        """(n,) whose return lies in the declared range; another one could have been any."""
        furthest = max(abs(low), abs(high))
        reach = 1e-6 * (furthest + min(furthest, 1.0))
        return (self.outcomes[:, 0] >= low - reach) & (self.outcomes[:, 0] <= high + reach)

    def with_broken_returns(self, low: float, high: float) -> Group:
        """The same with NaN for returns out of range."""
        found = copy.copy(self)
        found.outcomes = self.outcomes.copy()
        found.outcomes[~self.sound(low, high), 0] = np.nan
        return found


class PredictedBoxes:
    """Predicted intervals and values of every point, with the unconditional ones in the last of B + 1 columns.

    Attributes:
        lower, upper: (N, J, F, B+1).
        points: (P, J, F, B+1).
        states: (B,).
        low, high: (F,).
    """

    def __init__(self, policy_set: PolicySet, ceilings: FloatArray) -> None:
        cells = policy_set.cells
        whole, given, far = cells.predictions, cells.conditional, cells.outside
        self.states = np.zeros(0, dtype=np.int64) if given is None else given.initial_states
        n, j, i = whole.cost_lower.shape
        b = self.states.size
        self.lower, self.upper = np.empty((2, n, j, 1 + i, b + 1))
        for table, side in ((self.lower, "lower"), (self.upper, "upper")):
            table[:, :, 0, b], table[:, :, 1:, b] = getattr(whole, f"reward_{side}"), getattr(whole, f"cost_{side}")
            if given is not None:
                table[:, :, 0, :b], table[:, :, 1:, :b] = (
                    getattr(given, f"reward_{side}"),
                    getattr(given, f"cost_{side}"),
                )
        self.points = np.empty((n + (0 if far is None else len(far.reward)), j, 1 + i, b + 1))
        self.points[:n] = 0.5 * (self.lower + self.upper)
        self.points[:n, :, 0, b], self.points[:n, :, 1:, b] = whole.reward_center, whole.cost_center
        if far is not None:
            self.points[n:, :, 0, b], self.points[n:, :, 1:, b] = far.reward, far.cost
            if given is not None:
                self.points[n:, :, 0, :b], self.points[n:, :, 1:, :b] = far.reward_by_state, far.cost_by_state
        reward_low, reward_high = policy_set.criterion.return_range
        self.low, self.high = np.array([reward_low, *np.zeros(i)]), np.array([reward_high, *ceilings])

    def widened(self, policy_set: PolicySet) -> PredictedBoxes:
        """With declared signals as further coordinates: their ranges where an initial state is given, NaN for outside tasks."""
        found, signals = copy.copy(self), policy_set.cells.signals
        if signals is None:
            return found
        n, points, x = len(self.lower), len(self.points), len(signals.names)
        shape = (*self.lower.shape[:2], x, self.lower.shape[3])
        low, high = np.empty(shape), np.empty(shape)
        for k, (least, most) in enumerate(signals.bounds.tolist()):
            low[:, :, k], high[:, :, k] = least, most
            low[:, :, k, -1] = np.minimum(np.maximum(signals.lower[:, :, k], least), most)
            high[:, :, k, -1] = np.minimum(np.maximum(signals.upper[:, :, k], least), most)
        beyond = np.full((points - n, *shape[1:]), np.nan)
        found.lower, found.upper = np.concatenate([self.lower, low], 2), np.concatenate([self.upper, high], 2)
        found.points = np.concatenate([self.points, np.concatenate([(low + high) / 2, beyond])], axis=2)
        found.low, found.high = (
            np.concatenate([end, ends])
            for end, ends in ((self.low, signals.bounds[:, 0]), (self.high, signals.bounds[:, 1]))
        )
        return found

    def columns(self, starts: IntArray | None, n: int) -> IntArray:
        """(n,) column of each episode."""
        known = {int(state): k for k, state in enumerate(self.states)}
        if starts is None:
            return np.full(n, len(known), dtype=np.int64)
        return np.array([known.get(label, len(known)) for label in starts.tolist()], dtype=np.int64)
