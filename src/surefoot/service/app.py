"""The service as an ASGI application.

Operations run in threads, one at a time per deployment (it locks itself); pausing and aborting have threads of their own. Answers and errors are
JSON, errors with the library's own messages.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp

from surefoot.errors import SurefootError
from surefoot.journal import Deployment
from surefoot.report.deployment import DeploymentReport
from surefoot.service.bodies import checked, parsed
from surefoot.service.description import Endpoint, add_operation, add_page, describe, new_app
from surefoot.service.errors import HEADERS, handlers
from surefoot.service.guard import BEARER, Guard, Limits, Refusal
from surefoot.service.models import Body
from surefoot.service.operations import EVERYBODY, KEY_HEADER, LARGEST_NUMBER, LOOKING, OPERATIONS, Call, Operation
from surefoot.service.token import Token
from surefoot.service.workers import Workers

__all__ = ["make_app"]


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
    secured, usual, urgent = bool(tokens), Workers(8, "operations"), Workers(4, "stops")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await urgent.run(plant.close)

    addresses = [*(f"{op.method} {op.path}" for op in OPERATIONS), "GET /report", "GET /openapi.json"]
    app = new_app(lifespan=lifespan, exception_handlers=handlers(addresses))
    for operation in OPERATIONS:
        endpoint = _endpoint(plant, operation, urgent if operation.urgent else usual)
        add_operation(app, operation, endpoint, secured)
    pages = _Pages(plant, usual, lambda: describe(app, secured))
    add_page(app, "/report", "The deployment as a page for people.", pages.report(), HTMLResponse, LOOKING, secured)
    add_page(app, "/openapi.json", "This description.", pages.description(), JSONResponse, EVERYBODY, secured)
    stops = [op.path for op in OPERATIONS if op.urgent]
    return Guard(app, tokens, Limits() if limits is None else limits, stops, clock)


def _endpoint(plant: Deployment, operation: Operation, workers: Workers) -> Endpoint:
    async def answer(request: Request) -> Response:
        token = _allowed(request, operation.roles, f"{operation.method} {operation.path}")
        body, kind = await request.body(), request.headers.get("content-type", "")
        key, number = _key(request, operation), _number(request.path_params.get("number", "0"))

        def work() -> bytes:
            # A large body takes long to read, and so does an answer to write: not on the event loop.
            call = Call(body=_read(body, kind, operation), key=key, number=number, by=token.by)
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


def _read(body: bytes, content_type: str, operation: Operation) -> Body:
    """The body.

    Raises:
        Refusal: not JSON, or not what the operation takes.
    """
    kind = content_type.partition(";")[0].strip().lower()
    # A page elsewhere on the web can make a browser send forms and plain text, but not this.
    if operation.method == "POST" and kind != "application/json":
        raise Refusal(
            415,
            "NotJSON",
            f"content-type must be application/json, got {ascii(kind)[:80]}; set the header Content-Type",
        )
    return checked(operation.body, parsed(body))


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
        raise Refusal(404, "NotFound", f"a number must be in [0, 2^53], got {ascii(text)[:80]}; check the address")
    return int(text)


class _Pages:
    """What is made once and served often: the report page, made anew only if something happened since, and the description.

    Args:
        plant: whose report it is; made one at a time, and every event is read once.
        workers: who make them.
        describe: makes the description, when it is first asked for.
    """

    def __init__(self, plant: Deployment, workers: Workers, describe: Callable[[], dict[str, Any]]) -> None:
        self._plant, self._workers, self._lock = plant, workers, threading.Lock()
        self._seq, self._page = -1, ""
        self._read = DeploymentReport(policy_set=plant.policy_set)
        self._describe, self._description = describe, b""

    def report(self) -> Endpoint:
        """GET /report."""

        async def report(request: Request) -> Response:
            _allowed(request, LOOKING, "GET /report")
            policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
            page = await self._workers.run(self._made)
            return HTMLResponse(page, headers={**HEADERS, "content-security-policy": policy})

        return report

    def description(self) -> Endpoint:
        """GET /openapi.json."""

        async def description(request: Request) -> Response:
            found = self._description or await self._workers.run(self._described)
            return Response(found, headers=HEADERS, media_type="application/json")

        return description

    def _described(self) -> bytes:
        self._description = _rendered(self._describe())
        return self._description

    def _made(self) -> str:
        with self._lock:
            status = self._plant.status()
            if status.seq != self._seq:
                try:
                    self._read.read(self._plant.events(self._read.seq))
                except SurefootError:
                    self._read = DeploymentReport(policy_set=self._plant.policy_set)  # from the first event, next time
                    raise
                self._page, self._seq = self._read.page(status=status.as_dict()), status.seq
            return self._page
