"""Tables of a world: drawn from the file alone, and open about certificates that cannot be had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from surefoot.report.worlds import read_world, render_world
from tests.refusals import refused


def level(violating: int, gain: float, half: float | None = 40.0) -> dict[str, Any]:
    return {
        "runs": 100, "violating": violating, "rate": violating / 100, "rate_lower": 0.0, "rate_upper": 0.0362, "violating_episodes": 0,
        "worst_excess": -0.012, "gain": gain, "gain_lower": gain - 0.01, "gain_upper": gain + 0.01, "half_median": half, "half_upper": None,
        "half_never": 0.1, "alarms": 0, "seconds": 1.0,
    }  # fmt: skip


SUMMARY: dict[str, Any] = {
    "schema": 1, "experiment": "small", "title": "a small world", "runs": 100, "episodes": 2000, "unknowns": ["a", "b"], "cost_limits": [2.5],
    "oracle": {"reward": 0.8, "costs": [2.5], "binding": 0.97}, "safe": {"reward": 0.7, "costs": [2.0]},
    "levels": {
        "never adapting": level(0, 0.0, None), "data": level(1, 0.2), "cells": {"refused": "too many in no cell"},
        "envelope": {"refused": "no margin"}, "rehearsed": level(3, 0.9),
    },
    "cells": [{"cells": 8, "holdout": 100, "uncovered": 31, "upper": 0.4, "refused": "too many in no cell"}],
    "rehearsal": {"chosen": "2.3", "rungs": [
        {"name": "3", "plants": 100, "violating": 0}, {"name": "2.3", "plants": 100, "violating": 1}, {"name": "1.7", "plants": 0, "violating": 0},
    ]},
    "mismatch": [{
        "name": "colder", "text": "it is colder", "runs": 20,
        "levels": {"data": {"violating": 2, "before_alarm": 12.5, "violating_episodes": 30.0, "alarms": 2, "alarm_median": 700.0, "worst_excess": 0.2,
                            "gain": 0.1}},
    }],
}  # fmt: skip


def test_the_tables_say_what_was_measured_and_why_a_level_is_missing() -> None:
    text = render_world(SUMMARY)
    lines = {line.split("  ")[0].strip(): " ".join(line.split()) for line in text.splitlines()}
    assert "3/100" in lines["rehearsed"] and "90.0%" in lines["rehearsed"] and "89.0-91.0%" in lines["rehearsed"]
    assert (
        "0.0-3.6%" in lines["rehearsed"] and "40 (90%: never)" in lines["rehearsed"] and "-1.2%" in lines["rehearsed"]
    )
    assert "none" in lines["cells"]
    assert "97% sit on it" in text and "31 of 100 hold-out tasks in none: refused: too many" in text
    assert "3: 0/100, 2.3: 1/100; chosen 2.3" in text and "no envelope: no margin" in text
    assert "outside the family, colder: it is colder" in text
    study = text[text.index("outside the family") :]
    assert "2/20" in study and "12.5" in study and "700" in study and "+20.0%" in study


def test_files_of_other_experiments_are_refused(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    assert read_world(tmp_path) == SUMMARY
    (tmp_path / "summary.json").write_text(json.dumps({"schema": 1, "experiment": "suite"}))
    with refused("SF-ARGUMENT-CHOICE", "summary"):
        read_world(tmp_path)
