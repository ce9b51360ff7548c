"""Families: what their constructor and their sampler refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from surefoot.criterion import Criterion
from surefoot.gym.family import Signal
from surefoot.policyset.schema import EpisodeBounds
from surefoot.tasks.family import TaskFamily
from tests.gym.toys import CRITERION, MEAN_COIN, WEIGHT, coin_of, coins, shared_coins
from tests.refusals import refused


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
    ("changes", "refusal"),
    [
        ({"name": ""}, ("SF-ARGUMENT-TEXT", "name")),
        ({"support": [[0.0, 1.0], [0.0, 1.0]]}, ("SF-ARGUMENT-SHAPE", "support", "(1, 2)")),
        ({"support": [[1.0, 0.0]]}, ("SF-ARGUMENT-ORDER", "support[0]")),
        ({"support": [[np.nan, 0.0]]}, ("SF-ARGUMENT-ORDER", "support[0]")),
        ({"criterion": Criterion(0.9, [1.0], (0, 1), [1.0])}, ("SF-ARGUMENT-MISSING", "criterion.horizon")),
        ({"make": None}, ("SF-ARGUMENT-TYPE", "make", "NoneType")),
        ({"sampler": 3}, ("SF-ARGUMENT-TYPE", "sampler", "int")),
        ({"cost": 3}, ("SF-ARGUMENT-TYPE", "cost", "int")),
        ({"rewards": "x"}, ("SF-ARGUMENT-TYPE", "rewards", "str")),
        ({"signals": (MEAN_COIN, MEAN_COIN)}, ("SF-ARGUMENT-DISTINCT", "signals")),
        ({"bounds": EpisodeBounds(0.0, 1.0, ())}, ("SF-ARGUMENT-LENGTH", "bounds.cost_ceilings", "1", "0")),
        ({"bounds": EpisodeBounds(-1.0, 1.0, (1.0,))}, ("SF-FAMILY-BOUNDS", "bounds")),
        ({"bounds": EpisodeBounds(0.0, 1.0, (9.0,))}, ("SF-FAMILY-BOUNDS", "bounds")),
        ({"bounds": EpisodeBounds(1.0, 1.0, (1.0,))}, ("SF-FAMILY-BOUNDS", "bounds")),
    ],
)
def test_a_family_is_refused(changes: dict[str, Any], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        coins(**changes)


@pytest.mark.parametrize(
    ("drawn", "names"),
    [
        ([[0.5]], ("(2, 1)", "(1, 1)")),
        ([0.5, 0.5], ("(2, 1)", "(2,)")),
        ([["a"], ["b"]], ("list",)),
        ([[0.5], [1.5]], ("gain", "[0, 1]", "1.5", "row 1")),
        ([[0.5], [np.nan]], ("gain", "[0, 1]", "nan", "row 1")),
    ],
)
def test_a_sampler_is_refused(drawn: Any, names: tuple[str, ...], rng: np.random.Generator) -> None:
    with refused("SF-FAMILY-SAMPLE", "sampler of coins", *names):
        coins(sampler=lambda n, rng: drawn).sample(2, rng)


def test_parameters_without_bounds_need_be_finite_only(rng: np.random.Generator) -> None:
    family = coins(support=[[-np.inf, np.inf]], sampler=lambda n, rng: np.full((n, 1), 1e9))
    assert family.sample(1, rng)[0, 0] == 1e9


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (("", 0.0, 1.0, coin_of), ("SF-ARGUMENT-TEXT", "name")),
        (("s", 1.0, 1.0, coin_of), ("SF-ARGUMENT-RANGE", "high of signal 's'", "1")),
        (("s", 0.0, np.inf, coin_of), ("SF-ARGUMENT-RANGE", "high of signal 's'")),
        (("s", 0.0, 1.0, None), ("SF-ARGUMENT-TYPE", "of of signal 's'")),
        (("s", 0.0, 1.0, coin_of, "median"), ("SF-ARGUMENT-CHOICE", "'s'")),
    ],
)
def test_a_signal_is_refused(arguments: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        Signal(*arguments)


def test_the_criterion_is_the_familys() -> None:
    assert coins().criterion is CRITERION
