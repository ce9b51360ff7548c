"""The audit: passes whatever an honest journal holds, and names the first lie of one whose digests fit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from surefoot import JournalError, PolicySet
from surefoot.audit import event, verify
from surefoot.audit.bounds import DataBounds
from surefoot.audit.cell_wealth import CellWealth
from surefoot.audit.groups import Group, PredictedBoxes
from surefoot.audit.monitor import CostWatch
from surefoot.audit.opening import Disagreement
from surefoot.audit.single_bets import e_variables
from surefoot.audit.walk import Audit
from surefoot.deploy import objective, tuning
from surefoot.deploy.bounds import CostBounds
from surefoot.deploy.evidence.mixture import FINAL, Evidence
from surefoot.deploy.evidence.transitions import log_ratios
from surefoot.deploy.monitor import Monitor
from surefoot.deploy.report import Report
from surefoot.journal import Event, Settings, events
from surefoot.journal.events import COMMANDS
from surefoot.journal.state import DeploymentState
from surefoot.policyset.schema import Certificate, Look
from surefoot.stats.ledger import Ledger
from tests.deploy.worlds import box_cells
from tests.journal.plants import Plant, rechained, small_set
from tests.journal.test_state import MISSING, Live

KINDS = sorted(
    COMMANDS
    | {
        "planned",
        "eliminated",
        "readmitted",
        "target",
        "noted",
        "flagged",
        "ramp",
        "barred",
        "protocol",
        "stage",
        "alarm",
        "hacked",
    }
)
SETS = {
    "returns": small_set(),
    "signals": small_set(signals=True),
    "all": small_set(kernel=True, states=True, signals=True),
}


def lived(
    policy_set: PolicySet,
    given_: Settings,
    truth: Plant,
    rounds: int,
    extra: Callable[[Live, int], None] | None = None,
    size: int = 20,
) -> list[Event]:
    """Rounds of episodes; a third of the reports comes one round late, every other round an episode is lost."""
    live = Live(policy_set, given_)
    late: tuple[list[int], dict[int, int]] = ([], {})
    for k in range(rounds):
        if extra is not None:
            extra(live, k)
        asked = live.do("asked", {"n": size, "request": f"round {k}"})
        ids = list(range(asked["first"], asked["first"] + size))
        draws = dict(zip(ids, asked["draws"]))
        if k % 2:
            live.do("lost", {"ids": [ids.pop(7)]})
        tell(live, truth, ids[10:], draws)
        tell(live, truth, ids[:4], draws)
        if late[0]:
            tell(live, truth, *late)
        late = (ids[4:10], draws)
    return live.events


def tell(live: Live, truth: Plant, ids: list[int], draws: dict[int, int]) -> None:
    """Report a group."""
    body = truth.batch(ids, [draws[k] for k in ids])
    report = Report.of(**{**MISSING, **body}, n_constraints=1)
    live.do("told", report.body(), report)


MODES: dict[str, dict[str, Any]] = {
    "cells": {"trust": "cells"},
    "independent": {"trust": "cells", "losses": "independent"},
    "returns": {"trust": "cells", "evidence": "returns"},
    "envelope": {"trust": "envelope"},
    "data": {"trust": "data", "cost_ceilings": (4.0,)},
    "own": {"trust": "data", "cost_ceilings": ((0.7,), (4.0,), (4.0,), (1.3,))},
    "own-envelope": {"trust": "envelope", "cost_ceilings": ((0.7,), (4.0,), (4.0,), (1.3,)), "joint_bounds": False},
    "own-cells": {"trust": "cells", "cost_ceilings": ((0.7,), (4.0,), (4.0,), (1.3,))},
}


@pytest.mark.parametrize(
    ("kind", "mode", "cost"),
    [
        ("returns", "cells", 1.0),
        ("all", "cells", 1.6),
        ("all", "independent", 1.0),
        ("all", "returns", 1.0),
        ("returns", "envelope", 1.0),
        ("all", "envelope", 1.6),
        ("signals", "envelope", 1.0),
        ("signals", "cells", 1.0),
        ("returns", "data", 1.6),
        ("all", "data", 1.0),
        ("all", "own", 1.0),
        ("all", "own", 1.6),  # more than declared: the alarm
        ("all", "own-envelope", 1.0),
        ("all", "own-cells", 1.0),
    ],
)
def test_an_honest_journal_passes(kind: str, mode: str, cost: float) -> None:
    unproved = mode in ("envelope", "data", "own", "own-envelope")
    rounds, size = (14, 50) if unproved else (9, 20)
    truth = Plant(SETS[kind], cost_factor=cost)
    events = lived(SETS[kind], Settings(seed=7, **MODES[mode]), truth, rounds, size=size)
    assert ("target" in {event.kind for event in events}) == unproved
    if mode.startswith("own"):
        assert ("alarm" in {event.kind for event in events}) == (cost > 1.0)
    found = verify(SETS[kind], events)
    assert (found.first_disagreement, found.ok, found.checked) == (None, True, len(events))


def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "TUNING", replace(tuning.TUNING, decided=1e9))


def hesitant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "TUNING", replace(tuning.TUNING, decided=-1e9))


def perverse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second best."""
    honest = objective.promises

    def swapped(policy_set: PolicySet, cells: Any) -> Any:
        found = honest(policy_set, cells)
        best, next_ = np.argsort(found.sum(axis=0))[-1], np.argsort(found.sum(axis=0))[-2]
        order = np.arange(found.shape[1])
        order[best], order[next_] = next_, best
        return found[:, order]

    monkeypatch.setattr(objective, "promises", swapped)


def contrary(monkeypatch: pytest.MonkeyPatch) -> None:
    """It aims at what promises least, and plays that once nothing is left to prove."""
    honest = objective.Objective.update

    def update(self: objective.Objective, *arguments: Any, **options: Any) -> tuple[bool, str | None]:
        found = honest(self, *arguments, **options)
        if found[0]:
            self.returns = -self.returns
        return found

    monkeypatch.setattr(objective.Objective, "update", update)


@pytest.mark.parametrize(
    ("deviate", "message"),
    [
        (hasty, "became the target before the task was known well enough"),
        (hesitant, r"the target must be the policy that promises most in the likeliest cells, got \[\]"),
        (perverse, r"the target must be the policy that promises most in the likeliest cells, got \[\d"),
        (contrary, "the best certified mixture has"),
    ],
)
def test_a_guess_that_is_not_followed_is_noticed(
    deviate: Callable[[pytest.MonkeyPatch], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deviate(monkeypatch)
    # With a ceiling of a million next to nothing but the safe policy is played, under which all cells look the same.
    modes = MODES | {"blind": {"trust": "data", "cost_ceilings": (1e6,)}}
    for kind, mode in (("returns", "envelope"), ("all", "data"), ("returns", "blind")):
        rounds = 40 if deviate is contrary else 6
        events = lived(SETS[kind], Settings(seed=7, **modes[mode]), Plant(SETS[kind]), rounds)
        found = verify(SETS[kind], events)
        if not found.ok:
            assert re.search(message, str(found.first_disagreement)), found.first_disagreement
            return
    pytest.fail("nobody noticed")


@dataclass(frozen=True)
class Faulty(Plant):
    """Its sensor fails in episodes 3 to 9."""

    def batch(self, episodes: list[int], policies: list[int]) -> dict[str, Any]:
        found = super().batch(episodes, policies)
        if any(3 <= k < 10 for k in episodes):
            found.pop("signals")
        return found


def test_a_sensor_that_fails_once_is_followed() -> None:
    """Its signal is then worth nothing to the guess, live and in the audit: all cells look the same under what is played."""
    settings_ = Settings(seed=7, trust="data", cost_ceilings=(1e6,))
    events = lived(SETS["signals"], settings_, Faulty(SETS["signals"]), 4)
    assert "target" not in {event.kind for event in events}
    assert verify(SETS["signals"], events).first_disagreement is None
    whole = lived(SETS["signals"], settings_, Plant(SETS["signals"]), 4)
    assert "target" in {event.kind for event in whole}
    assert verify(SETS["signals"], whole).first_disagreement is None


def test_a_plant_outside_the_family_is_followed_to_its_alarm() -> None:
    events = lived(SETS["returns"], Settings(seed=7), Plant(SETS["returns"], cost_factor=3.0), 14)
    assert "alarm" in {event.kind for event in events}
    assert verify(SETS["returns"], events).ok


def operate(live: Live, k: int) -> None:
    """Instructions between rounds."""
    if live.state.agent.waiting is not None and k % 3 == 0:
        live.do("approved", {"plan": live.state.plan_seq})
    if k in (2, 5):
        live.do("capped", {"weight": 0.3 if k == 2 else 1.0})
    if k == 4:
        live.do("paused", {"reason": "r"})
        live.do("resumed", {})
    if k == 10:
        live.do("aborted", {"reason": "r"})


@pytest.mark.parametrize("approve", [False, True])
def test_what_operators_do_is_followed(approve: bool) -> None:
    events = lived(SETS["all"], Settings(seed=7, approve=approve), Plant(SETS["all"]), 12, operate)
    assert verify(SETS["all"], events).first_disagreement is None


def test_many_draws_that_go_missing_are_followed() -> None:
    live = Live(SETS["returns"], Settings(seed=7, ramp=0))
    for k in range(8):
        size = 20 if k < 3 else 240
        asked = live.do("asked", {"n": size, "request": None})
        ids = list(range(asked["first"], asked["first"] + size))
        draws = dict(zip(ids, asked["draws"]))
        kept = [i for i in ids if draws[i] == 0] if k < 3 else ids
        if kept:
            tell(live, Plant(SETS["returns"]), kept, draws)
    assert [event.kind for event in live.events].count("flagged") == 1
    assert verify(SETS["returns"], live.events).first_disagreement is None


def test_a_report_that_never_comes_is_given_up_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surefoot.deploy.reorder.PATIENCE", 60)
    monkeypatch.setattr("surefoot.audit.order.PATIENCE", 60)
    live, truth = Live(SETS["returns"], Settings(seed=7)), Plant(SETS["returns"])
    asked = [live.do("asked", {"n": 20, "request": None}) for _ in range(8)]
    draws = {a["first"] + i: j for a in asked for i, j in enumerate(a["draws"])}
    for first in range(0, 160, 10):
        tell(live, truth, [k for k in range(first, first + 10) if k not in (3, 44)], draws)
    tell(live, truth, [3], draws)
    texts = [event.body["text"] for event in live.events if event.kind == "noted"]
    assert any("kept too many reports waiting" in text for text in texts)
    assert verify(SETS["returns"], live.events).first_disagreement is None


# ------------------------------------------------------------------------------------------------------------------ lies


@pytest.fixture(scope="module")
def honest() -> list[Event]:
    """A journal with eliminations, caps and approvals."""

    def extra(live: Live, k: int) -> None:
        if live.state.agent.waiting is not None and k % 2:
            live.do("approved", {"plan": live.state.plan_seq})
        if k == 3:
            live.do("capped", {"weight": 0.6})

    return lived(SETS["returns"], Settings(seed=7, approve=True, ramp=0), Plant(SETS["returns"]), 14, extra)


def audit(events: list[Event]) -> str:
    """What the audit says of a forged journal."""
    found = verify(SETS["returns"], rechained(events))
    assert not found.ok and found.first_disagreement is not None
    return found.first_disagreement


def position(events: list[Event], kind: str, which: int = 0) -> int:
    return [k for k, event in enumerate(events) if event.kind == kind][which]


def forged(
    events: list[Event], kind: str, which: int, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[Event]:
    where = position(events, kind, which)
    return [
        *events[:where],
        replace(events[where], body={**events[where].body, **change(events[where].body)}),
        *events[where + 1 :],
    ]


LIES: list[tuple[str, int, Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    ("opened", 0, lambda body: {"policy_set": "0" * 64}, "another hash"),
    ("opened", 0, lambda body: {"margin": 0.9}, "margin and ledger"),
    ("opened", 0, lambda body: {"ledger": [{"name": "x", "delta": 0.2, "purpose": "y"}]}, "margin and ledger"),
    ("opened", 0, lambda body: {"cost_ceilings": [1.0]}, "ceilings"),
    ("opened", 0, lambda body: {"settings": {**body["settings"], "seed": 8}}, "the seed and the mixture"),
    ("opened", 0, lambda body: {"settings": {**body["settings"], "p_max": 0.001}}, "needs coverage"),
    ("asked", 3, lambda body: {"draws": [3 - j if j in (0, 3) else j for j in body["draws"]]}, "was drawn as policy"),
    ("asked", 3, lambda body: {"first": body["first"] + 1}, "first, plan and settled"),
    ("asked", 3, lambda body: {"plan": 2}, "first, plan and settled"),
    ("asked", 3, lambda body: {"settled": body["settled"] + 1}, "first, plan and settled"),
    ("asked", 3, lambda body: {"draws": []}, "not certify"),
    ("told", 5, lambda body: {"ids": [0, *body["ids"][1:]]}, "told or lost twice"),
    ("told", 5, lambda body: {"transitions": [[8, 0, 1, 1]]}, "cannot be true"),
    ("told", 5, lambda body: {"transitions": [[0, 8, 1, 1]]}, "cannot be true"),
    ("told", 5, lambda body: {"initial_state": [8] * len(body["ids"])}, "cannot be true"),
    ("told", 5, lambda body: {"costs": [[-1.0]] * len(body["ids"])}, "cannot be true"),
    ("told", 5, lambda body: {"costs": [[0.1, 0.2]] * len(body["ids"])}, "cannot be true"),
    ("told", 5, lambda body: {"costs": [[9.9]] * len(body["ids"])}, "alarm is missing"),
    ("lost", 0, lambda body: {"ids": [10**6]}, "never asked"),
    ("eliminated", 0, lambda body: {"cells": [2]}, "log e-value"),
    ("eliminated", 0, lambda body: {"cells": []}, "was not eliminated"),
    ("eliminated", 0, lambda body: {"cells_left": 3}, "cells_left"),
    ("eliminated", 0, lambda body: {"log_wealth": [4.2 for _ in body["cells"]]}, "has the log e-value"),
    ("planned", 0, lambda body: {"waiting": None}, "was approved, waiting was"),
    (
        "planned",
        0,
        lambda body: {"weights": body["waiting"]["weights"], "bounds": body["waiting"]["bounds"]},
        "neither",
    ),
    ("planned", -1, lambda body: {"weights": {"0": 0.2, "1": 0.8}}, "not certify"),
    ("planned", -1, lambda body: {"weights": {"0": 0.2}}, "must be a mixture"),
    ("planned", -1, lambda body: {"bounds": [0.1]}, "certified costs"),
    ("planned", -1, lambda body: {"cells_left": 2}, "cells_left"),
    ("capped", 0, lambda body: {"weight": 1.4}, "a cap must"),
    ("capped", 0, lambda body: {"weight": 0.05}, "cap"),
    ("approved", 0, lambda body: {"plan": 1}, "was approved"),
]


@pytest.mark.parametrize("lie", range(len(LIES)))
def test_a_lie_is_named(honest: list[Event], lie: int) -> None:
    kind, which, change, complaint = LIES[lie]
    said = audit(forged(honest, kind, which, change))
    assert any(part in said for part in complaint.split("|")), said


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("told", "settled must be"),
        ("eliminated", "was not eliminated"),
        ("planned", "a plan"),
        ("opened", "opens once"),
    ],
)
def test_what_is_left_out_is_missed(honest: list[Event], kind: str, complaint: str) -> None:
    where = position(honest, kind)
    assert complaint in audit([*honest[:where], *honest[where + 1 :]])


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (Event(0, "", "eliminated", {"cells": [2], "log_wealth": [9.0], "cells_left": 2}), "do not follow"),
        (Event(0, "", "target", {"policy": 1, "text": "x"}), "do not follow"),
        (Event(0, "", "alarm", {"text": "wolf"}), "do not follow"),
        (Event(0, "", "flagged", {"policy": 1, "text": "x"}), "discarded selectively"),
        (Event(0, "", "hacked", {}), "do not follow"),
        (Event(0, "", "opened", {}), "opens once"),
        (Event(0, "", "told", {"ids": "x"}), "cannot be read|never asked"),
        (Event(0, "", "approved", {"plan": 2}), ""),
    ],
)
def test_what_is_added_is_noticed(honest: list[Event], event: Event, complaint: str) -> None:
    where = position(honest, "asked", 1) + 1
    said = audit([*honest[:where], event, *honest[where:]])
    assert any(part in said for part in complaint.split("|")), said


def test_an_episode_asked_during_a_pause_is_noticed(honest: list[Event]) -> None:
    where = position(honest, "asked", 2)
    assert "paused" in audit([*honest[:where], Event(0, "", "paused", {"reason": "r"}), *honest[where:]])


def test_an_abort_without_the_safe_policy_is_noticed(honest: list[Event]) -> None:
    where = position(honest, "asked", -1)
    assert re.search(
        "not safe after|after an alarm or an abort",
        audit([*honest[:where], Event(0, "", "aborted", {"reason": "r"}), *honest[where:]]),
    )


def test_a_plan_that_is_safe_but_not_the_best_is_noticed() -> None:
    live = Live(SETS["returns"], Settings(seed=7, ramp=0))
    body = live.events[1].body
    half = {j: 0.5 * w for j, w in body["weights"].items()}
    half["0"] = 1.0 - sum(w for j, w in half.items() if j != "0")
    cells = SETS["returns"].cells.predictions.cost_upper[..., 0]
    costs = max(
        float(sum(w * row[int(j)] for j, w in half.items())) for row in np.minimum(cells, live.state.agent.bounds[:, 0])
    )
    forgery = [live.events[0], replace(live.events[1], body={**body, "weights": half, "bounds": [costs]})]
    assert "the best certified mixture has" in audit(forgery)


def test_edited_bytes_break_the_chain(honest: list[Event]) -> None:
    edited = [*honest[:9], replace(honest[9], at="2020"), *honest[10:]]
    found = verify(SETS["returns"], edited)
    assert found.first_disagreement is not None and "event 10 breaks the chain" in found.first_disagreement
    swapped = [*honest[:9], honest[10], honest[9], *honest[11:]]
    assert not verify(SETS["returns"], swapped).ok


def test_nothing_to_audit_is_no_disagreement() -> None:
    assert verify(SETS["returns"], []).ok


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150)
@given(which=st.integers(0, 10**6), key=st.integers(0, 10**6), value=junk, kind=st.none() | st.sampled_from(KINDS))
@pytest.mark.slow
def test_no_forgery_breaks_a_reader(honest: list[Event], which: int, key: int, value: Any, kind: str | None) -> None:
    """Any part of any event replaced by anything: refused with the library's own errors, or without effect on any decision."""
    early = honest[:40]
    event = early[which % len(early)]
    names = [*sorted(event.body), "more"]
    forgery = replace(event, kind=kind or event.kind, body={**event.body, names[key % len(names)]: value})
    events = rechained([forgery if other is event else other for other in early])
    found = verify(SETS["returns"], events)
    assert found.ok == (found.first_disagreement is None)
    fold = DeploymentState(SETS["returns"], Settings(seed=7, approve=True))
    try:
        fold.replay(events)
    except JournalError as error:
        assert "must" in str(error)


# -------------------------------------------------------------------------- the second computation against the first


@pytest.mark.parametrize("selected", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_data_bounds_agree(rng: np.random.Generator, selected: bool, own: bool) -> None:
    start, ceilings, limits = np.full((3, 2), [9.0, 5.0]), np.array([10.0, 6.0]), np.array([1.0, 2.0])
    if own:
        ceilings = np.array([[8.0, 1.5], [10.0, 6.0], [3.0, 4.0]])
        start = np.minimum(start, ceilings)
    ours = DataBounds(start, ceilings, limits, 0.05, selected=selected)
    theirs = CostBounds(start, ceilings, limits, 0.05, selected=selected)
    if selected:
        ours.select(1, 30)
        theirs.select(1, 30)
    for first in range(0, 600, 50):
        draws = rng.integers(0, 3, 50)
        ours.asked(first, draws.tolist())
        theirs.asked(np.arange(first, first + 50), draws)
        ids = np.arange(first, first + 47)
        costs = rng.exponential(0.8, (47, 2))
        theirs.told(ids, draws[:47], costs)
        body = {"ids": ids.tolist(), "reward": [0.0] * 47, "costs": costs.tolist()}
        ours.told(Group(body, draws[:47].tolist()))
        assert np.allclose(ours.values, theirs.values, rtol=1e-8, atol=0.0)
    assert (ours.values < start).any()


def test_the_watch_on_costs_agrees(rng: np.random.Generator) -> None:
    limits, ceilings = np.array([1.0, 0.0]), np.array([9.0, 3.0])
    ours, theirs = CostWatch(limits, ceilings), Monitor(limits, ceilings, 0.01)
    for _ in range(40):
        costs = rng.exponential(1.1, (5, 2))
        ours.update(costs)
        theirs.update(costs)
        assert theirs.rejected == (ours.peak >= -math.log(0.01))
    assert theirs.rejected


def test_wealth_of_cells_agrees(rng: np.random.Generator) -> None:
    policy_set = SETS["all"]
    ceilings = np.array([4.0])
    theirs = Evidence(policy_set, "all", 0.05, ceilings)
    ours = CellWealth(policy_set, "all", PredictedBoxes(policy_set, ceilings), 0.05, final=FINAL)
    truth = Plant(policy_set)
    for first in range(0, 200, 10):
        draws = rng.integers(0, 4, 10).tolist()
        fixed = (ours.bets(), theirs.bets())
        assert (fixed[0] is None) == (fixed[1] is None)
        if fixed[0] is not None and fixed[1] is not None:
            assert np.allclose(fixed[0], fixed[1]["joint"], rtol=1e-9)
        body = {**MISSING, **truth.batch(list(range(first, first + 10)), draws)}
        report = Report.of(**body, n_constraints=1)
        ours.settle(Group(report.body(), draws), [fixed[0]] * 10)
        told = replace(report, drawn=np.array(draws))
        theirs.settle(told, [(fixed[1], np.arange(10))])
        if first % 60 == 50:
            ours.forfeit(2, fixed[0])
            theirs.forfeit(2, fixed[1])
        assert np.allclose(ours.log_wealth(), theirs.log_wealth(), rtol=1e-9, atol=1e-9)


def teste_variables_agree_and_are_bounded_over_the_box(rng: np.random.Generator) -> None:
    from surefoot.deploy.evidence.alternatives import choose_alternatives

    cells = box_cells(rng, cells=5, outside=3)
    kernel, outside = cells.kernel, cells.outside
    assert kernel is not None and outside is not None
    alternatives = choose_alternatives(cells, 1.5, 0.98, 0.006)
    theirs = log_ratios(cells, alternatives)
    points = np.concatenate([kernel.center, outside.kernel])
    pairs = kernel.support[:, 0] * 2 + kernel.support[:, 1]
    for pair in np.unique(pairs):
        span = np.flatnonzero(pairs == pair)
        ours = e_variables(points[:, span], kernel.lower[:, span], kernel.upper[:, span], alternatives.index)
        possible = kernel.upper.T[span][:, :, None] > 0.0
        assert np.allclose(np.where(possible, ours, 0.0), np.where(possible, theirs[span], 0.0), rtol=1e-7, atol=1e-7)
        for i in range(5):
            for r in range(alternatives.index.shape[1]):
                values = np.where(possible[:, i, 0], np.exp(ours[:, i, r]), 0.0)
                box = list(zip(kernel.lower[i, span], kernel.upper[i, span]))
                worst = linprog(-values, A_eq=np.ones((1, span.size)), b_eq=[1.0], bounds=box)
                assert -worst.fun <= 1.0 + 1e-9


@pytest.mark.parametrize(
    ("spent", "looks", "fine"), [(0.0, 0, True), (0.01, 0, False), (0.05, 0, False), (0.1, 0, False), (0.0, 1, False)]
)
def test_the_audit_charges_shared_episodes_and_earlier_looks(
    spent: float, looks: int, fine: bool, honest: list[Event]
) -> None:
    """No miss among 100, first look: 1 - .025^(1/100) = .0362 of the mass at a quarter of .1, .0384 at half of .04, .0429 at an eighth of .1."""
    ledger = Ledger(0.1).spend("simulation", spent, "episodes that all tasks share") if spent else Ledger(0.1)
    certificate, seen = Certificate(100, 0, 0.04, 0, 0.04, 0.05), (Look("other cells", 2, 100, 9, 0, 0.05),)
    looked = Audit(replace(SETS["returns"], ledger=ledger, certificate=certificate, looks=seen[:looks]))
    looked.group, looked.trust, looked.settings = honest[:1], "cells", {"delta_coverage": 0.1, "p_max": 0.037}
    if fine:
        looked._check_certificate()
        return
    with pytest.raises(Disagreement, match="needs coverage"):
        looked._check_certificate()


@pytest.mark.parametrize("excess", [-1e-6, 1e-6])
def test_the_audit_scales_what_simulation_adds_below_the_error_it_was_stated_at(
    excess: float, honest: list[Event]
) -> None:
    """beta = .1, 500 tasks without a miss, error 1e-10 for the limit: (1 - 1e-10^(1/500)) / .9."""
    stated = 1.0 - 1e-6 ** (1 / 500)
    certificate = Certificate(500, 0, 0.05, 0, 0.05, 0.05, simulation_error=stated / 9.0)
    looked = Audit(replace(SETS["returns"], certificate=certificate))
    p_max = (1.0 - 1e-10 ** (1 / 500)) / 0.9 + excess
    looked.group, looked.trust, looked.settings = honest[:1], "cells", {"delta_coverage": 4e-10, "p_max": p_max}
    if excess > 0.0:
        looked._check_certificate()
        return
    with pytest.raises(Disagreement, match="needs coverage"):
        looked._check_certificate()


def test_the_audits_own_kinds_of_events_are_those_of_the_journal() -> None:
    """Two lists on purpose: a kind added to one of them only would be audited wrongly, or not at all."""
    assert (event.COMMANDS, event.INERT) == (events.COMMANDS, events.INERT)
