"""Step curves over episodes, thinned as they are read.

A curve is a function of episodes that keeps its value until it changes. Of arbitrarily many changes at most ``2 STRETCHES`` survive: per stretch of
episodes the largest value and the last one. Stretches double when episodes outgrow them, so memory is bounded and nothing is read twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["MixtureTrail", "StepCurve"]

STRETCHES, TRAIL = 512, 128


class StepCurve:
    """A step curve.

    Attributes:
        width: episodes per stretch.
    """

    def __init__(self) -> None:
        self.width = 1
        self._kept: dict[int, tuple[int, float, int, float]] = {}

    def add(self, at: int, value: float) -> None:
        """From episode ``at`` on the value is this; ``at`` does not decrease.

        Raises:
            ValueError: not finite, or a negative episode.
        """
        if not math.isfinite(value) or at < 0:
            raise ValueError(f"a curve needs finite values at episodes >= 0, got {value} at {at}")
        while at // self.width >= STRETCHES:
            self._double()
        stretch = at // self.width
        where, largest, _, _ = self._kept.get(stretch, (at, value, at, value))
        if value > largest:
            where, largest = at, value
        self._kept[stretch] = (where, largest, at, value)

    def _double(self) -> None:
        self.width *= 2
        merged: dict[int, tuple[int, float, int, float]] = {}
        for stretch, (where, largest, at, value) in self._kept.items():
            there = merged.get(stretch // 2)
            if there is not None and there[1] >= largest:
                where, largest = there[:2]
            merged[stretch // 2] = (where, largest, at, value)
        self._kept = merged

    @property
    def points(self) -> list[tuple[int, float]]:
        """(episode, value) pairs in order."""
        found: list[tuple[int, float]] = []
        for where, largest, at, value in self._kept.values():
            found += [(where, largest)] if (where, largest) == (at, value) else [(where, largest), (at, value)]
        return found


class MixtureTrail:
    """Mixtures over episodes, thinned: per stretch of episodes the last one.

    Attributes:
        width: episodes per stretch.
    """

    def __init__(self) -> None:
        self.width = 1
        self._kept: dict[int, tuple[int, Mapping[int, float]]] = {}

    def add(self, at: int, weights: Mapping[int, float]) -> None:
        """From episode ``at`` on this mixture is in force; ``at`` does not decrease.

        Raises:
            ValueError: a negative episode.
        """
        if at < 0:
            raise ValueError(f"a mixture needs an episode >= 0, got {at}")
        while at // self.width >= TRAIL:
            self.width *= 2
            self._kept = {at // self.width: (at, weights) for at, weights in self._kept.values()}
        self._kept[at // self.width] = (at, weights)

    @property
    def points(self) -> list[tuple[int, Mapping[int, float]]]:
        """(episode, weights) pairs in order."""
        return list(self._kept.values())
