"""Presets of the baselines, and where calibrated multipliers come from.

* ``theory``: every confidence radius as proved; multiplier 1.
* ``calibrated``: all radii of the method times one scalar ``m``, chosen on *training* tasks by a search with the same budget for every
  method. A multiplier below 1 is outside the proof.
* ``published``: a public implementation that differs from its paper in a way that matters; only where there is one.

An argument reads ``theory``, ``calibrated``, ``published``, or ``calibrated=1e-3`` for a multiplier of one's own. Chosen multipliers are
package data, ``calibrated.json``: per family and agent the multiplier, the settings and the whole table of the search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, Protocol, cast

from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import InvalidInput
from surefoot.json_reading import read_object
from surefoot.policyset.schema import PolicySet
from surefoot.tasks.family import TabularFamily

__all__ = ["BaselineContext", "Choice", "Preset", "choose", "multiplier", "parse"]

Preset = Literal["theory", "calibrated", "published"]
SCHEMA = 1


class BaselineContext(Protocol):
    """What a baseline's ``make`` may use; the context of the registry is one.

    Attributes:
        family: the task family.
        policy_set: the trained policy set.
        task: the real task. Rewards, costs, limits and start may be read off it, **never its transitions**.
        episodes: K.
        delta: error probability of the deployment.
        seed: of the agent's draws.
    """

    @property
    def family(self) -> TabularFamily: ...

    @property
    def policy_set(self) -> PolicySet: ...

    @property
    def task(self) -> TabularCMDP: ...

    @property
    def episodes(self) -> int: ...

    @property
    def delta(self) -> float: ...

    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Choice:
    """A preset with its multiplier of all radii.

    Attributes:
        preset: its name.
        multiplier: 1 unless calibrated.
    """

    preset: Preset
    multiplier: float = 1.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results must know about the multiplier."""
        if self.preset != "calibrated":
            return ()
        if self.multiplier >= 1.0:
            return ("the multiplier is 1: calibrated is theory here",)
        return (f"all confidence radii are multiplied by {self.multiplier:g}, which is outside the proof",)


def parse(agent: str, argument: str, presets: Sequence[Preset] = ("theory", "calibrated")) -> Choice | None:
    """The preset that an argument names, or ``None`` for ``calibrated`` with the family's own multiplier; ``""`` means ``theory``.

    Raises:
        InvalidInput: unknown preset, or a multiplier that is no positive number.
    """
    name, given, value = (argument or "theory").partition("=")
    if name not in presets or (given and name != "calibrated"):
        listed = ", ".join([*presets, "calibrated=NUMBER"])
        raise InvalidInput(
            f"preset of {agent} must be one of {listed}, got {argument!r}; e.g. {agent}:theory",
            code="SF-ARGUMENT-CHOICE",
        )
    if name != "calibrated":
        return Choice(cast(Preset, name))
    return Choice("calibrated", _positive(agent, value)) if given else None


def choose(agent: str, argument: str, family_name: str, presets: Sequence[Preset] = ("theory", "calibrated")) -> Choice:
    """The preset and multiplier that an argument means on a family.

    Raises:
        InvalidInput: as in :func:`parse`, or nothing was calibrated on the family.
    """
    return parse(agent, argument, presets) or Choice("calibrated", multiplier(family_name, agent))


def _positive(agent: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (0.0 < number < math.inf):
        raise InvalidInput(
            f"multiplier of {agent} must be a number > 0, got {value!r}; e.g. {agent}:calibrated=1e-3",
            code="SF-ARGUMENT-RANGE",
        )
    return number


def multiplier(family_name: str, agent: str) -> float:
    """The calibrated multiplier of an agent on a family.

    Raises:
        InvalidInput: nothing was calibrated for that pair; names the command that does it.
    """
    try:
        return float(_table()["families"][family_name][agent]["multiplier"])
    except KeyError:
        raise InvalidInput(
            f"multiplier of {agent} must have been calibrated on the family, got {family_name!r}, for which there is none; "
            f"find it with surefoot calibrate --agents {agent} --family ..., and give it in the name: {agent}:calibrated=1e-3",
            code="SF-AGENT-UNCALIBRATED",
        ) from None


@cache
def _table() -> dict[str, Any]:
    data = files("surefoot.baselines").joinpath("calibrated.json")
    table = read_object(data, remedy="calibrate again")
    if table.get("schema") != SCHEMA:
        raise InvalidInput(
            f"schema of calibrated.json must be {SCHEMA}, got {table.get('schema')!r}; calibrate again",
            code="SF-RECORD-SCHEMA",
        )
    return table
