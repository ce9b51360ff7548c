"""Boxes of any quantities: hulls of intervals, widened inside a range, and the tasks they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.training.boxes import Boxes, corner_tasks, keeps_margin


@dataclass(frozen=True)
class Plain:
    """Three quantities in [0, 1]; the lower end of the last one does not count."""

    extra: float = 0.0
    shape: tuple[int, ...] = (3,)

    @property
    def upper_only(self) -> Any:
        return np.array([False, False, True])

    def slack(self, lower: Any, upper: Any) -> Any:
        return np.full(3, self.extra)

    def ranges(self, lower: Any, upper: Any) -> Any:
        return 0.0, 1.0


@given(st.integers(0, 2**32))
def test_a_box_is_the_hull_of_the_intervals_it_was_given(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.random((5, 3, 2)), axis=2)
    boxes = Boxes(2, Plain())
    for k, interval in enumerate(ends):
        boxes.include(k % 2, interval[:, 0], interval[:, 1])
    for cell in range(2):
        np.testing.assert_array_equal(boxes.lower[cell], ends[cell::2, :, 0].min(axis=0))
        np.testing.assert_array_equal(boxes.upper[cell], ends[cell::2, :, 1].max(axis=0))
    for k, interval in enumerate(ends):
        assert k % 2 in boxes.consistent(interval[:, 0], interval[:, 1]).tolist()


def test_a_task_is_held_only_with_all_its_intervals() -> None:
    boxes = Boxes(1, Plain())
    boxes.include(0, np.full(3, 0.4), np.full(3, 0.6))
    held = np.full(3, 0.45), np.full(3, 0.55)
    assert boxes.consistent(*held).tolist() == [0]
    for k in range(3):
        low, high = held[0].copy(), held[1].copy()
        low[k], high[k] = 0.39, 0.55
        assert boxes.consistent(low, high).tolist() == ([0] if k == 2 else [])
        low[k], high[k] = 0.45, 0.61
        assert boxes.consistent(low, high).size == 0


def test_widening_is_a_share_of_the_wider_of_own_and_mean_width_plus_slack_inside_the_range() -> None:
    boxes = Boxes(2, Plain(extra=0.01))
    boxes.include(0, np.array([0.2, 0.2, 0.0]), np.array([0.6, 0.6, 1.0]))
    boxes.include(1, np.array([0.4, 0.3, 0.5]), np.array([0.4, 0.3, 0.5]))
    boxes.inflate(0.1)
    np.testing.assert_allclose(boxes.lower[0], [0.2 - 0.05, 0.2 - 0.05, 0.0])
    np.testing.assert_allclose(boxes.upper[0], [0.6 + 0.05, 0.6 + 0.05, 1.0])
    np.testing.assert_allclose(boxes.lower[1], [0.4 - 0.03, 0.3 - 0.03, 0.5 - 0.06])


def test_exact_quantities_are_intervals_without_width_and_may_be_a_centre() -> None:
    boxes = Boxes(1, Plain())
    boxes.include(0, np.array([0.1, 0.2, 0.3]), center=True)
    boxes.include(0, np.array([0.2, 0.2, 0.2]))
    np.testing.assert_array_equal(boxes.center[0], [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(
        boxes.upper[0] - boxes.lower[0], np.array([0.2, 0.2, 0.3]) - np.array([0.1, 0.2, 0.2])
    )


@pytest.mark.parametrize(
    ("margin", "stated", "kept"), [(0.0, None, False), (1e-9, None, True), (0.2, 0.2, True), (0.19, 0.2, False)]
)
def test_some_margin_is_enough_where_none_was_stated(margin: float, stated: float | None, kept: bool) -> None:
    assert bool(keeps_margin(margin, stated)) is kept


def test_corners_are_all_ends_of_a_bounded_support() -> None:
    support = np.array([[0.0, 1.0], [2.0, 3.0]])
    assert corner_tasks(support, 2).tolist() == [[0.0, 2.0], [0.0, 3.0], [1.0, 2.0], [1.0, 3.0]]
    assert corner_tasks(support, 1).shape == (0, 2)
    assert corner_tasks(np.array([[0.0, np.inf]]), 3).shape == (0, 1)
