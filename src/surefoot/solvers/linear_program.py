"""The exact optimum of a finite CMDP as a linear program over occupancy measures.

    maximise   sum_{s,a} x(s,a) r(s,a)
    subject to sum_a x(s,a) - gamma sum_{s',a'} P(s|s',a') x(s',a') = rho(s)      for every s        (flow)
               sum_{s,a} x(s,a) c_i(s,a) <= d_i                                  for every i        (cost)
               x >= 0,          pi(a|s) = x(s,a) / sum_a x(s,a)

(Altman 1999, chapter 3.) A basic solution has at most S + I positive entries, so at most I states randomise. The program is
solved by HiGHS; similar tasks share a starting basis. States with no occupancy take the action of smallest reduced cost,
which is the greedy action of the Lagrangian.

Rewards and every row of costs are divided by a power of two where their size is out of the ordinary, so that the solver's absolute
tolerances are relative ones; a power of two rounds nothing. Whatever the solver says is believed only with a proof
(:mod:`~surefoot.solvers.certificate`): "optimal" needs a gap and an excess that are small in their own units, "infeasible" needs a lower
bound above zero on the least excess. What is not proved (degenerate programs, probabilities that a solver of linear programs drops) is
solved again over policies, :mod:`~surefoot.solvers.column_generation`.

Letters: S states, A actions, I constraints.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from surefoot.arguments import short_repr
from surefoot.arrays import FloatArray, IntArray, check_real
from surefoot.cmdp.model import TabularCMDP, check_task
from surefoot.errors import InfeasibleError, InvalidInput, SolverError
from surefoot.highs import INFINITY, Matrix, Status, make_model, make_solver, run_solver
from surefoot.solvers.certificate import (
    OptimalityCertificate,
    certify,
    check_least_excess,
    check_mixture,
    least_excess,
    limit_units,
)
from surefoot.solvers.column_generation import PolicyMaster
from surefoot.solvers.columns import ColumnProgram, PolicyMixture
from surefoot.solvers.stationary import implied_means, search

__all__ = ["OccupancyProgram", "Solution", "solve", "solve_over_policies"]

TOLERANCE = 1e-7
"""Gap and excess, each in its own unit, up to which a solution counts as optimal and feasible."""
SURE = 1e-9
"""Proved least excess, relative to the limits, above which a task counts as infeasible."""
ORDINARY = 2.0**10
"""Sizes within this factor of 1 are left as they are."""
PATIENCE = 50
"""Simplex iterations per row after which the linear program is given up."""
UNVISITED = 1e-9
COLUMN_STATES = 500
"""From this many states on columns are faster (benchmarks/bench_solvers.py)."""
OCCUPANCY_STATES = 5000
"""Up to this many states the occupancy program is tried where columns are not certified; beyond it takes minutes."""


Method = Literal["auto", "occupancy", "columns"]


@dataclass(frozen=True, eq=False)
class Solution:
    """Answer of :func:`solve`; failure is a value, the caller decides whether to raise.

    Attributes:
        status: ``"optimal"`` (certified), ``"infeasible"`` (no policy meets the limits) or ``"failed"``.
        value: return of the policy, exact or, from columns, a lower bound that is exact up to residuals; NaN unless optimal.
        costs: (I,) costs of the policy, likewise; for an infeasible CMDP the least attainable ones.
        multipliers: (I,) Lagrange multipliers >= 0; NaN for an infeasible CMDP.
        gap: proved distance to the optimum; infinite for an infeasible CMDP.
        excess: largest ``V_c - d``.
        bound: proved upper bound on the value of every feasible policy; ``-inf`` when there is none.
        iterations: simplex iterations; of columns, greedy steps.
        table: (S, A) the policy of the occupancy program; ``None`` from columns.
        mixture: from columns, the deterministic policies of which one is drawn per episode; ``None`` from the occupancy program.
        tolerance: relative gap up to which the answer counts as optimal.
    """

    status: Status
    value: float
    costs: FloatArray
    multipliers: FloatArray
    gap: float
    excess: float
    bound: float
    iterations: int
    table: FloatArray | None = None
    mixture: PolicyMixture | None = None
    tolerance: float = TOLERANCE

    __repr__ = short_repr

    @cached_property
    def policy(self) -> FloatArray:
        """(S, A) one stationary policy; for an infeasible CMDP the one whose worst excess, relative to the limits, is smallest.

        From columns it is made when it is first asked for: the policy whose occupancy is that of the mixture.
        """
        if self.table is not None:
            return self.table
        if self.mixture is None:
            raise SolverError("the answer must hold a table or a mixture, got neither; solve again")
        return self.mixture.table

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
                f"the best policy found has gap {self.gap:g} and excess {self.excess:g}, more than a relative {self.tolerance:g} and {TOLERANCE:g}; "
                "move the limits a little, or merge states that are hardly told apart"
            )
        return self


def solve(cmdp: TabularCMDP, method: Method = "auto", *, gap: float = TOLERANCE) -> Solution:
    """Solve one CMDP exactly; see :class:`Solution`.

    Args:
        cmdp: the task.
        method: ``"occupancy"``, the linear program over occupancies, for hundreds of states; ``"columns"``, column generation over deterministic
            policies (:mod:`surefoot.solvers.columns`), for up to millions of states with sparse rows; ``"auto"`` takes columns above a size at
            which they are the faster by measurement, and the other one where a certificate is missing and the size allows it.
        gap: relative gap, in the certificate's unit, up to which an answer counts as optimal. Columns go on until it is reached.

    Raises:
        InvalidInput: no such method, a gap that is not positive, or columns for limits on functionals.

    Under limits on functionals of costs (:class:`~surefoot.criterion.Exceeds`, :class:`~surefoot.criterion.CVaR`) the answer is the best policy that
    was found among those that look at the state alone (:mod:`surefoot.solvers.stationary`): "optimal" means that it meets the limits, ``bound`` holds
    for every policy, and the gap between the two is told and need not be small; "infeasible" means that none was found. The exact optimum, whose
    policy looks at the cost accumulated so far, is that of :func:`surefoot.cmdp.augment`.
    """
    check_task(cmdp)
    if method not in ("auto", "occupancy", "columns"):
        raise InvalidInput(
            f"method must be auto, occupancy or columns, got {method!r}; leave it out to have one chosen",
            code="SF-ARGUMENT-CHOICE",
        )
    gap = check_real("gap", gap, low=0.0, open_low=True)
    if method == "columns" and cmdp.functionals:
        raise _functionals(cmdp)
    if method == "occupancy" or cmdp.functionals or (method == "auto" and cmdp.n_states < COLUMN_STATES):
        found = OccupancyProgram(tolerance=gap).solve(cmdp)
        other = method == "auto" and found.status == "failed" and not cmdp.functionals
        return _better(found, _over_columns(cmdp, gap)) if other else found
    found = _over_columns(cmdp, gap)
    if method == "auto" and found.status == "failed" and cmdp.n_states <= OCCUPANCY_STATES:
        found = _better(found, OccupancyProgram(tolerance=gap).solve(cmdp))
    return found


def _better(one: Solution, two: Solution) -> Solution:
    return two if two.status != "failed" or two.gap < one.gap else one


def _functionals(cmdp: TabularCMDP) -> InvalidInput:
    return InvalidInput(
        f"cmdp must have limits on means, got {'; '.join(cmdp.criterion.limit_texts)}; augment it, and solve what that gives",
        code="SF-ARGUMENT-COMBINATION",
    )


def _over_columns(cmdp: TabularCMDP, gap: float) -> Solution:
    """Column generation, judged by the certificate that reads model and proof alone."""
    found = ColumnProgram(cmdp, gap).solve()
    proof = check_mixture(cmdp, found.proof)
    mixture = PolicyMixture(cmdp, found.proof.actions, found.proof.weights)
    if not found.feasible:
        least = check_least_excess(cmdp, found.weights, found.farkas)
        if least > SURE and proof.relative_excess - least <= TOLERANCE * (1.0 + least):
            return _unattainable(proof, found.sweeps, mixture=mixture)
    return _judged(found.proof.multipliers, proof, found.sweeps, gap, mixture=mixture)


def solve_over_policies(cmdp: TabularCMDP) -> Solution:
    """The same for a CMDP of many states with limits on means: over its deterministic policies, generated as they are needed
    (:mod:`surefoot.solvers.column_generation`). Augmented tasks (:func:`surefoot.cmdp.augment`) are such.

    Raises:
        InvalidInput: a limit is on a functional; augment the task.
    """
    if cmdp.functionals:
        raise _functionals(cmdp)
    return _over_policies(cmdp, 0)


class OccupancyProgram:
    """Solves a sequence of CMDPs of one shape, each from the optimal basis of ``anchor``.

    Starting every task from the same basis, not from the last task's, makes the answer independent of the order in which
    tasks are solved and of how they are spread over workers.

    Args:
        anchor: a typical task, or ``None`` for a cold start every time.
        tolerance: relative gap up to which an answer counts as optimal.
    """

    def __init__(self, anchor: TabularCMDP | None = None, *, tolerance: float = TOLERANCE) -> None:
        self._basis: Any = None
        self._tolerance = tolerance
        if anchor is not None:
            if anchor.functionals:
                anchor = anchor.with_means(implied_means(anchor))
            solver, status, _ = _run(anchor, anchor.cost_limits, None)
            if status == "optimal":
                self._basis = solver.getBasis()

    def solve(self, cmdp: TabularCMDP) -> Solution:
        """Optimal policy, values, multipliers and certificate of ``cmdp``; for limits on functionals see :func:`solve`."""
        return self._stationary(cmdp) if cmdp.functionals else self._exact(cmdp)

    def _stationary(self, cmdp: TabularCMDP) -> Solution:
        """The best stationary policy that was found under limits on functionals."""
        iterations = 0

        def under_means(task: TabularCMDP) -> tuple[bool, FloatArray, float]:
            nonlocal iterations
            answer = self._exact(task)
            iterations += answer.iterations
            return answer.status == "optimal", answer.policy, answer.bound

        found = search(cmdp, under_means)
        best = found.best
        feasible, value = bool(found.excess[best] <= 0.0), float(found.values[best, 0])
        return Solution(
            status="optimal" if feasible else "infeasible",
            table=found.tables[best],
            value=value if feasible else np.nan,
            costs=found.values[best, 1:],
            multipliers=np.full(cmdp.n_constraints, np.nan),
            gap=found.bound - value if feasible else np.inf,
            excess=float(found.excess[best]),
            bound=found.bound if feasible else -np.inf,
            iterations=iterations,
        )

    def _exact(self, cmdp: TabularCMDP) -> Solution:
        spent = 0
        for basis in [self._basis, None] if self._basis is not None else [None]:
            solver, status, iterations = _run(cmdp, cmdp.cost_limits, basis)
            spent += iterations
            if status == "infeasible":
                return self._infeasible(cmdp, spent)
            if status == "optimal":
                found = _optimum(cmdp, solver, spent, self._tolerance)
                if found.status == "optimal":
                    return found
        return _over_policies(cmdp, spent, self._tolerance)

    def _infeasible(self, cmdp: TabularCMDP, iterations: int) -> Solution:
        """The policy with the smallest worst excess over the limits, by the same program with one slack column."""
        solver, status, more = _run(cmdp, cmdp.cost_limits, None, relaxed=True)
        if status == "optimal":
            n_columns = cmdp.n_states * cmdp.n_actions
            answer = solver.getSolution()
            policy = _policy(cmdp, np.asarray(answer.col_value)[:n_columns], np.asarray(answer.col_dual)[:n_columns])
            weights = np.maximum(-np.asarray(answer.row_dual[cmdp.n_states :], dtype=np.float64), 0.0)
            found = _least_excess(cmdp, policy, weights, iterations + more)
            if found is not None:
                return found
        return _over_policies(cmdp, iterations + more, self._tolerance)


def _optimum(cmdp: TabularCMDP, solver: Any, iterations: int, tolerance: float) -> Solution:
    """The solver's answer, judged by the certificate."""
    answer = solver.getSolution()
    reward, costs = _scales(cmdp)
    multipliers = np.maximum(-np.asarray(answer.row_dual[cmdp.n_states :], dtype=np.float64), 0.0) * reward / costs
    policy = _policy(cmdp, np.asarray(answer.col_value), np.asarray(answer.col_dual))
    return _judged(multipliers, certify(cmdp, policy, multipliers), iterations, tolerance, table=policy)


def _judged(
    multipliers: FloatArray,
    proof: OptimalityCertificate,
    iterations: int,
    tolerance: float,
    *,
    table: FloatArray | None = None,
    mixture: PolicyMixture | None = None,
) -> Solution:
    # Two scales: a task with huge rewards must not be allowed a huge excess over a small limit.
    optimal = proof.relative_gap <= tolerance and proof.relative_excess <= TOLERANCE
    return Solution(
        status="optimal" if optimal else "failed",
        value=proof.value if optimal else np.nan,
        costs=proof.costs,
        multipliers=multipliers,
        gap=proof.gap,
        excess=proof.excess,
        bound=proof.bound,
        iterations=iterations,
        table=table,
        mixture=mixture,
        tolerance=tolerance,
    )


def _unattainable(
    proof: OptimalityCertificate,
    iterations: int,
    *,
    table: FloatArray | None = None,
    mixture: PolicyMixture | None = None,
) -> Solution:
    """The answer for a task that was proved infeasible."""
    return Solution(
        status="infeasible",
        value=np.nan,
        costs=proof.costs,
        multipliers=np.full(proof.costs.size, np.nan),
        gap=np.inf,
        excess=proof.excess,
        bound=-np.inf,
        iterations=iterations,
        table=table,
        mixture=mixture,
    )


def _least_excess(cmdp: TabularCMDP, policy: FloatArray, weights: FloatArray, iterations: int) -> Solution | None:
    """``policy`` as the answer for an infeasible task, if ``weights`` (I,) prove it infeasible and ``policy`` best; else ``None``."""
    least = least_excess(cmdp, weights, policy)
    proof = certify(cmdp, policy, np.zeros(cmdp.n_constraints))
    if not (least > SURE and proof.relative_excess - least <= TOLERANCE * (1.0 + least)):
        return None
    return _unattainable(proof, iterations, table=policy)


def _over_policies(cmdp: TabularCMDP, iterations: int, tolerance: float = TOLERANCE) -> Solution:
    """The same task solved over deterministic policies, judged by the same certificates."""
    master = PolicyMaster(cmdp)
    policy, weights = master.least_excess()
    found = _least_excess(cmdp, policy, weights, iterations)
    if found is not None:
        return found
    # At the very edge of feasibility the limits can be met up to rounding only.
    for allowed in (0.0, 0.5 * TOLERANCE):
        policy, multipliers = master.optimum(allowed)
        answer = _judged(multipliers, certify(cmdp, policy, multipliers), iterations, tolerance, table=policy)
        if answer.status == "optimal":
            break
    return answer


def _scales(cmdp: TabularCMDP) -> tuple[float, FloatArray]:
    """Powers of two: the size of the rewards, and (I,) of the costs and limits; 1 where they are ordinary."""
    largest = cmdp.costs.max(axis=(1, 2)) if cmdp.n_constraints else np.zeros(0)
    sizes = np.concatenate([[float(np.abs(cmdp.rewards).max())], np.maximum(largest, cmdp.cost_limits)])
    ordinary = (sizes == 0.0) | ((sizes >= 1.0 / ORDINARY) & (sizes <= ORDINARY))
    powers = np.exp2(np.frexp(sizes)[1].astype(np.float64))
    scales: FloatArray = np.where(ordinary, 1.0, powers)
    return float(scales[0]), scales[1:]


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
    solver = make_solver(
        _model(cmdp, limits, relaxed),
        presolve="off" if basis is not None else "choose",
        primal_feasibility_tolerance=1e-10,
        dual_feasibility_tolerance=1e-10,
        small_matrix_value=1e-12,
        simplex_iteration_limit=PATIENCE * (cmdp.n_states + cmdp.n_constraints),
    )
    if basis is not None:
        solver.setBasis(basis)
    status = run_solver(solver)
    return solver, status, int(solver.getInfo().simplex_iteration_count)


def _model(cmdp: TabularCMDP, limits: FloatArray, relaxed: bool) -> Any:
    """The program by columns; ``relaxed`` adds one column that relaxes all limits and becomes the objective."""
    n, i = cmdp.n_states, cmdp.n_constraints
    row, column, value = _entries(cmdp)
    reward, costs = _scales(cmdp)
    value = value / np.concatenate([np.ones(n), costs])[row]
    objective = -cmdp.rewards.reshape(-1) / reward
    if relaxed:
        # In units of the limits, and of 1 where there is one limit: its unit would change nothing.
        units = limit_units(cmdp) / costs if i > 1 else np.ones(i)
        row, value = np.r_[row, n + np.arange(i)], np.r_[value, -units]
        column = np.r_[column, np.full(i, objective.size)]
        objective = np.append(np.zeros(objective.size), 1.0)
    order = np.argsort(column * (n + i) + row, kind="stable")
    matrix = Matrix.from_entries(row[order], column[order], value[order], objective.size)
    columns = np.zeros(objective.size), np.full(objective.size, INFINITY)
    rows = np.concatenate([cmdp.start, np.full(i, -INFINITY)]), np.concatenate([cmdp.start, limits / costs])
    return make_model(objective, columns, rows, matrix)


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
