"""OptPess-LP: radii by hand, the safe policy until its own test flips, optimism and pessimism wherever the truth is in the set."""

from __future__ import annotations

import math

import numpy as np
import pytest

from surefoot import TabularCMDP, TabularPolicy, evaluate, solve
from surefoot.arrays import FloatArray
from surefoot.baselines.counts import ModelEstimate, Support
from surefoot.baselines.model_based import ModelBasedAgent
from surefoot.baselines.opt_pess import OptPess
from surefoot.baselines.presets import Choice
from surefoot.experiments.runner import play
from surefoot.tasks import NoisyGridworld
from tests.baselines.test_dope import STEPS, after_safe_play, two_states
from tests.baselines.worlds import corner, exact, known_of, support_of, values_under, with_kernel, with_margin
from tests.models import random_cmdp

Z = math.log(16 * 4 * 2 * 10 * 100 * STEPS / 0.1)
"""S = A = 2, H = 10, K = 100, delta = .1."""


def estimate(visits: list[float]) -> tuple[OptPess, ModelEstimate]:
    known = two_states()
    return OptPess(known), ModelEstimate(known.support, np.full(8, 0.5), np.array(visits))


def test_radii_by_hand() -> None:
    rule, data = estimate([1e4, 1e6, 10.0, 0.0])
    assert rule.log_term == pytest.approx(Z, rel=1e-12) == pytest.approx(19.8556, abs=1e-3)
    # sqrt(19.8556 / n), at most 1
    np.testing.assert_allclose(rule.radius(data).reshape(-1), [0.044560, 0.0044560, 1.0, 1.0], rtol=1e-4)


def test_the_multiplier_scales_the_radius_before_the_cap() -> None:
    known = two_states(multiplier=0.1)
    data = ModelEstimate(known.support, np.full(8, 0.5), np.array([1e4, 100.0, 1.0, 0.0]))
    wanted = 0.1 * np.sqrt(Z / np.array([1e4, 100.0, 1.0, 1.0]))
    np.testing.assert_allclose(OptPess(known).radius(data).reshape(-1), wanted)


def test_signals_by_hand() -> None:
    """n = 2 successors, H = 10, C = 4, R = 2, xi = .5: costs 80 beta, rewards 2 * 10 * 2 * (1 + 4 * 10 * 4 / .5) = 12840 beta."""
    rule, data = estimate([1e4, 1e6, 1e8, 1e10])
    beta = np.sqrt(Z / data.visits).reshape(2, 2)
    rewards, costs = rule.signals(data)
    np.testing.assert_allclose(costs[0], [[0.0, 4.0], [1.0, 2.0]] + 80.0 * beta)
    np.testing.assert_allclose(rewards, [[1.0, 3.0], [2.0, 1.5]] + 12840.0 * beta)
    assert rule.threshold.tolist() == [2.0 - 0.25]


def test_a_single_successor_needs_no_bonus() -> None:
    support = Support(2, 1, np.array([[0, 0, 0], [0, 0, 1], [1, 0, 1]]))
    cmdp = TabularCMDP(
        np.array([[[0.5, 0.5]], [[0.0, 1.0]]]), np.ones((2, 1)), np.ones((1, 2, 1)), np.array([20.0]), np.ones(2) / 2, 0.9
    )  # fmt: skip
    rule = OptPess(known_of(cmdp, np.ones((2, 1)), 1.0, support=support))
    assert rule.radius(exact(cmdp, 0.0)).tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("seed", range(5))
def test_radius_zero_is_the_plain_program(seed: int) -> None:
    cmdp, safe = with_margin(random_cmdp(np.random.default_rng(seed), constraints=1 + seed % 2), 0.5)
    plan = OptPess(known_of(cmdp, safe, 0.5, multiplier=0.0)).plan(exact(cmdp, 1e12))
    assert plan.optimum == pytest.approx(solve(cmdp).value, abs=1e-6)


MARGIN = 1.0


def case(seed: int) -> tuple[OptPess, ModelEstimate, TabularCMDP, FloatArray]:
    """An estimate, and a truth at a corner of the confidence set in which the safe policy has its margin."""
    rng = np.random.default_rng([seed, 12])
    guess = random_cmdp(rng, states=3, actions=3, constraints=1 + seed % 2, discount=0.7, density=0.8)
    support = support_of(guess)
    data = ModelEstimate(support, guess.probabilities, 10.0 ** rng.uniform(5.0, 8.0, guess.rewards.size))
    beta = OptPess(known_of(guess, np.full((3, 3), 1 / 3), MARGIN)).radius(data).reshape(-1)[support.rows]
    truth, safe = with_margin(with_kernel(guess, corner(guess.probabilities, beta, support, rng)), MARGIN)
    return OptPess(known_of(truth, safe, MARGIN, support=support)), data, truth, safe


CASES = [case(seed) for seed in range(60)]


def test_pessimism_and_optimism_hold_wherever_the_truth_is_in_the_set(rng: np.random.Generator) -> None:
    planned = 0
    for rule, data, truth, _ in CASES:
        _, costs = rule.signals(data)
        for policy in rng.dirichlet(np.ones(3), size=(5, 3)):
            _, said = values_under(truth, data.probabilities, policy, (truth.rewards, costs), data.support)
            assert (evaluate(truth, policy).costs <= said + 1e-9).all()
        plan = rule.plan(data)
        if plan.policy is None:
            assert plan.reason == "test"
            continue
        planned += 1
        assert (evaluate(truth, plan.policy).costs <= truth.cost_limits + 1e-7).all()
        assert plan.optimum >= solve(truth).value_or_raise().value - 1e-6
    assert 20 <= planned < 60


def test_without_its_cost_bonus_the_plan_would_violate() -> None:
    violating = 0
    for rule, data, truth, _ in CASES:
        model = with_kernel(truth, data.probabilities, rule.signals(data)[0], truth.costs, data.support)
        found = solve(model)
        violating += (
            found.status == "optimal" and (evaluate(truth, found.policy).costs > truth.cost_limits + 1e-6).any()
        )
    assert violating >= 10


def test_the_compensation_of_the_reward_is_what_optimism_needs() -> None:
    """The safe arm earns nothing, a costly third one is never worth it. Without ``4 H C / xi`` the promise would fall below the optimum."""
    cmdp = TabularCMDP(
        np.full((2, 3, 2), 0.5), np.array([[0.0, 1.0, 0.0]] * 2), np.array([[[0.0, 1.0, 4.0]] * 2]), np.array([5.0]),
        np.ones(2) / 2, 0.9,
    )  # fmt: skip
    known = known_of(cmdp, np.array([[1.0, 0.0, 0.0]] * 2), 5.0)
    rule, data = OptPess(known), exact(cmdp, 2e7)
    assert rule.plan(data).optimum >= solve(cmdp).value
    small = cmdp.rewards + known.reward_range * 2.0 * known.horizon * rule.radius(data)
    weak = with_kernel(cmdp, cmdp.probabilities, small, rule.signals(data)[1])
    assert solve(weak).value < solve(cmdp).value - 0.05


def test_the_safe_policy_is_played_exactly_until_the_test_flips() -> None:
    """A run with real counts: at every batch, the safe policy if and only if the last test said so, recomputed here."""
    cmdp, safe = with_margin(random_cmdp(np.random.default_rng(3), states=3, discount=0.7), 1.5)
    known = known_of(cmdp, safe, 1.5, episodes=20_000, multiplier=0.3)
    watched = Watched(OptPess(known))
    agent = ModelBasedAgent(watched, choice=Choice("calibrated", 0.3))
    trace = play(agent, cmdp, 20_000, seed=5)
    tests = [bool((costs < known.limits - 0.75).all()) for costs in watched.recomputed(cmdp, safe)]
    assert tests[0] is False and tests[-1] is True
    assert [plan.policy is not None for plan in watched.plans] == tests
    first = tests.index(True)
    assert agent.reasons["test"] == tests.count(False) and agent.reasons["planned"] == tests.count(True)
    # Before the flip every batch has weight 1 on the safe policy, whose exact value it earns.
    before = trace.weight == 0.0
    assert before[0] and before.sum() >= first and not before[-1]
    np.testing.assert_allclose(trace.reward[before], evaluate(cmdp, safe).reward)


class Watched:
    """The rule, remembering what it was asked and answered."""

    def __init__(self, rule: OptPess) -> None:
        self.rule, self.known, self.threshold, self.safe_costs = rule, rule.known, rule.threshold, rule.safe_costs
        self.asked: list[ModelEstimate] = []
        self.plans: list = []

    def plan(self, estimate: ModelEstimate):  # type: ignore[no-untyped-def]
        self.asked.append(estimate)
        self.plans.append(self.rule.plan(estimate))
        return self.plans[-1]

    def recomputed(self, cmdp: TabularCMDP, safe: FloatArray) -> list[FloatArray]:
        """Pessimistic costs of the safe policy from the formulas, without the rule."""
        s, a = cmdp.rewards.shape
        z = math.log(16 * s**2 * a * self.known.horizon * self.known.trials / self.known.delta)
        found = []
        for data in self.asked:
            beta = np.minimum(1.0, self.known.multiplier * np.sqrt(z / np.maximum(data.visits, 1.0)))
            count = data.support.sizes
            width = np.where(count == 1, 0.0, count * self.known.horizon * beta).reshape(s, a)
            costs = cmdp.costs + cmdp.costs.max() * width
            found.append(values_under(cmdp, data.probabilities, safe, (cmdp.rewards, costs))[1])
        return found


@pytest.mark.parametrize("noise", [0.25363799, 0.3, 0.34453611])
def test_theory_is_always_safe_at_forty_thousand_episodes(noise: float) -> None:
    world = NoisyGridworld()
    task, safe = world.cmdp(noise), np.asarray(world.safe_policy())
    rule = OptPess(known_of(task, safe, 0.131, episodes=40_000))
    data = after_safe_play(task, safe, 40_000)
    assert rule.safe_costs(data) > 50 * rule.threshold
    assert rule.plan(data).reason == "test"
    assert rule.safe_costs(data.scaled(1e3)) > rule.threshold


def test_policies_are_tables(rng: np.random.Generator) -> None:
    cmdp, safe = with_margin(random_cmdp(rng), 0.5)
    plan = OptPess(known_of(cmdp, safe, 0.5)).plan(exact(cmdp, 1e10))
    assert plan.policy is not None
    assert TabularPolicy(plan.policy).n_states == cmdp.n_states
