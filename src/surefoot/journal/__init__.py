"""The durable deployment: an append-only journal of events, and the state that is nothing but their fold.

Comes with an extra: ``pip install "surefoot[service]"`` (SQLite), ``"surefoot[postgres]"`` (PostgreSQL).
"""

from __future__ import annotations

from importlib.util import find_spec

from surefoot.errors import MissingExtra

if find_spec("sqlalchemy") is None:
    raise MissingExtra("sqlalchemy", "service")

from surefoot.journal.deployment import Deployment, Ticket
from surefoot.journal.events import Event
from surefoot.journal.settings import Settings
from surefoot.journal.status import DeploymentStatus
from surefoot.journal.verify import Verification

__all__ = ["Deployment", "DeploymentStatus", "Event", "Settings", "Ticket", "Verification"]
