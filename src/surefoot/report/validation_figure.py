"""The figure of ``surefoot validate``, from ``validation.json`` alone.

Left: rate of violating runs by scenario and agent with Clopper-Pearson intervals, against ``delta``; filled markers are judged
rows, hollow ones are measured because the assumption is false there. Right: how often the wealth of a true cell ever reached ``1/level``,
against the level; Ville's inequality says that every curve stays below the diagonal, up to chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.report.canvas import canvas, save
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
    LineStyle,
    label_of,
    styles_of,
)
from surefoot.report.validation import read_validation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["compose_validation", "draw_validation"]

FLOOR = 3e-4
"""Rates are drawn on a logarithmic axis; none at all is drawn here."""
AGENT_COLORS = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY, GREY)
KIND_COLORS = {"transitions": BLUE, "joint": VERMILLION, "separate": GREEN, "all": INK, "returns": PURPLE}
POSITION_DASHES: dict[str, Any] = {
    "inside": "solid", "edges": (0, (5, 2)), "vertices": (0, (1, 1.3)), "vertices by initial state": (0, (7, 2, 1.5, 2)),
}  # fmt: skip
POSITION_MARKERS = {"inside": "o", "edges": "s", "vertices": "^", "vertices by initial state": "D"}


def draw_validation(directory: Path | str) -> Path:
    """Draw ``validation.png`` beside the log in ``directory``.

    Raises:
        InvalidInput: the log is missing or damaged.
        MissingExtra: matplotlib is not installed.
    """
    return save(compose_validation(read_validation(directory)), Path(directory) / "validation.png")


def compose_validation(summary: Mapping[str, Any]) -> Figure:
    """Violation rates on the left, calibration on the right where there is any.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    calibration = summary["calibration"]
    with canvas(width=13.0 if calibration else 8.0, height=5.6) as figure:
        axes = figure.subplots(
            1, 2 if calibration else 1, squeeze=False, width_ratios=[1.5, 1.0][: 1 + bool(calibration)]
        )[0]
        _draw_rates(axes[0], summary)
        if calibration:
            _draw_curves(axes[1], calibration, float(summary["delta"]))
    return figure


def _draw_rates(axes: Axes, summary: Mapping[str, Any]) -> None:
    scenarios, agents, delta = list(summary["scenarios"]), list(summary["agents"]), float(summary["delta"])
    styles = _styles(agents)
    axes.set_yscale("log")
    axes.axhspan(delta, 1.6, color=INFEASIBLE, linewidth=0, zorder=0.5)
    axes.axhline(delta, color=INK, linestyle=(0, (6, 2.5)), linewidth=1.8, zorder=2)
    width = 0.8 / max(2 * len(agents), 1)
    for row in summary["rows"]:
        judged, style = row["status"] == "judged", styles[row["agent"]]
        slot = 2 * agents.index(row["agent"]) + (not judged)
        x = scenarios.index(row["scenario"]) - 0.4 + width * (slot + 0.5)
        low, high = (max(end, FLOOR) for end in row["violations"]["interval"])
        rate = max(row["violations"]["rate"], FLOOR)
        axes.plot([x, x], [low, high], color=style.color, linewidth=1.8, zorder=4)
        axes.plot(
            x, rate, marker=style.marker, markersize=7.5, color=style.color, markeredgewidth=1.5, zorder=5,
            markerfacecolor=style.color if judged else "white", linestyle="none",
        )  # fmt: skip
        if row["passed"] is False:
            axes.annotate("fails", (x, high), xytext=(0, 4), textcoords="offset points", ha="center", color=UNSAFE)
    axes.set_ylim(0.8 * FLOOR, 1.6)
    axes.set_xlim(-0.5, len(scenarios) - 0.5)
    axes.set_xticks(range(len(scenarios)), labels=scenarios)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.set_ylabel("runs with a violation (markers at the bottom: none)")
    axes.set_title(
        f"Violations against the promised {100 * delta:g}%, with {100 * summary['confidence']:g}% intervals", loc="left"
    )
    _rate_legend(axes, agents, styles)


def _styles(agents: Sequence[str]) -> dict[str, LineStyle]:
    """Markers as in every figure, colours as different as there are: trust levels share one elsewhere."""
    usual = styles_of(agents)
    return {
        name: LineStyle(AGENT_COLORS[k % len(AGENT_COLORS)], usual[name].dash, usual[name].marker)
        for k, name in enumerate(agents)
    }


def _rate_legend(axes: Axes, agents: Sequence[str], styles: Mapping[str, Any]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=styles[a].color, marker=styles[a].marker, linestyle="none", label=label_of(a))
        for a in agents
    ]
    handles.append(Line2D([], [], color=INK, marker="o", linestyle="none", label="judged: the assumption holds"))
    handles.append(
        Line2D([], [], color=INK, marker="o", markerfacecolor="white", linestyle="none", label="measured: it does not")
    )
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=3, frameon=False)


def _draw_curves(axes: Axes, rows: Sequence[Mapping[str, Any]], delta: float) -> None:
    ends = np.array([FLOOR, 1.0])
    axes.fill_between(ends, ends, 1.0, color=INFEASIBLE, linewidth=0, zorder=0.5)
    axes.plot(ends, ends, color=INK, linestyle=(0, (6, 2.5)), linewidth=1.8, zorder=2)
    for row in rows:
        level, rate = np.asarray(row["curve"], dtype=np.float64).T
        axes.plot(
            level, np.where(rate > 0.0, rate, np.nan), color=KIND_COLORS.get(row["kind"], INK), linewidth=1.5,
            linestyle=POSITION_DASHES.get(row["position"], "solid"), marker=POSITION_MARKERS.get(row["position"], "o"),
            markersize=4.5, zorder=4, label=f"{row['kind']}, {row['position']}",
        )  # fmt: skip
    axes.axvline(delta, color="#8A8A8A", linewidth=1.0, zorder=1.5)
    axes.set(xscale="log", yscale="log", xlim=(4e-3, 0.6), ylim=(FLOOR, 1.0))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.set(xlabel="level", ylabel="runs in which a true cell's wealth reached 1/level")
    axes.set_title("Calibration: below the diagonal, up to chance", loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False, fontsize=8, handlelength=3.4)
