"""Reports in ask order.

Evidence is a product over episodes in the order they were asked. It may be read at any prefix of that order whose episodes are all told (or
given up as lost): Ville's inequality covers every index. So reports wait here until everything asked before them has arrived, and
leave in groups. A group that was reported together (its transition counts cannot be taken apart) leaves together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray

__all__ = ["InOrder", "Told"]


@dataclass(frozen=True, eq=False)
class Told:
    """Episodes reported together.

    Attributes:
        ids, policy_index: (n,).
        outcomes: (n, F) return and costs.
        initial_states: what was reported, or ``None``.
        transitions: (m, 4) rows ``(s, a, s', count)``, or ``None``.
        signals: (n, X), or ``None``.
    """

    ids: IntArray
    policy_index: IntArray
    outcomes: FloatArray
    initial_states: Any
    transitions: IntArray | None
    signals: FloatArray | None


class InOrder:
    """Holds what arrived early.

    Attributes:
        settled: every episode with a smaller id has been released.
    """

    def __init__(self) -> None:
        self.settled = 0
        self._groups: list[Told] = []
        self._arrived: set[int] = set()
        self._lost: set[int] = set()

    @property
    def waiting(self) -> int:
        """Episodes that arrived but wait for earlier ones."""
        return len(self._arrived) + len(self._lost)

    def add(self, group: Told) -> None:
        """A report arrived."""
        self._groups.append(group)
        self._arrived.update(group.ids.tolist())

    def give_up(self, ids: Iterable[int]) -> None:
        """These episodes will not be waited for."""
        self._lost.update(ids)

    def release(self) -> tuple[list[Told], list[int]]:
        """Groups and lost ids of the longest prefix that is complete and splits no group."""
        end = self.settled
        while end in self._arrived or end in self._lost:
            end += 1
        if end == self.settled:
            # Something old is still missing: looking through everything that waits for it, at every report, would add up.
            return [], []
        shrunk = True
        while shrunk:
            shrunk = False
            for group in self._groups:
                first, last = int(group.ids.min()), int(group.ids.max())
                if first < end <= last:
                    end, shrunk = first, True
        ready = [g for g in self._groups if int(g.ids.max()) < end]
        lost = sorted(k for k in self._lost if k < end)
        self._groups = [g for g in self._groups if int(g.ids.max()) >= end]
        for group in ready:
            self._arrived.difference_update(group.ids.tolist())
        self._lost.difference_update(lost)
        self.settled = end
        ready.sort(key=lambda g: int(g.ids[0]))
        return ready, lost


def stack(groups: list[Told]) -> tuple[IntArray, IntArray, FloatArray]:
    """Ids, policies and outcomes of several groups as arrays."""
    return (
        np.concatenate([g.ids for g in groups]),
        np.concatenate([g.policy_index for g in groups]),
        np.concatenate([g.outcomes for g in groups]),
    )
