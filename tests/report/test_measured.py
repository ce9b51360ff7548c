"""What episodes cost and earned: sums by hand, late and lost reports, bounded memory, and intervals that hold the truth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from surefoot.report.deployment.measured import BLOCKS, ERROR, POINTS, Measured, Settled
from surefoot.stats.binomial import clopper_pearson
from surefoot.stats.running_mean import RunningMeanBounds
from tests.report.journals import OPENED

LIBRARY = {**OPENED, "policies": 3}


def declared(low: float = 0.0, high: float = 10.0, predicted: float = 4.0) -> Any:
    """What is read of a policy set: the range of returns, and the safe policy's predicted return."""
    ends = np.array([[predicted, 5.0, 5.0]])
    predictions = SimpleNamespace(reward_lower=ends, reward_upper=ends)
    return SimpleNamespace(
        criterion=SimpleNamespace(return_range=(low, high), functionals=()),
        cells=SimpleNamespace(predictions=predictions),
    )


def measured(**changes: Any) -> Measured:
    found = Measured({**LIBRARY, **changes}, declared())
    found.planned({0: 0.5, 2: 0.5}, [1.2])
    return found


def now(found: Measured) -> Settled:
    latest = found.now()
    assert latest is not None
    return found.about([latest])[0]


def test_means_are_those_of_the_reports() -> None:
    found = measured()
    found.asked(0, [0, 2, 2, 0])
    found.told([0, 1, 2, 3], [4.0, 6.0, 7.0, 2.0], [[1.0], [3.0], [0.0], [2.0]])
    settled = now(found)
    assert settled.episodes == 4
    assert settled.reward.mean == pytest.approx(19.0 / 4)
    assert settled.safe_reward.mean == pytest.approx(3.0)
    assert settled.costs[0].mean == pytest.approx(1.5)
    assert settled.safe_costs[0].mean == pytest.approx(1.5)
    assert settled.certified == (1.2,)
    assert settled.weights.tolist() == [0.5, 0.0, 0.5]
    # Off the safe policy (6 + 7 - 2 * 4) / 4 above the anchor of 4; half of the episodes leave it, whose own mean is 1 below.
    assert settled.gain.mean == pytest.approx(5.0 / 4 + 0.5)
    assert settled.gain.low is not None and settled.gain.high is not None
    assert settled.gain.low < 0.0 < settled.gain.mean < settled.gain.high


def test_the_gain_is_bounded_at_half_the_error_each() -> None:
    """Written out: the part that left the safe policy, less its share times the safe policy's own value."""
    found, rng = measured(), np.random.default_rng(5)
    draws, reward = rng.choice([0, 2], size=200), 10.0 * rng.random(200)
    found.asked(0, draws.tolist())
    found.told(range(200), reward.tolist(), [[1.0]] * 200)
    off, own = draws != 0, reward[draws == 0]
    away = RunningMeanBounds([-4.0], [6.0], [0.0])
    low, high = away.bounds(away.observe(away.start, np.where(off, reward - 4.0, 0.0)[:, None]), 0.025)
    safe = RunningMeanBounds([0.0], [10.0], [4.0])
    safe_low, safe_high = safe.bounds(safe.observe(safe.start, own[:, None]), 0.025)
    gained = now(found).gain
    assert gained.low == pytest.approx(low[0] - 0.5 * (safe_high[0] - 4.0))
    assert gained.high == pytest.approx(high[0] - 0.5 * (safe_low[0] - 4.0))
    whole = RunningMeanBounds([0.0], [10.0], [4.0])
    ends = whole.bounds(whole.observe(whole.start, reward[:, None]), ERROR)
    assert (now(found).reward.low, now(found).reward.high) == pytest.approx((ends[0][0], ends[1][0]))


def test_a_lost_episode_of_the_safe_policy_does_not_widen_what_left_it() -> None:
    gains = []
    for lost in (0, 1):  # a draw of the safe policy, one of another
        found = measured()
        found.asked(0, [0, 2] * 50)
        kept = [k for k in range(100) if k != lost]
        found.told(kept, [5.0] * 99, [[1.0]] * 99)
        found.lost([lost])
        gains.append(now(found).gain)
    assert gains[0].high is not None and gains[1].high is not None
    assert gains[0].high != pytest.approx(gains[1].high)
    away = RunningMeanBounds([-4.0], [6.0], [0.0])
    state = away.observe(away.start, np.array([0.0] * 49 + [1.0] * 50)[:, None])
    safe = RunningMeanBounds([0.0], [10.0], [4.0])
    (safe_low, _), (_, high) = (
        safe.bounds(safe.observe(safe.start, np.full((49, 1), 5.0)), 0.025, missing=1),
        away.bounds(state, 0.025),
    )
    assert gains[0].high == pytest.approx(0.99 * high[0] - 0.5 * (safe_low[0] - 4.0))


def test_logged_episodes_count_for_the_safe_policy_alone() -> None:
    found = measured()
    found.recalled([4.0] * 30, [[1.0]] * 30)
    found.asked(0, [0, 2])
    found.told([0, 1], [1.0, 5.0], [[1.0], [1.0]])
    settled = now(found)
    assert (settled.safe_reward.count, settled.reward.count) == (31, 2)
    assert settled.safe_reward.mean == pytest.approx(121.0 / 31)
    assert settled.reward.mean == pytest.approx(3.0)
    assert settled.gain.mean == pytest.approx(0.5 - 0.5 * (121.0 / 31 - 4.0))


def test_whatever_the_order_of_reports_the_same_is_known() -> None:
    rng = np.random.default_rng(0)
    draws, reward, costs = rng.integers(0, 3, 60), rng.random(60) * 10.0, rng.random((60, 1))
    found = []
    for order in (np.arange(60), rng.permutation(60)):
        one = measured()
        for k in range(0, 60, 5):
            one.asked(k, draws[k : k + 5].tolist())
        for k in order.tolist():
            one.told([k], [reward[k]], [costs[k].tolist()])
        found.append(now(one))
    for name in ("reward", "gain", "safe_reward"):
        first, second = (getattr(one, name) for one in found)
        assert (first.mean, first.low, first.high) == pytest.approx((second.mean, second.low, second.high))


def test_late_reports_are_left_out_or_counted_at_their_worst() -> None:
    found = measured()
    for k in range(20):
        found.asked(10 * k, [0, 2] * 5)
        if k < 19:
            found.told(range(10 * k, 10 * k + 10), [5.0] * 10, [[1.0]] * 10)
    assert now(found).episodes == 190  # ten pending ones would cost more than they are worth
    stuck = measured()
    for k in range(20):
        stuck.asked(10 * k, [0, 2] * 5)
        numbers = [n for n in range(10 * k, 10 * k + 10) if n != 11]
        stuck.told(numbers, [5.0] * len(numbers), [[1.0]] * len(numbers))
    settled = now(stuck)
    assert (settled.episodes, settled.reward.count) == (200, 199)  # one that never comes stops nothing
    worst = measured()
    for k in range(20):
        worst.asked(10 * k, [0, 2] * 5)
        worst.told(
            range(10 * k, 10 * k + 10), [10.0 if n == 11 else 5.0 for n in range(10 * k, 10 * k + 10)], [[1.0]] * 10
        )
    assert settled.reward.high == pytest.approx(now(worst).reward.high)
    stuck.lost([11])
    assert now(stuck).reward.high == pytest.approx(settled.reward.high)


def test_nothing_gained_while_only_the_safe_policy_runs() -> None:
    found = Measured(LIBRARY, declared())
    found.planned({0: 1.0}, [1.2])
    found.asked(0, [0] * 50)
    found.told(range(50), [5.0] * 50, [[1.0]] * 50)
    gained = now(found).gain
    assert (gained.mean, gained.low, gained.high) == (0.0, 0.0, 0.0)


def test_what_is_measured_is_what_is_limited() -> None:
    """A chance constraint: the journal holds costs, the limit is on the share of episodes above 2."""
    library = declared()
    library.criterion.functionals = ("exceeds",)
    library.criterion.measure = lambda costs: (np.asarray(costs) > 2.0).astype(np.float64)
    found = Measured({**LIBRARY, "cost_limits": [0.2], "cost_ceilings": [1.0]}, library)
    found.planned({0: 0.5, 2: 0.5}, [0.2])
    found.asked(0, [0, 2, 2, 2])
    found.told([0, 1, 2, 3], [4.0] * 4, [[1.0], [2.0], [2.5], [9.0]])
    assert now(found).costs[0].mean == pytest.approx(0.5)
    assert not found.void


def test_memory_does_not_grow_with_episodes() -> None:
    found = measured()
    found.asked(0, [0])
    for k in range(1, 4000):
        found.asked(k, [2])
        found.told([k], [5.0], [[1.0]])
    assert len(found._blocks) <= BLOCKS and len(found._drawn) == 1
    assert max(len(block.rows) for block in found._blocks) <= 512
    found.told([0], [5.0], [[1.0]])
    for k in range(4000, 8000):
        found.asked(k, [2])
        found.told([k], [5.0], [[1.0]])
    assert not found._blocks and not found._drawn
    assert POINTS // 4 < len(found.points) <= POINTS
    assert now(found).episodes == 8000


def test_an_outcome_outside_its_range_voids_the_intervals_and_not_the_means() -> None:
    found = measured()
    found.asked(0, [0, 2])
    found.told([0, 1], [4.0, 6.0], [[1.0], [31.0]])
    settled = now(found)
    assert found.void == "an episode was reported outside its declared range"
    assert settled.costs[0].mean == pytest.approx(16.0)
    assert settled.costs[0].low is None and settled.reward.high is None


@pytest.mark.statistical
def test_intervals_hold_the_truth_at_all_times() -> None:
    """120 deployments whose mixture follows their luck; at every look every interval, the gain's too, errs in at most 5% of them."""
    value, cost = np.array([4.0, 5.0, 3.5]), np.array([1.0, 2.0, 0.5])
    rng = np.random.default_rng(4)
    wrong = {"reward": 0, "gain": 0, "safe": 0, "cost": 0}
    runs = 120
    for _ in range(runs):
        found, truth, looks, luck = Measured(LIBRARY, declared()), [], [], 0.0
        mixture = np.array([1.0, 0.0, 0.0])
        for k in range(0, 300, 10):
            mixture = np.array([0.5, 0.5, 0.0]) if luck > 0.0 else np.array([0.4, 0.0, 0.6])
            found.planned(dict(enumerate(mixture.tolist())), [1.5])
            draws = rng.choice(3, size=10, p=mixture)
            found.asked(k, draws.tolist())
            reward = 10.0 * (rng.random(10) < value[draws] / 10.0)
            costs = 30.0 * (rng.random(10) < cost[draws] / 30.0)
            found.told(range(k, k + 10), reward.tolist(), costs[:, None].tolist())
            luck += float((reward - 4.0).sum())
            truth.append((mixture @ value, mixture @ value - value[0], value[0], mixture @ cost))
            latest = found.now()
            assert latest is not None
            looks.append(latest)
        means = np.cumsum(truth, axis=0) / np.arange(1, 31)[:, None]
        for settled_at, settled in enumerate(found.about(looks)):
            shown = {
                "reward": settled.reward,
                "gain": settled.gain,
                "safe": settled.safe_reward,
                "cost": settled.costs[0],
            }
            for name, true in zip(shown, means[settled_at]):
                estimate = shown[name]
                assert estimate.low is not None and estimate.high is not None
                if not estimate.low - 1e-9 <= true <= estimate.high + 1e-9:
                    wrong[name] += 1
                    break
            else:
                continue
            break
    for name, errors in wrong.items():
        assert clopper_pearson(errors, runs, 1e-3)[0] <= 0.05, name
