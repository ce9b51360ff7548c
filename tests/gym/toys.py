"""Small environments with known values.

*Coins*: in every one of H = 4 steps the action ``a`` in [0, 1] is the chance of a coin u; the reward is ``.3 + .4 g u`` for the task's gain g and
the cost is ``u' in {0, 1}`` of another coin with chance ``a / 2``. Hence ``V_r = h (.3 + .4 g a)`` and ``V_c = h a / 2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from surefoot.criterion import Criterion
from surefoot.gym.family import GymFamily, Signal

HORIZON, DISCOUNT = 4, 0.9
WEIGHT = (1 - DISCOUNT**HORIZON) / (1 - DISCOUNT)
CRITERION = Criterion(DISCOUNT, [1.2], (0.0, 1.0), [1.0], HORIZON)


class Coins(gymnasium.Env[Any, Any]):
    """One task."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, gain: float) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (2,), np.float64)
        self.action_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float64)
        self.gain = gain

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.np_random.random(2), {}

    def step(self, action: Any) -> Any:
        coin, cost = self.np_random.random(2) < [float(action[0]), 0.5 * float(action[0])]
        return (
            self.np_random.random(2),
            0.3 + 0.4 * self.gain * coin,
            False,
            False,
            {"cost": float(cost), "coin": float(coin)},
        )


@dataclass(frozen=True)
class Constant:
    """The same action always; data, so that a policy set can be saved with a kind for it."""

    action: float

    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[Any, None]:
        return np.array([self.action]), None


@dataclass(frozen=True)
class Batched(Constant):
    """The same, for many observations at once."""

    def act_batch(self, observations: Any) -> Any:
        return np.full((len(observations), 1), self.action)


@dataclass(frozen=True)
class Noisy:
    """A stochastic policy that draws from the episode's generator."""

    def predict(self, observation: Any, *, rng: np.random.Generator) -> tuple[Any, None]:
        return rng.random(1), None


def gains(n: int, rng: np.random.Generator) -> Any:
    return rng.uniform(0.2, 1.0, (n, 1))


def make(parameters: Any) -> Coins:
    return Coins(float(parameters[0]))


def shared_rewards(parameters: Any, obs: Any, action: Any, next_obs: Any, reward: float, info: dict[str, Any]) -> Any:
    return 0.3 + 0.4 * parameters[:, 0] * info["coin"]


def coin_of(obs: Any, action: Any, next_obs: Any, reward: float, info: dict[str, Any]) -> float:
    return float(info["coin"])


def coins(**changes: Any) -> GymFamily:
    """The family, with some of its fields changed."""
    fields: dict[str, Any] = {
        "name": "coins",
        "parameter_names": ("gain",),
        "support": [[0.0, 1.0]],
        "criterion": CRITERION,
        "sampler": gains,
        "make": make,
    }
    return GymFamily(**{**fields, **changes})


def shared_coins(**changes: Any) -> GymFamily:
    """The same tasks, told to differ in the reward only."""
    return coins(name="shared coins", rewards=shared_rewards, **changes)


MEAN_COIN = Signal("coins", 0.0, 1.0, coin_of)


def exact(gain: Any, action: Any) -> tuple[Any, Any]:
    """Return and cost of a constant policy."""
    return WEIGHT * (0.3 + 0.4 * np.asarray(gain) * action), WEIGHT * 0.5 * action
