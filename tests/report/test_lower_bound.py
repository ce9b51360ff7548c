"""The tables and the figure of ``surefoot reproduce lower-bound``: drawn from the file alone, and refusing others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot.report.lower_bound import read_lower_bound, render_lower_bound
from surefoot.report.lower_bound_figure import compose_lower_bound, draw_lower_bound
from tests.refusals import refused


def setting(accuracy: float, tasks: int, measured: float | None, computed: float) -> dict[str, Any]:
    ends = [None, None] if measured is None else [0.8 * measured, 1.25 * measured]
    return {
        "accuracy": accuracy, "margin": 0.5, "tasks": tasks, "horizon": 10.0, "theorem": 1e6, "upper_bound": 3e7, "floor": 123.4,
        "agents": {
            "certified:cells": {
                "kind": "measured", "episodes": measured, "interval": ends, "censored_runs": 0, "violating_runs": 0, "played": 40_000,
            },
            "pce:theory": {"kind": "computed", "episodes": computed},
        },
    }  # fmt: skip


def fits(measured: float, censored: int = 0) -> dict[str, Any]:
    exact = {"exponent": -2.0, "interval": None}
    return {
        "certified:cells": {"exponent": measured, "interval": [measured - 0.2, measured + 0.3], "censored_levels": censored},
        "pce:theory": {"exponent": None, "interval": None}, "floor": exact, "upper_bound": exact,
    }  # fmt: skip


BY_FACTOR = {"accuracy": fits(-1.85), "tasks": fits(0.9, censored=1)}
SUMMARY: dict[str, Any] = {
    "schema": 1, "experiment": "lower-bound", "runs": 48, "delta": 0.05,
    "agents": {"certified:cells": "measured", "pce:theory": "computed"},
    "factors": {"accuracy": {"theorem": -2.0}, "tasks": {"theorem": 1.0}},
    "settings": [setting(0.2, 4, 9_000.0, 3e5), setting(0.1, 4, 35_000.0, 2.5e7), setting(0.1, 8, None, 1e8)],
    "sweeps": {"accuracy": [0, 1], "tasks": [1, 2]},
    "fits": {name: {factor: found[name] for factor, found in BY_FACTOR.items()} for name in fits(0.0)},
}  # fmt: skip


def test_the_tables_hold_exponents_with_intervals_and_episodes() -> None:
    lines = render_lower_bound(SUMMARY).splitlines()
    assert "with probability 0.95 (48 runs)" in lines[0]
    (theorem,) = [line for line in lines if line.startswith("theorem 5.1")]
    assert theorem.split()[2:] == ["-2", "+1"]
    (measured,) = [line for line in lines if line.startswith("certified:cells (measured)")]
    assert "-1.85 (-2.05 to -1.55)" in measured and measured.endswith("+0.90 (+0.70 to +1.20) censored")
    (computed,) = [line for line in lines if line.startswith("pce:theory (computed)")]
    assert computed.split()[2:] == ["-", "-"]
    assert [line.split() for line in lines[-3:]] == [
        ["0.2", "4", "123", "9,000", "300,000"],
        ["0.1", "4", "123", "35,000", "2.5e+07"],
        ["0.1", "8", "123", ">", "40,000", "1e+08"],
    ]


def test_an_agent_that_never_gets_there_by_computation_is_said_to_never() -> None:
    never = json.loads(json.dumps(SUMMARY))
    never["settings"][0]["agents"]["pce:theory"]["episodes"] = None
    assert render_lower_bound(never).splitlines()[-3].endswith("never")


def test_the_figure_has_a_panel_per_factor_with_bounds_and_agents() -> None:
    figure = compose_lower_bound(SUMMARY)
    first, second = figure.axes
    labels = first.get_legend_handles_labels()[1]
    assert labels == [
        "theorem 5.1 without its constant", "corollary 4.3 without its constant", "no agent needs fewer",
        "certified:cells (measured)", "pce:theory (computed)",
    ]  # fmt: skip
    assert (first.get_xscale(), first.get_yscale()) == ("log", "log")
    (line,) = [line for line in first.lines if line.get_label() == "certified:cells (measured)"]
    assert line.get_xdata().tolist() == [0.1, 0.2], "levels are sorted"
    assert line.get_ydata().tolist() == [35_000.0, 9_000.0]
    assert "theorem -2" in first.get_title(loc="left") and "-1.85 (-2.05 to -1.55)" in first.get_title(loc="left")
    arrows = [line for line in second.lines if line.get_marker() == "^"]
    assert [line.get_ydata().tolist() for line in arrows] == [[40_000]], "where runs were too short"


@pytest.mark.slow
def test_it_is_written_beside_its_log(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    path = draw_lower_bound(tmp_path)
    assert (path.name, path.read_bytes()[:4]) == ("lower-bound.png", b"\x89PNG")
    assert path.stat().st_size > 20_000


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("{", "SF-RECORD-UNREADABLE"),
        ("[]", "SF-RECORD-FIELD"),
        ('{"schema": 1, "experiment": "suite"}', "SF-RECORD-SCHEMA"),
        ('{"schema": 2, "experiment": "lower-bound"}', "SF-RECORD-SCHEMA"),
    ],
)
def test_other_files_are_refused(content: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(content)
    with refused(code, "surefoot reproduce lower-bound"):
        read_lower_bound(tmp_path)


def test_a_missing_file_is_refused_and_so_is_another_summary(tmp_path: Path) -> None:
    with refused("SF-RECORD-MISSING", "summary.json"):
        read_lower_bound(tmp_path)
    with refused("SF-RECORD-SCHEMA", "summary", "schema 1"):
        render_lower_bound({"schema": 1, "experiment": "suite"})


def test_nothing_in_the_picture_is_not_a_number() -> None:
    for axes in compose_lower_bound(SUMMARY).axes:
        low, high = axes.get_ylim()
        assert np.isfinite([low, high]).all() and low > 0.0
