"""One self-contained page about a run, for readers who are not statisticians.

The page carries its pictures in itself, loads nothing, runs nothing (its own content policy forbids both), and escapes
every string that a log holds. Numbers are those of :mod:`surefoot.report.table`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import Any

from surefoot.report.figures import figure1, figure2, figure4
from surefoot.report.records import AgentRecord, Summary, read_summary
from surefoot.report.table import header, row

__all__ = ["render_html", "write_report"]

STYLE = """
:root { color-scheme: light; --ink: #1a1a1a; --soft: #5a5a5a; --line: #dcdcdc; --warn: #9a3b00; --good: #00664a; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: #fff;
       font: 1rem/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; }
p, li, dd { max-width: 46rem; } .soft { color: var(--soft); }
.box { border-left: .3rem solid var(--good); background: #eef7f4; padding: .7rem 1rem; margin: 1rem 0;
       max-width: 48rem; }
.box p { margin: .2rem 0; } .box.warn { border-color: var(--warn); background: #fdf1ea; }
.scroll { overflow-x: auto; } .scroll img { display: block; width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { text-align: right; padding: .4rem .6rem; border-bottom: 1px solid var(--line); vertical-align: bottom; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; font-weight: 600; white-space: normal; overflow-wrap: anywhere; }
thead th { border-bottom: 2px solid var(--ink); font-weight: 600; }
th:first-child { min-width: 13rem; }
tr.broke td.mark { color: var(--warn); font-weight: 700; }
dt { font-weight: 600; margin-top: .6rem; } dd { margin: 0; } code { font-size: .92em; overflow-wrap: anywhere; }
@media (max-width: 44rem) {
  table, tbody, tr, td { display: block; width: 100%; } thead { display: none; }
  tr { border: 1px solid var(--line); border-radius: .4rem; padding: .3rem .7rem; margin: .7rem 0; }
  td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .15rem 0; }
  td::before { content: attr(data-label); color: var(--soft); text-align: left; }
  td:first-child { font-size: 1.05rem; } td:first-child::before { content: none; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  .scroll { overflow: visible; } .scroll img { min-width: 0 !important; }
  h2 { break-after: avoid; } figure, tr, .box { break-inside: avoid; }
}
"""

GLOSSARY = (
    (
        "Task",
        "One world the agents are tested in. They are told that it comes from a known family, not which one it is.",
    ),
    (
        "Regret",
        "Reward given up, over all episodes together, compared with the best policy that respects the limit in that "
        "task. Smaller is better. Below zero is no achievement: it takes a policy that breaks the limit.",
    ),
    (
        "Violating episode",
        "An episode whose policy would, on average, cost more than the limit in the real task. This is computed "
        "exactly, not estimated from what happened to occur.",
    ),
    (
        "Worst cost - limit",
        "How far the costliest policy ever used lay above the limit (+) or stayed below it (-).",
    ),
    ("Final weight", "How often, at the end, the agent plays something other than its initial safe policy."),
)

JUDGED_GLOSSARY = {
    "Regret": "Reward given up, over all episodes together, compared with the best mixture of the known policies that respects the limit in "
    "that task. Smaller is better.",
    "Violating episode": "An episode whose policy would, on average, cost more than the limit in the real task, as estimated from "
    "{episodes:,.0f} fresh episodes of every policy that no agent ever saw (costs to within {largest_half_width_cost:.3g}).",
}
"""What these mean where no exact values are known."""

KNOWN_AGENTS = {
    "oracle": "Knows the real task and plays its best policy within the limit: a yardstick, not a rival.",
    "always-safe": "Plays the initial safe policy for ever and learns nothing.",
    "robust-fixed": "Plays for ever the policy that is best for one unfavourable task, chosen beforehand.",
    "safe-pce": "The published method: mixes its best guess with the safe policy and moves towards the guess.",
    "pce": "The published method without its safety part: plays its best guess at once.",
    "optpess-lp": "Learns the transition law; plays what a pessimistic cost allows (Liu et al. 2021).",
    "dope": "The same with a plausible law chosen in its favour (Bura et al. 2022).",
    "dope-plus": "The same with sharper error bounds, here with constants of our own (Yu et al. 2025).",
    "lb-sgd": "Follows the gradient of the return behind a barrier at the limit (Ni and Kamgarpour 2025).",
    "safe-meta-rl": "Adapts a policy trained on many tasks in closed-form steps that guard the limit (Xu and Zhu 2025).",
    "meta-srl": "Adapts such a policy and steps back when the limit is exceeded: episodes above it are expected (Khattar et al. 2023).",
    "certified": "Plays only mixtures that it can certify to respect the limit, with the stated error probability.",
}


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


def render_html(summary: Summary, pictures: dict[str, bytes]) -> str:
    """The page; ``pictures`` maps ``figure1``, ``figure2`` and ``figure4``, as far as they exist, to PNG files' contents."""
    panels = 1 + summary.cost_limits.size
    name = summary.experiment[:1].upper() + summary.experiment[1:]
    distinct, runs = summary.distinct_tasks, len(summary.tasks)
    title = f"{name}: {len(summary.agents)} agents on {_count(distinct, 'unseen task')}"
    met = f" Every task is met {runs / distinct:g} times." if runs > distinct else ""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{summary.episodes:,} episodes per task.{met} Seed {summary.seed}.</p>',
        _verdict(summary),
        _assumptions(summary),
        _figure(pictures, "figure2", "Learning on the real task", _alt(summary), _caption(summary), panels),
        _figure(pictures, "figure4", "Learning on the real task", _alt(summary), _caption(summary), panels),
        "<h2>Every agent in numbers</h2>",
        _table(summary),
        _agents(summary),
        "<h2>How to read this</h2>",
        _definitions(_glossary(summary)),
        _certificate(summary),
        _figure(pictures, "figure1", "The family of tasks", FIGURE1_ALT, FIGURE1_CAPTION, FIGURE1_PANELS),
    ]
    return _page(title, "\n".join(part for part in parts if part))


def _glossary(summary: Summary) -> Iterable[tuple[str, str]]:
    for term, text in GLOSSARY:
        judged = JUDGED_GLOSSARY.get(term) if summary.judged else None
        yield (
            term,
            judged.format(**{"episodes": 0.0, "largest_half_width_cost": 0.0, **summary.judged}) if judged else text,
        )


PANEL_WIDTH = 26  # rem below which a panel scrolls sideways instead of shrinking
PAGE_WIDTH = 66  # rem between the margins of the style above
FIGURE1_PANELS = 2  # as wide as two; its grids are narrow
FIGURE1_ALT = "Grids with arrows showing optimal policies, and a plot of the best achievable value against the noise."
FIGURE1_CAPTION = (
    "With more noise moves go astray more often, the best policy keeps further away from the costly cells, and less "
    "can be earned within the limit."
)


def _page(title: str, body: str) -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _picture(path: Path, draw: Callable[[Path], Path]) -> bytes:
    return (path if path.exists() else draw(path.parent)).read_bytes()


def _figure(pictures: dict[str, bytes], name: str, heading: str, alt: str, caption: str, panels: int) -> str:
    if name not in pictures:
        return ""
    source = "data:image/png;base64," + b64encode(pictures[name]).decode("ascii")
    width = f"min-width: {min(PANEL_WIDTH * panels, PAGE_WIDTH)}rem"
    image = f'<div class="scroll"><img style="{width}" src="{source}" alt="{escape(alt)}"></div>'
    return (
        f'<h2>{escape(heading)}</h2>\n<figure style="margin:0">{image}\n'
        f'<figcaption class="soft">{escape(caption)}</figcaption></figure>'
    )


def _verdict(summary: Summary) -> str:
    """Who stayed within the limit and who did not."""
    kept = [_name(agent) for agent in summary.agents if not agent.tasks_violated]
    broke = [f"{_name(agent)} ({_breach(summary, agent)})" for agent in summary.agents if agent.tasks_violated]
    boxes = [("", "Within the limit in every episode:", kept), (" warn", "Above the limit at some time:", broke)]
    return "\n".join(
        f'<div class="box{kind}"><p><strong>{heading}</strong> {", ".join(names)}.</p></div>'
        for kind, heading, names in boxes
        if names
    )


def _breach(summary: Summary, agent: AgentRecord) -> str:
    episodes = f"{agent.violating_episodes.sum():,.0f} of {summary.episodes * len(summary.tasks):,} episodes"
    runs = "task" if summary.distinct_tasks == len(summary.tasks) else "run"
    return f"on {agent.tasks_violated} of {_count(len(summary.tasks), runs)}, in {episodes}"


def _assumptions(summary: Summary) -> str:
    """What is known about the assumptions that the guarantees need; a warning if one is known to fail."""
    if not summary.assumptions:
        return ""
    fails = summary.assumptions_hold is False
    heading = "Warning about the assumptions" if fails else "Assumptions"
    text = "".join(f"<p>{escape(sentence)}</p>" for sentence in summary.assumptions)
    return f'<div class="box{" warn" if fails else ""}"><p><strong>{heading}</strong></p>{text}</div>'


def _table(summary: Summary) -> str:
    titles = header(summary)
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "\n".join(_row(summary, agent, titles) for agent in summary.agents)
    last = max(agent.last_checkpoint for agent in summary.agents)
    caption = f'<p class="soft">Regret after {last:,} episodes; {_limits(summary)}.{_published(summary)}</p>'
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n{caption}"


def _row(summary: Summary, agent: AgentRecord, titles: list[str]) -> str:
    cells = "".join(
        f'<td data-label="{escape(title)}"{_mark(title)}>{escape(cell)}</td>'
        for title, cell in zip(titles, row(summary, agent))
    )
    state = ' class="broke"' if agent.tasks_violated else ""
    return f"<tr{state}>{cells}</tr>"


def _mark(title: str) -> str:
    return ' class="mark"' if title in ("violating episodes", "worst cost - limit", "tasks violated") else ""


def _published(summary: Summary) -> str:
    return " Published: mean regret reported in the literature for the same setting." if summary.published else ""


def _agents(summary: Summary) -> str:
    """Who the agents are, and what they say about their own guarantee."""
    items = "".join(f"<dt>{_name(agent)}</dt><dd>{escape(_description(agent))}</dd>" for agent in summary.agents)
    return f"<h2>The agents</h2>\n<dl>{items}</dl>"


def _description(agent: AgentRecord) -> str:
    """What the first part of its name stands for, then its own notes."""
    known = KNOWN_AGENTS.get(agent.name.partition(":")[0], "")
    notes = f"It says of itself: {'; '.join(agent.notes)}." if agent.notes else ""
    return f"{known} {notes}".strip() or "No description."


def _certificate(summary: Summary) -> str:
    """The training phase and what its hold-out sample proves, in plain words."""
    sentences = list(certificate_sentences(summary))
    if not sentences:
        return ""
    text = "\n".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return f"<h2>What training has established</h2>\n{text}"


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


def _caption(summary: Summary) -> str:
    left = "expected reward of the policy in use" if summary.judged else "reward given up since the first episode"
    return (
        f"Left: {left}. Right: what the policy in use costs on average; it must not "
        f"exceed the dashed {_limits(summary)}. Lines are means over the tasks, bands reach from the smallest to the "
        "largest."
    )


def _alt(summary: Summary) -> str:
    finals = "; ".join(f"{agent.name} {agent.final_regret.mean():,.0f}" for agent in summary.agents)
    left = "expected reward" if summary.judged else "cumulative regret"
    return f"Curves of {left} and of expected cost with its limit. Mean final regret: {finals}."


def _definitions(pairs: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in pairs) + "</dl>"


def _limits(summary: Summary) -> str:
    return ("limit " if summary.cost_limits.size == 1 else "limits ") + ", ".join(f"{d:g}" for d in summary.cost_limits)


def _name(agent: AgentRecord) -> str:
    return f"<code>{escape(agent.name)}</code>"


def _count(number: Any, noun: str) -> str:
    return f"{int(number):,} {noun}" + ("" if int(number) == 1 else "s")


def _percent(share: Any) -> str:
    return f"{100.0 * float(share):.3g}%"
