"""Whether every policy's episodes keep their law, a second time: one episode after the other, ranks by counting, sums with an exponent.

Letters: F = 1 + I outcomes, R first episodes, K bins, B bets.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable

from surefoot.audit.groups import Group
from surefoot.deploy.stationarity import FIRST, SLOPES

__all__ = ["StationarityWatch"]

WORD = 1 << 64


class StationarityWatch:
    """All policies' detectors.

    Args:
        every: c, or 0.
        seed: of the ranks of equal outcomes.

    Attributes:
        peak: largest log so far of the average M of a policy and outcome, less that of its threshold: negative until the alarm is due.
    """

    def __init__(self, every: float, seed: int) -> None:
        self._every, self._seed, self.peak = every, seed, -math.inf
        self._policies: dict[int, _Policy] = {}

    def settle(self, groups: list[Group]) -> None:
        """Told episodes, which are taken in the order of their ids."""
        self.foresee(groups)[1]()

    def foresee(self, groups: list[Group]) -> tuple[float, Callable[[], None]]:
        """The peak after these episodes, and what makes it so."""
        peak, touched = self.peak, dict[int, _Policy]()
        rows = [row for group in groups for row in zip(group.ids.tolist(), group.policies, group.outcomes.tolist())]
        for episode, policy, outcomes in sorted(rows, key=lambda row: row[0]) if self._every else []:
            j = int(policy)
            if j not in touched:
                known = {**self._policies, **touched}
                touched[j] = known[j].copy() if j in known else _Policy(len(known) + 1)
            found = touched[j]
            found.see([self._uniform(episode, f, len(outcomes)) for f in range(len(outcomes))], outcomes)
            least = (
                math.log(2.0 * self._every)
                + math.log(len(outcomes))
                + math.log(found.place)
                + math.log(found.place + 1)
            )
            peak = max(peak, found.log_value - least)

        def commit() -> None:
            self._policies.update(touched)
            self.peak = peak

        return peak, commit

    def _uniform(self, episode: int, f: int, size: int) -> float:
        z = (self._seed * 0xD1342543DE82EF95 + (episode * size + f + 1) * 0x9E3779B97F4A7C15) % WORD
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % WORD
        z = (z ^ z >> 27) * 0x94D049BB133111EB % WORD
        return ((z ^ z >> 31) // 2048 + 0.5) / 2.0**53


class _Policy:
    """One policy, the ``place``-th to be played."""

    def __init__(self, place: int) -> None:
        self.place, self.log_value = place, -math.inf
        self._first: list[list[float]] = []
        self._ends: list[list[float]] = []
        self._counts: list[list[int]] = []
        self._sums: list[tuple[float, int]] = []

    def copy(self) -> _Policy:
        other = _Policy(self.place)
        other.log_value, other._first, other._ends = self.log_value, list(self._first), self._ends
        other._counts, other._sums = [list(row) for row in self._counts], list(self._sums)
        return other

    def see(self, uniform: list[float], outcomes: list[float]) -> None:
        if len(self._first) < FIRST:
            self._first.append(outcomes)
            if len(self._first) == FIRST:
                self._ends = [sorted(column)[::2] for column in zip(*self._first)]
                self._counts = [[0] * (len(ends) + 1) for ends in self._ends]
                self._sums = [(1.0, 0)] * (len(outcomes) * (len(SLOPES) + 2))
            return
        factors: list[float] = []
        for f, x in enumerate(outcomes):
            counts, b = self._counts[f], bisect.bisect_left(self._ends[f], x)
            p = (sum(counts[b + 1 :]) + uniform[f] * (counts[b] + 1)) / (sum(counts) + 1)
            counts[b] += 1
            factors += [1.0 + slope * (1.0 - p - p) for slope in SLOPES]
            factors += [1.0 / (2.0 * math.sqrt(p)), 1.0 / (2.0 * math.sqrt(max(1.0 - p, 1e-300)))]
        # (1 + M) = fraction 2^power; M is its factor times the one before.
        grown = [(factor * fraction, power) for factor, (fraction, power) in zip(factors, self._sums)]
        many, self.log_value = len(SLOPES) + 2, -math.inf
        for k in range(0, len(grown), many):
            part = grown[k : k + many]
            top = max(power for _, power in part)
            mean = math.fsum(fraction * 2.0 ** max(power - top, -1074) for fraction, power in part) / many
            self.log_value = max(self.log_value, math.log(mean) + top * math.log(2.0))
        self._sums = []
        for fraction, power in grown:
            more, shift = math.frexp(fraction + (2.0**-power if power < 1074 else 0.0))
            self._sums.append((more, power + shift))
