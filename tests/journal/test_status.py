"""The status: plain values for programs, the whole truth for people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from surefoot import PolicySet
from tests.journal.plants import Plant, drive, open_plant


@pytest.mark.parametrize("trust", ["cells", "envelope", "data"])
def test_it_says_what_is_promised_and_on_what_that_rests(disk: Path, tiny_set: PolicySet, trust: str) -> None:
    with open_plant(disk / "plant.db", tiny_set, trust=trust) as plant:
        status = plant.status()
        assert "probability at least 0.95" in status.statement
        assert {"cells": "some cell", "envelope": "worst cell", "data": "declared ceiling"}[trust] in status.statement
        assert "mixture, not the single draw" in status.text
        assert sum(status.ledger.values()) <= 0.05 + 1e-12
        assert status.certified


def test_it_is_plain(disk: Path, full_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", full_set, approve=True) as plant:
        drive(plant, Plant(full_set), 20)
        plant.lost(plant.ask().id)
        plant.pause("lunch")
        status = plant.status()
    found = json.loads(json.dumps(status.as_dict()))
    assert found["state"] == "paused" and found["why"] == "lunch"
    assert (found["episodes"], found["pending"]) == (21, 0)
    assert found["weights"] == {"0": 1.0} and found["waiting"]
    assert any("lost" in note for note in found["notes"])
    for part in ("PAUSED: lunch", "after 21 episodes", "cells left", "waits for approval", "note: an episode was lost"):
        assert part in status.text


def test_reports_that_wait_are_mentioned(disk: Path, tiny_set: PolicySet) -> None:
    truth = Plant(tiny_set)
    with open_plant(disk / "plant.db", tiny_set) as plant:
        tickets = plant.ask(3)
        plant.tell(2, **truth.report(2, tickets[2].policy_index))
        assert "until episode 0 is told" in plant.status().text
        assert plant.wants == frozenset()
