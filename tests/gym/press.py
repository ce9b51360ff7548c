"""A family whose optimum under a limit is known: pressing with effort a for ten steps earns 10 a and costs 10 z a^2 in task z."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from surefoot.criterion import Criterion
from surefoot.gym.family import GymFamily


class Press(gymnasium.Env[Any, Any]):
    """Pressing harder earns more and costs more, the more so the larger the task's factor."""

    def __init__(self, factor: float) -> None:
        self.observation_space = Box(-1.0, 1.0, (1,), np.float64)
        self.action_space = Box(0.0, 1.0, (1,), np.float64)
        self.factor = factor

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        noise = self.np_random.uniform(-0.1, 0.1)
        cost = float(np.clip(self.factor * action[0] ** 2 + noise * action[0], 0.0, 2.0))
        return np.array([noise]), float(action[0]), False, False, {"cost": cost}


def press(limit: float = 2.0) -> GymFamily:
    return GymFamily(
        name="press",
        parameter_names=("factor",),
        support=np.array([[0.5, 1.5]]),
        criterion=Criterion(1.0, np.array([limit]), (0.0, 1.0), np.array([2.0]), 10),
        sampler=lambda n, rng: rng.uniform(0.5, 1.5, size=(n, 1)),
        make=lambda z: Press(float(z[0])),
    )
