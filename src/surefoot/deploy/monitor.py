"""Watching real costs alone: an e-process against "every deployed mixture met the limit".

If the mixture of an episode has expected cost at most d, then ``1 + lam (C - d)`` with a fixed ``lam >= 0`` has mean at most one, whatever policy was
drawn from the mixture: the null concerns the mixture, so ``lam`` is independent of the draw. The average over ``lam`` and constraints is
compared with ``1/level``; by Ville's inequality a false alarm has probability at most ``level``. Nothing about simulators enters.

Letters: I constraints, K bets, n episodes.
"""

from __future__ import annotations

import math

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.deploy.reorder import Released
from surefoot.stateful import Stateful

__all__ = ["Monitor", "costs_in_order", "monitor_bets"]

MONITOR_BETS = (0.01, 0.03, 0.1, 0.3, 0.9)
"""Bets as fractions of ``1/d``, the largest that keeps factors positive when an episode costs nothing."""


def monitor_bets(limits: FloatArray, ceilings: FloatArray) -> FloatArray:
    """(I, K) ``lam`` for limits (I,); ceilings (I,) are the unit where a limit is zero."""
    unit = np.where(limits > 0.0, limits, np.where(ceilings > 0.0, ceilings, 1.0))
    return np.asarray(MONITOR_BETS)[None, :] / unit[:, None]


def costs_in_order(released: Released, size: int) -> FloatArray:
    """(n, I) costs of what was released, by id; an episode that was lost or given up cost nothing."""
    missing = np.asarray(released.lost + released.given_up, dtype=np.int64)
    ids = np.concatenate([*(report.ids for report in released.groups), missing])
    costs = np.concatenate([*(report.costs for report in released.groups), np.zeros((missing.size, size))])
    return np.asarray(costs[np.argsort(ids)])


class Monitor(Stateful):
    """The e-process.

    Args:
        limits: (I,) ``d``.
        ceilings: (I,) used as the unit where a limit is zero.
        level: false-alarm probability.
    """

    CHANGES = ("_log_wealth", "rejected")

    def __init__(self, limits: FloatArray, ceilings: FloatArray, level: float) -> None:
        self._limits, self._bets = limits, monitor_bets(limits, ceilings)
        self._threshold = -math.log(level)
        self._log_wealth = np.zeros(self._bets.shape)
        self.rejected = False

    def update(self, costs: FloatArray) -> None:
        """Add real costs (n, I), in ask order."""
        steps = np.log1p(self._bets[None] * (costs - self._limits)[:, :, None])
        paths = self._log_wealth + np.cumsum(steps, axis=0)
        self._log_wealth = paths[-1]
        if paths.shape[1]:
            top = paths.max(axis=(1, 2))
            mean = top + np.log(np.exp(paths - top[:, None, None]).mean(axis=(1, 2)))
            self.rejected |= bool((mean >= self._threshold).any())

    def released(self, released: Released) -> None:
        """Add what was released, episode by episode in ask order.

        The process is read after every episode, so an order that the plant chose (costly ones first) would raise false alarms. A lost
        episode is one that cost nothing: the smallest factor.
        """
        self.update(costs_in_order(released, self._limits.size))

    def forfeit(self) -> None:
        """A lost episode: the smallest factor, that of no cost at all."""
        self._log_wealth = self._log_wealth + np.log1p(-self._bets * self._limits[:, None])
