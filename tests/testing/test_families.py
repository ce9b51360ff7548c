"""The suite for tabular families: what ships conforms, and every rule catches a family that breaks it, and no other rule does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surefoot import Criterion, TabularCMDP
from surefoot.tasks import FAMILIES, HardInstance, make_family
from surefoot.testing import TaskFamilySuite, broken_rules

NOISE = np.random.default_rng(0)


class Lever:
    """One state, two actions; pulling earns 1 and costs the parameter."""

    name, parameter_names = "lever", ("cost",)
    support = np.array([[0.2, 0.8]])
    criterion = Criterion(0.9, [4.0], (0.0, 1.0), [1.0])
    safe = np.array([[1.0, 0.0]])

    def sample(self, n: int, rng: np.random.Generator) -> Any:
        return rng.uniform(0.2, 0.8, (n, 1))

    def cmdp(self, parameters: Any) -> Any:
        return TabularCMDP(np.ones((1, 2, 1)), [[0.0, 1.0]], [[[0.0, parameters[0]]]], [4.0], [1.0], 0.9)

    def safe_policy(self) -> Any:
        return self.safe


class TestLever(TaskFamilySuite):
    """The way the suite is meant to be used: pytest collects its rules here."""

    def make(self) -> Lever:
        return Lever()


def suite_of(make: Any) -> type[TaskFamilySuite]:
    class Mine(TaskFamilySuite):
        def make(self) -> Any:
            return make()

    return Mine


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_built_in_families_conform(name: str) -> None:
    assert broken_rules(suite_of(lambda: make_family(name))) == {}


def test_a_family_of_listed_tasks_conforms() -> None:
    assert broken_rules(suite_of(HardInstance)) == {}


class Forgetful(Lever):
    def sample(self, n: int, rng: np.random.Generator) -> Any:
        return NOISE.uniform(0.2, 0.8, (n, 1))


class Listed(Lever):
    def sample(self, n: int, rng: np.random.Generator) -> Any:
        return np.linspace(0.2, 0.8, n)[:, None]


class Flat(Lever):
    def sample(self, n: int, rng: np.random.Generator) -> Any:
        return rng.uniform(0.2, 0.8, n)


class Wide(Lever):
    def sample(self, n: int, rng: np.random.Generator) -> Any:
        return rng.uniform(0.1, 0.9, (n, 1))


class NotInTheMiddle(Lever):
    """Its tasks are two kinds, and nothing between them exists."""

    def sample(self, n: int, rng: np.random.Generator) -> Any:
        return np.where(rng.random((n, 1)) < 0.5, 0.2, 0.8)

    def cmdp(self, parameters: Any) -> Any:
        if parameters[0] not in (0.2, 0.8):
            raise ValueError("no such task")
        return super().cmdp(parameters)


class NoCorners(Lever):
    def cmdp(self, parameters: Any) -> Any:
        if parameters[0] in (0.2, 0.8):
            raise ValueError("no such task")
        return super().cmdp(parameters)


class NoModels(Lever):
    def cmdp(self, parameters: Any) -> Any:
        return {"transitions": None}


class Growing(Lever):
    def cmdp(self, parameters: Any) -> Any:
        n = 2 + int(10 * parameters[0])
        costs = np.zeros((1, 1, n))
        costs[0, 0, 1:] = parameters[0]
        return TabularCMDP(np.ones((1, n, 1)), [[0.0] + [1.0] * (n - 1)], costs, [4.0], [1.0], 0.9)

    safe_policy = None  # type: ignore[assignment]


class Patient(Lever):
    def cmdp(self, parameters: Any) -> Any:
        return replace_model(super().cmdp(parameters), discount=0.8)


class Generous(Lever):
    def cmdp(self, parameters: Any) -> Any:
        return super().cmdp(parameters).with_limits([5.0])


class Rich(Lever):
    criterion = Criterion(0.9, [4.0], (0.0, 0.5), [1.0])


class Costly(Lever):
    criterion = Criterion(0.9, [4.0], (0.0, 1.0), [0.1])


class Unsteady(Lever):
    def cmdp(self, parameters: Any) -> Any:
        return super().cmdp(np.asarray(parameters) + 0.01 * NOISE.random())


class Clipping(Lever):
    def cmdp(self, parameters: Any) -> Any:
        model = super().cmdp(parameters)
        parameters[0] = 0.5
        return model


class Reckless(Lever):
    safe = np.array([[0.0, 1.0]])


def replace_model(model: TabularCMDP, **changes: Any) -> TabularCMDP:
    parts = {name: getattr(model, name) for name in ("rewards", "costs", "cost_limits", "start", "discount")}
    return TabularCMDP(model.dense, **{**parts, **changes})


def with_fields(**fields: Any) -> Any:
    """A lever whose attributes are others."""
    return type("Changed", (Lever,), fields)


BROKEN = [
    (with_fields(name=""), "test_a_family_has_name_and_parameters"),
    (with_fields(parameter_names=()), "test_a_family_has_name_and_parameters"),
    (with_fields(support=np.array([0.2, 0.8])), "test_the_support_bounds_every_parameter"),
    (with_fields(support=np.array([[0.8, 0.2]])), "test_the_support_bounds_every_parameter"),
    (with_fields(criterion=replace(Lever.criterion, horizon=5)), "test_the_criterion_is_one_of_tabular_tasks"),
    (with_fields(criterion={"discount": 0.9}), "test_the_criterion_is_one_of_tabular_tasks"),
    (Flat, "test_a_sample_has_one_row_per_task"),
    (Wide, "test_a_sample_lies_in_the_support"),
    (Forgetful, "test_a_seed_decides_the_sample"),
    (Listed, "test_tasks_are_drawn_and_not_listed"),
    (NoModels, "test_sampled_tasks_are_models"),
    (NoCorners, "test_corners_of_the_support_are_tasks"),
    (NotInTheMiddle, "test_tasks_between_sampled_ones_are_models"),
    (Growing, "test_all_tasks_have_the_same_states_actions_and_constraints"),
    (Patient, "test_tasks_keep_discount_and_limits_of_the_criterion"),
    (Generous, "test_tasks_keep_discount_and_limits_of_the_criterion"),
    (Rich, "test_rewards_stay_within_the_criterion"),
    (Costly, "test_costs_stay_under_their_ceilings"),
    (Unsteady, "test_parameters_decide_a_task"),
    (Clipping, "test_parameters_are_left_alone"),
    (Reckless, "test_the_safe_policy_keeps_the_limits"),
]


@pytest.mark.parametrize(("family", "rule"), BROKEN)
def test_a_broken_family_is_caught(family: Any, rule: str) -> None:
    found = broken_rules(suite_of(family))
    assert rule in found
    assert isinstance(found[rule], AssertionError)


def test_every_rule_has_a_family_that_breaks_it() -> None:
    rules = {name for name in dir(TaskFamilySuite) if name.startswith("test_")}
    assert {rule for _, rule in BROKEN} == rules


def test_who_forgets_to_make_anything_is_told() -> None:
    assert {str(error).split(";")[0] for error in broken_rules(TaskFamilySuite).values()} == {
        "make() must return a fresh family"
    }
