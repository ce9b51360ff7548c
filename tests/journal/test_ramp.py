"""The ramp and barred policies in a journal: recorded, replayed, kept in snapshots, and recomputed by the audit, which names every lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot import JournalError, PolicySet
from surefoot.audit import verify
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.comparison import ReturnComparison
from surefoot.deploy.ramp import RAMP, Ramp
from surefoot.journal import Deployment, Event, Settings, snapshot
from surefoot.journal.state import DeploymentState
from tests.audit.test_audit import lived, tell
from tests.deploy.test_comparison import vague
from tests.journal.plants import Plant, drive, keep_snapshot, open_plant, rechained, small_set
from tests.journal.test_state import Live
from tests.refusals import refused


@dataclass(frozen=True)
class Worse(Plant):
    """Every policy but the safe one returns next to nothing."""

    def report(self, episode: int, policy: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, episode, policy])
        reward = {0: 4.0}.get(policy, 1.0) + rng.uniform(-0.5, 0.5)
        return {"reward": float(reward), "costs": [float(rng.uniform(0.3, 0.7))]}


@dataclass(frozen=True)
class Strange(Plant):
    """The safe policy returns far more than simulation says."""

    def report(self, episode: int, policy: int) -> dict[str, Any]:
        found = super().report(episode, policy)
        return {**found, "reward": found["reward"] + (4.0 if policy == 0 else 0.0)}


def certified_vague() -> PolicySet:
    found = vague()
    return replace(found, certificate=small_set().certificate)


@pytest.fixture(scope="module")
def vague_set() -> PolicySet:
    return certified_vague()


@pytest.fixture(scope="module")
def story(vague_set: PolicySet) -> list[Event]:
    """A ramp, and policies that are barred."""
    return lived(vague_set, Settings(seed=7, ramp=30), Worse(vague_set), 60, size=20)


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def test_a_story_with_ramp_and_barred_policies_passes_the_audit(story: list[Event], vague_set: PolicySet) -> None:
    assert kinds(story).count("ramp") == 1 and kinds(story).count("barred") >= 1
    barred = {event.body["policy"] for event in story if event.kind == "barred"}
    assert barred <= {1, 2, 3}
    last = [event for event in story if event.kind == "planned"][-1].body
    assert not barred & {int(j) for j in last["weights"]}
    found = verify(vague_set, story)
    assert (found.first_disagreement, found.ok) == (None, True)


def test_replay_leads_to_the_same_state(story: list[Event], vague_set: PolicySet) -> None:
    state = DeploymentState(vague_set, Settings(seed=7, ramp=30))
    state.replay(story)
    assert state.deviations == 0 and state.agent.barred and not state.agent.ramping


@pytest.mark.parametrize("trust", ["cells", "envelope"])
@pytest.mark.parametrize("rich", [False, True])
def test_an_alarm_of_the_ramp_is_followed(trust: Any, rich: bool) -> None:
    found = small_set(kernel=rich, states=rich, signals=rich)
    events = lived(found, Settings(seed=7, trust=trust), Strange(found), 8)
    assert "alarm" in kinds(events) and "ramp" not in kinds(events)
    assert all(set(event.body["draws"]) == {0} for event in events if event.kind == "asked")
    assert verify(found, events).first_disagreement is None


def test_an_alarm_of_the_ramp_alone_is_followed(vague_set: PolicySet) -> None:
    """Vague cells survive; the safe policy's predictions are sharp."""
    events = lived(vague_set, Settings(seed=7), Strange(vague_set), 8)
    texts = [event.body["text"] for event in events if event.kind == "alarm"]
    assert len(texts) == 1 and verify(vague_set, events).first_disagreement is None


# ------------------------------------------------------------------------------------------------------------------- lies


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ramp, "over", property(lambda self: self.compared >= 5))


def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ramp, "over", property(lambda self: False))


def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ramp, "alarm", lambda self: None)


def nervous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ramp, "alarm", lambda self: "no reason" if self.compared > 10 else None)


def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReturnComparison, "review", lambda self: np.zeros(0, dtype=np.int64))


def unjust(monkeypatch: pytest.MonkeyPatch) -> None:
    def review(self: ReturnComparison) -> Any:
        fresh = np.array([], dtype=np.int64) if self.barred[2] or self._counts.sum() < 100 else np.array([2])
        self.barred[fresh] = True
        return fresh

    monkeypatch.setattr(ReturnComparison, "review", review)


def sure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReturnComparison, "doubt", lambda self, settled: False)


def stubborn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Barred policies are played on."""
    honest = CertifiedAgent._program
    monkeypatch.setattr(CertifiedAgent, "_program", lambda self: replace(honest(self), barred=()))


@pytest.mark.parametrize(
    ("deviate", "truth", "message"),
    [
        (impatient, Plant, "too early"),
        (endless, Plant, "not at all"),
        (deaf, Strange, "an alarm is missing"),
        (nervous, Plant, "without cause"),
        (lenient, Worse, "was not barred"),
        (unjust, Worse, "policy 2 was barred"),
        (sure, Worse, "the best certified mixture has"),
        (stubborn, Worse, "do not certify"),
    ],
)
def test_an_agent_that_deviates_is_named(
    deviate: Callable[[pytest.MonkeyPatch], None], truth: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deviate(monkeypatch)
    found = certified_vague()
    plant = truth(small_set()) if truth is Plant else truth(found)
    used = small_set() if truth is Plant else found
    events = lived(used, Settings(seed=7, ramp=30), plant, 60 if truth is Worse else 8)
    assert message in str(verify(used, events).first_disagreement)


def test_a_plan_that_moves_the_weight_in_the_ramp_is_named(vague_set: PolicySet) -> None:
    live = Live(vague_set, Settings(seed=7))
    body = live.events[1].body
    moved = replace(live.events[1], body={**body, "weights": {"0": 0.5, "3": 0.5}, "bounds": [0.6]})
    assert "do not certify" in str(verify(vague_set, rechained([live.events[0], moved])).first_disagreement)
    state = DeploymentState(vague_set, Settings(seed=7))
    with pytest.raises(JournalError):
        state.replay(rechained([live.events[0], moved]))


def test_a_setting_that_hides_the_ramp_is_named(story: list[Event], vague_set: PolicySet) -> None:
    for ramp in (0, 5, 500):
        body = {**story[0].body, "settings": {**story[0].body["settings"], "ramp": ramp}}
        assert not verify(vague_set, rechained([replace(story[0], body=body), *story[1:]])).ok


# ---------------------------------------------------------------------------------------------------- settings, snapshots


def test_journals_from_before_there_was_a_ramp_have_none() -> None:
    body = Settings(seed=3).as_dict()
    del body["ramp"]
    assert Settings.recorded({"settings": body}).ramp == 0
    found = small_set()
    live = Live(found, Settings(seed=7, ramp=0))
    asked = live.do("asked", {"n": 20, "request": None})
    tell(live, Plant(found), list(range(20)), dict(enumerate(asked["draws"])))
    old = {**live.events[0].body, "settings": {k: v for k, v in live.events[0].body["settings"].items() if k != "ramp"}}
    events = rechained([replace(live.events[0], body=old), *live.events[1:]])
    assert verify(found, events).ok
    state = DeploymentState(found, Settings.recorded(old))
    state.replay(events)
    assert state.opened == 20 and state.agent.plan.weights[0] < 1.0


def test_the_setting_is_recorded_and_must_agree(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set, ramp=12) as plant:
        assert plant.settings.ramp == 12
    with refused("SF-SETTINGS-CHANGED", "ramp", "12"):
        open_plant(disk / "plant.db", tiny_set, ramp=13)
    with Deployment.open(disk / "other.db", tiny_set) as plant:
        assert plant.settings.ramp == RAMP and plant.status().weights == {0: 1.0}
        assert "the ramp: 0 of" in plant.status().text


def test_a_snapshot_keeps_the_comparison(disk: Path, vague_set: PolicySet, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = Worse(vague_set)
    with open_plant(disk / "plant.db", vague_set, ramp=30) as plant:
        drive(plant, truth, 20)
        keep_snapshot(plant)
    with open_plant(disk / "plant.db", vague_set, ramp=30) as plant:
        with monkeypatch.context() as patch:
            patch.setattr(DeploymentState, "replay", lambda self, events: list(events) and None)
            assert plant._caught().agent.ramping
        drive(plant, truth, 150)
        keep_snapshot(plant)
        whole = snapshot.encode(plant._caught())
        assert plant.verify().ok
        events = list(plant.events())
    state = DeploymentState(vague_set, Settings(seed=7, ramp=30))
    state.replay(events)
    again = snapshot.decode(whole[32:], vague_set, Settings(seed=7, ramp=30))
    assert again is not None
    for one in (state, again):
        one.settle()
        assert one.agent._reality.ramp is not None and one.agent._reality.comparison is not None
    left, right = state.agent, again.agent
    assert left._reality.ramp.log_wealth == right._reality.ramp.log_wealth  # type: ignore[union-attr]
    np.testing.assert_array_equal(left._reality.comparison.upper, right._reality.comparison.upper)  # type: ignore[union-attr]
    np.testing.assert_array_equal(left.plan.weights, right.plan.weights)
