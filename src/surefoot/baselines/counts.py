"""What a model-based learner knows of the transitions: a support and pooled counts.

With ``N(s,a,s')`` the number of observed transitions, pooled over time steps and episodes, and ``N(s,a) = sum_s' N(s,a,s')``,

    P-hat(s'|s,a) = N(s,a,s') / max(1, N(s,a)),        uniform over the support where N(s,a) = 0.

A *due* estimate is one for which some ``N(s,a)`` is at least twice what it was when the estimate was last used (a first visit counts as
doubling). Re-solving only then changes regret by a constant factor (Jaksch, Ortner & Auer 2010, section 2) and the number of solves from
one per episode to ``O(S A log N)``. Pairs with one possible successor have nothing to estimate and never make an estimate due.

Letters: S states, A actions, E entries of the support, m rows of a report.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_real, first_where, freeze
from surefoot.errors import InvalidInput, InvalidReport

__all__ = ["ModelEstimate", "Support", "TransitionCounts"]


@dataclass(frozen=True, eq=False)
class Support:
    """Successors that each state and action can have.

    Args:
        n_states, n_actions: S, A.
        triples: (E, 3) rows ``(s, a, s')`` in lexicographic order, or ``None``: every state may follow.

    Raises:
        InvalidInput: labels out of range, unsorted or repeated triples, or a pair (s, a) without any successor.
    """

    n_states: int
    n_actions: int
    triples: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "triples", freeze(self._everything() if self.triples is None else self._checked()))
        bare = self.sizes == 0
        if bare.any():
            pair = divmod(first_where(bare)[0], self.n_actions)
            raise InvalidInput(
                f"support of (s, a) = {pair} must hold a successor, got none; add the missing triples",
                code="SF-ARGUMENT-EMPTY",
            )

    def _everything(self) -> IntArray:
        return np.argwhere(np.ones((self.n_states, self.n_actions, self.n_states), dtype=bool)).astype(np.int64)

    def _checked(self) -> IntArray:
        triples = np.asarray(self.triples)
        if triples.ndim != 2 or triples.shape[1] != 3 or triples.dtype.kind not in "iu":
            raise InvalidInput(
                f"support must be (E, 3) whole numbers, got {triples.shape} of {triples.dtype}; list triples",
                code="SF-ARGUMENT-SHAPE",
            )
        high = np.array([self.n_states, self.n_actions, self.n_states])
        bad = (triples < 0) | (triples >= high)
        if bad.any():
            row, axis = first_where(bad)
            raise InvalidInput(
                f"support[{row}, {axis}] must lie in [0, {high[axis]}), got {triples[row, axis]}; check S and A",
                code="SF-ARGUMENT-RANGE",
            )
        keys = _keys(triples, self.n_states, self.n_actions)
        if (np.diff(keys) <= 0).any():
            row = first_where(np.diff(keys) <= 0)[0] + 1
            raise InvalidInput(
                f"support[{row}] must follow its predecessor in order, got {triples[row].tolist()}; sort",
                code="SF-ARGUMENT-ORDER",
            )
        return triples.astype(np.int64)

    @cached_property
    def keys(self) -> IntArray:
        """(E,) increasing numbers of the triples."""
        return freeze(_keys(self.triples, self.n_states, self.n_actions))

    @cached_property
    def rows(self) -> IntArray:
        """(E,) pair ``s*A + a`` of every entry."""
        return freeze(self.triples[:, 0] * self.n_actions + self.triples[:, 1])

    @cached_property
    def successors(self) -> IntArray:
        """(E,)."""
        return freeze(self.triples[:, 2])

    @cached_property
    def sizes(self) -> IntArray:
        """(S*A,) number of possible successors."""
        return freeze(np.bincount(self.rows, minlength=self.n_states * self.n_actions))

    @cached_property
    def first(self) -> IntArray:
        """(S*A,) where the entries of each pair begin."""
        return freeze(np.concatenate([[0], np.cumsum(self.sizes)[:-1]]))

    @cached_property
    def certain(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(S*A,) pairs with one possible successor, whose transition is known without data."""
        return freeze(self.sizes == 1)

    def sum(self, values: FloatArray) -> FloatArray:
        """(S*A,) sums over successors of an (E,) array."""
        return np.add.reduceat(values, self.first)

    def __len__(self) -> int:
        return int(self.rows.size)


def _keys(triples: IntArray, n_states: int, n_actions: int) -> IntArray:
    keys: IntArray = (triples[:, 0] * n_actions + triples[:, 1]) * n_states + triples[:, 2]
    return keys


@dataclass(frozen=True, eq=False)
class ModelEstimate:
    """A snapshot of the counts.

    Attributes:
        support: of the transitions.
        probabilities: (E,) ``P-hat``.
        visits: (S*A,) ``N(s,a)``.
    """

    support: Support
    probabilities: FloatArray
    visits: FloatArray

    @cached_property
    def entry_visits(self) -> FloatArray:
        """(E,) ``N(s,a)`` of each entry's pair."""
        return self.visits[self.support.rows]

    @cached_property
    def known(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(E,) entries of pairs with one possible successor."""
        return self.support.certain[self.support.rows]

    def scaled(self, factor: float) -> ModelEstimate:
        """The same proportions with ``factor`` times the data: what more of the same episodes would give."""
        factor = check_real("factor", factor, low=0.0, open_low=True)
        return ModelEstimate(self.support, self.probabilities, self.visits * factor)


class TransitionCounts:
    """Pooled counts; the one mutable part of a model-based learner.

    Args:
        support: successors that are possible.

    Attributes:
        outside: how many observed transitions the support excludes; one is enough to prove it wrong.
    """

    def __init__(self, support: Support) -> None:
        self.support = support
        self.outside = 0
        self._counts: IntArray = np.zeros(len(support), dtype=np.int64)
        self._visits: IntArray = np.zeros(support.sizes.size, dtype=np.int64)
        self._marked: IntArray = np.zeros_like(self._visits)

    def check(self, transitions: Any) -> IntArray:
        """A report (m, 4) of rows ``(s, a, s', count)`` as integers; nothing is recorded yet.

        Raises:
            InvalidReport: wrong shape, fractions, labels out of range, negative counts.
        """
        table = np.asarray(transitions)
        if table.ndim != 2 or table.shape[1] != 4 or table.dtype.kind not in "iu":
            raise InvalidReport(
                f"transitions must be (m, 4) whole numbers (s, a, s', count), got {table.shape} of {table.dtype}; "
                "the episodes stay pending",
                code="SF-REPORT-TRANSITIONS",
            )
        n, a = self.support.n_states, self.support.n_actions
        bad = (table < 0) | (table >= np.array([n, a, n, 2**53]))
        if bad.any():
            row, axis = first_where(bad)
            part = ("a state", "an action", "a successor", "a count")[axis]
            bound = (n, a, n, 2**53)[axis]
            raise InvalidReport(
                f"transitions[{row}, {axis}] must be {part} in [0, {bound}), got {table[row, axis]}; the episodes stay pending",
                code="SF-REPORT-TRANSITIONS",
            )
        return table.astype(np.int64)

    def add(self, transitions: IntArray) -> None:
        """Record a checked report."""
        keys = _keys(transitions, self.support.n_states, self.support.n_actions)
        at = np.minimum(np.searchsorted(self.support.keys, keys), len(self.support) - 1)
        inside = self.support.keys[at] == keys
        self.outside += int(transitions[~inside, 3].sum())
        np.add.at(self._counts, at[inside], transitions[inside, 3])
        self._visits = np.add.reduceat(self._counts, self.support.first)

    @property
    def due(self) -> bool:
        """Whether some ``N(s,a)`` has doubled since :meth:`mark`."""
        grown = (self._visits >= 2 * self._marked) & (self._visits > 0) & ~self.support.certain
        return bool(grown.any())

    def mark(self) -> None:
        """The present counts have been used."""
        self._marked = self._visits.copy()

    def estimate(self) -> ModelEstimate:
        """``P-hat`` and ``N(s,a)`` now."""
        visits = self._visits.astype(np.float64)
        seen = visits[self.support.rows]
        uniform = 1.0 / self.support.sizes[self.support.rows]
        # A pair with one possible successor is known without data.
        frequencies = np.where(seen > 0.0, self._counts / np.maximum(seen, 1.0), uniform)
        return ModelEstimate(self.support, frequencies, visits)
