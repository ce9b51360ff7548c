"""Values of functionals of an episode's cost: chance constraints and CVaR of stationary policies (:mod:`surefoot.criterion`).

Accumulate the discounted cost, ``z_0 = 0``, ``z_{t+1} = z_t + gamma^t c(s_t, a_t)``. What a functional ``f`` still gains,

    U_t(s, z) = E[f(C) - f(z) | s_t = s, z_t = z]
              = sum_a pi(a|s) [f(z') - f(z) + sum_s' P(s'|s,a) U_{t+1}(s', z')],      z' = z + gamma^t c(s,a),

gives ``E f(C) = f(0) + U_0``. Beyond its threshold ``T`` a functional is linear with slope ``k`` (0 of ``Exceeds``, ``1/a`` of ``CVaR``), so that
``U_t = k gamma^t V_c(s)`` is known exactly; where even the largest cost per step for ever, ``gamma^t M`` with ``M = c_max / (1 - gamma)``, would not
reach ``T``, it is zero. What is left is the window ``T - gamma^t M < z <= T``. It is held on a grid ``z = T - i h_t`` that is halved whenever
the window has shrunk to half, so a step without cost stays on the grid; other steps are rounded **up** for upper bounds and **down** for lower ones:
``U + f`` does not decrease in z. Of ``CVaR`` it is convex in z as well, because the policy does not look at z, and interpolating between neighbours
is an upper bound that is closer. After H steps, when ``gamma^H M`` is less than a cell of the grid, what is to come counts as ``gamma^H M`` for upper
bounds and as nothing for lower ones. Both bounds tend to the truth as the grid is refined.

Letters: S states, A actions, J policies, C distinct costs, n levels of the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import CVaR, Exceeds
from surefoot.kernels import kernel

__all__ = ["Ladder", "functional_values"]

BLOCK_ENTRIES = 2**22
"""Policies are worked through in blocks whose values have about this many entries."""
TIE = 1e-12
"""Relative distance to a threshold at which rounding might decide: upper bounds count it as above, lower bounds as below."""

Side = Literal["lower", "upper"]


@dataclass(frozen=True)
class Ladder:
    """The grid of accumulated costs below a threshold.

    Attributes:
        threshold: ``T``.
        most: ``M``, largest discounted cost that can follow.
        discount: ``gamma``.
        grid: cells that the window is divided into, at least.
    """

    threshold: float
    most: float
    discount: float
    grid: int

    @property
    def horizon(self) -> int:
        """H: after so many steps the window is less than a cell of the first grid."""
        if self.most <= 0.0:
            return 0
        wanted = max(self.threshold, 1e-3 * self.most) / (2.0 * self.grid)
        return max(0, math.ceil(math.log(wanted / self.most) / math.log(self.discount)))

    def window(self, t: int) -> float:
        """How far below the threshold costs still matter after t steps."""
        return min(self.threshold, self.most * self.discount**t)

    def cell(self, t: int) -> float:
        """``h_t``: a power of two of the threshold."""
        window = self.window(t)
        if window <= 0.0:
            return 1.0
        halvings = max(0, math.ceil(math.log2(self.grid * self.threshold / window)))
        return self.threshold / 2.0**halvings

    def levels(self, t: int) -> int:
        """Levels 0..n-1 are ``T, T - h_t, ...``, down to the end of the window or to zero."""
        return math.floor(self.window(t) / self.cell(t)) + 1

    def first(self) -> int:
        """The level of an accumulated cost of zero before the first step; beyond the last one where nothing can reach the threshold."""
        return round(self.threshold / self.cell(0)) if self.threshold > 0.0 else 0

    def after(self, t: int, costs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(C, n) what is left to the threshold after a step of these costs from every level: itself, and in cells of the next grid."""
        level, cell, following = np.arange(self.levels(t)), self.cell(t), self.cell(t + 1)
        paid = (self.discount**t * costs)[:, None]
        with np.errstate(over="ignore"):  # of a threshold next to nothing
            # The two cells differ by a power of two, so that what stays on the grid does so to the last bit.
            return level * cell - paid, level * (cell / following) - paid / following

    def beyond(self, left: FloatArray, costs: FloatArray, side: Side) -> Any:
        """(C, n) whether a step of these costs passed the threshold; ties are where rounding decides."""
        tie = TIE * (1.0 + self.threshold)
        return (left < (tie if side == "upper" else -tie)) & (costs > 0.0)[:, None]


def functional_values(
    cmdp: TabularCMDP,
    tables: FloatArray,
    functional: Exceeds | CVaR,
    means: FloatArray,
    *,
    side: Side,
    grid: int,
) -> FloatArray:
    """(J, S) bounds on ``E f(C)`` from every initial state under policies (J, S, A).

    Args:
        cmdp: the task; its costs are what is reported.
        tables: the policies.
        functional: of one of the costs.
        means: (J, S) exact means ``V_c`` of that cost from every state.
        side: of the truth, on which the answer surely lies.
        grid: cells of the grid.
    """
    cost = cmdp.costs[functional.signal]
    ladder = Ladder(float(functional.threshold or 0.0), float(cost.max()) / (1.0 - cmdp.discount), cmdp.discount, grid)
    step = max(1, BLOCK_ENTRIES // (cmdp.n_states * 2 * grid))
    parts = [
        _Sweep(cmdp, tables[k : k + step], functional, cost, means[k : k + step], ladder, side).values()
        for k in range(0, len(tables), step)
    ]
    return np.concatenate(parts)


class _Sweep:
    """One backward pass for J policies; rows of tables are pairs of policy and state."""

    def __init__(
        self, cmdp: TabularCMDP, tables: FloatArray, functional: Exceeds | CVaR, cost: FloatArray, means: FloatArray,
        ladder: Ladder, side: Side,
    ) -> None:  # fmt: skip
        self._shape, self._ladder, self._side, self._f = means.shape, ladder, side, functional
        self._slope = 0.0 if isinstance(functional, Exceeds) else 1.0 / functional.level
        self._means = np.ascontiguousarray(means.reshape(-1))
        self._costs, self._entries = _moves(cmdp, tables, cost)

    def values(self) -> FloatArray:
        """See :func:`functional_values`."""
        ladder, start = self._ladder, float(self._f.of(np.zeros(())))
        ahead = self._end()
        for t in range(ladder.horizon - 1, -1, -1):
            ahead = self._back(t, ahead)
        level = ladder.first()
        found = ahead[:, level] if level < ahead.shape[1] else np.zeros(self._means.size)
        return start + np.asarray(found).reshape(self._shape)

    def _end(self) -> FloatArray:
        """(J S, n) after H steps: what remains is at most ``gamma^H M``, and ``gamma^H V_c(s)`` on average (Markov's inequality)."""
        ladder = self._ladder
        t, n = ladder.horizon, ladder.levels(ladder.horizon)
        if self._side == "lower":
            return np.zeros((self._means.size, n))
        room, tail = np.arange(n) * ladder.cell(t), ladder.most * ladder.discount**t
        mean = np.maximum(ladder.discount**t * self._means, 0.0)[:, None]
        if self._slope > 0.0:
            excess: FloatArray = self._slope * np.minimum(np.maximum(tail - room, 0.0), mean)
            return excess
        with np.errstate(divide="ignore", invalid="ignore"):
            markov = np.where(mean > 0.0, mean / room, 0.0)
        found: FloatArray = np.where(room < tail, np.minimum(markov, 1.0), 0.0)
        return found

    def _back(self, t: int, ahead: FloatArray) -> FloatArray:
        """(J S, n) at step t from the values at step t + 1."""
        ladder, lowest = self._ladder, ahead.shape[1]  # whatever is below the window gains nothing
        left, cells = ladder.after(t, self._costs)
        over = ladder.beyond(left, self._costs, self._side)
        gain = np.where(over, 1.0 if self._slope == 0.0 else self._slope * np.maximum(-left, 0.0), 0.0)
        down, up = (np.clip(end(cells), 0, lowest).astype(np.int64) for end in (np.floor, np.ceil))
        if self._side == "lower":
            down = up
        elif self._slope == 0.0:
            up = down
        share = np.where(up > down, cells - down, 0.0)
        gone = ladder.discount ** (t + 1) * self._slope * self._means
        table = np.column_stack([ahead, np.zeros(len(ahead))])
        found = np.zeros((self._means.size, left.shape[1]))
        _step_back(*self._entries, down, up, share, gain, over, gone, table, found)
        return found


@kernel
def _step_back(rows, columns, weights, paid, down, up, share, gain, over, gone, ahead, found):  # type: ignore[no-untyped-def]
    """Add to ``found`` (J S, n) what every entry brings: it goes from ``rows`` to ``columns`` at cost ``paid`` with probability ``weights``."""
    n = found.shape[1]
    for e in range(rows.size):
        row, column, weight, c = rows[e], columns[e], weights[e], paid[e]
        for i in range(n):
            if over[c, i]:
                found[row, i] += weight * (gain[c, i] + gone[column])
            else:
                k = share[c, i]
                found[row, i] += weight * ((1.0 - k) * ahead[column, down[c, i]] + k * ahead[column, up[c, i]])


def _moves(cmdp: TabularCMDP, tables: FloatArray, cost: FloatArray) -> tuple[FloatArray, tuple[Any, ...]]:
    """The C distinct costs of a step; and ``P_pi`` as entries: row, column (pairs of policy and state), probability, number of the cost."""
    size, n_policies = cmdp.n_states, len(tables)
    state, action = np.divmod(cmdp.rows, cmdp.n_actions)
    values, number = np.unique(cost[state, action], return_inverse=True)
    # Actions of one state that cost the same and lead to the same state are one entry.
    keys, place = np.unique((state * values.size + number) * size + cmdp.successors, return_inverse=True)
    row, paid, column = keys // size // values.size, keys // size % values.size, keys % size
    weights = np.zeros((n_policies, keys.size))
    for j, table in enumerate(tables):
        weights[j] = np.bincount(place, weights=table[state, action] * cmdp.probabilities, minlength=keys.size)
    offset = size * np.arange(n_policies)[:, None]
    whole = [(offset + row).ravel(), (offset + column).ravel(), weights.ravel(), np.tile(paid, n_policies)]
    used = whole[2] > 0.0
    return values, tuple(np.ascontiguousarray(part[used]) for part in whole)
