"""The earlier name of :mod:`surefoot.journal.stop_requests`."""

from __future__ import annotations

from surefoot.journal.stop_requests import SECONDS, Kept, Stop

__all__ = ["SECONDS", "Kept", "Stop"]
