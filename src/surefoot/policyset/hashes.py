"""The hash of a policy set, computed once for each object.

Hashing reads every array, which takes milliseconds to tenths of a second; a deployment names the hash in every status. A policy set and its
arrays do not change, so what was computed is kept beside the object, together with *what it was computed from*: the very arrays, where they are
read-only, and everything else (plain data, dictionaries, policies of a user's own class, arrays that can be written) by its contents. It is
handed out again only while all of that is the same; whatever has changed is hashed anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from surefoot.policy import TabularPolicy
from surefoot.policyset.codec import is_of_a_kind, policy_as_data, registrations
from surefoot.policyset.schema import PolicySet

__all__ = ["Remembered"]

PLAIN = (str, bool, int, float, type(None), np.generic)


class Remembered:
    """A hash function that computes once for each policy set.

    Args:
        compute: the hash of a policy set.
    """

    def __init__(self, compute: Callable[[PolicySet], str]) -> None:
        self._compute = compute
        self._known: WeakKeyDictionary[PolicySet, tuple[list[Any], str]] = WeakKeyDictionary()

    def __call__(self, policy_set: PolicySet) -> str:
        """The hash.

        Raises:
            InvalidInput: the set holds something that a file cannot.
        """
        found = self._known.get(policy_set)
        now: list[Any] = [registrations()]
        _put(policy_set, now)
        if found is not None and _same(found[0], now):
            return found[1]
        digest = self._compute(policy_set)
        self._known[policy_set] = now, digest
        return digest


def _same(before: list[Any], now: list[Any]) -> bool:
    """Whether these are the same read-only arrays, and equal texts in between."""
    if len(before) != len(now):
        return False
    for a, b in zip(before, now):
        if a is not b and not (isinstance(a, str) and isinstance(b, str) and a == b):
            return False
    return True


def _put(value: Any, found: list[Any]) -> None:
    """Append what a value consists of: read-only arrays as they are, everything else as texts that differ where the values do."""
    kind = type(value)
    if kind is TabularPolicy:
        kind, value = np.ndarray, value.table
    if kind is np.ndarray:
        found.append(_digest(value) if value.flags.writeable else value)
    elif isinstance(value, PLAIN):
        found.append(f"{kind.__name__} {value!r}")
    elif isinstance(value, Mapping):
        found.append(f"mapping {len(value)}")
        for key, item in value.items():
            found.append(f"{type(key).__name__} {key!r}")
            _put(item, found)
    elif isinstance(value, list | tuple):
        found.append(f"sequence {len(value)}")
        for item in value:
            _put(item, found)
    elif is_of_a_kind(value) or not is_dataclass(value):
        _put_policy(value, found)
    else:
        found.append(kind.__qualname__)
        for name in value.__dataclass_fields__:
            _put(getattr(value, name), found)


def _put_policy(policy: Any, found: list[Any]) -> None:
    """A policy of any kind, by what a file would hold of it."""

    def put(label: str, array: NDArray[Any]) -> str:
        found.append(f"{label} {_digest(array)}")
        return label

    found.append(json.dumps(policy_as_data(policy, put), sort_keys=True))


def _digest(array: NDArray[Any]) -> str:
    return f"{array.dtype} {array.shape} {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}"
