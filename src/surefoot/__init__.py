"""surefoot: constrained meta reinforcement learning with provable test-time safety.

Train in simulation over a distribution of tasks, then learn on the one real task without ever deploying a policy whose expected cost
exceeds the limit, with probability at least ``1 - delta``.

    family -> train -> policy set -> agent (ask / tell) -> report

Everything public is here or in :mod:`surefoot.gym` (continuous tasks), :mod:`surefoot.tasks`, :mod:`surefoot.training`,
:mod:`surefoot.stats`, :mod:`surefoot.experiments` and :mod:`surefoot.testing` (rules as tests). Names are imported when first used, so that
``import surefoot`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from surefoot.version import VERSION as __version__

if TYPE_CHECKING:
    from surefoot import experiments, gym, report, stats, tasks, testing
    from surefoot.cmdp import (
        Simulator,
        TabularCMDP,
        augment,
        ceilings,
        distance,
        evaluate,
        evaluate_many,
        occupancy,
        simulate,
        state_values,
    )
    from surefoot.criterion import Criterion, CVaR, Exceeds, Mean, fit_thresholds
    from surefoot.deploy import PCE, Agent, Batch, CertifiedAgent, Episode, FixedAgent, SafePCE
    from surefoot.deploy.history import History
    from surefoot.deploy.history_files import read_history
    from surefoot.errors import (
        AgentBroken,
        AssumptionError,
        ClusterError,
        ConflictError,
        InfeasibleError,
        InvalidInput,
        InvalidReport,
        JournalError,
        JournalUnavailable,
        LedgerError,
        MissingExtra,
        OutputExists,
        PausedError,
        PolicySetError,
        ReplayError,
        SettingsMismatch,
        SimulationError,
        SolverError,
        SurefootError,
    )
    from surefoot.experiments.compare import compare
    from surefoot.journal import Deployment, Fleet, Webhook
    from surefoot.policy import DeterministicPolicies, Mixture, Policy, TabularPolicy
    from surefoot.policyset import PolicySet
    from surefoot.protocol import Protocol
    from surefoot.rehearsal import Rehearsal, rehearse
    from surefoot.solvers import Solution, certify, solve, solve_over_policies
    from surefoot.training import learn_belief, train

_HOMES = {
    "surefoot.cmdp": (
        "Simulator", "TabularCMDP", "augment", "ceilings", "distance", "evaluate", "evaluate_many", "occupancy", "simulate", "state_values",
    ),
    "surefoot.criterion": ("CVaR", "Criterion", "Exceeds", "Mean", "fit_thresholds"),
    "surefoot.deploy": ("Agent", "Batch", "CertifiedAgent", "Episode", "FixedAgent", "PCE", "SafePCE"),
    "surefoot.deploy.history": ("History",),
    "surefoot.deploy.history_files": ("read_history",),
    "surefoot.errors": (
        "AgentBroken", "AssumptionError", "ClusterError", "ConflictError", "InfeasibleError", "InvalidInput", "InvalidReport", "JournalError",
        "JournalUnavailable", "LedgerError", "MissingExtra", "OutputExists", "PausedError", "PolicySetError", "ReplayError", "SettingsMismatch",
        "SimulationError", "SolverError", "SurefootError",
    ),
    "surefoot.journal": ("Deployment", "Fleet", "Webhook"),
    "surefoot.experiments.compare": ("compare",),
    "surefoot.policy": ("DeterministicPolicies", "Mixture", "Policy", "TabularPolicy"),
    "surefoot.policyset": ("PolicySet",),
    "surefoot.protocol": ("Protocol",),
    "surefoot.rehearsal": ("Rehearsal", "rehearse"),
    "surefoot.solvers": ("Solution", "certify", "solve", "solve_over_policies"),
    "surefoot.training": ("learn_belief", "train"),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
_SUBPACKAGES = ("experiments", "gym", "report", "stats", "tasks", "testing")

__all__ = [
    "PCE",
    "Agent",
    "AgentBroken",
    "AssumptionError",
    "Batch",
    "CVaR",
    "CertifiedAgent",
    "ClusterError",
    "ConflictError",
    "Criterion",
    "Deployment",
    "DeterministicPolicies",
    "Episode",
    "Exceeds",
    "FixedAgent",
    "Fleet",
    "History",
    "InfeasibleError",
    "InvalidInput",
    "InvalidReport",
    "JournalError",
    "JournalUnavailable",
    "LedgerError",
    "Mean",
    "MissingExtra",
    "Mixture",
    "OutputExists",
    "PausedError",
    "Policy",
    "PolicySet",
    "PolicySetError",
    "Protocol",
    "Rehearsal",
    "ReplayError",
    "SafePCE",
    "SettingsMismatch",
    "SimulationError",
    "Simulator",
    "Solution",
    "SolverError",
    "SurefootError",
    "TabularCMDP",
    "TabularPolicy",
    "Webhook",
    "__version__",
    "augment",
    "ceilings",
    "certify",
    "compare",
    "distance",
    "evaluate",
    "evaluate_many",
    "experiments",
    "fit_thresholds",
    "gym",
    "learn_belief",
    "occupancy",
    "read_history",
    "rehearse",
    "report",
    "simulate",
    "solve",
    "solve_over_policies",
    "state_values",
    "stats",
    "tasks",
    "testing",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        # ``surefoot.training`` is the function; the package of that name stays importable as a module path.
        value = getattr(import_module(_HOME_OF[name]), name)
    elif name in _SUBPACKAGES:
        value = import_module(f"surefoot.{name}")
    else:
        raise AttributeError(f"module 'surefoot' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
