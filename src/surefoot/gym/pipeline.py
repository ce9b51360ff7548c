r"""From a family of simulated tasks and a library of policies to a policy set.

    sample tasks -> values of all policies by simulation -> cover -> cells -> frozen -> fresh hold-out, fresh rollouts -> certificate

**Cells.** A cell is a box for the values ``q(M)`` (return, costs and signals of every policy) of a task M. It starts as the hull of the
*intervals* of its members, is extended by seams between neighbouring cells and by ghosts beyond the sample (as the cells of tabular tasks
are), and is widened by a share of the largest interval seen, so that the interval of a fresh task of the cell fits as well.
Cells are only sets of tasks: whatever they are made of, no error probability is spent on them.

**Certificate.** A hold-out task counts as covered when all its simulated intervals lie inside one cell. A task M in no cell can count as
covered only in the event B(M) that one of its intervals misses its value. With p the Clopper-Pearson limit on the share not counted as covered:

* *Own episodes for every task.* ``P(B(M)) <= beta`` for every M, so a task in no cell is noticed with probability ``1 - beta`` at least:

      P(M in no cell) <= p / (1 - beta) = p + p beta / (1 - beta),

  which is sharper than ``p + beta`` and makes a beta of a tenth affordable: intervals of fewer episodes. What simulation adds is stated for p at
  error ``SIMULATION_STATED_AT``; whoever reads the certificate at a smaller error scales it up (:func:`surefoot.stats.binomial.simulated_upper`).
* *One batch of episodes omega for all tasks* (families that differ in the reward only). Given omega tasks are independent, but intervals may miss
  in just the tasks that matter: ``P(M in no cell) <= p + beta`` wherever ``P(B(M) | omega) <= beta``. Intervals at the level
  ``a = beta delta_s`` have ``E P(B | omega) <= a``, hence ``P(P(B | omega) > beta) <= delta_s`` (Markov), and ``delta_s`` is spent in the ledger.

The same holds for the safe policy's margin.

**What is not proved.** Optimal values of continuous tasks are unknown: ``optimal_upper`` is the best that mixtures of the library can reach
in the cell. It steers exploration and enters no safety statement.

Letters: T tasks, p parameters, N cells, J policies, I constraints, X signals, Q = 1+I+X.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_integer, check_real
from surefoot.errors import AssumptionError, InvalidInput, SimulationError
from surefoot.gym.checkpoint import Checkpoint
from surefoot.gym.dependence import ignored
from surefoot.gym.deployed import check_memory, owned
from surefoot.gym.family import GymFamily
from surefoot.gym.rollout import RolloutWorker
from surefoot.gym.values import Estimates, Widths, episodes_for, estimate
from surefoot.gym.workload import Workload, least_episodes, measure_workload, tried_corners
from surefoot.policy import DeterministicPolicy, FunctionPolicy
from surefoot.policyset.lineage import fingerprint, holdout_stream, look_share, looks_after, looks_paid
from surefoot.policyset.schema import (
    AssumptionReport,
    Cells,
    Certificate,
    Look,
    OutsideTasks,
    PolicySet,
    Predictions,
    SignalPredictions,
    TrainingReport,
)
from surefoot.stats.binomial import SIMULATION_STATED_AT, clopper_pearson_upper, simulated_upper
from surefoot.stats.ledger import Ledger
from surefoot.training.cells import extrapolated_tasks, interpolated_tasks
from surefoot.training.choice import CellsChoice, checked_cells, choose_cells, folds
from surefoot.training.cover import Cover, proved_level, sized_cover
from surefoot.training.coverage import CoverageOracle, ParameterDistance
from surefoot.version import VERSION

__all__ = ["DeterministicPolicy", "FunctionPolicy", "forecast_training", "train_simulated"]

INFLATION = 0.02
"""Cells are widened by this share of their width, as those of tabular tasks are."""
SLACK = 0.5
"""And by this share of the largest interval: a member's interval reaches beyond its value by about half of it already."""
OWN_BETA, SHARED_BETA = 0.1, 0.005
"""Default ``beta`` of tasks with episodes of their own, and of tasks that share them."""
SHARED_SHARE = 0.1
"""Part of delta that pays for hold-out tasks sharing their episodes."""
CORNER_PARAMETERS = 3
SHOWN = 3
ANNOUNCED = 2.0
"""Seconds from which on a training is announced."""


def train_simulated(
    family: GymFamily,
    library: Sequence[Any],
    *,
    tasks: int = 200,
    holdout: int = 200,
    cells: int | Literal["auto"] = 12,
    delta: float = 0.05,
    p_max: float = 0.05,
    beta: float | None = None,
    widths: Widths | None = None,
    max_episodes: int = 2000,
    failed_share: float = 0.02,
    cover: CoverageOracle | Literal["values", "parameters"] = "values",
    policy_for_cell: Callable[[FloatArray], int] | None = None,
    margin: float | None = None,
    previous: PolicySet | None = None,
    seams: Literal["interpolate", "simulate"] = "interpolate",
    outside: Any = None,
    strict: bool = True,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
    checkpoint: str | Path | None = None,
) -> PolicySet:
    """Train a policy set from simulations.

    What it will take is said before it begins (:func:`forecast_training`), and settings that cannot show a margin are refused at once.

    Args:
        family: the distribution over tasks.
        library: J policies, index 0 the safe one; whoever trained them. What is simulated is what ``predict(observation)`` does in deployment;
            policies that would draw at random by default (``deterministic=False``) are made deterministic, in the set as well. The set keeps copies,
            and every episode acts through an instance of its own (:func:`surefoot.policy.for_episode`).
        tasks: number of fresh training tasks.
        holdout: fresh tasks that judge the finished cells; 0 leaves the set without a certificate.
        cells: largest number of cells; ``"auto"`` takes the largest that the training tasks support, as in :func:`surefoot.train`. Nothing more is
            simulated for that.
        delta: error probability of the hold-out certificate over all looks. Look a pays ``delta / 2^a``: half for coverage and half for the margin,
            after the part that shared episodes cost.
        p_max: for ``cells="auto"`` only: the uncovered share that the agent is to accept; give the agent the same.
        beta: error probability of all intervals of one task together; see above for what it costs. By default .1 where tasks have episodes of
            their own, .005 where they share them.
        widths: how narrow intervals have to be.
        max_episodes: budget per policy and task (per policy, where tasks share their episodes).
        failed_share: largest share of a policy's episodes in a task in which the simulator may raise, or return what is not finite. Such an episode
            counts as the worst and as the best that it could have been; more of them are an error.
        cover: which tasks are neighbours: by their values (in interval widths), by their parameters (in standard deviations), or an oracle.
        policy_for_cell: ``policy_for_cell(parameters)`` -> library index for the cell around a task. By default the policy with the
            largest lower end of its return among those whose costs are surely within the limits there.
        margin: ``xi``. By default the largest margin that every cell guarantees.
        previous: the policy set whose hold-out you saw last, if you train again because of what it (or one before it) showed; see
            :func:`surefoot.train`.
        seams: whether values halfway between neighbouring tasks of different cells are simulated or taken as the average.
        outside: (M, p) tasks beyond the family to bet on, so that a real task out there is noticed.
        strict: raise when the safe policy is not shown to keep a margin in a sampled task; otherwise leave such tasks out of every cell and
            report them.
        seed: of everything random.
        workers: processes.
        progress: draw a progress bar where that makes sense, and say what a run takes and what keeps intervals wide.
        checkpoint: folder in which results are kept as they come. The same call goes on there after an interruption, with the same result; other
            numbers of cells, hold-outs and looks use what is there already.

    Raises:
        InvalidInput: an argument out of range; a ``max_episodes`` at which no margin can be shown; a checkpoint of another training.
        SimulationError: an environment or a policy breaks a rule; a policy acts otherwise beside other episodes, or after them, than alone;
            episodes do not depend on the parameters at all, or not on their seeds alone.
        AssumptionError: the safe policy is not shown to be feasible in all sampled tasks (``strict``), or in none at all; or no number of cells would
            pass the hold-out (``cells="auto"``).
    """
    tasks = check_integer("tasks", tasks, low=2)
    holdout = check_integer("holdout", holdout, low=0)
    cells = checked_cells(cells, holdout)
    seed = check_integer("seed", seed, low=0)
    miss = (SHARED_BETA if family.shared else OWN_BETA) if beta is None else beta
    for name, value in (("delta", delta), ("beta", miss), ("p_max", p_max)):
        check_real(name, value, low=0.0, high=1.0, open_low=True, open_high=True)
    if margin is not None:
        margin = check_real("margin", margin, low=0.0, open_low=True)
    if seams not in ("interpolate", "simulate"):
        raise InvalidInput(f"seams must be one of interpolate, simulate, got {seams!r}; choose one")
    looks, lineage_known = looks_after(previous, family.name)
    alpha = _training_level(family, miss, delta, holdout)
    failed_share = check_real("failed_share", failed_share, low=0.0, high=1.0, open_high=True)
    budget = _Budget(widths or Widths(), max_episodes, alpha, seed, workers, progress, failed_share)
    run = _Run(family, owned(library), budget, margin)
    run.refuse_hopeless()
    sample_rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    drawn = _Drawn.of(family, family.sample(tasks, sample_rng), outside)
    for j, policy in enumerate(run.policies):
        for problem in check_memory(family, drawn.tasks[0], policy, j, seed=seed):
            raise SimulationError(problem)
    for problem in ignored(family, run.policies, seed=seed):
        raise SimulationError(problem)
    if checkpoint is not None:
        run.checkpoint = Checkpoint(checkpoint, run.settings(drawn.tasks[0]))
    if progress:
        run.announce(drawn, holdout)
    try:
        return _train(
            run, drawn, delta, miss, holdout, cells, p_max, cover, seams, policy_for_cell, strict, looks, lineage_known
        )
    except KeyboardInterrupt:
        if run.checkpoint is not None:
            sys.stderr.write(
                f"\ninterrupted; what is done is kept in {run.checkpoint.folder}: the same call goes on there\n"
            )
        raise


def forecast_training(
    family: GymFamily,
    library: Sequence[Any],
    *,
    tasks: int = 200,
    holdout: int = 200,
    delta: float = 0.05,
    beta: float | None = None,
    max_episodes: int = 2000,
    margin: float | None = None,
    outside: Any = None,
    seed: int = 0,
    workers: int = 1,
) -> Workload:
    """What :func:`train_simulated` with these settings will take: episodes, time (from a few episodes that are run here) and memory.

    Args:
        family, library, tasks, holdout, delta, beta, max_episodes, margin, outside, seed, workers: as in :func:`train_simulated`.
    """
    miss = (SHARED_BETA if family.shared else OWN_BETA) if beta is None else beta
    budget = _Budget(Widths(), max_episodes, _training_level(family, miss, delta, holdout), seed, workers, False, 0.0)
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    drawn = _Drawn.of(family, family.sample(check_integer("tasks", tasks, low=2), rng), outside)
    return _Run(family, owned(library), budget, margin).workload(drawn, check_integer("holdout", holdout, low=0))


def _training_level(family: GymFamily, miss: float, delta: float, holdout: int) -> float:
    """Level of the intervals of one training task. Cells are only sets: it is free, and the same at every look."""
    return miss * (delta - delta * (1.0 - SHARED_SHARE)) if family.shared and holdout else miss


def _train(
    run: _Run,
    drawn: _Drawn,
    delta: float,
    miss: float,
    holdout: int,
    cells: int | Literal["auto"],
    p_max: float,
    cover: CoverageOracle | Literal["values", "parameters"],
    seams: str,
    policy_for_cell: Callable[[FloatArray], int] | None,
    strict: bool,
    looks: tuple[Look, ...],
    lineage_known: bool,
) -> PolicySet:
    """Everything after the first checks."""
    family, seed = run.family, run.budget.seed
    values = run.estimate(drawn.everything, 1, "simulating tasks")
    paid = delta * look_share(1 + len(looks))
    target = (
        _Target(holdout, _levels(family, looks_paid(delta, 1 + len(looks)), paid, miss)[0], miss, p_max)
        if cells == "auto"
        else None
    )
    outcome = _build(run, drawn, values, cover, cells, target, seams, policy_for_cell, strict)
    frozen = PolicySet(
        criterion=family.criterion,
        policies=run.policies,
        cells=outcome.cells,
        bounds=family.episode_bounds,
        certificate=None,
        training=outcome.report,
        assumption=outcome.assumption,
        ledger=looks_paid(delta, 1 + len(looks)),
        seed=seed,
        version=VERSION,
        looks=looks,
        lineage_known=lineage_known,
    )
    certificate, ledger, alpha = None, frozen.ledger, run.budget.alpha
    if holdout:
        ledger, alpha = _levels(family, frozen.ledger, paid, miss)
        fresh = holdout_stream(seed, fingerprint(frozen), frozen.attempt)
        certificate = _certify(run, outcome, holdout, miss, ledger, alpha, fresh)
    extra = {"simulation": {**run.summary(miss), "level_per_task": alpha}}
    if outcome.choice is not None:
        extra["cells"] = outcome.choice.data()
    return replace(frozen, certificate=certificate, ledger=ledger, extra=extra)


def _levels(family: GymFamily, ledger: Ledger, paid: float, beta: float) -> tuple[Ledger, float]:
    """The ledger after one look spent ``paid``, and the level of the intervals of one hold-out task."""
    rest = paid
    if family.shared:
        rest = paid * (1.0 - SHARED_SHARE)
        ledger = ledger.spend(
            "simulation", paid - rest, "hold-out tasks share episodes: too many of their intervals miss (Markov)"
        )
    ledger = ledger.spend("coverage", rest / 2, "hold-out limit on the uncovered mass")
    ledger = ledger.spend("margin", rest / 2, "hold-out limit on tasks where the safe policy has less margin")
    return ledger, beta * (paid - rest) if family.shared else beta


@dataclass(frozen=True, eq=False)
class _Target:
    """What the hold-out has to show, where the number of cells is chosen for it."""

    holdout: int
    ledger: Ledger
    beta: float
    p_max: float

    def choose(self, run: _Run, missed: Callable[[int], int], tasks: int) -> CellsChoice:
        """The number of cells; ``missed(n)`` as in :func:`surefoot.training.choice.choose_cells`."""
        level = next(entry.delta for entry in self.ledger.entries if entry.name == "coverage")

        def upper(k: int) -> float:
            return simulated_upper(
                k, self.holdout, level, _simulation_error(k, self.holdout, self.beta, run.family.shared)
            )

        return choose_cells(missed, tasks=tasks, holdout=self.holdout, level=level, p_max=self.p_max, upper=upper)


@dataclass(frozen=True, eq=False)
class _Budget:
    """How values are simulated; ``alpha`` is the level of one task."""

    widths: Widths
    max_episodes: int
    alpha: float
    seed: int
    workers: int
    progress: bool
    failed_share: float


class _Run:
    """What stays the same all along, and what was spent."""

    def __init__(self, family: GymFamily, policies: tuple[Any, ...], budget: _Budget, margin: float | None) -> None:
        self.family, self.policies, self.budget, self.margin = family, policies, budget, margin
        self.limits = family.criterion.cost_limits
        self.spent: dict[str, int] = {}
        self.narrow: dict[str, float] = {}
        self.widest: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, dict[str, Any]] = {}
        self.spread: list[float] = []
        self.checkpoint: Checkpoint | None = None

    def refuse_hopeless(self) -> None:
        """Refuse a budget at which no margin can be shown, whatever the simulator does.

        Raises:
            InvalidInput: names the smallest that will do.
        """
        budget = self.budget
        least = least_episodes(
            self.family, len(self.policies), alpha=budget.alpha, margin=self.margin, slack=INFLATION + SLACK
        )
        if least is not None and check_integer("max_episodes", budget.max_episodes, low=1) >= least:
            return
        ranges, limits = self.family.ranges()[1][1 : 1 + self.limits.size].tolist(), self.limits.tolist()
        stated = "any margin" if self.margin is None else f"a margin of {self.margin:g}"
        remedy = "no number of episodes will do" if least is None else f"use max_episodes={least} or more"
        raise InvalidInput(
            f"max_episodes must be large enough to show {stated} below the limits {limits} with costs of up to {ranges} per episode, got "
            f"{budget.max_episodes}: even if no episode of the safe policy cost anything, its interval would reach too far; {remedy}, or declare "
            "tighter bounds= on the family"
        )

    def workload(self, drawn: _Drawn, holdout: int) -> Workload:
        """What the settings imply."""
        budget = self.budget
        return measure_workload(
            self.family, self.policies, drawn.tasks, tasks=len(drawn.everything), holdout=holdout,
            corners=tried_corners(self.family, CORNER_PARAMETERS), budget=budget.max_episodes, alpha=budget.alpha, margin=self.margin,
            slack=INFLATION + SLACK, workers=budget.workers, seed=budget.seed,
        )  # fmt: skip

    def announce(self, drawn: _Drawn, holdout: int) -> None:
        """Say what is ahead, where it takes long."""
        found = self.workload(drawn, holdout)
        if found.seconds[1] > ANNOUNCED:
            sys.stderr.write(f"training on {self.family.name}: {found}\n")

    def settings(self, point: FloatArray) -> dict[str, Any]:
        """What decides the results of simulations, beside what every one of them is kept under."""
        family, criterion = self.family, self.family.criterion
        with RolloutWorker(family, point, task=0) as worker:
            probes = [
                worker.run(policy, j, seed=(self.budget.seed, 8), first=0, count=1, tolerant=True)
                for j, policy in enumerate(self.policies)
            ]
        return {
            "family": family.name,
            "parameter_names": list(family.parameter_names),
            "support": [[str(end) for end in row] for row in family.support.tolist()],
            "discount": criterion.discount,
            "horizon": family.horizon,
            "cost_limits": self.limits.tolist(),
            "reward_bounds": list(criterion.reward_bounds),
            "ranges": [end.tolist() for end in family.ranges()],
            "signals": [[s.name, s.reduce] for s in family.signals],
            "shared_episodes": family.shared,
            "policies": [type(policy).__name__ for policy in self.policies],
            "probe": [[p.returns.tolist(), p.costs.tolist(), p.signals.tolist(), p.lengths.tolist()] for p in probes],
            "seed": self.budget.seed,
            "max_episodes": self.budget.max_episodes,
            "widths": self.budget.widths.of(family).tolist(),
            "alpha": self.budget.alpha,
            "failed_share": self.budget.failed_share,
        }

    def estimate(
        self,
        points: FloatArray,
        purpose: int,
        label: str,
        policies: Any = None,
        *,
        seed: int | None = None,
        alpha: float | None = None,
    ) -> Estimates:
        """Values at (T, p); every purpose has episodes of its own, from the training's seed and at its level unless others are given."""
        budget = self.budget
        found = estimate(
            self.family,
            points,
            self.policies if policies is None else policies,
            alpha=budget.alpha if alpha is None else alpha,
            seed=(budget.seed if seed is None else seed, purpose),
            widths=budget.widths,
            max_episodes=budget.max_episodes,
            failed_share=budget.failed_share,
            workers=budget.workers,
            label=label,
            progress=budget.progress,
            checkpoint=self.checkpoint,
        )
        self.spent[label] = found.spent
        self.narrow[label] = float(found.narrow.mean()) if found.narrow.size else 1.0
        self._note(label, found)
        if not self.spread:
            self.spread = _spread(self.family, found)
        return found

    def _note(self, label: str, found: Estimates) -> None:
        """What keeps intervals wide, and what failed; said at once where progress is."""
        said = []
        if found.failed.any():
            n = int((found.failed[0] if found.shared else found.failed).sum())
            self.failed[label] = {"episodes": n, "share": n / max(1, found.spent), "first": found.failure}
            said.append(f"the simulator failed in {n} of {found.spent} episodes, first: {found.failure}")
        if found.narrow.size and not found.narrow.all():
            widest = _widest(self.family, self.budget, found)
            self.widest[label] = widest
            said.append(
                f"{1.0 - self.narrow[label]:.0%} of the intervals are wider than wanted; widest is {widest['quantity']} of policy "
                f"{widest['policy']}, {widest['times']:.3g} times as wide (range {widest['range']:.4g}, deviation {widest['deviation']:.3g}): about "
                f"{widest['episodes']:,} episodes would do, or a tighter range"
            )
        if self.budget.progress:
            for text in said:
                sys.stderr.write(f"{label}: {text}\n")

    def margins(self, values: Estimates) -> FloatArray:
        """(T,) what the safe policy surely keeps below the limits."""
        upper = values.upper[:, 0, 1 : 1 + self.limits.size]
        return np.asarray((self.limits - upper).min(axis=1, initial=np.inf))

    def enough(self, margins: FloatArray) -> Any:
        """(T,) whether that is what was stated, or anything where nothing was."""
        return margins > 0.0 if self.margin is None else margins >= self.margin

    def summary(self, beta: float) -> dict[str, Any]:
        """Plain data for the policy set."""
        return {
            "episodes": dict(self.spent),
            "narrow_share": dict(self.narrow),
            "widest": dict(self.widest),
            "failed": dict(self.failed),
            "level_per_task": self.budget.alpha,
            "beta": beta,
            "shared_episodes": self.family.shared,
            "widths": self.budget.widths.of(self.family).tolist(),
            "max_episodes": self.budget.max_episodes,
            "spread": self.spread,
        }


def _widest(family: GymFamily, budget: _Budget, found: Estimates) -> dict[str, Any]:
    """The policy and the quantity whose intervals are the most times wider than wanted, on average over tasks."""
    low, high = family.ranges()
    wanted = budget.widths.of(family)
    times = (found.widths / wanted).mean(axis=0)
    j, q = (int(k) for k in np.unravel_index(times.argmax(), times.shape))
    deviation = float(found.deviation[:, j, q].max())
    names = [
        "the return",
        *(f"cost {name!r}" for name in family.criterion.cost_names),
        *(f"signal {s.name!r}" for s in family.signals),
    ]
    level = found.alpha / (found.widths.shape[1] * low.size)
    needed = episodes_for(wanted[q : q + 1], np.array([deviation]), (high - low)[q : q + 1], level)
    return {
        "policy": j,
        "quantity": names[q],
        "times": float(times[j, q]),
        "range": float(high[q] - low[q]),
        "deviation": deviation,
        "episodes": int(np.ceil(needed[0])),
    }


def _spread(family: GymFamily, values: Estimates) -> list[float]:
    """(Q,) deviations of single episodes as shares of the largest that mean and range allow, over all tasks and policies."""
    low, high = family.ranges()
    largest = ((values.mean - low) * (high - values.mean)).mean(axis=(0, 1))
    shares = np.sqrt((values.deviation**2).mean(axis=(0, 1)) / np.maximum(largest, 1e-300))
    return [float(share) for share in np.clip(shares, 1e-6, 1.0 - 1e-6)]


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Parameters that are simulated before cells are made: T sampled tasks, ghosts with their hosts among them, tasks outside.

    Ghosts and tasks outside do not depend on the cells, so one batch of shared episodes serves them all.
    """

    tasks: FloatArray
    extrapolated: FloatArray
    hosts: IntArray
    outside: FloatArray

    @staticmethod
    def of(family: GymFamily, parameters: FloatArray, outside: Any) -> _Drawn:
        extrapolated, hosts = extrapolated_tasks(parameters, np.arange(len(parameters)), family.support)
        far = np.zeros((0, family.n_parameters)) if outside is None else np.asarray(outside, dtype=np.float64)
        if far.ndim != 2 or far.shape[1] != family.n_parameters or not np.isfinite(far).all():
            raise InvalidInput(
                f"outside must have shape (M, {family.n_parameters}) and be finite, got {far.shape}; one row per task"
            )
        return _Drawn(parameters, extrapolated, hosts, far)

    @property
    def everything(self) -> FloatArray:
        """(T + 2p + M, p)."""
        return np.concatenate([self.tasks, self.extrapolated, self.outside])


@dataclass(frozen=True, eq=False)
class _Outcome:
    """Everything that is frozen before the hold-out is drawn; boxes (N, J, Q)."""

    cells: Cells
    lower: FloatArray
    upper: FloatArray
    report: TrainingReport
    assumption: AssumptionReport
    choice: CellsChoice | None

    def covers(self, values: Estimates, margins: FloatArray) -> Any:
        """(T,) whether all intervals of a task lie inside one cell, and the safe policy surely keeps the margin there."""
        return _inside(self.lower, self.upper, values) & (margins >= self.assumption.safe_margin)


def _inside(lower: FloatArray, upper: FloatArray, values: Estimates) -> Any:
    """(T,) whether all intervals of a task lie inside one of the boxes (N, J, Q)."""
    inside = np.zeros(len(values.lower), dtype=np.bool_)
    for low, high in zip(lower, upper):
        inside |= ((values.lower >= low) & (values.upper <= high)).all(axis=(1, 2))
    return inside


def _build(
    run: _Run,
    drawn: _Drawn,
    everything: Estimates,
    oracle: CoverageOracle | str,
    n_cells: int | Literal["auto"],
    target: _Target | None,
    seams: str,
    policy_for_cell: Callable[[FloatArray], int] | None,
    strict: bool,
) -> _Outcome:
    family, n, g = run.family, len(drawn.tasks), len(drawn.extrapolated)
    values, extrapolated, far = (everything.take(s) for s in (slice(0, n), slice(n, n + g), slice(n + g, None)))
    margins = run.margins(values)
    good = np.flatnonzero(run.enough(margins))
    offenders = _Offenders(run)
    offenders.add(drawn.tasks, values)
    if offenders.found and (strict or not good.size):
        raise AssumptionError(offenders.refusal(values))
    name, distances = _distances(family, oracle, drawn.tasks[good], values.take(good))
    room = SLACK * everything.widths[: n + g].max(axis=0)

    def made(n_cells: int, kept: IntArray, seams: str, noted: _Offenders) -> tuple[Cover, _Boxes]:
        """Cells from the tasks ``good[kept]``."""
        found, members = sized_cover(distances[np.ix_(kept, kept)], n_cells), good[kept]
        assignment = np.full(n, -1)
        assignment[members] = found.to_centers.argmin(axis=1)
        boxes = _Boxes(len(found.centers), values)
        for t in members:
            boxes.include(int(assignment[t]), values.lower[t], values.upper[t])
        _extend(run, boxes, drawn, assignment, members, values, extrapolated, seams, noted)
        boxes.inflate(INFLATION, room, *family.ranges())
        return found, boxes

    def missed(n_cells: int) -> int:
        """Of all tasks, left out once each, those in no cell made from the others; seams are interpolated, tasks left out lend no ghosts."""
        total = n - good.size
        for out in folds(good.size):
            kept = np.setdiff1d(np.arange(good.size), out)
            _, boxes = made(n_cells, kept, "interpolate", _Offenders(run))
            inside = _inside(boxes.lower, boxes.upper, values.take(good[out]))
            total += int((~(inside & (margins[good[out]] >= _margin(run, boxes, False)[0]))).sum())
        return total

    choice = None if target is None else target.choose(run, missed, n)
    found, boxes = made(n_cells if choice is None else choice.cells, np.arange(good.size), seams, offenders)  # type: ignore[arg-type]
    _corners(run, offenders)
    centers = good[found.centers]
    cells = _cells(run, boxes, drawn.tasks[centers], values.take(centers), policy_for_cell, _outside(run, drawn, far))
    report = _report(run, name, found, n, good.size)
    return _Outcome(cells, boxes.lower, boxes.upper, report, offenders.report(*_margin(run, boxes, strict)), choice)


class _Boxes:
    """(N, J, Q) boxes under construction."""

    def __init__(self, n_cells: int, values: Estimates) -> None:
        shape = (n_cells, *values.lower.shape[1:])
        self.lower, self.upper = np.full(shape, np.inf), np.full(shape, -np.inf)

    def include(self, cell: int, lower: FloatArray, upper: FloatArray) -> None:
        """Widen one cell so that it holds the intervals of a task."""
        np.minimum(self.lower[cell], lower, out=self.lower[cell])
        np.maximum(self.upper[cell], upper, out=self.upper[cell])

    def inflate(self, fraction: float, room: FloatArray, low: FloatArray, high: FloatArray) -> None:
        """Widen every interval by a fraction of its width (or of the mean width over cells) and by ``room`` (J, Q), inside the ranges (Q,)."""
        width = self.upper - self.lower
        pad = fraction * np.maximum(width, width.mean(axis=0)) + room
        self.lower = np.maximum(self.lower - pad, low)
        self.upper = np.minimum(self.upper + pad, high)


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
        raise InvalidInput(f"cover must be values, parameters or a coverage oracle, got {oracle!r}; choose one")
    return oracle.name, oracle.distances(family, parameters, parameters)


def _extend(
    run: _Run,
    boxes: _Boxes,
    drawn: _Drawn,
    assignment: IntArray,
    good: IntArray,
    values: Estimates,
    extrapolated: Estimates,
    seams: str,
    offenders: _Offenders,
) -> None:
    """Add seams and ghosts to the boxes."""
    middles, ends = interpolated_tasks(drawn.tasks[good], np.arange(good.size))
    ends = good[ends]
    apart = assignment[ends[:, 0]] != assignment[ends[:, 1]]
    middles, ends = middles[apart], ends[apart]
    if seams == "simulate" and len(middles):
        found = run.estimate(middles, 3, "closing gaps")
        lower, upper, fine = found.lower, found.upper, run.enough(run.margins(found))
        offenders.add(middles, found)
    else:
        lower, upper = (0.5 * (part[ends[:, 0]] + part[ends[:, 1]]) for part in (values.lower, values.upper))
        fine = np.ones(len(middles), dtype=np.bool_)
    for k in np.flatnonzero(fine):
        for cell in set(assignment[ends[k]].tolist()):
            boxes.include(cell, lower[k], upper[k])
    offenders.add(drawn.extrapolated, extrapolated)
    for k in np.flatnonzero(run.enough(run.margins(extrapolated)) & (assignment[drawn.hosts] >= 0)):
        boxes.include(int(assignment[drawn.hosts[k]]), extrapolated.lower[k], extrapolated.upper[k])


def _corners(run: _Run, offenders: _Offenders) -> None:
    """Try the safe policy at the corners of the support, where it is most likely to fail; costs of shared episodes are the same everywhere."""
    support = run.family.support
    if run.family.shared or len(support) > CORNER_PARAMETERS or not np.isfinite(support).all():
        return
    points = np.asarray(list(itertools.product(*support)), dtype=np.float64)
    offenders.add(points, run.estimate(points, 4, "checking the support", run.policies[:1]))


class _Offenders:
    """Tasks in which the safe policy is not shown to keep the margin."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.found: list[tuple[tuple[float, ...], tuple[float, ...], float]] = []

    def add(self, points: FloatArray, values: Estimates) -> None:
        """Look at the tasks with parameters (T, p)."""
        margins, n = self.run.margins(values), self.run.limits.size
        for k in np.flatnonzero(~self.run.enough(margins)):
            least = values.lower[k, :, 1 : 1 + n].min(axis=0)
            self.found.append((tuple(map(float, points[k])), tuple(map(float, least)), float(margins[k])))

    def _describe(self) -> str:
        names = self.run.family.parameter_names
        clauses = []
        for point, _, margin in self.found[:SHOWN]:
            where = ", ".join(f"{name}={value:.4g}" for name, value in zip(names, point))
            what = f"only keeps {margin:.3g}" if margin > 0.0 else f"may exceed the limit by {-margin:.3g}"
            clauses.append(f"{where}: the safe policy {what}")
        return "; ".join(clauses) + ("; ..." if len(self.found) > SHOWN else "")

    def refusal(self, values: Estimates) -> str:
        """Message of the error that strict training raises."""
        wide = float(values.widths[:, 0, 1 : 1 + self.run.limits.size].max(initial=0.0))
        return (
            f"{self.run.family.name} breaks the assumption that one policy is feasible with margin in every task, or simulation is too short to "
            f"show that it holds, in {len(self.found)} tasks: {self._describe()} (cost intervals up to {wide:.3g} wide); raise max_episodes or "
            "narrow widths, bring a safer policy, narrow the family, or train with strict=False to leave such tasks uncovered"
        )

    def report(self, margin: float, kept: float) -> AssumptionReport:
        """What training found out about the assumption; ``kept`` is what every cell guarantees."""
        statement = f"The safe policy keeps a margin of {margin:.4g} in every cell, and was shown to keep one in every task that training looked at."
        if kept < margin or margin <= 0.0:
            stated = f"the stated margin of {margin:.4g}" if margin > 0.0 else "a margin"
            what = f"a margin of {kept:.4g} only" if kept > 0.0 else "no margin"
            statement = f"The safe policy was shown to keep {stated} in every task that training looked at; the widest cell guarantees {what}."
        if self.found:
            statement = (
                f"In {len(self.found)} tasks that training looked at the safe policy is not shown to keep the margin: {self._describe()}. "
                "No cell was made from them, and nothing is promised there."
            )
        return AssumptionReport(
            holds=not self.found,
            safe_margin=margin,
            offenders=tuple(point for point, _, _ in self.found),
            minimum_costs=tuple(least for _, least, _ in self.found),
            statement=statement,
        )


def _margin(run: _Run, boxes: _Boxes, strict: bool) -> tuple[float, float]:
    """``xi``: what every cell guarantees for the safe policy, unless the user stated a margin; and what every cell guarantees."""
    kept = float((run.limits - boxes.upper[:, 0, 1 : 1 + run.limits.size]).min(initial=np.inf))
    if not np.isfinite(kept):
        return float(run.margin or 0.0), kept
    if kept <= 0.0 and strict:
        raise AssumptionError(
            f"the safe policy must keep a margin in every cell, got {kept:.4g} in the widest one of {run.family.name}; raise max_episodes, narrow "
            "widths, use more cells, or bring a safer policy"
        )
    return (kept if run.margin is None else run.margin), kept


def _cells(
    run: _Run,
    boxes: _Boxes,
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
    run: _Run, parameters: FloatArray, center: Estimates, choose: Callable[[FloatArray], int] | None
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


def _outside(run: _Run, drawn: _Drawn, far: Estimates) -> OutsideTasks | None:
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


def _report(run: _Run, oracle: str, found: Cover, n: int, accepted: int) -> TrainingReport:
    uncovered = n - accepted + found.uncovered
    return TrainingReport(
        family=run.family.name,
        parameter_names=run.family.parameter_names,
        oracle=oracle,
        radius=float(found.radius),
        tasks_sampled=n,
        rounds=1,
        uncovered_fraction=uncovered / n,
        level=proved_level(n, len(found.centers), uncovered),
    )


def _certify(
    run: _Run,
    outcome: _Outcome,
    holdout: int,
    beta: float,
    ledger: Ledger,
    alpha: float,
    rng: np.random.Generator,
) -> Certificate:
    """Judge the frozen cells and the frozen margin on fresh tasks and fresh episodes."""
    tasks, episodes = rng.spawn(2)
    points, seed = run.family.sample(holdout, tasks), int(episodes.integers(2**53))
    values = run.estimate(points, 2, "certifying", seed=seed, alpha=alpha)
    margins = run.margins(values)
    uncovered = int((~outcome.covers(values, margins)).sum())
    failures = int((margins < outcome.assumption.safe_margin).sum())
    level = next(entry.delta for entry in ledger.entries if entry.name == "coverage")
    added = [_simulation_error(k, holdout, beta, run.family.shared) for k in (uncovered, failures)]
    return Certificate(
        holdout=holdout,
        uncovered=uncovered,
        uncovered_upper=simulated_upper(uncovered, holdout, level, added[0]),
        margin_failures=failures,
        margin_failure_upper=simulated_upper(failures, holdout, level, added[1]),
        delta_coverage=2.0 * level + ledger.spent_on("simulation"),
        simulation_error=added[0],
    )


def _simulation_error(failures: int, holdout: int, beta: float, shared: bool) -> float:
    """What has to be added to the limit on the share of tasks that failed, because their values are simulated; for any error from
    ``SIMULATION_STATED_AT`` on."""
    if shared:
        return beta
    return min(1.0 - 1e-9, beta / (1.0 - beta) * clopper_pearson_upper(failures, holdout, SIMULATION_STATED_AT))
