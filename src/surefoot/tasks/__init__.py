"""Task families: distributions over CMDPs that share states, actions and the criterion."""

from surefoot.tasks.family import TabularFamily, TaskFamily
from surefoot.tasks.gridworld import NoisyGridworld

__all__ = ["NoisyGridworld", "TabularFamily", "TaskFamily"]
