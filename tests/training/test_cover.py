"""Greedy covers and Subroutine 3, with the two errors of the published code held off: old tasks reused, N counted but not drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.arrays import FloatArray
from surefoot.training import CMDPDistance, ParameterDistance, ValueDistance, subroutine3
from surefoot.training import cover as covers
from surefoot.training.cover import (
    acceptance,
    greedy_cover,
    initial_sample,
    proved_level,
    sized_cover,
    spread_cover,
    task_distances,
)
from tests.refusals import refused
from tests.training.families import Arm, Blend, Spy

seeds = st.integers(0, 2**32)


def cloud(seed: int, n: int = 60) -> FloatArray:
    points = np.random.default_rng(seed).random((n, 2))
    return np.abs(points[:, None] - points[None]).max(axis=2)


@given(seeds, st.floats(0.01, 1.0), st.floats(0.0, 20.0))
def test_greedy_covers_all_but_what_is_allowed_and_stops_there(seed: int, radius: float, allowed: float) -> None:
    distances = cloud(seed)
    cover = greedy_cover(distances, radius, allowed)
    left = (distances[:, cover.centers].min(axis=1, initial=np.inf) > radius).sum()
    assert left == cover.uncovered <= allowed
    one_less = distances[:, cover.centers[:-1]].min(axis=1, initial=np.inf) > radius
    assert one_less.sum() > allowed
    np.testing.assert_array_equal(cover.to_centers, distances[:, cover.centers])


@given(seeds, st.floats(0.05, 0.5))
def test_every_choice_covers_most_of_what_is_left_and_ties_go_to_the_smallest_index(seed: int, radius: float) -> None:
    distances = np.round(cloud(seed), 1)
    left = np.ones(len(distances), dtype=bool)
    for center in greedy_cover(distances, radius).centers:
        gains = [int((left & (distances[:, k] <= radius)).sum()) for k in range(len(distances))]
        assert center == gains.index(max(gains))
        left &= distances[:, center] > radius
    assert not left.any()


def test_three_clusters_need_three_centers() -> None:
    points = np.array([0.0, 0.01, 0.02, 5.0, 5.01, 9.0])
    cover = greedy_cover(np.abs(points[:, None] - points), 0.02)
    assert cover.centers.tolist() == [0, 3, 5]
    assert greedy_cover(np.abs(points[:, None] - points), 0.02, allowed_uncovered=1).centers.tolist() == [0, 3]


@given(seeds, st.integers(1, 70))
def test_a_sized_cover_covers_everything_within_the_size(seed: int, size: int) -> None:
    distances = cloud(seed)
    cover = sized_cover(distances, size)
    assert 1 <= len(cover.centers) <= size
    assert cover.uncovered == 0
    assert cover.to_centers.min(axis=1).max() <= cover.radius


@given(seeds, st.integers(1, 70))
def test_farthest_points_cover_everything_within_twice_the_best_radius(seed: int, size: int) -> None:
    distances = cloud(seed)
    cover = spread_cover(lambda m: distances[:, m], np.arange(60), size)
    assert 1 <= len(cover.centers) == len(set(cover.centers.tolist())) <= size
    np.testing.assert_array_equal(cover.to_centers, distances[:, cover.centers])
    assert cover.uncovered == 0
    assert cover.radius == cover.to_centers.min(axis=1).max()
    # The greedy cover's radius is at least the best one's, up to the bisection's step.
    assert cover.radius <= 2.0 * sized_cover(distances, size).radius
    if len(cover.centers) > 1:
        apart = distances[np.ix_(cover.centers, cover.centers)] + np.diag(np.full(len(cover.centers), np.inf))
        assert apart.min() >= cover.radius, "no centre lies closer to another than the radius"


@given(seeds, st.floats(0.05, 0.5))
def test_farthest_points_stop_at_the_radius(seed: int, radius: float) -> None:
    distances = cloud(seed)
    cover = spread_cover(lambda m: distances[:, m], np.arange(60), None, radius)
    assert cover.radius == radius and cover.uncovered == 0
    assert distances[:, cover.centers[:-1]].min(axis=1, initial=np.inf).max() > radius


def test_the_first_of_farthest_points_is_the_middle() -> None:
    points = np.array([0.0, 1.0, 2.1, 3.0, 4.0])
    columns = lambda m: np.abs(points - points[m])  # noqa: E731
    assert spread_cover(columns, np.arange(5), 1).centers.tolist() == [2]
    assert spread_cover(columns, np.array([3, 4]), 2).centers.tolist() == [0, 1]


def test_above_a_size_no_matrix_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    family, oracle = Arm(), CMDPDistance()
    tasks = family.sample(30, np.random.default_rng(0))
    few = task_distances(family, oracle, tasks)
    assert few.matrix is not None
    monkeypatch.setattr(covers, "MATRIX_TASKS", 29)
    many = task_distances(family, oracle, tasks)
    assert many.matrix is None
    for k in range(30):
        np.testing.assert_array_equal(many.columns(k), few.matrix[:, k])  # type: ignore[misc]
    kept = np.arange(1, 30, 3)
    np.testing.assert_array_equal(
        many.subset(kept).sized(4).to_centers,
        few.matrix[np.ix_(kept, kept)][:, many.subset(kept).sized(4).centers],
    )
    assert many.within(0.05).uncovered == 0

    class Own:
        name = "own"

        def distances(self, family: Any, first: FloatArray, second: FloatArray) -> FloatArray:
            return ParameterDistance().distances(family, first, second)

    assert task_distances(family, Own(), tasks).matrix is not None, "an oracle without columns is asked for the matrix"


@pytest.mark.parametrize("oracle", [CMDPDistance(), ParameterDistance(), ValueDistance(np.full((2, 3, 2), 0.5))])
def test_columns_are_those_of_the_matrix(oracle: Any) -> None:
    family = Blend(1)
    tasks = family.sample(7, np.random.default_rng(0))
    matrix, columns = oracle.distances(family, tasks, tasks), oracle.columns(family, tasks)
    for k in range(7):
        np.testing.assert_allclose(columns(k), matrix[:, k], atol=1e-15)


def test_more_centers_give_a_smaller_radius() -> None:
    radii = [sized_cover(cloud(3), size).radius for size in (1, 3, 10, 30)]
    assert radii == sorted(radii, reverse=True)
    assert radii[-1] < 0.3 * radii[0]


def test_identical_tasks_need_one_center() -> None:
    cover = sized_cover(np.zeros((5, 5)), 3)
    assert (cover.centers.tolist(), cover.radius) == ([0], 0.0)


@pytest.mark.parametrize(("delta", "size"), [(0.1, 531), (0.5, 2), (0.05, 3590)])
def test_the_first_sample_has_the_papers_size(delta: float, size: int) -> None:
    """``ln(delta)^2 / delta^2``, not the published code's ``ln(1/delta)/delta^2`` (230 at .1)."""
    assert initial_sample(delta) == size


def test_the_acceptance_test_is_the_papers() -> None:
    assert acceptance(531, 7, 0.1) == pytest.approx(math.sqrt(7 * math.log(2 * 531 / 0.1) / (531 - 7)))
    assert acceptance(7, 7, 0.1) == math.inf
    assert acceptance(1000, 8, 0.1) > acceptance(1000, 7, 0.1) > acceptance(2000, 7, 0.1)


@given(st.integers(2, 10_000), st.integers(1, 400), st.integers(0, 300))
def test_the_proved_level_is_the_smallest_that_would_be_accepted(n: int, centers: int, uncovered: int) -> None:
    level = proved_level(n, centers, min(uncovered, n))

    def accepted(delta: float) -> bool:
        return acceptance(n, centers, delta) <= delta and min(uncovered, n) <= 3 * delta * n

    if centers >= n or not accepted(1.0):
        assert level == 1.0
    else:
        assert accepted(level * (1 + 1e-9))
        assert not accepted(level * (1 - 1e-6))


class Atoms:
    """Three equally likely positions; the second column numbers the tasks that were ever drawn."""

    def __init__(self) -> None:
        self.drawn = 0

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        numbers = np.arange(self.drawn, self.drawn + n, dtype=float)
        self.drawn += n
        return np.column_stack([rng.integers(0, 3, n).astype(float), numbers])


class Position:
    """Distance in the first column only."""

    name = "position"

    def distances(self, family: Any, first: FloatArray, second: FloatArray) -> FloatArray:
        result: FloatArray = np.abs(first[:, None, 0] - second[None, :, 0])
        return result


def test_every_round_draws_all_its_tasks_anew_and_twice_as_many() -> None:
    spy: Any = Spy(Atoms())  # type: ignore[arg-type]
    tasks, distances, cover, rounds = subroutine3(spy, Position(), radius=0.5, delta=0.3, rng=np.random.default_rng(0))
    assert [len(s) for s in spy.samples] == [17, 34, 68, 136]
    assert rounds == 4
    np.testing.assert_array_equal(tasks, spy.samples[-1])
    assert tasks[:, 1].min() == 17 + 34 + 68, "no task of an earlier round is used again"
    assert distances.shape == (136, 136)
    assert acceptance(136, len(cover.centers), 0.3) <= 0.3
    assert cover.uncovered <= 3 * 0.3 * 136
    assert acceptance(68, 1, 0.3) > 0.3, "the round before had to be refused"


def test_rounds_see_independent_tasks() -> None:
    spy: Any = Spy(Arm())
    subroutine3(spy, ParameterDistance(), radius=0.3, delta=0.3, rng=np.random.default_rng(0))
    together = np.concatenate(spy.samples)[:, 0]
    assert len(spy.samples) > 1
    assert np.unique(together).size == together.size


def test_the_smallest_cover_is_proved_and_a_sample_too_small_is_refused() -> None:
    with refused("SF-TRAINING-COVER", "0.3", "1e-06", "100"):
        subroutine3(Arm(), ParameterDistance(), radius=1e-6, delta=0.3, rng=np.random.default_rng(0), max_tasks=100)


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"radius": 0.0}, ("SF-ARGUMENT-RANGE", "radius", "(0, inf]", "0")),
        ({"delta": 1.0}, ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "1")),
        ({"max_tasks": 0}, ("SF-ARGUMENT-RANGE", "max_tasks", "1", "0")),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], refusal: tuple[str, ...]) -> None:
    arguments = {"radius": 0.1, "delta": 0.3, "rng": np.random.default_rng(0)} | options
    with refused(*refusal):
        subroutine3(Arm(), ParameterDistance(), **arguments)
