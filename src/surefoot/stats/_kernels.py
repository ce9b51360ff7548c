r"""Compiled loops behind ``betting``: products of many factors, kept exactly.

A wealth is a product of up to millions of factors between ``1 - c`` and ``1 + c``. It is stored as
``mantissa * 2^exponent`` with the mantissa in [1, 2). Moving a power of two from one to the other rounds nothing, so no
logarithm is taken while observations come in, batches give the same bits as single updates, and after n observations the
logarithm is off by at most a few n units in the last place (a running sum of logarithms would drift with its own size).

``period`` is the number of factors that may be multiplied before a renormalisation: the caller chooses it such that
``(1-c)^period`` stays above ``2^-1000``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from surefoot.arrays import FloatArray, IntArray

F = TypeVar("F", bound=Callable[..., Any])

LN2 = math.log(2.0)
FRACTION_BITS = (1 << 52) - 1
ONE_BITS = 1023 << 52

POWERS = 0.5 ** np.arange(256)

OK, BAD_VALUE, BAD_PREDICTION = 0, 1, 2


def compiled(function: F) -> F:
    """``numba.njit`` with this library's options and a type that survives it."""
    return cast(F, numba.njit(function, nogil=True, cache=True))


@compiled
def renormalise(mantissa: FloatArray, exponent: IntArray) -> None:
    """Move the binary exponent of every entry of ``mantissa`` (n,), positive and normal, to ``exponent`` (n,)."""
    bits = mantissa.view(np.int64)
    for i in range(bits.size):
        exponent[i] += (bits[i] >> 52) - 1023
        bits[i] = (bits[i] & FRACTION_BITS) | ONE_BITS


@compiled
def first_outside(values: FloatArray, low: float, high: float) -> int:
    """Index of the first value outside ``[low, high]`` (NaN is outside), or -1."""
    for t in range(values.size):
        if not (low <= values[t] <= high):
            return t
    return -1


@compiled
def mean_update(
    values: FloatArray, bets: FloatArray, means: FloatArray, mantissa: FloatArray, exponent: IntArray, period: int
) -> None:
    """Multiply ``1 + lam_k (m_g - x_t)`` into ``mantissa, exponent`` (K, G) for every value."""
    for start in range(0, values.size, period):
        stop = min(values.size, start + period)
        for k in range(bets.size):
            bet, row = bets[k], mantissa[k]
            for t in range(start, stop):
                base = 1.0 - bet * values[t]
                for g in range(means.size):
                    row[g] *= base + bet * means[g]
        for k in range(bets.size):
            renormalise(mantissa[k], exponent[k])


@compiled
def log_sum(logs: FloatArray) -> float:
    """``log(sum_k exp(logs_k))`` of (K,)."""
    top = logs.max()
    total = 0.0
    for k in range(logs.size):
        total += math.exp(logs[k] - top)
    return top + math.log(total)


@compiled
def mean_logs(
    g: int,
    lost: int,
    ceiling: float,
    bets: FloatArray,
    log_weights: FloatArray,
    means: FloatArray,
    mantissa: FloatArray,
    exponent: IntArray,
    out: FloatArray,
) -> None:
    """``out[k] = log(w_k) + log wealth`` at grid mean g, lost observations counted as the ceiling."""
    for k in range(bets.size):
        out[k] = log_weights[k] + math.log(mantissa[k, g]) + LN2 * exponent[k, g]
        if lost > 0:
            out[k] += lost * math.log1p(bets[k] * (means[g] - ceiling))


@compiled
def mean_bound(
    threshold: float,
    lost: int,
    ceiling: float,
    bets: FloatArray,
    log_weights: FloatArray,
    means: FloatArray,
    mantissa: FloatArray,
    exponent: IntArray,
) -> float:
    """Where the chord of the log-wealth crosses ``threshold``; the last grid mean if it never does.

    The mixture is increasing in m, so the segment is found by bisection. On the segment the log of a mixture of
    exponentials is convex and increasing, so Newton's steps from its right end approach the crossing from above: an
    early stop errs to the safe side.
    """
    left, right = np.empty(bets.size), np.empty(bets.size)
    below, above = 0, means.size - 1
    mean_logs(above, lost, ceiling, bets, log_weights, means, mantissa, exponent, right)
    if log_sum(right) < threshold:
        return float(means[above])
    while above - below > 1:
        middle = (above + below) // 2
        mean_logs(middle, lost, ceiling, bets, log_weights, means, mantissa, exponent, left)
        if log_sum(left) < threshold:
            below = middle
        else:
            above = middle
    mean_logs(below, lost, ceiling, bets, log_weights, means, mantissa, exponent, left)
    mean_logs(above, lost, ceiling, bets, log_weights, means, mantissa, exponent, right)
    position = chord_crossing(left, right, threshold)
    return float(means[below] + position * (means[above] - means[below]))


@compiled
def chord_crossing(left: FloatArray, right: FloatArray, threshold: float) -> float:
    """The smallest t in [0, 1], from above, with ``log sum_k exp((1-t) left_k + t right_k) >= threshold``."""
    position = 1.0
    for _ in range(100):
        top = -math.inf
        for k in range(left.size):
            top = max(top, left[k] + position * (right[k] - left[k]))
        total, slope = 0.0, 0.0
        for k in range(left.size):
            share = math.exp(left[k] + position * (right[k] - left[k]) - top)
            total += share
            slope += share * (right[k] - left[k])
        excess = top + math.log(total) - threshold
        if not (excess > 0.0 and slope > 0.0):
            break
        step = excess * total / slope
        position -= step
        if position <= 0.0 or step < 1e-14:
            break
    return max(position, 0.0)


@compiled
def interval_check(
    values: FloatArray,
    minus: FloatArray,
    plus: FloatArray,
    alive: IntArray,
    low: FloatArray,
    high: FloatArray,
    hull_minus: FloatArray,
    hull_plus: FloatArray,
) -> tuple[int, int, int]:
    """``(code, observation, cell)`` of the first entry that breaks a rule, with code ``OK`` if none does.

    Shapes as in :func:`interval_update`; ``low .. hull_plus`` are (N,) for the policy that ran.
    """
    for a in range(alive.size):
        i = alive[a]
        for t in range(values.shape[0]):
            if not (low[i] <= values[t, i if values.shape[1] > 1 else 0] <= high[i]):
                return BAD_VALUE, t, i
        for t in range(minus.shape[0]):
            if not (hull_minus[i] <= minus[t, i] <= plus[t, i] <= hull_plus[i]):
                return BAD_PREDICTION, t, i
    return OK, -1, -1


@compiled
def interval_update(
    values: FloatArray,
    minus: FloatArray,
    plus: FloatArray,
    alive: IntArray,
    scale: FloatArray,
    fractions: FloatArray,
    mantissa: FloatArray,
    exponent: IntArray,
    period: int,
) -> None:
    """Multiply the factors of one policy's observations into ``mantissa, exponent`` (N, 2, K).

    ``values`` (n, 1) or (n, N); ``minus, plus`` (1, N) or (n, N); ``alive`` the cells to move; ``scale`` (N,) is one
    over the signal's range, so that ``lam = fraction * scale``.
    """
    for a in range(alive.size):
        i = alive[a]
        upper, lower = mantissa[i, 0], mantissa[i, 1]
        column = i if values.shape[1] > 1 else 0
        for start in range(0, values.shape[0], period):
            for t in range(start, min(values.shape[0], start + period)):
                row = t if minus.shape[0] > 1 else 0
                above = (values[t, column] - plus[row, i]) * scale[i]
                under = (minus[row, i] - values[t, column]) * scale[i]
                for k in range(fractions.size):
                    upper[k] *= 1.0 + fractions[k] * above
                    lower[k] *= 1.0 + fractions[k] * under
            renormalise(upper, exponent[i, 0])
            renormalise(lower, exponent[i, 1])


@compiled
def interval_refresh(
    alive: IntArray,
    lost: int,
    lost_above: FloatArray,
    lost_under: FloatArray,
    fractions: FloatArray,
    weights: FloatArray,
    mantissa: FloatArray,
    exponent: IntArray,
    block: FloatArray,
) -> None:
    """``block[i] = log sum_{side, k} weights[side, k] * wealth`` for the cells in ``alive``.

    ``lost_above, lost_under`` (N,) are the smallest ``lam``-free bets ``(lo - hull_plus) / range`` and
    ``(hull_minus - hi) / range`` of a lost observation.
    """
    lost_logs = np.zeros((2, fractions.size))
    for a in range(alive.size):
        i = alive[a]
        if lost == 0:
            block[i] = scaled_log_sum(weights, mantissa[i], exponent[i])
        else:
            for k in range(fractions.size):
                lost_logs[0, k] = lost * math.log1p(fractions[k] * lost_above[i])
                lost_logs[1, k] = lost * math.log1p(fractions[k] * lost_under[i])
            logs = np.log(weights) + np.log(mantissa[i]) + LN2 * exponent[i] + lost_logs
            block[i] = log_sum(logs.ravel())


@compiled
def scaled_log_sum(weights: FloatArray, mantissa: FloatArray, exponent: IntArray) -> float:
    """``log sum weights * mantissa * 2^exponent`` over (2, K), with one logarithm and no exponential."""
    top = exponent.max()
    total = 0.0
    for side in range(2):
        for k in range(weights.shape[1]):
            shift = top - exponent[side, k]
            if shift < POWERS.size:  # smaller terms are below the last place of the sum
                total += weights[side, k] * mantissa[side, k] * POWERS[shift]
    return math.log(total) + LN2 * top


@compiled
def interval_mean(
    alive: IntArray, touched: IntArray, weights: FloatArray, rest: float, block: FloatArray, out: FloatArray
) -> None:
    """``out[i] = log(rest + sum_j weights[j] exp(block[j, i]))`` over the policies j that were ever observed."""
    for a in range(alive.size):
        i = alive[a]
        top = 0.0
        for b in range(touched.size):
            top = max(top, block[touched[b], i])
        total = rest * math.exp(-top)
        for b in range(touched.size):
            j = touched[b]
            total += weights[j] * math.exp(block[j, i] - top)
        out[i] = top + math.log(total) if total > 0.0 else -math.inf
