"""What meta-learners learn from: training tasks of a family, evaluated exactly and all at once.

    V_tau = (I - gamma P_tau,pi)^-1 f_tau,pi,     d_tau = (I - gamma P_tau,pi')^-1 rho_tau       for T tasks tau

Tasks are drawn from the family with a stream of their own, so test tasks are never among them except by the chance that both come from
one distribution. Behind them come the corners of the family's declared support, where it is finite: rare tasks decide whether a policy is
feasible in all of them. A task in which the safe policy itself is not strictly feasible breaks the assumption of every method here and is
left out.

What is learned is kept for the life of the process (:func:`trained`), so that playing many tasks trains once.

Gradient methods need a policy with a positive probability for every action, which the safe policy of a solved task is not.
:func:`interior` mixes it with the uniform policy, as far as every training task keeps half the slack that the safe policy has there.

Letters: T tasks, S states, A actions, I constraints, F = 1 + I signals (reward first).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import numpy as np

from surefoot.arrays import FloatArray, freeze
from surefoot.baselines.gradient import Units, with_uniform
from surefoot.baselines.on_policy import safe_table
from surefoot.blas import solve_systems
from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import AssumptionError
from surefoot.policyset.schema import PolicySet
from surefoot.tasks.family import TabularFamily

__all__ = ["StackValues", "TaskStack", "interior", "trained", "training_stack"]

Result = TypeVar("Result")

TASKS, LEAST_TASKS = 256, 8
STACK_BYTES = 2**26
"""Fewer tasks are drawn where their dense kernels would need more than this."""
STREAM = 0x3E7A
"""Marks the stream of training tasks, so that no other use of the same seed draws them."""
MOST_DIMENSIONS = 6
KEPT_SLACK = 0.5
HALVINGS = 40


@dataclass(frozen=True, eq=False)
class StackValues:
    """Exact values of one policy per task.

    Attributes:
        totals: (T, F) expected return and costs of an episode.
        advantages: (T, F, S, A).
        states: (T, S) occupancy of states; sums to ``H_g`` per task.
    """

    totals: FloatArray
    advantages: FloatArray
    states: FloatArray


@dataclass(frozen=True, eq=False)
class TaskStack:
    """T tasks side by side, in the papers' units.

    Attributes:
        kernels: (T, S, A, S).
        signals: (T, F, S, A), each in [0, 1].
        start: (T, S).
        limits: (I,).
        discount: ``gamma``.
    """

    kernels: FloatArray
    signals: FloatArray
    start: FloatArray
    limits: FloatArray
    discount: float

    @staticmethod
    def of(tasks: list[TabularCMDP], units: Units) -> TaskStack:
        """Stack tasks of one shape."""
        signals = np.stack([t.signals for t in tasks])
        return TaskStack(
            freeze(np.stack([t.dense for t in tasks])),
            freeze((signals - units.low[:, None, None]) / units.scale[:, None, None]),
            freeze(np.stack([t.start for t in tasks])),
            units.limits,
            units.discount,
        )

    def __len__(self) -> int:
        return len(self.start)

    @property
    def horizon(self) -> float:
        """``H_g``."""
        return 1.0 / (1.0 - self.discount)

    def take(self, which: Any) -> TaskStack:
        """Some of the tasks."""
        return TaskStack(self.kernels[which], self.signals[which], self.start[which], self.limits, self.discount)

    def totals(self, tables: FloatArray) -> FloatArray:
        """(T, F) values of one policy (S, A), or of one per task (T, S, A)."""
        system, rewards = self._system(np.broadcast_to(tables, self.signals[:, 0].shape))
        values = solve_systems(system, rewards.transpose(0, 2, 1))
        totals: FloatArray = np.einsum("ts,tsf->tf", self.start, values)
        return totals

    def evaluate(self, tables: FloatArray) -> StackValues:
        """Values, advantages and occupancies of the same."""
        system, rewards = self._system(np.broadcast_to(tables, self.signals[:, 0].shape))
        values = solve_systems(system, rewards.transpose(0, 2, 1)).transpose(0, 2, 1)
        states = solve_systems(system.transpose(0, 2, 1), self.start[:, :, None])[:, :, 0]
        ahead = np.einsum("tsax,tfx->tfsa", self.kernels, values, optimize=True)
        advantages = self.signals + self.discount * ahead - values[:, :, :, None]
        return StackValues(np.einsum("ts,tfs->tf", self.start, values), advantages, np.maximum(states, 0.0))

    def _system(self, tables: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(T, S, S) matrices ``I - gamma P_pi`` and (T, F, S) expected signals of a step."""
        kernels = np.matmul(tables[:, :, None, :], self.kernels)[:, :, 0, :]
        rewards: FloatArray = np.einsum("tsa,tfsa->tfs", tables, self.signals)
        return np.eye(kernels.shape[1]) - self.discount * kernels, rewards


def training_stack(family: TabularFamily, safe: FloatArray, *, seed: int = 0, tasks: int = TASKS) -> TaskStack:
    """Sampled tasks, then corners, in which the safe policy (S, A) is strictly feasible; no more samples than fit into memory.

    Raises:
        AssumptionError: there is none among them.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))
    fitting = max(LEAST_TASKS, STACK_BYTES // (8 * safe.size * safe.shape[0]))
    tasks = min(tasks, fitting)
    points = [*family.sample(tasks, rng), *_corners(family.support)]
    drawn = [family.cmdp(p) for p in points]
    stack = TaskStack.of(drawn, Units.of(family.criterion))
    slack = stack.limits - stack.totals(safe)[:, 1:]
    good = (slack > 0.0).all(axis=1)
    if not good.any():
        raise AssumptionError(
            f"safe policy: must be strictly feasible in some training task, got none of {len(points)}; train the policy set on this family",
            code="SF-ASSUMPTION-INFEASIBLE",
        )
    return stack.take(good)


def _corners(support: FloatArray) -> list[FloatArray]:
    """(p,) parameters at the corners of a finite support; none where there would be too many."""
    if not np.isfinite(support).all() or len(support) > MOST_DIMENSIONS:
        return []
    return [np.asarray(point) for point in product(*support)]


def interior(stack: TaskStack, safe: FloatArray) -> FloatArray:
    """(S, A) the safe policy mixed with the uniform one: the largest share ``2^-k`` that leaves every task half its slack.

    Raises:
        AssumptionError: the slack is so small that no share down to ``2^-40`` does.
    """
    slack = stack.limits - stack.totals(safe)[:, 1:]
    for k in range(1, HALVINGS + 1):
        table = with_uniform(safe, 2.0**-k)
        if (stack.limits - stack.totals(table)[:, 1:] >= KEPT_SLACK * slack).all():
            return table
    raise AssumptionError(
        f"safe policy: must have slack that randomising leaves, got {slack.min():g} at worst; gradient methods need a larger margin",
        code="SF-ASSUMPTION-MARGIN",
    )


_LEARNED: dict[tuple[str, str, str], Any] = {}
_STACKS: dict[tuple[str, str], TaskStack] = {}


def trained(family: TabularFamily, policy_set: PolicySet, what: str, learn: Callable[[TaskStack], Result]) -> Result:
    """``learn`` applied to the family's training tasks, once per process, family, policy set and ``what``.

    Raises:
        AssumptionError: see :func:`training_stack`.
    """
    key = (family.name, policy_set.hash)
    if (*key, what) not in _LEARNED:
        if key not in _STACKS:
            _STACKS.clear()  # stacks are large: the last one only
            _STACKS[key] = training_stack(family, safe_table(policy_set))
        _LEARNED[(*key, what)] = learn(_STACKS[key])
    result: Result = _LEARNED[(*key, what)]
    return result
