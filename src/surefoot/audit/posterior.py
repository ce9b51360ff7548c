"""The posterior over cells a second time, by Welford's recursion; it decides what is tried, never what is safe.

Letters: N cells, J policies, F signals, B initial states, n episodes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.audit.groups import Group, PredictedBoxes, log_sum
from surefoot.deploy.posterior import LEAST_SCATTER, SHRINKAGE
from surefoot.policyset.schema import PolicySet

__all__ = ["CellPosterior"]


class CellPosterior:
    """Likelihoods of the cells' centres; decides what is tried, never what is safe.

    Args:
        policy_set: with predictions and kernels.
        boxes: with declared signals, where there are any.

    Attributes:
        steps: log-likelihood (N,) of the transitions seen.
    """

    def __init__(self, policy_set: PolicySet, boxes: PredictedBoxes) -> None:
        kernel, n = policy_set.cells.kernel, len(policy_set.cells)
        self._boxes, self._told = boxes.widened(policy_set), boxes.low.size
        self._measured = self._boxes.low.size > self._told and not boxes.states.size
        self._seen: dict[tuple[int, int], list[Any]] = {}
        self.steps, self._followed, self._episodes = np.zeros(n), 0, 0
        self._logs = None if kernel is None else np.log(np.maximum(kernel.center, 1e-12)).T
        triples = [] if kernel is None else kernel.support.tolist()
        self._order = {tuple(triple): e for e, triple in enumerate(triples)}

    def update(self, group: Group) -> None:
        """Means and scatters by Welford's recursion."""
        size, n = self._boxes.low.size, group.ids.size
        values = np.zeros((n, size))
        values[:, : self._told] = group.outcomes
        if group.signals is None:
            self._measured = False
        else:
            values[:, self._told :] = group.signals
        values = np.minimum(np.maximum(values, self._boxes.low), self._boxes.high)
        for j, b, x in zip(group.policies.tolist(), self._boxes.columns(group.starts, n).tolist(), values):
            count, mean, scatter = self._seen.get((j, b), [0, np.zeros(size), np.zeros((size, size))])
            gap = x - mean
            mean = mean + gap / (count + 1)
            self._seen[j, b] = [count + 1, mean, scatter + np.outer(gap, x - mean)]
        self._episodes += n
        if group.rows is not None and self._logs is not None:
            self._followed += n
            for s, a, t, count in group.rows.tolist():
                if (s, a, t) in self._order:
                    self.steps += count * self._logs[self._order[s, a, t]]

    def update_singly(self, group: Group, moves: Sequence[IntArray] | None) -> None:
        """The same for episodes told one by one; ``moves`` are the transitions of each."""
        if moves is not None:
            group = copy.copy(group)
            group.rows = np.concatenate(moves)
        self.update(group)

    def posterior(self) -> FloatArray:
        """(N,) weights."""
        follows = self._logs is not None and 2 * self._followed >= self._episodes
        scores = self.steps if follows else self._outcomes()
        return np.asarray(np.exp(scores - log_sum(scores)))

    def _outcomes(self) -> FloatArray:
        size = self._boxes.low.size if self._measured else self._told
        scores, freedom = np.zeros(len(self.steps)), sum(count - 1 for count, _, _ in self._seen.values())
        if freedom <= size:
            return scores
        ranges = (self._boxes.high - self._boxes.low)[:size]
        pooled = sum(scatter[:size, :size] for _, _, scatter in self._seen.values()) / freedom
        least = [(LEAST_SCATTER * r) ** 2 + 1e-12 * (min(1.0, r * r) if r > 0.0 else 1.0) for r in ranges.tolist()]
        pooled = pooled + np.diag(least)
        for (j, b), (count, mean, scatter) in self._seen.items():
            own = (scatter[:size, :size] + SHRINKAGE * pooled) / (count - 1 + SHRINKAGE)
            for f in range(size):
                own[f, f] = max(own[f, f], least[f])
            gap = mean[:size] - self._boxes.points[: len(scores), j, :size, b]
            scores -= 0.5 * count * np.sum(gap * np.linalg.solve(own, gap.T).T, axis=1)
        return scores
