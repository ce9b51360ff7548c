r"""Many small CMDPs with one constraint at once: a search for the multiplier over policy iteration, side by side.

For ``lam >= 0`` let ``pi(lam)`` maximise ``V_r - lam V_c``: an unconstrained problem, solved by policy iteration. The dual function
``g(lam) = max_pi V_r - lam (V_c - d)`` is convex and piecewise linear, and its minimum is the optimum. Two policies bracket it,

    pi_1 with V_c > d,  pi_0 with V_c <= d,      lam = (V_r(pi_1) - V_r(pi_0)) / (V_c(pi_1) - V_c(pi_0)),

starting from ``pi(0)`` and from the cheapest policy. Either ``pi(lam)`` is no better than both, then the mixture of the two that costs exactly d is
optimal; or it takes the place of the one on its side of d. That is column generation with one constraint (Dantzig & Wolfe 1960; Altman 1999, chapter
12), and ends because there are finitely many policies. The stationary policy with the occupancy of the mixture randomises where the two differ.

Tasks stand side by side in the columns of one elimination (:mod:`surefoot.cmdp.elimination`); a column whose task is done takes the next one. What a
task's answer is does not depend on its neighbours.

The answer is believed only with the proof of :mod:`surefoot.solvers.certificate`, computed here for many tasks at once: an upper bound from the
Bellman residual of ``V_r - lam V_c``, which holds for any numbers; values of the stationary policy whose own residual is looked at, so that nothing
rests on the elimination; the same units and tolerances. What is not proved so, tasks with no limit, with several or with limits on functionals, and
tasks of many states go to the occupancy program, and the answer says so (:attr:`Solutions.methods`).

Letters: T tasks, S states, A actions, I constraints, E entries of the support, L columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.cmdp.elimination import Elimination, factor, substitute, substitute_transposed
from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import InvalidInput
from surefoot.kernels import kernel
from surefoot.solvers.certificate import RESOLVED
from surefoot.solvers.linear_program import SURE, TOLERANCE, OccupancyProgram, Solution

__all__ = ["BulkProgram", "Solutions", "solve_many"]

Method = Literal["bulk", "occupancy"]

COLUMNS = 16
MOST_SWEEPS = 500
"""Evaluations per task after which the search is given up."""
CLOSED = 1e-12
"""Improvement, relative to the terms it is a difference of, that counts as none."""
RESIDUAL = 1e-10
"""Error of an evaluation, in the unit of what it is judged by, above which the answer is not believed."""
FREE, MIXED, INFEASIBLE, GIVEN_UP = 0, 1, 2, 3


@dataclass(frozen=True, eq=False)
class Solutions:
    """Answers for T tasks, in their order.

    Attributes:
        answers: T, as :func:`surefoot.solve` gives them; ``iterations`` counts evaluations of policies where the method is ``"bulk"``.
        methods: T, how each was found: ``"bulk"`` or ``"occupancy"``.
    """

    answers: tuple[Solution, ...]
    methods: tuple[Method, ...]

    def __len__(self) -> int:
        return len(self.answers)


def solve_many(cmdps: Sequence[TabularCMDP]) -> Solutions:
    """Solve many CMDPs of one shape exactly.

    Raises:
        InvalidInput: no task, or tasks that differ in S, A or I.
    """
    from surefoot.cmdp.elimination import plan_elimination

    if not cmdps:
        raise InvalidInput("cmdps must hold at least one task, got none; pass some", code="SF-ARGUMENT-EMPTY")
    shapes = {(m.n_states, m.n_actions, m.n_constraints) for m in cmdps}
    if len(shapes) > 1:
        raise InvalidInput(
            f"cmdps must share (S, A, I), got {sorted(shapes)}; solve them group by group", code="SF-ARGUMENT-MISMATCH"
        )
    first = cmdps[0]
    distinct = {(id(m.row_start), id(m.successors)): m for m in cmdps}
    keys = np.unique(np.concatenate([m.keys for m in distinct.values()]))
    return BulkProgram(plan_elimination(keys, first.n_states, first.n_actions)).solve(cmdps)


class BulkProgram:
    """Solves CMDPs of one shape.

    Args:
        plan: of elimination on their joint support, or ``None``: then every task goes to the occupancy program.
        anchor: a typical task, for the occupancy program.
    """

    def __init__(self, plan: Elimination | None, anchor: TabularCMDP | None = None) -> None:
        self._plan, self._anchor = plan, anchor
        self._program: OccupancyProgram | None = None

    def solve(self, cmdps: Sequence[TabularCMDP]) -> Solutions:
        """Their optima; tasks outside the plan's support go to the occupancy program."""
        found: dict[int, Solution] = {}
        if self._plan is not None:
            inside: dict[int, FloatArray] = {}
            for k, m in enumerate(cmdps):
                probabilities = None if m.functionals or m.n_constraints != 1 else self._plan.probabilities(m)
                if probabilities is not None:
                    inside[k] = probabilities
            for discount in sorted({cmdps[k].discount for k in inside}):
                chosen = [k for k in inside if cmdps[k].discount == discount]
                batch = _Batch(self._plan, [cmdps[k] for k in chosen], np.stack([inside[k] for k in chosen]), discount)
                found.update((k, s) for k, s in zip(chosen, batch.solutions()) if s is not None)
        methods: tuple[Method, ...] = tuple("bulk" if k in found else "occupancy" for k in range(len(cmdps)))
        answers = tuple(found[k] if k in found else self._occupancy(m) for k, m in enumerate(cmdps))
        return Solutions(answers, methods)

    def _occupancy(self, cmdp: TabularCMDP) -> Solution:
        if self._program is None:
            self._program = OccupancyProgram(self._anchor)
        return self._program.solve(cmdp)


class _Batch:
    """T tasks with one constraint, one discount and one support."""

    def __init__(
        self, plan: Elimination, models: Sequence[TabularCMDP], probabilities: FloatArray, discount: float
    ) -> None:
        self.plan, self.discount, self.probabilities = plan, discount, probabilities
        self.row_start = np.searchsorted(plan.keys, np.arange(plan.n_states * plan.n_actions + 1) * plan.n_states)
        self.rewards = np.stack([m.rewards.ravel() for m in models])
        self.costs = np.stack([m.costs[0].ravel() for m in models])
        self.start = np.stack([m.start for m in models])
        self.limits = np.array([float(m.cost_limits[0]) for m in models])

    def solutions(self) -> list[Solution | None]:
        """The answer of every task, ``None`` where none was proved."""
        with np.errstate(all="ignore"):
            return self._proved()

    def _proved(self) -> list[Solution | None]:
        plan, limits, n = self.plan, self.limits, len(self.limits)
        kind, over, under, shares, prices, value, sweeps = _search(
            self.probabilities, self.rewards, self.costs, self.start, limits, self.discount, COLUMNS, MOST_SWEEPS,
            plan.n_actions, self.row_start, plan.keys, *self._elimination,
        )  # fmt: skip
        tables = _mixed(
            self.probabilities, self.start, over, under, shares, self.discount, COLUMNS, plan.n_actions, self.row_start, plan.keys,
            *self._elimination,
        )  # fmt: skip
        free = kind != INFEASIBLE
        upper = self._bound(np.where(free, 1.0, 0.0), np.where(free, prices, 1.0), value)
        uniform = np.full(tables.shape, 1.0 / plan.n_actions)
        values, off = self._values(tables)
        ordinary, off_ordinary = self._values(uniform)
        # The units are those of the certificate: an excess is measured in the limit, a gap in what the policy collects of |r|.
        units = np.maximum(limits, RESOLVED * ordinary[:, 1])
        units = np.where(units > 0.0, units, 1.0)
        scale = np.maximum(values[:, 2], RESOLVED * np.maximum(ordinary[:, 2], prices * limits))
        bound, excess = upper + prices * limits, values[:, 1] - limits
        gap = bound - values[:, 0]
        exact = (off[:, 1] <= RESIDUAL * units) & np.isfinite(off_ordinary).all(axis=1)
        fits = exact & (off[:, 0] <= RESIDUAL * scale) & (excess <= TOLERANCE * units)
        optimal = ((kind == FREE) | (kind == MIXED)) & fits & (
            (gap <= TOLERANCE * scale) | ((scale == 0.0) & (gap == 0.0))
        )  # fmt: skip
        least = (-upper - limits) / units
        infeasible = (
            (kind == INFEASIBLE) & exact & (least > SURE) & (excess / units - least <= TOLERANCE * (1.0 + least))
        )
        shape = (plan.n_states, plan.n_actions)
        found: list[Solution | None] = []
        for k in range(n):
            if not (optimal[k] or infeasible[k]):
                found.append(None)
                continue
            found.append(
                Solution(
                    status="optimal" if optimal[k] else "infeasible",
                    table=tables[k].reshape(shape),
                    value=float(values[k, 0]) if optimal[k] else np.nan,
                    costs=values[k, 1:2].copy(),
                    multipliers=np.array([prices[k] if optimal[k] else np.nan]),
                    gap=float(gap[k]) if optimal[k] else np.inf,
                    excess=float(excess[k]),
                    bound=float(bound[k]) if optimal[k] else -np.inf,
                    iterations=int(sweeps[k]),
                )
            )
        return found

    @property
    def _elimination(self) -> tuple[Any, ...]:
        plan = self.plan
        return (
            plan.order, plan.target, plan.diagonal, plan.left_start, plan.left, plan.right_start, plan.right, plan.place, plan.size,
        )  # fmt: skip

    def _bound(self, share: FloatArray, price: FloatArray, value: FloatArray) -> FloatArray:
        """(T,) upper bounds on the optimum of ``share r - price c``, from any numbers (T, S)."""
        found: FloatArray = _bellman(
            self.probabilities, self.rewards, self.costs, self.start, share, price, value, self.discount,
            self.plan.n_actions, self.row_start, self.plan.keys,
        )  # fmt: skip
        return found

    def _values(self, tables: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(T, 3) of reward, cost and absolute reward under tables (T, S*A), and what their residuals say they may be off by."""
        plan = self.plan
        found: tuple[FloatArray, FloatArray] = _evaluated(
            self.probabilities, self.rewards, self.costs, self.start, tables, self.discount, COLUMNS, plan.n_actions, self.row_start, plan.keys,
            *self._elimination,
        )  # fmt: skip
        return found


@kernel
def _assemble(numbers, v, probabilities, table, discount, n_actions, row_start, order, target, diagonal):  # type: ignore[no-untyped-def]
    """Column v of the system of one task (E,) under a table (S*A,)."""
    for i in range(order.size):
        numbers[diagonal[i], v] += 1.0
        for a in range(n_actions):
            row = order[i] * n_actions + a
            weight = discount * table[row]
            if weight != 0.0:
                for e in range(row_start[row], row_start[row + 1]):
                    numbers[target[e], v] -= weight * probabilities[e]


@kernel
def _ahead(probabilities, value, row, row_start, keys):  # type: ignore[no-untyped-def]
    """Expected value (S,) of the next state."""
    total = 0.0
    for e in range(row_start[row], row_start[row + 1]):
        total += probabilities[e] * value[keys[e] % value.size]
    return total


@kernel
def _search(  # type: ignore[no-untyped-def]
    probabilities, rewards, costs, start, limits, discount, width, most, n_actions, row_start, keys,
    order, target, diagonal, left_start, left, right_start, right, place, size,
):  # fmt: skip
    """Per task: how it ended, the actions (S,) of two policies, the share of the first, the multiplier, numbers (S,) for the bound, sweeps."""
    n_tasks, n_states = start.shape
    kind = np.full(n_tasks, GIVEN_UP)
    over, under = np.zeros((n_tasks, n_states), dtype=np.int64), np.zeros((n_tasks, n_states), dtype=np.int64)
    shares, prices, sweeps = np.zeros(n_tasks), np.zeros(n_tasks), np.zeros(n_tasks, dtype=np.int64)
    value = np.zeros((n_tasks, n_states))
    ends = np.zeros((n_tasks, 2, 2))  # (return, cost) of the policies over and under the limit
    phase = np.zeros(n_tasks, dtype=np.int64)
    actions = np.zeros((n_tasks, n_states), dtype=np.int64)
    holds = np.full(width, -1)
    following = 0
    numbers, right_side = np.zeros((size, width)), np.zeros((2, n_states, width))
    mixed, gains = np.zeros(n_states), np.zeros((2, n_states))
    while True:
        busy = 0
        numbers[:] = 0.0
        for v in range(width):
            if holds[v] < 0 and following < n_tasks:
                holds[v] = following
                following += 1
            t = holds[v]
            if t < 0:
                for i in range(n_states):
                    numbers[diagonal[i], v] = 1.0
                continue
            busy += 1
            for i in range(n_states):
                row = order[i] * n_actions + actions[t, order[i]]
                numbers[diagonal[i], v] += 1.0
                for e in range(row_start[row], row_start[row + 1]):
                    numbers[target[e], v] -= discount * probabilities[t, e]
                right_side[0, i, v] = rewards[t, row]
                right_side[1, i, v] = costs[t, row]
        if busy == 0:
            break
        factor(numbers, diagonal, left_start, left, right_start, right, place)
        substitute(numbers, right_side, diagonal, left_start, left, right_start, right)
        for v in range(width):
            t = holds[v]
            if t < 0:
                continue
            sweeps[t] += 1
            wr, wc = (1.0, prices[t]) if phase[t] != 1 else (0.0, 1.0)
            largest, gained, cost = 0.0, 0.0, 0.0
            for i in range(n_states):
                s = order[i]
                gains[0, s], gains[1, s] = right_side[0, i, v], right_side[1, i, v]
                mixed[s] = wr * gains[0, s] - wc * gains[1, s]
                largest = max(largest, wr * abs(gains[0, s]) + wc * abs(gains[1, s]))
            for s in range(n_states):
                gained += start[t, s] * gains[0, s]
                cost += start[t, s] * gains[1, s]
            # Improvements below rounding are none, and ties keep the action: policy iteration cannot go round in circles.
            room, changed = CLOSED * largest, False
            for s in range(n_states):
                now = actions[t, s]
                row = s * n_actions + now
                best = (
                    wr * rewards[t, row]
                    - wc * costs[t, row]
                    + discount * _ahead(probabilities[t], mixed, row, row_start, keys)
                )
                best += room
                for a in range(n_actions):
                    if a != now:
                        row = s * n_actions + a
                        worth = (
                            wr * rewards[t, row]
                            - wc * costs[t, row]
                            + discount * _ahead(probabilities[t], mixed, row, row_start, keys)
                        )
                        if worth > best:
                            best = worth
                            actions[t, s] = a
                            changed = True
            if changed and sweeps[t] < most:
                continue
            done = sweeps[t] >= most
            if done:
                pass
            elif phase[t] == 0:
                over[t], ends[t, 0, 0], ends[t, 0, 1] = actions[t], gained, cost
                if cost <= limits[t]:
                    under[t], value[t], kind[t], done = actions[t], mixed, FREE, True
                else:
                    phase[t] = 1
            else:
                if phase[t] == 1:
                    under[t], ends[t, 1, 0], ends[t, 1, 1] = actions[t], gained, cost
                    if not cost <= limits[t]:
                        over[t], value[t], kind[t], done = actions[t], mixed, INFEASIBLE, True
                    phase[t] = 2
                else:
                    held = ends[t, 0, 0] - prices[t] * ends[t, 0, 1]
                    terms = abs(ends[t, 0, 0]) + prices[t] * ends[t, 0, 1] + abs(gained) + prices[t] * cost
                    if not gained - prices[t] * cost > held + CLOSED * terms:
                        value[t], kind[t], done = mixed, MIXED, True
                        shares[t] = (limits[t] - ends[t, 1, 1]) / (ends[t, 0, 1] - ends[t, 1, 1])
                    elif cost > limits[t]:
                        over[t], ends[t, 0, 0], ends[t, 0, 1] = actions[t], gained, cost
                    else:
                        under[t], ends[t, 1, 0], ends[t, 1, 1] = actions[t], gained, cost
                if not done:
                    prices[t] = max(0.0, (ends[t, 0, 0] - ends[t, 1, 0]) / (ends[t, 0, 1] - ends[t, 1, 1]))
            if done:
                holds[v] = -1
    return kind, over, under, shares, prices, value, sweeps


@kernel
def _mixed(  # type: ignore[no-untyped-def]
    probabilities, start, over, under, shares, discount, width, n_actions, row_start, keys,
    order, target, diagonal, left_start, left, right_start, right, place, size,
):  # fmt: skip
    """(T, S*A) stationary policies with the occupancy of ``shares`` (T,) of one policy and the rest of another."""
    n_tasks, n_states = start.shape
    tables = np.zeros((n_tasks, n_states * n_actions))
    visits = np.zeros((2, n_states, width))
    table = np.zeros(n_states * n_actions)
    for begin in range(0, n_tasks, width):
        count = min(width, n_tasks - begin)
        for which in range(2):
            numbers = np.zeros((size, width))
            for v in range(width):
                t = begin + min(v, count - 1)
                table[:] = 0.0
                for s in range(n_states):
                    table[s * n_actions + (over[t, s] if which == 0 else under[t, s])] = 1.0
                _assemble(numbers, v, probabilities[t], table, discount, n_actions, row_start, order, target, diagonal)
                for i in range(n_states):
                    visits[which, i, v] = start[t, order[i]]
            factor(numbers, diagonal, left_start, left, right_start, right, place)
            substitute_transposed(numbers, visits[which], diagonal, left_start, left, right_start, right)
        for v in range(count):
            t = begin + v
            for i in range(n_states):
                s = order[i]
                one = shares[t] * max(visits[0, i, v], 0.0)
                two = (1.0 - shares[t]) * max(visits[1, i, v], 0.0)
                # Where the mixture never comes it does what the policy within the limit does.
                part = one / (one + two) if one + two > 0.0 else 0.0
                tables[t, s * n_actions + over[t, s]] += part
                tables[t, s * n_actions + under[t, s]] += 1.0 - part
    return tables


@kernel
def _evaluated(  # type: ignore[no-untyped-def]
    probabilities, rewards, costs, start, tables, discount, width, n_actions, row_start, keys,
    order, target, diagonal, left_start, left, right_start, right, place, size,
):  # fmt: skip
    """(T, 3) values of reward, cost and absolute reward under tables (T, S*A), and bounds (T, 3) on their errors."""
    n_tasks, n_states = start.shape
    found, off = np.zeros((n_tasks, 3)), np.zeros((n_tasks, 3))
    right_side, value = np.zeros((3, n_states, width)), np.zeros(n_states)
    for begin in range(0, n_tasks, width):
        count = min(width, n_tasks - begin)
        numbers = np.zeros((size, width))
        right_side[:] = 0.0
        for v in range(width):
            t = begin + min(v, count - 1)
            _assemble(numbers, v, probabilities[t], tables[t], discount, n_actions, row_start, order, target, diagonal)
            for i in range(n_states):
                for a in range(n_actions):
                    row = order[i] * n_actions + a
                    right_side[0, i, v] += tables[t, row] * rewards[t, row]
                    right_side[1, i, v] += tables[t, row] * costs[t, row]
                    right_side[2, i, v] += tables[t, row] * abs(rewards[t, row])
        factor(numbers, diagonal, left_start, left, right_start, right, place)
        substitute(numbers, right_side, diagonal, left_start, left, right_start, right)
        for v in range(count):
            t = begin + v
            for f in range(3):
                for i in range(n_states):
                    value[order[i]] = right_side[f, i, v]
                worst = 0.0
                for s in range(n_states):
                    backup = 0.0
                    for a in range(n_actions):
                        row = s * n_actions + a
                        if tables[t, row] != 0.0:
                            signal = rewards[t, row] if f == 0 else costs[t, row] if f == 1 else abs(rewards[t, row])
                            ahead = _ahead(probabilities[t], value, row, row_start, keys)
                            backup += tables[t, row] * (signal + discount * ahead)
                    gap = abs(backup - value[s])
                    if not gap <= worst:
                        worst = gap
                    found[t, f] += start[t, s] * value[s]
                off[t, f] = worst / (1.0 - discount)
    return found, off


@kernel
def _bellman(probabilities, rewards, costs, start, share, price, value, discount, n_actions, row_start, keys):  # type: ignore[no-untyped-def]
    """(T,) ``rho . v + max (T v - v) / (1 - gamma)`` of the signals ``share r - price c``: no policy collects more."""
    n_tasks, n_states = start.shape
    found = np.zeros(n_tasks)
    for t in range(n_tasks):
        worst = 0.0
        for s in range(n_states):
            found[t] += start[t, s] * value[t, s]
            for a in range(n_actions):
                row = s * n_actions + a
                ahead = _ahead(probabilities[t], value[t], row, row_start, keys)
                gap = share[t] * rewards[t, row] - price[t] * costs[t, row] + discount * ahead - value[t, s]
                if not gap <= worst:
                    worst = gap
        found[t] += worst / (1.0 - discount)
    return found
