"""Errors as answers: status and JSON body of everything that is refused or fails.

A body is ``{"error": kind, "code": code, "message": text}``. Kind and code are for programs: the name of the library's exception or of the rule of
HTTP that was broken, and a code of :mod:`surefoot.error_codes`, which says more exactly which rule it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from surefoot import errors
from surefoot.errors import (
    AssumptionError,
    ConflictError,
    InvalidInput,
    InvalidReport,
    JournalUnavailable,
    PausedError,
    SurefootError,
)
from surefoot.service.guard import Refusal, code_of_kind
from surefoot.service.models import Error

__all__ = ["EVERYWHERE", "HEADERS", "STATUSES", "handlers", "responses", "status_of"]

STATUS_OF: tuple[tuple[type[SurefootError], int], ...] = (
    (ConflictError, 409),
    (InvalidReport, 422),
    (InvalidInput, 400),
    (PausedError, 423),
    (JournalUnavailable, 503),
    (AssumptionError, 422),
)
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

STATUSES: dict[int, tuple[str, tuple[str, ...]]] = {
    400: (
        "The body, the key or an argument breaks a rule; the message says which.",
        ("InvalidInput", "InvalidJSON", "InvalidBody", "UnknownField", "MissingField", "MissingKey", "InvalidKey", "InvalidRequest", "Disconnected"),
    ),
    401: ("The token is missing or wrong.", ("Unauthorized",)),
    403: ("The token's bearer may not do this.", ("Forbidden",)),
    404: ("There is no such address, episode or policy.", ("NotFound", "NoSuchEpisode", "NoSuchPolicy")),
    405: ("The address does not take this method.", ("MethodNotAllowed",)),
    408: ("The request took too long to arrive.", ("TooSlow",)),
    409: ("Contradicts what was recorded before; what was recorded stands.", ("ConflictError",)),
    413: ("The body is too large.", ("TooLarge",)),
    415: ("The body is not application/json.", ("NotJSON",)),
    421: ("Without a token only the loopback is served.", ("WrongHost",)),
    422: ("The report cannot be true; nothing was recorded and the episodes stay pending.", ("InvalidReport", "AssumptionError")),
    423: ("Paused: no episodes are handed out.", ("PausedError",)),
    429: ("Too many requests; Retry-After says how long to wait.", ("TooManyRequests",)),
    500: ("The journal is damaged, or the service failed.", ("InternalError", "JournalError", "ReplayError")),
    503: (
        "The journal is out of reach, or too much is asked at once. Whether the request was recorded shows on the next try: repeat it as it was.",
        ("JournalUnavailable", "TooBusy"),
    ),
}  # fmt: skip
"""Every status that an error may have: what it means, and the kinds of errors that have it."""

EVERYWHERE = frozenset({400, 401, 403, 405, 408, 413, 421, 429, 500, 503})
"""Those that every address may answer."""


def status_of(error: SurefootError) -> int:
    """The HTTP status of a typed error; 500 for what clients cannot mend."""
    return next((status for kind, status in STATUS_OF if isinstance(error, kind)), 500)


def responses(statuses: Iterable[int]) -> dict[int | str, dict[str, Any]]:
    """Errors of an address, as FastAPI describes them; ``default`` is there so that it adds none of its own."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted(EVERYWHERE | set(statuses)):
        meaning, kinds = STATUSES[status]
        found[status] = _response(f"{meaning} `error` is one of: {', '.join(kinds)}.", kinds[0], meaning)
        if status in (429, 503):
            note = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
            found[status]["headers"] = {"Retry-After": note}
    found["default"] = _response("Any other error.", "InternalError", STATUSES[500][0])
    return found


def _response(description: str, kind: str, message: str) -> dict[str, Any]:
    # Given in full, for FastAPI would say that a page's errors are pages.
    schema = {"$ref": f"#/components/schemas/{Error.__name__}"}
    library = getattr(errors, kind, None)
    code = code_of_kind(kind) if library is None else library.code
    return {
        "description": description,
        "content": {
            "application/json": {"schema": schema, "example": {"error": kind, "code": code, "message": message}}
        },
    }


def handlers(addresses: Iterable[str]) -> dict[Any, Any]:
    """What answers each kind of exception.

    Args:
        addresses: for whoever asks for another one.
    """
    known = ", ".join(addresses)

    async def unrouted(request: Request, error: Exception) -> Response:
        """What routing refuses."""
        if not isinstance(error, HTTPException):
            raise error
        message = f"{request.method} {ascii(request.url.path)[:80]}: {error.detail}; there are {known}"
        kind = HTTPStatus(error.status_code).phrase.replace(" ", "")
        return _answer(error.status_code, kind, message, error.headers or {})

    return {SurefootError: _failed, Refusal: _refused, HTTPException: unrouted, Exception: _unexpected}


async def _failed(request: Request, error: Exception) -> Response:
    status = status_of(error) if isinstance(error, SurefootError) else 500
    code = error.code if isinstance(error, SurefootError) else code_of_kind("InternalError")
    return _answer(status, type(error).__name__, str(error), {"retry-after": "1"} if status == 503 else {}, code)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        raise error
    return _answer(error.status, error.kind, error.message, dict(error.headers), error.code)


async def _unexpected(request: Request, error: Exception) -> Response:
    """A mistake of the service; the guard logs it."""
    return _answer(500, "InternalError", "the service failed; its log says more, try again", {})


def _answer(status: int, kind: str, message: str, headers: Any, code: str | None = None) -> Response:
    body = {"error": kind, "code": code or code_of_kind(kind), "message": message}
    return JSONResponse(body, status, {**HEADERS, **headers})
