"""How far a mean over tasks would move with other tasks.

Repeats of one task are not independent of each other, so whole tasks are drawn, with all their repeats (cluster bootstrap, percentile ends;
Efron & Tibshirani 1993, sections 8 and 13). A description of spread for tables: no statement about safety rests on it.

SciPy draws. The ends are read off its distribution here: SciPy's own ``confidence_interval`` takes the same quantiles by way of percent, which moves
them by one rounding error, and summaries of older runs would not be reproduced to the last digit. One task alone, which SciPy refuses, is its own
interval.

Letters: n values, T tasks.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from surefoot.arrays import FloatArray, as_floats, check_real
from surefoot.errors import InvalidInput

__all__ = ["mean_over_tasks"]

DRAWS = 4000


def mean_over_tasks(
    values: FloatArray, tasks: Sequence[Hashable], *, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Mean over tasks of their means, and the ends of its bootstrap interval.

    Args:
        values: (n,) one per run.
        tasks: (n,) which task each run was on.
        level: coverage aimed at.
        seed: of the draws.

    Raises:
        InvalidInput: no values, or not one task for each.

    >>> mean_over_tasks([1.0, 3.0, 5.0], ["a", "a", "b"])
    (3.5, 2.0, 5.0)
    """
    array = as_floats("values", values, (None,))
    level = check_real("level", level, low=0.0, high=1.0, open_low=True, open_high=True)
    if not array.size or len(tasks) != array.size:
        raise InvalidInput(
            f"tasks must name the task of each of {array.size} >= 1 values, got {len(tasks)}; give one per run",
            code="SF-ARGUMENT-LENGTH",
        )
    numbers = {task: k for k, task in enumerate(dict.fromkeys(tasks))}
    rows = np.array([numbers[task] for task in tasks])
    means = np.bincount(rows, weights=array) / np.bincount(rows)
    mean = float(means.mean())
    if means.size == 1:
        return mean, mean, mean
    from scipy.stats import bootstrap

    drawn = bootstrap(
        (means,), np.mean, n_resamples=DRAWS, method="percentile", vectorized=True, rng=np.random.default_rng(seed)
    )
    low, high = np.quantile(drawn.bootstrap_distribution, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
    return mean, float(low), float(high)
