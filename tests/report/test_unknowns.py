"""Table and figure of ``surefoot reproduce unknowns``: drawn from the file alone, and open about certificates that cannot be had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot.report.unknowns import read_unknowns, render_unknowns, share_given_up
from surefoot.report.unknowns_figure import compose_unknowns, draw_unknowns
from tests.refusals import refused


def played(*regret: float, violating: int = 0) -> dict[str, Any]:
    return {"policies": 21, "regret": list(regret), "violating_runs": violating, "worst_excess": -0.1, "seconds": 1.0}


def rehearsal(chosen: str | None, violating: int) -> dict[str, Any]:
    rung = {
        "name": "3.1",
        "plants": 230,
        "violating": violating,
        "upper": 0.031,
        "accepted": chosen is not None,
        "complete": True,
    }
    return {"chosen": chosen, "rungs": [{**rung, "regret": 9.0, "excess": 0.01}]}  # fmt: skip


def look(cells: int, uncovered: int, upper: float, refused: str | None) -> dict[str, Any]:
    return {"cells": cells, "holdout": 400, "uncovered": uncovered, "upper": upper, "refused": refused}


SUMMARY: dict[str, Any] = {
    "schema": 1, "experiment": "unknowns", "episodes": 10_000, "tasks": 2, "p_max": 0.05, "levels": ["data", "cells", "rehearsed"],
    "rows": [
        {
            "unknowns": 1, "never_adapting": [100.0, 300.0], "cells": [look(30, 2, 0.021, None)], "rehearsal": rehearsal("3.1", 3),
            "levels": {"data": played(80.0, 260.0), "cells": played(10.0, 40.0, violating=1), "rehearsed": played(8.0, 28.0)},
        },
        {
            "unknowns": 4, "never_adapting": [200.0, 200.0], "rehearsal": rehearsal("3.1", 4),
            "cells": [look(30, 103, 0.32, "too many"), look(2, 21, 0.09, "still too many")],
            "levels": {"data": played(160.0, 170.0), "cells": {"refused": "still too many"}, "rehearsed": played(18.0, 22.0)},
        },
        {
            "unknowns": 15, "never_adapting": [200.0, 200.0], "rehearsal": rehearsal(None, 31),
            "cells": [{"cells": 30, "refused": "no task can be in a cell"}],
            "levels": {
                "data": {"refused": "margin of the safe policy must be positive"}, "cells": {"refused": "no task can be in a cell"},
                "rehearsed": {"refused": "do not deploy it"},
            },
        },
    ],
}  # fmt: skip


def test_shares_are_ratios_of_means() -> None:
    assert share_given_up(SUMMARY["rows"][0], "cells") == pytest.approx(50.0 / 400.0)
    assert share_given_up(SUMMARY["rows"][1], "cells") is None


def test_the_table_has_every_level_and_says_which_certificates_are_missing() -> None:
    about, _, titles, _, *lines = render_unknowns(SUMMARY).splitlines()
    assert "2 fresh tasks" in about and "10,000 episodes" in about
    assert titles.split()[-3:] == ["data", "cells", "rehearsed"]
    assert [line.split() for line in lines[:3]] == [
        ["1", "200", "85.0%", "0/2", "12.5%", "1/2", "9.0%", "0/2"],
        ["4", "200", "82.5%", "0/2", "none", "10.0%", "0/2"],
        ["15", "200", "none", "none", "none"],
    ]
    said = lines[4:]
    assert "1 unknown: cells: with 30 cells 2 of 400" in said[0] and "2.1%" in said[0]
    assert "rehearsed: boldness 3.1, 3 of 230" in said[1] and "3.1%" in said[1]
    assert (
        said[2].startswith("4 unknown: no cells: of 400")
        and "103 (30 cells), 21 (2 cells)" in said[2]
        and "5%" in said[2]
    )
    assert said[4] == "15 unknown: no data: margin of the safe policy must be positive"
    assert said[5] == "15 unknown: no cells: no task can be in a cell"
    assert said[6].startswith("15 unknown: no rehearsed:") and "31 of 230" in said[6]


def test_the_figure_has_a_line_per_level_with_gaps_where_there_is_no_certificate() -> None:
    (axes,) = compose_unknowns(SUMMARY).axes
    lines = {line.get_label(): np.asarray(line.get_ydata(), dtype=float) for line in axes.lines}
    assert lines["never adapting"].tolist() == [100.0, 100.0, 100.0]
    np.testing.assert_allclose(lines["data"], [85.0, 82.5, np.nan])
    np.testing.assert_allclose(lines["cells"], [12.5, np.nan, np.nan])
    np.testing.assert_allclose(lines["rehearsed"], [9.0, 10.0, np.nan])
    first, second, third = (tick.get_text() for tick in axes.get_xticklabels())
    assert (first, second.split("\n")[0], third.split("\n")[0]) == ("1", "4", "15")
    assert "cells" in second and "rehearsed" not in second
    assert all(level in third for level in SUMMARY["levels"])
    low, high = axes.get_ylim()
    assert low == 0.0 and high > 100.0
    bars = sorted(
        tuple(np.round(np.asarray(line.get_ydata(), dtype=float), 6))
        for line in axes.lines
        if len(line.get_ydata()) == 2
    )  # type: ignore[arg-type]
    assert (8.0, 28.0 / 3) in [(a, pytest.approx(b, abs=1e-5)) for a, b in bars], (
        "from the smallest task to the largest"
    )


def test_a_level_without_any_certificate_has_no_line() -> None:
    nowhere = json.loads(json.dumps(SUMMARY))
    for row in nowhere["rows"]:
        row["levels"]["cells"] = {"refused": "too many"}
    (axes,) = compose_unknowns(nowhere).axes
    assert "cells" not in [line.get_label() for line in axes.lines]
    assert all("cells" in tick.get_text() for tick in axes.get_xticklabels())


@pytest.mark.slow
def test_it_is_written_beside_its_log(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    path = draw_unknowns(tmp_path)
    assert (path.name, path.read_bytes()[:4]) == ("unknowns.png", b"\x89PNG")
    assert path.stat().st_size > 20_000


def test_other_files_are_refused(tmp_path: Path) -> None:
    with refused("SF-RECORD-MISSING", "summary.json"):
        read_unknowns(tmp_path)
    (tmp_path / "summary.json").write_text('{"schema": 1, "experiment": "suite"}')
    with refused("SF-RECORD-SCHEMA", "surefoot reproduce unknowns"):
        read_unknowns(tmp_path)
    with refused("SF-RECORD-SCHEMA", "summary", "schema 1"):
        render_unknowns({"schema": 1, "experiment": "suite"})
