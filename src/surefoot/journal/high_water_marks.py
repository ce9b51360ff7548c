"""High-water marks: the last acknowledged event of a journal, remembered outside of its database.

    mark      number and digest of the last acknowledged event, overwritten in place after every commit without waiting for the disk. For a SQLite
              file it lies beside it as ``<file>-mark-...``; for a database on a server it lies in the user's state folder, under the journal's key.
    anchor    the same in a place that the user names: another disk, or another machine's share. It must be writable, and must be of this journal.

A journal that ends before its mark, or holds another event there, has lost events: it is an older copy, a backup was restored over it, its log was
truncated, or a disk did not write what it said it wrote. Its next episodes would get numbers that were handed out before.

The state folder is ``$SUREFOOT_STATE``, else ``$XDG_STATE_HOME/surefoot``, else ``~/.local/state/surefoot``. Where it cannot be written there are no
marks for servers.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Protocol

from surefoot.errors import InvalidInput, JournalError, JournalUnavailable

__all__ = ["NO_EVENT", "Anchor", "Head", "HighWaterMark", "Keeper", "state_folder"]

Head = tuple[int, str]
"""Number and digest of an event: up to there a chain of digests is known."""
NO_EVENT: Head = (0, "")


def state_folder() -> Path | None:
    """The folder of this user's state; ``None`` where there is no such place."""
    named, shared = os.environ.get("SUREFOOT_STATE"), os.environ.get("XDG_STATE_HOME")
    try:
        if named:
            return Path(named)
        return Path(shared) / "surefoot" if shared else Path.home() / ".local" / "state" / "surefoot"
    except RuntimeError:
        return None  # the user has no home folder


class Keeper(Protocol):
    """A place where the last acknowledged event is remembered."""

    path: Path

    def read(self) -> Head:
        """The event that is remembered."""

    def write(self, seq: int, digest: str) -> None:
        """Remember an event."""

    def close(self) -> None:
        """Close the file."""


class HighWaterMark:
    """A mark; see the module's docstring. It is an additional check, so that failing to write it is no error.

    Args:
        path: of its file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @staticmethod
    def beside(file: str, name: str) -> HighWaterMark:
        """The mark of deployment ``name`` in a SQLite file."""
        return HighWaterMark(Path(f"{file}-mark-{hashlib.sha256(name.encode()).hexdigest()[:8]}"))

    @staticmethod
    def of_server(journal: str) -> HighWaterMark | None:
        """The mark of the journal with this key, in the state folder."""
        folder = state_folder()
        if folder is None:
            return None
        return HighWaterMark(folder / "marks" / hashlib.sha256(journal.encode()).hexdigest()[:32])

    def read(self) -> Head:
        """The event that is remembered; no event where there is no mark, or a damaged one."""
        try:
            words = self.path.read_text(encoding="ascii").split()
            seq, digest, check = int(words[0]), words[1], words[2]
        except (OSError, ValueError, IndexError):
            return NO_EVENT
        return (seq, digest) if check == _checksum(seq, digest) else NO_EVENT

    def write(self, seq: int, digest: str) -> None:
        """Overwrite the mark."""
        try:
            if self._descriptor is None:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            os.pwrite(self._descriptor, _line(seq, digest), 0)
        except OSError:
            self.close()

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class Anchor:
    """A file that the user names. It belongs to one journal, and must say what the journal says.

    Args:
        place: its path or ``file://`` URL; it is made when the first event is acknowledged.
        journal: the key of the journal.
    """

    def __init__(self, place: str | os.PathLike[str], journal: str) -> None:
        self.path, self._journal = _path(place), journal

    def read(self) -> Head:
        """The event that is remembered; no event where there is no file.

        Raises:
            JournalUnavailable: the file cannot be read.
            JournalError: the file is damaged, or belongs to another journal.
        """
        try:
            words = self.path.read_text(encoding="ascii").split()
            journal, seq, digest, check = words[0], int(words[1]), words[2], words[3]
        except FileNotFoundError:
            return NO_EVENT
        except OSError as error:
            raise JournalUnavailable(
                f"anchor must be readable, got {self.path} ({error}); mend that, or leave it out",
                code="SF-ANCHOR-UNAVAILABLE",
            ) from error
        except (ValueError, IndexError) as error:
            raise JournalError(
                f"anchor must hold the last event of a journal, got {self.path} with other contents; name another file",
                code="SF-ANCHOR-CONTENTS",
            ) from error
        if check != _checksum(seq, f"{journal} {digest}"):
            raise JournalError(
                f"anchor must be whole, got {self.path}, which does not match its checksum; restore or delete it",
                code="SF-ANCHOR-DAMAGED",
            )
        if journal != self._journal:
            raise JournalError(
                f"anchor must belong to this journal, got {self.path}, which was written for another (or the deployment was begun anew); "
                "name another file",
                code="SF-ANCHOR-OTHER",
            )
        return seq, digest

    def write(self, seq: int, digest: str) -> None:
        """Overwrite the anchor.

        Raises:
            JournalUnavailable: the event is in the journal, but the anchor does not say so.
        """
        line = f"{self._journal} ".encode("ascii") + _line(seq, digest, f"{self._journal} {digest}")
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.pwrite(descriptor, line, 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise JournalUnavailable(
                f"anchor must be writable, got {self.path} ({error}); the operation is recorded, mend that and repeat it",
                code="SF-ANCHOR-UNAVAILABLE",
            ) from error

    def close(self) -> None:
        """Nothing is open."""


def _path(place: str | os.PathLike[str]) -> Path:
    from urllib.parse import unquote, urlsplit

    text = os.fspath(place)
    if "://" not in text:
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise InvalidInput(
            f"anchor must be a path or a file:// URL, got {ascii(text)[:80]}; mount the place as a folder",
            code="SF-ANCHOR-URL",
        )
    return Path(unquote(parts.path))


def _line(seq: int, digest: str, checked: str | None = None) -> bytes:
    return f"{seq:020d} {digest} {_checksum(seq, digest if checked is None else checked)}\n".encode("ascii")


def _checksum(seq: int, digest: str) -> str:
    return hashlib.sha256(f"{seq} {digest}".encode()).hexdigest()[:16]
