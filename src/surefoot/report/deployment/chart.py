"""Curves over episodes as drawings: lengths in pixels, from the top left corner. ``templates/chart.svg.j2`` writes them as SVG.

    step_chart     a quantity that keeps its value until it changes
    band_chart     a running mean with its interval, beside other lines
    share_chart    shares that sum to one, stacked

Lettering is sized for a picture that is shown at its own width. Colours are those of the style sheet, by class, so that they follow light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from surefoot.report.deployment.curve import StepCurve
from surefoot.report.pages import render_template, with_thin_spaces

__all__ = ["Chart", "Layer", "Mark", "Point", "Upright", "band_chart", "share_chart", "step_chart"]

LEFT, RIGHT, TOP, BOTTOM = 52, 14, 22, 40
LABEL_WIDTH = 62


@dataclass(frozen=True)
class Mark:
    """Something to point at on the axis of episodes."""

    at: int
    text: str


@dataclass(frozen=True)
class Layer:
    """A shape: its class in the style sheet, and its SVG path."""

    look: str
    path: str


@dataclass(frozen=True)
class Point:
    """After ``at`` episodes: a mean and its interval, which may be missing, and what else is drawn, by class."""

    at: int
    mean: float
    low: float | None
    high: float | None
    lines: tuple[tuple[str, float], ...] = ()


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
        layers: shapes, the lowest first.
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
    layers: tuple[Layer, ...]
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
    ticks = _ticks(0.0, max(highest, 0.0) if top is None else max(top, highest), 4)
    scale = _Scale(width, height, last, 0.0, ticks[-1])
    layers = (Layer("curve", _steps(scale, points)),) if points else ()
    spoken = _spoken(title, points, limit, last)
    return _drawn(scale, spoken, ticks, layers, limit=limit, percent=percent, marks=marks, until=until)


def band_chart(
    title: str,
    points: Sequence[Point],
    last: int,
    *,
    width: int,
    height: int = 240,
    limit: float | None = None,
    floor: float | None = None,
    zone: tuple[float, float] | None = None,
    marks: Sequence[Mark] = (),
) -> Markup:
    """An SVG picture of a running mean and its interval from episode 0 to ``last``; what leaves the picture is drawn at its edge.

    Args:
        title: for readers who do not see it.
        points: in order; the interval of the first ones, when little was known, may leave the picture.
        last: right end of the axis.
        width, height: in pixels.
        limit: drawn dashed.
        floor: lower end of the axis; by default what is drawn needs.
        zone: a range of predicted values, shaded all across.
        marks: drawn as upright lines.
    """
    low, top = _extent(points, [*(() if limit is None else (limit,)), *(zone or ())])
    ticks = _ticks(low if floor is None else floor, top, 4)
    scale = _Scale(width, height, last, ticks[0], ticks[-1])
    banded = [p for p in points if p.low is not None and p.high is not None]
    layers = []
    if zone is not None:
        left, right, upper, lower = LEFT, width - RIGHT, scale.y(max(zone)), scale.y(min(zone))
        layers.append(Layer("zone", f"M{left} {upper:.1f}H{right}V{max(lower, upper + 1.5):.1f}H{left}Z"))
    if banded:
        there = [(p.at, p.high or 0.0) for p in banded]
        back = [(p.at, p.low or 0.0) for p in reversed(banded)]
        layers.append(Layer("band", _line(scale, [*there, *back]) + "Z"))
    for look in dict.fromkeys(look for p in points for look, _ in p.lines):
        layers.append(Layer(look, _line(scale, [(p.at, dict(p.lines)[look]) for p in points if look in dict(p.lines)])))
    if points:
        layers.append(Layer("curve", _line(scale, [(p.at, p.mean) for p in points])))
    return _drawn(scale, _spoken_band(title, points, limit), ticks, layers, limit=limit, marks=marks)


def share_chart(
    title: str,
    points: Sequence[tuple[int, Sequence[float]]],
    last: int,
    looks: Sequence[str],
    *,
    width: int,
    height: int = 180,
    marks: Sequence[Mark] = (),
) -> Markup:
    """An SVG picture of shares that keep their values until they change, stacked from below in the order of ``looks``.

    Args:
        title: for readers who do not see it.
        points: episode, and one share for each look.
        last: right end of the axis.
        looks: classes of the style sheet.
        width, height: in pixels.
        marks: drawn as upright lines.
    """
    scale = _Scale(width, height, last, 0.0, 1.0)
    layers, base = [], [0.0] * len(points)
    for k, look in enumerate(looks):
        upper = [min(below + shares[k], 1.0) for below, (_, shares) in zip(base, points)]
        if any(a - b > 1e-9 for a, b in zip(upper, base)):
            there = _steps(scale, [(at, value) for (at, _), value in zip(points, upper)])
            layers.append(Layer(look, there + _back(scale, [(at, value) for (at, _), value in zip(points, base)])))
        base = upper
    return _drawn(scale, title, [0.0, 0.25, 0.5, 0.75, 1.0], layers, percent=True, marks=marks)


def _drawn(
    scale: _Scale,
    spoken: str,
    ticks: Sequence[float],
    layers: Sequence[Layer],
    *,
    limit: float | None = None,
    percent: bool = False,
    marks: Sequence[Mark] = (),
    until: int | None = None,
) -> Markup:
    chart = Chart(
        width=scale.width,
        height=scale.height,
        left=LEFT,
        right=scale.width - RIGHT,
        top=TOP,
        base=scale.height - BOTTOM,
        spoken=spoken,
        values=tuple((scale.y(tick), f"{100 * tick:.4g}%" if percent else f"{tick:.4g}") for tick in ticks),
        episodes=tuple(_episodes(scale)),
        marks=tuple(_uprights(scale, marks)),
        layers=tuple(layers),
        faint_from=None if until is None else scale.x(until) + 1.5,
        limit=None if limit is None else f"{limit:.4g}",
        limit_y=None if limit is None else scale.y(limit),
    )
    return render_template("chart.svg.j2", chart=chart)


@dataclass(frozen=True)
class _Scale:
    """From episodes and values to pixels; values outside are at the edge."""

    width: int
    height: int
    last: int
    low: float
    top: float

    def x(self, episode: float) -> float:
        return LEFT + (self.width - LEFT - RIGHT) * min(episode / self.last, 1.0)

    def y(self, value: float) -> float:
        inside = min(max(value, self.low), self.top)
        return self.height - BOTTOM - (self.height - BOTTOM - TOP) * (inside - self.low) / (self.top - self.low)


def _ticks(low: float, top: float, parts: int) -> list[float]:
    """Round numbers from at most ``low`` to at least ``top``."""
    if not top > low:
        return [low, low + 1.0]
    rough = (top - low) / parts
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1.0, 2.0, 2.5, 5.0, 10.0) if unit * m >= rough * (1.0 - 1e-9))
    first, end = math.floor(low / step + 1e-9), math.ceil(top / step - 1e-9)
    return [step * k for k in range(first, end + 1)]


def _extent(points: Sequence[Point], values: Sequence[float]) -> tuple[float, float]:
    """What should be seen: ``values``, means but for the first quarter, and intervals of the last quarter; they are wide while little is known."""
    last = points[-1].at if points else 0
    shown = [*values, *(y for p in points if 4 * p.at >= last for y in (p.mean, *(y for _, y in p.lines)))]
    shown += [y for p in points if 4 * p.at >= 3 * last for y in (p.low, p.high) if y is not None]
    if not shown:
        return 0.0, 1.0
    room = 0.06 * (max(shown) - min(shown) or abs(shown[0]) or 1.0)
    return min(shown) - room, max(shown) + room


def _episodes(scale: _Scale) -> Iterator[tuple[float, str]]:
    """Ticks at whole episodes; one beyond the last would be off the paper."""
    for tick in _ticks(0.0, float(scale.last), 5 if scale.width > 500 else 3):
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


def _back(scale: _Scale, points: Sequence[tuple[int, float]]) -> str:
    """The same curve from its right end to its left one, closed."""
    path = [f"V{scale.y(points[-1][1]):.1f}"]
    for (at, _), (_, before) in zip(reversed(points[1:]), reversed(points[:-1])):
        path.append(f"H{scale.x(at):.1f}V{scale.y(before):.1f}")
    return "".join([*path, f"H{scale.x(points[0][0]):.1f}Z"])


def _line(scale: _Scale, points: Sequence[tuple[int, float]]) -> str:
    """Straight from point to point."""
    return "M" + "L".join(f"{scale.x(at):.1f} {scale.y(value):.1f}" for at, value in points)


def _spoken_band(title: str, points: Sequence[Point], limit: float | None) -> str:
    if not points:
        return f"{title}: nothing yet"
    end = points[-1]
    between = (
        "" if end.low is None or end.high is None else f", between {end.low:.4g} and {end.high:.4g} with 95% confidence"
    )
    against = "" if limit is None else f", limit {limit:.4g}"
    return f"{title} over {end.at} episodes: {end.mean:.4g}{between}{against}"


def _spoken(title: str, points: Sequence[tuple[int, float]], limit: float | None, last: int) -> str:
    if not points:
        return f"{title}: nothing yet"
    values = [value for _, value in points]
    against = "" if limit is None else f", limit {limit:.4g}"
    return f"{title} over {last} episodes: from {values[0]:.4g} to {values[-1]:.4g}, between {min(values):.4g} and {max(values):.4g}{against}"
