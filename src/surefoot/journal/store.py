"""Where events lie: four tables in a SQLite file or a PostgreSQL database, written through SQLAlchemy.

    events(number, at, kind, body, digest; first, last, request)       append-only; the truth; number = deployment * 2^40 + seq
    deployments(id, name, key)                                         a row to lock, on PostgreSQL; the key is random: which journal this is
    policy_sets(hash, body)                                            the files that deployments were opened with
    snapshots(deployment, keeper, seq, digest, seal, body)             a cache; may be deleted at any time

``at`` is in microseconds since 1970, ``kind`` a place in :data:`KINDS`, ``body`` packed (:mod:`surefoot.journal.packing`), ``digest`` in bytes. An
event that does not fit is kept whole as JSON, with no ``at`` (and kind 0 if it is unknown). Digests are over the text of an event, not
over how it is stored. ``first``, ``last`` (smallest and largest episode id in the body, the latter where it differs) and ``request`` say what the
packed body leaves out.
*Budget*: 200 bytes of file per episode that is asked and told alone, with one cost and its initial state.

Who writes holds the lock of the whole deployment from before it reads until its commit, so that what it appends follows from *all* events
before it: ``BEGIN IMMEDIATE`` on SQLite (write-ahead log, ``synchronous=FULL``: a commit returns when it is on the disk), ``SELECT ... FOR
UPDATE`` of the deployment's row on PostgreSQL (``synchronous_commit`` at least ``on``).

Nobody waits for a lock longer than ``lock_seconds``. What must not wait at all, a pause or an abort, goes another way first
(:mod:`surefoot.journal.stops`).

Is it still the same journal? Every transaction checks that the deployment has the key it had, and still holds the last event that was seen here;
on SQLite also that the path still names the file (and its log) that is open, before it begins and before anything is acknowledged. What was
acknowledged last is remembered outside of the database besides (:mod:`surefoot.journal.marks`), and compared on opening.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import sqlalchemy as sa
from sqlalchemy import event as sa_event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from surefoot.errors import InvalidInput, JournalError, JournalUnavailable, MissingExtra
from surefoot.journal.events import Entry, Event, canonical, chained, microseconds, now, parse_text, stamp
from surefoot.journal.marks import Anchor, HighWaterMark, Keeps, Marked, sealed
from surefoot.journal.packing import pack, unpack
from surefoot.journal.stops import TABLES, FileStops, Stops, TableStops

HAS_LOCKS = find_spec("fcntl") is not None
if HAS_LOCKS:
    import fcntl

__all__ = ["Store", "Transaction"]

BUSY_SECONDS = 60.0
CHUNK = 2000
"""Events read at once; what is in memory does not grow with the journal."""
LARGEST_SET = 2**28
"""A policy set of more bytes is not kept beside the events."""
CREATION_LOCK = 0x5AFEF007
SHIFT = 40
"""A deployment holds fewer than ``2^SHIFT`` events."""
KINDS = (
    "", "opened", "asked", "told", "lost", "planned", "eliminated", "readmitted", "target", "noted", "flagged", "alarm", "paused", "resumed",
    "capped", "approved", "aborted", "degraded", "held", "recovering", "recovered", "ramp", "barred",
)  # fmt: skip
"""By number, for ever; new kinds are added at the end, and until then are kept with number 0."""
CODES = {kind: code for code, kind in enumerate(KINDS) if kind}
ASKED, TOLD, LOST = CODES["asked"], CODES["told"], CODES["lost"]

METADATA = sa.MetaData()
DEPLOYMENTS = sa.Table(
    "deployments",
    METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("key", sa.Text, nullable=False),
)
EVENTS = sa.Table(
    "events",
    METADATA,
    # Its type makes it SQLite's own row number: no second index.
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("first", sa.BigInteger),
    sa.Column("last", sa.BigInteger),
    sa.Column("request", sa.Text),
)
_IS_ASKED = sa.text(f"kind = {ASKED}")
_IS_CLOSED = sa.text(f"kind IN ({TOLD}, {LOST})")
_IS_REQUEST = sa.text("request IS NOT NULL")
sa.Index("events_by_ask", EVENTS.c.first, sqlite_where=_IS_ASKED, postgresql_where=_IS_ASKED)
sa.Index("events_by_report", EVENTS.c.first, sqlite_where=_IS_CLOSED, postgresql_where=_IS_CLOSED)
sa.Index(
    "events_by_key",
    EVENTS.c.request,
    sa.text(f"(number >> {SHIFT})"),
    unique=True,
    sqlite_where=_IS_REQUEST,
    postgresql_where=_IS_REQUEST,
)
POLICY_SETS = sa.Table(
    "policy_sets",
    METADATA,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
SNAPSHOTS = sa.Table(
    "snapshots",
    METADATA,
    sa.Column("deployment", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("keeper", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("seal", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

_ROW = (
    EVENTS.c.number,
    EVENTS.c.at,
    EVENTS.c.kind,
    EVENTS.c.body,
    EVENTS.c.digest,
    EVENTS.c.first,
    EVENTS.c.last,
    EVENTS.c.request,
)
_NAMED: sa.BindParameter[str] = sa.bindparam("named")
_AFTER: sa.BindParameter[int] = sa.bindparam("after")
_END: sa.BindParameter[int] = sa.bindparam("end")
_LIMIT: sa.BindParameter[int] = sa.bindparam("many")
_SEEN: sa.BindParameter[int] = sa.bindparam("seen")
_READ = sa.select(*_ROW).where(EVENTS.c.number > _AFTER, EVENTS.c.number < _END).order_by(EVENTS.c.number).limit(_LIMIT)
_LAST_SEEN = sa.select(EVENTS.c.digest).where(
    EVENTS.c.number == DEPLOYMENTS.c.id * sa.literal_column(str(2**SHIFT)) + _SEEN
)
_WHICH = sa.select(
    DEPLOYMENTS.c.id, DEPLOYMENTS.c.key, _LAST_SEEN.correlate(DEPLOYMENTS).scalar_subquery().label("digest")
).where(DEPLOYMENTS.c.name == _NAMED)
Row = dict[str, Any]
Which = tuple[int, str]
"""Number and key of a deployment."""


class _Prepared:
    """A statement whose text is made once per dialect: what every operation runs should not be compiled every time."""

    def __init__(self, statement: Any, columns: Sequence[str] | None = None) -> None:
        self._statement, self._columns = statement, columns
        self._texts: dict[str, tuple[str, list[tuple[str, Any]] | None]] = {}

    def run(self, connection: sa.Connection, values: Any) -> sa.CursorResult[Any]:
        """Execute with the parameters of one row, or of several."""
        text, order = self._texts.get(connection.dialect.name) or self._compiled(connection.dialect)
        if order is not None:
            several = isinstance(values, list)
            values = [_placed(row, order) for row in values] if several else _placed(values, order)
        result: sa.CursorResult[Any] = connection.exec_driver_sql(text, values)
        return result

    def _compiled(self, dialect: sa.Dialect) -> tuple[str, list[tuple[str, Any]] | None]:
        found = self._statement.compile(dialect=dialect, column_keys=self._columns)
        order = [(name, found.params.get(name)) for name in found.positiontup] if found.positional else None
        self._texts[dialect.name] = str(found), order
        return self._texts[dialect.name]


def _placed(values: dict[str, Any], order: list[tuple[str, Any]]) -> tuple[Any, ...]:
    return tuple([values.get(name, usual) for name, usual in order])


_PAGE = _Prepared(_READ)
_INSERT = _Prepared(EVENTS.insert(), [column.name for column in EVENTS.columns])
_IDENTITY = _Prepared(_WHICH)


class Store:
    """One deployment's part of a database, through one connection that is made when needed and thrown away after any error.

    Not for use from two threads at once, nor after a fork.

    Args:
        url: a SQLAlchemy URL, or the path of a SQLite file.
        name: of the deployment.
        lock_seconds: how long to wait for whoever holds a lock.
        anchor: where the last acknowledged event is remembered besides; see :class:`~surefoot.journal.marks.Anchor`.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        name: str,
        lock_seconds: float = BUSY_SECONDS,
        anchor: str | os.PathLike[str] | None = None,
    ) -> None:
        self.name, self.url, self.lock_seconds = name, _url(url), lock_seconds
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self._place = _Place(self.url) if self.sqlite else None
        self.file = "" if self._place is None else self._place.file
        self.shown = self.file or self.url.render_as_string(hide_password=True)
        self._engine = _engine(self.url, self._place)
        self._connection: sa.Connection | None = None
        self._mark: HighWaterMark | None = HighWaterMark.beside(self.file, name) if self.sqlite else None
        self._anchor_place, self._anchor = anchor, None if anchor is None else Anchor(anchor, "")
        self._file_lock = _FairFileLock(f"{self.file}-queue" if self.sqlite else None)
        self.stops: Stops = _stops(self)
        self._process = os.getpid()
        self._which: Which | None = None
        self._seen: Marked = (0, "")

    def close(self) -> None:
        """Let go of the database."""
        self._drop()
        self._engine.dispose()
        self.stops.close()
        self._file_lock.close()
        for keeps in self._kept():
            keeps.close()

    def beside(self) -> list[Path]:
        """Files and folders that belong to this deployment alone, whether or not they are there."""
        found = [] if self._mark is None else [self._mark.path]
        return [*found, self.stops.folder] if isinstance(self.stops, FileStops) else found

    def _kept(self) -> list[Keeps]:
        return [keeps for keeps in (self._mark, self._anchor) if keeps is not None]

    @contextmanager
    def reading(self, *, whole: bool = False) -> Iterator[Transaction]:
        """Read one consistent state.

        Args:
            whole: refuse a journal that ends before the last event it acknowledged.
        """
        if whole and self._which is None:
            with self._transaction(write=False) as transaction:
                transaction.located()
        # The marks are read first: what others add meanwhile only makes the journal longer.
        marked = [(keeps, keeps.read()) for keeps in self._kept()] if whole and self._located() else []
        with self._transaction(write=False) as transaction:
            for keeps, (seq, digest) in marked:
                if seq:
                    self._check_mark(transaction, seq, digest, keeps.path)
            yield transaction

    def _located(self) -> bool:
        """Whether marks can be compared: an anchor, and a mark of a journal on a server, are known by the journal's key."""
        return self._which is not None or (self.sqlite and self._anchor is None)

    @contextmanager
    def writing(self, *, new: bool = False, wait: float | None = None) -> Iterator[Transaction]:
        """Hold the deployment's lock; commit at the end, or change nothing.

        Args:
            wait: how many seconds to wait for it, by default ``lock_seconds``.
            new: there may be nothing to lock yet; who opens a deployment holds the lock on creation before that on the deployment. Who took
                them the other way round could wait for another opener that waits for it.
        """
        with self._transaction(write=True, lock=not new, wait=wait) as transaction:
            if new:
                transaction.register()
            yield transaction
        if transaction.written is not None:
            self._check_file(
                transaction.connection, "what was recorded last is in none that can be found, and counts as not done"
            )
            for keeps in self._kept():
                keeps.write(*transaction.written)

    def outdated(self) -> bool:
        """Whether the tables are of an earlier format; :meth:`create` rewrites them."""
        from surefoot.journal.migration import is_old

        with self._transaction(write=False) as transaction:
            return is_old(transaction.connection)

    def create(self) -> None:
        """Make the tables, if there are none; those of an earlier format are rewritten, all or none."""
        from surefoot.journal.migration import migrate

        if self._place is not None:
            self._place.creating = True
            self._drop()
        try:
            if self.sqlite:
                self._write_ahead()
            with self._transaction(write=True) as transaction:
                transaction.lock_creation()
                migrate(transaction.connection)
                METADATA.create_all(transaction.connection)
                if not self.sqlite:
                    TABLES.create_all(transaction.connection)
        finally:
            if self._place is not None:
                self._place.creating = False

    def _write_ahead(self) -> None:
        """Turn the write-ahead log on; the file remembers it. Several processes may try at once, and SQLite does not queue them."""
        for _ in range(100):
            try:
                with closing(self._engine.raw_connection()) as raw:
                    cursor = raw.cursor()
                    cursor.execute("PRAGMA journal_mode=WAL")
                    if cursor.fetchone() == ("wal",):
                        return
            except (sqlite3.DatabaseError, SQLAlchemyError) as error:
                if "locked" not in str(error):
                    raise self._explained(error) from error
            time.sleep(0.02)
        raise JournalUnavailable(f"{self.shown} must support a write-ahead log, and does not; use a local disk")

    def refuse_rest(self) -> None:
        """A new deployment must not begin where an acknowledged one is lost.

        Raises:
            JournalError: there is a mark, or an anchor.
        """
        seq, _ = (0, "") if self._mark is None else self._mark.read()
        if seq and self._mark is not None:
            raise self._cut_short(seq, None, self._mark.path)
        if self._anchor is not None and self._anchor.path.exists():
            raise JournalError(
                f"anchor must be a new file for a new deployment, got {self._anchor.path}, which remembers another; name another file, "
                "or restore the journal"
            )

    def _check_mark(self, transaction: Transaction, seq: int, digest: str, path: Path | None) -> None:
        found = transaction.digest(seq) if transaction.exists() else None
        if found != digest:
            raise self._cut_short(seq, found, path)

    def _cut_short(self, seq: int, found: str | None, path: Path | None) -> JournalError:
        begun = "" if path is None else f"; or, to carry on from what is left, delete {path}"
        anew = " (to begin anew: surefoot deploy remove)" if found is None and path is not None else ""
        return JournalError(
            f"the journal must hold event {seq}, which was acknowledged, got {'none' if found is None else 'another'}: its end is lost (a truncated "
            f"file, an older copy). Restore it{begun}{anew}"
        )

    def _recognise(self, transaction: Transaction) -> None:
        """It is the deployment it was, and holds what it held; see the module's docstring."""
        if self._which is None:
            return
        seq, digest = self._seen
        row = _IDENTITY.run(transaction.connection, {"named": self.name, "seen": seq}).first()
        if row is None or (int(row.id), str(row.key)) != self._which:
            raise JournalError(
                f"{self.shown} must stay the journal it was when it was opened, got {'none' if row is None else 'another'}: the database was "
                "replaced; nothing was recorded. Restore it, or open it again if that was meant"
            )
        if seq and (row.digest is None or bytes(row.digest).hex() != digest):
            raise self._cut_short(seq, None if row.digest is None else "", None)
        transaction.which, transaction.base = self._which, self._which[0] << SHIFT

    def _learn(self, transaction: Transaction) -> None:
        """What a transaction that went well showed."""
        if self._which is None and transaction.which is not None:
            self._which = transaction.which
            if not self.sqlite:
                self._mark = HighWaterMark.of_server(self._which[1])
            if self._anchor_place is not None:
                self._anchor = Anchor(self._anchor_place, self._which[1])
        self._seen = max(self._seen, transaction.read_to, transaction.written or (0, ""))

    def _check_file(self, connection: sa.Connection, so: str, *, logged: bool = False) -> None:
        """The path still names what is open.

        Raises:
            JournalError: it does not.
        """
        if self._place is not None and not (
            self._place.same() and (not logged or self._place.same_log(connection.info))
        ):
            self._drop()
            raise JournalError(
                f"{self.file} must stay where it is while it is in use, and was deleted or replaced (or its log was); {so}. Restore it, or "
                "open it again if that was meant"
            )

    @contextmanager
    def _transaction(self, *, write: bool, lock: bool = False, wait: float | None = None) -> Iterator[Transaction]:
        if os.getpid() != self._process:
            raise JournalError("a journal must be used by the process that opened it, got a fork; open it again there")
        try:
            transaction = self._begin(write, lock, self.lock_seconds if wait is None else wait)
            with transaction.context:
                self._recognise(transaction)
                yield transaction
            self._learn(transaction)
        except SQLAlchemyError as error:
            self._drop()
            raise self._explained(error) from error
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            self._drop()
            raise

    def _begin(self, write: bool, lock: bool, wait: float) -> Transaction:
        """A transaction; where an old connection turns out to be dead before anything was done with it, one on a new connection."""
        fresh = self._connection is None
        try:
            if self._connection is None:
                self._connection = self._connected()
            self._connection.info["surefoot_write"] = write
            began = time.perf_counter()
            with self._file_lock.turn(wait) if write else nullcontext():
                if self.sqlite:
                    _patient(
                        self._connection, max(0.0, wait - (time.perf_counter() - began)) if write else BUSY_SECONDS
                    )
                transaction = Transaction(self._connection, self.name, self._connection.begin())
            if not self.sqlite:
                if write:
                    transaction.run(sa.text(f"SET LOCAL lock_timeout = {max(1, round(1000 * wait))}"))
                transaction.lock() if lock else transaction.run(sa.select(1))
            transaction.waited = time.perf_counter() - began
            self._check_file(self._connection, "nothing was recorded")
            if self._place is not None and not self._place.same_log(self._connection.info):
                # Somebody removed the log; closing moves what is in it into the file.
                self._drop()
                return self._begin(write, lock, wait)
        except DBAPIError as error:
            self._drop()
            if fresh or not error.connection_invalidated:
                raise
            return self._begin(write, lock, wait)
        return transaction

    def _connected(self) -> sa.Connection:
        """A new connection, to tables that are what they seem.

        Raises:
            JournalError: a view or a trigger, which could do anything.
        """
        if self._place is not None:
            self._place.check()
        connection = self._engine.connect()
        if self._place is not None:
            try:
                _check_schema(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except SQLAlchemyError:
                pass  # it is gone already

    def _explained(self, error: Exception) -> JournalError:
        text = str(error.orig if isinstance(error, DBAPIError) else error).strip().split("\n")[0]
        damaged = ("malformed", "not a database", "disk image", "Could not decode", "no such column", "no such table")
        if any(sign in text for sign in damaged) and "disk I/O" not in text:
            return JournalError(f"{self.shown} must be a sound journal, got: {text}; restore it from a copy")
        return JournalUnavailable(
            f"{self.shown} must be reachable and writable, got: {text}; mend that and try again (every operation may be repeated)"
        )


class Transaction:
    """What can be asked of the database while it holds still.

    Attributes:
        context: begins and ends it.
        waited: seconds until it began.
        written: seq and digest of the last event appended, or ``None``.
        read_to: those of the last event read.
        which: id and key of the deployment, where they were looked up.
        base: number of the event before its first.
    """

    def __init__(self, connection: sa.Connection, name: str, context: sa.RootTransaction) -> None:
        self.connection, self.name, self.context = connection, name, context
        self.waited = 0.0
        self.written: Marked | None = None
        self.read_to: Marked = (0, "")
        self.which: Which | None = None
        self.base: int | None = None

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

    def _number(self, seq: int) -> int:
        """Of an event; of none where there is no such deployment."""
        return -1 if not self.located() or self.base is None or not 0 <= seq < 2**SHIFT else self.base + seq

    def _own(self) -> Any:
        """The condition that a row is of this deployment."""
        return EVENTS.c.number.between(self._number(0), self._number(2**SHIFT - 1))

    def run(self, statement: Any, values: Any = None) -> sa.CursorResult[Any]:
        """Execute."""
        result: sa.CursorResult[Any] = self.connection.execute(statement, values)
        return result

    def lock(self) -> None:
        """Wait for whoever writes to this deployment, and keep others out until the end."""
        self.run(sa.select(DEPLOYMENTS.c.name).where(DEPLOYMENTS.c.name == self.name).with_for_update()).all()

    def lock_creation(self) -> None:
        """Wait for whoever makes tables or opens a deployment, on PostgreSQL; to be taken before any other lock."""
        if self.connection.dialect.name == "postgresql":
            self.run(sa.select(sa.func.pg_advisory_xact_lock(CREATION_LOCK)))

    def register(self) -> None:
        """Make the deployment's row, unless there is one, and lock it; whoever does so at the same time waits here."""
        self.lock_creation()
        if not self.located():
            most = self.run(sa.select(sa.func.max(DEPLOYMENTS.c.id))).scalar()
            fresh = {"id": 0 if most is None else int(most) + 1, "name": self.name, "key": secrets.token_hex(16)}
            self.run(DEPLOYMENTS.insert(), fresh)
            self.located()
        self.lock()

    def others_wrote(self) -> bool:
        """Whether anybody else may have committed since this was last asked on the same connection while it held the lock.

        SQLite counts the commits of other connections; elsewhere the answer is always yes.
        """
        if self.connection.dialect.name != "sqlite":
            return True
        try:
            version = self.connection.connection.cursor().execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return True  # whatever is wrong will be met by the next statement
        before = self.connection.info.get("surefoot_version")
        self.connection.info["surefoot_version"] = version
        return before is None or before != version

    def exists(self) -> bool:
        """Whether the tables are there."""
        return bool(sa.inspect(self.connection).has_table("events"))

    def events(self, seq: int, digest: str) -> Iterator[Event]:
        """Events after number ``seq``, whose digest is ``digest``.

        Raises:
            JournalError: a gap, or a digest that does not follow.
        """
        while page := self.page(seq, digest):
            yield from page
            seq, digest = page[-1].seq, page[-1].digest

    def page(self, seq: int, digest: str | None = None, many: int = CHUNK) -> list[Event]:
        """At most ``many`` events after number ``seq``; its digest is looked up where it is not given."""
        if not self.located() or self.base is None:
            return []
        if digest is None:
            digest = self.digest(seq) if seq else ""
        found: list[Event] = []
        values = {"after": self.base + min(seq, 2**SHIFT - 1), "end": self.base + 2**SHIFT, "many": many}
        for row in _PAGE.run(self.connection, values).all():
            seq += 1
            if row.number - self.base != seq:
                raise JournalError(
                    f"event {seq} must follow event {seq - 1}, got {row.number - self.base}; restore the journal from a copy"
                )
            at, kind, body, text = _unpacked(seq, row)
            held = row.digest.hex() if isinstance(row.digest, bytes) else ""
            if digest is None or chained(digest, seq, kind, at, text) != held:
                raise JournalError(
                    f"event {seq} must match its digest, got another: it or one before it was edited or damaged; restore the journal from a "
                    "copy"
                )
            digest = held
            event = Event(seq, at, kind, body, held)
            _check_index(event, {"first": row.first, "last": row.last, "request": row.request})
            found.append(event)
        if found:
            self.read_to = max(self.read_to, (found[-1].seq, found[-1].digest))
        return found

    def append(self, entries: Sequence[Entry], seq: int, digest: str) -> str:
        """Write entries behind event ``seq``; returns the last one's digest."""
        at, rows = now(), []
        for entry in entries:
            seq += 1
            text = canonical(entry.body)
            digest = chained(digest, seq, entry.kind, at, text)
            rows.append(row_of(self._number(seq), at, entry, text, digest))
        _INSERT.run(self.connection, rows if len(rows) > 1 else rows[0])
        self.written = (seq, digest)
        return digest

    def first(self) -> Event | None:
        """The event that opened the deployment."""
        return self.event(1)

    def last(self) -> Marked:
        """Number and digest of the last event; 0 and "" without one."""
        query = sa.select(EVENTS.c.number, EVENTS.c.digest).where(self._own())
        row = self.run(query.order_by(EVENTS.c.number.desc()).limit(1)).first()
        return (0, "") if row is None else (int(row.number) - (self.base or 0), bytes(row.digest).hex())

    def digest(self, seq: int) -> str | None:
        """Digest of one event."""
        found = self.run(sa.select(EVENTS.c.digest).where(EVENTS.c.number == self._number(seq))).scalar()
        return found.hex() if isinstance(found, bytes) else None

    def event(self, seq: int) -> Event | None:
        """One event."""
        found = self.page(seq - 1, many=1)
        return found[0] if found else None

    def asked(self, episode: int) -> Event | None:
        """The event by which an episode was asked."""
        found = self._one(_IS_ASKED, EVENTS.c.first <= episode, order=EVENTS.c.first.desc())
        return found if found is not None and episode < found.body["first"] + len(found.body["draws"]) else None

    def closed(self, episode: int) -> Event | None:
        """The event by which an episode was told or declared lost."""
        columns = sa.select(EVENTS.c.number, EVENTS.c.first).where(
            self._own(),
            _IS_CLOSED,
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
        return self._one(EVENTS.c.request == key)

    def _one(self, *conditions: Any, order: Any = None) -> Event | None:
        query = sa.select(EVENTS.c.number).where(self._own(), *conditions)
        number = self.run((query if order is None else query.order_by(order)).limit(1)).scalar()
        return None if number is None else self.event(int(number) - (self.base or 0))

    def keep_policy_set(self, digest: str, body: bytes) -> None:
        """Store a policy-set file beside the events."""
        if len(body) <= LARGEST_SET and self.policy_set(digest) is None:
            self.run(POLICY_SETS.insert(), {"hash": digest, "body": body})

    def policy_set(self, digest: str) -> bytes | None:
        """A policy-set file."""
        found: bytes | None = self.run(sa.select(POLICY_SETS.c.body).where(POLICY_SETS.c.hash == digest)).scalar()
        return found

    def keep_snapshot(self, seq: int, digest: str, body: bytes) -> None:
        """Replace this keeper's snapshot, unless a later one was left."""
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
        """This keeper's snapshot of the deployment: seq, digest, body; ``None`` unless its seal is right and the journal holds its event."""
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


def row_of(number: int, at: str, entry: Entry | Event, text: str, digest: str) -> Row:
    """An event as a row; ``text`` is its canonical body."""
    code, moment = CODES.get(entry.kind, 0), microseconds(at)
    if code and moment is not None:
        body = pack(entry.kind, entry.body, text)
    else:
        moment, body = None, pack("", {}, canonical({"at": at, "body": text, "kind": entry.kind}))
    columns = indexed(entry)
    return {"number": number, "at": moment, "kind": code, "body": body, "digest": bytes.fromhex(digest)} | columns


def _unpacked(seq: int, row: Any) -> tuple[str, str, dict[str, Any], str]:
    """Time, kind, body and its text.

    Raises:
        JournalError: no row that :func:`row_of` makes.
    """
    try:
        body, text = unpack(row.body, row.first, row.request)
        if row.at is not None:
            if not row.kind:
                raise ValueError("no kind")
            return stamp(row.at), KINDS[row.kind], body, text
        at, kind, text = (str(body[name]) for name in ("at", "kind", "body"))
        if row.kind != CODES.get(kind, 0) and row.kind:
            raise ValueError(f"kind {KINDS[row.kind]} beside {kind}")
        return at, kind, parse_text(text), text
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise JournalError(
            f"event {seq} must hold what its kind can hold, got {ascii(row.body)[:60]} ({error}); restore the journal from a copy"
        ) from error


def indexed(entry: Entry | Event) -> Row:
    """The columns by which an event is found."""
    body, found = entry.body, {"first": None, "last": None, "request": None}
    if entry.kind == "asked":
        found["first"], found["last"] = body["first"], body["first"] + len(body["draws"]) - 1
        found["request"] = body.get("request")
    elif entry.kind in ("told", "lost"):
        found["first"], found["last"] = min(body["ids"]), max(body["ids"])
    if found["last"] == found["first"]:
        found["last"] = None
    return found


def _check_index(event: Event, columns: dict[str, Any]) -> None:
    """What an event is found by is no part of its digest; it must say what the body says."""
    try:
        right = indexed(event) == columns
    except (LookupError, TypeError, ValueError):
        right = False
    if not right:
        raise JournalError(
            f"event {event.seq} must be indexed as its body says, got another; restore the journal from a copy"
        )


class _FairFileLock:
    """Who writes next, among the processes on one SQLite file.

    SQLite's lock has no queue: who waits asks again, ever more rarely, and can be overtaken for minutes by those who just came. So only
    one process at a time waits for SQLite, and holds this lock on a file of its own meanwhile; the others, and whoever has just written, wait
    for that, asking in short and equal steps. It decides nothing but the order: without it everything still works.
    """

    STEP = 0.002

    def __init__(self, path: str | None) -> None:
        self._path = path if HAS_LOCKS else None
        self._descriptor: int | None = None

    @contextmanager
    def turn(self, wait: float = BUSY_SECONDS) -> Iterator[None]:
        """Wait for one's turn, at most ``wait`` seconds."""
        held = self._path is not None and self._acquired(wait)
        try:
            yield
        finally:
            if held and self._descriptor is not None:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _acquired(self, wait: float = BUSY_SECONDS) -> bool:
        end = time.monotonic() + wait
        while time.monotonic() < end:
            try:
                if self._descriptor is None:
                    self._descriptor = os.open(str(self._path), os.O_RDWR | os.O_CREAT, 0o644)
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                time.sleep(self.STEP)
            except OSError:
                return False  # a disk that cannot be written, or locks that it does not know
        return False

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class _Place:
    """Where a SQLite file lies: what to open, and whether it is still that.

    Args:
        url: with a path as its database, or a ``file:`` URI of SQLite.

    Attributes:
        file: its path, without links: whoever comes by whichever of its names meets the same files beside it.
        creating: whether it may be made.
    """

    def __init__(self, url: sa.URL) -> None:
        text = str(url.database)
        options = {name: str(value) for name, value in url.query.items()}
        if text.startswith("file:"):
            text, _, more = text.removeprefix("file:").partition("?")
            options |= dict(part.partition("=")[::2] for part in more.split("&") if part)
            text = unquote(text).removeprefix("//") if text.startswith("///") else unquote(text)
        self._options = {name: options[name] for name in ("mode", "immutable") if name in options}
        self.file = os.path.realpath(_absolute(text))
        self.readable = self._options.get("mode") == "ro" or self._options.get("immutable") == "1"
        self.creating = False
        self._known: tuple[int, int] | None = None

    def check(self) -> None:
        """What lies there is a file, if anything does.

        Raises:
            InvalidInput: a folder, a pipe, a device.
            JournalUnavailable: nothing, and it may not be made.
        """
        try:
            mode = os.stat(self.file).st_mode
        except OSError as error:
            if self.creating:
                return
            raise JournalUnavailable(f"{self.file} must be a journal, got: {error.strerror}; restore it") from error
        if not stat.S_ISREG(mode):
            raise InvalidInput(
                f"url must be the path of a file, got {self.file}, which is a folder, a pipe or a device"
            )

    def connect(self) -> sqlite3.Connection:
        """Open it."""
        options = dict(self._options)
        if not options:
            options["mode"] = "rwc" if self.creating else "rw"
            if not self.creating and not os.access(Path(self.file).parent, os.W_OK) and not self._log():
                # On a disk that cannot be written nobody can change it, and there is no room for SQLite's own files.
                options = {"mode": "ro", "immutable": "1"}
        settings = "&".join(f"{name}={quote(value)}" for name, value in options.items())
        address = f"file:{quote(os.fsencode(self.file))}?{settings}"
        return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)

    def _log(self) -> bool:
        """Whether there are commits that are not in the file yet."""
        try:
            return os.stat(f"{self.file}-wal").st_size > 0
        except OSError:
            return False

    def same(self) -> bool:
        """Whether the path names the file that it named first."""
        try:
            found = os.stat(self.file)
        except OSError:
            return False
        now = found.st_dev, found.st_ino
        self._known = self._known or now
        return self._known == now

    def same_log(self, info: dict[Any, Any]) -> bool:
        """Whether the log is the one that a connection, with this info, met first."""
        try:
            now = os.stat(f"{self.file}-wal").st_ino
        except OSError:
            now = None
        before = info.get("surefoot_log")
        if before is None:
            info["surefoot_log"] = now
        return before in (None, now)


def _check_schema(connection: sa.Connection) -> None:
    """Our names are tables, and nothing else acts when they are used.

    Raises:
        JournalError: a view may run for ever; a trigger may write anything.
    """
    found = connection.connection.cursor().execute("SELECT type, name, tbl_name FROM sqlite_master").fetchall()
    names = set(METADATA.tables)
    for kind, name, table in found:
        if (kind == "view" and name in names) or (kind == "trigger" and table in names):
            raise JournalError(
                f"{ascii(name)[:60]} must be no part of a journal, got a {kind}; it was edited: restore the journal from a copy"
            )


def _absolute(path: str) -> str:
    """Of a path that is not a URL.

    Raises:
        InvalidInput: relative to a folder that is gone.
    """
    try:
        return os.path.abspath(path)
    except OSError as error:
        raise InvalidInput(
            f"url must be a path that can be found, got {path!r} in a folder that was deleted; change to another folder"
        ) from error


def _url(url: Any) -> sa.URL:
    """A URL with a driver; a path becomes a SQLite file."""
    text = os.fspath(url) if isinstance(url, str | os.PathLike) else ""
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidInput(
            f"url must be a database URL or a path, got {text!r}; e.g. plant.db or postgresql://host/name"
        )
    if "://" not in text:
        return sa.URL.create("sqlite", database=_absolute(text))
    try:
        found = sa.make_url(text)
    except (SQLAlchemyError, ValueError) as error:
        raise InvalidInput("url must be a database URL or a path, got one that cannot be read; check it") from error
    if found.drivername in ("postgresql", "postgres"):
        found = found.set(drivername="postgresql+psycopg")
    if found.get_backend_name() not in ("sqlite", "postgresql"):
        raise InvalidInput(f"url must name SQLite or PostgreSQL, got {found.get_backend_name()}; use one of them")
    if found.get_backend_name() == "sqlite" and found.database in (None, "", ":memory:"):
        raise InvalidInput("url must name a file, got a database in memory, which survives nothing; give a path")
    return found


def _engine(url: sa.URL, place: _Place | None) -> sa.Engine:
    sqlite = place is not None
    try:
        if place is not None:
            engine = sa.create_engine("sqlite://", poolclass=sa.NullPool, creator=place.connect)
        else:
            # Who waited for the lock must see what was committed meanwhile, whatever the server's default is.
            engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="READ COMMITTED")
    except ModuleNotFoundError as error:
        raise MissingExtra("psycopg", "postgres") from error
    sa_event.listen(engine, "connect", _prepare_sqlite if sqlite else _prepare_postgresql)
    if sqlite:
        sa_event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where this module says so
    cursor = connection.cursor()
    for pragma in (
        "trusted_schema=OFF",
        "synchronous=FULL",
        "fullfsync=ON",
        "checkpoint_fullfsync=ON",
        "cell_size_check=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _patient(connection: sa.Connection, seconds: float) -> None:
    """How long SQLite asks for its lock before it gives up."""
    milliseconds = round(1000 * seconds)
    if connection.info.get("surefoot_patience") != milliseconds:
        connection.connection.cursor().execute(f"PRAGMA busy_timeout={milliseconds}")
        connection.info["surefoot_patience"] = milliseconds


def _stops(store: Store) -> Stops:
    if not store.sqlite:
        return TableStops(store.url, store.name)
    return FileStops(store.file, store.name, readable=store._place is not None and store._place.readable)


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info.get("surefoot_write") else "BEGIN")


def _prepare_postgresql(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("SHOW synchronous_commit")
    if cursor.fetchone()[0] == "off":
        cursor.execute("SET synchronous_commit TO on")
    cursor.close()
    connection.commit()
