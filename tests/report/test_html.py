"""The page is self-contained, escapes everything, and says the numbers in words."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from surefoot.report.html import certificate_sentences, render_html, write_report
from surefoot.report.records import Summary
from surefoot.report.table import row
from tests.report.runs import AGENTS, write_run

HOSTILE = "<script>alert('1')</script>\"&"


class Page(HTMLParser):
    """Tags, links and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.cells: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset", "data")]
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        self.words += data
        if self.cells and self.tags[-1] == "td":
            self.cells[-1] += data


def page_of(directory: Path, **extra: Any) -> Page:
    """The page of a run whose figures were drawn before; what they show does not matter here."""
    write_run(directory, **extra)
    for name in ("figure1.png", "figure2.png"):
        (directory / name).write_bytes(b"a picture")
    return Page(write_report(directory).read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    write_run(tmp_path)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.links) == 2
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    assert "default-src 'none'" in text


def test_every_string_of_a_log_is_escaped(tmp_path: Path) -> None:
    page = page_of(
        tmp_path, agents=[HOSTILE], experiment=HOSTILE, assumptions=[HOSTILE], published={HOSTILE: 1.0}, notes=HOSTILE
    )
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "script" not in page.tags
    assert page.words.count(HOSTILE) >= 4


def test_the_agents_notes_are_escaped_too(tmp_path: Path) -> None:
    raw = write_run(tmp_path / "run", agents=["pce"])
    raw["agents"]["pce"]["notes"] = [HOSTILE]
    text = render_html(Summary.of(raw), {})
    assert "<script" not in text
    assert f"It says of itself: {HOSTILE}." in Page(text).words


def test_the_table_holds_the_same_numbers_as_the_text_table(tmp_path: Path) -> None:
    summary = Summary.of(write_run(tmp_path / "run", published={"pce": 13_000}))
    page = Page(render_html(summary, {}))
    assert [cell.strip() for cell in page.cells] == [cell for agent in summary.agents for cell in row(summary, agent)]


def test_who_broke_the_limit_is_said_at_the_top(tmp_path: Path) -> None:
    words = page_of(tmp_path).words
    kept = ", ".join(name for name in AGENTS if name != "pce")
    assert f"Within the limit in every episode: {kept}." in words
    assert "Above the limit at some time: pce (on 3 of 3 tasks, in 6,000 of 6,000 episodes)." in words


def test_nobody_above_the_limit_means_no_such_box(tmp_path: Path) -> None:
    assert "Above the limit at some time" not in page_of(tmp_path, agents=["always-safe"]).words


def test_a_failing_assumption_is_a_warning_and_a_holding_one_is_not(tmp_path: Path) -> None:
    fails = page_of(tmp_path / "a", assumptions={"holds": False, "statement": "No policy is safe in all tasks."}).words
    holds = page_of(tmp_path / "b", assumptions={"holds": True, "statement": "One policy is safe in all tasks."}).words
    assert "Warning about the assumptionsNo policy is safe in all tasks." in fails
    assert "AssumptionsOne policy is safe in all tasks." in holds
    assert "Warning" not in holds


def test_the_certificate_is_in_plain_words(tmp_path: Path) -> None:
    training = {
        "tasks_sampled": 1500, "cells": 1, "seconds": 7.25, "holdout": 200, "uncovered": 1, "confidence": 0.95,
        "uncovered_upper_bound": 0.0275, "margin_failure_upper_bound": 0.0183, "safe_margin": 0.13,
    }  # fmt: skip
    words = " ".join(certificate_sentences(Summary.of(write_run(tmp_path / "run", training=training))))
    assert "Training drew 1,500 simulated tasks and sorted what it found into 1 cell," in words
    assert "This took 7.2 seconds." in words
    assert "200 fresh tasks, drawn only after everything was fixed, then put this to the test, and 1 of them" in words
    assert "With 95% confidence, at most 2.75% of all tasks" in words
    assert "in at most 1.83% of all tasks" in words
    assert "That promised distance is 0.13" in words


def test_what_the_log_does_not_say_is_left_out(tmp_path: Path) -> None:
    page = page_of(tmp_path, training={})
    assert "What training has established" not in page.words
    assert "The family of tasks" in page.words
    (tmp_path / "figure1.npz").unlink()
    assert "The family of tasks" not in Page(write_report(tmp_path).read_text(encoding="utf-8")).words


def test_figures_that_are_there_are_used_as_they_are(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert page.links == ["data:image/png;base64,YSBwaWN0dXJl"] * 2


@pytest.mark.parametrize(("limits", "words"), [((1.5,), "limit 1.5"), ((1.5, 0.2), "limits 1.5, 0.2")])
def test_limits_are_stated(tmp_path: Path, limits: tuple[float, ...], words: str) -> None:
    assert f"exceed the dashed {words}" in page_of(tmp_path, limits=limits).words


def test_judged_values_are_called_estimates_and_repeats_are_not_called_tasks(tmp_path: Path) -> None:
    judged = {"episodes": 10_000, "largest_half_width_cost": 0.042}
    write_run(tmp_path, judged=judged)
    (tmp_path / "figure4.png").write_bytes(b"a picture")
    words = Page(write_report(tmp_path).read_text(encoding="utf-8")).words
    assert "estimated from 10,000 fresh episodes" in words and "0.042" in words and "computed exactly" not in words
    assert "Left: expected reward" in words and not (tmp_path / "figure2.png").exists()
    exact = page_of(tmp_path / "exact").words
    assert "computed exactly" in exact and "Left: reward given up" in exact


def test_a_task_that_is_met_twice_is_one_task(tmp_path: Path) -> None:
    write_run(tmp_path)
    raw = json.loads((tmp_path / "summary.json").read_text())
    raw["tasks"] = [raw["tasks"][0]] * len(raw["tasks"])
    summary = Summary.of(raw)
    assert summary.distinct_tasks == 1
    words = Page(render_html(summary, {})).words
    assert "on 1 unseen task" in words and f"Every task is met {len(raw['tasks'])} times." in words
