"""Bets on one signal at a time, and bets on transitions, a second time.

Ratios ``Q / P*`` of transitions: bisection over all pairs at once, and the supremum over the box by its dual
``min_t t + sum max(lo (r - t), hi (r - t))`` instead of a greedy knapsack.

Letters: N cells, R alternatives, J policies, K bets, E support, n episodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.audit.groups import log_sum
from surefoot.deploy.evidence.alternatives import (
    ALTERNATIVE_RATIO,
    CHEAPER_SHARE,
    NEAREST_ALTERNATIVE,
    choose_alternatives,
)
from surefoot.deploy.evidence.marginal import SAFE_SHARE, SEPARATE_BETS
from surefoot.policyset.schema import PolicySet
from surefoot.stats.betting import bet_grid

__all__ = ["SingleBets", "TransitionBets", "e_variables"]


class SingleBets:
    """Bets on one signal, per cell and policy; logs (J, N, 2, K)."""

    def __init__(self, lower: FloatArray, upper: FloatArray, low: float, high: float) -> None:
        self._minus, self._plus = np.clip(lower, low, high).T, np.clip(upper, low, high).T
        self._low, self._high = float(low), float(high)
        self._fractions = bet_grid(SEPARATE_BETS, 0.02, tilt=0.0).fractions / (self._high - self._low)
        j, n = self._minus.shape
        self._logs, self._lost = np.zeros((j, n, 2, self._fractions.size)), np.zeros(j)
        worst = np.stack([self._low - self._plus, self._minus - self._high], axis=2)[..., None] * self._fractions
        self._worst, self._each = np.log1p(worst), np.zeros((j, n))
        others = np.full(j, (1.0 - SAFE_SHARE) / max(j - 1, 1))
        others[0] = 1.0 - others[1:].sum()
        self._log_shares = np.log(others)

    def update(self, policy: int, values: FloatArray, watched: Any) -> None:
        values = np.clip(values, self._low, self._high)
        minus, plus = self._minus[policy, watched], self._plus[policy, watched]
        bets = np.stack([values[:, None] - plus, minus - values[:, None]], axis=2)
        self._logs[policy, watched] += np.log1p(bets[..., None] * self._fractions).sum(axis=0)
        self.lose(policy, 0)

    def walk(self, policies: IntArray, values: FloatArray, watched: Any) -> tuple[FloatArray, Callable[[], None]]:
        """(n, w) log-wealth of the watched cells after each of n episodes, and what makes the last so."""
        values, n = np.clip(values, self._low, self._high), policies.size
        last: dict[int, tuple[FloatArray, FloatArray]] = {}
        each = np.broadcast_to(
            (self._each[:, watched] + self._log_shares[:, None]).T, (n, watched.sum(), self._lost.size)
        ).copy()
        for j in np.unique(policies).tolist():
            mine = np.flatnonzero(policies == j)
            x = values[mine, None]
            bets = np.stack([x - self._plus[j, watched], self._minus[j, watched] - x], axis=2)
            walk = self._logs[j, watched] + np.cumsum(np.log1p(bets[..., None] * self._fractions), axis=0)
            worst = self._lost[j] * self._worst[j, watched]
            means = log_sum(walk + worst, axis=(2, 3)) - math.log(2 * self._fractions.size)
            last[j] = walk[-1], means[-1]
            # From each of its episodes to the next the policy's own average stays.
            since = np.searchsorted(mine, np.arange(n), side="right") - 1
            each[since >= 0, :, j] = means[since[since >= 0]] + self._log_shares[j]

        def commit() -> None:
            for j, (logs, mean) in last.items():
                self._logs[j, watched] = logs
                self._each[j, watched] = mean

        return np.asarray(log_sum(each, axis=2)), commit

    def lose(self, policy: int, count: int) -> None:
        """Episodes went missing; the average of one policy's bets (N,) anew."""
        self._lost[policy] += count
        logs = self._logs[policy] + self._lost[policy] * self._worst[policy]
        self._each[policy] = log_sum(logs, axis=(1, 2)) - math.log(2 * self._fractions.size)

    def log_mean(self) -> FloatArray:
        return np.asarray(log_sum(self._each + self._log_shares[:, None], axis=0))


class TransitionBets:
    """Transition evidence: logs (N, R) and the logarithms of the e-variables (E, N, R)."""

    def __init__(self, policy_set: PolicySet) -> None:
        cells = policy_set.cells
        kernel = cells.kernel
        if kernel is None:
            raise ValueError("the cells have no kernel")
        self.alternatives = choose_alternatives(cells, ALTERNATIVE_RATIO, CHEAPER_SHARE, NEAREST_ALTERNATIVE)
        points = kernel.center if cells.outside is None else np.concatenate([kernel.center, cells.outside.kernel])
        self._where = {tuple(triple): e for e, triple in enumerate(kernel.support.tolist())}
        self._excluded = kernel.upper.T <= 0.0
        self._ratios = np.zeros((len(kernel.support), *self.alternatives.index.shape))
        pairs = [tuple(pair) for pair in kernel.support[:, :2].tolist()]
        start = 0
        for end in range(1, len(pairs) + 1):
            if end == len(pairs) or pairs[end] != pairs[start]:
                box = (kernel.lower[:, start:end], kernel.upper[:, start:end])
                self._ratios[start:end] = e_variables(points[:, start:end], *box, self.alternatives.index)
                start = end
        self._ratios[np.broadcast_to(self._excluded[:, :, None], self._ratios.shape)] = 0.0
        self.logs = np.zeros(self.alternatives.index.shape)

    def walk(self, rows: Sequence[IntArray]) -> FloatArray | None:
        """(n, N, R) what the transitions of each of n episodes add; ``None`` where one of them is impossible in some cell."""
        steps = np.zeros((len(rows), *self.logs.shape))
        for k, moves in enumerate(rows):
            entries = [(self._where.get((s, a, t), -1), count) for s, a, t, count in moves.tolist() if count > 0]
            where = [entry for entry, _ in entries]
            if -1 in where or self._excluded[where].any():
                return None
            if where:
                steps[k] = np.tensordot(np.array([count for _, count in entries], float), self._ratios[where], 1)
        return steps

    def update(self, rows: IntArray) -> Any:
        """Count transitions; (N,) which cells exclude one of them."""
        gone = np.zeros(len(self.logs), dtype=bool)
        found = [(self._where.get((s, a, t)), count) for s, a, t, count in rows.tolist() if count > 0]
        if any(entry is None for entry, _ in found):
            return ~gone
        for entry, count in found:
            gone |= self._excluded[entry]
            self.logs += count * self._ratios[entry]
        return gone


def e_variables(points: FloatArray, lower: FloatArray, upper: FloatArray, index: IntArray) -> FloatArray:
    """(e, N, R) ``log Q/P*`` for the successors of one (s, a), ``P*`` the member of the box nearest to the alternative."""
    alternative = points[index].transpose(2, 0, 1)
    lo, hi = lower.T[:, :, None], upper.T[:, :, None]
    left, right = np.zeros(index.shape), np.full(index.shape, 2.0)
    for _ in range(45):
        short = (np.clip(right * alternative, lo, hi).sum(axis=0) < 1.0) & (right < 1e12)
        right = np.where(short, 2.0 * right, right)
        if not short.any():
            break
    for _ in range(56):
        middle = 0.5 * (left + right)
        short = np.clip(middle * alternative, lo, hi).sum(axis=0) < 1.0
        left, right = np.where(short, middle, left), np.where(short, right, middle)
    nearest = np.clip(right * alternative, lo, hi)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(nearest > 0.0, alternative / nearest, 0.0)
        worst = np.min([t + np.maximum(lo * (ratio - t), hi * (ratio - t)).sum(axis=0) for t in ratio], axis=0)
        return np.asarray(np.log(ratio / np.maximum(worst, 1.0)))
