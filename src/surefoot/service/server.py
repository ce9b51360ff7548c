"""Serving: on the loopback unless told otherwise, and nowhere else without a token."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from surefoot.arrays import check_integer
from surefoot.errors import InvalidInput
from surefoot.journal import Deployment
from surefoot.service.app import make_app
from surefoot.service.guard import Limits, is_loopback
from surefoot.service.token import VARIABLE

__all__ = ["serve"]

CONNECTIONS = 64


def serve(
    plant: Deployment,
    *,
    host: str = "127.0.0.1",
    port: int = 8321,
    token: str | None = None,
    limits: Limits | None = None,
    tls_certificate: Path | None = None,
    tls_key: Path | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve a deployment until the process is told to end (SIGINT, SIGTERM).

    Args:
        plant: closed at the end.
        host, port: 0 for any free port.
        token: see :func:`~surefoot.service.token.read_token`.
        limits: of requests.
        tls_certificate, tls_key: files, to serve HTTPS.
        ready: called with the address once connections are accepted.

    Raises:
        InvalidInput: elsewhere than on the loopback without a token, or the address cannot be used.
    """
    check_integer("port", port, low=0, high=65535)
    if token is None and not is_loopback(host):
        raise InvalidInput(
            f"host must be the loopback where there is no token, got {host!r}; put a token into {VARIABLE} or a file (--token-file)"
        )
    if (tls_certificate is None) != (tls_key is None):
        raise InvalidInput("tls_certificate and tls_key must be given together, got one of them; add the other")
    listening = _bound(host, port)
    config = uvicorn.Config(
        make_app(plant, token, limits),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=CONNECTIONS,
        ssl_certfile=tls_certificate,
        ssl_keyfile=tls_key,
    )
    scheme = "http" if tls_key is None else "https"
    name = f"[{host}]" if ":" in host else host
    try:
        ready(f"{scheme}://{name}:{listening.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()


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
        listening.listen(CONNECTIONS)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise InvalidInput(
            f"host and port must be an address of this machine that is free, got {host}:{port} ({error}); choose another"
        ) from error
    return listening
