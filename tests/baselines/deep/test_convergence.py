"""Whole trainings on problems whose optimum is known, and the agent at test time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot import evaluate, solve
from surefoot.baselines.deep import LEARNERS, DeepAgent, GaussianPolicy, SoftmaxPolicy, State, World, make_learner
from surefoot.baselines.deep.learner import load_state, save_state
from surefoot.baselines.deep.trust_region import Trust
from tests.baselines.deep_worlds import lq_family, lq_gain, three_states, three_states_family
from tests.refusals import refused

TABLE = SoftmaxPolicy.build(3, 2)
SIZES: dict[str, dict[str, Any]] = {
    "trpo-lagrangian": {"episodes": 60, "rate": 0.1},
    "cpo": {"episodes": 60},
    "maml": {"tasks": 2, "episodes": 15, "rate": 0.3},
    "maml-first-order": {"tasks": 2, "episodes": 15, "rate": 0.3},
    "meta-cpo": {"tasks": 2, "episodes": 15},
    "safe-meta-rl": {"tasks": 2, "episodes": 15},
}


def trained(name: str, world: World, steps: int, seed: int = 0) -> tuple[Any, list[State]]:
    """The learner and its states, the first one included."""
    rng = np.random.default_rng(seed)
    learner = make_learner(name, TABLE, trust=Trust(delta=0.02, damping=1e-3), **SIZES[name])
    states = [State(np.zeros(TABLE.size))]
    for _ in range(steps):
        states.append(learner.train(states[-1], world, rng)[0])
    return learner, states


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trpo-lagrangian", "cpo"])
def test_training_comes_close_to_the_optimum_under_the_limit(name: str) -> None:
    cmdp = three_states(limit=2.0)
    best, free = solve(cmdp), solve(cmdp.with_limits(np.array([100.0])))
    assert free.costs[0] > 1.4 * cmdp.cost_limits[0]  # the limit binds
    _, states = trained(name, World(three_states_family(cmdp)), 60)
    # A multiplier swings around its saddle point: iterates are averaged.
    found = [evaluate(cmdp, TABLE.probabilities(state.theta, np.eye(3))) for state in states]
    reward, cost = (np.mean([v.reward for v in found[30:]]), np.mean([v.costs[0] for v in found[30:]]))
    assert cost == pytest.approx(cmdp.cost_limits[0], rel=0.08)
    assert best.value - 0.2 < reward < best.value + 0.25
    assert found[0].reward < best.value - 0.7
    assert free.value > best.value + 0.7


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maml", "maml-first-order", "meta-cpo", "safe-meta-rl"])
def test_meta_training_improves_what_the_adapted_policy_earns(name: str) -> None:
    cmdp = three_states(limit=100.0)
    world = World(three_states_family(cmdp))
    learner, states = trained(name, world, 12)
    rng = np.random.default_rng(1)

    def worth(at: State) -> float:
        batch = world.batch(TABLE, at.theta, [[0.5]], rng, episodes=30)
        table = TABLE.probabilities(learner.adapt(at, batch, world).theta, np.eye(3))
        return evaluate(cmdp, table).reward

    assert worth(states[-1]) > worth(states[0]) + 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maml", "meta-cpo", "safe-meta-rl"])
def test_meta_training_heeds_a_limit(name: str) -> None:
    cmdp = three_states(limit=0.8)  # uniform actions cost more than twice as much
    _, states = trained(name, World(three_states_family(cmdp)), 15)
    before = evaluate(cmdp, np.full((3, 2), 0.5)).costs[0]
    assert evaluate(cmdp, TABLE.probabilities(states[-1].theta, np.eye(3))).costs[0] < before - 0.3


@pytest.mark.slow
def test_trpo_finds_the_gain_of_the_riccati_equation() -> None:
    policy, rng = GaussianPolicy.build(1, 1, ()), np.random.default_rng(0)
    learner = make_learner("trpo-lagrangian", policy, episodes=24, trust=Trust(delta=0.02, damping=1e-4))
    state, world = State(np.array([-0.3, 0.0, np.log(0.4)])), World(lq_family())
    for _ in range(50):
        state, _ = learner.train(state, world, rng)
    assert -state.theta[0] == pytest.approx(lq_gain(), abs=0.08)
    assert state.theta[1] == pytest.approx(0.0, abs=0.08)
    assert state.multiplier == 0.0


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_is_a_function_of_its_seed_and_counts_what_it_spends(name: str) -> None:
    cmdp = three_states()
    world = World(three_states_family(cmdp))
    learner = make_learner(name, TABLE, **{**SIZES[name], "episodes": 3})
    found = [learner.train(State(np.zeros(TABLE.size)), world, np.random.default_rng(3)) for _ in range(2)]
    np.testing.assert_array_equal(found[0][0].theta, found[1][0].theta)
    progress = found[0][1]
    assert (found[0][1], learner.name) == (found[1][1], name)
    assert progress.episodes == (3 if name in ("cpo", "trpo-lagrangian") else 12)
    assert progress.steps == progress.episodes * world.horizon
    assert 0 <= progress.exceeding <= progress.episodes


def test_the_agent_updates_from_episodes_of_its_present_policy_alone() -> None:
    world = World(three_states_family(three_states()))
    learner = make_learner("cpo", TABLE)
    agent = DeepAgent(learner, State(np.zeros(TABLE.size)), world, every=4)
    rng = np.random.default_rng(0)

    def play(n: int, batch: Any = None) -> Any:
        batch = agent.ask(n) if batch is None else batch
        seen = world.run(TABLE, agent.policies[0].theta, [[0.5]], rng, episodes=n)
        sums = seen.sums(world.discount)
        agent.tell(batch.ids, sums[:, 0], sums[:, 1:], trajectories=seen)
        return seen

    play(3)
    assert agent.moves == 0
    late = agent.ask(2)
    play(1)
    assert agent.moves == 1
    moved = agent.state.theta
    assert np.abs(moved).max() > 0.0
    np.testing.assert_array_equal(agent.policies[0].theta, moved)
    play(2, late)  # of the policy before
    play(3)
    assert agent.moves == 1
    play(1)
    assert agent.moves == 2
    ids = agent.ask(2).ids
    with refused("SF-REPORT-SHAPE", "trajectories", "2", "NoneType"):
        agent.tell(ids, [1.0, 1.0], [[0.1], [0.1]])


def test_checkpoints_are_arrays_that_bring_everything_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    policy = GaussianPolicy.build(2, 1, (3,)).normalised(rng.normal(2.0, 3.0, (40, 2)))
    state = State(policy.initial(rng), 0.4, {"adam.m": rng.standard_normal(policy.size)})
    path = tmp_path / "one.npz"
    save_state(path, policy, state, {"steps": 7, "method": "cpo"})
    found, again, about = load_state(path, GaussianPolicy.build(2, 1, (3,)))
    np.testing.assert_array_equal(again.theta, state.theta)
    np.testing.assert_array_equal(again.memory["adam.m"], state.memory["adam.m"])
    np.testing.assert_array_equal(found.shift, policy.shift)
    assert (again.multiplier, int(about["steps"]), str(about["method"])) == (0.4, 7, "cpo")
    with refused("SF-ARGUMENT-MISMATCH", "checkpoint", "4", "3"):
        load_state(path, GaussianPolicy.build(2, 1, (4,)))
    path.write_bytes(b"nothing")
    with refused("SF-RECORD-UNREADABLE", "path"):
        load_state(path, policy)
    assert replace(state, multiplier=1.0).theta is state.theta


def test_an_unknown_method_is_refused() -> None:
    with refused("SF-ARGUMENT-CHOICE", "method", "ppo"):
        make_learner("ppo", TABLE)
