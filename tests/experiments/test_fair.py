"""Ladders are walked as the full procedure would be, on plants that nobody could choose; the chosen settings play the test tasks."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.cmdp.evaluate import evaluate
from surefoot.deploy.trace import Trace
from surefoot.experiments import fair
from surefoot.experiments.comparison import follow_one, play_one
from surefoot.experiments.fair import LADDERS, Ladder, ladders_called, rehearse_ladders
from surefoot.experiments.gridworld.fair import reproduce_rehearsed
from surefoot.experiments.registry import check_agents
from surefoot.policy import TabularPolicy
from surefoot.policyset.schema import PolicySet
from surefoot.solvers.linear_program import solve
from surefoot.stats.binomial import clopper_pearson_upper, fixed_sequence
from surefoot.tasks import NoisyGridworld
from surefoot.training.belief import learn_belief
from tests.refusals import refused

WORLD = NoisyGridworld()
FIXED = Ladder("fixed", ("always-safe", "robust-fixed:0.38", "robust-fixed:0.35", "robust-fixed:0.31", "always-safe"))


@dataclass(frozen=True)
class Chosen(NoisyGridworld):
    """The family, of which every draw is one of these noises, in turn."""

    noises: tuple[float, ...] = ()

    def sample(self, n: int, rng: np.random.Generator) -> Any:
        return np.resize(np.asarray(self.noises), n)[:, None]


@cache
def believing_set() -> PolicySet:
    found = sf.train(WORLD, tasks=40, holdout=0, cells=6, seed=1, progress=False)
    return learn_belief(found, WORLD, tasks=60, seed=2, progress=False)


def rehearse(family: Any, policy_set: PolicySet, ladder: Ladder, **changes: Any) -> fair.RehearsedLadder:
    settings: dict[str, Any] = {"plants": 20, "episodes": 20, "alpha": 0.2, "delta_coverage": 0.1, "progress": False}
    return rehearse_ladders(family, policy_set, policy_set, [ladder], **settings | changes)[0]


def exact_costs(made_for: float, noises: Any) -> np.ndarray:
    policy = TabularPolicy(solve(WORLD.cmdp(made_for)).value_or_raise().policy)
    return np.array([evaluate(WORLD.cmdp(q), policy).costs[0] for q in noises])


def test_the_walk_counts_what_exact_values_say_and_stops_at_the_first_refusal(gridworld_set: PolicySet) -> None:
    noises = (*np.linspace(0.25, 0.34, 19), 0.37)
    found = rehearse(Chosen(noises=noises), gridworld_set, FIXED)
    assert [rung.agent for rung in found.rungs] == list(FIXED.rungs[:4]), "the last rung would pass, but is not reached"
    counts = [int((exact_costs(q, noises) > 1.5).sum()) for q in (0.38, 0.35, 0.31)]
    assert counts[0] == 0 and counts[1] == 1 and counts[2] > 2
    assert [rung.violating for rung in found.rungs[:3]] == [0, *counts[:2]]
    assert [rung.accepted for rung in found.rungs] == [True, True, True, False]
    # with 20 plants, alpha .2 and error .1 one violating run is allowed: the second one ends the rung
    last = found.rungs[3]
    assert last.violating == 2 and last.plants < 20 and last.upper is None
    assert found.rungs[2].upper == clopper_pearson_upper(1, 20, 0.1)
    assert found.chosen == found.rungs[2] == found.accepted[-1]
    optima = [solve(WORLD.cmdp(q)).value for q in noises]
    given_up = [best - evaluate(WORLD.cmdp(q), gridworld_set.safe_policy).reward for best, q in zip(optima, noises)]
    assert found.rungs[0].mean_regret == pytest.approx(20 * np.mean(given_up))


def test_of_accepted_settings_the_one_of_smallest_regret_is_chosen(gridworld_set: PolicySet) -> None:
    worse = Ladder("worse", ("robust-fixed:0.36", "always-safe"))
    found = rehearse(Chosen(noises=(0.3, 0.32)), gridworld_set, worse)
    assert len(found.accepted) == 2 and found.chosen == found.rungs[0]
    assert found.as_dict()["boldest_accepted"] == "always-safe"


def test_a_run_violates_where_the_safe_policy_alone_does(gridworld_set: PolicySet) -> None:
    found = rehearse(Chosen(noises=(0.42,)), gridworld_set, Ladder("oracle", ("oracle",)))
    assert evaluate(WORLD.cmdp(0.42), gridworld_set.safe_policy).costs[0] > 1.5
    assert found.rungs[0].violating > 0 and found.rungs[0].largest_excess < 1e-6 and found.chosen is None


def test_what_is_left_out_never_changes_what_is_accepted(
    gridworld_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the full procedure, all runs of all rungs counted, on tables of made-up violations."""
    rng = np.random.default_rng(3)
    ladder = Ladder("made up", tuple(f"robust-fixed:{q:g}" for q in (0.38, 0.37, 0.36, 0.35)))
    for _ in range(200):
        table = rng.random((4, 20)) < rng.choice([0.0, 0.05, 0.1, 0.4], size=(4, 1))

        def made_up(*arguments: Any, table: Any = table) -> tuple[Trace, tuple[str, ...]]:
            agent, number = arguments[6:8]
            bad = table[ladder.rungs.index(agent), number]
            cost = np.array([[2.0 if bad else 1.0]])
            return Trace(np.array([20]), np.zeros(1), cost, np.zeros(1), 0.0, 0.0), ()

        monkeypatch.setattr(fair, "play_one", made_up)
        found = fair._Rehearsal(
            WORLD, gridworld_set, gridworld_set, np.zeros((20, 1)), np.zeros(20), np.zeros(20, dtype=bool), (20, 0.05, 0), 0.2, 0.1
        ).walk(ladder)  # fmt: skip
        full = fixed_sequence(table.sum(axis=1).tolist(), 20, 0.2, 0.1)
        assert len(found.accepted) == (0 if full is None else full + 1)


def test_plants_depend_on_what_is_frozen_and_not_on_what_is_asked_for(
    gridworld_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[Any] = []

    class Watched(NoisyGridworld):
        def sample(self, n: int, rng: np.random.Generator) -> Any:
            met.append(super().sample(n, rng))
            return met[-1]

    one, two = ladders_called(["safe-pce", "pce"])
    shared: dict[str, Any] = {"plants": 3, "episodes": 5, "alpha": 0.9, "delta_coverage": 0.9, "progress": False}

    def plants(asked: list[Ladder], **changes: Any) -> Any:
        rehearse_ladders(Watched(), gridworld_set, gridworld_set, asked, **shared | changes)
        return met[-1]

    monkeypatch.setattr(fair._Rehearsal, "walk", lambda self, ladder: None)
    first = plants([one])
    np.testing.assert_array_equal(first, plants([two, one]))
    assert (first != plants([one], seed=1)).all()
    assert (first != plants([one], episodes=6)).all()
    assert (first != plants([replace(one, rungs=one.rungs[:-1])])).all()


def test_block_by_block_is_the_agent_alone() -> None:
    shared = (WORLD, believing_set(), believing_set(), 250, 0.05, 4, "rehearsed:1.5", 3, np.array([0.27]))
    alone, together = play_one(*shared)[0], follow_one(*shared)[0]
    at = np.arange(1, 251)
    np.testing.assert_allclose(together.regret(60.0, at), alone.regret(60.0, at), rtol=1e-12)
    assert together.weight.max() > 0.5 and together.costs.max() == pytest.approx(alone.costs.max(), rel=1e-12)
    with refused("SF-ARGUMENT-SYNTAX", "name", "'rehearsed'"):
        follow_one(*shared[:6], "rehearsed", 3, np.array([0.27]))


@pytest.mark.slow
def test_workers_do_not_change_the_rehearsal() -> None:
    ladders = [FIXED, Ladder("rehearsed", ("rehearsed:3", "rehearsed:0.3"))]
    settings: dict[str, Any] = {"plants": 6, "episodes": 60, "alpha": 0.5, "delta_coverage": 0.2, "progress": False}
    found = [
        [
            [replace(rung, seconds=0.0) for rung in ladder.rungs]
            for ladder in rehearse_ladders(WORLD, believing_set(), believing_set(), ladders, workers=w, **settings)
        ]
        for w in (1, 2)
    ]
    assert found[0] == found[1]


def test_ladders_go_from_cautious_to_bold_and_name_agents() -> None:
    check_agents([agent for ladder in LADDERS for agent in ladder.rungs])
    assert len({ladder.method for ladder in LADDERS}) == len(LADDERS)
    for ladder in LADDERS:
        assert len(set(ladder.rungs)) == len(ladder.rungs)
        numbers = [float(rung.split("=")[1]) for rung in ladder.rungs if "calibrated=" in rung]
        assert numbers == sorted(numbers, reverse=True)
    rehearsed = [float(rung.split(":")[1]) for rung in LADDERS[0].rungs]
    assert rehearsed == sorted(rehearsed, reverse=True)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"plants": 58}, ("SF-ARGUMENT-RANGE", "plants", "59", "58")),
        ({"alpha": 1.0}, ("SF-ARGUMENT-RANGE", "alpha")),
        ({"delta_coverage": 0.0}, ("SF-ARGUMENT-RANGE", "delta_coverage")),
        ({"methods": ("sage",)}, ("SF-ARGUMENT-CHOICE", "method", "'sage'")),
        ({"methods": ("pce", "pce")}, ("SF-ARGUMENT-DISTINCT", "methods", "['pce', 'pce']")),
        ({"methods": ()}, ("SF-ARGUMENT-DISTINCT", "methods", "[]")),
        ({"episodes": 0}, ("SF-ARGUMENT-RANGE", "episodes")),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    changes: dict[str, Any], refusal: tuple[str, ...], tmp_path: Path
) -> None:
    with refused(*refusal):
        reproduce_rehearsed(tmp_path / "out", **{"progress": False, **changes})
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_chosen_settings_play_the_test_tasks_and_nobody_is_hidden(tmp_path: Path) -> None:
    summary = reproduce_rehearsed(
        tmp_path / "run", methods=("rehearsed", "pce"), tasks="fresh:2", episodes=120, plants=8, alpha=0.3, delta_coverage=0.1,
        training_tasks=40, cells=4, policies=4, holdout=10, seed=2, progress=False,
    )  # fmt: skip
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    rehearsal = summary["rehearsal"]
    chosen = {ladder["method"]: ladder["chosen"] for ladder in rehearsal["ladders"]}
    assert chosen["rehearsed"] is not None and chosen["pce"] is None
    assert list(summary["agents"]) == [*rehearsal["fixed"], chosen["rehearsed"]]
    assert "8 fresh simulated plants" in summary["agents"][chosen["rehearsed"]]["notes"][-1]
    assert PolicySet.load(tmp_path / "run" / "policy-set.sf").beliefs
