"""Serving: on the loopback unless told otherwise, and nowhere else without a token.

Told to end, the service stops taking connections, gives requests under way ``GRACE`` seconds, and leaves; what waits longer, for somebody else's lock
say, was not answered and is asked again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import uvicorn

from surefoot.arrays import check_integer
from surefoot.errors import InvalidInput
from surefoot.journal import Deployment, Webhook
from surefoot.service.app import make_app
from surefoot.service.connections import protocol
from surefoot.service.guard import Limits, is_loopback
from surefoot.service.token import VARIABLE, Token

if HAS_RESOURCE := find_spec("resource") is not None:
    import resource

__all__ = ["serve"]

WAITING = 1024
"""Connections that the system keeps until they are taken."""
GRACE = 2
"""Seconds for requests under way when the service is told to end."""
LARGEST_HEAD = 2**16
FILES = 2**14
"""Connections and files that are worth asking the system for."""


def serve(
    plant: Deployment,
    *,
    host: str = "127.0.0.1",
    port: int = 8321,
    token: str | Sequence[Token] | None = None,
    limits: Limits | None = None,
    tls_certificate: Path | None = None,
    tls_key: Path | None = None,
    webhooks: Sequence[Webhook] = (),
    forecast: Mapping[str, Any] | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve a deployment until the process is told to end (SIGINT, SIGTERM).

    Args:
        plant: closed at the end.
        host, port: 0 for any free port.
        token: one that everybody uses, or several; see :func:`~surefoot.service.token.read_tokens`.
        limits: of requests.
        tls_certificate, tls_key: files, to serve HTTPS.
        webhooks: are told of changes of stage, alarms, pauses and aborts while the service runs.
        forecast: what ``surefoot plan --json`` printed for the same policy set; pages then say what remains.
        ready: called with the address once connections are accepted.

    Raises:
        InvalidInput: elsewhere than on the loopback without a token, the address cannot be used, or the forecast is about something else.
    """
    port = check_integer("port", port, low=0, high=65535)
    if not token and not is_loopback(host):
        raise InvalidInput(
            f"host must be the loopback where there is no token, got {host!r}; put a token into {VARIABLE} or a file (--token-file)",
            code="SF-SERVICE-OPEN",
        )
    if (tls_certificate is None) != (tls_key is None):
        raise InvalidInput(
            "tls_certificate and tls_key must be given together, got one of them; add the other",
            code="SF-ARGUMENT-COMBINATION",
        )
    limits = _affordable(Limits() if limits is None else limits)
    listening = _bound(host, port)
    config = uvicorn.Config(
        make_app(plant, token, limits, forecast=forecast),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        http=protocol(limits),
        h11_max_incomplete_event_size=LARGEST_HEAD,
        timeout_keep_alive=max(1, round(limits.idle_seconds)),
        timeout_graceful_shutdown=GRACE,
        backlog=WAITING,
        ssl_certfile=tls_certificate,
        ssl_keyfile=tls_key,
    )
    scheme = "http" if tls_key is None else "https"
    name = f"[{host}]" if ":" in host else host
    try:
        for webhook in webhooks:
            webhook.attach(plant)
        ready(f"{scheme}://{name}:{listening.getsockname()[1]}")
        _Server(config, limits.head_seconds).run(sockets=[listening])
    finally:
        for webhook in webhooks:
            webhook.close()
        listening.close()


class _Server(uvicorn.Server):
    """One whose connections may not take long over the handshake of TLS either."""

    def __init__(self, config: uvicorn.Config, seconds: float) -> None:
        super().__init__(config)
        self._seconds = max(seconds, 0.1)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        loop = asyncio.get_running_loop()
        create = loop.create_server

        async def hurried(*arguments: Any, **options: Any) -> Any:
            if options.get("ssl") is not None:
                options["ssl_handshake_timeout"] = self._seconds
            return await create(*arguments, **options)

        loop.create_server = hurried  # type: ignore[method-assign]
        try:
            await super().startup(sockets)
        finally:
            loop.create_server = create  # type: ignore[method-assign]


def _affordable(limits: Limits) -> Limits:
    """No more connections than the system allows files, less some for the journal."""
    if not HAS_RESOURCE:
        return limits
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):
            pass  # as many as there are
    room = limits.connections if soft == resource.RLIM_INFINITY else max(16, (soft - 64) // 2)
    return replace(limits, connections=min(limits.connections, room))


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        InvalidInput: no address of this machine, or taken.
    """
    listening = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(WAITING)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise InvalidInput(
            f"host and port must be an address of this machine that is free, got {host}:{port} ({error}); choose another",
            code="SF-SERVICE-ADDRESS",
        ) from error
    return listening
