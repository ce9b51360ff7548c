# ruff: noqa: T201
"""Steps per second of rollouts, beside a bare loop and Gymnasium's vector environments; run from the repository's root.

    python benchmarks/bench_rollouts.py [--episodes 64] [--width 16] [--repeats 3] [--workers 2] [--family half-cheetah] [--json]

All play the same policy (a multilayer perceptron in numpy) on the same task for the same number of steps:

* *bare*: one environment, ``policy.predict`` and ``env.step`` in a loop that sums rewards and costs and checks nothing: the yardstick;
* *one*: ``surefoot.gym.rollout`` with one environment, which checks every step; target: at most 1.1 times the time of *bare*;
* *lockstep*: ``surefoot.gym.rollout`` in one process, which checks every step;
* *processes*: the same with ``--workers`` processes, started beforehand;
* *SyncVectorEnv*, *AsyncVectorEnv*: Gymnasium's, ``--width`` environments, the policy applied to whole batches, sums and nothing else.

Times are the best of several repeats; ratios come from the same run. ``tabular`` is the gridworld, whose steps are so cheap that only overhead
is left; the other families need MuJoCo.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from surefoot.controllers import MLPPolicy
from surefoot.gym import GymFamily, tabular_family
from surefoot.gym.rollout import rollout
from surefoot.tasks import NoisyGridworld
from surefoot.text_table import text_table

HIDDEN = 64


def chosen(name: str) -> tuple[GymFamily, Any]:
    """A family and the parameters of one of its tasks."""
    if name == "tabular":
        family = tabular_family(NoisyGridworld(), 100)
    else:
        from surefoot.experiments.locomotion.families import locomotion

        family = locomotion(name)
    return family, family.sample(1, np.random.default_rng(0))[0]


def policy_for(env: Any) -> MLPPolicy:
    """A random network of the usual size for an environment."""
    rng = np.random.default_rng(0)
    inputs = int(np.prod(env.observation_space.shape, dtype=int)) or 1
    discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    outputs = int(env.action_space.n) if discrete else int(np.prod(env.action_space.shape))
    sizes = (inputs, HIDDEN, HIDDEN, outputs)
    weights = tuple(rng.normal(size=(b, a)) / np.sqrt(a) for a, b in itertools.pairwise(sizes))
    ends = {} if discrete else {"low": env.action_space.low, "high": env.action_space.high}
    return MLPPolicy(weights, tuple(np.zeros(b) for b in sizes[1:]), clip=10.0, **ends)


def bare(env: Any, policy: MLPPolicy, horizon: int, episodes: int) -> int:
    """One environment, one loop."""
    steps = 0
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        total = np.zeros(2)
        for t in range(horizon):
            action, _ = policy.predict(np.atleast_1d(observation))
            observation, reward, terminated, _, info = env.step(action)
            total += 0.99**t * np.array([reward, float(np.sum(info["cost"]))])
            steps += 1
            if terminated:
                break
    return steps


def ours(family: GymFamily, point: Any, policy: Any, episodes: int, **more: Any) -> int:
    """Everything this library does with an episode."""
    (found,) = rollout(family, point, [policy], episodes=episodes, seed=0, **more)
    return int(found.lengths.sum())


def vector(envs: Any, policy: MLPPolicy, horizon: int, episodes: int) -> int:
    """Gymnasium's vector environments; they restart an episode that has ended by themselves."""
    observations, _ = envs.reset(seed=0)
    rounds = -(-episodes // envs.num_envs)
    total = np.zeros(envs.num_envs)
    for _ in range(rounds * horizon):
        rows = np.asarray(observations, dtype=np.float64).reshape(envs.num_envs, -1)
        observations, rewards, _, _, info = envs.step(policy.act_batch(rows))
        total += rewards + np.asarray(info["cost"], dtype=np.float64).reshape(envs.num_envs, -1).sum(axis=1)
    return int(rounds * horizon * envs.num_envs)


def best(work: Callable[[], int], repeats: int) -> float:
    """Steps per second, best of several repeats after one that warms up."""
    work()
    rates = []
    for _ in range(repeats):
        began = time.perf_counter()
        steps = work()
        rates.append(steps / (time.perf_counter() - began))
    return max(rates)


class Flat:
    """A policy for observations that are one number each."""

    def __init__(self, policy: MLPPolicy) -> None:
        self.policy = policy

    def act_batch(self, observations: Any) -> Any:
        """Actions (m,)."""
        return self.policy.act_batch(np.asarray(observations).reshape(len(observations), -1))


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Steps per second of each way."""
    family, point = chosen(arguments.family)
    env = family.make(point)
    policy, horizon, episodes = policy_for(env), family.horizon, arguments.episodes
    make = partial(family.make, point)
    rates = {"bare": best(lambda: bare(env, policy, horizon, episodes), arguments.repeats)}
    rolled = Flat(policy)
    rates["one"] = best(lambda: ours(family, point, rolled, episodes, num_envs=1), arguments.repeats)
    rates["lockstep"] = best(lambda: ours(family, point, rolled, episodes, num_envs=arguments.width), arguments.repeats)
    rates[f"processes ({arguments.workers})"] = best(
        lambda: ours(family, point, rolled, episodes, num_envs=arguments.width, workers=arguments.workers),
        arguments.repeats,
    )
    for name, kind in (
        ("SyncVectorEnv", gymnasium.vector.SyncVectorEnv),
        ("AsyncVectorEnv", gymnasium.vector.AsyncVectorEnv),
    ):
        envs = kind([make] * arguments.width)
        rates[name] = best(partial(vector, envs, policy, horizon, episodes), arguments.repeats)
        envs.close()
    return rates


def main() -> None:
    """Print steps per second and ratios to the bare loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--family", default="tabular")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rates = measure(arguments)
    if arguments.json:
        json.dump(rates, sys.stdout)
        return
    rows = [["", "steps/s", "x bare"], *([name, f"{n:.0f}", f"{n / rates['bare']:.2f}"] for name, n in rates.items())]
    print("\n".join(text_table(rows)))


if __name__ == "__main__":
    main()
