"""Missing draws: an e-process by hand, false alarms at most at its level, selective discarding found soon."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from surefoot.deploy.selective_loss import HORIZON, LEVEL, LOSS_BETS, SelectiveLossTest

HALF = np.array([0.5, 0.3, 0.2])


def test_one_missing_draw_by_hand() -> None:
    process = SelectiveLossTest(3)
    process.asked(np.array([2]), HALF)
    process.declared_lost([0])
    for k, c in enumerate(LOSS_BETS):
        assert process.log_wealth[2, k] == pytest.approx(math.log(1 + c * (1 / 0.2 - 1)))
        assert process.log_wealth[0, k] == pytest.approx(math.log(1 - c))
    assert process.missing.tolist() == [0, 0, 1]


def test_factors_have_mean_one() -> None:
    logs = []
    for drawn in range(3):
        process = SelectiveLossTest(3)
        process.asked(np.array([drawn]), HALF)
        process.declared_lost([0])
        logs.append(process.log_wealth)
    assert np.allclose(sum(w * np.exp(log) for w, log in zip(HALF, logs)), 1.0)


def test_told_episodes_and_certain_draws_do_not_count() -> None:
    process = SelectiveLossTest(3)
    process.asked(np.array([0, 1]), HALF)
    process.told([0, 1])
    process.asked(np.array([0]), np.array([1.0, 0.0, 0.0]))
    process.declared_lost([2])
    assert not process.log_wealth.any()


def test_an_episode_that_is_overdue_counts_and_order_is_that_of_asking() -> None:
    process = SelectiveLossTest(3)
    process.asked(np.array([2]), HALF)
    process.asked(np.zeros(HORIZON - 1, dtype=np.int64), HALF)
    assert not process.missing.any()
    process.declared_lost([5])
    assert not process.missing.any()
    process.asked(np.array([0, 0]), HALF)
    assert process.missing.tolist() == [1, 0, 1]
    assert process.next == 2
    process.told([0])


def test_honest_losses_are_flagged_at_most_at_the_level() -> None:
    flagged, runs = 0, 400
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        process = SelectiveLossTest(3)
        draws = rng.choice(3, size=40, p=HALF)
        process.asked(draws, HALF)
        missing = rng.random(40) < 0.3
        for k in range(40):
            process.declared_lost([k]) if missing[k] else process.told([k])
            flagged += process.review() is not None
    assert binom.sf(flagged - 1, runs, LEVEL) > 1e-3


def test_selective_discarding_is_found_within_a_dozen() -> None:
    rng, process, lost = np.random.default_rng(1), SelectiveLossTest(3), 0
    while process.review() is None:
        (drawn,) = rng.choice(3, size=1, p=HALF).tolist()
        process.asked(np.array([drawn]), HALF)
        if drawn == 2:
            process.declared_lost([process.opened - 1])
            lost += 1
        else:
            process.told([process.opened - 1])
    assert lost <= 12
    assert process.review() is None
