r"""From reports to mixtures by a belief. When a new mixture is due, and from which episodes, is fixed beforehand.

*Plan times.* Plans are made before episodes ``0 = t_0 < t_1 < ... < K`` with ``t_{k+1}`` the first multiple of the batch from
``t_k + max(1, GROWTH t_k)`` on; between them, and after the last, the mixture stays. The plan before episode t is made from the episodes
below ``t - delay`` (rounded down to a multiple of the batch), whether later ones were reported already or not. So reports may come in any order
and at any time within the delay: the mixtures are a function of the outcomes alone, and a rehearsal in which every report takes the whole delay
is exact.

*Boldness.* The plan before episode t keeps costs ``boldness_t`` standard deviations below their limits,

    boldness_t^2 = boldness^2 + SHAPE ln(K / max(t, FIRST))        t < K,

more cautious early, when a wrong prior does most harm and little can be gained, than late. Which ``boldness`` is deployed is what rehearsal decides.

*Surprise* says how badly the belief fits what happens: the largest value so far of two standardised statistics, of outcomes predicted before they
came and of transition counts. Its law on the family is known from rehearsal; a transition that no training task makes is infinitely surprising.

Letters: d latents, E transitions, J policies, B initial states, F outcomes, K episodes, n episodes of a report.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.belief.kernels import accumulate, innovation, misfit, mixture, moments, posterior
from surefoot.deploy.evidence.transitions import LARGEST, encode
from surefoot.policyset.belief import Belief
from surefoot.stateful import Stateful

__all__ = ["BeliefPlanner", "following_time"]

GROWTH = 0.1
SHAPE, FIRST = 0.5, 30
INSIDE = 1e-9
"""Relative distance to the limits, for rounding."""
STEPS = 2
"""Newton steps per plan; the mode moves little from one plan to the next."""


def following_time(time: int, batch: int = 1) -> int:
    """The plan time after ``time``.

    >>> [following_time(0), following_time(50), following_time(50, batch=20)]
    [1, 55, 60]
    """
    least = time + max(1, int(GROWTH * time))
    return -(-least // batch) * batch


class Sums(Stateful):
    """What some episodes reported, added up.

    Attributes:
        moves: (E,) transitions.
        seen: (J, B) episodes whose outcomes count.
        sums: (J, B, F) of these outcomes.
        accounted: episodes that were told, or are known to be lost.
    """

    CHANGES: ClassVar[tuple[str, ...]] = ("moves", "seen", "sums", "accounted")

    def __init__(self, belief: Belief) -> None:
        shape = belief.outcome_center.shape
        self.moves: FloatArray = np.zeros(len(belief.support))
        self.seen: FloatArray = np.zeros(shape[:2])
        self.sums: FloatArray = np.zeros(shape)
        self.accounted = 0

    def add(self, other: Sums) -> None:
        """Both together."""
        self.moves = self.moves + other.moves
        self.seen = self.seen + other.seen
        self.sums = self.sums + other.sums
        self.accounted += other.accounted


class BeliefPlanner(Stateful):
    """See the module's docstring.

    Args:
        belief: from training.
        limits: (I,).
        boldness: standard deviations between costs and limits, at the end; the smaller the bolder.
        episodes: K.
        batch: how many episodes are asked at once.
        delay: how many episodes may be asked between the asking and the telling of one.
        exposure: most weight off the safe policy.

    Attributes:
        weights: (J,) the mixture now.
        found: whether the rule was met by anything; otherwise the safe policy is played.
        returns: (J,) what the belief expects of every policy.
        surprise: the largest so far.
        latents: (d,) most plausible values.
        precision: (d, d).
        due: when the next plan is made.
        cutoff: episodes below this one have entered, or never will.
    """

    CHANGES: ClassVar[tuple[str, ...]] = (
        "weights", "found", "returns", "_planned", "surprise", "latents", "precision", "due", "cutoff", "total", "_waiting", "_innovations",
        "_blocks",
    )  # fmt: skip

    def __init__(
        self,
        belief: Belief,
        limits: Any,
        boldness: float,
        episodes: int,
        *,
        batch: int = 1,
        delay: int = 0,
        exposure: float = 1.0,
    ) -> None:
        self._belief, self._limits = belief, np.asarray(limits, dtype=np.float64)
        self._boldness, self._episodes = boldness, episodes
        self._batch, self._delay, self._exposure = batch, delay, exposure
        self._keys = encode(belief.support) if len(belief.support) else np.zeros(0, dtype=np.int64)
        self._row = np.zeros(self._keys.size, dtype=np.int64)
        if self._keys.size:
            self._row[1:] = np.cumsum((np.diff(belief.support[:, :2], axis=0) != 0).any(axis=1))
        self.total = Sums(belief)
        self._waiting: dict[int, Sums] = {}
        self.latents: FloatArray = np.zeros(belief.latents)
        self.precision: FloatArray = np.eye(belief.latents)
        self.due = self.cutoff = 0
        self.surprise, self._innovations, self._blocks = 0.0, 0.0, 0
        self.weights: FloatArray = np.zeros(len(belief.value_center))
        self.weights[0] = 1.0
        self.found, self.returns = False, belief.value_center[:, 0]
        self._planned = self.boldness_at(0)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~surefoot.stateful.HasState`."""
        waiting = {time: sums.state_dict() for time, sums in self._waiting.items()}
        return {**super().state_dict(), "_waiting": waiting}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~surefoot.stateful.HasState`."""
        rest = dict(state)
        waiting = rest.get("_waiting")
        if not isinstance(waiting, dict):
            raise ValueError("state of BeliefPlanner must hold _waiting, got none; it is that of something else")
        rest["_waiting"] = {}
        for time, own in waiting.items():
            rest["_waiting"][time] = Sums(self._belief)
            rest["_waiting"][time].load_state_dict(own)
        super().load_state_dict(rest)

    @property
    def wants(self) -> frozenset[str]:
        """Which optional parts of a report are made use of."""
        return self._belief.wants

    # ----------------------------------------------------------------------------------------------------------- reports

    def plan_for(self, episode: int) -> int | None:
        """The plan time at which an episode enters; ``None`` if it is too late for that."""
        if episode < self.cutoff:
            return None
        time = self.due
        while self.cutoff_at(time) <= episode:
            time = following_time(time, self._batch)
        return time

    def cutoff_at(self, time: int) -> int:
        """Episodes below this one enter the plan made at ``time``."""
        return max(0, (time - self._delay) // self._batch * self._batch)

    def tell(
        self, ids: IntArray, policy_index: IntArray, outcomes: FloatArray, *, initial_state: Any = None, transitions: Any = None,
        signals: Any = None,
    ) -> bool:  # fmt: skip
        """Take up n episodes that were reported together.

        Args:
            ids: (n,) numbers of the episodes.
            policy_index: (n,).
            outcomes: (n, 1 + I).
            initial_state: (n,), or ``None``: these episodes' outcomes then say nothing where predictions depend on it.
            transitions: (m, 4) rows ``(s, a, s', count)`` over all of them, or ``None``.
            signals: (n, X), or ``None``, likewise.

        Returns:
            Whether all of them will enter one and the same plan; if not, nothing of them is used.
        """
        first, last = self.plan_for(int(ids.min())), self.plan_for(int(ids.max()))
        if first is None or first != last:
            return False
        sums = self._sums_for(first)
        sums.accounted += len(ids)
        self._learn(sums, policy_index, outcomes, initial_state, transitions, signals)
        return True

    def add(
        self, time: int, ids: IntArray, policy_index: IntArray, outcomes: FloatArray, *, initial_state: Any = None,
        moves: FloatArray | None = None, signals: Any = None, odd: bool = False,
    ) -> None:  # fmt: skip
        """The same as :meth:`tell` for episodes that enter the plan at ``time``, with transitions (E,) counted already.

        Args:
            time: a plan time.
            ids, policy_index, outcomes, initial_state, signals: as there.
            moves: (E,) counts by entry of the belief's support.
            odd: whether there were transitions outside it.
        """
        sums = self._sums_for(time)
        sums.accounted += len(ids)
        if moves is not None and self._keys.size:
            sums.moves += moves
            if odd:
                self.surprise = math.inf
        self._learn(sums, policy_index, outcomes, initial_state, None, signals)

    def lost(self, ids: Any) -> bool:
        """These episodes will never be told; whether they are known in time."""
        times = [self.plan_for(int(k)) for k in np.atleast_1d(ids)]
        for time in times:
            if time is not None:
                self._sums_for(time).accounted += 1
        return None not in times

    def recall(
        self, outcomes: FloatArray, *, initial_state: Any = None, transitions: Any = None, signals: Any = None
    ) -> None:
        """Logged episodes of the safe policy on the same plant, before the first ask; arguments as in :meth:`tell`."""
        safe = np.zeros(len(outcomes), dtype=np.int64)
        self._learn(self._sums_for(0), safe, outcomes, initial_state, transitions, signals)

    def _sums_for(self, time: int) -> Sums:
        if time not in self._waiting:
            self._waiting[time] = Sums(self._belief)
        return self._waiting[time]

    def _learn(
        self, sums: Sums, policy_index: IntArray, outcomes: FloatArray, initial_state: Any, transitions: Any, signals: Any
    ) -> None:  # fmt: skip
        if transitions is not None and self._keys.size and len(transitions):
            keys = encode(transitions)
            where = np.minimum(np.searchsorted(self._keys, keys), self._keys.size - 1)
            known = (self._keys[where] == keys) & (transitions[:, :3] < LARGEST).all(axis=1)
            np.add.at(sums.moves, where[known], transitions[known, 3])
            if not known.all():
                self.surprise = math.inf
        values = outcomes
        if sums.sums.shape[2] > outcomes.shape[1]:
            if signals is None:
                return
            values = np.column_stack([outcomes, signals])
        columns, states = np.zeros(len(policy_index), dtype=np.int64), self._belief.initial_states
        if states.size:
            if initial_state is None:
                return
            columns = np.minimum(np.searchsorted(states, initial_state), states.size - 1)
            usual = states[columns] == initial_state
            if not usual.all():
                self.surprise = math.inf
                policy_index, columns, values = policy_index[usual], columns[usual], values[usual]
        accumulate(policy_index, columns, np.ascontiguousarray(values), sums.seen, sums.sums)

    # ------------------------------------------------------------------------------------------------------------- plans

    def is_due(self, opened: int) -> bool:
        """Whether a plan is due before episode ``opened``."""
        return self.due <= opened and self.due < self._episodes

    def missing(self) -> int:
        """How many episodes that should enter the plan that is due were neither told nor declared lost."""
        known = sum(sums.accounted for time, sums in self._waiting.items() if time <= self.due)
        return self.cutoff_at(self.due) - self.cutoff - known

    def refresh(self) -> None:
        """Make the plan that is due."""
        time = self.due
        fresh = Sums(self._belief)
        for when in sorted(w for w in self._waiting if w <= time):
            fresh.add(self._waiting.pop(when))
        self.cutoff, self.due = self.cutoff_at(time), following_time(time, self._batch)
        b = self._belief
        outcome = b.outcome_center, b.outcome_slope, b.outcome_curve, b.outcome_residual, b.outcome_noise
        if fresh.seen.any():
            self._innovations += float(innovation(self.latents, self.precision, fresh.seen, fresh.sums, *outcome))
            self._blocks += 1
            standard = math.sqrt(2.0 * fresh.sums.shape[2] * self._blocks + 10.0)
            self.surprise = max(self.surprise, self._innovations / standard)
        self.total.add(fresh)
        if self.total.moves.any() or self.total.seen.any():
            self.latents, self.precision = posterior(
                self.latents, self.total.moves, b.kernel_center, b.kernel_slope, self.total.seen, self.total.sums, *outcome,
                b.informative, STEPS,
            )  # fmt: skip
        if self._keys.size:
            found = float(misfit(self.latents, self.total.moves, self._row, b.kernel_center, b.kernel_slope))
            self.surprise = max(self.surprise, found)
        self._plan(time)

    def boldness_at(self, time: int) -> float:
        """``boldness_t``."""
        extra = SHAPE * math.log(max(self._episodes / max(time, FIRST), 1.0))
        return math.sqrt(self._boldness**2 + extra)

    def _plan(self, time: int) -> None:
        b, boldness = self._belief, self.boldness_at(time)
        mean, axes = moments(self.latents, self.precision, b.value_center, b.value_slope, b.value_curve)
        first, second, share, found = mixture(mean, axes, b.value_residual, self._limits, boldness)
        weights = np.zeros(len(mean))
        share *= 1.0 - INSIDE
        weights[first] = 1.0 - share
        weights[second] += share
        off = 1.0 - weights[0]
        if off > self._exposure:
            weights *= self._exposure / off
            weights[0] = 1.0 - weights[1:].sum()
        self.weights, self.returns, self.found = weights, mean[:, 0].copy(), bool(found)
        self._planned = boldness

    @property
    def upper(self) -> FloatArray:
        """(J, I) costs whose mixture with ``weights`` is, for each constraint, what the belief expects plus ``boldness`` deviations."""
        return self.upper_at(self.weights)

    def upper_at(self, weights: FloatArray) -> FloatArray:
        """The same (J, I) for other weights (J,)."""
        b = self._belief
        mean, axes = moments(self.latents, self.precision, b.value_center, b.value_slope, b.value_curve)
        return self._upper(mean, axes, weights, self._planned)

    def _upper(self, mean: FloatArray, axes: FloatArray, weights: FloatArray, boldness: float) -> FloatArray:
        """(J, I) costs ``m_j + boldness (u_j u + w_j r_j^2) / |u|``: their mixture with ``weights`` is mean plus boldness deviations."""
        residual = self._belief.value_residual[:, 1:]
        middle = np.einsum("j,jid->id", weights, axes)
        own = weights[:, None] * residual**2
        variance = (middle**2).sum(axis=1) + (weights[:, None] * own).sum(axis=0)
        deviation = np.sqrt(np.maximum(variance, 1e-300))
        rise: FloatArray = (np.einsum("jid,id->ji", axes, middle) + own) / deviation
        upper: FloatArray = mean[:, 1:] + boldness * rise
        return upper
