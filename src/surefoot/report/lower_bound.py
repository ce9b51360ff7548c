"""The tables of ``surefoot reproduce lower-bound``, from ``summary.json`` alone: the empirical counterpart of a table of exponents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from surefoot.json_reading import read_object
from surefoot.report.records import check_kind
from surefoot.text_table import text_table

__all__ = ["exponent", "read_lower_bound", "render_lower_bound"]

REMEDY = "run surefoot reproduce lower-bound again"


def read_lower_bound(directory: Path | str) -> dict[str, Any]:
    """The content of ``summary.json``.

    Raises:
        InvalidInput: missing, not JSON, or of another experiment.
    """
    summary = read_object(Path(directory) / "summary.json", remedy=REMEDY)
    check_kind(summary, "lower-bound", remedy=REMEDY)
    return summary


def exponent(fit: Mapping[str, Any]) -> str:
    """A fitted exponent and its interval, as people read it."""
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
    check_kind(summary, "lower-bound", remedy=REMEDY)
    factors, names = list(summary["sweeps"]), list(summary["agents"])
    theorem = ["theorem 5.1", *(f"{summary['factors'][f]['theorem']:+g}" for f in factors)]
    exponents = [["exponent of episodes in", *factors], theorem]
    for name, label in [("upper_bound", "corollary 4.3"), ("floor", "floor of this instance"), *zip(names, names)]:
        kind = f" ({summary['agents'][name]})" if name in names else ""
        exponents.append([label + kind, *(exponent(summary["fits"][name][f]) for f in factors)])
    episodes = [[*factors, "floor", *names]]
    for row in summary["settings"]:
        cells = [_episodes(row["agents"][name]) for name in names]
        episodes.append([*(f"{row[f]:g}" for f in factors), f"{row['floor']:,.0f}", *cells])
    return "\n".join(
        [
            f"hard instance: episodes until everything deployed is eps-optimal and feasible, with probability {1.0 - summary['delta']:g} "
            f"({summary['runs']} runs)",
            "",
            *text_table(exponents, rule=True),
            "",
            *text_table(episodes, rule=True),
        ]
    )


def _episodes(found: Mapping[str, Any]) -> str:
    if found["episodes"] is None:
        return f"> {found['played']:,}" if "played" in found else "never"
    return f"{found['episodes']:,.0f}" if found["episodes"] < 1e7 else f"{found['episodes']:.2g}"
