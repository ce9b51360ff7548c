"""Exact values of tasks: optima, and the quantities that cells are boxes of.

Work is done task by task, in chunks of fixed size that may go to several processes; results do not depend on how many.

Letters: T tasks, p parameters, S states, A actions, I constraints, J policies, Q quantities.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from surefoot.arrays import FloatArray, IntArray, magnitude
from surefoot.cmdp.elimination import Elimination, plan_elimination, planned_values
from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import InvalidInput, SolverError
from surefoot.parallel import iter_tasks
from surefoot.tasks.family import TabularFamily
from surefoot.training.boxes import keeps_margin
from surefoot.training.cells import Layout
from surefoot.training.coverage import check_shapes, joint_support
from surefoot.training.optimal import ExactOptimal, OptimalOracle, OptimalPolicy

__all__ = ["Measured", "TaskValues", "Tasks", "plan_of", "sample_tasks"]

Result = TypeVar("Result")

CHUNK, BULK_CHUNK = 25, 200
BULK_TASKS = 200
"""From this many training tasks on optima are found side by side; for fewer, compiling that takes longer than it saves."""
AGREEMENT = 1e-6


@dataclass(frozen=True, eq=False)
class Measured:
    """Quantities (Q,) of one task: exact, or the lower and upper ends of what they can be."""

    lower: FloatArray
    quantities: FloatArray
    inside_support: bool
    feasible: bool
    safe_margin: float
    optimum_costs: FloatArray


@dataclass(frozen=True, eq=False)
class Tasks:
    """Tasks that are built: their parameters (T, p) and models, T of them."""

    parameters: FloatArray
    models: list[TabularCMDP]

    def __len__(self) -> int:
        return len(self.models)

    def subset(self, kept: IntArray) -> Tasks:
        """Some of them, by index."""
        return Tasks(self.parameters[kept], [self.models[k] for k in kept])


class TaskValues:
    """Solves and measures tasks of one family.

    Args:
        family: where they come from.
        optimal: the oracle ``O_l``; ``None``: the linear program.
        margin: of the safe policy, as stated by the user.
        workers: processes.
        progress: draw progress bars.
    """

    def __init__(
        self, family: TabularFamily, optimal: OptimalOracle | None, margin: float | None, workers: int, progress: bool
    ) -> None:
        self.family, self.margin, self.workers, self.progress = family, margin, workers, progress
        self.optimal = optimal
        self.anchor: TabularCMDP | None = None
        self.plan: Elimination | None = None
        self._model: TabularCMDP | None = None

    def accepts(self, measured: Measured) -> bool:
        """Whether the method's assumption holds for a task: some margin, and no less than the one the user stated."""
        return measured.feasible and bool(keeps_margin(measured.safe_margin, self.margin))

    def build(self, parameters: FloatArray, label: str) -> Tasks:
        """The tasks (T, p), each built and checked once.

        Arrays that say the same as those of the first task ever built are its arrays: memory grows with what differs.

        Raises:
            InvalidInput: tasks that differ in size, or break what the criterion promises.
        """
        built = self._map(_build_chunk, _chunks(parameters), label, self.family)
        if self._model is None and built:
            self._model = built[0]
        if self._model is not None:
            check_shapes([self._model, *built])
        return Tasks(parameters, [m.sharing(self._model) for m in built] if self._model is not None else built)

    def solve(self, tasks: Tasks, label: str) -> list[OptimalPolicy]:
        """The optimum of every task; the median task of the first that are solved anchors the solver.

        If those are :data:`BULK_TASKS` or more, all are solved side by side (:mod:`surefoot.solvers.bulk`).
        """
        if self.optimal is None and self.anchor is None:
            middle = np.median(tasks.parameters, axis=0)
            self.anchor = tasks.models[int(np.abs(tasks.parameters - middle).sum(axis=1).argmin())]
            self.plan = plan_of(tasks.models) if len(tasks) >= BULK_TASKS else None
        size = CHUNK if self.plan is None else BULK_CHUNK
        return self._map(_solve_chunk, _chunks(tasks.models, size), label, self.optimal, self.anchor, self.plan)

    def library(self, tasks: Tasks, optima: Sequence[OptimalPolicy], chosen: Any) -> list[FloatArray]:
        """(S, A) tables of the optima of some tasks, for a library.

        Optima need not be unique. The tables of a library come from the occupancy program, one by one, however many tasks there are; that also
        checks their values by a second method.

        Raises:
            SolverError: the two methods disagree about an optimum.
        """
        chosen = [int(k) for k in chosen]
        if self.plan is None or not chosen:
            return [optima[k].policy for k in chosen]
        again = self._map(
            _solve_chunk, _chunks([tasks.models[k] for k in chosen]), "solving tasks", None, self.anchor, None
        )
        for k, one, two in zip(chosen, [optima[k] for k in chosen], again):
            room = AGREEMENT * magnitude(max(abs(one.bound), abs(two.bound)))
            if one.feasible != two.feasible or not max(one.value, two.value) <= min(one.bound, two.bound) + room:
                raise SolverError(
                    f"the task at {tasks.parameters[k].tolist()} has value {one.value:g} (at most {one.bound:g}) when solved beside others and "
                    f"{two.value:g} (at most {two.bound:g}) alone; please report it"
                )
        return [found.policy for found in again]

    def remembering(self, tasks: Tasks, optima: list[OptimalPolicy]) -> TaskValues:
        """The same, but no task is solved twice; these are known. Draws no bars."""
        return _Remembered(self, tasks, optima)

    def measure(
        self, tasks: Tasks, label: str, tables: FloatArray, layout: Layout, optima: Sequence[OptimalPolicy] | None
    ) -> Iterator[Measured]:
        """Quantities of every task, one after the other: those of all tasks at once would be the largest thing in memory.

        Optima are solved for where they are not given.
        """
        known = self.solve(tasks, label) if optima is None else list(optima)
        return self._stream(_measure_chunk, _chunks(tasks.models), label, tables, layout, extra=_chunks(known))

    def values(self, tasks: Tasks, label: str, tables: FloatArray) -> FloatArray:
        """(T, J, 1+I) exact values of policies (J, S, A) in every task."""
        plan = plan_of(tasks.models)
        return np.array(self._map(_evaluate_chunk, _chunks(tasks.models), label, tables, plan))

    def _map(self, work: Callable[..., list[Result]], parts: list[Any], label: str, *shared: Any) -> list[Result]:
        return list(self._stream(work, parts, label, *shared))

    def _stream(
        self,
        work: Callable[..., list[Result]],
        parts: list[Any],
        label: str,
        *shared: Any,
        extra: list[Any] | None = None,
    ) -> Iterator[Result]:
        calls = [(part, *shared, *(() if extra is None else (extra[k],))) for k, part in enumerate(parts)]
        results = iter_tasks(work, calls, workers=self.workers, label=label, progress=self.progress)
        return itertools.chain.from_iterable(results)


class _Remembered(TaskValues):
    """See :meth:`TaskValues.remembering`."""

    def __init__(self, run: TaskValues, tasks: Tasks, optima: list[OptimalPolicy]) -> None:
        super().__init__(run.family, run.optimal, run.margin, run.workers, False)
        self.anchor, self.plan, self._model = run.anchor, run.plan, run._model
        self._known = {point.tobytes(): optimum for point, optimum in zip(tasks.parameters, optima)}

    def solve(self, tasks: Tasks, label: str) -> list[OptimalPolicy]:
        """As :meth:`TaskValues.solve`."""
        keys = [point.tobytes() for point in tasks.parameters]
        new = np.array([k for k, key in enumerate(keys) if key not in self._known], dtype=np.int64)
        if new.size:
            found = super().solve(tasks.subset(new), label)
            self._known.update((keys[k], optimum) for k, optimum in zip(new, found))
        return [self._known[key] for key in keys]


def plan_of(models: Sequence[TabularCMDP]) -> Elimination | None:
    """The plan of elimination for the joint support of some tasks."""
    return plan_elimination(joint_support(models), models[0].n_states, models[0].n_actions)


def _chunks(items: Any, size: int = CHUNK) -> list[Any]:
    return [items[k : k + size] for k in range(0, len(items), size)]


def _build_chunk(parameters: FloatArray, family: TabularFamily) -> list[TabularCMDP]:
    return [_task(family, p) for p in parameters]


def _solve_chunk(
    models: list[TabularCMDP], optimal: OptimalOracle | None, anchor: TabularCMDP | None, plan: Elimination | None
) -> list[OptimalPolicy]:
    if optimal is None:
        return ExactOptimal(anchor, plan).solve_many(models)
    return [optimal.solve(m) for m in models]


def _task(family: TabularFamily, parameters: FloatArray) -> TabularCMDP:
    """A task that keeps what the family's criterion promises: ceilings and ranges of deployment rest on it.

    Raises:
        InvalidInput: another discount, other limits, or rewards and costs outside the declared ranges.
    """
    cmdp, criterion = family.cmdp(parameters), family.criterion
    room = 1e-9 * magnitude(criterion.cost_bounds)[:, None, None]
    low, high = criterion.reward_bounds
    least, most = float(cmdp.rewards.min()), float(cmdp.rewards.max())
    slack = 1e-9 * magnitude(max(abs(low), abs(high)))
    kept = {
        "discount": cmdp.discount == criterion.discount,
        "cost_limits": np.array_equal(cmdp.cost_limits, criterion.cost_limits),
        "functionals": cmdp.functionals == criterion.functionals,
        "rewards": bool(least >= low - slack and most <= high + slack),
        "costs": cmdp.n_costs == criterion.n_costs
        and bool((cmdp.costs <= criterion.cost_bounds[:, None, None] + room).all()),
        "horizon": criterion.horizon is None,
    }
    if not all(kept.values()):
        raise _broken_promise(family, parameters, cmdp, next(name for name, fine in kept.items() if not fine))
    return cmdp


def _broken_promise(family: TabularFamily, parameters: FloatArray, cmdp: TabularCMDP, name: str) -> InvalidInput:
    """The error that :func:`_task` raises."""
    criterion = family.criterion
    low, high = criterion.reward_bounds
    wanted, got = {
        "discount": (f"{criterion.discount:g}", f"{cmdp.discount:g}"),
        "cost_limits": (str(criterion.cost_limits.tolist()), str(cmdp.cost_limits.tolist())),
        "functionals": ("; ".join(criterion.limit_texts), str(cmdp.functionals)),
        "rewards": (
            f"within reward_bounds ({low:g}, {high:g})",
            f"{cmdp.rewards.min():g}..{cmdp.rewards.max():g}",
        ),
        "costs": (
            f"at most cost_bounds {criterion.cost_bounds.tolist()}",
            str(cmdp.costs.max(axis=(1, 2), initial=0.0).tolist()),
        ),
        "horizon": ("None for a tabular family", str(criterion.horizon)),
    }[name]
    return InvalidInput(
        f"{name} of the task at {np.asarray(parameters).tolist()} must be {wanted}, as the criterion of {family.name} says, got {got}; "
        "make criterion and cmdp() agree",
        code="SF-FAMILY-CRITERION",
    )


def _evaluate_chunk(models: list[TabularCMDP], tables: FloatArray, plan: Elimination | None) -> list[FloatArray]:
    return [planned_values(plan, m, tables) @ m.start for m in models]


def _measure_chunk(
    models: list[TabularCMDP], tables: FloatArray, layout: Layout, optima: list[OptimalPolicy]
) -> list[Measured]:
    measured = []
    for cmdp, optimum in zip(models, optima):
        quantities, inside = layout.quantities(cmdp, tables, optimum.bound)
        safe_costs = quantities[1 : 1 + layout.n_constraints]
        margin = float((cmdp.cost_limits - safe_costs).min(initial=np.inf))
        lower = layout.lower_ends(cmdp, tables, quantities)
        measured.append(Measured(lower, quantities, inside, optimum.feasible, margin, optimum.costs))
    return measured


def sample_tasks(family: TabularFamily, n: int, rng: np.random.Generator) -> FloatArray:
    """(n, p) fresh tasks.

    Raises:
        InvalidInput: the family returned something else.
    """
    parameters = np.asarray(family.sample(n, rng), dtype=np.float64)
    if parameters.ndim != 2 or len(parameters) != n or not np.isfinite(parameters).all():
        raise InvalidInput(
            f"{family.name}.sample({n}) must return {n} rows of finite parameters, got shape {parameters.shape}; fix the family",
            code="SF-FAMILY-SAMPLE",
        )
    return parameters
