"""The product region a second time: log-wealths as running sums at fixed means, and bisection of all steps at once.

A pair of costs ``(m_0, m_1)`` of the safe policy and the target is out once ``K_0(m_0) K_1(m_1) >= I / delta_b``. The agent multiplies scaled
products and takes Newton's steps from one report to the next; here many moments are looked at together, and the moment that proves most is found for
every step.

Letters: J policies, I constraints, K bets, G grid means, S steps of the staircase, n moments.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.audit.bounds import odds_of
from surefoot.audit.groups import Group, log_sum
from surefoot.deploy.bounds import CASH, STEPS
from surefoot.stats.betting import bet_grid

__all__ = ["Region"]

HALVINGS = 60
FLAT = 1e-12
"""Log-wealth above the threshold that is no further progress."""


class Region:
    """What is left of the costs of the safe policy and the target together.

    Attributes:
        values: (J, I) the largest cost of every policy alone.
        rows: (S, J, I) one step each.
    """

    def __init__(self, start: FloatArray, ceilings: FloatArray, limits: FloatArray, delta: float) -> None:
        self._ceilings, self._limits, grid = np.broadcast_to(ceilings, start.shape), limits, bet_grid()
        self._start = np.minimum(start, self._ceilings)
        self._fractions, self._log_weights = grid.fractions, np.log(grid.weights)
        self._pair(0)
        size = self._odds[0][0].size if limits.size else 0
        self._logs = np.zeros((limits.size, 2, self._fractions.size, size))
        self._counts, self._lost = np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
        self._level = math.log(max(limits.size, 1) / delta)
        tops = [max(1e-300, min(max(d, s), 0.999 * c)) for d, s, c in zip(limits, self._start[0], self._ceilings[0])]
        self._edges = [np.linspace(0.0, top, STEPS + 1) for top in tops]
        self._proved = [np.full(STEPS, float(c)) for c in self._ceilings.max(axis=0)]
        self._policies: list[int] = []
        self._since: list[int] = []
        self._read()

    def _pair(self, target: int) -> None:
        """The safe policy and this one are looked at together."""
        self._tops = self._ceilings[[0, target]].T.tolist()
        self._odds = [[odds_of(c, d) for c in tops] for tops, d in zip(self._tops, self._limits.tolist())]
        # What rounding may have added to the agent's products, which it charges against the region.
        worst = [math.log(max(v.max() for v in pair) / (1.0 - self._fractions[-1])) for pair in self._odds]
        self._rounding = [float(np.finfo(float).eps) * (16.0 + 4.0 * w) for w in worst]

    def select(self, policy: int, first: int) -> None:
        """A policy's wealth starts with the episodes asked from ``first`` on: the safe one's, then the target's."""
        if len(self._policies) == 2:
            raise ValueError("select must be called twice at most, got another call; the error is spent")
        if self._policies:
            self._pair(policy)
            self._proved = [np.minimum(proved, tops[1]) for proved, tops in zip(self._proved, self._tops)]
        self._policies.append(policy)
        self._since.append(first)
        self._read()

    def asked(self, first: int, draws: list[int]) -> None:
        """Asked episodes count as the ceiling."""
        for stream, (policy, since) in enumerate(zip(self._policies, self._since)):
            self._lost[stream] += sum(drawn == policy and first + k >= since for k, drawn in enumerate(draws))

    def told(self, group: Group) -> None:
        """Reported costs replace ceilings, all at one moment."""
        streams = [(group.policies == p) & (group.ids >= s) for p, s in zip(self._policies, self._since)]
        if not any(mine.any() for mine in streams):
            return
        for stream, mine in enumerate(streams):
            self._lost[stream] -= int(mine.sum())
            self._counts[stream] += int(mine.sum())
        for i in range(self._limits.size):
            for stream, mine in enumerate(streams):
                self._logs[i, stream] += self._steps(i, stream, group.outcomes[mine, 1 + i]).sum(axis=0)
            walks = [self._logs[i, stream][None] for stream in (0, 1)]
            self._proved[i] = self._least(i, walks, self._proved[i])
        self._read()

    def recalled(self, costs: FloatArray) -> None:
        """Logged costs (n, I) of the safe policy, all at one moment, from before the first ask."""
        self._counts[0] += len(costs)
        for i in range(self._limits.size):
            self._logs[i, 0] += self._steps(i, 0, costs[:, i]).sum(axis=0)
            self._proved[i] = self._least(i, [self._logs[i, stream][None] for stream in (0, 1)], self._proved[i])
        self._read()

    def told_singly(self, policies: IntArray, costs: FloatArray) -> Callable[[], None]:
        """Of episodes (n,) that were asked and told one after the other, none beside them open: what :meth:`told` would do, when called."""
        n, streams = len(policies), [policies == p for p in self._policies]
        moments = np.flatnonzero(np.any(streams, axis=0)) if streams else np.zeros(0, dtype=np.int64)
        logs, proved = self._logs.copy(), list(self._proved)
        counts = self._counts.copy()
        for i in range(self._limits.size):
            walks = []
            for stream in (0, 1):
                steps = np.zeros((n, *self._logs.shape[2:]))
                if stream < len(streams) and streams[stream].any():
                    steps[streams[stream]] = self._steps(i, stream, costs[streams[stream], i])
                walk = self._logs[i, stream] + np.cumsum(steps, axis=0)
                logs[i, stream] = walk[-1]
                walks.append(walk[moments])
            if moments.size:
                proved[i] = self._least(i, walks, proved[i])
        for stream, mine in enumerate(streams):
            counts[stream] += int(mine.sum())

        def commit() -> None:
            self._logs, self._proved, self._counts = logs, proved, counts
            self._read()

        return commit

    def drop_start(self, start: FloatArray) -> None:
        """Only data count, or ``start``."""
        self._start = np.minimum(start, self._ceilings)
        self._read()

    def _steps(self, i: int, stream: int, costs: FloatArray) -> FloatArray:
        """(n, K, G) what costs (n,) add to the log-wealths."""
        ceiling, c = self._tops[i][stream], self._fractions[:, None]
        left = 1.0 - np.clip(costs, 0.0, ceiling) / ceiling
        steps: FloatArray = np.log(1.0 - c + c * (left[:, None, None] * self._odds[i][stream]))
        return steps

    def _wealth(self, i: int, stream: int, walk: FloatArray, odds: FloatArray) -> FloatArray:
        """(n, S) log of what was never bet plus the bets, at odds (S,), on the chords of the walk (n, K, G)."""
        grid = self._odds[i][stream]
        right = np.clip(np.searchsorted(grid, odds), 1, grid.size - 1)
        share = np.clip((odds - grid[right - 1]) / (grid[right] - grid[right - 1]), 0.0, 1.0)
        worst = self._lost[stream] * np.log1p(-self._fractions) + self._log_weights
        near, far = walk[:, :, right - 1], walk[:, :, right]
        bets = log_sum(near + share * (far - near) + worst[:, None], axis=1)
        bets = bets - self._rounding[i] * (self._counts[stream] + self._lost[stream] + 100)
        found: FloatArray = np.logaddexp(math.log(CASH), math.log1p(-CASH) + bets)
        return found

    def _least(self, i: int, walks: list[FloatArray], proved: FloatArray) -> FloatArray:
        """(S,) the smallest mean of the target that any of n moments leaves, for every step; -1 where a moment leaves none."""
        (first, top), found = self._tops[i], proved.copy()
        left = first / (first - self._edges[i][:-1])
        rest = self._level - self._wealth(i, 0, walks[0], left)
        nothing = self._wealth(i, 1, walks[1], np.ones(1))
        found[(rest <= nothing).any(axis=0)] = -1.0
        while True:
            steps = np.flatnonzero(found >= 0.0)
            with np.errstate(divide="ignore"):
                odds = np.where(found[steps] < top, top / (top - found[steps]), np.inf)
            odds = np.minimum(odds, self._odds[i][1][-1])
            above = self._wealth(i, 1, walks[1], odds) - rest[:, steps]
            best = above.argmax(axis=0)
            gain = above[best, np.arange(steps.size)]
            steps, best, odds = steps[gain > FLAT], best[gain > FLAT], odds[gain > FLAT]
            if not steps.size:
                return found
            low, high = np.ones(steps.size), odds
            for _ in range(HALVINGS):
                middle = 0.5 * (low + high)
                reached = self._each(i, walks[1][best], middle) >= rest[best, steps]
                low, high = np.where(reached, low, middle), np.where(reached, middle, high)
            lower = np.minimum(found[steps], top - top / high)
            if not (lower < found[steps]).any():
                return found
            found[steps] = lower

    def _each(self, i: int, walk: FloatArray, odds: FloatArray) -> FloatArray:
        """(m,) the target's wealth at odds (m,), each on a walk (m, K, G) of its own."""
        grid, each = self._odds[i][1], np.arange(odds.size)
        right = np.clip(np.searchsorted(grid, odds), 1, grid.size - 1)
        share = np.clip((odds - grid[right - 1]) / (grid[right] - grid[right - 1]), 0.0, 1.0)[:, None]
        worst = self._lost[1] * np.log1p(-self._fractions) + self._log_weights
        near, far = walk[each, :, right - 1], walk[each, :, right]
        bets = log_sum(near + share * (far - near) + worst, axis=1)
        bets = bets - self._rounding[i] * (self._counts[1] + self._lost[1] + 100)
        found: FloatArray = np.logaddexp(math.log(CASH), math.log1p(-CASH) + bets)
        return found

    def _read(self) -> None:
        self.rows = np.repeat(self._start[None], STEPS, axis=0)
        for i in range(self._limits.size if self._policies else 0):
            first, last, proved = self._edges[i][:-1], self._edges[i][1:], self._proved[i]
            left = [s for s in range(STEPS) if first[s] < self._start[0, i] and proved[s] >= 0.0]
            for s in range(STEPS) if left else ():
                step = s if s in left else left[-1]
                self.rows[s, 0, i] = min(last[step], self._start[0, i])
                if len(self._policies) > 1:
                    target = self._policies[1]
                    self.rows[s, target, i] = min(proved[step], self._start[target, i])
        self.values = self.rows.max(axis=0)
