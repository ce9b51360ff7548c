"""Are draws discarded selectively? An e-process on the policies of the episodes that went missing.

Null: whether an episode goes missing does not depend on which policy was drawn. Then, given that it is missing and given everything before
it, its policy is still a draw from the mixture w it was asked with, and for every policy j and fixed ``0 < c < 1``

    1 + c (1{drawn = j} / w_j - 1)                                                (factor 1 where w_j is 0 or 1)

has mean one. The product over missing episodes, in ask order, averaged over j and c, is an e-process; by Ville's inequality it reaches
``1/LEVEL`` with probability at most LEVEL. An episode is missing when it was declared lost, or when it is still pending :data:`HORIZON` episodes
later. (If one policy's episodes simply take that much longer, that is found too: the report then comes late for that reason.)

A flag is a warning for people; it changes no decision.

Letters: J policies, K fractions.
"""

from __future__ import annotations

import math

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.stateful import Stateful

__all__ = ["HORIZON", "SelectiveLossTest"]

LOSS_BETS = (0.1, 0.4, 0.9)
LEVEL = 0.001
HORIZON = 1000
"""An episode still pending when so many later ones have been asked counts as missing."""


class SelectiveLossTest(Stateful):
    """The e-process.

    Args:
        policies: J.

    Attributes:
        log_wealth: (J, K).
        missing: (J,) how many episodes of each policy went missing.
        flagged: whether the null was rejected.
    """

    CHANGES = ("log_wealth", "missing", "flagged", "opened", "next", "open", "lost")

    def __init__(self, policies: int) -> None:
        self.log_wealth = np.zeros((policies, len(LOSS_BETS)))
        self.missing = np.zeros(policies, dtype=np.int64)
        self.flagged = False
        self.opened = self.next = 0
        self.open: dict[int, tuple[int, FloatArray]] = {}
        self.lost: set[int] = set()

    def asked(self, draws: IntArray, weights: FloatArray) -> None:
        """Episodes were asked, with the next ids."""
        stop = self.opened + draws.size
        self.open.update(zip(range(self.opened, stop), ((j, weights) for j in draws.tolist())))
        self.opened = stop
        self._advance()

    def told(self, ids: list[int]) -> None:
        """Episodes arrived."""
        for k in ids:
            self.open.pop(k, None)
        self._advance()

    def declared_lost(self, ids: list[int]) -> None:
        """Episodes will never arrive."""
        self.lost.update(k for k in ids if k >= self.next)
        self._advance()

    def _advance(self) -> None:
        """Judge episodes in ask order, as far as their fate is known."""
        while self.next < self.opened:
            found = self.open.get(self.next)
            if found is not None:
                if self.next not in self.lost and self.opened - self.next <= HORIZON:
                    return
                del self.open[self.next]
                self.lost.discard(self.next)
                self._bet(*found)
            self.next += 1

    def _bet(self, drawn: int, weights: FloatArray) -> None:
        fractions = np.asarray(LOSS_BETS)
        mixed = np.flatnonzero((weights > 0.0) & (weights < 1.0))
        gain = (mixed == drawn) / weights[mixed] - 1.0
        self.log_wealth[mixed] += np.log1p(fractions * gain[:, None])
        self.missing[drawn] += 1

    @property
    def log_mean(self) -> float:
        """Log of the average wealth."""
        top = float(self.log_wealth.max())
        return top + math.log(float(np.exp(self.log_wealth - top).mean()))

    def review(self) -> int | None:
        """The policy that goes missing more often than chance allows, once, when the null is rejected."""
        if self.flagged or not self.missing.any() or self.log_mean < -math.log(LEVEL):
            return None
        self.flagged = True
        return int(self.log_wealth.max(axis=1).argmax())
