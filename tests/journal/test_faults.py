"""Broken files, full and read-only disks, clocks that run backwards: told episodes survive or their loss is noticed, never anything wrong."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import JournalError, JournalUnavailable, PolicySet, SurefootError
from surefoot.journal import Deployment, events
from tests.journal.plants import Plant, as_recorded, drive, open_plant
from tests.refusals import refused

EPISODES, PAGE = 12, 4096
SIDES = ("", "-wal", "-shm")

Recorded = list[tuple[int, str, str]]


def written(folder: Path, policy_set: PolicySet) -> tuple[Path, Recorded, list[tuple[int, int]]]:
    """A journal copied while it is in use: its events, and after every step the size of the log and the events acknowledged."""
    live, still = folder / "live", folder / "still"
    live.mkdir()
    still.mkdir()
    truth, sizes = Plant(policy_set), []
    with open_plant(live / "plant.db", policy_set) as plant:
        for _ in range(EPISODES):
            drive(plant, truth, 1)
            sizes.append(((live / "plant.db-wal").stat().st_size, plant.status().seq))
        recorded = as_recorded(plant.events())
        for file in live.iterdir():
            if not file.name.endswith("-shm"):
                shutil.copy(file, still / file.name)
    return still / "plant.db", recorded, sizes


def copied(source: Path, target: Path) -> Path:
    """A copy to break."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source.parent, target)
    return target / source.name


def without_mark(file: Path) -> None:
    """Somebody decided to carry on from what is left."""
    for mark in file.parent.glob("*-mark-*"):
        mark.unlink()


def read(file: Path, policy_set: PolicySet) -> Recorded | None:
    """What a journal holds, folded and audited; ``None`` where it is refused."""
    try:
        with Deployment.open(file, policy_set, create=False, seed=7) as plant:
            found = as_recorded(plant.events())
            assert plant.verify().ok
            return found
    except SurefootError:
        return None


@pytest.mark.slow
def test_a_log_cut_off_anywhere_loses_nothing_acknowledged_or_says_so(disk: Path, tiny_set: PolicySet) -> None:
    source, recorded, sizes = written(disk, tiny_set)
    whole = source.with_name("plant.db-wal").stat().st_size
    last = sizes[-2][0]
    points = sorted({0, 1, 31, 32, whole - 1, whole, last, last + 1, *np.linspace(32, whole, 25).astype(int).tolist()})
    outcomes = []
    for size in points:
        file = copied(source, disk / "cut")
        with file.with_name("plant.db-wal").open("r+b") as log:
            log.truncate(size)
        found = read(file, tiny_set)
        assert found in (None, recorded)
        outcomes.append(found is not None)
        without_mark(file)
        left = read(file, tiny_set)
        assert left is None or left == recorded[: len(left)]
        acknowledged = max((seq for end, seq in sizes if end <= size), default=0)
        assert left is None or len(left) >= acknowledged
    assert outcomes[-1] and not outcomes[0]


def test_a_file_cut_off_anywhere_is_refused_or_whole(disk: Path, tiny_set: PolicySet) -> None:
    source, recorded, _ = written(disk, tiny_set)
    with open_plant(source, tiny_set):
        pass  # on closing, the log is moved into the file
    whole = source.stat().st_size
    for size in sorted({0, 1, 99, 100, 4095, whole - 1, *np.linspace(1, whole - 1, 30).astype(int).tolist()}):
        file = copied(source, disk / "cut")
        with file.open("r+b") as stream:
            stream.truncate(size)
        found = read(file, tiny_set)
        # What is missing of the last page may be a cache that nobody reads.
        assert found is None or (size > whole - PAGE and found == recorded)
    assert read(source, tiny_set) == recorded


def test_an_older_copy_is_refused_until_somebody_decides(disk: Path, tiny_set: PolicySet) -> None:
    file = disk / "plant.db"
    with open_plant(file, tiny_set) as plant:
        drive(plant, Plant(tiny_set), 3)
    shutil.copy(file, disk / "old")
    with open_plant(file, tiny_set) as plant:
        drive(plant, Plant(tiny_set), 3)
    shutil.copy(disk / "old", file)
    with refused("SF-JOURNAL-CUT"):
        open_plant(file, tiny_set)
    without_mark(file)
    with open_plant(file, tiny_set) as plant:
        assert plant.status().episodes == 3


def test_a_file_that_vanished_is_not_begun_anew(disk: Path, tiny_set: PolicySet) -> None:
    file = disk / "plant.db"
    with open_plant(file, tiny_set) as plant:
        drive(plant, Plant(tiny_set), 1)
    file.unlink()
    with refused("SF-JOURNAL-CUT"):
        open_plant(file, tiny_set)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, tiny_set: PolicySet) -> tuple[Path, Recorded]:
    """A closed journal and its events."""
    folder = tmp_path_factory.mktemp("sound")
    with open_plant(folder / "plant.db", tiny_set) as plant:
        drive(plant, Plant(tiny_set), 4)
        recorded = as_recorded(plant.events())
    return folder / "plant.db", recorded


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.binary(min_size=1, max_size=40)), min_size=1, max_size=4))
@pytest.mark.slow
def test_damage_anywhere_is_refused_or_without_effect(
    sound: tuple[Path, Recorded], tiny_set: PolicySet, damage: list[tuple[float, bytes]]
) -> None:
    source, recorded = sound
    file = copied(source, source.parent.with_name("damaged"))
    data = bytearray(file.read_bytes())
    for where, junk in damage:
        start = int(where * (len(data) - len(junk)))
        data[start : start + len(junk)] = junk
    file.write_bytes(data)
    found = read(file, tiny_set)
    assert found is None or found == recorded


@pytest.mark.parametrize(
    "junk", [b"", b"SQLite format 3\0", b"SQLite format 3\0" + bytes(4096), b"%PDF-1.7", b"\0" * 5000]
)
def test_a_file_that_is_no_journal_is_refused_or_begun(disk: Path, tiny_set: PolicySet, junk: bytes) -> None:
    file = disk / "plant.db"
    file.write_bytes(junk)
    if junk:
        with pytest.raises(JournalError):
            open_plant(file, tiny_set)
    else:
        open_plant(file, tiny_set).close()


def test_a_full_disk_hands_out_nothing_and_loses_nothing(disk: Path, tiny_set: PolicySet) -> None:
    truth = Plant(tiny_set)
    with open_plant(disk / "plant.db", tiny_set) as plant:
        drive(plant, truth, 2)
        held = plant.ask(request="held")
        before = as_recorded(plant.events())
        limit_pages(plant, 1)
        refused = 0
        while refused < 3:
            try:
                plant.ask()
            except JournalUnavailable as error:
                assert "full" in str(error)
                refused += 1
                limit_pages(plant, 1)
        assert as_recorded(plant.events())[: len(before)] == before
        asked = plant.status().episodes
        limit_pages(plant, 2**30)
        plant.tell(held.id, **truth.report(held.id, held.policy_index))
        ticket = plant.ask()
        assert ticket.id == asked
        assert plant.verify().ok


def limit_pages(plant: Deployment, pages: int) -> None:
    """The database may not grow beyond what it is, or beyond ``pages``; holds for this connection, which an error replaces."""
    with plant._store.reading() as transaction:
        transaction.connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")


def test_a_read_only_disk_can_be_looked_at_only(disk: Path, tiny_set: PolicySet) -> None:
    file, truth = disk / "plant.db", Plant(tiny_set)
    with open_plant(file, tiny_set) as writer:
        drive(writer, truth, 3)
        ticket = writer.ask()
        recorded = as_recorded(writer.events())
        with Deployment.open(f"sqlite:///file:{file}?mode=ro&uri=true", tiny_set, create=False) as reader:
            assert reader.status().episodes == 4
            assert as_recorded(reader.events()) == recorded
            assert reader.verify().ok
            for act in (
                lambda: reader.ask(),
                lambda: reader.tell(ticket.id, **truth.report(ticket.id, ticket.policy_index)),
                lambda: reader.abort(),
            ):
                with refused("SF-JOURNAL-UNAVAILABLE", "readonly"):
                    act()
            reader.close()
        assert as_recorded(writer.events()) == recorded
        assert writer.status().pending == 1


def test_a_folder_that_cannot_be_written_is_said(tiny_set: PolicySet) -> None:
    with pytest.raises(JournalError):
        open_plant("/proc/plant.db", tiny_set)


def test_a_clock_that_runs_backwards_changes_nothing(
    disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, found = Plant(tiny_set), []
    for name, direction in (("forwards", 1), ("backwards", -1)):
        ticks = iter(range(10_000))

        def clock(direction: int = direction, ticks: object = ticks) -> str:
            passed = timedelta(hours=direction * next(ticks))  # type: ignore[call-overload]
            return (datetime(2026, 1, 1, tzinfo=UTC) + passed).isoformat(timespec="microseconds")

        monkeypatch.setattr("surefoot.journal.transaction.now", clock)
        with open_plant(disk / f"{name}.db", tiny_set) as plant:
            drive(plant, truth, 40)
        with open_plant(disk / f"{name}.db", tiny_set) as plant:
            assert plant.verify().ok
            found.append((as_recorded(plant.events()), [event.at for event in plant.events()]))
    assert found[0][0] == found[1][0]
    assert found[0][1] == sorted(found[0][1]) and found[1][1] == sorted(found[1][1], reverse=True)


def test_time_is_told_in_utc() -> None:
    assert datetime.fromisoformat(events.now()).utcoffset() == timedelta(0)
