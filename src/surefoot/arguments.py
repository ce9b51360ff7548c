"""Arguments of the wrong kind, refused in a sentence; and short texts for interactive sessions.

Most mistakes of a first hour are of this kind: a class where an instance is wanted, a path or a name where what it leads to is wanted, a family where
one of its tasks is wanted.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.errors import InvalidInput

__all__ = ["check_family", "check_instance", "short_repr"]

LONGEST = 60
"""Characters of one attribute in a short text."""
FEW = 6
"""Numbers of an array that are shown."""


def check_instance(
    name: str, value: Any, wanted: str, parts: tuple[str, ...], *, path: str = "", other: str = ""
) -> None:
    """Raise unless ``value`` has all the attributes ``parts``, as an instance does.

    Args:
        name: of the argument.
        value: what was given.
        wanted: what it should be, with an article: ``a PolicySet``.
        parts: attributes by which it is recognised.
        path: what to do with a path or a name.
        other: what to do with anything else.

    Raises:
        InvalidInput: a class, a path, or something without these attributes.
    """
    if isinstance(value, type):
        got = f"the class {value.__name__}"
        remedy = f"give an instance: {value.__name__}(...)" if not path or issubclass(value, str | Path) else path
    elif isinstance(value, str | Path):
        got, remedy = f"{str(value)!r}", path or other
    elif all(hasattr(value, part) for part in parts):
        return
    else:
        lacking = ", ".join(part for part in parts if not hasattr(value, part))
        got, remedy = f"a {type(value).__name__} without {lacking}", other
    raise InvalidInput(f"{name} must be {wanted}, got {got}; {remedy or f'give {wanted}'}", code="SF-ARGUMENT-TYPE")


def check_family(family: Any, *, models: bool = True) -> None:
    """Raise unless ``family`` looks like a family of tasks.

    Args:
        family: what was given.
        models: whether its tasks have to have models.

    Raises:
        InvalidInput: a class, a name, or something else.
    """
    if isinstance(family, type):
        raise InvalidInput(
            f"family must be a family, got the class {family.__name__}; give an instance: {family.__name__}()",
            code="SF-ARGUMENT-TYPE",
        )
    check_instance(
        "family", family, "a family of tasks", ("criterion", "sample", *(("cmdp",) if models else ())),
        path="names are for the command line; here give the family itself, for example surefoot.tasks.NoisyGridworld()",
        other="see docs/extending.md for what a family has; one with simulated tasks belongs to surefoot.gym",
    )  # fmt: skip


def short_repr(self: Any) -> str:
    """The attributes of a dataclass in a line: what is long is named, not listed. To be used as ``__repr__``."""
    shown = [f"{field.name}={_short(getattr(self, field.name))}" for field in fields(self) if field.repr]
    return f"{type(self).__name__}({', '.join(shown)})"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return str(value.tolist()) if value.size <= FEW else f"<{value.dtype} {value.shape}>"
    text = repr(value) if not is_dataclass(value) or "__repr__" in vars(type(value)) else ""
    if text and len(text) <= LONGEST:
        return text
    return (
        f"<{len(value)} of {type(value).__name__}>"
        if isinstance(value, list | tuple | dict)
        else f"<{type(value).__name__}>"
    )
