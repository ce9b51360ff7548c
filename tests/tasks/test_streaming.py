"""Media streaming: the birth-death law, threshold encodings, and what the family promises of all its tasks."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, kstest

from surefoot import TabularCMDP, evaluate, solve
from surefoot.tasks import StreamingBuffer, TabularFamily
from tests.refusals import refused
from tests.tasks.oracles import birth_death_law, deterministic, dual_optimum, envelope_at, swept_values

WORLD = StreamingBuffer()
SMALL, MEDIUM, SHARP = range(3)


def test_it_is_a_tabular_family() -> None:
    assert isinstance(WORLD, TabularFamily)
    assert (WORLD.name, WORLD.parameter_names, WORLD.support.tolist()) == (
        "media streaming",
        ("bandwidth",),
        [[0.6, 0.9]],
    )


@pytest.mark.parametrize("encoding", [SMALL, MEDIUM, SHARP])
def test_a_buffer_in_equilibrium_keeps_its_birth_death_law(encoding: int) -> None:
    """Started from the stationary law, every step looks the same: values are its means over 1 - gamma."""
    q = 0.7
    arrives = q * (1.0, 0.6, 0.3)[encoding]
    up = np.array([arrives] + [arrives * 0.5] * 14)
    down = np.full(15, (1.0 - arrives) * 0.5)
    law = birth_death_law(up, down)
    task = WORLD.cmdp(q)
    still = TabularCMDP(task.dense, task.rewards, task.costs, task.cost_limits, law, task.discount)
    found = evaluate(still, deterministic(np.full(16, encoding), 3))
    assert found.costs[0] == pytest.approx(20.0 * law[0])
    assert found.reward == pytest.approx(20.0 * (0.2, 0.6, 1.0)[encoding])


@pytest.mark.parametrize("q", [0.6, 0.75, 0.9])
def test_the_optimum_agrees_with_the_lagrangian_dual(q: float) -> None:
    task = WORLD.cmdp(q)
    assert solve(task).value == pytest.approx(dual_optimum(task), abs=1e-5)


def test_mixing_two_threshold_policies_is_optimal() -> None:
    """All pairs of buffer levels from which the medium and the sharp encoding are sent, for a smaller buffer."""
    task = StreamingBuffer(limit=1.5, capacity=6).cmdp(0.75)
    s = np.arange(7)
    levels = [(low, high) for low, high in product(range(8), range(8)) if low <= high]
    tables = np.stack([deterministic((s >= low).astype(float) + (s >= high), 3) for low, high in levels])
    returns, costs = swept_values(task, tables).T
    assert solve(task).value == pytest.approx(envelope_at(costs, returns, 1.5), abs=1e-6)


def test_more_bandwidth_is_worth_more_and_stalls_less() -> None:
    tasks = [WORLD.cmdp(q) for q in np.linspace(0.6, 0.9, 6)]
    assert (np.diff([solve(t).value for t in tasks]) > 0.5).all()
    safe = WORLD.safe_policy()
    assert (np.diff([evaluate(t, safe).costs[0] for t in tasks]) < 0.0).all()


def test_the_safe_policy_keeps_its_margin_on_the_whole_support_and_much_can_be_gained() -> None:
    safe = WORLD.safe_policy()
    values = [evaluate(WORLD.cmdp(q), safe) for q in np.linspace(0.6, 0.9, 15)]
    margins = [1.5 - v.costs[0] for v in values]
    assert min(margins) == margins[0] == pytest.approx(0.5872, abs=1e-3)
    optima = [solve(WORLD.cmdp(q)).value for q in np.linspace(0.6, 0.9, 15)]
    assert np.mean([1.0 - v.reward / best for v, best in zip(values, optima)]) > 0.16


@given(st.floats(0.0, 1.0))
def test_rows_are_probabilities_at_any_bandwidth(q: float) -> None:
    dense = WORLD.cmdp(q).dense
    np.testing.assert_allclose(dense.sum(axis=2), 1.0, atol=1e-12)
    assert dense.max() <= 1.0, "a row that rounds to more than one would lie outside of its own kernel box"


def test_tasks_share_their_signals_and_keep_the_criterion() -> None:
    one, two, criterion = WORLD.cmdp(0.6), WORLD.cmdp(0.9), WORLD.criterion
    np.testing.assert_array_equal(one.rewards, two.rewards)
    np.testing.assert_array_equal(one.costs, two.costs)
    assert (0.0, one.rewards.max()) == criterion.reward_bounds
    assert one.costs.max() == criterion.cost_bounds[0]
    assert one.start.tolist() == [0.0] * 3 + [1.0] + [0.0] * 12


def test_sampling_follows_its_law_and_depends_on_the_generator_only() -> None:
    one, two, three = (WORLD.sample(2000, np.random.default_rng(s)) for s in (7, 7, 8))
    np.testing.assert_array_equal(one, two)
    assert (one != three).all()
    assert kstest(one[:, 0], beta(2, 2, loc=0.6, scale=0.3).cdf).pvalue > 1e-4


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda: StreamingBuffer(limit=-1.0), ("SF-ARGUMENT-RANGE", "limit", "[0, inf]", "-1")),
        (lambda: StreamingBuffer(capacity=2), ("SF-ARGUMENT-RANGE", "capacity", "3", "2")),
        (lambda: WORLD.cmdp(1.01), ("SF-ARGUMENT-RANGE", "bandwidth", "[0, 1]", "1.01")),
    ],
)
def test_bad_arguments_are_refused(call: object, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        call()  # type: ignore[operator]
