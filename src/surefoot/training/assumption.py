"""Does one policy keep a margin in every task? Reporting where the method's assumption fails.

The method rests on a simultaneous Slater condition: one policy ``pi_s`` with ``V_c(pi_s) <= d - xi``, ``xi > 0``, in **every** task of the
family. It fails in two ways: a task has no feasible policy at all, or it has some but ``pi_s`` is not among them. Both are looked
for on the sampled tasks, on the tasks that close the gaps between cells, and at the corners of the declared support.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.errors import AssumptionError
from surefoot.policyset.schema import AssumptionReport
from surefoot.solvers.linear_program import solve
from surefoot.tasks.family import TabularFamily

__all__ = ["Offender", "assumption_report", "refusal"]

BISECTIONS = 20
SHOWN = 3


@dataclass(frozen=True)
class Offender:
    """A task that breaks the assumption.

    Attributes:
        parameters: p numbers.
        feasible: whether any policy is feasible there.
        least_costs: I costs of its optimum, or of the policy with the smallest worst excess.
        safe_margin: margin of ``pi_s`` there; too small, unless the task has no feasible policy.
    """

    parameters: tuple[float, ...]
    feasible: bool
    least_costs: tuple[float, ...]
    safe_margin: float

    @staticmethod
    def of(parameters: FloatArray, measured: Any) -> Offender:
        """From the quantities measured in the pipeline."""
        return Offender(
            parameters=tuple(float(p) for p in parameters),
            feasible=measured.feasible,
            least_costs=tuple(float(c) for c in measured.optimum_costs),
            safe_margin=measured.safe_margin,
        )

    def describe(self, names: tuple[str, ...]) -> str:
        """One clause for people."""
        where = ", ".join(f"{n}={p:.4g}" for n, p in zip(names, self.parameters))
        if self.feasible and self.safe_margin > 0.0:
            return f"{where}: the safe policy keeps a margin of {self.safe_margin:.3g} only"
        if self.feasible:
            return f"{where}: the safe policy exceeds the limit by {-self.safe_margin:.3g}"
        costs = ", ".join(f"{c:.3g}" for c in self.least_costs)
        return f"{where}: no policy is feasible, the least attainable cost is {costs}"


def refusal(family: TabularFamily, offenders: list[Offender]) -> AssumptionError:
    """The error that strict training raises."""
    shown = "; ".join(o.describe(tuple(family.parameter_names)) for o in offenders[:SHOWN])
    more = f" (and {len(offenders) - SHOWN} more)" if len(offenders) > SHOWN else ""
    margin = all(o.feasible and o.safe_margin > 0.0 for o in offenders)
    return AssumptionError(
        f"{family.name} breaks the assumption that one policy is feasible with margin in every task: {shown}{more}; "
        "narrow the family, raise the limits, bring another safe policy, or train with strict=False to leave such tasks uncovered",
        code="SF-ASSUMPTION-MARGIN" if margin else "SF-ASSUMPTION-INFEASIBLE",
    )


def assumption_report(
    family: TabularFamily, parameters: FloatArray, offenders: list[Offender], kept: float, stated: float | None
) -> AssumptionReport:
    """What training found out about the assumption; ``xi`` is what every cell guarantees, unless the user stated a margin."""
    margin = kept if stated is None else stated
    names = tuple(family.parameter_names)
    if not offenders and kept < margin:
        where = "in every task that training looked at"
        statement = (
            f"One policy keeps the stated margin of {margin:.4g} {where}; the widest cell guarantees {kept:.4g}."
        )
    elif not offenders:
        statement = f"One policy keeps a margin of {margin:.4g} in every cell, and is feasible in every task that training looked at."
    else:
        statement = (
            f"{len(offenders)} tasks that training looked at break the assumption that one policy is feasible with margin: "
            + "; ".join(o.describe(names) for o in offenders[:SHOWN])
            + ("; ..." if len(offenders) > SHOWN else "")
            + _edge(family, parameters, offenders)
            + ". No cell covers them, and nothing is promised there."
        )
    return AssumptionReport(
        holds=not offenders,
        safe_margin=margin,
        offenders=tuple(o.parameters for o in offenders),
        minimum_costs=tuple(o.least_costs for o in offenders),
        statement=statement,
    )


def _edge(family: TabularFamily, parameters: FloatArray, offenders: list[Offender]) -> str:
    """Where feasibility ends on the way from the median task to the first infeasible offender."""
    infeasible = [o for o in offenders if not o.feasible]
    if not infeasible:
        return ""
    inside, outside = np.median(parameters, axis=0), np.asarray(infeasible[0].parameters)
    for _ in range(BISECTIONS):
        middle = 0.5 * (inside + outside)
        if solve(family.cmdp(middle)).status == "optimal":
            inside = middle
        else:
            outside = middle
    where = ", ".join(f"{n}={p:.3f}" for n, p in zip(family.parameter_names, inside))
    return f"; in that direction the last feasible task is {where}"
