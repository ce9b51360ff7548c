"""What lies outside of a database: which event was acknowledged last, and the secret that snapshots are keyed with.

    mark      number and digest of the last acknowledged event, overwritten in place after every commit without waiting for the disk. Beside a SQLite
              file it is called ``<file>-mark-...``; for a database on a server it lies in the user's state folder, under the journal's id.
    anchor    the same in a place that the user names: another disk, another machine's share. It must be writable, and must be of this journal.
    secret    32 random bytes in the state folder. Who can write to a database can put any state into its snapshots; without the secret nobody
              believes it.

A journal that ends before its mark, or holds another event there, has lost events (an older copy, a backup restored over it, a truncated log, a
disk that lied about writing), and its next episodes would get numbers that were handed out before.

The state folder is ``$SUREFOOT_STATE``, else ``$XDG_STATE_HOME/surefoot``, else ``~/.local/state/surefoot``. Where none can be written there are no
marks for servers, and every process keys snapshots for itself.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Protocol

from surefoot.errors import InvalidInput, JournalError, JournalUnavailable

__all__ = ["Anchor", "HighWaterMark", "Marked", "sealed", "state_folder"]

Marked = tuple[int, str]
"""Number and digest of an event; 0 and "" for none."""
NOTHING: Marked = (0, "")


def state_folder() -> Path | None:
    """Where this user's state lies; ``None`` where there is no such place."""
    named, shared = os.environ.get("SUREFOOT_STATE"), os.environ.get("XDG_STATE_HOME")
    try:
        if named:
            return Path(named)
        return Path(shared) / "surefoot" if shared else Path.home() / ".local" / "state" / "surefoot"
    except RuntimeError:
        return None  # nobody's home


class Keeps(Protocol):
    """Where the last acknowledged event is remembered."""

    path: Path

    def read(self) -> Marked:
        """What it says."""

    def write(self, seq: int, digest: str) -> None:
        """Remember."""

    def close(self) -> None:
        """Let go of the file."""


class HighWaterMark:
    """See the module's docstring: an aid, so that failing to write it is no error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @staticmethod
    def beside(file: str, name: str) -> HighWaterMark:
        """That of a deployment in a SQLite file."""
        return HighWaterMark(Path(f"{file}-mark-{hashlib.sha256(name.encode()).hexdigest()[:8]}"))

    @staticmethod
    def of_server(journal: str) -> HighWaterMark | None:
        """That of the journal with this id, in the state folder."""
        folder = state_folder()
        return (
            None
            if folder is None
            else HighWaterMark(folder / "marks" / hashlib.sha256(journal.encode()).hexdigest()[:32])
        )

    def read(self) -> Marked:
        """Nothing where there is none, or none that is whole."""
        try:
            words = self.path.read_text(encoding="ascii").split()
            seq, digest, check = int(words[0]), words[1], words[2]
        except (OSError, ValueError, IndexError):
            return NOTHING
        return (seq, digest) if check == _checksum(seq, digest) else NOTHING

    def write(self, seq: int, digest: str) -> None:
        """Overwrite it."""
        try:
            if self._descriptor is None:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            os.pwrite(self._descriptor, _line(seq, digest), 0)
        except OSError:
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class Anchor:
    """A file that the user names, of one journal, that must say what the journal says.

    Args:
        place: its path or ``file://`` URL; it is made at the first event that is acknowledged.
        journal: the id of the journal.
    """

    def __init__(self, place: str | os.PathLike[str], journal: str) -> None:
        self.path, self._journal = _path(place), journal

    def read(self) -> Marked:
        """What it says.

        Raises:
            JournalUnavailable: it cannot be read.
            JournalError: it is damaged, or that of another journal.
        """
        try:
            words = self.path.read_text(encoding="ascii").split()
            journal, seq, digest, check = words[0], int(words[1]), words[2], words[3]
        except FileNotFoundError:
            return NOTHING
        except OSError as error:
            raise JournalUnavailable(
                f"anchor must be readable, got {self.path} ({error}); mend that, or leave it out"
            ) from error
        except (ValueError, IndexError) as error:
            raise JournalError(
                f"anchor must hold the last event of a journal, got {self.path} with other contents; name another file"
            ) from error
        if check != _checksum(seq, f"{journal} {digest}"):
            raise JournalError(
                f"anchor must be whole, got {self.path}, which does not match its checksum; restore or delete it"
            )
        if journal != self._journal:
            raise JournalError(
                f"anchor must belong to this journal, got {self.path}, which was written for another (or the deployment was begun anew); "
                "name another file"
            )
        return seq, digest

    def write(self, seq: int, digest: str) -> None:
        """Overwrite it.

        Raises:
            JournalUnavailable: what was recorded stands, and the anchor does not say so.
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
                f"anchor must be writable, got {self.path} ({error}); the operation is recorded, mend that and repeat it"
            ) from error

    def close(self) -> None:
        """Nothing is held."""


def _path(place: str | os.PathLike[str]) -> Path:
    from urllib.parse import unquote, urlsplit

    text = os.fspath(place)
    if "://" not in text:
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise InvalidInput(
            f"anchor must be a path or a file:// URL, got {ascii(text)[:80]}; mount the place as a folder"
        )
    return Path(unquote(parts.path))


def _line(seq: int, digest: str, checked: str | None = None) -> bytes:
    return f"{seq:020d} {digest} {_checksum(seq, digest if checked is None else checked)}\n".encode("ascii")


def _checksum(seq: int, digest: str) -> str:
    return hashlib.sha256(f"{seq} {digest}".encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------------------- the secret

_OWN = secrets.token_bytes(32)
"""For as long as this process lives."""


def _secret() -> bytes:
    """This user's, made when first needed."""
    folder = state_folder()
    if folder is None:
        return _OWN
    path = folder / "snapshot-key"
    try:
        for _ in range(2):
            try:
                found = path.read_bytes()
                # Whoever can write it can forge, and a file that is open to others is no secret.
                return found if len(found) == 32 and not path.stat().st_mode & 0o077 else _OWN
            except FileNotFoundError:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                draft = folder / f".key-{secrets.token_hex(8)}"
                draft.touch(mode=0o600, exist_ok=False)
                draft.write_bytes(secrets.token_bytes(32))
                try:
                    os.link(draft, path)  # whole, and only if nobody else was quicker
                except FileExistsError:
                    pass
                finally:
                    draft.unlink()
    except OSError:
        pass
    return _OWN


def sealed(journal: str, seq: int, digest: str, body: bytes) -> tuple[str, bytes]:
    """Who vouches for a snapshot, and its seal: HMAC-SHA-256 of journal, event and body under the secret.

    Args:
        journal: its id.
        seq, digest: of the last event in it.
        body: the snapshot.
    """
    secret = _secret()
    keeper = hashlib.sha256(b"keeper" + secret).hexdigest()[:16]
    return keeper, hmac.digest(secret, f"{journal}\n{seq}\n{digest}\n".encode() + body, "sha256")
