"""The desk: ids, draws and pending episodes; a refused report changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from surefoot import Criterion, Mixture, TabularPolicy
from surefoot.deploy import EpisodeTracker
from tests.refusals import refused

POLICIES = tuple(TabularPolicy(np.eye(3)[[k, k]]) for k in range(3))
CRITERION = Criterion(0.9, np.array([1.5, 4.0]), (-1.0, 2.0), np.array([10.0, 1.0]))
HALF = Mixture(np.array([0.5, 0.0, 0.5]))


def tracker(seed: int = 0) -> EpisodeTracker:
    """A desk with three policies and two constraints; returns in [-10, 20], costs in [0, 100] x [0, 10]."""
    rng = np.random.default_rng(seed)
    return EpisodeTracker(POLICIES, CRITERION, CRITERION.return_range, CRITERION.cost_ceilings, rng)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_ids_increase_and_pending_episodes_are_counted(sizes: list[int]) -> None:
    d = tracker()
    batches = [d.open(HALF, n) for n in sizes]
    assert np.concatenate([b.ids for b in batches]).tolist() == list(range(sum(sizes)))
    assert (d.pending, d.opened) == (sum(sizes), sum(sizes))
    first = batches[0]
    d.close(d.check(first.ids, np.zeros(len(first)), np.zeros((len(first), 2))))
    assert (d.pending, d.opened) == (sum(sizes[1:]), sum(sizes))


def test_draws_follow_the_mixture_and_are_remembered() -> None:
    d = tracker()
    batch = d.open(HALF, 10_000)
    counts = np.bincount(batch.policy_index, minlength=3)
    assert counts[1] == 0
    assert (counts[0] - 5000) ** 2 / 2500 < chi2.isf(1e-4, 1)
    shuffled = np.random.default_rng(1).permutation(10_000)
    reports = d.check(batch.ids[shuffled], np.zeros(10_000), np.zeros((10_000, 2)))
    np.testing.assert_array_equal(reports.policy_index, batch.policy_index[shuffled])


def test_the_draw_depends_on_the_seed_alone() -> None:
    one, two, three = (tracker(s).open(HALF, 200).policy_index for s in (5, 5, 6))
    np.testing.assert_array_equal(one, two)
    assert (one != three).any()


def test_a_single_episode_carries_its_policy() -> None:
    d = tracker()
    episode = d.open(Mixture.pure(2, 3), 1)[0]
    assert (episode.id, episode.policy_index) == (0, 2)
    assert episode.policy is POLICIES[2]
    assert episode.weights.tolist() == [0.0, 0.0, 1.0]


def test_reports_of_one_episode_may_be_plain_numbers() -> None:
    d = tracker()
    d.open(HALF, 1)
    reports = d.check(0, 3.5, [0.25, 1.0])
    assert reports.reward.tolist() == [3.5]
    assert reports.costs.tolist() == [[0.25, 1.0]]


BAD: dict[str, tuple[tuple[Any, Any, Any], str]] = {
    "never asked": ((7, 0.0, [0.0, 0.0]), ("SF-REPORT-UNKNOWN", "id", "7")),
    "negative id": ((-1, 0.0, [0.0, 0.0]), ("SF-REPORT-UNKNOWN", "id", "-1")),
    "told before": ((0, 0.0, [0.0, 0.0]), ("SF-REPORT-CLOSED", "id", "0")),
    "twice in one report": (([1, 1], [0.0, 0.0], [[0.0, 0.0]] * 2), ("SF-REPORT-DISTINCT", "ids")),
    "one of two told before": (([1, 0], [0.0, 0.0], [[0.0, 0.0]] * 2), ("SF-REPORT-CLOSED", "0")),
    "fractional id": ((1.0, 0.0, [0.0, 0.0]), ("SF-REPORT-ID", "ids", "1.0")),
    "id of text": (("1", 0.0, [0.0, 0.0]), ("SF-REPORT-ID", "ids", "'1'")),
    "no id": (([], [], []), ("SF-REPORT-ID", "ids", "[]")),
    "true as id": ((True, 0.0, [0.0, 0.0]), ("SF-REPORT-ID", "ids", "True")),
    "table of ids": (([[1, 2]], 0.0, [0.0, 0.0]), ("SF-REPORT-ID", "ids", "[[1, 2]]")),
    "NaN reward": ((1, np.nan, [0.0, 0.0]), ("SF-REPORT-FINITE", "reward[0]", "nan")),
    "infinite reward": ((1, np.inf, [0.0, 0.0]), ("SF-REPORT-FINITE", "reward[0]", "inf")),
    "NaN cost": ((1, 0.0, [0.0, np.nan]), ("SF-REPORT-FINITE", "costs[0, 1]", "nan")),
    "missing reward": ((1, None, [0.0, 0.0]), ("SF-REPORT-TYPE", "reward", "None")),
    "text that reads as a number": ((1, "1.5", [0.0, 0.0]), ("SF-REPORT-TYPE", "reward", "'1.5'")),
    "truth values as costs": ((1, 1.5, [True, False]), ("SF-REPORT-TYPE", "costs", "[True, False]")),
    "a number beyond floats": ((1, 10**400, [0.0, 0.0]), ("SF-REPORT-TYPE", "reward")),
    "reward of text": ((1, "high", [0.0, 0.0]), ("SF-REPORT-TYPE", "reward", "'high'")),
    "complex reward": ((1, 1j, [0.0, 0.0]), ("SF-REPORT-TYPE", "reward", "1j")),
    "reward too large": ((1, 20.1, [0.0, 0.0]), ("SF-REPORT-RANGE", "reward[0]", "[-10, 20]", "20.1")),
    "reward too small": ((1, -10.1, [0.0, 0.0]), ("SF-REPORT-RANGE", "reward[0]", "[-10, 20]", "-10.1")),
    "negative cost": ((1, 0.0, [-0.5, 0.0]), ("SF-REPORT-RANGE", "costs[0, 0]", "[0, 100]", "-0.5")),
    "cost above its ceiling": ((1, 0.0, [0.0, 10.5]), ("SF-REPORT-RANGE", "costs[0, 1]", "[0, 10]", "10.5")),
    "one cost for two": ((1, 0.0, [0.5]), ("SF-REPORT-SHAPE", "costs", "(1, 2)", "(1,)")),
    "scalar cost for two": ((1, 0.0, 0.5), ("SF-REPORT-SHAPE", "costs", "(1, 2)", "()")),
    "costs transposed": (([1, 2, 3], [0.0] * 3, np.zeros((2, 3))), ("SF-REPORT-SHAPE", "costs", "(3, 2)", "(2, 3)")),
    "flat costs of a batch": (([1, 2], [0.0] * 2, np.zeros(4)), ("SF-REPORT-SHAPE", "costs", "(2, 2)", "(4,)")),
    "one reward for two": (([1, 2], 0.0, np.zeros((2, 2))), ("SF-REPORT-SHAPE", "reward", "(2,)", "()")),
    "ragged costs": (([1, 2], [0.0] * 2, [[0.0], [0.0, 0.0]]), ("SF-REPORT-TYPE", "costs")),
}  # fmt: skip


@pytest.mark.parametrize(("report", "refusal"), BAD.values(), ids=BAD.keys())
def test_reports_that_cannot_be_true_are_refused_and_change_nothing(
    report: tuple[Any, Any, Any], refusal: tuple[str, ...]
) -> None:
    d = tracker()
    d.open(HALF, 4)
    d.close(d.check(0, 0.0, [0.0, 0.0]))
    before = (d.pending, d.opened)
    with refused(*refusal):
        d.check(*report)
    assert (d.pending, d.opened) == before
    assert d.check([1, 2, 3], np.zeros(3), np.zeros((3, 2))).ids.tolist() == [1, 2, 3], "all are still pending"


@pytest.mark.parametrize("value", [20.0, -10.0, 20.0 + 1e-6, -10.0 - 1e-6])
def test_the_ends_of_a_range_are_inside_it_up_to_rounding(value: float) -> None:
    d = tracker()
    d.open(HALF, 1)
    assert d.check(0, value, [100.0, 10.0]).reward[0] == value


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_a_number_of_episodes_must_be_positive_and_whole(n: Any) -> None:
    with refused("SF-ARGUMENT-RANGE" if type(n) is int else "SF-ARGUMENT-TYPE", "n", "1"):
        tracker().open(HALF, n)


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1.0, 1e6])
def test_ranges_are_judged_in_their_own_unit(scale: float) -> None:
    """Twice the ceiling, a negative cost or a return beyond its range is impossible, however small the numbers are."""
    criterion = Criterion(0.9, [1.5 * scale], (0.0, scale), [scale])
    d = EpisodeTracker(POLICIES, criterion, criterion.return_range, criterion.cost_ceilings, np.random.default_rng(0))
    ids = d.open(HALF, 1).ids
    for reward, cost in ((0.0, 20.0), (0.0, -0.01), (11.0, 0.0), (-0.01, 0.0)):
        with refused("SF-REPORT-RANGE"):
            d.check(ids, [reward * scale], [[cost * scale]])
    d.check(ids, [10.0 * scale * (1.0 + 1e-9)], [[10.0 * scale * (1.0 + 1e-9)]])
