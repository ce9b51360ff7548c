r"""Quantiles from order statistics: distribution-free bounds, and thresholds that a further value rarely exceeds.

Let ``Z_1 .. Z_m`` be independent with distribution function ``F(z) = P(Z <= z)`` on the extended line: atoms are allowed, and a value that was never
observed (an episode count that was not reached) is ``+inf``. ``Z_(r)`` is the r-th smallest, r = 1 .. m. Fix q and delta in (0, 1).

**Upper bound.** Let ``x_q = inf {z : F(z) >= q}``, the smallest q-quantile; as F is right-continuous, ``F(z) >= q`` if and only if ``z >= x_q``. Now
``Z_(r) < x_q`` if and only if at least r values are below ``x_q``, and each is with probability ``P(Z < x_q) <= q``. The binomial tail rises with its
rate, so ``P(Z_(r) < x_q) <= P(Bin(m, q) >= r)``. Hence, for r with ``P(Bin(m, q) >= r) <= delta``: with probability at least ``1 - delta`` over the m
values, ``F(Z_(r)) >= q``: *a further value is at most the bound with probability at least q*. The smallest such r is :func:`quantile_upper_rank`. No
r will do where ``q^m > delta``. For a continuous F the probability is exactly ``P(Bin(m, q) < r)``.

**Lower bound.** Let ``x^q = sup {z : P(Z < z) <= q}``, the largest q-quantile; ``P(Z < z) <= q`` if and only if ``z <= x^q``. ``Z_(s) > x^q`` if and
only if at most ``s - 1`` values are at most ``x^q``, and each is with probability ``F(x^q) >= q``: ``P(Z_(s) > x^q) <= P(Bin(m, q) <= s - 1)``. Where
that is at most delta, *a further value is below the bound with probability at most q*. The largest such s is :func:`quantile_lower_rank`.

**A threshold for one further value.** Let ``Z_1 .. Z_{m+1}`` be exchangeable, ties allowed. Of the m + 1 at most ``m + 1 - r`` have r or more others
strictly below them, so the last has with probability at most ``1 - r / (m + 1)``; and ``Z_{m+1} > Z_(r)``, the r-th smallest of the first m, is
just that. ``r = ceil((1 - alpha) (m + 1))`` makes it at most alpha; where r exceeds m the threshold is infinite (:func:`exceedance_threshold`).
Here the probability is over the m values and the further one together, there it is over the m alone.

Sources: Wilks 1941 (order statistics); David & Nagaraja, "Order Statistics", section 7.1; Vovk, Gammerman & Shafer 2005 (exchangeability).
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from surefoot.arrays import FloatArray, as_floats, check_integer, check_real
from surefoot.stats.binomial import failures_allowed, rate_test

__all__ = [
    "exceedance_threshold",
    "quantile_lower",
    "quantile_lower_rank",
    "quantile_upper",
    "quantile_upper_rank",
]


def quantile_upper_rank(count: int, q: float, delta: float) -> int | None:
    """Smallest r such that the r-th smallest of ``count`` values bounds the q-quantile from above at error ``delta``; ``None`` if none does.

    >>> quantile_upper_rank(59, 0.95, 0.05), quantile_upper_rank(58, 0.95, 0.05), quantile_upper_rank(500, 0.9, 0.05)
    (59, None, 462)
    """
    count, q, delta = _checked(count, q, delta)
    low, high = 0, count  # P(Bin >= 0) = 1 is too much
    if not count or rate_test(count, count, q) > delta:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rate_test(middle, count, q) <= delta else (middle, high)
    return high


def quantile_lower_rank(count: int, q: float, delta: float) -> int | None:
    """Largest s such that the s-th smallest of ``count`` values bounds the q-quantile from below at error ``delta``; ``None`` if none does.

    >>> quantile_lower_rank(59, 0.05, 0.05), quantile_lower_rank(58, 0.05, 0.05)
    (1, None)
    """
    count, q, delta = _checked(count, q, delta)
    if not count:
        return None
    fewer = failures_allowed(count, q, delta)
    return None if fewer is None else fewer + 1


def quantile_upper(values: ArrayLike, q: float, delta: float) -> float:
    """Bound that, with confidence ``1 - delta``, a further value does not exceed with probability at least ``q``.

    Args:
        values: (m,) independent, of one law; infinities stand for what was not reached.
        q, delta: in (0, 1).

    Returns:
        An order statistic, or ``inf`` where there are too few values.

    >>> quantile_upper([3.0, 1.0, 2.0, 5.0, 4.0], q=0.5, delta=0.05), quantile_upper([3.0, 1.0], q=0.5, delta=0.05)
    (5.0, inf)
    """
    ordered = _sorted(values)
    rank = quantile_upper_rank(ordered.size, q, delta)
    return math.inf if rank is None else float(ordered[rank - 1])


def quantile_lower(values: ArrayLike, q: float, delta: float) -> float:
    """Bound below which, with confidence ``1 - delta``, a further value lies with probability at most ``q``; ``-inf`` where there are too few values.

    Arguments as in :func:`quantile_upper`.
    """
    ordered = _sorted(values)
    rank = quantile_lower_rank(ordered.size, q, delta)
    return -math.inf if rank is None else float(ordered[rank - 1])


def exceedance_threshold(values: ArrayLike, alpha: float) -> float:
    """Threshold that a further value, exchangeable with ``values`` (m,), exceeds (strictly) with probability at most ``alpha``.

    The ``ceil((1 - alpha) (m + 1))``-th smallest, ``inf`` where that is more than m. ``alpha`` is taken as it is written in decimal.

    >>> exceedance_threshold(range(1, 20), 0.05), exceedance_threshold(range(1, 19), 0.05)
    (19.0, inf)
    """
    alpha = check_real("alpha", alpha, low=0.0, high=1.0, open_low=True, open_high=True)
    ordered = _sorted(values)
    rank = math.ceil((1 - Fraction(repr(alpha))) * (ordered.size + 1))
    return math.inf if rank > ordered.size else float(ordered[rank - 1])


def _sorted(values: ArrayLike) -> FloatArray:
    return np.sort(as_floats("values", values, (None,), infinite=True))


def _checked(count: int, q: float, delta: float) -> tuple[int, float, float]:
    count = check_integer("count", count, low=0)
    q = check_real("q", q, low=0.0, high=1.0, open_low=True, open_high=True)
    return count, q, check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
