"""The figure of ``surefoot reproduce lower-bound``, from ``summary.json`` alone.

One panel per factor, both axes logarithmic: episodes that each agent needs, measured (filled, with intervals; an arrow where runs were too short) or
computed (hollow), beside the theorem's expression and the corollary's, both without constants, so that only their slopes can be compared, and above
the floor that no agent can go below on this instance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.report.canvas import canvas, save
from surefoot.report.lower_bound import exponent, read_lower_bound
from surefoot.report.style import (
    BLUE,
    GREEN,
    GREY,
    INFEASIBLE,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    UNSAFE,
    VERMILLION,
    label_of,
    styles_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["compose_lower_bound", "draw_lower_bound"]

LABELS = {
    "accuracy": "accuracy eps",
    "margin": "margin xi of the safe policy",
    "tasks": "number of tasks C",
    "horizon": "effective horizon 1/(1 - gamma)",
}
BOUNDS = {
    "theorem": ("theorem 5.1 without its constant", (0, (6, 2.5))),
    "upper_bound": ("corollary 4.3 without its constant", (0, (1, 1.5))),
    "floor": ("no agent needs fewer", "solid"),
}
COLORS = (BLUE, ORANGE, VERMILLION, GREEN, PURPLE, SKY, GREY)


def draw_lower_bound(directory: Path | str) -> Path:
    """Draw ``lower-bound.png`` beside the logs in ``directory``.

    Raises:
        InvalidInput: the log is missing or damaged.
        MissingExtra: matplotlib is not installed.
    """
    return save(compose_lower_bound(read_lower_bound(directory)), Path(directory) / "lower-bound.png")


def compose_lower_bound(summary: Mapping[str, Any]) -> Figure:
    """One panel per factor, two in a row, one legend for all.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    factors = list(summary["sweeps"])
    rows = -(-len(factors) // 2)
    with canvas(width=11.5, height=4.6 * rows + 0.9) as figure:
        panels = figure.subplots(rows, 2, squeeze=False).ravel()
        for axes, factor in zip(panels, factors):
            _draw_factor(axes, summary, factor)
        for axes in panels[len(factors) :]:
            axes.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, handlelength=3.6)
    return figure


def _draw_factor(axes: Axes, summary: Mapping[str, Any], factor: str) -> None:
    rows = sorted((summary["settings"][k] for k in summary["sweeps"][factor]), key=lambda row: float(row[factor]))
    x = np.array([float(row[factor]) for row in rows])
    axes.set(xscale="log", yscale="log")
    for name, (label, dash) in BOUNDS.items():
        y = np.array([row[name] for row in rows])
        axes.plot(x, y, color=INK, linestyle=dash, linewidth=1.6, zorder=2, label=label)
        if name == "floor":
            axes.fill_between(x, y.min() / 5.0, y, color=INFEASIBLE, linewidth=0, zorder=0.5)
    styles = styles_of(list(summary["agents"]))
    for k, name in enumerate(summary["agents"]):
        found = [row["agents"][name] for row in rows]
        _draw_agent(axes, x, found, COLORS[k % len(COLORS)], styles[name].marker, label_of(name))
    axes.set_xticks(x, labels=[f"{value:g}" for value in x])
    axes.minorticks_off()
    axes.set_xlabel(LABELS.get(factor, factor))
    axes.set_ylabel("episodes")
    axes.set_title(_exponents(summary, factor), loc="left", fontsize=9.0)


def _draw_agent(
    axes: Axes, x: np.ndarray[Any, Any], found: Sequence[Mapping[str, Any]], color: str, marker: str, label: str
) -> None:
    computed = found[0]["kind"] == "computed"
    ends = np.array([np.nan if f["episodes"] is None else f["episodes"] for f in found], dtype=np.float64)
    axes.plot(
        x, ends, color=color, marker=marker, linestyle=(0, (4, 2)) if computed else "solid", linewidth=1.8, markersize=7,
        markerfacecolor="white" if computed else color, markeredgewidth=1.4, zorder=4,
        label=f"{label} ({'computed' if computed else 'measured'})",
    )  # fmt: skip
    for at, f in zip(x, found):
        if not computed:
            low, high = (f["played"] if end is None else max(end, 1.0) for end in f["interval"])
            axes.plot([at, at], [low, high], color=color, linewidth=1.4, zorder=3)
        if f["episodes"] is None and "played" in f:
            axes.plot(at, f["played"], color=UNSAFE, marker="^", markersize=8, linestyle="none", zorder=5)


def _exponents(summary: Mapping[str, Any], factor: str) -> str:
    """The panel's title: the theorem's exponent, then everybody's."""
    lines = [f"exponent of {LABELS.get(factor, factor)}: theorem {summary['factors'][factor]['theorem']:+g}"]
    lines += [f"    {name} {exponent(summary['fits'][name][factor])}" for name in summary["agents"]]
    return "\n".join([*lines, f"    no agent needs fewer {exponent(summary['fits']['floor'][factor])}"])
