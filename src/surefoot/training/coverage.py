"""Coverage oracles ``O_c``: is task M1 within ``eps`` of task M2?

An oracle answers with distances, so that the same numbers serve every radius. Three are built in:

* :class:`CMDPDistance`, the paper's: ``max(|r-r'|_inf, |c-c'|_inf, TV(rho,rho'), max_sa TV(P,P'))`` in the units of Ni &
  Kamgarpour 2026 (reward and cost divided by their per-step ranges);
* :class:`ParameterDistance`, the largest difference of the parameters, each divided by its scale;
* :class:`ValueDistance`, the largest difference of the normalised values of some reference policies.

For many tasks no matrix of all distances is made (:mod:`surefoot.training.cover`): an oracle that has a method ``columns`` prepares the tasks
once and is then asked for the distances to one task at a time.

Letters: N and M tasks, p parameters, E entries of the joint kernel support, J policies, I constraints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from surefoot.arrays import FloatArray, IntArray, as_floats
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import InvalidInput
from surefoot.kernels import kernel
from surefoot.tasks.family import TabularFamily, TaskFamily

__all__ = [
    "CMDPDistance", "Columns", "CoverageOracle", "ParameterDistance", "ValueDistance",
    "check_shapes", "joint_support", "kernel_matrix", "kernel_rows",
]  # fmt: skip


class CoverageOracle(Protocol):
    """``O_c`` as a distance; task k covers task n at radius ``eps`` when ``distances[n, k] <= eps``."""

    @property
    def name(self) -> str:
        """Used in reports."""
        ...

    def distances(self, family: Any, first: FloatArray, second: FloatArray) -> FloatArray:
        """(N, M) distances between tasks with parameters ``first`` (N, p) and ``second`` (M, p)."""
        ...


Columns = Callable[[int], FloatArray]
"""``columns(m)`` -> (N,) distances of all tasks to task m."""


@dataclass(frozen=True, eq=False)
class ParameterDistance:
    """Largest scaled difference of parameters; for families where parameters are commensurable.

    Attributes:
        scales: (p,) what one unit of distance means for each parameter, or ``None`` for 1.
    """

    scales: FloatArray | None = None
    name: str = "parameter distance"

    def distances(self, family: TaskFamily, first: FloatArray, second: FloatArray) -> FloatArray:
        """(N, M)."""
        scales = np.ones(first.shape[1]) if self.scales is None else as_floats("scales", self.scales, (first.shape[1],))
        result: FloatArray = np.abs((first[:, None, :] - second[None, :, :]) / scales).max(axis=2)
        return result

    def columns(self, family: TaskFamily, tasks: FloatArray, models: Sequence[TabularCMDP] | None = None) -> Columns:
        """The same, one task at a time."""
        return lambda m: self.distances(family, tasks, tasks[m : m + 1])[:, 0]


@dataclass(frozen=True)
class CMDPDistance:
    """The distance of two CMDPs, in normalised units."""

    name: str = "CMDP distance"

    def distances(self, family: TabularFamily, first: FloatArray, second: FloatArray) -> FloatArray:
        """(N, M)."""
        one = [family.cmdp(p) for p in first]
        return self.between(family, one, one if second is first else [family.cmdp(p) for p in second])

    def between(self, family: TabularFamily, one: Sequence[TabularCMDP], two: Sequence[TabularCMDP]) -> FloatArray:
        """(N, M) distances of tasks that are built already."""
        n, same = len(one), two is one
        numbers, group = _features(family, one if same else [*one, *two])
        first = np.ascontiguousarray(numbers[:, :n])
        found: FloatArray = _largest_sums(first, first if same else np.ascontiguousarray(numbers[:, n:]), group, same)
        return found

    def columns(self, family: TabularFamily, tasks: FloatArray, models: Sequence[TabularCMDP] | None = None) -> Columns:
        """The same, one task at a time; tasks (N, p) are built, unless ``models`` has them, and prepared once."""
        numbers, group = _features(family, [family.cmdp(p) for p in tasks] if models is None else models)

        def column(m: int) -> FloatArray:
            found: FloatArray = _largest_sums(np.ascontiguousarray(numbers[:, m : m + 1]), numbers, group, False)[0]
            return found

        return column


@dataclass(frozen=True, eq=False)
class ValueDistance:
    """Largest difference of the values of reference policies, each divided by its range over an episode.

    Attributes:
        policies: (J, S, A) reference policies.
    """

    policies: FloatArray
    name: str = "value distance"

    def distances(self, family: TabularFamily, first: FloatArray, second: FloatArray) -> FloatArray:
        """(N, M)."""
        one = self._normalised(family, first)
        two = one if second is first else self._normalised(family, second)
        return np.stack([np.abs(a - two).max(axis=1) for a in one])

    def columns(self, family: TabularFamily, tasks: FloatArray, models: Sequence[TabularCMDP] | None = None) -> Columns:
        """The same, one task at a time; values are computed once."""
        values = self._normalised(family, tasks, models)

        def column(m: int) -> FloatArray:
            found: FloatArray = np.abs(values - values[m]).max(axis=1)
            return found

        return column

    def _normalised(
        self, family: TabularFamily, tasks: FloatArray, models: Sequence[TabularCMDP] | None = None
    ) -> FloatArray:
        """(N, J (1+I))."""
        criterion = family.criterion
        low, high = criterion.return_range
        scale = np.concatenate([[high - low], criterion.cost_ceilings])
        built = (family.cmdp(p) for p in tasks) if models is None else models
        return np.stack([(evaluate_many(m, self.policies) / scale).ravel() for m in built])


def _features(family: TabularFamily, models: Sequence[TabularCMDP]) -> tuple[FloatArray, IntArray]:
    """What tasks differ in: numbers (F, N), and the group (F,) of each, members of one adjacent.

    The distance of two tasks is the largest sum of absolute differences over a group. Rewards and costs are groups of one; the start and every row
    of the kernel is one group, and its numbers are halves. What all tasks share is left out, and of groups that say the same one is kept.
    """
    check_shapes(models)
    low, high = family.criterion.reward_bounds
    bounds = family.criterion.cost_bounds
    keys = joint_support(models)
    alone = np.arange(models[0].rewards.size)
    parts = [
        (np.stack([m.rewards.ravel() for m in models], axis=1) / (high - low), alone),
        *((np.stack([m.costs[i].ravel() for m in models], axis=1) / bounds[i], alone) for i in range(bounds.size)),
        (0.5 * np.stack([m.start for m in models], axis=1), np.zeros(models[0].n_states, dtype=np.int64)),
        (0.5 * kernel_matrix(models, keys).T, keys // models[0].n_states),
    ]
    blocks: dict[bytes, FloatArray] = {}
    for numbers, group in parts:
        varying = np.flatnonzero((numbers != numbers[:, :1]).any(axis=1))
        for rows in np.split(varying, np.flatnonzero(np.diff(group[varying])) + 1):
            block = np.ascontiguousarray(numbers[rows])
            if rows.size:
                blocks.setdefault(block.tobytes(), block)
    sizes = [len(block) for block in blocks.values()]
    together = np.concatenate([np.zeros((0, len(models))), *blocks.values()])
    return together, np.repeat(np.arange(len(sizes)), sizes)


def joint_support(cmdps: Sequence[TabularCMDP]) -> IntArray:
    """(E,) sorted keys ``(s A + a) S + s'`` of every transition that is possible in one of the tasks."""
    # Tasks of one training share their arrays of indices where these are equal: each is looked at once.
    distinct = {(id(m.row_start), id(m.successors)): m for m in cmdps}
    keys: IntArray = np.unique(np.concatenate([m.keys for m in distinct.values()]))
    return keys


def kernel_rows(cmdp: TabularCMDP, keys: IntArray) -> tuple[FloatArray, bool]:
    """(E,) probabilities of one task on a joint support, and whether the task stays inside it."""
    found, inside = _rows([cmdp], keys)
    return found[0], inside


def kernel_matrix(models: Sequence[TabularCMDP], keys: IntArray) -> FloatArray:
    """(T, E) the same of several tasks, which share the arrays of their indices or not."""
    found = np.empty((len(models), keys.size))
    order: dict[tuple[int, int], list[int]] = {}
    for k, m in enumerate(models):
        order.setdefault((id(m.row_start), id(m.successors)), []).append(k)
    for members in order.values():
        found[members] = _rows([models[k] for k in members], keys)[0]
    return found


def _rows(models: Sequence[TabularCMDP], keys: IntArray) -> tuple[FloatArray, bool]:
    """(T, E) probabilities of tasks of one support, and whether it lies in ``keys``."""
    own = models[0].keys
    if np.array_equal(own, keys):
        return np.minimum(np.stack([m.probabilities for m in models]), 1.0), True
    where = np.minimum(np.searchsorted(keys, own), keys.size - 1)
    inside = keys[where] == own
    probabilities = np.zeros((len(models), keys.size))
    # A row may sum to one plus rounding; a certain transition has probability one all the same.
    found = np.stack([m.probabilities for m in models])
    probabilities[:, where[inside]] = np.minimum(found[:, inside], 1.0)
    return probabilities, bool(inside.all())


def check_shapes(cmdps: Sequence[TabularCMDP]) -> None:
    """Refuse tasks of one family that differ in S, A or I."""
    shapes = {(m.n_states, m.n_actions, m.n_constraints) for m in cmdps}
    if len(shapes) > 1:
        raise InvalidInput(
            f"tasks of a family must share (S, A, I), got {sorted(shapes)}; fix the family's cmdp()",
            code="SF-FAMILY-SIZES",
        )


@kernel
def _largest_sums(first, second, group, same):  # type: ignore[no-untyped-def]
    """(N, M) largest sum over a group of absolute differences of numbers (F, N) and (F, M); ``same``: they are one array."""
    n_first, n_second = first.shape[1], second.shape[1]
    out = np.zeros((n_first, n_second))
    total = np.empty(n_second)
    for n in range(n_first):
        begin = n + 1 if same else 0
        worst = out[n]
        total[:] = 0.0
        for e in range(group.size):
            if e > 0 and group[e] != group[e - 1]:
                for m in range(begin, n_second):
                    worst[m] = max(worst[m], total[m])
                    total[m] = 0.0
            own = first[e, n]
            numbers = second[e]
            for m in range(begin, n_second):
                total[m] += abs(own - numbers[m])
        for m in range(begin, n_second):
            worst[m] = max(worst[m], total[m])
        if same:
            for m in range(begin, n_second):
                out[m, n] = worst[m]
    return out
