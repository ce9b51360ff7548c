"""What the gridworld experiment runs (Ni & Kamgarpour 2026, section 6, Figures 1 and 2).

Training on the chosen family, then every agent on the same test tasks with the same chance. Training tasks come from the family; the ten
published test tasks, the safe policy and the limit are the published ones for either family.

Figures that the paper prints are kept beside ours as ``published``: cumulative reward regret after 40 000 episodes, mean over the ten
tasks, read off Figure 2 and the repository's extra plot to about 1 000.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.cmdp.evaluate import evaluate
from surefoot.errors import InvalidInput
from surefoot.experiments.comparison import (
    check_comparison,
    comparison_header,
    fresh_tasks,
    play_all,
    write_comparison,
)
from surefoot.experiments.run_directory import RunDirectory
from surefoot.policyset.schema import PolicySet
from surefoot.solvers.linear_program import OccupancyProgram
from surefoot.tasks.family import TabularFamily
from surefoot.tasks.gridworld import GOAL, HAZARDS, HEIGHT, PUBLISHED_NOISES, WIDTH, NoisyGridworld
from surefoot.training.coverage import ParameterDistance
from surefoot.training.pipeline import train

__all__ = ["DEFAULT_AGENTS", "PUBLISHED_REGRET", "coarse_cover", "reproduce", "test_tasks", "write_figure1"]

DEFAULT_AGENTS = (
    "oracle", "always-safe", "robust-fixed:0.36", "safe-pce:theory", "safe-pce:published", "pce",
    "certified:cells", "certified:envelope", "certified:data",
)  # fmt: skip
PUBLISHED_REGRET = {
    "safe-pce:published": 40_000.0, "pce": 13_000.0, "pce:published": 13_000.0, "safe-meta-rl:published": 92_000.0,
    "dope-plus:published": 106_000.0, "dope:calibrated": 107_000.0, "lb-sgd:published": 154_000.0,
}  # fmt: skip
COARSE_RADIUS, COARSE_TASKS = 0.01, 500
FIGURE_POLICIES = (0.1, 0.3)
FIGURE_NOISES = 91


def reproduce(
    out: str | Path,
    *,
    family: str = "truncated",
    agents: Sequence[str] = DEFAULT_AGENTS,
    tasks: str = "published",
    episodes: int = 40_000,
    delta: float = 0.05,
    cells: int = 480,
    policies: int | None = 60,
    training_tasks: int = 1000,
    holdout: int = 300,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Run the experiment and write its logs into the new directory ``out``; returns the summary.

    Raises:
        InvalidInput: an argument out of range, an unknown agent, family or task list.
        OutputExists: ``out`` is there already, and not from an interrupted call with the same arguments: that goes on.
    """
    check_comparison(agents, episodes)
    world = NoisyGridworld(family)  # type: ignore[arg-type]
    points = test_tasks(world, tasks, seed)
    settings = {
        "experiment": "gridworld", "episodes": episodes, "agents": list(agents), "tasks": tasks, "family": family, "delta": delta, "cells": cells,
        "policies": policies, "training_tasks": training_tasks, "holdout": holdout, "seed": seed,
    }  # fmt: skip
    with RunDirectory(out, settings) as run:
        began = time.perf_counter()
        policy_set = run.policy_set(
            "policy-set.sf",
            lambda: train(
                world, tasks=training_tasks, holdout=holdout, cells=cells, policies=policies, delta=delta, seed=seed, strict=False,
                workers=workers, progress=progress,
            ),
        )  # fmt: skip
        seconds = time.perf_counter() - began
        coarse = run.policy_set(
            "coarse.sf", lambda: coarse_cover(world, min(training_tasks, COARSE_TASKS), seed, progress), apart=True
        )
        found = play_all(
            world, policy_set, coarse, points, agents,
            episodes=episodes, delta=delta, seed=seed, workers=workers, progress=progress, run=run,
        )  # fmt: skip
        write_figure1(run.path, world, policy_set)
        header = comparison_header("gridworld", world, policy_set, found, delta=delta, seed=seed, seconds=seconds)
        header["published"] = PUBLISHED_REGRET if tasks == "published" and episodes == 40_000 else {}
        return write_comparison(run.path, found, header)


def test_tasks(world: NoisyGridworld, tasks: str, seed: int) -> FloatArray:
    """(n, 1) noises of ``published``, of ``published:R`` (each of the ten R times, with chance of its own), or of ``fresh:N``.

    Raises:
        InvalidInput: any other word.
    """
    kind, _, number = tasks.partition(":")
    if kind == "published" and (tasks == kind or (number.isdecimal() and int(number) > 0)):
        return np.tile(np.asarray(PUBLISHED_NOISES)[:, None], (int(number or 1), 1))
    if kind == "fresh" and number.isdecimal() and int(number) > 0:
        return fresh_tasks(world, int(number), seed)
    raise InvalidInput(
        f'tasks must be "published", "published:R" or "fresh:N" with R, N >= 1, got {tasks!r}; e.g. fresh:100',
        code="SF-ARGUMENT-SYNTAX",
    )


def coarse_cover(world: TabularFamily, training_tasks: int, seed: int, progress: bool) -> PolicySet:
    """The cover that the published constants go with: a parameter within .01 counts as covered."""
    return train(
        world, tasks=training_tasks, holdout=0, radius=COARSE_RADIUS, coverage=ParameterDistance(),
        seed=seed, strict=False, progress=progress,
    )  # fmt: skip


def write_figure1(directory: Path, world: NoisyGridworld, policy_set: PolicySet) -> None:
    """Arrays behind Figure 1: policies at two noises, and values over the whole range of noise."""
    program = OccupancyProgram(world.cmdp(0.3))
    noises = np.linspace(0.0, 0.45, FIGURE_NOISES)
    rows = []
    for noise in noises:
        task = world.cmdp(noise)
        best, safe = program.solve(task), evaluate(task, policy_set.safe_policy)
        feasible = best.status == "optimal"
        rows.append(
            [best.value if feasible else np.nan, safe.reward, safe.costs[0], best.costs[0] if feasible else np.nan]
        )
    columns = np.asarray(rows).T
    np.savez_compressed(
        directory / "figure1.npz",
        noise=noises,
        optimal_value=columns[0],
        safe_value=columns[1],
        safe_cost=columns[2],
        optimal_cost=columns[3],
        policy_noise=np.asarray(FIGURE_POLICIES),
        policy=np.stack([program.solve(world.cmdp(q)).policy for q in FIGURE_POLICIES]),
        width=WIDTH,
        height=HEIGHT,
        hazard=np.asarray(HAZARDS),
        goal=np.asarray(GOAL),
    )
