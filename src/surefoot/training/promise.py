"""What every cell promises of its tasks beside its box: the range of an episode.

Ceilings, ranges of outcomes and impossible reports rest on it, whether or not kernel boxes are kept.

Letters: S states, A actions, I constraints, E entries of the kernel support.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.cmdp.evaluate import ceilings
from surefoot.cmdp.model import TabularCMDP
from surefoot.policyset.schema import EpisodeBounds
from surefoot.training.coverage import joint_support, kernel_rows

__all__ = ["Promised"]


@dataclass(frozen=True, eq=False)
class Promised:
    """The range of an episode, and what it was computed from.

    Attributes:
        starts: (S,) whether an episode of some sampled task starts there.
        keys: (E,) the union of the supports of the kernels, ``(s A + a) S + s'``.
        rewards: (2, S, A) smallest and largest of the sampled tasks, entry by entry.
        costs: (K, S, A) largest.
        bounds: range of an episode with these signals from these starts on the union of the supports.
    """

    starts: np.ndarray[Any, np.dtype[np.bool_]]
    keys: IntArray
    rewards: FloatArray
    costs: FloatArray
    bounds: EpisodeBounds

    @staticmethod
    def of(models: list[TabularCMDP], limits: FloatArray) -> Promised:
        """Over all sampled tasks: where episodes start and move, extreme signals, and what an episode can collect of them there."""
        from scipy.sparse import csr_matrix

        n_states, n_actions = models[0].rewards.shape
        keys = joint_support(models)
        rows, successors = np.divmod(keys, n_states)
        share = 1.0 / np.bincount(rows)
        kernel = csr_matrix((share[rows], (rows, successors)), shape=(n_states * n_actions, n_states))
        costs = np.max([m.costs for m in models], axis=0)
        starts = np.any([m.start > 0.0 for m in models], axis=0)
        rewards = np.stack([np.min([m.rewards for m in models], axis=0), np.max([m.rewards for m in models], axis=0)])
        ends = [
            ceilings(
                TabularCMDP(kernel, r, costs, limits, starts / starts.sum(), models[0].discount, models[0].functionals)
            )
            for r in rewards
        ]
        bounds = EpisodeBounds(ends[0].return_lower, ends[1].return_upper, tuple(float(c) for c in ends[1].costs))
        return Promised(starts, keys, rewards, costs, bounds)

    def hold(self, cmdp: TabularCMDP) -> bool:
        """Whether a task starts and moves only where sampled tasks do, and its episodes surely stay in the range."""
        if ((cmdp.start > 0.0) & ~self.starts).any() or not kernel_rows(cmdp, self.keys)[1]:
            return False
        inside = (cmdp.rewards >= self.rewards[0]) & (cmdp.rewards <= self.rewards[1])
        if inside.all() and (cmdp.costs <= self.costs).all():
            return True
        found, low, high = ceilings(cmdp), self.bounds.return_lower, self.bounds.return_upper
        room = 1e-9 * max(abs(low), abs(high))
        return bool(
            found.return_lower >= low - room
            and found.return_upper <= high + room
            and (found.costs <= np.asarray(self.bounds.cost_ceilings) * (1.0 + 1e-9)).all()
        )
