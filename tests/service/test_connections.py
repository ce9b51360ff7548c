"""Connections: deadlines, and whose is closed when there are too many. A transport and a clock made by hand; no network and no waiting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from surefoot.service.connections import protocol
from surefoot.service.guard import Guard, Limits
from surefoot.service.token import Token

TOKEN = "a-token-of-thirty-two-characters"
LIMITS = Limits(head_seconds=10.0, body_seconds=20.0, idle_seconds=75.0, connections=3, stranger_burst=1000)
HEAD = b"GET /status HTTP/1.1\r\nHost: plant.example\r\n"
KNOWN = HEAD + f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()


class Timer:
    """What a loop's ``call_later`` returns."""

    def __init__(self, seconds: float, act: Callable[[], None]) -> None:
        self.seconds, self.act, self.cancelled = seconds, act, False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """A loop whose time passes when a test says so."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, seconds: float, act: Callable[[], None], *_: Any) -> Timer:
        self.timers.append(Timer(seconds, act))
        return self.timers[-1]

    def create_task(self, work: Any) -> Any:
        return asyncio.get_running_loop().create_task(work)


class Transport:
    """The other end of a connection."""

    def __init__(self) -> None:
        self.sent, self.closing = b"", False

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str) -> None:
        return None

    def pause_reading(self) -> None: ...

    resume_reading = pause_reading


class Crowd:
    """Connections of one service."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await self.gate.wait()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})

        self.gate = asyncio.Event()
        self.gate.set()
        self.clock, self.kind = Clock(), protocol(limits)
        self.config = uvicorn.Config(Guard(app, [Token(TOKEN)], limits), http=self.kind, lifespan="off")
        self.state = ServerState()

    def open(self) -> tuple[Any, Transport]:
        transport = Transport()
        connection: Any = self.kind(config=self.config, server_state=self.state, app_state={}, _loop=self.clock)  # type: ignore[arg-type]
        connection.connection_made(transport)
        return connection, transport

    async def asks(self, sent: bytes = KNOWN) -> tuple[Any, Transport]:
        connection, transport = self.open()
        connection.data_received(sent)
        await settled()
        return connection, transport

    def deadline(self, connection: Any) -> float | None:
        """Seconds that are left of what is awaited."""
        timer = connection._deadline
        return None if timer is None else timer.seconds


async def settled() -> None:
    """Let tasks run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


def refusal(transport: Transport) -> tuple[bytes, dict[str, str]]:
    """Status line and JSON of what was sent."""
    head, _, body = transport.sent.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    return head.split(b"\r\n")[0], json.loads(body)


def run(test: Callable[[], Any]) -> None:
    asyncio.run(test())


@pytest.mark.parametrize("sent", [b"", b"GET /status HTTP/1.1\r\nHo", HEAD])
def test_who_does_not_finish_the_headers_is_closed_with_an_answer(sent: bytes) -> None:
    async def test() -> None:
        crowd = Crowd()
        connection, transport = crowd.open()
        for k in range(len(sent)):  # a byte at a time wins no time
            connection.data_received(sent[k : k + 1])
        assert crowd.deadline(connection) == LIMITS.head_seconds
        assert sum(timer.seconds == LIMITS.head_seconds for timer in crowd.clock.timers) == 1
        connection._deadline.act()
        assert transport.closing
        line, body = refusal(transport)
        assert (line.split()[1], body["error"]) == (b"408", "TooSlow")

    run(test)


def test_a_connection_may_lie_idle_for_a_while_and_then_asks_again() -> None:
    async def test() -> None:
        crowd = Crowd()
        connection, transport = await crowd.asks()
        assert transport.sent.endswith(b"ok") and not transport.closing
        assert crowd.deadline(connection) == LIMITS.idle_seconds
        connection.data_received(KNOWN[:30])
        assert crowd.deadline(connection) == LIMITS.head_seconds
        connection.data_received(KNOWN[30:])
        await settled()
        assert transport.sent.count(b"ok") == 2
        connection._deadline.act()
        assert transport.closing

    run(test)


def test_a_body_has_a_deadline_of_its_own() -> None:
    async def test() -> None:
        crowd = Crowd()
        head = KNOWN.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 10\r\n\r\n")
        connection, transport = await crowd.asks(head + b"12345")
        assert LIMITS.body_seconds <= (crowd.deadline(connection) or 0.0) < LIMITS.body_seconds + 2.0
        connection.data_received(b"67890")
        await settled()
        assert transport.sent.endswith(b"ok")

    run(test)


def test_strangers_make_room_for_who_has_a_token() -> None:
    async def test() -> None:
        crowd = Crowd()
        strangers = [crowd.open() for _ in range(3)]
        _, owner = await crowd.asks()
        assert owner.sent.endswith(b"ok")
        assert [transport.closing for _, transport in strangers] == [True, False, False]
        assert refusal(strangers[0][1])[1]["error"] == "TooBusy"
        for _ in range(10):  # however many come
            crowd.open()
        assert not owner.closing

    run(test)


def test_a_wrong_token_makes_a_stranger() -> None:
    async def test() -> None:
        crowd = Crowd()
        wrong, right = await crowd.asks(KNOWN.replace(b"Bearer a", b"Bearer b")), await crowd.asks()
        assert b" 401 " in wrong[1].sent
        await crowd.asks()
        await crowd.asks()
        assert (wrong[1].closing, right[1].closing) == (True, False)

    run(test)


def test_of_those_with_a_token_the_one_that_lay_idle_longest_makes_room_and_none_that_is_served() -> None:
    async def test() -> None:
        crowd = Crowd()
        first, second = await crowd.asks(), await crowd.asks()
        first[0].data_received(KNOWN)
        await settled()
        crowd.gate.clear()
        served = await crowd.asks()
        await crowd.asks()
        assert [one[1].closing for one in (first, second, served)] == [False, True, False]
        first[0].data_received(KNOWN)
        await settled()
        late = crowd.open()[1]  # everybody is being served
        assert late.closing and refusal(late)[1]["error"] == "TooBusy"
        crowd.gate.set()
        await settled()
        assert served[1].sent.endswith(b"ok")

    run(test)


def test_what_is_no_http_is_refused_in_json() -> None:
    async def test() -> None:
        _, transport = await Crowd().asks(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert refusal(transport)[1]["error"] == "InvalidRequest"
        assert transport.closing

    run(test)


def test_who_goes_away_is_forgotten() -> None:
    async def test() -> None:
        crowd = Crowd()
        for _ in range(10):
            connection, _ = await crowd.asks()
            connection.connection_lost(None)
        assert not crowd.kind._crowd and not crowd.state.connections  # type: ignore[attr-defined]

    run(test)
