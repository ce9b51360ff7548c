"""What one agent did on one task, batch by batch: what its mixtures were worth there, and when they exceeded a limit.

With values of the policies, exact or judged, a mixture w is worth ``sum_j w_j V(pi_j)``. Regret adds ``V* - V_r(w)`` for every episode; an episode
is *violating* when the mixture it was drawn from has a cost above a limit.

Letters: T batches, I constraints, K episodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from surefoot.arrays import FloatArray, IntArray

__all__ = ["FIRST_BATCH", "GROWTH", "LARGEST_BATCH", "VIOLATION_TOLERANCE", "Player", "Trace", "record"]

VIOLATION_TOLERANCE = 1e-6
"""Excess relative to a limit that counts as none."""
"""Excess over a limit up to which rounding of an exact optimum is not called a violation."""
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


def record(
    agent: Player,
    episodes: int,
    meet: Callable[[IntArray, int], tuple[FloatArray, dict[str, Any]]],
    *,
    largest_batch: int = LARGEST_BATCH,
) -> Trace:
    """Let an agent play K episodes. Batches start at 10 and grow by a tenth up to ``largest_batch``.

    Args:
        agent: asks and is told.
        episodes: K.
        meet: ``meet(policy_index, played)`` -> values (J, 1+I) of the agent's policies, and the arguments of ``tell`` after the ids for these
            episodes (n,), when so many were played before.
        largest_batch: episodes that share one mixture, at most.
    """
    began, inside = time.perf_counter(), 0.0
    ends, deployed, weight, played, size = [], [], [], 0, float(FIRST_BATCH)
    while played < episodes:
        mark = time.perf_counter()
        batch = agent.ask(min(int(size), episodes - played))
        inside += time.perf_counter() - mark
        index = np.asarray(batch.policy_index)
        values, outcome = meet(index, played)
        mark = time.perf_counter()
        agent.tell(batch.ids, **outcome)
        inside += time.perf_counter() - mark
        played += index.size
        ends.append(played)
        deployed.append(batch.weights @ values)
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
