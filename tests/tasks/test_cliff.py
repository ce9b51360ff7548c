"""The windy cliff: a walk along the edge in closed form, and what the family promises of all its tasks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot import evaluate, solve
from surefoot.tasks import TabularFamily, WindyCliff
from tests.refusals import refused
from tests.tasks.oracles import deterministic, dual_optimum

WORLD = WindyCliff()
RIGHT, DOWN, LEFT, UP = range(4)
START, GOAL, OVER = 36, 47, 48


def test_it_is_a_tabular_family() -> None:
    assert isinstance(WORLD, TabularFamily)
    assert (WORLD.name, WORLD.parameter_names, WORLD.support.tolist()) == ("windy cliff", ("wind",), [[0.05, 0.25]])


@pytest.mark.parametrize(
    ("state", "action", "landing"),
    [
        (0, UP, {0: 0.8, 12: 0.2}),  # off the map stays, a gust carries down
        (13, RIGHT, {14: 0.8, 25: 0.2}),
        (25, RIGHT, {26: 0.8, 37: 0.2}),  # from the edge a gust ends at the foot
        (START, UP, {24: 0.8, START: 0.2}),
        (START, RIGHT, {37: 0.8, START: 0.2}),
        (35, DOWN, {GOAL: 1.0}),
    ],
)
def test_a_gust_carries_one_row_down(state: int, action: int, landing: dict[int, float]) -> None:
    expected = np.zeros(49)
    for cell, probability in landing.items():
        expected[cell] = probability
    np.testing.assert_allclose(WORLD.cmdp(0.2).dense[state, action], expected, atol=1e-12)


def test_only_the_foot_costs_and_it_leads_back_to_the_start() -> None:
    task = WORLD.cmdp(0.2)
    assert np.flatnonzero(task.costs[0].max(axis=1)).tolist() == list(range(37, 47))
    assert task.dense[37:47, :, START].min() == 1.0
    assert np.flatnonzero(task.rewards.max(axis=1)).tolist() == [GOAL]
    assert task.dense[[GOAL, OVER], :, OVER].min() == 1.0


def edge_walk(q: float) -> tuple[float, float]:
    """Up once, right along the edge, down: return and falls in closed form, by what a gust in each column leads to.

    ``a = gamma (1-q)`` moves on; in column 0 a gust leads back to the start at once (weight ``gamma q``), in columns 1-10 to the foot, which
    costs ``gamma q`` and leads back one step later (weight ``gamma^2 q``).
    """
    gamma = 0.95
    a, gust = gamma * (1.0 - q), gamma * q
    along = sum(a**k for k in range(10))
    back = gust + a * gust + a * a * along * gamma * gust  # discounted chance of being at the start again
    return gamma * a**12 / (1.0 - back), a * a * along * gust / (1.0 - back)


@pytest.mark.parametrize("q", [0.0, 0.05, 0.2])
def test_a_walk_along_the_edge_has_its_closed_form(q: float) -> None:
    actions = np.full(49, RIGHT)
    actions[START], actions[35] = UP, DOWN
    found = evaluate(WORLD.cmdp(q), deterministic(actions, 4))
    assert (found.reward, found.costs[0]) == pytest.approx(edge_walk(q))


def test_without_wind_the_edge_is_best() -> None:
    found = solve(WORLD.cmdp(0.0))
    assert (found.value, found.costs[0]) == pytest.approx((0.95**13, 0.0), abs=1e-7)


@pytest.mark.parametrize("q", [0.05, 0.15, 0.25])
def test_the_optimum_agrees_with_the_lagrangian_dual(q: float) -> None:
    task = WORLD.cmdp(q)
    assert solve(task).value == pytest.approx(dual_optimum(task), abs=1e-5)


def test_more_wind_is_worth_less_and_fells_more() -> None:
    tasks = [WORLD.cmdp(q) for q in np.linspace(0.05, 0.25, 6)]
    assert (np.diff([solve(t).value for t in tasks]) < -0.03).all()
    safe = WORLD.safe_policy()
    assert (np.diff([evaluate(t, safe).costs[0] for t in tasks]) > 0.002).all()


def test_the_safe_policy_keeps_its_margin_on_the_whole_support_and_much_can_be_gained() -> None:
    safe = WORLD.safe_policy()
    values = [evaluate(WORLD.cmdp(q), safe) for q in np.linspace(0.05, 0.25, 15)]
    margins = [0.1 - v.costs[0] for v in values]
    assert min(margins) == margins[-1] == pytest.approx(0.0340, abs=1e-3)
    optima = [solve(WORLD.cmdp(q)).value for q in np.linspace(0.05, 0.25, 15)]
    assert np.mean([1.0 - v.reward / best for v, best in zip(values, optima)]) > 0.28


@given(st.floats(0.0, 1.0))
def test_rows_are_probabilities_in_any_wind(q: float) -> None:
    dense = WORLD.cmdp(q).dense
    np.testing.assert_allclose(dense.sum(axis=2), 1.0, atol=1e-12)
    assert dense.max() <= 1.0, "a row that rounds to more than one would lie outside of its own kernel box"


def test_sampling_depends_on_the_generator_only_and_stays_in_the_support() -> None:
    one, two, three = (WORLD.sample(200, np.random.default_rng(s)) for s in (7, 7, 8))
    np.testing.assert_array_equal(one, two)
    assert (one != three).all()
    assert 0.05 <= one.min() < 0.06 and 0.24 < one.max() <= 0.25


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda: WindyCliff(limit=-1.0), ("SF-ARGUMENT-RANGE", "limit", "[0, inf]", "-1")),
        (lambda: WORLD.cmdp(1.2), ("SF-ARGUMENT-RANGE", "wind", "[0, 1]", "1.2")),
        (lambda: WORLD.cmdp(np.inf), ("SF-ARGUMENT-FINITE", "parameters[0]", "inf")),
    ],
)
def test_bad_arguments_are_refused(call: object, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        call()  # type: ignore[operator]
