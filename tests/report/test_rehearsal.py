"""The figure and the page of a rehearsal, from its plain data."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import surefoot as sf
from surefoot.report.rehearsal import compose_rehearsal, draw_rehearsal, rehearsal_page
from surefoot.tasks import NoisyGridworld
from tests.refusals import refused
from tests.rehearsal.test_lockstep import believing_set


@cache
def text_data() -> str:
    found = sf.rehearse(
        believing_set(), NoisyGridworld(), episodes=40, plants=80, ladder=[4.0, 1.0], seed=1, progress=False
    )
    return json.dumps(found.data())


def data(**changes: Any) -> dict[str, Any]:
    """As a program reads what the command printed."""
    found: dict[str, Any] = json.loads(text_data())
    found["certificate"].update(changes)
    return found


def test_the_figure_shows_the_limit_alpha_and_every_rung(tmp_path: Path) -> None:
    found = data()
    axes = compose_rehearsal(found).axes
    assert len(axes) == 4
    assert [line.get_ydata()[0] for line in axes[0].lines][-1] == 1.0
    assert any(line.get_ydata()[0] == found["certificate"]["alpha"] for line in axes[2].lines)
    assert len(axes[2].get_xticklabels()) == len(found["certificate"]["rungs"]) == 2
    written = draw_rehearsal(found, tmp_path / "r.png")
    assert written.read_bytes()[:4] == b"\x89PNG"


def test_the_page_says_what_is_certified_and_what_is_not() -> None:
    found = data()
    page = rehearsal_page(found)
    for words in (
        "80 rehearsals",
        "What it rests on",
        "What it does not say",
        "average over the family",
        "look number 1",
        "(chosen)",
        "Worst slices",
    ):
        assert words in page
    assert "img-src data:" in page and "<script" not in page


def test_names_from_a_file_cannot_become_markup() -> None:
    page = rehearsal_page(data(family="<script>alert(1)</script>"))
    assert "<script>alert" not in page and "&lt;script&gt;" in page


def test_a_rehearsal_without_an_accepted_rung_can_be_drawn_and_read() -> None:
    found = data(chosen=-1, slices=[], speed=[])
    for rung in found["certificate"]["rungs"]:
        rung["accepted"] = False
    assert "(chosen)" not in rehearsal_page(found)
    assert compose_rehearsal(found).axes


@pytest.mark.parametrize("wrong", [{}, {"certificate": {}, "curves": {}}, {"certificate": 3, "curves": {}}])
def test_other_data_are_refused(wrong: dict[str, Any]) -> None:
    with refused("SF-ARGUMENT-TYPE", "data"):
        rehearsal_page(wrong)
