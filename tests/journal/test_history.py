"""Logged episodes in a deployment: given when it is opened or later, once each, whoever repeats it, and never after the first ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.journal.agents import register_agent, unregister_agent
from surefoot.report.deployment import render
from tests.journal.plants import Plant, as_recorded, drive, keep_snapshot, open_plant, small_set
from tests.refusals import refused

SET = small_set(states=True)


def log(n: int, seed: int = 5) -> dict[str, Any]:
    found = Plant(SET, seed=seed).batch(list(range(n)), [0] * n)
    del found["ids"]
    return found


@pytest.mark.parametrize("trust", ["cells", "envelope", "data"])
def test_a_deployment_that_begins_with_a_log(trust: str, tmp_path: Path) -> None:
    history, url = sf.History(**log(80)), tmp_path / "plant.db"
    for _ in range(2):  # the second time it is there
        with open_plant(url, SET, trust=trust, ramp=50, history=history) as plant:
            assert plant.status().logged == 80 and plant.status().stage != "comparing"
            assert "80 logged episodes of the safe policy" in plant.status().text
            assert [event.kind for event in plant.events()].count("recalled") == 1
    with open_plant(url, SET, ramp=50) as plant:
        plant.recall(**log(20, seed=6), by="engineer anna")
        drive(plant, Plant(SET), 25)
        keep_snapshot(plant)
        kept = plant.status()
    with open_plant(url, SET, ramp=50, history=history) as plant:  # from the snapshot
        assert plant.status() == kept and kept.logged == 100
        drive(plant, Plant(SET), 5)
        with refused("SF-CONFLICT-HISTORY", "30", "3"):
            plant.recall(**log(3, seed=9))
        assert plant.verify().first_disagreement is None
        assert "100 logged episodes of the safe policy before" in render(plant.events())
        events = list(plant.events())
    assert [event.body.get("by") for event in events if event.kind == "recalled"] == [None, "engineer anna"]
    digests = [event.body["log"] for event in events if event.kind == "recalled"]
    assert len(set(digests)) == 2 and all(len(digest) == 64 for digest in digests)


def test_a_log_changes_what_is_played(tmp_path: Path) -> None:
    """Without it the ramp plays the safe policy first."""
    with (
        open_plant(tmp_path / "a.db", SET, ramp=50) as bare,
        open_plant(tmp_path / "b.db", SET, ramp=50, history=sf.History(**log(60))) as given,
    ):
        assert bare.status().weights == {0: 1.0} and given.status().weights != {0: 1.0}
        assert as_recorded(bare.events())[0] != as_recorded(given.events())[2]


def test_what_is_refused_leaves_the_deployment_as_it_was(tmp_path: Path) -> None:
    with open_plant(tmp_path / "plant.db", SET) as plant:
        before = as_recorded(plant.events())
        with refused("SF-REPORT-RANGE", "costs"):
            plant.recall([1.0], [[-1.0]])
        with refused("SF-REPORT-SHAPE", "reward"):
            plant.recall([], [])
        with refused("SF-REPORT-SHAPE", "costs"):
            plant.recall([1.0, 2.0], [[1.0]])
        assert as_recorded(plant.events()) == before and plant.status().logged == 0
        plant.recall(np.array([2.0]), np.array([[0.5]]))
        assert plant.status().logged == 1
    bad = sf.History([2.0], [[float("nan")]])
    with refused("SF-REPORT-FINITE", "costs"):
        open_plant(tmp_path / "plant.db", SET, history=bad)


def test_agents_of_ones_own_take_no_logs(tmp_path: Path) -> None:
    register_agent("mine", lambda policy_set, settings: sf.CertifiedAgent(policy_set, trust="data", seed=settings.seed))
    try:
        with open_plant(tmp_path / "plant.db", SET, agent="mine") as plant, refused("SF-CONFLICT-HISTORY", "mine"):
            plant.recall(**log(3))
    finally:
        unregister_agent("mine")


def test_a_log_that_failed_half_way_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_plant(tmp_path / "plant.db", SET) as plant:
        monkeypatch.setattr("surefoot.journal.operator.SupervisedAgent.recall", lambda self, **log: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            plant.recall(**log(3))
        monkeypatch.undo()
        plant.recall(**log(3))
        assert plant.status().logged == 3 and plant.verify().ok
