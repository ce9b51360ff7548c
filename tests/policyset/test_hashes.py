"""A policy set is hashed once, and a changed one never keeps an old hash."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from surefoot.arrays import freeze
from surefoot.policy import FunctionPolicy
from surefoot.policyset import PolicySet, register_controller, register_policy
from surefoot.policyset.file import content_hash
from surefoot.policyset.hashes import Remembered
from tests.strategies import random_policy_set


class Gain:
    """A controller of a user's own: one number, which can be changed."""

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def predict(self, observation: object, *, deterministic: bool = True) -> tuple[float, None]:
        return self.gain, None


register_controller("gain of the hash's tests", Gain, ["gain"])


@pytest.fixture
def policy_set() -> PolicySet:
    found = random_policy_set(np.random.default_rng(5), cells=3, policies=4)
    return replace(found, extra={"plant": {"rooms": [1, 2.0]}})


@pytest.fixture
def counted() -> tuple[Remembered, list[str]]:
    """A remembering hash, and the list of what it computed."""
    computed: list[str] = []

    def compute(policy_set: PolicySet) -> str:
        computed.append(content_hash(policy_set))
        return computed[-1]

    return Remembered(compute), computed


def test_a_set_is_hashed_once(policy_set: PolicySet, counted: tuple[Remembered, list[str]]) -> None:
    remembered, computed = counted
    assert [remembered(policy_set) for _ in range(3)] == [content_hash(policy_set)] * 3
    assert len(computed) == 1
    # A copy of what never changes is the thing itself; another object is hashed by itself, to the same end.
    assert remembered(copy.copy(policy_set)) == remembered(pickle.loads(pickle.dumps(policy_set))) == computed[0]  # noqa: S301
    assert len(computed) == 2


def tampered_extra(policy_set: PolicySet) -> None:
    policy_set.extra["plant"]["rooms"][0] = 3


def renamed_extra(policy_set: PolicySet) -> None:
    policy_set.extra["hall"] = policy_set.extra.pop("plant")


def retyped_extra(policy_set: PolicySet) -> None:
    policy_set.extra["plant"]["rooms"][0] = True  # equal to 1, and another text in the file


def signed_extra(policy_set: PolicySet) -> None:
    policy_set.extra["plant"]["rooms"][1] = -policy_set.extra["plant"]["rooms"][1]


def other_table(policy_set: PolicySet) -> None:
    policy = policy_set.policies[1]
    object.__setattr__(policy, "table", freeze(policy.table[:, ::-1]))


def table_opened(policy_set: PolicySet) -> None:
    table = policy_set.policies[1].table
    table.setflags(write=True)
    table[0] = table[0][::-1] if table[0][0] != table[0][-1] else np.eye(table.shape[1])[0]


def other_limits(policy_set: PolicySet) -> None:
    object.__setattr__(policy_set.criterion, "reward_bounds", (-1000.0, 1000.0))


def other_seed(policy_set: PolicySet) -> None:
    object.__setattr__(policy_set, "seed", policy_set.seed + 1)


@pytest.mark.parametrize(
    "change",
    [tampered_extra, renamed_extra, retyped_extra, signed_extra, other_table, table_opened, other_limits, other_seed],
)
def test_a_changed_set_does_not_keep_its_hash(policy_set: PolicySet, change: Callable[[PolicySet], None]) -> None:
    before = policy_set.hash
    assert before == content_hash(policy_set)
    change(policy_set)
    assert policy_set.hash == content_hash(policy_set) != before


def test_controllers_that_can_change_are_looked_at_every_time(policy_set: PolicySet) -> None:
    own = Gain(1.0)
    mixed = replace(policy_set, policies=(*policy_set.policies[:-1], own))
    before = mixed.hash
    assert mixed.hash == before
    own.gain = 2.0
    assert mixed.hash == content_hash(mixed) != before


def test_a_name_given_later_counts(policy_set: PolicySet) -> None:
    own = Gain(1.0)
    mixed = replace(policy_set, policies=(*policy_set.policies[:-1], own))
    before = mixed.hash
    register_policy("gain with a name, of the hash's tests", own)
    assert mixed.hash == content_hash(mixed) != before


def test_named_functions_are_remembered(policy_set: PolicySet, counted: tuple[Remembered, list[str]]) -> None:
    remembered, computed = counted
    function = register_policy("function of the hash's tests", lambda observation: 0)
    mixed = replace(policy_set, policies=(*policy_set.policies[:-1], FunctionPolicy(function)))
    assert remembered(mixed) == remembered(mixed) == content_hash(mixed)
    assert len(computed) == 1
