"""Where an agent stands, and what happened to it, for programs and for people. Letters: J policies, I constraints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from surefoot.arrays import FloatArray
from surefoot.deploy.stages import RAMPING, Stage
from surefoot.stats.ledger import Ledger

__all__ = ["AgentEvent", "Status", "listed"]

UNSAID = Stage(RAMPING, "its agent does not say more", "its agent says so")
"""The stage where an agent names none."""


@dataclass(frozen=True)
class AgentEvent:
    """Something that happened.

    Attributes:
        episode: how many episodes had been asked.
        kind: ``"eliminated"``, ``"readmitted"``, ``"planned"``, ``"target"``, ``"ramp"``, ``"barred"``, ``"protocol"``, ``"alarm"``,
            ``"lost"``, ``"stage"``.
        text: in plain words.
    """

    episode: int
    kind: str
    text: str


@dataclass(frozen=True, eq=False)
class Status:
    """Where a deployment stands.

    Attributes:
        episodes, pending: asked so far; of these not yet told.
        weights: (J,) current mixture.
        certified_costs: (I,) upper bounds on its expected costs.
        cost_limits: (I,).
        cells_left, cells: active hypotheses, and all.
        reasons: policy index to why it has its weight.
        alarm: why everything stopped, or ``None``.
        ledger: who spent which part of delta.
        next: what is being learned, in plain words.
        notes: limitations that set in.
        assumes: when the bounds hold with probability at least 1 - delta.
        logged: episodes of the safe policy from before the first ask that count.
        proved: whether the costs are proved bounds; not while a belief plans, whose bounds are what it takes for possible.
        stage: how far it is, and what would end that (:mod:`surefoot.deploy.stages`).
    """

    episodes: int
    pending: int
    weights: FloatArray
    certified_costs: FloatArray
    cost_limits: FloatArray
    cells_left: int
    cells: int
    reasons: dict[int, str]
    alarm: str | None
    ledger: Ledger
    next: str
    notes: tuple[str, ...]
    assumes: str = ""
    proved: bool = True
    stage: Stage = UNSAID
    logged: int = 0

    @property
    def text(self) -> str:
        """The status as a paragraph for people."""
        played = ", ".join(
            f"policy {j} with weight {self.weights[j]:.3f} ({why})" for j, why in sorted(self.reasons.items())
        )
        costs = ", ".join(f"{c:.4g} (limit {d:.4g})" for c, d in zip(self.certified_costs, self.cost_limits))
        sure = "certified" if self.proved else "taken by the belief, which proves nothing,"
        sure = sure if self.alarm is None else "assumed, no longer certified,"
        spent = ", ".join(f"{e.name} {e.delta:.4g}" for e in self.ledger.entries)
        before = f", and {self.logged} logged ones of the safe policy before them" if self.logged else ""
        lines = [
            f"After {self.episodes} episodes ({self.pending} pending){before}:",
            f"  stage: {self.stage.name}: {self.stage.text};",
            f"  it ends when: {self.stage.until};",
            f"  expected cost of what is deployed is {sure} to be at most {costs};",
            f"  deployed: {played};",
            f"  hypotheses left: {self.cells_left} of {self.cells};",
            f"  next: {self.next};",
            f"  error probability: {spent} of {self.ledger.total:.4g}.",
        ]
        lines += [f"  note: {note}" for note in self.notes]
        if self.alarm is not None:
            lines.insert(0, f"ALARM: {self.alarm}. The safe policy is played.")
        return "\n".join(lines)


def listed(numbers: Iterable[int]) -> str:
    """The first eight of some numbers, and how many more there are."""
    names = [str(int(k)) for k in numbers]
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:8])} and {len(names) - 8} more"
