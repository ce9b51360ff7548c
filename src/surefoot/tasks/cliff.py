"""Walking along a cliff in a wind of unknown strength, where every fall costs.

4 rows of 12 cells, state ``12 y + x`` with y downwards, actions right, down, left, up; a move off the map stays. The walk starts in the lower left
corner and ends in the lower right one; the ten cells between them are the cliff's foot. With probability ``q`` (the parameter) the wind
carries the walker one row down instead of where the move was meant to lead. Who lands at the foot pays 1 and climbs back to the start:
the cliff-walking task of Sutton & Barto (2018, example 6.6) with the penalty as a cost of its own. The goal earns 1 once and leads to a
last state in which nothing happens any more, so ``V_r = E gamma^tau`` with ``tau`` the time of arrival and ``V_c = E sum gamma^t 1{fall at t}``;
``gamma = .95`` and ``V_c`` is limited.

Near the edge the way is short, far from it a gust is forgiven. ``q`` is uniform on [.05, .25]. The safe policy is the optimum at ``q = .3``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, as_floats, check_real, freeze
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import Criterion

__all__ = ["WindyCliff"]

WIDTH, HEIGHT = 12, 4
MOVES = ((1, 0), (0, 1), (-1, 0), (0, -1))
DOWN = 1
DISCOUNT = 0.95
SUPPORT = (0.05, 0.25)
SAFE_WIND = 0.3


@dataclass(frozen=True)
class WindyCliff:
    """The family, named by one parameter: the wind.

    Attributes:
        limit: on the discounted number of falls in an episode.
    """

    limit: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", check_real("limit", self.limit, low=0.0))

    @property
    def name(self) -> str:
        """Used in reports."""
        return "windy cliff"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """One parameter."""
        return ("wind",)

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
            cost_names=("falls",),
        )

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, 1) winds."""
        return rng.uniform(*SUPPORT, size=(n, 1))

    def cmdp(self, parameters: Any) -> TabularCMDP:
        """The task with this wind.

        Raises:
            InvalidInput: it is no probability.
        """
        wind = float(as_floats("parameters", np.atleast_1d(parameters), (1,))[0])
        wind = check_real("wind", wind, low=0.0, high=1.0)
        over = WIDTH * HEIGHT
        start, goal = over - WIDTH, over - 1
        kernel = np.zeros((over + 1, 4, over + 1))
        rewards, costs = np.zeros((over + 1, 4)), np.zeros((1, over + 1, 4))
        for state in range(start + 1):
            for action in range(4):
                kernel[state, action, _beyond(state, action)] += 1.0 - wind
                kernel[state, action, _beyond(state, DOWN)] += wind
        kernel[start + 1 : goal, :, start], costs[0, start + 1 : goal] = 1.0, 1.0
        kernel[[goal, over], :, over], rewards[goal] = 1.0, 1.0
        return TabularCMDP(kernel, rewards, costs, np.array([self.limit]), np.eye(over + 1)[start], DISCOUNT)

    def safe_policy(self) -> FloatArray:
        """(S, A) the optimum for more wind than the support allows."""
        from surefoot.solvers.linear_program import solve

        return freeze(solve(self.cmdp(SAFE_WIND)).value_or_raise().policy)


def _beyond(state: int, move: int) -> int:
    """The cell that a move from a cell leads to."""
    y, x = divmod(state, WIDTH)
    to_x, to_y = x + MOVES[move][0], y + MOVES[move][1]
    return WIDTH * to_y + to_x if 0 <= to_x < WIDTH and 0 <= to_y < HEIGHT else state
