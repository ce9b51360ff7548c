"""Plants made of nothing but a policy set's predictions: what a forecast plays on.

A policy set holds no task: no rewards, no costs per step, no start distribution. Cell i still says what every library policy j is worth,
``v_ij`` (1+I,) at its centre, between which values given each initial state b, and, for tabular tasks, with which kernel ``P_i``. Two ways to make
episodes of that, the first where it is possible:

*Rollouts.* Occupancies follow from kernels and policies, ``X_ij = (1 - gamma P_i,pi_j)^-1`` on the initial states, and values are linear in the
signals, so signals shared by all cells and the start distribution are found by least squares,

    f = argmin sum_ijb |X_ijb f - v_ijb|^2,  f in its declared range,        rho = argmin sum_ij |rho . X_ij f - v_ij|^2,  rho in the simplex,

``v_ijb`` read at the middle of its interval; the equations of rho then join those of f, and both are solved again. If the task so found,
with kernel ``P_i``, has the predicted values, episodes of it are simulated step by step. If not, signals differ between cells, and

*Draws.* Return, costs and declared signals of an episode are independent Beta variables on their ranges with the predicted means (given the
initial state, where predictions are). Their standard deviation is a share of the largest that mean and range allow: what simulation measured,
where the set was made by simulation, or a stated one. Transitions are not simulated.

Letters: S states, A actions, I constraints, F = 1 + I signals, J policies, N cells, B initial states, n episodes, Q pairs (cell, policy).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_real
from surefoot.blas import solve_systems
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.cmdp.model import TabularCMDP
from surefoot.cmdp.simulate import Simulator
from surefoot.policy import TabularPolicy
from surefoot.policyset.schema import KernelBoxes, PolicySet

__all__ = ["Draws", "ImaginedPlant", "Outcome", "Rollouts", "SurrogatePlant", "imagine"]

LARGEST_TABLE = 1000
"""Rollouts are tried up to this many pairs (s, a); the least-squares problem is dense."""
PAIRS = 200
"""Signals are fitted to so many pairs of cell and policy."""
SPREAD = 0.3
"""Of draws, where nothing was measured."""
FIDELITY = 0.02
"""A task found by least squares is played on if its values are those predicted up to this share of their range."""
ROUNDS, CENTER_WEIGHT = 2, 1e4
"""How often signals and start are found in turn; how much one value at a centre counts, in values given one initial state averaged over all."""
NEWTON_STEPS = 40
START_PULL, ROUGH_PULL = 1e-3, 0.1
"""Weight of the pull towards a uniform start, where predictions leave the start distribution open; the second where they are read off intervals."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What n episodes reported.

    Attributes:
        returns: (n,).
        costs: (n, I).
        initial_states: (n,), or ``None`` where predictions do not depend on them.
        transitions: (m, 4) rows ``(s, a, s', count)``, or ``None``.
        signals: (n, X), or ``None`` where none are declared.
    """

    returns: FloatArray
    costs: FloatArray
    initial_states: IntArray | None
    transitions: IntArray | None
    signals: FloatArray | None = None


class ImaginedPlant(Protocol):
    """A truth to deploy on.

    Attributes:
        values: (J, F) exact return and costs of every policy.
    """

    values: FloatArray

    def run(self, policy_index: IntArray, seed: int, first: int) -> Outcome:
        """One episode per entry; ``first`` numbers them."""
        ...


@dataclass(frozen=True, eq=False)
class SurrogatePlant:
    """Makes plants.

    Attributes:
        statement: how, and what is assumed, in plain words.
        transitions: whether episodes report transitions.
        deviation: (F,) largest difference between the plants' values and those predicted, as a share of the predictions' range.
    """

    policy_set: PolicySet
    statement: str
    transitions: bool
    deviation: FloatArray
    model: _Model | None
    spread: FloatArray

    def plant(self, cell: int) -> ImaginedPlant:
        """The truth is the centre of this cell."""
        if self.model is None:
            return Draws(self.policy_set, cell, self.spread)
        return Rollouts(self.model.task(self.policy_set, cell), _tables(self.policy_set))


def imagine(policy_set: PolicySet, spread: float | None = None) -> SurrogatePlant:
    """Find out how episodes can be made from this set's predictions.

    Args:
        policy_set: from training.
        spread: of *draws*: standard deviation as a share of the largest that mean and range allow, in (0, 1). By default what simulation
            measured, or .3.

    Raises:
        InvalidInput: ``spread`` out of range.
    """
    if spread is not None:
        spread = check_real("spread", spread, low=0.0, high=1.0, open_low=True, open_high=True)
    shares, told = _spreads(policy_set, spread)
    model = _fit(policy_set) if _tabular(policy_set) else None
    if model is not None:
        deviation = _deviation(policy_set, model)
        if (deviation <= FIDELITY).all():
            return SurrogatePlant(policy_set, _ROLLOUTS, True, deviation, model, shares)
    exact = np.zeros(1 + policy_set.criterion.n_constraints)
    return SurrogatePlant(policy_set, _DRAWS.format(spread=told), False, exact, None, shares)


def _spreads(policy_set: PolicySet, spread: float | None) -> tuple[FloatArray, str]:
    """(1+I+X,) shares of return, costs and signals, and what to call them."""
    signals = policy_set.cells.signals
    size = 1 + policy_set.criterion.n_constraints + (0 if signals is None else len(signals.names))
    simulation = policy_set.extra.get("simulation")
    measured = simulation.get("spread") if spread is None and isinstance(simulation, dict) else None
    try:
        found = np.asarray(measured, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.shape == (size,) and bool(((found > 0.0) & (found < 1.0)).all()):
        return found, "the share that simulation measured"
    share = SPREAD if spread is None else spread
    return np.full(size, share), f"{share:g}"


_ROLLOUTS = (
    "Episodes are simulated step by step: kernels are those at the centres of cells, rewards, costs and the start distribution are what "
    "reproduces all predicted values by least squares."
)
_DRAWS = (
    "Outcomes are drawn with the predicted means, independently of each other, with {spread} of the largest standard deviation that mean and range "
    "allow; transitions are not simulated, so a plant that reports them learns faster under trust in cells."
)


class Rollouts:
    """Episodes of a task.

    Args:
        task: the truth.
        tables: (J, S, A).
    """

    def __init__(self, task: TabularCMDP, tables: FloatArray) -> None:
        self.values = evaluate_many(task, tables)
        self._task, self._simulator = task, Simulator(task, tables)

    def run(self, policy_index: IntArray, seed: int, first: int) -> Outcome:
        """See :class:`ImaginedPlant`."""
        groups = np.zeros(policy_index.size, dtype=np.int64)
        seen = self._simulator.run(policy_index, seed=seed, first_episode=first, groups=groups)
        counts = (
            np.zeros(self._task.successors.size, dtype=np.int64) if seen.transitions is None else seen.transitions[0]
        )
        used = np.flatnonzero(counts)
        states, actions = np.divmod(self._task.rows[used], self._task.n_actions)
        rows = np.stack([states, actions, self._task.successors[used], counts[used]], axis=1)
        return Outcome(seen.returns, seen.costs, seen.initial_states, rows)


class Draws:
    """Independent outcomes with the means that a cell predicts at its centre.

    Args:
        policy_set: the predictions.
        cell: which one is true.
        spread: (1+I+X,) standard deviations of return, costs and signals as shares of the largest possible.
    """

    def __init__(self, policy_set: PolicySet, cell: int, spread: FloatArray) -> None:
        self.values = _centers(policy_set)[cell]
        low, high = _ranges(policy_set)
        self._n_outcomes, signals = low.size, policy_set.cells.signals
        conditional = policy_set.cells.conditional
        if conditional is None:
            self._states, self._start, means = None, np.ones(1), self.values[:, :, None]
        else:
            middles = _middles(policy_set)
            self._states = conditional.initial_states
            self._start = _start(middles.reshape(-1, self._states.size), _centers(policy_set).ravel(), ROUGH_PULL)
            # What the middles of intervals miss is the same for every initial state, so that means are exact.
            means = middles[cell] + (self.values - middles[cell] @ self._start)[:, :, None]
        if signals is not None:
            more = 0.5 * (signals.lower[cell] + signals.upper[cell])[:, :, None]
            means = np.concatenate([means, np.repeat(more, means.shape[2], axis=2)], axis=1)
            low, high = np.concatenate([low, signals.bounds[:, 0]]), np.concatenate([high, signals.bounds[:, 1]])
        unit = np.where(high > low, high - low, 1.0)[:, None]
        self._means = np.clip((means - low[:, None]) / unit, 0.0, 1.0)
        self._low, self._unit = low, unit[:, 0]
        self._concentration: FloatArray = spread**-2 - 1.0

    def run(self, policy_index: IntArray, seed: int, first: int) -> Outcome:
        """See :class:`ImaginedPlant`."""
        rng = np.random.default_rng([seed, first])
        column = rng.choice(self._start.size, size=policy_index.size, p=self._start)
        mean = self._means[policy_index, :, column]
        inside = (mean > 0.0) & (mean < 1.0)
        safe = np.where(inside, mean, 0.5)
        drawn = rng.beta(safe * self._concentration, (1.0 - safe) * self._concentration)
        outcome = self._low + self._unit * np.where(inside, drawn, mean)
        states = None if self._states is None else self._states[column]
        n = self._n_outcomes
        signals = outcome[:, n:] if outcome.shape[1] > n else None
        return Outcome(outcome[:, 0], outcome[:, 1:n], states, None, signals)


@dataclass(frozen=True, eq=False)
class _Model:
    """What all cells share: signals (F, S, A) and the start distribution (S,)."""

    signals: FloatArray
    start: FloatArray

    def task(self, policy_set: PolicySet, cell: int) -> TabularCMDP:
        """The task at the centre of a cell."""
        kernel = _kernel(_boxes(policy_set), cell, *self.signals.shape[1:])
        criterion = policy_set.criterion
        return TabularCMDP(
            kernel, self.signals[0], self.signals[1:], criterion.cost_limits, self.start, criterion.discount
        )


def _tabular(policy_set: PolicySet) -> bool:
    """Whether rollouts can be tried at all: kernels, initial states, tables, a discount without a horizon, and not too large."""
    cells, policies = policy_set.cells, policy_set.policies
    return (
        cells.kernel is not None
        and cells.conditional is not None
        and all(isinstance(p, TabularPolicy) for p in policies)
        and policy_set.criterion.horizon is None
        and _tables(policy_set)[0].size <= LARGEST_TABLE
    )


def _tables(policy_set: PolicySet) -> FloatArray:
    return np.stack([p.table for p in policy_set.policies if isinstance(p, TabularPolicy)])


def _boxes(policy_set: PolicySet) -> KernelBoxes:
    boxes = policy_set.cells.kernel
    if boxes is None:
        raise TypeError("rollouts need kernels")
    return boxes


def _states(policy_set: PolicySet) -> IntArray:
    conditional = policy_set.cells.conditional
    return np.zeros(0, dtype=np.int64) if conditional is None else conditional.initial_states


def _centers(policy_set: PolicySet) -> FloatArray:
    """(N, J, F) predicted values at the centres."""
    p = policy_set.cells.predictions
    return np.concatenate([p.reward_center[:, :, None], p.cost_center], axis=2)


def _middles(policy_set: PolicySet) -> FloatArray:
    """(N, J, F, B) middles of the intervals given the initial state."""
    c = policy_set.cells.conditional
    if c is None:
        raise TypeError("there are no predictions given initial states")
    reward, cost = 0.5 * (c.reward_lower + c.reward_upper), 0.5 * (c.cost_lower + c.cost_upper)
    return np.concatenate([reward[:, :, None], cost], axis=2)


def _ranges(policy_set: PolicySet) -> tuple[FloatArray, FloatArray]:
    """(F,) smallest and largest outcomes of an episode."""
    bounds, criterion = policy_set.bounds, policy_set.criterion
    ceilings = np.where(np.asarray(bounds.cost_ceilings) > 0.0, bounds.cost_ceilings, criterion.cost_ceilings)
    low = np.concatenate([[bounds.return_lower], np.zeros(criterion.n_constraints)])
    return low, np.concatenate([[bounds.return_upper], ceilings])


def _kernel(boxes: KernelBoxes, cell: int, n_states: int, n_actions: int) -> FloatArray:
    """(S, A, S) kernel at the centre of a cell; where nothing is known of a pair it stays where it is."""
    kernel = np.zeros((n_states, n_actions, n_states))
    kernel[tuple(boxes.support.T)] = boxes.center[cell]
    sums = kernel.sum(axis=2)
    state, action = np.nonzero(sums <= 0.0)
    kernel[state, action, state] = 1.0
    normal: FloatArray = kernel / kernel.sum(axis=2, keepdims=True)
    return normal


def _pairs(policy_set: PolicySet) -> list[tuple[int, int]]:
    """Pairs of cell and policy that signals are fitted to: every policy at least once, cells evenly, all pairs where there are few."""
    n, j = len(policy_set.cells), len(policy_set.policies)
    many = min(max(PAIRS, j), n * j)
    return (
        [(q * n // many, q % j) for q in range(many)] if many < n * j else [(i, k) for i in range(n) for k in range(j)]
    )


def _fit(policy_set: PolicySet) -> _Model:
    """Signals and start distribution by least squares; see the module's docstring."""
    pairs, states = _pairs(policy_set), _states(policy_set)
    visits = _visits(policy_set, pairs)
    middles, centers = _middles(policy_set), _centers(policy_set)
    given = np.stack([middles[pair] for pair in pairs])
    wanted = np.stack([centers[pair] for pair in pairs])
    problem = _Squares.of(visits, given)
    signals = problem.solve(_bounds(policy_set))
    for _ in range(ROUNDS):
        start = _start(np.einsum("qbx,fx->qfb", visits, signals).reshape(-1, states.size), wanted.ravel())
        whole = np.einsum("b,qbx->qx", start, visits)
        signals = problem.plus(whole, wanted, CENTER_WEIGHT * states.size).solve(_bounds(policy_set))
    tables = _tables(policy_set)
    everywhere = np.zeros(tables.shape[1])
    everywhere[states] = start
    return _Model(signals.reshape(-1, *tables.shape[1:]), everywhere)


def _visits(policy_set: PolicySet, pairs: list[tuple[int, int]]) -> FloatArray:
    """(Q, B, S*A) discounted visits of every pair (s, a) from every initial state."""
    tables, states = _tables(policy_set), _states(policy_set)
    unit = np.eye(tables.shape[1])
    found = []
    kernels: dict[int, FloatArray] = {}
    for cell, policy in pairs:
        if cell not in kernels:
            kernels = {cell: _kernel(_boxes(policy_set), cell, *tables.shape[1:])}
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


def _start(rows: FloatArray, wanted: FloatArray, pull: float = START_PULL) -> FloatArray:
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


def _deviation(policy_set: PolicySet, model: _Model) -> FloatArray:
    """(F,) see :attr:`SurrogatePlant.deviation`; on cells that the fit may not have seen."""
    centers, tables = _centers(policy_set), _tables(policy_set)
    cells = np.unique(np.linspace(0, len(centers) - 1, 12).astype(int))
    off = np.stack([np.abs(evaluate_many(model.task(policy_set, int(k)), tables) - centers[k]) for k in cells])
    spread: Any = np.ptp(centers.reshape(-1, centers.shape[2]), axis=0)
    share: FloatArray = off.max(axis=(0, 1)) / np.where(spread > 0.0, spread, 1.0)
    return share
