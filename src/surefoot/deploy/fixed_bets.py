"""What was fixed when episodes were asked: their policies, and the bets that evidence will settle on their outcomes.

Bets have to be chosen before an outcome is known, so they are remembered from ``ask`` until the episode takes effect. Letters: n episodes.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from surefoot.arrays import IntArray
from surefoot.deploy.evidence.base import Bets
from surefoot.stateful import Stateful

__all__ = ["Asked", "FixedBets"]

_first = attrgetter("first")


@dataclass(frozen=True, eq=False)
class Asked:
    """Episodes asked together.

    Attributes:
        first: the first id.
        policy_index: (n,).
        bets: what evidence fixed for them, or ``None``.
    """

    first: int
    policy_index: IntArray
    bets: Bets | None

    @property
    def end(self) -> int:
        """The id after the last."""
        return self.first + int(self.policy_index.size)


class FixedBets(Stateful):
    """All episodes that have not taken effect yet, in ask order."""

    CHANGES = ("asked",)

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def __len__(self) -> int:
        return len(self.asked)

    def add(self, first: int, policy_index: IntArray, bets: Bets | None) -> None:
        """Episodes were asked."""
        self.asked.append(Asked(first, policy_index, bets))

    def of(self, episode: int) -> tuple[int, Bets | None]:
        """Policy and bets of one episode."""
        found = self.asked[bisect_right(self.asked, episode, key=_first) - 1]
        return int(found.policy_index[episode - found.first]), found.bets

    def placed(self, ids: IntArray) -> list[tuple[Bets | None, IntArray]]:
        """Positions of a report's episodes (n,) by the bets that were fixed when they were asked."""
        low, high = int(ids.min()), int(ids.max())
        start = bisect_right(self.asked, low, key=_first) - 1
        stop = bisect_right(self.asked, high, key=_first)
        if stop == start + 1:
            return [(self.asked[start].bets, np.arange(ids.size))]
        found = [(a.bets, np.flatnonzero((ids >= a.first) & (ids < a.end))) for a in self.asked[start:stop]]
        return [(bets, where) for bets, where in found if where.size]

    def forget_before(self, settled: int) -> None:
        """Everything with a smaller id has taken effect."""
        del self.asked[: bisect_right(self.asked, settled, key=attrgetter("end"))]
