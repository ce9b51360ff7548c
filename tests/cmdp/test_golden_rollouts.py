"""Outcomes of rollouts to the last bit, as the first kernel of this library gave them.

``tests/golden/rollouts-v1.json`` holds SHA-256 digests of everything :meth:`Simulator.run` returns, for models of many shapes. They were made by
a kernel that played one episode at a time from separate tables; whatever plays them today must give the same bits, because seeded results that
users have published rest on them. All models are made of integers divided once, so that no library function is between seed and bits.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot.cmdp import Episodes, Simulator, TabularCMDP
from surefoot.tasks import NoisyGridworld

GOLDEN = Path(__file__).parent.parent / "golden" / "rollouts-v1.json"


def shares(rng: np.random.Generator, shape: tuple[int, ...], empty: float) -> np.ndarray:
    """Probability vectors along the last axis, a share ``empty`` of whose entries is zero."""
    parts = rng.integers(1, 1000, shape) * (rng.random(shape) >= empty)
    parts[..., 0] += parts.sum(axis=-1) == 0
    return np.asarray(parts / parts.sum(axis=-1, keepdims=True))


def made(seed: int, states: int, actions: int, costs: int, discount: float, resting: int, policies: int) -> Simulator:
    """A random model with ``resting`` states that never leave themselves, and random policies, the last deterministic."""
    rng = np.random.default_rng(seed)
    kernel = shares(rng, (states, actions, states), 0.6)
    for s in range(resting):
        kernel[s] = 0.0
        kernel[s, :, s] = 1.0
    rewards = (rng.integers(-50, 50, (states, actions))) / 16.0
    spent = (rng.integers(0, 50, (costs, states, actions))) / 8.0
    rewards[: resting // 2 + 1] = rewards[: resting // 2 + 1, :1]
    spent[:, : resting // 2 + 1] = spent[:, : resting // 2 + 1, :1]
    start = shares(rng, (states,), 0.3)
    tables = shares(rng, (policies, states, actions), 0.4)
    tables[-1] = np.eye(actions)[rng.integers(0, actions, states)]
    cmdp = TabularCMDP(kernel, rewards, spent, np.full(costs, 9.0), start, discount)
    return Simulator(cmdp, tables, tail_tolerance=1e-4)


def grid() -> Simulator:
    """The published gridworld, its safe policy and the uniform one."""
    world = NoisyGridworld()
    return Simulator(world.cmdp(0.25), np.stack([np.asarray(world.safe_policy()), np.full((49, 4), 0.25)]))


MODELS: dict[str, Any] = {
    "gridworld": grid,
    "no cost": lambda: made(1, 6, 3, 0, 0.875, 1, 2),
    "one cost": lambda: made(2, 30, 4, 1, 0.9375, 2, 3),
    "two costs": lambda: made(3, 9, 2, 2, 0.75, 3, 2),
    "three costs": lambda: made(4, 40, 3, 3, 0.9375, 0, 4),
    "one action": lambda: made(5, 12, 1, 1, 0.5, 2, 1),
    "one state": lambda: made(6, 1, 3, 1, 0.75, 0, 2),
    "large": lambda: made(7, 300, 3, 1, 0.9375, 1, 3),
}


def played(name: str, n: int, case: str) -> Episodes:
    """One case of one model."""
    simulator = MODELS[name]()
    rng = np.random.default_rng(n)
    index = rng.integers(0, simulator.n_policies, n)
    options: dict[str, Any] = {
        "bare": {"seed": 5},
        "groups": {"seed": 6, "groups": np.arange(n) % 5, "first_episode": 2**40 + 3},
        "visits": {"seed": 7, "visits": True},
        "all": {
            "seed": 2**63 - 1,
            "visits": True,
            "groups": np.arange(n) // 7,
            "initial_states": rng.integers(0, simulator.cmdp.n_states, n),
            "threads": 2,
        },
    }[case]
    return simulator.run(index, **options)


def digest(found: Episodes) -> str:
    """SHA-256 of everything in it."""
    parts = [found.returns, found.costs, found.initial_states, found.policy_index, found.tail, np.int64(found.steps)]
    parts += [] if found.transitions is None else [found.transitions]
    if found.visits is not None:
        seen = found.visits
        parts += [np.int64(seen.episodes), seen.count, seen.discounted, seen.to_go]
    text = hashlib.sha256()
    for part in parts:
        array = np.ascontiguousarray(part)
        kind = np.dtype("<f8") if array.dtype.kind == "f" else np.dtype("<i8")
        text.update(array.astype(kind).tobytes())
    return text.hexdigest()


CASES = [(n, case) for n in (1, 7, 700) for case in ("bare", "groups", "visits", "all")]


@pytest.mark.parametrize("name", MODELS)
def test_outcomes_are_those_of_the_first_kernel_to_the_last_bit(name: str) -> None:
    golden = json.loads(GOLDEN.read_text())[name]
    assert {f"{case} {n}": digest(played(name, n, case)) for n, case in CASES} == golden


def test_blocks_and_threads_change_nothing() -> None:
    golden = json.loads(GOLDEN.read_text())["blocks"]
    assert {case: digest(played("one cost", 9_001, case)) for case in ("groups", "all")} == golden


def write() -> None:
    """Write the file anew; only where results are meant to change, and then under a new number."""
    found = {name: {f"{case} {n}": digest(played(name, n, case)) for n, case in CASES} for name in MODELS}
    found["blocks"] = {case: digest(played("one cost", 9_001, case)) for case in ("groups", "all")}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
