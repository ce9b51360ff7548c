"""Training tasks, evaluated at once, against evaluation one by one; the interior start; learning once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from surefoot import PolicySet, evaluate_many, occupancy, train
from surefoot.arrays import FloatArray
from surefoot.baselines import meta_training
from surefoot.baselines.gradient import Units, exact_advantages, with_uniform
from surefoot.baselines.meta_training import TaskStack, interior, trained, training_stack
from surefoot.tasks import NoisyGridworld
from tests.models import random_cmdp, random_policy
from tests.refusals import refused
from tests.training.families import Arm, ArmOptimum, Spy

IDLE = np.array([[1.0, 0.0]])


@cache
def arm_set(low: float = 0.3) -> PolicySet:
    """A policy set of the bandit family; its safe policy idles."""
    return train(Arm(low), tasks=20, holdout=0, cells=2, optimal=ArmOptimum(), strict=False, seed=0, progress=False)


@pytest.fixture
def world(rng: np.random.Generator) -> tuple[list[Any], TaskStack]:
    tasks = [random_cmdp(rng, states=5, constraints=2) for _ in range(4)]
    return tasks, TaskStack.of(tasks, Units.raw(tasks[0].criterion))


def test_a_stack_evaluates_as_its_tasks_do_one_by_one(
    world: tuple[list[Any], TaskStack], rng: np.random.Generator
) -> None:
    tasks, stack = world
    tables = random_policy(rng, 5, 3, count=4)
    each = stack.evaluate(tables)
    np.testing.assert_allclose(stack.totals(tables), each.totals)
    for k, (task, table) in enumerate(zip(tasks, tables)):
        np.testing.assert_allclose(each.totals[k], evaluate_many(task, table)[0])
        np.testing.assert_allclose(each.advantages[k], exact_advantages(task, table), atol=1e-10)
        np.testing.assert_allclose(each.states[k], occupancy(task, table).sum(axis=1), atol=1e-10)
    one = stack.totals(tables[0])
    np.testing.assert_allclose(one, [evaluate_many(t, tables[0])[0] for t in tasks])
    np.testing.assert_allclose(stack.take(slice(1, 3)).totals(tables[0]), one[1:3])
    assert len(stack.take(np.array([True, False, True, True]))) == 3


def test_a_stack_is_in_the_papers_units() -> None:
    world = NoisyGridworld()
    stack = TaskStack.of([world.cmdp(0.3)], Units.of(world.criterion))
    assert stack.signals.max() == 1.0 and stack.signals.min() == 0.0
    np.testing.assert_allclose(stack.limits, [0.15])
    np.testing.assert_allclose(
        10.0 * stack.totals(world.safe_policy()), evaluate_many(world.cmdp(0.3), world.safe_policy())
    )
    assert stack.horizon == pytest.approx(10.0)


def test_training_tasks_are_the_familys_and_the_same_for_the_same_seed() -> None:
    spy = Spy(Arm())
    one, two, other = (training_stack(spy, IDLE, seed=seed, tasks=16) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.signals, two.signals)
    assert np.abs(one.signals - other.signals).max() > 0.0
    prices = one.signals[:, 1, 0, 1]
    np.testing.assert_array_equal(prices[:16], spy.samples[0][:, 0])
    assert prices[16:].tolist() == [0.3, 1.0], "the corners of the support"
    plain = Arm().sample(16, np.random.default_rng(5))
    assert np.intersect1d(plain, spy.samples[0]).size == 0, "a stream of its own"


def test_tasks_that_the_safe_policy_cannot_serve_are_left_out() -> None:
    half = np.array([[0.4, 0.6]])  # costs 2 * .6 * q <= 1 up to q = 5/6
    stack = training_stack(Arm(), half, tasks=64)
    assert 0 < len(stack) < 66
    assert stack.signals[:, 1, 0, 1].max() < 5.0 / 6.0
    with refused("SF-ASSUMPTION-INFEASIBLE", "none of 66"):
        training_stack(Arm(0.9), np.array([[0.0, 1.0]]), tasks=64)


def test_fewer_tasks_are_stacked_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta_training, "STACK_BYTES", 8 * 2 * 20)
    assert len(training_stack(Arm(), IDLE)) == 20 + 2
    monkeypatch.setattr(meta_training, "STACK_BYTES", 1)
    assert len(training_stack(Arm(), IDLE)) == meta_training.LEAST_TASKS + 2


def test_an_endless_support_has_no_corners() -> None:
    @dataclass(frozen=True)
    class Endless(Arm):
        @property
        def support(self) -> FloatArray:
            return np.array([[0.3, np.inf]])

    assert len(training_stack(Endless(), IDLE, tasks=16)) == 16


def test_the_interior_start_leaves_half_the_slack_and_no_larger_power_does() -> None:
    world = NoisyGridworld()
    safe = np.asarray(world.safe_policy())
    stack = training_stack(world, safe, tasks=32)
    slack = stack.limits - stack.totals(safe)[:, 1:]
    table = interior(stack, safe)
    share = 4.0 * table.min()
    assert table.min() > 0.0 and np.log2(share) == round(np.log2(share))
    np.testing.assert_allclose(table, with_uniform(safe, share))
    assert (stack.limits - stack.totals(table)[:, 1:] >= 0.5 * slack).all()
    assert not (stack.limits - stack.totals(with_uniform(safe, 2.0 * share))[:, 1:] >= 0.5 * slack).all()


def test_no_interior_start_without_slack() -> None:
    stack = training_stack(Arm(), IDLE, tasks=8)
    tight = TaskStack(stack.kernels, stack.signals, stack.start, np.full(1, 1e-14), stack.discount)
    with refused("SF-ASSUMPTION-MARGIN", "1e-14"):
        interior(tight, IDLE)


def test_learning_happens_once_per_family_policy_set_and_purpose() -> None:
    calls: list[int] = []

    def learn(stack: TaskStack) -> int:
        calls.append(len(stack))
        return len(calls)

    purpose = "counting"
    first = trained(Arm(), arm_set(), purpose, learn)
    assert trained(Arm(), arm_set(), purpose, learn) == first
    assert len(calls) == 1
    assert trained(Arm(), arm_set(), purpose + " again", learn) != first
    assert trained(Arm(0.5), arm_set(0.5), purpose, learn) == 3
    assert trained(Arm(), arm_set(), purpose, learn) == first, "also after another family's stack has taken the place"
    assert calls == [258, 258, 258]
