"""An audit: recompute every decision from the events alone, by other code than made it, and name the first that does not follow.

What is checked, event by event: the chain of digests; every draw, from the seed and the mixture in force; every mixture in force at a
draw, against rows of bounds recomputed here; every new plan against those rows and, as a linear program solved through another interface,
for being the best of them; every cell eliminated or readmitted, by e-values recomputed here (:mod:`surefoot.audit.cell_wealth`); alarms,
targets, caps, approvals, pauses, flags; that no report was taken twice or for an episode never asked. Only choices (constants, grids,
alternatives) are shared with the code that made the decisions. Where a recomputed number lies within rounding of a threshold the recorded
decision stands.

Most of a long journal is episodes that were asked and told alone, one after the other, and caused nothing. They are recomputed many at a time
(:meth:`Audit._together`): running sums show whether anything should have happened on the way, and where it should, or nearly should, the audit
goes on one by one from there.

Letters: N cells, J policies, I constraints, H rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from surefoot.audit.event import COMMANDS, INERT, AuditedEvent
from surefoot.audit.foreign import ForeignAudit, not_audited
from surefoot.audit.opening import Disagreement
from surefoot.audit.together import MOST_TOGETHER
from surefoot.audit.walk import Audit
from surefoot.errors import SurefootError
from surefoot.policyset.schema import PolicySet

__all__ = ["Verification", "verify"]


@dataclass(frozen=True)
class Verification:
    """What an audit found.

    Attributes:
        ok: every decision follows from the events before it.
        checked: events that do.
        first_disagreement: in plain words, or ``None``.
        not_audited: parts that somebody registered and that have no second implementation: then only the chain of digests, and that no episode
            was drawn off the mixture in force or reported twice, were checked, and **no decision**.
    """

    ok: bool
    checked: int
    first_disagreement: str | None
    not_audited: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """For people."""
        if not self.ok:
            return f"after {self.checked} events that follow: {self.first_disagreement}"
        if self.not_audited:
            return (
                f"NOT AUDITED BY A SECOND IMPLEMENTATION: {', '.join(self.not_audited)}. {self.checked} events were read: the chain of digests is "
                "whole, draws fit the mixtures in force, no episode was reported twice; whether any decision was right was not checked."
            )
        return f"{self.checked} events were checked: every decision follows from the events before it."


def verify(policy_set: PolicySet, events: Iterable[AuditedEvent]) -> Verification:
    """Audit a journal; see the module's docstring. Memory does not grow with it."""
    audit: Audit | ForeignAudit = Audit(policy_set)
    foreign: tuple[str, ...] = ()
    try:
        with np.errstate(all="ignore"):  # as when they were made
            rest = iter(events)
            first = next(rest, None)  # which may be unreadable like any other
            foreign = not_audited(first)
            if foreign:
                audit = ForeignAudit(policy_set)
            whole = rest if first is None else chain([first], rest)
            _walk(audit, _marked(_groups(whole, audit.passed)))
            audit.checked += audit.inert
            audit.finish()
    except Disagreement as error:
        return Verification(False, audit.checked, str(error))
    except SurefootError as error:
        return Verification(False, audit.checked, f"event {audit.checked + 1}: {error}")
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        return Verification(
            False, audit.checked, f"event {audit.checked + 1} or what follows from it cannot be read: {error!r}"
        )
    return Verification(True, audit.checked, None, foreign)


def _walk(audit: Audit | ForeignAudit, groups: Iterator[tuple[list[AuditedEvent], bool]]) -> None:
    """Check groups in order; those without consequences are held back, to be recomputed together."""
    waiting: list[list[AuditedEvent]] = []
    while True:
        try:
            group, last = next(groups, ([], True))
        except Disagreement:  # the chain is broken: what stands before comes first
            audit.check_all(waiting)
            raise
        if group and not last and len(group) == 1 and group[0].kind in ("asked", "told"):
            waiting.append(group)
            if len(waiting) < 2 * MOST_TOGETHER:
                continue
            audit.check_all(waiting)
            continue
        audit.check_all(waiting)
        audit.check(group, last=last)
        audit.checked += len(group)
        if last:
            return


def _groups(events: Iterable[AuditedEvent], passed: Callable[[AuditedEvent], None]) -> Iterator[list[AuditedEvent]]:
    """What somebody caused, with its consequences; digests are checked on the way. Events without consequences are ``passed`` by: those of the
    report before them may stand behind them.
    """
    group: list[AuditedEvent] = []
    digest, encode = "", json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
    for seq, event in enumerate(events, start=1):
        body = encode(event.body)
        text = "\n".join((digest, str(seq), event.kind, event.at, body))
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        if event.seq != seq or event.digest != digest:
            yield group
            raise Disagreement(
                f"event {seq} breaks the chain of digests: it or one before it was edited, lost or moved"
            )
        if event.kind in INERT:
            passed(event)
            continue
        if event.kind in COMMANDS and group:
            yield group
            group = []
        group.append(event)
    yield group


def _marked(groups: Iterable[list[AuditedEvent]]) -> Iterator[tuple[list[AuditedEvent], bool]]:
    """Groups, and which is the last."""
    held: list[AuditedEvent] = []
    for group in groups:
        if held:
            yield held, False
        held = group
    yield held, True
