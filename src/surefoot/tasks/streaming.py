"""Media streaming to a player whose bandwidth is unknown, with a limit on stalls.

State ``s = 0..N``: segments in the player's buffer. In every step the sender picks an encoding: small, medium or sharp. A segment of encoding
``a`` arrives within the step with probability ``q / size(a)``, ``1/size = (1, .6, .3)``, where ``q`` (the parameter) is the bandwidth; independently
the player finishes a segment with probability ``w = .5`` if it has one. With ``u = q / size(a)`` and ``v = w 1{s>0}``,

    P(s+1 | s,a) = u (1-v),      P(s-1 | s,a) = (1-u) v,      P(s | s,a) = 1 - u (1-v) - (1-u) v,

where an arrival at a full buffer is discarded. The picture's worth is ``r(s,a) = (.2, .6, 1)``; an empty buffer is a stall,
``c(s,a) = 1{s=0}``, and discounted stalls are limited. An episode starts with three segments; ``gamma = .95``.

``q`` is .6 + .3 Beta(2, 2). The safe policy is the optimum at ``q = .55`` under nine tenths of the limit: with less bandwidth every policy
stalls more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, as_floats, check_integer, check_real, freeze
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import Criterion

__all__ = ["StreamingBuffer"]

SPEED = (1.0, 0.6, 0.3)
"""One over the sizes of the three encodings."""
WORTH = (0.2, 0.6, 1.0)
PLAYBACK = 0.5
FIRST = 3
"""Segments in the buffer when an episode starts."""
DISCOUNT = 0.95
SUPPORT = (0.6, 0.9)
SHAPE = (2.0, 2.0)
SAFE_BANDWIDTH, SAFE_SHARE = 0.55, 0.9


@dataclass(frozen=True)
class StreamingBuffer:
    """The family, named by one parameter: the bandwidth.

    Attributes:
        limit: on the discounted stalls of an episode.
        capacity: N, segments that fit into the buffer.
    """

    limit: float = 1.5
    capacity: int = 15

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", check_real("limit", self.limit, low=0.0))
        object.__setattr__(self, "capacity", check_integer("capacity", self.capacity, low=FIRST))

    @property
    def name(self) -> str:
        """Used in reports."""
        return "media streaming"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """One parameter."""
        return ("bandwidth",)

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
            reward_bounds=(0.0, 1.0),
            cost_bounds=np.ones(1),
            cost_names=("stalls",),
        )

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, 1) bandwidths."""
        low, high = SUPPORT
        return low + (high - low) * rng.beta(*SHAPE, size=(n, 1))

    def cmdp(self, parameters: Any) -> TabularCMDP:
        """The task with this bandwidth.

        Raises:
            InvalidInput: it is no probability.
        """
        bandwidth = float(as_floats("parameters", np.atleast_1d(parameters), (1,))[0])
        bandwidth = check_real("bandwidth", bandwidth, low=0.0, high=1.0)
        n = self.capacity + 1
        kernel = np.zeros((n, len(SPEED), n))
        for s in range(n):
            for encoding, speed in enumerate(SPEED):
                arrives, played = bandwidth * speed, PLAYBACK if s > 0 else 0.0
                up, down = arrives * (1.0 - played), (1.0 - arrives) * played
                kernel[s, encoding, min(s + 1, self.capacity)] += up
                kernel[s, encoding, max(s - 1, 0)] += down
                kernel[s, encoding, s] += 1.0 - up - down
        stalls = np.zeros((1, n, len(SPEED)))
        stalls[0, 0] = 1.0
        return TabularCMDP(
            kernel, np.tile(WORTH, (n, 1)), stalls, np.array([self.limit]), np.eye(n)[FIRST], DISCOUNT
        )  # fmt: skip

    def safe_policy(self) -> FloatArray:
        """(S, A) the optimum for less bandwidth than the support allows, with a tenth of the limit to spare."""
        from surefoot.solvers.linear_program import solve

        hardest = self.cmdp(SAFE_BANDWIDTH).with_limits([SAFE_SHARE * self.limit])
        return freeze(solve(hardest).value_or_raise().policy)
