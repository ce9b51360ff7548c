"""The ramp: reality is compared with simulation on the safe policy alone, before any other policy gets weight.

The first ``ramp`` episodes run the safe policy. Under the null the real task lies in *some* cell i, and then the mean of every outcome X of
the safe policy (return, costs, declared signals; given the initial state b where predictions are conditional) lies in its interval, hence in
the hull over all cells

    m- = min_i lower_i,  m+ = max_i upper_i:         E[X | past, b] in [m-(b), m+(b)].

Against that one bets, with fixed fractions ``0 < c < 1`` of the largest bets that keep factors positive for X in ``[lo, hi]``,

    1 + c (X - m+(b)) / (m+(b) - lo)        and        1 + c (m-(b) - X) / (hi - m-(b)).

All conditional means are at most one, whatever was asked when and why, so the average over outcomes, sides and bets is an e-process; it is
read after every settled report, and by Ville's inequality it ever reaches ``1/level`` with probability at most ``level`` if the null holds. Episodes
of other policies are factors of one, so the comparison goes on for good after the ramp at no further cost in error. ``lo`` and ``hi`` are what any
task of the simulator can produce: an outcome beyond them contradicts every cell at once.

Losses: an episode that was lost or given up takes the smallest factor that any outcome could have given; so does an outcome that a report
leaves out (a signal, the initial state), for what is left out may depend on what happened. Neither counts as compared.

An initial state in which no cell's task starts contradicts every cell at once. (So do transitions that no cell allows:
:mod:`surefoot.deploy.evidence` rejects all cells then.)

Letters: N cells, F = 1 + I outcomes, X declared signals, B initial states, n episodes.
"""

from __future__ import annotations

import math

import numpy as np

from surefoot.arrays import FloatArray, IntArray, magnitude
from surefoot.deploy.evidence.predictions import PredictionTable
from surefoot.deploy.report import Report
from surefoot.policyset.schema import PolicySet
from surefoot.stateful import Stateful
from surefoot.stats.betting import bet_grid

__all__ = ["RAMP", "HullWealth", "Ramp", "simulated_range"]

RAMP = 50
"""Episodes of the safe policy that are compared with simulation before the weight moves."""
BETS, SMALLEST = 6, 0.03
"""Number and smallest of the fractions c."""
NARROW = 1e-3
"""A bet's unit is at least this share of the outcome's range: predictions at its very end would make bets without bound."""


ROUNDING = 1e-6
"""Relative distance beyond the range that is rounding."""


class Ramp(Stateful):
    """The comparison of the safe policy's real episodes with what simulation predicts.

    Args:
        policy_set: whose cells predict.
        table: their predictions of return and costs, with the range of every outcome.
        episodes: how many must have been compared before another policy may get weight; at least 1.
        level: probability of a false alarm.

    Attributes:
        compared: episodes of the safe policy that were told and have been compared.
        lost: those that never will be.
        contradiction: what no cell allows, in plain words, or ``None``.
    """

    CHANGES = ("compared", "lost", "contradiction", "_whole", "_given", "_extra")

    def __init__(self, policy_set: PolicySet, table: PredictionTable, episodes: int, level: float) -> None:
        self.episodes, self._threshold = episodes, -math.log(level)
        self.compared = self.lost = 0
        self.contradiction: str | None = None
        self._table, self._signals = table, policy_set.cells.signals
        criterion = policy_set.criterion
        self._names = ["return", *(f"cost {name}" for name in criterion.cost_names)]
        self._low, self._high = simulated_range(policy_set, table.high)
        # (2, F, B+1): the ends of the hull, by initial state and, last, on average.
        hull = np.stack([table.lower[:, 0].min(axis=0), table.upper[:, 0].max(axis=0)])
        whole = table.states.size
        self._whole = HullWealth(hull[:, :, whole:], self._low, self._high)
        self._given = HullWealth(hull[:, :, :whole], self._low, self._high) if whole else None
        self._extra = None
        if self._signals is not None and self._signals.names:
            ends = np.stack([self._signals.lower[:, 0].min(axis=0), self._signals.upper[:, 0].max(axis=0)])
            self._extra = HullWealth(ends[:, :, None], *self._signals.bounds.T)

    @property
    def over(self) -> bool:
        """Whether enough episodes have been compared."""
        return self.compared >= self.episodes

    def settle(self, groups: list[Report], lost: int, *, logged: bool = False) -> None:
        """Told episodes that took effect, of any policy, and how many of the safe policy are lost for good.

        What a whole log lacks (initial states, signals) was not left out because of what happened: ``logged`` episodes take no factor for it.
        """
        for group in groups:
            self._look_for_contradictions(group)
            mine = np.flatnonzero(group.policy_index == 0)
            whole = mine[np.isfinite(group.outcomes[mine]).all(axis=1)]
            lost += mine.size - whole.size  # a broken sensor
            if whole.size:
                self._compare(group, whole, logged)
        self.lost += lost
        for process in self._processes().values():
            process.lost += lost

    def _look_for_contradictions(self, group: Report) -> None:
        if self.contradiction is not None:
            return
        states = self._table.states
        if group.initial_state is not None and states.size:
            given = np.asarray(group.initial_state)
            strange = given[~np.isin(given, states)]
            if strange.size:
                self.contradiction = (
                    f"an episode started in state {int(strange[0])}, in which no task of any cell starts"
                )
        room = ROUNDING * magnitude(np.maximum(np.abs(self._low), np.abs(self._high)))
        beyond = ((group.outcomes < self._low - room) | (group.outcomes > self._high + room)).any(axis=0)
        if beyond.any():
            self.contradiction = (
                f"an episode's {self._names[int(beyond.argmax())]} is beyond what any simulated task can produce"
            )

    def _compare(self, group: Report, mine: IntArray, logged: bool) -> None:
        values, anything = group.outcomes[mine], np.zeros(mine.size, dtype=np.int64)
        self._whole.update(values, anything)
        if self._given is not None and not (logged and group.initial_state is None):
            columns = self._table.column(group.initial_state, group.ids.size)[mine]
            known = columns < self._table.states.size
            self._given.update(values[known], columns[known])
            self._given.lost += int((~known).sum())
        if self._extra is not None and group.signals is None:
            self._extra.lost += 0 if logged else int(mine.size)
        elif self._extra is not None and group.signals is not None:
            self._extra.update(group.signals[mine], anything)
        self.compared += int(mine.size)

    def _processes(self) -> dict[str, HullWealth]:
        named = {"whole": self._whole, "given": self._given, "extra": self._extra}
        return {name: process for name, process in named.items() if process is not None}

    def log_wealths(self) -> dict[str, FloatArray]:
        """Log-wealth by outcome: on average (F,), given the initial state (F,), declared signals (X,)."""
        return {name: process.log_mean() for name, process in self._processes().items()}

    @property
    def log_wealth(self) -> float:
        """Log of the average over all of them."""
        logs = np.concatenate(list(self.log_wealths().values()))
        return float(np.logaddexp.reduce(logs) - math.log(logs.size))

    def alarm(self) -> str | None:
        """Why reality and simulation do not fit, or ``None``."""
        if self.contradiction is not None:
            return self.contradiction
        if self.log_wealth < self._threshold:
            return None
        return f"the safe policy's real {self._worst()} is not what simulation predicts for it in any cell"

    def _worst(self) -> str:
        """Name of the outcome with the most evidence."""
        names = {"whole": self._names, "given": self._names}
        names["extra"] = [] if self._signals is None else [f"signal {name}" for name in self._signals.names]
        found = [
            (float(log), name)
            for kind, logs in self.log_wealths().items()
            for log, name in zip(logs, names[kind], strict=True)
        ]
        return max(found, key=lambda entry: entry[0])[1]


class HullWealth(Stateful):
    """Bets on F outcomes in ``[low, high]`` whose means lie in intervals that depend on one of B conditions.

    Args:
        hull: (2, F, B) lower and upper ends.
        low, high: (F,).

    Attributes:
        log_wealth: (2, F, K) of every bet, without losses; side 0 bets on larger means, side 1 on smaller ones.
        lost: episodes that take the smallest factor.
    """

    CHANGES = ("log_wealth", "lost")

    def __init__(self, hull: FloatArray, low: FloatArray, high: FloatArray) -> None:
        self._low, self._high = low, high
        self._hull = np.clip(hull, low[None, :, None], high[None, :, None])
        self._fractions = bet_grid(BETS, SMALLEST, tilt=0.0).fractions
        reach = np.stack([self._hull[1] - low[:, None], high[:, None] - self._hull[0]])
        least = np.where(high > low, NARROW * (high - low), 1.0)
        self._unit = np.maximum(reach, least[:, None])
        self._worst = np.log1p(-self._fractions)
        self.log_wealth, self.lost = np.zeros((2, low.size, self._fractions.size)), 0

    def update(self, values: FloatArray, columns: IntArray) -> None:
        """Outcomes (n, F) under conditions (n,)."""
        inside = np.clip(values, self._low, self._high).T
        gains = np.stack([inside - self._hull[1][:, columns], self._hull[0][:, columns] - inside])
        share = (gains / self._unit[:, :, columns])[:, :, None]
        self.log_wealth = self.log_wealth + np.log1p(self._fractions[:, None] * share).sum(axis=3)

    def log_mean(self) -> FloatArray:
        """(F,) log of the average over sides and bets."""
        logs = self.log_wealth + self.lost * self._worst
        result: FloatArray = np.logaddexp.reduce(np.logaddexp.reduce(logs, axis=2), axis=0) - math.log(
            2 * logs.shape[2]
        )
        return result


def simulated_range(policy_set: PolicySet, ceilings: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(F,) each: the smallest and largest outcomes of any simulated task; ``ceilings`` (F,) hold the largest costs."""
    bounds, (least, most) = policy_set.bounds, policy_set.criterion.return_range
    known = bounds.return_lower < bounds.return_upper
    low, high = np.zeros(ceilings.size), ceilings.astype(np.float64)
    low[0], high[0] = (bounds.return_lower, bounds.return_upper) if known else (least, most)
    return low, high
