"""Compiled sweeps over the compressed rows of large CMDPs: greedy actions, values of policies, visits.

*Greedy step.* ``(T v)(s) = max_a [f(s,a) + gamma sum_{s'} P(s'|s,a) v(s')]``; the action that is held is kept unless another is better beyond
rounding, so that ties do not turn in circles.

*Values of a policy.* ``(I - gamma P_pi) v = f_pi``, scaled to a unit diagonal and split as ``I - L - U`` in the order of the states, is solved by
BiCGSTAB (van der Vorst 1992) on

    (I - L)^-1 (I - L - U) (I - U)^-1 z = (I - L)^-1 b,        v = (I - U)^-1 z.

That is symmetric Gauss-Seidel as a preconditioner, and it costs one sweep: with ``t = (I - U)^-1 z`` the left side is
``t + (I - L)^-1 (z - t)`` (Eisenstat 1981). It starts from whatever values are given, ends at a true residual (never at a recursively updated
one), and where it stalls Gauss-Seidel sweeps go on, which contract by gamma or better. Visits solve the transposed system.

A residual ``e = f_pi + gamma P_pi v - v`` bounds the error: ``min e / (1 - gamma) <= V(s) - v(s) <= max e / (1 - gamma)``.

Letters: S states, A actions, E stored transition probabilities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from surefoot.arrays import FloatArray
from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import SolverError
from surefoot.kernels import kernel

__all__ = ["PolicyRows", "SparseRows"]

MAX_ITERATIONS = 1000
"""Of BiCGSTAB between two looks at the true residual."""
EPSILON = float(np.finfo(np.float64).eps)
FLOOR = 8.0 * EPSILON
"""Of the largest term of a residual: rounding leaves about this much."""

IndexArray = NDArray[np.int32]


class SparseRows:
    """The transitions of one CMDP as the kernels read them.

    Args:
        cmdp: the task; successors are held a second time, in half the size.
    """

    def __init__(self, cmdp: TabularCMDP) -> None:
        self.n_states, self.n_actions, self.discount = cmdp.n_states, cmdp.n_actions, cmdp.discount
        self._start = cmdp.row_start
        self._successors: IndexArray = cmdp.successors.astype(np.int32)
        self._probabilities = cmdp.probabilities

    def greedy(self, signal: FloatArray, value: FloatArray, actions: IndexArray) -> tuple[float, float, int]:
        """One greedy step: ``actions`` (S,) are improved in place.

        Args:
            signal: (S, A) ``f``.
            value: (S,) ``v``.
            actions: (S,) held so far.

        Returns:
            Largest and smallest ``(T v - v)(s)``, and how many actions changed.
        """
        out = _greedy(
            self._start, self._successors, self._probabilities, signal, self.n_actions, self.discount, value, actions
        )
        return float(out[0]), float(out[1]), int(out[2])

    def under(self, actions: IndexArray, reuse: PolicyRows | None = None) -> PolicyRows:
        """The rows of a deterministic policy (S,); ``reuse`` lends its memory."""
        size = int(_count(self._start, self.n_actions, actions))
        rows = reuse if reuse is not None and reuse.fits(size) else PolicyRows(self.n_states, size, self.discount)
        _gather(
            self._start, self._successors, self._probabilities, self.n_actions, self.discount, actions, *rows.arrays, rows.scale
        )  # fmt: skip
        return rows

    def under_table(self, table: FloatArray) -> PolicyRows:
        """The rows of a stationary policy (S, A)."""
        size = int(_count_table(self._start, table))
        rows = PolicyRows(self.n_states, size, self.discount)
        _gather_table(
            self._start, self._successors, self._probabilities, self.discount, np.ascontiguousarray(table), *rows.arrays, rows.scale
        )  # fmt: skip
        return rows


class PolicyRows:
    """``I - gamma P_pi`` of one policy, scaled to a unit diagonal.

    Attributes:
        arrays: begin (S+1,), where entries right of the diagonal begin (S,), columns (E',) and entries ``gamma P / (1 - gamma P(s|s))`` (E',) off
            the diagonal, sorted by row and column.
        scale: (S,) ``1 / (1 - gamma P(s|s))``, which the right side is multiplied with.
    """

    def __init__(self, n_states: int, size: int, discount: float) -> None:
        self.discount = discount
        self.arrays = (
            np.empty(n_states + 1, np.int64), np.empty(n_states, np.int64), np.empty(size, np.int32), np.empty(size),
        )  # fmt: skip
        self.scale = np.empty(n_states)
        self._work: tuple[FloatArray, ...] = ()

    def fits(self, size: int) -> bool:
        """Whether a policy with this many entries finds room."""
        return int(self.arrays[2].size) >= size

    def solve(self, signal: FloatArray, value: FloatArray, tolerance: float = 0.0) -> float:
        """``(I - gamma P_pi) value = signal`` (S,), from ``value`` (S,) and into it.

        Args:
            signal: (S,) ``f_pi``.
            value: (S,) where to begin.
            tolerance: residual that is enough; rounding is never asked to do better than it can.

        Returns:
            The largest absolute residual ``|f_pi + gamma P_pi v - v|`` left.

        Raises:
            SolverError: the residual did not become small, which sweeps that contract rule out for finite input.
        """
        return self._solved(signal * self.scale, value, tolerance)

    def visits(self, start: FloatArray, tolerance: float = 0.0) -> FloatArray:
        """(S,) discounted visits ``y = start + gamma P_pi' y``; ``tolerance`` on the largest absolute residual."""
        turned = PolicyRows(start.size, int(self.arrays[0][-1]), self.discount)
        turned.scale[:] = 1.0
        # Of the transposed system the columns are scaled: y = scale * u.
        _transpose(*self.arrays, *turned.arrays)
        found = start.copy()
        turned._solved(start, found, tolerance)
        result: FloatArray = np.maximum(found * self.scale, 0.0)
        return result

    def _solved(self, right: FloatArray, value: FloatArray, tolerance: float) -> float:
        if not self._work:
            self._work = tuple(np.empty(value.size) for _ in range(7))
        left = np.inf
        while True:
            found = float(
                _bicgstab(*self.arrays, right, value, max(tolerance, _floor(right, value)), MAX_ITERATIONS, *self._work)
            )
            if found <= max(tolerance, _floor(right, value)):
                break
            if not found < 0.5 * left:
                # Sweeps gain a digit for certain, unless rounding is all that is left.
                sweeps = int(np.ceil(np.log(0.1) / np.log(self.discount))) + 1
                swept = float(_sweeps(*self.arrays, right, value, max(tolerance, _floor(right, value)), sweeps))
                if not swept < 0.5 * found:
                    found = swept
                    break
                found = swept
            left = found
        largest = float(self.scale.max())
        if not np.isfinite(found) or found > max(tolerance, 1e-9 * largest * (1.0 + float(np.abs(value).max()))):
            raise SolverError(
                f"values of a policy must have a small residual, got {found:g}; look for entries of very different sizes",
                code="SF-SOLVER-UNCERTIFIED",
            )
        return found


def _floor(right: FloatArray, value: FloatArray) -> float:
    """Residual that rounding leaves."""
    return FLOOR * (float(np.abs(right).max(initial=0.0)) + float(np.abs(value).max(initial=0.0)))


@kernel
def _greedy(start, successors, probabilities, signal, n_actions, discount, value, actions):  # type: ignore[no-untyped-def]
    most = -np.inf
    least = np.inf
    changes = 0
    row = 0
    for s in range(value.size):
        held = actions[s]
        best = -np.inf
        arg = 0
        kept = 0.0
        for a in range(n_actions):
            x = 0.0
            for e in range(start[row], start[row + 1]):
                x += probabilities[e] * value[successors[e]]
            row += 1
            x = signal[s, a] + discount * x
            if a == held:
                kept = x
            if x > best:
                best = x
                arg = a
        if best - kept > 1e-14 * (abs(best) + abs(signal[s, arg])):
            actions[s] = arg
            changes += 1
        gain = best - value[s]
        if gain > most:
            most = gain
        if gain < least:
            least = gain
    return most, least, changes


@kernel
def _count(start, n_actions, actions):  # type: ignore[no-untyped-def]
    total = 0
    for s in range(actions.size):
        row = s * n_actions + actions[s]
        total += start[row + 1] - start[row]
    return total


@kernel
def _gather(start, successors, probabilities, n_actions, discount, actions, begin, middle, column, entry, scale):  # type: ignore[no-untyped-def]
    k = 0
    for s in range(actions.size):
        begin[s] = k
        row = s * n_actions + actions[s]
        stay = 0.0
        for e in range(start[row], start[row + 1]):
            if successors[e] == s:
                stay += probabilities[e]
        q = 1.0 / (1.0 - discount * stay)
        scale[s] = q
        right = -1
        for e in range(start[row], start[row + 1]):
            t = successors[e]
            if t != s:
                if t > s and right < 0:
                    right = k
                column[k] = t
                entry[k] = discount * probabilities[e] * q
                k += 1
        middle[s] = k if right < 0 else right
    begin[actions.size] = k


@kernel
def _count_table(start, table):  # type: ignore[no-untyped-def]
    total = 0
    n_actions = table.shape[1]
    for s in range(table.shape[0]):
        for a in range(n_actions):
            if table[s, a] > 0.0:
                total += start[s * n_actions + a + 1] - start[s * n_actions + a]
    return total


@kernel
def _gather_table(start, successors, probabilities, discount, table, begin, middle, column, entry, scale):  # type: ignore[no-untyped-def]
    n_states, n_actions = table.shape
    place = np.full(n_states, -1, np.int64)
    k = 0
    for s in range(n_states):
        begin[s] = k
        stay = 0.0
        for a in range(n_actions):
            weight = table[s, a]
            if weight <= 0.0:
                continue
            row = s * n_actions + a
            for e in range(start[row], start[row + 1]):
                t = successors[e]
                x = discount * weight * probabilities[e]
                if t == s:
                    stay += x
                elif place[t] < begin[s]:
                    place[t] = k
                    column[k] = t
                    entry[k] = x
                    k += 1
                else:
                    entry[place[t]] += x
        q = 1.0 / (1.0 - stay)
        scale[s] = q
        order = begin[s] + np.argsort(column[begin[s] : k])
        columns = column[order]
        entries = entry[order]
        middle[s] = k
        for j in range(order.size - 1, -1, -1):
            column[begin[s] + j] = columns[j]
            entry[begin[s] + j] = entries[j] * q
            if columns[j] > s:
                middle[s] = begin[s] + j
    begin[n_states] = k


@kernel
def _transpose(begin, middle, column, entry, begin_t, middle_t, column_t, entry_t):  # type: ignore[no-untyped-def]
    n = middle.size
    begin_t[:] = 0
    for e in range(begin[n]):
        begin_t[column[e] + 1] += 1
    for s in range(n):
        begin_t[s + 1] += begin_t[s]
    for s in range(n):
        middle_t[s] = begin_t[s]
    # middle_t runs through each row of the transposed matrix; rows come in order, so that columns are sorted.
    for s in range(n):
        for e in range(begin[s], begin[s + 1]):
            t = column[e]
            column_t[middle_t[t]] = s
            entry_t[middle_t[t]] = entry[e]
            middle_t[t] += 1
    for s in range(n):
        k = begin_t[s]
        while k < begin_t[s + 1] and column_t[k] < s:
            k += 1
        middle_t[s] = k


@kernel
def _residual(begin, column, entry, right, value, out):  # type: ignore[no-untyped-def]
    worst = 0.0
    for s in range(value.size):
        x = right[s] - value[s]
        for e in range(begin[s], begin[s + 1]):
            x += entry[e] * value[column[e]]
        out[s] = x
        if not abs(x) <= worst:
            worst = abs(x)
    return worst


@kernel
def _operator(begin, middle, column, entry, z, t, out):  # type: ignore[no-untyped-def]
    """``t = (I - U)^-1 z`` and ``out = t + (I - L)^-1 (z - t)``."""
    n = z.size
    for s in range(n - 1, -1, -1):
        x = z[s]
        for e in range(middle[s], begin[s + 1]):
            x += entry[e] * t[column[e]]
        t[s] = x
    for s in range(n):
        x = z[s] - t[s]
        for e in range(begin[s], middle[s]):
            x += entry[e] * out[column[e]]
        out[s] = x
    for s in range(n):
        out[s] += t[s]


@kernel
def _dot(a, b):  # type: ignore[no-untyped-def]
    w = 0.0
    x = 0.0
    y = 0.0
    z = 0.0
    n = a.size - a.size % 4
    for k in range(0, n, 4):
        w += a[k] * b[k]
        x += a[k + 1] * b[k + 1]
        y += a[k + 2] * b[k + 2]
        z += a[k + 3] * b[k + 3]
    for k in range(n, a.size):
        w += a[k] * b[k]
    return (w + x) + (y + z)


@kernel
def _bicgstab(begin, middle, column, entry, right, value, tolerance, patience, r, shadow, p, v, t, u, z):  # type: ignore[no-untyped-def]
    """Improve ``value`` until the residual is ``tolerance`` or a restart does not halve it; the true residual."""
    n = value.size
    worst = _residual(begin, column, entry, right, value, r)
    while worst > tolerance:
        before = worst
        for s in range(n):
            x = r[s]
            for e in range(begin[s], middle[s]):
                x += entry[e] * r[column[e]]
            r[s] = x
        size = 0.0
        for s in range(n):
            shadow[s] = r[s]
            p[s] = r[s]
            z[s] = 0.0
            size = max(size, abs(r[s]))
        goal = size * min(0.5, 0.5 * tolerance / worst)
        rho = _dot(r, shadow)
        for _ in range(patience):
            _operator(begin, middle, column, entry, p, u, v)
            turned = _dot(v, shadow)
            if turned == 0.0:
                break
            alpha = rho / turned
            for s in range(n):
                r[s] -= alpha * v[s]
            _operator(begin, middle, column, entry, r, u, t)
            square = _dot(t, t)
            if square == 0.0:
                for s in range(n):
                    z[s] += alpha * p[s]
                break
            omega = _dot(t, r) / square
            size = 0.0
            for s in range(n):
                z[s] += alpha * p[s] + omega * r[s]
                r[s] -= omega * t[s]
                size = max(size, abs(r[s]))
            if not size > goal or omega == 0.0 or rho == 0.0:
                break
            after = _dot(r, shadow)
            beta = after / rho * alpha / omega
            rho = after
            if beta == 0.0:
                break
            for s in range(n):
                p[s] = r[s] + beta * (p[s] - omega * v[s])
        for s in range(n - 1, -1, -1):
            x = z[s]
            for e in range(middle[s], begin[s + 1]):
                x += entry[e] * u[column[e]]
            u[s] = x
        for s in range(n):
            t[s] = value[s]
            value[s] += u[s]
        worst = _residual(begin, column, entry, right, value, r)
        if not worst < before:
            # Also where something was not finite: the values before are the better ones.
            for s in range(n):
                value[s] = t[s]
            worst = before
            break
        if worst > 0.5 * before:
            break
    return worst


@kernel
def _sweeps(begin, middle, column, entry, right, value, tolerance, sweeps):  # type: ignore[no-untyped-def]
    """Gauss-Seidel, forward and backward; the true residual."""
    n = value.size
    worst = np.inf
    for _ in range(sweeps):
        for s in range(n):
            x = right[s]
            for e in range(begin[s], begin[s + 1]):
                x += entry[e] * value[column[e]]
            value[s] = x
        worst = 0.0
        for s in range(n - 1, -1, -1):
            x = right[s]
            for e in range(begin[s], begin[s + 1]):
                x += entry[e] * value[column[e]]
            worst = max(worst, abs(x - value[s]))
            value[s] = x
        if worst <= 0.1 * tolerance:
            break
    worst = 0.0
    for s in range(n):
        x = right[s] - value[s]
        for e in range(begin[s], begin[s + 1]):
            x += entry[e] * value[column[e]]
        worst = max(worst, abs(x))
    return worst
