r"""Whether every mixture of a run on a simulated plant meets the limits, shown by fresh episodes that no agent met.

Let J' be the policies that some mixture of some rung plays, the safe one among them. Each of their costs has a time-uniform betting upper bound at
error ``beta / (J' I)`` (:class:`surefoot.stats.betting.MeanUpperBounds`), so with probability ``1 - beta`` all of them hold at every number of
episodes, whichever mixtures are looked at and whenever sampling stops. A mixture w is *shown* to meet a limit where ``sum_j w_j B_j <= d``, and a run
in which some mixture is not shown counts as violating. So a run that violates is counted with probability at least ``1 - beta``, given everything
else: with p the true share of violating runs, the share counted is at least ``p (1 - beta)``.

Sampling goes on for the policies of mixtures that are not decided, until all are shown, or the budget is spent, or a mixture is so far above that it
is given up: that only adds to what is counted.

Letters: J policies, I constraints, V = 1 + I values, M mixtures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.stats.betting import MeanUpperBounds

__all__ = ["Judgement", "judge"]

FIRST = 200
GROWTH = 1.6
HOPELESS = 3.0
"""Standard errors above a limit at which a mixture is given up."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """What fresh episodes showed.

    Attributes:
        shown: (M,) whether each mixture is shown to meet every limit.
        means: (J, V) means of the episodes that were simulated.
        upper: (J, I) upper bounds on costs; the ceiling for policies that were not sampled.
        episodes: (J,) simulated.
    """

    shown: Any
    means: FloatArray
    upper: FloatArray
    episodes: FloatArray


def judge(
    sample: Callable[[int, int], FloatArray],
    mixtures: FloatArray,
    limits: FloatArray,
    ceilings: FloatArray,
    *,
    beta: float,
    budget: int,
    least: int = FIRST,
) -> Judgement:
    """Judge mixtures on one plant.

    Args:
        sample: ``sample(j, n)`` -> (n, V) return and costs of n further fresh episodes of policy j.
        mixtures: (M, J); the safe policy alone should be one of them.
        limits: (I,).
        ceilings: (I,) largest cost of an episode.
        beta: error probability.
        budget: most episodes of one policy.
        least: episodes of every policy to begin with, also of those that no mixture plays; at least 2.
    """
    n_policies, n_costs = mixtures.shape[1], limits.size
    played = np.flatnonzero(mixtures.max(axis=0) > 0.0)
    streams = MeanUpperBounds(np.tile(ceilings, played.size), focus=float(limits.min()))
    level = math.log(played.size * n_costs / beta)
    place = {int(j): k for k, j in enumerate(played)}
    count, sums, squares = np.zeros(n_policies), np.zeros((n_policies, 1 + n_costs)), np.zeros((n_policies, n_costs))
    upper = np.tile(ceilings, (n_policies, 1))

    def take(j: int, n: int) -> None:
        found = sample(j, n)
        count[j] += n
        sums[j] += found.sum(axis=0)
        squares[j] += (found[:, 1:] ** 2).sum(axis=0)
        if j in place:
            for i in range(n_costs):
                k = place[j] * n_costs + i
                streams.update(k, np.ascontiguousarray(found[:, 1 + i]))
                upper[j, i] = streams.bound(k, level)

    for j in range(n_policies):
        take(j, least)
    size = least
    while True:
        means = sums / count[:, None]
        shown = (mixtures @ upper <= limits).all(axis=1)
        spread = np.maximum(squares / count[:, None] - means[:, 1:] ** 2, 0.0) / count[:, None]
        gap = (mixtures @ means[:, 1:] - limits) / np.sqrt(np.maximum(mixtures**2 @ spread, 1e-300))
        open_mixtures = ~shown & (gap < HOPELESS).all(axis=1)
        wanted = np.flatnonzero((mixtures[open_mixtures] > 0.0).any(axis=0))
        further = [int(j) for j in wanted if count[j] < budget]
        if not further:
            return Judgement(shown, means, upper, count)
        size = math.ceil(size * GROWTH)
        for j in further:
            more = min(size, budget) - int(count[j])
            if more > 0:
                take(j, more)
