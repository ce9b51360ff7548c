"""The bootstrap over tasks: against the normal law, against draws by hand and SciPy's interval, and blind to how often a task was met."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import bootstrap

from surefoot.stats.bootstrap import mean_over_tasks
from tests.refusals import refused


def test_it_is_as_wide_as_the_normal_interval(rng: np.random.Generator) -> None:
    values = rng.normal(3.0, 2.0, size=400)
    mean, low, high = mean_over_tasks(values, list(range(400)))
    half = 1.96 * values.std() / 20.0
    assert mean == pytest.approx(values.mean())
    assert [low, high] == pytest.approx([mean - half, mean + half], abs=0.1 * half)
    inner = mean_over_tasks(values, list(range(400)), level=0.5)
    assert inner[2] - inner[1] == pytest.approx((high - low) * 0.6745 / 1.96, rel=0.1)


def test_it_covers_the_mean_about_as_often_as_it_says(rng: np.random.Generator) -> None:
    """Thirty tasks, three noisy runs each; the percentile interval of thirty draws covers a little less than it aims at."""
    hits = 0
    for k in range(400):
        tasks = np.repeat(np.arange(30), 3)
        values = rng.normal(size=30)[tasks] + 0.3 * rng.normal(size=90)
        _, low, high = mean_over_tasks(values, tasks.tolist(), seed=k)
        hits += low <= 0.0 <= high
    # Four standard errors of 400 draws are .045.
    assert 0.93 - 0.045 <= hits / 400 <= 0.95 + 0.045


def test_repeating_a_task_changes_nothing(rng: np.random.Generator) -> None:
    values = rng.normal(size=20)
    once = mean_over_tasks(values, list(range(20)))
    assert mean_over_tasks(np.repeat(values, 7), np.repeat(np.arange(20), 7).tolist()) == pytest.approx(once)


def by_hand(means: np.ndarray[Any, Any], level: float, seed: int) -> list[float]:
    """The percentile interval written out."""
    drawn = np.random.default_rng(seed).integers(means.size, size=(4000, means.size))
    return np.quantile(means[drawn].mean(axis=1), [0.5 - 0.5 * level, 0.5 + 0.5 * level]).tolist()


@pytest.mark.parametrize("n", [2, 3, 20, 57, 200])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_it_is_the_percentile_interval_to_the_last_digit(n: int, level: float, rng: np.random.Generator) -> None:
    """Published figures were drawn by hand, so another SciPy must not move them."""
    values = rng.exponential(3.0, size=n)
    assert list(mean_over_tasks(values, list(range(n)), level=level, seed=n)[1:]) == by_hand(values, level, n)


@pytest.mark.parametrize("n", [20, 50, 100, 200])
def test_it_is_scipys_interval_within_rounding_and_within_chance_for_other_draws(
    n: int, rng: np.random.Generator
) -> None:
    values = rng.normal(3.0, 2.0, size=n)
    _, low, high = mean_over_tasks(values, list(range(n)))
    options = {"n_resamples": 4000, "method": "percentile"}
    same = bootstrap((values,), np.mean, rng=np.random.default_rng(0), **options).confidence_interval
    assert [low, high] == pytest.approx([same.low, same.high], rel=1e-14)
    other = bootstrap((values,), np.mean, rng=np.random.default_rng(1), **options).confidence_interval
    # The 2.5% quantile of 4000 draws has a standard error of sqrt(.025 .975 / 4000) / density(-1.96) = .042 spreads; of a difference
    # of two .060, and four of these are .24.
    spread = values.std() / np.sqrt(n)
    assert [low, high] == pytest.approx([other.low, other.high], abs=0.24 * spread)


@pytest.mark.parametrize("tasks", [["only"], ["only"] * 3])
def test_one_task_is_its_own_interval(tasks: list[str]) -> None:
    assert mean_over_tasks(np.full(len(tasks), 2.5), tasks) == (2.5, 2.5, 2.5)


@pytest.mark.parametrize(
    ("values", "tasks", "refusal"),
    [
        ([], [], ("SF-ARGUMENT-LENGTH", "tasks", "0", "1")),
        ([1.0], ["a", "b"], ("SF-ARGUMENT-LENGTH", "tasks", "1")),
        ([np.nan], ["a"], ("SF-ARGUMENT-FINITE",)),
    ],
)
def test_an_argument_is_refused(values: list[float], tasks: list[str], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        mean_over_tasks(np.array(values), tasks)
