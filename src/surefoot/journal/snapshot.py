"""The state of a deployment as bytes, so that a long journal reopens quickly. A cache: never needed, never the truth.

What changes is told by the objects themselves (:mod:`surefoot.stateful`): numbers, texts, arrays, lists, tuples, sets, dictionaries and the frozen
records of :data:`RECORDS`. Everything else is rebuilt from the policy set and the settings. The values are stored as one JSON text and raw
arrays, with a SHA-256 in front. A snapshot is used only if it reads back whole, was written by the same version, belongs to an event that the
journal still holds with the same digest, and bears the seal of this user's secret (:mod:`surefoot.journal.seals`), which no database holds; else
the journal is folded from the start. So whoever edits a snapshot, or makes one up, changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from dataclasses import fields
from typing import Any

import numpy as np

from surefoot.deploy.fixed_bets import Asked
from surefoot.deploy.planner import Plan
from surefoot.deploy.report import Report
from surefoot.deploy.status import AgentEvent
from surefoot.errors import SurefootError
from surefoot.journal.operator import Operator
from surefoot.journal.settings import Settings
from surefoot.journal.state import DeploymentState, PendingEffects
from surefoot.journal.store import Transaction
from surefoot.policyset.schema import PolicySet
from surefoot.version import VERSION

__all__ = ["SnapshotPolicy", "encode", "restored"]

RECORDS: dict[str, type] = {
    "asked": Asked,
    "report": Report,
    "plan": Plan,
    "event": AgentEvent,
    "operator": Operator,
    "pending_effects": PendingEffects,
}
"""Frozen values, made anew."""
NAMES = {kind: name for name, kind in RECORDS.items()}

FORMAT = 3

Arrays = dict[int, tuple[int, Any]]
"""By identity: place and array, for many pending episodes refer to one mixture."""


class SnapshotPolicy:
    """When a snapshot is due: when folding what came since the last one would take noticeably long, and writing one does not."""

    LEAST, SHARE = 0.5, 50.0

    def __init__(self) -> None:
        self._since = 0.0
        self._cost = 0.0

    def spent(self, seconds: float) -> None:
        """Computing took so long."""
        self._since += seconds

    def kept(self, seconds: float) -> None:
        """A snapshot was written, in so many seconds."""
        self._since, self._cost = 0.0, seconds

    def restart(self) -> None:
        """The state was rebuilt."""
        self._since = 0.0

    def due(self) -> bool:
        """Whether it pays now."""
        return self._since > max(self.LEAST, self.SHARE * self._cost)

    @property
    def worth_keeping(self) -> bool:
        """Whether there is anything to save at the end."""
        return self._since > 0.1


# ------------------------------------------------------------------------------------------------------------ writing


def encode(state: DeploymentState) -> bytes:
    """The snapshot of a deployment's state.

    Raises:
        TypeError: an agent's state holds what is neither a plain value nor a known record.
    """
    arrays: Arrays = {}
    dumped = _dump(state.state_dict(), arrays)
    found = [np.ascontiguousarray(value) for _, value in arrays.values()]
    listed = [[array.dtype.str, np.shape(value)] for array, (_, value) in zip(found, arrays.values())]
    head = {"format": FORMAT, "version": VERSION, "state": dumped, "arrays": listed}
    text = json.dumps(head, separators=(",", ":")).encode("ascii")
    body = b"".join([len(text).to_bytes(8, "little"), text, *(array.tobytes() for array in found)])
    return hashlib.sha256(body).digest() + body


def _dump(value: Any, arrays: Arrays) -> Any:
    """JSON for ``value``: scalars as they are, all else as [kind, ...]; arrays go to ``arrays``."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return ["float", value.hex()]
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.hasobject:
            raise TypeError("a snapshot cannot hold arrays of objects")
        place, _ = arrays.setdefault(id(value), (len(arrays), value))
        return ["array", place, isinstance(value, np.generic)]
    if type(value) in NAMES:
        parts = {part.name: _dump(getattr(value, part.name), arrays) for part in fields(value)}
        return ["record", NAMES[type(value)], parts]
    if isinstance(value, dict):
        return ["dict", [[_dump(key, arrays), _dump(item, arrays)] for key, item in value.items()]]
    for kind, name in ((list, "list"), (tuple, "tuple"), (deque, "deque"), (set, "set")):
        if isinstance(value, kind):
            return [name, [_dump(item, arrays) for item in (sorted(value) if kind is set else value)]]
    raise TypeError(f"a snapshot cannot hold {type(value).__name__}")


# ------------------------------------------------------------------------------------------------------------ reading


def restored(transaction: Transaction, policy_set: PolicySet, settings: Settings) -> DeploymentState | None:
    """The state that the journal's snapshot holds, if it can be trusted."""
    row = transaction.snapshot()
    if row is None:
        return None
    seq, digest, body = row
    if hashlib.sha256(body[32:]).digest() != body[:32]:
        return None
    try:
        state = decode(body[32:], policy_set, settings)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,
        RecursionError,
        SurefootError,
        TypeError,
        ValueError,
    ):
        return None
    return state if state is not None and (state.seq, state.digest) == (seq, digest) else None


def decode(body: bytes, policy_set: PolicySet, settings: Settings) -> DeploymentState | None:
    """The state in a snapshot without its checksum; ``None`` if another version wrote it."""
    start = 8 + int.from_bytes(body[:8], "little")
    head = json.loads(body[8:start])
    if (head["format"], head["version"]) != (FORMAT, VERSION):
        return None
    arrays = []
    for kind, shape in head["arrays"]:
        count = math.prod(shape)
        array = np.frombuffer(body, dtype=np.dtype(kind), count=count, offset=start).reshape(shape).copy()
        arrays.append(array)
        start += array.nbytes
    state = DeploymentState(policy_set, settings)
    state.load_state_dict(_built(head["state"], arrays))
    return state


def _built(node: Any, arrays: list[Any]) -> Any:
    """The value of a node."""
    if not isinstance(node, list):
        return node
    kind, content = node[0], node[1]
    if kind == "array":
        return arrays[content][()] if node[2] else arrays[content]
    if kind == "float":
        return float.fromhex(content)
    if kind == "record":
        return RECORDS[content](**{name: _built(part, arrays) for name, part in node[2].items()})
    if kind == "dict":
        return {_built(key, arrays): _built(item, arrays) for key, item in content}
    return {"list": list, "tuple": tuple, "set": set, "deque": deque}[kind](_built(item, arrays) for item in content)
