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
from surefoot.cmdp.simulate import Episodes, Simulator
from surefoot.deploy.agent import Agent
from surefoot.deploy.trace import FIRST_BATCH, GROWTH, LARGEST_BATCH, VIOLATION_TOLERANCE, Trace
from surefoot.policy import Policy, TabularPolicy

__all__ = ["FIRST_BATCH", "GROWTH", "LARGEST_BATCH", "VIOLATION_TOLERANCE", "Trace", "play"]


def play(agent: Agent, task: TabularCMDP, episodes: int, seed: int, *, largest_batch: int = LARGEST_BATCH) -> Trace:
    """Run one agent on one task for K episodes.

    Batches start at 10 episodes and grow by a tenth up to ``largest_batch``. The simulator's streams depend on ``seed`` and the episode number
    only, so agents with the same seed meet the same chance. An agent may replace its policies between batches: a batch is played and
    scored with the policies that the agent has when it answers ``ask``. An agent that wants ``"visits"`` gets one more keyword of ``tell``:
    ``visits``, the batch's :class:`~surefoot.cmdp.simulate.Visits`.
    """
    stage = _Stage(task, agent.wants)
    began, inside = time.perf_counter(), 0.0
    ends, deployed, weight, played, size = [], [], [], 0, float(FIRST_BATCH)
    while played < episodes:
        n = min(int(size), episodes - played)
        mark = time.perf_counter()
        batch = agent.ask(n)
        inside += time.perf_counter() - mark
        stage.set(agent.policies)
        outcome, more = stage.run(batch.policy_index, seed, played)
        mark = time.perf_counter()
        agent.tell(batch.ids, outcome.returns, outcome.costs, initial_state=outcome.initial_states, **more)
        inside += time.perf_counter() - mark
        played += n
        ends.append(played)
        deployed.append(batch.weights @ stage.values)
        weight.append(1.0 - batch.weights[0])
        size = min(size * GROWTH, float(largest_batch))
    scores = np.asarray(deployed)
    return Trace(
        ends=np.asarray(ends, dtype=np.int64),
        reward=scores[:, 0],
        costs=scores[:, 1:],
        weight=np.asarray(weight),
        seconds=time.perf_counter() - began,
        agent_seconds=inside,
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
        counts = _transitions(self._task, outcome.transitions) if self._counting else None
        more: dict[str, Any] = {"transitions": counts}
        if self._crediting:
            more["visits"] = outcome.visits
        return outcome, more


def _table(policy: object) -> FloatArray:
    if not isinstance(policy, TabularPolicy):
        raise TypeError(f"tabular tasks run tabular policies, got {type(policy).__name__}")
    return policy.table


def _transitions(task: TabularCMDP, counts: IntArray | None) -> IntArray:
    """(m, 4) rows ``(s, a, s', count)`` of what was seen."""
    if counts is None:
        return np.zeros((0, 4), dtype=np.int64)
    seen = np.flatnonzero(counts[0])
    states, actions = np.divmod(task.rows[seen], task.n_actions)
    return np.stack([states, actions, task.successors[seen], counts[0, seen]], axis=1)
