"""Which policies return less than the safe one, a second time: sums of logarithms, the crossing by bisection.

Letters: J policies, K bets, G grid means, n episodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.audit.bounds import least_crossing, on_chord
from surefoot.audit.groups import Group, log_sum
from surefoot.deploy.comparison import ENOUGH, FIRST_DOUBT, LEVEL, later
from surefoot.policyset.schema import PolicySet
from surefoot.stats.betting import bet_grid, mean_grid

__all__ = ["ReturnBounds", "simulated_returns"]


class ReturnBounds:
    """Which policies return less than the safe one, by the audit's own bounds on means.

    Attributes:
        doubted, unsure: (J,) which real means were below the safe policy's when doubts were looked at last, and where rounding decides.
        gap: (J,) upper bound of each policy's mean return minus the lower bound of the safe policy's: below zero, it is worse.
    """

    def __init__(self, policy_set: PolicySet) -> None:
        self._low, self._high = simulated_returns(policy_set)
        expected, width = policy_set.cells.predictions.reward_center.mean(axis=0), self._high - self._low
        focus, size = float(expected[0]) - self._low, expected.size
        bets = bet_grid(12, 0.003, tilt=0.0)
        level = math.log(size / LEVEL)
        self._safe = MeanBound(width, width - focus, bets.fractions, bets.weights, level)
        self._others = [MeanBound(width, focus, bets.fractions, bets.weights, level) for _ in range(size)]
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

    def _stream(self, j: int) -> MeanBound:
        return self._safe if j == 0 else self._others[j]

    @property
    def gap(self) -> FloatArray:
        uppers = np.array([self._low + mean.bound for mean in self._others])
        return uppers - (self._high - self._safe.bound)


class MeanBound:
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
        if on_chord(logs, self._odds, self._top, self.bound) >= self._level - 1e-9:
            self.bound = min(self.bound, self._crossing(logs))

    def foresee(self, values: FloatArray) -> tuple[float, Callable[[], None]]:
        """The bound after values (n,) one after the other, and what makes it so."""
        kept = (1.0 - values / self._top)[:, None, None]
        steps = np.log(1.0 - self._c + self._c * (kept * self._odds))
        start = self._sums + self.lost * np.log(1.0 - self._c) + self._log_weights
        bound = least_crossing(start, steps, self._odds, self._top, self._level, self.bound)

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


def simulated_returns(policy_set: PolicySet) -> tuple[float, float]:
    """Smallest and largest return of any simulated task."""
    found = policy_set.bounds
    if found.return_upper > found.return_lower:
        return found.return_lower, found.return_upper
    return policy_set.criterion.return_range
