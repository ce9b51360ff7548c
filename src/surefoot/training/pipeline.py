"""From a task family to a policy set (Ni & Kamgarpour 2026, Algorithm 1, with cells and a hold-out certificate).

    sample -> optimum of each task (O_l) -> cover (O_c, Subroutine 3) -> safe policy (O_s) -> cross-evaluation -> cells
           -> frozen -> fresh hold-out -> certificate

Random streams: the training sample is spawned from the seed, the hold-out from the seed, a fingerprint of what is frozen and the number of the look
(:mod:`surefoot.policyset.lineage`); results do not depend on the number of workers.

Letters: T tasks, p parameters, S states, A actions, I constraints, J policies, N cells, Q quantities.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_integer, check_real, magnitude
from surefoot.cmdp.evaluate import ceilings, evaluate_many
from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import AssumptionError, InvalidInput
from surefoot.parallel import map_tasks
from surefoot.policy import TabularPolicy
from surefoot.policyset.lineage import fingerprint, holdout_stream, look_share, looks_after, looks_paid
from surefoot.policyset.schema import (
    AssumptionReport,
    Certificate,
    EpisodeBounds,
    OutsideTasks,
    PolicySet,
    TrainingReport,
)
from surefoot.stats.binomial import clopper_pearson_upper
from surefoot.stats.ledger import Ledger
from surefoot.tasks.family import TabularFamily
from surefoot.training.assumption import Offender, assumption_report, refusal
from surefoot.training.cells import Boxes, Layout, extrapolated_tasks, interpolated_tasks
from surefoot.training.choice import checked_cells, choose_cells, folds
from surefoot.training.cover import Cover, greedy_cover, proved_level, sized_cover, subroutine3
from surefoot.training.coverage import CMDPDistance, CoverageOracle, joint_support, kernel_rows
from surefoot.training.optimal import ExactOptimal, OptimalOracle, OptimalPolicy
from surefoot.training.safe import GivenPolicy, SafeOracle, WorstCaseSafe
from surefoot.version import VERSION

__all__ = ["train"]

Result = TypeVar("Result")

CHUNK = 25
INFLATION = 0.02
CONDITIONAL_STATES = 256
"""Predictions are kept per initial state when there are at most this many."""
KERNEL_ENTRIES = 200_000
"""By default kernel boxes are kept when the joint support has at most this many entries."""
CORNER_PARAMETERS = 6
START_CELLS = 30
OUTSIDE = 8
"""Tasks beyond the family per parameter and side."""


def train(
    family: TabularFamily,
    *,
    tasks: int | None = 500,
    holdout: int = 200,
    cells: int | Literal["auto"] = 30,
    policies: int | None = None,
    delta: float = 0.05,
    p_max: float = 0.05,
    seed: int = 0,
    radius: float | None = None,
    coverage: CoverageOracle | None = None,
    optimal: OptimalOracle | None = None,
    safe: SafeOracle | None = None,
    safe_policy: Any = None,
    margin: float | None = None,
    previous: PolicySet | None = None,
    strict: bool = True,
    kernel_entries: int | None = None,
    workers: int = 1,
    progress: bool = True,
) -> PolicySet:
    """Train a policy set.

    Args:
        family: the distribution over tasks.
        tasks: number of fresh training tasks. ``None`` runs Subroutine 3 of the paper: start at ``ln(delta)^2 / delta^2`` and double
            until it accepts, which needs ``radius``.
        holdout: fresh tasks that judge the finished cells; 0 leaves the set without a certificate.
        cells: largest number of cells; the radius of the cover is chosen to fit. Ignored when ``radius`` is given. ``"auto"`` takes the largest
            number that the training tasks support (:mod:`surefoot.training.choice`): cells from a part of the tasks have to cover the rest well
            enough for the hold-out to show ``p_max``.
        policies: size of the library besides the safe policy; by default one policy per cell. Cells sharpen the evidence and cost little,
            policies cost an evaluation on every task.
        delta: error probability of the hold-out certificate over all looks, and the ``delta`` of Subroutine 3 when ``tasks`` is ``None``. Look a
            pays ``delta / 2^a``: half of that for coverage, half for the safe policy's margin.
        p_max: for ``cells="auto"`` only: the uncovered share that the agent is to accept; give the agent the same.
        seed: of everything random.
        radius: ``eps`` of the cover, in the units of the coverage oracle.
        coverage, optimal, safe: the oracles ``O_c``, ``O_l``, ``O_s``; by default the CMDP distance, the exact linear program, and the
            family's own safe policy or, without one, the worst-case search.
        safe_policy: (S, A) the controller you run today; it becomes ``pi_s`` after verification.
        margin: ``xi``. By default the largest margin that every cell guarantees.
        previous: the policy set whose hold-out you saw last, if you train again because of what it (or one before it) showed: the new hold-out is
            then counted as the next look. Leave it out only for the first look at a family: looks that are not handed on are not paid for.
        strict: raise when the assumption of one simultaneously feasible policy fails on a sampled task; otherwise leave such tasks out of
            every cell, count them as uncovered, and report them.
        kernel_entries: cells keep an interval for every transition that some sampled task makes, if there are at most this many; by default
            200 000. Without them files are smaller and reported transitions are no evidence.
        workers: processes that share the tasks.
        progress: draw a progress bar where that makes sense.

    Raises:
        InvalidInput: an argument out of range.
        AssumptionError: no policy is feasible with margin for all sampled tasks (``strict``), or for none at all; or no number of cells would pass
            the hold-out (``cells="auto"``).
    """
    holdout = check_integer("holdout", holdout, low=0)
    cells = checked_cells(cells, holdout)
    if cells == "auto" and (tasks is None or radius is not None):
        raise InvalidInput(
            'cells must be a number where radius or tasks=None decides on the cover, got "auto"; leave radius out'
        )
    if policies is not None:
        policies = check_integer("policies", policies, low=1)
    seed = check_integer("seed", seed, low=0)
    workers = check_integer("workers", workers, low=1)
    delta = check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
    p_max = check_real("p_max", p_max, low=0.0, high=1.0, open_low=True, open_high=True)
    if margin is not None:
        margin = check_real("margin", margin, low=0.0, open_low=True)
    kept = KERNEL_ENTRIES if kernel_entries is None else check_integer("kernel_entries", kernel_entries, low=0)
    looks, lineage_known = looks_after(previous, family.name)
    run = _Run(family, optimal, margin, workers, progress)
    sample_rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    oracle, choice = coverage or CMDPDistance(), None
    # Where the number of cells is to be chosen, a cover of any size serves until it is.
    first = START_CELLS if cells == "auto" else cells
    parameters, cover, distances, rounds = _cover(family, oracle, tasks, first, radius, delta, sample_rng)
    optima = run.solve(parameters, "solving tasks")
    chosen = _safe_policy(family, safe, safe_policy, parameters[cover.centers], margin)
    if cells == "auto":
        assert distances is not None
        paid = delta * look_share(1 + len(looks)) / 2
        choice = choose_cells(
            _LeftOut(run, parameters, distances, optima, chosen, margin, policies, kept),
            tasks=len(parameters), holdout=holdout, level=paid, p_max=p_max,
            upper=lambda k: clopper_pearson_upper(k, holdout, paid),
        )  # fmt: skip
        cover = sized_cover(distances, choice.cells)
    report = _cover_report(family, oracle, parameters, cover, rounds)
    sampled = _Sampled(parameters, optima, cover)
    outcome = _build_cells(run, sampled, chosen, margin, strict, policies, kept)
    frozen = PolicySet(
        criterion=family.criterion,
        policies=tuple(TabularPolicy(t) for t in outcome.tables),
        cells=outcome.boxes.freeze(outcome.policy_index, outcome.parameters, outcome.outside),
        bounds=outcome.promised.bounds,
        certificate=None,
        training=report,
        assumption=outcome.assumption,
        ledger=looks_paid(delta, 1 + len(looks)),
        seed=seed,
        version=VERSION,
        extra={} if choice is None else {"cells": choice.data()},
        looks=looks,
        lineage_known=lineage_known,
    )
    if holdout == 0:
        return frozen
    fresh = holdout_stream(seed, fingerprint(frozen), frozen.attempt)
    certificate, ledger = _certify(run, outcome, holdout, frozen, fresh)
    return replace(frozen, certificate=certificate, ledger=ledger)


@dataclass(frozen=True, eq=False)
class _Sampled:
    """Training tasks, their optima and their cover."""

    parameters: FloatArray
    optima: list[OptimalPolicy]
    cover: Cover


@dataclass(frozen=True, eq=False)
class _Outcome:
    """Everything that is frozen before the hold-out is drawn."""

    boxes: Boxes
    tables: FloatArray
    policy_index: IntArray
    parameters: FloatArray
    outside: OutsideTasks
    promised: _Promised
    assumption: AssumptionReport


@dataclass(frozen=True, eq=False)
class _Measured:
    """Quantities of one task."""

    quantities: FloatArray
    inside_support: bool
    feasible: bool
    safe_margin: float
    optimum_costs: FloatArray


class _Run:
    """Per-task work, in fixed chunks that may go to several processes."""

    def __init__(
        self, family: TabularFamily, optimal: OptimalOracle | None, margin: float | None, workers: int, progress: bool
    ) -> None:
        self.family, self.margin, self.workers, self.progress = family, margin, workers, progress
        self.optimal = optimal
        self.anchor: TabularCMDP | None = None

    def accepts(self, measured: _Measured) -> bool:
        """Whether the method's assumption holds for a task: some margin, and no less than the one the user stated."""
        return measured.feasible and _enough(measured.safe_margin, self.margin)

    def solve(self, parameters: FloatArray, label: str) -> list[OptimalPolicy]:
        """The optimum of every task; the median task anchors the solver."""
        if self.optimal is None:
            middle = np.median(parameters, axis=0)
            closest = int(np.abs(parameters - middle).sum(axis=1).argmin())
            self.anchor = self.family.cmdp(parameters[closest])
        return self._map(_solve_chunk, parameters, label, self.optimal, self.anchor)

    def remembering(self, parameters: FloatArray, optima: list[OptimalPolicy]) -> _Run:
        """A run that solves no task twice and begins with these; it draws no bars."""
        return _Remembering(self, parameters, optima)

    def measure(
        self,
        parameters: FloatArray,
        label: str,
        tables: FloatArray,
        layout: Layout,
        optima: Sequence[OptimalPolicy] | None,
    ) -> list[_Measured]:
        """Quantities of every task; optima are solved for where they are not given."""
        known = self.solve(parameters, label) if optima is None else list(optima)
        chunks = [known[k : k + CHUNK] for k in range(0, len(known), CHUNK)]
        return self._map(_measure_chunk, parameters, label, tables, layout, extra=chunks)

    def _map(
        self, work: Callable[..., list[Result]], parameters: FloatArray, label: str, *shared: Any, extra: Any = None
    ) -> list[Result]:
        parts = [parameters[k : k + CHUNK] for k in range(0, len(parameters), CHUNK)]
        calls = [(self.family, part, *shared, *(() if extra is None else (extra[k],))) for k, part in enumerate(parts)]
        results = map_tasks(work, calls, workers=self.workers, label=label, progress=self.progress)
        return list(itertools.chain.from_iterable(results))


class _Remembering(_Run):
    """See :meth:`_Run.remembering`."""

    def __init__(self, run: _Run, parameters: FloatArray, optima: list[OptimalPolicy]) -> None:
        super().__init__(run.family, run.optimal, run.margin, run.workers, False)
        self.anchor = run.anchor
        self._known = {point.tobytes(): optimum for point, optimum in zip(parameters, optima)}

    def solve(self, parameters: FloatArray, label: str) -> list[OptimalPolicy]:
        """As :meth:`_Run.solve`."""
        keys = [point.tobytes() for point in parameters]
        new = [k for k, key in enumerate(keys) if key not in self._known]
        if new:
            found = self._map(_solve_chunk, parameters[new], label, self.optimal, self.anchor)
            self._known.update((keys[k], optimum) for k, optimum in zip(new, found))
        return [self._known[key] for key in keys]


def _solve_chunk(
    family: TabularFamily, parameters: FloatArray, optimal: OptimalOracle | None, anchor: TabularCMDP | None
) -> list[OptimalPolicy]:
    oracle = ExactOptimal(anchor) if optimal is None else optimal
    return [oracle.solve(_task(family, p)) for p in parameters]


def _task(family: TabularFamily, parameters: FloatArray) -> TabularCMDP:
    """A task that keeps what the family's criterion promises: ceilings and ranges of deployment rest on it.

    Raises:
        InvalidInput: another discount, other limits, or rewards and costs outside the declared ranges.
    """
    cmdp, criterion = family.cmdp(parameters), family.criterion
    room = 1e-9 * magnitude(criterion.cost_bounds)[:, None, None]
    low, high = criterion.reward_bounds
    rules = {
        "discount": (cmdp.discount == criterion.discount, f"{criterion.discount:g}", f"{cmdp.discount:g}"),
        "cost_limits": (
            np.array_equal(cmdp.cost_limits, criterion.cost_limits),
            str(criterion.cost_limits.tolist()),
            str(cmdp.cost_limits.tolist()),
        ),
        "rewards": (
            bool(
                cmdp.rewards.min() >= low - 1e-9 * magnitude(max(abs(low), abs(high)))
                and cmdp.rewards.max() <= high + 1e-9 * magnitude(max(abs(low), abs(high)))
            ),
            f"within reward_bounds ({low:g}, {high:g})",
            f"{cmdp.rewards.min():g}..{cmdp.rewards.max():g}",
        ),
        "costs": (
            cmdp.n_constraints == criterion.n_constraints
            and bool((cmdp.costs <= criterion.cost_bounds[:, None, None] + room).all()),
            f"at most cost_bounds {criterion.cost_bounds.tolist()}",
            str(cmdp.costs.max(axis=(1, 2), initial=0.0).tolist()),
        ),
        "horizon": (criterion.horizon is None, "None for a tabular family", str(criterion.horizon)),
    }
    for name, (kept, wanted, got) in rules.items():
        if not kept:
            raise InvalidInput(
                f"{name} of the task at {np.asarray(parameters).tolist()} must be {wanted}, as the criterion of {family.name} says, got {got}; "
                "make criterion and cmdp() agree"
            )
    return cmdp


def _measure_chunk(
    family: TabularFamily, parameters: FloatArray, tables: FloatArray, layout: Layout, optima: list[OptimalPolicy]
) -> list[_Measured]:
    measured = []
    for point, optimum in zip(parameters, optima):
        cmdp = _task(family, point)
        quantities, inside = layout.quantities(cmdp, tables, optimum.bound)
        safe_costs = quantities[1 : 1 + layout.n_constraints]
        margin = float((cmdp.cost_limits - safe_costs).min(initial=np.inf))
        measured.append(_Measured(quantities, inside, optimum.feasible, margin, optimum.costs))
    return measured


def _cover(
    family: TabularFamily,
    oracle: CoverageOracle,
    tasks: int | None,
    cells: int,
    radius: float | None,
    delta: float,
    rng: np.random.Generator,
) -> tuple[FloatArray, Cover, FloatArray | None, int]:
    """Sampled tasks (T, p), their cover, their distances (T, T) where the sample was not doubled, and how many samples were drawn."""
    if tasks is None:
        if radius is None:
            raise InvalidInput("radius must be given when tasks is None, got None; pass the radius of the cover")
        parameters, _, cover, rounds = subroutine3(family, oracle, radius=radius, delta=delta, rng=rng)
        return parameters, cover, None, rounds
    parameters = _sample(family, check_integer("tasks", tasks, low=2), rng)
    distances = oracle.distances(family, parameters, parameters)
    if radius is None:
        return parameters, sized_cover(distances, cells), distances, 1
    cover = greedy_cover(distances, check_real("radius", radius, low=0.0, open_low=True))
    return parameters, cover, distances, 1


def _cover_report(
    family: TabularFamily, oracle: CoverageOracle, parameters: FloatArray, cover: Cover, rounds: int
) -> TrainingReport:
    n = len(parameters)
    return TrainingReport(
        family=family.name,
        parameter_names=tuple(family.parameter_names),
        oracle=oracle.name,
        radius=float(cover.radius),
        tasks_sampled=n,
        rounds=rounds,
        uncovered_fraction=cover.uncovered / n,
        level=proved_level(n, len(cover.centers), cover.uncovered),
    )


class _LeftOut:
    """How many training tasks lie in no cell made from the others, fold by fold; nothing is solved twice."""

    def __init__(
        self, run: _Run, parameters: FloatArray, distances: FloatArray, optima: list[OptimalPolicy], safe: FloatArray,
        margin: float | None, policies: int | None, kernel_entries: int,
    ) -> None:  # fmt: skip
        self._run, self._parameters, self._distances, self._optima = (
            run.remembering(parameters, optima),
            parameters,
            distances,
            optima,
        )
        self._build = partial(
            _build_cells, safe=safe, margin=margin, strict=False, policies=policies, kernel_entries=kernel_entries
        )

    def __call__(self, n_cells: int) -> int:
        """Misses over all folds with at most ``n_cells`` cells."""
        return sum(self._missed(n_cells, out) for out in folds(len(self._parameters)))

    def _missed(self, n_cells: int, out: IntArray) -> int:
        kept = np.setdiff1d(np.arange(len(self._parameters)), out)
        cover = sized_cover(self._distances[np.ix_(kept, kept)], n_cells)
        sampled = _Sampled(self._parameters[kept], [self._optima[k] for k in kept], cover)
        try:
            outcome = self._build(self._run, sampled)
        except AssumptionError:
            return out.size
        covered = _covered(self._run, outcome, self._parameters[out], "choosing the number of cells")[0]
        return covered.count(False)


def _sample(family: TabularFamily, n: int, rng: np.random.Generator) -> FloatArray:
    parameters = np.asarray(family.sample(n, rng), dtype=np.float64)
    if parameters.ndim != 2 or len(parameters) != n or not np.isfinite(parameters).all():
        raise InvalidInput(
            f"{family.name}.sample({n}) must return {n} rows of finite parameters, got shape {parameters.shape}; fix the family"
        )
    return parameters


def _safe_policy(
    family: TabularFamily, oracle: SafeOracle | None, given: Any, centers: FloatArray, margin: float | None
) -> FloatArray:
    tasks = [family.cmdp(p) for p in centers]
    own = getattr(family, "safe_policy", None)
    if oracle is None:
        table = given if given is not None else own() if own is not None else None
        oracle = WorstCaseSafe() if table is None else GivenPolicy(table)
    # Without a stated margin a tenth of the limit is asked for; what the cells then guarantee is measured, not assumed.
    wanted = 0.1 * float(family.criterion.cost_limits.min(initial=np.inf)) if margin is None else margin
    return oracle.find(tasks, wanted).policy


def _build_cells(
    run: _Run, sampled: _Sampled, safe: FloatArray, margin: float | None, strict: bool, policies: int | None,
    kernel_entries: int,
) -> _Outcome:  # fmt: skip
    family, cover, parameters = run.family, sampled.cover, sampled.parameters
    models = [family.cmdp(p) for p in parameters]
    alive = [
        k
        for k, c in enumerate(cover.centers)
        if sampled.optima[c].feasible and _enough(_margin(models[c], safe), margin)
    ]
    if not alive:
        raise AssumptionError(
            f"no sampled task of {family.name} is feasible together with the safe policy; raise the cost limits or bring another one"
        )
    centers = cover.centers[alive]
    library, owner = _library(cover.to_centers[np.ix_(centers, np.asarray(alive))], policies)
    tables = np.stack([safe, *(sampled.optima[c].policy for c in centers[library])])
    layout = _layout(models, tables, kernel_entries)
    measured = run.measure(parameters, "evaluating policies", tables, layout, sampled.optima)
    offenders = [Offender.of(parameters[k], m) for k, m in enumerate(measured) if not run.accepts(m)]
    if offenders and strict:
        raise AssumptionError(refusal(family, offenders))
    boxes, assignment = Boxes(len(centers), layout), cover.to_centers[:, alive].argmin(axis=1)
    for k, m in enumerate(measured):
        if run.accepts(m):
            boxes.include(int(assignment[k]), m.quantities, center=bool(centers[assignment[k]] == k))
    offenders += _extend(run, boxes, parameters, assignment, tables)
    boxes.inflate(INFLATION)
    offenders += [Offender.of(c, m) for c, m in _corners(run, tables, layout) if not run.accepts(m)]
    return _Outcome(
        boxes=boxes,
        tables=tables,
        policy_index=1 + owner,
        parameters=parameters[centers],
        outside=_outside(family, parameters, tables, layout),
        promised=_promised(models, family),
        assumption=assumption_report(family, parameters, offenders, _guaranteed_margin(boxes, family), margin),
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


def _enough(safe_margin: float, margin: float | None) -> bool:
    """Whether the safe policy keeps what was stated, and something where nothing was."""
    return safe_margin > 0.0 if margin is None else safe_margin >= margin


def _margin(cmdp: TabularCMDP, table: FloatArray) -> float:
    return float((cmdp.cost_limits - evaluate_many(cmdp, table)[0, 1:]).min(initial=np.inf))


def _layout(models: list[TabularCMDP], tables: FloatArray, kernel_entries: int) -> Layout:
    states = np.flatnonzero(np.any([m.start > 0.0 for m in models], axis=0))
    keys = joint_support(models)
    return Layout(
        n_policies=len(tables),
        n_constraints=models[0].n_constraints,
        n_states=models[0].n_states,
        n_actions=models[0].n_actions,
        states=states if states.size <= CONDITIONAL_STATES else states[:0],
        keys=keys if keys.size <= kernel_entries else keys[:0],
    )


def _extend(
    run: _Run, boxes: Boxes, parameters: FloatArray, assignment: IntArray, tables: FloatArray
) -> list[Offender]:
    """Add seam and ghost tasks to the boxes; those that break the assumption are returned instead."""
    interpolated, owners = interpolated_tasks(parameters, assignment)
    extrapolated, hosts = extrapolated_tasks(parameters, assignment, np.asarray(run.family.support, dtype=np.float64))
    added = np.concatenate([interpolated, extrapolated])
    cells = np.concatenate([owners, np.stack([hosts, hosts], axis=1)])
    offenders = []
    for point, m, pair in zip(added, run.measure(added, "closing gaps", tables, boxes.layout, None), cells):
        if not run.accepts(m):
            offenders.append(Offender.of(point, m))
        elif m.inside_support:
            for cell in set(pair.tolist()):
                boxes.include(cell, m.quantities)
    return offenders


def _corners(run: _Run, tables: FloatArray, layout: Layout) -> list[tuple[FloatArray, _Measured]]:
    """The corners of the declared support, where the assumption is most likely to fail."""
    support = np.asarray(run.family.support, dtype=np.float64)
    if not np.isfinite(support).all() or len(support) > CORNER_PARAMETERS:
        return []
    points = np.asarray(list(itertools.product(*support)), dtype=np.float64)
    return list(zip(points, run.measure(points, "checking the support", tables, layout, None)))


def _guaranteed_margin(boxes: Boxes, family: TabularFamily) -> float:
    """What every cell guarantees for the safe policy."""
    values = boxes.layout.split(boxes.upper)[0]
    return float((family.criterion.cost_limits - values[:, 0, 1:]).min(initial=np.inf))


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


def _promised(models: list[TabularCMDP], family: TabularFamily) -> _Promised:
    """Over all sampled tasks: where episodes start and move, extreme signals, and what an episode can collect of them there."""
    from scipy.sparse import csr_matrix

    n_states, n_actions = models[0].rewards.shape
    keys = joint_support(models)
    rows, successors = np.divmod(keys, n_states)
    share = 1.0 / np.bincount(rows)
    kernel = csr_matrix((share[rows], (rows, successors)), shape=(n_states * n_actions, n_states))
    costs = np.max([m.costs for m in models], axis=0)
    starts = np.any([m.start > 0.0 for m in models], axis=0)
    limits = family.criterion.cost_limits
    rewards = np.stack([np.min([m.rewards for m in models], axis=0), np.max([m.rewards for m in models], axis=0)])
    ends = [ceilings(TabularCMDP(kernel, r, costs, limits, starts / starts.sum(), models[0].discount)) for r in rewards]
    bounds = EpisodeBounds(ends[0].return_lower, ends[1].return_upper, tuple(float(c) for c in ends[1].costs))
    return _Promised(starts, keys, rewards, costs, bounds)


@dataclass(frozen=True, eq=False)
class _Promised:
    """What every cell promises of its tasks beside its box: the range of an episode, and what that range was computed from.

    Ceilings, ranges of outcomes and impossible reports rest on it, whether or not kernel boxes are kept.

    Attributes:
        starts: (S,) whether an episode of some sampled task starts there.
        keys: (E,) the union of the supports of the kernels, ``(s A + a) S + s'``.
        rewards: (2, S, A) smallest and largest of the sampled tasks, entry by entry.
        costs: (I, S, A) largest.
        bounds: range of an episode with these signals from these starts on the union of the supports.
    """

    starts: np.ndarray[Any, np.dtype[np.bool_]]
    keys: IntArray
    rewards: FloatArray
    costs: FloatArray
    bounds: EpisodeBounds

    def hold(self, cmdp: TabularCMDP) -> bool:
        """Whether a task starts and moves only where sampled tasks do, and its episodes surely stay in the range."""
        if ((cmdp.start > 0.0) & ~self.starts).any() or not kernel_rows(cmdp, self.keys)[1]:
            return False
        inside = (cmdp.rewards >= self.rewards[0]) & (cmdp.rewards <= self.rewards[1])
        if inside.all() and (cmdp.costs <= self.costs).all():
            return True
        found, low, high = ceilings(cmdp), self.bounds.return_lower, self.bounds.return_upper
        room = 1e-9 * max(abs(low), abs(high))
        return bool(
            found.return_lower >= low - room
            and found.return_upper <= high + room
            and (found.costs <= np.asarray(self.bounds.cost_ceilings) * (1.0 + 1e-9)).all()
        )


def _certify(
    run: _Run, outcome: _Outcome, holdout: int, frozen: PolicySet, rng: np.random.Generator
) -> tuple[Certificate, Ledger]:
    """Judge the frozen cells and the frozen margin on fresh tasks, at the share that this look pays."""
    paid = frozen.ledger.total * look_share(frozen.attempt)
    covered, margins = _covered(run, outcome, _sample(run.family, holdout, rng), "certifying")
    uncovered, failures = covered.count(False), int((margins < outcome.assumption.safe_margin).sum())
    ledger = frozen.ledger.spend("coverage", paid / 2, "hold-out limit on the uncovered mass")
    ledger = ledger.spend("margin", paid / 2, "hold-out limit on tasks where the safe policy has less margin")
    certificate = Certificate(
        holdout=holdout,
        uncovered=uncovered,
        uncovered_upper=clopper_pearson_upper(uncovered, holdout, paid / 2),
        margin_failures=failures,
        margin_failure_upper=clopper_pearson_upper(failures, holdout, paid / 2),
        delta_coverage=paid,
    )
    return certificate, ledger


def _covered(run: _Run, outcome: _Outcome, parameters: FloatArray, label: str) -> tuple[list[bool], FloatArray]:
    """Whether each task lies in some cell, and what the safe policy keeps there: (T,)."""
    measured = run.measure(parameters, label, outcome.tables, outcome.boxes.layout, None)
    covered = [
        m.feasible
        and m.safe_margin >= outcome.assumption.safe_margin
        and bool(outcome.boxes.consistent(m.quantities).size)
        and outcome.promised.hold(run.family.cmdp(point))
        for point, m in zip(parameters, measured)
    ]
    return covered, np.array([m.safe_margin for m in measured])
