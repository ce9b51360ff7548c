"""What a rehearsal found, as a policy set carries it.

A rehearsal runs a whole frozen deployment on m fresh simulated plants, rung by rung of a ladder from cautious to bold, and counts the runs in
which some mixture, or the safe policy alone, exceeds a limit (:mod:`surefoot.rehearsal`). The certificate names the boldest rung accepted, and
what was seen.

Letters: m plants, L rungs, K episodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from surefoot.arrays import check_integer, check_real
from surefoot.errors import InvalidInput
from surefoot.protocol import Protocol

__all__ = ["RehearsalLook", "Rehearsed", "RungRecord", "Slice", "SpeedStatement"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of regret over plants."""
REBUILD = "rehearse again"


def _check(name: str, kept: bool, rule: str, got: Any) -> None:
    if not kept:
        raise InvalidInput(f"{name} must be {rule}, got {got!r}; {REBUILD}", code="SF-ARGUMENT-RANGE")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _share(name: str, value: Any) -> float:
    return check_real(name, value, low=0.0, high=1.0)


def _finite(name: str, value: Any) -> float:
    return check_real(name, value, low=-1e300, high=1e300)


@dataclass(frozen=True)
class RungRecord:
    """One rung.

    Attributes:
        name: of the configuration.
        boldness: of the belief's agent; 0 for agents that have no such knob.
        plants: runs that were played to their end.
        violating: how many of them exceeded a limit.
        upper: upper limit on the share of violating deployments, at the error of this look.
        accepted: whether the rung and all before it were accepted.
        complete: whether every plant was played; a rung whose refusal was certain is stopped early.
        regret: mean over plants of what was given up against the optimum (tabular) or the best mixture of the library, in K episodes.
        regret_quantiles: at :data:`QUANTILES`.
        gain: mean over plants of what was gained over the safe policy.
        excess: largest cost above a limit, as a share of it; at most 0 where no run violates.
    """

    name: str
    boldness: float
    plants: int
    violating: int
    upper: float
    accepted: bool
    complete: bool
    regret: float
    regret_quantiles: tuple[float, ...]
    gain: float
    excess: float

    def __post_init__(self) -> None:
        _check("name", _is_text(self.name), "a text", self.name)
        for name in ("plants", "violating"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=0))
        _check("violating", self.violating <= self.plants, f"at most {self.plants} plants", self.violating)
        object.__setattr__(self, "upper", _share("upper", self.upper))
        for name in ("boldness", "regret", "gain", "excess"):
            object.__setattr__(self, name, _finite(name, getattr(self, name)))
        for name in ("accepted", "complete"):
            object.__setattr__(self, name, bool(getattr(self, name)))
        quantiles = tuple(_finite("regret_quantiles", value) for value in self.regret_quantiles)
        _check("regret_quantiles", len(quantiles) == len(QUANTILES), f"{len(QUANTILES)} numbers", len(quantiles))
        object.__setattr__(self, "regret_quantiles", quantiles)


@dataclass(frozen=True)
class Slice:
    """The plants with one parameter in one range.

    Attributes:
        parameter: its name.
        low, high: of the range.
        plants, violating: under the chosen rung.
        upper: upper limit on the share of violating deployments at error 5%, for this slice alone; a description, no part of the certificate.
    """

    parameter: str
    low: float
    high: float
    plants: int
    violating: int
    upper: float

    def __post_init__(self) -> None:
        _check("parameter", isinstance(self.parameter, str), "a text", self.parameter)
        for name in ("low", "high"):
            object.__setattr__(self, name, _finite(name, getattr(self, name)))
        for name in ("plants", "violating"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=0))
        _check("violating", self.violating <= self.plants, f"at most {self.plants} plants", self.violating)
        object.__setattr__(self, "upper", _share("upper", self.upper))


@dataclass(frozen=True)
class SpeedStatement:
    """A distribution-free bound on how fast a deployment learns.

    Attributes:
        quantity: ``"regret"``, ``"gain"``, ``"episodes"`` until within eps of the best for good, or ``"share"`` of what there is to gain over the
            safe policy that is given up, counted as 0 below 0 and as 1 above 1.
        kind: ``"quantile"``: at least a share ``q`` of plants is on the good side of ``bound``; or ``"mean"``.
        q: the share, 0 for a mean.
        bound: upper for regret and episodes, lower for gain; infinite where there are too few plants.
        error: probability that the statement is wrong.
    """

    quantity: str
    kind: str
    q: float
    bound: float
    error: float

    def __post_init__(self) -> None:
        _check(
            "quantity",
            self.quantity in ("regret", "gain", "episodes", "share"),
            "regret, gain, episodes or share",
            self.quantity,
        )
        _check("kind", self.kind in ("quantile", "mean"), "quantile or mean", self.kind)
        for name in ("q", "error"):
            object.__setattr__(self, name, _share(name, getattr(self, name)))
        bound = float(self.bound)
        _check("bound", not math.isnan(bound), "a number", bound)
        object.__setattr__(self, "bound", bound)

    @property
    def text(self) -> str:
        """One sentence."""
        if self.kind == "mean":
            return f"On average over plants at most {self.bound:.1%} of what there is to gain over the safe policy is given up."
        said = {
            "regret": f"give up at most {self.bound:,.4g} in all",
            "gain": f"gain at least {self.bound:,.4g} over the safe policy in all",
            "episodes": f"are near-optimal for good after {self.bound:,.0f} episodes",
            "share": f"give up at most {self.bound:.1%} of what there is to gain",
        }
        return f"At least {self.q:.0%} of plants {said[self.quantity]}."


@dataclass(frozen=True)
class RehearsalLook:
    """A rehearsal that was looked at before.

    Attributes:
        judged: hash of what was frozen.
        plants: m.
        violating: by rung.
        delta: the error that it was given over all looks; look a pays ``delta / 2^a``.
    """

    judged: str
    plants: int
    violating: tuple[int, ...]
    delta: float

    def __post_init__(self) -> None:
        _check("judged", _is_text(self.judged), "a hash", self.judged)
        object.__setattr__(self, "plants", check_integer("plants", self.plants, low=1))
        object.__setattr__(self, "violating", tuple(check_integer("violating", k, low=0) for k in self.violating))
        object.__setattr__(self, "delta", _share("delta", self.delta))


@dataclass(frozen=True)
class Rehearsed:
    """The certificate.

    Attributes:
        family: name of the family that plants were drawn from.
        judged: hash of what was frozen.
        library: hash of the policy set without its rehearsals; empty for agents without one. The certificate speaks about this set alone.
        seed: of plants and runs.
        attempt: which look this is, 1 for the first.
        alpha: the share of violating deployments that is allowed.
        delta_coverage: error probability over all looks.
        share: what this look pays of it.
        plants: m.
        episodes: K.
        evidence: which belief plans, ``"all"`` or ``"returns"``; empty for other agents.
        protocol: how the deployment is used.
        rungs: L of them, from cautious to bold.
        chosen: index of the boldest rung accepted, -1 for none.
        upper: upper limit on the share of violating deployments under the chosen rung, what judging by simulation adds included; 1 without one.
        judging_error: beta, 0 where plants are tables.
        surprise: threshold of the alarm, infinite without one; exceeded with probability at most ``surprise_alarm`` on a plant of the family.
        surprise_alarm: that probability.
        slices: by quantile of every parameter.
        speed: bounds on how fast the chosen rung learns.
    """

    family: str
    judged: str
    library: str
    seed: int
    attempt: int
    alpha: float
    delta_coverage: float
    share: float
    plants: int
    episodes: int
    evidence: str
    protocol: Protocol
    rungs: tuple[RungRecord, ...]
    chosen: int
    upper: float
    judging_error: float
    surprise: float
    surprise_alarm: float
    slices: tuple[Slice, ...] = ()
    speed: tuple[SpeedStatement, ...] = ()

    def __post_init__(self) -> None:
        for name in ("family", "judged", "library", "evidence"):
            _check(name, isinstance(getattr(self, name), str), "a text", getattr(self, name))
        _check("evidence", self.evidence in ("", "all", "returns"), "all, returns or empty", self.evidence)
        for name, low in (("seed", 0), ("attempt", 1), ("plants", 1), ("episodes", 1), ("chosen", -1)):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=low))
        for name in ("alpha", "delta_coverage", "share", "upper", "judging_error", "surprise_alarm"):
            object.__setattr__(self, name, _share(name, getattr(self, name)))
        for name in ("rungs", "slices", "speed"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        surprise = float(self.surprise)
        _check("surprise", not math.isnan(surprise), "a number", surprise)
        object.__setattr__(self, "surprise", surprise)
        object.__setattr__(self, "protocol", _protocol(self.protocol))
        self._check_choice()

    def _check_choice(self) -> None:
        accepted = [rung.accepted for rung in self.rungs]
        number = sum(accepted)
        _check(
            "rungs",
            bool(accepted) and accepted == [True] * number + [False] * (len(accepted) - number),
            "accepted up to one",
            accepted,
        )
        _check("chosen", self.chosen == number - 1, f"{number - 1}, the last rung accepted", self.chosen)
        _check(
            "share",
            self.share <= self.delta_coverage * 2.0**-self.attempt * (1 + 1e-12),
            "what this look may pay",
            self.share,
        )
        if self.chosen >= 0:
            rung = self.rungs[self.chosen]
            _check("plants", rung.complete and rung.plants == self.plants, f"{self.plants} complete runs", rung.plants)
            _check(
                "upper",
                rung.upper <= self.alpha * (1 + 1e-12) and self.upper >= rung.upper,
                "no less than the rung's",
                self.upper,
            )

    @property
    def rung(self) -> RungRecord | None:
        """The boldest rung accepted."""
        return self.rungs[self.chosen] if self.chosen >= 0 else None

    @property
    def look(self) -> RehearsalLook:
        """This rehearsal, as one that was looked at."""
        return RehearsalLook(
            self.judged, self.plants, tuple(rung.violating for rung in self.rungs), self.delta_coverage
        )

    @property
    def density_ratio(self) -> float:
        """Largest rho such that ``rho upper <= alpha``: real-task laws with at most this density ratio to the family keep alpha."""
        return self.alpha / self.upper if self.upper > 0.0 else math.inf

    @property
    def text(self) -> str:
        """What a plant owner is told."""
        rung = self.rung
        if rung is None:
            first = self.rungs[0]
            return (
                f"{first.plants} rehearsals on fresh simulated plants; even the most cautious configuration broke the limit in {first.violating}: at "
                f"{1 - self.share:.1%} confidence fewer than {self.alpha:.1%} cannot be shown. Do not deploy it."
            )
        worst = f", by at most {rung.excess:.2g} of it" if rung.violating else ""
        return (
            f"{self.plants} rehearsals on fresh simulated plants; {rung.violating} broke the limit{worst}; at {1 - self.share:.1%} confidence fewer "
            f"than {self.upper:.1%} of deployments would, if the real plant is one of the family and used as rehearsed ({self.protocol.text})."
        )


def _protocol(value: Any) -> Protocol:
    return value if isinstance(value, Protocol) else Protocol.of(value)
