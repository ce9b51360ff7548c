"""Column generation: the same answers as every other way of solving, and a certificate that refuses what is wrong."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from surefoot import TabularCMDP, evaluate, evaluate_many, solve
from surefoot.arrays import FloatArray
from surefoot.solvers import MixtureProof, check_mixture, linear_program
from surefoot.solvers.certificate import check_least_excess
from surefoot.solvers.columns import ColumnProgram
from surefoot.tasks import NoisyGridworld
from tests.models import cmdps, fork, hull_optimum, iterate_values, one_state, random_cmdp
from tests.refusals import refused

seeds = st.integers(0, 2**32)


def sparse_cmdp(
    seed: int, states: int, constraints: int = 1, actions: int = 3, discount: float = 0.9, tightness: float = 0.5
) -> TabularCMDP:
    """Few successors per row; limits between what the cheapest and the best policy cost."""
    rng = np.random.default_rng(seed)
    following = rng.integers(0, states, (states * actions, 4))
    weights = rng.dirichlet(np.ones(4), states * actions)
    kernel = csr_matrix(
        (weights.reshape(-1), following.reshape(-1), np.arange(0, 4 * states * actions + 1, 4)),
        shape=(states * actions, states),
    )
    costs = rng.random((constraints, states, actions))
    rewards, start = rng.normal(size=(states, actions)), rng.dirichlet(np.ones(states))
    cmdp = TabularCMDP(kernel, rewards, costs, np.ones(constraints), start, discount)
    if constraints:
        best = solve(cmdp.with_limits(np.full(constraints, 1e6)), "columns").costs
        cheap = solve(cmdp.with_reward_only(-costs.sum(axis=0)), "columns").policy
        cmdp = cmdp.with_limits((1.0 - tightness) * evaluate(cmdp, cheap).costs + tightness * best)
    return cmdp


def agree(cmdp: TabularCMDP, gap: float = 1e-8) -> None:
    """Columns against the occupancy program, and the stationary policy against the mixture."""
    one, two = solve(cmdp, "occupancy"), solve(cmdp, "columns", gap=gap)
    assert two.status == one.status
    unit = max(1.0, abs(one.bound)) if one.status == "optimal" else 1.0
    assert two.mixture is not None
    assert len(two.mixture.weights) <= 1 + cmdp.n_constraints
    values = two.mixture.weights @ evaluate_many(cmdp, _tables(two.mixture.actions, cmdp.n_actions))
    np.testing.assert_allclose(evaluate_many(cmdp, two.policy)[0], values, rtol=1e-8, atol=1e-10)
    if one.status == "optimal":
        assert two.value == pytest.approx(one.value, abs=2e-7 * unit)
        assert two.value == pytest.approx(float(values[0]), abs=1e-9 * unit)
        assert one.value <= two.bound + 1e-7 * unit
        assert two.excess <= 1e-9
    else:
        assert two.excess == pytest.approx(one.excess, abs=1e-6)


def _tables(actions: Any, n_actions: int) -> FloatArray:
    table: FloatArray = np.eye(n_actions)[np.asarray(actions)]
    return table


@given(cmdps(max_constraints=3))
def test_columns_agree_with_the_occupancy_program(cmdp: TabularCMDP) -> None:
    agree(cmdp)


@given(seeds, st.integers(0, 2))
def test_columns_agree_with_the_hull_of_all_policies(seed: int, constraints: int) -> None:
    cmdp = random_cmdp(np.random.default_rng(seed), states=3, actions=2, constraints=constraints)
    solution, expected = solve(cmdp, "columns"), hull_optimum(cmdp)
    assert (solution.status == "optimal") == np.isfinite(expected)
    if solution.status == "optimal":
        assert solution.value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("constraints", [0, 1, 2, 3])
@pytest.mark.parametrize("discount", [0.5, 0.99])
def test_sparse_models_of_some_hundred_states(constraints: int, discount: float) -> None:
    agree(sparse_cmdp(constraints, 150, constraints, discount=discount))


@pytest.mark.parametrize("constraints", [1, 2, 3])
def test_infeasible_limits_are_proved_infeasible(constraints: int) -> None:
    cmdp = sparse_cmdp(7, 120, constraints)
    solution = solve(cmdp.with_limits(0.05 * cmdp.cost_limits), "columns")
    assert solution.status == "infeasible"
    assert (solution.gap, solution.bound) == (np.inf, -np.inf)
    agree(cmdp.with_limits(0.05 * cmdp.cost_limits))


@given(seeds, st.sampled_from([1e-5, -1e-5, 1e-7]))
def test_the_edge_of_feasibility_is_found(seed: int, relative: float) -> None:
    cmdp = random_cmdp(np.random.default_rng(seed), states=4, actions=2)
    least = iterate_values(cmdp, cmdp.costs[0], largest=False)
    solution = solve(cmdp.with_limits([(1.0 + relative) * least]), "columns")
    assert solution.status == ("optimal" if relative > 0 else "infeasible")


def test_the_edge_itself_is_feasible() -> None:
    solution = solve(one_state([0.0, 1.0, 2.0], [[1.0, 1.0, 2.0]], [10.0]), "columns")
    assert solution.status == "optimal"
    assert solution.value == pytest.approx(10.0, rel=1e-6)


def test_ties_everywhere() -> None:
    """All actions alike, all rewards alike: nothing turns in circles."""
    kernel = np.full((6, 3, 6), 1.0 / 6.0)
    cmdp = TabularCMDP(kernel, np.ones((6, 3)), np.ones((1, 6, 3)), [10.0], np.full(6, 1.0 / 6.0), 0.9)
    solution = solve(cmdp, "columns")
    assert (solution.status, solution.value) == ("optimal", pytest.approx(10.0))
    # A choice that nothing depends on, beside one that matters.
    costs = np.zeros((1, 6, 3))
    costs[0, 0] = [0.0, 1.0, 1.0]
    rewards = np.zeros((6, 3))
    rewards[0] = [0.0, 1.0, 1.0]
    agree(TabularCMDP(kernel, rewards, costs, [0.5], np.full(6, 1.0 / 6.0), 0.9))


def test_disconnected_and_absorbing_parts() -> None:
    """Two copies of a task that never meet, one of them never visited, and a state that leads nowhere."""
    part = random_cmdp(np.random.default_rng(3), states=5, actions=2)
    kernel = np.zeros((11, 2, 11))
    kernel[:5, :, :5] = kernel[5:10, :, 5:10] = part.dense
    kernel[10, :, 10] = 1.0
    rewards = np.concatenate([part.rewards, 100.0 * part.rewards, [[1.0, -1.0]]])
    costs = np.concatenate([part.costs[0], 100.0 * part.costs[0], [[0.0, 0.0]]])[None]
    start = np.concatenate([part.start, np.zeros(6)])
    whole = TabularCMDP(kernel, rewards, costs, part.cost_limits, start, part.discount)
    agree(whole)
    assert solve(whole, "columns").value == pytest.approx(solve(part, "occupancy").value, abs=1e-6)
    agree(fork(0.5))


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e30])
@pytest.mark.parametrize("worth", [1e-12, 1.0, 1e12])
def test_units_change_nothing(scale: float, worth: float) -> None:
    solution = solve(one_state([0.0, worth], [[0.0, scale]], [2.0 * scale]), "columns")
    assert solution.status == "optimal"
    assert solution.policy[0, 1] == pytest.approx(0.2, rel=1e-6)
    assert solution.value == pytest.approx(2.0 * worth, rel=1e-6)
    assert solution.multipliers[0] == pytest.approx(worth / scale, rel=1e-6)


def test_limits_of_very_different_sizes() -> None:
    solution = solve(one_state([0.0, 1.0, 1.0], [[0.0, 1e-10, 0.0], [0.0, 0.0, 1e3]], [2e-10, 3e3]), "columns")
    assert solution.status == "optimal"
    np.testing.assert_allclose(solution.policy[0], [0.5, 0.2, 0.3], rtol=1e-6)


def test_a_limit_of_zero_forbids_what_costs() -> None:
    solution = solve(fork(0.0), "columns")
    assert (solution.status, solution.costs[0]) == ("optimal", pytest.approx(0.0, abs=1e-12))


def test_the_published_gridworld() -> None:
    cmdp = NoisyGridworld().cmdp(0.3)
    assert solve(cmdp, "columns").value == pytest.approx(51.9628, abs=1e-4)
    beyond = solve(NoisyGridworld().cmdp(0.437), "columns")
    assert beyond.status == "infeasible"


def test_the_answer_is_the_same_every_time() -> None:
    cmdp = sparse_cmdp(11, 80, 2)
    one, two = solve(cmdp, "columns"), solve(cmdp, "columns")
    assert one.mixture is not None
    assert two.mixture is not None
    np.testing.assert_array_equal(one.mixture.actions, two.mixture.actions)
    assert (one.value, one.bound) == (two.value, two.bound)


def test_large_tasks_go_to_columns_and_small_ones_to_the_occupancy_program() -> None:
    assert solve(sparse_cmdp(0, linear_program.COLUMN_STATES)).mixture is not None
    assert solve(sparse_cmdp(0, 30)).mixture is None


def test_what_one_way_cannot_certify_the_other_does(monkeypatch: pytest.MonkeyPatch) -> None:
    cmdp = sparse_cmdp(0, 40)
    expected = solve(cmdp).value
    failed = replace(solve(cmdp), status="failed", gap=np.inf)
    with monkeypatch.context() as patch:
        patch.setattr(linear_program.OccupancyProgram, "solve", lambda self, cmdp: failed)
        assert solve(cmdp).mixture is not None
        assert solve(cmdp).value == pytest.approx(expected)
        assert solve(cmdp, "occupancy").status == "failed"
    monkeypatch.setattr(linear_program, "_over_columns", lambda cmdp, gap: failed)
    monkeypatch.setattr(linear_program, "COLUMN_STATES", 0)
    assert solve(cmdp).value == pytest.approx(expected)
    assert solve(cmdp, "columns").status == "failed"


# -- the certificate --------------------------------------------------------------------------------------------------------------------------


def proved(cmdp: TabularCMDP) -> MixtureProof:
    return ColumnProgram(cmdp, 1e-8).solve().proof


@given(seeds, st.floats(-1.0, 1.0), st.integers(0, 2))
def test_whatever_is_claimed_the_bound_holds(seed: int, noise: float, constraints: int) -> None:
    """Any values and any multipliers >= 0 prove something true."""
    rng = np.random.default_rng(seed)
    cmdp = random_cmdp(rng, states=5, actions=3, constraints=constraints, limits=np.full(constraints, 6.0))
    proof = proved(cmdp)
    wrong = replace(
        proof,
        values=proof.values + noise * rng.normal(size=proof.values.shape),
        dual=proof.dual + noise * rng.normal(size=proof.dual.shape),
        multipliers=np.abs(proof.multipliers + noise * rng.normal(size=constraints)),
    )
    check = check_mixture(cmdp, wrong)
    values = proof.weights @ evaluate_many(cmdp, _tables(proof.actions, cmdp.n_actions))
    best = solve(cmdp, "occupancy").value
    assert check.bound >= best - 1e-7
    assert check.value <= values[0] + 1e-12
    assert (check.costs >= values[1:] - 1e-12).all()


def test_a_right_proof_is_tight() -> None:
    cmdp = sparse_cmdp(5, 100)
    check = check_mixture(cmdp, proved(cmdp))
    assert 0.0 <= check.relative_gap <= 1e-8
    assert check.excess <= 0.0


def one_state_of(cmdp: TabularCMDP) -> FloatArray:
    """A constant would change nothing: the bounds do not depend on one."""
    return (np.arange(cmdp.n_states) == 7).astype(np.float64)


def flips(proof: MixtureProof, cmdp: TabularCMDP) -> dict[str, MixtureProof]:
    first = np.array([[1.0], [0.0]])
    swapped = proof.weights[::-1].copy()
    return {
        "multipliers of the other sign": replace(proof, multipliers=-proof.multipliers),
        "multipliers that are too small": replace(proof, multipliers=0.9 * proof.multipliers),
        "values of the dual that are too small": replace(proof, dual=0.99 * proof.dual),
        "dual of the other sign": replace(proof, dual=-proof.dual),
        "one state of the dual": replace(proof, dual=proof.dual - 1e-3 * one_state_of(cmdp)),
        "the return from one state": replace(proof, values=proof.values + 1e-3 * first * one_state_of(cmdp)),
        "the costs from one state": replace(proof, values=proof.values - 1e-3 * (1.0 - first) * one_state_of(cmdp)),
        "costs of the other sign": replace(proof, values=proof.values * np.array([1.0, -1.0])[:, None]),
        "weights in the wrong order": replace(proof, weights=swapped),
        "other actions": replace(proof, actions=proof.actions[:, ::-1].copy()),
    }


FLIPS = list(flips(proved(sparse_cmdp(5, 100)), sparse_cmdp(5, 100)))


@pytest.mark.parametrize("name", FLIPS)
def test_a_wrong_proof_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is no optimum any more, whatever the solver says."""
    cmdp = sparse_cmdp(5, 100)
    found = ColumnProgram(cmdp, 1e-8).solve()
    wrong = replace(found, proof=flips(found.proof, cmdp)[name])
    monkeypatch.setattr(linear_program.ColumnProgram, "solve", lambda self: wrong)
    solution = solve(cmdp, "columns")
    assert solution.status == "failed"
    assert np.isnan(solution.value)


def test_a_wrong_proof_of_infeasibility_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feasible, and called infeasible; infeasible, with values or weights that do not prove it."""
    feasible = sparse_cmdp(5, 60, 2)
    found = ColumnProgram(feasible, 1e-8).solve()
    lie = replace(found, feasible=False, weights=np.array([0.5, 0.5]))
    with monkeypatch.context() as patch:
        patch.setattr(linear_program.ColumnProgram, "solve", lambda self: lie)
        assert solve(feasible, "columns").status != "infeasible"
    infeasible = feasible.with_limits(0.1 * feasible.cost_limits)
    found = ColumnProgram(infeasible, 1e-8).solve()
    assert check_least_excess(infeasible, found.weights, found.farkas) > 0.0
    for wrong in (
        replace(found, farkas=-found.farkas),
        replace(found, farkas=found.farkas - 1e-3 * one_state_of(infeasible)),
        replace(found, weights=np.zeros(2)),
        replace(found, weights=np.array([1.0, 0.0]), farkas=found.farkas),
        replace(found, proof=replace(found.proof, actions=found.proof.actions[:, ::-1].copy())),
    ):
        monkeypatch.setattr(linear_program.ColumnProgram, "solve", lambda self, wrong=wrong: wrong)
        assert solve(infeasible, "columns").status == "failed"


@given(seeds)
def test_the_least_excess_is_bounded_by_any_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cmdp = random_cmdp(rng, states=4, actions=2, constraints=2, limits=np.full(2, 0.5))
    solution = solve(cmdp, "occupancy")
    least = float((solution.costs / cmdp.cost_limits - 1.0).max())
    bound = check_least_excess(cmdp, rng.random(2), rng.normal(size=4))
    assert bound <= least + 1e-7


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("weights", [0.5, 0.6], "SF-ARGUMENT-SIMPLEX"),
        ("weights", [1.5, -0.5], "SF-ARGUMENT-SIMPLEX"),
        ("actions", np.full((2, 100), 3), "SF-ARGUMENT-RANGE"),
        ("actions", np.full((2, 100), -1), "SF-ARGUMENT-RANGE"),
        ("actions", np.zeros((2, 100)), "SF-ARGUMENT-SHAPE"),
        ("dual", np.full(100, np.nan), "SF-ARGUMENT-FINITE"),
        ("dual", np.zeros(99), "SF-ARGUMENT-SHAPE"),
        ("values", np.zeros((2, 3, 100)), "SF-ARGUMENT-SHAPE"),
        ("multipliers", [np.inf], "SF-ARGUMENT-FINITE"),
    ],
)
def test_a_proof_that_does_not_fit_is_refused_by_name(field: str, value: Any, code: str) -> None:
    cmdp = sparse_cmdp(5, 100)
    with refused(code, field):
        check_mixture(cmdp, replace(proved(cmdp), **{field: value}))


def test_arguments_are_checked() -> None:
    cmdp = fork(0.5)
    with refused("SF-ARGUMENT-CHOICE", "method", "simplex"):
        solve(cmdp, "simplex")  # type: ignore[arg-type]
    with refused("SF-ARGUMENT-RANGE", "gap"):
        solve(cmdp, gap=0.0)
    from surefoot import Exceeds

    with refused("SF-ARGUMENT-COMBINATION", "cmdp"):
        solve(cmdp.with_functionals([Exceeds(1.0, at_most=0.1)]), "columns")


def test_memory_is_a_small_multiple_of_the_model() -> None:
    """Nothing of size S x S, and nothing that grows with the number of columns but action indices."""
    cmdp = sparse_cmdp(2, 20_000, actions=4)
    arrays = (cmdp.row_start, cmdp.successors, cmdp.probabilities, cmdp.rewards, cmdp.costs)
    model = sum(array.nbytes for array in arrays)
    solve(cmdp, "columns")  # compiled
    tracemalloc.start()
    solution = solve(cmdp, "columns")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert solution.status == "optimal"
    assert peak < 3.0 * model
