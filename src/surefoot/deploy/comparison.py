"""Which policies return less than the safe policy in reality.

    bar policy j as soon as  U_j < L_0,

``L_0`` a time-uniform lower bound on the real mean return of the safe policy, ``U_j`` a time-uniform upper bound on that of policy j, from real
episodes alone (:class:`~surefoot.stats.betting.MeanUpperBounds`; the lower bound is the upper one of ``high - R``). Each of the J bounds has
error ``LEVEL / J`` over all times, so by the union bound a policy that returns no less than the safe one is ever barred with
probability at most ``LEVEL``, whatever was asked when and why. That is no part of delta: a policy barred by mistake costs return, not safety.

Episodes count in ask order; a lost one counts at its worst, the smallest return for the safe policy and the largest for the others. Memory is
constant.

Where the safe policy is not played any more ``L_0`` rests on the ramp alone and stays low. So a policy whose real mean return is below the safe
policy's (no proof: a *doubt*, after ``ENOUGH`` episodes of both) is played only together with the safe policy,

    w_0 >= BESIDE sum_{j doubted} w_j,

until the doubt is proved, or is gone. This row only adds weight to the safe policy and cannot harm.

Letters: J policies (0 is the safe one), n episodes.
"""

from __future__ import annotations

import math

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.stateful import Stateful
from surefoot.stats.betting import MeanUpperBounds, bet_grid

__all__ = ["BESIDE", "ENOUGH", "LEVEL", "ReturnComparison", "later"]

LEVEL = 0.01
"""Probability that any policy is barred that returns no less than the safe one."""
ENOUGH = 20
"""Episodes of a policy, and of the safe one, before it is doubted."""
BESIDE = 0.25
"""Weight of the safe policy for each unit of weight on doubted policies."""
FIRST_DOUBT, DOUBT_AGAIN = 20, 1.1
"""Doubts are looked at after so many settled episodes, and whenever their number grew by this factor: plans need not change with every report."""


class ReturnComparison(Stateful):
    """The comparison.

    Args:
        return_range: smallest and largest possible return of an episode.
        predicted: (J,) returns that simulation expects; bounds are sharpest near that of the safe policy.

    Attributes:
        barred: (J,) policies proved worse than the safe one, for good.
        doubted: (J,) policies that seem worse; barred ones are not among them.
    """

    CHANGES = ("barred", "doubted", "_counts", "_sums", "_look", "_safe", "_others", "_lower", "_upper")

    def __init__(self, return_range: tuple[float, float], predicted: FloatArray) -> None:
        self._low, self._high = return_range
        size, width = predicted.size, self._high - self._low
        self.barred, self.doubted = np.zeros((2, size), dtype=bool)
        self._counts, self._sums, self._look = np.zeros(size, dtype=np.int64), np.zeros(size), FIRST_DOUBT
        self._threshold = math.log(size / LEVEL)
        focus, bets = float(predicted[0]) - self._low, bet_grid(12, 0.003, tilt=0.0)
        self._safe = MeanUpperBounds([width], focus=_within(width - focus, width), bets=bets)
        self._others = MeanUpperBounds(np.full(size, width), focus=_within(focus, width), bets=bets)
        self._lower, self._upper = self._low, np.full(size, self._high)

    @property
    def lower(self) -> float:
        """``L_0``."""
        return float(self._lower)

    @property
    def upper(self) -> FloatArray:
        """(J,) ``U_j``; the entry of the safe policy has no meaning."""
        return self._upper.copy()

    def told(self, policy_index: IntArray, returns: FloatArray) -> None:
        """Episodes (n,) that took effect; a return that is no number counts as lost."""
        known = np.isfinite(returns)
        for j in policy_index[~known].tolist():
            self.lost(j)
        policy_index, returns = policy_index[known], returns[known]
        inside = np.clip(returns, self._low, self._high)
        for j in np.unique(policy_index).tolist():
            mine = inside[policy_index == j]
            self._counts[j] += mine.size
            self._sums[j] += mine.sum()
            if j == 0:
                self._safe.update(0, self._high - mine)
                self._lower = max(self._lower, self._high - self._safe.bound(0, self._threshold))
            else:
                self._others.update(j, mine - self._low)
                self._upper[j] = min(self._upper[j], self._low + self._others.bound(j, self._threshold))

    def lost(self, policy: int) -> None:
        """An episode never arrives."""
        if policy == 0:
            self._safe.mark_lost(0)
        else:
            self._others.mark_lost(policy)

    def review(self) -> IntArray:
        """Policies to bar now."""
        worse = ~self.barred & (self._upper < self._lower)
        worse[0] = False
        self.barred |= worse
        self.doubted &= ~worse
        return np.flatnonzero(worse)

    def doubt(self, settled: int) -> bool:
        """Look at the means again if it is time; whether the doubts changed."""
        if settled < self._look:
            return False
        self._look, before = later(settled), self.doubted
        enough = (self._counts >= ENOUGH) & (self._counts[0] >= ENOUGH) & ~self.barred
        self.doubted = enough & (self._sums * self._counts[0] < self._sums[0] * self._counts)
        self.doubted[0] = False
        return bool((self.doubted != before).any())


def later(settled: int) -> int:
    """When doubts are looked at after this."""
    return max(settled + 1, math.ceil(DOUBT_AGAIN * settled))


def _within(focus: float, width: float) -> float | None:
    return focus if 0.0 < focus < width else None
