"""What a kind of evidence is, and which kinds there are.

A kind keeps, for every cell i, a process ``E_i`` that is a nonnegative supermartingale starting at one whenever the real task lies in cell i,
whatever policies are played. :class:`~surefoot.deploy.evidence.mixture.Evidence` averages the kinds with shares fixed before any data. A new
kind is one class and one call of :func:`register_evidence`:

    class Thermal(EvidenceKind): ...
    register_evidence("thermal", {"joint": 0.5, "thermal": 0.5}, Thermal)       CertifiedAgent(policy_set, evidence="thermal")

Letters: N cells, n episodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.evidence.predictions import PredictionTable
from surefoot.deploy.report import Report
from surefoot.errors import InvalidInput
from surefoot.policyset.schema import PolicySet
from surefoot.stateful import Stateful

__all__ = [
    "Bets", "EvidenceKind", "EvidenceSetting", "Placed", "evidence_names", "evidence_shares", "kind_of", "register_evidence", "unregister_evidence",
]  # fmt: skip

Bets = dict[str, FloatArray]
"""By kind of evidence: what was fixed when episodes were asked."""
Placed = list[tuple[FloatArray | None, IntArray]]
"""What was fixed when they were asked, and the positions of these episodes in the report."""


@dataclass(frozen=True, eq=False)
class EvidenceSetting:
    """What a kind is made from.

    Attributes:
        policy_set: the hypotheses.
        table: predictions of return and costs, with their ranges.
        gave_up: to be called, with the reason, before wealth is given up: cells rejected before stay rejected.
        note: to be called with what a reader of the status must know.
    """

    policy_set: PolicySet
    table: PredictionTable
    gave_up: Callable[[str], None]
    note: Callable[[str], None]


class EvidenceKind(Stateful, ABC):
    """One kind of evidence about N cells.

    Attributes:
        name: under which shares are stated.
        sufficient: while it has not been forfeited, kinds that stand by place no bets.
        stands_by: see there.
        forfeited: its wealth was given up for good.
    """

    name: ClassVar[str]
    sufficient: ClassVar[bool] = False
    stands_by: ClassVar[bool] = False

    def __init__(self, setting: EvidenceSetting) -> None:
        self._setting = setting
        self.forfeited = False

    @property
    def wants(self) -> frozenset[str]:
        """Optional parts of a report that it makes use of."""
        return frozenset()

    def takes(self, report: Report) -> bool:
        """Whether logged episodes move it: only if their log has all that it wants.

        Which parts a log has does not depend on what happened, so leaving it out as a whole is a factor of one and forfeits nothing.
        """
        return all(getattr(report, name) is not None for name in self.wants)

    def bets(self, standby: bool) -> FloatArray | None:
        """What has to be fixed for the episodes asked now; ``None`` where nothing is.

        Args:
            standby: another kind says all there is to say; bets are idle if this kind stands by.
        """
        return None

    @abstractmethod
    def settle(self, report: Report, broken: Any, placed: Placed, watched: Any) -> None:
        """Multiply in a report that takes effect now.

        Args:
            report: n episodes.
            broken: (n,) returns that are out of their range and could have been anything.
            placed: the bets of this kind.
            watched: (N,) cells that matter; the others may be left alone.
        """

    @abstractmethod
    def forfeit(self, policy: int, fixed: FloatArray | None, watched: Any) -> None:
        """An episode of this policy will not be told: the smallest factor that any outcome could have given."""

    @abstractmethod
    def log_wealth_of(self, watched: Any) -> FloatArray:
        """(N,) ``log E_i``; meaningless for cells that are not watched."""

    @property
    def impossible(self) -> Any:
        """(N,) cells that some report has excluded outright."""
        return np.zeros(len(self._setting.policy_set.cells), dtype=bool)


_KINDS: dict[str, type[EvidenceKind]] = {}
_SHARES: dict[str, Callable[[bool], dict[str, float]]] = {}
_OWN: set[str] = set()
"""Names that nobody may take: the audit has a second implementation of what they stand for."""


def register_evidence(
    name: str,
    shares: Mapping[str, float] | Callable[[bool], dict[str, float]],
    *kinds: type[EvidenceKind],
) -> None:
    """Make ``evidence=name`` a choice of agents and deployments.

    Args:
        name: of the choice.
        shares: of the kinds it mixes, positive with sum one; or a function that gives them, called with whether the policy set has kernels.
        kinds: those that are not known yet.

    Raises:
        InvalidInput: a kind that nobody registered, shares that are no mixture, or a name of the library's own.
    """
    taken = [own for own in (name, *(kind.name for kind in kinds)) if own in _OWN]
    if taken:
        raise InvalidInput(
            f"name must be another than those of the library's own evidence, which the audit recomputes, got {taken[0]!r}; choose one",
            code="SF-ARGUMENT-DISTINCT",
        )
    for kind in kinds:
        _KINDS[kind.name] = kind
    found = shares if callable(shares) else dict(shares)
    for has_kernel in (False, True):
        mixed = found(has_kernel) if callable(found) else found
        unknown = sorted(set(mixed) - set(_KINDS))
        if unknown or not mixed or min(mixed.values()) <= 0.0 or abs(sum(mixed.values()) - 1.0) > 1e-9:
            raise InvalidInput(
                f"shares must be positive, sum to one and name registered kinds ({', '.join(_KINDS)}), got {mixed}; register the others with it",
                code="SF-ARGUMENT-SIMPLEX",
            )
    _SHARES[name] = found if callable(found) else lambda has_kernel: dict(found)


def close_names() -> None:
    """Keep what is registered so far from being replaced."""
    _OWN.update(_KINDS, _SHARES)


def unregister_evidence(name: str) -> None:
    """Take a choice back; its kinds stay."""
    if name not in _OWN:
        _SHARES.pop(name, None)


def evidence_names() -> tuple[str, ...]:
    """What ``evidence`` may be."""
    return tuple(_SHARES)


def evidence_shares(name: str, has_kernel: bool) -> dict[str, float]:
    """Shares of the kinds that a choice mixes, fixed before any data.

    Raises:
        InvalidInput: nobody registered it.
    """
    if name not in _SHARES:
        raise InvalidInput(
            f"evidence must be one of {', '.join(sorted(_SHARES))}, got {name!r}; choose one", code="SF-ARGUMENT-CHOICE"
        )
    return _SHARES[name](has_kernel)


def kind_of(name: str) -> type[EvidenceKind]:
    """The class of a registered kind."""
    return _KINDS[name]
