"""Step curves over episodes, thinned as they are read, and drawn as inline SVG.

A curve is a function of episodes that keeps its value until it changes. Of arbitrarily many changes at most ``2 STRETCHES`` survive: per stretch of
episodes the largest value and the last one. Stretches double when episodes outgrow them, so memory is bounded and nothing is read twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Curve", "Mark", "step_chart"]

STRETCHES = 512
LINE, LIMIT, GRID, AXIS, BAD = "#0072B2", "#1a1a1a", "#e6e6e6", "#5a5a5a", "#a3171f"
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 22, 40
LABEL_WIDTH = 62


class Curve:
    """A step curve.

    Attributes:
        width: episodes per stretch.
    """

    def __init__(self) -> None:
        self.width = 1
        self._kept: dict[int, tuple[int, float, int, float]] = {}

    def add(self, at: int, value: float) -> None:
        """From episode ``at`` on the value is this; ``at`` does not decrease.

        Raises:
            ValueError: not finite, or a negative episode.
        """
        if not math.isfinite(value) or at < 0:
            raise ValueError(f"a curve needs finite values at episodes >= 0, got {value} at {at}")
        while at // self.width >= STRETCHES:
            self._double()
        stretch = at // self.width
        where, largest, _, _ = self._kept.get(stretch, (at, value, at, value))
        if value > largest:
            where, largest = at, value
        self._kept[stretch] = (where, largest, at, value)

    def _double(self) -> None:
        self.width *= 2
        merged: dict[int, tuple[int, float, int, float]] = {}
        for stretch, (where, largest, at, value) in self._kept.items():
            there = merged.get(stretch // 2)
            if there is not None and there[1] >= largest:
                where, largest = there[:2]
            merged[stretch // 2] = (where, largest, at, value)
        self._kept = merged

    @property
    def points(self) -> list[tuple[int, float]]:
        """(episode, value) pairs in order."""
        found: list[tuple[int, float]] = []
        for where, largest, at, value in self._kept.values():
            found += [(where, largest)] if (where, largest) == (at, value) else [(where, largest), (at, value)]
        return found


@dataclass(frozen=True)
class Mark:
    """Something to point at on the axis of episodes."""

    at: int
    text: str


def step_chart(
    title: str,
    curve: Curve,
    last: int,
    *,
    width: int,
    height: int = 180,
    limit: float | None = None,
    top: float | None = None,
    percent: bool = False,
    marks: Sequence[Mark] = (),
    until: int | None = None,
) -> str:
    """An SVG picture of a curve from episode 0 to ``last``.

    Args:
        title: for readers who do not see it.
        curve: what to draw.
        last: right end of the axis.
        width, height: in pixels; lettering is sized for a picture shown at this width.
        limit: drawn dashed.
        top: upper end of the axis; by default what curve and limit need.
        percent: label values as shares.
        marks: drawn as upright lines.
        until: the curve is faint after this episode.
    """
    points = curve.points
    highest = max([value for _, value in points] + ([limit] if limit is not None else []), default=0.0)
    ticks = _ticks(max(highest, 0.0) if top is None else max(top, highest), 4)
    frame = _Frame(width, height, last, ticks[-1])
    parts = [*_grid(frame, ticks, percent), *_episodes(frame, width), *_marks(frame, marks)]
    if points:
        parts.append(
            f'<path d="{_steps(frame, points)}" fill="none" stroke="{LINE}" stroke-width="2.5" stroke-linejoin="round"/>'
        )
    if until is not None:
        x = frame.x(until) + 1.5
        parts.append(f'<path d="M{x:.1f} {TOP}H{width}V{height - BOTTOM - 1}H{x:.1f}Z" fill="#fff" fill-opacity=".7"/>')
    if limit is not None:
        # On top of the curve, which often lies exactly on it.
        y = frame.y(limit)
        parts.append(
            f'<path d="M{LEFT} {y:.1f}H{width - RIGHT}" stroke="{LIMIT}" stroke-width="1.5" stroke-dasharray="7 5"/>'
        )
        parts.append(f'<text x="{LEFT + 4}" y="{y - 6:.1f}" font-weight="600" fill="{LIMIT}">limit {limit:.4g}</text>')
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(_spoken(title, points, limit, last))}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{AXIS}">{"".join(parts)}</svg>'
    )


@dataclass(frozen=True)
class _Frame:
    """From values to pixels."""

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


def _grid(frame: _Frame, ticks: Sequence[float], percent: bool) -> Iterable[str]:
    for tick in ticks:
        y = frame.y(tick)
        label = f"{100 * tick:.4g}%" if percent else f"{tick:.4g}"
        yield f'<path d="M{LEFT} {y:.1f}H{frame.width - RIGHT}" stroke="{GRID}"/>'
        yield f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _episodes(frame: _Frame, width: int) -> Iterable[str]:
    base = frame.height - BOTTOM
    yield f'<path d="M{LEFT} {base}H{frame.width - RIGHT}" stroke="{AXIS}"/>'
    # A tick beyond the last episode would be off the paper.
    for tick in (t for t in _ticks(float(frame.last), 5 if width > 500 else 3) if t <= frame.last and t == int(t)):
        x = frame.x(tick)
        label = f"{int(tick):,}".replace(",", "\u202f")
        yield f'<path d="M{x:.1f} {base}v4" stroke="{AXIS}"/>'
        yield f'<text x="{x:.1f}" y="{base + 17}" text-anchor="middle">{label}</text>'
    middle = (LEFT + frame.width - RIGHT) / 2
    yield f'<text x="{middle:.1f}" y="{frame.height - 5}" text-anchor="middle">episodes handed out</text>'


def _marks(frame: _Frame, marks: Sequence[Mark]) -> Iterable[str]:
    free = -1e9
    for mark in marks:
        x = frame.x(mark.at)
        yield f'<path d="M{x:.1f} {TOP - 4}V{frame.height - BOTTOM}" stroke="{BAD}" stroke-width="1.2" stroke-dasharray="2 3"/>'
        if x - free >= LABEL_WIDTH:
            # Near the right edge the label goes to the left of its line.
            at_edge = x > frame.width - RIGHT - LABEL_WIDTH
            place, anchor = (x - 4, "end") if at_edge else (x + 4, "start")
            yield f'<text x="{place:.1f}" y="{TOP - 8}" text-anchor="{anchor}" fill="{BAD}">{escape(mark.text)}</text>'
            free = x


def _steps(frame: _Frame, points: Sequence[tuple[int, float]]) -> str:
    """The path of a step curve that ends at the right edge."""
    at, value = points[0]
    path = [f"M{frame.x(at):.1f} {frame.y(value):.1f}"]
    for at, value in points[1:]:
        path.append(f"H{frame.x(at):.1f}V{frame.y(value):.1f}")
    return "".join([*path, f"H{frame.x(frame.last):.1f}"])


def _spoken(title: str, points: Sequence[tuple[int, float]], limit: float | None, last: int) -> str:
    if not points:
        return f"{title}: nothing yet"
    values = [value for _, value in points]
    against = "" if limit is None else f", limit {limit:.4g}"
    return f"{title} over {last} episodes: from {values[0]:.4g} to {values[-1]:.4g}, between {min(values):.4g} and {max(values):.4g}{against}"
