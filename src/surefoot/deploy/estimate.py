"""Which cell is most plausible: a guess that decides what to try, never what is safe.

Log-likelihoods of the cells' centres: of transitions where they are reported, else a Gaussian likelihood of returns and costs given the
initial state, with the running residual covariance. Trust levels without hypotheses about cells choose their target by it.

Letters: N cells, F = 1 + I signals, E entries of the kernel support, n episodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.returns import PredictionTable, Scale
from surefoot.deploy.transitions import encode
from surefoot.policyset.schema import KernelBoxes

__all__ = ["Estimate"]


class Estimate:
    """Scores (N,) of the cells.

    Args:
        table: predictions.
        kernel: for transitions, or ``None``.
    """

    def __init__(self, table: PredictionTable, kernel: KernelBoxes | None) -> None:
        self._table, self._scale = table, Scale(table)
        self._n_cells = len(table.lower)
        self.returns = np.zeros(self._n_cells)
        self.transitions = np.zeros(self._n_cells)
        self._kernel = kernel
        self._keys = None if kernel is None else encode(kernel.support)
        self._logs = None if kernel is None else np.log(np.maximum(kernel.center, 1e-12)).T

    def update(self, policy_index: IntArray, columns: IntArray, outcomes: FloatArray, transitions: Any) -> None:
        """Score n episodes."""
        rows = np.arange(self._n_cells)[:, None]
        residual = outcomes - self._table.center[rows, policy_index, :, columns]
        inverse = self._scale.inverse(outcomes.shape[1])[columns]
        self.returns -= 0.5 * np.einsum("knf,nfg,kng->k", residual, inverse, residual)
        self._scale.update(columns, residual[int(self.scores().argmax())])
        if transitions is not None and self._logs is not None and self._keys is not None:
            where = np.minimum(np.searchsorted(self._keys, encode(transitions)), self._keys.size - 1)
            self.transitions += transitions[:, 3] @ self._logs[where]

    def scores(self) -> FloatArray:
        """Transitions where there are any, else returns."""
        return self.transitions if self.transitions.any() else self.returns

    def best(self) -> int:
        """The most plausible cell."""
        return int(self.scores().argmax())
