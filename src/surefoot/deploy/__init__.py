"""The real task: agents that know a policy set and episodes, and never a transition matrix.

    report, tracker, reorder         what the plant measured; whether it can be true; in ask order
    trust, admission                 what is assumed, which rows follow from it; which policy sets are let in
    bounds, evidence/                upper bounds on real costs; which cells are rejected
    planner, objective, tuning       the linear program and the check that certifies its mixture; what it aims at; constants of speed
    ramp, comparison, reality        reality against simulation, and who is barred
    monitor, selective_loss          alarms on real costs; draws that go missing
    stages, status                   how far a deployment is; where it stands, for programs and people
    certified                        the agent: a shell around all of these

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
