"""Old data is not taken for new, and other data not for one's own: replaced files, restored backups, forged snapshots, odd names."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from surefoot import JournalError, PolicySet
from surefoot.journal import Deployment, high_water_marks, sqlite_file
from surefoot.journal.removal import belongings, remove
from surefoot.journal.seals import sealed
from surefoot.journal.session import cached
from tests.journal.plants import BACKENDS, HAS_POSTGRES, Plant, drive, keep_snapshot, open_plant
from tests.refusals import refused


def table(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, isolation_level=None)


def driven(file: Any, policy_set: PolicySet, episodes: int) -> None:
    with open_plant(file, policy_set) as plant:
        drive(plant, Plant(policy_set), episodes)


# --------------------------------------------------------------------------------------------------- files that change


def test_a_deleted_log_loses_nothing(disk: Path, tiny_set: PolicySet) -> None:
    """It is still open here, and what it holds is moved into the file before another one is begun."""
    file = disk / "plant.db"
    with open_plant(file, tiny_set) as plant:
        drive(plant, Plant(tiny_set), 2)
        (disk / "plant.db-wal").unlink()
        drive(plant, Plant(tiny_set), 2)
        shutil.copytree(disk, disk.with_name(f"{disk.name}-copy"))
    copy = disk.with_name(f"{disk.name}-copy") / "plant.db"
    with open_plant(copy, tiny_set) as plant:
        assert plant.status().episodes == 4
    shutil.rmtree(copy.parent)


@pytest.mark.parametrize("ends", [("", "-wal", "-shm"), ("",)])
def test_a_deleted_file_acknowledges_nothing_more(disk: Path, tiny_set: PolicySet, ends: tuple[str, ...]) -> None:
    with open_plant(disk / "plant.db", tiny_set) as plant:
        drive(plant, Plant(tiny_set), 2)
        for end in ends:
            (disk / f"plant.db{end}").unlink()
        for _ in range(3):
            with pytest.raises(JournalError):
                plant.ask()
            with pytest.raises(JournalError):
                plant.status()
        assert not (disk / "plant.db").exists()


def test_a_file_deleted_during_an_operation_acknowledges_nothing(disk: Path, tiny_set: PolicySet) -> None:
    file = disk / "plant.db"
    with open_plant(file, tiny_set) as plant:
        drive(plant, Plant(tiny_set), 1)
        with refused("SF-JOURNAL-REPLACED"), plant._store.writing() as transaction:
            transaction.written = transaction.last()
            file.rename(disk / "elsewhere")


def test_another_journal_under_the_same_name_is_refused(disk: Path, tiny_set: PolicySet) -> None:
    file = disk / "plant.db"
    driven(disk / "other.db", tiny_set, 3)
    with open_plant(file, tiny_set) as plant:
        drive(plant, Plant(tiny_set), 3)
        os.replace(disk / "other.db", file)
        for act in (plant.ask, plant.status, lambda: list(plant.events())):
            with refused("SF-JOURNAL-REPLACED"):
                act()


def test_an_older_copy_under_a_running_process_is_refused(disk: Path, tiny_set: PolicySet) -> None:
    file = disk / "plant.db"
    driven(file, tiny_set, 2)
    shutil.copy(file, disk / "old")
    with open_plant(file, tiny_set) as plant:
        drive(plant, Plant(tiny_set), 2)
        for end in ("-wal", "-shm"):
            (disk / f"plant.db{end}").unlink()
        os.replace(disk / "old", file)
        with refused("SF-JOURNAL-REPLACED"):
            plant.ask()
    with refused("SF-JOURNAL-CUT"):
        open_plant(file, tiny_set)


def test_the_same_journal_moved_back_is_carried_on(disk: Path, tiny_set: PolicySet) -> None:
    file = disk / "plant.db"
    with open_plant(file, tiny_set) as plant:
        drive(plant, Plant(tiny_set), 2)
        plant.status()
        file.rename(disk / "away")
        with pytest.raises(JournalError):
            plant.ask()
        (disk / "away").rename(file)
        assert plant.ask().id == 2


if HAS_POSTGRES:

    def backup(url: str) -> dict[str, list[Any]]:
        import psycopg

        with psycopg.connect(url) as connection:
            names = ("deployments", "events", "snapshots")
            return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}  # type: ignore[arg-type]

    def restore(url: str, found: dict[str, list[Any]]) -> None:
        import psycopg

        with psycopg.connect(url) as connection:
            for name, rows in found.items():
                connection.execute(f"DELETE FROM {name}")  # type: ignore[arg-type]
                for row in rows:
                    connection.execute(f"INSERT INTO {name} VALUES ({', '.join(['%s'] * len(row))})", row)  # type: ignore[arg-type]

    def test_a_backup_restored_over_a_newer_journal_is_refused(
        new_url: Callable[[str], str], tiny_set: PolicySet
    ) -> None:
        url = new_url("postgresql")
        with open_plant(url, tiny_set) as plant:
            drive(plant, Plant(tiny_set), 2)
            old = backup(url)
            drive(plant, Plant(tiny_set), 2)
            restore(url, old)
            for act in (plant.ask, plant.status):  # who is at work
                with refused("SF-JOURNAL-CUT"):
                    act()
        with refused("SF-JOURNAL-CUT", "marks"):  # who comes later
            Deployment.open(url, create=False)

    def test_a_database_made_anew_is_refused_by_who_knew_the_old_one(
        new_url: Callable[[str], str], tiny_set: PolicySet
    ) -> None:
        url = new_url("postgresql")
        with open_plant(url, tiny_set) as plant:
            drive(plant, Plant(tiny_set), 1)
            restore(url, {"events": [], "snapshots": [], "deployments": []})
            open_plant(url, tiny_set).close()
            with refused("SF-JOURNAL-REPLACED"):
                plant.ask()


# ------------------------------------------------------------------------------------------------------------- anchors


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_anchor_remembers_what_marks_forget(
    backend: str, new_url: Callable[[str], str], disk: Path, tiny_set: PolicySet
) -> None:
    url, place = new_url(backend), disk / "elsewhere.txt"
    with open_plant(url, tiny_set, anchor=place) as plant:
        drive(plant, Plant(tiny_set), 2)
        for path in [keeper.path for keeper in plant._store.identity.keepers()]:
            assert path.exists()
    shutil.copy(place, disk / "early")
    with open_plant(url, tiny_set, anchor=f"file://{place}") as plant:
        drive(plant, Plant(tiny_set), 1)
        mark = plant._store.identity.mark
    text = place.read_text(encoding="ascii")
    assert text > (disk / "early").read_text(encoding="ascii")
    words = text.split()
    later = str(int(words[1]) + 5).zfill(20)
    place.write_text(
        f"{words[0]} {later} {words[2]} {high_water_marks._checksum(int(later), f'{words[0]} {words[2]}')}\n"
    )
    assert mark is not None
    mark.path.unlink()
    with refused("SF-JOURNAL-CUT", "elsewhere.txt"):
        open_plant(url, tiny_set, anchor=place)
    open_plant(url, tiny_set).close()  # nobody asked the anchor


def test_an_anchor_that_is_not_of_this_journal_is_refused(disk: Path, tiny_set: PolicySet) -> None:
    place = disk / "anchor"
    open_plant(disk / "one.db", tiny_set, anchor=place).close()
    with refused("SF-ANCHOR-TAKEN"):
        open_plant(disk / "two.db", tiny_set, anchor=place)
    open_plant(disk / "three.db", tiny_set).close()
    with refused("SF-ANCHOR-OTHER"):
        open_plant(disk / "three.db", tiny_set, anchor=place)
    for junk, code in ((b"hello", "SF-ANCHOR-CONTENTS"), (place.read_bytes()[:-3] + b"00\n", "SF-ANCHOR-DAMAGED")):
        place.write_bytes(junk)
        with refused(code, str(place)):
            open_plant(disk / "one.db", tiny_set, anchor=place)
    with refused("SF-ANCHOR-URL"):
        open_plant(disk / "one.db", tiny_set, anchor="https://example.org/anchor")


def test_an_anchor_that_cannot_be_written_is_said(disk: Path, tiny_set: PolicySet) -> None:
    (disk / "gone").mkdir()
    with open_plant(disk / "one.db", tiny_set, anchor=disk / "gone" / "anchor") as plant:
        shutil.rmtree(disk / "gone")
        with refused("SF-ANCHOR-UNAVAILABLE", "anchor"):
            plant.ask(request="a")
        (disk / "gone").mkdir()
        assert plant.ask(request="a").id == 0


# ----------------------------------------------------------------------------------------------------------- snapshots


def test_an_edited_snapshot_is_never_believed(disk: Path, tiny_set: PolicySet) -> None:
    """Whoever can write to the database, and knows the format, cannot take back an abort."""
    file = disk / "plant.db"
    with open_plant(file, tiny_set) as plant:
        drive(plant, Plant(tiny_set), 3)
        state = plant._caught()
        before = snapshot_as(state, *_last_after_abort(plant))
        plant.abort("enough")
        keep_snapshot(plant)
    connection = table(file)
    (seal,) = connection.execute("SELECT seal FROM snapshots").fetchone()
    for forged in (before, b"", hashlib.sha256(b"[" * 10**6).digest() + b"[" * 10**6):
        for text in ("UPDATE snapshots SET body = ?", "UPDATE snapshots SET body = ?, seal = x'00'"):
            connection.execute("UPDATE snapshots SET seal = ?", (seal,))
            connection.execute(text, (forged,))
            with Deployment.open(file, create=False) as plant:
                assert plant.status().state == "aborted"
                plant._pace.restart()
    connection.close()


def _last_after_abort(plant: Deployment) -> tuple[int, str]:
    return plant._caught().seq, plant._caught().digest


def snapshot_as(state: Any, seq: int, digest: str) -> bytes:
    body: bytes = cached(state)[2]
    return body


def test_a_snapshot_of_somebody_else_is_not_believed_and_not_lost(
    disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = disk / "plant.db"
    for user in ("one", "two"):
        monkeypatch.setenv("SUREFOOT_STATE", str(disk / user))
        with open_plant(file, tiny_set) as plant:
            with plant._store.reading() as transaction:
                assert transaction.snapshot() is None
            drive(plant, Plant(tiny_set), 2)
            keep_snapshot(plant)
            with plant._store.reading() as transaction:
                assert transaction.snapshot() is not None
        assert ((disk / user / "snapshot-key").stat().st_mode & 0o777) == 0o600
    assert table(file).execute("SELECT COUNT(*) FROM snapshots").fetchone() == (2,)


def test_a_secret_that_others_can_read_is_none(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUREFOOT_STATE", str(disk))
    first = sealed("j", 1, "d", b"body")
    assert first == sealed("j", 1, "d", b"body") != sealed("k", 1, "d", b"body")
    (disk / "snapshot-key").chmod(0o644)
    assert sealed("j", 1, "d", b"body") != first
    monkeypatch.setenv("SUREFOOT_STATE", "/proc/nowhere")
    assert len(sealed("j", 1, "d", b"body")[1]) == 32


def test_a_journal_that_ends_in_a_report_leaves_a_snapshot(disk: Path, tiny_set: PolicySet) -> None:
    """Opening it again folds nothing."""
    file = disk / "plant.db"
    with open_plant(file, tiny_set) as plant:
        drive(plant, Plant(tiny_set), 4)
        plant._record()
        assert (
            plant._state is not None
            and plant._state.pending_effects is not None
            and plant._state.pending_effects.entries == []
        )
        plant._pace.spent(1.0)
        status = plant.status()
    with open_plant(file, tiny_set) as plant:
        with plant._store.reading() as transaction:
            kept = transaction.snapshot()
        assert kept is not None and kept[0] == status.seq
        assert plant.status() == status
        drive(plant, Plant(tiny_set), 2)
        assert plant.verify().ok


# --------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["what?.db", "a#b.db", "100%41.db", "mode=ro&x.db", "ä b.db"])
def test_a_plain_path_is_a_path(disk: Path, tiny_set: PolicySet, name: str) -> None:
    file = disk / name
    driven(file, tiny_set, 1)
    driven(disk / f"{name[:-3]}2.db", tiny_set, 1)
    with open_plant(file, tiny_set) as plant:
        assert plant.ask().id == 1
    found = {path.name for path in disk.iterdir()}
    assert name in found and all(path.startswith((name, f"{name[:-3]}2.db")) for path in found)


def test_a_link_leads_to_the_same_marks(disk: Path, tiny_set: PolicySet) -> None:
    (disk / "real").mkdir()
    driven(disk / "real" / "plant.db", tiny_set, 1)
    (disk / "link.db").symlink_to(disk / "real" / "plant.db")
    (disk / "folder").symlink_to(disk / "real")
    for path in (disk / "link.db", disk / "folder" / "plant.db"):
        driven(path, tiny_set, 1)
    assert sorted(path.name for path in disk.iterdir()) == ["folder", "link.db", "real"]
    assert len(list((disk / "real").glob("*-mark-*"))) == 1


def test_what_is_no_file_is_refused(disk: Path, tiny_set: PolicySet) -> None:
    os.mkfifo(disk / "pipe")
    for path in (disk / "pipe", disk, Path("/dev/null")):
        with refused("SF-JOURNAL-PATH"):
            open_plant(path, tiny_set)


def test_a_relative_path_in_a_deleted_folder_is_said(
    disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    (disk / "here").mkdir()
    monkeypatch.chdir(disk / "here")
    (disk / "here").rmdir()
    with refused("SF-JOURNAL-PATH"):
        open_plant("plant.db", tiny_set)


def test_a_journal_on_a_disk_that_cannot_be_written_is_read(
    disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = disk / "plant.db"
    driven(file, tiny_set, 3)
    before = {path.name: path.stat().st_mtime_ns for path in disk.iterdir()}
    monkeypatch.setattr(sqlite_file.os, "access", lambda path, mode: False)
    with Deployment.open(file, create=False) as plant:
        assert plant.status().episodes == 3
        assert plant.verify().ok
        with refused("SF-JOURNAL-UNAVAILABLE", "readonly"):
            plant.ask()
    assert {path.name: path.stat().st_mtime_ns for path in disk.iterdir() if "queue" not in path.name} == {
        name: time for name, time in before.items() if "queue" not in name
    }


# ------------------------------------------------------------------------------------------------------------- removal


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_of_several_is_removed_and_the_others_stay(
    backend: str, new_url: Callable[[str], str], tiny_set: PolicySet
) -> None:
    url = new_url(backend)
    for name in ("one", "two"):
        with open_plant(url, tiny_set, name=name) as plant:
            drive(plant, Plant(tiny_set), 3)
            keep_snapshot(plant)
    with open_plant(url, tiny_set, name="one") as live:
        found = remove(url, "one")
        assert found.others == ("two",) and found.events == 6 + 2 and all(not path.exists() for path in found.files)
        with pytest.raises(JournalError):
            live.ask()
    with refused("SF-DEPLOYMENT-UNKNOWN"):
        belongings(url, "one")
    with open_plant(url, tiny_set, name="two") as plant:
        assert plant.ask().id == 3 and plant.verify().ok
    with open_plant(url, tiny_set, name="one") as plant:  # begun anew
        assert plant.ask().id == 0
    for name in ("one", "two"):
        remove(url, name)
    if backend == "sqlite":
        assert not any(Path(url).parent.iterdir())


def test_the_policy_set_of_a_deployment_that_cannot_be_read_is_kept(
    disk: Path, tiny_set: PolicySet, full_set: PolicySet
) -> None:
    """Which set the other one needs is unknown, so none is removed; of one that can be read, only its own is kept."""
    kept = {}
    for damaged in (False, True):
        file = disk / f"{damaged}.db"
        for name, policy_set in (("one", tiny_set), ("two", full_set)):
            open_plant(file, policy_set, name=name).close()
        with closing(table(file)) as connection:
            if damaged:
                connection.execute("UPDATE events SET body = x'00' WHERE number = (1 << 40) + 1")
        assert remove(file, "one").others == ("two",)
        with closing(table(file)) as connection:
            kept[damaged] = len(connection.execute("SELECT hash FROM policy_sets").fetchall())
    assert kept == {False: 1, True: 2}


def test_a_file_of_somebody_else_is_not_removed(disk: Path, tiny_set: PolicySet) -> None:
    notes, other = disk / "notes.txt", disk / "other.db"
    notes.write_bytes(b"no database at all")
    with pytest.raises(JournalError):
        remove(notes, "plant")
    with closing(table(other)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    with refused("SF-DEPLOYMENT-UNKNOWN"):
        remove(other)
    driven(other, tiny_set, 2)  # a journal in the same file is removed, and nothing else
    assert other not in remove(other).files
    with closing(table(other)) as connection:
        assert connection.execute("SELECT count(*) FROM mine").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (0,)
    driven(other, tiny_set, 1)
    assert notes.exists()


def test_what_is_left_of_a_deleted_file_is_removed(disk: Path, tiny_set: PolicySet) -> None:
    file = disk / "plant.db"
    driven(file, tiny_set, 1)
    file.unlink()
    with refused("SF-JOURNAL-CUT"):
        open_plant(file, tiny_set)
    assert remove(file).files
    assert not any(disk.iterdir())
    driven(file, tiny_set, 1)
