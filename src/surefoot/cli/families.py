"""Families of tasks by the names that commands take: ``gridworld``, ``zoned-gridworld:4``, or ``MODULE:NAME`` of one's own."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["find_family"]


def find_family(name: str) -> Any:
    """The family called ``name``.

    ``MODULE:NAME`` names a family, or a class or function without arguments that gives one, in a module that can be imported from here.

    Raises:
        InvalidInput: nothing of that name, or no family.
    """
    from surefoot.errors import InvalidInput
    from surefoot.tasks.catalogue import SIZED_FAMILIES, make_family
    from surefoot.tasks.gridworld import NoisyGridworld

    if name == "gridworld-published":
        return NoisyGridworld("published")
    module, colon, attribute = name.partition(":")
    if not colon or module in SIZED_FAMILIES:
        return make_family(name)
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last: a file that happens to lie here must not stand in for a module of the library
    try:
        found = getattr(import_module(module), attribute)
        family = found() if not hasattr(found, "criterion") or isinstance(found, type) else found
    except (ModuleNotFoundError, AttributeError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"family must be MODULE:NAME that can be imported from here, got {name!r} ({error}); run from the folder the module lies in, and "
            "leave out .py",
            code="SF-ARGUMENT-SYNTAX",
        ) from error
    if not hasattr(family, "criterion") or not callable(getattr(family, "sample", None)):
        raise InvalidInput(
            f"family must have a criterion and a method sample, got {name!r}, a {type(family).__name__}; name the family itself",
            code="SF-ARGUMENT-TYPE",
        )
    return family
