"""The paper's Figure 1 (Ni & Kamgarpour 2026, section 6): the gridworld family, drawn from the logs of a run.

The optimal policy of two tasks as arrows whose lengths are ``pi(a|s)``, and ``V_r`` of the optimum and of the safe policy against the noise, up to
where no policy meets the limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.report.canvas import canvas, save
from surefoot.report.records import Landscape, Summary, read_landscape, read_summary
from surefoot.report.style import BLUE, GREEN, HATCH, INFEASIBLE, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["compose_figure1", "figure1"]

MOVES = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float64)
ARROW = 0.72  # of a cell, at probability one


def figure1(directory: Path | str) -> Path:
    """Draw ``figure1.png`` beside the logs in ``directory``.

    Raises:
        InvalidInput: a log is missing or damaged.
        MissingExtra: matplotlib is not installed.
    """
    summary, landscape = read_summary(directory), read_landscape(directory)
    return save(compose_figure1(landscape, summary), Path(directory) / "figure1.png")


def compose_figure1(landscape: Landscape, summary: Summary) -> Figure:
    """One panel per policy, and the values against the noise.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    count = landscape.policy_noise.size
    with canvas(width=3.5 * count + 5.0, height=4.3) as figure:
        axes = figure.subplots(1, count + 1, width_ratios=[1.0] * count + [1.35], squeeze=False)[0]
        for panel, noise, policy in zip(axes, landscape.policy_noise, landscape.policy):
            _draw_policy(panel, landscape, float(noise), policy)
        _draw_values(axes[count], landscape, float(summary.cost_limits[0]))
    return figure


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
