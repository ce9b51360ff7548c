"""What a training and a rehearsal hand to workers: calls, bytes, seconds of work, and what a cluster adds to each call.

python benchmarks/bench_cluster.py                  parts, and what follows from them for many machines (docs/clusters.md)
python benchmarks/bench_cluster.py --scheduler ...  the overhead of a call on this cluster, instead of one of two local processes
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import surefoot as sf
from surefoot import parallel
from surefoot.parallel import map_tasks, on_cluster


class Meter:
    """Stands between the library and its workers, and measures what would travel."""

    def __init__(self) -> None:
        self.rows: dict[str, list[float]] = {}

    def __enter__(self) -> Meter:
        self._pool = parallel._sent
        parallel._sent = self.sent
        return self

    def __exit__(self, *_: object) -> None:
        parallel._sent = self._pool

    def sent(self, work: Callable[..., Any], calls: Sequence[Any], *rest: Any, **options: Any) -> Iterator[Any]:
        """As ``parallel._sent`` in this process."""
        packed = parallel._Parcels(calls)
        row = self.rows.setdefault(rest[2], [0.0] * 5)
        row[1] += sum(len(blob) for blob in packed.blobs)
        remote = parallel._Remote(work)
        for k in range(len(calls)):
            call = packed.call(k, packed.blobs)
            began = time.process_time()
            found = remote(*call)
            row[0] += 1
            row[2] += len(parallel._dumped(call[:2]))
            row[3] += len(parallel._dumped(found))
            row[4] += time.process_time() - began
            yield found


def nothing(k: int) -> int:
    """A call that costs nothing."""
    return k


def main() -> None:
    """Print one line per part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scheduler")
    parser.add_argument("--tasks", type=int, default=96)
    parser.add_argument("--plants", type=int, default=12)
    options = parser.parse_args()
    family = sf.tasks.NoisyGridworld()
    training = {"tasks": options.tasks, "holdout": 32, "p_max": 0.9, "progress": False}
    sf.train(family, cells=4, tasks=16, holdout=16, p_max=0.9, progress=False)  # compiles
    with Meter() as meter:
        trained = sf.train(family, cells=60, policies=60, workers=2, **training)
        believing = sf.learn_belief(trained, family, tasks=64, workers=2, progress=False)
        sf.rehearse(
            believing, family, episodes=1000, plants=options.plants, ladder=(3.0, 2.5, 2.0), workers=2, progress=False
        )
    for label, (calls, shared, sent, returned, seconds) in meter.rows.items():
        sys.stdout.write(
            f"{label}: {calls:.0f} calls; shared {shared / 1e3:.1f} kB; per call {sent / calls / 1e3:.2f} kB sent, "
            f"{returned / calls / 1e3:.2f} kB returned, {1e3 * seconds / calls:.2f} ms of CPU\n"
        )
    if options.scheduler is None:
        from distributed import LocalCluster

        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
            overhead(cluster.scheduler_address)
    else:
        overhead(options.scheduler)


def overhead(scheduler: str) -> None:
    """What the scheduler, this process and the network take for a call."""
    with on_cluster(scheduler):
        map_tasks(nothing, [(k,) for k in range(100)], workers=1)
        began, spent = time.perf_counter(), time.process_time()
        map_tasks(nothing, [(k,) for k in range(400)], workers=1)
        wall, own = time.perf_counter() - began, time.process_time() - spent
    sys.stdout.write(f"an empty call on the cluster: {wall / 0.4:.2f} ms, {own / 0.4:.2f} ms of CPU here\n")


if __name__ == "__main__":
    main()
