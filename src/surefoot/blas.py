"""Linear algebra on many small systems, with one thread.

A BLAS library that starts all its threads for a system of some hundred unknowns spends its time waiting for them, all the more so
when several processes share the machine. Systems up to :data:`SMALL` unknowns are therefore solved with the library held to one
thread; larger ones use what the environment allows. The results are those of ``numpy.linalg``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefoot.arrays import FloatArray

__all__ = ["SMALL", "TINY", "one_thread", "solve_systems"]

TINY, SMALL = 32, 1000
"""From and up to this many unknowns a system is held to one thread; below, libraries start no others themselves."""

_lock = threading.Lock()
_here = threading.local()
_holders = 0
_limit: Any = None


@cache
def _controller() -> Any:
    """The thread pools loaded by this process, found once: looking for them takes longer than a small solve."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS to one thread inside the block.

    The limit belongs to the process or to the calling thread, depending on the library. What the first block found is what every block
    restores, so that nothing stays limited in whatever order Python's threads leave.
    """
    global _holders, _limit
    if getattr(_here, "inside", False):
        yield
        return
    with _lock:
        limit = _controller().limit(limits=1, user_api="blas")
        if _holders == 0:
            _limit = limit
        _holders += 1
    _here.inside = True
    try:
        yield
    finally:
        _here.inside = False
        with _lock:
            _holders -= 1
            _limit.restore_original_limits()


def solve_systems(system: NDArray[np.floating[Any]], right: NDArray[np.floating[Any]]) -> FloatArray:
    """``numpy.linalg.solve`` of one system (n, n) or a batch of them (..., n, n)."""
    if not TINY <= system.shape[-1] <= SMALL:
        return np.linalg.solve(system, right)
    with one_thread():
        return np.linalg.solve(system, right)
