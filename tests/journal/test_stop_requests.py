"""Stop requests: in effect without any lock, recorded later as the ordinary event, never lost and never twice."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from surefoot import JournalUnavailable, PausedError, PolicySet
from surefoot.journal import Deployment, Stop
from surefoot.journal.stop_requests import FileStops, TableStops
from tests.journal.plants import BACKENDS, Plant, drive, open_plant
from tests.refusals import refused

NewUrl = Callable[[str], str]


def engine_of(url: str, **options: Any) -> sa.Engine:
    """An engine of one's own on a server, with the driver that is installed."""
    return sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool, **options)


@contextmanager
def holding(url: str, name: str = "default") -> Iterator[None]:
    """Somebody else who holds the lock that every operation needs."""
    if "://" not in url:
        with closing(sqlite3.connect(url, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
        return
    engine = engine_of(url)
    with engine.begin() as held:
        held.execute(sa.text("SELECT name FROM deployments WHERE name = :name FOR UPDATE"), {"name": name})
        yield
    engine.dispose()


def kinds(plant: Deployment) -> list[str]:
    return [event.kind for event in plant.events()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_abort_is_in_effect_while_somebody_else_holds_the_lock(
    backend: str, new_url: NewUrl, tiny_set: PolicySet
) -> None:
    url = new_url(backend)
    with open_plant(url, tiny_set) as plant, open_plant(url, tiny_set, lock_seconds=0.01) as robot:
        drive(plant, Plant(tiny_set), 3)
        with holding(url):
            stop = plant.abort("fire", by="operator anna")
            assert (stop.recorded, stop.state) == (False, "aborted")
            assert "recorded in the journal as soon as its lock is free" in stop.text
            for one in (plant, robot):  # any process sees it at once
                status = one.status()
                assert (status.state, status.why, status.weights) == ("aborted", "fire", {0: 1.0})
            with pytest.raises(JournalUnavailable):
                robot.ask()
        # The first who gets the lock records it before it draws, whoever that is.
        assert {ticket.policy_index for ticket in robot.ask(30)} == {0}
        (event,) = [event for event in plant.events() if event.kind == "aborted"]
        assert event.body == {"reason": "fire", "by": "operator anna"}
        assert plant._stops.pending() == {}
        assert plant.abort("again").recorded
        assert kinds(plant).count("aborted") == 1
        assert plant.verify().ok


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pause_is_in_effect_while_somebody_else_holds_the_lock(
    backend: str, new_url: NewUrl, tiny_set: PolicySet
) -> None:
    url = new_url(backend)
    with open_plant(url, tiny_set) as plant:
        with holding(url):
            assert not plant.pause("lunch").recorded
            assert plant.status().state == "paused"
        with refused("SF-DEPLOYMENT-PAUSED", "lunch"):
            plant.ask()
        assert kinds(plant)[-1] == "paused"
        plant.resume(by="operator anna")
        assert [event.body for event in plant.events()][-1] == {"by": "operator anna"}
        plant.ask()
        assert plant.verify().ok


@pytest.mark.parametrize("backend", BACKENDS)
def test_who_waits_for_a_lock_gives_up_and_says_so(backend: str, new_url: NewUrl, tiny_set: PolicySet) -> None:
    url = new_url(backend)
    with open_plant(url, tiny_set, lock_seconds=0.01) as plant:
        with holding(url), pytest.raises(JournalUnavailable):
            plant.ask()
        assert plant.ask().id == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_deployment_is_stopped_without_being_opened(backend: str, new_url: NewUrl, tiny_set: PolicySet) -> None:
    url = new_url(backend)
    with open_plant(url, tiny_set) as plant, holding(url):
        assert Deployment.stop(url, "aborted", "fire") == Stop("aborted", "fire")
    with open_plant(url, tiny_set) as plant:
        assert plant.status().state == "aborted"
        assert plant.ask().policy_index == 0
        assert kinds(plant) == ["opened", "planned", "aborted", "stage", "planned", "asked"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_requests_of_one_deployment_stop_no_other(backend: str, new_url: NewUrl, tiny_set: PolicySet) -> None:
    url = new_url(backend)
    with open_plant(url, tiny_set, name="a") as a, open_plant(url, tiny_set, name="b") as b:
        Deployment.stop(url, "paused", "lunch", name="a")
        assert (a.status().state, b.status().state) == ("paused", "running")
        b.ask()
        with pytest.raises(PausedError):
            a.ask()


def test_a_thread_that_works_keeps_no_stop_waiting(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set) as plant:
        taken, done = threading.Event(), threading.Event()
        earlier, plant._last = plant.status(), None

        def work() -> None:
            with plant._held():
                taken.set()
                done.wait()

        worker = threading.Thread(target=work)
        worker.start()
        taken.wait()
        try:
            assert not plant.abort("fire").recorded
            assert plant.status_at_once() is None
            plant._last = earlier
            late = plant.status_at_once()
            assert late is not None and (late.state, late.why, late.weights) == ("aborted", "fire", {0: 1.0})
            assert "as of event" in late.notes[0]
        finally:
            done.set()
            worker.join()
        assert plant.status().state == "aborted"


def test_a_crash_between_recording_and_removing_changes_nothing(
    disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_plant(disk / "plant.db", tiny_set) as plant:
        with monkeypatch.context() as patch:
            patch.setattr(FileStops, "remove", lambda *_: None)
            plant.pause("lunch")
        assert len(plant._stops.pending()) == 1
        # Whoever resumes meets the request again, before the pause ends and not after it.
        plant.resume()
        plant.ask()
        assert kinds(plant) == ["opened", "planned", "paused", "resumed", "asked"]


def test_a_request_that_cannot_be_removed_is_said_to_who_resumes(
    disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_plant(disk / "plant.db", tiny_set) as plant:
        monkeypatch.setattr(FileStops, "remove", lambda *_: None)
        plant.pause("lunch")
        with refused("SF-JOURNAL-STOP"):
            plant.resume()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "resumed", "reason": "x"}', '{"kind": "aborted"}', "\x00"])
def test_a_request_that_cannot_be_read_counts_as_a_pause(disk: Path, tiny_set: PolicySet, text: str) -> None:
    with open_plant(disk / "plant.db", tiny_set) as plant:
        stops = plant._stops
        assert isinstance(stops, FileStops)
        stops.folder.mkdir()
        (stops.folder / "torn").write_text(text, encoding="utf-8")
        with refused("SF-DEPLOYMENT-PAUSED"):
            plant.ask()
        plant.resume()
        plant.ask()


def test_where_no_request_can_be_left_the_ordinary_way_is_gone(
    disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_plant(disk / "plant.db", tiny_set) as plant:

        def refused(self: FileStops, stop: Stop) -> None:
            raise JournalUnavailable("no room")

        monkeypatch.setattr(FileStops, "leave", refused)
        assert plant.abort("fire").recorded
        assert plant.status().state == "aborted"


@pytest.mark.parametrize("backend", [backend for backend in BACKENDS if backend != "sqlite"])
def test_a_journal_of_an_earlier_version_gets_its_table(backend: str, new_url: NewUrl, tiny_set: PolicySet) -> None:
    url = new_url(backend)
    with open_plant(url, tiny_set) as plant:
        engine = engine_of(url)
        with engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE stops"))
        engine.dispose()
        assert isinstance(plant._stops, TableStops)
        plant._stops._there = False
        plant.ask()
        with holding(url):
            plant.abort("fire")
        assert plant.ask().policy_index == 0
        assert kinds(plant).count("aborted") == 1


@pytest.mark.parametrize("backend", [backend for backend in BACKENDS if backend != "sqlite"])
def test_a_stop_is_seen_whatever_the_server_isolates_by_default(
    backend: str, new_url: NewUrl, tiny_set: PolicySet
) -> None:
    url = new_url(backend)
    with open_plant(url, tiny_set):
        pass
    engine = engine_of(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        name = connection.execute(sa.text("SELECT current_database()")).scalar()
        connection.execute(sa.text(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation TO 'repeatable read'"))
    engine.dispose()
    with open_plant(url, tiny_set) as plant, plant._store.writing() as transaction:
        transaction.run(sa.select(1)).all()  # a snapshot would be taken here
        Deployment.stop(url, "paused", "lunch")
        assert [stop.kind for stop in plant._stops.pending(transaction.connection).values()] == ["paused"]
