"""Bearer tokens: where they come from, what their bearers may do, and how one is compared with them.

    owner       everything
    robot       ask, tell, lost; reads what a controller needs
    operator    pause, resume, cap, abort, approve; reads everything
    reader      reads everything

A token is never an argument of a command, where every user of the machine could read it, but comes from a file that only its owner can read, or from
an environment variable. A file holds one token, the owner's, or one line ``ROLE NAME TOKEN`` for each bearer; the journal then says who did what.
Comparison takes the same time whatever was sent.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from surefoot.errors import InvalidInput

__all__ = ["OWNER", "ROLES", "VARIABLE", "WEBHOOK_VARIABLE", "Token", "bearer", "read_tokens", "read_webhook_key"]

VARIABLE, WEBHOOK_VARIABLE = "SUREFOOT_TOKEN", "SUREFOOT_WEBHOOK_KEY"
SHORTEST, LONGEST = 16, 4096
LARGEST_FILE = 2**20
OWNER = "owner"
ROLES = (OWNER, "robot", "operator", "reader")
LONGEST_NAME = 40


@dataclass(frozen=True)
class Token:
    """A secret and its bearer.

    Attributes:
        text: the secret; never shown.
        role: one of :data:`ROLES`.
        name: of the bearer, for the journal; empty where a file or variable holds nothing but a token.
    """

    text: str = field(repr=False)
    role: str = OWNER
    name: str = ""

    @property
    def by(self) -> str | None:
        """What the journal says about who did it."""
        return f"{self.role} {self.name}" if self.name else None


def read_tokens(path: Path | None = None) -> tuple[Token, ...]:
    """The tokens in a file, else the one in the environment, else none.

    Raises:
        InvalidInput: the file cannot be read, is no plain file, is open to others or belongs to somebody else; a token is too short or not of
            printable ASCII; a line is no ``ROLE NAME TOKEN``; a name or a token stands twice.
    """
    if path is not None:
        return _listed(path, _from_file(path))
    found = os.environ.get(VARIABLE)
    return () if found is None else (Token(_checked(f"the token in {VARIABLE}", found)),)


def read_webhook_key(path: Path | None = None) -> str | None:
    """The key in a file, else the one in the environment, else none: what webhooks are signed with. Its rules are those of tokens.

    Raises:
        InvalidInput: as for :func:`read_tokens`.
    """
    if path is not None:
        return _checked(f"the key in {path}", _from_file(path).removesuffix("\n").removesuffix("\r"))
    found = os.environ.get(WEBHOOK_VARIABLE)
    return None if found is None else _checked(f"the key in {WEBHOOK_VARIABLE}", found)


def _from_file(path: Path) -> str:
    try:
        # Opening a pipe would wait for whoever writes into it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with os.fdopen(descriptor, "rb") as file:
            _check_file(path, os.fstat(file.fileno()))
            text = file.read(LARGEST_FILE + 1).decode("ascii", "replace")
    except OSError as error:
        raise InvalidInput(
            f"token file must be readable, got {error}; name another file", code="SF-SERVICE-TOKEN-READ"
        ) from error
    if len(text) > LARGEST_FILE:
        raise InvalidInput(
            f"token file must hold at most {LARGEST_FILE} bytes, got more in {path}; name another file",
            code="SF-SERVICE-TOKEN-FILE",
        )
    return text


def _check_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise InvalidInput(
            f"token file must be a plain file, got a pipe, device or folder at {path}; name a file",
            code="SF-SERVICE-TOKEN-FILE",
        )
    if os.name != "posix":
        return
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InvalidInput(
            f"token file must be closed to others, got mode {stat.S_IMODE(found.st_mode):o} of {path}; run: chmod 600 {path}",
            code="SF-SERVICE-TOKEN-RIGHTS",
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise InvalidInput(
            f"token file must belong to whoever runs this or to root, got user {found.st_uid} for {path}; copy it to a file of your own",
            code="SF-SERVICE-TOKEN-RIGHTS",
        )


def _listed(path: Path, text: str) -> tuple[Token, ...]:
    """One token, or a line for each bearer; empty lines and lines that begin with # say nothing."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) <= 1 and len(lines[0].split() if lines else []) != 3:
        return (Token(_checked(f"the token in {path}", text.removesuffix("\n").removesuffix("\r"))),)
    found = tuple(_line(path, number, line) for number, line in enumerate(lines, start=1))
    for what, values in (("name", [token.name for token in found]), ("token", [token.text for token in found])):
        if len(set(values)) < len(values):
            raise InvalidInput(
                f"every {what} in {path} must stand once, got one twice; give each bearer one of their own",
                code="SF-ARGUMENT-DISTINCT",
            )
    return found


def _line(path: Path, number: int, line: str) -> Token:
    words = line.split()
    if len(words) != 3 or words[0] not in ROLES:
        raise InvalidInput(
            f"line {number} of {path} must read ROLE NAME TOKEN with a role of {', '.join(ROLES)} and a token of {SHORTEST} to {LONGEST} printable "
            f"ASCII characters, got {len(words)} words; separate them by spaces",
            code="SF-SERVICE-TOKEN-LINE",
        )
    role, name, text = words
    if len(name) > LONGEST_NAME or not name.isascii() or not name.isprintable():
        raise InvalidInput(
            f"the name in line {number} of {path} must be 1 to {LONGEST_NAME} printable ASCII characters, got others; shorten it",
            code="SF-SERVICE-TOKEN-LINE",
        )
    return Token(_checked(f"the token in line {number} of {path}", text), role, name)


def _checked(name: str, token: str) -> str:
    """What a header can carry; the token itself is never shown."""
    printable = token.isascii() and token.isprintable() and " " not in token
    if not printable or not SHORTEST <= len(token) <= LONGEST:
        raise InvalidInput(
            f"{name} must be {SHORTEST} to {LONGEST} printable ASCII characters without spaces, got {len(token)} characters; make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            code="SF-SERVICE-TOKEN",
        )
    return token


def bearer(tokens: Sequence[Token], header: bytes | None) -> Token | None:
    """The token that an ``Authorization`` header carries, if it is one of these; all of them are compared, whichever it is."""
    scheme, _, given = (header or b"").partition(b" ")
    # Digests have one length, so that not even the token's length can be told from the time it takes.
    theirs = hashlib.sha256(given.strip()).digest()
    found = None
    for token in tokens:
        if hmac.compare_digest(hashlib.sha256(token.text.encode("ascii")).digest(), theirs):
            found = token
    return found if scheme.lower() == b"bearer" else None
