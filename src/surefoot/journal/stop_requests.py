"""Stop requests: a pause or an abort takes effect without the deployment's lock.

    leave (durable, no lock)  ->  in effect  ->  recorded as the ordinary event by the next writer  ->  removed

An operation that waits for the deployment's lock may wait as long as another process holds it, and that process may hang or be hostile. So a stop
request goes to a place of its own:

* beside a SQLite file: one file per request in the folder ``<file>-stops-...``, written under another name and renamed when it is on the disk;
* on PostgreSQL: a row of the table ``stops``, inserted over a connection of its own. No other table is touched, hence no lock that an operation on
  the deployment holds.

A process that asks for episodes holds the lock of the deployment, reads the requests, and records what it finds *before* it draws. So from the
moment that a request is there, nothing more is drawn against it, whether or not it is recorded yet. A request is removed only after its event is in
the journal. After a crash in between, the request is found again and changes nothing, because every writer reads the requests before it does
anything else. A request that cannot be read counts as a pause: somebody wanted something to stop.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from surefoot.errors import JournalUnavailable

__all__ = ["STOPS", "FileStops", "Stop", "Stops", "TableStops"]

SECONDS = 1.0
"""How long leaving a request may wait for others."""
KINDS = ("paused", "aborted")

TABLES = sa.MetaData()
STOPS = sa.Table(
    "stops",
    TABLES,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("deployment", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)


@dataclass(frozen=True)
class Stop:
    """A request to pause or to abort.

    Attributes:
        kind: of the event that it becomes, ``"paused"`` or ``"aborted"``.
        reason: for the journal.
        by: who asked for it, or ``None``.
        recorded: whether its event is in the journal. The request is in effect in either case.
    """

    kind: str
    reason: str
    by: str | None = None
    recorded: bool = False

    @property
    def state(self) -> str:
        """State of the deployment while this is in effect."""
        return self.kind

    @property
    def body(self) -> dict[str, Any]:
        """Body of its event."""
        return {"reason": self.reason, **({} if self.by is None else {"by": self.by})}

    @property
    def text(self) -> str:
        """A sentence for people."""
        said = "PAUSED: no episodes are handed out" if self.kind == "paused" else "ABORTED: the safe policy only"
        later = "" if self.recorded else "; in effect, and recorded in the journal as soon as its lock is free"
        return f"{said} ({self.reason}){later}"


Kept = dict[str, Stop]
"""Requests by key, oldest first."""


class Stops(Protocol):
    """The place where the stop requests of one deployment lie."""

    def leave(self, stop: Stop) -> None:
        """Write a request. It is in effect, and durable, when this returns.

        Raises:
            JournalUnavailable: it cannot be written.
        """

    def pending(self, connection: sa.Connection | None = None) -> Kept:
        """Requests that are not removed yet, as a transaction on ``connection`` sees them.

        Raises:
            JournalUnavailable: they cannot be read.
        """

    def remove(self, keys: Iterable[str], connection: sa.Connection | None = None) -> None:
        """Remove requests: on a server in the transaction that records them, beside a file after it."""

    def close(self) -> None:
        """Close connections."""


def _written(stop: Stop) -> str:
    return json.dumps({"kind": stop.kind, **stop.body})


def _read(text: str, where: str) -> Stop:
    try:
        found = json.loads(text)
        kind, reason, by = found["kind"], found["reason"], found.get("by")
        if kind in KINDS and isinstance(reason, str) and isinstance(by, str | None):
            return Stop(kind, reason, by)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    return Stop("paused", f"a stop request that cannot be read: {ascii(where)[-120:]}")


def _key() -> str:
    """A new key. Keys sort by time, as far as clocks agree."""
    return f"{time.time_ns():020d}-{secrets.token_hex(8)}"


class FileStops:
    """Requests as files in a folder beside a SQLite file.

    Args:
        file: path of the journal.
        name: of the deployment.
        read_only: whether the journal may only be read; then no request is written either.
    """

    def __init__(self, file: str, name: str, *, read_only: bool = False) -> None:
        self.folder = Path(f"{file}-stops-{hashlib.sha256(name.encode()).hexdigest()[:8]}")
        self._read_only = read_only

    def leave(self, stop: Stop) -> None:
        """See :class:`Stops`."""
        if self._read_only:
            raise JournalUnavailable(
                f"{self.folder.parent} must be writable, got a readonly database; open it to write",
                code="SF-JOURNAL-STOP",
            )
        key = _key()
        try:
            for attempt in range(3):
                self.folder.mkdir(exist_ok=True)
                try:
                    self._write(key, _written(stop))
                    break
                except FileNotFoundError:
                    if attempt == 2:  # another process removed the empty folder each time
                        raise
        except OSError as error:
            raise JournalUnavailable(
                f"{self.folder} must be writable to leave a stop request, got: {error}", code="SF-JOURNAL-STOP"
            ) from error

    def _write(self, key: str, text: str) -> None:
        hidden = self.folder / f".{key}"
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.write(descriptor, text.encode("utf-8"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        hidden.rename(self.folder / key)
        for folder in (self.folder, self.folder.parent):
            _synced(folder)

    def pending(self, connection: sa.Connection | None = None) -> Kept:
        """See :class:`Stops`."""
        try:
            keys = sorted(key for key in os.listdir(self.folder) if not key.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise JournalUnavailable(
                f"{self.folder} must be readable, got: {error}; stop requests may lie there", code="SF-JOURNAL-STOP"
            ) from error
        found: Kept = {}
        for key in keys:
            path = self.folder / key
            try:
                found[key] = _read(path.read_text(encoding="utf-8", errors="replace"), str(path))
            except FileNotFoundError:
                continue  # another process has just recorded and removed it
            except OSError:
                found[key] = _read("", str(path))
        return found

    def remove(self, keys: Iterable[str], connection: sa.Connection | None = None) -> None:
        """See :class:`Stops`."""
        for key in keys:
            try:
                (self.folder / key).unlink(missing_ok=True)
            except OSError:
                pass  # it stays in effect, and resume() says so
        try:
            self.folder.rmdir()
        except OSError:
            pass  # the folder holds another request, or does not exist

    def close(self) -> None:
        """See :class:`Stops`."""


def _synced(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


class TableStops:
    """Requests as rows of a table of their own on a PostgreSQL server.

    Args:
        url: of the database.
        name: of the deployment.
    """

    def __init__(self, url: sa.URL, name: str) -> None:
        self._name = name
        milliseconds = round(1000 * SECONDS)
        waits = f"-c lock_timeout={milliseconds} -c statement_timeout={2 * milliseconds}"
        options = f"{url.query.get('options', '')} {waits}".strip()
        self._engine = sa.create_engine(
            url,
            poolclass=sa.NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"options": options, "connect_timeout": 5},
        )
        self._there = False

    def leave(self, stop: Stop) -> None:
        """See :class:`Stops`."""
        row = {"id": _key(), "deployment": self._name, "body": _written(stop)}
        try:
            with self._engine.connect() as connection:
                if not self._exists(connection):
                    TABLES.create_all(connection)
                connection.execute(STOPS.insert(), row)
        except SQLAlchemyError as error:
            raise JournalUnavailable(
                f"the table stops must take a stop request, got: {str(error).splitlines()[0]}", code="SF-JOURNAL-STOP"
            ) from error

    def pending(self, connection: sa.Connection | None = None) -> Kept:
        """See :class:`Stops`."""
        if connection is None:
            try:
                with self._engine.connect() as own:
                    return self.pending(own)
            except SQLAlchemyError as error:
                raise JournalUnavailable(
                    f"the table stops must be readable, got: {str(error).splitlines()[0]}", code="SF-JOURNAL-STOP"
                ) from error
        if not self._exists(connection):
            return {}
        query = sa.select(STOPS.c.id, STOPS.c.body).where(STOPS.c.deployment == self._name).order_by(STOPS.c.id)
        return {row.id: _read(row.body, row.id) for row in connection.execute(query)}

    def _exists(self, connection: sa.Connection) -> bool:
        if not self._there:
            self._there = connection.execute(sa.select(sa.func.to_regclass("stops"))).scalar() is not None
        return self._there

    def remove(self, keys: Iterable[str], connection: sa.Connection | None = None) -> None:
        """See :class:`Stops`."""
        wanted = list(keys)
        if wanted and connection is not None:
            connection.execute(STOPS.delete().where(STOPS.c.id.in_(wanted)))

    def close(self) -> None:
        """See :class:`Stops`."""
        self._engine.dispose()
