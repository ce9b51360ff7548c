"""The paper's Figures 1, 2 and 4 (Ni & Kamgarpour 2026, section 6 and Appendix H.2), drawn from the logs of a run.

Figure 1: the optimal policy of two tasks as arrows whose lengths are ``pi(a|s)``, and ``V_r`` of the optimum and of the
safe policy against the noise, up to where no policy meets the limit. Figure 2: cumulative regret ``R_k`` and expected
cost ``V_c(w_k)`` of the mixture in force against episodes ``k``; lines are means over tasks, bands their minimum and
maximum, the dashed line is the limit ``d`` and what lies above it is shaded. Figure 4: expected return ``V_r(w_k)`` and expected cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.report.records import Curves, Landscape, Summary, read_curves, read_landscape, read_summary
from surefoot.report.style import (
    BLUE,
    FAINT,
    GREEN,
    HATCH,
    INFEASIBLE,
    INK,
    RC,
    UNSAFE,
    LineStyle,
    label_of,
    require_matplotlib,
    styles_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "compose_figure1",
    "compose_figure2",
    "compose_figure4",
    "figure1",
    "figure2",
    "figure4",
    "require_matplotlib",
]

RESOLUTION = 150  # dots per inch: sharp when a browser shows the picture at two thirds of its size
MOST_BANDS = 12
"""With more agents than this, bands would hide the lines; the table has the ranges."""
MARKERS_PER_LINE = 6
SYMLOG_SPAN = 100.0
MOVES = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float64)
ARROW = 0.72  # of a cell, at probability one


def figure1(directory: Path | str) -> Path:
    """Draw ``figure1.png`` beside the logs in ``directory``.

    Raises:
        InvalidInput: a log is missing or damaged.
        MissingExtra: matplotlib is not installed.
    """
    summary, landscape = read_summary(directory), read_landscape(directory)
    return _save(compose_figure1(landscape, summary), Path(directory) / "figure1.png")


def figure2(directory: Path | str) -> Path:
    """Draw ``figure2.png`` beside the logs in ``directory``.

    Raises:
        InvalidInput: a log is missing or damaged.
        MissingExtra: matplotlib is not installed.
    """
    return _save(compose_figure2(*_logs(directory)), Path(directory) / "figure2.png")


def figure4(directory: Path | str) -> Path:
    """Draw ``figure4.png`` beside the logs in ``directory``.

    Raises:
        InvalidInput: a log is missing or damaged.
        MissingExtra: matplotlib is not installed.
    """
    return _save(compose_figure4(*_logs(directory)), Path(directory) / "figure4.png")


def _logs(directory: Path | str) -> tuple[dict[str, Curves], Summary]:
    summary = read_summary(directory)
    sizes = {"tasks": len(summary.tasks), "constraints": summary.cost_limits.size}
    return {agent.name: read_curves(directory, agent.name, **sizes) for agent in summary.agents}, summary


def compose_figure2(curves: Mapping[str, Curves], summary: Summary) -> Figure:
    """Regret on the left, one panel per constraint to its right, one legend for all below.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return _over_episodes(curves, summary, _draw_regret)


def compose_figure4(curves: Mapping[str, Curves], summary: Summary) -> Figure:
    """Expected return on the left, one panel per constraint to its right, one legend for all below.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return _over_episodes(curves, summary, _draw_reward)


def _over_episodes(
    curves: Mapping[str, Curves],
    summary: Summary,
    draw: Callable[[Axes, Mapping[str, Curves], Mapping[str, LineStyle]], None],
) -> Figure:
    panels = 1 + summary.cost_limits.size
    styles = styles_of(list(curves))
    legend_rows = -(-len(curves) // 3)
    with _canvas(width=4.9 * panels + 0.6, height=4.3 + 0.24 * legend_rows) as figure:
        axes = figure.subplots(1, panels, squeeze=False)[0]
        draw(axes[0], curves, styles)
        for i, limit in enumerate(summary.cost_limits):
            _draw_costs(axes[1 + i], curves, styles, i, float(limit), summary.cost_limits.size)
        _legend(figure, curves, styles)
    return figure


def compose_figure1(landscape: Landscape, summary: Summary) -> Figure:
    """One panel per policy, and the values against the noise.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    count = landscape.policy_noise.size
    with _canvas(width=3.5 * count + 5.0, height=4.3) as figure:
        axes = figure.subplots(1, count + 1, width_ratios=[1.0] * count + [1.35], squeeze=False)[0]
        for panel, noise, policy in zip(axes, landscape.policy_noise, landscape.policy):
            _draw_policy(panel, landscape, float(noise), policy)
        _draw_values(axes[count], landscape, float(summary.cost_limits[0]))
    return figure


@contextmanager
def _style() -> Iterator[None]:
    """Our settings and no others: what a user's matplotlib is set to neither shows nor changes."""
    require_matplotlib()
    import matplotlib

    settings: Any = dict(matplotlib.rcParamsDefault.items())  # Any: the type of its keys lists every name there is
    settings.update(RC)
    with matplotlib.rc_context(settings):
        yield


@contextmanager
def _canvas(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of that many inches, independent of pyplot."""
    with _style():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height), dpi=RESOLUTION, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def _save(figure: Figure, path: Path) -> Path:
    with _style():  # ticks are made only now
        figure.savefig(path, dpi=RESOLUTION, metadata={"Software": None})
    return path


# Figure 2


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


# Figure 1


def _draw_policy(axes: Axes, landscape: Landscape, noise: float, policy: FloatArray) -> None:
    from matplotlib.patches import Rectangle

    for x, y in landscape.hazard:
        axes.add_patch(
            Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=INFEASIBLE, edgecolor=HATCH, hatch="///", linewidth=0)
        )
    axes.plot(*landscape.goal, marker="*", markersize=19, color=GREEN, linestyle="none", zorder=4)
    _draw_arrows(axes, landscape, policy)
    axes.set(xlim=(-0.5, landscape.width - 0.5), ylim=(-0.5, landscape.height - 0.5), aspect="equal")
    axes.set_xticks(np.arange(landscape.width + 1) - 0.5, labels=[])
    axes.set_yticks(np.arange(landscape.height + 1) - 0.5, labels=[])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(True)
    axes.set_title(f"Optimal policy at noise {noise:g}{_value_at(landscape, noise)}", loc="left")
    axes.set_xlabel(
        "hatched: costs while inside; star: goal\narrow length: probability; blue: drawn at random", fontsize=8.5
    )


def _draw_arrows(axes: Axes, landscape: Landscape, policy: FloatArray) -> None:
    """One arrow per action with its probability as length, none in the goal; randomising states in another colour."""
    cells = np.stack(np.meshgrid(np.arange(landscape.width), np.arange(landscape.height)), axis=-1).reshape(-1, 2)
    state, action = np.nonzero((policy > 0.02) & np.any(cells != landscape.goal, axis=1)[:, None])
    arrow = MOVES[action] * policy[state, action][:, None] * ARROW
    randomised = policy[state].max(axis=1) < 0.98
    # A sole arrow sits in the middle of its cell; several start there.
    tail = cells[state] - np.where(randomised[:, None], 0.0, 0.5 * arrow)
    axes.quiver(
        *tail.T, *arrow.T, angles="xy", scale_units="xy", scale=1.0, width=0.011, minlength=0.0, zorder=5,
        headwidth=4.0, headlength=4.0, headaxislength=3.6, color=np.where(randomised, BLUE, INK),
    )  # fmt: skip


def _value_at(landscape: Landscape, noise: float) -> str:
    """The optimal value as the title's second line, where the grid of noises holds this one."""
    nearest = int(np.argmin(np.abs(landscape.noise - noise)))
    if abs(landscape.noise[nearest] - noise) > 1e-9:
        return ""
    return f"\nexpected reward {landscape.optimal_value[nearest]:.2f}"


def _draw_values(axes: Axes, landscape: Landscape, limit: float) -> None:
    noise, best = landscape.noise, landscape.optimal_value
    feasible = np.flatnonzero(np.isfinite(best))
    axes.plot(noise, best, color=BLUE, linewidth=2.4, label="best feasible policy")
    safe = landscape.safe_cost <= limit
    axes.plot(noise, np.where(safe, landscape.safe_value, np.nan), color=GREEN, linewidth=2.4, label="safe policy")
    if not safe.all():
        label = "safe policy, but above the limit"
        axes.plot(noise, landscape.safe_value, color=GREEN, linestyle=":", linewidth=2.4, label=label, zorder=1.9)
    for q in landscape.policy_noise:
        value = float(np.interp(q, noise[feasible], best[feasible]))
        axes.plot(q, value, marker="o", color=BLUE, markersize=6, zorder=5)
        axes.annotate(f"{value:.2f}", (q, value), xytext=(5, 5), textcoords="offset points", color=BLUE)
    axes.set(xlabel="noise", ylabel="expected discounted reward", xlim=(float(noise[0]), float(noise[-1])))
    axes.set_title("Value against noise", loc="left")
    if feasible.size and feasible[-1] + 1 < noise.size:
        _mark_end(axes, float(noise[feasible[-1]]), float(noise[-1]))
    axes.legend(loc="lower left", frameon=False)


def _mark_end(axes: Axes, end: float, right: float) -> None:
    axes.axvspan(end, right, color=INFEASIBLE, linewidth=0, zorder=0.5)
    axes.axvline(end, color=INK, linestyle=(0, (6, 2.5)), linewidth=1.8)
    axes.annotate(
        f"beyond {end:.3g} no policy\nmeets the limit", xy=(end, 0.97), xycoords=("data", "axes fraction"),
        xytext=(-5, 0), textcoords="offset points", ha="right", va="top", fontsize=9, color=INK,
    )  # fmt: skip
