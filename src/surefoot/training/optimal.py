"""Optimal-policy oracles ``O_l``: a (near-)optimal feasible policy of one task, with what is proved about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from surefoot.arrays import FloatArray
from surefoot.cmdp.model import TabularCMDP
from surefoot.solvers.linear_program import OccupancyProgram

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
    """``O_l`` for finite CMDPs: the certified linear program.

    Args:
        anchor: a typical task whose optimal basis starts every solve.
    """

    def __init__(self, anchor: TabularCMDP | None = None) -> None:
        self._program = OccupancyProgram(anchor)

    def solve(self, task: TabularCMDP) -> OptimalPolicy:
        """See :class:`OptimalOracle`."""
        found = self._program.solve(task)
        if found.status == "failed":
            found.value_or_raise()
        return OptimalPolicy(found.status == "optimal", found.policy, found.value, found.costs, found.bound)
