"""Queue admission: the birth-death law, threshold policies, and what the family promises of all its tasks."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot import TabularCMDP, evaluate, solve
from surefoot.arrays import FloatArray
from surefoot.tasks import QueueAdmission, TabularFamily
from tests.refusals import refused
from tests.tasks.oracles import birth_death_law, deterministic, dual_optimum, envelope_at, swept_values

WORLD = QueueAdmission()
CLOSED, CLOSED_FAST, OPEN, OPEN_FAST = range(4)


def threshold(admit_below: int, fast_from: int, states: int = 16) -> FloatArray:
    """Open while fewer than ``admit_below`` wait, fast from ``fast_from`` on."""
    s = np.arange(states)
    return deterministic(2 * (s < admit_below) + (s >= fast_from), 4)


def test_it_is_a_tabular_family() -> None:
    assert isinstance(WORLD, TabularFamily)
    assert (WORLD.name, WORLD.parameter_names, WORLD.support.tolist()) == (
        "queue admission",
        ("arrivals",),
        [[0.25, 0.6]],
    )


@pytest.mark.parametrize("admit_below", [1, 4, 9, 15])
@pytest.mark.parametrize("pace", [0.4, 0.8])
def test_a_queue_in_equilibrium_keeps_its_birth_death_law(admit_below: int, pace: float) -> None:
    """Started from the stationary law, every step looks the same: values are its means over 1 - gamma."""
    q, levels = 0.45, np.arange(admit_below + 1)
    up = np.where(levels[:-1] > 0, q * (1.0 - pace), q)
    down = np.where(levels[1:] < admit_below, (1.0 - q) * pace, pace)
    law = np.zeros(16)
    law[: admit_below + 1] = birth_death_law(up, down)
    task = WORLD.cmdp(q)
    still = TabularCMDP(task.dense, task.rewards, task.costs, task.cost_limits, law, task.discount)
    fast = pace == 0.8
    found = evaluate(still, threshold(admit_below, 0 if fast else 16))
    assert found.costs[0] == pytest.approx(20.0 * law @ np.arange(16) / 15.0)
    assert found.reward == pytest.approx(20.0 * (pace * (1.0 - law[0]) - 0.4 * fast))


@pytest.mark.parametrize("q", [0.25, 0.4, 0.6])
def test_the_optimum_agrees_with_the_lagrangian_dual(q: float) -> None:
    task = WORLD.cmdp(q)
    assert solve(task).value == pytest.approx(dual_optimum(task), abs=1e-5)


def test_mixing_two_threshold_policies_is_optimal() -> None:
    """All pairs of thresholds, for the gate and for the pace, in a smaller hall."""
    task = QueueAdmission(limit=1.5, capacity=6).cmdp(0.5)
    tables = np.stack([threshold(a, f, 7) for a, f in product(range(8), range(8))])
    returns, costs = swept_values(task, tables).T
    assert solve(task).value == pytest.approx(envelope_at(costs, returns, 1.5), abs=1e-6)
    assert solve(task).costs[0] == pytest.approx(1.5)


def test_a_closed_gate_earns_nothing_and_costs_nothing() -> None:
    found = evaluate(WORLD.cmdp(0.5), deterministic(np.full(16, CLOSED), 4))
    assert (found.reward, found.costs[0]) == pytest.approx((0.0, 0.0), abs=1e-12)


def test_more_arrivals_are_worth_more_and_cost_more() -> None:
    tasks = [WORLD.cmdp(q) for q in np.linspace(0.25, 0.6, 6)]
    assert (np.diff([solve(t).value for t in tasks]) > 0.25).all()
    safe = WORLD.safe_policy()
    assert (np.diff([evaluate(t, safe).costs[0] for t in tasks]) > 0.1).all()


def test_the_safe_policy_keeps_its_margin_on_the_whole_support_and_much_can_be_gained() -> None:
    safe = WORLD.safe_policy()
    values = [evaluate(WORLD.cmdp(q), safe) for q in np.linspace(0.25, 0.6, 15)]
    margins = [1.5 - v.costs[0] for v in values]
    assert min(margins) == margins[-1] == pytest.approx(0.2234, abs=1e-3)
    optima = [solve(WORLD.cmdp(q)).value for q in np.linspace(0.25, 0.6, 15)]
    assert np.mean([1.0 - v.reward / best for v, best in zip(values, optima)]) > 0.13


@given(st.floats(0.0, 1.0))
def test_rows_are_probabilities_at_any_arrival_rate(q: float) -> None:
    dense = WORLD.cmdp(q).dense
    np.testing.assert_allclose(dense.sum(axis=2), 1.0, atol=1e-12)
    assert dense.max() <= 1.0, "a row that rounds to more than one would lie outside of its own kernel box"


def test_tasks_share_their_signals_and_keep_the_criterion() -> None:
    one, two, criterion = WORLD.cmdp(0.3), WORLD.cmdp(0.6), WORLD.criterion
    np.testing.assert_array_equal(one.rewards, two.rewards)
    np.testing.assert_array_equal(one.costs, two.costs)
    assert (one.rewards.min(), one.rewards.max()) == criterion.reward_bounds
    assert one.costs.max() == criterion.cost_bounds[0]
    assert (one.discount, one.cost_limits.tolist()) == (criterion.discount, criterion.cost_limits.tolist())


def test_sampling_depends_on_the_generator_only_and_stays_in_the_support() -> None:
    one, two, three = (WORLD.sample(200, np.random.default_rng(s)) for s in (7, 7, 8))
    np.testing.assert_array_equal(one, two)
    assert (one != three).all()
    assert one.shape == (200, 1)
    assert 0.25 <= one.min() < 0.26 and 0.59 < one.max() <= 0.6


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda: QueueAdmission(limit=-1.0), ("SF-ARGUMENT-RANGE", "limit", "[0, inf]", "-1")),
        (lambda: QueueAdmission(capacity=1), ("SF-ARGUMENT-RANGE", "capacity", "2", "1")),
        (lambda: WORLD.cmdp(1.2), ("SF-ARGUMENT-RANGE", "arrivals", "[0, 1]", "1.2")),
        (lambda: WORLD.cmdp([0.1, 0.2]), ("SF-ARGUMENT-SHAPE", "parameters", "(1)", "(2,)")),
    ],
)
def test_bad_arguments_are_refused(call: object, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        call()  # type: ignore[operator]
