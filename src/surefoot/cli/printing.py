"""What a terminal is sent: text from a journal, a file or a URL is data, and may hold characters that move cursors, hide lines or set titles."""

from __future__ import annotations

import errno
import os
import sys

__all__ = ["UNWRITABLE", "printable", "silence"]

UNWRITABLE = frozenset({errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG, errno.EDQUOT})
"""Why output cannot be written."""


def printable(text: str) -> str:
    """The text with everything that is not shown as itself written out; lines stay."""
    return "".join(
        character
        if character == "\n" or character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def silence() -> None:
    """Standard output takes nothing any more; what is still held back must not fail once more when the interpreter ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass
