"""Watching real costs for a change: an e-detector beside the monitor.

The monitor is a product over all episodes: after a long good phase it has to climb back before a change shows. The detector forgets:

    M_n = L_n (1 + M_{n-1}),  M_0 = 0,        that is  M_n = sum_{s <= n} L_s L_{s+1} ... L_n,

the sum of all monitors, one started at every episode, with the monitor's factors ``L_n = 1 + lam (C_n - d)``. While every deployed mixture meets its
limit ``E[L_n | past] <= 1``, so ``M_n - n`` is a supermartingale, for every bet and constraint and so for the average over them. It alarms when that
average reaches c: the mean number of episodes until a false alarm is at least c, and n episodes see one with probability at most ``n / c``
(Shin, Ramdas & Rinaldo 2023, E-detectors; proof in ``docs/guarantees.md``). The policy that was drawn does not enter: the null concerns the mixture.

Where a limit is zero, a mixture that meets it costs nothing: an episode free of cost has the factor 0 there, which is valid and keeps M at zero.

Letters: I constraints, K bets, n episodes.
"""

from __future__ import annotations

import math

import numpy as np

from surefoot.arrays import FloatArray, check_real
from surefoot.deploy.monitor import costs_in_order, monitor_bets
from surefoot.deploy.reorder import Released
from surefoot.errors import InvalidInput
from surefoot.kernels import compiled
from surefoot.stateful import Stateful

__all__ = ["DRIFT", "FALSE_ALARM_EVERY", "CostDetector", "check_false_alarm_every"]

FALSE_ALARM_EVERY = 1e6
"""Default of c, in episodes."""
DRIFT = "recent real costs reject that the deployed mixtures still meet the limit: the plant has changed"
"""Words of the alarm."""


def check_false_alarm_every(value: float, name: str = "false_alarm_every") -> float:
    """c as a number: at least 1, or 0 for no detector.

    Raises:
        InvalidInput: another number.
    """
    found = check_real(name, value, low=0.0)
    if 0.0 < found < 1.0 or found == math.inf:
        raise InvalidInput(
            f"{name} must be a finite number of at least 1 episode, or 0 to switch the detector off, got {found:g}; choose one",
            code="SF-ARGUMENT-RANGE",
        )
    return found


class CostDetector(Stateful):
    """The e-detector of real costs; its state does not grow.

    Args:
        limits: (I,) ``d``.
        ceilings: (I,) used as the unit where a limit is zero.
        every: c, the mean number of episodes between false alarms; at least 1, or 0: never alarm.

    Attributes:
        rejected: whether the average reached c.
    """

    CHANGES = ("_logs", "rejected")

    def __init__(self, limits: FloatArray, ceilings: FloatArray, every: float) -> None:
        self._limits, self._bets = limits, monitor_bets(limits, ceilings)
        self._threshold = math.log(every) if every > 0.0 else math.inf
        self._logs = np.full(self._bets.shape, -np.inf)
        self.rejected = False

    @property
    def log_value(self) -> float:
        """Log of the average of M over bets and constraints; minus infinity before the first cost."""
        return (
            float(np.logaddexp.reduce(self._logs, axis=None)) - math.log(self._logs.size)
            if self._logs.size
            else -math.inf
        )

    def update(self, costs: FloatArray) -> None:
        """Add real costs (n, I), in ask order."""
        if not self._logs.size or self._threshold == math.inf:
            return
        steps = np.log1p(self._bets[None] * (costs - self._limits)[:, :, None])
        steps[((self._limits == 0.0) & (costs <= 0.0))] = -np.inf
        self._logs = self._logs.copy()
        self.rejected |= bool(_add_up(self._logs.reshape(-1), steps.reshape(-1, self._logs.size), self._threshold))

    def released(self, released: Released) -> None:
        """Add what was released, episode by episode in ask order; a lost episode cost nothing, which is the smallest factor."""
        self.update(costs_in_order(released, self._limits.size))


@compiled
def _add_up(logs: FloatArray, steps: FloatArray, threshold: float) -> bool:
    """``M <- L (1 + M)`` on logs (K,) in place, for ``log L`` (n, K); whether the log of the mean over K ever reaches the threshold."""
    reached = False
    for t in range(steps.shape[0]):
        top = -math.inf
        for k in range(logs.size):
            logs[k] = steps[t, k] + max(logs[k], 0.0) + math.log1p(math.exp(-abs(logs[k])))
            top = max(top, logs[k])
        if top < threshold:
            continue  # the mean is no larger than the largest
        total = 0.0
        for k in range(logs.size):
            total += math.exp(logs[k] - top)
        reached = reached or top + math.log(total / logs.size) >= threshold
    return reached
