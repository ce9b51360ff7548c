"""The suite in small: families x agents, what is written, refusals, and that nothing depends on the workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot import PolicySet, evaluate, solve
from surefoot.experiments.suite import DEFAULT_AGENTS, reproduce
from surefoot.report.figures import figure2
from surefoot.report.suite import render_suite
from surefoot.tasks import make_family
from tests.refusals import refused

AGENTS = ("oracle", "always-safe", "certified:data", "certified:cells", "robust-fixed:0.5")
SMALL: dict[str, Any] = {
    "families": ("inventory", "lake"), "agents": AGENTS, "tasks": 2, "episodes": 400, "cells": 4, "policies": 3,
    "training_tasks": 50, "holdout": 20, "seed": 4, "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("runs") / "suite"
    return out, reproduce(out, **SMALL)


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if "seconds" not in k}
    return value


@pytest.mark.slow
def test_the_summary_has_a_row_per_family_and_a_cell_per_agent(run: tuple[Path, dict[str, Any]]) -> None:
    out, summary = run
    assert json.loads((out / "summary.json").read_text()) == summary
    promised = {"schema": 1, "experiment": "suite", "seed": 4, "episodes": 400, "tasks": 2, "agents": list(AGENTS)}
    assert {key: summary[key] for key in promised} == promised
    assert list(summary["families"]) == ["inventory", "lake"]
    for row in summary["families"].values():
        assert set(row["agents"]) == set(AGENTS)
        assert row["agents"]["oracle"]["share"] == pytest.approx(0.0, abs=1e-6)
        assert row["agents"]["always-safe"]["share"] == pytest.approx(1.0)
        assert row["agents"]["certified:data"]["violating_runs"] == 0


def test_shares_are_of_what_the_safe_policy_gives_up_on_the_same_tasks(run: tuple[Path, dict[str, Any]]) -> None:
    out, summary = run
    family = make_family("lake")
    logs = json.loads((out / "lake" / "summary.json").read_text())
    safe = PolicySet.load(out / "lake" / "policy-set.sf").safe_policy
    tasks = [family.cmdp(t["slip"]) for t in logs["tasks"]]
    given_up = 400 * np.mean([solve(t).value - evaluate(t, safe).reward for t in tasks])
    row = summary["families"]["lake"]
    assert row["always_safe_regret"] == pytest.approx(given_up)
    assert row["agents"]["robust-fixed:0.5"]["regret"] == pytest.approx(
        np.mean(logs["agents"]["robust-fixed:0.5"]["regret"]["400"])
    )
    assert row["agents"]["robust-fixed:0.5"]["share"] == pytest.approx(
        row["agents"]["robust-fixed:0.5"]["regret"] / given_up
    )


def test_every_folder_is_a_comparison_that_figures_can_be_drawn_from(run: tuple[Path, dict[str, Any]]) -> None:
    out, _ = run
    assert figure2(out / "inventory").stat().st_size > 10_000


def test_an_agent_that_refuses_a_family_is_shown_with_its_reason(run: tuple[Path, dict[str, Any]]) -> None:
    """Twenty hold-out tasks cannot show that at most 5% are uncovered."""
    _, summary = run
    refused = summary["families"]["lake"]["agents"]["certified:cells"]
    assert list(refused) == ["refused"]
    assert "trust='cells' needs at most p_max=0.05" in refused["refused"]
    table = render_suite(summary)
    line = next(text for text in table.splitlines() if text.startswith("certified:cells "))
    assert line.split()[1:] == ["refused", "refused"]
    assert f"certified:cells refused lake: {refused['refused']}" in table


def test_the_table_has_agents_down_and_families_across(run: tuple[Path, dict[str, Any]]) -> None:
    lines = render_suite(run[1]).splitlines()
    assert lines[2].split() == ["agent", "inventory", "lake"]
    (oracle,) = [text for text in lines if text.startswith("oracle ")]
    assert oracle.split() == ["oracle", "0.000", "0/2", "0.00", "0.000", "0/2", "0.00"]
    with refused("SF-RECORD-SCHEMA", "summary", "schema 1"):
        render_suite({"schema": 1, "experiment": "gridworld"})


@pytest.mark.slow
def test_workers_and_neighbouring_families_change_nothing(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    alone = reproduce(tmp_path / "one", **(SMALL | {"families": ("lake",), "workers": 2}))
    assert timeless(alone["families"]["lake"]) == timeless(run[1]["families"]["lake"])


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"families": ("pond",)}, ("SF-ARGUMENT-CHOICE", "family", "admission, cliff, gridworld", "'pond'")),
        ({"families": ()}, ("SF-ARGUMENT-DISTINCT", "families")),
        ({"agents": ("sage",)}, ("SF-ARGUMENT-CHOICE", "agent", "'sage'")),
        ({"agents": ("pce", "pce")}, ("SF-ARGUMENT-DISTINCT", "agents")),
        ({"episodes": 0}, ("SF-ARGUMENT-RANGE", "episodes", "1", "0")),
        ({"tasks": 0}, ("SF-ARGUMENT-RANGE", "tasks", "1", "0")),
        ({"delta": 1.0}, ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "1")),
        ({"workers": 0}, ("SF-ARGUMENT-RANGE", "workers", "1", "0")),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    changes: dict[str, Any], refusal: tuple[str, ...], tmp_path: Path
) -> None:
    with refused(*refusal):
        reproduce(tmp_path / "out", **(SMALL | changes))
    assert not (tmp_path / "out").exists()


def test_a_directory_is_never_written_over(run: tuple[Path, dict[str, Any]]) -> None:
    with refused("SF-OUTPUT-EXISTS", "out"):
        reproduce(run[0], **SMALL)


def test_the_default_agents_are_those_the_page_lists() -> None:
    assert DEFAULT_AGENTS == (
        "oracle", "always-safe", "certified:cells", "certified:envelope", "certified:data", "safe-pce:theory", "pce",
    )  # fmt: skip
