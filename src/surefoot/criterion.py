"""What all tasks of a family share and what an episode is judged by.

    V_r(pi) = E sum_t gamma^t r_t,      V_c(pi) = E sum_t gamma^t c_t,      feasible means V_c(pi) <= d

with a discount ``gamma`` and, optionally, a finite horizon ``H``. Per-step rewards lie in ``[r_min, r_max]`` and
per-step costs in ``[0, c_max]``, so that an episode's discounted return and costs lie in ``[r_min, r_max] * h`` and
``[0, c_max] * h`` with ``h = (1 - gamma^H) / (1 - gamma)`` (``H`` infinite where there is no horizon).

**Limits on more than the mean.** A limit may hold for the mean of a functional ``f`` of an episode's discounted cost ``C_k`` instead of its own mean:

    Mean(d)                     f(C) = C                                  E C <= d
    Exceeds(t, at_most=p)       f(C) = 1{C > t}                           P(C > t) <= p, a chance constraint
    CVaR(a, at_most=d)          f(C) = t + max(C - t, 0) / a              E f(C) <= d, so that CVaR_a(C) <= d

``CVaR_a(C)``, the mean of the worst share ``a`` of episodes, is the smallest ``E f(C)`` over all ``t`` (Rockafellar & Uryasev 2000): any fixed
``t`` errs on the safe side, and the best one is the ``1 - a`` quantile. Every ``f`` is fixed beforehand, does not decrease in ``C``, and is bounded;
the mean of ``f`` is linear in a per-episode mixture as every mean is. So whatever holds of limits on means holds of these: everything behind a
report, values, cells, bounds, ceilings, plans, is about ``f``. A plant reports ``C`` as ever: :meth:`Criterion.measure` alone turns it into ``f(C)``.

The bridge to the units of Ni & Kamgarpour 2026 (rewards in [0,1], constraint signal >= 0) is
``c' = ((1 - gamma) d - c) / c_max`` and ``r' = (r - r_min) / (r_max - r_min)``: their slack is ``(d - V_c) / c_max``.

Letters: I limits, K costs that a plant reports (K = I where all limits are on means), n episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from surefoot.arrays import FloatArray, ReadOnly, as_floats, check_integer, check_real, entry, first_where, freeze
from surefoot.errors import InvalidInput

__all__ = [
    "CVaR",
    "Criterion",
    "Exceeds",
    "Functional",
    "Mean",
    "check_signals",
    "fit_thresholds",
    "functional_bounds",
    "functionals_of",
    "measure",
    "parse_limits",
    "plain_functionals",
]

LARGEST = float(np.finfo(float).max)
BELOW = 0.8
"""A threshold of a CVaR is taken at most at this share of its limit: at the limit itself nothing is left to keep it by."""


@runtime_checkable
class Functional(Protocol):
    """A bounded functional of an episode's discounted cost that does not decrease in it, and the limit on its mean.

    Attributes:
        signal: which of the K costs.
        at_most: the limit.
    """

    @property
    def signal(self) -> int: ...

    @property
    def at_most(self) -> float: ...

    def of(self, costs: FloatArray) -> FloatArray:
        """``f`` of discounted costs of any shape."""
        ...

    def name(self, cost: str) -> str:
        """What the limited quantity is called, in a few words."""
        ...

    def text(self, cost: str) -> str:
        """The limit in words."""
        ...


@dataclass(frozen=True)
class Mean:
    """A limit on the mean of a cost.

    Attributes:
        limit: ``d``, >= 0.
        signal: which of the costs that the plant reports, from 0.
    """

    limit: float
    signal: int = 0

    def __post_init__(self) -> None:
        _set(self, limit=check_real("limit", self.limit, low=0.0, high=LARGEST), signal=_signal(self.signal))

    @property
    def at_most(self) -> float:
        """The limit."""
        return self.limit

    def of(self, costs: FloatArray) -> FloatArray:
        """The costs themselves."""
        return np.asarray(costs, dtype=np.float64)

    def name(self, cost: str) -> str:
        """The cost's own name."""
        return cost

    def text(self, cost: str) -> str:
        """The limit in words."""
        return f"{cost} at most {self.limit:g} on average"


@dataclass(frozen=True)
class Exceeds:
    """A chance constraint: at most a share of episodes may cost more than a threshold.

    Attributes:
        threshold: ``t`` >= 0. An episode that costs exactly ``t`` does not exceed it; where costs are counts, a threshold between two of them keeps
            rounding out of the question.
        at_most: ``p``, in [0, 1].
        signal: which of the costs that the plant reports, from 0.
    """

    threshold: float
    at_most: float
    signal: int = 0

    def __post_init__(self) -> None:
        _set(
            self,
            threshold=check_real("threshold", self.threshold, low=0.0, high=LARGEST),
            at_most=check_real("at_most", self.at_most, low=0.0, high=1.0),
            signal=_signal(self.signal),
        )

    def of(self, costs: FloatArray) -> FloatArray:
        """1 where an episode costs more than the threshold, else 0."""
        return (np.asarray(costs, dtype=np.float64) > self.threshold).astype(np.float64)

    def name(self, cost: str) -> str:
        """Such as "share of episodes with stalls above 5"."""
        return f"share of episodes with {cost} above {self.threshold:g}"

    def text(self, cost: str) -> str:
        """The limit in words."""
        return f"at most {100.0 * self.at_most:g}% of episodes with {cost} above {self.threshold:g}"


@dataclass(frozen=True)
class CVaR:
    """A limit on the conditional value at risk: the mean cost of the worst share of episodes.

    Attributes:
        level: ``a``, in (0, 1]: the share. 1 is the mean.
        at_most: ``d`` > 0.
        threshold: ``t``, in [0, d): beyond it an episode counts as bad. What is limited is an upper bound on the CVaR for every ``t``, and the CVaR
            itself where ``t`` is the ``1 - a`` quantile. ``None``: not fixed yet; :func:`surefoot.fit_thresholds` takes it from simulation.
        signal: which of the costs that the plant reports, from 0.
    """

    level: float
    at_most: float
    threshold: float | None = None
    signal: int = 0

    def __post_init__(self) -> None:
        level = check_real("level", self.level, low=0.0, high=1.0, open_low=True)
        at_most = check_real("at_most", self.at_most, low=0.0, high=LARGEST, open_low=True)
        threshold = self.threshold
        if threshold is not None:
            threshold = check_real("threshold", threshold, low=0.0, high=at_most, open_high=True)
        _set(self, level=level, at_most=at_most, threshold=threshold, signal=_signal(self.signal))

    def of(self, costs: FloatArray) -> FloatArray:
        """``t + max(C - t, 0) / a``.

        Raises:
            InvalidInput: the threshold is not fixed.
        """
        if self.threshold is None:
            raise InvalidInput(
                "threshold of a CVaR must be fixed before anything is measured, got None; give one, or take it from surefoot.fit_thresholds",
                code="SF-ARGUMENT-MISSING",
            )
        return self.threshold + np.maximum(np.asarray(costs, dtype=np.float64) - self.threshold, 0.0) / self.level

    def name(self, cost: str) -> str:
        """Such as "stalls in the worst 10% of episodes"."""
        return f"{cost} in the worst {100.0 * self.level:g}% of episodes"

    def text(self, cost: str) -> str:
        """The limit in words."""
        return f"{cost} at most {self.at_most:g} on average over the worst {100.0 * self.level:g}% of episodes"


def _set(functional: Any, **values: Any) -> None:
    for field, value in values.items():
        object.__setattr__(functional, field, value)


def _signal(value: Any) -> int:
    return check_integer("signal", value, low=0)


def measure(functionals: Sequence[Functional], costs: FloatArray) -> FloatArray:
    """(n, I) values of functionals of the costs (n, K)."""
    return np.stack([f.of(costs[..., f.signal]) for f in functionals], axis=-1)


def fit_thresholds(functionals: Sequence[Functional], costs: Any) -> tuple[Functional, ...]:
    """The same functionals, with the threshold of every CVaR that has none at the ``1 - level`` quantile of its cost.

    Any threshold is valid, whatever it was taken from, as long as it is fixed before the real task is met; this one makes what is limited close to
    the CVaR of policies that cost about as much as these.

    Args:
        functionals: I of them.
        costs: (n, K) of simulated episodes of the policy one runs today, over tasks of the family.
    """
    given = as_floats("costs", costs, (None, None))
    found: list[Functional] = []
    for f in functionals:
        if isinstance(f, CVaR) and f.threshold is None:
            quantile = float(np.quantile(given[:, _of(f, given.shape[1])], 1.0 - f.level, method="higher"))
            f = replace(f, threshold=min(max(quantile, 0.0), BELOW * f.at_most))
        found.append(f)
    return tuple(found)


def _of(functional: Functional, n_costs: int) -> int:
    if functional.signal >= n_costs:
        raise InvalidInput(
            f"signal of {functional} must be in 0..{n_costs - 1}, got {functional.signal}; count costs from 0",
            code="SF-ARGUMENT-RANGE",
        )
    return functional.signal


def functional_bounds(functionals: Sequence[Functional], ceilings: FloatArray) -> FloatArray:
    """(I,) largest values that functionals take where the K costs are at most ``ceilings``; they do not decrease."""
    return np.array([float(f.of(ceilings[f.signal])) for f in functionals], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Criterion(ReadOnly):
    """Discount, limits and ranges.

    Attributes:
        discount: ``gamma``, in (0, 1); 1 is allowed with a finite ``horizon``.
        cost_limits: (I,) ``d``, >= 0: of discounted costs per episode, one for each cost. A list that holds :class:`Mean`, :class:`Exceeds` or
            :class:`CVaR` limits their means instead; numbers among them are ``Mean`` of the cost at the same position.
        reward_bounds: per-step ``(r_min, r_max)``.
        cost_bounds: (K,) per-step ``c_max`` > 0.
        horizon: number of steps after which the criterion itself ends, or ``None``.
        cost_names: I names of what is limited, used in messages; by default made of ``signal_names``.
        functionals: I limits, as given in ``cost_limits``; empty where all limits are on means, one per cost.
        signal_names: K names of the costs that a plant reports.

    Raises:
        InvalidInput: any of these rules broken.
    """

    discount: float
    cost_limits: FloatArray
    reward_bounds: tuple[float, float]
    cost_bounds: FloatArray
    horizon: int | None = None
    cost_names: tuple[str, ...] = ()
    functionals: tuple[Any, ...] = ()
    signal_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.horizon is not None:
            object.__setattr__(self, "horizon", check_integer("horizon", self.horizon, low=1))
        object.__setattr__(
            self,
            "discount",
            check_real("discount", self.discount, low=0.0, high=1.0, open_low=True, open_high=self.horizon is None),
        )
        functionals, limits = parse_limits(self.cost_limits, self.functionals)
        bounds = as_floats("cost_bounds", self.cost_bounds, (None,) if functionals else (limits.size,))
        check_signals(functionals, bounds.size)
        for name, array, strict in (("cost_limits", limits, False), ("cost_bounds", bounds, True)):
            bad = array <= 0.0 if strict else array < 0.0
            if bad.any():
                index = first_where(bad)
                sign = "> 0" if strict else ">= 0"
                raise InvalidInput(
                    f"{entry(name, index)} must be {sign}, got {array[index]:g}; costs are nonnegative",
                    code="SF-ARGUMENT-RANGE",
                )
        low, high = (check_real("reward_bounds", b, low=-LARGEST, high=LARGEST) for b in self.reward_bounds)
        if not low < high:
            raise InvalidInput(
                f"reward_bounds must be (low, high) with low < high, got ({low:g}, {high:g}); swap them",
                code="SF-ARGUMENT-ORDER",
            )
        given = "signal_names" if functionals or not self.cost_names else "cost_names"
        signals = _named(given, getattr(self, given), bounds.size)
        names = signals
        if functionals:
            made = tuple(f.name(signals[f.signal]) for f in functionals)
            names = _named("cost_names", self.cost_names, limits.size) if self.cost_names else made
        for field, value in (("cost_limits", limits), ("cost_bounds", bounds), ("cost_names", names)):
            object.__setattr__(self, field, value)
        object.__setattr__(self, "functionals", functionals)
        object.__setattr__(self, "signal_names", signals)
        object.__setattr__(self, "reward_bounds", (low, high))

    @property
    def n_constraints(self) -> int:
        """I."""
        return int(self.cost_limits.size)

    @property
    def n_costs(self) -> int:
        """K: how many costs a plant reports per episode."""
        return int(self.cost_bounds.size)

    @property
    def effective_horizon(self) -> float:
        """``h``: total discounted weight of an episode's steps."""
        if self.horizon is None:
            return 1.0 / (1.0 - self.discount)
        if self.discount == 1.0:
            return float(self.horizon)
        return float((1.0 - self.discount**self.horizon) / (1.0 - self.discount))

    @property
    def return_range(self) -> tuple[float, float]:
        """Range of an episode's return implied by the per-step bounds."""
        low, high = self.reward_bounds
        return low * self.effective_horizon, high * self.effective_horizon

    @property
    def cost_ceilings(self) -> FloatArray:
        """(I,) largest episode costs implied by the per-step bounds: ``c_max h``, or ``f(c_max h)``; the default of ``trust="data"``."""
        most = self.cost_bounds * self.effective_horizon
        if not self.functionals:
            return freeze(most)
        found = functional_bounds(self.functionals, most)
        # A threshold that no episode reaches leaves a ceiling of zero, which nothing can be measured by.
        return freeze(np.where(found > 0.0, found, 1.0))

    @property
    def cost_scales(self) -> FloatArray:
        """(I,) largest value per step of what is limited: ``c_max``, or the ceiling's share of the horizon."""
        return freeze(self.cost_ceilings / self.effective_horizon) if self.functionals else self.cost_bounds

    @property
    def flat(self) -> Criterion:
        """The same limits and ceilings as limits on means, as if a plant reported what is limited: for outcomes that are drawn, not simulated."""
        return Criterion(
            self.discount, self.cost_limits, self.reward_bounds, self.cost_scales, self.horizon, self.cost_names
        )

    @property
    def limit_texts(self) -> tuple[str, ...]:
        """I limits in words."""
        if self.functionals:
            return tuple(f.text(self.signal_names[f.signal]) for f in self.functionals)
        return tuple(Mean(float(d)).text(name) for d, name in zip(self.cost_limits, self.cost_names, strict=True))

    def measure(self, costs: Any) -> FloatArray:
        """(n, I) what is limited, from the costs (n, K) that a plant reported: the one place where functionals are applied."""
        given: FloatArray = np.asarray(costs, dtype=np.float64)
        return measure(self.functionals, given) if self.functionals else given

    def means_only(self, who: str) -> Criterion:
        """Itself, for methods that know limits on means alone.

        Raises:
            InvalidInput: a limit is on something else.
        """
        if self.functionals:
            raise InvalidInput(
                f"cost_limits must be on means for {who}, got {'; '.join(self.limit_texts)}; leave it out, or limit means",
                code="SF-ARGUMENT-COMBINATION",
            )
        return self

    def slack(self, costs: Any) -> FloatArray:
        """``(d - V_c) / c_max`` along the last axis: the slack in the units of Ni & Kamgarpour."""
        return (self.cost_limits - np.asarray(costs, dtype=np.float64)) / self.cost_bounds

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        more = {"limits": list(self.limit_texts)} if self.functionals else {}
        return {
            "discount": self.discount,
            "cost_limits": self.cost_limits.tolist(),
            "reward_bounds": list(self.reward_bounds),
            "cost_bounds": self.cost_bounds.tolist(),
            "horizon": self.horizon,
            "cost_names": list(self.cost_names),
            **more,
        }


KINDS: dict[str, type[Mean | Exceeds | CVaR]] = {"mean": Mean, "exceeds": Exceeds, "cvar": CVaR}


def plain_functionals(functionals: Sequence[Any]) -> list[dict[str, Any]]:
    """Functionals as plain values, for journals; those of other kinds have a name only."""
    names = {cls: name for name, cls in KINDS.items()}
    return [
        {"kind": names[type(f)], **{field.name: getattr(f, field.name) for field in fields(f)}}
        if type(f) in names
        else {"kind": type(f).__name__}
        for f in functionals
    ]


def functionals_of(data: Any) -> tuple[Functional, ...]:
    """What :func:`plain_functionals` wrote.

    Raises:
        InvalidInput: others.
    """
    try:
        return tuple(KINDS[item["kind"]](**{k: v for k, v in item.items() if k != "kind"}) for item in data)
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"functionals must be a list of {', '.join(KINDS)} with their numbers, got {ascii(data)[:80]}; upgrade surefoot",
            code="SF-ARGUMENT-CHOICE",
        ) from error


def parse_limits(given: Any, functionals: Sequence[Any]) -> tuple[tuple[Functional, ...], FloatArray]:
    """Functionals, none where all limits are numbers, and limits (I,)."""
    items = list(given) if isinstance(given, list | tuple) else None
    if items is not None and any(isinstance(item, Functional) for item in items):
        found = tuple(x if isinstance(x, Functional) else Mean(x, signal=k) for k, x in enumerate(items))
        if functionals:
            raise InvalidInput(
                "functionals must be left out where cost_limits holds the limits themselves, got both; give one of them",
                code="SF-ARGUMENT-COMBINATION",
            )
        return found, freeze(np.array([f.at_most for f in found], dtype=np.float64))
    limits = as_floats("cost_limits", given, (None,))
    wrong = [k for k, f in enumerate(functionals) if not isinstance(f, Functional)]
    if wrong:
        raise InvalidInput(
            f"functionals[{wrong[0]}] must be Mean, Exceeds or CVaR, got {type(functionals[wrong[0]]).__name__}; give one for every limit",
            code="SF-ARGUMENT-TYPE",
        )
    if functionals and [f.at_most for f in functionals] != limits.tolist():
        raise InvalidInput(
            f"cost_limits must be those of the functionals {[f.at_most for f in functionals]}, got {limits.tolist()}; change the functionals",
            code="SF-ARGUMENT-MISMATCH",
        )
    return tuple(functionals), limits


def check_signals(functionals: Sequence[Functional], n_costs: int) -> None:
    """Every functional is of one of the costs, and fixed.

    Raises:
        InvalidInput: it is not.
    """
    for k, f in enumerate(functionals):
        if f.signal >= n_costs:
            raise InvalidInput(
                f"cost_limits[{k}].signal must be in 0..{n_costs - 1}, one of the {n_costs} cost_bounds, got {f.signal}; count costs from 0",
                code="SF-ARGUMENT-RANGE",
            )
        if isinstance(f, CVaR) and f.threshold is None:
            raise InvalidInput(
                f"cost_limits[{k}].threshold must be fixed for a criterion, got None; give one, or take it from surefoot.fit_thresholds",
                code="SF-ARGUMENT-MISSING",
            )


def _named(field: str, given: Sequence[str], n: int) -> tuple[str, ...]:
    names = tuple(given) or tuple(f"cost {i}" if n > 1 else "cost" for i in range(n))
    if len(names) != n:
        kind = "constraint" if field == "cost_names" else "cost"
        raise InvalidInput(
            f"{field} must hold {n} names, got {len(names)}; name every {kind}", code="SF-ARGUMENT-LENGTH"
        )
    return names
