"""Replay equals live, bit by bit; snapshots are that state and never needed; what does not follow stops a replay."""

from __future__ import annotations

import itertools
import re
import shutil
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from surefoot import InvalidReport, JournalError, PausedError, PolicySet, ReplayError
from surefoot.audit import verify
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.deploy.report import Report
from surefoot.deploy.turns import Turns
from surefoot.journal import Deployment, Event, Settings, snapshot
from surefoot.journal.bodies import opening
from surefoot.journal.events import COMMANDS, canonical, chained
from surefoot.journal.state import DeploymentState
from surefoot.journal.status import DeploymentStatus
from tests.journal.plants import (
    Plant,
    as_recorded,
    drive,
    keep_snapshot,
    open_plant,
    quick_folder,
    rechained,
    small_set,
)
from tests.journal.rehearsed import rehearsed_set

SETS = {
    "returns": small_set(),
    "signals": small_set(signals=True),
    "all": small_set(kernel=True, states=True, signals=True),
}
MODES: list[dict[str, Any]] = [
    {"trust": "cells"},
    {"trust": "cells", "losses": "independent", "approve": True},
    {"trust": "envelope"},
    {"trust": "data", "cost_ceilings": (4.0,)},
    {"trust": "rehearsed"},
]
RUNG = Rung(boldness=1.0, episodes=40, batch=12, delay=20, lost=0.3, surprise=2.0)
MISSING = {"initial_state": None, "transitions": None, "signals": None}


class Live:
    """A fold with a journal in memory."""

    def __init__(self, policy_set: PolicySet, settings: Settings) -> None:
        self.state, self.events = DeploymentState(policy_set, settings), [Event(0, "", "", {}, "")][:0]
        self.do("opened", opening(policy_set, settings, "live"))

    def do(self, kind: str, body: dict[str, Any], report: Report | None = None) -> dict[str, Any]:
        """Advance and record; the completed body."""
        entries = self.state.advance(kind, body, report)
        for entry in entries:
            seq, digest = len(self.events) + 1, self.events[-1].digest if self.events else ""
            digest = chained(digest, seq, entry.kind, "", canonical(entry.body))
            self.events.append(Event(seq, "", entry.kind, entry.body, digest))
        self.state.moved(entries, self.events[-1].digest)
        return entries[0].body


def tell_one(live: Live, truth: Plant) -> None:
    """Ask and tell one episode."""
    asked = live.do("asked", {"n": 1, "request": None})
    report = Report.of(**{**MISSING, **truth.batch([asked["first"]], asked["draws"])}, n_constraints=1)
    live.do("told", report.body(), report)


steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "tell", "tell", "tell", "lost", "pause", "resume", "cap", "approve", "abort"]),
        st.integers(0, 2**20),
    ),
    max_size=60,
)


def act(live: Live, truth: Plant, kind: str, number: int, pending: dict[int, int]) -> None:
    """One random step; refusals are part of it."""
    if kind == "ask":
        try:
            body = live.do("asked", {"n": 1 + number % 12, "request": None})
        except PausedError:
            return
        pending.update((body["first"] + k, j) for k, j in enumerate(body["draws"]))
    elif kind in ("tell", "lost") and pending:
        rng = np.random.default_rng(number)
        ids = rng.permutation(list(pending))[: 1 + number % 5].tolist()
        draws = [pending.pop(k) for k in ids]
        if kind == "lost":
            live.do("lost", {"ids": ids})
        else:
            told = {**MISSING, **truth.batch(ids, draws)}
            if number % 6 == 0:  # a sensor fails now and then
                told["signals"] = None
            report = Report.of(**told, n_constraints=1)
            live.do("told", report.body(), report)
    elif kind == "pause":
        live.do("paused", {"reason": "r"})
    elif kind == "resume":
        live.do("resumed", {})
    elif kind == "cap":
        live.do("capped", {"weight": (number % 11) / 10})
    elif kind == "approve" and live.state.agent.waiting is not None:
        live.do("approved", {"plan": live.state.plan_seq})
    elif kind == "abort" and number % 7 == 0:
        live.do("aborted", {"reason": "r"})


@example(kind="all", mode={"trust": "cells"}, cost=0.3, script=[("ask", 0), ("ask", 0), ("ask", 0), ("tell", 0)])
@settings(max_examples=40)
@given(
    kind=st.sampled_from(sorted(SETS)), mode=st.sampled_from(MODES), cost=st.sampled_from([0.3, 1.0, 2.0]), script=steps
)
@pytest.mark.slow
def test_replay_and_snapshot_equal_live(kind: str, mode: dict[str, Any], cost: float, script: list[Any]) -> None:
    policy_set, given_ = SETS[kind], Settings(seed=3, **mode)
    if mode["trust"] == "rehearsed":
        policy_set = rehearsed_set(kind, RUNG)
    live, pending, truth = Live(policy_set, given_), {}, Plant(policy_set, cost_factor=cost)
    half = None
    for k, (step, number) in enumerate(script):
        act(live, truth, step, number, pending)  # type: ignore[arg-type]
        if k == len(script) // 2:
            half = snapshot.encode(live.state), len(live.events)
    state = snapshot.encode(live.state)
    replayed = DeploymentState(policy_set, given_)
    replayed.replay(live.events)
    nothing_follows(replayed)
    assert snapshot.encode(replayed) == state
    assert replayed.deviations == 0
    if half is not None:
        resumed = snapshot.decode(half[0][32:], policy_set, given_)
        assert resumed is not None
        resumed.replay(live.events[half[1] :])
        nothing_follows(resumed)
        assert snapshot.encode(resumed) == state


def nothing_follows(replayed: DeploymentState) -> None:
    """A report at the end of a journal may have consequences that are not recorded yet; one whose consequences are none has none to come."""
    if replayed.pending_effects is not None:
        assert replayed.settle() == []
        replayed.moved([], replayed.digest)


def everything(value: Any, seen: dict[int, Any]) -> Any:
    """All that an object holds, for comparison; configuration included."""
    if id(value) in seen:
        return "seen"
    if isinstance(value, np.ndarray):
        return value.tobytes(), value.shape
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, Turns):
        return "a lock"
    if callable(value):
        return "a function"
    if is_dataclass(value):  # what it caches follows from its fields
        return {part.name: everything(getattr(value, part.name), seen) for part in fields(value)}
    if isinstance(value, dict):
        return sorted((repr(key), everything(item, seen)) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return [everything(item, seen) for item in (sorted(value) if isinstance(value, set) else value)]
    if (
        hasattr(value, "__dict__")
        and type(value).__module__.startswith("surefoot")
        and not isinstance(value, PolicySet)
    ):
        seen[id(value)] = value
        return {name: everything(part, seen) for name, part in vars(value).items()}
    return repr(value)


@pytest.mark.parametrize("kind", sorted(SETS))
@pytest.mark.parametrize("mode", MODES)
def test_a_snapshot_misses_nothing_that_changes(kind: str, mode: dict[str, Any]) -> None:
    rehearsed = mode["trust"] == "rehearsed"
    policy_set = rehearsed_set(kind, replace(RUNG, batch=1, lost=0.6)) if rehearsed else SETS[kind]
    live, pending = Live(policy_set, Settings(**mode)), {}  # type: ignore[var-annotated]
    rng = np.random.default_rng(5)
    for _ in range(120):
        step, number = str(rng.choice(["ask", "tell", "tell", "lost"])), int(rng.integers(2**14))
        # One at a time where that was rehearsed.
        act(live, Plant(policy_set), step, number * (60 if rehearsed else 1), pending)
    again = snapshot.decode(snapshot.encode(live.state)[32:], policy_set, Settings(**mode))
    assert everything(again, {}) == everything(live.state, {})
    if rehearsed:
        run = live.state.agent.rehearsed
        assert run is not None and run.inside and run.planner.cutoff > 5


def test_looking_changes_nothing(tiny_set: PolicySet) -> None:
    live, pending = Live(tiny_set, Settings()), {}  # type: ignore[var-annotated]
    for k in range(30):
        act(live, Plant(tiny_set), "ask" if k % 2 else "tell", k, pending)
        before = snapshot.encode(live.state)
        live.state.agent.status()
        live.state.agent.plan  # noqa: B018
        assert snapshot.encode(live.state) == before


def test_a_refused_report_moves_nothing(tiny_set: PolicySet) -> None:
    live = Live(tiny_set, Settings())
    live.do("asked", {"n": 2, "request": None})
    before = snapshot.encode(live.state)
    with pytest.raises(InvalidReport):
        live.state.advance("told", {"ids": [0, 1], "reward": [1.0, 2.0], "costs": [[0.1], [-0.1]]})
    with pytest.raises(InvalidReport):
        live.state.advance("lost", {"ids": [0, 7]})
    assert snapshot.encode(live.state) == before


# ------------------------------------------------------------------------------------------------- what does not follow


@pytest.fixture(scope="module")
def history() -> list[Event]:
    """A deployment that saw an elimination."""
    live, truth = Live(SETS["returns"], Settings(seed=7)), Plant(SETS["returns"])
    for _ in range(12):
        asked = live.do("asked", {"n": 20, "request": None})
        body = truth.batch(list(range(asked["first"], asked["first"] + 20)), asked["draws"])
        live.do("told", Report.of(**{**MISSING, **body}, n_constraints=1).body())
    assert {"eliminated", "planned"} <= {event.kind for event in live.events}
    return live.events


def changed(history: list[Event], kind: str, which: int, **parts: Any) -> list[Event]:
    """The ``which``-th event of a kind with other contents, in a journal whose digests fit."""
    where = [k for k, event in enumerate(history) if event.kind == kind][which]
    forged = replace(history[where], body={**history[where].body, **parts})
    return rechained([*history[:where], forged, *history[where + 1 :]])


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("asked", {"draws": [3] * 3}),
        ("asked", {"first": 5}),
        ("asked", {"settled": 10**6}),
        ("asked", {"plan": 1}),
        ("asked", {"draws": "no"}),
        ("told", {"ids": [10**6]}),
        ("told", {"reward": [1e9]}),
        ("told", {"costs": None}),
        ("eliminated", {"cells": [1]}),
        ("eliminated", {"cells_left": 0}),
        ("planned", {"weights": {"1": 1.0}}),
        ("planned", {"weights": {"x": 1.0}}),
        ("planned", {"bounds": None}),
    ],
)
def test_a_forged_event_stops_the_replay(history: list[Event], kind: str, parts: dict[str, Any]) -> None:
    state = DeploymentState(SETS["returns"], Settings(seed=7))
    with pytest.raises(ReplayError) as caught:
        state.replay(changed(history, kind, -1 if kind != "eliminated" else 0, **parts))
    assert re.match(r"SF-REPLAY-(DIVERGED|ORDER|FAILED)$", caught.value.code)
    assert re.match(r"event \d+ \(\w+\) ", str(caught.value))


@pytest.mark.parametrize("dropped", ["asked", "told", "eliminated"])
def test_a_missing_event_stops_the_replay(history: list[Event], dropped: str) -> None:
    where = next(k for k, event in enumerate(history) if event.kind == dropped)
    with pytest.raises(ReplayError):
        DeploymentState(SETS["returns"], Settings(seed=7)).replay(rechained([*history[:where], *history[where + 1 :]]))


def test_unknown_and_repeated_kinds_stop_the_replay(history: list[Event]) -> None:
    for extra in ("opened", "hacked", "planned", "alarm"):
        body = history[0].body if extra == "opened" else {"text": "x"}
        with pytest.raises(ReplayError):
            DeploymentState(SETS["returns"], Settings(seed=7)).replay(
                rechained([*history[:2], Event(0, "", extra, body)])
            )


def test_another_certified_plan_is_followed_and_counted(tiny_set: PolicySet) -> None:
    """Another machine's rounding may tip a linear program: what was drawn from is what counts."""
    live = Live(tiny_set, Settings(seed=7, ramp=0))
    plan = live.events[1].body
    weights = {j: 0.5 * w for j, w in plan["weights"].items()}
    weights["0"] = 1.0 - sum(w for j, w in weights.items() if j != "0")
    state = DeploymentState(tiny_set, Settings(seed=7, ramp=0))
    costs = np.minimum(tiny_set.cells.predictions.cost_upper[..., 0], state.agent.bounds[:, 0])
    bound = max(float(sum(w * row[int(j)] for j, w in weights.items())) for row in costs)
    body = {**plan, "weights": weights, "bounds": [bound]}
    state.replay(rechained([live.events[0], replace(live.events[1], body=body)]))
    assert state.deviations == 1
    asked = state.advance("asked", {"n": 50, "request": None})
    edges = np.cumsum([weights.get(str(j), 0.0) for j in range(4)])
    expected = np.searchsorted(edges, np.random.default_rng(7).random(50), side="right")
    assert asked[0].body["draws"] == expected.tolist()


# -------------------------------------------------------------------------------------------------- snapshots are caches


def snapshots(file: Path) -> Any:
    """The table, opened from outside."""
    import sqlite3

    return sqlite3.connect(file, isolation_level=None)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM snapshots",
        "UPDATE snapshots SET body = x'00'",
        "UPDATE snapshots SET body = x''",
        "UPDATE snapshots SET body = 1000000000000",
        "UPDATE snapshots SET body = substr(body, 1, 5000)",
        "UPDATE snapshots SET body = CAST(substr(body, 1, 100) || x'ff' || substr(body, 102) AS BLOB)",
        "UPDATE snapshots SET digest = 'another'",
        "UPDATE snapshots SET seq = 3",
        "UPDATE snapshots SET seq = 30000",
    ],
)
def test_a_snapshot_that_is_lost_or_damaged_is_not_used(disk: Path, tiny_set: PolicySet, damage: str) -> None:
    with open_plant(disk / "plant.db", tiny_set) as plant:
        drive(plant, Plant(tiny_set), 10)
        keep_snapshot(plant)
        status = plant.status()
    table = snapshots(disk / "plant.db")
    assert table.execute("SELECT count(*) FROM snapshots").fetchone() == (1,)
    table.execute(damage)
    table.close()
    with open_plant(disk / "plant.db", tiny_set) as plant:
        assert plant.status() == status
        assert plant.verify().ok


def test_a_snapshot_of_another_version_is_not_used(tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch) -> None:
    body = snapshot.encode(Live(tiny_set, Settings()).state)
    monkeypatch.setattr(snapshot, "VERSION", "0.0.0")
    assert snapshot.decode(body[32:], tiny_set, Settings()) is None


def test_a_snapshot_is_used_where_it_fits(disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_plant(disk / "plant.db", tiny_set) as plant:
        drive(plant, Plant(tiny_set), 10)
        keep_snapshot(plant)
        drive(plant, Plant(tiny_set), 2)
        status = plant.status()
    folded: list[int] = []
    original = DeploymentState.advance
    monkeypatch.setattr(DeploymentState, "advance", lambda self, *a, **k: folded.append(1) or original(self, *a, **k))
    with open_plant(disk / "plant.db", tiny_set) as plant:
        assert plant.status() == status
    assert len(folded) == 4


def test_kinds_that_people_cause_are_told_from_consequences(history: list[Event]) -> None:
    assert {event.kind for event in history} - COMMANDS == {"planned", "eliminated", "ramp", "stage"}


def test_a_snapshot_is_taken_when_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = snapshot.SnapshotPolicy()
    pace.spent(0.4)
    assert not pace.due()
    pace.spent(0.2)
    assert pace.due()
    pace.kept(0.1)
    pace.spent(4.0)
    assert not pace.due()
    pace.spent(2.0)
    assert pace.due()


def test_a_snapshot_that_cannot_be_written_is_no_error(
    disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise JournalError("full")

    monkeypatch.setattr("surefoot.journal.transaction.Transaction.keep_snapshot", refuse)
    with open_plant(disk / "plant.db", tiny_set) as plant:
        drive(plant, Plant(tiny_set), 2)
        keep_snapshot(plant)
        recorded = as_recorded(plant.events())
    with Deployment.open(disk / "plant.db", tiny_set) as plant:
        assert as_recorded(plant.events()) == recorded


def test_quick_folders_are_new() -> None:
    first, second = quick_folder(), quick_folder()
    assert first != second
    shutil.rmtree(first)
    shutil.rmtree(second)


@pytest.mark.slow
def test_a_report_is_durable_before_its_consequences(disk: Path, tiny_set: PolicySet) -> None:
    """At every point of a run: whoever finds a journal without the consequences of its last report stands where the teller stands."""
    truth, tails = Plant(tiny_set), 0
    with open_plant(disk / "plant.db", tiny_set) as plant:
        for k in range(30):
            tickets = plant.ask(25)
            plant.tell(**truth.batch([t.id for t in tickets], [t.policy_index for t in tickets]))
            with plant._store.reading() as transaction:
                seq, digest = transaction.last()
                recorded = list(transaction.events(0, ""))
            assert recorded[-1].kind == "told"
            assert verify(tiny_set, recorded).ok
            read = DeploymentState(tiny_set, plant.settings)
            read.replay(recorded)
            mine = plant._state
            assert mine is not None and (read.seq, read.digest) == (seq, digest)
            assert read.settle() == mine.settle()
            tails += bool(read.settle())
            assert DeploymentStatus.of(read, "default", last_report=recorded[-1].at) == plant.status()
            if k % 3 == 0:
                # Another process records them, and asks on.
                with open_plant(disk / "plant.db", tiny_set) as other:
                    ticket = other.ask()
                    other.tell(ticket.id, **truth.report(ticket.id, ticket.policy_index))
        live = list(plant.events())
    assert tails >= 2
    for event, after in itertools.pairwise(live):
        assert event.kind != "planned" or after.kind in COMMANDS
    assert verify(tiny_set, live).ok


@pytest.mark.parametrize("kind", ["planned", "eliminated"])
def test_only_the_last_report_may_lack_its_consequences(history: list[Event], kind: str) -> None:
    where = [k for k, event in enumerate(history) if event.kind == kind and history[k - 1].kind == "told"]
    where = where or [k for k, event in enumerate(history) if event.kind == "eliminated"]
    told = max(k for k in range(where[0]) if history[k].kind == "told")
    end = next(k for k in range(told + 1, len(history)) if history[k].kind in COMMANDS)
    state = DeploymentState(SETS["returns"], Settings(seed=7))
    state.replay(rechained(history[: told + 1]))
    assert [entry.kind for entry in state.settle()] == [event.kind for event in history[told + 1 : end]] != []
    for follow in (1, 2):
        with pytest.raises(ReplayError):
            DeploymentState(SETS["returns"], Settings(seed=7)).replay(
                rechained([*history[: told + 1], *history[end : end + follow]])
            )
    assert not verify(SETS["returns"], rechained([*history[: told + 1], *history[end : end + 2]])).ok


def test_consequences_that_follow_from_nothing_stop_the_replay(history: list[Event]) -> None:
    told = next(k for k, event in enumerate(history) if event.kind == "told")
    state = DeploymentState(SETS["returns"], Settings(seed=7))
    state.replay(rechained(history[: told + 1]))
    forged = rechained(
        [*history[: told + 1], Event(0, "", "eliminated", {"cells": [0], "log_wealth": [9.0], "cells_left": 1})]
    )
    with pytest.raises(ReplayError):
        state.replay(forged[-1:])
