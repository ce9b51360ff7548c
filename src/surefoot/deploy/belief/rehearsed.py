"""What a rehearsed agent plays, and whether the deployment is still what was rehearsed.

A rehearsal certifies one configuration, a :class:`Rung`, used as its protocol says. As long as the deployment stays inside, the mixture is the
belief's (:mod:`surefoot.deploy.belief.planner`), the same function of the outcomes as in the rehearsal. A deployment *leaves its protocol* when

* an episode that should enter the plan that is due was neither told nor declared lost before the next one is asked;
* episodes are asked together across a plan time, or told together across what enters two plans;
* more episodes are lost than the protocol has, beyond chance (at :data:`LOST_ERROR`);
* the operator intervenes: an exposure limit below the rehearsed one, plans that wait for approval, a recovery after which the safe policy was
  played while the journal could not be followed (:mod:`surefoot.journal.operator`). Whoever wants a limit rehearses with it (:attr:`Rung.exposure`).

The mixture of that moment was rehearsed and may be played once more; what follows rests on data bounds alone (``trust="data"``), for good. An alarm
or an abort returns to the safe policy for good, which is covered: a run that stops is the beginning of a rehearsed one, followed by the safe policy.
A pause only takes time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from surefoot.arrays import FloatArray, check_integer, check_real
from surefoot.deploy.belief.planner import BeliefPlanner, following_time
from surefoot.deploy.planner import Plan, Program, safe_plan
from surefoot.deploy.report import Report
from surefoot.errors import AssumptionError, InvalidInput
from surefoot.policyset.belief import check_boldness
from surefoot.policyset.schema import EVIDENCE, PolicySet
from surefoot.protocol import Protocol
from surefoot.stateful import Stateful

__all__ = ["RehearsedPlan", "Rung", "rehearsed_plan"]

LOST_ERROR = 1e-3
ROUNDING = 1e-6
"""Relative difference that another machine's arithmetic may make to weights and expected values."""
TIED = 1e-9
"""Mixtures whose expected returns differ by less, relatively, are one as good as the other."""


@dataclass(frozen=True)
class Rung:
    """One configuration of the agent, as a rehearsal runs and certifies it.

    Attributes:
        boldness: standard deviations between costs and limits; the smaller the bolder.
        episodes: K, after which the mixture stays.
        evidence: which belief plans, ``"all"`` or ``"returns"``.
        batch: most episodes asked at once.
        delay: episodes that may be asked between the asking and the telling of one.
        lost: share of the reports that never come.
        history: logged episodes of the safe policy before the first ask.
        exposure: most weight off the safe policy.
        surprise: the alarm's threshold, infinite without one.
    """

    boldness: float
    episodes: int
    evidence: str = "all"
    batch: int = 1
    delay: int = 0
    lost: float = 0.0
    history: int = 0
    exposure: float = 1.0
    surprise: float = np.inf

    def __post_init__(self) -> None:
        check_boldness("boldness", self.boldness)
        for name, low in (("episodes", 1), ("batch", 1), ("delay", 0), ("history", 0)):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=low))
        for name in ("lost", "exposure"):
            object.__setattr__(self, name, check_real(name, getattr(self, name), low=0.0, high=1.0))
        if self.evidence not in EVIDENCE:
            raise InvalidInput(
                f"evidence must be one of {', '.join(EVIDENCE)}, got {self.evidence!r}; choose one",
                code="SF-ARGUMENT-CHOICE",
            )

    @staticmethod
    def of(boldness: float, episodes: int, evidence: str, protocol: Protocol, surprise: float = np.inf) -> Rung:
        """The configuration with this boldness under a protocol."""
        return Rung(
            boldness, episodes, evidence, protocol.batch, protocol.longest_delay, protocol.largest_loss, protocol.history, protocol.exposure,
            surprise,
        )  # fmt: skip

    def planner(self, policy_set: PolicySet) -> BeliefPlanner:
        """The planner of this configuration.

        Raises:
            AssumptionError: the policy set has no belief for this evidence.
        """
        belief = policy_set.beliefs.get(self.evidence)
        if belief is None:
            raise AssumptionError(
                f"trust='rehearsed' with evidence={self.evidence!r} needs a belief about the task, got a policy set with "
                f"{', '.join(sorted(policy_set.beliefs)) or 'none'}; use surefoot.learn_belief, or train with cells=None",
                code="SF-ASSUMPTION-BELIEF",
            )
        return BeliefPlanner(
            belief, policy_set.criterion.cost_limits, self.boldness, self.episodes, batch=self.batch, delay=self.delay,
            exposure=self.exposure,
        )  # fmt: skip


def rehearsed_plan(rehearsed: RehearsedPlan, program: Program) -> Plan:
    """The mixture that the belief gives, with what it takes the costs to be at most."""
    planner = rehearsed.planner
    if not planner.found:
        return safe_plan(program, "the belief leaves room for the safe policy alone")
    weights = planner.weights
    reasons = {
        int(j): f"the belief expects a return of {planner.returns[j]:.4g} and takes costs to be at most "
        + ", ".join(f"{c:.4g}" for c in planner.upper[j])
        for j in np.flatnonzero(weights)
    }
    return Plan(weights.copy(), weights @ program.rows[0], float(planner.returns @ weights), True, reasons)


class RehearsedPlan(Stateful):
    """See the module's docstring.

    Args:
        rung: what was rehearsed.
        policy_set: with a belief.

    Attributes:
        planner: what is played.
        left: why the deployment is no longer what was rehearsed, or ``None``.
        left_at: how many episodes had been asked then.
    """

    CHANGES: ClassVar[tuple[str, ...]] = ("planner", "left", "left_at", "_lost", "_recalled")

    def __init__(self, rung: Rung, policy_set: PolicySet) -> None:
        self.rung = rung
        self.planner = rung.planner(policy_set)
        self.left: str | None = None
        self.left_at = 0
        self._lost = self._recalled = 0

    @property
    def inside(self) -> bool:
        """Whether the deployment is still what was rehearsed."""
        return self.left is None

    @property
    def surprised(self) -> bool:
        """Whether what happened fits the belief worse than on rehearsed plants."""
        return self.planner.surprise > self.rung.surprise

    @property
    def text(self) -> str:
        """Inside or outside, in a sentence for people."""
        if self.left is not None:
            return f"outside the rehearsed protocol since {self.left_at} episodes were asked: {self.left}; data bounds alone decide"
        threshold = self.rung.surprise
        alarm = f"the alarm is at {threshold:.3g}" if np.isfinite(threshold) else "without an alarm"
        return f"used as rehearsed so far; surprise {self.planner.surprise:.3g}, {alarm}"

    @property
    def final(self) -> bool:
        """Whether the last plan was made: from now on the mixture stays."""
        return self.planner.due >= self.rung.episodes

    @property
    def next(self) -> str:
        """What is being learned, in plain words."""
        due, episodes = self.planner.due, self.rung.episodes
        if self.final:
            return f"nothing more: after {episodes} episodes, as rehearsed, the mixture stays"
        return f"what the real task is like, by a belief; the next plan is made before episode {due}"

    def leave(self, reason: str, opened: int) -> bool:
        """The deployment is no longer what was rehearsed, after ``opened`` episodes were asked; whether that is new."""
        if self.left is not None:
            return False
        self.left, self.left_at = reason, opened
        return True

    def follow(self, opened: int) -> bool:
        """Make the plan that is due, if everything that should enter it is known; whether there is a new one."""
        if not self.inside or not self.planner.is_due(opened) or self._recalled < self.rung.history:
            return False
        if self.planner.missing():
            return False
        self.planner.refresh()
        return True

    def asked(self, opened: int, n: int) -> str | None:
        """Episodes ``opened, ..., opened + n - 1`` are asked with the present mixture; why that was not rehearsed, or ``None``."""
        if self.planner.is_due(opened):
            if self._recalled < self.rung.history:
                return f"{self.rung.history} logged episodes of the safe policy were rehearsed, {self._recalled} were given"
            return (
                f"episode {opened} was asked while {self.planner.missing()} reports were later than the {self.rung.delay} episodes of delay that "
                "were rehearsed"
            )
        time = self._next_plan(opened)
        if time < min(opened + n, self.rung.episodes):
            return f"{n} episodes were asked at once, across a plan that was due before episode {time}; batches of {self.rung.batch} were rehearsed"
        return None

    def together(self, opened: int) -> int | None:
        """How many episodes may be asked at once after ``opened`` of them; ``None``: any number, because no plan is to come or it is too late."""
        time = self._next_plan(opened)
        return time - opened if self.inside and opened < time < self.rung.episodes else None

    def _next_plan(self, opened: int) -> int:
        """Before which episode the plan after this one is made."""
        return self.planner.due if self.planner.due > opened else following_time(self.planner.due, self.rung.batch)

    def told(self, report: Report) -> str | None:
        """A report arrived; why that was not rehearsed, or ``None``."""
        if self.planner.due >= self.rung.episodes:
            return None
        taken = self.planner.tell(
            report.ids, report.policy_index, report.outcomes, initial_state=report.initial_state, transitions=report.transitions,
            signals=report.signals,
        )  # fmt: skip
        return None if taken else "episodes that should enter different plans were told together"

    def lost(self, ids: Any, opened: int) -> str | None:
        """Episodes will never be told; why that was not rehearsed, or ``None``."""
        if self.planner.due >= self.rung.episodes:
            return None
        self.planner.lost(ids)
        self._lost += int(np.size(ids))
        from scipy.stats import binom

        if binom.sf(self._lost - 1, opened, self.rung.lost) < LOST_ERROR:
            return f"{self._lost} of {opened} episodes are lost, where a share of {self.rung.lost:g} was rehearsed"
        return None

    def would_play(self, weights: FloatArray, limits: FloatArray) -> bool:
        """Whether weights (J,) are the mixture that is due, but for another machine's arithmetic: as close, or as good under the same rule."""
        own = self.planner.weights
        if np.allclose(weights, own, rtol=0.0, atol=ROUNDING):
            return True
        off = 1.0 - min(float(weights[0]), float(own[0]))
        if not self.planner.found or (self.rung.exposure < 1.0 and off >= self.rung.exposure - ROUNDING):
            return False  # of a mixture that was scaled down the rule says nothing
        value, best = float(self.planner.returns @ weights), float(self.planner.returns @ own)
        costs = weights @ self.planner.upper_at(weights)
        return abs(value - best) <= TIED * (1.0 + abs(best)) and bool((costs <= limits * (1.0 + TIED)).all())

    def program(self, limits: FloatArray, margin: float, weights: FloatArray | None = None) -> Program:
        """One row: what the belief takes costs to be at most, at the mixture now or at ``weights`` (J,).

        It is no proof; what is certified is the whole deployment, by rehearsal.
        """
        rows = self.planner.upper.copy() if weights is None else self.planner.upper_at(weights)
        rows[0] = np.minimum(rows[0], limits - margin)
        return Program(
            objective=self.planner.returns, rows=rows[None], names=("the belief",), limits=limits, candidate=0, kappa=0.0, cap=1.0
        )  # fmt: skip

    @property
    def missing_history(self) -> int:
        """How many logged episodes were rehearsed and not given yet."""
        return self.rung.history - self._recalled

    def recall(self, outcomes: Any, **more: Any) -> None:
        """Logged episodes of the safe policy; see :meth:`~surefoot.deploy.belief.planner.BeliefPlanner.recall`."""
        self.planner.recall(outcomes, **more)
        self._recalled += len(outcomes)
