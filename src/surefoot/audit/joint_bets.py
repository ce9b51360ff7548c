"""Joint bets on all signals of an episode, a second time: broadcast over cells and alternatives.

Letters: N cells, R alternatives, F signals, B initial states, n episodes, w watched cells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.audit.groups import PredictedBoxes
from surefoot.deploy.evidence.joint import LARGEST_LOSS, PRIOR_EPISODES, PRIOR_FRACTION

__all__ = ["Residuals", "joint_steps"]


class Residuals:
    """Sums of squares of residuals (B+1, F, F), shrunk towards all initial states together."""

    def __init__(self, boxes: PredictedBoxes) -> None:
        f = boxes.low.size
        self._prior = (PRIOR_FRACTION * (boxes.high - boxes.low)) ** 2
        self._sums, self._counts = np.zeros((boxes.states.size + 1, f, f)), np.zeros(boxes.states.size + 1)
        self._found: dict[int, FloatArray] = {}

    def update(self, columns: IntArray, residuals: FloatArray) -> None:
        self._found = {}
        for column, residual in zip(columns.tolist(), residuals):
            self._sums[column] += np.outer(residual, residual)
            self._counts[column] += 1.0

    def walk(self, columns: IntArray, residuals: FloatArray, used: int | None) -> tuple[FloatArray, Callable[[], None]]:
        """Inverses (n, F, F) for the columns (n,) as they were before each of n episodes, and what adds the episodes' residuals (n, F)."""
        size, p = self._prior.size if used is None else used, PRIOR_EPISODES
        squares = residuals[:, :, None] * residuals[:, None, :]
        pooled = self._sums.sum(axis=0) + np.diag(self._prior) + sums_before(squares)
        pooled = pooled / (self._counts.sum() + 1.0 + np.arange(len(columns)))[:, None, None]
        own, counts = np.empty(squares.shape), np.empty(len(columns))
        sums, totals = self._sums.copy(), self._counts.copy()
        for column in np.unique(columns).tolist():
            mine = columns == column
            own[mine] = self._sums[column] + sums_before(squares[mine])
            counts[mine] = self._counts[column] + np.arange(mine.sum())
            sums[column] += squares[mine].sum(axis=0)
            totals[column] += mine.sum()
        shrunk = (own + p * pooled) / (counts + p)[:, None, None] + 1e-9 * np.diag(self._prior)
        found = np.zeros(squares.shape)
        found[:, :size, :size] = np.linalg.inv(shrunk[:, :size, :size])

        def commit() -> None:
            self._sums, self._counts, self._found = sums, totals, {}

        return found, commit

    def inverse(self, used: int | None = None) -> FloatArray:
        size = self._prior.size if used is None else used
        if size not in self._found:  # nothing was told since: the same object, as bets are compared by
            pooled = (self._sums.sum(axis=0) + np.diag(self._prior)) / (self._counts.sum() + 1.0)
            shrunk = (self._sums + PRIOR_EPISODES * pooled) / (self._counts + PRIOR_EPISODES)[:, None, None]
            shrunk += 1e-9 * np.diag(self._prior)
            found = np.zeros(shrunk.shape)
            found[:, :size, :size] = np.linalg.inv(shrunk[:, :size, :size])
            self._found[size] = found
        return self._found[size]


def sums_before(steps: FloatArray) -> FloatArray:
    """(n, ...) sums of the steps before each."""
    return np.asarray(np.cumsum(steps, axis=0) - steps)


def joint_steps(
    low: FloatArray, high: FloatArray, alternative: FloatArray, fixed: FloatArray, least: FloatArray, most: FloatArray, outcomes: FloatArray
) -> FloatArray:  # fmt: skip
    """(n, w, R) what the joint bets of n episodes add to the log-wealths.

    Args:
        low, high: (n, w, 1, F) boxes for each episode's policy and initial state.
        alternative: (n, w, R, F) values of the alternatives, NaN where unknown.
        fixed: (n, F, F) inverse scatters that the bets were made with.
        least, most: (F,) ranges.
        outcomes: (n, F).
    """
    alternative = np.where(np.isnan(alternative), low, alternative)
    gap = np.maximum(alternative - high, 0.0) + np.minimum(alternative - low, 0.0)
    full = np.einsum("nwrf,ngf->nwrg", gap, fixed)
    plain = gap * np.einsum("nff->nf", fixed)[:, None, None]

    def support(u: FloatArray) -> Any:
        return np.where(u > 0.0, u * high, u * low).sum(axis=3)

    better = (full * alternative).sum(axis=3) > support(full)
    u = np.where(better[..., None], full, plain)
    u = np.where((gap != 0.0).any(axis=3)[..., None], u, 0.0)
    offset = support(u)
    worst = np.where(u > 0.0, u * least, u * most).sum(axis=3) - offset
    shrink = np.where(worst < -LARGEST_LOSS, LARGEST_LOSS / np.maximum(-worst, LARGEST_LOSS), 1.0)
    gain = np.einsum("nwrf,nf->nwr", u, outcomes) - offset
    return np.asarray(np.log1p(shrink * gain))
