"""What was told, added up: how many episodes, and the means of what they returned and cost.

Over all episodes told, whatever policy they ran; logged ones are not among them. No guarantee rests on it. Memory is constant. Letters: I
constraints, K costs that a plant reports, n episodes.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.criterion import Criterion
from surefoot.deploy.report import Report
from surefoot.stateful import Stateful

__all__ = ["Tally"]


class Tally(Stateful):
    """See the module's docstring.

    Args:
        criterion: says what of a cost is limited.

    Attributes:
        told, lost: episodes.
    """

    CHANGES: ClassVar[tuple[str, ...]] = ("told", "lost", "_sums")

    def __init__(self, criterion: Criterion) -> None:
        self._criterion = criterion
        self.told = self.lost = 0
        self._sums: FloatArray = np.zeros(1 + criterion.n_constraints)

    def report(self, report: Report) -> None:
        """Episodes (n,) were told, with the costs (n, K) that the plant reported."""
        self.told += report.ids.size
        self._sums[0] += report.reward.sum()
        self._sums[1:] += self._criterion.measure(report.costs).sum(axis=0)

    @property
    def mean_return(self) -> float | None:
        """Of an episode; ``None`` before the first report, and where a sensor reported what is no number any more."""
        return self._mean(0)

    @property
    def mean_costs(self) -> dict[str, float | None]:
        """The same of what is limited, by the constraint's name."""
        return {name: self._mean(1 + i) for i, name in enumerate(self._criterion.cost_names)}

    def _mean(self, k: int) -> float | None:
        found = float(self._sums[k]) / self.told if self.told else math.nan
        return found if math.isfinite(found) else None
