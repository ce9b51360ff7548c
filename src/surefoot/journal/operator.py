"""What people may do to a deployment's plan, and the agent that lets them.

Let w be the agent's certified mixture. What is played is

* after *abort*: the safe policy, for good;
* with *approval*: w if it raises no weight off the safe policy above what was approved; else w waits, and the mixture that was approved last is
  played if it still satisfies every row, else the safe policy;
* under a *cap* c: ``w_j min(1, c / (1 - w_0))`` off the safe policy, the rest on the safe policy: a convex combination of two mixtures that satisfy
  every row, hence one that does.

Whatever comes out is verified against the rows (:func:`surefoot.deploy.planner.verify`) before it is played. Letters: J policies, 0 is safe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.planner import Plan, Program, safe_plan, verify
from surefoot.errors import ConflictError
from surefoot.policyset.schema import PolicySet

__all__ = ["Operator", "SupervisedAgent", "scaled"]


@dataclass(frozen=True, eq=False)
class Operator:
    """Standing instructions.

    Attributes:
        approve: whether new plans wait.
        paused, aborted: the reason, or ``None``.
        cap: bound on the total weight off the safe policy.
        approved: (J,) weights that somebody approved last, or ``None``.
        approved_plan: number of the event that proposed them, or 0.
        recovering: what was held while the journal could not be followed is being worked in, and the safe policy is played.
    """

    approve: bool = False
    paused: str | None = None
    aborted: str | None = None
    cap: float = 1.0
    approved: FloatArray | None = None
    approved_plan: int = 0
    recovering: bool = False

    def play(self, proposed: Plan, program: Program) -> tuple[Plan, Plan | None]:
        """What is played instead of ``proposed``, and what waits for approval."""
        if self.aborted is not None:
            return safe_plan(program, f"aborted: {self.aborted}"), None
        if self.recovering:
            return safe_plan(program, "recovering: what was held meanwhile is worked in"), None
        chosen, waiting = proposed, None
        if self.approve and not self._within(proposed.weights):
            chosen, waiting = self._meanwhile(program), proposed
        return self._capped(chosen, program), waiting

    def _within(self, weights: FloatArray) -> bool:
        """Whether no weight off the safe policy exceeds what was approved."""
        limit = np.zeros(weights.size) if self.approved is None else self.approved
        return bool((weights[1:] <= limit[1:]).all())

    def _meanwhile(self, program: Program) -> Plan:
        if self.approved is None:
            return safe_plan(program, "a plan waits for its first approval")
        if self.approved[list(program.barred)].any() or not verify(self.approved, program.rows, program.limits):
            return safe_plan(program, "the approved plan is no longer certified, and the new one waits for approval")
        reasons = {int(j): "approved earlier; a new plan waits" for j in np.flatnonzero(self.approved)}
        return plan_of(self.approved, program, reasons)

    def _capped(self, chosen: Plan, program: Program) -> Plan:
        weights = scaled(chosen.weights, self.cap)
        if weights is chosen.weights:
            return chosen
        if not verify(weights, program.rows, program.limits):
            return safe_plan(program, "the capped mixture failed verification")
        told = f"; capped at {self.cap:g}"
        reasons = {int(j): chosen.reasons.get(int(j), "the safe policy makes room") for j in np.flatnonzero(weights)}
        return plan_of(weights, program, {j: why + told for j, why in reasons.items()})


def scaled(weights: FloatArray, cap: float) -> FloatArray:
    """Weights (J,) with at most ``cap`` off the safe policy, each in proportion."""
    off = float(weights[1:].sum())
    if off <= cap:
        return weights
    result = weights * (cap / off)
    result[0] = max(0.0, 1.0 - float(result[1:].sum()))
    return result


def plan_of(weights: FloatArray, program: Program, reasons: dict[int, str]) -> Plan:
    """A plan with these verified weights."""
    bounds = np.einsum("j,hji->hi", weights, program.rows).max(axis=0, initial=-np.inf)
    return Plan(weights, bounds, float(program.objective @ weights), True, reasons)


class SupervisedAgent(CertifiedAgent):
    """A certified agent that follows an operator and keeps a list of what it did.

    Attributes:
        operator: standing instructions.
        waiting: the plan that waits for approval, or ``None``.
        fresh: (kind, text) of what happened since somebody emptied the list.
    """

    def __init__(self, policy_set: PolicySet, operator: Operator, **settings: Any) -> None:
        self.operator = operator
        self.waiting: Plan | None = None
        self.fresh: list[tuple[str, str]] = []
        super().__init__(policy_set, **settings)

    def steer(self, **changes: Any) -> None:
        """New instructions; they take effect at once."""
        self.operator = replace(self.operator, **changes)
        self._stale = True

    def expect(self, pending: dict[int, int], opened: int) -> None:
        """Take these episodes (policy by id) of ``opened`` for the pending ones: for :meth:`check` alone."""
        self._tracker._pending, self._tracker.opened = dict(pending), opened

    def check(self, **report: Any) -> None:
        """Refuse what :meth:`tell` would refuse of the same arguments; nothing moves.

        Raises:
            InvalidReport: see :class:`~surefoot.deploy.agent.Agent`.
        """
        self._checked(**report)

    def pause(self, reason: str | None) -> None:
        """Note a pause or its end; no plan depends on it."""
        self.operator = replace(self.operator, paused=reason)

    def approve(self, plan: int) -> None:
        """The waiting plan, proposed by event ``plan``, may be played.

        Raises:
            ConflictError: no plan waits.
        """
        if self.waiting is None:
            raise ConflictError("approve needs a plan that waits, and none does; see the status")
        self.steer(approved=self.waiting.weights, approved_plan=plan)

    def certifies(self, weights: FloatArray, bounds: FloatArray) -> bool:
        """Whether a mixture may be played now, and ``bounds`` (I,) are its certified costs; the safe policy always may."""
        program = self._program()
        mine = plan_of(weights, program, {}).bounds
        stopped = self._alarm is not None or self.ramping or bool(weights[list(program.barred)].any())
        allowed = weights[0] == 1.0 or (not stopped and verify(weights, program.rows, program.limits))
        return (
            allowed
            and mine.shape == bounds.shape
            and bool(np.allclose(mine, bounds, rtol=1e-9, atol=1e-9 * np.minimum(1.0, program.limits)))
        )

    def adopt(self, plan: Plan, waiting: Plan | None) -> None:
        """Play this plan until the next one is made."""
        self._stale, self._plan, self.waiting = False, plan, waiting

    @property
    def ceilings(self) -> FloatArray:
        """(I,) declared or derived largest episode costs."""
        return self._ceilings.copy()

    @property
    def unramped(self) -> bool:
        """Whether reality is not compared with simulation: no ramp, and nothing is ever barred."""
        return self._ramp is None

    @property
    def settled(self) -> int:
        """Episodes, in ask order, whose evidence has taken effect."""
        return self._buffer.settled

    @property
    def target(self) -> int:
        """The policy that is to be proved safe, or 0."""
        return self._target

    @property
    def noted(self) -> tuple[str, ...]:
        """What happened to the evidence."""
        return tuple(self._evidence.notes)

    @property
    def pending(self) -> int:
        """Episodes asked and neither told nor lost."""
        return self._tracker.pending

    def is_pending(self, episode: int) -> bool:
        """Whether an episode may still be told."""
        return episode in self._tracker._pending

    def log_wealth(self) -> FloatArray:
        """(N,) log of every cell's e-process; meaningless for cells that are out for good."""
        return np.where(self._evidence.watched, self._evidence.log_wealth(), np.nan)

    def _make_plan(self) -> Plan:
        proposed = super()._make_plan()
        chosen, self.waiting = self.operator.play(proposed, self._program())
        return chosen

    def _note_event(self, kind: str, text: str) -> None:
        super()._note_event(kind, text)
        self.fresh.append((kind, text))
