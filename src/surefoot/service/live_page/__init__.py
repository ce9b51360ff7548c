"""The page about a deployment, live: a frame without data, its script and its style, which anybody may load, and the data, which need a token.

    GET /live         the frame; says nothing about the deployment
    GET /live.js      the script: asks for the state every few seconds while its tab is in sight, and replaces the sections that changed
    GET /live.css     the style of every page, and the frame's
    GET /live/state   the sections and the time since the last event, as JSON, with an ETag; 304 while nothing happened

A page cannot send a token before it is loaded, hence the frame. Its content policy allows this one script and this one style sheet, from the
service itself, and nothing else: neither other sources nor scripts or styles inside the sections, which are made of escaped text
(:mod:`surefoot.report.pages`). The token stays in the browser's tab and is sent in a header, never in a cookie or an address, so that no other page
can use it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

__all__ = ["OPEN", "POLICY", "Script", "Style", "matches", "served"]

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Script(Response):
    """A script."""

    media_type = "text/javascript"


class Style(Response):
    """A style sheet."""

    media_type = "text/css"


@dataclass(frozen=True)
class Asset:
    """What everybody gets.

    Attributes:
        summary: for readers of the description.
        kind: of the answer.
        parts: package and file of each part.
    """

    summary: str
    kind: type[Response]
    parts: tuple[tuple[str, str], ...]

    @property
    def bytes(self) -> bytes:
        """All parts."""
        return b"".join(files(package).joinpath(name).read_bytes() for package, name in self.parts)


HERE = "surefoot.service.live_page"
OPEN = {
    "/live": Asset(
        "The deployment as a page for people that stays up to date; without data.", HTMLResponse, ((HERE, "live.html"),)
    ),
    "/live.js": Asset("The script of the live page.", Script, ((HERE, "live.js"),)),
    "/live.css": Asset(
        "The style of the live page.", Style, (("surefoot.report.templates", "style.css"), (HERE, "live.css"))
    ),
}
"""Addresses that ask for no token: they say nothing about the deployment."""


@cache
def _content(path: str) -> tuple[bytes, str]:
    content = OPEN[path].bytes
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def matches(request: Request, tag: str) -> bool:
    """Whether the client has what this tag stands for."""
    given = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    return tag in given or "*" in given


def served(path: str, request: Request) -> Response:
    """The answer of one of :data:`OPEN`."""
    content, tag = _content(path)
    headers = {**HEADERS, "etag": tag}
    if matches(request, tag):
        return Response(status_code=304, headers=headers)
    return OPEN[path].kind(content, headers=headers)
