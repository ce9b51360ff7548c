"""Requests per second of ``surefoot serve`` (an ask and a tell for each episode, one client) and how long it takes to start.

    python benchmarks/bench_service.py                       this source
    python benchmarks/bench_service.py OLD/src src           two of them, in turns, on the same machine
    python benchmarks/bench_service.py --cells 467           with a policy set of about so many cells (training it takes about a minute)

Every round starts each service anew on a fresh copy of the same journal. Printed are medians over rounds, with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import surefoot as sf

NAMES = (
    "seconds to the first answer",
    "seconds of CPU till then",
    "requests per second",
    "milliseconds of CPU for each",
    "milliseconds per ask, median",
    "milliseconds per tell, median (limit 2, aim 1)",
)


def sent(address: str, path: str, body: Any, key: str = "") -> Any:
    """The answer to one request."""
    headers = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})}
    request = urllib.request.Request(address + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def used(process: int) -> float:
    """Seconds of CPU that a process has used so far (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(source: Path, journal: Path, seconds: float) -> tuple[float, ...]:
    """What :data:`NAMES` says."""
    command = [sys.executable, "-m", "surefoot", "serve", str(journal), "--port", "0", "--rate", "1000000"]
    begun = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(source)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split(" on ")[1].split(",")[0].strip()
            with urllib.request.urlopen(address + "/status", timeout=60) as answer:
                answer.read()
            started, spent = time.perf_counter() - begun, used(process.pid)
            asks, tells, begun = [], [], time.perf_counter()
            while (since := time.perf_counter()) - begun < seconds:
                (episode,) = sent(address, "/ask", {"n": 1}, f"k{len(asks)}")["episodes"]
                asked = time.perf_counter()
                sent(address, "/tell", {"ids": episode["id"], "reward": 10.0, "costs": [0.5], "initial_state": 0})
                asks.append(1000.0 * (asked - since))
                tells.append(1000.0 * (time.perf_counter() - asked))
            requests = 2 * len(asks)
            rate, work = requests / (time.perf_counter() - begun), 1000.0 * (used(process.pid) - spent) / requests
            return started, spent, rate, work, statistics.median(asks), statistics.median(tells)
        finally:
            process.terminate()


def main() -> None:
    """Measure the sources named on the command line in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", type=Path, default=[Path("src")])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--cells", type=int, default=6)
    options = parser.parse_args()
    family, tasks = sf.tasks.NoisyGridworld(), max(30, 2 * options.cells)
    # A journal keeps policy sets up to a size; 60 policies stay below it.
    policy_set = sf.train(
        family, tasks=tasks, holdout=60, cells=options.cells, policies=60, p_max=0.5, seed=0, progress=False
    )
    found: dict[Path, list[tuple[float, ...]]] = {source: [] for source in options.sources}
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(options.rounds):
            for source in options.sources:
                place = Path(folder) / f"{round_}-{len(found[source])}-{list(found).index(source)}"
                place.mkdir()
                sf.Deployment.open(place / "plant.db", policy_set, p_max=0.5).close()
                found[source].append(measure(source.resolve(), place / "plant.db", options.seconds))
                shutil.rmtree(place)
    for source, rounds in found.items():
        for name, values in zip(NAMES, zip(*rounds)):
            middle, least, most = statistics.median(values), min(values), max(values)
            sys.stdout.write(f"{source}: {name} {middle:.3g} ({least:.3g} to {most:.3g})\n")


if __name__ == "__main__":
    main()
