"""The certified agent: learns on the real task and never deploys a mixture it cannot certify.

Every time something changed, the mixture of the library is the solution of a linear program (:mod:`surefoot.deploy.planner`) whose rows
are upper bounds on the real costs. The rows are the user's *trust level*:

======== ======================================================= ==================================================================
trust    rows                                                    every deployed mixture is safe with probability >= 1 - delta if
======== ======================================================= ==================================================================
data     one: ``B_j``, started at the declared ceiling           the safe policy has margin xi in the real task; episode costs stay
                                                                 below the ceiling. Nothing about the simulator.
envelope one: ``B_j``, started at the largest prediction         and no library policy costs more in reality than in the worst cell.
                                                                 Ceilings come from the simulator unless they are declared.
cells    one per surviving cell: ``min(V+_ji, B_j)``             and the real task lies in some cell.
======== ======================================================= ==================================================================

``B_j`` are data bounds (:mod:`surefoot.deploy.bounds`), cells are refuted by e-processes (:mod:`surefoot.deploy.evidence`). On the event that all
bounds hold and the cell of the real task survives, one row bounds the real costs from above, and costs are linear in the weights.

What is certified is the **mixture**: ``ask`` draws once from a mixture certified at that moment; selectively discarding draws voids
the guarantee. An agent may be shared by threads: its operations take turns, whole or not at all (:mod:`surefoot.deploy.turns`).

Four things stop everything and return to the safe policy for good: a finite cost above the declared ceiling (an assumption
is false), every cell refuted for good (the task is outside the family), and the monitor, an e-process on real costs against "every mixture
met the limit" with a false-alarm level of its own. While every cell is refuted but some may come back, data bounds alone decide.

Under ``cells`` and ``envelope`` simulation could give other policies weight before any real episode. So the first ``ramp`` episodes run the safe
policy alone, and what it does is compared with what simulation predicts for it (:mod:`surefoot.deploy.ramp`): a fourth alarm. And a policy
whose real returns are proved worse than the safe policy's is played no more (:mod:`surefoot.deploy.comparison`). Under ``data`` nothing
simulated is trusted: weight moves by proofs from real costs alone, and there is no ramp.

Letters: N cells, J policies (0 is safe), I constraints, n episodes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, overload

import numpy as np

from surefoot.arrays import FloatArray, IntArray, as_floats, check_integer, check_real, magnitude
from surefoot.deploy.bounds import CostBounds
from surefoot.deploy.comparison import BESIDE, LEVEL, ReturnComparison
from surefoot.deploy.evidence import FINAL, Evidence, EvidenceKind
from surefoot.deploy.monitor import Monitor
from surefoot.deploy.planner import Plan, Program, plan, safe_plan, safe_share
from surefoot.deploy.posterior import CellPosterior
from surefoot.deploy.ramp import RAMP, Ramp, simulated_range
from surefoot.deploy.reorder import Released, ReorderBuffer, Told
from surefoot.deploy.tracker import SLACK, Batch, Episode, EpisodeTracker, Reports
from surefoot.deploy.turns import undivided
from surefoot.errors import AssumptionError, InvalidInput, InvalidReport
from surefoot.policy import Mixture, Policy, TabularPolicy
from surefoot.policyset.lineage import look_share
from surefoot.policyset.schema import PolicySet
from surefoot.stats.binomial import clopper_pearson_upper, simulated_upper, trials_without_failure
from surefoot.stats.ledger import Ledger

__all__ = ["CertifiedAgent", "Event", "Status", "Trust"]

Trust = Literal["data", "envelope", "cells"]

BOUNDS_SHARE = 0.02
"""Under ``cells``, the part of delta that pays for data bounds; the rest pays for the elimination of cells."""
WARM_UP = 500
"""Settled episodes after which a target is chosen under ``data`` and ``envelope`` at the latest, if any policy promises a gain."""
FIRST_LOOK, LOOK_AGAIN = 20, 1.1
"""Under ``data`` and ``envelope`` the guess of the task is used after so many settled episodes, and whenever their number grew by this factor."""
DECIDED = 0.02
"""A target is chosen as soon as knowing the task could improve on it by no more than this share of what it promises over the safe policy."""
PLAUSIBLE = 1e-6
"""Cells with less posterior weight do not take part in choosing a target."""
TARGET_SLACK, LEAST_ROOM = 0.05, 0.25
"""A target's predicted costs stay below the limits by this share: what can be proved below the limit gets its full weight. Where the safe policy
costs more than that, they stay within the second share of what is left above it."""
NEGLIGIBLE_GAIN = 1e-9
"""Promises that differ by less, relative to their size, are the same."""
KAPPA = {"cells": 0.02, "envelope": 1.0, "data": 1.0}
CAP = 1.0
STALLED, MOST_KAPPA = 4000, 0.3
"""Exploration doubles, up to ``MOST_KAPPA``, whenever the number of episodes has doubled (from ``STALLED`` on) without a change among the
cells: on tasks whose cells differ only where the candidate goes, a small share of it teaches next to nothing."""
NOTICEABLE = 0.003
"""Data bounds are planned with again when one fell by this share of the limit."""
EVENTS_KEPT = 1000
MOST_HOLDOUT = 20
"""A refusal advises more hold-out tasks where so many times as many would do; beyond that the misses are the problem."""


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        episode: how many episodes had been asked.
        kind: ``"eliminated"``, ``"readmitted"``, ``"planned"``, ``"target"``, ``"ramp"``, ``"barred"``, ``"alarm"``, ``"lost"``.
        text: in plain words.
    """

    episode: int
    kind: str
    text: str


@dataclass(frozen=True, eq=False)
class Status:
    """Where a deployment stands.

    Attributes:
        episodes, pending: asked so far; of these not yet told.
        weights: (J,) current mixture.
        certified_costs: (I,) upper bounds on its expected costs.
        cost_limits: (I,).
        cells_left, cells: surviving hypotheses, and all.
        reasons: policy index to why it has its weight.
        alarm: why everything stopped, or ``None``.
        ledger: who spent which part of delta.
        next: what is being learned, in plain words.
        notes: limitations that set in.
    """

    episodes: int
    pending: int
    weights: FloatArray
    certified_costs: FloatArray
    cost_limits: FloatArray
    cells_left: int
    cells: int
    reasons: dict[int, str]
    alarm: str | None
    ledger: Ledger
    next: str
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        """The status as a paragraph for people."""
        played = ", ".join(
            f"policy {j} with weight {self.weights[j]:.3f} ({why})" for j, why in sorted(self.reasons.items())
        )
        costs = ", ".join(f"{c:.4g} (limit {d:.4g})" for c, d in zip(self.certified_costs, self.cost_limits))
        sure = "certified" if self.alarm is None else "assumed, no longer certified,"
        spent = ", ".join(f"{e.name} {e.delta:.4g}" for e in self.ledger.entries)
        lines = [
            f"After {self.episodes} episodes ({self.pending} pending):",
            f"  expected cost of what is deployed is {sure} to be at most {costs};",
            f"  deployed: {played};",
            f"  hypotheses left: {self.cells_left} of {self.cells};",
            f"  next: {self.next};",
            f"  error probability: {spent} of {self.ledger.total:.4g}.",
        ]
        lines += [f"  note: {note}" for note in self.notes]
        if self.alarm is not None:
            lines.insert(0, f"ALARM: {self.alarm}. The safe policy is played.")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Episodes asked together: the first id, their policies (n,), and the bets fixed for them."""

    first: int
    policy_index: IntArray
    bets: FloatArray | None


def _after(asked: _Asked) -> int:
    return asked.first + asked.policy_index.size


class CertifiedAgent:
    """See the module's docstring.

    Args:
        policy_set: from training.
        trust: ``"cells"``, ``"envelope"`` or ``"data"``.
        delta: bound on the probability that any deployed mixture ever violates a limit.
        seed: of the draws.
        evidence: ``"all"``, or ``"returns"`` where the plant reports no transitions.
        margin: ``xi``, the safe policy's margin in the real task; an **assumption**. By default what training verified.
        cost_ceilings: (I,) largest possible episode costs. By default ``c_max/(1-gamma)`` under ``data``, what the simulator's support
            allows otherwise.
        p_max, delta_coverage: under ``cells``, refuse policy sets whose hold-out does not show, at error ``delta_coverage`` over all looks (look a
            pays ``delta_coverage / 2^a``), that at most ``p_max`` of the task distribution is uncovered. Choose both before you look.
        losses: ``"worst"``, or ``"independent"`` if you declare that lost episodes do not depend on outcomes.
        monitor_delta: false-alarm probability of the monitor, and again of the comparison with simulation; outside ``delta``.
        ramp: under ``cells`` and ``envelope``, so many episodes of the safe policy are compared with simulation before any other policy gets
            weight, and policies that return less than it in reality are barred. 0 switches both off.

    Raises:
        AssumptionError: the margin is not positive, or the policy set's certificate misses ``p_max``.
        InvalidInput: an argument out of range.
    """

    def __init__(
        self,
        policy_set: PolicySet,
        *,
        trust: Trust = "cells",
        delta: float = 0.05,
        seed: int = 0,
        evidence: EvidenceKind = "all",
        margin: float | None = None,
        cost_ceilings: Any = None,
        p_max: float = 0.05,
        delta_coverage: float = 0.05,
        losses: Literal["worst", "independent"] = "worst",
        monitor_delta: float = 0.001,
        ramp: int = RAMP,
    ) -> None:
        _check_choice("trust", trust, ("cells", "data", "envelope"))
        _check_choice("evidence", evidence, ("all", "returns"))
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
        self.trust = trust
        self._set, criterion = policy_set, policy_set.criterion
        self._limits = criterion.cost_limits
        self.margin = _check_margin(policy_set, margin)
        if trust == "cells":
            _check_certificate(policy_set, p_max, delta_coverage)
        self._set_out_with = (
            policy_set.ledger.total if trust == "cells" and policy_set.certificate is not None else None
        )
        self._delta_coverage = delta_coverage
        self._ceilings = _ceilings(policy_set, trust, cost_ceilings)
        # A cost above its ceiling is recorded and alarms; a return out of its range is no reason to refuse the costs that came with it.
        anything, no_ceiling = (-np.inf, np.inf), np.full(criterion.n_constraints, np.inf)
        self._tracker = EpisodeTracker(
            policy_set.policies, criterion, anything, no_ceiling, np.random.default_rng(seed)
        )
        self._build(delta, evidence, losses, monitor_delta, ramp)

    def _build(self, delta: float, evidence: EvidenceKind, losses: str, monitor_delta: float, ramp: int) -> None:
        cells_pay = self.trust == "cells"
        shares = (
            {"elimination": delta * (1 - BOUNDS_SHARE), "bounds": delta * BOUNDS_SHARE}
            if cells_pay
            else {"bounds": delta}
        )
        self.ledger = Ledger(delta)
        for name, share in shares.items():
            self.ledger = self.ledger.spend(name, share, _PURPOSES[name])
        self._bounds = CostBounds(self._start(), self._ceilings, self._limits, shares["bounds"], selected=not cells_pay)
        simulated = _ceilings(self._set, "cells", None)
        # Without trust in cells a refuted set of cells is only an alarm (envelope) or nothing at all (data): no delta is spent on it.
        self._evidence = Evidence(
            self._set,
            evidence,
            shares.get("elimination", monitor_delta),
            simulated,
            final=FINAL if cells_pay else 1.0,
        )
        self._posterior = None if cells_pay else self._evidence.estimate()
        self._look, self._objective = FIRST_LOOK, self._set.cells.predictions.reward_center.mean(axis=0)
        self._monitor = Monitor(self._limits, self._ceilings, monitor_delta)
        self._ramp = self._comparison = None
        if ramp and self.trust != "data":
            self._ramp = Ramp(self._set, self._evidence.table, ramp, monitor_delta)
            low, high = simulated_range(self._set, self._evidence.table.high)
            self._comparison = ReturnComparison((float(low[0]), float(high[0])), self._objective)
        self._buffer, self._losses_independent = ReorderBuffer(), losses == "independent"
        self._bets: list[_Asked] = []
        self._target = 0
        self._alarm: str | None = None
        self._outside = False
        self._changed, self._kappa, self._ramped = 0, KAPPA[self.trust], False
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._stale, self._plan = False, self._make_plan()
        if not cells_pay:
            self._bounds.select(0, 0)

    def _start(self) -> FloatArray:
        """(J, I) starting values of the bounds."""
        predictions = self._set.cells.predictions
        start = np.broadcast_to(self._ceilings, predictions.cost_upper.shape[1:]).copy()
        if self.trust == "envelope":
            start = np.minimum(start, predictions.cost_upper.max(axis=0))
        start[0] = np.minimum(start[0], self._limits - self.margin)
        return start

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The library."""
        return self._tracker.policies

    @property
    def wants(self) -> frozenset[str]:
        """Which optional parts of a report speed learning up."""
        return self._evidence.wants

    @property
    def open_episodes(self) -> dict[int, int]:
        """Policy by id of the episodes that were asked and are neither told nor lost; also of an ``ask`` whose answer an interrupt swallowed."""
        return self._tracker.open_episodes

    @property
    def notes(self) -> tuple[str, ...]:
        """Limitations that set in, and the alarm."""
        return (*self._evidence.notes, *(() if self._alarm is None else (f"alarm: {self._alarm}",)))

    @property
    def alarm(self) -> str | None:
        """Why everything stopped, or ``None``."""
        return self._alarm

    @property
    def ramping(self) -> bool:
        """Whether the safe policy alone is played because too few of its episodes have been compared with simulation."""
        return self._ramp is not None and not self._ramp.over

    @property
    def barred(self) -> tuple[int, ...]:
        """Policies that are not played any more: in reality they return less than the safe policy."""
        return () if self._comparison is None else tuple(np.flatnonzero(self._comparison.barred).tolist())

    @property
    def active(self) -> Any:
        """(N,) which cells survive."""
        return self._evidence.active.copy()

    @property
    def ever_rejected(self) -> Any:
        """(N,) which cells were refuted at some time, readmitted ones among them."""
        return self._evidence.ever_rejected.copy()

    @property
    def bounds(self) -> FloatArray:
        """(J, I) data bounds now."""
        return self._bounds.values.copy()

    @property
    def plan(self) -> Plan:
        """The certified mixture the next episode is drawn from."""
        if self._stale:
            self._stale, self._plan = False, self._make_plan()
        return self._plan

    @overload
    def ask(self, n: None = None) -> Episode: ...

    @overload
    def ask(self, n: int) -> Batch: ...

    @undivided
    def ask(self, n: int | None = None) -> Episode | Batch:
        """See :class:`~surefoot.deploy.agent.Agent`."""
        batch = self._tracker.open(Mixture(self.plan.weights), 1 if n is None else n)
        self._bounds.asked(batch.ids, batch.policy_index)
        self._bets.append(_Asked(int(batch.ids[0]), batch.policy_index, self._evidence.bets()))
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
        reports, told = self._checked(ids, reward, costs, initial_state, transitions, signals)
        self._tracker.close(reports)
        above = (reports.costs > self._ceilings * (1.0 + 1e-9)).any(axis=0)
        if above.any():
            i = int(above.argmax())
            self._raise_alarm(
                f"an episode cost {reports.costs[:, i].max():.4g} in {self._set.criterion.cost_names[i]}, above the declared ceiling "
                f"{self._ceilings[i]:.4g}: an assumption is false"
            )
        if self._bounds.told(reports.ids, reports.policy_index, reports.costs):
            self._stale |= self._bounds_matter()
        self._buffer.add(told)
        self._settle()

    def _checked(
        self, ids: Any, reward: Any, costs: Any, initial_state: Any, transitions: Any, signals: Any
    ) -> tuple[Reports, Told]:
        """A report in two forms, if it may be true; nothing has moved yet."""
        reports = self._tracker.check(ids, reward, costs)
        states, actions = _table_shape(self.policies)
        rows = _check_transitions(transitions, states, actions)
        starts = _check_initial(initial_state, reports.ids.size, states)
        extra = self._check_signals(signals, reports.ids.size)
        return reports, _told(reports, starts, rows, extra)

    @undivided
    def lost(self, ids: Any) -> None:
        """Declare episodes lost: they count as the ceiling for good, and as the smallest factor unless ``losses="independent"``.

        Only what is declared here is ever skipped as independent. What the agent itself no longer waits for takes the smallest factor.

        Raises:
            InvalidReport: an id is not pending.
        """
        self._tracker.forget(ids)
        number = np.unique(ids)
        self._buffer.declare_lost(number.tolist())
        self._note_event("lost", f"{number.size} episodes declared lost")
        self._settle()

    def _settle(self) -> None:
        """Let everything that is complete in ask order take effect."""
        released = self._buffer.release()
        missing = self._buffer.overdue()
        if missing:
            self._note_event(
                "lost",
                f"episodes {_listed(missing)} kept too many reports waiting; evidence counts them at their worst",
            )
            self._buffer.give_up(missing)
            released += self._buffer.release()
        if not released:
            return
        self._compare(released)
        for k in released.given_up if self._losses_independent else sorted(released.lost + released.given_up):
            asked = self._asked(k)
            if self.trust != "data":
                self._evidence.forfeit(int(asked.policy_index[k - asked.first]), asked.bets)
        for group in released.groups:
            if self.trust != "data":
                self._evidence.settle(group, self._bets_of(group.ids))
            else:
                self._evidence.broken_returns(group)  # says so
            if self._posterior is not None:
                columns = self._evidence.table.column(group.initial_states, group.ids.size)
                self._posterior.update(group.policy_index, columns, group.outcomes, group.signals, group.transitions)
        self._watch(released)
        del self._bets[: bisect_right(self._bets, self._buffer.settled, key=_after)]
        self._after_evidence()

    def _compare(self, released: Released) -> None:
        """The safe policy against simulation, and real returns against the safe policy's."""
        if self._ramp is None or self._comparison is None:
            return
        gone = []
        for k in released.lost + released.given_up:
            asked = self._asked(k)
            gone.append(int(asked.policy_index[k - asked.first]))
        groups = [self._evidence.without_broken(group) for group in released.groups]
        self._ramp.settle(groups, gone.count(0))
        for policy in gone:
            self._comparison.lost(policy)
        for group in groups:
            self._comparison.told(group.policy_index, group.outcomes[:, 0])

    def _watch(self, released: Released) -> None:
        """Show the monitor what was released, episode by episode in ask order.

        It is read after every episode, so an order that the plant chose (dear ones first) would raise false alarms. A lost
        episode is one that cost nothing: the smallest factor.
        """
        missing = np.asarray(released.lost + released.given_up, dtype=np.int64)
        ids = np.concatenate([*(g.ids for g in released.groups), missing])
        nothing = np.zeros((missing.size, self._limits.size))
        costs = np.concatenate([*(g.outcomes[:, 1:] for g in released.groups), nothing])
        self._monitor.update(costs[np.argsort(ids)])

    def _asked(self, k: int) -> _Asked:
        return self._bets[bisect_right(self._bets, k, key=attrgetter("first")) - 1]

    def _bets_of(self, ids: IntArray) -> list[tuple[FloatArray | None, IntArray]]:
        """Positions of a group's episodes by the bets that were fixed when they were asked."""
        low, high = int(ids.min()), int(ids.max())
        start = bisect_right(self._bets, low, key=attrgetter("first")) - 1
        stop = bisect_right(self._bets, high, key=attrgetter("first"))
        if stop == start + 1:
            return [(self._bets[start].bets, np.arange(ids.size))]
        found = [
            (a.bets, np.flatnonzero((ids >= a.first) & (ids < a.first + a.policy_index.size)))
            for a in self._bets[start:stop]
        ]
        return [(bets, where) for bets, where in found if where.size]

    def _after_evidence(self) -> None:
        if self._monitor.rejected:
            self._raise_alarm("the real costs refute that every deployed mixture met the limit")
        if self.trust != "data":  # where no evidence about cells is collected
            self._review()
        self._judge()
        if self._posterior is not None and self._buffer.settled >= self._look:
            self._look_again(self._posterior)

    def _judge(self) -> None:
        """The alarm where reality is not what simulation predicts; the end of the ramp; policies that are worse than the safe one."""
        if self._ramp is None or self._comparison is None:
            return
        wrong = None if self._alarm is not None else self._ramp.alarm()
        if wrong is not None:
            self._raise_alarm(wrong)
        if self._ramp.over and not self._ramped:
            self._ramped = self._stale = True
            if self._alarm is None:
                self._note_event(
                    "ramp",
                    f"{self._ramp.compared} episodes of the safe policy fit what simulation predicts; the ramp is over",
                )
        self._stale |= self._comparison.doubt(self._buffer.settled)
        for policy in self._comparison.review().tolist():
            self._stale = True
            self._note_event(
                "barred",
                f"policy {policy} returns less than the safe policy in reality (shown at error {LEVEL:g}); it is played no more",
            )

    def _review(self) -> None:
        """Refute and readmit cells; the alarm when all are refuted for good."""
        evidence = self._evidence
        for kind, verb, which in zip(("eliminated", "readmitted"), ("refuted", "readmitted"), evidence.review()):
            if which.size:
                self._note_event(kind, f"cells {_listed(which)} {verb}, {int(evidence.active.sum())} left")
                self._stale |= self.trust == "cells"
                self._changed = self._buffer.settled
        kappa = self._exploration()
        self._stale |= kappa != self._kappa
        self._kappa = kappa
        if not evidence.watched.any() and not self._outside:
            self._outside, self._stale = True, True
            self._bounds.drop_start(self._data_start())
            self._raise_alarm("every cell is refuted: the real task is outside the family")

    def _exploration(self) -> float:
        """``kappa`` now."""
        least = KAPPA[self.trust]
        doublings = math.floor(math.log2(max(self._buffer.settled, 1) / max(self._changed, STALLED)))
        return min(least * 2.0 ** max(doublings, 0), max(least, MOST_KAPPA))

    def _data_start(self) -> FloatArray:
        start = np.broadcast_to(self._ceilings, self._bounds.values.shape).copy()
        start[0] = np.minimum(start[0], self._limits - self.margin)
        return start

    def _look_again(self, guess: CellPosterior) -> None:
        """Aim at what the guess of the task promises now. The rows are what is certified; what is aimed at costs no delta."""
        self._look = next_look(self._buffer.settled)
        posterior = guess.posterior()
        self._objective, self._stale = posterior @ self._set.cells.predictions.reward_center, True
        if self._target == 0 and len(self.policies) > 1:
            self._choose_target(posterior)

    def _choose_target(self, posterior: FloatArray) -> None:
        """Way B: pick a policy to prove safe from what has been seen; its bound will use later episodes only."""
        likely = np.flatnonzero(posterior >= PLAUSIBLE)
        weights, values = posterior[likely] / posterior[likely].sum(), self._promises(likely)
        # A policy that was barred promises what the safe one does.
        barred = np.array(self.barred, dtype=np.int64)
        values[:, barred - 1] = self._set.cells.predictions.reward_center[likely, :1]
        expected, safe = weights @ values, float(weights @ self._set.cells.predictions.reward_center[likely, 0])
        # The first of those that promise most, whatever the rounding; none while nothing promises anything.
        same = NEGLIGIBLE_GAIN * float(magnitude(np.abs(expected).max()))
        best = int((expected >= expected.max() - same).argmax())
        could_improve = float(weights @ values.max(axis=1)) - expected[best]
        undecided = could_improve > DECIDED * (expected[best] - safe) and self._buffer.settled < WARM_UP
        if undecided or expected[best] - safe <= same:
            return
        self._target = best + 1
        self._bounds.select(self._target, self._tracker.opened)
        self._note_event(
            "target",
            f"policy {self._target}, promising in the {likely.size} most plausible cells, is to be proved safe",
        )

    def _promises(self, cells: IntArray) -> FloatArray:
        """(n, J-1) what every policy but the safe one would return in these cells, mixed with the safe one as far as the limits require."""
        predictions = self._set.cells.predictions
        reward, cost = predictions.reward_center[cells], predictions.cost_center[cells]
        n, j, i = cost.shape
        safe = cost[:, 0]
        limits = np.maximum((1.0 - TARGET_SLACK) * self._limits, safe + LEAST_ROOM * (self._limits - safe))
        room, safe = (np.repeat(part, j, axis=0) for part in (limits, safe))
        share = safe_share(safe, cost.reshape(n * j, i), room).reshape(n, j)
        result: FloatArray = (share * reward + (1.0 - share) * reward[:, :1])[:, 1:]
        return result

    def _make_plan(self) -> Plan:
        program = self._program()
        self._planned_bounds = self._bounds.values.copy()
        if self._alarm is not None:
            return safe_plan(program, "an alarm was raised")
        if self.ramping:
            return safe_plan(program, "the ramp: its real episodes are compared with simulation first")
        found = plan(program)
        if not found.certified:
            self._note_event("planned", found.reasons[0])
        return found

    def _bounds_matter(self) -> bool:
        """Whether data bounds fell noticeably below what the rows held at the last plan."""
        in_rows = self._planned_bounds
        if self.trust == "cells" and self._evidence.active.any():
            living = self._set.cells.predictions.cost_upper[self._evidence.active]
            in_rows = np.minimum(in_rows, living.max(axis=0, initial=-np.inf))
        return bool((in_rows - self._bounds.values > NOTICEABLE * self._limits).any())

    def _program(self) -> Program:
        cells, active, bounds = self._set.cells, self._evidence.active, self._bounds.values
        doubts = self._comparison
        if self.trust == "cells" and active.any():
            living = np.flatnonzero(active)
            open_to = living[~np.isin(cells.policy_index[living], self.barred)]
            aimed = open_to if open_to.size else living
            cell = int(aimed[cells.optimal_upper[aimed].argmax()])
            objective = cells.predictions.reward_center[cell]
            rows = np.minimum(cells.predictions.cost_upper[living], bounds)
            names = tuple(f"cell {k}" for k in living)
            candidate = int(cells.policy_index[cell]) if open_to.size else 0
        else:
            objective = self._objective
            if self._posterior is None:
                objective = cells.predictions.reward_center[self._evidence.most_plausible()]
            rows, names = bounds[None], ("the data bounds",)
            # What is proved need not be played to be proved.
            unproved = (bounds[self._target] > self._limits).any() and self._target not in self.barred
            candidate = self._target if unproved else 0
        return Program(
            objective=objective,
            rows=rows,
            names=names,
            limits=self._limits,
            candidate=candidate,
            kappa=self._kappa,
            cap=CAP,
            barred=self.barred,
            doubted=() if doubts is None else tuple(np.flatnonzero(doubts.doubted).tolist()),
            beside=BESIDE,
        )

    def _raise_alarm(self, why: str) -> None:
        if self._alarm is None:
            self._alarm, self._stale = why, True
            self._note_event("alarm", why)

    def _note_event(self, kind: str, text: str) -> None:
        self.events.append(Event(self._tracker.opened, kind, text))

    def _check_signals(self, signals: Any, n: int) -> FloatArray | None:
        declared = self._set.cells.signals
        if signals is None or declared is None:
            return None
        rule = f"signals must be {len(declared.names)} finite numbers per episode"
        try:
            array = np.asarray(signals, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidReport(f"{rule}, got {signals!r}; the episodes stay pending") from error
        if array.size != n * len(declared.names) or not np.isfinite(array).all():
            raise InvalidReport(f"{rule}, got {signals!r}; report all of them, the episodes stay pending")
        array = array.reshape(n, len(declared.names))
        low, high = declared.bounds.T
        # Clipping would move means, which the cells predict for the signal as it is.
        room = SLACK * magnitude(np.maximum(np.abs(low), np.abs(high)))
        if ((array < low - room) | (array > high + room)).any():
            raise InvalidReport(
                f"signals must lie in their declared ranges {declared.bounds.tolist()}, got {array.tolist()}; check units, the episodes stay pending"
            )
        return array

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
            notes=(*self._evidence.notes, *self._compared(), *self._waiting(), *self._coverage()),
        )

    def _coverage(self) -> list[str]:
        """Whether the hold-out is read at a larger error than training set out with: then that error is what coverage rests on."""
        planned = self._set_out_with
        if planned is None or self._delta_coverage <= planned * (1.0 + 1e-9):
            return []
        return [
            f"the hold-out is read at an error of {self._delta_coverage:g} (delta_coverage), larger than the {planned:g} that training set out with; "
            "if it was raised because of what the hold-out showed, neither holds"
        ]

    def _compared(self) -> list[str]:
        """What the comparison with simulation waits for, and what it ended."""
        found = []
        if self._ramp is not None and self.ramping and self._alarm is None:
            lost = f"; {self._ramp.lost} are lost and do not count" if self._ramp.lost else ""
            found.append(
                f"the ramp: {self._ramp.compared} of {self._ramp.episodes} episodes of the safe policy have been reported and compared with "
                f"simulation{lost}; until then it alone is played"
            )
        if self.barred:
            found.append(f"policies {_listed(self.barred)} return less than the safe policy in reality and are barred")
        return found

    def _waiting(self) -> list[str]:
        """What holds the evidence up."""
        held = self._buffer.waiting
        if not held:
            return []
        return [
            f"{held} reports wait until episode {self._buffer.settled} is told or declared lost; cost bounds carry on"
        ]

    def _next(self) -> str:
        if self._alarm is not None:
            return "nothing; find out what is wrong, then start a new deployment"
        if self.ramping:
            return "whether the safe policy does in reality what simulation predicts for it"
        if self.trust != "cells":
            return (
                f"proving policy {self._target} safe"
                if self._target
                else f"which policy is worth proving safe, from at most {WARM_UP} episodes"
            )
        left = int(self._evidence.active.sum())
        if left == 0:
            return "whether the real task is outside the family: every cell is refuted, though not yet for good; only data bounds count"
        return f"which of the {left} surviving cells the real task lies in"


_PURPOSES = {
    "elimination": "the cell of the real task is refuted (Ville)",
    "bounds": "some data bound fails (Ville, union over what is bounded)",
}


def next_look(settled: int) -> int:
    """When the guess is looked at again; the end of the warm-up is not passed by."""
    found = max(settled + 1, math.ceil(LOOK_AGAIN * settled))
    return WARM_UP if settled < WARM_UP < found else found


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidInput(f"{name} must be one of {', '.join(choices)}, got {value!r}; choose one")


def _check_margin(policy_set: PolicySet, margin: float | None) -> float:
    xi = policy_set.safe_margin if margin is None else check_real("margin", margin)
    if xi <= 0.0:
        raise AssumptionError(
            f"margin of the safe policy must be positive, got {xi:g}; bring a safer policy, raise the limit, or state a margin you can justify"
        )
    smallest = float(policy_set.criterion.cost_limits.min(initial=np.inf))
    if xi > smallest:
        raise AssumptionError(
            f"margin of the safe policy must be at most the limit {smallest:g}, got {xi:g}; costs are not negative, check the unit"
        )
    return float(xi)


def _check_certificate(policy_set: PolicySet, p_max: float, delta: float) -> None:
    """Refuse ``cells`` unless the hold-out shows coverage at the user's level."""
    found = policy_set.certificate
    # Hold-out tasks that share simulated episodes may all be judged wrongly at once; what that was given is no longer there for the limit.
    spent, share = policy_set.ledger.spent_on("simulation"), look_share(policy_set.attempt)
    if delta * share <= spent:
        raise AssumptionError(
            f"delta_coverage must be above {spent / share:g}, which the simulated episodes that hold-out tasks share have spent, got {delta:g}; use "
            f"the {policy_set.ledger.total:g} that training set out with, or trust='envelope'"
        )
    level = (delta * share - spent) / 2
    p = 1.0
    if found is not None:
        p = simulated_upper(found.uncovered, found.holdout, level, found.simulation_error)
    if p > p_max:
        had, late = "no hold-out", ""
        if found is not None:
            had = f"{found.uncovered} of {found.holdout} hold-out tasks in no cell"
            late = ". To raise p_max or delta_coverage now would be to choose them after the hold-out was seen: they would not mean what they say"
        raise AssumptionError(
            f"trust='cells' needs at most p_max={p_max:g} of the tasks uncovered at error {delta:g}, got {min(p, 1.0):.4g} ({had}; look "
            f"{policy_set.attempt}, which pays {delta * share:.4g}); {_cure(policy_set, p_max, delta)}, or use trust='envelope'{late}"
        )


def _cure(policy_set: PolicySet, p_max: float, delta: float) -> str:
    """What to train next so that the hold-out shows ``p_max``, at the share that the next look pays."""
    found = policy_set.certificate
    attempt = policy_set.attempt + (found is not None)
    level = max(delta * look_share(attempt), 1e-300) / 2
    fewest = trials_without_failure(p_max, level)
    if found is None:
        return f"train with holdout={fewest} or more"
    handed_on = f"with previous= this policy set (look {attempt} pays {delta * look_share(attempt):.3g})"
    missed = found.uncovered / found.holdout
    enough = fewest if not found.uncovered else _enough_tasks(missed, p_max, level, MOST_HOLDOUT * found.holdout)
    if enough is not None:
        return f"train again {handed_on} and holdout={enough} or more" + (
            ", or more training tasks and fewer cells" if found.uncovered else ""
        )
    tasks, cells = policy_set.training.tasks_sampled, len(policy_set.cells)
    episodes = ", more episodes per task" if found.simulation_error else ""
    return (
        f"with so many misses more hold-out tasks do not help: train again {handed_on}, more training tasks (tasks={2 * tasks} or more){episodes} "
        f"and fewer cells (cells={max(1, cells // 2)} or fewer)"
    )


def _enough_tasks(missed: float, p_max: float, level: float, most: int) -> int | None:
    """How many hold-out tasks would show ``p_max`` if the share ``missed`` of them were in no cell again; ``None`` above ``most``."""
    holdout = trials_without_failure(p_max, level)
    while holdout <= most:
        if clopper_pearson_upper(math.ceil(missed * holdout), holdout, level) <= p_max:
            return holdout
        holdout = math.ceil(1.1 * holdout)
    return None


def _ceilings(policy_set: PolicySet, trust: str, declared: Any) -> FloatArray:
    criterion = policy_set.criterion
    if declared is not None:
        ceilings = as_floats("cost_ceilings", declared, (criterion.n_constraints,))
        if (ceilings <= 0.0).any():
            raise InvalidInput(
                f"cost_ceilings must be positive, got {ceilings.tolist()}; declare the largest possible episode costs"
            )
        return ceilings
    if trust == "data":
        return criterion.cost_ceilings
    simulated = np.asarray(policy_set.bounds.cost_ceilings, dtype=np.float64)
    return np.where(simulated > 0.0, simulated, criterion.cost_ceilings)


def _table_shape(policies: tuple[Policy, ...]) -> tuple[int | None, int | None]:
    """Numbers of states and actions, where policies are tables."""
    shapes = [policy.table.shape for policy in policies if isinstance(policy, TabularPolicy)]
    return (shapes[0][0], shapes[0][1]) if shapes else (None, None)


def _check_transitions(transitions: Any, states: int | None, actions: int | None) -> IntArray | None:
    if transitions is None:
        return None
    rows = np.asarray(transitions)
    if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype.kind not in "iu" or (rows.size and rows.min() < 0):
        raise InvalidReport(
            f"transitions must be rows (s, a, s', count) of whole numbers >= 0, got shape {rows.shape} of {rows.dtype}; the episodes stay pending"
        )
    for column, name, size in ((0, "s", states), (1, "a", actions), (2, "s'", states)):
        if size is not None and rows.size and rows[:, column].max() >= size:
            k = int(rows[:, column].argmax())
            raise InvalidReport(
                f"transitions[{k}] must have {name} in 0..{size - 1}, got the row {rows[k].tolist()}; count states and actions from 0, "
                "the episodes stay pending"
            )
    return rows.astype(np.int64)


def _check_initial(initial_state: Any, n: int, size: int | None) -> Any:
    if initial_state is None:
        return None
    states = np.atleast_1d(np.asarray(initial_state))
    if states.shape != (n,) or states.dtype.kind not in "iu":
        raise InvalidReport(
            f"initial_state must be {n} whole numbers, got {initial_state!r}; the episodes stay pending"
        )
    outside = (states < 0) | (states >= (np.iinfo(np.int64).max if size is None else size))
    if outside.any():
        rule = ">= 0" if size is None else f"in 0..{size - 1}"
        raise InvalidReport(
            f"initial_state must be {rule}, got {int(states[outside.argmax()])}; count states from 0, the episodes stay pending"
        )
    return states


def _told(reports: Reports, starts: Any, rows: IntArray | None, signals: FloatArray | None) -> Told:
    outcomes = np.column_stack([reports.rewards, reports.costs])
    return Told(reports.ids, reports.policy_index, outcomes, starts, rows, signals)


def _listed(cells: Iterable[int]) -> str:
    names = [str(int(k)) for k in cells]
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:8])} and {len(names) - 8} more"
