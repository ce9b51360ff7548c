"""Rehearsed deployments in a journal: opened, used, reopened, left, degraded and recovered; what status and page say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot import AssumptionError, PolicySet, ReplayError
from surefoot.journal import Deployment, Event, Settings
from surefoot.journal.operator import SupervisedAgent
from surefoot.journal.state import DeploymentState
from surefoot.report.deployment import render
from tests.journal.plants import Plant, as_recorded, drive, keep_snapshot, open_plant, rechained
from tests.journal.rehearsed import SETS, rehearsed_set, rehearsing
from tests.journal.test_state import Live, tell_one
from tests.refusals import refused


def opened(disk: Path, policy_set: PolicySet, **settings: Any) -> Deployment:
    return open_plant(disk / "plant.db", policy_set, trust="rehearsed", **settings)


def kinds(plant: Deployment) -> list[str]:
    return [event.kind for event in plant.events()]


def test_it_goes_on_after_reopening_as_if_nothing_had_happened(disk: Path, tmp_path: Path) -> None:
    policy_set = rehearsed_set("all", rehearsing(delay=3))
    truth = Plant(policy_set)
    with opened(disk, policy_set) as whole:
        drive(whole, truth, 40)
        wanted = as_recorded(whole.events())
    with opened(tmp_path, policy_set) as plant:
        drive(plant, truth, 15)
    with open_plant(tmp_path / "plant.db", policy_set) as plant:  # by replay; the settings are those of the first event
        drive(plant, truth, 10)
        keep_snapshot(plant)
    with Deployment.open(tmp_path / "plant.db") as plant:  # by snapshot, from the policy set that the journal keeps
        drive(plant, truth, 15)
        assert [body for _, kind, body in as_recorded(plant.events()) if kind != "opened"] == [
            body for _, kind, body in wanted if kind != "opened"
        ]
        assert plant.verify().first_disagreement is None
        assert plant.policy_set.hash == policy_set.hash
        ticket = plant.ask(request="shift")
        assert plant.ask(request="shift").id == ticket.id
        report = truth.report(ticket.id, ticket.policy_index)
        for _ in range(2):
            plant.tell(ticket.id, **report)
        plant.lost(plant.ask().id)
        assert kinds(plant).count("protocol") == 1
        assert plant.verify().ok


def test_what_was_not_rehearsed_is_refused(disk: Path) -> None:
    with refused("SF-ASSUMPTION-REHEARSAL", error=AssumptionError):
        opened(disk, SETS["returns"])
    with refused("SF-ASSUMPTION-REHEARSAL", "delta", error=AssumptionError):
        opened(disk, rehearsed_set("returns", rehearsing()), delta=0.01)
    with refused("SF-ASSUMPTION-REHEARSAL", "evidence", error=AssumptionError):
        opened(disk, rehearsed_set("returns", rehearsing()), evidence="returns")


def test_status_and_page_say_what_is_promised_and_what_is_not(disk: Path) -> None:
    policy_set = rehearsed_set("returns", rehearsing(surprise=7.5))
    with opened(disk, policy_set) as plant:
        drive(plant, Plant(policy_set), 8)
        status = plant.status()
        assert not status.certified and status.rehearsal is not None and status.rehearsal["inside"]
        for words in (
            "500 rehearsals",
            "14 broke the limit",
            "average task of the family",
            "the belief's",
            "used as rehearsed so far",
        ):
            assert words in status.text, words
        assert "7.5" in status.text and "probability at least" not in status.statement
        assert json.loads(json.dumps(status.as_dict()))["rehearsal"]["rehearsed"]["boldness"] == 1.5
        page = render(plant.events())
        for words in (
            "Used as rehearsed",
            "500",
            "average plant",
            "proves nothing",
            "rehearsal, beside",
            "surprise, beside",
        ):
            assert words in page, words
        assert "Certified cost against" not in page and "certified cost at most" not in page
        plant.cap(0.2)
        status = plant.status()
        assert status.certified and status.rehearsal is not None and not status.rehearsal["inside"]
        assert (status.rehearsal["since"], kinds(plant)[-3:]) == (8, ["capped", "protocol", "planned"])
        for words in (
            "outside the rehearsed protocol since 8 episodes",
            "probability at least 0.95",
            "14 broke the limit",
        ):
            assert words in status.text, words
        page = render(plant.events())
        assert "Outside the rehearsed protocol" in page and "Used as rehearsed" not in page
        assert plant.verify().ok


def test_the_agent_alone_does_not_call_a_belief_certified() -> None:
    policy_set = rehearsed_set("returns", rehearsing())
    agent = Live(policy_set, Settings(trust="rehearsed")).state.agent
    assert "certified to be" not in agent.status().text and "proves nothing" in agent.status().text
    agent.steer(cap=0.1)
    assert "is certified to be at most" in agent.status().text


def test_recovery_leaves_the_protocol(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy_set = rehearsed_set("returns", rehearsing())
    truth, tell = Plant(policy_set), SupervisedAgent.tell

    def stumbles(self: SupervisedAgent, ids: Any, *arguments: Any, **options: Any) -> None:
        if 5 in list(ids):
            raise IndexError("index 7 is out of bounds")
        tell(self, ids, *arguments, **options)

    with opened(disk, policy_set) as plant:
        monkeypatch.setattr(SupervisedAgent, "tell", stumbles)
        drive(plant, truth, 8)
        status = plant.status()
        assert (status.state, status.weights, status.rehearsal) == ("degraded", {0: 1.0}, None)
        assert status.statement
        monkeypatch.undo()
        plant.recover()
        drive(plant, truth, 3)
        where = kinds(plant).index("recovering")
        assert kinds(plant)[where : where + 3] == ["recovering", "protocol", "planned"]
        assert plant.verify().first_disagreement is None
        assert plant.status().rehearsal["since"] == 6  # type: ignore[index]


def test_logged_episodes_are_given_before_the_first_ask(disk: Path) -> None:
    policy_set = rehearsed_set("all", rehearsing(history=10))
    logged, truth = Plant(policy_set, seed=5).batch(list(range(10)), [0] * 10), Plant(policy_set)
    del logged["ids"]
    with opened(disk, policy_set) as plant:
        with refused("SF-REPORT-RANGE", "costs"):
            plant.recall(**{**logged, "costs": [[-1.0]] * 10})
        plant.recall(**logged, by="engineer anna")
    with open_plant(disk / "plant.db", policy_set) as plant:
        drive(plant, truth, 5)
        plant.recall(**logged)  # the same again
        with refused("SF-CONFLICT-HISTORY"):
            plant.recall(**{**logged, "reward": [2.0] * 10})
        assert kinds(plant).count("recalled") == 1 and "protocol" not in kinds(plant)
        assert "10 logged episodes of the safe policy" in render(plant.events())
        assert plant.verify().first_disagreement is None
        assert plant.status().rehearsal["inside"]  # type: ignore[index]


def test_stops_and_pauses_leave_nothing(disk: Path) -> None:
    policy_set = rehearsed_set("signals", rehearsing())
    truth = Plant(policy_set)
    with opened(disk, policy_set) as plant:
        drive(plant, truth, 10)
        plant.pause("lunch")
        plant.resume()
        drive(plant, truth, 10)
        assert plant.status().rehearsal["inside"]  # type: ignore[index]
        plant.abort("noise")
        ticket = plant.ask(7)[0]
        assert ticket.weights[0] == 1.0 and "protocol" not in kinds(plant)
        status = plant.status()
        assert status.certified and "inside" in (status.rehearsal or {})
        assert plant.verify().ok


# ------------------------------------------------------------------------------------------------- another machine's rounding


def replayed(events: list[Event], policy_set: PolicySet) -> DeploymentState:
    state = DeploymentState(policy_set, Settings(seed=7, trust="rehearsed"))
    state.replay(rechained(events))
    return state


def moved(events: list[Event], share: float, bound: float = 0.0) -> list[Event]:
    """The last plan with so much more off the safe policy."""
    where = [k for k, event in enumerate(events) if event.kind == "planned"][-1]
    body = events[where].body
    (j,) = (j for j in body["weights"] if j != "0")
    weights = {"0": body["weights"]["0"] - share, j: body["weights"][j] + share}
    changed = {**body, "weights": weights, "bounds": [b + bound for b in body["bounds"]]}
    return [*events[:where], replace(events[where], body=changed), *events[where + 1 :]]


def test_a_plan_of_other_rounding_is_followed_and_another_one_is_not() -> None:
    policy_set = rehearsed_set("returns", rehearsing())
    live = Live(policy_set, Settings(seed=7, trust="rehearsed"))
    for _ in range(12):
        tell_one(live, Plant(policy_set))
    honest = replayed(live.events, policy_set)
    honest.settle()
    found = replayed(moved(live.events, 3e-8), policy_set)
    found.settle()
    assert (honest.deviations, found.deviations) == (0, 1)
    assert found.agent.plan.weights[0] == pytest.approx(honest.agent.plan.weights[0] - 3e-8, abs=1e-12)
    for share, bound in ((1e-3, 0.0), (-1e-3, 0.0), (0.0, 1e-3)):
        with pytest.raises(ReplayError):
            replayed(moved(live.events, share, bound), policy_set)
    where = [k for k, event in enumerate(live.events) if event.kind == "planned"][-1]
    safe = {**live.events[where].body, "weights": {"0": 1.0}, "bounds": [0.4]}
    with pytest.raises(ReplayError):  # safe, but nobody rehearsed it
        replayed([*live.events[:where], replace(live.events[where], body=safe), *live.events[where + 1 :]], policy_set)


def test_mixtures_that_are_as_good_under_the_same_rule_are_taken_for_rounding() -> None:
    policy_set = rehearsed_set("returns", rehearsing())
    agent = Live(policy_set, Settings(seed=7, trust="rehearsed")).state.agent
    assert isinstance(agent, SupervisedAgent) and agent.rehearsed is not None
    run, limits = agent.rehearsed, policy_set.criterion.cost_limits
    own, other = run.planner.weights, np.array([0.0, 0.5, 0.5, 0.0])
    assert run.would_play(own, limits) and not run.would_play(other, limits)
    run.planner.returns = np.full(4, 5.0)  # now every mixture is as good
    assert not run.would_play(other, limits)  # but this one breaks the rule
    assert run.would_play(np.array([0.9, 0.05, 0.05, 0.0]), limits)
