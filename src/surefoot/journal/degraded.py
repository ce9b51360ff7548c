"""What a deployment may do whose journal cannot be followed: the safe policy only, with nothing lost, until the fault is mended.

    ... event k ...  degraded  held  held ...   |   recovering  asked  told ...  recovered  ...
                     what happens meanwhile         the same again, with its consequences

If recomputing event k fails (a fault of the library, another library, another machine's arithmetic), no mixture can be certified any more. The
chain of digests still holds, so the journal is read without being understood: how many episodes were asked, which are pending, whether it is paused
or aborted. That is enough to hand out the safe policy, which needs no certificate, and to keep every report. What happens meanwhile is recorded as
``held`` events, behind a ``degraded`` event that names k. A library that can follow the journal again leaves them alone, for the deployment stays
degraded until somebody says ``recover``: then every held event happens once more, in order, as the ordinary event with its consequences, while the
safe policy is played.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from surefoot.deploy.report import Report
from surefoot.deploy.stages import STOPPED
from surefoot.errors import ConflictError, InvalidReport, PausedError
from surefoot.journal.agents import supervised
from surefoot.journal.events import Entry, Event
from surefoot.journal.notices import Noticed, noticed
from surefoot.journal.operator import Operator
from surefoot.journal.settings import Settings
from surefoot.journal.store import Transaction
from surefoot.journal.succession import ended, succeeded
from surefoot.policyset.schema import PolicySet

__all__ = ["Outline", "held"]


def held(kind: str, body: dict[str, Any]) -> Entry:
    """What somebody caused meanwhile; its consequences are worked out on recovery."""
    return Entry("held", {"kind": kind, "body": body})


@dataclass
class Outline:
    """A journal, read but not understood.

    Attributes:
        seq, digest: of the last event read; 0 and "" before the first.
        opened: episodes asked.
        pending: of these neither told nor lost; policy by id.
        paused, aborted: reasons, or ``None``.
        successor: name of the deployment that goes on after this one, or empty.
        first: body of the event that opened it.
        degraded: body of the ``degraded`` event in force, or ``None``.
        since: its number.
        tickets: what was asked since, by request key.
        draws: policy by id of what was asked since.
        closed: kind and body by id of what was told or lost since.
        noticed: what of the events read is worth telling.
    """

    seq: int = 0
    digest: str = ""
    opened: int = 0
    pending: dict[int, int] = field(default_factory=dict)
    paused: str | None = None
    aborted: str | None = None
    successor: str = ""
    first: dict[str, Any] = field(default_factory=dict)
    degraded: dict[str, Any] | None = None
    since: int = 0
    tickets: dict[str, tuple[int, int]] = field(default_factory=dict)
    draws: dict[int, int] = field(default_factory=dict)
    closed: dict[int, Event] = field(default_factory=dict)
    noticed: list[Noticed] = field(default_factory=list)

    def read(self, transaction: Transaction) -> None:
        """What others wrote since; digests are checked.

        Raises:
            JournalError: the chain is broken.
        """
        for event in transaction.events(self.seq, self.digest):
            self.take(event)

    def take(self, event: Event) -> None:
        """One more event."""
        self.seq, self.digest = event.seq, event.digest
        found = noticed(event.seq, event, lambda: STOPPED, self.opened)
        self.noticed += [] if found is None else [found]
        if event.kind == "held":
            inner = Event(event.seq, event.at, event.body["kind"], event.body["body"], event.digest)
            self._note(inner)
            self._keep(inner)
            return
        if event.kind == "degraded":
            self.degraded, self.since = event.body, event.seq
        elif event.kind == "recovering":
            # What was held happens once more; it must not count twice.
            self._forget()
        elif event.kind == "recovered":
            self.degraded = None
        self._note(event)

    def _note(self, event: Event) -> None:
        kind, body = event.kind, event.body
        if kind == "asked":
            first, draws = int(body["first"]), body["draws"]
            self.opened = max(self.opened, first + len(draws))
            self.pending.update((first + k, int(j)) for k, j in enumerate(draws))
        elif kind in ("told", "lost"):
            for k in body["ids"]:
                self.pending.pop(int(k), None)
        elif kind in ("paused", "aborted"):
            setattr(self, kind, str(body["reason"]))
            if kind == "aborted":
                self.paused = None
        elif kind == "resumed":
            self.paused = None
        elif kind == "readapted":
            self.successor, self.paused = str(body["name"]), None
            self.aborted = ended(body["name"], body["reason"])
        elif kind == "opened":
            self.first = body

    def _keep(self, event: Event) -> None:
        """What can be asked for again, or contradicted."""
        if event.kind == "asked":
            first, n = int(event.body["first"]), len(event.body["draws"])
            self.draws.update(dict.fromkeys(range(first, first + n), 0))
            if event.body.get("request") is not None:
                self.tickets[event.body["request"]] = first, n
        elif event.kind in ("told", "lost"):
            self.closed.update(dict.fromkeys(map(int, event.body["ids"]), event))

    def _forget(self) -> None:
        for k in self.draws:
            self.pending.pop(k, None)
        if self.draws:
            self.opened = min(self.draws)
        for event in self.closed.values():
            for k in event.body["ids"]:
                if k < self.opened:
                    self.pending.setdefault(int(k), 0)
        self.tickets, self.draws, self.closed = {}, {}, {}

    def stands(self, kind: str) -> bool:
        """Whether a stop would change nothing."""
        return (self.aborted if kind == "aborted" else self.paused) is not None

    def ask(self, n: int, request: str | None, who: dict[str, str]) -> Entry:
        """n episodes of the safe policy.

        Raises:
            PausedError: nothing is handed out.
        """
        if self.successor:
            raise succeeded(self.successor)
        if self.paused is not None:
            raise PausedError(f"the deployment is paused ({self.paused}); resume it to ask for episodes")
        body: dict[str, Any] = {"first": self.opened, "draws": [0] * n, **who}
        return held("asked", body if request is None else {**body, "request": request})

    def check(self, report: Report, policy_set: PolicySet, settings: Settings) -> None:
        """Refuse what could not be taken later either.

        Raises:
            InvalidReport: it cannot be true.
        """
        agent = supervised(policy_set, Operator(), settings)
        agent.expect({int(k): self.pending[int(k)] for k in report.ids}, self.opened)
        with np.errstate(all="ignore"):
            agent.check(**report.arguments())

    def closing(self, transaction: Transaction, episode: int) -> Event | None:
        """The event by which an episode was told or lost, held or not."""
        return self.closed.get(episode) or transaction.closed(episode)


REFUSED = (InvalidReport, PausedError, ConflictError)
"""On recovery such an event is left out, and the ``recovered`` event says so."""
