"""Databases for tests of the journal: quick SQLite files, and PostgreSQL where its programs are installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from surefoot import PolicySet
from tests.journal.plants import Plant, Postgres, quick_folder, served, small_set


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder for files."""
    folder = Path(quick_folder())
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server."""
    with served() as server:
        yield server


@pytest.fixture
def new_url(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Makes an empty database of a backend."""

    def make(backend: str) -> str:
        if backend == "sqlite":
            folder: Path = request.getfixturevalue("disk")
            return str(folder / "plant.db")
        server: Postgres = request.getfixturevalue("postgres")
        return server.url()

    return make


@pytest.fixture(scope="session")
def tiny_set() -> PolicySet:
    """Three cells, four policies, returns only."""
    return small_set()


@pytest.fixture(scope="session")
def full_set() -> PolicySet:
    """The same with kernels, initial states and a signal."""
    return small_set(kernel=True, states=True, signals=True)


@pytest.fixture
def truth(tiny_set: PolicySet) -> Plant:
    """A plant that obeys the last cell of ``tiny_set``."""
    return Plant(tiny_set)
