"""The service as an ASGI application.

Operations run in threads, one at a time per deployment (it locks itself); pausing and aborting have threads of their own. Answers and errors are
JSON, errors with the library's own messages.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp

from surefoot.errors import SurefootError
from surefoot.journal import Deployment
from surefoot.journal.events import microseconds
from surefoot.report.deployment import DeploymentReport
from surefoot.report.deployment.outlook import Forecast
from surefoot.service.bodies import checked, parsed
from surefoot.service.description import Endpoint, add_operation, add_page, describe, new_app
from surefoot.service.errors import HEADERS, handlers
from surefoot.service.guard import BEARER, Guard, Limits, Refusal
from surefoot.service.live_page import OPEN, matches, served
from surefoot.service.metrics import CONTENT_TYPE, exposition
from surefoot.service.models import Body
from surefoot.service.operations import EVERYBODY, KEY_HEADER, LARGEST_NUMBER, LOOKING, OPERATIONS, Call, Operation
from surefoot.service.token import Token
from surefoot.service.workers import Workers
from surefoot.version import VERSION

__all__ = ["make_app"]


def make_app(
    plant: Deployment,
    token: str | Sequence[Token] | None = None,
    limits: Limits | None = None,
    *,
    forecast: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> ASGIApp:
    """The service around one open deployment, which is closed when the service ends.

    Args:
        plant: stays usable by others.
        token: bearer token of which every request must carry one, or several with their roles; ``None`` or none only where nobody else can
            connect.
        limits: of requests; by default those of :class:`~surefoot.service.guard.Limits`.
        forecast: what ``surefoot plan --json`` printed for the same policy set; pages then say what remains.
        clock: of the rate limits.
        wall: seconds since 1970, for the age of the last report.

    Raises:
        InvalidInput: the forecast is none, or about another policy set.
    """
    tokens = (Token(token),) if isinstance(token, str) else tuple(token or ())
    secured, usual, urgent = bool(tokens), Workers(8, "operations"), Workers(4, "stops")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await urgent.run(plant.close)

    if forecast is not None:
        Forecast.of(forecast, plant.settings.trust, plant.policy_set.hash)
    looks = ["/report", "/live", "/live.js", "/live.css", "/live/state", "/metrics", "/openapi.json"]
    addresses = [*(f"{op.method} {op.path}" for op in OPERATIONS), *(f"GET {path}" for path in looks)]
    app = new_app(lifespan=lifespan, exception_handlers=handlers(addresses))
    for operation in OPERATIONS:
        endpoint = _endpoint(plant, operation, urgent if operation.urgent else usual)
        add_operation(app, operation, endpoint, secured)
    pages = _Pages(plant, usual, lambda: describe(app, secured), forecast)
    add_page(app, "/report", "The deployment as a page for people.", pages.report(), HTMLResponse, LOOKING, secured)
    add_page(app, "/live/state", STATE, pages.state(), JSONResponse, LOOKING, secured)
    for path, asset in OPEN.items():
        add_page(app, path, asset.summary, _static(path), asset.kind, None, secured)
    add_page(app, "/metrics", METRICS, _metrics(plant, usual, wall), PlainTextResponse, LOOKING, secured)
    add_page(app, "/openapi.json", "This description.", pages.description(), JSONResponse, EVERYBODY, secured)
    stops = [op.path for op in OPERATIONS if op.urgent]
    return Guard(app, tokens, Limits() if limits is None else limits, stops, clock, public=OPEN)


METRICS = "The deployment's numbers for Prometheus, in its text exposition format 0.0.4; every sample bears the deployment's name."
STATE = (
    "The live page's sections: title, seq, at, age (seconds since the last event), said (stage and alarms in a sentence), html. Has an ETag; the "
    "answer is 304 while If-None-Match names it."
)


def _metrics(plant: Deployment, workers: Workers, wall: Callable[[], float]) -> Endpoint:
    async def answer(request: Request) -> Response:
        _allowed(request, LOOKING, "GET /metrics")
        status = await workers.run(lambda: plant.status_at_once() or plant.status())
        return Response(exposition(status, wall()), headers={**HEADERS, "content-type": CONTENT_TYPE})

    return answer


def _static(path: str) -> Endpoint:
    async def answer(request: Request) -> Response:
        return served(path, request)

    return answer


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
    """What is made once and served often: pages, made anew only if something happened since, and the description.

    Args:
        plant: whose pages they are; made one at a time, and every event is read once.
        workers: who make them.
        describe: makes the description, when it is first asked for.
        forecast: of how long the deployment takes.
    """

    def __init__(
        self,
        plant: Deployment,
        workers: Workers,
        describe: Callable[[], dict[str, Any]],
        forecast: Mapping[str, Any] | None,
    ) -> None:
        self._plant, self._workers, self._lock = plant, workers, threading.Lock()
        self._read = DeploymentReport(policy_set=plant.policy_set)
        self._page: tuple[str, str] = "", ""
        self._parts: tuple[str, dict[str, Any]] = "", {}
        self._describe, self._description, self._forecast = describe, b"", forecast

    def report(self) -> Endpoint:
        """GET /report."""

        async def report(request: Request) -> Response:
            _allowed(request, LOOKING, "GET /report")
            policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
            page = await self._workers.run(self._made)
            return HTMLResponse(page, headers={**HEADERS, "content-security-policy": policy})

        return report

    def state(self) -> Endpoint:
        """GET /live/state."""

        async def state(request: Request) -> Response:
            _allowed(request, LOOKING, "GET /live/state")
            tag, content = await self._workers.run(lambda: self._state(request))
            headers = {**HEADERS, "etag": tag}
            if content is None:
                return Response(status_code=304, headers=headers)
            return Response(content, headers=headers, media_type="application/json")

        return state

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
            status, tag = self._standing()
            if tag != self._page[0]:
                self._catch_up()
                self._page = tag, self._read.page(status=status, forecast=self._forecast)
            return self._page[1]

    def _state(self, request: Request) -> tuple[str, bytes | None]:
        """The tag, and the body where the client's is another."""
        with self._lock:
            status, tag = self._standing()
            if matches(request, tag):
                return tag, None
            if tag != self._parts[0]:
                self._catch_up()
                self._parts = tag, self._read.parts(status=status, forecast=self._forecast)
            found = self._parts[1]
        return tag, _rendered({"age": _age(found["at"]), **found})

    def _standing(self) -> tuple[dict[str, Any], str]:
        """The status, and a tag that differs if it does: it holds the number of the last event, and stops that are not in the journal yet."""
        status = self._plant.status().as_dict()
        return status, f'"{hashlib.sha256(_rendered([VERSION, status])).hexdigest()[:32]}"'

    def _catch_up(self) -> None:
        """Read the events since the last time.

        Raises:
            SurefootError: the journal cannot be read, or holds what no deployment's does; next time all is read from the first event.
        """
        try:
            self._read.read(self._plant.events(self._read.seq))
        except SurefootError:
            self._read = DeploymentReport(policy_set=self._plant.policy_set)
            raise


def _age(at: str) -> float:
    """Seconds since a time stamp of the journal; 0 for one that is none, or in the future."""
    moment = microseconds(at)
    return 0.0 if moment is None else max(0.0, round(time.time() - 1e-6 * moment, 1))
