"""The policy set: all that the deployment phase may know.

Output of training (Ni & Kamgarpour 2026, Algorithm 1) in the shape the certified agent needs. The paper's tuples
``(pi_i, u_i, v_i, u_i^s, v_i^s)`` are ``policies``, ``reward_center``, ``cost_center`` at the columns
``policy_index[i]`` and 0. Around each of them stands a *cell* ``H_i``: one explicit set of tasks, fixed before the
hold-out was drawn, described by intervals for everything the agent will ever bet on. A task is consistent with cell i
when **all** of its quantities lie in the intervals of cell i; the hold-out certificate bounds the probability that a
fresh task is consistent with no cell.

Letters: S states, A actions, I constraints, J policies (index 0 is the safe policy), N cells, B initial states on which
predictions are conditional, X declared extra signals, E entries of the joint support of all kernels, p task parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from surefoot.arguments import check_instance, short_repr
from surefoot.arrays import (
    FloatArray,
    IntArray,
    ReadOnly,
    as_floats,
    check_integer,
    check_real,
    entry,
    first_where,
    freeze,
)
from surefoot.criterion import Criterion
from surefoot.errors import InvalidInput
from surefoot.policy import Policy, TabularPolicy
from surefoot.policyset.belief import Belief
from surefoot.policyset.rehearsed import RehearsalLook, Rehearsed
from surefoot.stats.ledger import Ledger

__all__ = [
    "EVIDENCE",
    "AssumptionReport",
    "Cells",
    "Certificate",
    "ConditionalPredictions",
    "EpisodeBounds",
    "KernelBoxes",
    "Look",
    "OutsideTasks",
    "PolicySet",
    "Predictions",
    "SignalPredictions",
    "TrainingReport",
    "provide_files",
]


EVIDENCE = ("all", "returns")
"""What beliefs are learned for: plants that report everything, and plants that report outcomes alone."""


def _interval(name: str, lower: Any, upper: Any, shape: tuple[int | None, ...]) -> tuple[FloatArray, FloatArray]:
    """Two arrays with ``lower <= upper`` entry by entry."""
    low = as_floats(f"{name}_lower", lower, shape)
    high = as_floats(f"{name}_upper", upper, low.shape)
    crossed = low > high
    if crossed.any():
        index = first_where(crossed)
        raise InvalidInput(
            f"{entry(name + '_lower', index)} must not exceed {name}_upper, got {low[index]:g} > {high[index]:g}; "
            "swap them",
            code="SF-ARGUMENT-ORDER",
        )
    return low, high


def _indices(name: str, value: Any, shape: tuple[int | None, ...], upper: int = 2**53) -> IntArray:
    """Whole numbers in ``[0, upper)``; the range is checked before the cast, which would wrap around silently."""
    floats = as_floats(name, value, shape)
    bad = (floats != np.floor(floats)) | (floats < 0) | (floats >= upper)
    if bad.any():
        index = first_where(bad)
        rule = f"a whole number in [0, {upper})"
        raise InvalidInput(
            f"{entry(name, index)} must be {rule}, got {floats[index]:g}; rebuild the policy set",
            code="SF-ARGUMENT-RANGE",
        )
    return freeze(floats.astype(np.int64))


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput(
            f"{name} must be a string, got {type(value).__name__}; convert it with str()", code="SF-ARGUMENT-TYPE"
        )
    return value


def _names(name: str, values: Any) -> tuple[str, ...]:
    """Distinct, non-empty strings."""
    if isinstance(values, str):
        raise InvalidInput(
            f"{name} must be a tuple of strings, got one string; put it into a tuple", code="SF-ARGUMENT-TYPE"
        )
    names = tuple(_text(f"{name}[{i}]", value) for i, value in enumerate(values))
    seen = {""}
    for index, value in enumerate(names):
        if value in seen:
            raise InvalidInput(
                f"{name}[{index}] must be non-empty and new, got {value!r}; rename it", code="SF-ARGUMENT-DISTINCT"
            )
        seen.add(value)
    return names


def _finite(name: str, value: Any, low: float = -float(np.finfo(float).max)) -> float:
    return check_real(name, value, low=low, high=float(np.finfo(float).max))


@dataclass(frozen=True, eq=False)
class Predictions(ReadOnly):
    """Intervals for the values of every library policy, per cell.

    Attributes:
        reward_lower, reward_upper: (N, J).
        cost_lower, cost_upper: (N, J, I).
        reward_center, cost_center: (N, J) and (N, J, I), values in the cell's member of the cover.
    """

    reward_lower: FloatArray
    reward_upper: FloatArray
    cost_lower: FloatArray
    cost_upper: FloatArray
    reward_center: FloatArray
    cost_center: FloatArray

    __repr__ = short_repr

    def __post_init__(self) -> None:
        low, high = _interval("reward", self.reward_lower, self.reward_upper, (None, None))
        cost_low, cost_high = _interval("cost", self.cost_lower, self.cost_upper, (*low.shape, None))
        values = {"reward_lower": low, "reward_upper": high, "cost_lower": cost_low, "cost_upper": cost_high}
        values["reward_center"] = as_floats("reward_center", self.reward_center, low.shape)
        values["cost_center"] = as_floats("cost_center", self.cost_center, cost_low.shape)
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class ConditionalPredictions(ReadOnly):
    """Intervals for values given the initial state, which are sharper evidence than the unconditional ones.

    Attributes:
        initial_states: (B,) increasing labels of the initial states covered.
        reward_lower, reward_upper: (N, J, B).
        cost_lower, cost_upper: (N, J, I, B).
    """

    initial_states: IntArray
    reward_lower: FloatArray
    reward_upper: FloatArray
    cost_lower: FloatArray
    cost_upper: FloatArray

    __repr__ = short_repr

    def __post_init__(self) -> None:
        states = _indices("initial_states", self.initial_states, (None,))
        if (np.diff(states) <= 0).any():
            raise InvalidInput(
                f"initial_states must increase strictly, got {states.tolist()}; sort them", code="SF-ARGUMENT-ORDER"
            )
        low, high = _interval("conditional reward", self.reward_lower, self.reward_upper, (None, None, states.size))
        shape = (low.shape[0], low.shape[1], None, states.size)
        cost_low, cost_high = _interval("conditional cost", self.cost_lower, self.cost_upper, shape)
        values = {"reward_lower": low, "reward_upper": high, "cost_lower": cost_low, "cost_upper": cost_high}
        for name, value in values.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "initial_states", states)


@dataclass(frozen=True, eq=False)
class SignalPredictions(ReadOnly):
    """Intervals for further bounded per-episode signals that a user declared.

    Attributes:
        names: X names.
        bounds: (X, 2) range of each signal.
        lower, upper: (N, J, X).
    """

    names: tuple[str, ...]
    bounds: FloatArray
    lower: FloatArray
    upper: FloatArray

    __repr__ = short_repr

    def __post_init__(self) -> None:
        names = _names("signal names", self.names)
        bounds = as_floats("signal bounds", self.bounds, (len(names), 2))
        _interval("signal bounds", bounds[:, 0], bounds[:, 1], (len(names),))
        low, high = _interval("signal", self.lower, self.upper, (None, None, len(names)))
        for name, value in (("bounds", bounds), ("lower", low), ("upper", high), ("names", names)):
            object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class KernelBoxes(ReadOnly):
    """Boxes for the transition kernels of the tasks in each cell (tabular tasks only).

    Attributes:
        support: (E, 3) triples ``(s, a, s')`` in lexicographic order: the union of the supports of all tasks seen.
        lower, upper: (N, E) probabilities; outside ``support`` a cell's kernel is zero.
        center: (N, E) kernel of the cell's member of the cover.
    """

    support: IntArray
    lower: FloatArray
    upper: FloatArray
    center: FloatArray

    __repr__ = short_repr

    def __post_init__(self) -> None:
        support = _indices("support", self.support, (None, 3))
        _check_order(support)
        low, high = _interval("kernel", self.lower, self.upper, (None, support.shape[0]))
        center = as_floats("kernel center", self.center, low.shape)
        for name, array in (("kernel", np.array([low, high])), ("kernel center", center)):
            _check_unit(name, array)
        _check_boxes(support, low, high)
        for name, value in {"support": support, "lower": low, "upper": high, "center": center}.items():
            object.__setattr__(self, name, value)


def _check_order(support: IntArray) -> None:
    """Raise unless the triples increase strictly: each one occurs once and those of one (s, a) are neighbours."""
    steps = np.diff(support, axis=0)
    sign = np.sign(steps)
    # The first coordinate that changes decides, as in a dictionary: weights 4 > 2 + 1.
    bad = sign @ np.array([4, 2, 1]) <= 0
    if bad.any():
        index = first_where(bad)[0] + 1
        raise InvalidInput(
            f"support[{index}] must follow its predecessor in lexicographic order, got {support[index].tolist()} after "
            f"{support[index - 1].tolist()}; sort the triples and drop duplicates",
            code="SF-ARGUMENT-ORDER",
        )


def _check_boxes(support: IntArray, lower: FloatArray, upper: FloatArray) -> None:
    """Raise if the box of some cell contains no probability vector for some (s, a)."""
    if support.shape[0] == 0 or lower.shape[0] == 0:
        return
    first = np.flatnonzero(np.r_[True, (np.diff(support[:, :2], axis=0) != 0).any(axis=1)])
    least, most = np.add.reduceat(lower, first, axis=1), np.add.reduceat(upper, first, axis=1)
    empty = (least > 1.0 + 1e-9) | (most < 1.0 - 1e-9)
    if empty.any():
        cell, group = first_where(empty)
        state, action = support[first[group], :2].tolist()
        raise InvalidInput(
            f"kernel box of cell {cell} at (s, a) = ({state}, {action}) must contain a probability vector, got sums "
            f"between {least[cell, group]:g} and {most[cell, group]:g}; rebuild the policy set",
            code="SF-ARGUMENT-SIMPLEX",
        )


def _check_unit(name: str, array: FloatArray) -> None:
    bad = (array < 0.0) | (array > 1.0 + 1e-9)
    if bad.any():
        index = first_where(bad)
        raise InvalidInput(
            f"{entry(name, index)} must be a probability in [0, 1], got {array[index]:g}; rebuild the policy set",
            code="SF-ARGUMENT-RANGE",
        )


@dataclass(frozen=True, eq=False)
class OutsideTasks(ReadOnly):
    """Tasks beyond the family: never candidates, only alternatives to bet on, so that a real task outside is noticed.

    Attributes:
        parameters: (M, p).
        reward: (M, J) values of every library policy.
        cost: (M, J, I).
        reward_by_state: (M, J, B); B as in the conditional predictions, 0 without them.
        cost_by_state: (M, J, I, B).
        kernel: (M, E) on the support of the kernel boxes; E is 0 without them.
    """

    parameters: FloatArray
    reward: FloatArray
    cost: FloatArray
    reward_by_state: FloatArray
    cost_by_state: FloatArray
    kernel: FloatArray

    __repr__ = short_repr

    def __post_init__(self) -> None:
        reward = as_floats("outside reward", self.reward, (None, None))
        m, j = reward.shape
        cost = as_floats("outside cost", self.cost, (m, j, None))
        by_state = as_floats("outside reward_by_state", self.reward_by_state, (m, j, None))
        values = {
            "parameters": as_floats("outside parameters", self.parameters, (m, None)),
            "reward": reward,
            "cost": cost,
            "reward_by_state": by_state,
            "cost_by_state": as_floats(
                "outside cost_by_state", self.cost_by_state, (m, j, cost.shape[2], by_state.shape[2])
            ),
            "kernel": as_floats("outside kernel", self.kernel, (m, None)),
        }
        _check_unit("outside kernel", values["kernel"])
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class Cells(ReadOnly):
    """The hypotheses about the real task.

    Attributes:
        policy_index: (N,) library index of the policy trained for the cell.
        optimal_center: (N,) optimal value of the cell's member of the cover.
        optimal_upper: (N,) upper bound on the optimal value of every task in the cell.
        parameters: (N, p) parameters of the cell's member of the cover; (N, 0) where tasks have none.
        predictions, conditional, signals, kernel: what the cell predicts; optional parts are ``None``.
        outside: tasks beyond the family, on the same policies, states and support.
    """

    policy_index: IntArray
    optimal_center: FloatArray
    optimal_upper: FloatArray
    parameters: FloatArray
    predictions: Predictions
    conditional: ConditionalPredictions | None = None
    signals: SignalPredictions | None = None
    kernel: KernelBoxes | None = None
    outside: OutsideTasks | None = None

    __repr__ = short_repr

    def __post_init__(self) -> None:
        n, j = self.predictions.reward_lower.shape
        object.__setattr__(self, "policy_index", _indices("policy_index", self.policy_index, (n,), j))
        object.__setattr__(self, "optimal_center", as_floats("optimal_center", self.optimal_center, (n,)))
        object.__setattr__(self, "optimal_upper", as_floats("optimal_upper", self.optimal_upper, (n,)))
        object.__setattr__(self, "parameters", as_floats("cell parameters", self.parameters, (n, None)))
        parts: dict[str, tuple[int, ...]] = {}
        if self.conditional is not None:
            parts["conditional"] = self.conditional.reward_lower.shape[:2]
            if self.conditional.cost_lower.shape[2] != self.predictions.cost_lower.shape[2]:
                raise InvalidInput(
                    "conditional predictions must cover the same constraints; rebuild the policy set",
                    code="SF-ARGUMENT-MISMATCH",
                )
        if self.signals is not None:
            parts["signals"] = self.signals.lower.shape[:2]
        if self.kernel is not None:
            parts["kernel"] = (self.kernel.lower.shape[0], j)
        for name, shape in parts.items():
            if shape != (n, j):
                raise InvalidInput(
                    f"{name} must describe {n} cells and {j} policies, got {shape}; rebuild the policy set",
                    code="SF-ARGUMENT-SHAPE",
                )
        self._check_outside()

    def _check_outside(self) -> None:
        """Tasks outside are described on the same parameters, policies, constraints, initial states and support."""
        if self.outside is None:
            return
        j, i = self.predictions.cost_lower.shape[1:]
        states = 0 if self.conditional is None else self.conditional.initial_states.size
        support = 0 if self.kernel is None else self.kernel.support.shape[0]
        as_floats("outside parameters", self.outside.parameters, (None, self.parameters.shape[1]))
        as_floats("outside reward", self.outside.reward, (None, j))
        as_floats("outside cost", self.outside.cost, (None, j, i))
        as_floats("outside reward_by_state", self.outside.reward_by_state, (None, j, states))
        as_floats("outside kernel", self.outside.kernel, (None, support))

    def __len__(self) -> int:
        return int(self.policy_index.size)


@dataclass(frozen=True)
class EpisodeBounds:
    """Almost-sure range of an episode, by dynamic programming over the simulator's support.

    Attributes:
        return_lower, return_upper: range of the discounted return.
        cost_ceilings: I largest discounted costs.
    """

    return_lower: float
    return_upper: float
    cost_ceilings: tuple[float, ...]

    def __post_init__(self) -> None:
        low = _finite("return_lower", self.return_lower)
        high = _finite("return_upper", self.return_upper, low)
        ceilings = tuple(_finite(f"cost_ceilings[{i}]", c, 0.0) for i, c in enumerate(self.cost_ceilings))
        for name, value in (("return_lower", low), ("return_upper", high), ("cost_ceilings", ceilings)):
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Certificate:
    """What the hold-out proved about the frozen cells and the frozen margin.

    It is one look of a lineage (:mod:`surefoot.policyset.lineage`), and ``delta_coverage`` the share that it pays. With confidence
    ``1 - delta_coverage`` over the hold-out: a fresh task is consistent with no cell with probability
    at most ``uncovered_upper``, and the safe policy's margin is below ``safe_margin`` with probability at most
    ``margin_failure_upper``. Each of the two limits has error ``delta_coverage / 2``; where hold-out tasks share simulated episodes, half of
    what ``delta_coverage`` leaves after the ledger's entry ``simulation``.

    Attributes:
        holdout: number of fresh tasks m.
        uncovered: how many of them were consistent with no cell.
        uncovered_upper: Clopper-Pearson upper limit ``p``, plus ``simulation_error`` (:func:`surefoot.stats.binomial.simulated_upper`).
        margin_failures, margin_failure_upper: the same for the safe policy's margin.
        delta_coverage: error probability of the pair, at this look.
        simulation_error: what simulated values add to the limit on the uncovered mass at any error from ``SIMULATION_STATED_AT`` on, and in
            proportion more below; 0 where values are exact.
    """

    holdout: int
    uncovered: int
    uncovered_upper: float
    margin_failures: int
    margin_failure_upper: float
    delta_coverage: float
    simulation_error: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "holdout", check_integer("holdout", self.holdout, low=0))
        object.__setattr__(self, "uncovered", check_integer("uncovered", self.uncovered, low=0, high=self.holdout))
        object.__setattr__(
            self, "margin_failures", check_integer("margin_failures", self.margin_failures, low=0, high=self.holdout)
        )
        for name, count in (("uncovered", self.uncovered), ("margin_failure", self.margin_failures)):
            # An upper limit below the fraction observed is none; without a hold-out nothing below 1 is proved.
            observed = count / self.holdout if self.holdout else 1.0
            upper = check_real(f"{name}_upper", getattr(self, f"{name}_upper"), low=observed, high=1.0)
            object.__setattr__(self, f"{name}_upper", upper)
        object.__setattr__(
            self,
            "delta_coverage",
            check_real("delta_coverage", self.delta_coverage, low=0.0, high=1.0, open_low=True, open_high=True),
        )
        object.__setattr__(
            self,
            "simulation_error",
            check_real("simulation_error", self.simulation_error, low=0.0, high=1.0, open_high=True),
        )


@dataclass(frozen=True)
class Look:
    """A hold-out that was looked at before the one of a policy set's certificate.

    Attributes:
        judged: fingerprint of the cells, policies and margin that it judged.
        cells: how many cells these were.
        holdout, uncovered, margin_failures, delta_coverage: as in the :class:`Certificate` it gave.
    """

    judged: str
    cells: int
    holdout: int
    uncovered: int
    margin_failures: int
    delta_coverage: float

    def __post_init__(self) -> None:
        _text("judged", self.judged)
        counts = {
            "cells": (1, None),
            "holdout": (1, None),
            "uncovered": (0, self.holdout),
            "margin_failures": (0, self.holdout),
        }
        for name, (low, high) in counts.items():
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=low, high=high))
        paid = check_real("delta_coverage", self.delta_coverage, low=0.0, high=1.0, open_low=True, open_high=True)
        object.__setattr__(self, "delta_coverage", paid)


@dataclass(frozen=True)
class TrainingReport:
    """How the cover was found (Ni & Kamgarpour 2026, Algorithm 1 and Subroutine 3).

    Attributes:
        family: name of the task family.
        parameter_names: p names.
        oracle: which coverage oracle was used.
        radius: its ``eps``.
        tasks_sampled: N of the last round, all of it fresh.
        rounds: how often N was doubled, plus one.
        uncovered_fraction: share of the N tasks outside the cover.
        level: smallest ``delta`` for which Subroutine 3 would have accepted; it proves coverage ``1 - 6 level``.
    """

    family: str
    parameter_names: tuple[str, ...]
    oracle: str
    radius: float
    tasks_sampled: int
    rounds: int
    uncovered_fraction: float
    level: float

    def __post_init__(self) -> None:
        _text("family", self.family)
        _text("oracle", self.oracle)
        object.__setattr__(self, "parameter_names", _names("parameter_names", self.parameter_names))
        object.__setattr__(self, "radius", _finite("radius", self.radius, 0.0))
        object.__setattr__(self, "tasks_sampled", check_integer("tasks_sampled", self.tasks_sampled, low=1))
        object.__setattr__(self, "rounds", check_integer("rounds", self.rounds, low=1))
        object.__setattr__(
            self, "uncovered_fraction", check_real("uncovered_fraction", self.uncovered_fraction, low=0.0, high=1.0)
        )
        object.__setattr__(self, "level", _finite("level", self.level, 0.0))

    @property
    def proved_coverage(self) -> float:
        """``max(0, 1 - 6 level)``: zero means that the theorem says nothing at this sample size."""
        return max(0.0, 1.0 - 6.0 * self.level)


@dataclass(frozen=True)
class AssumptionReport:
    """Whether one policy is feasible with margin for every task seen or declared (simultaneous Slater condition).

    Attributes:
        holds: no offender among the training tasks and the corners of the declared support.
        safe_margin: ``xi``, frozen before the hold-out was drawn.
        offenders: parameters of tasks on which no policy, or not the safe policy, is feasible.
        minimum_costs: for each offender, the smallest attainable costs (I,).
        statement: one sentence for people.
    """

    holds: bool
    safe_margin: float
    offenders: tuple[tuple[float, ...], ...] = ()
    minimum_costs: tuple[tuple[float, ...], ...] = ()
    statement: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.holds, bool | np.bool_):
            raise InvalidInput(
                f"holds must be True or False, got {type(self.holds).__name__}; convert it with bool()",
                code="SF-ARGUMENT-TYPE",
            )
        object.__setattr__(self, "safe_margin", _finite("safe_margin", self.safe_margin))
        _text("statement", self.statement)
        for name in ("offenders", "minimum_costs"):
            rows = enumerate(getattr(self, name))
            table = tuple(tuple(_finite(f"{name}[{i}]", number) for number in row) for i, row in rows)
            object.__setattr__(self, name, table)
        if len(self.minimum_costs) != len(self.offenders):
            raise InvalidInput(
                f"minimum_costs must hold one row per offender ({len(self.offenders)}), got {len(self.minimum_costs)}; "
                "report both for every offending task",
                code="SF-ARGUMENT-LENGTH",
            )
        if self.holds and self.offenders:
            raise InvalidInput(
                f"holds must be False when tasks offend, got {len(self.offenders)} offenders; report it",
                code="SF-ARGUMENT-COMBINATION",
            )


@dataclass(frozen=True, eq=False)
class PolicySet(ReadOnly):
    """Policies, what each cell predicts for them, and what is known about the coverage.

    Attributes:
        criterion: discount, limits, ranges.
        policies: J policies; index 0 is the safe policy.
        cells: the N hypotheses.
        bounds: almost-sure range of an episode in simulation.
        certificate: hold-out certificate, or ``None`` when no hold-out was drawn.
        training, assumption: reports.
        ledger: error probabilities that training spent.
        seed: seed of the training run.
        version: library version that wrote it.
        extra: further plain data (what JSON can hold) that travels with the set and decides nothing.
        looks: hold-outs that were looked at before this set's own, oldest first.
        lineage_known: whether ``looks`` is everything that was handed on since the first; files of schema version 1 kept no count.
        beliefs: by evidence (:data:`EVIDENCE`), what ``trust="rehearsed"`` plans with.
        rehearsed: what the last rehearsal certifies, or ``None``.
        rehearsal_looks: rehearsals that were looked at before that one, oldest first.
    """

    criterion: Criterion
    policies: tuple[Policy, ...]
    cells: Cells
    bounds: EpisodeBounds
    certificate: Certificate | None
    training: TrainingReport
    assumption: AssumptionReport
    ledger: Ledger
    seed: int
    version: str
    extra: dict[str, Any] = field(default_factory=dict)
    looks: tuple[Look, ...] = ()
    lineage_known: bool = True
    beliefs: dict[str, Belief] = field(default_factory=dict)
    rehearsed: Rehearsed | None = None
    rehearsal_looks: tuple[RehearsalLook, ...] = ()

    def __repr__(self) -> str:
        family, cells, limits = self.training.family, len(self.cells), self.criterion.cost_limits.tolist()
        return f"PolicySet(family={family!r}, {len(self.policies)} policies, {cells} {'cell' if cells == 1 else 'cells'}, cost_limits={limits})"

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", tuple(self.policies))
        object.__setattr__(self, "looks", tuple(self.looks))
        object.__setattr__(self, "rehearsal_looks", tuple(self.rehearsal_looks))
        object.__setattr__(self, "lineage_known", bool(self.lineage_known))
        object.__setattr__(self, "seed", check_integer("seed", self.seed, low=0))
        _text("version", self.version)
        self._check_sizes()
        self._check_tables()
        self._check_beliefs()

    def _check_beliefs(self) -> None:
        """Beliefs speak of the same policies and constraints."""
        wanted = len(self.policies), 1 + self.criterion.n_constraints
        for name, belief in self.beliefs.items():
            shape = getattr(getattr(belief, "value_center", None), "shape", None)
            if name not in EVIDENCE or shape != wanted:
                got = f"{name!r} of shape {shape}"
                raise InvalidInput(
                    f"beliefs must be named {' or '.join(EVIDENCE)} and hold values of {wanted[0]} policies and {wanted[1] - 1} costs, got {got}; "
                    "learn them for this policy set",
                    code="SF-ARGUMENT-MISMATCH",
                )

    def _check_sizes(self) -> None:
        """Every part speaks of the same J policies, I constraints and p parameters; at least one cell and policy."""
        n_policies, n_constraints = self.cells.predictions.cost_lower.shape[1:]
        wanted = self.criterion.n_constraints
        parameters = self.cells.parameters.shape[1]
        lengths = [
            ("policies", len(self.policies), n_policies),
            ("predictions of costs", n_constraints, wanted),
            ("cost_ceilings", len(self.bounds.cost_ceilings), wanted),
            ("parameter_names", len(self.training.parameter_names), parameters),
            *((f"offenders[{i}]", len(row), parameters) for i, row in enumerate(self.assumption.offenders)),
            *((f"minimum_costs[{i}]", len(row), wanted) for i, row in enumerate(self.assumption.minimum_costs)),
        ]
        for name, got, want in lengths:
            if got != want:
                raise InvalidInput(
                    f"{name} must hold {want} entries, got {got}; rebuild the policy set", code="SF-ARGUMENT-LENGTH"
                )
        if not self.policies or not len(self.cells):
            counts = f"{len(self.policies)} policies and {len(self.cells)} cells"
            raise InvalidInput(
                f"a policy set must hold a safe policy and a cell, got {counts}; rebuild the policy set",
                code="SF-ARGUMENT-EMPTY",
            )

    def _check_tables(self) -> None:
        """Policies can act, tables share one (S, A), and labels of states and actions lie inside it."""
        for index, policy in enumerate(self.policies):
            if not callable(getattr(policy, "predict", None)):
                kind = type(policy).__name__
                raise InvalidInput(
                    f"policies[{index}] must have a method predict, got {kind}; wrap it in a TabularPolicy",
                    code="SF-POLICY-KIND",
                )
        shapes = sorted({p.table.shape for p in self.policies if isinstance(p, TabularPolicy)})
        if len(shapes) > 1:
            raise InvalidInput(
                f"policies must share one shape (S, A), got {shapes}; rebuild the policy set", code="SF-ARGUMENT-SHAPE"
            )
        if shapes and self.cells.kernel is not None:
            _indices("support states", self.cells.kernel.support[:, ::2], (None, 2), shapes[0][0])
            _indices("support actions", self.cells.kernel.support[:, 1], (None,), shapes[0][1])
        if shapes and self.cells.conditional is not None:
            _indices("initial_states", self.cells.conditional.initial_states, (None,), shapes[0][0])

    @property
    def safe_policy(self) -> Policy:
        """``pi_s``, library index 0."""
        return self.policies[0]

    @property
    def safe_margin(self) -> float:
        """``xi``: distance of the safe policy's cost to the limit that the user assumes (or training verified)."""
        return self.assumption.safe_margin

    @property
    def attempt(self) -> int:
        """Which look the set's own hold-out is: 1 for the first. It pays ``delta_coverage / 2^attempt``."""
        return 1 + len(self.looks)

    @property
    def hash(self) -> str:
        """SHA-256 of the set's canonical content; two sets with the same hash decide identically. Computed once, see
        :mod:`surefoot.policyset.hashes`.
        """
        digest: str = _FILES["content_hash"](self)
        return digest

    @property
    def library_hash(self) -> str:
        """The hash of the set without what was rehearsed: what a rehearsal's certificate speaks about."""
        return replace(self, rehearsed=None, rehearsal_looks=()).hash

    def save(self, path: Any) -> None:
        """Write one file; see :mod:`surefoot.policyset.file`."""
        _FILES["save"](self, path)

    @staticmethod
    def load(path: Any) -> PolicySet:
        """Read one file and check every byte of it.

        Raises:
            PolicySetError: damaged, truncated, hostile, or written by an incompatible version.
        """
        found: PolicySet = _FILES["load"](path)
        return found


def check_policy_set(policy_set: Any) -> None:
    """Raise unless this is a policy set.

    Raises:
        InvalidInput: a class, a path, or something else.
    """
    parts = ("criterion", "policies", "cells")
    check_instance("policy_set", policy_set, "a PolicySet", parts, path="load it first: surefoot.PolicySet.load(path)")


_FILES: dict[str, Callable[..., Any]] = {}


def provide_files(**operations: Callable[..., Any]) -> None:
    """Tell policy sets how they are hashed, written and read.

    :mod:`surefoot.policyset.file` knows how and imports this module, which must not import it in turn. It is imported with the package.
    """
    _FILES.update(operations)
