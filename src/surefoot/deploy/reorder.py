"""Reports in ask order.

Evidence is a product over episodes in the order they were asked. It may be read at any prefix of that order whose episodes are all told (or
given up): Ville's inequality covers every index. So reports wait here until everything asked before them has arrived, and
leave in groups. A group that was reported together (its transition counts cannot be taken apart) leaves together.

Nothing is waited for without end: once :data:`PATIENCE` reports wait, the episode they wait for is given up, so that memory stays bounded
whatever a plant forgets to report. An episode that is *given up* here is not one that the user *declared lost*: a report that is late may be late
because of its outcome, whatever was declared about lost ones. So the two leave apart, and only the second kind may ever be skipped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter

from surefoot.deploy.report import Report
from surefoot.stateful import Stateful

__all__ = ["PATIENCE", "Released", "ReorderBuffer"]


PATIENCE = 20_000
"""Reports that wait for one that is missing."""


@dataclass(frozen=True, eq=False)
class Released:
    """What leaves at once: a complete prefix of the ask order.

    Attributes:
        groups: reports, in the order of their first ids.
        lost: ids that the user declared lost, increasing.
        given_up: ids that the library no longer waits for, increasing.
    """

    groups: list[Report]
    lost: list[int]
    given_up: list[int]

    def __bool__(self) -> bool:
        return bool(self.groups or self.lost or self.given_up)

    def __add__(self, later: Released) -> Released:
        return Released(self.groups + later.groups, self.lost + later.lost, self.given_up + later.given_up)


class ReorderBuffer(Stateful):
    """Holds what arrived early.

    Attributes:
        settled: every episode with a smaller id has been released.
    """

    CHANGES = ("settled", "_groups", "_arrived", "_lost", "_given_up", "_wall")

    def __init__(self) -> None:
        self.settled = 0
        self._groups: list[Report] = []
        self._arrived: set[int] = set()
        self._lost: set[int] = set()
        self._given_up: set[int] = set()
        self._wall = 0

    @property
    def waiting(self) -> int:
        """Episodes that arrived but wait for earlier ones."""
        return len(self._arrived) + len(self._lost) + len(self._given_up)

    @property
    def notes(self) -> list[str]:
        """What holds the evidence up."""
        if not self.waiting:
            return []
        return [
            f"{self.waiting} reports wait until episode {self.settled} is told or declared lost; cost bounds carry on"
        ]

    def add(self, group: Report) -> None:
        """A report arrived. One with an episode that was released comes too late; the others in it are then given up."""
        if group.span[0] < self.settled:
            self.give_up(group.ids[group.ids >= self.settled].tolist())
            return
        self._groups.append(group)
        ids = group.ids.tolist()
        self._arrived.update(ids)
        # Given up, but not released yet: it came in time after all.
        self._given_up.difference_update(ids)

    def declare_lost(self, ids: Iterable[int]) -> None:
        """The user says that these will never be told. What was given up before stays given up."""
        self._lost.update(k for k in ids if k >= self.settled and k not in self._given_up)

    def give_up(self, ids: Iterable[int]) -> None:
        """These episodes will not be waited for, by the library's own decision."""
        self._given_up.update(k for k in ids if k >= self.settled and k not in self._arrived and k not in self._lost)

    def overdue(self) -> list[int]:
        """Missing episodes older than half of what waits, once too much waits."""
        if self.waiting <= PATIENCE:
            return []
        here = sorted(self._arrived | self._lost | self._given_up)
        return sorted(set(range(self.settled, here[len(here) // 2])).difference(here))

    def release(self) -> Released:
        """The longest prefix that is complete and splits no group."""
        # All below the wall is here. What came since lies above it, so nothing can leave before the wall itself arrives: looking through
        # everything that waits, at every report, would add up.
        end = max(self.settled, self._wall)
        if not self._is_here(end):
            return Released([], [], [])
        while self._is_here(end):
            end += 1
        self._wall = end
        end = self._unsplit(end)
        ready = [g for g in self._groups if g.span[1] < end]
        lost, given_up = (sorted(k for k in which if k < end) for which in (self._lost, self._given_up))
        self._groups = [g for g in self._groups if g.span[1] >= end]
        for group in ready:
            self._arrived.difference_update(group.ids.tolist())
        self._lost.difference_update(lost)
        self._given_up.difference_update(given_up)
        self.settled = end
        ready.sort(key=lambda g: int(g.ids[0]))
        return Released(ready, lost, given_up)

    def _is_here(self, k: int) -> bool:
        return k in self._arrived or k in self._lost or k in self._given_up

    def _unsplit(self, end: int) -> int:
        """The largest index up to ``end`` that no group reaches across."""
        for first, last in sorted((g.span for g in self._groups), key=itemgetter(1), reverse=True):
            if last < end:
                break
            end = min(end, first)
        return end
