"""Processes that die at any statement, that race and that crowd; a database that goes away. On SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from surefoot import PolicySet
from surefoot.journal.opening import create_deployment
from surefoot.journal.settings import Settings
from surefoot.journal.store import Store
from tests.journal.plants import BACKENDS, Plant, Postgres, as_recorded, drive, open_plant
from tests.refusals import refused

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
NewUrl = Callable[[str], str]


def harness(*arguments: str) -> dict[str, Any]:
    """Run the harness in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.journal.harness", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"said": done.stderr}


@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_at_any_statement_it_recovers_what_was_heard_and_ends_up_the_same(backend: str, new_url: NewUrl) -> None:
    url = new_url(backend)
    found = harness("crash", url.replace("plant.db", "{n}.db") if backend == "sqlite" else url)
    assert found["faults"] == []
    assert found["points"] > 40


@pytest.mark.parametrize("backend", BACKENDS)
def test_processes_that_open_it_at_once_and_crowd_lose_duplicate_and_reorder_nothing(
    backend: str, new_url: NewUrl
) -> None:
    url = new_url(backend)
    found = harness("together", url if backend == "postgresql" else url.replace("plant.db", "{n}.db"), "240", "8")
    raced, crowded = found["race"], found["crowd"]
    assert raced["statuses"] == [0] * 4, found["said"]
    assert (raced["opened"], raced["asked"], raced["told"], raced["pending"], raced["audit"]) == (1, 5, 5, 0, None)
    assert crowded["statuses"] == [0] * 8, found["said"]
    assert crowded["asked_in_order"] and crowded["told_once"] and crowded["right"]
    assert (crowded["pending"], crowded["audit"]) == (0, None)


if "postgresql" in BACKENDS:

    def test_who_opens_takes_the_locks_in_one_order(postgres: Postgres, tiny_set: PolicySet) -> None:
        """Creation, then the deployment: two openers of which one holds either lock and wants the other wait for each other for good."""
        store = Store(postgres.url(), "raced")
        taken: list[str] = []

        def listen(connection: Any, cursor: Any, sql: str, *ignored: Any) -> None:
            taken.extend(name for name in ("advisory", "FOR UPDATE") if name in sql)

        def begin(connection: Any) -> None:
            taken.append("begin")

        sa.event.listen(sa.Engine, "begin", begin)
        sa.event.listen(sa.Engine, "before_cursor_execute", listen)
        try:
            for _ in range(2):  # the deployment's row is missing, then there
                taken.clear()
                create_deployment(store, tiny_set, Settings.given())
                assert taken == ["begin", "advisory", "begin", "advisory", "FOR UPDATE"]
        finally:
            sa.event.remove(sa.Engine, "begin", begin)
            sa.event.remove(sa.Engine, "before_cursor_execute", listen)
            store.close()

    def test_a_server_that_goes_away_and_comes_back_costs_nothing(postgres: Postgres, tiny_set: PolicySet) -> None:
        truth, url = Plant(tiny_set), postgres.url()
        with open_plant(url, tiny_set) as plant:
            drive(plant, truth, 5)
            ticket = plant.ask(request="held")
            before = as_recorded(plant.events())
            postgres.stop()
            try:
                report = truth.report(ticket.id, ticket.policy_index)
                for act in (lambda: plant.ask(), lambda: plant.tell(ticket.id, **report), plant.status):
                    with refused("SF-JOURNAL-UNAVAILABLE"):
                        act()
            finally:
                postgres.start()
            assert as_recorded(plant.events()) == before
            assert plant.ask(request="held").policy_index == ticket.policy_index
            plant.tell(ticket.id, **report)
            drive(plant, truth, 5)
            assert plant.verify().ok

    def test_a_connection_that_died_unnoticed_is_replaced(postgres: Postgres, tiny_set: PolicySet) -> None:
        with open_plant(postgres.url(), tiny_set) as plant:
            drive(plant, Plant(tiny_set), 2)
            postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'plant%'")
            drive(plant, Plant(tiny_set), 2)
            assert plant.status().episodes == 4

    def test_a_session_that_would_not_wait_for_the_disk_is_made_to(postgres: Postgres, tiny_set: PolicySet) -> None:
        url = postgres.url()
        postgres.execute(f"ALTER DATABASE plant{postgres.databases} SET synchronous_commit = off")
        with open_plant(url, tiny_set) as plant, plant._store.reading() as transaction:
            assert transaction.connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
