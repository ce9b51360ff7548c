"""The paper's Figures 2 and 4 (Ni & Kamgarpour 2026, section 6 and Appendix H.2), drawn from the logs of a run.

Figure 2: cumulative regret ``R_k`` and expected cost ``V_c(w_k)`` of the mixture in force against episodes ``k``; lines are means over tasks, bands
their minimum and maximum, the dashed line is the limit ``d`` and what lies above it is shaded. Figure 4: expected return ``V_r(w_k)`` and expected
cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.report.canvas import canvas, save
from surefoot.report.records import Curves, Summary, read_curves, read_summary
from surefoot.report.style import (
    FAINT,
    INFEASIBLE,
    INK,
    UNSAFE,
    LineStyle,
    label_of,
    styles_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "compose_figure2",
    "compose_figure4",
    "compose_returns",
    "figure2",
    "figure4",
]

MOST_BANDS = 12
"""With more agents than this, bands would hide the lines; the table has the ranges."""
MARKERS_PER_LINE = 6
SYMLOG_SPAN = 100.0


def figure2(directory: Path | str) -> Path:
    """Draw ``figure2.png`` beside the logs in ``directory``.

    Raises:
        InvalidInput: a log is missing or damaged.
        MissingExtra: matplotlib is not installed.
    """
    return save(compose_figure2(*_logs(directory)), Path(directory) / "figure2.png")


def figure4(directory: Path | str) -> Path:
    """Draw ``figure4.png`` beside the logs in ``directory``.

    Raises:
        InvalidInput: a log is missing or damaged.
        MissingExtra: matplotlib is not installed.
    """
    return save(compose_figure4(*_logs(directory)), Path(directory) / "figure4.png")


def _logs(directory: Path | str) -> tuple[dict[str, Curves], Summary]:
    summary = read_summary(directory)
    sizes = {"tasks": len(summary.tasks), "constraints": summary.cost_limits.size}
    return {agent.name: read_curves(directory, agent.name, **sizes) for agent in summary.agents}, summary


def compose_figure2(curves: Mapping[str, Curves], summary: Summary) -> Figure:
    """Regret on the left, one panel per constraint to its right, one legend for all below.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return _over_episodes(curves, summary.cost_limits, _draw_regret)


def compose_figure4(curves: Mapping[str, Curves], summary: Summary) -> Figure:
    """Expected return on the left, one panel per constraint to its right, one legend for all below.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return compose_returns(curves, summary.cost_limits)


def compose_returns(curves: Mapping[str, Curves], cost_limits: FloatArray) -> Figure:
    """The same from the curves alone; they may come from several runs.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return _over_episodes(curves, cost_limits, _draw_reward)


def _over_episodes(
    curves: Mapping[str, Curves],
    cost_limits: FloatArray,
    draw: Callable[[Axes, Mapping[str, Curves], Mapping[str, LineStyle]], None],
) -> Figure:
    panels = 1 + cost_limits.size
    styles = styles_of(list(curves))
    legend_rows = -(-len(curves) // 3)
    with canvas(width=4.9 * panels + 0.6, height=4.3 + 0.24 * legend_rows) as figure:
        axes = figure.subplots(1, panels, squeeze=False)[0]
        draw(axes[0], curves, styles)
        for i, limit in enumerate(cost_limits):
            _draw_costs(axes[1 + i], curves, styles, i, float(limit), cost_limits.size)
        _legend(figure, curves, styles)
    return figure


def _draw_regret(axes: Axes, curves: Mapping[str, Curves], styles: Mapping[str, LineStyle]) -> None:
    for position, (name, curve) in enumerate(curves.items()):
        _draw_agent(axes, curve.episodes, curve.regret, styles[name], label_of(name), (position, len(curves)))
    axes.set_title("Reward given up so far, against the best safe policy", loc="left")
    axes.set_ylabel("cumulative regret")
    _count_axes(axes, curves)
    _scale_regret(axes, [float(curve.regret[:, -1].mean()) for curve in curves.values()])


def _draw_reward(axes: Axes, curves: Mapping[str, Curves], styles: Mapping[str, LineStyle]) -> None:
    for position, (name, curve) in enumerate(curves.items()):
        _draw_agent(axes, curve.episodes, curve.reward, styles[name], label_of(name), (position, len(curves)))
    axes.set_title("Expected return of the policy in force", loc="left")
    axes.set_ylabel("expected return per episode")
    _count_axes(axes, curves)


def _scale_regret(axes: Axes, finals: list[float]) -> None:
    """Linear, so that slopes read as regret per episode, unless that would flatten the better agents."""
    positive = [value for value in finals if value > 1.0]
    if positive and max(positive) / min(positive) > SYMLOG_SPAN:
        axes.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(min(positive))))
    elif min(finals, default=0.0) >= -1.0:
        axes.set_ylim(bottom=0.0)
    axes.yaxis.set_major_formatter(lambda value, _: _thousands(value))


def _draw_costs(
    axes: Axes, curves: Mapping[str, Curves], styles: Mapping[str, LineStyle], constraint: int, limit: float, total: int
) -> None:
    for position, (name, curve) in enumerate(curves.items()):
        cost = curve.cost[:, :, constraint]
        _draw_agent(axes, curve.episodes, cost, styles[name], label_of(name), (position, len(curves)), limit)
    _draw_limit(axes, limit, max(float(curve.cost[:, :, constraint].max()) for curve in curves.values()))
    which = f" {constraint + 1}" if total > 1 else ""
    axes.set_title(f"Expected cost{which} of the policy in force", loc="left")
    axes.set_ylabel(f"expected cost{which} per episode")
    _count_axes(axes, curves)


def _draw_limit(axes: Axes, limit: float, largest: float) -> None:
    """The limit named in the margin, where no curve can hide it, and the forbidden side shaded."""
    low = min(axes.get_ylim()[0], limit)
    top = max(largest, limit) + 0.12 * (max(largest, limit) - low or 1.0)
    axes.set_ylim(low, top)
    axes.axhspan(limit, top, color=INFEASIBLE, zorder=0.5, linewidth=0)
    axes.axhline(limit, color=INK, linestyle=(0, (6, 2.5)), linewidth=2.2, zorder=6, label="limit")
    axes.annotate(
        f"limit\n{limit:g}", xy=(1.0, limit), xycoords=("axes fraction", "data"), xytext=(4, 0),
        textcoords="offset points", ha="left", va="center", fontweight="bold", color=INK, annotation_clip=False,
    )  # fmt: skip
    axes.text(0.985, 0.985, "above the limit", transform=axes.transAxes, ha="right", va="top", color=UNSAFE, zorder=7)


def _draw_agent(
    axes: Axes, episodes: FloatArray, lines: FloatArray, style: LineStyle, label: str, place: tuple[int, int],
    limit: float | None = None,
) -> None:  # fmt: skip
    """Mean and min-max band of (n, T) ``lines``.

    ``place`` is the agent's number and how many there are: earlier agents are drawn wider, so that equal curves all
    show. A mean that runs along the limit shows its markers alone, so that the limit stays visible.
    """
    position, total = place
    mean, low, high = lines.mean(axis=0), lines.min(axis=0), lines.max(axis=0)
    on_limit = limit is not None and np.allclose(mean, limit, rtol=0.0, atol=1e-3 * limit)
    gap = max(episodes.size // MARKERS_PER_LINE, 1)
    if total <= MOST_BANDS:
        axes.fill_between(episodes, low, high, facecolor=style.color, alpha=0.10, linewidth=0)
        for edge in (low, high):
            axes.plot(episodes, edge, color=style.color, linewidth=0.7, alpha=0.6)
    axes.plot(
        episodes, mean, color=style.color, label=label, linestyle="none" if on_limit else style.dash,
        linewidth=1.6 + 1.8 * (total - 1 - position) / max(total - 1, 1),
        marker=style.marker, markevery=(position * gap // total, gap), markersize=10 if style.marker == "*" else 6.5,
        markeredgecolor="white", markeredgewidth=0.7, zorder=6.5 if on_limit else 3 + position / total,
    )  # fmt: skip


def _count_axes(axes: Axes, curves: Mapping[str, Curves]) -> None:
    axes.set_xlabel("episodes on the real task")
    axes.set_xlim(0.0, max(float(curve.episodes[-1]) for curve in curves.values()))
    axes.xaxis.set_major_formatter(lambda value, _: _thousands(value))


def _legend(figure: Figure, curves: Mapping[str, Curves], styles: Mapping[str, LineStyle]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=style.color, linestyle=style.dash, linewidth=2, marker=style.marker, label=label_of(name))
        for name, style in ((name, styles[name]) for name in curves)
    ]
    if len(curves) <= MOST_BANDS:
        handles.append(Patch(color=FAINT, label="band: smallest to largest over tasks"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, handlelength=3.6)


def _thousands(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"
