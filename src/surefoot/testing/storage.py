"""The rules of the storage of a journal (:class:`surefoot.journal.store.Store`), on a database, a disk or a class of one's own.

    digest_k = SHA-256(digest_{k-1}, k, kind_k, at_k, body_k),        k = 1, 2, .. without gaps

Events are appended behind the last one by whoever holds the deployment's lock, all of a transaction or none, and read back as they were written. What
was edited, removed or cut off afterwards is noticed: an agent that is rebuilt from a journal must be the agent that wrote it.

A server or a network disk that loosens any of this (a transaction that is not isolated, a lock that is not kept) breaks these rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from surefoot.errors import JournalError, JournalUnavailable
from surefoot.journal.events import Entry, Event, canonical, chained
from surefoot.testing.suite import Suite, refused, require

__all__ = ["StorageSuite"]

ENTRIES = (
    Entry("asked", {"first": 0, "draws": [0, 2], "plan": 1, "settled": 0, "request": "morning"}),
    Entry("told", {"ids": [1], "reward": [0.1 + 0.2], "costs": [[1e-300, 12345.678901234567]]}),
    Entry("noted", {"text": "Übergabe an die Nachtschicht, \u2264 3 \N{GREEK SMALL LETTER GAMMA}"}),
    Entry("lost", {"ids": [0]}),
    Entry("paused", {"reason": "", "by": "suite"}),
)
"""Events of several kinds, with numbers and text that a careless copy would change."""
MORE = (Entry("noted", {"text": "later"}), Entry("noted", {"text": "later still"}))
OTHER = "another deployment"


class StorageSuite(Suite):
    """Conformance of a storage; inherit it and return the address of an empty place from :meth:`url`.

    Attributes:
        lock_seconds: how long the suite's stores wait for a lock; every rule about locks takes about so long.
    """

    lock_seconds: float = 0.1

    def url(self) -> str:
        """Address of an empty database: a path, or a SQLAlchemy URL; another one at every call."""
        raise NotImplementedError(
            "url() must return the address of an empty database; define it in the class that inherits the suite"
        )

    def open(self, url: str, name: str = "suite") -> Any:
        """A store for one deployment at an address. Stores of the same address share their events."""
        from surefoot.journal.store import Store

        return Store(url, name, lock_seconds=self.lock_seconds)

    # ---------------------------------------------------------------------------------------------------------- reading

    def test_an_empty_place_has_no_events(self) -> None:
        with self._stores(1) as (store,), store.reading() as transaction:
            found = transaction.last(), transaction.first(), list(transaction.events(0, ""))
        require(
            found == ((0, ""), None, []),
            f"a fresh deployment must have no events, got {found}; begin with an empty table",
        )

    def test_events_read_back_as_they_were_written(self) -> None:
        with self._stores(1) as (store,):
            last = self._append(store)
            events = self._events(store)
        require(
            [(event.kind, event.body) for event in events] == [(entry.kind, entry.body) for entry in ENTRIES],
            f"events must read back as they were written, got {events}; keep every bit of numbers and text",
        )
        digest = ""
        for seq, event in enumerate(events, 1):
            digest = chained(digest, seq, event.kind, event.at, canonical(event.body))
            require(
                (event.seq, event.digest) == (seq, digest),
                f"event {seq} must carry its number and the digest of all before it, got {event.seq} and {event.digest}; chain them",
            )
        require(
            last == (len(ENTRIES), digest),
            f"last() must be number and digest of the last event, got {last}; read the end of the journal",
        )

    def test_pages_follow_one_another(self) -> None:
        with self._stores(1) as (store,):
            self._append(store)
            whole, pages = self._events(store), []
            with store.reading() as transaction:
                seq, digest = 0, ""
                while page := transaction.page(seq, digest, 2):
                    pages.append(page)
                    seq, digest = page[-1].seq, page[-1].digest
                alone = transaction.event(3)
        require(
            [event for page in pages for event in page] == whole and max(map(len, pages)) <= 2,
            f"pages of two must hold all events in order, got {pages}; page by number",
        )
        require(alone == whole[2], f"event(3) must be the third event, got {alone}; look it up by number")

    def test_episodes_and_requests_are_found(self) -> None:
        with self._stores(1) as (store,):
            self._append(store)
            with store.reading() as transaction:
                found = [
                    None if event is None else event.seq
                    for event in (
                        transaction.asked(1),
                        transaction.asked(7),
                        transaction.closed(1),
                        transaction.closed(0),
                        transaction.closed(7),
                        transaction.request("morning"),
                        transaction.request("evening"),
                    )
                ]
        require(
            found == [1, None, 2, 4, None, 1, None],
            f"asked, closed and request must find events by what they say, got {found}; index them",
        )

    def test_a_store_that_is_opened_again_holds_the_same(self) -> None:
        url = self.url()
        with self._stores(1, url) as (store,):
            self._append(store)
            before = self._events(store)
        with self._stores(1, url) as (store,):
            after = self._events(store)
        require(
            after == before,
            f"events must survive closing, got {len(after)} of {len(before)}; write them to the disk before a commit returns",
        )

    # ---------------------------------------------------------------------------------------------------------- writing

    def test_a_transaction_that_fails_leaves_nothing(self) -> None:
        with self._stores(1) as (store,):
            try:
                with store.writing(new=True) as transaction:
                    transaction.append(ENTRIES, 0, "")
                    raise _Stumble
            except _Stumble:
                pass
            events = self._events(store)
        require(
            not events, f"a transaction that fails must leave nothing, got {len(events)} events; commit all or none"
        )

    def test_readers_see_whole_transactions(self) -> None:
        with self._stores(2) as (writer, reader):
            seq, digest = self._append(writer)
            with writer.writing() as transaction:
                transaction.append(MORE, seq, digest)
                during = len(self._events(reader))
            after = len(self._events(reader))
        require(
            (during, after) == (seq, seq + len(MORE)),
            f"a reader must see {seq} events before a commit and {seq + len(MORE)} after it, got {during} and {after}; isolate transactions",
        )

    def test_writers_take_turns(self) -> None:
        with self._stores(2) as (one, two):
            seq, digest = self._append(one)
            with one.writing() as transaction:
                refused(lambda: self._last(two), JournalUnavailable, "a second writer, while the first holds the lock,")
                transaction.append(MORE, seq, digest)
            last = self._last(two)
        require(
            last[0] == seq + len(MORE),
            f"who waited for the lock must see what was written meanwhile, got event {last[0]}; read after locking",
        )

    def test_a_number_is_used_once(self) -> None:
        with self._stores(2) as (one, two):
            seq, digest = self._append(one)
            refused(lambda: self._append(two, seq - 1, digest, MORE), JournalError, f"a second event {seq}")
            events = self._events(one)
        require(
            len(events) == seq,
            f"a refused append must leave the events that were there, got {len(events)}; make numbers unique",
        )

    def test_a_request_is_answered_once(self) -> None:
        with self._stores(1) as (store,):
            seq, digest = self._append(store)
            refused(
                lambda: self._append(store, seq, digest, ENTRIES[:1]),
                JournalError,
                "a second answer to the same request",
            )
            events = self._events(store)
        require(
            len(events) == seq,
            f"a refused append must leave the events that were there, got {len(events)}; make requests unique",
        )

    def test_deployments_do_not_see_each_other(self) -> None:
        url = self.url()
        with self._stores(1, url) as (one,), self._stores(1, url, OTHER) as (two,):
            seq, _ = self._append(one)
            before = self._last(two, new=True)
            require(
                before == (0, ""),
                f"another deployment must begin without events, got {before}; keep the deployment in every key",
            )
            self._append(two, entries=MORE[:1])
            counts = len(self._events(one)), len(self._events(two))
        require(
            counts == (seq, 1),
            f"deployments of one database must be apart, got {counts} events; keep the deployment in every key",
        )

    # ------------------------------------------------------------------------------------------------------ what changed

    def test_an_edited_event_is_noticed(self) -> None:
        self._spoilt("UPDATE events SET at = at + 1 WHERE number = :number", 2, "an event that was edited")

    def test_a_missing_event_is_noticed(self) -> None:
        self._spoilt("DELETE FROM events WHERE number = :number", 2, "a journal with an event less")

    def test_a_lost_end_is_noticed(self) -> None:
        self._spoilt("DELETE FROM events WHERE number = :number", len(ENTRIES), "a journal whose end is lost")

    def spoil(self, store: Any, statement: str, seq: int) -> None:
        """Change event ``seq`` from outside; override it where events do not lie in a table ``events``."""
        from sqlalchemy import text

        with store.writing() as transaction:
            transaction.located()
            transaction.run(text(statement), {"number": transaction.base + seq})

    def _spoilt(self, statement: str, seq: int, what: str) -> None:
        url = self.url()
        with self._stores(1, url) as (store,):
            self._append(store)
            self.spoil(store, statement, seq)

        def read() -> None:
            with self._stores(1, url) as (store,), store.reading(whole=True) as transaction:
                list(transaction.events(0, ""))

        refused(read, JournalError, what)

    # ------------------------------------------------------------------------------------------------------- other parts

    def test_policy_sets_are_kept(self) -> None:
        body = bytes(range(256)) * 64
        with self._stores(1) as (store,):
            with store.writing(new=True) as transaction:
                transaction.keep_policy_set("a", body)
                transaction.keep_policy_set("a", body)
            with store.reading() as transaction:
                found, none = transaction.policy_set("a"), transaction.policy_set("b")
        require(
            (found, none) == (body, None),
            "policy sets must be kept by their hash, got other bytes; store them as they are",
        )

    def test_the_latest_snapshot_is_kept(self) -> None:
        with self._stores(1) as (store,):
            seq, digest = self._append(store)
            with store.writing() as transaction:
                early = transaction.digest(seq - 1)
                transaction.keep_snapshot(seq, digest, b"late")
                transaction.keep_snapshot(seq - 1, early, b"early")
            with store.reading() as transaction:
                found = transaction.snapshot()
        require(
            found == (seq, digest, b"late"),
            f"snapshot() must be the latest that was kept, got {found}; never replace it by an earlier one",
        )

    def test_a_snapshot_of_other_events_is_not_used(self) -> None:
        with self._stores(1) as (store,):
            seq, _ = self._append(store)
            with store.writing() as transaction:
                transaction.keep_snapshot(seq, "0" * 64, b"of another journal")
            with store.reading() as transaction:
                found = transaction.snapshot()
        require(
            found is None,
            f"a snapshot whose event the journal does not hold must not be used, got {found}; compare its digest",
        )

    # ---------------------------------------------------------------------------------------------------------- workings

    @contextmanager
    def _stores(self, n: int, url: str | None = None, name: str = "suite") -> Iterator[Sequence[Any]]:
        """Open stores of one deployment, whose tables are there."""
        place = self.url() if url is None else url
        stores = [self.open(place, name) for _ in range(n)]
        try:
            stores[0].create()
            yield stores
        finally:
            for store in stores:
                store.close()

    def _append(
        self, store: Any, seq: int = 0, digest: str = "", entries: Sequence[Entry] = ENTRIES
    ) -> tuple[int, str]:
        """Append behind an event; number and digest of the last one then."""
        with store.writing(new=True) as transaction:
            transaction.append(entries, seq, digest)
        with store.reading() as transaction:
            last: tuple[int, str] = transaction.last()
        return last

    def _events(self, store: Any) -> list[Event]:
        with store.reading() as transaction:
            return list(transaction.events(0, ""))

    def _last(self, store: Any, *, new: bool = False) -> tuple[int, str]:
        """The end of the journal, read under the lock."""
        with store.writing(new=new) as transaction:
            last: tuple[int, str] = transaction.last()
        return last


class _Stumble(Exception):
    """Ends a transaction before its commit."""
