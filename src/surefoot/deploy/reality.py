"""Reality against simulation: the ramp, and policies that return less than the safe one.

Two comparisons on the same released episodes: the safe policy's outcomes with what any cell predicts (:mod:`surefoot.deploy.ramp`), and every
policy's real returns with the safe policy's (:mod:`surefoot.deploy.comparison`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surefoot.deploy.comparison import LEVEL, ReturnComparison
from surefoot.deploy.ramp import Ramp
from surefoot.deploy.report import Report
from surefoot.deploy.status import listed
from surefoot.stateful import Stateful

__all__ = ["RealityCheck", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """What the comparisons say after a report took effect.

    Attributes:
        alarm: why simulation is wrong, or ``None``.
        ramp_over: what to say where the ramp ended just now, or ``None``.
        barred: what to say of policies that are barred from now on.
        changed: the plan may be another one.
    """

    alarm: str | None
    ramp_over: str | None
    barred: tuple[str, ...]
    changed: bool


class RealityCheck(Stateful):
    """See the module's docstring.

    Args:
        ramp: the comparison with simulation, or ``None`` for none.
        comparison: of real returns, or ``None``.
    """

    CHANGES = ("ramp", "comparison", "_over")

    def __init__(self, ramp: Ramp | None, comparison: ReturnComparison | None) -> None:
        self.ramp, self.comparison, self._over = ramp, comparison, False

    @property
    def ramping(self) -> bool:
        """Whether too few episodes of the safe policy have been compared."""
        return self.ramp is not None and not self.ramp.over

    @property
    def progress(self) -> tuple[int, int] | None:
        """How many episodes of the safe policy have been compared, and how many have to be; ``None`` where none is missing."""
        return (self.ramp.compared, self.ramp.episodes) if self.ramp is not None and self.ramping else None

    @property
    def barred(self) -> tuple[int, ...]:
        """Policies that return less than the safe policy in reality."""
        return () if self.comparison is None else tuple(np.flatnonzero(self.comparison.barred).tolist())

    @property
    def doubted(self) -> tuple[int, ...]:
        """Policies that seem to."""
        return () if self.comparison is None else tuple(np.flatnonzero(self.comparison.doubted).tolist())

    def settle(self, reports: list[Report], gone: list[int], *, logged: bool = False) -> None:
        """Reports that take effect (NaN for returns that are broken), and the policies of episodes that never will; ``logged`` ones come first."""
        if self.ramp is None or self.comparison is None:
            return
        self.ramp.settle(reports, gone.count(0), logged=logged)
        for policy in gone:
            self.comparison.lost(policy)
        for report in reports:
            self.comparison.told(report.policy_index, report.outcomes[:, 0])

    def review(self, settled: int, alarmed: bool) -> Verdict:
        """What follows from it now; ``alarmed`` if an alarm was raised before."""
        if self.ramp is None or self.comparison is None:
            return Verdict(None, None, (), False)
        alarm = None if alarmed else self.ramp.alarm()
        over, changed = None, False
        if self.ramp.over and not self._over:
            self._over = changed = True
            if not alarmed and alarm is None:
                over = (
                    f"{self.ramp.compared} episodes of the safe policy fit what simulation predicts; the ramp is over"
                )
        changed |= self.comparison.doubt(settled)
        barred = tuple(
            f"policy {policy} returns less than the safe policy in reality (shown at error {LEVEL:g}); it is played no more"
            for policy in self.comparison.review().tolist()
        )
        return Verdict(alarm, over, barred, changed or bool(barred))

    def notes(self, alarmed: bool) -> list[str]:
        """What the comparisons wait for, and what they ended."""
        found = []
        if self.ramp is not None and self.ramping and not alarmed:
            lost = f"; {self.ramp.lost} are lost and do not count" if self.ramp.lost else ""
            found.append(
                f"the ramp: {self.ramp.compared} of {self.ramp.episodes} episodes of the safe policy have been reported and compared with "
                f"simulation{lost}; until then it alone is played"
            )
        if self.barred:
            found.append(f"policies {listed(self.barred)} return less than the safe policy in reality and are barred")
        return found
