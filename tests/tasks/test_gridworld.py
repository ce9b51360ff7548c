"""The published gridworld: every fact of its description, checked on the arrays it becomes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm, truncnorm

from surefoot import evaluate, solve
from surefoot.solvers import OccupancyProgram
from surefoot.tasks import NoisyGridworld, TabularFamily, TaskFamily
from surefoot.tasks.gridworld import PUBLISHED_NOISES
from tests.refusals import refused

RIGHT, UP, LEFT, DOWN = range(4)


def state(x: int, y: int) -> int:
    return 7 * y + x


def test_it_is_a_tabular_family() -> None:
    world = NoisyGridworld()
    assert isinstance(world, TaskFamily)
    assert isinstance(world, TabularFamily)
    assert world.parameter_names == ("noise",)


def test_start_costs_rewards_discount_and_limit_are_the_published_ones() -> None:
    cmdp = NoisyGridworld().cmdp(0.25)
    assert (cmdp.n_states, cmdp.n_actions, cmdp.n_constraints) == (49, 4, 1)
    free = cmdp.start > 0.0
    assert free.sum() == 41
    np.testing.assert_allclose(cmdp.start[free], 1.0 / 41.0)
    dear = {state(x, y) for x in (2, 4) for y in (1, 2, 3, 4)}
    assert set(np.flatnonzero(~free)) == dear
    assert set(np.flatnonzero(cmdp.costs[0].max(axis=1))) == dear
    assert np.unique(cmdp.costs).tolist() == [0.0, 10.0]
    assert set(np.flatnonzero(cmdp.rewards.max(axis=1))) == {state(3, 6)}
    assert np.unique(cmdp.rewards).tolist() == [0.0, 10.0]
    assert cmdp.rewards[state(3, 6)].tolist() == [10.0] * 4
    assert (cmdp.discount, cmdp.cost_limits.tolist()) == (0.9, [1.5])


@pytest.mark.parametrize(
    ("x", "y", "action", "landing"),
    [
        # interior: the intended cell is one of four neighbours and shares the spread
        (3, 3, RIGHT, {(4, 3): 0.8 + 0.05, (2, 3): 0.05, (3, 4): 0.05, (3, 2): 0.05}),
        (3, 3, UP, {(3, 4): 0.8 + 0.05, (2, 3): 0.05, (4, 3): 0.05, (3, 2): 0.05}),
        (3, 3, LEFT, {(2, 3): 0.8 + 0.05, (4, 3): 0.05, (3, 4): 0.05, (3, 2): 0.05}),
        (3, 3, DOWN, {(3, 2): 0.8 + 0.05, (2, 3): 0.05, (3, 4): 0.05, (4, 3): 0.05}),
        # edge, inward: three neighbours
        (0, 3, RIGHT, {(1, 3): 0.8 + 0.2 / 3, (0, 4): 0.2 / 3, (0, 2): 0.2 / 3}),
        # edge, off the grid: the cell itself is intended and joins the three neighbours
        (0, 3, LEFT, {(0, 3): 0.8 + 0.05, (1, 3): 0.05, (0, 4): 0.05, (0, 2): 0.05}),
        # corner, inward: two neighbours
        (0, 0, RIGHT, {(1, 0): 0.8 + 0.1, (0, 1): 0.1}),
        # corner, off the grid: itself and two neighbours
        (0, 0, LEFT, {(0, 0): 0.8 + 0.2 / 3, (1, 0): 0.2 / 3, (0, 1): 0.2 / 3}),
        (6, 6, UP, {(6, 6): 0.8 + 0.2 / 3, (5, 6): 0.2 / 3, (6, 5): 0.2 / 3}),
    ],
)
def test_noise_is_spread_over_neighbours_and_the_intended_cell(
    x: int, y: int, action: int, landing: dict[tuple[int, int], float]
) -> None:
    row = NoisyGridworld().cmdp(0.2).dense[state(x, y), action]
    expected = np.zeros(49)
    for cell, probability in landing.items():
        expected[state(*cell)] = probability
    np.testing.assert_allclose(row, expected, atol=1e-12)


@given(st.floats(0.0, 1.0))
def test_the_goal_absorbs_and_rows_are_probabilities_at_any_noise(noise: float) -> None:
    dense = NoisyGridworld().cmdp(noise).dense
    goal = state(3, 6)
    assert dense[goal, :, goal].tolist() == [1.0] * 4
    np.testing.assert_allclose(dense.sum(axis=2), 1.0, atol=1e-12)


@given(st.floats(0.0, 1.0))
def test_moves_reach_adjacent_cells_only(noise: float) -> None:
    dense = NoisyGridworld().cmdp(noise).dense
    origin, _, target = np.nonzero(dense)
    steps = np.abs(origin % 7 - target % 7) + np.abs(origin // 7 - target // 7)
    assert steps.max() <= 1


def test_the_grid_is_symmetric_about_its_middle_column() -> None:
    cmdp = NoisyGridworld().cmdp(0.3)
    mirror = np.array([7 * (s // 7) + 6 - s % 7 for s in range(49)])
    swap = [LEFT, UP, RIGHT, DOWN]
    mirrored = cmdp.dense[mirror][:, swap][:, :, mirror]
    np.testing.assert_allclose(mirrored, cmdp.dense, atol=1e-15)


def test_the_safe_policy_is_the_optimum_at_noise_four_tenths_and_keeps_its_margin() -> None:
    world = NoisyGridworld()
    safe = world.safe_policy()
    assert evaluate(world.cmdp(0.4), safe).costs[0] == pytest.approx(1.5, abs=1e-8)
    assert evaluate(world.cmdp(0.4), safe).reward == pytest.approx(solve(world.cmdp(0.4)).value, abs=1e-8)
    assert 1.5 - evaluate(world.cmdp(0.38), safe).costs[0] == pytest.approx(0.131, abs=5e-4)
    margins = [1.5 - evaluate(world.cmdp(q), safe).costs[0] for q in np.linspace(0.0, 0.38, 20)]
    assert min(margins) == margins[-1]


def test_feasibility_ends_near_noise_436() -> None:
    program, world = OccupancyProgram(), NoisyGridworld()
    low, high = 0.4, 0.5
    while high - low > 1e-4:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if program.solve(world.cmdp(middle)).status == "optimal" else (low, middle)
    assert low == pytest.approx(0.436, abs=1e-3)


def test_truncated_sampling_follows_the_truncated_normal_law() -> None:
    """Kolmogorov-Smirnov at level 1e-4; the law truncated one deviation lower must be told apart."""
    noises = NoisyGridworld().sample(4000, np.random.default_rng(1))
    assert noises.shape == (4000, 1)
    assert noises.max() <= 0.38
    law = truncnorm((0.0 - 0.3) / 0.03, (0.38 - 0.3) / 0.03, loc=0.3, scale=0.03)
    assert kstest(noises[:, 0], law.cdf).pvalue > 1e-4
    wrong = truncnorm(-10.0, (0.35 - 0.3) / 0.03, loc=0.3, scale=0.03)
    assert kstest(noises[:, 0], wrong.cdf).pvalue < 1e-4


def test_truncation_bites_where_the_law_has_mass_beyond_the_support() -> None:
    from surefoot.tasks.gridworld import _truncated_normal

    draws = _truncated_normal(0.3, 0.03, 0.0, 0.31, 4000, np.random.default_rng(1))
    assert draws.max() <= 0.31
    assert kstest(draws, truncnorm(-10.0, (0.31 - 0.3) / 0.03, loc=0.3, scale=0.03).cdf).pvalue > 1e-4
    assert (draws == 0.31).mean() < 0.001, "clipping would leave an atom at the edge"


def test_published_sampling_is_the_clipped_normal_law() -> None:
    noises = NoisyGridworld("published").sample(4000, np.random.default_rng(2))
    assert kstest(noises[:, 0], norm(0.3, 0.03).cdf).pvalue > 1e-4
    np.testing.assert_array_equal(NoisyGridworld("published").support, [[0.0, 0.5]])
    np.testing.assert_array_equal(NoisyGridworld().support, [[0.0, 0.38]])


@pytest.mark.parametrize("variant", ["truncated", "published"])
def test_sampling_depends_on_the_generator_only(variant: str) -> None:
    world = NoisyGridworld(variant)  # type: ignore[arg-type]
    one, two, three = (world.sample(50, np.random.default_rng(s)) for s in (7, 7, 8))
    np.testing.assert_array_equal(one, two)
    assert (one != three).all()


def test_the_ten_published_noises() -> None:
    digits = "33994760 25363799 31864008 30796535 33609112 33084822 31335413 30405411 34453611 26760585"
    assert [round(1e8 * q) for q in PUBLISHED_NOISES] == [int(d) for d in digits.split()]


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (
            lambda: NoisyGridworld("shortened"),
            ("SF-ARGUMENT-CHOICE", "variant", '"truncated"', '"published"', "'shortened'"),
        ),
        (lambda: NoisyGridworld(limit=-1.0), ("SF-ARGUMENT-RANGE", "limit", "[0, inf]", "-1")),
        (lambda: NoisyGridworld().cmdp(1.2), ("SF-ARGUMENT-RANGE", "noise", "[0, 1]", "1.2")),
        (lambda: NoisyGridworld().cmdp([0.1, 0.2]), ("SF-ARGUMENT-SHAPE", "parameters", "(1)", "(2,)")),
        (lambda: NoisyGridworld().cmdp(np.nan), ("SF-ARGUMENT-FINITE", "parameters[0]", "nan")),
    ],
)
def test_bad_arguments_are_refused(call: object, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        call()  # type: ignore[operator]


def test_the_family_survives_a_trip_to_another_process() -> None:
    """Workers receive it pickled by joblib; cached arrays must not be in the way."""
    import copy

    world = NoisyGridworld(limit=1.7)
    assert world.criterion.cost_limits.tolist() == [1.7]
    twin = copy.deepcopy(world)
    assert twin == world
    assert twin.cmdp(0.2).cost_limits.tolist() == [1.7]
