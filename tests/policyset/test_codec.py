"""Plain data in both directions, and kinds of policies that are not tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot.arrays import FloatArray, as_floats
from surefoot.errors import PolicySetError
from surefoot.policy import TabularPolicy
from surefoot.policyset import codec
from surefoot.policyset.codec import PolicyKind, Put, register_policy_kind
from surefoot.policyset.file import content_hash, describe, load, save
from surefoot.policyset.schema import PolicySet
from tests.refusals import refused
from tests.strategies import random_policy_set


@dataclass(frozen=True, eq=False)
class LinearPolicy:
    """``action = clip(W x + b)``: a policy of a continuous task, as another package would define it."""

    weights: FloatArray
    offset: FloatArray
    clip: float

    def predict(self, observation: Any, *, deterministic: bool = False) -> tuple[Any, None]:
        return np.clip(self.weights @ observation + self.offset, -self.clip, self.clip), None


def encode(policy: LinearPolicy, put: Put) -> dict[str, Any]:
    weights = put("weights", policy.weights.astype(np.float32))
    return {"weights": weights, "offset": put("offset", policy.offset), "clip": policy.clip}


def decode(fields: Mapping[str, Any], take: Callable[[Any, str], Any]) -> LinearPolicy:
    weights = as_floats("weights", take(fields["weights"], "float32"), (None, None))
    return LinearPolicy(
        weights, as_floats("offset", take(fields["offset"], "float64"), (None,)), 1.0 / (1.0 / fields["clip"])
    )


LINEAR = PolicyKind("linear", LinearPolicy, encode, decode)


@pytest.fixture
def linear(monkeypatch: pytest.MonkeyPatch) -> PolicySet:
    monkeypatch.setattr(codec, "_KINDS", dict(codec._KINDS))
    register_policy_kind(LINEAR)
    policies = (LinearPolicy(np.array([[0.5, -0.25]]), np.array([0.1]), 2.0), LinearPolicy(np.eye(2), np.ones(2), 0.5))
    return replace(random_policy_set(np.random.default_rng(1)), policies=policies)


def test_policies_that_are_no_tables(linear: PolicySet, tmp_path: Path) -> None:
    save(linear, tmp_path / "linear.sf")
    loaded = load(tmp_path / "linear.sf")
    assert content_hash(loaded) == content_hash(linear)
    observation = np.array([1.0, 3.0])
    np.testing.assert_array_equal(
        loaded.safe_policy.predict(observation)[0], linear.safe_policy.predict(observation)[0]
    )
    assert "states" not in describe(loaded)["sizes"]


def test_file_of_an_unregistered_kind_names_the_remedy(
    linear: PolicySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(linear, tmp_path / "linear.sf")
    monkeypatch.delitem(codec._KINDS, "linear")
    with refused(
        "SF-POLICY-UNREGISTERED",
        "policies.0.kind",
        "linear-map, mlp",
        "registered, table",
        "'linear'",
        error=PolicySetError,
    ):
        load(tmp_path / "linear.sf")


@pytest.mark.parametrize("clip", [0.0, None, [1]])
def test_decoder_that_stumbles_is_a_refused_file(clip: Any, linear: PolicySet, tmp_path: Path) -> None:
    hostile = replace(linear, policies=(linear.policies[0], replace(linear.policies[1], clip=clip)))
    save(hostile, tmp_path / "linear.sf")
    with refused("SF-POLICYSET-FIELD", "policies.1", error=PolicySetError):
        load(tmp_path / "linear.sf")


def test_decoder_that_expects_another_object_is_a_refused_file(
    linear: PolicySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(linear, tmp_path / "linear.sf")

    def asks_for_a_shape(fields: Any, take: Any) -> Any:
        return fields["clip"].shape

    monkeypatch.setitem(codec._KINDS, "linear", replace(LINEAR, decode=asks_for_a_shape))
    with refused("SF-POLICYSET-FIELD", "policies.0", "'shape'", error=PolicySetError):
        load(tmp_path / "linear.sf")


@pytest.mark.parametrize("kind", [replace(LINEAR, cls=dict), replace(LINEAR, name="lin")], ids=["name", "class"])
def test_names_and_classes_of_kinds_are_unique(kind: PolicyKind, linear: PolicySet) -> None:
    with refused("SF-POLICY-REGISTRATION", "kind"):
        register_policy_kind(kind)
    register_policy_kind(LINEAR)


class Subclass(TabularPolicy):
    """Behaves differently, so that keeping only its table would change what is deployed."""


def test_unregistered_policies_are_not_saved(tmp_path: Path) -> None:
    policy_set = random_policy_set(np.random.default_rng(0))
    strange = replace(policy_set, policies=tuple(Subclass(policy.table) for policy in policy_set.policies))
    with refused("SF-POLICY-UNREGISTERED", "policies.0", "Subclass"):
        save(strange, tmp_path / "set.sf")
    assert list(tmp_path.iterdir()) == []


CYCLE: dict[str, Any] = {}
CYCLE["self"] = CYCLE


@pytest.mark.parametrize(
    "extra, refusal",
    [
        ({"a": np.zeros(2)}, ("SF-ARGUMENT-TYPE", "extra.a", "(what JSON can hold)", "ndarray")),
        ({"a": [1.0, float("nan")]}, ("SF-ARGUMENT-FINITE", "extra.a[1]", "nan")),
        ({"a": {1: 2}}, ("SF-ARGUMENT-TYPE", "extra.a", "int")),
        ({"a": "\0"}, ("SF-ARGUMENT-TEXT", "extra.a", "'\\x00' at 0")),
        ({"a": 2**128}, ("SF-ARGUMENT-RANGE", "extra.a", "2", "128")),
        ({"a": {1.0}}, ("SF-ARGUMENT-TYPE", "extra.a", "(what JSON can hold)", "set")),
        (CYCLE, ("SF-ARGUMENT-RANGE", "32")),
        ([], ("SF-ARGUMENT-TYPE", "extra", "list")),
    ],
    ids=str,
)
def test_only_plain_data_travels(extra: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        content_hash(random_policy_set(np.random.default_rng(0), extra=extra))


def test_infinity_that_got_past_the_constructors_is_refused_when_written() -> None:
    policy_set = random_policy_set(np.random.default_rng(0))
    object.__setattr__(policy_set.criterion, "reward_bounds", (0.0, np.inf))
    with refused("SF-ARGUMENT-FINITE", "criterion.reward_bounds.1", "inf"):
        content_hash(policy_set)
