r"""From reports to mixtures by a belief; when a new mixture is due is fixed beforehand.

Plans are made before episodes ``0 = t_0 < t_1 < ...`` with ``t_{k+1} = t_k + max(1, floor(GROWTH t_k))``, and none after episode K: in between, the
mixture stays. A plan made before episode t keeps costs ``boldness_t`` standard deviations below their limits,

    boldness_t^2 = boldness^2 + SHAPE ln(K / max(t, FIRST))        t < K,

more cautious early, when a wrong prior does most harm and little can be gained, than late. Which ``boldness`` is deployed is what rehearsal decides.

*Surprise* says how badly the belief fits what happens: the largest value so far of two standardised statistics, of outcomes predicted before they
came and of transition counts. Its law on the family is known from rehearsal; a transition that no training task makes is infinitely surprising.

Letters: d latents, E transitions, J policies, B initial states, F outcomes, K episodes.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.belief.kernels import accumulate, innovation, misfit, mixture, posterior
from surefoot.deploy.evidence.transitions import LARGEST, encode
from surefoot.policyset.belief import Belief
from surefoot.stateful import Stateful

__all__ = ["BeliefPlanner", "plan_times"]

GROWTH = 0.1
SHAPE, FIRST = 0.5, 30
STEPS = 2
"""Newton steps per plan; the mode moves little from one plan to the next."""


def plan_times(episodes: int) -> IntArray:
    """Episodes before which plans are made; all lie below K."""
    found = [0]
    while True:
        following = found[-1] + max(1, int(GROWTH * found[-1]))
        if following >= episodes:
            return np.array(found, dtype=np.int64)
        found.append(following)


class BeliefPlanner(Stateful):
    """See the module's docstring.

    Args:
        belief: from training.
        limits: (I,).
        boldness: standard deviations between costs and limits, at the end; the smaller the bolder.
        episodes: K.

    Attributes:
        weights: (J,) the mixture now.
        expected: (1 + I,) its values as the belief sees them.
        deviation: (I,) standard deviations of its costs.
        surprise: the largest so far.
        latents: (d,) most plausible values.
        precision: (d, d).
        told: episodes learned from.
    """

    CHANGES: ClassVar[tuple[str, ...]] = (
        "weights", "expected", "deviation", "surprise", "latents", "precision", "told", "moves", "_seen", "_sums", "_new_seen", "_new_sums",
        "_due", "_innovations", "_blocks",
    )  # fmt: skip

    def __init__(self, belief: Belief, limits: FloatArray, boldness: float, episodes: int) -> None:
        self._belief, self._limits, self._boldness, self._episodes = belief, np.asarray(limits), boldness, episodes
        n_policies, columns, outcomes = belief.outcome_center.shape
        self._keys = encode(belief.support) if len(belief.support) else np.zeros(0, dtype=np.int64)
        self._row = np.zeros(self._keys.size, dtype=np.int64)
        if self._keys.size:
            self._row[1:] = np.cumsum((np.diff(belief.support[:, :2], axis=0) != 0).any(axis=1))
        self.moves = np.zeros(self._keys.size)
        self._seen, self._new_seen = np.zeros((n_policies, columns)), np.zeros((n_policies, columns))
        self._sums, self._new_sums = (
            np.zeros((n_policies, columns, outcomes)),
            np.zeros((n_policies, columns, outcomes)),
        )
        self.latents: FloatArray = np.zeros(belief.latents)
        self.precision: FloatArray = np.eye(belief.latents)
        self.told, self._due = 0, 0
        self.surprise, self._innovations, self._blocks = 0.0, 0.0, 0
        self.weights: FloatArray = np.zeros(n_policies)
        self.weights[0] = 1.0
        self.expected: FloatArray = np.full(len(limits) + 1, np.nan)
        self.deviation: FloatArray = np.full(len(limits), np.nan)

    @property
    def wants(self) -> frozenset[str]:
        """Which optional parts of a report are made use of."""
        return self._belief.wants

    def learn(
        self, policy_index: IntArray, outcomes: FloatArray, *, initial_state: Any = None, transitions: Any = None, signals: Any = None
    ) -> None:  # fmt: skip
        """Take up n episodes.

        Args:
            policy_index: (n,).
            outcomes: (n, 1 + I).
            initial_state: (n,), or ``None``: these episodes' outcomes then say nothing where predictions depend on it.
            transitions: (m, 4) rows ``(s, a, s', count)`` over all of them, or ``None``.
            signals: (n, X), or ``None``, likewise.
        """
        if transitions is not None and self._keys.size and len(transitions):
            keys = encode(transitions)
            where = np.minimum(np.searchsorted(self._keys, keys), self._keys.size - 1)
            known = (self._keys[where] == keys) & (transitions[:, :3] < LARGEST).all(axis=1)
            np.add.at(self.moves, where[known], transitions[known, 3])
            if not known.all():
                self.surprise = math.inf
        values = outcomes
        if self._sums.shape[2] > outcomes.shape[1]:
            if signals is None:
                self.told += len(policy_index)
                return
            values = np.column_stack([outcomes, signals])
        columns = np.zeros(len(policy_index), dtype=np.int64)
        states = self._belief.initial_states
        if states.size:
            if initial_state is None:
                self.told += len(policy_index)
                return
            columns = np.minimum(np.searchsorted(states, initial_state), states.size - 1)
            usual = states[columns] == initial_state
            if not usual.all():
                self.surprise = math.inf
                policy_index, columns, values = policy_index[usual], columns[usual], values[usual]
        accumulate(policy_index, columns, np.ascontiguousarray(values), self._new_seen, self._new_sums)
        self.told += len(outcomes)

    def count(self, moves: FloatArray) -> None:
        """Transitions (E,) by entry of the belief's support."""
        self.moves += moves

    def due(self, opened: int) -> bool:
        """Whether a plan is due before episode ``opened``."""
        return self._due <= opened < self._episodes

    def refresh(self, opened: int) -> None:
        """Make the plan that is due before episode ``opened``."""
        while self._due <= opened:
            self._due += max(1, int(GROWTH * self._due))
        b = self._belief
        outcome = b.outcome_center, b.outcome_slope, b.outcome_curve, b.outcome_residual, b.outcome_noise
        fresh = bool(self._new_seen.any())
        if fresh:
            self._innovations += float(
                innovation(self.latents, self.precision, self._new_seen, self._new_sums, *outcome)
            )
            self._blocks += 1
            self._seen += self._new_seen
            self._sums += self._new_sums
            self._new_seen[:], self._new_sums[:] = 0.0, 0.0
        if self.told:
            self.latents, self.precision = posterior(
                self.latents, self.moves, b.kernel_center, b.kernel_slope, self._seen, self._sums, *outcome, b.informative, STEPS
            )  # fmt: skip
            self._review(fresh)
        self._plan(opened)

    def _review(self, fresh: bool) -> None:
        size = self._sums.shape[2]
        if fresh:
            self.surprise = max(self.surprise, self._innovations / math.sqrt(2.0 * size * self._blocks + 10.0))
        if self._keys.size:
            b = self._belief
            found = float(misfit(self.latents, self.moves, self._row, b.kernel_center, b.kernel_slope))
            self.surprise = max(self.surprise, found)

    def _plan(self, opened: int) -> None:
        b = self._belief
        extra = SHAPE * math.log(max(self._episodes / max(opened, FIRST), 1.0))
        first, second, share, expected, deviation = mixture(
            self.latents, self.precision, b.value_center, b.value_slope, b.value_curve, b.value_residual, self._limits,
            math.sqrt(self._boldness**2 + extra),
        )  # fmt: skip
        weights = np.zeros(len(b.value_center))
        weights[first] = 1.0 - share
        weights[second] += share
        self.weights, self.expected, self.deviation = weights, expected, deviation
