"""The statistics of a deployment a second time, for audits: plain numpy, logarithms, no compiled code, nothing shared but choices.

What is *chosen* (constants, grids of bets and means, which rivals to bet on) is imported, for any choice is valid. What is *proved with* those
choices is computed here anew, by other means where there are any:

* data bounds: running sums of ``log(1 - c + c (1 - x/H) v)`` and a grid within a grid for the crossing, instead of scaled products and
  Newton's steps;
* transition ratios ``Q / P*``: bisection over all pairs at once, and the supremum over the box by its dual
  ``min_t t + sum max(lo (r - t), hi (r - t))`` instead of a greedy knapsack;
* joint and separate bets: broadcast over cells and rivals, episode by episode;
* the ramp and the comparison of returns: the same, with sums of logarithms.

Letters: N cells, R rivals, J policies, I constraints, F = 1 + I signals, B initial states, K bets, G grid means, E support, n episodes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.bounds import SELECTION_SHARES
from surefoot.deploy.comparison import ENOUGH, FIRST_DOUBT, LEVEL, later
from surefoot.deploy.estimate import LEAST_SCATTER, SHRINKAGE
from surefoot.deploy.evidence import (
    CHEAPER_SHARE,
    JOINT_RATIO,
    NEAREST_RIVAL,
    RETURN,
    RIVAL_RATIO,
    SAFE_SHARE,
    SEPARATE_BETS,
    Weights,
)
from surefoot.deploy.monitor import FRACTIONS
from surefoot.deploy.ramp import BETS, NARROW, ROUNDING, SMALLEST
from surefoot.deploy.returns import CAP, PRIOR_EPISODES, PRIOR_FRACTION
from surefoot.deploy.rivals import Rivals, choose_rivals
from surefoot.policyset.schema import PolicySet
from surefoot.stats.betting import bet_grid, mean_grid

__all__ = [
    "CellWealth",
    "CostWatch",
    "DataBounds",
    "Group",
    "Guess",
    "PredictedBoxes",
    "ReturnBounds",
    "SafeCheck",
    "log_sum",
]


_Walk = list[tuple[float, FloatArray, Callable[[], None]]]
"""Shares of the wealth, log-wealths (n, w) after each of n episodes, and what makes the last of them so."""


def log_sum(logs: FloatArray, axis: int | tuple[int, ...] | None = None) -> Any:
    """``log sum exp``; ``-inf`` for nothing but ``-inf``."""
    top = np.max(logs, axis=axis, keepdims=True)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.sum(np.exp(logs - safe), axis=axis)) + np.squeeze(safe, axis=axis)


class Group:
    """Episodes that were told together.

    Attributes:
        ids, policies: (n,).
        outcomes: (n, F).
        starts: (n,) or ``None``.
        rows: (m, 4) or ``None``.
        signals: (n, X) or ``None``.
    """

    def __init__(self, body: dict[str, Any], policies: list[int]) -> None:
        n = len(body["ids"])
        self.ids, self.policies = np.array(body["ids"], dtype=np.int64), np.array(policies, dtype=np.int64)
        self.outcomes = np.column_stack(
            [np.array(body["reward"], float), np.array(body["costs"], float).reshape(n, -1)]
        )
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


class DataBounds:
    """``B_j``: time-uniform upper bounds on costs.

    Attributes:
        values: (J, I).
    """

    def __init__(
        self, start: FloatArray, ceilings: FloatArray, limits: FloatArray, delta: float, *, selected: bool
    ) -> None:
        self.values, self._ceilings, self._delta = np.minimum(start, ceilings), ceilings, delta
        shape, grid = start.shape, bet_grid()
        self._fractions, self._log_weights = grid.fractions, np.log(grid.weights)
        self._means = [mean_grid(float(c), float(d) if 0.0 < d < c else None) for c, d in zip(ceilings, limits)]
        self._odds = [c / (c - m) for c, m in zip(ceilings, self._means)]
        self._logs = np.zeros((*shape, self._fractions.size, self._odds[0].size if self._odds else 0))
        self._lost = np.zeros(shape[0], dtype=np.int64)
        share = math.log(max(shape[1], 1)) if selected else math.log(shape[0] * shape[1])
        self._share = share
        self._threshold = np.full(shape[0], np.inf if selected else share - math.log(delta))
        self._since = np.full(shape[0], 2**62 if selected else 0)
        self._selections = 0

    def select(self, policy: int, first: int) -> None:
        """A policy is to be judged by the episodes asked from ``first`` on."""
        level = self._delta * SELECTION_SHARES[self._selections]
        self._selections += 1
        self._since[policy], self._threshold[policy] = first, self._share - math.log(level)
        self._logs[policy], self._lost[policy] = 0.0, 0

    def asked(self, first: int, draws: list[int]) -> None:
        """Asked episodes count as the ceiling."""
        for k, policy in enumerate(draws):
            self._lost[policy] += first + k >= self._since[policy]

    def told(self, group: Group) -> None:
        """Reported costs replace ceilings."""
        for policy in set(group.policies.tolist()):
            mine = (group.policies == policy) & (group.ids >= self._since[policy])
            if not mine.any():
                continue
            self._lost[policy] -= int(mine.sum())
            for i, ceiling in enumerate(self._ceilings):
                x = np.clip(group.outcomes[mine, 1 + i], 0.0, ceiling)
                c = self._fractions[:, None, None]
                factors = 1.0 - c + c * (1.0 - x[None, None] / ceiling) * self._odds[i][None, :, None]
                self._logs[policy, i] += np.log(factors).sum(axis=2)
                if self._reaches(policy, i, float(self.values[policy, i])):
                    self.values[policy, i] = min(self.values[policy, i], self._bound(policy, i))

    def told_singly(self, policies: IntArray, costs: FloatArray) -> Callable[[], None]:
        """Of episodes (n,) that were asked and told one after the other, none beside them open: what :meth:`told` would do, when called."""
        logs, values = {}, self.values.copy()
        for policy in np.unique(policies).tolist():
            mine = policies == policy
            for i, ceiling in enumerate(self._ceilings):
                left = 1.0 - np.clip(costs[mine, i], 0.0, ceiling) / ceiling
                c = self._fractions[:, None]
                steps = np.log(1.0 - c + c * (left[:, None, None] * self._odds[i]))
                logs[policy, i] = self._logs[policy, i] + steps.sum(axis=0)
                level = float(self._threshold[policy])
                if np.isfinite(level):
                    worst = (self._lost[policy] * np.log1p(-self._fractions) + self._log_weights)[:, None]
                    values[policy, i] = _least_crossing(
                        self._logs[policy, i] + worst,
                        steps,
                        self._odds[i],
                        float(ceiling),
                        level,
                        float(values[policy, i]),
                    )

        def commit() -> None:
            for where, last in logs.items():
                self._logs[where] = last
            self.values = values

        return commit

    def _reaches(self, policy: int, i: int, value: float) -> bool:
        """Whether the crossing may lie at ``value`` or below: the log-wealth rises with the odds, so one point of the chord decides."""
        ceiling, odds = float(self._ceilings[i]), self._odds[i]
        column = self._logs[policy, i] + (self._lost[policy] * np.log1p(-self._fractions) + self._log_weights)[:, None]
        return _on_chord(column, odds, ceiling, value) >= float(self._threshold[policy]) - 1e-9

    def drop_start(self, start: FloatArray) -> None:
        """Only data counts, or ``start``."""
        for policy, i in np.ndindex(*self.values.shape):
            known = np.isfinite(self._threshold[policy])
            found = self._bound(policy, i) if known else np.inf
            self.values[policy, i] = min(found, start[policy, i], self._ceilings[i])

    def _bound(self, policy: int, i: int) -> float:
        """Where the chord of the log-wealth in the odds crosses the threshold, by a grid within a grid."""
        ceiling, threshold = float(self._ceilings[i]), float(self._threshold[policy])
        worst = self._lost[policy] * np.log1p(-self._fractions)
        logs = self._logs[policy, i] + (worst + self._log_weights)[:, None]
        totals = log_sum(logs, axis=0)
        if totals[-1] < threshold:
            return ceiling
        above = max(1, int(np.argmax(totals >= threshold)))
        low, high = 0.0, 1.0
        for _ in range(3):
            share = np.linspace(low, high, 65)
            on_chord = log_sum(logs[:, above - 1 : above] * (1.0 - share) + logs[:, above : above + 1] * share, axis=0)
            first = min(64, max(1, int(np.argmax(on_chord >= threshold))))
            low, high = float(share[first - 1]), float(share[first])
        # Between the last two points the curve is straight to within rounding.
        rise = float(on_chord[first] - on_chord[first - 1])
        high = (
            low + (high - low) * min(1.0, max(0.0, (threshold - float(on_chord[first - 1])) / rise))
            if rise > 0.0
            else high
        )
        odds = self._odds[i][above - 1] + high * (self._odds[i][above] - self._odds[i][above - 1])
        return float(min(ceiling, ceiling - ceiling / odds))


def _on_chord(logs: FloatArray, odds: FloatArray, top: float, value: float) -> float:
    """Log-wealth at a mean of ``value``, on the chord between the means of the grid (K, G) beside it; at the last of them beyond."""
    wanted = top / (top - value) if value < top else np.inf
    g = min(max(1, int(np.searchsorted(odds, wanted))), odds.size - 1)
    share = min(1.0, max(0.0, (wanted - float(odds[g - 1])) / float(odds[g] - odds[g - 1])))
    return float(log_sum((1.0 - share) * logs[:, g - 1] + share * logs[:, g]))


def _least_crossing(
    start: FloatArray, steps: FloatArray, odds: FloatArray, top: float, level: float, value: float
) -> float:
    """The smallest mean below ``value`` that n moments reject at ``level``, else ``value``: on chords of the log-wealth in the odds, by bisection.

    Args:
        start: (K, G) log-wealths before.
        steps: (n, K, G) what each moment adds.
        odds, top: of the means of the grid (G,), and the largest.
    """
    wanted = top / (top - value) if value < top else np.inf
    g = min(max(1, int(np.searchsorted(odds, wanted))), odds.size - 1)
    share = min(1.0, max(0.0, (wanted - float(odds[g - 1])) / float(odds[g] - odds[g - 1])))
    chord = start[:, g - 1 : g + 1] + np.cumsum(steps[:, :, g - 1 : g + 1], axis=0)
    below = np.flatnonzero(log_sum((1.0 - share) * chord[:, :, 0] + share * chord[:, :, 1], axis=1) >= level - 1e-9)
    if not below.size:
        return value
    walk = start + np.cumsum(steps[: below[-1] + 1], axis=0)[below]
    rejects = log_sum(walk, axis=1) >= level
    rejects = rejects[rejects[:, -1]]
    if not len(rejects):
        return value
    above = np.maximum(1, rejects.argmax(axis=1))
    g = int(above.min())
    walk = walk[log_sum(walk[:, :, -1], axis=1) >= level][above == g]
    left, right = np.zeros(len(walk)), np.ones(len(walk))
    for _ in range(48):
        middle = 0.5 * (left + right)
        crossed = (
            log_sum((1.0 - middle[:, None]) * walk[:, :, g - 1] + middle[:, None] * walk[:, :, g], axis=1) >= level
        )
        left, right = np.where(crossed, left, middle), np.where(crossed, middle, right)
        keep = left <= right.min()  # the others cross later
        walk, left, right = walk[keep], left[keep], right[keep]
    odd = float(odds[g - 1]) + float(right.min()) * float(odds[g] - odds[g - 1])
    return float(min(value, top - top / odd))


class CostWatch:
    """The monitor's e-process.

    Attributes:
        peak: largest log of the average wealth so far.
    """

    def __init__(self, limits: FloatArray, ceilings: FloatArray) -> None:
        unit = np.where(limits > 0.0, limits, np.where(ceilings > 0.0, ceilings, 1.0))
        self._limits, self._bets = limits, np.array(FRACTIONS) / unit[:, None]
        self._logs = np.zeros(self._bets.shape)
        self.peak = 0.0

    def update(self, costs: FloatArray) -> None:
        """Costs (n, I) in ask order."""
        for row in costs:
            self._logs = self._logs + np.log1p(self._bets * (row - self._limits)[:, None])
            if self._logs.size:
                self.peak = max(self.peak, float(log_sum(self._logs)) - math.log(self._logs.size))

    def foresee(self, costs: FloatArray) -> tuple[float, Callable[[], None]]:
        """The peak after costs (n, I), and what makes it so."""
        walk = self._logs + np.cumsum(np.log1p(self._bets * (costs - self._limits)[:, :, None]), axis=0)
        peak = self.peak
        if self._logs.size:
            peak = max(peak, float(log_sum(walk, axis=(1, 2)).max()) - math.log(self._logs.size))

        def commit() -> None:
            self._logs, self.peak = walk[-1], peak

        return peak, commit


class _Residuals:
    """Sums of squares of residuals (B+1, F, F), shrunk towards all initial states together."""

    def __init__(self, boxes: PredictedBoxes) -> None:
        f = boxes.low.size
        self._prior = (PRIOR_FRACTION * (boxes.high - boxes.low)) ** 2
        self._sums, self._counts = np.zeros((boxes.states.size + 1, f, f)), np.zeros(boxes.states.size + 1)
        self._found: dict[int, FloatArray] = {}

    def update(self, columns: IntArray, residuals: FloatArray) -> None:
        self._found = {}
        for column, residual in zip(columns.tolist(), residuals):
            self._sums[column] += np.outer(residual, residual)
            self._counts[column] += 1.0

    def walk(self, columns: IntArray, residuals: FloatArray, used: int | None) -> tuple[FloatArray, Callable[[], None]]:
        """Inverses (n, F, F) for the columns (n,) as they were before each of n episodes, and what adds the episodes' residuals (n, F)."""
        size, p = self._prior.size if used is None else used, PRIOR_EPISODES
        squares = residuals[:, :, None] * residuals[:, None, :]
        pooled = self._sums.sum(axis=0) + np.diag(self._prior) + _before(squares)
        pooled = pooled / (self._counts.sum() + 1.0 + np.arange(len(columns)))[:, None, None]
        own, counts = np.empty(squares.shape), np.empty(len(columns))
        sums, totals = self._sums.copy(), self._counts.copy()
        for column in np.unique(columns).tolist():
            mine = columns == column
            own[mine] = self._sums[column] + _before(squares[mine])
            counts[mine] = self._counts[column] + np.arange(mine.sum())
            sums[column] += squares[mine].sum(axis=0)
            totals[column] += mine.sum()
        shrunk = (own + p * pooled) / (counts + p)[:, None, None] + 1e-9 * np.diag(self._prior)
        found = np.zeros(squares.shape)
        found[:, :size, :size] = np.linalg.inv(shrunk[:, :size, :size])

        def commit() -> None:
            self._sums, self._counts, self._found = sums, totals, {}

        return found, commit

    def inverse(self, used: int | None = None) -> FloatArray:
        size = self._prior.size if used is None else used
        if size not in self._found:  # nothing was told since: the same object, as bets are compared by
            pooled = (self._sums.sum(axis=0) + np.diag(self._prior)) / (self._counts.sum() + 1.0)
            shrunk = (self._sums + PRIOR_EPISODES * pooled) / (self._counts + PRIOR_EPISODES)[:, None, None]
            shrunk += 1e-9 * np.diag(self._prior)
            found = np.zeros(shrunk.shape)
            found[:, :size, :size] = np.linalg.inv(shrunk[:, :size, :size])
            self._found[size] = found
        return self._found[size]


def _before(steps: FloatArray) -> FloatArray:
    """(n, ...) sums of the steps before each."""
    return np.asarray(np.cumsum(steps, axis=0) - steps)


class CellWealth:
    """E-processes of the cells.

    Attributes:
        alive, watched: (N,).
    """

    def __init__(
        self,
        policy_set: PolicySet,
        kind: str,
        boxes: PredictedBoxes,
        delta: float,
        *,
        final: float,
    ) -> None:
        cells, self._boxes = policy_set.cells, boxes
        self._shares = Weights.of(kind, cells.kernel is not None)  # type: ignore[arg-type]
        self.threshold = -math.log(delta)
        self.final = self.threshold - math.log(final)
        self.alive, self.watched = np.ones((2, len(cells)), dtype=bool)
        self.impossible = np.zeros(len(cells), dtype=bool)
        self._transitions = None
        if self._shares.transitions > 0.0 and cells.kernel is not None:
            self._transitions = _Ratios(policy_set)
        self._rivals = choose_rivals(cells, JOINT_RATIO, CHEAPER_SHARE, NEAREST_RIVAL)
        self._wide, self._signals = boxes.widened(policy_set), cells.signals
        self._joint, self._residuals = np.zeros(self._rivals.index.shape), _Residuals(self._wide)
        self._joint_on = self._transitions is None
        whole = boxes.states.size
        signals = cells.signals
        declared = [] if signals is None else range(len(signals.names))
        self._separate = [
            _Separate(boxes.lower[:, :, f, whole], boxes.upper[:, :, f, whole], boxes.low[f], boxes.high[f])
            for f in range(boxes.low.size)
        ]
        if signals is not None:
            self._extra = [
                _Separate(signals.lower[..., x], signals.upper[..., x], *signals.bounds[x]) for x in declared
            ]
        else:
            self._extra = []
        self._conditional: bool | None = None
        self._measured: bool | None = None if signals is not None else False

    def bets(self) -> FloatArray | None:
        """What is fixed for the episodes asked now."""
        decided = self._conditional is not None or not self._boxes.states.size
        if not self._joint_on or not decided or self._measured is None:
            return None
        return self._residuals.inverse(None if self._measured else self._boxes.low.size)

    def settle(self, group: Group, bets: list[FloatArray | None]) -> None:
        """Multiply in a group; ``bets`` was fixed for each of its episodes when it was asked."""
        furthest = np.maximum(np.abs(self._boxes.low), np.abs(self._boxes.high))
        room = 1e-6 * np.where(furthest < 1.0, 2.0 * furthest, 1.0 + furthest)
        inside = (group.outcomes >= self._boxes.low - room) & (group.outcomes <= self._boxes.high + room)
        if not inside[:, 1:].all():
            self.alive &= ~self.watched
            self.watched[:] = False
            return
        sound = group.sound(float(self._boxes.low[0]), float(self._boxes.high[0]))
        if not sound.all():
            self.watched &= self.alive
        columns = self._columns(group)
        self._measured = group.signals is not None if self._measured is None else self._measured
        self._settle_joint(group, columns, bets, sound)
        clipped = np.clip(group.outcomes, self._boxes.low, self._boxes.high)
        for policy in sorted(set(group.policies.tolist())):
            mine = group.policies == policy
            for f, process in enumerate(self._separate):
                process.update(policy, clipped[mine & sound if f == 0 else mine, f], self.watched)
            self._separate[0].lose(policy, int((mine & ~sound).sum()))
            for x, process in enumerate(self._extra):
                if group.signals is None:
                    process.lose(policy, int(mine.sum()))
                else:
                    process.update(policy, group.signals[mine, x], self.watched)
        if self._transitions is not None:
            if group.rows is None:
                self._give_up_transitions()
            else:
                self.impossible |= self._transitions.update(group.rows)

    @property
    def entries(self) -> int:
        """Numbers that one episode moves at most: what bounds how many episodes are looked at together."""
        moved = [self._rivals.index.size * self._wide.low.size, self.alive.size * self._boxes.lower.shape[1]]
        if self._transitions is not None:
            moved.append(self._transitions.logs.size)
        return int(max(moved))

    def foresee(
        self, group: Group, rows: Sequence[IntArray] | None, close: float
    ) -> tuple[int, Callable[[], None] | None]:
        """Episodes that were asked and told one after the other: what :meth:`settle` would do with them, one by one, when called.

        Before it how many episodes pass without anything else, or nearly: a cell refuted, readmitted or given up, evidence lost or limited. If these
        are not all, there is nothing to call.

        Args:
            group: n episodes in ask order.
            rows: (m, 4) transitions of each, or ``None``.
            close: what counts as nearly.
        """
        boxes, whole, signals = self._boxes, self._boxes.states.size, group.signals
        furthest = np.maximum(np.abs(boxes.low), np.abs(boxes.high))
        room = 1e-6 * np.where(furthest < 1.0, 2.0 * furthest, 1.0 + furthest)
        inside = (group.outcomes >= boxes.low - room) & (group.outcomes <= boxes.high + room)
        settled = self._conditional is not None and self._measured is not None
        if not settled or not inside.all() or not group.sound(float(boxes.low[0]), float(boxes.high[0])).all():
            return 0, None
        if (self._conditional and whole and group.starts is None) or (
            signals is None and (self._measured or self._extra)
        ):
            return 0, None
        if (self.alive & ~self.watched).any() or (self.alive & self.impossible).any():
            return 0, None
        columns = boxes.columns(group.starts if self._conditional else None, group.ids.size)
        watched = np.flatnonzero(self.watched)
        commits, parts = [], []
        for walk in (
            self._walk_separate(group),
            self._walk_joint(group, columns, watched),
            self._walk_steps(rows, watched),
        ):
            if walk is None:
                return 0, None
            for share, logs, finish in walk:
                parts.append(math.log(share) + logs)
                commits.append(finish)
        wealth, alive = log_sum(np.array(parts), axis=0), self.alive[watched]
        back = (wealth <= math.log(RETURN) + close) & ~alive & ~self.impossible[watched]
        gone = (wealth >= self.threshold - close) & alive
        eventful = (gone | back | (wealth >= self.final - close)).any(axis=1)
        if eventful.any():
            return int(eventful.argmax()), None

        def commit() -> None:
            for each in commits:
                each()

        return group.ids.size, commit

    def _walk_separate(self, group: Group) -> _Walk:
        """Log-wealths (n, w) of the w watched cells after every episode, from bets on one signal at a time."""
        clipped = np.clip(group.outcomes, self._boxes.low, self._boxes.high)
        found = [process.walk(group.policies, clipped[:, f], self.watched) for f, process in enumerate(self._separate)]
        if group.signals is not None:
            found += [
                process.walk(group.policies, group.signals[:, x], self.watched) for x, process in enumerate(self._extra)
            ]
        mean = log_sum(np.array([logs for logs, _ in found]), axis=0) - math.log(len(found))

        def commit() -> None:
            for _, each in found:
                each()

        return [(self._shares.separate, mean, commit)]

    def _walk_joint(self, group: Group, columns: IntArray, watched: IntArray) -> _Walk:
        """The same from joint bets."""
        n, whole, boxes = group.ids.size, self._boxes.states.size, self._wide
        start = self._joint[watched]
        if not self._joint_on:
            still = np.broadcast_to(log_sum(start + self._rivals.log_weights[watched], axis=1), (n, watched.size))
            return [(self._shares.joint, still, lambda: None)]
        kept = np.flatnonzero((columns < whole) | (not (self._conditional and whole)))
        outcomes, j, b = group.outcomes[kept], group.policies[kept], columns[kept]
        if self._signals is not None:
            (least, most), told = self._signals.bounds.T, group.signals
            more = np.tile(least, (kept.size, 1)) if told is None else np.clip(told[kept], least, most)
            outcomes = np.hstack([outcomes, more])
        steps = np.zeros((n, *start.shape))
        commits: list[Callable[[], None]] = []
        if kept.size:
            low = boxes.lower[watched[None], j[:, None], :, b[:, None]]
            high = boxes.upper[watched[None], j[:, None], :, b[:, None]]
            residuals = outcomes - (0.5 * (low + high)).mean(axis=1) if watched.size else outcomes
            fixed, add = self._residuals.walk(b, residuals, None if self._measured else self._boxes.low.size)
            commits.append(add)
            rival = boxes.points[self._rivals.index[watched][None], j[:, None, None], :, b[:, None, None]]
            steps[kept] = _joint_steps(low[:, :, None], high[:, :, None], rival, fixed, boxes.low, boxes.high, outcomes)
        walk = start + np.cumsum(steps, axis=0)

        def commit() -> None:
            self._joint[watched] = walk[-1]
            for each in commits:
                each()

        return [(self._shares.joint, log_sum(walk + self._rivals.log_weights[watched], axis=2), commit)]

    def _walk_steps(self, rows: Sequence[IntArray] | None, watched: IntArray) -> _Walk | None:
        """The same from transitions; nothing where there is no such evidence."""
        found = self._transitions
        if found is None:
            return []
        if rows is None:
            over = self._joint_on and bool((found.logs == -np.inf).all()) and not (self.watched & ~self.alive).any()
            if not over:
                return None
            return [(self._shares.transitions, np.full((1, watched.size), -np.inf), lambda: None)]
        steps = found.walk(rows)
        if steps is None:
            return None
        walk = found.logs + np.cumsum(steps, axis=0)

        def commit() -> None:
            found.logs = walk[-1]

        logs = log_sum(walk[:, watched] + found.rivals.log_weights[watched], axis=2)
        return [(self._shares.transitions, logs, commit)]

    def _columns(self, group: Group) -> IntArray:
        n, whole = group.ids.size, self._boxes.states.size
        if self._conditional is None:
            self._conditional = group.starts is not None
        if self._conditional and group.starts is not None:
            return self._boxes.columns(group.starts, n)
        if self._conditional and whole:
            self.watched &= self.alive
            self._joint[:] = -np.inf
        return np.full(n, whole)

    def _settle_joint(self, group: Group, columns: IntArray, bets: list[FloatArray | None], sound: Any) -> None:
        whole = self._boxes.states.size
        rows, used = np.flatnonzero(self.watched), []
        start = 0
        while start < len(bets):
            stop = start + 1
            while stop < len(bets) and bets[stop] is bets[start]:
                stop += 1
            kept = [k for k in range(start, stop) if columns[k] < whole or not (self._conditional and whole)]
            fixed = bets[start]
            if fixed is not None and kept:
                used.append((kept, fixed))
            start = stop
        boxes = self._wide
        outcomes = group.outcomes
        if self._signals is not None and not (self._measured and group.signals is None):
            (least, most), n = self._signals.bounds.T, group.ids.size
            more = np.tile(least, (n, 1)) if group.signals is None else np.clip(group.signals, least, most)
            outcomes = np.hstack([outcomes, more])
        for kept, fixed in used:
            if outcomes.shape[1] < boxes.low.size:
                self.watched &= self.alive
                rows = np.flatnonzero(self.watched)
                for k in kept:
                    self._worst_bets(rows, int(group.policies[k]), fixed)
                continue
            for k in [k for k in kept if not sound[k]]:
                self._worst_bets(rows, int(group.policies[k]), fixed)
            kept = [k for k in kept if sound[k]]
            for k in kept:
                j, b = int(group.policies[k]), int(columns[k])
                direction, offset, _ = self._directions(rows, j, b, fixed)
                self._joint[rows] += np.log1p(direction @ outcomes[k] - offset)
            middle = 0.5 * (boxes.lower + boxes.upper)[rows[:, None], group.policies[kept], :, columns[kept]]
            told = outcomes[kept]
            self._residuals.update(columns[kept], told - middle.mean(axis=0) if rows.size else told)

    def _directions(
        self, rows: IntArray, j: int, b: int, fixed: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Bets of all pairs: directions (n, R, F), offsets (n, R), and the smallest ``u . x - offset`` (n, R)."""
        boxes = self._wide
        low, high = boxes.lower[rows, j, :, b][:, None], boxes.upper[rows, j, :, b][:, None]
        rival = boxes.points[self._rivals.index[rows], j, :, b]
        rival = np.where(np.isnan(rival), low, rival)  # what is unknown is no reason to bet
        gap = np.maximum(rival - high, 0.0) + np.minimum(rival - low, 0.0)

        def support(u: FloatArray) -> Any:
            return np.maximum(u * low, u * high).sum(axis=2)

        full = gap @ fixed[b].T
        plain = gap * np.diag(fixed[b])
        gains = (full * rival).sum(axis=2) > support(full)
        u = np.where(gains[..., None], full, plain)
        u = np.where((gap != 0.0).any(axis=2)[..., None], u, 0.0)
        offset = support(u)
        least = np.minimum(u * boxes.low, u * boxes.high).sum(axis=2) - offset
        shrink = np.where(least < -CAP, -CAP / np.where(least < 0.0, least, -1.0), 1.0)
        return u * shrink[..., None], offset * shrink, np.maximum(least, -CAP)

    def forfeit(self, policy: int, fixed: FloatArray | None) -> None:
        """An episode that is not told: the smallest factors."""
        self.watched &= self.alive
        for process in (*self._separate, *self._extra):
            process.lose(policy, 1)
        if fixed is not None:
            rows = np.flatnonzero(self.watched)
            self._worst_bets(rows, policy, fixed)
        if self._transitions is not None:
            self._give_up_transitions()

    def _worst_bets(self, rows: IntArray, policy: int, fixed: FloatArray) -> None:
        worst = [self._directions(rows, policy, b, fixed)[2] for b in range(len(fixed))]
        self._joint[rows] += np.log1p(np.minimum(np.min(worst, axis=0), 0.0))

    def _give_up_transitions(self) -> None:
        if self._transitions is not None:
            self.watched &= self.alive
            self._transitions.logs[:] = -np.inf
            self._joint_on = True

    def log_wealth(self) -> FloatArray:
        """(N,)."""
        processes = (*self._separate, *self._extra)
        separate = log_sum(np.array([p.log_mean() for p in processes]), axis=0) - math.log(len(processes))
        # What is no longer watched did not move with the rest; it never comes back.
        separate = np.where(self.watched, separate, -np.inf)
        parts = [(self._shares.separate, separate), (self._shares.joint, _averaged(self._joint, self._rivals))]
        if self._transitions is not None:
            parts.append((self._shares.transitions, _averaged(self._transitions.logs, self._transitions.rivals)))
        return np.asarray(log_sum(np.array([math.log(share) + part for share, part in parts]), axis=0))

    def review(self) -> tuple[FloatArray, Any, Any]:
        """Wealths, and masks of the cells to refute and to readmit."""
        wealth = self.log_wealth()
        dying = self.alive & ((wealth >= self.threshold) | self.impossible)
        back = self.watched & ~self.alive & (wealth <= math.log(RETURN)) & ~self.impossible
        return wealth, dying, back


def _averaged(logs: FloatArray, rivals: Rivals) -> Any:
    return log_sum(logs + rivals.log_weights, axis=1)


def _joint_steps(
    low: FloatArray, high: FloatArray, rival: FloatArray, fixed: FloatArray, least: FloatArray, most: FloatArray, outcomes: FloatArray
) -> FloatArray:  # fmt: skip
    """(n, w, R) what the joint bets of n episodes add to the log-wealths.

    Args:
        low, high: (n, w, 1, F) boxes for each episode's policy and initial state.
        rival: (n, w, R, F) values of the alternatives, NaN where unknown.
        fixed: (n, F, F) inverse scatters that the bets were made with.
        least, most: (F,) ranges.
        outcomes: (n, F).
    """
    rival = np.where(np.isnan(rival), low, rival)
    gap = np.maximum(rival - high, 0.0) + np.minimum(rival - low, 0.0)
    full = np.einsum("nwrf,ngf->nwrg", gap, fixed)
    plain = gap * np.einsum("nff->nf", fixed)[:, None, None]

    def support(u: FloatArray) -> Any:
        return np.where(u > 0.0, u * high, u * low).sum(axis=3)

    better = (full * rival).sum(axis=3) > support(full)
    u = np.where(better[..., None], full, plain)
    u = np.where((gap != 0.0).any(axis=3)[..., None], u, 0.0)
    offset = support(u)
    worst = np.where(u > 0.0, u * least, u * most).sum(axis=3) - offset
    shrink = np.where(worst < -CAP, CAP / np.maximum(-worst, CAP), 1.0)
    gain = np.einsum("nwrf,nf->nwr", u, outcomes) - offset
    return np.asarray(np.log1p(shrink * gain))


class _Separate:
    """Bets on one signal, per cell and policy; logs (J, N, 2, K)."""

    def __init__(self, lower: FloatArray, upper: FloatArray, low: float, high: float) -> None:
        self._minus, self._plus = np.clip(lower, low, high).T, np.clip(upper, low, high).T
        self._low, self._high = float(low), float(high)
        self._fractions = bet_grid(SEPARATE_BETS, 0.02, tilt=0.0).fractions / (self._high - self._low)
        j, n = self._minus.shape
        self._logs, self._lost = np.zeros((j, n, 2, self._fractions.size)), np.zeros(j)
        worst = np.stack([self._low - self._plus, self._minus - self._high], axis=2)[..., None] * self._fractions
        self._worst, self._each = np.log1p(worst), np.zeros((j, n))
        others = np.full(j, (1.0 - SAFE_SHARE) / max(j - 1, 1))
        others[0] = 1.0 - others[1:].sum()
        self._log_shares = np.log(others)

    def update(self, policy: int, values: FloatArray, watched: Any) -> None:
        values = np.clip(values, self._low, self._high)
        minus, plus = self._minus[policy, watched], self._plus[policy, watched]
        bets = np.stack([values[:, None] - plus, minus - values[:, None]], axis=2)
        self._logs[policy, watched] += np.log1p(bets[..., None] * self._fractions).sum(axis=0)
        self.lose(policy, 0)

    def walk(self, policies: IntArray, values: FloatArray, watched: Any) -> tuple[FloatArray, Callable[[], None]]:
        """(n, w) log-wealth of the watched cells after each of n episodes, and what makes the last so."""
        values, n = np.clip(values, self._low, self._high), policies.size
        last: dict[int, tuple[FloatArray, FloatArray]] = {}
        each = np.broadcast_to(
            (self._each[:, watched] + self._log_shares[:, None]).T, (n, watched.sum(), self._lost.size)
        ).copy()
        for j in np.unique(policies).tolist():
            mine = np.flatnonzero(policies == j)
            x = values[mine, None]
            bets = np.stack([x - self._plus[j, watched], self._minus[j, watched] - x], axis=2)
            walk = self._logs[j, watched] + np.cumsum(np.log1p(bets[..., None] * self._fractions), axis=0)
            worst = self._lost[j] * self._worst[j, watched]
            means = log_sum(walk + worst, axis=(2, 3)) - math.log(2 * self._fractions.size)
            last[j] = walk[-1], means[-1]
            # From each of its episodes to the next the policy's own average stays.
            since = np.searchsorted(mine, np.arange(n), side="right") - 1
            each[since >= 0, :, j] = means[since[since >= 0]] + self._log_shares[j]

        def commit() -> None:
            for j, (logs, mean) in last.items():
                self._logs[j, watched] = logs
                self._each[j, watched] = mean

        return np.asarray(log_sum(each, axis=2)), commit

    def lose(self, policy: int, count: int) -> None:
        """Episodes went missing; the average of one policy's bets (N,) anew."""
        self._lost[policy] += count
        logs = self._logs[policy] + self._lost[policy] * self._worst[policy]
        self._each[policy] = log_sum(logs, axis=(1, 2)) - math.log(2 * self._fractions.size)

    def log_mean(self) -> FloatArray:
        return np.asarray(log_sum(self._each + self._log_shares[:, None], axis=0))


class _Ratios:
    """Transition evidence: logs (N, R) and the logarithms of the e-variables (E, N, R)."""

    def __init__(self, policy_set: PolicySet) -> None:
        cells = policy_set.cells
        kernel = cells.kernel
        if kernel is None:
            raise ValueError("the cells have no kernel")
        self.rivals = choose_rivals(cells, RIVAL_RATIO, CHEAPER_SHARE, NEAREST_RIVAL)
        points = kernel.center if cells.outside is None else np.concatenate([kernel.center, cells.outside.kernel])
        self._where = {tuple(triple): e for e, triple in enumerate(kernel.support.tolist())}
        self._excluded = kernel.upper.T <= 0.0
        self._ratios = np.zeros((len(kernel.support), *self.rivals.index.shape))
        pairs = [tuple(pair) for pair in kernel.support[:, :2].tolist()]
        start = 0
        for end in range(1, len(pairs) + 1):
            if end == len(pairs) or pairs[end] != pairs[start]:
                box = (kernel.lower[:, start:end], kernel.upper[:, start:end])
                self._ratios[start:end] = _e_variables(points[:, start:end], *box, self.rivals.index)
                start = end
        self._ratios[np.broadcast_to(self._excluded[:, :, None], self._ratios.shape)] = 0.0
        self.logs = np.zeros(self.rivals.index.shape)

    def walk(self, rows: Sequence[IntArray]) -> FloatArray | None:
        """(n, N, R) what the transitions of each of n episodes add; ``None`` where one of them is impossible in some cell."""
        steps = np.zeros((len(rows), *self.logs.shape))
        for k, moves in enumerate(rows):
            entries = [(self._where.get((s, a, t), -1), count) for s, a, t, count in moves.tolist() if count > 0]
            where = [entry for entry, _ in entries]
            if -1 in where or self._excluded[where].any():
                return None
            if where:
                steps[k] = np.tensordot(np.array([count for _, count in entries], float), self._ratios[where], 1)
        return steps

    def update(self, rows: IntArray) -> Any:
        """Count transitions; (N,) which cells exclude one of them."""
        gone = np.zeros(len(self.logs), dtype=bool)
        found = [(self._where.get((s, a, t)), count) for s, a, t, count in rows.tolist() if count > 0]
        if any(entry is None for entry, _ in found):
            return ~gone
        for entry, count in found:
            gone |= self._excluded[entry]
            self.logs += count * self._ratios[entry]
        return gone


def _e_variables(points: FloatArray, lower: FloatArray, upper: FloatArray, index: IntArray) -> FloatArray:
    """(e, N, R) ``log Q/P*`` for the successors of one (s, a), ``P*`` the member of the box nearest to the rival."""
    rival = points[index].transpose(2, 0, 1)
    lo, hi = lower.T[:, :, None], upper.T[:, :, None]
    left, right = np.zeros(index.shape), np.full(index.shape, 2.0)
    for _ in range(45):
        short = (np.clip(right * rival, lo, hi).sum(axis=0) < 1.0) & (right < 1e12)
        right = np.where(short, 2.0 * right, right)
        if not short.any():
            break
    for _ in range(56):
        middle = 0.5 * (left + right)
        short = np.clip(middle * rival, lo, hi).sum(axis=0) < 1.0
        left, right = np.where(short, middle, left), np.where(short, right, middle)
    nearest = np.clip(right * rival, lo, hi)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(nearest > 0.0, rival / nearest, 0.0)
        worst = np.min([t + np.maximum(lo * (ratio - t), hi * (ratio - t)).sum(axis=0) for t in ratio], axis=0)
        return np.asarray(np.log(ratio / np.maximum(worst, 1.0)))


class Guess:
    """Likelihoods of the cells' centres; decides what is tried, never what is safe.

    Args:
        policy_set: with predictions and kernels.
        boxes: with declared signals, where there are any.

    Attributes:
        steps: log-likelihood (N,) of the transitions seen.
    """

    def __init__(self, policy_set: PolicySet, boxes: PredictedBoxes) -> None:
        kernel, n = policy_set.cells.kernel, len(policy_set.cells)
        self._boxes, self._told = boxes.widened(policy_set), boxes.low.size
        self._measured = self._boxes.low.size > self._told and not boxes.states.size
        self._seen: dict[tuple[int, int], list[Any]] = {}
        self.steps, self._followed, self._episodes = np.zeros(n), 0, 0
        self._logs = None if kernel is None else np.log(np.maximum(kernel.center, 1e-12)).T
        triples = [] if kernel is None else kernel.support.tolist()
        self._order = {tuple(triple): e for e, triple in enumerate(triples)}

    def update(self, group: Group) -> None:
        """Means and scatters by Welford's recursion."""
        size, n = self._boxes.low.size, group.ids.size
        values = np.zeros((n, size))
        values[:, : self._told] = group.outcomes
        if group.signals is None:
            self._measured = False
        else:
            values[:, self._told :] = group.signals
        values = np.minimum(np.maximum(values, self._boxes.low), self._boxes.high)
        for j, b, x in zip(group.policies.tolist(), self._boxes.columns(group.starts, n).tolist(), values):
            count, mean, scatter = self._seen.get((j, b), [0, np.zeros(size), np.zeros((size, size))])
            gap = x - mean
            mean = mean + gap / (count + 1)
            self._seen[j, b] = [count + 1, mean, scatter + np.outer(gap, x - mean)]
        self._episodes += n
        if group.rows is not None and self._logs is not None:
            self._followed += n
            for s, a, t, count in group.rows.tolist():
                if (s, a, t) in self._order:
                    self.steps += count * self._logs[self._order[s, a, t]]

    def update_singly(self, group: Group, moves: Sequence[IntArray] | None) -> None:
        """The same for episodes told one by one; ``moves`` are the transitions of each."""
        if moves is not None:
            group = copy.copy(group)
            group.rows = np.concatenate(moves)
        self.update(group)

    def posterior(self) -> FloatArray:
        """(N,) weights."""
        follows = self._logs is not None and 2 * self._followed >= self._episodes
        scores = self.steps if follows else self._outcomes()
        return np.asarray(np.exp(scores - log_sum(scores)))

    def _outcomes(self) -> FloatArray:
        size = self._boxes.low.size if self._measured else self._told
        scores, freedom = np.zeros(len(self.steps)), sum(count - 1 for count, _, _ in self._seen.values())
        if freedom <= size:
            return scores
        ranges = (self._boxes.high - self._boxes.low)[:size]
        pooled = sum(scatter[:size, :size] for _, _, scatter in self._seen.values()) / freedom
        least = [(LEAST_SCATTER * r) ** 2 + 1e-12 * (min(1.0, r * r) if r > 0.0 else 1.0) for r in ranges.tolist()]
        pooled = pooled + np.diag(least)
        for (j, b), (count, mean, scatter) in self._seen.items():
            own = (scatter[:size, :size] + SHRINKAGE * pooled) / (count - 1 + SHRINKAGE)
            for f in range(size):
                own[f, f] = max(own[f, f], least[f])
            gap = mean[:size] - self._boxes.points[: len(scores), j, :size, b]
            scores -= 0.5 * count * np.sum(gap * np.linalg.solve(own, gap.T).T, axis=1)
        return scores


class SafeCheck:
    """The safe policy's real episodes against what simulation predicts for it.

    Attributes:
        compared: its episodes that were told whole.
        impossible: an episode started where no cell's task starts, or had an outcome that no simulated task can have.
    """

    def __init__(self, policy_set: PolicySet, boxes: PredictedBoxes) -> None:
        self.compared, self.impossible = 0, False
        self._wealth: float | None = None
        self._states, signals = boxes.states.tolist(), policy_set.cells.signals
        low, high = np.array(boxes.low), np.array(boxes.high)
        low[0], high[0] = _returns(policy_set)
        self._least, self._most = (
            end + sign * ROUNDING * (1.0 + np.maximum(abs(low), abs(high))) for end, sign in ((low, -1), (high, 1))
        )
        hulls = [
            np.array([boxes.lower[:, 0, :, b].min(axis=0), boxes.upper[:, 0, :, b].max(axis=0)])
            for b in range(len(self._states) + 1)
        ]
        self._parts = [_Hull(hulls[-1:], low, high)]
        self._given = len(self._states) > 0
        if self._given:
            self._parts.append(_Hull(hulls[:-1], low, high))
        self._measured = signals is not None and len(signals.names) > 0
        if signals is not None and self._measured:
            ends = np.array([signals.lower[:, 0].min(axis=0), signals.upper[:, 0].max(axis=0)])
            self._parts.append(_Hull([ends], signals.bounds[:, 0], signals.bounds[:, 1]))

    def settle(self, groups: list[Group], lost: int) -> None:
        """Told episodes of any policy; how many of the safe policy were lost."""
        before = self.compared, lost
        for group in groups:
            starts = [None] * group.ids.size if group.starts is None else group.starts.tolist()
            if self._given and any(start is not None and start not in self._states for start in starts):
                self.impossible = True
            inside = (group.outcomes >= self._least) & (group.outcomes <= self._most)
            self.impossible |= not bool((inside | np.isnan(group.outcomes)).all())
            for k, start in enumerate(starts):
                if group.policies[k] == 0 and np.isfinite(group.outcomes[k]).all():
                    self._tell(group, k, start)
                elif group.policies[k] == 0:
                    lost += 1
        for part in self._parts:
            part.lost += lost
        if (self.compared, lost) != before or lost:
            self._wealth = None

    def foresee(self, group: Group) -> tuple[float, Callable[[], None]] | None:
        """The largest log-wealth on the way through n episodes, none of them lost, and what makes it so; ``None`` where one is impossible."""
        starts = None if group.starts is None else group.starts.tolist()
        inside = (group.outcomes >= self._least) & (group.outcomes <= self._most)
        mine = np.flatnonzero(group.policies == 0)
        if not inside.all() or (self._given and (starts is None or any(b not in self._states for b in starts))):
            return None
        if self._measured and group.signals is None:
            return None
        if not mine.size:
            return self.log_wealth(), lambda: None
        walks = [self._parts[0].walk([0] * mine.size, group.outcomes[mine])]
        if self._given and starts is not None:
            walks.append(self._parts[1].walk([self._states.index(starts[k]) for k in mine], group.outcomes[mine]))
        if self._measured and group.signals is not None:
            walks.append(self._parts[-1].walk([0] * mine.size, group.signals[mine]))
        logs = np.concatenate([part.logs_of(walk) for part, walk in zip(self._parts, walks)], axis=1)
        wealth = log_sum(logs, axis=1) - math.log(logs.shape[1])

        def commit() -> None:
            for part, walk in zip(self._parts, walks):
                part.end(walk[-1])
            self.compared, self._wealth = self.compared + mine.size, float(wealth[-1])

        return float(wealth.max()), commit

    def _tell(self, group: Group, k: int, start: int | None) -> None:
        self.compared += 1
        self._parts[0].see(0, group.outcomes[k])
        if self._given:
            if start in self._states:
                self._parts[1].see(self._states.index(start), group.outcomes[k])
            else:
                self._parts[1].lost += 1
        if self._measured:
            if group.signals is None:
                self._parts[-1].lost += 1
            else:
                self._parts[-1].see(0, group.signals[k])

    def log_wealth(self) -> float:
        """Log of the average over outcomes."""
        if self._wealth is None:
            logs = np.concatenate([part.logs() for part in self._parts])
            self._wealth = float(log_sum(logs)) - math.log(logs.size)
        return self._wealth


class _Hull:
    """Bets of F outcomes against intervals [B][2, F]: sums of logarithms (2, F, K), and those of losses."""

    def __init__(self, hulls: list[FloatArray], low: FloatArray, high: FloatArray) -> None:
        self._hulls = [np.minimum(np.maximum(hull, low), high) for hull in hulls]
        self._low, self._high, self.lost = low, high, 0
        fractions = bet_grid(BETS, SMALLEST, tilt=0.0).fractions
        width = np.where(high > low, NARROW * (high - low), 1.0)
        reaches = [np.array([plus - low, high - minus]) for minus, plus in self._hulls]
        self._bets = [fractions / np.maximum(reach, width)[..., None] for reach in reaches]
        self._worst = np.log(1.0 - fractions)
        self._sums = np.zeros((2, low.size, fractions.size))

    def see(self, b: int, outcome: FloatArray) -> None:
        x = np.minimum(np.maximum(outcome, self._low), self._high)
        minus, plus = self._hulls[b]
        self._sums += np.log1p(np.array([x - plus, minus - x])[..., None] * self._bets[b])

    def walk(self, columns: list[int], outcomes: FloatArray) -> FloatArray:
        """(n, 2, F, K) sums after each of n outcomes (n, F)."""
        x, b = np.clip(outcomes, self._low, self._high), np.array(columns)
        minus, plus = np.array(self._hulls)[b].transpose(1, 0, 2)
        bets = np.array(self._bets)[b]
        steps = np.log1p(np.stack([x - plus, minus - x], axis=1)[..., None] * bets)
        return np.asarray(self._sums + np.cumsum(steps, axis=0))

    def end(self, sums: FloatArray) -> None:
        """These sums (2, F, K) are the last of a walk."""
        self._sums = sums

    def logs(self) -> FloatArray:
        """(F,)."""
        return np.asarray(self.logs_of(self._sums[None])[0])

    def logs_of(self, sums: FloatArray) -> FloatArray:
        """(n, F) from sums (n, 2, F, K)."""
        logs = sums + self.lost * self._worst
        return np.asarray(log_sum(logs, axis=(1, 3))) - math.log(2 * logs.shape[3])


def _returns(policy_set: PolicySet) -> tuple[float, float]:
    """Smallest and largest return of any simulated task."""
    found = policy_set.bounds
    if found.return_upper > found.return_lower:
        return found.return_lower, found.return_upper
    return policy_set.criterion.return_range


class ReturnBounds:
    """Which policies return less than the safe one, by the audit's own bounds on means.

    Attributes:
        doubted, unsure: (J,) which real means were below the safe policy's when doubts were looked at last, and where rounding decides.
        gap: (J,) upper bound of each policy's mean return minus the lower bound of the safe policy's: below zero, it is worse.
    """

    def __init__(self, policy_set: PolicySet) -> None:
        self._low, self._high = _returns(policy_set)
        expected, width = policy_set.cells.predictions.reward_center.mean(axis=0), self._high - self._low
        focus, size = float(expected[0]) - self._low, expected.size
        bets = bet_grid(12, 0.003, tilt=0.0)
        level = math.log(size / LEVEL)
        self._safe = _Mean(width, width - focus, bets.fractions, bets.weights, level)
        self._others = [_Mean(width, focus, bets.fractions, bets.weights, level) for _ in range(size)]
        self._told: list[tuple[int, float]] = [(0, 0.0)] * size
        self.doubted, self.unsure = np.zeros((2, size), dtype=bool)
        self._look = FIRST_DOUBT

    def settle(self, groups: list[Group], lost: list[int]) -> None:
        """Told episodes, and the policies of lost ones."""
        for j in lost:
            self._stream(j).lost += 1
        for group in groups:
            returns = group.outcomes[:, 0]
            for j in sorted(set(group.policies.tolist())):
                mine, stream = returns[group.policies == j], self._stream(j)
                stream.lost += int(np.isnan(mine).sum())
                told = np.clip(mine[~np.isnan(mine)], self._low, self._high)
                stream.add(self._high - told if j == 0 else told - self._low)
                count, mean = self._told[j]
                for x in told.tolist():
                    count, mean = count + 1, mean + (x - mean) / (count + 1)
                self._told[j] = count, mean

    @property
    def look(self) -> int:
        """When doubts are looked at next."""
        return self._look

    def foresee(self, policies: IntArray, returns: FloatArray) -> tuple[FloatArray, Callable[[], None]]:
        """:attr:`gap` after n episodes, none of them lost or broken, and what makes it so. It never rises on the way."""
        x = np.clip(returns, self._low, self._high)
        uppers, safe, commits = [mean.bound for mean in self._others], self._safe.bound, []
        seen = list(self._told)
        for j in np.unique(policies).tolist():
            mine = x[policies == j]
            bound, commit = self._stream(j).foresee(self._high - mine if j == 0 else mine - self._low)
            commits.append(commit)
            if j == 0:
                safe = bound
            else:
                uppers[j] = bound
            count, mean = seen[j]
            seen[j] = count + mine.size, mean + float((mine - mean).sum()) / (count + mine.size)

        def commit_all() -> None:
            self._told = seen
            for each in commits:
                each()

        return self._low + np.array(uppers) - (self._high - safe), commit_all

    def doubt(self, settled: int, barred: Any) -> bool:
        """Look at the means if it is time; whether the doubts surely changed."""
        if settled < self._look:
            return False
        self._look = later(settled)
        least, safe = self._told[0]
        before, unsure = self.doubted & ~barred, self.unsure.copy()
        for j, (count, mean) in enumerate(self._told):
            able = j > 0 and min(count, least) >= ENOUGH and not barred[j]
            self.doubted[j] = able and mean < safe
            self.unsure[j] = able and math.isclose(
                mean, safe, rel_tol=1e-9, abs_tol=1e-9 * min(1.0, self._high - self._low)
            )
        return bool(((self.doubted != before) & ~self.unsure & ~unsure).any())

    def _stream(self, j: int) -> _Mean:
        return self._safe if j == 0 else self._others[j]

    @property
    def gap(self) -> FloatArray:
        uppers = np.array([self._low + mean.bound for mean in self._others])
        return uppers - (self._high - self._safe.bound)


class _Mean:
    """A time-uniform upper bound on one mean: sums of logarithms (K, G), the crossing by bisection along a chord."""

    def __init__(self, top: float, focus: float, fractions: FloatArray, weights: FloatArray, level: float) -> None:
        means = mean_grid(top, focus if 0.0 < focus < top else None)
        self._top, self._level, self.lost, self.bound = top, level, 0, top
        self._c, self._log_weights = fractions[:, None], np.log(weights)[:, None]
        self._odds = top / (top - means)
        self._sums = np.zeros((fractions.size, means.size))

    def add(self, values: FloatArray) -> None:
        if not values.size:
            return
        kept = 1.0 - values[:, None, None] / self._top
        self._sums += np.log(1.0 - self._c + self._c * kept * self._odds).sum(axis=0)
        logs = self._sums + self.lost * np.log(1.0 - self._c) + self._log_weights
        if _on_chord(logs, self._odds, self._top, self.bound) >= self._level - 1e-9:
            self.bound = min(self.bound, self._crossing(logs))

    def foresee(self, values: FloatArray) -> tuple[float, Callable[[], None]]:
        """The bound after values (n,) one after the other, and what makes it so."""
        kept = (1.0 - values / self._top)[:, None, None]
        steps = np.log(1.0 - self._c + self._c * (kept * self._odds))
        start = self._sums + self.lost * np.log(1.0 - self._c) + self._log_weights
        bound = _least_crossing(start, steps, self._odds, self._top, self._level, self.bound)

        def commit() -> None:
            self._sums, self.bound = self._sums + steps.sum(axis=0), bound

        return bound, commit

    def _crossing(self, logs: FloatArray) -> float:
        above = np.flatnonzero(log_sum(logs, axis=0) >= self._level)
        if not above.size:
            return self._top
        g = max(1, int(above[0]))
        left, right = 0.0, 1.0
        for _ in range(60):
            middle = 0.5 * (left + right)
            crossed = float(log_sum((1.0 - middle) * logs[:, g - 1] + middle * logs[:, g])) >= self._level
            left, right = (left, middle) if crossed else (middle, right)
        odds = self._odds[g - 1] + right * (self._odds[g] - self._odds[g - 1])
        return float(min(self._top, self._top - self._top / odds))
