r"""From a family of simulated tasks and a library of policies to a policy set.

    sample tasks -> values of all policies by simulation -> cover -> cells -> frozen -> fresh hold-out, fresh rollouts -> certificate

**Cells.** A cell is a box for the values ``q(M)`` (return, costs and signals of every policy) of a task M. It starts as the hull of the
*intervals* of its members, is extended by interpolated tasks between neighbouring cells and by extrapolated tasks beyond the sample (as the
cells of tabular tasks are), and is widened by a share of the largest interval seen, so that the interval of a fresh task of the cell fits as well.
Cells are only sets of tasks: whatever they are made of, no error probability is spent on them (:mod:`surefoot.gym.cells`).

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

**Without boxes** (``cells=None``). One cell, the hull of all training tasks, and a belief (:mod:`surefoot.gym.belief`) for ``trust="rehearsed"``. The
hull is as valid as any; nothing depends on its width, so tens of episodes will do, and no task is refused unless its intervals prove that the safe
policy breaks the assumption there. A margin that they do not show either is an assumption of the user; the assumption report says so.

Letters: T tasks, p parameters, N cells, J policies, I constraints, X signals, Q = 1+I+X.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from surefoot.arguments import check_family
from surefoot.arrays import FloatArray, check_integer, check_real
from surefoot.errors import InvalidInput, SimulationError
from surefoot.gym.belief import learn_belief
from surefoot.gym.cells import FinishedCells, build_cells
from surefoot.gym.checkpoint import Checkpoint
from surefoot.gym.dependence import ignored
from surefoot.gym.deployed import check_memory, owned
from surefoot.gym.family import GymFamily
from surefoot.gym.simulated import Budget, DrawnTasks, SimulatedValues
from surefoot.gym.values import Widths
from surefoot.gym.workload import Workload
from surefoot.policy import DeterministicPolicy, FunctionPolicy
from surefoot.policyset.schema import PolicySet
from surefoot.stats.binomial import SIMULATION_STATED_AT, clopper_pearson_upper
from surefoot.stats.ledger import Ledger
from surefoot.training.choice import CoverageTarget, checked_cells
from surefoot.training.coverage import CoverageOracle
from surefoot.training.holdout import Lineage, freeze, judge_frozen

__all__ = ["DeterministicPolicy", "FunctionPolicy", "forecast_training", "train_simulated"]

OWN_BETA, SHARED_BETA = 0.1, 0.005
"""Default ``beta`` of tasks with episodes of their own, and of tasks that share them."""
SHARED_SHARE = 0.1
"""Part of delta that pays for hold-out tasks sharing their episodes."""
BELIEF_EPISODES = 30
"""With ``cells=None``: episodes per policy and task that the belief is learned from, at most."""


def train_simulated(
    family: GymFamily,
    library: Sequence[Any],
    *,
    tasks: int = 200,
    holdout: int = 200,
    cells: int | Literal["auto"] | None = 12,
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
            simulated for that. ``None`` makes one cell, the hull of all training tasks, of intervals as wide as they come, and learns a belief for
            ``trust="rehearsed"`` from as many further tasks (:func:`surefoot.gym.learn_belief`): for families with many parameters, with tens of
            episodes per policy and task (``max_episodes=30``). Then at least 8 tasks and 2 episodes are needed.
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
        margin: ``xi``. By default the largest margin that every cell guarantees. Where ``cells=None`` and simulation shows none, state the one that
            you assume, here or to the agent, which otherwise refuses the set.
        previous: the policy set whose hold-out you saw last, if you train again because of what it (or one before it) showed; see
            :func:`surefoot.train`.
        seams: whether values halfway between neighbouring tasks of different cells are simulated or taken as the average.
        outside: (M, p) tasks beyond the family to bet on, so that a real task out there is noticed.
        strict: raise when the safe policy is not shown to keep a margin in a sampled task; otherwise leave such tasks out of every cell and
            report them. With ``cells=None`` only tasks in which it is shown to keep none count.
        seed: of all random draws.
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
    check_family(family, models=False)
    tasks = check_integer("tasks", tasks, low=2 if cells is not None else 8)
    holdout = check_integer("holdout", holdout, low=0)
    boxes = checked_cells(1 if cells is None else cells, holdout)
    seed = check_integer("seed", seed, low=0)
    miss = (SHARED_BETA if family.shared else OWN_BETA) if beta is None else beta
    for name, value in (("delta", delta), ("beta", miss), ("p_max", p_max)):
        check_real(name, value, low=0.0, high=1.0, open_low=True, open_high=True)
    if margin is not None:
        margin = check_real("margin", margin, low=0.0, open_low=True)
    if seams not in ("interpolate", "simulate"):
        raise InvalidInput(
            f"seams must be one of interpolate, simulate, got {seams!r}; choose one", code="SF-ARGUMENT-CHOICE"
        )
    lineage = Lineage.after(previous, family.name, delta=delta, seed=seed)
    alpha = _training_level(family, miss, delta, holdout)
    failed_share = check_real("failed_share", failed_share, low=0.0, high=1.0, open_high=True)
    budget = Budget(widths or Widths(), max_episodes, alpha, seed, workers, progress, failed_share)
    run = SimulatedValues(family, owned(library), budget, margin, boxes=cells is not None)
    if cells is None:
        check_integer("max_episodes", max_episodes, low=2)
    else:
        run.refuse_hopeless()
    sample_rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    drawn = DrawnTasks.of(family, family.sample(tasks, sample_rng), outside)
    for j, policy in enumerate(run.policies):
        for problem in check_memory(family, drawn.tasks[0], policy, j, seed=seed):
            raise SimulationError(problem, code="SF-SIMULATION-MEMORY")
    for problem in ignored(family, run.policies, seed=seed):
        raise SimulationError(problem, code="SF-FAMILY-RESET")
    if checkpoint is not None:
        run.checkpoint = Checkpoint(checkpoint, run.settings(drawn.tasks[0]))
    if progress:
        run.announce(drawn, holdout)
    try:
        values = run.estimate(drawn.everything, 1, "simulating tasks")
        hold = _HoldOut(run, holdout, miss)
        target = CoverageTarget(holdout, lineage.paid(hold.share).spent_on("coverage"), p_max, hold.added)
        found = build_cells(
            run, drawn, values, cover=cover, cells=boxes, target=target, seams=seams, policy_for_cell=policy_for_cell, strict=strict
        )  # fmt: skip
        frozen = freeze(family.criterion, found.parts, lineage)
        judged = judge_frozen(frozen, holdout, partial(hold.judge, found), simulation=hold.share, added=hold.added)
        level = hold.level(judged.ledger) if holdout else run.budget.alpha
        simulation = {**run.summary(miss), "level_per_task": level}
        done = replace(judged, extra={"simulation": simulation, **judged.extra})
        if cells is not None:
            return done
        episodes = min(max_episodes, BELIEF_EPISODES)
        return learn_belief(done, family, tasks=tasks, episodes=episodes, seed=seed, workers=workers, progress=progress)
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
    budget = Budget(Widths(), max_episodes, _training_level(family, miss, delta, holdout), seed, workers, False, 0.0)
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    drawn = DrawnTasks.of(family, family.sample(check_integer("tasks", tasks, low=2), rng), outside)
    return SimulatedValues(family, owned(library), budget, margin).workload(
        drawn, check_integer("holdout", holdout, low=0)
    )


def _training_level(family: GymFamily, miss: float, delta: float, holdout: int) -> float:
    """Level of the intervals of one training task. Cells are only sets: it is free, and the same at every look."""
    return miss * (delta - delta * (1.0 - SHARED_SHARE)) if family.shared and holdout else miss


@dataclass(frozen=True, eq=False)
class _HoldOut:
    """How simulation judges hold-out tasks, and what it adds to what they prove.

    Attributes:
        run: simulates.
        tasks: H.
        beta: error probability of all intervals of one task together.
    """

    run: SimulatedValues
    tasks: int
    beta: float

    @property
    def share(self) -> float:
        """Part of what a look pays that pays for tasks sharing their episodes."""
        return SHARED_SHARE if self.run.family.shared else 0.0

    def level(self, ledger: Ledger) -> float:
        """Of the intervals of one task, from the ledger after this look has paid."""
        return self.beta * ledger.spent_on("simulation") if self.run.family.shared else self.beta

    def judge(self, found: FinishedCells, stream: np.random.Generator, ledger: Ledger) -> tuple[Any, FloatArray]:
        """Whether each of H fresh tasks, met in fresh episodes, lies in a cell, and the margin of the safe policy there."""
        run, (tasks, episodes) = self.run, stream.spawn(2)
        points, seed = run.family.sample(self.tasks, tasks), int(episodes.integers(2**53))
        values = run.estimate(points, 2, "certifying", seed=seed, alpha=self.level(ledger))
        margins = run.margins(values)
        return found.covers(values, margins), margins

    def added(self, failures: int) -> float:
        """What has to be added to the limit on the share of tasks that failed, because their values are simulated; for any error from
        ``SIMULATION_STATED_AT`` on."""
        if self.run.family.shared:
            return self.beta
        exact = clopper_pearson_upper(failures, self.tasks, SIMULATION_STATED_AT)
        return min(1.0 - 1e-9, self.beta / (1.0 - self.beta) * exact)
