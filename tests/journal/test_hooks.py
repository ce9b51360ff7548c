"""Hooks: told after the event is durable, in order, once, whoever caused it; what they raise harms nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from surefoot import PolicySet
from surefoot.journal import Deployment, Notice
from surefoot.journal.operator import SupervisedAgent
from tests.journal.plants import BACKENDS, Plant, drive, keep_snapshot, open_plant

NewUrl = Callable[[str], str]


def said(notices: list[Notice]) -> list[tuple[str, str]]:
    return [(notice.event, notice.stage) for notice in notices]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_stage_and_stop_is_told_once_and_durable(backend: str, new_url: NewUrl, tiny_set: PolicySet) -> None:
    url, told = new_url(backend), list[Notice]()

    def hook(notice: Notice) -> None:
        with Deployment.open(url, create=False) as other:  # as another process sees it
            event = next(other.events(notice.seq - 1))
        assert event.kind == notice.event
        told.append(notice)

    with open_plant(url, tiny_set, ramp=3, on_event=hook) as plant:
        drive(plant, Plant(tiny_set), 100)
        plant.pause("lunch")
        plant.resume()
        plant.cap(0.5)
        plant.abort("enough")
        plant.abort("enough")
        wanted = [
            ("stage", "ramping"), ("stage", "learned"), ("paused", "learned"), ("resumed", "learned"), ("aborted", "stopped"), ("stage", "stopped"),
        ]  # fmt: skip
        assert said(told) == wanted
        assert [n.episode for n in told[2:]] == [100] * 4 and told[0].episode >= 3
        assert [n.text for n in told[2:5]] == ["lunch", "the pause is over", "enough"]
        assert len({n.id for n in told}) == len(told) and {n.deployment for n in told} == {"default"}
        assert plant.notices() == told and plant.notices(told[2].seq, 2) == told[3:5]
        assert told[0].id == f"{plant.journal_id}-{told[0].seq}"
        assert plant.status().hook_failures == 0


def test_an_alarm_is_told_when_its_report_is_told(disk: Path, tiny_set: PolicySet) -> None:
    told = list[Notice]()
    with open_plant(disk / "plant.db", tiny_set, on_event=told.append) as plant:
        plant.tell(plant.ask().id, 2.0, [4.5])
        assert said(told) == [("stage", "stopped"), ("alarm", "stopped")]
        assert "ceiling" in told[1].text and plant.notices() == told


def test_what_others_did_is_told_with_the_next_operation(disk: Path, tiny_set: PolicySet) -> None:
    told = list[Notice]()
    with open_plant(disk / "plant.db", tiny_set, on_event=told.append) as plant:
        with Deployment.open(disk / "plant.db", create=False) as other:
            other.pause("lunch")
        assert told == []
        assert plant.status_at_once() is not None
        assert said(told) == [("paused", "ramping")]
        Deployment.stop(disk / "plant.db", "aborted", "smoke")
        drive(plant, Plant(tiny_set), 0)
        plant.resume()
        assert said(told)[1:] == [("aborted", "stopped"), ("stage", "stopped")]


def test_a_subscriber_may_begin_earlier_and_end(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set) as plant:
        plant.pause("lunch")
        plant.resume()
    late, all_of_it = list[Notice](), list[Notice]()
    with open_plant(disk / "plant.db", tiny_set, on_event=late.append) as plant:
        end = plant.subscribe(all_of_it.append, since=0)
        plant.pause("again")
        end()
        plant.resume()
    assert [n.event for n in late] == ["paused", "resumed"]
    assert [n.event for n in all_of_it] == ["paused", "resumed", "paused"]


def test_reading_the_journal_again_tells_nothing_twice(disk: Path, tiny_set: PolicySet) -> None:
    told = list[Notice]()
    with open_plant(disk / "plant.db", tiny_set, ramp=3, on_event=told.append) as plant:
        drive(plant, Plant(tiny_set), 40)
        keep_snapshot(plant)
        plant._state = None  # as after any error
        plant.pause("lunch")
        plant._state = None
        plant.resume()
        assert plant.notices() == told and [n.event for n in told] == ["stage", "paused", "resumed"]


def test_a_hook_that_raises_is_noted_and_harms_nothing(disk: Path, tiny_set: PolicySet) -> None:
    told = list[Notice]()

    def broken(notice: Notice) -> None:
        raise ZeroDivisionError("division by zero")

    with open_plant(disk / "plant.db", tiny_set, on_event=broken) as plant:
        plant.subscribe(told.append)
        plant.pause("lunch")
        assert plant.resume() is None
        drive(plant, Plant(tiny_set), 2)
        status = plant.status()
        assert status.hook_failures == 2 and [n.event for n in told] == ["paused", "resumed"]
        assert any("ZeroDivisionError at resumed" in note for note in status.notes)
        assert plant.verify().ok


def test_a_hook_may_use_the_deployment(disk: Path, tiny_set: PolicySet) -> None:
    seen = list[tuple[str, int]]()

    def hook(notice: Notice) -> None:
        if notice.event == "paused":
            plant.resume()
        seen.append((notice.event, plant.status().episodes))

    with open_plant(disk / "plant.db", tiny_set) as plant:
        plant.subscribe(hook)
        plant.pause("lunch")
        assert seen == [("paused", 0), ("resumed", 0)] and plant.status().state == "running"


def test_no_lock_is_held_while_a_hook_runs(disk: Path, tiny_set: PolicySet) -> None:
    """One thread's hook waits for what another thread does with the same deployment."""
    answers = list[int]()

    def hook(notice: Notice) -> None:
        other = threading.Thread(target=lambda: answers.append(plant.ask().id))
        other.start()
        other.join(60.0)

    with open_plant(disk / "plant.db", tiny_set) as plant:
        plant.subscribe(hook)
        plant.cap(0.5)
        plant.abort("enough")
        assert answers == [0, 1]


def test_threads_leave_the_telling_to_the_one_that_tells(disk: Path, tiny_set: PolicySet) -> None:
    told, inside = list[Notice](), list[int]()

    def hook(notice: Notice) -> None:
        inside.append(1)
        assert len(inside) == 1  # one at a time
        if notice.event == "paused" and notice.text == "0":
            others = [threading.Thread(target=lambda: (plant.resume(), plant.pause("1"))) for _ in range(1)]
            for other in others:
                other.start()
                other.join(60.0)
        told.append(notice)
        inside.pop()

    with open_plant(disk / "plant.db", tiny_set) as plant:
        plant.subscribe(hook)
        plant.pause("0")
        assert [n.event for n in told] == ["paused", "resumed", "paused"] and plant.notices() == told
        assert plant.status().hook_failures == 0


def test_a_degraded_deployment_tells_as_well(disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch) -> None:
    told, tell = list[Notice](), SupervisedAgent.tell

    def stumbles(self: SupervisedAgent, ids: Any, *arguments: Any, **options: Any) -> None:
        if 3 in list(ids):
            raise IndexError("index 7 is out of bounds")
        tell(self, ids, *arguments, **options)

    with open_plant(disk / "plant.db", tiny_set, on_event=told.append) as plant:
        with monkeypatch.context() as patch:
            patch.setattr(SupervisedAgent, "tell", stumbles)
            drive(plant, Plant(tiny_set), 5)
            plant.pause("what is wrong?")
            assert said(told) == [("degraded", "stopped"), ("paused", "stopped")]
        plant.resume()
        plant.recover()
        assert [n.event for n in told] == ["degraded", "paused", "resumed", "paused", "resumed", "recovered"]
        assert told[-1].stage == "ramping"
        later = plant.notices()
        assert [(n.id, n.stage, n.text) for n in later] == [(n.id, n.stage, n.text) for n in told]


def test_that_another_deployment_goes_on_is_told(disk: Path, tiny_set: PolicySet) -> None:
    told = list[Notice]()
    with open_plant(disk / "plant.db", tiny_set, on_event=told.append) as plant:
        with plant.readapt("second", "a new pump"):
            pass
        assert said(told) == [("readapted", "stopped"), ("stage", "stopped")]
        assert "second" in told[0].text and "a new pump" in told[0].text
        assert plant.notices() == told


def test_journals_without_stages_tell_of_the_rest(disk: Path, tiny_set: PolicySet) -> None:
    told = list[Notice]()
    with open_plant(disk / "plant.db", tiny_set, on_event=told.append) as plant:
        assert plant._state is not None
        plant._state.stage = ""
        drive(plant, Plant(tiny_set), 80)
        plant.pause("lunch")
        assert said(told) == [("paused", "learned")]
