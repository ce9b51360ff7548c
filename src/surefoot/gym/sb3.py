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
from functools import partial
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, as_floats, check_integer
from surefoot.controllers import MLPPolicy
from surefoot.deprecation import renamed_arguments
from surefoot.errors import InvalidInput, MissingExtra
from surefoot.gym.family import GymFamily
from surefoot.gym.lagrange import Multipliers, Trained, evaluate_trained, step_costs
from surefoot.gym.policies import from_sb3

try:
    import gymnasium
    import torch
    from gymnasium.spaces import Box
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
except ModuleNotFoundError as error:
    raise MissingExtra(error.name or "stable_baselines3", "sb3") from error

__all__ = ["PPOLagrangian"]

JUDGED = 5
"""Fresh tasks on which a policy for all tasks is judged."""

EPSILON = 1e-8
"""Added to variances by the normalisation of Stable-Baselines3."""


class Course:
    """What the environments of a run share: where tasks come from, what costs weigh, which episodes ended.

    Args:
        draw: the task (p,) of the next episode.
        multipliers: of the tasks; replaced after every batch.
        seed: of environments that are made anew.

    Attributes:
        finished: (parameters, return, costs, steps) of the episodes that ended since it was last emptied.
    """

    def __init__(self, draw: Callable[[], FloatArray], multipliers: Multipliers, seed: int) -> None:
        self.draw, self.multipliers = draw, multipliers
        self.finished: list[tuple[FloatArray, float, FloatArray, int]] = []
        self._rng = np.random.default_rng(seed)

    def fresh_seed(self) -> int:
        """For a new environment, which would draw one from the operating system otherwise."""
        return int(self._rng.integers(2**31))


class TaskEnv(gymnasium.Env[FloatArray, Any]):
    """A fresh task in every episode; rewards are penalised, the horizon cuts, costs are remembered.

    Args:
        family: the tasks.
        course: shared with the other environments of the run.
        seed: of the first episode, where ``reset`` is given none.
        conditioned: whether the task's parameters are part of the observation.
    """

    def __init__(self, family: GymFamily, course: Course, seed: int, conditioned: bool) -> None:
        self._family, self._course, self._conditioned = family, course, conditioned
        self._seed: int | None = seed
        self._task = course.draw()
        self._env = family.make(self._task)
        width = int(np.prod(self._env.observation_space.shape)) + (len(family.parameter_names) if conditioned else 0)
        self.observation_space = Box(-np.inf, np.inf, (width,), np.float64)
        self.action_space = self._env.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """A fresh task and a fresh start."""
        self._task = self._course.draw()
        if self._family.shared:
            seed, self._seed = self._seed if seed is None else seed, None
        else:
            self._env.close()
            self._env, seed = self._family.make(self._task), self._course.fresh_seed()
        observation, _ = self._env.reset(seed=seed)
        self._latest = np.asarray(observation, dtype=np.float64).ravel()
        self._penalty = self._course.multipliers.at(self._task)[0]
        self._return, self._costs, self._steps = 0.0, np.zeros(self._family.criterion.n_costs), 0
        return self._input(), {}

    def _input(self) -> FloatArray:
        """What the policy sees; an array of its own."""
        return np.concatenate([self._latest, self._task]) if self._conditioned else self._latest.copy()

    def step(self, action: Any) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """A step of the task, its reward less what its costs weigh."""
        criterion, before = self._family.criterion, self._latest.copy()
        after, reward, costs, terminated, truncated, info = step_costs(self._family, self._env, before, action)
        if self._family.rewards is not None:
            reward = float(self._family.rewards(self._task[None], before, action, after, reward, info)[0])
        weight = criterion.discount**self._steps
        self._return += weight * reward
        charged, spent = costs, self._costs
        self._costs = spent + weight * costs
        if criterion.functionals:
            # Discounted, an episode's charges sum to what the functional gained over an episode without cost.
            charged = (criterion.measure(self._costs) - criterion.measure(spent)) / weight
        self._steps += 1
        self._latest = np.asarray(after, dtype=np.float64).ravel()
        cut = bool(truncated or (criterion.horizon is not None and self._steps >= criterion.horizon))
        if terminated or cut:
            self._course.finished.append((self._task.copy(), self._return, criterion.measure(self._costs), self._steps))
        return self._input(), float(reward - self._penalty @ charged), bool(terminated), cut, {}

    def close(self) -> None:
        """Close the task."""
        self._env.close()


class Ascent(BaseCallback):  # type: ignore[misc]
    """Moves the multipliers after every batch, and tells what is going on."""

    def __init__(self, course: Course, tell: Callable[[dict[str, float]], None] | None) -> None:
        super().__init__()
        self._course, self._tell = course, tell

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        finished, self._course.finished = self._course.finished, []
        if not finished:
            return
        tasks = np.stack([episode[0] for episode in finished])
        costs = np.stack([episode[2] for episode in finished])
        self._course.multipliers = self._course.multipliers.ascend(tasks, costs)
        if self._tell is not None:
            self._tell(
                {
                    "steps": float(self.num_timesteps),
                    "return": float(np.mean([episode[1] for episode in finished])),
                    "cost": float(costs.sum(axis=1).mean()),
                    "length": float(np.mean([episode[3] for episode in finished])),
                    "multiplier": float(self._course.multipliers.at(tasks).mean()),
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
        n_steps: of each of them between updates.
        epochs, batch_size: of an update.
        learning_rate: at the start; it falls linearly to a tenth of that.
        multiplier_rate, multiplier_start: of the dual ascent; a run that goes on from a policy that was held back by a multiplier should start
            near it, or it first forgets the limit.
        log_std_init: logarithm of the exploration's standard deviation at the start.
        gae_lambda: of the advantage estimates.
        cost_limit_fraction: of the cost limit, what training may use; below 1 leaves a margin.
    """

    hidden: tuple[int, ...] = (64, 64)
    environments: int = 16
    n_steps: int = 128
    epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 5e-4
    multiplier_rate: float = 0.01
    multiplier_start: float = 0.1
    log_std_init: float = float(np.log(0.4))
    gae_lambda: float = 0.95
    cost_limit_fraction: float = 1.0

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
            family.criterion,
            family.support,
            listed,
            self.cost_limit_fraction,
            self.multiplier_rate,
            self.multiplier_start,
        )
        first = int(rng.integers(2**30))
        course = Course(_drawer(family, listed, rng), multipliers, first)
        envs = DummyVecEnv([partial(TaskEnv, family, course, first + k, sees) for k in range(self.environments)])
        normalised = VecNormalize(envs, gamma=family.criterion.discount, clip_obs=10.0, epsilon=EPSILON)
        model = self._model(normalised, family.criterion.discount, int(rng.integers(2**30)))
        if start is not None:
            _load(model, normalised, start)
        began = time.monotonic()
        model.learn(total_timesteps=steps, callback=Ascent(course, tell))
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
            n_steps=self.n_steps,
            batch_size=self.batch_size,
            n_epochs=self.epochs,
            gamma=discount,
            gae_lambda=self.gae_lambda,
            seed=seed,
            device="cpu",
            policy_kwargs={
                "net_arch": {"pi": list(self.hidden), "vf": list(self.hidden)},
                "activation_fn": torch.nn.Tanh,
                "log_std_init": self.log_std_init,
            },
        )


# Names of settings before they were Stable-Baselines3's own; ``deviation`` was no logarithm.
PPOLagrangian.__init__ = renamed_arguments(  # type: ignore[method-assign]
    batch_steps="n_steps",
    minibatch="batch_size",
    smoothing="gae_lambda",
    share="cost_limit_fraction",
    deviation=("log_std_init", lambda deviation: float(np.log(deviation))),
)(PPOLagrangian.__init__)


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
            f"start must have layers of shapes {shapes}, got {[weight.shape for weight in start.weights]}; set hidden alike",
            code="SF-ARGUMENT-SHAPE",
        )
    with torch.no_grad():
        for layer, weight, bias in zip(own, start.weights, start.biases):
            layer.weight.copy_(torch.as_tensor(weight.copy()))
            layer.bias.copy_(torch.as_tensor(bias.copy()))
    normalised.obs_rms.mean[:] = start.shift
    normalised.obs_rms.var[:] = np.asarray(start.scale) ** 2 - EPSILON
    # Counted as if the statistics came from many steps, so that a short run does not overturn them.
    normalised.obs_rms.count = 1e6
