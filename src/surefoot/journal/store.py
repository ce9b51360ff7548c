"""Where the events of a deployment lie: a SQLite file or a PostgreSQL database, written through SQLAlchemy.

What a store guarantees:

* **Nothing is acknowledged that can be lost.** A commit returns when it is on the disk (:mod:`surefoot.journal.engine`).
* **One writer at a time.** A writer holds the lock of the whole deployment from before it reads until its commit, so that what it appends follows
  from *all* events before it: ``BEGIN IMMEDIATE`` on SQLite, ``SELECT ... FOR UPDATE`` of the deployment's row on PostgreSQL.
* **Nobody waits for ever.** No lock is waited for longer than ``lock_seconds``. A pause and an abort must not wait at all: they are left as stop
  requests without the lock (:mod:`surefoot.journal.stop_requests`).
* **It is still the same journal.** Every transaction checks that (:mod:`surefoot.journal.identity`); on SQLite also that the path still names the
  file, and its log, that is open (:mod:`surefoot.journal.sqlite_file`), before it begins and before anything is acknowledged.

The parts: :mod:`~surefoot.journal.tables` (the schema), :mod:`~surefoot.journal.rows` (an event as a row),
:mod:`~surefoot.journal.transaction` (reading and appending), :mod:`~surefoot.journal.file_lock` (who writes next to a SQLite file).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from surefoot.errors import JournalError, JournalUnavailable
from surefoot.journal.engine import explained, make_engine, parse_url, set_busy_timeout
from surefoot.journal.file_lock import FairFileLock
from surefoot.journal.identity import Identity, check_head
from surefoot.journal.migration import is_old, migrate
from surefoot.journal.sqlite_file import BUSY_SECONDS, SQLiteFile
from surefoot.journal.stop_requests import TABLES, FileStops, Stops, TableStops
from surefoot.journal.tables import METADATA, check_schema
from surefoot.journal.transaction import Transaction

__all__ = ["BUSY_SECONDS", "Store", "Transaction"]


class Store:
    """One deployment's part of a database, through one connection that is made when needed and thrown away after any error.

    Not for use from two threads at once, nor after a fork.

    Args:
        url: a SQLAlchemy URL, or the path of a SQLite file.
        name: of the deployment.
        lock_seconds: how long to wait for others that hold a lock.
        anchor: a second place that remembers the last acknowledged event; see :class:`~surefoot.journal.high_water_marks.Anchor`.

    Attributes:
        sqlite: whether the database is a SQLite file.
        file: path of that file, or "".
        shown: name of the database for people, without a password.
        stops: the deployment's stop requests.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        name: str,
        lock_seconds: float = BUSY_SECONDS,
        anchor: str | os.PathLike[str] | None = None,
    ) -> None:
        self.name, self.url, self.lock_seconds = name, parse_url(url), lock_seconds
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self._sqlite_file = SQLiteFile(self.url) if self.sqlite else None
        self.file = "" if self._sqlite_file is None else self._sqlite_file.path
        self.shown = self.file or self.url.render_as_string(hide_password=True)
        self._engine = make_engine(self.url, self._sqlite_file)
        self._connection: sa.Connection | None = None
        self.identity = Identity(name, self.file, self.shown, anchor)
        self._file_lock = FairFileLock(f"{self.file}-queue" if self.sqlite else None)
        self.stops: Stops = (
            TableStops(self.url, name)
            if self._sqlite_file is None
            else FileStops(self.file, name, read_only=self._sqlite_file.read_only)
        )
        self._process = os.getpid()

    def close(self) -> None:
        """Close the connection and all files."""
        self._drop()
        self._engine.dispose()
        self.stops.close()
        self._file_lock.close()
        self.identity.close()

    def beside(self) -> list[Path]:
        """Files and folders that belong to this deployment alone, whether or not they exist."""
        found = [] if self.identity.mark is None else [self.identity.mark.path]
        return [*found, self.stops.folder] if isinstance(self.stops, FileStops) else found

    # ------------------------------------------------------------------------------------------------------ transactions

    @contextmanager
    def reading(self, *, whole: bool = False) -> Iterator[Transaction]:
        """Read one consistent state.

        Args:
            whole: refuse a journal that ends before the last event it acknowledged.

        Raises:
            JournalError: the journal is damaged or another one, or cannot be reached.
        """
        if whole and self.identity.which is None:
            with self._transaction(write=False) as transaction:
                transaction.located()
        # What is remembered is read first: events that others append meanwhile only make the journal longer.
        remembered = self.identity.remembered() if whole else []
        with self._transaction(write=False) as transaction:
            for head, path in remembered:
                check_head(transaction, head, path)
            yield transaction

    @contextmanager
    def writing(self, *, new: bool = False, wait: float | None = None) -> Iterator[Transaction]:
        """Hold the deployment's lock; commit at the end, or change nothing.

        Args:
            new: there may be nothing to lock yet. An opener takes the lock on creation before that on the deployment; in the other order, two
                openers could wait for each other.
            wait: how many seconds to wait for the lock, by default ``lock_seconds``.

        Raises:
            JournalError: the journal is damaged or another one, or cannot be reached, or others hold the lock.
        """
        with self._transaction(write=True, lock=not new, wait=wait) as transaction:
            if new:
                transaction.register()
            yield transaction
        if transaction.written is not None:
            self._check_file(
                transaction.connection, "what was recorded last is in none that can be found, and counts as not done"
            )
            self.identity.acknowledge(transaction.written)

    @contextmanager
    def _transaction(self, *, write: bool, lock: bool = False, wait: float | None = None) -> Iterator[Transaction]:
        if os.getpid() != self._process:
            raise JournalError(
                "a journal must be used by the process that opened it, got a fork; open it again there",
                code="SF-JOURNAL-FORK",
            )
        try:
            transaction = self._begin(write, lock, self.lock_seconds if wait is None else wait)
            with transaction.context:
                self.identity.recognise(transaction)
                yield transaction
            self.identity.learn(transaction)
        except SQLAlchemyError as error:
            self._drop()
            raise explained(self.shown, error) from error
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            self._drop()
            raise

    def _begin(self, write: bool, lock: bool, wait: float) -> Transaction:
        """A transaction. Where an old connection turns out to be dead before anything was done on it, a new connection takes its place."""
        fresh = self._connection is None
        try:
            if self._connection is None:
                self._connection = self._connected()
            self._connection.info["surefoot_write"] = write
            began = time.perf_counter()
            with self._file_lock.turn(wait) if write else nullcontext():
                if self.sqlite:
                    left = max(0.0, wait - (time.perf_counter() - began)) if write else BUSY_SECONDS
                    set_busy_timeout(self._connection, left)
                transaction = Transaction(self._connection, self.name, self._connection.begin())
            if not self.sqlite:
                if write:
                    transaction.run(sa.text(f"SET LOCAL lock_timeout = {max(1, round(1000 * wait))}"))
                transaction.lock() if lock else transaction.run(sa.select(1))
            transaction.waited = time.perf_counter() - began
            self._check_file(self._connection, "nothing was recorded")
            if self._sqlite_file is not None and not self._sqlite_file.same_log(self._connection.info):
                # Somebody deleted the log; closing the connection moves what is in it into the file.
                self._drop()
                return self._begin(write, lock, wait)
        except DBAPIError as error:
            self._drop()
            if fresh or not error.connection_invalidated:
                raise
            return self._begin(write, lock, wait)
        return transaction

    def _connected(self) -> sa.Connection:
        """A new connection; on SQLite the schema is checked first."""
        if self._sqlite_file is not None:
            self._sqlite_file.check()
        connection = self._engine.connect()
        if self._sqlite_file is not None:
            try:
                check_schema(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _drop(self) -> None:
        """Throw the connection away."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except SQLAlchemyError:
                pass  # it is gone already

    def _check_file(self, connection: sa.Connection, so: str) -> None:
        """Check that the path still names what is open.

        Raises:
            JournalError: it does not.
        """
        if self._sqlite_file is not None and not self._sqlite_file.same():
            self._drop()
            raise JournalError(
                f"{self.file} must stay where it is while it is in use, and was deleted or replaced (or its log was); {so}. Restore it, or "
                "open it again if that was meant",
                code="SF-JOURNAL-REPLACED",
            )

    # ----------------------------------------------------------------------------------------------------------- creation

    def outdated(self) -> bool:
        """Whether the tables are of an earlier format; :meth:`create` rewrites them."""
        with self._transaction(write=False) as transaction:
            return is_old(transaction.connection)

    def create(self) -> None:
        """Make the tables, if there are none; those of an earlier format are rewritten, all or none."""
        if self._sqlite_file is not None:
            self._sqlite_file.creating = True
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
            if self._sqlite_file is not None:
                self._sqlite_file.creating = False

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
                    raise explained(self.shown, error) from error
            time.sleep(0.02)
        raise JournalUnavailable(
            f"{self.shown} must support a write-ahead log, and does not; use a local disk", code="SF-JOURNAL-LOG"
        )

    def refuse_rest(self) -> None:
        """Refuse to begin a new deployment where an acknowledged one was lost.

        Raises:
            JournalError: a mark or an anchor remembers one.
        """
        self.identity.refuse_remains()
