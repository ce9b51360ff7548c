"""Linear programs for HiGHS: built from arrays, solved quietly on one thread.

    minimise  c . x      subject to      l <= x <= u,      L <= A x <= U

Tolerances and presolve are the caller's choice, for they decide the last digits of an answer. An answer is a claim: whoever uses one verifies it
(:mod:`surefoot.solvers.certificate`, :func:`surefoot.deploy.planner.verify`).

Letters: m rows, n columns, e entries of A.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import highspy
import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.errors import InvalidInput

__all__ = ["INFINITY", "Matrix", "Status", "add_upper_row", "make_model", "make_solver", "run_solver"]

INFINITY: float = highspy.kHighsInf
"""Of a bound that is none."""

Status = Literal["optimal", "infeasible", "failed"]
INFEASIBLE = (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible)


@dataclass(frozen=True, eq=False)
class Matrix:
    """A sparse matrix, column after column or row after row.

    Attributes:
        starts: (n + 1,), or (m + 1,) by rows: where each column begins among the entries, and where the last one ends.
        index: (e,) row of each entry, or its column by rows.
        value: (e,).
        by_rows: which of the two.
    """

    starts: IntArray
    index: IntArray
    value: FloatArray
    by_rows: bool = False

    @staticmethod
    def from_entries(row: IntArray, column: IntArray, value: FloatArray, n_columns: int) -> Matrix:
        """From entries (e,) that are sorted by column, then by row, and name no place twice."""
        return Matrix(np.searchsorted(column, np.arange(n_columns + 1)), row, value)

    @staticmethod
    def from_dense(matrix: FloatArray) -> Matrix:
        """All entries (m, n), zeros included."""
        m, n = matrix.shape
        value = np.ascontiguousarray(matrix.T).reshape(-1)
        return Matrix(m * np.arange(n + 1), np.tile(np.arange(m, dtype=np.int64), n), value)


def make_model(
    cost: FloatArray, columns: tuple[FloatArray, FloatArray], rows: tuple[FloatArray, FloatArray], matrix: Matrix
) -> Any:
    """A ``highspy.HighsLp`` that minimises.

    Args:
        cost: (n,) ``c``.
        columns: ``l`` and ``u``, (n,) each.
        rows: ``L`` and ``U``, (m,) each.
        matrix: ``A``.
    """
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = cost.size, rows[0].size
    model.col_cost_ = cost
    model.col_lower_, model.col_upper_ = columns
    model.row_lower_, model.row_upper_ = rows
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise if matrix.by_rows else highspy.MatrixFormat.kColwise
    model.a_matrix_.start_ = matrix.starts.astype(np.int32)
    model.a_matrix_.index_ = matrix.index.astype(np.int32)
    model.a_matrix_.value_ = matrix.value
    return model


def make_solver(model: Any, **options: str | float) -> Any:
    """A quiet ``highspy.Highs`` on one thread that holds the model.

    Args:
        model: from :func:`make_model`.
        options: further options by their names in HiGHS.

    Raises:
        InvalidInput: HiGHS knows no such option, or not with this value.
    """
    solver = highspy.Highs()
    for name, value in {"output_flag": False, "threads": 1, **options}.items():
        if solver.setOptionValue(name, value) != highspy.HighsStatus.kOk:
            raise InvalidInput(
                f"option {name} must be one that HiGHS knows, with a value it takes, got {value!r}; see its list of options",
                code="SF-ARGUMENT-CHOICE",
            )
    solver.passModel(model)
    return solver


def run_solver(solver: Any) -> Status:
    """Solve; what HiGHS calls unbounded or infeasible counts as infeasible."""
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kOptimal:
        return "optimal"
    return "infeasible" if status in INFEASIBLE else "failed"


def add_upper_row(solver: Any, row: FloatArray, upper: float) -> None:
    """Add ``row . x <= upper`` to a program with n columns; row (n,)."""
    solver.addRow(-INFINITY, upper, row.size, np.arange(row.size, dtype=np.int32), row)
