"""Policies and per-episode mixtures of them.

A *mixture* ``w`` in the simplex over a library ``pi_1..pi_J`` draws **one policy per episode** and keeps it for the
whole episode, so that expected discounted return and costs are linear in the weights:

    V(w) = sum_j w_j V(pi_j)                                   (Ni & Kamgarpour 2026, section 4.2)

Everything the deployment phase proves rests on that line: mixing actions step by step would break it.

Letters: S states, A actions, J policies, I constraints.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from surefoot.arrays import FloatArray, as_floats, check_integer, check_probabilities
from surefoot.errors import InvalidInput

__all__ = ["Mixture", "Policy", "TabularPolicy", "as_tables"]


@runtime_checkable
class Policy(Protocol):
    """Anything that turns an observation into an action; the convention of Stable-Baselines3."""

    def predict(self, observation: Any, *, deterministic: bool = False) -> tuple[Any, Any]:
        """Action for one observation, and a policy state (``None`` for the policies in this library)."""
        ...


@dataclass(frozen=True, eq=False)
class TabularPolicy:
    """A stationary stochastic policy for finite states and actions.

    Attributes:
        table: (S, A) probabilities of the actions in each state; read-only.

    Raises:
        InvalidInput: wrong shape, NaN, negative entries, rows that do not sum to one.
    """

    table: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", check_probabilities("policy", as_floats("policy", self.table, (None, None))))

    @cached_property
    def _edges(self) -> FloatArray:
        """(S, A) running sums of the rows, 1 from the last action of positive probability on, so that rounding draws no other."""
        edges = np.cumsum(self.table, axis=1) / self.table.sum(axis=1, keepdims=True)
        last = self.n_actions - 1 - np.argmax(self.table[:, ::-1] > 0.0, axis=1)
        return np.where(np.arange(self.n_actions) >= last[:, None], 1.0, edges)

    @property
    def n_states(self) -> int:
        """S."""
        return int(self.table.shape[0])

    @property
    def n_actions(self) -> int:
        """A."""
        return int(self.table.shape[1])

    def predict(
        self, observation: Any, *, deterministic: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[int, None]:
        """Action in state ``observation``.

        The certified values are those of the *stochastic* policy; ``deterministic=True`` (the most likely action) is
        offered for inspection only. Without ``rng`` the action is drawn from operating-system entropy.
        """
        state = check_integer("observation", observation, low=0, high=self.n_states - 1)
        row = self.table[state]
        if deterministic:
            return int(np.argmax(row)), None
        source = np.random.default_rng() if rng is None else rng
        return int(self._edges[state].searchsorted(source.random(), side="right")), None


@dataclass(frozen=True, eq=False)
class Mixture:
    """One policy drawn per episode.

    Attributes:
        weights: (J,) in the simplex; read-only.
    """

    weights: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", check_probabilities("weights", as_floats("weights", self.weights, (None,))))

    @staticmethod
    def pure(index: int, size: int) -> Mixture:
        """All weight on one policy of a library of ``size``."""
        weights = np.zeros(size)
        weights[check_integer("index", index, low=0, high=size - 1)] = 1.0
        return Mixture(weights)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Indices of the policies that ``n`` episodes run, independent draws."""
        edges = np.cumsum(self.weights)
        edges[-1] = 1.0
        # A policy of weight zero must never be drawn, not even through rounding at the edges: side="right" skips it.
        last = int(np.flatnonzero(self.weights)[-1])
        return np.minimum(np.searchsorted(edges, rng.random(n), side="right"), last).astype(np.int64)

    def expect(self, values: ArrayLike) -> FloatArray:
        """``sum_j w_j values[j]`` along the first axis: exact value of the mixture from the values of its members."""
        return np.tensordot(self.weights, np.asarray(values, dtype=np.float64), axes=(0, 0))


def as_tables(name: str, policies: Any, n_states: int, n_actions: int) -> FloatArray:
    """Tables (J, S, A) of one policy or several, given as arrays or :class:`TabularPolicy` objects.

    Raises:
        InvalidInput: wrong shapes, or rows that are no probability vectors.
    """
    if isinstance(policies, TabularPolicy):
        tables = policies.table[None]
    elif isinstance(policies, list | tuple) and policies and all(isinstance(p, TabularPolicy) for p in policies):
        tables = np.stack([p.table for p in policies])
    else:
        tables = np.asarray(policies)
        tables = tables[None] if tables.ndim == 2 else tables
    if tables.ndim != 3:
        raise InvalidInput(f"{name} must have shape (S, A) or (J, S, A), got {tables.shape}; check the axes")
    return check_probabilities(name, as_floats(name, tables, (None, n_states, n_actions)))
