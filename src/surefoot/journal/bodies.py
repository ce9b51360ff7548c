"""Bodies of events as plain values: plans, the opening; and recorded events against recomputed ones. Letters: J policies."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.assumptions import ASSUMES
from surefoot.criterion import plain_functionals
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.deploy.comparison import LEVEL
from surefoot.deploy.planner import Plan
from surefoot.deploy.report import Report
from surefoot.deploy.stages import Stage
from surefoot.deploy.trust import trust_level
from surefoot.errors import ReplayError
from surefoot.journal.agents import supervised
from surefoot.journal.events import COMMANDS, FORMAT, Entry, Event, canonical
from surefoot.journal.operator import Operator
from surefoot.journal.settings import Settings
from surefoot.policyset.schema import PolicySet
from surefoot.version import VERSION

__all__ = ["dense", "differ", "logged", "opening", "plain_plan", "plain_stage", "recorded_rung", "same_event"]


def dense(weights: dict[str, float], size: int) -> FloatArray:
    """(J,) weights from the sparse form of a body."""
    result = np.zeros(size)
    for j, weight in weights.items():
        result[int(j)] = weight
    return result


def plain_plan(plan: Plan) -> dict[str, Any]:
    return {
        "weights": {str(j): float(plan.weights[j]) for j in np.flatnonzero(plan.weights).tolist()},
        "bounds": plan.bounds.tolist(),
        "value": float(plan.value),
        "certified": bool(plan.certified),
        "reasons": {str(j): text for j, text in plan.reasons.items()},
    }


def plain_stage(stage: Stage) -> dict[str, Any]:
    return {"stage": stage.name, "text": stage.text, "until": stage.until}


def logged(report: Report) -> dict[str, Any]:
    """Body of logged episodes; ``log`` fixes what was given, so that the same log is told from another one."""
    body = {name: value for name, value in report.body().items() if name != "ids"}
    return {**body, "log": hashlib.sha256(canonical(body).encode("ascii")).hexdigest()}


def recorded_rung(policy_set: PolicySet, rung: Rung) -> dict[str, Any]:
    """What was rehearsed, and what the rehearsal found; without an alarm the threshold of surprise is ``None``."""
    plain = {**asdict(rung), "surprise": rung.surprise if math.isfinite(rung.surprise) else None}
    found = policy_set.rehearsed
    record = None if found is None else found.rung
    if found is None or record is None:
        return plain
    return {
        **plain,
        "plants": found.plants,
        "violating": record.violating,
        "upper": found.upper,
        "alpha": found.alpha,
        "error": found.share,
        "excess": record.excess,
        "surprise_alarm": found.surprise_alarm,
        "protocol": found.protocol.text,
    }


def same_event(event: Event, entry: Entry) -> bool:
    """Equal but for words, which may show rounded numbers, and wealths, which may differ by rounding."""
    if event.kind != entry.kind:
        return False
    if event.kind in COMMANDS:
        return event.body == entry.body
    return all(event.body.get(name) == entry.body.get(name) for name in ("cells", "cells_left", "policy"))


def differ(first: Event, theirs: Sequence[Event], ours: Sequence[Entry]) -> ReplayError:
    recorded = f"{theirs[0].kind} {ascii(theirs[0].body)[:200]}" if theirs else "nothing more"
    computed = f"{ours[0].kind} {ascii(ours[0].body)[:200]}" if ours else "nothing more"
    return ReplayError(
        f"event {first.seq} ({first.kind}) must lead to what was recorded, {recorded}, got {computed}; run verify, compare the library's "
        "version, or restore the journal from a copy",
        code="SF-REPLAY-DIVERGED",
    )


def opening(policy_set: PolicySet, settings: Settings, name: str) -> dict[str, Any]:
    """Body of the first event: all that a reader of the journal needs to know about what was opened."""
    state = supervised(policy_set, Operator(), settings)
    criterion, certificate = policy_set.criterion, policy_set.certificate
    level = trust_level(settings.trust)
    own: dict[str, Any] = {} if settings.trust in ASSUMES else {"assumes": level.assumes}  # a reader may not know it
    rung = state.rung
    if rung is not None:
        own["rehearsed"] = recorded_rung(policy_set, rung)
    if criterion.functionals:
        own["functionals"] = plain_functionals(criterion.functionals)
    return {
        **own,
        "format": FORMAT,
        "name": name,
        "version": VERSION,
        "policy_set": policy_set.hash,
        "settings": settings.as_dict(),
        "cost_names": list(criterion.cost_names),
        "cost_limits": criterion.cost_limits.tolist(),
        "cost_ceilings": state.ceilings.tolist(),
        "discount": float(criterion.discount),
        "cells": len(policy_set.cells),
        "policies": len(policy_set.policies),
        "margin": state.margin,
        "family": policy_set.training.family,
        "assumption": policy_set.assumption.statement,
        "returns_level": None if state.unramped else LEVEL,
        "stage": plain_stage(state.stage),
        "ledger": [{"name": e.name, "delta": e.delta, "purpose": e.purpose} for e in state.ledger.entries],
        "holdout": None if certificate is None else certificate.holdout,
        "uncovered_upper": None if certificate is None else certificate.uncovered_upper,
    }
