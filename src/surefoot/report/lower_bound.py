"""The table and the figure of ``surefoot reproduce lower-bound``, from ``summary.json`` alone.

One panel per factor, both axes logarithmic: episodes that each agent needs, measured (filled, with intervals; an arrow where runs were too short) or
computed (hollow), beside the theorem's expression and the corollary's, both without constants, so that only their slopes can be compared, and above
the floor that no agent can go below on this instance. The table is the empirical counterpart of a table of exponents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.errors import InvalidInput
from surefoot.report.figures import _canvas, _save
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
    require_matplotlib,
    styles_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["compose_lower_bound", "draw_lower_bound", "read_lower_bound", "render_lower_bound", "require_matplotlib"]

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


def read_lower_bound(directory: Path | str) -> dict[str, Any]:
    """The content of ``summary.json``.

    Raises:
        InvalidInput: missing, not JSON, or of another experiment.
    """
    path = Path(directory) / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InvalidInput(
            f"{path} must be readable JSON, got {error}; run surefoot reproduce lower-bound again"
        ) from error
    return _checked(summary)


def _checked(summary: Any) -> dict[str, Any]:
    if not isinstance(summary, dict) or summary.get("experiment") != "lower-bound" or summary.get("schema") != 1:
        raise InvalidInput("summary must be a lower-bound run of schema 1; run surefoot reproduce lower-bound again")
    return summary


def draw_lower_bound(directory: Path | str) -> Path:
    """Draw ``lower-bound.png`` beside the logs in ``directory``.

    Raises:
        InvalidInput: the log is missing or damaged.
        MissingExtra: matplotlib is not installed.
    """
    return _save(compose_lower_bound(read_lower_bound(directory)), Path(directory) / "lower-bound.png")


def compose_lower_bound(summary: Mapping[str, Any]) -> Figure:
    """One panel per factor, two in a row, one legend for all.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    factors = list(summary["sweeps"])
    rows = -(-len(factors) // 2)
    with _canvas(width=11.5, height=4.6 * rows + 0.9) as figure:
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
    lines += [f"    {name} {_exponent(summary['fits'][name][factor])}" for name in summary["agents"]]
    return "\n".join([*lines, f"    no agent needs fewer {_exponent(summary['fits']['floor'][factor])}"])


def _exponent(fit: Mapping[str, Any]) -> str:
    if fit["exponent"] is None:
        return "-"
    shown = f"{fit['exponent']:+.2f}"
    if fit["interval"] is not None:
        shown += f" ({fit['interval'][0]:+.2f} to {fit['interval'][1]:+.2f})"
    # Runs that were too short count with their length, which flattens the slope.
    return shown + (" censored" if fit.get("censored_levels") else "")


def render_lower_bound(summary: Mapping[str, Any]) -> str:
    """Exponents and episodes as two tables in plain text.

    Raises:
        InvalidInput: not the summary of this experiment.
    """
    _checked(summary)
    factors, names = list(summary["sweeps"]), list(summary["agents"])
    theorem = ["theorem 5.1", *(f"{summary['factors'][f]['theorem']:+g}" for f in factors)]
    exponents = [["exponent of episodes in", *factors], theorem]
    for name, label in [("upper_bound", "corollary 4.3"), ("floor", "floor of this instance"), *zip(names, names)]:
        kind = f" ({summary['agents'][name]})" if name in names else ""
        exponents.append([label + kind, *(_exponent(summary["fits"][name][f]) for f in factors)])
    episodes = [[*factors, "floor", *names]]
    for row in summary["settings"]:
        cells = [_episodes(row["agents"][name]) for name in names]
        episodes.append([*(f"{row[f]:g}" for f in factors), f"{row['floor']:,.0f}", *cells])
    return "\n".join(
        [
            f"hard instance: episodes until everything deployed is eps-optimal and feasible, with probability {1.0 - summary['delta']:g} "
            f"({summary['runs']} runs)",
            "",
            *_table(exponents),
            "",
            *_table(episodes),
        ]
    )


def _episodes(found: Mapping[str, Any]) -> str:
    if found["episodes"] is None:
        return f"> {found['played']:,}" if "played" in found else "never"
    return f"{found['episodes']:,.0f}" if found["episodes"] < 1e7 else f"{found['episodes']:.2g}"


def _table(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*lines)]
    shown = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
    return [shown[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *shown[1:]]
