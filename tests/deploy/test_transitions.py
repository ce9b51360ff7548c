"""Transition evidence: every factor is an e-variable for the *whole* box (judged by linear programs), supports may differ, nothing becomes NaN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.special import logsumexp

from surefoot import PolicySet
from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.evidence.alternatives import Alternatives, choose_alternatives
from surefoot.deploy.evidence.transitions import TransitionWealth, encode, log_average, log_ratios
from surefoot.policyset.schema import Cells, KernelBoxes
from surefoot.stats.binomial import rate_test
from tests.deploy.mutants import against_centre, against_training_tasks, groups_of, kernel_of, points_of
from tests.deploy.worlds import box_cells, random_member, vertex_towards

seeds = st.integers(0, 10**6)
LP_TOLERANCE = 1e-6


def everybody(cells: Cells) -> Alternatives:
    """All points are alternatives of all cells (a cell of itself too), equally weighted."""
    count = len(points_of(cells))
    index = np.tile(np.arange(count), (len(cells), 1))
    return Alternatives(index, np.full(index.shape, -np.log(count)))


def ratios(cells: Cells) -> tuple[FloatArray, Alternatives]:
    alternatives = everybody(cells)
    return log_ratios(cells, alternatives), alternatives


def supremum(value: FloatArray, lower: FloatArray, upper: FloatArray) -> float:
    """``max sum P value`` over the box within the simplex, by a linear program (feasible to 1e-7)."""
    answer = linprog(-value, A_eq=np.ones((1, value.size)), b_eq=[1.0], bounds=list(zip(lower, upper)), method="highs")
    return float(-answer.fun)


def worst_factor(cells: Cells, table: FloatArray) -> float:
    """The largest expected factor over all pairs, rows and kernels in the boxes; a table (E, N, R) of logarithms."""
    kernel, worst = kernel_of(cells), 0.0
    for mine in groups_of(cells):
        for i in range(len(cells)):
            for r in range(table.shape[2]):
                value = np.where(kernel.upper[i, mine] > 0.0, np.exp(np.minimum(table[mine, i, r], 700.0)), 0.0)
                worst = max(worst, supremum(value, kernel.lower[i, mine], kernel.upper[i, mine]))
    return worst


@settings(max_examples=25)
@given(seeds, st.sampled_from([0.0, 0.3, 0.6]), st.sampled_from([0.01, 0.2, 1.0]))
@pytest.mark.statistical
def test_the_mean_factor_is_at_most_one_for_every_kernel_in_the_box(seed: int, holes: float, width: float) -> None:
    cells = box_cells(np.random.default_rng(seed), cells=2, outside=1, holes=holes, width=width)
    assert worst_factor(cells, ratios(cells)[0]) <= 1.0 + LP_TOLERANCE


@settings(max_examples=25)
@given(seeds, st.sampled_from([0.0, 0.4]), st.sampled_from([0.01, 0.2]))
@pytest.mark.statistical
def test_no_wealth_is_given_away(seed: int, holes: float, width: float) -> None:
    """Some kernel in the box makes the mean as large as what the cell allows of the alternative: nothing was divided out for nothing."""
    cells = box_cells(np.random.default_rng(seed), cells=2, outside=1, holes=holes, width=width)
    kernel, points = kernel_of(cells), points_of(cells)
    table, alternatives = ratios(cells)
    for mine in groups_of(cells):
        for i in range(len(cells)):
            for r, p in enumerate(alternatives.index[i]):
                possible = kernel.upper[i, mine] > 0.0
                value = np.where(possible, np.exp(np.minimum(table[mine, i, r], 700.0)), 0.0)
                assert (
                    supremum(value, kernel.lower[i, mine], kernel.upper[i, mine])
                    >= points[p, mine][possible].sum() - 1e-7
                )


@settings(max_examples=40)
@given(seeds, st.sampled_from([0.01, 0.2, 1.0]))
@pytest.mark.statistical
def test_the_rate_under_the_rival_is_the_smallest_divergence_to_the_box(seed: int, width: float) -> None:
    """``E_Q log factor = KL(Q || P*) <= KL(Q || P)`` for every P in the box: the bet cannot promise more, and P* is in the box."""
    rng = np.random.default_rng(seed)
    cells = box_cells(rng, cells=2, outside=1, holes=0.0, width=width)
    kernel, points = kernel_of(cells), points_of(cells)
    table, alternatives = ratios(cells)
    for mine in groups_of(cells):
        for i in range(len(cells)):
            lower, upper = kernel.lower[i, mine], kernel.upper[i, mine]
            for r, p in enumerate(alternatives.index[i]):
                alternative = points[p, mine]
                rate = float(alternative @ table[mine, i, r])
                nearest = alternative / np.exp(table[mine, i, r])
                assert abs(nearest.sum() - 1.0) < 1e-7
                assert (nearest >= lower - 1e-7).all() and (nearest <= upper + 1e-7).all()
                for _ in range(5):
                    other = random_member(lower, upper, rng)
                    assert rate <= float(alternative @ np.log(alternative / np.maximum(other, 1e-300))) + 1e-7


def test_a_rival_inside_the_box_gains_nothing(rng: np.random.Generator) -> None:
    cells = box_cells(rng, holes=0.0)
    table, alternatives = ratios(cells)
    own = np.array([table[:, i, int(np.flatnonzero(alternatives.index[i] == i)[0])] for i in range(len(cells))])
    np.testing.assert_allclose(own, 0.0, atol=1e-9)


# What goes wrong without the box: two mutants of the reference law, judged by the same linear program and by simulation.


def test_mutants_without_the_whole_box_are_no_e_variables(rng: np.random.Generator) -> None:
    cells = box_cells(rng, holes=0.0)
    assert worst_factor(cells, against_centre(cells)) > 1.1
    assert worst_factor(cells, against_training_tasks(cells, rng)) > 1.02


DELTA, RUNS, STEPS = 0.1, 4000, 300


def crossings(cells: Cells, i: int, table: FloatArray, rng: np.random.Generator) -> int:
    """Runs in which cell i is rejected although every row of the kernel is in its box, as much against it as possible.

    The (s, a) visited are chosen at random; the evidence promises validity whatever is visited.
    """
    kernel, n_alternatives = kernel_of(cells), table.shape[2]
    rows = groups_of(cells)
    # A transition's factor under the average over alternatives, near the start, is the average of the factors.
    wish = np.exp(table[:, i]).mean(axis=1)
    truth = [vertex_towards(wish[mine], kernel.lower[i, mine], kernel.upper[i, mine]) for mine in rows]
    wealth, active = np.zeros((RUNS, n_alternatives)), np.ones(RUNS, dtype=bool)
    for _ in range(STEPS):
        g = int(rng.integers(len(rows)))
        seen = rows[g][np.searchsorted(np.cumsum(truth[g])[:-1], rng.random(RUNS), side="right")]
        wealth += table[seen, i]
        active &= logsumexp(wealth, axis=1) - np.log(n_alternatives) < -np.log(DELTA)
    return int((~active).sum())


@pytest.fixture(scope="module")
def tempting() -> Cells:
    """Two cells, and as tasks outside kernels whose rows are vertices of their boxes: the alternatives that a true cell can look most like."""
    rng = np.random.default_rng(3)
    cells = box_cells(rng, cells=2, outside=4, holes=0.0, width=0.15)
    kernel, far = kernel_of(cells), np.zeros((4, len(kernel_of(cells).support)))
    for k in range(4):
        for mine in groups_of(cells):
            far[k, mine] = vertex_towards(rng.random(mine.size), kernel.lower[k % 2, mine], kernel.upper[k % 2, mine])
    assert cells.outside is not None
    return replace(cells, outside=replace(cells.outside, kernel=far))


@pytest.mark.statistical
def test_a_true_cell_is_refuted_at_most_at_its_level(tempting: Cells) -> None:
    table, _ = ratios(tempting)
    rng = np.random.default_rng(0)
    for i in range(len(tempting)):
        assert rate_test(crossings(tempting, i, table, rng), RUNS, DELTA) > 1e-3


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [against_centre, lambda c: against_training_tasks(c, np.random.default_rng(1))])
def test_the_simulation_convicts_mutants(tempting: Cells, mutant: Callable[[Cells], FloatArray]) -> None:
    rng = np.random.default_rng(0)
    table = mutant(tempting)
    assert any(rate_test(crossings(tempting, i, table, rng), RUNS, DELTA) < 1e-3 for i in range(len(tempting)))


# The accumulated evidence.


def evidence(cells: Cells) -> TransitionWealth:
    table, alternatives = ratios(cells)
    return TransitionWealth(cells, table, alternatives)


def report(cells: Cells, counts: Any) -> IntArray:
    """Rows ``(s, a, s', count)`` of the support with these counts (E,)."""
    rows: IntArray = np.column_stack([kernel_of(cells).support, np.asarray(counts, dtype=np.int64)])
    return rows[rows[:, 3] > 0]


ALL = np.ones(3, dtype=bool)


@settings(max_examples=40)
@given(seeds)
def test_counts_are_summed_whatever_the_order_and_the_batches(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = box_cells(rng, holes=0.0)
    counts = rng.integers(0, 4, len(kernel_of(cells).support))
    whole, parts = evidence(cells), evidence(cells)
    whole.update(report(cells, counts), ALL)
    single = np.repeat(np.arange(counts.size), counts)
    for e in rng.permutation(single):
        parts.update(report(cells, np.arange(counts.size) == e), ALL)
    expected = np.einsum("e,enr->nr", counts, ratios(cells)[0])
    np.testing.assert_allclose(whole.log_wealth, expected, atol=1e-9)
    np.testing.assert_allclose(parts.log_wealth, expected, atol=1e-9)
    np.testing.assert_allclose(whole.log_mean(), logsumexp(expected, axis=1) - np.log(expected.shape[1]), atol=1e-9)


def test_dropping_dead_cells_changes_nothing_for_the_living(rng: np.random.Generator) -> None:
    cells = box_cells(rng, cells=9, holes=0.2)
    one, two = evidence(cells), evidence(cells)
    active = np.ones(9, dtype=bool)
    for _ in range(9):
        counts = rng.integers(0, 3, len(kernel_of(cells).support)) * (rng.random(len(kernel_of(cells).support)) < 0.4)
        one.update(report(cells, counts), active)
        two.update(report(cells, counts), np.ones(9, dtype=bool))
        np.testing.assert_array_equal(one.log_wealth[active], two.log_wealth[active])
        np.testing.assert_array_equal(one.impossible[active], two.impossible[active])
        active[rng.permutation(9)[:1]] = False
    assert one._ratios.shape[1] < 5, "dead cells must have been dropped for this test to mean something"


def exclusive() -> Cells:
    """Three cells on one (s, a) with successors 0, 1, 2: cell 0 excludes 2, cell 1's centre lacks 2 but its box does not, cell 2 has all."""
    rng = np.random.default_rng(0)
    base = box_cells(rng, cells=3, outside=0)
    support = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2]])
    center = np.array([[0.5, 0.5, 0.0], [0.6, 0.4, 0.0], [0.2, 0.3, 0.5]])
    lower, upper = np.maximum(center - 0.1, 0.0), np.minimum(center + 0.1, 1.0)
    upper[0, 2] = 0.0
    return Cells(
        base.policy_index, base.optimal_center, base.optimal_upper, base.parameters, base.predictions,
        kernel=KernelBoxes(support, lower, upper, center),
    )  # fmt: skip


def test_a_transition_outside_the_support_of_the_box_kills_the_cell_alone() -> None:
    cells = exclusive()
    found = evidence(cells)
    found.update(np.array([[0, 0, 2, 1]]), ALL)
    assert found.impossible.tolist() == [True, False, False]
    assert np.isfinite(found.log_mean()[1:]).all()


def test_a_rival_that_excludes_what_happened_loses_its_wealth_and_nothing_else_does() -> None:
    cells = exclusive()
    found = evidence(cells)
    found.update(np.array([[0, 0, 2, 1]]), ALL)
    assert np.isneginf(found.log_wealth[2, :2]).all(), "rivals 0 and 1 exclude successor 2"
    assert found.log_wealth[1, 2] > np.log(4.0), "cell 1 allows it a tenth, the rival predicts a half"
    assert not found.impossible[1:].any()


@pytest.mark.parametrize("count", [1, 5, 10**9])
def test_infinities_of_both_signs_in_one_report_do_not_meet(count: int) -> None:
    """Successor 2 is impossible in cell 0 and lets alternatives 0 and 1 lose everything; successor 0 is ordinary."""
    cells = exclusive()
    found = evidence(cells)
    for _ in range(3):
        found.update(np.array([[0, 0, 2, count], [0, 0, 0, count], [0, 0, 1, count]]), ALL)
        assert not np.isnan(found.log_wealth).any()
        assert not np.isnan(found.log_mean()).any()
    assert found.impossible.tolist() == [True, False, False]


@pytest.mark.parametrize(
    "row",
    [
        [0, 0, 3, 1],
        [0, 1, 0, 1],
        [1, 0, 0, 1],
        [0, 0, 1 << 21, 1],
        [0, 0, 1 << 62, 1],
        [0, 1 << 40, 0, 1],
        [1 << 22, 0, 0, 1],
    ],
)
def test_a_transition_that_no_cell_knows_kills_all(row: list[int]) -> None:
    found = evidence(exclusive())
    found.update(np.array([row]), ALL)
    assert found.impossible.all()


def test_keys_of_huge_states_do_not_alias_known_ones() -> None:
    """Without a bound (0, 0, 2^21) would read as (0, 1, 0), which is a known transition here."""
    cells = box_cells(np.random.default_rng(0))
    assert encode(np.array([[0, 0, 1 << 21]])) == encode(np.array([[0, 1, 0]]))
    found = evidence(cells)
    found.update(np.array([[0, 0, 1 << 21, 1]]), ALL)
    assert found.impossible.all()


@pytest.mark.parametrize(
    "rows", [np.zeros((0, 4), dtype=np.int64), np.array([[0, 0, 2, 0], [0, 0, 1, 0], [5, 5, 5, 0]])]
)
def test_what_was_counted_zero_times_did_not_happen(rows: IntArray) -> None:
    found = evidence(exclusive())
    found.update(rows, ALL)
    assert not found.impossible.any()
    np.testing.assert_array_equal(found.log_wealth, 0.0)


def test_what_is_forfeited_stays_forfeited_but_impossible_stays_impossible() -> None:
    found = evidence(exclusive())
    found.forfeit()
    found.update(np.array([[0, 0, 0, 3]]), ALL)
    assert np.isneginf(found.log_mean()).all()
    found.update(np.array([[0, 0, 2, 1]]), ALL)
    assert found.impossible.tolist() == [True, False, False]
    assert np.isneginf(found.log_mean()).all()


def test_nothing_is_left_to_update_when_all_cells_are_dead() -> None:
    found = evidence(exclusive())
    found.update(np.array([[0, 0, 0, 3]]), ~ALL)
    assert not np.isnan(found.log_mean()).any()


def test_cells_without_kernel_are_refused(rng: np.random.Generator) -> None:
    cells = box_cells(rng)
    bare = Cells(cells.policy_index, cells.optimal_center, cells.optimal_upper, cells.parameters, cells.predictions)
    with pytest.raises(ValueError, match="no kernel"):
        log_ratios(bare, everybody(cells))
    with pytest.raises(ValueError, match="no kernel"):
        TransitionWealth(bare, np.zeros((1, 3, 1)), everybody(cells))


@settings(max_examples=60)
@given(seeds)
def test_averages_of_wealth_agree_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logs = rng.normal(scale=10.0 ** rng.integers(0, 4), size=(4, 6))
    logs[rng.random(logs.shape) < 0.3] = -np.inf
    weights = rng.dirichlet(np.ones(6), size=4)
    weights[rng.random(weights.shape) < 0.2] = 0.0
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights)
        expected = logsumexp(logs, b=weights, axis=1)
    np.testing.assert_allclose(log_average(logs, log_weights), expected, rtol=1e-12, atol=1e-12)


def test_the_trained_cells_of_the_gridworld_hold_their_boxes(deploy_set: PolicySet) -> None:
    """The ratios the agent uses: sampled pairs of cell, alternative and row, by linear programs."""
    cells = deploy_set.cells
    alternatives = choose_alternatives(cells, 1.5, 0.97, 0.006)
    table = log_ratios(cells, alternatives)
    rng, rows, kernel = np.random.default_rng(0), groups_of(cells), kernel_of(cells)
    assert not np.isnan(table).any()
    for _ in range(60):
        mine, i, r = rows[rng.integers(len(rows))], int(rng.integers(len(cells))), int(rng.integers(table.shape[2]))
        value = np.where(kernel.upper[i, mine] > 0.0, np.exp(table[mine, i, r]), 0.0)
        largest = supremum(value, kernel.lower[i, mine], kernel.upper[i, mine])
        assert largest <= 1.0 + LP_TOLERANCE
        assert largest >= 0.99


def test_validity_does_not_rest_on_the_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    """With any positive reference law the penalty alone makes the factor fair; here the reference is the wrong law on purpose."""
    import surefoot.deploy.evidence.transitions as module

    cells = box_cells(np.random.default_rng(1), holes=0.0)
    kernel, alternatives = kernel_of(cells), everybody(cells)
    edges = np.r_[[mine[0] for mine in groups_of(cells)], len(kernel.support)].astype(np.int64)

    def careless(alternative: FloatArray, lower: FloatArray, upper: FloatArray, out: FloatArray) -> None:
        out[:] = 0.5 * (lower + upper)

    monkeypatch.setattr(module, "_project", careless)
    table = module._log_ratios.py_func(kernel.lower, kernel.upper, points_of(cells), alternatives.index, edges)
    assert worst_factor(cells, table) <= 1.0 + LP_TOLERANCE
    assert worst_factor(cells, table) >= 1.0 - LP_TOLERANCE
