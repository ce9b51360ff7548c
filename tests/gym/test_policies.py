"""The exporter, on stand-ins that have the attributes it looks at and no torch behind them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

from surefoot.gym.policies import from_sb3
from tests.refusals import refused


class Tensor:
    """As much of a tensor as is read."""

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array, dtype=np.float32)

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        return self.array


class Linear:
    def __init__(self, rng: np.random.Generator, width: int, out: int) -> None:
        self.weight, self.bias = Tensor(rng.normal(size=(out, width))), Tensor(rng.normal(size=out))

    def __call__(self, x: Any) -> Any:
        return self.weight.array @ x + self.bias.array


class Tanh:
    def __call__(self, x: Any) -> Any:
        return np.tanh(x)


class ReLU:
    def __call__(self, x: Any) -> Any:
        return np.maximum(x, 0.0)


class Dropout:
    pass


class FlattenExtractor:
    pass


class NatureCNN:
    pass


def through(parts: list[Any], x: Any) -> Any:
    for part in parts:
        x = part(x)
    return x


def model(policy: Any, action_space: Any = None, observation_space: Any = None, statistics: Any = None) -> Any:
    policy.features_extractor = getattr(policy, "features_extractor", FlattenExtractor())
    return SimpleNamespace(
        policy=policy,
        action_space=Box(-2.0, 2.0, (2,)) if action_space is None else action_space,
        observation_space=Box(-np.inf, np.inf, (3,)) if observation_space is None else observation_space,
        get_vec_normalize_env=lambda: statistics,
    )


def on_policy(rng: np.random.Generator, out: int = 2, **more: Any) -> Any:
    net = [Linear(rng, 3, 8), Tanh(), Linear(rng, 8, 8), Tanh()]
    return SimpleNamespace(mlp_extractor=SimpleNamespace(policy_net=net), action_net=Linear(rng, 8, out), **more)


def test_on_policy_with_normalisation() -> None:
    rng = np.random.default_rng(0)
    policy = on_policy(rng)
    statistics = SimpleNamespace(
        norm_obs=True,
        obs_rms=SimpleNamespace(mean=rng.normal(size=3), var=rng.uniform(0.5, 2.0, size=3)),
        epsilon=1e-8,
        clip_obs=1.5,
    )
    exported = from_sb3(model(policy, statistics=statistics))
    for observation in rng.normal(scale=2.0, size=(10, 3)):
        scaled = np.clip((observation - statistics.obs_rms.mean) / np.sqrt(statistics.obs_rms.var + 1e-8), -1.5, 1.5)
        wanted = np.clip(policy.action_net(through(policy.mlp_extractor.policy_net, scaled)), -2.0, 2.0)
        np.testing.assert_allclose(exported.predict(observation)[0], wanted, atol=1e-12)


def test_normalisation_of_rewards_alone_changes_nothing() -> None:
    policy = on_policy(np.random.default_rng(1))
    plain, wrapped = from_sb3(model(policy)), from_sb3(model(policy, statistics=SimpleNamespace(norm_obs=False)))
    np.testing.assert_array_equal(plain.predict(np.ones(3))[0], wrapped.predict(np.ones(3))[0])


def test_discrete_actions() -> None:
    rng = np.random.default_rng(2)
    policy = on_policy(rng, out=4)
    exported = from_sb3(model(policy, Discrete(4)))
    actions = [exported.predict(observation)[0] for observation in rng.normal(scale=3.0, size=(20, 3))]
    rng = np.random.default_rng(2)
    on_policy(rng, out=4)
    wanted = [
        int(np.argmax(policy.action_net(through(policy.mlp_extractor.policy_net, o))))
        for o in rng.normal(scale=3.0, size=(20, 3))
    ]
    assert actions == wanted
    assert len(set(actions)) > 1


@pytest.mark.parametrize("kind", ["sac", "td3"])
def test_off_policy_actors_are_squashed(kind: str) -> None:
    rng = np.random.default_rng(3)
    hidden, last = [Linear(rng, 3, 8), ReLU(), Linear(rng, 8, 8), ReLU()], Linear(rng, 8, 2)
    actor: Any = (
        SimpleNamespace(latent_pi=hidden, mu=last) if kind == "sac" else SimpleNamespace(mu=[*hidden, last, Tanh()])
    )
    space = Box(np.array([-1.0, 0.0]), np.array([3.0, 5.0]), dtype=np.float64)
    exported = from_sb3(model(SimpleNamespace(actor=actor), space))
    for observation in rng.normal(size=(10, 3)):
        unit = (np.tanh(through([*hidden, last], observation)) + 1.0) / 2.0
        np.testing.assert_allclose(
            exported.predict(observation)[0], space.low + (space.high - space.low) * unit, atol=1e-12
        )


def with_part(part: Any) -> Any:
    policy = on_policy(np.random.default_rng(4))
    policy.mlp_extractor.policy_net.insert(1, part)
    return policy


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        (
            lambda: model(on_policy(np.random.default_rng(5), features_extractor=NatureCNN())),
            ("SF-POLICY-NETWORK", "observations Box through NatureCNN"),
        ),
        (
            lambda: model(on_policy(np.random.default_rng(5)), observation_space=Dict({})),
            ("SF-POLICY-NETWORK", "observations Dict through FlattenExtractor"),
        ),
        (
            lambda: model(on_policy(np.random.default_rng(5), lstm_actor=object())),
            ("SF-POLICY-RECURRENT", "model"),
        ),
        (lambda: model(with_part(Dropout())), ("SF-POLICY-NETWORK", "model", "Dropout")),
        (lambda: model(with_part(ReLU())), ("SF-POLICY-NETWORK", "model")),
        (
            lambda: model(on_policy(np.random.default_rng(5)), Box(-1.0, 1.0, (2, 2))),
            ("SF-POLICY-ACTIONS", "action_space"),
        ),
        (
            lambda: model(on_policy(np.random.default_rng(5)), MultiDiscrete([2, 3])),
            ("SF-POLICY-ACTIONS", "action_space"),
        ),
        (
            lambda: model(on_policy(np.random.default_rng(5)), Discrete(2, start=1)),
            ("SF-POLICY-ACTIONS", "action_space", "0", "start 1"),
        ),
        (lambda: SimpleNamespace(predict=1), ("SF-POLICY-MODEL", "model", "SimpleNamespace")),
        (lambda: model(SimpleNamespace(q_net=1)), ("SF-POLICY-ACTOR", "model")),
    ],
)
def test_what_cannot_be_exported_is_refused(given: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        from_sb3(given())
