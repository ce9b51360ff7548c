"""Boxes of task quantities: cells under construction, whatever the quantities are and however they were found.

A cell is a box ``H_i = {M : lo_i <= q(M) <= hi_i}`` for the quantities ``q(M)`` of a task M. It is the hull of what is known of its tasks, exact
quantities or intervals, and is then widened,

    lo_i - f max(w_i, mean_k w_k) - z,     hi_i + f max(w_i, mean_k w_k) + z,         w_i = hi_i - lo_i,

inside the range that the quantities have. Cells are only sets of tasks: whatever they are made of, no error probability is spent on them. What the
quantities are, their slack z and their ranges is said by a layout: :class:`surefoot.training.cells.Layout` for exact quantities of tabular
tasks, :class:`surefoot.gym.cells.IntervalLayout` for simulated ones.

Letters: N cells, Q quantities (any shape).
"""

from __future__ import annotations

import itertools
from typing import Any, Protocol

import numpy as np

from surefoot.arrays import FloatArray, IntArray

__all__ = ["INFLATION", "BoxLayout", "Boxes", "corner_tasks", "keeps_margin"]

INFLATION = 0.02
"""Finished cells are widened by this share ``f`` of their width."""
FIRST_QUANTITIES = 32


class BoxLayout(Protocol):
    """What the quantities of a task are."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one task's quantities."""
        ...

    @property
    def upper_only(self) -> Any:
        """Boolean, broadcast to ``shape``: quantities whose lower end does not decide whether a task lies in a cell."""
        ...

    def slack(self, lower: FloatArray, upper: FloatArray) -> FloatArray:
        """``z``, broadcast to (N, *shape), from the hulls."""
        ...

    def ranges(self, lower: FloatArray, upper: FloatArray) -> tuple[Any, Any]:
        """Smallest and largest values that a box may reach, broadcast to (N, *shape), from the hulls."""
        ...


class Boxes:
    """(N, *shape) boxes under construction; :meth:`include` widens one, :meth:`inflate` ends it.

    Args:
        n_cells: N.
        layout: what the quantities are.

    Attributes:
        lower, upper: (N, *shape); of a cell without tasks infinite, the wrong way round.
        center: (N, *shape) quantities of the member of the cover, NaN where there is none.
    """

    def __init__(self, n_cells: int, layout: BoxLayout) -> None:
        self.layout = layout
        shape = (n_cells, *layout.shape)
        self.lower, self.upper = np.full(shape, np.inf), np.full(shape, -np.inf)
        self.center = np.full(shape, np.nan)

    def include(self, cell: int, lower: FloatArray, upper: FloatArray | None = None, *, center: bool = False) -> None:
        """Widen one cell so that it holds the intervals of a task; quantities without ``upper`` are exact.

        ``center`` makes that task the cell's member of the cover.
        """
        np.minimum(self.lower[cell], lower, out=self.lower[cell])
        np.maximum(self.upper[cell], lower if upper is None else upper, out=self.upper[cell])
        if center:
            self.center[cell] = lower

    def inflate(self, fraction: float) -> None:
        """Widen every interval by a fraction of its width, or of the mean width over cells where that is larger, and by the layout's slack.

        A quantity that has an extremum inside a cell has a narrow interval there, and a task between two sampled ones overshoots it: the
        other cells tell by how much.
        """
        width = self.upper - self.lower
        pad = np.maximum(width, width.mean(axis=0), out=width)
        pad *= fraction
        pad += self.layout.slack(self.lower, self.upper)
        low, high = self.layout.ranges(self.lower, self.upper)
        np.maximum(np.subtract(self.lower, pad, out=self.lower), low, out=self.lower)
        np.minimum(np.add(self.upper, pad, out=self.upper), high, out=self.upper)

    def consistent(self, lower: FloatArray, upper: FloatArray | None = None) -> IntArray:
        """Indices of the cells that hold all intervals of a task; quantities without ``upper`` are exact."""
        low = lower.ravel()
        high = low if upper is None else upper.ravel()
        open_below = np.broadcast_to(self.layout.upper_only, self.layout.shape).ravel()
        lowest, highest = (ends.reshape(len(ends), -1) for ends in (self.lower, self.upper))
        alive, begin, size = np.arange(len(lowest)), 0, FIRST_QUANTITIES
        # A few quantities tell most cells apart; the rest is looked at where those leave a doubt.
        while begin < low.size and alive.size:
            part = slice(begin, begin + size)
            above = (low[part] >= lowest[alive, part]) | open_below[part]
            alive = alive[(above & (high[part] <= highest[alive, part])).all(axis=1)]
            begin, size = begin + size, size * 8
        return alive


def keeps_margin(margins: Any, stated: float | None) -> Any:
    """Whether the safe policy keeps the margin that was stated, or any where none was."""
    return margins > 0.0 if stated is None else margins >= stated


def corner_tasks(support: FloatArray, most: int) -> FloatArray:
    """(2^p, p) corners of the declared support (p, 2), where the safe policy is most likely to fail.

    None where the support is unbounded, or has more than ``most`` parameters.
    """
    if not np.isfinite(support).all() or len(support) > most:
        return np.zeros((0, len(support)))
    return np.asarray(list(itertools.product(*support)), dtype=np.float64)
