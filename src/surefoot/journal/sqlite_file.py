"""The file of a SQLite journal: how to open it, and whether the path still names the same file.

SQLite keeps working on a file that was deleted or replaced under it, and would acknowledge events that nobody can find later. So the device and
inode number of the file are compared before each transaction and before each acknowledgement, and those of its write-ahead log before each
transaction. Only :meth:`Store.create <surefoot.journal.store.Store.create>` may make a new file.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import sqlalchemy as sa

from surefoot.errors import InvalidInput, JournalUnavailable

__all__ = ["SQLiteFile", "absolute"]

BUSY_SECONDS = 60.0
"""How long SQLite waits for its lock where nothing else is said."""


class SQLiteFile:
    """Where a SQLite journal lies.

    Args:
        url: with a path as its database, or a ``file:`` URI of SQLite.

    Attributes:
        path: of the file, with links resolved: all names of one file lead to the same files beside it.
        read_only: whether the URL forbids writing.
        creating: whether the file may be created.
    """

    def __init__(self, url: sa.URL) -> None:
        text = str(url.database)
        options = {name: str(value) for name, value in url.query.items()}
        if text.startswith("file:"):
            text, _, more = text.removeprefix("file:").partition("?")
            options |= dict(part.partition("=")[::2] for part in more.split("&") if part)
            text = unquote(text).removeprefix("//") if text.startswith("///") else unquote(text)
        self._options = {name: options[name] for name in ("mode", "immutable") if name in options}
        self.path = os.path.realpath(absolute(text))
        self.read_only = self._options.get("mode") == "ro" or self._options.get("immutable") == "1"
        self.creating = False
        self._known: tuple[int, int] | None = None

    def check(self) -> None:
        """Check that the path names a regular file, if it names anything.

        Raises:
            InvalidInput: it names a folder, a pipe or a device.
            JournalUnavailable: there is no file, and none may be created.
        """
        try:
            mode = os.stat(self.path).st_mode
        except OSError as error:
            if self.creating:
                return
            raise JournalUnavailable(
                f"{self.path} must be a journal, got: {error.strerror}; restore it", code="SF-JOURNAL-UNAVAILABLE"
            ) from error
        if not stat.S_ISREG(mode):
            raise InvalidInput(
                f"url must be the path of a file, got {self.path}, which is a folder, a pipe or a device",
                code="SF-JOURNAL-PATH",
            )

    def connect(self) -> sqlite3.Connection:
        """A new connection."""
        options = dict(self._options)
        if not options:
            options["mode"] = "rwc" if self.creating else "rw"
            if not self.creating and not os.access(Path(self.path).parent, os.W_OK) and not self._has_log():
                # Nobody can change a file on a disk that cannot be written, and SQLite has no room there for files of its own.
                options = {"mode": "ro", "immutable": "1"}
        settings = "&".join(f"{name}={quote(value)}" for name, value in options.items())
        address = f"file:{quote(os.fsencode(self.path))}?{settings}"
        return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)

    def _has_log(self) -> bool:
        """Whether the write-ahead log holds commits that are not in the file yet."""
        try:
            return os.stat(f"{self.path}-wal").st_size > 0
        except OSError:
            return False

    def same(self) -> bool:
        """Whether the path names the file that it named at the first call."""
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        now = found.st_dev, found.st_ino
        self._known = self._known or now
        return self._known == now

    def same_log(self, info: dict[Any, Any]) -> bool:
        """Whether the write-ahead log is the one that a connection found first.

        Args:
            info: of the connection; the log's inode number is kept there.
        """
        try:
            now = os.stat(f"{self.path}-wal").st_ino
        except OSError:
            now = None
        before = info.get("surefoot_log")
        if before is None:
            info["surefoot_log"] = now
        return before in (None, now)


def absolute(path: str) -> str:
    """An absolute path.

    Raises:
        InvalidInput: the path is relative and the current folder was deleted.
    """
    try:
        return os.path.abspath(path)
    except OSError as error:
        raise InvalidInput(
            f"url must be a path that can be found, got {path!r} in a folder that was deleted; change to another folder",
            code="SF-JOURNAL-PATH",
        ) from error
