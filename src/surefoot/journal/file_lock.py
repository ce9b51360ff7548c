"""A lock between processes that is granted in turn: who may try to write to a SQLite file next.

SQLite's own lock has no queue. A process that waits for it tries again at growing intervals, and newcomers can overtake it for minutes. So only one
process at a time waits for SQLite's lock, and it holds this lock, on a separate file, while it waits. All others, and a process that has just
written, wait for this lock and try at short, equal intervals.

This lock decides the order of writers and nothing else. Without it (no ``fcntl``, a disk that cannot be written) everything still works.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

HAS_LOCKS = find_spec("fcntl") is not None
if HAS_LOCKS:
    import fcntl

__all__ = ["FairFileLock"]


class FairFileLock:
    """The right to try next; see the module's docstring.

    Args:
        path: of the lock's own file, which is created when needed; ``None`` for a lock that does nothing.
    """

    STEP = 0.002
    """Seconds between two attempts."""

    def __init__(self, path: str | None) -> None:
        self._path = path if HAS_LOCKS else None
        self._descriptor: int | None = None

    @contextmanager
    def turn(self, wait: float) -> Iterator[None]:
        """Hold the lock, or go on without it after ``wait`` seconds."""
        held = self._path is not None and self._acquired(wait)
        try:
            yield
        finally:
            if held and self._descriptor is not None:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _acquired(self, wait: float) -> bool:
        end = time.monotonic() + wait
        while time.monotonic() < end:
            try:
                if self._descriptor is None:
                    self._descriptor = os.open(str(self._path), os.O_RDWR | os.O_CREAT, 0o644)
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                time.sleep(self.STEP)
            except OSError:
                return False  # the disk cannot be written, or does not support locks
        return False

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
