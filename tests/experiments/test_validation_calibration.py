"""Calibration: truths stand where they are said to, sound evidence passes, and evidence that forgets the box is caught."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surefoot import PolicySet, Simulator
from surefoot.deploy.evidence import Evidence
from surefoot.deploy.evidence.predictions import PredictionTable
from surefoot.deploy.report import Report
from surefoot.experiments.validation.calibration import (
    MaxWealth,
    Null,
    _watch_outcomes,
    _watch_task,
    find_nulls,
    log_wealths,
    run_null,
    two_point,
    vertex_means,
    vertex_task,
)
from surefoot.experiments.validation.summary import calibration_rows
from surefoot.experiments.validation.truth import library_tables
from surefoot.policy import Mixture
from tests.experiments.validation_worlds import WORLD, small_atlas, small_set, small_world

pytestmark = pytest.mark.statistical


def table_of(policy_set: PolicySet) -> PredictionTable:
    return PredictionTable.of(policy_set, np.asarray(policy_set.bounds.cost_ceilings))


def points_only(policy_set: PolicySet) -> PolicySet:
    """The mutant that takes every cell for its centre: boxes without extent."""
    cells = policy_set.cells
    middle = cells.predictions
    thin = replace(
        middle, reward_lower=middle.reward_center, reward_upper=middle.reward_center,
        cost_lower=middle.cost_center, cost_upper=middle.cost_center,
    )  # fmt: skip
    kernel = cells.kernel
    assert kernel is not None
    return replace(
        policy_set,
        cells=replace(
            cells, predictions=thin, conditional=None, outside=None,
            kernel=replace(kernel, lower=kernel.center, upper=kernel.center),
        ),
    )  # fmt: skip


def without_conditional(policy_set: PolicySet) -> PolicySet:
    return replace(policy_set, cells=replace(policy_set.cells, conditional=None, outside=None))


def crossings(found: list[dict[str, float]], kind: str, delta: float = 0.05) -> int:
    return sum(peaks[kind] >= -math.log(delta) for peaks in found)


def test_every_position_is_tried_with_true_cells() -> None:
    nulls = find_nulls(small_world(), small_atlas(), 5, 0)
    assert {n.position for n in nulls} == {"inside", "edges", "vertices", "vertices by initial state"}
    for null in nulls:
        assert null.towards != null.cell
        if null.position in ("inside", "edges"):
            assert null.cell in small_atlas().truth(np.asarray(null.parameters)).cells
    assert [n.run for n in nulls[:5]] == list(range(5))


def test_runs_are_reproducible_and_independent_of_their_neighbours() -> None:
    nulls = find_nulls(small_world(), small_atlas(), 2, 0)
    together = run_null(small_world(), nulls, 60, 0)
    alone = [run_null(small_world(), [n], 60, 0)[0] for n in nulls]
    assert together == alone
    assert run_null(small_world(), nulls[:1], 60, 1) != together[:1]


def test_vertex_kernels_are_vertices_of_the_box_within_the_simplex() -> None:
    kernel = small_set().cells.kernel
    assert kernel is not None
    task = vertex_task(WORLD.cmdp(0.3), kernel, 2, 5)
    state, action, successor = kernel.support.T
    row = task.dense[state, action, successor]
    assert ((row >= kernel.lower[2] - 1e-12) & (row <= kernel.upper[2] + 1e-12)).all()
    group = state * 4 + action
    between = (row > kernel.lower[2] + 1e-12) & (row < kernel.upper[2] - 1e-12)
    assert np.bincount(group, weights=between).max() <= 1, "a vertex has at most one coordinate off the box's faces"
    toward, centre = kernel.center[5], kernel.center[2]
    gain = np.bincount(group, weights=(row - centre) * toward / centre)
    assert (gain > -1e-12).all() and gain.max() > 1e-4


def test_vertex_means_lie_on_corners_on_the_side_of_the_other_cell(rng: np.random.Generator) -> None:
    table = table_of(small_set())
    means = vertex_means(table, 1, 6, rng)
    lower, upper = (np.clip(box[1], table.low[:, None], table.high[:, None]) for box in (table.lower, table.upper))
    assert ((means == lower) | (means == upper)).all()
    above = table.center[6] > upper
    assert above.any() and (means[above] == upper[above]).all()


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_two_point_laws_have_exactly_the_stated_means(narrow: bool, together: bool, rng: np.random.Generator) -> None:
    low, high = np.array([0.0, 0.0]), np.array([100.0, 90.0])
    means = np.broadcast_to(np.array([50.0, 1.3]), (200_000, 2))
    drawn = two_point(means, low, high, narrow, together, rng)
    assert ((drawn >= low) & (drawn <= high)).all()
    error = drawn.std(axis=0) / math.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - means[0]) < 5 * error + 1e-12).all()
    if not narrow:
        assert set(np.unique(drawn[:, 1])) == {0.0, 90.0}
    np.testing.assert_array_equal(two_point(np.array([[0.0, 90.0]]), low, high, narrow, together, rng), [[0.0, 90.0]])


def test_the_average_that_decides_is_the_weighted_average_of_the_parts() -> None:
    policy_set = small_set()
    evidence = Evidence(policy_set, "returns", 0.5, np.asarray(policy_set.bounds.cost_ceilings))
    simulator = Simulator(WORLD.cmdp(0.34), library_tables(policy_set.policies))
    for first in (0, 50, 100):
        index = np.arange(50) % len(policy_set.policies)
        seen = simulator.run(index, seed=3, first_episode=first)
        told = Report(np.arange(first, first + 50), seen.returns, seen.costs, seen.initial_states, drawn=index)
        evidence.settle(told, [(evidence.bets(), np.arange(50))])
    wealth = log_wealths(evidence, "returns", 0)
    shares = evidence.weights
    expected = shares["joint"] * math.exp(wealth["joint"]) + shares["separate"] * math.exp(wealth["separate"])
    assert wealth["returns"] == pytest.approx(math.log(expected))
    evidence.watched[0] = False
    assert log_wealths(evidence, "returns", 0) == {"returns": math.inf}


def cell_and_cheaper_neighbour() -> tuple[int, int]:
    """A cell in the middle, and the next one with less noise: most bets are laid on cheaper cells."""
    order = np.argsort(small_set().cells.parameters[:, 0])
    return int(order[4]), int(order[3])


def outcomes_at_vertices(policy_set: PolicySet, runs: int, episodes: int) -> list[dict[str, float]]:
    """Wealth of one cell of ``policy_set`` when means are vertices of the true boxes."""
    true, found = table_of(without_conditional(small_set())), []
    cell, towards = cell_and_cheaper_neighbour()
    mixture = Mixture(np.full(len(policy_set.policies), 1.0 / len(policy_set.policies)))
    for run in range(runs):
        null = Null("vertices", cell, (0.3,), towards, run)
        found.append(_watch_outcomes(policy_set, true, null, mixture, episodes, np.random.default_rng([7, run])))
    return found


def test_bets_that_forget_the_box_of_values_are_caught_and_ours_pass() -> None:
    ours = outcomes_at_vertices(without_conditional(small_set()), 20, 2500)
    mutant = outcomes_at_vertices(points_only(small_set()), 20, 2500)
    for kind in ("joint", "returns"):
        assert crossings(ours, kind) <= 5  # P(Bin(20, .05) > 5) = .0003
        assert crossings(mutant, kind) >= 6


def walks_at_vertices(policy_set: PolicySet, runs: int, episodes: int) -> list[dict[str, float]]:
    kernel, (cell, towards) = small_set().cells.kernel, cell_and_cheaper_neighbour()
    assert kernel is not None
    mixture = Mixture(np.full(len(policy_set.policies), 1.0 / len(policy_set.policies)))
    simulator = Simulator(vertex_task(WORLD.cmdp(0.3), kernel, cell, towards), library_tables(policy_set.policies))
    streams = [np.random.default_rng([8, run]) for run in range(runs)]
    return [_watch_task(policy_set, cell, simulator, mixture, episodes, run, rng) for run, rng in enumerate(streams)]


def test_transition_bets_that_forget_the_kernel_box_are_caught_and_ours_pass() -> None:
    ours, mutant = walks_at_vertices(small_set(), 16, 2500), walks_at_vertices(points_only(small_set()), 16, 2500)
    assert crossings(ours, "transitions") <= 4  # P(Bin(16, .05) > 4) = .0009
    assert crossings(mutant, "transitions") >= 5


def test_rows_count_crossings_at_every_level_and_not_a_number_is_a_crossing() -> None:
    peaks: list[Any] = [MaxWealth("edges", {"joint": value}) for value in (0.0, 3.1, math.inf, math.nan)]
    (row,) = calibration_rows(peaks, 0.05)
    assert (row["kind"], row["position"], row["status"], row["runs"]) == ("joint", "edges", "judged", 4)
    assert (row["crossings"]["count"], row["crossings"]["allowed"], row["passed"]) == (3, 0.05, False)
    assert dict(map(tuple, row["curve"]))[0.03] == 0.5
