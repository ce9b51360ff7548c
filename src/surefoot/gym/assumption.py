"""Does the safe policy keep a margin in every task? For simulated values; exact ones: :mod:`surefoot.training.assumption`.

Letters: T tasks, p parameters.
"""

from __future__ import annotations

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.errors import AssumptionError
from surefoot.gym.simulated import SimulatedValues
from surefoot.gym.values import Estimates
from surefoot.policyset.schema import AssumptionReport

__all__ = ["Offenders"]

SHOWN = 3


class Offenders:
    """Tasks in which the safe policy is not shown to keep the margin; without boxes, those in which it is shown not to.

    Args:
        run: which policies, which limits.
    """

    def __init__(self, run: SimulatedValues) -> None:
        self.run = run
        self.found: list[tuple[tuple[float, ...], tuple[float, ...], float]] = []

    def add(self, points: FloatArray, values: Estimates) -> None:
        """Look at the tasks with parameters (T, p)."""
        margins, n = self.run.margins(values), self.run.limits.size
        for k in np.flatnonzero(~self.run.admits(values)):
            least = values.lower[k, :, 1 : 1 + n].min(axis=0)
            self.found.append((tuple(map(float, points[k])), tuple(map(float, least)), float(margins[k])))

    def _describe(self) -> str:
        names = self.run.family.parameter_names
        clauses = []
        for point, _, margin in self.found[:SHOWN]:
            where = ", ".join(f"{name}={value:.4g}" for name, value in zip(names, point))
            what = f"only keeps {margin:.3g}" if margin > 0.0 else f"may exceed the limit by {-margin:.3g}"
            clauses.append(f"{where}: the safe policy {what}")
        return "; ".join(clauses) + ("; ..." if len(self.found) > SHOWN else "")

    def refusal(self, values: Estimates) -> AssumptionError:
        """The error that strict training raises."""
        wide = float(values.widths[:, 0, 1 : 1 + self.run.limits.size].max(initial=0.0))
        return AssumptionError(
            f"{self.run.family.name} breaks the assumption that one policy is feasible with margin in every task, or simulation is too short to "
            f"show that it holds, in {len(self.found)} tasks: {self._describe()} (cost intervals up to {wide:.3g} wide); raise max_episodes or "
            "narrow widths, bring a safer policy, narrow the family, or train with strict=False to leave such tasks uncovered",
            code="SF-ASSUMPTION-MARGIN"
            if all(margin > 0.0 for *_, margin in self.found)
            else "SF-ASSUMPTION-INFEASIBLE",
        )

    def report(self, margin: float, kept: float) -> AssumptionReport:
        """What training found out about the assumption; ``kept`` is what every cell guarantees."""
        statement = f"The safe policy keeps a margin of {margin:.4g} in every cell, and was shown to keep one in every task that training looked at."
        if kept < margin or margin <= 0.0:
            stated = f"the stated margin of {margin:.4g}" if margin > 0.0 else "a margin"
            what = f"a margin of {kept:.4g} only" if kept > 0.0 else "no margin"
            statement = f"The safe policy was shown to keep {stated} in every task that training looked at; the widest cell guarantees {what}."
        unshown = not self.run.boxes and (kept < margin or margin <= 0.0)
        if unshown:
            stated = f"a margin of {margin:.4g}" if margin > 0.0 else "a margin"
            statement = (
                f"Simulation does not show that the safe policy keeps {stated} in every task: that it does is an assumption of whoever uses this "
                "policy set."
            )
        if self.found:
            more = f" {statement}" if unshown else ""
            statement = (
                f"In {len(self.found)} tasks that training looked at the safe policy is not shown to keep the margin: {self._describe()}. "
                f"No cell was made from them, and nothing is promised there.{more}"
            )
        return AssumptionReport(
            holds=not (self.found or unshown),
            safe_margin=margin,
            offenders=tuple(point for point, _, _ in self.found),
            minimum_costs=tuple(least for _, least, _ in self.found),
            statement=statement,
        )
