"""Continuous tasks: Gymnasium environments with a cost, from a simulator to a policy set.

    GymFamily -> check_family -> policies -> train_simulated -> PolicySet -> deployment agent

Names are imported when first used; what needs an extra says which.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surefoot.gym.family import GymFamily, Signal
    from surefoot.gym.rollout import Rollouts, rollout

_HOMES = {
    "surefoot.gym.family": ("GymFamily", "Signal"),
    "surefoot.gym.rollout": ("Rollouts", "rollout"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["GymFamily", "Rollouts", "Signal", "rollout"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'surefoot.gym' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
