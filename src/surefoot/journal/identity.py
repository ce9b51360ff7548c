"""Is this still the journal that was opened, with every event that it acknowledged?

A database can be replaced by another one, by an older copy of itself, or by a copy that lost its end (a truncated file, a deleted write-ahead log, a
disk that did not write what it said it wrote). A deployment that carried on there would hand out numbers of episodes a second time. Therefore

* every transaction checks that the deployment has the key that it had, and that the journal holds the last event that was seen here;
* what was acknowledged last is remembered outside of the database (:mod:`surefoot.journal.high_water_marks`) and compared on opening.
"""

from __future__ import annotations

import os
from pathlib import Path

from surefoot.errors import JournalError
from surefoot.journal.high_water_marks import NO_EVENT, Anchor, Head, HighWaterMark, Keeper
from surefoot.journal.statements import IDENTITY
from surefoot.journal.tables import SHIFT
from surefoot.journal.transaction import DeploymentKey, Transaction

__all__ = ["Identity", "check_head"]


class Identity:
    """What is known of a journal besides what its database says.

    Args:
        name: of the deployment.
        file: path of the SQLite file, or "" for a server.
        shown: name of the database for people.
        anchor: see :class:`~surefoot.journal.high_water_marks.Anchor`; ``None`` for none.
    """

    def __init__(self, name: str, file: str, shown: str, anchor: str | os.PathLike[str] | None) -> None:
        self._name, self._file, self._shown = name, file, shown
        self.mark: HighWaterMark | None = HighWaterMark.beside(file, name) if file else None
        self._anchor_place, self._anchor = anchor, None if anchor is None else Anchor(anchor, "")
        self.which: DeploymentKey | None = None
        self._seen: Head = NO_EVENT

    def close(self) -> None:
        """Close the files."""
        for keeper in self.keepers():
            keeper.close()

    def keepers(self) -> list[Keeper]:
        """Where the last acknowledged event is remembered."""
        return [keeper for keeper in (self.mark, self._anchor) if keeper is not None]

    def recognise(self, transaction: Transaction) -> None:
        """Check that a transaction meets the deployment that was opened, and the last event that was seen.

        Raises:
            JournalError: it does not.
        """
        if self.which is None:
            return
        seq, digest = self._seen
        row = IDENTITY.run(transaction.connection, {"named": self._name, "seen": seq}).first()
        if row is None or (int(row.id), str(row.key)) != self.which:
            raise JournalError(
                f"{self._shown} must stay the journal it was when it was opened, got {'none' if row is None else 'another'}: the database was "
                "replaced; nothing was recorded. Restore it, or open it again if that was meant",
                code="SF-JOURNAL-REPLACED",
            )
        if seq and (row.digest is None or bytes(row.digest).hex() != digest):
            raise _cut_short(seq, None if row.digest is None else "", None)
        transaction.which, transaction.base = self.which, self.which[0] << SHIFT

    def learn(self, transaction: Transaction) -> None:
        """Remember what a transaction that succeeded showed."""
        if self.which is None and transaction.which is not None:
            self.which = transaction.which
            if not self._file:
                self.mark = HighWaterMark.of_server(self.which[1])
            if self._anchor_place is not None:
                self._anchor = Anchor(self._anchor_place, self.which[1])
        self._seen = max(self._seen, transaction.read_to, transaction.written or NO_EVENT)

    def remembered(self) -> list[tuple[Head, Path]]:
        """What mark and anchor say. An anchor, and the mark of a server's journal, can be compared once the journal's key is known."""
        if self.which is None and not (self._file and self._anchor is None):
            return []
        return [(keeper.read(), keeper.path) for keeper in self.keepers()]

    def acknowledge(self, head: Head) -> None:
        """Remember an event before its commit is reported to the caller.

        Raises:
            JournalUnavailable: an anchor cannot be written.
        """
        for keeper in self.keepers():
            keeper.write(*head)

    def refuse_remains(self) -> None:
        """Refuse to begin a deployment where an acknowledged one was lost.

        Raises:
            JournalError: there is a mark, or an anchor.
        """
        seq, _ = NO_EVENT if self.mark is None else self.mark.read()
        if seq and self.mark is not None:
            raise _cut_short(seq, None, self.mark.path)
        if self._anchor is not None and self._anchor.path.exists():
            raise JournalError(
                f"anchor must be a new file for a new deployment, got {self._anchor.path}, which remembers another; name another file, "
                "or restore the journal",
                code="SF-ANCHOR-TAKEN",
            )


def check_head(transaction: Transaction, head: Head, path: Path) -> None:
    """Check that a journal holds an event that was acknowledged.

    Args:
        transaction: on the journal.
        head: number and digest of the event; 0 and "" for none.
        path: of the file that remembers it.

    Raises:
        JournalError: it does not.
    """
    seq, digest = head
    if not seq:
        return
    found = transaction.digest(seq) if transaction.exists() else None
    if found != digest:
        raise _cut_short(seq, found, path)


def _cut_short(seq: int, found: str | None, path: Path | None) -> JournalError:
    begun = "" if path is None else f"; or, to carry on from what is left, delete {path}"
    anew = " (to begin anew: surefoot deploy remove)" if found is None and path is not None else ""
    return JournalError(
        f"the journal must hold event {seq}, which was acknowledged, got {'none' if found is None else 'another'}: its end is lost (a truncated "
        f"file, an older copy). Restore it{begun}{anew}",
        code="SF-JOURNAL-CUT",
    )
