"""The certificate: valid for any multipliers, tight for the right ones, and silent about nothing that is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot import TabularCMDP, certify, evaluate, solve
from surefoot.solvers import certificate
from surefoot.solvers.certificate import best_response
from surefoot.tasks import NoisyGridworld
from tests.models import cmdps, iterate_values, one_state, random_cmdp, random_policy
from tests.refusals import refused

multipliers = st.lists(st.floats(0.0, 20.0), min_size=2, max_size=2)


@given(cmdps(), multipliers, st.integers(0, 2**32))
def test_weak_duality_holds_for_any_multipliers_and_any_policy(cmdp: TabularCMDP, lam: list[float], seed: int) -> None:
    """The bound exceeds V* even where the multipliers are wrong and policy iteration starts anywhere."""
    table = random_policy(np.random.default_rng(seed), cmdp.n_states, cmdp.n_actions)
    proof = certify(cmdp, table, lam[: cmdp.n_constraints])
    solution = solve(cmdp)
    if solution.status == "optimal":
        assert proof.bound >= solution.value - 1e-8 * max(1.0, abs(solution.value))


@given(cmdps(), multipliers)
def test_the_bound_is_the_lagrangian_of_value_iteration(cmdp: TabularCMDP, lam: list[float]) -> None:
    prices = np.asarray(lam[: cmdp.n_constraints])
    proof = certify(cmdp, np.full((cmdp.n_states, cmdp.n_actions), 1.0 / cmdp.n_actions), prices)
    lagrangian = iterate_values(cmdp, cmdp.rewards - np.tensordot(prices, cmdp.costs, axes=1), largest=True)
    assert proof.bound == pytest.approx(lagrangian + float(prices @ cmdp.cost_limits), rel=1e-8, abs=1e-7)


def test_the_optimum_of_the_gridworld_is_certified_without_the_solver() -> None:
    cmdp = NoisyGridworld().cmdp(0.3)
    solution = solve(cmdp)
    proof = certify(cmdp, solution.policy, solution.multipliers)
    assert 0.0 <= proof.gap < 1e-9
    assert proof.excess <= 1e-9


def test_a_perturbed_policy_is_rejected() -> None:
    cmdp = NoisyGridworld().cmdp(0.3)
    solution = solve(cmdp)
    for share in (1e-3, 0.3):
        table = (1.0 - share) * solution.policy + share / 4.0
        proof = certify(cmdp, table, solution.multipliers)
        assert proof.gap > share or proof.excess > share
    dearer = solve(cmdp.with_limits([1.6])).policy
    assert certify(cmdp, dearer, solution.multipliers).excess == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.5, 2.0])
def test_wrong_multipliers_leave_a_gap(factor: float) -> None:
    cmdp = NoisyGridworld().cmdp(0.3)
    solution = solve(cmdp)
    proof = certify(cmdp, solution.policy, factor * solution.multipliers)
    assert proof.gap > 0.1
    assert proof.bound >= solution.value


def test_a_negative_multiplier_counts_as_zero() -> None:
    """With its sign kept the bound would fall below V* wherever the limit is slack, and prove a falsehood."""
    cmdp = one_state([0.0, 1.0], [[0.0, 1.0]], [100.0])
    best = np.array([[0.0, 1.0]])
    assert certify(cmdp, best, [-0.5]).bound == pytest.approx(10.0)
    assert certify(cmdp, best, [-0.5]).bound == certify(cmdp, best, [0.0]).bound


@given(cmdps(max_constraints=1), st.integers(0, 2**32))
def test_best_response_beats_every_policy_and_is_attained(cmdp: TabularCMDP, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, bound = best_response(cmdp, cmdp.rewards, random_policy(rng, cmdp.n_states, cmdp.n_actions))
    attained = certify(cmdp, table, np.zeros(cmdp.n_constraints)).value
    assert bound == pytest.approx(attained, rel=1e-9, abs=1e-8)
    other = certify(cmdp, random_policy(rng, cmdp.n_states, cmdp.n_actions), np.zeros(cmdp.n_constraints)).value
    assert other <= bound + 1e-9 * max(1.0, abs(bound))


def test_an_unconverged_bound_still_holds(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    from surefoot.solvers import certificate

    cmdp = random_cmdp(rng, states=8, actions=3, discount=0.95)
    best = iterate_values(cmdp, cmdp.rewards, largest=True)
    monkeypatch.setattr(certificate, "MAX_SWEEPS", 1)
    worst = np.eye(3)[cmdp.rewards.argmin(axis=1)]
    _, bound = best_response(cmdp, cmdp.rewards, worst)
    assert bound > best + 1e-6, "one sweep must not be enough here, or the test shows nothing"
    # Without the residual's term it would not hold:
    assert certify(cmdp.with_limits([1e9]), worst, [0.0]).value < best


@pytest.mark.parametrize(
    ("lam", "refusal"),
    [
        ([1.0, 2.0], ("SF-ARGUMENT-SHAPE", "multipliers", "(1)")),
        ([np.nan], ("SF-ARGUMENT-FINITE", "multipliers[0]")),
        ("x", ("SF-ARGUMENT-TYPE",)),
    ],
)
def test_bad_multipliers_are_refused(lam: object, refusal: tuple[str, ...], rng: np.random.Generator) -> None:
    cmdp = random_cmdp(rng)
    with refused(*refusal):
        certify(cmdp, random_policy(rng, 4, 3), lam)


def test_policy_iteration_does_not_go_round_in_circles_where_values_drown_in_rounding() -> None:
    """Costs that hardly any state ever meets: far from them values are rounding of the linear solve, and actions tie."""
    task = NoisyGridworld().cmdp([0.5])
    calls: list[int] = []
    original = certificate.state_values
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificate, "state_values", lambda *args: (calls.append(1), original(*args))[1])
        uniform = np.full((task.n_states, task.n_actions), 1.0 / task.n_actions)
        policy, bound = best_response(task, -task.costs[0], uniform)
    assert len(calls) < 60
    assert bound == pytest.approx(-evaluate(task, policy).costs[0], rel=1e-9)
