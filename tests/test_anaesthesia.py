"""A simulator from somebody else's package, from its stock class to a verified journal."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from surefoot.gym.check import check_family
from surefoot.gym.deployed import check_memory
from surefoot.gym.rollout import rollout
from surefoot.policyset import codec

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "anaesthesia.py"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setattr(codec, "_KINDS", codec._KINDS.copy())
    spec = importlib.util.spec_from_file_location("anaesthesia", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "anaesthesia", module)
    spec.loader.exec_module(module)
    yield module


def test_the_stock_class_draws_another_patient_in_every_reset_and_the_wrapper_does_not(example: Any) -> None:
    def clearance(env: Any, seed: int) -> float:
        env.reset(seed=seed)
        return float(env.pk_model.k10)

    stock, patient = example.PropofolControlEnv("medium"), example.Patient(1.1)
    assert len({clearance(stock, seed) for seed in range(5)}) == 5
    assert len({clearance(patient, seed) for seed in range(5)}) == 1
    assert patient.pk_model.V1 == pytest.approx(1.1 * 0.228 * 70.0)


def test_the_worst_overdose_is_the_dearest(example: Any) -> None:
    """The stock class ends below BIS 10; here the minutes go on."""
    full = example.Induction(example.MINUTES, 200.0)
    (found,) = rollout(example.FAMILY, [0.75], [full], episodes=20, seed=0)
    (later,) = rollout(example.FAMILY, [1.0], [full], episodes=20, seed=0)
    assert (found.lengths == example.MINUTES).all() and found.costs.mean() > later.costs.mean() + 5.0
    assert found.costs.max() < example.FAMILY.episode_bounds.cost_ceilings[0]


@pytest.mark.slow
def test_from_the_stock_class_to_a_verified_journal(example: Any, tmp_path: Path) -> None:
    with example.main(tmp_path, episodes=25, tasks=6, holdout=20, p_max=0.3, ramp=10) as plant:
        status = plant.status()
        assert status.episodes == 25 and status.pending == 0 and status.state == "running"
        assert plant.verify().ok
        draws = plant.ask(200)
        timed = [ticket.policy for ticket in draws if ticket.policy_index == 1][:2]
    # The protocols by the clock keep their time per ticket, and through the file.
    rates = [float(policy.predict(np.zeros(6))[0][0]) for policy in timed for _ in range(12)]
    assert rates == [200.0] * 11 + [135.0] + [200.0] * 11 + [135.0]


def test_one_clock_for_all_patients_is_found(example: Any) -> None:
    clock = example.Induction(11, 135.0)
    problems = check_memory(example.FAMILY, [1.0], lambda observation: clock.predict(observation)[0], 1, seed=0)
    assert len(problems) == 1 and "a memory that episodes share" in problems[0]
    assert check_family(example.FAMILY, library=example.LIBRARY, tasks=2).ok
