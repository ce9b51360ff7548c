"""The deployment is a linear program over mixtures.

    maximise    sum_j w_j R_j                                    predicted return in cell l, the active cell of largest optimum; or the
                                                                 posterior mean, where cells are no rows
    subject to  sum_j w_j H_hji <= d_i   for every row h, every constraint i,       w in the simplex,
                w_j(l) >= kappa min(alpha_l, cap),      w_j = 0 for barred policies,
                w_0 >= beside sum_{doubted} w_j                                      (:mod:`surefoot.deploy.comparison`)

Rows are hypotheses about the real costs (which ones is the user's trust level). ``alpha_l`` is the largest weight for which
``alpha pi_j(l) + (1 - alpha) pi_s`` satisfies every row; without that last line two cells can agree on everything the plan plays, and neither
would ever be rejected. Rows are generated as they bind. The program is solved slightly inside the limit and **verified at the
limit without the solver**; what fails is not played: the safe policy is, and the plan says so.

Letters: J policies (0 is the safe one), I constraints, H rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, magnitude
from surefoot.highs import Matrix, add_upper_row, make_model, make_solver, run_solver

__all__ = ["Plan", "Program", "plan", "safe_plan", "safe_share", "verify"]

INSIDE = 1e-9
"""Relative distance to the limits at which programs are solved."""
ROUNDING = 1e-12
"""Relative excess over a limit that summing J terms may leave."""
ORDINARY = 2.0**10
"""Sizes within this factor of 1 are left as they are."""
NEGLIGIBLE = 1e-9
"""Weights below this go to the safe policy."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A verified mixture.

    Attributes:
        weights: (J,).
        bounds: (I,) certified upper bounds on its expected costs: the largest over the rows.
        value: predicted return, by the program's objective.
        certified: ``False`` where nothing but the safe policy was certifiable.
        reasons: policy index to why it has this weight, in plain words.
    """

    weights: FloatArray
    bounds: FloatArray
    value: float
    certified: bool
    reasons: dict[int, str]


@dataclass(frozen=True, eq=False)
class Program:
    """Data of the linear program.

    Attributes:
        objective: (J,) predicted returns.
        rows: (H, J, I) upper bounds on costs, one row per hypothesis.
        names: H names of the rows, for reasons.
        limits: (I,).
        candidate: index of the policy that the exploration line keeps alive; 0 for none.
        kappa, cap: of the exploration line.
        barred: policies that get no weight; never the safe one or the candidate.
        doubted, beside: these policies are played only with the safe policy beside them.
    """

    objective: FloatArray
    rows: FloatArray
    names: tuple[str, ...]
    limits: FloatArray
    candidate: int
    kappa: float
    cap: float
    barred: tuple[int, ...] = ()
    doubted: tuple[int, ...] = ()
    beside: float = 0.0


def safe_plan(program: Program, reason: str) -> Plan:
    """All weight on the safe policy."""
    weights = np.zeros(program.objective.size)
    weights[0] = 1.0
    worst = program.rows[:, 0].max(axis=0, initial=-np.inf)
    return Plan(weights, worst, float(program.objective[0]), False, {0: reason})


def verify(weights: FloatArray, rows: FloatArray, limits: FloatArray) -> bool:
    """Whether a mixture satisfies every row at the limit; rounding of a sum of J terms is the only slack."""
    if weights.min() < 0.0 or abs(weights.sum() - 1.0) > 1e-12:
        return False
    costs = np.einsum("j,hji->hi", weights, rows)
    return bool((costs <= limits + ROUNDING * np.abs(limits)).all())


def plan(program: Program) -> Plan:
    """Solve, verify, explain."""
    if not verify(_pure(program, 0), program.rows, program.limits):
        return safe_plan(program, "the safe policy itself is not certified at the limit; nothing better is")
    alpha = largest_weight(program)
    weights, binding = _solve(program, program.kappa * min(alpha, program.cap))
    if weights is None:
        return safe_plan(program, "the solver found no mixture that could be verified")
    tidy = _tidy(weights)
    if not verify(tidy, program.rows, program.limits):
        return safe_plan(program, "the solver's mixture failed verification")
    bounds = np.einsum("j,hji->hi", tidy, program.rows).max(axis=0, initial=-np.inf)
    return Plan(tidy, bounds, float(program.objective @ tidy), True, _reasons(program, tidy, binding))


def largest_weight(program: Program) -> float:
    """``alpha_l``: how much of the candidate's policy the safe policy can carry under every row."""
    if program.candidate == 0:
        return 0.0
    # The last millionth keeps the exploration line itself strictly inside the limits.
    shares = safe_share(program.rows[:, 0], program.rows[:, program.candidate], _inside(program.limits))
    return 0.999999 * float(shares.min(initial=1.0))


def safe_share(safe: FloatArray, other: FloatArray, limits: FloatArray) -> FloatArray:
    """(K,) largest share of a policy with costs ``other`` (K, I) that one with costs ``safe`` (K, I) carries within the limits."""
    room, extra = limits - safe, other - safe
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(extra > 0.0, room / extra, 1.0)
    shares: FloatArray = np.clip(ratio.min(axis=1, initial=1.0), 0.0, 1.0)
    return shares


def _inside(limits: FloatArray) -> FloatArray:
    result: FloatArray = limits - INSIDE * magnitude(np.abs(limits))
    return result


def _pure(program: Program, index: int) -> FloatArray:
    weights = np.zeros(program.objective.size)
    weights[index] = 1.0
    return weights


def _tidy(weights: FloatArray) -> FloatArray:
    """Drop negligible weights in favour of the safe policy and make the sum exactly one."""
    tidy = np.where(weights > NEGLIGIBLE, weights, 0.0)
    tidy[0] = max(0.0, 1.0 - tidy[1:].sum())
    result: FloatArray = tidy / tidy.sum()
    return result


def _solve(program: Program, floor: float) -> tuple[FloatArray | None, list[tuple[int, int]]]:
    """The optimum with rows added as they are violated; ``None`` if the solver gives up. Also the rows that bind."""
    n_rows, _, n_constraints = program.rows.shape
    inside = _inside(program.limits)
    solver = _start(program, floor)
    units = [_unit(limit) for limit in inside.tolist()]
    active: list[tuple[int, int]] = []
    while True:
        if run_solver(solver) != "optimal":
            return None, active
        answer = solver.getSolution()
        weights = np.maximum(np.asarray(answer.col_value, dtype=np.float64), 0.0)
        if not np.isfinite(weights).all():
            return None, active
        excess = np.einsum("j,hji->hi", weights, program.rows) - inside
        fresh = [(int(excess[:, i].argmax()), i) for i in range(n_constraints)] if n_rows else []
        fresh = [
            (h, i) for h, i in fresh if excess[h, i] > 0.1 * (program.limits[i] - inside[i]) and (h, i) not in active
        ]
        if not fresh:
            duals = np.asarray(answer.row_dual)[1 + bool(program.doubted) :]
            return weights, [row for row, dual in zip(active, duals) if dual != 0.0]
        for h, i in fresh:
            add_upper_row(solver, program.rows[h, :, i] / units[i], inside[i] / units[i])
            active.append((h, i))


def _unit(size: float) -> float:
    """A power of two near ``size``, by which a row is divided so that the solver's tolerances are relative; 1 for what is ordinary or zero."""
    ordinary = size == 0.0 or 1.0 / ORDINARY <= size <= ORDINARY
    return 1.0 if ordinary else 2.0 ** math.frexp(size)[1]


def _start(program: Program, floor: float) -> Any:
    size = program.objective.size
    lower, upper = np.zeros(size), np.ones(size)
    lower[program.candidate], upper[list(program.barred)] = floor, 0.0
    unit = _unit(float(np.abs(program.objective).max()))
    simplex = Matrix(np.array([0, size]), np.arange(size), np.ones(size), by_rows=True)
    model = make_model(-program.objective / unit, (lower, upper), (np.ones(1), np.ones(1)), simplex)
    solver = make_solver(model, presolve="off", primal_feasibility_tolerance=1e-10, small_matrix_value=1e-12)
    if program.doubted:
        row = np.zeros(size)
        row[list(program.doubted)], row[0] = program.beside, -1.0
        add_upper_row(solver, row, 0.0)
    return solver


def _reasons(program: Program, weights: FloatArray, binding: list[tuple[int, int]]) -> dict[int, str]:
    limits = sorted({program.names[h] for h, _ in binding})
    held = f"limited by {', '.join(limits)}" if limits else "no limit binds"
    reasons = {int(j): f"best predicted return; {held}" for j in np.flatnonzero(weights)}
    if weights[0] > 0.0:
        reasons[0] = f"the safe policy makes room; {held}" if limits else "best predicted return; no limit binds"
    if program.candidate and weights[program.candidate] > 0.0:
        reasons[program.candidate] = f"the candidate's own policy, kept under test; {held}"
    return reasons
