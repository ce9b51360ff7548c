"""Logged episodes: what today's controller did on this plant before the first ask.

Months of logs of the safe policy usually exist when a deployment is opened. By assumption (A0) they are independent episodes of policy 0, just as
if they had been asked and told with ids before the first. So they count at every trust level: in the data bound of the safe policy, in the evidence
about cells, in what is expected of the task, in the comparison with simulation. They do not enter the monitor, whose null speaks of mixtures that
were deployed. Six rules make that true, and only whoever gives the log can know them:

* *complete*: all episodes of a period that was chosen without a look at outcomes; one whose record is missing is filled in at the worst (its cost
  at the ceiling), never left out;
* *unselected*: no day was taken out because of what happened on it; which parts the log has (initial states, signals, transitions) does not depend
  on outcomes either;
* the *same plant*: nothing was changed, repaired or replaced between the log and the deployment;
* the *same controller*: what ran is the safe policy of the policy set, from the first step of every episode to the last;
* the *same criterion*: returns and costs are discounted and counted as the criterion says;
* *fresh*: nothing that the deployment rests on was chosen by these outcomes. A simulator that was calibrated on them, or a safe policy that was
  tuned on them, has used them up: calibrate on one part of the log and give the other.

What can be checked is checked: ceilings (a cost above one is an alarm), the safe policy's predicted values (the ramp), and whether the log looks
stationary. For the last, take the n episodes that are given at once, h = n // 2, and pair episode k of the first half with episode k of the second:
``D_k = X_{k+h} - X_k``. If episodes are independent with one law, every ``D_k`` is symmetric about zero and independent of earlier pairs, so

    1 + s c g_k,    g_k = D_k / (|D_k| + mean of |D| over earlier pairs),    s = +1 or -1,  0 < c < 1

has conditional mean one: g is odd in ``D_k`` and at most one in size. The product over pairs, averaged over outcomes (return and costs), signs s and
fractions c, is an e-process, and by Ville's inequality it ever reaches ``1/LEVEL`` with probability at most LEVEL. A rejection is a warning for
people; it changes no decision. Shifts and trends move all pairs alike and are found; what is the same in both halves (a weekly pattern) is not.

Letters: n episodes, I constraints, F = 1 + I outcomes, K fractions, h pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.deploy.report import Report
from surefoot.stateful import Stateful

__all__ = ["FRACTIONS", "LEVEL", "SHIFTED", "History", "LogCheck", "blocks"]

LEVEL = 0.01
"""Probability of a warning about a stationary log."""
FRACTIONS = (0.1, 0.3, 0.6, 0.9)
SHIFTED = "the log does not look stationary"
"""How the warning begins."""
FIRST_BLOCK = 10
"""Episodes after which bets look at the log for the first time; then whenever what they have seen doubled."""


@dataclass(frozen=True, eq=False)
class History:
    """Logged episodes of the safe policy on this plant; see the module's docstring for the rules that make them valid.

    Attributes:
        reward: (n,) discounted returns.
        costs: (n, I) discounted costs.
        initial_state: (n,) first states, counted from 0, or ``None``.
        transitions: (m, 4) rows ``(s, a, s', count)`` over all n episodes, or ``None``.
        signals: (n, X) declared signals, or ``None``.
    """

    reward: Any
    costs: Any
    initial_state: Any = None
    transitions: Any = None
    signals: Any = None

    def arguments(self) -> dict[str, Any]:
        """What :meth:`~surefoot.deploy.certified.CertifiedAgent.recall` takes."""
        return {
            "reward": self.reward,
            "costs": self.costs,
            "initial_state": self.initial_state,
            "transitions": self.transitions,
            "signals": self.signals,
        }


def blocks(report: Report) -> list[Report]:
    """A log in parts, in order: bets on one are fixed when those before it are known. Transitions cannot be taken apart, so there it is one part."""
    n = report.ids.size
    if report.transitions is not None:
        return [report]
    edges = [0]
    while edges[-1] < n:
        edges.append(min(n, 2 * edges[-1] or FIRST_BLOCK))
    return [_part(report, slice(low, high)) for low, high in pairwise(edges)]


def _part(report: Report, which: slice) -> Report:
    starts, signals = report.initial_state, report.signals
    return Report(
        report.ids[which],
        report.reward[which],
        report.costs[which],
        None if starts is None else starts[which],
        None,
        None if signals is None else signals[which],
        report.policy_index[which],
    )


class LogCheck(Stateful):
    """How many logged episodes count, and whether they look stationary.

    Args:
        names: of the F outcomes, for people.

    Attributes:
        count: logged episodes given so far.
        peak: largest log of the average wealth so far.
        shifted: whether stationarity was rejected.
    """

    CHANGES = ("count", "peak", "shifted", "_log_wealth", "_sizes", "_pairs")

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names, shape = names, (len(names), 2, len(FRACTIONS))
        self.count, self.peak, self.shifted = 0, 0.0, False
        self._log_wealth, self._sizes, self._pairs = np.zeros(shape), np.zeros(shape[0]), 0

    def add(self, outcomes: FloatArray) -> str | None:
        """Take n episodes (n, F) in; what to say, once, where their halves differ."""
        half, n = len(outcomes) // 2, len(outcomes)
        self.count += n
        if half == 0:
            return None
        gaps = outcomes[half : 2 * half] - outcomes[:half]
        sizes = self._sizes + np.vstack([np.zeros(gaps.shape[1]), np.cumsum(np.abs(gaps), axis=0)])
        pairs = np.maximum(self._pairs + np.arange(half), 1)
        scale = np.abs(gaps) + sizes[:-1] / pairs[:, None]
        gains = np.divide(gaps, scale, out=np.zeros_like(gaps), where=scale > 0.0)
        bets = np.array([[c, -c] for c in FRACTIONS]).T
        steps = np.log1p(bets[None, None] * gains[:, :, None, None])
        walk = self._log_wealth + np.cumsum(steps, axis=0)
        self._log_wealth, self._sizes, self._pairs = walk[-1], sizes[-1], self._pairs + half
        means = np.logaddexp.reduce(walk.reshape(half, -1), axis=1) - math.log(walk[0].size)
        self.peak = max(self.peak, float(means.max()))
        if self.shifted or self.peak < -math.log(LEVEL):
            return None
        self.shifted = True
        return (
            f"{SHIFTED}: its second half differs from its first, most of all in {self._names[self._most()]} (shown at error {LEVEL:g}); make "
            "sure that plant and controller were the same throughout, or give only the part since the change"
        )

    def _most(self) -> int:
        return int(np.logaddexp.reduce(self._log_wealth.reshape(len(self._names), -1), axis=1).argmax())
