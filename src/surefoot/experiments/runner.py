"""Playing agents on tasks and scoring every deployed mixture exactly.

The agent sees episodes; the score sees the model. A deployed mixture ``w`` has return ``sum_j w_j V_r(pi_j)`` and costs
``sum_j w_j V_c(pi_j)`` in the real task, computed by linear solves, not estimated. Regret adds ``V* - V_r(w)`` for every episode; an
episode is *violating* when the mixture it was drawn from has an expected cost above a limit. Runs that violate stay in every mean.

Letters: K episodes, T batches, J policies, I constraints.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.cmdp.model import TabularCMDP
from surefoot.cmdp.simulate import Episodes, Simulator, transition_rows
from surefoot.deploy.agent import Agent
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.deploy.trace import LARGEST_BATCH, VIOLATION_TOLERANCE, Trace, record
from surefoot.policy import Policy, TabularPolicy
from surefoot.policyset.schema import PolicySet
from surefoot.rehearsal.lockstep import play_rung, tabular_source

__all__ = ["LARGEST_BATCH", "VIOLATION_TOLERANCE", "Trace", "follow", "play"]


def play(agent: Agent, task: TabularCMDP, episodes: int, seed: int, *, largest_batch: int = LARGEST_BATCH) -> Trace:
    """Run one agent on one task for K episodes.

    Batches are those of :func:`surefoot.deploy.trace.record`. The simulator's streams depend on ``seed`` and the episode number
    only, so agents with the same seed meet the same chance. An agent may replace its policies between batches: a batch is played and
    scored with the policies that the agent has when it answers ``ask``. An agent that wants ``"visits"`` gets one more keyword of ``tell``:
    ``visits``, the batch's :class:`~surefoot.cmdp.simulate.Visits`.
    """
    stage = _Stage(task, agent.wants)

    def meet(policy_index: IntArray, played: int) -> tuple[FloatArray, dict[str, Any]]:
        stage.set(agent.policies)
        outcome, more = stage.run(policy_index, seed, played)
        told = {"reward": outcome.returns, "costs": outcome.costs, "initial_state": outcome.initial_states}
        return stage.values, told | more

    return record(agent, episodes, meet, largest_batch=largest_batch)


def follow(policy_set: PolicySet, rung: Rung, task: TabularCMDP, chance: int, draws: int) -> Trace:
    """Run one rung of ``trust="rehearsed"`` on one task for its K episodes, block by block (:mod:`surefoot.rehearsal.lockstep`).

    The mixtures are those of the agent alone with seed ``draws``, played with seed ``chance``.
    """
    began = time.perf_counter()
    tables = np.stack([_table(p) for p in policy_set.policies])
    source = tabular_source(policy_set, rung, task, tables, chance)
    found = play_rung(policy_set, rung, source, seed=draws, chance=chance)
    values = found.weights @ evaluate_many(task, tables)
    seconds = time.perf_counter() - began
    return Trace(
        ends=np.append(found.starts[1:], rung.episodes),
        reward=values[:, 0],
        costs=values[:, 1:],
        weight=1.0 - found.weights[:, 0],
        seconds=seconds,
        agent_seconds=seconds,
    )


class _Stage:
    """The real task, ready for the policies that an agent plays now; ``values`` (J, 1+I) are their exact ones."""

    def __init__(self, task: TabularCMDP, wants: frozenset[str]) -> None:
        self._task, self._counting, self._crediting = task, "transitions" in wants, "visits" in wants
        self._policies: tuple[Policy, ...] = ()

    def set(self, policies: tuple[Policy, ...]) -> None:
        """Nothing to do unless the tuple is another one than before."""
        if policies is not self._policies:
            tables = np.stack([_table(p) for p in policies])
            self.values = evaluate_many(self._task, tables)
            self._simulator, self._policies = Simulator(self._task, tables), policies

    def run(self, policy_index: IntArray, seed: int, first: int) -> tuple[Episodes, dict[str, Any]]:
        """Roll out one episode per entry; also what is told beyond outcomes: only agents that want visits know that keyword."""
        groups = np.zeros(policy_index.size, dtype=np.int64) if self._counting else None
        outcome = self._simulator.run(
            policy_index, seed=seed, first_episode=first, groups=groups, visits=self._crediting
        )
        counts = outcome.transitions
        more: dict[str, Any] = {"transitions": None if counts is None else transition_rows(self._task, counts[0])}
        if self._crediting:
            more["visits"] = outcome.visits
        return outcome, more


def _table(policy: object) -> FloatArray:
    if not isinstance(policy, TabularPolicy):
        raise TypeError(f"tabular tasks run tabular policies, got {type(policy).__name__}")
    return policy.table
