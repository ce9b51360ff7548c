"""The bearer token: where it comes from, and how one is compared with it.

A token is never an argument of a command, where every user of the machine could read it, but comes from a file that only its owner can read, or from
an environment variable. Comparison takes the same time whatever was sent.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

from surefoot.errors import InvalidInput

__all__ = ["VARIABLE", "matches", "read_token"]

VARIABLE = "SUREFOOT_TOKEN"
SHORTEST, LONGEST = 16, 4096


def read_token(path: Path | None = None) -> str | None:
    """The token in a file, else in the environment, else ``None``.

    Raises:
        InvalidInput: the file cannot be read or is open to others, or the token is too short or not of printable ASCII.
    """
    if path is not None:
        return _checked(f"the token in {path}", _from_file(path))
    found = os.environ.get(VARIABLE)
    return None if found is None else _checked(f"the token in {VARIABLE}", found)


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(LONGEST + 3).decode("ascii", "replace")
    except OSError as error:
        raise InvalidInput(f"token file must be readable, got {error}; name another file") from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InvalidInput(
            f"token file must be closed to others, got mode {stat.S_IMODE(mode):o} of {path}; run: chmod 600 {path}"
        )
    return text.removesuffix("\n").removesuffix("\r")


def _checked(name: str, token: str) -> str:
    """What a header can carry; the token itself is never shown."""
    printable = token.isascii() and token.isprintable() and " " not in token
    if not printable or not SHORTEST <= len(token) <= LONGEST:
        raise InvalidInput(
            f"{name} must be {SHORTEST} to {LONGEST} printable ASCII characters without spaces, got {len(token)} characters; make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return token


def matches(token: str, header: bytes | None) -> bool:
    """Whether an ``Authorization`` header carries the token."""
    scheme, _, given = (header or b"").partition(b" ")
    # Digests have one length, so that not even the token's length can be told from the time it takes.
    mine, theirs = (hashlib.sha256(text).digest() for text in (token.encode("ascii"), given.strip()))
    return hmac.compare_digest(mine, theirs) and scheme.lower() == b"bearer"
