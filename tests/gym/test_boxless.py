"""Simulated training without boxes: one cell of intervals as wide as they come, and a belief."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.controllers import LinearPolicy
from surefoot.gym.pipeline import train_simulated
from surefoot.policyset.file import load
from tests.gym.toys import MEAN_COIN, coins, exact, shared_coins
from tests.refusals import refused

pytestmark = pytest.mark.slow

ACTIONS = (0.1, 0.4, 0.7)


def library(*actions: float) -> list[LinearPolicy]:
    return [LinearPolicy(np.zeros((1, 2)), np.array([action]), 0.0, 1.0) for action in actions]


QUICK: dict[str, Any] = {"tasks": 40, "holdout": 0, "cells": None, "max_episodes": 12, "progress": False}


def trained(family: Any = None, actions: tuple[float, ...] = ACTIONS, **changes: Any) -> sf.PolicySet:
    return train_simulated(coins() if family is None else family, library(*actions), **{**QUICK, **changes})


@cache
def few() -> sf.PolicySet:
    return trained(coins(signals=(MEAN_COIN,)))


def test_few_episodes_make_one_cell_that_holds_every_task() -> None:
    found = few()
    assert len(found.cells) == 1
    p = found.cells.predictions
    for gain in np.linspace(0.2, 1.0, 9):
        for j, action in enumerate(ACTIONS):
            reward, cost = exact(gain, action)
            assert p.reward_lower[0, j] <= reward <= p.reward_upper[0, j]
            assert p.cost_lower[0, j, 0] <= cost <= p.cost_upper[0, j, 0]


def test_a_margin_that_is_not_shown_is_the_users_assumption(tmp_path: Any) -> None:
    found = few()
    assert found.safe_margin <= 0.0 and not found.assumption.holds and not found.assumption.offenders
    assert "is an assumption of whoever uses this policy set" in found.assumption.statement
    with refused("SF-ASSUMPTION-MARGIN", "state a margin"):
        sf.CertifiedAgent(found, trust="data")
    sf.CertifiedAgent(found, trust="data", margin=0.5)
    stated = trained(margin=0.5)
    assert stated.safe_margin == 0.5 and not stated.assumption.holds
    assert "a margin of 0.5 in every task: that it does is an assumption" in stated.assumption.statement
    found.save(tmp_path / "set.sf")
    assert load(tmp_path / "set.sf").hash == found.hash


def test_a_margin_that_is_shown_is_said_to_be() -> None:
    found = trained(actions=(0.0, 0.7), max_episodes=150, tasks=8)
    assert found.assumption.holds and found.safe_margin > 0.0
    assert "was shown to keep one" in found.assumption.statement


def test_a_safe_policy_that_surely_breaks_the_limit_is_refused() -> None:
    # It costs 1.72 where the limit is 1.2; intervals of 150 episodes are narrower than that.
    with refused("SF-ASSUMPTION-INFEASIBLE", "may exceed the limit"):
        trained(actions=(1.0, 0.4), max_episodes=150, tasks=8)


@pytest.mark.parametrize("family", [coins, shared_coins])
def test_the_belief_knows_returns_move_with_the_gain(family: Any) -> None:
    """``V_r = h (.3 + .4 g a)``: deviations over tasks are as 1 : 4 : 7; costs are the same in every task."""
    found = trained(family(), tasks=80, max_episodes=25)
    assert set(found.beliefs) == {"all", "returns"}
    belief = found.beliefs["returns"]
    assert belief.tasks == 80
    values = np.array([exact(0.6, action) for action in ACTIONS])
    np.testing.assert_allclose(belief.value_center, values, atol=0.06)
    # Gains are uniform on [.2, 1]: deviation .8 / sqrt(12), and noise would add as much again.
    truth = (exact(1.0, 0.7)[0] - exact(0.0, 0.7)[0]) * 0.8 / np.sqrt(12.0)
    spread = np.sqrt((belief.value_slope[2, 0] ** 2).sum() + belief.value_residual[2, 0] ** 2)
    assert 0.7 * truth < spread < 1.3 * truth


def test_the_hold_out_judges_the_one_cell() -> None:
    found = trained(margin=0.5, holdout=30)
    assert found.certificate is not None and found.certificate.holdout == 30
    # Nothing shows the stated margin in so few episodes, and what is not shown counts as a failure.
    assert found.certificate.margin_failures == 30 == found.certificate.uncovered
    assert len(found.beliefs) == 2
    with refused("SF-ASSUMPTION-COVERAGE"):
        sf.CertifiedAgent(found, trust="cells")


def test_what_a_belief_needs_is_asked_for() -> None:
    with refused("SF-ARGUMENT-RANGE", "tasks"):
        trained(tasks=7)
    with refused("SF-ARGUMENT-RANGE", "max_episodes"):
        trained(max_episodes=1)
