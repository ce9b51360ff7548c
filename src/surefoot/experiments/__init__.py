"""Experiments: what runs, its settings and its analysis are three things; analysis reads only logs."""

from surefoot.experiments.registry import AGENTS, AgentContext, make_agent
from surefoot.experiments.runner import Trace, play

__all__ = ["AGENTS", "AgentContext", "Trace", "make_agent", "play"]
