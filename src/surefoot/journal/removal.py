"""A deployment taken away for good, with everything that belongs to it.

    SQLite       its rows; <file>-mark-..., <file>-stops-...; with the last deployment <file>, <file>-wal, <file>-shm, <file>-queue as well
    PostgreSQL   its rows; the mark in this user's state folder (other clients keep theirs, which nobody meets again: a new journal has a new key)

Beside a file that is gone already its mark refuses a new beginning: removing takes that away too. Keys of snapshots and anchors are the user's.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from surefoot.errors import InvalidInput, JournalError
from surefoot.journal.stops import SECONDS
from surefoot.journal.store import Store, Transaction
from surefoot.journal.tables import DEPLOYMENTS, EVENTS, POLICY_SETS, SHIFT, SNAPSHOTS

__all__ = ["Belongings", "belongings", "remove"]


@dataclass(frozen=True)
class Belongings:
    """What goes with a deployment.

    Attributes:
        name: of the deployment.
        shown: where it lies.
        events: how many it has.
        others: deployments in the same database, which stay.
        files: that go.
    """

    name: str
    shown: str
    events: int
    others: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def text(self) -> str:
        """For people."""
        stays = f"; stays: {', '.join(map(repr, self.others))}" if self.others else ""
        files = "".join(f"\n  {path}" for path in self.files)
        return f"deployment {self.name!r} in {self.shown} with {self.events} events{stays}{files}"


def belongings(url: str | os.PathLike[str], name: str = "default") -> Belongings:
    """What :func:`remove` would take away.

    Raises:
        InvalidInput: nothing.
        JournalError: it cannot be read.
    """
    store = Store(url, name, SECONDS)
    try:
        if store.sqlite and not Path(store.file).exists():
            return _found(store, 0, ())
        if store.outdated():
            store.create()
        with store.reading() as transaction:
            events, others = _counted(transaction)
        return _found(store, events, others)
    finally:
        store.close()


def remove(url: str | os.PathLike[str], name: str = "default") -> Belongings:
    """Take a deployment away; whoever still works on it is refused from now on.

    Returns:
        What is gone.

    Raises:
        InvalidInput: there is none.
        JournalError: it cannot be read, or is held by somebody else.
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
    """Events, and other deployments."""
    if not transaction.exists():
        return 0, ()
    transaction.located()
    names = transaction.run(sa.select(DEPLOYMENTS.c.name).order_by(DEPLOYMENTS.c.name)).scalars().all()
    return transaction.last()[0], tuple(str(name) for name in names if name != transaction.name)


def _found(store: Store, events: int, others: tuple[str, ...]) -> Belongings:
    paths = list(store.beside())
    if store.sqlite and not others:
        paths += [Path(f"{store.file}{end}") for end in ("-queue", "-wal", "-shm", "")]
    files = tuple(path for path in paths if path.exists())
    if not events and (others or not files):
        raise InvalidInput(
            f"name must be that of a deployment in {store.shown}, got {store.name!r}; nothing of it is left"
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
    """Hashes that others use, ``None`` where that cannot be read, and that of this deployment."""
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
