"""Logs of made-up runs, written as an experiment writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

AGENTS = ("oracle", "always-safe", "robust-fixed:0.36", "safe-pce:theory", "safe-pce:published", "pce")
SLOPES = {"oracle": 0.0, "always-safe": 2.4, "robust-fixed:0.36": 1.0, "safe-pce:theory": 2.4, "pce": -0.3}
COSTS = {"oracle": 1.0, "always-safe": 0.6, "robust-fixed:0.36": 0.8, "safe-pce:theory": 0.6, "pce": 1.3}


def write_run(
    directory: Path,
    *,
    limits: Sequence[float] = (1.5,),
    agents: Sequence[str] = AGENTS,
    tasks: int = 3,
    episodes: int = 2000,
    points: int = 50,
    **extra: Any,
) -> dict[str, Any]:
    """Write ``summary.json``, curves and ``figure1.npz``; returns the summary. Costs scale with the limits."""
    (directory / "curves").mkdir(parents=True)
    grid = np.unique(np.linspace(1, episodes, points).astype(np.int64))
    summary: dict[str, Any] = {
        "schema": 1,
        "experiment": "gridworld",
        "seed": 7,
        "episodes": episodes,
        "cost_limits": list(limits),
        "tasks": [{"noise": 0.3 + 0.01 * k, "optimal_value": 50.0 + k} for k in range(tasks)],
        "training": {
            "tasks_sampled": 500,
            "cells": 30,
            "uncovered_upper_bound": 0.021,
            "confidence": 0.95,
            "seconds": 4,
        },
        "agents": {name: write_agent(directory, name, grid, np.asarray(limits, dtype=float), tasks) for name in agents},
        **extra,
    }
    (directory / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    write_landscape(directory / "figure1.npz")
    return summary


def write_agent(directory: Path, name: str, grid: Any, limits: Any, tasks: int) -> dict[str, Any]:
    """Straight lines, a little steeper on every further task."""
    spread = 1.0 + 0.2 * np.arange(tasks)[:, None]
    regret = SLOPES.get(name, 1.3) * spread * grid
    cost = COSTS.get(name, 0.9) * np.ones((tasks, grid.size, 1)) * limits
    cost[:, :, 0] *= np.where(np.asarray(name == "oracle"), 1.0, spread**0.2)
    weight = np.full(regret.shape, 0.0 if name in ("always-safe", "safe-pce:theory") else 0.75)
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)
    np.savez(
        directory / "curves" / f"{stem}.npz",
        episodes=grid,
        regret=regret,
        cost=cost,
        reward=50.0 - regret,
        weight=weight,
    )
    over = (cost > limits).any(axis=2)
    return {
        "regret": {"1000": (regret[:, -1] / 2).tolist(), str(int(grid[-1])): regret[:, -1].tolist()},
        "max_cost": (cost[..., 0].max(axis=1) if limits.size == 1 else cost.max(axis=1)).tolist(),
        "violating_episodes": [int(grid[-1]) if any_ else 0 for any_ in over.any(axis=1)],
        "final_candidate_weight": weight[:, -1].tolist(),
        "seconds": 1.5,
    }


def write_landscape(path: Path) -> None:
    """A 3 x 3 grid with one costly cell, one state that randomises, and no feasible policy beyond noise .4."""
    noise = np.linspace(0.0, 0.5, 11)
    value = np.where(noise <= 0.4, 60.0 - 40.0 * noise**2, np.nan)
    policy = np.zeros((2, 9, 4))
    policy[:, :, 1] = 1.0
    policy[1, 4] = [0.7, 0.0, 0.3, 0.0]
    np.savez(
        path, noise=noise, optimal_value=value, optimal_cost=np.where(noise <= 0.4, 1.5, np.nan),
        safe_value=55.0 - 30.0 * noise, safe_cost=4.0 * noise, policy_noise=np.array([0.1, 0.3]), policy=policy,
        width=3, height=3, hazard=np.array([[1, 1]]), goal=np.array([1, 2]),
    )  # fmt: skip
