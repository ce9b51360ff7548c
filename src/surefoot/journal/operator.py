"""An operator's instructions for a deployment, and the agent that obeys them.

Let w be the mixture that the agent certified. What is played instead:

* after an *abort*: the safe policy, for good;
* where plans need *approval*: w if it raises no weight off the safe policy above what was approved. Otherwise w waits, and the mixture that was
  approved last is played if it still satisfies every row; if not, the safe policy;
* under an *exposure limit* c (``cap``): ``w_j min(1, c / (1 - w_0))`` off the safe policy and the rest on the safe policy. This is a convex
  combination of two mixtures that satisfy every row, hence satisfies them too.

Every result is verified against the rows (:func:`surefoot.deploy.planner.verify`) before it is played.

Under ``trust="rehearsed"`` w is played as it is while the deployment is used as rehearsed: an exposure limit below the rehearsed one, plans that wait
for approval and a recovery leave the protocol (:mod:`surefoot.deploy.belief.rehearsed`), and then the above holds for what data bounds certify. Who
wants a limit rehearses with it. Pauses, their ends and aborts leave nothing. Letters: J policies, 0 is safe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.deploy.belief.rehearsed import ROUNDING, Rung
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.planner import Plan, Program, safe_plan, verify
from surefoot.deploy.stages import Standing
from surefoot.errors import ConflictError
from surefoot.policyset.schema import PolicySet

__all__ = ["Operator", "SupervisedAgent", "scaled"]


@dataclass(frozen=True, eq=False)
class Operator:
    """The instructions in force.

    Attributes:
        approve: whether new plans wait for approval.
        paused, aborted: the reason, or ``None``.
        cap: the exposure limit, a bound on the total weight off the safe policy.
        approved: (J,) the weights that were approved last, or ``None``.
        approved_plan: number of the event that proposed them, or 0.
        recovering: whether events that were held while the journal could not be replayed are being replayed; meanwhile the safe policy is played.
    """

    approve: bool = False
    paused: str | None = None
    aborted: str | None = None
    cap: float = 1.0
    approved: FloatArray | None = None
    approved_plan: int = 0
    recovering: bool = False

    def play(self, proposed: Plan, program: Program) -> tuple[Plan, Plan | None]:
        """The plan that is played instead of ``proposed``, and the plan that waits for approval, if any."""
        if self.aborted is not None:
            return safe_plan(program, f"aborted: {self.aborted}"), None
        if self.recovering:
            return safe_plan(program, "recovering: what was held meanwhile is worked in"), None
        chosen, waiting = proposed, None
        if self.approve and not self._within(proposed.weights):
            chosen, waiting = self._meanwhile(program), proposed
        return self._capped(chosen, program), waiting

    def _within(self, weights: FloatArray) -> bool:
        """Whether every weight off the safe policy is at most the approved one."""
        limit = np.zeros(weights.size) if self.approved is None else self.approved
        return bool((weights[1:] <= limit[1:]).all())

    def _meanwhile(self, program: Program) -> Plan:
        """The plan that is played while another one waits."""
        if self.approved is None:
            return safe_plan(program, "a plan waits for its first approval")
        if self.approved[list(program.barred)].any() or not verify(self.approved, program.rows, program.limits):
            return safe_plan(program, "the approved plan is no longer certified, and the new one waits for approval")
        reasons = {int(j): "approved earlier; a new plan waits" for j in np.flatnonzero(self.approved)}
        return plan_of(self.approved, program, reasons)

    def _capped(self, chosen: Plan, program: Program) -> Plan:
        """``chosen`` under the exposure limit."""
        weights = scaled(chosen.weights, self.cap)
        if weights is chosen.weights:
            return chosen
        if not verify(weights, program.rows, program.limits):
            return safe_plan(program, "the capped mixture failed verification")
        told = f"; capped at {self.cap:g}"
        reasons = {int(j): chosen.reasons.get(int(j), "the safe policy makes room") for j in np.flatnonzero(weights)}
        return plan_of(weights, program, {j: why + told for j, why in reasons.items()})


def scaled(weights: FloatArray, cap: float) -> FloatArray:
    """Weights (J,) of which at most ``cap`` are off the safe policy; those are scaled in proportion."""
    off = float(weights[1:].sum())
    if off <= cap:
        return weights
    result = weights * (cap / off)
    result[0] = max(0.0, 1.0 - float(result[1:].sum()))
    return result


def plan_of(weights: FloatArray, program: Program, reasons: dict[int, str]) -> Plan:
    """A plan with weights (J,) that were verified."""
    bounds = np.einsum("j,hji->hi", weights, program.rows).max(axis=0, initial=-np.inf)
    return Plan(weights, bounds, float(program.objective @ weights), True, reasons)


class SupervisedAgent(CertifiedAgent):
    """A certified agent that obeys an operator and lists its own decisions.

    Attributes:
        operator: the instructions in force.
        waiting: the plan that waits for approval, or ``None``.
        fresh: (kind, text) of the decisions since the list was last emptied.
    """

    CHANGES = (*CertifiedAgent.CHANGES, "operator", "waiting")

    def __init__(self, policy_set: PolicySet, operator: Operator, **settings: Any) -> None:
        self.operator = operator
        self.waiting: Plan | None = None
        self.fresh: list[tuple[str, str]] = []
        super().__init__(policy_set, **settings)
        if operator.approve:
            self.leave_protocol("plans wait for approval, which was not rehearsed")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~surefoot.stateful.HasState`; what was decided before is listed no more."""
        super().load_state_dict(state)
        self.fresh = []

    def steer(self, **changes: Any) -> None:
        """Change instructions, which take effect at once."""
        rung = self.rung
        if rung is not None and changes.get("cap", 1.0) < rung.exposure:
            self.leave_protocol(
                f"the exposure limit {changes['cap']:g} is below the {rung.exposure:g} that was rehearsed"
            )
        if changes.get("recovering"):
            self.leave_protocol("the safe policy was played while the journal could not be followed")
        self.operator = replace(self.operator, **changes)
        self._stale = True

    def expect(self, pending: dict[int, int], opened: int) -> None:
        """Set the pending episodes (policy by id) of ``opened`` that were asked. Serves :meth:`check` alone."""
        self._tracker.expect(pending, opened)

    def check(self, **report: Any) -> None:
        """Raise what :meth:`tell` would raise for the same arguments; nothing changes.

        Raises:
            InvalidReport: see :class:`~surefoot.deploy.agent.Agent`.
        """
        self._tracker.check(**report)

    def pause(self, reason: str | None) -> None:
        """Record a pause (its reason) or its end (``None``); no plan depends on it."""
        self.operator = replace(self.operator, paused=reason)

    def approve(self, plan: int) -> None:
        """Approve the waiting plan, which event ``plan`` proposed.

        Raises:
            ConflictError: no plan waits.
        """
        if self.waiting is None:
            raise ConflictError(
                "approve needs a plan that waits, and none does; see the status", code="SF-CONFLICT-NO-PLAN"
            )
        self.steer(approved=self.waiting.weights, approved_plan=plan)

    def certifies(self, weights: FloatArray, bounds: FloatArray) -> bool:
        """Whether weights (J,) may be played now and ``bounds`` (I,) are their certified costs; the safe policy always may."""
        followed = self._followed
        if followed is not None:
            mine = plan_of(weights, followed.program(self._limits, self.margin, weights), {}).bounds
            room = ROUNDING * np.minimum(1.0, self._limits)
            return (
                followed.would_play(weights, self._limits)
                and mine.shape == bounds.shape
                and bool(np.allclose(mine, bounds, rtol=ROUNDING, atol=room))
            )
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
        """Play ``plan`` until the next one is made."""
        self._stale, self._plan, self.waiting = False, plan, waiting

    @property
    def rung(self) -> Rung | None:
        """What was rehearsed; ``None`` under other trust levels."""
        return None if self._rehearsed is None else self._rehearsed.rung

    @property
    def believes(self) -> bool:
        """Whether a belief plans, as it was rehearsed."""
        return self._followed is not None

    @property
    def ceilings(self) -> FloatArray:
        """(I,) the largest cost of an episode of any policy, declared or derived."""
        found: FloatArray = self._largest.copy()
        return found

    @property
    def unramped(self) -> bool:
        """Whether real returns are not compared with simulation: there is no ramp, and no policy is ever barred."""
        return self._reality.ramp is None

    @property
    def settled(self) -> int:
        """How many episodes, in ask order, have evidence that took effect."""
        return self._buffer.settled

    @property
    def target(self) -> int:
        """The policy that the agent tries to prove safe, or 0."""
        return self._objective.target

    @property
    def noted(self) -> tuple[str, ...]:
        """Notes on evidence that was lost or limited."""
        return tuple(self._evidence.notes)

    @property
    def pending(self) -> int:
        """How many episodes were asked and neither told nor lost."""
        return self._tracker.pending

    def is_pending(self, episode: int) -> bool:
        """Whether an episode may still be told."""
        return self._tracker.is_pending(episode)

    def log_wealth(self) -> FloatArray:
        """(N,) log of every cell's e-process; NaN for cells that are eliminated for good."""
        return np.where(self._evidence.watched, self._evidence.log_wealth(), np.nan)

    def _standing_now(self) -> Standing:
        return replace(super()._standing_now(), aborted=self.operator.aborted)

    @property
    def _stopped(self) -> bool:
        return super()._stopped or self.operator.aborted is not None or self.operator.recovering

    def _make_plan(self) -> Plan:
        proposed = super()._make_plan()
        if self._followed is not None:
            self.waiting = None
            return proposed
        chosen, self.waiting = self.operator.play(proposed, self._program())
        return chosen

    def _note_event(self, kind: str, text: str) -> None:
        super()._note_event(kind, text)
        self.fresh.append((kind, text))
