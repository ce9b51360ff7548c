"""Events and numbers in plain words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from surefoot.report.pages import with_thin_spaces

__all__ = ["Names", "bounds", "describe", "mixture", "per_episode", "percent", "plural", "policy"]

Names = Mapping[int, str]
"""Names of policies for people, by index."""

MOST_LISTED = 6
LONGEST = 300  # characters of an event of a kind that nobody described


def plural(count: int, noun: str, many: str | None = None) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{with_thin_spaces(count)} {noun if count == 1 else many or noun + 's'}"


def percent(share: float) -> str:
    """To a tenth of a percent."""
    if 0.0 < share < 0.001:
        return "below 0.1%"
    return f"{100.0 * share:.1f}".rstrip("0").rstrip(".") + "%"


def per_episode(name: str) -> str:
    """What is limited, by the name of the limit; those on more than a mean say themselves of which episodes they speak."""
    return name if name.startswith("share of episodes") or name.endswith("of episodes") else f"{name} per episode"


def bounds(values: Sequence[float]) -> str:
    """Four digits each."""
    return ", ".join(f"{float(b):.4g}" for b in values)


def policy(index: int, names: Names) -> str:
    """How a policy is called."""
    named = names.get(index)
    plain = "the safe policy" if index == 0 else f"policy {index}"
    return f"{plain} ({named})" if named else plain


def mixture(weights: Mapping[Any, float], names: Names) -> str:
    """Shares and policies, the largest share first."""
    parts = sorted(weights.items(), key=lambda item: -float(item[1]))
    return _listed([f"{percent(float(w))} {policy(int(j), names)}" for j, w in parts])


def describe(kind: str, body: dict[str, Any], names: Names) -> str:
    """An event in plain words."""
    words = _WORDS.get(kind)
    if words is not None:
        return str(words(body, names))
    return "; ".join(f"{name}: {body[name]}" for name in sorted(body))[:LONGEST]


def _ids(ids: Sequence[Any]) -> str:
    return _listed([str(k) for k in ids])


def _listed(parts: Sequence[str]) -> str:
    shown = ", ".join(parts[:MOST_LISTED])
    return shown if len(parts) <= MOST_LISTED else f"{shown} and {len(parts) - MOST_LISTED} more"


def _asked(body: dict[str, Any], names: Names) -> str:
    n = len(body["draws"])
    which = f"episode {body['first']}" if n == 1 else f"{n} episodes from {body['first']}"
    drawn = {j: body["draws"].count(j) / n for j in sorted(set(body["draws"]))}
    return f"{which}: {mixture(drawn, names)}"


def _planned(body: dict[str, Any], names: Names) -> str:
    waiting = body.get("waiting")
    more = "" if waiting is None else f"; waiting for approval: {mixture(waiting['weights'], names)}"
    what = "cost, by the belief," if body.get("belief") else "certified cost"
    return f"{mixture(body['weights'], names)}; {what} at most {bounds(body['bounds'])}{more}"


def _text(body: dict[str, Any], names: Names) -> str:
    return str(body["text"])


_WORDS: dict[str, Callable[[dict[str, Any], Names], str]] = {
    "opened": lambda body, _: (
        f"opened with {plural(int(body['cells']), 'cell')} and {plural(int(body['policies']), 'policy', 'policies')}"
        + (f", after deployment {body['readapts']['name']}: {body['readapts']['reason']}" if "readapts" in body else "")
    ),
    "recalled": lambda body, _: f"{plural(len(body['reward']), 'logged episode')} of the safe policy given",
    "asked": _asked,
    "told": lambda body, _: f"episodes {_ids(body['ids'])} reported",
    "lost": lambda body, _: f"episodes {_ids(body['ids'])} declared lost",
    "planned": _planned,
    "eliminated": lambda body, _: f"cells {_ids(body['cells'])} rejected, {body['cells_left']} left",
    "readmitted": lambda body, _: f"cells {_ids(body['cells'])} put back, {body['cells_left']} left",
    "target": _text,
    "ramp": _text,
    "barred": _text,
    "noted": _text,
    "flagged": _text,
    "protocol": _text,
    "stage": lambda body, _: f"stage {body['stage']}, after {body['was']}: {body['text']}",
    "alarm": _text,
    "paused": lambda body, _: f"paused: {body['reason']}",
    "resumed": lambda body, _: "resumed",
    "capped": lambda body, _: f"at most {percent(float(body['weight']))} off the safe policy from now on",
    "approved": lambda body, _: f"the plan of event {body['plan']} was approved",
    "aborted": lambda body, _: f"aborted: {body['reason']}",
    "readapted": lambda body, _: f"ended; deployment {body['name']} goes on: {body['reason']}",
    "degraded": lambda body, _: f"event {body['event']} cannot be followed: {body['why']}",
    "held": lambda body, _: f"kept until the journal can be followed again: {body['kind']}",
    "recovering": lambda body, _: "what was kept happens once more, under the safe policy",
    "recovered": lambda body, _: f"followed again; {plural(len(body['refused']), 'kept event')} refused",
}
