"""Plants that change in the middle of a run, and what the detectors of changes make of it.

After half of the episodes the family's parameters move by one standard deviation of the prior, within its support, in the direction in which the
mixture played at that moment costs more: at once in even runs, in :data:`STEPS` small steps over a quarter of the episodes in odd ones. No
guarantee covers what is deployed between the change and the alarm. So violations are judged before the change; after it they are counted, until
an alarm returns the deployment to the safe policy.

Letters: J policies, p parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.experiments.validation.truth import Truth
from surefoot.tasks.family import TabularFamily

__all__ = ["DRAWS", "STEPS", "Change"]

STEPS = 10
"""Small steps of a slow drift."""
DRAWS = 2000
"""Tasks that tell the prior's standard deviation."""


class Change:
    """When and where a task moves.

    Args:
        family: whose parameters move.
        truth_of: facts about the task with parameters (p,).
        start: (p,) where it is.
        episodes: of the whole run.
        slow: a drift over a quarter of the episodes instead of a step.

    Attributes:
        begins: episodes asked before the change.
        truth: facts about the task of the moment.
    """

    def __init__(
        self, family: TabularFamily, truth_of: Callable[[FloatArray], Truth], start: Any, episodes: int, *, slow: bool
    ) -> None:
        self._start, self._truth_of = np.asarray(start, dtype=np.float64), truth_of
        self._deviation = np.asarray(family.sample(DRAWS, np.random.default_rng(0)), dtype=np.float64).std(axis=0)
        self._low, self._high = np.asarray(family.support, dtype=np.float64).reshape(-1, 2).T
        self.begins, self._takes = episodes // 2, max(1, episodes // 4) if slow else 0
        self._end: FloatArray | None = None
        self._share = 0
        self.truth = truth_of(self._start)

    def due(self, played: int, weights: FloatArray) -> bool:
        """Whether the task moves before the episodes that come after ``played``; weights (J,) are those played now."""
        since = played - self.begins
        if since < 0:
            return False
        share = STEPS if not self._takes else min(STEPS, 1 + since * STEPS // self._takes)
        if share == self._share:
            return False
        if self._end is None:
            self._end = self._towards(weights)
        self._share = share
        self.truth = self._truth_of(self._start + share / STEPS * (self._end - self._start))
        return True

    def _towards(self, weights: FloatArray) -> FloatArray:
        """(p,) where the mixture costs more, as a share of the limit that is closest."""
        ends = [np.clip(self._start + sign * self._deviation, self._low, self._high) for sign in (-1.0, 1.0)]

        def dearness(end: FloatArray) -> float:
            truth = self._truth_of(end)
            limits = np.maximum(truth.task.cost_limits, np.finfo(float).tiny)
            return float((weights @ truth.values[:, 1:] / limits).max(initial=0.0))

        return max(ends, key=dearness)
