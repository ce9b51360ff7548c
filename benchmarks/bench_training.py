"""Seconds to train the gridworld's policy set, by stage; run from the repository's root.

    python benchmarks/bench_training.py [--tasks 500] [--holdout 200] [--repeats 2] [--large] [--workers 1] [--json]

Stages are timed by wrapping the functions of the pipeline that do them; compilation happens in a small run before. Target: 500 tasks,
30 cells, 200 hold-out tasks and the certificate in under 10 s. Then the parts on their own, as ratios within this run: one optimum among many against
one by one (limit: a fifth), and 61 policies in one task by planned elimination against LAPACK (limit: a fifth). ``--large`` adds 10 000
tasks, 60 policies, 480 cells and 1 000 hold-out tasks: limits 30 s and 1 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import surefoot as sf
from surefoot.cmdp.elimination import planned_values
from surefoot.solvers.bulk import BulkProgram
from surefoot.solvers.linear_program import OccupancyProgram
from surefoot.tasks import NoisyGridworld
from surefoot.training import pipeline
from surefoot.training.values import plan_of

SIZES = (30, 120)
TARGET = 10.0
LARGE = {"tasks": 10_000, "policies": 60, "cells": 480, "holdout": 1_000}
LARGE_SECONDS, LARGE_GIGABYTES, PART = 30.0, 1.0, 0.2
MANY = 400
STAGES = {
    "sample and cover": "_cover",
    "safe policy": "_safe_policy",
    "cells (values, seams, corners)": "build_cells",
    "hold-out certificate": "judge_frozen",
}


@contextmanager
def stopwatches() -> Iterator[dict[str, float]]:
    """Add up the seconds spent in each stage while the context lasts."""
    seconds = dict.fromkeys(STAGES, 0.0)
    originals = {name: getattr(pipeline, name) for name in STAGES.values()}

    def timed(worker: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                seconds[worker] += time.perf_counter() - began

        return call

    try:
        for worker, name in STAGES.items():
            setattr(pipeline, name, timed(worker, originals[name]))
        yield seconds
    finally:
        for name, work in originals.items():
            setattr(pipeline, name, work)


def measure(tasks: int, holdout: int, cells: int, repeats: int) -> dict[str, Any]:
    """The fastest of several trainings, split by stage; what no stage claims is the optima of the training tasks."""
    best: dict[str, Any] = {"seconds": float("inf")}
    for _ in range(repeats):
        with stopwatches() as stages:
            began = time.perf_counter()
            policy_set = sf.train(NoisyGridworld(), tasks=tasks, holdout=holdout, cells=cells, seed=0, progress=False)
            seconds = time.perf_counter() - began
        if seconds < best["seconds"]:
            rest = {"optima of the training tasks, and the rest": seconds - sum(stages.values())}
            certificate = policy_set.certificate
            best = {
                "cells": len(policy_set.cells),
                "seconds": seconds,
                "stages": stages | rest,
                "uncovered_upper": None if certificate is None else certificate.uncovered_upper,
            }
    return best


def seconds_of(work: Callable[[], Any], repeats: int = 3) -> float:
    """The least processor time of several calls."""
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def parts() -> dict[str, dict[str, float]]:
    """Milliseconds per task of the new way and the old one, and their ratio beside its limit."""
    family = NoisyGridworld()
    tasks = [family.cmdp(p) for p in family.sample(MANY, np.random.default_rng(0))]
    plan, alone = plan_of(tasks), OccupancyProgram(tasks[0])
    many = BulkProgram(plan, tasks[0])
    some = tasks[:: MANY // 20]
    tables = np.random.default_rng(1).dirichlet(np.ones(4), size=(61, 49))
    many.solve(some)
    rows = {
        "an optimum": (
            seconds_of(lambda: many.solve(tasks)) / MANY,
            seconds_of(lambda: [alone.solve(m) for m in some]) / len(some),
        ),
        "61 policies": (
            seconds_of(lambda: [planned_values(plan, m, tables) for m in some]) / len(some),
            seconds_of(lambda: [planned_values(None, m, tables) for m in some]) / len(some),
        ),
    }
    return {
        name: {"many_ms": 1e3 * new, "alone_ms": 1e3 * old, "ratio": new / old, "limit": PART}
        for name, (new, old) in rows.items()
    }


def large(workers: int) -> dict[str, float]:
    """Seconds, and the peak of memory of this process, which has done smaller work before."""
    began, used = time.perf_counter(), time.process_time()
    sf.train(NoisyGridworld(), seed=0, progress=False, workers=workers, **LARGE)
    return {
        "seconds": time.perf_counter() - began,
        "processor_seconds": time.process_time() - used,
        "limit_seconds": LARGE_SECONDS,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "limit_gigabytes": LARGE_GIGABYTES,
    }


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--holdout", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sf.train(NoisyGridworld(), tasks=20, holdout=5, cells=2, progress=False)
    found = [measure(options.tasks, options.holdout, cells, options.repeats) for cells in SIZES]
    ratios = parts()
    big = large(options.workers) if options.large else None
    if options.json:
        report = {"tasks": options.tasks, "holdout": options.holdout, "target_seconds": TARGET, "runs": found}
        report |= {"parts": ratios} | ({} if big is None else {"large": big})
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
        return
    for run in found:
        sys.stdout.write(
            f"{run['cells']} cells, {options.tasks} tasks, {options.holdout} hold-out: {run['seconds']:.2f} s\n"
        )
        for worker, seconds in run["stages"].items():
            sys.stdout.write(f"  {worker:44} {seconds:6.2f} s\n")
    for name, row in ratios.items():
        sys.stdout.write(
            f"{name:12} {row['many_ms']:.3f} ms among many, {row['alone_ms']:.3f} ms before: ratio {row['ratio']:.3f}, limit {PART}\n"
        )
    if big is not None:
        sys.stdout.write(
            f"10 000 tasks: {big['seconds']:.1f} s ({big['processor_seconds']:.1f} s of this process), limit {LARGE_SECONDS:.0f} s; "
            f"peak {big['gigabytes']:.2f} GB, limit {LARGE_GIGABYTES:.0f} GB\n"
        )


if __name__ == "__main__":
    main()
