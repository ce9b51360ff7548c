"""CMA-ES finds the optimum that a limit leaves, for one task and for the worst of several."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from surefoot.controllers import LinearPolicy
from surefoot.gym.cma import Generation, rank, tune
from tests.gym.press import press
from tests.refusals import refused


def pressing(x: Any) -> LinearPolicy:
    """Press with constant effort ``x[0]``, swayed by the observation with ``x[1]``."""
    return LinearPolicy([[x[1]]], [x[0]], 0.0, 1.0)


def test_feasible_candidates_come_first() -> None:
    order = rank(np.array([5.0, 1.0, 2.0, 9.0]), np.array([0.2, -0.5, 0.0, 0.1]))
    np.testing.assert_array_equal(order, [3, 1, 0, 2])


@pytest.mark.parametrize(("tasks", "share", "effort"), [([[1.0]], 0.75, 0.387), ([[0.5], [1.5]], 0.6, 0.283)])
def test_the_best_controller_that_keeps_the_limit(tasks: Any, share: float, effort: float) -> None:
    seen: list[Generation] = []
    found = tune(
        press(), pressing, [0.1, 0.0], tasks=tasks, seed=0, deviation=0.2, generations=15, share=share, tell=seen.append
    )
    # Over ten steps effort a costs 10 z a^2, so the limit 2 allows sqrt(share .2 / z) in the worst task z.
    assert found.policy.bias[0] == pytest.approx(effort, abs=0.03)
    assert found.met_limit
    assert len(found.parameters) == len(tasks)
    assert found.steps > 0
    assert [generation.number for generation in seen] == list(range(len(seen)))


@pytest.mark.slow
def test_workers_change_nothing() -> None:
    results = [
        tune(
            press(),
            pressing,
            [0.1, 0.0],
            tasks=[[1.0]],
            seed=3,
            generations=2,
            episodes=2,
            judged_episodes=5,
            workers=workers,
        )
        for workers in (1, 2)
    ]
    np.testing.assert_array_equal(results[0].policy.bias, results[1].policy.bias)
    np.testing.assert_array_equal(results[0].costs, results[1].costs)


def test_an_impossible_limit_is_reported() -> None:
    found = tune(
        press(0.1),
        lambda x: pressing(np.maximum(x, 0.5)),
        [0.6, 0.0],
        tasks=[[1.0]],
        seed=0,
        generations=3,
        episodes=2,
        judged_episodes=20,
    )
    assert not found.met_limit


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"start": [0.1]}, ("SF-ARGUMENT-LENGTH", "start", "2", "1")),
        ({"start": [np.nan, 0.0]}, ("SF-ARGUMENT-FINITE", "start[0]")),
        ({"tasks": [[1.0, 2.0]]}, ("SF-ARGUMENT-SHAPE", "tasks")),
        ({"share": 0.0}, ("SF-ARGUMENT-RANGE", "share", "(0, 1]", "0.0")),
        ({"deviation": 0.0}, ("SF-ARGUMENT-RANGE", "deviation")),
        ({"generations": 0}, ("SF-ARGUMENT-RANGE", "generations")),
        ({"population": 2}, ("SF-ARGUMENT-RANGE", "population")),
    ],
)
def test_arguments_are_checked(change: dict[str, Any], refusal: tuple[str, ...]) -> None:
    arguments: dict[str, Any] = {"start": [0.1, 0.0], "tasks": [[1.0]], "seed": 0} | change
    with refused(*refusal):
        tune(press(), pressing, arguments.pop("start"), **arguments)
