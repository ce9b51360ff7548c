"""One picture in two sizes: for wide screens and for telephones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from surefoot.report.deployment.model import ReportModel

__all__ = ["DrawnCurve", "drawn"]

WIDE, NARROW = 760, 356  # pixels


@dataclass(frozen=True)
class DrawnCurve:
    """The same curve for wide and for narrow pages."""

    title: str
    wide: Markup
    narrow: Markup


def drawn(
    model: ReportModel, title: str, draw: Callable[..., Markup], *what: Any, spoken: str = "", **options: Any
) -> DrawnCurve:
    """What ``draw`` makes of ``what``, over the episodes of the deployment; it is called ``spoken``, or by its title."""
    last = max(model.asked, 1)
    what = (spoken or title, what[0], last, *what[1:])
    wide, narrow = (draw(*what, width=width, marks=model.marks, **options) for width in (WIDE, NARROW))
    return DrawnCurve(title, wide, narrow)
