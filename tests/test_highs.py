"""Linear programs against scipy's front end, and statuses of programs that have no answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from surefoot.highs import INFINITY, Matrix, add_upper_row, make_model, make_solver, run_solver
from tests.refusals import refused

PRECISE: dict[str, Any] = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


def by_rows(dense: np.ndarray) -> Matrix:
    m, n = dense.shape
    return Matrix(n * np.arange(m + 1), np.tile(np.arange(n), m), dense.reshape(-1), by_rows=True)


def from_entries(dense: np.ndarray) -> Matrix:
    column, row = np.nonzero(dense.T)
    return Matrix.from_entries(row, column, dense[row, column], dense.shape[1])


@pytest.mark.parametrize("make", [Matrix.from_dense, by_rows, from_entries])
@pytest.mark.parametrize("seed", range(5))
def test_optima_are_those_of_scipy(make: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(4, 7)) * (rng.random((4, 7)) < 0.7)
    inside, cost = rng.random(7), rng.normal(size=7)
    low, high = dense @ inside - rng.random(4), dense @ inside + rng.random(4)
    model = make_model(cost, (np.zeros(7), np.full(7, 2.0)), (low, high), make(dense))
    solver = make_solver(model, **PRECISE)
    assert run_solver(solver) == "optimal"
    truth = linprog(cost, A_ub=np.concatenate([dense, -dense]), b_ub=np.concatenate([high, -low]), bounds=(0.0, 2.0))
    x = np.asarray(solver.getSolution().col_value)
    np.testing.assert_allclose(cost @ x, truth.fun, atol=1e-8)
    assert ((dense @ x >= low - 1e-8) & (dense @ x <= high + 1e-8)).all()


def program(low: float, high: float, cost: float) -> Any:
    """``minimise cost x`` over ``x >= 0`` and ``low <= x <= high``."""
    free = (np.zeros(1), np.full(1, INFINITY))
    return make_solver(
        make_model(np.array([cost]), free, (np.array([low]), np.array([high])), Matrix.from_dense(np.eye(1)))
    )


def test_programs_without_an_answer_are_told_apart() -> None:
    assert run_solver(program(1.0, 2.0, 1.0)) == "optimal"
    assert run_solver(program(-2.0, -1.0, 1.0)) == "infeasible"
    assert run_solver(program(1.0, INFINITY, -1.0)) != "optimal"


def test_a_further_row_cuts_off_what_exceeds_it() -> None:
    solver = program(0.0, 5.0, -1.0)
    assert run_solver(solver) == "optimal"
    assert list(solver.getSolution().col_value) == [5.0]
    add_upper_row(solver, np.array([2.0]), 3.0)
    assert run_solver(solver) == "optimal"
    assert list(solver.getSolution().col_value) == [1.5]


@pytest.mark.parametrize(
    "options", [{"no_such_option": 1.0}, {"presolve": "perhaps"}, {"primal_feasibility_tolerance": -1.0}]
)
def test_an_option_that_highs_does_not_take_is_an_error(
    options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    model = make_model(np.ones(1), (np.zeros(1), np.ones(1)), (np.zeros(1), np.ones(1)), Matrix.from_dense(np.eye(1)))
    with refused("SF-ARGUMENT-CHOICE", f"option {next(iter(options))}"):
        make_solver(model, **options)
