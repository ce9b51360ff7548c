"""Experiments: what runs, its settings and its analysis are three things; analysis reads only logs."""

from surefoot.experiments.registry import AGENTS, AgentContext, AgentOptions, make_agent
from surefoot.experiments.runner import Trace, play

__all__ = ["AGENTS", "AgentContext", "AgentOptions", "Trace", "make_agent", "play"]
