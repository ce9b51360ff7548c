r"""Which policies a library should hold, where tasks have many parameters.

A deployment plays mixtures of the library, so a library is as good as its best mixtures: with ``V_jt`` the values of candidate j in training task t,

    worth(L) = mean over t of  max { return of (1 - w) pi_a + w pi_b in task t :  a, b in L, costs within the limits }

Candidates are the optima of a cover of the training tasks. The safe policy comes first, then always the candidate that adds most (greedy; worth is
monotone in L). With one constraint two policies are enough for the best mixture, with several the pair is a lower bound.

Letters: T tasks, C candidates, I constraints.
"""

from __future__ import annotations

import numpy as np

from surefoot.arrays import FloatArray, IntArray

__all__ = ["choose_library", "pair_worth"]


def pair_worth(first: FloatArray, second: FloatArray, limits: FloatArray) -> FloatArray:
    """(...,) the largest return of mixtures of two policies with values (..., 1+I), the first of which keeps the limits; else ``-inf``."""
    over_first, over_second = first[..., 1:] - limits, second[..., 1:] - limits
    allowed = np.asarray((over_first <= 0.0).all(axis=-1))
    # Where the first keeps the limit and the second does not, the difference is positive.
    crossing = allowed[..., None] & (over_second > 0.0)
    share = np.where(crossing, -over_first / np.where(crossing, over_second - over_first, 1.0), 1.0).min(axis=-1)
    mixed = first[..., 0] + np.maximum(second[..., 0] - first[..., 0], 0.0) * share
    found: FloatArray = np.where(allowed, mixed, -np.inf)
    return found


def choose_library(values: FloatArray, limits: FloatArray, size: int) -> IntArray:
    """Indices of the candidates to take, in the order in which they were taken.

    Args:
        values: (T, 1 + C, 1 + I) of the safe policy and of C candidates in T training tasks.
        limits: (I,).
        size: how many to take at most; fewer where no further one adds anything.
    """
    best = pair_worth(values[:, 0], values[:, 0], limits)
    best = np.where(np.isfinite(best), best, values[:, 0, 0])
    # What candidate j would make of every task beside the policies chosen so far.
    reach = np.maximum(
        pair_worth(values[:, :1], values, limits), np.maximum(pair_worth(values, values[:, :1], limits), best[:, None])
    )
    reach = np.maximum(reach, pair_worth(values, values, limits))
    chosen: list[int] = []
    for _ in range(min(size, values.shape[1] - 1)):
        gains = reach.mean(axis=0) - best.mean()
        gains[[0, *chosen]] = -np.inf
        j = int(gains.argmax())
        if not gains[j] > 0.0:
            break
        chosen.append(j)
        best = reach[:, j].copy()
        with_j = np.maximum(
            pair_worth(values[:, j : j + 1], values, limits), pair_worth(values, values[:, j : j + 1], limits)
        )
        reach = np.maximum(reach, np.maximum(with_j, best[:, None]))
    return np.array(chosen, dtype=np.int64) - 1
