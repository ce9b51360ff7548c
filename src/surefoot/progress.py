"""A progress bar for what takes more than two seconds; silent when the output is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["track"]

Item = TypeVar("Item")

PATIENCE = 2.0
WIDTH = 30


def track(items: Iterable[Item], label: str, total: int, *, show: bool = True) -> Iterator[Item]:
    """Yield ``items``; after two seconds draw a bar on standard error, if that is a terminal and ``show`` holds."""
    drawn, began = False, time.monotonic()
    visible = show and sys.stderr.isatty()
    for done, item in enumerate(items):
        if visible and time.monotonic() - began > PATIENCE:
            filled = WIDTH * done // max(total, 1)
            sys.stderr.write(f"\r{label} [{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{total}")
            sys.stderr.flush()
            drawn = True
        yield item
    if drawn:
        sys.stderr.write("\r" + " " * (len(label) + WIDTH + 24) + "\r")
        sys.stderr.flush()
