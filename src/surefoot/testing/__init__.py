"""Conformance suites: the rules that families, policies, agents and storages of your own have to keep, as tests to inherit.

    class TestMine(surefoot.testing.TaskFamilySuite):
        def make(self):
            return MyFamily()

Every ``test_*`` method of a suite checks one rule. pytest collects them from the class that inherits; without a test runner
:func:`broken_rules` runs them. Nothing beyond what the part itself needs has to be installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surefoot.testing.agents import AgentSuite
    from surefoot.testing.deployable import DeployableAgentSuite
    from surefoot.testing.families import TaskFamilySuite
    from surefoot.testing.policies import PolicySuite
    from surefoot.testing.simulated import SimulatedFamilySuite
    from surefoot.testing.storage import StorageSuite
    from surefoot.testing.suite import Suite, broken_rules

_HOME_OF = {
    "AgentSuite": "agents",
    "DeployableAgentSuite": "deployable",
    "PolicySuite": "policies",
    "SimulatedFamilySuite": "simulated",
    "StorageSuite": "storage",
    "Suite": "suite",
    "TaskFamilySuite": "families",
    "broken_rules": "suite",
}

__all__ = [
    "AgentSuite",
    "DeployableAgentSuite",
    "PolicySuite",
    "SimulatedFamilySuite",
    "StorageSuite",
    "Suite",
    "TaskFamilySuite",
    "broken_rules",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'surefoot.testing' has no attribute {name!r}")
    value = getattr(import_module(f"surefoot.testing.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
