"""Proximal policy optimisation with a multiplier on the discounted cost, on Stable-Baselines3.

    maximise  E_z [ V_r(pi, z) - sum_i lambda_i(z) (V_c,i(pi, z) - d'_i) ]    by PPO on rewards  r_t - lambda(z) . c_t,
    raise     lambda where finished episodes cost more than d'                (:mod:`surefoot.gym.lagrange`)

``pi`` sees the observation and, if *conditioned*, the task's parameters z behind it: one run then serves every task, and ``fix(z)`` of the result is
the policy for the task z (oracle ``O_l``; a further run from there, on one task, fine-tunes it). An unconditioned run on a list of tasks with a
multiplier each is oracle ``O_s``: it does not stop raising the multiplier of a task before the policy meets the limit there.

What comes out is data (:class:`~surefoot.controllers.MLPPolicy`): nothing of this module is needed to run it. Comes with an extra:
``pip install "surefoot[sb3]"``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, as_floats, check_integer
from surefoot.controllers import MLPPolicy
from surefoot.errors import InvalidInput, MissingExtra
from surefoot.gym.family import GymFamily
from surefoot.gym.lagrange import Multipliers, Trained, evaluate_trained, step_costs
from surefoot.gym.policies import from_sb3

try:
    import torch
    from gymnasium.spaces import Box
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize
except ModuleNotFoundError as error:
    raise MissingExtra(error.name or "stable_baselines3", "sb3") from error

__all__ = ["PPOLagrangian"]

JUDGED = 5
"""Fresh tasks on which a policy for all tasks is judged."""

EPSILON = 1e-8
"""Added to variances by the normalisation of Stable-Baselines3."""


class TaskVecEnv(VecEnv):  # type: ignore[misc]
    """Environments in lockstep, each with a fresh task per episode; rewards are penalised, costs are remembered.

    Attributes:
        multipliers: replaced after every batch.
        finished: (parameters, return, costs, steps) of the episodes that ended since it was last emptied.
    """

    def __init__(
        self,
        family: GymFamily,
        draw: Callable[[], FloatArray],
        n: int,
        multipliers: Multipliers,
        seed: int,
        conditioned: bool,
    ) -> None:
        self._family, self._draw, self._conditioned = family, draw, conditioned
        self.multipliers = multipliers
        self.finished: list[tuple[FloatArray, float, FloatArray, int]] = []
        self._shared = family.rewards is not None
        self._tasks = np.stack([draw() for _ in range(n)])
        self._envs = [family.make(task) for task in self._tasks]
        self._seeds: list[int | None] = [seed + k for k in range(n)]
        self._chance = np.random.default_rng(seed)
        space = self._envs[0].observation_space
        width = int(np.prod(space.shape)) + (len(family.parameter_names) if conditioned else 0)
        super().__init__(n, Box(-np.inf, np.inf, (width,), np.float64), self._envs[0].action_space)
        self._latest = np.zeros((n, int(np.prod(space.shape))))
        self._weights = multipliers.at(self._tasks)
        self._returns, self._costs = np.zeros(n), np.zeros((n, family.criterion.n_constraints))
        self._steps = np.zeros(n, dtype=np.int64)

    def reset(self) -> FloatArray:
        for k in range(self.num_envs):
            self._begin(k)
        return self._inputs()

    def _begin(self, k: int) -> None:
        """A fresh task and a fresh start."""
        self._tasks[k] = self._draw()
        if not self._shared:
            self._envs[k].close()
            self._envs[k] = self._family.make(self._tasks[k])
            # A new environment needs a seed of its own, or it would draw one from the operating system.
            self._seeds[k] = int(self._chance.integers(2**31))
        observation, _ = self._envs[k].reset(seed=self._seeds[k])
        if self._shared:
            self._seeds[k] = None
        self._latest[k] = np.asarray(observation).ravel()
        self._weights[k] = self.multipliers.at(self._tasks[k])[0]
        self._returns[k], self._costs[k], self._steps[k] = 0.0, 0.0, 0

    def _inputs(self) -> FloatArray:
        return np.hstack([self._latest, self._tasks]) if self._conditioned else self._latest.copy()

    def step_async(self, actions: Any) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[FloatArray, FloatArray, Any, list[dict[str, Any]]]:
        n = self.num_envs
        rewards, dones = np.zeros(n), np.zeros(n, dtype=bool)
        infos: list[dict[str, Any]] = [{} for _ in range(n)]
        for k in range(n):
            rewards[k], dones[k] = self._step(k, infos[k])
        return self._inputs(), rewards.astype(np.float32), dones, infos

    def _step(self, k: int, info_out: dict[str, Any]) -> tuple[float, bool]:
        """One step of one environment; starts the next episode where this one ends."""
        criterion, task = self._family.criterion, self._tasks[k]
        before = self._latest[k].copy()
        after, reward, costs, terminated, truncated, info = step_costs(
            self._family, self._envs[k], before, self._actions[k]
        )
        if self._family.rewards is not None:
            reward = float(self._family.rewards(task[None], before, self._actions[k], after, reward, info)[0])
        weight = criterion.discount ** self._steps[k]
        self._returns[k] += weight * reward
        self._costs[k] += weight * costs
        self._steps[k] += 1
        self._latest[k] = np.asarray(after).ravel()
        over = criterion.horizon is not None and self._steps[k] >= criterion.horizon
        done = bool(terminated or truncated or over)
        penalised = float(reward - self._weights[k] @ costs)
        if done:
            self.finished.append((task.copy(), float(self._returns[k]), self._costs[k].copy(), int(self._steps[k])))
            info_out["terminal_observation"] = self._inputs()[k]
            info_out["TimeLimit.truncated"] = not terminated
            self._begin(k)
        return penalised, done

    def close(self) -> None:
        for env in self._envs:
            env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * self.num_envs if attr_name == "render_mode" else [getattr(env, attr_name) for env in self._envs]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        for env in self._envs:
            setattr(env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        return [getattr(env, method_name)(*args, **kwargs) for env in self._envs]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


class Ascent(BaseCallback):  # type: ignore[misc]
    """Moves the multipliers after every batch, and tells what is going on."""

    def __init__(self, envs: TaskVecEnv, tell: Callable[[dict[str, float]], None] | None) -> None:
        super().__init__()
        self._envs, self._tell = envs, tell

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        finished, self._envs.finished = self._envs.finished, []
        if not finished:
            return
        tasks = np.stack([episode[0] for episode in finished])
        costs = np.stack([episode[2] for episode in finished])
        self._envs.multipliers = self._envs.multipliers.ascend(tasks, costs)
        if self._tell is not None:
            self._tell(
                {
                    "steps": float(self.num_timesteps),
                    "return": float(np.mean([episode[1] for episode in finished])),
                    "cost": float(costs.sum(axis=1).mean()),
                    "length": float(np.mean([episode[3] for episode in finished])),
                    "multiplier": float(self._envs.multipliers.at(tasks).mean()),
                    "deviation": float(self.model.policy.log_std.detach().exp().mean())
                    if hasattr(self.model.policy, "log_std")
                    else 0.0,
                }
            )


@dataclass(frozen=True)
class PPOLagrangian:
    """Settings of a training run.

    Attributes:
        hidden: widths of the hidden layers of policy and critic.
        environments: stepped in lockstep.
        batch_steps: steps of each of them between updates.
        epochs, minibatch: of an update.
        learning_rate: at the start; it falls linearly to a tenth of that.
        multiplier_rate, multiplier_start: of the dual ascent; a run that goes on from a policy that was held back by a multiplier should start
            near it, or it first forgets the limit.
        deviation: of the exploration at the start.
        smoothing: of the advantage estimates (``lambda`` of GAE).
        share: of the cost limit that training may use; below 1 leaves a margin.
    """

    hidden: tuple[int, ...] = (64, 64)
    environments: int = 16
    batch_steps: int = 128
    epochs: int = 10
    minibatch: int = 256
    learning_rate: float = 5e-4
    multiplier_rate: float = 0.01
    multiplier_start: float = 0.1
    deviation: float = 0.4
    smoothing: float = 0.95
    share: float = 1.0

    def train(
        self,
        family: GymFamily,
        *,
        steps: int,
        seed: int,
        tasks: Any = None,
        conditioned: bool | None = None,
        start: MLPPolicy | None = None,
        episodes: int = 100,
        tell: Callable[[dict[str, float]], None] | None = None,
    ) -> Trained:
        """Train a policy.

        Args:
            steps: of the environment, in all.
            tasks: (T, p) explicit list, a multiplier each (one task: fine-tuning; several, unconditioned: oracle ``O_s``); ``None`` for fresh
                tasks from the family.
            conditioned: whether the policy sees the task; by default where there is no list.
            start: the policy to go on from, of the same shape as what this run trains.
            episodes: fresh ones per judged task.
            tell: called after every batch with a dictionary of numbers.

        Raises:
            InvalidInput: arguments outside their ranges, or a ``start`` of another shape.
        """
        steps = check_integer("steps", steps, low=1)
        listed = (
            None
            if tasks is None
            else as_floats(
                "tasks", np.atleast_2d(np.asarray(tasks, dtype=np.float64)), (None, len(family.parameter_names))
            )
        )
        sees = listed is None if conditioned is None else conditioned
        rng = np.random.default_rng(seed)
        multipliers = Multipliers.start(
            family.criterion, family.support, listed, self.share, self.multiplier_rate, self.multiplier_start
        )
        envs = TaskVecEnv(
            family, _drawer(family, listed, rng), self.environments, multipliers, int(rng.integers(2**30)), sees
        )
        normalised = VecNormalize(envs, gamma=family.criterion.discount, clip_obs=10.0, epsilon=EPSILON)
        model = self._model(normalised, family.criterion.discount, int(rng.integers(2**30)))
        if start is not None:
            _load(model, normalised, start)
        began = time.monotonic()
        model.learn(total_timesteps=steps, callback=Ascent(envs, tell))
        seconds = time.monotonic() - began
        policy = from_sb3(model)
        envs.close()
        judged = listed if listed is not None else family.sample(JUDGED, rng)
        return evaluate_trained(
            family,
            policy,
            judged,
            conditioned=sees,
            episodes=episodes,
            seed=int(rng.integers(2**30)),
            steps=int(model.num_timesteps),
            seconds=seconds,
        )

    def _model(self, envs: Any, discount: float, seed: int) -> Any:
        rate = self.learning_rate
        return PPO(
            "MlpPolicy",
            envs,
            learning_rate=lambda left: rate * (0.1 + 0.9 * left),
            n_steps=self.batch_steps,
            batch_size=self.minibatch,
            n_epochs=self.epochs,
            gamma=discount,
            gae_lambda=self.smoothing,
            seed=seed,
            device="cpu",
            policy_kwargs={
                "net_arch": {"pi": list(self.hidden), "vf": list(self.hidden)},
                "activation_fn": torch.nn.Tanh,
                "log_std_init": float(np.log(self.deviation)),
            },
        )


def _drawer(family: GymFamily, listed: FloatArray | None, rng: np.random.Generator) -> Callable[[], FloatArray]:
    """Draws the task of the next episode."""
    if listed is None:
        return lambda: family.sample(1, rng)[0]
    return lambda: listed[int(rng.integers(len(listed)))]


def _load(model: Any, normalised: Any, start: MLPPolicy) -> None:
    """Put a policy's layers and normalisation into a model."""
    own = [part for part in model.policy.mlp_extractor.policy_net if isinstance(part, torch.nn.Linear)] + [
        model.policy.action_net
    ]
    shapes = [tuple(layer.weight.shape) for layer in own]
    if shapes != [weight.shape for weight in start.weights]:
        raise InvalidInput(
            f"start must have layers of shapes {shapes}, got {[weight.shape for weight in start.weights]}; set hidden alike"
        )
    with torch.no_grad():
        for layer, weight, bias in zip(own, start.weights, start.biases):
            layer.weight.copy_(torch.as_tensor(weight.copy()))
            layer.bias.copy_(torch.as_tensor(bias.copy()))
    normalised.obs_rms.mean[:] = start.shift
    normalised.obs_rms.var[:] = np.asarray(start.scale) ** 2 - EPSILON
    # Counted as if the statistics came from many steps, so that a short run does not overturn them.
    normalised.obs_rms.count = 1e6
