"""Values by simulation: intervals that hold at every stopping time, and sampling that stops when they are narrow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from surefoot.gym.rollout import rollout
from surefoot.gym.values import FIRST, Widths, estimate, interval
from surefoot.stats.betting import mean_lower, mean_upper
from surefoot.stats.binomial import rate_test
from tests.gym.toys import CRITERION, MEAN_COIN, WEIGHT, Constant, coins, exact, shared_coins
from tests.refusals import refused

POLICIES = [Constant(0.2), Constant(0.8)]


@pytest.mark.parametrize("n", [1, 30, 1000])
def test_the_interval_agrees_with_the_one_read_from_a_grid_of_means(n: int, rng: np.random.Generator) -> None:
    values = 3.0 + 4.0 * rng.beta(2.0, 3.0, n)
    low, high = interval(values, 3.0, 7.0, 0.02)
    # Another computation (chords between 256 grid means) with other bets: the two differ by what bets and grids cost.
    grid = 3.0 + mean_lower(values - 3.0, 4.0, 0.01), 3.0 + mean_upper(values - 3.0, 4.0, 0.01)
    assert 3.0 <= low < values.mean() < high <= 7.0
    np.testing.assert_allclose([low, high], grid, atol=0.12 * (grid[1] - grid[0]))


def test_zeros_give_nearly_the_exact_binomial_limit() -> None:
    _, high = interval(np.zeros(400), 0.0, 1.0, 0.05)
    exact_limit = 1.0 - 0.025 ** (1.0 / 400)
    assert exact_limit < high < 1.7 * exact_limit


def test_the_ends_are_mirror_images(rng: np.random.Generator) -> None:
    values = rng.beta(1.0, 4.0, 200)
    low, high = interval(values, 0.0, 1.0, 0.1)
    mirrored = interval(1.0 - values, 0.0, 1.0, 0.1)
    np.testing.assert_allclose((1.0 - high, 1.0 - low), mirrored, atol=1e-12)


def test_widths_follow_the_deviation_not_the_range(rng: np.random.Generator) -> None:
    log = math.log(2.0 / 1e-3)
    for scale in (0.5, 0.1, 0.02):
        low, high = interval(0.5 + scale * (rng.random(4000) - 0.5), 0.0, 1.0, 1e-3)
        assert high - low < 1.6 * 2.0 * math.sqrt(2.0 * log / 4000) * scale / math.sqrt(12.0) + 2.5 * log / 4000


@pytest.mark.parametrize("chance", [0.02, 0.5])
def test_intervals_hold_under_the_worst_stopping(chance: float) -> None:
    """Stop at the first of eight looks at which the interval misses: over 500 runs this happens at the declared rate or less."""
    rng, alpha, missed = np.random.default_rng(7), 0.2, 0
    for _ in range(500):
        values = (rng.random(240) < chance).astype(np.float64)
        ends = [interval(values[:n], 0.0, 1.0, alpha) for n in (2, 5, 10, 20, 40, 80, 160, 240)]
        missed += any(not low <= chance <= high for low, high in ends)
    # A correct method fails this with probability 1e-3 or less.
    assert rate_test(missed, 500, alpha) > 1e-3


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (([], 0.0, 1.0, 0.1), ("SF-ARGUMENT-RANGE", "values")),
        (([2.0], 0.0, 1.0, 0.1), ("SF-ARGUMENT-RANGE", "values")),
        (([np.nan], 0.0, 1.0, 0.1), ("SF-ARGUMENT-FINITE", "values")),
        (([0.5], 1.0, 1.0, 0.1), ("SF-ARGUMENT-RANGE", "high")),
        (([0.5], 0.0, 1.0, 0.0), ("SF-ARGUMENT-RANGE", "alpha")),
    ],
)
def test_an_interval_is_refused(arguments: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        interval(*arguments)


@pytest.mark.statistical
@pytest.mark.parametrize("shared", [False, True])
def test_all_values_of_a_task_lie_in_its_intervals_at_the_stated_rate(shared: bool) -> None:
    """60 estimates of 4 values each at error .2 per task: all of them hold in at least 80% of the estimates, up to chance."""
    family = shared_coins() if shared else coins()
    points, missed = np.array([[0.3], [0.9]]), 0
    for run in range(30):
        found = estimate(
            family, points, POLICIES, alpha=0.2, seed=run, widths=Widths(reward=0.4, cost=0.5), max_episodes=100
        )
        truth = np.array([[exact(g, p.action) for p in POLICIES] for g in points[:, 0]])
        missed += int((~((found.lower <= truth) & (truth <= found.upper)).all(axis=(1, 2))).sum())
        assert (found.lower <= found.mean).all() and (found.mean <= found.upper).all()
    assert rate_test(missed, 60, 0.2) > 1e-3


def test_sampling_stops_where_it_is_narrow_enough_for_its_use() -> None:
    widths = Widths(reward=0.2, cost=0.4)
    found = estimate(
        coins(), [[0.9]], [Constant(0.0), Constant(0.9)], alpha=0.05, seed=0, widths=widths, max_episodes=4000
    )
    assert found.narrow.all() and (found.widths <= [0.2, 0.4]).all()
    # The first policy's outcomes are constant; the other's have a deviation of about half a coin per step.
    assert found.episodes[0, 0] < found.episodes[0, 1] < 4000
    assert found.spent == found.episodes.sum()


def test_the_level_is_split_among_all_intervals_of_a_task() -> None:
    found = estimate(coins(), [[0.9]], POLICIES, alpha=0.08, seed=3, widths=Widths(1e-6, 1e-6), max_episodes=FIRST)
    for j, part in enumerate(rollout(coins(), [0.9], POLICIES, episodes=FIRST, seed=3)):
        for q in range(2):
            expected = interval(part.outcomes()[:, q], 0.0, WEIGHT, 0.08 / 4)
            np.testing.assert_allclose([found.lower[0, j, q], found.upper[0, j, q]], expected, rtol=1e-12)


def test_deviations_are_those_of_single_episodes() -> None:
    found = estimate(
        coins(),
        [[0.9]],
        [Constant(0.0), Constant(0.8)],
        alpha=0.05,
        seed=0,
        widths=Widths(1e-6, 1e-6),
        max_episodes=400,
    )
    squares = (1 - 0.81**4) / (1 - 0.81)
    expected = np.sqrt(squares * np.array([(0.4 * 0.9) ** 2 * 0.8 * 0.2, 0.4 * 0.6]))
    np.testing.assert_allclose(found.deviation[0, 0], 0.0, atol=1e-12)
    np.testing.assert_allclose(found.deviation[0, 1], expected, rtol=0.15)


def test_a_budget_is_kept_and_reported() -> None:
    found = estimate(coins(), [[0.9]], POLICIES, alpha=0.05, seed=0, widths=Widths(reward=1e-3), max_episodes=50)
    assert not found.narrow.any() and (found.episodes == 50).all()


def test_more_episodes_give_narrower_intervals() -> None:
    few, many = (
        estimate(coins(), [[0.9]], POLICIES, alpha=0.05, seed=0, widths=Widths(1e-9, 1e-9), max_episodes=n)
        for n in (100, 400)
    )
    assert (many.widths < 0.65 * few.widths).all()


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_no_bit_depends_on_the_number_of_processes(shared: bool) -> None:
    family = (shared_coins if shared else coins)(signals=(MEAN_COIN,))
    points = [[0.3], [0.6], [0.9], [1.0]]
    one, two, many = (
        estimate(family, points[:k], POLICIES, alpha=0.1, seed=4, max_episodes=60, workers=w)
        for w, k in ((1, 4), (2, 4), (2, 3))
    )
    for name in ("mean", "lower", "upper", "episodes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        if not shared:  # how long shared episodes are sampled depends on all the tasks
            np.testing.assert_array_equal(getattr(one, name)[:3], getattr(many, name))
    assert one.shared == shared and one.spent == (one.episodes[0].sum() if shared else one.episodes.sum())
    taken = one.take(slice(1, 3))
    np.testing.assert_array_equal(taken.lower, one.lower[1:3])


def test_default_widths_are_shares_of_what_matters() -> None:
    np.testing.assert_allclose(
        Widths().of(coins(signals=(MEAN_COIN,))), [0.02 * WEIGHT, 0.05 * CRITERION.cost_limits[0], 0.02]
    )
    np.testing.assert_allclose(Widths(1.0, [2.0], 3.0).of(coins(signals=(MEAN_COIN,))), [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("widths", "refusal"),
    [
        (Widths(reward=0.0), ("SF-ARGUMENT-RANGE", "reward_width")),
        (Widths(cost=[1.0, 1.0]), ("SF-ARGUMENT-SHAPE", "cost_width")),
        (Widths(cost=-1.0), ("SF-ARGUMENT-RANGE", "cost_width")),
    ],
)
def test_widths_are_refused(widths: Widths, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        widths.of(coins())
