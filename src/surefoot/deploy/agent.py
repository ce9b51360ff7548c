"""What every agent can do, and all it is told.

    episode = agent.ask()                              one episode: .id .policy .policy_index .weights
    agent.tell(episode.id, reward=3.2, costs=[0.4])    what the plant measured

``ask(n)`` opens n episodes at once from the same mixture; ``tell`` takes arrays as well. Rewards and costs are *discounted sums over
the episode*. Whatever else the plant can give (initial state, transitions, further signals) makes some agents faster.
"""

from __future__ import annotations

from typing import Any, Protocol, overload

from surefoot.arrays import FloatArray
from surefoot.deploy.tracker import Batch, Episode
from surefoot.policy import Policy
from surefoot.stateful import HasState

__all__ = ["Agent", "DeployableAgent"]


class Agent(Protocol):
    """The protocol behind which all algorithms are compared.

    Attributes:
        policies: what the indices in episodes and batches refer to; index 0 is the safe policy.
        wants: which optional arguments of :meth:`tell` this agent makes use of. An agent that names ``"visits"`` takes one more, sums over
            the visits of every state and action; policy-gradient baselines learn from them, and no other agent is told.
    """

    @property
    def policies(self) -> tuple[Policy, ...]: ...

    @property
    def wants(self) -> frozenset[str]: ...

    @overload
    def ask(self, n: None = None) -> Episode: ...

    @overload
    def ask(self, n: int) -> Batch: ...

    def ask(self, n: int | None = None) -> Episode | Batch:
        """Open one episode, or n episodes of one mixture."""
        ...

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
        """Report episodes.

        Args:
            ids: an id, or (n,) ids.
            reward: discounted return, or (n,) of them.
            costs: (I,) discounted costs, or (n, I).
            initial_state: the first state, or (n,) of them.
            transitions: (m, 4) rows ``(s, a, s', count)`` over all reported episodes together.
            signals: (X,) further declared signals, or (n, X).

        Raises:
            InvalidReport: unknown or repeated id, NaN, wrong shape, out of range; nothing is recorded and the episodes stay pending.
        """
        ...


class DeployableAgent(Agent, HasState, Protocol):
    """An agent that can live in a :class:`~surefoot.journal.deployment.Deployment`: it can be put aside, and says what it will draw from.

    Its state is plain values (:mod:`surefoot.stateful`). An agent that has ``lost(ids)`` is told which of its episodes will never be reported,
    those among them that were played with another policy because somebody stopped or limited the deployment.

    Attributes:
        weights: (J,) the mixture that the next episode is drawn from.
    """

    @property
    def weights(self) -> FloatArray: ...
