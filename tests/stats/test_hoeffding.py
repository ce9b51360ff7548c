"""The Safe-PCE schedule against its closed form, its limit and worked numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot.stats import hoeffding
from tests.refusals import refused

DISCOUNTS = st.floats(0.05, 0.99)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """``(safe_slack, eps, lipschitz, discount)`` that meet P's requirement ``(8L + 18) eps <= v_s``."""
    discount = draw(DISCOUNTS)
    slack = draw(st.floats(0.001, 1.0)) / (1.0 - discount)  # in P's units a slack is at most the horizon
    constant = hoeffding.lipschitz(discount, 1.0)
    return slack, draw(st.floats(1e-6, 1.0)) * slack / (8 * constant + 18), constant, discount


@settings(max_examples=200, deadline=None)
@given(schedules(), st.integers(1, 60))
def test_recursion_equals_the_closed_form(schedule: tuple[float, float, float, float], level: int) -> None:
    slack, eps, constant, discount = schedule
    first = weight = hoeffding.first_weight(slack, eps, constant, discount)
    for _ in range(level - 1):
        weight = hoeffding.next_weight(weight, slack, eps, constant)
    closed = hoeffding.weight_closed_form(level, first, slack, eps, constant)
    assert abs(weight - closed) <= 1e-12


@settings(max_examples=100, deadline=None)
@given(schedules(), st.integers(1, 40))
def test_closed_form_is_the_formula_of_the_paper(schedule: tuple[float, float, float, float], m: int) -> None:
    slack, eps, constant, discount = schedule
    first = hoeffding.first_weight(slack, eps, constant, discount)
    e, ratio = (4 * constant + 9) * eps, hoeffding.growth(slack, eps, constant)
    paper = (slack - e) * first / (slack * first + (slack - e - slack * first) * ratio**m)
    assert hoeffding.weight_closed_form(m + 1, first, slack, eps, constant) == pytest.approx(paper, rel=1e-10)


@settings(max_examples=100, deadline=None)
@given(schedules())
def test_weights_rise_to_their_limit_and_never_above(schedule: tuple[float, float, float, float]) -> None:
    slack, eps, constant, discount = schedule
    limit = 1 - (4 * constant + 9) * eps / slack
    first = hoeffding.first_weight(slack, eps, constant, discount)
    weights = [hoeffding.weight_closed_form(m, first, slack, eps, constant) for m in range(1, 400)]
    assert 0 < first < limit
    assert all(a <= b * (1 + 1e-14) for a, b in pairwise(weights))
    assert weights[0] < weights[1]
    assert weights[-1] == pytest.approx(limit, rel=1e-9)


def test_growth_of_one_is_the_limit_of_its_neighbours() -> None:
    slack = 1.0
    weights = [hoeffding.weight_closed_form(5, 0.3, slack, e / 9.0, 0.0) for e in (1 - 1e-9, 1.0, 1 + 1e-9)]
    assert hoeffding.growth(slack, 1.0 / 9.0, 0.0) == pytest.approx(1.0)
    assert weights[0] == pytest.approx(weights[1], rel=1e-7) == pytest.approx(weights[2], rel=1e-7)


@settings(max_examples=100, deadline=None)
@given(schedules(), st.floats(2.01, 1e4))
def test_a_cover_twice_too_wide_has_no_first_weight(schedule: tuple[float, float, float, float], factor: float) -> None:
    """``t`` turns negative at ``(2L+4) eps = v_s``, past the pole as well, and long after P's requirement failed."""
    slack, _, constant, discount = schedule
    eps = factor * slack / (4 * constant + 8)
    assert hoeffding.first_weight(slack, eps, constant, discount) < 0
    assert (8 * constant + 18) * eps > slack


def test_levels_stop_where_the_contraction_reaches_eps() -> None:
    slack, eps, constant = 1.0, 1e-4, 2.0
    ratio = hoeffding.growth(slack, eps, constant)
    level = hoeffding.last_level(slack, eps, constant)
    assert ratio ** (level + 1) < eps <= ratio**level
    assert ratio == pytest.approx((2 + 17e-4) / 3)
    assert hoeffding.last_level(slack, 0.5, 5.0) == 0


def test_worked_numbers() -> None:
    assert hoeffding.lipschitz(0.9, 1.0) == pytest.approx(20 + 90)
    assert hoeffding.log_term(40_000, 10, 1, 0.05) == pytest.approx(math.log(4 * 40_000 * 10 / 0.05))
    assert hoeffding.log_term(100, 1, 2, 0.1) == pytest.approx(math.log(2 * 3 * 100 / 0.1))
    assert hoeffding.elimination_radius(50, 0.9, 8.0) == pytest.approx(math.sqrt(16 / 50) * 10)
    assert hoeffding.elimination_radius(0, 0.9, 8.0) == math.inf
    assert hoeffding.model_error(0.01, 110.0) == pytest.approx(1.11)
    assert hoeffding.promotion_episodes(0.5, 0.9, 8.0) == pytest.approx(32 * 8 / (0.01 * 0.25))
    assert hoeffding.promotion_episodes(0.0, 0.9, 8.0) == math.inf
    assert hoeffding.promotion_episodes(-1.0, 0.9, 8.0) == math.inf
    assert hoeffding.first_weight(1.0, 0.0, 110.0, 0.9) == pytest.approx(1 / 21)
    assert hoeffding.first_weight(1.0, 0.1, 3.0, 0.5) == 0.0
    assert hoeffding.weight_closed_form(0, 0.3, 1.0, 0.0, 1.0) == 0.0
    assert hoeffding.next_weight(0.25, 1.0, 0.01, 4.0) == pytest.approx(0.75 / (2.25 + 0.25))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 50.0), DISCOUNTS, st.integers(1, 10**6))
def test_elimination_radius_is_hoeffdings_for_one_side(log_term: float, discount: float, n: int) -> None:
    """exp(-2 n r^2 (1-g)^2) <= exp(-Lambda): the radius leaves a factor of four in the exponent, as in the paper."""
    radius = hoeffding.elimination_radius(n, discount, log_term)
    assert 2 * n * (radius * (1 - discount)) ** 2 == pytest.approx(4 * log_term)


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda: hoeffding.lipschitz(1.0, 1.0), ("SF-ARGUMENT-RANGE", "discount", "(0, 1)", "1")),
        (lambda: hoeffding.lipschitz(0.9, -1.0), ("SF-ARGUMENT-RANGE", "width", "[0, inf]", "-1")),
        (lambda: hoeffding.log_term(0, 1, 1, 0.1), ("SF-ARGUMENT-RANGE", "episodes", "1", "0")),
        (lambda: hoeffding.log_term(1, 1, 1, 1.0), ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "1")),
        (lambda: hoeffding.elimination_radius(-1, 0.9, 1.0), ("SF-ARGUMENT-RANGE", "n", "0", "-1")),
        (lambda: hoeffding.next_weight(1.5, 1.0, 0.1, 1.0), ("SF-ARGUMENT-RANGE", "weight", "[0, 1]", "1.5")),
        (lambda: hoeffding.next_weight(0.5, 0.0, 0.1, 1.0), ("SF-AGENT-MARGIN", "safe_slack", "0", "0")),
        (lambda: hoeffding.growth(-1.0, 0.1, 1.0), ("SF-AGENT-MARGIN", "safe_slack", "0")),
        (lambda: hoeffding.last_level(1.0, 0.0, 1.0), ("SF-ARGUMENT-RANGE", "eps", "(0, 1)", "0")),
        (lambda: hoeffding.first_weight(float("nan"), 0.1, 1.0, 0.9), ("SF-ARGUMENT-RANGE", "safe_slack")),
    ],
)
def test_bad_arguments_are_named(call: object, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        call()  # type: ignore[operator]
