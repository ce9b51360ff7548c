"""What trainers share: multipliers on the costs, and the report.

With tasks ``z`` drawn from the family and a policy that sees z (or does not), training maximises the Lagrangian

    E_z [ V_r(pi, z) - sum_i lambda_i(z) (V_c,i(pi, z) - d'_i) ],        lambda_i(z) = s_i max(0, theta_i . phi(z)),

with ``d' = share * d`` and ``s_i = (r_max - r_min) / c_max,i``, which makes theta a pure number (for limits on more than means ``c_max,i`` is the
largest value of the functional per step of the horizon). One multiplier for all tasks would let one task
overspend what another saves. So ``phi`` is ``(1, u, u^2)`` of the parameters u scaled to [-1, 1]; or, for an explicit list of tasks, the
indicator of each, and the multipliers rise on the worst tasks until every one of them meets the limit (oracle ``O_s``). Dual ascent, after every
batch of finished episodes with tasks z and discounted costs C:

    theta_i += rate * mean of phi(z) (C_i - d'_i) / d'_i

Letters: I constraints, T tasks of a list, p parameters, F features, n episodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, freeze
from surefoot.criterion import Criterion
from surefoot.errors import InvalidInput, SimulationError
from surefoot.gym.family import GymFamily
from surefoot.gym.rollout import rollout
from surefoot.stats.betting import mean_lower, mean_upper

__all__ = ["LEVEL", "Multipliers", "Trained", "evaluate_trained", "interval", "step_costs"]

LEVEL = 0.05
"""Error of each interval in a report."""

THETA_MAX = 10.0
"""Keeps the penalty within ten times the range of the reward, whatever an infeasible limit does to the ascent."""


@dataclass(frozen=True, eq=False)
class Multipliers:
    """``lambda_i(z)``.

    Attributes:
        theta: (I, F).
        scale: (I,) ``s``.
        limits: (I,) ``d'``.
        support: (p, 2), for the features.
        tasks: (T, p) the list whose indicators are the features, or ``None`` for quadratic features.
        rate: of the ascent.
    """

    theta: FloatArray
    scale: FloatArray
    limits: FloatArray
    support: FloatArray
    tasks: FloatArray | None
    rate: float

    @staticmethod
    def start(
        criterion: Criterion,
        support: FloatArray,
        tasks: FloatArray | None,
        share: float,
        rate: float,
        theta: float = 0.1,
    ) -> Multipliers:
        """The same multiplier everywhere.

        Raises:
            InvalidInput: a share outside (0, 1], or a limit of zero, which no multiplier can be measured by.
        """
        if not 0.0 < share <= 1.0:
            raise InvalidInput(
                f"share must lie in (0, 1], got {share}; it is the part of the limit that training may use",
                code="SF-ARGUMENT-RANGE",
            )
        if (criterion.cost_limits <= 0.0).any():
            raise InvalidInput(
                "cost_limits must be > 0 for training with multipliers, got 0; allow a little cost and train below it",
                code="SF-ARGUMENT-RANGE",
            )
        features = 1 + 2 * len(support) if tasks is None else len(tasks)
        weights = np.zeros((criterion.n_constraints, features))
        weights[:, slice(None) if tasks is not None else 0] = theta
        low, high = criterion.reward_bounds
        return Multipliers(
            weights,
            freeze((high - low) / criterion.cost_scales),
            freeze(share * criterion.cost_limits),
            support,
            tasks,
            rate,
        )

    def features(self, parameters: Any) -> FloatArray:
        """(n, F) ``phi`` of (n, p) parameters; of a list, the nearest task counts."""
        rows = np.atleast_2d(np.asarray(parameters, dtype=np.float64))
        low, high = self._box()
        if self.tasks is not None:
            apart = ((rows[:, None] - self.tasks[None]) / (high - low)) ** 2
            return np.asarray(np.eye(len(self.tasks))[apart.sum(axis=2).argmin(axis=1)])
        unit = np.clip(2.0 * (rows - low) / (high - low) - 1.0, -1.0, 1.0)
        return np.hstack([np.ones((len(rows), 1)), unit, unit**2])

    def _box(self) -> tuple[FloatArray, FloatArray]:
        """Finite bounds with room between them, also where the support has none."""
        low = np.where(np.isfinite(self.support[:, 0]), self.support[:, 0], -1.0)
        high = np.where(np.isfinite(self.support[:, 1]), self.support[:, 1], low + 2.0)
        return low, np.where(high > low, high, low + 1.0)

    def at(self, parameters: Any) -> FloatArray:
        """(n, I) multipliers of the tasks with these (n, p) parameters."""
        return np.asarray(np.clip(self.features(parameters) @ self.theta.T, 0.0, THETA_MAX) * self.scale)

    def ascend(self, parameters: Any, costs: FloatArray) -> Multipliers:
        """One step, after episodes in tasks with these (n, p) parameters that cost (n, I)."""
        excess = (costs - self.limits) / self.limits
        # One very expensive episode must not undo what many have taught.
        step = np.clip(excess, -1.0, 2.0).T @ self.features(parameters) / len(costs)
        theta = self.theta + self.rate * step
        if self.tasks is not None:
            theta = np.clip(theta, 0.0, THETA_MAX)
        else:
            theta[:, 0] = np.clip(theta[:, 0], 0.0, THETA_MAX)
        return replace(self, theta=theta)


@dataclass(frozen=True, eq=False)
class Trained:
    """What a trainer returns.

    Attributes:
        policy: what was trained; of a conditioned one, ``policy.fix(parameters)`` is the policy for a task.
        parameters: (T, p) the tasks in which it was judged, with fresh episodes.
        reward: (T, 3) lower end, mean and upper end of the value.
        costs: (T, I, 3) likewise.
        limits: (I,).
        met_limit: whether every upper end of a cost is within the limit; few episodes of a wide range may not suffice to show it.
        steps: of the environment, spent in training.
        seconds: likewise.
    """

    policy: Any
    parameters: FloatArray
    reward: FloatArray
    costs: FloatArray
    limits: FloatArray
    met_limit: bool
    steps: int
    seconds: float

    @property
    def verdict(self) -> str:
        """In words; an interval around the limit decides nothing."""
        if self.met_limit:
            return "limit met"
        exceeded = (self.costs[:, :, 0] > self.limits).any()
        return "limit EXCEEDED" if exceeded else "limit not shown to be met, judge it on more episodes"

    def __str__(self) -> str:
        lines = [f"{self.steps} steps in {self.seconds:.0f} s; {self.verdict} ({len(self.parameters)} tasks judged)"]
        for task, reward, costs in zip(self.parameters, self.reward, self.costs):
            spent = ", ".join(f"{c[1]:.3g} [{c[0]:.3g}, {c[2]:.3g}] of {d:g}" for c, d in zip(costs, self.limits))
            lines.append(
                f"  task {np.round(task, 3).tolist()}: reward {reward[1]:.4g} [{reward[0]:.4g}, {reward[2]:.4g}], cost {spent}"
            )
        return "\n".join(lines)


def step_costs(
    family: GymFamily, env: Any, observation: Any, action: Any
) -> tuple[Any, float, FloatArray, bool, bool, dict[str, Any]]:
    """One step: next observation, reward, (K,) costs, terminated, truncated, info; costs from where rollouts take them.

    Raises:
        SimulationError: no cost.
    """
    result = env.step(action)
    if len(result) == 6:
        after, reward, cost, terminated, truncated, info = result
    else:
        after, reward, terminated, truncated, info = result
        cost = info.get("cost")
    if family.cost is not None:
        cost = family.cost(observation, action, after, info)
    if cost is None:
        raise SimulationError(
            f'cost of {family.name} must be in info["cost"], got an info with {", ".join(sorted(map(str, info))[:6]) or "nothing"}; put it there, '
            "return steps of six, or give the family cost=",
            code="SF-SIMULATION-COST",
        )
    return (
        after,
        float(reward),
        np.atleast_1d(np.asarray(cost, dtype=np.float64)),
        bool(terminated),
        bool(truncated),
        info,
    )


def evaluate_trained(
    family: GymFamily,
    policy: Any,
    tasks: FloatArray,
    *,
    conditioned: bool = False,
    episodes: int = 100,
    seed: int,
    workers: int = 1,
    steps: int = 0,
    seconds: float = 0.0,
) -> Trained:
    """Fresh episodes of a policy in each of (T, p) tasks, and whether it meets the limits there.

    The intervals are betting bounds on bounded episodes, two-sided at :data:`LEVEL` each: they hold for the number of episodes that was asked for and
    make no assumption about their distribution.
    """
    criterion = family.criterion
    low, high = family.ranges()
    table = np.zeros((len(tasks), 1 + criterion.n_constraints, 3))
    for k, task in enumerate(tasks):
        own = policy.fix(task) if conditioned else policy
        (episodes_,) = rollout(family, task, [own], episodes=episodes, seed=seed, task=k, workers=workers)
        outcomes = episodes_.outcomes()
        for q in range(table.shape[1]):
            table[k, q] = interval(outcomes[:, q], low[q], high[q])
    met = bool((table[:, 1:, 2] <= criterion.cost_limits).all())
    return Trained(policy, tasks, table[:, 0], table[:, 1:], criterion.cost_limits, met, steps, seconds)


def interval(values: FloatArray, low: float, high: float, level: float = LEVEL) -> FloatArray:
    """Lower end, mean and upper end for the mean of (n,) values in ``[low, high]``."""
    shifted, ceiling = np.clip(values - low, 0.0, high - low), high - low
    lower, upper = mean_lower(shifted, ceiling, level / 2.0), mean_upper(shifted, ceiling, level / 2.0)
    return np.array([low + lower, values.mean(), low + upper])
