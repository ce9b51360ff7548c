"""Tables: what is written reads back, what was edited is refused; names of databases; the mark beside a file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from surefoot import InvalidInput, JournalError, PolicySet, SurefootError
from surefoot.audit import Verification, verify
from surefoot.journal import Deployment
from surefoot.journal.events import Event, canonical, chained, parse
from surefoot.journal.file_lock import FairFileLock
from surefoot.journal.rows import index_of
from surefoot.journal.session import cached
from surefoot.journal.store import Store
from tests.journal.plants import Plant, drive, keep_snapshot, open_plant
from tests.refusals import missing, refused


def edit(file: Path, statement: str) -> None:
    """From outside."""
    table = sqlite3.connect(file, isolation_level=None)
    table.executescript(statement)
    table.close()


@pytest.fixture
def journal(disk: Path, tiny_set: PolicySet) -> Path:
    """A closed journal of five episodes."""
    with open_plant(disk / "plant.db", tiny_set) as plant:
        drive(plant, Plant(tiny_set), 5)
    return disk / "plant.db"


def is_one_of(error: SurefootError, refusals: str) -> bool:
    """Whether an error is one of ``code name|code name``: the code is the error's, and the message holds the name."""
    alternatives = (refusal.partition(" ") for refusal in refusals.split("|"))
    return any(
        error.code == code and missing(str(error), (name,) if name else ()) is None for code, _, name in alternatives
    )


EDITS = [
    ("UPDATE events SET body = CAST(substr(body, 1, 9) || 'A' || substr(body, 11) AS BLOB) WHERE number = 6", "SF-JOURNAL-EDITED event 6"),
    ("UPDATE events SET body = substr(body, 1, 12) WHERE number = 6", "SF-JOURNAL-EVENT event 6"),
    ("UPDATE events SET body = CAST(body || '0' AS BLOB) WHERE number = 6", "SF-JOURNAL-EVENT event 6"),
    ("UPDATE events SET at = at + 1 WHERE number = 2", "SF-JOURNAL-EDITED event 2"),
    ("UPDATE events SET at = 'yesterday' WHERE number = 2", "SF-JOURNAL-EVENT event 2"),
    ("UPDATE events SET at = NULL WHERE number = 2", "SF-JOURNAL-EVENT event 2"),
    ("UPDATE events SET kind = 6 WHERE number = 2", "SF-JOURNAL-EDITED event 2"),
    ("UPDATE events SET kind = 99 WHERE number = 2", "SF-JOURNAL-EVENT event 2"),
    ("UPDATE events SET kind = 0 WHERE number = 2", "SF-JOURNAL-EVENT event 2"),
    ("UPDATE events SET digest = 'x' WHERE number = 4", "SF-JOURNAL-EDITED event 4"),
    ("DELETE FROM events WHERE number = 5", "SF-JOURNAL-GAP event 5"),
    ("DELETE FROM events WHERE number = 1", "SF-JOURNAL-GAP event 1"),
    ("UPDATE events SET first = 3 WHERE number = 4", "SF-JOURNAL-EDITED event 4"),
    ("UPDATE events SET first = NULL WHERE number = 4", "SF-JOURNAL-EVENT event 4"),
    ("UPDATE events SET last = 7 WHERE number = 3", "SF-JOURNAL-INDEX event 3"),
    ("UPDATE events SET request = 'mine' WHERE number = 3", "SF-JOURNAL-INDEX event 3"),
    ("UPDATE events SET body = x'ff' WHERE number = 4", "SF-JOURNAL-EVENT event 4"),
    ("UPDATE events SET body = x'' WHERE number = 4", "SF-JOURNAL-EVENT event 4"),
    ("UPDATE events SET body = 5 WHERE number = 4", "SF-JOURNAL-EVENT event 4"),
    ("UPDATE events SET body = CAST(x'ff' AS TEXT) WHERE number = 4", "SF-JOURNAL-UNSOUND"),
    ("UPDATE events SET number = 90 WHERE number = 5; UPDATE events SET number = 5 WHERE number = 6; UPDATE events SET number = 6 WHERE number = 90",
     "SF-JOURNAL-EDITED event 5"),
    ("UPDATE events SET number = number + 1000; UPDATE events SET number = number - 999 WHERE number > 1005; UPDATE events SET number "
     "= number - 1000 WHERE number > 1000; INSERT INTO events SELECT 6, at, kind, body, digest, first, last, request FROM events WHERE number = 5",
     "SF-JOURNAL-EDITED event 6|SF-JOURNAL-CUT"),
    ("INSERT INTO events SELECT number + 1, at, kind, body, digest, first, last, request FROM events ORDER BY "
     "number DESC LIMIT 1", "SF-JOURNAL-EDITED"),
    ("UPDATE deployments SET name = 'another'", "SF-JOURNAL-CUT"),
    ("ALTER TABLE events DROP COLUMN request", "SF-JOURNAL-UNSOUND|SF-JOURNAL-UNAVAILABLE no such column"),
    ("DROP TABLE events", "SF-JOURNAL-CUT"),
    ("ALTER TABLE events RENAME TO old; CREATE VIEW events AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS "
     "number, 0 AS at, 1 AS kind, x'01' AS body, x'' AS digest, 1 AS first, 1 AS last, '' AS request FROM n", "SF-JOURNAL-OBJECT a view"),
    ("CREATE TRIGGER more AFTER INSERT ON events BEGIN DELETE FROM events; END", "SF-JOURNAL-OBJECT a trigger"),
]  # fmt: skip
"""Statements that edit a journal from outside, and the code (and name) of the refusal when it is opened."""


@pytest.mark.parametrize(("statement", "refusals"), EDITS)
def test_what_was_edited_is_refused(journal: Path, tiny_set: PolicySet, statement: str, refusals: str) -> None:
    if "DROP COLUMN" in statement:
        edit(journal, "DROP INDEX events_by_key")
    edit(journal, "DELETE FROM snapshots")
    edit(journal, statement)
    with pytest.raises(JournalError) as caught:
        Deployment.open(journal, tiny_set, create=False)
    assert is_one_of(caught.value, refusals), f"{caught.value.code}: {caught.value}"


def for_an_audit(store: Store) -> Iterator[Event]:
    """Events as an audit reads them: it computes their digests itself."""
    with store.reading() as transaction:
        seq = 0
        while page := transaction.page(seq, chain=False):
            yield from page
            seq = page[-1].seq


@pytest.mark.parametrize(
    "statement",
    [
        statement
        for statement, _ in EDITS
        if "events SET" in statement or "FROM events WHERE" in statement or "INSERT INTO" in statement
    ],
)
def test_what_was_edited_is_noticed_by_an_audit_that_alone_checks_digests(
    journal: Path, tiny_set: PolicySet, statement: str
) -> None:
    with closing(Store(journal, "default")) as store:
        before = list(for_an_audit(store))
        assert verify(tiny_set, before).ok
        with open_plant(journal, tiny_set) as plant:
            assert before == list(plant.events())
    edit(journal, statement)
    with closing(Store(journal, "default")) as store:
        found = verify(tiny_set, for_an_audit(store))
    assert not found.ok and found.first_disagreement is not None
    if "body =" in statement and "substr(body, 11)" in statement:
        assert "event 6 breaks the chain of digests" in found.first_disagreement


def test_a_text_that_says_the_same_in_other_words_is_noticed_by_an_audit(journal: Path, tiny_set: PolicySet) -> None:
    """The audit's own text of the body would have the right digest."""
    with closing(Store(journal, "default")) as store:
        first = next(for_an_audit(store))
    text = canonical(first.body).replace(":", ": ", 1)
    edit(journal, f"UPDATE events SET body = x'01{text.encode().hex()}' WHERE number = 1")
    with closing(Store(journal, "default")) as store:
        found = verify(tiny_set, for_an_audit(store))
    assert not found.ok and "canonical" in str(found.first_disagreement)


def test_an_audit_computes_each_digest_once(
    journal: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_plant(journal, tiny_set) as plant:
        count = len(list(plant.events()))
        calls: list[int] = []

        def counted(previous: str, seq: int, *rest: str) -> str:
            calls.append(seq)
            return chained(previous, seq, *rest)

        monkeypatch.setattr("surefoot.journal.rows.chained", counted)
        assert plant.verify() == Verification(True, count, None) and calls == []
        assert len(list(plant.events())) == count and calls == list(range(1, count + 1))
        edit(journal, EDITS[0][0])
        found = plant.verify()
        assert not found.ok and "event 6 breaks the chain of digests" in str(found.first_disagreement)


def test_what_is_read_unchecked_counts_as_seen_by_nobody(journal: Path) -> None:
    with closing(Store(journal, "default")) as store, store.reading() as transaction:
        assert len(transaction.page(0, chain=False)) == len(transaction.page(0, "", many=100)) > 5
        assert transaction.read_to[0] > 5
    with closing(Store(journal, "default")) as store, store.reading() as transaction:
        transaction.page(0, chain=False)
        assert transaction.read_to == (0, "")


def test_another_format_is_refused(journal: Path, tiny_set: PolicySet) -> None:
    with open_plant(journal, tiny_set) as plant:
        first = next(iter(plant.events()))
    body = canonical({**first.body, "format": 2})
    digest = chained("", 1, "opened", first.at, body)
    edit(journal, f"UPDATE events SET body = x'01{body.encode().hex()}', digest = x'{digest}' WHERE number = 1")
    with refused("SF-JOURNAL-FORMAT", "event 1"):
        Deployment.open(journal, tiny_set)


def test_a_policy_set_that_was_not_kept_must_be_brought(
    disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surefoot.journal.transaction.LARGEST_SET", 10)
    open_plant(disk / "plant.db", tiny_set).close()
    with refused("SF-DEPLOYMENT-POLICYSET"):
        Deployment.open(disk / "plant.db")
    Deployment.open(disk / "plant.db", tiny_set).close()


@pytest.mark.parametrize(
    ("url", "refusals"),
    [
        ("", "SF-JOURNAL-URL"),
        (5, "SF-JOURNAL-URL"),
        ("a\0b", "SF-JOURNAL-URL"),
        ("mysql://x/y", "SF-JOURNAL-BACKEND mysql"),
        ("nonsense://x:y:z@::/", "SF-JOURNAL-URL|SF-JOURNAL-BACKEND"),
        ("sqlite://", "SF-JOURNAL-MEMORY"),
        ("sqlite:///:memory:", "SF-JOURNAL-MEMORY"),
    ],
)
def test_a_senseless_url_is_refused(url: Any, refusals: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Store(url, "x")
    assert is_one_of(caught.value, refusals), f"{caught.value.code}: {caught.value}"


def test_a_missing_driver_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any, **more: Any) -> sa.Engine:
        raise ModuleNotFoundError("psycopg")

    monkeypatch.setattr(sa, "create_engine", missing)
    with refused("SF-EXTRA-MISSING", "surefoot[postgres]"):
        Store("postgresql://host/name", "x")


def test_a_writer_that_never_ends_is_not_waited_for_forever(journal: Path, tiny_set: PolicySet) -> None:
    blocker = sqlite3.connect(journal, isolation_level=None)
    with open_plant(journal, tiny_set, lock_seconds=0.01) as plant:
        blocker.execute("BEGIN IMMEDIATE")
        with refused("SF-JOURNAL-UNAVAILABLE", "locked"):
            plant.ask()
        assert plant.status().episodes == 5
        blocker.execute("ROLLBACK")
        assert plant.ask().id == 5
    blocker.close()


def test_a_mark_that_is_torn_or_unreadable_says_nothing(journal: Path, tiny_set: PolicySet) -> None:
    (mark,) = journal.parent.glob("*-mark-*")
    for junk in (b"", b"\xff\xfe", b"7", b"00000000000000000099 abc def", b"x y z"):
        mark.write_bytes(junk)
        open_plant(journal, tiny_set).close()


def test_a_mark_that_cannot_be_written_is_no_error(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set) as plant:
        (mark,) = disk.glob("*-mark-*")
        plant._store.close()
        mark.unlink()
        mark.mkdir()
        drive(plant, Plant(tiny_set), 2)
        assert plant.status().episodes == 2


def test_a_reader_sees_whole_operations_only(disk: Path, tiny_set: PolicySet) -> None:
    """While one process writes, what another reads ends after a whole group."""
    stop, seen = threading.Event(), []
    with open_plant(disk / "plant.db", tiny_set) as writer, open_plant(disk / "plant.db", tiny_set) as reader:

        def watch() -> None:
            while not stop.is_set():
                seen.append(reader.status().seq)

        thread = threading.Thread(target=watch)
        thread.start()
        drive(writer, Plant(tiny_set), 20)
        stop.set()
        thread.join()
        events = list(writer.events())
    ends = {events[k].seq for k in range(len(events)) if k + 1 == len(events) or events[k + 1].kind != "planned"}
    assert set(seen) <= ends


# ---------------------------------------------------------------------------------------------------------------- bodies

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), plain, max_size=4))
@pytest.mark.slow
def test_bodies_read_back_exactly(body: dict[str, Any]) -> None:
    text = canonical(body)
    assert parse(1, text) == body
    assert canonical(parse(1, text)) == text
    assert text.isascii()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_lacks_are_refused(number: float) -> None:
    with refused("SF-JOURNAL-FINITE"):
        canonical({"x": number})


@pytest.mark.parametrize("text", ["", "[1]", "{", "5", "null", "[" * 100_000, None])
def test_what_is_no_object_is_refused(text: Any) -> None:
    with refused("SF-JOURNAL-EVENT", "event 3"):
        parse(3, text)


@given(st.text(), st.text(), st.text())
def test_any_text_has_a_digest_and_parts_cannot_trade_places(kind: str, at: str, body: str) -> None:
    digest = chained("", 1, kind, at, body)
    assert len(digest) == 64
    assert digest != chained("", 11, kind, at, body)
    assert digest != chained(digest, 1, kind, at, body)


def test_events_are_found_by_what_they_say() -> None:
    assert index_of("asked", {"first": 3, "draws": [0, 1], "request": "k"}) == (3, 4, "k")
    assert index_of("asked", {"first": 3, "draws": [0]}) == (3, None, None)
    assert index_of("told", {"ids": [7]}) == (7, None, None)
    assert index_of("lost", {"ids": [7, 5]}) == (5, 7, None)
    assert index_of("paused", {"reason": "x"}) == (None, None, None)


# ------------------------------------------------------------------------------------------------------------ whose turn


def test_the_file_lock_decides_the_order_only(disk: Path, tiny_set: PolicySet) -> None:
    other = FairFileLock(str(disk / "plant.db-queue"))
    with open_plant(disk / "plant.db", tiny_set, lock_seconds=0.01) as plant, other.turn(60.0):
        assert not plant._store._file_lock._acquired(0.0)
        assert plant.ask().id == 0
    other.close()


def test_turns_are_taken_one_after_the_other(disk: Path) -> None:
    inside, most = [], []

    def work() -> None:
        file_lock = FairFileLock(str(disk / "queue"))
        for _ in range(20):
            with file_lock.turn(60.0):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
        file_lock.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 80 and max(most) == 1


def test_a_file_lock_that_cannot_be_made_is_done_without(disk: Path, tiny_set: PolicySet) -> None:
    (disk / "plant.db-queue").mkdir()
    with open_plant(disk / "plant.db", tiny_set) as plant:
        drive(plant, Plant(tiny_set), 2)
        assert plant.status().episodes == 2


@pytest.mark.parametrize("far", [0, 3, 10**6])
def test_who_is_far_behind_catches_up_before_taking_the_lock(
    disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch, far: int
) -> None:
    monkeypatch.setattr("surefoot.journal.session.WAITED", -1.0)
    monkeypatch.setattr("surefoot.journal.session.FAR", far)
    truth = Plant(tiny_set)
    with open_plant(disk / "plant.db", tiny_set) as one, open_plant(disk / "plant.db", tiny_set) as two:
        for _ in range(3):
            drive(one, truth, 5)
            drive(two, truth, 1)
        assert one.status() == two.status()
        assert one.status().episodes == 18
        assert two.verify().ok


def test_a_later_snapshot_is_not_replaced_by_an_earlier_one(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set) as one, open_plant(disk / "plant.db", tiny_set) as two:
        early = cached(one._caught())
        drive(two, Plant(tiny_set), 3)
        keep_snapshot(two)
        one._keep_snapshot(*early)
        with one._store.reading() as transaction:
            kept = transaction.snapshot()
        assert kept is not None and kept[0] == two.status().seq
