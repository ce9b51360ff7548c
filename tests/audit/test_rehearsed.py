"""The audit of rehearsed deployments: honest journals pass, and forged ones are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from surefoot import PolicySet
from surefoot.audit import verify
from surefoot.deploy.belief import planner, rehearsed
from surefoot.deploy.belief.planner import following_time
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.deploy.report import Report
from surefoot.journal import Event, Settings, snapshot
from surefoot.journal.bodies import logged
from surefoot.journal.operator import SupervisedAgent
from surefoot.journal.state import DeploymentState
from surefoot.policyset.rehearsed import RehearsalLook
from tests.journal.plants import Plant, rechained
from tests.journal.rehearsed import SETS, rehearsed_set, rehearsing
from tests.journal.test_state import MISSING, Live, nothing_follows, tell_one
from tests.refusals import refused

Then = Callable[[Live, int], None]


@dataclass(frozen=True)
class Strange(Plant):
    """It returns more than any task of the family."""

    def report(self, episode: int, policy: int) -> dict[str, Any]:
        found = super().report(episode, policy)
        return {**found, "reward": found["reward"] + 15.0}


def tell(live: Live, truth: Plant, ids: list[int], draws: dict[int, int]) -> None:
    report = Report.of(**{**MISSING, **truth.batch(ids, [draws[k] for k in ids])}, n_constraints=1)
    live.do("told", report.body(), report)


def lived(
    policy_set: PolicySet, rung: Rung, episodes: int = 90, extra: Then | None = None, *, delay: int | None = None,
    lose: tuple[int, ...] = (), together: bool = False, strange: bool = False, **settings: Any,
) -> list[Event]:  # fmt: skip
    """A deployment whose reports take the whole delay of the rung (or ``delay``); ``together``: a batch is told at once."""
    delay = rung.delay if delay is None else delay
    live = Live(policy_set, Settings(seed=7, trust="rehearsed", **settings))
    truth: Plant = Strange(policy_set) if strange else Plant(policy_set)
    waiting: list[list[int]] = []
    draws: dict[int, int] = {}
    while live.state.opened < episodes:
        if extra is not None:
            extra(live, live.state.opened)
        asked = live.do("asked", {"n": rung.batch})
        ids = list(range(asked["first"], asked["first"] + rung.batch))
        draws.update(zip(ids, asked["draws"]))
        waiting.append(ids)
        while waiting and waiting[0][-1] < live.state.opened - delay:
            ready = [k for k in waiting.pop(0) if live.state.agent.is_pending(k)]
            ready = [k for k in ready if k not in lose or live.do("lost", {"ids": [k]}) is None]
            if together and ready:
                tell(live, truth, ready, draws)
            else:
                for k in ready:
                    tell(live, truth, [k], draws)
    return live.events


def kinds(events: list[Event]) -> set[str]:
    return {event.kind for event in events}


ALONE, TOGETHER, CAPPED = (
    (rehearsing(), {}),
    (rehearsing(batch=5, delay=10, episodes=70), {"together": True}),
    (rehearsing(delay=7, exposure=0.8, surprise=50.0), {}),
)


@pytest.mark.parametrize(
    ("kind", "rung", "how"),
    [("moves", *ALONE), ("all", *ALONE), ("all", *TOGETHER), ("returns", *TOGETHER), ("signals", *CAPPED)],
)
def test_an_honest_journal_passes_and_replays(kind: str, rung: Rung, how: dict[str, Any]) -> None:
    policy_set = rehearsed_set(kind, rung)
    events = lived(policy_set, rung, **how)
    assert "protocol" not in kinds(events)
    moved = [event for event in events if event.kind == "planned"]
    assert len({str(event.body["weights"]) for event in moved}) > 4
    found = verify(policy_set, events)
    assert (found.first_disagreement, found.ok, found.checked) == (None, True, len(events))
    state = DeploymentState(policy_set, Settings(seed=7, trust="rehearsed"))
    state.replay(events)
    nothing_follows(state)
    half = DeploymentState(policy_set, Settings(seed=7, trust="rehearsed"))
    half.replay(events[: len(events) // 2])
    half.settle()
    resumed = snapshot.decode(snapshot.encode(half)[32:], policy_set, Settings(seed=7, trust="rehearsed"))
    assert resumed is not None
    resumed.replay(events[len(events) // 2 :])
    nothing_follows(resumed)
    assert snapshot.encode(resumed) == snapshot.encode(state)
    assert state.deviations == 0


# ------------------------------------------------------------------------------------------------------ leaving the protocol


def at(when: int, do: Then) -> Then:
    """Something that happens once, when so many episodes were asked."""
    return lambda live, opened: do(live, opened) if opened == when else None


def two_at_once(live: Live, opened: int) -> None:
    asked = live.do("asked", {"n": 2})
    for k, j in enumerate(asked["draws"]):
        tell(live, Plant(live.state.policy_set), [asked["first"] + k], {asked["first"] + k: j})


def across_plans(live: Live, opened: int) -> None:
    """Two episodes that enter different plans, told together."""
    agent = live.state.agent
    assert isinstance(agent, SupervisedAgent) and agent.rehearsed is not None
    plan_for, pending = agent.rehearsed.planner.plan_for, agent.open_episodes
    apart = next([k, k + 1] for k in sorted(pending) if k + 1 in pending and plan_for(k) != plan_for(k + 1))
    tell(live, Plant(live.state.policy_set), apart, pending)


LEAVING: dict[str, tuple[Rung, dict[str, Any], str]] = {
    "late": (rehearsing(delay=3), {"delay": 5}, "later than"),
    "across a plan": (rehearsing(), {"extra": at(5, two_at_once)}, "at once"),
    "told together": (rehearsing(delay=5), {"extra": at(30, across_plans)}, "told together"),
    "lost": (rehearsing(), {"lose": (20,)}, "1 of 21 episodes are lost"),
    "lost beyond chance": (rehearsing(lost=0.02), {"lose": (20, 21, 22, 23, 24)}, "episodes are lost"),
    "capped": (rehearsing(), {"extra": at(9, lambda live, _: live.do("capped", {"weight": 0.5}))}, "0.5 is below"),
    "approval": (rehearsing(), {"approve": True}, "approval"),
    "history": (rehearsing(history=10), {}, "10 logged episodes"),
}


@pytest.mark.parametrize("name", sorted(LEAVING))
def test_leaving_the_protocol_is_recorded_and_followed(name: str) -> None:
    rung, how, words = LEAVING[name]
    policy_set = rehearsed_set(sorted(SETS)[len(name) % 4], rung)
    events = lived(policy_set, rung, 40, **how)
    where = [k for k, event in enumerate(events) if event.kind == "protocol"]
    assert len(where) == 1 and words in events[where[0]].body["text"]
    after = next(event for event in events[where[0] :] if event.kind in ("planned", "asked"))
    assert after.kind == "planned" and "the belief" not in str(after.body["reasons"])
    assert verify(policy_set, events).first_disagreement is None
    given = Settings(seed=7, trust="rehearsed", **({"approve": True} if name == "approval" else {}))
    state = DeploymentState(policy_set, given)
    state.replay(events)
    nothing_follows(state)
    assert state.agent.rehearsed is not None and words in str(state.agent.rehearsed.left)
    resumed = snapshot.decode(snapshot.encode(state)[32:], policy_set, given)
    assert resumed is not None and snapshot.encode(resumed) == snapshot.encode(state)
    assert "protocol" not in [entry.kind for entry in resumed.advance("paused", {"reason": "r"})]
    concealed = rechained([event for event in events if event.kind != "protocol"])
    assert "concealed" in str(verify(policy_set, concealed).first_disagreement)


STAYING: dict[str, tuple[Rung, dict[str, Any]]] = {
    "pause": (rehearsing(), {"extra": at(9, lambda live, _: [live.do("paused", {"reason": "r"}), live.do("resumed", {})])}),
    "a limit that was rehearsed": (
        rehearsing(exposure=0.5), {"extra": at(9, lambda live, _: live.do("capped", {"weight": 0.5}))},
    ),
    "a limit that was lifted": (rehearsing(), {"extra": at(9, lambda live, _: live.do("capped", {"weight": 1.0}))}),
    "within the delay": (rehearsing(delay=9), {"delay": 4}),
    "lost within the share": (rehearsing(lost=0.1), {"lose": (20, 40)}),
    "divisors of the batch": (rehearsing(batch=4), {"extra": lambda live, opened: two_at_once(live, opened)}),
    "abort": (rehearsing(), {"extra": at(30, lambda live, _: live.do("aborted", {"reason": "r"}))}),
    "after the last plan": (rehearsing(episodes=20), {"extra": at(40, two_at_once), "lose": (45, 46, 47, 48)}),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(STAYING))
def test_what_was_rehearsed_and_stops_leave_nothing(name: str) -> None:
    rung, how = STAYING[name]
    policy_set = rehearsed_set("returns", rung)
    played = replace(rung, batch=2) if name == "divisors of the batch" else rung
    events = lived(policy_set, played, 50, **how)
    assert "protocol" not in kinds(events)
    assert verify(policy_set, events).first_disagreement is None
    last = [event for event in events if event.kind == "planned"][-1]
    assert (last.body["weights"] == {"0": 1.0}) == (name == "abort")


def test_a_surprising_plant_alarms_before_the_plan() -> None:
    rung = rehearsing(surprise=1.0, delay=4)
    policy_set = rehearsed_set("returns", rung)
    events = lived(policy_set, rung, 60, strange=True)
    where = next(k for k, event in enumerate(events) if event.kind == "alarm")
    assert "surprise" in events[where].body["text"]
    assert events[where + 1].kind == "planned" and events[where + 1].body["weights"] == {"0": 1.0}
    assert verify(policy_set, events).first_disagreement is None
    silent = rechained([*events[:where], *events[where + 1 :]])
    assert "alarm is missing" in str(verify(policy_set, silent).first_disagreement)


def test_a_move_that_no_training_task_makes_alarms() -> None:
    policy_set = rehearsed_set("moves", rehearsing(surprise=1e6))
    live = Live(policy_set, Settings(seed=7, trust="rehearsed"))
    for k in range(12):
        asked = live.do("asked", {"n": 1})
        body = Plant(policy_set).batch([k], asked["draws"])
        if k == 11:
            body["transitions"] = [[0, 0, 0, 1], *body["transitions"]]
        report = Report.of(**{**MISSING, **body}, n_constraints=1)
        live.do("told", report.body(), report)
    assert live.state.agent.alarm is not None and "alarm" in kinds(live.events)
    assert verify(policy_set, live.events).first_disagreement is None


# -------------------------------------------------------------------------------------------------------------- forgeries


def forge(
    events: list[Event], kind: str, which: int, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[Event]:
    where = [k for k, event in enumerate(events) if event.kind == kind][which]
    found = [*events]
    found[where] = replace(found[where], body={**found[where].body, **change(found[where].body)})
    return rechained(found)


def bolder(body: dict[str, Any]) -> dict[str, Any]:
    (j,) = (j for j in body["weights"] if j != "0")
    return {"weights": {"0": body["weights"]["0"] - 0.01, j: body["weights"][j] + 0.01}}


LIES: list[tuple[str, int, Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    ("planned", 6, bolder, "rehearsed for this moment"),
    ("planned", 6, lambda body: {"weights": {"0": 1.0}}, "rehearsed for this moment"),
    ("planned", 6, lambda body: {"bounds": [body["bounds"][0] - 0.01]}, "the belief takes"),
    ("planned", 6, lambda body: {"waiting": {"weights": {"0": 1.0}}}, "rehearsed for this moment"),
    ("planned", 6, lambda body: {"cells_left": 2}, "cells_left"),
    ("told", 3, lambda body: {"costs": [[3.9]]}, "rehearsed for this moment"),
    ("told", 30, lambda body: {"reward": [90.0]}, "rehearsed for this moment"),
    ("opened", 0, lambda body: {"rehearsed": {**body["rehearsed"], "boldness": 1.4}}, "certifies"),
    (
        "opened",
        0,
        lambda body: {"rehearsed": {**body["rehearsed"], "evidence": "returns"}},
        "certifies",
    ),
    ("opened", 0, lambda body: {"rehearsed": {**body["rehearsed"], "delay": 3}}, "certifies"),
]


@pytest.fixture(scope="module")
def honest() -> list[Event]:
    return lived(rehearsed_set("returns", rehearsing()), rehearsing(), 40)


@pytest.mark.parametrize("lie", range(len(LIES)))
def test_a_lie_is_named(honest: list[Event], lie: int) -> None:
    kind, which, change, complaint = LIES[lie]
    found = verify(rehearsed_set("returns", rehearsing()), forge(honest, kind, which, change))
    assert not found.ok and any(part in str(found.first_disagreement) for part in complaint.split("|")), found


def test_a_plan_that_is_left_out_and_a_departure_without_cause_are_noticed(honest: list[Event]) -> None:
    where = [k for k, event in enumerate(honest) if event.kind == "planned"][9]
    left_out = rechained([*honest[:where], *honest[where + 1 :]])
    assert not verify(rehearsed_set("returns", rehearsing()), left_out).ok
    told = [k for k, event in enumerate(honest) if event.kind == "told"][9]
    left = rechained([*honest[: told + 1], Event(0, "", "protocol", {"text": "x"}), *honest[told + 1 :]])
    assert "without cause" in str(verify(rehearsed_set("returns", rehearsing()), left).first_disagreement)


# ---------------------------------------------------------------------------------------------------------------- mutants


def bold(patch: pytest.MonkeyPatch) -> None:
    """It plays a bolder rung than it says."""
    honest_planner = Rung.planner
    patch.setattr(Rung, "planner", lambda self, policy_set: honest_planner(replace(self, boldness=1.3), policy_set))


def other_times(patch: pytest.MonkeyPatch) -> None:
    """It plans every second time."""
    for module in (planner, rehearsed):
        patch.setattr(
            module, "following_time", lambda time, batch=1: following_time(following_time(time, batch), batch)
        )


def impatient(patch: pytest.MonkeyPatch) -> None:
    """It plans before the reports are there."""
    patch.setattr(planner.BeliefPlanner, "missing", lambda self: 0)


def early(patch: pytest.MonkeyPatch) -> None:
    """Reports after the cutoff enter."""
    honest_cutoff = planner.BeliefPlanner.cutoff_at
    patch.setattr(planner.BeliefPlanner, "cutoff_at", lambda self, time: honest_cutoff(self, time + 2))


def stubborn(patch: pytest.MonkeyPatch) -> None:
    """It goes on outside the protocol."""
    patch.setattr(rehearsed.RehearsedPlan, "leave", lambda self, reason, opened: False)


def shameless(patch: pytest.MonkeyPatch) -> None:
    """It says that it left, and goes on as before."""
    said = rehearsed.RehearsedPlan.leave

    def leave(self: rehearsed.RehearsedPlan, reason: str, opened: int) -> bool:
        found = said(self, reason, opened) and not hasattr(self, "told_once")
        self.left, self.told_once = None, True  # type: ignore[attr-defined]
        return found

    patch.setattr(rehearsed.RehearsedPlan, "leave", leave)


def unimpressed(patch: pytest.MonkeyPatch) -> None:
    """Nothing surprises it."""
    patch.setattr(rehearsed.RehearsedPlan, "surprised", property(lambda self: False))


def unlimited(patch: pytest.MonkeyPatch) -> None:
    """The exposure that was rehearsed is exceeded."""
    honest_planner = Rung.planner
    patch.setattr(Rung, "planner", lambda self, policy_set: honest_planner(replace(self, exposure=1.0), policy_set))


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], Rung, dict[str, Any]]] = [
    (bold, rehearsing(), {}),
    (other_times, rehearsing(), {}),
    (impatient, rehearsing(delay=3), {"delay": 6}),
    (early, rehearsing(delay=6), {"delay": 0}),
    (stubborn, rehearsing(delay=3), {"delay": 6}),
    (stubborn, rehearsing(), {"extra": at(9, two_at_once)}),
    (shameless, rehearsing(), {"lose": (15,)}),
    (unimpressed, rehearsing(surprise=1.0), {"strange": True}),
    (unlimited, rehearsing(exposure=0.5), {}),
]


@pytest.mark.parametrize("mutant", range(len(MUTANTS)))
def test_an_agent_that_does_otherwise_is_found(mutant: int, monkeypatch: pytest.MonkeyPatch) -> None:
    deviate, rung, how = MUTANTS[mutant]
    policy_set = rehearsed_set("returns", rung)
    deviate(monkeypatch)
    assert not verify(policy_set, lived(policy_set, rung, 40, **how)).ok


@pytest.mark.parametrize(
    "changes",
    [
        {"rehearsed": None},
        {"rehearsal_looks": (RehearsalLook("abc", 500, (0,), 0.05),)},
        {"rungs": 15},
        {"upper": 0.03},
        {"judging_error": 0.3},
        {"evidence": "returns"},
    ],
)
def test_a_certificate_that_does_not_follow_from_its_counts_is_noticed(changes: dict[str, Any]) -> None:
    """Files may come from anybody: the binomial tests are repeated."""
    policy_set = rehearsed_set("returns", rehearsing())
    events, certificate = Live(policy_set, Settings(seed=7, trust="rehearsed")).events, policy_set.rehearsed
    assert verify(policy_set, events).ok and certificate is not None and certificate.rung is not None
    if "rungs" in changes:  # one violating run more than the limit allows
        worse = replace(certificate.rung, violating=certificate.rung.violating + 3, upper=certificate.rung.upper)
        changes = {"rungs": (worse, certificate.rungs[1])}
    if "upper" in changes:
        changes["rungs"] = (replace(certificate.rung, upper=0.03), certificate.rungs[1])
    mine = [name for name in changes if not name.startswith("rehears")]
    rehearsed_ = replace(certificate, **changes) if mine else certificate
    forged_set = replace(policy_set, **({"rehearsed": rehearsed_} if mine else changes))
    opened = replace(events[0], body={**events[0].body, "policy_set": forged_set.hash})
    found = verify(forged_set, rechained([opened, *events[1:]]))
    assert not found.ok and "rehears" in str(found.first_disagreement)


# ---------------------------------------------------------------------------------------------------------------- history


def with_history(kind: str, given: int, rung: Rung) -> list[Event]:
    """A deployment that is given logged episodes of the safe policy, in two parts."""
    policy_set = rehearsed_set(kind, rung)
    live, before = Live(policy_set, Settings(seed=7, trust="rehearsed")), Plant(policy_set, seed=5)
    for part in (range(given // 2), range(given // 2, given)):
        body = before.batch(list(part), [0] * len(part))
        report = Report.of(**{**MISSING, **body}, n_constraints=1)
        live.do("recalled", logged(report))
    for _ in range(20):
        tell_one(live, Plant(policy_set))
    return live.events


@pytest.mark.parametrize("kind", sorted(SETS))
def test_logged_episodes_enter_the_first_plan(kind: str) -> None:
    rung = rehearsing(history=30)
    policy_set, events = rehearsed_set(kind, rung), with_history(kind, 30, rung)
    assert "protocol" not in kinds(events)
    happened = [event.kind for event in events if event.kind != "target"]  # data bounds run along
    assert happened[:5] == ["opened", "planned", "recalled", "recalled", "planned"]
    assert verify(policy_set, events).first_disagreement is None
    state = DeploymentState(policy_set, Settings(seed=7, trust="rehearsed"))
    state.replay(events)
    nothing_follows(state)
    resumed = snapshot.decode(snapshot.encode(state)[32:], policy_set, Settings(seed=7, trust="rehearsed"))
    assert resumed is not None and snapshot.encode(resumed) == snapshot.encode(state)
    assert not verify(policy_set, rechained([*events[:2], *events[3:]])).ok
    assert not verify(policy_set, rechained([*events[:3], events[2], *events[3:]])).ok

    def costly(body: dict[str, Any]) -> dict[str, Any]:
        ids = {"ids": list(range(len(body["reward"])))}
        return logged(Report.recorded({**body, **ids, "costs": [[3.0]] * len(body["costs"])}))

    assert "digest" in str(
        verify(
            policy_set, forge(events, "recalled", 1, lambda body: {**costly(body), "log": body["log"]})
        ).first_disagreement
    )
    assert verify(policy_set, forge(events, "recalled", 1, costly)).ok == (
        kind == "moves"
    )  # where outcomes say nothing
    asked = [event.kind for event in events].index("asked")
    late = rechained([*events[: asked + 1], events[2], *events[asked + 1 :]])
    assert "too late" in str(verify(policy_set, late).first_disagreement)


def test_too_few_logged_episodes_leave_the_protocol_and_too_many_are_refused() -> None:
    rung = rehearsing(history=30)
    events = with_history("returns", 20, rung)
    assert [event.kind for event in events if event.kind in ("asked", "protocol")][:2] == ["asked", "protocol"]
    assert verify(rehearsed_set("returns", rung), events).first_disagreement is None
    with refused("SF-CONFLICT-HISTORY", "15"):
        with_history("returns", 31, rung)
    with refused("SF-CONFLICT-HISTORY", "0"):
        with_history("returns", 10, rehearsing())
