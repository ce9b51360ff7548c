"""A fold as plain values, so that a long journal reopens quickly. A cache: never needed, never the truth.

What changes in the objects of a deployment is listed here by class and attribute. Everything else is rebuilt from the policy set and the
settings. The values are stored as one JSON text and raw arrays, with a SHA-256 in front. A snapshot is used only if it
reads back whole, was written by the same version, belongs to an event that the journal still holds with the same digest, and bears the seal of
this user's secret (:mod:`surefoot.journal.marks`), which no database holds; else the journal is folded from the start. So whoever edits
a snapshot, or makes one up, changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from dataclasses import fields
from typing import Any

import numpy as np

from surefoot.deploy.bounds import CostBounds
from surefoot.deploy.certified import Event as AgentEvent
from surefoot.deploy.certified import _Asked
from surefoot.deploy.comparison import ReturnComparison
from surefoot.deploy.evidence import Evidence
from surefoot.deploy.monitor import Monitor
from surefoot.deploy.planner import Plan
from surefoot.deploy.posterior import CellPosterior
from surefoot.deploy.ramp import HullWealth, Ramp
from surefoot.deploy.reorder import ReorderBuffer, Told
from surefoot.deploy.returns import ReturnsEvidence, Scale
from surefoot.deploy.selective_loss import SelectiveLossTest
from surefoot.deploy.tracker import EpisodeTracker
from surefoot.deploy.transitions import TransitionEvidence
from surefoot.errors import SurefootError
from surefoot.journal.operator import Operator, SupervisedAgent
from surefoot.journal.settings import Settings
from surefoot.journal.state import DeploymentState, PendingEffects
from surefoot.journal.store import Transaction
from surefoot.policyset.schema import PolicySet
from surefoot.stats.betting import IntervalWealth, MeanUpperBounds
from surefoot.version import VERSION

__all__ = ["SnapshotPolicy", "encode", "restored"]

STATE: dict[type, tuple[str, ...]] = {
    DeploymentState: ("agent", "selective_losses", "seq", "digest", "plan_seq", "alarm_seq", "deviations", "flags", "plan", "pending_effects",
        "bare", "degraded", "held"),
    SelectiveLossTest: ("log_wealth", "missing", "flagged", "opened", "next", "open", "lost"),
    SupervisedAgent: (
        "operator", "waiting", "_tracker", "_bounds", "_evidence", "_posterior", "_monitor", "_buffer", "_bets", "_target", "_alarm", "_outside",
        "events", "_stale", "_plan", "_planned_bounds", "_changed", "_kappa", "_look", "_objective", "_ramp", "_ramped", "_comparison",
    ),
    EpisodeTracker: ("_rng", "_pending", "opened"),
    CostBounds: ("values", "_processes", "_threshold", "_since", "selections"),
    MeanUpperBounds: ("mantissa", "exponent", "counts", "lost", "_pending"),
    IntervalWealth: ("mantissa", "exponent", "counts", "lost", "_pending", "_block", "_touched"),
    Evidence: (
        "active", "watched", "ever_rejected", "notes", "_transitions", "_joint", "_joint_bets", "_separate", "_extra", "_conditional",
        "_measured",
    ),
    TransitionEvidence: ("log_wealth", "impossible", "_rows"),
    ReturnsEvidence: ("log_wealth", "scale"),
    Scale: ("_sums", "_counts"),
    CellPosterior: ("counts", "sums", "products", "moves", "followed", "measured"),
    Ramp: ("compared", "lost", "contradiction", "_whole", "_given", "_extra"),
    HullWealth: ("log_wealth", "lost"),
    ReturnComparison: ("barred", "doubted", "_counts", "_sums", "_look", "_safe", "_others", "_lower", "_upper"),
    Monitor: ("_log_wealth", "rejected"),
    ReorderBuffer: ("settled", "_groups", "_arrived", "_lost", "_given_up", "_wall"),
}  # fmt: skip
"""Objects that exist in a fresh fold too; their state is put into it."""

VALUES: dict[str, type] = {
    "asked": _Asked,
    "told": Told,
    "plan": Plan,
    "event": AgentEvent,
    "operator": Operator,
    "pending_effects": PendingEffects,
}
"""Frozen values, made anew."""
NAMES = {kind: name for name, kind in VALUES.items()}

FORMAT = 1

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
    """The snapshot of a fold."""
    arrays: Arrays = {}
    state = _dump(state, arrays)
    found = [np.ascontiguousarray(value) for _, value in arrays.values()]
    listed = [[array.dtype.str, np.shape(value)] for array, (_, value) in zip(found, arrays.values())]
    head = {"format": FORMAT, "version": VERSION, "fold": state, "arrays": listed}
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
        place, _ = arrays.setdefault(id(value), (len(arrays), value))
        return ["array", place, isinstance(value, np.generic)]
    if isinstance(value, np.random.Generator):
        return ["random", _dump(value.bit_generator.state, arrays)]
    if type(value) in STATE:
        return ["state", {name: _dump(getattr(value, name), arrays) for name in STATE[type(value)]}]
    if type(value) in NAMES:
        parts = {part.name: _dump(getattr(value, part.name), arrays) for part in fields(value)}
        return ["value", NAMES[type(value)], parts]
    return _dump_many(value, arrays)


def _dump_many(value: Any, arrays: Arrays) -> Any:
    if isinstance(value, dict):
        return ["dict", [[_dump(key, arrays), _dump(item, arrays)] for key, item in value.items()]]
    for kind, name in ((list, "list"), (tuple, "tuple"), (deque, "deque"), (set, "set")):
        if isinstance(value, kind):
            return [name, [_dump(item, arrays) for item in (sorted(value) if kind is set else value)]]
    raise TypeError(f"a snapshot cannot hold {type(value).__name__}")


# ------------------------------------------------------------------------------------------------------------ reading


def restored(transaction: Transaction, policy_set: PolicySet, settings: Settings) -> DeploymentState | None:
    """The fold that the journal's snapshot holds, if it can be trusted."""
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
    """The fold in a snapshot without its checksum; ``None`` if another version wrote it."""
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
    _fill(state, head["fold"][1], arrays)
    return state


def _fill(target: Any, parts: dict[str, Any], arrays: list[Any]) -> None:
    """Put state into an object of a fresh fold."""
    whole = target._rows if isinstance(target, TransitionEvidence) else None
    for name in STATE[type(target)]:
        setattr(target, name, _built(parts[name], getattr(target, name), arrays))
    if whole is not None and target._rows.size < whole.size:
        target._ratios = np.ascontiguousarray(target._ratios[:, target._rows])


def _built(node: Any, present: Any, arrays: list[Any]) -> Any:
    """The value of a node; state goes into the object that is ``present`` in its place."""
    if not isinstance(node, list):
        return node
    kind, content = node[0], node[1]
    if kind == "state":
        _fill(present, content, arrays)
        return present
    if kind == "array":
        return arrays[content][()] if node[2] else arrays[content]
    if kind == "float":
        return float.fromhex(content)
    if kind == "random":
        generator = np.random.Generator(np.random.PCG64())
        generator.bit_generator.state = _built(content, None, arrays)
        return generator
    if kind == "value":
        return VALUES[content](**{name: _built(part, None, arrays) for name, part in node[2].items()})
    if kind == "dict":
        return {_built(key, None, arrays): _built(item, None, arrays) for key, item in content}
    return _built_many(kind, content, present, arrays)


def _built_many(kind: str, content: list[Any], present: Any, arrays: list[Any]) -> Any:
    here = present if isinstance(present, list) and len(present) == len(content) else [None] * len(content)
    items = [_built(item, old, arrays) for item, old in zip(content, here)]
    if kind == "deque":
        return deque(items, maxlen=present.maxlen)
    return {"list": list, "tuple": tuple, "set": set}[kind](items)
