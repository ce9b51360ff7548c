"""The suite for policies: what ships conforms, and every rule catches a policy that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from surefoot import TabularPolicy
from surefoot.controllers import LinearPolicy, MLPPolicy
from surefoot.policyset import register_controller
from surefoot.testing import PolicySuite, broken_rules

SEEN: Sequence[Any] = [np.array([0.1 * k, -0.2 * k]) for k in range(6)]
NOISE = np.random.default_rng(0)


class TestTable(PolicySuite):
    """The way the suite is meant to be used: pytest collects its rules here."""

    saved = True

    def make(self) -> TabularPolicy:
        return TabularPolicy(np.array([[0.5, 0.5], [0.1, 0.9], [1.0, 0.0]]))

    def observations(self) -> Sequence[Any]:
        return [0, 2, 1, 1, 0, 1]

    def legal(self, action: Any) -> bool:
        return action in (0, 1)


def suite_of(policy: Callable[[], Any], must_be_saved: bool | None = None) -> type[PolicySuite]:
    class Mine(PolicySuite):
        saved = must_be_saved

        def make(self) -> Any:
            return policy()

        def observations(self) -> Sequence[Any]:
            return SEEN

        def legal(self, action: Any) -> bool:
            return bool((np.abs(np.asarray(action)) <= 1.0).all())

    return Mine


def linear() -> LinearPolicy:
    return LinearPolicy(np.array([[1.0, 0.5]]), np.array([0.1]), np.array([-1.0]), np.array([1.0]))


def network() -> MLPPolicy:
    rng = np.random.default_rng(3)
    return MLPPolicy(
        weights=(rng.normal(size=(4, 2)), rng.normal(size=(1, 4))),
        biases=(rng.normal(size=4), rng.normal(size=1)),
        low=np.array([-1.0]),
        high=np.array([1.0]),
    )


class Leaky:
    """A controller with a memory: a leaky sum of what it saw. ``reset`` clears it."""

    def __init__(self, leak: float = 0.5) -> None:
        self.leak, self.level = leak, 0.0

    def reset(self) -> None:
        self.level = 0.0

    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[Any, None]:
        self.level = self.leak * self.level + float(observation[0])
        return np.array([np.tanh(self.level)]), None


class Handed:
    """The same, with the memory in the hands of who asks."""

    def predict(self, observation: Any, state: Any = None, *, deterministic: bool = True) -> tuple[Any, Any]:
        level = 0.5 * (0.0 if state is None else state) + float(observation[0])
        return np.array([np.tanh(level)]), level


class Drawing:
    """Draws its actions from the episode's generator."""

    def predict(self, observation: Any, *, rng: np.random.Generator) -> tuple[Any, None]:
        return rng.random(1), None


class Steady:
    """The first number of the observation."""

    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[Any, Any]:
        return observation[:1], None


@pytest.mark.parametrize(
    "policy", [linear, network, Leaky, Handed, Drawing, Steady, lambda: lambda o: np.array([o[0] / 2])]
)
def test_good_policies_conform(policy: Callable[[], Any]) -> None:
    assert broken_rules(suite_of(policy)) == {}


class Bare(Steady):
    def predict(self, observation: Any, *, deterministic: bool = True) -> Any:
        return observation[:1]


class Loud(Steady):
    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[Any, Any]:
        return np.array([7.0]), None


class Scribbling(Steady):
    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[Any, Any]:
        observation *= 0.5
        return observation[:1], None


class Random(Steady):
    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[Any, Any]:
        return NOISE.random(1), None


class Remembering(Leaky):
    """Keeps its memory outside of the object, where no copy of an instance of its own can reach it."""

    levels: list[float] = []  # noqa: RUF012  the fault itself

    def __init__(self) -> None:
        super().__init__()
        self.levels.clear()

    def reset(self) -> None: ...

    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[Any, None]:
        self.levels.append(0.1)
        return np.array([np.tanh(0.5 * sum(self.levels))]), None


class OneForAll(Leaky):
    """Claims to have no memory: all episodes act through one object, which forgets whenever another episode begins."""

    def for_episode(self) -> OneForAll:
        self.reset()
        return self


class Hasty(Steady):
    def act_batch(self, observations: Any) -> Any:
        return np.asarray(observations)[:, :1] + 0.1


class Halved(Steady):
    """Acts by a number that its registration leaves out."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain, self.hidden = gain, 1.0

    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[Any, Any]:
        return self.gain * self.hidden * observation[:1], None


def halved() -> Halved:
    policy = Halved()
    policy.hidden = 0.5
    return policy


BROKEN: list[tuple[Callable[[], Any], bool | None, str]] = [
    (Bare, None, "test_predict_returns_an_action_and_a_memory"),
    (Loud, None, "test_actions_are_legal"),
    (Scribbling, None, "test_observations_are_left_alone"),
    (Random, None, "test_an_episode_can_be_repeated"),
    (Remembering, None, "test_an_episode_remembers_no_other"),
    (OneForAll, None, "test_episodes_side_by_side_do_not_meet"),
    (Hasty, None, "test_many_observations_at_once_give_the_same_actions"),
    (halved, None, "test_a_file_rebuilds_it"),
    (Steady, True, "test_a_file_rebuilds_it"),
]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """``Halved`` is a kind that files know, for the length of a test."""
    from surefoot.policyset import codec

    monkeypatch.setattr(codec, "_KINDS", dict(codec._KINDS))
    register_controller("halved", Halved, ("gain",))


@pytest.mark.parametrize(("policy", "saved", "rule"), BROKEN)
def test_a_broken_policy_is_caught(policy: Callable[[], Any], saved: bool | None, rule: str) -> None:
    found = broken_rules(suite_of(policy, saved))
    assert rule in found
    assert isinstance(found[rule], AssertionError)


def test_what_is_shared_on_purpose_breaks_one_rule_only() -> None:
    assert set(broken_rules(suite_of(OneForAll))) == {"test_episodes_side_by_side_do_not_meet"}
    assert set(broken_rules(suite_of(Hasty))) == {"test_many_observations_at_once_give_the_same_actions"}
    assert set(broken_rules(suite_of(halved))) == {"test_a_file_rebuilds_it"}


def test_every_rule_has_a_policy_that_breaks_it() -> None:
    rules = {name for name in dir(PolicySuite) if name.startswith("test_")}
    assert {rule for _, _, rule in BROKEN} == rules
