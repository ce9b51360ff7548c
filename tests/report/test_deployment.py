"""The page about a deployment: what it says, what it hides, and what it makes of hostile or damaged events."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.errors import InvalidInput
from surefoot.report.deployment import render
from tests.refusals import refused
from tests.report.journals import OPENED, Line, Story

VOID = {"meta", "path"}


class Page(HTMLParser):
    """Tags, attributes and visible text; notices what is not closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(f" {word}" for word in self.words))


def running() -> Story:
    story = Story().open().run(40)
    story.add("eliminated", cells=[3, 4], log_wealth=[5.0, None], cells_left=10)
    return story.plan({0: 0.25, 2: 0.75}, [1.4], left=10).run(60)


def page(story: Story, **options: Any) -> Page:
    return Page(render(story.lines, **options))


def test_the_page_is_self_contained() -> None:
    source = render(running().lines)
    found = Page(source)
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(found.tags)
    assert not {"src", "srcset", "action"} & {name for name, _ in found.attributes}
    assert all((value or "").startswith("#") for name, value in found.attributes if name == "href")
    assert "url(" not in source and "@import" not in source
    assert "default-src 'none'; style-src 'unsafe-inline'" in [value for _, value in found.attributes]


def test_it_says_what_is_deployed_and_what_is_promised() -> None:
    text = page(running()).text
    assert "north line" in text
    assert "policy 2 75% reason 2" in text
    assert "the safe policy 25% reason 0" in text
    assert "mixture , not the single draw" in text
    assert "With probability at least 95%, no mixture that was ever deployed costs more" in text
    assert "the real task lies in some cell" in text
    assert "10 cells left of 12" in text
    assert "1.4 at most, expected wear per episode limit 1.5" in text
    assert "100 episodes handed out 100 reported, 0 pending" in text


def test_it_says_what_delta_was_spent_on() -> None:
    text = page(running()).text
    assert "elimination 4.9% chance rejects the very cell that the real task lies in" in text
    assert "other 0.1% a purpose" in text
    assert "monitor, beside 0.1% a false alarm" in text
    assert "coverage, beside 2.7% a task of the family lies in no cell" in text


def test_curves_carry_the_numbers() -> None:
    spoken = [value for name, value in page(running()).attributes if name == "aria-label"]
    assert "certified wear per episode over 100 episodes: from 1.1 to 1.4, between 1.1 and 1.4, limit 1.5" in spoken
    assert (
        "shares over 100 episodes, now: 75% policy 2, 25% the safe policy; off the safe policy between 0% and 75%"
        in spoken
    )
    assert "cells left over 100 episodes: from 12 to 10, between 10 and 12" in spoken


def test_one_chart_per_constraint() -> None:
    story = Story()
    story.add(
        "opened",
        **{**OPENED, "cost_names": ["wear", "noise"], "cost_limits": [1.5, 4.0], "cost_ceilings": [30.0, 40.0]},
    )
    story.plan({0: 1.0}, [1.0, 3.0])
    text = page(story).text
    assert "certified wear per episode" in text and "certified noise per episode" in text
    assert "3 at most, expected noise per episode limit 4" in text


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("alarm", {"text": "costs are too high"}, "Alarm costs are too high Raised after 100 episodes"),
        ("aborted", {"reason": "fire"}, "Aborted fire Only the safe policy is handed out, for good."),
        ("paused", {"reason": "lunch"}, "Paused lunch No episodes are handed out; reports are still taken."),
        ("capped", {"weight": 0.3}, "Capped At most 30% of all episodes leave the safe policy."),
    ],
)
def test_every_state_is_told_first(kind: str, body: dict[str, Any], said: str) -> None:
    text = page(running().add(kind, **body)).text
    assert said in text
    assert text.index(said) < text.index("What is deployed now")
    assert ("Running No alarm" in text) == (kind == "capped")


def test_what_ended_is_not_told_any_more() -> None:
    story = running().add("paused", reason="lunch").add("resumed").add("capped", weight=0.3).add("capped", weight=1.0)
    text = page(story).text
    assert "Running No alarm" in text
    assert "Capped" not in text and "No episodes are handed out" not in text
    assert "paused: lunch" in text


def test_a_plan_that_waits_is_told() -> None:
    waiting = {"weights": {"0": 0.5, "3": 0.5}, "bounds": [1.4]}
    text = page(running().plan({0: 1.0}, [1.1], waiting=waiting)).text
    assert "A new plan waits for approval 50% the safe policy, 50% policy 3." in text


def test_after_an_alarm_nothing_is_promised() -> None:
    source = render(running().add("alarm", text="too dear").run(5).lines)
    text = Page(source).text
    assert "Nothing any more" in text
    assert "With probability at least" not in text
    assert "assumed, no longer certified" in text
    assert 'class="veil"' in source
    assert 'class="veil"' not in render(running().lines)


def test_every_alarm_and_warning_is_listed() -> None:
    story = running()
    for k in range(30):
        story.add("flagged", policy=1, text=f"flag number {k}.")
    story.add("alarm", text="first").add("alarm", text="second")
    text = page(story).text
    assert all(f"flag number {k}." in text for k in range(30))
    assert "Alarm first" in text and "Alarm second" in text


def test_no_alarm_is_said_too() -> None:
    assert "Alarms None so far." in page(running()).text


def test_long_tables_are_folded_and_bounded() -> None:
    story = Story().open()
    for _ in range(3000):
        story.run(1)
    short, source = render(running().lines), render(story.lines)
    assert "6 002 events, the first 50 and the last 450 shown" in Page(source).text.replace("\u202f", " ")
    assert "rows left out; the journal has them all" in source
    assert len(source) < 300_000
    assert '<details id="drawer-events"><summary>' in source
    assert short.count("<details") == 2  # all events, and how sure it is


def test_who_audited_and_which_journal() -> None:
    text = page(running(), verified="8 events checked, all sound").text
    assert "12" * 32 in text and "ab" * 32 in text
    assert "8 events checked, all sound" in text
    assert "not run for this page" in page(running()).text


HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=y>\u202e\x00"


def test_no_string_of_a_journal_becomes_markup() -> None:
    story = Story()
    changes = dict.fromkeys(("name", "version", "policy_set", "family", "assumption"), HOSTILE)
    ledger = [{"name": HOSTILE, "delta": 0.05, "purpose": HOSTILE}]
    settings = {**OPENED["settings"], "trust": HOSTILE}
    story.open(**changes, ledger=ledger, cost_names=[HOSTILE], settings=settings).run(3)
    for kind in ("noted", "target", "flagged", "alarm"):
        story.add(kind, text=HOSTILE, policy=1)
    story.add("paused", reason=HOSTILE).add("aborted", reason=HOSTILE).add(HOSTILE, **{HOSTILE: HOSTILE})
    story.lines.append(Line(len(story.lines) + 1, HOSTILE, "resumed", {}, HOSTILE))
    story.plan({0: 1.0}, [1.0])
    story.lines[-1].body["reasons"] = {"0": HOSTILE}
    source = render(story.lines, policy_names={0: HOSTILE}, verified=HOSTILE)
    found = Page(source)
    assert not {"script", "img"} & set(found.tags)
    assert not {name for name, _ in found.attributes if name.startswith("on") or name == "src"}
    assert "\u202e" not in source and "\x00" not in source


def test_the_page_says_what_it_cost_and_how_sure_that_is() -> None:
    """By hand: 100 reports of 0.5 with a ceiling of 30 and a limit of 1.5."""
    found = page(running())
    mean = re.search(
        r"On average wear was 0\.5 per episode; its expected value lies between (\S+) and (\S+), with 95%", found.text
    )
    assert mean is not None
    low, high = float(mean[1]), float(mean[2])
    assert low < 0.5 < high < 30.0
    assert "The limit of 1.5 is inside: real reports alone cannot tell yet" in found.text
    assert "certified at most, averaged 1.28 100" in found.text  # 40 episodes at 1.1, 60 at 1.4
    assert "limit 1.5" in found.text


def test_without_the_range_of_returns_there_is_no_interval_for_them() -> None:
    text = page(running()).text
    assert "There is no interval: the range of returns is in the policy set, which this page was made without." in text


def test_a_deployment_without_reports_says_so() -> None:
    text = page(Story().open()).text
    assert "Nothing was reported yet." in text
    assert "Only the safe policy has been handed out so far" in page(Story().open().run(3)).text


def test_costs_above_the_limit_are_told_in_red() -> None:
    story = Story().open().run(1)
    first, n = 1, 400
    story.add("asked", first=first, draws=[1] * n, plan=2, settled=first)
    story.add("told", ids=list(range(first, first + n)), reward=[1.0] * n, costs=[[6.0]] * n)
    source = render(story.lines)
    assert "with 95% confidence, what was deployed has cost too much on average" in Page(source).text
    assert '<div class="box bad"><p><strong>Real wear, measured' in source


def test_a_cost_above_its_ceiling_voids_the_interval() -> None:
    story = Story().open().run(3)
    story.add("asked", first=3, draws=[0], plan=2, settled=3).add("told", ids=[3], reward=[1.0], costs=[[31.0]])
    text = page(story).text
    assert "On average wear was 8.125 per episode" in text
    assert "There is no interval: an episode was reported outside its declared range." in text


def test_what_comes_next_is_what_the_status_or_the_journal_says() -> None:
    story = running().add("target", text="policy 3 is tried")
    assert "Now learning policy 3 is tried." in page(story).text
    text = page(story, status={"next": "which cell it is", "stage": "ramping"}).text
    assert "Stage ramping." in text and "Now learning which cell it is." in text
    assert "Forecast None was given to this page" in text
    assert "nothing any more: the safe policy runs" in page(story.add("aborted", reason="fire")).text


FORECAST: dict[str, Any] = {
    "experiment": "forecast", "schema": 1, "policy_set": OPENED["policy_set"], "runs": 30, "episodes": 4000, "eps": 0.1,
    "trust": {"cells": {"refused": None, "optimal": {"low": 60, "median": 480, "high": None}}},
}  # fmt: skip


def test_a_forecast_says_what_remains() -> None:
    text = page(running(), forecast=FORECAST).text.replace("\u202f", " ")
    assert (
        "half were within 10% of all that can be gained after 480 episodes, the fastest tenth after 60, the slowest tenth after more than 4 000"
        in text
    )
    assert "By the median, 380 episodes remain." in text
    assert "past the median" in page(running().run(500), forecast=FORECAST).text
    refused_level = {**FORECAST, "trust": {"cells": {"refused": "too few <cells>"}}}
    assert "it was refused (too few <cells>)" in page(running(), forecast=refused_level).text


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"experiment": "suite"}, "SF-RECORD-SCHEMA"),
        ({"policy_set": "34" * 32}, "SF-ARGUMENT-MISMATCH"),
        ({"trust": {"cells": {"refused": None}}}, "SF-RECORD-FIELD"),
        ({"eps": 2.0}, "SF-RECORD-FIELD"),
        ({"trust": []}, "SF-RECORD-FIELD"),
    ],
)
def test_another_forecast_is_refused(change: dict[str, Any], code: str) -> None:
    with refused(code, "forecast"):
        render(running().lines, forecast={**FORECAST, **change})


def test_policies_may_have_names() -> None:
    assert "policy 2 (fast & loose) 75%" in page(running(), policy_names={2: "fast & loose"}).text


def test_an_unknown_kind_is_listed_as_it_is() -> None:
    assert "polished shine: 3" in page(running().add("polished", shine=3)).text


@pytest.mark.parametrize(
    ("lines", "refusal"),
    [
        ([], ("SF-RECORD-FIELD", "event 1")),
        (running().lines[1:], ("SF-RECORD-FIELD", "event 2")),
        ([*running().lines, running().lines[0]], ("SF-RECORD-FIELD", "event 1")),
        (running().add("planned", weights={"x": 1.0}).lines, ("SF-RECORD-FIELD", "event 9")),
        (running().add("asked", draws=[]).lines, ("SF-RECORD-FIELD", "event 9", "'first'")),
        (running().plan({0: 1.0}, [1.0, 2.0]).lines, ("SF-RECORD-FIELD", "event 9")),
        ([Line(1, "", "opened", {**OPENED, "settings": {}})], ("SF-RECORD-FIELD", "event 1")),
    ],
)
def test_events_that_no_journal_holds_are_refused(lines: list[Line], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        render(lines)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KINDS = ["opened", "asked", "told", "lost", "planned", "eliminated", "capped", "paused", "aborted", "alarm", "approved"]
FIELDS = [
    "weights",
    "bounds",
    "cells_left",
    "cells",
    "first",
    "draws",
    "ids",
    "text",
    "reason",
    "weight",
    "waiting",
    "plan",
    "settings",
]


@given(
    kind=st.sampled_from(KINDS), body=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5), twist=st.booleans()
)
def test_whatever_a_body_holds_the_answer_is_a_page_or_a_typed_error(
    kind: str, body: dict[str, Any], twist: bool
) -> None:
    lines = running().lines
    known = next((line.body for line in lines if line.kind == kind), {})
    line = Line(1 if kind == "opened" else 9, "", kind, {**known, **body} if twist else body)
    try:
        source = render([line, *lines[1:]] if kind == "opened" else [*lines, line])
    except InvalidInput as error:
        assert "must be as a deployment's journal holds it" in str(error)
    else:
        assert source.endswith("</html>\n")


def test_a_deployment_that_is_degraded_says_so_and_counts_nothing_twice() -> None:
    story = Story().open().run(2)
    story.add("degraded", event=4, why="event 4 <must> follow")
    story.add("held", kind="asked", body={"first": 2, "draws": [0]}).add(
        "held", kind="paused", body={"reason": "lunch"}
    )
    page = render(story.lines)
    assert "Degraded" in page and "Event 4 cannot be followed: event 4 &lt;must&gt; follow" in page
    assert "<b>2</b><span>episodes handed out" in page and "Paused" in page
    story.add("recovering", why="x").add("recovered", refused=[])
    assert "<strong>Degraded</strong>" not in render(story.lines)
