"""The slippery lake: exact transitions, the lake without slip, and what the family promises of all its tasks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot import evaluate, occupancy, solve
from surefoot.tasks import SlipperyLake, TabularFamily
from tests.refusals import refused
from tests.tasks.oracles import deterministic, dual_optimum

WORLD = SlipperyLake()
RIGHT, DOWN, LEFT, UP = range(4)
HOLES, GOAL, OVER = [5, 7, 11, 12], 15, 16


def test_it_is_a_tabular_family() -> None:
    assert isinstance(WORLD, TabularFamily)
    assert (WORLD.name, WORLD.parameter_names, WORLD.support.tolist()) == ("slippery lake", ("slip",), [[0.15, 0.35]])


@pytest.mark.parametrize(
    ("state", "action", "landing"),
    [
        (0, RIGHT, {1: 0.8, 4: 0.1, 0: 0.1}),  # slipping up leaves the map
        (0, UP, {0: 0.9, 1: 0.1}),  # up and left stay
        (6, DOWN, {10: 0.8, 5: 0.1, 7: 0.1}),  # a hole on either side
        (14, RIGHT, {15: 0.8, 10: 0.1, 14: 0.1}),
        (9, LEFT, {8: 0.8, 5: 0.1, 13: 0.1}),
    ],
)
def test_a_move_slips_to_either_side(state: int, action: int, landing: dict[int, float]) -> None:
    expected = np.zeros(17)
    for cell, probability in landing.items():
        expected[cell] = probability
    np.testing.assert_allclose(WORLD.cmdp(0.2).dense[state, action], expected, atol=1e-12)


def test_goal_and_holes_pay_once() -> None:
    task = WORLD.cmdp(0.2)
    assert np.flatnonzero(task.costs[0].max(axis=1)).tolist() == HOLES
    assert np.flatnonzero(task.rewards.max(axis=1)).tolist() == [GOAL]
    assert task.dense[[*HOLES, GOAL, OVER], :, OVER].min() == 1.0


def test_without_slip_the_goal_is_six_steps_away_and_nobody_falls() -> None:
    found = solve(SlipperyLake().cmdp(0.0))
    assert (found.value, found.costs[0]) == pytest.approx((0.95**6, 0.0), abs=1e-7)


def test_a_walk_down_the_left_side_in_closed_form() -> None:
    """Always left: the column is left for nobody, and cells 0, 4, 8 lead to the hole at 12 by slipping alone.

    With ``f_k`` the discounted probability of falling from row k and ``b = gamma q/2``: ``f_k (1 - gamma (1-q)) = b (f_{k-1} + f_{k+1})``,
    ``f_3 = 1``, and at the upper edge slipping up stays.
    """
    q, gamma = 0.3, 0.95
    b, stay = gamma * q / 2.0, gamma * (1.0 - q)
    system = np.array([[1.0 - stay - b, -b, 0.0], [-b, 1.0 - stay, -b], [0.0, -b, 1.0 - stay]])
    falls = np.linalg.solve(system, [0.0, 0.0, b])
    found = evaluate(WORLD.cmdp(q), deterministic(np.full(17, LEFT), 4))
    assert found.costs[0] == pytest.approx(falls[0])
    assert found.reward == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("q", [0.15, 0.25, 0.35])
def test_the_optimum_agrees_with_the_lagrangian_dual(q: float) -> None:
    task = WORLD.cmdp(q)
    assert solve(task).value == pytest.approx(dual_optimum(task), abs=1e-5)


def test_every_episode_ends_at_most_once_somewhere() -> None:
    """Discounted arrivals at goal and holes are value and cost, whatever the policy."""
    task = WORLD.cmdp(0.3)
    x, found = occupancy(task, WORLD.safe_policy()).sum(axis=1), evaluate(task, WORLD.safe_policy())
    assert (x[GOAL], x[HOLES].sum()) == pytest.approx((found.reward, found.costs[0]))
    assert found.reward + found.costs[0] < 1.0


def test_more_slip_is_worth_less_and_drowns_more() -> None:
    tasks = [WORLD.cmdp(q) for q in np.linspace(0.15, 0.35, 6)]
    assert (np.diff([solve(t).value for t in tasks]) < -0.02).all()
    safe = WORLD.safe_policy()
    assert (np.diff([evaluate(t, safe).costs[0] for t in tasks]) > 0.01).all()


def test_the_safe_policy_keeps_its_margin_on_the_whole_support_and_much_can_be_gained() -> None:
    safe = WORLD.safe_policy()
    values = [evaluate(WORLD.cmdp(q), safe) for q in np.linspace(0.15, 0.35, 15)]
    margins = [0.2 - v.costs[0] for v in values]
    assert min(margins) == margins[-1] == pytest.approx(0.0577, abs=1e-3)
    optima = [solve(WORLD.cmdp(q)).value for q in np.linspace(0.15, 0.35, 15)]
    assert np.mean([1.0 - v.reward / best for v, best in zip(values, optima)]) > 0.25


@given(st.floats(0.0, 1.0))
def test_rows_are_probabilities_at_any_slip(q: float) -> None:
    dense = WORLD.cmdp(q).dense
    np.testing.assert_allclose(dense.sum(axis=2), 1.0, atol=1e-12)
    assert dense.max() <= 1.0, "a row that rounds to more than one would lie outside of its own kernel box"


def test_sampling_depends_on_the_generator_only_and_stays_in_the_support() -> None:
    one, two, three = (WORLD.sample(200, np.random.default_rng(s)) for s in (7, 7, 8))
    np.testing.assert_array_equal(one, two)
    assert (one != three).all()
    assert 0.15 <= one.min() < 0.16 and 0.34 < one.max() <= 0.35


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda: SlipperyLake(limit=-1.0), ("SF-ARGUMENT-RANGE", "limit", "[0, inf]", "-1")),
        (lambda: WORLD.cmdp(1.2), ("SF-ARGUMENT-RANGE", "slip", "[0, 1]", "1.2")),
        (lambda: WORLD.cmdp("wet"), ("SF-ARGUMENT-TYPE", "parameters")),
    ],
)
def test_bad_arguments_are_refused(call: object, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        call()  # type: ignore[operator]
