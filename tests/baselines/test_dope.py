"""DOPE: radii by hand, the plain program at radius zero, optimism and pessimism wherever the truth is in the confidence set."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from surefoot import TabularCMDP, evaluate, solve
from surefoot.arrays import FloatArray
from surefoot.baselines.counts import ModelEstimate, Support, TransitionCounts
from surefoot.baselines.dope import DOPE, box
from surefoot.baselines.model_based import Known
from surefoot.tasks import NoisyGridworld
from tests.baselines.worlds import corner, exact, known_of, support_of, values_under, with_kernel, with_margin
from tests.models import random_cmdp


def two_states(**changes: float) -> Known:
    """gamma .9, rewards in [1, 3], largest cost 4, margin .5, K = 100, delta .1."""
    kernel = np.full((2, 2, 2), 0.5)
    rewards, costs = np.array([[1.0, 3.0], [2.0, 1.5]]), np.array([[[0.0, 4.0], [1.0, 2.0]]])
    cmdp = TabularCMDP(kernel, rewards, costs, np.array([2.0]), np.array([0.5, 0.5]), 0.9)
    return known_of(cmdp, np.array([[1.0, 0.0], [1.0, 0.0]]), 0.5, episodes=100, delta=0.1, **changes)  # type: ignore[arg-type]


def estimate(known: Known, p: float, visits: list[float]) -> ModelEstimate:
    return ModelEstimate(known.support, np.array([p, 1.0 - p] * 4), np.array(visits))


STEPS = 328
"""The first t with .9^t < 1e-15."""
LOG = math.log(2 * 2 * 2 * 10 * 100 * STEPS / 0.1)
"""17.083..., the L of :func:`two_states`."""


def test_the_logarithm_counts_pairs_steps_and_episodes() -> None:
    assert 0.9**STEPS < 1e-15 < 0.9 ** (STEPS - 1)
    assert DOPE(two_states()).log_term == pytest.approx(LOG, rel=1e-12)
    assert LOG == pytest.approx(17.0830, abs=1e-3)


@pytest.mark.parametrize(
    ("p", "visits", "radius"),
    [
        # 2 sqrt(.2 * .8 * 17.083 / n) + 14 * 17.083 / (3 n)
        (0.2, 10_000.0, 0.033066 + 0.007972),
        (0.2, 1_000_000.0, 0.0033066 + 0.00007972),
        # no variance: only the second term
        (1.0, 10_000.0, 0.007972),
        # few visits: a probability is at most 1
        (0.2, 50.0, 1.0),
        (0.2, 0.0, 1.0),
    ],
)
def test_radii_by_hand(p: float, visits: float, radius: float) -> None:
    known = two_states()
    beta = DOPE(known).radius(estimate(known, p, [visits] * 4))
    np.testing.assert_allclose(beta, radius, rtol=2e-4)


def test_the_multiplier_scales_both_terms_before_the_cap() -> None:
    known = two_states(multiplier=0.1)
    beta = DOPE(known).radius(estimate(known, 0.2, [10_000.0, 0.0, 50.0, 1e6]))
    single = 2.0 * math.sqrt(0.16 * LOG) + 14.0 * LOG / 3.0
    np.testing.assert_allclose(beta[::2][:2], [0.0041038, min(1.0, 0.1 * single)], rtol=2e-4)
    assert beta[4] == pytest.approx(0.1 * (2.0 * math.sqrt(0.16 * LOG / 50) + 14.0 * LOG / 150.0))


def test_signals_by_hand() -> None:
    """``beta-bar`` sums over successors; one unit of it costs .9 * 10 * 4, and earns 10 * (3 - 1) / .5 times as much."""
    known = two_states()
    data = estimate(known, 0.2, [10_000.0, 50.0, 10_000.0, 50.0])
    both = 2.0 * (2.0 * math.sqrt(0.16 * LOG / 1e4) + 14.0 * LOG / 3e4)
    rewards, costs = DOPE(known).signals(data)
    assert both == pytest.approx(0.08208, rel=1e-3)
    np.testing.assert_allclose(costs[0, :, 0], [0.0 + 36.0 * both, 1.0 + 36.0 * both])
    np.testing.assert_allclose(costs[0, :, 1], [4.0 + 36.0, 2.0 + 36.0])
    np.testing.assert_allclose(rewards[:, 0], [1.0 + 40.0 * 36.0 * both, 2.0 + 40.0 * 36.0 * both])
    np.testing.assert_allclose(rewards[:, 1], [3.0 + 40.0 * 36.0, 1.5 + 40.0 * 36.0])


def test_several_constraints_have_their_own_cost_and_share_the_dearest_bonus(rng: np.random.Generator) -> None:
    cmdp, safe = with_margin(random_cmdp(rng, constraints=2), 1.0)
    known = known_of(cmdp, safe, 1.0)
    rule, data = DOPE(known), exact(cmdp, 1e5)
    bonus = rule.bonus(data)
    np.testing.assert_allclose(bonus[0] / bonus[1], cmdp.costs[0].max() / cmdp.costs[1].max())
    rewards, costs = rule.signals(data)
    np.testing.assert_allclose(costs, cmdp.costs + bonus)
    spread = cmdp.rewards.max() - cmdp.rewards.min()
    np.testing.assert_allclose(rewards - cmdp.rewards, known.horizon * spread / 1.0 * bonus.max(axis=0))


def test_a_single_successor_is_known_without_data() -> None:
    support = Support(2, 1, np.array([[0, 0, 0], [0, 0, 1], [1, 0, 1]]))
    cmdp = TabularCMDP(
        np.array([[[0.5, 0.5]], [[0.0, 1.0]]]), np.ones((2, 1)), np.ones((1, 2, 1)), np.array([20.0]), np.array([1.0, 0.0]), 0.9
    )  # fmt: skip
    rule = DOPE(known_of(cmdp, np.ones((2, 1)), 1.0, support=support))
    beta = rule.radius(TransitionCounts(support).estimate())
    assert beta.tolist() == [1.0, 1.0, 0.0]
    assert rule.bonus(TransitionCounts(support).estimate())[0, :, 0].tolist() == [pytest.approx(9.0), 0.0]


@pytest.mark.parametrize("seed", range(8))
def test_radius_zero_turns_dope_into_the_plain_program(seed: int) -> None:
    cmdp, safe = with_margin(random_cmdp(np.random.default_rng(seed), constraints=1 + seed % 2), 0.5)
    plan = DOPE(known_of(cmdp, safe, 0.5, multiplier=0.0)).plan(exact(cmdp, 1e12))
    truth = solve(cmdp).value_or_raise()
    assert plan.reason == "planned" and plan.policy is not None
    assert plan.optimum == pytest.approx(truth.value, abs=1e-5)
    found = evaluate(cmdp, plan.policy)
    assert found.reward == pytest.approx(truth.value, abs=1e-5)
    assert (found.costs <= cmdp.cost_limits + 1e-9).all()


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_radius_zero_on_the_gridworld(noise: float) -> None:
    world = NoisyGridworld()
    task = world.cmdp(noise)
    plan = DOPE(known_of(task, np.asarray(world.safe_policy()), 0.131, multiplier=0.0)).plan(exact(task, 1e12))
    assert plan.optimum == pytest.approx(solve(task).value, abs=1e-4)


MARGIN = 1.0


def case(seed: int) -> tuple[DOPE, ModelEstimate, TabularCMDP, FloatArray]:
    """An estimate, and a truth at a random corner of the confidence set in which the safe policy has its margin."""
    rng = np.random.default_rng([seed, 11])
    guess = random_cmdp(rng, states=3, actions=3, discount=0.7, density=0.8)
    support = support_of(guess)
    data = ModelEstimate(support, guess.probabilities, 10.0 ** rng.uniform(4.0, 7.0, guess.rewards.size))
    beta = DOPE(known_of(guess, np.full((3, 3), 1 / 3), MARGIN)).radius(data)
    truth, safe = with_margin(with_kernel(guess, corner(guess.probabilities, beta, support, rng)), MARGIN)
    return DOPE(known_of(truth, safe, MARGIN, support=support)), data, truth, safe


CASES = [case(seed) for seed in range(60)]


def test_the_cases_are_not_empty() -> None:
    reasons = [rule.plan(data).reason for rule, data, _, _ in CASES]
    assert set(reasons) <= {"planned", "test"}
    assert 20 <= reasons.count("planned") < 60


def test_pessimism_a_plan_never_costs_more_in_truth_than_it_says() -> None:
    optimistic_without_bonus = 0
    for rule, data, truth, _ in CASES:
        plan = rule.plan(data)
        if plan.policy is not None:
            real = evaluate(truth, plan.policy).costs
            assert (real <= plan.costs + 1e-9).all() and (plan.costs <= truth.cost_limits + 1e-9).all()
            # What the bonus is for: the kernel chosen by the program alone is too hopeful about costs.
            lower, upper = box(data, rule.radius(data))
            assert (lower <= truth_on(data.support, truth) + 1e-12).all()
            assert (truth_on(data.support, truth) <= upper + 1e-12).all()
            optimistic_without_bonus += hopeful(rule, data, truth)
    assert optimistic_without_bonus >= 5


def truth_on(support: Support, truth: TabularCMDP) -> FloatArray:
    return truth.dense[support.triples[:, 0], support.triples[:, 1], support.successors]


def hopeful(rule: DOPE, data: ModelEstimate, truth: TabularCMDP) -> bool:
    """Whether the same program without a cost bonus would have violated the limit."""
    from surefoot.baselines.extended_lp import ExtendedProgram, Problem

    known, (lower, upper) = rule.known, box(data, rule.radius(data))
    rewards, _ = rule.signals(data)
    problem = Problem(
        known.support, lower, upper, rewards, known.costs, known.limits, known.start, known.criterion.discount
    )  # fmt: skip
    found = ExtendedProgram().solve(problem, known.safe_policy)
    return bool((evaluate(truth, found.policy).costs > truth.cost_limits + 1e-9).any())


def test_pessimism_holds_for_every_policy_and_kernel_of_the_set(rng: np.random.Generator) -> None:
    """``V_c(pi; c, P) <= V_c(pi; c-bar, P~)`` for any two kernels in the set, not only for the one the program picks."""
    for rule, data, truth, _ in CASES:
        _, costs = rule.signals(data)
        for _ in range(10):
            policy = rng.dirichlet(np.ones(3), size=3)
            other = corner(data.probabilities, rule.radius(data), data.support, rng)
            _, said = values_under(truth, other, policy, (truth.rewards, costs), data.support)
            assert (evaluate(truth, policy).costs <= said + 1e-9).all()


def test_the_cost_bonus_cannot_be_smaller() -> None:
    """One step decides between a free and a costly state for ever: opposite corners of the box differ by exactly the bonus."""
    kernel = np.zeros((3, 1, 3))
    kernel[0, 0] = [0.0, 0.5, 0.5]
    kernel[1, 0, 1] = kernel[2, 0, 2] = 1.0
    costs = np.array([[[0.0], [0.0], [4.0]]])
    cmdp = TabularCMDP(kernel, np.zeros((3, 1)), costs, np.array([40.0]), np.array([1.0, 0.0, 0.0]), 0.9)
    rule, data = DOPE(known_of(cmdp, np.ones((3, 1)), 1.0)), exact(cmdp, 1e5)
    lower, upper = box(data, rule.radius(data))
    dear, cheap = np.array([lower[0], upper[1], 1.0, 1.0]), np.array([upper[0], lower[1], 1.0, 1.0])
    real = evaluate(with_kernel(cmdp, dear), np.ones((3, 1))).costs
    _, said = values_under(cmdp, cheap, np.ones((3, 1)), (cmdp.rewards, cmdp.costs + rule.bonus(data)))
    assert said == pytest.approx(real, rel=1e-12)


def test_optimism_the_plan_promises_at_least_the_true_optimum() -> None:
    """Where the safe policy's pessimistic cost fits under the *true* kernel, as the proof needs."""
    proved = 0
    for rule, data, truth, safe in CASES:
        _, costs = values_under(truth, truth.probabilities, safe, rule.signals(data))
        plan = rule.plan(data)
        if plan.policy is not None and (costs <= truth.cost_limits).all():
            proved += 1
            assert plan.optimum >= solve(truth).value_or_raise().value - 1e-6
    assert proved >= 20


def test_the_reward_bonus_is_what_optimism_needs() -> None:
    """One state; the safe arm earns nothing. With an estimate that is exact, the bonus alone pays for playing the other arm less."""
    cmdp = TabularCMDP(
        np.full((2, 2, 2), 0.5), np.array([[0.0, 1.0]] * 2), np.array([[[0.0, 1.0]] * 2]), np.array([5.0]), np.ones(2) / 2, 0.9
    )  # fmt: skip
    safe = np.array([[1.0, 0.0]] * 2)
    known = known_of(cmdp, safe, 5.0)
    data = exact(cmdp, 2e7)
    rule = DOPE(known)
    plan, truth = rule.plan(data), solve(cmdp).value
    assert plan.optimum >= truth == pytest.approx(5.0)
    # Without it the pessimistic cost would leave less than the optimum.
    shrunk = TabularCMDP(cmdp.dense, cmdp.rewards, rule.signals(data)[1], cmdp.cost_limits, cmdp.start, 0.9)
    assert solve(shrunk).value < truth - 0.05


def test_the_safe_policy_is_played_until_its_pessimistic_cost_fits(rng: np.random.Generator) -> None:
    cmdp, safe = with_margin(random_cmdp(rng), 0.5)
    rule = DOPE(known_of(cmdp, safe, 0.5))
    seen = set()
    for visits in 10.0 ** np.arange(2, 12):
        plan = rule.plan(exact(cmdp, visits))
        _, said = values_under(cmdp, cmdp.probabilities, safe, rule.signals(exact(cmdp, visits)))
        np.testing.assert_allclose(plan.safe_costs, said)
        assert (plan.reason == "planned") == bool((said <= cmdp.cost_limits).all())
        seen.add(plan.reason)
    assert seen == {"planned", "test"}


def coverage_failures(multiplier: float, runs: int, seed: int) -> int:
    """Runs in which the truth leaves the confidence set at *any* number of visits up to 800 to any of four pairs."""
    kernel = np.array([[[0.3, 0.7], [0.02, 0.98]], [[0.5, 0.5], [0.9, 0.1]]])
    cmdp = TabularCMDP(kernel, np.ones((2, 2)), np.ones((1, 2, 2)), np.array([20.0]), np.ones(2) / 2, 0.3)
    known = known_of(cmdp, np.full((2, 2), 0.5), 1.0, episodes=28, delta=0.2, multiplier=multiplier)
    rule, rng, failures = DOPE(known), np.random.default_rng(seed), 0
    visits = np.arange(1, 801)
    assert known.trials >= 800
    for _ in range(runs):
        hits = np.cumsum(rng.random((4, 800)) < kernel.reshape(4, 2)[:, :1], axis=1)
        out = False
        for n in visits[9::10]:
            p = hits[:, n - 1] / n
            data = ModelEstimate(known.support, np.stack([p, 1.0 - p], axis=1).reshape(-1), np.full(4, float(n)))
            lower, upper = box(data, rule.radius(data))
            out = out or bool(((lower > cmdp.probabilities + 1e-12) | (upper < cmdp.probabilities - 1e-12)).any())
        failures += out
    return failures


def test_the_confidence_set_covers_the_truth() -> None:
    """ "rate <= delta" is not rejected at level 1e-3; a tenth of the radius would be."""
    runs = 60
    assert binom.sf(coverage_failures(1.0, runs, 0) - 1, runs, 0.2) > 1e-3
    assert binom.sf(coverage_failures(0.1, runs, 0) - 1, runs, 0.2) < 1e-3


def theory_rule(noise: float) -> tuple[DOPE, ModelEstimate]:
    """The gridworld after 40 000 episodes of the safe policy, with expected counts and the true kernel as estimate."""
    world = NoisyGridworld()
    task, safe = world.cmdp(noise), np.asarray(world.safe_policy())
    return DOPE(known_of(task, safe, 0.131, episodes=40_000)), after_safe_play(task, safe, 40_000)


def after_safe_play(task: TabularCMDP, safe: FloatArray, episodes: int) -> ModelEstimate:
    """Expected numbers of visits before absorption in the goal."""
    moves = np.einsum("sa,sat->st", safe, task.dense)
    moving = np.diag(moves) < 1.0
    states = np.zeros(task.n_states)
    states[moving] = np.linalg.solve(np.eye(int(moving.sum())) - moves[np.ix_(moving, moving)].T, task.start[moving])
    return ModelEstimate(support_of(task), task.probabilities, episodes * (states[:, None] * safe).reshape(-1))


@pytest.mark.parametrize("noise", [0.25363799, 0.3, 0.34453611])
def test_theory_is_always_safe_at_forty_thousand_episodes(noise: float) -> None:
    """By its own test, not by a long run: the pessimistic cost is far above 1.5, and a thousand times the data would not do."""
    rule, data = theory_rule(noise)
    assert rule.safe_costs(data) > 50 * rule.threshold
    assert rule.safe_costs(data.scaled(1e3)) > rule.threshold
    assert rule.plan(data).reason == "test"
    assert rule.safe_costs(data.scaled(1e5)) < rule.threshold
