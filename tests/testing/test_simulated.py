"""The suite for families of Gymnasium environments: what ships conforms, and every rule catches a family that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

from surefoot.criterion import Criterion
from surefoot.gym import GymFamily, tabular_family
from surefoot.tasks import make_family
from surefoot.testing import SimulatedFamilySuite, broken_rules
from tests.gym.press import Press, press
from tests.gym.toys import MEAN_COIN, Constant, coins, shared_coins

NOISE = np.random.default_rng(0)
ACCEPTED = ("declared range", "zero in every episode", "criterion.horizon", "Gymnasium's checker")


class TestPress(SimulatedFamilySuite):
    """The way the suite is meant to be used: pytest collects its rules here."""

    accepted = ACCEPTED

    def make(self) -> GymFamily:
        return press()

    def policies(self) -> Sequence[Any]:
        return [Constant(0.1), Constant(0.9)]

    @pytest.mark.slow
    def test_the_check_of_the_family_finds_nothing(self) -> None:
        super().test_the_check_of_the_family_finds_nothing()


def suite_of(family: Callable[[], Any], library: Sequence[Any] = ()) -> type[SimulatedFamilySuite]:
    class Mine(SimulatedFamilySuite):
        accepted = ACCEPTED

        def make(self) -> Any:
            return family()

        def policies(self) -> Sequence[Any]:
            return library

    return Mine


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [coins, shared_coins, lambda: coins(signals=(MEAN_COIN,)), lambda: tabular_family(make_family("admission"), 30)],
    ids=["coins", "shared", "signals", "admission"],
)
def test_families_of_ours_conform(family: Callable[[], GymFamily]) -> None:
    assert broken_rules(suite_of(family)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hopper", "half_cheetah"])
def test_bodies_conform(name: str) -> None:
    from surefoot.experiments.locomotion import families as locomotion

    suite = suite_of(getattr(locomotion, name))
    suite.tasks = 2
    assert broken_rules(suite) == {}


class Broken(Press):
    """One of the faults that an environment may have, by name."""

    shared: dict[str, float] = {}  # noqa: RUF012  the fault itself: state of the class

    def __init__(self, factor: float, fault: str) -> None:
        super().__init__(factor)
        self.fault, self.steps = fault, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        observation, info = super().reset(seed=seed)
        if self.fault != "memory":
            self.steps = 0
        self.shared["steps"] = 0.0
        return (observation + 3.0 if self.fault == "space" else observation), info

    def step(self, action: Any) -> Any:
        observation, reward, ended, cut, info = super().step(action)
        self.steps += 1
        self.shared["steps"] += 1.0
        more = {
            "memory": 0.01 * min(self.steps, 20) / 20,
            "noise": 0.1 * float(NOISE.random()),
            "class": 0.01 * min(self.shared["steps"], 20.0) / 20,
        }
        cost = np.clip(info["cost"] + more.get(self.fault, 0.0), 0.0, 2.0)
        if self.fault == "cost":
            cost = -1.0
        if self.fault == "costs":
            cost = np.zeros(2)
        cut = self.fault == "cut" and self.steps == 5
        return observation, reward, ended, cut, {"cost": cost}


def with_fault(fault: str) -> Callable[[], GymFamily]:
    return lambda: replace(press(), make=lambda z: Broken(float(z[0]), fault))


def clipping(z: Any) -> Press:
    z[0] = 1.0
    return Press(1.0)


ONE = Press(1.0)


class Hidden:
    """A controller with a memory that its episodes share: hidden in the class."""

    steps = 0

    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[Any, None]:
        Hidden.steps += 1
        return np.array([(Hidden.steps % 7) / 7]), None


BROKEN: list[tuple[Callable[[], Any], Sequence[Any], str]] = [
    (
        lambda: replace(press(), sampler=lambda n, rng: NOISE.uniform(0.5, 1.5, (n, 1))),
        (),
        "test_a_seed_decides_the_sample",
    ),
    (
        lambda: replace(press(), sampler=lambda n, rng: np.linspace(0.5, 1.5, n)[:, None]),
        (),
        "test_tasks_are_drawn_and_not_listed",
    ),
    (lambda: replace(press(), make=lambda z: ONE), (), "test_every_environment_is_made_afresh"),
    (lambda: replace(press(), make=clipping), (), "test_parameters_are_left_alone"),
    (with_fault("space"), (), "test_observations_lie_in_their_space"),
    (
        lambda: replace(press(), criterion=Criterion(1.0, [2.0], (0.0, 0.5), [2.0], 10)),
        (),
        "test_rewards_stay_within_the_criterion",
    ),
    (with_fault("cost"), (), "test_costs_stay_under_their_ceilings"),
    (with_fault("costs"), (), "test_costs_stay_under_their_ceilings"),
    (
        lambda: replace(press(), criterion=Criterion(1.0, [2.0], (0.0, 1.0), [0.1], 10)),
        (),
        "test_costs_stay_under_their_ceilings",
    ),
    (with_fault("cut"), (), "test_an_episode_is_not_cut_before_the_horizon"),
    (with_fault("memory"), (), "test_task_and_seed_decide_an_episode"),
    (with_fault("noise"), (), "test_task_and_seed_decide_an_episode"),
    (with_fault("class"), (), "test_environments_do_not_meet"),
    (press, [Constant(0.1), Hidden()], "test_the_check_of_the_family_finds_nothing"),
]


@pytest.mark.parametrize(("family", "library", "rule"), BROKEN)
def test_a_broken_family_is_caught(family: Callable[[], Any], library: Sequence[Any], rule: str) -> None:
    with pytest.raises(AssertionError, match="must"):
        getattr(suite_of(family, library)(), rule)()


def test_every_rule_has_a_family_that_breaks_it() -> None:
    rules = {name for name in dir(SimulatedFamilySuite) if name.startswith("test_")}
    assert {rule for _, _, rule in BROKEN} == rules


CHECK = "test_the_check_of_the_family_finds_nothing"


def test_warnings_must_be_accepted_by_name() -> None:
    class Idle(SimulatedFamilySuite):
        def make(self) -> GymFamily:
            return press()

        def policies(self) -> Sequence[Any]:
            return [Constant(0.0)]

    class Accepted(Idle):
        accepted = ("declared range", "is it computed at all", "no dependence", "checker", "criterion.horizon")

    with pytest.raises(AssertionError, match="is it computed at all"):
        getattr(Idle(), CHECK)()
    getattr(Accepted(), CHECK)()


class Six(gymnasium.Env[Any, Any]):
    """Returns its cost as an entry of its own."""

    observation_space, action_space = Box(-1.0, 1.0, (1,), np.float64), Box(0.0, 1.0, (1,), np.float64)

    def __init__(self, factor: float, cost: float = 1.0) -> None:
        self.inner, self.scale = Press(factor), cost

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.inner.reset(seed=seed)

    def step(self, action: Any) -> Any:
        observation, reward, ended, cut, info = self.inner.step(action)
        return observation, reward, self.scale * info["cost"], ended, cut, {}


def test_costs_may_be_the_third_of_six_entries() -> None:
    assert broken_rules(suite_of(lambda: replace(press(), make=lambda z: Six(float(z[0]))))) == {}
    wrong = suite_of(lambda: replace(press(), make=lambda z: Six(float(z[0]), -1.0)))
    with pytest.raises(AssertionError, match="costs per step"):
        wrong().test_costs_stay_under_their_ceilings()
