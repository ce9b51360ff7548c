"""The hard instance of the lower bound: closed forms against the solver, and that it is as hard as the theorem needs."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import chisquare

from surefoot import distance, evaluate, solve, train
from surefoot.arrays import FloatArray
from surefoot.tasks import TabularFamily
from surefoot.tasks.hard_instance import HardInstance
from tests.refusals import refused
from tests.tasks.oracles import dual_optimum

INSTANCES = [
    HardInstance(),
    HardInstance(depth=1, margin=0.05, accuracy=0.01, discount=0.6, ratio=1.5),
    HardInstance(depth=3, margin=0.5, accuracy=0.1, discount=0.9, scale=0.4, tasks=5),
    HardInstance(depth=2, margin=1.5, accuracy=0.3, discount=0.95, ratio=3.0),
]


def named(family: HardInstance) -> str:
    return f"m{family.depth}-C{family.n_tasks}-g{family.discount}"


def entering(family: HardInstance, gate: int, probability: float = 1.0) -> FloatArray:
    """Walk to one gate, enter it with a probability, stay in its loop."""
    gates = 2**family.depth
    table = np.zeros((4 * gates, 2))
    table[:, 0] = 1.0
    for level in range(family.depth):
        node = 2**level - 1 + (gate >> (family.depth - level))
        table[node] = np.eye(2)[gate >> (family.depth - level - 1) & 1]
    table[gates - 1 + gate] = [probability, 1.0 - probability]
    return table


@pytest.mark.parametrize("family", INSTANCES, ids=named)
def test_closed_form_optima_are_the_solvers(family: HardInstance) -> None:
    assert isinstance(family, TabularFamily)
    for number in range(family.n_tasks):
        task = family.cmdp(number)
        found = solve(task)
        assert found.value == pytest.approx(family.optimal_value(number), abs=1e-9)
        assert found.costs[0] == pytest.approx(task.cost_limits[0])


def test_closed_form_optima_are_the_lagrangian_duals() -> None:
    family = INSTANCES[1]
    for number in (0, 1):
        assert dual_optimum(family.cmdp(number)) == pytest.approx(family.optimal_value(number), abs=1e-5)


@pytest.mark.parametrize("family", INSTANCES, ids=named)
def test_entering_a_gate_has_its_closed_form_slack_and_the_stated_probability_is_optimal(family: HardInstance) -> None:
    for number in (0, family.n_tasks - 1):
        task, slacks = family.cmdp(number), family.slacks(number)
        for gate in range(2**family.depth):
            found = evaluate(task, entering(family, gate))
            assert task.cost_limits[0] - found.costs[0] == pytest.approx(slacks[gate], abs=1e-9)
            assert found.reward == pytest.approx(0.0, abs=1e-12)
        best = int(slacks.argmax())
        assert best == number
        mixed = evaluate(task, entering(family, best, family.margin / (family.margin + slacks[best])))
        assert mixed.reward == pytest.approx(family.optimal_value(number))
        assert mixed.costs[0] == pytest.approx(task.cost_limits[0])


@pytest.mark.parametrize("family", INSTANCES, ids=named)
def test_the_safe_policy_has_the_stated_margin_in_every_task_and_between_them(family: HardInstance) -> None:
    for number in np.linspace(0.0, family.n_tasks - 1.0, 7):
        task = family.cmdp(number)
        found = evaluate(task, family.safe_policy())
        assert task.cost_limits[0] - found.costs[0] == pytest.approx(family.margin)
        assert found.reward == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("family", INSTANCES, ids=named)
def test_tasks_are_equally_far_apart_and_two_eps_better_than_the_first(family: HardInstance) -> None:
    tasks = [family.cmdp(k) for k in range(family.n_tasks)]
    apart = [distance(a, b) for a, b in combinations(tasks, 2)]
    np.testing.assert_allclose(apart, family.distance)
    q0, q1, q2 = family.loop_probabilities
    assert 0.0 < q0 < q1 < q2 < 1.0
    assert family.discount * q0 == pytest.approx(1.0 - family.ratio * (1.0 - family.discount))
    gains = [family.optimal_value(k) - family.optimal_value(0) for k in range(1, family.n_tasks)]
    np.testing.assert_allclose(gains, 2.0 * family.accuracy)


@pytest.mark.parametrize("family", INSTANCES, ids=named)
def test_the_optimum_of_one_task_is_infeasible_or_far_from_optimal_in_every_other(family: HardInstance) -> None:
    for own, other in permutations(range(family.n_tasks), 2):
        policy, task = solve(family.cmdp(own)).policy, family.cmdp(other)
        found = evaluate(task, policy)
        infeasible = found.costs[0] > task.cost_limits[0] + 1e-6
        assert infeasible == (own != 0), "what the first task knows is safe everywhere, what others know is not"
        assert infeasible or found.reward < family.optimal_value(other) - 1.9 * family.accuracy


@pytest.mark.parametrize("family", INSTANCES, ids=named)
def test_no_policy_is_feasible_and_eps_optimal_in_two_tasks(family: HardInstance) -> None:
    """All policies at once, as probabilities of entering each gate and of leaving: the larger of two shortfalls, minimised."""
    gates = 2**family.depth
    for first, second in combinations(range(family.n_tasks), 2):
        rows, limits = [], []
        for number in (first, second):
            rows.append([*(-family.slacks(number)), family.margin, 0.0])
            limits.append(0.0)
            rows.append([*([0.0] * gates), -family.goal_value, -1.0])
            limits.append(-family.optimal_value(number))
        simplex = [[1.0] * (gates + 1) + [0.0]]
        found = linprog([0.0] * (gates + 1) + [1.0], rows, limits, simplex, [1.0])
        assert found.status == 0
        assert found.fun == pytest.approx(2.0 * family.accuracy, rel=1e-6), "the larger shortfall is at least 2 eps"


def test_spacings_are_the_theorems_up_to_a_constant() -> None:
    """``q1 - q0`` and ``q2 - q0`` over ``(1 - gamma q0)^2 xi (1-gamma) eps / gamma`` tend to 8 and 16, over the squared scale."""
    for discount, margin in ((0.8, 0.2), (0.95, 0.1)):
        family = HardInstance(depth=1, margin=margin, accuracy=1e-6, discount=discount, scale=0.5)
        q0, q1, q2 = family.loop_probabilities
        unit = (1.0 - discount * q0) ** 2 * margin * (1.0 - discount) * 1e-6 / discount
        assert ((q1 - q0) / unit, (q2 - q0) / unit) == pytest.approx((8.0 / 0.25, 16.0 / 0.25), rel=1e-3)


def test_with_a_fixed_scale_neither_depth_nor_idle_gates_matter() -> None:
    one = HardInstance(depth=2, scale=0.3, tasks=3)
    two = HardInstance(depth=4, scale=0.3, tasks=3)
    assert one.loop_probabilities == pytest.approx(two.loop_probabilities)
    for number in range(3):
        assert solve(one.cmdp(number)).value == pytest.approx(solve(two.cmdp(number)).value)


def test_the_smallest_instance_cell_by_cell() -> None:
    """m = 1: start 0, gates 1 2, loops 3 4, falls 5 6, goal 7."""
    family = INSTANCES[1]
    q0, q1, q2 = family.loop_probabilities
    task = family.cmdp(1)
    expected = np.zeros((8, 2, 8))
    expected[0, 0, 1] = expected[0, 1, 2] = 1.0
    expected[1, 0, 3] = expected[2, 0, 4] = expected[1, 1, 7] = expected[2, 1, 7] = 1.0
    expected[3, 0, [3, 5]], expected[4, 0, [4, 6]] = [q1, 1.0 - q1], [q2, 1.0 - q2]
    expected[3, 1, 5] = expected[4, 1, 6] = 1.0
    expected[[5, 6, 7], :, [5, 6, 7]] = 1.0
    np.testing.assert_allclose(task.dense, expected, atol=1e-15)
    zero = (1.0 - 0.6) * task.cost_limits[0]
    np.testing.assert_allclose(task.costs[0, :3], zero, err_msg="the paper's zero is (1-gamma) d")
    np.testing.assert_allclose(task.costs[0, 3:7, 0], [0.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(task.costs[0, 7], zero + 0.4 * 0.05 / 0.36)
    assert np.flatnonzero(task.rewards.max(axis=1)).tolist() == [7]
    assert family.cmdp(0).dense[4, 0, 4] == pytest.approx(q0)


def test_between_two_tasks_loops_interpolate() -> None:
    family = HardInstance(depth=2)
    q0, q1, q2 = family.loop_probabilities
    loops = family.cmdp(1.25).dense[[7, 8, 9, 10], 0, [7, 8, 9, 10]]
    np.testing.assert_allclose(loops, [q1, q0 + 0.75 * (q2 - q0), q0 + 0.25 * (q2 - q0), q0])


def test_it_can_be_trained_on_like_any_family() -> None:
    found = train(HardInstance(depth=1), tasks=20, holdout=10, cells=2, progress=False)
    assert found.assumption.holds
    assert found.safe_margin == pytest.approx(0.5, abs=1e-6)


def test_tasks_are_equally_likely_and_sampling_depends_on_the_generator_only() -> None:
    family = HardInstance(depth=3, tasks=6)
    one, two, three = (family.sample(3000, np.random.default_rng(s)) for s in (7, 7, 8))
    np.testing.assert_array_equal(one, two)
    assert (one != three).any()
    numbers, counts = np.unique(one, return_counts=True)
    assert numbers.tolist() == list(range(6))
    assert chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"depth": 0}, ("SF-ARGUMENT-RANGE", "depth", "1", "12", "0")),
        ({"tasks": 5}, ("SF-ARGUMENT-RANGE", "tasks", "2", "4", "5")),
        ({"tasks": 1}, ("SF-ARGUMENT-RANGE", "tasks", "2", "4", "1")),
        ({"discount": 1.0}, ("SF-ARGUMENT-RANGE", "discount", "(0, 1)", "1")),
        ({"scale": 0.8}, ("SF-ARGUMENT-RANGE", "scale", "(0, 0.729]", "0.8")),
        ({"ratio": 1.0}, ("SF-ARGUMENT-RANGE", "ratio", "(1, 10)", "1")),
        ({"accuracy": 1.0}, ("SF-ARGUMENT-RANGE", "accuracy", "(0, 0.6075]", "1")),
        ({"margin": 2.0}, ("SF-ARGUMENT-RANGE", "margin", "(0, 1.8225]", "2")),
        ({"margin": 0.0}, ("SF-ARGUMENT-RANGE", "margin", "(0, 1.8225]", "0")),
        ({"ratio": 1.05, "accuracy": 0.3}, ("SF-ARGUMENT-RANGE", "accuracy", "1", "0.3")),
    ],
)
def test_impossible_instances_are_refused(changes: dict[str, Any], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        replace(HardInstance(), **changes)


@pytest.mark.parametrize(
    ("parameters", "refusal"),
    [
        (4.0, ("SF-ARGUMENT-RANGE", "task", "[0, 3]", "4")),
        (-0.5, ("SF-ARGUMENT-RANGE", "task", "[0, 3]", "-0.5")),
        ([0.0, 1.0], ("SF-ARGUMENT-SHAPE", "parameters", "(1)", "(2,)")),
    ],
)
def test_tasks_that_are_not_there_are_refused(parameters: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        HardInstance().cmdp(parameters)
