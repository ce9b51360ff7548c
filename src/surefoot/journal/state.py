"""The state of a deployment: the fold of its events, and nothing else.

    state_k = advance(state_{k-1}, event_k)

Somebody causes an event (asked, told, lost, paused, ...); what follows from it (cells eliminated, a new plan, an alarm) is computed here and
recorded behind it. Live and on replay the same function runs on the same plain values, so replay equals live. On replay every consequence is
compared with the recorded one: draws and everything discrete must agree exactly. A recorded plan that differs (another machine's rounding can tip
a linear program to another optimum) is adopted if it is certified by this computation too, and counted in ``deviations``; else replay stops.

While a deployment is degraded (:mod:`surefoot.journal.degraded`) events are ``held``: here they are only remembered, and passed by.

Advancing, replaying and comparing stay in one file, longer than its neighbours, because what is written live has to be what is checked on replay.

A report is durable before its consequences are worked out: a journal may end with a ``told`` event whose consequences are not recorded yet (the
*tail*). Whoever writes next, of whatever process, records them first, so that they stand directly behind the report and the plan was
made before anything else happened; on replay a tail that misses them is told apart from one that has none by computing them. Looking changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.deploy.planner import Plan
from surefoot.deploy.report import Report
from surefoot.deploy.selective_loss import SelectiveLossTest
from surefoot.deploy.stages import STOPPED
from surefoot.errors import ConflictError, PausedError, ReplayError, SurefootError
from surefoot.journal.agents import Supervised, supervised
from surefoot.journal.bodies import dense, differ, plain_plan, plain_stage, same_event
from surefoot.journal.events import COMMANDS, INERT, Entry, Event
from surefoot.journal.missing_parts import lacking
from surefoot.journal.notices import Noticed, noticed
from surefoot.journal.operator import Operator
from surefoot.journal.settings import Settings
from surefoot.journal.succession import ended, succeeded
from surefoot.journal.tally import Tally
from surefoot.policyset.schema import PolicySet
from surefoot.stateful import Stateful

__all__ = ["DeploymentState", "PendingEffects"]

SAME = 1e-9
"""Relative difference up to which recomputed numbers count as the recorded ones."""


class DeploymentState(Stateful):
    """See the module's docstring.

    Args:
        policy_set, settings: of the deployment.

    Attributes:
        agent: the certified agent.
        discards: watches for draws that go missing selectively.
        seq, digest: of the last event folded; 0 and "" before the first.
        plan_seq: number of the ``planned`` event that is in force.
        alarm_seq: number of the ``alarm`` event, or 0.
        deviations: plans that were adopted although this machine computes another one.
        flags: texts of ``flagged`` events.
        plan: body of the ``planned`` event that is in force.
        tail: the report at the journal's end, or ``None``.
        degraded: body of the ``degraded`` event in force, or ``None``.
        held: kind and body of what happened since.
        logs: digests of the logs that count.
        bare: episodes told without an optional part that could be used, by its name.
        successor: name of the deployment that goes on after this one, or empty.
        predecessor: what the ``opened`` event says of the deployment before, or ``None``.
        stage: the stage that the journal records; empty where it records none, as before there were stages.
        tally: what was told, added up.
        told_seq: number of the last ``told`` event, or 0.
        noticed: what of the events folded since the list was last emptied is worth telling.
    """

    CHANGES = (
        "agent", "selective_losses", "seq", "digest", "plan_seq", "alarm_seq", "deviations", "flags", "plan", "pending_effects", "bare", "degraded",
        "held", "stage", "successor", "predecessor", "noticed", "tally", "told_seq", "logs",
    )  # fmt: skip

    def __init__(self, policy_set: PolicySet, settings: Settings) -> None:
        self.policy_set, self.settings = policy_set, settings
        self.agent = supervised(policy_set, Operator(settings.approve), settings)
        self.selective_losses = SelectiveLossTest(len(policy_set.policies))
        self.seq, self.digest = 0, ""
        self.plan_seq = self.alarm_seq = self.deviations = 0
        self.flags: list[str] = []
        self.plan: dict[str, Any] = {}
        self.pending_effects: PendingEffects | None = None
        self.degraded: dict[str, Any] | None = None
        self.held: list[dict[str, Any]] = []
        self.logs: list[str] = []
        self.bare = dict.fromkeys(("initial_state", "transitions", "signals"), 0)
        self.stage = self.successor = ""
        self.predecessor: dict[str, Any] | None = None
        self.noticed: list[Noticed] = []
        self.tally, self.told_seq = Tally(policy_set.criterion), 0

    @property
    def standing(self) -> tuple[int, dict[str, Any]]:
        """Number and body of the plan in force, that of the tail included."""
        for k, entry in enumerate(self.settle(), start=1):
            if entry.kind == "planned":
                return self.seq + k, entry.body
        return self.plan_seq, self.plan

    @property
    def last(self) -> int:
        """Number of the last event, those that the tail still lacks included."""
        return self.seq + len(self.settle())

    @property
    def operator(self) -> Operator:
        """Standing instructions."""
        return self.agent.operator

    @property
    def opened(self) -> int:
        """Episodes asked so far."""
        return self.selective_losses.opened

    def advance(self, kind: str, body: dict[str, Any], report: Report | None = None) -> list[Entry]:
        """One event that somebody caused, completed, and its consequences.

        Args:
            kind: of the event.
            body: what is known of it beforehand.
            report: ``told`` only, the same as the body.

        Raises:
            InvalidReport, PausedError: refused; the state has not moved. After any other error it may have.
        """
        before = _Before(self.agent)
        with np.errstate(all="ignore"):  # a broken sensor may report numbers whose squares overflow
            primary = self._dispatch(kind, body, report)
            return [primary, *self._consequences(before)]

    def accept(self, report: Report, more: dict[str, str]) -> Entry:
        """A report that may be recorded, with ``more`` in its event; it takes effect in :meth:`settle`.

        Raises:
            InvalidReport: refused; the state has not moved.
        """
        with np.errstate(all="ignore"):
            self.agent.check(**report.arguments())
        return Entry("told", {**report.body(), **more})

    def settle(self) -> list[Entry]:
        """Work the tail in; returns what the journal lacks of its consequences."""
        if self.pending_effects is None:
            return []
        if self.pending_effects.entries is None:
            with self._followed(self.pending_effects.seq, "told"):
                self.pending_effects.entries = self.advance(
                    "told", self.pending_effects.body, self.pending_effects.report
                )[1:]
            self.pending_effects.report = None
        return self.pending_effects.entries

    def stop(self, kind: str, body: dict[str, Any]) -> list[Entry]:
        """A pause or an abort, which must never fail for reasons of its own.

        Raises:
            ReplayError: the state is such that nothing follows from it any more.
        """
        with self._followed(self.seq, kind):
            return self.advance(kind, body)

    @contextmanager
    def _followed(self, seq: int, kind: str) -> Iterator[None]:
        """Whatever goes wrong in computing what follows from a recorded event means that the journal cannot be followed."""
        try:
            yield
        except (ReplayError, MemoryError) as error:
            if isinstance(error, ReplayError):
                error.event = error.event or seq
            raise
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            RuntimeError,
            SurefootError,
            TypeError,
            ValueError,
        ) as error:
            found = ReplayError(
                f"event {seq} ({kind}) must have consequences that can be worked out, got: {error!r}; see the status and recover",
                code="SF-REPLAY-FAILED",
            )
            found.event = seq
            raise found from error

    def moved(self, entries: Sequence[Entry | Event], digest: str, report: Report | None = None) -> None:
        """These entries are in the journal now; ``digest`` is that of the last, and ``report`` is the last if it has not taken effect."""
        for entry in entries:
            self.seq += 1
            if entry.kind == "planned":
                self.plan, self.plan_seq = entry.body, self.seq
            elif entry.kind == "alarm":
                self.alarm_seq = self.seq
            elif entry.kind == "told":
                self.told_seq = self.seq
            elif entry.kind == "stage":
                self.stage = str(entry.body["stage"])
            elif entry.kind == "opened":
                self.stage = str(entry.body.get("stage", {}).get("stage", ""))
                self.predecessor = entry.body.get("readapts")
            self._notice(self.seq, entry)
        self.digest = digest
        self.pending_effects = None if report is None else PendingEffects(self.seq, entries[-1].body, report)

    def _notice(self, seq: int, entry: Entry | Event) -> None:
        found = noticed(seq, entry, lambda: self.agent.stage.name, self.opened)
        if found is not None:
            self.noticed.append(found)

    def replay(self, events: Iterable[Event]) -> None:
        """Take in what a journal records from event ``seq + 1`` on.

        Raises:
            ReplayError: the recomputation leads elsewhere.
            JournalError: an event is not what this library writes.
        """
        group: list[Event] = []
        for event in events:
            if event.kind in COMMANDS:
                self._replay(group)
                group = []
            group.append(event)
        self._replay(group)

    def _replay(self, group: list[Event]) -> None:
        """Take in an event and its consequences, or the consequences of the report before it."""
        if not group:
            return
        first = group[0]
        if first.kind == "asked" and not isinstance(first.body.get("draws"), list):
            raise ReplayError(
                f"event {first.seq} (asked) must record its draws, got none; restore the journal from a copy",
                code="SF-REPLAY-ORDER",
            )
        with self._followed(first.seq, first.kind):
            if first.kind in INERT:
                self._pass_by(group)
            elif first.kind in COMMANDS:
                self._begin(group)
            else:
                self._complete(group)

    def _pass_by(self, group: list[Event]) -> None:
        """An event from when the journal could not be followed; consequences behind it are those of the report before."""
        event = group[0]
        if event.kind == "held":
            self.held.append(event.body)
        elif self.degraded is None:
            self.degraded = event.body
        self.seq, self.digest = event.seq, event.digest
        found = noticed(event.seq, event, lambda: STOPPED, self.opened)
        self.noticed += [] if found is None else [found]
        if len(group) > 1:
            self._complete(group[1:])

    def _begin(self, group: list[Event]) -> None:
        """An event that somebody caused: what the report before it led to must be recorded by now."""
        first = group[0]
        if self.pending_effects is not None:
            self._complete([])
        expected = self.advance(first.kind, first.body)
        if first.kind == "told" and len(group) == 1:
            self.moved(group, first.digest)
            self.pending_effects = PendingEffects(first.seq, first.body, None, expected[1:])
            return
        self._match(group, expected)
        self.moved(group, group[-1].digest)

    def _complete(self, group: list[Event]) -> None:
        """The recorded consequences of the tail; none are recorded where something else follows it directly."""
        expected, pending_effects = self.settle(), self.pending_effects
        if pending_effects is None:
            raise ReplayError(
                f"event {group[0].seq} ({group[0].kind}) must follow from another; restore the journal from a copy",
                code="SF-REPLAY-ORDER",
            )
        told = Event(pending_effects.seq, "", "told", pending_effects.body)
        self._match([told, *group], [Entry("told", pending_effects.body), *expected])
        self.moved(group, group[-1].digest if group else self.digest)

    # ------------------------------------------------------------------------------------------------ what happens

    def _dispatch(self, kind: str, body: dict[str, Any], report: Report | None) -> Entry:
        if kind == "asked":
            return self._ask(body)
        if kind == "told":
            self._tell(Report.recorded(body) if report is None else report)
        elif kind == "lost":
            self.agent.lost(np.asarray(body["ids"], dtype=np.int64))
            self.selective_losses.declared_lost(body["ids"])
            self.tally.lost += len(body["ids"])
        elif kind == "approved":
            self._approve(body)
        elif kind == "recalled":
            report = Report.recorded({**body, "ids": list(range(len(body["reward"])))})
            self.agent.recall(**{name: value for name, value in report.arguments().items() if name != "ids"})
            self.logs.append(str(body.get("log", "")))
        elif kind == "opened":
            self._check_first()
        elif kind == "readapted":
            self._readapt(body)
        elif kind in _STEERING:
            _STEERING[kind](self.agent, body)
        elif kind in ("recovering", "recovered"):
            self._recover(kind)
        else:
            raise ReplayError(
                f"an event of kind {kind!r} must follow from another; restore the journal from a copy",
                code="SF-REPLAY-ORDER",
            )
        return Entry(kind, body)

    def _readapt(self, body: dict[str, Any]) -> None:
        """Another deployment goes on: nothing is asked here any more, and reports of what was asked are still taken."""
        if self.successor:
            raise ConflictError(
                f"readapt must name {self.successor!r}, the deployment that goes on after this one, got {body['name']!r}; readapt that one",
                code="SF-CONFLICT-SUCCEEDED",
            )
        self.successor = str(body["name"])
        self.agent.steer(aborted=ended(body["name"], body["reason"]), paused=None)

    def _recover(self, kind: str) -> None:
        if self.degraded is None:
            raise ConflictError(
                "recover needs a deployment that is degraded, and this one is not; see the status",
                code="SF-CONFLICT-SOUND",
            )
        self.agent.steer(recovering=kind == "recovering")
        if kind == "recovered":
            self.degraded, self.held = None, []

    def _check_first(self) -> None:
        if self.seq:
            raise ReplayError(
                f"a journal must be opened once, got a second time after event {self.seq}; restore it",
                code="SF-REPLAY-ORDER",
            )

    def _ask(self, body: dict[str, Any]) -> Entry:
        if self.successor:
            raise succeeded(self.successor)
        if self.operator.paused is not None:
            raise PausedError(f"the deployment is paused ({self.operator.paused}); resume it to ask for episodes")
        settled = self.agent.settled
        batch = self.agent.ask(len(body["draws"]) if "draws" in body else body["n"])
        self.selective_losses.asked(batch.policy_index, batch.weights)
        found = {
            "first": int(batch.ids[0]),
            "draws": batch.policy_index.tolist(),
            "plan": self.plan_seq,
            "settled": settled,
        }
        if body.get("request") is not None:
            found["request"] = body["request"]
        if "by" in body:
            found["by"] = body["by"]
        return Entry("asked", found)

    def _tell(self, report: Report) -> None:
        for name in lacking(report, self.agent.wants):
            self.bare[name] += report.ids.size
        self.agent.tell(**report.arguments())
        self.selective_losses.told(report.ids.tolist())
        self.tally.report(report)

    def _approve(self, body: dict[str, Any]) -> None:
        if body["plan"] != self.plan_seq:
            raise ConflictError(
                f"plan must be {self.plan_seq}, the one that stands now, got {body['plan']}; look at the status again, approve what it shows",
                code="SF-CONFLICT-PLAN",
            )
        self.agent.approve(body["plan"])

    # ----------------------------------------------------------------------------------------- what follows from it

    def _consequences(self, before: _Before) -> list[Entry]:
        """What changed; the plan comes last, for it rests on the rest."""
        entries = [*self._cells(before), *self._remarks(before), *self._flagged(), *self._compared(before)]
        agent = self.agent
        entries += [Entry("protocol", {"text": text}) for kind, text in agent.fresh if kind == "protocol"]
        alarm = [Entry("alarm", {"text": agent.alarm})] if agent.alarm is not None and before.alarm is None else []
        plan = agent.plan
        # The stage rests on the plan and stands before the alarm that led to it, so that whoever reads the alarm knows the stage.
        entries += [*self._staged(), *alarm]
        agent.fresh.clear()
        if plan is not before.plan or agent.waiting is not before.waiting or not self.plan:
            body = self._planned(plan)
            if body != self.plan:
                entries.append(Entry("planned", body))
        return entries

    def _staged(self) -> list[Entry]:
        """A change of stage, in journals that record them."""
        if not self.stage or (found := self.agent.stage).name == self.stage:
            return []
        return [Entry("stage", {**plain_stage(found), "was": self.stage})]

    def _cells(self, before: _Before) -> list[Entry]:
        active, entries = self.agent.active, []
        gone, back = np.flatnonzero(before.active & ~active), np.flatnonzero(~before.active & active)
        left = int(active.sum())
        if gone.size:
            wealth = [w if math.isfinite(w) else None for w in self.agent.log_wealth()[gone].tolist()]
            entries.append(Entry("eliminated", {"cells": gone.tolist(), "log_wealth": wealth, "cells_left": left}))
        if back.size:
            entries.append(Entry("readmitted", {"cells": back.tolist(), "cells_left": left}))
        return entries

    def _remarks(self, before: _Before) -> list[Entry]:
        texts = list(self.agent.noted[before.noted :])
        # Declared losses are events of their own; this kind also says that a missing report is no longer waited for.
        texts += [text for kind, text in self.agent.fresh if kind == "lost" and "declared" not in text]
        found = [Entry("noted", {"text": text}) for text in texts]
        targets = [text for kind, text in self.agent.fresh if kind == "target"]
        return found + [Entry("target", {"policy": self.agent.target, "text": text}) for text in targets]

    def _compared(self, before: _Before) -> list[Entry]:
        """The end of the ramp, and policies that are worse than the safe one."""
        fresh = self.agent.fresh
        entries = [Entry("ramp", {"text": text}) for kind, text in fresh if kind == "ramp"]
        texts = [text for kind, text in fresh if kind == "barred"]
        gone = sorted(set(self.agent.barred) - set(before.barred))
        return entries + [Entry("barred", {"policy": j, "text": text}) for j, text in zip(gone, texts, strict=True)]

    def _flagged(self) -> list[Entry]:
        policy = self.selective_losses.review()
        if policy is None:
            return []
        text = (
            f"episodes go missing more often than chance allows when policy {policy} is drawn ({self.selective_losses.missing[policy]} so "
            "far); what is certified is the mixture, and discarding draws selectively voids that"
        )
        self.flags.append(text)
        return [Entry("flagged", {"policy": policy, "text": text})]

    def _planned(self, plan: Plan) -> dict[str, Any]:
        waiting = self.agent.waiting
        return {
            **plain_plan(plan),
            "cells_left": int(self.agent.active.sum()),
            "waiting": None if waiting is None else plain_plan(waiting),
            **({"belief": True} if self.agent.believes else {}),
        }

    # --------------------------------------------------------------------------- recorded against recomputed

    def _match(self, recorded: list[Event], expected: list[Entry]) -> None:
        """Compare a group of the journal with its recomputation; adopt the recorded plan where it differs and is certified.

        A recorded stage stands as it is: it decides nothing, and another machine's rounding may reach it an episode earlier.
        """
        theirs = [event for event in recorded if event.kind not in ("planned", "stage")]
        ours = [entry for entry in expected if entry.kind not in ("planned", "stage")]
        for k in range(max(len(theirs), len(ours))):
            if k >= len(theirs) or k >= len(ours) or not same_event(theirs[k], ours[k]):
                raise differ(recorded[0], theirs[k : k + 1], ours[k : k + 1])
        plans = [event for event in recorded if event.kind == "planned"]
        if plans or any(entry.kind == "planned" for entry in expected):
            self._follow(recorded[0], plans[-1].body if plans else self.plan)

    def _follow(self, first: Event, body: dict[str, Any]) -> None:
        """Play the recorded plan: exactly what was drawn from, wherever this is computed."""
        ours = self._planned(self.agent.plan)
        if ours == body:
            return
        plan, waiting = self._plan_of(body), None if body["waiting"] is None else self._plan_of(body["waiting"])
        same = np.allclose(plan.weights, self.agent.plan.weights, rtol=0.0, atol=SAME)
        if not self.agent.certifies(plan.weights, plan.bounds):
            raise differ(first, [Event(first.seq, first.at, "planned", body)], [Entry("planned", ours)])
        self.deviations += not same
        self.agent.adopt(plan, waiting)

    def _plan_of(self, body: dict[str, Any]) -> Plan:
        return Plan(
            dense(body["weights"], len(self.policy_set.policies)),
            np.asarray(body["bounds"], dtype=np.float64),
            float(body["value"]),
            bool(body["certified"]),
            {int(j): str(text) for j, text in body["reasons"].items()},
        )


@dataclass
class PendingEffects:
    """A report at the end of a journal, without its consequences.

    Attributes:
        seq: of its event.
        body: of its event.
        report: the same; ``None`` once it has taken effect.
        entries: its consequences, which the journal lacks; ``None`` before they are worked out.
    """

    seq: int
    body: dict[str, Any]
    report: Report | None
    entries: list[Entry] | None = None


class _Before:
    """What consequences are told apart by."""

    def __init__(self, agent: Supervised) -> None:
        self.active, self.alarm, self.noted = agent.active, agent.alarm, len(agent.noted)
        self.plan, self.waiting = agent.plan, agent.waiting
        self.barred = agent.barred


_STEERING: dict[str, Callable[[Supervised, dict[str, Any]], None]] = {
    "paused": lambda agent, body: agent.pause(body["reason"]),
    "resumed": lambda agent, body: agent.pause(None),
    "capped": lambda agent, body: agent.steer(cap=body["weight"]),
    "aborted": lambda agent, body: agent.steer(aborted=body["reason"], paused=None),
}
