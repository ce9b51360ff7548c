"""The same results in the same order, wherever the calls run; what calls share is sent once; a lost worker is survived."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from surefoot import parallel
from surefoot.errors import ClusterError, MissingExtra
from surefoot.parallel import iter_tasks, map_tasks, on_cluster, processes
from tests.refusals import refused


def whence(x: int, y: int) -> tuple[int, int]:
    return 10 * x + y, os.getpid()


class Model:
    """Something large that all calls hold; says how often it was pickled and unpickled."""

    pickled = 0

    def __init__(self) -> None:
        self.numbers = np.arange(3000.0)
        self.seen: list[int] = []

    def __getstate__(self) -> dict[str, Any]:
        Model.pickled += 1
        return {"numbers": self.numbers, "seen": []}


def weigh(model: Model, k: int) -> tuple[float, int, int]:
    """The result, the process, and how many calls this process has met with the very same model."""
    model.seen.append(k)
    return float(model.numbers[:k].sum()), os.getpid(), len(model.seen)


def nested(k: int) -> tuple[int, int]:
    """Asks for two workers, inside one."""
    return processes(2), len({process for _, process in map_tasks(whence, [(k, 0), (k, 1)], workers=2)})


@pytest.mark.parametrize("batch_size", [None, 1])
def test_order_and_results_do_not_depend_on_workers(batch_size: int | None) -> None:
    calls = [(k, k % 3) for k in range(12)]
    alone = map_tasks(whence, calls, workers=1, batch_size=batch_size)
    shared = map_tasks(whence, calls, workers=2, batch_size=batch_size)
    assert [value for value, _ in alone] == [value for value, _ in shared] == [10 * x + y for x, y in calls]
    assert {process for _, process in alone} == {os.getpid()}, "one worker is this process"
    assert os.getpid() not in {process for _, process in shared}


def test_no_calls_and_errors() -> None:
    for workers in (1, 2):
        assert map_tasks(whence, [], workers=workers) == []
        with pytest.raises(ZeroDivisionError):
            map_tasks(divmod, [(1, 1), (1, 0)], workers=workers)


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_a_backend_that_the_user_has_set_is_taken(backend: str) -> None:
    calls = [(k, 1) for k in range(8)]
    with joblib.parallel_config(backend=backend, n_jobs=2):
        assert processes(1) == 2
        found = map_tasks(whence, calls, workers=1)
    assert [value for value, _ in found] == [10 * x + y for x, y in calls]
    assert (os.getpid() in {process for _, process in found}) == (backend == "threading")
    assert processes(1) == 1


def test_one_job_is_this_process() -> None:
    with joblib.parallel_config(backend="loky", n_jobs=1):
        assert {process for _, process in map_tasks(whence, [(1, 2), (3, 4)], workers=1)} == {os.getpid()}
    with joblib.parallel_config(n_jobs=2):  # no backend
        assert processes(1) == 1


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_workers_spread_nothing_further(backend: str) -> None:
    with joblib.parallel_config(backend=backend, n_jobs=2):
        assert map_tasks(nested, [(k,) for k in range(4)], workers=1) == [(1, 1)] * 4


def test_what_calls_share_is_sent_once() -> None:
    model = Model()
    before = Model.pickled
    found = map_tasks(weigh, [(model, k) for k in range(20)], workers=2)
    assert Model.pickled == before + 1
    assert [value for value, _, _ in found] == [k * (k - 1) / 2.0 for k in range(20)]
    # Every process met one model, and the same one in all of its calls.
    for process in {process for _, process, _ in found}:
        met = sorted(many for _, where, many in found if where == process)
        assert met == list(range(1, len(met) + 1))


def test_parcels_put_everything_back_in_its_place() -> None:
    one, two, small = np.arange(1000.0), np.ones(1000), np.arange(3.0)
    calls = [(k, one, "x", two if k % 2 else one, small) for k in range(4)]
    parcels = parallel._Parcels(calls)
    assert len(parcels.blobs) == 2, "the small one goes with every call"

    def check(k: int, first: Any, text: str, second: Any, third: Any) -> int:
        assert (
            text == "x"
            and (first == one).all()
            and (second == (two if k % 2 else one)).all()
            and (third == small).all()
        )
        return k

    remote = parallel._Remote(check)
    assert [remote(*parcels.call(k, parcels.blobs)) for k in range(4)] == [0, 1, 2, 3]


def test_workers_keep_only_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "KEPT_BYTES", 20_000)
    kept = parallel._kept.copy()
    parallel._kept.clear()
    arrays = [np.arange(1000.0) + k for k in range(4)]
    parcels = parallel._Parcels([(array,) for array in arrays] * 2)
    for k in range(4):
        assert (parallel._unpacked(parcels.tokens[k], parcels.blobs[k]) == arrays[k]).all()
    assert list(parallel._kept) == parcels.tokens[2:]
    assert (parallel._unpacked(parcels.tokens[0], parcels.blobs[0]) == arrays[0]).all()
    parallel._kept.clear()
    parallel._kept.update(kept)


def test_another_version_is_refused() -> None:
    remote = parallel._Remote(divmod)
    remote.version = "surefoot 0.0.0"
    with refused("SF-CLUSTER-VERSION", "0.0.0", error=ClusterError):
        remote((), (7, 2))


def mortal(folder: Path, k: int, times: int) -> int:
    """Call 5 ends its process as often as it is told to; files count, for memory is lost with the process."""
    if k == 5:
        for n in range(times):
            mark = folder / f"died-{n}"
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
    return k * k


@pytest.mark.process
@pytest.mark.parametrize("times", [1, 2])
def test_a_lost_worker_is_survived(tmp_path: Path, times: int) -> None:
    found = map_tasks(mortal, [(tmp_path, k, times) for k in range(24)], workers=2, batch_size=1)
    assert found == [k * k for k in range(24)]
    assert len(list(tmp_path.iterdir())) == times


@pytest.mark.process
def test_a_call_that_ends_every_worker_is_named(tmp_path: Path) -> None:
    got = []
    with refused("SF-CLUSTER-LOST", "squares: call 6 of 24", f"got {parallel.TRIES}", error=ClusterError):
        for one in iter_tasks(mortal, [(tmp_path, k, 99) for k in range(24)], workers=2, label="squares"):
            got.append(one)
    assert got == [k * k for k in range(5)], "what came before was handed out"
    assert len(list(tmp_path.iterdir())) == parallel.TRIES


def test_without_a_scheduler_nothing_changes() -> None:
    with on_cluster(None):
        assert processes(1) == 1


def test_dask_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with refused("SF-EXTRA-MISSING", "surefoot[distributed]", error=MissingExtra), on_cluster("tcp://127.0.0.1:1"):
        raise AssertionError
