"""The guess of the task: against likelihoods episode by episode, and what it does with what is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from surefoot import PolicySet
from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.evidence.predictions import PredictionTable
from surefoot.deploy.posterior import LEAST_SCATTER, SHRINKAGE, CellPosterior
from surefoot.policyset.schema import KernelBoxes, SignalPredictions
from tests.deploy.worlds import hand_made, table_of

SHIFT = np.array([-0.4, 0.4])


def world(*, states: bool = False, signals: bool = False, kernel: bool = False) -> PolicySet:
    """Three cells and two policies that differ in returns, costs, a signal and where state 0 leads."""
    reward = np.array([[3.0, 4.0], [3.2, 4.5], [3.4, 5.0]])
    cost = np.array([[1.0, 1.6], [0.9, 1.3], [0.8, 1.1]])[:, :, None]
    lower = np.array([[0.2, 0.3], [0.4, 0.4], [0.6, 0.5]])[:, :, None]
    move = np.array([[0.3], [0.5], [0.7]])
    center = np.concatenate([move, 1.0 - move], axis=1)
    support = np.array([(0, 0, 1), (0, 0, 2)])
    return hand_made(
        reward,
        cost,
        by_state=(reward[..., None] + SHIFT, cost[..., None] + 0.25 * SHIFT) if states else None,
        signals=SignalPredictions(("speed",), np.array([[0.0, 1.0]]), lower, lower + 0.1) if signals else None,
        kernel=KernelBoxes(support, center - 0.05, center + 0.05, center) if kernel else None,
    )


def estimate(policy_set: PolicySet) -> tuple[CellPosterior, PredictionTable]:
    table, signals = table_of(policy_set), policy_set.cells.signals
    told = table.low.size
    table = table if signals is None else table.with_signals(signals)
    return CellPosterior(table, policy_set.cells.kernel, told), table


def episodes(
    rng: np.random.Generator, table: PredictionTable, n: int, cell: int = 1
) -> tuple[IntArray, IntArray, FloatArray]:
    """Policies, columns and correlated outcomes around the centre of a cell."""
    policies = rng.integers(0, 2, n)
    columns = rng.integers(0, max(table.states.size, 1), n)
    size = table.low.size
    root = 0.3 * np.eye(size) + 0.1 * rng.standard_normal((size, size))
    values = table.center[cell][policies, :, columns] + rng.standard_normal((n, size)) @ root
    return policies, columns, np.clip(values, table.low, table.high)


@pytest.mark.parametrize("states", [False, True])
def test_several_signals_keep_their_own_ranges(states: bool) -> None:
    """Where an initial state is known nothing is predicted for a signal, so the whole range of that very signal is possible."""
    table = table_of(world(states=states))
    bounds = np.array([[0.0, 1.0], [20.0, 500.0], [-3.0, 3.0]])
    middle = np.broadcast_to(bounds.mean(axis=1), (3, 2, 3))
    found = table.with_signals(SignalPredictions(("speed", "glucose", "tilt"), bounds, middle - 0.1, middle + 0.1))
    known = found.lower.shape[3] - 1
    for k, (low, high) in enumerate(bounds):
        assert (found.lower[:, :, 2 + k, :known] == low).all() and (found.upper[:, :, 2 + k, :known] == high).all()
        assert np.allclose(found.center[:3, :, 2 + k, known], 0.5 * (low + high))
    assert (found.low[2:] == bounds[:, 0]).all() and (found.high[2:] == bounds[:, 1]).all()


@pytest.mark.parametrize("parts", [{}, {"states": True}, {"signals": True}])
def test_scores_differ_as_likelihoods_of_single_episodes_do(parts: dict[str, bool], rng: np.random.Generator) -> None:
    """With the covariances that the scatter about each mean gives, written out here a second time."""
    one, table = estimate(world(**parts))
    policies, columns, values = episodes(rng, table, 150)
    one.update(policies, columns, values[:, :2], values[:, 2:] if parts.get("signals") else None, None)
    kinds = sorted(set(zip(policies.tolist(), columns.tolist())))
    own = {kind: values[(policies == kind[0]) & (columns == kind[1])] for kind in kinds}
    freedom = sum(len(part) - 1 for part in own.values())
    scatter = {kind: np.cov(part.T) * (len(part) - 1) for kind, part in own.items()}
    pooled = sum(scatter.values()) / freedom + np.diag((LEAST_SCATTER * (table.high - table.low)) ** 2)
    wanted = np.zeros(3)
    for (j, b), part in own.items():
        covariance = (scatter[j, b] + SHRINKAGE * pooled) / (len(part) - 1 + SHRINKAGE)
        for k in range(3):
            wanted[k] += multivariate_normal(table.center[k, j, :, b], covariance).logpdf(part).sum()
    np.testing.assert_allclose(np.diff(one.scores()), np.diff(wanted), rtol=1e-6)
    assert one.posterior()[1] > 0.99


@pytest.mark.parametrize("huge", [1e8, 1e160])
def test_costs_beyond_all_bounds_drown_nothing(huge: float, rng: np.random.Generator) -> None:
    """They are a matter for alarms. Two constraints that report the same number would make scatters singular."""
    reward = np.array([[3.0, 4.0], [3.2, 4.5], [3.4, 5.0]])
    cost = np.repeat(np.array([[1.0, 1.6], [0.9, 1.3], [0.8, 1.1]])[:, :, None], 2, axis=2)
    one, table = estimate(hand_made(reward, cost, limits=(1.5, 1.5), ceilings=(10.0, 10.0)))
    policies, columns, values = episodes(rng, table, 300, cell=2)
    values[7, 1:] = huge
    one.update(policies, columns, values, None, None)
    assert one.posterior().argmax() == 2 and np.isfinite(one.scores()).all()


def test_transitions_that_no_cell_knows_say_nothing(rng: np.random.Generator) -> None:
    one, table = estimate(world(kernel=True))
    policies, columns, values = episodes(rng, table, 10)
    rows = np.array([[0, 0, 1, 2], [0, 1, 2, 50], [3, 0, 1, 50], [0, 0, 2, 3], [9, 9, 9, 50], [2**22, 0, 1, 50]])
    one.update(policies, columns, values, None, rows)
    assert one.moves.tolist() == [2, 3]


def test_transitions_count_alone_where_they_are_told(rng: np.random.Generator) -> None:
    one, table = estimate(world(kernel=True))
    policies, columns, values = episodes(rng, table, 40, cell=0)
    rows = np.array([[0, 0, 1, 70], [0, 0, 2, 30]])
    one.update(policies, columns, values, None, rows)
    one.update(policies, columns, values, None, None)  # half of the episodes
    wanted = 70 * np.log([0.3, 0.5, 0.7]) + 30 * np.log([0.7, 0.5, 0.3])
    np.testing.assert_allclose(one.scores(), wanted)
    assert one.posterior().argmax() == 2
    one.update(policies[:1], columns[:1], values[:1], None, None)
    assert one.posterior().argmax() == 0, "fewer than half: outcomes decide"


def test_how_reports_are_batched_changes_nothing(rng: np.random.Generator) -> None:
    (whole, table), (parts, _) = estimate(world(states=True)), estimate(world(states=True))
    policies, columns, values = episodes(rng, table, 60)
    whole.update(policies, columns, values, None, None)
    for k in range(60):
        parts.update(policies[k : k + 1], columns[k : k + 1], values[k : k + 1], None, None)
    np.testing.assert_array_equal(whole.scores(), parts.scores())


def test_before_anything_is_known_all_cells_weigh_the_same() -> None:
    one, _ = estimate(world())
    assert one.posterior().tolist() == [1 / 3] * 3
    one.update(np.array([1]), np.array([0]), np.array([[9.0, 0.1]]), None, None)
    assert one.posterior().tolist() == [1 / 3] * 3, "a scatter takes more than one episode"


def test_outcomes_that_do_not_vary_are_no_certainty() -> None:
    one, table = estimate(world())
    exact = np.tile(table.center[2, 1, :, 0] + 1e-3, (50, 1))
    one.update(np.ones(50, dtype=int), np.zeros(50, dtype=int), exact, None, None)
    scores = one.scores()
    assert np.isfinite(scores).all() and scores.argmax() == 2
    for _ in range(3):
        one.update(np.ones(10_000, dtype=int), np.zeros(10_000, dtype=int), np.tile(exact[:1], (10_000, 1)), None, None)
    gap, least = table.center[2, 1, :, 0] + 1e-3 - table.center[:3, 1, :, 0], LEAST_SCATTER * (table.high - table.low)
    np.testing.assert_allclose(one.scores(), -0.5 * 30_050 * ((gap / least) ** 2).sum(axis=1), rtol=1e-5)


def test_a_signal_that_is_missing_once_is_not_used_again(rng: np.random.Generator) -> None:
    one, table = estimate(world(signals=True))
    bare, _ = estimate(world())
    policies, columns, values = episodes(rng, table, 80)
    for first, signals in ((0, values[:40, 2:]), (40, None), (60, values[60:, 2:])):
        last = {0: 40, 40: 60, 60: 80}[first]
        one.update(policies[first:last], columns[first:last], values[first:last, :2], signals, None)
    bare.update(policies, columns, values[:, :2], None, None)
    np.testing.assert_allclose(one.scores(), bare.scores(), rtol=1e-9)


def test_a_signal_tells_tasks_apart_that_returns_do_not(rng: np.random.Generator) -> None:
    flat = hand_made(
        np.full((3, 2), 4.0),
        np.ones((3, 2, 1)),
        signals=SignalPredictions(
            ("speed",), np.array([[0.0, 1.0]]), np.array([[0.2] * 2, [0.4] * 2, [0.6] * 2])[:, :, None],
            np.array([[0.3] * 2, [0.5] * 2, [0.7] * 2])[:, :, None],
        ),
    )  # fmt: skip
    for told, sure in ((True, True), (False, False)):
        one, table = estimate(flat)
        policies, columns, values = episodes(rng, table, 200, cell=2)
        signals: Any = values[:, 2:] if told else None
        one.update(policies, columns, values[:, :2], signals, None)
        assert (one.posterior()[2] > 0.99) == sure
