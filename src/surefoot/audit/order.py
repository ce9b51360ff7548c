"""In which order reports take effect, and which draws go missing, a second time."""

from __future__ import annotations

import math

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.audit.groups import Group, log_sum
from surefoot.deploy.reorder import PATIENCE
from surefoot.deploy.selective_loss import HORIZON, LEVEL, LOSS_BETS

__all__ = ["CLOSE", "AskOrder", "MissingDraws"]

CLOSE = 1e-6
"""Relative difference between two computations of the same number."""


class AskOrder:
    """Which reports may take effect: the longest complete prefix of the ask order that splits no group.

    Attributes:
        settled: episodes below have taken effect.
        lost: not to come, not yet settled: declared lost, or no longer waited for.
        declared: those that somebody declared lost before the library gave them up, and that were not settled before the last report.
    """

    def __init__(self) -> None:
        self.settled = 0
        self.lost: set[int] = set()
        self.declared: set[int] = set()
        self._groups: list[tuple[int, int, Group]] = []
        self._here: set[int] = set()
        self._missing = 0  # all episodes below are here, lost, or settled

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not (self._groups or self._here or self.lost) and self._missing == self.settled

    def pass_by(self, n: int) -> None:
        """The next n episodes took effect, one after the other."""
        self.settled = self._missing = self.settled + n
        self.declared = set()

    def declare_lost(self, ids: list[int]) -> None:
        """Somebody said that these never come; what the library gave up before is no longer theirs to declare."""
        late = {k for k in ids if k < self.settled or k in self.lost}
        self.declared = {k for k in self.declared if k >= self.settled} | (set(ids) - late)
        self.lost.update(set(ids) - {k for k in ids if k < self.settled})

    def add(self, group: Group) -> None:
        """A report arrived."""
        self.declared = {k for k in self.declared if k >= self.settled}
        first, last = int(group.ids.min()), int(group.ids.max())
        if first < self.settled:
            self.lost.update(k for k in group.ids.tolist() if k >= self.settled)
            return
        self._groups.append((first, last, group))
        self._here.update(group.ids.tolist())
        self.lost.difference_update(group.ids.tolist())

    def release(self) -> tuple[list[Group], list[int]]:
        """Groups by their first id, and lost episodes, that take effect now."""
        found = self._prefix()
        if len(self._here) + len(self.lost) > PATIENCE:
            here = sorted(self._here | self.lost)
            self.lost.update(set(range(self.settled, here[len(here) // 2])).difference(here))
            more = self._prefix()
            found = found[0] + more[0], found[1] + more[1]
        return found

    def _prefix(self) -> tuple[list[Group], list[int]]:
        missing = self._missing
        while missing in self._here or missing in self.lost:
            missing += 1
        if missing == self._missing:
            return [], []
        self._missing = end = missing
        while split := [first for first, last, _ in self._groups if first < end <= last]:
            end = min(split)
        ready = sorted((entry for entry in self._groups if entry[1] < end), key=lambda entry: int(entry[2].ids[0]))
        self._groups = [entry for entry in self._groups if entry[1] >= end]
        lost = sorted(k for k in self.lost if k < end)
        self.lost.difference_update(lost)
        for _, _, group in ready:
            self._here.difference_update(group.ids.tolist())
        self.settled = end
        return [group for _, _, group in ready], lost


class MissingDraws:
    """The e-process on which draws go missing, see :mod:`surefoot.deploy.selective_loss`."""

    def __init__(self, policies: int) -> None:
        self._logs = np.zeros((policies, len(LOSS_BETS)))
        self._open: dict[int, tuple[int, FloatArray, bool]] = {}
        self._opened = self._next = 0
        self._mean = 0.0
        self.flagged = False

    @property
    def idle(self) -> bool:
        """Whether no draw is open."""
        return not self._open and self._next == self._opened

    def pass_by(self, n: int) -> None:
        """The next n draws were told at once."""
        self._opened = self._next = self._opened + n

    def asked(self, draws: list[int], weights: FloatArray) -> None:
        for j in draws:
            self._open[self._opened] = (j, weights, False)
            self._opened += 1
        self._judge()

    def closed(self, ids: list[int], *, lost: bool) -> None:
        for k in ids:
            if k in self._open and lost:
                self._open[k] = (*self._open[k][:2], True)
            elif not lost:
                self._open.pop(k, None)
        self._judge()

    def _judge(self) -> None:
        for k in range(self._next, self._opened):
            drawn, weights, lost = self._open.get(k, (0, None, False))
            if weights is not None:
                if not lost and self._opened - k <= HORIZON:
                    break
                del self._open[k]
                for j in np.flatnonzero((weights > 0.0) & (weights < 1.0)).tolist():
                    self._logs[j] += np.log1p(np.array(LOSS_BETS) * (((j == drawn) / weights[j]) - 1.0))
                self._mean = float(log_sum(self._logs)) - math.log(self._logs.size)
            self._next = k + 1

    def rejected(self) -> bool:
        return not self.flagged and self._mean >= -math.log(LEVEL)

    def near(self) -> bool:
        return abs(self._mean + math.log(LEVEL)) < CLOSE
