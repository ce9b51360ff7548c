"""What the page about a deployment tells, collected event by event.

Curves are drawn over episodes in ask order, each as the largest value in a stretch and the last one, so that no excess is hidden. Of long tables
the first and the last rows are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from surefoot.report.deployment.chart import Mark
from surefoot.report.deployment.curve import MixtureTrail, StepCurve
from surefoot.report.deployment.measured import Measured

if TYPE_CHECKING:
    from surefoot.policyset.schema import PolicySet

__all__ = ["FIRST_ROWS", "EventLike", "EventRow", "EventTable", "ReportModel", "certified"]

ROUTINE = frozenset({"asked", "told", "lost", "held"})
"""Kinds that come with every episode; they are counted, and shown only in the list of all events."""
STOPS = frozenset({"paused", "resumed", "aborted"})
WARNINGS = frozenset({"barred", "flagged", "noted", "degraded", "protocol"})
FIRST_ROWS, LAST_ROWS = 50, 450
"""Rows that a long table shows; the journal has the rest."""


class EventLike(Protocol):
    """What is read of an event.

    Attributes:
        seq: its number, from 1.
        at: wall-clock time, for people.
        kind: see :mod:`surefoot.report.deployment`.
        body: plain values.
    """

    @property
    def seq(self) -> int: ...
    @property
    def at(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def body(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class EventRow:
    """A line of a table of events: an event, and how many episodes had been asked for by then."""

    seq: int
    at: str
    episode: int
    kind: str
    body: dict[str, Any]


class EventTable:
    """The first and the last rows of something that may be long."""

    def __init__(self) -> None:
        self.first: list[EventRow] = []
        self.last: deque[EventRow] = deque(maxlen=LAST_ROWS)
        self.length = 0

    def add(self, row: EventRow) -> None:
        """One more row."""
        self.length += 1
        if len(self.first) < FIRST_ROWS:
            self.first.append(row)
        else:
            self.last.append(row)


@dataclass
class ReportModel:
    """What is known after the events so far.

    Attributes:
        names: of policies.
        policy_set: what was deployed, for what it predicts; ``None`` where nobody brought it.
        opened: body of the first event.
        plan: body of the last ``planned`` event.
        asked, told, lost: episodes.
        logged: episodes of the safe policy from before the first ask.
        cap: largest weight off the safe policy that people allow.
        paused, aborted: the reason, while it is so.
        degraded: body of the event that says so, while it is so.
        stage: stage, text and until of the stage it is in; empty where the journal records none.
        left: the event by which the deployment left the protocol that was rehearsed, if it did.
        seq, at, digest: of the last event; ``began``: when the first one was written.
        costs, weight, cells: curves over episodes asked: I of certified bounds, of the weight off the safe policy, of cells left.
        mixtures: that were in force over episodes.
        measured: what episodes cost and earned.
        gone: cells that are rejected now.
        aim: what the agent last said that it learns.
        marks: what charts point at.
        alarms, warnings: all of them.
        decisions, everything: tables.
    """

    names: dict[int, str]
    policy_set: PolicySet | None = None
    opened: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    asked: int = 0
    told: int = 0
    lost: int = 0
    logged: int = 0
    cap: float = 1.0
    paused: str | None = None
    aborted: str | None = None
    degraded: dict[str, Any] | None = None
    stage: dict[str, Any] = field(default_factory=dict)
    left: EventRow | None = None
    seq: int = 0
    began: str = ""
    at: str = ""
    digest: str = ""
    costs: list[StepCurve] = field(default_factory=list)
    weight: StepCurve = field(default_factory=StepCurve)
    cells: StepCurve = field(default_factory=StepCurve)
    mixtures: MixtureTrail = field(default_factory=MixtureTrail)
    measured: Measured | None = None
    gone: set[int] = field(default_factory=set)
    aim: str = ""
    marks: list[Mark] = field(default_factory=list)
    alarms: list[EventRow] = field(default_factory=list)
    warnings: list[EventRow] = field(default_factory=list)
    decisions: EventTable = field(default_factory=EventTable)
    everything: EventTable = field(default_factory=EventTable)

    @property
    def rehearsed(self) -> dict[str, Any] | None:
        """What was rehearsed, as the first event records it; ``None`` under other trust levels."""
        found = self.opened.get("rehearsed")
        return found if isinstance(found, dict) else None

    @property
    def promises(self) -> bool:
        """Whether anything is certified now: the library's own agent chooses, and there was no alarm."""
        return certified(self.opened) and not self.alarms

    def take(self, event: EventLike) -> None:
        """One more event.

        Raises:
            ArithmeticError, AttributeError, LookupError, TypeError, ValueError: no deployment's journal holds it.
        """
        body, kind = event.body, str(event.kind)
        if not self.opened and kind != "opened":
            raise ValueError("the first event must open the deployment")
        self.seq, self.at, self.digest = int(event.seq), str(event.at), str(getattr(event, "digest", ""))
        self._apply(kind, body)
        row = EventRow(self.seq, self.at, self.asked, kind, body)
        self.everything.add(row)
        if kind not in ROUTINE:
            self.decisions.add(row)
        if kind == "protocol":
            self.left = self.left or row
        if kind in ("alarm", "aborted", "protocol"):
            self.marks.append(Mark(self.asked, kind))
        if kind == "alarm":
            self.alarms.append(row)
        elif kind in WARNINGS:
            self.warnings.append(row)

    def _apply(self, kind: str, body: dict[str, Any]) -> None:
        change = _CHANGES.get(kind)
        if change is not None:
            change(self, body)

    def _open(self, body: dict[str, Any]) -> None:
        if self.opened:
            raise ValueError("a deployment is opened once")
        self.opened, self.began = body, self.at
        self.stage = body.get("stage", {})
        if len(body["cost_names"]) != len(body["cost_limits"]):
            raise ValueError("constraints need a name and a limit each")
        self.costs = [StepCurve() for _ in body["cost_limits"]]
        self.cells.add(0, float(body["cells"]))
        self.measured = Measured(body, self.policy_set)

    @property
    def outcomes(self) -> Measured:
        """What episodes cost and earned.

        Raises:
            ValueError: the deployment was not opened.
        """
        if self.measured is None:
            raise ValueError("the first event must open the deployment")
        return self.measured

    def _recall(self, body: dict[str, Any]) -> None:
        self.logged += len(body["reward"])
        self.outcomes.recalled(body["reward"], body["costs"])

    def _ask(self, body: dict[str, Any]) -> None:
        first, draws = int(body["first"]), body["draws"]
        self.asked = first + len(draws)
        self.outcomes.asked(first, draws)

    def _tell(self, body: dict[str, Any]) -> None:
        self.told += len(body["ids"])
        self.outcomes.told(body["ids"], body["reward"], body["costs"])

    def _lose(self, body: dict[str, Any]) -> None:
        self.lost += len(body["ids"])
        self.outcomes.lost(body["ids"])

    def _plan(self, body: dict[str, Any]) -> None:
        self.plan = {**body, "weights": {int(j): float(w) for j, w in body["weights"].items()}}
        if len(body["bounds"]) != len(self.costs):
            raise ValueError("a plan bounds every constraint")
        for curve, bound in zip(self.costs, body["bounds"]):
            curve.add(self.asked, float(bound))
        self.weight.add(self.asked, 1.0 - self.plan["weights"].get(0, 0.0))
        self.mixtures.add(self.asked, self.plan["weights"])
        self.outcomes.planned(self.plan["weights"], body["bounds"])
        self._count_cells(body)

    def _count_cells(self, body: dict[str, Any]) -> None:
        self.cells.add(self.asked, float(body["cells_left"]))

    def _stage(self, body: dict[str, Any]) -> None:
        self.stage = body

    def _eliminate(self, body: dict[str, Any]) -> None:
        self.gone.update(int(k) for k in body["cells"])
        self._count_cells(body)

    def _readmit(self, body: dict[str, Any]) -> None:
        self.gone.difference_update(int(k) for k in body["cells"])
        self._count_cells(body)

    def _aim_at(self, body: dict[str, Any]) -> None:
        self.aim = str(body["text"])

    def _cap(self, body: dict[str, Any]) -> None:
        self.cap = float(body["weight"])

    def _pause(self, body: dict[str, Any]) -> None:
        self.paused = str(body["reason"])

    def _resume(self, body: dict[str, Any]) -> None:
        self.paused = None

    def _abort(self, body: dict[str, Any]) -> None:
        self.aborted, self.paused = str(body["reason"]), None

    def _degrade(self, body: dict[str, Any]) -> None:
        self.degraded = body

    def _recover(self, body: dict[str, Any]) -> None:
        self.degraded = None

    def _hold(self, body: dict[str, Any]) -> None:
        """Of what is held only stops take effect at once; the rest happens once more on recovery."""
        if body["kind"] in STOPS:
            self._apply(body["kind"], body["body"])


def certified(opened: dict[str, Any]) -> bool:
    """Whether the library's own agent chooses; of any other nothing is certified."""
    return str(opened["settings"].get("agent", "certified")) == "certified"


_CHANGES: dict[str, Callable[[ReportModel, dict[str, Any]], None]] = {
    "opened": ReportModel._open,
    "asked": ReportModel._ask,
    "told": ReportModel._tell,
    "lost": ReportModel._lose,
    "planned": ReportModel._plan,
    "eliminated": ReportModel._eliminate,
    "readmitted": ReportModel._readmit,
    "recalled": ReportModel._recall,
    "target": ReportModel._aim_at,
    "ramp": ReportModel._aim_at,
    "stage": ReportModel._stage,
    "capped": ReportModel._cap,
    "paused": ReportModel._pause,
    "resumed": ReportModel._resume,
    "aborted": ReportModel._abort,
    "readapted": ReportModel._abort,
    "degraded": ReportModel._degrade,
    "recovered": ReportModel._recover,
    "held": ReportModel._hold,
}
"""What an event of each kind changes; others are listed, and change nothing here."""
