"""Stop requests: what ``abort`` and ``pause`` leave where no lock is needed, and where whoever hands out episodes looks first.

    leave (durable, without the deployment's lock)  ->  in effect  ->  recorded as the ordinary event by whoever writes next  ->  removed

An operation that waits for the deployment's lock may wait as long as somebody else holds it: a client that hangs, or means harm. So a stop request
goes to a place of its own:

* beside a SQLite file: a file in the folder ``<file>-stops-...``, one per request, written under another name and renamed when it is on the disk;
* on PostgreSQL: a row of the table ``stops``, inserted over a connection of its own. No other table is touched, hence no lock that an operation on
  the deployment holds.

Whoever asks for episodes holds the lock of the deployment, looks here, and records what it finds *before* it draws. So from the moment a request is
there, nothing more is drawn against it, whether or not it is recorded yet. A request is removed only after its event is in the journal: a crash in
between leaves a request that changes nothing when it is met again, for every writer meets it before it does anything else. A request that cannot
be read counts as a pause: somebody wanted something to stop.
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
"""A request waits no longer for anybody else."""
STATES = {"paused": "paused", "aborted": "aborted"}

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
    """A pause or an abort.

    Attributes:
        kind: of the event it becomes, ``"paused"`` or ``"aborted"``.
        reason: for the journal.
        by: who asked for it, or ``None``.
        recorded: whether its event is in the journal; in effect it is either way.
    """

    kind: str
    reason: str
    by: str | None = None
    recorded: bool = False

    @property
    def state(self) -> str:
        """Of the deployment, once this is in effect."""
        return STATES[self.kind]

    @property
    def body(self) -> dict[str, Any]:
        """Of its event."""
        return {"reason": self.reason, **({} if self.by is None else {"by": self.by})}

    @property
    def text(self) -> str:
        """For people."""
        said = "PAUSED: no episodes are handed out" if self.kind == "paused" else "ABORTED: the safe policy only"
        later = "" if self.recorded else "; in effect, and recorded in the journal as soon as its lock is free"
        return f"{said} ({self.reason}){later}"


Kept = dict[str, Stop]
"""Requests by key, oldest first."""


class Stops(Protocol):
    """Where the stop requests of one deployment lie."""

    def leave(self, stop: Stop) -> None:
        """Put a request down; it is in effect, and durable, when this returns.

        Raises:
            JournalUnavailable: it cannot be written.
        """

    def pending(self, connection: sa.Connection | None = None) -> Kept:
        """Requests that are not yet removed, as seen from a transaction on ``connection``."""

    def remove(self, keys: Iterable[str], connection: sa.Connection | None = None) -> None:
        """Forget requests: in the transaction that records them on a server, after it beside a file."""

    def close(self) -> None:
        """Let go of what is held."""


def _written(stop: Stop) -> str:
    return json.dumps({"kind": stop.kind, **stop.body})


def _read(text: str, where: str) -> Stop:
    try:
        found = json.loads(text)
        kind, reason, by = found["kind"], found["reason"], found.get("by")
        if kind in STATES and isinstance(reason, str) and isinstance(by, str | None):
            return Stop(kind, reason, by)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    return Stop("paused", f"a stop request that cannot be read: {ascii(where)[-120:]}")


def _key() -> str:
    """Sorts by time, as far as clocks agree."""
    return f"{time.time_ns():020d}-{secrets.token_hex(8)}"


class FileStops:
    """Files in a folder beside a SQLite file.

    Args:
        file: of the journal.
        name: of the deployment.
        readable: whether the journal may only be read; then no request is left either.
    """

    def __init__(self, file: str, name: str, *, readable: bool = False) -> None:
        self.folder = Path(f"{file}-stops-{hashlib.sha256(name.encode()).hexdigest()[:8]}")
        self._readable = readable

    def leave(self, stop: Stop) -> None:
        """See :class:`Stops`."""
        if self._readable:
            raise JournalUnavailable(
                f"{self.folder.parent} must be writable, got a readonly database; open it to write"
            )
        key = _key()
        try:
            for attempt in range(3):
                self.folder.mkdir(exist_ok=True)
                try:
                    self._write(key, _written(stop))
                    break
                except FileNotFoundError:
                    if attempt == 2:  # somebody removed the empty folder again and again
                        raise
        except OSError as error:
            raise JournalUnavailable(f"{self.folder} must be writable to leave a stop request, got: {error}") from error

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
                f"{self.folder} must be readable, got: {error}; stop requests may lie there"
            ) from error
        found: Kept = {}
        for key in keys:
            path = self.folder / key
            try:
                found[key] = _read(path.read_text(encoding="utf-8", errors="replace"), str(path))
            except FileNotFoundError:
                continue  # recorded and removed at this moment
            except OSError:
                found[key] = _read("", str(path))
        return found

    def remove(self, keys: Iterable[str], connection: sa.Connection | None = None) -> None:
        """See :class:`Stops`."""
        for key in keys:
            try:
                (self.folder / key).unlink(missing_ok=True)
            except OSError:
                pass  # it stays in effect, and whoever resumes is told
        try:
            self.folder.rmdir()
        except OSError:
            pass  # another request came, or nobody left one

    def close(self) -> None:
        """See :class:`Stops`."""


def _synced(folder: Path) -> None:
    """Make names in a folder durable, where the system can."""
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
    """Rows of a table of their own on a server.

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

    def prepare(self) -> None:
        """Make the table, unless it is there; a journal of an earlier version has none."""
        with self._engine.connect() as connection:
            TABLES.create_all(connection)

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
                f"the table stops must take a stop request, got: {str(error).splitlines()[0]}"
            ) from error

    def pending(self, connection: sa.Connection | None = None) -> Kept:
        """See :class:`Stops`."""
        if connection is None:
            try:
                with self._engine.connect() as own:
                    return self.pending(own)
            except SQLAlchemyError as error:
                raise JournalUnavailable(
                    f"the table stops must be readable, got: {str(error).splitlines()[0]}"
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
