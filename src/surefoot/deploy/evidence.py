"""E-processes for the cells: which hypotheses about the real task are refuted.

For every cell i the wealth ``E_i`` is a weighted average, with weights fixed beforehand, of processes that are nonnegative supermartingales
starting at one whenever the real task lies in ``H_i``, whatever policies were played:

* *transitions* (:mod:`surefoot.deploy.transitions`), where the set has kernels and the plant reports transitions;
* *joint* bets on return, costs and declared signals (:mod:`surefoot.deploy.returns`);
* *separate* bets on every signal, policy and side (:class:`surefoot.stats.betting.IntervalWealth`): slower, but a wrong cell cannot survive
  for ever by agreeing with the truth on what is mostly played.

Cell i is refuted when ``E_i >= 1/delta_e``. By Ville's inequality the cell that contains the real task is ever refuted with probability at
most ``delta_e``; no union over cells, signals or time is paid. A refuted cell is followed until its wealth has reached
``1/(FINAL delta_e)``; if the wealth falls to ``RETURN``, below where it started, the cell is readmitted. More hypotheses only make the
deployment more careful, so readmitting needs no proof; it ends the harm that the rare refutation of the true cell does.

All processes are read at the same index: the longest prefix of the ask order that is told or lost. A lost episode takes the smallest
factor any outcome could have given in each component, unless the user declared losses independent of outcomes.

Letters: N cells, J policies, I constraints, F = 1 + I signals (X more where declared).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np

from surefoot.arrays import FloatArray, IntArray, magnitude
from surefoot.deploy.alternatives import Alternatives, choose_alternatives
from surefoot.deploy.posterior import CellPosterior
from surefoot.deploy.reorder import Told
from surefoot.deploy.returns import PredictionTable, ReturnsEvidence
from surefoot.deploy.transitions import TransitionEvidence, log_ratios
from surefoot.policyset.schema import PolicySet
from surefoot.stats.betting import IntervalWealth, bet_grid

__all__ = ["Evidence", "EvidenceKind", "Weights"]

EvidenceKind = Literal["all", "returns"]

ALTERNATIVE_RATIO, CHEAPER_SHARE, NEAREST_ALTERNATIVE = 1.5, 0.98, 0.006
JOINT_RATIO = 2.0
SEPARATE_BETS = 4
FINAL = 0.02
"""A refuted cell is out for good when its wealth has reached ``1/(FINAL delta_e)``."""
RETURN = 0.2
"""It is readmitted when its wealth has fallen to this. At 1, wrong cells come back often: 3% more regret on 60 tasks drawn from the gridworld."""
SAFE_SHARE = 0.25
"""Of the separate bets' weight, what goes to the safe policy, which every deployment plays."""


@dataclass(frozen=True)
class Weights:
    """Shares of the wealth, fixed before any data.

    Attributes:
        transitions, joint, separate: nonnegative, sum one.
    """

    transitions: float
    joint: float
    separate: float

    @staticmethod
    def of(kind: EvidenceKind, has_kernel: bool) -> Weights:
        """Where transitions are reported they say almost everything that returns say.

        The joint bets then stand by: their share lies idle, a factor of one, until evidence from transitions is forfeited. When a
        process starts to bet is decided by the past alone, so it stays a supermartingale.
        """
        return Weights(0.95, 0.03, 0.02) if kind == "all" and has_kernel else Weights(0.0, 0.9, 0.1)


@dataclass(frozen=True, eq=False)
class _Tables:
    """What depends on the policy set alone; shared by all agents that use it."""

    alternatives: Alternatives
    ratios: FloatArray | None
    joint_alternatives: Alternatives


_CACHE: WeakKeyDictionary[PolicySet, dict[bool, _Tables]] = WeakKeyDictionary()
_PREDICTIONS: WeakKeyDictionary[PolicySet, dict[bytes, PredictionTable]] = WeakKeyDictionary()


def _predictions(policy_set: PolicySet, ceilings: FloatArray) -> PredictionTable:
    known, key = _PREDICTIONS.setdefault(policy_set, {}), ceilings.tobytes()
    if key not in known:
        known.clear()  # one is enough: deployments of one policy set share their ceilings
        known[key] = PredictionTable.of(policy_set, ceilings)
    return known[key]


def _tables(policy_set: PolicySet, with_kernel: bool) -> _Tables:
    known = _CACHE.setdefault(policy_set, {})
    if with_kernel not in known:
        alternatives = choose_alternatives(policy_set.cells, ALTERNATIVE_RATIO, CHEAPER_SHARE, NEAREST_ALTERNATIVE)
        joint = choose_alternatives(policy_set.cells, JOINT_RATIO, CHEAPER_SHARE, NEAREST_ALTERNATIVE)
        ratios = log_ratios(policy_set.cells, alternatives) if with_kernel else None
        known[with_kernel] = _Tables(alternatives, ratios, joint)
    return known[with_kernel]


class Evidence:
    """Wealth of every cell.

    Args:
        policy_set: the hypotheses.
        kind: ``"all"``, or ``"returns"`` where the plant reports no transitions.
        delta: ``delta_e``; cells are refuted at ``1/delta_e``.
        ceilings: (I,) largest episode costs the cells allow.
        final: a refuted cell is out for good at ``1/(final delta_e)``; 1 to readmit none.

    Attributes:
        alive: (N,) the cells that are not refuted.
        watched: (N,) these and the refuted ones that may come back.
        ever_rejected: (N,) what was refuted at some time.
        notes: what happened to components, in plain words.
    """

    def __init__(
        self,
        policy_set: PolicySet,
        kind: EvidenceKind,
        delta: float,
        ceilings: FloatArray,
        *,
        final: float = FINAL,
    ) -> None:
        cells = policy_set.cells
        self.weights = Weights.of(kind, cells.kernel is not None)
        self._threshold = -math.log(delta)
        self._final = self._threshold - math.log(final)
        self.table = _predictions(policy_set, ceilings)
        tables = _tables(policy_set, self.weights.transitions > 0.0)
        self.active, self.watched = np.ones((2, len(cells)), dtype=bool)
        self.ever_rejected = np.zeros(len(cells), dtype=bool)
        self.notes: list[str] = []
        self._transitions = None
        if self.weights.transitions > 0.0 and tables.ratios is not None:
            self._transitions = TransitionEvidence(cells, tables.ratios, tables.alternatives)
        declared = cells.signals
        self._joint_table = self.table if declared is None else self.table.with_signals(declared)
        self._joint = ReturnsEvidence(self._joint_table, tables.joint_alternatives)
        self._joint_bets = self._transitions is None
        self._separate = [_interval_wealth(self.table, f) for f in range(self.table.low.size)]
        self._intervals = [_intervals(process, *_whole(self.table, f)) for f, process in enumerate(self._separate)]
        self._signals = policy_set.cells.signals
        self._extra = (
            [] if self._signals is None else [_signal_wealth(self._signals, x) for x in range(len(self._signals.names))]
        )
        self._kernel = cells.kernel
        self._extra_intervals = [
            _intervals(process, self._signals.lower[:, :, x], self._signals.upper[:, :, x])
            for x, process in enumerate(self._extra)
            if self._signals is not None
        ]
        self._conditional: bool | None = None
        self._measured: bool | None = None if self._extra else False

    @property
    def wants(self) -> frozenset[str]:
        """What reports should contain."""
        wanted = {"initial_state"} if self.table.states.size else set()
        wanted |= {"signals"} if self._extra else set()
        return frozenset(wanted | ({"transitions"} if self._transitions is not None else set()))

    def estimate(self) -> CellPosterior:
        """A guess of the cell from the same reports; decides what is tried, never what is refuted."""
        return CellPosterior(self._joint_table, self._kernel, self.table.low.size)

    def bets(self) -> FloatArray | None:
        """What has to be remembered for the episodes asked now; ``None`` where no joint bet is placed on them.

        Bets are conditional on initial states or not, and on declared signals or not; the first report settles which, for good, and only
        episodes asked after it are bet on. Choosing later, when outcomes are known, would let the outcome choose the bet.
        """
        decided = self._conditional is not None or not self.table.states.size
        if not self._joint_bets or not decided or self._measured is None:
            return None
        return self._joint.bets(None if self._measured else self.table.low.size)

    def settle(self, group: Told, bets: list[tuple[FloatArray | None, IntArray]]) -> None:
        """Multiply in a group of told episodes; ``bets`` pairs the bets fixed when they were asked with positions in the group."""
        if not self._possible(group):
            self._reject(self.watched)
            self.watched[:] = False
            self._note("an episode was reported that no task of the family can produce")
            return
        broken = self.broken_returns(group)
        columns = self._columns(group)
        if self._measured is None:
            self._measured = group.signals is not None
        whole = self.table.states.size
        # Given an initial state without predictions nothing is promised: the unconditional mean says nothing about it, so no bet.
        predicted = (columns < whole) if self._conditional and whole else np.ones(columns.size, dtype=bool)
        for fixed, asked in bets:
            where = asked[predicted[asked]]
            if fixed is not None and where.size:
                self._settle_joint(group, where[~broken[where]], columns[where[~broken[where]]], fixed)
                for policy in group.policy_index[where[broken[where]]].tolist():
                    self._joint.forfeit(policy, fixed, self.watched)
        self._settle_separate(group, broken)
        if self._transitions is not None:
            self._settle_transitions(group)

    def _possible(self, group: Told) -> bool:
        """Whether some task could cost so much; a return out of range is no statement about tasks, see :meth:`broken_returns`."""
        room = 1e-6 * magnitude(np.maximum(np.abs(self.table.low), np.abs(self.table.high)))
        inside = (group.outcomes >= self.table.low - room) & (group.outcomes <= self.table.high + room)
        return bool(inside[:, 1:].all())

    def broken_returns(self, group: Told) -> Any:
        """(n,) episodes whose return is outside its declared range: it could have been anything, so bets on it take the smallest factor."""
        low, high = float(self.table.low[0]), float(self.table.high[0])
        returns, room = group.outcomes[:, 0], 1e-6 * float(magnitude(max(abs(low), abs(high))))
        broken = (returns < low - room) | (returns > high + room)
        if broken.any():
            self._keep_refuted()
            self._note(
                f"reward: a return was outside its declared range [{low:g}, {high:g}]; evidence counts it as lost, costs as told; check its unit"
            )
        return broken

    def without_broken(self, group: Told) -> Told:
        """The group with NaN for returns that :meth:`broken_returns` names, for what knows how to take a missing number."""
        broken = self.broken_returns(group)
        if not broken.any():
            return group
        outcomes = group.outcomes.copy()
        outcomes[broken, 0] = np.nan
        return replace(group, outcomes=outcomes)

    def _columns(self, group: Told) -> IntArray:
        """Columns of the predictions, conditional on the initial state if the first report had one."""
        if self._conditional is None:
            self._conditional = group.initial_states is not None
        if self._conditional and group.initial_states is not None:
            return self.table.column(group.initial_states, group.ids.size)
        if self._conditional and self.table.states.size:
            self._keep_refuted()
            self._note("an initial state was missing: joint bets on returns are forfeited")
            self._joint.log_wealth[:] = -np.inf
        return np.full(group.ids.size, self.table.states.size, dtype=np.int64)

    def _settle_joint(self, group: Told, where: IntArray, columns: IntArray, fixed: FloatArray) -> None:
        """Bets on episodes ``where`` of a group; a signal that is missing could have been anything."""
        if not where.size:
            return
        policies = group.policy_index[where]
        if self._measured and group.signals is None:
            self._keep_refuted()
            self._note("declared signals were missing in a report: joint bets take the smallest factor there")
            for policy in policies.tolist():
                self._joint.forfeit(policy, fixed, self.watched)
            return
        self._joint.update(policies, columns, self._outcomes(group)[where], fixed, self.watched)

    def _outcomes(self, group: Told) -> FloatArray:
        """(n, F) outcomes, with declared signals; where these are not bet on any number will do."""
        if self._signals is None:
            return group.outcomes
        low, high = self._signals.bounds.T
        untold = np.broadcast_to(low, (group.ids.size, low.size))
        measured = untold if group.signals is None else np.clip(group.signals, low, high)
        return np.column_stack([group.outcomes, measured])

    def _settle_separate(self, group: Told, broken: Any) -> None:
        # Unconditional intervals hold whatever is reported, so these bets need no decision about initial states.
        inside = np.clip(group.outcomes, self.table.low, self.table.high)
        for policy in np.unique(group.policy_index).tolist():
            mine = group.policy_index == policy
            for f, process in enumerate(self._separate):
                lower, upper = self._intervals[f]
                counted = mine & ~broken if f == 0 else mine
                process.update(policy, inside[counted, f], lower[policy], upper[policy], self.watched)
                if f == 0 and (lost := int((mine & broken).sum())):
                    process.mark_lost(policy, lost)
            for x, process in enumerate(self._extra):
                self._settle_signal(group, process, x, policy, mine)

    def _settle_signal(self, group: Told, process: IntervalWealth, x: int, policy: int, mine: Any) -> None:
        if self._signals is None:
            return
        if group.signals is None:
            process.mark_lost(policy, int(mine.sum()))
            return
        low, high = self._signals.bounds[x]
        values = np.clip(group.signals[mine, x], low, high)
        lower, upper = self._extra_intervals[x]
        process.update(policy, values, lower[policy], upper[policy], self.watched)

    def _settle_transitions(self, group: Told) -> None:
        if self._transitions is None:
            return
        if group.transitions is None:
            self._forfeit_transitions("transitions were missing in a report")
        else:
            allowed = self.possible.any()
            self._transitions.update(group.transitions, self.watched)
            if allowed and not self.possible.any():
                self._note(
                    "transitions: what was reported is possible in no cell; check how states and actions are numbered"
                )

    def forfeit(self, policy: int, bets: FloatArray | None) -> None:
        """An episode will not be told: the smallest factors everywhere."""
        self._keep_refuted()
        for process in (*self._separate, *self._extra):
            process.mark_lost(policy)
        if bets is not None:
            self._joint.forfeit(policy, bets, self.watched)
        if self._transitions is not None:
            self._forfeit_transitions("an episode was lost")

    def _forfeit_transitions(self, why: str) -> None:
        if self._transitions is not None:
            self._note(f"{why}: evidence from transitions is forfeited, returns carry on")
            self._keep_refuted()
            self._transitions.forfeit()
            self._joint_bets = True

    def _keep_refuted(self) -> None:
        """Wealth is about to be given up: that must not bring back what was refuted before."""
        self.watched &= self.active

    def review(self) -> tuple[IntArray, IntArray]:
        """Refute cells whose wealth has reached ``1/delta_e``, readmit those whose wealth has fallen to ``RETURN``; the indices of both."""
        wealth, impossible = self.log_wealth(), ~self.possible
        dying = self.active & ((wealth >= self._threshold) | impossible)
        back = self.watched & ~self.active & (wealth <= math.log(RETURN)) & ~impossible
        self.watched &= ~((wealth >= self._final) | impossible)
        self._reject(dying)
        self.active |= back
        return np.flatnonzero(dying), np.flatnonzero(back)

    def _reject(self, cells: Any) -> None:
        self.ever_rejected |= cells
        self.active &= ~cells

    @property
    def possible(self) -> Any:
        """(N,) cells that no transition has excluded."""
        return np.ones(self.active.size, dtype=bool) if self._transitions is None else ~self._transitions.impossible

    def most_plausible(self) -> int:
        """The watched cell of smallest wealth: a guess, where none survives."""
        return int(np.where(self.watched, self.log_wealth(), np.inf).argmin())

    def log_wealth(self) -> FloatArray:
        """(N,) log E_i; for cells that are no longer watched the value is meaningless."""
        shares = {
            "separate": self.weights.separate,
            "joint": self.weights.joint,
            "transitions": self.weights.transitions,
        }
        parts = [math.log(shares[name]) + part for name, part in self.parts().items()]
        result: FloatArray = np.logaddexp.reduce(parts, axis=0)
        return result

    def parts(self) -> dict[str, FloatArray]:
        """(N,) log-wealth by kind of evidence, before it is averaged: ``separate``, ``joint``, ``transitions`` where there is any."""
        processes = (*self._separate, *self._extra)
        separate = [p.log_mean(active=self.watched, outside=-np.inf) for p in processes]
        found: dict[str, FloatArray] = {
            "separate": np.logaddexp.reduce(separate, axis=0) - math.log(len(processes)),
            "joint": self._joint.log_mean(),
        }
        if self._transitions is not None:
            found["transitions"] = self._transitions.log_mean()
        return found

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _whole(table: PredictionTable, f: int) -> tuple[FloatArray, FloatArray]:
    """(N, J) unconditional intervals of one signal."""
    whole = table.states.size
    return table.lower[:, :, f, whole], table.upper[:, :, f, whole]


def _interval_wealth(table: PredictionTable, f: int) -> IntervalWealth:
    return _wealth(*_whole(table, f), float(table.low[f]), float(table.high[f]))


def _signal_wealth(signals: Any, x: int) -> IntervalWealth:
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
    """(J, N) predictions clipped to the signal's range, as the process was told to expect them."""
    ends = [np.clip(end, process.low, process.high).T for end in (lower, upper)]
    return np.ascontiguousarray(ends[0]), np.ascontiguousarray(ends[1])
