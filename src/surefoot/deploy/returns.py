"""Evidence from returns and costs: joint bets, one e-process per (cell, rival) pair, pooled over policies.

An episode's outcome is ``x = (R, C_1..C_I)`` in the box of possible outcomes. Cell i says that under the policy that ran (from the observed
initial state, when it is told) its conditional mean lies in a box ``M_i = [lo, hi]``; the rival says ``m``. Along a direction u the bet is

    1 + u . x - sup_{z in M_i} u . z,          sup = sum_f max(u_f lo_f, u_f hi_f),

whose mean is at most one for **every** mean in the box, not only at its centre. Kelly's direction is ``u = S^-1 (m - p)`` with ``S`` the residual
covariance and ``p`` the member of ``M_i`` nearest to m; where that would gain nothing under the rival (correlated signals), the diagonal of S
is used, for which it does. If m itself lies in ``M_i`` there is no bet. u is scaled down so that the factor is at least ``1 - LARGEST_LOSS`` over the
whole box of possible outcomes. Because a bet is placed only where cell and rival disagree, policies on which they agree do not eat the wealth.

S is estimated from episodes that were told before the bet was fixed, so bets are predictable. Declared signals (mean speed, energy, ...) are
further coordinates of x, in which outside tasks have no known value: there is no gap to them along such a coordinate.

Letters: N cells, R rivals, J policies, I constraints, F = 1 + I outcomes, and X declared signals more where there are any, B initial states,
n episodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.alternatives import Alternatives
from surefoot.deploy.transitions import log_average
from surefoot.kernels import kernel
from surefoot.policyset.schema import PolicySet, SignalPredictions

__all__ = ["PredictionTable", "ReturnsEvidence", "Scale"]

LARGEST_LOSS = 0.5
PRIOR_EPISODES = 20.0
PRIOR_FRACTION = 0.25
"""Before any data the standard deviation is taken to be this share of a signal's range: bets start small."""


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """Predicted boxes for every cell, policy, signal and initial state, and the values of every point.

    The last of the B + 1 columns is the unconditional prediction.

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
        return PredictionTable(lower, upper, center, states, np.r_[low, np.zeros(len(ceilings))], np.r_[high, ceilings])

    def with_signals(self, signals: SignalPredictions) -> PredictionTable:
        """The same with X more coordinates; given an initial state nothing is predicted for them, so the whole range is possible there."""
        (n, j, x), b, points = signals.lower.shape, self.states.size, len(self.center)
        lower, upper = (np.broadcast_to(end[:, None], (n, j, x, b + 1)).copy() for end in signals.bounds.T[:, None])
        lower[..., b] = np.clip(signals.lower, *signals.bounds.T)
        upper[..., b] = np.clip(signals.upper, *signals.bounds.T)
        center = np.full((points, j, x, b + 1), np.nan)
        center[:n] = 0.5 * (lower + upper)
        return PredictionTable(
            np.concatenate([self.lower, lower], axis=2),
            np.concatenate([self.upper, upper], axis=2),
            np.concatenate([self.center, center], axis=2),
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


def _stack(reward: FloatArray, cost: FloatArray) -> FloatArray:
    """(N, J, F, 1)."""
    return np.concatenate([reward[:, :, None], cost], axis=2)[..., None]


def _stack_states(reward: FloatArray, cost: FloatArray) -> FloatArray:
    """(N, J, F, B)."""
    return np.concatenate([reward[:, :, None], cost], axis=2)


class Scale:
    """Residual covariance of the outcome, per initial state, shrunk towards all states together.

    Args:
        table: for ranges and columns.
    """

    def __init__(self, table: PredictionTable) -> None:
        size = table.low.size
        self._prior = np.diag((PRIOR_FRACTION * (table.high - table.low)) ** 2)
        self._sums = np.zeros((table.states.size + 1, size, size))
        self._counts = np.zeros(table.states.size + 1)

    def update(self, columns: IntArray, residuals: FloatArray) -> None:
        """Add residuals (n, F)."""
        np.add.at(self._sums, columns, residuals[:, :, None] * residuals[:, None, :])
        np.add.at(self._counts, columns, 1.0)

    def inverse(self, used: int | None = None) -> FloatArray:
        """(B+1, F, F) inverse covariances of the first ``used`` coordinates (all) as of now; zero elsewhere."""
        pooled = (self._sums.sum(axis=0) + self._prior) / (self._counts.sum() + 1.0)
        shrunk = (self._sums + PRIOR_EPISODES * pooled) / (self._counts + PRIOR_EPISODES)[:, None, None]
        floor = 1e-9 * np.diag(self._prior.diagonal())
        result: FloatArray = np.zeros_like(shrunk)
        result[:, :used, :used] = np.linalg.inv((shrunk + floor)[:, :used, :used])
        return result


class ReturnsEvidence:
    """Accumulated log-wealth of every pair.

    Args:
        table: predictions.
        rivals: the pairs.
    """

    def __init__(self, table: PredictionTable, alternatives: Alternatives) -> None:
        self._table, self._alternatives = table, alternatives
        self._used = np.isfinite(alternatives.log_weights).sum(axis=1)
        self.log_wealth = np.zeros(alternatives.index.shape)
        self.scale = Scale(table)

    def bets(self, used: int | None = None) -> FloatArray:
        """What has to be fixed when an episode is asked: the inverse covariances (B+1, F, F).

        Args:
            used: bet on the first so many coordinates only, whatever the others turn out to be.
        """
        return self.scale.inverse(used)

    def update(
        self, policy_index: IntArray, columns: IntArray, outcomes: FloatArray, bets: FloatArray, active: Any
    ) -> None:
        """Multiply in n episodes that were asked with the same ``bets``; outcomes (n, F)."""
        rows, table = np.flatnonzero(active), self._table
        _update(
            table.lower, table.upper, table.center, self._alternatives.index, self._used, rows, policy_index, columns, outcomes, bets,
            table.low, table.high, self.log_wealth,
        )  # fmt: skip
        middle = 0.5 * (
            table.lower[rows[:, None], policy_index, :, columns] + table.upper[rows[:, None], policy_index, :, columns]
        )
        self.scale.update(columns, outcomes - middle.mean(axis=0) if rows.size else outcomes)

    def forfeit(self, policy_index: int, bets: FloatArray, active: Any) -> None:
        """A lost episode: every pair takes the smallest factor that any initial state and outcome could have given."""
        rows, table = np.flatnonzero(active), self._table
        _forfeit(
            table.lower, table.upper, table.center, self._alternatives.index, rows, policy_index, bets, table.low, table.high,
            self.log_wealth,
        )  # fmt: skip

    def log_mean(self) -> FloatArray:
        """(N,) log of each cell's weighted average over its rivals."""
        return log_average(self.log_wealth, self._alternatives.log_weights)


@kernel
def _bet(lower, upper, alternative, inverse, low, high, gap, u):  # type: ignore[no-untyped-def]
    """Fill the direction u (F,) of one pair; returns the offset ``sup u . z`` and the smallest possible ``u . x - offset``."""
    n_signals = u.size
    any_gap = False
    for f in range(n_signals):
        u[f] = 0.0
        # Unknown values of a rival are NaN: no gap.
        gap[f] = (
            0.0
            if np.isnan(alternative[f])
            else max(alternative[f] - upper[f], 0.0) + min(alternative[f] - lower[f], 0.0)
        )
        any_gap = any_gap or gap[f] != 0.0
    if not any_gap:
        return 0.0, 0.0
    for attempt in range(2):
        gain = 0.0
        offset = 0.0
        least = 0.0
        for f in range(n_signals):
            if attempt == 0:
                u[f] = 0.0
                for g in range(n_signals):
                    u[f] += inverse[f, g] * gap[g]
            else:
                u[f] = inverse[f, f] * gap[f]
            gain += u[f] * (lower[f] if np.isnan(alternative[f]) else alternative[f])
            offset += max(u[f] * lower[f], u[f] * upper[f])
            least += min(u[f] * low[f], u[f] * high[f])
        if gain > offset:
            break
    least -= offset
    if least < -LARGEST_LOSS:
        shrink = -LARGEST_LOSS / least
        offset *= shrink
        least = -LARGEST_LOSS
        for f in range(n_signals):
            u[f] *= shrink
    return offset, least


@kernel
def _gather(table, rows, j, b, out):  # type: ignore[no-untyped-def]
    """``out[a, f] = table[rows[a], j, f, b]``: what one kind of episode needs, side by side in memory."""
    for a in range(rows.size):
        for f in range(out.shape[1]):
            out[a, f] = table[rows[a], j, f, b]


@kernel
def _update(  # type: ignore[no-untyped-def]
    lower, upper, center, alternatives, used, rows, policy, columns, outcomes, inverse, low, high, log_wealth
):
    """Episodes of the same policy and initial state share their bets, so they are handled together; ``used`` (N,) rivals count."""
    n, n_signals = outcomes.shape
    points = np.arange(center.shape[0])
    below, above = np.empty((rows.size, n_signals)), np.empty((rows.size, n_signals))
    values = np.empty((points.size, n_signals))
    gap, u = np.empty(n_signals), np.empty(n_signals)
    products = np.ones((rows.size, alternatives.shape[1]))
    order = np.argsort(policy * inverse.shape[0] + columns)
    first = 0
    while first < n:
        j, b = policy[order[first]], columns[order[first]]
        last = first + 1
        while last < n and policy[order[last]] == j and columns[order[last]] == b:
            last += 1
        _gather(lower, rows, j, b, below)
        _gather(upper, rows, j, b, above)
        _gather(center, points, j, b, values)
        for a in range(rows.size):
            for r in range(used[rows[a]]):
                offset, _ = _bet(below[a], above[a], values[alternatives[rows[a], r]], inverse[b], low, high, gap, u)
                product = products[a, r]
                for t in range(first, last):
                    gain = -offset
                    for f in range(n_signals):
                        gain += u[f] * outcomes[order[t], f]
                    product *= 1.0 + gain
                    if product < 1e-100 or product > 1e100:
                        log_wealth[rows[a], r] += np.log(product)
                        product = 1.0
                products[a, r] = product
        first = last
    for a in range(rows.size):
        for r in range(used[rows[a]]):
            log_wealth[rows[a], r] += np.log(products[a, r])


@kernel
def _forfeit(lower, upper, center, alternatives, rows, j, inverse, low, high, log_wealth):  # type: ignore[no-untyped-def]
    n_signals = low.size
    points = np.arange(center.shape[0])
    below, above = np.empty((rows.size, n_signals)), np.empty((rows.size, n_signals))
    values = np.empty((points.size, n_signals))
    gap, u = np.empty(n_signals), np.empty(n_signals)
    worst = np.zeros((rows.size, alternatives.shape[1]))
    for b in range(inverse.shape[0]):
        _gather(lower, rows, j, b, below)
        _gather(upper, rows, j, b, above)
        _gather(center, points, j, b, values)
        for a in range(rows.size):
            for r in range(alternatives.shape[1]):
                _, least = _bet(below[a], above[a], values[alternatives[rows[a], r]], inverse[b], low, high, gap, u)
                worst[a, r] = min(worst[a, r], least)
    for a in range(rows.size):
        for r in range(alternatives.shape[1]):
            log_wealth[rows[a], r] += np.log(1.0 + worst[a, r])
