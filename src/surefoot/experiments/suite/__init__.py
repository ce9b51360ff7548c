"""Every built-in family with every agent: how much of the always-safe regret each of them gives up."""

from surefoot.experiments.suite.run import DEFAULT_AGENTS, reproduce

__all__ = ["DEFAULT_AGENTS", "reproduce"]
