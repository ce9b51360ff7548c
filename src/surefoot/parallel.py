"""The same work on many arguments: in this process, over processes of this machine, or on a cluster.

Every part of the library that runs in parallel goes through :func:`iter_tasks`. Where the calls run is decided by ``workers`` and by the joblib
backend that the user has set (``joblib.parallel_config(backend="dask")``, ``"ray"``, ...); what they return is not: ``work`` decides its result
from its arguments alone, and results come in the order of the calls.

*Sent once.* An object that several calls hold (a family, a policy set, the means of a training) is turned into bytes once, reaches each worker
once, and is kept there under the SHA-256 of these bytes; a call carries its number only. Workers on the same machine read it from a file; to
others a backend sends it. Objects travel as pickles, between processes that the user has started: nothing here reads a pickle from a file that
somebody else may have written, and who may submit work to a cluster may run any code on it anyway.

*Lost workers.* A call whose worker died is run again, a few times; then :class:`~surefoot.errors.ClusterError` names it. The scheduler of a Dask
cluster counts (``distributed.scheduler.allowed-failures``). In a pool of processes nobody says which call took its worker along: what has no
result is run again, then those that may have been running one at a time, so that the one at fault is known (:data:`TRIES`).
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from surefoot.errors import ClusterError, MissingExtra
from surefoot.progress import track
from surefoot.version import VERSION

__all__ = ["TRIES", "iter_tasks", "map_tasks", "on_cluster", "processes"]

Result = TypeVar("Result")

TRIES = 3
"""So often a call may end its worker before it is given up, the last time alone."""
AHEAD = 4
"""Calls that a cluster holds for each of its slots."""
SENDINGS = 25
"""So often what calls share is sent anew because a worker died meanwhile."""
SECONDS, PATIENCE = 20.0, 300.0
"""How long a scheduler may take to answer, and a cluster to have a worker (again)."""
KEPT_BYTES = 2**28
"""What a worker keeps of the objects sent to it, counted as they were sent."""
SMALL = 512
"""An object of fewer bytes is sent with every call that holds it."""
PLAIN = (str, bytes, bool, int, float, complex, type(None), np.generic)
LOST = {"BrokenExecutor", "WorkerCrashedError", "RayActorError", "NodeDiedError"}
"""Names of the errors by which backends say that a worker died."""
LOCAL = {"LokyBackend", "MultiprocessingBackend", "SequentialBackend", "ThreadingBackend"}

_here = threading.local()


def processes(workers: int) -> int:
    """How many calls run at the same time where ``workers`` is asked for: 1 says that everything runs in this process.

    With one worker the backend that the user has set decides; without one, and inside a worker, it is this process.
    """
    if getattr(_here, "working", False):
        return 1
    backend = _backend()
    if backend is None:
        return workers
    if _is_dask(backend):
        return max(2, int(sum(backend.client.ncores().values())))  # a cluster with one slot is a cluster nevertheless
    found = int(backend.effective_n_jobs(_jobs(backend, workers)))
    return found if type(backend).__name__ in LOCAL else max(2, found)


def _jobs(backend: Any, workers: int) -> int:
    """What joblib calls ``n_jobs``."""
    if backend is None or workers != 1:
        return workers
    import joblib

    _, chosen = joblib.parallel.get_active_backend()
    if chosen is not None:
        return int(chosen)
    return 1 if type(backend).__name__ in LOCAL else -1


def _is_dask(backend: Any) -> bool:
    return type(backend).__name__ == "DaskDistributedBackend"


def _backend() -> Any:
    """The backend of joblib that the user has set, if one was, outside of all workers."""
    joblib = sys.modules.get("joblib.parallel")
    if joblib is None:
        return None
    config = getattr(joblib._backend, "config", joblib.default_parallel_config)
    if config["backend"] is joblib.default_parallel_config["backend"] or config["backend"] is None:
        return None
    backend, _ = joblib.get_active_backend()
    return None if backend.nesting_level else backend


def map_tasks(
    work: Callable[..., Result],
    calls: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    label: str = "",
    progress: bool = False,
    batch_size: int | None = None,
) -> list[Result]:
    """``[work(*call) for call in calls]``, in this order, wherever it runs.

    Args:
        work: a function that decides its result from its arguments alone, and leaves them as they are.
        calls: its arguments. What is the same object in several of them is sent to each worker once.
        workers: processes; with one, everything runs in this process, unless a backend of joblib is set.
        label: name of the loop, where progress is shown and in errors.
        progress: show progress on standard error.
        batch_size: calls that a process takes at once; by default joblib chooses. 1 where calls differ much in length. A Dask cluster is given
            one call at a time.

    Raises:
        Exception: whatever ``work`` raises.
        ClusterError: a call's worker died, each time it was tried; or a worker has another version of the library.

    >>> map_tasks(divmod, [(7, 2), (9, 4)], workers=1)
    [(3, 1), (2, 1)]
    """
    return list(iter_tasks(work, calls, workers=workers, label=label, progress=progress, batch_size=batch_size))


def iter_tasks(
    work: Callable[..., Result],
    calls: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    label: str = "",
    progress: bool = False,
    batch_size: int | None = None,
) -> Iterator[Result]:
    """As :func:`map_tasks`, one result after the other as they are ready, so that each can be stored before the rest is done."""
    backend, name = _backend(), label or getattr(work, "__name__", "work")
    running: Iterator[Result]
    if processes(workers) == 1 or not calls:
        running = (work(*call) for call in calls)
    elif getattr(backend, "uses_threads", False):
        running = _pooled(_Threads(work), [((), call) for call in calls], workers, batch_size, name)
    elif _is_dask(backend):
        running = _on_dask(backend.client, work, calls, name)
    else:
        running = _sent(work, calls, workers, batch_size, name, near=backend is None or type(backend).__name__ in LOCAL)
    return track(running, label, len(calls), show=progress)


@contextmanager
def on_cluster(scheduler: str | None) -> Iterator[None]:
    """Inside the block everything parallel runs on a Dask cluster; with ``None`` nothing changes.

    Args:
        scheduler: address of the scheduler, such as ``tcp://10.0.0.5:8786``.

    Raises:
        MissingExtra: Dask is not installed.
        ClusterError: no scheduler answers there.
    """
    if scheduler is None:
        yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtra("distributed", "distributed") from error
    from joblib import parallel_config

    try:
        client = Client(scheduler, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ClusterError(
            f"scheduler must be the address of a Dask scheduler that answers within {SECONDS:g} s, got {scheduler!r} ({error}); start one with "
            "dask scheduler, and workers with dask worker ADDRESS",
            code="SF-CLUSTER-UNREACHABLE",
        ) from error
    with client, parallel_config(backend="dask", client=client):
        yield


# ---------------------------------------------------------------------------------------------------- what is sent


class _Parcels:
    """Objects that several calls hold, as bytes, and calls with the numbers of these instead.

    Attributes:
        blobs: arrays of bytes.
        tokens: the SHA-256 of each.
        calls: for every call, pairs of (position, number of the parcel) and the other arguments in order.
    """

    def __init__(self, calls: Sequence[tuple[Any, ...]]) -> None:
        held = Counter(id(item) for call in calls for item in call if not isinstance(item, PLAIN))
        self.blobs: list[NDArray[np.uint8]] = []
        self.tokens: list[str] = []
        numbers: dict[int, int | None] = {}
        self.calls = []
        for call in calls:
            places, rest = [], []
            for k, item in enumerate(call):
                number = None
                if held.get(id(item), 0) > 1:
                    if id(item) not in numbers:
                        numbers[id(item)] = self._packed(item)
                    number = numbers[id(item)]
                if number is None:
                    rest.append(item)
                else:
                    places.append((k, number))
            self.calls.append((tuple(places), tuple(rest)))

    def _packed(self, item: Any) -> int | None:
        """Number of a new parcel; ``None`` for one that is not worth it."""
        blob = _dumped(item)
        if len(blob) < SMALL:
            return None
        self.blobs.append(np.frombuffer(blob, dtype=np.uint8))
        self.tokens.append(hashlib.sha256(blob).hexdigest())
        return len(self.blobs) - 1

    def call(self, k: int, parcels: Sequence[Any]) -> tuple[Any, ...]:
        """Arguments of :func:`_unpacked` for call k: where parcels go, the other arguments, and the parcels as a backend sends them."""
        places, rest = self.calls[k]
        return tuple((at, self.tokens[n]) for at, n in places), rest, *(parcels[n] for _, n in places)


def _pickling() -> Any:
    """The module that pickles functions of ``__main__`` too, as joblib's own processes need it."""
    try:
        import cloudpickle
    except ImportError:  # joblib before 1.5 brings its own copy
        from joblib.externals import cloudpickle
    return cloudpickle


def _dumped(item: Any) -> bytes:
    found: bytes = _pickling().dumps(item)
    return found


_kept: OrderedDict[str, tuple[Any, int]] = OrderedDict()
"""In a worker: objects by their SHA-256 with their sizes, the one used last at the end."""
_lock = threading.RLock()


def _unpacked(token: str, parcel: Any) -> Any:
    """The object in a parcel; read once in each process."""
    with _lock:
        if token in _kept:
            _kept.move_to_end(token)
            return _kept[token][0]
        found = _pickling().loads(memoryview(parcel))
        _kept[token] = found, len(parcel)
        while len(_kept) > 1 and sum(size for _, size in _kept.values()) > KEPT_BYTES:
            _kept.popitem(last=False)
        return found


class _Remote:
    """What a worker in another process runs.

    Args:
        work: see :func:`map_tasks`.
    """

    def __init__(self, work: Callable[..., Any]) -> None:
        self.work, self.version = work, _versions()

    def __call__(self, places: tuple[tuple[int, str], ...], rest: tuple[Any, ...], *parcels: Any) -> Any:
        if self.version != _versions():
            raise ClusterError(
                f"a worker must have what this process has, got {_versions()} instead of {self.version}; install the same versions there",
                code="SF-CLUSTER-VERSION",
            )
        arguments = list(rest)
        for (at, token), parcel in zip(places, parcels):  # in the order of their positions
            arguments.insert(at, _unpacked(token, parcel))
        return _working(self.work, arguments)


class _Bytes(_Remote):
    """The same with the result as bytes: arrays come back as they left, and can be written to."""

    def __call__(self, places: tuple[tuple[int, str], ...], rest: tuple[Any, ...], *parcels: Any) -> bytes:
        return _dumped(super().__call__(places, rest, *parcels))


class _Threads:
    """What a thread of this process runs; nothing is sent."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self.work = work

    def __call__(self, places: tuple[()], call: tuple[Any, ...]) -> Any:
        return _working(self.work, call)


def _working(work: Callable[..., Result], arguments: Sequence[Any]) -> Result:
    """Work, in which nothing is spread any further."""
    before, _here.working = getattr(_here, "working", False), True
    try:
        return work(*arguments)
    finally:
        _here.working = before


def _versions() -> str:
    """What results depend on, beside the arguments."""
    return f"surefoot {VERSION}, numpy {np.__version__}, Python {sys.version_info.major}.{sys.version_info.minor}"


# ---------------------------------------------------------------------------------------------------- where it runs


def _sent(
    work: Callable[..., Result],
    calls: Sequence[tuple[Any, ...]],
    workers: int,
    batch_size: int | None,
    label: str,
    *,
    near: bool,
) -> Iterator[Result]:
    """On a pool of processes, which are ``near`` if they read this machine's files."""
    packed = _Parcels(calls)
    with tempfile.TemporaryDirectory() as folder:
        parcels: list[Any] = list(packed.blobs)
        if near:
            # A mapped file is passed by its name.
            for k, blob in enumerate(packed.blobs):
                path = Path(folder) / str(k)
                path.write_bytes(blob.tobytes())
                parcels[k] = np.memmap(path, dtype=np.uint8, mode="r")
        yield from _pooled(
            _Remote(work), [packed.call(k, parcels) for k in range(len(calls))], workers, batch_size, label
        )


def _pooled(
    task: Callable[..., Result], calls: list[tuple[Any, ...]], workers: int, batch_size: int | None, label: str
) -> Iterator[Result]:
    """On the pool that joblib makes, or that the user has set. Whenever workers are lost it goes on behind the last result."""
    done, losses, suspects = 0, 0, 0
    while done < len(calls):
        alone = done < suspects
        part = calls[done : done + 1] if alone else calls[done:]
        try:
            for result in _joblib(task, part, workers, batch_size if losses == 0 else 1):
                done += 1
                yield result
        except Exception as error:
            if not LOST & {kind.__name__ for kind in type(error).__mro__}:
                raise
            losses += 1
            if alone:
                raise _lost(label, done, len(calls), losses) from error
            if losses == TRIES - 1:
                # Some call takes its worker along again and again: those that may have been running are run one at a time.
                suspects = done + AHEAD * processes(workers)
        else:
            losses = losses if done < suspects else 0


def _joblib(
    task: Callable[..., Result], calls: list[tuple[Any, ...]], workers: int, batch_size: int | None
) -> Iterator[Result]:
    from joblib import Parallel, delayed

    backend, size = _backend(), "auto" if batch_size is None else batch_size
    streams = backend is None or backend.supports_return_generator
    pool = Parallel(n_jobs=_jobs(backend, workers), return_as="generator" if streams else "list", batch_size=size)
    if streams:
        yield from pool(delayed(task)(*call) for call in calls)
        return
    # Where a backend gives all results at once, it is asked for a part at a time, and keeps its workers in between.
    step = AHEAD * processes(workers)
    with pool:
        for k in range(0, len(calls), step):
            yield from pool(delayed(task)(*call) for call in calls[k : k + step])


def _lost(label: str, call: int, many: int, times: int) -> ClusterError:
    return ClusterError(
        f"{label}: call {call + 1} of {many} must not end its worker, got {times} that died with it; look into the workers' logs (memory, most "
        "often), and give each more of it or run fewer",
        code="SF-CLUSTER-LOST",
    )


def _on_dask(
    client: Any, work: Callable[..., Result], calls: Sequence[tuple[Any, ...]], label: str
) -> Iterator[Result]:
    """On a Dask cluster, call by call. The scheduler runs a call again whose worker died, and says which it has given up."""
    from concurrent.futures import CancelledError
    from secrets import token_hex

    from distributed import KilledWorker

    packed, name = _Parcels(calls), f"{label.replace(' ', '-')}-{token_hex(4)}"
    program = _dumped(_Bytes(work))
    token, blobs = hashlib.sha256(program).hexdigest(), [np.frombuffer(program, dtype=np.uint8), *packed.blobs]
    sent: list[Any] = []
    running: dict[int, Any] = {}
    width = usual = AHEAD * processes(1)
    losses, suspects = 0, 0

    def send() -> None:
        """Bring everything to every worker that is there; others have it from these."""
        for again in range(SENDINGS, -1, -1):
            try:
                sent[:] = client.scatter(blobs, broadcast=True, hash=False, timeout=PATIENCE)
                return
            except TimeoutError as error:
                raise ClusterError(
                    f"the Dask cluster at {client.scheduler.address} must have a worker within {PATIENCE:g} s, got none; start one with dask worker",
                    code="SF-CLUSTER-EMPTY",
                ) from error
            except OSError:
                # A worker is gone, and the scheduler is about to notice.
                if not again:
                    raise
                time.sleep(0.2)

    def submit(k: int) -> None:
        call = packed.call(k, sent[1:])
        running[k] = client.submit(_run, token, sent[0], *call, key=f"{name}-{k}-{token_hex(4)}", pure=False)

    send()
    try:
        for k in range(len(calls)):
            if suspects and k >= suspects:
                width, losses, suspects = usual, 0, 0
            found = None
            while found is None:
                for later in range(k + len(running), min(len(calls), k + width)):
                    submit(later)
                try:
                    found = running[k].result()
                except KilledWorker as error:
                    raise _lost(label, k, len(calls), error.allowed_failures + 1) from error
                except CancelledError as error:
                    # All workers that held what was sent are gone, and the scheduler has forgotten the calls.
                    losses += 1
                    if width == 1:
                        raise _lost(label, k, len(calls), losses) from error
                    if losses == TRIES - 1:
                        # One of these calls ends worker after worker: from here on one at a time.
                        width, suspects = 1, k + len(running)
                    client.cancel(list(running.values()))
                    running.clear()
                    send()
            del running[k]
            yield _pickling().loads(found)
    finally:
        with suppress(Exception):  # the cluster may be gone
            client.cancel(list(running.values()))


def _run(token: str, program: Any, *call: Any) -> bytes:
    """What a Dask worker runs."""
    found: bytes = _unpacked(token, program)(*call)
    return found
