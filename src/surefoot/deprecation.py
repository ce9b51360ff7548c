"""Old names that still work for a while, with a warning that names the new one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from surefoot.errors import InvalidInput

__all__ = ["deprecated", "renamed_arguments", "warn_renamed"]

P = ParamSpec("P")
R = TypeVar("R")


def warn_renamed(old: str, new: str, *, depth: int = 3) -> None:
    """Warn the caller ``depth`` frames up that ``old`` is now called ``new``."""
    warnings.warn(f"{old} is now called {new}; the old name will go away", DeprecationWarning, stacklevel=depth)


def deprecated(*, since: str, gone: str, use: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a function that will go away; calling it warns.

    Args:
        since: version in which it was deprecated.
        gone: earliest version without it, two minor versions later at least (CONTRIBUTING.md).
        use: what to write instead, the end of a sentence.

    >>> @deprecated(since="0.2", gone="0.4", use="new()")
    ... def old() -> int:
    ...     return 1
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     old(), str(caught[0].message)
    (1, 'old is deprecated since 0.2 and goes away in 0.4 at the earliest; use new()')
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        text = f"{function.__qualname__} is deprecated since {since} and goes away in {gone} at the earliest; use {use}"

        @wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            warnings.warn(text, DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        return wrapper

    return decorate


def renamed_arguments(**renamed: str | tuple[str, Callable[[Any], Any]]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take keyword arguments under their old names too; ``old="new"`` for each, or ``old=("new", convert)``.

    Raises:
        InvalidInput: when the function is called with an argument under both names.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            for old, named in renamed.items():
                if old not in kwargs:
                    continue
                new, convert = (named, _unchanged) if isinstance(named, str) else named
                if new in kwargs:
                    raise InvalidInput(
                        f"{new} must be given once, got it as {old} too; leave {old} out",
                        code="SF-ARGUMENT-COMBINATION",
                    )
                warn_renamed(f"the argument {old}", new)
                kwargs[new] = convert(kwargs.pop(old))
            return function(*args, **kwargs)

        return wrapper

    return decorate


def _unchanged(value: Any) -> Any:
    return value
