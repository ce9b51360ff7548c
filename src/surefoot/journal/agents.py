"""Which agents live in a deployment: the certified one, and what users register.

    register_agent("mine", make)                 make(policy_set, settings) -> an agent with state (:class:`~surefoot.deploy.agent.DeployableAgent`)
    Deployment.open(url, policy_set, agent="mine")

Nothing about such an agent is certified, and everything says so. It gets what every deployment has: durable draws and reports, pause, abort and
exposure limits, approval, snapshots, the journal; a cost above its ceiling, the monitor (real costs reject that every mixture met the
limit) and the detector of changes return to the safe policy for good. The audit has no second implementation of it: it checks the journal, not the
decisions.

If somebody limits what is played, the agent's draws are thinned: an episode whose policy j was drawn with weight ``w_j`` keeps it with
probability ``min(1, v_j / w_j)``, where v is what may be played, else its policy is drawn again in proportion to ``max(v - w, 0)``. So it is a draw
from v exactly. Episodes that changed policy are lost to the agent. Letters: J policies (0 is safe), I constraints, N cells, n episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_integer
from surefoot.deploy.admission import check_margin
from surefoot.deploy.agent import DeployableAgent
from surefoot.deploy.belief.rehearsed import RehearsedPlan, Rung
from surefoot.deploy.drift import DRIFT, CostDetector
from surefoot.deploy.monitor import Monitor
from surefoot.deploy.planner import Plan, Program
from surefoot.deploy.reorder import ReorderBuffer
from surefoot.deploy.report import OPTIONAL, Report, above_ceiling
from surefoot.deploy.stages import Stage, Standing, stage_of
from surefoot.deploy.stationarity import CHANGED, StationarityDetector
from surefoot.deploy.status import Status, listed
from surefoot.deploy.tracker import Batch, EpisodeTracker
from surefoot.deploy.trust import trust_level
from surefoot.errors import ConflictError, InvalidInput
from surefoot.journal.operator import Operator, SupervisedAgent
from surefoot.journal.settings import CERTIFIED, Settings
from surefoot.policy import Policy
from surefoot.policyset.schema import PolicySet
from surefoot.stateful import Stateful
from surefoot.stats.ledger import Ledger

__all__ = ["Supervised", "UncertifiedAgent", "register_agent", "supervised", "unregister_agent"]

Make = Callable[[PolicySet, Settings], DeployableAgent]

_AGENTS: dict[str, Make] = {}


def register_agent(name: str, make: Make) -> None:
    """Make ``agent=name`` a choice of deployments; whoever reopens one has to register it first.

    Args:
        name: of the choice.
        make: called with the policy set and the settings; must give the same agent every time.

    Raises:
        InvalidInput: the name of the certified agent.
    """
    if name == CERTIFIED:
        raise InvalidInput(
            f"name must be another than {CERTIFIED!r}, which is the library's own agent; choose one",
            code="SF-ARGUMENT-DISTINCT",
        )
    _AGENTS[name] = make


def unregister_agent(name: str) -> None:
    """Take a choice back."""
    _AGENTS.pop(name, None)


def supervised(policy_set: PolicySet, operator: Operator, settings: Settings) -> Supervised:
    """The agent that the settings name, under an operator.

    Raises:
        InvalidInput: nobody registered it.
    """
    if settings.agent == CERTIFIED:
        return SupervisedAgent(policy_set, operator, **settings.for_agent())
    if settings.agent not in _AGENTS:
        known = ", ".join(sorted({CERTIFIED, *_AGENTS}))
        raise InvalidInput(
            f"agent must be one of {known}, got {settings.agent!r}; register it (surefoot.journal.agents.register_agent) before you open",
            code="SF-ARGUMENT-CHOICE",
        )
    return UncertifiedAgent(policy_set, operator, settings, _AGENTS[settings.agent](policy_set, settings))


class UncertifiedAgent(Stateful):
    """A user's own agent under an operator, with what a deployment asks of :class:`~surefoot.journal.operator.SupervisedAgent`.

    Args:
        policy_set: the library.
        operator: standing instructions.
        settings: of the deployment.
        agent: the user's.

    Raises:
        InvalidInput: its policies are not the library.
    """

    CHANGES = (
        "operator", "waiting", "_agent", "_tracker", "_buffer", "_monitor", "_theirs", "_alarm", "_plan", "_stale",
        "_alarm_kind", "_detector", "_stationarity",
    )  # fmt: skip

    barred: tuple[int, ...] = ()
    target = 0
    unramped = True
    ramping = False
    believes = False
    rung: Rung | None = None
    rehearsed: RehearsedPlan | None = None

    def __init__(self, policy_set: PolicySet, operator: Operator, settings: Settings, agent: DeployableAgent) -> None:
        if len(agent.policies) != len(policy_set.policies):
            raise InvalidInput(
                f"agent must play the {len(policy_set.policies)} policies of the policy set, the safe one first, got {len(agent.policies)}; "
                "give it policy_set.policies",
                code="SF-ARGUMENT-MISMATCH",
            )
        self._set, self._agent, self._name = policy_set, agent, settings.agent
        criterion = policy_set.criterion
        self.operator = operator
        self.waiting: Plan | None = None
        self.fresh: list[tuple[str, str]] = []
        self.margin = check_margin(policy_set, settings.margin)
        self._ceilings = trust_level("data").ceilings(policy_set, settings.cost_ceilings)
        self.ceilings = self._ceilings.max(axis=0)
        self.ledger = Ledger(settings.delta)
        # A cost above its ceiling is recorded and alarms. A return out of its range is refused: the agent could not take it.
        no_ceiling = np.full(criterion.n_constraints, np.inf)
        # Draws of its own are needed only where somebody limits what is played.
        rng = np.random.default_rng([settings.seed, 1])
        self._rng = rng
        self._tracker = EpisodeTracker(
            policy_set.policies, criterion, criterion.return_range, no_ceiling, rng, signals=policy_set.cells.signals
        )
        self._buffer, self._monitor = (
            ReorderBuffer(),
            Monitor(criterion.cost_limits, self.ceilings, settings.monitor_delta),
        )
        self._detector = CostDetector(criterion.cost_limits, self.ceilings, settings.false_alarm_every)
        size = len(policy_set.policies)
        self._stationarity = StationarityDetector(
            size, 1 + criterion.n_constraints, settings.false_change_every, settings.seed
        )
        self._theirs: dict[int, int] = {}
        self._alarm: str | None = None
        self._alarm_kind = ""
        self._stale, self._plan = False, self._make_plan()

    # ------------------------------------------------------------------------------------------------------------- plans

    def _make_plan(self) -> Plan:
        played, waiting = self.operator.play(self._proposed(), self._program())
        # The ceiling is all that is known of costs.
        own = replace(played, bounds=self.ceilings, certified=False)
        self.waiting = None if waiting is None else replace(waiting, bounds=self.ceilings, certified=False)
        return own

    def _proposed(self) -> Plan:
        """What the agent chooses; the safe policy after an alarm, and where the choice is no mixture, which is one."""
        size = len(self._set.policies)
        if self._alarm is None:
            weights = np.asarray(self._agent.weights, dtype=np.float64)
            if _is_mixture(weights, size):
                why = f"chosen by agent {self._name!r}, which is not certified"
                return Plan(weights, self.ceilings, 0.0, False, dict.fromkeys(np.flatnonzero(weights).tolist(), why))
            self._raise_alarm(f"agent {self._name!r} must choose a mixture of {size} policies, and does not")
            self._stale = False  # the plan that is being made is that of the alarm
        return Plan(np.eye(size)[0], self.ceilings, 0.0, False, {0: "an alarm was raised"})

    def _program(self) -> Program:
        """No rows: nothing is certified."""
        size, criterion = len(self._set.policies), self._set.criterion
        rows = np.zeros((0, size, criterion.n_constraints))
        return Program(np.zeros(size), rows, (), criterion.cost_limits, 0, 0.0, 0.0)

    @property
    def plan(self) -> Plan:
        """What the next episode is drawn from."""
        if self._stale:
            self._stale, self._plan = False, self._make_plan()
        return self._plan

    def _plan_anew(self) -> None:
        """The agent may choose otherwise now; a choice that is no mixture alarms at once."""
        self._stale, self._plan = False, self._make_plan()

    def certifies(self, weights: FloatArray, bounds: FloatArray) -> bool:
        """Whether a recorded mixture is the one played now; nothing else can be said of it."""
        return bool(np.allclose(weights, self.plan.weights, rtol=0.0, atol=1e-9) and np.allclose(bounds, self.ceilings))

    def adopt(self, plan: Plan, waiting: Plan | None) -> None:
        """Play this plan until the next one is made."""
        self._stale, self._plan, self.waiting = False, plan, waiting

    def steer(self, **changes: Any) -> None:
        """New instructions; they take effect at once."""
        self.operator = replace(self.operator, **changes)
        self._stale = True

    def pause(self, reason: str | None) -> None:
        """Note a pause or its end; no plan depends on it."""
        self.operator = replace(self.operator, paused=reason)

    def approve(self, plan: int) -> None:
        """The waiting plan, proposed by event ``plan``, may be played.

        Raises:
            ConflictError: no plan waits.
        """
        waiting: Plan | None = self.waiting
        if waiting is None:
            raise ConflictError(
                "approve needs a plan that waits, and none does; see the status", code="SF-CONFLICT-NO-PLAN"
            )
        self.steer(approved=waiting.weights, approved_plan=plan)

    # ------------------------------------------------------------------------------------------------------- ask and tell

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The library."""
        return self._set.policies

    @property
    def wants(self) -> frozenset[str]:
        """What the agent can use of a report."""
        return self._agent.wants & frozenset(OPTIONAL)

    def ask(self, n: int) -> Batch:
        """n episodes of the plan: the agent's draws, thinned where somebody limits what is played."""
        n, played = check_integer("n", n, low=1), self.plan.weights
        if self._alarm is not None:  # for good: the agent is asked no more
            return self._tracker.record(np.zeros(n, dtype=np.int64), played)
        theirs = self._agent.ask(n)
        index, weights = np.asarray(theirs.policy_index), np.asarray(theirs.weights, dtype=np.float64)
        if not (_is_mixture(weights, played.size) and _are_draws(index, weights, n)):
            self._raise_alarm(f"agent {self._name!r} must draw {n} policies from its mixture, and does not")
            self._plan_anew()
            return self._tracker.record(np.zeros(n, dtype=np.int64), played)
        index, kept = _thinned(index, weights, played, self._rng)
        batch = self._tracker.record(index, played)
        own = np.asarray(theirs.ids)
        self._theirs.update(zip(batch.ids[kept].tolist(), own[kept].tolist()))
        self._lose(own[~kept])
        self._plan_anew()
        return batch

    def check(self, **report: Any) -> None:
        """Refuse what :meth:`tell` would refuse of the same arguments; nothing moves.

        Raises:
            InvalidReport: see :class:`~surefoot.deploy.agent.Agent`.
        """
        self._tracker.check(**report)

    def tell(self, ids: Any, reward: Any, costs: Any, **optional: Any) -> None:
        """See :class:`~surefoot.deploy.agent.Agent`."""
        report = self._tracker.check(ids, reward, costs, **optional)
        self._tracker.close(report)
        above = above_ceiling(report, self._ceilings, self._set.criterion.cost_names)
        if above is not None:
            self._raise_alarm(above, "ceiling")
        self._buffer.add(report)
        self._pass_on(report, np.asarray(costs, dtype=np.float64).reshape(report.ids.size, -1))
        self._settle()
        self._plan_anew()

    def _pass_on(self, report: Report, costs: FloatArray) -> None:
        """What the agent may know: its own episodes, their costs (n, K) as they were reported, and what it wants of them."""
        mine = [k for k, episode in enumerate(report.ids.tolist()) if episode in self._theirs]
        own = [self._theirs.pop(int(report.ids[k])) for k in mine]
        if not mine:
            return
        if self._alarm is not None:
            self._lose(np.array(own, dtype=np.int64))
            return
        whole = len(mine) == report.ids.size
        optional = {
            "initial_state": None if report.initial_state is None else report.initial_state[mine],
            "signals": None if report.signals is None else report.signals[mine],
            "transitions": report.transitions if whole else None,  # cannot be taken apart
        }
        wanted = {name: value for name, value in optional.items() if name in self.wants and value is not None}
        self._agent.tell(np.array(own, dtype=np.int64), report.reward[mine], costs[mine], **wanted)
        self._stale = True

    def recall(self, reward: Any, costs: Any, **optional: Any) -> None:
        """Logged episodes: the agent's protocol has no place for them.

        Raises:
            ConflictError: always.
        """
        raise ConflictError(
            f"recall needs the library's own agent, which knows what logged episodes are, got agent {self._name!r}; leave the log out",
            code="SF-CONFLICT-HISTORY",
        )

    def lost(self, ids: Any) -> None:
        """See :class:`~surefoot.deploy.certified.CertifiedAgent`: here the agent is told, if it can be."""
        number = self._tracker.forget(ids)
        self._buffer.declare_lost(number.tolist())
        self._lose(np.array([self._theirs.pop(k) for k in number.tolist() if k in self._theirs], dtype=np.int64))
        self._settle()
        self._plan_anew()

    def _lose(self, own: IntArray) -> None:
        if own.size and hasattr(self._agent, "lost"):
            self._agent.lost(own)
            self._stale = True

    def _settle(self) -> None:
        released = self._buffer.release()
        missing = self._buffer.overdue()
        if missing:
            text = f"episodes {listed(missing)} kept too many reports waiting; the monitor counts them as free of cost"
            self.fresh.append(("lost", text))
            self._buffer.give_up(missing)
            released += self._buffer.release()
        if released:
            self._monitor.released(released)
            self._detector.released(released)
            self._stationarity.released(released)
            if self._monitor.rejected:
                self._raise_alarm("the real costs reject that every deployed mixture met the limit", "monitor")
            if self._detector.rejected:
                self._raise_alarm(DRIFT, "drift")
            if self._stationarity.changed >= 0:
                self._raise_alarm(CHANGED.format(policy=self._stationarity.changed), "changed")

    def _raise_alarm(self, why: str, kind: str = "agent") -> None:
        if self._alarm is None:
            self._alarm, self._alarm_kind, self._stale = why, kind, True

    def expect(self, pending: dict[int, int], opened: int) -> None:
        """Take these episodes (policy by id) of ``opened`` for the pending ones: for :meth:`check` alone."""
        self._tracker.expect(pending, opened)

    # ------------------------------------------------------------------------------------------------------- what is said

    @property
    def alarm(self) -> str | None:
        """Why everything stopped, or ``None``."""
        return self._alarm

    @property
    def stage(self) -> Stage:
        """How far the deployment is; whether the agent has learned is its own business."""
        alarm = None if self._alarm is None else (self._alarm_kind, self._alarm)
        return stage_of(Standing(alarm=alarm, aborted=self.operator.aborted, next=self._next))

    @property
    def _next(self) -> str:
        return f"what agent {self._name!r} does next is not known here"

    @property
    def active(self) -> Any:
        """(N,) cells: none is ever rejected."""
        return np.ones(len(self._set.cells), dtype=bool)

    @property
    def bounds(self) -> FloatArray:
        """(J, I) all that is known of costs: the ceilings."""
        return np.tile(self.ceilings, (len(self._set.policies), 1))

    @property
    def settled(self) -> int:
        """Episodes, in ask order, that have taken effect."""
        return self._buffer.settled

    @property
    def pending(self) -> int:
        """Episodes asked and neither told nor lost."""
        return self._tracker.pending

    @property
    def noted(self) -> tuple[str, ...]:
        """What happened to evidence: there is none."""
        return ()

    def is_pending(self, episode: int) -> bool:
        """Whether an episode may still be told."""
        return self._tracker.is_pending(episode)

    def log_wealth(self) -> FloatArray:
        """(N,) no evidence."""
        return np.zeros(len(self._set.cells))

    def status(self) -> Status:
        """Where the deployment stands."""
        current, cells = self.plan, len(self._set.cells)
        return Status(
            episodes=self._tracker.opened,
            pending=self._tracker.pending,
            weights=current.weights,
            certified_costs=current.bounds,
            cost_limits=self._set.criterion.cost_limits,
            cells_left=cells,
            cells=cells,
            reasons=current.reasons,
            alarm=self._alarm,
            ledger=self.ledger,
            next=self._next,
            stage=self.stage,
            notes=(
                f"NOT CERTIFIED: agent {self._name!r} chooses, and nothing bounds what its mixtures cost",
                *self._buffer.notes,
            ),
        )


Supervised = SupervisedAgent | UncertifiedAgent


def _is_mixture(weights: FloatArray, size: int) -> bool:
    """Whether these are probabilities of ``size`` policies."""
    return weights.shape == (size,) and bool((weights >= 0.0).all()) and abs(float(weights.sum()) - 1.0) <= 1e-9


def _are_draws(index: IntArray, weights: FloatArray, n: int) -> bool:
    """Whether these are n policies of positive weight."""
    if index.shape != (n,) or index.dtype.kind not in "iu" or int(index.min()) < 0 or int(index.max()) >= weights.size:
        return False
    return bool((weights[index] > 0.0).all())


def _thinned(
    index: IntArray, weights: FloatArray, played: FloatArray, rng: np.random.Generator
) -> tuple[IntArray, Any]:
    """Draws (n,) from ``weights`` (J,) turned into draws from ``played`` (J,), and which of them stayed (n,)."""
    if np.array_equal(weights, played):
        return index, np.ones(index.size, dtype=bool)
    keep = np.minimum(1.0, played[index] / weights[index])
    kept = rng.random(index.size) < keep
    rest = np.maximum(played - weights, 0.0)
    if not rest.any():  # the two differ by rounding alone
        return index, np.ones(index.size, dtype=bool)
    if not kept.all():
        index = index.copy()
        index[~kept] = rng.choice(rest.size, size=int((~kept).sum()), p=rest / rest.sum())
    return index, kept
