"""What training asks of a family of tasks.

A family is a distribution over tasks that share one criterion. Tasks are named by a row of real parameters, so that
training can also ask for a task *between* two sampled ones (cells are extended until neighbours touch) and for the corners
of the declared support (where the assumption of one simultaneously feasible policy is checked).

Any object with these members will do; nothing has to be inherited.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import Criterion

__all__ = ["TabularFamily", "TaskFamily"]


@runtime_checkable
class TaskFamily(Protocol):
    """A distribution over tasks named by p real parameters.

    Attributes:
        name: used in reports.
        parameter_names: p names.
        support: (p, 2) bounds of the parameters, infinite where there are none.
        criterion: shared by all tasks.
    """

    @property
    def name(self) -> str: ...

    @property
    def parameter_names(self) -> tuple[str, ...]: ...

    @property
    def support(self) -> FloatArray: ...

    @property
    def criterion(self) -> Criterion: ...

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, p) parameters of independent fresh tasks."""
        ...


@runtime_checkable
class TabularFamily(TaskFamily, Protocol):
    """A family whose tasks are finite CMDPs.

    A family may also have a method ``safe_policy() -> (S, A) array``: the controller its users already run, which is then
    verified and used as ``pi_s`` instead of a trained one.
    """

    def cmdp(self, parameters: Any) -> TabularCMDP:
        """The task with these p parameters."""
        ...
