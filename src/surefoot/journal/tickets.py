"""Tickets: what ``ask`` hands out. Letters: n episodes, J policies."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.policy import Policy, for_episode

__all__ = ["Ticket", "Tickets"]


@dataclass(frozen=True, eq=False)
class Ticket:
    """One episode to run.

    Attributes:
        id: to be given back with the report.
        policy_index, policy: run this one for the whole episode, whatever one thinks of the draw. ``policy`` is the ticket's own, made when first
            asked for, and remembers no other episode (:func:`surefoot.policy.for_episode`).
        weights: (J,) the certified mixture it was drawn from.
        reason: why this policy has its weight.
    """

    id: int
    policy_index: int
    weights: FloatArray = field(repr=False)
    reason: str
    _policies: tuple[Policy, ...] = field(repr=False)

    @cached_property
    def policy(self) -> Policy:
        """The policy to run, an instance of this ticket's own."""
        return for_episode(self._policies[self.policy_index])  # type: ignore[no-any-return]


class Tickets(tuple[Ticket, ...]):
    """n episodes opened at once from one mixture: n tickets, and the same as arrays, as in :class:`~surefoot.deploy.tracker.Batch`."""

    __slots__ = ()

    @property
    def ids(self) -> IntArray:
        """(n,)."""
        return np.array([ticket.id for ticket in self], dtype=np.int64)

    @property
    def policy_index(self) -> IntArray:
        """(n,) which policy each of them runs."""
        return np.array([ticket.policy_index for ticket in self], dtype=np.int64)

    @property
    def weights(self) -> FloatArray:
        """(J,) the certified mixture they were drawn from."""
        return self[0].weights
