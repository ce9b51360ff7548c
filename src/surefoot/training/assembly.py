"""From sampled tasks with exact values to finished cells.

A cell is the hull of the sampled tasks nearest to a centre of the cover, extended by the tasks between and beyond them and widened; see
:mod:`surefoot.training.cells`. Tasks in which the safe policy keeps no margin are left out of every cell, and reported.

Letters: T tasks, p parameters, J policies, N cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.cmdp.elimination import Elimination, planned_values
from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import AssumptionError, InvalidInput
from surefoot.policyset.schema import AssumptionReport, OutsideTasks
from surefoot.tasks.family import TabularFamily
from surefoot.training.assumption import Offender, assumption_report, refusal
from surefoot.training.boxes import INFLATION, Boxes, corner_tasks, keeps_margin
from surefoot.training.cells import Layout, extrapolated_tasks, interpolated_tasks
from surefoot.training.cover import Cover, sized_cover
from surefoot.training.coverage import joint_support
from surefoot.training.optimal import OptimalPolicy
from surefoot.training.promise import Promised
from surefoot.training.values import Tasks, TaskValues, plan_of

__all__ = ["FinishedCells", "SampledTasks", "build_cells"]

CONDITIONAL_STATES = 256
"""Predictions are kept per initial state when there are at most this many."""
CORNER_PARAMETERS = 6
OUTSIDE = 8
"""Tasks beyond the family per parameter and side."""


@dataclass(frozen=True, eq=False)
class SampledTasks:
    """Training tasks, their optima and their cover; ``library``: which tasks' optima are the library, ``None``: those of the cells."""

    tasks: Tasks
    optima: list[OptimalPolicy]
    cover: Cover
    library: IntArray | None = None


@dataclass(frozen=True, eq=False)
class FinishedCells:
    """Everything that is frozen before the hold-out is drawn, and how a fresh task is judged by it.

    Attributes:
        boxes: (N, Q).
        layout: of their quantities.
        tables: (J, S, A) policies, the safe one first.
        policy_index: (N,) the policy of each cell.
        parameters: (N, p) of the centres.
        outside: tasks beyond the family.
        promised: what every cell promises beside its box.
        assumption: on the safe policy's margin.
    """

    boxes: Boxes
    layout: Layout
    tables: FloatArray
    policy_index: IntArray
    parameters: FloatArray
    outside: OutsideTasks
    promised: Promised
    assumption: AssumptionReport

    def judge(self, run: TaskValues, parameters: FloatArray, label: str) -> tuple[Any, FloatArray]:
        """Whether each task lies in some cell, and what the safe policy keeps there: (T,)."""
        tasks = run.build(parameters, label)
        return self.judge_built(run, tasks, label)

    def judge_built(self, run: TaskValues, tasks: Tasks, label: str) -> tuple[Any, FloatArray]:
        """The same for tasks that are built already."""
        covered, margins = [], []
        for model, m in zip(tasks.models, run.measure(tasks, label, self.tables, self.layout, None)):
            margins.append(m.safe_margin)
            covered.append(
                m.feasible
                and m.safe_margin >= self.assumption.safe_margin
                and bool(self.boxes.consistent(m.lower, m.quantities).size)
                and self.promised.hold(model)
            )
        return np.array(covered, dtype=np.bool_), np.array(margins)


def build_cells(
    run: TaskValues, sampled: SampledTasks, safe: FloatArray, margin: float | None, strict: bool, policies: int | None,
    kernel_entries: int,
) -> FinishedCells:  # fmt: skip
    """Cells from sampled tasks.

    Args:
        run: measures tasks.
        sampled: T tasks.
        safe: (S, A) the safe policy.
        margin: ``xi``, ``None``: what every cell guarantees.
        strict: raise where the safe policy keeps no margin in a sampled task.
        policies: size of the library besides the safe policy, ``None``: one per cell.
        kernel_entries: kernel boxes are kept up to this size of the joint support.

    Raises:
        AssumptionError: see ``strict``; or no sampled task can be in a cell.
    """
    family, cover = run.family, sampled.cover
    parameters, models = sampled.tasks.parameters, sampled.tasks.models
    plan = plan_of(models)
    alive = [
        k
        for k, c in enumerate(cover.centers)
        if sampled.optima[c].feasible and keeps_margin(_margin(plan, models[c], safe), margin)
    ]
    if not alive:
        raise AssumptionError(
            f"no sampled task of {family.name} is feasible together with the safe policy; raise the cost limits or bring another one",
            code="SF-ASSUMPTION-INFEASIBLE",
        )
    centers = cover.centers[alive]
    if sampled.library is None:
        chosen, owner = _library(cover.to_centers[np.ix_(centers, np.asarray(alive))], policies)
        library = centers[chosen]
    else:
        # One cell: the policy of its centre's nearest task.
        library = sampled.library
        near = np.abs(parameters[library] - parameters[centers[0]]).sum(axis=1).argmin() if library.size else -1
        owner = np.array([near], dtype=np.int64)
    tables = np.stack([safe, *run.library(sampled.tasks, sampled.optima, library)])
    layout = _layout(models, tables, kernel_entries, plan)
    boxes, assignment = Boxes(len(centers), layout), cover.to_centers[:, alive].argmin(axis=1)
    offenders = []
    for k, m in enumerate(run.measure(sampled.tasks, "evaluating policies", tables, layout, sampled.optima)):
        if not run.accepts(m):
            offenders.append(Offender.of(parameters[k], m))
            continue
        boxes.include(int(assignment[k]), m.lower, m.quantities)
        if centers[assignment[k]] == k:
            boxes.center[assignment[k]] = m.quantities
    if offenders and strict:
        raise refusal(family, offenders)
    offenders += _extend(run, boxes, layout, parameters, assignment, tables)
    boxes.inflate(INFLATION)
    corners = corner_tasks(np.asarray(family.support, dtype=np.float64), CORNER_PARAMETERS)
    if len(corners):
        label = "checking the support"
        tried = run.measure(run.build(corners, label), label, tables, layout, None)
        offenders += [Offender.of(point, m) for point, m in zip(corners, tried) if not run.accepts(m)]
    kept = float((family.criterion.cost_limits - layout.split(boxes.upper)[0][:, 0, 1:]).min(initial=np.inf))
    return FinishedCells(
        boxes=boxes,
        layout=layout,
        tables=tables,
        policy_index=1 + owner,
        parameters=parameters[centers],
        outside=_outside(family, parameters, tables, layout),
        promised=Promised.of(models, family.criterion.cost_limits),
        assumption=assumption_report(family, parameters, offenders, kept, margin),
    )


def _library(distances: FloatArray, policies: int | None) -> tuple[IntArray, IntArray]:
    """Which of N cells' centres lend their optimal policies to the library, and for each cell the position of its policy there.

    Mixtures interpolate between neighbouring policies, so a library much smaller than the number of cells loses little.
    """
    if policies is None or policies >= len(distances):
        everyone = np.arange(len(distances))
        return everyone, everyone
    cover = sized_cover(distances, policies)
    return cover.centers, cover.to_centers.argmin(axis=1)


def _margin(plan: Elimination | None, cmdp: TabularCMDP, table: FloatArray) -> float:
    values = planned_values(plan, cmdp, table[None])[0] @ cmdp.start
    return float((cmdp.cost_limits - values[1:]).min(initial=np.inf))


def _layout(models: list[TabularCMDP], tables: FloatArray, kernel_entries: int, plan: Elimination | None) -> Layout:
    states = np.flatnonzero(np.any([m.start > 0.0 for m in models], axis=0))
    keys = joint_support(models)
    return Layout(
        n_policies=len(tables),
        n_constraints=models[0].n_constraints,
        n_states=models[0].n_states,
        n_actions=models[0].n_actions,
        states=states if states.size <= CONDITIONAL_STATES else states[:0],
        keys=keys if keys.size <= kernel_entries else keys[:0],
        plan=plan,
    )


def _extend(
    run: TaskValues, boxes: Boxes, layout: Layout, parameters: FloatArray, assignment: IntArray, tables: FloatArray
) -> list[Offender]:
    """Add interpolated and extrapolated tasks to the boxes; those that break the assumption are returned instead."""
    interpolated, owners = interpolated_tasks(parameters, assignment)
    extrapolated, hosts = extrapolated_tasks(parameters, assignment, np.asarray(run.family.support, dtype=np.float64))
    added = np.concatenate([interpolated, extrapolated])
    cells = np.concatenate([owners, np.stack([hosts, hosts], axis=1)])
    offenders = []
    label = "closing gaps"
    measured = run.measure(run.build(added, label), label, tables, layout, None)
    for point, m, pair in zip(added, measured, cells):
        if not run.accepts(m):
            offenders.append(Offender.of(point, m))
        elif m.inside_support:
            for cell in set(pair.tolist()):
                boxes.include(cell, m.lower, m.quantities)
    return offenders


def _outside(family: TabularFamily, parameters: FloatArray, tables: FloatArray, layout: Layout) -> OutsideTasks:
    """Tasks beyond the sample.

    On each side of every parameter a coarse net reaches out as far as the sample is wide. Points that the family cannot make, or whose
    kernels leave the support, are left out.
    """
    low, high = parameters.min(axis=0), parameters.max(axis=0)
    points, vectors = [], []
    steps = np.arange(1, OUTSIDE + 1) / OUTSIDE
    for axis in range(parameters.shape[1]):
        reach = (high[axis] - low[axis]) * steps
        for value in np.concatenate([low[axis] - reach, high[axis] + reach]):
            point = np.median(parameters, axis=0)
            point[axis] = value
            try:
                quantities, inside = layout.quantities(family.cmdp(point), tables, 0.0)
            except InvalidInput:
                continue
            if inside:
                points.append(point)
                vectors.append(quantities)
    shape = (len(points), parameters.shape[1])
    return layout.outside(np.asarray(points).reshape(shape), np.asarray(vectors).reshape(shape[0], sum(layout.sizes)))
