"""How long the rest may take: a forecast that was made beforehand (``surefoot plan --json``), beside what has happened so far.

A forecast is about deployments on simulated plants: the median and the 10% and 90% quantiles of episodes until all but a share ``eps`` of what can
be gained is gained. It is no promise, and says nothing of pauses, caps and late reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from surefoot.errors import InvalidInput
from surefoot.json_reading import required
from surefoot.report.deployment.wording import percent, plural
from surefoot.report.pages import with_thin_spaces

__all__ = ["Forecast"]

REMEDY = "give what surefoot plan --json printed"


@dataclass(frozen=True)
class Forecast:
    """What was forecast for one trust level.

    Attributes:
        trust: the level.
        horizon: episodes after which simulated deployments were given up.
        eps: share of the gain that may be missing.
        runs: simulated deployments.
        low, median, high: episodes until then; ``None`` beyond the horizon.
        refused: why the level was refused; else empty.
    """

    trust: str
    horizon: int
    eps: float
    runs: int
    low: int | None
    median: int | None
    high: int | None
    refused: str = ""

    @staticmethod
    def of(raw: Mapping[str, Any], trust: str, policy_set: str) -> Forecast | None:
        """The part of a forecast that speaks about a deployment; ``None`` where it says nothing in numbers about its trust level.

        Args:
            raw: what ``surefoot plan --json`` printed.
            trust: trust level of the deployment.
            policy_set: hash of its policy set.

        Raises:
            InvalidInput: something else, or about another policy set.
        """
        found = [required(raw, key, where="forecast", remedy=REMEDY) for key in ("experiment", "schema", "policy_set")]
        if found[:2] != ["forecast", 1]:
            raise InvalidInput(
                f"forecast must be of kind 'forecast' and schema 1, got {ascii(found[0])[:80]} and {ascii(found[1])[:80]}; {REMEDY}",
                code="SF-RECORD-SCHEMA",
            )
        if found[2] != policy_set:
            raise InvalidInput(
                f"forecast must be about the deployment's policy set {policy_set[:12]}..., got {ascii(found[2])[:20]}; run surefoot plan on that set",
                code="SF-ARGUMENT-MISMATCH",
            )
        try:
            row = raw["trust"].get(trust)
            if row is None or "statements" in row:
                return None
            runs, horizon, eps = int(raw["runs"]), int(raw["episodes"]), float(raw["eps"])
            if row["refused"]:
                return Forecast(trust, horizon, eps, runs, None, None, None, str(row["refused"]))
            low, median, high = (
                None if row["optimal"][k] is None else int(row["optimal"][k]) for k in ("low", "median", "high")
            )
            if not 0.0 < eps < 1.0 or any(n is not None and n < 0 for n in (runs, horizon, low, median, high)):
                raise ValueError("a number is out of range")
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"forecast must hold runs, episodes, eps and a row for each trust level, got {ascii(str(error))[:80]}; {REMEDY}",
                code="SF-RECORD-FIELD",
            ) from error
        return Forecast(trust, horizon, eps, runs, low, median, high)

    def sentences(self, asked: int) -> Iterator[str]:
        """In plain words, for a deployment that has handed out so many episodes."""
        if self.refused:
            yield f"No forecast: at this trust level it was refused ({self.refused})."
            return
        goal = f"within {percent(self.eps)} of all that can be gained"

        def number(n: int | None) -> str:
            return f"more than {with_thin_spaces(self.horizon)}" if n is None else with_thin_spaces(n)

        yield (
            f"Of {plural(self.runs, 'simulated deployment')}, half were {goal} after {number(self.median)} episodes, the fastest tenth after "
            f"{number(self.low)}, the slowest tenth after {number(self.high)} or later."
        )
        if self.median is None:
            yield f"This one has handed out {with_thin_spaces(asked)}."
        elif asked < self.median:
            yield f"By the median, {plural(self.median - asked, 'episode')} remain."
        elif self.high is None or asked < self.high:
            yield f"This one has handed out {with_thin_spaces(asked)}: past the median, within the range that was forecast."
        else:
            yield f"This one has handed out {with_thin_spaces(asked)}: it should be there by now, if the plant is like those that were simulated."
        yield "A forecast, not a promise: the real plant may differ, report late, or be paused. Safety does not rest on it."
