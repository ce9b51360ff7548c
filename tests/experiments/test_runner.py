"""Scores are exact: the published trivial rows to the digits known, with no simulation in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from surefoot import FixedAgent, Mixture, PolicySet, TabularPolicy, evaluate, solve
from surefoot.deploy import Batch
from surefoot.experiments.registry import AgentContext, make_agent
from surefoot.experiments.runner import Trace, play
from surefoot.tasks import NoisyGridworld
from surefoot.tasks.gridworld import PUBLISHED_NOISES
from tests.models import random_cmdp, random_policy

WORLD = NoisyGridworld()


def mean_regret(policy: np.ndarray) -> float:
    """At 40 000 episodes over the ten published tasks."""
    tasks = [WORLD.cmdp(q) for q in PUBLISHED_NOISES]
    return 40_000 * float(np.mean([solve(t).value - evaluate(t, policy).reward for t in tasks]))


def test_never_adapting_costs_what_is_published() -> None:
    assert mean_regret(np.asarray(WORLD.safe_policy())) == pytest.approx(95_800, rel=0.01)


def test_the_fixed_robust_policy_costs_what_is_published_and_is_feasible_throughout() -> None:
    policy = solve(WORLD.cmdp(0.36)).policy
    assert mean_regret(policy) == pytest.approx(40_900, rel=0.01)
    assert max(evaluate(WORLD.cmdp(q), policy).costs[0] for q in PUBLISHED_NOISES) <= 1.5


@pytest.mark.parametrize(
    ("name", "published"), [("oracle", 0.0), ("always-safe", 95_800), ("robust-fixed:0.36", 40_900)]
)
def test_played_agents_score_what_their_policies_are_worth(
    name: str, published: float, gridworld_set: PolicySet
) -> None:
    """A few hundred episodes suffice: the score is exact, so regret is proportional to the episodes."""
    regrets = []
    for noise in PUBLISHED_NOISES:
        task = WORLD.cmdp(noise)
        agent = make_agent(name, AgentContext(WORLD, gridworld_set, gridworld_set, task, 300, 0.05, 0))
        trace = play(agent, task, 300, seed=1)
        regrets.append(float(trace.regret(solve(task).value, np.array([300]))[0]))
        assert trace.violating(task.cost_limits) == 0
        assert trace.weight.max() == 0.0
    assert np.mean(regrets) * 40_000 / 300 == pytest.approx(published, rel=0.01, abs=1e-3)


class Alternating:
    """Plays the mixtures it is given in turn and keeps what it is told."""

    wants = frozenset({"transitions"})

    def __init__(self, policies: tuple[TabularPolicy, ...], weights: list[list[float]]) -> None:
        self.policies, self.weights, self.asked = policies, weights, 0
        self.sizes: list[int] = []
        self.told: list[dict[str, Any]] = []

    def ask(self, n: int) -> Batch:
        mixture = Mixture(np.asarray(self.weights[len(self.sizes) % len(self.weights)]))
        index = mixture.draw(n, np.random.default_rng(self.asked))
        ids = np.arange(self.asked, self.asked + n)
        self.asked += n
        self.sizes.append(n)
        return Batch(ids, index, mixture.weights, self.policies)

    def tell(self, ids: Any, reward: Any, costs: Any, **more: Any) -> None:
        self.told.append({"ids": ids, "reward": reward, "costs": costs, **more})


@pytest.fixture
def run(rng: np.random.Generator) -> tuple[Any, Alternating, Trace]:
    """A two-constraint task, an agent that alternates between two mixtures, and its trace over 500 episodes."""
    task = random_cmdp(rng, states=5, constraints=2, limits=np.array([4.0, 4.0]))
    policies = tuple(TabularPolicy(t) for t in random_policy(rng, 5, 3, count=3))
    agent = Alternating(policies, [[1.0, 0.0, 0.0], [0.25, 0.5, 0.25]])
    return task, agent, play(agent, task, 500, seed=3)  # type: ignore[arg-type]


def test_mixtures_are_scored_exactly_whatever_was_drawn(run: tuple[Any, Alternating, Trace]) -> None:
    task, agent, trace = run
    values = np.array([[evaluate(task, p).reward, *evaluate(task, p).costs] for p in agent.policies])
    for t in range(len(trace.ends)):
        exact = np.asarray(agent.weights[t % 2]) @ values
        np.testing.assert_allclose([trace.reward[t], *trace.costs[t]], exact, atol=1e-12)
        assert trace.weight[t] == pytest.approx(1.0 - agent.weights[t % 2][0])


def test_batches_start_at_ten_and_grow_to_at_most_a_hundred(run: tuple[Any, Alternating, Trace]) -> None:
    _, agent, trace = run
    assert agent.sizes[0] == 10
    assert max(agent.sizes) <= 100
    assert (np.diff(agent.sizes[:-1]) >= 0).all()
    assert trace.ends.tolist() == np.cumsum(agent.sizes).tolist()
    assert trace.ends[-1] == 500


def test_regret_is_the_sum_over_episodes(run: tuple[Any, Alternating, Trace]) -> None:
    _, agent, trace = run
    per_episode = np.repeat(7.0 - trace.reward, agent.sizes)
    marks = np.array([1, 9, 10, 11, 250, 500])
    np.testing.assert_allclose(trace.regret(7.0, marks), np.cumsum(per_episode)[marks - 1])
    batches = np.repeat(np.arange(len(agent.sizes)), agent.sizes)
    np.testing.assert_array_equal(trace.at(marks), batches[marks - 1])


def test_violations_count_episodes_of_bad_mixtures_in_any_constraint() -> None:
    trace = Trace(
        np.array([10, 30, 60]),
        np.zeros(3),
        np.array([[1.0, 2.1], [1.0, 2.0], [1.0 + 1e-9, 2.0]]),
        np.zeros(3),
        0.0,
        0.0,
    )
    assert trace.violating(np.array([1.0, 2.0])) == 10
    assert trace.violating(np.array([0.9, 3.0])) == 60
    assert trace.violating(np.array([1.0, 1.9])) == 60


def test_transitions_told_are_those_of_the_batch(run: tuple[Any, Alternating, Trace]) -> None:
    task, agent, _ = run
    for told in agent.told:
        rows = told["transitions"]
        assert (rows[:, 3] > 0).all()
        assert (task.dense[rows[:, 0], rows[:, 1], rows[:, 2]] > 0.0).all()
        # Everything that leaves a state was in it: arrivals and starts balance departures up to the cut ends.
        starts = np.bincount(told["initial_state"], minlength=5)
        departures = np.bincount(rows[:, 0], weights=rows[:, 3], minlength=5)
        arrivals = np.bincount(rows[:, 2], weights=rows[:, 3], minlength=5)
        ends = starts + arrivals - departures
        assert (ends >= 0).all()
        assert ends.sum() == len(told["ids"])


def test_chance_is_the_same_for_agents_that_play_the_same(rng: np.random.Generator) -> None:
    task, table = random_cmdp(rng), random_policy(rng, 4, 3)
    one = Alternating((TabularPolicy(table),), [[1.0]])
    two = Alternating((TabularPolicy(random_policy(rng, 4, 3)), TabularPolicy(table)), [[0.0, 1.0]])
    for agent in (one, two):
        play(agent, task, 120, seed=9)  # type: ignore[arg-type]
    for first, second in zip(one.told, two.told):
        np.testing.assert_array_equal(first["reward"], second["reward"])


def test_policies_that_are_not_tables_cannot_be_scored(rng: np.random.Generator) -> None:
    class Constant:
        def predict(self, observation: Any, *, deterministic: bool = False) -> tuple[int, None]:
            return 0, None

    agent = FixedAgent(Constant(), random_cmdp(rng).criterion)
    with pytest.raises(TypeError, match="tabular tasks run tabular policies, got Constant"):
        play(agent, random_cmdp(rng), 10, seed=0)


def test_visits_are_told_to_agents_that_want_them_and_to_no_other(run: tuple[Any, Alternating, Trace]) -> None:
    task, blind, blind_trace = run
    sighted = Alternating(blind.policies, blind.weights)
    sighted.wants = frozenset({"visits"})
    trace = play(sighted, task, 500, seed=3)  # type: ignore[arg-type]
    np.testing.assert_array_equal(trace.reward, blind_trace.reward)
    for told, without in zip(sighted.told, blind.told):
        assert "visits" not in without
        assert told["transitions"] is None
        np.testing.assert_array_equal(told["reward"], without["reward"])
        rows = without["transitions"]
        counts = np.zeros((5, 3), dtype=np.int64)
        np.add.at(counts, (rows[:, 0], rows[:, 1]), rows[:, 3])
        np.testing.assert_array_equal(told["visits"].count, counts)
        assert told["visits"].episodes == len(told["ids"])


def test_long_runs_may_grow_their_batches_further(rng: np.random.Generator) -> None:
    task, table = random_cmdp(rng), random_policy(rng, 4, 3)
    sizes = []
    for largest in (100, 400):
        agent = Alternating((TabularPolicy(table),), [[1.0]])
        trace = play(agent, task, 9_000, seed=1, largest_batch=largest)  # type: ignore[arg-type]
        sizes.append(np.diff(trace.ends, prepend=0))
    assert [int(s.max()) for s in sizes] == [100, 400]
    np.testing.assert_array_equal(sizes[0][:20], sizes[1][:20])


@pytest.mark.parametrize("limit", [0.0, 1e-9, 1.0, 1e6])
def test_violations_are_counted_relative_to_the_limit(limit: float) -> None:
    costs = np.array([[limit * (1.0 + 1e-9)], [limit * 1.01 + (limit == 0.0) * 1e-9]])
    trace = Trace(np.array([10, 30]), np.zeros(2), costs, np.zeros(2), 0.0, 0.0)
    assert trace.violating(np.array([limit])) == 20
