"""DOPE+-style: every inequality of its derivation, its signals by hand, and what is degenerate about the published adaptation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from surefoot import TabularCMDP, evaluate, occupancy, solve
from surefoot.arrays import FloatArray
from surefoot.baselines.counts import ModelEstimate
from surefoot.baselines.dope import DOPE, box
from surefoot.baselines.dope_plus import ETAS, DOPEPlus, PublishedDOPEPlus
from surefoot.cmdp.evaluate import state_values
from surefoot.tasks import NoisyGridworld
from tests.baselines.test_dope import LOG, after_safe_play, two_states
from tests.baselines.worlds import corner, exact, known_of, support_of, values_under, with_kernel, with_margin
from tests.models import random_cmdp


def second(m: float) -> float:
    """k of the module's docstring."""
    return 4.0 * m**2 + 4.0 * m * math.sqrt(14.0 * m / 3.0 + m**2) + 28.0 * m / 3.0


def test_radii_by_hand() -> None:
    """``2 sqrt(p l) + 14 l / 3`` with ``l = L / max(1, N - 1)``."""
    known = two_states()
    data = ModelEstimate(known.support, np.array([0.2, 0.8] * 4), np.array([10_001.0, 101.0, 1.0, 0.0]))
    eps = DOPEPlus(known).radius(data)
    rate = LOG / 1e4
    np.testing.assert_allclose(
        eps[:2], [2 * math.sqrt(0.2 * rate) + 14 / 3 * rate, 2 * math.sqrt(0.8 * rate) + 14 / 3 * rate]
    )
    np.testing.assert_allclose(eps[:2], [0.036969 + 0.007972, 0.073938 + 0.007972], rtol=2e-4)
    assert eps[2:].tolist() == [1.0] * 6
    tenth = DOPEPlus(two_states(multiplier=0.1)).radius(data)
    np.testing.assert_allclose(tenth[:2], 0.1 * eps[:2])


def test_the_bonus_by_hand() -> None:
    """H C = 40: where data abounds ``40 (8 n l / eta + .9 k n l)``, where it lacks the bonus of DOPE, 36 beta-bar."""
    known = two_states()
    data = ModelEstimate(known.support, np.full(8, 0.5), np.array([1e8 + 1, 101.0, 1e8 + 1, 0.0]))
    rate = 2.0 * LOG / 1e8
    bonus = DOPEPlus(known).bonus(data, np.array([0.1]))[0]
    assert second(1.0) == pytest.approx(22.855, abs=1e-3)
    np.testing.assert_allclose(bonus[:, 0], 40.0 * (8.0 / 0.1 + 0.9 * second(1.0)) * rate)
    np.testing.assert_allclose(bonus[:, 1], 36.0)


def test_signals_by_hand() -> None:
    """Costs over ``1 - eta``; rewards ``H R / xi = 40`` per unit of bonus and of the budget ``eta b = .2`` spread over time."""
    known = two_states()
    data = ModelEstimate(known.support, np.full(8, 0.5), np.full(4, 1e8 + 1))
    rule, eta = DOPEPlus(known), np.array([0.1])
    bonus = rule.bonus(data, eta)[0]
    rewards, costs = rule.signals(data, eta)
    np.testing.assert_allclose(costs[0], (known.costs[0] + bonus) / 0.9)
    np.testing.assert_allclose(rewards, known.rewards + 40.0 * (bonus + 0.1 * 0.1 * 2.0))


def test_eta_is_the_best_of_its_grid_for_the_safe_policy() -> None:
    world = NoisyGridworld()
    task, safe = world.cmdp(0.3), np.asarray(world.safe_policy())
    rule, chosen = DOPEPlus(known_of(task, safe, 0.131, episodes=40_000)), []
    for factor in (1.0, 1e2, 1e4, 1e6):
        data = after_safe_play(task, safe, 40_000).scaled(factor)
        visits = occupancy(task, safe)
        bounds = [(1.5 + (rule.bonus(data, np.array([e]))[0] * visits).sum()) / (1.0 - e) for e in ETAS]
        chosen.append(float(rule.eta(data)[0]))
        assert chosen[-1] == ETAS[int(np.argmin(bounds))]
    # Little data: the variance says nothing and eta would only cost. Then it falls with the data.
    assert chosen[0] == ETAS[0] and 0.5 > chosen[1] > chosen[2] > chosen[3] > ETAS[0]


def test_several_constraints_have_an_eta_each(rng: np.random.Generator) -> None:
    cmdp, safe = with_margin(random_cmdp(rng, constraints=2), 0.5)
    rule, data = DOPEPlus(known_of(cmdp, safe, 0.5)), exact(cmdp, 1e10)
    eta = rule.eta(data)
    assert eta[0] != eta[1]
    rewards, costs = rule.signals(data)
    bonus = rule.bonus(data, eta)
    np.testing.assert_allclose(costs, (cmdp.costs + bonus) / (1.0 - eta[:, None, None]))
    paid = (bonus + (1.0 - cmdp.discount) * (eta * cmdp.cost_limits)[:, None, None]).max(axis=0)
    np.testing.assert_allclose(rewards - cmdp.rewards, rule.known.horizon * rule.known.reward_range / 0.5 * paid)


@pytest.mark.parametrize("m", [0.01, 0.1, 1.0, 3.0])
def test_the_distance_of_two_kernels_of_the_set(m: float) -> None:
    """``|P - P~| <= 4 m sqrt(P~ l) + k l`` whenever both are within eps of P-hat; four fifths of k would be too little."""
    hat = np.linspace(0.0, 1.0, 2001)
    worst = -np.inf
    for rate in 10.0 ** np.arange(-6.0, 0.0, 0.5):
        eps = m * (2.0 * np.sqrt(hat * rate) + 14.0 / 3.0 * rate)
        low, high = np.maximum(hat - eps, 0.0), hat + eps
        allowed = 4.0 * m * np.sqrt(low * rate) + second(m) * rate
        assert (high - low <= allowed + 1e-12).all()
        worst = max(worst, float(((high - low) - 4.0 * m * np.sqrt(low * rate)).max() / (second(m) * rate)))
    assert worst > 0.8


def pair(seed: int, exponent: float) -> tuple[DOPEPlus, ModelEstimate, TabularCMDP, FloatArray]:
    """A truth at one corner of the set around an estimate, and another kernel at another corner."""
    rng = np.random.default_rng([seed, 13])
    guess = random_cmdp(rng, states=3, actions=2, discount=0.8, density=0.8)
    support = support_of(guess)
    data = ModelEstimate(
        support, guess.probabilities, 10.0 ** rng.uniform(exponent, exponent + 3.0, guess.rewards.size)
    )
    rule = DOPEPlus(known_of(guess, np.full((3, 2), 0.5), 1.0))
    truth = with_kernel(guess, corner(guess.probabilities, rule.radius(data), support, rng))
    return rule, data, truth, corner(guess.probabilities, rule.radius(data), support, rng)


@pytest.mark.parametrize("seed", range(25))
def test_the_total_variance_of_the_value_ahead(seed: int, rng: np.random.Generator) -> None:
    """``sum d~ Var_P~(V) <= (2 H C / gamma^2) (V_c(pi;P~) + sum d~ |e|)``, V being the cost-to-go under the *other* kernel."""
    _, data, truth, other = pair(seed, 2.0)
    twin = with_kernel(truth, other, support=data.support)
    gamma, scale = truth.discount, truth.costs.max() / (1.0 - truth.discount)
    for policy in rng.dirichlet(np.ones(2), size=(10, 3)):
        value = state_values(truth, policy)[0, 1]
        flow = occupancy(twin, policy)
        variance = twin.dense @ value**2 - (twin.dense @ value) ** 2
        error = gamma * np.abs((truth.dense - twin.dense) @ value)
        left = float((flow * variance).sum())
        right = 2.0 * scale / gamma**2 * (evaluate(twin, policy).costs[0] + float((flow * error).sum()))
        assert left <= right + 1e-9


def test_the_total_variance_reaches_half_of_its_bound() -> None:
    """A rare step into a costly state for ever: the constant could not be much smaller."""
    kernel = np.zeros((3, 1, 3))
    kernel[0, 0] = [0.0, 0.999, 0.001]
    kernel[1, 0, 1] = kernel[2, 0, 2] = 1.0
    costs = np.array([[[0.0], [0.0], [1.0]]])
    cmdp = TabularCMDP(kernel, np.zeros((3, 1)), costs, np.array([40.0]), np.array([1.0, 0.0, 0.0]), 0.99)
    value = state_values(cmdp, np.ones((3, 1)))[0, 1]
    variance = float(kernel[0, 0] @ value**2 - (kernel[0, 0] @ value) ** 2)
    assert variance > 0.49 * (2.0 * 100.0 / 0.99**2) * evaluate(cmdp, np.ones((3, 1))).costs[0]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("exponent", [2.0, 4.0, 6.0])
def test_pessimism_holds_for_every_eta_policy_and_kernel_of_the_set(
    seed: int, exponent: float, rng: np.random.Generator
) -> None:
    rule, data, truth, other = pair(seed, exponent)
    for eta in (1e-3, 0.03, 0.5):
        _, costs = rule.signals(data, np.array([eta]))
        for policy in rng.dirichlet(np.ones(2), size=(4, 3)):
            _, said = values_under(truth, other, policy, (truth.rewards, costs), data.support)
            assert (evaluate(truth, policy).costs <= said + 1e-9).all()


def planned_case(seed: int) -> tuple[DOPEPlus, ModelEstimate, TabularCMDP, FloatArray]:
    """As :func:`pair`, with a safe policy that has a margin of 1 in truth."""
    rng = np.random.default_rng([seed, 14])
    guess = random_cmdp(rng, states=3, actions=3, discount=0.7, density=0.8)
    support = support_of(guess)
    data = ModelEstimate(support, guess.probabilities, 10.0 ** rng.uniform(5.0, 8.0, guess.rewards.size))
    rule = DOPEPlus(known_of(guess, np.full((3, 3), 1 / 3), 1.0))
    truth, safe = with_margin(with_kernel(guess, corner(guess.probabilities, rule.radius(data), support, rng)), 1.0)
    return DOPEPlus(known_of(truth, safe, 1.0, support=support)), data, truth, safe


def test_plans_are_safe_and_optimistic_wherever_the_truth_is_in_the_set() -> None:
    planned = proved = 0
    for seed in range(40):
        rule, data, truth, safe = planned_case(seed)
        plan = rule.plan(data)
        if plan.policy is None:
            assert plan.reason == "test"
            continue
        planned += 1
        assert (evaluate(truth, plan.policy).costs <= plan.costs + 1e-9).all()
        assert (plan.costs <= truth.cost_limits + 1e-9).all()
        _, costs = values_under(truth, truth.probabilities, safe, rule.signals(data))
        if (costs <= truth.cost_limits).all():
            proved += 1
            assert plan.optimum >= solve(truth).value_or_raise().value - 1e-6
    assert planned >= 20 and proved >= 20


@pytest.mark.parametrize("seed", range(5))
def test_radius_zero_is_nearly_the_plain_program(seed: int) -> None:
    """Nearly: the smallest eta of the grid takes a ten-thousandth of the budget."""
    cmdp, safe = with_margin(random_cmdp(np.random.default_rng(seed)), 0.5)
    plan = DOPEPlus(known_of(cmdp, safe, 0.5, multiplier=0.0)).plan(exact(cmdp, 1e12))
    tighter = solve(cmdp.with_limits(cmdp.cost_limits * (1.0 - 1e-4)))
    assert plan.policy is not None
    assert evaluate(cmdp, plan.policy).reward == pytest.approx(tighter.value, abs=1e-5)
    assert plan.optimum >= solve(cmdp).value - 1e-6


def test_theory_is_always_safe_but_needs_less_than_dope() -> None:
    world = NoisyGridworld()
    task, safe = world.cmdp(0.3), np.asarray(world.safe_policy())
    known = known_of(task, safe, 0.131, episodes=40_000)
    plus, dope, data = DOPEPlus(known), DOPE(known), after_safe_play(task, safe, 40_000)
    assert plus.plan(data).reason == "test" and plus.safe_costs(data) > 20 * plus.threshold
    assert plus.safe_costs(data.scaled(1e3)) > plus.threshold
    between = data.scaled(6e3)
    assert plus.safe_costs(between) <= plus.threshold < dope.safe_costs(between)


def published(episodes: int = 40_000) -> tuple[PublishedDOPEPlus, ModelEstimate, TabularCMDP]:
    """The published rule on the gridworld when it first plans: after 18 000 episodes of the safe policy."""
    world = NoisyGridworld()
    task, safe = world.cmdp(0.33994760), np.asarray(world.safe_policy())
    data = after_safe_play(task, safe, 18_000)
    # What is never visited is estimated as uniform.
    uniform = 1.0 / data.support.sizes[data.support.rows]
    hat = np.where(data.entry_visits > 0.0, data.probabilities, uniform)
    return PublishedDOPEPlus(known_of(task, safe, 0.131, episodes=episodes)), replace(data, probabilities=hat), task


def test_the_published_objective_is_constant_and_below_the_true_reward() -> None:
    rule, data, task = published()
    rewards, _ = rule.signals(data)
    goal = task.rewards.max(axis=1).argmax()
    assert task.rewards[goal].min() == 10.0
    np.testing.assert_allclose(rewards, 1.0 + math.sqrt(5e-4))


def test_the_published_plan_loses_to_the_safe_policy() -> None:
    rule, data, task = published()
    plan = rule.plan(data)
    assert plan.reason == "planned" and plan.policy is not None
    assert evaluate(task, plan.policy).reward < evaluate(task, rule.known.safe_policy).reward


def test_the_published_radii_have_hand_set_logarithms() -> None:
    known = two_states()
    data = ModelEstimate(known.support, np.full(8, 0.5), np.array([101.0] * 4))
    rate = 1e-8 / 100.0
    wanted = 2.0 * math.sqrt(0.5 * rate) + 14.0 / 3.0 * rate
    np.testing.assert_allclose(PublishedDOPEPlus(known).radius(data, 1e-8), wanted)


def test_an_infeasible_program_means_the_safe_policy() -> None:
    rule, data, _ = published()
    known = rule.known
    tight = replace(known, criterion=replace(known.criterion, cost_limits=np.array([0.01])))
    plan = PublishedDOPEPlus(tight).plan(data)
    assert (plan.policy, plan.reason) == (None, "infeasible")


def test_the_box_is_that_of_its_own_radius(rng: np.random.Generator) -> None:
    cmdp, safe = with_margin(random_cmdp(rng), 0.5)
    rule, data = DOPEPlus(known_of(cmdp, safe, 0.5)), exact(cmdp, 1e5)
    lower, upper = box(data, rule.radius(data))
    assert (
        upper - lower > box(data, DOPE(rule.known).radius(data))[1] - box(data, DOPE(rule.known).radius(data))[0]
    ).any()
