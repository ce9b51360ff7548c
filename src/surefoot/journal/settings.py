"""What a deployment is opened with, once and for good: the first event records it, reopening must agree with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, TypedDict

import numpy as np

from surefoot.arrays import as_floats, check_integer, check_real
from surefoot.deploy.drift import FALSE_ALARM_EVERY, check_false_alarm_every
from surefoot.deploy.ramp import RAMP
from surefoot.errors import InvalidInput, JournalError, SettingsMismatch
from surefoot.policyset.schema import PolicySet
from surefoot.version import VERSION

__all__ = ["CERTIFIED", "CONTINUED", "SettingOptions", "Settings", "check_origin", "named_options"]

CERTIFIED = "certified"
"""The agent of this library, :class:`~surefoot.deploy.certified.CertifiedAgent`."""
CONTINUED = ("0.1",)
"""Minor versions whose journals this one follows: the same events lead to the same decisions, for what they did not know stays off in them. Each
has a golden journal that the tests open, fold, audit and continue; a new minor version is added here with its own."""


class SettingOptions(TypedDict, total=False):
    """Settings as keyword arguments; ``None`` stands for one that was not given."""

    trust: str | None
    delta: float | None
    seed: int | None
    evidence: str | None
    margin: float | None
    cost_ceilings: Any
    p_max: float | None
    delta_coverage: float | None
    losses: str | None
    monitor_delta: float | None
    false_alarm_every: float | None
    false_change_every: float | None
    approve: bool | None
    ramp: int | None
    joint_bounds: bool | None
    agent: str | None


def named_options(given: SettingOptions) -> dict[str, Any]:
    """The same as plain values.

    Raises:
        TypeError: a name that is no setting.
    """
    unknown = sorted(set(given) - set(SettingOptions.__annotations__))
    if unknown:
        raise TypeError(f"open() got an unexpected keyword argument {unknown[0]!r}")
    return dict(given)


@dataclass(frozen=True)
class Settings:
    """Arguments of :class:`~surefoot.deploy.certified.CertifiedAgent`, and whether new plans wait for approval.

    Attributes:
        trust, delta, seed, evidence, margin, p_max, delta_coverage, losses, monitor_delta, false_alarm_every, false_change_every, ramp,
            joint_bounds: as in the agent.
        cost_ceilings: I declared ceilings, or J rows of them, or ``None``.
        agent: who chooses: ``"certified"``, or what was registered (:func:`~surefoot.journal.agents.register_agent`).
        approve: a plan that raises a weight off the safe policy waits until somebody approves it.
    """

    trust: str = "cells"
    delta: float = 0.05
    seed: int = 0
    evidence: str = "all"
    margin: float | None = None
    cost_ceilings: tuple[float, ...] | tuple[tuple[float, ...], ...] | None = None
    p_max: float = 0.05
    delta_coverage: float = 0.05
    losses: str = "worst"
    monitor_delta: float = 0.001
    false_alarm_every: float = FALSE_ALARM_EVERY
    false_change_every: float = 0.0
    approve: bool = False
    ramp: int = RAMP
    joint_bounds: bool = True
    agent: str = CERTIFIED

    def __post_init__(self) -> None:
        for name in ("delta", "p_max", "delta_coverage", "monitor_delta"):
            object.__setattr__(self, name, check_real(name, getattr(self, name), low=0.0, high=1.0))
        for name in ("false_alarm_every", "false_change_every"):
            object.__setattr__(self, name, check_false_alarm_every(getattr(self, name), name))
        if self.margin is not None:
            object.__setattr__(self, "margin", check_real("margin", self.margin))
        if self.cost_ceilings is not None:
            object.__setattr__(self, "cost_ceilings", _plain_ceilings(self.cost_ceilings))
        for name in ("seed", "ramp"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=0))
        for name in ("approve", "joint_bounds"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInput(
                    f"{name} must be True or False, got {getattr(self, name)!r}; choose one", code="SF-ARGUMENT-TYPE"
                )

    @staticmethod
    def given(**values: Any) -> Settings:
        """Defaults, except where a value is not ``None``."""
        return Settings(**{name: value for name, value in values.items() if value is not None})

    @staticmethod
    def recorded(body: dict[str, Any]) -> Settings:
        """The settings of an ``opened`` event; what it does not name, as before there was such a thing, is off."""
        found, names = body.get("settings"), {field.name for field in fields(Settings)}
        if isinstance(found, dict):
            off = {"ramp": 0, "joint_bounds": False, "false_alarm_every": 0.0, "false_change_every": 0.0}
            found = {**off, "agent": CERTIFIED, **found}
        if not isinstance(found, dict) or set(found) != names:
            raise JournalError(
                "event 1 must record the settings, got others; was it written by a later surefoot?",
                code="SF-JOURNAL-SETTINGS",
            )
        try:
            return Settings(**found)
        except (InvalidInput, TypeError, ValueError) as error:
            raise JournalError(
                f"event 1 must record valid settings, got: {error}; restore the journal", code="SF-JOURNAL-SETTINGS"
            ) from error

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        found = asdict(self)
        found["cost_ceilings"] = None if self.cost_ceilings is None else np.array(self.cost_ceilings).tolist()
        if self.agent == CERTIFIED:  # as journals have it that know of no other
            del found["agent"]
        return found

    def for_agent(self) -> dict[str, Any]:
        """Keyword arguments of the agent."""
        return {name: value for name, value in self.as_dict().items() if name not in ("approve", "agent")}

    def agree(self, **values: Any) -> None:
        """Compare settings given on reopening, ``None`` for not given, with these.

        Raises:
            SettingsMismatch: the first that differs, by name.
        """
        wanted, mine = ({"agent": CERTIFIED, **one.as_dict()} for one in (Settings.given(**values), self))
        for name in sorted(name for name, value in values.items() if value is not None):
            if wanted[name] != mine[name]:
                raise SettingsMismatch(
                    f"{name} must be {mine[name]!r}, with which this deployment was opened, got {wanted[name]!r}; leave it out, or open a "
                    "deployment of another name",
                    code="SF-SETTINGS-CHANGED",
                )


def check_origin(body: dict[str, Any], policy_set: PolicySet) -> None:
    """Whether this library and this policy set may continue a journal.

    Raises:
        SettingsMismatch: another policy set, or a version of the library that is not continued.
    """
    if body.get("policy_set") != policy_set.hash:
        raise SettingsMismatch(
            f"policy_set must have the hash {str(body.get('policy_set'))[:16]}..., with which this deployment was opened, got "
            f"{policy_set.hash[:16]}...; bring that file, or open a deployment of another name",
            code="SF-SETTINGS-POLICYSET",
        )
    theirs = str(body.get("version"))
    if ".".join(theirs.split(".")[:2]) not in CONTINUED:
        raise SettingsMismatch(
            f"version must be one of {', '.join(f'{minor}.x' for minor in CONTINUED)}, which surefoot {VERSION} continues, got {theirs}, with which "
            f'this deployment was opened; install "surefoot=={theirs}" to continue it, or open a deployment of another name',
            code="SF-SETTINGS-VERSION",
        )


def _plain_ceilings(given: Any) -> tuple[Any, ...]:
    """One ceiling per constraint, or a row of them per policy."""
    axes = np.ndim(np.asarray(given, dtype=object))
    if axes < 2:
        values: list[float] = as_floats("cost_ceilings", [given] if axes == 0 else given, (None,)).tolist()
        return tuple(values)
    return tuple(tuple(row) for row in as_floats("cost_ceilings", given, (None, None)).tolist())
