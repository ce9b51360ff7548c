"""The suite for storages: the journal's own store conforms on every database, and every rule catches a store that breaks it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from surefoot.errors import JournalError
from surefoot.journal.events import Event, canonical
from surefoot.journal.store import Store
from surefoot.testing import StorageSuite, broken_rules
from tests.journal.plants import BACKENDS, served

COUNT = itertools.count()


@pytest.fixture(scope="module")
def new_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Addresses of empty databases, by backend; a server starts when it is first wanted."""
    folder: Path = tmp_path_factory.mktemp("storage")
    with ExitStack() as stack:
        servers: list[Any] = []

        def make(backend: str) -> str:
            if backend == "sqlite":
                return str(folder / f"{next(COUNT)}.db")
            if not servers:
                servers.append(stack.enter_context(served()))
            return str(servers[0].url())

        yield make


def suite_of(url: Callable[[], str], make: type[Store] = Store) -> type[StorageSuite]:
    class Mine(StorageSuite):
        lock_seconds = 0.02

        def url(self) -> str:
            return url()

        def open(self, url: str, name: str = "suite") -> Any:
            return make(url, name, lock_seconds=self.lock_seconds)

    return Mine


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_store_of_the_journal_conforms(backend: str, new_url: Callable[[str], str]) -> None:
    assert broken_rules(suite_of(lambda: new_url(backend))) == {}


def test_a_store_is_opened_by_its_address(new_url: Callable[[str], str]) -> None:
    class Mine(StorageSuite):
        def url(self) -> str:
            return new_url("sqlite")

    Mine().test_pages_follow_one_another()


class Altered:
    """A transaction some of whose methods are others."""

    def __init__(self, transaction: Any, **methods: Any) -> None:
        self.__dict__.update(methods)
        self._transaction = transaction

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._transaction, name, value) if name == "written" else self.__dict__.update({name: value})


def with_methods(methods: Callable[[Any], dict[str, Any]]) -> type[Store]:
    """A store whose transactions have other methods, made from the right ones."""

    class Changed(Store):
        @contextmanager
        def reading(self, *, whole: bool = False) -> Iterator[Any]:
            with super().reading(whole=whole) as transaction:
                yield Altered(transaction, **methods(transaction))

        @contextmanager
        def writing(self, *, new: bool = False, wait: float | None = None) -> Iterator[Any]:
            with super().writing(new=new, wait=wait) as transaction:
                yield Altered(transaction, **methods(transaction))

    return Changed


def never_empty(t: Any) -> dict[str, Any]:
    return {"last": lambda: t.last() if t.last()[0] else (1, "0" * 64)}


def rounding(t: Any) -> dict[str, Any]:
    def append(entries: Sequence[Any], seq: int, digest: str) -> str:
        changed = [replace(e, body={**e.body, "reward": [0.3]}) if "reward" in e.body else e for e in entries]
        return str(t.append(changed, seq, digest))

    return {"append": append}


def short_pages(t: Any) -> dict[str, Any]:
    return {"page": lambda seq, digest=None, many=2000: t.page(seq, digest, many + 1)}


def wrong_event(t: Any) -> dict[str, Any]:
    return {"event": lambda seq: t.event(seq - 1)}


def blind(t: Any) -> dict[str, Any]:
    return {"closed": lambda episode: None}


def early_snapshots(t: Any) -> dict[str, Any]:
    """Drops what is there before it keeps another."""
    from sqlalchemy import text

    def keep(seq: int, digest: str, body: bytes) -> None:
        t.run(text("DELETE FROM snapshots"))
        t.keep_snapshot(seq, digest, body)

    return {"keep_snapshot": keep}


def any_snapshot(t: Any) -> dict[str, Any]:
    return {"snapshot": lambda: (5, "0" * 64, b"of another journal")}


def lost_sets(t: Any) -> dict[str, Any]:
    return {"policy_set": lambda digest: None}


def unchecked(t: Any) -> dict[str, Any]:
    """Reads on over whatever does not fit."""

    def events(seq: int, digest: str) -> Iterator[Event]:
        try:
            yield from t.events(seq, digest)
        except JournalError:
            return

    return {"events": events}


def overwriting(t: Any) -> dict[str, Any]:
    """Lets the last writer win."""
    from sqlalchemy import text

    def append(entries: Sequence[Any], seq: int, digest: str) -> str:
        t.located()
        t.run(
            text("DELETE FROM events WHERE number > :number AND number < :end"),
            {"number": t.base + seq, "end": t.base + 2**40},
        )
        return str(t.append(entries, seq, digest))

    return {"append": append}


def anonymous(t: Any) -> dict[str, Any]:
    """Takes a request key twice, and forgets it."""

    def append(entries: Sequence[Any], seq: int, digest: str) -> str:
        known = {e.body["request"] for e in t.events(0, "") if "request" in e.body}
        fresh = [
            replace(e, body={k: v for k, v in e.body.items() if k != "request"})
            if e.body.get("request") in known
            else e
            for e in entries
        ]
        return str(t.append(fresh, seq, digest))

    return {"append": append}


class Committing(Store):
    """Keeps what a failing transaction wrote."""

    @contextmanager
    def writing(self, *, new: bool = False, wait: float | None = None) -> Iterator[Any]:
        failure: BaseException | None = None
        with super().writing(new=new, wait=wait) as transaction:
            try:
                yield transaction
            except Exception as error:
                failure = error
        if failure is not None:
            raise failure


class Eager(Store):
    """Commits every append at once."""

    @contextmanager
    def writing(self, *, new: bool = False, wait: float | None = None) -> Iterator[Any]:
        outer = super().writing

        class Now:
            def __getattr__(self, name: str) -> Any:
                def call(*arguments: Any) -> Any:
                    with outer(new=new, wait=wait) as transaction:
                        return getattr(transaction, name)(*arguments)

                return call

        yield Now()


class Shared(Store):
    """Knows one deployment only."""

    def __init__(self, url: str, name: str, **options: Any) -> None:
        super().__init__(url, "one", **options)


class Volatile(Store):
    """Every store begins anew."""

    def __init__(self, url: str, name: str, **options: Any) -> None:
        super().__init__(f"{url}-{next(COUNT)}", name, **options)


class Forgetful(Store):
    """Does not look for the end that was acknowledged."""

    @contextmanager
    def reading(self, *, whole: bool = False) -> Iterator[Any]:
        with super().reading() as transaction:
            yield transaction


BROKEN: list[tuple[type[Store], str]] = [
    (with_methods(never_empty), "test_an_empty_place_has_no_events"),
    (with_methods(rounding), "test_events_read_back_as_they_were_written"),
    (with_methods(short_pages), "test_pages_follow_one_another"),
    (with_methods(wrong_event), "test_pages_follow_one_another"),
    (with_methods(blind), "test_episodes_and_requests_are_found"),
    (Volatile, "test_a_store_that_is_opened_again_holds_the_same"),
    (Committing, "test_a_transaction_that_fails_leaves_nothing"),
    (Eager, "test_readers_see_whole_transactions"),
    (Eager, "test_writers_take_turns"),
    (with_methods(overwriting), "test_a_number_is_used_once"),
    (with_methods(anonymous), "test_a_request_is_answered_once"),
    (Shared, "test_deployments_do_not_see_each_other"),
    (with_methods(unchecked), "test_an_edited_event_is_noticed"),
    (with_methods(unchecked), "test_a_missing_event_is_noticed"),
    (Forgetful, "test_a_lost_end_is_noticed"),
    (with_methods(lost_sets), "test_policy_sets_are_kept"),
    (with_methods(early_snapshots), "test_the_latest_snapshot_is_kept"),
    (with_methods(any_snapshot), "test_a_snapshot_of_other_events_is_not_used"),
]


@pytest.mark.parametrize(("store", "rule"), BROKEN)
def test_a_broken_store_is_caught(store: type[Store], rule: str, new_url: Callable[[str], str]) -> None:
    with pytest.raises(AssertionError, match="must"):
        getattr(suite_of(lambda: new_url("sqlite"), store)(), rule)()


def test_every_rule_has_a_store_that_breaks_it() -> None:
    rules = {name for name in dir(StorageSuite) if name.startswith("test_")}
    assert {rule for _, rule in BROKEN} == rules


def test_bodies_of_the_suite_are_canonical() -> None:
    from surefoot.testing.storage import ENTRIES, MORE

    assert all(canonical(entry.body) for entry in (*ENTRIES, *MORE))
