"""Progress of what takes long, on standard error: a bar on a terminal, elsewhere (a log, a pipe) a line every ten seconds.

Nothing is written during the first two seconds, and a bar is wiped when its loop ends.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:
    Tqdm = tqdm[object]
else:
    Tqdm = tqdm

__all__ = ["track"]

Item = TypeVar("Item")

PATIENCE = 2.0
"""Seconds before a bar appears."""
INTERVAL = 10.0
"""Seconds between two lines."""


class _Bar(Tqdm):
    """A bar of tqdm with a lock of this process alone and without a thread that watches it."""

    monitor_interval = 0


_Bar.set_lock(threading.RLock())


def track(items: Iterable[Item], label: str, total: int, *, show: bool = True) -> Iterator[Item]:
    """Yield ``items`` and show how far the loop is.

    Args:
        items: what the loop runs over.
        label: name of the loop, in front of the bar.
        total: number of items.
        show: False writes nothing at all.
    """
    if not show:
        yield from items
    elif sys.stderr.isatty():
        with _Bar(desc=label, total=total, file=sys.stderr, leave=False, delay=PATIENCE, dynamic_ncols=True) as bar:
            for item in items:
                yield item
                bar.update()
    else:
        yield from _lines(items, label, total)


def _lines(items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
    began = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - said >= INTERVAL:
            said = now
            sys.stderr.write(_Bar.format_meter(done, total, now - began, prefix=label, ncols=100, ascii=True) + "\n")
            sys.stderr.flush()
        yield item
