"""Meta-SRL: CRPO switches on cost, its schedule, and what learning across tasks adds."""

from __future__ import annotations

from math import sqrt
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot import PolicySet
from surefoot.baselines.meta_srl import BATCH, Schedule, crpo, crpo_step, make, meta_train, raised
from surefoot.baselines.meta_training import interior, training_stack
from surefoot.experiments.runner import play
from surefoot.tasks import NoisyGridworld
from tests.baselines.test_meta_training import IDLE, arm_set
from tests.refusals import refused
from tests.training.families import Arm

WORLD = NoisyGridworld()
ADVANTAGES = np.array([[[-1.0, 1.0]], [[-0.5, 0.5]], [[0.25, -0.25]]])
HALF = np.array([[0.5, 0.5]])


@pytest.mark.parametrize(
    ("excess", "on_reward", "favours"),
    [
        ([-0.1, -0.1], True, 1),
        ([0.05, 0.05], True, 1),  # the tolerance counts as met
        ([0.06, -0.1], False, 0),
        ([-0.1, 0.06], False, 1),
        ([0.07, 0.06], False, 0),  # the most violated one decides
    ],
)
def test_steps_switch_to_the_most_violated_cost(excess: list[float], on_reward: bool, favours: int) -> None:
    table, was_on_reward = crpo_step(HALF, ADVANTAGES, np.asarray(excess), Schedule(0.1, 0.05), 2.0)
    assert was_on_reward == on_reward
    assert table[0].argmax() == favours


def test_the_step_is_multiplicative_weights() -> None:
    table, _ = crpo_step(np.array([[0.2, 0.8]]), ADVANTAGES, np.array([0.0, 0.0]), Schedule(0.3, 0.0), 10.0)
    weights = np.array([0.2 * np.exp(-3.0), 0.8 * np.exp(3.0)])
    np.testing.assert_allclose(table[0], weights / weights.sum())


def test_the_schedule_balances_step_and_tolerance() -> None:
    schedule = Schedule.of(0.5, 80.0, 196, 10.0, 1.0)
    c = 2.0 * 196 * 1000.0
    assert schedule.step == pytest.approx(sqrt(0.5 / (c * 80.0)))
    assert schedule.tolerance == pytest.approx(4.0 * sqrt(c * 0.5 / 80.0))
    small = Schedule.of(0.5, 80.0, 196, 10.0, 1e-3)
    assert small.step == pytest.approx(1e3 * schedule.step)
    assert small.tolerance == pytest.approx(1e-3 * schedule.tolerance)


def test_crpo_comes_close_to_the_optimum_within_its_tolerance() -> None:
    """Arm at price .8: the optimum earns 1.25 by playing the costly arm with probability .625."""
    task = training_stack(Arm(0.8, 0.8), IDLE, tasks=1)
    occupancy = crpo(task, HALF, Schedule(0.02, 0.02), 400)
    assert occupancy.sum() == pytest.approx(task.horizon)
    share = occupancy[0, 1] / occupancy.sum()
    assert 2.0 * 0.8 * share <= 1.0 + 0.02
    assert share == pytest.approx(0.625, abs=0.03)


def test_crpo_answers_with_its_last_policy_where_no_step_was_on_the_reward() -> None:
    task = training_stack(Arm(1.0, 1.0), IDLE, tasks=1)
    start = np.array([[0.01, 0.99]])
    occupancy = crpo(task, start, Schedule(0.05, 0.0), 3)
    assert occupancy[0, 1] / occupancy.sum() < 0.99
    assert 2.0 * occupancy[0, 1] / occupancy.sum() > 1.0, "still above the limit"


@given(st.integers(0, 2**32), st.sampled_from([0.0, 1e-6, 0.01, 0.2, 1.0 / 3.0]))
def test_raising_to_a_floor_is_least_and_idempotent(seed: int, floor: float) -> None:
    rng = np.random.default_rng(seed)
    table = np.r_[rng.dirichlet(np.full(3, 0.2), size=4), np.eye(3)[:1], np.full((1, 3), 1.0 / 3.0)]
    up = raised(table, floor)
    np.testing.assert_allclose(up.sum(axis=1), 1.0)
    assert up.min() >= floor - 1e-12
    enough = table.min(axis=1) >= floor
    np.testing.assert_array_equal(up[enough], table[enough])
    np.testing.assert_allclose(up[~enough].min(axis=1), floor, atol=1e-12)
    np.testing.assert_allclose(raised(up, floor), up, atol=1e-12)


def test_meta_training_on_one_task_starts_near_its_optimum() -> None:
    stack = training_stack(Arm(0.8, 0.8), IDLE, tasks=24)
    meta = meta_train(stack, IDLE, 0.05)
    schedule = Schedule.of(meta.divergence, 80, 2, 2.0, 0.05)
    assert meta.table[0, 1] == pytest.approx(0.625, abs=0.05)
    assert 2.0 * 0.8 * meta.table[0, 1] <= 1.0 + schedule.tolerance


@pytest.mark.slow
def test_tasks_alike_are_learned_faster_than_tasks_apart() -> None:
    """The second learner: a smaller mean divergence means smaller steps and a smaller tolerance."""
    alike, apart = (
        meta_train(training_stack(Arm(*ends), IDLE, tasks=32), IDLE, 0.02) for ends in ((0.79, 0.81), (0.3, 3.0))
    )
    assert alike.divergence < 0.8 * apart.divergence


def test_meta_training_pays_on_fresh_tasks() -> None:
    """Mean return over pi_s grows; the mean cost stays within limit and tolerance, which is all the method promises."""
    safe = np.asarray(WORLD.safe_policy())
    stack, fresh = training_stack(WORLD, safe, tasks=16), training_stack(WORLD, safe, seed=99, tasks=40)
    multiplier = 3e-4
    meta = meta_train(stack, safe, multiplier, tasks=16, iterations=40)
    schedule = Schedule.of(meta.divergence, 40, safe.size, 10.0, multiplier)
    values, before = fresh.totals(meta.table).mean(axis=0), fresh.totals(safe).mean(axis=0)
    assert values[0] > before[0] + 0.1
    assert values[1] <= fresh.limits[0] + 2.0 * schedule.tolerance
    assert meta.table.min() >= interior(stack, safe).min() - 1e-12


def context(family: object, policy_set: PolicySet, episodes: int = 6_000) -> SimpleNamespace:
    return SimpleNamespace(family=family, policy_set=policy_set, task=None, episodes=episodes, delta=0.05, seed=2)


def test_theory_says_that_its_bound_is_empty() -> None:
    agent = make(context(Arm(), arm_set()), "")
    assert agent.notes[0].startswith("violations while learning are allowed by the method")
    assert "times the limit: the bound is empty" in agent.notes[2]


def test_theory_hardly_moves_on_the_gridworld_and_allows_any_cost() -> None:
    """However the advantages lie: over 40 000 episodes no ratio of two probabilities changes by more than a third."""
    iterations = 40_000 / BATCH
    for divergence in (0.02, 0.1):
        schedule = Schedule.of(divergence, iterations, 196, 10.0, 1.0)
        assert schedule.tolerance > 10.0
    largest = Schedule.of(0.05, iterations, 196, 10.0, 1.0).step * 10.0 * 10.0 * iterations
    assert np.exp(largest) < 4.0 / 3.0 + 0.05


def test_calibrated_learns_the_task() -> None:
    task = Arm().cmdp([0.9])
    agent = make(context(Arm(), arm_set(), 20_000), "calibrated=0.03")
    assert any("multiplied by 0.03" in note for note in agent.notes)
    trace = play(agent, task, 20_000, seed=0)
    late = trace.costs[-60:, 0]
    assert abs(late.mean() - 1.0) < abs(trace.costs[0, 0] - 1.0)
    assert late.mean() == pytest.approx(1.0, abs=0.1)


def test_wrong_arguments_are_refused() -> None:
    with refused("SF-ARGUMENT-CHOICE", "preset of meta-srl", "theory, calibrated, calibrated=NUMBER"):
        make(context(Arm(), arm_set()), "published")
