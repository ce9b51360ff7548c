"""What all tasks of a family share and what an episode is judged by.

    V_r(pi) = E sum_t gamma^t r_t,      V_c(pi) = E sum_t gamma^t c_t,      feasible means V_c(pi) <= d

with a discount ``gamma`` and, optionally, a finite horizon ``H``. Per-step rewards lie in ``[r_min, r_max]`` and
per-step costs in ``[0, c_max]``, so that an episode's discounted return and costs lie in ``[r_min, r_max] * h`` and
``[0, c_max] * h`` with ``h = (1 - gamma^H) / (1 - gamma)`` (``H`` infinite where there is no horizon).

The bridge to the units of Ni & Kamgarpour 2026 (rewards in [0,1], constraint signal >= 0) is
``c' = ((1 - gamma) d - c) / c_max`` and ``r' = (r - r_min) / (r_max - r_min)``: their slack is ``(d - V_c) / c_max``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, ReadOnly, as_floats, check_integer, check_real, entry, first_where, freeze
from surefoot.errors import InvalidInput

__all__ = ["Criterion"]


@dataclass(frozen=True, eq=False)
class Criterion(ReadOnly):
    """Discount, limits and ranges.

    Attributes:
        discount: ``gamma``, in (0, 1); 1 is allowed with a finite ``horizon``.
        cost_limits: (I,) ``d``, discounted cost per episode, >= 0.
        reward_bounds: per-step ``(r_min, r_max)``.
        cost_bounds: (I,) per-step ``c_max`` > 0.
        horizon: number of steps after which the criterion itself ends, or ``None``.
        cost_names: I names used in messages.

    Raises:
        InvalidInput: any of these rules broken.
    """

    discount: float
    cost_limits: FloatArray
    reward_bounds: tuple[float, float]
    cost_bounds: FloatArray
    horizon: int | None = None
    cost_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.horizon is not None:
            object.__setattr__(self, "horizon", check_integer("horizon", self.horizon, low=1))
        object.__setattr__(
            self,
            "discount",
            check_real("discount", self.discount, low=0.0, high=1.0, open_low=True, open_high=self.horizon is None),
        )
        limits = as_floats("cost_limits", self.cost_limits, (None,))
        bounds = as_floats("cost_bounds", self.cost_bounds, (limits.size,))
        for name, array, strict in (("cost_limits", limits, False), ("cost_bounds", bounds, True)):
            bad = array <= 0.0 if strict else array < 0.0
            if bad.any():
                index = first_where(bad)
                sign = "> 0" if strict else ">= 0"
                raise InvalidInput(
                    f"{entry(name, index)} must be {sign}, got {array[index]:g}; costs are nonnegative",
                    code="SF-ARGUMENT-RANGE",
                )
        largest = float(np.finfo(float).max)
        low, high = (check_real("reward_bounds", b, low=-largest, high=largest) for b in self.reward_bounds)
        if not low < high:
            raise InvalidInput(
                f"reward_bounds must be (low, high) with low < high, got ({low:g}, {high:g}); swap them",
                code="SF-ARGUMENT-ORDER",
            )
        names = tuple(self.cost_names) or tuple(f"cost {i}" if limits.size > 1 else "cost" for i in range(limits.size))
        if len(names) != limits.size:
            raise InvalidInput(
                f"cost_names must hold {limits.size} names, got {len(names)}; name every constraint",
                code="SF-ARGUMENT-LENGTH",
            )
        for field, value in (("cost_limits", limits), ("cost_bounds", bounds), ("cost_names", names)):
            object.__setattr__(self, field, value)
        object.__setattr__(self, "reward_bounds", (low, high))

    @property
    def n_constraints(self) -> int:
        """I."""
        return int(self.cost_limits.size)

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
        """(I,) largest episode costs implied by the per-step bounds: ``c_max h``, the default of ``trust="data"``."""
        return freeze(self.cost_bounds * self.effective_horizon)

    def slack(self, costs: Any) -> FloatArray:
        """``(d - V_c) / c_max`` along the last axis: the slack in the units of Ni & Kamgarpour."""
        return (self.cost_limits - np.asarray(costs, dtype=np.float64)) / self.cost_bounds

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return {
            "discount": self.discount,
            "cost_limits": self.cost_limits.tolist(),
            "reward_bounds": list(self.reward_bounds),
            "cost_bounds": self.cost_bounds.tolist(),
            "horizon": self.horizon,
            "cost_names": list(self.cost_names),
        }
