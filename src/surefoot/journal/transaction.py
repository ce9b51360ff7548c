"""One transaction on a journal: what may be read and appended while nothing else changes.

An event that is appended follows from all events before it, because its transaction holds the lock of the whole deployment from its first read to
its commit. What is read is checked (:mod:`surefoot.journal.rows`): events without a gap, each with the digest that follows from the one before.

Snapshots and policy-set files lie beside the events. A snapshot is a cache: it is believed only with its user's seal
(:mod:`surefoot.journal.seals`), and only if the journal still holds the event that it was made at.
"""

from __future__ import annotations

import hmac
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from surefoot.journal.events import Entry, Event, canonical, chained, now
from surefoot.journal.high_water_marks import NO_EVENT, Head
from surefoot.journal.rows import read_rows, row_of
from surefoot.journal.seals import sealed
from surefoot.journal.statements import DIGEST, INSERT, PAGE, REQUEST
from surefoot.journal.tables import DEPLOYMENTS, EVENTS, IS_ASKED, IS_CLOSED, POLICY_SETS, SHIFT, SNAPSHOTS

__all__ = ["DeploymentKey", "Transaction"]

CHUNK = 2000
"""Events read at once, so that memory does not grow with the journal."""
LARGEST_SET = 2**28
"""A policy set of more bytes is not kept beside the events."""
CREATION_LOCK = 0x5AFEF007
"""PostgreSQL's advisory lock for making tables and deployments."""
DeploymentKey = tuple[int, str]
"""Id of a deployment, and the random key of its journal."""


class Transaction:
    """A journal during one transaction.

    Args:
        connection: to the database.
        name: of the deployment.
        context: begins and ends the transaction.

    Attributes:
        waited: seconds until it began.
        written: seq and digest of the last event appended, or ``None``.
        read_to: seq and digest of the last event read.
        which: id and key of the deployment, once they were looked up.
        base: number of the row before the deployment's first.
        written_at: time stamp of the events written last.
    """

    def __init__(self, connection: sa.Connection, name: str, context: sa.RootTransaction) -> None:
        self.connection, self.name, self.context = connection, name, context
        self.waited = 0.0
        self.written: Head | None = None
        self.read_to: Head = NO_EVENT
        self.which: DeploymentKey | None = None
        self.base: int | None = None
        self.written_at = ""

    # ------------------------------------------------------------------------------------------------- the deployment

    def located(self) -> bool:
        """Whether there is such a deployment; looked up once."""
        if self.base is None and self.exists():
            row = self.run(
                sa.select(DEPLOYMENTS.c.id, DEPLOYMENTS.c.key).where(DEPLOYMENTS.c.name == self.name)
            ).first()
            if row is not None:
                self.which = int(row.id), str(row.key)
                self.base = self.which[0] << SHIFT
        return self.base is not None

    def exists(self) -> bool:
        """Whether the tables are there."""
        return bool(sa.inspect(self.connection).has_table("events"))

    def run(self, statement: Any, values: Any = None) -> sa.CursorResult[Any]:
        """Execute a statement."""
        result: sa.CursorResult[Any] = self.connection.execute(statement, values)
        return result

    def lock(self) -> None:
        """Wait for any other writer of this deployment, and keep others out until the end."""
        self.run(sa.select(DEPLOYMENTS.c.name).where(DEPLOYMENTS.c.name == self.name).with_for_update()).all()

    def lock_creation(self) -> None:
        """On PostgreSQL, wait for whoever makes tables or opens a deployment; take this lock before any other."""
        if self.connection.dialect.name == "postgresql":
            self.run(sa.select(sa.func.pg_advisory_xact_lock(CREATION_LOCK)))

    def register(self) -> None:
        """Make the deployment's row, unless there is one, and lock it; others who do the same wait here."""
        self.lock_creation()
        if not self.located():
            most = self.run(sa.select(sa.func.max(DEPLOYMENTS.c.id))).scalar()
            fresh = {"id": 0 if most is None else int(most) + 1, "name": self.name, "key": secrets.token_hex(16)}
            self.run(DEPLOYMENTS.insert(), fresh)
            self.located()
        self.lock()

    def others_wrote(self) -> bool:
        """Whether another connection may have committed since the last call on this connection, made while it held the lock.

        SQLite counts the commits of other connections. On PostgreSQL the answer is always yes.
        """
        if self.connection.dialect.name != "sqlite":
            return True
        try:
            version = self.connection.connection.cursor().execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return True  # the next statement meets the same error and reports it
        before = self.connection.info.get("surefoot_version")
        self.connection.info["surefoot_version"] = version
        return before is None or before != version

    def _number(self, seq: int) -> int:
        """Number of an event's row; -1, which no row has, where there is no such deployment."""
        return -1 if not self.located() or self.base is None or not 0 <= seq < 2**SHIFT else self.base + seq

    def _own(self) -> Any:
        """The condition that a row is of this deployment."""
        return EVENTS.c.number.between(self._number(0), self._number(2**SHIFT - 1))

    # ---------------------------------------------------------------------------------------------------- the events

    def events(self, seq: int, digest: str) -> Iterator[Event]:
        """Events after number ``seq``, whose digest is ``digest``.

        Raises:
            JournalError: a gap, or a digest that does not follow.
        """
        while page := self.page(seq, digest):
            yield from page
            seq, digest = page[-1].seq, page[-1].digest

    def page(self, seq: int, digest: str | None = None, many: int = CHUNK, *, chain: bool = True) -> list[Event]:
        """Some of the events after number ``seq``.

        Args:
            seq: number of the event before the first.
            digest: of that event; looked up where it is not given.
            many: how many events at most.
            chain: ``False`` leaves it to the caller to check all digests from the first event on, as an audit does.

        Raises:
            JournalError: a gap, or a digest that does not follow.
        """
        if not self.located() or self.base is None:
            return []
        if digest is None:
            digest = self.digest(seq) if seq and chain else ""
        values = {"after": self.base + min(seq, 2**SHIFT - 1), "end": self.base + 2**SHIFT, "many": many}
        found = read_rows(PAGE.run(self.connection, values).all(), self.base, seq, digest, chain=chain)
        if found and chain:
            self.read_to = max(self.read_to, (found[-1].seq, found[-1].digest))
        return found

    def append(self, entries: Sequence[Entry], seq: int, digest: str) -> str:
        """Write entries behind event ``seq``, whose digest is ``digest``.

        Returns:
            The digest of the last one.
        """
        at, rows = now(), []
        self.written_at = at
        for entry in entries:
            seq += 1
            text = canonical(entry.body)
            digest = chained(digest, seq, entry.kind, at, text)
            rows.append(row_of(self._number(seq), at, entry, text, digest))
        INSERT.run(self.connection, rows if len(rows) > 1 else rows[0])
        self.written = (seq, digest)
        return digest

    def first(self) -> Event | None:
        """The event that opened the deployment."""
        return self.event(1)

    def last(self) -> Head:
        """Number and digest of the last event; 0 and "" without one."""
        query = sa.select(EVENTS.c.number, EVENTS.c.digest).where(self._own())
        row = self.run(query.order_by(EVENTS.c.number.desc()).limit(1)).first()
        return NO_EVENT if row is None else (int(row.number) - (self.base or 0), bytes(row.digest).hex())

    def digest(self, seq: int) -> str | None:
        """Digest of one event."""
        found = DIGEST.run(self.connection, {"at_number": self._number(seq)}).scalar()
        return found.hex() if isinstance(found, bytes) else None

    def event(self, seq: int) -> Event | None:
        """One event."""
        found = self.page(seq - 1, many=1)
        return found[0] if found else None

    def asked(self, episode: int) -> Event | None:
        """The event by which an episode was asked."""
        found = self._one(IS_ASKED, EVENTS.c.first <= episode, order=EVENTS.c.first.desc())
        return found if found is not None and episode < found.body["first"] + len(found.body["draws"]) else None

    def closed(self, episode: int) -> Event | None:
        """The event by which an episode was told or declared lost."""
        columns = sa.select(EVENTS.c.number, EVENTS.c.first).where(
            self._own(),
            IS_CLOSED,
            EVENTS.c.first <= episode,
            sa.func.coalesce(EVENTS.c.last, EVENTS.c.first) >= episode,
        )
        # Reports that span the episode without holding it are rare; those that start nearest come first.
        for row in self.run(columns.order_by(EVENTS.c.first.desc())):
            found = self.event(int(row.number) - (self.base or 0))
            if found is not None and episode in found.body["ids"]:
                return found
        return None

    def request(self, key: str) -> Event | None:
        """The event that answered a request."""
        if not self.located() or self.base is None:
            return None
        values = {"after": self.base, "end": self.base + 2**SHIFT, "key": key}
        number = REQUEST.run(self.connection, values).scalar()
        return None if number is None else self.event(int(number) - self.base)

    def _one(self, *conditions: Any, order: Any = None) -> Event | None:
        query = sa.select(EVENTS.c.number).where(self._own(), *conditions)
        number = self.run((query if order is None else query.order_by(order)).limit(1)).scalar()
        return None if number is None else self.event(int(number) - (self.base or 0))

    # ------------------------------------------------------------------------------------ files and snapshots beside them

    def keep_policy_set(self, digest: str, body: bytes) -> None:
        """Store a policy-set file beside the events."""
        if len(body) <= LARGEST_SET and self.policy_set(digest) is None:
            self.run(POLICY_SETS.insert(), {"hash": digest, "body": body})

    def policy_set(self, digest: str) -> bytes | None:
        """A policy-set file."""
        found: bytes | None = self.run(sa.select(POLICY_SETS.c.body).where(POLICY_SETS.c.hash == digest)).scalar()
        return found

    def keep_snapshot(self, seq: int, digest: str, body: bytes) -> None:
        """Replace this user's snapshot, unless a later one was written."""
        if not self.located() or self.which is None:
            return
        deployment, key = self.which
        keeper, seal = sealed(key, seq, digest, body)
        mine = (SNAPSHOTS.c.deployment == deployment) & (SNAPSHOTS.c.keeper == keeper)
        present = self.run(sa.select(SNAPSHOTS.c.seq).where(mine, SNAPSHOTS.c.seq >= seq)).scalar()
        if present is not None and self.digest(int(present)) is not None:
            return
        self.run(SNAPSHOTS.delete().where(mine))
        self.run(
            SNAPSHOTS.insert(),
            {"deployment": deployment, "keeper": keeper, "seq": seq, "digest": digest, "seal": seal, "body": body},
        )

    def snapshot(self) -> tuple[int, str, bytes] | None:
        """This user's snapshot of the deployment: seq, digest, body; ``None`` unless its seal is right and the journal holds its event."""
        if not self.located() or self.which is None:
            return None
        deployment, key = self.which
        keeper, _ = sealed(key, 0, "", b"")
        query = sa.select(SNAPSHOTS).where(SNAPSHOTS.c.deployment == deployment, SNAPSHOTS.c.keeper == keeper)
        row = self.run(query).first()
        if row is None or not isinstance(row.body, bytes) or not isinstance(row.seal, bytes):
            return None
        seq, digest = int(row.seq), str(row.digest)
        if not hmac.compare_digest(sealed(key, seq, digest, row.body)[1], row.seal) or self.digest(seq) != digest:
            return None
        return seq, digest, row.body
