"""Safe-policy oracles: one policy for all tasks, found where it exists, measured exactly in any case."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import TabularCMDP, evaluate, solve
from surefoot.tasks import NoisyGridworld
from surefoot.training import ExactOptimal, GivenPolicy, WorstCaseSafe
from tests.models import one_state, random_cmdp
from tests.refusals import refused


def margin_of(tasks: list[TabularCMDP], table: np.ndarray) -> float:
    return min(float((t.cost_limits - evaluate(t, table).costs).min()) for t in tasks)


def test_the_gridworlds_tasks_share_a_policy_that_need_not_be_given() -> None:
    tasks = [NoisyGridworld().cmdp(q) for q in (0.25, 0.3, 0.34, 0.38)]
    found = WorstCaseSafe().find(tasks, 0.1)
    assert found.margin >= 0.1
    assert found.margin == pytest.approx(margin_of(tasks, found.policy))
    # It is worth something: better than the safest policy of the hardest task.
    safest = solve(tasks[-1].with_limits([0.0])).policy
    assert evaluate(tasks[1], found.policy).reward > evaluate(tasks[1], safest).reward + 1.0


def opposed(limit: float) -> list[TabularCMDP]:
    """Arm 0 is free in one task and costs 10 in the other; arm 1 the other way round; only a mixture serves both."""
    return [one_state([1.0, 1.0], [costs], [limit]) for costs in ([0.0, 1.0], [1.0, 0.0])]


def test_where_no_tasks_optimum_serves_the_other_a_mixture_is_found() -> None:
    tasks = opposed(6.0)
    for task, other in (tasks, tasks[::-1]):
        for fraction in WorstCaseSafe().tightenings:
            candidate = solve(task.with_limits(fraction * task.cost_limits)).policy
            assert margin_of([other], candidate) < 0.5, "no candidate may do, or the descent is not needed"
    found = WorstCaseSafe().find(tasks, 0.9)
    assert found.margin >= 0.9
    assert found.margin == pytest.approx(margin_of(tasks, found.policy))
    assert found.policy[0, 0] == pytest.approx(0.5, abs=0.02)


def test_with_two_constraints_the_worse_one_counts() -> None:
    rng = np.random.default_rng(5)
    base = random_cmdp(rng, states=4, actions=3, constraints=2, limits=np.zeros(2))
    least = solve(base).costs
    tasks = [base.with_limits(1.15 * least), random_like(base, 0.02, rng).with_limits(1.15 * least)]
    found = WorstCaseSafe().find(tasks, 0.02 * float(least.min()))
    assert found.margin >= 0.02 * float(least.min())
    assert found.margin == pytest.approx(margin_of(tasks, found.policy))


def random_like(cmdp: TabularCMDP, share: float, rng: np.random.Generator) -> TabularCMDP:
    other = random_cmdp(rng, states=4, actions=3, constraints=2, limits=cmdp.cost_limits)
    return TabularCMDP(
        (1 - share) * cmdp.dense + share * other.dense, cmdp.rewards, cmdp.costs, cmdp.cost_limits, cmdp.start, 0.8
    )


@pytest.mark.parametrize("iterations", [0, 3])
def test_the_answer_is_never_worse_than_the_best_candidate(iterations: int) -> None:
    """Asked for more than there is, and given no time to search, it returns the best policy it saw with its true margin."""
    tasks = [NoisyGridworld().cmdp(q) for q in (0.3, 0.42)]
    found = WorstCaseSafe(iterations=iterations).find(tasks, 5.0)
    safest = solve(tasks[1].with_limits([0.0])).policy
    assert found.margin >= margin_of(tasks, safest) - 1e-9
    assert found.margin == pytest.approx(margin_of(tasks, found.policy))
    assert found.worst_task == 1


@settings(max_examples=15)
@given(st.integers(0, 2**32))
def test_whatever_is_found_the_margin_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tasks = [random_cmdp(rng, constraints=2, discount=0.7) for _ in range(3)]
    found = WorstCaseSafe(iterations=10).find(tasks, 0.3)
    margins = [float((t.cost_limits - evaluate(t, found.policy).costs).min()) for t in tasks]
    assert found.margin == pytest.approx(min(margins), abs=1e-9)
    assert margins[found.worst_task] == pytest.approx(min(margins), abs=1e-9)


def test_among_safe_candidates_the_most_rewarding_wins() -> None:
    tasks = [one_state([0.0, 1.0], [[0.0, 1.0]], [5.0])]
    found = WorstCaseSafe().find(tasks, 0.4)
    assert found.margin >= 0.4
    # The limits are tightened to .9, .75, ...: the first leaves .5 of margin and earns most.
    assert evaluate(tasks[0], found.policy).reward == pytest.approx(4.5)


def test_a_given_policy_is_verified_and_not_changed() -> None:
    tasks = [NoisyGridworld().cmdp(q) for q in (0.3, 0.38, 0.41)]
    table = np.asarray(NoisyGridworld().safe_policy())
    found = GivenPolicy(table).find(tasks, 0.1)
    np.testing.assert_array_equal(found.policy, table)
    assert found.worst_task == 2
    assert found.margin == pytest.approx(margin_of(tasks, table))
    assert found.margin < 0.0, "a policy that fails is measured as such"


@pytest.mark.parametrize(
    ("table", "refusal"),
    [
        (np.ones((2, 2)) / 2, ("SF-ARGUMENT-SHAPE", "safe_policy", "(any, 4, 3)", "(1, 2, 2)")),
        (np.full((4, 3), 0.3), ("SF-ARGUMENT-SIMPLEX", "safe_policy[0, 0]", "1")),
    ],
)
def test_what_is_no_policy_is_refused(table: np.ndarray, refusal: tuple[str, ...], rng: np.random.Generator) -> None:
    with refused(*refusal):
        GivenPolicy(table).find([random_cmdp(rng)], 0.1)


def test_the_exact_oracle_reports_infeasibility_as_a_value() -> None:
    world = NoisyGridworld()
    oracle = ExactOptimal(world.cmdp(0.3))
    good, bad = oracle.solve(world.cmdp(0.31)), oracle.solve(world.cmdp(0.45))
    assert (good.feasible, bad.feasible) == (True, False)
    assert good.bound >= good.value == pytest.approx(solve(world.cmdp(0.31)).value)
    assert bad.bound == -np.inf
    assert bad.costs[0] > 1.5
