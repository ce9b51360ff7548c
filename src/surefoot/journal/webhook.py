"""Notices as HTTP requests to a receiver of the user's.

    hook = Webhook("https://receiver/plant", key=b"...")
    hook.attach(plant)                                    POST, one notice after the other, from a thread of its own

Body (JSON): ``id, deployment, event, seq, stage, episode, text`` of a :class:`~surefoot.journal.notices.Notice`. Headers: ``Content-Type``,
``X-Surefoot-Id`` (the id) and, with a key, ``X-Surefoot-Signature: sha256=HMAC-SHA256(key, body)`` in hexadecimal digits.

* **At least once, in order.** A notice is delivered when the receiver answers with a status from 200 to 299; only then comes the next one. A
  receiver that is told the same id again (its answer was lost, or two processes serve the plant) passes it over.
* **For as long as it takes.** After a failure (another status, a redirection among them; no answer within ``timeout``) the wait is ``first``
  seconds, twice that after the next, ``longest`` at most, without end. Meanwhile the journal itself is the queue: memory holds at most ``most``
  notices, the rest is read from it when their turn comes. The number of the last event that was delivered is kept in a small file, so that a process
  that starts goes on where the last one ended; without such a file (none could be written) a process tells what happens from its start on. A
  receiver that is down for a week is told the week's notices when it is back.
* **Never in the way.** Queueing a notice takes no lock that is held while anything is sent.

Every ``look`` seconds the thread also looks at the journal, to learn what other processes wrote. The address may be a secret: only its host is ever
shown.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import math
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from surefoot.arrays import check_integer, check_real
from surefoot.errors import InvalidInput, SurefootError
from surefoot.journal.high_water_marks import state_folder
from surefoot.journal.notices import Notice

if TYPE_CHECKING:
    from surefoot.journal.deployment import Deployment

__all__ = ["Webhook"]

Post = Callable[[str, bytes, Mapping[str, str], float], int]
"""(address, body, headers, seconds) to the status of the answer; raises where there is none."""
SHORTEST_KEY = 16


class Webhook:
    """See the module's docstring.

    Args:
        url: of the receiver, ``http`` or ``https``.
        key: secret that requests are signed with, at least 16 bytes; ``None`` to sign none.
        timeout: seconds that a request may take.
        first, longest: seconds before the second attempt, and the longest wait between attempts.
        most: notices held in memory.
        look: seconds between looks at the journal.
        remember: whether the last delivery is kept in a file in the state folder; a path names another file.
        post: sends a request; for tests.
        clock: seconds, not going backwards.

    Attributes:
        delivered, failures: notices, and attempts that failed, of this process.

    Raises:
        InvalidInput: not an address of a receiver, or a key that is too short.
    """

    def __init__(
        self,
        url: str,
        *,
        key: bytes | str | None = None,
        timeout: float = 10.0,
        first: float = 1.0,
        longest: float = 900.0,
        most: int = 256,
        look: float = 30.0,
        remember: bool | str | os.PathLike[str] = True,
        post: Post | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url, self.host = url, _host(url)
        self._key = None if key is None else _key(key)
        for name, value in (("timeout", timeout), ("first", first), ("longest", longest), ("look", look)):
            check_real(name, value, low=0.0, open_low=True)
        self._timeout, self._first, self._longest, self._look = timeout, first, longest, look
        self._most = check_integer("most", most, low=1)
        self._remember, self._path = remember, None if isinstance(remember, bool) else Path(remember)
        self._post, self._clock = _post if post is None else post, clock
        self._plant: Deployment | None = None
        self._lock, self._wake, self._closed = threading.Lock(), threading.Event(), False
        self._queue: deque[Notice] = deque()
        self._queued = 0  # number of the last event that was queued
        self._behind = False  # whether later ones are to be read from the journal
        self._due = self._looks = -math.inf
        self._attempts = self.delivered = self.failures = self.dropped = 0
        self._problem = self._forgetful = ""
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------------------------------------------------------ queue

    def __call__(self, notice: Notice) -> None:
        """Queue a notice."""
        with self._lock:
            if self._behind or len(self._queue) >= self._most:
                self._behind = self._plant is not None
                self.dropped += self._plant is None
            else:
                self._queue.append(notice)
                self._queued = notice.seq
        self._wake.set()

    def attach(self, plant: Deployment, *, start: bool = True) -> None:
        """Tell of a deployment from where the last delivery ended; the first time, from now on.

        Args:
            plant: stays open while this is attached.
            start: ``False`` leaves deliveries to whoever calls :meth:`step`.
        """
        self._plant = plant
        if self._remember is True:
            folder, which = state_folder(), hashlib.sha256(f"{plant.journal_id}\n{self.url}".encode()).hexdigest()[:32]
            self._path = None if folder is None else folder / "webhooks" / which
        since = self._remembered(plant.journal_id)
        self._queued, self._behind = plant.noticed_to if since is None else since, True
        plant.subscribe(self)
        if since is None:
            self._keep(self._queued)
        if start:
            self._thread = threading.Thread(target=self._toil, name="webhook", daemon=True)
            self._thread.start()

    def close(self, seconds: float = 2.0) -> None:
        """Stop after the request under way, for which nobody waits longer than this; what was not delivered is told by the next process."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(seconds)

    # ---------------------------------------------------------------------------------------------------------- deliver

    def step(self) -> float:
        """Deliver what is due; seconds until more is, infinite if nothing is known to come."""
        self._see()
        while (notice := self._next()) is not None and not self._closed:
            wait = self._due - self._clock()
            if wait > 0.0:
                return wait
            problem = self._tried(notice)
            if problem is not None:
                self.failures += 1
                self._due = self._clock() + min(self._longest, self._first * 2.0 ** min(self._attempts, 60))
                self._attempts += 1
                self._problem = problem
                continue
            with self._lock:
                self._queue.popleft()
            self.delivered += 1
            self._attempts, self._problem, self._due = 0, "", -math.inf
            self._keep(notice.seq)
        return max(self._looks - self._clock(), 0.0) if self._plant is not None else math.inf

    @property
    def trouble(self) -> str:
        """What is wrong, for the status; empty where nothing is."""
        found = []
        if self._problem:
            more = " or more" if self._behind else ""
            found.append(
                f"the webhook to {self.host} was not delivered in {self._attempts} attempts ({self._problem}); {len(self._queue)}{more} notices wait"
            )
        if self.dropped:
            found.append(
                f"the webhook to {self.host} dropped {self.dropped} notices; attach it to the deployment instead of subscribing it"
            )
        if self._forgetful:
            found.append(
                f"the webhook to {self.host} cannot keep what was delivered ({self._forgetful}); a process that starts tells only what is new"
            )
        return "; ".join(found)

    def _toil(self) -> None:
        while not self._closed:
            self._wake.clear()
            self._wake.wait(min(self.step(), threading.TIMEOUT_MAX))

    def _see(self) -> None:
        """Look at the journal if it is time: what other processes wrote comes as notices."""
        if self._plant is None or self._clock() < self._looks:
            return
        self._looks = self._clock() + self._look
        try:
            self._plant.status()
        except SurefootError:
            pass  # closed, or out of reach for now

    def _next(self) -> Notice | None:
        """The notice whose turn it is."""
        with self._lock:
            if self._queue or not self._behind or self._plant is None:
                return self._queue[0] if self._queue else None
            self._behind, since = False, self._queued  # what comes meanwhile is read as well, and passed over below
        try:
            found = self._plant.notices(since, self._most)
        except SurefootError:
            with self._lock:
                self._behind = True
            return None
        with self._lock:
            meanwhile = [notice for notice in self._queue if not found or notice.seq > found[-1].seq]
            self._queue = deque([*found, *meanwhile])
            self._queued = self._queue[-1].seq if self._queue else since
            if len(found) == self._most:
                # More may stand in the journal between these and what came meanwhile.
                self._queue, self._queued, self._behind = deque(found), found[-1].seq, True
            return self._queue[0] if self._queue else None

    def _tried(self, notice: Notice) -> str | None:
        """Send one; what went wrong, or ``None``."""
        body = json.dumps(notice.as_dict(), separators=(",", ":")).encode("ascii")
        headers = {"Content-Type": "application/json", "User-Agent": "surefoot", "X-Surefoot-Id": notice.id}
        if self._key is not None:
            headers["X-Surefoot-Signature"] = "sha256=" + hmac.new(self._key, body, hashlib.sha256).hexdigest()
        try:
            status = self._post(self.url, body, headers, self._timeout)
        except (OSError, ValueError, http.client.HTTPException) as error:
            return type(error).__name__
        return None if 200 <= status < 300 else f"status {status}"

    # --------------------------------------------------------------------------------------------------------- remember

    def _remembered(self, journal: str) -> int | None:
        """Number of the last event that was delivered, as a process before this one left it."""
        if self._path is None:
            return None
        try:
            found = json.loads(self._path.read_text(encoding="ascii"))
            return int(found["seq"]) if found["journal"] == journal else None
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def _keep(self, seq: int) -> None:
        if self._path is None or self._plant is None:
            return
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_text(json.dumps({"journal": self._plant.journal_id, "seq": seq}), encoding="ascii")
            fresh.replace(self._path)
        except OSError as error:
            self._forgetful = type(error).__name__
        else:
            self._forgetful = ""


class _NoRedirects(HTTPRedirectHandler):
    """A redirection is a failure: it might lead to another scheme, and would turn a POST into a GET."""

    def redirect_request(self, *arguments: Any) -> None:
        """Nowhere."""


def _post(url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> int:
    request = Request(url, data=body, headers=dict(headers), method="POST")
    try:
        with build_opener(_NoRedirects).open(request, timeout=timeout) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return int(error.code)


def _host(url: str) -> str:
    """Host and port of a receiver's address.

    Raises:
        InvalidInput: it is none.
    """
    try:
        parts = urlsplit(str(url)) if re.fullmatch(r"[!-~]+", str(url)) else None
        port = None if parts is None else parts.port
    except ValueError:
        parts = port = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        scheme = ascii(str(url).partition(":")[0])[:20]
        raise InvalidInput(
            f"url must be an address like https://receiver:8443/plant, printable ASCII with scheme http or https and without a password, got one "
            f"that begins with {scheme}; put secrets into the path or use key",
            code="SF-ARGUMENT-SYNTAX",
        )
    return parts.hostname if port is None else f"{parts.hostname}:{port}"


def _key(key: bytes | str) -> bytes:
    """A key as bytes.

    Raises:
        InvalidInput: too short.
    """
    found = key.encode("utf-8") if isinstance(key, str) else bytes(key)
    if len(found) < SHORTEST_KEY:
        raise InvalidInput(
            f"key must hold at least {SHORTEST_KEY} bytes, got {len(found)}; make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            code="SF-ARGUMENT-LENGTH",
        )
    return found
