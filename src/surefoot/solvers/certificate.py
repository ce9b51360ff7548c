"""Is this policy feasible, and how far from optimal can it be? Answered without trusting any solver.

For multipliers ``lam >= 0`` weak duality bounds the optimum of a CMDP by an unconstrained problem,

    V* <= max_pi V_{r - lam c}(pi) + lam . d .

The right side is found by policy iteration written here, and made rigorous by its Bellman residual: with
``e(s) = (T v)(s) - v(s)`` every policy collects at most ``max_pi V(pi) <= rho . v + max e / (1 - gamma)``. Where rounding in states that
are hardly ever reached makes that crude, the identity ``V_f(pi) = rho . v + V_g(pi)``, ``g(s,a) = f(s,a) + gamma P v - v(s)``, is used to
bound the rest by the same method. Feasibility and value of the policy come from its exact evaluation. Nothing in this module knows
linear programming.

That no policy meets the limits is proved by weights ``mu >= 0`` of the constraints (Farkas): ``min_pi V_{mu c}(pi) > mu . d``.

*Proofs that are given.* For a large CMDP whoever solved it hands over state values with the answer (:class:`MixtureProof`), and checking is one
sweep over the model, without any solver: for *every* vector ``v`` of state values and ``e(s) = f_pi(s) + gamma (P_pi v)(s) - v(s)``

    rho . v + min e / (1 - gamma)  <=  V_f(pi)  <=  rho . v + max e / (1 - gamma),        max_pi V_f(pi) <= rho . v + max (T v - v) / (1 - gamma).

Values that are not those of the policy make the interval wide, not wrong; what rounding can hide in a sweep is added.

Every quantity is judged in its own unit, so that a task may be stated in any: an excess relative to its limit, a gap relative to the
rewards that the policy collects (in absolute value).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefoot.arrays import FloatArray, as_floats, check_probabilities
from surefoot.cmdp.evaluate import evaluate_many, state_values
from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import InvalidInput

__all__ = [
    "MixtureProof",
    "OptimalityCertificate",
    "best_response",
    "certify",
    "check_least_excess",
    "check_mixture",
    "least_excess",
    "limit_units",
]  # fmt: skip

PATIENT = 5
"""Sweeps of policy iteration that improve no value beyond rounding before it ends."""
MAX_SWEEPS = 1000
ROUNDING = 1e-13
"""Of the largest terms of a Bellman backup: improvements below are none."""
COARSE = 1e-9
"""Part of a bound that its residual may make up before it is refined."""
CHUNK = 2**15
"""States that a sweep looks at together, so that checking needs little memory beside the model."""
RESOLVED = 2.0**-20
"""A quantity below this share of what the uniform policy collects is judged in units of that share: evaluation resolves no more."""


@dataclass(frozen=True, eq=False)
class OptimalityCertificate:
    """What is proved about a policy.

    Attributes:
        value, costs: exact values of the policy, costs (I,).
        excess: largest ``V_c - d``; <= 0 means feasible.
        bound: upper bound on the value of every feasible policy.
        relative_excess: largest ``(V_c - d) / u`` with the units of :func:`limit_units`.
        scale: unit of the gap: what the policy collects of ``|r|``, or a small share of what the uniform policy does or of the limits' price.
    """

    value: float
    costs: FloatArray
    excess: float
    bound: float
    relative_excess: float
    scale: float

    @property
    def gap(self) -> float:
        """``bound - value``: the policy is this close to optimal or closer."""
        return self.bound - self.value

    @property
    def relative_gap(self) -> float:
        """The gap in its unit; 0 where both are 0."""
        return self.gap / self.scale if self.scale > 0.0 else (0.0 if self.gap == 0.0 else np.inf)


def limit_units(cmdp: TabularCMDP) -> FloatArray:
    """(I,) what an excess is measured in: the limit, or a small share of what wandering about costs where the limit is (next to) zero."""
    most = cmdp.costs.max(axis=(1, 2)) / (1.0 - cmdp.discount) if cmdp.n_constraints else np.zeros(0)
    if not cmdp.functionals and (cmdp.cost_limits > RESOLVED * most).all():
        return cmdp.cost_limits  # whatever wandering about costs
    _, costs = _ordinary(cmdp)
    units = np.maximum(cmdp.cost_limits, RESOLVED * costs)
    return np.where(units > 0.0, units, 1.0)


def _ordinary(cmdp: TabularCMDP) -> tuple[float, FloatArray]:
    """``|r|`` and costs (I,) that the uniform policy collects: the order of magnitude of this task, rare and unreachable states included."""
    uniform = np.full((cmdp.n_states, cmdp.n_actions), 1.0 / cmdp.n_actions)
    reward = float(evaluate_many(cmdp.with_reward_only(np.abs(cmdp.rewards)), uniform)[0, 0])
    return reward, evaluate_many(cmdp, uniform)[0, 1:]


def certify(cmdp: TabularCMDP, policy: Any, multipliers: Any) -> OptimalityCertificate:
    """Check a policy against the dual bound of ``multipliers`` (I,); negative multipliers count as zero."""
    lam = np.maximum(as_floats("multipliers", multipliers, (cmdp.n_constraints,)), 0.0)
    values = evaluate_many(cmdp, policy)[0]
    _, bound = best_response(cmdp, cmdp.rewards - np.tensordot(lam, cmdp.costs, axes=1), policy)
    costs, price = values[1:], float(lam @ cmdp.cost_limits)
    collected = float(evaluate_many(cmdp.with_reward_only(np.abs(cmdp.rewards)), policy)[0, 0])
    # What evaluation cannot resolve is no gap either.
    rounding = RESOLVED * max(_ordinary(cmdp)[0], price)
    return OptimalityCertificate(
        value=float(values[0]),
        costs=costs,
        excess=float((costs - cmdp.cost_limits).max(initial=-np.inf)),
        bound=bound + price,
        relative_excess=float(((costs - cmdp.cost_limits) / limit_units(cmdp)).max(initial=-np.inf)),
        scale=max(collected, rounding),
    )


@dataclass(frozen=True, eq=False)
class MixtureProof:
    """What a solver claims of a mixture of K deterministic policies, drawn once per episode.

    Attributes:
        actions: (K, S) integers.
        weights: (K,) in the simplex.
        values: (K, 1+I, S) return and costs of each policy from every state.
        multipliers: (I,) of the limits.
        dual: (S,) values of the best policy for ``r - lam c``.
        sizes: (K, S) values of ``|r|``, which only the unit of the gap depends on; ``None`` stands for the returns.
    """

    actions: NDArray[Any]
    weights: FloatArray
    values: FloatArray
    multipliers: FloatArray
    dual: FloatArray
    sizes: FloatArray | None = None


def check_mixture(cmdp: TabularCMDP, proof: MixtureProof) -> OptimalityCertificate:
    """What :class:`MixtureProof` proves: the value is a lower bound, costs and ``bound`` are upper bounds, all within what its residuals allow.

    Nothing in the proof is believed: any values give a valid certificate, wrong ones a useless one.

    Raises:
        InvalidInput: shapes that do not fit the CMDP, actions that there are not, weights outside the simplex, numbers that are not finite.
    """
    n, k, i = cmdp.n_states, len(proof.weights), cmdp.n_constraints
    weights = check_probabilities("weights", as_floats("weights", proof.weights, (None,)))
    weights = weights / weights.sum()
    actions = _checked_actions(proof.actions, (k, n), cmdp.n_actions)
    lam = np.maximum(as_floats("multipliers", proof.multipliers, (i,)), 0.0)
    dual = _finite("dual", proof.dual, (n,))
    values = _finite("values", proof.values, (k, 1 + i, n))
    ends = np.array([[_between(cmdp, f, actions[j], values[j, f]) for f in range(1 + i)] for j in range(k)])
    low, high = float(weights @ ends[:, 0, 0]), weights @ ends[:, 1:, 1]
    price = float(lam @ cmdp.cost_limits)
    if proof.sizes is None:
        collected = max(low, -float(weights @ ends[:, 0, 1]), 0.0)
    else:
        sizes = _finite("sizes", proof.sizes, (k, n))
        collected = float(weights @ [_between(cmdp, None, actions[j], sizes[j])[0] for j in range(k)])
    excess = high - cmdp.cost_limits
    return OptimalityCertificate(
        value=low,
        costs=high,
        excess=float(excess.max(initial=-np.inf)),
        bound=_most_of(cmdp, 1.0, lam, dual) + price,
        relative_excess=float((excess / limit_units(cmdp)).max(initial=-np.inf)),
        scale=max(collected, RESOLVED * price),
    )


def check_least_excess(cmdp: TabularCMDP, weights: Any, dual: Any) -> float:
    """As :func:`least_excess`, from values (S,) ``dual`` of the best policy for ``-sum_i mu_i c_i / u_i``, where weights sum to one; one sweep."""
    mu = np.maximum(as_floats("weights", weights, (cmdp.n_constraints,)), 0.0)
    if not mu.sum() > 0.0:
        return -np.inf
    prices = mu / mu.sum() / limit_units(cmdp)
    return -_most_of(cmdp, 0.0, prices, _finite("dual", dual, (cmdp.n_states,))) - float(prices @ cmdp.cost_limits)


def _checked_actions(actions: Any, shape: tuple[int, int], n_actions: int) -> NDArray[Any]:
    given = np.asarray(actions)
    if given.shape != shape or given.dtype.kind not in "iu":
        raise InvalidInput(
            f"actions must be integers of shape {shape}, got {given.dtype} of shape {given.shape}; give one action per policy and state",
            code="SF-ARGUMENT-SHAPE",
        )
    if given.size and (int(given.min()) < 0 or int(given.max()) >= n_actions):
        raise InvalidInput(
            f"actions must lie in [0, {n_actions}), got {given.min()}..{given.max()}; check the indices",
            code="SF-ARGUMENT-RANGE",
        )
    return given


def _finite(name: str, array: Any, shape: tuple[int, ...]) -> FloatArray:
    """``array`` as it is, without a copy."""
    given = np.asarray(array, dtype=np.float64)
    if given.shape != shape:
        raise InvalidInput(
            f"{name} must have shape {shape}, got {given.shape}; check the order of the axes", code="SF-ARGUMENT-SHAPE"
        )
    if not np.isfinite(given).all():
        raise InvalidInput(f"{name} must be finite, got NaN or infinity; solve again", code="SF-ARGUMENT-FINITE")
    return given


def _chunks(n_states: int) -> Iterator[slice]:
    return (slice(k, min(k + CHUNK, n_states)) for k in range(0, n_states, CHUNK))


def _ahead(cmdp: TabularCMDP, rows: NDArray[Any], value: FloatArray) -> FloatArray:
    """Expected ``value`` of the next state for each of ``rows``, which ascend."""
    begin, end = cmdp.row_start[rows], cmdp.row_start[rows + 1]
    sizes = end - begin
    inside = np.cumsum(sizes) - sizes
    entries = np.arange(int(sizes.sum())) + np.repeat(begin - inside, sizes)
    result: FloatArray = np.add.reduceat(cmdp.probabilities[entries] * value[cmdp.successors[entries]], inside)
    return result


def _rounding(cmdp: TabularCMDP, signal: float, value: FloatArray) -> float:
    """What rounding can hide in ``rho . v`` plus a residual over ``1 - gamma``; ``signal`` is the largest one."""
    longest = int(np.diff(cmdp.row_start).max()) + 8
    largest = float(np.abs(value).max())
    # Probabilities that sum to 1 within a rounding are taken as they are stored.
    share = longest * float(np.finfo(np.float64).eps) / (1.0 - cmdp.discount)
    return share * (signal + 2.0 * largest)


def _between(cmdp: TabularCMDP, signal: int | None, actions: NDArray[Any], value: FloatArray) -> tuple[float, float]:
    """Both ends of what ``value`` (S,) proves of a policy (S,); ``signal`` is 0 for the reward, i for cost i, ``None`` for ``|r|``."""
    table = cmdp.rewards if not signal else cmdp.costs[signal - 1]
    least, most, largest = np.inf, -np.inf, 0.0
    for part in _chunks(cmdp.n_states):
        states = np.arange(part.start, part.stop)
        chosen = actions[part].astype(np.int64)
        gain = table[states, chosen]
        gain = np.abs(gain) if signal is None else gain
        left = gain + cmdp.discount * _ahead(cmdp, states * cmdp.n_actions + chosen, value) - value[part]
        least, most = min(least, float(left.min())), max(most, float(left.max()))
        largest = max(largest, float(np.abs(gain).max()))
    found, hidden = math.fsum(cmdp.start * value), _rounding(cmdp, largest, value)
    return found + least / (1.0 - cmdp.discount) - hidden, found + most / (1.0 - cmdp.discount) + hidden


def _most_of(cmdp: TabularCMDP, reward: float, prices: FloatArray, value: FloatArray) -> float:
    """Upper bound on what any policy collects of ``reward * r - prices . c``, proved by ``value`` (S,)."""
    most, largest, i = -np.inf, 0.0, cmdp.n_constraints
    for part in _chunks(cmdp.n_states):
        gain = reward * cmdp.rewards[part]
        size = np.abs(gain).max()
        for k in range(i):
            gain = gain - prices[k] * cmdp.costs[k, part]
            size += prices[k] * float(cmdp.costs[k, part].max())
        rows = np.arange(part.start * cmdp.n_actions, part.stop * cmdp.n_actions)
        left = gain + cmdp.discount * _ahead(cmdp, rows, value).reshape(gain.shape) - value[part, None]
        most, largest = max(most, float(left.max())), max(largest, float(size))
    return math.fsum(cmdp.start * value) + most / (1.0 - cmdp.discount) + _rounding(cmdp, largest * (1 + i), value)


def least_excess(cmdp: TabularCMDP, weights: Any, policy: Any) -> float:
    """Lower bound on the worst excess, in the units of :func:`limit_units`, that any policy must leave; > 0 proves the task infeasible.

    Args:
        cmdp: the task.
        weights: (I,) of the constraints, in those units; negative ones count as zero. Any weights give a valid bound.
        policy: (S, A) where policy iteration starts; it affects the time only.
    """
    mu = np.maximum(as_floats("weights", weights, (cmdp.n_constraints,)), 0.0)
    if not mu.sum() > 0.0:
        return -np.inf
    prices = mu / mu.sum() / limit_units(cmdp)
    _, bound = best_response(cmdp, -np.tensordot(prices, cmdp.costs, axes=1), policy)
    return -bound - float(prices @ cmdp.cost_limits)


def best_response(cmdp: TabularCMDP, signal: FloatArray, policy: Any) -> tuple[FloatArray, float]:
    """Unconstrained optimum of ``signal`` (S, A) by policy iteration from ``policy``.

    Returns the deterministic policy (S, A) and an upper bound on the optimal value that holds whether or not the
    iteration converged.
    """
    table, value, advantage = _policy_iteration(cmdp, signal, policy)
    found, rest = float(cmdp.start @ value), _rest(cmdp, advantage)
    if rest > COARSE * abs(found):
        _, more, left = _policy_iteration(cmdp, advantage, table)
        rest = min(rest, float(cmdp.start @ more) + _rest(cmdp, left))
    return table, found + rest


def _rest(cmdp: TabularCMDP, advantage: FloatArray) -> float:
    return max(float(advantage.max()), 0.0) / (1.0 - cmdp.discount)


def _policy_iteration(cmdp: TabularCMDP, signal: FloatArray, policy: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A deterministic policy (S, A), the values (S,) of the last one that was evaluated and the advantages (S, A) over it."""
    table = np.asarray(getattr(policy, "table", policy), dtype=np.float64)
    twin = cmdp.with_reward_only(signal)
    states = np.arange(cmdp.n_states)
    best, idle = -np.inf, 0
    for _ in range(MAX_SWEEPS):
        value = state_values(twin, table)[0, 0]
        action_values = signal + cmdp.discount * _expected(cmdp, value).reshape(signal.shape)
        advantage = action_values - value[:, None]
        # Ties keep the first maximiser, and improvement below rounding stops: policy iteration cannot cycle.
        greedy = np.zeros_like(table)
        greedy[states, action_values.argmax(axis=1)] = 1.0
        terms = np.abs(signal) + cmdp.discount * _expected(cmdp, np.abs(value)).reshape(signal.shape)
        found = float(value.sum())  # grows with every sweep that improves any state
        idle = 0 if found > best + ROUNDING * abs(found) else idle + 1
        best = max(best, found)
        # Rounding of the linear solve is a share of the largest value: where values are far smaller, improvements may be rounding and go
        # round in circles. What is left of them is part of the bound.
        if idle > PATIENT or (advantage.max(axis=1) <= ROUNDING * terms.max(axis=1)).all():
            return greedy, value, advantage
        table = greedy
    return table, value, advantage


def _expected(cmdp: TabularCMDP, value: FloatArray) -> FloatArray:
    """(S*A,) expected ``value`` (S,) of the next state."""
    result: FloatArray = np.add.reduceat(cmdp.probabilities * value[cmdp.successors], cmdp.row_start[:-1])
    return result
