"""The trainer on a stand-in for Stable-Baselines3: tasks, penalties and multipliers are ours, and that is what is tested.

The stand-in acts at random and learns nothing; it has the attributes that the trainer and the exporter look at. The real thing is too large for
the tests' installation.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from surefoot.gym.family import GymFamily
from surefoot.gym.lagrange import Multipliers
from tests.gym.press import Press, press
from tests.refusals import refused


class Tensor:
    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array, dtype=np.float32)
        self.shape = self.array.shape

    def detach(self) -> Tensor:
        return self

    cpu = exp = detach

    def numpy(self) -> Any:
        return self.array

    def mean(self) -> float:
        return float(self.array.mean())

    def copy_(self, other: Tensor) -> None:
        self.array[...] = other.array


class Linear:
    def __init__(self, width: int, out: int, rng: np.random.Generator) -> None:
        self.weight, self.bias = Tensor(rng.normal(size=(out, width))), Tensor(rng.normal(size=out))


class Tanh:
    pass


class FlattenExtractor:
    pass


class DummyVecEnv:
    """Environments in lockstep; the next episode begins where one ends. Seeds are those of the first episodes."""

    def __init__(self, makers: list[Any]) -> None:
        self.envs = [make() for make in makers]
        self.num_envs = len(self.envs)
        self.observation_space, self.action_space = self.envs[0].observation_space, self.envs[0].action_space

    def reset(self) -> Any:
        return np.stack([env.reset()[0] for env in self.envs])

    def step_async(self, actions: Any) -> None:
        self.actions = actions

    def step_wait(self) -> Any:
        rows: list[Any] = []
        for env, action in zip(self.envs, self.actions):
            seen, reward, terminated, truncated, info = env.step(action)
            info["TimeLimit.truncated"] = truncated and not terminated
            if terminated or truncated:
                info["terminal_observation"] = seen
                seen, _ = env.reset()
            rows.append((seen, reward, terminated or truncated, info))
        seen, rewards, dones, infos = zip(*rows)
        return np.stack(seen), np.array(rewards, dtype=np.float32), np.array(dones), list(infos)

    def close(self) -> None:
        for env in self.envs:
            env.close()


class VecNormalize:
    norm_obs = True

    def __init__(self, venv: Any, gamma: float, clip_obs: float, epsilon: float) -> None:
        size = venv.observation_space.shape[0]
        self.venv, self.clip_obs, self.epsilon = venv, clip_obs, epsilon
        self.obs_rms = SimpleNamespace(mean=np.zeros(size), var=np.ones(size), count=0.0)


class BaseCallback:
    def __init__(self) -> None:
        self.num_timesteps, self.model = 0, None


class PPO:
    """Collects batches with random actions and calls back after each."""

    def __init__(
        self, policy: str, env: Any, *, n_steps: int, seed: int, policy_kwargs: dict[str, Any], **settings: Any
    ) -> None:
        self.env, self.n_steps, self.rng = env, n_steps, np.random.default_rng(seed)
        self.settings, self.num_timesteps = settings, 0
        self.observation_space, self.action_space = env.venv.observation_space, env.venv.action_space
        width, net = self.observation_space.shape[0], []
        for out in policy_kwargs["net_arch"]["pi"]:
            net += [Linear(width, out, self.rng), Tanh()]
            width = out
        self.policy = SimpleNamespace(
            mlp_extractor=SimpleNamespace(policy_net=net),
            action_net=Linear(width, self.action_space.shape[0], self.rng),
            features_extractor=FlattenExtractor(),
            log_std=Tensor([0.5]),
        )

    def get_vec_normalize_env(self) -> Any:
        return self.env

    def learn(self, total_timesteps: int, callback: Any) -> None:
        envs = self.env.venv
        callback.model = self
        envs.reset()
        while self.num_timesteps < total_timesteps:
            for _ in range(self.n_steps):
                envs.step_async(self.rng.uniform(0.0, 1.0, (envs.num_envs, *self.action_space.shape)))
                envs.step_wait()
                self.num_timesteps += envs.num_envs
            callback.num_timesteps = self.num_timesteps
            callback._on_rollout_end()


class NoGrad:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


FAKES = {
    "torch": {"nn": SimpleNamespace(Linear=Linear, Tanh=Tanh), "no_grad": NoGrad, "as_tensor": Tensor},
    "stable_baselines3": {"PPO": PPO},
    "stable_baselines3.common": {},
    "stable_baselines3.common.callbacks": {"BaseCallback": BaseCallback},
    "stable_baselines3.common.vec_env": {"DummyVecEnv": DummyVecEnv, "VecNormalize": VecNormalize},
}


@pytest.fixture
def sb3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The trainer's module, imported on top of the stand-in."""
    for name, content in FAKES.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "surefoot.gym.sb3", raising=False)
    yield importlib.import_module("surefoot.gym.sb3")
    sys.modules.pop("surefoot.gym.sb3", None)


def small(sb3: Any, **more: Any) -> Any:
    return sb3.PPOLagrangian(**({"hidden": (4,), "environments": 3, "n_steps": 20} | more))


def envs_of(sb3: Any, family: GymFamily, tasks: Any, conditioned: bool = True) -> Any:
    """Two environments that go through a list of tasks, and what they share."""
    listed = np.asarray(tasks, dtype=float)
    order = iter(np.tile(listed, (1000, 1)))
    course = sb3.Course(lambda: next(order), Multipliers.start(family.criterion, family.support, listed, 1.0, 0.1), 7)
    return DummyVecEnv([lambda k=k: sb3.TaskEnv(family, course, 7 + k, conditioned) for k in range(2)]), course


def test_episodes_are_cut_at_the_horizon_and_rewards_are_penalised(sb3: Any) -> None:
    envs, course = envs_of(sb3, press(), [[0.5], [1.5]])
    inputs = envs.reset()
    assert inputs.shape == (2, 2)
    factors = inputs[:, 1]
    for step in range(10):
        envs.step_async(np.full((2, 1), 0.6))
        inputs, rewards, dones, infos = envs.step_wait()
        assert dones.all() == (step == 9)
        # theta .1 times the reward's range over the largest cost: each unit of cost takes .05 off.
        wanted = 0.6 - 0.05 * factors * 0.36
        np.testing.assert_allclose(rewards, wanted, atol=0.05 * 0.06 + 1e-6)
    assert [info["TimeLimit.truncated"] for info in infos] == [True, True]
    assert all(info["terminal_observation"][1] == factor for info, factor in zip(infos, factors))
    for (task, total, costs, steps), factor in zip(course.finished, factors):
        assert (task[0], steps) == (factor, 10)
        assert total == pytest.approx(6.0)
        assert costs[0] == pytest.approx(10 * factor * 0.36, abs=0.6)


def test_a_terminated_episode_is_no_time_limit(sb3: Any) -> None:
    class Ending(Press):
        def step(self, action: Any) -> Any:
            return (*super().step(action)[:2], True, False, {"cost": 0.5})

    family = replace(press(), make=lambda z: Ending(float(z[0])))
    envs, course = envs_of(sb3, family, [[0.5], [1.5]])
    envs.reset()
    envs.step_async(np.full((2, 1), 0.6))
    _, _, dones, infos = envs.step_wait()
    assert dones.all() and not any(info["TimeLimit.truncated"] for info in infos)
    assert [(episode[1], episode[2].tolist(), episode[3]) for episode in course.finished] == [(0.6, [0.5], 1)] * 2


def test_every_environment_of_a_fresh_task_is_seeded_by_the_run(sb3: Any) -> None:
    first, second = (envs_of(sb3, press(), [[0.5], [1.5]])[0] for _ in range(2))
    for envs in (first, second):
        envs.reset()
    for _ in range(25):
        seen = []
        for envs in (first, second):
            envs.step_async(np.full((2, 1), 0.6))
            seen.append(envs.step_wait()[0])
        np.testing.assert_array_equal(seen[0], seen[1])


def test_an_unconditioned_policy_does_not_see_the_task(sb3: Any) -> None:
    assert envs_of(sb3, press(), [[0.5], [1.5]], conditioned=False)[0].reset().shape == (2, 1)


def test_a_task_is_fresh_in_every_episode(sb3: Any) -> None:
    envs, _ = envs_of(sb3, press(), [[0.5], [0.7], [0.9], [1.1], [1.3]])
    seen = [envs.reset()[:, 1]]
    for _ in range(2):
        for _ in range(10):
            envs.step_async(np.zeros((2, 1)))
            inputs = envs.step_wait()[0]
        seen.append(inputs[:, 1])
    assert len({float(value) for row in seen for value in row}) >= 4


def test_reward_only_families_use_the_rewards_of_the_task(sb3: Any) -> None:
    family = press()
    shared = GymFamily(
        family.name, family.parameter_names, family.support, family.criterion, family.sampler, family.make,
        rewards=lambda z, obs, action, after, reward, info: reward * z[:, 0] / 2.0,
    )  # fmt: skip
    envs, course = envs_of(sb3, shared, [[0.5], [1.5]])
    factors = envs.reset()[:, 1]
    for _ in range(10):
        envs.step_async(np.full((2, 1), 0.2))
        envs.step_wait()
    np.testing.assert_allclose([episode[1] for episode in course.finished], factors)


def test_training_conditioned_on_the_task(sb3: Any) -> None:
    told: list[dict[str, float]] = []
    trained = small(sb3).train(press(), steps=600, seed=0, episodes=4, tell=told.append)
    assert trained.policy.n_inputs == 2
    assert trained.policy.fix([1.0]).n_inputs == 1
    assert trained.steps == 600
    assert trained.parameters.shape == (5, 1)
    assert [numbers["steps"] for numbers in told] == [60.0 * k for k in range(1, 11)]
    assert all(numbers["length"] == 10.0 for numbers in told)


def test_the_multiplier_of_the_worst_task_rises_most(sb3: Any) -> None:
    told: list[dict[str, float]] = []
    trained = small(sb3, cost_limit_fraction=0.75, multiplier_rate=0.3).train(
        press(), steps=1200, seed=0, tasks=[[0.5], [1.5]], episodes=4, tell=told.append
    )
    # Random effort costs 10 z / 3 on average: 1.7 and 5 with 1.5 to spend.
    assert told[-1]["multiplier"] > told[0]["multiplier"]
    assert trained.policy.n_inputs == 1
    assert trained.parameters.tolist() == [[0.5], [1.5]]


def test_training_goes_on_from_a_policy(sb3: Any) -> None:
    first = small(sb3).train(press(), steps=60, seed=0, episodes=2).policy
    again = small(sb3).train(press(), steps=60, seed=1, tasks=[[1.0]], start=first.fix([1.0]), episodes=2).policy
    # The stand-in learns nothing, so what comes out is what went in, in single precision.
    for observation in ([-0.5], [0.0], [0.5]):
        np.testing.assert_allclose(again.predict(observation)[0], first.fix([1.0]).predict(observation)[0], atol=1e-5)
    with refused("SF-ARGUMENT-SHAPE", "start", "(4, 2)", "(1, 4)", "[(4, 1), (1, 4)]"):
        small(sb3).train(press(), steps=60, seed=1, start=first.fix([1.0]), episodes=2)


def test_a_seed_decides_everything(sb3: Any) -> None:
    runs = [small(sb3).train(press(), steps=120, seed=5, episodes=3) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].reward, runs[1].reward)
    np.testing.assert_array_equal(runs[0].parameters, runs[1].parameters)


@pytest.mark.parametrize("safe_steps", [100, 0])
def test_a_library_is_trained_from_its_recipe(safe_steps: int, sb3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from surefoot.experiments.locomotion import library

    tiny = {"environments": 2, "n_steps": 16}
    changes: dict[str, Any] = {
        "members": np.array([[0.3], [0.6]]),
        "tuned": (1,),
        "settings": tiny,
        "safe_steps": safe_steps,
    }
    recipe = replace(library.RECIPES["hopper"], **changes)
    monkeypatch.setitem(library.RECIPES, "hopper", recipe)
    trained = library.train_library("hopper", seed=3, steps_scale=1e-5, episodes=2)
    assert trained.parameters.tolist() == [[0.3], [0.3], [0.6]]
    assert [policy.n_inputs for policy in trained.policies] == [11, 11, 11]
    general, safe = trained.reports
    assert general.policy.n_inputs == 12
    assert len(safe.parameters) == len(recipe.safe_tasks)
    assert (safe.steps > 0) is (safe_steps > 0)


def test_what_did_not_help_is_not_kept() -> None:
    from surefoot.experiments.locomotion.library import _merit
    from surefoot.gym.lagrange import Trained

    def report(reward: float, cost: float) -> Trained:
        return Trained(
            None,
            np.zeros((1, 1)),
            np.full((1, 3), reward),
            np.full((1, 1, 3), cost),
            np.array([5.0]),
            cost <= 5,
            1,
            1.0,
        )

    ordered = [report(9.0, 8.0), report(9.0, 6.0), report(1.0, 4.9), report(2.0, 0.1)]
    assert sorted((ordered[k] for k in (2, 0, 3, 1)), key=_merit) == ordered


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"steps": 0}, ("SF-ARGUMENT-RANGE", "steps")),
        ({"tasks": [[1.0, 2.0]]}, ("SF-ARGUMENT-SHAPE", "tasks")),
        ({"tasks": [[np.nan]]}, ("SF-ARGUMENT-FINITE",)),
    ],
)
def test_arguments_are_checked(sb3: Any, change: dict[str, Any], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        small(sb3).train(press(), **({"steps": 60, "seed": 0} | change))


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("surefoot.gym.sb3", "torch", "sb3"),
        ("surefoot.gym.sb3", "stable_baselines3", "sb3"),
        ("surefoot.gym.cma", "cma", "cma"),
        ("surefoot.experiments.locomotion.families", "gymnasium", "mujoco"),
    ],
)
def test_a_missing_extra_is_named(module: str, missing: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, module, raising=False)
    with refused("SF-EXTRA-MISSING", missing, f'"surefoot[{extra}]"'):
        importlib.import_module(module)


def test_a_body_needs_mujoco(monkeypatch: pytest.MonkeyPatch) -> None:
    from surefoot.experiments.locomotion import families as locomotion

    monkeypatch.setitem(sys.modules, "mujoco", None)
    locomotion._template.cache_clear()
    with refused("SF-EXTRA-MISSING", "mujoco", '"surefoot[mujoco]"'):
        locomotion.hopper().make(np.array([0.5]))
