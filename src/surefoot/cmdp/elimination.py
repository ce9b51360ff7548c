r"""Values of many policies in tasks whose transitions have one support: one plan of elimination, many numbers.

For a policy ``pi`` the values of signals solve ``(I - gamma P_pi) V = f_pi``. That matrix is strictly diagonally dominant by rows, and stays so
under elimination in any symmetric order: no entry grows beyond twice the largest, and pivots are at least ``1 - gamma``, so none has to be looked
for (Golub & Van Loan, section 3.4.10; Higham, Accuracy and Stability of Numerical Algorithms, section 9.5). Which entries ever become nonzero
depends on the support alone. So the order (least degree first) and the fill are found once, and the numbers of many systems are worked through
side by side: arrays end with one column per policy (or per task), and every operation is one on whole columns. What a column becomes does not
depend on what stands beside it.

Letters: S states, A actions, E entries of the support, F signals, J policies, L columns, Z entries that elimination ever makes nonzero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, read_only
from surefoot.cmdp.evaluate import state_values
from surefoot.cmdp.model import TabularCMDP
from surefoot.kernels import kernel

__all__ = ["MOST_STATES", "Elimination", "plan_elimination", "planned_values"]

MOST_STATES = 400
"""Above, tasks are evaluated one by one (:func:`surefoot.cmdp.evaluate.state_values`)."""
COLUMNS = 32
"""Policies worked through side by side."""


@dataclass(frozen=True, eq=False)
class Elimination:
    """The order of elimination and where its numbers stand.

    Attributes:
        n_states, n_actions: S, A.
        keys: (E,) the support, ``(s A + a) S + s'``, ascending.
        order: (S,) states in the order in which they are eliminated.
        target: (E,) where each entry of the support goes in the Z numbers.
        diagonal: (S,) where the diagonal stands, by position in the order.
        left_start, left: for every position, the earlier positions that it is reduced by, ascending, and where those numbers stand (n, 2).
        right_start, right: for every position, the later positions of its row, and where those numbers stand (n, 2).
        place: (S, S) where a number stands, by positions; -1 where it is always zero.
        size: Z.
    """

    n_states: int
    n_actions: int
    keys: IntArray
    order: IntArray
    target: IntArray
    diagonal: IntArray
    left_start: IntArray
    left: IntArray
    right_start: IntArray
    right: IntArray
    place: IntArray
    size: int

    def probabilities(self, cmdp: TabularCMDP) -> FloatArray | None:
        """(E,) of one task on the support; ``None`` where it leaves it."""
        own = cmdp.keys
        if own.size == self.keys.size and np.array_equal(own, self.keys):
            return cmdp.probabilities
        where = np.minimum(np.searchsorted(self.keys, own), self.keys.size - 1)
        if not np.array_equal(self.keys[where], own):
            return None
        found = np.zeros(self.keys.size)
        found[where] = cmdp.probabilities
        return found

    def values(self, probabilities: FloatArray, signals: FloatArray, tables: FloatArray, discount: float) -> FloatArray:
        """(J, F, S) values of policies in one task.

        Args:
            probabilities: (E,) on the support.
            signals: (F, S, A).
            tables: (J, S, A).
            discount: ``gamma``.
        """
        n, found = len(tables), np.empty((len(tables), len(signals), self.n_states))
        flat = np.ascontiguousarray(signals.reshape(len(signals), -1))
        for k in range(0, n, COLUMNS):
            columns = np.ascontiguousarray(tables[k : k + COLUMNS].reshape(-1, self.n_states * self.n_actions).T)
            # Of each argument one kind: Numba compiles anew for arrays that may be written to.
            found[k : k + COLUMNS] = _values(
                read_only(probabilities), read_only(flat), read_only(columns), discount, self.n_actions, self.keys, self.order, self.target,
                self.diagonal, self.left_start, self.left, self.right_start, self.right, self.place, self.size,
            )  # fmt: skip
        return found


def planned_values(plan: Elimination | None, cmdp: TabularCMDP, tables: FloatArray) -> FloatArray:
    """(J, 1+I, S) as :func:`surefoot.cmdp.evaluate.state_values`, by the plan where there is one and the task keeps to its support."""
    if plan is None or cmdp.functionals:
        return state_values(cmdp, tables)
    probabilities = plan.probabilities(cmdp)
    if probabilities is None:
        return state_values(cmdp, tables)
    return plan.values(probabilities, cmdp.signals, tables, cmdp.discount)


def plan_elimination(keys: IntArray, n_states: int, n_actions: int) -> Elimination | None:
    """The plan for tasks whose transitions all lie in ``keys`` (E,); ``None`` above :data:`MOST_STATES` states."""
    if n_states > MOST_STATES:
        return None
    keys = np.asarray(keys, dtype=np.int64)
    row, successor = np.divmod(keys, n_states)
    pattern = np.eye(n_states, dtype=np.bool_)
    pattern[row // n_actions, successor] = True
    order = _eliminate(pattern)
    position = np.empty(n_states, dtype=np.int64)
    position[order] = np.arange(n_states)
    filled = pattern[np.ix_(order, order)]
    place = np.full((n_states, n_states), -1, dtype=np.int64)
    place[filled] = np.arange(np.count_nonzero(filled))
    left, right = np.tril(filled, -1), np.triu(filled, 1)
    return Elimination(
        n_states=n_states,
        n_actions=n_actions,
        keys=keys,
        order=order,
        target=place[position[row // n_actions], position[successor]],
        diagonal=np.diagonal(place).copy(),
        left_start=_starts(left),
        left=_listed(left, place),
        right_start=_starts(right),
        right=_listed(right, place),
        place=place,
        size=int(np.count_nonzero(filled)),
    )


def _eliminate(pattern: Any) -> IntArray:
    """The order of least degree; ``pattern`` (S, S) gets the fill."""
    n = len(pattern)
    left = np.ones(n, dtype=np.bool_)
    order = np.empty(n, dtype=np.int64)
    for k in range(n):
        into, out = pattern[:, left].sum(axis=1), pattern[left].sum(axis=0)
        # Work of the elimination of each state; of those done already none.
        work = np.where(left, (into - 1) * (out - 1), n * n)
        pivot = int(work.argmin())
        left[pivot] = False
        order[k] = pivot
        rows, columns = np.flatnonzero(pattern[:, pivot] & left), np.flatnonzero(pattern[pivot] & left)
        pattern[np.ix_(rows, columns)] = True
    return order


def _starts(entries: Any) -> IntArray:
    found: IntArray = np.concatenate([[0], np.cumsum(entries.sum(axis=1))]).astype(np.int64)
    return found


def _listed(entries: Any, place: IntArray) -> IntArray:
    """(n, 2) the other end of every entry, row by row, and where its number stands."""
    rows, columns = np.nonzero(entries)
    return np.ascontiguousarray(np.stack([columns, place[rows, columns]], axis=1), dtype=np.int64)


@kernel
def factor(numbers, diagonal, left_start, left, right_start, right, place):  # type: ignore[no-untyped-def]
    """Eliminate in place: ``numbers`` (Z, L) become the two factors, the diagonal its inverse."""
    n_columns = numbers.shape[1]
    for i in range(diagonal.size):
        for x in range(left_start[i], left_start[i + 1]):
            k = left[x, 0]
            share = numbers[left[x, 1]]
            inverse = numbers[diagonal[k]]
            for v in range(n_columns):
                share[v] *= inverse[v]
            for y in range(right_start[k], right_start[k + 1]):
                goal = numbers[place[i, right[y, 0]]]
                source = numbers[right[y, 1]]
                for v in range(n_columns):
                    goal[v] -= share[v] * source[v]
        own = numbers[diagonal[i]]
        for v in range(n_columns):
            own[v] = 1.0 / own[v]


@kernel
def substitute(numbers, right_side, diagonal, left_start, left, right_start, right):  # type: ignore[no-untyped-def]
    """Solve in place for right sides (F, S, L), states in the order of elimination."""
    n_columns = numbers.shape[1]
    for f in range(right_side.shape[0]):
        for i in range(diagonal.size):
            goal = right_side[f, i]
            for x in range(left_start[i], left_start[i + 1]):
                share = numbers[left[x, 1]]
                source = right_side[f, left[x, 0]]
                for v in range(n_columns):
                    goal[v] -= share[v] * source[v]
        for i in range(diagonal.size - 1, -1, -1):
            goal = right_side[f, i]
            for y in range(right_start[i], right_start[i + 1]):
                share = numbers[right[y, 1]]
                source = right_side[f, right[y, 0]]
                for v in range(n_columns):
                    goal[v] -= share[v] * source[v]
            inverse = numbers[diagonal[i]]
            for v in range(n_columns):
                goal[v] *= inverse[v]


@kernel
def _values(  # type: ignore[no-untyped-def]
    probabilities, signals, tables, discount, n_actions, keys, order, target, diagonal, left_start, left, right_start, right, place, size
):  # fmt: skip
    """(L, F, S) from tables (S*A, L) and signals (F, S*A)."""
    n_columns, n_states, n_signals = tables.shape[1], order.size, signals.shape[0]
    numbers = np.zeros((size, n_columns))
    for i in range(n_states):
        for v in range(n_columns):  # assigning to a row would take Numba four seconds to compile
            numbers[diagonal[i], v] = 1.0
    for e in range(keys.size):
        weight = discount * probabilities[e]
        if weight != 0.0:
            goal = numbers[target[e]]
            table = tables[keys[e] // n_states]
            for v in range(n_columns):
                goal[v] -= weight * table[v]
    right_side = np.zeros((n_signals, n_states, n_columns))
    for f in range(n_signals):
        for i in range(n_states):
            goal = right_side[f, i]
            for a in range(n_actions):
                worth = signals[f, order[i] * n_actions + a]
                if worth != 0.0:
                    table = tables[order[i] * n_actions + a]
                    for v in range(n_columns):
                        goal[v] += worth * table[v]
    factor(numbers, diagonal, left_start, left, right_start, right, place)
    substitute(numbers, right_side, diagonal, left_start, left, right_start, right)
    found = np.empty((n_columns, n_signals, n_states))
    for f in range(n_signals):
        for i in range(n_states):
            for v in range(n_columns):
                found[v, f, order[i]] = right_side[f, i, v]
    return found


@kernel
def substitute_transposed(numbers, right_side, diagonal, left_start, left, right_start, right):  # type: ignore[no-untyped-def]
    """As :func:`substitute`, of the transposed system, for one right side (S, L)."""
    n_columns = numbers.shape[1]
    for i in range(diagonal.size):
        own = right_side[i]
        inverse = numbers[diagonal[i]]
        for v in range(n_columns):
            own[v] *= inverse[v]
        for y in range(right_start[i], right_start[i + 1]):
            share = numbers[right[y, 1]]
            goal = right_side[right[y, 0]]
            for v in range(n_columns):
                goal[v] -= share[v] * own[v]
    for i in range(diagonal.size - 1, -1, -1):
        own = right_side[i]
        for x in range(left_start[i], left_start[i + 1]):
            share = numbers[left[x, 1]]
            goal = right_side[left[x, 0]]
            for v in range(n_columns):
                goal[v] -= share[v] * own[v]
