"""What one agent did on one task, batch by batch: what its mixtures were worth there, and when they exceeded a limit.

With values of the policies, exact or judged, a mixture w is worth ``sum_j w_j V(pi_j)``. Regret adds ``V* - V_r(w)`` for every episode; an episode
is *violating* when the mixture it was drawn from has a cost above a limit.

Letters: T batches, I constraints, K episodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from surefoot.arrays import FloatArray, IntArray

__all__ = [
    "FIRST_BATCH",
    "GROWTH",
    "LARGEST_BATCH",
    "VIOLATION_TOLERANCE",
    "Player",
    "Trace",
    "ask_in_batches",
    "batch_sizes",
    "record",
]

VIOLATION_TOLERANCE = 1e-6
"""Excess, relative to the limit, a limit up to which rounding of an exact optimum is not called a violation."""
FIRST_BATCH, GROWTH, LARGEST_BATCH = 10, 1.1, 100


class Player(Protocol):
    """The part of :class:`surefoot.deploy.agent.Agent` that a run needs."""

    @property
    def policies(self) -> tuple[Any, ...]: ...

    def ask(self, n: int) -> Any: ...

    def tell(self, ids: Any, reward: Any, costs: Any) -> None: ...


@dataclass(frozen=True, eq=False)
class Trace:
    """One run, by batches of episodes that share one mixture.

    Attributes:
        ends: (T,) number of episodes played after each batch.
        reward: (T,) exact return of the batch's mixture.
        costs: (T, I) its exact costs.
        weight: (T,) its weight on anything but the safe policy.
        seconds: wall time of the run.
        agent_seconds: the part of it spent in ``ask`` and ``tell``.
    """

    ends: IntArray
    reward: FloatArray
    costs: FloatArray
    weight: FloatArray
    seconds: float
    agent_seconds: float

    def regret(self, optimum: float, episodes: IntArray) -> FloatArray:
        """Cumulative regret after each of the given numbers of episodes; linear inside a batch, hence exact."""
        sizes = np.diff(self.ends, prepend=0)
        total = np.concatenate([[0.0], np.cumsum(sizes * (optimum - self.reward))])
        result: FloatArray = np.interp(episodes, np.concatenate([[0], self.ends]), total)
        return result

    def at(self, episodes: IntArray) -> IntArray:
        """Batch in which each of the given episodes (counted from 1) was played."""
        return np.searchsorted(self.ends, episodes, side="left")

    def violating(self, limits: FloatArray) -> int:
        """Number of episodes drawn from a mixture whose exact cost exceeds a limit."""
        bad = (self.costs > limits * (1.0 + VIOLATION_TOLERANCE)).any(axis=1)
        return int(np.diff(self.ends, prepend=0)[bad].sum())


def batch_sizes(episodes: int, *, largest_batch: int = LARGEST_BATCH) -> Iterator[int]:
    """Sizes of the batches that K episodes are asked in: 10, then a tenth more each time up to ``largest_batch``; the last one is what is left.

    >>> list(batch_sizes(60))
    [10, 11, 12, 13, 14]
    """
    asked, size = 0, float(FIRST_BATCH)
    while asked < episodes:
        n = min(int(size), episodes - asked)
        yield n
        asked, size = asked + n, min(size * GROWTH, float(largest_batch))


def ask_in_batches(agent: Player, episodes: int, *, largest_batch: int = LARGEST_BATCH) -> Iterator[tuple[Any, int]]:
    """Ask for K episodes, batch by batch; each batch comes with the number of episodes asked before it.

    The caller runs a batch and tells what it saw before it takes the next one. Who stops taking stops asking. A batch is divided for an agent that
    was rehearsed with smaller ones (:attr:`~surefoot.deploy.certified.CertifiedAgent.together`).

    Args:
        agent: is asked.
        episodes: K.
        largest_batch: episodes that share one mixture, at most.
    """
    asked = 0
    for n in batch_sizes(episodes, largest_batch=largest_batch):
        end = asked + n
        while asked < end:
            together = getattr(agent, "together", None)
            part = end - asked if together is None else min(end - asked, together)
            yield agent.ask(part), asked
            asked += part


def record(
    agent: Player,
    episodes: int,
    meet: Callable[[IntArray, int], tuple[FloatArray, dict[str, Any]]],
    *,
    largest_batch: int = LARGEST_BATCH,
) -> Trace:
    """Let an agent play K episodes, in the batches of :func:`ask_in_batches`.

    Args:
        agent: asks and is told.
        episodes: K.
        meet: ``meet(policy_index, played)`` -> values (J, 1+I) of the agent's policies, and the arguments of ``tell`` after the ids for these
            episodes (n,), when so many were played before.
        largest_batch: episodes that share one mixture, at most.
    """
    began = mark = time.perf_counter()
    inside, ends, deployed, weight = 0.0, [], [], []
    for batch, played in ask_in_batches(agent, episodes, largest_batch=largest_batch):
        inside += time.perf_counter() - mark
        index = np.asarray(batch.policy_index)
        values, outcome = meet(index, played)
        mark = time.perf_counter()
        agent.tell(batch.ids, **outcome)
        inside += time.perf_counter() - mark
        ends.append(played + index.size)
        deployed.append(batch.weights @ values)
        weight.append(1.0 - batch.weights[0])
        mark = time.perf_counter()
    scores = np.asarray(deployed)
    return Trace(
        ends=np.asarray(ends, dtype=np.int64),
        reward=scores[:, 0],
        costs=scores[:, 1:],
        weight=np.asarray(weight),
        seconds=time.perf_counter() - began,
        agent_seconds=inside,
    )
