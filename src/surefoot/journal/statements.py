"""The statements of every operation, compiled once per database dialect instead of once per execution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from surefoot.journal.tables import DEPLOYMENTS, EVENTS, SHIFT

__all__ = ["DIGEST", "IDENTITY", "INSERT", "PAGE", "REQUEST"]


class Prepared:
    """A statement whose text is kept per dialect.

    Args:
        statement: of SQLAlchemy, with named parameters.
        columns: that an INSERT fills.
    """

    def __init__(self, statement: Any, columns: Sequence[str] | None = None) -> None:
        self._statement, self._columns = statement, columns
        self._texts: dict[str, tuple[str, dict[str, Any], list[str] | None]] = {}

    def run(self, connection: sa.Connection, values: Any) -> sa.CursorResult[Any]:
        """Execute with the parameters of one row (a dict) or of several (a list of dicts)."""
        text, usual, order = self._texts.get(connection.dialect.name) or self._compiled(connection.dialect)
        several = isinstance(values, list)
        values = [_placed(row, usual, order) for row in values] if several else _placed(values, usual, order)
        result: sa.CursorResult[Any] = connection.exec_driver_sql(text, values)
        return result

    def _compiled(self, dialect: sa.Dialect) -> tuple[str, dict[str, Any], list[str] | None]:
        found = self._statement.compile(dialect=dialect, column_keys=self._columns)
        usual = {name: value for name, value in found.params.items() if value is not None}
        self._texts[dialect.name] = str(found), usual, list(found.positiontup) if found.positional else None
        return self._texts[dialect.name]


def _placed(values: dict[str, Any], usual: dict[str, Any], order: list[str] | None) -> Any:
    """Parameters by position or by name; those that are not given have the values that the statement was made with."""
    if order is None:
        return {**usual, **values}
    return tuple([values.get(name, usual.get(name)) for name in order])


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
_AT: sa.BindParameter[int] = sa.bindparam("at_number")
_KEY: sa.BindParameter[str] = sa.bindparam("key")
_LAST_SEEN = sa.select(EVENTS.c.digest).where(
    EVENTS.c.number == DEPLOYMENTS.c.id * sa.literal_column(str(2**SHIFT)) + _SEEN
)

PAGE = Prepared(
    sa.select(*_ROW).where(EVENTS.c.number > _AFTER, EVENTS.c.number < _END).order_by(EVENTS.c.number).limit(_LIMIT)
)
"""At most ``many`` rows with numbers between ``after`` and ``end``, both left out."""
DIGEST = Prepared(sa.select(EVENTS.c.digest).where(EVENTS.c.number == _AT))
"""Digest of the row ``at_number``."""
REQUEST = Prepared(
    sa.select(EVENTS.c.number)
    .where(EVENTS.c.number > _AFTER, EVENTS.c.number < _END, EVENTS.c.request == _KEY)
    .limit(1)
)
"""Number of the row between ``after`` and ``end``, both left out, that answered the request ``key``."""
INSERT = Prepared(EVENTS.insert(), [column.name for column in EVENTS.columns])
"""Rows of events."""
IDENTITY = Prepared(
    sa.select(
        DEPLOYMENTS.c.id, DEPLOYMENTS.c.key, _LAST_SEEN.correlate(DEPLOYMENTS).scalar_subquery().label("digest")
    ).where(DEPLOYMENTS.c.name == _NAMED)
)
"""Id and key of the deployment ``named``, and the digest of its event ``seen``."""
