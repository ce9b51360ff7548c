r"""Time-uniform bounds on the running mean of conditional means: what a deployment that changes its mind cost and earned.

A signal ``X_t`` in ``[low, high]`` is observed while its conditional mean ``mu_t = E[X_t | past]`` moves, e.g. because the mixture that is deployed
moves. Bounded is the average that really happened,

    M_n = (1/n) sum_{t<=n} mu_t,

for all n at once. :mod:`surefoot.stats.betting` bounds a mean that stays, or the smallest of means that move; neither is ``M_n``.

**One bet.** Fix an anchor ``low < a < high`` beforehand, let ``s = high - a``, ``0 < c < 1``, and

    K_n(c) = exp(sum_t [log(1 + c (a - X_t) / s) - c (a - mu_t) / s]).

Each factor is well defined, for ``(a - X_t) / s >= -1``, and has the conditional mean ``(1 + y) exp(-y) <= 1`` with ``y = c (a - mu_t) / s``: a
nonnegative supermartingale that starts at 1, and so is the average ``K_n = sum_k w_k K_n(c_k)`` over bets and weights fixed beforehand. The unknown
means enter through their sum alone, so with ``L_k = sum_t log(1 + c_k (a - X_t) / s)`` Ville's inequality (``P(sup_n K_n >= 1/alpha) <= alpha``)
says that, at all times at once,

    sum_k w_k exp(L_k + c_k n (M_n - a) / s) < 1/alpha.

The left side increases in ``M_n``; where it crosses is the upper bound. The lower one is the mirror image with ``s = a - low``. With ``log(1 + y)``
bounded from below by ``y - y^2 (-log(1 - c) - c) / c^2`` this is the empirical Bernstein bound of Howard et al. (Annals of Statistics 2021,
Theorem 4) with a fixed predictor, which is wider.

The anchor costs ``y^2 / 2`` per observation, as if the variance were ``sigma^2 + (a - mu_t)^2``: any value within half a standard deviation
will do. For nonnegative costs far below their ceiling an anchor near the mean makes the lower side sharp, because ``s = a`` and not the ceiling;
the upper side pays for the ceiling, as it must.

**Missing observations** may be counted at their worst (``high`` for the upper side, ``low`` for the lower one) and be replaced whenever they arrive:
factors commute, and a worst factor is the smallest that any outcome could give.

Sources: Ville 1939; Fan, Grama & Liu 2015 and Howard et al. 2021 for the exponential supermartingale; Waudby-Smith et al. 2024 for means that move.

Symbols: F signals, K bets, n observations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from surefoot.arrays import FloatArray, as_floats, check_integer, check_real, entry, first_where, freeze
from surefoot.errors import InvalidInput

__all__ = ["RunningMeanBounds", "RunningMeanState"]

COUNT, SMALLEST, LARGEST = 16, 5e-4, 0.99
"""Bets ``c``: log-spaced, equally weighted. The best one is near ``s sqrt(2 ln(1/alpha) / n) / sigma``, from small where s is below sigma and n large
to 1 where s is far above sigma."""
STEPS = 60
ROUNDING = 16.0 * float(np.finfo(float).eps)
SLACK = 1e-9
"""Rounding of values at an end of the range, as a share of the range."""


class RunningMeanState(NamedTuple):
    """What is kept of n observations: the log-wealths of the bets for the upper and the lower side, ``above`` and ``below`` (F, K)."""

    n: int
    above: FloatArray
    below: FloatArray


class RunningMeanBounds:
    """Bounds on the running means of F signals that are observed together.

    Args:
        low, high: (F,) ranges of the signals.
        anchor: (F,) guesses of their means, strictly between.

    Raises:
        InvalidInput: an empty or infinite range, or an anchor outside it.

    Attributes:
        low, high, anchor: (F,).
        fractions: (K,) the bets.
    """

    def __init__(self, low: ArrayLike, high: ArrayLike, anchor: ArrayLike) -> None:
        self.low = as_floats("low", low, (None,))
        self.high = as_floats("high", high, self.low.shape)
        self.anchor = as_floats("anchor", anchor, self.low.shape)
        bad = ~((self.low < self.anchor) & (self.anchor < self.high))
        if bad.any():
            index = first_where(bad)
            raise InvalidInput(
                f"{entry('anchor', index)} must lie strictly between low and high, got {self.anchor[index]:g} in "
                f"[{self.low[index]:g}, {self.high[index]:g}]; widen the range or move it inside",
                code="SF-ARGUMENT-ORDER",
            )
        self.fractions = freeze(np.geomspace(SMALLEST, LARGEST, COUNT))
        self._worst = np.log1p(-self.fractions)

    @property
    def start(self) -> RunningMeanState:
        """Nothing observed."""
        size = self.low.size
        return RunningMeanState(0, np.zeros((size, COUNT)), np.zeros((size, COUNT)))

    def observe(self, state: RunningMeanState, values: ArrayLike) -> RunningMeanState:
        """The state after further ``values`` (n, F).

        Raises:
            InvalidInput: a value outside its range.
        """
        batch = as_floats("values", values, (None, self.low.size))
        room = SLACK * (self.high - self.low)
        bad = (batch < self.low - room) | (batch > self.high + room)
        if bad.any():
            index = first_where(bad)
            raise InvalidInput(
                f"{entry('values', index)} must lie in [{self.low[index[-1]]:g}, {self.high[index[-1]]:g}], got {batch[index]:.9g}; the declared "
                "range is wrong, or the report",
                code="SF-ARGUMENT-RANGE",
            )
        batch = np.clip(batch, self.low, self.high)
        apart = (self.anchor - batch)[:, :, None] * self.fractions
        above = np.log1p(apart / (self.high - self.anchor)[:, None]).sum(axis=0)
        below = np.log1p(-apart / (self.anchor - self.low)[:, None]).sum(axis=0)
        return RunningMeanState(state.n + batch.shape[0], state.above + above, state.below + below)

    def joined(self, first: RunningMeanState, second: RunningMeanState) -> RunningMeanState:
        """The state after the observations of both; in whatever order, since factors commute."""
        return RunningMeanState(first.n + second.n, first.above + second.above, first.below + second.below)

    def bounds(self, state: RunningMeanState, alpha: float, missing: int = 0) -> tuple[FloatArray, FloatArray]:
        """(F,) lower and (F,) upper bounds on the running means, each pair wrong with probability at most ``alpha`` at all times together.

        Args:
            state: after all observations so far.
            alpha: error probability of an interval, half of it on either side.
            missing: observations that belong to the mean and are not in the state; counted at their worst.
        """
        low, high = self.bounds_of([state], alpha, [missing])
        return low[0], high[0]

    def bounds_of(
        self, states: Sequence[RunningMeanState], alpha: float, missing: Sequence[int]
    ) -> tuple[FloatArray, FloatArray]:
        """(P, F) the same for P states; without any observation the range."""
        alpha = check_real("alpha", alpha, low=0.0, high=1.0, open_low=True, open_high=True)
        lost = np.array([check_integer("missing", m, low=0) for m in missing])[:, None, None]
        count = np.array([state.n for state in states])[:, None] + lost[:, :, 0]
        threshold = math.log(2.0 / alpha) + ROUNDING * (count + 100.0)
        above = np.stack([state.above for state in states]) + lost * self._worst
        below = np.stack([state.below for state in states]) + lost * self._worst
        n = np.maximum(count, 1)
        up = _crossing(above, self.fractions, threshold) * (self.high - self.anchor) / n
        down = _crossing(below, self.fractions, threshold) * (self.anchor - self.low) / n
        known = count > 0
        low = np.where(known, np.maximum(self.low, self.anchor - down), self.low)
        return low, np.where(known, np.minimum(self.high, self.anchor + up), self.high)


def _crossing(wealth: FloatArray, fractions: FloatArray, threshold: FloatArray) -> FloatArray:
    """(P, F) z at which ``log mean_k exp(wealth_k + fractions_k z)`` reaches ``threshold`` (P, 1), from above; ``wealth`` (P, F, K).

    The function is convex and increases, and no single bet crosses before the mixture does: Newton's steps start at the first single crossing and
    come down to the root without passing it, so that stopping early is on the safe side.
    """
    level = threshold + math.log(fractions.size)
    z = ((level[..., None] - wealth) / fractions).min(axis=-1)
    for _ in range(STEPS):
        exponent = wealth + fractions * z[..., None]
        top = exponent.max(axis=-1)
        parts = np.exp(exponent - top[..., None])
        total = parts.sum(axis=-1)
        step = np.maximum((np.log(total) + top - level) * total / (parts @ fractions), 0.0)
        z = z - step
        if np.all(step <= 1e-9 * (1.0 + np.abs(z))):
            break
    return np.asarray(z)
