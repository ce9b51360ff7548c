r"""The number of cells, chosen on the training tasks alone.

More cells are sharper, and cover less: every cell needs training tasks of its own, and a fresh task near an edge lies in none. How many cells
a sample supports is found by cross-validation. The T tasks are split into :data:`FOLDS` parts; cells are made from all parts but one, at most n
of them, and the tasks of the part left out that lie in no cell are *missed*. With ``k_n`` misses in all, a hold-out of H tasks is expected to
miss a share of

    p_n = (k_n + sqrt(k_n + 1)) / T

(one standard error above what was found). It is passed when at most m of its tasks are missed, where m is the largest number whose
Clopper-Pearson limit, at the level of the next look, is at most ``p_max``. Numbers are tried from the largest down, each half of the one before,
until ``P(Binomial(H, p_n) <= m)`` is at least :data:`CHANCE`; then one more is tried halfway to the last that failed. Where none passes, the n with
the best chance is taken, unless that is below :data:`HOPELESS`: then training is refused before the hold-out is drawn, so that no look is spent.

Cells of a fold are made from fewer tasks than the final ones, which errs on the careful side. The hold-out is not touched: what it guarantees holds
whatever the number of cells is and however it was chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from surefoot.arrays import IntArray, check_integer
from surefoot.errors import AssumptionError, InvalidInput
from surefoot.stats.binomial import simulated_upper, trials_without_failure

__all__ = ["CellsChoice", "CoverageTarget", "add_nothing", "checked_cells", "choose_cells", "folds"]

FOLDS = 4
CHANCE = 0.8
HOPELESS = 0.5
MOST = 256
"""More cells than this are only made on request: planning and evidence slow down with their number."""
TASKS_PER_CELL = 3


@dataclass(frozen=True)
class CellsChoice:
    """How many cells, and why.

    Attributes:
        cells: the largest number of cells to be made.
        p_max: the uncovered share that the hold-out is to exclude.
        level: error probability at which it does so.
        tasks: T, training tasks that were left out once each.
        tried: (n, misses, chance to pass) of every number tried, by number.
    """

    cells: int
    p_max: float
    level: float
    tasks: int
    tried: tuple[tuple[int, int, float], ...]

    def data(self) -> dict[str, Any]:
        """Plain data for the policy set."""
        return {
            "cells": self.cells,
            "p_max": self.p_max,
            "level": self.level,
            "tasks": self.tasks,
            "tried": [{"cells": n, "missed": missed, "chance": chance} for n, missed, chance in self.tried],
        }


def add_nothing(failures: int) -> float:
    """What exact values add to a limit after so many failures."""
    return 0.0


def checked_cells(cells: Any, holdout: int) -> int | Literal["auto"]:
    """``cells`` as given by the user.

    Raises:
        InvalidInput: neither a number >= 1 nor ``"auto"``; or ``"auto"`` without a hold-out that could pass or fail.
    """
    if isinstance(cells, str):
        if cells != "auto":
            raise InvalidInput(
                f'cells must be a number >= 1 or "auto", got {cells!r}; write cells="auto"', code="SF-ARGUMENT-CHOICE"
            )
        if not holdout:
            raise InvalidInput(
                'holdout must be at least 1 with cells="auto", got 0; the choice is made for a hold-out to pass',
                code="SF-TRAINING-HOLDOUT",
            )
        return "auto"
    return check_integer("cells", cells, low=1)


def folds(n_tasks: int) -> list[IntArray]:
    """Which of T tasks each fold leaves out; tasks are independent draws, so any fixed split is as good as another."""
    return [np.arange(start, n_tasks, FOLDS) for start in range(min(FOLDS, n_tasks))]


def choose_cells(
    missed: Callable[[int], int],
    *,
    tasks: int,
    holdout: int,
    level: float,
    p_max: float,
    upper: Callable[[int], float],
) -> CellsChoice:
    """Choose the number of cells.

    Args:
        missed: ``missed(n)`` -> how many of the T tasks, left out once each, lie in no cell when at most n cells are made from the others.
        tasks: T.
        holdout: H.
        level: error probability of the next look's limit on the uncovered share.
        p_max: what that limit must not exceed.
        upper: ``upper(k)`` -> that limit after k misses among H.

    Raises:
        InvalidInput: the hold-out is too small to show ``p_max`` even without a miss.
        AssumptionError: no number of cells has a fair chance to pass.
    """
    allowed = _allowed(upper, holdout, p_max)
    if allowed < 0:
        raise InvalidInput(
            f"holdout must be at least {trials_without_failure(p_max, level)} to show p_max={p_max:g} at error {level:.3g} (this look), got "
            f"{holdout}; raise holdout or p_max",
            code="SF-TRAINING-HOLDOUT",
        )
    tried: dict[int, tuple[int, float]] = {}

    def chance(n: int) -> float:
        if n not in tried:
            found = missed(n)
            expected = min(1.0, (found + np.sqrt(found + 1.0)) / tasks)
            tried[n] = found, _passes(allowed, holdout, expected)
        return tried[n][1]

    n = max(1, min(MOST, tasks // TASKS_PER_CELL))
    while chance(n) < CHANCE and n > 1:
        n //= 2
    if tried[n][1] >= CHANCE and n < max(tried):
        chance(round((n * min(k for k in tried if k > n)) ** 0.5))
    good = [k for k, (_, value) in tried.items() if value >= CHANCE]
    best = max(good) if good else max(tried, key=lambda k: (tried[k][1], -tried[k][0], k))
    rows = tuple((n, *tried[n]) for n in sorted(tried))
    if tried[best][1] < HOPELESS:
        listed = ", ".join(f"{n}: {k}" for n, k, _ in rows)
        raise AssumptionError(
            f'cells="auto" found no number of cells whose hold-out would show p_max={p_max:g} (of {tasks} training tasks left out, so many lie in '
            f"no cell, by number of cells: {listed}); use more training tasks (tasks={2 * tasks} or more), or raise p_max or holdout. The hold-out "
            "was not drawn: no look is spent",
            code="SF-ASSUMPTION-CELLS",
        )
    return CellsChoice(best, p_max, level, tasks, rows)


@dataclass(frozen=True, eq=False)
class CoverageTarget:
    """What the hold-out has to show, where the number of cells is chosen for it.

    Attributes:
        holdout: H.
        level: error probability of the next look's limit on the uncovered share.
        p_max: what that limit must not exceed.
        added: ``added(k)`` -> what simulated values add to the limit after k misses.
    """

    holdout: int
    level: float
    p_max: float
    added: Callable[[int], float] = add_nothing

    def choose(self, missed: Callable[[int], int], tasks: int) -> CellsChoice:
        """The number of cells; ``missed(n)`` of T tasks as in :func:`choose_cells`, which says what is raised."""

        def upper(k: int) -> float:
            return simulated_upper(k, self.holdout, self.level, self.added(k))

        return choose_cells(missed, tasks=tasks, holdout=self.holdout, level=self.level, p_max=self.p_max, upper=upper)


def _allowed(upper: Callable[[int], float], holdout: int, p_max: float) -> int:
    """The largest number of misses at which the hold-out shows ``p_max``; -1 where none does."""
    low, high = -1, holdout + 1
    while high - low > 1:
        middle = (low + high) // 2
        if middle <= holdout and upper(middle) <= p_max:
            low = middle
        else:
            high = middle
    return low


def _passes(allowed: int, holdout: int, share: float) -> float:
    from scipy.stats import binom

    return float(binom.cdf(allowed, holdout, share))
