"""The bootstrap over tasks: against the normal law, and blind to how often a task was met."""

from __future__ import annotations

import numpy as np
import pytest

from surefoot.errors import InvalidInput
from surefoot.stats.bootstrap import mean_over_tasks


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


def test_one_value_is_its_own_interval() -> None:
    assert mean_over_tasks(np.array([2.5]), ["only"]) == (2.5, 2.5, 2.5)


@pytest.mark.parametrize(
    ("values", "tasks", "message"),
    [
        ([], [], "tasks must name the task of each of 0 >= 1 values"),
        ([1.0], ["a", "b"], "tasks must name the task of each of 1"),
        ([np.nan], ["a"], "must be finite"),
    ],
)
def test_an_argument_is_refused(values: list[float], tasks: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        mean_over_tasks(np.array(values), tasks)
