"""The table of ``surefoot reproduce unknowns``, from ``summary.json`` alone.

A cell holds what a trust level gives up as a share of what never adapting gives up, the ratio of the two means over tasks, and its runs with a
violating mixture; ``none`` where its certificate cannot be had. Below the table stand the reasons, and what the certificates rest on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.json_reading import read_object
from surefoot.report.records import check_kind
from surefoot.text_table import text_table

__all__ = ["read_unknowns", "render_unknowns", "share_given_up", "why_refused"]

REMEDY = "run surefoot reproduce unknowns again"


def read_unknowns(directory: Path | str) -> dict[str, Any]:
    """The content of ``summary.json``.

    Raises:
        InvalidInput: missing, not JSON, or of another experiment.
    """
    summary = read_object(Path(directory) / "summary.json", remedy=REMEDY)
    check_kind(summary, "unknowns", remedy=REMEDY)
    return summary


def share_given_up(row: Mapping[str, Any], level: str) -> float | None:
    """Mean regret of a level over that of never adapting; ``None`` where its certificate cannot be had."""
    found = row["levels"][level]
    if "refused" in found:
        return None
    return float(np.mean(found["regret"]) / np.mean(row["never_adapting"]))


def why_refused(row: Mapping[str, Any], level: str, p_max: float) -> str:
    """One line: which certificate is missing, and by how much."""
    if level == "rehearsed":
        first = row["rehearsal"]["rungs"][0]
        return f"even the most cautious rung broke the limit in {first['violating']} of {first['plants']} rehearsals"
    if level == "cells":
        judged = [look for look in row["cells"] if "upper" in look]
        if judged:
            counts = ", ".join(f"{look['uncovered']} ({look['cells']} cells)" for look in judged)
            return f"of {judged[0]['holdout']} hold-out tasks {counts} lie in no cell; to be shown was at most {100.0 * p_max:g}% of all"
    return str(row["levels"][level]["refused"])


def render_unknowns(summary: Mapping[str, Any]) -> str:
    """The table of a parsed ``summary.json``, without a newline at the end.

    Raises:
        InvalidInput: not the summary of this experiment.
    """
    check_kind(summary, "unknowns", remedy=REMEDY)
    levels, rows = summary["levels"], summary["rows"]
    lines = [["unknown", "never adapting", *levels]]
    for row in rows:
        never = f"{np.mean(row['never_adapting']):,.0f}"
        lines.append([str(row["unknowns"]), never, *(_cell(row, level, summary["tasks"]) for level in levels)])
    return "\n".join(
        [
            f"{summary['tasks']} fresh tasks per number of unknown parameters, {summary['episodes']:,} episodes each: regret of never adapting; of "
            "that, what each trust level gives up, and its runs with a violation",
            "",
            *text_table(lines, rule=True),
            "",
            *(line for row in rows for line in _certificates(summary, row)),
        ]
    )


def _cell(row: Mapping[str, Any], level: str, runs: int) -> str:
    share = share_given_up(row, level)
    if share is None:
        return "none"
    return f"{100.0 * share:.1f}%  {row['levels'][level]['violating_runs']}/{runs}"


def _certificates(summary: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    """What the certificates of one row rest on, and which cannot be had."""
    said = []
    for level in summary["levels"]:
        if "refused" in row["levels"][level]:
            said.append(f"{row['unknowns']} unknown: no {level}: {why_refused(row, level, summary['p_max'])}")
        elif level == "cells":
            look = row["cells"][-1]
            said.append(
                f"{row['unknowns']} unknown: cells: with {look['cells']} cells {look['uncovered']} of {look['holdout']} hold-out tasks in none, at "
                f"most {100.0 * look['upper']:.2g}% of all"
            )
        elif level == "rehearsed":
            (rung,) = [r for r in row["rehearsal"]["rungs"] if r["name"] == row["rehearsal"]["chosen"]]
            said.append(
                f"{row['unknowns']} unknown: rehearsed: boldness {rung['name']}, {rung['violating']} of {rung['plants']} rehearsals broke the limit, "
                f"at most {100.0 * rung['upper']:.2g}% of all would"
            )
    return said
