"""An event as a row of the table of events, and back, with every check that a row must pass.

An event that does not fit its columns (an unknown kind, a time stamp in another format) is kept whole as JSON, with no ``at`` and, if its kind is
unknown, kind 0. Digests are over the text of an event (:func:`surefoot.journal.events.chained`), not over how it is stored.

What reading checks: rows follow each other without a gap; a body can be unpacked; it has the digest that follows from the event before it; the
columns by which an event is found say what its body says. The audit computes all digests itself. For it, bodies are read without computing them
here as well; then a text that is kept as JSON must be canonical, so that the text which the audit derives from a body is the text that was stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from surefoot.errors import JournalError
from surefoot.journal.events import Entry, Event, canonical, chained, microseconds, parse_text, stamp
from surefoot.journal.packing import pack, unpack, unpack_body
from surefoot.journal.tables import CODES, KINDS

__all__ = ["Row", "index_of", "read_rows", "row_of"]

Row = dict[str, Any]
Index = tuple[int | None, int | None, str | None]
"""Smallest episode id, largest where it differs, and the caller's key."""


def row_of(number: int, at: str, entry: Entry | Event, text: str, digest: str) -> Row:
    """The row of an event.

    Args:
        number: of the row.
        at: time stamp.
        entry: kind and body.
        text: canonical text of the body.
        digest: 64 hexadecimal digits.
    """
    code, moment = CODES.get(entry.kind, 0), microseconds(at)
    if code and moment is not None:
        body = pack(entry.kind, entry.body, text)
    else:
        moment, body = None, pack("", {}, canonical({"at": at, "body": text, "kind": entry.kind}))
    first, last, request = index_of(entry.kind, entry.body)
    return {
        "number": number, "at": moment, "kind": code, "body": body, "digest": bytes.fromhex(digest), "first": first, "last": last, "request": request,
    }  # fmt: skip


def read_rows(rows: Iterable[Any], base: int, seq: int, digest: str | None, *, chain: bool = True) -> list[Event]:
    """The events of consecutive rows.

    Args:
        rows: (number, at, kind, body, digest, first, last, request), in order.
        base: number of the row before the deployment's first.
        seq, digest: of the event before the first of ``rows``; a digest of ``None`` matches nothing.
        chain: whether digests are checked; ``False`` only for a reader that computes all of them itself.

    Raises:
        JournalError: any check failed; see the module's docstring.
    """
    found: list[Event] = []
    for number, at, code, data, recorded, first, last, request in rows:
        seq += 1
        if number - base != seq:
            raise JournalError(
                f"event {seq} must follow event {seq - 1}, got {number - base}; restore the journal from a copy",
                code="SF-JOURNAL-GAP",
            )
        moment, kind, body, text = _unpacked(seq, at, code, data, first, request, with_text=chain)
        held = recorded.hex() if isinstance(recorded, bytes) else ""
        if chain and (digest is None or chained(digest, seq, kind, moment, text) != held):
            raise JournalError(
                f"event {seq} must match its digest, got another: it or one before it was edited or damaged; restore the journal from a copy",
                code="SF-JOURNAL-EDITED",
            )
        digest = held
        _check_index(seq, kind, body, (first, last, request))
        found.append(Event(seq, moment, kind, body, held))
    return found


def _unpacked(
    seq: int, at: Any, code: Any, data: Any, first: Any, request: Any, *, with_text: bool
) -> tuple[str, str, dict[str, Any], str]:
    """Time, kind, body and, if it is wanted, the body's text.

    Raises:
        JournalError: :func:`row_of` makes no such row.
    """
    try:
        if at is not None:
            if not code:
                raise ValueError("no kind")
            body, text = unpack(data, first, request) if with_text else (unpack_body(data, first, request), "")
            return stamp(at), KINDS[code], body, text
        whole = unpack_body(data, first, request)
        moment, kind, text = (str(whole[name]) for name in ("at", "kind", "body"))
        if code and code != CODES.get(kind, 0):
            raise ValueError(f"kind {KINDS[code]} beside {kind}")
        body = parse_text(text)
        if not with_text and canonical(body) != text:
            raise ValueError("a text that is not canonical")
        return moment, kind, body, text
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise JournalError(
            f"event {seq} must hold what its kind can hold, got {ascii(data)[:60]} ({error}); restore the journal from a copy",
            code="SF-JOURNAL-EVENT",
        ) from error


def index_of(kind: str, body: dict[str, Any]) -> Index:
    """The columns by which an event is found."""
    if kind == "asked":
        first, n = body["first"], len(body["draws"])
        return first, first + n - 1 if n != 1 else None, body.get("request")
    if kind in ("told", "lost"):
        first, last = min(body["ids"]), max(body["ids"])
        return first, last if last != first else None, None
    return None, None, None


def _check_index(seq: int, kind: str, body: dict[str, Any], columns: Index) -> None:
    """The digest does not cover the columns by which an event is found, so that they are compared with its body.

    Raises:
        JournalError: they say something else.
    """
    try:
        right = index_of(kind, body) == columns
    except (LookupError, TypeError, ValueError):
        right = False
    if not right:
        raise JournalError(
            f"event {seq} must be indexed as its body says, got another; restore the journal from a copy",
            code="SF-JOURNAL-INDEX",
        )
