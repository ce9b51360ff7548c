"""How long data bounds take to start: against the bounds themselves, and what a smaller ceiling buys."""

from __future__ import annotations

import numpy as np
import pytest

from surefoot.deploy.bounds import ProductRegion
from surefoot.stats.start_up import LONGEST, ceiling_advice, start_up
from tests.refusals import refused


def played(ceiling: float, limit: float, safe: float, delta: float) -> float:
    """Expected episodes until the region allows one half, with a target that costs nothing and a safe policy whose cost is known."""
    start = np.array([[safe], [ceiling]])
    one = ProductRegion(start, np.array([ceiling]), np.array([limit]), delta)
    one.select(0, 0)
    one.select(1, 0)
    waited, k = 0.0, 0
    while True:
        rows = one.rows[:, :, 0]
        weight = float(((limit - rows[:, 0]) / np.maximum(rows[:, 1] - rows[:, 0], 1e-12)).min())
        if weight >= 0.5:
            return waited
        waited += 1.0 / weight
        one.asked(np.array([k]), np.array([1]))
        one.told(np.array([k]), np.array([1]), np.zeros((1, 1)))
        k += 1


@pytest.mark.parametrize("ceiling", [100.0, 20.0])
def test_it_is_what_the_region_needs(ceiling: float) -> None:
    said, needed = start_up(ceiling, 1.5, 1.0, 0.05), played(ceiling, 1.5, 1.0, 0.05)
    assert said <= needed <= 1.35 * said


def test_it_grows_with_the_ceiling_and_the_confidence_and_falls_with_the_room() -> None:
    base = start_up(100.0, 1.5, 1.0, 0.05)
    assert 1.9 * start_up(50.0, 1.5, 1.0, 0.05) < base < start_up(100.0, 1.5, 1.0, 0.01)
    assert start_up(100.0, 1.5, 0.5, 0.05) < base < start_up(100.0, 1.5, 1.4, 0.05)
    assert start_up(1.5, 1.5, 1.0, 0.05) == 0
    assert start_up(1e12, 1.5, 1.0, 0.05) == LONGEST


def test_the_advice_names_the_constraint_that_takes_longest() -> None:
    text = ceiling_advice([100.0, 5.0], [1.5, 1.0], [1.0, 0.5], 0.05)
    assert text is not None and "(100)" in text and "at most 50" in text
    assert f"about {start_up(100.0, 1.5, 1.0, 0.025)} episodes" in text
    assert f"about {start_up(50.0, 1.5, 1.0, 0.025)} if" in text


def test_where_ceilings_decide_nothing_nothing_is_said() -> None:
    assert ceiling_advice([1.6], [1.5], [0.5], 0.05) is None
    assert ceiling_advice([10.0], [1.5], [1.5], 0.05) is None
    assert ceiling_advice([], [], [], 0.05) is None


def test_refusals() -> None:
    with refused("SF-ARGUMENT-ORDER", "safe_cost", "1.5"):
        start_up(10.0, 1.5, 1.5, 0.05)
    with refused("SF-ARGUMENT-RANGE", "ceiling", "0"):
        start_up(0.0, 1.5, 1.0, 0.05)
