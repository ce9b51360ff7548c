"""Certified upper bounds ``B_j`` on the real costs of every library policy.

    B_j = min(start_j, CS_j),      CS_j a time-uniform betting bound from real episodes that ran policy j

``start_j`` comes from the trust level; for the safe policy it is ``d - xi``, an assumption the user makes. The error ``delta_b`` is spent in one
of these ways, never mixed, because a policy picked for its luck must not be judged by the episodes that made it look lucky:

* *whole history* (:class:`CostBounds`, A): every policy and constraint has error ``delta_b / (J I)`` and uses all its episodes;
* *selected* (:class:`CostBounds`, B): the s-th selected policy has error ``delta_s / I`` with ``sum delta_s <= delta_b`` and uses only episodes
  **asked after** its selection;
* *product region* (:class:`ProductRegion`): the safe policy and the selected target share ``delta_b / I``. With wealths ``K_0(m)``, from the start,
  and ``K_1(m)``, from the selection, against "the mean cost is at least m", every episode moves at most one of them, so ``K_0(V_0) K_1(V_1)`` is
  a nonnegative supermartingale that starts at 1, whoever chooses what is played. Pairs ``(m_0, m_1)`` whose product ever reached
  ``I / delta_b`` are out. What one policy's episodes prove beyond need is credited to the other.

The region is kept as a staircase: for each of G intervals of ``m_0`` the largest ``m_1`` left. Its corners are the rows of the plan's program:
a mixture that meets the limit at all of them meets it on the whole region.

An episode that was asked and not told counts as the ceiling. Bounds hold simultaneously for all times, so the smallest seen stays valid.

Letters: J policies, I constraints, n episodes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.errors import LedgerError
from surefoot.stateful import Stateful
from surefoot.stats.betting import MeanUpperBounds

__all__ = ["CASH", "SELECTION_SHARES", "STEPS", "CostBounds", "ProductRegion"]


SELECTION_SHARES = (0.1, 0.9)
"""Shares of ``delta_b`` for the selections in their order: the safe policy, the target. They sum to one."""
CASH = 0.25
"""Share of a wealth that is never bet: what one policy can lose of the other's, as a factor."""
STEPS = 128
"""Intervals of the safe policy's cost, up to the limit."""


class CostBounds(Stateful):
    """Bounds (J, I), updated as episodes are asked and told.

    Args:
        start: (J, I) what is assumed before any data; at most the ceilings.
        ceilings: (I,) or (J, I) largest possible episode costs.
        limits: (I,) where the bounds should be sharpest.
        delta: ``delta_b``.
        selected: ``True`` for way B, ``False`` for way A.

    Attributes:
        values: (J, I) the bounds now.
        selections: number of selections so far (way B).
    """

    CHANGES = ("values", "_processes", "_threshold", "_since", "selections")

    def __init__(
        self, start: FloatArray, ceilings: FloatArray, limits: FloatArray, delta: float, *, selected: bool
    ) -> None:
        self._ceilings, self._delta, self._by_selection = np.broadcast_to(ceilings, start.shape), delta, selected
        self.values = np.minimum(start, self._ceilings)
        n_policies, n_constraints = start.shape
        self._processes = [MeanUpperBounds(c, focus=_focus(d)) for c, d in zip(self._ceilings.T, limits)]
        share = math.log(n_policies * n_constraints) if not selected else math.log(max(n_constraints, 1))
        self._threshold = np.full(n_policies, np.inf if selected else share - math.log(delta))
        self._since = np.full(n_policies, np.iinfo(np.int64).max if selected else 0, dtype=np.int64)
        self._share = share
        self.selections = 0

    @property
    def rows(self) -> FloatArray:
        """(1, J, I) the bounds, as rows of a program."""
        return self.values[None]

    def held(self, weights: FloatArray) -> FloatArray:
        """(J, I) the bounds, whatever the mixture: a plan is made anew where they fell noticeably."""
        return self.values

    def select(self, policy: int, next_id: int) -> None:
        """Way B: start a bound for ``policy`` from episodes with ids from ``next_id`` on.

        Episodes of an earlier selection of the same policy are forgotten; what they proved stays proved.

        Raises:
            LedgerError: every share of ``delta_b`` is spent.
        """
        if self.selections >= len(SELECTION_SHARES):
            raise LedgerError(
                f"selections must be at most {len(SELECTION_SHARES)}, got one more; delta_b is spent",
                code="SF-LEDGER-OVERSPENT",
            )
        level = self._delta * SELECTION_SHARES[self.selections]
        self.selections += 1
        self._since[policy] = next_id
        self._threshold[policy] = self._share - math.log(level)
        for process in self._processes:
            process.reset(policy)

    def asked(self, ids: IntArray, policy_index: IntArray) -> None:
        """Episodes were opened: until told they count as the ceiling."""
        for policy, count in zip(*np.unique(policy_index[ids >= self._since[policy_index]], return_counts=True)):
            for process in self._processes:
                process.mark_lost(int(policy), int(count))

    def told(self, ids: IntArray, policy_index: IntArray, costs: FloatArray) -> bool:
        """Real costs (n, I) replace ceilings; returns whether any bound became smaller."""
        counted = ids >= self._since[policy_index]
        improved = False
        for policy in np.unique(policy_index[counted]):
            mine = counted & (policy_index == policy)
            for i, process in enumerate(self._processes):
                process.replace_lost(int(policy), np.clip(costs[mine, i], 0.0, self._ceilings[policy, i]))
                bound = process.bound(int(policy), float(self._threshold[policy]))
                improved |= bound < self.values[policy, i]
                self.values[policy, i] = min(self.values[policy, i], bound)
        return improved

    def recalled(self, costs: FloatArray) -> bool:
        """Logged costs (n, I) of the safe policy, before anything is asked; returns whether any bound became smaller.

        As if these episodes had been asked and told with ids before the first. The safe policy is selected before any data (way B), so that all of
        them count; other policies' bounds do not move.
        """
        improved, level = False, float(self._threshold[0])
        for i, process in enumerate(self._processes):
            process.update(0, np.clip(costs[:, i], 0.0, self._ceilings[0, i]))
            bound = process.bound(0, level)
            improved |= bound < self.values[0, i]
            self.values[0, i] = min(self.values[0, i], bound)
        return improved

    def drop_start(self, start: FloatArray) -> None:
        """Replace the starting values: bounds are what data alone proves, or ``start`` (J, I) where that is smaller."""
        for i, process in enumerate(self._processes):
            for policy in range(len(self.values)):
                known = np.isfinite(self._threshold[policy])
                bound = process.bound(policy, float(self._threshold[policy])) if known else np.inf
                self.values[policy, i] = min(bound, start[policy, i], self._ceilings[policy, i])


class ProductRegion(Stateful):
    """What is possible of the costs of the safe policy and the target *together*; all other policies stay where they start.

    Args:
        start: (J, I) what is assumed before any data; at most the ceilings.
        ceilings: (I,) or (J, I) largest possible episode costs.
        limits: (I,) the safe policy's costs are resolved up to these.
        delta: ``delta_b``.
        cash: share of either wealth that is never bet.

    Attributes:
        selections: number of selections so far: the safe policy, the target.
    """

    CHANGES = ("_processes", "_proved", "_since", "_start", "_streams", "selections")

    def __init__(
        self, start: FloatArray, ceilings: FloatArray, limits: FloatArray, delta: float, *, cash: float = CASH
    ) -> None:
        self._ceilings, self._limits, self._cash = np.broadcast_to(ceilings, start.shape), limits, cash
        self._start = np.minimum(start, self._ceilings)
        self._threshold = math.log(max(limits.size, 1)) - math.log(delta)
        self._processes = self._pairs(0)
        tops = [float(min(max(d, s), 0.999 * c)) for d, s, c in zip(limits, self._start[0], self._ceilings[0])]
        self._edges = np.linspace(np.zeros(len(tops)), np.maximum(tops, 1e-300), STEPS + 1, axis=-1)
        self._proved = np.tile(self._ceilings.max(axis=0)[:, None], (1, STEPS))
        self._streams: list[int] = []
        self._since: list[int] = []
        self.selections = 0

    def _pairs(self, target: int) -> list[MeanUpperBounds]:
        """Wealths of the safe policy and a target, by constraint."""
        return [MeanUpperBounds(c, focus=_focus(d)) for c, d in zip(self._ceilings[[0, target]].T, self._limits)]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~surefoot.stateful.HasState`."""
        streams = state.get("_streams", [])
        self._processes = self._pairs(streams[1] if len(streams) > 1 else 0)
        super().load_state_dict(state)

    @property
    def values(self) -> FloatArray:
        """(J, I) the largest possible cost of every policy alone."""
        found = self._start.copy()
        for policy, most in zip(self._streams, self.staircase.max(axis=0)):
            found[policy] = most
        return found

    @property
    def staircase(self) -> FloatArray:
        """(STEPS, 2, I) costs of the safe policy and the target at the corners; a step that is ruled out repeats the last one that is not."""
        target = self._start[self._streams[1]] if self.selections > 1 else self._ceilings[0]
        found = np.empty((STEPS, 2, self._limits.size))
        found[:, 0], found[:, 1] = self._start[0], target
        for i in range(self._limits.size if self.selections else 0):
            edges, proved = self._edges[i], self._proved[i]
            left = np.flatnonzero((edges[:-1] < self._start[0, i]) & (proved >= 0.0))
            if left.size:
                steps = np.full(STEPS, left[-1])
                steps[left] = left
                found[:, 0, i] = np.minimum(edges[steps + 1], self._start[0, i])
                found[:, 1, i] = np.minimum(proved[steps], target[i])
        return found

    def held(self, weights: FloatArray) -> FloatArray:
        """(2, I) what a mixture (J,) costs at most, and the target alone if it is left out. A noticeable fall calls for a new plan."""
        corners, streams = self.staircase, self._streams
        rest = weights @ self._start - weights[streams] @ self._start[streams]
        most = rest + (weights[streams] @ corners[:, : self.selections]).max(axis=0)
        left_out = self.selections > 1 and weights[streams[1]] == 0.0
        return np.stack([most, corners[:, 1].max(axis=0) if left_out else np.zeros_like(most)])

    @property
    def rows(self) -> FloatArray:
        """(STEPS, J, I) the corners as rows of a program."""
        found = np.tile(self._start, (STEPS, 1, 1))
        corners = self.staircase
        for stream, policy in enumerate(self._streams):
            found[:, policy] = corners[:, stream]
        return found

    def select(self, policy: int, next_id: int) -> None:
        """Start the wealth of a policy from episodes with ids from ``next_id`` on: of the safe policy first, then of the target, once.

        Raises:
            LedgerError: both are chosen.
        """
        if self.selections >= 2:
            raise LedgerError(
                "selections must be at most 2, got one more; delta_b is spent", code="SF-LEDGER-OVERSPENT"
            )
        if self.selections == 1:
            # The target's ceilings are known now. What the safe policy's episodes bet on stays.
            safe, self._processes = self._processes, self._pairs(policy)
            for old, new in zip(safe, self._processes):
                new.take(0, old)
            self._proved = np.minimum(self._proved, self._ceilings[policy][:, None])
        self._streams.append(policy)
        self._since.append(next_id)
        self.selections += 1

    def asked(self, ids: IntArray, policy_index: IntArray) -> None:
        """Episodes were opened: until told they count as the ceiling."""
        for stream, policy in enumerate(self._streams):
            count = int(((policy_index == policy) & (ids >= self._since[stream])).sum())
            for process in self._processes if count else ():
                process.mark_lost(stream, count)

    def told(self, ids: IntArray, policy_index: IntArray, costs: FloatArray) -> bool:
        """Real costs (n, I) replace ceilings; returns whether the region became smaller."""
        improved = False
        counted = [(policy_index == p) & (ids >= since) for p, since in zip(self._streams, self._since)]
        for i, process in enumerate(self._processes):
            for stream, mine in enumerate(counted):
                if mine.any():
                    process.replace_lost(stream, np.clip(costs[mine, i], 0.0, process.ceilings[stream]))
            if any(mine.any() for mine in counted):
                improved |= process.tighten(self._edges[i], self._proved[i], self._threshold, self._cash)
        return improved

    def recalled(self, costs: FloatArray) -> bool:
        """Logged costs (n, I) of the safe policy, before anything is asked; returns whether the region became smaller."""
        improved = False
        for i, process in enumerate(self._processes):
            process.update(0, np.clip(costs[:, i], 0.0, self._ceilings[0, i]))
            improved |= process.tighten(self._edges[i], self._proved[i], self._threshold, self._cash)
        return improved

    def drop_start(self, start: FloatArray) -> None:
        """Replace the starting values; what data alone prove stays."""
        self._start = np.minimum(start, self._ceilings)


def _focus(limit: float) -> float | None:
    return float(limit) if limit > 0.0 else None
