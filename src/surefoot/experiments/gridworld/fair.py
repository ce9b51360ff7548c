"""The gridworld experiment with everybody on the settings that a rehearsal supports (:mod:`surefoot.experiments.fair`).

Training, with a belief; a rehearsal of every method's ladder on fresh plants; then the chosen settings, and the agents that play one policy for ever,
on the test tasks. A method of which no setting is accepted plays no test task and stays in the table.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from surefoot.experiments.comparison import (
    check_comparison,
    comparison_header,
    play_all,
    write_comparison,
)
from surefoot.experiments.fair import LADDERS, RehearsedLadder, check_rehearsal, ladders_called, rehearse_ladders
from surefoot.experiments.gridworld.run import COARSE_TASKS, coarse_cover, test_tasks, write_figure1
from surefoot.experiments.run_directory import RunDirectory
from surefoot.policyset.schema import PolicySet
from surefoot.tasks.gridworld import NoisyGridworld
from surefoot.training.belief import learn_belief
from surefoot.training.pipeline import train

__all__ = ["DEFAULT_METHODS", "FIXED", "reproduce_rehearsed"]

FIXED = ("oracle", "always-safe", "robust-fixed:0.36")
DEFAULT_METHODS = tuple(ladder.method for ladder in LADDERS)


def reproduce_rehearsed(
    out: str | Path,
    *,
    family: str = "truncated",
    methods: Sequence[str] = DEFAULT_METHODS,
    tasks: str = "published",
    episodes: int = 40_000,
    plants: int = 59,
    alpha: float = 0.05,
    delta_coverage: float = 0.05,
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

    Args:
        out: new directory.
        family, tasks, episodes, delta, cells, policies, training_tasks, holdout: as in :func:`surefoot.experiments.gridworld.reproduce`.
        methods: which ladders.
        plants: m fresh ones that every rung is rehearsed on.
        alpha: share of violating deployments that is tolerated.
        delta_coverage: error probability of each method's rehearsal.
        seed: of everything.
        workers: processes; the result does not depend on it.
        progress: show progress.

    Raises:
        InvalidInput: an argument out of range, an unknown method, family or task list.
        OutputExists: ``out`` is there already.
    """
    ladders = ladders_called(methods)
    check_comparison([*FIXED, *(ladder.rungs[0] for ladder in ladders)], episodes)
    check_rehearsal(plants, episodes, alpha, delta_coverage)
    world = NoisyGridworld(family)  # type: ignore[arg-type]
    points = test_tasks(world, tasks, seed)
    settings = {
        "experiment": "gridworld rehearsed", "family": family, "methods": list(methods), "tasks": tasks, "episodes": episodes, "plants": plants,
        "alpha": alpha, "delta_coverage": delta_coverage, "delta": delta, "cells": cells, "policies": policies, "training_tasks": training_tasks,
        "holdout": holdout, "seed": seed,
    }  # fmt: skip

    def trained() -> PolicySet:
        found = train(
            world, tasks=training_tasks, holdout=holdout, cells=cells, policies=policies, delta=delta, seed=seed, strict=False,
            workers=workers, progress=progress,
        )  # fmt: skip
        some = min(training_tasks, COARSE_TASKS)
        return learn_belief(found, world, tasks=some, seed=seed, workers=workers, progress=progress)

    with RunDirectory(out, settings) as run:
        began = time.perf_counter()
        policy_set = run.policy_set("policy-set.sf", trained)
        seconds = time.perf_counter() - began
        coarse = run.policy_set(
            "coarse.sf", lambda: coarse_cover(world, min(training_tasks, COARSE_TASKS), seed, progress), apart=True
        )
        began = time.perf_counter()
        rehearsed = rehearse_ladders(
            world, policy_set, coarse, ladders, plants=plants, episodes=episodes, alpha=alpha, delta_coverage=delta_coverage,
            delta=delta, seed=seed, workers=workers, progress=progress, run=run,
        )  # fmt: skip
        took = time.perf_counter() - began
        chosen = {found.chosen.agent: found for found in rehearsed if found.chosen is not None}
        found = play_all(
            world, policy_set, coarse, points, (*FIXED, *chosen),
            episodes=episodes, delta=delta, seed=seed, workers=workers, progress=progress, run=run,
        )  # fmt: skip
        for agent, ladder in chosen.items():
            found.notes[agent].append(_sentence(ladder, delta_coverage))
        write_figure1(run.path, world, policy_set)
        header = comparison_header("gridworld", world, policy_set, found, delta=delta, seed=seed, seconds=seconds)
        header["rehearsal"] = {
            "plants": plants,
            "alpha": alpha,
            "delta_coverage": delta_coverage,
            "seconds": took,
            "fixed": list(FIXED),
            "ladders": [ladder.as_dict() for ladder in rehearsed],
        }
        return write_comparison(run.path, found, header)


def _sentence(ladder: RehearsedLadder, delta_coverage: float) -> str:
    """What the page of a run says about a chosen setting."""
    rung = ladder.chosen
    assert rung is not None and rung.upper is not None
    return (
        f"setting chosen by rehearsal: {rung.plants} fresh simulated plants, {rung.violating} broke a limit; at {100 * (1 - delta_coverage):g}% "
        f"confidence fewer than {100 * rung.upper:.2g}% would"
    )
