"""Pages from templates: whatever a log or a journal holds stays text, in every page, and every page is one file that loads nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, TemplateError, nodes

from surefoot.errors import InvalidInput
from surefoot.report.deployment import render
from surefoot.report.fleet import fleet_page
from surefoot.report.html import render_html
from surefoot.report.pages import printable, render_template
from surefoot.report.records import Summary
from surefoot.report.rehearsal import rehearsal_page
from tests.report.journals import OPENED, Line, Story
from tests.report.runs import write_run

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=y>\u202e\x00{{ 7 * 191 }}{% raw %}"
TEMPLATES = files("surefoot.report").joinpath("templates")
PAGES = ["deployment.html.j2", "fleet.html.j2", "rehearsal.html.j2", "run.html.j2"]
KINDS = {
    "eliminated": {"cells": [3], "log_wealth": [5.0], "cells_left": 11}, "readmitted": {"cells": [3], "cells_left": 12},
    "target": {"text": "t"}, "ramp": {"text": "t"}, "barred": {"text": "t", "policy": 1}, "noted": {"text": "t"},
    "flagged": {"text": "t", "policy": 1}, "protocol": {"text": "t"},
    "stage": {"stage": "s", "was": "w", "text": "t", "until": "u"}, "alarm": {"text": "t"}, "paused": {"reason": "r"}, "aborted": {"reason": "r"},
    "approved": {"plan": 2}, "capped": {"weight": 0.5}, "degraded": {"event": "4", "why": "w"}, "lost": {"ids": [1]},
    "held": {"kind": "paused", "body": {"reason": "r"}}, "polished": {"shine": "s"},
}  # fmt: skip


class Markup(HTMLParser):
    """What a page consists of, and the text that it shows or says."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def deployment_page(data: Any) -> str:
    """``data``: lines of a journal, names of policies, what an audit said, the status."""
    lines, names, verified, status = data
    return render([Line(*line) for line in lines], policy_names=dict(names), verified=verified, status=status)


def deployment_data() -> Any:
    story = Story().open(settings={**OPENED["settings"], "ramp": 50}, returns_level=0.002).run(3)
    story.plan({0: 0.5, 1: 0.5}, [1.2], waiting={"weights": {"0": 1.0}, "bounds": [1.0]})
    for kind, body in KINDS.items():
        story.add(kind, **body)
    status = {"next": "which cell it is", "stage": "ramping"}
    return [[[e.seq, e.at, e.kind, e.body, e.digest] for e in story.lines], [[1, "fast"]], "all sound", status]


def rehearsal_data() -> dict[str, Any]:
    rungs = [
        {"name": n, "plants": 80, "violating": k, "upper": 0.04 + k, "accepted": not k, "complete": not k, "regret": 5.0, "excess": 0.1}
        for k, n in enumerate(("cautious", "bold"))
    ]  # fmt: skip
    flat = [[[0.5, 0.6]] * 6] * 2
    return {
        "text": "80 rehearsals",
        "density_ratio": 1.2,
        "curves": {"episodes": [1, 10], "costs": flat, "regrets": flat},
        "certificate": {
            "family": "grid", "plants": 80, "episodes": 10, "alpha": 0.05, "attempt": 1, "share": 0.025, "delta_coverage": 0.05, "chosen": 0,
            "protocol_text": "one at a time", "rungs": rungs,
            "slices": [{"parameter": "noise", "low": 0.1, "high": 0.2, "plants": 40, "violating": 1}],
            "speed": [{"bound": 3.0, "text": "fast", "error": 0.01}],
        },
    }  # fmt: skip


def fleet_data() -> dict[str, Any]:
    plant = {
        "name": "one", "stage": "learned", "episodes": 1200, "weights": {"0": 0.25, "2": 0.75}, "mean_costs": {"heat": 1.25, "noise": None},
        "cost_limits": {"heat": 1.5, "noise": 2.0}, "mean_return": 3.5, "state": "running", "alarm": None, "next": "nothing", "delta": 0.05,
    }  # fmt: skip
    return {
        "family": "grid",
        "policy_set": "ab" * 32,
        "plants": [plant, {**plant, "name": "two", "alarm": "too dear", "mean_return": None}],
    }


def run_page(data: Any) -> str:
    return render_html(Summary.of(data), {"figure1": b"one", "figure2": b"two"})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Callable[[Any], str]]]:
    """For every page: what it may be made of, and how it is made."""
    run = write_run(
        tmp_path_factory.mktemp("runs") / "run", agents=["oracle", "pce"], published={"pce": 13_000.0},
        assumptions={"holds": False, "statement": ["One.", "Two."]},
    )  # fmt: skip
    run["agents"]["pce"]["notes"] = ["a note"]
    return {
        "deployment.html.j2": (deployment_data(), deployment_page),
        "fleet.html.j2": (fleet_data(), fleet_page),
        "rehearsal.html.j2": (rehearsal_data(), rehearsal_page),
        "run.html.j2": (run, run_page),
    }


def poisoned(data: Any) -> Iterator[Any]:
    """Copies of ``data`` in each of which one string, or one key, is hostile."""

    def places(inside: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], bool]]:
        if isinstance(inside, dict):
            for key, value in inside.items():
                yield (*path, key), True
                yield from places(value, (*path, key))
        elif isinstance(inside, list):
            for k, value in enumerate(inside):
                yield from places(value, (*path, k))
        elif isinstance(inside, str):
            yield path, False

    for path, is_key in places(data, ()):
        changed = copy.deepcopy(data)
        if not path:
            continue
        parent = changed
        for step in path[:-1]:
            parent = parent[step]
        if is_key:
            parent[HOSTILE] = parent.pop(path[-1])
        else:
            parent[path[-1]] = HOSTILE
        yield changed


def test_every_page_is_tried_here() -> None:
    found = [entry.name for entry in TEMPLATES.iterdir() if '{% extends "page.html.j2" %}' in entry.read_text("utf-8")]
    assert sorted(found) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_no_recorded_text_becomes_markup(page: str, recorded: dict[str, Any]) -> None:
    data, make = recorded[page]
    usual = Markup(make(data))
    shown = tried = 0
    for changed in poisoned(data):
        try:
            source = make(changed)
        except InvalidInput:
            continue  # refused, because no log or journal is like that
        found = Markup(source)
        assert found.tags <= usual.tags
        assert {name for name, _ in found.attributes} <= {name for name, _ in usual.attributes}
        assert "<script" not in source and "1337" not in source
        assert "\x00" not in source and "\u202e" not in source
        tried += 1
        shown += "<script>alert('x')</script>" in found.text or any(
            HOSTILE[:9] in (v or "") for _, v in found.attributes
        )
    assert shown >= 5 and tried > shown  # what is recorded and not shown cannot do harm


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_one_file_in_the_one_style(page: str, recorded: dict[str, Any]) -> None:
    data, make = recorded[page]
    source = make(data)
    assert source.startswith("<!doctype html>\n") and source.endswith("</html>\n")
    assert source.count("<style>") == 1
    assert TEMPLATES.joinpath("style.css").read_text("utf-8").strip() in source
    assert not {"script", "link", "iframe", "object", "form", "base"} & Markup(source).tags
    assert "content=\"default-src 'none';" in source


def test_no_template_switches_escaping_off() -> None:
    for entry in TEMPLATES.iterdir():
        tree = Environment().parse(entry.read_text("utf-8"))
        assert not {found.name for found in tree.find_all(nodes.Filter)} & {"safe", "tojson", "xmlattr"}, entry.name
        assert not list(tree.find_all((nodes.ScopedEvalContextModifier, nodes.EvalContextModifier))), entry.name


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(TemplateError, match="undefined"):
        render_template("run.html.j2", title="only this")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain & <b>", "plain & <b>"),
        ("two\nlines\tand\rmore", "two lines and more"),
        ("1\u202f000 1\u00a0000 1\u2009000", "1\u202f000 1\u00a0000 1\u2009000"),
        ("\u202ereversed\u2066 \x00\x1b[31m\ud800", "\ufffdreversed\ufffd \ufffd\ufffd[31m\ufffd"),
        (3, "3"),
    ],
)
def test_only_what_prints_is_shown(text: object, shown: str) -> None:
    assert printable(text) == shown


def test_templates_are_part_of_the_package() -> None:
    names = {entry.name for entry in TEMPLATES.iterdir()}
    assert {"style.css", "page.html.j2", "parts.html.j2", "chart.svg.j2", "deployment_parts.html.j2", *PAGES} <= names
    assert all(Path(name).suffix in (".css", ".j2") for name in names)
