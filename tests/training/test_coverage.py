"""Coverage oracles against the distance of two CMDPs and against values computed one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import TabularCMDP, distance, evaluate
from surefoot.tasks import NoisyGridworld
from surefoot.training import CMDPDistance, ParameterDistance, ValueDistance
from surefoot.training.coverage import joint_support, kernel_rows
from tests.models import random_cmdp, random_policy
from tests.refusals import refused
from tests.training.families import Blend


def normalised(family: Any, parameters: Any) -> TabularCMDP:
    """The task with reward and costs divided by their per-step ranges."""
    m, criterion = family.cmdp(parameters), family.criterion
    low, high = criterion.reward_bounds
    bounds = criterion.cost_bounds
    return TabularCMDP(
        m.dense, m.rewards / (high - low), m.costs / bounds[:, None, None], m.cost_limits, m.start, m.discount
    )


@settings(max_examples=20)
@given(st.integers(0, 1000), st.booleans())
def test_the_cmdp_oracle_is_the_distance_in_normalised_units(seed: int, same: bool) -> None:
    family, rng = Blend(seed), np.random.default_rng(seed)
    first = family.sample(4, rng)
    second = first if same else family.sample(3, rng)
    found = CMDPDistance().distances(family, first, second)
    for n, one in enumerate(first):
        for m, two in enumerate(second):
            assert found[n, m] == pytest.approx(distance(normalised(family, one), normalised(family, two)), abs=1e-12)


def test_the_gridworlds_distance_in_closed_form() -> None:
    world, noises = NoisyGridworld(), np.array([[0.0], [0.1], [0.3], [0.38]])
    found = CMDPDistance().distances(world, noises, noises)
    np.testing.assert_allclose(found, 0.75 * np.abs(noises - noises.T), atol=1e-12)


def test_parameter_distance_scales_each_parameter() -> None:
    first, second = np.array([[0.0, 0.0]]), np.array([[1.0, 10.0], [3.0, 1.0]])
    assert ParameterDistance().distances(Blend(), first, second).tolist() == [[10.0, 3.0]]
    assert ParameterDistance(np.array([1.0, 20.0])).distances(Blend(), first, second).tolist() == [[1.0, 3.0]]
    with refused("SF-ARGUMENT-SHAPE", "scales", "(2)", "(3,)"):
        ParameterDistance(np.ones(3)).distances(Blend(), first, second)


def test_value_distance_compares_normalised_values() -> None:
    family, rng = Blend(), np.random.default_rng(2)
    policies = random_policy(rng, 3, 2, count=2)
    first, second = family.sample(3, rng), family.sample(2, rng)
    found = ValueDistance(policies).distances(family, first, second)
    scale = np.array([40.0, 10.0, 20.0])  # returns in [-20, 20], costs in [0, 10] x [0, 20]
    for n, one in enumerate(first):
        for m, two in enumerate(second):
            gaps = []
            for table in policies:
                a, b = evaluate(family.cmdp(one), table), evaluate(family.cmdp(two), table)
                gaps.append(np.abs(np.r_[a.reward - b.reward, a.costs - b.costs]) / scale)
            assert found[n, m] == pytest.approx(np.max(gaps), abs=1e-12)


def test_joint_support_and_rows_rebuild_each_kernel() -> None:
    rng = np.random.default_rng(3)
    one, two = (random_cmdp(rng, states=4, actions=2, density=0.3) for _ in range(2))
    keys = joint_support([one, two])
    assert (np.diff(keys) > 0).all()
    for m in (one, two):
        row, inside = kernel_rows(m, keys)
        full = np.zeros(4 * 2 * 4)
        full[keys] = row
        np.testing.assert_array_equal(full.reshape(4, 2, 4), m.dense)
        assert inside
    only = joint_support([one])
    outside = np.setdiff1d(keys, only)
    assert outside.size, "the two supports must differ here"
    row, inside = kernel_rows(two, only)
    assert not inside
    assert row.sum() < 8.0


def test_tasks_of_different_shapes_are_refused() -> None:
    class Odd(Blend):
        def cmdp(self, parameters: Any) -> TabularCMDP:
            return random_cmdp(
                np.random.default_rng(0), states=3 if parameters[0] < 0.5 else 4, actions=2, constraints=2
            )

    points = np.array([[0.1, 0.0], [0.9, 0.0]])
    with refused("SF-FAMILY-SIZES", "family", "(S, A, I)", "[(3, 2, 2), (4, 2, 2)]"):
        CMDPDistance().distances(Odd(), points, points)


def test_a_certain_transition_that_rounds_above_one_has_probability_one() -> None:
    """Boxes end at one: a task would lie in no cell for the sake of the last binary digit."""
    kernel = np.array([[[np.nextafter(1.0, 2.0)]]])
    task = TabularCMDP(kernel, np.ones((1, 1)), np.zeros((0, 1, 1)), np.zeros(0), np.ones(1), 0.9)
    assert task.probabilities[0] > 1.0
    row, inside = kernel_rows(task, joint_support([task]))
    assert row.tolist() == [1.0] and inside
