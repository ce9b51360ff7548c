"""Trust levels: what is assumed of the simulator, and what follows from it for bounds, rows, exploration and the spending of delta.

======== ======================================================= ==================================================================
trust    rows                                                    every deployed mixture is safe with probability >= 1 - delta if
======== ======================================================= ==================================================================
data     one: ``B_j``, started at the declared ceiling           the safe policy has margin xi in the real task; episode costs stay
                                                                 below the ceiling. Nothing about the simulator.
envelope one: ``B_j``, started at the largest prediction         and no library policy costs more in reality than in the worst cell.
                                                                 Ceilings come from the simulator unless they are declared.
cells    one per active cell: ``min(V+_ji, B_j)``                and the real task lies in some cell.
rehearsed none, while the deployment is used as rehearsed; then  the real task is a draw from the family (a statement about the average
         those of ``data``                                       task, unlike the others)
======== ======================================================= ==================================================================

A new level is one class and one call of :func:`register_trust_level`. Letters: N cells, J policies (0 is safe), I constraints, H rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from surefoot.arrays import FloatArray, as_floats
from surefoot.assumptions import ASSUMES
from surefoot.deploy.evidence.mixture import FINAL
from surefoot.errors import InvalidInput
from surefoot.policyset.schema import PolicySet
from surefoot.stats.ledger import Ledger

__all__ = [
    "BOUNDS_SHARE", "Knowledge", "Rows", "TrustLevel", "levels", "register_trust_level", "trust_level", "trust_levels", "unregister_trust_level",
]  # fmt: skip

BOUNDS_SHARE = 0.02
"""Under ``cells``, the part of delta that pays for data bounds; the rest pays for the elimination of cells."""

_PURPOSES = {
    "elimination": "the cell of the real task is rejected (Ville)",
    "bounds": "some data bound fails (Ville, union over what is bounded)",
}


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What an agent knows when it plans.

    Attributes:
        policy_set: the library and what is predicted for it.
        active: (N,) cells that are not rejected.
        bounds: (J, I) data bounds, of every policy alone.
        limits: (I,).
        objective: (J,) returns that the posterior expects; or those of the most plausible cell.
        target: the policy that is to be proved safe, or 0.
        barred: policies that get no weight.
        region: (G, J, I) the data bounds as rows: a mixture within the limits at all of them is within the limits if the data bounds hold.
    """

    policy_set: PolicySet
    active: Any
    bounds: FloatArray
    limits: FloatArray
    objective: FloatArray
    target: int
    barred: tuple[int, ...]
    region: FloatArray


@dataclass(frozen=True, eq=False)
class Rows:
    """What the planner is given.

    Attributes:
        objective: (J,) predicted returns.
        rows: (H, J, I) upper bounds on costs, one row per hypothesis.
        names: H names of them, for people.
        candidate: the policy that exploration keeps alive, or 0.
    """

    objective: FloatArray
    rows: FloatArray
    names: tuple[str, ...]
    candidate: int


@dataclass(frozen=True)
class TrustLevel(ABC):
    """One way to trust the simulator.

    Attributes:
        name: by which users choose it.
        assumes: when every deployed mixture is safe with probability at least 1 - delta, as one sentence without a full stop.
        exploration: least share of the candidate's largest weight that is played.
        rejects_cells: cells are hypotheses: rejecting them spends delta, and a rejected one no longer restricts anything.
        weighs_cells: evidence about cells is collected; all of them rejected is an alarm.
        compares: the safe policy is compared with simulation before any other policy is played.
        simulated_ceilings: where none are declared, the largest episode costs are those that the simulator allows.
        follows_belief: what is played was rehearsed (:mod:`surefoot.deploy.belief.rehearsed`); the rows decide outside the protocol.
    """

    name: ClassVar[str]
    assumes: ClassVar[str]
    exploration: float = 1.0
    rejects_cells: bool = False
    weighs_cells: bool = True
    compares: bool = True
    simulated_ceilings: bool = True
    follows_belief: bool = False

    def shares(self, delta: float) -> dict[str, float]:
        """Parts of delta by what they pay for; they sum to at most delta. ``bounds`` pays for data bounds."""
        if not self.rejects_cells:
            return {"bounds": delta}
        return {"elimination": delta * (1 - BOUNDS_SHARE), "bounds": delta * BOUNDS_SHARE}

    def ledger(self, delta: float) -> Ledger:
        """The same, spent."""
        found = Ledger(delta)
        for name, share in self.shares(delta).items():
            found = found.spend(name, share, _PURPOSES.get(name, f"assumed by trust {self.name!r}"))
        return found

    @property
    def final(self) -> float:
        """A rejected cell is out for good at ``1/(final delta_e)``; 1 to readmit none, where a rejection is only an alarm."""
        return FINAL if self.rejects_cells else 1.0

    def ceilings(self, policy_set: PolicySet, declared: Any) -> FloatArray:
        """(J, I) largest possible episode costs.

        Args:
            declared: (I,) of every policy, (J, I) of each, or ``None``.

        Raises:
            InvalidInput: declared ones that are not positive numbers.
        """
        criterion, size = policy_set.criterion, len(policy_set.policies)
        if declared is not None:
            shape = (criterion.n_constraints,) if np.ndim(declared) < 2 else (size, criterion.n_constraints)
            ceilings = np.broadcast_to(as_floats("cost_ceilings", declared, shape), (size, criterion.n_constraints))
            if (ceilings <= 0.0).any():
                raise InvalidInput(
                    f"cost_ceilings must be positive, got {ceilings.tolist()}; declare the largest possible episode costs",
                    code="SF-ARGUMENT-RANGE",
                )
            return ceilings
        known = simulated_ceilings(policy_set) if self.simulated_ceilings else criterion.cost_ceilings
        return np.tile(known, (size, 1))

    def start(self, policy_set: PolicySet, ceilings: FloatArray, margin: float) -> FloatArray:
        """(J, I) starting values of the data bounds: the ceilings, and for the safe policy what its margin leaves."""
        return data_start(policy_set, ceilings, margin)

    @abstractmethod
    def rows(self, known: Knowledge) -> Rows:
        """What every mixture has to satisfy now, and what the plan aims at."""


def simulated_ceilings(policy_set: PolicySet) -> FloatArray:
    """(I,) largest episode costs that the simulator's support allows."""
    simulated = np.asarray(policy_set.bounds.cost_ceilings, dtype=np.float64)
    return np.where(simulated > 0.0, simulated, policy_set.criterion.cost_ceilings)


def data_start(policy_set: PolicySet, ceilings: FloatArray, margin: float) -> FloatArray:
    """(J, I) what is known of costs without a simulator."""
    start = np.tile(ceilings, (len(policy_set.policies), 1))
    start[0] = np.minimum(start[0], policy_set.criterion.cost_limits - margin)
    return start


def _bounds_alone(known: Knowledge) -> Rows:
    # What is proved need not be played to be proved.
    unproved = (known.bounds[known.target] > known.limits).any() and known.target not in known.barred
    names = ("the data bounds",) * len(known.region)
    return Rows(known.objective, known.region, names, known.target if unproved else 0)


@dataclass(frozen=True)
class Data(TrustLevel):
    """Real costs alone."""

    name = "data"
    assumes = ASSUMES["data"]
    weighs_cells: bool = False
    compares: bool = False
    simulated_ceilings: bool = False

    def rows(self, known: Knowledge) -> Rows:
        """The data bounds."""
        return _bounds_alone(known)


@dataclass(frozen=True)
class Envelope(TrustLevel):
    """The worst that simulation predicts."""

    name = "envelope"
    assumes = ASSUMES["envelope"]

    def start(self, policy_set: PolicySet, ceilings: FloatArray, margin: float) -> FloatArray:
        """See :class:`TrustLevel`: no more than the largest prediction."""
        start: FloatArray = np.minimum(
            np.tile(ceilings, (len(policy_set.policies), 1)), policy_set.cells.predictions.cost_upper.max(axis=0)
        )
        start[0] = np.minimum(start[0], policy_set.criterion.cost_limits - margin)
        return start

    def rows(self, known: Knowledge) -> Rows:
        """The data bounds, which started at the envelope."""
        return _bounds_alone(known)


@dataclass(frozen=True)
class Cells(TrustLevel):
    """The real task lies in some cell."""

    name = "cells"
    assumes = ASSUMES["cells"]
    exploration: float = 0.02
    rejects_cells: bool = True

    def rows(self, known: Knowledge) -> Rows:
        """One row per active cell, and the active cell of largest optimum as objective; data bounds alone while none is active."""
        cells, active = known.policy_set.cells, known.active
        if not active.any():
            return _bounds_alone(known)
        living = np.flatnonzero(active)
        open_to = living[~np.isin(cells.policy_index[living], known.barred)]
        aimed = open_to if open_to.size else living
        cell = int(aimed[cells.optimal_upper[aimed].argmax()])
        return Rows(
            objective=cells.predictions.reward_center[cell],
            rows=np.minimum(cells.predictions.cost_upper[living], known.bounds),
            names=tuple(f"cell {k}" for k in living),
            candidate=int(cells.policy_index[cell]) if open_to.size else 0,
        )


@dataclass(frozen=True)
class Rehearsed(Data):
    """A belief plans what was rehearsed; data bounds run along and take over where the deployment leaves its protocol."""

    name = "rehearsed"
    assumes = ASSUMES["rehearsed"]
    follows_belief: bool = True


_LEVELS: dict[str, TrustLevel] = {}
_OWN: set[str] = set()


def register_trust_level(level: TrustLevel) -> None:
    """Make ``trust=level.name`` a choice of agents and deployments.

    Raises:
        InvalidInput: a name of the library's own levels, which the audit recomputes; or shares of delta that do not pay for data bounds, or are
            more than there is.
    """
    if level.name in _OWN:
        raise InvalidInput(
            f"name must be another than {', '.join(sorted(_OWN))}, which the audit recomputes, got {level.name!r}; choose one",
            code="SF-ARGUMENT-DISTINCT",
        )
    shares = level.shares(1.0)
    paid = list(shares.values())
    if (
        "bounds" not in shares
        or not min(paid) > 0.0
        or not sum(paid) <= 1.0 + 1e-12
        or ("elimination" in shares) != level.rejects_cells
    ):
        raise InvalidInput(
            f"shares must be positive, pay for 'bounds' (and for 'elimination' where cells are rejected) and sum to at most delta, got {shares} of 1",
            code="SF-ARGUMENT-RANGE",
        )
    _LEVELS[level.name] = level


def unregister_trust_level(name: str) -> None:
    """Take a choice back; the library's own stay."""
    if name not in _OWN:
        _LEVELS.pop(name, None)


def trust_levels() -> tuple[str, ...]:
    """Names of the levels, sorted."""
    return tuple(sorted(_LEVELS))


def levels() -> str:
    """The library's own levels and what each assumes, in a sentence for people."""
    said = "; ".join(f"{name!r}: {ASSUMES[name]}" for name in ("cells", "envelope", "data", "rehearsed"))
    return f"Name one with trust=..., by what you can vouch for: {said}"


def trust_level(name: str) -> TrustLevel:
    """A level by its name.

    Raises:
        InvalidInput: nobody registered it.
    """
    if name not in _LEVELS:
        raise InvalidInput(
            f"trust must be one of {', '.join(trust_levels())}, got {name!r}; choose one", code="SF-ARGUMENT-CHOICE"
        )
    return _LEVELS[name]


for _level in (Data(), Envelope(), Cells(), Rehearsed()):
    register_trust_level(_level)
_OWN.update(_LEVELS)
