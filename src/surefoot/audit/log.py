"""Logged episodes a second time: one after the other, in plain sums.

Letters: F = 1 + I outcomes, n episodes.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from typing import Any

from surefoot.arrays import FloatArray
from surefoot.audit.groups import Group
from surefoot.audit.order import CLOSE
from surefoot.deploy.history import FIRST_BLOCK, FRACTIONS, LEVEL

__all__ = ["LogAudit", "parts"]

PARTS = ("reward", "costs", "initial_state", "transitions", "signals")


def parts(group: Group) -> list[Group]:
    """The parts of a log, each twice as long as all before it, that bets are fixed for; one where there are transitions."""
    n, found, start, stop = group.ids.size, [], 0, FIRST_BLOCK
    if group.rows is not None:
        return [group]
    while start < n:
        part = copy.copy(group)
        for name in ("ids", "policies", "reported", "outcomes", "starts", "signals"):
            value = getattr(group, name)
            setattr(part, name, None if value is None else value[start:stop])
        found.append(part)
        start, stop = stop, 2 * stop
    return found


class LogAudit:
    """Which logs were given, and whether they look stationary.

    Attributes:
        count: logged episodes.
    """

    def __init__(self, outcomes: int) -> None:
        self.count, self._pairs, self._said = 0, 0, False
        self._digests: set[str] = set()
        self._sizes = [0.0] * outcomes
        self._logs = [[0.0] * (2 * len(FRACTIONS)) for _ in range(outcomes)]
        self._peak = 0.0

    def is_new(self, body: dict[str, Any]) -> bool:
        """Whether the digest is that of the log, and no log before had it. Journals from before there were digests have none."""
        if "log" not in body:
            return True
        given = {name: body[name] for name in PARTS if name in body}
        text = json.dumps(given, sort_keys=True, separators=(",", ":"))
        digest, seen = hashlib.sha256(text.encode()).hexdigest(), self._digests
        fresh = digest == body["log"] and digest not in seen
        seen.add(digest)
        return fresh

    def add(self, outcomes: FloatArray) -> bool | None:
        """Take n episodes (n, F) in; whether a warning is due now, ``None`` where rounding decides."""
        n, half = len(outcomes), len(outcomes) // 2
        self.count += n
        for k in range(half):
            for f, logs in enumerate(self._logs):
                gap = float(outcomes[k + half, f]) - float(outcomes[k, f])
                usual = self._sizes[f] / self._pairs if self._pairs else 0.0
                gain = gap / (abs(gap) + usual) if gap else 0.0
                for c, fraction in enumerate(FRACTIONS):
                    logs[2 * c] += math.log(1.0 + fraction * gain)
                    logs[2 * c + 1] += math.log(1.0 - fraction * gain)
                self._sizes[f] += abs(gap)
            self._pairs += 1
            every = [log for logs in self._logs for log in logs]
            top = max(every)
            mean = top + math.log(sum(math.exp(log - top) for log in every) / len(every))
            self._peak = max(self._peak, mean)
        due = self._peak >= -math.log(LEVEL) and not self._said
        if abs(self._peak + math.log(LEVEL)) < CLOSE:
            return None
        self._said |= due
        return due
