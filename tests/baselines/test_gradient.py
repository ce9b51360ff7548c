"""Gradients: exact against finite differences, estimates against exact ones, units, steps.

Unbiasedness is judged by seeded Monte Carlo: the mean of 60 blocks against the exact value, 4.5 standard errors, about 7e-6 per entry.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot import Criterion, Simulator, TabularCMDP, evaluate
from surefoot.baselines.gradient import (
    Units,
    estimated_advantages,
    estimated_gradient,
    exact_advantages,
    exact_gradient,
    shift_logits,
    with_uniform,
)
from surefoot.cmdp.simulate import Visits
from tests.models import random_cmdp

BLOCKS, EPISODES = 60, 400


def softmax(logits: np.ndarray) -> np.ndarray:
    weights: np.ndarray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def values(cmdp: TabularCMDP, table: np.ndarray) -> np.ndarray:
    found = evaluate(cmdp, table)
    return np.array([found.reward, *found.costs])


def absorbing_cmdp(rng: np.random.Generator) -> TabularCMDP:
    """A random CMDP whose last state absorbs, with equal signals for all actions there."""
    base = random_cmdp(rng, states=5, constraints=2, discount=0.85)
    kernel, rewards, costs = base.dense.copy(), base.rewards.copy(), base.costs.copy()
    kernel[-1], kernel[-1, :, -1] = 0.0, 1.0
    kernel[:-1] = 0.8 * kernel[:-1] + 0.2 * (np.arange(5) == 4)
    rewards[-1], costs[:, -1] = 0.7, 0.4
    return TabularCMDP(kernel, rewards, costs, base.cost_limits, base.start, 0.85)


def worlds() -> dict[str, tuple[TabularCMDP, np.ndarray]]:
    rng = np.random.default_rng(8)
    return {
        "recurrent": (random_cmdp(rng, states=4, actions=3), softmax(rng.normal(size=(4, 3)))),
        "absorbing": (absorbing_cmdp(rng), softmax(2.0 * rng.normal(size=(5, 3)))),
    }


@pytest.mark.parametrize("name", worlds())
def test_the_exact_gradient_is_the_derivative_in_the_logits(name: str) -> None:
    cmdp, table = worlds()[name]
    logits, h = np.log(table), 1e-5
    gradient = exact_gradient(cmdp, table)
    for s, a in np.ndindex(*table.shape):
        nudge = np.zeros_like(logits)
        nudge[s, a] = h
        difference = (values(cmdp, softmax(logits + nudge)) - values(cmdp, softmax(logits - nudge))) / (2 * h)
        np.testing.assert_allclose(gradient[:, s, a], difference, rtol=1e-5, atol=1e-7)


def worst_error(
    estimate: Callable[[Visits, np.ndarray], np.ndarray], cmdp: TabularCMDP, table: np.ndarray, exact: np.ndarray
) -> float:
    """Largest distance of the mean of many independent estimates from ``exact``, in standard errors."""
    simulator, index = Simulator(cmdp, table), np.zeros(EPISODES, dtype=int)
    drawn = []
    for block in range(BLOCKS):
        seen = simulator.run(index, seed=3, first_episode=block * EPISODES, visits=True).visits
        assert seen is not None
        drawn.append(estimate(seen, table))
    blocks = np.stack(drawn)
    error = np.abs(blocks.mean(axis=0) - exact)
    spread = blocks.std(axis=0, ddof=1) / np.sqrt(BLOCKS)
    return float((error / np.maximum(spread, 1e-7)).max())


@pytest.mark.statistical
@pytest.mark.parametrize("name", worlds())
def test_the_estimated_gradient_is_unbiased(name: str) -> None:
    cmdp, table = worlds()[name]
    assert worst_error(estimated_gradient, cmdp, table, exact_gradient(cmdp, table)) < 4.5


MUTANTS: dict[str, Callable[[Visits, np.ndarray], np.ndarray]] = {
    "not centred": lambda v, table: v.to_go / v.episodes,
    "centred by the plain mean": lambda v, table: (v.to_go - v.to_go.mean(axis=2, keepdims=True)) / v.episodes,
    "return from t undiscounted": lambda v, table: estimated_gradient(
        Visits(v.episodes, v.count, v.discounted, v.to_go * v.count / np.maximum(v.discounted, 1e-9)), table
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS.keys())
def test_wrong_estimates_are_told_from_the_gradient(mutant: Callable[[Visits, np.ndarray], np.ndarray]) -> None:
    cmdp, table = worlds()["recurrent"]
    assert worst_error(mutant, cmdp, table, exact_gradient(cmdp, table)) > 10.0


@pytest.mark.parametrize("name", worlds())
def test_estimated_advantages_approach_the_exact_ones(name: str) -> None:
    cmdp, table = worlds()[name]
    played = Simulator(cmdp, table).run(np.zeros(60_000, dtype=int), seed=1, visits=True)
    assert played.visits is not None
    errors = estimated_advantages(played.visits) - exact_advantages(cmdp, table)
    well = played.visits.discounted > 2_000
    assert well.sum() >= 8
    assert np.abs(errors[:, well]).max() < 0.25
    np.testing.assert_allclose(
        (played.visits.discounted * estimated_advantages(played.visits)).sum(axis=2), 0.0, atol=1e-6
    )


def test_pairs_never_tried_have_no_advantage() -> None:
    count = np.array([[3, 0], [0, 0]])
    to_go = np.array([[[6.0, 0.0], [0.0, 0.0]]])
    found = estimated_advantages(Visits(2, count, count.astype(float), to_go))
    np.testing.assert_array_equal(found, np.zeros((1, 2, 2)))


def test_exact_advantages_average_to_nothing(rng: np.random.Generator) -> None:
    cmdp = random_cmdp(rng, constraints=2)
    table = softmax(rng.normal(size=(4, 3)))
    np.testing.assert_allclose((table * exact_advantages(cmdp, table)).sum(axis=2), 0.0, atol=1e-12)


def test_units_put_every_value_between_nothing_and_the_effective_horizon() -> None:
    criterion = Criterion(0.9, np.array([1.5, 3.0]), (-2.0, 6.0), np.array([10.0, 4.0]))
    units = Units.of(criterion)
    np.testing.assert_allclose(units.limits, [0.15, 0.75])
    low, high = units.values(np.array([[-20.0, 0.0, 0.0], [60.0, 100.0, 40.0]]))
    np.testing.assert_allclose(low, 0.0, atol=1e-12)
    np.testing.assert_allclose(high, units.horizon)
    raw = Units.raw(criterion)
    np.testing.assert_array_equal(raw.limits, [1.5, 3.0])
    np.testing.assert_array_equal(raw.values(np.array([3.0, 2.0, 1.0])), [3.0, 2.0, 1.0])


def test_visits_in_units_belong_to_signals_in_units(rng: np.random.Generator) -> None:
    """The same episodes of the CMDP whose signals were converted first."""
    cmdp = random_cmdp(rng, discount=0.8)
    table, units = softmax(rng.normal(size=(4, 3))), Units.of(cmdp.criterion)
    converted = (cmdp.signals - units.low[:, None, None]) / units.scale[:, None, None]
    assert converted.min() >= -1e-12 and converted.max() <= 1.0 + 1e-12
    twin = TabularCMDP(cmdp.dense, converted[0], converted[1:], np.ones(1), cmdp.start, 0.8)
    index = np.zeros(50, dtype=int)
    one, two = (Simulator(m, table, tail_tolerance=1e-12).run(index, seed=0, visits=True) for m in (cmdp, twin))
    assert one.visits is not None and two.visits is not None
    np.testing.assert_allclose(units.visits(one.visits).to_go, two.visits.to_go, rtol=1e-6)
    np.testing.assert_allclose(
        units.values(np.r_[one.returns[0], one.costs[0]]), np.r_[two.returns[0], two.costs[0]], rtol=1e-6
    )


@given(st.integers(0, 2**32))
def test_shifting_logits_multiplies_by_exponentials(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, shift = softmax(rng.normal(size=(3, 4))), rng.normal(size=(3, 4))
    np.testing.assert_allclose(shift_logits(table, shift), softmax(np.log(table) + shift), atol=1e-14)


def test_no_step_creates_or_destroys_an_action() -> None:
    table = np.array([[0.5, 0.5, 0.0]])
    moved = shift_logits(table, np.array([[1e6, 0.0, 1e9]]))
    assert moved[0, 2] == 0.0
    assert 0.0 < moved[0, 1] < 1e-15
    assert moved.sum() == pytest.approx(1.0)


def test_mixing_with_the_uniform_policy() -> None:
    np.testing.assert_allclose(with_uniform(np.array([[1.0, 0.0]]), 0.2), [[0.9, 0.1]])
