"""The extended linear program: a policy and a transition model chosen together (Efroni, Mannor & Pirotta 2020; Bura et al. 2022).

Over all policies and all kernels P in the box ``lo <= P(s'|s,a) <= hi``,

    maximise V_r(pi; P)   subject to   V_c(pi; P) <= b .

With occupancies ``q(s,a,s') = d(s,a) P(s'|s,a)`` this is linear. Writing ``q = lo d + z`` leaves

    maximise   sum d r
    subject to sum_a d(s,a) - gamma sum_{s-,a-} (lo d + z)(s-,a-,s) = rho(s)           for every s          (flow)
               sum_s' z(s,a,s') = (1 - sum_s' lo) d(s,a)                                for every (s,a)      (mass)
               0 <= z(s,a,s') <= (hi - lo)(s,a,s') d(s,a)                               for every entry      (interval)
               sum d c_i <= b_i                                                         for every i          (cost)

over the entries of the known support only: half the rows of the form in q. HiGHS starts from the last basis. Then
``pi = d / sum_a d`` and ``P = q / d``. Where ``sum_a d = 0`` any action keeps the proof of safety; the papers take the uniform
policy, here the caller names one (the safe policy, which can only help).

**What the solver says is not believed.** :func:`check` takes the pair (pi, P) alone and knows no linear programming: P must lie in
the box, ``V_c(pi; P)`` and ``V_r(pi; P)`` come from one linear system, and weak duality bounds the optimum by

    max_{pi, P in box} V_{r - lam c}(pi; P) + lam . b,

an unconstrained problem solved by policy iteration, whose inner maximum over the box is a continuous knapsack, and made rigorous by
its Bellman residual.

Letters: S states, A actions, I constraints, E entries of the support.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.baselines.counts import Support
from surefoot.blas import solve_systems
from surefoot.highs import INFINITY, Matrix, Status, make_model, make_solver, run_solver

__all__ = ["Check", "ExtendedProgram", "ExtendedSolution", "Problem", "check"]

TOLERANCE = 1e-6
"""Gap relative to the value up to which a checked answer counts as optimal."""
TIGHTENING = 1e-7
"""The program is solved at ``b (1 - TIGHTENING)`` and verified at b."""
UNVISITED = 1e-9
ROUNDING = 1e-9
"""Of the linear system behind exact values, and of a kernel projected into its box."""
MAX_SWEEPS = 200


@dataclass(frozen=True, eq=False)
class Problem:
    """What is solved; signals and box are already optimistic or pessimistic as the method has it.

    Attributes:
        support: possible successors.
        lower, upper: (E,) box of the kernel; every pair's box contains a distribution.
        rewards: (S, A).
        costs: (I, S, A).
        limits: (I,).
        start: (S,).
        discount: gamma.
    """

    support: Support
    lower: FloatArray
    upper: FloatArray
    rewards: FloatArray
    costs: FloatArray
    limits: FloatArray
    start: FloatArray
    discount: float


@dataclass(frozen=True, eq=False)
class Check:
    """What is proved about a pair of policy and kernel.

    Attributes:
        value: ``V_r(pi; P)``.
        costs: (I,) ``V_c(pi; P)``.
        excess: largest ``V_c - b``.
        outside: largest distance of P from the box.
        bound: upper bound on the value of every feasible pair.
    """

    value: float
    costs: FloatArray
    excess: float
    outside: float
    bound: float

    @property
    def gap(self) -> float:
        """``bound - value``."""
        return self.bound - self.value


@dataclass(frozen=True, eq=False)
class ExtendedSolution:
    """Answer of :class:`ExtendedProgram`; failure is a value.

    Attributes:
        status: ``"optimal"`` (checked), ``"infeasible"`` or ``"failed"``.
        policy: (S, A), the fallback policy unless optimal.
        kernel: (E,) the chosen model; NaN unless optimal.
        proof: what :func:`check` found; ``None`` where the solver gave no answer.
        iterations: of the simplex method.
    """

    status: Status
    policy: FloatArray
    kernel: FloatArray
    proof: Check | None
    iterations: int


class ExtendedProgram:
    """Solves a sequence of problems of one shape, each from the last optimal basis."""

    def __init__(self) -> None:
        self._basis: Any = None

    def solve(self, problem: Problem, fallback: FloatArray) -> ExtendedSolution:
        """The best pair of policy and kernel, checked.

        Args:
            problem: what to solve.
            fallback: (S, A) actions for states that the answer does not visit.
        """
        solver, status, iterations = _run(problem, self._basis)
        if status != "optimal" and self._basis is not None:
            # An old basis may mislead the solver; a cold start has the last word.
            solver, status, more = _run(problem, None)
            iterations += more
        if status != "optimal":
            return ExtendedSolution(status, fallback, np.full(len(problem.support), np.nan), None, iterations)
        self._basis = solver.getBasis()
        answer = solver.getSolution()
        duals = np.asarray(answer.row_dual)[-problem.limits.size :] if problem.limits.size else np.zeros(0)
        policy, kernel = _recover(problem, np.asarray(answer.col_value), fallback)
        multipliers = np.maximum(-duals, 0.0) * _reward_scale(problem)
        proof = check(problem, policy, kernel, multipliers)
        accepted = _accepts(proof, float(multipliers @ problem.limits))
        return ExtendedSolution("optimal" if accepted else "failed", policy, kernel, proof, iterations)


def _accepts(proof: Check, price: float) -> bool:
    """``price``: value of the whole budget, a share of which the tightened limits give away on purpose."""
    allowed = TOLERANCE * max(1.0, abs(proof.value), abs(proof.bound)) + 2.0 * TIGHTENING * price
    return (
        proof.excess <= ROUNDING * max(1.0, float(np.abs(proof.costs).max(initial=0.0)))
        and proof.outside <= ROUNDING
        and proof.gap <= allowed
    )


def check(problem: Problem, policy: FloatArray, kernel: FloatArray, multipliers: FloatArray) -> Check:
    """What holds for (pi, P), whoever proposed it; ``multipliers`` (I,) >= 0 only affect how tight the bound is."""
    signals = np.concatenate([problem.rewards[None], problem.costs])
    values = _state_values(problem, policy, kernel, signals) @ problem.start
    # Rows that do not sum to one are no kernel, however well each entry fits its interval.
    mass = np.abs(problem.support.sum(kernel) - 1.0).max()
    outside = max(float((problem.lower - kernel).max()), float((kernel - problem.upper).max()), float(mass))
    penalised = problem.rewards - np.tensordot(multipliers, problem.costs, axes=1)
    return Check(
        value=float(values[0]),
        costs=values[1:],
        excess=float((values[1:] - problem.limits).max(initial=-np.inf)),
        outside=outside,
        bound=_best_pair(problem, penalised, policy, kernel) + float(multipliers @ problem.limits),
    )


def _state_values(problem: Problem, policy: FloatArray, kernel: FloatArray, signals: FloatArray) -> FloatArray:
    """(F, S) values of F signals (F, S, A) under one policy and one kernel."""
    support, n = problem.support, problem.support.n_states
    weights = policy.reshape(-1)[support.rows] * kernel
    cell = support.triples[:, 0] * n + support.successors
    moves = np.bincount(cell, weights=weights, minlength=n * n).reshape(n, n)
    collected = np.einsum("sa,fsa->sf", policy, signals)
    values: FloatArray = solve_systems(np.eye(n) - problem.discount * moves, collected).T
    return values


def _best_pair(problem: Problem, signal: FloatArray, policy: FloatArray, kernel: FloatArray) -> float:
    """Upper bound on ``max_{pi, P in box} V_signal(pi; P)``, by policy iteration from (policy, kernel)."""
    scale = max(1.0, float(np.abs(signal).max())) / (1.0 - problem.discount)
    table, moves = policy, kernel
    for _ in range(MAX_SWEEPS):
        value = _state_values(problem, table, moves, signal[None])[0]
        moves = _favourable(problem, value)
        ahead = problem.support.sum(moves * value[problem.support.successors]).reshape(signal.shape)
        quality = signal + problem.discount * ahead
        residual = float((quality.max(axis=1) - value).max())
        if residual <= 1e-11 * scale:
            break
        table = np.zeros_like(policy)
        table[np.arange(len(table)), quality.argmax(axis=1)] = 1.0
    return float(problem.start @ value) + max(residual, 0.0) / (1.0 - problem.discount)


def _favourable(problem: Problem, value: FloatArray) -> FloatArray:
    """(E,) the kernel in the box with the largest expected ``value`` of the next state: best successors are filled first."""
    support = problem.support
    order = np.lexsort((-value[support.successors], support.rows))
    room = (problem.upper - problem.lower)[order]
    before = np.cumsum(room) - room
    before -= before[support.first][support.rows]
    free = 1.0 - support.sum(problem.lower)
    kernel = np.empty(len(support))
    kernel[order] = problem.lower[order] + np.clip(free[support.rows] - before, 0.0, room)
    return kernel


def _recover(problem: Problem, columns: FloatArray, fallback: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Policy and kernel of an occupancy."""
    support = problem.support
    pairs = support.sizes.size
    d, z = np.maximum(columns[:pairs], 0.0), np.maximum(columns[pairs:], 0.0)
    table = d.reshape(fallback.shape)
    total = table.sum(axis=1, keepdims=True)
    policy = np.where(total > UNVISITED, table / np.maximum(total, UNVISITED), fallback)
    policy[policy < 1e-12] = 0.0
    policy /= policy.sum(axis=1, keepdims=True)
    share = z / np.maximum(d[support.rows], UNVISITED)
    return policy, _project(problem, problem.lower + share)


def _project(problem: Problem, kernel: FloatArray) -> FloatArray:
    """The nearest thing to ``kernel`` that lies in the box and sums to one: missing or surplus mass is shared in proportion to the room."""
    support = problem.support
    inside = np.clip(kernel, problem.lower, problem.upper)
    missing = 1.0 - support.sum(inside)
    room = np.where(missing[support.rows] > 0.0, problem.upper - inside, inside - problem.lower)
    total = support.sum(room)
    step = np.divide(missing, total, out=np.zeros_like(missing), where=total > 0.0)
    moved: FloatArray = inside + step[support.rows] * room
    return moved


def _reward_scale(problem: Problem) -> float:
    """Bonuses make rewards as large as 1e6; the solver sees them divided by this."""
    return max(1e-12, float(np.abs(problem.rewards).max()))


def _run(problem: Problem, basis: Any) -> tuple[Any, Status, int]:
    presolve = "off" if basis is not None else "choose"
    solver = make_solver(
        _model(problem), presolve=presolve, primal_feasibility_tolerance=1e-10, dual_feasibility_tolerance=1e-10
    )
    if basis is not None:
        solver.setBasis(basis)
    status = run_solver(solver)
    return solver, status, int(solver.getInfo().simplex_iteration_count)


def _model(problem: Problem) -> Any:
    """The program by columns: first d (S*A), then z (E); rows: flow, mass, interval, cost."""
    support = problem.support
    n, pairs, entries, i = support.n_states, support.sizes.size, len(support), problem.limits.size
    row, column, value = _coefficients(problem)
    # Duplicates (a self-loop and the state's own 1) are summed here.
    key = column * (n + pairs + entries + i) + row
    unique, where = np.unique(key, return_inverse=True)
    summed = np.asarray(np.bincount(where, weights=value), dtype=np.float64)
    columns, rows = np.divmod(unique, n + pairs + entries + i)
    size, limits = pairs + entries, problem.limits * (1.0 - TIGHTENING)
    cost = np.concatenate([-problem.rewards.reshape(-1) / _reward_scale(problem), np.zeros(entries)])
    low = np.concatenate([problem.start, np.zeros(pairs), np.full(entries + i, -INFINITY)])
    high = np.concatenate([problem.start, np.zeros(size), limits])
    matrix = Matrix.from_entries(rows, columns, summed, size)
    return make_model(cost, (np.zeros(size), np.full(size, INFINITY)), (low, high), matrix)


def _coefficients(problem: Problem) -> tuple[IntArray, IntArray, FloatArray]:
    """Rows, columns and values, in the order of the module's docstring."""
    support, gamma = problem.support, problem.discount
    n, pairs, entries, i = support.n_states, support.sizes.size, len(support), problem.limits.size
    pair, entry = np.arange(pairs), np.arange(entries)
    free = 1.0 - support.sum(problem.lower)
    width = problem.upper - problem.lower
    which, priced = np.nonzero(problem.costs.reshape(i, pairs))
    blocks = [
        (pair // support.n_actions, pair, np.ones(pairs)),
        (support.successors, support.rows, -gamma * problem.lower),
        (support.successors, pairs + entry, np.full(entries, -gamma)),
        (n + pair, pair, -free),
        (n + support.rows, pairs + entry, np.ones(entries)),
        (n + pairs + entry, pairs + entry, np.ones(entries)),
        (n + pairs + entry, support.rows, -width),
        (n + pairs + entries + which, priced, problem.costs.reshape(i, pairs)[which, priced]),
    ]
    row, column, value = (np.concatenate(part) for part in zip(*blocks))
    return row, column, value
