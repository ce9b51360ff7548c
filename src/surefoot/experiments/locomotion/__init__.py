"""The published locomotion experiment, and one whose dynamics vary."""

from surefoot.experiments.locomotion.run import DEFAULT_AGENTS, reproduce

__all__ = ["DEFAULT_AGENTS", "reproduce"]
