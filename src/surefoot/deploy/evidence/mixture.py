"""Which hypotheses about the real task are rejected: kinds of evidence, mixed.

For every cell i the wealth ``E_i`` is a weighted average, with shares fixed beforehand, of processes that are nonnegative supermartingales
starting at one whenever the real task lies in ``H_i``, whatever policies were played:

* *transitions* (:mod:`~surefoot.deploy.evidence.transitions`), where the set has kernels and the plant reports transitions;
* *joint* bets on return, costs and declared signals (:mod:`~surefoot.deploy.evidence.joint`);
* *separate* bets on one outcome at a time (:mod:`~surefoot.deploy.evidence.marginal`).

Cell i is rejected when ``E_i >= 1/delta_e``. By Ville's inequality the cell that contains the real task is ever rejected with probability at
most ``delta_e``; no union over cells, signals or time is paid. A rejected cell is followed until its wealth has reached
``1/(FINAL delta_e)``; if the wealth falls to ``RETURN``, below where it started, the cell is readmitted. More hypotheses only make the
deployment more careful, so readmitting needs no proof; it ends the harm that the rare rejection of the true cell does.

All processes are read at the same index: the longest prefix of the ask order that is told or lost. A lost episode takes the smallest
factor any outcome could have given in each component, unless the user declared losses independent of outcomes.

Letters: N cells, J policies, I constraints, F = 1 + I outcomes (X declared signals more), n episodes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, magnitude
from surefoot.deploy.evidence.base import (
    Bets,
    EvidenceSetting,
    close_names,
    evidence_shares,
    kind_of,
    register_evidence,
)
from surefoot.deploy.evidence.joint import JointEvidence
from surefoot.deploy.evidence.marginal import MarginalEvidence
from surefoot.deploy.evidence.predictions import predictions_of
from surefoot.deploy.evidence.transitions import TransitionEvidence
from surefoot.deploy.report import Report
from surefoot.policyset.schema import PolicySet
from surefoot.stateful import Stateful

__all__ = ["FINAL", "RETURN", "Evidence"]

FINAL = 0.02
"""A rejected cell is out for good when its wealth has reached ``1/(FINAL delta_e)``."""
RETURN = 0.2
"""It is readmitted when its wealth has fallen to this. At 1, wrong cells come back often: 3% more regret on 60 tasks drawn from the gridworld."""


def _with_transitions(has_kernel: bool) -> dict[str, float]:
    """Where transitions are reported they say almost everything that returns say.

    The joint bets then stand by: their share lies idle, a factor of one, until evidence from transitions is forfeited. When a
    process starts to bet is decided by the past alone, so it stays a supermartingale.
    """
    return {"joint": 0.03, "separate": 0.02, "transitions": 0.95} if has_kernel else _without(has_kernel)


def _without(has_kernel: bool) -> dict[str, float]:
    return {"joint": 0.9, "separate": 0.1}


register_evidence("all", _with_transitions, JointEvidence, MarginalEvidence, TransitionEvidence)
register_evidence("returns", _without)
close_names()


class Evidence(Stateful):
    """Wealth of every cell.

    Args:
        policy_set: the hypotheses.
        evidence: ``"all"``; ``"returns"`` where the plant reports no transitions; or what was registered
            (:func:`~surefoot.deploy.evidence.base.register_evidence`).
        delta: ``delta_e``; cells are rejected at ``1/delta_e``.
        ceilings: (I,) largest episode costs the cells allow.
        final: a rejected cell is out for good at ``1/(final delta_e)``; 1 to readmit none.

    Attributes:
        active: (N,) the cells that are not rejected.
        watched: (N,) these and the rejected ones that may come back.
        ever_rejected: (N,) what was rejected at some time.
        notes: what happened to components, in plain words.
        kinds: what is mixed, by name.

    Raises:
        InvalidInput: nobody registered this evidence.
    """

    CHANGES = ("active", "watched", "ever_rejected", "notes", "kinds")

    def __init__(
        self,
        policy_set: PolicySet,
        evidence: str,
        delta: float,
        ceilings: FloatArray,
        *,
        final: float = FINAL,
    ) -> None:
        cells = policy_set.cells
        self.weights = evidence_shares(evidence, cells.kernel is not None)
        self._threshold = -math.log(delta)
        self._final = self._threshold - math.log(final)
        self.table = predictions_of(policy_set, ceilings)
        self.active, self.watched = np.ones((2, len(cells)), dtype=bool)
        self.ever_rejected = np.zeros(len(cells), dtype=bool)
        self.notes: list[str] = []
        setting = EvidenceSetting(policy_set, self.table, self._gave_up, self.note)
        self.kinds = {name: kind_of(name)(setting) for name in self.weights}

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~surefoot.stateful.HasState`."""
        kinds = {name: kind.state_dict() for name, kind in self.kinds.items()}
        return {**{name: getattr(self, name) for name in self.CHANGES}, "kinds": kinds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~surefoot.stateful.HasState`."""
        for name, kind in self.kinds.items():
            kind.load_state_dict(state["kinds"][name])
        super().load_state_dict({**state, "kinds": self.kinds})

    @property
    def wants(self) -> frozenset[str]:
        """What reports should contain."""
        return frozenset().union(*(kind.wants for kind in self.kinds.values()))

    def bets(self) -> Bets | None:
        """What has to be remembered for the episodes asked now; ``None`` where no kind fixes anything."""
        kinds = self.kinds.values()
        enough = any(kind.sufficient and not kind.forfeited for kind in kinds)
        found = {kind.name: kind.bets(enough and kind.stands_by) for kind in kinds}
        fixed = {name: value for name, value in found.items() if value is not None}
        return fixed or None

    def settle(self, report: Report, bets: list[tuple[Bets | None, IntArray]], *, logged: bool = False) -> None:
        """Multiply in a report; ``bets`` pairs what was fixed when its episodes were asked with positions in the report.

        ``logged`` episodes move only kinds that get all they want (:meth:`~surefoot.deploy.evidence.base.EvidenceKind.takes`).
        """
        if not self._possible(report):
            self._reject(self.watched)
            self.watched[:] = False
            self.note("an episode was reported that no task of the family can produce")
            return
        broken = self.broken_returns(report)
        for name, kind in self.kinds.items():
            if logged and not kind.takes(report):
                lacking = ", ".join(part for part in sorted(kind.wants) if getattr(report, part) is None)
                self.note(f"the log lacks {lacking}: evidence {name!r} about cells does not use it")
                continue
            placed = [(None if fixed is None else fixed.get(name), where) for fixed, where in bets]
            kind.settle(report, broken, placed, self.watched)

    def _possible(self, report: Report) -> bool:
        """Whether some task could cost so much; a return out of range is no statement about tasks, see :meth:`broken_returns`."""
        slack = 1e-6 * magnitude(np.maximum(np.abs(self.table.low), np.abs(self.table.high)))
        inside = (report.outcomes >= self.table.low - slack) & (report.outcomes <= self.table.high + slack)
        return bool(inside[:, 1:].all())

    def broken_returns(self, report: Report) -> Any:
        """(n,) episodes whose return is outside its declared range: it could have been anything, so bets on it take the smallest factor."""
        low, high = float(self.table.low[0]), float(self.table.high[0])
        slack = 1e-6 * float(magnitude(max(abs(low), abs(high))))
        broken = (report.reward < low - slack) | (report.reward > high + slack)
        if broken.any():
            self._gave_up(
                f"reward: a return was outside its declared range [{low:g}, {high:g}]; evidence counts it as lost, costs as told; check its unit"
            )
        return broken

    def without_broken(self, report: Report) -> Report:
        """The report with NaN for returns that :meth:`broken_returns` names, for what knows how to take a missing number."""
        broken = self.broken_returns(report)
        if not broken.any():
            return report
        reward = report.reward.copy()
        reward[broken] = np.nan
        return replace(report, reward=reward)

    def forfeit(self, policy: int, bets: Bets | None) -> None:
        """An episode will not be told: the smallest factors everywhere."""
        self.watched &= self.active
        for name, kind in self.kinds.items():
            kind.forfeit(policy, None if bets is None else bets.get(name), self.watched)

    def _gave_up(self, text: str) -> None:
        """Wealth is about to be given up: that must not bring back what was rejected before."""
        self.watched &= self.active
        self.note(text)

    def review(self) -> tuple[IntArray, IntArray]:
        """Reject cells whose wealth has reached ``1/delta_e``, readmit those whose wealth has fallen to ``RETURN``; the indices of both."""
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
        """(N,) cells that no report has excluded."""
        excluded = np.zeros(self.active.size, dtype=bool)
        for kind in self.kinds.values():
            excluded |= kind.impossible
        return ~excluded

    def most_plausible(self) -> int:
        """The watched cell of smallest wealth: a conjecture, where none survives."""
        return int(np.where(self.watched, self.log_wealth(), np.inf).argmin())

    def log_wealth(self) -> FloatArray:
        """(N,) log E_i; for cells that are no longer watched the value is meaningless."""
        parts = [math.log(self.weights[name]) + part for name, part in self.parts().items()]
        result: FloatArray = np.logaddexp.reduce(parts, axis=0)
        return result

    def parts(self) -> dict[str, FloatArray]:
        """(N,) log-wealth by kind of evidence, before it is averaged."""
        return {name: kind.log_wealth_of(self.watched) for name, kind in self.kinds.items()}

    def note(self, text: str) -> None:
        """Say this in the status, once."""
        if text not in self.notes:
            self.notes.append(text)
