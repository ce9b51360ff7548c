"""Plants made of predictions: signals that no policy set holds are found again, and means are those predicted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import lsq_linear

import surefoot as sf
from surefoot.planning import fit
from surefoot.planning.plants import Draws, Rollouts
from surefoot.planning.surrogate import FIDELITY, fit_surrogate
from surefoot.policyset.schema import SignalPredictions
from tests.refusals import refused

FAMILY = sf.tasks.NoisyGridworld()


def without_kernel(policy_set: sf.PolicySet) -> sf.PolicySet:
    return replace(policy_set, cells=replace(policy_set.cells, kernel=None, outside=None))


def centers(policy_set: sf.PolicySet, cell: int) -> np.ndarray:
    p = policy_set.cells.predictions
    return np.column_stack([p.reward_center[cell], p.cost_center[cell]])


def test_costs_rewards_and_start_of_the_gridworld_are_found_again(deploy_set: sf.PolicySet) -> None:
    found, truth = fit_surrogate(deploy_set), FAMILY.cmdp([0.3])
    assert found.transitions
    assert (found.deviation <= 0.2 * FIDELITY).all()
    assert found.model is not None
    hazards = truth.costs[0, :, 0] > 0.0
    np.testing.assert_allclose(found.model.signals[1][hazards].max(axis=1), 10.0, atol=1.0)
    assert found.model.start[hazards].max() == 0.0
    np.testing.assert_allclose(found.model.start.sum(), 1.0)


@pytest.mark.parametrize("cell", [0, 13])
def test_rollouts_have_the_predicted_values_and_kernel(deploy_set: sf.PolicySet, cell: int) -> None:
    plant = fit_surrogate(deploy_set).plant(cell)
    assert isinstance(plant, Rollouts)
    scale = np.ptp(deploy_set.cells.predictions.reward_center)
    np.testing.assert_allclose(plant.values, centers(deploy_set, cell), atol=FIDELITY * scale)
    n = 20_000
    seen = plant.run(np.full(n, 3), seed=1, first=0)
    outcome = np.column_stack([seen.returns, seen.costs])
    error = outcome.std(axis=0) / np.sqrt(n)
    assert (np.abs(outcome.mean(axis=0) - plant.values[3]) < 5 * error).all()
    assert seen.transitions is not None
    support = {tuple(row) for row in deploy_set.cells.kernel.support.tolist()}  # type: ignore[union-attr]
    assert {tuple(row[:3]) for row in seen.transitions.tolist()} <= support


def test_without_a_kernel_outcomes_are_drawn_with_the_predicted_means(deploy_set: sf.PolicySet) -> None:
    bare = without_kernel(deploy_set)
    found = fit_surrogate(bare, spread=0.2)
    assert not found.transitions
    assert "transitions are not simulated" in found.statement
    plant, n = found.plant(5), 20_000
    assert isinstance(plant, Draws)
    np.testing.assert_array_equal(plant.values, centers(deploy_set, 5))
    seen = plant.run(np.full(n, 2), seed=3, first=0)
    outcome = np.column_stack([seen.returns, seen.costs])
    assert seen.transitions is None
    assert (np.abs(outcome.mean(axis=0) - plant.values[2]) < 5 * outcome.std(axis=0) / np.sqrt(n)).all()
    assert outcome[:, 1].min() >= 0.0
    assert outcome[:, 1].max() <= bare.bounds.cost_ceilings[0]


def test_means_depend_on_the_initial_state_as_predicted(deploy_set: sf.PolicySet) -> None:
    n, conditional = 60_000, deploy_set.cells.conditional
    assert conditional is not None
    seen = (
        fit_surrogate(without_kernel(deploy_set), spread=0.05)
        .plant(5)
        .run(np.zeros(n, dtype=np.int64), seed=3, first=0)
    )
    assert seen.initial_states is not None
    b = 7
    there = seen.returns[seen.initial_states == conditional.initial_states[b]]
    middle = 0.5 * (conditional.reward_lower[5, 0, b] + conditional.reward_upper[5, 0, b])
    # The shift that makes the unconditional mean exact is within a cell's width.
    width = (conditional.reward_upper - conditional.reward_lower)[5, 0].max()
    assert abs(there.mean() - middle) < width + 5 * there.std() / np.sqrt(there.size)


def test_the_spread_is_a_share_of_the_largest_deviation(deploy_set: sf.PolicySet) -> None:
    cells = replace(deploy_set.cells, kernel=None, conditional=None, outside=None)
    bare = replace(deploy_set, cells=cells)
    seen = fit_surrogate(bare, spread=0.25).plant(0).run(np.zeros(40_000, dtype=np.int64), seed=0, first=0)
    assert seen.initial_states is None
    low, high = bare.bounds.return_lower, bare.bounds.return_upper
    mean = bare.cells.predictions.reward_center[0, 0]
    largest = np.sqrt((mean - low) * (high - mean))
    np.testing.assert_allclose(seen.returns.std() / largest, 0.25, rtol=0.03)


def test_episodes_depend_on_seed_and_number_only(deploy_set: sf.PolicySet) -> None:
    for found in (fit_surrogate(deploy_set), fit_surrogate(without_kernel(deploy_set))):
        runs = [found.plant(1).run(np.arange(5), seed=4, first=10) for _ in range(2)]
        np.testing.assert_array_equal(runs[0].returns, runs[1].returns)
        other = found.plant(1).run(np.arange(5), seed=4, first=20)
        assert (other.returns != runs[0].returns).any()


def test_signals_that_differ_between_cells_are_not_rolled_out(deploy_set: sf.PolicySet) -> None:
    predictions = deploy_set.cells.predictions
    twisted = predictions.reward_center.copy()
    twisted[::2] += 5.0
    cells = replace(
        deploy_set.cells, predictions=replace(predictions, reward_center=twisted, reward_upper=predictions.reward_upper + 5.0)
    )  # fmt: skip
    assert not fit_surrogate(replace(deploy_set, cells=cells)).transitions


@pytest.mark.parametrize("seed", range(3))
def test_bounded_least_squares_agrees_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix, wanted = rng.normal(size=(30, 12)), rng.normal(size=30)
    found = fit._within(matrix.T @ matrix, matrix.T @ wanted, -0.1, 0.05)
    np.testing.assert_allclose(found, lsq_linear(matrix, wanted, (-0.1, 0.05), tol=1e-12).x, atol=1e-6)


@pytest.mark.parametrize("spread", [0.0, 1.0, float("nan"), "wide"])
def test_a_spread_out_of_range_is_refused(deploy_set: sf.PolicySet, spread: float) -> None:
    code = "SF-ARGUMENT-TYPE" if isinstance(spread, str) else "SF-ARGUMENT-RANGE"
    with refused(code, "spread", "(0, 1)"):
        fit_surrogate(deploy_set, spread)


def with_signals(policy_set: sf.PolicySet) -> sf.PolicySet:
    """No kernels, one declared signal, and measured spreads."""
    n, j = policy_set.cells.predictions.reward_lower.shape
    middle = np.linspace(0.2, 0.8, n * j).reshape(n, j, 1)
    speed = SignalPredictions(("speed",), np.array([[0.0, 2.0]]), middle - 0.05, middle + 0.05)
    cells = replace(policy_set.cells, kernel=None, conditional=None, outside=None, signals=speed)
    return replace(policy_set, cells=cells, extra={"simulation": {"spread": [0.1, 0.4, 0.2]}})


def test_declared_signals_are_drawn_and_measured_spreads_used(deploy_set: sf.PolicySet) -> None:
    made = with_signals(deploy_set)
    found, n = fit_surrogate(made), 40_000
    assert "simulation measured" in found.statement
    seen = found.plant(3).run(np.full(n, 1), seed=2, first=0)
    assert seen.signals is not None and made.cells.signals is not None
    mean = float(made.cells.signals.lower[3, 1, 0] + 0.05)
    speed = seen.signals[:, 0]
    assert abs(speed.mean() - mean) < 5 * speed.std() / np.sqrt(n)
    np.testing.assert_allclose(speed.std() / np.sqrt(mean * (2.0 - mean)), 0.2, rtol=0.03)
    low, high = made.bounds.return_lower, made.bounds.return_upper
    worth = made.cells.predictions.reward_center[3, 1]
    np.testing.assert_allclose(seen.returns.std() / np.sqrt((worth - low) * (high - worth)), 0.1, rtol=0.03)


@pytest.mark.parametrize("extra", [{}, {"simulation": "no"}, {"simulation": {"spread": [0.1]}}, {"simulation": {"spread": ["a", 1, 2]}}])  # fmt: skip
def test_what_a_file_says_about_spreads_is_checked(deploy_set: sf.PolicySet, extra: dict[str, object]) -> None:
    found = fit_surrogate(replace(with_signals(deploy_set), extra=extra))
    np.testing.assert_array_equal(found.spread, np.full(3, 0.3))
