"""The building with six unknowns: an environment that keeps the rules, a safe thermostat that is safe everywhere."""

from __future__ import annotations

from itertools import product

import numpy as np

import surefoot as sf
from surefoot.gym.building import SUPPORT, Building, NightSetback, building, building_policies
from surefoot.gym.check import check_family
from surefoot.gym.rollout import rollout


def test_the_family_keeps_the_rules() -> None:
    check_family(building(), policy=building_policies()[0]).raise_if_bad()


def test_the_safe_thermostat_keeps_a_margin_at_every_corner() -> None:
    policy, worst = building_policies()[0], 0.0
    for k, corner in enumerate(product(*SUPPORT)):
        (found,) = rollout(building(), np.array(corner), [policy], episodes=60, seed=1, task=k)
        worst = max(worst, float(found.costs.mean()) + 3 * float(found.costs.std()) / np.sqrt(60))
    assert worst < 0.95 * 2.0


def test_heating_less_saves_energy_and_costs_comfort() -> None:
    policies = [NightSetback(21.5, 21.5, 0), NightSetback(20.3, 16.0, 7)]
    warm, cold = rollout(building(), SUPPORT.mean(axis=1), policies, episodes=100, seed=2)
    assert cold.returns.mean() > warm.returns.mean() + 1.0 and cold.costs.mean() > warm.costs.mean() + 1.0


def test_an_hour_is_what_its_equation_says() -> None:
    env = Building([0.1, 8.0, 5.0, 0.0, 4.0, 0.0])
    observation, _ = env.reset(seed=3)
    indoors, outdoors, hour = observation.tolist()
    following, reward, *_, info = env.step(np.array([0.25]))
    assert (indoors, hour) == (19.0, 0.0) and reward == -0.25 and info["cost"] == 0.0
    assert following[0] == indoors + 5.0 * 0.25 - 0.1 * (indoors - outdoors)


def test_a_set_with_these_thermostats_is_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from surefoot.gym import train_simulated

    found = train_simulated(
        building(),
        building_policies()[:3],
        tasks=6,
        holdout=0,
        cells=1,
        seed=1,
        max_episodes=60,
        strict=False,
        progress=False,
    )
    found.save(tmp_path / "b.sf")
    assert sf.PolicySet.load(tmp_path / "b.sf").hash == found.hash
