"""Continuous tasks: Gymnasium environments with a cost, from a simulator to a policy set.

    GymFamily -> check_family -> policies -> train_simulated -> PolicySet -> deployment agent

Names are imported when first used; what needs an extra says which. ``rollout`` lives in :mod:`surefoot.gym.rollout`, whose name it shares.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from surefoot.deprecation import warn_renamed

if TYPE_CHECKING:
    from surefoot.gym.adapters import CostInInfo, SafetyGymnasiumAdapter, TabularEnv, tabular_env, tabular_family
    from surefoot.gym.belief import learn_belief
    from surefoot.gym.check import FamilyCheck, check_family
    from surefoot.gym.episode import EpisodeReport, run_episode
    from surefoot.gym.family import GymFamily, Signal
    from surefoot.gym.limits import with_limits
    from surefoot.gym.pipeline import FunctionPolicy, forecast_training, train_simulated
    from surefoot.gym.play import EpisodeCache, Trace, evaluate_policy, play_gym
    from surefoot.gym.rollout import Rollouts
    from surefoot.gym.values import Estimates, Widths, estimate, interval
    from surefoot.gym.workload import Workload

_HOMES = {
    "surefoot.gym.adapters": ("CostInInfo", "SafetyGymnasiumAdapter", "TabularEnv", "tabular_env", "tabular_family"),
    "surefoot.gym.belief": ("learn_belief",),
    "surefoot.gym.check": ("FamilyCheck", "check_family"),
    "surefoot.gym.episode": ("EpisodeReport", "run_episode"),
    "surefoot.gym.family": ("GymFamily", "Signal"),
    "surefoot.gym.limits": ("with_limits",),
    "surefoot.gym.pipeline": ("FunctionPolicy", "forecast_training", "train_simulated"),
    "surefoot.gym.play": ("EpisodeCache", "Trace", "evaluate_policy", "play_gym"),
    "surefoot.gym.rollout": ("Rollouts",),
    "surefoot.gym.values": ("Estimates", "Widths", "estimate", "interval"),
    "surefoot.gym.workload": ("Workload",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "CostInInfo",
    "EpisodeCache",
    "EpisodeReport",
    "Estimates",
    "FamilyCheck",
    "FunctionPolicy",
    "GymFamily",
    "Rollouts",
    "SafetyGymnasiumAdapter",
    "Signal",
    "TabularEnv",
    "Trace",
    "Widths",
    "Workload",
    "check_family",
    "estimate",
    "evaluate_policy",
    "forecast_training",
    "interval",
    "learn_belief",
    "play_gym",
    "run_episode",
    "tabular_env",
    "tabular_family",
    "train_simulated",
    "with_limits",
]


_RENAMED = {"Bank": "EpisodeCache", "SixTuple": "SafetyGymnasiumAdapter", "judge": "evaluate_policy"}
"""Old names, which still work and warn."""


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warn_renamed(f"surefoot.gym.{name}", f"surefoot.gym.{_RENAMED[name]}")
        return getattr(import_module(_HOME_OF[_RENAMED[name]]), _RENAMED[name])
    if name not in _HOME_OF:
        raise AttributeError(f"module 'surefoot.gym' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
