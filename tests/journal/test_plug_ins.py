"""A trust level, a kind of evidence and an agent of one's own: one class and one registration each, from agent to audit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot.arrays import FloatArray
from surefoot.audit import verify
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.evidence.base import (
    EvidenceKind,
    EvidenceSetting,
    Placed,
    evidence_names,
    register_evidence,
    unregister_evidence,
)
from surefoot.deploy.report import Report
from surefoot.deploy.tracker import Batch, EpisodeTracker
from surefoot.deploy.trust import Knowledge, Rows, TrustLevel, register_trust_level, trust_level, unregister_trust_level
from surefoot.journal import Deployment, snapshot
from surefoot.journal.agents import register_agent, unregister_agent
from surefoot.journal.settings import Settings
from surefoot.policy import Mixture
from surefoot.policyset import PolicySet
from surefoot.report.deployment import render
from surefoot.stateful import Stateful
from tests.journal.plants import Plant, small_set
from tests.refusals import refused


@dataclass(frozen=True)
class HalfWay(TrustLevel):
    """Costs are at most half way between the mean and the largest prediction."""

    name = "half-way"
    assumes = "no policy costs more than half way between the cells' mean and their largest prediction"
    exploration: float = 0.5

    def start(self, policy_set: PolicySet, ceilings: FloatArray, margin: float) -> FloatArray:
        upper = policy_set.cells.predictions.cost_upper
        start: FloatArray = 0.5 * (upper.mean(axis=0) + upper.max(axis=0))
        start[0] = np.minimum(start[0], policy_set.criterion.cost_limits - margin)
        return start

    def rows(self, known: Knowledge) -> Rows:
        return Rows(known.objective, known.bounds[None], ("half way",), 0)


class FirstEpisodes(EvidenceKind):
    """A process that never bets: a constant, which is a supermartingale. It counts what it saw."""

    name = "first-episodes"
    CHANGES = ("seen", "gone")

    def __init__(self, setting: EvidenceSetting) -> None:
        super().__init__(setting)
        self.seen = np.zeros(len(setting.policy_set.cells))
        self.gone = 0

    def settle(self, report: Report, broken: Any, placed: Placed, watched: Any) -> None:
        self.seen[watched] += report.ids.size

    def forfeit(self, policy: int, fixed: FloatArray | None, watched: Any) -> None:
        self.gone += 1

    def log_wealth_of(self, watched: Any) -> FloatArray:
        return np.zeros(self.seen.size)


class Bandit(Stateful):
    """Plays the policy of largest mean return most of the time, and knows nothing of costs."""

    CHANGES = ("_tracker", "_sums", "_counts")
    wants: frozenset[str] = frozenset()

    def __init__(self, policy_set: PolicySet, seed: int) -> None:
        criterion, rng = policy_set.criterion, np.random.default_rng(seed)
        ranges = criterion.return_range, criterion.cost_ceilings
        self._tracker = EpisodeTracker(policy_set.policies, criterion, *ranges, rng)
        self._sums, self._counts = np.zeros((2, len(policy_set.policies)))

    @property
    def policies(self) -> Any:
        return self._tracker.policies

    @property
    def weights(self) -> FloatArray:
        size = self._counts.size
        weights = np.full(size, 0.2 / size)
        weights[int((self._sums / np.maximum(self._counts, 1.0)).argmax())] += 0.8
        return weights

    def ask(self, n: int | None = None) -> Any:
        batch = self._tracker.open(Mixture(self.weights), 1 if n is None else n)
        return batch[0] if n is None else batch

    def tell(self, ids: Any, reward: Any, costs: Any, **optional: Any) -> None:
        report = self._tracker.check(ids, reward, costs)
        self._tracker.close(report)
        np.add.at(self._sums, report.policy_index, report.reward)
        np.add.at(self._counts, report.policy_index, 1.0)

    def lost(self, ids: Any) -> None:
        self._tracker.forget(ids)


@pytest.fixture(scope="module")
def policy_set() -> PolicySet:
    return small_set()


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register_trust_level(HalfWay())
    register_evidence("watched", {"joint": 0.5, "first-episodes": 0.5}, FirstEpisodes)
    register_agent("bandit", lambda policy_set, settings: Bandit(policy_set, settings.seed))
    yield
    unregister_trust_level("half-way")
    unregister_evidence("watched")
    unregister_agent("bandit")


PARTS: dict[str, dict[str, Any]] = {
    "trust": {"trust": "half-way", "ramp": 5},
    "evidence": {"evidence": "watched", "trust": "envelope", "ramp": 5},
    "agent": {"agent": "bandit"},
}


def play(plant: Deployment, world: Plant, rounds: int, size: int = 10) -> None:
    for _ in range(rounds):
        asked = plant.ask(size)
        plant.tell(**world.batch(asked.ids.tolist(), asked.policy_index.tolist()))


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_part_of_ones_own_goes_all_the_way(part: str, disk: Path, policy_set: PolicySet) -> None:
    """Agent, journal, snapshot, reopening, status, report, audit."""
    world, place = Plant(policy_set), disk / f"{part}.db"
    with Deployment.open(place, policy_set, seed=3, **PARTS[part]) as plant:
        play(plant, world, 8)
        plant.lost(plant.ask(2).ids)
        status = plant.status()
        assert status.episodes == 82 and status.pending == 0
        state = plant._state
        assert state is not None
        again = snapshot.decode(snapshot.encode(state)[32:], policy_set, plant.settings)
        assert again is not None and snapshot.encode(again) == snapshot.encode(state)
        weights = status.weights
    with Deployment.open(place) as plant:
        assert plant.status().weights == weights and not plant.status().degraded
        play(plant, world, 2)
        found, events = plant.verify(), list(plant.events())
        page = render(events, verified=found.text)
    name = next(value for value in PARTS[part].values() if isinstance(value, str) and value not in ("envelope",))
    assert found.ok and any(repr(name) in text for text in found.not_audited)
    assert found.text.startswith("NOT AUDITED BY A SECOND IMPLEMENTATION") and "NOT AUDITED" in page


def test_the_audit_of_a_foreign_part_still_finds_what_it_can(disk: Path, policy_set: PolicySet) -> None:
    from tests.journal.plants import rechained

    with Deployment.open(disk / "a.db", policy_set, seed=3, agent="bandit") as plant:
        play(plant, Plant(policy_set), 4)
        events = list(plant.events())
    told = next(k for k, event in enumerate(events) if event.kind == "told")
    assert verify(policy_set, events).ok
    assert not verify(policy_set, events[:told] + events[told + 1 :]).ok  # the chain is broken
    twice = rechained([*events[: told + 1], events[told], *events[told + 1 :]])
    assert "is not pending" in str(verify(policy_set, twice).first_disagreement)
    asked = next(k for k, event in enumerate(events) if event.kind == "asked")
    shifted = replace(events[asked], body={**events[asked].body, "first": 7})
    forged = rechained([*events[:asked], shifted, *events[asked + 1 :]])
    assert "ids be counted up" in str(verify(policy_set, forged).first_disagreement)


def test_a_foreign_agent_is_never_called_certified(disk: Path, policy_set: PolicySet) -> None:
    with Deployment.open(disk / "b.db", policy_set, agent="bandit") as plant:
        status = plant.status()
    assert not status.certified and "Nothing is certified" in status.statement
    assert any("NOT CERTIFIED" in note for note in status.notes) and status.agent == "bandit"
    assert status.certified_costs == dict(zip(policy_set.criterion.cost_names, policy_set.criterion.cost_ceilings))


def test_an_unknown_agent_is_named_with_what_to_do(disk: Path, policy_set: PolicySet) -> None:
    with refused("SF-ARGUMENT-CHOICE", "agent", "bandit, certified", "'nobody'"):
        Deployment.open(disk / "c.db", policy_set, agent="nobody")
    with refused("SF-ARGUMENT-DISTINCT", "name"):
        register_agent("certified", lambda policy_set, settings: Bandit(policy_set, 0))


@pytest.mark.parametrize(
    ("restrict", "allowed"),
    [
        (lambda plant: plant.abort(), 0.0),
        (lambda plant: plant.cap(0.25), 0.25),
        (lambda plant: plant.cap(0.0), 0.0),
    ],
)
def test_an_operator_limits_a_foreign_agent(
    restrict: Callable[[Deployment], Any], allowed: float, disk: Path, policy_set: PolicySet
) -> None:
    """Draws are from the limited mixture exactly; what changed policy is lost to the agent."""
    with Deployment.open(disk / "d.db", policy_set, agent="bandit") as plant:
        play(plant, Plant(policy_set), 3)
        restrict(plant)
        played = np.zeros(len(policy_set.policies))
        for j, weight in plant.status().weights.items():
            played[j] = weight
        assert played[1:].sum() <= allowed + 1e-12
        index = plant.ask(4000).policy_index
        share = np.bincount(index, minlength=played.size) / 4000.0
        np.testing.assert_allclose(share, played, atol=4.5 * np.sqrt(0.25 / 4000.0))
        assert not (share[played == 0.0] > 0.0).any()
        state = plant._state
        assert state is not None
        own = state.agent._agent._tracker  # type: ignore[union-attr]
        assert own.pending <= 4000 and (allowed > 0.0 or own.pending < 1500)


def test_a_cost_above_its_ceiling_stops_a_foreign_agent(disk: Path, policy_set: PolicySet) -> None:
    ceiling = float(policy_set.criterion.cost_ceilings[0])
    with Deployment.open(disk / "e.db", policy_set, agent="bandit") as plant:
        ticket = plant.ask()
        plant.tell(ticket.id, reward=0.0, costs=[2.0 * ceiling])
        status = plant.status()
        assert status.state == "alarm" and status.weights == {0: 1.0}
        assert (plant.ask(50).policy_index == 0).all()


def test_a_registered_evidence_spends_and_rejects_like_the_others(policy_set: PolicySet) -> None:
    """With a constant at half the weight a cell needs twice the joint wealth to be rejected."""
    one = CertifiedAgent(policy_set, evidence="watched", trust="envelope", ramp=0, seed=1)
    world = Plant(policy_set)
    for _ in range(4):
        batch = one.ask(10)
        one.tell(**world.batch(batch.ids.tolist(), batch.policy_index.tolist()))
    parts = one._evidence.parts()
    expected = np.logaddexp(np.log(0.5) + parts["joint"], np.log(0.5))
    np.testing.assert_allclose(one._evidence.log_wealth(), expected, atol=1e-12)
    kind = one._evidence.kinds["first-episodes"]
    assert isinstance(kind, FirstEpisodes) and kind.seen.max() == 40.0 and "transitions" not in one.wants


def test_shares_that_are_no_mixture_are_refused() -> None:
    for shares in ({}, {"joint": 0.5}, {"joint": 1.5, "separate": -0.5}, {"nobody": 1.0}):
        with refused("SF-ARGUMENT-SIMPLEX", "shares"):
            register_evidence("odd", shares)


def test_settings_and_their_keyword_arguments_name_the_same(policy_set: PolicySet) -> None:
    from surefoot.journal.settings import SettingOptions

    assert set(SettingOptions.__annotations__) == set(Settings.__dataclass_fields__)
    with pytest.raises(TypeError, match="unexpected keyword argument 'trusts'"):
        Deployment.open("nowhere.db", policy_set, trusts="cells")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("weights", np.array([0.5, np.nan, 0.25, 0.25])),
        ("weights", np.array([1.5, -0.5, 0.0, 0.0])),
        ("weights", np.array([0.5, 0.5])),
        ("weights", np.array([0.2, 0.2, 0.2, 0.2])),
    ],
)
def test_weights_that_are_no_mixture_return_to_the_safe_policy(
    attribute: str, value: FloatArray, disk: Path, policy_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Deployment.open(disk / "f.db", policy_set, agent="bandit") as plant:
        play(plant, Plant(policy_set), 1)
        monkeypatch.setattr(Bandit, attribute, value)
        plant.lost(plant.ask(1).ids)
        status = plant.status()
        assert status.state == "alarm" and status.weights == {0: 1.0} and "must choose a mixture" in status.why
        assert (plant.ask(20).policy_index == 0).all() and plant.verify().ok


@pytest.mark.parametrize("draws", [[9], [-1], [1.0], [0, 0], [3]])
def test_draws_off_the_mixture_return_to_the_safe_policy(
    draws: list[Any], disk: Path, policy_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(self: Bandit, n: int | None = None) -> Any:
        return Batch(np.arange(1), np.array(draws), np.array([0.5, 0.25, 0.25, 0.0]), self.policies)

    monkeypatch.setattr(Bandit, "ask", ask)
    monkeypatch.setattr(Bandit, "weights", np.array([0.5, 0.25, 0.25, 0.0]))
    with Deployment.open(disk / "g.db", policy_set, agent="bandit") as plant:
        assert plant.ask(1).policy_index.tolist() == [0]
        status = plant.status()
        assert status.state == "alarm" and "must draw 1 policies" in status.why and plant.verify().ok


def test_the_page_promises_nothing_for_a_foreign_agent(disk: Path, policy_set: PolicySet) -> None:
    with Deployment.open(disk / "h.db", policy_set, agent="bandit") as plant:
        play(plant, Plant(policy_set), 2)
        page = render(plant.events())
    assert "Nothing: agent bandit chooses" in page and "a ceiling, not certified" in page
    assert "With probability at least" not in page and "Certified cost" not in page
    with Deployment.open(disk / "i.db", policy_set, trust="half-way") as plant:
        assert "no policy costs more than half way between" in render(plant.events())
        assert HalfWay.assumes in plant.status().statement


def test_the_librarys_own_names_cannot_be_taken() -> None:
    """The audit would recompute one thing while another decides."""
    with refused("SF-ARGUMENT-DISTINCT", "cells"):
        register_trust_level(type("Mine", (HalfWay,), {"name": "cells"})())
    for name, kind in (("all", FirstEpisodes), ("mine", type("Joint", (FirstEpisodes,), {"name": "joint"}))):
        with refused("SF-ARGUMENT-DISTINCT"):
            register_evidence(name, {"joint": 1.0}, kind)
    unregister_trust_level("cells")
    unregister_evidence("all")
    assert trust_level("cells").rejects_cells and "all" in evidence_names()


def test_a_trust_level_pays_for_its_bounds_and_no_more_than_there_is() -> None:
    for shares in ({}, {"bounds": 1.5}, {"bounds": 0.0}, {"elimination": 0.5}, {"bounds": 0.5, "elimination": 0.5}):
        level = type(
            "Odd", (HalfWay,), {"name": "odd", "shares": lambda self, delta, found=shares: found or {"x": 1.0}}
        )()
        with refused("SF-ARGUMENT-RANGE"):
            register_trust_level(level)


def test_a_trust_level_without_rows_certifies_nothing(policy_set: PolicySet) -> None:
    class Empty(HalfWay):
        name = "empty"

        def rows(self, known: Knowledge) -> Rows:
            return Rows(known.objective, known.bounds[None][:0], (), 0)

    register_trust_level(Empty())
    try:
        with refused("SF-ASSUMPTION-ROWS"):
            CertifiedAgent(policy_set, trust="empty")
    finally:
        unregister_trust_level("empty")


def test_a_kind_of_evidence_that_is_not_whole_cannot_be_made(policy_set: PolicySet) -> None:
    class Half(EvidenceKind):
        name = "half"

    register_evidence("half", {"half": 1.0}, Half)
    try:
        with pytest.raises(TypeError, match="abstract"):
            CertifiedAgent(policy_set, evidence="half")
    finally:
        unregister_evidence("half")
