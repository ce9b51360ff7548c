"""Refusals are recognised by their code; of the message only names and values are looked at, never the wording."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from surefoot import SurefootError
from surefoot.error_codes import CATALOGUE

__all__ = ["missing", "refused"]


@contextmanager
def refused(
    code: str, *names: str, error: type[SurefootError] | None = None
) -> Iterator[pytest.ExceptionInfo[SurefootError]]:
    """A block must raise an error with this code, of a class that the catalogue gives it, whose message holds ``names`` in this order.

    Args:
        code: of the catalogue.
        names: of fields, files or commands, and values; whole words: ``"1"`` is not found in ``10``, ``1.5`` or ``x1``.
        error: class, where the catalogue has several for the code.
    """
    allowed = CATALOGUE[code].errors
    if error is not None:
        assert error in allowed
        allowed = (error,)
    with pytest.raises(SurefootError) as caught:
        yield caught
    found = caught.value
    assert (found.code, type(found) in allowed) == (code, True), f"{type(found).__name__} {found.code}: {found}"
    assert missing(str(found), names) is None, f"{missing(str(found), names)!r} is not (or not in order) in: {found}"


def missing(message: str, names: tuple[str, ...]) -> str | None:
    """The first of ``names`` that ``message`` does not hold, as whole words behind the one before; ``None`` if it holds all."""
    position = 0
    for name in names:
        before = r"(?<![\w.])" if re.match(r"\w", name) else ""
        after = r"(?!\w|\.\d)" if re.search(r"\w$", name) else ""
        found = re.compile(before + re.escape(name) + after).search(message, position)
        if found is None:
            return name
        position = found.end()
    return None
