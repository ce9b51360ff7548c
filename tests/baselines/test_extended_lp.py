"""The extended program against enumeration and against the textbook form in q, and a checker that believes nobody."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from surefoot import TabularCMDP, solve
from surefoot.arrays import FloatArray
from surefoot.baselines import extended_lp
from surefoot.baselines.counts import Support
from surefoot.baselines.extended_lp import ExtendedProgram, ExtendedSolution, Problem, check
from tests.baselines.worlds import support_of, with_margin
from tests.models import deterministic_policies, random_cmdp, random_policy


def problem_of(cmdp: TabularCMDP, radius: FloatArray | float) -> Problem:
    """The box of a radius around a model's own kernel."""
    lower = np.maximum(cmdp.probabilities - radius, 0.0)
    upper = np.minimum(cmdp.probabilities + radius, 1.0)
    return Problem(
        support_of(cmdp), lower, upper, cmdp.rewards, cmdp.costs, cmdp.cost_limits, cmdp.start, cmdp.discount
    )


def solved(problem: Problem) -> ExtendedSolution:
    n, a = problem.rewards.shape
    return ExtendedProgram().solve(problem, np.full((n, a), 1.0 / a))


def vertices(lower: FloatArray, upper: FloatArray) -> list[FloatArray]:
    """Extreme points of one pair's box on the simplex: all entries but one at an end."""
    found = []
    for free in range(lower.size):
        others = [k for k in range(lower.size) if k != free]
        for ends in itertools.product((0, 1), repeat=len(others)):
            p = np.empty(lower.size)
            p[others] = [upper[k] if end else lower[k] for k, end in zip(others, ends)]
            p[free] = 1.0 - p[others].sum()
            if lower[free] - 1e-12 <= p[free] <= upper[free] + 1e-12:
                found.append(p)
    return list(np.unique(np.round(found, 12), axis=0))


def attainable(problem: Problem) -> Iterator[tuple[float, float]]:
    """(value, cost) of every deterministic policy under every vertex kernel, by plain linear algebra."""
    support, n = problem.support, problem.support.n_states
    spans = [slice(f, f + s) for f, s in zip(support.first, support.sizes)]
    extreme = [vertices(problem.lower[s], problem.upper[s]) for s in spans]
    for table in deterministic_policies(n, support.n_actions):
        actions = table.argmax(axis=1)
        pairs = [s * support.n_actions + a for s, a in enumerate(actions)]
        for rows in itertools.product(*(extreme[p] for p in pairs)):
            kernel = np.zeros((n, n))
            for s, (p, row) in enumerate(zip(pairs, rows)):
                kernel[s, support.successors[spans[p]]] = row
            occupied = np.linalg.solve(np.eye(n) - problem.discount * kernel.T, problem.start)
            states = np.arange(n)
            yield (
                float(occupied @ problem.rewards[states, actions]),
                float(occupied @ problem.costs[0, states, actions]),
            )


def best_of_hull(points: FloatArray, limit: float) -> float:
    """Largest value at a cost of at most ``limit`` in the convex hull of (value, cost) points; ``-inf`` outside it."""
    inside = points[points[:, 1] <= limit]
    if not len(inside):
        return -np.inf
    best = float(inside[:, 0].max())
    for value, cost in points[points[:, 1] > limit]:
        weight = (limit - inside[:, 1]) / (cost - inside[:, 1])
        best = max(best, float((weight * value + (1.0 - weight) * inside[:, 0]).max()))
    return best


def textbook(problem: Problem) -> float | None:
    """The same optimum from the program in q(s, a, s') alone, with dense matrices; ``None`` where infeasible."""
    support = problem.support
    states = support.triples[:, 0]
    flow = np.zeros((support.n_states, len(support)))
    np.add.at(flow, (states, np.arange(len(support))), 1.0)
    np.subtract.at(flow, (support.successors, np.arange(len(support))), problem.discount)
    same = (support.rows[:, None] == support.rows[None, :]).astype(float)
    identity = np.eye(len(support))
    rows = [identity - problem.upper[:, None] * same, problem.lower[:, None] * same - identity]
    rows.append(problem.costs.reshape(len(problem.costs), support.sizes.size)[:, support.rows])
    bounds = np.concatenate([np.zeros(2 * len(support)), problem.limits])
    objective = -problem.rewards.reshape(-1)[support.rows]
    found = linprog(objective, np.concatenate(rows), bounds, flow, problem.start)
    return -float(found.fun) if found.status == 0 else None


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("states", [2, 3])
def test_the_optimum_is_that_of_the_hull_of_all_vertex_models(seed: int, states: int) -> None:
    rng = np.random.default_rng([seed, states])
    cmdp = random_cmdp(rng, states=states, actions=2, discount=0.7, density=0.7 if states == 3 else 1.0)
    problem = problem_of(cmdp, 0.15 * rng.random(cmdp.probabilities.size))
    points = np.array(list(attainable(problem)))
    limit = float(np.quantile(points[:, 1], 0.2))
    found = solved(replace(problem, limits=np.array([limit])))
    assert found.status == "optimal" and found.proof is not None
    assert found.proof.value == pytest.approx(best_of_hull(points, limit), abs=1e-4)
    below = solved(replace(problem, limits=np.array([float(points[:, 1].min()) - 1e-3])))
    assert (below.status, below.proof) == ("infeasible", None)


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.floats(0.0, 0.4))
@example(seed=15934, states=4, actions=2, constraints=0, width=1.1920928955078125e-07)
@settings(max_examples=60)
def test_the_two_forms_of_the_program_agree(
    seed: int, states: int, actions: int, constraints: int, width: float
) -> None:
    rng = np.random.default_rng(seed)
    cmdp = random_cmdp(rng, states=states, actions=actions, constraints=constraints)
    problem = problem_of(cmdp, width * rng.random(cmdp.probabilities.size))
    limits = rng.random(constraints) * 10.0
    problem = replace(problem, limits=limits)
    expected, found = textbook(problem), solved(problem)
    # Within rounding of the edge of feasibility the two may differ: the library tightens its limits by a ten-millionth.
    assume((expected is None) == (textbook(replace(problem, limits=limits * (1.0 - 1e-5))) is None))
    if expected is None:
        assert found.status == "infeasible"
    else:
        assert found.status == "optimal" and found.proof is not None
        assert found.proof.value == pytest.approx(expected, abs=1e-4)
        # The textbook program may use its solver's tolerance of 1e-7 in every constraint, and then exceeds the optimum; the bound does not.
        assert found.proof.bound >= expected - 1e-6
        assert (found.proof.costs <= limits + 1e-9).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_box_of_no_width_leaves_the_plain_program(seed: int) -> None:
    cmdp = random_cmdp(np.random.default_rng(seed), constraints=2, limits=np.array([4.0, 5.0]))
    plain, found = solve(cmdp), solved(problem_of(cmdp, 0.0))
    if plain.status == "optimal":
        assert found.proof is not None and found.proof.value == pytest.approx(plain.value, abs=1e-4)
        np.testing.assert_array_equal(found.kernel, cmdp.probabilities)
    else:
        assert found.status == "infeasible"


def test_a_wider_box_is_never_worth_less(rng: np.random.Generator) -> None:
    cmdp, _ = with_margin(random_cmdp(rng), 0.5)
    values = []
    for radius in (0.0, 0.01, 0.05, 0.2, 1.0):
        proof = solved(problem_of(cmdp, radius)).proof
        assert proof is not None
        values.append(proof.value)
    assert (np.diff(values) > 0.0).all()


def test_an_old_basis_changes_nothing_but_the_work(rng: np.random.Generator) -> None:
    cmdp, _ = with_margin(random_cmdp(rng, states=5), 0.5)
    warm, fallback = ExtendedProgram(), np.full((5, 3), 1 / 3)
    cold = 0
    iterations = 0
    for radius in np.linspace(0.2, 0.05, 12):
        problem = problem_of(cmdp, radius)
        first, again = solved(problem), warm.solve(problem, fallback)
        assert first.proof is not None and again.proof is not None
        assert again.proof.value == pytest.approx(first.proof.value, abs=1e-6)
        cold, iterations = cold + first.iterations, iterations + again.iterations
    assert iterations < cold


def test_states_that_the_answer_never_visits_take_the_fallback() -> None:
    kernel = np.zeros((2, 2, 2))
    kernel[0, :, 0] = kernel[1, :, 1] = 1.0
    cmdp = TabularCMDP(kernel, np.zeros((2, 2)), np.zeros((1, 2, 2)), np.ones(1), np.array([1.0, 0.0]), 0.9)
    found = ExtendedProgram().solve(problem_of(cmdp, 0.0), np.array([[0.0, 1.0], [0.25, 0.75]]))
    assert found.policy[1].tolist() == [0.25, 0.75]
    assert found.proof is not None and found.proof.value == 0.0


def test_no_constraints_at_all(rng: np.random.Generator) -> None:
    cmdp = random_cmdp(rng, constraints=0)
    found = solved(problem_of(cmdp, 0.1))
    assert found.proof is not None and found.proof.value == pytest.approx(textbook(problem_of(cmdp, 0.1)), abs=1e-6)


def checked(problem: Problem, seed: int = 0) -> tuple[Problem, FloatArray, FloatArray]:
    """An optimal pair, to be spoilt."""
    found = solved(problem)
    assert found.status == "optimal"
    return problem, found.policy, found.kernel


@pytest.fixture
def pair(rng: np.random.Generator) -> tuple[Problem, FloatArray, FloatArray]:
    cmdp, _ = with_margin(random_cmdp(rng), 0.5)
    return checked(problem_of(cmdp, 0.05))


def test_the_checker_notices_a_kernel_outside_its_box(pair: tuple[Problem, FloatArray, FloatArray]) -> None:
    problem, policy, kernel = pair
    assert check(problem, policy, kernel, np.zeros(1)).outside <= 1e-12
    moved = kernel.copy()
    row = int(np.argmax(problem.support.sizes))
    first = problem.support.first[row]
    moved[first] += 0.3
    moved[first + 1] -= 0.3
    assert check(problem, policy, moved, np.zeros(1)).outside == pytest.approx(0.3, abs=0.1)


def test_the_checker_notices_mass_that_is_missing(pair: tuple[Problem, FloatArray, FloatArray]) -> None:
    problem, policy, kernel = pair
    lazy = replace(problem, lower=np.zeros_like(kernel), upper=np.ones_like(kernel))
    assert check(lazy, policy, 0.99 * kernel, np.zeros(1)).outside == pytest.approx(0.01)


def test_the_checker_notices_a_policy_above_the_limit(pair: tuple[Problem, FloatArray, FloatArray]) -> None:
    problem, _, kernel = pair
    dear = np.zeros(problem.rewards.shape)
    dear[np.arange(len(dear)), problem.costs[0].argmax(axis=1)] = 1.0
    proof = check(problem, dear, kernel, np.zeros(1))
    assert proof.excess == pytest.approx(proof.costs[0] - problem.limits[0]) and proof.excess > 0.5


@given(st.integers(0, 2**32))
@settings(max_examples=25)
def test_the_bound_holds_for_any_multipliers_and_any_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cmdp = random_cmdp(rng, states=3, constraints=2, limits=np.array([5.0, 5.0]))
    problem = problem_of(cmdp, 0.1)
    expected = textbook(problem)
    assume(expected is not None)
    proof = check(problem, random_policy(rng, 3, 3), cmdp.probabilities, 3.0 * rng.random(2))
    assert expected is not None and proof.bound >= expected - 1e-7


@pytest.mark.parametrize("lie", ["dear", "poor", "dreamt", "leaking"])
def test_a_lying_solver_is_caught(lie: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """A plan that the independent check rejects is no plan, whatever the solver said."""
    cmdp, cheapest = with_margin(random_cmdp(rng), 0.5)
    problem = problem_of(cmdp, 0.05)
    dear = np.eye(cmdp.n_actions)[cmdp.costs[0].argmax(axis=1)]
    wide = solved(problem_of(cmdp, 0.2))
    honest = extended_lp._recover

    def spoilt(problem: Problem, columns: FloatArray, fallback: FloatArray) -> tuple[FloatArray, FloatArray]:
        policy, kernel = honest(problem, columns, fallback)
        lies = {
            "dear": (dear, kernel),  # above the limit
            "poor": (cheapest, cmdp.probabilities),  # feasible, but far from optimal
            "dreamt": (wide.policy, wide.kernel),  # feasible and better than anything true, by a kernel outside the box
            "leaking": (policy, 0.999 * kernel),  # a kernel that loses mass
        }
        return lies[lie]

    assert solved(problem).status == wide.status == "optimal"
    monkeypatch.setattr(extended_lp, "_recover", spoilt)
    found = solved(problem)
    assert found.status == "failed" and found.proof is not None
    assert (found.proof.excess > 0.01) == (lie == "dear")
    assert (found.proof.outside > 1e-4) == (lie in ("dreamt", "leaking"))
    assert (found.proof.gap < -1e-3) == (lie == "dreamt")


@pytest.mark.parametrize("sweeps", [1, 2])
def test_the_bound_holds_even_if_policy_iteration_is_cut_short(
    sweeps: int, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    cmdp, _ = with_margin(random_cmdp(rng), 0.5)
    problem = problem_of(cmdp, 0.1)
    expected = textbook(problem)
    monkeypatch.setattr(extended_lp, "MAX_SWEEPS", sweeps)
    proof = check(problem, random_policy(rng, 4, 3), cmdp.probabilities, np.array([0.5]))
    assert expected is not None and proof.bound >= expected


def test_entries_follow_the_support_and_nothing_else() -> None:
    """A successor outside the support gets no probability, however good it would be."""
    support = Support(2, 1, np.array([[0, 0, 0], [1, 0, 1]]))
    problem = Problem(
        support, np.ones(2), np.ones(2), np.array([[0.0], [1.0]]), np.zeros((1, 2, 1)), np.ones(1), np.array([1.0, 0.0]), 0.9
    )  # fmt: skip
    found = solved(problem)
    assert found.proof is not None and found.proof.value == 0.0
    open_support = Support(2, 1)
    wide = replace(problem, support=open_support, lower=np.zeros(4), upper=np.ones(4))
    free = solved(wide)
    assert free.proof is not None and free.proof.value == pytest.approx(9.0)
