"""Connections: who may keep one open, and for how long.

    opened ----- headers within head_seconds -----> request ---- body within body_seconds ----> answer ---- idle_seconds ----> closed

A connection is a *stranger's* until a request with a token came through it. When there are more connections than the service can keep, the oldest
stranger's is closed, else the one that has lain idle longest; who is being served is never cut off. So whoever has no token cannot keep out those
who have one, however many connections they open and however little they send through them. Every refusal is JSON.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from surefoot.service.guard import CONNECTION, Limits, refusal_body

__all__ = ["protocol"]


def protocol(limits: Limits) -> type[H11Protocol]:
    """The class of the connections of one service."""
    crowd: dict[_Connection, None] = {}  # in the order of the last sign of life

    class Connection(_Connection):
        _limits, _crowd = limits, crowd

    return Connection


class _Connection(H11Protocol):
    """One connection, over HTTP/1.1."""

    _limits: Limits
    _crowd: dict[_Connection, None]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.app_state = {**self.app_state, CONNECTION: self}
        self._stranger, self._served, self._phase = True, False, ""
        self._deadline: asyncio.TimerHandle | None = None

    def admitted(self) -> None:
        """A request with a token came through."""
        self._stranger = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it in, at the cost of one that has less claim."""
        super().connection_made(transport)
        self._crowd[self] = None
        if len(self._crowd) > self._limits.connections:
            (self._least() or self)._turn_away(503, "TooBusy", "all connections are in use; try again")
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._crowd.pop(self, None)
        self._set_deadline(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, and see what is awaited next."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """See what is awaited next."""
        super().on_response_complete()
        self._served = True
        self._crowd.pop(self, None)
        if not self.transport.is_closing():
            self._crowd[self] = None
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as HTTP."""
        self._turn_away(
            400, "InvalidRequest", "a request must be HTTP/1.1 with headers of at most 64 KiB; check the client"
        )

    def _least(self) -> _Connection | None:
        """Whose connection is given up first."""
        others = [one for one in self._crowd if one is not self and not one._busy()]
        return next((one for one in others if one._stranger), others[0] if others else None)

    def _busy(self) -> bool:
        """Whether a request with a token is being served."""
        return not self._stranger and self.conn.our_state in (h11.SEND_RESPONSE, h11.SEND_BODY)

    def _watch(self) -> None:
        """Set a deadline for what is awaited, once for each."""
        if self.transport.is_closing():
            return
        phase = self._awaited()
        if phase != self._phase:
            self._phase = phase
            seconds = {
                "head": self._limits.head_seconds,
                "body": self._limits.body_seconds,
                "idle": self._limits.idle_seconds,
            }
            self._set_deadline(seconds.get(phase))

    def _awaited(self) -> str:
        theirs = self.conn.their_state
        if theirs is h11.SEND_BODY:
            return "body"
        if theirs is not h11.IDLE:
            return "answer"
        return "idle" if self._served and not self.conn.trailing_data[0] else "head"

    def _set_deadline(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        # Who is served may take a moment longer to be told so than to be cut off.
        self._deadline = (
            None if seconds is None else self.loop.call_later(seconds + 1.0 * (self._phase == "body"), self._late)
        )

    def _late(self) -> None:
        if self._phase == "idle":
            self.transport.abort()
        else:
            self._turn_away(408, "TooSlow", "a request must arrive at once; its headers or its body did not")

    def _turn_away(self, status: int, kind: str, message: str) -> None:
        """Say why, if an answer is still to come, and close."""
        self._crowd.pop(self, None)
        try:
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                body = refusal_body(kind, message)
                headers = [
                    ("content-type", "application/json"),
                    ("content-length", str(len(body))),
                    ("connection", "close"),
                ]
                parts = (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage())
                self.transport.write(b"".join(self.conn.send(part) or b"" for part in parts))
        except h11.LocalProtocolError:
            pass  # an answer is under way
        self.transport.close()
        # Who does not read the answer does not keep the connection.
        self.loop.call_later(1.0, self.transport.abort)
