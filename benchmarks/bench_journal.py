"""What durability costs: time of a tell beside a bare commit, batched tells per second, reopening, memory; run from the repository's root.

    python benchmarks/bench_journal.py [--folder DIR] [--episodes 1000000] [--batch 100] [--singles 20000] [--only singles] [--json]

* *tell*: one episode at a time on a SQLite file, beside a bare ``BEGIN IMMEDIATE; INSERT; COMMIT`` of as many bytes into another file of the
  same folder with the same settings, in turns, so that both meet the same disk and the same other programs. Target: 1.5 times.
* *batched*: tells of a thousand episodes each. Target: 20 000 episodes per second.
* *singles*: ``--singles`` episodes that are asked and told alone (returns, costs and initial states): bytes of file per episode, a snapshot of some
  hundred kilobytes included (target: 200), seconds to open it again, processor time to verify it per million (target: 180 s).
* *reopen*: a journal of ``--episodes`` episodes, asked and told ``--batch`` at a time, opened in a fresh process. Target: 3 seconds.
* *memory*: resident memory of the writing process after a tenth of the episodes and after all of them.

The folder decides what a commit costs: name one on the disk that will be used.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from surefoot import PolicySet, Simulator, TabularCMDP, train
from surefoot.journal import Deployment
from surefoot.tasks import NoisyGridworld
from surefoot.text_table import text_table

NOISE = 0.31
REOPEN = """
import sys, time
from surefoot.journal import Deployment
began = time.perf_counter()
with Deployment.open(sys.argv[1], create=False) as plant:
    print(time.perf_counter() - began, plant.status().episodes)
"""


class World:
    """The gridworld as a plant."""

    def __init__(self) -> None:
        family = NoisyGridworld()
        self.policy_set: PolicySet = train(
            family, tasks=200, holdout=100, cells=20, policies=10, seed=0, progress=False
        )
        self._task: TabularCMDP = family.cmdp(NOISE)
        self._simulator = Simulator(self._task, list(self.policy_set.policies))

    def outcomes(self, n: int) -> list[tuple[Any, Any, Any]]:
        """Returns, costs and initial states of n episodes of every policy."""
        seen = [
            self._simulator.run(np.full(n, j), seed=1, first_episode=0) for j in range(len(self.policy_set.policies))
        ]
        return [(run.returns, run.costs, run.initial_states) for run in seen]

    def report(self, tickets: tuple[Any, ...]) -> dict[str, Any]:
        """What the plant measures in episodes run together."""
        ids = np.array([ticket.id for ticket in tickets])
        draws = np.array([ticket.policy_index for ticket in tickets])
        seen = self._simulator.run(draws, seed=1, first_episode=int(ids[0]), groups=np.zeros(ids.size, dtype=np.int64))
        if seen.transitions is None:
            raise RuntimeError("the simulator counted no transitions")
        counts = seen.transitions[0]
        where = np.flatnonzero(counts)
        states, actions = np.divmod(self._task.rows[where], self._task.n_actions)
        rows = np.stack([states, actions, self._task.successors[where], counts[where]], axis=1)
        return {
            "ids": ids, "reward": seen.returns, "costs": seen.costs, "initial_state": seen.initial_states, "transitions": rows,
        }  # fmt: skip


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def bare(file: Path, size: int) -> Callable[[], None]:
    """A function that commits one row of ``size`` bytes as durably as the journal does."""
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "checkpoint_fullfsync=ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, body TEXT)")

    def commit() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO rows (body) VALUES (?)", ("x" * size,))
        connection.execute("COMMIT")

    return commit


def single(world: World, folder: Path, rounds: int = 400) -> dict[str, float]:
    """Medians of a tell and of a bare commit, in turns."""
    commit, tells, commits, asks = bare(folder / "bare.db", 700), [], [], []
    with Deployment.open(folder / "single.db", world.policy_set) as plant:
        for k in range(rounds + 20):
            tickets: list[Any] = []
            asked = timed(lambda: tickets.append(plant.ask()))  # noqa: B023
            report = world.report(tuple(tickets))
            told, committed = timed(lambda: plant.tell(**report)), timed(commit)  # noqa: B023
            if k >= 20:
                tells.append(told)
                commits.append(committed)
                asks.append(asked)
    medians = {"tell_ms": tells, "commit_ms": commits, "ask_ms": asks}
    found = {name: 1e3 * statistics.median(times) for name, times in medians.items()}
    return {**found, "ratio": found["tell_ms"] / found["commit_ms"]}


def batched(world: World, folder: Path, batches: int = 40, size: int = 1000) -> dict[str, float]:
    """Episodes told per second."""
    with Deployment.open(folder / "batched.db", world.policy_set) as plant:
        tells, asks = [], []
        for _ in range(batches):
            tickets: list[Any] = []
            asks.append(timed(lambda: tickets.extend(plant.ask(size))))  # noqa: B023
            report = world.report(tuple(tickets))
            tells.append(timed(lambda: plant.tell(**report)))  # noqa: B023
    told, both = sum(tells[5:]), sum(tells[5:]) + sum(asks[5:])
    return {"told_per_second": size * len(tells[5:]) / told, "asked_and_told_per_second": size * len(tells[5:]) / both}


def singles(world: World, folder: Path, episodes: int) -> dict[str, float]:
    """Bytes, reopening and audit of a journal of episodes that are asked and told alone."""
    pool = world.outcomes(2000)
    file, empty = folder / "singles.db", folder / "empty.db"
    Deployment.open(empty, world.policy_set, evidence="returns").close()
    with Deployment.open(file, world.policy_set, evidence="returns") as plant:
        for _ in range(episodes):
            ticket = plant.ask()
            returns, costs, starts = pool[ticket.policy_index]
            k = ticket.id % len(returns)
            plant.tell(ticket.id, reward=returns[k], costs=costs[k], initial_state=starts[k])
    size = file.stat().st_size - empty.stat().st_size
    opened = subprocess.run([sys.executable, "-c", REOPEN, str(file)], capture_output=True, text=True, check=True)
    with Deployment.open(file, create=False) as plant:
        began = time.process_time()
        found = plant.verify()
        seconds = time.process_time() - began
    if not found.ok:
        raise RuntimeError(str(found.first_disagreement))
    return {
        "episodes": float(episodes), "bytes_per_episode": size / episodes, "reopen_s": float(opened.stdout.split()[0]), "verify_s": seconds,
        "verify_million_s": 1e6 * seconds / episodes,
    }  # fmt: skip


def long_run(world: World, file: Path, episodes: int, batch: int) -> dict[str, float]:
    """Write a long journal, watching memory; then open it elsewhere."""
    memory = {}
    with Deployment.open(file, world.policy_set) as plant:
        began = time.perf_counter()
        for done in range(batch, episodes + 1, batch):
            plant.tell(**world.report(plant.ask(batch)))
            if done in (episodes // 10, episodes):
                memory[done] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds = time.perf_counter() - began
    opened = subprocess.run([sys.executable, "-c", REOPEN, str(file)], capture_output=True, text=True, check=True)
    reopened, count = opened.stdout.split()
    return {
        "episodes": float(count), "events_per_episode": 2.0 / batch, "episodes_per_second": episodes / seconds, "reopen_s": float(reopened),
        "memory_tenth_mb": memory[episodes // 10], "memory_all_mb": memory[episodes], "file_mb": file.stat().st_size / 2**20,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--episodes", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--singles", type=int, default=20_000)
    parser.add_argument("--only", choices=("single", "batched", "singles", "long"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-journal-", dir=options.folder))
    try:
        world = World()
        parts: dict[str, Callable[[], dict[str, float]]] = {
            "single": lambda: single(world, folder),
            "batched": lambda: batched(world, folder),
            "singles": lambda: singles(world, folder, options.singles),
            "long": lambda: long_run(world, folder / "long.db", options.episodes, options.batch),
        }
        found = {name: part() for name, part in parts.items() if options.only in (None, name)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    rows = [[name, "  ".join(f"{key} {value:.4g}" for key, value in values.items())] for name, values in found.items()]
    sys.stdout.write("\n".join(text_table(rows, left=(0, 1))) + "\n")


if __name__ == "__main__":
    main()
