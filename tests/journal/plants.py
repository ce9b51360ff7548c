"""A small policy set, a plant to match, quick disks, and a PostgreSQL server of one's own.

Three cells, four policies. Cell k says that policy k + 1 is good and cheap and the others are costly; the plant obeys the last one. Everything is
small on purpose: journals are tested here, not learning.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from surefoot import PolicySet
from surefoot.journal import Deployment, Event
from surefoot.journal.events import canonical, chained
from surefoot.journal.session import cached
from surefoot.policyset.schema import Certificate, KernelBoxes, SignalPredictions
from tests.deploy.worlds import hand_made

__all__ = [
    "BACKENDS",
    "Plant",
    "Postgres",
    "as_recorded",
    "drive",
    "open_plant",
    "quick_folder",
    "rechained",
    "small_set",
]

TOOLS = ("initdb", "pg_ctl", "postgres")
HAS_POSTGRES = all(shutil.which(tool) for tool in TOOLS)
BACKENDS = ("sqlite", "postgresql") if HAS_POSTGRES else ("sqlite",)
"""Where the server's programs are missing, tests on PostgreSQL are not collected."""

CELLS, POLICIES = 3, 4


def small_set(*, kernel: bool = False, states: bool = False, signals: bool = False, name: str = "plant") -> PolicySet:
    """Three cells, four policies, one constraint with limit 1."""
    cells = np.arange(CELLS)[:, None]
    own = np.arange(POLICIES)[None, :] == cells + 1
    reward = np.where(own, 6.0 + 0.5 * cells, 3.0)
    cost = np.where(own, 0.7, 1.6)
    reward[:, 0], cost[:, 0] = 2.0, 0.3
    shift = np.array([-0.1, 0.1])
    found = hand_made(
        reward,
        cost[:, :, None],
        width=0.15,
        limits=(1.0,),
        ceilings=(4.0,),
        margin=0.6,
        by_state=(reward[..., None] + 5 * shift, cost[:, :, None, None] + shift) if states else None,
        kernel=_kernel() if kernel else None,
        signals=_signals() if signals else None,
    )
    certificate = Certificate(400, 0, 0.01, 0, 0.01, 0.05)
    return replace(found, certificate=certificate, training=replace(found.training, family=name), extra={})


def _kernel() -> KernelBoxes:
    """Two pairs (s, a) with two successors each; cell k moves to state 1 with probability .2 + .25 k, give or take .05."""
    support = np.array([(0, 0, 1), (0, 0, 2), (1, 0, 1), (1, 0, 2)])
    move = 0.2 + 0.25 * np.arange(CELLS)
    center = np.stack([move, 1.0 - move, move, 1.0 - move], axis=1)
    return KernelBoxes(support, center - 0.05, center + 0.05, center)


def _signals() -> SignalPredictions:
    lower = np.tile(0.2 + 0.2 * np.arange(CELLS)[:, None, None], (1, POLICIES, 1))
    return SignalPredictions(("wear",), np.array([[0.0, 1.0]]), lower, lower + 0.1)


@dataclass(frozen=True)
class Plant:
    """What happens in episode k under policy j depends on k, j and the seed alone, whoever runs it and however often.

    Attributes:
        policy_set: whose last cell is the truth.
        seed: of the outcomes.
        cost_factor: makes the truth costlier than any cell says.
    """

    policy_set: PolicySet
    seed: int = 0
    cost_factor: float = 1.0

    def report(self, episode: int, policy: int) -> dict[str, Any]:
        """Arguments of ``tell`` without the id."""
        rng = np.random.default_rng([self.seed, episode, policy])
        cells = self.policy_set.cells
        state = int(rng.integers(2))
        given = cells.conditional
        shift = 0.0 if given is None else (2 * state - 1) * 0.1
        reward = cells.predictions.reward_center[-1, policy] + 5 * shift
        cost = self.cost_factor * (cells.predictions.cost_center[-1, policy, 0] + shift)
        found: dict[str, Any] = {
            "reward": float(reward + 0.5 * rng.uniform(-1, 1)),
            "costs": [float(min(cost * rng.uniform(0.5, 1.5), 3.99))],
        }
        if given is not None:
            found["initial_state"] = state
        if cells.kernel is not None:
            moved = int(rng.binomial(20, cells.kernel.center[-1, 0]))
            found["transitions"] = [[0, 0, 1, moved], [0, 0, 2, 20 - moved]]
        if cells.signals is not None:
            found["signals"] = [float(rng.uniform(0.6, 0.7))]
        return found

    def batch(self, episodes: list[int], policies: list[int]) -> dict[str, Any]:
        """Arguments of ``tell`` for several episodes at once, ids included."""
        reports = [self.report(k, j) for k, j in zip(episodes, policies)]
        found: dict[str, Any] = {"ids": list(episodes)}
        for name in ("reward", "costs", "initial_state", "signals"):
            if name in reports[0]:
                found[name] = [report[name] for report in reports]
        if "transitions" in reports[0]:
            found["transitions"] = [row for report in reports for row in report["transitions"]]
        return found


def drive(plant: Deployment, truth: Plant, episodes: int) -> None:
    """Ask and tell one at a time."""
    for _ in range(episodes):
        ticket = plant.ask()
        plant.tell(ticket.id, **truth.report(ticket.id, ticket.policy_index))


def keep_snapshot(plant: Deployment) -> None:
    """Have a snapshot of what stands now written."""
    plant._record()
    plant._keep_snapshot(*cached(plant._caught()))


def open_plant(url: Any, policy_set: PolicySet, **settings: Any) -> Deployment:
    """A deployment that reports everything the set can use; its weight moves from the first episode unless a test asks for a ramp."""
    return Deployment.open(url, policy_set, **{"seed": 7, "ramp": 0, **settings})


def as_recorded(events: Any) -> list[tuple[int, str, str]]:
    """What matters of events: number, kind, body."""
    return [(event.seq, event.kind, canonical(event.body)) for event in events]


def rechained(events: list[Event]) -> list[Event]:
    """The same events with numbers and digests that fit: a forger who knows the format."""
    found: list[Event] = []
    for seq, event in enumerate(events, start=1):
        digest = chained(found[-1].digest if found else "", seq, event.kind, event.at, canonical(event.body))
        found.append(Event(seq, event.at, event.kind, event.body, digest))
    return found


def quick_folder() -> str:
    """A new folder, in memory where there is such a place: waiting for disks is not what is tested."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return tempfile.mkdtemp(prefix="surefoot-", dir=base)


@dataclass
class Postgres:
    """A server on a socket in a folder of its own, run by somebody who is not root."""

    folder: str = field(default_factory=quick_folder)
    databases: int = 0

    def __post_init__(self) -> None:
        os.chmod(self.folder, 0o755)
        self.data = f"{self.folder}/data"
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self.port = _free_port()
        self._run("initdb", "-D", self.data, "-U", "plant", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        self.start()

    def _run(self, *command: str) -> None:
        environment = {**os.environ, "HOME": self.folder, "LC_ALL": "C"}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            check=False, text=True, **self._user,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr}")

    def start(self) -> None:
        """Accept connections, on the socket only."""
        options = f"-k {self.folder} -c listen_addresses='' -p {self.port} -c fsync=off -c shared_buffers=16MB"
        self._run("pg_ctl", "-D", self.data, "-w", "-l", f"{self.folder}/log", "-o", options, "start")

    def stop(self) -> None:
        """Without warning: connections break, nothing is flushed."""
        self._run("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop")

    def url(self) -> str:
        """A database nobody has used."""
        self.databases += 1
        name = f"plant{self.databases}"
        self.execute(f"CREATE DATABASE {name}")
        return f"postgresql://plant@/{name}?host={self.folder}&port={self.port}"

    def execute(self, statement: str) -> None:
        """As the administrator."""
        import psycopg

        with psycopg.connect(
            host=self.folder, port=self.port, user="plant", dbname="postgres", autocommit=True
        ) as admin:
            admin.execute(statement)  # type: ignore[arg-type]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served() -> Iterator[Postgres]:
    """A server for as long as the block lasts."""
    server = Postgres()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


def folder_for(name: str) -> Path:
    """A quick folder as a path."""
    return Path(quick_folder()) / name
