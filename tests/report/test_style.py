"""The style sheet: contrast of every colour that carries text or lines, in both themes, computed from the sheet itself (WCAG 2.2)."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

SHEETS = {
    "page": files("surefoot.report").joinpath("templates", "style.css").read_text("utf-8"),
    "live": files("surefoot.service").joinpath("live_page", "live.css").read_text("utf-8"),
}
ROOT = re.compile(r":root \{([^}]*)\}")
TEXT = {"ink", "soft", "good", "warn", "bad", "open", "link"}
PAPERS = {"paper", "card", "good-paper", "warn-paper", "bad-paper", "open-paper"}
LINES = {"curve", "own", "proved", "focus", "soft", "ink", "bad"}


def themes() -> dict[str, dict[str, str]]:
    """Colours by name; what the dark theme does not change is that of the light one."""
    light, dark = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block)) for block in ROOT.findall(SHEETS["page"])[:2]
    )
    return {"light": light, "dark": {**light, **dark}}


def luminance(color: str) -> float:
    """Relative luminance of ``#rrggbb``."""
    parts = [int(color[k : k + 2], 16) / 255.0 for k in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, two: str) -> float:
    """From 1 to 21."""
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_computed_as_the_standard_does() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_on_every_paper(theme: str) -> None:
    colors = themes()[theme]
    assert TEXT | PAPERS | LINES <= set(colors)
    for paper in PAPERS:
        for ink in TEXT:
            assert contrast(colors[ink], colors[paper]) >= 4.5, f"{ink} on {paper}, {theme}"
    for line in LINES:
        assert contrast(colors[line], colors["paper"]) >= 3.0, f"{line}, {theme}"


def test_themes_differ_in_every_colour() -> None:
    light, dark = themes().values()
    assert [name for name in light if light[name] == dark[name]] == []


@pytest.mark.parametrize("sheet", SHEETS)
def test_text_takes_its_colour_from_the_theme(sheet: str) -> None:
    """No colour of text and no paper is written where it is used; a variable that nobody defines would leave the browser's."""
    rules = ROOT.sub("", SHEETS[sheet])
    written = re.findall(r"(?<![-\w])(?:color|background|border(?:-[a-z]+)?):[^;]*#[0-9a-fA-F]{3,8}", rules)
    assert [
        rule
        for rule in written
        if "background" not in rule or not re.search(r"#(009e73|0072b2|e69f00|cc79a7|56b4e9|d55e00|8a8a8a)", rule)
    ] == []
    assert set(re.findall(r"var\(--([a-z-]+)\)", rules)) <= set(themes()["light"])


def test_the_focus_is_seen_and_tables_scroll_inside_themselves() -> None:
    assert re.search(r":focus-visible \{[^}]*outline: 3px solid var\(--focus\)", SHEETS["page"])
    assert re.search(r"\.across \{[^}]*overflow-x: auto", SHEETS["page"])
    assert "outline: none" not in SHEETS["page"]
    assert re.findall(r"([^{}]*)\{[^}]*outline: none", SHEETS["live"]) == [
        "\n.live #main "
    ]  # where the skip link leads; no control
