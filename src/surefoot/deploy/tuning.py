"""Constants that decide how fast the certified agent is, and nothing about safety.

Whatever they are, every deployed mixture satisfies the rows of its trust level at the error that the ledger spent. They were chosen on
training tasks; the audit (:mod:`surefoot.audit`) takes them from here, as choices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["TUNING", "Tuning"]


@dataclass(frozen=True)
class Tuning:
    """See the module's docstring.

    Attributes:
        warm_up: settled episodes after which a target is chosen under ``data`` and ``envelope`` at the latest, if any policy promises a gain.
        first_update, update_growth: there the objective follows the posterior after so many settled episodes, and whenever their number grew by
            this factor.
        decided: a target is chosen as soon as knowing the task could improve on it by no more than this share of what it promises over the safe
            policy.
        plausible: cells with less posterior weight do not take part in choosing a target.
        target_slack, least_slack: a target's predicted costs stay below the limits by the first share: what can be proved below the limit gets its
            full weight. Where the safe policy costs more than that, they stay within the second share of what is left above it.
        negligible_gain: promises that differ by less, relative to their size, are the same.
        exploration_cap: largest weight that the exploration line asks for, before its share is taken.
        stalled, most_exploration: the share of exploration doubles, up to the second, whenever the number of episodes has doubled (from the first
            on) without a change among the cells: on tasks whose cells differ only where the candidate goes, a small share teaches next to nothing.
        noticeable: data bounds are planned with again when one fell by this share of the limit.
        events_kept: of what happened, in memory.
        most_holdout: a refusal advises more hold-out tasks where so many times as many would do; beyond that the misses are the problem.
    """

    warm_up: int = 500
    first_update: int = 20
    update_growth: float = 1.1
    decided: float = 0.02
    plausible: float = 1e-6
    target_slack: float = 0.05
    least_slack: float = 0.25
    negligible_gain: float = 1e-9
    exploration_cap: float = 1.0
    stalled: int = 4000
    most_exploration: float = 0.3
    noticeable: float = 0.003
    events_kept: int = 1000
    most_holdout: int = 20

    def next_update(self, settled: int) -> int:
        """When the objective follows the posterior again; the end of the warm-up is not passed by."""
        found = max(settled + 1, math.ceil(self.update_growth * settled))
        return self.warm_up if settled < self.warm_up < found else found

    def exploration(self, least: float, settled: int, changed: int) -> float:
        """``kappa`` after so many settled episodes, when cells changed last after ``changed`` of them."""
        doublings = math.floor(math.log2(max(settled, 1) / max(changed, self.stalled)))
        return min(least * 2.0 ** max(doublings, 0), max(least, self.most_exploration))


TUNING = Tuning()
"""What agents use."""
