"""Who is told of notices, and in which order.

    subscribe(callback)           callback(notice), in the order of the journal, after the event is durable and after all locks are let go

A callback runs in the thread whose operation showed the event, before that operation returns: it should be quick, or hand the notice on
(:class:`~surefoot.journal.webhook.Webhook` does). While one thread tells, others leave what they have to it. What a callback raises is counted and
noted, and harms nothing: the operation has happened already.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable

from surefoot.journal.notices import Notice

__all__ = ["Callback", "Hooks"]

LOG = logging.getLogger("surefoot.hooks")

Callback = Callable[[Notice], object]


class _Subscription:
    """A callback, and what it has not been told yet."""

    def __init__(self, callback: Callback, earlier: Iterable[Notice]) -> None:
        self.callback, self.waiting = callback, deque(earlier)


class Hooks:
    """See the module's docstring.

    Attributes:
        failures: how often a callback raised.
    """

    def __init__(self) -> None:
        self._subscriptions: list[_Subscription] = []
        self._turn = threading.Lock()
        self.failures = 0
        self._last = ""

    def __bool__(self) -> bool:
        """Whether anybody is to be told."""
        return bool(self._subscriptions)

    def subscribe(self, callback: Callback, earlier: Iterable[Notice] = ()) -> Callable[[], None]:
        """Tell a callback from now on, and first what happened ``earlier``; returns what ends it."""
        mine = _Subscription(callback, earlier)
        self._subscriptions = [*self._subscriptions, mine]

        def end() -> None:
            self._subscriptions = [other for other in self._subscriptions if other is not mine]

        return end

    def add(self, notices: Iterable[Notice]) -> None:
        """These happened; they are told by :meth:`tell`."""
        found = list(notices)
        for one in self._subscriptions:
            one.waiting.extend(found)

    def tell(self) -> None:
        """Tell everybody everything; at once, unless another thread, or a callback further up, is doing so."""
        while self._waiting() and self._turn.acquire(blocking=False):
            try:
                for one in self._subscriptions:
                    while one.waiting:
                        self._call(one.callback, one.waiting.popleft())
            finally:
                self._turn.release()

    def _waiting(self) -> bool:
        return any(one.waiting for one in self._subscriptions)

    def _call(self, callback: Callback, notice: Notice) -> None:
        try:
            callback(notice)
        except Exception as error:
            self.failures += 1
            self._last = f"{type(error).__name__} at {notice.event} (event {notice.seq})"
            LOG.exception("a hook failed at event %d", notice.seq)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is wrong with them, for the status."""
        failed = f"a hook failed {self.failures} times in this process, last with {self._last}; the deployment is not affected"
        own = (str(getattr(one.callback, "trouble", "") or "") for one in self._subscriptions)
        return (*([failed] if self.failures else []), *(text for text in own if text))

    @property
    def failed(self) -> int:
        """How often a callback raised or, of a webhook, an attempt to deliver failed."""
        return self.failures + sum(int(getattr(one.callback, "failures", 0)) for one in self._subscriptions)
