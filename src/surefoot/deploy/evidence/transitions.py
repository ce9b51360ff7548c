"""Likelihood evidence from transitions: one e-process per (cell, alternative) pair.

Cell i says: in every (s, a) the next state's law lies in a box ``Lambda = {P : lo <= P <= hi, sum P = 1}``. Against the alternative law ``Q`` the
best bet is the likelihood ratio to the member of ``Lambda`` that is closest to the alternative (reverse information projection),

    P* = argmax_{P in Lambda} sum_s' Q(s') log P(s')  =  clip(c Q, lo, hi),  c such that it sums to one,

because then ``sum_s' P(s') Q(s')/P*(s') <= 1`` for **every** P in the convex set ``Lambda``: the ratio is an e-variable for the whole box, not
only for the tasks seen in training. The sum is bounded once more after P* was computed, by the exact supremum over the box (a
continuous knapsack), and divided out if rounding left it above one. Outside the box's support the cell is impossible: the
ratio is infinite and kills it. Per pair only the sum of logarithms is kept.

Letters: N cells, R alternatives, S states, A actions, E entries of the support, n transitions.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.evidence.alternatives import (
    ALTERNATIVE_RATIO,
    CHEAPER_SHARE,
    NEAREST_ALTERNATIVE,
    Alternatives,
    choose_alternatives,
)
from surefoot.deploy.evidence.base import EvidenceKind, EvidenceSetting, Placed
from surefoot.deploy.report import Report
from surefoot.kernels import kernel
from surefoot.policyset.schema import Cells, PolicySet
from surefoot.stateful import Stateful

__all__ = ["TransitionEvidence", "TransitionWealth", "encode", "log_average", "log_ratios"]

LARGEST = 1 << 21
"""States and actions below this have keys of their own."""


def log_ratios(cells: Cells, alternatives: Alternatives) -> FloatArray:
    """(E, N, R) logarithms of the e-variables; ``-inf`` where the alternative excludes a transition, ``+inf`` where the cell does.

    Raises:
        InvalidInput: the policy set has no kernels (through the caller's check).
    """
    kernel = cells.kernel
    if kernel is None:
        raise ValueError("the cells have no kernel")
    points = kernel.center if cells.outside is None else np.concatenate([kernel.center, cells.outside.kernel])
    first = np.flatnonzero(np.r_[True, (np.diff(kernel.support[:, :2], axis=0) != 0).any(axis=1)])
    edges = np.r_[first, len(kernel.support)].astype(np.int64)
    result: FloatArray = _log_ratios(kernel.lower, kernel.upper, points, alternatives.index, edges)
    return result


class TransitionWealth(Stateful):
    """Accumulated log-wealth of every pair, for the active cells.

    Args:
        cells: with kernels.
        ratios: (E, N, R) from :func:`log_ratios`.
        alternatives: the pairs.
    """

    CHANGES = ("log_wealth", "impossible", "_rows")

    def __init__(self, cells: Cells, ratios: FloatArray, alternatives: Alternatives) -> None:
        if cells.kernel is None:
            raise ValueError("the cells have no kernel")
        support = cells.kernel.support
        self._keys = encode(support)
        # A transition that a cell excludes kills it; kept apart so that plus and minus infinity never meet in a sum.
        self._excluded = cells.kernel.upper.T <= 0.0
        self._ratios = np.where(self._excluded[:, :, None], 0.0, ratios) if self._excluded.any() else ratios
        self._rows = np.arange(len(cells))
        self._weights = alternatives.log_weights
        self.log_wealth = np.zeros(alternatives.index.shape)
        self.impossible = np.zeros(len(cells), dtype=bool)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~surefoot.stateful.HasState`."""
        size = self._rows.size
        super().load_state_dict(state)
        if self._rows.size < size:
            self._ratios = np.ascontiguousarray(self._ratios[:, self._rows])

    def update(self, rows: IntArray, active: Any) -> None:
        """Count transitions, rows ``(s, a, s', count)`` (m, 4), for the cells in ``alive`` (N,) booleans."""
        self._compact(active)
        rows = rows[rows[:, 3] > 0]
        keys = encode(rows)
        where = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        if (self._keys[where] != keys).any() or (rows[:, :3] >= LARGEST).any():
            # A transition that no task of any cell allows rejects every cell.
            self.impossible[:] = True
            return
        self.impossible |= self._excluded[where].any(axis=0)
        part = np.zeros((self._rows.size, self._weights.shape[1]))
        _accumulate(self._ratios, where, rows[:, 3], part)
        self.log_wealth[self._rows] += part

    def forfeit(self) -> None:
        """An episode was lost: some outcome could have taken any wealth, so none is left."""
        self.log_wealth[:] = -np.inf

    def log_mean(self) -> FloatArray:
        """(N,) log of each cell's weighted average over its alternatives."""
        return log_average(self.log_wealth, self._weights)

    def _compact(self, active: Any) -> None:
        # Dead cells are dropped from the big table once half of it is dead: copying costs less than it saves.
        keep = active[self._rows]
        if 2 * keep.sum() < keep.size:
            self._ratios = np.ascontiguousarray(self._ratios[:, keep])
            self._rows = self._rows[keep]


_CACHE: WeakKeyDictionary[PolicySet, tuple[Alternatives, FloatArray]] = WeakKeyDictionary()
"""What depends on the policy set alone; shared by all agents that use it."""


class TransitionEvidence(EvidenceKind):
    """Counts transitions where the plant reports them; one report without them, or a lost episode, and its wealth is given up for good."""

    name = "transitions"
    sufficient = True
    CHANGES = ("_wealth", "forfeited")

    def __init__(self, setting: EvidenceSetting) -> None:
        super().__init__(setting)
        policy_set = setting.policy_set
        if policy_set not in _CACHE:
            cells = policy_set.cells
            alternatives = choose_alternatives(cells, ALTERNATIVE_RATIO, CHEAPER_SHARE, NEAREST_ALTERNATIVE)
            _CACHE[policy_set] = alternatives, log_ratios(cells, alternatives)
        alternatives, ratios = _CACHE[policy_set]
        self._wealth = TransitionWealth(policy_set.cells, ratios, alternatives)

    @property
    def wants(self) -> frozenset[str]:
        """See :class:`~surefoot.deploy.evidence.base.EvidenceKind`."""
        return frozenset({"transitions"})

    @property
    def impossible(self) -> Any:
        """See :class:`~surefoot.deploy.evidence.base.EvidenceKind`."""
        return self._wealth.impossible

    @property
    def pairs(self) -> tuple[Alternatives, FloatArray]:
        """Alternatives of every cell, and (E, N, R) logarithms of the factors (:func:`log_ratios`)."""
        return _CACHE[self._setting.policy_set]

    @property
    def log_wealth(self) -> FloatArray:
        """(N, R) of every pair."""
        return self._wealth.log_wealth

    def settle(self, report: Report, broken: Any, placed: Placed, watched: Any) -> None:
        """See :class:`~surefoot.deploy.evidence.base.EvidenceKind`."""
        if report.transitions is None:
            self._give_up("transitions were missing in a report")
            return
        allowed = not self.impossible.all()
        self._wealth.update(report.transitions, watched)
        if allowed and self.impossible.all():
            self._setting.note(
                "transitions: what was reported is possible in no cell; check how states and actions are numbered"
            )

    def forfeit(self, policy: int, fixed: FloatArray | None, watched: Any) -> None:
        """See :class:`~surefoot.deploy.evidence.base.EvidenceKind`."""
        self._give_up("an episode was lost")

    def _give_up(self, why: str) -> None:
        self._setting.gave_up(f"{why}: evidence from transitions is forfeited, returns carry on")
        self._wealth.forfeit()
        self.forfeited = True

    def log_wealth_of(self, watched: Any) -> FloatArray:
        """See :class:`~surefoot.deploy.evidence.base.EvidenceKind`."""
        return self._wealth.log_mean()


def log_average(logs: FloatArray, log_weights: FloatArray) -> FloatArray:
    """(N,) ``log sum_r exp(log_weights + logs)`` over the last axis of (N, R), both below infinity, without overflow or NaN."""
    # The compiled loop checks no indices.
    weights = log_weights if log_weights.shape == logs.shape else np.broadcast_to(log_weights, logs.shape).copy()
    mean: FloatArray = _log_average(logs, weights)
    return mean


@kernel
def _log_average(logs, log_weights):  # type: ignore[no-untyped-def]
    out = np.empty(logs.shape[0])
    for i in range(logs.shape[0]):
        top = -np.inf
        for r in range(logs.shape[1]):
            top = max(top, logs[i, r] + log_weights[i, r])
        total = 0.0
        for r in range(logs.shape[1]):
            if top > -np.inf:
                total += np.exp(logs[i, r] + log_weights[i, r] - top)
        out[i] = top + np.log(total) if top > -np.inf else -np.inf
    return out


def encode(triples: IntArray) -> IntArray:
    """(m,) one integer per row ``(s, a, s', ...)``, in lexicographic order; below :data:`LARGEST` states and actions."""
    keys: IntArray = (triples[:, 0] << 42) | (triples[:, 1] << 21) | triples[:, 2]
    return keys


@kernel
def _accumulate(ratios, where, counts, out):  # type: ignore[no-untyped-def]
    for k in range(where.size):
        table = ratios[where[k]]
        n = float(counts[k])
        for i in range(out.shape[0]):
            for r in range(out.shape[1]):
                out[i, r] += n * table[i, r]


@kernel
def _log_ratios(lower, upper, points, index, edges):  # type: ignore[no-untyped-def]
    n_cells, n_alternatives = index.shape
    out = np.empty((lower.shape[1], n_cells, n_alternatives))
    width = 0
    for g in range(edges.size - 1):
        width = max(width, edges[g + 1] - edges[g])
    nearest = np.empty(width)
    ratio = np.empty(width)
    for g in range(edges.size - 1):
        a, b = edges[g], edges[g + 1]
        for i in range(n_cells):
            for r in range(n_alternatives):
                alternative = points[index[i, r], a:b]
                _project(alternative, lower[i, a:b], upper[i, a:b], nearest[: b - a])
                for e in range(b - a):
                    ratio[e] = alternative[e] / nearest[e] if nearest[e] > 0.0 else 0.0
                worst = _supremum(ratio[: b - a], lower[i, a:b], upper[i, a:b])
                excess = max(worst, 1.0)
                for e in range(b - a):
                    if upper[i, a + e] <= 0.0:
                        out[a + e, i, r] = np.inf
                    elif ratio[e] <= 0.0:
                        out[a + e, i, r] = -np.inf
                    else:
                        out[a + e, i, r] = np.log(ratio[e] / excess)
    return out


@kernel
def _project(alternative, lower, upper, out):  # type: ignore[no-untyped-def]
    """``clip(c alternative, lower, upper)`` that sums to one; entries the alternative excludes take their share last."""
    low, high = 0.0, 1.0
    for _ in range(200):
        if _clipped(alternative, lower, upper, high, out) >= 1.0 or high > 1e12:
            break
        high *= 2.0
    for _ in range(100):
        middle = 0.5 * (low + high)
        if middle <= low or middle >= high:
            break
        if _clipped(alternative, lower, upper, middle, out) < 1.0:
            low = middle
        else:
            high = middle
    total = _clipped(alternative, lower, upper, high, out)
    for e in range(alternative.size):
        if total < 1.0 and alternative[e] <= 0.0:
            more = min(upper[e] - out[e], 1.0 - total)
            out[e] += more
            total += more


@kernel
def _clipped(alternative, lower, upper, factor, out):  # type: ignore[no-untyped-def]
    total = 0.0
    for e in range(alternative.size):
        out[e] = min(max(factor * alternative[e], lower[e]), upper[e])
        total += out[e]
    return total


@kernel
def decreasing(value):  # type: ignore[no-untyped-def]
    """Indices of ``value`` (n,) from its largest entry to its smallest, equal ones in their order.

    Merges ever longer sorted parts. ``np.argsort`` would do, and take Numba three seconds to compile.
    """
    n = value.size
    order, other = np.empty(n, np.int64), np.empty(n, np.int64)
    for k in range(n):
        order[k] = k
    length = 1
    while length < n:
        for start in range(0, n, 2 * length):
            middle, stop = min(start + length, n), min(start + 2 * length, n)
            i, j = start, middle
            for k in range(start, stop):
                if i < middle and (j >= stop or value[order[i]] >= value[order[j]]):
                    other[k] = order[i]
                    i += 1
                else:
                    other[k] = order[j]
                    j += 1
        order, other = other, order
        length *= 2
    return order


@kernel
def _supremum(value, lower, upper):  # type: ignore[no-untyped-def]
    """``max sum P value`` over ``lower <= P <= upper``, ``sum P = 1``: fill the largest values first."""
    order = decreasing(value)
    rest = 1.0
    total = 0.0
    for e in range(value.size):
        rest -= lower[e]
        total += lower[e] * value[e]
    for k in range(value.size):
        e = order[k]
        more = min(max(rest, 0.0), upper[e] - lower[e])
        total += more * value[e]
        rest -= more
    return total
