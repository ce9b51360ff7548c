"""No sequence of valid calls may leave a journal that cannot go on: everything an owner can do, in any order, with little patience.

After every step the deployment answers; now and then it is reopened from its snapshot, folded again from the first event, and audited: all agree
with the one that lived on. Episodes are told alone, late, in groups, or never; declared lost before or after the library itself no longer waited for
them; and an operator pauses, caps, approves and aborts in between.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from surefoot import ConflictError, Deployment, PausedError
from surefoot.audit import order, verify
from surefoot.deploy import reorder
from surefoot.journal.state import DeploymentState
from tests.journal.plants import Plant, as_recorded, keep_snapshot, quick_folder, small_set

pytestmark = pytest.mark.slow

PATIENCE = 4
SETS = [small_set(), small_set(kernel=True, states=True), small_set(signals=True)]
SETTINGS: list[dict[str, Any]] = [
    {"trust": "cells", "ramp": 0},
    {"trust": "cells", "ramp": 5, "losses": "independent"},
    {"trust": "cells", "ramp": 0, "losses": "independent", "approve": True},
    {"trust": "envelope", "ramp": 5, "losses": "independent"},
    {"trust": "data"},
    {"trust": "cells", "ramp": 3, "evidence": "returns"},
]


class Owner(RuleBasedStateMachine):
    """Whatever an owner may do, beside a list of what is open."""

    @initialize(which=st.integers(0, len(SETS) - 1), how=st.integers(0, len(SETTINGS) - 1))
    def open(self, which: int, how: int) -> None:
        self.folder = quick_folder()
        self.truth = Plant(SETS[which])
        self.file = Path(self.folder) / "plant.db"
        self.plant = Deployment.open(self.file, SETS[which], seed=7, **SETTINGS[how])
        self.open_: dict[int, int] = {}
        self.told: set[int] = set()
        self.lost: set[int] = set()

    @rule(n=st.integers(1, 5))
    def ask(self, n: int) -> None:
        try:
            tickets = self.plant.ask(n)
        except PausedError:
            return
        self.open_.update(zip(tickets.ids.tolist(), tickets.policy_index.tolist()))

    def draw(self, data: st.DataObject, most: int) -> list[int]:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.open_)), min_size=1, max_size=most, unique=True))
        return [int(k) for k in ids]

    @precondition(lambda self: self.open_)
    @rule(data=st.data(), broken=st.sampled_from([False, False, False, True]))
    def tell_one(self, data: st.DataObject, broken: bool) -> None:
        (k,) = self.draw(data, 1)
        report = self.truth.report(k, self.open_.pop(k))
        self.plant.tell(k, **{**report, "reward": 99.0} if broken else report)
        self.told.add(k)

    @precondition(lambda self: self.open_)
    @rule(data=st.data())
    def tell_a_group(self, data: st.DataObject) -> None:
        ids = self.draw(data, 4)
        self.plant.tell(**self.truth.batch(ids, [self.open_.pop(k) for k in ids]))
        self.told.update(ids)

    @rule(n=st.integers(PATIENCE + 1, 10), grouped=st.booleans())
    def tell_all_but_the_oldest(self, n: int, grouped: bool) -> None:
        """What makes the library lose patience."""
        self.plant.resume()
        self.ask(n)
        ids = sorted(self.open_)[1:]
        for few in [ids[::2], ids[1::2]] if grouped else [[k] for k in ids]:
            self.plant.tell(**self.truth.batch(few, [self.open_.pop(k) for k in few]))
            self.told.update(few)

    @precondition(lambda self: self.open_)
    @rule(data=st.data())
    def declare_lost(self, data: st.DataObject) -> None:
        ids = self.draw(data, 3)
        self.plant.lost(ids)
        for k in ids:
            del self.open_[k]
        self.lost.update(ids)

    @precondition(lambda self: self.lost)
    @rule(data=st.data())
    def tell_what_was_declared_lost(self, data: st.DataObject) -> None:
        k = data.draw(st.sampled_from(sorted(self.lost)))
        with pytest.raises(ConflictError):
            self.plant.tell(k, reward=2.0, costs=[0.1])

    @rule()
    def pause(self) -> None:
        self.plant.pause("a look")

    @rule()
    def resume(self) -> None:
        self.plant.resume()

    @rule(weight=st.sampled_from([0.0, 0.3, 1.0]))
    def cap(self, weight: float) -> None:
        self.plant.cap(weight)

    @rule()
    def approve(self) -> None:
        try:
            self.plant.approve()
        except ConflictError as error:
            assert "waits" in str(error) or "plan" in str(error)

    @rule(snapshot=st.booleans())
    def reopen(self, snapshot: bool) -> None:
        if snapshot:
            keep_snapshot(self.plant)
        before = self.plant.status()
        self.plant.close()
        self.plant = Deployment.open(self.file, create=False)
        assert self.plant.status() == before

    @rule()
    def fold_again_and_audit(self) -> None:
        events = list(self.plant.events())
        again = DeploymentState(self.plant.policy_set, self.plant.settings)
        again.replay(events)
        again.settle()
        ours = self.plant._caught()
        np.testing.assert_array_equal(again.agent.active, ours.agent.active)
        np.testing.assert_array_equal(again.agent.plan.weights, ours.agent.plan.weights)
        np.testing.assert_array_equal(again.agent.log_wealth(), ours.agent.log_wealth())
        found = verify(self.plant.policy_set, events)
        assert found.ok, found.first_disagreement

    @invariant()
    def it_answers(self) -> None:
        if hasattr(self, "plant"):
            status = self.plant.status()
            assert status.pending == len(self.open_)
            assert status.episodes == len(self.open_) + len(self.told) + len(self.lost)

    def teardown(self) -> None:
        if hasattr(self, "plant"):
            self.fold_again_and_audit()
            events = as_recorded(self.plant.events())
            self.plant.abort("the end")
            assert self.plant.ask().policy_index == 0
            assert as_recorded(self.plant.events())[: len(events)] == events
            self.plant.close()
            shutil.rmtree(self.folder)


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reorder, "PATIENCE", PATIENCE)
    monkeypatch.setattr(order, "PATIENCE", PATIENCE)


class TestOwner(Owner.TestCase):  # type: ignore[name-defined, misc]
    settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
