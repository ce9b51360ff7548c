"""A trained method behind ``ask`` and ``tell``, updating its policy from the episodes of a test task.

The agent deploys one policy network, exploration included. It collects whole episodes of it until it has ``every`` of them, makes one update and
goes on with the new policy. Reports carry what was seen step by step (``trajectories``), as on-policy methods need it. A report that includes an
episode of an earlier policy is accepted and nothing is learned from it.

There is no safe policy and no certificate: the first episode is already the meta-policy's.
"""

from __future__ import annotations

from typing import Any, overload

import numpy as np

from surefoot.arrays import check_integer
from surefoot.baselines.deep.batch import Trajectories, World, join
from surefoot.baselines.deep.learner import Learner, State
from surefoot.baselines.deep.networks import NetworkPolicy
from surefoot.deploy.tracker import Batch, Episode, EpisodeTracker
from surefoot.deploy.turns import undivided
from surefoot.errors import InvalidReport
from surefoot.policy import Mixture

__all__ = ["DeepAgent"]


class DeepAgent:
    """See the module.

    Args:
        learner: the method.
        state: where training left it.
        world: the family, for its limit, discount and horizon; the agent runs nothing in it.
        every: episodes between updates.
        seed: of the (degenerate) draws.

    Attributes:
        state: where the method stands.
        moves: number of updates.
    """

    wants = frozenset({"trajectories"})

    def __init__(self, learner: Learner, state: State, world: World, *, every: int = 10, seed: int = 0) -> None:
        self._every = check_integer("every", every, low=1)
        self._learner, self._world, self.state, self.moves = learner, world, state, 0
        criterion, bounds = world.family.criterion, world.family.episode_bounds
        self._tracker = EpisodeTracker(
            (self._policy(),), criterion, (bounds.return_lower, bounds.return_upper), np.asarray(bounds.cost_ceilings),
            np.random.default_rng(check_integer("seed", seed, low=0)),
        )  # fmt: skip
        self._from, self._seen = 0, list[Trajectories]()

    def _policy(self) -> NetworkPolicy:
        return NetworkPolicy(self._learner.policy, self.state.theta)

    @property
    def policies(self) -> tuple[Any, ...]:
        """The policy that is played now."""
        return self._tracker.policies

    @overload
    def ask(self, n: None = None) -> Episode: ...

    @overload
    def ask(self, n: int) -> Batch: ...

    @undivided
    def ask(self, n: int | None = None) -> Episode | Batch:
        """See :class:`~surefoot.deploy.agent.Agent`."""
        batch = self._tracker.open(Mixture.pure(0, 1), 1 if n is None else n)
        return batch[0] if n is None else batch

    @undivided
    def tell(self, ids: Any, reward: Any, costs: Any, *, trajectories: Any = None, **unused: Any) -> None:
        """See :class:`~surefoot.deploy.agent.Agent`; ``trajectories`` are the :class:`~surefoot.baselines.deep.batch.Trajectories` of these episodes.

        Raises:
            InvalidReport: also where trajectories are missing or belong to other episodes.
        """
        report = self._tracker.check(ids, reward, costs)
        if not isinstance(trajectories, Trajectories) or trajectories.episodes != report.ids.size:
            got = (
                f"{trajectories.episodes} episodes"
                if isinstance(trajectories, Trajectories)
                else type(trajectories).__name__
            )
            raise InvalidReport(
                f"trajectories must be those of the {report.ids.size} reported episodes, got {got}; report what World.run returned",
                code="SF-REPORT-SHAPE",
            )
        self._tracker.close(report)
        if (report.ids < self._from).any():
            return
        self._seen.append(trajectories)
        if sum(t.episodes for t in self._seen) >= self._every:
            batch = self._world.prepared(self._learner.policy, join(self._seen))
            self.state = self._learner.adapt(self.state, batch, self._world)
            self.moves += 1
            self._tracker.policies = (self._policy(),)
            self._from, self._seen = self._tracker.opened, []
