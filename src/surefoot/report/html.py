"""One self-contained page about a run, for readers who are not statisticians; ``templates/run.html.j2`` lays it out.

The page carries its pictures in itself. Numbers are those of :mod:`surefoot.report.table`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surefoot.report.figures import figure2, figure4
from surefoot.report.gridworld_figure import figure1
from surefoot.report.pages import render_template
from surefoot.report.records import AgentRecord, Summary, read_summary
from surefoot.report.table import header, row

__all__ = ["certificate_sentences", "render_html", "write_report"]

PANEL_WIDTH = 26  # rem below which a panel scrolls sideways instead of shrinking
PAGE_WIDTH = 66  # rem between the margins that the style sheet gives to this page
FIGURE1_PANELS = 2  # as wide as two; its grids are narrow

KNOWN_AGENTS = {
    "oracle": "Knows the real task and plays its best policy within the limit: a yardstick, not a competitor.",
    "always-safe": "Plays the initial safe policy for ever and learns nothing.",
    "robust-fixed": "Plays for ever the policy that is best for one unfavourable task, chosen beforehand.",
    "safe-pce": "The published method: mixes its best candidate with the safe policy and moves towards the candidate.",
    "pce": "The published method without its safety part: plays its best candidate at once.",
    "optpess-lp": "Learns the transition law; plays what a pessimistic cost allows (Liu et al. 2021).",
    "dope": "The same with a plausible law chosen in its favour (Bura et al. 2022).",
    "dope-plus": "The same with sharper error bounds, here with constants of our own (Yu et al. 2025).",
    "lb-sgd": "Follows the gradient of the return behind a barrier at the limit (Ni and Kamgarpour 2025).",
    "safe-meta-rl": "Adapts a policy trained on many tasks in closed-form steps that guard the limit (Xu and Zhu 2025).",
    "meta-srl": "Adapts such a policy and steps back when the limit is exceeded: episodes above it are expected (Khattar et al. 2023).",
    "certified": "Plays only mixtures that it can certify to respect the limit, with the stated error probability.",
}


@dataclass(frozen=True)
class ShownFigure:
    """A picture (PNG, as base64) and the width in rem below which it scrolls."""

    base64: str
    width: int


@dataclass(frozen=True)
class ShownAgent:
    """What the page says about an agent.

    Attributes:
        name: as it was recorded.
        breach: where it went above a limit; empty if nowhere.
        cells: (column, entry) of its row in the table.
        description: what its name stands for, and its own notes.
    """

    name: str
    breach: str
    cells: tuple[tuple[str, str], ...]
    description: str


def write_report(directory: Path | str) -> Path:
    """Write ``report.html`` beside the logs, drawing the figures that are not there yet.

    Raises:
        InvalidInput: a log is missing or damaged.
        MissingExtra: a figure has to be drawn and matplotlib is not installed.
    """
    folder = Path(directory)
    summary = read_summary(folder)
    curves, draw = ("figure4", figure4) if summary.judged else ("figure2", figure2)
    pictures = {curves: _picture(folder / f"{curves}.png", draw)}
    if (folder / "figure1.npz").exists():
        pictures["figure1"] = _picture(folder / "figure1.png", figure1)
    path = folder / "report.html"
    path.write_text(render_html(summary, pictures), encoding="utf-8")
    return path


def _picture(path: Path, draw: Callable[[Path], Path]) -> bytes:
    return (path if path.exists() else draw(path.parent)).read_bytes()


def render_html(summary: Summary, pictures: Mapping[str, bytes]) -> str:
    """The page; ``pictures`` maps ``figure1``, ``figure2`` and ``figure4``, as far as they exist, to PNG files' contents."""
    distinct, runs = summary.distinct_tasks, len(summary.tasks)
    name = summary.experiment[:1].upper() + summary.experiment[1:]
    columns = header(summary)
    agents = [_agent(summary, agent, columns) for agent in summary.agents]
    panels = 1 + summary.cost_limits.size
    page = render_template(
        "run.html.j2",
        title=f"{name}: {len(agents)} agents on {_count(distinct, 'unseen task')}",
        episodes=f"{summary.episodes:,}",
        met=f"{runs / distinct:g}" if runs > distinct else None,
        seed=summary.seed,
        kept=[agent for agent in agents if not agent.breach],
        broke=[agent for agent in agents if agent.breach],
        assumptions=summary.assumptions,
        assumptions_fail=summary.assumptions_hold is False,
        curves=[_figure(pictures[k], panels) for k in ("figure2", "figure4") if k in pictures],
        curves_alt=_alt(summary),
        judged=_judged(summary),
        limits=_limits(summary),
        columns=columns,
        agents=agents,
        last=f"{max(agent.last_checkpoint for agent in summary.agents):,}",
        published=bool(summary.published),
        training=list(certificate_sentences(summary)),
        family=_figure(pictures["figure1"], FIGURE1_PANELS) if "figure1" in pictures else None,
    )
    return str(page)


def _figure(png: bytes, panels: int) -> ShownFigure:
    return ShownFigure(b64encode(png).decode("ascii"), min(PANEL_WIDTH * panels, PAGE_WIDTH))


def _agent(summary: Summary, agent: AgentRecord, columns: list[str]) -> ShownAgent:
    breach = _breach(summary, agent) if agent.tasks_violated else ""
    return ShownAgent(agent.name, breach, tuple(zip(columns, row(summary, agent))), _description(agent))


def _breach(summary: Summary, agent: AgentRecord) -> str:
    episodes = f"{agent.violating_episodes.sum():,.0f} of {summary.episodes * len(summary.tasks):,} episodes"
    runs = "task" if summary.distinct_tasks == len(summary.tasks) else "run"
    return f"on {agent.tasks_violated} of {_count(len(summary.tasks), runs)}, in {episodes}"


def _description(agent: AgentRecord) -> str:
    """What the first part of its name stands for, then its own notes."""
    known = KNOWN_AGENTS.get(agent.name.partition(":")[0], "")
    notes = f"It says of itself: {'; '.join(agent.notes)}." if agent.notes else ""
    return f"{known} {notes}".strip() or "No description."


def _judged(summary: Summary) -> dict[str, str]:
    """How exact values are that were estimated; empty where they are exact."""
    if not summary.judged:
        return {}
    episodes, half = (summary.judged.get(name, 0.0) for name in ("episodes", "largest_half_width_cost"))
    return {"episodes": f"{episodes:,.0f}", "half_width": f"{half:.3g}"}


def _alt(summary: Summary) -> str:
    finals = "; ".join(f"{agent.name} {agent.final_regret.mean():,.0f}" for agent in summary.agents)
    left = "expected reward" if summary.judged else "cumulative regret"
    return f"Curves of {left} and of expected cost with its limit. Mean final regret: {finals}."


def _limits(summary: Summary) -> str:
    return ("limit " if summary.cost_limits.size == 1 else "limits ") + ", ".join(f"{d:g}" for d in summary.cost_limits)


def certificate_sentences(summary: Summary) -> Iterable[str]:
    """Plain sentences for whatever the ``training`` entry holds."""
    training = summary.training
    if "tasks_sampled" in training and "cells" in training:
        seconds = f" This took {float(training['seconds']):.1f} seconds." if "seconds" in training else ""
        yield (
            f"Training drew {_count(training['tasks_sampled'], 'simulated task')} and sorted what it found into "
            f"{_count(training['cells'], 'cell')}, groups of similar tasks for which it knows what every policy earns "
            f"and costs.{seconds}"
        )
    if "uncovered_upper_bound" in training and "confidence" in training:
        yield _holdout(training)
    if "margin_failure_upper_bound" in training:
        yield (
            "In the same way, the safe policy lacks its promised distance to the limit in at most "
            f"{_percent(training['margin_failure_upper_bound'])} of all tasks of the family."
        )
    if "safe_margin" in training:
        yield f"That promised distance is {float(training['safe_margin']):.3g}, in units of cost per episode."


def _holdout(training: dict[str, Any] | Any) -> str:
    fresh = f"{_count(training['holdout'], 'fresh task')}" if "holdout" in training else "Fresh tasks"
    missed = f", and {training['uncovered']} of them fitted no cell" if "uncovered" in training else ""
    return (
        f"{fresh}, drawn only after everything was fixed, then put this to the test{missed}. With "
        f"{_percent(training['confidence'])} confidence, at most {_percent(training['uncovered_upper_bound'])} of all "
        "tasks of the family fit no cell. For a task that fits none, statements that rest on the cells do not apply."
    )


def _count(number: Any, noun: str) -> str:
    return f"{int(number):,} {noun}" + ("" if int(number) == 1 else "s")


def _percent(share: Any) -> str:
    return f"{100.0 * float(share):.3g}%"
