"""What a training by simulation will take, and whether it can show anything at all: known before it begins.

An interval of n outcomes is as narrow as can be when they are all the same. If the safe policy never costs anything, its interval is ``[0, U_n]``
with ``U_n`` from the range of an episode, the number of intervals and their level alone, and its cell reaches to ``(1 + slack) U_n``. While that is
not below the limit no margin can be shown, whatever the simulator does. The smallest n for which it is, is the smallest sufficient
``max_episodes``.

Letters: T tasks, J policies, I constraints, Q quantities, n episodes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.gym.family import GymFamily
from surefoot.gym.rollout import NUM_ENVS, RolloutWorker
from surefoot.gym.values import FIRST, interval_ends

__all__ = ["Workload", "least_episodes", "measure_workload", "tried_corners"]

PILOT = 4
"""Episodes of each policy that are timed."""
PILOT_SECONDS = 5.0
"""No further policy is timed after so long."""
MOST = 10**9
COPIES = 4
"""Arrays of outcomes that exist at a time: kept, joined, scaled, sorted out."""


@dataclass(frozen=True)
class Workload:
    """What the settings of a training imply.

    Attributes:
        least_episodes: smallest ``max_episodes`` at which a margin of the safe policy can be shown at all, ``None`` where none will do.
        fewest, most: episodes in all, if every interval is narrow at once, and if every budget is spent.
        seconds_per_episode: measured on a few, one process.
        seconds: (fewest, most) of all episodes, shared by the workers.
        memory_mb: of outcomes and values, at most; the simulator's own comes on top.
    """

    least_episodes: int | None
    fewest: int
    most: int
    seconds_per_episode: float
    seconds: tuple[float, float]
    memory_mb: float

    def __str__(self) -> str:
        return (
            f"between {self.fewest:,} and {self.most:,} episodes of {_time(self.seconds_per_episode)} each: {_time(self.seconds[0])} to "
            f"{_time(self.seconds[1])}, and up to {self.memory_mb:,.0f} MB beside the simulator"
        )


def least_episodes(family: GymFamily, policies: int, *, alpha: float, margin: float | None, slack: float) -> int | None:
    """Episodes of the safe policy after which a margin can be shown, if none of them costs anything; ``None`` where no number will do.

    Args:
        family: its limits and ranges.
        policies: J, among which the level is split.
        alpha: error probability of all intervals of one task.
        margin: what has to be shown in every task, or ``None`` for any.
        slack: how much farther than the interval a cell reaches, as a share of its width.
    """
    low, high = family.ranges()
    quantities, n = low.size, family.n_constraints
    level, top = alpha / (policies * quantities), high[1 : 1 + n]

    def shows(count: int) -> bool:
        if not n:
            return True
        upper = interval_ends(np.zeros((count, n)), np.zeros(n), top, level)[1]
        wanted = family.criterion.cost_limits
        enough = (1.0 + slack) * upper < wanted
        return bool(enough.all() and (margin is None or (upper <= wanted - margin).all()))

    count = 1
    while not shows(count):
        count *= 2
        # Beyond a million an interval of zeros is narrower than anybody's limit, or the limit is zero.
        if count > 2**20:
            return None
    below = count // 2
    while count - below > 1:
        middle = (below + count) // 2
        below, count = (below, middle) if shows(middle) else (middle, count)
    return count


def measure_workload(
    family: GymFamily,
    policies: Sequence[Any],
    points: FloatArray,
    *,
    tasks: int,
    holdout: int,
    corners: int,
    budget: int,
    alpha: float,
    margin: float | None,
    slack: float,
    workers: int,
    seed: int,
) -> Workload:
    """Run a few episodes and multiply.

    Args:
        family, policies: what is simulated.
        points: (m, p) tasks; the first is run.
        tasks: that all policies are simulated in before the hold-out.
        holdout: tasks of the hold-out.
        corners: tasks in which the safe policy alone is tried.
        budget: ``max_episodes``.
        alpha, margin, slack: as in :func:`least_episodes`.
        workers, seed: of the training.
    """
    began, ran = time.perf_counter(), 0
    with RolloutWorker(family, points[0], task=0, num_envs=NUM_ENVS) as worker:
        for index, policy in enumerate(policies):
            worker.run(policy, index, seed=(seed, 7), first=0, count=PILOT, tolerant=True)
            ran += PILOT
            if time.perf_counter() - began > PILOT_SECONDS:
                break
    each = (time.perf_counter() - began) / ran
    j, quantities = len(policies), family.ranges()[0].size
    batches = (1 + (holdout > 0)) if family.shared else tasks + holdout
    pairs = batches * j + (0 if family.shared else corners)
    fewest, most = pairs * min(FIRST, budget), pairs * budget
    served = max(tasks, holdout) if family.shared else 1
    outcomes = COPIES * budget * (served + quantities) * max(1, min(workers, pairs))
    values = 4 * (tasks + holdout) * j * quantities
    return Workload(
        least_episodes=least_episodes(family, j, alpha=alpha, margin=margin, slack=slack),
        fewest=fewest,
        most=most,
        seconds_per_episode=each,
        seconds=(each * fewest / workers, each * most / workers),
        memory_mb=8e-6 * (outcomes + values),
    )


def _time(seconds: float) -> str:
    units = (("ms", 1e-3, 1.0), ("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, np.inf))
    name, size = next((name, size) for name, size, end in units if seconds < end)
    return f"{seconds / size:.3g} {name}"


def tried_corners(family: GymFamily, most: int) -> int:
    """How many corners of the support are tried with the safe policy: none where there are too many parameters, or no ends."""
    if family.shared or len(family.support) > most or not np.isfinite(family.support).all():
        return 0
    return len(list(itertools.product(*family.support)))
