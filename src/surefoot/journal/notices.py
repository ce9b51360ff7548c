"""What is worth telling somebody at once: changes of stage, alarms, pauses, aborts and what ends them.

A notice is made from an event that is in the journal, and from nothing else: whoever makes it, and however often, its id is the same. The stage
that it names is the one after everything that the event led to. It can be had on the way, while the journal is followed (:func:`noticed`), or looked
up later (:func:`look_up`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from surefoot.deploy.stages import DRIFTED, STOPPED
from surefoot.journal.events import COMMANDS, Entry, Event
from surefoot.journal.tables import CODES, EVENTS, IS_ASKED, SHIFT
from surefoot.journal.transaction import Transaction

__all__ = ["NOTICED", "Notice", "Noticed", "journal_id", "look_up", "named", "noticed"]

_TEXTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "stage": lambda body: str(body["text"]),
    "alarm": lambda body: str(body["text"]),
    "protocol": lambda body: str(body["text"]),
    "paused": lambda body: str(body["reason"]),
    "resumed": lambda body: "the pause is over",
    "aborted": lambda body: str(body["reason"]),
    "readapted": lambda body: f"deployment {body['name']!r} goes on after this one: {body['reason']}",
    "degraded": lambda body: f"event {body['event']} cannot be followed: {body['why']}",
    "recovered": lambda body: "the journal is followed again",
}
NOTICED = frozenset(_TEXTS)
"""Kinds of events that make a notice."""
_CODES = sorted(CODES[kind] for kind in (*NOTICED, "held"))


@dataclass(frozen=True)
class Notice:
    """Something that happened.

    Attributes:
        id: the same for the same event of the same journal, whoever tells of it.
        deployment: its name.
        event: kind of the event, one of :data:`NOTICED`.
        seq: its number.
        stage: of the deployment, after what the event led to; empty where the journal records none and it is looked up later.
        episode: how many episodes had been asked; where it is looked up later, without those that a degraded deployment handed out.
        text: in plain words.
    """

    id: str
    deployment: str
    event: str
    seq: int
    stage: str
    episode: int
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


Noticed = tuple[int, str, str, int, str]
"""A notice without the journal's id and name: number, kind, stage, episode, text."""


def noticed(seq: int, entry: Entry | Event, stage: Callable[[], str], episode: int) -> Noticed | None:
    """What is to be told of an event, if anything; the stage is looked at only then."""
    kind, body = entry.kind, entry.body
    if kind == "held":  # of what is held only stops take effect at once
        kind, body = body["kind"], body["body"]
    return (seq, kind, stage(), episode, _TEXTS[kind](body)) if kind in NOTICED else None


def named(found: Noticed, name: str, key: str) -> Notice:
    """The notice, of the journal with this random key."""
    seq, kind, stage, episode, text = found
    return Notice(f"{journal_id(key)}-{seq}", name, kind, seq, stage, episode, text)


def journal_id(key: str) -> str:
    """Which journal it is, for others. The random key itself is not shown: marks and anchors are recognised by it."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def look_up(transaction: Transaction, since: int, many: int) -> list[Noticed]:
    """At most so many notices after event ``since``, from the journal; only events that make one are read, and their neighbours.

    Raises:
        JournalError: such an event is damaged.
    """
    if not transaction.located() or transaction.base is None:
        return []
    base = transaction.base
    query = sa.select(EVENTS.c.number).where(
        EVENTS.c.number > base + since, EVENTS.c.number < base + 2**SHIFT, EVENTS.c.kind.in_(_CODES)
    )
    found: list[Noticed] = []
    for number in transaction.run(query.order_by(EVENTS.c.number)).scalars():
        seq = int(number) - base
        event = transaction.event(seq)
        if event is None:
            continue
        made = noticed(seq, event, lambda event=event: _stage(transaction, event), _asked(transaction, seq))  # type: ignore[misc]
        if made is not None:
            found.append(made)
        if len(found) == many:
            break
    return found


def _asked(transaction: Transaction, seq: int) -> int:
    """How many episodes had been asked before event ``seq``."""
    event = _before(transaction, seq, IS_ASKED)
    return 0 if event is None else int(event.body["first"]) + len(event.body["draws"])


def _stage(transaction: Transaction, event: Event) -> str:
    """The stage that the journal records after everything that an event led to."""
    if event.kind in ("degraded", "held"):
        return STOPPED
    for later in [event, *transaction.page(event.seq, many=8)]:
        if later.kind == "stage":
            return str(later.body["stage"])
        if later.kind in COMMANDS and later.seq > event.seq:
            break
    last = _before(transaction, event.seq, EVENTS.c.kind == CODES["stage"]) or transaction.first()
    recorded = None if last is None else last.body.get("stage")
    stage = str(recorded.get("stage", "") if isinstance(recorded, dict) else recorded or "")
    return STOPPED if event.kind == "aborted" and stage != DRIFTED else stage


def _before(transaction: Transaction, seq: int, condition: Any) -> Event | None:
    """The last event before number ``seq`` of which a condition holds."""
    if transaction.base is None:
        return None
    query = sa.select(EVENTS.c.number).where(
        EVENTS.c.number > transaction.base, EVENTS.c.number < transaction.base + seq, condition
    )
    number = transaction.run(query.order_by(EVENTS.c.number.desc()).limit(1)).scalar()
    return None if number is None else transaction.event(int(number) - transaction.base)
