"""Objects that can be put aside and taken up again: each class says itself what of it changes.

    state = agent.state_dict()            plain values: numbers, texts, arrays, lists, tuples, sets, dictionaries, frozen records
    twin.load_state_dict(state)           into an object made with the same arguments: from then on both do the same

What a class lists in :attr:`Stateful.CHANGES` is its state; everything else follows from the arguments it was made with. A test
compares the two lists with what its instances hold, so that a new attribute cannot be forgotten.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Protocol

import numpy as np

__all__ = ["HasState", "Stateful"]


class HasState(Protocol):
    """What a deployment keeps and restores."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that changed since the object was made, as plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`state_dict` gave.

        Raises:
            ValueError: it is the state of something else.
        """
        ...


class Stateful:
    """State as a list of attributes, some of which may have a state of their own.

    Attributes:
        CHANGES: names of the attributes that change after the object was made.
    """

    CHANGES: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """See :class:`HasState`."""
        return {name: _plain(getattr(self, name)) for name in self.CHANGES}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`HasState`."""
        if set(state) != set(self.CHANGES):
            raise ValueError(
                f"state of {type(self).__name__} must hold {', '.join(self.CHANGES)}, got {', '.join(map(str, state))}; it was written by "
                "another version"
            )
        for name in self.CHANGES:
            setattr(self, name, _loaded(getattr(self, name), state[name]))


def _has_state(value: Any) -> bool:
    return hasattr(value, "state_dict") and hasattr(value, "load_state_dict")


def _plain(value: Any) -> Any:
    if _has_state(value):
        return value.state_dict()
    if isinstance(value, list) and value and all(map(_has_state, value)):
        return [part.state_dict() for part in value]
    # Objects go on changing their arrays, lists and dictionaries: what was taken must stay what it was.
    return copy.deepcopy(value) if isinstance(value, np.ndarray | list | dict | set) else value


def _loaded(present: Any, state: Any) -> Any:
    """``state``, or the object that is ``present`` once it took up its own."""
    if _has_state(present):
        present.load_state_dict(state)
        return present
    if isinstance(present, list) and present and all(map(_has_state, present)):
        if len(present) != len(state):
            raise ValueError(
                f"state must hold {len(present)} parts, got {len(state)}; it was written by another version"
            )
        for part, own in zip(present, state):
            part.load_state_dict(own)
        return present
    return state
