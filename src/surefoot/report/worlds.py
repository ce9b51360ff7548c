"""The tables of a world (``surefoot reproduce sepsis`` and its kind), from ``summary.json`` alone.

First what was deployed on fresh plants of the family: runs in which some mixture exceeded a limit and the exact 95% interval for their rate, the gain
over the safe policy as a share of the oracle's with its bootstrap interval, episodes until half of what there is to gain (median, and 90% of the
plants). Then what happens where reality lies outside the family.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from surefoot.errors import InvalidInput
from surefoot.json_reading import read_object
from surefoot.text_table import text_table

__all__ = ["read_world", "render_world"]

REMEDY = "run the experiment again"


def read_world(directory: Path | str) -> dict[str, Any]:
    """The content of ``summary.json``.

    Raises:
        InvalidInput: missing, not JSON, or of another kind of experiment.
    """
    summary = read_object(Path(directory) / "summary.json", remedy=REMEDY)
    _check(summary)
    return summary


def _check(summary: Mapping[str, Any]) -> None:
    if summary.get("schema") != 1 or not {"levels", "mismatch", "oracle", "rehearsal"} <= set(summary):
        raise InvalidInput(
            f"summary must be of a world, schema 1, got {summary.get('experiment')!r}, schema {summary.get('schema')!r}; {REMEDY}",
            code="SF-ARGUMENT-CHOICE",
        )


def render_world(summary: Mapping[str, Any]) -> str:
    """The tables of a parsed ``summary.json``, without a newline at the end.

    Raises:
        InvalidInput: not the summary of a world.
    """
    _check(summary)
    head = [
        "",
        "violating runs",
        "95% interval",
        "gain / oracle's",
        "95% interval",
        "half the gain after",
        "worst cost",
    ]
    rows = [[level, *_cells(row)] for level, row in summary["levels"].items()]
    oracle = summary["oracle"]
    limits = ", ".join(f"{limit:g}" for limit in summary["cost_limits"])
    parts = [
        f"{summary['title']}: {summary['runs']} fresh plants, {summary['episodes']:,} episodes each, {len(summary['unknowns'])} unknowns",
        "",
        *text_table([head, *rows], rule=True),
        "",
        f"return per episode: oracle {oracle['reward']:.4g}, safe policy {summary['safe']['reward']:.4g}; limit {limits}, of the oracles "
        f"{100.0 * oracle['binding']:.0f}% sit on it; the safe policy costs {_listed(summary['safe']['costs'])}",
        *_certificates(summary),
    ]
    for study in summary["mismatch"]:
        parts += ["", *_study(study)]
    return "\n".join(parts)


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _cells(row: Mapping[str, Any]) -> list[str]:
    if "refused" in row:
        return ["none", "", "", "", "", ""]
    half = "never" if row["half_median"] is None else f"{row['half_median']:,.0f}"
    late = "never" if row["half_upper"] is None else f"{row['half_upper']:,.0f}"
    return [
        f"{row['violating']}/{row['runs']}",
        f"{100.0 * row['rate_lower']:.1f}-{100.0 * row['rate_upper']:.1f}%",
        f"{100.0 * row['gain']:.1f}%",
        f"{100.0 * row['gain_lower']:.1f}-{100.0 * row['gain_upper']:.1f}%",
        f"{half} (90%: {late})",
        f"{100.0 * row['worst_excess']:+.1f}%",
    ]


def _certificates(summary: Mapping[str, Any]) -> list[str]:
    """What the certificates rest on, and which cannot be had."""
    said = []
    for look in summary["cells"]:
        seen = f", {look['uncovered']} of {look['holdout']} hold-out tasks in none" if "uncovered" in look else ""
        verdict = "accepted" if look["refused"] is None else f"refused: {look['refused']}"
        said.append(f"cells: {look['cells']}{seen}: {verdict}")
    rungs = ", ".join(
        f"{rung['name']}: {rung['violating']}/{rung['plants']}" for rung in summary["rehearsal"]["rungs"] if rung["plants"]
    )  # fmt: skip
    said.append(
        f"rehearsed: violating rehearsals by boldness {rungs}; chosen {summary['rehearsal']['chosen'] or 'none'}"
    )
    for level, row in summary["levels"].items():
        if "refused" in row and level not in ("cells", "rehearsed"):
            said.append(f"no {level}: {row['refused']}")
    return said


def _study(study: Mapping[str, Any]) -> list[str]:
    head = [
        "",
        "violating runs",
        "violating episodes before any alarm",
        "in all",
        "alarms",
        "median alarm",
        "worst cost",
    ]
    rows = [
        [
            level,
            f"{row['violating']}/{study['runs']}",
            f"{row['before_alarm']:.1f}",
            f"{row['violating_episodes']:.1f}",
            str(row["alarms"]),
            "" if row["alarm_median"] is None else f"{row['alarm_median']:,.0f}",
            f"{100.0 * row['worst_excess']:+.1f}%",
        ]
        for level, row in study["levels"].items()
    ]
    return [f"outside the family, {study['name']}: {study['text']}", "", *text_table([head, *rows], rule=True)]
