"""Inventory with a storage cost: base-stock policies in closed form, and what the family promises of all its tasks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom, kstest

from surefoot import evaluate, solve
from surefoot.cmdp import Simulator
from surefoot.tasks import StorageInventory, TabularFamily
from tests.refusals import refused
from tests.tasks.oracles import deterministic, dual_optimum, envelope_at

WORLD = StorageInventory()


def base_stock(q: float, level: int) -> tuple[float, float]:
    """Return and cost in closed form: leftovers of days under one base stock are independent and alike.

    The first day fills an empty shelf, every later one replaces what was sold the day before.
    """
    demand = np.arange(11)
    chance = binom.pmf(demand, 10, q)
    sold = chance @ np.minimum(level, demand)
    left = chance @ np.maximum(level - demand, 0)
    return 10.0 * sold - 0.5 * (level + 9.0 * sold), 9.0 * left / 12.0


def test_it_is_a_tabular_family() -> None:
    assert isinstance(WORLD, TabularFamily)
    assert (WORLD.name, WORLD.parameter_names, WORLD.support.tolist()) == ("inventory", ("demand",), [[0.3, 0.7]])


@pytest.mark.parametrize("level", [0, 1, 5, 10, 12])
@pytest.mark.parametrize("q", [0.3, 0.55])
def test_base_stocks_have_their_closed_form(q: float, level: int) -> None:
    found = evaluate(WORLD.cmdp(q), deterministic(np.full(13, level), 13))
    assert (found.reward, found.costs[0]) == pytest.approx(base_stock(q, level))


@pytest.mark.parametrize("q", [0.3, 0.42, 0.5, 0.7])
def test_the_optimum_mixes_two_base_stocks(q: float) -> None:
    returns, costs = np.array([base_stock(q, level) for level in range(13)]).T
    assert solve(WORLD.cmdp(q)).value == pytest.approx(envelope_at(costs, returns, 1.0), abs=1e-6)


def test_the_optimum_agrees_with_the_lagrangian_dual() -> None:
    task = WORLD.cmdp(0.45)
    assert solve(task).value == pytest.approx(dual_optimum(task), abs=1e-5)


def test_episodes_pay_what_is_sold_less_what_was_bought() -> None:
    """The telescoped reward on simulated paths: its mean is the closed form, and it never falls below what was spent at once."""
    tables = deterministic(np.full(13, 6), 13)[None]
    found = Simulator(WORLD.cmdp(0.5), tables).run(np.zeros(20_000, dtype=np.int64), seed=3)
    error = 5.0 * found.returns.std() / np.sqrt(20_000)
    assert abs(found.returns.mean() - base_stock(0.5, 6)[0]) < error
    assert abs(found.costs[:, 0].mean() - base_stock(0.5, 6)[1]) < 5.0 * found.costs.std() / np.sqrt(20_000)
    assert found.returns.min() >= -0.5 * 6.0


def test_more_demand_is_worth_more_and_leaves_less_on_the_shelf() -> None:
    tasks = [WORLD.cmdp(q) for q in np.linspace(0.3, 0.7, 6)]
    assert (np.diff([solve(t).value for t in tasks]) > 3.0).all()
    safe = WORLD.safe_policy()
    assert (np.diff([evaluate(t, safe).costs[0] for t in tasks]) < 0.0).all()


def test_the_safe_policy_keeps_its_margin_on_the_whole_support_and_much_can_be_gained() -> None:
    safe = WORLD.safe_policy()
    values = [evaluate(WORLD.cmdp(q), safe) for q in np.linspace(0.3, 0.7, 15)]
    margins = [1.0 - v.costs[0] for v in values]
    assert min(margins) == margins[0] == pytest.approx(0.2761, abs=1e-3)
    optima = [solve(WORLD.cmdp(q)).value for q in np.linspace(0.3, 0.7, 15)]
    assert np.mean([1.0 - v.reward / best for v, best in zip(values, optima)]) > 0.2


@given(st.floats(0.0, 1.0))
def test_rows_are_probabilities_at_any_demand(q: float) -> None:
    dense = WORLD.cmdp(q).dense
    np.testing.assert_allclose(dense.sum(axis=2), 1.0, atol=1e-12)
    assert dense.max() <= 1.0, "a row that rounds to more than one would lie outside of its own kernel box"


def test_orders_below_the_stock_change_nothing() -> None:
    task = WORLD.cmdp(0.5)
    np.testing.assert_array_equal(task.dense[7, 3], task.dense[7, 7])
    assert task.rewards[7, 3] == task.rewards[7, 7]
    assert task.dense[12, 12, :2].tolist() == [0.0, 0.0], "ten customers cannot empty a shelf of twelve"


def test_tasks_share_their_signals_and_keep_the_criterion() -> None:
    one, two, criterion = WORLD.cmdp(0.3), WORLD.cmdp(0.6), WORLD.criterion
    np.testing.assert_array_equal(one.rewards, two.rewards)
    np.testing.assert_array_equal(one.costs, two.costs)
    assert (one.rewards.min(), one.rewards.max()) == pytest.approx(criterion.reward_bounds)
    assert one.costs.max() == criterion.cost_bounds[0]


def test_sampling_follows_its_law_and_depends_on_the_generator_only() -> None:
    one, two, three = (WORLD.sample(2000, np.random.default_rng(s)) for s in (7, 7, 8))
    np.testing.assert_array_equal(one, two)
    assert (one != three).all()
    assert kstest(one[:, 0], beta(2, 2, loc=0.3, scale=0.4).cdf).pvalue > 1e-4


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda: StorageInventory(limit=-1.0), ("SF-ARGUMENT-RANGE", "limit", "[0, inf]", "-1")),
        (lambda: WORLD.cmdp(-0.1), ("SF-ARGUMENT-RANGE", "demand", "[0, 1]", "-0.1")),
        (lambda: WORLD.cmdp(np.nan), ("SF-ARGUMENT-FINITE", "parameters[0]", "nan")),
    ],
)
def test_bad_arguments_are_refused(call: object, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        call()  # type: ignore[operator]
