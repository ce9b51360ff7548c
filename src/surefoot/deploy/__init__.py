"""The real task: agents that know a policy set and episodes, and never a transition matrix.

Nothing in this package may import ``cmdp``, ``solvers``, ``tasks`` or ``training``; a test enforces it.
"""

from surefoot.deploy.agent import Agent
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.fixed import FixedAgent
from surefoot.deploy.report import Report
from surefoot.deploy.safe_pce import PCE, SafePCE
from surefoot.deploy.status import AgentEvent, Status
from surefoot.deploy.tracker import Batch, Episode, EpisodeTracker

__all__ = [
    "PCE",
    "Agent",
    "AgentEvent",
    "Batch",
    "CertifiedAgent",
    "Episode",
    "EpisodeTracker",
    "FixedAgent",
    "Report",
    "SafePCE",
    "Status",
]
