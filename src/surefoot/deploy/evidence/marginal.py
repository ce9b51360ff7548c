"""Evidence from one outcome at a time: bets on every signal, policy and side apart.

For every outcome f (return, costs, declared signals) and every policy a process bets that the mean lies above, or below, what a cell
predicts (:class:`surefoot.stats.betting.IntervalWealth`); their average over sides, policies and outcomes is the cell's wealth. These bets are
slower than joint ones, but a wrong cell cannot survive for ever by agreeing with the truth on what is mostly played. Unconditional intervals
hold whatever is reported, so nothing has to be decided about initial states.

Letters: N cells, J policies, F = 1 + I outcomes, X declared signals, n episodes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.deploy.evidence.base import EvidenceKind, EvidenceSetting, Placed
from surefoot.deploy.evidence.predictions import PredictionTable
from surefoot.deploy.report import Report
from surefoot.policyset.schema import SignalPredictions
from surefoot.stats.betting import IntervalWealth, bet_grid

__all__ = ["SAFE_SHARE", "SEPARATE_BETS", "MarginalEvidence"]

SEPARATE_BETS = 4
SAFE_SHARE = 0.25
"""Of the weight, what goes to the safe policy, which every deployment plays."""


class MarginalEvidence(EvidenceKind):
    """See the module's docstring. Shares and recorded validations call it ``separate``."""

    name = "separate"
    CHANGES = ("_outcomes", "_extra")

    def __init__(self, setting: EvidenceSetting) -> None:
        super().__init__(setting)
        table, self._signals = setting.table, setting.policy_set.cells.signals
        self._low, self._high = table.low, table.high
        self._outcomes = [_interval_wealth(table, f) for f in range(table.low.size)]
        self._intervals = [_intervals(process, *_whole(table, f)) for f, process in enumerate(self._outcomes)]
        names = () if self._signals is None else self._signals.names
        self._extra = [_signal_wealth(self._signals, x) for x in range(len(names))]  # type: ignore[arg-type]
        self._extra_intervals = [
            _intervals(process, self._signals.lower[:, :, x], self._signals.upper[:, :, x])
            for x, process in enumerate(self._extra)
            if self._signals is not None
        ]

    @property
    def wants(self) -> frozenset[str]:
        """See :class:`~surefoot.deploy.evidence.base.EvidenceKind`."""
        return frozenset({"signals"} if self._extra else ())

    @property
    def processes(self) -> tuple[IntervalWealth, ...]:
        """One per outcome (return, costs), then one per declared signal; they are averaged."""
        return (*self._outcomes, *self._extra)

    def settle(self, report: Report, broken: Any, placed: Placed, watched: Any) -> None:
        """See :class:`~surefoot.deploy.evidence.base.EvidenceKind`."""
        inside = np.clip(report.outcomes, self._low, self._high)
        for policy in np.unique(report.policy_index).tolist():
            mine = report.policy_index == policy
            for f, process in enumerate(self._outcomes):
                lower, upper = self._intervals[f]
                counted = mine & ~broken if f == 0 else mine
                process.update(policy, inside[counted, f], lower[policy], upper[policy], watched)
                if f == 0 and (lost := int((mine & broken).sum())):
                    process.mark_lost(policy, lost)
            for x, process in enumerate(self._extra):
                self._settle_signal(report, process, x, policy, mine, watched)

    def _settle_signal(
        self, report: Report, process: IntervalWealth, x: int, policy: int, mine: Any, watched: Any
    ) -> None:
        if self._signals is None:
            return
        if report.signals is None:
            process.mark_lost(policy, int(mine.sum()))
            return
        low, high = self._signals.bounds[x]
        values = np.clip(report.signals[mine, x], low, high)
        lower, upper = self._extra_intervals[x]
        process.update(policy, values, lower[policy], upper[policy], watched)

    def forfeit(self, policy: int, fixed: FloatArray | None, watched: Any) -> None:
        """See :class:`~surefoot.deploy.evidence.base.EvidenceKind`."""
        for process in (*self._outcomes, *self._extra):
            process.mark_lost(policy)

    def log_wealth_of(self, watched: Any) -> FloatArray:
        """See :class:`~surefoot.deploy.evidence.base.EvidenceKind`."""
        processes = (*self._outcomes, *self._extra)
        logs = [process.log_mean(active=watched, outside=-np.inf) for process in processes]
        result: FloatArray = np.logaddexp.reduce(logs, axis=0) - math.log(len(processes))
        return result


def _whole(table: PredictionTable, f: int) -> tuple[FloatArray, FloatArray]:
    """(N, J) unconditional intervals of one outcome."""
    whole = table.states.size
    return table.lower[:, :, f, whole], table.upper[:, :, f, whole]


def _interval_wealth(table: PredictionTable, f: int) -> IntervalWealth:
    return _wealth(*_whole(table, f), float(table.low[f]), float(table.high[f]))


def _signal_wealth(signals: SignalPredictions, x: int) -> IntervalWealth:
    low, high = signals.bounds[x]
    return _wealth(signals.lower[:, :, x], signals.upper[:, :, x], float(low), float(high))


def _wealth(lower: FloatArray, upper: FloatArray, low: float, high: float) -> IntervalWealth:
    n_cells, n_policies = lower.shape
    weights = np.full(n_policies, (1.0 - SAFE_SHARE) / max(n_policies - 1, 1))
    weights[0] = 1.0 - weights[1:].sum()
    minus, plus = np.clip(lower, low, high), np.clip(upper, low, high)
    bets = bet_grid(SEPARATE_BETS, 0.02, tilt=0.0)
    return IntervalWealth(
        n_cells, n_policies, low, high, hull_minus=minus, hull_plus=plus, bets=bets, policy_weights=weights
    )


def _intervals(process: IntervalWealth, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(J, N) predictions clipped to the outcome's range, as the process was told to expect them."""
    ends = [np.clip(end, process.low, process.high).T for end in (lower, upper)]
    return np.ascontiguousarray(ends[0]), np.ascontiguousarray(ends[1])
