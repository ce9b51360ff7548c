"""The experiment as one aligned table in plain text.

Per agent, over n tasks of K episodes: mean, smallest and largest regret at the last checkpoint; episodes whose mixture
``w`` broke a limit; the worst ``V_c(w) - d`` over tasks, episodes and constraints (positive: a limit was exceeded);
tasks with at least one such episode; mean final weight on anything but the safe policy; seconds. Where values are judged, and so the
optimum is one of the known policies, the regret is given per episode, with a bootstrap interval over tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from surefoot.report.records import AgentRecord, Summary
from surefoot.stats.bootstrap import mean_over_tasks
from surefoot.text_table import text_table

__all__ = ["allowance", "header", "render_table", "row"]

SHOWN_DECIMALS = 3


def render_table(summary: Mapping[str, Any] | Summary) -> str:
    """The table of a parsed ``summary.json``, without a newline at the end.

    Raises:
        InvalidInput: not a summary.
    """
    record = summary if isinstance(summary, Summary) else Summary.of(summary)
    return "\n".join(text_table([header(record), *(row(record, agent) for agent in record.agents)], rule=True))


def allowance(delta: float, runs: int) -> str:
    """How many runs a guarantee at error ``delta`` leaves room for: what every count of violating runs is to be read beside."""
    return f"delta = {delta:g} allows {delta * runs:.3g} of {runs} runs of an agent to break a limit, on average"


def header(summary: Summary) -> list[str]:
    """Column titles; the published column is there only if something published is."""
    published = ["published"] if summary.published else []
    return [
        "agent",
        *(["lost per episode", "95% over tasks"] if summary.judged else ["mean regret", "min to max"]),
        *published,
        "violating episodes",
        "worst cost - limit",
        "tasks violated",
        "final weight",
        "seconds",
    ]


def row(summary: Summary, agent: AgentRecord) -> list[str]:
    """The cells of one agent, in the order of :func:`header`."""
    published = [_published(summary, agent)] if summary.published else []
    return [
        "".join(letter if letter.isprintable() else "?" for letter in agent.name),
        *(_lost(summary, agent) if summary.judged else _totals(agent)),
        *published,
        f"{agent.violating_episodes.sum():,.0f}",
        worst_excess(summary, agent),
        f"{agent.tasks_violated}/{len(summary.tasks)}",
        f"{agent.final_weight.mean():.2f}",
        f"{agent.seconds:.1f}",
    ]


def _totals(agent: AgentRecord) -> list[str]:
    regret = agent.final_regret
    return [f"{regret.mean():,.0f}", f"{regret.min():,.0f} to {regret.max():,.0f}"]


def _lost(summary: Summary, agent: AgentRecord) -> list[str]:
    mean, low, high = mean_over_tasks(agent.final_regret / agent.last_checkpoint, summary.task_keys)
    return [f"{mean:.2f}", f"{low:.2f} to {high:.2f}"]


def worst_excess(summary: Summary, agent: AgentRecord) -> str:
    """Signed, so that how much room was left is visible too; what rounds to nothing carries no sign."""
    excess = round(float(np.max(agent.max_cost - summary.cost_limits)), SHOWN_DECIMALS)
    return f"{excess:+.{SHOWN_DECIMALS}f}" if excess else f"{0:.{SHOWN_DECIMALS}f}"


def _published(summary: Summary, agent: AgentRecord) -> str:
    value = summary.published.get(agent.name)
    return "-" if value is None else f"{value:,.0f}"
