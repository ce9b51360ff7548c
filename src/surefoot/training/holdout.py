"""From finished cells to a certified policy set: frozen, then judged on fresh tasks. The same for exact and for simulated values.

    tasks -> values (exact: surefoot.training.pipeline; simulated: surefoot.gym.pipeline) -> cells -> frozen -> fresh hold-out -> certificate

Look a at a hold-out pays ``p_a = delta 2^-a`` (:mod:`surefoot.policyset.lineage`). Where hold-out tasks share simulated episodes a share of that
pays for intervals that miss in too many of them; what is left is split between two binomial limits,

    P(M in no cell) <= u(k_c, H, p_a'/2),          P(margin of the safe policy at M < xi) <= u(k_m, H, p_a'/2),

with k_c and k_m the tasks out of H that failed and ``u`` the Clopper-Pearson limit, plus what simulated values add
(:func:`surefoot.stats.binomial.simulated_upper`).

Letters: H hold-out tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.criterion import Criterion
from surefoot.policy import Policy
from surefoot.policyset.lineage import fingerprint, holdout_stream, look_share, looks_after, looks_paid
from surefoot.policyset.schema import (
    AssumptionReport,
    Cells,
    Certificate,
    EpisodeBounds,
    Look,
    PolicySet,
    TrainingReport,
)
from surefoot.stats.binomial import simulated_upper
from surefoot.stats.ledger import Ledger
from surefoot.training.choice import CellsChoice, add_nothing
from surefoot.training.cover import Cover, proved_level
from surefoot.version import VERSION

__all__ = ["Lineage", "Parts", "certify", "freeze", "judge_frozen", "pay_for_look", "training_report"]

Judge = Callable[[np.random.Generator, Ledger], tuple[Any, FloatArray]]
"""From a random stream and the ledger after this look to, per hold-out task, whether it lies in a cell, and the safe policy's margin: (H,) each."""


@dataclass(frozen=True)
class Lineage:
    """Which look this training leads to.

    Attributes:
        delta: error probability of all looks together.
        seed: of the training.
        looks: those before, oldest first.
        known: whether they are known from the first one on.
    """

    delta: float
    seed: int
    looks: tuple[Look, ...]
    known: bool

    @staticmethod
    def after(previous: PolicySet | None, family: str, *, delta: float, seed: int) -> Lineage:
        """The lineage of a training that follows the policy set whose hold-out was seen last.

        Raises:
            InvalidInput: ``previous`` is no policy set, or one of another family.
        """
        return Lineage(delta, seed, *looks_after(previous, family))

    @property
    def ledger(self) -> Ledger:
        """Before this look pays."""
        return looks_paid(self.delta, 1 + len(self.looks))

    def paid(self, simulation: float = 0.0) -> Ledger:
        """After it has paid; see :func:`pay_for_look`."""
        return pay_for_look(self.ledger, 1 + len(self.looks), simulation)


def pay_for_look(ledger: Ledger, attempt: int, simulation: float = 0.0) -> Ledger:
    """The ledger after look ``attempt`` has paid for its two limits, in equal parts.

    Args:
        ledger: before, its total the error probability of all looks.
        attempt: ``a``.
        simulation: share of what this look pays that pays for hold-out tasks sharing their episodes.
    """
    paid = rest = ledger.total * look_share(attempt)
    if simulation:
        rest = paid * (1.0 - simulation)
        ledger = ledger.spend(
            "simulation", paid - rest, "hold-out tasks share episodes: too many of their intervals miss (Markov)"
        )
    ledger = ledger.spend("coverage", rest / 2, "hold-out limit on the uncovered mass")
    return ledger.spend("margin", rest / 2, "hold-out limit on tasks where the safe policy has less margin")


@dataclass(frozen=True, eq=False)
class Parts:
    """Everything that is frozen before the hold-out is drawn.

    Attributes:
        policies: J, the safe one first.
        cells: finished.
        bounds: ranges of an episode.
        report: on sampling and cover.
        assumption: on the safe policy's margin.
        choice: why so many cells, where their number was chosen.
    """

    policies: tuple[Policy, ...]
    cells: Cells
    bounds: EpisodeBounds
    report: TrainingReport
    assumption: AssumptionReport
    choice: CellsChoice | None = None


def training_report(
    family: Any, oracle: str, cover: Cover, *, tasks: int, rounds: int = 1, rejected: int = 0
) -> TrainingReport:
    """What sampling and cover came to.

    Args:
        family: its name and its parameters' names are kept.
        oracle: what counted as close.
        cover: of the sampled tasks that were not rejected.
        tasks: sampled.
        rounds: how often the sample was doubled.
        rejected: sampled tasks that no cell may be made from; they count as uncovered.
    """
    uncovered = rejected + cover.uncovered
    return TrainingReport(
        family=family.name,
        parameter_names=tuple(family.parameter_names),
        oracle=oracle,
        radius=float(cover.radius),
        tasks_sampled=tasks,
        rounds=rounds,
        uncovered_fraction=uncovered / tasks,
        level=proved_level(tasks, len(cover.centers), uncovered),
    )


def freeze(criterion: Criterion, parts: Parts, lineage: Lineage) -> PolicySet:
    """The policy set that a hold-out judges: without a certificate."""
    return PolicySet(
        criterion=criterion,
        policies=parts.policies,
        cells=parts.cells,
        bounds=parts.bounds,
        certificate=None,
        training=parts.report,
        assumption=parts.assumption,
        ledger=lineage.ledger,
        seed=lineage.seed,
        version=VERSION,
        extra={} if parts.choice is None else {"cells": parts.choice.data()},
        looks=lineage.looks,
        lineage_known=lineage.known,
    )


def judge_frozen(
    frozen: PolicySet,
    holdout: int,
    judge: Judge,
    *,
    simulation: float = 0.0,
    added: Callable[[int], float] = add_nothing,
) -> PolicySet:
    """The policy set with its certificate; as it is where there is no hold-out.

    Args:
        frozen: from :func:`freeze`.
        holdout: H.
        judge: of H fresh tasks, drawn from the stream it is given.
        simulation: see :func:`pay_for_look`.
        added: ``added(k)`` -> what simulated values add to the limit after k failures.
    """
    if not holdout:
        return frozen
    ledger = pay_for_look(frozen.ledger, frozen.attempt, simulation)
    stream = holdout_stream(frozen.seed, fingerprint(frozen), frozen.attempt)
    covered, margins = judge(stream, ledger)
    return replace(frozen, certificate=certify(ledger, frozen.safe_margin, covered, margins, added), ledger=ledger)


def certify(
    ledger: Ledger, safe_margin: float, covered: Any, margins: FloatArray, added: Callable[[int], float] = add_nothing
) -> Certificate:
    """What H fresh tasks prove about the frozen cells and the frozen margin.

    Args:
        ledger: after this look has paid.
        safe_margin: ``xi``.
        covered: (H,) whether a task lies in some cell.
        margins: (H,) of the safe policy.
        added: see :func:`judge_frozen`.
    """
    holdout, level = len(margins), ledger.spent_on("coverage")
    uncovered, failures = (
        int(np.count_nonzero(bad)) for bad in (~np.asarray(covered, dtype=np.bool_), margins < safe_margin)
    )
    return Certificate(
        holdout=holdout,
        uncovered=uncovered,
        uncovered_upper=simulated_upper(uncovered, holdout, level, added(uncovered)),
        margin_failures=failures,
        margin_failure_upper=simulated_upper(failures, holdout, level, added(failures)),
        delta_coverage=2.0 * level + ledger.spent_on("simulation"),
        simulation_error=added(uncovered),
    )
