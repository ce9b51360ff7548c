"""Environments that are almost what is asked for, made so.

* :class:`SafetyGymnasiumAdapter`: steps ``(obs, reward, cost, terminated, truncated, info)``, as safety benchmarks give them, become
  Gymnasium's five, with the cost in ``info["cost"]``.
* :class:`CostInInfo`: the cost computed from ``(obs, action, next_obs, info)``.
* :func:`tabular_env`, :func:`tabular_family`: a finite CMDP, or a family of them, as environments. Their exact values are known, which
  makes them the oracle of everything that simulates.

Simulation itself understands steps of six and ``GymFamily.cost`` without any of these; wrappers are for everybody else.

Letters: S states, A actions, I constraints.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from surefoot.arrays import check_integer
from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import MissingExtra
from surefoot.gym.family import GymFamily
from surefoot.tasks.family import TabularFamily

try:
    import gymnasium
    from gymnasium.spaces import Discrete
except ModuleNotFoundError as error:
    raise MissingExtra("gymnasium", "gym") from error

__all__ = ["CostInInfo", "SafetyGymnasiumAdapter", "TabularEnv", "tabular_env", "tabular_family"]


class SafetyGymnasiumAdapter(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Moves the cost of a step of six into ``info["cost"]``."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Gymnasium's five entries."""
        result: Any = self.env.step(action)
        observation, reward, cost, terminated, truncated, info = result
        return observation, reward, terminated, truncated, {**info, "cost": cost}


class CostInInfo(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Computes the cost of a step and puts it into ``info["cost"]``.

    Args:
        env: any environment.
        cost: ``cost(obs, action, next_obs, info)`` -> one number, or I of them.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], cost: Callable[[Any, Any, Any, dict[str, Any]], Any]) -> None:
        super().__init__(env)
        self._cost = cost
        self._before: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The environment's."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._before = copy.copy(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """The environment's, with a cost."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        cost = self._cost(self._before, action, observation, info)
        # A copy: the environment may write the next observation into the same memory.
        self._before = copy.copy(observation)
        return observation, reward, terminated, truncated, {**info, "cost": cost}


class TabularEnv(gymnasium.Env[Any, Any]):
    """A finite CMDP: observations are states, ``info["cost"]`` holds the I costs of the step.

    Args:
        cmdp: the task.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium's own convention

    def __init__(self, cmdp: TabularCMDP) -> None:
        self.observation_space = Discrete(cmdp.n_states)
        self.action_space = Discrete(cmdp.n_actions)
        self._rewards, self._costs, self._n_actions = cmdp.rewards, cmdp.costs, cmdp.n_actions
        self._start = np.cumsum(cmdp.start)
        self._first, self._successors = cmdp.row_start.tolist(), cmdp.successors
        # Running sums over all rows: a draw is one search between a row's ends.
        self._sums = np.concatenate([[0.0], np.cumsum(cmdp.probabilities)])
        self._state = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """A state from the start distribution."""
        super().reset(seed=seed)
        self._state = int(self._start.searchsorted(self.np_random.random() * self._start[-1], side="right"))
        return self._state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """One transition; such tasks have no end of their own."""
        row = self._state * self._n_actions + int(action)
        reward, cost = self._rewards[self._state, action], self._costs[:, self._state, action]
        low, high = self._first[row], self._first[row + 1]
        level = self._sums[low] + self.np_random.random() * (self._sums[high] - self._sums[low])
        found = int(self._sums[low + 1 : high + 1].searchsorted(level, side="right"))
        self._state = int(self._successors[low + min(found, high - low - 1)])
        return self._state, float(reward), False, False, {"cost": cost.copy()}


def tabular_env(cmdp: TabularCMDP) -> TabularEnv:
    """A finite CMDP as a Gymnasium environment."""
    return TabularEnv(cmdp)


def tabular_family(family: TabularFamily, horizon: int) -> GymFamily:
    """A family of finite CMDPs as environments whose episodes are cut after ``horizon`` steps.

    Values differ from the exact ones by at most what the steps after the horizon can bring, ``gamma^H r_max / (1 - gamma)``.
    """
    criterion = replace(family.criterion, horizon=check_integer("horizon", horizon, low=1))
    return GymFamily(
        name=f"{family.name}, simulated",
        parameter_names=tuple(family.parameter_names),
        support=family.support,
        criterion=criterion,
        sampler=family.sample,
        make=partial(_tabular_task, family),
    )


def _tabular_task(family: TabularFamily, parameters: Any) -> TabularEnv:
    return TabularEnv(family.cmdp(parameters))
