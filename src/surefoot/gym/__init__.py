"""Continuous tasks: Gymnasium environments with a cost, from a simulator to a policy set.

    GymFamily -> check_family -> policies -> train_simulated -> PolicySet -> deployment agent

Names are imported when first used; what needs an extra says which. ``rollout`` lives in :mod:`surefoot.gym.rollout`, whose name it shares.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surefoot.gym.adapters import CostInInfo, SixTuple, TabularEnv, tabular_env, tabular_family
    from surefoot.gym.check import FamilyCheck, check_family
    from surefoot.gym.episode import EpisodeReport, run_episode
    from surefoot.gym.family import GymFamily, Signal
    from surefoot.gym.pipeline import FunctionPolicy, forecast_training, train_simulated
    from surefoot.gym.play import Bank, Trace, judge, play_gym
    from surefoot.gym.rollout import Rollouts
    from surefoot.gym.values import Estimates, Widths, estimate, interval
    from surefoot.gym.workload import Workload

_HOMES = {
    "surefoot.gym.adapters": ("CostInInfo", "SixTuple", "TabularEnv", "tabular_env", "tabular_family"),
    "surefoot.gym.check": ("FamilyCheck", "check_family"),
    "surefoot.gym.episode": ("EpisodeReport", "run_episode"),
    "surefoot.gym.family": ("GymFamily", "Signal"),
    "surefoot.gym.pipeline": ("FunctionPolicy", "forecast_training", "train_simulated"),
    "surefoot.gym.play": ("Bank", "Trace", "judge", "play_gym"),
    "surefoot.gym.rollout": ("Rollouts",),
    "surefoot.gym.values": ("Estimates", "Widths", "estimate", "interval"),
    "surefoot.gym.workload": ("Workload",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Bank",
    "CostInInfo",
    "EpisodeReport",
    "Estimates",
    "FamilyCheck",
    "FunctionPolicy",
    "GymFamily",
    "Rollouts",
    "Signal",
    "SixTuple",
    "TabularEnv",
    "Trace",
    "Widths",
    "Workload",
    "check_family",
    "estimate",
    "forecast_training",
    "interval",
    "judge",
    "play_gym",
    "run_episode",
    "tabular_env",
    "tabular_family",
    "train_simulated",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'surefoot.gym' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
