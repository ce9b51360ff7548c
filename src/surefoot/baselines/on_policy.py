"""Agents that play one policy, learn from its episodes alone and then play another one.

The shell of all policy-gradient baselines: it deploys the learner's policy, adds up what its episodes say, and shows the sum to the
learner when it holds ``b, 2b, 4b, ...`` episodes, b being the learner's batch, until the learner answers with a new policy. Then
collection starts afresh. At most ``K (1 + log2 K)`` pairs of first episode and size can be looked at in K episodes, whatever happens, which
is what union bounds over a run must cover (:func:`looks`).

Index 0 is the safe policy; index 1 the learner's. Looks happen at ends of batches. A report that includes an episode of an earlier policy cannot
be separated any more: it is accepted and nothing is learned from it.

Letters: S states, A actions, I constraints, F = 1 + I signals (reward first), n episodes, K episodes of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import Any, Protocol, overload

import numpy as np

from surefoot.arrays import FloatArray, check_integer
from surefoot.baselines.gradient import Units, estimated_advantages, estimated_gradient
from surefoot.cmdp.simulate import Visits
from surefoot.deploy.tracker import Batch, Episode, EpisodeTracker
from surefoot.deploy.turns import undivided
from surefoot.errors import InvalidInput, InvalidReport
from surefoot.policy import Mixture, Policy, TabularPolicy
from surefoot.policyset.schema import PolicySet

__all__ = ["Learner", "OnPolicyAgent", "Sample", "looks", "safe_table"]


def looks(episodes: int) -> float:
    """Number of pairs (first episode, size) that can be looked at in a run of this many episodes, at most."""
    return episodes * (1.0 + log2(episodes))


def safe_table(policy_set: PolicySet) -> FloatArray:
    """(S, A) the safe policy's probabilities.

    Raises:
        InvalidInput: it is no table.
    """
    policy = policy_set.safe_policy
    if not isinstance(policy, TabularPolicy):
        raise InvalidInput(
            f"safe policy must be a TabularPolicy, got {type(policy).__name__}; tabular methods only",
            code="SF-POLICY-KIND",
        )
    return policy.table


@dataclass(frozen=True, eq=False)
class Sample:
    """n episodes of one policy, in the learner's units.

    Attributes:
        n: how many.
        means: (F,) mean return and costs.
        visits: sums over their visits.
    """

    n: int
    means: FloatArray
    visits: Visits

    def gradient(self, table: FloatArray) -> FloatArray:
        """(F, S, A) see :func:`~surefoot.baselines.gradient.estimated_gradient`."""
        return estimated_gradient(self.visits, table)

    def advantages(self) -> FloatArray:
        """(F, S, A) see :func:`~surefoot.baselines.gradient.estimated_advantages`."""
        return estimated_advantages(self.visits)

    def __add__(self, other: Sample) -> Sample:
        """Both pooled."""
        n = self.n + other.n
        return Sample(n, (self.n * self.means + other.n * other.means) / n, self.visits + other.visits)


class Learner(Protocol):
    """An algorithm without memory: what it does depends on its policy, the sample and how often it has moved.

    Attributes:
        units: in which it wants its samples.
        start: (S, A) its first policy, or ``None`` to play the safe policy for ever.
        notes: what a reader of the results must know.
    """

    @property
    def units(self) -> Units: ...

    @property
    def start(self) -> FloatArray | None: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    def batch(self, moves: int) -> int:
        """Episodes before the first look after this many moves."""
        ...

    def update(self, table: FloatArray, sample: Sample, moves: int) -> FloatArray | None:
        """The next policy (S, A), or ``None``: more episodes of this one first."""
        ...


class OnPolicyAgent:
    """Deploys a learner's policies one after the other.

    Args:
        policy_set: for the safe policy and the criterion.
        learner: the algorithm.
        seed: of the (degenerate) draws.

    Attributes:
        moves: how often the policy has been replaced.
    """

    def __init__(self, policy_set: PolicySet, learner: Learner, *, seed: int = 0) -> None:
        seed = check_integer("seed", seed, low=0)
        self._learner, self._units = learner, learner.units
        criterion = policy_set.criterion
        safe, self._learns = policy_set.safe_policy, learner.start is not None
        policies: tuple[Policy, ...] = (safe,) if learner.start is None else (safe, TabularPolicy(learner.start))
        rng = np.random.default_rng(seed)
        self._tracker = EpisodeTracker(policies, criterion, criterion.return_range, criterion.cost_ceilings, rng)
        self.moves, self._from = 0, 0
        self._sample: Sample | None = None
        self._look = learner.batch(0)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The safe policy and the learner's."""
        return self._tracker.policies

    @property
    def wants(self) -> frozenset[str]:
        """Visits, as long as anything is learned."""
        return frozenset({"visits"}) if self._learns else frozenset()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results must know."""
        if self._learns and self.moves == 0:
            return (*self._learner.notes, "its policy was never replaced")
        return self._learner.notes

    @property
    def table(self) -> FloatArray:
        """(S, A) the policy played now."""
        policy = self._tracker.policies[-1]
        return policy.table  # type: ignore[attr-defined,no-any-return]

    @overload
    def ask(self, n: None = None) -> Episode: ...

    @overload
    def ask(self, n: int) -> Batch: ...

    @undivided
    def ask(self, n: int | None = None) -> Episode | Batch:
        """See :class:`~surefoot.deploy.agent.Agent`."""
        last = len(self._tracker.policies) - 1
        batch = self._tracker.open(Mixture.pure(last, last + 1), 1 if n is None else n)
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
        visits: Any = None,
    ) -> None:
        """See :class:`~surefoot.deploy.agent.Agent`; ``visits`` are the :class:`~surefoot.cmdp.simulate.Visits` of these episodes.

        Raises:
            InvalidReport: also where visits are missing or belong to other episodes.
        """
        report = self._tracker.check(ids, reward, costs)
        if not self._learns:
            self._tracker.close(report)
            return
        seen = self._check_visits(visits, report.ids.size)
        self._tracker.close(report)
        if (report.ids >= self._from).all():
            outcomes = np.concatenate([[report.reward.mean()], report.costs.mean(axis=0)])
            self._learn(Sample(report.ids.size, self._units.values(outcomes), self._units.visits(seen)))

    def _check_visits(self, visits: Any, n: int) -> Visits:
        shape = (1 + self._tracker.criterion.n_constraints, *self.table.shape)
        if not isinstance(visits, Visits) or visits.episodes != n or visits.to_go.shape != shape:
            got = "another thing" if not isinstance(visits, Visits) else f"{visits.episodes} of {visits.to_go.shape}"
            raise InvalidReport(
                f"visits must be those of the {n} reported episodes with shape {shape}, got {got}; run with visits=True",
                code="SF-REPORT-SHAPE",
            )
        if not np.isfinite(visits.to_go).all() or not np.isfinite(visits.discounted).all():
            raise InvalidReport(
                "visits must be finite, got NaN or infinity; report what the simulator returned",
                code="SF-REPORT-FINITE",
            )
        return visits

    def _learn(self, sample: Sample) -> None:
        """Add to what is known of this policy; where it is time for a look, let the learner decide."""
        self._sample = sample if self._sample is None else self._sample + sample
        if self._sample.n < self._look:
            return
        table = self._learner.update(self.table, self._sample, self.moves)
        if table is None:
            self._look *= 2
            return
        self.moves += 1
        self._tracker.policies = (self._tracker.policies[0], TabularPolicy(table))
        self._from, self._sample, self._look = self._tracker.opened, None, self._learner.batch(self.moves)
