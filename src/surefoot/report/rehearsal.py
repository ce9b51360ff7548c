"""A rehearsal's figure and page, from its plain data alone (``Rehearsal.data()``, or what ``surefoot rehearse --json`` printed).

Figure: what every rehearsed run of the chosen rung cost over episodes, against the limit; what it gave up; the rungs with their violating shares and
upper limits against alpha; the worst slices. The page says in words what is certified, what it rests on and what it does not say.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.errors import InvalidInput
from surefoot.report.canvas import canvas, save
from surefoot.report.pages import render_template, with_thin_spaces
from surefoot.report.style import BLUE, GREY, INK, ORANGE, UNSAFE, label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["compose_rehearsal", "draw_rehearsal", "rehearsal_page"]

SHOWN_SLICES = 6


def draw_rehearsal(data: Mapping[str, Any], path: Path | str) -> Path:
    """Draw the figure into a PNG file.

    Raises:
        InvalidInput: not the data of a rehearsal.
        MissingExtra: matplotlib is not installed.
    """
    return save(compose_rehearsal(data), Path(path))


def compose_rehearsal(data: Mapping[str, Any]) -> Figure:
    """The figure; see the module's docstring."""
    certificate, curves = _parts(data)
    with canvas(11.0, 7.0) as figure:
        axes = figure.subplots(2, 2)
        shown = max(certificate["chosen"], 0)
        name = label_of(certificate["rungs"][shown]["name"])
        _bands(axes[0, 0], curves["episodes"], curves["costs"][shown])
        axes[0, 0].axhline(1.0, color=INK, linewidth=1.2)
        axes[0, 0].set(
            title=f"Cost of what rung {name} deploys, over the limit",
            xlabel="episodes",
            ylabel="cost / limit",
            xscale="log",
        )
        _bands(axes[0, 1], curves["episodes"], curves["regrets"][shown])
        axes[0, 1].set(title="Given up so far", xlabel="episodes", ylabel="regret", xscale="log")
        axes[0, 1].legend(frameon=False, fontsize=8)
        _rungs(axes[1, 0], certificate)
        _slices(axes[1, 1], certificate)
        return figure


def _bands(axes: Axes, episodes: Any, quantiles: Any) -> None:
    rows = np.array([[np.nan if x is None else x for x in row] for row in quantiles], dtype=np.float64)
    axes.fill_between(episodes, rows[0], rows[4], color=BLUE, alpha=0.15, linewidth=0, label="5 to 95% of plants")
    axes.fill_between(episodes, rows[1], rows[3], color=BLUE, alpha=0.3, linewidth=0, label="25 to 75%")
    axes.plot(episodes, rows[2], color=BLUE, label="median")
    axes.plot(episodes, rows[5], color=UNSAFE, linestyle=(0, (1, 1.3)), label="largest")


def _rungs(axes: Axes, certificate: Mapping[str, Any]) -> None:
    rungs = certificate["rungs"]
    at = np.arange(len(rungs))
    rates = [r["violating"] / max(1, r["plants"]) for r in rungs]
    colors = [ORANGE if k == certificate["chosen"] else BLUE if r["accepted"] else GREY for k, r in enumerate(rungs)]
    axes.vlines(at, rates, [r["upper"] for r in rungs], color=colors, linewidth=2.0)
    axes.scatter(at, rates, color=colors, zorder=3)
    axes.axhline(certificate["alpha"], color=INK, linewidth=1.2)
    axes.set_xticks(at, [label_of(r["name"]) for r in rungs])
    top = max(2.5 * certificate["alpha"], *rates)
    axes.set(
        title="Violating runs and upper limit, by rung (orange: chosen)",
        xlabel="rung, from cautious to bold",
        ylabel="share of plants",
        ylim=(0.0, top),
    )


def _slices(axes: Axes, certificate: Mapping[str, Any]) -> None:
    worst = sorted(certificate["slices"], key=lambda s: -s["violating"] / max(1, s["plants"]))[:SHOWN_SLICES][::-1]
    names = [label_of(f"{s['parameter']} {s['low']:.3g} to {s['high']:.3g}") for s in worst]
    axes.barh(np.arange(len(worst)), [s["violating"] / max(1, s["plants"]) for s in worst], color=BLUE)
    axes.axvline(certificate["alpha"], color=INK, linewidth=1.2)
    axes.set_yticks(np.arange(len(worst)), names)
    axes.set(title="Worst slices of the chosen rung", xlabel="share of plants that violate")


def rehearsal_page(data: Mapping[str, Any]) -> str:
    """The page as one HTML file, with the figure in it where matplotlib is installed.

    Raises:
        InvalidInput: not the data of a rehearsal.
    """
    from jinja2 import TemplateError

    certificate, _ = _parts(data)
    try:
        return _page(data, certificate)
    except (KeyError, TypeError, ValueError, IndexError, TemplateError) as error:
        raise InvalidInput(
            f"data must be that of a rehearsal, got something that lacks or breaks a part of it ({error!r}); give Rehearsal.data() as it is",
            code="SF-ARGUMENT-MISSING",
        ) from error


def _page(data: Mapping[str, Any], certificate: Mapping[str, Any]) -> str:
    chosen = certificate["chosen"]
    worst = sorted(certificate["slices"], key=lambda s: -s["violating"] / max(1, s["plants"]))[:SHOWN_SLICES]
    return str(
        render_template(
            "rehearsal.html.j2",
            title=f"Rehearsal: {certificate['family']}",
            text=data["text"],
            found=certificate,
            chosen=chosen,
            rungs=certificate["rungs"],
            worst=worst,
            ratio=data.get("density_ratio"),
            speed=[s for s in certificate["speed"] if s["bound"] is not None],
            plants=with_thin_spaces(certificate["plants"]),
            episodes=with_thin_spaces(certificate["episodes"]),
            picture=_picture(data),
        )
    )


def _picture(data: Mapping[str, Any]) -> str | None:
    """The figure as base64 of a PNG, or ``None`` without matplotlib."""
    from surefoot.errors import MissingExtra

    try:
        figure = compose_rehearsal(data)
    except MissingExtra:
        return None
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
    return base64.b64encode(file.getvalue()).decode("ascii")


def _parts(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    certificate, curves = data.get("certificate"), data.get("curves")
    if not isinstance(certificate, Mapping) or not isinstance(curves, Mapping) or not certificate.get("rungs"):
        raise InvalidInput(
            "data must be that of a rehearsal, got something else; give Rehearsal.data(), or what surefoot rehearse --json printed",
            code="SF-ARGUMENT-TYPE",
        )
    return certificate, curves
