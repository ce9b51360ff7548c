"""Optimal-policy oracles ``O_l``: a (near-)optimal feasible policy of one task, with what is proved about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from surefoot.arrays import FloatArray
from surefoot.cmdp.elimination import Elimination
from surefoot.cmdp.model import TabularCMDP
from surefoot.solvers.bulk import BulkProgram
from surefoot.solvers.linear_program import OccupancyProgram, Solution

__all__ = ["ExactOptimal", "OptimalOracle", "OptimalPolicy"]


@dataclass(frozen=True, eq=False)
class OptimalPolicy:
    """Answer of an optimal-policy oracle.

    Attributes:
        feasible: whether the task has a feasible policy at all.
        policy: (S, A); for an infeasible task the policy with the smallest worst excess.
        value, costs: its values, costs (I,).
        bound: upper bound on the value of every feasible policy, ``-inf`` if there is none.
    """

    feasible: bool
    policy: FloatArray
    value: float
    costs: FloatArray
    bound: float


class OptimalOracle(Protocol):
    """``O_l``."""

    def solve(self, task: Any) -> OptimalPolicy:
        """The optimal policy of one task.

        Raises:
            SolverError: no trustworthy answer.
        """
        ...


class ExactOptimal:
    """``O_l`` for finite CMDPs: the certified linear program, and many tasks at once where only optima are asked for.

    Args:
        anchor: a typical task whose optimal basis starts every solve.
        plan: of elimination on the tasks' joint support, for :meth:`solve_many`; ``None``: there every task is solved on its own.
    """

    def __init__(self, anchor: TabularCMDP | None = None, plan: Elimination | None = None) -> None:
        self._program = OccupancyProgram(anchor)
        self._plan, self._anchor = plan, anchor

    def solve(self, task: TabularCMDP) -> OptimalPolicy:
        """See :class:`OptimalOracle`."""
        return _answer(self._program.solve(task))

    def solve_many(self, tasks: Sequence[TabularCMDP]) -> list[OptimalPolicy]:
        """The same for several tasks. Where an optimum is not unique, policies may be others than those of :meth:`solve`."""
        if self._plan is None:
            return [self.solve(task) for task in tasks]
        return [_answer(found) for found in BulkProgram(self._plan, self._anchor).solve(tasks).answers]


def _answer(found: Solution) -> OptimalPolicy:
    if found.status == "failed":
        found.value_or_raise()
    return OptimalPolicy(found.status == "optimal", found.policy, found.value, found.costs, found.bound)
