"""The suite for agents: every registered agent conforms, and every rule catches an agent that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from surefoot import Criterion, FixedAgent, InvalidReport, PolicySet, Simulator, TabularPolicy
from surefoot.deploy.tracker import Batch, EpisodeTracker
from surefoot.experiments.registry import AgentContext, all_agents, make_agent
from surefoot.policy import Mixture
from surefoot.tasks import NoisyGridworld
from surefoot.testing import AgentSuite, broken_rules
from tests.deploy.worlds import transition_rows

CRITERION = Criterion(0.9, [1.5], (0.0, 1.0), [1.0])
LIBRARY = tuple(TabularPolicy(np.eye(2)[[k]]) for k in range(2))
WORLD = NoisyGridworld()
TASK = WORLD.cmdp(0.33)
NOISE = np.random.default_rng(0)


class Careful:
    """Moves weight from the safe policy to the other one with every report; an agent in a few lines."""

    wants: frozenset[str] = frozenset()

    def __init__(self, seed: int) -> None:
        self.tracker = EpisodeTracker(
            LIBRARY, CRITERION, CRITERION.return_range, CRITERION.cost_ceilings, np.random.default_rng(seed)
        )
        self.total, self.n = 0.0, 0

    @property
    def policies(self) -> Any:
        return self.tracker.policies

    def mixture(self) -> Mixture:
        share = 0.5 + 0.4 * np.tanh(self.total / (1 + self.n))
        return Mixture(np.array([1.0 - share, share]))

    def ask(self, n: int | None = None) -> Any:
        batch = self.tracker.open(self.mixture(), 1 if n is None else n)
        return batch[0] if n is None else batch

    def tell(self, ids: Any, reward: Any, costs: Any, **more: Any) -> None:
        reports = self.tracker.check(ids, reward, costs)
        self.tracker.close(reports)
        self.total, self.n = self.total + float(reports.reward.sum()), self.n + len(reports.ids)


class TestCareful(AgentSuite):
    """The way the suite is meant to be used: pytest collects its rules here."""

    def make(self, seed: int) -> Careful:
        return Careful(seed)

    def criterion(self) -> Criterion:
        return CRITERION


def suite_of(make_one: Callable[[int], Any], judged_by: Criterion = CRITERION) -> type[AgentSuite]:
    class Mine(AgentSuite):
        def make(self, seed: int) -> Any:
            return make_one(seed)

        def criterion(self) -> Criterion:
            return judged_by

    return Mine


def test_an_agent_that_does_not_learn_conforms() -> None:
    assert broken_rules(suite_of(lambda seed: FixedAgent(LIBRARY[0], CRITERION, seed=seed))) == {}


class OnTheGridworld(AgentSuite):
    """Reports are simulated, with everything that any agent may want."""

    name = "always-safe"
    policy_set: PolicySet
    rounds = 6

    def make(self, seed: int) -> Any:
        context = AgentContext(WORLD, self.policy_set, self.policy_set, TASK, 1000, 0.05, seed)
        agent = make_agent(self.name, context)
        self.wants = agent.wants
        return agent

    def criterion(self) -> Criterion:
        return WORLD.criterion

    def report(self, episode: Any, rng: np.random.Generator) -> Any:
        which = np.zeros(1, dtype=int)
        seen = Simulator(TASK, episode.policy).run(which, seed=int(rng.integers(2**32)), groups=which, visits=True)
        wanted = {
            "initial_state": int(seen.initial_states[0]),
            "transitions": transition_rows(TASK, seen.transitions[0]),  # type: ignore[index]
            "visits": seen.visits,
        }
        return {
            "reward": float(seen.returns[0]), "costs": seen.costs[0], **{k: v for k, v in wanted.items() if k in self.wants},
        }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", all_agents("robust-fixed:0.36"))
def test_registered_agents_conform(name: str, deploy_set: PolicySet) -> None:
    suite = type("Mine", (OnTheGridworld,), {"name": name, "policy_set": deploy_set})
    assert broken_rules(suite) == {}


class Numbered(Careful):
    """Says what it wants as a list."""

    wants = ["transitions"]  # type: ignore[assignment]  # noqa: RUF012


class Unnormalised(Careful):
    def ask(self, n: int | None = None) -> Any:
        batch = self.tracker.open(self.mixture(), 1 if n is None else n)
        twice = Batch(batch.ids, batch.policy_index, 2.0 * batch.weights, batch.policies)
        return twice[0] if n is None else twice


class Short(Careful):
    """A batch is never more than two."""

    def ask(self, n: int | None = None) -> Any:
        return super().ask(None if n is None else min(n, 2))


class Repeating(Careful):
    """Ids start again with every ask."""

    def ask(self, n: int | None = None) -> Any:
        batch = self.tracker.open(self.mixture(), 1 if n is None else n)
        again = Batch(np.arange(len(batch)), batch.policy_index, batch.weights, batch.policies)
        return again[0] if n is None else again


class OneByOne(Careful):
    """Takes no arrays."""

    def tell(self, ids: Any, reward: Any, costs: Any, **more: Any) -> None:
        if np.size(ids) > 1:
            raise TypeError("one at a time")
        super().tell(ids, reward, costs)


class InOrderOnly(Careful):
    """Takes the oldest episode only."""

    def tell(self, ids: Any, reward: Any, costs: Any, **more: Any) -> None:
        if int(np.min(ids)) != min(self.tracker.open_episodes, default=int(np.min(ids))):
            raise InvalidReport("the oldest first")
        super().tell(ids, reward, costs)


class Impatient(Careful):
    """Forgets what is pending when it is asked again."""

    def ask(self, n: int | None = None) -> Any:
        if self.tracker.open_episodes:
            self.tracker.forget(list(self.tracker.open_episodes))
        return super().ask(n)


class Trusting(Careful):
    """Checks nothing."""

    def tell(self, ids: Any, reward: Any, costs: Any, **more: Any) -> None:
        number = np.atleast_1d(ids)
        self.total, self.n = self.total + float(np.sum(reward)), self.n + number.size


class Unbounded(Careful):
    """Takes every number for a return."""

    def tell(self, ids: Any, reward: Any, costs: Any, **more: Any) -> None:
        super().tell(ids, np.where(np.isfinite(np.asarray(reward, dtype=float)), reward, 0.0), costs)


class Hasty(Careful):
    """Counts before it checks."""

    def tell(self, ids: Any, reward: Any, costs: Any, **more: Any) -> None:
        self.n += 1
        super().tell(ids, reward, costs)


class Piecewise(Careful):
    """Takes the good ones of a batch and refuses the rest."""

    def tell(self, ids: Any, reward: Any, costs: Any, **more: Any) -> None:
        for k, r, c in zip(np.atleast_1d(ids), np.atleast_1d(reward), np.asarray(costs, dtype=float).reshape(-1, 1)):
            super().tell(int(k), r, c)


class Moody(Careful):
    """Draws by itself, whatever its seed."""

    def __init__(self, seed: int) -> None:
        super().__init__(int(NOISE.integers(2**32)))


BROKEN: list[tuple[Callable[[int], Any], str]] = [
    (Numbered, "test_policies_and_wishes_are_declared"),
    (Unnormalised, "test_an_episode_names_a_policy_of_the_mixture"),
    (Short, "test_a_batch_is_drawn_from_one_mixture"),
    (Repeating, "test_ids_increase_and_are_used_once"),
    (OneByOne, "test_reports_come_one_by_one_or_together"),
    (InOrderOnly, "test_reports_may_come_in_any_order"),
    (Impatient, "test_asking_again_before_a_report_is_allowed"),
    (Trusting, "test_an_episode_is_told_once"),
    (Trusting, "test_only_episodes_that_were_asked_are_told"),
    (Unbounded, "test_what_cannot_be_true_is_refused"),
    (Hasty, "test_a_refused_report_changes_nothing"),
    (Piecewise, "test_a_batch_is_refused_whole"),
    (Moody, "test_the_seed_decides_everything"),
]


@pytest.mark.parametrize(("agent", "rule"), BROKEN)
def test_a_broken_agent_is_caught(agent: Callable[[int], Any], rule: str) -> None:
    assert rule in broken_rules(suite_of(agent))


def test_a_fault_breaks_the_rule_that_forbids_it_and_no_other() -> None:
    for agent, rule in ((Numbered, BROKEN[0][1]), (Short, BROKEN[2][1]), (Hasty, BROKEN[10][1])):
        assert set(broken_rules(suite_of(agent))) == {rule}


def test_every_rule_has_an_agent_that_breaks_it() -> None:
    rules = {name for name in dir(AgentSuite) if name.startswith("test_")}
    assert {rule for _, rule in BROKEN} == rules
