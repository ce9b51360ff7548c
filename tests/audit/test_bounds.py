"""Where moments first reject a mean: the quick search agrees with one that looks at every moment by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from surefoot.arrays import FloatArray
from surefoot.audit.bounds import least_crossing


def log_wealth(logs: FloatArray, share: float, g: int) -> float:
    """On the chord from grid point g - 1 to g."""
    return math.log(math.fsum(math.exp((1.0 - share) * row[g - 1] + share * row[g]) for row in logs.tolist()))


def crossing(logs: FloatArray, odds: FloatArray, top: float, level: float) -> float:
    """The smallest mean that one moment rejects, by halves; ``top`` if none."""
    points = [log_wealth(logs, 1.0, g) if g else log_wealth(logs, 0.0, 1) for g in range(odds.size)]
    if points[-1] < level:
        return top
    g = max(1, next(k for k, total in enumerate(points) if total >= level))
    left, right = 0.0, 1.0
    for _ in range(52):
        middle = 0.5 * (left + right)
        left, right = (left, middle) if log_wealth(logs, middle, g) >= level else (middle, right)
    odd = odds[g - 1] + right * (odds[g] - odds[g - 1])
    return float(top - top / odd)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("n", [1, 2, 9, 60])
def test_the_least_crossing_of_many_moments_is_that_of_the_best_one(seed: int, n: int) -> None:
    rng = np.random.default_rng([seed, n])
    top, fractions, means = 4.0, np.array([0.1, 0.3, 0.6, 0.9]), np.linspace(0.2, 3.9, 12)
    odds = top / (top - means)
    costs = rng.uniform(0.0, 2.0 if seed % 2 else 3.0, size=n)
    c = fractions[:, None]
    steps = np.log(1.0 - c + c * ((1.0 - costs / top)[:, None, None] * odds))
    start = np.full((4, 12), math.log(0.25)) + rng.uniform(0.0, 1.0) * np.log(1.0 - c + c * 0.8 * odds)
    level, value = float(rng.uniform(0.2, 4.0)), float(rng.choice([top, 3.5, 2.5]))
    walks = start + np.cumsum(steps, axis=0)
    expected = min(value, *(crossing(walk, odds, top, level) for walk in walks))
    found = least_crossing(start, steps, odds, top, level, value)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)
