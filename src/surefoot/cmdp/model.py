"""The finite constrained Markov decision process.

A CMDP is ``(S, A, P, r, c, rho, gamma, d)``: from state ``s`` action ``a`` earns ``r(s,a)``, costs ``c_i(s,a) >= 0`` and
moves to ``s'`` with probability ``P(s'|s,a)``. A policy is feasible when its expected discounted episode costs satisfy
``V_c(pi) <= d`` for every constraint. Where a limit is on a functional of an episode's cost (:mod:`surefoot.criterion`), its mean takes the place of
``V_c`` in everything that is said of values, and the costs ``c`` remain what an episode reports.

Letters: S states, A actions, I constraints, K costs, E stored transition probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from surefoot.arguments import check_instance
from surefoot.arrays import (
    SIMPLEX_TOLERANCE,
    FloatArray,
    IntArray,
    ReadOnly,
    as_floats,
    check_integer,
    check_probabilities,
    check_real,
    entry,
    first_where,
    freeze,
)
from surefoot.criterion import Criterion, CVaR, Exceeds, Functional, Mean, check_signals, measure, parse_limits
from surefoot.errors import InvalidInput

__all__ = ["TabularCMDP"]

GRID = 200
"""Default cells of the grid on which functionals are evaluated."""
DENSE_STATES = 1000
"""Up to this many states linear systems are solved densely; above, iteratively on sparse rows."""


def check_task(cmdp: Any, name: str = "cmdp") -> None:
    """Raise unless this is a task with a model.

    Raises:
        InvalidInput: a class, a name, a family, or something else.
    """
    of_family = callable(getattr(cmdp, "cmdp", None)) and not isinstance(cmdp, type)
    remedy = "take one of its tasks: family.cmdp(parameters)" if of_family else "build one: surefoot.TabularCMDP(...)"
    check_instance(name, cmdp, "a TabularCMDP", ("n_states", "signals", "functionals"), path=remedy, other=remedy)


@dataclass(frozen=True, eq=False)
class TabularCMDP(ReadOnly):
    """A frozen, validated CMDP; all arrays are copied and made read-only.

    Args:
        transitions: (S, A, S) probabilities; or a SciPy sparse matrix (S*A, S) whose row ``s*A + a`` is ``P(.|s,a)``; or a pair of arrays
            (S, A, k), successors and their probabilities, where a successor may be named twice and probability 0 fills up short rows.
        rewards: (S, A) reward per step.
        costs: (K, S, A) costs per step, >= 0; K = I where all limits are on means.
        cost_limits: (I,) limits on the expected discounted cost of an episode, >= 0; or a list with functionals of it
            (:class:`~surefoot.criterion.Exceeds`, :class:`~surefoot.criterion.CVaR`, :class:`~surefoot.criterion.Mean`).
        start: (S,) start distribution.
        discount: in (0, 1).
        functionals: I, as given in ``cost_limits``; empty where all limits are on means.
        grid: cells on which accumulated costs are held where functionals are evaluated (:mod:`surefoot.cmdp.functionals`).

    After construction ``transitions`` is replaced by compressed rows: ``row_start`` (S*A+1,), ``successors`` (E,) and
    ``probabilities`` (E,); :attr:`dense` gives the (S, A, S) array back.

    Raises:
        InvalidInput: the message names the entry, the rule, the value and the remedy.
    """

    transitions: Any
    rewards: FloatArray
    costs: FloatArray
    cost_limits: FloatArray
    start: FloatArray
    discount: float
    functionals: tuple[Any, ...] = ()
    grid: int = GRID

    def __repr__(self) -> str:
        size = f"{self.n_states} states, {self.n_actions} actions, {self.successors.size} transitions"
        return f"TabularCMDP({size}, cost_limits={self.cost_limits.tolist()}, discount={self.discount:g})"

    def __post_init__(self) -> None:
        rewards = as_floats("rewards", self.rewards, (None, None))
        n_states, n_actions = rewards.shape
        if n_states == 0 or n_actions == 0:
            raise InvalidInput(
                f"rewards must have at least one state and one action, got {rewards.shape}; add some",
                code="SF-ARGUMENT-EMPTY",
            )
        functionals, limits = parse_limits(self.cost_limits, self.functionals)
        object.__setattr__(self, "functionals", _evaluable(functionals))
        object.__setattr__(self, "grid", check_integer("grid", self.grid, low=2))
        if functionals:
            costs = as_floats("costs", self.costs, (None, *rewards.shape))
            check_signals(functionals, len(costs))
        else:
            costs = _costs(self.costs, self.transitions, rewards, limits)
        for name, array in (("costs", costs), ("cost_limits", limits)):
            _check_nonnegative(name, array)
        start = check_probabilities("start", as_floats("start", self.start, (n_states,)))
        object.__setattr__(
            self, "discount", check_real("discount", self.discount, low=0.0, high=1.0, open_low=True, open_high=True)
        )
        rows = _compress(self.transitions, n_states, n_actions)
        values = {"rewards": rewards, "costs": costs, "cost_limits": limits, "start": start, "transitions": rows}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def n_states(self) -> int:
        """S."""
        return int(self.rewards.shape[0])

    @property
    def n_actions(self) -> int:
        """A."""
        return int(self.rewards.shape[1])

    @property
    def n_constraints(self) -> int:
        """I."""
        return int(self.cost_limits.size)

    @property
    def n_costs(self) -> int:
        """K, how many costs an episode reports."""
        return int(self.costs.shape[0])

    def measure(self, costs: FloatArray) -> FloatArray:
        """(n, I) what is limited, from the costs (n, K) of episodes."""
        return measure(self.functionals, costs) if self.functionals else costs

    @property
    def row_start(self) -> IntArray:
        """(S*A+1,) where each row begins in :attr:`successors`."""
        return self.transitions[0]  # type: ignore[no-any-return]

    @property
    def successors(self) -> IntArray:
        """(E,) successor states."""
        return self.transitions[1]  # type: ignore[no-any-return]

    @property
    def probabilities(self) -> FloatArray:
        """(E,) their probabilities, all positive."""
        return self.transitions[2]  # type: ignore[no-any-return]

    @cached_property
    def rows(self) -> IntArray:
        """(E,) row ``s*A + a`` of every stored probability."""
        return freeze(np.repeat(np.arange(self.row_start.size - 1, dtype=np.int64), np.diff(self.row_start)))

    @cached_property
    def keys(self) -> IntArray:
        """(E,) entry ``(s*A + a)*S + s'`` of every stored probability."""
        return freeze(self.rows * self.n_states + self.successors)

    @cached_property
    def dense(self) -> FloatArray:
        """(S, A, S) transition probabilities."""
        full = np.zeros((self.n_states * self.n_actions, self.n_states))
        full[self.rows, self.successors] = self.probabilities
        return freeze(full.reshape(self.n_states, self.n_actions, self.n_states))

    @property
    def signals(self) -> FloatArray:
        """(1+K, S, A) reward and costs stacked: the signals that an episode accumulates."""
        return np.concatenate([self.rewards[None], self.costs])

    @property
    def criterion(self) -> Criterion:
        """The criterion with ranges read off this model's own rewards and costs."""
        low, high = float(self.rewards.min()), float(self.rewards.max())
        bounds = self.costs.max(axis=(1, 2)) if self.n_costs else np.zeros(0)
        return Criterion(
            discount=self.discount,
            cost_limits=self.cost_limits,
            reward_bounds=(low, high if high > low else low + 1.0),
            cost_bounds=np.where(bounds > 0.0, bounds, 1.0),
            functionals=self.functionals,
        )

    def with_limits(self, cost_limits: Any) -> TabularCMDP:
        """The same model under other limits."""
        limits = as_floats("cost_limits", cost_limits, (self.n_constraints,))
        _check_nonnegative("cost_limits", limits)
        return self._twin(cost_limits=limits)

    def with_functionals(self, functionals: Sequence[Functional], grid: int | None = None) -> TabularCMDP:
        """The same dynamics and costs, other limits: one per functional.

        Raises:
            InvalidInput: one of them is of a cost that there is not, or is none that can be evaluated.
        """
        given, limits = parse_limits(list(functionals), ())
        check_signals(given, self.n_costs)
        size = self.grid if grid is None else check_integer("grid", grid, low=2)
        return self._twin(cost_limits=limits, functionals=_evaluable(given), grid=size)

    def with_means(self, cost_limits: Any) -> TabularCMDP:
        """The same dynamics and costs, with limits (K,) on the means of the costs instead of all others."""
        limits = as_floats("cost_limits", cost_limits, (self.n_costs,))
        _check_nonnegative("cost_limits", limits)
        return self._twin(cost_limits=limits, functionals=())

    def with_reward_only(self, rewards: Any) -> TabularCMDP:
        """The same dynamics with another reward (S, A) and no constraints."""
        shape = (self.n_states, self.n_actions)
        return self._twin(
            rewards=as_floats("rewards", rewards, shape),
            costs=freeze(np.zeros((0, *shape))),
            cost_limits=freeze(np.zeros(0)),
            functionals=(),
        )

    def sharing(self, other: TabularCMDP) -> TabularCMDP:
        """The same model; arrays that are equal to those of ``other`` are its arrays, so that many similar tasks take little memory."""
        if self is other:
            return self
        changes = {
            name: getattr(other, name)
            for name in ("rewards", "costs", "cost_limits", "start")
            if np.array_equal(getattr(self, name), getattr(other, name))
        }
        support = tuple(b if np.array_equal(a, b) else a for a, b in zip(self.transitions[:2], other.transitions[:2]))
        twin = self._twin(**changes, transitions=(*support, self.transitions[2]))
        if support[0] is other.transitions[0]:
            twin.__dict__["rows"] = other.rows
            if support[1] is other.transitions[1]:
                twin.__dict__["keys"] = other.keys
        return twin

    def _twin(self, **changes: Any) -> TabularCMDP:
        # Everything else is validated and frozen already, and cached with it: share it instead of checking E probabilities again.
        twin = object.__new__(TabularCMDP)
        twin.__dict__.update(self.__dict__)
        twin.__dict__.update(changes)
        return twin


def _evaluable(functionals: tuple[Functional, ...]) -> tuple[Functional, ...]:
    for k, f in enumerate(functionals):
        if not isinstance(f, Mean | Exceeds | CVaR):
            raise InvalidInput(
                f"cost_limits[{k}] must be Mean, Exceeds or CVaR, whose exact values are known, got {type(f).__name__}; simulate the task instead",
                code="SF-ARGUMENT-TYPE",
            )
    return functionals


def _costs(costs: Any, transitions: Any, rewards: FloatArray, limits: FloatArray) -> FloatArray:
    """The costs (I, S, A), checked; where shapes disagree the message names the argument that stands alone against the others."""
    shape = (limits.size, *rewards.shape)
    got = _shape(costs)
    if len(got) == 3 and got != shape:
        if got[1:] != rewards.shape and _shape(transitions)[-1:] == got[1:2] != rewards.shape[:1]:
            raise InvalidInput(
                f"rewards must have shape {got[1:]}, states first, as transitions and costs {got} have it, got {rewards.shape}; "
                + ("transpose them" if rewards.shape == got[:0:-1] else "check the order of the axes"),
                code="SF-ARGUMENT-SHAPE",
            )
        if got[1:] == rewards.shape:
            raise InvalidInput(
                f"costs must have shape {shape}, one table for each of the {limits.size} cost_limits, got {got}; "
                "pass as many limits as tables of costs",
                code="SF-ARGUMENT-LENGTH",
            )
    if got == shape[1:]:
        raise InvalidInput(
            f"costs must have shape {shape}, one table per limit, got {got}; put the table into a list",
            code="SF-ARGUMENT-SHAPE",
        )
    return as_floats("costs", costs, shape)


def _shape(value: Any) -> tuple[int, ...]:
    """Shape of an array or a sparse matrix, () where there is none."""
    try:
        return tuple(value.shape) if hasattr(value, "shape") else np.shape(value)
    except ValueError:
        return ()


def _check_nonnegative(name: str, array: FloatArray) -> None:
    negative = array < 0.0
    if negative.any():
        index = first_where(negative)
        raise InvalidInput(
            f"{entry(name, index)} must be >= 0, got {array[index]:g}; shift the signal or fix the sign",
            code="SF-ARGUMENT-RANGE",
        )


def _compress(transitions: Any, n_states: int, n_actions: int) -> tuple[IntArray, IntArray, FloatArray]:
    """Compressed rows of dense or sparse transitions, checked and with zeros dropped."""
    if hasattr(transitions, "tocsr"):
        return _compress_sparse(transitions, n_states, n_actions)
    if isinstance(transitions, tuple) and len(transitions) == 2 and np.ndim(transitions[0]) == 3:
        return _compress_sparse(_from_successors(*transitions, n_states, n_actions), n_states, n_actions)
    dense = as_floats("transitions", transitions, (n_states, n_actions, n_states))
    check_probabilities("transitions", dense)
    flat = dense.reshape(n_states * n_actions, n_states)
    rows, successors = np.nonzero(flat)
    row_start = np.searchsorted(rows, np.arange(n_states * n_actions + 1))
    return freeze(row_start.astype(np.int64)), freeze(successors.astype(np.int64)), freeze(flat[rows, successors])


def _compress_sparse(matrix: Any, n_states: int, n_actions: int) -> tuple[IntArray, IntArray, FloatArray]:
    if matrix.shape != (n_states * n_actions, n_states):
        raise InvalidInput(
            f"transitions must have shape ({n_states * n_actions}, {n_states}) when sparse, got {matrix.shape}; "
            "row s*A + a holds P(.|s,a)",
            code="SF-ARGUMENT-SHAPE",
        )
    if matrix.dtype.kind not in "fiub":
        raise InvalidInput(
            f"transitions must hold real numbers, got dtype {matrix.dtype}; convert them to float64",
            code="SF-ARGUMENT-TYPE",
        )
    csr = matrix.tocsr().astype(np.float64)
    csr.sum_duplicates()
    # Not a number fails every comparison, so the rule is stated positively.
    wrong = ~((csr.data >= 0.0) & np.isfinite(csr.data))
    if wrong.any():
        k = int(np.argmax(wrong))
        row = int(np.searchsorted(csr.indptr, k, side="right")) - 1
        where = entry("transitions", (*divmod(row, n_actions), int(csr.indices[k])))
        rule = "a probability >= 0" if np.isfinite(csr.data[k]) else "finite"
        raise InvalidInput(f"{where} must be {rule}, got {csr.data[k]:g}; clip or fix it", code="SF-ARGUMENT-SIMPLEX")
    sums = np.asarray(csr.sum(axis=1), dtype=np.float64).reshape(-1)
    off = np.abs(sums - 1.0) > SIMPLEX_TOLERANCE
    if off.any():
        row = int(np.argmax(off))
        raise InvalidInput(
            f"{entry('transitions', divmod(row, n_actions))} must sum to 1 within {SIMPLEX_TOLERANCE:g}, "
            f"got {sums[row]:.12g}; normalise rows first",
            code="SF-ARGUMENT-SIMPLEX",
        )
    csr.eliminate_zeros()
    # The matrix is a copy already, which nobody else holds: what has the right type is kept as it is.
    row_start, successors = csr.indptr.astype(np.int64, copy=False), csr.indices.astype(np.int64, copy=False)
    for array in (row_start, successors, csr.data):
        array.setflags(write=False)
    return row_start, successors, csr.data


def _from_successors(successors: Any, probabilities: Any, n_states: int, n_actions: int) -> Any:
    """The sparse matrix (S*A, S) of successors (S, A, k) and their probabilities."""
    from scipy.sparse import csr_matrix

    following, chances = np.asarray(successors), np.asarray(probabilities)
    width = following.shape[-1]
    if following.shape != (n_states, n_actions, width) or chances.shape != following.shape:
        raise InvalidInput(
            f"transitions must be successors and probabilities of one shape ({n_states}, {n_actions}, k), "
            f"got {following.shape} and {chances.shape}; check the order of the axes",
            code="SF-ARGUMENT-SHAPE",
        )
    if following.dtype.kind not in "iu" or chances.dtype.kind not in "fiub":
        raise InvalidInput(
            f"transitions must be integer successors and real probabilities, got {following.dtype} and {chances.dtype}; "
            "give successors first",
            code="SF-ARGUMENT-TYPE",
        )
    outside = (following < 0) | (following >= n_states)
    if outside.any():
        index = first_where(outside)
        raise InvalidInput(
            f"{entry('successors', index)} must lie in [0, {n_states}), got {following[index]}; "
            "fill short rows up with any state at probability 0",
            code="SF-ARGUMENT-RANGE",
        )
    rows = n_states * n_actions
    parts = (
        chances.reshape(-1),
        following.reshape(-1),
        np.arange(0, rows * width + 1, width) if width else np.zeros(rows + 1, int),
    )
    return csr_matrix(parts, shape=(rows, n_states))
