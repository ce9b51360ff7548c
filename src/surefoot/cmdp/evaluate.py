"""Exact values of policies, occupancy measures, almost-sure ranges and the distance of two CMDPs.

For a stationary policy ``pi`` with ``P_pi(s,s') = sum_a pi(a|s) P(s'|s,a)`` and a signal ``f(s,a)``:

    V_f(s) = f_pi(s) + gamma sum_{s'} P_pi(s,s') V_f(s'),        V_f(pi) = rho . V_f
    x(s,a) = pi(a|s) y(s),   y = rho + gamma P_pi' y,            V_f(pi) = sum_{s,a} x(s,a) f(s,a)

Letters: S states, A actions, I constraints, J policies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.blas import solve_systems
from surefoot.cmdp.functionals import functional_values
from surefoot.cmdp.model import DENSE_STATES, TabularCMDP, check_task
from surefoot.criterion import Mean, functional_bounds
from surefoot.errors import InvalidInput
from surefoot.policy import DeterministicPolicies, as_tables

__all__ = [
    "Ceilings", "Values", "ceilings", "distance", "evaluate", "evaluate_many", "occupancy", "outcome_variances", "state_bounds", "state_values",
]  # fmt: skip

BATCH_BYTES = 2**27
"""Dense evaluation works through the policies in batches of about this size."""
ROW_STATES = 256
"""From this many states on a policy's kernel is summed from stored rows."""
MAX_ROUNDS = 1000
"""Policy iteration needs a handful of rounds; the bound that is returned holds after any number."""


@dataclass(frozen=True, eq=False)
class Values:
    """Expected discounted return and costs of an episode.

    Attributes:
        reward: ``V_r(pi)``.
        costs: (I,) ``V_c(pi)``.
    """

    reward: float
    costs: FloatArray


def evaluate(cmdp: TabularCMDP, policy: Any) -> Values:
    """Exact expected return and costs of one policy: a (S, A) array, a ``TabularPolicy``, or one of ``DeterministicPolicies``.

    Raises:
        InvalidInput: the policy does not fit the CMDP.
    """
    check_task(cmdp)
    if isinstance(policy, DeterministicPolicies) and len(policy) == 1:
        values = evaluate_many(cmdp, policy)[0]
    else:
        values = evaluate_many(cmdp, _single(cmdp, policy))[0]
    return Values(reward=float(values[0]), costs=values[1:])


def _single(cmdp: TabularCMDP, policy: Any) -> FloatArray:
    """(S, A) table of the one policy given."""
    tables = as_tables("policy", policy, cmdp.n_states, cmdp.n_actions)
    if len(tables) != 1:
        raise InvalidInput(
            f"policy must be one policy, got {len(tables)}; use evaluate_many or pass them one by one",
            code="SF-ARGUMENT-SHAPE",
        )
    table: FloatArray = tables[0]
    return table


def evaluate_many(cmdp: TabularCMDP, policies: Any) -> FloatArray:
    """(J, 1+I) exact returns and costs of J policies: tables, or ``DeterministicPolicies``, of which large models make no tables.

    Raises:
        InvalidInput: the policies do not fit the CMDP.
    """
    check_task(cmdp)
    if isinstance(policies, DeterministicPolicies) and cmdp.n_states > DENSE_STATES and not cmdp.functionals:
        policies.check("policies", cmdp.n_states, cmdp.n_actions)
        return _values_of_actions(cmdp, policies)
    values: FloatArray = state_values(cmdp, policies) @ cmdp.start
    return values


def state_values(cmdp: TabularCMDP, policies: Any) -> FloatArray:
    """(J, 1+I, S) exact returns and costs from every initial state; of functionals an upper bound, see :func:`state_bounds`.

    Raises:
        InvalidInput: the policies do not fit the CMDP.
    """
    check_task(cmdp)
    tables = as_tables("policy", policies, cmdp.n_states, cmdp.n_actions)
    values = _signal_values(cmdp, tables)
    return _limited(cmdp, tables, values, "upper") if cmdp.functionals else values


def state_bounds(cmdp: TabularCMDP, policies: Any) -> tuple[FloatArray, FloatArray]:
    """Lower and upper bounds (J, 1+I, S) on the returns and costs from every initial state.

    They are the exact values except for ``Exceeds`` and ``CVaR``, whose bounds tend to the truth as the CMDP's ``grid`` is refined.

    Raises:
        InvalidInput: the policies do not fit the CMDP.
    """
    tables = as_tables("policy", policies, cmdp.n_states, cmdp.n_actions)
    values = _signal_values(cmdp, tables)
    if not cmdp.functionals:
        return values, values
    return _limited(cmdp, tables, values, "lower"), _limited(cmdp, tables, values, "upper")


def _limited(cmdp: TabularCMDP, tables: FloatArray, values: FloatArray, side: Literal["lower", "upper"]) -> FloatArray:
    """(J, 1+I, S) bounds on what is limited, from the exact values (J, 1+K, S) of reward and costs."""
    columns = [values[:, 0]]
    for f in cmdp.functionals:
        means = values[:, 1 + f.signal]
        columns.append(
            means if isinstance(f, Mean) else functional_values(cmdp, tables, f, means, side=side, grid=cmdp.grid)
        )
    return np.stack(columns, axis=1)


def _signal_values(cmdp: TabularCMDP, tables: FloatArray) -> FloatArray:
    """(J, 1+K, S) exact means of reward and costs from every initial state."""
    rewards = np.einsum("jsa,fsa->jfs", tables, cmdp.signals)
    if cmdp.n_states > DENSE_STATES:
        pairs = zip(tables, rewards)
        return np.stack([_solve_sparse(cmdp, table, signals.T, transposed=False).T for table, signals in pairs])
    out: FloatArray = np.empty_like(rewards)
    step = max(1, BATCH_BYTES // (8 * cmdp.n_states**2))
    for k in range(0, len(tables), step):
        part = slice(k, k + step)
        system = np.eye(cmdp.n_states) - cmdp.discount * _policy_kernels(cmdp, tables[part])
        out[part] = solve_systems(system, rewards[part].transpose(0, 2, 1)).transpose(0, 2, 1)
    return out


def _values_of_actions(cmdp: TabularCMDP, policies: DeterministicPolicies) -> FloatArray:
    """(J, 1+K) exact means, policy by policy; memory as for one."""
    from surefoot.cmdp.sparse import SparseRows

    rows, states, found = SparseRows(cmdp), np.arange(cmdp.n_states), np.empty((len(policies), 1 + cmdp.n_costs))
    under, value = None, np.empty(cmdp.n_states)
    for actions, out in zip(policies.actions, found):
        under = rows.under(actions.astype(np.int32), under)
        for f, signal in enumerate(cmdp.signals):
            value[:] = 0.0
            under.solve(np.ascontiguousarray(signal[states, actions]), value)
            out[f] = value @ cmdp.start
    return found


def outcome_variances(cmdp: TabularCMDP, policies: Any) -> FloatArray:
    """(J, 1+K) variances of an episode's discounted return and costs under J policies, start state included (Sobel 1982); of the costs themselves,
    whatever is limited of them.

    With ``V`` the values, the second moment of what is still to come satisfies
    ``M(s) = sum_a pi(a|s) [f(s,a)^2 + 2 gamma f(s,a) sum_s' P V + gamma^2 sum_s' P M]``.
    Dense: for tables of a few hundred states.

    Raises:
        InvalidInput: the policies do not fit the CMDP.
    """
    tables = as_tables("policy", policies, cmdp.n_states, cmdp.n_actions)
    values = _signal_values(cmdp, tables)
    ahead = np.einsum("sat,jft->jfsa", cmdp.dense, values)
    step = cmdp.signals**2 + 2.0 * cmdp.discount * cmdp.signals * ahead
    right = np.einsum("jsa,jfsa->jfs", tables, step)
    system = np.eye(cmdp.n_states) - cmdp.discount**2 * _policy_kernels(cmdp, tables)
    squares = solve_systems(system, right.transpose(0, 2, 1)).transpose(0, 2, 1)
    result: FloatArray = np.maximum(squares @ cmdp.start - (values @ cmdp.start) ** 2, 0.0)
    return result


def _policy_kernels(cmdp: TabularCMDP, tables: FloatArray) -> FloatArray:
    """(J, S, S) transition matrices under J policies."""
    if cmdp.n_states > ROW_STATES:
        # From the rows that are stored: the dense array would stay with the model, a hundred megabytes at 700 states and 25 actions.
        size, place = cmdp.n_states, cmdp.rows // cmdp.n_actions * cmdp.n_states + cmdp.successors
        weights = (table.reshape(-1)[cmdp.rows] * cmdp.probabilities for table in tables)
        return np.stack([np.bincount(place, w, size * size).reshape(size, size) for w in weights])
    kernels: FloatArray = np.matmul(tables.transpose(1, 0, 2), cmdp.dense).transpose(1, 0, 2)
    return kernels


def _solve_sparse(cmdp: TabularCMDP, table: FloatArray, right: FloatArray, *, transposed: bool) -> FloatArray:
    """``(I - gamma P_pi) x = right`` (S, F), or its transpose for ``right`` (S,), to rounding (:mod:`surefoot.cmdp.sparse`)."""
    from surefoot.cmdp.sparse import SparseRows

    rows = SparseRows(cmdp).under_table(table)
    if transposed:
        return rows.visits(right)
    solved = np.zeros((right.shape[1], cmdp.n_states))
    for signal, value in zip(np.ascontiguousarray(right.T), solved):
        rows.solve(signal, value)
    result: FloatArray = solved.T
    return result


def occupancy(cmdp: TabularCMDP, policy: Any) -> FloatArray:
    """(S, A) unnormalised discounted occupancy measure; it sums to ``1 / (1 - gamma)``."""
    check_task(cmdp)
    table = _single(cmdp, policy)
    if cmdp.n_states > DENSE_STATES:
        states = _solve_sparse(cmdp, table, cmdp.start, transposed=True)
    else:
        kernel = _policy_kernels(cmdp, table[None])[0]
        states = solve_systems(np.eye(cmdp.n_states) - cmdp.discount * kernel.T, cmdp.start)
    result: FloatArray = np.maximum(states, 0.0)[:, None] * table
    return result


@dataclass(frozen=True, eq=False)
class Ceilings:
    """Almost-sure range of an episode.

    Attributes:
        return_lower, return_upper: of the discounted return.
        costs: (I,) largest discounted costs, or functionals of them.
    """

    return_lower: float
    return_upper: float
    costs: FloatArray


def ceilings(cmdp: TabularCMDP, policies: Any = None) -> Ceilings:
    """Almost-sure range of an episode's return and costs under any policy, or under any of ``policies``.

    The largest discounted sum that any path through the *support* can collect satisfies
    ``m(s) = max_a [f(s,a) + gamma max_{s' in supp P(.|s,a)} m(s')]``. Policy iteration on pairs of action and successor finds it in a
    few rounds whatever the discount is; the Bellman residual ``e`` that rounding leaves is added as ``e / (1 - gamma)``, so that what is
    returned is a ceiling. Only states reachable from ``rho`` count. With ``policies``, only actions that one of them takes are allowed.
    """
    check_task(cmdp)
    if policies is None:
        allowed: np.ndarray[Any, np.dtype[np.bool_]] = np.ones((cmdp.n_states, cmdp.n_actions), dtype=bool)
    else:
        allowed = _taken(cmdp, policies)
    upper = _largest_path(cmdp, cmdp.rewards, allowed)
    lower = -_largest_path(cmdp, -cmdp.rewards, allowed)
    costs = [_largest_path(cmdp, cost, allowed) for cost in cmdp.costs]
    most = np.asarray(costs, dtype=np.float64)
    if cmdp.functionals:
        most = functional_bounds(cmdp.functionals, most)
    return Ceilings(return_lower=lower, return_upper=upper, costs=most)


def _taken(cmdp: TabularCMDP, policies: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(S, A) which actions one of the policies takes."""
    if not isinstance(policies, DeterministicPolicies):
        return np.asarray(np.any(as_tables("policy", policies, cmdp.n_states, cmdp.n_actions) > 0.0, axis=0))
    policies.check("policy", cmdp.n_states, cmdp.n_actions)
    taken = np.zeros((cmdp.n_states, cmdp.n_actions), dtype=bool)
    taken[np.arange(cmdp.n_states), policies.actions] = True
    return taken


def _largest_path(cmdp: TabularCMDP, signal: FloatArray, allowed: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    gamma, states = cmdp.discount, np.arange(cmdp.n_states)
    # One entry for every allowed triple (s, a, s') of the support, those of a state next to each other.
    kept = allowed.reshape(-1)[cmdp.rows]
    source, target, gain = cmdp.rows[kept] // cmdp.n_actions, cmdp.successors[kept], signal.reshape(-1)[cmdp.rows[kept]]
    begin = np.searchsorted(source, states)
    choice = begin
    for _ in range(MAX_ROUNDS):
        best = _along_paths(gain[choice], target[choice], gamma)
        ahead = gain + gamma * best[target]
        update = np.maximum.reduceat(ahead, begin)
        rounding = 1e-13 * (np.abs(gain[choice]) + gamma * np.abs(best[target[choice]]))
        better = update > best + rounding
        if not better.any():
            break
        first = np.flatnonzero(ahead == update[source])
        winner = first[np.searchsorted(source[first], states)]
        choice = np.where(better, winner, choice)
    residual = max(float((update - best).max()), 0.0)
    found = float(best[cmdp.start > 0.0].max()) + residual / (1.0 - gamma)
    return min(found, float(signal[allowed].max()) / (1.0 - gamma))


def _along_paths(gain: FloatArray, following: IntArray, gamma: float) -> FloatArray:
    """(S,) discounted sums along the path that ``following`` (S,) lays from every state, by doubling its length."""
    total, factor = gain, gamma
    while factor > 0.0:
        total = total + factor * total[following]
        following, factor = following[following], factor * factor
    return total


def distance(first: TabularCMDP, second: TabularCMDP) -> float:
    """``max(|r-r'|_inf, |c-c'|_inf, TV(rho,rho'), max_sa TV(P,P'))``, total variation being half the l1 norm.

    Raises:
        InvalidInput: the two CMDPs differ in shape or discount.
    """
    shapes = [(m.n_states, m.n_actions, m.n_costs, m.discount) for m in (first, second)]
    if shapes[0] != shapes[1]:
        raise InvalidInput(
            f"the CMDPs must share S, A, I and discount, got {shapes[0]} and {shapes[1]}; compare like with like",
            code="SF-ARGUMENT-MISMATCH",
        )
    return max(
        float(np.abs(first.rewards - second.rewards).max()),
        float(np.abs(first.costs - second.costs).max()) if first.n_costs else 0.0,
        0.5 * float(np.abs(first.start - second.start).sum()),
        _kernel_distance(first, second),
    )


def _kernel_distance(first: TabularCMDP, second: TabularCMDP) -> float:
    """Largest total variation between rows, without making anything dense."""
    size = first.n_states
    keys = np.concatenate([m.rows * size + m.successors for m in (first, second)])
    signed = np.concatenate([first.probabilities, -second.probabilities])
    entries, where = np.unique(keys, return_inverse=True)
    differences = np.abs(np.bincount(where, weights=signed, minlength=entries.size))
    return 0.5 * float(np.bincount(entries // size, weights=differences).max())
