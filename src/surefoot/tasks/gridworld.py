"""The gridworld of Ni & Kamgarpour 2026 (section 6 and Figures 1-2), with unknown slip noise.

7 x 7 cells, state ``7 y + x``, actions right, up, left, down; a move off the grid stays. With noise ``q`` the intended cell
gets ``1 - q`` and ``q`` is spread evenly over the in-grid neighbours **and** the intended cell. A step in columns
x in {2, 4}, rows y in 1..4 costs 10; the goal x = 3, y = 6 is absorbing and earns 10 per step; an episode starts uniformly in the
41 cells without cost; ``gamma = .9``; the limit is 1.5.

The published task distribution is ``q ~ N(.3, .03)`` clipped to [0, .5]. Above q = .436 no policy meets the limit, so that family
breaks the paper's own assumption of one simultaneously feasible policy. The default here is the same normal law truncated to
[0, .38]: there the published safe policy, the optimum at q = .4, keeps a margin of .131.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np

from surefoot.arrays import FloatArray, as_floats, check_real, freeze
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import Criterion
from surefoot.errors import InvalidInput

__all__ = ["PUBLISHED_NOISES", "NoisyGridworld"]

PUBLISHED_NOISES = (
    0.33994760, 0.25363799, 0.31864008, 0.30796535, 0.33609112,
    0.33084822, 0.31335413, 0.30405411, 0.34453611, 0.26760585,
)  # fmt: skip
"""The ten test tasks of Figure 2."""

WIDTH = HEIGHT = 7
GOAL = (3, 6)
HAZARDS = tuple((x, y) for x in (2, 4) for y in range(1, 5))
MOVES = ((1, 0), (0, 1), (-1, 0), (0, -1))
SIGNAL = 10.0
DISCOUNT = 0.9
SAFE_NOISE = 0.4


@dataclass(frozen=True)
class NoisyGridworld:
    """The family, named by one parameter: the noise.

    Attributes:
        variant: ``"truncated"`` (default) or ``"published"``; see the module's docstring.
        limit: cost limit of an episode.
    """

    variant: Literal["truncated", "published"] = "truncated"
    limit: float = 1.5

    def __post_init__(self) -> None:
        if self.variant not in ("truncated", "published"):
            raise InvalidInput(
                f'variant must be "truncated" or "published", got {self.variant!r}; choose one',
                code="SF-ARGUMENT-CHOICE",
            )
        object.__setattr__(self, "limit", check_real("limit", self.limit, low=0.0))

    @property
    def name(self) -> str:
        """Used in reports."""
        return f"gridworld ({self.variant})"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """One parameter."""
        return ("noise",)

    @property
    def support(self) -> FloatArray:
        """(1, 2) range of the noise."""
        return np.array([[0.0, 0.38 if self.variant == "truncated" else 0.5]])

    @cached_property
    def criterion(self) -> Criterion:
        """Discount .9, rewards in [0, 10] and costs in [0, 10] per step."""
        return gridworld_criterion(self.limit)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, 1) noises."""
        low, high = self.support[0]
        if self.variant == "published":
            return np.clip(rng.normal(0.3, 0.03, size=(n, 1)), low, high)
        return _truncated_normal(0.3, 0.03, float(low), float(high), n, rng)[:, None]

    def cmdp(self, parameters: Any) -> TabularCMDP:
        """The task with this noise.

        Raises:
            InvalidInput: the noise is no probability.
        """
        noise = float(as_floats("parameters", np.atleast_1d(parameters), (1,))[0])
        noise = check_real("noise", noise, low=0.0, high=1.0)
        return noisy_task(noise, self.limit)

    def safe_policy(self) -> FloatArray:
        """(S, A) the published safe policy: the optimum at noise .4."""
        from surefoot.solvers.linear_program import solve

        return freeze(solve(self.cmdp(SAFE_NOISE)).value_or_raise().policy)


def gridworld_criterion(limit: float) -> Criterion:
    """Discount .9, rewards in [0, 10] and costs in [0, 10] per step, under this limit."""
    return Criterion(DISCOUNT, np.array([limit]), (0.0, SIGNAL), np.array([SIGNAL]))


def noisy_task(noise: float | FloatArray, limit: float) -> TabularCMDP:
    """The grid with this noise: one number, or one for each state as an array (S, 1, 1); probabilities, unchecked."""
    rewards, costs, start = _signals()
    intended, spread = _kernels()
    kernel = (1.0 - noise) * intended + noise * spread
    return TabularCMDP(kernel, rewards, costs, np.array([limit]), start, DISCOUNT)


def _truncated_normal(
    mean: float, scale: float, low: float, high: float, n: int, rng: np.random.Generator
) -> FloatArray:
    """Inverse-transform draws of a normal law conditioned on an interval: one uniform per draw, always n of them."""
    from scipy.special import ndtr, ndtri

    left, right = ndtr((low - mean) / scale), ndtr((high - mean) / scale)
    draws: FloatArray = np.clip(mean + scale * ndtri(left + (right - left) * rng.random(n)), low, high)
    return draws


@cache
def _signals() -> tuple[FloatArray, FloatArray, FloatArray]:
    n_states = WIDTH * HEIGHT
    rewards, costs = np.zeros((n_states, 4)), np.zeros((1, n_states, 4))
    rewards[_state(GOAL)] = SIGNAL
    for cell in HAZARDS:
        costs[0, _state(cell)] = SIGNAL
    free = costs[0, :, 0] == 0.0
    return freeze(rewards), freeze(costs), freeze(free / free.sum())


@cache
def _kernels() -> tuple[FloatArray, FloatArray]:
    """(S, A, S) kernels that noise interpolates: the intended move, and the even spread."""
    n_states = WIDTH * HEIGHT
    intended, spread = np.zeros((n_states, 4, n_states)), np.zeros((n_states, 4, n_states))
    for x in range(WIDTH):
        for y in range(HEIGHT):
            near = [_move((x, y), m) for m in MOVES if _move((x, y), m) != (x, y)]
            for action, move in enumerate(MOVES):
                goes = _move((x, y), move)
                domain = near if goes in near else [*near, goes]
                intended[_state((x, y)), action, _state(goes)] = 1.0
                for cell in domain:
                    spread[_state((x, y)), action, _state(cell)] = 1.0 / len(domain)
    for kernel in (intended, spread):
        kernel[_state(GOAL)] = 0.0
        kernel[_state(GOAL), :, _state(GOAL)] = 1.0
    return freeze(intended), freeze(spread)


def _state(cell: tuple[int, int]) -> int:
    return WIDTH * cell[1] + cell[0]


def _move(cell: tuple[int, int], move: tuple[int, int]) -> tuple[int, int]:
    x, y = cell[0] + move[0], cell[1] + move[1]
    return (x, y) if 0 <= x < WIDTH and 0 <= y < HEIGHT else cell
