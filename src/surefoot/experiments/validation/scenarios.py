"""On which tasks, and under which reports, a guarantee is tried.

=========== ==========================================================================================================
family      fresh tasks drawn from the family
edges       tasks at the edges of cells: the last task of a cell on the way to a neighbour, and on the way out of the family
outside     tasks beyond the family: in no cell, so that ``cells`` promises nothing there, and an alarm should come
heavy       the family with rare catastrophes and hardly any margin, with a policy set of its own
lost        fresh tasks, reports late or lost depending on the outcome (:mod:`.delivery`)
adversarial the tasks, among edges and a net over the family, on which a pilot with other seeds came closest to a limit
late        fresh tasks, expensive episodes told so late that the agent gives them up; ``losses`` is "worst" in even runs, "independent" in odd ones
starts      whole procedures (:mod:`.procedure`): some tasks start where no training task does
support     the same with transitions that no training task makes
looks       the same with policy sets trained again and again until one is accepted
batches     fresh tasks, asked in batches whatever the agent was rehearsed with
reweighted  of every two fresh tasks the one on which the safe policy costs more: a law of density ratio at most two against the family
history     fresh tasks, with logged episodes of the safe policy before the first ask: :data:`LOGGED` of them in turn; without initial states and
            transitions in every third run
drift       fresh tasks that move by one standard deviation of the prior in the middle of the run, where the mixture costs more: at once in even
            runs, slowly in odd ones (:mod:`.changes`)
=========== ==========================================================================================================

The edge of cell i on the way from its centre ``a`` to ``b`` is found by bisection: the largest t for which the task with parameters
``a + t (b - a)`` is still in the cell. There the cell's bounds on costs are tight.

What a rehearsal certifies is the average over the family, so ``rehearsed`` is judged at alpha on ``family`` and at two alpha on ``reweighted``:
of r draws from a law with density f the largest by any order has density at most ``r f``. On ``lost``, ``late`` and ``batches`` it leaves its
protocol; judged are the mixtures after that, which rest on data bounds, at delta. Scenarios that train policy sets of their own are not for it.

Letters: N cells, T tasks, p parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.cmdp.evaluate import evaluate
from surefoot.errors import InvalidInput
from surefoot.experiments.validation.truth import Truth, library_tables
from surefoot.policyset.schema import PolicySet
from surefoot.tasks.family import TabularFamily

__all__ = [
    "AS_REHEARSED",
    "DENSITY_RATIO",
    "FOR_REHEARSED",
    "LOGGED",
    "LONG",
    "PROCEDURES",
    "SCENARIOS",
    "TaskSampler",
    "World",
    "dearest",
]

SCENARIOS = {
    "family": "tasks drawn from the family",
    "edges": "tasks at the edges of cells",
    "outside": "tasks beyond the family",
    "heavy": "rare catastrophes, hardly any margin",
    "lost": "reports late or lost, depending on the outcome",
    "adversarial": "tasks chosen to make the agent fail",
    "late": "expensive episodes reported so late that they are given up",
    "starts": "trained anew in every run; some tasks start where no training task does",
    "support": "trained anew in every run; some tasks move where no training task does",
    "looks": "trained anew, again and again, until a policy set is accepted",
    "batches": "episodes asked in batches that were not rehearsed",
    "reweighted": "tasks of a law with density ratio 2 against the family",
    "history": "logged episodes of the safe policy are given first",
    "drift": "the plant changes in the middle of the run",
}
"""Name to what stands in tables and figures."""
PROCEDURES = ("starts", "support", "looks")
"""Scenarios whose every run trains policy sets of its own."""
LOGGED = (100, 4000)
"""How many logged episodes the runs of ``history`` are given, in turn."""
DENSITY_RATIO = 2
AS_REHEARSED = {"family": 1, "reweighted": DENSITY_RATIO}
"""Scenarios in which what was rehearsed is promised, at so many times alpha."""
FOR_REHEARSED = ("family", "outside", "lost", "late", "batches", "reweighted")
"""Scenarios that deploy the policy set that was rehearsed, on tasks that need no cells to be found."""
LONG = {"late": 5, "starts": 5, "support": 5, "looks": 5}
"""Scenarios whose runs take long get one run for so many of the others."""

BISECTIONS = 12
NEIGHBOURS = 2
EDGES = 24
NET = 12
BEYOND = (0.03, 0.06, 0.12, 0.18, 0.24, 0.3)
"""How far outside tasks lie beyond the declared support (where there is none: the cells), as shares of the cells' width."""


@dataclass(frozen=True, eq=False)
class World:
    """What a run needs to know besides its task.

    Attributes:
        family: makes the tasks.
        policy_set: what agents deploy.
        coarse_set: for agents with the published constants.
        outside: (T, p) tasks beyond the family, or ``None`` for a net along every parameter.
    """

    family: TabularFamily
    policy_set: PolicySet
    coarse_set: PolicySet
    outside: FloatArray | None = None


class TaskSampler:
    """Finds tasks in one world.

    Args:
        world: where.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._tables = library_tables(world.policy_set.policies)
        self._centers = world.policy_set.cells.parameters
        if not self._centers.shape[1]:
            raise InvalidInput(
                "cells must have parameters to find tasks between them, got none; use scenario family only",
                code="SF-ARGUMENT-MISMATCH",
            )
        self._edges: dict[int, tuple[FloatArray, list[int]]] = {}
        scale = self._centers.std(axis=0)
        self._scale = np.where(scale > 0.0, scale, 1.0)

    def truth(self, point: FloatArray) -> Truth:
        """Facts about the task with these parameters."""
        return Truth.of(self._world.policy_set, self._tables, self._world.family.cmdp(point), point)

    def edges(self, most: int = EDGES) -> tuple[FloatArray, list[int]]:
        """(T, p) edge tasks and the cells at whose edges they lie; dearest first, then spread evenly, at most ``most``."""
        if most not in self._edges:
            ways = self._ways()
            chosen = [ways[k] for k in _spread(len(ways), most)]
            points = np.asarray([self._edge(cell, target) for cell, target in chosen])
            self._edges[most] = points.reshape(-1, self._centers.shape[1]), [cell for cell, _ in chosen]
        return self._edges[most]

    def net(self, most: int = NET) -> FloatArray:
        """(T, p) cells' centres, spread from the dearest to the cheapest."""
        result: FloatArray = self._centers[self._by_cost()[_spread(len(self._centers), most)]]
        return result

    def outside(self) -> FloatArray:
        """(T, p) tasks in no cell.

        Raises:
            InvalidInput: none could be made.
        """
        given = self._world.outside
        candidates = self._beyond() if given is None else list(np.asarray(given, dtype=np.float64))
        kept = [point for point in candidates if self._is_outside(point)]
        if not kept:
            raise InvalidInput(
                "outside needs tasks that lie in no cell, found none; give some, or leave the scenario out",
                code="SF-ARGUMENT-EMPTY",
            )
        return np.asarray(kept)

    def _is_outside(self, point: FloatArray) -> bool:
        try:
            return not self.truth(point).cells.size
        except InvalidInput:
            return False

    def _by_cost(self) -> IntArray:
        """Cells from the dearest to the cheapest, by the safe policy's predicted costs."""
        costs = self._world.policy_set.cells.predictions.cost_center[:, 0].max(axis=1, initial=0.0)
        return np.argsort(-costs, kind="stable")

    def _ways(self) -> list[tuple[int, FloatArray]]:
        """(cell, where to go from its centre): out of the family first, then to neighbours, dearest cells first."""
        inward, outward = [], []
        for cell in self._by_cost().tolist():
            distance = (np.abs(self._centers - self._centers[cell]) / self._scale).max(axis=1)
            for other in np.argsort(distance, kind="stable")[1 : 1 + NEIGHBOURS * self._centers.shape[1]]:
                inward.append((cell, self._centers[other]))
        for axis in range(self._centers.shape[1]):
            low, high = self._range()[axis]
            for cell, end in ((self._centers[:, axis].argmax(), high), (self._centers[:, axis].argmin(), low)):
                target = self._centers[cell].copy()
                target[axis] = end
                outward.append((int(cell), target))
        return outward + inward

    def _range(self) -> FloatArray:
        """(p, 2) declared support; where it is infinite, three standard deviations beyond the centres."""
        declared = np.asarray(self._world.family.support, dtype=np.float64)
        low = np.where(np.isfinite(declared[:, 0]), declared[:, 0], self._centers.min(axis=0) - 3.0 * self._scale)
        high = np.where(np.isfinite(declared[:, 1]), declared[:, 1], self._centers.max(axis=0) + 3.0 * self._scale)
        return np.stack([low, high], axis=1)

    def _edge(self, cell: int, target: FloatArray) -> FloatArray:
        start, inside, outside = self._centers[cell], 0.0, 1.0
        if self._has(cell, target):
            return target
        for _ in range(BISECTIONS):
            middle = 0.5 * (inside + outside)
            if self._has(cell, start + middle * (target - start)):
                inside = middle
            else:
                outside = middle
        result: FloatArray = start + inside * (target - start)
        return result

    def _has(self, cell: int, point: FloatArray) -> bool:
        return Truth.contains(self._world.policy_set, self._tables, self._world.family.cmdp(point), cell)

    def _beyond(self) -> list[FloatArray]:
        """A net beyond every end of every parameter, at the median of the others."""
        width = self._centers.max(axis=0) - self._centers.min(axis=0)
        points = []
        for axis in range(self._centers.shape[1]):
            for end, sign in zip(self._range()[axis], (-1.0, 1.0)):
                for share in BEYOND:
                    point = np.median(self._centers, axis=0)
                    point[axis] = end + sign * share * width[axis]
                    points.append(point)
        return points


def dearest(world: World, points: FloatArray) -> FloatArray:
    """(T, p) of every :data:`DENSITY_RATIO` neighbours among ``points`` the one on which the safe policy costs most, as a share of a limit."""
    limits = np.maximum(world.family.criterion.cost_limits, np.finfo(float).tiny)
    safe = world.policy_set.safe_policy
    costs = np.array([(evaluate(world.family.cmdp(point), safe).costs / limits).max(initial=0.0) for point in points])
    groups = costs.reshape(-1, DENSITY_RATIO)
    result: FloatArray = points.reshape(len(groups), DENSITY_RATIO, -1)[np.arange(len(groups)), groups.argmax(axis=1)]
    return result


def worst_tasks(points: FloatArray, score: Callable[[int], float], most: int) -> FloatArray:
    """The ``most`` points with the largest scores; ties go to the earlier point."""
    order = sorted(range(len(points)), key=lambda k: (-score(k), k))[:most]
    return points[sorted(order)]


def _spread(n: int, most: int) -> list[int]:
    """Up to ``most`` positions in ``range(n)``, evenly spread, the first and the last among them."""
    return sorted({round(float(k)) for k in np.linspace(0, n - 1, min(n, most))})
