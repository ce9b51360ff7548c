"""What every section of the page about a deployment says; ``templates/deployment.html.j2`` lays it out.

Nothing here is escaped: that is the template's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surefoot.assumptions import ASSUMES
from surefoot.report.deployment.chart import share_chart, step_chart
from surefoot.report.deployment.drawing import DrawnCurve, drawn
from surefoot.report.deployment.model import FIRST_ROWS, EventRow, EventTable, ReportModel, certified
from surefoot.report.deployment.outcomes import SURE, coming, costs, gain, headline, learning
from surefoot.report.deployment.outlook import Forecast
from surefoot.report.deployment.wording import describe, mixture, per_episode, percent, plural, policy
from surefoot.report.pages import with_thin_spaces

__all__ = ["sections", "standing"]

OPEN_ROWS = 20
"""Tables up to this length are not folded."""
SAFE_SHADE, OTHERS = "shade0", "shade6"
SHADES = ("shade1", "shade2", "shade3", "shade4", "shade5")
"""Classes of the style sheet: of the safe policy, of the largest others, and of the rest."""

PLACES = (
    ("cost", "Cost"),
    ("gain", "Gain"),
    ("next", "Next"),
    ("now", "Deployed now"),
    ("promise", "Promise"),
    ("alarms", "Alarms"),
    ("events", "Events"),
    ("reading", "Words"),
)
"""Sections to jump to."""

MAY_GO_WRONG = {
    "elimination": "chance rejects the very cell that the real task lies in",
    "bounds": "chance makes a bound on the cost of some policy too low",
}


@dataclass(frozen=True)
class Statement:
    """A box: ``good``, ``warn`` or ``bad``, a heading and sentences."""

    kind: str
    heading: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Event:
    """An event as it is shown."""

    seq: int
    at: str
    episode: int
    kind: str
    words: str

    @property
    def after(self) -> str:
        """``100 episodes``."""
        return plural(self.episode, "episode")


@dataclass(frozen=True)
class Drawer:
    """A table of events; with a ``summary`` it is folded, and rows were left out before row ``gap``."""

    rows: tuple[Event, ...]
    summary: str = ""
    gap: int | None = None


@dataclass(frozen=True)
class Part:
    """A policy's part in the mixture that is deployed."""

    policy: str
    weight: float
    share: str
    look: str
    why: str
    start: float


def sections(
    model: ReportModel,
    verified: str | None,
    status: Mapping[str, Any] | None = None,
    forecast: Forecast | None = None,
    *,
    rows: int | None = None,
) -> dict[str, Any]:
    """Values for the template, section by section.

    Args:
        model: what the events tell.
        verified: what an audit found.
        status: of the deployment, for what its journal does not hold: ``next``, ``stage``.
        forecast: of how long it takes.
        rows: how many a long table shows; by default as many as are kept.

    Raises:
        ArithmeticError, AttributeError, LookupError, TypeError, ValueError: an event's body lacks what its kind needs.
    """
    opened = model.opened
    delta, seen = float(opened["settings"]["delta"]), learning(model)
    return {
        "places": PLACES,
        "title": f"Deployment {opened['name']}",
        "name": opened["name"],
        "family": opened["family"],
        "began": model.began,
        "seq": model.seq,
        "at": model.at,
        "alarms": _events(model, model.alarms),
        "state": tuple(_state(model)),
        "tiles": (*headline(model, seen), *_tiles(model)),
        "outcomes": tuple(costs(model, seen)),
        "gain": gain(model, seen),
        "sure": SURE,
        "covered": 0 if seen.now is None else seen.now.episodes,
        "coming": tuple(coming(model, status, forecast)),
        "mixture": tuple(_parts(model)),
        "mixture_words": mixture(model.plan["weights"], model.names) if model.plan else "",
        "promise": _promise(model),
        "certified": certified(opened),
        "rehearsed": model.rehearsed is not None,
        "bounds": tuple(_cost_charts(model)),
        "shares": _shares(model),
        "shares_key": tuple(_shares_key(model)),
        "learned": tuple(_learned_charts(model)),
        "delta": percent(delta),
        "of_hundred": f"{100.0 * delta:g}",
        "spent": (*_spent(opened), *_beside(opened)),
        "warnings": _warnings(model),
        "asked": model.asked,
        "told": model.told,
        "decisions": _drawer(model, "decisions and instructions", model.decisions, rows),
        "everything": _drawer(model, "events", model.everything, rows, fold=True),
        "policy_set": opened["policy_set"],
        "assumption": opened.get("assumption", ""),
        "settings": ", ".join(f"{k} {v}" for k, v in sorted(opened["settings"].items()) if v is not None),
        "version": opened["version"],
        "digest": model.digest,
        "verified": verified,
    }


def standing(model: ReportModel, status: Mapping[str, Any] | None) -> str:
    """State, stage and alarms in a few sentences that change only when one of them does."""
    found = [shown.heading for shown in _state(model)]
    stage = model.stage.get("stage") or (status or {}).get("stage")
    if stage and not any(heading.startswith("Stage") for heading in found):
        found.append(f"Stage: {stage}")
    found += [f"Alarm: {row.body['text']}" for row in model.alarms]
    return ". ".join(found) + "."


def _state(model: ReportModel) -> Iterator[Statement]:
    """What holds now, alarms apart; the most serious first."""
    if model.degraded is not None:
        yield Statement(
            "bad", "Degraded",
            (
                f"Event {model.degraded['event']} cannot be followed: {model.degraded['why']}",
                "Only the safe policy is handed out until somebody mends this and recovers the deployment. Reports are kept.",
            ),
        )  # fmt: skip
    if model.aborted is not None:
        yield Statement("warn", "Aborted", (model.aborted, "Only the safe policy is handed out, for good."))
    if model.paused is not None:
        yield Statement("warn", "Paused", (model.paused, "No episodes are handed out; reports are still taken."))
    if model.left is not None:
        yield Statement(
            "warn", "Outside the rehearsed protocol",
            (
                f"{model.left.body['text']}.",
                f"Since {plural(model.left.episode, 'episode')} were handed out, for good. What is deployed now rests on real costs alone.",
            ),
        )  # fmt: skip
    elif model.rehearsed is not None:
        yield Statement(
            "good", "Used as rehearsed", (f"The protocol: {model.rehearsed.get('protocol', 'not recorded')}.",)
        )
    waiting = model.plan.get("waiting")
    if waiting is not None:
        words = mixture(waiting["weights"], model.names)
        yield Statement("warn", "A new plan waits for approval", (f"{words}.",))
    if model.cap < 1.0:
        yield Statement("warn", "Capped", (f"At most {percent(model.cap)} of all episodes leave the safe policy.",))
    if model.stage and not model.alarms and model.aborted is None and model.degraded is None:
        name, text, until = (str(model.stage[part]) for part in ("stage", "text", "until"))
        yield Statement("good", f"Stage: {name}", (f"{text[:1].upper()}{text[1:]}.", f"It ends when {until}."))
    if not model.alarms and model.aborted is None and model.paused is None and model.degraded is None:
        yield Statement("good", "Running", ("No alarm. Episodes are handed out and reports are taken.",))


def _expected(name: str) -> str:
    found = per_episode(name)
    return found if found == name else f"expected {found}"


def _tiles(model: ReportModel) -> Iterator[tuple[str, str, str]]:
    """(number, what it is, what belongs to it)."""
    opened, plan = model.opened, model.plan
    pending = model.asked - model.told - model.lost
    more = f"{with_thin_spaces(model.told)} reported, {with_thin_spaces(pending)} pending"
    lost = f", {with_thin_spaces(model.lost)} lost" if model.lost else ""
    before = f"{plural(model.logged, 'logged episode')} of the safe policy before; " if model.logged else ""
    yield with_thin_spaces(model.asked), "episodes handed out", before + more + lost
    if not plan:
        return
    for name, bound, limit in zip(opened["cost_names"], plan["bounds"], opened["cost_limits"]):
        sure = "assumed, no longer certified; " if model.alarms else ""
        sure = "by the belief, which proves nothing; " if plan.get("belief") else sure
        sure = sure if certified(opened) else "a ceiling, not certified; "
        yield f"{float(bound):.4g}", f"at most, {_expected(name)}", f"{sure}limit {float(limit):.4g}"
    off = 1.0 - plan["weights"].get(0, 0.0)
    yield percent(off), "of episodes run something else than the safe policy", ""
    yield with_thin_spaces(int(plan["cells_left"])), "cells left", f"of {with_thin_spaces(int(opened['cells']))}"


def _parts(model: ReportModel) -> Iterator[Part]:
    """The largest share first."""
    if not model.plan:
        return
    weights: dict[int, float] = model.plan["weights"]
    reasons = {int(j): str(text) for j, text in model.plan.get("reasons", {}).items()}
    shades, start = _shades(model), 0.0
    for j in sorted(weights, key=lambda j: -weights[j]):
        look = shades.get(j, OTHERS)
        yield Part(policy(j, model.names), weights[j], percent(weights[j]), look, reasons.get(j, ""), start)
        start += weights[j]


def _shades(model: ReportModel) -> dict[int, str]:
    """Policy to class: the safe policy, and those that were deployed most; others share one colour, in the bar and over time."""
    total: dict[int, float] = {}
    for _, weights in model.mixtures.points:
        for j, weight in weights.items():
            total[j] = total.get(j, 0.0) + weight
    now: dict[int, float] = model.plan.get("weights", {})
    order = sorted((j for j in total if j != 0), key=lambda j: (-now.get(j, 0.0), -total[j], j))
    return {0: SAFE_SHADE, **dict(zip(order, SHADES))}


def _promise(model: ReportModel) -> Statement:
    settings = model.opened["settings"]
    if not certified(model.opened):
        return Statement(
            "bad", "What is promised",
            (
                f"Nothing: agent {settings['agent']} chooses, and it is not surefoot's own. The lines below are ceilings, not certificates. A cost "
                "above its ceiling and the monitor, on real costs, return to the safe policy.",
            ),
        )  # fmt: skip
    delta, trust = float(settings["delta"]), str(settings["trust"])
    if model.alarms:
        return Statement(
            "bad", "What is promised",
            (
                "Nothing any more: the alarm says that an assumption is false. The safe policy's cost is what was assumed, "
                "no longer certified.",
            ),
        )  # fmt: skip
    if model.rehearsed is not None:
        return _rehearsed_promise(model, model.rehearsed, delta)
    return Statement(
        "good", "What is promised",
        (
            f"With probability at least {percent(1.0 - delta)}, no mixture that was ever deployed costs more per episode, on average, than the "
            f"limits. That holds if {ASSUMES.get(trust) or model.opened.get('assumes', trust)}.",
            "The promise is about averages: a single episode can cost more than the limit.",
        ),
    )  # fmt: skip


def _rehearsed_promise(model: ReportModel, found: dict[str, Any], delta: float) -> Statement:
    """The rehearsal's; and what holds after the deployment left its protocol."""
    sentences = []
    if "plants" in found:
        excess = f", by at most {percent(float(found['excess']))} of it" if found["violating"] else ""
        sentences = [
            f"This whole way of learning was rehearsed on {plural(int(found['plants']), 'fresh simulated plant')}; "
            f"{with_thin_spaces(int(found['violating']))} of them broke a limit at some time{excess}. So, at confidence "
            f"{percent(1.0 - float(found['error']))}, fewer than {percent(float(found['upper']))} of such deployments do.",
            "That holds if the real plant is like those that were simulated, and used as rehearsed. It is a promise about the average plant, not "
            "about each one.",
        ]
    if model.left is not None:
        sentences.append(
            f"It covers what was deployed until the protocol was left. From then on, with probability at least {percent(1.0 - delta)}, no mixture "
            f"costs more per episode, on average, than the limits, if {ASSUMES['data']}."
        )
    sentences.append("The promise is about averages: a single episode can cost more than the limit.")
    return Statement("good" if model.left is None else "warn", "What is promised", tuple(sentences))


def _cost_charts(model: ReportModel) -> Iterator[DrawnCurve]:
    until = model.alarms[0].episode if model.alarms else None
    opened = model.opened
    for name, limit, curve in zip(opened["cost_names"], opened["cost_limits"], model.costs):
        what = "certified" if certified(opened) else "ceiling, not certified:"
        what = what if model.rehearsed is None else "expected"
        title = f"{what} {per_episode(name)}"
        yield drawn(model, title, step_chart, curve, limit=float(limit), height=180, until=until)


def _learned_charts(model: ReportModel) -> Iterator[DrawnCurve]:
    yield drawn(model, "cells left", step_chart, model.cells, top=float(model.opened["cells"]))


def _shares(model: ReportModel) -> DrawnCurve:
    """Mixtures over time, the safe policy at the bottom."""
    shades = _shades(model)
    looks = [SAFE_SHADE, *SHADES, OTHERS]
    points = []
    for at, weights in model.mixtures.points:
        found = dict.fromkeys(looks, 0.0)
        for j, weight in weights.items():
            found[shades.get(j, OTHERS)] += weight
        points.append((at, list(found.values())))
    said = mixture(model.plan["weights"], model.names) if model.plan else "nothing yet"
    off = [value for _, value in model.weight.points]
    spoken = f"shares over {model.asked} episodes, now: {said}"
    spoken += f"; off the safe policy between {percent(min(off))} and {percent(max(off))}" if off else ""
    return drawn(model, "shares of episodes, over time", share_chart, points, looks, spoken=spoken)


def _shares_key(model: ReportModel) -> Iterator[tuple[str, str]]:
    shades, shown = _shades(model), {j for _, weights in model.mixtures.points for j in weights}
    yield from ((look, policy(j, model.names)) for j, look in shades.items() if j in shown)
    if shown - set(shades):
        yield OTHERS, "all others"


def _spent(opened: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(part, probability, what may go wrong) of delta."""
    for entry in opened["ledger"]:
        purpose = MAY_GO_WRONG.get(entry["name"], str(entry["purpose"]))
        yield str(entry["name"]), percent(float(entry["delta"])), purpose


def _beside(opened: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The same for error probabilities that are not part of delta."""
    settings = opened["settings"]
    monitor = settings.get("monitor_delta")
    if monitor is not None:
        yield "monitor, beside", percent(float(monitor)), "a false alarm, which costs performance and not safety"
    every = float(settings.get("false_alarm_every", 0.0))
    if every:
        yield (
            "changes, beside",
            f"once in {every:,.0f} episodes",
            "a false alarm that the plant has changed, on average at most so often; this costs performance and not safety",
        )
    every = float(settings.get("false_change_every", 0.0))
    if every:
        yield (
            "outcomes, beside",
            f"once in {every:,.0f} episodes",
            "a false alarm that a policy's outcomes have changed, on average at most so often; this costs performance and not safety",
        )
    if settings.get("ramp") and settings["trust"] != "data":
        yield (
            "simulation, beside",
            percent(float(settings.get("monitor_delta", 0.0))),
            "an alarm that the safe policy does not do what simulation predicts, although it does; this costs performance and not safety",
        )
    if opened.get("returns_level") is not None:
        yield (
            "returns, beside",
            percent(float(opened["returns_level"])),
            "a policy is played no more because it seems to return less than the safe one, although it does not; this costs performance too",
        )
    found = opened.get("rehearsed")
    if found is not None and "upper" in found:
        yield (
            "rehearsal, beside",
            percent(float(found["upper"])),
            f"while it is used as rehearsed, the deployment breaks a limit; this much at most on the average plant, as "
            f"{plural(int(found['plants']), 'rehearsal')} showed at error {percent(float(found['error']))}",
        )
    if found is not None and found["surprise"] is not None:
        yield (
            "surprise, beside",
            percent(float(found.get("surprise_alarm", 0.0))),
            f"an alarm that the plant is not like those that were simulated (surprise above {float(found['surprise']):.3g}), although it is",
        )
    if settings["trust"] == "cells" and opened.get("uncovered_upper") is not None:
        shown = plural(int(opened["holdout"]), "fresh task")
        yield (
            "coverage, beside",
            percent(float(opened["uncovered_upper"])),
            f"a task of the family lies in no cell; this much at most, as {shown} showed after training",
        )


def _warnings(model: ReportModel) -> Drawer:
    rows = _events(model, model.warnings)
    return Drawer(rows, f"{with_thin_spaces(len(rows))} warnings and notes" if len(rows) > OPEN_ROWS else "")


def _drawer(model: ReportModel, label: str, table: EventTable, most: int | None, *, fold: bool = False) -> Drawer:
    """A table, folded if it is long or ``fold`` says so; of more than ``most`` rows the last ones."""
    kept = [*table.first, *table.last]
    shown = kept if most is None else kept[-most:]
    rows, omitted = _events(model, shown), table.length > len(shown)
    if not fold and not omitted and len(rows) <= OPEN_ROWS:
        return Drawer(rows)
    said = f"{with_thin_spaces(table.length)} {label}"
    if omitted and most is not None:
        return Drawer(rows, f"{said}, the last {with_thin_spaces(len(rows))} shown")
    if omitted:
        said += f", the first {FIRST_ROWS} and the last {with_thin_spaces(len(rows) - FIRST_ROWS)} shown"
    return Drawer(rows, said, FIRST_ROWS if omitted else None)


def _events(model: ReportModel, rows: Sequence[EventRow]) -> tuple[Event, ...]:
    return tuple(
        Event(row.seq, row.at, row.episode, row.kind, describe(row.kind, row.body, model.names)) for row in rows
    )
