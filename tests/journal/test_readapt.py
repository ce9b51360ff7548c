"""One deployment after another: both journals name each other, the old one asks no more, and who dies in between says it again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surefoot import PolicySet
from surefoot.audit import verify
from surefoot.journal import Deployment
from surefoot.journal.state import DeploymentState
from surefoot.report.deployment import render
from tests.cli.running import run
from tests.journal.plants import Plant, drive, keep_snapshot, open_plant, rechained
from tests.refusals import refused


def test_a_new_deployment_goes_on_and_the_old_one_ends(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set, trust="data", delta=0.02) as old:
        drive(old, Plant(tiny_set), 20)
        pending = old.ask()
        with old.readapt("second", "new pump", by="ann") as new:
            assert new.settings == replace(old.settings, seed=8)
            assert new.policy_set.hash == old.policy_set.hash
            (end,) = (e for e in old.events() if e.kind == "readapted")
            assert (end.body["name"], end.body["reason"], end.body["by"]) == ("second", "new pump", "ann")
            opened = next(new.events())
            assert opened.body["readapts"] == {
                "name": "default",
                "seq": end.seq,
                "digest": end.digest,
                "reason": "new pump",
            }
            status = new.status()
            assert status.weights[0] > 0.9 and status.episodes == 0
            assert any("'default'" in note and "new pump" in note for note in status.notes)
            assert "after deployment default: new pump" in render(new.events())
            drive(new, Plant(tiny_set, cost_factor=0.5), 20)
            assert new.verify().ok
        with refused("SF-DEPLOYMENT-SUCCEEDED", "second"):
            old.ask()
        old.tell(pending.id, 2.0, [0.3])
        status = old.status()
        assert (status.state, status.stage, status.weights, status.pending) == ("aborted", "stopped", {0: 1.0}, 0)
        assert "second" in status.why and "new pump" in status.why
        assert "deployment second goes on: new pump" in render(old.events())
        old.resume()
        with refused("SF-DEPLOYMENT-SUCCEEDED"):
            old.ask()
        assert old.verify().ok
        keep_snapshot(old)
    with open_plant(disk / "plant.db", tiny_set) as old:
        with refused("SF-DEPLOYMENT-SUCCEEDED"):
            old.ask()
        state = DeploymentState(tiny_set, old.settings)
        state.replay(list(old.events()))
        assert state.successor == "second"


def test_logged_episodes_after_the_change_may_begin_it(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set, trust="data") as old, old.readapt("second") as new:
        new.recall(np.full(30, 2.0), np.full((30, 1), 0.3))
        drive(new, Plant(tiny_set), 3)
        assert new.status().logged == 30
        assert new.verify().ok


def test_saying_it_again_opens_the_same_one_and_another_name_is_refused(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set) as old:
        with old.readapt("second") as new:
            drive(new, Plant(tiny_set), 3)
        with old.readapt("second") as new:
            assert new.status().episodes == 3
            with new.readapt("third") as last:
                assert last.settings.seed == old.settings.seed + 2
        with refused("SF-CONFLICT-SUCCEEDED", "second", "fourth"):
            old.readapt("fourth")
        assert [e.kind for e in old.events()].count("readapted") == 1


def test_who_died_between_the_two_journals_says_it_again(
    disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_plant(disk / "plant.db", tiny_set) as old:
        with monkeypatch.context() as patch:
            patch.setattr("surefoot.journal.deployment.create_deployment", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                old.readapt("second", "new pump")
        with refused("SF-DEPLOYMENT-SUCCEEDED"):
            old.ask()
        with old.readapt("second") as new:
            assert next(new.events()).body["readapts"]["reason"] == "new pump"


def test_what_is_refused_is_refused_before_anything_ends(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set) as old:
        with open_plant(disk / "plant.db", tiny_set, name="taken"):
            pass
        with refused("SF-CONFLICT-SUCCEEDED", "taken"):
            old.readapt("taken")
        with refused("SF-CONFLICT-SUCCEEDED", "default"):
            old.readapt("default")
        with refused("SF-ARGUMENT-RANGE", "delta"):
            old.readapt("second", delta=2.0)
        with refused("SF-ARGUMENT-TEXT", "name"):
            old.readapt("")
        assert old.ask().id == 0


def test_the_audit_sees_episodes_after_the_end_and_a_link_to_nothing(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set, trust="data") as old:
        drive(old, Plant(tiny_set), 4)
        events = list(old.events())
        with old.readapt("second") as new:
            first = next(new.events())
        end = [e for e in old.events() if e.seq > len(events)]
    asked = next(e for e in events if e.kind == "asked")
    late = replace(asked, body={**asked.body, "first": 4, "settled": 4, "plan": end[-1].seq})
    assert "after the deployment had ended" in str(
        verify(tiny_set, rechained([*events, *end, late])).first_disagreement
    )
    assert "ended twice" in str(verify(tiny_set, rechained([*events, *end, end[0]])).first_disagreement)
    nothing = replace(first, body={**first.body, "readapts": {**first.body["readapts"], "digest": ""}})
    assert "before this one" in str(verify(tiny_set, rechained([nothing])).first_disagreement)


def test_from_a_shell(disk: Path, tiny_set: PolicySet, capsys: pytest.CaptureFixture[str]) -> None:
    url = str(disk / "plant.db")
    with open_plant(url, tiny_set):
        pass
    done = run(["deploy", "readapt", url, "second", "--reason", "new pump", "--delta", "0.01", "--json"], capsys)
    assert (done.status, json.loads(done.out)["name"]) == (0, "second")
    assert run(["deploy", "ask", url], capsys).status == 5
    with Deployment.open(url, name="second", create=False) as new:
        assert new.settings.delta == 0.01
