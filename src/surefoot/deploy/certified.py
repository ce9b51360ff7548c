"""The certified agent: learns on the real task and never deploys a mixture it cannot certify.

Every time something changed, the mixture of the library is the solution of a linear program (:mod:`surefoot.deploy.planner`) whose rows
are upper bounds on the real costs. Which rows, and what has to be true for them to hold, is the user's *trust level*
(:mod:`surefoot.deploy.trust`): ``data``, ``envelope`` or ``cells``. The agent itself is a shell around parts that do one thing each:

    ids, draws, checks of reports         :mod:`~surefoot.deploy.tracker`           data bounds ``B_j``      :mod:`~surefoot.deploy.bounds`
    reports in ask order                  :mod:`~surefoot.deploy.reorder`           evidence about cells     :mod:`surefoot.deploy.evidence`
    bets fixed at ``ask``                 :mod:`~surefoot.deploy.fixed_bets`        objective and target     :mod:`~surefoot.deploy.objective`
    the ramp, and barred policies         :mod:`~surefoot.deploy.reality`           the monitor              :mod:`~surefoot.deploy.monitor`
    logged episodes                       :mod:`~surefoot.deploy.history`         plants that change       :mod:`~surefoot.deploy.drift`

On the event that all bounds hold and the cell of the real task stays active, one row bounds the real costs from above, and costs are linear in
the weights. What is certified is the **mixture**: ``ask`` draws once from a mixture certified at that moment; selectively discarding draws voids
the guarantee. An agent may be shared by threads: its operations take turns, whole or not at all (:mod:`surefoot.deploy.turns`).

Five things stop everything and return to the safe policy for good: a finite cost above the declared ceiling (an assumption
is false), every cell rejected for good (the task is outside the family), the ramp (reality is not what simulation predicts), the monitor, an
e-process on real costs against "every mixture met the limit" with a false-alarm level of its own, and beside it an e-detector that forgets, which
finds changes after a long good phase. While every cell is rejected but some may
come back, data bounds alone decide.

The file is longer than its neighbours because every setting, property and operation of the agent is declared and documented here; what they
do is in the parts.

Letters: N cells, J policies (0 is safe), I constraints, n episodes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any, ClassVar, Literal, overload

import numpy as np

from surefoot.arrays import FloatArray, check_integer, check_real
from surefoot.deploy import tuning
from surefoot.deploy.admission import check_certificate, check_margin, rehearsed_rung
from surefoot.deploy.belief.rehearsed import RehearsedPlan, Rung, rehearsed_plan
from surefoot.deploy.bounds import CostBounds, ProductRegion
from surefoot.deploy.comparison import BESIDE, ReturnComparison
from surefoot.deploy.drift import DRIFT, FALSE_ALARM_EVERY, CostDetector, check_false_alarm_every
from surefoot.deploy.evidence.base import evidence_names
from surefoot.deploy.evidence.mixture import Evidence
from surefoot.deploy.fixed_bets import FixedBets
from surefoot.deploy.history import LogCheck, blocks
from surefoot.deploy.monitor import Monitor
from surefoot.deploy.objective import Objective
from surefoot.deploy.planner import Plan, Program, plan, safe_plan
from surefoot.deploy.posterior import CellPosterior
from surefoot.deploy.ramp import RAMP, Ramp, simulated_range
from surefoot.deploy.reality import RealityCheck
from surefoot.deploy.reorder import Released, ReorderBuffer
from surefoot.deploy.report import Report, above_ceiling
from surefoot.deploy.stages import Stage, Standing, Steadiness, stage_name, stage_of
from surefoot.deploy.stationarity import CHANGED, StationarityDetector
from surefoot.deploy.status import AgentEvent, Status, listed
from surefoot.deploy.tracker import Batch, Episode, EpisodeTracker
from surefoot.deploy.trust import Knowledge, TrustLevel, data_start, levels, simulated_ceilings, trust_level
from surefoot.deploy.turns import undivided
from surefoot.deprecation import warn_renamed
from surefoot.errors import AssumptionError, ConflictError, InvalidInput
from surefoot.policy import Mixture, Policy
from surefoot.policyset.schema import PolicySet, check_policy_set
from surefoot.stateful import Stateful

__all__ = ["CertifiedAgent"]


class CertifiedAgent(Stateful):
    """See the module's docstring.

    Args:
        policy_set: from training.
        trust: ``"cells"``, ``"envelope"``, ``"data"``, ``"rehearsed"``, or what was registered
            (:func:`~surefoot.deploy.trust.register_trust_level`). Without it ``"cells"`` is tried, and a refusal says what the others assume.
        delta: bound on the probability that any deployed mixture ever violates a limit.
        seed: of the draws.
        evidence: ``"all"``, ``"returns"`` where the plant reports no transitions, or what was registered
            (:func:`~surefoot.deploy.evidence.base.register_evidence`).
        margin: ``xi``, the safe policy's margin in the real task; an **assumption**. By default what training verified.
        cost_ceilings: (I,) largest possible episode costs, or (J, I) of each policy, where an interlock or a calm controller allows less. By
            default ``c_max/(1-gamma)`` under ``data``, what the simulator's support allows otherwise. An episode above its own raises the alarm.
        p_max, delta_coverage: under ``cells``, refuse policy sets whose hold-out does not show, at error ``delta_coverage`` over all looks (look a
            pays ``delta_coverage / 2^a``), that at most ``p_max`` of the task distribution is uncovered. Choose both before you look.
        losses: ``"worst"``, or ``"independent"`` if you declare that lost episodes do not depend on outcomes.
        monitor_delta: false-alarm probability of the monitor, and again of the comparison with simulation; outside ``delta``.
        false_alarm_every: least mean number of episodes until the detector of a change of costs raises a false alarm, outside ``delta`` too; at
            least 1. 0 switches it off.
        false_change_every: the same for the detector of any change in what policies return or cost (:mod:`surefoot.deploy.stationarity`). 0, the
            default, switches it off: it suits plants whose episodes have no seasons.
        rung: under ``rehearsed``, the configuration to be played; by default the one that the policy set's certificate names. Rehearsals give their
            own, and nothing is promised for it.
        ramp: under ``cells`` and ``envelope``, so many episodes of the safe policy are compared with simulation before any other policy gets
            weight, and policies that return less than it in reality are barred. 0 switches both off.
        joint_bounds: where cells pay nothing, the safe policy and the target share one error
            (:class:`~surefoot.deploy.bounds.ProductRegion`); ``False``: each has its own, as deployments had it that were opened before.

    Raises:
        AssumptionError: the margin is not positive, or the policy set's certificate misses ``p_max``.
        InvalidInput: an argument out of range.
    """

    CHANGES: ClassVar[tuple[str, ...]] = (
        "_tracker", "_bounds", "_evidence", "_objective", "_monitor", "_buffer", "_bets", "_reality", "_alarm", "_outside", "_stale", "_plan",
        "_planned_bounds", "_changed", "_kappa", "_rehearsed", "_alarm_kind", "_steadiness", "_stage", "_log", "_detector",
        "_stationarity",
    )  # fmt: skip

    def __init__(
        self,
        policy_set: PolicySet,
        *,
        trust: str | None = None,
        delta: float = 0.05,
        seed: int = 0,
        evidence: str = "all",
        margin: float | None = None,
        cost_ceilings: Any = None,
        p_max: float = 0.05,
        delta_coverage: float = 0.05,
        losses: Literal["worst", "independent"] = "worst",
        monitor_delta: float = 0.001,
        false_alarm_every: float = FALSE_ALARM_EVERY,
        false_change_every: float = 0.0,
        ramp: int = RAMP,
        joint_bounds: bool = True,
        rung: Rung | None = None,
    ) -> None:
        check_policy_set(policy_set)
        self._level: TrustLevel = trust_level("cells" if trust is None else trust)
        _check_choice("evidence", evidence, tuple(sorted(evidence_names())))
        _check_choice("losses", losses, ("independent", "worst"))
        delta, p_max, delta_coverage, monitor_delta = (
            check_real(name, value, low=0.0, high=1.0, open_low=True, open_high=True)
            for name, value in (
                ("delta", delta),
                ("p_max", p_max),
                ("delta_coverage", delta_coverage),
                ("monitor_delta", monitor_delta),
            )
        )
        seed = check_integer("seed", seed, low=0)
        ramp = check_integer("ramp", ramp, low=0)
        self.trust = "cells" if trust is None else trust
        self._set, criterion = policy_set, policy_set.criterion
        self._limits = criterion.cost_limits
        self.margin = check_margin(policy_set, margin)
        if self._level.rejects_cells:
            try:
                check_certificate(policy_set, p_max, delta_coverage)
            except AssumptionError as error:
                if trust is not None:
                    raise
                raise AssumptionError(
                    f"{error}. No trust level was given, so 'cells' was tried. {levels()}", code=error.code
                ) from error
        known = self._level.rejects_cells and policy_set.certificate is not None
        self._set_out_with = policy_set.ledger.total if known else None
        self._delta_coverage = delta_coverage
        shape = (len(policy_set.policies), criterion.n_constraints)
        self._ceilings = np.broadcast_to(self._level.ceilings(policy_set, cost_ceilings), shape)
        self._largest = self._ceilings.max(axis=0)
        self._rehearsed: RehearsedPlan | None = None
        if self._level.follows_belief:
            self._rehearsed = RehearsedPlan(
                rehearsed_rung(policy_set, evidence, delta) if rung is None else rung, policy_set
            )
        # A cost above its ceiling is recorded and alarms; a return out of its range is no reason to refuse the costs that came with it.
        anything, no_ceiling = (-np.inf, np.inf), np.full(criterion.n_constraints, np.inf)
        rng = np.random.default_rng(seed)
        self._tracker = EpisodeTracker(
            policy_set.policies, criterion, anything, no_ceiling, rng, signals=policy_set.cells.signals
        )
        self._build(delta, evidence, monitor_delta, ramp, joint_bounds)
        self._detector = CostDetector(self._limits, self._largest, check_false_alarm_every(false_alarm_every))
        self._stationarity = StationarityDetector(
            len(policy_set.policies),
            1 + criterion.n_constraints,
            check_false_alarm_every(false_change_every, "false_change_every"),
            seed,
        )
        self._losses_independent = losses == "independent"
        self._buffer, self._bets = ReorderBuffer(), FixedBets()
        self._log = LogCheck(("the return", *(f"cost {name}" for name in criterion.cost_names)))
        self._alarm: str | None = None
        self._alarm_kind, self._steadiness = "", Steadiness(len(policy_set.policies))
        self._outside = False
        self._changed, self._kappa = 0, self._level.exploration
        if self._rehearsed is not None:
            self._rehearsed.follow(0)
        self.events: deque[AgentEvent] = deque(maxlen=tuning.TUNING.events_kept)
        self._stale, self._plan = False, self._make_plan()
        if not self._level.rejects_cells:
            self._bounds.select(0, 0)
        self._stage = stage_name(self._standing_now())

    def _build(self, delta: float, evidence: str, monitor_delta: float, ramp: int, joint_bounds: bool) -> None:
        level, policy_set = self._level, self._set
        self.ledger = level.ledger(delta)
        shares = level.shares(delta)
        start = level.start(policy_set, self._largest, self.margin)
        self._bounds: CostBounds | ProductRegion
        if joint_bounds and not level.rejects_cells:
            self._bounds = ProductRegion(start, self._ceilings, self._limits, shares["bounds"])
        else:
            self._bounds = CostBounds(
                start, self._ceilings, self._limits, shares["bounds"], selected=not level.rejects_cells
            )
        # Without trust in cells a rejected set of cells is only an alarm (envelope) or nothing at all (data): no delta is spent on it.
        self._evidence = Evidence(
            policy_set,
            evidence,
            shares.get("elimination", monitor_delta),
            simulated_ceilings(policy_set),
            final=level.final,
        )
        table = self._evidence.table
        posterior = None if level.rejects_cells else CellPosterior.of(policy_set, table)
        self._objective = Objective(policy_set, posterior)
        self._monitor = Monitor(self._limits, self._largest, monitor_delta)
        if ramp and level.compares:
            low, high = simulated_range(policy_set, table.high)
            self._reality = RealityCheck(
                Ramp(policy_set, table, ramp, monitor_delta),
                ReturnComparison((float(low[0]), float(high[0])), self._objective.returns),
            )
        else:
            self._reality = RealityCheck(None, None)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~surefoot.stateful.HasState`."""
        return {**super().state_dict(), "events": list(self.events)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~surefoot.stateful.HasState`."""
        rest = dict(state)
        events = rest.pop("events", None)
        if events is None:
            raise ValueError("state of CertifiedAgent must hold events, got none; it is that of something else")
        super().load_state_dict(rest)
        self.events = deque(events, maxlen=self.events.maxlen)

    # ------------------------------------------------------------------------------------------------------ what is known

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The library."""
        return self._tracker.policies

    @property
    def wants(self) -> frozenset[str]:
        """Which optional parts of a report speed learning up."""
        belief = frozenset() if self._rehearsed is None else self._rehearsed.planner.wants
        return self._evidence.wants | belief

    @property
    def open_episodes(self) -> dict[int, int]:
        """Policy by id of the episodes that were asked and are neither told nor lost; also of an ``ask`` whose answer an interrupt swallowed."""
        return self._tracker.open_episodes

    @property
    def logged(self) -> int:
        """How many logged episodes of the safe policy count, from before the first ask."""
        return self._log.count

    @property
    def left_protocol(self) -> str | None:
        """Why this deployment is no longer what was rehearsed, or ``None``."""
        return None if self._rehearsed is None else self._rehearsed.left

    @property
    def together(self) -> int | None:
        """How many episodes may be asked at once before what is asked is no longer what was rehearsed; ``None``: any number."""
        if self._rehearsed is None or self._alarm is not None:
            return None
        return self._rehearsed.together(self._tracker.opened)

    @property
    def notes(self) -> tuple[str, ...]:
        """Limitations that set in, and the alarm."""
        return (*self._evidence.notes, *(() if self._alarm is None else (f"alarm: {self._alarm}",)))

    @property
    def alarm(self) -> str | None:
        """Why everything stopped, or ``None``."""
        return self._alarm

    @property
    def stage(self) -> Stage:
        """How far the deployment is: comparing, ramping, learned, drifted or stopped (:mod:`surefoot.deploy.stages`)."""
        _ = self.plan  # what is about to change the mixture belongs to the state
        return stage_of(replace(self._standing_now(), next=self._next()))

    @property
    def ramping(self) -> bool:
        """Whether the safe policy alone is played because too few of its episodes have been compared with simulation."""
        return self._reality.ramping

    @property
    def barred(self) -> tuple[int, ...]:
        """Policies that are not played any more: in reality they return less than the safe policy."""
        return self._reality.barred

    @property
    def active(self) -> Any:
        """(N,) which cells are not rejected."""
        return self._evidence.active.copy()

    @property
    def ever_rejected(self) -> Any:
        """(N,) which cells were rejected at some time, readmitted ones among them."""
        return self._evidence.ever_rejected.copy()

    @property
    def alive(self) -> Any:
        """The old name of :attr:`active`."""
        warn_renamed("CertifiedAgent.alive", "active")
        return self.active

    @property
    def ever_refuted(self) -> Any:
        """The old name of :attr:`ever_rejected`."""
        warn_renamed("CertifiedAgent.ever_refuted", "ever_rejected")
        return self.ever_rejected

    @property
    def bounds(self) -> FloatArray:
        """(J, I) data bounds now."""
        return self._bounds.values.copy()

    @property
    def region(self) -> FloatArray:
        """(H, J, I) what the data bounds hold possible now: of each constraint, the costs (J,) of the policies lie below one of the H rows."""
        return self._bounds.rows

    @property
    def plan(self) -> Plan:
        """The certified mixture the next episode is drawn from."""
        if self._stale:
            self._stale, self._plan = False, self._make_plan()
            self._mark_stage()
        return self._plan

    @property
    def weights(self) -> FloatArray:
        """(J,) that mixture."""
        return self.plan.weights

    # ------------------------------------------------------------------------------------------------------- ask and tell

    @overload
    def ask(self, n: None = None) -> Episode: ...

    @overload
    def ask(self, n: int) -> Batch: ...

    @undivided
    def ask(self, n: int | None = None) -> Episode | Batch:
        """See :class:`~surefoot.deploy.agent.Agent`."""
        opened = self._tracker.opened
        batch = self._tracker.open(Mixture(self.plan.weights), 1 if n is None else n)
        self._bounds.asked(batch.ids, batch.policy_index)
        self._bets.add(int(batch.ids[0]), batch.policy_index, self._evidence.bets())
        if self._followed is not None:
            self._stay_inside(self._followed.asked(opened, len(batch.ids)))
        return batch[0] if n is None else batch

    @undivided
    def tell(
        self,
        ids: Any,
        reward: Any,
        costs: Any,
        *,
        initial_state: Any = None,
        transitions: Any = None,
        signals: Any = None,
    ) -> None:
        """See :class:`~surefoot.deploy.agent.Agent`.

        A finite cost above the declared ceiling is recorded, raises the alarm and returns to the safe policy for good.
        """
        report = self._tracker.check(
            ids, reward, costs, initial_state=initial_state, transitions=transitions, signals=signals
        )
        self._take(report)

    def _take(self, report: Report) -> None:
        """A checked report takes effect: on the bounds at once, on everything else in ask order."""
        self._tracker.close(report)
        self._steadiness.reported(report.policy_index)
        self._check_ceilings(report)
        if self._bounds.told(report.ids, report.policy_index, report.costs):
            self._stale |= self._bounds_matter()
        if self._followed is not None:
            self._stay_inside(self._followed.told(report))
        self._buffer.add(report)
        self._settle()
        self._mark_stage()

    def _check_ceilings(self, report: Report) -> None:
        """The alarm where an episode cost more than was declared possible."""
        above = above_ceiling(report, self._ceilings, self._set.criterion.cost_names)
        if above is not None:
            self._raise_alarm(above, "ceiling")

    @undivided
    def recall(
        self, reward: Any, costs: Any, *, initial_state: Any = None, transitions: Any = None, signals: Any = None
    ) -> None:
        """Logged episodes of the safe policy on this plant, from before the first ask; at once or in parts.

        They count as if they had been asked and told with ids before the first: in the data bounds, in the evidence about cells, in what is expected
        of the task and in the comparison with simulation, not in the monitor. That is valid only for a log that is complete, unselected and fresh,
        of the same plant, controller and criterion; :mod:`surefoot.deploy.history` states the rules. Under ``trust="rehearsed"`` the protocol says
        how many; elsewhere any number is taken. A cost above its ceiling is recorded and raises the alarm.

        Args:
            reward, costs, initial_state, transitions, signals: of n episodes, as in :meth:`tell`; what the log lacks is left out for all of them.

        Raises:
            InvalidReport: they cannot be true.
            ConflictError: something was asked already; or, under ``trust="rehearsed"``, they are more than were rehearsed.
        """
        many = self._set.criterion.n_costs
        report = self._tracker.logged(Report.logged(reward, costs, initial_state, transitions, signals, many))
        followed = self._followed
        self._check_recall(report.ids.size, followed)
        self._tracker.turns.changes()
        self._check_ceilings(report)
        if followed is not None:
            followed.recall(
                report.outcomes,
                initial_state=report.initial_state,
                transitions=report.transitions,
                signals=report.signals,
            )
        self._take_log(report)
        if self._followed is not None:
            self._stay_inside(None)
        self._mark_stage()

    def _check_recall(self, n: int, followed: RehearsedPlan | None) -> None:
        """Whether n logged episodes may be given now."""
        opened = self._tracker.opened
        if self._level.follows_belief:
            room = 0 if followed is None or opened else followed.missing_history
            if n > room:
                raise ConflictError(
                    f"recall must give what was rehearsed, and before the first ask: at most {room} logged episodes now, got {n}; rehearse with "
                    "history=, or leave them out",
                    code="SF-CONFLICT-HISTORY",
                )
        elif opened:
            raise ConflictError(
                f"recall must come before the first ask: {opened} episodes were asked already, got {n} logged ones; open a new deployment that "
                "begins with them",
                code="SF-CONFLICT-HISTORY",
            )

    def _take_log(self, report: Report) -> None:
        """Logged episodes take effect, a block after the other, so that bets on one rest on those before it."""
        for part in blocks(report):
            if self._bounds.recalled(part.costs):
                self._stale |= self._bounds_matter()
            bets = self._evidence.bets()
            self._reality.settle([self._evidence.without_broken(part)], [], logged=True)
            if self._level.weighs_cells:
                self._evidence.settle(part, [(bets, np.arange(part.ids.size))], logged=True)
            self._learn(part)
        said = self._log.add(report.outcomes)
        if said is not None:
            self._evidence.note(said)
        self._review(logged=True)

    @undivided
    def leave_protocol(self, reason: str) -> None:
        """Say that this deployment is not, or no longer, what was rehearsed: from now on data bounds alone decide.

        Does nothing under other trust levels, and once the safe policy is played for good.
        """
        if self._followed is not None:
            self._stay_inside(reason)

    @property
    def _stopped(self) -> bool:
        """Whether the safe policy is played whatever is known."""
        return self._alarm is not None

    @property
    def rehearsed(self) -> RehearsedPlan | None:
        """What was rehearsed, and whether the deployment is still that; ``None`` under other trust levels."""
        return self._rehearsed

    @property
    def _followed(self) -> RehearsedPlan | None:
        """What was rehearsed, while it is what is played."""
        rehearsed = self._rehearsed
        return None if rehearsed is None or not rehearsed.inside or self._stopped else rehearsed

    def _stay_inside(self, reason: str | None) -> None:
        """Follow the rehearsed plan; or, with a reason, no longer."""
        rehearsed = self._rehearsed
        assert rehearsed is not None
        if reason is not None:
            if rehearsed.leave(reason, self._tracker.opened):
                self._stale = True
                self._note_event(
                    "protocol", f"outside the rehearsed protocol: {reason}; from here on data bounds alone decide"
                )
            return
        self._stale |= rehearsed.follow(self._tracker.opened)
        if rehearsed.surprised:
            self._raise_alarm(
                f"what happens fits the belief worse (surprise {rehearsed.planner.surprise:.3g}) than on rehearsed plants "
                f"(at most {rehearsed.rung.surprise:.3g}): the real task is not like them",
                "surprise",
            )

    @undivided
    def lost(self, ids: Any) -> None:
        """Declare episodes lost: they count as the ceiling for good, and as the smallest factor unless ``losses="independent"``.

        Only what is declared here is ever skipped as independent. What the agent itself no longer waits for takes the smallest factor.

        Raises:
            InvalidReport: an id is not pending.
        """
        number = self._tracker.forget(ids)
        self._buffer.declare_lost(number.tolist())
        self._note_event("lost", f"{number.size} episodes declared lost")
        if self._followed is not None:
            self._stay_inside(self._followed.lost(number, self._tracker.opened))
        self._settle()
        self._mark_stage()

    # ------------------------------------------------------------------------------------------------ what reports change

    def _settle(self) -> None:
        """Let everything that is complete in ask order take effect."""
        released = self._buffer.release()
        missing = self._buffer.overdue()
        if missing:
            self._note_event(
                "lost",
                f"episodes {listed(missing)} kept too many reports waiting; evidence counts them at their worst",
            )
            self._buffer.give_up(missing)
            released += self._buffer.release()
        if not released:
            return
        self._compare(released)
        self._weigh(released)
        self._monitor.released(released)
        self._detector.released(released)
        self._stationarity.released(released)
        self._bets.forget_before(self._buffer.settled)
        self._review()

    def _compare(self, released: Released) -> None:
        """Reality with simulation."""
        if self._reality.ramp is None:
            return
        gone = [self._bets.of(k)[0] for k in released.lost + released.given_up]
        self._reality.settle([self._evidence.without_broken(report) for report in released.groups], gone)

    def _weigh(self, released: Released) -> None:
        """Evidence about cells, and their plausibility."""
        for k in released.given_up if self._losses_independent else sorted(released.lost + released.given_up):
            if self._level.weighs_cells:
                self._evidence.forfeit(*self._bets.of(k))
        for report in released.groups:
            if self._level.weighs_cells:
                self._evidence.settle(report, self._bets.placed(report.ids))
            else:
                self._evidence.broken_returns(report)  # says so
            self._learn(report)

    def _learn(self, report: Report) -> None:
        """What is expected of the task, where cells are no hypotheses."""
        if self._objective.posterior is not None:
            columns = self._evidence.table.column(report.initial_state, report.ids.size)
            self._objective.posterior.update(
                report.policy_index, columns, report.outcomes, report.signals, report.transitions
            )

    def _review(self, *, logged: bool = False) -> None:
        """What the evidence leads to: alarms, cells rejected or readmitted, policies barred, a target; ``logged`` after episodes of a log."""
        if self._monitor.rejected:
            self._raise_alarm("the real costs reject that every deployed mixture met the limit", "monitor")
        if self._detector.rejected:
            self._raise_alarm(DRIFT, "drift")
        if self._stationarity.changed >= 0:
            self._raise_alarm(CHANGED.format(policy=self._stationarity.changed), "changed")
        if self._level.weighs_cells:
            self._review_cells()
        verdict = self._reality.review(self._buffer.settled, self._alarm is not None)
        if verdict.alarm is not None:
            self._raise_alarm(verdict.alarm, "simulation")
        if verdict.ramp_over is not None:
            self._note_event("ramp", verdict.ramp_over)
        for text in verdict.barred:
            self._note_event("barred", text)
        moved, chosen = self._objective.update(self._buffer.settled, self.barred, self._log.count, now=logged)
        if chosen is not None:
            self._bounds.select(self._objective.target, self._tracker.opened)
            self._note_event("target", chosen)
        self._stale |= verdict.changed or moved

    def _review_cells(self) -> None:
        """Reject and readmit cells; the alarm when all are rejected for good."""
        evidence = self._evidence
        for kind, verb, which in zip(("eliminated", "readmitted"), ("rejected", "readmitted"), evidence.review()):
            if which.size:
                self._note_event(kind, f"cells {listed(which)} {verb}, {int(evidence.active.sum())} left")
                self._stale |= self._level.rejects_cells
                self._changed = self._buffer.settled
        kappa = tuning.TUNING.exploration(self._level.exploration, self._buffer.settled, self._changed)
        self._stale |= kappa != self._kappa
        self._kappa = kappa
        if not evidence.watched.any() and not self._outside:
            self._outside, self._stale = True, True
            self._bounds.drop_start(data_start(self._set, self._largest, self.margin))
            self._raise_alarm("every cell is rejected: the real task is outside the family", "outside")

    # ------------------------------------------------------------------------------------------------------------- plans

    def _make_plan(self) -> Plan:
        found = self._best_plan()
        self._planned_bounds = self._bounds.held(found.weights).copy()
        if self._alarm is None:
            self._steadiness.planned(found.weights, self._buffer.settled)
        return found

    def _best_plan(self) -> Plan:
        program = self._program()
        if self._alarm is not None:
            return safe_plan(program, "an alarm was raised")
        if self.ramping:
            return safe_plan(program, "the ramp: its real episodes are compared with simulation first")
        if self._followed is not None:
            return rehearsed_plan(self._followed, program)
        found = plan(program)
        if not found.certified:
            self._note_event("planned", found.reasons[0])
        return found

    def _bounds_matter(self) -> bool:
        """Whether data bounds fell noticeably below what the rows held at the last plan."""
        in_rows = self._planned_bounds
        if self._level.rejects_cells and self._evidence.active.any():
            living = self._set.cells.predictions.cost_upper[self._evidence.active]
            in_rows = np.minimum(in_rows, living.max(axis=0, initial=-np.inf))
        return bool((in_rows - self._bounds.held(self._plan.weights) > tuning.TUNING.noticeable * self._limits).any())

    def _program(self) -> Program:
        if self._followed is not None:
            return self._followed.program(self._limits, self.margin)
        active, returns = self._evidence.active, self._objective.returns
        if self._objective.posterior is None and not active.any():
            returns = self._set.cells.predictions.reward_center[self._evidence.most_plausible()]
        found = self._level.rows(
            Knowledge(
                policy_set=self._set,
                active=active,
                bounds=self._bounds.values,
                region=self._bounds.rows,
                limits=self._limits,
                objective=returns,
                target=self._objective.target,
                barred=self.barred,
            )
        )
        if found.rows.ndim != 3 or not len(found.rows) or found.rows.shape[1:] != self._bounds.values.shape:
            # Without a row every mixture would pass.
            raise AssumptionError(
                f"rows of trust {self.trust!r} must have shape (H, {', '.join(map(str, self._bounds.values.shape))}) with H at least 1, got "
                f"{found.rows.shape}; mend the trust level",
                code="SF-ASSUMPTION-ROWS",
            )
        return Program(
            objective=found.objective,
            rows=found.rows,
            names=found.names,
            limits=self._limits,
            candidate=found.candidate,
            kappa=self._kappa,
            cap=tuning.TUNING.exploration_cap,
            barred=self.barred,
            doubted=self._reality.doubted,
            beside=BESIDE,
        )

    # ------------------------------------------------------------------------------------------------------- what is said

    def _raise_alarm(self, why: str, kind: str) -> None:
        """Return to the safe policy for good; the kind says which stage that is (:data:`~surefoot.deploy.stages.ALARMS`)."""
        if self._alarm is None:
            self._alarm, self._alarm_kind, self._stale = why, kind, True
            self._note_event("alarm", why)

    def __repr__(self) -> str:
        said = "" if self._alarm is None else f", ALARM: {self._alarm}"
        return f"CertifiedAgent(trust={self.trust!r}, {self._tracker.opened} episodes, {self._tracker.pending} pending, {self._stage}{said})"

    # ------------------------------------------------------------------------------------------------------------ stages

    def _standing_now(self) -> Standing:
        """What the stage is a function of."""
        compared = self._reality.progress
        return Standing(
            compared=compared,
            alarm=None if self._alarm is None else (self._alarm_kind, self._alarm),
            learned=None if self._alarm is not None or compared is not None else self._learned(),
        )

    def _learned(self) -> str | None:
        """Why nothing that is left to learn moves the mixture noticeably; see :mod:`surefoot.deploy.stages`."""
        followed, steadiness, settled = self._followed, self._steadiness, self._buffer.settled
        if followed is not None:
            return followed.next if followed.final else None
        if self._level.rejects_cells:
            left = int(self._evidence.active.sum())
            if left == 1:
                return "one cell is left"
            steady = left > 0 and steadiness.since_settled(settled, tuning.TUNING.stalled)
            return "it was steady while the number of episodes doubled" if steady else None
        target = self._objective.target
        if target == 0:
            steady = steadiness.since_settled(settled, tuning.TUNING.warm_up)
            return "no policy was found worth proving safe while the number of episodes doubled" if steady else None
        if target in self.barred:
            return f"policy {target}, which was to be proved safe, returns less than the safe policy"
        if (self._bounds.values[target] <= self._limits).all():
            return f"policy {target} is proved safe"
        steady = steadiness.since_tried(target)
        return f"it was steady while the number of episodes of policy {target} doubled" if steady else None

    def _mark_stage(self) -> None:
        """An event where the stage changed; while a new plan is due the stage is not known."""
        if self._stale and self._alarm is None:
            return
        standing = self._standing_now()
        name = stage_name(standing)
        if name != self._stage:
            self._stage = name
            self._note_event("stage", f"{name}: {stage_of(standing).text}")

    def _note_event(self, kind: str, text: str) -> None:
        self.events.append(AgentEvent(self._tracker.opened, kind, text))

    @undivided
    def status(self) -> Status:
        """Where the deployment stands, also in plain words as ``status().text``."""
        current = self.plan
        return Status(
            episodes=self._tracker.opened,
            pending=self._tracker.pending,
            weights=current.weights,
            certified_costs=current.bounds,
            cost_limits=self._limits,
            cells_left=int(self._evidence.active.sum()),
            cells=len(self._set.cells),
            reasons=current.reasons,
            alarm=self._alarm,
            ledger=self.ledger,
            next=self._next(),
            notes=(
                *self._evidence.notes,
                *self._reality.notes(self._alarm is not None),
                *self._buffer.notes,
                *self._coverage(),
                *self._rehearsal(),
            ),
            assumes=self._level.assumes,
            proved=self._followed is None,
            stage=self.stage,
            logged=self._log.count,
        )

    def _rehearsal(self) -> list[str]:
        """What the rehearsal promises, and whether the deployment is still what was rehearsed."""
        if self._rehearsed is None:
            return []
        found = self._set.rehearsed
        return [*([] if found is None else [found.text]), self._rehearsed.text]

    def _coverage(self) -> list[str]:
        """Whether the hold-out is read at a larger error than training set out with: then that error is what coverage rests on."""
        planned = self._set_out_with
        if planned is None or self._delta_coverage <= planned * (1.0 + 1e-9):
            return []
        return [
            f"the hold-out is read at an error of {self._delta_coverage:g} (delta_coverage), larger than the {planned:g} that training set out with; "
            "if it was raised because of what the hold-out showed, neither holds"
        ]

    def _next(self) -> str:
        if self._alarm is not None:
            return "nothing; find out what is wrong, then start a new deployment"
        if self.ramping:
            return "whether the safe policy does in reality what simulation predicts for it"
        if self._followed is not None:
            return self._followed.next
        if not self._level.rejects_cells:
            return (
                f"proving policy {self._objective.target} safe"
                if self._objective.target
                else f"which policy is worth proving safe, from at most {tuning.TUNING.warm_up} episodes"
            )
        left = int(self._evidence.active.sum())
        if left == 0:
            return "whether the real task is outside the family: every cell is rejected, though not yet for good; only data bounds count"
        return f"which of the {left} active cells the real task lies in"


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidInput(
            f"{name} must be one of {', '.join(choices)}, got {value!r}; choose one", code="SF-ARGUMENT-CHOICE"
        )
