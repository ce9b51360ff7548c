"""Families of continuous tasks: a distribution over Gymnasium environments that share one criterion.

A task is named by p real parameters; ``make(parameters)`` builds it, and it stays the same task until another one is made. An episode
starts with ``reset(seed=...)`` and is cut after ``H = criterion.horizon`` steps:

    R = sum_{t<H} gamma^t r_t,      C_k = sum_{t<H} gamma^t c_kt,      X_x = a declared statistic of the steps

Limits are on the means of the C_k, or on functionals of them (:mod:`surefoot.criterion`); ``bounds`` are about what is limited.

An environment that terminates before H has reached an absorbing state without reward and cost.

Some families differ in the reward only. Then ``rewards`` computes the rewards of *all* tasks from one step, and a single batch of
episodes serves every task.

Letters: T tasks, p parameters, I constraints, K costs, X signals, n episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from surefoot.arrays import FloatArray, check_real, first_where, freeze
from surefoot.criterion import Criterion
from surefoot.errors import InvalidInput
from surefoot.policyset.schema import EpisodeBounds

__all__ = ["GymFamily", "Signal"]

REDUCTIONS = ("mean", "sum", "last", "max")
ROOM = 1e-9
"""Relative rounding allowed at the ends of a range."""


@dataclass(frozen=True)
class Signal:
    """A bounded statistic of an episode, to be predicted and bet on beside return and costs.

    Attributes:
        name: used in messages and in the policy set.
        low, high: range of the statistic; a value outside is an error.
        of: ``of(obs, action, next_obs, reward, info)``, one number per step; the reward is ``None`` where tasks share episodes.
        reduce: how the numbers of an episode's steps become one: ``"mean"``, ``"sum"`` (both undiscounted), ``"last"``, ``"max"``.
    """

    name: str
    low: float
    high: float
    of: Callable[[Any, Any, Any, float, dict[str, Any]], float]
    reduce: Literal["mean", "sum", "last", "max"] = "mean"

    def __post_init__(self) -> None:
        _check_name("signal name", self.name)
        largest = float(np.finfo(float).max)
        low = check_real(f"low of signal {self.name!r}", self.low, low=-largest, high=largest)
        high = check_real(f"high of signal {self.name!r}", self.high, low=low, high=largest, open_low=True)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        _check_callable(f"of of signal {self.name!r}", self.of)
        if self.reduce not in REDUCTIONS:
            raise InvalidInput(
                f"reduce of signal {self.name!r} must be one of {', '.join(REDUCTIONS)}, got {self.reduce!r}; choose one",
                code="SF-ARGUMENT-CHOICE",
            )


@dataclass(frozen=True, eq=False)
class GymFamily:
    """A distribution over Gymnasium environments.

    Attributes:
        name: used in reports.
        parameter_names: p names.
        support: (p, 2) bounds of the parameters, infinite where there are none.
        criterion: discount, limits, per-step ranges; its ``horizon`` must be given.
        sampler: ``sampler(n, rng)`` -> (n, p) parameters of independent fresh tasks.
        make: ``make(parameters)`` -> a fresh environment that is this task. Where ``rewards`` is given it may be called with any
            parameters of the family.
        cost: ``cost(obs, action, next_obs, info)`` -> one number, or K of them, as many as ``criterion.cost_bounds``. By default the step's
            ``info["cost"]``, or the third entry of a step of six.
        rewards: ``rewards(parameters, obs, action, next_obs, reward, info)`` -> (T,) rewards of the step in the tasks with
            ``parameters`` (T, p); only for tasks that differ in nothing else.
        signals: further statistics to predict.
        bounds: largest range of an episode that you vouch for, tighter than what the criterion implies; an episode outside is an
            error. Narrow ranges make intervals narrow.

    Raises:
        InvalidInput: any of these rules broken.
    """

    name: str
    parameter_names: tuple[str, ...]
    support: FloatArray
    criterion: Criterion
    sampler: Callable[[int, np.random.Generator], Any]
    make: Callable[[FloatArray], Any]
    cost: Callable[[Any, Any, Any, dict[str, Any]], Any] | None = None
    rewards: Callable[[FloatArray, Any, Any, Any, float, dict[str, Any]], Any] | None = None
    signals: tuple[Signal, ...] = ()
    bounds: EpisodeBounds | None = None

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        object.__setattr__(self, "parameter_names", tuple(self.parameter_names))
        object.__setattr__(self, "signals", tuple(self.signals))
        object.__setattr__(self, "support", _check_support(self.support, len(self.parameter_names)))
        if self.criterion.horizon is None:
            raise InvalidInput(
                "criterion.horizon must be given for simulated tasks, got None; say after how many steps an episode ends",
                code="SF-ARGUMENT-MISSING",
            )
        for field in ("sampler", "make"):
            _check_callable(field, getattr(self, field))
        for field in ("cost", "rewards"):
            if getattr(self, field) is not None:
                _check_callable(field, getattr(self, field))
        names = [signal.name for signal in self.signals]
        if len(set(names)) < len(names):
            raise InvalidInput(
                f"signals must have names of their own, got {names}; rename one", code="SF-ARGUMENT-DISTINCT"
            )
        self._check_bounds()

    def _check_bounds(self) -> None:
        """Declared episode bounds lie inside what the criterion implies."""
        if self.bounds is None:
            return
        (low, high), ceilings = self.criterion.return_range, self.criterion.cost_ceilings
        if len(self.bounds.cost_ceilings) != self.n_constraints:
            raise InvalidInput(
                f"bounds.cost_ceilings must hold {self.n_constraints} entries, got {len(self.bounds.cost_ceilings)}; give one per constraint",
                code="SF-ARGUMENT-LENGTH",
            )
        declared = np.asarray(self.bounds.cost_ceilings)
        wide = (
            self.bounds.return_lower < low - _room(low)
            or self.bounds.return_upper > high + _room(high)
            or not self.bounds.return_lower < self.bounds.return_upper
            or (declared > ceilings * (1.0 + ROOM)).any()
            or (declared <= 0.0).any()
        )
        if wide:
            raise InvalidInput(
                f"bounds must lie inside what the criterion implies, returns {low:g}..{high:g} and costs up to {ceilings.tolist()}, "
                f"and not be empty, got {self.bounds}; narrow them",
                code="SF-FAMILY-BOUNDS",
            )

    @property
    def n_parameters(self) -> int:
        """p."""
        return len(self.parameter_names)

    @property
    def n_constraints(self) -> int:
        """I."""
        return self.criterion.n_constraints

    @property
    def horizon(self) -> int:
        """H."""
        return int(self.criterion.horizon or 0)

    @property
    def shared(self) -> bool:
        """Whether one batch of episodes serves all tasks."""
        return self.rewards is not None

    @property
    def episode_bounds(self) -> EpisodeBounds:
        """Range of an episode: ``bounds``, or what the criterion implies."""
        if self.bounds is not None:
            return self.bounds
        low, high = self.criterion.return_range
        return EpisodeBounds(low, high, tuple(float(c) for c in self.criterion.cost_ceilings))

    def ranges(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper ends (1+I+X,) of return, costs and signals of an episode."""
        bounds = self.episode_bounds
        low = [bounds.return_lower, *([0.0] * self.n_constraints), *(s.low for s in self.signals)]
        high = [bounds.return_upper, *bounds.cost_ceilings, *(s.high for s in self.signals)]
        return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, p) parameters of independent fresh tasks.

        Raises:
            InvalidInput: the sampler returned another shape, numbers that are not finite, or parameters outside the support.
        """
        return self.check("sampler", self.sampler(n, rng), n)

    def check(self, source: str, parameters: Any, n: int | None = None) -> FloatArray:
        """``parameters`` as (n, p) rows inside the support; ``source`` says where they came from."""
        rows = "n" if n is None else str(n)
        try:
            array = np.asarray(parameters, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"{source} of {self.name} must give numbers, got {type(parameters).__name__}; fix the family",
                code="SF-FAMILY-SAMPLE",
            ) from error
        if array.ndim != 2 or array.shape[1] != self.n_parameters or (n is not None and len(array) != n):
            raise InvalidInput(
                f"{source} of {self.name} must give shape ({rows}, {self.n_parameters}), got {array.shape}; "
                "one row per task, one column per parameter",
                code="SF-FAMILY-SAMPLE",
            )
        outside = ~((array >= self.support[:, 0]) & (array <= self.support[:, 1]) & np.isfinite(array))
        if outside.any():
            row, column = first_where(outside)
            low, high = self.support[column]
            raise InvalidInput(
                f"{source} of {self.name} must keep {self.parameter_names[column]} in its support [{low:g}, {high:g}], "
                f"got {array[row, column]:g} in row {row}; clip it, or widen support",
                code="SF-FAMILY-SAMPLE",
            )
        return freeze(array)


def _room(end: float) -> float:
    return ROOM * (1.0 + abs(end))


def _check_name(what: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{what} must be a non-empty string, got {value!r}; name it", code="SF-ARGUMENT-TEXT")


def _check_callable(what: str, value: Any) -> None:
    if not callable(value):
        raise InvalidInput(
            f"{what} must be callable, got {type(value).__name__}; pass a function", code="SF-ARGUMENT-TYPE"
        )


def _check_support(support: Any, p: int) -> FloatArray:
    try:
        array = np.asarray(support, dtype=np.float64).reshape(p, 2)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"support must have shape ({p}, 2), one row (low, high) per parameter, got {np.shape(support)}; check the names too",
            code="SF-ARGUMENT-SHAPE",
        ) from error
    bad = ~(array[:, 0] <= array[:, 1])
    if bad.any():
        (row,) = first_where(bad)
        raise InvalidInput(
            f"support[{row}] must be (low, high) with low <= high, got {array[row].tolist()}; swap them",
            code="SF-ARGUMENT-ORDER",
        )
    return freeze(array)
