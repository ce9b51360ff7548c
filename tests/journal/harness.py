"""Processes that die, race and crowd: run as ``python -m tests.journal.harness COMMAND URL ...``, prints one JSON object.

    crash URL          play a short script once per statement it executes, kill -9 at that statement, recover, finish, audit; on a server, where
                       statements take longer, once per statement that writes
    crowd URL E W [B]  W processes ask and tell E episodes together, up to B at once, in no order, with retries
    race URL W         W processes open the same deployment that does not exist yet
    together URL E W   a race of four, then a crowd

A process of its own, because it forks: a test runner has threads. In URL, ``{n}`` stands for the number of the try.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from surefoot import ConflictError, PolicySet
from surefoot.journal import Deployment, snapshot
from surefoot.journal.deployment import Ticket
from tests.journal.plants import Plant, as_recorded, small_set

SET = small_set(kernel=True, states=True)
TRUTH = Plant(SET)


class Fuse:
    """Kills this process, without warning, at the n-th point it is shown."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self, *ignored: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def attach(fuse: Fuse, everywhere: bool) -> None:
    """Before statements, before every commit, and between a commit and the caller's hearing of it."""

    def counts(sql: str) -> bool:
        return everywhere or sql.split()[0] in ("INSERT", "UPDATE", "DELETE", "CREATE")

    sa.event.listen(sa.Engine, "commit", fuse)
    sa.event.listen(sa.Engine, "before_cursor_execute", lambda connection, cursor, sql, *_: counts(sql) and fuse())
    original = Deployment._operate

    def operate(self: Deployment, *arguments: Any, **options: Any) -> Any:
        answer = original(self, *arguments, **options)
        fuse()
        return answer

    Deployment._operate = operate  # type: ignore[method-assign]


# ---------------------------------------------------------------------------------------------------------------- crash


def tell(plant: Deployment, ticket: Ticket) -> None:
    """What the plant measures, whoever asks."""
    plant.tell(ticket.id, **TRUTH.report(ticket.id, ticket.policy_index))


Step = Callable[[Deployment], None]
SCRIPT: tuple[Step, ...] = (
    lambda plant: tell(plant, plant.ask(request="a")),
    lambda plant: plant.lost(plant.ask(2, request="b")[1].id),
    lambda plant: plant.cap(0.3),
    lambda plant: tell(plant, plant.ticket(1)),
    lambda plant: plant.abort("enough"),
)


def play(url: str, name: str, done: Callable[[int], None] = lambda k: None, start: int = 0) -> None:
    """The script from step ``start`` on; ``done`` hears of every step that returned."""
    with Deployment.open(url, SET, name=name, seed=7) as plant:
        for k in range(start, len(SCRIPT)):
            SCRIPT[k](plant)
            done(k + 1)


def fork(work: Callable[[], None]) -> int:
    """Process id of a child that does ``work`` and leaves."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def killed_at(n: int, pattern: str, name: str) -> tuple[bool, int]:
    """Play in a child that dies at point n: whether it died, and the steps it heard of."""
    url = pattern.replace("{n}", str(n))
    reading, writing = os.pipe()

    def work() -> None:
        fuse = Fuse(n)
        attach(fuse, "{n}" in pattern)
        snapshot.SnapshotPolicy.LEAST, snapshot.SnapshotPolicy.SHARE = 0.0, 0.0  # after every step
        play(url, name, lambda k: os.write(writing, bytes([k])) and None)

    child = fork(work)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    heard = os.read(reading, 4096)
    os.close(reading)
    return os.WIFSIGNALED(status), max(heard, default=0)


def recovered(url: str, name: str, steps: int) -> dict[str, Any]:
    """What a journal holds after a crash; then the script is finished, repeating the step in doubt, and audited."""
    with Deployment.open(url, SET, name=name, seed=7) as plant:
        prefix = as_recorded(plant.events())
        for k in range(steps, len(SCRIPT)):
            SCRIPT[k](plant)
        return {
            "prefix": prefix,
            "whole": as_recorded(plant.events()),
            "audit": plant.verify().first_disagreement,
        }


def without_name(events: list[tuple[int, str, str]]) -> list[Any]:
    """Events of deployments that differ in nothing but their names."""
    return [(seq, kind, {k: v for k, v in json.loads(body).items() if k != "name"}) for seq, kind, body in events]


def crash(url: str) -> dict[str, Any]:
    """Every point in turn, until the script runs through."""
    reference_url, reference = url.replace("{n}", "reference"), "reference"
    play(reference_url, reference)
    with Deployment.open(reference_url, name=reference, create=False) as plant:
        wanted = without_name(as_recorded(plant.events()))
    faults, n = [], 0
    while True:
        n += 1
        here, name = url.replace("{n}", str(n)), f"try {n}"
        died, steps = killed_at(n, url, name)
        if not died:
            return {"points": n - 1, "faults": faults, "events": len(wanted)}
        found = recovered(here, name, steps)
        prefix, whole = without_name(found["prefix"]), without_name(found["whole"])
        heard = sum(1 for _, kind, _ in prefix if kind in ("told", "lost"))
        if found["audit"] or prefix != wanted[: len(prefix)] or whole != wanted or heard < steps_told(steps):
            faults.append({"n": n, "steps": steps, "prefix": len(prefix), "whole": len(whole), **found})


def steps_told(steps: int) -> int:
    """Reports and losses that a client had heard to be recorded after so many steps."""
    return sum(step < steps for step in (0, 1, 3))


# ---------------------------------------------------------------------------------------------------------------- crowd


def crowd_member(url: str, name: str, episodes: int, worker: int, workers: int, most: int) -> None:
    """Ask and tell until all episodes are told, in batches of odd sizes, late and out of order, repeating one call in five."""
    rng = np.random.default_rng([7, worker])
    share = episodes // workers
    with Deployment.open(url, SET, name=name, create=False) as plant:
        held: list[Ticket] = []
        asked = 0
        while asked < share or held:
            if asked < share and (len(held) < 2 * most or rng.random() < 0.5):
                n = min(int(rng.integers(1, most + 1)), share - asked)
                key = f"{worker}-{asked}"
                tickets = plant.ask(n, request=key)
                if rng.random() < 0.2 and [t.id for t in plant.ask(n, request=key)] != [t.id for t in tickets]:
                    raise RuntimeError("another draw for the same request")
                asked += n
                held += tickets
                continue
            rng.shuffle(held)  # type: ignore[arg-type]
            count = min(len(held), int(rng.integers(1, most + 2)))
            batch, held = held[:count], held[count:]
            body = TRUTH.batch([t.id for t in batch], [t.policy_index for t in batch])
            for _ in range(1 + (rng.random() < 0.2)):
                plant.tell(**body)


def crowd(url: str, episodes: int, workers: int, most: int = 3, name: str = "crowd") -> dict[str, Any]:
    """Let them, then count."""
    with Deployment.open(url, SET, name=name, seed=7):
        pass
    children = [
        fork(lambda worker=worker: crowd_member(url, name, episodes, worker, workers, most))  # type: ignore[misc]
        for worker in range(workers)
    ]
    statuses = [os.waitpid(child, 0)[1] for child in children]
    with Deployment.open(url, SET, name=name, create=False) as plant:
        events = list(plant.events())
        status = plant.status()
        audit = plant.verify()
    told = Counter(k for event in events if event.kind == "told" for k in event.body["ids"])
    asked = [
        event.body["first"] + k for event in events if event.kind == "asked" for k in range(len(event.body["draws"]))
    ]
    return {
        "statuses": statuses,
        "asked_in_order": asked == list(range(episodes)),
        "told_once": sorted(told.elements()) == list(range(episodes)),
        "pending": status.pending,
        "audit": audit.first_disagreement,
        "events": len(events),
        "right": all(told_rightly(event.body, events) for event in events if event.kind == "told"),
    }


def told_rightly(body: dict[str, Any], events: Any) -> bool:
    """Whether a report says what the plant did, under the policy that was drawn."""
    draws = DRAWS.setdefault(id(events), drawn(events))
    wanted = TRUTH.batch(body["ids"], [draws[k] for k in body["ids"]])
    return bool(wanted["reward"] == body["reward"] and wanted["costs"] == body["costs"])


DRAWS: dict[int, dict[int, int]] = {}


def drawn(events: Any) -> dict[int, int]:
    """Policy of every episode."""
    return {e.body["first"] + k: j for e in events if e.kind == "asked" for k, j in enumerate(e.body["draws"])}


# ----------------------------------------------------------------------------------------------------------------- race


def race(url: str, workers: int, name: str = "race") -> dict[str, Any]:
    """Open at once; every process asks with the same key, asks for itself, and tells the shared episode the same."""
    ready, go = os.pipe()

    def work(worker: int) -> None:
        os.close(go)
        os.read(ready, 1)
        with Deployment.open(url, SET, name=name, seed=7) as plant:
            shared = plant.ask(request="shared")
            own = plant.ask(request=f"own {worker}")
            tell(plant, shared)
            tell(plant, own)
            try:
                plant.tell(shared.id, reward=0.125, costs=[0.5], initial_state=0, transitions=[])
            except ConflictError:
                return
        raise RuntimeError("a contradiction was accepted")

    children = [fork(lambda worker=worker: work(worker)) for worker in range(workers)]  # type: ignore[misc]
    os.close(ready)
    os.close(go)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    with Deployment.open(url, SET, name=name, create=False) as plant:
        kinds = Counter(event.kind for event in plant.events())
        audit, status = plant.verify(), plant.status()
    return {
        "statuses": statuses,
        "opened": kinds["opened"],
        "asked": kinds["asked"],
        "told": kinds["told"],
        "pending": status.pending,
        "audit": audit.first_disagreement,
    }


def together(url: str, episodes: int, workers: int) -> dict[str, Any]:
    """Both, in one process: starting one takes longer than racing."""
    return {
        "race": race(url.replace("{n}", "race"), 4),
        "crowd": crowd(url.replace("{n}", "crowd"), episodes, workers),
    }


def warm_up(policy_set: PolicySet) -> None:
    """Compile before forking, so that children need not."""
    from tests.journal.plants import drive, quick_folder

    folder = Path(quick_folder())
    with Deployment.open(folder / "warm.db", policy_set, seed=7) as plant:
        drive(plant, TRUTH, 3)
        plant.verify()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def main(command: str, url: str, *rest: str) -> None:
    """Run one of them."""
    warm_up(SET)
    commands: dict[str, Callable[..., dict[str, Any]]] = {
        "crash": crash,
        "crowd": crowd,
        "race": race,
        "together": together,
    }
    print(json.dumps(commands[command](url, *map(int, rest))))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
