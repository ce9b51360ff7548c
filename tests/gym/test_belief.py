"""A belief from simulated estimates: the prior is that of the true values, not of noisy ones."""

from __future__ import annotations

import numpy as np
import pytest

from surefoot.gym.belief import denoised_covariance, fit_simulated_belief
from tests.refusals import refused


def estimates(
    rng: np.random.Generator, tasks: int, episodes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means, noise, numbers of episodes and the true covariance of a family with two latents and three policies."""
    slope = np.array([[1.0, 0.2], [0.3, 0.1], [0.8, -0.3], [0.2, 0.2], [0.5, 0.5], [0.1, -0.1]])
    truth = rng.standard_normal((tasks, 2)) @ slope.T + np.array([5.0, 1.0, 6.0, 1.5, 7.0, 2.0])
    one = np.array([[4.0, 1.0], [1.0, 2.0]])
    noise = np.broadcast_to(one, (tasks, 3, 2, 2)).copy()
    error = rng.multivariate_normal(np.zeros(2), one / episodes, (tasks, 3)).reshape(tasks, 6)
    return (truth + error).reshape(tasks, 3, 2), noise, np.full((tasks, 3), float(episodes)), slope @ slope.T


def test_the_prior_is_rid_of_simulation_noise() -> None:
    rng = np.random.default_rng(1)
    means, noise, episodes, truth = estimates(rng, 4000, 10)
    found = denoised_covariance(means, noise, episodes)
    np.testing.assert_allclose(found, truth, atol=0.08)
    raw = np.cov(means.reshape(4000, 6), rowvar=False)
    assert np.abs(raw - truth).max() > 0.3
    belief = fit_simulated_belief(means, noise, episodes, 2)
    slopes = belief.value_slope.reshape(6, -1)
    rest = np.diag(belief.value_residual.reshape(6) ** 2)
    np.testing.assert_allclose(slopes @ slopes.T + rest, truth, atol=0.1)
    np.testing.assert_allclose(belief.outcome_noise[:, 0], noise[0], rtol=1e-6)


def test_signals_are_observed_and_have_no_values() -> None:
    rng = np.random.default_rng(2)
    means, _, episodes, _ = estimates(rng, 50, 20)
    belief = fit_simulated_belief(
        means.reshape(50, 2, 3), np.broadcast_to(np.eye(3), (50, 2, 3, 3)), episodes[:, :2], 2
    )
    assert belief.value_center.shape == (2, 2) and belief.outcome_center.shape == (2, 1, 3)
    assert belief.wants == {"signals"}


def test_quantities_that_do_not_vary_are_taken_as_they_are() -> None:
    means = np.zeros((20, 2, 2)) + np.array([[3.0, 0.0], [4.0, 1.0]])
    means[:, 1, 0] += np.linspace(-1, 1, 20)
    belief = fit_simulated_belief(means, np.zeros((20, 2, 2, 2)), np.full((20, 2), 30), 2)
    assert belief.latents == 1
    assert np.abs(belief.value_slope[0]).max() == 0.0 and belief.value_slope[1, 0, 0] ** 2 == pytest.approx(
        np.var(means[:, 1, 0], ddof=1)
    )


def test_too_little_to_learn_from_is_refused() -> None:
    rng = np.random.default_rng(3)
    means, noise, episodes, _ = estimates(rng, 7, 20)
    with refused("SF-ARGUMENT-RANGE", "means", "8", "7"):
        fit_simulated_belief(means, noise, episodes, 2)
