"""Where events lie: two or three tables in a SQLite file or a PostgreSQL database, written through SQLAlchemy.

    events(deployment, seq, at, kind, body, digest; first, last, request)      append-only; the truth
    deployments(name)                                                          a row to lock, on PostgreSQL
    policy_sets(hash, body)                                                    the files that deployments were opened with
    snapshots(deployment, seq, digest, body)                                   a cache; may be deleted at any time

``first``, ``last`` (smallest and largest episode id in the body) and ``request`` only index what the body says.

Who writes holds the lock of the whole deployment from before it reads until its commit, so that what it appends follows from *all* events
before it: ``BEGIN IMMEDIATE`` on SQLite (write-ahead log, ``synchronous=FULL``: a commit returns when it is on the disk), ``SELECT ... FOR
UPDATE`` of the deployment's row on PostgreSQL (``synchronous_commit`` at least ``on``).

Nobody waits for a lock longer than ``lock_seconds``. What must not wait at all, a pause or an abort, goes another way first
(:mod:`surefoot.journal.stops`).

Beside a SQLite file lies ``<file>-mark-...``, one per deployment: number and digest of the last event that was acknowledged, written after
every commit without waiting for the disk. A journal that ends before its mark has
lost events (an older copy, a truncated log, a disk that lied about writing) and is refused.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event as sa_event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from surefoot.errors import InvalidInput, JournalError, JournalUnavailable, MissingExtra
from surefoot.journal.events import Entry, Event, canonical, chained, now, parse
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

METADATA = sa.MetaData()
DEPLOYMENTS = sa.Table("deployments", METADATA, sa.Column("name", sa.Text, primary_key=True))
EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("deployment", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("first", sa.BigInteger),
    sa.Column("last", sa.BigInteger),
    sa.Column("request", sa.Text),
)
sa.Index(
    "events_by_episode",
    EVENTS.c.deployment,
    EVENTS.c.kind,
    EVENTS.c.first,
    EVENTS.c.last,
    sqlite_where=EVENTS.c.first.is_not(None),
    postgresql_where=EVENTS.c.first.is_not(None),
)
sa.Index(
    "events_by_request",
    EVENTS.c.deployment,
    EVENTS.c.request,
    unique=True,
    sqlite_where=EVENTS.c.request.is_not(None),
    postgresql_where=EVENTS.c.request.is_not(None),
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
    sa.Column("deployment", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

_ROW = (
    EVENTS.c.seq,
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
_LIMIT: sa.BindParameter[int] = sa.bindparam("many")
_READ = (
    sa.select(*_ROW).where(EVENTS.c.deployment == _NAMED, EVENTS.c.seq > _AFTER).order_by(EVENTS.c.seq).limit(_LIMIT)
)


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


class Store:
    """One deployment's part of a database, through one connection that is made when needed and thrown away after any error.

    Not for use from two threads at once, nor after a fork.

    Args:
        url: a SQLAlchemy URL, or the path of a SQLite file.
        name: of the deployment.
        lock_seconds: how long to wait for whoever holds a lock.
    """

    def __init__(self, url: str | os.PathLike[str], name: str, lock_seconds: float = BUSY_SECONDS) -> None:
        self.name, self.url, self.lock_seconds = name, _url(url), lock_seconds
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.shown = self.url.render_as_string(hide_password=True)
        self.file = str(self.url.database).removeprefix("file:").split("?")[0] if self.sqlite else ""
        self._engine = _engine(self.url, self.sqlite)
        self._connection: sa.Connection | None = None
        self._mark = _Mark(self.file, name) if self.sqlite else None
        self._turnstile = _Turnstile(f"{self.file}-queue" if self.sqlite else None)
        self.stops: Stops = _stops(self)
        self._process = os.getpid()

    def close(self) -> None:
        """Let go of the database."""
        self._drop()
        self._engine.dispose()
        self.stops.close()
        self._turnstile.close()
        if self._mark is not None:
            self._mark.close()

    @contextmanager
    def reading(self, *, whole: bool = False) -> Iterator[Transaction]:
        """Read one consistent state.

        Args:
            whole: refuse a journal that ends before the last event it acknowledged.
        """
        # The mark is read first: what others add meanwhile only makes the journal longer.
        marked = self._mark.read() if whole and self._mark is not None else (0, "")
        with self._transaction(write=False) as transaction:
            self._check_mark(transaction, *marked)
            yield transaction

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
        if self._mark is not None and transaction.written is not None:
            self._mark.write(*transaction.written)

    def create(self) -> None:
        """Make the tables, if there are none."""
        if self.sqlite:
            self._write_ahead()
        with self._transaction(write=True) as transaction:
            transaction.lock_creation()
            METADATA.create_all(transaction.connection)
            if not self.sqlite:
                TABLES.create_all(transaction.connection)

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
            JournalError: there is a mark.
        """
        seq, _ = (0, "") if self._mark is None else self._mark.read()
        if seq:
            raise self._cut_short(seq, None)

    def _check_mark(self, transaction: Transaction, seq: int, digest: str) -> None:
        if not seq:
            return
        found = transaction.digest(seq) if transaction.exists() else None
        if found != digest:
            raise self._cut_short(seq, found)

    def _cut_short(self, seq: int, found: str | None) -> JournalError:
        path = "" if self._mark is None else self._mark.path
        return JournalError(
            f"the journal must hold event {seq}, which was acknowledged, got {'none' if found is None else 'another'}: its end is lost (a truncated "
            f"file, an older copy). Restore it; or, to carry on from what is left, delete {path}"
        )

    @contextmanager
    def _transaction(self, *, write: bool, lock: bool = False, wait: float | None = None) -> Iterator[Transaction]:
        if os.getpid() != self._process:
            raise JournalError("a journal must be used by the process that opened it, got a fork; open it again there")
        try:
            transaction = self._begin(write, lock, self.lock_seconds if wait is None else wait)
            with transaction.context:
                yield transaction
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
                self._connection = self._engine.connect()
            self._connection.info["surefoot_write"] = write
            began = time.perf_counter()
            with self._turnstile.turn(wait) if write else nullcontext():
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
        except DBAPIError as error:
            self._drop()
            if fresh or not error.connection_invalidated:
                raise
            return self._begin(write, lock, wait)
        return transaction

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
    """

    def __init__(self, connection: sa.Connection, name: str, context: sa.RootTransaction) -> None:
        self.connection, self.name, self.context = connection, name, context
        self.waited = 0.0
        self.written: tuple[int, str] | None = None

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
        if self.run(sa.select(DEPLOYMENTS.c.name).where(DEPLOYMENTS.c.name == self.name)).first() is None:
            self.run(DEPLOYMENTS.insert(), {"name": self.name})
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
        if digest is None:
            digest = self.digest(seq) if seq else ""
        found: list[Event] = []
        for row in _PAGE.run(self.connection, {"named": self.name, "after": seq, "many": many}).all():
            seq += 1
            if row.seq != seq:
                raise JournalError(
                    f"event {seq} must follow event {seq - 1}, got {row.seq}; restore the journal from a copy"
                )
            if digest is None or chained(digest, seq, row.kind, row.at, row.body) != row.digest:
                raise JournalError(
                    f"event {seq} must match its digest, got another: it or one before it was edited or damaged; restore the journal from a "
                    "copy"
                )
            digest = row.digest
            event = Event(seq, row.at, row.kind, parse(seq, row.body), row.digest)
            _check_index(event, {"first": row.first, "last": row.last, "request": row.request})
            found.append(event)
        return found

    def append(self, entries: Sequence[Entry], seq: int, digest: str) -> str:
        """Write entries behind event ``seq``; returns the last one's digest."""
        at, rows = now(), []
        for entry in entries:
            seq += 1
            body = canonical(entry.body)
            digest = chained(digest, seq, entry.kind, at, body)
            rows.append(
                {"deployment": self.name, "seq": seq, "at": at, "kind": entry.kind, "body": body, "digest": digest}
                | indexed(entry)
            )
        _INSERT.run(self.connection, rows if len(rows) > 1 else rows[0])
        self.written = (seq, digest)
        return digest

    def first(self) -> Event | None:
        """The event that opened the deployment."""
        return self.event(1)

    def last(self) -> tuple[int, str]:
        """Number and digest of the last event; 0 and "" without one."""
        query = sa.select(EVENTS.c.seq, EVENTS.c.digest).where(EVENTS.c.deployment == self.name)
        row = self.run(query.order_by(EVENTS.c.seq.desc()).limit(1)).first()
        return (0, "") if row is None else (int(row.seq), str(row.digest))

    def digest(self, seq: int) -> str | None:
        """Digest of one event."""
        query = sa.select(EVENTS.c.digest).where(EVENTS.c.deployment == self.name, EVENTS.c.seq == seq)
        found: str | None = self.run(query).scalar()
        return found

    def event(self, seq: int) -> Event | None:
        """One event."""
        found = self.page(seq - 1, many=1)
        return found[0] if found else None

    def asked(self, episode: int) -> Event | None:
        """The event by which an episode was asked."""
        found = self._one(EVENTS.c.kind == "asked", EVENTS.c.first <= episode, order=EVENTS.c.first.desc())
        return found if found is not None and episode < found.body["first"] + len(found.body["draws"]) else None

    def closed(self, episode: int) -> Event | None:
        """The event by which an episode was told or declared lost."""
        columns = sa.select(EVENTS.c.seq, EVENTS.c.first).where(
            EVENTS.c.deployment == self.name,
            EVENTS.c.kind.in_(("told", "lost")),
            EVENTS.c.first <= episode,
            EVENTS.c.last >= episode,
        )
        # Reports that span the episode without holding it are rare; those that start nearest come first.
        for row in self.run(columns.order_by(EVENTS.c.first.desc())).all():
            found = self.event(int(row.seq))
            if found is not None and episode in found.body["ids"]:
                return found
        return None

    def request(self, key: str) -> Event | None:
        """The event that answered a request."""
        return self._one(EVENTS.c.request == key)

    def _one(self, *conditions: Any, order: Any = None) -> Event | None:
        query = sa.select(EVENTS.c.seq).where(EVENTS.c.deployment == self.name, *conditions)
        seq = self.run((query if order is None else query.order_by(order)).limit(1)).scalar()
        return None if seq is None else self.event(int(seq))

    def keep_policy_set(self, digest: str, body: bytes) -> None:
        """Store a policy-set file beside the events."""
        if len(body) <= LARGEST_SET and self.policy_set(digest) is None:
            self.run(POLICY_SETS.insert(), {"hash": digest, "body": body})

    def policy_set(self, digest: str) -> bytes | None:
        """A policy-set file."""
        found: bytes | None = self.run(sa.select(POLICY_SETS.c.body).where(POLICY_SETS.c.hash == digest)).scalar()
        return found

    def keep_snapshot(self, seq: int, digest: str, body: bytes) -> None:
        """Replace the deployment's snapshot, unless somebody left a later one."""
        query = sa.select(SNAPSHOTS.c.seq).where(SNAPSHOTS.c.deployment == self.name, SNAPSHOTS.c.seq >= seq)
        present = self.run(query).scalar()
        if present is not None and self.digest(int(present)) is not None:
            return
        self.run(SNAPSHOTS.delete().where(SNAPSHOTS.c.deployment == self.name))
        self.run(SNAPSHOTS.insert(), {"deployment": self.name, "seq": seq, "digest": digest, "body": body})

    def snapshot(self) -> tuple[int, str, bytes] | None:
        """The deployment's snapshot: seq, digest, body."""
        query = sa.select(SNAPSHOTS.c.seq, SNAPSHOTS.c.digest, SNAPSHOTS.c.body)
        row = self.run(query.where(SNAPSHOTS.c.deployment == self.name)).first()
        return None if row is None or not isinstance(row.body, bytes) else (int(row.seq), str(row.digest), row.body)


def indexed(entry: Entry | Event) -> dict[str, Any]:
    """The columns by which an event is found."""
    body, found = entry.body, {"first": None, "last": None, "request": None}
    if entry.kind == "asked":
        found["first"], found["last"] = body["first"], body["first"] + len(body["draws"]) - 1
        found["request"] = body.get("request")
    elif entry.kind in ("told", "lost"):
        found["first"], found["last"] = min(body["ids"]), max(body["ids"])
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


class _Turnstile:
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


class _Mark:
    """Number and digest of the last acknowledged event, beside a SQLite file."""

    def __init__(self, file: str, name: str) -> None:
        self.path = Path(f"{file}-mark-{hashlib.sha256(name.encode()).hexdigest()[:8]}")
        self._descriptor: int | None = None

    def read(self) -> tuple[int, str]:
        """(0, "") where there is none, or none that is whole."""
        try:
            words = self.path.read_text(encoding="ascii").split()
            seq, digest, check = int(words[0]), words[1], words[2]
        except (OSError, ValueError, IndexError):
            return 0, ""
        return (seq, digest) if check == _checksum(seq, digest) else (0, "")

    def write(self, seq: int, digest: str) -> None:
        """Overwrite it in place, without waiting for the disk; it is an aid, so that failing to write it is no error."""
        line = f"{seq:020d} {digest} {_checksum(seq, digest)}\n".encode("ascii")
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            os.pwrite(self._descriptor, line, 0)
        except OSError:
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _checksum(seq: int, digest: str) -> str:
    return hashlib.sha256(f"{seq} {digest}".encode()).hexdigest()[:16]


def _url(url: Any) -> sa.URL:
    """A URL with a driver; a path becomes a SQLite file."""
    text = os.fspath(url) if isinstance(url, str | os.PathLike) else ""
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidInput(
            f"url must be a database URL or a path, got {text!r}; e.g. plant.db or postgresql://host/name"
        )
    if "://" not in text:
        return sa.URL.create("sqlite", database=os.path.abspath(text))
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


def _engine(url: sa.URL, sqlite: bool) -> sa.Engine:
    arguments: dict[str, Any] = {"timeout": BUSY_SECONDS, "check_same_thread": False} if sqlite else {}
    # Who waited for the lock must see what was committed meanwhile, whatever the server's default is.
    level: dict[str, Any] = {} if sqlite else {"isolation_level": "READ COMMITTED"}
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments, **level)
    except ModuleNotFoundError as error:
        raise MissingExtra("psycopg", "postgres") from error
    sa_event.listen(engine, "connect", _prepare_sqlite if sqlite else _prepare_postgresql)
    if sqlite:
        sa_event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where this module says so
    cursor = connection.cursor()
    for pragma in ("synchronous=FULL", "fullfsync=ON", "checkpoint_fullfsync=ON", "cell_size_check=ON"):
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
    readable = any(
        store.url.query.get(name) == value or f"{name}={value}" in str(store.url.database)
        for name, value in (("mode", "ro"), ("immutable", "1"))
    )
    return FileStops(store.file, store.name, readable=readable)


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info.get("surefoot_write") else "BEGIN")


def _prepare_postgresql(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("SHOW synchronous_commit")
    if cursor.fetchone()[0] == "off":
        cursor.execute("SET synchronous_commit TO on")
    cursor.close()
    connection.commit()
