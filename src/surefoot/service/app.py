"""The service as an ASGI application.

Operations run in threads, one at a time per deployment (it locks itself); pausing and aborting have threads of their own. Answers and errors are
JSON, errors with the library's own messages.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from surefoot.errors import (
    AssumptionError,
    ConflictError,
    InvalidInput,
    InvalidReport,
    JournalUnavailable,
    PausedError,
    SurefootError,
)
from surefoot.journal import Deployment
from surefoot.report.deployment import render
from surefoot.service.guard import BEARER, Guard, Limits, Refusal, parsed
from surefoot.service.openapi import describe
from surefoot.service.operations import KEY_HEADER, LOOKING, OPERATIONS, Call, Operation
from surefoot.service.token import Token
from surefoot.service.workers import Workers

__all__ = ["make_app", "status_of"]

STATUS_OF: tuple[tuple[type[SurefootError], int], ...] = (
    (ConflictError, 409),
    (InvalidReport, 422),
    (InvalidInput, 400),
    (PausedError, 423),
    (JournalUnavailable, 503),
    (AssumptionError, 422),
)
LARGEST_NUMBER = 2**53
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def status_of(error: SurefootError) -> int:
    """The HTTP status of a typed error; 500 for what clients cannot mend."""
    return next((status for kind, status in STATUS_OF if isinstance(error, kind)), 500)


def make_app(
    plant: Deployment,
    token: str | Sequence[Token] | None = None,
    limits: Limits | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> ASGIApp:
    """The service around one open deployment, which is closed when the service ends.

    Args:
        plant: stays usable by others.
        token: bearer token of which every request must carry one, or several with their roles; ``None`` or none only where nobody else can
            connect.
        limits: of requests; by default those of :class:`~surefoot.service.guard.Limits`.
        clock: of the rate limits.
    """
    tokens = (Token(token),) if isinstance(token, str) else tuple(token or ())
    usual, urgent = Workers(8, "operations"), Workers(4, "stops")
    pages = _Pages(plant, usual)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await urgent.run(plant.close)

    routes = [
        Route(op.path, _endpoint(plant, op, urgent if op.urgent else usual), methods=[op.method]) for op in OPERATIONS
    ]
    routes.append(Route("/report", pages.report, methods=["GET"]))
    routes.append(Route("/openapi.json", _description(bool(tokens)), methods=["GET"]))
    handlers: Any = {SurefootError: _failed, Refusal: _refused, HTTPException: _http, Exception: _unexpected}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    stops = [op.path for op in OPERATIONS if op.urgent]
    return Guard(app, tokens, Limits() if limits is None else limits, stops, clock)


Endpoint = Callable[[Request], Awaitable[Response]]


def _endpoint(plant: Deployment, operation: Operation, workers: Workers) -> Endpoint:
    async def answer(request: Request) -> Response:
        token = _allowed(request, operation.roles, f"{operation.method} {operation.path}")
        body, kind = await request.body(), request.headers.get("content-type", "")
        key, number = _key(request, operation), _number(request.path_params.get("number", "0"))

        def work() -> bytes:
            # A large body takes long to read, and so does an answer to write: not on the event loop.
            call = Call(body=_fields(body, kind, operation), key=key, number=number, by=token.by)
            return _rendered(operation.work(plant, call))

        return Response(await workers.run(work), headers=HEADERS, media_type="application/json")

    return answer


def _rendered(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def _allowed(request: Request, roles: frozenset[str], what: str) -> Token:
    """The token that a request came with.

    Raises:
        Refusal: its bearer may not do this.
    """
    token: Token = request.scope[BEARER]
    if token.role not in roles:
        raise Refusal(
            403, "Forbidden", f"{what} must come with the token of one of {', '.join(sorted(roles))}, got that of {token.by}; use another token"
        )  # fmt: skip
    return token


def _fields(body: bytes, content_type: str, operation: Operation) -> dict[str, Any]:
    """The fields of the body.

    Raises:
        Refusal: not JSON, or not these fields.
    """
    kind = content_type.partition(";")[0].strip().lower()
    # A page elsewhere on the web can make a browser send forms and plain text, but not this.
    if operation.method == "POST" and kind != "application/json":
        raise Refusal(415, "NotJSON", f"content-type must be application/json, got {ascii(kind)[:80]}")
    return operation.checked(parsed(body))


def _key(request: Request, operation: Operation) -> str | None:
    """The idempotency key: UTF-8, so that a key is the same one whichever way it comes."""
    if not operation.keyed:
        return None
    sent = dict(request.headers.raw).get(KEY_HEADER.encode())
    if not sent:
        raise Refusal(
            400, "MissingKey", f"a request to {operation.path} must carry the header {KEY_HEADER}; send a new value with every request, and the "
            "same when you repeat one that was not answered",
        )  # fmt: skip
    try:
        return sent.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(
            400, "InvalidKey", f"the header {KEY_HEADER} must be UTF-8, got {ascii(sent)[:80]}; encode it, or use ASCII"
        ) from error


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) > LARGEST_NUMBER:
        raise Refusal(404, "NotFound", f"a number must be in [0, 2^53], got {ascii(text)[:80]}")
    return int(text)


def _description(secured: bool) -> Endpoint:
    found = describe(secured)

    async def answer(request: Request) -> Response:
        return JSONResponse(found, headers=HEADERS)

    return answer


class _Pages:
    """The report page, made anew only if something happened since; one at a time, for it reads the whole journal."""

    def __init__(self, plant: Deployment, workers: Workers) -> None:
        self._plant, self._workers, self._lock = plant, workers, threading.Lock()
        self._seq, self._page = -1, ""

    async def report(self, request: Request) -> Response:
        """GET /report."""
        _allowed(request, LOOKING, "GET /report")
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        return HTMLResponse(await self._workers.run(self._made), headers={**HEADERS, "content-security-policy": policy})

    def _made(self) -> str:
        with self._lock:
            seq = self._plant.status().seq
            if seq != self._seq:
                self._page, self._seq = render(self._plant.events()), seq
            return self._page


async def _failed(request: Request, error: Exception) -> Response:
    status = status_of(error) if isinstance(error, SurefootError) else 500
    headers = {**HEADERS, **({"retry-after": "1"} if status == 503 else {})}
    return JSONResponse({"error": type(error).__name__, "message": str(error)}, status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        raise error
    headers = {**HEADERS, **dict(error.headers)}
    return JSONResponse({"error": error.kind, "message": error.message}, error.status, headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    """A mistake of the service; the guard logs it."""
    message = "the service failed; its log says more, try again"
    return JSONResponse({"error": "InternalError", "message": message}, 500, HEADERS)


async def _http(request: Request, error: Exception) -> Response:
    """What routing refuses."""
    if not isinstance(error, HTTPException):
        raise error
    known = ", ".join(f"{op.method} {op.path}" for op in OPERATIONS)
    message = f"{request.method} {ascii(request.url.path)[:80]}: {error.detail}; there are {known}, GET /report, GET /openapi.json"
    kind = error.detail.replace(" ", "") if error.detail.replace(" ", "").isalpha() else "HTTPError"
    return JSONResponse({"error": kind, "message": message}, error.status_code, {**HEADERS, **(error.headers or {})})
