"""Safe-policy oracles ``O_s``: one policy that is feasible with margin ``xi`` for every task of a list.

No algorithm finds the best policy for several CMDPs at once (the problem is not convex in one shared policy), but whether a
given policy works is checked exactly. So: cross-evaluate candidates (optima of hard tasks under tightened limits); if none has
the margin, descend on the worst excess by natural policy gradient with weights on the tasks that bind; keep the best
policy ever seen. Among candidates with enough margin the one of highest mean return wins.

Letters: S states, A actions, I constraints, T tasks, J candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.cmdp.elimination import Elimination, plan_elimination, planned_values
from surefoot.cmdp.evaluate import evaluate_many, occupancy, state_values
from surefoot.cmdp.model import TabularCMDP
from surefoot.policy import as_tables
from surefoot.solvers.linear_program import OccupancyProgram
from surefoot.training.coverage import joint_support

__all__ = ["GivenPolicy", "SafeOracle", "SafePolicy", "WorstCaseSafe", "worst_margins"]


@dataclass(frozen=True, eq=False)
class SafePolicy:
    """Answer of a safe-policy oracle.

    Attributes:
        policy: (S, A).
        margin: smallest ``d - V_c`` over tasks and constraints; not positive means that none was found.
        worst_task: index of the task where it is attained.
    """

    policy: FloatArray
    margin: float
    worst_task: int


class SafeOracle(Protocol):
    """``O_s``."""

    def find(self, tasks: list[Any], margin: float) -> SafePolicy:
        """A policy with margin at least ``margin`` in every task if one was found, else the best one seen."""
        ...


def worst_margins(
    tasks: list[TabularCMDP], tables: FloatArray, plan: Elimination | None = None
) -> tuple[FloatArray, FloatArray]:
    """Margins (J, T), smallest over constraints, and returns (J, T) of J policies in T tasks; ``plan``: of elimination, if any."""
    values = np.stack([planned_values(plan, task, tables) @ task.start for task in tasks], axis=1)
    limits = np.stack([task.cost_limits for task in tasks])
    return (limits[None] - values[:, :, 1:]).min(axis=2), values[:, :, 0]


@dataclass(frozen=True, eq=False)
class GivenPolicy:
    """A controller the user brings; it is verified, not changed.

    Attributes:
        policy: (S, A).
    """

    policy: FloatArray

    def find(self, tasks: list[TabularCMDP], margin: float) -> SafePolicy:
        """See :class:`SafeOracle`."""
        table = as_tables("safe_policy", self.policy, tasks[0].n_states, tasks[0].n_actions)
        plan = plan_elimination(joint_support(tasks), tasks[0].n_states, tasks[0].n_actions)
        margins = worst_margins(tasks, table, plan)[0][0]
        return SafePolicy(table[0], float(margins.min()), int(margins.argmin()))


@dataclass(frozen=True)
class WorstCaseSafe:
    """``O_s`` for finite CMDPs.

    Attributes:
        candidates: how many hard tasks offer candidates.
        tightenings: the fractions of the limits their optima are computed for.
        iterations: steps of the descent on the worst excess.
        step: its step size, in units of one over the largest advantage.
    """

    candidates: int = 8
    tightenings: tuple[float, ...] = (1.0, 0.9, 0.75, 0.5, 0.25, 0.0)
    iterations: int = 200
    step: float = 0.5

    def find(self, tasks: list[TabularCMDP], margin: float) -> SafePolicy:
        """See :class:`SafeOracle`."""
        pool = self._candidates(tasks)
        margins, returns = worst_margins(tasks, pool)
        worst = margins.min(axis=1)
        good = worst >= margin
        if good.any():
            best = int(np.where(good, returns.mean(axis=1), -np.inf).argmax())
            return SafePolicy(pool[best], float(worst[best]), int(margins[best].argmin()))
        if tasks[0].functionals:  # whose gradients are not known
            best = int(worst.argmax())
            return SafePolicy(pool[best], float(worst[best]), int(margins[best].argmin()))
        return self._descend(tasks, pool[int(worst.argmax())], margin)

    def _candidates(self, tasks: list[TabularCMDP]) -> FloatArray:
        program = OccupancyProgram()
        solutions = [program.solve(task) for task in tasks]
        # Hardest first: infeasible tasks, then those whose limits cost most at the optimum.
        price = [np.inf if s.status != "optimal" else float(s.multipliers.sum()) for s in solutions]
        hardest = np.argsort(-np.asarray(price), kind="stable")[: self.candidates]
        pool = [solutions[k].policy for k in hardest]
        for k in hardest:
            for fraction in self.tightenings:
                if fraction < 1.0:
                    pool.append(program.solve(tasks[k].with_limits(fraction * tasks[k].cost_limits)).policy)
        return np.stack(pool)

    def _descend(self, tasks: list[TabularCMDP], start: FloatArray, margin: float) -> SafePolicy:
        uniform = np.full_like(start, 1.0 / start.shape[1])
        table = 0.95 * start + 0.05 * uniform
        margins = worst_margins(tasks, start[None])[0][0]
        best = SafePolicy(start, float(margins.min()), int(margins.argmin()))
        for k in range(self.iterations):
            margins = worst_margins(tasks, table[None])[0][0]
            if margins.min() > best.margin:
                best = SafePolicy(table.copy(), float(margins.min()), int(margins.argmin()))
            if best.margin >= margin:
                break
            table = _worst_case_step(tasks, table, margins, self.step / np.sqrt(1.0 + k / 10.0))
        return best


def _worst_case_step(tasks: list[TabularCMDP], table: FloatArray, margins: FloatArray, step: float) -> FloatArray:
    """One multiplicative update against the advantages of the costs that bind, weighted by where they are visited."""
    spread = max(float(margins.max() - margins.min()), 1e-9 * float(np.abs(margins).max()), 1e-300)
    weights = np.exp(-10.0 * (margins - margins.min()) / spread)
    total, visits = np.zeros_like(table), np.zeros((table.shape[0], 1))
    for weight, task in zip(weights / weights.sum(), tasks):
        if weight < 1e-3:
            continue
        cost = int((task.cost_limits - evaluate_many(task, table)[0, 1:]).argmin())
        value = state_values(task, table)[0, 1 + cost]
        ahead = np.add.reduceat(task.probabilities * value[task.successors], task.row_start[:-1]).reshape(table.shape)
        seen = occupancy(task, table).sum(axis=1, keepdims=True)
        total += weight * seen * (task.costs[cost] + task.discount * ahead - value[:, None])
        visits += weight * seen
    advantage = total / np.maximum(visits, 1e-12)
    scale = max(float(np.abs(advantage).max()), 1e-300)
    update = table * np.exp(-step * 10.0 * advantage / scale)
    result: FloatArray = update / update.sum(axis=1, keepdims=True)
    return result
