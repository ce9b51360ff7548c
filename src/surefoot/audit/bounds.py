"""Data bounds a second time: running sums of ``log(1 - c + c (1 - x/H) v)``, and a grid within a grid, or bisection, for the crossing.

The agent multiplies scaled products and takes Newton's steps. Letters: J policies, I constraints, K bets, G grid means, n episodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.audit.groups import Group, log_sum
from surefoot.deploy.bounds import SELECTION_SHARES
from surefoot.stats.betting import bet_grid, mean_grid

__all__ = ["DataBounds", "least_crossing", "odds_of", "on_chord"]


class DataBounds:
    """``B_j``: time-uniform upper bounds on costs.

    Attributes:
        values: (J, I).
    """

    def __init__(
        self, start: FloatArray, ceilings: FloatArray, limits: FloatArray, delta: float, *, selected: bool
    ) -> None:
        self._ceilings, self._delta = np.broadcast_to(ceilings, start.shape), delta
        self.values = np.minimum(start, self._ceilings)
        shape, grid = start.shape, bet_grid()
        self._fractions, self._log_weights = grid.fractions, np.log(grid.weights)
        self._odds = [[odds_of(c, d) for c, d in zip(row, limits.tolist())] for row in self._ceilings.tolist()]
        self._logs = np.zeros((*shape, self._fractions.size, self._odds[0][0].size if limits.size else 0))
        self._lost = np.zeros(shape[0], dtype=np.int64)
        share = math.log(max(shape[1], 1)) if selected else math.log(shape[0] * shape[1])
        self._share = share
        self._threshold = np.full(shape[0], np.inf if selected else share - math.log(delta))
        self._since = np.full(shape[0], 2**62 if selected else 0)
        self._selections = 0

    @property
    def rows(self) -> FloatArray:
        """(1, J, I) the bounds as rows."""
        return self.values[None]

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
            for i, ceiling in enumerate(self._ceilings[policy].tolist()):
                x = np.clip(group.outcomes[mine, 1 + i], 0.0, ceiling)
                c = self._fractions[:, None, None]
                factors = 1.0 - c + c * (1.0 - x[None, None] / ceiling) * self._odds[policy][i][None, :, None]
                self._logs[policy, i] += np.log(factors).sum(axis=2)
                if self._reaches(policy, i, float(self.values[policy, i])):
                    self.values[policy, i] = min(self.values[policy, i], self._bound(policy, i))

    def recalled(self, costs: FloatArray) -> None:
        """Logged costs (n, I) of the safe policy, from before the first ask."""
        for i, ceiling in enumerate(self._ceilings[0].tolist()):
            x = np.clip(costs[:, i], 0.0, ceiling)
            c = self._fractions[:, None]
            for left in (1.0 - x / ceiling).tolist():
                self._logs[0, i] += np.log(1.0 - c + c * left * self._odds[0][i][None])
            if self._reaches(0, i, float(self.values[0, i])):
                self.values[0, i] = min(self.values[0, i], self._bound(0, i))

    def told_singly(self, policies: IntArray, costs: FloatArray) -> Callable[[], None]:
        """Of episodes (n,) that were asked and told one after the other, none beside them open: what :meth:`told` would do, when called."""
        logs, values = {}, self.values.copy()
        for policy in np.unique(policies).tolist():
            mine = policies == policy
            for i, ceiling in enumerate(self._ceilings[policy].tolist()):
                left = 1.0 - np.clip(costs[mine, i], 0.0, ceiling) / ceiling
                c = self._fractions[:, None]
                steps = np.log(1.0 - c + c * (left[:, None, None] * self._odds[policy][i]))
                logs[policy, i] = self._logs[policy, i] + steps.sum(axis=0)
                level = float(self._threshold[policy])
                if np.isfinite(level):
                    worst = (self._lost[policy] * np.log1p(-self._fractions) + self._log_weights)[:, None]
                    values[policy, i] = least_crossing(
                        self._logs[policy, i] + worst,
                        steps,
                        self._odds[policy][i],
                        ceiling,
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
        ceiling, odds = float(self._ceilings[policy, i]), self._odds[policy][i]
        column = self._logs[policy, i] + (self._lost[policy] * np.log1p(-self._fractions) + self._log_weights)[:, None]
        return on_chord(column, odds, ceiling, value) >= float(self._threshold[policy]) - 1e-9

    def drop_start(self, start: FloatArray) -> None:
        """Only data counts, or ``start``."""
        for policy, i in np.ndindex(*self.values.shape):
            known = np.isfinite(self._threshold[policy])
            found = self._bound(policy, i) if known else np.inf
            self.values[policy, i] = min(found, start[policy, i], self._ceilings[policy, i])

    def _bound(self, policy: int, i: int) -> float:
        """Where the chord of the log-wealth in the odds crosses the threshold, by a grid within a grid."""
        ceiling, threshold, grid = (
            float(self._ceilings[policy, i]),
            float(self._threshold[policy]),
            self._odds[policy][i],
        )
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
        odds = grid[above - 1] + high * (grid[above] - grid[above - 1])
        return float(min(ceiling, ceiling - ceiling / odds))


def odds_of(ceiling: float, limit: float) -> FloatArray:
    """(G,) ``H / (H - m)`` at the grid's means m."""
    found: FloatArray = ceiling / (ceiling - mean_grid(ceiling, limit if 0.0 < limit < ceiling else None))
    return found


def on_chord(logs: FloatArray, odds: FloatArray, top: float, value: float) -> float:
    """Log-wealth at a mean of ``value``, on the chord between the means of the grid (K, G) beside it; at the last of them beyond."""
    wanted = top / (top - value) if value < top else np.inf
    g = min(max(1, int(np.searchsorted(odds, wanted))), odds.size - 1)
    share = min(1.0, max(0.0, (wanted - float(odds[g - 1])) / float(odds[g] - odds[g - 1])))
    return float(log_sum((1.0 - share) * logs[:, g - 1] + share * logs[:, g]))


HALVINGS = 48
"""How often the interval of a crossing is halved."""


def least_crossing(
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
    left, right, halvings = np.zeros(len(walk)), np.ones(len(walk)), HALVINGS
    while halvings > 0 and len(walk) > 1:
        middle = 0.5 * (left + right)
        crossed = (
            log_sum((1.0 - middle[:, None]) * walk[:, :, g - 1] + middle[:, None] * walk[:, :, g], axis=1) >= level
        )
        left, right, halvings = np.where(crossed, left, middle), np.where(crossed, middle, right), halvings - 1
        keep = left <= right.min()  # the others cross later
        walk, left, right = walk[keep], left[keep], right[keep]
    while halvings > 0:  # one walk is left: six halvings at once
        parts = np.linspace(left[0], right[0], 65)
        crossed = log_sum((1.0 - parts) * walk[0, :, g - 1, None] + parts * walk[0, :, g, None], axis=0) >= level
        crossed[-1] = True
        k = max(1, int(crossed.argmax()))
        left, right, halvings = parts[k - 1 : k], parts[k : k + 1], halvings - 6
    odd = float(odds[g - 1]) + float(right.min()) * float(odds[g] - odds[g - 1])
    return float(min(value, top - top / odd))
