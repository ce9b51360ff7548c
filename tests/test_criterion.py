"""The criterion: ranges of an episode, the bridge to the paper's units, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot import Criterion
from tests.refusals import refused


def make(**changes: Any) -> Criterion:
    fields = {"discount": 0.9, "cost_limits": [1.5], "reward_bounds": (-1.0, 3.0), "cost_bounds": [10.0]}
    return Criterion(**(fields | changes))


def test_ranges_without_a_horizon() -> None:
    criterion = make()
    assert criterion.effective_horizon == pytest.approx(10.0)
    assert criterion.return_range == pytest.approx((-10.0, 30.0))
    np.testing.assert_allclose(criterion.cost_ceilings, [100.0])
    assert not criterion.cost_ceilings.flags.writeable


@given(st.floats(0.01, 1.0), st.integers(1, 60))
def test_a_finite_horizon_sums_its_discounts(discount: float, horizon: int) -> None:
    criterion = make(discount=discount, horizon=horizon)
    assert criterion.effective_horizon == pytest.approx(sum(discount**t for t in range(horizon)), rel=1e-9)


def test_slack_is_in_the_papers_units() -> None:
    """``c' = ((1-gamma) d - c) / c_max`` summed over an episode is ``(d - V_c)/c_max``."""
    criterion = make(cost_limits=[1.5, 4.0], cost_bounds=[10.0, 2.0])
    costs = np.array([0.4, 6.0])
    steps = np.array([[0.4, 6.0]]) * (1 - 0.9)  # the same cost every step
    signal = ((1 - 0.9) * criterion.cost_limits - steps) / criterion.cost_bounds
    np.testing.assert_allclose(criterion.slack(costs), (signal / (1 - 0.9))[0])
    assert criterion.slack(np.zeros((5, 2))).shape == (5, 2)


def test_names_default_to_something_readable() -> None:
    assert make().cost_names == ("cost",)
    assert make(cost_limits=[1.0, 2.0], cost_bounds=[1.0, 1.0]).cost_names == ("cost 0", "cost 1")
    assert make(cost_names=("energy",)).as_dict()["cost_names"] == ["energy"]


def test_plain_values_rebuild_it() -> None:
    criterion = make(horizon=7, discount=1.0)
    twin = Criterion(**criterion.as_dict())
    assert twin.as_dict() == criterion.as_dict()
    assert twin.n_constraints == 1


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"discount": 1.0}, ("SF-ARGUMENT-RANGE", "discount", "(0, 1)", "1")),
        ({"discount": 0.0}, ("SF-ARGUMENT-RANGE", "discount", "(0, 1)", "0")),
        ({"discount": 1.1, "horizon": 5}, ("SF-ARGUMENT-RANGE", "discount", "(0, 1]", "1.1")),
        ({"horizon": 0}, ("SF-ARGUMENT-RANGE", "horizon", "1", "0")),
        ({"horizon": 2.5}, ("SF-ARGUMENT-TYPE", "horizon", "1", "2.5")),
        ({"cost_limits": [-1.0]}, ("SF-ARGUMENT-RANGE", "cost_limits[0]", "0", "-1")),
        ({"cost_bounds": [0.0]}, ("SF-ARGUMENT-RANGE", "cost_bounds[0]", "0", "0")),
        ({"cost_bounds": [1.0, 2.0]}, ("SF-ARGUMENT-SHAPE", "cost_bounds", "(1)", "(2,)")),
        ({"cost_limits": [np.nan]}, ("SF-ARGUMENT-FINITE", "cost_limits[0]", "nan")),
        (
            {"reward_bounds": (1.0, 1.0)},
            ("SF-ARGUMENT-ORDER", "reward_bounds", "(1, 1)"),
        ),
        ({"reward_bounds": (2.0, 1.0)}, ("SF-ARGUMENT-ORDER", "reward_bounds", "(2, 1)")),
        ({"reward_bounds": (-np.inf, 1.0)}, ("SF-ARGUMENT-RANGE", "reward_bounds", "-inf")),
        ({"cost_names": ("a", "b")}, ("SF-ARGUMENT-LENGTH", "cost_names", "1", "2")),
    ],
)
def test_criteria_that_break_a_rule_are_refused(changes: dict[str, Any], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        make(**changes)


@pytest.mark.parametrize("bounds", [(0.0, np.inf), (0.0, np.nan)])
def test_an_unbounded_reward_is_refused(bounds: tuple[float, float]) -> None:
    with refused("SF-ARGUMENT-RANGE", "reward_bounds"):
        make(reward_bounds=bounds)


def test_numbers_of_single_precision_are_stored_in_double() -> None:
    made = make(discount=np.float32(0.9), horizon=np.int32(20), reward_bounds=(np.float32(0.0), np.float32(1.5)))
    assert [type(x) for x in (made.discount, made.horizon, made.effective_horizon)] == [float, int, float]
    assert [type(x) for x in made.reward_bounds] == [float, float]
