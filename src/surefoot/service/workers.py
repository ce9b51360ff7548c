"""Threads that do the operations' work.

Two groups of them serve one deployment: what may have to wait (for the journal's lock, for the disk) never keeps a pause or an abort waiting for a
thread. They are daemons: a process that is told to end does not wait for an operation that waits for somebody else's lock. Nothing is lost by that:
what was answered is in the journal, and what was not is asked again.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Workers"]

T = TypeVar("T")

Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class Workers:
    """At most ``most`` threads, started when there is work for them."""

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._unfinished = 0

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises, without keeping the event loop waiting."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            self._unfinished += 1
            fresh = self._threads < min(self._most, self._unfinished)
            self._threads += fresh
        self._jobs.put((loop, future, work))
        if fresh:
            threading.Thread(target=self._toil, name=self._name, daemon=True).start()
        return await future

    def _toil(self) -> None:
        while True:
            loop, future, work = self._jobs.get()
            try:
                if not future.cancelled():
                    _deliver(loop, future, *_outcome(work))
            finally:
                with self._lock:
                    self._unfinished -= 1
            del future, work


def _outcome(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:
        return None, error


def _deliver(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], value: Any, error: BaseException | None
) -> None:
    def tell() -> None:
        if not future.done():  # whoever waited may have gone
            future.set_result(value) if error is None else future.set_exception(error)

    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:
        pass  # the loop is closed: the service ended meanwhile
