"""The table and the figure of ``surefoot validate``: drawn from its file alone, and refusing others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot.report.validation import read_validation, render_validation
from surefoot.report.validation_figure import compose_validation, draw_validation
from tests.refusals import refused


def rate(count: int, runs: int, interval: tuple[float, float]) -> dict[str, Any]:
    return {
        "count": count,
        "rate": count / runs,
        "interval": list(interval),
        "allowed": 0.05,
        "p_value": 0.5,
        "passed": True,
    }


def row(scenario: str, status: str, count: int, passed: bool | None, errors: int = 0) -> dict[str, Any]:
    return {
        "agent": "certified:cells", "scenario": scenario, "status": status, "runs": 100,
        "violations": rate(count, 100, (0.001, 0.3)), "causes": {"no cell": count, "other": 0}, "eliminations": None,
        "bound_failures": rate(0, 100, (0.0, 0.04)), "alarms": {"count": 3},
        "regret": {"mean": 1234.4, "quantiles": {}} if passed else None,
        "errors": {"count": errors, "first": "InvalidReport: x" if errors else None}, "passed": passed,
    }  # fmt: skip


SUMMARY: dict[str, Any] = {
    "schema": 1, "experiment": "validation", "family": "gridworld", "runs": 100, "episodes": 4000, "delta": 0.05,
    "confidence": 0.95, "agents": ["certified:cells"], "scenarios": {"family": "drawn", "outside": "beyond"},
    "rows": [row("family", "judged", 0, True), row("outside", "measured", 20, None, 2), row("family", "judged", 30, False)],
    "calibration": [
        {
            "kind": "joint", "position": "edges", "runs": 50, "crossings": rate(1, 50, (0.0, 0.1)), "passed": True,
            "curve": [[0.5, 0.4], [0.05, 0.02], [0.01, 0.0]],
        }
    ],
    "passed": False,
}  # fmt: skip


def test_the_table_says_what_was_judged_what_failed_and_why() -> None:
    text = render_validation(SUMMARY)
    lines = text.splitlines()
    (judged,) = [line for line in lines if line.endswith("pass") and "family" in line]
    assert "0 = 0.00% (0.10-30.00%)" in judged and "1234" in judged
    assert any("outside" in line and "measured" in line and "20 = 20.00%" in line for line in lines)
    assert sum(line.endswith("FAIL") for line in lines) == 1
    assert "causes: no cell 50" in text
    assert "certified:cells raised in 2 runs of outside, first: InvalidReport: x" in text
    assert lines[-1] == "A JUDGED ROW FAILS"
    assert render_validation(SUMMARY | {"passed": True, "rows": [], "calibration": []}).endswith("all judged rows pass")


def test_the_figure_shows_the_promise_hollow_measured_rows_and_the_diagonal() -> None:
    rates, curves = compose_validation(SUMMARY).axes
    horizontal = [line for line in rates.get_lines() if np.allclose(line.get_ydata(), 0.05)]
    assert horizontal, "the promised rate is drawn"
    faces = {line.get_markerfacecolor() for line in rates.get_lines() if line.get_marker() not in ("None", "")}
    assert "white" in faces and len(faces) == 2
    assert [text.get_text() for text in rates.get_xticklabels()] == ["family", "outside"]
    assert any(text.get_text() == "fails" for text in rates.texts)
    diagonal, curve = curves.get_lines()[:2]
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    np.testing.assert_allclose(curve.get_ydata(), [0.4, 0.02, np.nan])
    assert len(compose_validation(SUMMARY | {"calibration": []}).axes) == 1


@pytest.mark.slow
def test_files_are_read_checked_and_drawn(tmp_path: Path) -> None:
    with refused("SF-RECORD-MISSING", "validation.json"):
        read_validation(tmp_path)
    log = tmp_path / "validation.json"
    log.write_text("[1]")
    with refused("SF-RECORD-FIELD", "list"):
        read_validation(tmp_path)
    for content in ('{"schema": 2, "experiment": "validation"}', '{"schema": 1, "experiment": "gridworld"}'):
        log.write_text(content)
        with refused("SF-RECORD-SCHEMA", "validation", "schema 1"):
            read_validation(tmp_path)
    log.write_text(json.dumps(SUMMARY))
    assert read_validation(tmp_path) == SUMMARY
    assert draw_validation(tmp_path).read_bytes().startswith(b"\x89PNG")
