"""Exact values of functionals: against the law of the cost propagated forwards, state by state, and against simulation."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import surefoot as sf
from surefoot.cmdp import state_bounds
from surefoot.cmdp.evaluate import outcome_variances
from surefoot.cmdp.functionals import Ladder
from surefoot.solvers import solve
from surefoot.solvers.stationary import implied_means
from surefoot.tasks import NoisyGridworld, QueueAdmission
from tests.models import random_cmdp, random_policy
from tests.refusals import refused


def law(cmdp: sf.TabularCMDP, table: Any, start: int, steps: int) -> tuple[Any, Any]:
    """Costs and probabilities of an episode from ``start``, cut after ``steps``: a dictionary of (state, cost so far), moved forwards."""
    now: dict[tuple[int, float], float] = {(start, 0.0): 1.0}
    for t in range(steps):
        ahead: dict[tuple[int, float], float] = defaultdict(float)
        for (s, z), p in now.items():
            for a in range(cmdp.n_actions):
                for following in range(cmdp.n_states):
                    chance = p * table[s, a] * cmdp.dense[s, a, following]
                    if chance > 0.0:
                        ahead[following, z + cmdp.discount**t * cmdp.costs[0, s, a]] += chance
        now = ahead
    return np.array([z for _, z in now]), np.array(list(now.values()))


def coarse(seed: int, **changes: Any) -> sf.TabularCMDP:
    """A random CMDP whose costs are 0, 1 or 2, so that few sums differ; half of the pairs cost nothing."""
    rng = np.random.default_rng(seed)
    made = random_cmdp(rng, **{"states": 3, "actions": 2, "discount": 0.5, **changes})
    costs = rng.choice([0.0, 0.0, 1.0, 2.0], size=made.costs.shape)
    return sf.TabularCMDP(made.dense, made.rewards, costs, made.cost_limits, made.start, made.discount)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 3.5), st.floats(0.05, 1.0))
def test_bounds_hold_the_law_of_the_cost(seed: int, threshold: float, level: float) -> None:
    task = coarse(seed)
    limits = [sf.Exceeds(threshold, at_most=0.5), sf.CVaR(level, at_most=9.0, threshold=threshold), sf.Mean(1.0)]
    table = random_policy(np.random.default_rng(seed + 1), 3, 2)
    lower, upper = state_bounds(task.with_functionals(limits, grid=40), table)
    steps = 9
    tail = 0.5**steps * 2.0 / 0.5
    for s in range(3):
        costs, chance = law(task, table, s, steps)
        least = np.array([f.of(costs) @ chance for f in limits])
        most = np.array([f.of(costs + tail) @ chance for f in limits])
        # The truth lies in [least, most]: the bounds must reach around what is left of it.
        assert (lower[0, 1:, s] <= most + 1e-9).all() and (upper[0, 1:, s] >= least - 1e-9).all()
        assert (lower[0, 1:, s] <= upper[0, 1:, s] + 1e-9).all()


@pytest.mark.parametrize("functional", [sf.Exceeds(1.7, at_most=0.5), sf.CVaR(0.2, at_most=9.0, threshold=1.7)])
def test_bounds_close_in_on_the_truth(functional: Any) -> None:
    task = coarse(5, states=4)
    table = random_policy(np.random.default_rng(0), 4, 2)
    costs, chance = law(task, table, 0, 9)
    tail = 0.5**9 * 2.0 / 0.5
    truth = functional.of(costs) @ chance, functional.of(costs + tail) @ chance
    widths = []
    for grid in (5, 50, 500):
        lower, upper = (b[0, 1, 0] for b in state_bounds(task.with_functionals([functional], grid=grid), table))
        assert lower <= truth[1] and upper >= truth[0]
        widths.append(upper - lower)
    assert widths[2] < 0.05 * max(widths[0], 1e-3) or widths[2] < 1e-3


@pytest.mark.statistical
@pytest.mark.parametrize(("family", "threshold"), [(NoisyGridworld(), 5.01), (QueueAdmission(), 1.63)])
def test_simulated_episodes_agree(family: Any, threshold: float) -> None:
    task = family.cmdp(family.support.mean(axis=1))
    limits = [sf.Exceeds(threshold, at_most=0.5), sf.CVaR(0.1, at_most=99.0, threshold=threshold), sf.Mean(2.0)]
    tables = np.stack([family.safe_policy(), np.full((task.n_states, task.n_actions), 1.0 / task.n_actions)])
    limited = task.with_functionals(limits, grid=300)
    lower, upper = (bound @ task.start for bound in state_bounds(limited, tables))
    n = 20_000
    for j in range(2):
        played = sf.Simulator(limited, tables).run(np.full(n, j), seed=3)
        assert played.costs.shape == (n, 1)  # what a plant reports
        seen = limited.measure(played.costs)
        error = 4.5 * seen.std(axis=0) / np.sqrt(n) + 1e-6
        assert (seen.mean(axis=0) >= lower[j, 1:] - error).all() and (seen.mean(axis=0) <= upper[j, 1:] + error).all()
        assert (upper[j, 1:] - lower[j, 1:] <= np.array([0.02, 0.2, 1e-9])).all()


def test_a_cost_of_any_size_at_all_can_be_limited() -> None:
    """``Exceeds(0)``: one state costs once, with probability .3 per step on the way to a free state."""
    kernel = np.zeros((3, 1, 3))
    kernel[0, 0] = [0.5, 0.2, 0.3]
    kernel[1, 0, 1], kernel[2, 0, 2] = 1.0, 1.0
    costs = np.zeros((1, 3, 1))
    costs[0, 2] = 1.0
    task = sf.TabularCMDP(kernel, np.zeros((3, 1)), costs, [sf.Exceeds(0.0, at_most=0.7)], np.eye(3)[0], 0.9)
    lower, upper = state_bounds(task, np.ones((3, 1)))
    assert lower[0, 1, 0] == pytest.approx(0.6, abs=2e-3) and upper[0, 1, 0] == pytest.approx(0.6, abs=2e-3)
    assert lower[0, 1, 0] <= 0.6 + 1e-12 and upper[0, 1, 0] >= 0.6 - 1e-12
    # Nothing can exceed a threshold out of reach.
    never = task.with_functionals([sf.Exceeds(10.5, at_most=0.1)])
    assert state_bounds(never, np.ones((3, 1)))[1][0, 1].max() == 0.0
    assert sf.ceilings(never).costs.tolist() == [0.0]


def test_a_free_task_has_no_functional_above_its_least() -> None:
    task = sf.TabularCMDP(np.ones((1, 1, 1)), [[1.0]], [[[0.0]]], [sf.CVaR(0.1, 2.0, 1.0)], [1.0], 0.9)
    np.testing.assert_allclose(state_bounds(task, np.ones((1, 1)))[1][0, :, 0], [10.0, 1.0])


@given(st.integers(1, 300), st.floats(0.01, 20.0), st.floats(0.3, 0.99), st.floats(0.01, 5.0))
def test_grids_nest(grid: int, threshold: float, discount: float, cost: float) -> None:
    """A step without cost stays on the grid, and the first accumulated cost, zero, is on it or out of reach."""
    ladder = Ladder(threshold, cost / (1.0 - discount), discount, grid)
    for t in range(0, min(ladder.horizon, 60), 7):
        left, cells = ladder.after(t, np.zeros(1))
        np.testing.assert_array_equal(cells, np.round(cells))
        assert left[0, -1] <= ladder.window(t) * (1 + 1e-12)
        assert ladder.cell(t) <= max(ladder.window(t), 1e-300) / grid * (1 + 1e-12)
    first = ladder.first() * ladder.cell(0)
    assert first == pytest.approx(threshold, rel=1e-12)


def test_what_a_task_says_of_itself() -> None:
    limits = [sf.Exceeds(5.01, at_most=0.2), sf.CVaR(0.1, at_most=30.0, threshold=5.01)]
    task = NoisyGridworld().cmdp(0.3).with_functionals(limits)
    assert (task.n_constraints, task.n_costs) == (2, 1)
    assert task.criterion.functionals == tuple(limits)
    table = NoisyGridworld().safe_policy()
    values = sf.evaluate(task, table)
    np.testing.assert_allclose(sf.ceilings(task).costs, [1.0, limits[1].of(np.array(90.0))])
    # Of costs themselves.
    assert outcome_variances(task, table).shape == (1, 2)
    np.testing.assert_allclose(
        outcome_variances(task, table), outcome_variances(task.with_means([1.0]), table), rtol=1e-12
    )
    np.testing.assert_allclose(values.costs, sf.state_values(task, table)[0, 1:] @ task.start, rtol=1e-12)


@pytest.mark.parametrize("limits", [[sf.Exceeds(5.01, at_most=0.15)], [sf.CVaR(0.1, 16.0, 5.01), sf.Mean(1.5)]])
def test_the_stationary_policy_meets_its_limits_below_the_bound(limits: Any) -> None:
    task = NoisyGridworld().cmdp(0.3).with_functionals(limits, grid=50)
    found = solve(task)
    assert found.status == "optimal" and found.excess <= 0.0
    values = sf.evaluate(task, found.policy)
    assert values.reward == pytest.approx(found.value) and (values.costs <= task.cost_limits).all()
    assert found.value <= found.bound and found.gap < 0.05 * found.value
    safe = sf.evaluate(task, NoisyGridworld().safe_policy())
    assert found.value > safe.reward and (safe.costs <= task.cost_limits).all()


def test_no_policy_that_meets_a_limit_has_a_mean_above_what_it_implies() -> None:
    task = NoisyGridworld().cmdp(0.3)
    tables = random_policy(np.random.default_rng(0), 49, 4, 12)
    means = sf.evaluate_many(task, tables)[:, 1]
    for functional in (sf.Exceeds(5.01, at_most=1.0), sf.CVaR(0.3, at_most=500.0, threshold=5.01)):
        limited = task.with_functionals([functional], grid=20)
        for mean, value in zip(means, sf.evaluate_many(limited, tables)[:, 1], strict=True):
            assert mean <= implied_means(limited.with_limits([value]))[0] + 1e-9


def test_limits_that_nothing_meets() -> None:
    task = NoisyGridworld().cmdp(0.3).with_functionals([sf.Exceeds(0.0, at_most=0.001)], grid=20)
    found = solve(task)
    assert found.status == "infeasible" and found.excess > 0.0
    with refused("SF-SOLVER-INFEASIBLE"):
        found.value_or_raise()


@pytest.mark.parametrize(
    ("build", "refusal"),
    [
        (
            lambda t: t.with_functionals([sf.Exceeds(1.0, 0.1, signal=1)]),
            ("SF-ARGUMENT-RANGE", "cost_limits[0].signal", "1"),
        ),
        (lambda t: t.with_functionals([sf.CVaR(0.1, 3.0)]), ("SF-ARGUMENT-MISSING", "cost_limits[0].threshold")),
        (lambda t: t.with_functionals([sf.Mean(1.0)], grid=1), ("SF-ARGUMENT-RANGE", "grid")),
        (lambda t: t.with_functionals([Odd()]), ("SF-ARGUMENT-TYPE", "Odd")),
        (lambda t: t.with_means([-1.0]), ("SF-ARGUMENT-RANGE", "cost_limits")),
    ],
)
def test_refusals(build: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        build(coarse(0))


class Odd:
    """A functional whose exact values nobody knows."""

    signal, at_most = 0, 1.0

    def of(self, costs: Any) -> Any:
        return costs**2

    def name(self, cost: str) -> str:
        return cost

    def text(self, cost: str) -> str:
        return cost
