"""Signals and start distribution that all cells share, found by least squares from what a policy set predicts.

Occupancies follow from kernels and policies, ``X_ij = (1 - gamma P_i,pi_j)^-1`` on the initial states, and values are linear in the signals, so

    f = argmin sum_ijb |X_ijb f - v_ijb|^2,  f in its declared range,        rho = argmin sum_ij |rho . X_ij f - v_ij|^2,  rho in the simplex,

``v_ijb`` read at the middle of its interval; the equations of rho then join those of f, and both are solved again.

Letters: S states, A actions, I constraints, F = 1 + I signals, J policies, N cells, B initial states, Q pairs (cell, policy).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.blas import solve_systems
from surefoot.cmdp.model import TabularCMDP
from surefoot.planning.predictions import (
    center_kernel,
    center_values,
    conditional_middles,
    initial_states,
    kernel_boxes,
    policy_tables,
)
from surefoot.policyset.schema import PolicySet

__all__ = ["ROUGH_PULL", "TaskModel", "fit_start", "fit_tasks"]

PAIRS = 200
"""Signals are fitted to so many pairs of cell and policy."""
ROUNDS, CENTER_WEIGHT = 2, 1e4
"""How often signals and start are found in turn; how much one value at a centre counts, in values given one initial state averaged over all."""
NEWTON_STEPS = 40
START_PULL, ROUGH_PULL = 1e-3, 0.1
"""Weight of the pull towards a uniform start, where predictions leave the start distribution open; the second where they are read off intervals."""


@dataclass(frozen=True, eq=False)
class TaskModel:
    """What all cells share: signals (F, S, A) and the start distribution (S,)."""

    signals: FloatArray
    start: FloatArray

    def task(self, policy_set: PolicySet, cell: int) -> TabularCMDP:
        """The task at the centre of a cell."""
        kernel = center_kernel(kernel_boxes(policy_set), cell, *self.signals.shape[1:])
        criterion = policy_set.criterion
        return TabularCMDP(
            kernel, self.signals[0], self.signals[1:], criterion.cost_limits, self.start, criterion.discount
        )


def _pairs(policy_set: PolicySet) -> list[tuple[int, int]]:
    """Pairs of cell and policy that signals are fitted to: every policy at least once, cells evenly, all pairs where there are few."""
    n, j = len(policy_set.cells), len(policy_set.policies)
    many = min(max(PAIRS, j), n * j)
    return (
        [(q * n // many, q % j) for q in range(many)] if many < n * j else [(i, k) for i in range(n) for k in range(j)]
    )


def fit_tasks(policy_set: PolicySet) -> TaskModel:
    """Signals and start distribution by least squares; see the module's docstring."""
    pairs, states = _pairs(policy_set), initial_states(policy_set)
    visits = _visits(policy_set, pairs)
    middles, centers = conditional_middles(policy_set), center_values(policy_set)
    given = np.stack([middles[pair] for pair in pairs])
    wanted = np.stack([centers[pair] for pair in pairs])
    problem = _Squares.of(visits, given)
    signals = problem.solve(_bounds(policy_set))
    for _ in range(ROUNDS):
        start = fit_start(np.einsum("qbx,fx->qfb", visits, signals).reshape(-1, states.size), wanted.ravel())
        whole = np.einsum("b,qbx->qx", start, visits)
        signals = problem.plus(whole, wanted, CENTER_WEIGHT * states.size).solve(_bounds(policy_set))
    tables = policy_tables(policy_set)
    everywhere = np.zeros(tables.shape[1])
    everywhere[states] = start
    return TaskModel(signals.reshape(-1, *tables.shape[1:]), everywhere)


def _visits(policy_set: PolicySet, pairs: list[tuple[int, int]]) -> FloatArray:
    """(Q, B, S*A) discounted visits of every pair (s, a) from every initial state."""
    tables, states = policy_tables(policy_set), initial_states(policy_set)
    unit = np.eye(tables.shape[1])
    found = []
    kernels: dict[int, FloatArray] = {}
    for cell, policy in pairs:
        if cell not in kernels:
            kernels = {cell: center_kernel(kernel_boxes(policy_set), cell, *tables.shape[1:])}
        moves = np.einsum("sa,sat->st", tables[policy], kernels[cell])
        visits = solve_systems((unit - policy_set.criterion.discount * moves).T, unit[:, states]).T
        found.append((visits[:, :, None] * tables[policy]).reshape(states.size, -1))
    return np.stack(found)


def _bounds(policy_set: PolicySet) -> FloatArray:
    """(F, 2) declared range of each signal per step."""
    criterion = policy_set.criterion
    return np.array([criterion.reward_bounds, *((0.0, float(c)) for c in criterion.cost_bounds)])


@dataclass(frozen=True, eq=False)
class _Squares:
    """Normal equations ``gram f = target`` of F least-squares problems in x = S*A unknowns: (x, x) and (F, x)."""

    gram: FloatArray
    target: FloatArray

    @staticmethod
    def of(visits: FloatArray, values: FloatArray) -> _Squares:
        """From visits (Q, B, x) and the values (Q, F, B) they should lead to."""
        flat = visits.reshape(-1, visits.shape[2])
        gram = flat.T @ flat
        # A pull towards zero too weak to matter decides what no policy ever visits.
        gram[np.diag_indices_from(gram)] += 1e-9 * gram.trace() / gram.shape[0]
        return _Squares(gram, values.transpose(1, 0, 2).reshape(values.shape[1], -1) @ flat)

    def plus(self, visits: FloatArray, values: FloatArray, weight: float) -> _Squares:
        """With further equations, visits (Q, x) and values (Q, F), of this weight each."""
        return _Squares(self.gram + weight * visits.T @ visits, self.target + weight * values.T @ visits)

    def solve(self, bounds: FloatArray) -> FloatArray:
        """(F, x) minimisers within bounds (F, 2)."""
        return np.stack([_within(self.gram, target, *ends) for target, ends in zip(self.target, bounds)])


def _within(gram: FloatArray, target: FloatArray, low: float, high: float) -> FloatArray:
    """(x,) minimiser of ``x.gram x / 2 - target.x`` between ``low`` and ``high``, by projected Newton steps (Bertsekas 1982)."""
    point: FloatArray = np.clip(solve_systems(gram, target), low, high)
    for _ in range(NEWTON_STEPS):
        slope = gram @ point - target
        free = ~(((point <= low) & (slope > 0.0)) | ((point >= high) & (slope < 0.0)))
        if np.abs(slope[free]).max(initial=0.0) <= 1e-9 * (1.0 + np.abs(target).max()):
            break
        step = np.zeros_like(point)
        step[free] = -solve_systems(gram[np.ix_(free, free)], slope[free])
        for length in 0.5 ** np.arange(20):
            move = np.clip(point + length * step, low, high) - point
            if slope @ move + 0.5 * move @ gram @ move <= 1e-4 * slope @ move:
                break
        point = point + move
    return point


def fit_start(rows: FloatArray, wanted: FloatArray, pull: float = START_PULL) -> FloatArray:
    """(B,) probabilities for which ``rows @ rho = wanted``, nearly, as close to uniform as that leaves open."""
    from scipy.optimize import nnls

    size = rows.shape[1]
    gram, target = rows.T @ rows, rows.T @ wanted
    scale = gram.trace() / size
    # The sum is imposed by weight; a residue is divided out.
    gram += pull**2 * scale * np.eye(size) + 1e6 * scale * np.ones((size, size))
    target += pull**2 * scale / size + 1e6 * scale
    factor = np.linalg.cholesky(gram)
    weights, _ = nnls(factor.T, solve_systems(factor, target))
    total: float = weights.sum()
    return weights / total if total > 0.0 else np.full(size, 1.0 / size)
