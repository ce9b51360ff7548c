"""One self-contained page about a deployment, drawn from its events alone, for readers who are not statisticians.

Events are those of a journal, in order: ``opened`` first, then ``asked``, ``told``, ``lost``, ``planned`` (the mixture w, upper bounds on its
expected costs, reasons), ``eliminated``, ``readmitted``, ``alarm`` and what people did. They are read once; what is kept does not grow with the
number of episodes. Curves are drawn over episodes in ask order, each as the largest value in a stretch and the last one, so that no excess is
hidden.

The page loads nothing and runs nothing (its own content policy forbids both), escapes every string of a journal, and shows no number that an
event does not hold.

Letters: J policies (0 is the safe one), I constraints, N cells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Protocol

from surefoot.errors import InvalidInput
from surefoot.report.curves import Curve, Mark, step_chart

__all__ = ["EventLike", "render"]

ROUTINE = frozenset({"asked", "told", "lost", "held"})
"""Kinds that come with every episode; they are counted, and shown only in the list of all events."""
_STOPS = frozenset({"paused", "resumed", "aborted"})
FIRST_ROWS, LAST_ROWS = 50, 450
"""Rows that a long table shows; the journal has the rest."""
THIN = "\u202f"
"""Between thousands."""
OPEN_ROWS = 20
"""Tables up to this length are not folded."""


class EventLike(Protocol):
    """What is read of an event.

    Attributes:
        seq: its number, from 1.
        at: wall-clock time, for people.
        kind: see the module's docstring.
        body: plain values.
    """

    @property
    def seq(self) -> int: ...
    @property
    def at(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def body(self) -> dict[str, Any]: ...


def render(
    events: Iterable[EventLike], *, policy_names: Mapping[int, str] | None = None, verified: str | None = None
) -> str:
    """The page.

    Args:
        events: all of a deployment's events, from the first.
        policy_names: names for people, by policy index.
        verified: what an audit of the same events found, in a sentence.

    Raises:
        InvalidInput: the first event does not open a deployment, or a body lacks what its kind needs.
    """
    story, seq = _Story(dict(policy_names or {})), 1
    try:
        for event in events:
            seq = event.seq
            story.take(event)
        if not story.opened:
            raise ValueError("there is none")
        seq = 1
        return _page(f"Deployment {story.opened['name']}", "\n".join(_sections(story, verified)))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"event {seq} must be as a deployment's journal holds it, got: {type(error).__name__} {error}; pass all events, verify the journal"
        ) from error


# ------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class _Row:
    """A line of a table of events; its words are found only if it is shown."""

    seq: int
    at: str
    episode: int
    kind: str
    body: dict[str, Any]


class _Table:
    """The first and the last rows of something that may be long."""

    def __init__(self) -> None:
        self.first: list[_Row] = []
        self.last: deque[_Row] = deque(maxlen=LAST_ROWS)
        self.length = 0

    def add(self, row: _Row) -> None:
        self.length += 1
        if len(self.first) < FIRST_ROWS:
            self.first.append(row)
        else:
            self.last.append(row)


@dataclass
class _Story:
    """What the page tells, collected event by event.

    Attributes:
        names: of policies.
        opened: body of the first event.
        plan: body of the last ``planned`` event.
        costs, weight, cells: curves over episodes asked: I of certified bounds, of the weight off the safe policy, of cells left.
        alarms, warnings: all of them.
        decisions, everything: tables.
    """

    names: dict[int, str]
    opened: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    asked: int = 0
    told: int = 0
    lost: int = 0
    cap: float = 1.0
    paused: str | None = None
    aborted: str | None = None
    seq: int = 0
    began: str = ""
    at: str = ""
    digest: str = ""
    costs: list[Curve] = field(default_factory=list)
    weight: Curve = field(default_factory=Curve)
    cells: Curve = field(default_factory=Curve)
    degraded: dict[str, Any] | None = None
    marks: list[Mark] = field(default_factory=list)
    alarms: list[_Row] = field(default_factory=list)
    warnings: list[_Row] = field(default_factory=list)
    decisions: _Table = field(default_factory=_Table)
    everything: _Table = field(default_factory=_Table)

    def take(self, event: EventLike) -> None:
        """One more event."""
        body, kind = event.body, str(event.kind)
        if not self.opened and kind != "opened":
            raise ValueError("the first event must open the deployment")
        self.seq, self.at, self.digest = int(event.seq), str(event.at), str(getattr(event, "digest", ""))
        {"opened": self._open, "asked": self._ask, "planned": self._plan}.get(kind, self._other(kind))(body)
        row = _Row(self.seq, self.at, self.asked, kind, body)
        self.everything.add(row)
        if kind not in ROUTINE:
            self.decisions.add(row)
        if kind in ("alarm", "aborted"):
            self.marks.append(Mark(self.asked, kind))
        if kind in ("alarm", "barred", "flagged", "noted", "degraded"):
            (self.alarms if kind == "alarm" else self.warnings).append(row)

    def _open(self, body: dict[str, Any]) -> None:
        if self.opened:
            raise ValueError("a deployment is opened once")
        self.opened, self.began = body, self.at
        if len(body["cost_names"]) != len(body["cost_limits"]):
            raise ValueError("constraints need a name and a limit each")
        self.costs = [Curve() for _ in body["cost_limits"]]
        self.cells.add(0, float(body["cells"]))

    def _ask(self, body: dict[str, Any]) -> None:
        self.asked = int(body["first"]) + len(body["draws"])

    def _plan(self, body: dict[str, Any]) -> None:
        self.plan = {**body, "weights": {int(j): float(w) for j, w in body["weights"].items()}}
        if len(body["bounds"]) != len(self.costs):
            raise ValueError("a plan bounds every constraint")
        for curve, bound in zip(self.costs, body["bounds"]):
            curve.add(self.asked, float(bound))
        self.weight.add(self.asked, 1.0 - self.plan["weights"].get(0, 0.0))
        self.cells.add(self.asked, float(body["cells_left"]))

    def _other(self, kind: str) -> Any:
        def change(body: dict[str, Any]) -> None:
            if kind == "told":
                self.told += len(body["ids"])
            elif kind == "lost":
                self.lost += len(body["ids"])
            elif kind == "capped":
                self.cap = float(body["weight"])
            elif kind == "paused":
                self.paused = str(body["reason"])
            elif kind == "resumed":
                self.paused = None
            elif kind == "aborted":
                self.aborted, self.paused = str(body["reason"]), None
            elif kind in ("degraded", "recovered"):
                self.degraded = body if kind == "degraded" else None
            elif kind == "held":
                if body["kind"] in _STOPS:  # the rest happens once more on recovery
                    self._other(body["kind"])(body["body"])
            elif kind in ("eliminated", "readmitted"):
                self.cells.add(self.asked, float(body["cells_left"]))

        return change

    def words(self, row: _Row) -> str:
        """An event in plain words."""
        words = _WORDS.get(row.kind)
        if words is not None:
            return str(words(row.body, self))
        return "; ".join(f"{name}: {row.body[name]}" for name in sorted(row.body))[:300]

    def policy(self, j: int) -> str:
        """How a policy is called."""
        named = self.names.get(j)
        plain = "the safe policy" if j == 0 else f"policy {j}"
        return f"{plain} ({named})" if named else plain


def _many(count: int, noun: str) -> str:
    return f"{_number(count)} {noun}" + ("" if count == 1 else "s")


def _number(count: int) -> str:
    return f"{count:,}".replace(",", THIN)


def _percent(share: float) -> str:
    if 0.0 < share < 0.001:
        return "below 0.1%"
    return f"{100.0 * share:.1f}".rstrip("0").rstrip(".") + "%"


def _ids(ids: Sequence[Any]) -> str:
    shown = ", ".join(str(k) for k in list(ids)[:6])
    return shown if len(ids) <= 6 else f"{shown} and {len(ids) - 6} more"


def _mixture(weights: Mapping[Any, float], story: _Story) -> str:
    parts = sorted(weights.items(), key=lambda item: -float(item[1]))
    shown = ", ".join(f"{_percent(float(w))} {story.policy(int(j))}" for j, w in parts[:6])
    return shown if len(parts) <= 6 else f"{shown} and {len(parts) - 6} more"


def _bounds(bounds: Sequence[float]) -> str:
    return ", ".join(f"{float(b):.4g}" for b in bounds)


def _asked_text(body: dict[str, Any], story: _Story) -> str:
    n = len(body["draws"])
    which = f"episode {body['first']}" if n == 1 else f"{n} episodes from {body['first']}"
    drawn = {j: body["draws"].count(j) / n for j in sorted(set(body["draws"]))}
    return f"{which}: {_mixture(drawn, story)}"


_WORDS: dict[str, Any] = {
    "opened": lambda body, story: (
        f"opened with {_many(int(body['cells']), 'cell')} and {_many(int(body['policies']), 'policy').replace('policys', 'policies')}"
    ),
    "asked": _asked_text,
    "told": lambda body, story: f"episodes {_ids(body['ids'])} reported",
    "lost": lambda body, story: f"episodes {_ids(body['ids'])} declared lost",
    "planned": lambda body, story: (
        f"{_mixture(body['weights'], story)}; certified cost at most {_bounds(body['bounds'])}"
        + (
            ""
            if body.get("waiting") is None
            else f"; waiting for approval: {_mixture(body['waiting']['weights'], story)}"
        )
    ),
    "eliminated": lambda body, story: f"cells {_ids(body['cells'])} refuted, {body['cells_left']} left",
    "readmitted": lambda body, story: f"cells {_ids(body['cells'])} put back, {body['cells_left']} left",
    "target": lambda body, story: str(body["text"]),
    "ramp": lambda body, story: str(body["text"]),
    "barred": lambda body, story: str(body["text"]),
    "noted": lambda body, story: str(body["text"]),
    "flagged": lambda body, story: str(body["text"]),
    "alarm": lambda body, story: str(body["text"]),
    "paused": lambda body, story: f"paused: {body['reason']}",
    "resumed": lambda body, story: "resumed",
    "capped": lambda body, story: f"at most {_percent(float(body['weight']))} off the safe policy from now on",
    "approved": lambda body, story: f"the plan of event {body['plan']} was approved",
    "aborted": lambda body, story: f"aborted: {body['reason']}",
    "degraded": lambda body, story: f"event {body['event']} cannot be followed: {body['why']}",
    "held": lambda body, story: f"kept until the journal can be followed again: {body['kind']}",
    "recovering": lambda body, story: "what was kept happens once more, under the safe policy",
    "recovered": lambda body, story: f"followed again; {_many(len(body['refused']), 'kept event')} refused",
}


# ------------------------------------------------------------------------------------------------- writing


def _sections(story: _Story, verified: str | None) -> Iterable[str]:
    opened = story.opened
    yield f"<header><h1>{_text(opened['name'])}</h1>"
    yield (
        f'<p class="soft">Deployment on {_text(opened["family"])}, opened {_when(story.began)}; as of event {_number(story.seq)}, '
        f"{_when(story.at)}.</p></header>"
    )
    yield from _state(story)
    yield _tiles(story)
    yield "<h2>What is deployed now</h2>"
    yield _deployed(story)
    yield _promise(story)
    yield from _charts(story)
    yield _spent(story)
    yield _alarms(story)
    yield _events(story)
    yield _reading(story)
    yield _origin(story, verified)


def _text(value: Any) -> str:
    """Escaped."""
    return escape(_clean(value))


def _clean(value: Any) -> str:
    """Without characters that would not print, or would reverse what follows."""
    return "".join(c if c.isprintable() or c == THIN else "\ufffd" for c in str(value))


def _when(at: str) -> str:
    """Wall-clock time to the second."""
    return f"<time>{_text(at[:19].replace('T', ' '))}</time>"


def _box(kind: str, heading: str, *sentences: str) -> str:
    text = "".join(f"<p>{sentence}</p>" for sentence in sentences)
    return f'<div class="box {kind}"><p><strong>{heading}</strong></p>{text}</div>'


def _state(story: _Story) -> Iterable[str]:
    for row in story.alarms:
        yield _box(
            "bad", "Alarm", _text(story.words(row)),
            f"Raised after {_many(row.episode, 'episode')}, {_when(row.at)}. Since then only the safe policy is handed out.",
        )  # fmt: skip
    if story.degraded is not None:
        yield _box(
            "bad", "Degraded", f"Event {_text(story.degraded['event'])} cannot be followed: {_text(story.degraded['why'])}",
            "Only the safe policy is handed out until somebody mends this and recovers the deployment. Reports are kept.",
        )  # fmt: skip
    if story.aborted is not None:
        yield _box("warn", "Aborted", _text(story.aborted), "Only the safe policy is handed out, for good.")
    if story.paused is not None:
        yield _box("warn", "Paused", _text(story.paused), "No episodes are handed out; reports are still taken.")
    waiting = story.plan.get("waiting")
    if waiting is not None:
        yield _box("warn", "A new plan waits for approval", _text(_mixture(waiting["weights"], story)) + ".")
    if story.cap < 1.0:
        yield _box("warn", "Capped", f"At most {_percent(story.cap)} of all episodes leave the safe policy.")
    if not story.alarms and story.aborted is None and story.paused is None and story.degraded is None:
        yield _box("good", "Running", "No alarm. Episodes are handed out and reports are taken.")


def _tiles(story: _Story) -> str:
    opened, plan = story.opened, story.plan
    pending = story.asked - story.told - story.lost
    tiles = [
        (_number(story.asked), "episodes handed out", f"{_number(story.told)} reported, {_number(pending)} pending")
    ]
    if story.lost:
        tiles[0] = (*tiles[0][:2], f"{tiles[0][2]}, {_number(story.lost)} lost")
    if plan:
        off = 1.0 - plan["weights"].get(0, 0.0)
        for name, bound, limit in zip(opened["cost_names"], plan["bounds"], opened["cost_limits"]):
            sure = "assumed, no longer certified; " if story.alarms else ""
            tiles.append(
                (f"{float(bound):.4g}", f"at most, expected {name} per episode", f"{sure}limit {float(limit):.4g}")
            )
        tiles.append((_percent(off), "of episodes run something else than the safe policy", ""))
        tiles.append((_number(int(plan["cells_left"])), "cells left", f"of {_number(int(opened['cells']))}"))
    items = "".join(
        f"<li><b>{_text(value)}</b><span>{_text(what)}</span><small>{_text(more)}</small></li>"
        for value, what, more in tiles
    )
    return f'<ul class="tiles">{items}</ul>'


SHADES = ("#009E73", "#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#D55E00")


def _deployed(story: _Story) -> str:
    """A bar of shares and a table with the reason of each."""
    if not story.plan:
        return "<p>Nothing has been planned yet.</p>"
    weights: dict[int, float] = story.plan["weights"]
    reasons = {int(j): str(text) for j, text in story.plan.get("reasons", {}).items()}
    order = sorted(weights, key=lambda j: -weights[j])
    color = {j: "#009E73" if j == 0 else SHADES[1 + k % 5] for k, j in enumerate(x for x in [0, *order] if x)} | {
        0: SHADES[0]
    }
    bar = "".join(f'<i style="flex:{weights[j]:.6f} 0 0;background:{color[j]}"></i>' for j in order)
    rows = "".join(
        f'<tr><th scope="row"><i class="dot" style="background:{color[j]}"></i>{_text(story.policy(j))}</th>'
        f'<td data-label="share of episodes">{_percent(weights[j])}</td><td class="words" data-label="why">{_text(reasons.get(j, ""))}</td></tr>'
        for j in order
    )
    return (
        "<p>Each episode runs one policy, drawn by lot with these shares. What is certified is this <strong>mixture</strong>, not the single "
        "draw; leaving out draws that one dislikes voids the certificate.</p>"
        f'<div class="bar" role="img" aria-label="{_text(_mixture(weights, story))}">{bar}</div>'
        f'<table><thead><tr><th scope="col">runs</th><th scope="col">share of episodes</th><th scope="col" class="words">why</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


RESTS_ON = {
    "cells": "the real task lies in one of the cells that training laid out",
    "envelope": "no policy costs more in reality than in the worst simulated cell, and the safe policy keeps its margin to the limit",
    "data": "the safe policy keeps its margin to the limit and no episode costs more than the declared ceiling. Nothing is assumed of the simulator",
}


def _promise(story: _Story) -> str:
    settings = story.opened["settings"]
    delta, trust = float(settings["delta"]), str(settings["trust"])
    rests = _text(RESTS_ON.get(trust, trust))
    if story.alarms:
        return _box(
            "bad", "What is promised", "Nothing any more: the alarm says that an assumption is false. The safe policy's cost is what was assumed, "
            "no longer certified.",
        )  # fmt: skip
    return _box(
        "good", "What is promised",
        f"With probability at least {_percent(1.0 - delta)}, no mixture that was ever deployed costs more per episode, on average, than the limits. "
        f"That holds if {rests}.",
        "The promise is about averages: a single episode can cost more than the limit.",
    )  # fmt: skip


def _charts(story: _Story) -> Iterable[str]:
    opened = story.opened
    last = max(story.asked, 1)
    until = story.alarms[0].episode if story.alarms else None
    faint = "" if until is None else " Since the alarm nothing is certified any more; the line is faint there."
    yield "<h2>Certified cost against the limit</h2>"
    yield (
        '<p class="soft">The expected cost of what was deployed was certified to be at most the solid line. It must stay at or below the '
        f"dashed line.{faint}</p>"
    )
    for name, limit, curve in zip(opened["cost_names"], opened["cost_limits"], story.costs):
        yield _chart(
            f"certified {name} per episode", curve, last, marks=story.marks, limit=float(limit), height=230, until=until
        )
    yield "<h2>What was learned</h2>"
    yield '<p class="soft">How many episodes leave the safe policy, and how many cells (groups of simulated tasks) are still possible.</p>'
    yield _chart("weight off the safe policy", story.weight, last, marks=story.marks, top=1.0, percent=True)
    yield _chart("cells left", story.cells, last, marks=story.marks, top=float(opened["cells"]))


def _chart(title: str, curve: Curve, last: int, **options: Any) -> str:
    """The same curve for wide and for narrow pages; only one of them is shown."""
    both = "".join(
        f'<div class="{kind}">{step_chart(_clean(title), curve, last, width=width, **options)}</div>'
        for kind, width in (("wide", 760), ("narrow", 356))
    )
    return f"<figure><figcaption>{_text(title)}</figcaption>{both}</figure>"


PLAINLY = {
    "elimination": "chance refutes the very cell that the real task lies in",
    "bounds": "chance makes a bound on the cost of some policy too low",
}


def _spent(story: _Story) -> str:
    opened = story.opened
    delta = float(opened["settings"]["delta"])
    rows = [(str(e["name"]), float(e["delta"]), PLAINLY.get(e["name"], str(e["purpose"]))) for e in opened["ledger"]]
    body = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td data-label="probability">{_percent(share)}</td>'
        f'<td class="words" data-label="what may go wrong">{_text(purpose)}</td></tr>'
        for name, share, purpose in [*rows, *_outside(opened)]
    )
    head = (
        '<th scope="col">part</th><th scope="col">probability</th><th scope="col" class="words">what may go wrong</th>'
    )
    return (
        f"<h2>What the error probability was spent on</h2><p>In all {_percent(delta)} may be spent: of 100 such deployments at most "
        f"{100.0 * delta:g}, on average, would ever break a limit. What stands beside is not part of it.</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _outside(opened: dict[str, Any]) -> Iterable[tuple[str, float, str]]:
    """Error probabilities beside delta."""
    settings = opened["settings"]
    if settings.get("monitor_delta") is not None:
        yield (
            "monitor, beside",
            float(settings["monitor_delta"]),
            "a false alarm, which costs performance and not safety",
        )
    if settings.get("ramp") and settings["trust"] != "data":
        yield (
            "simulation, beside",
            float(settings.get("monitor_delta", 0.0)),
            "an alarm that the safe policy does not do what simulation predicts, although it does; this costs performance and not safety",
        )
    if opened.get("returns_level") is not None:
        yield (
            "returns, beside",
            float(opened["returns_level"]),
            "a policy is played no more because it seems to return less than the safe one, although it does not; this costs performance too",
        )
    if settings["trust"] == "cells" and opened.get("uncovered_upper") is not None:
        yield (
            "coverage, beside", float(opened["uncovered_upper"]),
            f"a task of the family lies in no cell; this much at most, as {_many(int(opened['holdout']), 'fresh task')} showed after training",
        )  # fmt: skip


def _alarms(story: _Story) -> str:
    if not story.alarms and not story.warnings:
        return "<h2>Alarms</h2><p>None so far.</p>"
    shown = "<p>No alarm so far.</p>" if not story.alarms else _rows(story, story.alarms)
    more = (
        f"<h3>Warnings and notes</h3>{_folded(story, 'warnings and notes', story.warnings)}" if story.warnings else ""
    )
    return f"<h2>Alarms</h2>{shown}{more}"


def _events(story: _Story) -> str:
    routine = f"{_number(story.told)} reports and {_number(story.asked)} draws are left out here"
    return (
        f'<h2>What happened</h2><p class="soft">Decisions and instructions; {routine}.</p>'
        f"{_long(story, 'decisions and instructions', story.decisions)}<h3>All events</h3>{_long(story, 'events', story.everything, fold=True)}"
    )


def _long(story: _Story, label: str, table: _Table, *, fold: bool = False) -> str:
    omitted = table.length - len(table.first) - len(table.last)
    rows = [*table.first, *table.last]
    gap = FIRST_ROWS if omitted else None
    return _folded(story, label, rows, total=table.length, gap=gap, fold=fold)


def _folded(
    story: _Story, label: str, rows: list[_Row], *, total: int | None = None, gap: int | None = None, fold: bool = False
) -> str:
    """A table, in a drawer if it is long; ``gap`` is where rows were left out."""
    count = len(rows) if total is None else total
    if not fold and len(rows) <= OPEN_ROWS:
        return _rows(story, rows)
    said = f"{_number(count)} {label}"
    if gap is not None:
        said += f", the first {_number(gap)} and the last {_number(len(rows) - gap)} shown"
    return f"<details><summary>{_text(said)}</summary>{_rows(story, rows, gap)}</details>"


def _rows(story: _Story, rows: Sequence[_Row], gap: int | None = None) -> str:
    body = []
    for k, row in enumerate(rows):
        if k == gap:
            body.append('<tr class="gap"><td colspan="5">\u22ee rows left out; the journal has them all</td></tr>')
        body.append(
            f'<tr class="{_text(row.kind)}"><td data-label="event">{row.seq}</td><td data-label="time (UTC)">{_when(row.at)}</td>'
            f'<td data-label="after episodes">{_number(row.episode)}</td><td class="kind" data-label="kind">{_text(row.kind)}</td>'
            f'<td class="words" data-label="what">{_text(story.words(row))}</td></tr>'
        )
    head = "".join(
        f'<th scope="col"{style}>{title}</th>'
        for title, style in (
            ("event", ""), ("time (UTC)", ""), ("after episodes", ""), ("kind", ' class="kind"'), ("what", ' class="words"'),
        )
    )  # fmt: skip
    return f'<table class="log"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


GLOSSARY = (
    ("Policy", "A rule for acting. Policy 0, the safe policy, is the controller that runs the plant today; the others come from training."),
    ("Mixture", "The shares with which policies are drawn, one per episode."),
    ("Certified", "Proved from the plant's own reports and the stated assumptions, allowing for chance. Not a guess."),
    ("Cell", "A group of similar simulated tasks. The real task is taken to lie in one of them; reports refute the others."),
    ("Refuted", "The reports contradict a cell too strongly to be chance."),
    ("Pending", "Handed out and not yet reported. Until then such an episode counts as if it had cost the most possible."),
    ("Alarm", "An assumption is false. The safe policy runs from then on; find out what changed before starting a new deployment."),
)  # fmt: skip


def _reading(story: _Story) -> str:
    terms = "".join(f"<dt>{_text(term)}</dt><dd>{_text(text)}</dd>" for term, text in GLOSSARY)
    return f"<h2>How to read this</h2><dl>{terms}</dl>"


def _origin(story: _Story, verified: str | None) -> str:
    opened = story.opened
    settings = ", ".join(f"{name} {value}" for name, value in sorted(opened["settings"].items()) if value is not None)
    rows = [
        ("Policy set", f"<code>{_text(opened['policy_set'])}</code>"),
        ("What training verified", _text(opened.get("assumption", ""))),
        ("Settings", _text(settings)),
        ("Library", f"surefoot {_text(opened['version'])}"),
        ("Last event", f"number {_number(story.seq)}, digest <code>{_text(story.digest or 'not given')}</code>"),
        ("Audit", _text(verified or "not run for this page; the command is: surefoot deploy verify")),
    ]
    items = "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in rows if text)
    return f'<h2>Where this comes from</h2><dl class="origin">{items}</dl>'


STYLE = """
:root { color-scheme: light; --ink: #1a1a1a; --soft: #5a5a5a; --line: #dcdcdc; --warn: #b25000; --good: #00664a; --bad: #a3171f; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 52rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: #fff;
       font: 1rem/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .5rem; } h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
.soft, small { color: var(--soft); } time { white-space: nowrap; }
.box { border-left: .3rem solid var(--good); background: #eef7f4; padding: .7rem 1rem; margin: 1rem 0; overflow-wrap: anywhere; }
.box p { margin: .2rem 0; } .box.warn { border-color: var(--warn); background: #fdf3e7; }
.box.bad { border-color: var(--bad); background: #fcecec; }
.tiles { list-style: none; padding: 0; margin: 1.2rem 0; display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .7rem; }
.tiles li { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; overflow-wrap: anywhere;
  display: flex; flex-direction: column; }
.tiles b { font-size: 1.5rem; line-height: 1.2; font-variant-numeric: tabular-nums; } .tiles span { line-height: 1.3; }
.bar { display: flex; height: 1.6rem; border-radius: .3rem; overflow: hidden; margin: .6rem 0 .8rem; gap: 2px; }
.bar i { min-width: 2px; } .dot { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; margin-right: .5rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .5rem; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { border-bottom: 2px solid var(--ink); font-weight: 600; vertical-align: bottom; }
th:first-child, .words, .kind { text-align: left; } tbody th { font-weight: 600; } .words { overflow-wrap: anywhere; }
.log td:nth-child(2), .log td:nth-child(4) { white-space: nowrap; overflow-wrap: normal; } .log tr.alarm td { color: var(--bad); font-weight: 600; }
.log tr.aborted td, .log tr.paused td, .log tr.flagged td { color: var(--warn); } .gap td { text-align: center; color: var(--soft); }
details { margin: .5rem 0; } summary { cursor: pointer; padding: .35rem 0; font-weight: 600; }
figure { margin: 1rem 0; } figcaption { font-weight: 600; margin-bottom: .2rem; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; } .narrow { display: none; }
dt { font-weight: 600; margin-top: .6rem; } dd { margin: 0; overflow-wrap: anywhere; } code { font-size: .9em; overflow-wrap: anywhere; }
@media screen and (max-width: 44rem) {
  .wide { display: none; } .narrow { display: block; }
  .tiles { grid-template-columns: 1fr 1fr; } .tiles b { font-size: 1.25rem; } .tiles span { font-size: .9rem; }
  table, tbody, tr, td, tbody th { display: block; width: 100%; } thead { display: none; }
  tr { border: 1px solid var(--line); border-radius: .4rem; padding: .3rem .7rem; margin: .6rem 0; }
  td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .12rem 0; text-align: right; }
  td.words { display: block; text-align: left; } td.words:empty { display: none; } td.words::before { display: block; }
  tbody th { border: 0; padding: .12rem 0; } td::before { content: attr(data-label); color: var(--soft); text-align: left; flex: none; }
  .log td, .log td.words { display: inline; padding: 0 .4rem 0 0; } .log td.words { display: block; }
  .log td::before { content: none; } .log td:nth-child(1)::before { content: "event "; display: inline; }
  .log td:nth-child(3)::before { content: "after "; } .log td:nth-child(3)::after { content: " ep."; }
  .log td:nth-child(-n+3) { color: var(--soft); font-size: .85rem; } .log td.kind { display: block; font-weight: 600; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; } .wide { display: block !important; } .narrow { display: none !important; }
  h2, h3, figcaption { break-after: avoid; } figure, tr, .box, .tiles { break-inside: avoid; }
  .box, .bar i, .dot { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def _page(title: str, body: str) -> str:
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
