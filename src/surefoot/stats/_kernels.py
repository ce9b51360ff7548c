r"""Compiled loops behind ``betting``: products of many factors, kept exactly.

A wealth is a product of up to millions of positive factors. It is stored as
``mantissa * 2^exponent``. Moving a power of two from one to the other rounds nothing, so no logarithm is taken while
observations come in, batches give the same bits as single updates, and after n observations the logarithm is off by at
most a few n units in the last place (a running sum of logarithms would drift with its own size).

``period`` is the number of factors multiplied between renormalisations, ``pending`` (one entry per stream or policy)
how many there were since the last. The caller chooses it such that products stay normal numbers: within
``2^-1000 .. 2^1000`` for means, within ``2^-100 .. 2^100`` for intervals, whose mantissas are compared.
"""

from __future__ import annotations

import math

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.kernels import compiled

LN2 = math.log(2.0)
FRACTION_BITS = (1 << 52) - 1
ONE_BITS = 1023 << 52

EPSILON = float(np.finfo(float).eps)
POWERS = 0.5 ** np.arange(256)

OK, BAD_VALUE, BAD_PREDICTION = 0, 1, 2


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
def log_sum(logs: FloatArray) -> float:
    """``log(sum_k exp(logs_k))`` of (K,)."""
    top, total = -math.inf, 0.0
    for k in range(logs.size):  # logs.max() would take a second to compile
        top = max(top, logs[k])
    for k in range(logs.size):
        total += math.exp(logs[k] - top)
    return float(top + math.log(total))


@compiled
def mean_update(
    j: int,
    values: FloatArray,
    ceilings: FloatArray,
    bets: FloatArray,
    kept: FloatArray,
    odds: FloatArray,
    mantissa: FloatArray,
    exponent: IntArray,
    pending: IntArray,
    period: int,
) -> int:
    """Multiply ``1 - c_k + c_k (1 - x_t / H) v_g`` into stream j of ``mantissa, exponent`` (J, K, G) for every value.

    ``ceilings`` (J,) are H, ``bets`` (J, K) are ``c / H``, ``kept`` (K,) ``1 - c``, ``odds`` (J, G) ``v = H / (H - m)``.
    All terms are nonnegative, so nothing cancels. Returns -1, or the index of the first value outside ``[0, H]``, in
    which case nothing was changed.
    """
    bad = first_outside(values, 0.0, ceilings[j])
    if bad >= 0:
        return bad
    start = 0
    while start < values.size:
        stop = min(values.size, start + period - pending[j])
        for k in range(bets.shape[1]):
            base, row, grid = kept[k], mantissa[j, k], odds[j]
            for t in range(start, stop):
                gain = bets[j, k] * (ceilings[j] - values[t])
                for g in range(grid.size):
                    row[g] *= base + gain * grid[g]
        pending[j] += stop - start
        start = stop
        if pending[j] == period:
            pending[j] = 0
            for k in range(bets.shape[1]):
                renormalise(mantissa[j, k], exponent[j, k])
    return -1


@compiled
def mean_logs(
    j: int,
    g: int,
    lost: int,
    kept: FloatArray,
    log_weights: FloatArray,
    mantissa: FloatArray,
    exponent: IntArray,
    out: FloatArray,
) -> float:
    """``out[k] = log(w_k) + log wealth`` at grid mean g, lost values counted as the ceiling; returns its log-sum."""
    for k in range(out.size):
        out[k] = log_weights[k] + math.log(mantissa[j, k, g]) + LN2 * exponent[j, k, g]
        if lost > 0:
            out[k] += lost * math.log(kept[k])
    return log_sum(out)


@compiled
def mean_bound(
    j: int,
    threshold: float,
    lost: int,
    ceiling: float,
    kept: FloatArray,
    log_weights: FloatArray,
    odds: FloatArray,
    mantissa: FloatArray,
    exponent: IntArray,
) -> float:
    """Where the chord of stream j's log-wealth crosses ``threshold``; the ceiling if not below the last grid mean.

    The mixture is increasing in m, so the segment is found by bisection. On the segment the log of a mixture of
    exponentials is convex and increasing in the odds ``v``, so Newton's steps from its right end approach the crossing
    from above: an early stop errs to the safe side. The mean ``H - H / v`` is rounded up.
    """
    left, right = np.empty(log_weights.size), np.empty(log_weights.size)
    below, above = int(np.int64(0)), odds.shape[1] - 1  # no literal, for which Numba would compile anew
    if mean_logs(j, above, lost, kept, log_weights, mantissa, exponent, right) < threshold:
        return ceiling
    mean_logs(j, below, lost, kept, log_weights, mantissa, exponent, left)
    probe = np.empty(log_weights.size)
    while above - below > 1:
        middle = (above + below) // 2
        if mean_logs(j, middle, lost, kept, log_weights, mantissa, exponent, probe) < threshold:
            below, left, probe = middle, probe, left
        else:
            above, right, probe = middle, probe, right
    crossing = odds[j, below] + chord_crossing(left, right, threshold) * (odds[j, above] - odds[j, below])
    return float(min(ceiling, ceiling - ceiling / crossing + 4.0 * EPSILON * ceiling))


@compiled
def mean_table(
    j: int, lost: int, kept: FloatArray, log_weights: FloatArray, mantissa: FloatArray, exponent: IntArray
) -> FloatArray:
    """(G, K) ``log(w_k) + log wealth`` of stream j at every grid mean, lost values counted as the ceiling."""
    table = np.empty((mantissa.shape[2], log_weights.size))
    for k in range(log_weights.size):
        worst = log_weights[k] + (lost * math.log(kept[k]) if lost > 0 else 0.0)
        for g in range(table.shape[0]):
            table[g, k] = worst + math.log(mantissa[j, k, g]) + LN2 * exponent[j, k, g]
    return table


@compiled
def table_at(table: FloatArray, odds: FloatArray, v: float) -> float:
    """Log-wealth at odds ``v = H / (H - m)``, on the chord; beyond the last grid mean what it is there, for it increases."""
    low, high = 0, odds.size
    while low < high:  # np.searchsorted would take a second to compile
        middle = (low + high) // 2
        if odds[middle] >= v:
            high = middle
        else:
            low = middle + 1
    right = min(max(low, 1), odds.size - 1)
    share = min(1.0, max(0.0, (v - odds[right - 1]) / (odds[right] - odds[right - 1])))
    top, total = -math.inf, 0.0
    for k in range(table.shape[1]):
        top = max(top, table[right - 1, k] + share * (table[right, k] - table[right - 1, k]))
    for k in range(table.shape[1]):
        total += math.exp(table[right - 1, k] + share * (table[right, k] - table[right - 1, k]) - top)
    return float(top + math.log(total))


@compiled
def region_tighten(
    edges: FloatArray,
    proved: FloatArray,
    threshold: float,
    cash: float,
    guards: FloatArray,
    lost: IntArray,
    ceilings: FloatArray,
    kept: FloatArray,
    log_weights: FloatArray,
    odds: FloatArray,
    mantissa: FloatArray,
    exponent: IntArray,
) -> bool:
    """Lower ``proved`` (G,), the largest mean of stream 1 that is possible while that of stream 0 lies in ``[edges[k], edges[k+1]]``.

    Every stream keeps the share ``cash`` of its wealth out of all bets. Rejected is what the product of both wealths, each lowered by its guard
    (2,) against rounding, takes to ``exp(threshold)``; that of stream 0 is read at the left edge, where it is smallest. -1: every mean of stream 1
    is rejected there. Returns whether anything fell.
    """
    fell, log_cash, top_1 = False, math.log(cash), ceilings[1]
    one, two = int(np.int64(0)), int(np.int64(1))  # Numba compiles anew for each number that is written out
    first = mean_table(one, lost[0], kept, log_weights, mantissa, exponent)
    second = mean_table(two, lost[1], kept, log_weights, mantissa, exponent)
    least = table_at(second, odds[1], 1.0) - guards[1]
    for k in range(proved.size):
        if proved[k] < 0.0:
            continue
        v = ceilings[0] / (ceilings[0] - edges[k])
        bet = math.log1p(-cash) + table_at(first, odds[0], v) - guards[0]
        top = max(bet, log_cash)
        rest = threshold - (top + math.log(math.exp(bet - top) + math.exp(log_cash - top)))
        # cash + (1 - cash) W reaches exp(rest) where log W reaches this; what was never bet may be enough.
        enough = rest <= log_cash
        if not enough:
            rest += math.log1p(-math.exp(log_cash - rest)) - math.log1p(-cash)
        if enough or least >= rest:
            proved[k], fell = -1.0, True
            continue
        v = top_1 / (top_1 - proved[k]) if proved[k] < top_1 else math.inf
        if table_at(second, odds[1], v) - guards[1] < rest:
            continue
        found = mean_bound(two, rest + guards[1], lost[1], top_1, kept, log_weights, odds, mantissa, exponent)
        if found < proved[k]:
            proved[k], fell = found, True
    return fell


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
        if position <= 0.0 or step < 1e-13:
            break
    return max(position, 0.0)


@compiled
def interval_check(
    j: int, values: FloatArray, minus: FloatArray, plus: FloatArray, active: IntArray, columns: FloatArray
) -> tuple[int, int, int]:
    """``(code, observation, cell)`` of the first entry that breaks a rule, with code ``OK`` if none does."""
    for a in range(active.size):
        i = active[a]
        low, high, least, most = columns[j, i, 0], columns[j, i, 1], columns[j, i, 2], columns[j, i, 3]
        column = i if values.shape[1] > 1 else 0
        for t in range(values.shape[0]):
            if not (low <= values[t, column] <= high):
                return BAD_VALUE, t, i
        for t in range(minus.shape[0]):
            if not (least <= minus[t, i] <= plus[t, i] <= most):
                return BAD_PREDICTION, t, i
    return OK, -1, -1


@compiled
def interval_update(
    j: int,
    values: FloatArray,
    minus: FloatArray,
    plus: FloatArray,
    active: IntArray,
    columns: FloatArray,
    fractions: FloatArray,
    weights: FloatArray,
    mantissa: FloatArray,
    exponent: IntArray,
    block: FloatArray,
    pending: IntArray,
    lost: int,
    period: int,
) -> tuple[int, int, int]:
    """Multiply the factors of policy j's observations into its components, unless :func:`interval_check` objects.

    Args:
        values: (n, 1), or (n, N) where the signal differs by cell.
        minus, plus: (1, N) or (n, N) predictions.
        alive: indices of the cells to move.
        columns: (J, N, 5): low, high, smallest ``m-``, largest ``m+``, one over the range; ``lam = fraction / range``.
        mantissa, exponent: (J, N, 2, K), side 0 bets on larger means, side 1 on smaller ones.
        block: (J, N) log of the average over (2, K) with ``weights`` (2, K), kept up to date here.
        lost: outstanding observations once these have arrived.
    """
    verdict = interval_check(j, values, minus, plus, active, columns)
    if verdict[0] != OK:
        return verdict
    start = 0
    while start < values.shape[0]:
        stop = min(values.shape[0], start + period - pending[j])
        for a in range(active.size):
            i = active[a]
            scale = columns[j, i, 4]
            column = i if values.shape[1] > 1 else 0
            upper, lower = mantissa[j, i, 0], mantissa[j, i, 1]
            for t in range(start, stop):
                row = t if minus.shape[0] > 1 else 0
                above = (values[t, column] - plus[row, i]) * scale
                under = (minus[row, i] - values[t, column]) * scale
                for k in range(fractions.size):
                    upper[k] *= 1.0 + fractions[k] * above
                    lower[k] *= 1.0 + fractions[k] * under
        pending[j] += stop - start
        start = stop
        if pending[j] == period:
            pending[j] = 0
            renormalise(mantissa[j].reshape(-1), exponent[j].reshape(-1))
    interval_refresh(j, active, lost, columns, fractions, weights, mantissa, exponent, block)
    return verdict


@compiled
def interval_refresh(
    j: int,
    active: IntArray,
    lost: int,
    columns: FloatArray,
    fractions: FloatArray,
    weights: FloatArray,
    mantissa: FloatArray,
    exponent: IntArray,
    block: FloatArray,
) -> None:
    """``block[j, i] = log sum_{side, k} weights * wealth`` for the cells i in ``alive``; arrays as in the update."""
    logs = np.empty(2 * fractions.size)
    for a in range(active.size):
        i = active[a]
        if lost == 0:
            block[j, i] = scaled_log_sum(weights, mantissa[j, i], exponent[j, i])
            continue
        scale = columns[j, i, 4]
        for side in range(2):
            # the smallest lam-free bet of any outcome: low against the largest m+, high against the smallest m-
            gap = columns[j, i, 0] - columns[j, i, 3] if side == 0 else columns[j, i, 2] - columns[j, i, 1]
            for k in range(fractions.size):
                worst = lost * math.log1p(fractions[k] * (gap * scale))
                wealth = math.log(mantissa[j, i, side, k]) + LN2 * exponent[j, i, side, k]
                logs[side * fractions.size + k] = math.log(weights[side, k]) + wealth + worst
        block[j, i] = log_sum(logs)


@compiled
def scaled_log_sum(weights: FloatArray, mantissa: FloatArray, exponent: IntArray) -> float:
    """``log sum weights * mantissa * 2^exponent`` over (2, K), with one logarithm and no exponential."""
    top = exponent[0, 0]
    for side in range(2):
        for k in range(weights.shape[1]):
            top = max(top, exponent[side, k])
    total = 0.0
    for side in range(2):
        for k in range(weights.shape[1]):
            shift = top - exponent[side, k]
            if shift < POWERS.size:  # mantissas differ by 2^200 at most, so smaller terms are below the last place
                total += weights[side, k] * mantissa[side, k] * POWERS[shift]
    return float(math.log(total) + LN2 * top)


@compiled
def interval_mean(
    active: IntArray, touched: IntArray, weights: FloatArray, rest: float, block: FloatArray, out: FloatArray
) -> None:
    """``out[i] = log(rest + sum_j weights[j] exp(block[j, i]))`` over the policies j that were ever observed."""
    for a in range(active.size):
        i = active[a]
        top = 0.0 if rest > 0.0 else -math.inf
        for b in range(touched.size):
            if weights[touched[b]] > 0.0:
                top = max(top, block[touched[b], i])
        total = rest * math.exp(-top) if rest > 0.0 else 0.0  # 0 * inf is not 0 where top is very negative
        for b in range(touched.size):
            j = touched[b]
            if weights[j] > 0.0:  # its wealth may be too large for the scale of the others
                total += weights[j] * math.exp(block[j, i] - top)
        out[i] = top + math.log(total)
