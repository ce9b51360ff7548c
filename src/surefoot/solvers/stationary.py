"""Stationary policies under limits on more than the mean.

With a chance constraint or a CVaR the best policy looks at the cost accumulated so far; that optimum is the program over
:func:`surefoot.cmdp.augment`. Here are policies that look at the state alone, as libraries hold them, and a bound that holds for both.

*Bound.* Whatever meets a limit on a functional keeps its mean below

    Exceeds(t, p): E C <= t + p (M - t),      CVaR(a, d) at t: E C <= t + a (d - t),      M = c_max / (1 - gamma),

because ``C <= t + 1{C > t} (M - t)`` and ``f(C) >= t + (C - t) / a``. So the optimum under these limits on means is at least the optimum.

*Policies.* The optima under limits on means between the least that can be attained and that bound, evaluated under the true limits: the best
that meets them, refined by bisection towards the first that does not.

Letters: S states, A actions, I limits, K costs, J candidates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import CVaR, Exceeds, Mean

__all__ = ["Found", "implied_means", "search"]

SHARES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.02)
"""Of the way from the least attainable means to the bound."""
BISECTIONS = 5

Solve = Callable[[TabularCMDP], tuple[bool, FloatArray, float]]
"""``solve(task)`` of a task with limits on means -> whether they can be met, the optimal policy (S, A), an upper bound on its value."""


class Found:
    """Candidates of one task and their exact values.

    Attributes:
        shares: (J,) where each stands between the least attainable means (0) and the bound (1).
        tables: (J, S, A).
        values: (J, 1+I).
        bound: on the value of every policy that meets the limits, with or without a memory; ``-inf`` where none does.
    """

    def __init__(self, task: TabularCMDP) -> None:
        self.task, self.bound = task, -np.inf
        self.shares: list[float] = []
        self.tables: list[FloatArray] = []
        self.values = np.zeros((0, 1 + task.n_constraints))

    def add(self, shares: list[float], tables: list[FloatArray]) -> None:
        """More candidates."""
        if tables:
            self.shares += shares
            self.tables += tables
            self.values = np.concatenate([self.values, evaluate_many(self.task, np.stack(tables))])

    @property
    def excess(self) -> FloatArray:
        """(J,) largest excess over a limit."""
        worst: FloatArray = (self.values[:, 1:] - self.task.cost_limits).max(axis=1, initial=-np.inf)
        return worst

    @property
    def best(self) -> int:
        """The candidate of largest return that meets the limits; where none does, the one of smallest worst excess."""
        excess = self.excess
        if not (excess <= 0.0).any():
            return int(excess.argmin())
        return int(np.where(excess <= 0.0, self.values[:, 0], -np.inf).argmax())


def implied_means(task: TabularCMDP) -> FloatArray:
    """(K,) limits on means that every policy keeps which meets the limits on functionals."""
    most = task.costs.max(axis=(1, 2)) / (1.0 - task.discount)
    limits = most.copy()
    for f, d in zip(task.functionals, task.cost_limits.tolist(), strict=True):
        k = f.signal
        if isinstance(f, Exceeds):
            implied = f.threshold + d * max(float(most[k]) - f.threshold, 0.0)
        elif isinstance(f, CVaR):
            t = float(f.threshold or 0.0)
            implied = t + f.level * (d - t)
        else:
            assert isinstance(f, Mean)
            implied = d
        limits[k] = min(float(limits[k]), implied)
    result: FloatArray = np.maximum(limits, 0.0)
    return result


def search(task: TabularCMDP, solve: Solve) -> Found:
    """Candidates for one task with limits on functionals."""
    found, most = Found(task), implied_means(task)
    cheapest = [solve(task.with_reward_only(-cost))[1] for cost in task.costs]
    # At the least mean itself a program over means is degenerate; its policy is known already.
    found.add([0.0] * len(cheapest), cheapest)
    means = evaluate_many(task.with_means(most), np.stack(cheapest))
    low = np.minimum(np.maximum(means[np.arange(task.n_costs), 1 + np.arange(task.n_costs)], 0.0), most)

    def candidates(shares: list[float]) -> None:
        answers = [(share, solve(task.with_means(low + share * (most - low)))) for share in shares]
        # Of limits that cannot be met: the policy of smallest excess, which is a candidate as good as any.
        found.add([share for share, _ in answers], [policy for _, (_, policy, _) in answers])
        for share, (feasible, _, bound) in answers:
            if share == 1.0 and feasible:
                found.bound = bound

    candidates(list(SHARES))
    for _ in range(BISECTIONS):
        excess, shares = found.excess, np.array(found.shares)
        if not (excess <= 0.0).any() or excess[shares.argmax()] <= 0.0:
            break
        inside = shares[found.best]
        outside = shares[(excess > 0.0) & (shares > inside)]
        if not outside.size:
            break
        candidates([0.5 * float(inside + outside.min())])
    return found
