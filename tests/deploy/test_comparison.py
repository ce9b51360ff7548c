"""Policies that return less than the safe one: found, barred for good, never by more chance than stated, and the plan stays feasible."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from surefoot import PolicySet
from surefoot.arrays import FloatArray
from surefoot.deploy import comparison
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.comparison import BESIDE, ENOUGH, LEVEL, ReturnComparison
from surefoot.deploy.planner import Program, plan, verify
from surefoot.stats.betting import mean_lower, mean_upper
from surefoot.stats.binomial import rate_test
from tests.deploy.worlds import hand_made

RANGE = (0.0, 10.0)


def compared(policies: int = 3) -> ReturnComparison:
    return ReturnComparison(RANGE, np.full(policies, 5.0))


def vague(cells: int = 3) -> PolicySet:
    """Simulation promises 6 and more for policies 1 to 3, and says so vaguely: 1 fits as well. No limit binds. The safe policy returns 4."""
    reward = np.tile([4.0, 6.0, 6.5, 7.0], (cells, 1)) + 0.1 * np.arange(cells)[:, None]
    width = np.zeros((cells, 4, 2))
    width[:, :, 0], width[:, 0, 0], width[:, :, 1] = 6.5, 0.5, 0.2
    cost = np.full((cells, 4, 1), 0.5)
    optimum = 7.0 + np.arange(cells)
    return hand_made(reward, cost, width=width, limits=(2.0,), margin=1.0, optimum=optimum, own=[1, 2, 3][:cells])


def play(one: CertifiedAgent, means: Any, episodes: int, rng: np.random.Generator, size: int = 10) -> FloatArray:
    """How often each policy ran."""
    counts = np.zeros(len(one.policies))
    for _ in range(episodes // size):
        batch = one.ask(size)
        reward = np.clip(np.asarray(means)[batch.policy_index] + rng.uniform(-1.0, 1.0, size), 0.0, 10.0)
        one.tell(batch.ids, reward, np.full((size, 1), 0.5))
        counts += np.bincount(batch.policy_index, minlength=counts.size)
        program = one._program()
        assert verify(one.plan.weights, program.rows, program.limits)
        assert program.candidate not in one.barred and one.plan.weights[list(one.barred)].sum() == 0.0
    return counts


@pytest.mark.statistical
def test_a_policy_that_is_as_good_is_barred_as_rarely_as_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal means on the ends of the range; who plays next follows from what was seen; looked at after every episode."""
    monkeypatch.setattr(comparison, "LEVEL", 0.2)
    rng, wrong, runs = np.random.default_rng(2), 0, 300
    for _ in range(runs):
        one, sums = compared(2), np.zeros(2)
        for k in range(150):
            j = int(sums.argmax()) if k % 3 else k % 2  # the lucky one
            x = 10.0 * float(rng.random() < 0.5)
            sums[j] += x - 5.0
            one.told(np.array([j]), np.array([x]))
            one.review()
        wrong += bool(one.barred.any())
    assert rate_test(wrong, runs, 0.2) > 1e-3


def test_bounds_are_those_of_the_betting_functions_but_for_their_grids(rng: np.random.Generator) -> None:
    one = compared(2)
    safe, other = rng.beta(4, 3, 300) * 10.0, rng.beta(2, 4, 300) * 10.0
    one.told(np.zeros(300, dtype=np.int64), safe)
    one.told(np.ones(300, dtype=np.int64), other)
    assert abs(one.lower - mean_lower(safe, 10.0, LEVEL / 2)) < 0.15 and one.lower < safe.mean()
    assert abs(one.upper[1] - mean_upper(other, 10.0, LEVEL / 2)) < 0.3 and one.upper[1] > other.mean()
    assert one.review().tolist() == [1] and one.barred.tolist() == [False, True]
    assert one.review().size == 0


def test_returns_below_zero_are_shifted() -> None:
    one = ReturnComparison((-20.0, -10.0), np.full(2, -15.0))
    one.told(np.zeros(200, dtype=np.int64), np.full(200, -12.0))
    one.told(np.ones(200, dtype=np.int64), np.full(200, -18.0))
    assert -13.0 < one.lower <= -12.0 and -18.0 <= one.upper[1] < -17.0


def test_a_lost_episode_speaks_for_nobody() -> None:
    """It counts as the smallest return of the safe policy and the largest of another."""
    for j, worst in ((0, 0.0), (1, 10.0)):
        lost, told = compared(2), compared(2)
        for one in (lost, told):
            one.told(np.array([j]), np.array([5.0]))
        for _ in range(7):
            lost.lost(j)
        told.told(np.full(7, j), np.full(7, worst))
        for one in (lost, told):
            one.told(np.full(90, j), np.full(90, 5.0))
        assert math.isclose(lost.lower, told.lower, abs_tol=1e-9)
        np.testing.assert_allclose(lost.upper, told.upper, atol=1e-9)


def test_a_return_that_is_no_number_is_lost() -> None:
    one, other = compared(2), compared(2)
    one.told(np.array([1, 1]), np.array([np.nan, 3.0]))
    other.lost(1)
    other.told(np.array([1]), np.array([3.0]))
    np.testing.assert_array_equal(one.upper, other.upper)


def test_memory_is_constant(rng: np.random.Generator) -> None:
    one = compared()
    size = {name: np.size(value) for name, value in vars(one).items()}
    for _ in range(50):
        one.told(rng.integers(0, 3, 100), rng.uniform(0.0, 10.0, 100))
    assert {name: np.size(value) for name, value in vars(one).items()} == size


@pytest.mark.parametrize("trust", ["cells", "envelope"])
def test_a_policy_that_is_worse_in_reality_is_left_for_the_next_best(trust: str, rng: np.random.Generator) -> None:
    """Under ``cells`` it stays under test with a small weight and is barred in the end."""
    one = CertifiedAgent(vague(), trust=trust, seed=1)
    assert one.plan.weights[0] == 1.0
    play(one, [4.0, 6.0, 6.5, 1.0], 60, rng)
    assert one.plan.weights[3] > 0.9
    play(one, [4.0, 6.0, 6.5, 1.0], 100, rng)
    assert one.plan.weights[3] < 0.1  # doubted: it would cost the company of the safe policy
    play(one, [4.0, 6.0, 6.5, 1.0], 1500, rng)
    assert one.plan.weights[2] > 0.9 and one.alarm is None
    if trust == "envelope":
        return
    assert one.barred == (3,)
    assert "policies 3 return less" in one.status().text
    assert next(event.text for event in one.events if event.kind == "barred").startswith("policy 3 returns less")


def test_when_all_are_worse_the_safe_policy_remains(rng: np.random.Generator) -> None:
    one = CertifiedAgent(vague(), seed=1)
    play(one, [4.0, 1.0, 1.0, 1.0], 1500, rng)
    assert one.barred == (1, 2, 3) and one.plan.weights[0] == 1.0 and one.plan.certified
    assert one._program().candidate == 0


def test_without_comparison_it_stays_on_the_worse_policy(rng: np.random.Generator) -> None:
    """What was wrong."""
    one = CertifiedAgent(vague(), seed=1, ramp=0)
    play(one, [4.0, 6.0, 6.5, 1.0], 400, rng)
    assert one.plan.weights[3] > 0.9 and one.barred == ()


def test_a_small_difference_is_found_because_a_doubted_policy_runs_beside_the_safe_one(
    rng: np.random.Generator,
) -> None:
    """The 50 episodes of the ramp alone prove nothing at .6 of a range of 10; what is played beside it does."""
    means = [4.0, 3.4, 3.4, 3.4]
    one = CertifiedAgent(vague(), seed=1)
    play(one, means, 120, rng)
    assert one.plan.weights[0] == pytest.approx(BESIDE / (1 + BESIDE), abs=1e-6)
    shares = play(one, means, 4000, rng)
    assert one.barred and shares[0] > 400
    blind = CertifiedAgent(vague(), seed=1)
    assert blind._reality.comparison is not None
    blind._reality.comparison.doubt = lambda settled: False  # type: ignore[method-assign]
    play(blind, means, 4000, rng)
    assert not blind.barred


def test_doubts_need_enough_episodes_and_go_when_the_mean_rises() -> None:
    one = compared(2)
    one.told(np.zeros(40, dtype=np.int64), np.full(40, 5.0))
    one.told(np.ones(ENOUGH - 1, dtype=np.int64), np.full(ENOUGH - 1, 4.0))
    assert not one.doubt(59) and not one.doubted.any()
    one.told(np.ones(1, dtype=np.int64), np.full(1, 4.0))
    assert not one.doubt(60)  # not looked at again so soon
    assert one.doubt(66) and one.doubted.tolist() == [False, True]
    one.told(np.ones(60, dtype=np.int64), np.full(60, 6.0))
    assert one.doubt(126) and not one.doubted.any()


def test_barred_policies_get_no_weight_and_doubted_ones_company() -> None:
    program = Program(
        objective=np.array([1.0, 5.0, 4.0]), rows=np.ones((1, 3, 1)), names=("row",), limits=np.array([2.0]), candidate=2, kappa=0.3, cap=1.0,
        barred=(1,), doubted=(2,), beside=0.25,
    )  # fmt: skip
    np.testing.assert_allclose(plan(program).weights, [0.2, 0.0, 0.8], atol=1e-9)
    tight = Program(
        objective=np.array([1.0, 5.0, 4.0]), rows=np.array([[[1.0], [5.0], [3.0]]]), names=("row",), limits=np.array([2.0]), candidate=2,
        kappa=0.3, cap=1.0, barred=(1,), doubted=(2,), beside=0.25,
    )  # fmt: skip
    found = plan(tight)
    assert found.reasons[0].endswith("limited by row") and abs(found.weights[2] - 0.5) < 1e-6
