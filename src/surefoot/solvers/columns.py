"""The optimum of a large CMDP by column generation over deterministic policies, priced by compiled sweeps over sparse rows.

    maximise   sum_k w_k V_r(pi_k)     subject to     sum_k w_k V_c(pi_k) <= d,     w in the simplex          (master)

The master's multipliers ``lam`` price a policy: the one that maximises ``r - lam c`` (Dantzig & Wolfe 1960; for CMDPs Altman 1999, chapter 12). Every
pricing proves a bound, whether or not it ran to its end: for any ``v``, with ``T`` the Bellman operator of ``r - lam c``,

    V* <= rho . v + lam . d + max_s (T v - v)(s) / (1 - gamma).

It ends when bound and master are as close as wanted. What makes it fast:

* A policy is improved by policy iteration from the last one, whose values under *any* multipliers are known: ``V_r - lam V_c``.
* Its values come from preconditioned BiCGSTAB (:mod:`surefoot.cmdp.sparse`), as accurate as the next improvement needs and no more.
* Early pricing is inexact: any policy that improves the master does, and iteration ends where improvements become small.
* Multipliers of several limits swing; each pricing takes a point between the master's and the best bound's (Wentges 1997).

Infeasible tasks: the same program minimises the largest excess ``max_i (V_ci - d_i) / u_i`` first, until it is at most 0 or until the same bound,
with the weights of the limits as prices of ``-c``, proves that no policy gets there (Farkas).

The answer is a mixture of at most I + 1 policies, drawn once per episode, with the values that prove it (:class:`MixtureProof`): the certificate is
checked by other code, which reads the model and the proof and knows nothing of this module. The stationary policy of the same occupancy is

    pi(a|s) = sum_k w_k y_k(s) 1{pi_k(s) = a} / sum_k w_k y_k(s),      y_k(s): discounted visits of s under pi_k.

Letters: S states, A actions, I constraints, K policies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefoot.arrays import FloatArray
from surefoot.cmdp.model import TabularCMDP
from surefoot.cmdp.sparse import FLOOR, PolicyRows, SparseRows
from surefoot.policy import DeterministicPolicies
from surefoot.solvers.certificate import RESOLVED, MixtureProof, limit_units
from surefoot.solvers.column_generation import solve_master

__all__ = ["ColumnProgram", "PolicyMixture"]

MAX_COLUMNS = 400
MAX_SWEEPS = 500
"""Of policy iteration in one pricing."""
PATIENCE = 6
"""Greedy steps in a row that do not make the residual smaller, after which it is left as it is."""
EVALUATED = 0.1
"""Residual of a policy's values, as a share of what the last greedy step gained."""
SETTLED = 0.2
"""Early pricing ends where a step gains less than this share of what the policy would improve the master by."""
EARLY = 1e-2
"""The first policy, which usually breaks the limits, is the optimum of the return up to this share."""
WANTED = 0.4
"""Share of the wanted gap that pricing aims at; the rest is for rounding and for values that are not quite exact."""
COST_ERROR = 1e-3
"""Of the unit of a limit: error of a cost while columns are generated."""
FINAL_ERROR = 1e-12
"""The same in the answer."""
SPARE = 1e-11
"""Of each limit, kept free so that rounding breaks none."""
UNMET = 5e-8
"""Excess relative to the limits, up to which a task at the edge of feasibility is solved."""
UNUSED = 1e-13
SMOOTHING = 0.3
"""Weight of the best bound's multipliers where there are several limits."""


@dataclass(frozen=True, eq=False)
class PolicyMixture:
    """Deterministic policies, one of which is drawn for every episode.

    Attributes:
        cmdp: the task.
        actions: (K, S) action indices, in the smallest integers that hold them.
        weights: (K,) positive, in the simplex.
    """

    cmdp: TabularCMDP = field(repr=False)
    actions: NDArray[Any]
    weights: FloatArray

    @cached_property
    def policies(self) -> DeterministicPolicies:
        """The K policies, to be evaluated or simulated."""
        return DeterministicPolicies(self.actions, self.cmdp.n_actions)

    @cached_property
    def occupancies(self) -> FloatArray:
        """(K, S) discounted visits of each policy."""
        rows = SparseRows(self.cmdp)
        return np.stack([rows.under(a.astype(np.int32)).visits(self.cmdp.start) for a in self.actions])

    @cached_property
    def table(self) -> FloatArray:
        """(S, A) the stationary policy of the same occupancy; where no policy ever comes it does what the last one does."""
        states = np.arange(self.cmdp.n_states)
        visits = np.zeros((self.cmdp.n_states, self.cmdp.n_actions))
        shares = self.weights[:, None] * (self.occupancies if len(self.weights) > 1 else 1.0)
        for share, actions in zip(np.broadcast_to(shares, self.actions.shape), self.actions):
            visits[states, actions] += share
        never = ~(visits.sum(axis=1) > 0.0)
        visits[states[never], self.actions[-1][never]] = 1.0
        visits /= visits.sum(axis=1, keepdims=True)
        return visits


@dataclass(eq=False)
class _Column:
    """A policy: actions (S,), return and costs (1+I,), how wrong these may be in units of their own, and (1+I, S) state values while it is in use."""

    actions: NDArray[Any]
    point: FloatArray
    error: FloatArray
    values: FloatArray | None


@dataclass(frozen=True, eq=False)
class Found:
    """What :meth:`ColumnProgram.solve` found; claims, until they are checked.

    Attributes:
        feasible: whether the limits can be met, as far as is known.
        proof: mixture, values and bound; for an infeasible task ``multipliers`` and ``dual`` are zero.
        weights: (I,) of the limits in :func:`limit_units`, for an infeasible task.
        farkas: (S,) values that prove with them how large the excess of every policy is.
        columns: how many policies were generated.
        sweeps: greedy steps and policies evaluated.
    """

    feasible: bool
    proof: MixtureProof
    weights: FloatArray
    farkas: FloatArray
    columns: int
    sweeps: int


class ColumnProgram:
    """Column generation for one CMDP with limits on means.

    Args:
        cmdp: the task.
        gap: wanted distance of bound and value, relative to the value.
    """

    def __init__(self, cmdp: TabularCMDP, gap: float) -> None:
        self._cmdp, self._gap = cmdp, gap
        self._units = limit_units(cmdp)
        # Where a limit is far away, costs are as exact as what can be paid.
        most = cmdp.costs.max(axis=(1, 2), initial=0.0) / (1.0 - cmdp.discount)
        self._exactness = np.minimum(self._units, np.where(most > 0.0, most, 1.0))
        self._rows = SparseRows(cmdp)
        self._under: PolicyRows | None = None
        self._kind = np.min_scalar_type(cmdp.n_actions - 1)
        self._states = np.arange(cmdp.n_states)
        # The policy at hand, and the values of the last one that became a column: where every pricing starts.
        self._actions = np.zeros(cmdp.n_states, np.int32)
        self._values = np.zeros((1 + cmdp.n_constraints, cmdp.n_states))
        self._columns: list[_Column] = []
        self._sweeps = 0
        # What the last pricing proved: values (S,), and the bound on what they price.
        self._dual, self._bound = np.zeros(cmdp.n_states), np.inf
        self._one_sign = bool((cmdp.rewards >= 0.0).all() or (cmdp.rewards <= 0.0).all())
        self._sizes: FloatArray | None = None
        self._collected = 0.0

    def solve(self) -> Found:
        """Mixture, bound and what proves them."""
        limits = self._cmdp.cost_limits
        self._price(1.0, np.zeros(limits.size), None, EARLY if limits.size else WANTED * self._gap)
        if (self._columns[-1].point[1:] <= limits).all():
            if limits.size:
                self._price(1.0, np.zeros(limits.size), None, WANTED * self._gap)
            if (self._columns[-1].point[1:] <= limits).all():
                self._bounded(np.zeros(limits.size))
                last = self._columns[-1].point[0]
                self._polish([len(self._columns) - 1], self._lam, 0.02 * self._gap * self._scale(last, self._lam))
                proof = self._proof([len(self._columns) - 1], np.ones(1))
                return self._found(proof, feasible=True)
        worst = self._least_excess()
        if worst > UNMET:
            return self._infeasible()
        return self._optimum(max(worst, 0.0))

    # -- pricing ----------------------------------------------------------------------------------------------------------------------------

    def _price(self, reward: float, prices: FloatArray, master: float | None, target: float) -> None:
        """Add a policy that collects much of ``reward * r - prices . c``, and keep the bound on what any policy collects of it.

        Args:
            reward: 1, or 0 where the least excess is looked for.
            prices: (I,) >= 0.
            master: what the policies so far collect of it; ``None`` where the policy is to be optimal.
            target: what a policy must collect more to be of use; without ``master`` the share of its value that it may lack.
        """
        cmdp, left = self._cmdp, 1.0 - self._cmdp.discount
        signal = reward * cmdp.rewards - np.tensordot(prices, cmdp.costs, axes=1)
        largest = float(np.abs(signal).max())
        value = reward * self._values[0] - prices @ self._values[1:]
        found, gained, least, idle, share, more = float(cmdp.start @ value), np.inf, np.inf, 0, EVALUATED, np.inf
        for _ in range(MAX_SWEEPS):
            most, fewest, changes = self._rows.greedy(signal, value, self._actions)
            self._sweeps += 1
            # The bound is found + most / left, and the greedy policy collects at least found + fewest / left.
            above, sure = most / left, found + min(fewest, 0.0) / left
            more = np.inf if master is None else sure - master
            wanted = target * abs(found) if master is None else target
            if (found + above - sure if master is None else found + above - master) <= wanted:
                break
            if master is not None and more > wanted and min(above, gained) <= SETTLED * more:
                break
            floor = FLOOR * (largest + float(np.abs(value).max()))
            residual = max(most, -fewest)
            idle = 0 if residual < least else idle + 1
            least = min(least, residual)
            if residual <= floor or idle > PATIENCE:
                break
            share = 0.1 * share if idle > PATIENCE // 2 else share
            enough = 0.1 * wanted * left
            tolerance = max(enough if changes == 0 else share * residual, enough, floor)
            before, gained = found, 0.0
            self._under = self._rows.under(self._actions, self._under)
            self._under.solve(signal[self._states, self._actions], value, tolerance)
            found = float(cmdp.start @ value)
            gained = abs(found - before)
        self._dual, self._bound = value, found + most / left
        self._append(reward, prices, value, max(wanted, more if more < np.inf else 0.0))

    def _append(self, reward: float, prices: FloatArray, value: FloatArray, matters: float) -> None:
        """The policy at hand becomes a column, its values as exact as what ``matters`` needs."""
        cmdp = self._cmdp
        if reward == 0.0 and prices.size == 1:
            self._values[1] = value / -prices[0]
        self._under = self._rows.under(self._actions, self._under)
        error = self._evaluate(
            self._under, self._actions, self._values, prices, 0.02 * matters, value if reward else None
        )
        self._columns.append(
            _Column(self._actions.astype(self._kind), self._values @ cmdp.start, error, self._values.copy())
        )

    def _evaluate(
        self,
        under: PolicyRows,
        actions: Any,
        values: FloatArray,
        prices: FloatArray,
        matters: float,
        value: FloatArray | None = None,
    ) -> FloatArray:
        """Values (1+I, S) of a policy in place, from those given; (1+I,) how wrong they can be.

        ``matters``: error that may remain in the return, and in the costs at these prices. ``value``: about ``r - prices . c``.
        """
        cmdp, left = self._cmdp, 1.0 - self._cmdp.discount
        error = np.zeros(len(values))
        for i in range(1, len(values)):
            allowed = min(COST_ERROR * self._exactness[i - 1], matters / max(prices[i - 1], 1e-300))
            error[i] = under.solve(cmdp.costs[i - 1][self._states, actions], values[i], allowed * left) / left
        if value is not None:
            values[0] = value + prices @ values[1:]
        error[0] = under.solve(cmdp.rewards[self._states, actions], values[0], matters * left) / left
        return error

    def _polish(self, used: list[int], prices: FloatArray, matters: float) -> bool:
        """Exact values for the columns in use; whether any were not."""
        changed = False
        for k in used:
            column = self._columns[k]
            if (
                column.values is not None
                and column.error[0] <= matters
                and (column.error[1:] * prices <= matters).all()
            ):
                if (column.error[1:] <= FINAL_ERROR * self._exactness).all():
                    continue
            changed = True
            if column.values is None:
                column.values = self._values.copy()
            self._under = self._rows.under(column.actions.astype(np.int32), self._under)
            tight = np.maximum(prices, matters / (FINAL_ERROR * self._exactness))
            column.error = np.minimum(
                self._evaluate(self._under, column.actions, column.values, tight, 0.5 * matters), matters
            )
            column.error[1:] = np.minimum(column.error[1:], FINAL_ERROR * self._exactness)
            column.point = column.values @ self._cmdp.start
        return changed

    def _forget(self, used: list[int]) -> None:
        """State values of columns that are not in use."""
        for k, column in enumerate(self._columns[:-1]):
            if k not in used:
                column.values = None

    # -- master -----------------------------------------------------------------------------------------------------------------------------

    def _master(self, *, relaxed: bool, allowed: float = 0.0) -> tuple[FloatArray, FloatArray, float]:
        points = np.stack([column.point for column in self._columns])
        return solve_master(points, self._cmdp.cost_limits, self._units, relaxed=relaxed, allowed=allowed)

    def _least_excess(self) -> float:
        """The least worst excess relative to the limits, or one that meets them; what proves it is kept."""
        limits = self._cmdp.cost_limits
        self._weights, self._farkas, self._least = np.zeros(limits.size), np.zeros(self._cmdp.n_states), -np.inf
        while True:
            shares, duals, worst = self._master(relaxed=True)
            used = np.flatnonzero(shares > 0.0).tolist()
            target = WANTED * self._gap * (1.0 + abs(worst))
            if worst <= 0.0:
                # Met for certain, or only by what the costs of these policies may be wrong?
                doubt = max((float((self._columns[k].error[1:] / self._units).max()) for k in used), default=0.0)
                if worst + doubt > 0.0 and self._polish(used, 1.0 / self._units, 0.05 * target):
                    continue
                return worst
            if not duals.sum() > 0.0 or len(self._columns) >= MAX_COLUMNS:
                return worst
            weights = duals / duals.sum()
            if worst - self._least <= 2.0 * target:
                if self._polish(used, weights / self._units, 0.05 * target):
                    continue
                return worst
            prices = weights / self._units
            # In units of the excess: what a policy collects is minus its weighted excess.
            self._price(0.0, prices, -worst - float(prices @ limits), target)
            least = -self._bound - float(prices @ limits)
            if least > self._least:
                self._weights, self._farkas, self._least = weights, self._dual, least
            self._forget(used)

    def _infeasible(self) -> Found:
        shares, _, _ = self._master(relaxed=True)
        used = np.flatnonzero(shares > UNUSED).tolist()
        # Returns do not matter here.
        largest = float(np.abs(self._cmdp.rewards).max()) / (1.0 - self._cmdp.discount)
        self._polish(used, np.zeros(self._cmdp.n_constraints), max(1e-9 * largest, 1e-300))
        self._lam, self._witness = np.zeros(self._cmdp.n_constraints), np.zeros(self._cmdp.n_states)
        return self._found(self._proof(used, shares[used] / shares[used].sum()), feasible=False)

    def _bounded(self, prices: FloatArray) -> None:
        self._lam, self._witness, self._upper = prices, self._dual, self._bound + float(prices @ self._cmdp.cost_limits)

    def _optimum(self, allowed: float) -> Found:
        cmdp, limits = self._cmdp, self._cmdp.cost_limits
        self._upper, misses = np.inf, 0
        self._lam, self._witness = np.zeros(limits.size), np.zeros(cmdp.n_states)
        while True:
            shares, duals, master = self._master(relaxed=False, allowed=allowed)
            used = np.flatnonzero(shares > UNUSED).tolist()
            if not used:
                break
            tip = duals / self._units
            target = WANTED * self._gap * self._scale(master, tip)
            if self._upper - master <= 2.0 * target or len(self._columns) >= MAX_COLUMNS:
                if self._polish(used, self._lam, 0.05 * target):
                    continue
                break
            prices = tip
            if limits.size > 1 and np.isfinite(self._upper) and misses == 0:
                prices = SMOOTHING * self._lam + (1.0 - SMOOTHING) * tip
            points = np.stack([column.point for column in self._columns])
            collected = float((points[:, 0] - points[:, 1:] @ prices).max())
            self._price(1.0, prices, collected, target)
            if self._bound + float(prices @ limits) < self._upper:
                self._bounded(prices)
            new = self._columns[-1].point
            missed = new[0] - float(tip @ (new[1:] - limits)) <= master + target
            if missed and prices is tip and self._upper - master > 2.0 * target:
                misses += 1
                if misses > 3:
                    break  # rounding is all that is left
            else:
                misses = 1 if missed else 0
            self._forget(used)
        # Rounding must not turn a limit that is met into one that is not.
        for lower in (-SPARE, 0.0, allowed):
            shares, _, _ = self._master(relaxed=False, allowed=lower)
            if (shares > UNUSED).any():
                break
        used = np.flatnonzero(shares > UNUSED).tolist() or [len(self._columns) - 1]
        self._polish(used, self._lam, 0.05 * WANTED * self._gap * self._scale(master, self._lam))
        weights = shares[used] if shares[used].sum() > 0.0 else np.ones(len(used))
        return self._found(self._proof(used, weights / weights.sum()), feasible=True)

    # -- answers ----------------------------------------------------------------------------------------------------------------------------

    def _scale(self, value: float, prices: FloatArray) -> float:
        """Unit of the gap, as the certificate has it."""
        if not self._one_sign and self._collected == 0.0:
            self._collected = 0.5 * float(self._cmdp.start @ self._size(self._columns[-1].actions))
        return max(abs(value), self._collected, RESOLVED * float(prices @ self._cmdp.cost_limits))

    def _size(self, actions: Any) -> FloatArray:
        """(S,) values of ``|r|``, to a few digits."""
        self._under = self._rows.under(actions.astype(np.int32), self._under)
        signal = np.abs(self._cmdp.rewards[self._states, actions])
        value = np.zeros(self._cmdp.n_states)
        self._under.solve(signal, value, 1e-4 * float(self._cmdp.start @ signal))
        return value

    def _proof(self, used: list[int], weights: FloatArray) -> MixtureProof:
        columns = [self._columns[k] for k in used]
        return MixtureProof(
            actions=np.stack([column.actions for column in columns]),
            weights=weights,
            values=np.stack([self._values if column.values is None else column.values for column in columns]),
            multipliers=self._lam,
            dual=self._witness,
            sizes=None if self._one_sign else np.stack([self._size(column.actions) for column in columns]),
        )

    def _found(self, proof: MixtureProof, *, feasible: bool) -> Found:
        weights = getattr(self, "_weights", np.zeros(self._cmdp.n_constraints))
        farkas = getattr(self, "_farkas", np.zeros(self._cmdp.n_states))
        return Found(feasible, proof, weights, farkas, len(self._columns), self._sweeps)
