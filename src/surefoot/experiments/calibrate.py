"""Choosing the multipliers of the ``calibrated`` presets: one search, the same budget for every method.

For every method, every multiplier m of one logarithmic grid is played on the same few **training tasks**, K episodes each, and scored exactly.
Chosen is

    the m of smallest mean regret among those without a single violating episode on any training task;
    where several do equally well (because none of them ever left the safe policy), the largest, which is the closest to the proof;
    where every m violates, the one with the fewest violating episodes.

Training tasks and their chance come from streams of their own, apart from those of the policy set and of any test tasks; test tasks are
never looked at. The answer, the settings and the whole table go into one JSON file, one entry per family and method, so that what was
chosen can be judged and methods can be added later. Nothing in it depends on the number of workers or on the clock.

Few tasks without a violation do not make a safe multiplier: four runs say little about a rate. That is the point of comparing such presets
with methods whose constants are proved.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, check_integer, check_real
from surefoot.baselines.presets import SCHEMA
from surefoot.errors import InvalidInput
from surefoot.experiments.comparison import Comparison, check_comparison, play_all
from surefoot.json_reading import read_object
from surefoot.tasks.family import TabularFamily
from surefoot.training.pipeline import train
from surefoot.version import VERSION

__all__ = ["MULTIPLIERS", "Search", "calibrate", "choose_multiplier", "merge", "training_tasks"]

MULTIPLIERS = tuple(float(f"{m:.3g}") for m in np.geomspace(1e-6, 1.0, 13))
"""Half decades, from one millionth to the proof's own constants."""
STREAM = 0xCA11


@dataclass(frozen=True)
class Search:
    """Settings of a search.

    Attributes:
        multipliers: the grid, each > 0.
        tasks: number of training tasks.
        episodes: K per task and multiplier.
        delta: error probability of the deployment.
        cells, policies, policy_set_tasks: size of the policy set that is trained for the search.
        seed: of all random draws.

    Raises:
        InvalidInput: a number out of range.
    """

    multipliers: tuple[float, ...] = MULTIPLIERS
    tasks: int = 4
    episodes: int = 40_000
    delta: float = 0.05
    cells: int = 60
    policies: int = 30
    policy_set_tasks: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tasks", "episodes", "cells", "policies", "policy_set_tasks"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=1))
        object.__setattr__(self, "seed", check_integer("seed", self.seed, low=0))
        object.__setattr__(
            self, "delta", check_real("delta", self.delta, low=0.0, high=1.0, open_low=True, open_high=True)
        )
        if not self.multipliers:
            raise InvalidInput(
                "multipliers must hold at least one number, got none; e.g. 1e-3, 1", code="SF-ARGUMENT-EMPTY"
            )
        largest = float(np.finfo(float).max)
        checked = [
            check_real(f"multipliers[{index}]", m, low=0.0, high=largest, open_low=True)
            for index, m in enumerate(self.multipliers)
        ]
        object.__setattr__(self, "multipliers", tuple(checked))


def training_tasks(family: TabularFamily, search: Search) -> FloatArray:
    """(tasks, p) parameters of the tasks that multipliers are chosen on."""
    return family.sample(search.tasks, np.random.default_rng(np.random.SeedSequence([search.seed, STREAM])))


def calibrate(
    family: TabularFamily,
    agents: Sequence[str],
    search: Search | None = None,
    *,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Search a multiplier for each of ``agents``; returns their entries for :func:`merge`.

    Raises:
        InvalidInput: an agent is unknown, named twice, or has no calibrated preset.
    """
    settings = Search() if search is None else search
    names = {(agent, m): f"{agent}:calibrated={m:g}" for agent in agents for m in settings.multipliers}
    check_comparison([*agents, "always-safe"], settings.episodes)
    check_comparison(tuple(names.values()), settings.episodes)
    policy_set = train(
        family, tasks=settings.policy_set_tasks, holdout=0, cells=settings.cells, policies=settings.policies, seed=settings.seed,
        strict=False, workers=workers, progress=progress,
    )  # fmt: skip
    # The chance of the runs must differ from that of an experiment with the same seed and task number.
    chance = int(np.random.SeedSequence([settings.seed, STREAM]).generate_state(1)[0])
    found = play_all(
        family, policy_set, policy_set, training_tasks(family, settings), ("always-safe", *names.values()),
        episodes=settings.episodes, delta=settings.delta, seed=chance, workers=workers, progress=progress,
    )  # fmt: skip
    return {agent: _entry(found, settings, {m: names[agent, m] for m in settings.multipliers}) for agent in agents}


def _entry(found: Comparison, settings: Search, names: dict[float, str]) -> dict[str, Any]:
    """What is written about one agent."""
    table = [{"multiplier": m, **_scores(found, name)} for m, name in names.items()]
    return {
        "multiplier": choose_multiplier(table),
        "version": VERSION,
        "settings": asdict(settings),
        "training_tasks": found.parameters.tolist(),
        "always_safe": _scores(found, "always-safe"),
        "table": table,
    }


def _scores(found: Comparison, name: str) -> dict[str, Any]:
    traces, end = found.traces[name], np.array([found.episodes])
    regret = [float(t.regret(best, end)[0]) for t, best in zip(traces, found.optima)]
    return {
        "mean_regret": float(np.mean(regret)),
        "regret": regret,
        "violating_episodes": [t.violating(found.limits) for t in traces],
        "largest_excess": [float((t.costs - found.limits).max()) for t in traces],
    }


def choose_multiplier(table: Sequence[dict[str, Any]]) -> float:
    """The rule of the module's docstring; ``table`` holds ``multiplier``, ``mean_regret`` and ``violating_episodes``."""

    def rank(row: dict[str, Any]) -> tuple[int, float, float]:
        # Rounded, so that runs which never left the safe policy tie whatever the order of their sums.
        return sum(row["violating_episodes"]), round(row["mean_regret"], 6), -row["multiplier"]

    return float(min(table, key=rank)["multiplier"])


def merge(path: Path, family_name: str, entries: dict[str, Any]) -> dict[str, Any]:
    """Put entries into the table at ``path``, which is created where there is none; other entries stay. Returns the table.

    Raises:
        InvalidInput: the file is no such table, or cannot be written.
    """
    table: dict[str, Any] = {"schema": SCHEMA, "families": {}}
    try:
        if path.exists():
            table = read_object(path, remedy="choose another file")
        if table.get("schema") != SCHEMA or not isinstance(table.get("families"), dict):
            raise InvalidInput(
                f"out must be a table of multipliers of schema {SCHEMA}, got {path}; choose another file",
                code="SF-RECORD-SCHEMA",
            )
        table["families"].setdefault(family_name, {}).update(entries)
        path.write_text(json.dumps(table, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    except InvalidInput:
        raise
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"out must be a JSON file that can be read and written, got {path}: {error}", code="SF-RECORD-UNREADABLE"
        ) from error
    return table
