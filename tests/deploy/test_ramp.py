"""The ramp: no weight before reality was compared with simulation; false alarms as rare as stated; mismatches found; losses that cannot help."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surefoot import PolicySet
from surefoot.arrays import FloatArray
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.evidence.predictions import PredictionTable
from surefoot.deploy.ramp import BETS, SMALLEST, HullWealth, Ramp
from surefoot.policyset.schema import EpisodeBounds, KernelBoxes, SignalPredictions
from surefoot.stats.betting import bet_grid
from surefoot.stats.binomial import rate_test
from tests.deploy.worlds import hand_made, told, two_point
from tests.refusals import refused

WIDTH = 0.25
LEVEL = 0.1


def world(**parts: Any) -> PolicySet:
    """Two cells in which no limit binds: another policy is certified at weight one before any episode. Safe: return 2 to 3, cost .5 to 1."""
    reward = np.array([[2.25, 4.0, 4.5], [2.75, 4.0, 4.5]])
    cost = np.array([[0.75, 0.9, 1.0], [0.75, 0.9, 1.0]])[:, :, None]
    return hand_made(reward, cost, width=WIDTH, limits=(5.0,), ceilings=(10.0,), margin=1.0, **parts)


def agent(policy_set: PolicySet | None = None, **options: Any) -> CertifiedAgent:
    return CertifiedAgent(world() if policy_set is None else policy_set, **{"trust": "cells", **options})


def live(
    one: CertifiedAgent, n: int, rng: np.random.Generator, reward: float = 2.5, cost: float = 0.75, keep: Any = None
) -> Any:
    """Ask for n episodes and tell those that ``keep``: the safe policy's means are given, the others are as predicted."""
    batch = one.ask(n)
    means = np.array([[reward, cost], [4.0, 0.9], [4.5, 1.0]])[batch.policy_index]
    kept = np.ones(n, dtype=bool) if keep is None else keep
    found = np.clip(means + rng.uniform(-0.5, 0.5, means.shape), 0.0, 10.0)
    if kept.any():
        one.tell(batch.ids[kept], found[kept, 0], found[kept, 1:])
    return batch


# ------------------------------------------------------------------------------------------------ the weight waits


@pytest.mark.parametrize("trust", ["cells", "envelope"])
def test_without_a_ramp_simulation_alone_moves_the_weight_and_with_one_it_does_not(
    trust: str, rng: np.random.Generator
) -> None:
    assert agent(trust=trust, ramp=0).plan.weights[0] == 0.0
    one = agent(trust=trust)
    assert one.plan.weights[0] == 1.0 and one.ramping
    for _ in range(49):
        assert set(live(one, 1, rng).policy_index.tolist()) == {0}
    assert one.plan.weights[0] == 1.0
    live(one, 1, rng)
    assert not one.ramping and one.plan.weights[0] == 0.0 and one.alarm is None
    assert [event.kind for event in one.events].count("ramp") == 1


def test_a_batch_asked_in_the_ramp_runs_the_safe_policy_as_a_whole(rng: np.random.Generator) -> None:
    one = agent()
    assert (one.ask(1000).policy_index == 0).all()


def test_pending_and_lost_episodes_do_not_count_and_the_status_says_what_is_waited_for(
    rng: np.random.Generator,
) -> None:
    one = agent(ramp=10)
    pending = one.ask(9)
    assert one.ramping and "0 of 10 episodes" in one.status().text
    live(one, 30, rng)  # told, but behind the pending ones
    assert one.ramping and "wait until episode 0" in one.status().text
    one.lost(pending.ids[:8])
    assert one.ramping
    one.lost(pending.ids[8])
    assert not one.ramping
    two = agent(ramp=10)
    live(two, 12, rng, keep=np.arange(12) < 9)
    two.lost([9, 10, 11])
    status = two.status()
    assert two.ramping and "9 of 10 episodes" in status.text and "3 are lost and do not count" in status.text
    assert "what simulation predicts" in status.next
    live(two, 1, rng)
    assert not two.ramping and "of 10 episodes" not in two.status().text


def test_reports_that_never_come_leave_the_safe_policy_in_play(rng: np.random.Generator) -> None:
    one = agent(ramp=5)
    for _ in range(40):
        assert set(one.ask(5).policy_index.tolist()) == {0}
    assert one.ramping and one.alarm is None


def test_data_trusts_nothing_simulated_and_has_no_ramp() -> None:
    one = agent(trust="data")
    assert not one.ramping and one._reality.ramp is None and one._reality.comparison is None


@pytest.mark.parametrize("wrong", [-1, 0.5, "no", None])
def test_senseless_numbers_are_refused(wrong: Any) -> None:
    with refused("SF-ARGUMENT-RANGE" if wrong == -1 else "SF-ARGUMENT-TYPE", "ramp"):
        agent(ramp=wrong)


@pytest.mark.parametrize("trust", ["cells", "envelope"])
@pytest.mark.parametrize("wrong", [10.1, -0.1, 1e12])
def test_returns_out_of_their_range_end_no_ramp(trust: str, wrong: float) -> None:
    """Costs that come with an impossible return count; nothing is compared with simulation, so the safe policy alone goes on."""
    one = agent(trust=trust, ramp=20)
    for _ in range(3):
        batch = one.ask(20)
        assert set(batch.policy_index.tolist()) == {0}
        one.tell(batch.ids, np.full(20, wrong), np.full((20, 1), 0.75))
    assert one.ramping and one.alarm is None and one.barred == ()
    assert any("60 are lost" in note for note in one.status().notes)
    good = one.ask(20)
    one.tell(good.ids, np.full(20, 2.5), np.full((20, 1), 0.75))
    assert not one.ramping


# --------------------------------------------------------------------------------------------- the bets are e-processes


def process(minus: float = 0.2, plus: float = 0.5, low: float = 0.0, high: float = 2.0) -> HullWealth:
    return HullWealth(np.array([[[minus]], [[plus]]]), np.array([low]), np.array([high]))


def mean_wealth(one: HullWealth) -> float:
    return float(np.exp(one.log_mean()[0]))


@pytest.mark.parametrize(("mean", "side"), [(0.5, 0), (0.2, 1)])
def test_each_side_is_a_martingale_at_its_end_of_the_hull(mean: float, side: int) -> None:
    """All 2^6 sequences of outcomes 0 and 2 with that mean, weighted by their probabilities."""
    p, total = mean / 2.0, np.zeros(BETS)
    for sequence in itertools.product([0.0, 2.0], repeat=6):
        one = process()
        one.update(np.array(sequence)[:, None], np.zeros(6, dtype=np.int64))
        hits = sum(x > 0 for x in sequence)
        total += p**hits * (1 - p) ** (6 - hits) * np.exp(one.log_wealth[side, 0])
    np.testing.assert_allclose(total, 1.0, atol=1e-12)


@pytest.mark.parametrize("mean", [0.2, 0.3, 0.5])
def test_inside_the_hull_no_bet_gains_on_average(mean: float) -> None:
    p = mean / 2.0
    high, low = process(), process()
    high.update(np.array([[2.0]]), np.zeros(1, dtype=np.int64))
    low.update(np.array([[0.0]]), np.zeros(1, dtype=np.int64))
    assert (p * np.exp(high.log_wealth) + (1 - p) * np.exp(low.log_wealth) <= 1.0 + 1e-12).all()


def test_factors_are_the_stated_ones() -> None:
    c = bet_grid(BETS, SMALLEST, tilt=0.0).fractions
    one = process()
    one.update(np.array([[1.3]]), np.zeros(1, dtype=np.int64))
    np.testing.assert_allclose(np.exp(one.log_wealth[0, 0]), 1.0 + c * (1.3 - 0.5) / 0.5)
    np.testing.assert_allclose(np.exp(one.log_wealth[1, 0]), 1.0 + c * (0.2 - 1.3) / 1.8)
    assert math.isclose(mean_wealth(one), np.exp(one.log_wealth).mean())


def test_no_outcome_gives_a_smaller_factor_than_a_loss() -> None:
    lost = process()
    lost.lost = 3
    for x in np.linspace(-1.0, 3.0, 41):
        one = process()
        one.update(np.full((3, 1), x), np.zeros(3, dtype=np.int64))
        assert (one.log_wealth >= lost.lost * lost._worst - 1e-12).all()


def test_a_loss_is_worst_whatever_the_condition() -> None:
    hull = np.array([[[0.1, 1.0]], [[0.4, 1.6]]])
    lost = HullWealth(hull, np.zeros(1), np.full(1, 2.0))
    for x, b in itertools.product((0.0, 0.7, 2.0), (0, 1)):
        one = HullWealth(hull, np.zeros(1), np.full(1, 2.0))
        one.update(np.array([[x]]), np.array([b]))
        assert (one.log_wealth >= lost._worst - 1e-12).all() and np.isfinite(one.log_wealth).all()


def test_predictions_at_the_end_of_the_range_and_ranges_of_one_point_are_harmless() -> None:
    for minus, plus, high in ((0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)):
        one = process(minus, plus, 0.0, high)
        one.update(np.full((5, 1), minus), np.zeros(5, dtype=np.int64))
        one.lost = 2
        assert np.isfinite(one.log_mean()).all() and mean_wealth(one) <= 1.0 + 1e-12


# ----------------------------------------------------------------------------------------------------- as a whole


def ramp_of(policy_set: PolicySet, level: float = LEVEL, episodes: int = 10) -> Ramp:
    ceilings = np.array(policy_set.bounds.cost_ceilings)
    return Ramp(policy_set, PredictionTable.of(policy_set, ceilings), episodes, level)


def signals() -> SignalPredictions:
    lower = np.full((2, 3, 1), 0.4)
    return SignalPredictions(("wear",), np.array([[0.0, 1.0]]), lower, lower + 0.2)


def conditional() -> tuple[FloatArray, FloatArray]:
    shift = np.array([-1.0, 1.0])
    base = world().cells.predictions
    return base.reward_center[..., None] + shift, base.cost_center[..., None] + 0.2 * shift


CORNERS = [(2.0, 0.5), (3.0, 1.0), (2.0, 1.0), (2.5, 0.75)]


@pytest.mark.statistical
@pytest.mark.parametrize("means", CORNERS)
def test_false_alarms_are_as_rare_as_stated(means: tuple[float, float]) -> None:
    """Two-point outcomes with means at the corners of the hull, looked at after every fifth episode."""
    rng, alarms, runs = np.random.default_rng(5), 0, 300
    for _ in range(runs):
        one = ramp_of(world())
        for found in two_point(np.tile(means, (200, 1)), np.zeros(2), np.full(2, 10.0), rng).reshape(40, 5, 2):
            one.settle([told(0, found)], 0)
            if one.alarm() is not None:
                alarms += 1
                break
    assert rate_test(alarms, runs, LEVEL) > 1e-3


@pytest.mark.statistical
@pytest.mark.parametrize("mode", ["late", "lost"])
def test_what_comes_late_or_never_raises_no_more_alarms(mode: str) -> None:
    """At the corner of small returns and costs, with costly episodes late, or lost: what arrives at once looks better than predicted."""
    rng, alarms, runs, means = np.random.default_rng(5), 0, 80, (2.0, 0.5)
    for _ in range(runs):
        one = agent(ramp=20, monitor_delta=LEVEL, evidence="returns")
        one._evidence.watched[:] = False  # the cells' own alarm is another matter
        one._outside = True
        waiting: list[tuple[int, FloatArray]] = []
        for _ in range(12):
            batch = one.ask(5)
            found = two_point(np.tile(means, (5, 1)), np.zeros(2), np.full(2, 10.0), rng)
            dear = found[:, 1] > 5.0
            for k in np.flatnonzero(~dear):
                one.tell(batch.ids[k], found[k, 0], found[k, 1:])
            for k in np.flatnonzero(dear):
                if mode == "lost":
                    one.lost(batch.ids[k])
                else:
                    waiting.append((int(batch.ids[k]), found[k]))
            if len(waiting) > 3:
                for k, x in waiting:
                    one.tell(k, x[0], x[1:])
                waiting = []
        alarms += one.alarm is not None and "simulation predicts" in one.alarm
    assert rate_test(alarms, runs, LEVEL) > 1e-3


@pytest.mark.statistical
def test_the_same_judge_convicts_bets_against_the_middle_of_the_hull() -> None:
    rng, alarms, runs = np.random.default_rng(5), 0, 60
    for _ in range(runs):
        one = ramp_of(world())
        one._whole._hull[:] = one._whole._hull.mean(axis=0)
        one.settle([told(0, two_point(np.tile((3.0, 1.0), (5000, 1)), np.zeros(2), np.full(2, 10.0), rng))], 0)
        alarms += one.alarm() is not None
    assert rate_test(alarms, runs, LEVEL) < 1e-3


@pytest.mark.parametrize(("reward", "cost", "name"), [(4.4, 0.75, "return"), (0.0, 0.75, "return"), (2.5, 2.2, "cost")])
@pytest.mark.parametrize("trust", ["cells", "envelope"])
def test_a_safe_policy_that_is_not_what_simulation_says_is_an_alarm_before_any_weight(
    trust: str, reward: float, cost: float, name: str, rng: np.random.Generator
) -> None:
    one = agent(trust=trust)
    # Cells that cannot be rejected: the ramp is on its own.
    one._evidence._threshold = one._evidence._final = np.inf
    while one.alarm is None and one.ramping:
        assert (live(one, 5, rng, reward, cost).policy_index == 0).all()
    assert one.alarm is not None and name in one.alarm and "in any cell" in one.alarm
    assert one.plan.weights[0] == 1.0
    live(one, 60, rng)
    assert one.plan.weights[0] == 1.0 and not [event for event in one.events if event.kind == "ramp"]


def test_the_comparison_goes_on_after_the_ramp(rng: np.random.Generator) -> None:
    one = ramp_of(world(), level=0.001)
    one.settle([told(0, np.tile((2.5, 0.75), (20, 1)))], 0)
    assert one.over and one.alarm() is None
    one.settle([told(1, np.tile((9.0, 9.0), (200, 1)))], 0)
    assert one.alarm() is None and one.compared == 20
    one.settle([told(0, np.tile((4.9, 0.75), (60, 1)))], 0)
    assert one.alarm() is not None


def kernel() -> KernelBoxes:
    support = np.array([(0, 0, 1), (0, 0, 2)])
    center = np.array([[0.5, 0.5], [0.5, 0.5]])
    return KernelBoxes(support, center - 0.1, center + 0.1, center)


@pytest.mark.parametrize("trust", ["cells", "envelope"])
@pytest.mark.parametrize(
    ("parts", "report", "text"),
    [
        ({"by_state": conditional()}, {"initial_state": 7}, "started in state 7"),
        ({}, {"reward": 8.5}, "return is beyond what any simulated task"),
        ({"kernel": kernel()}, {"transitions": [[0, 0, 3, 1]]}, "every cell is rejected"),
    ],
)
def test_what_no_cell_allows_is_an_alarm_at_once(trust: str, parts: Any, report: Any, text: str) -> None:
    found = replace(world(**parts), bounds=EpisodeBounds(0.0, 8.0, (10.0,)))
    one = agent(found, trust=trust)
    one.tell(one.ask().id, **{"reward": 2.5, "costs": [0.75], **report})
    assert one.alarm is not None and text in one.alarm
    assert one.plan.weights[0] == 1.0


def test_late_reports_in_any_order_change_nothing(rng: np.random.Generator) -> None:
    outcomes = np.column_stack([rng.uniform(0.0, 5.0, 30), rng.uniform(0.0, 1.5, 30)])
    found = []
    for order in (np.arange(30), rng.permutation(30)):
        one = agent(ramp=30)
        ids = one.ask(30).ids
        for k in order.tolist():
            one.tell(ids[k], outcomes[k, 0], outcomes[k, 1:])
        assert one._reality.ramp is not None
        found.append(one._reality.ramp.log_wealth)
    assert math.isclose(*found, rel_tol=1e-12)


def test_what_a_report_leaves_out_takes_the_smallest_factor() -> None:
    rich = world(by_state=conditional(), signals=signals())
    whole, poor = ramp_of(rich), ramp_of(rich)
    outcomes = np.tile((2.5, 0.75), (4, 1))
    whole.settle([told(0, outcomes, states=[0, 1, 0, 1], signals=np.full((4, 1), 0.5))], 0)
    poor.settle([told(0, outcomes)], 0)
    assert whole.compared == poor.compared == 4
    rich_logs, poor_logs = whole.log_wealths(), poor.log_wealths()
    np.testing.assert_allclose(rich_logs["whole"], poor_logs["whole"])
    assert poor._given is not None and poor._extra is not None and (poor._given.lost, poor._extra.lost) == (4, 4)
    for name in ("given", "extra"):
        assert (poor_logs[name] < rich_logs[name]).all()


def test_a_mean_that_is_right_on_average_and_wrong_in_its_state_is_found() -> None:
    one = ramp_of(world(by_state=conditional()), level=0.001)
    # Predicted are 2 to 3 on average, and 1 to 2 in the only state that occurs; real are 2.9.
    one.settle([told(0, np.tile((2.9, 0.75), (60, 1)), states=np.zeros(60, dtype=np.int64))], 0)
    logs = one.log_wealths()
    assert one.alarm() is not None and logs["whole"].max() < 1.0 < logs["given"].max()


def test_a_number_that_is_none_is_lost() -> None:
    one = ramp_of(world())
    one.settle([told(0, [[np.nan, 0.7], [2.5, 0.75]])], 0)
    assert (one.compared, one.lost) == (1, 1) and np.isfinite(one.log_wealth) and one.alarm() is None


@pytest.mark.statistical
def test_a_mismatch_of_nine_tenths_of_a_deviation_is_found_in_the_default_ramp() -> None:
    """What the documentation states: at least 80% of the time, in the return (deviation a quarter of its range)."""
    rng, found, runs = np.random.default_rng(1), 0, 200
    mean, deviation = 5.0, 2.5
    for _ in range(runs):
        target = (mean + 0.95 * deviation) / 10.0
        spread = target * (1 - target) / 0.25**2 - 1
        x = 10.0 * rng.beta(target * spread, (1 - target) * spread, 50)
        exact = hand_made(np.full((2, 2), mean), np.full((2, 2, 1), 0.75), ceilings=(10.0,))
        one = ramp_of(exact, level=0.001)
        for k in range(0, 50, 5):
            one.settle([told(0, np.column_stack([x[k : k + 5], np.full(5, 0.75)]))], 0)
            if one.alarm() is not None:
                found += 1
                break
    assert found >= 0.8 * runs
