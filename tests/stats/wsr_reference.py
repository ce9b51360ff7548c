"""Published betting bounds, written from their formulas with all data in memory; a yardstick for tests and benchmarks.

Waudby-Smith & Ramdas (2024), upper sides only, error ``delta`` all on that side, data in [0, 1]:

* predictable plug-in bets ``lam_t = sqrt(2 ln(1/delta) / (s2_{t-1} t ln(1 + t)))``;
* hedged capital's upper side: reject m once ``prod_t (1 - min(lam_t, c/(1-m)) (x_t - m)) >= 1/delta``;
* predictable plug-in Hoeffding: bets ``min(1, sqrt(8 ln(1/delta) / (t ln(1 + t))))`` and ``psi(lam) = lam^2 / 8``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def plug_in_bets(x: Any, delta: float) -> Any:
    t = np.arange(1, x.size + 1)
    means = (0.5 + np.cumsum(x)) / (t + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2)) / (t + 1)
    past = np.concatenate([[0.25], variances[:-1]])
    return np.sqrt(-2 * math.log(delta) / (past * t * np.log1p(t)))


def hedged_upper(x: Any, delta: float, cap: float = 0.75) -> float:
    """Crossing of the capital after all data, by bisection (no grid)."""
    bets = plug_in_bets(x, delta)
    low, high = 0.0, 1.0
    for _ in range(40):
        m = 0.5 * (low + high)
        # the factor against a too large mean m, positive because the bet is at most c / (1 - m)
        log_capital = np.log1p(-np.minimum(bets, cap / (1 - m)) * (x - m)).sum()
        low, high = (low, m) if log_capital >= -math.log(delta) else (m, high)
    return high


def hoeffding_upper(x: Any, delta: float) -> float:
    t = np.arange(1, x.size + 1)
    bets = np.minimum(1.0, np.sqrt(-8 * math.log(delta) / (t * np.log1p(t))))
    upper = (np.cumsum(bets * x) - math.log(delta) + np.cumsum(bets**2 / 8)) / np.cumsum(bets)
    return float(min(1.0, upper.min()))


def fixed_bets_upper(x: Any, delta: float, fractions: Any, weights: Any, *, scaled: bool = True) -> float:
    """Our own mixture without grid or chords: the exact crossing, with all data kept.

    Bets are ``c / (1 - m)``, or (not ``scaled``) ``c`` whatever m is.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        m = 0.5 * (low + high)
        logs = np.log1p(fractions[:, None] / (1 - m if scaled else 1) * (m - x)).sum(axis=1) + np.log(weights)
        top = logs.max()
        crossed = top + math.log(np.exp(logs - top).sum()) >= -math.log(delta)
        low, high = (low, m) if crossed else (m, high)
    return high
