"""How plausible the cells are, which decides what to try, never what is safe.

Likelihoods of the cells' centres under equal prior weights: of transitions where at least half of the episodes come with them, else Gaussian ones of
outcomes (return, costs, declared signals). Both depend on the past through sums alone: an episode costs a few additions, and a score is
computed when somebody looks:

    log L_k = - 1/2 sum_jb n_jb (xbar_jb - m_kjb)' S_j^-1 (xbar_jb - m_kjb) + what is the same for all cells

with ``S_j`` the scatter of policy j's outcomes about their own means, shrunk towards that of all policies. Trust levels without hypotheses about
cells aim at the posterior mean of the predicted returns, and choose their target by it.

Letters: N cells, J policies, F = 1 + I outcomes (and X declared signals), B initial states, E entries of the kernel support, n episodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.evidence.predictions import PredictionTable
from surefoot.deploy.evidence.transitions import LARGEST, encode
from surefoot.policyset.schema import KernelBoxes, PolicySet
from surefoot.stateful import Stateful

__all__ = ["CellPosterior"]

SHRINKAGE = 20.0
"""A policy's own scatter counts as much as that of all policies together after so many episodes of it."""
LEAST_SCATTER = 1e-3
"""Least standard deviation, as a share of an outcome's range: outcomes that do not vary are not taken to be exact."""


class CellPosterior(Stateful):
    """Scores of N cells.

    Args:
        table: predictions; coordinates beyond the first ``told`` are declared signals, unknown given an initial state.
        kernel: for transitions, or ``None``.
        told: 1 + I.

    Attributes:
        counts: (J, B+1) episodes by policy and initial state.
        moves: (E,) transitions seen; those that no cell knows say nothing about which one it is.
        followed: episodes that came with transitions.
        measured: whether every report so far had the declared signals.
    """

    CHANGES = ("counts", "sums", "products", "moves", "followed", "measured")

    def __init__(self, table: PredictionTable, kernel: KernelBoxes | None, told: int) -> None:
        n_cells, self._told = len(table.lower), told
        n_policies, size, n_columns = table.center.shape[1:]
        # Sums are taken about a point near all predictions, or squares would drown what matters.
        means = table.center[:n_cells].transpose(1, 3, 0, 2)
        self._reference = np.nan_to_num(means).mean(axis=2)
        self._means = means - self._reference[:, :, None]
        self._low, self._high = table.low, table.high
        ranges = table.high - table.low
        self._least = (LEAST_SCATTER * ranges) ** 2 + 1e-12 * np.where(ranges > 0.0, np.minimum(ranges, 1.0) ** 2, 1.0)
        self.measured = size > told and table.states.size == 0
        self.counts = np.zeros((n_policies, n_columns))
        self.sums = np.zeros((n_policies, n_columns, size))
        self.products = np.zeros((n_policies, n_columns, size, size))
        self._keys = np.zeros(0, dtype=np.int64) if kernel is None else encode(kernel.support)
        self._logs = np.zeros((0, n_cells)) if kernel is None else np.log(np.maximum(kernel.center, 1e-12)).T
        self.moves, self.followed = np.zeros(self._keys.size), 0

    @staticmethod
    def of(policy_set: PolicySet, table: PredictionTable) -> CellPosterior:
        """For a policy set whose return and costs ``table`` predicts; its declared signals are added."""
        signals = policy_set.cells.signals
        whole = table if signals is None else table.with_signals(signals)
        return CellPosterior(whole, policy_set.cells.kernel, table.low.size)

    def update(
        self,
        policy_index: IntArray,
        columns: IntArray,
        outcomes: FloatArray,
        signals: FloatArray | None,
        transitions: Any,
    ) -> None:
        """Take n episodes in."""
        values = np.zeros((policy_index.size, self.sums.shape[2]))
        values[:, : self._told] = outcomes
        if signals is None:
            self.measured = False
        else:
            values[:, self._told :] = signals
        # What is out of range is a matter for alarms; here its square must not drown everything else.
        values = np.clip(values, self._low, self._high) - self._reference[policy_index, columns]
        np.add.at(self.counts, (policy_index, columns), 1.0)
        np.add.at(self.sums, (policy_index, columns), values)
        np.add.at(self.products, (policy_index, columns), values[:, :, None] * values[:, None, :])
        if transitions is not None and self._keys.size:
            keys = encode(transitions)
            where = np.minimum(np.searchsorted(self._keys, keys), self._keys.size - 1)
            known = (self._keys[where] == keys) & (transitions[:, :3] < LARGEST).all(axis=1)
            np.add.at(self.moves, where[known], transitions[known, 3])
            self.followed += policy_index.size

    def scores(self) -> FloatArray:
        """(N,) log-likelihoods up to a constant."""
        return (
            self.moves @ self._logs if 2 * self.followed >= self.counts.sum() and self._keys.size else self._outcomes()
        )

    def _outcomes(self) -> FloatArray:
        size = self.sums.shape[2] if self.measured else self._told
        seen = np.nonzero(self.counts)
        counts, sums = self.counts[seen], self.sums[seen][:, :size]
        means = sums / counts[:, None]
        scatter = self.products[seen][:, :size, :size] - counts[:, None, None] * means[:, :, None] * means[:, None, :]
        freedom = counts.sum() - counts.size
        if freedom <= size:
            return np.zeros(self._means.shape[2])
        pooled = scatter.sum(axis=0) / freedom + np.diag(self._least[:size])
        own = (scatter + SHRINKAGE * pooled) / (counts - 1.0 + SHRINKAGE)[:, None, None]
        diagonal = np.arange(size)
        own[:, diagonal, diagonal] = np.maximum(own[:, diagonal, diagonal], self._least[:size])
        gaps = means[:, None] - self._means[seen][:, :, :size]
        result: FloatArray = -0.5 * np.einsum("v,vnf,vfg,vng->n", counts, gaps, np.linalg.inv(own), gaps, optimize=True)
        return result

    def posterior(self) -> FloatArray:
        """(N,) weights of the cells; equal ones before anything is known."""
        scores = self.scores()
        weights = np.exp(scores - scores.max())
        result: FloatArray = weights / weights.sum()
        return result
