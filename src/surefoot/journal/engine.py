"""From a database URL to connections on which every commit is durable.

* SQLite: ``synchronous=FULL`` (a commit returns when it is on the disk) and ``BEGIN IMMEDIATE`` for writing. Checks that guard against a damaged or
  malicious file are on (``cell_size_check``, ``trusted_schema=OFF``).
* PostgreSQL: ``synchronous_commit`` at least ``on``, isolation level ``READ COMMITTED``.

No connection is pooled: the store holds one, and throws it away after any error.
"""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event as sa_event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from surefoot.errors import InvalidInput, JournalError, JournalUnavailable, MissingExtra
from surefoot.journal.sqlite_file import SQLiteFile, absolute

__all__ = ["explained", "make_engine", "parse_url", "set_busy_timeout"]

PRAGMAS = ("trusted_schema=OFF", "synchronous=FULL", "fullfsync=ON", "checkpoint_fullfsync=ON", "cell_size_check=ON")
DAMAGE = ("malformed", "not a database", "disk image", "Could not decode", "no such column", "no such table")
"""Parts of SQLite's and PostgreSQL's messages that mean a damaged journal."""


def parse_url(url: Any) -> sa.URL:
    """A URL that names a driver; a path becomes the URL of a SQLite file.

    Raises:
        InvalidInput: neither, or a database that this library does not support.
    """
    text = os.fspath(url) if isinstance(url, str | os.PathLike) else ""
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidInput(
            f"url must be a database URL or a path, got {text!r}; e.g. plant.db or postgresql://host/name",
            code="SF-JOURNAL-URL",
        )
    if "://" not in text:
        return sa.URL.create("sqlite", database=absolute(text))
    try:
        found = sa.make_url(text)
    except (SQLAlchemyError, ValueError) as error:
        raise InvalidInput(
            "url must be a database URL or a path, got one that cannot be read; check it", code="SF-JOURNAL-URL"
        ) from error
    if found.drivername in ("postgresql", "postgres"):
        found = found.set(drivername="postgresql+psycopg")
    if found.get_backend_name() not in ("sqlite", "postgresql"):
        raise InvalidInput(
            f"url must name SQLite or PostgreSQL, got {found.get_backend_name()}; use one of them",
            code="SF-JOURNAL-BACKEND",
        )
    if found.get_backend_name() == "sqlite" and found.database in (None, "", ":memory:"):
        raise InvalidInput(
            "url must name a file, got a database in memory, which survives nothing; give a path",
            code="SF-JOURNAL-MEMORY",
        )
    return found


def make_engine(url: sa.URL, file: SQLiteFile | None) -> sa.Engine:
    """An engine whose connections are set up as the module's docstring says.

    Args:
        url: of the database.
        file: of SQLite; ``None`` on PostgreSQL.

    Raises:
        MissingExtra: PostgreSQL's driver is not installed.
    """
    try:
        if file is not None:
            engine = sa.create_engine("sqlite://", poolclass=sa.NullPool, creator=file.connect)
        else:
            # A process that waited for the lock must see what was committed meanwhile, whatever the server's default is.
            engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="READ COMMITTED")
    except ModuleNotFoundError as error:
        raise MissingExtra("psycopg", "postgres") from error
    sa_event.listen(engine, "connect", _prepare_postgresql if file is None else _prepare_sqlite)
    if file is not None:
        sa_event.listen(engine, "begin", _begin_sqlite)
    return engine


def set_busy_timeout(connection: sa.Connection, seconds: float) -> None:
    """Set how long SQLite tries to get its lock before it gives up."""
    milliseconds = round(1000 * seconds)
    if connection.info.get("surefoot_timeout") != milliseconds:
        connection.connection.cursor().execute(f"PRAGMA busy_timeout={milliseconds}")
        connection.info["surefoot_timeout"] = milliseconds


def explained(shown: str, error: Exception) -> JournalError:
    """The library's error for an error of the database.

    Args:
        shown: name of the database for people, without a password.
        error: of SQLAlchemy or of SQLite.
    """
    text = str(error.orig if isinstance(error, DBAPIError) else error).strip().split("\n")[0]
    if any(sign in text for sign in DAMAGE) and "disk I/O" not in text:
        return JournalError(
            f"{shown} must be a sound journal, got: {text}; restore it from a copy", code="SF-JOURNAL-UNSOUND"
        )
    return JournalUnavailable(
        f"{shown} must be reachable and writable, got: {text}; mend that and try again (every operation may be repeated)",
        code="SF-JOURNAL-UNAVAILABLE",
    )


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says so
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info.get("surefoot_write") else "BEGIN")


def _prepare_postgresql(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("SHOW synchronous_commit")
    if cursor.fetchone()[0] == "off":
        cursor.execute("SET synchronous_commit TO on")
    cursor.close()
    connection.commit()
