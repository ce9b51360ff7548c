"""Pages from templates.

Everything that is put into a template comes from a log or a journal and may have been written by anybody. So every value is escaped (a name
cannot become markup), and characters that do not print are shown as a replacement: they could hide text or reverse what follows. Templates lie in
``templates/`` with the one style sheet, which is copied into every page: a page is one file that loads nothing and runs nothing.

A value that a template misses is an error, never an empty place.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["THIN", "printable", "render_template", "with_thin_spaces"]

THIN = "\u202f"
"""A narrow space that does not break; stands between thousands."""


def render_template(template: str, /, **values: Any) -> Markup:
    """The template of that name, filled with ``values``.

    Raises:
        jinja2.TemplateError: the template needs a value that is not there.
    """
    return Markup(_environment().get_template(template).render(values))  # escaped by the template


def printable(value: Any) -> str:
    """``value`` as text: spaces of all kinds stay, line ends and tabs become spaces, whatever else does not print becomes U+FFFD.

    >>> printable("fast\\tand \\u202eesool")
    'fast and \ufffdesool'
    """
    text = str(value)
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return " " if character.isspace() else "\ufffd"


def with_thin_spaces(count: int) -> str:
    """A whole number, its thousands apart.

    >>> with_thin_spaces(1234567)
    '1\u202f234\u202f567'
    """
    return f"{count:,}".replace(",", THIN)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("surefoot.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["thin"] = with_thin_spaces
    made.filters["px"] = lambda length: f"{length:.1f}"
    made.filters["to_the_second"] = lambda at: at[:19].replace("T", " ")
    return made
