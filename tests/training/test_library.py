"""Training without boxes: the library is chosen for what its mixtures are worth, and a belief comes with it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

import surefoot as sf
from surefoot.tasks import NoisyGridworld, ZonedGridworld
from surefoot.training import pipeline
from surefoot.training.library import choose_library, pair_worth
from surefoot.training.pipeline import train

LIMITS = np.array([1.0])


@pytest.fixture(autouse=True)
def few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "BELIEF_TASKS", 150)


def worth(values: np.ndarray, members: list[int]) -> float:
    """Mean over tasks of the best mixture of the members and the safe policy, on a fine grid."""
    grid, total = np.linspace(0, 1, 4001), 0.0
    for task in values:
        best = -np.inf
        for a in [0, *members]:
            for b in [0, *members]:
                mixed = (1 - grid)[:, None] * task[a] + grid[:, None] * task[b]
                best = max(best, mixed[(mixed[:, 1:] <= LIMITS).all(axis=1), 0].max(initial=-np.inf))
        total += best
    return total / len(values)


def made_values(seed: int, candidates: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = np.stack([rng.uniform(1, 9, (8, candidates + 1)), rng.uniform(0.2, 2.0, (8, candidates + 1))], axis=2)
    values[:, 0] = [0.5, 0.4]
    return values


def test_the_worth_of_a_pair_is_that_of_a_fine_grid() -> None:
    values = made_values(1)
    for task in values:
        for a in range(7):
            for b in range(7):
                grid = np.linspace(0, 1, 4001)
                mixed = (1 - grid)[:, None] * task[a] + grid[:, None] * task[b]
                wanted = (
                    mixed[(mixed[:, 1:] <= LIMITS).all(axis=1), 0].max(initial=-np.inf)
                    if task[a, 1] <= 1.0
                    else -np.inf
                )
                assert pair_worth(task[a], task[b], LIMITS) == pytest.approx(wanted, abs=4e-3)


@pytest.mark.parametrize("seed", range(4))
def test_every_policy_taken_adds_most(seed: int) -> None:
    values = made_values(seed)
    chosen = choose_library(values, LIMITS, 3)
    taken: list[int] = []
    for j in chosen + 1:
        best = max(worth(values, [*taken, k]) for k in range(1, 7) if k not in taken)
        assert worth(values, [*taken, int(j)]) >= best - 5e-3
        taken.append(int(j))
    everything = max(worth(values, list(c)) for c in combinations(range(1, 7), 3))
    assert worth(values, taken) >= worth(values, []) + (1 - 1 / np.e) * (everything - worth(values, [])) - 1e-2


def test_policies_that_add_nothing_are_not_taken() -> None:
    values = np.tile(np.array([[[1.0, 0.5], [0.5, 0.2], [3.0, 0.9]]]), (4, 1, 1))
    assert choose_library(values, LIMITS, 5).tolist() == [1]


@pytest.mark.parametrize("zones", [1, 10])
def test_ten_unknown_parameters_are_as_easy_as_one(zones: int) -> None:
    family = ZonedGridworld(zones=zones)
    policy_set = train(family, tasks=60, holdout=60, cells=None, policies=10, seed=1, progress=False)
    assert len(policy_set.cells) == 1 and 2 <= len(policy_set.policies) <= 11
    assert set(policy_set.beliefs) == {"all", "returns"} and policy_set.beliefs["all"].latents == zones
    assert policy_set.certificate is not None
    rng = np.random.default_rng(2)
    lost, possible = [], []
    for point in family.sample(10, rng):
        cmdp = family.cmdp(point)
        values = sf.evaluate_many(cmdp, np.stack([p.table for p in policy_set.policies]))
        best = max(float(pair_worth(a, b, cmdp.cost_limits)) for a in values for b in values)
        optimum = sf.solve(cmdp).value_or_raise().value
        lost.append(optimum - best)
        possible.append(optimum - values[0, 0])
    assert min(lost) > -1e-9 and np.mean(lost) < 0.08 * np.mean(possible)


@pytest.mark.parametrize("trust", ["data", "envelope"])
def test_the_other_levels_work_with_one_cell(trust: str) -> None:
    policy_set = train(NoisyGridworld(), tasks=30, holdout=0, cells=None, policies=4, seed=1, progress=False)
    agent = sf.CertifiedAgent(policy_set, trust=trust, seed=0)
    batch = agent.ask(60)
    agent.tell(batch.ids, np.full(60, 50.0), np.zeros((60, 1)))
    assert agent.status().alarm is None or "simulation" in agent.status().text
