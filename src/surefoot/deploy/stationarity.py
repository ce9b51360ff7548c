"""Whether every policy's episodes still have the law they had: "this is no longer the plant that I learned".

Nothing simulated enters: each policy's real outcomes are compared with its own earlier ones. The first R episodes of a policy fix, for each outcome,
the ends of K bins. From then on let ``n_b`` count its episodes in bin b, n of them in all, and let the next fall into bin b:

    p = (sum_{b' > b} n_b' + U (n_b + 1)) / (n + 1),        U uniform on (0, 1), drawn for this episode and outcome.

While the plant does not change the bins are exchangeable, so the p are independent and uniform (Vovk, Nouretdinov & Gammerman 2003); afterwards they
gather at one end. Bets on that, all of mean one,

    L = 1 + lam (1 - 2 p),  L = p^(-1/2) / 2,  L = (1 - p)^(-1/2) / 2

make the e-detector ``M_k = L_k (1 + M_{k-1})`` of each policy and outcome, averaged over bets. The m-th policy to be played has the weight
``w_m = 1 / (m (m + 1))``, and the alarm is raised when one of its detectors reaches ``2 c F / w_m``. (Not their average over outcomes: the p of one
outcome are independent of each other, but not of the earlier p of another.) Then n episodes, of whatever policies, see a false alarm
with probability at most ``n / (2 c)``, so the mean number of episodes until one is at least c. A policy counts by its own episodes, however they were
chosen among others: the threshold holds for the sequence it would have had if it had been played all along. Proof in ``docs/guarantees.md``.

An episode that is lost is skipped. That leaves the statement true if whether an episode is lost depends on nothing but its own outcome.

Letters: J policies, F = 1 + I outcomes, R first episodes, K bins, B bets, n episodes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.reorder import Released
from surefoot.stateful import Stateful

__all__ = ["BINS", "CHANGED", "FIRST", "SLOPES", "StationarityDetector", "uniforms"]

FIRST = 32
"""R: episodes of a policy that fix its bins."""
BINS = 17
"""K: their ends are every second of the first outcomes in order."""
SLOPES = (-0.9, -0.3, -0.1, 0.1, 0.3, 0.9)
"""``lam``."""
CHANGED = "the outcomes of policy {policy} are no longer what they were: the plant has changed"
"""Words of the alarm."""
_MASK = (1 << 64) - 1


def uniforms(seed: int, ids: IntArray, size: int) -> FloatArray:
    """(n, F) numbers in (0, 1) that depend on seed, episode and outcome alone: SplitMix64 (Steele, Lea & Flood 2014)."""
    z: Any
    with np.errstate(over="ignore"):
        place = ids.astype(np.uint64)[:, None] * np.uint64(size) + np.arange(size, dtype=np.uint64) + np.uint64(1)
        z = np.uint64(seed * 0xD1342543DE82EF95 & _MASK) + place * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return np.asarray(((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53)


class StationarityDetector(Stateful):
    """The e-detectors of all policies; their state does not grow.

    Args:
        policies: J.
        outcomes: F.
        every: c, the mean number of episodes between false alarms, or 0: never look.
        seed: of U.

    Attributes:
        changed: the policy whose outcomes changed, or -1.
    """

    CHANGES = ("changed", "_order", "_seen", "_first", "_ends", "_counts", "_logs")

    def __init__(self, policies: int, outcomes: int, every: float, seed: int) -> None:
        self._every, self._seed, self.changed = every, seed, -1
        self._order: IntArray = np.zeros(policies, dtype=np.int64)
        self._seen: IntArray = np.zeros(policies, dtype=np.int64)
        self._first = np.zeros((policies, FIRST, outcomes))
        self._ends = np.zeros((policies, outcomes, BINS - 1))
        self._counts: IntArray = np.zeros((policies, outcomes, BINS), dtype=np.int64)
        self._logs = np.full((policies, outcomes, len(SLOPES) + 2), -np.inf)

    def released(self, released: Released) -> None:
        """Add what was released, in ask order."""
        if self._every == 0.0 or not released.groups:
            return
        ids = np.concatenate([report.ids for report in released.groups])
        drawn = np.concatenate([report.policy_index for report in released.groups])
        outcomes = np.concatenate([report.outcomes for report in released.groups])
        order = np.argsort(ids)
        self.update(ids[order], drawn[order], outcomes[order])

    def update(self, ids: IntArray, drawn: IntArray, outcomes: FloatArray) -> None:
        """Add outcomes (n, F) of episodes ``ids`` (n,), increasing, of policies ``drawn`` (n,)."""
        found, where = np.unique(drawn, return_index=True)
        for j in found[np.argsort(where)].tolist():
            mine = drawn == j
            self._add(j, ids[mine], outcomes[mine])

    def log_value(self, policy: int) -> float:
        """Log of the largest average M of a policy, over its outcomes."""
        logs = self._logs[policy]
        return float(np.logaddexp.reduce(logs, axis=1).max()) - math.log(logs.shape[1])

    def log_threshold(self, policy: int) -> float:
        """Log of ``2 c F / w_m`` of a policy that was played."""
        m = int(self._order[policy])
        return math.log(2.0 * self._every * self._logs.shape[1] * m * (m + 1))

    def _add(self, j: int, ids: IntArray, outcomes: FloatArray) -> None:
        if not self._order[j]:
            self._order[j] = self._order.max() + 1
        room = max(0, FIRST - int(self._seen[j]))
        start = outcomes[:room]
        self._first[j, FIRST - room : FIRST - room + len(start)] = start
        self._seen[j] += len(ids)
        if 0 < room <= len(ids):
            self._ends[j] = np.sort(self._first[j], axis=0)[::2].T
        if len(ids) <= room:
            return
        p = self._ranks(j, ids[room:], outcomes[room:])
        with np.errstate(divide="ignore"):
            for step in np.log(bets(p)):
                self._logs[j] = step + np.logaddexp(0.0, self._logs[j])
                if self.changed < 0 and self.log_value(j) >= self.log_threshold(j):
                    self.changed = j

    def _ranks(self, j: int, ids: IntArray, outcomes: FloatArray) -> FloatArray:
        """(n, F) the p of outcomes (n, F), which are counted."""
        bins = (outcomes[:, :, None] > self._ends[j]).sum(axis=2)
        one = bins[:, :, None] == np.arange(BINS)
        before = self._counts[j] + np.cumsum(one, axis=0) - one
        above = np.where(np.arange(BINS) > bins[:, :, None], before, 0).sum(axis=2)
        equal = np.take_along_axis(before, bins[:, :, None], axis=2)[:, :, 0]
        self._counts[j] += one.sum(axis=0)
        u = uniforms(self._seed, ids, outcomes.shape[1])
        return np.asarray((above + u * (equal + 1)) / (before.sum(axis=2) + 1))


def bets(p: FloatArray) -> FloatArray:
    """(..., B) factors of p (...); each has mean one over the unit interval."""
    lines = [1.0 + slope * (1.0 - 2.0 * p) for slope in SLOPES]
    return np.stack([*lines, 0.5 / np.sqrt(p), 0.5 / np.sqrt(np.maximum(1.0 - p, 1e-300))], axis=-1)
