"""JSON read with errors that say which file, what is wrong, and what to do.

Two degrees of trust. :func:`read_object` reads what our own commands wrote. :func:`parse_strictly` reads what comes from outside, where a text that
two readers may understand differently (a key that stands twice, a NaN) is no JSON at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from surefoot.errors import InvalidInput

__all__ = ["parse_strictly", "read_object", "required"]


def read_object(path: Path | Traversable, *, remedy: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: the file.
        remedy: what to do where it cannot be read; ends the message.

    Raises:
        InvalidInput: no such file, not readable, not JSON, or not an object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInput(f"{path} is missing; {remedy}", code="SF-RECORD-MISSING") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{path} must be readable JSON, got {error}; {remedy}", code="SF-RECORD-UNREADABLE"
        ) from error
    if not isinstance(found, dict):
        raise InvalidInput(
            f"{path} must hold a JSON object, got {type(found).__name__}; {remedy}", code="SF-RECORD-FIELD"
        )
    return found


def required(raw: Mapping[str, Any], key: str, *, where: str, remedy: str) -> Any:
    """``raw[key]``.

    Raises:
        InvalidInput: there is none; ``where`` says what ``raw`` is.
    """
    if key not in raw:
        raise InvalidInput(f"{where} must have the key {key!r}, got {sorted(raw)}; {remedy}", code="SF-RECORD-FIELD")
    return raw[key]


def parse_strictly(text: str) -> Any:
    """The value of a JSON text from outside; of two values for one key neither can be taken for the one that was meant.

    Raises:
        ValueError: no JSON, a key that stands twice in one object, NaN or infinity, or nested too deeply; says what was there instead.

    >>> parse_strictly('{"cost": 0.4, "cost": 0.5}')
    Traceback (most recent call last):
    ValueError: the key 'cost' twice in one object
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("values nested too deeply") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {ascii(twice)[:80]} twice in one object")
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name}, which is no JSON number")
