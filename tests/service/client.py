"""A client that calls an ASGI application without a network."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple

__all__ = ["Answer", "call", "headers_of"]

HOST = [(b"host", b"127.0.0.1:8321")]


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


def headers_of(**named: str) -> list[tuple[bytes, bytes]]:
    """``content_type="x"`` as a header."""
    return [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in named.items()]


def call(
    app: Any, method: str, path: str, body: Any = None, *, raw: bytes | list[bytes] | None = None, hang: bool = False, **named: str
) -> Answer:  # fmt: skip
    """One request; a body that is given is JSON, ``raw`` is bytes or chunks of them. ``hang``: a last chunk is announced and never comes."""
    headers = headers_of(**named)
    if "host" not in named:
        headers += HOST
    if body is not None:
        raw = json.dumps(body).encode()
        headers += [] if "content_type" in named else headers_of(content_type="application/json")
    chunks = [raw] if isinstance(raw, bytes) else list(raw or [b""])
    return asyncio.run(_call(app, method, path, headers, chunks, hang))


async def _call(
    app: Any, method: str, path: str, headers: list[tuple[bytes, bytes]], chunks: list[bytes], hang: bool
) -> Answer:
    where, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http", "path": where,
        "raw_path": where.encode(),
        "query_string": query.encode(), "root_path": "", "headers": headers, "client": ("127.0.0.1", 4000), "server": ("127.0.0.1", 8321),
    }  # fmt: skip
    waiting, sent = list(chunks), []

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()  # a client that says nothing more
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting) or hang}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert [m["type"] for m in sent[:1]] == ["http.response.start"]
    found = {name.decode().lower(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:]))
