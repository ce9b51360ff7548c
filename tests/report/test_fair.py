"""The table of rehearsed methods repeats the summary's numbers and hides no method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from surefoot.report.fair import render_fair_table
from tests.refusals import refused
from tests.report.runs import write_run


def rung(agent: str, violating: int, upper: float | None, plants: int = 59) -> dict[str, Any]:
    return {"agent": agent, "plants": plants, "violating": violating, "upper": upper, "accepted": upper is not None}


def made_up(folder: Path) -> dict[str, Any]:
    ladders = [
        {"method": "safe-pce", "ladder": 9, "chosen": "safe-pce:published", "boldest_accepted": "safe-pce:published",
         "rungs": [rung("safe-pce:theory", 0, 0.0495), rung("safe-pce:published", 0, 0.0495), rung("safe-pce:between=1.1", 1, None, 7)]},
        {"method": "pce", "ladder": 2, "chosen": None, "boldest_accepted": None, "rungs": [rung("pce:theory", 1, None, 1)]},
    ]  # fmt: skip
    rehearsal = {
        "plants": 59,
        "alpha": 0.05,
        "delta_coverage": 0.05,
        "fixed": ["oracle", "always-safe"],
        "ladders": ladders,
    }
    return write_run(folder / "run", agents=("oracle", "always-safe", "safe-pce:published"), rehearsal=rehearsal)


def test_every_method_has_its_row(tmp_path: Path) -> None:
    raw = made_up(tmp_path)
    about, _, titles, _, *lines = render_fair_table(raw).splitlines()
    assert "59 fresh plants" in about and "95% confidence" in about and "5% of deployments" in about
    assert titles.split()[:2] == ["method", "setting"]
    assert [line.split()[0] for line in lines] == ["oracle", "always-safe", "safe-pce", "pce"]
    regret = raw["agents"]["safe-pce:published"]["regret"]["2000"]
    shown = f"published 2 of 9 59 0 5% {sum(regret) / 3:,.0f} {min(regret):,.0f} to {max(regret):,.0f}"
    assert " ".join(lines[2].split()[1:]).startswith(shown)
    assert "no rung accepted: not deployable (theory)" in lines[3] and " ".join(lines[3].split()).endswith(
        "0 of 2 1 1 - - - - -"
    )


def test_another_summary_is_refused(tmp_path: Path) -> None:
    with refused("SF-RECORD-FIELD", "rehearsal"):
        render_fair_table(write_run(tmp_path / "run"))


def test_test_runs_above_a_limit_are_counted(tmp_path: Path) -> None:
    raw = made_up(tmp_path)
    raw["agents"]["safe-pce:published"]["violating_episodes"] = [0, 5, 0]
    line = render_fair_table(raw).splitlines()[6]
    assert "1 of 3" in line
