"""Evidence from returns and costs: joint bets, one e-process per (cell, alternative) pair, pooled over policies.

An episode's outcome is ``x = (R, C_1..C_I)`` in the box of possible outcomes. Cell i says that under the policy that ran (from the observed
initial state, when it is told) its conditional mean lies in a box ``M_i = [lo, hi]``; the alternative says ``m``. Along a direction u the bet is

    1 + u . x - sup_{z in M_i} u . z,          sup = sum_f max(u_f lo_f, u_f hi_f),

whose mean is at most one for **every** mean in the box, not only at its centre. Kelly's direction is ``u = S^-1 (m - p)`` with ``S`` the residual
covariance and ``p`` the member of ``M_i`` nearest to m; where that would gain nothing under the alternative (correlated signals), the diagonal of S
is used, for which it does. If m itself lies in ``M_i`` there is no bet. u is scaled down so that the factor is at least ``1 - LARGEST_LOSS`` over the
whole box of possible outcomes. Because a bet is placed only where cell and alternative disagree, policies on which they agree do not eat the wealth.

S is estimated from episodes that were told before the bet was fixed, so bets are predictable. Declared signals (mean speed, energy, ...) are
further coordinates of x, in which outside tasks have no known value: there is no gap to them along such a coordinate.

Letters: N cells, R alternatives, J policies, I constraints, F = 1 + I outcomes, and X declared signals more where there are any, B initial states,
n episodes.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.evidence.alternatives import CHEAPER_SHARE, NEAREST_ALTERNATIVE, Alternatives, choose_alternatives
from surefoot.deploy.evidence.base import EvidenceKind, EvidenceSetting, Placed
from surefoot.deploy.evidence.predictions import PredictionTable
from surefoot.deploy.evidence.transitions import log_average
from surefoot.deploy.report import Report
from surefoot.kernels import kernel
from surefoot.policyset.schema import PolicySet
from surefoot.stateful import Stateful

__all__ = ["JOINT_RATIO", "LARGEST_LOSS", "JointEvidence", "JointWealth", "Scale"]

LARGEST_LOSS = 0.5
"""A factor is at least one minus this."""
JOINT_RATIO = 2.0
"""Alternatives stand at distances that grow by this."""
PRIOR_EPISODES = 20.0
PRIOR_FRACTION = 0.25
"""Before any data the standard deviation is taken to be this share of a signal's range: bets start small."""


PAIRS_AT_ONCE = 256
"""So many pairs are worked on side by side: their numbers stay in the fastest memory."""


class Scale(Stateful):
    """Residual covariance of the outcome, per initial state, shrunk towards all states together.

    Args:
        table: for ranges and columns.
    """

    CHANGES = ("_sums", "_counts")

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


class JointWealth(Stateful):
    """Accumulated log-wealth of every pair.

    Args:
        table: predictions.
        alternatives: the pairs.
    """

    CHANGES = ("log_wealth", "scale")

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
        rows, table, middles = np.flatnonzero(active), self._table, np.empty_like(outcomes)
        _update(
            table.lower, table.upper, table.center, self._alternatives.index, self._used, rows, policy_index, columns, outcomes, bets,
            table.low, table.high, self.log_wealth, middles,
        )  # fmt: skip
        self.scale.update(columns, outcomes - middles)

    def forfeit(self, policy_index: int, bets: FloatArray, active: Any) -> None:
        """A lost episode: every pair takes the smallest factor that any initial state and outcome could have given."""
        rows, table = np.flatnonzero(active), self._table
        _forfeit(
            table.lower, table.upper, table.center, self._alternatives.index, rows, policy_index, bets, table.low, table.high,
            self.log_wealth,
        )  # fmt: skip

    def log_mean(self) -> FloatArray:
        """(N,) log of each cell's weighted average over its alternatives."""
        return log_average(self.log_wealth, self._alternatives.log_weights)


_CACHE: WeakKeyDictionary[PolicySet, Alternatives] = WeakKeyDictionary()
"""What depends on the policy set alone; shared by all agents that use it."""


class JointEvidence(EvidenceKind):
    """Joint bets on return, costs and declared signals, given the initial state where predictions are.

    Bets are conditional on initial states or not, and on declared signals or not; the first report settles which, for good, and only
    episodes asked after it are bet on. Choosing later, when outcomes are known, would let the outcome choose the bet.
    """

    name = "joint"
    stands_by = True
    CHANGES = ("_wealth", "_conditional", "_measured")

    def __init__(self, setting: EvidenceSetting) -> None:
        super().__init__(setting)
        policy_set = setting.policy_set
        if policy_set not in _CACHE:
            _CACHE[policy_set] = choose_alternatives(policy_set.cells, JOINT_RATIO, CHEAPER_SHARE, NEAREST_ALTERNATIVE)
        self._signals, self._told = policy_set.cells.signals, setting.table.low.size
        self.table = setting.table if self._signals is None else setting.table.with_signals(self._signals)
        self._wealth = JointWealth(self.table, _CACHE[policy_set])
        self._conditional: bool | None = None
        self._measured: bool | None = None if self._signals is not None and self._signals.names else False

    @property
    def wants(self) -> frozenset[str]:
        """See :class:`~surefoot.deploy.evidence.base.EvidenceKind`."""
        signals = self._signals is not None and self._signals.names
        return frozenset({"initial_state"} if self.table.states.size else ()) | ({"signals"} if signals else set())

    @property
    def log_wealth(self) -> FloatArray:
        """(N, R) of every pair."""
        return self._wealth.log_wealth

    def bets(self, standby: bool) -> FloatArray | None:
        """See :class:`~surefoot.deploy.evidence.base.EvidenceKind`."""
        decided = self._conditional is not None or not self.table.states.size
        if standby or not decided or self._measured is None:
            return None
        return self._wealth.bets(None if self._measured else self._told)

    def settle(self, report: Report, broken: Any, placed: Placed, watched: Any) -> None:
        """See :class:`~surefoot.deploy.evidence.base.EvidenceKind`."""
        columns = self._columns(report)
        if self._measured is None:
            self._measured = report.signals is not None
        whole = self.table.states.size
        # Given an initial state without predictions nothing is promised: the unconditional mean says nothing about it, so no bet.
        predicted = (columns < whole) if self._conditional and whole else np.ones(columns.size, dtype=bool)
        for fixed, asked in placed:
            where = asked[predicted[asked]]
            if fixed is not None and where.size:
                sound = where[~broken[where]]
                self._settle(report, sound, columns[sound], fixed, watched)
                for policy in report.policy_index[where[broken[where]]].tolist():
                    self._wealth.forfeit(policy, fixed, watched)

    def _settle(self, report: Report, where: IntArray, columns: IntArray, fixed: FloatArray, watched: Any) -> None:
        """Bets on episodes ``where`` of a report; a signal that is missing could have been anything."""
        if not where.size:
            return
        policies = report.policy_index[where]
        if self._measured and report.signals is None:
            self._setting.gave_up(
                "declared signals were missing in a report: joint bets take the smallest factor there"
            )
            for policy in policies.tolist():
                self._wealth.forfeit(policy, fixed, watched)
            return
        self._wealth.update(policies, columns, self._outcomes(report)[where], fixed, watched)

    def _columns(self, report: Report) -> IntArray:
        """Columns of the predictions, conditional on the initial state if the first report had one."""
        if self._conditional is None:
            self._conditional = report.initial_state is not None
        if self._conditional and report.initial_state is not None:
            return self.table.column(report.initial_state, report.ids.size)
        if self._conditional and self.table.states.size:
            self._setting.gave_up("an initial state was missing: joint bets on returns are forfeited")
            self._wealth.log_wealth[:] = -np.inf
        return np.full(report.ids.size, self.table.states.size, dtype=np.int64)

    def _outcomes(self, report: Report) -> FloatArray:
        """(n, F) outcomes, with declared signals; where these are not bet on any number will do."""
        if self._signals is None:
            return report.outcomes
        low, high = self._signals.bounds.T
        untold = np.broadcast_to(low, (report.ids.size, low.size))
        measured = untold if report.signals is None else np.clip(report.signals, low, high)
        return np.column_stack([report.outcomes, measured])

    def forfeit(self, policy: int, fixed: FloatArray | None, watched: Any) -> None:
        """See :class:`~surefoot.deploy.evidence.base.EvidenceKind`."""
        if fixed is not None:
            self._wealth.forfeit(policy, fixed, watched)

    def log_wealth_of(self, watched: Any) -> FloatArray:
        """See :class:`~surefoot.deploy.evidence.base.EvidenceKind`."""
        return self._wealth.log_mean()


@kernel
def _bet(lower, upper, alternative, inverse, low, high, gap, u):  # type: ignore[no-untyped-def]
    """Fill the direction u (F,) of one pair; returns the offset ``sup u . z`` and the smallest possible ``u . x - offset``."""
    n_signals = u.size
    any_gap = False
    for f in range(n_signals):
        u[f] = 0.0
        # Unknown values of an alternative are NaN: no gap.
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
def _directions(lo, hi, to, inverse, low, high, gap, u, offset, least, plain):  # type: ignore[no-untyped-def]
    """:func:`_bet` for many pairs side by side, operation by operation the same: lo, hi, to and the results u, gap are (F, P), offset (P,).

    Loops run over pairs innermost and without branches, so that they are compiled to vector instructions.
    """
    n_signals, n_pairs = u.shape
    for f in range(n_signals):
        for p in range(n_pairs):
            over, under = to[f, p] - hi[f, p], to[f, p] - lo[f, p]
            # Comparisons with NaN, an unknown value, are false: no gap.
            gap[f, p] = (over if over > 0.0 else 0.0) + (under if under < 0.0 else 0.0)
            to[f, p] = to[f, p] if to[f, p] == to[f, p] else lo[f, p]
    plain[:] = False
    for attempt in range(2):
        gain = np.zeros(n_pairs)
        for f in range(n_signals):
            if attempt == 0:
                total = np.zeros(n_pairs)
                for g in range(n_signals):
                    for p in range(n_pairs):
                        total[p] += inverse[f, g] * gap[g, p]
                for p in range(n_pairs):
                    u[f, p] = total[p]
            else:
                for p in range(n_pairs):
                    u[f, p] = inverse[f, f] * gap[f, p] if plain[p] else u[f, p]
        offset[:] = 0.0
        least[:] = 0.0
        for f in range(n_signals):
            for p in range(n_pairs):
                one, other = u[f, p] * lo[f, p], u[f, p] * hi[f, p]
                gain[p] += u[f, p] * to[f, p]
                offset[p] += one if one > other else other
                one, other = u[f, p] * low[f], u[f, p] * high[f]
                least[p] += one if one < other else other
        some = False
        for p in range(n_pairs):
            plain[p] = not gain[p] > offset[p]
            some |= plain[p]
        if not some:
            break
    for p in range(n_pairs):
        below = least[p] - offset[p]
        shrink = -LARGEST_LOSS / below if below < -LARGEST_LOSS else 1.0
        offset[p] *= shrink
        for f in range(n_signals):
            u[f, p] *= shrink


@kernel
def _update(  # type: ignore[no-untyped-def]
    lower, upper, center, alternatives, used, rows, policy, columns, outcomes, inverse, low, high, log_wealth, middles
):
    """Episodes of the same policy and initial state share their bets, so they are handled together; ``used`` (N,) alternatives count.

    ``middles`` (n, F) becomes the mean over ``rows`` of the middles of what was predicted of each episode.
    """
    n, n_signals = outcomes.shape
    points = np.arange(center.shape[0])
    below, above = np.empty((rows.size, n_signals)), np.empty((rows.size, n_signals))
    values = np.empty((points.size, n_signals))
    n_pairs = 0
    for a in range(rows.size):
        n_pairs += used[rows[a]]
    of, other, products = np.empty(n_pairs, np.int64), np.empty(n_pairs, np.int64), np.ones(n_pairs)
    p = 0
    for a in range(rows.size):
        for r in range(used[rows[a]]):
            of[p], other[p] = a, alternatives[rows[a], r]
            p += 1
    size = min(n_pairs, PAIRS_AT_ONCE)
    shape = (n_signals, size)
    lo_, hi_, to_, gap_, u_ = np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape)
    offset_, least_, plain_ = np.empty(size), np.empty(size), np.empty(size, np.bool_)
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
        for f in range(n_signals):
            total = 0.0
            for a in range(rows.size):
                total += 0.5 * (below[a, f] + above[a, f])
            for t in range(first, last):
                middles[order[t], f] = total / rows.size if rows.size else 0.0
        for start in range(0, n_pairs, PAIRS_AT_ONCE):
            m = min(PAIRS_AT_ONCE, n_pairs - start)
            lo, hi, to, gap, u = lo_[:, :m], hi_[:, :m], to_[:, :m], gap_[:, :m], u_[:, :m]
            offset, part = offset_[:m], products[start : start + m]
            for f in range(n_signals):
                for p in range(m):
                    lo[f, p], hi[f, p] = below[of[start + p], f], above[of[start + p], f]
                    to[f, p] = values[other[start + p], f]
            _directions(lo, hi, to, inverse[b], low, high, gap, u, offset, least_[:m], plain_[:m])
            factor = least_[:m]
            for t in range(first, last):
                for p in range(m):
                    factor[p] = -offset[p]
                for f in range(n_signals):
                    x = outcomes[order[t], f]
                    for p in range(m):
                        factor[p] += u[f, p] * x
                extreme = False
                for p in range(m):
                    part[p] *= 1.0 + factor[p]
                    extreme |= (part[p] < 1e-100) | (part[p] > 1e100)
                if extreme:
                    _keep(part, start, of, used, rows, log_wealth)
        first = last
    p = 0
    for a in range(rows.size):
        for r in range(used[rows[a]]):
            log_wealth[rows[a], r] += np.log(products[p])
            p += 1


@kernel
def _keep(part, start, of, used, rows, log_wealth):  # type: ignore[no-untyped-def]
    """Move products that leave the range of numbers into the log-wealth."""
    p, last = 0, start + part.size
    for a in range(rows.size):
        for r in range(used[rows[a]]):
            if start <= p < last and (part[p - start] < 1e-100 or part[p - start] > 1e100):
                log_wealth[rows[a], r] += np.log(part[p - start])
                part[p - start] = 1.0
            p += 1


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
