"""The family on that model: the rules of families, today's settings safe at the corners, one day in a step or in 144, a limit that binds."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

import surefoot as sf
from surefoot.gym.check import check_family
from surefoot.gym.rollout import rollout
from surefoot.worlds import diabetes_model as model
from surefoot.worlds.diabetes import (
    LIMIT,
    SUPPORT,
    Patient,
    PumpDay,
    PumpRule,
    PumpSettings,
    diabetes,
    diabetes_policies,
    judge_settings,
)  # fmt: skip
from tests.refusals import refused

MEAN = model.MEANS


def test_the_family_keeps_the_rules() -> None:
    check_family(diabetes(), library=diabetes_policies()[:2]).raise_if_bad()


def test_patients_lie_about_the_published_means() -> None:
    drawn = diabetes().sample(4000, np.random.default_rng(0))
    assert np.median(drawn, axis=0) == pytest.approx(MEAN, rel=0.03)
    assert (drawn.std(axis=0) > 0.04 * MEAN).all()
    assert (SUPPORT[:, 0] < MEAN).all() and (MEAN < SUPPORT[:, 1]).all()


def test_todays_settings_keep_a_margin_at_every_corner() -> None:
    today = diabetes_policies()[0]
    assert (today.gain, today.suspend) == (0.0, 0.0)
    worst = 0.0
    for corner in product(*SUPPORT):
        mean, _ = judge_settings(corner, [today], days=20, seed=3)
        if mean[0, 1] > 1.5:
            mean, error = judge_settings(corner, [today], days=400, seed=4)
            worst = max(worst, float(mean[0, 1] + 3.0 * error[0, 1]))
    assert 0.0 < worst < 0.9 * LIMIT


def test_a_day_in_one_step_is_the_same_day_in_quarters_of_an_hour() -> None:
    for policy in diabetes_policies()[:4]:
        for seed in range(3):
            whole, steps = PumpDay(MEAN), Patient(MEAN, basal=policy.basal)
            whole.reset(seed=seed)
            _, reward, terminated, _, info = whole.step(policy.settings)
            assert terminated
            seen, _ = steps.reset(seed=seed)
            rule, total, cost, count, done = PumpRule(*policy.settings), 0.0, 0.0, 0, False
            while not done:
                seen, r, done, _, more = steps.step(rule.predict(seen)[0])
                total, cost, count = total + r, cost + more["cost"], count + 1
            assert count == model.SLOTS
            assert (total, cost) == pytest.approx((reward, info["cost"]), abs=1e-9)


def test_the_judge_is_the_environment() -> None:
    policies = diabetes_policies()[:2]
    played = rollout(diabetes(), MEAN, policies, episodes=600, seed=1)
    mean, error = judge_settings(MEAN, policies, days=4000, seed=2)
    for j, found in enumerate(played):
        both = np.array([found.returns.mean(), found.costs.mean()])
        spread = np.array([found.returns.std(), found.costs.std()]) / np.sqrt(600)
        assert (np.abs(both - mean[j]) < 4.0 * np.hypot(spread, error[j])).all()


def test_doses_buy_time_in_range_with_time_below_it() -> None:
    """The mean patient: the best of these doses that keeps the limit is not the best of them."""
    doses = [PumpSettings(0.1 * k, 60.0 / k, 300.0 / k, 120.0, 0.0, 0.0) for k in (1.0, 2.0, 2.5, 3.0, 3.5)]
    mean, _ = judge_settings(MEAN, doses, days=400, seed=5)
    assert (np.diff(mean[:, 1]) > 0.0).all()
    best = int(mean[:, 0].argmax())
    assert mean[best, 1] > LIMIT
    assert mean[0, 1] < LIMIT < mean[best, 1]


def test_a_sensor_that_reads_high_costs_lows_and_so_does_insulin_that_comes_late() -> None:
    policy = [diabetes_policies()[1]]
    right, _ = judge_settings(MEAN, policy, days=500, seed=6)
    biased, _ = judge_settings(MEAN, policy, days=500, seed=6, bias=0.2)
    late, _ = judge_settings(MEAN, policy, days=500, seed=6, delay=60.0)
    assert biased[0, 1] > right[0, 1]
    assert late[0, 1] != right[0, 1] and late[0, 0] < right[0, 0]


def test_extreme_settings_stay_finite() -> None:
    day = PumpDay(SUPPORT[:, 1])
    for corner in product(*zip(day.action_space.low, day.action_space.high, strict=True)):  # type: ignore[attr-defined]
        day.reset(seed=0)
        _, reward, _, _, info = day.step(np.array(corner))
        assert 0.0 <= reward + info["cost"] <= 100.0 + 1e-9 and np.isfinite(info["mean reading"])


def test_a_set_with_settings_is_a_file(tmp_path: Path) -> None:
    found = sf.gym.train_simulated(
        diabetes(), diabetes_policies()[:3], tasks=8, holdout=0, cells=None, max_episodes=30, margin=0.4, seed=0, progress=False
    )  # fmt: skip
    found.save(tmp_path / "pump.sf")
    again = sf.PolicySet.load(tmp_path / "pump.sf")
    assert [vars(p) for p in again.policies] == [vars(p) for p in diabetes_policies()[:3]]


@pytest.mark.parametrize(("name", "value"), [("weight", 5.0), ("bias", 0.9), ("delay", -1.0)])
def test_what_is_out_of_range_is_refused(name: str, value: float) -> None:
    with refused("SF-ARGUMENT-RANGE", name):
        diabetes(**{name: value})
