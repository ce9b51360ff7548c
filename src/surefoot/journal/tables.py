"""The tables of a journal, the same on SQLite and PostgreSQL.

    events(number, at, kind, body, digest; first, last, request)       append-only; the truth; number = deployment * 2^40 + seq
    deployments(id, name, key)                                         the row to lock, on PostgreSQL; the random key identifies the journal
    policy_sets(hash, body)                                            the files that deployments were opened with
    snapshots(deployment, keeper, seq, digest, seal, body)             a cache; may be deleted at any time

``at`` is in microseconds since 1970, ``kind`` is an index into :data:`KINDS`, ``body`` is packed (:mod:`surefoot.journal.packing`), ``digest`` is in
bytes. ``first`` and ``last`` are the smallest and the largest episode id in the body (``last`` only where it differs), ``request`` is the caller's
key. They serve to find an event, and the packed body leaves them out. How an event becomes a row: :mod:`surefoot.journal.rows`.

The table of stop requests is separate, because it is written without any lock: :mod:`surefoot.journal.stop_requests`.
*Budget*: 200 bytes of file per episode that is asked and told alone, with one cost and its initial state.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from surefoot.errors import JournalError

__all__ = [
    "CODES",
    "DEPLOYMENTS",
    "EVENTS",
    "IS_ASKED",
    "IS_CLOSED",
    "KINDS",
    "METADATA",
    "POLICY_SETS",
    "SHIFT",
    "SNAPSHOTS",
    "check_schema",
]

SHIFT = 40
"""A deployment holds fewer than ``2^SHIFT`` events."""
KINDS = (
    "", "opened", "asked", "told", "lost", "planned", "eliminated", "readmitted", "target", "noted", "flagged", "alarm", "paused", "resumed",
    "capped", "approved", "aborted", "degraded", "held", "recovering", "recovered", "ramp", "barred",
    "protocol", "recalled", "stage", "readapted",
)  # fmt: skip
"""Kinds of events by number. The numbers are part of the format: add new kinds at the end. A kind that is not listed is stored with number 0."""
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
    # This type makes it SQLite's own row number, so that no second index is needed.
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("first", sa.BigInteger),
    sa.Column("last", sa.BigInteger),
    sa.Column("request", sa.Text),
)
IS_ASKED = sa.text(f"kind = {ASKED}")
IS_CLOSED = sa.text(f"kind IN ({TOLD}, {LOST})")
_IS_REQUEST = sa.text("request IS NOT NULL")
sa.Index("events_by_ask", EVENTS.c.first, sqlite_where=IS_ASKED, postgresql_where=IS_ASKED)
sa.Index("events_by_report", EVENTS.c.first, sqlite_where=IS_CLOSED, postgresql_where=IS_CLOSED)
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


def check_schema(connection: sa.Connection) -> None:
    """Refuse a SQLite file in which a name of ours is a view, or in which a trigger acts on our tables.

    Raises:
        JournalError: a view may run for ever; a trigger may write anything.
    """
    cursor: Any = connection.connection.cursor()
    names = set(METADATA.tables)
    for kind, name, table in cursor.execute("SELECT type, name, tbl_name FROM sqlite_master").fetchall():
        if (kind == "view" and name in names) or (kind == "trigger" and table in names):
            raise JournalError(
                f"{ascii(name)[:60]} must be no part of a journal, got a {kind}; the file was edited: restore the journal from a copy",
                code="SF-JOURNAL-OBJECT",
            )
