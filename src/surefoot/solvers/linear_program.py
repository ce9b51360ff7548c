"""The exact optimum of a finite CMDP as a linear program over occupancy measures.

    maximise   sum_{s,a} x(s,a) r(s,a)
    subject to sum_a x(s,a) - gamma sum_{s',a'} P(s|s',a') x(s',a') = rho(s)      for every s        (flow)
               sum_{s,a} x(s,a) c_i(s,a) <= d_i                                  for every i        (cost)
               x >= 0,          pi(a|s) = x(s,a) / sum_a x(s,a)

(Altman 1999, chapter 3.) A basic solution has at most S + I positive entries, so at most I states randomise. The program is
solved by HiGHS; similar tasks share a starting basis. States with no occupancy take the action of smallest reduced cost,
which is the greedy action of the Lagrangian.

Letters: S states, A actions, I constraints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import highspy
import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import InfeasibleError, SolverError
from surefoot.solvers.certificate import OptimalityCertificate, certify

__all__ = ["OccupancyProgram", "Solution", "solve"]

TOLERANCE = 1e-7
"""Gap relative to the value, and excess relative to the limit, up to which a solution counts as optimal and feasible."""
UNVISITED = 1e-9

Status = Literal["optimal", "infeasible", "failed"]


@dataclass(frozen=True, eq=False)
class Solution:
    """Answer of :func:`solve`; failure is a value, the caller decides whether to raise.

    Attributes:
        status: ``"optimal"`` (certified), ``"infeasible"`` (no policy meets the limits) or ``"failed"``.
        policy: (S, A); for an infeasible CMDP the policy whose worst excess over the limits is smallest.
        value, costs: exact return and costs (I,) of ``policy``.
        multipliers: (I,) Lagrange multipliers >= 0; NaN for an infeasible CMDP.
        gap: proved distance to the optimum; infinite for an infeasible CMDP.
        excess: largest ``V_c - d``.
        bound: proved upper bound on the value of every feasible policy; ``-inf`` when there is none.
        iterations: simplex iterations.
    """

    status: Status
    policy: FloatArray
    value: float
    costs: FloatArray
    multipliers: FloatArray
    gap: float
    excess: float
    bound: float
    iterations: int

    def value_or_raise(self) -> Solution:
        """Itself when optimal.

        Raises:
            InfeasibleError: names the smallest attainable costs.
            SolverError: the certificate rejected the solver's answer.
        """
        if self.status == "infeasible":
            raise InfeasibleError(
                f"no policy meets the cost limits; the smallest worst excess leaves costs {self.costs.tolist()}, "
                f"{self.excess:g} above the limit; raise the limit or change the task"
            )
        if self.status == "failed":
            raise SolverError(
                f"the solution has gap {self.gap:g} and excess {self.excess:g}, beyond {TOLERANCE:g}; rescale the task"
            )
        return self


def solve(cmdp: TabularCMDP) -> Solution:
    """Solve one CMDP exactly; see :class:`Solution`."""
    return OccupancyProgram().solve(cmdp)


class OccupancyProgram:
    """Solves a sequence of CMDPs of one shape, each from the optimal basis of ``anchor``.

    Starting every task from the same basis, not from the last task's, makes the answer independent of the order in which
    tasks are solved and of how they are spread over workers.

    Args:
        anchor: a typical task, or ``None`` for a cold start every time.
    """

    def __init__(self, anchor: TabularCMDP | None = None) -> None:
        self._basis: Any = None
        if anchor is not None:
            solver, status, _ = _run(anchor, anchor.cost_limits, None)
            if status == "optimal":
                self._basis = solver.getBasis()

    def solve(self, cmdp: TabularCMDP) -> Solution:
        """Optimal policy, values, multipliers and certificate of ``cmdp``."""
        solver, status, iterations = _run(cmdp, cmdp.cost_limits, self._basis)
        if status == "infeasible":
            return _least_excess(cmdp, iterations)
        if status == "failed" and self._basis is not None:
            solver, status, iterations = _run(cmdp, cmdp.cost_limits, None)
        answer = solver.getSolution()
        multipliers = np.maximum(-np.asarray(answer.row_dual[cmdp.n_states :], dtype=np.float64), 0.0)
        policy = _policy(cmdp, np.asarray(answer.col_value), np.asarray(answer.col_dual))
        proof = certify(cmdp, policy, multipliers)
        return _solution(cmdp, status, policy, multipliers, proof, iterations)


def _solution(
    cmdp: TabularCMDP,
    status: Status,
    policy: FloatArray,
    multipliers: FloatArray,
    proof: OptimalityCertificate,
    iterations: int,
) -> Solution:
    # Two scales: a task with huge rewards must not be allowed a huge excess over a small limit.
    optimal = proof.gap <= TOLERANCE * max(1.0, abs(proof.value))
    proved = optimal and proof.excess <= TOLERANCE * max(1.0, float(cmdp.cost_limits.max(initial=0.0)))
    return Solution(
        status="optimal" if status == "optimal" and proved else "failed",
        policy=policy,
        value=proof.value,
        costs=proof.costs,
        multipliers=multipliers,
        gap=proof.gap,
        excess=proof.excess,
        bound=proof.bound,
        iterations=iterations,
    )


def _least_excess(cmdp: TabularCMDP, iterations: int) -> Solution:
    """The policy with the smallest worst excess over the limits, by the same program with one slack column."""
    solver, status, more = _run(cmdp, cmdp.cost_limits, None, relaxed=True)
    n_columns = cmdp.n_states * cmdp.n_actions
    answer = solver.getSolution()
    policy = _policy(cmdp, np.asarray(answer.col_value[:n_columns]), np.asarray(answer.col_dual[:n_columns]))
    none = np.zeros(cmdp.n_constraints)
    proof = certify(cmdp, policy, none)
    # The relaxed program must agree that every policy exceeds a limit; otherwise the two runs contradict each other.
    confirmed = status == "optimal" and proof.excess > 0.0
    return Solution(
        status="infeasible" if confirmed else "failed",
        policy=policy,
        value=proof.value,
        costs=proof.costs,
        multipliers=np.full(cmdp.n_constraints, np.nan),
        gap=np.inf,
        excess=proof.excess,
        bound=-np.inf if confirmed else np.inf,
        iterations=iterations + more,
    )


def _policy(cmdp: TabularCMDP, occupancy: FloatArray, reduced: FloatArray) -> FloatArray:
    shape = (cmdp.n_states, cmdp.n_actions)
    x = np.maximum(occupancy.reshape(shape), 0.0)
    total = x.sum(axis=1, keepdims=True)
    greedy = np.zeros(shape)
    greedy[np.arange(shape[0]), reduced.reshape(shape).argmin(axis=1)] = 1.0
    table: FloatArray = np.where(total > UNVISITED, x / np.maximum(total, UNVISITED), greedy)
    table[table < 1e-12] = 0.0
    table /= table.sum(axis=1, keepdims=True)
    return table


def _run(cmdp: TabularCMDP, limits: FloatArray, basis: Any, *, relaxed: bool = False) -> tuple[Any, Status, int]:
    solver = highspy.Highs()
    for option, value in (
        ("output_flag", False),
        ("threads", 1),
        ("presolve", "off" if basis is not None else "choose"),
        ("primal_feasibility_tolerance", 1e-10),
        ("dual_feasibility_tolerance", 1e-10),
    ):
        solver.setOptionValue(option, value)
    solver.passModel(_model(cmdp, limits, relaxed))
    if basis is not None:
        solver.setBasis(basis)
    solver.run()
    status = solver.getModelStatus()
    iterations = int(solver.getInfo().simplex_iteration_count)
    if status == highspy.HighsModelStatus.kOptimal:
        return solver, "optimal", iterations
    infeasible = status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible)
    return solver, "infeasible" if infeasible else "failed", iterations


def _model(cmdp: TabularCMDP, limits: FloatArray, relaxed: bool) -> Any:
    """The program by columns; ``relaxed`` adds one column that relaxes all limits and becomes the objective."""
    n, i = cmdp.n_states, cmdp.n_constraints
    row, column, value = _entries(cmdp)
    objective = -cmdp.rewards.reshape(-1)
    if relaxed:
        row, value = np.r_[row, n + np.arange(i)], np.r_[value, -np.ones(i)]
        column = np.r_[column, np.full(i, objective.size)]
        objective = np.append(np.zeros(objective.size), 1.0)
    order = np.argsort(column * (n + i) + row, kind="stable")
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = objective.size, n + i
    model.col_cost_ = objective
    model.col_lower_ = np.zeros(objective.size)
    model.col_upper_ = np.full(objective.size, highspy.kHighsInf)
    model.row_lower_ = np.concatenate([cmdp.start, np.full(i, -highspy.kHighsInf)])
    model.row_upper_ = np.concatenate([cmdp.start, limits])
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_ = np.searchsorted(column[order], np.arange(objective.size + 1)).astype(np.int32)
    model.a_matrix_.index_ = row[order].astype(np.int32)
    model.a_matrix_.value_ = value[order]
    return model


def _entries(cmdp: TabularCMDP) -> tuple[IntArray, IntArray, FloatArray]:
    """Rows, columns and values of flow and cost constraints; the 1 of a state's own flow is merged with its self-loop."""
    columns = np.arange(cmdp.n_states * cmdp.n_actions)
    own = cmdp.successors == cmdp.rows // cmdp.n_actions
    flow = np.where(own, 1.0, 0.0) - cmdp.discount * cmdp.probabilities
    missing = np.setdiff1d(columns, cmdp.rows[own], assume_unique=True)
    which, where = np.nonzero(cmdp.costs.reshape(cmdp.n_constraints, columns.size))
    row = np.concatenate([cmdp.successors, missing // cmdp.n_actions, cmdp.n_states + which])
    column = np.concatenate([cmdp.rows, missing, where])
    value = np.concatenate([flow, np.ones(missing.size), cmdp.costs.reshape(-1, columns.size)[which, where]])
    return row, column, value
