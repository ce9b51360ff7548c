"""The audit of logged episodes: whatever an honest journal makes of them passes, and whoever changes, moves, repeats or drops a log is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.audit import verify
from surefoot.deploy.bounds import CostBounds, ProductRegion
from surefoot.deploy.evidence.mixture import Evidence
from surefoot.deploy.history import SHIFTED, LogCheck
from surefoot.deploy.report import Report
from surefoot.journal import Event, Settings, snapshot
from surefoot.journal.bodies import logged
from surefoot.journal.state import DeploymentState
from surefoot.policyset.schema import PolicySet
from tests.audit.test_audit import MODES, SETS, tell
from tests.deploy.worlds import hand_made
from tests.journal.plants import Plant, rechained
from tests.journal.test_state import MISSING, Live

PARTS = {
    "costs": ("initial_state", "transitions", "signals"),
    "whole": (),
    "steps": ("signals",),
    "signals": ("transitions",),
}


def body_of(
    policy_set: PolicySet, n: int, seed: int, leave: tuple[str, ...] = (), factor: float = 1.0
) -> dict[str, Any]:
    """Body of a log of n episodes without some parts."""
    given = Plant(policy_set, seed=seed, cost_factor=factor).batch(list(range(n)), [0] * n)
    given = {name: value for name, value in given.items() if name not in (*leave, "ids")}
    report = {**MISSING, **given}
    return logged(
        Report.logged(*(report[name] for name in ("reward", "costs", "initial_state", "transitions", "signals")), 1)
    )


def lived(
    policy_set: PolicySet, settings: Settings, logs: list[dict[str, Any]], rounds: int = 6, size: int = 20
) -> list[Event]:
    live = Live(policy_set, settings)
    for body in logs:
        live.do("recalled", body)
    for k in range(rounds):
        asked = live.do("asked", {"n": size, "request": f"round {k}"})
        ids = list(range(asked["first"], asked["first"] + size))
        tell(live, Plant(policy_set), ids, dict(zip(ids, asked["draws"])))
    for _ in range(30):  # one by one, which is audited together
        asked = live.do("asked", {"n": 1, "request": None})
        tell(live, Plant(policy_set), [asked["first"]], {asked["first"]: asked["draws"][0]})
    return live.events


@pytest.mark.parametrize(
    ("kind", "mode", "parts", "ramp"),
    [
        ("returns", "cells", "whole", 50),
        ("all", "cells", "whole", 300),
        ("all", "cells", "costs", 50),
        ("all", "returns", "signals", 50),
        ("all", "returns", "costs", 0),
        ("signals", "envelope", "costs", 50),
        ("all", "envelope", "steps", 50),
        ("all", "data", "whole", 0),
        ("returns", "data", "whole", 0),
    ],
)
def test_an_honest_journal_with_logs_passes(kind: str, mode: str, parts: str, ramp: int) -> None:
    policy_set, settings = SETS[kind], Settings(seed=7, **{**MODES[mode], "ramp": ramp})
    logs = [body_of(policy_set, n, seed, PARTS[parts]) for n, seed in ((12, 5), (150, 6))]
    events = lived(policy_set, settings, logs)
    found = verify(policy_set, events)
    assert (found.first_disagreement, found.checked) == (None, len(events))
    kinds = [event.kind for event in events[: [event.kind for event in events].index("asked")]]
    assert ("ramp" in kinds) == (0 < ramp < 162 and mode != "data")
    state = DeploymentState(policy_set, settings)
    state.replay(events)
    assert state.logs == [body["log"] for body in logs] and state.agent.logged == 162
    resumed = snapshot.decode(snapshot.encode(state)[32:], policy_set, settings)
    assert resumed is not None and snapshot.encode(resumed) == snapshot.encode(state)


def test_a_log_of_what_a_plant_reports_where_more_than_the_mean_is_limited() -> None:
    """The log holds costs as they were reported; what is limited of them is measured on both sides."""
    limits = [sf.Exceeds(0.4, at_most=0.5), sf.CVaR(0.5, at_most=2.0, threshold=0.3)]
    reward = np.array([[2.0, 4.0], [2.0, 5.0]])
    cost = np.array([[[0.25, 0.5], [0.45, 0.8]], [[0.3, 0.6], [0.4, 0.7]]])
    policy_set = hand_made(reward, cost, width=0.3, limits=(0.5, 2.0), ceilings=(1.0, 8.0), margin=0.05)
    policy_set = replace(policy_set, criterion=sf.Criterion(0.9, limits, (0.0, 1.0), [1.0]))
    settings = Settings(seed=7, trust="envelope", ramp=50)
    costs = np.where(np.arange(80) % 4 == 0, 0.6, 0.1)[:, None]
    live = Live(policy_set, settings)
    live.do("recalled", logged(Report.logged(np.full(80, 2.0), costs, None, None, None, 1)))
    for k in range(30):
        asked = live.do("asked", {"n": 1, "request": None})
        report = Report.of([k], [2.0], [[0.1]], None, None, None, 1)
        live.do("told", report.body(), report)
    assert asked["first"] == 29 and verify(policy_set, live.events).first_disagreement is None
    cheaper = forged(live.events, 2, lambda body: redone(body, costs=(0.5 * costs).tolist()))
    assert not verify(policy_set, cheaper).ok


def forged(events: list[Event], which: int, change: Callable[[dict[str, Any]], dict[str, Any]]) -> list[Event]:
    """The same with another body of event ``which``."""
    new = list(events)
    new[which] = Event(new[which].seq, new[which].at, new[which].kind, change(new[which].body))
    return rechained(new)


def redone(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A forger who knows the format: the digest of the log fits."""
    n = len(changes.get("reward", body["reward"]))
    return logged(Report.recorded({**body, **changes, "ids": list(range(n))}))


@pytest.mark.parametrize("mode", ["cells", "envelope", "data"])
def test_whoever_forges_a_log_is_convicted(mode: str) -> None:
    policy_set = SETS["returns"]
    settings = Settings(seed=7, margin=0.05, **{**MODES[mode], "ramp": 0})
    events = lived(policy_set, settings, [body_of(policy_set, 500, 5)])
    assert verify(policy_set, events).first_disagreement is None
    assert events[2].kind == "recalled"

    def first(found: list[Event]) -> str:
        return str(verify(policy_set, found).first_disagreement)

    assert "digest" in first(forged(events, 2, lambda body: {**body, "costs": [[0.1]] * 500}))
    assert "digest" in first(forged(events, 2, lambda body: {**body, "log": "0" * 64}))
    halved = [[0.5 * c for c in row] for row in events[2].body["costs"]]
    assert "event 3" in first(forged(events, 2, lambda body: redone(body, costs=halved)))
    assert "event 3" in first(forged(events, 2, lambda body: redone(body, costs=[[1.4]] * 500)))
    assert "event" in first(
        forged(events, 2, lambda body: redone(body, reward=body["reward"][:50], costs=body["costs"][:50]))
    )
    assert first(rechained([*events[:2], *events[3:]])) != "None"  # dropped
    asked = [event.kind for event in events].index("asked")
    assert "twice" in first(rechained([*events[:asked], events[2], *events[asked:]]))
    late = rechained(
        [
            *events[: asked + 1],
            forged(events, 2, lambda body: redone(body, reward=[2.0] * 500))[2],
            *events[asked + 1 :],
        ]
    )
    assert "too late" in first(late)
    assert "cannot be true" in first(forged(events, 2, lambda body: redone(body, costs=[[-1.0]] * 500)))


def test_a_cost_above_its_ceiling_that_raised_no_alarm_is_noticed() -> None:
    policy_set, settings = SETS["returns"], Settings(seed=7, **MODES["data"])
    high = redone(body_of(policy_set, 30, 5), costs=[[5.0]] * 30)
    events = lived(policy_set, settings, [high], rounds=1)
    assert "alarm" in [event.kind for event in events[:6]] and verify(policy_set, events).first_disagreement is None
    quiet = rechained([event for event in events if event.kind != "alarm"])
    assert "alarm is missing" in str(verify(policy_set, quiet).first_disagreement)


def test_the_warning_about_a_log_follows_from_it() -> None:
    policy_set, settings = SETS["returns"], Settings(seed=7, **MODES["data"])
    rising = redone(body_of(policy_set, 100, 5), costs=[[0.2 + 0.002 * k] for k in range(100)])
    events = lived(policy_set, settings, [rising], rounds=1)
    noted = [k for k, event in enumerate(events) if event.kind == "noted"]
    assert len(noted) == 1 and SHIFTED in events[noted[0]].body["text"]
    assert verify(policy_set, events).first_disagreement is None
    assert "stationary" in str(
        verify(policy_set, rechained([*events[: noted[0]], *events[noted[0] + 1 :]])).first_disagreement
    )
    steady = lived(policy_set, settings, [body_of(policy_set, 100, 5)], rounds=1)
    added = rechained([*steady[:3], events[noted[0]], *steady[3:]])
    assert "stationary" in str(verify(policy_set, added).first_disagreement)


def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The safe policy's bound falls too far."""
    for kind, honest in ((CostBounds, CostBounds.recalled), (ProductRegion, ProductRegion.recalled)):
        monkeypatch.setattr(kind, "recalled", lambda self, costs, honest=honest: honest(self, 0.5 * costs))


def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts nothing."""
    for kind in (CostBounds, ProductRegion):
        monkeypatch.setattr(kind, "recalled", lambda self, costs: False)


def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """The evidence hears nothing of the log."""
    honest = Evidence.settle

    def settle(self: Evidence, report: Report, bets: Any, *, logged: bool = False) -> None:
        if not logged:
            honest(self, report, bets)

    monkeypatch.setattr(Evidence, "settle", settle)


def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """It never warns."""
    monkeypatch.setattr(LogCheck, "add", lambda self, outcomes: None)


@pytest.mark.parametrize(
    ("deviate", "mode"),
    [(lenient, "cells"), (lenient, "data"), (forgetful, "data"), (deaf, "cells"), (calm, "data")],
)
def test_an_agent_that_takes_logs_otherwise_is_found(
    deviate: Callable[[pytest.MonkeyPatch], None], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy_set = SETS["all" if deviate is deaf else "returns"]
    settings = Settings(seed=7, margin=0.05, **{**MODES[mode], "ramp": 0})
    body = body_of(policy_set, 500, 5)
    if deviate is calm:
        body = redone(body, costs=np.sort(np.array(body["costs"]), axis=0).tolist())
    assert verify(policy_set, lived(policy_set, settings, [body])).first_disagreement is None
    deviate(monkeypatch)
    assert not verify(policy_set, lived(policy_set, settings, [body])).ok
