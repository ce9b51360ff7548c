r"""One run on one plant: the mixtures that were deployed, and what follows from their values.

    violating    some mixture, or the safe policy alone, has a cost above a limit
    regret       sum over episodes of ``best - return``
    gain         sum over episodes of ``return - return of the safe policy``
    episodes     before the first from which on every mixture is within ``eps |best|`` of the best

The safe policy counts because everything that stops a deployment (alarms, an abort, a pause) leads back to it: a run that is stopped deploys the
first mixtures of the run that is not, and the safe policy. So a stop can only remove violations.

Letters: T stretches of constant mixture, V = 1 + I values, K episodes, C checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.trace import VIOLATION_TOLERANCE

__all__ = ["CHECKPOINTS", "Path", "RunRecord", "checkpoints", "score"]

CHECKPOINTS = 60


@dataclass(frozen=True, eq=False)
class Path:
    """What was deployed.

    Attributes:
        starts: (T,) first episode of each stretch; the first is 0.
        values: (T, V) return and costs of each stretch's mixture.
        surprise: the agent's largest surprise, 0 for agents without such a statistic.
    """

    starts: IntArray
    values: FloatArray
    surprise: float = 0.0


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What is kept of a run.

    Attributes:
        violating: see the module's docstring.
        excess: largest cost above a limit, as a share of it.
        regret, gain, episodes: see there; ``episodes`` is infinite where the last mixture is not within eps.
        share: of what there is to gain that was given up, clipped to [0, 1].
        surprise: the agent's largest.
        costs: (C,) largest cost over limit of the mixture at each checkpoint.
        regrets: (C,) regret so far.
    """

    violating: bool
    excess: float
    regret: float
    gain: float
    episodes: float
    share: float
    surprise: float
    costs: FloatArray
    regrets: FloatArray

    @property
    def numbers(self) -> FloatArray:
        """(7,) in the order of :data:`NUMBERS`."""
        return np.array(
            [float(self.violating), self.excess, self.regret, self.gain, self.episodes, self.share, self.surprise]
        )


NUMBERS = ("violating", "excess", "regret", "gain", "episodes", "share", "surprise")


def checkpoints(episodes: int) -> IntArray:
    """(C,) numbers of episodes at which curves are drawn: evenly spread on a logarithmic scale up to K."""
    found = np.unique(np.rint(np.geomspace(1, episodes, min(CHECKPOINTS, episodes))).astype(np.int64))
    return found


def score(path: Path, *, limits: FloatArray, safe: FloatArray, best: float, episodes: int, eps: float) -> RunRecord:
    """What follows from a path.

    Args:
        path: of the run.
        limits: (I,).
        safe: (V,) values of the safe policy on this plant.
        best: return of the best that respects the limits.
        episodes: K.
        eps: see the module's docstring.
    """
    scale = np.where(limits > 0.0, limits, 1.0)
    over = (np.vstack([path.values, safe[None]])[:, 1:] - limits) / scale
    excess = float(over.max())
    lengths = np.diff(np.append(path.starts, episodes))
    short = best - path.values[:, 0]
    regret, possible = float(lengths @ short), best - float(safe[0])
    outside = np.flatnonzero(short > eps * abs(best))
    if not outside.size:
        needed = 0.0
    elif outside[-1] + 1 < len(path.starts):
        needed = float(path.starts[outside[-1] + 1])
    else:
        needed = math.inf
    at = checkpoints(episodes)
    stretch = np.searchsorted(path.starts, at - 1, side="right") - 1
    total = np.concatenate([[0.0], np.cumsum(lengths * short)])
    reached = total[stretch] + (at - path.starts[stretch]) * short[stretch]
    return RunRecord(
        violating=excess > VIOLATION_TOLERANCE,
        excess=excess,
        regret=regret,
        gain=float(lengths @ (path.values[:, 0] - safe[0])),
        episodes=needed,
        share=float(np.clip(regret / (episodes * possible), 0.0, 1.0)) if possible > 0.0 else 0.0,
        surprise=path.surprise,
        costs=(path.values[stretch, 1:] / scale).max(axis=1),
        regrets=reached,
    )
