"""The grid with a noise per zone: one zone is the published grid, kernels are linear in the noises, and the safe policy is safe everywhere."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from surefoot import evaluate
from surefoot.arrays import FloatArray
from surefoot.tasks import NoisyGridworld, TabularFamily, ZonedGridworld, make_family
from surefoot.testing.families import TaskFamilySuite
from tests.refusals import refused

SIZES = (1, 2, 4, 7, 15, 49)
MAP_OF_15 = [
    12, 1, 6, 10, 0, 2, 8,
    3, 9, 3, 2, 7, 13, 14,
    8, 3, 10, 11, 4, 4, 3,
    5, 5, 14, 6, 13, 0, 11,
    1, 13, 0, 11, 10, 2, 7,
    6, 5, 0, 4, 7, 2, 9,
    1, 1, 9, 12, 12, 8, 14,
]  # fmt: skip


class Test4Zones(TaskFamilySuite):
    def make(self) -> Any:
        return ZonedGridworld(4)


class Test15Zones(TaskFamilySuite):
    def make(self) -> Any:
        return ZonedGridworld(zones=15)


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.31, 0.38, 1.0])
def test_one_zone_is_the_published_grid(noise: float) -> None:
    ours, published = ZonedGridworld(1).cmdp([noise]), NoisyGridworld().cmdp(noise)
    for part in ("rewards", "costs", "cost_limits", "start", "row_start", "successors", "probabilities", "discount"):
        np.testing.assert_array_equal(getattr(ours, part), getattr(published, part))


@pytest.mark.parametrize("zones", SIZES)
def test_equal_noises_are_the_published_grid_whatever_the_zones(zones: int) -> None:
    np.testing.assert_array_equal(
        ZonedGridworld(zones).cmdp(np.full(zones, 0.3)).dense, NoisyGridworld().cmdp(0.3).dense
    )


@pytest.mark.parametrize("zones", SIZES)
def test_every_state_slips_with_the_noise_of_its_zone(zones: int) -> None:
    family = ZonedGridworld(zones)
    noises = family.sample(1, np.random.default_rng(3))[0]
    dense = family.cmdp(noises).dense
    for state in range(49):
        alone = NoisyGridworld().cmdp(noises[family.zone_of_state[state]]).dense
        np.testing.assert_array_equal(dense[state], alone[state])


def test_kernels_are_linear_in_the_noises() -> None:
    family = ZonedGridworld(7)
    first, second = family.sample(2, np.random.default_rng(0))
    between = family.cmdp(0.25 * first + 0.75 * second).dense
    np.testing.assert_allclose(between, 0.25 * family.cmdp(first).dense + 0.75 * family.cmdp(second).dense, atol=1e-15)


@pytest.mark.parametrize("zones", [1, 2, 3, 4, 5, 6, 7])
def test_up_to_seven_zones_are_columns(zones: int) -> None:
    of_state = ZonedGridworld(zones).zone_of_state.reshape(7, 7)
    assert (of_state == np.arange(7) % zones).all()


@pytest.mark.parametrize("zones", [8, 15, 30, 49])
def test_above_seven_the_map_is_scattered_and_no_zone_is_empty(zones: int) -> None:
    sizes = np.bincount(ZonedGridworld(zones).zone_of_state, minlength=zones)
    assert (sizes.size, sizes.sum()) == (zones, 49)
    assert 49 // zones <= sizes.min() <= sizes.max() <= -(-49 // zones)


def test_the_map_is_part_of_the_definition() -> None:
    assert ZonedGridworld(15).zone_of_state.tolist() == MAP_OF_15


@pytest.mark.parametrize("zones", SIZES)
def test_noises_fill_their_support(zones: int) -> None:
    family = ZonedGridworld(zones)
    sample = family.sample(400, np.random.default_rng(1))
    assert family.support.tolist() == [[0.2, 0.38]] * zones
    assert len(family.parameter_names) == zones
    assert (sample.min(), sample.max()) == (pytest.approx(0.2, abs=1e-2), pytest.approx(0.38, abs=1e-2))
    np.testing.assert_allclose(sample.mean(axis=0), 0.29, atol=5.0 * 0.18 / np.sqrt(12 * 400))


def robust_cost(policy: FloatArray, low: float, high: float) -> float:
    """What a policy costs against an adversary who sets the noise of a state at every visit, by value iteration."""
    still, shaken = NoisyGridworld().cmdp(low), NoisyGridworld().cmdp(high)
    ends = [np.einsum("sa,sat->st", policy, task.dense) for task in (still, shaken)]
    step, value = (policy * still.costs[0]).sum(axis=1), np.zeros(49)
    for _ in range(400):
        value = step + 0.9 * np.maximum(ends[0] @ value, ends[1] @ value)
    return float(still.start @ value)


def test_the_safe_policy_keeps_its_margin_whatever_the_zones() -> None:
    family = ZonedGridworld(7)
    policy = family.safe_policy()
    np.testing.assert_array_equal(policy, NoisyGridworld().safe_policy())
    worst = robust_cost(policy, 0.2, 0.38)
    assert 1.36 < worst < 1.37
    assert robust_cost(policy, 0.4, 0.4) == pytest.approx(1.5, abs=1e-6)
    for corner in product(*family.support):
        assert float(evaluate(family.cmdp(corner), policy).costs[0]) <= worst + 1e-9


def test_the_catalogue_names_it_by_the_number_of_zones() -> None:
    family = make_family("zoned-gridworld:15")
    assert family == ZonedGridworld(15)
    assert isinstance(family, TabularFamily)


@pytest.mark.parametrize("name", ["zoned-gridworld", "zoned-gridworld:", "zoned-gridworld:four", "zoned-gridworld:-1"])
def test_a_name_without_a_number_is_refused(name: str) -> None:
    with refused("SF-ARGUMENT-CHOICE", "family", "zoned-gridworld:N", repr(name)):
        make_family(name)


@pytest.mark.parametrize("zones", [0, 50])
def test_there_are_as_many_zones_as_states_at_most(zones: int) -> None:
    with refused("SF-ARGUMENT-RANGE", "zones", str(zones)):
        ZonedGridworld(zones)
    with refused("SF-ARGUMENT-RANGE", "zones", str(zones)):
        make_family(f"zoned-gridworld:{zones}")


def test_noises_that_are_none_are_refused() -> None:
    family = ZonedGridworld(2)
    with refused("SF-ARGUMENT-RANGE", "noise 2", "1.5"):
        family.cmdp([0.3, 1.5])
    with refused("SF-ARGUMENT-SHAPE", "parameters", "(3,)"):
        family.cmdp([0.3, 0.3, 0.3])
