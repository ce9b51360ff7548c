"""The planner: optimal (beside another solver), feasible whatever the solver says, and always with a reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import highspy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from surefoot.arrays import FloatArray
from surefoot.deploy import planner
from surefoot.deploy.planner import Program, largest_weight, plan, safe_plan, safe_share, verify

seeds = st.integers(0, 10**6)


def random_program(rng: np.random.Generator, **changes: Any) -> Program:
    """Up to 12 policies, 3 constraints and 40 rows; the safe policy satisfies every row with some margin."""
    j, i, h = int(rng.integers(1, 13)), int(rng.integers(1, 4)), int(rng.integers(1, 41))
    limits = rng.uniform(0.1, 10.0, i) * 10.0 ** rng.integers(-2, 3)
    rows = limits * rng.uniform(0.0, 3.0, (h, j, i))
    rows[:, 0] = limits * rng.uniform(0.0, 0.95, (h, i))
    fields = {
        "objective": rng.normal(size=j),
        "rows": rows,
        "names": tuple(f"cell {k}" for k in range(h)),
        "limits": limits,
        "candidate": int(rng.integers(0, j)),
        "kappa": float(rng.uniform(0.01, 1.0)),
        "cap": float(rng.choice([1.0, 0.3])),
    }
    return Program(**(fields | changes))


def alpha(program: Program) -> float:
    """The largest weight by bisection on the definition."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        mixed = middle * program.rows[:, program.candidate] + (1.0 - middle) * program.rows[:, 0]
        low, high = (middle, high) if (mixed <= program.limits).all() else (low, middle)
    return high if high > 1.0 - 1e-9 else low


def optimum(program: Program) -> float:
    """The same program by another solver, with all rows at once."""
    h, j, i = program.rows.shape
    lower = np.zeros(j)
    if program.candidate:
        lower[program.candidate] = program.kappa * min(alpha(program), program.cap) * (1.0 - 2e-6)
    answer = linprog(
        -program.objective,
        program.rows.transpose(0, 2, 1).reshape(h * i, j),
        np.tile(program.limits, h),
        np.ones((1, j)),
        [1.0],
        list(zip(lower, np.ones(j))),
        method="highs",
    )
    assert answer.status == 0
    return float(-answer.fun)


@settings(max_examples=150)
@given(seeds)
@pytest.mark.slow
def test_the_mixture_is_optimal_feasible_and_explores(seed: int) -> None:
    program = random_program(np.random.default_rng(seed))
    found = plan(program)
    assert found.certified
    assert verify(found.weights, program.rows, program.limits)
    assert abs(found.value - optimum(program)) < 1e-4
    assert abs(found.value - program.objective @ found.weights) < 1e-12
    if program.candidate:
        assert (
            found.weights[program.candidate] >= program.kappa * min(alpha(program), program.cap) * (1.0 - 1e-5) - 1e-8
        )
    costs = np.einsum("j,hji->hi", found.weights, program.rows)
    np.testing.assert_array_equal(found.bounds, costs.max(axis=0))
    assert (found.bounds <= program.limits * (1.0 + 1e-9)).all()


@settings(max_examples=100)
@given(seeds)
def test_the_exploration_weight_is_the_largest_one_that_fits(seed: int) -> None:
    program = random_program(np.random.default_rng(seed))
    expected = alpha(program) if program.candidate else 0.0
    assert abs(largest_weight(program) - expected) < 3e-6


def test_a_share_is_limited_by_every_constraint() -> None:
    safe, other = np.array([[0.5, 0.5]]), np.array([[2.5, 1.0], [0.4, 3.0], [0.1, 0.2]])
    np.testing.assert_allclose(safe_share(safe, other, np.array([1.5, 1.0])), [0.5, 0.2, 1.0])
    assert safe_share(np.array([[2.0]]), np.array([[3.0]]), np.array([1.5])).tolist() == [0.0]


@settings(max_examples=60)
@given(seeds)
def test_plans_are_deterministic_and_do_not_depend_on_the_order_of_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_program(rng)
    one, two = plan(program), plan(program)
    np.testing.assert_array_equal(one.weights, two.weights)
    assert one.reasons == two.reasons
    order = rng.permutation(len(program.rows))
    shuffled = replace(program, rows=program.rows[order], names=tuple(program.names[k] for k in order))
    assert abs(plan(shuffled).value - one.value) < 1e-6


@settings(max_examples=60)
@given(seeds, st.sampled_from([1e-12, 0.2, 5.0]))
def test_nothing_is_played_when_the_safe_policy_itself_is_not_certified(seed: int, excess: float) -> None:
    """Even where another policy would satisfy every row: the assumption that everything rests on is broken."""
    program = random_program(np.random.default_rng(seed))
    rows = program.rows.copy()
    rows[:, 1:] = 0.0
    rows[-1, 0, -1] = program.limits[-1] * (1.0 + 10 * excess) + 1e-9
    found = plan(replace(program, rows=rows))
    assert not found.certified
    assert found.weights.tolist() == [1.0] + [0.0] * (program.objective.size - 1)
    assert "safe policy itself is not certified" in found.reasons[0]
    assert found.bounds[-1] > program.limits[-1]


@settings(max_examples=60)
@given(seeds)
def test_tampered_weights_fail_verification(seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_program(rng)
    good = plan(program).weights
    assert verify(good, program.rows, program.limits)
    for bad in (
        1.000001 * good,
        np.where(good > 0, good, 0.0) - 1e-6 * (np.arange(good.size) == 0),
        -good,
        0.0 * good,
        good * np.nan,
    ):
        assert not verify(bad, program.rows, program.limits)


def test_a_mixture_above_one_row_in_one_constraint_fails_verification() -> None:
    rows = np.array([[[0.5, 0.5], [1.0, 2.0]], [[0.5, 0.5], [2.0, 1.0]]])
    limits = np.array([1.25, 1.25])
    assert verify(np.array([0.5, 0.5]), rows, limits)
    assert not verify(np.array([0.5 - 1e-9, 0.5 + 1e-9]), rows, limits)
    assert not verify(np.array([0.49, 0.51]), rows, limits)


class Liar:
    """A solver that answers what it is told to."""

    def __init__(self, weights: Any, status: Any = highspy.HighsModelStatus.kOptimal) -> None:
        self.weights, self.status = weights, status

    def run(self) -> None: ...

    def addRow(self, *_: Any) -> None: ...

    def getModelStatus(self) -> Any:
        return self.status

    def getSolution(self) -> Any:
        return type("Solution", (), {"col_value": self.weights, "row_dual": np.zeros(100)})()


THREE = Program(
    objective=np.array([0.0, 1.0, 2.0]),
    rows=np.array([[[0.5], [1.0], [3.0]], [[0.5], [1.4], [2.0]]]),
    names=("cell 3", "cell 17"),
    limits=np.array([1.0]),
    candidate=2,
    kappa=0.1,
    cap=1.0,
)


@pytest.mark.parametrize(
    ("weights", "status", "reason"),
    [
        ([0.0, 0.0, 1.0], highspy.HighsModelStatus.kOptimal, "failed verification"),
        ([0.0, 1.0, 0.0], highspy.HighsModelStatus.kOptimal, "failed verification"),
        ([np.nan, np.nan, np.nan], highspy.HighsModelStatus.kOptimal, "no mixture that could be verified"),
        ([0.9, np.nan, 0.1], highspy.HighsModelStatus.kOptimal, "no mixture that could be verified"),
        ([0.0, 0.5, 0.9], highspy.HighsModelStatus.kOptimal, "failed verification"),
        ([-3.0, 4.0, 0.0], highspy.HighsModelStatus.kOptimal, "failed verification"),
        ([1.0, 0.0, 0.0], highspy.HighsModelStatus.kInfeasible, "no mixture that could be verified"),
        ([1.0, 0.0, 0.0], highspy.HighsModelStatus.kTimeLimit, "no mixture that could be verified"),
    ],
)
def test_a_solver_that_errs_means_the_safe_policy_and_a_reason(
    monkeypatch: pytest.MonkeyPatch, weights: list[float], status: Any, reason: str
) -> None:
    monkeypatch.setattr(planner, "_start", lambda *_: Liar(weights, status))
    found = plan(THREE)
    assert not found.certified
    assert found.weights.tolist() == [1.0, 0.0, 0.0]
    assert reason in found.reasons[0]
    assert found.bounds.tolist() == [0.5]


def test_reasons_name_the_rows_that_bind() -> None:
    found = plan(THREE)
    assert found.weights[2] > 0.0
    assert "cell 17" in found.reasons[0] or "cell 3" in found.reasons[0]
    costs = THREE.rows[:, :, 0] @ found.weights
    binding = {name for name, cost in zip(THREE.names, costs) if abs(cost - 1.0) < 1e-6}
    for name in THREE.names:
        assert (name in found.reasons[0]) == (name in binding)
    assert "kept under test" in found.reasons[2]
    assert set(found.reasons) == set(np.flatnonzero(found.weights).tolist())


def test_without_a_binding_row_the_best_policy_is_played_alone() -> None:
    found = plan(replace(THREE, limits=np.array([10.0])))
    assert found.weights.tolist() == [0.0, 0.0, 1.0]
    assert "no limit binds" in found.reasons[2]


def test_the_exploration_line_keeps_a_policy_that_the_objective_rejects() -> None:
    program = replace(THREE, objective=np.array([1.0, 0.0, -5.0]))
    found = plan(program)
    # Row "cell 3" allows (1 - .5) / (3 - .5) = .2 of policy 2.
    assert abs(found.weights[2] - 0.1 * 0.2) < 1e-6
    assert found.weights[1] == 0.0
    assert plan(replace(program, candidate=0)).weights.tolist() == [1.0, 0.0, 0.0]


def test_the_cap_limits_exploration_not_deployment() -> None:
    reluctant = replace(THREE, objective=np.array([1.0, 0.0, -5.0]), kappa=1.0, cap=0.05)
    assert abs(plan(reluctant).weights[2] - 0.05) < 1e-6
    eager = replace(THREE, kappa=1.0, cap=0.05)
    assert plan(eager).weights[2] > 0.1


def test_two_identical_cells_and_identical_policies_are_no_trouble() -> None:
    twice = replace(THREE, rows=np.concatenate([THREE.rows, THREE.rows]), names=(*THREE.names, "cell 4", "cell 18"))
    assert abs(plan(twice).value - plan(THREE).value) < 1e-9
    doubled = Program(
        np.repeat(THREE.objective, 2),
        np.repeat(THREE.rows, 2, axis=1),
        THREE.names,
        THREE.limits,
        4,
        THREE.kappa,
        THREE.cap,
    )
    assert abs(plan(doubled).value - plan(THREE).value) < 1e-6


def test_a_safe_policy_exactly_at_the_limit_is_certified_alone() -> None:
    program = replace(THREE, rows=np.array([[[1.0], [1.5], [3.0]]]), names=("cell 0",))
    found = plan(program)
    assert verify(found.weights, program.rows, program.limits)
    np.testing.assert_allclose(found.weights, [1.0, 0.0, 0.0], atol=1e-6)
    assert found.bounds[0] <= 1.0 + 1e-12


def test_many_rows_are_found_one_by_one_and_all_hold(rng: np.random.Generator) -> None:
    j, h = 30, 500
    rows = rng.uniform(0.0, 3.0, (h, j, 2))
    rows[:, 0] = rng.uniform(0.0, 0.5, (h, 2))
    program = Program(rng.normal(size=j) + 1.0, rows, tuple(map(str, range(h))), np.ones(2), 3, 0.5, 1.0)
    found = plan(program)
    assert found.certified
    assert (np.einsum("j,hji->hi", found.weights, rows) <= 1.0 + 1e-12).all()
    assert abs(found.value - optimum(program)) < 1e-4


def test_no_constraint_at_all() -> None:
    program = Program(np.array([0.0, 3.0]), np.zeros((2, 2, 0)), ("a", "b"), np.zeros(0), 1, 0.5, 1.0)
    found = plan(program)
    assert found.weights.tolist() == [0.0, 1.0]
    assert found.bounds.size == 0


def test_the_safe_plan_says_what_it_was_told() -> None:
    found = safe_plan(THREE, "because")
    assert found.reasons == {0: "because"}
    assert (found.certified, found.value, found.bounds.tolist()) == (False, 0.0, [0.5])


@settings(max_examples=60)
@given(seeds)
def test_negligible_weights_go_to_the_safe_policy(seed: int) -> None:
    weights: FloatArray = plan(random_program(np.random.default_rng(seed))).weights
    assert ((weights == 0.0) | (weights > 1e-10)).all()
    assert abs(weights.sum() - 1.0) < 1e-15 * weights.size


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1.0, 1e9])
def test_the_unit_of_costs_changes_nothing(scale: float) -> None:
    """Policy 1 costs five limits: a fifth of it is played, not all of it because the costs are tiny."""
    rows = np.array([[[0.0], [5.0 * scale]]])
    found = plan(Program(np.array([0.0, 1.0]), rows, ("cell 0",), np.array([scale]), 0, 0.1, 1.0))
    assert found.certified
    assert found.weights[1] == pytest.approx(0.2, rel=1e-6)


@pytest.mark.parametrize("worth", [1e-12, 1e9])
def test_the_unit_of_rewards_changes_nothing(worth: float) -> None:
    rows = np.array([[[0.0], [5.0]]])
    found = plan(Program(np.array([0.0, worth]), rows, ("cell 0",), np.array([1.0]), 0, 0.1, 1.0))
    assert found.weights[1] == pytest.approx(0.2, rel=1e-6)


def test_verification_is_relative_to_each_limit() -> None:
    weights, limits = np.array([0.0, 1.0]), np.array([1e-13, 1.0])
    assert not verify(weights, np.array([[[0.0, 0.0], [2e-13, 0.5]]]), limits)
    assert verify(weights, np.array([[[0.0, 0.0], [1e-13, 1.0]]]), limits)
    assert not verify(weights, np.array([[[0.0, 0.0], [1e-13, 1.0 + 1e-11]]]), limits)
