"""What is true of one real task, exactly: the judge's knowledge, which no agent has.

For a task M and a library ``pi_0 .. pi_{J-1}`` (0 is the safe policy): the values ``V(pi_j)``, the optimum,
and the cells ``H_i`` that contain M, i.e. those whose intervals hold **all** quantities of M (values, values given the initial state, an
upper bound on the optimum, kernel). From these follow

* whether the assumption of a trust level holds for M:

  ======== =========================================================================================
  data     ``V_c(pi_0) <= d - xi``, and no episode can cost more than ``c_max / (1 - gamma)``
  envelope the same with the simulator's ceiling, and ``V_c(pi_j) <= max_i V+_ij`` for every policy j
  cells    the same with the simulator's ceiling, and M lies in some cell
  ======== =========================================================================================

* why a deployed mixture was above a limit (:func:`cause_of`).

Letters: S states, A actions, I constraints, J policies, N cells, B initial states, E entries of the kernel support.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.cmdp.evaluate import ceilings, state_values
from surefoot.cmdp.model import TabularCMDP
from surefoot.policy import TabularPolicy
from surefoot.policyset.schema import Cells, PolicySet
from surefoot.solvers.linear_program import solve

__all__ = ["CAUSES", "Truth", "assumption_holds", "cause_of", "library_tables", "outside_region"]

ROUNDING = 1e-6
"""Excess up to which an exact value is not said to lie above a bound, as a share of the smallest limit (of 1, where limits are larger)."""

NO_CLAIM = "the agent makes no claim that could be judged"

CAUSES = {
    "rehearsal": "what was deployed had been rehearsed, which leaves room for a share of violating deployments",
    "false elimination": "every cell that contains the real task had been rejected",
    "data bound": "a data bound lay below the real cost of its policy",
    "no cell": "the real task lies in no cell (the assumption of trust in cells is false)",
    "safe margin": "the safe policy has less margin than stated (an assumption is false)",
    "ceiling": "an episode can cost more than the ceiling (an assumption is false)",
    "envelope": "a library policy costs more than in the worst cell (the assumption of trust in the envelope is false)",
    "other": "none of these: what was deployed was not certified, or the agent makes no claim",
}


@dataclass(frozen=True, eq=False)
class Truth:
    """Exact facts about one task.

    Attributes:
        parameters: (p,) of the task.
        task: the model.
        values: (J, 1+I) of the library's policies.
        optimum: the optimal value, or ``None`` where no policy meets the limits.
        cells: indices of the cells that contain the task.
        margin: ``d - V_c`` of the safe policy, smallest over constraints.
        above_envelope: largest excess of a library policy's cost over the worst cell's prediction.
        above_ceiling: largest excess of an episode's possible cost over the simulator's ceiling.
        above_declared: the same over the criterion's ceiling ``c_max / (1 - gamma)``.
    """

    parameters: FloatArray
    task: TabularCMDP
    values: FloatArray
    optimum: float | None
    cells: IntArray
    margin: float
    above_envelope: float
    above_ceiling: float
    above_declared: float

    @staticmethod
    def of(policy_set: PolicySet, tables: FloatArray, task: TabularCMDP, parameters: Any = ()) -> Truth:
        """Evaluate ``tables`` (J, S, A), the library of ``policy_set``, in ``task``."""
        by_state = state_values(task, tables)
        values: FloatArray = by_state @ task.start
        solution = solve(task)
        feasible = solution.status == "optimal"
        envelope = policy_set.cells.predictions.cost_upper.max(axis=0)
        largest = ceilings(task, tables).costs
        return Truth(
            parameters=np.atleast_1d(np.asarray(parameters, dtype=np.float64)),
            task=task,
            values=values,
            optimum=float(solution.value) if feasible else None,
            cells=_cells_with(policy_set.cells, task, values, by_state, float(solution.bound) if feasible else None),
            margin=float((task.cost_limits - values[0, 1:]).min(initial=np.inf)),
            above_envelope=float((values[:, 1:] - envelope).max(initial=-np.inf)),
            above_ceiling=float((largest - np.asarray(policy_set.bounds.cost_ceilings)).max(initial=-np.inf)),
            above_declared=float((largest - policy_set.criterion.cost_ceilings).max(initial=-np.inf)),
        )

    @staticmethod
    def contains(policy_set: PolicySet, tables: FloatArray, task: TabularCMDP, cell: int) -> bool:
        """Whether one cell contains ``task``; the optimum is only computed where everything else fits."""
        by_state = state_values(task, tables)
        values: FloatArray = by_state @ task.start
        if cell not in _cells_with(policy_set.cells, task, values, by_state, -np.inf):
            return False
        solution = solve(task)
        return solution.status == "optimal" and float(solution.bound) <= policy_set.cells.optimal_upper[cell]

    @property
    def room(self) -> float:
        """What counts as rounding of a cost in this task."""
        limits = self.task.cost_limits
        return ROUNDING * float(min(1.0, limits[limits > 0.0].min(initial=1.0)))

    @property
    def home(self) -> int | None:
        """The lowest-index cell that contains the task: the one whose survival the guarantee is about."""
        return int(self.cells[0]) if self.cells.size else None


def library_tables(policies: Any) -> FloatArray:
    """(J, S, A) tables of tabular policies.

    Raises:
        TypeError: one of them is no table.
    """
    for policy in policies:
        if not isinstance(policy, TabularPolicy):
            raise TypeError(f"tabular tasks run tabular policies, got {type(policy).__name__}")
    return np.stack([policy.table for policy in policies])


def assumption_holds(trust: str | None, truth: Truth, margin: float) -> bool:
    """Whether what trust level ``trust`` assumes is true of this task; ``margin`` is the agent's stated ``xi``."""
    if truth.margin < margin - truth.room:
        return False
    if trust == "data":
        return truth.above_declared <= truth.room
    known = truth.above_ceiling <= truth.room
    if trust == "cells":
        return known and truth.cells.size > 0
    return known and trust == "envelope" and truth.above_envelope <= truth.room


def outside_region(truth: Truth, values: FloatArray, region: FloatArray) -> bool:
    """Whether the real costs are what an agent's data bounds rule out: of some constraint, no row is above the costs of all policies.

    Args:
        truth: of the task, for its room.
        values: (J, 1+I) exact ones of the agent's policies.
        region: (H, J, I) :attr:`~surefoot.deploy.certified.CertifiedAgent.region`.
    """
    above = (region >= values[:, 1:] - truth.room).all(axis=1)
    return not bool(above.any(axis=0).all())


def cause_of(
    trust: str | None, truth: Truth, margin: float, active: Any, bounds: Any, played: Any, *, outside: bool = False
) -> str:
    """The key in :data:`CAUSES` for a mixture above a limit.

    A false assumption is named before an error event, because error probabilities are promised only where assumptions hold. Of several
    the one that explains most comes first: nothing can help where the safe policy itself is above a limit.

    Args:
        trust: the agent's trust level, ``None`` for agents without one.
        truth: of the task.
        margin: the agent's stated ``xi``.
        alive: (N,) cells the agent had not rejected, or ``None``.
        bounds: (J, I) the agent's data bounds, or ``None``.
        played: (J,) booleans, the policies in the mixture.
        outside: whether the costs of safe policy and target are a pair that the agent's region rules out.
    """
    if trust is None or active is None or bounds is None:
        return "other"
    if truth.margin < -truth.room:
        return "safe margin"
    if (truth.above_declared if trust == "data" else truth.above_ceiling) > truth.room:
        return "ceiling"
    if trust == "cells" and not truth.cells.size:
        return "no cell"
    if truth.margin < margin - truth.room:
        return "safe margin"
    if trust == "cells" and not np.asarray(active)[truth.cells].any():
        return "false elimination"
    low = (np.asarray(bounds) < truth.values[:, 1:] - truth.room).any(axis=1) & np.asarray(played)
    if trust == "envelope" and truth.above_envelope > truth.room:
        return "envelope"
    return "data bound" if outside or low.any() else "other"


def _cells_with(
    cells: Cells, task: TabularCMDP, values: FloatArray, by_state: FloatArray, optimum: float | None
) -> IntArray:
    if optimum is None:
        return np.zeros(0, dtype=np.int64)
    whole = cells.predictions
    fits = (cells.optimal_upper >= optimum) & _inside(whole.reward_lower, values[:, 0], whole.reward_upper)
    fits &= _inside(whole.cost_lower, values[:, 1:], whole.cost_upper)
    if cells.conditional is not None:
        given = cells.conditional
        some = by_state[:, :, given.initial_states]
        fits &= _inside(given.reward_lower, some[:, 0], given.reward_upper)
        fits &= _inside(given.cost_lower, some[:, 1:], given.cost_upper)
    if cells.kernel is not None:
        row, inside = _on_support(cells.kernel.support, task)
        fits &= _inside(cells.kernel.lower, row, cells.kernel.upper) & inside
    return np.flatnonzero(fits)


def _inside(lower: FloatArray, value: FloatArray, upper: FloatArray) -> Any:
    """(N,) whether every entry of ``value`` lies in each cell's box."""
    return ((value >= lower) & (value <= upper)).reshape(len(lower), -1).all(axis=1)


def _on_support(support: IntArray, task: TabularCMDP) -> tuple[FloatArray, bool]:
    """(E,) probabilities of the task's transitions on a joint support, and whether it has no others."""
    state, action, successor = support.T
    row: FloatArray = task.dense[state, action, successor]
    return row, bool(abs(row.sum() - task.n_states * task.n_actions) <= 1e-9 * row.size)
