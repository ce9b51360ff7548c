"""Optima against the paper, closed forms and enumeration; the structure that linear programming promises."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import TabularCMDP, evaluate, solve
from surefoot.solvers import OccupancyProgram
from surefoot.tasks import NoisyGridworld
from tests.models import cmdps, fork, hull_optimum, iterate_values, one_state, random_cmdp
from tests.refusals import refused

seeds = st.integers(0, 2**32)


@pytest.mark.parametrize(("noise", "value"), [(0.1, 59.74), (0.3, 51.96)])
def test_published_optima_to_four_digits(noise: float, value: float) -> None:
    solution = solve(NoisyGridworld().cmdp(noise))
    assert solution.status == "optimal"
    assert round(solution.value, 2) == value
    assert solution.costs[0] <= 1.5 + 1e-9


@given(st.floats(0.0, 12.0), st.floats(0.1, 0.95))
def test_two_arms_in_closed_form(limit: float, discount: float) -> None:
    """Arm 1 earns 1 and costs 1: play it with probability d (1 - gamma), always where the limit does not bind."""
    solution = solve(one_state([0.0, 1.0], [[0.0, 1.0]], [limit], discount))
    total = 1.0 / (1.0 - discount)
    assert solution.status == "optimal"
    assert solution.value == pytest.approx(min(limit, total), abs=1e-8)
    assert solution.policy[0, 1] == pytest.approx(min(limit / total, 1.0), abs=1e-8)
    if abs(limit - total) > 1e-6:
        assert solution.multipliers[0] == pytest.approx(1.0 if limit < total else 0.0, abs=1e-8)


@pytest.mark.parametrize(
    ("limits", "value", "multipliers"),
    [
        ((2.0, 3.0), 2 * 2.0 + 3 * 3.0, (2.0, 3.0)),  # both bind
        ((8.0, 3.0), 3 * 3.0 + 2 * 7.0, (0.0, 1.0)),  # arm 1 fills what is left
        ((1.0, 20.0), 3 * 10.0, (0.0, 0.0)),  # neither binds
        ((0.0, 0.0), 0.0, (2.0, 3.0)),
    ],
)
def test_three_arms_with_two_constraints_in_closed_form(limits: Any, value: float, multipliers: Any) -> None:
    """Total play 10; arm 1 earns 2 and costs (1, 0), arm 2 earns 3 and costs (0, 1)."""
    solution = solve(one_state([0.0, 2.0, 3.0], [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], limits))
    assert solution.status == "optimal"
    assert solution.value == pytest.approx(value)
    np.testing.assert_allclose(solution.multipliers, multipliers, atol=1e-9)
    assert (solution.costs <= np.asarray(limits) + 1e-9).all()


@given(st.floats(0.0, 1.5), st.floats(0.1, 0.95))
def test_fork_in_closed_form(limit: float, discount: float) -> None:
    """The short way costs 1 and earns gamma/(1-gamma), the long one gamma^2/(1-gamma): mix at the fork."""
    solution = solve(fork(limit, discount))
    share = min(limit, 1.0)
    fast, slow = discount / (1.0 - discount), discount**2 / (1.0 - discount)
    assert solution.value == pytest.approx(share * fast + (1.0 - share) * slow, abs=1e-8)
    assert solution.policy[0, 0] == pytest.approx(share, abs=1e-8)
    if abs(limit - 1.0) > 1e-6:
        assert solution.multipliers[0] == pytest.approx(discount if limit < 1.0 else 0.0, abs=1e-8)


@settings(max_examples=25)
@given(seeds, st.integers(1, 2), st.floats(0.55, 1.3))
@pytest.mark.slow
def test_optimum_equals_enumeration_over_the_hull_of_deterministic_policies(
    seed: int, constraints: int, tightness: float
) -> None:
    rng = np.random.default_rng(seed)
    cmdp = random_cmdp(rng, states=3, actions=2, constraints=constraints, discount=0.7)
    cheapest = [iterate_values(cmdp, c, largest=False) for c in cmdp.costs]
    cmdp = cmdp.with_limits(tightness * np.asarray(cheapest) + 0.4 * rng.random(constraints))
    best, solution = hull_optimum(cmdp), solve(cmdp)
    if np.isneginf(best):
        assert solution.status == "infeasible"
    else:
        assert solution.status == "optimal"
        assert solution.value == pytest.approx(best, abs=1e-6)


def test_enumeration_covers_feasible_and_infeasible_cases() -> None:
    """The property test above must meet both outcomes, or one of its branches proves nothing."""
    assert hull_optimum(fork(0.25)) == pytest.approx(0.25 * 9.0 + 0.75 * 8.1)
    toll = TabularCMDP(np.ones((1, 2, 1)), [[0.0, 1.0]], [[[1.0, 2.0]]], [9.0], [1.0], 0.9)
    assert np.isneginf(hull_optimum(toll))
    assert solve(toll).status == "infeasible"


@given(cmdps())
def test_solutions_are_certified_and_randomise_in_at_most_as_many_states_as_constraints(cmdp: TabularCMDP) -> None:
    solution = solve(cmdp)
    exact = evaluate(cmdp, solution.policy)
    np.testing.assert_allclose(solution.costs, exact.costs, atol=1e-12)
    if solution.status == "infeasible":
        assert np.isnan(solution.value)
        assert solution.excess > 0.0
        assert np.isnan(solution.multipliers).all()
        return
    assert solution.status == "optimal"
    assert solution.value == pytest.approx(exact.reward, abs=1e-12)
    randomising = int((np.sum(solution.policy > 1e-9, axis=1) > 1).sum())
    assert randomising <= cmdp.n_constraints
    assert (solution.multipliers >= 0.0).all()
    # Complementary slackness: a limit that does not bind has no price.
    assert np.abs(solution.multipliers * (cmdp.cost_limits - solution.costs)).max(initial=0.0) < 1e-6
    assert solution.gap <= 1e-6 * max(1.0, abs(solution.value))


@given(cmdps(max_constraints=0))
@pytest.mark.slow
def test_without_constraints_the_optimum_is_that_of_value_iteration(cmdp: TabularCMDP) -> None:
    solution = solve(cmdp)
    assert solution.status == "optimal"
    assert solution.value == pytest.approx(iterate_values(cmdp, cmdp.rewards, largest=True), abs=1e-7)
    assert solution.multipliers.shape == (0,)


def values_by_limit(cmdp: TabularCMDP, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    program = OccupancyProgram(cmdp)
    found = [program.solve(cmdp.with_limits([d])).value_or_raise() for d in limits]
    return np.array([s.value for s in found]), np.array([s.multipliers[0] for s in found])


@pytest.mark.parametrize("which", ["gridworld", "random"])
def test_value_of_the_limit_is_concave_increasing_and_flat_once_unconstrained(which: str) -> None:
    rng = np.random.default_rng(8)
    cmdp = NoisyGridworld().cmdp(0.3) if which == "gridworld" else random_cmdp(rng, states=6, actions=3)
    least = iterate_values(cmdp, cmdp.costs[0], largest=False)
    free = solve(cmdp.with_limits([1e6])).value_or_raise()
    limits = np.linspace(least + 1e-6, 1.5 * free.costs[0], 40)
    values, multipliers = values_by_limit(cmdp, limits)
    slopes = np.diff(values) / np.diff(limits)
    assert (slopes >= -1e-7).all()
    assert (np.diff(slopes) <= 1e-6).all()
    assert (np.diff(multipliers) <= 1e-7).all()
    flat = limits >= free.costs[0]
    np.testing.assert_allclose(values[flat], free.value, atol=1e-7)
    np.testing.assert_allclose(multipliers[flat], 0.0, atol=1e-7)
    assert slopes[0] > 0.01, "the limit must bind somewhere, or the test shows nothing"
    # Every multiplier is a supergradient: V*(d') <= V*(d) + lam (d' - d) for all d'.
    lines = values[:, None] + multipliers[:, None] * (limits[None, :] - limits[:, None])
    assert (values[None, :] <= lines + 1e-6).all()


def test_multipliers_are_the_derivative_in_each_limit() -> None:
    cmdp = random_cmdp(np.random.default_rng(3), states=5, actions=3, constraints=2, discount=0.9)
    cmdp = cmdp.with_limits(1.1 * solve(cmdp.with_limits([0.0, 0.0])).costs)
    base, step = solve(cmdp).value_or_raise(), 1e-4
    for k in range(2):
        more = solve(cmdp.with_limits(cmdp.cost_limits + step * np.eye(2)[k])).value_or_raise()
        less = solve(cmdp.with_limits(cmdp.cost_limits - step * np.eye(2)[k])).value_or_raise()
        assert (more.value - less.value) / (2 * step) == pytest.approx(base.multipliers[k], rel=1e-3, abs=1e-6)
    assert base.multipliers.min() > 0.01, "both limits must bind"


@given(seeds)
def test_infeasible_tasks_report_the_least_attainable_cost(seed: int) -> None:
    cmdp = random_cmdp(np.random.default_rng(seed), states=4, actions=2)
    least = iterate_values(cmdp, cmdp.costs[0], largest=False)
    solution = solve(cmdp.with_limits([0.9 * least]))
    assert solution.status == "infeasible"
    assert solution.costs[0] == pytest.approx(least, abs=1e-7)
    assert solution.excess == pytest.approx(0.1 * least, abs=1e-7)
    assert (solution.gap, solution.bound) == (np.inf, -np.inf)
    with refused("SF-SOLVER-INFEASIBLE") as caught:
        solution.value_or_raise()
    assert f"{solution.costs[0]}" in str(caught.value)


@given(seeds, st.sampled_from([1e-5, -1e-5]))
def test_the_edge_of_feasibility_is_found(seed: int, relative: float) -> None:
    cmdp = random_cmdp(np.random.default_rng(seed), states=4, actions=2)
    least = iterate_values(cmdp, cmdp.costs[0], largest=False)
    assert solve(cmdp.with_limits([(1.0 + relative) * least])).status == ("optimal" if relative > 0 else "infeasible")


def test_two_constraints_that_only_together_are_infeasible() -> None:
    """Arm 0 costs (1, 0), arm 1 costs (0, 1): each limit alone can be met, both cannot; the worst excess is shared."""
    solution = solve(one_state([1.0, 1.0], [[1.0, 0.0], [0.0, 1.0]], [4.0, 4.0]))
    assert solution.status == "infeasible"
    np.testing.assert_allclose(solution.costs, [5.0, 5.0], atol=1e-8)
    assert solution.excess == pytest.approx(1.0)


def test_the_gridworld_is_infeasible_above_noise_436() -> None:
    world = NoisyGridworld()
    assert solve(world.cmdp(0.435)).status == "optimal"
    beyond = solve(world.cmdp(0.437))
    assert beyond.status == "infeasible"
    assert beyond.costs[0] == pytest.approx(
        iterate_values(world.cmdp(0.437), world.cmdp(0.437).costs[0], largest=False)
    )


def test_warm_and_cold_starts_agree_whatever_the_order() -> None:
    world = NoisyGridworld()
    warm = OccupancyProgram(world.cmdp(0.3))
    noises = [0.38, 0.05, 0.31, 0.2, 0.43]
    forward = [warm.solve(world.cmdp(q)) for q in noises]
    backward = [warm.solve(world.cmdp(q)) for q in reversed(noises)][::-1]
    for one, two, q in zip(forward, backward, noises):
        np.testing.assert_array_equal(one.policy, two.policy)
        assert one.value == pytest.approx(solve(world.cmdp(q)).value, abs=1e-7)
    typical = warm.solve(world.cmdp(0.31)).iterations
    assert typical < solve(world.cmdp(0.31)).iterations


def test_an_infeasible_anchor_only_means_a_cold_start() -> None:
    world = NoisyGridworld()
    assert OccupancyProgram(world.cmdp(0.5)).solve(world.cmdp(0.3)).value == pytest.approx(51.9628, abs=1e-4)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6, 1e9])
def test_large_rewards_buy_no_excess(scale: float) -> None:
    """Feasibility is judged against the limit, however large the rewards are."""
    solution = solve(one_state([0.0, scale], [[0.0, 1.0]], [2.0]))
    assert solution.status == "optimal"
    assert solution.excess <= 2e-7
    assert solution.value == pytest.approx(2.0 * scale, rel=1e-7)


def answer_with(monkeypatch: pytest.MonkeyPatch, table: list[list[float]]) -> None:
    """Make both ways of solving answer with this policy, so that only the certificate stands between it and "optimal"."""
    from surefoot.solvers import linear_program

    policy = np.array(table)
    monkeypatch.setattr(linear_program, "_policy", lambda cmdp, occupancy, reduced: policy)
    monkeypatch.setattr(linear_program.PolicyMaster, "_mixture", lambda self, shares: policy)


def test_an_answer_that_the_certificate_rejects_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, [[0.0, 1.0]])
    solution = solve(one_state([0.0, 1.0], [[0.0, 1.0]], [2.0]), "occupancy")
    assert solution.status == "failed"
    with refused("SF-SOLVER-UNCERTIFIED", "8"):
        solution.value_or_raise()


def test_a_suboptimal_answer_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, [[1.0, 0.0]])
    solution = solve(one_state([0.0, 1.0], [[0.0, 1.0]], [2.0]), "occupancy")
    assert solution.status == "failed"
    with refused("SF-SOLVER-UNCERTIFIED", "2"):
        solution.value_or_raise()


def test_the_size_of_the_rewards_does_not_excuse_an_excess(monkeypatch: pytest.MonkeyPatch) -> None:
    """1e-5 above a limit of 2 is an excess, also where the return is 2e6 and a gap of .2 would be rounding."""
    share = 0.2 + 1e-6
    answer_with(monkeypatch, [[1.0 - share, share]])
    solution = solve(one_state([0.0, 1e6], [[0.0, 1.0]], [2.0]), "occupancy")
    assert solution.excess == pytest.approx(1e-5, rel=1e-3)
    assert solution.status == "failed"


@pytest.mark.parametrize("scale", [1e-250, 1e-30, 1e-10, 0.9e-9, 1e-8, 1e-3, 1.0, 1e6, 1e30])
@pytest.mark.parametrize("worth", [1e-12, 1.0, 1e12])
def test_units_change_nothing(scale: float, worth: float) -> None:
    """Arm 1 earns and costs one unit a step; the limit allows a fifth of it."""
    solution = solve(one_state([0.0, worth], [[0.0, scale]], [2.0 * scale]))
    assert solution.status == "optimal"
    assert solution.policy[0, 1] == pytest.approx(0.2, rel=1e-6)
    assert solution.value == pytest.approx(2.0 * worth, rel=1e-6)
    assert solution.costs[0] <= 2.0 * scale * (1.0 + 1e-7)
    assert solution.multipliers[0] == pytest.approx(worth / scale, rel=1e-6)


def test_each_limit_is_judged_by_itself() -> None:
    """A limit of 5e-10 beside one of 5e3: two arms, each held by its own."""
    solution = solve(one_state([0.0, 1.0, 1.0], [[0.0, 1e-10, 0.0], [0.0, 0.0, 1e3]], [2e-10, 3e3]))
    assert solution.status == "optimal"
    np.testing.assert_allclose(solution.policy[0], [0.5, 0.2, 0.3], rtol=1e-6)


def test_an_excess_over_a_tiny_limit_is_an_excess(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, [[0.0, 1.0]])
    solution = solve(one_state([0.0, 1.0], [[0.0, 1e-12]], [2e-12]), "occupancy")
    assert solution.status == "failed"
    assert np.isnan(solution.value)


@pytest.mark.parametrize("probability", [1e-4, 1e-8, 1e-9, 1e-10, 1e-13, 1e-16])
def test_a_rare_and_expensive_crash(probability: float) -> None:
    """Fast earns 1 and crashes with this probability, at an expected cost of 90 in all; slow earns nothing. The limit is 20."""
    kernel = np.zeros((2, 2, 2))
    kernel[0, 0] = [1.0 - probability, probability]
    kernel[0, 1, 0] = kernel[1, :, 1] = 1.0
    costs = np.zeros((1, 2, 2))
    costs[0, 1] = 1.0 / probability
    cmdp = TabularCMDP(kernel, [[1.0, 0.0], [0.0, 0.0]], costs, [20.0], [1.0, 0.0], 0.9)
    solution = solve(cmdp)
    assert solution.status == "optimal"
    assert solution.value == pytest.approx(20.0 / 9.0, rel=1e-3)
    assert solution.costs[0] == pytest.approx(20.0, rel=1e-6)


def random_walks(side: int, limit: float, arrivals: tuple[float, float]) -> TabularCMDP:
    """Two buffers that are served at a price in reward; a start in the middle, so that far corners are hardly ever visited."""
    kernels = []
    for served in itertools.product((0.0, 0.65), repeat=2):
        parts = []
        for rate, service in zip(arrivals, (served[1], served[0])):
            up, down, q = rate * (1.0 - service), service * (1.0 - rate), np.arange(side)
            walk = np.zeros((side, side))
            np.add.at(walk, (q, np.minimum(q + 1, side - 1)), up)
            np.add.at(walk, (q, np.maximum(q - 1, 0)), down)
            np.add.at(walk, (q, q), 1.0 - up - down)
            parts.append(walk)
        kernels.append(np.kron(*parts))
    states = np.arange(side**2)
    load = (states // side + states % side) / (2.0 * (side - 1))
    start = np.eye(side**2)[(side // 2) * (side + 1)]
    return TabularCMDP(
        np.stack(kernels, axis=1),
        np.tile([1.0, 0.6, 0.6, 0.0], (side**2, 1)),
        np.tile(load[None, :, None], (1, 1, 4)),
        [limit],
        start,
        0.9,
    )


def test_an_infeasible_task_that_is_hardly_visited_in_its_corners_is_called_infeasible() -> None:
    cmdp = random_walks(12, 3.0, (0.4, 0.4))
    least = iterate_values(cmdp, cmdp.costs[0], largest=False)
    assert least > 3.0
    solution = solve(cmdp)
    assert solution.status == "infeasible"
    assert solution.costs[0] == pytest.approx(least, rel=1e-7)
    assert np.isnan(solution.value)


@pytest.mark.parametrize(("constraints", "tightness"), [(1, 1.2), (2, 1.2), (2, 0.5)])
def test_the_program_over_policies_agrees_with_the_program_over_occupancies(constraints: int, tightness: float) -> None:
    from surefoot.solvers import linear_program

    for seed in range(10):
        cmdp = random_cmdp(np.random.default_rng(seed), states=6, actions=3, constraints=constraints)
        cmdp = cmdp.with_limits(tightness * solve(cmdp.with_limits(np.zeros(constraints))).costs)
        one, two = solve(cmdp), linear_program._over_policies(cmdp, 0)
        assert one.status == two.status == ("optimal" if tightness > 1.0 else "infeasible")
        assert two.excess == pytest.approx(one.excess, abs=1e-7)
        if tightness > 1.0:
            assert two.value == pytest.approx(one.value, rel=1e-7)
            np.testing.assert_allclose(two.multipliers, one.multipliers, rtol=1e-5, atol=1e-7)


def test_the_edge_of_feasibility_itself_is_feasible() -> None:
    """The limit is the least attainable cost: nothing is infeasible, and the answer is the best of the cheapest policies."""
    solution = solve(one_state([0.0, 1.0, 2.0], [[1.0, 1.0, 2.0]], [10.0]))
    assert solution.status == "optimal"
    assert solution.value == pytest.approx(10.0, rel=1e-6)
