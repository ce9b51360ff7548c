"""Journals in an earlier format, rewritten in today's tables: the same events, texts and digests, in other rows.

    format 1   events(deployment, seq, at, kind, body, digest, first, last, request) as text, deployments(name), snapshots(deployment, ...)

Everything happens in the transaction that creates the tables. A crash, or an event that does not match its digest, leaves the journal as it was.
Snapshots are dropped: they are caches, and are made anew.
"""

from __future__ import annotations

import secrets
from typing import Any

import sqlalchemy as sa

from surefoot.errors import JournalError
from surefoot.journal.events import Entry, canonical, chained, parse
from surefoot.journal.rows import row_of
from surefoot.journal.tables import DEPLOYMENTS, EVENTS, METADATA, SHIFT

__all__ = ["is_old", "migrate"]

CHUNK = 2000
"""Events read at once."""
OLD = ("events", "deployments", "snapshots")
"""The tables of format 1."""


def is_old(connection: sa.Connection) -> bool:
    """Whether the tables are of format 1."""
    found = sa.inspect(connection)
    return found.has_table("events") and "seq" in {column["name"] for column in found.get_columns("events")}


def migrate(connection: sa.Connection) -> None:
    """Rewrite tables of format 1, if there are any.

    Raises:
        JournalError: an event is missing or does not match its digest.
    """
    if not is_old(connection):
        return
    found = sa.inspect(connection)
    present = [name for name in OLD if found.has_table(name)]
    for index in ("events_by_episode", "events_by_request"):
        connection.exec_driver_sql(f"DROP INDEX IF EXISTS {index}")
    if connection.dialect.name == "postgresql":  # there primary keys have names, and the new tables need the same names
        for name in present:
            connection.exec_driver_sql(f"ALTER TABLE {name} DROP CONSTRAINT {name}_pkey")
    for name in present:
        connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO {name}_format_1")
    METADATA.create_all(connection)
    names = connection.exec_driver_sql("SELECT DISTINCT deployment FROM events_format_1 ORDER BY deployment").scalars()
    for number, name in enumerate(names.all()):
        _copy(connection, number, name)
    for name in present:
        connection.exec_driver_sql(f"DROP TABLE {name}_format_1")


def _copy(connection: sa.Connection, deployment: int, name: str) -> None:
    """Copy the events of one deployment, each checked against its digest.

    Args:
        connection: to the database.
        deployment: its new id.
        name: of the deployment.

    Raises:
        JournalError: an event is missing or does not match its digest.
    """
    fresh = {"id": deployment, "name": name, "key": secrets.token_hex(16)}
    connection.execute(DEPLOYMENTS.insert(), fresh)
    query = sa.text(
        "SELECT seq, at, kind, body, digest FROM events_format_1 WHERE deployment = :name AND seq > :after ORDER BY seq LIMIT :many"
    )
    seq, digest = 0, ""
    while page := connection.execute(query, {"name": name, "after": seq, "many": CHUNK}).all():
        rows: list[dict[str, Any]] = []
        for row in page:
            seq += 1
            if (
                row.seq != seq
                or not isinstance(row.body, str)
                or chained(digest, seq, row.kind, row.at, row.body) != row.digest
            ):
                raise JournalError(
                    f"event {seq} must follow and match its digest, got another: the journal was edited or damaged and cannot be brought to this "
                    "version's format; restore it from a copy",
                    code="SF-JOURNAL-EDITED",
                )
            digest, entry = row.digest, Entry(row.kind, parse(seq, row.body))
            if canonical(entry.body) != row.body:
                raise JournalError(
                    f"event {seq} must hold the canonical text of its body, got another; restore the journal from a copy",
                    code="SF-JOURNAL-EDITED",
                )
            rows.append(row_of((deployment << SHIFT) + seq, row.at, entry, row.body, digest))
        connection.execute(EVENTS.insert(), rows)
