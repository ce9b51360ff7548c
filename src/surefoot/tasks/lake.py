"""A slippery frozen lake on which falling into a hole is a cost, not just the end.

The familiar 4 x 4 map, state ``4 y + x`` with y downwards, actions right, down, left, up; a move off the map stays:

    S F F F        S start, F frozen, H hole, G goal
    F H F H
    F F F H
    H F F G

A move goes where it is meant to with probability ``1 - q`` and to either side of that with ``q/2`` each; ``q`` (the parameter) is the slip.
Reaching the goal earns 1 and falling costs 1, each once: goal and holes lead to a last state in which nothing happens any more. So
``V_r = E gamma^tau 1{goal}`` and ``V_c = E gamma^tau 1{hole}``, with ``tau`` the time of arrival; ``gamma = .95`` and ``V_c`` is limited.

``q`` is uniform on [.15, .35]. The safe policy is the optimum at ``q = .4`` under nine tenths of the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, as_floats, check_real, freeze
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import Criterion

__all__ = ["SlipperyLake"]

MAP = ("SFFF", "FHFH", "FFFH", "HFFG")
MOVES = ((1, 0), (0, 1), (-1, 0), (0, -1))
DISCOUNT = 0.95
SUPPORT = (0.15, 0.35)
SAFE_SLIP, SAFE_SHARE = 0.4, 0.9


@dataclass(frozen=True)
class SlipperyLake:
    """The family, named by one parameter: the slip.

    Attributes:
        limit: on the discounted probability of falling.
    """

    limit: float = 0.2

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", check_real("limit", self.limit, low=0.0))

    @property
    def name(self) -> str:
        """Used in reports."""
        return "slippery lake"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """One parameter."""
        return ("slip",)

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
        """(n, 1) slips."""
        return rng.uniform(*SUPPORT, size=(n, 1))

    def cmdp(self, parameters: Any) -> TabularCMDP:
        """The task with this slip.

        Raises:
            InvalidInput: it is no probability.
        """
        slip = float(as_floats("parameters", np.atleast_1d(parameters), (1,))[0])
        slip = check_real("slip", slip, low=0.0, high=1.0)
        cells = "".join(MAP)
        over = len(cells)
        kernel = np.zeros((over + 1, 4, over + 1))
        rewards, costs = np.zeros((over + 1, 4)), np.zeros((1, over + 1, 4))
        for state, cell in enumerate(cells):
            if cell in "GH":
                kernel[state, :, over] = 1.0
                rewards[state], costs[0, state] = cell == "G", cell == "H"
                continue
            for action in range(4):
                for turn, chance in ((0, 1.0 - slip), (1, slip / 2.0), (3, slip / 2.0)):
                    kernel[state, action, _beyond(state, (action + turn) % 4)] += chance
        kernel[over, :, over] = 1.0
        start = np.eye(over + 1)[cells.index("S")]
        return TabularCMDP(kernel, rewards, costs, np.array([self.limit]), start, DISCOUNT)

    def safe_policy(self) -> FloatArray:
        """(S, A) the optimum for more slip than the support allows, with a tenth of the limit to spare."""
        from surefoot.solvers.linear_program import solve

        hardest = self.cmdp(SAFE_SLIP).with_limits([SAFE_SHARE * self.limit])
        return freeze(solve(hardest).value_or_raise().policy)


def _beyond(state: int, move: int) -> int:
    """The cell that a move from a cell leads to."""
    y, x = divmod(state, len(MAP[0]))
    to_x, to_y = x + MOVES[move][0], y + MOVES[move][1]
    inside = 0 <= to_x < len(MAP[0]) and 0 <= to_y < len(MAP)
    return len(MAP[0]) * to_y + to_x if inside else state
