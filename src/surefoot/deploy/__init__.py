"""The real task: agents that know a policy set and episodes, and never a transition matrix.

Nothing in this package may import ``cmdp``, ``solvers``, ``tasks`` or ``training``; a test enforces it.
"""

from surefoot.deploy.agent import Agent
from surefoot.deploy.certified import CertifiedAgent, Event, Status
from surefoot.deploy.fixed import FixedAgent
from surefoot.deploy.safe_pce import PCE, SafePCE
from surefoot.deploy.tracker import Batch, Episode, EpisodeTracker, Reports

__all__ = [
    "PCE",
    "Agent",
    "Batch",
    "CertifiedAgent",
    "Episode",
    "EpisodeTracker",
    "Event",
    "FixedAgent",
    "Reports",
    "SafePCE",
    "Status",
]
