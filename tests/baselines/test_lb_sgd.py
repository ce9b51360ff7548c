"""LB-SGD: the barrier's gradient, the step that cannot leave the feasible set, radii, and the published adaptation."""

from __future__ import annotations

from collections.abc import Callable
from math import log, sqrt
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import PolicySet, TabularCMDP, evaluate, solve
from surefoot.baselines.gradient import Units, exact_gradient, shift_logits, with_uniform
from surefoot.baselines.lb_sgd import (
    BATCH,
    ETA,
    BarrierRadii,
    LogBarrier,
    PublishedLogBarrier,
    barrier_direction,
    barrier_step,
    make,
    regularised_optimum,
)
from surefoot.baselines.on_policy import Sample, looks
from surefoot.cmdp.simulate import Visits
from surefoot.experiments.runner import play
from surefoot.tasks import NoisyGridworld
from tests.models import one_state, random_cmdp
from tests.refusals import refused
from tests.training.families import Arm

WORLD = NoisyGridworld()


def unit_cmdp(seed: int, constraints: int = 1, slack: float = 0.3) -> tuple[TabularCMDP, np.ndarray]:
    """A random CMDP with signals in [0, 1], and a policy with the given slack in every constraint."""
    rng = np.random.default_rng(seed)
    base = random_cmdp(rng, states=4, actions=3, constraints=constraints, discount=0.7)
    table = rng.dirichlet(np.ones(3), size=4)
    rewards = (base.rewards - base.rewards.min()) / np.ptp(base.rewards)
    free = TabularCMDP(base.dense, rewards, base.costs / 2.0, np.full(constraints, 9.0), base.start, 0.7)
    return free.with_limits(evaluate(free, table).costs + slack), table


def barrier(cmdp: TabularCMDP, table: np.ndarray, eta: float) -> float:
    found = evaluate(cmdp, table)
    return found.reward + eta * float(np.log(cmdp.cost_limits - found.costs).sum())


Direction = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def slope_error(direction: Direction, seed: int) -> float:
    """Relative distance of a direction from the finite differences of the barrier in the logits."""
    cmdp, table = unit_cmdp(seed, constraints=2)
    eta, h = 0.2, 1e-5
    slack = cmdp.cost_limits - evaluate(cmdp, table).costs
    found = direction(exact_gradient(cmdp, table), slack, eta)
    difference = np.zeros_like(found)
    for s, a in np.ndindex(*table.shape):
        nudge = np.zeros_like(table)
        nudge[s, a] = h
        difference[s, a] = barrier(cmdp, shift_logits(table, nudge), eta) - barrier(
            cmdp, shift_logits(table, -nudge), eta
        )
    difference /= 2.0 * h
    return float(np.linalg.norm(found - difference) / np.linalg.norm(difference))


MUTANTS: dict[str, Direction] = {
    "costs climbed": lambda g, a, eta: g[0] + np.einsum("i,isa->sa", eta / a, g[1:]),
    "reward descended": lambda g, a, eta: -g[0] - np.einsum("i,isa->sa", eta / a, g[1:]),
    "slack squared": lambda g, a, eta: g[0] - np.einsum("i,isa->sa", eta / a**2, g[1:]),
    "no barrier": lambda g, a, eta: g[0],
    "first constraint only": lambda g, a, eta: g[0] - eta / a[0] * g[1],
}


@pytest.mark.parametrize("seed", range(4))
def test_the_direction_is_the_gradient_of_the_barrier(seed: int) -> None:
    assert slope_error(barrier_direction, seed) < 1e-5


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS.keys())
def test_mutants_of_the_direction_are_not(mutant: Direction) -> None:
    assert min(slope_error(mutant, seed) for seed in range(4)) > 1e-2


def climb(
    cmdp: TabularCMDP, table: np.ndarray, eta: float, steps: int, stretch: float = 1.0
) -> list[tuple[float, float]]:
    """Slack and barrier along exact steps, each ``stretch`` times the proved one."""
    smoothness = 8.0 / (1.0 - cmdp.discount) ** 3
    track = []
    for _ in range(steps):
        slack = cmdp.cost_limits - evaluate(cmdp, table).costs
        track.append((float(slack.min()), barrier(cmdp, table, eta) if slack.min() > 0.0 else -np.inf))
        if slack.min() <= 0.0:
            break
        gradients = exact_gradient(cmdp, table)
        direction = barrier_direction(gradients, slack, eta)
        step = barrier_step(gradients, direction, slack, eta, smoothness, 0.0)
        table = shift_logits(table, stretch * step * direction)
    return track


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(1, 2), st.floats(1e-3, 0.5))
@pytest.mark.slow
def test_exact_steps_keep_half_of_every_slack_and_climb(seed: int, constraints: int, slack: float) -> None:
    cmdp, table = unit_cmdp(seed, constraints, slack)
    track = climb(cmdp, table, 0.05, 60)
    slacks, heights = np.asarray(track).T
    assert len(track) == 60
    assert (slacks[1:] >= 0.5 * slacks[:-1]).all()
    assert (np.diff(heights) >= -1e-12).all()


def test_steps_a_thousand_times_as_long_do_leave_the_feasible_set() -> None:
    """Without this the test before would prove nothing about the step's length."""
    ends = [climb(*unit_cmdp(seed, 1, 0.01), 0.001, 60, stretch=3000.0)[-1][0] for seed in range(12)]
    assert min(ends) < 0.0


def test_many_exact_steps_approach_the_optimum() -> None:
    cmdp = one_state([0.0, 1.0], [[0.0, 1.0]], [1.0], 0.5)  # optimum: 1, at a probability of one half
    table = np.array([[0.9, 0.1]])
    start, eta = evaluate(cmdp, table).reward, 0.02
    for _ in range(4000):
        slack = cmdp.cost_limits - evaluate(cmdp, table).costs
        gradients = exact_gradient(cmdp, table)
        direction = barrier_direction(gradients, slack, eta)
        if np.linalg.norm(direction) <= eta / 2.0:
            break
        table = shift_logits(table, barrier_step(gradients, direction, slack, eta, 1.0, 0.0) * direction)
    final = evaluate(cmdp, table)
    assert start == pytest.approx(0.2)
    assert 0.9 < final.reward < 1.0 and final.costs[0] < 1.0


def test_the_step_is_the_formula() -> None:
    gradients = np.zeros((3, 1, 2))
    gradients[1, 0], gradients[2, 0] = [3.0, 0.0], [0.0, 4.0]
    direction, slack = np.array([[0.6, 0.8]]) * 5.0, np.array([0.5, 0.1])
    beta = np.array([3.0 * 0.6, 4.0 * 0.8]) + 0.25
    curvature = 2.0 + sum(10 * 0.1 * 2.0 / a + 8 * 0.1 * b * b / a**2 for a, b in zip(slack, beta))
    reach = min(a / (2 * b + sqrt(2.0 * a)) / 5.0 for a, b in zip(slack, beta))
    assert barrier_step(gradients, direction, slack, 0.1, 2.0, 0.25) == pytest.approx(min(reach, 1.0 / curvature))
    assert barrier_step(gradients, direction * 1e6, slack, 0.1, 2.0, 0.25) == pytest.approx(reach / 1e6)


def test_radii_are_those_of_the_paper_times_the_multiplier() -> None:
    units = Units.of(WORLD.criterion)
    radii = BarrierRadii.of(units, 40_000, 0.05)
    assert radii.log_term == pytest.approx(log(4 * looks(40_000) / 0.05))
    assert radii.value(1000) == pytest.approx(10.0 * sqrt(2.0 * radii.log_term / 1000))
    assert radii.gradient(1000) == pytest.approx(sqrt(2.0) * 10.0 * radii.value(1000))
    assert radii.smoothness == pytest.approx(8_000.0)
    tenth = BarrierRadii.of(units, 40_000, 0.05, 0.1)
    for one, other in (
        (radii.value(7), tenth.value(7)),
        (radii.gradient(7), tenth.gradient(7)),
        (8_000.0, tenth.smoothness),
    ):
        assert other == pytest.approx(0.1 * one)


def sample(n: int, cost: float, to_go: np.ndarray) -> Sample:
    count = np.ones(to_go.shape[1:], dtype=np.int64)
    return Sample(n, np.array([0.5, cost]), Visits(n, count, count.astype(float), to_go * n))


def test_the_learner_waits_moves_or_stays() -> None:
    units = Units.of(Arm().criterion)  # one state, two arms, limit 1
    table, strong = np.array([[0.5, 0.5]]), np.array([[[0.0, 1.0]], [[0.0, 0.0]]])
    learner = LogBarrier(units, table, BarrierRadii(2.0, 1.0))
    radius = learner.radii.value
    assert learner.batch(0) == learner.batch(9) == BATCH
    n = 40
    assert radius(n) < 0.5
    # More than half of the estimated slack is radius: wait.
    assert learner.update(table, sample(n, 1.0 - 1.9 * radius(n), strong), 0) is None
    moved = learner.update(table, sample(n, 1.0 - 2.1 * radius(n), strong), 0)
    assert moved is not None and moved[0, 1] > 0.5
    # A direction shorter than eta / 2: stay.
    assert learner.update(table, sample(n, 0.0, 0.45 * ETA / sqrt(0.5) * strong), 0) is None
    assert learner.update(table, sample(n, 0.0, 0.55 * ETA / sqrt(0.5) * strong), 0) is not None
    # A costly arm is left where the slack is small.
    costly = np.array([[[0.0, 0.1]], [[0.0, 1.0]]])
    backed = LogBarrier(units, table, BarrierRadii(2.0, 1.0, 1e-6)).update(table, sample(n, 0.99, costly), 0)
    assert backed is not None and backed[0, 1] < 0.5


def context(policy_set: PolicySet, **changes: object) -> SimpleNamespace:
    usual = {
        "family": WORLD,
        "policy_set": policy_set,
        "task": WORLD.cmdp(0.3),
        "episodes": 40_000,
        "delta": 0.05,
        "seed": 1,
    }
    return SimpleNamespace(**(usual | changes))


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["", "theory", "calibrated=0.5"])
def test_theory_plays_the_safe_policy_because_no_data_could_prove_a_step(
    argument: str, gridworld_set: PolicySet
) -> None:
    agent = make(context(gridworld_set), argument)
    assert agent.policies == (gridworld_set.safe_policy,)
    assert agent.notes[-1].startswith("no data could prove a single step safe in so few episodes")
    trace = play(agent, WORLD.cmdp(0.3), 300, seed=0)
    assert (trace.reward == evaluate(WORLD.cmdp(0.3), gridworld_set.safe_policy).reward).all()


def test_theory_starts_inside_where_enough_episodes_are_to_come(gridworld_set: PolicySet) -> None:
    agent = make(context(gridworld_set, episodes=10**8), "theory")
    assert len(agent.policies) == 2 and agent.table.min() > 0.0
    safe = gridworld_set.safe_policy.table  # type: ignore[attr-defined]
    np.testing.assert_allclose(agent.table, with_uniform(safe, 4.0 * agent.table.min()))
    assert "its policy was never replaced" in agent.notes


def test_calibrated_moves_and_stays_feasible(gridworld_set: PolicySet) -> None:
    task = WORLD.cmdp(0.31)
    agent = make(context(gridworld_set), "calibrated=1e-5")
    trace = play(agent, task, 6_000, seed=2)
    assert agent.moves >= 5
    assert trace.violating(task.cost_limits) == 0
    assert trace.reward[-1] > trace.reward[0]
    assert agent.notes[0] == "radii and smoothness are multiplied by 1e-05, which is outside the proof"
    assert len(agent.notes) == 2 and agent.notes[1].startswith("the start is not the safe policy itself")


def test_the_published_start_is_the_regularised_optimum() -> None:
    """Values known from solving it independently: 35.3 and 1.5 at noise .4, 37.2 and 1.12 at noise .34."""
    table = regularised_optimum(WORLD.cmdp(0.4), 8.0)
    hard, easy = evaluate(WORLD.cmdp(0.4), table), evaluate(WORLD.cmdp(0.34), table)
    assert (hard.reward, hard.costs[0]) == (pytest.approx(35.3, abs=0.05), pytest.approx(1.5, abs=1e-6))
    assert (easy.reward, easy.costs[0]) == (pytest.approx(37.2, abs=0.05), pytest.approx(1.12, abs=0.005))


def test_a_regularised_bandit_has_a_closed_form() -> None:
    cmdp = one_state([0.0, 1.0, 3.0], [[0.0, 1.0, 4.0]], [2.5], 0.5)
    table = regularised_optimum(cmdp, 0.7)
    assert evaluate(cmdp, table).costs[0] == pytest.approx(2.5, abs=1e-7)
    logits = 0.7 * np.log(table[0] / table[0, 0])
    multiplier = 1.0 - logits[1]
    assert multiplier > 0.0
    assert logits[2] == pytest.approx(3.0 - 4.0 * multiplier)
    slack = regularised_optimum(cmdp.with_limits([8.0]), 0.7)
    np.testing.assert_allclose(0.7 * np.log(slack[0] / slack[0, 0]), [0.0, 1.0, 3.0], atol=1e-9)


@pytest.mark.parametrize(
    ("cmdp", "refusal"),
    [
        (one_state([0.0], [[0.0], [0.0]], [1.0, 1.0]), ("SF-ARGUMENT-MISMATCH", "cmdp", "2")),
        (
            one_state([0.0], [[1.0]], [1.0]),
            ("SF-ARGUMENT-RANGE", "8", "1"),
        ),
    ],
)
def test_regularised_optima_that_do_not_exist_are_refused(cmdp: TabularCMDP, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        regularised_optimum(cmdp, 8.0)


def test_the_published_batches_are_500_and_then_always_3000(gridworld_set: PolicySet) -> None:
    agent = make(context(gridworld_set), "published")
    task = WORLD.cmdp(0.32)
    trace = play(agent, task, 7_000, seed=3)
    changes = trace.ends[:-1][np.diff(trace.reward) != 0.0]
    assert len(changes) == 3
    assert (changes >= [500, 3500, 6500]).all() and (changes < np.array([500, 3500, 6500]) + 300).all()
    # Some 13 per episode below the optimum at first, as published, and better with every step.
    assert solve(task).value - trace.reward[0] == pytest.approx(13.0, abs=1.0)
    assert (np.diff(trace.reward) >= 0.0).all()
    assert agent.notes[0].startswith("published adaptation: constant step, no radii")


def test_the_published_slack_is_clipped() -> None:
    units = Units.raw(Arm().criterion)
    learner = PublishedLogBarrier(units, np.array([[0.5, 0.5]]))
    gradients = np.array([[[0.0, 1.0]], [[0.0, 1.0]]])
    beyond, inside = (learner.update(learner.start, sample(10, cost, gradients), 1) for cost in (1.5, 0.96))
    np.testing.assert_allclose(beyond, inside)
    direction = np.array([[-0.5, 0.5]]) * (1.0 - 0.1 / (0.05 + 1e-8))
    np.testing.assert_allclose(inside, shift_logits(learner.start, 4.0 * direction), rtol=1e-6)


def test_wrong_arguments_and_families_are_refused(gridworld_set: PolicySet) -> None:
    with refused("SF-ARGUMENT-CHOICE", "preset of lb-sgd", "theory, calibrated, published"):
        make(context(gridworld_set), "tuned")
    with refused("SF-ARGUMENT-MISMATCH", "lb-sgd:published", "'arm'"):
        make(context(gridworld_set, family=Arm()), "published")
