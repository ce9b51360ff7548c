"""The monitor of costs and the comparison of the safe policy with simulation, a second time: sums of logarithms.

Letters: I constraints, F = 1 + I signals, B initial states, K bets, n episodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.audit.groups import Group, PredictedBoxes, log_sum
from surefoot.audit.returns import simulated_returns
from surefoot.deploy.monitor import MONITOR_BETS
from surefoot.deploy.ramp import BETS, NARROW, ROUNDING, SMALLEST
from surefoot.policyset.schema import PolicySet
from surefoot.stats.betting import bet_grid

__all__ = ["ChangeWatch", "CostWatch", "SafeCheck"]


LOG2 = math.log(2.0)


class CostWatch:
    """The monitor's e-process.

    Attributes:
        peak: largest log of the average wealth so far.
    """

    def __init__(self, limits: FloatArray, ceilings: FloatArray) -> None:
        unit = np.where(limits > 0.0, limits, np.where(ceilings > 0.0, ceilings, 1.0))
        self._limits, self._bets = limits, np.array(MONITOR_BETS) / unit[:, None]
        self._logs = np.zeros(self._bets.shape)
        self.peak = 0.0

    def update(self, costs: FloatArray) -> None:
        """Costs (n, I) in ask order."""
        for row in costs:
            self._logs = self._logs + np.log1p(self._bets * (row - self._limits)[:, None])
            if self._logs.size:
                self.peak = max(self.peak, float(log_sum(self._logs)) - math.log(self._logs.size))

    def foresee(self, costs: FloatArray) -> tuple[float, Callable[[], None]]:
        """The peak after costs (n, I), and what makes it so."""
        walk = self._logs + np.cumsum(np.log1p(self._bets * (costs - self._limits)[:, :, None]), axis=0)
        peak = self.peak
        if self._logs.size:
            peak = max(peak, float(log_sum(walk, axis=(1, 2)).max()) - math.log(self._logs.size))

        def commit() -> None:
            self._logs, self.peak = walk[-1], peak

        return peak, commit


class ChangeWatch:
    """The detector of a change of costs, as a sum of products with a common exponent.

    Args:
        every: c.

    Attributes:
        peak: largest log of the average so far, in parts of the threshold: negative until the alarm is due.
    """

    def __init__(self, limits: FloatArray, ceilings: FloatArray, every: float) -> None:
        unit = np.where(limits > 0.0, limits, np.where(ceilings > 0.0, ceilings, 1.0))
        self._limits, self._bets = limits, np.array(MONITOR_BETS) / unit[:, None]
        # (M + 1) = sums 2^powers
        self._sums, self._powers = np.ones(self._bets.shape), np.zeros(self._bets.shape)
        self._least = math.log(every * self._bets.size) if every > 0.0 and self._bets.size else math.inf
        self.peak = -math.inf

    def update(self, costs: FloatArray) -> None:
        """Costs (n, I) in ask order."""
        self.foresee(costs)[1]()

    def foresee(self, costs: FloatArray) -> tuple[float, Callable[[], None]]:
        """The peak after costs (n, I), and what makes it so."""
        sums, powers, peak = self._sums, self._powers, self.peak
        if self._least == math.inf:
            return peak, lambda: None
        for row in costs:
            factors = 1.0 + self._bets * (row - self._limits)[:, None]
            factors[(self._limits == 0.0) & (row <= 0.0)] = 0.0
            grown = factors * sums  # M, in units of 2^powers
            top = powers.max()
            peak = max(
                peak, math.log(max(float((grown * np.exp2(powers - top)).sum()), 5e-324)) + top * LOG2 - self._least
            )
            fractions, shifts = np.frexp(grown + np.exp2(-powers))
            sums, powers = fractions, powers + shifts

        def commit() -> None:
            self._sums, self._powers, self.peak = sums, powers, peak

        return peak, commit


class SafeCheck:
    """The safe policy's real episodes against what simulation predicts for it.

    Attributes:
        compared: its episodes that were told whole.
        impossible: an episode started where no cell's task starts, or had an outcome that no simulated task can have.
    """

    def __init__(self, policy_set: PolicySet, boxes: PredictedBoxes) -> None:
        self.compared, self.impossible = 0, False
        self._wealth: float | None = None
        self._states, signals = boxes.states.tolist(), policy_set.cells.signals
        low, high = np.array(boxes.low), np.array(boxes.high)
        low[0], high[0] = simulated_returns(policy_set)
        self._least, self._most = (
            end + sign * ROUNDING * (1.0 + np.maximum(abs(low), abs(high))) for end, sign in ((low, -1), (high, 1))
        )
        hulls = [
            np.array([boxes.lower[:, 0, :, b].min(axis=0), boxes.upper[:, 0, :, b].max(axis=0)])
            for b in range(len(self._states) + 1)
        ]
        self._parts = [HullBets(hulls[-1:], low, high)]
        self._given = len(self._states) > 0
        if self._given:
            self._parts.append(HullBets(hulls[:-1], low, high))
        self._measured = signals is not None and len(signals.names) > 0
        if signals is not None and self._measured:
            ends = np.array([signals.lower[:, 0].min(axis=0), signals.upper[:, 0].max(axis=0)])
            self._parts.append(HullBets([ends], signals.bounds[:, 0], signals.bounds[:, 1]))

    def settle(self, groups: list[Group], lost: int, *, logged: bool = False) -> None:
        """Told episodes of any policy; how many of the safe policy were lost. What a whole log lacks is no loss."""
        before = self.compared, lost
        for group in groups:
            starts = [None] * group.ids.size if group.starts is None else group.starts.tolist()
            if self._given and any(start is not None and start not in self._states for start in starts):
                self.impossible = True
            inside = (group.outcomes >= self._least) & (group.outcomes <= self._most)
            self.impossible |= not bool((inside | np.isnan(group.outcomes)).all())
            for k, start in enumerate(starts):
                if group.policies[k] == 0 and np.isfinite(group.outcomes[k]).all():
                    self._tell(group, k, start, logged)
                elif group.policies[k] == 0:
                    lost += 1
        for part in self._parts:
            part.lost += lost
        if (self.compared, lost) != before or lost:
            self._wealth = None

    def foresee(self, group: Group) -> tuple[float, Callable[[], None]] | None:
        """The largest log-wealth on the way through n episodes, none of them lost, and what makes it so; ``None`` where one is impossible."""
        starts = None if group.starts is None else group.starts.tolist()
        inside = (group.outcomes >= self._least) & (group.outcomes <= self._most)
        mine = np.flatnonzero(group.policies == 0)
        if not inside.all() or (self._given and (starts is None or any(b not in self._states for b in starts))):
            return None
        if self._measured and group.signals is None:
            return None
        if not mine.size:
            return self.log_wealth(), lambda: None
        walks = [self._parts[0].walk([0] * mine.size, group.outcomes[mine])]
        if self._given and starts is not None:
            walks.append(self._parts[1].walk([self._states.index(starts[k]) for k in mine], group.outcomes[mine]))
        if self._measured and group.signals is not None:
            walks.append(self._parts[-1].walk([0] * mine.size, group.signals[mine]))
        logs = np.concatenate([part.logs_of(walk) for part, walk in zip(self._parts, walks)], axis=1)
        wealth = log_sum(logs, axis=1) - math.log(logs.shape[1])

        def commit() -> None:
            for part, walk in zip(self._parts, walks):
                part.end(walk[-1])
            self.compared, self._wealth = self.compared + mine.size, float(wealth[-1])

        return float(wealth.max()), commit

    def _tell(self, group: Group, k: int, start: int | None, logged: bool) -> None:
        self.compared += 1
        self._parts[0].see(0, group.outcomes[k])
        if self._given:
            if start in self._states:
                self._parts[1].see(self._states.index(start), group.outcomes[k])
            elif start is not None or not logged:
                self._parts[1].lost += 1
        if self._measured:
            if group.signals is None:
                self._parts[-1].lost += not logged
            else:
                self._parts[-1].see(0, group.signals[k])

    def log_wealth(self) -> float:
        """Log of the average over outcomes."""
        if self._wealth is None:
            logs = np.concatenate([part.logs() for part in self._parts])
            self._wealth = float(log_sum(logs)) - math.log(logs.size)
        return self._wealth


class HullBets:
    """Bets of F outcomes against intervals [B][2, F]: sums of logarithms (2, F, K), and those of losses."""

    def __init__(self, hulls: list[FloatArray], low: FloatArray, high: FloatArray) -> None:
        self._hulls = [np.minimum(np.maximum(hull, low), high) for hull in hulls]
        self._low, self._high, self.lost = low, high, 0
        fractions = bet_grid(BETS, SMALLEST, tilt=0.0).fractions
        width = np.where(high > low, NARROW * (high - low), 1.0)
        reaches = [np.array([plus - low, high - minus]) for minus, plus in self._hulls]
        self._bets = [fractions / np.maximum(reach, width)[..., None] for reach in reaches]
        self._worst = np.log(1.0 - fractions)
        self._sums = np.zeros((2, low.size, fractions.size))

    def see(self, b: int, outcome: FloatArray) -> None:
        x = np.minimum(np.maximum(outcome, self._low), self._high)
        minus, plus = self._hulls[b]
        self._sums += np.log1p(np.array([x - plus, minus - x])[..., None] * self._bets[b])

    def walk(self, columns: list[int], outcomes: FloatArray) -> FloatArray:
        """(n, 2, F, K) sums after each of n outcomes (n, F)."""
        x, b = np.clip(outcomes, self._low, self._high), np.array(columns)
        minus, plus = np.array(self._hulls)[b].transpose(1, 0, 2)
        bets = np.array(self._bets)[b]
        steps = np.log1p(np.stack([x - plus, minus - x], axis=1)[..., None] * bets)
        return np.asarray(self._sums + np.cumsum(steps, axis=0))

    def end(self, sums: FloatArray) -> None:
        """These sums (2, F, K) are the last of a walk."""
        self._sums = sums

    def logs(self) -> FloatArray:
        """(F,)."""
        return np.asarray(self.logs_of(self._sums[None])[0])

    def logs_of(self, sums: FloatArray) -> FloatArray:
        """(n, F) from sums (n, 2, F, K)."""
        logs = sums + self.lost * self._worst
        return np.asarray(log_sum(logs, axis=(1, 3))) - math.log(2 * logs.shape[3])
