"""``surefoot validate``: broken agents are caught by judged rows, causes are named rightly, results repeat."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot import OutputExists
from surefoot.cmdp.evaluate import evaluate, evaluate_many
from surefoot.deploy.bounds import ProductRegion
from surefoot.deploy.certified import CertifiedAgent
from surefoot.experiments.registry import AGENTS, Recipe
from surefoot.experiments.validation import SCENARIOS, validate
from surefoot.experiments.validation.changes import Change
from surefoot.experiments.validation.delivery import ADVERSARIES, LATEST, Adversary
from surefoot.experiments.validation.heavy import RareCatastrophes
from surefoot.experiments.validation.procedure import run_procedure
from surefoot.experiments.validation.scenarios import TaskSampler, worst_tasks
from surefoot.experiments.validation.summary import judged_rows_pass, procedure_rows, rate, rows_of
from surefoot.experiments.validation.trial import Job, Outcome, TrialSettings, play_jobs
from surefoot.experiments.validation.truth import Truth, assumption_holds, cause_of, library_tables, outside_region
from surefoot.report.validation import render_validation
from tests.experiments.validation_worlds import WORLD, points, small_atlas, small_set, small_world, with_mutants
from tests.refusals import refused

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {
    "runs": 4, "episodes": 150, "calibration_runs": 2, "seed": 5, "progress": False, "outside": points(0.39, 0.42),
    "scenarios": ("family", "outside", "lost"),
}  # fmt: skip


def truth_at(noise: float) -> Truth:
    return small_atlas().truth(np.array([noise]))


def run_rows(agent: str, scenario: str, noises: Any, runs: int, episodes: int) -> list[dict[str, Any]]:
    jobs = [Job(agent, scenario, r, (float(noises[r % len(noises)]),)) for r in range(runs)]
    return rows_of(play_jobs(small_world(), jobs, TrialSettings(episodes, 0.05, 1)), 0.05)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("validation") / "one"
    return out, validate(out, WORLD, ["certified:cells", "always-safe"], policy_set=small_set(), **SMALL)


# The whole


def test_the_file_holds_what_was_returned_and_every_row_says_whether_it_is_judged(done: Any) -> None:
    out, summary = done
    assert json.loads((out / "validation.json").read_text()) == summary
    assert (summary["schema"], summary["experiment"], summary["runs"], summary["delta"]) == (1, "validation", 4, 0.05)
    assert set(summary["policy_sets"]) == {"main"}
    assert {(r["agent"], r["scenario"], r["status"]) for r in summary["rows"]} >= {
        ("certified:cells", "lost", "judged"),
        ("certified:cells", "outside", "measured"),
        ("always-safe", "family", "measured"),
    }
    for row in summary["rows"]:
        assert (row["passed"] is None) == (row["status"] == "measured")
        assert row["assumption_holds"] == (row["status"] == "judged")
        low, high = row["violations"]["interval"]
        assert low <= row["violations"]["rate"] <= high
        assert sum(row["causes"].values()) == row["violations"]["count"]
        assert set(row["regret"]["quantiles"]) == {"0.05", "0.25", "0.5", "0.75", "0.95"}
    for agent in ("certified:cells", "always-safe"):
        for scenario in SMALL["scenarios"]:
            assert sum(r["runs"] for r in summary["rows"] if (r["agent"], r["scenario"]) == (agent, scenario)) == 4
    assert len(summary["violations"]) == sum(r["violations"]["count"] for r in summary["rows"])
    assert {(c["kind"], c["position"]) for c in summary["calibration"]} == {
        *((kind, place) for kind in ("transitions", "joint", "separate", "all", "returns") for place in ("inside", "edges")),
        *((kind, "vertices") for kind in ("transitions", "joint", "separate", "returns")),
        ("joint", "vertices by initial state"),
    }  # fmt: skip


def test_results_depend_neither_on_workers_nor_on_when_they_were_made(done: Any, tmp_path: Path) -> None:
    again = validate(
        tmp_path / "two", WORLD, ["certified:cells", "always-safe"], policy_set=small_set(), workers=2, **SMALL
    )
    assert again | {"seconds": 0} == done[1] | {"seconds": 0}
    other = validate(
        tmp_path / "three", WORLD, ["certified:cells"], policy_set=small_set(),
        **SMALL | {"seed": 6, "scenarios": ("family",), "calibration_runs": 0},
    )  # fmt: skip
    assert other["rows"][0]["regret"] != done[1]["rows"][0]["regret"]


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"agents": []}, ("SF-ARGUMENT-DISTINCT", "agents", "[]")),
        ({"agents": ["always-safe", "always-safe"]}, ("SF-ARGUMENT-DISTINCT", "agents")),
        ({"agents": ["sage"]}, ("SF-ARGUMENT-CHOICE", "agent", "'sage'")),
        ({"scenarios": ("family", "moon")}, ("SF-ARGUMENT-CHOICE", "scenarios", "'moon'")),
        ({"scenarios": ()}, ("SF-ARGUMENT-CHOICE", "scenarios")),
        ({"runs": 0}, ("SF-ARGUMENT-RANGE", "runs", "1", "0")),
        ({"episodes": 0}, ("SF-ARGUMENT-RANGE", "episodes", "1")),
        ({"calibration_runs": -1}, ("SF-ARGUMENT-RANGE", "calibration_runs", "0", "-1")),
        ({"delta": 1.0}, ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "1")),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_made(
    changes: dict[str, Any], refusal: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = {"agents": ["always-safe"], "policy_set": small_set()} | SMALL | changes
    with refused(*refusal):
        validate(tmp_path / "out", WORLD, arguments.pop("agents"), **arguments)
    assert not (tmp_path / "out").exists()


def test_a_directory_is_never_written_over(done: Any) -> None:
    with pytest.raises(OutputExists):
        validate(done[0], WORLD, ["always-safe"], policy_set=small_set(), **SMALL)


# Mutants


def test_an_agent_that_spends_more_delta_than_it_says_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    with_mutants(monkeypatch)
    noises = small_atlas().edges()[0][4:9, 0]
    (row,) = run_rows("hasty:cells", "edges", noises, 30, 400)
    assert (row["status"], row["passed"]) == ("judged", False)
    assert row["eliminations"]["p_value"] < 1e-3 and 0.04 < row["eliminations"]["allowed"] <= 0.05
    (honest,) = run_rows("honest:cells", "edges", noises, 30, 400)
    assert honest["passed"] is True


@pytest.mark.parametrize("trust", ["cells", "data"])
def test_an_agent_whose_bounds_are_halved_is_flagged(monkeypatch: pytest.MonkeyPatch, trust: str) -> None:
    with_mutants(monkeypatch)
    (row,) = run_rows(f"halving:{trust}", "family", [0.34, 0.36], 8, 300)
    assert (row["status"], row["passed"], row["bound_failures"]["count"]) == ("judged", False, 8)
    if trust == "cells":
        assert row["causes"]["data bound"] == row["violations"]["count"] > 0
    (honest,) = run_rows(f"honest:{trust}", "family", [0.34, 0.36], 8, 300)
    assert (honest["passed"], honest["bound_failures"]["count"]) == (True, 0)


def test_an_agent_that_raises_fails_its_row_and_does_not_end_the_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    with_mutants(monkeypatch)
    (row,) = run_rows("fragile:data", "family", [0.3], 2, 200)
    assert (row["passed"], row["errors"]["count"]) == (False, 2)
    assert row["errors"]["first"].startswith("InvalidReport: costs must be told in another order")


def test_violations_of_agents_without_claims_are_measured_not_judged() -> None:
    (row,) = run_rows("robust-fixed:0.2", "family", [0.34], 2, 50)
    assert (row["status"], row["passed"], row["violations"]["count"]) == ("measured", None, 2)
    assert row["causes"]["other"] == 2
    expected = evaluate_many(WORLD.cmdp(0.34), robust_table(0.2))[0, 1] - 1.5
    assert row["largest_excess"] == pytest.approx(float(expected))
    assert row["violating_episodes"] == row["violating_episodes_before_alarm"] == 100


def robust_table(noise: float) -> Any:
    from surefoot import solve

    return solve(WORLD.cmdp(noise)).value_or_raise().policy


def test_beyond_the_family_alarms_are_timed_and_the_safe_policys_own_excess_is_named() -> None:
    (row,) = run_rows("certified:cells", "outside", [0.45], 3, 2000)
    assert row["status"] == "measured" and row["causes"]["safe margin"] == 3
    assert row["alarms"]["count"] == 3
    assert 0 < row["alarms"]["episodes"]["quantiles"]["0.5"] < 2000
    assert row["violating_episodes_before_alarm"] < row["violating_episodes"]
    assert row["regret"] is None, "no policy meets the limit there"


# Truth and causes


def test_a_task_lies_in_the_cells_whose_every_interval_holds_it() -> None:
    cells = small_set().cells
    for i in (0, 3):
        assert i in truth_at(float(cells.parameters[i, 0])).cells
    assert truth_at(0.42).cells.size == 0 and truth_at(0.42).home is None
    found = truth_at(0.3)
    np.testing.assert_allclose(found.values, evaluate_many(WORLD.cmdp(0.3), library_tables(small_set().policies)))
    assert found.optimum == pytest.approx(51.96, abs=0.005)
    assert found.margin == pytest.approx(1.5 - found.values[0, 1])


@pytest.mark.parametrize("part", ["predictions", "conditional", "kernel", "optimal_upper"])
def test_one_interval_that_misses_the_task_takes_it_out_of_the_cell(part: str) -> None:
    cells, point = small_set().cells, 0.3
    home = truth_at(point).home
    assert home is not None
    if part == "optimal_upper":
        shrunk = replace(cells, optimal_upper=cells.optimal_upper - 100.0 * (np.arange(len(cells)) == home))
    else:
        box = getattr(cells, part)
        name = "upper" if part == "kernel" else "cost_upper"
        values = getattr(box, name).copy()
        low = getattr(box, name.replace("upper", "lower"))
        spot = np.unravel_index((values[home] - low[home]).argmax(), values[home].shape)
        values[(home, *spot)] = low[(home, *spot)]
        if part == "kernel":
            values[home] = np.where(np.arange(values.shape[1]) == spot[0], low[home], values[home])
        shrunk = replace(cells, **{part: replace(box, **{name: values})})
    mutant = replace(small_set(), cells=shrunk)
    found = Truth.of(mutant, library_tables(mutant.policies), WORLD.cmdp(point), [point])
    assert home not in found.cells


def test_causes_are_told_apart() -> None:
    truth = truth_at(0.33)
    n_cells, margin = len(small_set().cells), small_set().safe_margin
    everyone, nobody = np.ones(n_cells, dtype=bool), np.zeros(n_cells, dtype=bool)
    right, played = truth.values[:, 1:] + 0.1, np.ones(len(truth.values), dtype=bool)
    low = right.copy()
    low[2] -= 0.2
    assert cause_of("cells", truth, margin, everyone, right, played) == "other"
    assert cause_of("cells", truth, margin, nobody, right, played) == "false elimination"
    assert cause_of("cells", truth, margin, everyone, low, played) == "data bound"
    assert cause_of("data", truth, margin, nobody, low, played) == "data bound"
    assert cause_of("cells", truth, margin, everyone, low, np.arange(len(truth.values)) != 2) == "other"
    active = nobody.copy()
    active[truth.cells[-1]] = True
    assert cause_of("cells", truth, margin, active, right, played) == "other"
    away = replace(truth, cells=np.zeros(0, dtype=np.int64))
    assert cause_of("cells", away, margin, everyone, right, played) == "no cell"
    assert cause_of("cells", replace(truth, margin=0.01), margin, nobody, low, played) == "safe margin"
    assert cause_of("envelope", replace(truth, above_envelope=0.2), margin, everyone, low, played) == "envelope"
    assert cause_of("cells", replace(away, margin=0.01), margin, everyone, low, played) == "no cell"
    assert cause_of("cells", replace(away, margin=-0.01), margin, everyone, low, played) == "safe margin"
    tall = replace(truth, above_ceiling=1.0)
    assert cause_of("cells", tall, margin, everyone, low, played) == "ceiling"
    assert cause_of("data", tall, margin, everyone, low, played) == "data bound"
    assert cause_of("data", replace(truth, above_declared=1.0), margin, everyone, low, played) == "ceiling"
    assert cause_of(None, truth, margin, None, None, played) == "other"


def test_assumptions_are_checked_as_the_trust_levels_state_them() -> None:
    margin = small_set().safe_margin
    inside, beyond = truth_at(0.33), truth_at(0.42)
    assert all(assumption_holds(trust, inside, margin) for trust in ("cells", "envelope", "data"))
    assert not any(assumption_holds(trust, beyond, margin) for trust in ("cells", "envelope", "data"))
    assert not assumption_holds(None, inside, 0.0)
    assert not assumption_holds("data", inside, inside.margin + 1e-3)
    nowhere = replace(inside, cells=np.zeros(0, dtype=np.int64))
    assert not assumption_holds("cells", nowhere, margin) and assumption_holds("envelope", nowhere, margin)
    tall = replace(inside, above_ceiling=0.5)
    assert [assumption_holds(trust, tall, margin) for trust in ("cells", "envelope", "data")] == [False, False, True]
    assert not assumption_holds("data", replace(inside, above_declared=0.5), margin)
    assert inside.above_ceiling <= 1e-9 and inside.above_declared <= -9.0
    dear = replace(inside, above_envelope=0.01)
    assert not assumption_holds("envelope", dear, margin) and assumption_holds("cells", dear, margin)


# Rows


def outcome(**changes: Any) -> Outcome:
    base = Outcome(
        job=Job("a", "family", 0, (0.3,)), mode="prompt", trust="cells", holds=True, violating=0, first=None, excess=-0.1,
        cause=None, eliminated=False, bound_failed=False, alarm=None, violating_before_alarm=0, regret=1.0,
        elimination_delta=0.048, bounds_delta=0.002, error=None,
    )  # fmt: skip
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("failures", "passed"),
    [({"violating": 5, "cause": "other"}, False), ({"eliminated": True}, False), ({"bound_failed": True}, False), ({}, True)],
)  # fmt: skip
def test_each_of_the_three_tests_can_fail_a_judged_row(failures: dict[str, Any], passed: bool) -> None:
    runs = [outcome(**failures) for _ in range(8)] + [outcome() for _ in range(12)]
    (row,) = rows_of(runs, 0.05)
    assert row["passed"] is passed and judged_rows_pass([row]) is passed
    (measured,) = rows_of([replace(o, holds=False) for o in runs], 0.05)
    assert measured["passed"] is None and judged_rows_pass([measured])


def test_the_test_of_a_rate_rejects_at_one_in_a_thousand() -> None:
    # P(Bin(100, .05) >= 12) = .0043 and P(>= 14) = .00046
    assert rate([True] * 12 + [False] * 88, 0.05)["passed"] is True
    assert rate([True] * 14 + [False] * 86, 0.05)["passed"] is False
    assert rate([True] * 50, None)["passed"] is None


def test_runs_whose_assumption_fails_get_a_row_of_their_own() -> None:
    rows = rows_of([outcome(), outcome(holds=False, violating=3, cause="no cell"), outcome()], 0.05)
    assert [(r["status"], r["runs"], r["violations"]["count"]) for r in rows] == [("judged", 2, 0), ("measured", 1, 1)]


# Scenarios


def test_edge_tasks_stand_where_a_cell_ends() -> None:
    atlas = small_atlas()
    edges, owners = atlas.edges()
    centers = small_set().cells.parameters[:, 0]
    assert edges.max() > centers.max() and edges.min() < centers.min(), "the ends of the family are among them"
    assert not atlas.truth(np.array([edges.max() + 2e-4])).cells.size
    for point, cell in zip(edges[:, 0], owners):
        found = atlas.truth(np.array([point]))
        assert cell in found.cells
        if point < 0.379:
            beyond = point + np.sign(point - centers[cell]) * 2e-4
            assert cell not in atlas.truth(np.array([beyond])).cells


def test_outside_tasks_lie_in_no_cell_and_missing_ones_are_an_error() -> None:
    atlas = TaskSampler(replace(small_world(), outside=points(0.3, 0.41, 2.0)))
    np.testing.assert_array_equal(atlas.outside(), [[0.41]])
    net = TaskSampler(small_world()).outside()
    assert (net > 0.38).all() and len(net) >= 4
    with refused("SF-ARGUMENT-EMPTY", "outside"):
        TaskSampler(replace(small_world(), outside=points(0.3))).outside()


def test_the_worst_tasks_are_those_with_the_largest_scores() -> None:
    chosen = worst_tasks(points(0.1, 0.2, 0.3, 0.4), lambda k: [5.0, -1.0, 7.0, 5.0][k], 2)
    np.testing.assert_array_equal(chosen, [[0.1], [0.3]])


def test_the_pilot_finds_the_task_on_which_a_fixed_policy_fails(tmp_path: Path) -> None:
    summary = validate(
        tmp_path / "out", WORLD, ["robust-fixed:0.33"], policy_set=small_set(), scenarios=("adversarial",), runs=6,
        episodes=20, calibration_runs=0, progress=False,
    )  # fmt: skip
    (row,) = summary["rows"]
    assert row["violations"]["count"] == 6
    assert min(v["task"]["noise"] for v in summary["violations"]) > 0.34


def test_rare_catastrophes_leave_hardly_any_margin_and_a_heavy_tail() -> None:
    family = RareCatastrophes(WORLD)
    assert family.cmdp([0.38]).n_states == 50
    worst = evaluate(family.cmdp([0.38]), family.safe_policy()).costs
    np.testing.assert_allclose(worst, 0.98 * family.criterion.cost_limits)
    from surefoot import simulate

    costs = simulate(family.cmdp([0.34]), family.safe_policy(), episodes=20_000, seed=1).costs[:, 0]
    limit = float(family.criterion.cost_limits[0])
    assert costs.max() > 20 * limit
    assert (costs == 0.0).mean() > 0.5
    with refused("SF-POLICY-KIND", "base", "object"):
        RareCatastrophes(object())
    with refused("SF-ARGUMENT-RANGE", "margin"):
        RareCatastrophes(WORLD, margin=0.0)


# Reports


@pytest.mark.parametrize("mode", ADVERSARIES)
def test_the_adversary_decides_by_the_outcome(mode: str) -> None:
    rng = np.random.default_rng(0)
    returns, costs = rng.random(4000), np.where(rng.random((4000, 1)) < 0.3, 5.0, 0.0)
    deceit = Adversary(mode, np.array([1.5]), 9000, np.random.default_rng(1))
    fates = deceit.delivery(5000, returns, costs)
    good = returns >= np.median(returns)
    assert (fates.delay[~good & ~fates.lost] == 0).all()
    assert set(fates.delay[good & ~fates.lost]) == {LATEST // 2, LATEST}
    dear = costs[:, 0] > 1.5
    hidden = {"late": np.zeros(4000, dtype=bool), "hide bargains": good & ~dear}.get(mode, dear)
    assert not fates.lost[~hidden].any()
    if hidden.any():
        assert fates.lost[hidden].mean() == pytest.approx(0.1, abs=0.03)
    assert fates.declared.sum() == (0 if mode == "hide in silence" else fates.lost.sum())
    if mode == "hide in silence":
        assert not deceit.delivery(100, returns, costs).lost.any(), "it starts after a third of the run"


def test_reports_arrive_late_split_by_outcome_and_lost_ones_never(monkeypatch: pytest.MonkeyPatch) -> None:
    with_mutants(monkeypatch)
    from surefoot.deploy.certified import CertifiedAgent

    heard: list[Any] = []

    class Listening(CertifiedAgent):
        def tell(self, ids: Any, *arguments: Any, **options: Any) -> None:
            heard.append(("told", self._tracker.opened, list(ids), int(options["transitions"][:, 3].sum())))
            super().tell(ids, *arguments, **options)

        def lost(self, ids: Any) -> None:
            heard.append(("lost", self._tracker.opened, list(ids), 0))
            super().lost(ids)

    monkeypatch.setitem(AGENTS, "listening", Recipe(lambda c, _: Listening(c.policy_set, delta=c.delta, seed=c.seed)))
    run = ADVERSARIES.index("hide costs")
    play_jobs(small_world(), [Job("listening", "lost", run, (0.34,))], TrialSettings(600, 0.05, 3))
    told = [k for kind, _, ids, _ in heard if kind == "told" for k in ids]
    lost = [k for kind, _, ids, _ in heard if kind == "lost" for k in ids]
    assert len(set(told)) == len(told) and not set(told) & set(lost)
    assert lost, "costly episodes were hidden"
    assert all(steps > 0 for kind, _, _, steps in heard if kind == "told"), "every letter has its own transitions"
    waits = [asked - max(ids) for kind, asked, ids, _ in heard if kind == "told"]
    assert max(waits) >= LATEST // 2
    assert set(range(500)) <= set(told) | set(lost)


def test_scenarios_are_described() -> None:
    first = ["family", "edges", "outside", "heavy", "lost", "adversarial"]
    assert list(SCENARIOS) == [
        *first,
        "late",
        "starts",
        "support",
        "looks",
        "batches",
        "reweighted",
        "history",
        "drift",
    ], "seeds depend on the order"


# Late reports, and whole procedures


def test_what_is_given_up_is_never_skipped_and_who_skips_it_refutes_true_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcomes() -> list[Outcome]:
        jobs = [Job("certified:cells", "late", run, (0.3,)) for run in range(2)]
        return play_jobs(small_world(), jobs, TrialSettings(100, 0.05, 1))

    honest = outcomes()
    assert [o.mode for o in honest] == ["overdue, losses worst", "overdue, losses independent"]
    assert not any(o.eliminated or o.bound_failed or o.violating for o in honest)
    build = CertifiedAgent._build

    def careless(agent: Any, *arguments: Any) -> None:
        build(agent, *arguments)
        agent._evidence.forfeit = lambda *lost: None

    monkeypatch.setattr(CertifiedAgent, "_build", careless)
    assert all(o.eliminated for o in outcomes())


@pytest.mark.parametrize("scenario", ["starts", "support"])
def test_rare_tasks_are_refused_and_a_hold_out_that_overlooks_them_is_convicted(
    scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(runs: int) -> dict[str, Any]:
        found = [run_procedure(scenario, "certified:cells", run, TrialSettings(60, 0.05, 3)) for run in range(runs)]
        assert all(a.uncovered > 0.05 for a in found[::2]) and all(a.uncovered < 0.05 for a in found[1::2])
        assert all((a.deployed is not None) == a.accepted for a in found)
        (only,) = procedure_rows(found)
        return only

    honest = row(6)
    assert (honest["status"], honest["passed"], honest["wrong_acceptances"]["count"]) == ("judged", True, 0)
    assert honest["accepted_of_those_that_may_be"][0] > 0

    def overlook(promised: Any, cmdp: Any) -> bool:
        return True

    monkeypatch.setattr("surefoot.training.promise.Promised.hold", overlook)
    broken = row(10)
    assert broken["passed"] is False and broken["wrong_acceptances"]["count"] >= 3


def test_looks_are_paid_for_and_agents_without_a_hold_out_are_measured_only() -> None:
    refused = run_procedure("looks", "certified:cells", 0, TrialSettings(60, 0.05, 3))
    assert (refused.accepted, refused.looks, refused.wrong, refused.deployed) == (False, 6, False, None)
    trusting = run_procedure("looks", "certified:data", 0, TrialSettings(60, 0.05, 3))
    assert (trusting.accepted, trusting.looks, trusting.wrong, trusting.claims) == (True, 1, True, False)
    (row,) = procedure_rows([trusting])
    assert (row["status"], row["passed"], row["wrong_acceptances"]["count"]) == ("measured", None, 1)


def test_long_scenarios_and_procedures_are_part_of_the_whole(tmp_path: Path) -> None:
    summary = validate(
        tmp_path / "out", WORLD, ["certified:cells"], policy_set=small_set(), scenarios=("family", "starts"), runs=10,
        episodes=40, calibration_runs=0, seed=4, progress=False,
    )  # fmt: skip
    (row,) = summary["procedures"]
    assert (row["agent"], row["scenario"], row["runs"], row["passed"]) == ("certified:cells", "starts", 2, True)
    assert {r["scenario"] for r in summary["rows"]} == {"family", "starts"}
    said = render_validation(summary)
    assert "wrong acceptances" in said and "1 of 1" in said and "all judged rows pass" in said


# Logged episodes


def logged_runs(agent: str, runs: int = 6) -> list[Outcome]:
    jobs = [Job(agent, "history", r, (0.33,)) for r in range(runs)]
    return play_jobs(small_world(), jobs, TrialSettings(60, 0.05, 1))


@pytest.mark.parametrize("agent", ["certified:cells", "certified:envelope", "certified:data", "always-safe"])
def test_logs_are_given_first_to_agents_that_take_them(agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, bool, bool]] = []
    recall = CertifiedAgent.recall

    def noted(self: CertifiedAgent, reward: Any, costs: Any, **more: Any) -> None:
        given.append((len(reward), more["initial_state"] is None, more["transitions"] is None))
        recall(self, reward, costs, **more)

    monkeypatch.setattr(CertifiedAgent, "recall", noted)
    found = logged_runs(agent)
    assert [outcome.error for outcome in found] == [None] * 6 and not any(outcome.violating for outcome in found)
    assert not any(outcome.bound_failed or outcome.eliminated for outcome in found)
    assert [n for n, _, _ in given] == ([] if agent == "always-safe" else [100, 4000] * 3)
    assert [bare for _, bare, _ in given] == ([] if agent == "always-safe" else [False, False, True] * 2)
    assert all(none for _, bare, none in given if bare)


def test_an_agent_that_believes_logs_too_much_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ProductRegion.recalled
    monkeypatch.setattr(ProductRegion, "recalled", lambda self, costs: honest(self, 0.5 * costs))
    assert any(outcome.bound_failed for outcome in logged_runs("certified:data", 2))


# Plants that change


def test_a_task_moves_once_where_the_mixture_costs_more_and_stays_in_the_family() -> None:
    tables = library_tables(small_set().policies)

    def truth(parameters: Any) -> Truth:
        return Truth.of(small_set(), tables, WORLD.cmdp(parameters), parameters)

    deviation = WORLD.sample(2000, np.random.default_rng(0)).std()
    weights = np.eye(len(small_set().policies))[0]
    step = Change(WORLD, truth, (0.3,), 400, slow=False)
    assert [step.due(played, weights) for played in (0, 199, 200, 250, 399)] == [False, False, True, False, False]
    assert step.truth.parameters == pytest.approx([0.3 + deviation])  # more noise costs more
    assert step.truth.values[0, 1] > truth(np.array([0.3])).values[0, 1]
    slow = Change(WORLD, truth, (0.3,), 400, slow=True)
    moves = [played for played in range(0, 400, 5) if slow.due(played, weights)]
    assert moves == list(range(200, 300, 10))
    assert slow.truth.parameters == pytest.approx([0.3 + deviation])
    edge = Change(WORLD, truth, (float(WORLD.support[0, 1]) - 0.01,), 400, slow=False)
    assert edge.due(200, weights) and edge.truth.parameters == pytest.approx(WORLD.support[0, 1:])


def test_what_happens_after_a_change_is_counted_and_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcomes(**options: Any) -> list[Outcome]:
        def make(context: Any, _: Any) -> CertifiedAgent:
            return CertifiedAgent(context.policy_set, delta=context.delta, seed=context.seed, ramp=0, **options)

        monkeypatch.setitem(AGENTS, "watching", Recipe(make))
        jobs = [Job("watching", "drift", run, (0.3,)) for run in range(2)]
        return play_jobs(small_world(), jobs, TrialSettings(4000, 0.05, 5))

    blind = outcomes(false_alarm_every=0.0, monitor_delta=1e-300)
    assert [o.changed for o in blind] == [2000, 2000] or all(2000 <= (o.changed or 0) < 2100 for o in blind)
    assert all(o.holds and not o.violating and not o.bound_failed for o in blind)
    assert all(o.violating_changed > 500 and 0.0 < o.excess_changed < 0.5 for o in blind)
    # A detector that is allowed to be wrong often stops it early, and then nothing more is counted.
    eager = outcomes(false_alarm_every=2.0)
    assert all(o.alarm is not None and o.alarm <= 2000 and o.violating_changed == 0 for o in eager)
    (row,) = rows_of(blind + eager, 0.05)
    assert row["status"] == "judged" and row["violations"]["count"] == 0
    for kind in ("step", "slow"):
        found = row["changes"][kind]
        assert (found["runs"], found["alarms_before"], found["alarms"], found["delay"]) == (2, 1, 0, None)
        assert found["violating_episodes"]["mean"] > 500


def test_changes_are_told(tmp_path: Path) -> None:
    found = validate(
        tmp_path / "out", WORLD, ["certified:cells"], scenarios=["drift"], runs=2, episodes=200, calibration_runs=0,
        policy_set=small_set(), progress=False,
    )  # fmt: skip
    text = render_validation(found)
    assert "after a step: alarms in 0 of 1 runs" in text and "after a slow drift: alarms in 0 of 1 runs" in text
    assert "of the limit; alarms before it: 0 of 1" in text


def test_a_region_that_rules_the_real_pair_out_is_a_failed_bound_though_each_bound_holds() -> None:
    truth = truth_at(0.33)
    real = truth.values[:, 1:]
    rows = np.tile(real + 0.2, (2, 1, 1))
    rows[0, 0], rows[1, 2] = (
        real[0] - 0.1,
        real[2] - 0.1,
    )  # either row is above one policy's costs and below the other's
    assert outside_region(truth, truth.values, rows)
    assert (rows.max(axis=0) >= real).all()
    assert not outside_region(truth, truth.values, np.concatenate([rows, (real + 0.01)[None]]))
    everyone, played = np.ones(len(small_set().cells), dtype=bool), np.ones(len(real), dtype=bool)
    margin = small_set().safe_margin
    assert cause_of("envelope", truth, margin, everyone, rows.max(axis=0), played) == "other"
    assert cause_of("envelope", truth, margin, everyone, rows.max(axis=0), played, outside=True) == "data bound"


def test_a_region_that_fails_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The safe policy's steps without the last three quarters: every pair with the real safe cost is ruled out, each bound alone may stand."""
    held = ProductRegion.staircase.fget  # type: ignore[attr-defined]

    def too_small(self: ProductRegion) -> Any:
        corners = held(self).copy()
        corners[len(corners) // 4 :, 1] = 0.0  # what is left of the target where the safe policy costs what it does
        return corners

    jobs = [Job("certified:data", "family", r, (0.3,)) for r in range(2)]
    whole = play_jobs(small_world(), jobs, TrialSettings(2000, 0.05, 1))
    monkeypatch.setattr(ProductRegion, "staircase", property(too_small))
    broken = play_jobs(small_world(), jobs, TrialSettings(2000, 0.05, 1))
    assert not any(outcome.bound_failed for outcome in whole) and all(outcome.bound_failed for outcome in broken)
