"""Controllers as data: what they compute, how they are refused, and that a file carries them unchanged."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot.controllers import LinearPolicy, MLPPolicy
from surefoot.policyset import codec, load, register_controller, save
from tests.refusals import refused
from tests.strategies import random_policy_set


def perceptron(rng: np.random.Generator, sizes: tuple[int, ...] = (5, 8, 6, 2), **more: Any) -> MLPPolicy:
    """Random layers of these widths."""
    pairs = list(itertools.pairwise(sizes))
    weights = tuple(rng.normal(size=(out, width)) for width, out in pairs)
    box: dict[str, Any] = {"low": -1.0, "high": 1.0}
    return MLPPolicy(weights, tuple(rng.normal(size=out) for _, out in pairs), **(box | more))


def by_hand(policy: MLPPolicy, observation: Any, activation: Any) -> Any:
    """The outputs of the last layer, one product at a time."""
    hidden = np.clip((observation - policy.shift) / policy.scale, -policy.clip, policy.clip)
    for weight, bias in zip(policy.weights[:-1], policy.biases[:-1]):
        hidden = activation([sum(w * h for w, h in zip(row, hidden)) + b for row, b in zip(weight, bias)])
    return np.array(
        [sum(w * h for w, h in zip(row, hidden)) + b for row, b in zip(policy.weights[-1], policy.biases[-1])]
    )


def test_a_linear_map_is_clipped() -> None:
    policy = LinearPolicy([[2.0, 0.0], [0.0, -1.0]], [0.5, 0.0], -1.0, [1.0, 3.0])
    np.testing.assert_allclose(policy.predict([0.1, 2.0])[0], [0.7, -1.0])
    np.testing.assert_allclose(policy.predict([9.0, -2.0])[0], [1.0, 2.0])


@pytest.mark.parametrize(("name", "function"), [("tanh", np.tanh), ("relu", lambda x: np.maximum(x, 0.0))])
def test_a_perceptron_against_its_formula(name: str, function: Any) -> None:
    rng = np.random.default_rng(0)
    policy = perceptron(rng, activation=name, shift=rng.normal(size=5), scale=rng.uniform(0.5, 2.0, size=5), clip=1.5)
    for observation in rng.normal(scale=3.0, size=(20, 5)):
        outputs = by_hand(policy, observation, function)
        np.testing.assert_allclose(policy.predict(observation)[0], np.clip(outputs, -1.0, 1.0), atol=1e-12)


def test_squashing_reaches_the_range_and_discrete_actions_are_indices() -> None:
    rng = np.random.default_rng(1)
    squashed = perceptron(rng, squash=True, low=[-2.0, 0.0], high=[2.0, 10.0])
    observation = rng.normal(size=5)
    outputs = by_hand(squashed, observation, np.tanh)
    np.testing.assert_allclose(
        squashed.predict(observation)[0], [2.0 * np.tanh(outputs[0]), 5.0 + 5.0 * np.tanh(outputs[1])]
    )
    discrete = replace(squashed, squash=False, low=None, high=None)
    action, _ = discrete.predict(observation)
    assert isinstance(action, int)
    assert action == np.argmax(outputs)


@pytest.mark.parametrize("m", [1, 2, 15, 16, 17, 50])
def test_an_action_depends_on_its_own_observation_only(m: int) -> None:
    rng = np.random.default_rng(m)
    policies = [
        perceptron(rng, (7, 64, 64, 3), low=-50.0, high=50.0),
        LinearPolicy(rng.normal(size=(3, 7)), np.zeros(3), -50.0, 50.0),
    ]
    observations = rng.normal(size=(m, 7))
    for policy in policies:
        together = policy.act_batch(observations)
        alone = np.stack([policy.predict(observation)[0] for observation in observations])
        np.testing.assert_array_equal(together, alone)
        np.testing.assert_array_equal(policy.act_batch(observations[::-1])[::-1], together)
        np.testing.assert_array_equal(policy.act_batch(np.asfortranarray(observations)), together)


def test_randomness_changes_nothing() -> None:
    policy = perceptron(np.random.default_rng(2))
    drawn = policy.predict(np.ones(5), deterministic=False, rng=np.random.default_rng(3))[0]
    np.testing.assert_array_equal(drawn, policy.predict(np.ones(5))[0])


def test_fixing_the_last_inputs() -> None:
    rng = np.random.default_rng(4)
    policy = perceptron(rng, shift=rng.normal(size=5), scale=rng.uniform(0.5, 2.0, size=5), clip=1.0)
    for task in ([0.3, -0.2], [40.0, 0.0]):
        fixed = policy.fix(task)
        for observation in rng.normal(size=(5, 3)):
            whole = policy.predict(np.concatenate([observation, task]))[0]
            np.testing.assert_allclose(fixed.predict(observation)[0], whole, atol=1e-12)
    with refused("SF-ARGUMENT-LENGTH", "values", "5", "5"):
        policy.fix(np.zeros(5))


WEIGHTS, BIASES = (np.ones((3, 2)), np.ones((1, 3))), (np.zeros(3), np.zeros(1))


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"weights": WEIGHTS[:1]}, ("SF-ARGUMENT-LENGTH", "weights and biases", "1 and 2")),
        ({"weights": (WEIGHTS[0], np.ones((1, 4)))}, ("SF-ARGUMENT-SHAPE", "weights[1]")),
        ({"weights": (np.ones((3, 0)), WEIGHTS[1])}, ("SF-ARGUMENT-EMPTY", "weights[0]")),
        ({"biases": (np.zeros(2), BIASES[1])}, ("SF-ARGUMENT-SHAPE", "biases[0]")),
        ({"biases": (np.full(3, np.nan), BIASES[1])}, ("SF-ARGUMENT-FINITE", "biases[0][0]", "nan")),
        ({"activation": "selu"}, ("SF-ARGUMENT-CHOICE", "activation", "tanh, relu", "'selu'")),
        ({"low": None}, ("SF-ARGUMENT-COMBINATION", "low and high")),
        ({"low": None, "high": None, "squash": True}, ("SF-ARGUMENT-COMBINATION", "squash")),
        ({"low": 1.0}, ("SF-ARGUMENT-ORDER", "low[0]", "1 >= 1")),
        ({"clip": 0.0}, ("SF-ARGUMENT-RANGE", "clip", "0", "0.0")),
        ({"clip": np.nan}, ("SF-ARGUMENT-RANGE", "clip", "0", "nan")),
        ({"scale": [1.0, 0.0]}, ("SF-ARGUMENT-RANGE", "scale", "0", "0")),
        ({"shift": [np.inf, 0.0]}, ("SF-ARGUMENT-FINITE", "shift[0]")),
    ],
)
def test_a_malformed_perceptron_is_refused(change: dict[str, Any], refusal: tuple[str, ...]) -> None:
    fields: dict[str, Any] = {"weights": WEIGHTS, "biases": BIASES, "low": -1.0, "high": 1.0}
    MLPPolicy(**fields)
    with refused(*refusal):
        MLPPolicy(**(fields | change))


def test_an_observation_of_another_environment_is_refused() -> None:
    with refused("SF-ARGUMENT-MISMATCH", "observation", "5", "4"):
        perceptron(np.random.default_rng(5)).predict(np.zeros(4))


@dataclass(frozen=True)
class Thermostat:
    """Heat in proportion to what is missing; a user's own controller."""

    setpoint: float
    gain: float
    schedule: Any

    def predict(self, observation: Any, *, deterministic: bool = False) -> tuple[Any, None]:
        return np.clip(self.gain * (self.setpoint - observation[0]) + self.schedule[0], 0.0, 1.0), None


@pytest.fixture
def thermostat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_KINDS", dict(codec._KINDS))
    register_controller("thermostat", Thermostat, ("setpoint", "gain", "schedule"))


@pytest.mark.usefixtures("thermostat")
def test_a_file_carries_controllers(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    policies = (
        perceptron(rng, shift=rng.normal(size=5), clip=3.0),
        perceptron(rng, low=None, high=None, activation="relu"),
        LinearPolicy(rng.normal(size=(2, 5)), rng.normal(size=2), -1.0, 1.0),
        Thermostat(21.0, 0.5, np.array([0.25, 0.5])),
    )
    save(replace(random_policy_set(rng, policies=len(policies)), policies=policies), tmp_path / "set.sf")
    loaded = load(tmp_path / "set.sf").policies
    for policy, again in zip(policies, loaded):
        assert type(again) is type(policy)
        for observation in rng.normal(size=(5, 5)):
            np.testing.assert_array_equal(again.predict(observation)[0], policy.predict(observation)[0])


def test_single_precision_layers_take_half_the_room(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    wide = perceptron(rng, (40, 64, 64, 2))
    narrow = replace(wide, weights=tuple(weight.astype(np.float32) for weight in wide.weights))
    sizes = {}
    for name, policy in (("wide", wide), ("narrow", narrow)):
        save(replace(random_policy_set(np.random.default_rng(8), policies=1), policies=(policy,)), tmp_path / name)
        sizes[name] = (tmp_path / name).stat().st_size
        (again,) = load(tmp_path / name).policies
        np.testing.assert_array_equal(again.predict(np.ones(40))[0], policy.predict(np.ones(40))[0])
    assert sizes["narrow"] < 0.7 * sizes["wide"]


@pytest.mark.parametrize(
    ("kind", "cls", "parameters", "refusal"),
    [
        ("a", Thermostat, "gain", ("SF-ARGUMENT-DISTINCT", "parameters")),
        ("a", Thermostat, (), ("SF-ARGUMENT-DISTINCT", "parameters")),
        (
            "a",
            Thermostat,
            ("setpoint", "gain"),
            ("SF-POLICY-REGISTRATION", "cls"),
        ),
        ("a", dict, ("gain",), ("SF-POLICY-REGISTRATION", "cls")),
        (
            "mlp",
            Thermostat,
            ("setpoint", "gain", "schedule"),
            ("SF-POLICY-REGISTRATION", "kind", "'mlp'"),
        ),
    ],
)
def test_a_controller_that_cannot_be_registered(
    kind: str, cls: type, parameters: Any, refusal: tuple[str, ...]
) -> None:
    with refused(*refusal):
        register_controller(kind, cls, parameters)


@pytest.mark.usefixtures("thermostat")
def test_a_controller_keeps_numbers_only(tmp_path: Path) -> None:
    wrong = replace(random_policy_set(np.random.default_rng(9), policies=1), policies=(Thermostat("warm", 0.5, [0.0]),))  # type: ignore[arg-type]
    with refused("SF-ARGUMENT-TYPE", "setpoint", "'warm'"):
        save(wrong, tmp_path / "set.sf")
