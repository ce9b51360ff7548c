"""The shell of the policy-gradient agents: when it looks, what it shows the learner, what it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from surefoot import PolicySet, TabularPolicy
from surefoot.arrays import FloatArray
from surefoot.baselines.gradient import Units
from surefoot.baselines.on_policy import OnPolicyAgent, Sample, looks, safe_table
from surefoot.cmdp.simulate import Simulator, Visits
from surefoot.tasks import NoisyGridworld
from tests.refusals import refused

WORLD = NoisyGridworld()
UNIFORM = np.full((49, 4), 0.25)


@dataclass
class Scripted:
    """Moves when its script says so, and remembers what it was shown."""

    script: list[bool]
    units: Units = field(default_factory=lambda: Units.of(WORLD.criterion))
    start: FloatArray | None = field(default_factory=lambda: UNIFORM)
    notes: tuple[str, ...] = ("scripted",)
    shown: list[tuple[FloatArray, Sample, int]] = field(default_factory=list)

    def batch(self, moves: int) -> int:
        return 20 + 10 * moves

    def update(self, table: FloatArray, sample: Sample, moves: int) -> FloatArray | None:
        self.shown.append((table, sample, moves))
        if not self.script.pop(0):
            return None
        other: FloatArray = np.roll(np.eye(4)[np.zeros(49, dtype=int)], len(self.shown), axis=1)
        return other


def episodes(agent: OnPolicyAgent, n: int, seed: int = 0) -> dict[str, Any]:
    """n played episodes as keyword arguments of ``tell``."""
    batch = agent.ask(n)
    tables = [p.table for p in agent.policies if isinstance(p, TabularPolicy)]
    played = Simulator(WORLD.cmdp(0.3), np.stack(tables)).run(batch.policy_index, seed=seed, visits=True)
    return {"ids": batch.ids, "reward": played.returns, "costs": played.costs, "visits": played.visits}


def test_the_learner_looks_at_a_batch_and_then_at_doubled_ones(gridworld_set: PolicySet) -> None:
    learner = Scripted([False, False, True, False, True])
    agent = OnPolicyAgent(gridworld_set, learner, seed=1)
    for k in range(28):
        agent.tell(**episodes(agent, 5, seed=k))
    # 20, 40 and 80 with the first policy; then 30 and 60 with the second.
    assert [sample.n for _, sample, _ in learner.shown] == [20, 40, 80, 30, 60]
    assert [moves for _, _, moves in learner.shown] == [0, 0, 0, 1, 1]
    assert agent.moves == 2
    np.testing.assert_array_equal(learner.shown[0][0], UNIFORM)
    np.testing.assert_array_equal(learner.shown[3][0], learner.shown[4][0])


def test_samples_pool_the_episodes_of_one_policy_in_units(gridworld_set: PolicySet) -> None:
    learner = Scripted([False])
    agent = OnPolicyAgent(gridworld_set, learner)
    parts = [episodes(agent, 10, seed=k) for k in range(2)]
    for part in parts:
        agent.tell(**part)
    sample = learner.shown[0][1]
    returns, costs = (np.concatenate([p[name] for p in parts]) for name in ("reward", "costs"))
    np.testing.assert_allclose(sample.means, [returns.mean() / 10.0, costs.mean() / 10.0])
    assert sample.visits.episodes == 20
    np.testing.assert_allclose(sample.visits.to_go, sum(p["visits"].to_go for p in parts) / 10.0)
    assert sample.gradient(UNIFORM).shape == sample.advantages().shape == (2, 49, 4)


def test_the_safe_policy_comes_first_and_the_learners_is_played(gridworld_set: PolicySet) -> None:
    agent = OnPolicyAgent(gridworld_set, Scripted([True]))
    before = agent.policies
    assert before[0] is gridworld_set.safe_policy
    assert agent.ask(3).policy_index.tolist() == [1, 1, 1]
    single = agent.ask()
    assert single.policy is agent.policies[1] and single.weights.tolist() == [0.0, 1.0]
    agent.tell(**episodes(agent, 20))
    assert agent.policies is not before and agent.policies[0] is before[0]
    assert agent.policies[1] is not before[1]
    assert agent.policies is agent.policies, "the same object until it changes: runners compare by identity"
    assert agent.notes == ("scripted",)


def test_a_learner_without_a_start_plays_the_safe_policy_and_wants_nothing(gridworld_set: PolicySet) -> None:
    agent = OnPolicyAgent(gridworld_set, Scripted([], start=None))
    assert agent.wants == frozenset()
    assert agent.policies == (gridworld_set.safe_policy,)
    batch = agent.ask(4)
    assert batch.policy_index.tolist() == [0] * 4 and batch.weights.tolist() == [1.0]
    agent.tell(batch.ids, np.full(4, 50.0), np.zeros((4, 1)))
    assert agent.notes == ("scripted",)


def test_nothing_is_learned_from_episodes_of_an_earlier_policy(gridworld_set: PolicySet) -> None:
    learner = Scripted([True, False])
    agent = OnPolicyAgent(gridworld_set, learner)
    late = episodes(agent, 25, seed=1)
    agent.tell(**episodes(agent, 20, seed=2))
    assert agent.moves == 1
    agent.tell(**late)
    assert len(learner.shown) == 1
    agent.tell(**episodes(agent, 30, seed=3))
    assert [sample.n for _, sample, _ in learner.shown] == [20, 30]
    with refused("SF-REPORT-CLOSED", "id", "0"):
        agent.tell(**late)


def test_an_agent_that_never_moved_says_so(gridworld_set: PolicySet) -> None:
    agent = OnPolicyAgent(gridworld_set, Scripted([False, True]))
    agent.tell(**episodes(agent, 20))
    assert agent.notes == ("scripted", "its policy was never replaced")
    agent.tell(**episodes(agent, 20))
    assert agent.notes == ("scripted",)


def no_visits(n: int, shape: tuple[int, ...] = (2, 49, 4), value: float = 0.0) -> Visits:
    return Visits(n, np.zeros(shape[1:], dtype=np.int64), np.zeros(shape[1:]), np.full(shape, value))


@pytest.mark.parametrize(
    ("visits", "refusal"),
    [
        (
            None,
            ("SF-REPORT-SHAPE", "visits", "20", "(2, 49, 4)"),
        ),
        (no_visits(19), ("SF-REPORT-SHAPE", "19 of (2, 49, 4)")),
        (no_visits(20, (3, 49, 4)), ("SF-REPORT-SHAPE", "20 of (3, 49, 4)")),
        (no_visits(20, value=np.nan), ("SF-REPORT-FINITE", "visits", "NaN or infinity")),
    ],
)
def test_visits_that_cannot_be_those_of_the_episodes_are_refused(
    visits: Any, refusal: tuple[str, ...], gridworld_set: PolicySet
) -> None:
    learner = Scripted([True])
    agent = OnPolicyAgent(gridworld_set, learner)
    told = episodes(agent, 20)
    with refused(*refusal):
        agent.tell(**(told | {"visits": visits}))
    assert learner.shown == []
    agent.tell(**told)
    assert agent.moves == 1, "the refused episodes stayed pending"


def test_the_number_of_looks_is_bounded_in_advance() -> None:
    assert looks(1024) == 1024 * 11
    # Every move at the first look, and every look refused, both stay below it.
    assert 1024 <= looks(1024) and np.log2(1024) + 1 <= looks(1024)


def test_a_safe_policy_that_is_no_table_is_refused() -> None:
    class Untabular:
        safe_policy = object()

    with refused("SF-POLICY-KIND", "safe policy", "object"):
        safe_table(Untabular())  # type: ignore[arg-type]
