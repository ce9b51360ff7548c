"""Greedy covers of sampled tasks (Ni & Kamgarpour 2026, Subroutine 3; Ye et al. 2023).

Among N fresh tasks choose centres U greedily, each covering most of what is left, until at most ``3 delta N`` tasks are
uncovered. The sample was large enough when

    sqrt( |U| ln(2N / delta) / (N - |U|) ) <= delta                                                (acceptance)

and then, with high probability, the centres cover all but ``6 delta`` of the task distribution. Otherwise N is doubled and
**all** tasks are drawn anew: reusing the old ones would make the centres depend on the sample that judges them.

A cover of a given size has the smallest radius that greedy choice needs no more centres for, found by bisection on the matrix of all distances.
For more than :data:`MATRIX_TASKS` tasks there is no matrix, and its memory would grow with N^2. Centres are then chosen by *farthest-point traversal*
(Gonzalez 1985): every further centre is the task that is farthest from those before. Its radius is at most twice the smallest that any cover of
this size has, as is that of the greedy cover; its centres lie further out, and memory and time are linear in N.

Letters: N tasks, n centres, p parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_integer, check_real
from surefoot.errors import InvalidInput
from surefoot.training.coverage import Columns, CoverageOracle

__all__ = [
    "MATRIX_TASKS", "Cover", "Distances", "acceptance", "greedy_cover", "initial_sample", "proved_level", "sized_cover", "spread_cover",
    "subroutine3", "task_distances",
]  # fmt: skip

MATRIX_TASKS = 2_000
"""Up to this many tasks covers are greedy ones; above they come from farthest-point traversal, if the oracle has ``columns``."""


@dataclass(frozen=True, eq=False)
class Cover:
    """Centres and what they cover.

    Attributes:
        centers: (n,) indices of the chosen tasks, in the order of choice.
        to_centers: (N, n) distance of every task to every centre.
        radius: ``eps``.
    """

    centers: IntArray
    to_centers: FloatArray
    radius: float

    @property
    def uncovered(self) -> int:
        """How many tasks are farther than the radius from every centre."""
        return int((self.to_centers.min(axis=1, initial=np.inf) > self.radius).sum())


def greedy_cover(distances: FloatArray, radius: float, allowed_uncovered: float = 0.0) -> Cover:
    """Cover N tasks, given their (N, N) distances, until at most ``allowed_uncovered`` tasks are left.

    Ties go to the smallest index, so the cover is deterministic.
    """
    within = distances <= radius
    left = np.ones(len(distances), dtype=bool)
    gains = within.sum(axis=0)
    centers: list[int] = []
    while left.sum() > allowed_uncovered:
        best = int(gains.argmax())
        if gains[best] == 0:
            break
        centers.append(best)
        fresh = left & within[:, best]
        left &= ~fresh
        gains = gains - within[fresh].sum(axis=0)
    chosen = np.asarray(centers, dtype=np.int64)
    return Cover(chosen, distances[:, chosen], radius)


def sized_cover(distances: FloatArray, size: int) -> Cover:
    """The greedy cover of all tasks with the smallest radius that needs at most ``size`` centres (to 1e-4 of the diameter)."""
    low, high = 0.0, float(distances.max())
    best = greedy_cover(distances, high)
    while high - low > 1e-4 * distances.max():
        middle = 0.5 * (low + high)
        trial = greedy_cover(distances, middle)
        if len(trial.centers) <= size:
            best, high = trial, middle
        else:
            low = middle
    return best


def spread_cover(columns: Columns, members: IntArray, size: int | None, radius: float = 0.0) -> Cover:
    """Farthest-point traversal: the cover that needs distances to its centres only.

    The first centre is the task that is nearest to the middle: the one whose larger distance to two tasks far apart is smallest. Ties go to
    the smallest index, so the cover is deterministic.

    Args:
        columns: distances of all tasks to one of them.
        members: (N,) the tasks to be covered, indices in terms of ``columns``.
        size: largest number of centres; ``None``: as many as the radius needs.
        radius: no more centres are chosen once every task is this close to one.
    """
    end = int(columns(int(members[0]))[members].argmax())
    one = columns(int(members[end]))[members]
    two = columns(int(members[int(one.argmax())]))[members]
    center = int(np.maximum(one, two).argmin())
    centers: list[int] = []
    to_centers: list[FloatArray] = []
    nearest = np.full(members.size, np.inf)
    while True:
        centers.append(center)
        to_centers.append(columns(int(members[center]))[members])
        nearest = np.minimum(nearest, to_centers[-1])
        center = int(nearest.argmax())
        reached = float(nearest[center])
        if reached <= radius or len(centers) == size:
            return Cover(np.asarray(centers, dtype=np.int64), np.stack(to_centers, axis=1), max(radius, reached))


@dataclass(frozen=True, eq=False)
class Distances:
    """What a cover needs to know of N tasks: all distances where they are few, else one column at a time.

    Attributes:
        members: (N,) which tasks.
        matrix: (N, N), or ``None``.
        columns: distances of all tasks, members or not, to one of them; ``None`` where there is a matrix.
    """

    members: IntArray
    matrix: FloatArray | None
    columns: Columns | None = None

    def sized(self, size: int) -> Cover:
        """A cover of all N tasks with at most ``size`` centres, indices in terms of the members."""
        if self.matrix is not None:
            return sized_cover(self.matrix, size)
        assert self.columns is not None
        return spread_cover(self.columns, self.members, size)

    def within(self, radius: float) -> Cover:
        """A cover of all N tasks of this radius."""
        if self.matrix is not None:
            return greedy_cover(self.matrix, radius)
        assert self.columns is not None
        return spread_cover(self.columns, self.members, None, radius)

    def subset(self, kept: IntArray) -> Distances:
        """The same for some of the tasks."""
        matrix = None if self.matrix is None else self.matrix[np.ix_(kept, kept)]
        return Distances(self.members[kept], matrix, self.columns)


def task_distances(family: Any, oracle: CoverageOracle, parameters: FloatArray, models: Any = None) -> Distances:
    """Distances of tasks (N, p); ``models`` are the tasks themselves, where they are built already."""
    members = np.arange(len(parameters))
    columns = getattr(oracle, "columns", None)
    if len(parameters) > MATRIX_TASKS and columns is not None:
        return Distances(members, None, columns(family, parameters, models))
    between = getattr(oracle, "between", None)
    if models is not None and between is not None:
        return Distances(members, between(family, models, models))
    return Distances(members, oracle.distances(family, parameters, parameters))


def initial_sample(delta: float) -> int:
    """``N = ln(delta)^2 / delta^2``, rounded up."""
    return math.ceil(math.log(delta) ** 2 / delta**2)


def acceptance(n_tasks: int, n_centers: int, delta: float) -> float:
    """Left side of the acceptance test; infinite when there are as many centres as tasks."""
    if n_centers >= n_tasks:
        return math.inf
    return math.sqrt(n_centers * math.log(2 * n_tasks / delta) / (n_tasks - n_centers))


def proved_level(n_tasks: int, n_centers: int, uncovered: int) -> float:
    """Smallest ``delta`` at which Subroutine 3 would have accepted this cover; 1 when it never would."""
    if n_centers >= n_tasks:
        return 1.0
    low, high = max(uncovered / (3 * n_tasks), 1e-12), 1.0
    if acceptance(n_tasks, n_centers, low) <= low:
        return low
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if acceptance(n_tasks, n_centers, middle) <= middle else (middle, high)
    return high


def subroutine3(
    family: Any,
    oracle: CoverageOracle,
    *,
    radius: float,
    delta: float,
    rng: np.random.Generator,
    max_tasks: int = 20_000,
) -> tuple[FloatArray, FloatArray, Cover, int]:
    """Sample, cover, test, double: the published training loop.

    Args:
        family: what to sample from.
        oracle: ``O_c``.
        radius: ``eps``, in the oracle's units.
        delta: accepted covers leave at most ``6 delta`` of the distribution uncovered.
        rng: source of the tasks; every round draws anew.
        max_tasks: distances take ``8 max_tasks^2`` bytes.

    Returns:
        Parameters (N, p) of the last round, their distances (N, N), the cover, and the number of rounds.

    Raises:
        InvalidInput: the test is still refused at ``max_tasks``; the message says what would help.
    """
    radius = check_real("radius", radius, low=0.0, open_low=True)
    delta = check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
    max_tasks = check_integer("max_tasks", max_tasks, low=1)
    n_tasks, rounds = initial_sample(delta), 0
    while n_tasks <= max_tasks:
        rounds += 1
        tasks = family.sample(n_tasks, rng)
        distances = oracle.distances(family, tasks, tasks)
        cover = greedy_cover(distances, radius, 3 * delta * n_tasks)
        if acceptance(n_tasks, len(cover.centers), delta) <= delta:
            return tasks, distances, cover, rounds
        n_tasks *= 2
    raise InvalidInput(
        f"delta={delta:g} at radius={radius:g} needs more than max_tasks={max_tasks} tasks; "
        "raise delta, the radius or max_tasks, or give the number of cells and rely on the hold-out certificate",
        code="SF-TRAINING-COVER",
    )
