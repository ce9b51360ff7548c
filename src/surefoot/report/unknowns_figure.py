"""The figure of ``surefoot reproduce unknowns``, from ``summary.json`` alone.

What is given up, in percent of what never adapting gives up, against the number of unknown parameters: one line per trust level, means over tasks,
with bars from the smallest to the largest task. Where a certificate cannot be had there is no point, and below that number stands which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.report.canvas import canvas, save
from surefoot.report.style import (
    BLUE,
    DASHDOT,
    DASHED,
    DOTTED,
    FAINT,
    GREEN,
    GREY,
    ORANGE,
    SOLID,
    VERMILLION,
    LineStyle,
    label_of,
)
from surefoot.report.unknowns import read_unknowns, share_given_up

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["compose_unknowns", "draw_unknowns"]

STYLES = {
    "data": LineStyle(ORANGE, DOTTED, ">"),
    "envelope": LineStyle(GREEN, DASHDOT, "<"),
    "cells": LineStyle(VERMILLION, DASHED, "P"),
    "rehearsed": LineStyle(BLUE, SOLID, "o"),
}
NEVER = LineStyle(GREY, SOLID, "s")
OFFSETS = {"cells": (6, -13, "left"), "rehearsed": (7, -13, "left")}
"""Where the number of a point stands, in points; to the upper left of it for the others."""
SPREAD = 0.06
"""Levels are drawn side by side, so that bars do not hide each other; in units of the distance between two numbers."""


def draw_unknowns(directory: Path | str) -> Path:
    """Draw ``unknowns.png`` beside the log in ``directory``.

    Raises:
        InvalidInput: the log is missing or damaged.
        MissingExtra: matplotlib is not installed.
    """
    return save(compose_unknowns(read_unknowns(directory)), Path(directory) / "unknowns.png")


def compose_unknowns(summary: Mapping[str, Any]) -> Figure:
    """One panel, one line per level, one legend below.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    rows, levels = summary["rows"], list(summary["levels"])
    places = np.arange(len(rows), dtype=np.float64)
    with canvas(width=10.4, height=5.2) as figure:
        from matplotlib.lines import Line2D

        axes = figure.subplots()
        axes.plot(
            places, np.full(len(rows), 100.0), color=NEVER.color, linestyle=NEVER.dash, marker=NEVER.marker, markersize=6.5, linewidth=2.0,
            label="never adapting",
        )  # fmt: skip
        for k, level in enumerate(levels):
            _draw_level(axes, rows, level, places + SPREAD * (k - (len(levels) - 1) / 2))
        axes.set_xticks(places, labels=[_tick(row, levels) for row in rows])
        axes.set_xlim(-0.4, len(rows) - 0.6)
        drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines])
        axes.set_ylim(bottom=0.0 if np.nanmin(drawn) >= 0.0 else None)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}%")
        axes.set_xlabel("unknown parameters of the real task")
        axes.set_title(
            f"Reward given up in {summary['episodes']:,} episodes, of what never adapting gives up", loc="left"
        )
        handles, names = axes.get_legend_handles_labels()
        handles.append(Line2D([], [], color=GREY, linewidth=1.2, alpha=0.5))
        names.append("bar: smallest to largest over tasks")
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, handlelength=3.2)
    return figure


def _draw_level(axes: Axes, rows: Sequence[Mapping[str, Any]], level: str, places: FloatArray) -> None:
    """Line, bars and numbers; nothing for a level that has no certificate anywhere."""
    style = STYLES.get(level, LineStyle(FAINT, SOLID, "."))
    shares = [share_given_up(row, level) for row in rows]
    y = 100.0 * np.array([np.nan if share is None else share for share in shares])
    if np.isnan(y).all():
        return
    for place, row, share in zip(places, rows, y):
        if np.isfinite(share):
            each = 100.0 * np.asarray(row["levels"][level]["regret"]) / np.asarray(row["never_adapting"])
            axes.plot([place, place], [each.min(), each.max()], color=style.color, linewidth=1.2, alpha=0.5, zorder=2)
            right, up, side = OFFSETS.get(level, (-7, 5, "right"))
            axes.annotate(
                f"{share:.0f}", xy=(place, share), xytext=(right, up), textcoords="offset points", ha=side, color=style.color, fontsize=8.5,
                zorder=6,
            )  # fmt: skip
    axes.plot(
        places, y, color=style.color, linestyle=style.dash, marker=style.marker, markersize=8, markeredgecolor="white", markeredgewidth=0.8,
        linewidth=2.4, zorder=4, label=label_of(level),
    )  # fmt: skip


def _tick(row: Mapping[str, Any], levels: Sequence[str]) -> str:
    """The number of unknown parameters, and below it the levels without a certificate."""
    missing = [level for level in levels if share_given_up(row, level) is None]
    return "\n".join([str(row["unknowns"]), *(f"no certificate for {level}" for level in missing)])
