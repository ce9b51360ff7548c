"""A deployment as numbers for Prometheus: its text exposition format, version 0.0.4.

    # HELP surefoot_pending Episodes that are neither told nor lost.
    # TYPE surefoot_pending gauge
    surefoot_pending{deployment="default"} 3

Every sample bears the deployment's name. What is not known (a mean before the first report; what rests on the evidence while a deployment is
degraded) has no sample. All comes from one status, whose making does not depend on how many episodes there were.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime

from surefoot.deploy.stages import STAGES
from surefoot.journal import DeploymentStatus

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES = ("running", "paused", "aborted", "alarm", "degraded")

Samples = list[tuple[Mapping[str, str], float | None]]
"""Labels besides the deployment's name, and values."""


def exposition(status: DeploymentStatus, now: float) -> str:
    """The metrics of a deployment.

    Args:
        status: of the deployment.
        now: seconds since 1970.
    """
    lines: list[str] = []
    for name, kind, text, samples in _families(status, now):
        known = [(labels, value) for labels, value in samples if value is not None]
        if not known:
            continue
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{_labels({'deployment': status.name, **labels})} {_number(value)}" for labels, value in known]
    return "\n".join(lines) + "\n"


def _families(status: DeploymentStatus, now: float) -> Iterator[tuple[str, str, str, Samples]]:
    """Name, type, help and samples."""
    known = not status.degraded
    yield "surefoot_episodes_total", "counter", "Episodes asked.", _one(status.episodes)
    yield "surefoot_reported_total", "counter", "Episodes told.", _one(status.reported)
    yield "surefoot_lost_total", "counter", "Episodes declared lost.", _one(status.lost)
    yield (
        "surefoot_logged_total",
        "counter",
        "Logged episodes of the safe policy from before the first ask.",
        _one(status.logged),
    )
    yield "surefoot_pending", "gauge", "Episodes that are neither told nor lost.", _one(status.pending)
    yield "surefoot_alarm", "gauge", "1 after an alarm: the safe policy is played for good.", _one(
        None if status.alarm is None else bool(status.alarm)
    )  # fmt: skip
    yield "surefoot_state", "gauge", "1 for the state of the deployment, 0 for the others.", [
        ({"state": state}, status.state == state) for state in STATES
    ]  # fmt: skip
    yield "surefoot_stage", "gauge", "1 for the stage of the deployment, 0 for the others.", [
        ({"stage": stage}, status.stage == stage) for stage in STAGES
    ]  # fmt: skip
    yield "surefoot_weight_off_safe_policy", "gauge", "Share of episodes that are drawn off the safe policy.", _one(
        max(0.0, 1.0 - status.weights.get(0, 0.0))
    )  # fmt: skip
    yield "surefoot_exposure_cap", "gauge", "Bound on that share that people set.", _one(status.cap if known else None)
    yield (
        "surefoot_certified",
        "gauge",
        "1 while surefoot_certified_cost is proved; 0 where it is assumed, or a belief's.",
        _one(status.certified),
    )
    yield (
        "surefoot_certified_cost",
        "gauge",
        "Upper bound on the expected cost of the mixture that is played.",
        _each(status.certified_costs),
    )
    yield "surefoot_cost_limit", "gauge", "Limit on the expected cost.", _each(status.cost_limits)
    yield "surefoot_mean_cost", "gauge", "Mean of what is limited, over all episodes told.", _each(status.mean_costs)
    yield "surefoot_mean_return", "gauge", "Mean return of all episodes told.", _one(status.mean_return)
    yield "surefoot_cells_left", "gauge", "Cells that are not rejected.", _one(status.cells_left if known else None)
    yield (
        "surefoot_seconds_since_last_report", "gauge", "Seconds since the last report or, before the first, since the deployment was opened.",
        _one(_since(status.last_report, now)),
    )  # fmt: skip
    yield (
        "surefoot_hook_failures_total",
        "counter",
        "Hooks of the service that raised, and attempts of webhooks that failed.",
        _one(status.hook_failures),
    )


def _one(value: float | None) -> Samples:
    return [({}, value)]


def _each(values: Mapping[str, float | None]) -> Samples:
    return [({"constraint": name}, value) for name, value in values.items()]


def _since(at: str, now: float) -> float | None:
    """Seconds since a time stamp; clocks that disagree give none that are negative."""
    try:
        return max(0.0, now - datetime.fromisoformat(at).timestamp())
    except (ValueError, OverflowError):
        return None


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    found = float(value)
    if not math.isfinite(found):
        return "NaN" if math.isnan(found) else "+Inf" if found > 0.0 else "-Inf"
    return repr(int(found)) if found.is_integer() and abs(found) < 2.0**53 else repr(found)
