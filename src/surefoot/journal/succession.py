"""One deployment after another: when a plant has changed, a new deployment goes on where an old one ends.

    old:  ... alarm ... readapted {name of the new one, reason}        no ask any more; reports of pending episodes are still taken
    new:  opened {..., readapts: {name, seq, digest of that event, reason}} ...

The old event comes first. Whoever dies between the two calls :meth:`~surefoot.journal.deployment.Deployment.readapt` again, which finds the first
and makes the second. The digest in the new journal covers all of the old one up to its end, so that neither can be exchanged.

The new deployment starts from nothing but the policy set, as any other: the safe policy, the bounds of its trust level, a delta of its own. Nothing
that the old plant taught enters. Logged episodes of the safe policy *after* the change may be given before its first ask
(:meth:`~surefoot.journal.deployment.Deployment.recall`).
"""

from __future__ import annotations

from typing import Any

from surefoot.errors import ConflictError, PausedError
from surefoot.journal.events import Event

__all__ = ["ended", "link", "predecessor_text", "same_link", "succeeded"]


def ended(name: str, reason: str) -> str:
    """Why the old deployment plays the safe policy for good."""
    return f"deployment {name!r} goes on after this one: {reason}"


def succeeded(name: str) -> PausedError:
    """The error of whoever asks the old deployment."""
    return PausedError(
        f"the deployment has ended, and deployment {name!r} goes on after it; ask that one",
        code="SF-DEPLOYMENT-SUCCEEDED",
    )


def link(name: str, event: Event) -> dict[str, Any]:
    """What the new journal says of deployment ``name``, which ended with its ``readapted`` event."""
    return {"name": name, "seq": event.seq, "digest": event.digest, "reason": event.body["reason"]}


def predecessor_text(found: dict[str, Any]) -> str:
    """The same for people."""
    return (
        f"this deployment goes on after {found['name']!r}, which ended with its event {found['seq']}: {found['reason']}"
    )


def same_link(name: str, first: Event, event: Event | None) -> None:
    """Whether a deployment that exists already is the one that goes on.

    Args:
        name: of the old one.
        first: the event that opened the existing one.
        event: the ``readapted`` event of the old one, or ``None``.

    Raises:
        ConflictError: it is not.
    """
    found = first.body.get("readapts")
    if event is None or found != link(name, event):
        raise ConflictError(
            f"name must be that of a new deployment, got {first.body.get('name')!r}, which exists and does not go on after {name!r}; choose another",
            code="SF-CONFLICT-SUCCEEDED",
        )
