"""The durable deployment: an append-only journal of events, and the state that is nothing but their fold.

Comes with an extra: ``pip install "surefoot[serve]"`` (SQLite), ``"surefoot[postgres]"`` (PostgreSQL).
"""

from __future__ import annotations

from surefoot.errors import MissingExtra

try:
    import sqlalchemy as _  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtra("sqlalchemy", "serve") from error

from surefoot.audit import Verification
from surefoot.journal.deployment import Deployment, Ticket, Tickets
from surefoot.journal.events import Event
from surefoot.journal.fleet import Fleet
from surefoot.journal.notices import Notice
from surefoot.journal.settings import Settings
from surefoot.journal.status import DeploymentStatus
from surefoot.journal.stop_requests import Stop
from surefoot.journal.webhook import Webhook

__all__ = [
    "Deployment", "DeploymentStatus", "Event", "Fleet", "Notice", "Settings", "Stop", "Ticket", "Tickets", "Verification", "Webhook",
]  # fmt: skip
