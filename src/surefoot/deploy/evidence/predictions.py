"""What the cells predict, as arrays that all kinds of evidence read.

Letters: N cells, M tasks outside, P = N + M points, J policies, I constraints, F = 1 + I outcomes (X declared signals more where wanted),
B initial states, n episodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.policyset.schema import PolicySet, SignalPredictions

__all__ = ["PredictionTable", "predictions_of"]


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """Predicted boxes for every cell, policy, signal and initial state, and the values of every point.

    The last of the B + 1 columns is the unconditional prediction. An episode needs one policy and one initial state of all cells, so these lie side
    by side in memory.

    Attributes:
        lower, upper: (N, J, F, B+1).
        center: (P, J, F, B+1) values of cells' centres and outside tasks; NaN where unknown.
        states: (B,) sorted labels.
        low, high: (F,) range of the outcome.
    """

    lower: FloatArray
    upper: FloatArray
    center: FloatArray
    states: IntArray
    low: FloatArray
    high: FloatArray

    @staticmethod
    def of(policy_set: PolicySet, ceilings: FloatArray) -> PredictionTable:
        """Gather a policy set's predictions."""
        cells, whole, given = policy_set.cells, policy_set.cells.predictions, policy_set.cells.conditional
        lower = _stack(whole.reward_lower, whole.cost_lower)
        upper = _stack(whole.reward_upper, whole.cost_upper)
        center = _stack(whole.reward_center, whole.cost_center)
        if given is not None:
            by_state = [
                _stack_states(given.reward_lower, given.cost_lower),
                _stack_states(given.reward_upper, given.cost_upper),
            ]
            lower, upper = np.concatenate([by_state[0], lower], axis=3), np.concatenate([by_state[1], upper], axis=3)
            center = np.concatenate([0.5 * (by_state[0] + by_state[1]), center], axis=3)
        if cells.outside is not None:
            far = _stack(cells.outside.reward, cells.outside.cost)
            if given is not None:
                far = np.concatenate(
                    [_stack_states(cells.outside.reward_by_state, cells.outside.cost_by_state), far], axis=3
                )
            center = np.concatenate([center, far])
        states = np.zeros(0, dtype=np.int64) if given is None else given.initial_states
        low, high = policy_set.criterion.return_range
        low, high = np.r_[low, np.zeros(len(ceilings))], np.r_[high, ceilings]
        return PredictionTable(_by_episode(lower), _by_episode(upper), _by_episode(center), states, low, high)

    def with_signals(self, signals: SignalPredictions) -> PredictionTable:
        """The same with X more coordinates; given an initial state nothing is predicted for them, so the whole range is possible there."""
        (n, j, x), b, points = signals.lower.shape, self.states.size, len(self.center)
        lower, upper = (np.broadcast_to(end[:, None], (n, j, x, b + 1)).copy() for end in signals.bounds.T)
        lower[..., b] = np.clip(signals.lower, *signals.bounds.T)
        upper[..., b] = np.clip(signals.upper, *signals.bounds.T)
        center = np.full((points, j, x, b + 1), np.nan)
        center[:n] = 0.5 * (lower + upper)
        return PredictionTable(
            _by_episode(np.concatenate([self.lower, lower], axis=2)),
            _by_episode(np.concatenate([self.upper, upper], axis=2)),
            _by_episode(np.concatenate([self.center, center], axis=2)),
            self.states,
            np.r_[self.low, signals.bounds[:, 0]],
            np.r_[self.high, signals.bounds[:, 1]],
        )

    def column(self, initial_states: Any, n: int) -> IntArray:
        """(n,) column of each episode; unknown or untold initial states use the unconditional one."""
        if initial_states is None or not self.states.size:
            return np.full(n, self.states.size, dtype=np.int64)
        labels = np.broadcast_to(np.asarray(initial_states), (n,))
        where = np.minimum(np.searchsorted(self.states, labels), self.states.size - 1)
        return np.where(self.states[where] == labels, where, self.states.size).astype(np.int64)


def _by_episode(table: FloatArray) -> FloatArray:
    """The same (N, J, F, B+1), in the order (J, B+1, N, F) in memory."""
    found: FloatArray = np.ascontiguousarray(table.transpose(1, 3, 0, 2)).transpose(2, 0, 3, 1)
    return found


def _stack(reward: FloatArray, cost: FloatArray) -> FloatArray:
    """(N, J, F, 1)."""
    return np.concatenate([reward[:, :, None], cost], axis=2)[..., None]


def _stack_states(reward: FloatArray, cost: FloatArray) -> FloatArray:
    """(N, J, F, B)."""
    return np.concatenate([reward[:, :, None], cost], axis=2)


_PREDICTIONS: WeakKeyDictionary[PolicySet, dict[bytes, PredictionTable]] = WeakKeyDictionary()


def predictions_of(policy_set: PolicySet, ceilings: FloatArray) -> PredictionTable:
    """A policy set's table, shared by all agents that use it with these ceilings (I,)."""
    known, key = _PREDICTIONS.setdefault(policy_set, {}), ceilings.tobytes()
    if key not in known:
        known.clear()  # one is enough: deployments of one policy set share their ceilings
        known[key] = PredictionTable.of(policy_set, ceilings)
    return known[key]
