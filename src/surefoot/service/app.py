"""The service as an ASGI application.

Operations run in threads, one at a time per deployment (it locks itself); answers and errors are JSON, errors with the library's own messages.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
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
from surefoot.service.guard import Guard, Limits, Refusal, parsed
from surefoot.service.openapi import describe
from surefoot.service.operations import KEY_HEADER, OPERATIONS, Call, Operation

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
    token: str | None = None,
    limits: Limits | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> ASGIApp:
    """The service around one open deployment, which is closed when the service ends.

    Args:
        plant: stays usable by others.
        token: bearer token that every request must carry; ``None`` only where nobody else can connect.
        limits: of requests; by default those of :class:`~surefoot.service.guard.Limits`.
        clock: of the rate limits.
    """
    pages = _Pages(plant)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(plant.close)

    routes = [Route(op.path, _endpoint(plant, op), methods=[op.method]) for op in OPERATIONS]
    routes.append(Route("/report", pages.report, methods=["GET"]))
    routes.append(Route("/openapi.json", _description(token is not None), methods=["GET"]))
    handlers: Any = {SurefootError: _failed, Refusal: _refused, HTTPException: _http, Exception: _unexpected}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    return Guard(app, token, Limits() if limits is None else limits, clock)


Endpoint = Callable[[Request], Awaitable[Response]]


def _endpoint(plant: Deployment, operation: Operation) -> Endpoint:
    async def answer(request: Request) -> Response:
        call = Call(
            body=await _fields(request, operation),
            key=_key(request, operation),
            number=_number(request.path_params.get("number", "0")),
        )
        return JSONResponse(await run_in_threadpool(operation.work, plant, call), headers=HEADERS)

    return answer


async def _fields(request: Request, operation: Operation) -> dict[str, Any]:
    """The fields of the body.

    Raises:
        Refusal: not JSON, or not these fields.
    """
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A page elsewhere on the web can make a browser send forms and plain text, but not this.
    if operation.method == "POST" and kind != "application/json":
        raise Refusal(415, "NotJSON", f"content-type must be application/json, got {ascii(kind)[:80]}")
    return operation.checked(parsed(body))


def _key(request: Request, operation: Operation) -> str | None:
    if not operation.keyed:
        return None
    key = request.headers.get(KEY_HEADER)
    if not key:
        raise Refusal(
            400, "MissingKey", f"a request to {operation.path} must carry the header {KEY_HEADER}; send a new value with every request, and the "
            "same when you repeat one that was not answered",
        )  # fmt: skip
    return key


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

    def __init__(self, plant: Deployment) -> None:
        self._plant, self._lock = plant, threading.Lock()
        self._seq, self._page = -1, ""

    async def report(self, request: Request) -> Response:
        """GET /report."""
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        return HTMLResponse(await run_in_threadpool(self._made), headers={**HEADERS, "content-security-policy": policy})

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
