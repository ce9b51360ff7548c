"""What a rehearsal gives back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.policyset.rehearsed import Rehearsed, RungRecord
from surefoot.policyset.schema import PolicySet
from surefoot.rehearsal.runs import NUMBERS
from surefoot.text_table import text_table

__all__ = ["Curves", "Rehearsal"]


@dataclass(frozen=True, eq=False)
class Curves:
    """What figures show.

    Attributes:
        episodes: (C,) checkpoints.
        names: L rungs.
        costs: (L, 6, C) quantiles over plants (5, 25, 50, 75, 95%, largest) of the deployed mixture's cost over the limit.
        regrets: (L, 6, C) the same of the regret so far.
    """

    episodes: IntArray
    names: tuple[str, ...]
    costs: FloatArray
    regrets: FloatArray


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """A finished rehearsal.

    Attributes:
        certificate: what it certifies; ``policy_set`` carries it.
        curves: for figures.
        policy_set: the policy set with the certificate, to be saved and deployed; ``None`` where none was given.
        parameters: (m, p) of the plants.
        numbers: (m, L, 7) per run: violating, excess, regret, gain, episodes, share, surprise; NaN where a rung was stopped early.
        seconds: that the runs took.
    """

    certificate: Rehearsed
    curves: Curves
    policy_set: PolicySet | None
    parameters: FloatArray
    numbers: FloatArray
    seconds: float

    @property
    def rungs(self) -> tuple[RungRecord, ...]:
        """From the most cautious to the boldest."""
        return self.certificate.rungs

    @property
    def chosen(self) -> RungRecord | None:
        """The boldest rung accepted, ``None`` if there is none."""
        return self.certificate.rung

    @property
    def text(self) -> str:
        """For people: the sentence, a table of the rungs, the worst slices, and how fast the chosen rung learns."""
        found = self.certificate
        rows = [
            [
                ("> " if rung is self.chosen else "  ") + rung.name,
                f"{rung.violating} of {rung.plants}" + ("" if rung.complete else " (stopped)"),
                f"{rung.upper:.1%}",
                "yes" if rung.accepted else "no",
                f"{rung.regret:,.4g}",
                f"{rung.excess:+.2%}",
            ]
            for rung in found.rungs
        ]
        titles = ["  rung", "violating", "at most", "accepted", "mean regret", "worst excess"]
        lines = [found.text, "", *text_table([titles, *rows], left={0})]
        if found.rung is not None:
            worst = sorted(found.slices, key=lambda s: -s.violating / max(1, s.plants))[:3]
            lines += ["", "Worst slices: " + "; ".join(
                f"{s.parameter} in [{s.low:.3g}, {s.high:.3g}]: {s.violating} of {s.plants}" for s in worst
            )]  # fmt: skip
            lines += [
                f"The real plant may be up to {found.density_ratio:.2g} times as likely as in the family anywhere before {found.alpha:.0%} fails."
            ]
            lines += [f"{s.text} (error {s.error:.2g})" for s in found.speed if np.isfinite(s.bound)]
        return "\n".join(lines)

    def data(self) -> dict[str, Any]:
        """Plain values for programs."""
        found = asdict(self.certificate)
        found["protocol"] = self.certificate.protocol.data()
        for name in ("surprise",):
            found[name] = None if not np.isfinite(found[name]) else found[name]
        found["protocol_text"] = self.certificate.protocol.text
        for statement, said in zip(found["speed"], self.certificate.speed, strict=True):
            statement["text"] = said.text
            statement["bound"] = statement["bound"] if np.isfinite(statement["bound"]) else None
        names = [*NUMBERS]
        return {
            "certificate": found,
            "density_ratio": self.certificate.density_ratio if self.certificate.upper else None,
            "text": self.certificate.text,
            "seconds": self.seconds,
            "columns": names,
            "curves": {
                "episodes": self.curves.episodes.tolist(),
                "costs": _plain(self.curves.costs),
                "regrets": _plain(self.curves.regrets),
            },
        }


def _plain(array: FloatArray) -> list[Any]:
    """Lists with ``None`` for what is not finite."""
    return [[[float(x) if np.isfinite(x) else None for x in row] for row in rung] for rung in array]
