"""How far a deployment is, in one word: its *stage*.

    comparing ---> ramping <--> learned          and from each of them, for good:   drifted, stopped

========== ============================================================== =====================================================
stage      while                                                          it ends when
========== ============================================================== =====================================================
comparing  the ramp: the safe policy alone is played and compared with    enough of its episodes have been compared
           simulation
ramping    the mixture still moves, or what decides it is still open      nothing that is left to learn moves it noticeably
learned    something is settled for good, or the mixture has been         the mixture moves noticeably after all
           steady while the evidence doubled; see below
drifted    an alarm said that the plant does not do, or no longer does,   never; a new deployment
           what was assumed
stopped    any other alarm, or somebody aborted                           never; a new deployment
========== ============================================================== =====================================================

The stage is a function of the agent's state. It decides nothing and carries no guarantee.

**Learned.** Settled: one cell is left (where cells are hypotheses); the target is proved to meet every limit by itself, or is barred and no other
will be chosen (where real costs alone prove it); the last rehearsed plan is made. Otherwise *steady*: let n count evidence, and let n' be its count
when the mixture that the agent proposes last moved noticeably,

    |w - w'|_1 / 2  >  NOTICEABLE max(1 - w_0, 1 - w'_0),        w' the mixture after the move before;

then  n >= 2 max(n', least).  Where a target is to be proved, n counts its own reported episodes (least :data:`TRIED`): as long as it is played
seldom, the mixture is steady because nothing is known, and that is no reason to stop waiting. Elsewhere n counts settled episodes, and least is
when the agent itself gives up waiting for more (:class:`~surefoot.deploy.tuning.Tuning`: ``stalled``, ``warm_up``). A bound that
falls like ``1/sqrt(n)`` and moved the mixture by less than 5% over a doubling of n moves it by less than 13% for ever after.

Which alarm is a drift says :data:`ALARMS`, by the kind that whoever raises it names. Letters: J policies (0 is the safe one).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.stateful import Stateful

__all__ = [
    "ALARMS", "COMPARING", "DRIFTED", "LEARNED", "NOTICEABLE", "RAMPING", "STAGES", "STOPPED", "TRIED", "Stage", "Standing", "Steadiness",
    "stage_name", "stage_of",
]  # fmt: skip

COMPARING, RAMPING, LEARNED, DRIFTED, STOPPED = "comparing", "ramping", "learned", "drifted", "stopped"
STAGES = (COMPARING, RAMPING, LEARNED, DRIFTED, STOPPED)

ALARMS: Mapping[str, str] = MappingProxyType(
    {
        "agent": STOPPED,  # a user's agent broke its contract
        "ceiling": STOPPED,  # an episode cost more than was declared possible
        "changed": DRIFTED,  # a policy's outcomes are no longer what they were
        "drift": DRIFTED,  # recent real costs reject that the mixtures still meet the limit
        "monitor": DRIFTED,  # real costs reject that every mixture met the limit
        "outside": STOPPED,  # every cell is rejected
        "simulation": STOPPED,  # the safe policy does not do what simulation predicts
        "surprise": STOPPED,  # the plant is not like those that were rehearsed
    }
)
"""Kind of an alarm to the stage it leads to; one that is not listed stops."""

NOTICEABLE = 0.05
"""Share of the weight off the safe policy that has to move."""
TRIED = 50
"""Reported episodes of a target before a steady mixture means anything."""


@dataclass(frozen=True)
class Stage:
    """A stage as it is shown.

    Attributes:
        name: one of :data:`STAGES`.
        text: what it means now, a sentence for people without a full stop.
        until: what would end it, likewise.
    """

    name: str
    text: str
    until: str


@dataclass(frozen=True)
class Standing:
    """What the stage is a function of.

    Attributes:
        compared: how many episodes of the ramp were compared and how many have to be, while it lasts; else ``None``.
        alarm: kind and words of the alarm, or ``None``.
        aborted: why somebody aborted, or ``None``.
        learned: why nothing that is left to learn moves the mixture noticeably, or ``None``.
        next: what is being learned.
    """

    compared: tuple[int, int] | None = None
    alarm: tuple[str, str] | None = None
    aborted: str | None = None
    learned: str | None = None
    next: str = ""


def stage_name(standing: Standing) -> str:
    """The stage; an alarm comes before an abort, and both before everything else."""
    if standing.alarm is not None:
        return ALARMS.get(standing.alarm[0], STOPPED)
    if standing.aborted is not None:
        return STOPPED
    if standing.compared is not None:
        return COMPARING
    return RAMPING if standing.learned is None else LEARNED


def stage_of(standing: Standing) -> Stage:
    """The stage with its sentences."""
    name = stage_name(standing)
    if name in (DRIFTED, STOPPED):
        said = "an alarm" if standing.alarm is not None else "an abort"
        why = standing.aborted if standing.alarm is None else standing.alarm[1]
        what = (
            "an alarm says that the plant does not do, or no longer does, what was assumed"
            if name == DRIFTED
            else f"{said} returned to the safe policy for good"
        )
        return Stage(name, f"{what}: {why}", "a new deployment is begun, once it is known what is wrong")
    if name == COMPARING and standing.compared is not None:
        done, needed = standing.compared
        return Stage(
            name,
            f"the safe policy alone is played and compared with simulation, {done} of {needed} episodes so far",
            f"{needed - done} more of its episodes have been reported and fit",
        )
    if name == LEARNED:
        return Stage(
            name,
            f"the mixture no longer changes noticeably: {standing.learned}",
            "the mixture moves noticeably after all, or an alarm is raised",
        )
    return Stage(
        name,
        "weight moves off the safe policy as far as evidence allows",
        f"nothing that is left to learn moves the mixture noticeably; being learned: {standing.next}",
    )


class Steadiness(Stateful):
    """How long the mixture has been steady, in evidence.

    Args:
        size: J.

    Attributes:
        told: (J,) reported episodes of every policy.
    """

    CHANGES = ("told", "_weights", "_told_then", "_settled_then")

    def __init__(self, size: int) -> None:
        self.told: IntArray = np.zeros(size, dtype=np.int64)
        self._weights: FloatArray = np.eye(size)[0]
        self._told_then: IntArray = self.told.copy()
        self._settled_then = 0

    def reported(self, policy_index: IntArray) -> None:
        """Episodes (n,) were told."""
        self.told += np.bincount(policy_index, minlength=self.told.size)

    def planned(self, weights: FloatArray, settled: int) -> None:
        """The agent proposes weights (J,) after so many settled episodes."""
        moved = 0.5 * float(np.abs(weights - self._weights).sum())
        if moved > NOTICEABLE * max(1.0 - float(weights[0]), 1.0 - float(self._weights[0])):
            self._weights, self._told_then, self._settled_then = weights.copy(), self.told.copy(), settled

    def since_tried(self, policy: int) -> bool:
        """Whether the mixture has been steady while the evidence about one policy doubled."""
        return int(self.told[policy]) >= 2 * max(int(self._told_then[policy]), TRIED)

    def since_settled(self, settled: int, least: int) -> bool:
        """Whether it has been steady while the number of settled episodes doubled."""
        return settled >= 2 * max(self._settled_then, least)
