"""What it cost, what was gained, how sure that is, and what comes next: what the owner of a plant asks first.

Measured means and intervals are those of :mod:`.measured`. Predictions come from the policy set: for the average mixture ``wbar`` that was deployed,
``[min_c lower_c wbar, max_c upper_c wbar]`` over the cells c that are not rejected. Nothing here is escaped: that is the template's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.report.deployment.chart import Point, band_chart
from surefoot.report.deployment.drawing import DrawnCurve, drawn
from surefoot.report.deployment.measured import ERROR, Estimate, Settled
from surefoot.report.deployment.outlook import Forecast
from surefoot.report.deployment.wording import per_episode, percent, plural
from surefoot.report.pages import THIN, with_thin_spaces

if TYPE_CHECKING:
    from surefoot.arrays import FloatArray
    from surefoot.policyset.schema import PolicySet
    from surefoot.report.deployment.model import ReportModel

__all__ = ["SURE", "Line", "Outcome", "coming", "costs", "gain", "headline", "learning"]

MINUS = "\u2212"
SURE = percent(1.0 - ERROR)


@dataclass(frozen=True)
class Line:
    """A row of a table: what it is about, a mean, an interval, and the episodes behind them."""

    what: str
    value: str
    between: str
    episodes: str
    look: str = ""


@dataclass(frozen=True)
class Outcome:
    """A section: a heading, a verdict (its kind, as of boxes, and sentences), a table, a picture and what its lines are.

    Attributes:
        key: (class, words) of the lines in the picture.
    """

    name: str
    kind: str
    verdict: tuple[str, ...]
    lines: tuple[Line, ...]
    chart: DrawnCurve
    key: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Seen:
    """What is known now, and how it came about.

    Attributes:
        now: the latest; ``None`` before the first report.
        history: of earlier moments, in order.
    """

    now: Settled | None
    history: tuple[Settled, ...]


def learning(model: ReportModel) -> Seen:
    """The measured outcomes of a deployment, at the points of its curves and now."""
    measured = model.outcomes
    latest = measured.now()
    points = [p for p in measured.points if latest is None or p.end < latest.end]
    found = measured.about([*points, *(() if latest is None else (latest,))])
    return Seen(found[-1] if latest is not None else None, tuple(s for s in found if s.costs[0].count))


# ------------------------------------------------------------------------------------------------------------- what it cost


def costs(model: ReportModel, seen: Seen) -> Iterator[Outcome]:
    """A section for every constraint."""
    opened = model.opened
    for i, (name, limit) in enumerate(zip(opened["cost_names"], opened["cost_limits"])):
        predicted = _predicted(model, seen.now, 1 + i)
        kind, verdict = _cost_verdict(model, seen.now, i, str(name), float(limit))
        points = [_point(s.costs[i], s.episodes, (("proved", s.certified[i]),)) for s in seen.history]
        chart = drawn(
            model, f"{per_episode(str(name))}, averaged so far", band_chart, points, limit=float(limit), floor=0.0
        )  # fmt: skip
        key = [
            ("curve", "measured, averaged over all episodes so far"),
            ("band", f"where its expected value lies, {SURE}"),
        ]
        key += [("proved", _bound_words(model)), ("limit", "limit")]
        yield Outcome(
            str(name), kind, verdict, tuple(_cost_lines(model, seen.now, i, float(limit), predicted)), chart, tuple(key)
        )


def _each(name: str) -> str:
    return " per episode" if per_episode(name) != name else ""


def _cost_verdict(
    model: ReportModel, now: Settled | None, i: int, name: str, limit: float
) -> tuple[str, tuple[str, ...]]:
    if now is None:
        return "", ("Nothing was reported yet.",)
    found = now.costs[i]
    if found.low is None or found.high is None:
        return "warn", (
            f"On average {name} was {_number(found.mean)}{_each(name)}; limit {limit:.4g}.",
            _no_interval(model),
        )
    about = (
        f"On average {name} was {_number(found.mean)}{_each(name)}; its expected value lies between {_number(found.low)} and {_number(found.high)}, "
        f"with {SURE} confidence."
    )
    if found.high <= limit:
        said = f"All of that is within the limit of {limit:.4g}: real reports alone show that what was deployed kept it on average."
        return "good", (about, said)
    if found.low > limit:
        said = f"All of that is above the limit of {limit:.4g}: with {SURE} confidence, what was deployed has cost too much on average."
        return "bad", (about, said)
    said = (
        f"The limit of {limit:.4g} is inside: real reports alone cannot tell yet on which side of it the average lies."
    )
    more = "The promise below does not rest on this average alone." if model.promises else ""
    return "", (about, f"{said} {more}".strip())


def _cost_lines(
    model: ReportModel, now: Settled | None, i: int, limit: float, predicted: Predicted | None
) -> Iterator[Line]:
    if now is not None:
        yield _measured("deployed, measured", now.costs[i], None if predicted is None else predicted.deployed)
        yield _measured("safe policy, measured", now.safe_costs[i], None if predicted is None else predicted.safe)
    if predicted is not None:
        yield from predicted.lines
    if now is not None:
        yield Line(_bound_words(model), f"{now.certified[i]:.4g}", "", _count(now.episodes))
    yield Line("limit", f"{limit:.4g}", "", "")


def _bound_words(model: ReportModel) -> str:
    if not model.promises:
        return "assumed at most, averaged"
    return "expected at most by the belief, averaged" if model.rehearsed is not None else "certified at most, averaged"


# ---------------------------------------------------------------------------------------------------------- what was gained


def gain(model: ReportModel, seen: Seen) -> Outcome:
    """The return earned, against the safe policy's."""
    now, predicted = seen.now, _predicted(model, seen.now, 0)
    points = [_point(s.reward, s.episodes, _own(s)) for s in seen.history]
    zone = None if predicted is None else predicted.safe
    chart = drawn(model, "return per episode, averaged so far", band_chart, points, zone=zone)
    key = [("curve", "earned, averaged over all episodes so far"), ("band", f"where its expected value lies, {SURE}")]
    if any(point.lines for point in points):
        key.append(("own", "the safe policy's own episodes"))
    if zone is not None:
        key.append(("zone", "predicted for the safe policy"))
    kind, verdict = _gain_verdict(model, now)
    return Outcome("return", kind, verdict, tuple(_gain_lines(now, predicted)), chart, tuple(key))


def _own(found: Settled) -> tuple[tuple[str, float], ...]:
    return () if found.safe_reward.mean is None else (("own", found.safe_reward.mean),)


def _gain_verdict(model: ReportModel, now: Settled | None) -> tuple[str, tuple[str, ...]]:
    if now is None:
        return "", ("Nothing was reported yet.",)
    if not now.weights[1:].any():
        return "", (
            "Only the safe policy has been handed out so far, so that nothing can have been gained or lost yet.",
        )
    found = now.gain
    if found.mean is None:
        return "", ("The safe policy has no episode of its own yet, so that nothing can be compared with it.",)
    total = f"{_signed(found.mean * now.episodes)} over {plural(now.episodes, 'episode')}"
    about = f"Per episode {_signed(found.mean)} against the safe policy; {total}."
    if found.low is None or found.high is None:
        return "", (about, _no_interval(model))
    lies = f"The expected gain lies between {_signed(found.low)} and {_signed(found.high)} per episode, with {SURE} confidence"
    if found.low > 0.0:
        return "good", (about, f"{lies}: real reports alone show that learning has paid.")
    if found.high < 0.0:
        return "warn", (about, f"{lies}: so far it has earned less than the safe policy would have.")
    return "", (about, f"{lies}: real reports alone cannot tell yet whether there is a gain.")


def _gain_lines(now: Settled | None, predicted: Predicted | None) -> Iterator[Line]:
    if now is not None:
        yield _measured("deployed, measured", now.reward, None if predicted is None else predicted.deployed)
        yield _measured("safe policy, measured", now.safe_reward, None if predicted is None else predicted.safe)
    if predicted is not None:
        yield from predicted.lines
    earned = None if now is None else now.reward
    if predicted is not None and earned is not None and earned.mean is not None:
        low, high = predicted.safe
        rough = f"{_signed(earned.mean - high)} to {_signed(earned.mean - low)}"
        if earned.low is not None and earned.high is not None:
            rough = f"{_signed(earned.low - high)} to {_signed(earned.high - low)}"
        yield Line("gained, if the safe policy earns what is predicted", "", rough, _count(earned.count))
    if now is not None and now.gain.mean is not None:
        gained, n = now.gain, now.episodes
        low, high = gained.low or 0.0, gained.high or 0.0
        sides = gained.low is not None and gained.high is not None
        each = f"{_signed(low)} to {_signed(high)}" if sides else ""
        yield Line("gained, against the safe policy as measured", _signed(gained.mean or 0.0), each, _count(n))
        yield Line(
            "the same over all episodes",
            _signed((gained.mean or 0.0) * n),
            f"{_signed(low * n)} to {_signed(high * n)}" if sides else "",
            _count(n),
        )


# ---------------------------------------------------------------------------------------------------------- what comes next


def coming(
    model: ReportModel, status: Mapping[str, Any] | None, forecast: Forecast | None
) -> Iterator[tuple[str, str]]:
    """(term, sentence) pairs."""
    said = {} if status is None else status
    # The status is as of now, the journal's text as of the last change.
    stage = {"stage": said["stage"], "text": said.get("stage_text")} if said.get("stage") else model.stage
    if stage:
        about = f": {stage['text']}" if stage.get("text") else ""
        until = str(said.get("stage_until") or stage.get("until") or "")
        yield (
            "Stage",
            f"{stage['stage']}{about}."
            + (f" It ends when {until}." if until and not until.startswith("nothing;") else ""),
        )
    aim = str(said.get("next") or model.aim)
    if model.aborted is not None or model.alarms:
        aim = "nothing any more: the safe policy runs"
    yield "Now learning", f"{aim or 'the journal does not say'}."
    left, cells = model.plan.get("cells_left"), model.opened["cells"]
    if left is not None and int(cells) > 1:
        yield (
            "Still possible",
            f"{with_thin_spaces(int(left))} of {plural(int(cells), 'cell')}, groups of simulated plants.",
        )
    yield "Forecast", " ".join(_outlook(model, forecast))


def _outlook(model: ReportModel, forecast: Forecast | None) -> Iterator[str]:
    if model.aborted is not None or model.alarms:
        yield "None: nothing more is learned."
        return
    if forecast is not None:
        yield from forecast.sentences(model.asked)
        return
    found = None if model.policy_set is None else model.policy_set.rehearsed
    said = [] if found is None else [s.text for s in found.speed if np.isfinite(s.bound)]
    if model.rehearsed is not None and said and model.left is None:
        yield " ".join(["From the rehearsal:", *said])
        yield f"This one has handed out {with_thin_spaces(model.asked)}."
        return
    yield "None was given to this page: surefoot plan --json makes one from the policy set, and --forecast shows it here."


# --------------------------------------------------------------------------------------------------------------- the headline


def headline(model: ReportModel, seen: Seen) -> Iterator[tuple[str, str, str]]:
    """(number, what it is, what belongs to it) of what was measured."""
    now = seen.now
    if now is None:
        return
    for name, limit, found in zip(model.opened["cost_names"], model.opened["cost_limits"], now.costs):
        if found.mean is not None:
            sure = f"{_between(found)} ({SURE}); " if found.low is not None else ""
            yield _number(found.mean), f"measured {per_episode(str(name))}", f"{sure}limit {float(limit):.4g}"
    if now.gain.mean is not None and now.weights[1:].any():
        low, high = now.gain.low, now.gain.high
        sure = "" if low is None or high is None else f"{_signed(low)} to {_signed(high)} ({SURE}); "
        total = f"{_signed(now.gain.mean * now.episodes)} in all"
        yield (
            f"{now.gain.mean:+.3g}".replace("-", MINUS),
            "gained per episode, against the safe policy",
            f"{sure}{total}",
        )


# --------------------------------------------------------------------------------------------------------------- predictions


@dataclass(frozen=True)
class Predicted:
    """What simulation expects of a signal: of what was deployed (``None`` before anything was), of the safe policy, and both as rows."""

    deployed: tuple[float, float] | None
    safe: tuple[float, float]
    lines: tuple[Line, ...]


def _predicted(model: ReportModel, now: Settled | None, signal: int) -> Predicted | None:
    """Of the return (0) or a cost (1 + i); ``None`` without a policy set, or where no simulated plant is left."""
    found = model.policy_set
    if found is None:
        return None
    low, high = _intervals(found, signal)
    alive = [k for k in range(len(low)) if k not in model.gone]
    if not alive:
        return None
    low, high = low[alive], high[alive]
    safe = float(low[:, 0].min()), float(high[:, 0].max())
    where = f"by {plural(len(alive), 'cell')} still possible" if len(low) > 1 or model.gone else "by simulation"
    lines = [Line(f"safe policy, predicted {where}", "", f"{safe[0]:.4g} to {safe[1]:.4g}", "")]
    deployed = None
    if now is not None and now.episodes and now.weights[1:].any():
        deployed = float((low @ now.weights).min()), float((high @ now.weights).max())
        lines.insert(0, Line(f"deployed, predicted {where}", "", f"{deployed[0]:.4g} to {deployed[1]:.4g}", ""))
    return Predicted(deployed, safe, tuple(lines))


def _intervals(policy_set: PolicySet, signal: int) -> tuple[FloatArray, FloatArray]:
    """(N, J) lower and upper ends of what cells predict."""
    p = policy_set.cells.predictions
    if not signal:
        return p.reward_lower, p.reward_upper
    return p.cost_lower[:, :, signal - 1], p.cost_upper[:, :, signal - 1]


# --------------------------------------------------------------------------------------------------------------------- words


def _measured(what: str, found: Estimate, predicted: tuple[float, float] | None) -> Line:
    """A measured row; it says so if its interval and the prediction are apart."""
    low, high = found.low, found.high
    if found.mean is None:
        return Line(what, "none yet", "", "0")
    if low is None or high is None:
        return Line(what, _number(found.mean), "", _count(found.count))
    apart = predicted is not None and (low > predicted[1] or high < predicted[0])
    more = "; apart from what was predicted" if apart else ""
    return Line(f"{what}{more}", _number(found.mean), _between(found), _count(found.count), "odd" if apart else "")


def _point(found: Estimate, at: int, lines: Sequence[tuple[str, float]]) -> Point:
    return Point(at, found.mean or 0.0, found.low, found.high, tuple(lines))


def _no_interval(model: ReportModel) -> str:
    why = model.outcomes.void or "the range of returns is in the policy set, which this page was made without"
    return f"There is no interval: {why}."


def _between(found: Estimate) -> str:
    return f"{_number(found.low)} to {_number(found.high)}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _signed(value: float) -> str:
    if value == 0.0:
        return "0"
    small = abs(value) < 1e4
    return (f"{value:+.4g}" if small else f"{value:+,.0f}".replace(",", THIN)).replace("-", MINUS)


def _count(n: int) -> str:
    return with_thin_spaces(n)
