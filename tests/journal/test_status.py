"""The status: plain values for programs, the whole truth for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from surefoot import PolicySet
from surefoot.journal import Deployment
from surefoot.journal.operator import SupervisedAgent
from tests.journal.plants import BACKENDS, Plant, drive, open_plant


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


def in_brief(plant: Deployment) -> tuple[int, int, str]:
    """The brief status, which the whole one must agree with."""
    found, whole = plant.brief_status(), plant.status()
    assert (found.seq, found.pending, found.state) == (whole.seq, whole.pending, whole.state)
    return found.seq, found.pending, found.state


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_brief_status_says_the_same(backend: str, new_url: Callable[[str], str], tiny_set: PolicySet) -> None:
    truth, url = Plant(tiny_set), new_url(backend)
    with open_plant(url, tiny_set) as plant, open_plant(url, tiny_set) as other:
        assert in_brief(plant) == (plant.status().seq, 0, "running")
        for _ in range(12):
            tickets = plant.ask(3)
            for ticket in tickets[:2]:
                plant.tell(ticket.id, **truth.report(ticket.id, ticket.policy_index))
                in_brief(plant)
        assert in_brief(plant)[1] == 12
        ticket_again = tickets[0]
        other.pause("lunch")
        plant.tell(
            ticket_again.id, **truth.report(ticket_again.id, ticket_again.policy_index)
        )  # an operation sees what others did
        assert in_brief(plant)[2] == "paused"
        plant.resume()
        expensive = truth.report(tickets[2].id, tickets[2].policy_index) | {"costs": [1e9]}
        plant.tell(tickets[2].id, **expensive)
        assert in_brief(plant)[2] == "alarm"  # what the report led to is worked in
        plant.abort("enough")
        assert in_brief(plant)[2] == "aborted"


def test_the_brief_status_of_a_journal_that_cannot_be_followed(
    disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = Plant(tiny_set)
    with open_plant(disk / "plant.db", tiny_set) as plant:
        in_brief(plant)
        ticket = plant.ask()

        def stumbles(self: SupervisedAgent, *arguments: Any, **options: Any) -> None:
            raise IndexError("index 7 is out of bounds")

        monkeypatch.setattr(SupervisedAgent, "tell", stumbles)
        plant.tell(ticket.id, **truth.report(ticket.id, ticket.policy_index))
        assert in_brief(plant)[1:] == (0, "degraded")
