"""What every test shares: a fixed source of randomness, and property tests that repeat exactly."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import surefoot as sf

settings.register_profile(
    "surefoot", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("surefoot")


def pytest_report_header() -> str:
    """Say which databases journals are tested on."""
    server = all(shutil.which(tool) for tool in ("initdb", "pg_ctl", "postgres"))
    return "journals: SQLite" + (
        " and PostgreSQL" if server else " only; initdb, pg_ctl and postgres are not on the PATH"
    )


@pytest.fixture(scope="session", autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of marks and secrets, for this process and those that it starts; never the user's own."""
    before, folder = os.environ.get("SUREFOOT_STATE"), tmp_path_factory.mktemp("state")
    os.environ["SUREFOOT_STATE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["SUREFOOT_STATE"]
    else:
        os.environ["SUREFOOT_STATE"] = before


@pytest.fixture
def rng() -> np.random.Generator:
    """A fresh generator in the same state for every test."""
    return np.random.default_rng(2601_21845)


@pytest.fixture(scope="session")
def gridworld_set() -> sf.PolicySet:
    """A small policy set of the gridworld, trained once per session."""
    return sf.train(sf.tasks.NoisyGridworld(), tasks=150, holdout=60, cells=10, seed=0)


@pytest.fixture(scope="session")
def deploy_set() -> sf.PolicySet:
    """A policy set of the gridworld with more cells than policies and a hold-out without a miss, for tests of deployment."""
    return sf.train(sf.tasks.NoisyGridworld(), tasks=200, holdout=100, cells=20, policies=10, seed=0, progress=False)
