"""How reports reach the agent: promptly, or by a plant that is out to deceive it.

The adversary sees an episode's outcome before it decides whether and when to report it. In every mode the better half of each batch (by
return) is told up to :data:`LATEST` episodes late, so that what is told first looks worse than it is. Beyond that, by mode:

=================== ==========================================================================================================
``late``            nothing else
``hide costs``      of the episodes above a limit, one in ten is never told; the agent is told later that they are lost
``hide in silence`` the same, but nobody says that they are lost; this starts after a third of the run
``hide bargains``   of the episodes without cost and with a good return, one in ten is lost, and said to be lost
=================== ==========================================================================================================

One more, ``overdue``, loses nothing: episodes above a limit are told so late that more than :data:`~surefoot.deploy.reorder.PATIENCE` reports wait
for them, and the agent gives them up on its own account. Nothing of that may ever be skipped, whatever holds for declared losses.

Hiding costs makes policies look cheaper than they are, hiding bargains makes the real task look costlier than its cell says: the two
directions in which a careless treatment of missing reports breaks a guarantee. Letters: n episodes, I constraints.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.reorder import PATIENCE

__all__ = ["ADVERSARIES", "LATEST", "OVERDUE", "Adversary", "Delivery"]

BoolArray = NDArray[np.bool_]

ADVERSARIES = ("late", "hide costs", "hide in silence", "hide bargains")
OVERDUE = "overdue"
OVERDUE_BATCH = 1000
OVERDUE_EPISODES = 4 * PATIENCE
"""Long enough that the agent gives up what is late, and plans with what it then knows."""
LATEST = 50
LARGEST_DELAYED = 20
"""Batches stay smaller than delays, so that reports do cross batches."""
SHARE = 0.1
SILENCE_AFTER = 1.0 / 3.0


@dataclass(frozen=True, eq=False)
class Delivery:
    """What happens to the reports of n episodes.

    Attributes:
        delay: (n,) how many further episodes are asked before the report, or the declaration of loss, arrives.
        lost: (n,) booleans, never told.
        declared: (n,) booleans, of these the ones that the agent hears about.
    """

    delay: IntArray
    lost: BoolArray
    declared: BoolArray


@dataclass(frozen=True, eq=False)
class Adversary:
    """An adversary.

    Attributes:
        mode: one of :data:`ADVERSARIES`, or :data:`OVERDUE`.
        limits: (I,) cost limits.
        episodes: of the whole run.
        rng: the adversary's own randomness.
    """

    mode: str
    limits: FloatArray
    episodes: int
    rng: np.random.Generator = field(repr=False)

    @property
    def largest_batch(self) -> int:
        """How many episodes may be asked at once."""
        return OVERDUE_BATCH if self.mode == OVERDUE else LARGEST_DELAYED

    def delivery(self, first: int, returns: FloatArray, costs: FloatArray) -> Delivery:
        """What happens to episodes ``first, first + 1, ..`` with these returns (n,) and costs (n, I)."""
        n = returns.size
        if self.mode == OVERDUE:
            above = np.asarray((costs > self.limits).any(axis=1))
            kept = np.zeros(n, dtype=bool)
            return Delivery(np.where(above, 2 * PATIENCE, 0), kept, kept)
        good: BoolArray = returns >= np.median(returns)
        delay = np.where(good, self.rng.choice((LATEST // 2, LATEST), n), 0)
        hidden = self._hidden(first, good, costs) & (self.rng.random(n) < SHARE)
        declared = hidden if self.mode != "hide in silence" else np.zeros(n, dtype=bool)
        return Delivery(np.where(hidden, LATEST, delay), hidden, declared)

    def _hidden(self, first: int, good: BoolArray, costs: FloatArray) -> BoolArray:
        if self.mode == "hide bargains":
            return good & np.asarray((costs <= 0.0).all(axis=1))
        above = np.asarray((costs > self.limits).any(axis=1))
        silent = self.mode == "hide in silence" and first >= SILENCE_AFTER * self.episodes
        return above if self.mode == "hide costs" or silent else np.zeros_like(above)
