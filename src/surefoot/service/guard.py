"""What every request passes before it reaches an operation: rate, token, size; and what no error escapes.

Requests with the token share a bucket of ``burst`` that refills at ``rate`` per second; requests without it have a small bucket of their own, so
that whoever guesses tokens slows down nobody else. A body is refused as soon as it is known to be too large, and given up when it takes too long.
Where no token is asked for (loopback only), the ``Host`` header must name the loopback too: a page in a browser of the same machine, made to resolve
its own name to 127.0.0.1, is turned away.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from surefoot.arrays import check_integer, check_real
from surefoot.service.token import matches

__all__ = ["Guard", "Limits", "Refusal", "is_loopback"]

LOG = logging.getLogger("surefoot.service")


@dataclass(frozen=True)
class Limits:
    """What clients may ask of the service.

    Attributes:
        body_bytes: largest request body.
        body_seconds: longest time it may take to arrive.
        rate, burst: requests per second with the token, and how many at once.
        stranger_rate, stranger_burst: the same without it.
    """

    body_bytes: int = 4 * 2**20
    body_seconds: float = 20.0
    rate: float = 200.0
    burst: int = 400
    stranger_rate: float = 2.0
    stranger_burst: int = 20

    def __post_init__(self) -> None:
        for name in ("body_bytes", "burst", "stranger_burst"):
            check_integer(name, getattr(self, name), low=1)
        check_real("body_seconds", self.body_seconds, low=0.0)
        for name in ("rate", "stranger_rate"):
            check_real(name, getattr(self, name), low=0.0, open_low=True)


class Refusal(Exception):
    """A request that is not served.

    Attributes:
        status: of HTTP.
        kind, message: for the body.
        headers: further ones.
    """

    def __init__(self, status: int, kind: str, message: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, tuple(headers)


class _Bucket:
    """Holds up to ``burst`` requests and refills at ``rate`` per second."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, float(burst), clock
        self._level, self._then = float(burst), clock()

    def take(self) -> float:
        """Seconds to wait; 0 if the request may pass."""
        now = self._clock()
        # Of two readings the later may be the smaller one; nobody is to pay for that.
        self._level = min(self._burst, self._level + self._rate * max(now - self._then, 0.0))
        self._then = now
        if self._level < 1.0:
            return (1.0 - self._level) / self._rate
        self._level -= 1.0
        return 0.0


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Middleware; see the module's docstring.

    Args:
        app: what is guarded.
        token: ``None`` to ask for none.
        limits: of requests.
        clock: seconds, not going backwards.
    """

    def __init__(
        self, app: ASGIApp, token: str | None, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app, self._token, self._limits = app, token, limits
        self._known = _Bucket(limits.rate, limits.burst, clock)
        self._strangers = _Bucket(limits.stranger_rate, limits.stranger_burst, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or refuse it, in JSON either way."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = False

        async def watched(message: Message) -> None:
            nonlocal began
            began = began or message["type"] == "http.response.start"
            await send(message)

        try:
            self._admit(dict(scope["headers"]))
            body = await self._body(dict(scope["headers"]), receive)
            await self._app(scope, _replayed(body, receive), watched)
        except Refusal as refusal:
            await _refuse(refusal, send)
        except Exception:
            LOG.exception("unexpected error")
            if not began:
                await _refuse(Refusal(500, "InternalError", "the service failed; its log says more, try again"), send)

    def _admit(self, headers: dict[bytes, bytes]) -> None:
        """Rate and token."""
        known = self._token is None or matches(self._token, headers.get(b"authorization"))
        wait = (self._known if known else self._strangers).take()
        if wait > 0.0:
            seconds = str(max(1, round(wait + 0.5)))
            raise Refusal(
                429,
                "TooManyRequests",
                f"requests must come more slowly; try again in {seconds} s",
                [("retry-after", seconds)],
            )
        if not known:
            raise Refusal(
                401, "Unauthorized", "a request must carry the header 'Authorization: Bearer <token>' with the service's token",
                [("www-authenticate", "Bearer")],
            )  # fmt: skip
        if self._token is None:
            _check_host(headers.get(b"host", b"").decode("latin-1"))

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """All of the body.

        Raises:
            Refusal: too large, or too slow.
        """
        largest = self._limits.body_bytes
        too_large = Refusal(413, "TooLarge", f"a body must hold at most {largest} bytes; report fewer episodes at once")
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced[:20]) > largest:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "Disconnected", "the client went away before its body was complete")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > largest:
                        raise too_large
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError as error:
            raise Refusal(408, "TooSlow", f"a body must arrive within {self._limits.body_seconds:g} s") from error


def _check_host(header: str) -> None:
    name = header.rsplit("]", 1)[0] + "]" if header.startswith("[") else header.partition(":")[0]
    if not is_loopback(name):
        raise Refusal(
            421, "WrongHost", f"without a token the Host header must be localhost or a loopback address, got {ascii(header)[:80]}; use that name"
        )  # fmt: skip


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once, then whatever comes."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = json.dumps({"error": refusal.kind, "message": refusal.message}).encode()
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    headers += [(name.encode(), value.encode("latin-1")) for name, value in refusal.headers]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def parsed(body: bytes) -> Any:
    """The JSON in a body; an empty one is an empty object.

    Raises:
        Refusal: no JSON.
    """

    def no_number(text: str) -> Any:
        raise ValueError(f"{text} is no JSON number")

    try:
        return json.loads(body.decode("utf-8") or "{}", parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "InvalidJSON", f"a body must hold JSON, got: {ascii(str(error))[:200]}") from error
