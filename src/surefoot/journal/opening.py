"""How a deployment is found in a database, or made there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from surefoot.errors import InvalidInput, JournalError
from surefoot.journal.bodies import opening
from surefoot.journal.events import FORMAT, Event
from surefoot.journal.settings import Settings
from surefoot.journal.state import DeploymentState
from surefoot.journal.store import Store
from surefoot.policyset.schema import PolicySet

__all__ = ["check_text", "create_deployment", "first_event", "own_policy_set", "who_acts"]

LONGEST_NAME = 200


def first_event(store: Store, create: bool, whole: bool = True) -> Event | None:
    """The event that opened the deployment, if there is one."""
    found, there = None, not store.sqlite or Path(store.file).exists()
    if there and store.outdated():
        store.create()
    if there:
        with store.reading(whole=whole) as transaction:
            found = transaction.first() if transaction.exists() else None
    if found is None and not create:
        raise InvalidInput(
            f"name must be that of a deployment in {store.shown}, got {store.name!r}; open it first (surefoot deploy open)",
            code="SF-DEPLOYMENT-UNKNOWN",
        )
    if found is not None and (found.kind != "opened" or found.body.get("format") != FORMAT):
        raise JournalError(
            f"event 1 must open the deployment in format {FORMAT}, got {found.kind} {ascii(found.body.get('format'))[:20]}; was it written by a "
            "later surefoot?",
            code="SF-JOURNAL-FORMAT",
        )
    return found


def create_deployment(
    store: Store, policy_set: PolicySet | None, settings: Settings, readapts: dict[str, Any] | None = None
) -> Event:
    """Open the deployment; if somebody else does at this moment, theirs counts.

    Args:
        store, policy_set, settings: of the deployment.
        readapts: the link to the one before (:mod:`surefoot.journal.succession`), if there is one.
    """
    if policy_set is None:
        raise InvalidInput(
            "policy_set must be given to open a new deployment, got none; load one with PolicySet.load",
            code="SF-ARGUMENT-MISSING",
        )
    body, file = opening(policy_set, settings, store.name), _file_of(policy_set)
    if readapts is not None:
        body["readapts"] = readapts
    state = DeploymentState(policy_set, settings)
    entries = state.advance("opened", body)
    store.create()
    with store.writing(new=True) as transaction:
        found = transaction.first()
        if found is None:
            store.refuse_rest()
            transaction.keep_policy_set(policy_set.hash, file)
            transaction.append(entries, 0, "")
            found = transaction.first()
    if found is None:
        raise JournalError(
            f"{store.shown} must keep what was written, and did not; use another disk", code="SF-JOURNAL-DISK"
        )
    return found


def _file_of(policy_set: PolicySet) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.sf"
        policy_set.save(path)
        return path.read_bytes()


def own_policy_set(store: Store, first: Event) -> PolicySet:
    """The set that the journal keeps."""
    with store.reading() as transaction:
        body = transaction.policy_set(str(first.body.get("policy_set")))
    if body is None:
        raise InvalidInput(
            "policy_set must be given, for the journal does not keep it (too large); load the file",
            code="SF-DEPLOYMENT-POLICYSET",
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.sf"
        path.write_bytes(body)
        return PolicySet.load(path)


def check_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > LONGEST_NAME or not value.isprintable():
        raise InvalidInput(
            f"{name} must be 1 to {LONGEST_NAME} printable characters, got {ascii(value)[:80]}; shorten or clean it",
            code="SF-ARGUMENT-TEXT",
        )
    return value


def who_acts(by: str | None) -> dict[str, str]:
    """Who acts, as a body holds it: nothing where nobody is named."""
    return {} if by is None else {"by": check_text("by", by)}
