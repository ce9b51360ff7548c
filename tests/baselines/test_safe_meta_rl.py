"""Safe Meta-RL: the closed form against a numerical maximiser, its dual, its bounds, and what meta-training is worth."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from surefoot import PolicySet, TabularCMDP, evaluate
from surefoot.baselines.gradient import Units, shift_logits
from surefoot.baselines.meta_training import TaskStack, interior, training_stack
from surefoot.baselines.on_policy import Sample
from surefoot.baselines.safe_meta_rl import (
    BATCH,
    Penalties,
    PublishedSafeMetaRL,
    SafeMetaRL,
    Situation,
    adapt,
    allowance,
    estimated,
    make,
    meta_train,
    situation,
)
from surefoot.cmdp.simulate import Simulator
from surefoot.experiments.runner import play
from surefoot.tasks import NoisyGridworld
from tests.baselines.test_meta_training import IDLE, arm_set
from tests.models import random_cmdp
from tests.refusals import refused
from tests.training.families import Arm

WORLD = NoisyGridworld()
BINDING = 1
"""A seed for which the reward's own maximiser costs more than before."""
MILD = Penalties(0.3, 0.4, 0.9)


def random_situation(
    seed: int, room: float | list[float], penalties: Penalties = MILD, tasks: int = 1, constraints: int = 1
) -> Situation:
    """Advantages that average to nothing under a random policy, for T tasks."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.ones(3), size=4)
    advantages = 0.4 * rng.normal(size=(tasks, 1 + constraints, 4, 3))
    advantages -= (table * advantages).sum(axis=3, keepdims=True)
    rooms = np.broadcast_to(np.asarray(room, dtype=float), (tasks, constraints)).copy()
    return Situation(table, rng.dirichlet(np.ones(4), size=tasks), advantages, rooms, penalties)


def divergence(given: Situation, table: np.ndarray) -> float:
    return float(given.visitation[0] @ (table * np.log(table / given.table)).sum(axis=1))


def objective(given: Situation, table: np.ndarray) -> float:
    gain = float(np.einsum("s,sa,sa->", given.visitation[0], table, given.advantages[0, 0]))
    return gain - given.penalties.reward * divergence(given, table)


def constraints_left(given: Situation, table: np.ndarray) -> np.ndarray:
    """(I,) written out as in the paper, times 1 - gamma."""
    used = np.einsum("s,sa,isa->i", given.visitation[0], table, given.advantages[0, 1:])
    weight = (1.0 - given.penalties.discount) * given.penalties.cost
    left: np.ndarray = given.room[0] - used - weight * divergence(given, table)
    return left


def lagrangian(given: Situation, table: np.ndarray, multipliers: np.ndarray) -> float:
    return objective(given, table) + float(multipliers @ constraints_left(given, table))


def maximiser(given: Situation, multipliers: np.ndarray) -> np.ndarray:
    """The Lagrangian maximised over logits by a general-purpose method that knows nothing of the closed form."""

    def policy(logits: np.ndarray) -> np.ndarray:
        return shift_logits(given.table, logits.reshape(4, 3))

    found = minimize(
        lambda x: -lagrangian(given, policy(x), multipliers), np.zeros(12), method="BFGS", options={"gtol": 1e-9}
    )
    return policy(found.x)


@pytest.mark.parametrize(("seed", "multipliers"), [(0, [0.0]), (1, [0.7]), (2, [3.0]), (3, [0.4, 1.5])])
def test_the_closed_form_maximises_the_lagrangian(seed: int, multipliers: list[float]) -> None:
    given, u = random_situation(seed, 0.1, constraints=len(multipliers)), np.asarray(multipliers)
    table = given.tilted(u[None])[0]
    other = maximiser(given, u)
    np.testing.assert_allclose(table, other, atol=1e-3)
    assert lagrangian(given, table, u) == pytest.approx(lagrangian(given, other, u), abs=1e-7)
    assert lagrangian(given, table, u) >= lagrangian(given, other, u) - 1e-12
    for wrong in (given.tilted(1.1 * u[None] + 0.05)[0], shift_logits(table, 0.02 * given.advantages[0, 0])):
        assert lagrangian(given, wrong, u) < lagrangian(given, table, u) - 1e-7


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.floats(1e-3, 0.3), st.integers(1, 3))
def test_the_dual_solves_the_constrained_problem(seed: int, room: float, constraints: int) -> None:
    """Feasible, complementary, and with no gap to the Lagrangian: optimal by weak duality."""
    given = random_situation(seed, room, constraints=constraints)
    u = adapt(given).multipliers
    table = given.tilted(u)[0]
    left = constraints_left(given, table)
    np.testing.assert_allclose(left, given.slopes(table[None])[0], atol=1e-12)
    tolerance = 1e-7 if constraints == 1 else 2e-2  # several multipliers are found one after the other, in a few sweeps
    assert (left >= -tolerance).all()
    assert (np.abs(u[0] * left) <= tolerance * (1.0 + u[0])).all()


def test_the_multiplier_is_active_exactly_where_the_constraint_binds() -> None:
    wide = random_situation(BINDING, 50.0)
    free = adapt(wide)
    np.testing.assert_array_equal(free.multipliers, 0.0)
    np.testing.assert_allclose(free.tables, wide.tilted(np.zeros((1, 1))))
    used = wide.room - wide.slopes(free.tables)
    assert used[0, 0] > 0.01
    for share, active in ((1.01, False), (0.99, True), (0.3, True)):
        given = random_situation(BINDING, float(share * used[0, 0]))
        found = adapt(given)
        assert (found.multipliers[0, 0] > 0.0) == active
        if active:
            assert given.slopes(given.tilted(found.multipliers))[0, 0] == pytest.approx(0.0, abs=1e-9)


def test_a_policy_beyond_its_limit_is_led_back() -> None:
    """Without room the multiplier grows until the predicted cost falls, if it can fall that far."""
    given = random_situation(BINDING, -0.005)
    found = adapt(given)
    assert found.multipliers[0, 0] > 0.0
    assert constraints_left(given, found.tables[0])[0] >= -1e-9
    hopeless = random_situation(BINDING, -50.0)
    table = adapt(hopeless).tables[0]
    used = np.einsum("s,sa,sa->", hopeless.visitation[0], table, hopeless.advantages[0, 1])
    assert used < 0.0


def test_tasks_side_by_side_are_adapted_as_if_alone() -> None:
    together = random_situation(5, 0.01, tasks=6)
    found = adapt(together)
    assert 0 < (found.multipliers > 0.0).sum()
    for k in range(6):
        alone = adapt(together.take(np.arange(6) == k))
        np.testing.assert_allclose(alone.tables[0], found.tables[k])
        np.testing.assert_allclose(alone.multipliers[0], found.multipliers[k])


def test_the_damped_policy_keeps_the_constraint_with_the_largest_divergence() -> None:
    damped = 0
    for seed in range(40):
        given = random_situation(seed, 0.005)
        found = adapt(given)
        assert given.slopes(found.tables, largest=True).min() >= 0.0
        damped += not np.allclose(found.tables, given.tilted(found.multipliers))
    assert damped > 5


@pytest.mark.parametrize("room", [0.2, 1e-4])
def test_endless_penalties_return_the_meta_policy(room: float) -> None:
    distances = [
        np.abs(adapt(g).tables - g.table).max()
        for g in (random_situation(2, room, Penalties(p, p, 0.9)) for p in (1.0, 1e2, 1e4, 1e8))
    ]
    assert distances[0] > distances[1] > distances[2] > distances[3]
    assert distances[0] > 1e-4 and distances[3] < 1e-7


def unit_stack(seed: int) -> TaskStack:
    rng = np.random.default_rng(seed)
    task: TabularCMDP = random_cmdp(rng, states=4, discount=0.8)
    return TaskStack.of([task], Units.of(task.criterion))


def adapted_values(seed: int, multiplier: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact values before and after one exact adaptation of a random policy that has a little room, and the limits."""
    stack = unit_stack(seed)
    table = np.random.default_rng(seed + 1).dirichlet(np.ones(3), size=4)
    before = stack.evaluate(table)
    limits = before.totals[0, 1:] + 0.01
    units = Units(np.zeros(2), np.ones(2), limits, stack.discount)
    found = adapt(situation(stack, table, before, limits, Penalties.proved(units, multiplier)))
    return before.totals[0], stack.totals(found.tables)[0], limits


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_proved_penalties_keep_the_limit_and_never_lose_return(seed: int) -> None:
    before, after, limits = adapted_values(seed, 1.0)
    assert after[1] <= limits[0] + 1e-12
    assert after[0] >= before[0] - 1e-12


def test_penalties_far_below_the_proved_ones_break_the_limit() -> None:
    """Otherwise the test before would hold for any constant."""
    found = [adapted_values(seed, 1e-5) for seed in range(40)]
    assert any(after[1] > limits[0] + 0.01 for _, after, limits in found)


def test_proved_penalties_of_the_gridworld_are_about_a_thousand() -> None:
    penalties = Penalties.proved(Units.of(WORLD.criterion))
    assert (penalties.reward, penalties.cost) == (pytest.approx(180.0), pytest.approx(1800.0))
    assert Penalties.proved(Units.of(WORLD.criterion), 0.5).cost == pytest.approx(900.0)


def test_estimates_make_the_situation_that_exact_values_make() -> None:
    stack = training_stack(WORLD, np.asarray(WORLD.safe_policy()), tasks=1).take(slice(1))
    table, units = 0.9 * np.asarray(WORLD.safe_policy()) + 0.025, Units.of(WORLD.criterion)
    task = WORLD.cmdp(WORLD.sample(1, np.random.default_rng(np.random.SeedSequence([0, 0x3E7A])))[0])
    played = Simulator(task, table).run(np.zeros(40_000, dtype=int), seed=0, visits=True)
    assert played.visits is not None
    means = units.values(np.array([played.returns.mean(), played.costs.mean()]))
    found = estimated(table, Sample(40_000, means, units.visits(played.visits)), units, 0.01, MILD)
    exact = situation(stack, table, stack.evaluate(table), stack.limits - 0.01, MILD)
    np.testing.assert_allclose(found.visitation, exact.visitation, atol=3e-3)
    np.testing.assert_allclose(found.room, exact.room, atol=1e-3)
    often = played.visits.count > 3_000
    assert np.abs((found.advantages - exact.advantages)[0][:, often]).max() < 0.15


def mean_adapted(stack: TaskStack, table: np.ndarray, penalties: Penalties, margin: np.ndarray) -> float:
    given = situation(stack, table, stack.evaluate(table), stack.limits - margin, penalties)
    return float(stack.totals(adapt(given).tables)[:, 0].mean())


def fresh_stack(safe: np.ndarray, n: int = 60) -> TaskStack:
    return training_stack(WORLD, safe, seed=99, tasks=n)


@pytest.mark.parametrize("multiplier", [1.0, 1e-4])
def test_meta_training_pays_on_fresh_tasks_and_stays_feasible(multiplier: float) -> None:
    safe = np.asarray(WORLD.safe_policy())
    stack, fresh = training_stack(WORLD, safe, tasks=48), fresh_stack(safe)
    penalties, margin = Penalties.proved(Units.of(WORLD.criterion), multiplier), allowance(stack, safe)
    table = meta_train(stack, safe, penalties, iterations=40)
    assert (fresh.limits - fresh.totals(table)[:, 1:]).min() > 0.0
    assert (stack.limits - margin - stack.totals(table)[:, 1:]).min() >= 0.0
    gain = mean_adapted(fresh, table, penalties, margin) - float(fresh.totals(safe)[:, 0].mean())
    untrained = mean_adapted(fresh, interior(stack, safe), penalties, margin) - float(fresh.totals(safe)[:, 0].mean())
    assert gain > 0.02 and gain > untrained + 0.03


def test_meta_training_on_one_task_finds_its_optimum() -> None:
    """One price: the optimum plays the costly arm as often as the limit, less the allowance of 5%, permits."""
    stack = training_stack(Arm(0.8, 0.8), IDLE, tasks=8)
    table = meta_train(stack, IDLE, Penalties(1.0, 1.0, 0.5))
    best = 0.95 * 0.5 / 0.8
    assert table[0, 1] == pytest.approx(best, abs=0.02)
    assert table[0, 1] <= best
    np.testing.assert_array_equal(table, meta_train(stack, IDLE, Penalties(1.0, 1.0, 0.5)))


def test_the_allowance_is_half_the_smallest_slack_or_five_percent_of_the_limit() -> None:
    stack = training_stack(Arm(), IDLE, tasks=8)
    np.testing.assert_allclose(allowance(stack, IDLE), [0.05])
    nearly = np.array([[0.5, 0.5]])
    slack = float((stack.limits - stack.totals(nearly)[:, 1:]).min())
    assert slack < 0.1
    np.testing.assert_allclose(allowance(stack, nearly), [slack / 2.0])


def context(family: object, policy_set: PolicySet) -> SimpleNamespace:
    return SimpleNamespace(family=family, policy_set=policy_set, task=None, episodes=6_000, delta=0.05, seed=2)


def test_agents_are_made_from_meta_policies() -> None:
    theory, bold = (make(context(Arm(), arm_set()), name) for name in ("", "calibrated=1e-3"))
    assert theory.table[0, 1] > 0.3, "meta-training has left the idle safe policy"
    assert theory.policies[0] is arm_set().safe_policy
    assert "hardly moves" in theory.notes[1] and "multiplied by 0.001" in bold.notes[1]
    task = Arm().cmdp([0.4])
    slow, fast = play(theory, task, 6_000, seed=1), play(bold, task, 6_000, seed=1)
    assert theory.moves == bold.moves == 6_000 // BATCH - (6_000 % BATCH == 0)
    assert slow.violating(task.cost_limits) == fast.violating(task.cost_limits) == 0
    assert slow.reward[-1] - slow.reward[0] < 0.3 * (fast.reward[-1] - fast.reward[0])


def test_the_learner_adapts_with_the_constraint_it_was_given() -> None:
    units = Units.of(Arm().criterion)
    table = np.array([[0.6, 0.4]])
    task = Arm().cmdp([1.0])
    played = Simulator(task, table).run(np.zeros(2_000, dtype=int), seed=0, visits=True)
    assert played.visits is not None
    means = units.values(np.array([played.returns.mean(), played.costs.mean()]))
    sample = Sample(2_000, means, units.visits(played.visits))
    bold, held = (
        SafeMetaRL(units, table, Penalties(0.01, 0.01, 0.5), np.array([margin])).update(table, sample, 0)
        for margin in (0.0, 0.15)
    )
    assert bold is not None and held is not None
    assert table[0, 1] < held[0, 1] < bold[0, 1]
    assert evaluate(task, held).costs[0] < 0.9


def test_the_published_multiplier_stays_at_nothing_and_its_support_is_the_safe_policys(
    gridworld_set: PolicySet,
) -> None:
    agent = make(context(WORLD, gridworld_set), "published")
    safe = agent.policies[0]
    assert agent.policies[1] is not safe
    np.testing.assert_array_equal(agent.table, safe.table)  # type: ignore[attr-defined]
    trace = play(agent, WORLD.cmdp(0.3), 400, seed=0)
    assert agent.moves >= 4
    assert (agent.table[safe.table == 0.0] == 0.0).all()  # type: ignore[attr-defined]
    assert np.ptp(trace.reward) > 0.0
    assert agent.notes[0].startswith("published adaptation: no meta-training")
    learner = PublishedSafeMetaRL(Units.raw(WORLD.criterion), agent.table)
    assert (learner.penalty, learner.dual_steps, learner.dual_rate, learner.batch(3)) == (0.2, 30, 1.0, 50)


def test_the_published_multiplier_stays_at_nothing_with_slack_and_comes_late_without() -> None:
    learner = PublishedSafeMetaRL(Units.raw(WORLD.criterion), np.eye(4)[np.zeros(49, dtype=int)])
    published = Penalties(0.2, 0.2, 0.9)
    slack = random_situation(BINDING, 0.5, published)
    assert learner.multipliers(slack).tolist() == [[0.0]]
    tight = random_situation(BINDING, 0.001, published)
    early, solved = learner.multipliers(tight), adapt(tight).multipliers
    assert 0.0 < early[0, 0] < 0.95 * solved[0, 0]
    assert tight.slopes(tight.tilted(early))[0, 0] < -1e-3, "the constraint is broken"


def test_wrong_arguments_are_refused() -> None:
    with refused("SF-ARGUMENT-CHOICE", "preset of safe-meta-rl", "theory, calibrated, published"):
        make(context(Arm(), arm_set()), "sage")
    with refused("SF-AGENT-UNCALIBRATED", "multiplier of safe-meta-rl", "'arm'"):
        make(context(Arm(), arm_set()), "calibrated")
