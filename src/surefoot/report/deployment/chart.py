"""A step curve over episodes as a drawing: lengths in pixels, from the top left corner. ``templates/chart.svg.j2`` writes it as SVG.

Lettering is sized for a picture that is shown at its own width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from surefoot.report.deployment.curve import StepCurve
from surefoot.report.pages import render_template, with_thin_spaces

__all__ = ["Chart", "Mark", "Upright", "step_chart"]

LEFT, RIGHT, TOP, BOTTOM = 52, 14, 22, 40
LABEL_WIDTH = 62


@dataclass(frozen=True)
class Mark:
    """Something to point at on the axis of episodes."""

    at: int
    text: str


@dataclass(frozen=True)
class Upright:
    """A mark as it is drawn: a line at ``x``, and its text unless there is no room; ``anchor`` says which end of the text is at ``label_x``."""

    x: float
    text: str | None
    label_x: float
    anchor: str


@dataclass(frozen=True)
class Chart:
    """What a picture holds.

    Attributes:
        width, height: of the picture.
        left, right, top, base: edges of the space that curves are drawn in.
        spoken: the picture in words, for readers who do not see it.
        values: (y, label) of lines across.
        episodes: (x, label) of ticks below.
        marks: upright lines.
        steps: the curve as an SVG path; empty where nothing is known yet.
        faint_from: x from which the curve is faint, or ``None``.
        limit, limit_y: label and height of a dashed line, or ``None``.
    """

    width: int
    height: int
    left: int
    right: int
    top: int
    base: int
    spoken: str
    values: tuple[tuple[float, str], ...]
    episodes: tuple[tuple[float, str], ...]
    marks: tuple[Upright, ...]
    steps: str
    faint_from: float | None
    limit: str | None
    limit_y: float | None

    @property
    def middle(self) -> float:
        """x of the middle of the axis."""
        return (self.left + self.right) / 2


def step_chart(
    title: str,
    curve: StepCurve,
    last: int,
    *,
    width: int,
    height: int = 180,
    limit: float | None = None,
    top: float | None = None,
    percent: bool = False,
    marks: Sequence[Mark] = (),
    until: int | None = None,
) -> Markup:
    """An SVG picture of a curve from episode 0 to ``last``.

    Args:
        title: for readers who do not see it.
        curve: what to draw.
        last: right end of the axis.
        width, height: in pixels.
        limit: drawn dashed.
        top: upper end of the axis; by default what curve and limit need.
        percent: label values as shares.
        marks: drawn as upright lines.
        until: the curve is faint after this episode.
    """
    points = curve.points
    highest = max([value for _, value in points] + ([limit] if limit is not None else []), default=0.0)
    ticks = _ticks(max(highest, 0.0) if top is None else max(top, highest), 4)
    scale = _Scale(width, height, last, ticks[-1])
    chart = Chart(
        width=width,
        height=height,
        left=LEFT,
        right=width - RIGHT,
        top=TOP,
        base=height - BOTTOM,
        spoken=_spoken(title, points, limit, last),
        values=tuple((scale.y(tick), f"{100 * tick:.4g}%" if percent else f"{tick:.4g}") for tick in ticks),
        episodes=tuple(_episodes(scale)),
        marks=tuple(_uprights(scale, marks)),
        steps=_steps(scale, points) if points else "",
        faint_from=None if until is None else scale.x(until) + 1.5,
        limit=None if limit is None else f"{limit:.4g}",
        limit_y=None if limit is None else scale.y(limit),
    )
    return render_template("chart.svg.j2", chart=chart)


@dataclass(frozen=True)
class _Scale:
    """From episodes and values to pixels."""

    width: int
    height: int
    last: int
    top: float

    def x(self, episode: float) -> float:
        return LEFT + (self.width - LEFT - RIGHT) * min(episode / self.last, 1.0)

    def y(self, value: float) -> float:
        return self.height - BOTTOM - (self.height - BOTTOM - TOP) * max(value, 0.0) / self.top


def _ticks(top: float, parts: int) -> list[float]:
    """Round numbers from 0 to at least ``top``."""
    if top <= 0.0:
        return [0.0, 1.0]
    rough = top / parts
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1.0, 2.0, 2.5, 5.0, 10.0) if unit * m >= rough * (1.0 - 1e-9))
    return [step * k for k in range(math.ceil(top / step - 1e-9) + 1)]


def _episodes(scale: _Scale) -> Iterator[tuple[float, str]]:
    """Ticks at whole episodes; one beyond the last would be off the paper."""
    for tick in _ticks(float(scale.last), 5 if scale.width > 500 else 3):
        if tick <= scale.last and tick == int(tick):
            yield scale.x(tick), with_thin_spaces(int(tick))


def _uprights(scale: _Scale, marks: Sequence[Mark]) -> Iterator[Upright]:
    """A text that would overlap the one before it is left out; near the right edge it stands to the left of its line."""
    labelled = -math.inf
    for mark in marks:
        x = scale.x(mark.at)
        shown = x - labelled >= LABEL_WIDTH
        at_edge = x > scale.width - RIGHT - LABEL_WIDTH
        yield Upright(x, mark.text if shown else None, x - 4 if at_edge else x + 4, "end" if at_edge else "start")
        labelled = x if shown else labelled


def _steps(scale: _Scale, points: Sequence[tuple[int, float]]) -> str:
    """The path of a step curve that ends at the right edge."""
    at, value = points[0]
    path = [f"M{scale.x(at):.1f} {scale.y(value):.1f}"]
    for at, value in points[1:]:
        path.append(f"H{scale.x(at):.1f}V{scale.y(value):.1f}")
    return "".join([*path, f"H{scale.x(scale.last):.1f}"])


def _spoken(title: str, points: Sequence[tuple[int, float]], limit: float | None, last: int) -> str:
    if not points:
        return f"{title}: nothing yet"
    values = [value for _, value in points]
    against = "" if limit is None else f", limit {limit:.4g}"
    return f"{title} over {last} episodes: from {values[0]:.4g} to {values[-1]:.4g}, between {min(values):.4g} and {max(values):.4g}{against}"
