"""The detector of changes in a journal: an alarm that is followed, replayed and audited; older journals run on without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from surefoot import PolicySet
from surefoot.audit import verify
from surefoot.journal import Event
from surefoot.journal.settings import Settings
from surefoot.journal.state import DeploymentState
from surefoot.report.deployment import render
from tests.journal.plants import Plant, as_recorded, drive, keep_snapshot, open_plant, rechained

LONG, WORDS = {"trust": "data", "monitor_delta": 1e-12}, "plant has changed"
"""Settings under which the monitor is late."""


def changed(disk: Path, tiny_set: PolicySet, every: float | None, name: str = "plant.db") -> list[Event]:
    """A good phase, then a plant that costs six times as much."""
    with open_plant(disk / name, tiny_set, false_alarm_every=every, **LONG) as plant:
        drive(plant, Plant(tiny_set), 200)
        drive(plant, Plant(tiny_set, cost_factor=6.0), 60)
        found = list(plant.events())
        assert plant.verify().ok
    return found


def test_a_change_is_an_alarm_that_replays_and_is_audited(disk: Path, tiny_set: PolicySet) -> None:
    events = changed(disk, tiny_set, 1000.0)
    (alarm,) = (e for e in events if e.kind == "alarm")
    assert WORDS in alarm.body["text"]
    assert [e.body["stage"] for e in events if e.kind == "stage"][-1] == "drifted"
    assert "once in 1,000 episodes" in render(events)
    with open_plant(disk / "plant.db", tiny_set) as plant:
        status = plant.status()
        assert status.state == "alarm" and WORDS in status.why and status.weights == {0: 1.0}
    silent = rechained([e for e in events if e.seq < alarm.seq - 1 or e.kind in ("asked", "told")][: alarm.seq + 3])
    assert "missing" in str(verify(tiny_set, silent).first_disagreement)


def test_snapshots_keep_it(disk: Path, tiny_set: PolicySet) -> None:
    whole = as_recorded(changed(disk, tiny_set, 1000.0))
    for size, factor in ((100, 1.0), (100, 1.0), (30, 6.0), (30, 6.0)):
        with open_plant(disk / "again.db", tiny_set, false_alarm_every=1000.0, **LONG) as plant:
            drive(plant, Plant(tiny_set, cost_factor=factor), size)
            keep_snapshot(plant)
            parts = as_recorded(plant.events())
    assert parts == whole


def test_switched_off_it_is_silent(disk: Path, tiny_set: PolicySet) -> None:
    assert "alarm" not in {e.kind for e in changed(disk, tiny_set, 0.0)}


def test_an_alarm_without_cause_is_noticed(disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surefoot.deploy.drift._add_up", lambda *_: True)
    with open_plant(disk / "plant.db", tiny_set, **LONG) as plant:
        drive(plant, Plant(tiny_set), 5)
        assert "without cause" in str(plant.verify().first_disagreement)


def test_journals_from_before_it_run_on_without(disk: Path, tiny_set: PolicySet) -> None:
    events = changed(disk, tiny_set, 0.0)
    body = dict(events[0].body)
    body["settings"] = {k: v for k, v in body["settings"].items() if k != "false_alarm_every"}
    old = rechained([replace(events[0], body=body), *events[1:]])
    assert verify(tiny_set, old).ok
    settings = Settings.recorded(body)
    assert settings.false_alarm_every == 0.0
    DeploymentState(tiny_set, settings).replay(old)


@pytest.mark.parametrize("trust", ["data", "cells"])
def test_a_change_of_outcomes_alone_is_an_alarm_that_replays_and_is_audited(
    disk: Path, tiny_set: PolicySet, trust: str
) -> None:
    own = {"trust": trust, "false_alarm_every": 0.0, "false_change_every": 5000.0, "monitor_delta": 1e-12}
    with open_plant(disk / "plant.db", tiny_set, **own) as plant:
        drive(plant, Plant(tiny_set), 160)
        assert plant.status().state == "running"
        drive(plant, Plant(tiny_set, cost_factor=0.2), 120)
        events = list(plant.events())
        assert plant.verify().ok
    (alarm,) = (e for e in events if e.kind == "alarm")
    assert "no longer what they were" in alarm.body["text"]
    assert "outcomes, beside" in render(events)
    with open_plant(disk / "plant.db", tiny_set) as plant:
        assert plant.status().stage == "drifted"
