"""From simulated values of tasks to finished cells.

A cell is the hull of the *intervals* of its members, extended by the tasks between neighbouring cells and by those beyond the sample (as the cells
of tabular tasks are), and widened by a share of the largest interval seen, so that the interval of a fresh task of the cell fits as well.

Letters: T tasks, p parameters, N cells, J policies, I constraints, X signals, Q = 1+I+X.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_integer
from surefoot.errors import AssumptionError, InvalidInput
from surefoot.gym.assumption import Offenders
from surefoot.gym.family import GymFamily
from surefoot.gym.simulated import CORNER_PARAMETERS, SLACK, DrawnTasks, SimulatedValues
from surefoot.gym.values import Estimates
from surefoot.policyset.schema import Cells, OutsideTasks, Predictions, SignalPredictions
from surefoot.training.boxes import INFLATION, Boxes, corner_tasks
from surefoot.training.cells import interpolated_tasks
from surefoot.training.choice import CoverageTarget, folds
from surefoot.training.cover import Cover, sized_cover
from surefoot.training.coverage import CoverageOracle, ParameterDistance
from surefoot.training.holdout import Parts, training_report

__all__ = ["FinishedCells", "IntervalLayout", "build_cells"]


@dataclass(frozen=True, eq=False)
class IntervalLayout:
    """Boxes of simulated intervals (J, Q): return, costs and signals of every policy.

    Attributes:
        padding: (J, Q) by which every box is widened besides its share.
        low, high: (Q,) ranges of an episode's outcomes.
    """

    padding: FloatArray
    low: FloatArray
    high: FloatArray
    upper_only: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """(J, Q)."""
        return self.padding.shape

    def slack(self, lower: FloatArray, upper: FloatArray) -> FloatArray:
        """The padding, whatever the hulls are."""
        return self.padding

    def ranges(self, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Of the outcomes, whatever the hulls are."""
        return self.low, self.high


@dataclass(frozen=True, eq=False)
class FinishedCells:
    """What is frozen before the hold-out is drawn, and how fresh tasks are judged by it."""

    parts: Parts
    boxes: Boxes

    def covers(self, values: Estimates, margins: FloatArray) -> Any:
        """(T,) whether all intervals of a task lie inside one cell, and the safe policy surely keeps the margin there."""
        return _inside(self.boxes, values) & (margins >= self.parts.assumption.safe_margin)


def _inside(boxes: Boxes, values: Estimates) -> Any:
    """(T,) whether all intervals of a task lie inside one of the boxes."""
    found = [bool(boxes.consistent(low, high).size) for low, high in zip(values.lower, values.upper)]
    return np.array(found, dtype=np.bool_)


def build_cells(
    run: SimulatedValues,
    drawn: DrawnTasks,
    everything: Estimates,
    *,
    cover: CoverageOracle | str,
    cells: int | Literal["auto"],
    target: CoverageTarget,
    seams: str,
    policy_for_cell: Callable[[FloatArray], int] | None,
    strict: bool,
) -> FinishedCells:
    """Cells from values at all drawn tasks.

    Args:
        run: simulates what is missing.
        drawn: tasks.
        everything: their values.
        cover, cells, seams, policy_for_cell, strict: as in :func:`surefoot.gym.pipeline.train_simulated`.
        target: of the hold-out, for ``cells="auto"``.

    Raises:
        AssumptionError: the safe policy is not shown to be feasible in all sampled tasks (``strict``), or in none at all; or no number of cells would
            pass the hold-out.
        InvalidInput: ``cover`` or ``policy_for_cell`` are none.
    """
    n, offenders = len(drawn.tasks), Offenders(run)
    maker = _Maker(run, drawn, everything, cover, offenders, strict)
    choice = target.choose(maker.missed, n) if cells == "auto" else None
    size: Any = cells if choice is None else choice.cells
    found, boxes = maker.make(size, np.arange(maker.good.size), seams, offenders)
    _try_corners(run, offenders)
    centers = maker.good[found.centers]
    outside = _outside(run, drawn, maker.far)
    parts = Parts(
        policies=run.policies,
        cells=_cells(run, boxes, drawn.tasks[centers], maker.values.take(centers), policy_for_cell, outside),
        bounds=run.family.episode_bounds,
        report=training_report(run.family, maker.oracle, found, tasks=n, rejected=n - maker.good.size),
        assumption=offenders.report(*_margin(run, boxes, strict)),
        choice=choice,
    )
    return FinishedCells(parts, boxes)


class _Maker:
    """Makes cells of any number from any part of the tasks; values are simulated once."""

    def __init__(
        self, run: SimulatedValues, drawn: DrawnTasks, everything: Estimates, oracle: CoverageOracle | str, offenders: Offenders, strict: bool
    ) -> None:  # fmt: skip
        n, g = len(drawn.tasks), len(drawn.extrapolated)
        self.run, self.drawn = run, drawn
        self.values, self.extrapolated, self.far = (
            everything.take(part) for part in (slice(0, n), slice(n, n + g), slice(n + g, None))
        )
        self.margins = run.margins(self.values)
        self.good = np.flatnonzero(run.admits(self.values))
        offenders.add(drawn.tasks, self.values)
        if offenders.found and (strict or not self.good.size):
            raise offenders.refusal(self.values)
        self.oracle, self.distances = _distances(
            run.family, oracle, drawn.tasks[self.good], self.values.take(self.good)
        )
        self.layout = IntervalLayout(SLACK * everything.widths[: n + g].max(axis=0), *run.family.ranges())

    def make(self, n_cells: int, kept: IntArray, seams: str, noted: Offenders) -> tuple[Cover, Boxes]:
        """At most so many cells from the tasks ``good[kept]``."""
        found, members = sized_cover(self.distances[np.ix_(kept, kept)], n_cells), self.good[kept]
        assignment = np.full(len(self.drawn.tasks), -1)
        assignment[members] = found.to_centers.argmin(axis=1)
        boxes = Boxes(len(found.centers), self.layout)
        for t in members:
            boxes.include(int(assignment[t]), self.values.lower[t], self.values.upper[t])
        _extend(self.run, boxes, self.drawn, assignment, members, self.values, self.extrapolated, seams, noted)
        boxes.inflate(INFLATION)
        return found, boxes

    def missed(self, n_cells: int) -> int:
        """Of all tasks, left out once each, those in no cell made from the others, tasks left out lend no extrapolated tasks."""
        good, total = self.good, len(self.drawn.tasks) - self.good.size
        for out in folds(good.size):
            kept = np.setdiff1d(np.arange(good.size), out)
            _, boxes = self.make(n_cells, kept, "interpolate", Offenders(self.run))
            inside = _inside(boxes, self.values.take(good[out]))
            total += int((~(inside & (self.margins[good[out]] >= _margin(self.run, boxes, False)[0]))).sum())
        return total


def _distances(
    family: GymFamily, oracle: CoverageOracle | str, parameters: FloatArray, values: Estimates
) -> tuple[str, FloatArray]:
    if oracle == "values":
        scale = values.widths.max(axis=0)
        unit = (values.mean / np.where(scale > 0.0, scale, 1.0)).reshape(len(parameters), -1)
        return "simulated values, in interval widths", np.stack([np.abs(unit - row).max(axis=1) for row in unit])
    if oracle == "parameters":
        spread = parameters.std(axis=0)
        oracle = ParameterDistance(np.where(spread > 0.0, spread, 1.0), "parameter distance, in standard deviations")
    if isinstance(oracle, str):
        raise InvalidInput(
            f"cover must be values, parameters or a coverage oracle, got {oracle!r}; choose one",
            code="SF-ARGUMENT-CHOICE",
        )
    return oracle.name, oracle.distances(family, parameters, parameters)


def _extend(
    run: SimulatedValues,
    boxes: Boxes,
    drawn: DrawnTasks,
    assignment: IntArray,
    good: IntArray,
    values: Estimates,
    extrapolated: Estimates,
    seams: str,
    offenders: Offenders,
) -> None:
    """Add interpolated and extrapolated tasks to the boxes."""
    middles, ends = interpolated_tasks(drawn.tasks[good], np.arange(good.size))
    ends = good[ends]
    apart = assignment[ends[:, 0]] != assignment[ends[:, 1]]
    middles, ends = middles[apart], ends[apart]
    if seams == "simulate" and len(middles):
        found = run.estimate(middles, 3, "closing gaps")
        lower, upper, fine = found.lower, found.upper, run.admits(found)
        offenders.add(middles, found)
    else:
        lower, upper = (0.5 * (part[ends[:, 0]] + part[ends[:, 1]]) for part in (values.lower, values.upper))
        fine = np.ones(len(middles), dtype=np.bool_)
    for k in np.flatnonzero(fine):
        for cell in set(assignment[ends[k]].tolist()):
            boxes.include(cell, lower[k], upper[k])
    offenders.add(drawn.extrapolated, extrapolated)
    for k in np.flatnonzero(run.admits(extrapolated) & (assignment[drawn.hosts] >= 0)):
        boxes.include(int(assignment[drawn.hosts[k]]), extrapolated.lower[k], extrapolated.upper[k])


def _try_corners(run: SimulatedValues, offenders: Offenders) -> None:
    """Try the safe policy at the corners of the support, where it is most likely to fail; costs of shared episodes are the same everywhere."""
    points = corner_tasks(run.family.support, CORNER_PARAMETERS)
    if len(points) and not run.family.shared:
        offenders.add(points, run.estimate(points, 4, "checking the support", run.policies[:1]))


def _margin(run: SimulatedValues, boxes: Boxes, strict: bool) -> tuple[float, float]:
    """``xi``: what every cell guarantees for the safe policy, unless the user stated a margin; and what every cell guarantees."""
    kept = float((run.limits - boxes.upper[:, 0, 1 : 1 + run.limits.size]).min(initial=np.inf))
    if not np.isfinite(kept):
        return float(run.margin or 0.0), kept
    if kept <= 0.0 and strict and run.boxes:
        raise AssumptionError(
            f"the safe policy must keep a margin in every cell, got {kept:.4g} in the widest one of {run.family.name}; raise max_episodes, narrow "
            "widths, use more cells, or bring a safer policy",
            code="SF-ASSUMPTION-WIDEST",
        )
    return (kept if run.margin is None else run.margin), kept


def _cells(
    run: SimulatedValues,
    boxes: Boxes,
    parameters: FloatArray,
    center: Estimates,
    policy_for_cell: Callable[[FloatArray], int] | None,
    outside: OutsideTasks | None,
) -> Cells:
    """The finished cells in the policy set's schema."""
    i, limits = 1 + run.limits.size, run.limits
    mean = np.clip(center.mean, boxes.lower, boxes.upper)
    signals = run.family.signals
    return Cells(
        policy_index=_policy_index(run, parameters, center, policy_for_cell),
        optimal_center=np.array([_best_mixture(m[:, 0], m[:, 1:i], limits) for m in mean]),
        optimal_upper=np.array([_best_mixture(u[:, 0], l[:, 1:i], limits) for u, l in zip(boxes.upper, boxes.lower)]),
        parameters=parameters,
        predictions=Predictions(
            reward_lower=boxes.lower[:, :, 0],
            reward_upper=boxes.upper[:, :, 0],
            cost_lower=boxes.lower[:, :, 1:i],
            cost_upper=boxes.upper[:, :, 1:i],
            reward_center=mean[:, :, 0],
            cost_center=mean[:, :, 1:i],
        ),
        signals=SignalPredictions(
            names=tuple(s.name for s in signals),
            bounds=np.array([[s.low, s.high] for s in signals]),
            lower=boxes.lower[:, :, i:],
            upper=boxes.upper[:, :, i:],
        )
        if signals
        else None,
        outside=outside,
    )


def _policy_index(
    run: SimulatedValues, parameters: FloatArray, center: Estimates, choose: Callable[[FloatArray], int] | None
) -> IntArray:
    """(N,) the policy that each cell is explored towards."""
    if choose is not None:
        picked = [check_integer("policy_for_cell", choose(p), low=0, high=len(run.policies) - 1) for p in parameters]
        return np.asarray(picked, dtype=np.int64)
    i = 1 + run.limits.size
    above = (center.upper[:, :, 1:i] > run.limits).any(axis=2)
    reward = np.where(above, -np.inf, center.lower[:, :, 0])
    # Where nothing is surely within the limits the first wins, and that is the safe policy.
    return np.asarray(reward.argmax(axis=1), dtype=np.int64)


def _best_mixture(reward: FloatArray, cost: FloatArray, limits: FloatArray) -> float:
    """Largest reward (J,) of a mixture with expected costs (J, I) within the limits; of any mixture where none is."""
    from scipy.optimize import linprog

    if limits.size:
        found = linprog(-reward, A_ub=cost.T, b_ub=limits, A_eq=np.ones((1, reward.size)), b_eq=[1.0])
        if found.status == 0:
            return float(-found.fun)
    return float(reward.max())


def _outside(run: SimulatedValues, drawn: DrawnTasks, far: Estimates) -> OutsideTasks | None:
    if not len(drawn.outside):
        return None
    n, i = len(drawn.outside), 1 + run.limits.size
    j = len(run.policies)
    return OutsideTasks(
        parameters=drawn.outside,
        reward=far.mean[:, :, 0],
        cost=far.mean[:, :, 1:i],
        reward_by_state=np.zeros((n, j, 0)),
        cost_by_state=np.zeros((n, j, i - 1, 0)),
        kernel=np.zeros((n, 0)),
    )
