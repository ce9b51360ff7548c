"""Agents that do not learn: the trivial rows that belong beside every curve.

``always-safe`` plays ``pi_s``, ``robust-fixed`` one policy chosen before deployment, ``oracle`` the optimum of the real task, which
nobody can know; all three are one policy played for ever.
"""

from __future__ import annotations

from typing import Any, overload

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.criterion import Criterion
from surefoot.deploy.tracker import Batch, Episode, EpisodeTracker
from surefoot.deploy.turns import undivided
from surefoot.policy import Mixture, Policy
from surefoot.stateful import Stateful

__all__ = ["FixedAgent"]


class FixedAgent(Stateful):
    """Plays one policy and ignores what it is told.

    Args:
        policy: the policy.
        criterion: of the task.
        seed: of the (degenerate) draws.
    """

    CHANGES = ("_tracker",)
    wants: frozenset[str] = frozenset()

    def __init__(self, policy: Policy, criterion: Criterion, *, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._tracker = EpisodeTracker((policy,), criterion, criterion.return_range, criterion.cost_ceilings, rng)
        self._mixture = Mixture.pure(0, 1)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The one policy."""
        return self._tracker.policies

    @property
    def weights(self) -> FloatArray:
        """(1,) all on the policy."""
        return self._mixture.weights

    @overload
    def ask(self, n: None = None) -> Episode: ...

    @overload
    def ask(self, n: int) -> Batch: ...

    @undivided
    def ask(self, n: int | None = None) -> Episode | Batch:
        """See :class:`~surefoot.deploy.agent.Agent`."""
        batch = self._tracker.open(self._mixture, 1 if n is None else n)
        return batch[0] if n is None else batch

    @undivided
    def tell(
        self,
        ids: Any,
        reward: Any,
        costs: Any,
        *,
        initial_state: Any = None,
        transitions: Any = None,
        signals: Any = None,
    ) -> None:
        """See :class:`~surefoot.deploy.agent.Agent`."""
        self._tracker.close(self._tracker.check(ids, reward, costs))
