"""The gridworld of :mod:`surefoot.tasks.gridworld` with a noise of its own in every zone: as many unknown parameters as one likes.

State s lies in zone ``z(s)`` and slips with noise ``q_z(s)``:

    P(.|s,a) = (1 - q_z(s)) P_0(.|s,a) + q_z(s) P_1(.|s,a),

linear in the p noises, with the published intended moves ``P_0`` and even spread ``P_1``. Everything else (7 x 7 cells, signals, start, discount
.9, limit 1.5) is as published.

* Up to seven zones: ``z(s) = x mod p``, so columns take turns.
* Above seven: a fixed random map. The 49 states are ordered by random keys (``numpy.random.SeedSequence(0)``) and dealt out to the zones in
  turn, so that no zone is empty and their sizes differ by one at most.

The noises are independent and uniform on [.2, .38]. The safe policy is the optimum at noise .4 everywhere. With an adversary who sets the noise of
every state anew at each visit, anywhere in [.2, .38], it still costs at most 1.369: a margin of .131 for every p, every map and every task.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, as_floats, check_integer, check_real, freeze
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import Criterion
from surefoot.tasks.gridworld import HEIGHT, SAFE_NOISE, WIDTH, gridworld_criterion, noisy_task

__all__ = ["ZonedGridworld"]

SUPPORT = (0.2, 0.38)
MAP_SEED = 0
"""Of the random map of states to zones; part of the family's definition."""


@dataclass(frozen=True)
class ZonedGridworld:
    """The family, named by p parameters: the noise of every zone.

    Attributes:
        zones: p, from 1 to 49, the number of states.
        limit: cost limit of an episode.
    """

    zones: int = 4
    limit: float = 1.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "zones", check_integer("zones", self.zones, low=1, high=WIDTH * HEIGHT))
        object.__setattr__(self, "limit", check_real("limit", self.limit, low=0.0))

    @property
    def name(self) -> str:
        """Used in reports."""
        return f"zoned gridworld ({self.zones} unknown {'noise' if self.zones == 1 else 'noises'})"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """p names, ``noise 1`` and so on."""
        return tuple(f"noise {k + 1}" for k in range(self.zones))

    @property
    def support(self) -> FloatArray:
        """(p, 2) ranges of the noises."""
        return freeze(np.tile(SUPPORT, (self.zones, 1)))

    @property
    def criterion(self) -> Criterion:
        """Discount .9, rewards in [0, 10] and costs in [0, 10] per step."""
        return gridworld_criterion(self.limit)

    @property
    def zone_of_state(self) -> IntArray:
        """(S,) which noise, counted from 0, holds in every state."""
        return _zones(self.zones)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, p) noises, independent and uniform."""
        return rng.uniform(*SUPPORT, size=(n, self.zones))

    def cmdp(self, parameters: Any) -> TabularCMDP:
        """The task with these p noises.

        Raises:
            InvalidInput: not p numbers, or one of them is no probability.
        """
        noises = as_floats("parameters", np.atleast_1d(parameters), (self.zones,))
        for name, noise in zip(self.parameter_names, noises.tolist()):
            check_real(name, noise, low=0.0, high=1.0)
        return noisy_task(noises[self.zone_of_state][:, None, None], self.limit)

    def safe_policy(self) -> FloatArray:
        """(S, A) the optimum at noise .4 in every zone."""
        from surefoot.solvers.linear_program import solve

        return freeze(solve(self.cmdp(np.full(self.zones, SAFE_NOISE))).value_or_raise().policy)


@cache
def _zones(zones: int) -> IntArray:
    """(S,) zone of every state."""
    states = np.arange(WIDTH * HEIGHT)
    if zones <= WIDTH:
        return freeze(states % WIDTH % zones)
    dealt = np.empty(states.size, dtype=np.int64)
    dealt[np.argsort(np.random.SeedSequence(MAP_SEED).generate_state(states.size, np.uint64))] = states % zones
    return freeze(dealt)
