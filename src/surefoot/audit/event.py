"""What an audit reads: events of a journal, and which of them somebody caused. Nothing of this is shared with what writes journals."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["COMMANDS", "INERT", "AuditedEvent"]

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
INERT = frozenset({"degraded", "held"})


class AuditedEvent(Protocol):
    """An event as :class:`surefoot.journal.Event` has it: number, time, kind, body, digest."""

    @property
    def seq(self) -> int: ...
    @property
    def at(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def body(self) -> dict[str, Any]: ...
    @property
    def digest(self) -> str: ...
