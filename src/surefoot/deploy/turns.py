"""One operation of an agent at a time, whole or not at all.

An operation (``ask``, ``tell``, ``lost``) changes counters, bounds and evidence in many places. Two things could leave it half done:

* *another thread* that calls the same agent meanwhile. Operations wait for each other (a re-entrant lock);
* *Ctrl-C*, the stop button of a notebook. In the main thread, where Python delivers it, SIGINT is held back until the operation is over and
  then raised. So whatever was told before the interrupt is told; nothing is told in part.

Anything else that ends an operation after it began to change the agent (memory that ran out, a defect) leaves an agent that cannot be trusted:
from then on it refuses every call and says why. :class:`~surefoot.journal.deployment.Deployment` folds its journal again instead.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import wraps
from types import FrameType, TracebackType
from typing import Any, TypeVar, cast

from surefoot.errors import AgentBroken

__all__ = ["Turns", "undivided"]

Method = TypeVar("Method", bound=Callable[..., Any])


class Turns:
    """The lock of one agent. A copy, or one that comes out of a pickle, is free.

    Attributes:
        broken: what ended an operation halfway, or ``None``.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth, self._changing = 0, False
        self._held: tuple[int, FrameType | None] | None = None
        self._handler: Any = None
        self.broken: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"broken": self.broken}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        self.broken = state["broken"]

    def changes(self) -> None:
        """What follows changes the agent: everything that can be refused has been checked."""
        self._changing = True

    def __enter__(self) -> Turns:
        self._lock.acquire()
        if self._depth == 0:
            if self.broken is not None:
                self._lock.release()
                raise AgentBroken(
                    f"the agent must be whole, got one that was left half changed by {self.broken}; make a new one and tell it the same "
                    "reports, or use a Deployment, whose journal survives this"
                )
            self._changing = False
            self._hold_back()
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth:
            self._lock.release()
            return
        if error is not None and self._changing:
            self.broken = f"{type(error).__name__}: {error}".rstrip(": ")
        held, handler = self._held, self._handler
        self._held = self._handler = None
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        self._lock.release()
        if held is not None and callable(handler):
            handler(*held)

    def _hold_back(self) -> None:
        """Note an interrupt instead of raising it, where this thread is the one that Python interrupts."""
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        # What is ignored, left to the system, or handled outside Python is not ours to hold back.
        if callable(handler):
            self._handler = handler
            signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._held = (number, frame)


def undivided(method: Method) -> Method:
    """The method as one operation of an agent whose bookkeeping, a :class:`~surefoot.deploy.tracker.EpisodeTracker`, is its ``_tracker``."""

    @wraps(method)
    def whole(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self._tracker.turns:
            return method(self, *args, **kwargs)

    return cast(Method, whole)
