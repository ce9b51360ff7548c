"""Journals of the version before: the golden one is rewritten, folded, audited and continued, and nothing of it changes but its rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from surefoot import PolicySet
from surefoot.journal import Deployment, settings
from surefoot.journal.store import Store
from surefoot.version import VERSION
from tests.journal.plants import BACKENDS, Plant
from tests.refusals import refused

GOLDEN = Path(__file__).parents[1] / "golden" / "journal-v1.jsonl"
LINES = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
TABLES = """
CREATE TABLE deployments (name TEXT NOT NULL, PRIMARY KEY (name));
CREATE TABLE events (deployment TEXT NOT NULL, seq BIGINT NOT NULL, at TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, digest TEXT NOT NULL,
    first BIGINT, last BIGINT, request TEXT, PRIMARY KEY (deployment, seq));
CREATE INDEX events_by_episode ON events (deployment, kind, first, last) WHERE first IS NOT NULL;
CREATE UNIQUE INDEX events_by_request ON events (deployment, request) WHERE request IS NOT NULL;
CREATE TABLE policy_sets (hash TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (hash));
CREATE TABLE snapshots (deployment TEXT NOT NULL, seq BIGINT NOT NULL, digest TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (deployment));
"""
"""As version 0.1.0 made them."""


def name_of_golden() -> str:
    found: str = LINES[0]["body"]["name"]
    return found


def text(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def written(url: str) -> Store:
    """The golden journal in tables of format 1, and another deployment beside it."""
    if "://" not in url:
        sqlite3.connect(url).execute("PRAGMA journal_mode=WAL").connection.close()
    store = Store(url, name_of_golden())
    with store._engine.connect() as connection:
        for statement in TABLES.split(";"):
            if statement.strip():
                connection.exec_driver_sql(statement.replace("BLOB", "BLOB" if store.sqlite else "BYTEA"))
        insert = sa.text(
            "INSERT INTO events VALUES (:deployment, :seq, :at, :kind, :body, :digest, :first, :last, :request)"
        )
        for line in LINES:
            body, ids = line["body"], line["body"].get("ids")
            if line["kind"] == "asked":
                ids = [body["first"], body["first"] + len(body["draws"]) - 1]
            row = {
                "seq": line["seq"], "at": line["at"], "kind": line["kind"], "body": text(body), "digest": line["digest"],
                "first": ids and min(ids), "last": ids and max(ids), "request": body.get("request"),
            }  # fmt: skip
            connection.execute(insert, row | {"deployment": name_of_golden()})
            connection.execute(insert, row | {"deployment": "a second"})
        connection.execute(sa.text("INSERT INTO deployments VALUES (:name)"), {"name": name_of_golden()})
        connection.commit()
    return store


@pytest.fixture
def old_set(full_set: PolicySet) -> PolicySet:
    """As a file of its time holds it: without the looks at its hold-out."""
    return replace(full_set, lineage_known=False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_journal_of_the_version_before_is_continued(
    backend: str, new_url: Callable[[str], str], old_set: PolicySet
) -> None:
    url = new_url(backend)
    written(url).close()
    with Deployment.open(url, old_set, name=name_of_golden(), create=False) as plant:
        events = list(plant.events())
        assert [(e.seq, e.at, e.kind, e.body, e.digest) for e in events] == [
            (line["seq"], line["at"], line["kind"], line["body"], line["digest"]) for line in LINES
        ]
        assert plant.ticket(45).id == 45
        assert plant.verify().ok and plant.status().degraded == ""
        ticket = plant.ask()
        plant.tell(ticket.id, **Plant(old_set).report(ticket.id, ticket.policy_index))
        before = plant.status()
    with Deployment.open(url, old_set, name=name_of_golden(), create=False) as plant:
        assert plant.status() == before and plant.verify().ok
    with Deployment.open(url, old_set, name="a second", create=False) as other:
        assert [event.digest for event in other.events()] == [line["digest"] for line in LINES]


def test_a_journal_that_was_edited_is_not_rewritten(disk: Path, old_set: PolicySet) -> None:
    file = disk / "plant.db"
    written(str(file)).close()
    table = sqlite3.connect(file, isolation_level=None)
    table.execute("UPDATE events SET body = replace(body, '0.3', '0.4') WHERE seq = 12")
    before = list(table.iterdump())
    with refused("SF-JOURNAL-EDITED", "event 12"):
        Deployment.open(file, old_set, name=name_of_golden(), create=False)
    assert list(table.iterdump()) == before
    table.close()


def test_a_later_version_continues_the_versions_before_it_and_no_others(
    disk: Path, old_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = disk / "plant.db"
    written(str(file)).close()
    for module in ("settings", "bodies", "snapshot"):
        monkeypatch.setattr(f"surefoot.journal.{module}.VERSION", "0.2.0")
    monkeypatch.setattr(settings, "CONTINUED", ("0.1", "0.2"))
    with Deployment.open(file, old_set, name=name_of_golden(), create=False) as plant:
        assert plant.ask().id == 100 and plant.verify().ok
    monkeypatch.setattr(settings, "CONTINUED", ("0.2",))
    with refused("SF-SETTINGS-VERSION", "0.2", "0.1.0"):
        Deployment.open(file, old_set, name=name_of_golden(), create=False)


def test_every_version_that_is_continued_has_a_golden_journal() -> None:
    """A new minor version is refused its own journals until it is added, and then has to bring one."""
    golden = set()
    for path in GOLDEN.parent.glob("journal-*.jsonl"):
        with path.open(encoding="utf-8") as lines:
            golden.add(".".join(json.loads(next(lines))["body"]["version"].split(".")[:2]))
    assert golden == set(settings.CONTINUED)
    assert ".".join(VERSION.split(".")[:2]) in settings.CONTINUED
