"""Derivatives of policy networks against finite differences, sums over actions and dense matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from surefoot.arrays import FloatArray
from surefoot.baselines.deep.networks import GaussianPolicy, NetworkPolicy, SoftmaxPolicy, StochasticPolicy, along
from tests.refusals import refused

POLICIES: dict[str, StochasticPolicy] = {
    "gaussian": GaussianPolicy.build(3, 2, (5, 4)),
    "softmax": SoftmaxPolicy.build(3, 4, (5,)),
    "table": SoftmaxPolicy.build(3, 4),
}


def slopes(function: Callable[[FloatArray], Any], at: FloatArray, step: float = 1e-6) -> FloatArray:
    """Central differences."""
    rows = np.eye(at.size) * step
    return np.array([(function(at + row) - function(at - row)) / (2.0 * step) for row in rows])


@pytest.fixture(params=POLICIES)
def case(request: pytest.FixtureRequest) -> tuple[StochasticPolicy, FloatArray, FloatArray, np.random.Generator]:
    policy, rng = POLICIES[request.param], np.random.default_rng(4)
    return policy, 0.5 * rng.standard_normal(policy.size), rng.standard_normal((6, 3)), rng


def test_scores_are_gradients_of_log_probabilities(case: Any) -> None:
    policy, theta, inputs, rng = case
    actions, logs = policy.draw(theta, inputs, rng)
    weights = rng.standard_normal(6)
    np.testing.assert_allclose(policy.log_prob(theta, inputs, actions), logs, rtol=1e-12)
    expected = slopes(lambda at: weights @ policy.log_prob(at, inputs, actions), theta)
    np.testing.assert_allclose(policy.score(theta, inputs, actions, weights), expected, atol=1e-8)


def test_the_fisher_product_is_the_hessian_of_the_divergence(case: Any) -> None:
    policy, theta, inputs, rng = case
    weights, v = rng.uniform(0.5, 2.0, 6), rng.standard_normal(policy.size)

    def slope(at: FloatArray) -> FloatArray:
        return slopes(lambda new: weights @ policy.divergence(theta, new, inputs) / weights.sum(), at, 1e-4)

    assert policy.divergence(theta, theta, inputs) == pytest.approx(0.0, abs=1e-14)
    expected = (slope(theta + 1e-4 * v) - slope(theta - 1e-4 * v)) / 2e-4
    np.testing.assert_allclose(policy.fisher(theta, inputs, weights)(v), expected, atol=2e-6)


def test_fisher_matrix_of_a_softmax_is_the_sum_over_actions_of_outer_products_of_scores() -> None:
    policy, rng = SoftmaxPolicy.build(3, 4, (5,)), np.random.default_rng(0)
    theta, inputs, weights = rng.standard_normal(policy.size), rng.standard_normal((5, 3)), rng.uniform(size=5)
    expected = np.zeros((policy.size, policy.size))
    for n in range(5):
        for a in range(4):
            one = policy.score(theta, inputs[n : n + 1], np.array([a]), np.ones(1))
            expected += weights[n] / weights.sum() * policy.probabilities(theta, inputs)[n, a] * np.outer(one, one)
    product = policy.fisher(theta, inputs, weights)
    np.testing.assert_allclose(np.array([product(e) for e in np.eye(policy.size)]), expected, atol=1e-12)


def test_the_derivative_along_a_direction_is_exact(case: Any) -> None:
    policy, theta, inputs, rng = case
    actions, logs = policy.draw(theta, inputs, rng)
    v = rng.standard_normal(policy.size)

    def gradient(at: Any) -> Any:
        return policy.score(at, inputs, actions, np.exp(policy.log_prob(at, inputs, actions) - logs))

    step = 1e-5
    expected = (gradient(theta + step * v) - gradient(theta - step * v)) / (2.0 * step)
    np.testing.assert_allclose(along(gradient, theta, v), expected, atol=1e-7)


def test_draws_follow_the_distribution() -> None:
    rng = np.random.default_rng(1)
    table = SoftmaxPolicy.build(1, 3)
    theta = np.array([0.3, -0.4, 0.8, 0.0, 0.0, 0.0])
    inputs = np.ones((20_000, 1))
    found = np.bincount(table.draw(theta, inputs, rng)[0], minlength=3) / 20_000
    np.testing.assert_allclose(found, table.probabilities(theta, inputs[:1])[0], atol=0.015)
    gaussian = GaussianPolicy.build(1, 1, ())
    actions, _ = gaussian.draw(np.array([2.0, 1.0, np.log(0.5)]), inputs, rng)
    assert (actions.mean(), actions.std()) == (pytest.approx(3.0, abs=0.02), pytest.approx(0.5, abs=0.01))


def test_the_mean_policy_is_the_network_as_the_library_deploys_it() -> None:
    rng = np.random.default_rng(2)
    observations = rng.normal(3.0, 2.0, (50, 3))
    policy = GaussianPolicy.build(3, 2, (5,)).normalised(observations)
    theta = rng.standard_normal(policy.size)
    deployed = policy.mean_policy(theta, -1.0, 1.0)
    expected = np.clip(policy.best(theta, policy.inputs(observations)), -1.0, 1.0)
    np.testing.assert_allclose(deployed.act_batch(observations), expected, atol=1e-12)
    alone = NetworkPolicy(policy, theta)
    np.testing.assert_allclose(
        alone.predict(observations[0], deterministic=True)[0], policy.best(theta, policy.inputs(observations[:1]))[0]
    )
    drawn = [alone.predict(observations[0], rng=np.random.default_rng(5))[0] for _ in range(2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_observations_of_another_environment_are_refused() -> None:
    with refused("SF-ARGUMENT-MISMATCH", "3", "4"):
        GaussianPolicy.build(3, 2).inputs(np.zeros((2, 4)))
