"""The table of a comparison in which every method plays the setting that a rehearsal supports (:mod:`surefoot.experiments.fair`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from surefoot.json_reading import required
from surefoot.report.records import AgentRecord, Summary
from surefoot.report.table import worst_excess
from surefoot.text_table import text_table

__all__ = ["render_fair_table"]

REMEDY = "record the run again"
TITLES = (
    "method", "setting", "rung", "plants", "violating", "upper bound", "mean regret", "min to max", "test runs violating", "worst cost - limit",
)  # fmt: skip


def render_fair_table(raw: Mapping[str, Any]) -> str:
    """The table of a parsed ``summary.json``, without a newline at the end.

    Raises:
        InvalidInput: not the summary of such a comparison.
    """
    summary = Summary.of(raw)
    rehearsal = required(raw, "rehearsal", where="summary", remedy=REMEDY)
    agents = {agent.name: agent for agent in summary.agents}
    rows = [[name, "fixed", "", "", "", "", *_tested(summary, agents[name])] for name in rehearsal["fixed"]]
    rows += [_row(summary, agents, ladder) for ladder in rehearsal["ladders"]]
    confidence = 100.0 * (1.0 - rehearsal["delta_coverage"])
    return "\n".join(
        [
            f"rehearsed on {rehearsal['plants']} fresh plants, {summary.episodes} episodes each: at {confidence:g}% confidence fewer than "
            f"{100.0 * rehearsal['alpha']:g}% of deployments would break a limit",
            "",
            *text_table([list(TITLES), *rows], rule=True, left=(0, 1)),
        ]
    )


def _row(summary: Summary, agents: Mapping[str, AgentRecord], ladder: Mapping[str, Any]) -> list[str]:
    rungs: Sequence[Mapping[str, Any]] = ladder["rungs"]
    for number, rung in enumerate(rungs, 1):
        if rung["agent"] == ladder["chosen"]:
            shown = [_setting(ladder["method"], rung["agent"]), f"{number} of {ladder['ladder']}", *_rehearsed(rung)]
            return [ladder["method"], *shown, *_tested(summary, agents[rung["agent"]])]
    first = rungs[0]
    nothing = f"no rung accepted: not deployable ({_setting(ladder['method'], first['agent'])})"
    return [ladder["method"], nothing, f"0 of {ladder['ladder']}", *_rehearsed(first), "-", "-", "-", "-"]


def _setting(method: str, agent: str) -> str:
    """What of an agent's name is not the method."""
    return agent.removeprefix(method).lstrip(":") or "as published"


def _rehearsed(rung: Mapping[str, Any]) -> list[str]:
    upper = rung["upper"]
    return [str(rung["plants"]), str(rung["violating"]), "-" if upper is None else f"{100.0 * upper:.2g}%"]


def _tested(summary: Summary, agent: AgentRecord) -> list[str]:
    regret = agent.final_regret
    return [
        f"{regret.mean():,.0f}",
        f"{regret.min():,.0f} to {regret.max():,.0f}",
        f"{agent.tasks_violated} of {len(summary.tasks)}",
        worst_excess(summary, agent),
    ]
