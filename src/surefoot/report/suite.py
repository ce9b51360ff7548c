"""The suite as one table in plain text: agents down, families across, from ``summary.json`` alone.

A cell holds mean regret as a share of what always-safe gives up, runs with at least one violating episode, and the mean final weight on anything
but the safe policy; ``refused`` where an agent would not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surefoot.report.records import check_kind
from surefoot.report.table import allowance
from surefoot.text_table import text_table

__all__ = ["render_suite"]


def render_suite(summary: Mapping[str, Any]) -> str:
    """The table of a parsed ``summary.json``, without a newline at the end.

    Raises:
        InvalidInput: not the summary of a suite.
    """
    check_kind(summary, "suite", remedy="run surefoot reproduce suite again")
    families, agents, runs = summary["families"], summary["agents"], summary["tasks"]
    lines = [["agent", *families]]
    lines += [[agent, *(_cell(row["agents"][agent], runs) for row in families.values())] for agent in agents]
    lines += [
        ["", *("" for _ in families)],
        ["given up by the safe policy", *(_gap(row) for row in families.values())],
        ["its margin", *(f"{row['safe_margin']:.3g}" for row in families.values())],
    ]
    return "\n".join(
        [
            f"{runs} fresh tasks per family, {summary['episodes']:,} episodes each: regret as a share of always-safe's, runs with a violation, "
            "final weight on anything but the safe policy",
            "",
            *text_table(lines, rule=True),
            "",
            allowance(summary["delta"], runs),
            *_refused(summary),
        ]
    )


def _cell(record: Mapping[str, Any], runs: int) -> str:
    if "refused" in record:
        return "refused"
    share = "-" if record["share"] is None else f"{round(record['share'], 3) + 0.0:.3f}"
    return f"{share}  {record['violating_runs']}/{runs}  {record['final_weight']:.2f}"


def _gap(row: Mapping[str, Any]) -> str:
    """Reward per episode that the safe policy gives up, of what is possible."""
    gap = row["optimal_value"] - row["safe_value"]
    return f"{gap:.3g} of {row['optimal_value']:.3g} ({100.0 * gap / row['optimal_value']:.0f}%)"


def _refused(summary: Mapping[str, Any]) -> list[str]:
    said = [
        f"{agent} refused {name}: {record['refused']}"
        for name, row in summary["families"].items()
        for agent, record in row["agents"].items()
        if "refused" in record
    ]
    return ["", *said] if said else []
