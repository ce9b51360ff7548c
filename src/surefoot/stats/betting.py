r"""Betting: time-uniform bounds on means, and e-processes for intervals of means.

Sources: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 2024 (cited as WSR);
Howard et al., "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 2021; Ville 1939.

**One bet.** A signal X lies in ``[0, H]``. Against the hypothesis ``H_m``: *the conditional mean of every observation,
given the past, is at least m*, ``0 <= m < H``, bet a fixed fraction c of the largest admissible bet ``1 / (H - m)`` on
small outcomes; after observations ``x_1 .. x_n`` the wealth is

    K(m; c) = prod_t (1 + lam(m) (m - x_t)),   lam(m) = c / (H - m),   0 < c < 1
            = prod_t (1 - c + c (1 - x_t / H) v),                      v = H / (H - m) >= 1.

Each factor is at least ``1 - c > 0``, and under ``H_m`` its conditional mean is ``1 + lam(m) (m - E[X | past]) <= 1``:
the wealth is a nonnegative supermartingale that starts at 1 (a martingale where the mean equals m). So is the average
``K(m) = sum_k w_k K(m; c_k)`` over fractions and weights fixed in advance. Ville:
``P(sup_n K_n(m) >= 1/delta) <= delta``.

**The upper bound** (:class:`MeanUpperBounds`). Reject m when ``K(m) >= 1/delta``. Every factor increases in v, hence in
m (the derivative of ``(m - x) / (H - m)`` is ``(H - x) / (H - m)^2 >= 0``), so K(m) increases, and ``K(0) <= 1``: what
is not rejected is an interval ``[0, U)``, where U is the crossing. The true mean mu is in it for all n at once with
probability at least ``1 - delta``, so ``mu < U_n`` for all n (running minima are valid too). A direction check: under
the mean mu the bettor against ``m > mu`` gains ``lam(m) (m - mu)`` per observation.

Against a bet ``c / H`` that ignores m this changes nothing where m is far below H, i.e. after many observations. After
few, m must be large: a zero then multiplies by up to ``H / (H - m)`` instead of less than 2. With n zeros and c near 1
the crossing is ``H (1 - delta^(1/n))``, the exact binomial limit.

**Chords.** Per bet only ``log K(m_g; c_k)`` at grid means ``0 = m_1 < .. < m_G < H`` is kept, O(1) memory. As a sum of
logarithms of functions affine in v it is concave in v, so between neighbours it lies on or above its chord in v; a
mixture of exponentials of chords is therefore at most K(m), and crosses ``1/delta`` no earlier. The bound read from
chords is never below the exact one. Between ``v < v'`` a chord is too low by at most
``(n / 8) (c (v' - v) / (1 - c + c v))^2``, about ``(n / 8) (c (m' - m) / H)^2`` where m is small. Means above
``m_G`` are not considered: without a crossing at ``m_G`` the bound is H.

**Which bets.** For variance ``s^2`` the best fixed bet after n observations is about ``sqrt(2 ln(1/delta) / n) / s``. A
grid of bets spaced by a factor r contains one within ``sqrt(r)`` of it, which widens the bound by a factor of about
``(sqrt(r) + 1/sqrt(r)) / 2``, and its weight costs ``ln(1/w)`` in the threshold. Where the ceiling is far above the
deviation, the best bet exceeds ``1 / H`` for all n below ``2 ln(1/delta) (H / s)^2`` (thousands): until then the largest
fraction is the best and its weight decides, hence the tilt of :func:`bet_grid`.

**Lost observations.** Products commute and the bets are fixed, so an observation still missing may be counted at its
worst (the ceiling: the smallest factor any outcome could give) and be replaced whenever it arrives. The state keeps
their number, not their factors; "lost, then replaced" is bit for bit "never lost". If every observation is marked lost
when it is *asked for* and replaced when it is *told*, what is read after k were asked is at most the wealth of the
first k in ask order, to which Ville's inequality applies; skipping what has not arrived is not conservative.

**Intervals** (:class:`IntervalWealth`). A cell predicts that the mean of X in ``[lo, hi]`` under policy j lies in
``[m-, m+]``. Its two bets are ``1 + lam (X - m+)`` (the mean is larger) and ``1 + lam (m- - X)`` (it is smaller), with
``lam = fraction / (hi - lo)``; the same argument gives conditional means ``1 + lam (E X - m+) <= 1`` and
``1 + lam (m- - E X) <= 1`` under the null. Components of other policies stand still, i.e. have factor 1, so all of them
are supermartingales in the joint history, for any adaptive choice of policies, and so is their weighted average.

Symbols: J streams or policies, N cells, K bets, G grid means, n observations, H ``ceiling``, ``delta`` the error.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from surefoot.arrays import FloatArray, IntArray, as_floats, check_integer, check_real, first_where, freeze
from surefoot.errors import InvalidInput
from surefoot.stateful import Stateful
from surefoot.stats import _kernels

__all__ = [
    "BetGrid",
    "IntervalWealth",
    "MeanLowerBounds",
    "MeanUpperBounds",
    "bet_grid",
    "empirical_bernstein_upper",
    "mean_grid",
    "mean_interval",
    "mean_lower",
    "mean_upper",
]

T = TypeVar("T")

LARGEST_FRACTION = 0.99
"""``c``: a bigger bet gains less than 1% of rate and loses everything on one bad outcome."""

PLUG_IN_FRACTION = 0.9
"""``c`` of bets that follow the running variance: they are near the largest only while little is known."""

LAST_GAP = 1e-3
"""The last candidate mean lies this share of the ceiling (or 1% of the way from the focus) below the ceiling."""


@dataclass(frozen=True, eq=False)
class BetGrid:
    """Bets as fractions of the largest admissible one, with the share of the wealth put on each.

    Attributes:
        fractions: (K,) strictly increasing, in (0, 1); ``lam = fraction / range``.
        weights: (K,) positive, sum 1.
    """

    fractions: FloatArray
    weights: FloatArray

    def __post_init__(self) -> None:
        fractions = as_floats("fractions", self.fractions, (None,))
        weights = as_floats("weights", self.weights, (fractions.size,))
        if not fractions.size or not (0.0 < fractions[0] and fractions[-1] < 1.0 and np.all(np.diff(fractions) > 0.0)):
            raise InvalidInput(
                f"fractions must increase strictly inside (0, 1), got {fractions}; sort and rescale them",
                code="SF-ARGUMENT-ORDER",
            )
        if np.any(weights <= 0.0) or abs(float(weights.sum()) - 1.0) > 1e-9:
            raise InvalidInput(
                f"weights must be positive and sum to 1, got {weights}; normalise them", code="SF-ARGUMENT-SIMPLEX"
            )
        object.__setattr__(self, "fractions", fractions)
        object.__setattr__(self, "weights", weights)

    @property
    def period(self) -> int:
        """Factors between ``1 - c`` and ``1 + c`` whose product surely stays within ``2^-100 .. 2^100``."""
        return min(100, max(1, int(-100.0 / math.log2(1.0 - float(self.fractions[-1])))))


def bet_grid(count: int = 10, smallest: float = 0.01, largest: float = LARGEST_FRACTION, tilt: float = 1.5) -> BetGrid:
    """``count`` log-spaced fractions from ``smallest`` to ``largest`` with weights proportional to ``fraction**tilt``.

    The smallest useful fraction is about ``sqrt(2 ln(1/delta) / n) / (s / H)`` for the largest n of interest. A
    positive tilt favours large bets: small samples, and deviations s far below the range H, as episode costs have
    them. The defaults were chosen on simulated costs (ceilings 90 and 100, mean 1.3-1.5, deviation 2.6-4.6) among 216
    grids: narrowest on average for 10 to 4000 observations and ``ln(1/delta)`` from 3 to 8, among those that lose at
    most 3% of the width at 40 000 and nothing where one observation in 300 is lost for good. Where the deviation is
    near half the range a tilt of 1 or less is about 10% narrower from 100 observations on.
    """
    count = check_integer("count", count, low=1)
    largest = check_real("largest", largest, low=0.0, high=1.0, open_low=True, open_high=True)
    smallest = check_real("smallest", smallest, low=0.0, high=largest, open_low=True)
    tilt = check_real("tilt", tilt, low=-10.0, high=10.0)
    fractions = np.geomspace(smallest, largest, count) if count > 1 else np.array([largest])
    weights = fractions**tilt
    return BetGrid(fractions, weights / weights.sum())


def mean_grid(ceiling: float, focus: float | None = None, points: int = 64) -> FloatArray:
    """(G,) candidate means from 0 to just below ``ceiling``, densest at ``focus`` (a cost limit, say), one of them.

    The grid is that of ``z = (m - focus) / (ceiling - m) = scale sinh(u)`` with equidistant u: with 64 points the
    spacing is about ``focus / 16`` around the focus and a quarter of the distance, to the focus or the ceiling, away
    from it. Without a focus it is uniform up to 3/4 of the ceiling, then in proportion to the distance from the
    ceiling. Spacing costs width, never validity.
    """
    ceiling = check_real("ceiling", ceiling, low=0.0, open_low=True, high=math.inf, open_high=True)
    points = check_integer("points", points, low=3)
    if focus is not None:
        focus = check_real("focus", focus, low=0.0, high=ceiling, open_low=True, open_high=True)
    return _mean_grid(ceiling, focus, points)


@lru_cache(maxsize=1024)
def _mean_grid(ceiling: float, focus: float | None, points: int) -> FloatArray:
    """As above. The streams of one process mostly have the same ceiling; grids are read-only and shared."""
    if focus is None:
        half = (points + 1) // 2
        near = 1.0 - np.geomspace(0.25, LAST_GAP, points - half + 1)[1:]
        return freeze(ceiling * np.concatenate([np.linspace(0.0, 0.75, half), near]))
    gap = min(LAST_GAP * ceiling, 0.01 * (ceiling - focus))
    scale = 0.25 * min(focus, ceiling - focus) / (ceiling - focus)
    below, above = math.asinh(focus / ceiling / scale), math.asinh((ceiling - focus - gap) / gap / scale)
    left = min(points - 2, max(1, round((points - 1) * below / (below + above))))
    z = scale * np.sinh(
        np.concatenate([np.linspace(-below, 0.0, left, endpoint=False), np.linspace(0.0, above, points - left)])
    )
    means = (focus + ceiling * z) / (1.0 + z)
    means[0], means[left], means[-1] = 0.0, focus, ceiling - gap
    return freeze(means)


class MeanUpperBounds(Stateful):
    """Time-uniform upper confidence bounds on the means of J streams of values in ``[0, ceiling_j]``.

    For each stream j and threshold ``log(1/delta)``: with probability at least ``1 - delta``, simultaneously for all n,
    the mean lies below :meth:`bound`. (More exactly: whoever's conditional means are all at least mu, mu lies below.)
    Proof in the module's docstring. Configuration is fixed at construction, the state is three arrays.

    Attributes:
        ceilings: (J,) largest possible values.
        means: (J, G) candidate means per stream; first 0, last below the ceiling.
        bets: the shared :class:`BetGrid`.
        mantissa, exponent: (J, K, G) wealth at each candidate mean, ``mantissa * 2**exponent``; lost values excluded.
        counts: (J,) values received.
        lost: (J,) values outstanding, each counted as the ceiling.
    """

    CHANGES = ("mantissa", "exponent", "counts", "lost", "_pending")

    def __init__(
        self,
        ceilings: ArrayLike,
        *,
        focus: float | None = None,
        points: int = 64,
        means: ArrayLike | None = None,
        bets: BetGrid | None = None,
    ) -> None:
        self.ceilings = _positive("ceilings", as_floats("ceilings", ceilings, (None,)))
        self.bets = bets if bets is not None else bet_grid()
        self.means = self._grids(focus, points) if means is None else self._given(means)
        self._scaled = freeze(self.bets.fractions[None, :] / self.ceilings[:, None])
        self._kept, self._log_weights = freeze(1.0 - self.bets.fractions), freeze(np.log(self.bets.weights))
        self._odds = freeze(self.ceilings[:, None] / (self.ceilings[:, None] - self.means))
        self._period, self._rounding = self._renormalisation()
        shape = (self.ceilings.size, self.bets.fractions.size, self.means.shape[1])
        self.mantissa, self.exponent = np.ones(shape), np.zeros(shape, np.int64)
        self.counts, self.lost, self._pending = np.zeros((3, shape[0]), np.int64)

    def _renormalisation(self) -> tuple[int, float]:
        """How many factors, between ``1 - c`` and the largest odds, stay within ``2^-1000 .. 2^1000``; rounding for each.

        A factor costs at most nine roundings of positive terms, reading a few more of a sum of logarithms of factors.
        """
        low, high = -math.log(float(self._kept[-1])), math.log(float(self._odds.max()))
        period = int(min(100.0, 1000.0 * _kernels.LN2 / max(low, high)))
        return max(1, period), _kernels.EPSILON * (16.0 + 4.0 * (low + high))

    def _grids(self, focus: float | None, points: int) -> FloatArray:
        rows = [
            mean_grid(b, focus if focus is not None and focus < b else None, points) for b in self.ceilings.tolist()
        ]
        return freeze(np.array(rows))

    def _given(self, means: ArrayLike) -> FloatArray:
        grid = as_floats("means", np.broadcast_to(means, (self.ceilings.size, np.shape(means)[-1])), (None, None))
        if np.any(np.diff(grid, axis=1) <= 0.0) or np.any(grid[:, 0] != 0.0) or np.any(grid[:, -1] >= self.ceilings):
            raise InvalidInput(
                "means must increase strictly from 0 to below the stream's ceiling; use mean_grid",
                code="SF-ARGUMENT-ORDER",
            )
        return grid

    def update(self, stream: int, values: ArrayLike) -> None:
        """Record ``values`` (n,) of one stream; nothing is recorded if one of them lies outside ``[0, ceiling]``."""
        stream, batch = self._stream(stream), _batch(values)
        bad = _kernels.mean_update(
            stream,
            batch,
            self.ceilings,
            self._scaled,
            self._kept,
            self._odds,
            self.mantissa,
            self.exponent,
            self._pending,
            self._period,
        )
        if bad >= 0:
            _refuse_value(batch, bad, 0.0, float(self.ceilings[stream]))
        self.counts[stream] += batch.size

    def mark_lost(self, stream: int, count: int = 1) -> None:
        """Count ``count`` values that were asked for and did not arrive as the ceiling."""
        self.lost[self._stream(stream)] += check_integer("count", count, low=0)

    def replace_lost(self, stream: int, values: ArrayLike) -> None:
        """Put the real ``values`` (n,) in the place of n lost ones."""
        batch = _batch(values)
        _check_outstanding(batch.size, int(self.lost[self._stream(stream)]))
        self.update(stream, batch)
        self.lost[stream] -= batch.size

    def take(self, stream: int, other: MeanUpperBounds) -> None:
        """Take over the state of one stream from bounds with the same grid there."""
        stream = self._stream(stream)
        for name in self.CHANGES:
            getattr(self, name)[stream] = getattr(other, name)[stream]

    def reset(self, stream: int) -> None:
        """Forget a stream, e.g. when a bound must rest on observations after a selection only."""
        stream = self._stream(stream)
        self.mantissa[stream], self.exponent[stream] = 1.0, 0
        self.counts[stream], self.lost[stream], self._pending[stream] = 0, 0, 0

    def bound(self, stream: int, log_threshold: float) -> float:
        """Upper bound on the mean of one stream at error ``exp(-log_threshold)``; at worst the ceiling.

        Rounding is charged against the bound: the threshold is raised by the largest error the products can have.
        """
        log_threshold = check_real("log_threshold", log_threshold, low=0.0, open_low=True)
        return self._bound(self._stream(stream), log_threshold)

    def bounds(self, log_thresholds: ArrayLike) -> FloatArray:
        """(J,) upper bounds at thresholds (J,) (or one for all)."""
        thresholds = as_floats("log_thresholds", np.broadcast_to(log_thresholds, self.ceilings.shape), (None,))
        _positive("log_thresholds", thresholds)
        return np.array([self._bound(j, threshold) for j, threshold in enumerate(thresholds.tolist())])

    def _bound(self, stream: int, log_threshold: float) -> float:
        lost = int(self.lost[stream])
        guard = self._rounding * (int(self.counts[stream]) + lost + 100)
        return _kernels.mean_bound(
            stream,
            log_threshold + guard,
            lost,
            float(self.ceilings[stream]),
            self._kept,
            self._log_weights,
            self._odds,
            self.mantissa,
            self.exponent,
        )

    def tighten(self, edges: FloatArray, proved: FloatArray, log_threshold: float, cash: float) -> bool:
        """Lower, in place, what is proved of stream 1 together with stream 0 by the product of their wealths.

        If the mean of stream 0 lies in ``[edges[k], edges[k+1]]``, that of stream 1 is at most ``proved[k]``: for all k and all n at once with
        probability at least ``1 - exp(-log_threshold)``, whoever chooses which stream is observed next, in whatever way. Proof:
        docs/guarantees.md, "The product region". Rounding is charged against the region.

        Args:
            edges: (G+1,) increasing, from 0 on, below the ceiling of stream 0.
            proved: (G,) so far; -1 where the interval of stream 0 is ruled out.
            log_threshold: log of one over the error.
            cash: share of either wealth that is never bet.

        Returns:
            Whether anything fell.
        """
        guards = np.asarray(self._rounding * (self.counts[:2] + self.lost[:2] + 100), dtype=np.float64)
        return bool(
            _kernels.region_tighten(
                edges,
                proved,
                log_threshold,
                cash,
                guards,
                self.lost,
                self.ceilings,
                self._kept,
                self._log_weights,
                self._odds,
                self.mantissa,
                self.exponent,
            )
        )

    def log_wealth(self, stream: int) -> FloatArray:
        """(K, G) log-wealth of each bet at each candidate mean, lost values included."""
        stream = self._stream(stream)
        worst = self.lost[stream] * np.log(self._kept)[:, None]
        wealth = np.log(self.mantissa[stream]) + _kernels.LN2 * self.exponent[stream] + worst
        return np.asarray(wealth, np.float64)

    def copy(self) -> Self:
        """An independent copy of the state; the configuration is shared."""
        return _copy(self, ("mantissa", "exponent", "counts", "lost", "_pending"))

    def _stream(self, stream: int) -> int:
        return check_integer("stream", stream, low=0, high=self.ceilings.size - 1)


class MeanLowerBounds:
    """Time-uniform lower bounds on the means of J streams: upper bounds on ``ceiling - X``, reflected.

    The same methods as :class:`MeanUpperBounds`. ``focus`` is where the bounds should be sharpest; a lost value counts
    as 0, the worst outcome for a lower bound. The reflected bet is ``c / m``: it scales with the mean, not with the
    ceiling, and the useful fractions ``m sqrt(2 ln(1/delta) / n) / s`` are small, so the default bets are not tilted.
    """

    def __init__(
        self, ceilings: ArrayLike, *, focus: float | None = None, points: int = 64, bets: BetGrid | None = None
    ) -> None:
        tops = _positive("ceilings", as_floats("ceilings", ceilings, (None,)))
        rows = [
            mean_grid(b, b - focus if focus is not None and 0.0 < focus < b else None, points) for b in tops.tolist()
        ]
        self.mirror = MeanUpperBounds(
            tops, means=np.array(rows), bets=bets if bets is not None else bet_grid(12, 0.003, tilt=0.0)
        )

    def update(self, stream: int, values: ArrayLike) -> None:
        """Record ``values`` (n,) in ``[0, ceiling]``."""
        self.mirror.update(stream, self._reflected(stream, values))

    def mark_lost(self, stream: int, count: int = 1) -> None:
        """Count ``count`` missing values as 0."""
        self.mirror.mark_lost(stream, count)

    def replace_lost(self, stream: int, values: ArrayLike) -> None:
        """Put the real ``values`` (n,) in the place of n lost ones."""
        self.mirror.replace_lost(stream, self._reflected(stream, values))

    def bound(self, stream: int, log_threshold: float) -> float:
        """Lower bound on the mean of one stream at error ``exp(-log_threshold)``; 0 if nothing better is known."""
        return float(self.mirror.ceilings[stream]) - self.mirror.bound(stream, log_threshold)

    def bounds(self, log_thresholds: ArrayLike) -> FloatArray:
        """(J,) lower bounds at thresholds (J,) (or one for all)."""
        return np.asarray(self.mirror.ceilings - self.mirror.bounds(log_thresholds))

    def _reflected(self, stream: int, values: ArrayLike) -> FloatArray:
        top = float(self.mirror.ceilings[self.mirror._stream(stream)])
        batch = _batch(values)
        _check_values(batch, 0.0, top)
        return top - batch


def mean_upper(values: ArrayLike, ceiling: float, delta: float, focus: float | None = None) -> float:
    """Betting upper bound, at error ``delta``, on the mean of values in ``[0, ceiling]``, after all of ``values`` (n,).

    >>> round(mean_upper([0.0] * 100, ceiling=1.0, delta=0.05), 3)
    0.035
    """
    delta = check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
    process = MeanUpperBounds([ceiling], focus=focus, points=256)
    process.update(0, values)
    return process.bound(0, -math.log(delta))


def mean_lower(values: ArrayLike, ceiling: float, delta: float, focus: float | None = None) -> float:
    """Betting lower bound, at error ``delta``, on the mean of values in ``[0, ceiling]``, after all of them (n,)."""
    delta = check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
    process = MeanLowerBounds([ceiling], focus=focus, points=256)
    process.update(0, values)
    return process.bound(0, -math.log(delta))


def mean_interval(values: ArrayLike, low: float, high: float, delta: float) -> tuple[float, float]:
    r"""Betting confidence interval ``(lower, upper)`` of the mean of independent values (m,) of one law on the declared range ``[low, high]``.

    Each side spends ``delta / 2``; whoever reads one side alone gives twice its error. For the upper side let ``x = value - low`` in ``[0, H]``.
    Against "the mean is at least mu" the wealth is

        K(mu) = prod_t (1 + lam_t(mu) (mu - x_t)),   lam_t(mu) = min(sqrt(2 ln(1/delta') / (m s2_{t-1})), c / (H - mu)),   delta' = delta / 2,

    with the running variance ``s2_t = (H^2/4 + sum_{i<=t} (x_i - m_i)^2) / (t+1)``, ``m_t = (H/2 + sum_{i<=t} x_i) / (t+1)``: bets look at the past
    only, so the wealth is a nonnegative supermartingale where the mean is mu or larger, and ``P(K(mu) >= 1/delta') <= delta'`` (WSR Theorem 3 and its
    bets for a fixed m). Every factor increases in mu, as in the module's docstring for both arguments of the minimum: what is not rejected is an
    interval, whose end is found by bisection and lies on the rejected side. The lower side is the mirror image. The order of the values matters
    a little; it must not have been chosen by looking at them. Without values it is the range.

    Raises:
        InvalidInput: an empty or infinite range, a value outside it, or a delta outside (0, 1).

    >>> lower, upper = mean_interval([0.5] * 200, low=-1.0, high=1.0, delta=0.1)
    >>> round(lower, 2), round(upper, 2)
    (0.47, 0.51)
    """
    low = check_real("low", low, open_low=True, open_high=True)
    high = check_real("high", high, low=low, open_low=True, open_high=True)
    delta = check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
    batch, width = _batch(values), high - low
    _check_values(batch, low, high)
    if not math.isfinite(width):
        raise InvalidInput(f"high - low must be finite, got {width:g}; narrow the range", code="SF-ARGUMENT-FINITE")
    if not batch.size:
        return low, high
    rounding = 4.0 * _kernels.EPSILON * max(abs(low), abs(high))
    upper = low + _one_sided_upper(np.minimum(batch - low, width), width, 0.5 * delta) + rounding
    lower = high - _one_sided_upper(np.minimum(high - batch, width), width, 0.5 * delta) - rounding
    return max(low, lower), min(high, upper)


def _one_sided_upper(x: FloatArray, ceiling: float, delta: float) -> float:
    """Upper bound at error ``delta`` on the mean of independent ``x`` (m,) in ``[0, ceiling]``; see :func:`mean_interval`."""
    t = np.arange(1, x.size + 1)
    means = (0.5 * ceiling + np.cumsum(x)) / (t + 1)
    variances = (0.25 * ceiling**2 + np.cumsum((x - means) ** 2)) / (t + 1)
    past = np.r_[0.25 * ceiling**2, variances[:-1]]
    bets = np.sqrt(-2.0 * math.log(delta) / (x.size * past))
    threshold = -math.log(delta) + 16.0 * _kernels.EPSILON * (x.size + 100)

    def rejected(mean: float) -> bool:
        capped = np.minimum(bets, PLUG_IN_FRACTION / (ceiling - mean))
        return bool(np.log1p(capped * (mean - x)).sum() >= threshold)

    below, above = 0.0, ceiling * (1.0 - 1e-9)
    if not rejected(above):
        return ceiling
    for _ in range(60):
        middle = 0.5 * (below + above)
        below, above = (below, middle) if rejected(middle) else (middle, above)
    return above


def empirical_bernstein_upper(values: ArrayLike, ceiling: float, delta: float, *, cap: float = 0.5) -> FloatArray:
    r"""(n,) time-uniform upper bounds after each of ``values`` (n,): predictable plug-in empirical Bernstein.

    WSR Theorem 2, its upper side at error ``delta``, for ``X = x / ceiling`` in [0, 1]:

        U_t = (sum_i lam_i X_i + ln(1/delta) + sum_i v_i psi(lam_i)) / sum_i lam_i,
        v_i = 4 (X_i - mu_{i-1})^2,   psi(lam) = (-ln(1 - lam) - lam) / 4,
        lam_t = min(cap, sqrt(2 ln(1/delta) / (s2_{t-1} t ln(1 + t)))),
        mu_t = (1/2 + sum_{i<=t} X_i) / (t+1),   s2_t = (1/4 + sum_{i<=t} (X_i - mu_i)^2) / (t+1).

    The running minimum is returned. An independent check on :class:`MeanUpperBounds`, which is narrower.
    """
    ceiling = check_real("ceiling", ceiling, low=0.0, open_low=True, high=math.inf, open_high=True)
    delta = check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
    cap = check_real("cap", cap, low=0.0, high=1.0, open_low=True, open_high=True)
    batch = _batch(values)
    _check_values(batch, 0.0, ceiling)
    x, t = batch / ceiling, np.arange(1, batch.size + 1)
    means = (0.5 + np.cumsum(x)) / (t + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2)) / (t + 1)
    past_means, past_variances = np.r_[0.5, means[:-1]], np.r_[0.25, variances[:-1]]
    bets = np.minimum(cap, np.sqrt(-2.0 * math.log(delta) / (past_variances * t * np.log1p(t))))
    penalty = np.cumsum((x - past_means) ** 2 * (-np.log1p(-bets) - bets))
    upper = (np.cumsum(bets * x) - math.log(delta) + penalty) / np.cumsum(bets)
    return np.asarray(ceiling * np.minimum(1.0, np.minimum.accumulate(upper)))


class IntervalWealth(Stateful):
    """E-processes of N cells, each of which predicts an interval for the mean of one signal under each of J policies.

    Under cell i's hypothesis (whatever the adaptive choice of policies) every component is a nonnegative
    supermartingale that starts at 1, hence so is :meth:`log_mean`'s average, for weights fixed before any data. Proof
    in the module's docstring. A pooled process over all policies is a second instance with one policy.

    Attributes:
        low, high: (N, J) range of the signal, from scalars or anything that broadcasts (it may differ by cell).
        hull_minus, hull_plus: (N, J) smallest ``m-`` and largest ``m+`` that any update may use, inside the range; by
            default the range itself. A lost observation is bet at ``low - hull_plus`` and ``hull_minus - high``, so
            narrow hulls make losses cheap.
        bets: the :class:`BetGrid`; its weights are shared equally by the two sides.
        policy_weights: (J,) default weights of :meth:`log_mean`.
        mantissa, exponent: (J, N, 2, K) wealths ``mantissa * 2**exponent``; side 0 bets on larger, side 1 on smaller
            means; lost values excluded.
        counts, lost: (J,) observations received and outstanding.
    """

    CHANGES = ("mantissa", "exponent", "counts", "lost", "_pending", "_block", "_touched")

    def __init__(
        self,
        cells: int,
        policies: int,
        low: ArrayLike,
        high: ArrayLike,
        *,
        hull_minus: ArrayLike | None = None,
        hull_plus: ArrayLike | None = None,
        bets: BetGrid | None = None,
        policy_weights: ArrayLike | None = None,
    ) -> None:
        shape = check_integer("cells", cells, low=1), check_integer("policies", policies, low=1)
        self.low, self.high = _spread("low", low, shape), _spread("high", high, shape)
        self.hull_minus = self.low if hull_minus is None else _spread("hull_minus", hull_minus, shape)
        self.hull_plus = self.high if hull_plus is None else _spread("hull_plus", hull_plus, shape)
        _ordered(self.low < self.high, "low must be < high", self.low, self.high)
        _ordered(self.low <= self.hull_minus, "low must be <= hull_minus", self.low, self.hull_minus)
        _ordered(self.hull_minus <= self.hull_plus, "hull_minus must be <= hull_plus", self.hull_minus, self.hull_plus)
        _ordered(self.hull_plus <= self.high, "hull_plus must be <= high", self.hull_plus, self.high)
        self.bets = bets if bets is not None else bet_grid(8, 0.01, tilt=0.0)
        uniform = np.full(shape[1], 1.0 / shape[1])
        self.policy_weights = uniform if policy_weights is None else self._weights(policy_weights, shape[1])
        scale = 1.0 / (self.high - self.low)
        columns = np.stack([self.low, self.high, self.hull_minus, self.hull_plus, scale], axis=-1)
        self._columns = freeze(columns.transpose(1, 0, 2))
        self._bet_weights = freeze(np.tile(0.5 * self.bets.weights, (2, 1)))
        self._everyone, self._period = np.arange(shape[0]), self.bets.period
        size = (shape[1], shape[0], 2, self.bets.fractions.size)
        self.mantissa, self.exponent = np.ones(size), np.zeros(size, np.int64)
        self.counts, self.lost, self._pending = np.zeros((3, shape[1]), np.int64)
        self._block = np.zeros((shape[1], shape[0]))
        self._touched = np.zeros(0, np.int64)

    @staticmethod
    def _weights(weights: ArrayLike, policies: int) -> FloatArray:
        array = as_floats("policy_weights", weights, (policies,))
        if np.any(array < 0.0) or not abs(float(array.sum()) - 1.0) <= 1e-9:
            raise InvalidInput(
                f"policy_weights must be >= 0 and sum to 1, got sum {array.sum():g}; normalise them",
                code="SF-ARGUMENT-SIMPLEX",
            )
        return array

    def update(
        self,
        policy: int,
        values: ArrayLike,
        m_minus: ArrayLike,
        m_plus: ArrayLike,
        active: NDArray[np.bool_] | None = None,
    ) -> None:
        """Record observations of one policy; nothing is recorded if an entry is refused.

        Args:
            policy: the policy j that ran; only its components move.
            values: (n,) the signal, or (n, N) where it differs by cell.
            m_minus, m_plus: (N,) predicted interval, or (n, N) where it depends on the observation's initial state. It
                must have been fixed when the observation was asked for (up to that initial state).
            alive: (N,) the cells to move, all by default; the others stand still and are out for good.

        Raises:
            InvalidInput: a value outside the range, or a prediction outside its hull, at a living cell.
        """
        policy, cells = self._policy(policy), self.low.shape[0]
        batch = _matrix("values", values, cells, column=True)
        minus = _matrix("m_minus", m_minus, cells, column=False)
        plus = _matrix("m_plus", m_plus, cells, column=False)
        if minus.shape != plus.shape or minus.shape[0] not in (1, batch.shape[0]):
            raise InvalidInput(
                f"m_minus and m_plus must both be (N,) or (n, N) with n = {batch.shape[0]}, "
                f"got {minus.shape} and {plus.shape}; give one row, or one row per value",
                code="SF-ARGUMENT-SHAPE",
            )
        verdict = _kernels.interval_update(
            policy,
            batch,
            minus,
            plus,
            self._living(active),
            self._columns,
            self.bets.fractions,
            self._bet_weights,
            self.mantissa,
            self.exponent,
            self._block,
            self._pending,
            int(self.lost[policy]),
            self._period,
        )
        if verdict[0] != _kernels.OK:
            self._refuse(policy, batch, minus, plus, *verdict)
        self._touch(policy, batch.shape[0])

    def mark_lost(self, policy: int, count: int = 1) -> None:
        """Give ``count`` observations that did not arrive the smallest factor any outcome could give."""
        policy = self._policy(policy)
        self.lost[policy] += check_integer("count", count, low=0)
        self._touch(policy, 0)
        self._refresh(policy)

    def replace_lost(
        self,
        policy: int,
        values: ArrayLike,
        m_minus: ArrayLike,
        m_plus: ArrayLike,
        active: NDArray[np.bool_] | None = None,
    ) -> None:
        """Put real observations in the place of lost ones; arguments as in :meth:`update`."""
        policy = self._policy(policy)
        batch = _matrix("values", values, self.low.shape[0], column=True)
        _check_outstanding(batch.shape[0], int(self.lost[policy]))
        self.update(policy, batch, m_minus, m_plus, active)
        self.lost[policy] -= batch.shape[0]
        self._refresh(policy)

    def log_mean(
        self, weights: ArrayLike | None = None, active: NDArray[np.bool_] | None = None, outside: float = np.nan
    ) -> FloatArray:
        """(N,) log of the average wealth per cell, over sides and bets and, with ``weights`` (J,), over policies.

        The weights must have been fixed before any data. Cells outside ``alive`` are not computed and read
        ``outside``, by default NaN, which is never above a threshold.
        """
        shares = self.policy_weights if weights is None else self._weights(weights, self.counts.size)
        # policies never observed have wealth exactly one
        untouched = self._touched.size < shares.size
        rest = max(0.0, 1.0 - float(shares[self._touched].sum())) if untouched else 0.0
        out = np.full(self._everyone.size, outside)
        _kernels.interval_mean(self._living(active), self._touched, shares, rest, self._block, out)
        return out

    def log_wealth(self) -> FloatArray:
        """(N, J, 2, K) log-wealth of every component, lost observations included."""
        wealth = np.log(self.mantissa) + _kernels.LN2 * self.exponent
        low, high, least, most, scale = np.moveaxis(self._columns, -1, 0)
        worst = np.stack([(low - most) * scale, (least - high) * scale], axis=2)[..., None] * self.bets.fractions
        wealth += self.lost[:, None, None, None] * np.log1p(worst)
        return np.ascontiguousarray(wealth.transpose(1, 0, 2, 3))

    def copy(self) -> Self:
        """An independent copy of the state; the configuration is shared."""
        return _copy(self, ("mantissa", "exponent", "counts", "lost", "_pending", "_block"))

    def _policy(self, policy: int) -> int:
        return check_integer("policy", policy, low=0, high=self.counts.size - 1)

    def _living(self, active: NDArray[np.bool_] | None) -> IntArray:
        if active is None:
            return self._everyone
        mask = np.asarray(active)
        if mask.dtype != np.bool_ or mask.shape != self._everyone.shape:
            raise InvalidInput(
                f"alive must be a mask of shape {self._everyone.shape}, got {mask.dtype} {mask.shape}; use booleans",
                code="SF-ARGUMENT-SHAPE",
            )
        return np.flatnonzero(mask)

    def _refuse(
        self, policy: int, values: FloatArray, minus: FloatArray, plus: FloatArray, code: int, t: int, cell: int
    ) -> None:
        low, high, least, most, _ = self._columns[policy, cell].tolist()
        if code == _kernels.BAD_VALUE:
            _refuse_value(values[:, cell if values.shape[1] > 1 else 0], t, low, high)
        raise InvalidInput(
            f"m_minus[{t}, {cell}] <= m_plus[{t}, {cell}] must lie in the hull [{least:g}, {most:g}], "
            f"got {minus[t, cell]:g} and {plus[t, cell]:g}; widen the hull or clip",
            code="SF-ARGUMENT-RANGE",
        )

    def _touch(self, policy: int, count: int) -> None:
        if not self.counts[policy] and policy not in self._touched:
            self._touched = np.append(self._touched, policy)
        self.counts[policy] += count

    def _refresh(self, policy: int) -> None:
        _kernels.interval_refresh(
            policy,
            self._everyone,
            int(self.lost[policy]),
            self._columns,
            self.bets.fractions,
            self._bet_weights,
            self.mantissa,
            self.exponent,
            self._block,
        )


def _batch(values: ArrayLike) -> FloatArray:
    """``values`` as a writeable, contiguous (n,) array: the kernels are compiled for one layout only."""
    try:
        array = np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput("values must be numbers; convert them to float64", code="SF-ARGUMENT-TYPE") from error
    if np.ndim(values) != 1:
        raise InvalidInput(
            f"values must have shape (n,), got {np.shape(values)}; pass one value as a list of one",
            code="SF-ARGUMENT-SHAPE",
        )
    return array if array.flags.writeable else array.copy()


def _matrix(name: str, value: ArrayLike, cells: int, *, column: bool) -> FloatArray:
    """``value`` as (n, N); a vector becomes a column (one number per observation) or a row (one per cell)."""
    try:
        array = np.ascontiguousarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} must be numbers; convert them to float64", code="SF-ARGUMENT-TYPE") from error
    if np.ndim(value) == 1:
        array = array[:, None] if column else array[None, :]
    if array.ndim != 2 or array.shape[1] not in ((1, cells) if column else (cells,)):
        vector = "(n,)" if column else "(N,)"
        raise InvalidInput(
            f"{name} must have shape {vector} or (n, N) with N = {cells}, got {np.shape(value)}; reshape it",
            code="SF-ARGUMENT-SHAPE",
        )
    return array if array.flags.writeable and array.flags.c_contiguous else np.array(array, order="C")


def _check_values(batch: FloatArray, low: float, high: float) -> None:
    bad = _kernels.first_outside(batch, low, high)
    if bad >= 0:
        _refuse_value(batch, bad, low, high)


def _refuse_value(batch: FloatArray, index: int, low: float, high: float) -> NoReturn:
    raise InvalidInput(
        f"values[{index}] must lie in [{low:g}, {high:g}], got {batch[index]:.9g}; "
        "the declared range is wrong, or the report",
        code="SF-ARGUMENT-RANGE",
    )


def _check_outstanding(count: int, lost: int) -> None:
    if count > lost:
        raise InvalidInput(
            f"values must be at most as many as are lost, got {count} for {lost}; use update for new ones",
            code="SF-ARGUMENT-RANGE",
        )


def _positive(name: str, array: FloatArray) -> FloatArray:
    if not array.size:
        raise InvalidInput(f"{name} must not be empty; give one entry per stream", code="SF-ARGUMENT-EMPTY")
    if np.any(array <= 0.0):
        index = first_where(array <= 0.0)[0]
        raise InvalidInput(
            f"{name}[{index}] must be > 0, got {array[index]:g}; check its unit", code="SF-ARGUMENT-RANGE"
        )
    return array


def _spread(name: str, value: ArrayLike, shape: tuple[int, int]) -> FloatArray:
    try:
        return as_floats(name, np.broadcast_to(np.asarray(value), shape), shape)
    except ValueError as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"{name} must broadcast to (N, J) = {shape}, got {np.shape(value)}; check the axes",
            code="SF-ARGUMENT-SHAPE",
        ) from error


def _ordered(holds: NDArray[np.bool_], rule: str, left: FloatArray, right: FloatArray) -> None:
    if not holds.all():
        index = first_where(~holds)
        raise InvalidInput(
            f"{rule}, got {left[index]:g} and {right[index]:g} at {index}; check the range of the signal",
            code="SF-ARGUMENT-ORDER",
        )


def _copy(original: T, state: tuple[str, ...]) -> T:
    twin = copy.copy(original)
    for name in state:
        setattr(twin, name, getattr(original, name).copy())
    return twin
