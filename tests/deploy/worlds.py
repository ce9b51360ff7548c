"""Small worlds for the certified agent: hand-made policy sets, a tiny family with two constraints, laws with given means.

Letters: N cells, J policies, F = 1 + I signals, B initial states, E entries of the kernel support, n episodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from surefoot import Criterion, PolicySet, Simulator, TabularCMDP, TabularPolicy
from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.evidence.predictions import PredictionTable
from surefoot.deploy.report import Report
from surefoot.policyset.schema import (
    AssumptionReport,
    Cells,
    ConditionalPredictions,
    EpisodeBounds,
    KernelBoxes,
    OutsideTasks,
    Predictions,
    SignalPredictions,
)
from tests.strategies import random_policy_set

__all__ = [
    "Valves",
    "box_cells",
    "corners",
    "hand_made",
    "play_batches",
    "random_member",
    "told",
    "transition_rows",
    "two_point",
    "vertex_towards",
]


@dataclass(frozen=True)
class Valves:
    """Two valves, two constraints, one parameter: how often an opened valve leaks.

    From state 0 one idles (earns .3), opens the left valve (1) or the right one (.9). An open left valve leaks with probability q and leads
    to state 1, which costs 1 in the first constraint; the right one with 1.2 q to state 2, which costs 1 in the second. State 3 is the end.
    """

    low: float = 0.3
    high: float = 0.6
    name: str = "valves"
    parameter_names: tuple[str, ...] = ("leak",)

    @property
    def support(self) -> FloatArray:
        return np.array([[self.low, self.high]])

    @cached_property
    def criterion(self) -> Criterion:
        return Criterion(0.9, np.array([0.2, 0.25]), (0.0, 1.0), np.ones(2), cost_names=("left", "right"))

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        return rng.uniform(self.low, self.high, size=(n, 1))

    def cmdp(self, parameters: Any) -> TabularCMDP:
        leak = float(np.asarray(parameters).reshape(-1)[0])
        kernel = np.zeros((4, 3, 4))
        kernel[:, :, 3] = 1.0
        kernel[0, 1, 1], kernel[0, 1, 3] = leak, 1.0 - leak
        kernel[0, 2, 2], kernel[0, 2, 3] = 1.2 * leak, 1.0 - 1.2 * leak
        rewards, costs = np.zeros((4, 3)), np.zeros((2, 4, 3))
        rewards[0] = 0.3, 1.0, 0.9
        costs[0, 1] = costs[1, 2] = 1.0
        return TabularCMDP(kernel, rewards, costs, self.criterion.cost_limits, np.eye(4)[0], 0.9)

    def safe_policy(self) -> FloatArray:
        table = np.tile([1.0, 0.0, 0.0], (4, 1))
        table[0] = 0.5, 0.25, 0.25
        return table


def hand_made(
    reward: Any,
    cost: Any,
    *,
    width: Any = 0.0,
    limits: Any = (1.5,),
    ceilings: Any = (10.0,),
    margin: float = 0.5,
    optimum: Any = None,
    own: Any = None,
    by_state: tuple[Any, Any] | None = None,
    kernel: KernelBoxes | None = None,
    signals: SignalPredictions | None = None,
    outside: OutsideTasks | None = None,
) -> PolicySet:
    """A policy set with these predictions; discount .9, returns in [0, 10].

    Args:
        reward, cost: (N, J) and (N, J, I) centres of the predictions.
        width: half-width of all intervals; scalar, or (N, J, 1+I).
        limits, ceilings: (I,).
        margin: of the safe policy.
        optimum: (N,) optimal values; the largest reward of the cell by default.
        own: (N,) policies of the cells; ``min(1 + i, J - 1)`` by default.
        by_state: centres (N, J, B) and (N, J, I, B) given the initial states 0..B-1.
        kernel, signals, outside: further parts.
    """
    reward, cost = np.asarray(reward, dtype=float), np.asarray(cost, dtype=float)
    n, j, i = cost.shape
    wide = (
        np.broadcast_to(np.asarray(width, dtype=float), (n, j, 1 + i))
        if np.ndim(width)
        else np.full((n, j, 1 + i), width)
    )
    predictions = Predictions(
        reward - wide[..., 0], reward + wide[..., 0], cost - wide[..., 1:], cost + wide[..., 1:], reward, cost
    )
    conditional = None
    if by_state is not None:
        states = np.arange(np.shape(by_state[0])[2])
        r, c = (np.asarray(part, dtype=float) for part in by_state)
        conditional = ConditionalPredictions(
            states, r - wide[..., :1], r + wide[..., :1], c - wide[..., 1:, None], c + wide[..., 1:, None]
        )
    best = reward.max(axis=1) if optimum is None else np.asarray(optimum, dtype=float)
    owners = np.minimum(1 + np.arange(n), j - 1) if own is None else np.asarray(own)
    cells = Cells(owners, best, best, np.zeros((n, 1)), predictions, conditional, signals, kernel, outside)
    return replace(
        random_policy_set(np.random.default_rng(0), cells=n, policies=j, constraints=i),
        criterion=Criterion(0.9, np.asarray(limits, dtype=float), (0.0, 1.0), np.full(i, 10.0)),
        policies=tuple(TabularPolicy(np.full((8, 8), 0.125)) for _ in range(j)),
        cells=cells,
        bounds=EpisodeBounds(0.0, 10.0, tuple(float(c) for c in ceilings)),
        assumption=AssumptionReport(True, margin, statement="By construction."),
    )


def box_cells(
    rng: np.random.Generator, *, cells: int = 3, outside: int = 2, holes: float = 0.3, width: float = 0.2
) -> Cells:
    """Cells with random kernel boxes around random centres, on a support of 2 x 2 pairs and up to 4 successors.

    Some centres miss successors; some of these are impossible in their cell (upper end zero), some only in its centre.
    """
    groups = [(s, a, int(rng.integers(2, 5))) for s in range(2) for a in range(2)]
    support = np.array([(s, a, t) for s, a, n in groups for t in range(n)])
    first = np.flatnonzero(np.r_[True, (np.diff(support[:, :2], axis=0) != 0).any(axis=1)])
    group = np.cumsum(np.isin(np.arange(len(support)), first)) - 1

    def kernel(count: int) -> FloatArray:
        weights = (0.05 + rng.random((count, len(support)))) * (rng.random((count, len(support))) > holes)
        weights[:, first] += 0.05
        return weights / np.add.reduceat(weights, first, axis=1)[:, group]

    middle = kernel(cells)
    possible = (middle > 0.0) | (rng.random(middle.shape) < 0.5)
    lower = np.maximum(middle - width * rng.random(middle.shape), 0.0)
    upper = np.where(possible, np.minimum(middle + width * rng.random(middle.shape) + 1e-3, 1.0), 0.0)
    base = random_policy_set(rng, cells=cells, policies=3, outside=outside).cells
    far = None if base.outside is None else replace(base.outside, kernel=kernel(outside))
    return replace(base, kernel=KernelBoxes(support, lower, upper, middle), outside=far)


def random_member(lower: FloatArray, upper: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A random probability vector with ``lower <= P <= upper``: a mixture of vertices."""
    vertices = np.array([vertex_towards(rng.random(lower.size), lower, upper) for _ in range(3)])
    weights: FloatArray = rng.dirichlet(np.ones(3)) @ vertices
    return weights


def vertex_towards(wish: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """The member of ``{lower <= P <= upper, sum P = 1}`` with the largest ``wish . P``."""
    result = lower.copy()
    for e in np.argsort(-wish, kind="stable"):
        result[e] += min(max(1.0 - result.sum(), 0.0), upper[e] - lower[e])
    return result


def corners(low: FloatArray, high: FloatArray) -> FloatArray:
    """(2^F, F) corners of a box."""
    ends = np.stack([low, high])
    picks = np.indices((2,) * low.size).reshape(low.size, -1).T
    result: FloatArray = ends[picks, np.arange(low.size)]
    return result


def two_point(means: FloatArray, low: FloatArray, high: FloatArray, rng: np.random.Generator) -> FloatArray:
    """(n, F) outcomes on the ends of ``[low, high]``, independent, with means (n, F)."""
    share = np.clip((means - low) / (high - low), 0.0, 1.0)
    result: FloatArray = np.where(rng.random(means.shape) < share, high, low)
    return result


def told(
    policy: Any,
    outcomes: Any,
    *,
    first: int = 0,
    states: Any = None,
    transitions: Any = None,
    signals: Any = None,
) -> Report:
    """A group of n episodes with consecutive ids."""
    outcomes = np.asarray(outcomes, dtype=float)
    n = len(outcomes)
    rows = None if transitions is None else np.asarray(transitions, dtype=np.int64).reshape(-1, 4)
    index = np.broadcast_to(np.asarray(policy, dtype=np.int64), (n,))
    starts = None if states is None else np.asarray(states)
    return Report(
        np.arange(first, first + n), outcomes[:, 0], outcomes[:, 1:], starts, rows, signals, np.asarray(index)
    )


def table_of(policy_set: PolicySet) -> PredictionTable:
    """Its prediction table with the simulator's ceilings."""
    return PredictionTable.of(policy_set, np.asarray(policy_set.bounds.cost_ceilings))


def transition_rows(task: TabularCMDP, counts: IntArray) -> IntArray:
    """(m, 4) rows ``(s, a, s', count)`` of one group of counts (E,)."""
    seen = np.flatnonzero(counts)
    states, actions = np.divmod(task.rows[seen], task.n_actions)
    return np.stack([states, actions, task.successors[seen], counts[seen]], axis=1)


def play_batches(
    agent: Any, task: TabularCMDP, episodes: int, seed: int, batch: int = 50, told_states: bool = True
) -> list[Any]:
    """Ask, simulate and tell in batches; returns the batches."""
    simulator = Simulator(task, list(agent.policies))
    batches = []
    for first in range(0, episodes, batch):
        asked = agent.ask(batch)
        seen = simulator.run(asked.policy_index, seed=seed, first_episode=first, groups=np.zeros(batch, dtype=np.int64))
        counts = None if seen.transitions is None else transition_rows(task, seen.transitions[0])
        agent.tell(
            asked.ids,
            seen.returns,
            seen.costs,
            initial_state=seen.initial_states if told_states else None,
            transitions=counts if "transitions" in agent.wants else None,
        )
        batches.append(asked)
    return batches
