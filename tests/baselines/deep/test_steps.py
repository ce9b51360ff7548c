"""One step of every method against an independent solution of the same problem."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from surefoot.arrays import FloatArray
from surefoot.baselines.deep.batch import Batch
from surefoot.baselines.deep.cpo import cpo_step, solve_step
from surefoot.baselines.deep.learner import State
from surefoot.baselines.deep.maml import MAML, MetaTask, adam, meta_gradient, meta_objective
from surefoot.baselines.deep.meta_cpo import MetaCPO, inner_step, through_step
from surefoot.baselines.deep.networks import GaussianPolicy, SoftmaxPolicy
from surefoot.baselines.deep.safe_meta_rl import Penalties, SafeMetaRL, project, tilt, tilted
from surefoot.baselines.deep.trpo_lagrangian import TRPOLagrangian
from surefoot.baselines.deep.trust_region import Trust, conjugate_gradient, curvature, natural_step, trpo_step
from tests.baselines.deep_worlds import lq_family, random_batch

EXACT = Trust(delta=0.02, damping=0.0, iterations=200)
POLICY = GaussianPolicy.build(2, 1, (3,))


def made(seed: int, cost: float = 1.0) -> tuple[FloatArray, Batch]:
    rng = np.random.default_rng(seed)
    theta = 0.5 * rng.standard_normal(POLICY.size)
    return theta, random_batch(POLICY, theta, rng, cost=cost)


def positive(rng: np.random.Generator, size: int) -> FloatArray:
    root = rng.standard_normal((size, size))
    return np.asarray(root @ root.T + 0.3 * np.eye(size))


# ------------------------------------------------------------------------------------------------------------- TRPO


def test_conjugate_gradients_solve() -> None:
    rng = np.random.default_rng(0)
    matrix, b = positive(rng, 8), rng.standard_normal(8)
    np.testing.assert_allclose(conjugate_gradient(lambda v: matrix @ v, b, 50), np.linalg.solve(matrix, b), rtol=1e-8)
    assert conjugate_gradient(lambda v: matrix @ v, np.zeros(8), 50).tolist() == [0.0] * 8


def test_the_natural_gradient_is_that_of_the_inverse_fisher_matrix() -> None:
    theta, batch = made(1)
    trust = replace(EXACT, damping=1e-3)
    product = curvature(POLICY, theta, batch, trust)
    matrix = np.array([product(e) for e in np.eye(theta.size)])
    g = batch.gradient(POLICY, theta, batch.reward_advantages)
    x = natural_step(g, product, trust)
    along_it = np.linalg.solve(matrix, g)
    np.testing.assert_allclose(x, np.sqrt(2.0 * trust.delta / (g @ along_it)) * along_it, rtol=1e-5)
    assert 0.5 * x @ matrix @ x == pytest.approx(trust.delta)


def test_a_step_of_trpo_rises_within_the_trust_region() -> None:
    theta, batch = made(2)
    trust = Trust(delta=0.01)
    moved = trpo_step(POLICY, theta, batch, batch.reward_advantages, trust)
    a = batch.reward_advantages
    assert batch.change(POLICY, moved, a) > batch.change(POLICY, theta, a) + 1e-3
    assert 1e-4 < batch.divergence(POLICY, theta, moved) <= 0.01


def test_the_multiplier_follows_the_excess_and_turns_the_step() -> None:
    learner, world = TRPOLagrangian(POLICY, rate=0.5), world_of(limit=2.0)
    theta, dear = made(3, cost=3.0)
    after = learner.adapt(State(theta, 0.1), dear, world)
    assert after.multiplier == pytest.approx(0.1 + 0.5 * 0.5)
    assert learner.adapt(State(theta, 0.1), replace(dear, cost=1.0), world).multiplier == 0.0
    heavy = learner.adapt(State(theta, 50.0), dear, world).theta
    light = learner.adapt(State(theta, 0.0), dear, world).theta
    costs = [dear.change(POLICY, at, dear.cost_advantages) for at in (heavy, theta)]
    assert costs[0] < costs[1]
    assert dear.change(POLICY, light, dear.reward_advantages) > dear.change(POLICY, heavy, dear.reward_advantages)


def world_of(limit: float) -> Any:
    from surefoot.baselines.deep.batch import World

    return World(lq_family(limit))


# -------------------------------------------------------------------------------------------------------------- CPO


@pytest.mark.parametrize("seed", range(40))
def test_the_step_solves_the_subproblem(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix, g, b = positive(rng, 3), rng.standard_normal(3), rng.standard_normal(3)
    delta = 0.1
    reach = np.sqrt(2.0 * delta * (b @ np.linalg.solve(matrix, b)))
    c = float(rng.uniform(-1.5, 0.95) * reach)
    found = solve_step(g, b, c, lambda v: matrix @ v, replace(EXACT, delta=delta))
    other = minimize(
        lambda x: -g @ x, np.zeros(3), jac=lambda x: -g, method="SLSQP", options={"ftol": 1e-14, "maxiter": 500},
        constraints=[
            {"type": "ineq", "fun": lambda x: -(c + b @ x), "jac": lambda x: -b},
            {"type": "ineq", "fun": lambda x: delta - 0.5 * x @ matrix @ x, "jac": lambda x: -matrix @ x},
        ],
    )  # fmt: skip
    assert not found.recovery
    assert c + b @ found.x <= 1e-8
    assert 0.5 * found.x @ matrix @ found.x <= delta * (1.0 + 1e-8)
    assert g @ found.x == pytest.approx(-other.fun, abs=1e-5)
    # Stationarity, with multipliers of the right sign.
    assert found.trust > 0.0 and found.cost >= 0.0
    np.testing.assert_allclose(g - found.cost * b - found.trust * matrix @ found.x, 0.0, atol=1e-6)


def test_both_pieces_of_the_dual_are_met() -> None:
    kinds = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        matrix, g, b = positive(rng, 3), rng.standard_normal(3), rng.standard_normal(3)
        c = float(rng.uniform(-1.5, 0.95) * np.sqrt(0.2 * (b @ np.linalg.solve(matrix, b))))
        kinds.add((c > 0.0, solve_step(g, b, c, lambda v: matrix @ v, replace(EXACT, delta=0.1)).cost > 0.0))  # noqa: B023
    assert kinds >= {(True, True), (False, True), (False, False)}


def test_right_at_the_limit_the_step_keeps_it() -> None:
    g, b = np.array([1.0, 0.0]), np.array([1.0, 1.0])
    found = solve_step(g, b, 0.0, lambda v: v, replace(EXACT, delta=0.5))
    np.testing.assert_allclose(found.x, np.array([1.0, -1.0]) / np.sqrt(2.0), atol=1e-9)
    free = solve_step(g, -b, 0.0, lambda v: v, replace(EXACT, delta=0.5))
    np.testing.assert_allclose(free.x, [1.0, 0.0], atol=1e-9)
    assert free.cost == 0.0


def test_out_of_reach_of_the_limit_the_step_recovers() -> None:
    rng = np.random.default_rng(5)
    matrix, g, b = positive(rng, 3), rng.standard_normal(3), rng.standard_normal(3)
    inverse = np.linalg.solve(matrix, b)
    found = solve_step(g, b, 10.0, lambda v: matrix @ v, replace(EXACT, delta=0.1))
    assert found.recovery
    np.testing.assert_allclose(found.x, -np.sqrt(0.2 / (b @ inverse)) * inverse, rtol=1e-8)
    # Far within the limit, and where costs say nothing, it is the step of TRPO.
    for cost, c in ((b, -10.0), (np.zeros(3), 1.0)):
        free = solve_step(g, cost, c, lambda v: matrix @ v, replace(EXACT, delta=0.1))
        np.testing.assert_allclose(free.x, natural_step(g, lambda v: matrix @ v, replace(EXACT, delta=0.1)), rtol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_the_line_search_keeps_cost_and_divergence(seed: int) -> None:
    trust = Trust(delta=0.01)
    theta, batch = made(seed)
    for limit in (0.5, 0.99, 1.0, 1.05, 5.0):  # the batch costs 1
        moved = cpo_step(POLICY, theta, batch, limit, trust)
        rise = batch.change(POLICY, moved, batch.cost_advantages) - batch.change(POLICY, theta, batch.cost_advantages)
        gain = batch.change(POLICY, moved, batch.reward_advantages) - batch.change(
            POLICY, theta, batch.reward_advantages
        )
        assert rise <= max(limit - 1.0, 0.0) + 1e-12
        assert batch.divergence(POLICY, theta, moved) <= trust.delta
        assert gain >= 0.0 or limit < 1.0
        if limit < 1.0:
            assert rise < 0.0  # below the limit or, out of its reach, towards it: whatever that costs in return
        if limit == 5.0:
            assert gain > 1e-3


# ------------------------------------------------------------------------------------------------------------- MAML


def meta_tasks(seed: int, n: int = 2) -> tuple[FloatArray, list[MetaTask]]:
    rng = np.random.default_rng(seed)
    phi = 0.5 * rng.standard_normal(POLICY.size)
    parts = [[random_batch(POLICY, phi, rng, cost=c) for c in (3.0, 0.5)] for _ in range(n)]
    return phi, [MetaTask(*pair, np.zeros(1)) for pair in parts]


def test_the_meta_gradient_is_that_of_the_adapted_objective() -> None:
    phi, tasks = meta_tasks(0)
    settings = (1.0, 0.7, 0.3)  # limit: the first batches exceed it, the second do not
    step = 1e-6
    expected = [
        (meta_objective(POLICY, phi + step * e, tasks, *settings) - meta_objective(POLICY, phi - step * e, tasks, *settings)) / (2 * step)
        for e in np.eye(phi.size)
    ]  # fmt: skip
    full = meta_gradient(POLICY, phi, tasks, *settings, first_order=False)
    np.testing.assert_allclose(full, expected, atol=1e-7)
    first = meta_gradient(POLICY, phi, tasks, *settings, first_order=True)
    assert np.abs(first - full).max() > 1e-2 * np.abs(full).max()


def test_adaptation_climbs_the_penalised_return() -> None:
    world = world_of(limit=2.0)
    theta, batch = made(7, cost=3.0)
    learner = MAML(POLICY, rate=0.02, penalty=1.0)
    moved = learner.adapt(State(theta), batch, world).theta
    price = world.exchange
    kind = batch.reward_advantages - price * batch.cost_advantages
    assert batch.change(POLICY, moved, kind) > batch.change(POLICY, theta, kind)
    free = learner.adapt(State(theta), replace(batch, cost=1.0), world).theta
    a = batch.reward_advantages
    assert batch.change(POLICY, free, a) > batch.change(POLICY, theta, a)


def test_adam_takes_steps_of_its_rate_at_first_and_remembers() -> None:
    state = adam(State(np.zeros(2)), np.array([3.0, -0.1]), 0.01)
    np.testing.assert_allclose(state.theta, [0.01, -0.01], rtol=1e-6)
    state = adam(state, np.array([0.0, -0.1]), 0.01)
    m, v = 0.9 * 0.3 / (1 - 0.81), 0.999 * 0.009 / (1 - 0.998001)
    assert state.theta[0] == pytest.approx(0.01 + 0.01 * m / np.sqrt(v), rel=1e-6)


# --------------------------------------------------------------------------------------------------------- Meta-CPO


@pytest.mark.parametrize("limit", [0.99, 1.02, 5.0])
def test_the_gradient_goes_through_the_convex_programme(limit: float) -> None:
    theta, batch = made(3)
    trust = replace(EXACT, damping=0.3)
    step, product = inner_step(POLICY, theta, batch, limit, trust)
    assert not step.recovery
    assert (step.cost > 0.0) == (limit < 2.0)
    w = np.random.default_rng(0).standard_normal(theta.size)

    def moved(phi: FloatArray) -> float:
        g, b = (batch.gradient(POLICY, phi, a) for a in (batch.reward_advantages, batch.cost_advantages))
        rise = batch.change(POLICY, phi, batch.cost_advantages) - batch.change(POLICY, theta, batch.cost_advantages)
        return float(w @ (phi + solve_step(g, b, batch.cost + rise - limit, product, trust).x))

    size = 1e-6
    expected = np.array([(moved(theta + size * e) - moved(theta - size * e)) / (2 * size) for e in np.eye(theta.size)])
    found = through_step(POLICY, theta, batch, step, product, trust, w)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    assert np.abs(found - w).max() > 0.05


@pytest.mark.parametrize("seed", range(4))
def test_the_outer_step_keeps_the_cost_after_adaptation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    learner = MetaCPO(POLICY, trust=Trust(delta=0.01))
    phi = 0.5 * rng.standard_normal(POLICY.size)
    for cost in (0.5, 0.99, 1.01, 4.0):  # after adaptation; the limit is 1
        before = random_batch(POLICY, phi, rng, cost=0.9)
        inner = inner_step(POLICY, phi, before, 1.0, learner.trust)[0].x
        after = random_batch(POLICY, phi + inner, rng, cost=cost)
        moved = learner.outer_step(phi, [MetaTask(before, after, np.zeros(1))], 1.0)
        rise = [after.change(POLICY, at + inner, after.cost_advantages) for at in (phi, moved)]
        gain = [after.change(POLICY, at + inner, after.reward_advantages) for at in (phi, moved)]
        assert before.divergence(POLICY, phi, moved) <= 0.01
        if cost > 1.0:
            assert rise[1] < rise[0]
        else:
            assert rise[1] - rise[0] <= 1.0 - cost
            assert gain[1] >= gain[0]
        assert np.abs(moved - phi).max() > 0.0


def test_a_recovery_step_counts_as_a_shift() -> None:
    theta, batch = made(3)
    step, product = inner_step(POLICY, theta, batch, -20.0, EXACT)
    assert step.recovery
    w = np.ones(theta.size)
    assert through_step(POLICY, theta, batch, step, product, EXACT, w) is w


# ---------------------------------------------------------------------------------------------------- Safe Meta-RL


@pytest.mark.parametrize("limit", [1.02, 1.1, 1.3, 9.0])
def test_the_tilt_minimises_the_dual(limit: float) -> None:
    _, batch = made(11)
    batch = replace(batch, cost_advantages=batch.cost_advantages + 0.5 * batch.reward_advantages)
    penalties = Penalties.of(batch, 3.0)
    room = (limit - batch.cost) / batch.weights.sum()
    nu = batch.weights / batch.weights.sum()

    def value(u: float) -> float:
        eta = penalties.reward + u * penalties.cost
        inside = nu @ np.exp((batch.reward_advantages - u * batch.cost_advantages) / eta)
        return float(eta * np.log(inside) + u * room)

    best = minimize_scalar(value, bounds=(0.0, 50.0), method="bounded", options={"xatol": 1e-10})
    found = tilt(batch, limit, penalties)
    assert value(found.multiplier) <= best.fun + 1e-7
    assert (found.multiplier > 1e-3) == (limit < 2.0)
    assert found.slope >= -1e-4
    step = 1e-6
    slope = (value(found.multiplier + step) - value(found.multiplier)) / step
    assert found.slope == pytest.approx(slope, abs=1e-5)
    # The closed form itself.
    eta = penalties.reward + found.multiplier * penalties.cost
    raw = np.exp((batch.reward_advantages - found.multiplier * batch.cost_advantages) / eta)
    np.testing.assert_allclose(found.weights, raw / (nu @ raw), rtol=1e-10)
    # What it claims: the constraint with its penalty, on the samples.
    used = (nu * found.weights) @ batch.cost_advantages + penalties.cost * (nu * found.weights) @ np.log(found.weights)
    assert used <= room + 1e-4


def test_a_tilt_without_room_lowers_the_cost() -> None:
    _, batch = made(12)
    found = tilt(batch, 0.1, Penalties.of(batch, 3.0))
    nu = batch.weights / batch.weights.sum()
    assert (nu * found.weights) @ batch.cost_advantages < nu @ batch.cost_advantages - 0.01
    assert np.isfinite(found.weights).all()


def test_the_projection_finds_a_policy_that_the_network_can_hold() -> None:
    policy, rng = SoftmaxPolicy.build(3, 2), np.random.default_rng(0)
    theta = np.zeros(policy.size)
    states, actions = np.divmod(np.arange(6), 2)
    inputs = np.eye(3)[states]
    batch = Batch(
        inputs, actions, policy.log_prob(theta, inputs, actions), np.ones(6), rng.standard_normal(6), np.zeros(6), 0.0, 0.0, 1, 6
    )  # fmt: skip
    target = np.array([[0.6, 0.4], [0.45, 0.55], [0.35, 0.65]])
    weights = target.ravel() / 0.5
    trust = Trust(delta=1.0, damping=1e-6, iterations=50)
    found = project(policy, theta, batch, weights, trust, 20)
    np.testing.assert_allclose(policy.probabilities(found, np.eye(3)), target, atol=1e-4)


def test_adaptation_moves_towards_reward_within_its_divergence() -> None:
    theta, batch = made(13)
    learner = SafeMetaRL(POLICY)
    moved = learner.adapt(State(theta), batch, world_of(limit=50.0)).theta
    assert 1e-4 < batch.divergence(POLICY, theta, moved) <= 3.0 * learner.trust.delta
    a = batch.reward_advantages
    assert batch.change(POLICY, moved, a) > batch.change(POLICY, theta, a) + 1e-3
    penalties = Penalties.of(batch, 3.0)
    assert tilted(batch, 0.0, 1.0, penalties).divergence > 0.0


def test_the_meta_gradient_switches_to_the_cost_where_the_meta_policy_exceeds_the_limit() -> None:
    learner = SafeMetaRL(POLICY)
    theta, before = made(14, cost=3.0)
    _, after = made(15)
    down = learner.meta_gradient(theta, before, after, 2.0)
    cost = before.gradient(POLICY, theta, before.cost_advantages)
    np.testing.assert_allclose(down, -cost)
    up = learner.meta_gradient(theta, replace(before, cost=1.0), after, 2.0)
    size = 1e-6
    fit = [
        after.weights * after.reward_advantages @ (
            POLICY.log_prob(theta + size * e, after.inputs, after.actions) - POLICY.log_prob(theta - size * e, after.inputs, after.actions)
        ) / (2 * size)
        for e in np.eye(theta.size)
    ]  # fmt: skip
    np.testing.assert_allclose(up, fit, atol=1e-7)
