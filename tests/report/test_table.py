"""The table repeats the summary's numbers, neither more nor less."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from surefoot.report.records import Summary
from surefoot.report.table import render_table, row, worst_excess
from tests.report.runs import AGENTS, write_run


def test_every_number_is_the_summarys(tmp_path: Path) -> None:
    raw = write_run(tmp_path / "run", limits=(1.5, 0.2), published={"pce": 13_000})
    title, _, *lines = render_table(raw).splitlines()
    assert len(lines) == len(AGENTS)
    for name, line in zip(AGENTS, lines):
        agent = raw["agents"][name]
        regret = np.array(agent["regret"]["2000"])
        broke = np.array(agent["violating_episodes"])
        excess = (np.array(agent["max_cost"]) - [1.5, 0.2]).max()
        assert line.split() == [
            name,
            f"{regret.mean():,.0f}",
            f"{regret.min():,.0f}",
            "to",
            f"{regret.max():,.0f}",
            "13,000" if name == "pce" else "-",
            f"{broke.sum():,}",
            f"{excess:+.3f}" if abs(excess) > 5e-4 else "0.000",
            f"{(broke > 0).sum()}/3",
            f"{np.mean(agent['final_candidate_weight']):.2f}",
            "1.5",
        ]
    assert "published" in title


def test_columns_are_aligned_and_nothing_published_means_no_column(tmp_path: Path) -> None:
    lines = render_table(write_run(tmp_path / "run")).splitlines()
    assert {len(line) for line in lines} == {len(lines[1])}
    assert "published" not in lines[0]


def test_rounding_noise_at_the_limit_carries_no_sign(tmp_path: Path) -> None:
    raw = write_run(tmp_path / "run", agents=["oracle"])
    raw["agents"]["oracle"]["max_cost"] = [1.5 + 1e-12, 1.5 - 1e-12, 1.5]
    summary = Summary.of(raw)
    assert worst_excess(summary, summary.agents[0]) == "0.000"


@pytest.mark.parametrize(("cost", "shown"), [(1.511, "+0.011"), (1.489, "-0.011")])
def test_excess_is_signed_and_the_worst_of_all_tasks(tmp_path: Path, cost: float, shown: str) -> None:
    raw = write_run(tmp_path / "run", agents=["pce"])
    raw["agents"]["pce"]["max_cost"] = [1.2, cost, 1.3]
    summary = Summary.of(raw)
    assert worst_excess(summary, summary.agents[0]) == shown


def test_control_characters_do_not_reach_a_terminal(tmp_path: Path) -> None:
    summary = Summary.of(write_run(tmp_path / "run", agents=["pce\x1b[31m\n"]))
    assert row(summary, summary.agents[0])[0] == "pce?[31m?"
