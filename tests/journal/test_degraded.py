"""A journal that cannot be followed: the safe policy only, nothing lost, stops in effect, and a way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from surefoot import ConflictError, InvalidReport, PolicySet
from surefoot.audit import verify
from surefoot.journal import Deployment
from surefoot.journal.operator import SupervisedAgent
from tests.journal.plants import BACKENDS, Plant, drive, open_plant, rechained
from tests.refusals import refused

NewUrl = Callable[[str], str]
BROKEN = 3
"""The library stumbles over the report about this episode."""


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A mistake of the library, until it is undone."""
    tell = SupervisedAgent.tell

    def stumbles(self: SupervisedAgent, ids: Any, *arguments: Any, **options: Any) -> None:
        if BROKEN in list(ids):
            raise IndexError("index 7 is out of bounds")
        tell(self, ids, *arguments, **options)

    monkeypatch.setattr(SupervisedAgent, "tell", stumbles)
    return monkeypatch


def broken(plant: Deployment, truth: Plant) -> int:
    """Drive a deployment until the report that the library cannot work in; the number of its event."""
    drive(plant, truth, BROKEN)
    tickets = plant.ask(6)
    for ticket in tickets[:2]:
        plant.tell(ticket.id, **truth.report(ticket.id, ticket.policy_index))
    return max(event.seq for event in plant.events() if event.kind == "told" and BROKEN in event.body["ids"])


def kinds(plant: Deployment) -> Counter[str]:
    return Counter(event.kind for event in plant.events())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fault_degrades_a_deployment_and_loses_nothing(
    backend: str, new_url: NewUrl, tiny_set: PolicySet, fault: pytest.MonkeyPatch
) -> None:
    url, truth = new_url(backend), Plant(tiny_set)
    with open_plant(url, tiny_set) as plant:
        where = broken(plant, truth)
        status = plant.status()
        assert (status.state, status.weights, status.certified) == ("degraded", {0: 1.0}, False)
        assert (status.episodes, status.pending) == (BROKEN + 6, 4)
        assert f"event {where} cannot be followed" in status.degraded and "DEGRADED (safe policy only)" in status.text
        tickets = plant.ask(4, request="shift")
        assert {ticket.policy_index for ticket in tickets} == {0}
        assert f"DEGRADED: the safe policy only, because event {where}" in tickets[0].reason
        assert [t.id for t in plant.ask(4, request="shift")] == [t.id for t in tickets] == [9, 10, 11, 12]
        assert plant.ticket(10).policy_index == 0
        with pytest.raises(ConflictError):
            plant.ask(3, request="shift")
    with open_plant(url, tiny_set) as plant:  # reopening works as well
        report = truth.report(9, 0)
        for _ in range(2):  # the same report again changes nothing
            plant.tell(9, **report, by="robot line-3")
        with pytest.raises(ConflictError):
            plant.tell(9, **{**report, "reward": report["reward"] + 0.1})
        with pytest.raises(InvalidReport):
            plant.tell(10, **{**report, "costs": [-1.0]})
        with refused("SF-REPORT-UNKNOWN"):
            plant.tell(13, **report)
        plant.lost(10)
        plant.tell(6, **truth.report(6, plant.ticket(6).policy_index))  # asked before the fault
        assert plant.status().pending == 5
        plant.pause("lunch", by="operator anna")
        assert plant.status().state == "paused"
        with refused("SF-DEPLOYMENT-PAUSED", "lunch"):
            plant.ask()
        plant.resume()
        with refused("SF-CONFLICT-DEGRADED"):
            plant.approve()
        found = plant.verify()
        assert not found.ok and f"event {where} cannot be followed" in str(found.first_disagreement)
        with refused("SF-REPLAY-FAILED", f"event {where}"):
            plant.recover()
        fault.undo()
    with open_plant(url, tiny_set) as plant:
        # The fault is mended; nothing changes until somebody says so.
        assert plant.status().state == "degraded"
        assert plant.ask(2)[0].policy_index == 0
        assert not plant.verify().ok
        plant.recover(by="operator anna")
        status = plant.status()
        assert (status.state, status.degraded, status.episodes, status.pending) == ("running", "", 15, 7)
        assert plant.verify().first_disagreement is None
        told = [k for event in plant.events() if event.kind == "told" for k in event.body["ids"]]
        assert sorted(told) == [0, 1, 2, 3, 4, 6, 9]
        assert [event.body["by"] for event in plant.events() if event.kind == "paused"] == ["operator anna"]
        plant.recover()
        drive(plant, truth, 5)
        assert kinds(plant)["recovered"] == kinds(plant)["degraded"] == 1
    with open_plant(url, tiny_set) as plant:
        assert plant.status().state == "running"
        assert plant.verify().ok


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_abort_works_in_a_degraded_deployment_and_outlives_it(
    backend: str, new_url: NewUrl, tiny_set: PolicySet, fault: pytest.MonkeyPatch
) -> None:
    url, truth = new_url(backend), Plant(tiny_set)
    with open_plant(url, tiny_set) as plant:
        broken(plant, truth)
        assert plant.abort("fire", by="operator anna").recorded
        status = plant.status()
        assert (status.state, status.why) == ("aborted", "fire") and status.degraded
        assert "DEGRADED" in status.text
        plant.ask()
        fault.undo()
        plant.recover()
        status = plant.status()
        assert (status.state, status.degraded, status.weights) == ("aborted", "", {0: 1.0})
        assert {ticket.policy_index for ticket in plant.ask(20)} == {0}
        assert plant.verify().first_disagreement is None


def test_what_another_process_degrades_is_degraded_for_all_and_recovers_for_all(
    disk: Any, tiny_set: PolicySet, fault: pytest.MonkeyPatch
) -> None:
    truth = Plant(tiny_set)
    with open_plant(disk / "plant.db", tiny_set) as plant, open_plant(disk / "plant.db", tiny_set) as other:
        broken(plant, truth)
        plant.ask()
        fault.undo()
        assert other.status().state == "degraded"
        assert other.ask().policy_index == 0  # it could follow, but the deployment is degraded
        other.recover()
        assert (plant.status().state, other.status().state) == ("running", "running")
        drive(plant, truth, 2)
        drive(other, truth, 2)
        assert plant.verify().first_disagreement is None
        assert kinds(plant)["degraded"] == 1


def test_a_report_that_is_refused_after_all_is_left_out_and_said(
    disk: Any, tiny_set: PolicySet, fault: pytest.MonkeyPatch
) -> None:
    truth = Plant(tiny_set)
    with open_plant(disk / "plant.db", tiny_set) as plant:
        broken(plant, truth)
        with fault.context() as lenient:
            lenient.setattr(SupervisedAgent, "check", lambda self, **report: None)
            plant.tell(5, reward=1.0, costs=[-0.5])
        assert plant.status().pending == 3
        fault.undo()
        plant.recover()
        (event,) = [event for event in plant.events() if event.kind == "recovered"]
        assert [entry["held"] for entry in event.body["refused"]] == [1]  # the report about episode 4 was held first
        assert plant.status().pending == 4
        assert plant.verify().first_disagreement is None


def test_what_was_held_cannot_be_left_out_of_the_recovery(
    disk: Any, tiny_set: PolicySet, fault: pytest.MonkeyPatch
) -> None:
    truth = Plant(tiny_set)
    with open_plant(disk / "plant.db", tiny_set) as plant:
        broken(plant, truth)
        plant.lost(5)
        fault.undo()
        fault.setattr(Deployment, "_happen", lambda *ignored: None)
        plant.recover()
        assert "must happen once more" in str(plant.verify().first_disagreement)


def test_nothing_but_the_safe_policy_may_have_been_handed_out(
    disk: Any, tiny_set: PolicySet, fault: pytest.MonkeyPatch
) -> None:
    with open_plant(disk / "plant.db", tiny_set) as plant:
        broken(plant, Plant(tiny_set))
        plant.ask(2)
        events = list(plant.events())
        assert events[-1].kind == "held"
        body = {"kind": "asked", "body": {**events[-1].body["body"], "draws": [0, 1]}}
        forged = rechained([*events[:-1], replace(events[-1], body=body)])
        assert "nothing but the safe policy is handed out" in str(verify(tiny_set, forged).first_disagreement)
        undegraded = rechained([event for event in events if event.kind != "degraded"])
        assert "only while the deployment is degraded" in str(verify(tiny_set, undegraded).first_disagreement)


def test_an_error_in_what_an_abort_leads_to_keeps_nobody_from_stopping(
    disk: Any, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_plant(disk / "plant.db", tiny_set) as plant:
        drive(plant, Plant(tiny_set), 2)

        def stumbles(*arguments: Any, **options: Any) -> None:
            raise ZeroDivisionError("division by zero")

        monkeypatch.setattr(SupervisedAgent, "steer", stumbles)
        assert plant.abort("fire").recorded
        status = plant.status()
        assert status.state == "aborted" and status.degraded
        assert {ticket.policy_index for ticket in plant.ask(20)} == {0}


def test_a_snapshot_remembers_what_was_held(disk: Any, tiny_set: PolicySet, fault: pytest.MonkeyPatch) -> None:
    from surefoot.journal import snapshot
    from surefoot.journal.state import DeploymentState

    truth = Plant(tiny_set)
    with open_plant(disk / "plant.db", tiny_set) as plant:
        broken(plant, truth)
        plant.lost(5)
        fault.undo()
        state = DeploymentState(tiny_set, plant.settings)
        state.replay(plant.events())
        assert state.degraded is not None and [event["kind"] for event in state.held] == ["told", "lost"]
        state.settle()
        again = snapshot.decode(snapshot.encode(state)[32:], tiny_set, plant.settings)
        assert again is not None and (again.degraded, again.held) == (state.degraded, state.held)
