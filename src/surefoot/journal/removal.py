"""Remove a deployment for good, with everything that belongs to it.

    SQLite       its rows; <file>-mark-..., <file>-stops-...; with the last deployment also <file>, <file>-wal, <file>-shm and <file>-queue,
                 unless the file holds tables of somebody else
    PostgreSQL   its rows; the mark in this user's state folder. Other clients keep their marks, which match nothing: a new journal has a new key

Where the SQLite file was deleted already, its mark still forbids a new deployment there. Removing the deployment deletes the mark as well. The key
that seals snapshots, and anchors, belong to the user and stay.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from surefoot.errors import InvalidInput, JournalError
from surefoot.journal.stop_requests import SECONDS
from surefoot.journal.store import Store, Transaction
from surefoot.journal.tables import DEPLOYMENTS, EVENTS, METADATA, POLICY_SETS, SHIFT, SNAPSHOTS

__all__ = ["Belongings", "belongings", "remove"]


@dataclass(frozen=True)
class Belongings:
    """What belongs to a deployment.

    Attributes:
        name: of the deployment.
        shown: name of the database for people.
        events: how many the deployment has.
        others: names of other deployments in the same database, which stay.
        files: files and folders that are deleted.
    """

    name: str
    shown: str
    events: int
    others: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def text(self) -> str:
        """A description for people."""
        stays = f"; stays: {', '.join(map(repr, self.others))}" if self.others else ""
        files = "".join(f"\n  {path}" for path in self.files)
        return f"deployment {self.name!r} in {self.shown} with {self.events} events{stays}{files}"


def belongings(url: str | os.PathLike[str], name: str = "default") -> Belongings:
    """What :func:`remove` would remove.

    Raises:
        InvalidInput: there is nothing to remove.
        JournalError: the journal cannot be read.
    """
    store = Store(url, name, SECONDS)
    try:
        if store.sqlite and not Path(store.file).exists():
            return _found(store, 0, ())
        if store.outdated():
            store.create()
        with store.reading() as transaction:
            events, others = _counted(transaction)
            shared = store.sqlite and _shared(transaction)
        return _found(store, events, others, shared)
    finally:
        store.close()


def remove(url: str | os.PathLike[str], name: str = "default") -> Belongings:
    """Remove a deployment. Processes that still work on it are refused from then on.

    Returns:
        What was removed.

    Raises:
        InvalidInput: there is no such deployment.
        JournalError: the journal cannot be read, or others hold its lock.
    """
    found = belongings(url, name)
    store = Store(url, name)
    try:
        if not store.sqlite or Path(store.file).exists():
            with store.writing() as transaction:
                if transaction.located():
                    _remove_rows(transaction)
                    store.stops.remove(store.stops.pending(transaction.connection), transaction.connection)
    finally:
        store.close()
    for path in found.files:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return found


def _counted(transaction: Transaction) -> tuple[int, tuple[str, ...]]:
    """How many events the deployment has, and the names of the others."""
    if not transaction.exists():
        return 0, ()
    transaction.located()
    names = transaction.run(sa.select(DEPLOYMENTS.c.name).order_by(DEPLOYMENTS.c.name)).scalars().all()
    return transaction.last()[0], tuple(str(name) for name in names if name != transaction.name)


def _shared(transaction: Transaction) -> bool:
    """Whether the file holds other tables than a journal's: then it is somebody else's too, and stays."""
    return bool(set(sa.inspect(transaction.connection).get_table_names()) - set(METADATA.tables))


def _found(store: Store, events: int, others: tuple[str, ...], shared: bool = False) -> Belongings:
    paths = list(store.beside())
    if store.sqlite and not others and not shared:
        paths += [Path(f"{store.file}{end}") for end in ("-queue", "-wal", "-shm", "")]
    files = tuple(path for path in paths if path.exists())
    if not events and (others or not files):
        raise InvalidInput(
            f"name must be that of a deployment in {store.shown}, got {store.name!r}; nothing of it is left",
            code="SF-DEPLOYMENT-UNKNOWN",
        )
    return Belongings(store.name, store.shown, events, others, files)


def _remove_rows(transaction: Transaction) -> None:
    if transaction.which is None or transaction.base is None:
        return
    number, _ = transaction.which
    theirs, mine = _policy_sets(transaction)
    transaction.run(EVENTS.delete().where(EVENTS.c.number.between(transaction.base, transaction.base + 2**SHIFT - 1)))
    transaction.run(SNAPSHOTS.delete().where(SNAPSHOTS.c.deployment == number))
    transaction.run(DEPLOYMENTS.delete().where(DEPLOYMENTS.c.id == number))
    if mine is not None and theirs is not None and mine not in theirs:
        transaction.run(POLICY_SETS.delete().where(POLICY_SETS.c.hash == mine))


def _policy_sets(transaction: Transaction) -> tuple[set[str] | None, str | None]:
    """Hashes of the policy sets of other deployments (``None`` where they cannot be read), and of this one."""
    found: dict[str, str] = {}
    try:
        for name in transaction.run(sa.select(DEPLOYMENTS.c.name)).scalars().all():
            first = Transaction(transaction.connection, str(name), transaction.context).first()
            if first is not None:
                found[str(name)] = str(first.body.get("policy_set"))
    except JournalError:
        return None, None
    mine = found.pop(transaction.name, None)
    return set(found.values()), mine
