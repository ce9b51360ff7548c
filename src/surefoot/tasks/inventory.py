"""Stock control under a limit on storage, with unknown demand.

State ``s = 0..N``: units on the shelf in the morning; action ``a``: order up to ``y = max(s, a)`` at once, for .5 per unit. The day's
demand ``D`` is binomial(10, q); ``min(y, D)`` units are sold for 1 each, demand that meets an empty shelf is lost, and
``s' = y - min(y, D)`` is left over. Storage costs ``c(s,a) = s/N`` per morning; its discounted sum is limited. An episode starts with an empty
shelf; ``gamma = .9``.

Sales are not a function of (s, a), but with an empty shelf at the start they telescope on every path:

    sum_t gamma^t min(y_t, D_t) = sum_t gamma^t (y_t - s_{t+1}) = sum_t gamma^t (y_t - s_t/gamma),

so ``r(s,a) = (y - s/gamma) - .5 (y - s)`` earns exactly what the shop earns and does not give ``q`` away. Without a limit the problem is the
newsvendor's and base-stock policies are optimal; the Lagrangian of a linear storage cost is a newsvendor problem again, so the constrained
optimum mixes two base stocks.

``q`` is .3 + .4 Beta(2, 2). The safe policy is the optimum at ``q = .25``: less demand leaves more on the shelf.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, as_floats, check_real, freeze
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import Criterion

__all__ = ["StorageInventory"]

SHELF = 12
"""N."""
CUSTOMERS = 10
PRICE, PURCHASE = 1.0, 0.5
DISCOUNT = 0.9
SUPPORT = (0.3, 0.7)
SHAPE = (2.0, 2.0)
SAFE_DEMAND = 0.25


@dataclass(frozen=True)
class StorageInventory:
    """The family, named by one parameter: the probability that one of ten customers buys.

    Attributes:
        limit: on the discounted storage of an episode.
    """

    limit: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", check_real("limit", self.limit, low=0.0))

    @property
    def name(self) -> str:
        """Used in reports."""
        return "inventory"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """One parameter."""
        return ("demand",)

    @property
    def support(self) -> FloatArray:
        """(1, 2)."""
        return freeze(np.array([SUPPORT]))

    @property
    def criterion(self) -> Criterion:
        """Shared by all tasks."""
        return Criterion(
            discount=DISCOUNT,
            cost_limits=np.array([self.limit]),
            reward_bounds=(-PRICE * SHELF * (1.0 / DISCOUNT - 1.0), (PRICE - PURCHASE) * SHELF),
            cost_bounds=np.ones(1),
            cost_names=("storage",),
        )

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, 1) demand probabilities."""
        low, high = SUPPORT
        return low + (high - low) * rng.beta(*SHAPE, size=(n, 1))

    def cmdp(self, parameters: Any) -> TabularCMDP:
        """The task with this demand.

        Raises:
            InvalidInput: it is no probability.
        """
        demand = float(as_floats("parameters", np.atleast_1d(parameters), (1,))[0])
        demand = check_real("demand", demand, low=0.0, high=1.0)
        left = _leftovers(demand)
        stock = np.arange(SHELF + 1)
        filled = np.maximum(stock[:, None], stock)
        rewards = PRICE * (filled - stock[:, None] / DISCOUNT) - PURCHASE * (filled - stock[:, None])
        storage = np.tile(stock[:, None] / SHELF, (1, 1, SHELF + 1))
        limits, start = np.array([self.limit]), np.eye(SHELF + 1)[0]
        return TabularCMDP(left[filled], rewards, storage, limits, start, DISCOUNT)

    def safe_policy(self) -> FloatArray:
        """(S, A) the optimum for less demand than the support allows."""
        from surefoot.solvers.linear_program import solve

        return freeze(solve(self.cmdp(SAFE_DEMAND)).value_or_raise().policy)


def _leftovers(demand: float) -> FloatArray:
    """(N+1, N+1) law of what is left of a shelf filled to each level."""
    chances = [comb(CUSTOMERS, k) * demand**k * (1.0 - demand) ** (CUSTOMERS - k) for k in range(CUSTOMERS + 1)]
    left = np.zeros((SHELF + 1, SHELF + 1))
    for filled in range(SHELF + 1):
        for bought, chance in enumerate(chances[:filled]):
            left[filled, filled - bought] = chance
        # What is certain must be exactly one: a sum that rounds to more would lie outside of every kernel box.
        left[filled, 0] = min(sum(chances[filled:]), 1.0)
    return left
