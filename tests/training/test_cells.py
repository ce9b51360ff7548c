"""Seams, extrapolated tasks and boxes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot import TabularCMDP, evaluate_many, solve, state_values
from surefoot.training.boxes import Boxes
from surefoot.training.cells import Layout, extrapolated_tasks, interpolated_tasks
from surefoot.training.coverage import joint_support
from tests.models import random_cmdp, random_policy


@given(st.integers(0, 2**32), st.integers(2, 120), st.integers(1, 6))
def test_in_one_dimension_seams_are_the_consecutive_midpoints(seed: int, n: int, cells: int) -> None:
    rng = np.random.default_rng(seed)
    # Two dense clusters far apart: the neighbour across the gap is not among the nearest few.
    points = (rng.random(n) + 100.0 * (rng.random(n) < 0.5))[:, None]
    assignment = rng.integers(0, cells, n)
    order = np.argsort(points[:, 0])
    expected = {
        (round(float(points[a, 0] + points[b, 0]) / 2, 9), frozenset((int(assignment[a]), int(assignment[b]))))
        for a, b in itertools.pairwise(order)
        if assignment[a] != assignment[b]
    }
    interpolated, owners = interpolated_tasks(points, assignment)
    found = {(round(float(s[0]), 9), frozenset(map(int, o))) for s, o in zip(interpolated, owners)}
    assert found == expected
    assert len(interpolated) == sum(assignment[a] != assignment[b] for a, b in itertools.pairwise(order))


@given(st.integers(0, 2**32), st.integers(2, 25))
def test_in_two_dimensions_seams_join_gabriel_neighbours(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    points, assignment = rng.random((n, 2)) * [1.0, 50.0], rng.integers(0, 4, n)
    scaled = points / points.std(axis=0)
    expected = set()
    for a, b in itertools.combinations(range(n), 2):
        middle, radius = (scaled[a] + scaled[b]) / 2, np.linalg.norm(scaled[a] - scaled[b]) / 2
        others = [k for k in range(n) if k not in (a, b)]
        if assignment[a] != assignment[b] and all(np.linalg.norm(scaled[k] - middle) >= radius for k in others):
            expected.add(tuple(np.round((points[a] + points[b]) / 2, 9)))
    interpolated, _ = interpolated_tasks(points, assignment)
    assert {tuple(np.round(s, 9)) for s in interpolated} == expected


def test_one_cell_has_no_seams() -> None:
    interpolated, owners = interpolated_tasks(np.random.default_rng(0).random((10, 1)), np.zeros(10, dtype=int))
    assert interpolated.shape == (0, 1) and owners.shape == (0, 2)


def test_ghosts_lie_outside_the_sample_by_the_spacing_of_its_extremes() -> None:
    points = np.array([[0.30], [0.10], [0.22], [0.11], [0.13], [0.16], [0.29], [0.28], [0.25]])
    assignment = np.arange(9)
    extrapolated, hosts = extrapolated_tasks(points, assignment, np.array([[0.0, 1.0]]))
    # The fifth most extreme task on either side is .22; .10 - .12 is clipped at the support's edge.
    np.testing.assert_allclose(extrapolated[:, 0], [0.0, 0.38], atol=1e-12)
    assert hosts.tolist() == [1, 0]


@given(st.integers(0, 2**32))
def test_ghosts_stay_inside_the_declared_support(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.random((12, 3))
    support = np.array([[0.0, 1.0], [-np.inf, 1.0], [0.0, np.inf]])
    extrapolated, hosts = extrapolated_tasks(points, np.arange(12), support)
    assert extrapolated.shape == (6, 3) and hosts.shape == (6,)
    assert (extrapolated >= support[:, 0]).all() and (extrapolated <= support[:, 1]).all()
    for axis in range(3):
        assert extrapolated[2 * axis, axis] <= points[:, axis].min()
        assert extrapolated[2 * axis + 1, axis] >= points[:, axis].max()


@pytest.fixture
def layout_and_tasks() -> tuple[Layout, list, np.ndarray]:
    rng = np.random.default_rng(1)
    tasks = [random_cmdp(rng, states=4, actions=2, constraints=2, density=1.0) for _ in range(3)]
    tables = random_policy(rng, 4, 2, count=3)
    layout = Layout(3, 2, 4, 2, np.array([0, 2, 3]), joint_support(tasks))
    return layout, tasks, tables


def test_quantities_are_values_conditional_values_bound_and_kernel(layout_and_tasks: tuple) -> None:
    layout, tasks, tables = layout_and_tasks
    vector, inside = layout.quantities(tasks[0], tables, 7.5)
    values, conditional, optimum, kernel = layout.split(vector[None])
    assert inside
    np.testing.assert_allclose(values[0], evaluate_many(tasks[0], tables))
    np.testing.assert_allclose(conditional[0], state_values(tasks[0], tables)[:, :, [0, 2, 3]])
    assert optimum.tolist() == [7.5]
    np.testing.assert_array_equal(kernel[0], tasks[0].probabilities)


def test_boxes_hold_exactly_what_was_included(layout_and_tasks: tuple) -> None:
    layout, tasks, tables = layout_and_tasks
    q = [layout.quantities(t, tables, solve(t.with_limits([1e3, 1e3])).bound)[0] for t in tasks]
    boxes = Boxes(2, layout)
    boxes.include(0, q[0], center=True)
    boxes.include(0, q[1])
    boxes.include(1, q[2], center=True)
    assert boxes.consistent(q[0]).tolist() == boxes.consistent(q[1]).tolist() == [0]
    assert boxes.consistent(q[2]).tolist() == [1]
    assert boxes.consistent(0.5 * q[0] + 0.5 * q[1]).tolist() == [0]
    np.testing.assert_array_equal(boxes.center[0], q[0])
    optimum = sum(layout.sizes[:2])
    for k in range(q[0].size):
        for side, sign in ((np.minimum(q[0], q[1]), -1.0), (np.maximum(q[0], q[1]), 1.0)):
            outside = 0.5 * (q[0] + q[1])
            outside[k] = side[k] + sign * 1e-6
            harmless = k == optimum and sign < 0.0
            assert boxes.consistent(outside).tolist() == ([0] if harmless else [])


def test_inflation_widens_but_keeps_probabilities_and_impossibilities(layout_and_tasks: tuple) -> None:
    layout, tasks, tables = layout_and_tasks
    q = [layout.quantities(t, tables, 1.0)[0] for t in tasks]
    kernel = slice(sum(layout.sizes[:3]), None)
    for vector in q:
        vector[kernel.start] = 0.0
    boxes = Boxes(1, layout)
    for vector in q:
        boxes.include(0, vector)
    low, high = boxes.lower.copy(), boxes.upper.copy()
    boxes.inflate(0.1)
    assert (boxes.lower <= low).all() and (boxes.upper >= high).all()
    values = slice(0, kernel.start)
    np.testing.assert_allclose((boxes.upper - boxes.lower)[:, values], 1.2 * (high - low)[:, values], atol=1e-6)
    assert boxes.lower[0, kernel].min() >= 0.0 and boxes.upper[0, kernel].max() <= 1.0
    assert boxes.upper[0, kernel.start] == 0.0, "an impossible transition stays impossible"


def test_rounding_is_allowed_for_in_the_unit_of_each_signal(layout_and_tasks: tuple) -> None:
    """Costs in other units are boxes in other units, and nothing else changes."""
    layout, tasks, tables = layout_and_tasks
    widths = []
    for unit in (1.0, 1e-9):
        scaled = [
            TabularCMDP(t.dense, unit * t.rewards, unit * t.costs, t.cost_limits, t.start, t.discount) for t in tasks
        ]
        boxes = Boxes(1, layout)
        for task in scaled:
            boxes.include(0, layout.quantities(task, tables, unit)[0], center=True)
        boxes.inflate(0.0)
        values = slice(0, layout.sizes[0])
        widths.append((boxes.upper - boxes.lower)[0, values] / unit)
    np.testing.assert_allclose(widths[1], widths[0], rtol=1e-6, atol=1e-7)
