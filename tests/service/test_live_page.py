"""The live page: what anybody may load, what needs a token, what an unchanged deployment costs, and that hostile names stay text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import surefoot as sf
from surefoot.errors import InvalidInput
from surefoot.service import Limits, Token, make_app
from surefoot.service.live_page import OPEN
from tests.experiments.validation_worlds import small_set
from tests.refusals import refused
from tests.service.client import call

MANY = Limits(rate=1e6, burst=10**6, stranger_rate=1e6, stranger_burst=10**6)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=y>"
TOKENS = tuple(Token(f"{role}-token-of-this-test", role, role) for role in ("owner", "robot", "operator", "reader"))
BEARER = {token.role: f"Bearer {token.text}" for token in TOKENS}


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[sf.Deployment]:
    with sf.Deployment.open(tmp_path / "plant.db", small_set(), name=HOSTILE) as deployment:
        yield deployment


@pytest.fixture
def app(plant: sf.Deployment) -> Any:
    return make_app(plant, limits=MANY)


def run(plant: sf.Deployment, n: int) -> None:
    tickets = plant.ask(n)
    plant.tell(tickets.ids, [30.0] * n, [[0.5]] * n)


class Structure(HTMLParser):
    """Tags with their attributes, and the ids that there are."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @property
    def ids(self) -> list[str]:
        return [found for _, attributes in self.tags if (found := attributes.get("id"))]


# ------------------------------------------------------------------------------------------------------ what is served


def test_the_frame_allows_its_own_script_and_style_and_nothing_else(app: Any) -> None:
    answer = call(app, "GET", "/live")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'", "base-uri": "'none'",
        "form-action": "'none'", "frame-ancestors": "'none'",
    }  # fmt: skip
    found = Structure(answer.body.decode())
    assert [attributes["src"] for tag, attributes in found.tags if tag == "script"] == ["live.js"]
    assert [attributes["href"] for tag, attributes in found.tags if tag == "link"] == ["live.css"]
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on") or name == "style"]
    kinds = {path: call(app, "GET", path).headers["content-type"].partition(";")[0] for path in OPEN}
    assert kinds == {"/live": "text/html", "/live.js": "text/javascript", "/live.css": "text/css"}


def test_sections_need_no_style_and_no_script_of_their_own(app: Any, plant: sf.Deployment) -> None:
    run(plant, 30)
    html = call(app, "GET", "/live/state").json["html"]
    found = Structure(html)
    assert not {"script", "style", "link", "img", "iframe", "form", "object", "base"} & {tag for tag, _ in found.tags}
    names = {name for _, attributes in found.tags for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("style", "src", "href", "action")]


def test_hostile_names_stay_text(app: Any, plant: sf.Deployment) -> None:
    run(plant, 3)
    plant.pause(HOSTILE)
    found = call(app, "GET", "/live/state").json
    assert "<script" not in found["html"] and "<img" not in found["html"]
    assert found["html"].count("&lt;script&gt;alert(1)") >= 2  # the name and the reason
    assert "<script>" in found["title"]  # put in as text by the page's script


def test_what_is_said_is_the_state_and_changes_only_with_it(app: Any, plant: sf.Deployment) -> None:
    first = call(app, "GET", "/live/state").json
    assert "Running" in first["said"] and "Stage" in first["said"]
    run(plant, 2)
    assert call(app, "GET", "/live/state").json["said"] == first["said"]
    plant.pause("lunch")
    assert "Paused" in call(app, "GET", "/live/state").json["said"]


# ------------------------------------------------------------------------------------------------- what it costs


def test_an_unchanged_deployment_costs_nothing(app: Any, plant: sf.Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    run(plant, 5)
    first = call(app, "GET", "/live/state")
    tag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    reads: list[int] = []
    events = plant.events
    monkeypatch.setattr(plant, "events", lambda since=0: reads.append(since) or events(since))
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = call(app, "GET", "/live/state", if_none_match=given)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert call(app, "GET", "/live/state", if_none_match='"other"').status == 200
    assert reads == []
    run(plant, 1)
    changed = call(app, "GET", "/live/state", if_none_match=tag)
    assert changed.status == 200 and changed.headers["etag"] != tag
    assert changed.json["seq"] > first.json["seq"]
    assert reads == [first.json["seq"]]  # and of the journal only what is new


def test_a_stop_that_is_not_in_the_journal_yet_is_a_change(app: Any, plant: sf.Deployment, tmp_path: Path) -> None:
    tag = call(app, "GET", "/live/state").headers["etag"]
    sf.Deployment.stop(tmp_path / "plant.db", "paused", "lunch", name=HOSTILE)
    assert call(app, "GET", "/live/state", if_none_match=tag).status == 200


def test_the_sections_are_those_of_the_page_and_do_not_grow(app: Any, plant: sf.Deployment) -> None:
    sizes = []
    for _ in range(2):
        for _ in range(100):
            run(plant, 1)
        sizes.append(len(call(app, "GET", "/live/state").body))
    assert sizes[1] < 1.25 * sizes[0]
    ids = Structure(call(app, "GET", "/live/state").json["html"]).ids
    page = Structure(call(app, "GET", "/report").body.decode())
    assert set(ids) <= set(page.ids) and len(set(ids)) == len(ids)
    places = [(attributes["href"] or "")[1:] for tag, attributes in page.tags if tag == "a"]
    assert set(places) <= set(page.ids) and "main" in places


def test_age_is_that_of_the_last_event(app: Any, plant: sf.Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import datetime

    from surefoot.service import app as module

    at = datetime.fromisoformat(call(app, "GET", "/live/state").json["at"]).timestamp()
    monkeypatch.setattr(module.time, "time", lambda: at + 90.0)
    assert call(app, "GET", "/live/state").json["age"] == pytest.approx(90.0)
    monkeypatch.setattr(module.time, "time", lambda: at - 90.0)
    assert call(app, "GET", "/live/state").json["age"] == 0.0


def test_static_files_are_sent_once(app: Any) -> None:
    for path in OPEN:
        first = call(app, "GET", path)
        again = call(app, "GET", path, if_none_match=first.headers["etag"])
        assert (first.status, again.status, again.body) == (200, 304, b"")


# -------------------------------------------------------------------------------------------------- who may see it


def test_the_frame_is_open_and_the_data_need_a_token(plant: sf.Deployment) -> None:
    app = make_app(plant, TOKENS, MANY)
    for path in OPEN:
        answer = call(app, "GET", path, host="plant.example")
        assert answer.status == 200
        assert b"north" not in answer.body and b"alert" not in answer.body  # nothing about the deployment
        assert call(app, "HEAD", path).status == 200
    assert call(app, "GET", "/live/state").status == 401
    for role, status in (("owner", 200), ("operator", 200), ("reader", 200), ("robot", 403)):
        assert call(app, "GET", "/live/state", authorization=BEARER[role]).status == status


def test_the_frame_gives_nobody_a_way_in(plant: sf.Deployment) -> None:
    app = make_app(plant, TOKENS, MANY)
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert call(app, method, "/live").status == 401
    for path in ("/live/", "/live/../status", "//live", "/LIVE", "/live.js/state"):
        assert call(app, "GET", path).status == 401


def test_strangers_share_one_small_rate(plant: sf.Deployment) -> None:
    few = Limits(stranger_rate=1e-6, stranger_burst=2)
    app = make_app(plant, TOKENS, few)
    assert [call(app, "GET", "/live").status for _ in range(3)] == [200, 200, 429]
    assert call(app, "GET", "/live/state", authorization=BEARER["reader"]).status == 200


def test_a_strangers_body_is_not_waited_for(plant: sf.Deployment) -> None:
    app = make_app(plant, TOKENS, MANY)
    assert call(app, "GET", "/live", raw=b"x", hang=True).status == 200


def test_without_a_token_only_this_machine_may_load_it(app: Any) -> None:
    assert call(app, "GET", "/live", host="plant.example").status == 421


# ------------------------------------------------------------------------------------------------------- structure


def test_everything_has_a_label(app: Any, plant: sf.Deployment) -> None:
    run(plant, 30)
    frame = Structure(call(app, "GET", "/live").body.decode())
    labels = {attributes.get("for") for tag, attributes in frame.tags if tag == "label"}
    assert {attributes["id"] for tag, attributes in frame.tags if tag == "input"} <= labels
    live = [attributes for _, attributes in frame.tags if "aria-live" in attributes]
    assert [(one["role"], one["aria-live"]) for one in live] == [("status", "polite")]
    skip = next(attributes for tag, attributes in frame.tags if tag == "a")
    assert skip["href"] == "#main" and "main" in frame.ids
    html = call(app, "GET", "/live/state").json["html"]
    for tag, attributes in Structure(html).tags:
        if tag == "svg" or attributes.get("role") in ("img", "region"):
            assert attributes.get("aria-label"), (tag, attributes)
        if tag == "th":
            assert attributes.get("scope") in ("col", "row")
        if attributes.get("tabindex") == "0":
            assert attributes.get("role") == "region"  # what scrolls inside itself can be reached with the keyboard
    levels = [int(level) for level in re.findall(r"<h([1-6])", html)]
    assert levels[0] == 1 and all(b <= a + 1 for a, b in pairwise(levels))


def test_the_script_asks_the_service_alone_and_keeps_no_more_than_the_token(app: Any) -> None:
    script = call(app, "GET", "/live.js").body.decode()
    assert re.findall(r"fetch\(([^,]*),", script) == ['"live/state"']
    assert "http://" not in script and "https://" not in script and "eval" not in script
    assert "localStorage" not in script and "cookie" not in script
    assert set(re.findall(r"sessionStorage\.(\w+)", script)) == {"getItem", "setItem", "removeItem"}
    assert (
        script.count("innerHTML") == 1
    )  # the sections, which the service escapes; the content policy allows no script in them
    assert "document.hidden" in script and "visibilitychange" in script


# ---------------------------------------------------------------------------------------------------------- forecast


def test_another_sets_forecast_is_refused_at_once(plant: sf.Deployment) -> None:
    raw = {"experiment": "forecast", "schema": 1, "policy_set": "0" * 64}
    with refused("SF-ARGUMENT-MISMATCH", "forecast"):
        make_app(plant, forecast=raw)
    level = {"refused": None, "optimal": {"low": 1, "median": 50, "high": None}}
    mine = {
        **raw,
        "policy_set": plant.policy_set.hash,
        "trust": {"cells": level},
        "runs": 3,
        "episodes": 90,
        "eps": 0.1,
    }
    app = make_app(plant, limits=MANY, forecast=mine)
    assert "By the median, 50 episodes remain." in call(app, "GET", "/live/state").json["html"]
    assert b"By the median, 50 episodes remain." in call(app, "GET", "/report").body


def test_a_journal_that_cannot_be_read_is_an_error_and_then_read_again(
    app: Any, plant: sf.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = plant.events

    def broken(since: int = 0) -> Iterator[Any]:
        yield from list(events(since))[:1]
        raise InvalidInput("the disk is gone", code="SF-RECORD-FIELD")

    monkeypatch.setattr(plant, "events", broken)
    assert call(app, "GET", "/live/state").status == 400
    monkeypatch.setattr(plant, "events", events)
    assert call(app, "GET", "/live/state").status == 200
