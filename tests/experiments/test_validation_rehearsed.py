"""Rehearsed agents under ``surefoot validate``: judged by what was rehearsed, and by data bounds once they left their protocol."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.experiments.validation import SCENARIOS, validate
from surefoot.experiments.validation.run import playable
from surefoot.experiments.validation.scenarios import World, dearest
from surefoot.experiments.validation.summary import rows_of
from surefoot.experiments.validation.trial import Job, Outcome, TrialSettings, play_jobs
from surefoot.policyset.rehearsed import QUANTILES, Rehearsed, RungRecord
from surefoot.protocol import Protocol
from surefoot.report.validation import render_validation
from surefoot.tasks import NoisyGridworld
from surefoot.training.belief import learn_belief
from tests.refusals import refused

pytestmark = pytest.mark.slow

WORLD = NoisyGridworld()
EPISODES, ALPHA = 150, 0.3


@cache
def rehearsed_set(boldness: float = 2.5, surprise: float = np.inf) -> sf.PolicySet:
    """With a certificate that is made up, so that everything about it is known."""
    trained = sf.train(WORLD, tasks=40, holdout=0, cells=6, seed=1, progress=False)
    believing = learn_belief(trained, WORLD, tasks=60, seed=2, progress=False)
    rung = RungRecord(f"{boldness:g}", boldness, 100, 0, 0.03, True, True, 1.0, (1.0,) * len(QUANTILES), 1.0, 0.0)
    found = Rehearsed(
        WORLD.name, "0" * 64, believing.library_hash, 0, 1, ALPHA, 0.05, 0.025, 100, EPISODES, "all", Protocol(), (rung,), 0, 0.03, 0.0,
        surprise, 0.01,
    )  # fmt: skip
    return replace(believing, rehearsed=found)


def outcomes(scenario: str, noises: Any, policy_set: sf.PolicySet, agent: str = "rehearsed") -> list[Outcome]:
    jobs = [Job(agent, scenario, k, (float(q),)) for k, q in enumerate(noises)]
    return play_jobs(World(WORLD, policy_set, policy_set), jobs, TrialSettings(EPISODES, 0.05, 1))


def test_a_deployment_as_rehearsed_is_judged_at_the_share_that_was_certified() -> None:
    found = outcomes("family", [0.27, 0.3, 0.33], rehearsed_set())
    assert [o.error for o in found] == [None] * 3
    assert [(o.left, o.alpha, o.holds, o.alarm) for o in found] == [(None, ALPHA, True, None)] * 3
    (row,) = rows_of(found, 0.05)
    assert (row["status"], row["violations"]["allowed"], row["protocol"]["left"]) == ("judged", ALPHA, 0)
    assert row["bound_failures"]["allowed"] is None, "data bounds are not what this rests on"
    (twice,) = rows_of(outcomes("reweighted", [0.3], rehearsed_set()), 0.05)
    assert twice["violations"]["allowed"] == 2 * ALPHA
    (free,) = rows_of(outcomes("family", [0.3], rehearsed_set(), "rehearsed:2.5"), 0.05)
    assert free["status"] == "measured", "a setting that nobody rehearsed promises nothing"


def test_a_reckless_setting_fails_its_row_and_the_cause_is_the_rehearsal() -> None:
    reckless = rehearsed_set(boldness=1e-6)
    (row,) = rows_of(outcomes("family", np.linspace(0.27, 0.34, 12), reckless), 0.05)
    assert row["violations"]["count"] >= 10 and row["passed"] is False
    assert row["causes"]["rehearsal"] == row["violations"]["count"]


@pytest.mark.parametrize("scenario", ["batches", "lost"])
def test_outside_its_protocol_an_agent_is_judged_by_its_data_bounds(scenario: str) -> None:
    found = outcomes(scenario, [0.28, 0.3, 0.32, 0.34], rehearsed_set(boldness=1e-6))
    assert all(o.left is not None and o.holds for o in found)
    assert all(o.violating_after == 0 for o in found), "even the most reckless belief is not followed any more"
    (row,) = rows_of(found, 0.05)
    assert row["violations"]["allowed"] is None and row["protocol"]["left"] == 4
    assert row["protocol"]["violations_after"]["allowed"] == 0.05 and row["passed"] is True


def test_violations_after_leaving_fail_the_row() -> None:
    run = outcomes("batches", [0.3], rehearsed_set())[0]
    bad = [replace(run, violating=50, violating_after=50, excess=0.1, cause="other")] * 10
    (row,) = rows_of(bad, 0.05)
    assert row["passed"] is False and row["violations"]["passed"] is None


def test_tasks_outside_the_family_promise_nothing_and_surprise_alarms() -> None:
    (row,) = rows_of(outcomes("outside", [0.45], rehearsed_set(surprise=1.0)), 0.05)
    assert row["status"] == "measured" and row["alarms"]["count"] == 1
    assert row["errors"]["count"] == 0, "after an alarm episodes are asked on, of the safe policy"
    assert row["alarms"]["episodes"]["quantiles"]["0.5"] < EPISODES


def test_of_every_two_tasks_the_dearer_one_is_met() -> None:
    world = World(WORLD, rehearsed_set(), rehearsed_set())
    np.testing.assert_array_equal(dearest(world, np.array([[0.3], [0.35], [0.33], [0.2]])), [[0.35], [0.33]])


def test_the_file_says_when_protocols_were_left(tmp_path: Any) -> None:
    summary = validate(
        tmp_path / "one", WORLD, ["rehearsed"], scenarios=("family", "batches"), runs=3, episodes=EPISODES, calibration_runs=0, seed=4,
        policy_set=rehearsed_set(), progress=False,
    )  # fmt: skip
    assert [(row["scenario"], row["protocol"]["left"]) for row in summary["rows"]] == [("family", 0), ("batches", 3)]
    assert "rehearsed left its protocol in 3 of 3 runs of batches" in render_validation(summary)


def test_scenarios_that_train_anew_are_not_for_a_rehearsed_agent(tmp_path: Any) -> None:
    assert playable(["rehearsed"]) == ("family", "outside", "lost", "late", "batches", "reweighted")
    assert playable(["certified:data"]) == tuple(SCENARIOS)
    with refused("SF-ARGUMENT-COMBINATION", "scenarios", "'heavy'"):
        validate(tmp_path / "no", WORLD, ["rehearsed:2"], scenarios=("heavy",))
