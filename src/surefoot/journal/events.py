"""The events of a journal: their kinds, their text and their chain of digests.

    digest_k = SHA-256(digest_{k-1}, k, kind_k, at_k, body_k),        digest_0 = ""

Each digest covers all events before it: an event that was edited, dropped or reordered breaks the chain from there on. Bodies are canonical JSON
(sorted keys, no spaces, ASCII, shortest floats that read back exactly), so that equal contents have equal bytes.

========== =====================================================================================================================
kind       body
========== =====================================================================================================================
opened     format, name, version, policy_set (its hash), settings, criterion, ceilings, cells, policies, margin, ledger, family, ...
recalled   reward, costs, and initial_state, transitions, signals: logged episodes of the safe policy, before the first ask; log (SHA-256 of these)
asked      first (id of the first episode), draws (policy index of each), plan (seq of the ``planned`` event drawn from), settled (how many
           episodes' evidence the bets rest on), request (the caller's key) if there was one
told       ids, reward, costs, and initial_state, transitions, signals where they were reported
lost       ids
planned    weights {policy: weight}, bounds, value, certified, reasons {policy: text}, cells_left, waiting (a plan that waits for approval),
           belief (true where the bounds are a rehearsed belief's, which prove nothing)
eliminated cells, log_wealth (where known), cells_left
readmitted cells, cells_left
target     policy, text
ramp       text: enough episodes of the safe policy fit simulation
barred     policy, text: it returns less than the safe policy in reality
noted      text
flagged    policy, text: draws seem to be discarded selectively
protocol   text: the deployment is not, or no longer, what was rehearsed, and why; data bounds alone decide from here on
stage      stage (comparing, ramping, learned, drifted, stopped), was, text, until: the deployment has come so far; only in journals whose first
           event names a stage
alarm      text
paused     reason
resumed    (empty)
capped     weight
approved   plan (seq of the ``planned`` event whose waiting plan is approved)
aborted    reason
readapted  name (of the deployment that goes on), reason: nothing is asked here any more; the other's ``opened`` has ``readapts``: name, seq and
           digest of this event, reason
degraded   event (that cannot be followed), why: from here the safe policy only
held       kind, body: what somebody caused while the deployment was degraded
recovering why: the safe policy is played while what was held happens once more, as ordinary events
recovered  refused: what of it was refused [{held, why}]; the certified mixture is played again
========== =====================================================================================================================

The kinds that people or plants cause may also hold ``by``: who did it.

``at`` is the wall clock of whoever wrote the event. Nothing depends on it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from surefoot.errors import JournalError

__all__ = [
    "COMMANDS",
    "FORMAT",
    "INERT",
    "Entry",
    "Event",
    "canonical",
    "chained",
    "microseconds",
    "now",
    "parse",
    "parse_text",
    "stamp",
]

FORMAT = 1
"""Version of the bodies."""

COMMANDS = frozenset(
    {
        "opened",
        "recalled",
        "asked",
        "told",
        "lost",
        "paused",
        "resumed",
        "capped",
        "approved",
        "aborted",
        "readapted",
        "degraded",
        "held",
        "recovering",
        "recovered",
    }
)
"""Kinds that somebody caused; all others are their consequences and follow them."""
INERT = frozenset({"degraded", "held"})
"""Kinds without consequences; those of a report before them may stand behind them."""


EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_EPOCH = EPOCH.replace(tzinfo=None)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class Entry:
    """An event that is not yet in a journal."""

    kind: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Event:
    """One line of a journal.

    Attributes:
        seq: its number, from 1 without gaps.
        at: wall-clock time in UTC (ISO 8601), for people only.
        kind: see the module's docstring.
        body: plain values.
        digest: of this event and all before it.
    """

    seq: int
    at: str
    kind: str
    body: dict[str, Any]
    digest: str = ""


def canonical(body: dict[str, Any]) -> str:
    """The canonical JSON text of ``body``; floats read back exactly.

    Raises:
        JournalError: the body holds NaN or infinity, which JSON lacks.
    """
    try:
        return _ENCODER.encode(body)
    except ValueError as error:
        raise JournalError(
            f"an event must hold finite numbers, got {error}; nothing was recorded", code="SF-JOURNAL-FINITE"
        ) from error


def parse(seq: int, text: str) -> dict[str, Any]:
    """The body of event ``seq``.

    Raises:
        JournalError: the text is no JSON object.
    """
    try:
        return parse_text(text)
    except (TypeError, ValueError) as error:
        raise JournalError(
            f"event {seq} must hold a JSON object, got {ascii(text)[:80]} ({error}); restore the journal from a copy",
            code="SF-JOURNAL-EVENT",
        ) from error


def parse_text(text: str) -> dict[str, Any]:
    """The JSON object of ``text``.

    Raises:
        TypeError, ValueError: the text is no JSON object.
    """
    try:
        body = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(body, dict):
        raise ValueError(f"it is a {type(body).__name__}")
    return body


def chained(previous: str, seq: int, kind: str, at: str, body: str) -> str:
    """Digest of an event and, through ``previous``, of all before it."""
    text = f"{previous}\n{seq}\n{kind}\n{at}\n{body}"
    # This module writes no text that UTF-8 cannot hold. Such a text must get a digest that does not match, not an error.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def now() -> str:
    """A time stamp of the wall clock, which nothing depends on."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def microseconds(at: str) -> int | None:
    """A time stamp of this module as microseconds since 1970; ``None`` for any other text."""
    try:
        moment = datetime.fromisoformat(at)
        found = (moment - EPOCH) // MICROSECOND
        return found if stamp(found) == at else None
    except (ValueError, TypeError, OverflowError):
        return None


def stamp(found: int) -> str:
    """The time stamp of so many microseconds since 1970.

    Raises:
        OverflowError: outside of what calendars hold.
    """
    # Without a time zone: a tenth of reading an event would go into asking for its offset.
    return (_EPOCH + timedelta(0, 0, found)).isoformat(timespec="microseconds") + "+00:00"
