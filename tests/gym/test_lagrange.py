"""Multipliers: where they rise, where they fall; intervals and verdict of a trainer's report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surefoot.criterion import Criterion
from surefoot.gym.lagrange import Multipliers, evaluate_trained, interval, step_costs
from tests.gym.press import press
from tests.gym.toys import Coins, coins
from tests.refusals import refused

CRITERION = Criterion(0.9, np.array([2.0, 4.0]), (-1.0, 1.0), np.array([1.0, 0.5]), 10)
SUPPORT = np.array([[0.0, 2.0]])


def test_quadratic_features() -> None:
    start = Multipliers.start(CRITERION, SUPPORT, None, 1.0, 0.1)
    np.testing.assert_allclose(start.features([[0.0], [1.0], [1.5]]), [[1, -1, 1], [1, 0, 0], [1, 0.5, 0.25]])
    # theta .1 times (r_max - r_min) / c_max
    np.testing.assert_allclose(start.at([[0.3]]), [[0.2, 0.4]])


def test_they_rise_where_the_limit_is_exceeded_and_fall_elsewhere() -> None:
    current = Multipliers.start(CRITERION, SUPPORT, None, 1.0, 0.5)
    tasks = np.array([[0.0], [1.0], [2.0]])
    costs = np.array([[1.0, 4.0], [2.0, 4.0], [4.0, 4.0]])
    for _ in range(20):
        current = current.ascend(tasks, costs)
    cheap, _, dear = current.at(tasks)
    assert cheap[0] == 0.0
    assert dear[0] > 2.0
    # The second constraint is met exactly everywhere and nothing moves.
    np.testing.assert_allclose(current.at(tasks)[:, 1], 0.4)


def test_a_list_has_a_multiplier_for_each_task() -> None:
    tasks = np.array([[0.0], [2.0]])
    current = Multipliers.start(CRITERION, SUPPORT, tasks, 0.5, 0.5)
    np.testing.assert_allclose(current.limits, [1.0, 2.0])
    for _ in range(5):
        current = current.ascend(tasks, np.array([[0.5, 2.0], [1.5, 2.0]]))
    at = current.at([[0.1], [1.9]])[:, 0]
    assert at[0] == 0.0
    assert at[1] > 0.2


def test_an_infeasible_limit_does_not_drive_them_to_infinity() -> None:
    current = Multipliers.start(CRITERION, SUPPORT, None, 1.0, 5.0)
    for _ in range(100):
        current = current.ascend([[1.0]], np.array([[1e6, 1e6]]))
    np.testing.assert_allclose(current.at([[1.0]]), [[20.0, 40.0]])


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_a_share_is_a_part_of_the_limit(share: float) -> None:
    with refused("SF-ARGUMENT-RANGE", "share", "(0, 1]"):
        Multipliers.start(CRITERION, SUPPORT, None, share, 0.1)


def test_a_limit_of_zero_cannot_be_trained_below() -> None:
    with refused("SF-ARGUMENT-RANGE", "cost_limits", "0"):
        Multipliers.start(replace(CRITERION, cost_limits=np.array([0.0, 1.0])), SUPPORT, None, 1.0, 0.1)


def test_an_infinite_support_still_has_features() -> None:
    start = Multipliers.start(CRITERION, np.array([[-np.inf, np.inf], [1.0, 1.0]]), None, 1.0, 0.1)
    assert np.isfinite(start.features([[0.5, 1.0], [1e9, 1.0]])).all()


def test_intervals_hold_at_their_level() -> None:
    rng = np.random.default_rng(0)
    misses = 0
    for _ in range(80):
        lower, _, upper = interval(-3.0 + 4.0 * rng.beta(2.0, 5.0, size=60), -3.0, 1.0)
        misses += not lower <= -3.0 + 4.0 * 2.0 / 7.0 <= upper
    # Level .05: more than 13 misses of 80 have probability below 1e-4.
    assert misses <= 13


@pytest.mark.parametrize(
    ("effort", "met", "verdict"),
    [(0.3, True, "limit met"), (0.44, False, "limit not shown to be met"), (0.6, False, "limit EXCEEDED")],
)
def test_the_report_says_whether_the_limit_was_met(effort: float, met: bool, verdict: str) -> None:
    report = evaluate_trained(
        press(), lambda observation: np.array([effort]), np.array([[0.5], [1.0]]), episodes=200, seed=1
    )
    assert report.met_limit is met
    assert report.reward.shape == (2, 3)
    assert report.costs.shape == (2, 1, 3)
    assert report.reward[0, 1] == pytest.approx(10 * effort)
    assert report.costs[1, 0, 0] <= 10 * effort**2 <= report.costs[1, 0, 2]
    assert verdict in str(report)
    assert "task [0.5]" in str(report)


def test_costs_come_from_where_rollouts_take_them() -> None:
    class Six(Coins):
        def step(self, action: Any) -> Any:
            after, reward, terminated, truncated, _ = super().step(action)
            return after, reward, 0.25, terminated, truncated, {}

    class Silent(Coins):
        def step(self, action: Any) -> Any:
            return *super().step(action)[:4], {"other": 1}

    def cost_in(family: Any, env: Any) -> float:
        env.reset(seed=0)
        return float(step_costs(family, env, np.zeros(2), np.array([0.5]))[2][0])

    assert cost_in(coins(), Six(0.5)) == 0.25
    assert cost_in(coins(cost=lambda o, a, n, i: 0.75), Six(0.5)) == 0.75
    assert cost_in(coins(cost=lambda o, a, n, i: 0.75), Coins(0.5)) == 0.75
    with refused("SF-SIMULATION-COST", "coins", '"cost"'):
        cost_in(coins(), Silent(0.5))
