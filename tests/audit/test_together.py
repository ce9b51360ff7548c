"""Episodes that were asked and told alone are recomputed many at a time: the same numbers and verdicts as one by one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surefoot.audit import together as together_module
from surefoot.audit import verification, verify
from surefoot.audit.walk import Audit
from surefoot.journal import Event, Settings
from tests.audit.test_audit import MODES, SETS, tell
from tests.journal.plants import Plant, rechained
from tests.journal.test_state import Live

pytestmark = pytest.mark.slow

CASES = [
    ("returns", "cells", 1.0),
    ("returns", "cells", 1.6),
    ("all", "cells", 1.6),
    ("all", "returns", 1.0),
    ("signals", "cells", 1.0),
    ("returns", "envelope", 1.0),
    ("all", "envelope", 1.6),
    ("returns", "data", 1.6),
]
STEPS = frozenset({"group", "seq", "replan", "expected_alarm"})
"""What an audit keeps for one group only."""


def singles(kind: str, mode: str, cost: float, episodes: int = 420) -> list[Event]:
    """A journal of episodes asked and told alone; of two in the middle one is lost and one comes late."""
    live, truth = Live(SETS[kind], Settings(seed=7, **MODES[mode])), Plant(SETS[kind], cost_factor=cost)
    for k in range(episodes):
        asked = live.do("asked", {"n": 1})
        draws = {asked["first"]: asked["draws"][0]}
        if k == episodes // 2:
            live.do("lost", {"ids": [asked["first"]]})
        elif k == episodes // 3:
            late = live.do("asked", {"n": 1})
            tell(live, truth, [late["first"]], {late["first"]: late["draws"][0]})
            tell(live, truth, [asked["first"]], draws)
        else:
            tell(live, truth, [asked["first"]], draws)
    return live.events


def state(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and flag of an audit, with where it stands."""
    if isinstance(found, np.random.Generator):
        yield path, str(found.bit_generator.state)
    elif isinstance(found, dict):
        for key in sorted(found, key=str):
            yield from state(found[key], f"{path}.{key}")
    elif isinstance(found, list | tuple):
        for k, item in enumerate(found):
            yield from state(item, f"{path}[{k}]")
    elif hasattr(found, "__dict__") and type(found).__module__.startswith("surefoot.audit"):
        yield from state({k: v for k, v in vars(found).items() if k not in STEPS}, path)
    elif isinstance(found, np.ndarray | int | float | bool | set | str | type(None)):
        yield path, found


def audited(
    policy_set: Any, events: list[Event], monkeypatch: pytest.MonkeyPatch, least: int
) -> tuple[Any, dict[str, Any], int]:
    """Verdict, state at the end, and how many groups were recomputed together."""
    made: list[Audit] = []
    together = [0]

    class Spy(Audit):
        def __init__(self, policy_set: Any) -> None:
            super().__init__(policy_set)
            made.append(self)

        def together(self, groups: Any) -> int:
            found = super().together(groups)
            together[0] += found
            return found

    with monkeypatch.context() as patched:
        patched.setattr(verification, "Audit", Spy)
        patched.setattr(together_module, "LEAST_TOGETHER", least)
        found = verify(policy_set, events)
    return found, dict(state(made[0])), together[0]


@pytest.mark.parametrize(("kind", "mode", "cost"), CASES)
def test_together_is_one_by_one(kind: str, mode: str, cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    events = singles(kind, mode, cost)
    alone, expected, none = audited(SETS[kind], events, monkeypatch, 10**9)
    found, got, many = audited(SETS[kind], events, monkeypatch, 4)
    assert alone == found and found.ok and found.checked == len(events)
    assert none == 0 and many > 100, "much of the journal was recomputed together"
    assert expected.keys() == got.keys()
    for path, value in expected.items():
        if isinstance(value, np.ndarray | float):
            np.testing.assert_allclose(got[path], value, rtol=1e-8, atol=1e-8, err_msg=path)
        else:
            assert got[path] == value, path


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return singles("all", "returns", 1.6)


def changed(events: list[Event], where: int, **change: Any) -> list[Event]:
    return rechained([*events[:where], replace(events[where], body=events[where].body | change), *events[where + 1 :]])


def test_lies_are_named_alike(events: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    """Told costs and returns, draws, starts, and consequences left out: the verdict does not depend on how many are recomputed at once."""
    rng = random.Random(3)
    told = [k for k, event in enumerate(events) if event.kind == "told"]
    asked = [k for k, event in enumerate(events) if event.kind == "asked"]
    effects = [
        k for k, event in enumerate(events) if event.kind in ("eliminated", "planned", "ramp", "barred", "readmitted")
    ][1:]
    lies = [
        *(changed(events, k, costs=[[3.9]]) for k in rng.sample(told, 3)),
        *(changed(events, k, costs=[[9.9]]) for k in rng.sample(told, 2)),
        *(changed(events, k, reward=[-1e6]) for k in rng.sample(told, 2)),
        *(changed(events, k, initial_state=[8]) for k in rng.sample(told, 2)),
        *(changed(events, k, draws=[3 - events[k].body["draws"][0]]) for k in rng.sample(asked, 3)),
        *(changed(events, k, settled=0) for k in rng.sample(asked[9:], 2)),
        *(rechained([*events[:k], *events[k + 1 :]]) for k in effects[:3]),
        [*events[:200], replace(events[200], digest="0" * 64), *events[201:]],
    ]
    wrong = 0
    for lie in lies:
        alone, _, _ = audited(SETS["all"], lie, monkeypatch, 10**9)
        found, _, _ = audited(SETS["all"], lie, monkeypatch, 4)
        assert found == alone
        wrong += not found.ok
    assert wrong >= len(lies) - 5, "a plausible cost is no lie yet"


def test_what_should_have_happened_on_the_way_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that recorded none of its consequences: dropped one by one, they are missed where they belong."""
    events = singles("returns", "cells", 1.0)
    for kind in ("eliminated", "ramp", "planned"):
        first = next(k for k, event in enumerate(events) if event.kind == kind and k > 2)
        bare = rechained([event for k, event in enumerate(events) if k != first])
        found, _, _ = audited(SETS["returns"], bare, monkeypatch, 4)
        alone, _, _ = audited(SETS["returns"], bare, monkeypatch, 10**9)
        assert not found.ok and found == alone
