"""A deployment on a real plant: ask, tell, operate; every step durable before it takes effect.

    plant = Deployment.open("plant.db", policy_set)
    ticket = plant.ask()                           run ticket.policy for one whole episode; ask(n) opens n of them
    plant.tell(ticket.id, reward=3.2, costs=[0.4])

Every operation takes the deployment's lock, folds what others wrote, computes, appends, commits, and only then returns. If anything fails on
the way the state in memory is thrown away and folded again from the journal, which alone is the truth. So any number of processes may work on one
deployment, and any of them may die at any moment.

``ask`` may be repeated with the same ``request`` key and ``tell`` and ``lost`` with the same report: what was recorded before is returned or accepted
silently, what contradicts it is refused. What is certified is the *mixture* that episodes are drawn from, in ask order; a pending episode counts as
lost until it is told.

``abort`` and ``pause`` take effect without the lock: they leave a stop request (:mod:`surefoot.journal.stops`), which every ``ask`` looks for under
the lock before it draws and which whoever writes next turns into the ordinary event.

If the journal cannot be followed any more (:class:`~surefoot.errors.ReplayError`) the deployment is *degraded*, not dead: it hands out the safe
policy only, keeps what is told, can be paused, aborted and looked at, and says so everywhere; see :mod:`surefoot.journal.degraded` and
:meth:`~Deployment.recover`.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, overload

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_integer, check_real, freeze
from surefoot.audit import Verification, verify
from surefoot.deploy.certified import Trust
from surefoot.deploy.evidence import EvidenceKind
from surefoot.errors import (
    ConflictError,
    InvalidInput,
    InvalidReport,
    JournalError,
    JournalUnavailable,
    PausedError,
    ReplayError,
)
from surefoot.journal import snapshot
from surefoot.journal.degraded import REFUSED, Outline, held
from surefoot.journal.events import FORMAT, Entry, Event
from surefoot.journal.reports import Report, episode_ids, lacking, warning
from surefoot.journal.settings import Settings, check_origin
from surefoot.journal.state import DeploymentState, dense, opening
from surefoot.journal.status import DeploymentStatus
from surefoot.journal.stops import SECONDS, Kept, Stop
from surefoot.journal.store import BUSY_SECONDS, Store, Transaction
from surefoot.policy import Policy, for_episode
from surefoot.policyset.schema import PolicySet

__all__ = ["Deployment", "Ticket", "Tickets"]

T = TypeVar("T")

LONGEST_NAME = 200
LARGEST_ASK = 100_000
LONGEST_WHY = 500
REFUSALS = (InvalidReport, PausedError)
"""Raised before any state moved."""
WAITED, FAR = 0.05, 20
"""Who waited so many seconds for the lock and finds so many new events reads them before taking it again."""


@dataclass(frozen=True, eq=False)
class Ticket:
    """One episode to run.

    Attributes:
        id: to be given back with the report.
        policy_index, policy: run this one for the whole episode, whatever one thinks of the draw. ``policy`` is the ticket's own, made when first
            asked for, and remembers no other episode (:func:`surefoot.policy.for_episode`).
        weights: (J,) the certified mixture it was drawn from.
        reason: why this policy has its weight.
    """

    id: int
    policy_index: int
    weights: FloatArray = field(repr=False)
    reason: str
    _policies: tuple[Policy, ...] = field(repr=False)

    @cached_property
    def policy(self) -> Policy:
        """The policy to run, an instance of this ticket's own."""
        return for_episode(self._policies[self.policy_index])  # type: ignore[no-any-return]


class Tickets(tuple[Ticket, ...]):
    """n episodes opened at once from one mixture: n tickets, and the same as arrays, as in :class:`~surefoot.deploy.tracker.Batch`."""

    __slots__ = ()

    @property
    def ids(self) -> IntArray:
        """(n,)."""
        return np.array([ticket.id for ticket in self], dtype=np.int64)

    @property
    def policy_index(self) -> IntArray:
        """(n,) which policy each of them runs."""
        return np.array([ticket.policy_index for ticket in self], dtype=np.int64)

    @property
    def weights(self) -> FloatArray:
        """(J,) the certified mixture they were drawn from."""
        return self[0].weights


class _FarBehind(Exception):
    """Others wrote a lot; catch up first."""


class _Degraded(Exception):
    """The journal says that the deployment is degraded."""


class _Mended(Exception):
    """The journal says that it no longer is."""


class Deployment:
    """See the module's docstring; made by :meth:`open`. May be shared by threads, not by forked processes."""

    def __init__(self, store: Store, policy_set: PolicySet, settings: Settings) -> None:
        self._store, self.policy_set, self.settings = store, policy_set, settings
        self._lock = threading.RLock()
        self._state: DeploymentState | None = None
        self._pace = snapshot.SnapshotPolicy()
        self._closed = False
        self._stops = store.stops
        self._outline: Outline | None = None  # while degraded
        self._last: DeploymentStatus | None = None
        self._fault: ReplayError | None = None  # why, if this process cannot follow the journal

    # ------------------------------------------------------------------------------------------------------- opening

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str],
        policy_set: PolicySet | None = None,
        *,
        name: str = "default",
        create: bool = True,
        trust: Trust | None = None,
        delta: float | None = None,
        seed: int | None = None,
        evidence: EvidenceKind | None = None,
        margin: float | None = None,
        cost_ceilings: Any = None,
        p_max: float | None = None,
        delta_coverage: float | None = None,
        losses: Literal["worst", "independent"] | None = None,
        monitor_delta: float | None = None,
        ramp: int | None = None,
        approve: bool | None = None,
        lock_seconds: float = BUSY_SECONDS,
        anchor: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Open a deployment, or continue it.

        Args:
            url: a database URL (``sqlite:///...``, ``postgresql://...``) or the path of a SQLite file.
            policy_set: from training. A deployment that exists finds its own in the journal.
            name: several deployments may share a database.
            create: ``False`` to refuse what does not exist yet.
            approve: every plan that raises a weight off the safe policy waits for :meth:`approve`.
            lock_seconds: how long an operation waits for others that hold the deployment's lock, before it gives up with
                :class:`~surefoot.errors.JournalUnavailable`.
            anchor: a file in another place (a path or ``file://`` URL) that remembers the last event: a journal that lacks it is refused.
            trust, delta, seed, evidence, margin, cost_ceilings, p_max, delta_coverage, losses, monitor_delta, ramp: as in
                :class:`~surefoot.deploy.certified.CertifiedAgent`, with its defaults; fixed for good when the deployment is created.

        Raises:
            SettingsMismatch: it exists with another policy set, minor version of the library, or setting.
            JournalError: damaged, cut short, or out of reach. A journal that is whole and cannot be followed opens *degraded*, see the status.
            AssumptionError: refused by the agent.
        """
        _check_text("name", name)
        given = {
            "trust": trust, "delta": delta, "seed": seed, "evidence": evidence, "margin": margin, "cost_ceilings": cost_ceilings, "p_max": p_max,
            "delta_coverage": delta_coverage, "losses": losses, "monitor_delta": monitor_delta, "ramp": ramp, "approve": approve,
        }  # fmt: skip
        store = Store(url, name, check_real("lock_seconds", lock_seconds, low=0.0), anchor)
        try:
            first = _first_event(store, create)
            if first is None:
                first = _create(store, policy_set, Settings.given(**given))
            policy_set = _own_policy_set(store, first) if policy_set is None else policy_set
            check_origin(first.body, policy_set)
            settings = Settings.recorded(first.body)
            settings.agree(**given)
            plant = cls(store, policy_set, settings)
            plant._look()
        except BaseException:
            store.close()
            raise
        return plant

    def close(self) -> None:
        """Leave a snapshot, so that reopening is quick, and let go of the database; others who hold a lock are not waited for."""
        if not self._lock.acquire(timeout=SECONDS):
            self._closed = True  # a thread at work lets go of what it holds when the process ends
            return
        try:
            if self._closed:
                return
            self._store.lock_seconds = min(SECONDS, self._store.lock_seconds)
            try:
                self._record()
            except JournalError:
                pass  # whoever opens it next records them
            self._closed = True
            state, self._state = self._state, None
            if state is not None and state.settle() == [] and self._pace.worth_keeping:
                self._keep_snapshot(*_cache(state))
            self._store.close()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ---------------------------------------------------------------------------------------------------- ask and tell

    @overload
    def ask(self, n: None = None, *, request: str | None = None, by: str | None = None) -> Ticket: ...

    @overload
    def ask(self, n: int, *, request: str | None = None, by: str | None = None) -> Tickets: ...

    def ask(self, n: int | None = None, *, request: str | None = None, by: str | None = None) -> Ticket | Tickets:
        """Open one episode, or n episodes, of the mixture certified now; the draws are durable before they are returned.

        Args:
            n: how many; without it one, and its ticket is returned itself.
            request: the caller's key; asking again with it returns the same episodes, whatever happened in between.
            by: who asks, for the journal.

        Raises:
            PausedError: nothing is handed out.
            ConflictError: the key was used for another number of episodes.
        """
        size = 1 if n is None else check_integer("n", n, low=1, high=LARGEST_ASK)
        if request is not None:
            _check_text("request", request)
        who = _who(by)

        def work(transaction: Transaction, state: DeploymentState) -> tuple[list[Entry], Tickets]:
            known = None if request is None else transaction.request(request)
            if known is not None:
                return [], self._again(transaction, known, size)
            entries = state.advance("asked", {"n": size, "request": request, **who})
            # Consequences come after the draw: the tickets show the plan they were drawn from.
            return entries, self._tickets(entries[0].body, state.plan)

        def instead(transaction: Transaction, outline: Outline) -> tuple[list[Entry], Tickets]:
            if request in outline.tickets:
                first, many = outline.tickets[request]
                _check_number(request, many, size)
                return [], self._safe_tickets(outline, first, many)
            known = None if request is None else transaction.request(request)
            if known is not None:
                return [], self._again(transaction, known, size)
            return [outline.ask(size, request, who)], self._safe_tickets(outline, outline.opened, size)

        tickets = self._operate(work, instead)
        return tickets[0] if n is None else tickets

    def ticket(self, episode: int) -> Ticket:
        """The ticket of an episode that was asked before: the same draw.

        Raises:
            InvalidReport: it never was.
        """
        episode = check_integer("episode", episode, low=0)
        with self._held(), self._reading() as transaction:
            if self._outline is not None:
                self._outline.read(transaction)
                if episode in self._outline.draws:
                    return self._safe_tickets(self._outline, episode, 1)[0]
            event = transaction.asked(episode)
            if event is None:
                raise InvalidReport(f"id must name an episode that was asked, got {episode}; use the ids of ask()")
            plan = transaction.event(event.body["plan"])
            return self._tickets(event.body, {} if plan is None else plan.body)[episode - int(event.body["first"])]

    def tell(
        self,
        ids: Any,
        reward: Any,
        costs: Any,
        *,
        initial_state: Any = None,
        transitions: Any = None,
        signals: Any = None,
        by: str | None = None,
    ) -> tuple[str, ...]:
        """Report episodes, in any order and from any process; the arguments of :meth:`surefoot.deploy.agent.Agent.tell`.

        The same report again is accepted and changes nothing.

        Returns:
            Warnings: what this deployment could use and the report lacks. A report is taken once, so that it cannot be added later.

        Raises:
            InvalidReport: NaN, out of range, never asked, wrong shape; nothing is recorded and the episodes stay pending.
            ConflictError: an episode was told differently, or declared lost, before.
        """
        n_constraints, who = self.policy_set.criterion.n_constraints, _who(by)
        report = Report.of(ids, reward, costs, initial_state, transitions, signals, n_constraints)

        def work(transaction: Transaction, state: DeploymentState) -> tuple[list[Entry], Report | None]:
            fresh = _not_told_before(_Books.of(transaction, state), report)
            return ([] if fresh is None else [state.accept(fresh, who)]), fresh

        def instead(transaction: Transaction, outline: Outline) -> tuple[list[Entry], Report | None]:
            fresh = _not_told_before(_Books.outlined(transaction, outline), report)
            if fresh is None:
                return [], None
            outline.check(fresh, self.policy_set, self.settings)
            return [held("told", {**fresh.body(), **who})], None

        self._operate(work, instead)
        return tuple(warning(name) for name in lacking(report, self._usable()))

    def lost(self, ids: Any, *, by: str | None = None) -> None:
        """Declare episodes lost: they count as the ceiling, for good. Saying so again changes nothing.

        Raises:
            InvalidReport: never asked.
            ConflictError: told before.
        """
        number, who = episode_ids(ids), _who(by)

        def work(transaction: Transaction, state: DeploymentState) -> tuple[list[Entry], None]:
            books = _Books.of(transaction, state)
            fresh = [k for k in number.tolist() if not _lost_before(books, k)]
            return (state.advance("lost", {"ids": fresh, **who}) if fresh else []), None

        def instead(transaction: Transaction, outline: Outline) -> tuple[list[Entry], None]:
            books = _Books.outlined(transaction, outline)
            fresh = [k for k in number.tolist() if not _lost_before(books, k)]
            return ([held("lost", {"ids": fresh, **who})] if fresh else []), None

        self._operate(work, instead)

    # --------------------------------------------------------------------------------------------------------- operate

    def pause(self, reason: str = "paused by the operator", *, by: str | None = None) -> Stop:
        """Hand out no episodes until :meth:`resume`; reports are still taken. In effect when this returns, see :meth:`abort`."""
        return self._stop("paused", reason, by)

    def resume(self, *, by: str | None = None) -> None:
        """End a pause.

        Raises:
            JournalUnavailable: a stop request cannot be removed; it would pause the deployment again.
        """
        self._steer("resumed", _who(by), lambda state: state.operator.paused is None)
        if left := self._stops_left():
            raise JournalUnavailable(
                f"the pause cannot end while a stop request is there that cannot be removed: {left}"
            )

    def cap(self, weight: float, *, by: str | None = None) -> None:
        """Bound the total weight off the safe policy; 1 lifts the bound."""
        value = check_real("weight", weight, low=0.0, high=1.0)
        self._steer("capped", {"weight": value, **_who(by)}, lambda state: state.operator.cap == value)

    def abort(self, reason: str = "aborted by the operator", *, by: str | None = None) -> Stop:
        """Return to the safe policy for good, from every state; once more changes nothing.

        In effect when this returns, whoever holds a lock: nothing is drawn any more but the safe policy. If the journal's lock is not free within a
        second, the answer says ``recorded=False``, and whoever writes next records it first. Episodes drawn before stand.

        Args:
            reason: for the journal.
            by: who aborts, for the journal.

        Raises:
            JournalUnavailable: it can neither be left as a stop request nor be recorded; nothing was stopped.
        """
        return self._stop("aborted", reason, by)

    @classmethod
    def stop(
        cls,
        url: str | os.PathLike[str],
        kind: Literal["paused", "aborted"],
        reason: str,
        *,
        name: str = "default",
        by: str | None = None,
    ) -> Stop:
        """Pause or abort a deployment without opening it: reading a long journal takes time that an emergency does not have.

        The request is in effect when this returns, and becomes an event when somebody writes.

        Raises:
            InvalidInput: there is no such deployment.
            JournalUnavailable: the request cannot be written.
        """
        _check_text("name", name)
        found = Stop(kind, _check_text("reason", reason), _who(by).get("by"))
        store = Store(url, name, SECONDS)
        try:
            _first_event(store, create=False, whole=False)
            store.stops.leave(found)
        finally:
            store.close()
        return found

    def approve(self, plan: int | None = None, *, by: str | None = None) -> None:
        """Let the waiting plan be played; naming the same plan again changes nothing.

        Args:
            plan: what the status called it, so that nobody approves what they have not seen; by default what stands now.

        Raises:
            ConflictError: no plan waits, or another one does.
        """
        number, who = None if plan is None else check_integer("plan", plan, low=1), _who(by)

        def work(transaction: Transaction, state: DeploymentState) -> tuple[list[Entry], None]:
            if number is not None and number == state.operator.approved_plan:
                return [], None
            return state.advance("approved", {"plan": state.plan_seq if number is None else number, **who}), None

        def instead(transaction: Transaction, outline: Outline) -> tuple[list[Entry], None]:
            raise ConflictError(
                "approve needs a plan that waits, and a degraded deployment makes none; recover it first"
            )

        self._operate(work, instead)

    def recover(self, *, by: str | None = None) -> None:
        """Carry on after a fault: what happened while the deployment was degraded happens once more, with its consequences; then the certified
        mixture is played again. A deployment that is not degraded stays as it is.

        What cannot be taken after all is left out and listed in the ``recovered`` event; such episodes stay pending.

        Raises:
            ReplayError: the journal still cannot be followed; the deployment stays degraded.
        """
        who = _who(by)
        with self._held():
            self._check_open()
            self._state, self._outline, self._fault = None, None, None
            try:
                with self._store.writing() as transaction:
                    state = self._caught_up(transaction)
                    self._state = None  # until what follows is in the journal
                    if state.degraded is not None:
                        self._work_in(transaction, state, who)
            except ReplayError as error:
                self._outline, self._fault = Outline(), error
                raise
            self._state = state

    def _work_in(self, transaction: Transaction, state: DeploymentState, who: dict[str, str]) -> None:
        waiting, refused = list(state.held), []
        why = "" if state.degraded is None else str(state.degraded["why"])
        self._append(transaction, state, state.settle())
        self._append(transaction, state, state.advance("recovering", {"why": why, **who}))
        for k, event in enumerate(waiting):
            try:
                self._happen(transaction, state, event["kind"], event["body"])
            except REFUSED as error:
                refused.append({"held": k, "why": str(error)})
        self._append(transaction, state, state.advance("recovered", {"refused": refused, **who}))

    def _happen(self, transaction: Transaction, state: DeploymentState, kind: str, body: dict[str, Any]) -> None:
        """Once more what was held, as the ordinary event."""
        if kind == "told":
            report = Report.recorded(body)
            more = {name: value for name, value in body.items() if name == "by"}
            self._append(transaction, state, [state.accept(report, more)], report)
            self._append(transaction, state, state.settle())
            return
        given = {**body, "n": len(body["draws"])} if kind == "asked" else body
        given = {name: value for name, value in given.items() if name not in ("draws", "first")}
        self._append(transaction, state, state.advance(kind, given))

    # ------------------------------------------------------------------------------------------------------------ look

    @property
    def wants(self) -> frozenset[str]:
        """Which optional parts of a report speed learning up; what is once left out of a report may be of no more use later."""
        with self._held():
            state = self._look()
            return frozenset() if state is None else state.agent.wants

    def status(self) -> DeploymentStatus:
        """Where it stands, with what other processes did."""
        with self._held():
            return self._standing()

    def status_at_once(self) -> DeploymentStatus | None:
        """The same without waiting for another thread of this process: then the last status that was asked for, with the stop requests that came
        since, and a note that says so. ``None`` if there was none.
        """
        if not self._lock.acquire(timeout=SECONDS / 4):
            return None if self._last is None else self._last.with_stops(tuple(self._stops.pending().values()))
        try:
            return self._standing()
        finally:
            self._lock.release()

    def _standing(self) -> DeploymentStatus:
        self._last = self._status()
        return self._last

    def _status(self) -> DeploymentStatus:
        state = self._look()
        with self._reading() as transaction:
            stops = tuple(self._stops.pending(transaction.connection).values())
            if state is not None:
                return DeploymentStatus.of(state, self._store.name, stops)
            outline = Outline() if self._outline is None else self._outline
            outline.read(transaction)
        return DeploymentStatus.outlined(
            outline, self.policy_set, self.settings, self._store.name, self._why(outline), stops
        )

    def _look(self) -> DeploymentState | None:
        """The state as of now; ``None`` while it is degraded."""
        if self._outline is None:
            try:
                state = self._caught()
                if state.degraded is None:
                    return state
            except ReplayError as error:
                self._fault = error
            self._outline = Outline()
        was = self._outline.degraded is not None
        with self._reading() as transaction:
            self._outline.read(transaction)
        if self._outline.degraded is not None or (self._fault is not None and not was):
            return None
        self._outline = self._fault = self._state = None  # somebody recovered it
        return self._look()

    def _why(self, outline: Outline) -> tuple[int, str]:
        """The event that cannot be followed, and why."""
        if outline.degraded is not None:
            return int(outline.degraded["event"]), str(outline.degraded["why"])
        return (0, "") if self._fault is None else (self._fault.event, str(self._fault))

    def events(self, since: int = 0) -> Iterator[Event]:
        """Events after number ``since``, checked against their digests."""
        start = check_integer("since", since, low=0)
        with self._held():
            self._check_open()
            try:
                self._record()
            except JournalError:
                pass  # a disk that can only be read
        while True:
            with self._held(), self._reading() as transaction:
                page = transaction.page(start)
            yield from page
            if not page:
                return
            start = page[-1].seq

    def verify(self) -> Verification:
        """Recompute every decision from the events by other code than made it; see :mod:`surefoot.audit.verification`."""
        return verify(self.policy_set, self.events())

    # ----------------------------------------------------------------------------------------------------------- inside

    def _operate(
        self,
        work: Callable[[Transaction, DeploymentState], tuple[list[Entry], T]],
        instead: Callable[[Transaction, Outline], tuple[list[Entry], T]],
        wait: float | None = None,
    ) -> T:
        """Lock, catch up, compute, append, commit; then return. Whatever fails costs the state in memory, never the journal.

        Args:
            work: what to do.
            instead: what to do while the deployment is degraded.
            wait: how long to wait for the lock.
        """
        with self._held(wait):
            self._check_open()
            for _ in range(3):
                if self._outline is None:
                    try:
                        return self._usual(work, wait)
                    except ReplayError as error:
                        self._fault = error
                    except _Degraded:
                        pass
                    self._outline = Outline()
                try:
                    return self._degraded(instead, wait)
                except _Mended:
                    self._outline = self._fault = self._state = None
            raise JournalUnavailable("the deployment is degraded and recovered again and again; try again")

    def _usual(self, work: Callable[[Transaction, DeploymentState], tuple[list[Entry], T]], wait: float | None) -> T:
        if self._state is None:
            self._caught()
        for patient in (True, True, False):
            try:
                return self._attempt(work, patient, wait)
            except _FarBehind:
                # Folding what others wrote takes long; they need not wait for it.
                self._caught()
        raise JournalUnavailable("the journal grows faster than it can be read; try again")

    def _degraded(self, work: Callable[[Transaction, Outline], tuple[list[Entry], T]], wait: float | None) -> T:
        """The same where the journal is only read and not understood."""
        outline, self._outline = self._outline or Outline(), Outline()  # read anew if anything fails
        was, refused = outline.degraded is not None, None
        with self._store.writing(wait=wait) as transaction:
            outline.read(transaction)
            if outline.degraded is None and (was or self._fault is None):
                raise _Mended
            if outline.degraded is None:
                event, why = self._why(outline)
                self._add(transaction, outline, [Entry("degraded", {"event": event, "why": why[:LONGEST_WHY]})])
            stops = self._stops.pending(transaction.connection)
            for stop in stops.values():
                if not outline.stands(stop.kind):
                    self._add(transaction, outline, [held(stop.kind, stop.body)])
            if stops and not self._store.sqlite:
                self._stops.remove(stops, transaction.connection)
            try:
                entries, answer = work(transaction, outline)
            except REFUSALS as error:
                refused = error
            else:
                self._add(transaction, outline, entries)
        self._outline = outline
        if stops and self._store.sqlite:
            self._stops.remove(stops)
        if refused is not None:
            raise refused
        return answer

    @staticmethod
    def _add(transaction: Transaction, outline: Outline, entries: list[Entry]) -> None:
        if entries:
            transaction.append(entries, outline.seq, outline.digest)
            outline.read(transaction)

    def _attempt(
        self, work: Callable[[Transaction, DeploymentState], tuple[list[Entry], T]], patient: bool, wait: float | None
    ) -> T:
        refused, kept = None, None
        with self._store.writing(wait=wait) as transaction:
            if patient and self._far_behind(transaction):
                raise _FarBehind
            others = transaction.others_wrote()
            state = self._state if self._state is not None and not others else self._caught_up(transaction)
            began = time.perf_counter()
            if state.degraded is not None:
                raise _Degraded
            self._state = None  # until what follows is in the journal
            self._append(transaction, state, state.settle())
            stops = self._stopped(transaction, state)
            try:
                entries, answer = work(transaction, state)
            except REFUSALS as error:
                refused = error  # what the last report led to is recorded nevertheless
            else:
                report = answer if isinstance(answer, Report) else None
                if report is not None and self._pace.due():
                    kept = _cache(state)  # the report has not taken effect yet
                self._append(transaction, state, entries, report)
            self._pace.spent(time.perf_counter() - began)
        self._state = state
        if stops and self._store.sqlite:
            self._stops.remove(stops)
        if refused is not None:
            raise refused
        if kept is None and state.pending_effects is None and entries and self._pace.due():
            kept = _cache(state)
        if kept is not None:
            self._keep_snapshot(*kept)
        return answer

    def _stopped(self, transaction: Transaction, state: DeploymentState) -> Kept:
        """Record stop requests before anything else happens; to be removed once that is durable."""
        stops = self._stops.pending(transaction.connection)
        for stop in stops.values():
            if not _stands(state, stop.kind):
                self._append(transaction, state, state.stop(stop.kind, stop.body))
        if stops and not self._store.sqlite:
            self._stops.remove(stops, transaction.connection)
        return stops

    def _stop(self, kind: str, reason: str, by: str | None) -> Stop:
        """Leave a request, then try to record it as long as nobody need wait for it."""
        stop = Stop(kind, _check_text("reason", reason), _who(by).get("by"))
        self._check_open()
        try:
            self._stops.leave(stop)
        except JournalUnavailable:
            # The ordinary way may be open nevertheless.
            self._steer(kind, stop.body, lambda state: _stands(state, kind))
            return replace(stop, recorded=True)
        try:
            self._operate(_nothing, _nothing, wait=SECONDS / 2)
        except JournalError:
            return stop  # recorded by whoever can; till then nothing is drawn against it
        return replace(stop, recorded=True)

    def _stops_left(self) -> Kept:
        with self._held(), self._reading() as transaction:
            return self._stops.pending(transaction.connection)

    @contextmanager
    def _held(self, wait: float | None = None) -> Iterator[None]:
        """This process's own lock, for as long as anything touches the state in memory."""
        seconds = self._store.lock_seconds if wait is None else wait
        if not self._lock.acquire(timeout=seconds):
            raise JournalUnavailable(
                f"another thread of this process must be done within {seconds:g} s, and works on; nothing was recorded, try again"
            )
        try:
            yield
        finally:
            self._lock.release()

    @staticmethod
    def _append(
        transaction: Transaction, state: DeploymentState, entries: list[Entry], report: Report | None = None
    ) -> None:
        if entries:
            state.moved(entries, transaction.append(entries, state.seq, state.digest), report)

    def _usable(self) -> frozenset[str]:
        """What reports may hold that is of use to anybody; known without looking at the journal."""
        state = self._state
        return frozenset() if state is None else state.agent.wants

    def _record(self) -> None:
        """Write what the last report led to, if the journal lacks it."""
        if self._state is not None and self._state.settle():
            self._operate(_nothing, _nothing)

    def _far_behind(self, transaction: Transaction) -> bool:
        """Whether others wrote much while this one waited for the lock."""
        state = self._state
        return state is not None and transaction.waited > WAITED and transaction.digest(state.seq + FAR) is not None

    def _steer(self, kind: str, body: dict[str, Any], done: Callable[[DeploymentState], bool]) -> None:
        def work(transaction: Transaction, state: DeploymentState) -> tuple[list[Entry], None]:
            return ([] if done(state) else state.advance(kind, body)), None

        def instead(transaction: Transaction, outline: Outline) -> tuple[list[Entry], None]:
            needless = kind in ("paused", "aborted") and outline.stands(kind)
            needless = needless or (kind == "resumed" and outline.paused is None)
            return ([] if needless else [held(kind, body)]), None

        self._operate(work, instead)

    def _caught_up(self, transaction: Transaction) -> DeploymentState:
        """The fold of all events so far."""
        state = self._state
        if state is None:
            state = snapshot.restored(transaction, self.policy_set, self.settings)
            state = DeploymentState(self.policy_set, self.settings) if state is None else state
            self._pace.restart()
        began = time.perf_counter()
        self._state = None  # unless replay gets through
        state.replay(transaction.events(state.seq, state.digest))
        self._state = state
        self._pace.spent(time.perf_counter() - began)
        return state

    @contextmanager
    def _reading(self) -> Iterator[Transaction]:
        self._check_open()
        with self._store.reading() as transaction:
            yield transaction

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidInput("the deployment must be open, got one that was closed; open it again")

    def _caught(self) -> DeploymentState:
        """The state as of now."""
        with self._reading() as transaction:
            state = self._caught_up(transaction)
        self._state = None  # unless it gets through
        state.settle()
        self._state = state
        return state

    def _keep_snapshot(self, seq: int, digest: str, body: bytes) -> None:
        """A cache: failing to write it loses nothing."""
        began = time.perf_counter()
        try:
            with self._store.writing() as transaction:
                transaction.keep_snapshot(seq, digest, body)
        except JournalError:
            pass
        self._pace.kept(time.perf_counter() - began)

    def _tickets(self, asked: dict[str, Any], plan: dict[str, Any]) -> Tickets:
        policies, reasons = self.policy_set.policies, plan.get("reasons", {})
        weights = freeze(dense(plan.get("weights", {}), len(policies)))
        return Tickets(
            Ticket(asked["first"] + k, j, weights, reasons.get(str(j), ""), policies)
            for k, j in enumerate(asked["draws"])
        )

    def _safe_tickets(self, outline: Outline, first: int, n: int) -> Tickets:
        """Tickets of the safe policy, while the journal cannot be followed."""
        event, _ = self._why(outline)
        reason = f"DEGRADED: the safe policy only, because event {event} cannot be followed; see the status"
        return self._tickets({"first": first, "draws": [0] * n}, {"weights": {"0": 1.0}, "reasons": {"0": reason}})

    def _again(self, transaction: Transaction, event: Event, n: int) -> Tickets:
        """The answer to a request that was answered before."""
        _check_number(event.body["request"], len(event.body["draws"]), n)
        plan = transaction.event(event.body["plan"])
        return self._tickets(event.body, {} if plan is None else plan.body)


def _nothing(transaction: Transaction, state: object) -> tuple[list[Entry], None]:
    """Record what the last report led to, and stop requests; nothing else."""
    return [], None


def _check_number(request: str | None, many: int, n: int) -> None:
    if many != n:
        raise ConflictError(f"request {request!r} was used to ask for {many} episodes, got {n}; use a new key")


@dataclass(frozen=True)
class _Books:
    """What is known about episodes: from the fold, or from a journal that is only read."""

    is_pending: Callable[[int], bool]
    opened: int
    closing: Callable[[int], Event | None]

    @staticmethod
    def of(transaction: Transaction, state: DeploymentState) -> _Books:
        return _Books(state.agent.is_pending, state.opened, transaction.closed)

    @staticmethod
    def outlined(transaction: Transaction, outline: Outline) -> _Books:
        return _Books(outline.pending.__contains__, outline.opened, lambda k: outline.closing(transaction, k))


def _cache(state: DeploymentState) -> tuple[int, str, bytes]:
    return state.seq, state.digest, snapshot.encode(state)


def _not_told_before(books: _Books, report: Report) -> Report | None:
    """The part of a report that is new; ``None`` if nothing is.

    Raises:
        ConflictError: an episode was told otherwise, or lost, before.
        InvalidReport: an episode was never asked.
    """
    known = {k for k, episode in enumerate(report.ids.tolist()) if not books.is_pending(episode)}
    if not known:
        return report
    for k in sorted(known):
        episode = int(report.ids[k])
        _check_asked(books, episode)
        closed = books.closing(episode)
        if closed is None or closed.kind == "lost":
            raise ConflictError(
                f"id must name a pending episode, got {episode}, which was declared lost; what is lost stays lost"
            )
        if {name: value for name, value in closed.body.items() if name != "by"} == report.body():
            return None
        earlier = Report.recorded(closed.body)
        same = earlier.episode(earlier.ids.tolist().index(episode)) == report.episode(k)
        if not same or report.transitions is not None:
            raise ConflictError(
                f"id must name a pending episode, got {episode}, which was told before (event {closed.seq}) with other values or in another "
                "group; the first report stands"
            )
    return report.without(known) if len(known) < report.ids.size else None


def _lost_before(books: _Books, episode: int) -> bool:
    if books.is_pending(episode):
        return False
    _check_asked(books, episode)
    closed = books.closing(episode)
    if closed is not None and closed.kind == "told":
        raise ConflictError(
            f"id must name a pending episode, got {episode}, which was told (event {closed.seq}); its report stands"
        )
    return True


def _check_asked(books: _Books, episode: int) -> None:
    if not 0 <= episode < books.opened:
        raise InvalidReport(
            f"id must name a pending episode, got {episode}, which was never asked; use the id that ask() returned"
        )


def _stands(state: DeploymentState, kind: str) -> bool:
    """Whether a stop would change nothing; after an abort a pause still does."""
    operator = state.operator
    return (operator.aborted if kind == "aborted" else operator.paused) is not None


def _who(by: str | None) -> dict[str, str]:
    """Who acts, as a body holds it: nothing where nobody is named."""
    return {} if by is None else {"by": _check_text("by", by)}


def _check_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > LONGEST_NAME or not value.isprintable():
        raise InvalidInput(
            f"{name} must be 1 to {LONGEST_NAME} printable characters, got {ascii(value)[:80]}; shorten or clean it"
        )
    return value


def _first_event(store: Store, create: bool, whole: bool = True) -> Event | None:
    """The event that opened the deployment, if there is one."""
    found, there = None, not store.sqlite or Path(store.file).exists()
    if there and store.outdated():
        store.create()
    if there:
        with store.reading(whole=whole) as transaction:
            found = transaction.first() if transaction.exists() else None
    if found is None and not create:
        raise InvalidInput(
            f"name must be that of a deployment in {store.shown}, got {store.name!r}; open it first (surefoot deploy open)"
        )
    if found is not None and (found.kind != "opened" or found.body.get("format") != FORMAT):
        raise JournalError(
            f"event 1 must open the deployment in format {FORMAT}, got {found.kind} {ascii(found.body.get('format'))[:20]}; was it written by a "
            "later surefoot?"
        )
    return found


def _create(store: Store, policy_set: PolicySet | None, settings: Settings) -> Event:
    """Open the deployment; if somebody else does at this moment, theirs counts."""
    if policy_set is None:
        raise InvalidInput("policy_set must be given to open a new deployment, got none; load one with PolicySet.load")
    body, file = opening(policy_set, settings, store.name), _file_of(policy_set)
    state = DeploymentState(policy_set, settings)
    entries = state.advance("opened", body)
    store.create()
    with store.writing(new=True) as transaction:
        found = transaction.first()
        if found is None:
            store.refuse_rest()
            transaction.keep_policy_set(policy_set.hash, file)
            transaction.append(entries, 0, "")
            found = transaction.first()
    if found is None:
        raise JournalError(f"{store.shown} must keep what was written, and did not; use another disk")
    return found


def _file_of(policy_set: PolicySet) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.sf"
        policy_set.save(path)
        return path.read_bytes()


def _own_policy_set(store: Store, first: Event) -> PolicySet:
    """The set that the journal keeps."""
    with store.reading() as transaction:
        body = transaction.policy_set(str(first.body.get("policy_set")))
    if body is None:
        raise InvalidInput("policy_set must be given, for the journal does not keep it (too large); load the file")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.sf"
        path.write_bytes(body)
        return PolicySet.load(path)
