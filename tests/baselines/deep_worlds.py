"""Small problems with known answers for the deep baselines: a constrained MDP of three states, a linear-quadratic task, random batches."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from surefoot import Criterion, TabularCMDP
from surefoot.arrays import FloatArray
from surefoot.baselines.deep.batch import Batch
from surefoot.baselines.deep.networks import StochasticPolicy
from surefoot.gym.adapters import TabularEnv, tabular_env
from surefoot.gym.family import GymFamily

__all__ = ["LQ", "lq_family", "lq_gain", "random_batch", "three_states", "three_states_family"]

HORIZON = 40


def three_states(limit: float = 1.2) -> TabularCMDP:
    """A road of three places: haste pays and costs, rest does neither; the optimum under the limit is in between."""
    haste = [[0.1, 0.8, 0.1], [0.0, 0.2, 0.8], [0.3, 0.0, 0.7]]
    rest = [[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [0.2, 0.4, 0.4]]
    transitions = np.stack([np.array(rest), np.array(haste)], axis=1)
    rewards = np.array([[0.0, 0.4], [0.1, 0.7], [0.2, 1.0]])
    costs = np.array([[[0.0, 0.2], [0.0, 0.5], [0.1, 0.6]]])
    return TabularCMDP(transitions, rewards, costs, np.array([limit]), np.array([1.0, 0.0, 0.0]), 0.85)


def three_states_family(cmdp: TabularCMDP) -> GymFamily:
    """One task, as an environment that counts its states."""

    def make(parameters: FloatArray) -> TabularEnv:
        return tabular_env(cmdp)

    criterion = Criterion(cmdp.discount, cmdp.cost_limits, (0.0, 1.0), np.array([0.6]), HORIZON)
    return GymFamily(
        "three-states", ("nothing",), np.array([[0.0, 1.0]]), criterion, lambda n, rng: rng.uniform(size=(n, 1)), make
    )


class LQ(gymnasium.Env[Any, Any]):
    """``x' = A x + B a + noise``, reward ``-(x^2 + R a^2)``, and the effort ``a^2`` as cost."""

    A, B, R, NOISE = 1.1, 0.8, 0.3, 0.1
    observation_space = Box(-np.inf, np.inf, (1,), np.float64)
    action_space = Box(-20.0, 20.0, (1,), np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[FloatArray, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = float(self.np_random.normal())
        return np.array([self.x]), {}

    def step(self, action: Any) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        a = float(action[0])
        reward = -(self.x**2 + self.R * a**2)
        self.x = self.A * self.x + self.B * a + self.NOISE * float(self.np_random.normal())
        return np.array([self.x]), reward, False, False, {"cost": a**2}


def lq_family(limit: float = 1e3) -> GymFamily:
    """The linear-quadratic task, whose limit does not bind unless it is low."""
    criterion = Criterion(0.9, np.array([limit]), (-1e4, 0.0), np.array([400.0]), 30)
    return GymFamily(
        "lq", ("nothing",), np.array([[0.0, 1.0]]), criterion, lambda n, rng: rng.uniform(size=(n, 1)), lambda p: LQ()
    )


def lq_gain(discount: float = 0.9) -> float:
    """``a = -k x``, by the Riccati recursion."""
    p = 1.0
    for _ in range(500):
        k = discount * LQ.A * LQ.B * p / (LQ.R + discount * LQ.B**2 * p)
        p = 1.0 + LQ.R * k**2 + discount * p * (LQ.A - LQ.B * k) ** 2
    return k


def random_batch(
    policy: StochasticPolicy, theta: FloatArray, rng: np.random.Generator, n: int = 40, cost: float = 1.0
) -> Batch:
    """Samples of the policy with advantages that are mere noise: gradients must be right for any."""
    inputs = rng.standard_normal((n, policy.network.sizes[0]))
    actions, logs = policy.draw(theta, inputs, rng)
    return Batch(
        inputs, actions, logs, rng.uniform(0.1, 1.0, n) / 4.0, rng.standard_normal(n), rng.standard_normal(n), 0.0, cost, 4, n
    )  # fmt: skip
