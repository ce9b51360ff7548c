"""Policies in ONNX's format: the same function as the arrays, a contract that is checked, files that carry them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.controllers import MLPPolicy
from surefoot.onnx_policy import LARGEST, OnnxPolicy
from tests.onnx_models import DOUBLE, network
from tests.refusals import refused


def layers(sizes: tuple[int, ...], seed: int = 0) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(a, b)).astype(np.float32), rng.normal(size=b).astype(np.float32)) for a, b in pairwise(sizes)
    ]


TWO = layers((3, 8, 2))
OBSERVATIONS = np.random.default_rng(1).normal(size=(40, 3))


def as_arrays(low: float | None, high: float | None) -> MLPPolicy:
    return MLPPolicy(tuple(w.T for w, _ in TWO), tuple(b for _, b in TWO), low, high)  # type: ignore[arg-type]


def test_it_computes_what_the_network_computes() -> None:
    ours, theirs = OnnxPolicy(network(TWO), -0.5, 0.5), as_arrays(-0.5, 0.5)
    assert (ours.n_inputs, ours.discrete) == (3, False)
    np.testing.assert_allclose(ours.act_batch(OBSERVATIONS), theirs.act_batch(OBSERVATIONS), atol=1e-5)
    precise = OnnxPolicy(network(TWO, kind=DOUBLE), -0.5, 0.5)
    np.testing.assert_allclose(precise.act_batch(OBSERVATIONS), theirs.act_batch(OBSERVATIONS), atol=1e-12)


def test_discrete_actions_are_the_largest_output() -> None:
    ours = OnnxPolicy(network(TWO))
    assert ours.act_batch(OBSERVATIONS).tolist() == as_arrays(None, None).act_batch(OBSERVATIONS).tolist()
    action, memory = ours.predict(OBSERVATIONS[0])
    assert isinstance(action, int) and memory is None


@pytest.mark.parametrize("batch", ["n", 1])
def test_an_action_depends_on_its_own_observation_alone(batch: int | str) -> None:
    policy = OnnxPolicy(network(TWO, batch=batch), -5.0, 5.0)
    together = policy.act_batch(OBSERVATIONS)
    for row, action in zip(OBSERVATIONS[::-1], together[::-1]):
        np.testing.assert_array_equal(policy.predict(row)[0], action)
    elsewhere = pickle.loads(pickle.dumps(policy))  # noqa: S301 (its own bytes)
    np.testing.assert_array_equal(elsewhere.act_batch(OBSERVATIONS), together)
    assert policy.for_episode() is policy and len(repr(policy)) < 80


def test_a_policy_set_carries_it(tmp_path: Path) -> None:
    (tmp_path / "policy.onnx").write_bytes(network(TWO))
    policy = OnnxPolicy(tmp_path / "policy.onnx", -1.0, 1.0)  # type: ignore[arg-type]
    trained = sf.train(sf.tasks.NoisyGridworld(), tasks=12, holdout=0, cells=1, policies=1, progress=False)
    replace(trained, policies=(trained.policies[0], policy)).save(tmp_path / "set.sf")
    found = sf.PolicySet.load(tmp_path / "set.sf").policies[1]
    assert isinstance(found, OnnxPolicy)
    np.testing.assert_array_equal(found.act_batch(OBSERVATIONS), policy.act_batch(OBSERVATIONS))
    # A file whose model was exchanged for something else is refused when it is read, not when it is played.
    object.__setattr__(policy, "model", np.frombuffer(b"no model", dtype=np.uint8))
    replace(trained, policies=(trained.policies[0], policy)).save(tmp_path / "bad.sf")
    with pytest.raises(sf.PolicySetError, match="ONNX"):
        sf.PolicySet.load(tmp_path / "bad.sf")


def nan_layers() -> list[tuple[Any, Any]]:
    weight, _ = layers((3, 2))[0]
    return [(weight, np.array([np.nan, 0.0], dtype=np.float32))]


@pytest.mark.parametrize(
    ("model", "code", "said"),
    [
        (b"", "SF-POLICY-NETWORK", "bytes are taken"),
        (np.zeros(LARGEST + 1, dtype=np.uint8), "SF-POLICY-NETWORK", "bytes are taken"),
        (b"import os", "SF-POLICY-NETWORK", "does not read"),
        (network(TWO)[:-30], "SF-POLICY-NETWORK", ""),
        (network(TWO, inputs=2), "SF-POLICY-NETWORK", "inputs"),
        (network(TWO, batch=4), "SF-POLICY-NETWORK", "an input of shape"),
        (network(TWO, outside=True), "SF-POLICY-NETWORK", "another file"),
        (network(TWO, domain="mine"), "SF-POLICY-NETWORK", "does not read"),
        (network(nan_layers()), "SF-POLICY-NETWORK", "finite"),
        ("nowhere.onnx", "SF-POLICY-MODEL", "nowhere.onnx"),
    ],
)
def test_what_breaks_the_contract_is_refused(model: Any, code: str, said: str) -> None:
    with refused(code, said):
        OnnxPolicy(model, -1.0, 1.0)  # type: ignore[arg-type]


def test_ranges_and_observations_must_fit() -> None:
    with refused("SF-ARGUMENT-COMBINATION"):
        OnnxPolicy(network(TWO), -1.0)  # type: ignore[arg-type]
    with refused("SF-ARGUMENT-ORDER"):
        OnnxPolicy(network(TWO), 1.0, -1.0)  # type: ignore[arg-type]
    policy = OnnxPolicy(network(TWO), -1.0, 1.0)  # type: ignore[arg-type]
    with refused("SF-ARGUMENT-MISMATCH"):
        policy.predict(np.zeros(4))
