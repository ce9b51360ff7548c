"""What was said before: which part of a report, a loss or a request is new, and what contradicts the journal.

The same report again is accepted and changes nothing; what contradicts the one before is refused, and the first one stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from surefoot.deploy.report import Report
from surefoot.errors import ConflictError, InvalidReport
from surefoot.journal.degraded import Outline
from surefoot.journal.events import Event
from surefoot.journal.state import DeploymentState
from surefoot.journal.store import Transaction

__all__ = ["Known", "check_number", "lost_before", "not_told_before"]


@dataclass(frozen=True)
class Known:
    """What is known about episodes: from the fold, or from a journal that is only read."""

    is_pending: Callable[[int], bool]
    opened: int
    closing: Callable[[int], Event | None]

    @staticmethod
    def of(transaction: Transaction, state: DeploymentState) -> Known:
        return Known(state.agent.is_pending, state.opened, transaction.closed)

    @staticmethod
    def outlined(transaction: Transaction, outline: Outline) -> Known:
        return Known(outline.pending.__contains__, outline.opened, lambda k: outline.closing(transaction, k))


def not_told_before(known_episodes: Known, report: Report) -> Report | None:
    """The part of a report that is new; ``None`` if nothing is.

    Raises:
        ConflictError: an episode was told otherwise, or lost, before.
        InvalidReport: an episode was never asked.
    """
    known = {k for k, episode in enumerate(report.ids.tolist()) if not known_episodes.is_pending(episode)}
    if not known:
        return report
    for k in sorted(known):
        episode = int(report.ids[k])
        _check_asked(known_episodes, episode)
        closed = known_episodes.closing(episode)
        if closed is None or closed.kind == "lost":
            raise ConflictError(
                f"id must name a pending episode, got {episode}, which was declared lost; what is lost stays lost",
                code="SF-CONFLICT-LOST",
            )
        if {name: value for name, value in closed.body.items() if name != "by"} == report.body():
            return None
        earlier = Report.recorded(closed.body)
        same = earlier.episode(earlier.ids.tolist().index(episode)) == report.episode(k)
        if not same or report.transitions is not None:
            raise ConflictError(
                f"id must name a pending episode, got {episode}, which was told before (event {closed.seq}) with other values or in another "
                "group; the first report stands",
                code="SF-CONFLICT-TOLD",
            )
    return report.without(known) if len(known) < report.ids.size else None


def lost_before(known_episodes: Known, episode: int) -> bool:
    if known_episodes.is_pending(episode):
        return False
    _check_asked(known_episodes, episode)
    closed = known_episodes.closing(episode)
    if closed is not None and closed.kind == "told":
        raise ConflictError(
            f"id must name a pending episode, got {episode}, which was told (event {closed.seq}); its report stands",
            code="SF-CONFLICT-STANDS",
        )
    return True


def _check_asked(known_episodes: Known, episode: int) -> None:
    if not 0 <= episode < known_episodes.opened:
        raise InvalidReport(
            f"id must name a pending episode, got {episode}, which was never asked; use the id that ask() returned",
            code="SF-REPORT-UNKNOWN",
        )


def check_number(request: str | None, many: int, n: int) -> None:
    if many != n:
        raise ConflictError(
            f"request {request!r} was used to ask for {many} episodes, got {n}; use a new key",
            code="SF-CONFLICT-REQUEST",
        )
