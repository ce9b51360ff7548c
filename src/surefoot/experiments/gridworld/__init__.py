"""The published gridworld experiment: the paper's Figures 1 and 2 with the trivial baselines beside them."""

from surefoot.experiments.gridworld.run import DEFAULT_AGENTS, reproduce

__all__ = ["DEFAULT_AGENTS", "reproduce"]
