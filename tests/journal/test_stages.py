"""Stages in a journal: an event for every change, the same from the journal alone, none in older journals, and an audit of their order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from surefoot import PolicySet
from surefoot.audit import verify
from surefoot.journal import Deployment, Event
from surefoot.journal.operator import SupervisedAgent
from surefoot.journal.state import DeploymentState
from surefoot.report.deployment import render
from tests.journal.plants import Plant, as_recorded, drive, keep_snapshot, open_plant, rechained


def stages(plant: Deployment) -> list[tuple[str, str]]:
    """Where from, where to."""
    return [(e.body["was"], e.body["stage"]) for e in plant.events() if e.kind == "stage"]


LEARNED = [("comparing", "ramping"), ("ramping", "learned")]


def test_every_change_is_an_event_and_shown_everywhere(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set, ramp=5) as plant:
        status = plant.status()
        assert status.stage == "comparing" and "0 of 5" in status.stage_text and status.stage_until.startswith("5 more")
        assert next(plant.events()).body["stage"]["stage"] == "comparing"
        drive(plant, Plant(tiny_set), 120)
        assert stages(plant) == LEARNED
        status = plant.status()
        found = json.loads(json.dumps(status.as_dict()))
        assert (found["stage"], found["stage_text"], found["stage_until"]) == (
            "learned",
            status.stage_text,
            status.stage_until,
        )
        assert f"stage: learned: {status.stage_text}" in status.text
        page = render(plant.events())
        assert "Stage: learned" in page and "stage learned, after ramping" in page
        assert plant.verify().ok


def test_reopening_and_snapshots_change_nothing(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "one.db", tiny_set, ramp=5) as plant:
        drive(plant, Plant(tiny_set), 120)
        whole = as_recorded(plant.events())
    with open_plant(disk / "two.db", tiny_set, ramp=5):
        pass
    for k in range(24):
        with open_plant(disk / "two.db", tiny_set, ramp=5) as plant:
            drive(plant, Plant(tiny_set), 5)
            if k % 3 == 0:
                keep_snapshot(plant)
            after = plant.status().stage
    with open_plant(disk / "two.db", tiny_set, ramp=5) as plant:
        assert plant.status().stage == after == "learned"
        assert as_recorded(plant.events()) == whole


def test_alarms_and_aborts_end_it_before_anybody_reads_of_the_alarm(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "high.db", tiny_set) as plant:
        plant.tell(plant.ask().id, 2.0, [4.5])
        status = plant.status()
        assert (status.state, status.stage) == ("alarm", "stopped") and "ceiling" in status.stage_text
        plant.abort("too late")
        kinds = [e.kind for e in plant.events()]
        assert kinds.index("stage") == kinds.index("alarm") - 1 and stages(plant) == [("ramping", "stopped")]
        assert plant.verify().ok
    with open_plant(disk / "aborted.db", tiny_set, trust="data") as plant:
        plant.abort("enough")
        assert stages(plant) == [("ramping", "stopped")] and "enough" in plant.status().stage_text
        assert plant.verify().ok
    with open_plant(disk / "costly.db", tiny_set, trust="data") as plant:
        drive(plant, Plant(tiny_set, cost_factor=6.0), 150)
        assert plant.status().stage == "drifted" and stages(plant) == [("ramping", "drifted")]
        assert plant.verify().ok


def test_a_stop_that_is_not_in_the_journal_yet_counts(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set, ramp=5) as plant:
        before = plant.status()
        Deployment.stop(disk / "plant.db", "aborted", "smoke")
        assert plant.status().stage == "stopped" and "smoke" in plant.status().stage_text
        assert before.with_stops(tuple(plant._stops.pending().values())).stage == "stopped"


def without_stages(events: list[Event]) -> list[Event]:
    """The same journal as an earlier version wrote it."""
    found = [replace(e, body={k: v for k, v in e.body.items() if k != "stage"}) for e in events if e.kind != "stage"]
    seqs, renamed = {e.seq: k for k, e in enumerate(found, start=1)}, []
    for event in found:
        renamed.append(
            replace(event, body={**event.body, "plan": seqs[event.body["plan"]]}) if event.kind == "asked" else event
        )
    return rechained(renamed)


def test_a_journal_without_stages_gets_none_and_shows_one_all_the_same(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set, ramp=5) as plant:
        drive(plant, Plant(tiny_set), 120)
        old, settings = without_stages(list(plant.events())), plant.settings
    assert verify(tiny_set, old).ok
    state = DeploymentState(tiny_set, settings)
    state.replay(old)
    assert (state.stage, state.agent.stage.name) == ("", "learned")
    assert [entry.kind for entry in state.advance("aborted", {"reason": "enough"})] == ["aborted", "planned"]
    assert "Stage:" not in render(old)


def test_another_machine_may_reach_a_stage_elsewhere(disk: Path, tiny_set: PolicySet) -> None:
    """A stage decides nothing, so that a journal is followed whatever it records about them."""
    with open_plant(disk / "plant.db", tiny_set) as plant:
        drive(plant, Plant(tiny_set), 120)
        events, settings = list(plant.events()), plant.settings
    where = next(k for k, e in enumerate(events) if e.kind == "stage")
    later = [e for e in events if e.kind != "stage"]
    group = next(k for k, e in enumerate(later) if k > where + 20 and e.kind == "told") + 1
    moved = [*later[:group], events[where], *later[group:]]
    seqs = {e.seq: k for k, e in enumerate(moved, start=1)}
    moved = [replace(e, body={**e.body, "plan": seqs[e.body["plan"]]}) if e.kind == "asked" else e for e in moved]
    state = DeploymentState(tiny_set, settings)
    state.replay(rechained(moved))
    assert state.stage == "learned" and state.deviations == 0
    assert verify(tiny_set, rechained(moved)).ok


def _edited(events: list[Event], kind: str, **changes: Any) -> list[Event]:
    return rechained([replace(e, body={**e.body, **changes}) if e.kind == kind else e for e in events])


@pytest.mark.parametrize(
    "mutate",
    [
        lambda events: _edited(events, "opened", stage={"stage": "learned", "text": "", "until": ""}),
        lambda events: _edited(events, "stage", stage="drifted"),
        lambda events: _edited(events, "stage", stage="comparing"),
        lambda events: _edited(events, "stage", was="learned"),
        lambda events: rechained([e for e in events if e.kind != "stage" or e.body["stage"] != "stopped"]),
    ],
)
def test_the_audit_finds_stages_out_of_order(disk: Path, tiny_set: PolicySet, mutate: Any) -> None:
    with open_plant(disk / "plant.db", tiny_set, ramp=3) as plant:
        drive(plant, Plant(tiny_set), 4)
        plant.abort("enough")
        events = list(plant.events())
    assert verify(tiny_set, events).ok
    found = verify(tiny_set, mutate(events))
    assert not found.ok and "stage" in str(found.first_disagreement)


def test_the_ramp_cannot_be_left_early(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set, ramp=3) as plant:
        drive(plant, Plant(tiny_set), 2)
        events = list(plant.events())
    early = Event(0, "", "stage", {"stage": "ramping", "was": "comparing", "text": "", "until": ""})
    at = next(k for k, e in enumerate(events) if e.kind == "told") + 1
    found = verify(tiny_set, rechained([*events[:at], early, *events[at:]]))
    assert not found.ok and "ramp" in str(found.first_disagreement)


def test_a_degraded_deployment_is_stopped_until_it_is_recovered(
    disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = SupervisedAgent.tell

    def stumbles(self: SupervisedAgent, ids: Any, *arguments: Any, **options: Any) -> None:
        if 4 in list(ids):
            raise IndexError("index 7 is out of bounds")
        tell(self, ids, *arguments, **options)

    with monkeypatch.context() as patch, open_plant(disk / "plant.db", tiny_set, ramp=3) as plant:
        patch.setattr(SupervisedAgent, "tell", stumbles)
        drive(plant, Plant(tiny_set), 6)
        assert plant.status().stage == "stopped" and "recovered" in plant.status().stage_until
    with open_plant(disk / "plant.db", tiny_set, ramp=3) as plant:
        plant.recover()
        assert plant.status().stage == "ramping"
        assert plant.verify().ok
