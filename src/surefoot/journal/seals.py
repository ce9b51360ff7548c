"""Seals of snapshots: a message authentication code under a secret that no database holds.

    seal = HMAC-SHA-256(secret, journal, seq, digest, snapshot)

Whoever can write to a database can put any state into its snapshots. Without the secret they cannot seal it, and a snapshot without its seal is not
believed. The secret is 32 random bytes in the user's state folder (:func:`surefoot.journal.high_water_marks.state_folder`); where that cannot be
written, each process uses a secret of its own, and its snapshots mean nothing to others.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets

from surefoot.journal.high_water_marks import state_folder

__all__ = ["sealed"]

_OF_THIS_PROCESS = secrets.token_bytes(32)


def sealed(journal: str, seq: int, digest: str, body: bytes) -> tuple[str, bytes]:
    """Who seals a snapshot, and the seal.

    Args:
        journal: key of the journal.
        seq, digest: of the last event in the snapshot.
        body: the snapshot.

    Returns:
        A name for the holder of the secret (a hash of it), and the seal.
    """
    secret = _secret()
    keeper = hashlib.sha256(b"keeper" + secret).hexdigest()[:16]
    return keeper, hmac.digest(secret, f"{journal}\n{seq}\n{digest}\n".encode() + body, "sha256")


def _secret() -> bytes:
    """This user's secret, made when it is first needed."""
    folder = state_folder()
    if folder is None:
        return _OF_THIS_PROCESS
    path = folder / "snapshot-key"
    try:
        for _ in range(2):
            try:
                found = path.read_bytes()
                # A file that others can read or write is no secret.
                return found if len(found) == 32 and not path.stat().st_mode & 0o077 else _OF_THIS_PROCESS
            except FileNotFoundError:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                draft = folder / f".key-{secrets.token_hex(8)}"
                draft.touch(mode=0o600, exist_ok=False)
                draft.write_bytes(secrets.token_bytes(32))
                try:
                    os.link(draft, path)  # the whole file appears at once, and only if no other process was quicker
                except FileExistsError:
                    pass
                finally:
                    draft.unlink()
    except OSError:
        pass
    return _OF_THIS_PROCESS
