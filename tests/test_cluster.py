"""The same results on a Dask cluster of two processes, one of which is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster

import surefoot as sf
from surefoot import parallel
from surefoot.cli import main
from surefoot.errors import ClusterError
from surefoot.parallel import iter_tasks, map_tasks, on_cluster, processes
from tests.refusals import refused

pytestmark = [pytest.mark.process, pytest.mark.slow]

SMALL = {"tasks": 20, "holdout": 10, "cells": 2, "p_max": 0.9, "progress": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two worker processes of one thread each. Whoever is killed is started anew, however long that takes."""
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            worker_dashboard_address=":0",
            silence_logs=50,
        ) as found,
    ):
        yield found


@pytest.fixture
def scheduler(cluster: LocalCluster) -> str:
    """Address of the cluster, once both workers are there."""
    cluster.wait_for_workers(2)
    address: str = cluster.scheduler_address
    return address


def where(numbers: np.ndarray[Any, Any], k: int) -> tuple[float, int]:
    return float(numbers[:k].sum()), os.getpid()


def marked(folder: Path, k: int) -> np.ndarray[Any, Any]:
    """Call 5 kills its worker every time, and leaves a file."""
    if k == 5:
        (folder / str(len(list(folder.iterdir())))).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return np.arange(k)


def test_both_workers_work_and_results_are_in_order(scheduler: str) -> None:
    numbers = np.arange(5000.0)
    calls = [(numbers, k) for k in range(60)]
    with on_cluster(scheduler):
        assert processes(1) == processes(7) == 2
        found = map_tasks(where, calls, workers=1)
    assert [value for value, _ in found] == [value for value, _ in map_tasks(where, calls, workers=1)]
    assert os.getpid() not in {process for _, process in found}


def test_results_can_be_written_to_as_anywhere(scheduler: str) -> None:
    with on_cluster(scheduler):
        (found,) = map_tasks(np.arange, [(5000,)], workers=1)
    found += 1
    assert found[-1] == 5000


def test_a_client_of_the_users_own(scheduler: str) -> None:
    with Client(scheduler, set_as_default=False) as client, joblib.parallel_config(backend="dask", client=client):
        assert map_tasks(divmod, [(7, 2), (9, 4)], workers=2) == [(3, 1), (2, 1)]
        with pytest.raises(ZeroDivisionError):
            map_tasks(divmod, [(1, 1), (1, 0)], workers=1)


def test_a_worker_killed_in_the_middle(scheduler: str) -> None:
    numbers = np.arange(5000.0)
    calls = [(numbers, k) for k in range(200)]
    with on_cluster(scheduler):
        running = iter_tasks(where, calls, workers=1)
        first, process = next(running)
        os.kill(process, signal.SIGKILL)
        found = [first, *(value for value, _ in running)]
    assert found == [value for value, _ in map_tasks(where, calls, workers=1)]


def test_a_call_that_ends_every_worker_is_named(scheduler: str, tmp_path: Path) -> None:
    with on_cluster(scheduler), refused("SF-CLUSTER-LOST", "arrays: call 6 of 12", error=ClusterError):
        map_tasks(marked, [(tmp_path, k) for k in range(12)], workers=1, label="arrays")
    assert 2 <= len(list(tmp_path.iterdir())) <= 12  # one run alone shows no cause


def test_training_is_bit_equal_and_survives(scheduler: str) -> None:
    alone = sf.train(sf.tasks.NoisyGridworld(), seed=1, **SMALL)
    with Client(scheduler, set_as_default=False) as client, joblib.parallel_config(backend="dask", client=client):
        (process, *_) = client.run(os.getpid).values()
        os.kill(process, signal.SIGKILL)
        assert sf.train(sf.tasks.NoisyGridworld(), seed=1, **SMALL).hash == alone.hash


def test_the_command_line(scheduler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = "train gridworld --tasks 20 --holdout 10 --cells 2 --seed 1 --json".split()
    hashes = []
    for name, more in (("alone.sf", []), ("cluster.sf", ["--scheduler", scheduler])):
        main([*given, "--out", str(tmp_path / name), *more])
        hashes.append(json.loads(capsys.readouterr().out)["hash"])
    assert hashes[0] == hashes[1]


def test_an_address_where_nobody_answers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(parallel, "SECONDS", 0.3)
    with refused("SF-CLUSTER-UNREACHABLE", "tcp://127.0.0.1:1", error=ClusterError), on_cluster("tcp://127.0.0.1:1"):
        raise AssertionError
    with pytest.raises(SystemExit) as left:
        main("train gridworld --out x.sf --scheduler nowhere".split())
    assert left.value.code == 2 and "SF-CLUSTER-UNREACHABLE" in capsys.readouterr().err


def test_a_cluster_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50) as empty:
        with on_cluster(empty.scheduler_address):
            monkeypatch.setattr(parallel, "PATIENCE", 0.3)
            with refused("SF-CLUSTER-EMPTY", empty.scheduler_address, error=ClusterError):
                map_tasks(divmod, [(7, 2), (9, 4)], workers=1)
