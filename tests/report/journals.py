"""Events as a journal holds them, made by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Line", "Story"]


@dataclass(frozen=True)
class Line:
    """One event."""

    seq: int
    at: str
    kind: str
    body: dict[str, Any]
    digest: str = "ab" * 32


OPENED: dict[str, Any] = {
    "format": 1,
    "name": "north line",
    "version": "0.1.0",
    "policy_set": "12" * 32,
    "settings": {"trust": "cells", "delta": 0.05, "seed": 0, "monitor_delta": 0.001, "margin": None, "approve": False},
    "cost_names": ["wear"],
    "cost_limits": [1.5],
    "cost_ceilings": [30.0],
    "discount": 0.9,
    "cells": 12,
    "policies": 4,
    "margin": 0.13,
    "family": "gridworld",
    "assumption": "One policy keeps its margin.",
    "ledger": [
        {"name": "elimination", "delta": 0.049, "purpose": "cell"},
        {"name": "other", "delta": 0.001, "purpose": "a purpose"},
    ],
    "holdout": 200,
    "uncovered_upper": 0.027,
}


@dataclass
class Story:
    """Builds a journal line by line."""

    lines: list[Line] = field(default_factory=list)
    asked: int = 0

    def add(self, kind: str, /, **body: Any) -> Story:
        """Any event."""
        seq = len(self.lines) + 1
        self.lines.append(Line(seq, f"2026-03-01T08:{seq // 60 % 60:02}:{seq % 60:02}.000000+00:00", kind, body))
        return self

    def open(self, **changes: Any) -> Story:
        """The first event and the first plan."""
        self.add("opened", **{**OPENED, **changes})
        return self.plan({0: 1.0}, [1.1])

    def plan(self, weights: dict[int, float], bounds: list[float], left: int = 12, waiting: Any = None) -> Story:
        """A new plan."""
        return self.add(
            "planned",
            weights={str(j): w for j, w in weights.items()},
            bounds=bounds,
            value=3.0,
            certified=True,
            reasons={str(j): f"reason {j}" for j in weights},
            cells_left=left,
            waiting=waiting,
        )

    def run(self, n: int) -> Story:
        """n episodes, asked and told."""
        first, self.asked = self.asked, self.asked + n
        self.add("asked", first=first, draws=[0] * n, plan=2, settled=first)
        ids = list(range(first, first + n))
        return self.add("told", ids=ids, reward=[1.0] * n, costs=[[0.5]] * n)
