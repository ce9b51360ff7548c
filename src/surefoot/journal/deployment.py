"""A deployment on a real plant: ask, tell, operate; every step durable before it takes effect.

    plant = Deployment.open("plant.db", policy_set)
    ticket = plant.ask()                           run ticket.policy for one whole episode; ask(n) opens n of them
    plant.tell(ticket.id, reward=3.2, costs=[0.4])

Any number of processes may work on one deployment, and any of them may die at any moment (:mod:`surefoot.journal.session`).

``ask`` may be repeated with the same ``request`` key and ``tell`` and ``lost`` with the same report: what was recorded before is returned or accepted
silently, what contradicts it is refused. What is certified is the *mixture* that episodes are drawn from, in ask order; a pending episode counts as
lost until it is told.

``abort`` and ``pause`` take effect without the lock: they leave a stop request (:mod:`surefoot.journal.stop_requests`), which every ``ask`` looks
for under the lock before it draws and which whoever writes next turns into the ordinary event.

The file is longer than its neighbours because all public operations of a deployment are declared and documented here.

If the journal cannot be followed any more (:class:`~surefoot.errors.ReplayError`) the deployment is *degraded*, not dead: it hands out the safe
policy only, keeps what is told, can be paused, aborted and looked at, and says so everywhere; see :mod:`surefoot.journal.degraded` and
:meth:`~Deployment.recover`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal, Self, Unpack, overload

from surefoot.arrays import check_integer, check_real, freeze
from surefoot.audit import Verification, verify
from surefoot.deploy.history import History
from surefoot.deploy.report import Report, episode_ids
from surefoot.errors import (
    ConflictError,
    InvalidReport,
    JournalError,
    JournalUnavailable,
    ReplayError,
)
from surefoot.journal.bodies import dense, logged, opening
from surefoot.journal.degraded import Outline, held
from surefoot.journal.events import Entry, Event
from surefoot.journal.hooks import Callback
from surefoot.journal.missing_parts import lacking, warning
from surefoot.journal.notices import Notice, journal_id, look_up, named
from surefoot.journal.opening import check_text, create_deployment, first_event, own_policy_set, who_acts
from surefoot.journal.retries import Known, check_number, lost_before, not_told_before
from surefoot.journal.session import Session, nothing, stands
from surefoot.journal.settings import SettingOptions, Settings, check_origin, named_options
from surefoot.journal.state import DeploymentState
from surefoot.journal.status import BriefStatus, DeploymentStatus
from surefoot.journal.stop_requests import SECONDS, Kept, Stop
from surefoot.journal.store import BUSY_SECONDS, Store, Transaction
from surefoot.journal.succession import link, same_link
from surefoot.journal.tickets import Ticket, Tickets
from surefoot.policyset.schema import PolicySet, check_policy_set

__all__ = ["Deployment", "Ticket", "Tickets"]

LARGEST_ASK = 100_000


class Deployment(Session):
    """See the module's docstring; made by :meth:`open`. May be shared by threads, not by forked processes."""

    # ------------------------------------------------------------------------------------------------------- opening

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str],
        policy_set: PolicySet | None = None,
        *,
        name: str = "default",
        create: bool = True,
        lock_seconds: float = BUSY_SECONDS,
        anchor: str | os.PathLike[str] | None = None,
        history: History | None = None,
        on_event: Callback | None = None,
        **settings: Unpack[SettingOptions],
    ) -> Self:
        """Open a deployment, or continue it.

        Args:
            url: a database URL (``sqlite:///...``, ``postgresql://...``) or the path of a SQLite file.
            policy_set: from training. A deployment that exists finds its own in the journal.
            name: several deployments may share a database.
            create: ``False`` to refuse what does not exist yet.
            lock_seconds: how long an operation waits for others that hold the deployment's lock, before it gives up with
                :class:`~surefoot.errors.JournalUnavailable`.
            anchor: a file in another place (a path or ``file://`` URL) that remembers the last event: a journal that lacks it is refused.
            history: logged episodes of today's controller on this plant (:class:`~surefoot.deploy.history.History`, which states what makes them
                valid; from files by :func:`~surefoot.journal.logs.read_history`), to be counted before the first ask. The same again changes nothing.
            on_event: told of every change of stage, alarm, pause and abort from now on; see :meth:`subscribe`.
            settings: ``trust``, ``delta``, ``seed``, ... as in :class:`~surefoot.journal.settings.Settings`, with its defaults; fixed for good
                when the deployment is created.

        Raises:
            SettingsMismatch: it exists with another policy set, minor version of the library, or setting.
            JournalError: damaged, cut short, or out of reach. A journal that is whole and cannot be followed opens *degraded*, see the status.
            AssumptionError: refused by the agent.
            InvalidReport, ConflictError: the history, see :meth:`recall`; the deployment was opened, without it.
        """
        check_text("name", name)
        if policy_set is not None:
            check_policy_set(policy_set)
        given = named_options(settings)
        store = Store(url, name, check_real("lock_seconds", lock_seconds, low=0.0), anchor)
        try:
            first = first_event(store, create)
            if first is None:
                first = create_deployment(store, policy_set, Settings.given(**given))
            policy_set = own_policy_set(store, first) if policy_set is None else policy_set
            check_origin(first.body, policy_set)
            recorded = Settings.recorded(first.body)
            recorded.agree(**given)
            plant = cls(store, policy_set, recorded)
            with plant._held():
                plant._look()
            if on_event is not None:
                plant.subscribe(on_event)
            if history is not None:
                plant.recall(**history.arguments())
        except BaseException:
            store.close()
            raise
        return plant

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
            check_text("request", request)
        who = who_acts(by)

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
                check_number(request, many, size)
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
                raise InvalidReport(
                    f"id must name an episode that was asked, got {episode}; use the ids of ask()",
                    code="SF-REPORT-UNKNOWN",
                )
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
        n_costs, who = self.policy_set.criterion.n_costs, who_acts(by)
        report = Report.of(ids, reward, costs, initial_state, transitions, signals, n_costs)

        def work(transaction: Transaction, state: DeploymentState) -> tuple[list[Entry], Report | None]:
            fresh = not_told_before(Known.of(transaction, state), report)
            return ([] if fresh is None else [state.accept(fresh, who)]), fresh

        def instead(transaction: Transaction, outline: Outline) -> tuple[list[Entry], Report | None]:
            fresh = not_told_before(Known.outlined(transaction, outline), report)
            if fresh is None:
                return [], None
            outline.check(fresh, self.policy_set, self.settings)
            return [held("told", {**fresh.body(), **who})], None

        self._operate(work, instead)
        if self._hooks:
            self._settle_now()
        return tuple(warning(name) for name in lacking(report, self._usable()))

    def lost(self, ids: Any, *, by: str | None = None) -> None:
        """Declare episodes lost: they count as the ceiling, for good. Saying so again changes nothing.

        Raises:
            InvalidReport: never asked.
            ConflictError: told before.
        """
        number, who = episode_ids(ids), who_acts(by)

        def work(transaction: Transaction, state: DeploymentState) -> tuple[list[Entry], None]:
            books = Known.of(transaction, state)
            fresh = [k for k in number.tolist() if not lost_before(books, k)]
            return (state.advance("lost", {"ids": fresh, **who}) if fresh else []), None

        def instead(transaction: Transaction, outline: Outline) -> tuple[list[Entry], None]:
            books = Known.outlined(transaction, outline)
            fresh = [k for k in number.tolist() if not lost_before(books, k)]
            return ([held("lost", {"ids": fresh, **who})] if fresh else []), None

        self._operate(work, instead)

    def recall(
        self,
        reward: Any,
        costs: Any,
        *,
        initial_state: Any = None,
        transitions: Any = None,
        signals: Any = None,
        by: str | None = None,
    ) -> None:
        """Give logged episodes of the safe policy on this plant, before the first ask: see
        :meth:`~surefoot.deploy.certified.CertifiedAgent.recall`, which says what makes them valid.

        The same log again is accepted and changes nothing; another one adds its episodes.

        Raises:
            InvalidReport: they cannot be true; nothing is recorded.
            ConflictError: an episode was asked already; or, under ``trust="rehearsed"``, they were not rehearsed.
        """
        many, who = self.policy_set.criterion.n_costs, who_acts(by)
        body = logged(Report.logged(reward, costs, initial_state, transitions, signals, many))

        def work(transaction: Transaction, state: DeploymentState) -> tuple[list[Entry], None]:
            return ([] if body["log"] in state.logs else state.advance("recalled", {**body, **who})), None

        def instead(transaction: Transaction, outline: Outline) -> tuple[list[Entry], None]:
            raise ConflictError(
                "recall needs a deployment that plans, and this one is degraded; recover it first",
                code="SF-CONFLICT-DEGRADED",
            )

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
        self._steer("resumed", who_acts(by), lambda state: state.operator.paused is None)
        if left := self._stops_left():
            raise JournalUnavailable(
                f"the pause cannot end while a stop request is there that cannot be removed: {left}",
                code="SF-JOURNAL-STOP",
            )

    def cap(self, weight: float, *, by: str | None = None) -> None:
        """Bound the total weight off the safe policy; 1 lifts the bound."""
        value = check_real("weight", weight, low=0.0, high=1.0)
        self._steer("capped", {"weight": value, **who_acts(by)}, lambda state: state.operator.cap == value)

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
        check_text("name", name)
        found = Stop(kind, check_text("reason", reason), who_acts(by).get("by"))
        store = Store(url, name, SECONDS)
        try:
            first_event(store, create=False, whole=False)
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
        number, who = None if plan is None else check_integer("plan", plan, low=1), who_acts(by)

        def work(transaction: Transaction, state: DeploymentState) -> tuple[list[Entry], None]:
            if number is not None and number == state.operator.approved_plan:
                return [], None
            return state.advance("approved", {"plan": state.plan_seq if number is None else number, **who}), None

        def instead(transaction: Transaction, outline: Outline) -> tuple[list[Entry], None]:
            raise ConflictError(
                "approve needs a plan that waits, and a degraded deployment makes none; recover it first",
                code="SF-CONFLICT-DEGRADED",
            )

        self._operate(work, instead)

    def recover(self, *, by: str | None = None) -> None:
        """Carry on after a fault: what happened while the deployment was degraded happens once more, with its consequences; then the certified
        mixture is played again. A deployment that is not degraded stays as it is.

        What cannot be taken after all is left out and listed in the ``recovered`` event; such episodes stay pending.

        Raises:
            ReplayError: the journal still cannot be followed; the deployment stays degraded.
        """
        who = who_acts(by)
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

    def readapt(
        self,
        name: str,
        reason: str = "the plant has changed",
        *,
        by: str | None = None,
        **settings: Unpack[SettingOptions],
    ) -> Self:
        """End this deployment, and open one that goes on after it, in the same database and with the same policy set.

        The new one starts from the safe policy and knows nothing of what this one learned, for the plant is another now. Each is an event that names
        the other (:mod:`surefoot.journal.succession`). This one hands out nothing any more; what it asked may still be told. Saying it again
        with the same name opens the same deployment. Its guarantee has a ``delta`` of its own: deployments in a row violate with probability at most
        the sum of theirs. What was logged after the change may be given before the first ask (:meth:`recall`).

        Args:
            name: of the new deployment.
            reason: for both journals.
            by: who says so, for the journal.
            settings: where the new one differs; by default those of this one, with the next seed.

        Raises:
            ConflictError: another deployment goes on after this one already, one of that name exists, or this one is degraded.
            AssumptionError: refused by the agent; nothing ended.
        """
        check_text("name", name), check_text("reason", reason)
        own = {**self.settings.as_dict(), "agent": self.settings.agent, "seed": self.settings.seed + 1}
        given = {key: value for key, value in named_options(settings).items() if value is not None}
        wanted = Settings.given(**{**own, **given})
        opening(self.policy_set, wanted, name)  # what is refused is refused before anything ends
        url = self._store.url.render_as_string(hide_password=False)
        store = Store(url, name, self._store.lock_seconds)
        try:
            first, ended = first_event(store, create=True), self._ending()
            if first is not None:
                same_link(self._store.name, first, ended)
            body = {"name": name, "reason": reason, **who_acts(by)}
            if ended is None or ended.body["name"] != name:
                self._end(body)
                ended = self._ending()
            assert ended is not None
            if first is None:
                first = create_deployment(store, self.policy_set, wanted, link(self._store.name, ended))
                same_link(self._store.name, first, ended)
        finally:
            store.close()
        return type(self).open(url, self.policy_set, name=name)

    def _end(self, body: dict[str, Any]) -> None:
        """Record that another deployment goes on."""

        def work(transaction: Transaction, state: DeploymentState) -> tuple[list[Entry], None]:
            return state.advance("readapted", body), None

        def instead(transaction: Transaction, outline: Outline) -> tuple[list[Entry], None]:
            raise ConflictError(
                "readapt needs a deployment that can be followed, and this one is degraded; recover it first, or open another without a link",
                code="SF-CONFLICT-DEGRADED",
            )

        self._operate(work, instead)

    def _ending(self) -> Event | None:
        """The event by which this deployment ended, if it did."""
        return next((event for event in self._events(0, chain=False) if event.kind == "readapted"), None)

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

    def brief_status(self) -> BriefStatus:
        """Number of the last event, pending episodes and state, as of this process's last operation at least; what that led to is worked in.

        Much less work than :meth:`status`: what other processes wrote since is not read, unless it has to be.
        """
        with self._held():
            self._check_open()
            state = self._state
            if state is not None and state.degraded is None and self._last is not None and self._store.sqlite:
                self._state = None  # unless it gets through
                try:
                    brief = BriefStatus.of(state, tuple(self._stops.pending().values()))
                except ReplayError:
                    pass  # a look at the journal finds the same and says so
                else:
                    self._state = state
                    return brief
            found = self._standing()
            return BriefStatus(found.seq, found.pending, found.state)

    def status_at_once(self) -> DeploymentStatus | None:
        """The same without waiting for another thread of this process: then the last status that was asked for, with the stop requests that came
        since, and a note that says so. ``None`` if there was none.
        """
        if not self._lock.acquire(timeout=SECONDS / 4):
            return None if self._last is None else self._last.with_stops(tuple(self._stops.pending().values()))
        with self._noticing():
            return self._standing()

    def _standing(self) -> DeploymentStatus:
        found = self._status()
        if self._hooks:
            found = replace(found, hook_failures=self._hooks.failed, notes=(*found.notes, *self._hooks.notes))
        self._last = found
        return found

    def _status(self) -> DeploymentStatus:
        state = self._look()
        if state is not None and self._store.sqlite and self._told_at[0] == max(state.told_seq, 1):
            # Stop requests are files here, so that nothing more is to be read from the database.
            stops = tuple(self._stops.pending().values())
            return DeploymentStatus.of(state, self._store.name, stops, self._told_at[1])
        with self._reading() as transaction:
            stops = tuple(self._stops.pending(transaction.connection).values())
            if state is not None:
                return DeploymentStatus.of(state, self._store.name, stops, self._reported_at(transaction, state))
            outline = Outline() if self._outline is None else self._outline
            outline.read(transaction)
        return DeploymentStatus.outlined(
            outline, self.policy_set, self.settings, self._store.name, self._why(outline), stops
        )

    def _reported_at(self, transaction: Transaction, state: DeploymentState) -> str:
        """Time stamp of the last report or, before the first, of the opening; looked up once for each."""
        seq = max(state.told_seq, 1)
        if self._told_at[0] != seq:
            event = transaction.event(seq)
            self._told_at = seq, "" if event is None else event.at
        return self._told_at[1]

    def subscribe(self, callback: Callback, *, since: int | None = None) -> Callable[[], None]:
        """Be told of every change of stage and of every alarm, pause, abort and what ends them, whichever process caused it.

        The event is durable by then and no lock is held; the callback may use this deployment. It runs in the thread whose operation showed the
        event, so it should be quick; what it raises is counted in the status and harms nothing. A :class:`~surefoot.journal.webhook.Webhook`
        sends notices elsewhere. What other processes write is seen with the next operation of this one.

        Args:
            callback: given a :class:`~surefoot.journal.notices.Notice`.
            since: number of an event; what happened after it is told first. By default nothing earlier is.

        Returns:
            What ends it.
        """
        with self._held():
            self._check_open()
            earlier: list[Notice] = []
            if since is not None:
                found = self.notices(check_integer("since", since, low=0))
                earlier = [notice for notice in found if notice.seq <= self.noticed_to]
            return self._hooks.subscribe(callback, earlier)

    def notices(self, since: int = 0, many: int = 1000) -> list[Notice]:
        """What subscribers were, or would have been, told of the events after number ``since``, at most so many notices."""
        since, many = check_integer("since", since, low=0), check_integer("many", many, low=1)
        with self._held(), self._reading() as transaction:
            found, which = look_up(transaction, since, many), transaction.which
            return [] if which is None else [named(one, self._store.name, which[1]) for one in found]

    @property
    def journal_id(self) -> str:
        """Which journal this is: 16 digits that stay the same as long as the journal exists, wherever it lies."""
        with self._held(), self._reading() as transaction:
            transaction.located()
            return journal_id("" if transaction.which is None else transaction.which[1])

    def events(self, since: int = 0) -> Iterator[Event]:
        """Events after number ``since``, checked against their digests."""
        return self._events(check_integer("since", since, low=0), chain=True)

    def _events(self, start: int, *, chain: bool) -> Iterator[Event]:
        with self._held():
            self._check_open()
            try:
                self._record()
            except JournalError:
                pass  # a disk that can only be read
        while True:
            with self._held(), self._reading() as transaction:
                page = transaction.page(start, chain=chain)
            yield from page
            if not page:
                return
            start = page[-1].seq

    def verify(self) -> Verification:
        """Recompute every decision from the events by other code than made it; see :mod:`surefoot.audit.verification`."""
        # The audit computes every digest itself, from the bodies that it judges.
        return verify(self.policy_set, self._events(0, chain=False))

    # ----------------------------------------------------------------------------------------------------------- inside

    def _stop(self, kind: str, reason: str, by: str | None) -> Stop:
        """Leave a request, then try to record it as long as nobody need wait for it."""
        stop = Stop(kind, check_text("reason", reason), who_acts(by).get("by"))
        self._check_open()
        try:
            self._stops.leave(stop)
        except JournalUnavailable:
            # The ordinary way may be open nevertheless.
            self._steer(kind, stop.body, lambda state: stands(state, kind))
            return replace(stop, recorded=True)
        try:
            self._operate(nothing, nothing, wait=SECONDS / 2)
        except JournalError:
            return stop  # recorded by whoever can; till then nothing is drawn against it
        return replace(stop, recorded=True)

    def _settle_now(self) -> None:
        """Have what the last report led to recorded now, for somebody is to be told; the report itself is recorded whatever happens here."""
        try:
            self._record()
        except JournalError:
            pass  # whoever writes next records it

    def _stops_left(self) -> Kept:
        with self._held(), self._reading() as transaction:
            return self._stops.pending(transaction.connection)

    def _steer(self, kind: str, body: dict[str, Any], done: Callable[[DeploymentState], bool]) -> None:
        def work(transaction: Transaction, state: DeploymentState) -> tuple[list[Entry], None]:
            return ([] if done(state) else state.advance(kind, body)), None

        def instead(transaction: Transaction, outline: Outline) -> tuple[list[Entry], None]:
            needless = kind in ("paused", "aborted") and outline.stands(kind)
            needless = needless or (kind == "resumed" and outline.paused is None)
            return ([] if needless else [held(kind, body)]), None

        self._operate(work, instead)

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
        check_number(event.body["request"], len(event.body["draws"]), n)
        plan = transaction.event(event.body["plan"])
        return self._tickets(event.body, {} if plan is None else plan.body)
