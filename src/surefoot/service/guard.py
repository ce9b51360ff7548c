"""What every request passes before it reaches an operation: token, rate, size; and what no error escapes.

Every token has a bucket of ``burst`` requests that refills at ``rate`` per second, and all requests without a token share a small one, so that
whoever floods or guesses slows down nobody else. At most ``running`` requests and ``bytes_at_once`` bytes of bodies are held at a time; only
requests with a token count. Pausing and aborting are asked for rarely and must never wait: with a token they pass whatever others do. A body is
refused as soon as it is known to be too large, and given up when it takes too long. Where no token is asked for (loopback only), the ``Host`` header
must name the loopback too: a page in a browser of the same machine, made to resolve its own name to 127.0.0.1, is turned away.

A few addresses are *public*: they say nothing about the deployment and ask for no token, because a browser has none to send before it has loaded a
page. Their requests take from the bucket of those without a token, their bodies are not read, and they do not make a connection a known one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from surefoot.arrays import check_integer, check_real
from surefoot.service.token import Token, bearer

__all__ = ["BEARER", "CONNECTION", "Guard", "Limits", "Refusal", "code_of_kind", "is_loopback", "refusal_body"]

LOG = logging.getLogger("surefoot.service")

LARGEST_BODY = 2**26
"""JSON of so many bytes takes twenty times the memory once it is read; no report needs more."""
BEARER, CONNECTION = "surefoot.bearer", "surefoot.connection"
"""Keys of a request's scope and state: who sent it, and the connection that it came through."""
ANYBODY = Token("", "owner")
NOBODY = Token("", "nobody")
"""Who may load a public page: a role that nothing else is for."""

CODES = {
    "Disconnected": "SF-HTTP-DISCONNECTED",
    "Forbidden": "SF-HTTP-ROLE",
    "InternalError": "SF-HTTP-INTERNAL",
    "InvalidBody": "SF-HTTP-BODY",
    "InvalidJSON": "SF-HTTP-JSON",
    "InvalidKey": "SF-HTTP-KEY",
    "MethodNotAllowed": "SF-HTTP-METHOD",
    "MissingField": "SF-HTTP-MISSING",
    "MissingKey": "SF-HTTP-KEY",
    "NoSuchEpisode": "SF-REPORT-UNKNOWN",
    "NoSuchPolicy": "SF-HTTP-ADDRESS",
    "NotFound": "SF-HTTP-ADDRESS",
    "NotJSON": "SF-HTTP-TYPE",
    "TooBusy": "SF-HTTP-BUSY",
    "TooLarge": "SF-HTTP-LARGE",
    "TooManyRequests": "SF-HTTP-RATE",
    "TooSlow": "SF-HTTP-SLOW",
    "Unauthorized": "SF-HTTP-TOKEN",
    "UnknownField": "SF-HTTP-UNKNOWN",
    "WrongHost": "SF-HTTP-HOST",
}
"""Codes of the rules of HTTP and of requests, by the kind of the refusal."""


def code_of_kind(kind: str) -> str:
    """The code of a refusal of this kind."""
    return CODES.get(kind, "SF-HTTP-REQUEST")


@dataclass(frozen=True)
class Limits:
    """What clients may ask of the service.

    Attributes:
        body_bytes: largest request body.
        body_seconds: longest time it may take to arrive.
        head_seconds: longest time between a connection's opening, or the first byte of a further request, and the end of the request's headers.
        idle_seconds: how long a connection may lie idle between requests.
        rate, burst: requests per second with a token, and how many at once; for each token.
        stranger_rate, stranger_burst: the same for all requests without a token together.
        running, bytes_at_once: requests with a token that are served at a time, and bytes of their bodies.
        connections: open at a time. When there are more, the oldest without a token is closed, else the one that has lain idle longest.
    """

    body_bytes: int = 4 * 2**20
    body_seconds: float = 20.0
    head_seconds: float = 10.0
    idle_seconds: float = 75.0
    rate: float = 200.0
    burst: int = 400
    stranger_rate: float = 2.0
    stranger_burst: int = 20
    running: int = 256
    bytes_at_once: int = LARGEST_BODY
    connections: int = 512

    def __post_init__(self) -> None:
        object.__setattr__(self, "body_bytes", check_integer("body_bytes", self.body_bytes, low=1, high=LARGEST_BODY))
        for name in ("burst", "stranger_burst", "running", "connections"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=1))
        object.__setattr__(
            self, "bytes_at_once", check_integer("bytes_at_once", self.bytes_at_once, low=self.body_bytes)
        )
        for name in ("body_seconds", "head_seconds", "idle_seconds"):
            object.__setattr__(self, name, check_real(name, getattr(self, name), low=0.0))
        for name in ("rate", "stranger_rate"):
            object.__setattr__(self, name, check_real(name, getattr(self, name), low=0.0, open_low=True))


class Refusal(Exception):
    """A request that is not served.

    Attributes:
        status: of HTTP.
        kind, code, message: for the body; without a code that of the kind stands.
        headers: further ones.
    """

    def __init__(
        self, status: int, kind: str, message: str, headers: Iterable[tuple[str, str]] = (), *, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, tuple(headers)
        self.code = code or code_of_kind(kind)


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
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Middleware; see the module's docstring.

    Args:
        app: what is guarded.
        tokens: none to ask for none.
        limits: of requests.
        urgent: paths of POST requests that pass whatever others do.
        clock: seconds, not going backwards.
        public: paths of GET and HEAD requests that need no token.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Sequence[Token],
        limits: Limits,
        urgent: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
        public: Iterable[str] = (),
    ) -> None:
        self._public = frozenset(public)
        self._app, self._tokens, self._limits, self._urgent = app, tuple(tokens), limits, frozenset(urgent)
        known = self._tokens or (ANYBODY,)
        self._known = {token.text: _Bucket(limits.rate, limits.burst, clock) for token in known}
        self._strangers = _Bucket(limits.stranger_rate, limits.stranger_burst, clock)
        self._running = self._bytes = 0

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
            await self._serve(scope, receive, watched)
        except Refusal as refusal:
            await _refuse(refusal, send)
        except asyncio.CancelledError:
            if began:
                raise
            await _refuse(_busy("the service is told to end before this was answered"), send)
        except Exception:
            LOG.exception("unexpected error")
            if not began:
                await _refuse(Refusal(500, "InternalError", "the service failed; its log says more, try again"), send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        urgent = scope["method"] == "POST" and scope["path"] in self._urgent
        public = scope["method"] in ("GET", "HEAD") and scope["path"] in self._public
        token = self._admitted(dict(scope["headers"]), urgent, public)
        if public:
            await self._app({**scope, BEARER: token}, _replayed(b"", receive), send)
            return
        connection = scope.get("state", {}).get(CONNECTION)
        if connection is not None:
            connection.admitted()
        if not urgent and self._running >= self._limits.running:
            raise _busy(f"at most {self._limits.running} requests are served at a time")
        self._running += not urgent
        held = 0
        try:
            body = await self._body(dict(scope["headers"]), receive, urgent)
            held = len(body)
            self._bytes += held
            await self._app({**scope, BEARER: token}, _replayed(body, receive), send)
        finally:
            self._running -= not urgent
            self._bytes -= held

    def _admitted(self, headers: dict[bytes, bytes], urgent: bool, public: bool) -> Token:
        """Token and rate."""
        token = bearer(self._tokens, headers.get(b"authorization")) if self._tokens else ANYBODY
        wait = (self._strangers if token is None else self._known[token.text]).take()
        if wait > 0.0 and (token is None or not urgent):
            seconds = str(max(1, round(wait + 0.5)))
            raise Refusal(
                429,
                "TooManyRequests",
                f"requests must come more slowly; try again in {seconds} s",
                [("retry-after", seconds)],
            )
        if token is None and public:
            return NOBODY
        if token is None:
            raise Refusal(
                401, "Unauthorized", "a request must carry the header 'Authorization: Bearer <token>' with the service's token",
                [("www-authenticate", "Bearer")],
            )  # fmt: skip
        if not self._tokens:
            _check_host(headers.get(b"host", b"").decode("latin-1"))
        return token

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, urgent: bool) -> bytes:
        """All of the body.

        Raises:
            Refusal: too large, or too slow.
        """
        largest = self._limits.body_bytes
        too_large = Refusal(413, "TooLarge", f"a body must hold at most {largest} bytes; report fewer episodes at once")
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced[:20]) > largest:
            raise too_large
        parts, size, room = [], 0, self._limits.bytes_at_once - self._bytes
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
                    if size > room and not urgent:
                        raise _busy("the bodies of other requests fill the memory set aside for them")
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError as error:
            raise Refusal(408, "TooSlow", f"a body must arrive within {self._limits.body_seconds:g} s") from error


def _busy(why: str) -> Refusal:
    return Refusal(503, "TooBusy", f"{why}; try again", [("retry-after", "1")])


HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?")
"""A name or an address, and perhaps a port; nothing may follow a bracket but that."""


def _check_host(header: str) -> None:
    found = HOST.fullmatch(header)
    if found is None or not is_loopback(found[1]):
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


def refusal_body(kind: str, message: str, code: str | None = None) -> bytes:
    """The JSON of a refusal; without a code that of the kind stands."""
    return json.dumps({"error": kind, "code": code or code_of_kind(kind), "message": message}).encode()


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = refusal_body(refusal.kind, refusal.message, refusal.code)
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    headers += [(name.encode(), value.encode("latin-1")) for name, value in refusal.headers]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
