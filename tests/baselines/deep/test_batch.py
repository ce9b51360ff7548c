"""Episodes and what they say: sums, advantages, gradients of a finite task whose exact ones are known."""

from __future__ import annotations

import numpy as np
import pytest

from surefoot import Criterion
from surefoot.baselines.deep.batch import Trajectories, World, join, pooled, prepare
from surefoot.baselines.deep.networks import GaussianPolicy, SoftmaxPolicy
from surefoot.baselines.gradient import exact_gradient
from surefoot.cmdp.evaluate import evaluate
from surefoot.gym.family import GymFamily
from tests.baselines.deep_worlds import LQ, lq_family, random_batch, three_states, three_states_family
from tests.refusals import refused


def hand_made(lengths: list[int]) -> Trajectories:
    n, rng = sum(lengths), np.random.default_rng(3)
    return Trajectories(
        rng.standard_normal((n, 1)), rng.standard_normal((n, 1)), np.zeros(n), rng.standard_normal(n), rng.uniform(size=n),
        np.array(lengths),
    )  # fmt: skip


def test_sums_are_discounted_within_episodes() -> None:
    found = hand_made([3, 1, 4])
    r, c = found.rewards, found.costs
    expected = [
        [r[0] + 0.5 * r[1] + 0.25 * r[2], c[0] + 0.5 * c[1] + 0.25 * c[2]],
        [r[3], c[3]],
        [r[4] + 0.5 * r[5] + 0.25 * r[6] + 0.125 * r[7], c[4] + 0.5 * c[5] + 0.25 * c[6] + 0.125 * c[7]],
    ]
    np.testing.assert_allclose(found.sums(0.5), expected)
    np.testing.assert_array_equal(found.times, [0, 1, 2, 0, 0, 1, 2, 3])
    np.testing.assert_allclose(join([found, found]).sums(0.5), np.vstack([expected, expected]))


def test_advantages_are_those_of_the_definition() -> None:
    found, policy = hand_made([5, 3, 6]), GaussianPolicy.build(1, 1, ())
    whole, short = (prepare(policy, found, 0.9, 6, trace) for trace in (1.0, 0.6))
    to_go = np.concatenate(
        [[sum(0.9**k * part[t + k] for k in range(len(part) - t)) for t in range(len(part))]
         for part in np.split(found.rewards, [5, 8])]
    )  # fmt: skip
    x, t = policy.inputs(found.observations), found.times[:, None] / 6
    table = np.hstack([x, x**2, t, t**2, t**3, np.ones_like(t)])
    values = table @ np.linalg.lstsq(table, to_go, rcond=None)[0]
    np.testing.assert_allclose(whole.reward_advantages, to_go - values, atol=0.05)  # the ridge moves it a little
    values = to_go - whole.reward_advantages
    for a, b in ((0, 5), (5, 8), (8, 14)):
        ahead = 0.0
        for t in range(b - 1, a - 1, -1):
            following = values[t + 1] if t + 1 < b else 0.0
            ahead = found.rewards[t] + 0.9 * following - values[t] + 0.9 * 0.6 * ahead
            assert short.reward_advantages[t] == pytest.approx(ahead, abs=1e-9)
    np.testing.assert_allclose(short.weights, 0.9**found.times / 3)
    assert (short.reward, short.cost) == pytest.approx(tuple(found.sums(0.9).mean(axis=0)))


@pytest.mark.slow
def test_gradients_estimate_the_exact_ones_of_a_finite_task() -> None:
    cmdp = three_states()
    world, policy, rng = World(three_states_family(cmdp)), SoftmaxPolicy.build(3, 2), np.random.default_rng(0)
    theta = np.concatenate([rng.standard_normal(6), np.zeros(2)])
    batch = world.batch(policy, theta, [[0.5]], rng, episodes=2000)
    table = policy.probabilities(theta, np.eye(3))
    exact = exact_gradient(cmdp, table).transpose(0, 2, 1).reshape(2, -1)
    values = evaluate(cmdp, table)
    assert (batch.reward, batch.cost) == (
        pytest.approx(values.reward, abs=0.1),
        pytest.approx(values.costs[0], abs=0.06),
    )
    for advantages, gradient in ((batch.reward_advantages, exact[0]), (batch.cost_advantages, exact[1])):
        found = batch.gradient(policy, theta, advantages)[:6]
        np.testing.assert_allclose(found, gradient, atol=0.1 * np.abs(gradient).max() + 0.01)


def test_episodes_do_not_depend_on_their_place() -> None:
    policy, theta = GaussianPolicy.build(1, 1, ()), np.array([-0.5, 0.0, -3.0])
    found = World(lq_family(), num_envs=3).run(policy, theta, [[0.1], [0.9]], np.random.default_rng(0), episodes=4)
    assert (found.episodes, found.steps) == (8, 240)
    # What an action does is what the environment says it does.
    first, second = found.observations[0, 0], found.observations[1, 0]
    assert second == pytest.approx(LQ.A * first + LQ.B * found.actions[0, 0], abs=5.0 * LQ.NOISE)
    assert found.rewards[0] == pytest.approx(-(first**2 + LQ.R * found.actions[0, 0] ** 2))
    assert found.costs[0] == pytest.approx(found.actions[0, 0] ** 2)


def test_pooling_weighs_tasks_the_same() -> None:
    policy, rng = GaussianPolicy.build(2, 1, ()), np.random.default_rng(1)
    theta = rng.standard_normal(policy.size)
    parts = [random_batch(policy, theta, rng, n=n, cost=c) for n, c in ((10, 1.0), (30, 2.0))]
    whole = pooled(parts)
    expected = np.mean([p.gradient(policy, theta, p.reward_advantages) for p in parts], axis=0)
    np.testing.assert_allclose(whole.gradient(policy, theta, whole.reward_advantages), expected, atol=1e-12)
    assert (whole.cost, whole.steps, whole.episodes) == (1.5, 40, 8)


def test_a_family_with_two_limits_is_refused() -> None:
    criterion = Criterion(0.9, np.array([1.0, 1.0]), (0.0, 1.0), np.array([1.0, 1.0]), 5)
    family = GymFamily(
        "two", ("p",), np.array([[0.0, 1.0]]), criterion, lambda n, rng: np.zeros((n, 1)), lambda p: LQ()
    )
    with refused("SF-ARGUMENT-LENGTH", "limit", "2"):
        World(family)
