"""The diabetes world in the runner: how a patient is judged, what the oracle does, and a small run from training to table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surefoot.experiments.worlds import Sizes, reproduce_world
from surefoot.experiments.worlds import diabetes as module
from surefoot.experiments.worlds import run as runner
from surefoot.experiments.worlds.world import best_mixture
from surefoot.gym.pipeline import train_simulated
from surefoot.gym.rollout import rollout
from surefoot.policyset.schema import PolicySet
from surefoot.report.worlds import render_world
from surefoot.worlds import diabetes_model as model
from surefoot.worlds.diabetes import LIMIT, diabetes, diabetes_policies, judge_settings


@pytest.fixture(scope="module")
def policy_set() -> PolicySet:
    return train_simulated(
        diabetes(), diabetes_policies()[:3], tasks=8, holdout=0, cells=None, max_episodes=30, margin=0.4, seed=0, progress=False
    )  # fmt: skip


def test_a_patient_is_judged_as_the_environment_plays_also_outside_the_family(policy_set: PolicySet) -> None:
    for family in (diabetes(), diabetes(bias=0.2), diabetes(delay=60.0)):
        plant = module.DiabetesPlant(family, model.MEANS, policy_set, seed=1)
        played = rollout(family, model.MEANS, policy_set.policies, episodes=400, seed=2)
        for values, found in zip(plant.values, played, strict=True):
            spread = np.array([found.returns.std(), found.costs[:, 0].std()]) / np.sqrt(400)
            error = np.abs(values - [found.returns.mean(), found.costs.mean()])
            assert (error < 5.0 * spread + 0.05).all(), (values, found.returns.mean(), found.costs.mean())


def test_the_oracle_sits_on_the_limit_of_an_ordinary_patient() -> None:
    values, _ = judge_settings(model.MEANS, diabetes_policies(), days=500, seed=1)
    reward, cost = best_mixture(values, np.array([LIMIT]))
    assert cost == pytest.approx(LIMIT, rel=1e-9)
    assert reward > values[0, 0] + 10.0


@pytest.mark.slow
def test_a_small_run_from_training_to_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TASKS", 16), ("DAYS", 100)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(runner, "FIXED_PLANTS", 4)
    world = module.diabetes_world()
    sizes = Sizes(plants=8, runs=2, episodes=20, outside_runs=2, alpha=0.5, delta_coverage=0.2, progress=False)
    summary = reproduce_world(replace(world, ladder=(5.0, 4.5), outside=world.outside[:1]), tmp_path / "run", sizes)
    assert summary["levels"]["never adapting"]["violating"] == 0
    assert summary["levels"]["data"]["violating"] == 0
    assert "half the gain" in render_world(summary)
