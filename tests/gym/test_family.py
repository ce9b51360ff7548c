"""Families: what their constructor and their sampler refuse."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from surefoot.criterion import Criterion
from surefoot.errors import InvalidInput
from surefoot.gym.family import Signal
from surefoot.policyset.schema import EpisodeBounds
from surefoot.tasks.family import TaskFamily
from tests.gym.toys import CRITERION, MEAN_COIN, WEIGHT, coin_of, coins, shared_coins


def test_a_family_is_a_task_family_and_draws_checked_parameters(rng: np.random.Generator) -> None:
    family = coins()
    drawn = family.sample(5, rng)
    assert isinstance(family, TaskFamily)
    assert drawn.shape == (5, 1) and not drawn.flags.writeable
    assert (family.horizon, family.n_parameters, family.n_constraints) == (4, 1, 1)


def test_ranges_come_from_the_criterion_or_from_declared_bounds() -> None:
    low, high = coins(signals=(MEAN_COIN,)).ranges()
    np.testing.assert_allclose([low, high], [[0, 0, 0], [WEIGHT, WEIGHT, 1]])
    low, high = coins(bounds=EpisodeBounds(0.5, 2.0, (3.0,))).ranges()
    np.testing.assert_allclose([low, high], [[0.5, 0], [2.0, 3.0]])


def test_only_families_with_common_rewards_share_episodes() -> None:
    assert shared_coins().shared and not coins().shared


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name must be a non-empty string"),
        ({"support": [[0.0, 1.0], [0.0, 1.0]]}, "support must have shape (1, 2)"),
        ({"support": [[1.0, 0.0]]}, "support[0] must be (low, high) with low <= high"),
        ({"support": [[np.nan, 0.0]]}, "support[0] must be (low, high) with low <= high"),
        ({"criterion": Criterion(0.9, [1.0], (0, 1), [1.0])}, "criterion.horizon must be given"),
        ({"make": None}, "make must be callable, got NoneType"),
        ({"sampler": 3}, "sampler must be callable, got int"),
        ({"cost": 3}, "cost must be callable, got int"),
        ({"rewards": "x"}, "rewards must be callable, got str"),
        ({"signals": (MEAN_COIN, MEAN_COIN)}, "signals must have names of their own"),
        ({"bounds": EpisodeBounds(0.0, 1.0, ())}, "bounds.cost_ceilings must hold 1 entries, got 0"),
        ({"bounds": EpisodeBounds(-1.0, 1.0, (1.0,))}, "bounds must lie inside what the criterion implies"),
        ({"bounds": EpisodeBounds(0.0, 1.0, (9.0,))}, "bounds must lie inside what the criterion implies"),
        ({"bounds": EpisodeBounds(1.0, 1.0, (1.0,))}, "bounds must lie inside what the criterion implies"),
    ],
)
def test_a_family_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        coins(**changes)


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ([[0.5]], "must give shape (2, 1), got (1, 1)"),
        ([0.5, 0.5], "must give shape (2, 1), got (2,)"),
        ([["a"], ["b"]], "must give numbers, got list"),
        ([[0.5], [1.5]], "must keep gain in its support [0, 1], got 1.5 in row 1"),
        ([[0.5], [np.nan]], "must keep gain in its support [0, 1], got nan in row 1"),
    ],
)
def test_a_sampler_is_refused(drawn: Any, message: str, rng: np.random.Generator) -> None:
    with pytest.raises(InvalidInput, match=re.escape(f"sampler of coins {message}")):
        coins(sampler=lambda n, rng: drawn).sample(2, rng)


def test_parameters_without_bounds_need_be_finite_only(rng: np.random.Generator) -> None:
    family = coins(support=[[-np.inf, np.inf]], sampler=lambda n, rng: np.full((n, 1), 1e9))
    assert family.sample(1, rng)[0, 0] == 1e9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", 0.0, 1.0, coin_of), "signal name must be a non-empty string"),
        (("s", 1.0, 1.0, coin_of), "high of signal 's' must be a number in (1"),
        (("s", 0.0, np.inf, coin_of), "high of signal 's' must be a number"),
        (("s", 0.0, 1.0, None), "of of signal 's' must be callable"),
        (("s", 0.0, 1.0, coin_of, "median"), "reduce of signal 's' must be one of mean, sum, last, max"),
    ],
)
def test_a_signal_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        Signal(*arguments)


def test_the_criterion_is_the_familys() -> None:
    assert coins().criterion is CRITERION
