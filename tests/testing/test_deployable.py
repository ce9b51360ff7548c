"""The suite for agents that live in a deployment: what ships conforms, and every rule catches an agent that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from surefoot import CertifiedAgent, Criterion, FixedAgent, Mixture, PolicySet
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.deploy.tracker import EpisodeTracker
from surefoot.stateful import Stateful
from surefoot.testing import AgentSuite, DeployableAgentSuite, broken_rules
from tests.journal.plants import small_set
from tests.journal.rehearsed import rehearsed_set, rehearsing
from tests.testing.test_agents import CRITERION, LIBRARY

SMALL = small_set()


class Careful(Stateful):
    """Moves weight from the safe policy to the other one with every report."""

    CHANGES = ("tracker", "total", "n")
    wants: frozenset[str] = frozenset()

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.tracker = EpisodeTracker(LIBRARY, CRITERION, CRITERION.return_range, CRITERION.cost_ceilings, rng)
        self.total, self.n = 0.0, 0

    @property
    def policies(self) -> Any:
        return self.tracker.policies

    @property
    def weights(self) -> Any:
        share = 0.5 + 0.4 * np.tanh(self.total / (1 + self.n))
        return np.array([1.0 - share, share])

    def ask(self, n: int | None = None) -> Any:
        batch = self.tracker.open(Mixture(self.weights), 1 if n is None else n)
        return batch[0] if n is None else batch

    def tell(self, ids: Any, reward: Any, costs: Any, **more: Any) -> None:
        report = self.tracker.check(ids, reward, costs)
        self.tracker.close(report)
        self.total, self.n = self.total + float(report.reward.sum()), self.n + len(report.ids)

    def lost(self, ids: Any) -> None:
        self.tracker.forget(ids)


def suite_of(make_one: Callable[[int], Any], judged_by: Criterion = CRITERION) -> type[DeployableAgentSuite]:
    class Mine(DeployableAgentSuite):
        def make(self, seed: int) -> Any:
            return make_one(seed)

        def criterion(self) -> Criterion:
            return judged_by

    return Mine


class TestCareful(DeployableAgentSuite):
    """The way the suite is meant to be used: pytest collects its rules here."""

    def make(self, seed: int) -> Careful:
        return Careful(seed)

    def criterion(self) -> Criterion:
        return CRITERION


def certified(policy_set: PolicySet, **options: Any) -> Callable[[int], CertifiedAgent]:
    return lambda seed: CertifiedAgent(policy_set, seed=seed, evidence="returns", ramp=0, **options)


@pytest.mark.parametrize("trust", ["cells", "envelope", "data"])
def test_the_certified_agent_conforms(trust: str) -> None:
    assert broken_rules(suite_of(certified(SMALL, trust=trust), SMALL.criterion)) == {}


@pytest.mark.parametrize(
    "rung", [rehearsing(evidence="returns"), rehearsing(evidence="returns", batch=50, delay=50, lost=0.9)]
)
def test_a_rehearsed_agent_conforms_inside_its_protocol_and_outside(rung: Rung) -> None:
    policy_set = rehearsed_set("returns", rung)
    assert broken_rules(suite_of(certified(policy_set, trust="rehearsed"), policy_set.criterion)) == {}


def test_an_agent_that_does_not_learn_conforms() -> None:
    assert broken_rules(suite_of(lambda seed: FixedAgent(LIBRARY[0], CRITERION, seed=seed))) == {}


class Late(Careful):
    """Says what it drew from last."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.last = np.array([1.0, 0.0])

    @property
    def weights(self) -> Any:
        return self.last

    def ask(self, n: int | None = None) -> Any:
        self.last = Careful.weights.fget(self)  # type: ignore[attr-defined]
        return super().ask(n) if n is not None else super().ask()

    def tell(self, ids: Any, reward: Any, costs: Any, **more: Any) -> None:
        super().tell(ids, reward, costs)


class Opaque(Careful):
    """Puts an object of its own into its state."""

    CHANGES = ("tracker", "total", "n", "hook")

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.hook = LIBRARY


class Half(Careful):
    """Forgets half of its state."""

    CHANGES = ("tracker", "n")


class Lenient(Careful):
    """Takes any state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if set(state) == set(self.CHANGES):
            super().load_state_dict(state)


class Hopeful(Careful):
    """Waits for what is lost."""

    def lost(self, ids: Any) -> None: ...


BROKEN: list[tuple[Callable[[int], Any], str]] = [
    (Late, "test_weights_are_those_of_the_next_draw"),
    (Opaque, "test_a_state_is_plain_values"),
    (Half, "test_a_restored_agent_goes_on_alike"),
    (Lenient, "test_the_state_of_something_else_is_refused"),
    (Hopeful, "test_a_lost_episode_is_told_no_more"),
]


@pytest.mark.parametrize(("agent", "rule"), BROKEN)
def test_a_broken_agent_is_caught(agent: Callable[[int], Any], rule: str) -> None:
    found = broken_rules(suite_of(agent))
    assert rule in found
    assert isinstance(found[rule], AssertionError)


def test_every_rule_has_an_agent_that_breaks_it() -> None:
    rules = {name for name in dir(DeployableAgentSuite) if name.startswith("test_")}
    assert {rule for _, rule in BROKEN} == rules - set(dir(AgentSuite))
