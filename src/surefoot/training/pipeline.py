"""From a task family to a policy set (Ni & Kamgarpour 2026, Algorithm 1, with cells and a hold-out certificate).

    sample -> optimum of each task (O_l) -> cover (O_c, Subroutine 3) -> safe policy (O_s) -> cross-evaluation -> cells
           -> frozen -> fresh hold-out -> certificate

Exact values of tasks come from :mod:`surefoot.training.values`, finished cells from :mod:`surefoot.training.assembly`; freezing, the hold-out and
the certificate (:mod:`surefoot.training.holdout`) are shared with :mod:`surefoot.gym.pipeline`, whose values are simulated.

Random streams: the training sample is spawned from the seed, the hold-out from the seed, a fingerprint of what is frozen and the number of the look
(:mod:`surefoot.policyset.lineage`); results do not depend on the number of workers.

Letters: T tasks, p parameters, S states, A actions, I constraints, J policies, N cells, Q quantities.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import numpy as np

from surefoot.arguments import check_family
from surefoot.arrays import FloatArray, IntArray, check_integer, check_real
from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import AssumptionError, InvalidInput
from surefoot.policy import TabularPolicy
from surefoot.policyset.schema import PolicySet
from surefoot.stats.ledger import Ledger
from surefoot.tasks.family import TabularFamily
from surefoot.training.assembly import SampledTasks, build_cells
from surefoot.training.belief import learn_belief
from surefoot.training.choice import CoverageTarget, checked_cells, folds
from surefoot.training.cover import Cover, Distances, subroutine3, task_distances
from surefoot.training.coverage import CMDPDistance, CoverageOracle
from surefoot.training.holdout import Lineage, Parts, freeze, judge_frozen, training_report
from surefoot.training.library import choose_library
from surefoot.training.optimal import OptimalOracle, OptimalPolicy
from surefoot.training.safe import GivenPolicy, SafeOracle, WorstCaseSafe
from surefoot.training.values import Tasks, TaskValues, sample_tasks

__all__ = ["train"]

KERNEL_ENTRIES = 200_000
"""By default kernel boxes are kept when the joint support has at most this many entries."""
START_CELLS = 30
LIBRARY, CANDIDATES = 40, 120
"""With ``cells=None``: policies besides the safe one, and how many optima they are chosen from."""
BELIEF_TASKS = 500


def train(
    family: TabularFamily,
    *,
    tasks: int | None = 500,
    holdout: int = 200,
    cells: int | Literal["auto"] | None = 30,
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
            enough for the hold-out to show ``p_max``. ``None`` makes one cell, the hull of all training tasks, chooses the library for what its
            mixtures are worth (:mod:`surefoot.training.library`) and learns beliefs for ``trust="rehearsed"`` (:func:`learn_belief`): for families
            with many parameters, of which ten are as easy as one.
        policies: size of the library besides the safe policy; by default one policy per cell, 40 with ``cells=None``. Cells sharpen the evidence and
            cost little, policies cost an evaluation on every task.
        delta: error probability of the hold-out certificate over all looks, and the ``delta`` of Subroutine 3 when ``tasks`` is ``None``. Look a
            pays ``delta / 2^a``: half of that for coverage, half for the safe policy's margin.
        p_max: for ``cells="auto"`` only: the uncovered share that the agent is to accept; give the agent the same.
        seed: of all random draws.
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
    check_family(family)
    holdout = check_integer("holdout", holdout, low=0)
    boxes = checked_cells(1 if cells is None else cells, holdout)
    if boxes == "auto" and (tasks is None or radius is not None):
        raise InvalidInput(
            'cells must be a number where radius or tasks=None decides on the cover, got "auto"; leave radius out',
            code="SF-ARGUMENT-COMBINATION",
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
    lineage = Lineage.after(previous, family.name, delta=delta, seed=seed)
    run = TaskValues(family, optimal, margin, workers, progress)
    sample_rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    oracle, choice = coverage or CMDPDistance(), None
    # Where the number of cells is to be chosen, a cover of any size serves until it is.
    first = START_CELLS if boxes == "auto" else boxes
    built, cover, distances, rounds = _cover(run, oracle, tasks, first, radius, delta, sample_rng)
    parameters = built.parameters
    optima = run.solve(built, "solving tasks")
    chosen = _safe_policy(family, safe, safe_policy, built.subset(cover.centers).models, margin)
    if boxes == "auto":
        assert distances is not None
        target = CoverageTarget(holdout, lineage.paid().spent_on("coverage"), p_max)
        left_out = _LeftOut(run, built, distances, optima, chosen, margin, policies, kept)
        choice = target.choose(left_out, len(parameters))
        cover = distances.sized(choice.cells)
    library = None
    if cells is None:
        library = _library(run, built, distances, optima, chosen, LIBRARY if policies is None else policies)
    sampled = SampledTasks(built, optima, cover, library)
    found = build_cells(run, sampled, chosen, margin, strict, policies, kept)
    parts = Parts(
        policies=tuple(TabularPolicy(t) for t in found.tables),
        cells=found.layout.cells(found.boxes, found.policy_index, found.parameters, found.outside),
        bounds=found.promised.bounds,
        report=training_report(family, oracle.name, cover, tasks=len(parameters), rounds=rounds),
        assumption=found.assumption,
        choice=choice,
    )

    def judge(stream: np.random.Generator, _: Ledger) -> tuple[Any, FloatArray]:
        return found.judge(run, sample_tasks(family, holdout, stream), "certifying")

    trained = judge_frozen(freeze(family.criterion, parts, lineage), holdout, judge)
    if cells is not None:
        return trained
    return learn_belief(trained, family, tasks=BELIEF_TASKS, seed=seed, workers=workers, progress=progress)


def _library(
    run: TaskValues, tasks: Tasks, distances: Distances | None, optima: list[OptimalPolicy], safe: FloatArray, size: int
) -> IntArray:  # fmt: skip
    """Tasks whose optima make the library, chosen for what its mixtures are worth in the training tasks."""
    feasible = np.flatnonzero([o.feasible for o in optima])
    candidates = feasible
    if distances is not None and feasible.size > CANDIDATES:
        cover = distances.subset(feasible).sized(CANDIDATES)
        candidates = feasible[cover.centers]
    tables = np.stack([safe, *run.library(tasks, optima, candidates)])
    values = run.values(tasks, "choosing the library", tables)
    return candidates[choose_library(values, run.family.criterion.cost_limits, size)]


def _cover(
    run: TaskValues,
    oracle: CoverageOracle,
    tasks: int | None,
    cells: int,
    radius: float | None,
    delta: float,
    rng: np.random.Generator,
) -> tuple[Tasks, Cover, Distances | None, int]:
    """T sampled tasks, their cover, their distances where the sample was not doubled, and how many samples were drawn."""
    family, label = run.family, "building tasks"
    if tasks is None:
        if radius is None:
            raise InvalidInput(
                "radius must be given when tasks is None, got None; pass the radius of the cover",
                code="SF-ARGUMENT-MISSING",
            )
        parameters, _, cover, rounds = subroutine3(family, oracle, radius=radius, delta=delta, rng=rng)
        return run.build(parameters, label), cover, None, rounds
    parameters = sample_tasks(family, check_integer("tasks", tasks, low=2), rng)
    if radius is not None:
        radius = check_real("radius", radius, low=0.0, open_low=True)
    built = run.build(parameters, label)
    distances = task_distances(family, oracle, parameters, built.models)
    return built, distances.sized(cells) if radius is None else distances.within(radius), distances, 1


class _LeftOut:
    """How many training tasks lie in no cell made from the others, fold by fold; nothing is solved twice."""

    def __init__(
        self, run: TaskValues, tasks: Tasks, distances: Distances, optima: list[OptimalPolicy], safe: FloatArray,
        margin: float | None, policies: int | None, kernel_entries: int,
    ) -> None:  # fmt: skip
        self._run, self._tasks = run.remembering(tasks, optima), tasks
        self._distances, self._optima = distances, optima
        self._build = partial(
            build_cells, safe=safe, margin=margin, strict=False, policies=policies, kernel_entries=kernel_entries
        )

    def __call__(self, n_cells: int) -> int:
        """Misses over all folds with at most ``n_cells`` cells."""
        return sum(self._missed(n_cells, out) for out in folds(len(self._tasks)))

    def _missed(self, n_cells: int, out: IntArray) -> int:
        kept = np.setdiff1d(np.arange(len(self._tasks)), out)
        cover = self._distances.subset(kept).sized(n_cells)
        sampled = SampledTasks(self._tasks.subset(kept), [self._optima[k] for k in kept], cover)
        try:
            outcome = self._build(self._run, sampled)
        except AssumptionError:
            return out.size
        covered, _ = outcome.judge_built(self._run, self._tasks.subset(out), "choosing the number of cells")
        return int(np.count_nonzero(~covered))


def _safe_policy(
    family: TabularFamily, oracle: SafeOracle | None, given: Any, tasks: list[TabularCMDP], margin: float | None
) -> FloatArray:
    own = getattr(family, "safe_policy", None)
    if oracle is None:
        table = given if given is not None else own() if own is not None else None
        oracle = WorstCaseSafe() if table is None else GivenPolicy(table)
    # Without a stated margin a tenth of the limit is asked for; what the cells then guarantee is measured, not assumed.
    wanted = 0.1 * float(family.criterion.cost_limits.min(initial=np.inf)) if margin is None else margin
    return oracle.find(tasks, wanted).policy
