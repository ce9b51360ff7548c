"""How one process works on a journal that others write to: lock, catch up, compute, append, commit.

Every operation takes the deployment's lock, works in what others wrote, computes, appends, commits, and only then returns. If anything fails on
the way the state in memory is thrown away and folded again from the journal, which alone is the truth. So any number of processes may work on one
deployment, and any of them may die at any moment.

Where the journal cannot be followed (:class:`~surefoot.errors.ReplayError`) it is read without being understood
(:mod:`surefoot.journal.degraded`), and the same operation happens there in another form.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from surefoot.deploy.report import Report
from surefoot.errors import InvalidInput, InvalidReport, JournalError, JournalUnavailable, PausedError, ReplayError
from surefoot.journal import snapshot
from surefoot.journal.degraded import REFUSED, Outline, held
from surefoot.journal.events import Entry
from surefoot.journal.hooks import Hooks
from surefoot.journal.notices import named
from surefoot.journal.settings import Settings
from surefoot.journal.state import DeploymentState
from surefoot.journal.status import DeploymentStatus
from surefoot.journal.stop_requests import SECONDS, Kept
from surefoot.journal.store import Store, Transaction
from surefoot.policyset.schema import PolicySet

__all__ = ["Session", "cached", "nothing", "stands"]

T = TypeVar("T")

LONGEST_WHY = 500
REFUSALS = (InvalidReport, PausedError)
"""Raised before any state moved."""
WAITED, FAR = 0.05, 20
"""Who waited so many seconds for the lock and finds so many new events reads them before taking it again."""


class _FarBehind(Exception):
    """Others wrote a lot; catch up first."""


class _Degraded(Exception):
    """The journal says that the deployment is degraded."""


class _Mended(Exception):
    """The journal says that it no longer is."""


class Session:
    """See the module's docstring.

    Args:
        store: the journal.
        policy_set, settings: with which the deployment was opened.
    """

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
        self._hooks, self._depth = Hooks(), 0
        self._told_at = (0, "")  # number and time stamp of the last report that is known
        self.noticed_to = 0
        """Number of the last event of which subscribers were told what is to be told."""

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
                self._keep_snapshot(*cached(state))
            self._store.close()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

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
            raise JournalUnavailable(
                "the deployment is degraded and recovered again and again; try again", code="SF-JOURNAL-BUSY"
            )

    def _usual(self, work: Callable[[Transaction, DeploymentState], tuple[list[Entry], T]], wait: float | None) -> T:
        if self._state is None:
            self._caught()
        for patient in (True, True, False):
            try:
                return self._attempt(work, patient, wait)
            except _FarBehind:
                # Folding what others wrote takes long; they need not wait for it.
                self._caught()
        raise JournalUnavailable("the journal grows faster than it can be read; try again", code="SF-JOURNAL-BUSY")

    def _attempt(
        self, work: Callable[[Transaction, DeploymentState], tuple[list[Entry], T]], patient: bool, wait: float | None
    ) -> T:
        refused, kept, report = None, None, None
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
                    kept = cached(state)  # the report has not taken effect yet
                self._append(transaction, state, entries, report)
            self._pace.spent(time.perf_counter() - began)
        self._state = state
        if report is not None:
            self._told_at = state.told_seq, transaction.written_at
        if stops and self._store.sqlite:
            self._stops.remove(stops)
        if refused is not None:
            raise refused
        if kept is None and state.pending_effects is None and entries and self._pace.due():
            kept = cached(state)
        if kept is not None:
            self._keep_snapshot(*kept)
        return answer

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

    def _stopped(self, transaction: Transaction, state: DeploymentState) -> Kept:
        """Record stop requests before anything else happens; to be removed once that is durable."""
        stops = self._stops.pending(transaction.connection)
        for stop in stops.values():
            if not stands(state, stop.kind):
                self._append(transaction, state, state.stop(stop.kind, stop.body))
        if stops and not self._store.sqlite:
            self._stops.remove(stops, transaction.connection)
        return stops

    @staticmethod
    def _append(
        transaction: Transaction, state: DeploymentState, entries: list[Entry], report: Report | None = None
    ) -> None:
        if entries:
            state.moved(entries, transaction.append(entries, state.seq, state.digest), report)

    def _record(self) -> None:
        """Write what the last report led to, if the journal lacks it."""
        if self._state is not None and self._state.settle():
            self._operate(nothing, nothing)

    def _usable(self) -> frozenset[str]:
        """What reports may hold that is of use to anybody; known without looking at the journal."""
        state = self._state
        return frozenset() if state is None else state.agent.wants

    def _far_behind(self, transaction: Transaction) -> bool:
        """Whether others wrote much while this one waited for the lock."""
        state = self._state
        return state is not None and transaction.waited > WAITED and transaction.digest(state.seq + FAR) is not None

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

    def _caught(self) -> DeploymentState:
        """The state as of now."""
        with self._reading() as transaction:
            state = self._caught_up(transaction)
        self._state = None  # unless it gets through
        state.settle()
        self._state = state
        return state

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

    def _keep_snapshot(self, seq: int, digest: str, body: bytes) -> None:
        """A cache: failing to write it loses nothing."""
        began = time.perf_counter()
        try:
            with self._store.writing() as transaction:
                transaction.keep_snapshot(seq, digest, body)
        except JournalError:
            pass
        self._pace.kept(time.perf_counter() - began)

    @contextmanager
    def _held(self, wait: float | None = None) -> Iterator[None]:
        """This process's own lock, for as long as anything touches the state in memory."""
        seconds = self._store.lock_seconds if wait is None else wait
        if not self._lock.acquire(timeout=seconds):
            raise JournalUnavailable(
                f"another thread of this process must be done within {seconds:g} s, and works on; nothing was recorded, try again",
                code="SF-JOURNAL-BUSY",
            )
        with self._noticing():
            yield

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Let go of this process's own lock at the end; then tell subscribers what is to be told."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            outermost = self._depth == 0
            if outermost:
                self._notice()
            self._lock.release()
            if outermost:
                self._hooks.tell()

    def _notice(self) -> None:
        """Keep for subscribers what is in the journal by now and was not told yet."""
        folded = self._state if self._outline is None else self._outline
        if folded is None:
            return  # whatever failed, the journal is read again, and with it what is missed here
        found, folded.noticed = folded.noticed, []
        which = self._store.identity.which
        fresh = [one for one in found if one[0] > self.noticed_to]
        if fresh and self._hooks and which is not None:
            self._hooks.add(named(one, self._store.name, which[1]) for one in fresh)
        self.noticed_to = max(self.noticed_to, folded.seq)

    @contextmanager
    def _reading(self) -> Iterator[Transaction]:
        self._check_open()
        with self._store.reading() as transaction:
            yield transaction

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidInput(
                "the deployment must be open, got one that was closed; open it again", code="SF-DEPLOYMENT-CLOSED"
            )

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


def nothing(transaction: Transaction, state: object) -> tuple[list[Entry], None]:
    """Record what the last report led to, and stop requests; nothing else."""
    return [], None


def cached(state: DeploymentState) -> tuple[int, str, bytes]:
    return state.seq, state.digest, snapshot.encode(state)


def stands(state: DeploymentState, kind: str) -> bool:
    """Whether a stop would change nothing; after an abort a pause still does."""
    operator = state.operator
    return (operator.aborted if kind == "aborted" else operator.paused) is not None
