"""The old home of the locomotion families. They are an experiment and live in ``surefoot.experiments.locomotion.families``; names still work here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from surefoot.deprecation import warn_renamed

HOME = "surefoot.experiments.locomotion.families"
"""Imported when a name is asked for: nothing else in this package depends on an experiment."""


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(HOME), name)
    warn_renamed(f"{__name__}.{name}", f"{HOME}.{name}")
    return value
