"""The optimum of a CMDP as a linear program over its deterministic policies, generated as they are needed.

    maximise   sum_k w_k V_r(pi_k)     subject to     sum_k w_k V_c(pi_k) <= d,     w in the simplex          (master)

A policy that improves the master maximises ``r - lam c`` for the multipliers ``lam`` of the limits: an unconstrained problem, solved by
policy iteration (Dantzig & Wolfe 1960; for CMDPs Altman 1999, chapter 12). The least excess is found the same way, with one column
``t`` that relaxes all limits. At most I + 1 policies have weight; the stationary policy with the occupancy of their mixture is

    pi(a|s) = sum_k w_k y_k(s) pi_k(a|s) / sum_k w_k y_k(s),      y_k(s): discounted visits of s under pi_k.

The master has I + 1 rows, and its columns are exact values. No tolerance of a solver ever meets a transition probability, which is why
this works for degenerate programs and rare transitions; where the program over occupancies works as well, it is faster for many limits.

Letters: S states, A actions, I constraints, K policies.
"""

from __future__ import annotations

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.cmdp.evaluate import evaluate_many, occupancy
from surefoot.cmdp.model import TabularCMDP
from surefoot.highs import INFINITY, Matrix, make_model, make_solver, run_solver
from surefoot.solvers.certificate import best_response, limit_units

__all__ = ["PolicyMaster", "solve_master"]

MAX_POLICIES = 500
CLOSED = 1e-11
"""Improvement, relative to the terms it is a difference of, below which no policy improves the master."""


class PolicyMaster:
    """Policies of one task and their exact values.

    Args:
        cmdp: the task.
    """

    def __init__(self, cmdp: TabularCMDP) -> None:
        self._cmdp = cmdp
        self._units = limit_units(cmdp)
        self._policies: list[FloatArray] = []
        self._values = np.zeros((0, 1 + cmdp.n_constraints))
        self._respond(cmdp.rewards)

    def least_excess(self) -> tuple[FloatArray, FloatArray]:
        """The policy (S, A) with the smallest worst excess relative to the limits, or the first that meets them; the weights (I,) of the limits."""
        costs = self._cmdp.costs / self._units[:, None, None]
        self._respond(-costs.sum(axis=0))
        while True:
            shares, duals, worst = self._solve(relaxed=True)
            total = duals.sum()
            if worst <= 0.0 or not total > 0.0 or len(self._policies) >= MAX_POLICIES:
                break
            price = duals / total
            excess = self._respond(-np.tensordot(price, costs, axes=1))
            if price @ excess >= worst - CLOSED * (1.0 + abs(worst)):
                break
        return self._mixture(shares), duals

    def optimum(self, allowed: float = 0.0) -> tuple[FloatArray, FloatArray]:
        """The optimal policy (S, A) and the multipliers (I,) of the limits; meaningful where the limits can be met.

        Args:
            allowed: excess, relative to the limits, that counts as none.
        """
        cmdp = self._cmdp
        while True:
            shares, duals, value = self._solve(relaxed=False, allowed=allowed)
            multipliers = duals / self._units
            if len(self._policies) >= MAX_POLICIES:
                break
            self._respond(cmdp.rewards - np.tensordot(multipliers, cmdp.costs, axes=1))
            gain, cost = self._values[-1, 0], multipliers @ (self._values[-1, 1:] - cmdp.cost_limits)
            terms = abs(gain) + float(multipliers @ (self._values[-1, 1:] + cmdp.cost_limits)) + abs(value)
            if gain - cost <= value + CLOSED * terms:
                break
        return self._mixture(shares), multipliers

    def _respond(self, signal: FloatArray) -> FloatArray:
        """Add the policy that maximises ``signal`` (S, A); its excess (I,) in units of the limits."""
        cmdp = self._cmdp
        uniform = np.full((cmdp.n_states, cmdp.n_actions), 1.0 / cmdp.n_actions)
        table, _ = best_response(cmdp, signal, self._policies[-1] if self._policies else uniform)
        self._policies.append(table)
        self._values = np.concatenate([self._values, evaluate_many(cmdp, table)])
        excess: FloatArray = (self._values[-1, 1:] - cmdp.cost_limits) / self._units
        return excess

    def _solve(self, *, relaxed: bool, allowed: float = 0.0) -> tuple[FloatArray, FloatArray, float]:
        """Shares (K,), multipliers (I,) >= 0 in units of the limits, and the value: the return, or the worst relative excess."""
        return solve_master(self._values, self._cmdp.cost_limits, self._units, relaxed=relaxed, allowed=allowed)

    def _mixture(self, shares: FloatArray) -> FloatArray:
        """(S, A) stationary policy with the occupancy of the mixture; where it never comes it does what the last policy does."""
        used = np.flatnonzero(shares > 0.0)
        if used.size == 0:
            return self._policies[-1]
        visits = sum(shares[k] * occupancy(self._cmdp, self._policies[k]) for k in used)
        total = np.asarray(visits).sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            table: FloatArray = np.where(total > 0.0, visits / total, self._policies[-1])
        return table


def solve_master(
    values: FloatArray, limits: FloatArray, units: FloatArray, *, relaxed: bool, allowed: float = 0.0
) -> tuple[FloatArray, FloatArray, float]:
    """The master program over policies with values (K, 1+I).

    Args:
        values: returns and costs.
        limits: (I,).
        units: (I,) what an excess is measured in.
        relaxed: minimise the largest excess; otherwise maximise the return within the limits.
        allowed: excess, in these units, that counts as none.

    Returns:
        Shares (K,), multipliers (I,) >= 0 in these units, and the value: the return, or the largest excess. Where the solver finds nothing, shares
        and multipliers are zero.
    """
    count, constraints = len(values), limits.size
    excess = (values[:, 1:] - limits) / units - allowed
    reward = np.exp2(np.frexp(max(float(np.abs(values[:, 0]).max()), 1e-300))[1].astype(np.float64))
    # A policy far above its limits gets a share far below one: columns are measured by their largest entry.
    sizes = np.exp2(np.frexp(np.maximum(np.abs(excess).max(axis=1, initial=1.0), 1.0))[1].astype(np.float64))
    rows = np.concatenate([excess.T, np.ones((1, count))]) / sizes
    objective = np.zeros(count) if relaxed else -values[:, 0] / reward / sizes
    if relaxed:
        slack = np.append(-np.ones(constraints), 0.0)
        rows, objective = np.column_stack([rows, slack]), np.append(objective, 1.0)
    shares, duals, value = _minimise(objective, rows, free=relaxed)
    if relaxed:
        return shares[:count] / sizes, duals, value
    return shares / sizes, duals * float(reward), -value * float(reward)


def _minimise(objective: FloatArray, rows: FloatArray, *, free: bool) -> tuple[FloatArray, FloatArray, float]:
    """Shares, multipliers of all rows but the last, value of: minimise over shares >= 0, rows <= 0, the last row = 1.

    ``free``: the last column may be negative. Where the solver finds nothing, shares and multipliers are zero.
    """
    m, n = rows.shape
    columns = np.append(np.zeros(n - 1), -INFINITY if free else 0.0), np.full(n, INFINITY)
    ends = np.append(np.full(m - 1, -INFINITY), 1.0), np.append(np.zeros(m - 1), 1.0)
    solver = make_solver(
        make_model(objective, columns, ends, Matrix.from_dense(rows)),
        presolve="off",
        primal_feasibility_tolerance=1e-10,
        dual_feasibility_tolerance=1e-10,
        small_matrix_value=1e-12,
    )
    if run_solver(solver) != "optimal":
        return np.zeros(n), np.zeros(m - 1), np.inf
    answer = solver.getSolution()
    shares = np.asarray(answer.col_value, dtype=np.float64)
    duals = np.maximum(-np.asarray(answer.row_dual, dtype=np.float64)[: m - 1], 0.0)
    return np.maximum(shares, 0.0), duals, float(solver.getInfo().objective_function_value)
