"""Plants that report episodes: simulated step by step, or drawn with given means.

Letters: S states, A actions, I constraints, F = 1 + I signals, X further signals, J policies, B initial states, n episodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.cmdp.model import TabularCMDP
from surefoot.cmdp.simulate import Simulator, transition_rows
from surefoot.planning.fit import ROUGH_PULL, fit_start
from surefoot.planning.predictions import center_values, conditional_middles, outcome_ranges
from surefoot.policyset.schema import PolicySet

__all__ = ["Draws", "Outcome", "Rollouts", "SurrogatePlant"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What n episodes reported.

    Attributes:
        returns: (n,).
        costs: (n, I).
        initial_states: (n,), or ``None`` where predictions do not depend on them.
        transitions: (m, 4) rows ``(s, a, s', count)``, or ``None``.
        signals: (n, X), or ``None`` where none are declared.
    """

    returns: FloatArray
    costs: FloatArray
    initial_states: IntArray | None
    transitions: IntArray | None
    signals: FloatArray | None = None


class SurrogatePlant(Protocol):
    """A truth to deploy on.

    Attributes:
        values: (J, F) exact return and costs of every policy.
    """

    values: FloatArray

    def run(self, policy_index: IntArray, seed: int, first: int) -> Outcome:
        """One episode per entry; ``first`` numbers them."""
        ...


class Rollouts:
    """Episodes of a task.

    Args:
        task: the truth.
        tables: (J, S, A).
    """

    def __init__(self, task: TabularCMDP, tables: FloatArray) -> None:
        self.values = evaluate_many(task, tables)
        self._task, self._simulator = task, Simulator(task, tables)

    def run(self, policy_index: IntArray, seed: int, first: int) -> Outcome:
        """See :class:`SurrogatePlant`."""
        groups = np.zeros(policy_index.size, dtype=np.int64)
        seen = self._simulator.run(policy_index, seed=seed, first_episode=first, groups=groups)
        rows = None if seen.transitions is None else transition_rows(self._task, seen.transitions[0])
        return Outcome(seen.returns, seen.costs, seen.initial_states, rows)


class Draws:
    """Independent outcomes with the means that a cell predicts at its centre.

    Args:
        policy_set: the predictions.
        cell: which one is true.
        spread: (1+I+X,) standard deviations of return, costs and signals as shares of the largest possible.
    """

    def __init__(self, policy_set: PolicySet, cell: int, spread: FloatArray) -> None:
        self.values = center_values(policy_set)[cell]
        low, high = outcome_ranges(policy_set)
        self._n_outcomes, signals = low.size, policy_set.cells.signals
        conditional = policy_set.cells.conditional
        if conditional is None:
            self._states, self._start, means = None, np.ones(1), self.values[:, :, None]
        else:
            middles = conditional_middles(policy_set)
            self._states = conditional.initial_states
            self._start = fit_start(
                middles.reshape(-1, self._states.size), center_values(policy_set).ravel(), ROUGH_PULL
            )
            # What the middles of intervals miss is the same for every initial state, so that means are exact.
            means = middles[cell] + (self.values - middles[cell] @ self._start)[:, :, None]
        if signals is not None:
            more = 0.5 * (signals.lower[cell] + signals.upper[cell])[:, :, None]
            means = np.concatenate([means, np.repeat(more, means.shape[2], axis=2)], axis=1)
            low, high = np.concatenate([low, signals.bounds[:, 0]]), np.concatenate([high, signals.bounds[:, 1]])
        unit = np.where(high > low, high - low, 1.0)[:, None]
        self._means = np.clip((means - low[:, None]) / unit, 0.0, 1.0)
        self._low, self._unit = low, unit[:, 0]
        self._concentration: FloatArray = spread**-2 - 1.0

    def run(self, policy_index: IntArray, seed: int, first: int) -> Outcome:
        """See :class:`SurrogatePlant`."""
        rng = np.random.default_rng([seed, first])
        column = rng.choice(self._start.size, size=policy_index.size, p=self._start)
        mean = self._means[policy_index, :, column]
        inside = (mean > 0.0) & (mean < 1.0)
        safe = np.where(inside, mean, 0.5)
        drawn = rng.beta(safe * self._concentration, (1.0 - safe) * self._concentration)
        outcome = self._low + self._unit * np.where(inside, drawn, mean)
        states = None if self._states is None else self._states[column]
        n = self._n_outcomes
        signals = outcome[:, n:] if outcome.shape[1] > n else None
        return Outcome(outcome[:, 0], outcome[:, 1:n], states, None, signals)
