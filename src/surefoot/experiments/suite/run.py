"""What ``surefoot reproduce suite`` runs: families x agents, one table.

Per family: training, then every agent on the same fresh test tasks with the same chance. Families differ in what a unit of reward is worth, so
the table shows mean regret as a *share*: of ``K (V* - V(pi_s))``, what never adapting at all gives up, computed exactly and averaged over the
same tasks. 0 is the oracle, 1 is always-safe, negative means that limits were exceeded for reward.

An agent that refuses a family (its assumptions or its constants do not fit there) is a result, not an accident: the table says ``refused`` and the
summary says why.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.arrays import check_integer, check_real
from surefoot.cmdp.evaluate import evaluate
from surefoot.experiments.comparison import (
    Comparison,
    check_comparison,
    comparison_header,
    fresh_tasks,
    play_all,
    refusals,
    write_comparison,
)
from surefoot.experiments.gridworld.run import coarse_cover
from surefoot.experiments.run_directory import RunDirectory
from surefoot.policyset.schema import PolicySet
from surefoot.tasks.catalogue import FAMILIES, check_families, make_family
from surefoot.tasks.family import TabularFamily
from surefoot.training.pipeline import train
from surefoot.version import VERSION

__all__ = ["DEFAULT_AGENTS", "reproduce"]

DEFAULT_AGENTS = (
    "oracle", "always-safe", "certified:cells", "certified:envelope", "certified:data", "safe-pce:theory", "pce",
)  # fmt: skip
COARSE_TASKS = 400


@dataclass(frozen=True)
class _Sizes:
    """How a family is trained and played."""

    tasks: int
    episodes: int
    delta: float
    cells: int
    policies: int
    training_tasks: int
    holdout: int
    seed: int
    workers: int
    progress: bool


def reproduce(
    out: str | Path,
    *,
    families: Sequence[str] = tuple(FAMILIES),
    agents: Sequence[str] = DEFAULT_AGENTS,
    tasks: int = 10,
    episodes: int = 20_000,
    delta: float = 0.05,
    cells: int = 60,
    policies: int = 30,
    training_tasks: int = 400,
    holdout: int = 150,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Run the suite and write its logs into the new directory ``out``, one folder per family; returns the summary.

    Raises:
        InvalidInput: an argument out of range, an unknown agent or family.
        OutputExists: ``out`` is there already.
    """
    check_families(families)
    check_comparison(agents, episodes)
    tasks = check_integer("tasks", tasks, low=1)
    workers = check_integer("workers", workers, low=1)
    delta = check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
    sizes = _Sizes(
        tasks, episodes, delta, cells, policies, training_tasks, holdout, seed, workers, progress
    )  # fmt: skip
    settings = {
        **asdict(sizes),
        "experiment": "suite",
        "families": list(families),
        "agents": list(agents),
        "workers": 1,
        "progress": True,
    }
    with RunDirectory(out, settings) as run:
        rows = {name: _family(run, name, agents, sizes) for name in families}
        return _written(run.path, sizes, agents, rows)


def _written(directory: Path, sizes: _Sizes, agents: Sequence[str], rows: dict[str, Any]) -> dict[str, Any]:
    """The summary, and its file."""
    summary = {
        "schema": 1,
        "experiment": "suite",
        "version": VERSION,
        "seed": sizes.seed,
        "episodes": sizes.episodes,
        "delta": sizes.delta,
        "tasks": sizes.tasks,
        "agents": list(agents),
        "families": rows,
    }
    (directory / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return summary


def _family(run: RunDirectory, name: str, agents: Sequence[str], sizes: _Sizes) -> dict[str, Any]:
    """Train on one family, play, write its logs, and return its row of the table."""
    directory = run.path / name
    directory.mkdir(exist_ok=True)
    family, began = make_family(name), time.perf_counter()
    policy_set = run.policy_set(
        f"{name}/policy-set.sf",
        lambda: train(
            family, tasks=sizes.training_tasks, holdout=sizes.holdout, cells=sizes.cells, policies=sizes.policies,
            delta=sizes.delta, seed=sizes.seed, workers=sizes.workers, progress=sizes.progress,
        ),
    )  # fmt: skip
    seconds = time.perf_counter() - began
    coarse = run.policy_set(
        f"{name}.sf",
        lambda: coarse_cover(family, min(sizes.training_tasks, COARSE_TASKS), sizes.seed, sizes.progress),
        apart=True,
    )
    points = fresh_tasks(family, sizes.tasks, sizes.seed)
    refused = refusals(
        family, policy_set, coarse, points[0], {a: a for a in agents}, sizes.episodes, sizes.delta, sizes.seed
    )
    found = play_all(
        family, policy_set, coarse, points, [a for a in agents if a not in refused], episodes=sizes.episodes,
        delta=sizes.delta, seed=sizes.seed, workers=sizes.workers, progress=sizes.progress, run=run, part=f"playing-{name}",
    )  # fmt: skip
    header = comparison_header("suite", family, policy_set, found, delta=sizes.delta, seed=sizes.seed, seconds=seconds)
    header["refused"] = refused
    logs = write_comparison(directory, found, header)
    return {"name": family.name, **_row(family, policy_set, found, logs, refused)}


def _row(
    family: TabularFamily, policy_set: PolicySet, found: Comparison, logs: dict[str, Any], refused: dict[str, str]
) -> dict[str, Any]:
    safe = np.array([evaluate(family.cmdp(p), policy_set.safe_policy).reward for p in found.parameters])
    given_up = found.episodes * float((found.optima - safe).mean())
    return {
        "optimal_value": float(found.optima.mean()),
        "safe_value": float(safe.mean()),
        "safe_margin": policy_set.safe_margin,
        "uncovered_upper_bound": logs["training"].get("uncovered_upper_bound"),
        "always_safe_regret": given_up,
        "training_seconds": logs["training"]["seconds"],
        "agents": {
            **{name: _cell(record, str(found.episodes), given_up) for name, record in logs["agents"].items()},
            **{name: {"refused": why} for name, why in refused.items()},
        },
    }


def _cell(record: dict[str, Any], last: str, given_up: float) -> dict[str, Any]:
    """One agent on one family; without anything to give up there is no share."""
    regret = float(np.mean(record["regret"][last]))
    return {
        "regret": regret,
        "share": regret / given_up if given_up > 0.0 else None,
        "violating_runs": int(np.count_nonzero(record["violating_episodes"])),
        "final_weight": float(np.mean(record["final_candidate_weight"])),
        "seconds": record["seconds"],
        "notes": record["notes"],
    }
