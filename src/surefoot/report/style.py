"""One look for every figure: colours that colour-blind readers tell apart, and never colour alone.

The palette is that of Okabe & Ito (2008) without its yellow, which vanishes on white, and without black, which is kept
for limits. An agent keeps its colour, dash and marker in every figure; agents nobody named here take what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from surefoot.errors import MissingExtra

__all__ = ["RC", "LineStyle", "label_of", "require_matplotlib", "styles_of"]

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B6B6B",
)  # fmt: skip
INK, FAINT, INFEASIBLE, HATCH, UNSAFE = "#1A1A1A", "#D9D9D9", "#F9E6DE", "#E9B49C", "#9A3B00"

SOLID, DASHED, DOTTED, DASHDOT = "solid", (0, (5, 2)), (0, (1, 1.3)), (0, (7, 2, 1.5, 2))

RC: dict[str, Any] = {
    "backend": "agg",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 9.5,
    "axes.edgecolor": "#8A8A8A",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "text.usetex": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class LineStyle:
    """How one agent is drawn.

    Attributes:
        color: hexadecimal.
        dash: as matplotlib's ``linestyle``.
        marker: as matplotlib's ``marker``.
    """

    color: str
    dash: Any
    marker: str


KNOWN = {
    "oracle": LineStyle(GREY, DOTTED, "*"),
    "always-safe": LineStyle(GREEN, SOLID, "s"),
    "safe-pce:theory": LineStyle(BLUE, DASHED, "o"),
    "safe-pce:published": LineStyle(SKY, SOLID, "^"),
    "pce": LineStyle(VERMILLION, SOLID, "X"),
    "robust-fixed:0.36": LineStyle(PURPLE, DASHDOT, "D"),
    "certified:cells": LineStyle(ORANGE, SOLID, "P"),
    "certified:cells:returns": LineStyle(ORANGE, DASHED, "v"),
    "certified:envelope": LineStyle(ORANGE, DASHDOT, "<"),
    "certified:data": LineStyle(ORANGE, DOTTED, ">"),
}

SPARE = [
    LineStyle(color, dash, marker)
    for (dash, marker), color in product(
        [(DASHED, "h"), (DOTTED, "d"), (DASHDOT, "p"), (SOLID, "H")],
        [BLUE, VERMILLION, GREEN, PURPLE, SKY, GREY, ORANGE],
    )
]


def require_matplotlib() -> None:
    """Say early that figures cannot be drawn.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtra("matplotlib", "figures") from error


def styles_of(agents: Sequence[str]) -> dict[str, LineStyle]:
    """A style for each name; names not known beforehand get the spare ones in order, without end."""
    styles: dict[str, LineStyle] = {}
    for name in agents:
        styles[name] = KNOWN.get(name) or SPARE[sum(other not in KNOWN for other in styles) % len(SPARE)]
    return styles


def label_of(name: str) -> str:
    """``name`` as plain text: no mathematics, no control characters, and not hidden from a legend by an underscore."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in name).replace("$", r"\$")
    return f" {printable}" if printable.startswith("_") else printable
