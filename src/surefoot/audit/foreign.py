"""What can be checked of a journal whose decisions were made by parts that somebody registered: no decision.

An agent, a trust level or a kind of evidence that is not the library's own has no second implementation. What remains: the chain of digests, that
every episode was drawn from the mixture in force with positive weight, that ids are counted up, and that nothing was reported that was not
asked, or twice. Whoever reads the result is told so (:class:`~surefoot.audit.verification.Verification`).
"""

from __future__ import annotations

from typing import Any

from surefoot.audit.event import AuditedEvent
from surefoot.audit.opening import Disagreement
from surefoot.policyset.schema import PolicySet

__all__ = ["ForeignAudit", "not_audited"]

OWN = {"agent": ("certified",), "trust": ("cells", "data", "envelope", "rehearsed"), "evidence": ("all", "returns")}
NAMES = {"agent": "agent", "trust": "trust level", "evidence": "evidence"}


def not_audited(first: AuditedEvent | None) -> tuple[str, ...]:
    """Parts named by the event that opened a deployment which the audit knows nothing of."""
    settings = first.body.get("settings") if first is not None and first.kind == "opened" else None
    if not isinstance(settings, dict):
        return ()
    chosen = {"agent": "certified", **settings}
    return tuple(
        f"{NAMES[part]} {chosen[part]!r}" for part, own in OWN.items() if part in chosen and chosen[part] not in own
    )


class ForeignAudit:
    """One walk through such a journal.

    Attributes:
        checked: events that were read.
        inert: of these, what happened while the deployment was degraded.
    """

    def __init__(self, policy_set: PolicySet) -> None:
        self._set, self._open = policy_set, set[int]()
        self._plan: dict[str, Any] = {}
        self.checked = self.inert = self._opened = 0

    def passed(self, event: AuditedEvent) -> None:
        """What happened while the journal could not be followed."""
        self.inert += 1

    def finish(self) -> None:
        """After the last event."""

    def check_all(self, groups: list[list[AuditedEvent]]) -> None:
        """Groups that were held back, in order; the list is emptied."""
        for group in groups:
            self.check(group)
            self.checked += len(group)
        groups.clear()

    def check(self, group: list[AuditedEvent], *, last: bool = False) -> None:
        """One group of events.

        Raises:
            Disagreement: a draw or a report that cannot be.
        """
        for event in group:
            body = event.body
            if event.kind == "opened" and body["policy_set"] != self._set.hash:
                raise Disagreement(f"event {event.seq} (opened): the policy set has another hash")
            if event.kind == "planned":
                self._plan = body["weights"]
            elif event.kind == "asked":
                self._asked(event)
            elif event.kind in ("told", "lost"):
                strange = [k for k in body["ids"] if k not in self._open]
                if strange:
                    raise Disagreement(f"event {event.seq} ({event.kind}): episode {strange[0]} is not pending")
                self._open.difference_update(body["ids"])

    def _asked(self, event: AuditedEvent) -> None:
        first, draws = event.body["first"], event.body["draws"]
        off = [j for j in draws if j and self._plan.get(str(j), 0.0) <= 0.0]  # the safe policy always may be drawn
        if first != self._opened or off:
            raise Disagreement(
                f"event {event.seq} (asked): draws must come from the mixture in force, and ids be counted up"
            )
        self._opened += len(draws)
        self._open.update(range(first, self._opened))
