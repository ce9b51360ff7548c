"""Agents on a simulated real task, and what their mixtures are worth there.

The agent sees episodes; the score uses values of the library's policies that were judged beforehand from many fresh episodes, because
continuous tasks have no exact ones. A deployed mixture ``w`` is then worth ``sum_j w_j V(pi_j)``.

Episodes are simulated once and replayed: a :class:`EpisodeCache` holds fresh episodes of every policy, made in blocks when first wanted. Each run
reads every policy's episodes block by block, in an order of its own and never twice. A run therefore sees independent episodes;
runs that share a bank and begin at the same block are not independent of each other.

Letters: T tasks, p parameters, J policies, I constraints, X signals, n episodes, B batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, as_floats, check_integer
from surefoot.deploy.trace import LARGEST_BATCH, Player, Trace, record
from surefoot.errors import InvalidInput
from surefoot.gym.family import GymFamily
from surefoot.gym.rollout import Seed, rollout
from surefoot.gym.values import Estimates, Widths, estimate

__all__ = ["EpisodeCache", "Trace", "evaluate_policy", "play_gym"]

BLOCK = 500
UNREACHABLE = 1e-9
"""A width, as a share of the range, that no number of episodes reaches: judging spends its whole budget."""


class EpisodeCache:
    """Fresh episodes of a library in one task, or in T tasks that differ in the reward only.

    Args:
        family: where the tasks come from.
        parameters: (p,), or (T, p) where tasks share their episodes.
        policies: J of them.
        seed: of the episodes; the same seed gives the same bank, however many episodes are wanted and in which order.
        block: episodes simulated at a time.
        workers: processes that simulate.
        task: number of the task, so that banks of several tasks with one seed do not share their chance.
    """

    def __init__(
        self,
        family: GymFamily,
        parameters: Any,
        policies: Sequence[Any],
        *,
        seed: Seed,
        block: int = BLOCK,
        workers: int = 1,
        task: int = 0,
    ) -> None:
        block = check_integer("block", block, low=1)
        self.family, self.policies, self.seed, self.block = family, tuple(policies), seed, block
        self.workers, self.task = workers, task
        points = np.atleast_2d(np.asarray(parameters, dtype=np.float64))
        if points.ndim != 2 or points.shape[1] != family.n_parameters or (len(points) > 1 and not family.shared):
            raise InvalidInput(
                f"parameters must name one task of {family.name}, or several that differ in the reward only, got shape {np.shape(parameters)}; "
                "make a bank for every task",
                code="SF-ARGUMENT-SHAPE",
            )
        self.parameters = points
        self._blocks: dict[tuple[int, int], tuple[FloatArray, FloatArray]] = {}

    @property
    def simulated(self) -> int:
        """Episodes so far."""
        return self.block * len(self._blocks)

    def fill(self, episodes: int, *, progress: bool = False) -> EpisodeCache:
        """Simulate at least so many episodes of every policy now."""
        count = -(-check_integer("episodes", episodes, low=1) // self.block)
        missing = [b for b in range(count) if any((j, b) not in self._blocks for j in range(len(self.policies)))]
        for b in missing:
            self._simulate(list(range(len(self.policies))), b, progress)
        return self

    def take(self, policy: int, block: int, rows: IntArray, task: int) -> FloatArray:
        """(n, 1+I+X) outcomes of some episodes of a policy's block."""
        if (policy, block) not in self._blocks:
            self._simulate([policy], block, False)
        returns, rest = self._blocks[policy, block]
        return np.column_stack([returns[rows, task], rest[rows]])

    def _simulate(self, policies: list[int], block: int, progress: bool) -> None:
        found = rollout(
            self.family,
            self.parameters[0],
            [self.policies[j] for j in policies],
            episodes=self.block,
            seed=self.seed,
            workers=self.workers,
            first_episode=block * self.block,
            task=self.task,
            rewards_at=self.parameters if self.family.shared else None,
            indices=policies,
            progress=progress,
        )
        for j, part in zip(policies, found):
            returns = part.returns.reshape(len(part), -1)
            self._blocks[j, block] = returns, np.column_stack([part.costs, part.signals])


class _Reader:
    """One run's way through a bank."""

    def __init__(self, cache: EpisodeCache, seed: int, task: int, first_block: int) -> None:
        self.cache, self.seed, self.task = cache, seed, task
        self.used = np.full(len(cache.policies), first_block * cache.block, dtype=np.int64)
        self.orders: dict[tuple[int, int], IntArray] = {}

    def next(self, policy_index: IntArray) -> FloatArray:
        """(n, 1+I+X) outcomes of fresh episodes of the given policies."""
        width = 1 + self.cache.family.n_constraints + len(self.cache.family.signals)
        out = np.empty((policy_index.size, width))
        for j in np.unique(policy_index).tolist():
            where = np.flatnonzero(policy_index == j)
            numbers = self.used[j] + np.arange(where.size)
            self.used[j] += where.size
            blocks, places = np.divmod(numbers, self.cache.block)
            for b in np.unique(blocks).tolist():
                mine = blocks == b
                out[where[mine]] = self.cache.take(j, b, self._order(j, b)[places[mine]], self.task)
        return out

    def _order(self, policy: int, block: int) -> IntArray:
        if (policy, block) not in self.orders:
            rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(policy, block)))
            self.orders[policy, block] = rng.permutation(self.cache.block)
        return self.orders[policy, block]


def play_gym(
    agent: Player,
    cache: EpisodeCache,
    *,
    episodes: int,
    seed: int,
    values: Any,
    task: int = 0,
    first_block: int = 0,
    largest_batch: int = LARGEST_BATCH,
) -> Trace:
    """Run one agent on one task.

    Batches are those of :func:`surefoot.deploy.trace.record`. The episodes that a run sees depend on the bank, ``seed`` and the
    policies drawn, so agents with the same seed meet the same chance.

    Args:
        agent: asks and is told returns, costs and signals.
        bank: of the real task, for the agent's library.
        episodes: to be played.
        seed: of the order in which episodes are met.
        values: (J, 1+I) what each policy is worth there, from :func:`judge`.
        task: which of the bank's tasks.
        first_block: where in the bank the run begins.
        largest_batch: episodes that share one mixture, at most.
    """
    episodes = check_integer("episodes", episodes, low=1)
    task = check_integer("task", task, low=0, high=len(cache.parameters) - 1)
    first_block = check_integer("first_block", first_block, low=0)
    n_constraints = cache.family.n_constraints
    worth = as_floats("values", values, (len(cache.policies), 1 + n_constraints))
    if len(agent.policies) != len(cache.policies):
        raise InvalidInput(
            f"bank must hold the agent's {len(agent.policies)} policies, got {len(cache.policies)}; make it for agent.policies",
            code="SF-ARGUMENT-MISMATCH",
        )
    reader = _Reader(cache, seed, task, first_block)

    def meet(policy_index: IntArray, _: int) -> tuple[FloatArray, dict[str, Any]]:
        outcomes = reader.next(policy_index)
        costs, signals = outcomes[:, 1 : 1 + n_constraints], outcomes[:, 1 + n_constraints :]
        return worth, {"reward": outcomes[:, 0], "costs": costs, "signals": signals if signals.shape[1] else None}

    return record(agent, episodes, meet, largest_batch=largest_batch)


def evaluate_policy(
    family: GymFamily,
    parameters: Any,
    policies: Sequence[Any],
    *,
    episodes: int = 10_000,
    seed: Seed,
    alpha: float = 0.001,
    workers: int = 1,
    progress: bool = False,
) -> Estimates:
    """What policies are worth in tasks (T, p): means of ``episodes`` fresh episodes each, with intervals at error ``alpha`` per task.

    ``evaluate_policy(...).mean[k, :, : 1 + I]`` are the ``values`` of task k in :func:`play_gym`.
    """
    low, high = family.ranges()
    never, n = UNREACHABLE * (high - low), 1 + family.n_constraints
    widths = Widths(float(never[0]), never[1:n], never[n:])
    return estimate(
        family,
        np.atleast_2d(np.asarray(parameters, dtype=np.float64)),
        policies,
        alpha=alpha,
        seed=seed,
        widths=widths,
        max_episodes=episodes,
        workers=workers,
        label="judging",
        progress=progress,
    )
