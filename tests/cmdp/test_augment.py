"""The program over policies that look at the accumulated cost, against values and optima over exact histories."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import surefoot as sf
from surefoot.cmdp import state_bounds
from surefoot.solvers import certify
from surefoot.tasks import QueueAdmission
from tests.cmdp.test_functionals import coarse, law
from tests.models import random_policy
from tests.refusals import refused

BOTH = [sf.Exceeds(1.7, at_most=0.5), sf.CVaR(0.3, at_most=4.0, threshold=1.2), sf.Mean(1.0)]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.1, 3.0), st.floats(0.1, 3.0), st.floats(0.05, 1.0))
def test_lifted_policies_keep_their_returns_and_what_is_limited_is_never_too_small(
    seed: int, first: float, second: float, level: float
) -> None:
    limits = [sf.Exceeds(first, at_most=1.0), sf.CVaR(level, at_most=90.0, threshold=second), sf.Mean(4.0)]
    task = coarse(seed).with_functionals(limits, grid=20)
    table = random_policy(np.random.default_rng(seed + 1), 3, 2)
    wide = sf.augment(task)
    found, plain = wide.values(wide.lift(table))[0], sf.evaluate(task.with_means([9.0]), table)
    assert found[0] == pytest.approx(plain.reward, abs=1e-9) and found[3] == pytest.approx(plain.costs[0], abs=1e-9)
    least = np.zeros(3)
    for s in np.flatnonzero(task.start):
        costs, chance = law(task, table, int(s), 9)
        least += task.start[s] * np.array([f.of(costs) @ chance for f in limits])
    assert (found[1:] >= least - 1e-9).all()
    lower = state_bounds(task, table)[0][0] @ task.start
    assert (found >= lower - 1e-9).all()


@pytest.mark.slow
def test_what_is_limited_tends_to_the_truth() -> None:
    task = coarse(2).with_functionals(BOTH)
    table = random_policy(np.random.default_rng(0), 3, 2)
    _, upper = (b[0] @ task.start for b in state_bounds(task.with_functionals(BOTH, grid=800), table))
    gaps = []
    for grid in (10, 100, 1000):
        wide = sf.augment(task, grid=grid)
        gaps.append(wide.values(wide.lift(table))[0] - upper)
    assert (gaps[2] < 0.03).all() and (gaps[0] >= gaps[2] - 1e-9).all()


def history_optimum(task: sf.TabularCMDP, functional: Any, limit: float, steps: int) -> float:
    """Optimum over all policies with a memory, by its dual: ``min over lam of max E[R - lam f(C)] + lam d``, costs kept exactly."""
    discount = task.discount

    def dual(lam: float) -> float:
        @cache
        def best(t: int, s: int, z: float) -> float:
            if t == steps:
                return -lam * float(functional.of(np.array(z))) / discount**t
            return max(
                task.rewards[s, a]
                + discount
                * sum(
                    task.dense[s, a, k] * best(t + 1, k, z + discount**t * task.costs[0, s, a])
                    for k in range(task.n_states)
                    if task.dense[s, a, k] > 0.0
                )
                for a in range(task.n_actions)
            )

        return sum(task.start[s] * best(0, s, 0.0) for s in range(task.n_states)) + lam * limit

    low, high = 0.0, 60.0
    for _ in range(30):
        one, two = low + (high - low) / 3.0, high - (high - low) / 3.0
        if dual(one) <= dual(two):
            high = two
        else:
            low = one
    return dual(0.5 * (low + high))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "functional"),
    [
        (0, sf.Exceeds(1.3, at_most=0.35)),
        (3, sf.CVaR(0.3, at_most=1.9, threshold=0.7)),
        (7, sf.Exceeds(0.7, at_most=0.3)),
    ],
)
def test_the_optimum_is_that_over_all_histories(seed: int, functional: Any) -> None:
    task = coarse(seed).with_functionals([functional], grid=300)
    wide = sf.augment(task)
    found = sf.solve_over_policies(wide.cmdp)
    if found.status == "infeasible":
        pytest.fail("choose another task")
    assert found.status == "optimal"
    proof = certify(wide.cmdp, found.policy, found.multipliers)
    assert proof.relative_gap <= 1e-6 and proof.relative_excess <= 1e-6
    # Cut after 8 steps the dual misses at most gamma^8 / (1 - gamma) of the rewards.
    missed = 0.5**8 * 2.0 * np.abs(task.rewards).max()
    wanted = history_optimum(task, functional, functional.at_most, 8)
    assert found.value == pytest.approx(wanted, abs=missed + 0.03)
    assert found.value == pytest.approx(sf.solve(wide.cmdp).value, abs=1e-5)
    stationary = sf.solve(task)
    assert found.value >= stationary.value - 1e-6 and stationary.bound >= found.value - 1e-6


@pytest.mark.statistical
def test_a_policy_that_looks_at_the_cost_plays_on_the_plant() -> None:
    """Values of the augmented task are what its policy earns and costs where it adds up the cost itself."""
    family = QueueAdmission(capacity=4)
    task = family.cmdp(0.5).with_functionals([sf.Exceeds(2.03, at_most=0.25)], grid=8)
    wide = sf.augment(task)
    found = sf.solve_over_policies(wide.cmdp)
    assert found.status == "optimal"
    policy, rng = wide.policy(found.policy), np.random.default_rng(5)
    runs, steps = 300, 160
    returns, costs = np.zeros(runs), np.zeros(runs)
    edges = np.cumsum(task.dense, axis=2)
    for k in range(runs):
        own = policy.for_episode()
        s = 0
        for t in range(steps):
            a, _ = own.predict(s, rng=rng)
            returns[k] += task.discount**t * task.rewards[s, a]
            costs[k] += task.discount**t * task.costs[0, s, a]
            s = min(int(np.searchsorted(edges[s, a], rng.random(), side="right")), task.n_states - 1)
    error = 4.5 * returns.std() / np.sqrt(runs)
    assert returns.mean() == pytest.approx(found.value, abs=error + 1e-3)
    assert np.mean(costs > 2.03) <= 0.25 + 4.5 * 0.5 / np.sqrt(runs)
    with refused("SF-ARGUMENT-RANGE", "observation"):
        lost = policy.for_episode()
        lost.predict(3)


def test_decided_from_the_beginning() -> None:
    task = coarse(1)
    never = sf.augment(task.with_functionals([sf.Exceeds(50.0, at_most=0.1)]))
    assert never.cmdp.n_states == 3 * 3 and never.moves == () and never.cmdp.costs.max() == 0.0
    own = never.policy(np.full((9, 2), 0.5)).for_episode()
    assert own.predict(0, deterministic=True)[0] in (0, 1) and own.predict(2)[0] in (0, 1)
    always = sf.augment(task.with_functionals([sf.CVaR(0.5, at_most=9.0, threshold=0.0)], grid=50))
    table = random_policy(np.random.default_rng(0), 3, 2)
    # With the threshold at zero, the functional is the cost itself over the level.
    mean = sf.evaluate(task, table).costs[0]
    assert always.values(always.lift(table))[0, 1] == pytest.approx(2.0 * mean, rel=1e-3)


@pytest.mark.parametrize(
    ("build", "refusal"),
    [
        (lambda t: sf.augment(t), ("SF-ARGUMENT-COMBINATION", "task", "0")),
        (lambda t: sf.augment(t.with_functionals([sf.Mean(1.0)])), ("SF-ARGUMENT-COMBINATION", "task")),
        (lambda t: sf.augment(t.with_functionals(BOTH), most_states=20), ("SF-ARGUMENT-RANGE", "most_states", "20")),
        (lambda t: sf.augment(t.with_functionals(BOTH), grid=1), ("SF-ARGUMENT-RANGE", "grid")),
        (lambda t: sf.solve_over_policies(t.with_functionals(BOTH)), ("SF-ARGUMENT-COMBINATION", "cmdp")),
    ],
)
def test_refusals(build: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        build(coarse(0))
