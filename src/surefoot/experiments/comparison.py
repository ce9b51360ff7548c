"""Many agents on many tasks of one family: the logs that tables and figures are made from.

A run directory holds ``summary.json``, one file of arrays per agent under ``curves/``, and whatever the experiment adds. It is created
once and never written over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, check_integer
from surefoot.errors import InvalidInput, OutputExists
from surefoot.experiments.registry import AgentContext, check_agents, make_agent, rung_called
from surefoot.experiments.run_directory import RunDirectory
from surefoot.experiments.runner import Trace, follow, play
from surefoot.parallel import map_tasks
from surefoot.policyset.schema import PolicySet
from surefoot.solvers.linear_program import solve
from surefoot.tasks.family import TabularFamily
from surefoot.version import VERSION

__all__ = [
    "Comparison",
    "check_comparison",
    "compare",
    "comparison_header",
    "follow_one",
    "fresh_tasks",
    "new_directory",
    "play_one",
    "run_seeds",
    "training_header",
    "write_comparison",
]

CHECKPOINTS = (1_000, 5_000, 10_000, 20_000, 40_000)
CURVE_POINTS = 400

Played = tuple[Trace, tuple[str, ...]]
"""What happened, and the agent's notes."""


def check_comparison(agents: Sequence[str], episodes: int) -> None:
    """Refuse what no comparison can be made of, before anything is trained.

    Raises:
        InvalidInput: no episodes, or agents that are unknown or named twice.
    """
    episodes = check_integer("episodes", episodes, low=1)
    if not agents or len(set(agents)) < len(agents):
        raise InvalidInput(
            f"agents must be distinct names, got {list(agents)}; list every agent once", code="SF-ARGUMENT-DISTINCT"
        )
    check_agents(agents)


def fresh_tasks(family: TabularFamily, n: int, seed: int) -> FloatArray:
    """(n, p) test tasks from the family; their stream is none that training draws from."""
    return family.sample(n, np.random.default_rng(np.random.SeedSequence([seed, 0xF2E5])))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Traces of all agents on all tasks.

    Attributes:
        parameters: (n, p) of the tasks.
        optima: (n,) optimal values.
        limits: (I,) cost limits.
        episodes: K.
        traces: agent name to one trace per task.
        notes: agent name to what a reader must know.
    """

    parameters: FloatArray
    optima: FloatArray
    limits: FloatArray
    episodes: int
    traces: dict[str, list[Trace]]
    notes: dict[str, list[str]]


def compare(
    family: TabularFamily,
    policy_set: PolicySet,
    coarse_set: PolicySet,
    parameters: FloatArray,
    agents: Sequence[str],
    *,
    episodes: int,
    delta: float,
    seed: int,
    workers: int = 1,
    progress: bool = True,
    run: RunDirectory | None = None,
    part: str = "playing",
) -> Comparison:
    """Play every agent on every task, all with the same chance per task; the result does not depend on ``workers``. With ``run``, finished plays are
    kept there as the part of that name.

    Raises:
        InvalidInput: an unknown agent.
    """
    jobs = [(name, k, point) for name in agents for k, point in enumerate(parameters)]
    calls = [(family, policy_set, coarse_set, episodes, delta, seed, *job) for job in jobs]
    one_after_the_other: dict[str, Any] = {
        "workers": workers,
        "label": "playing",
        "progress": progress,
        "batch_size": 1,
    }
    if run is None:
        results = map_tasks(play_one, calls, **one_after_the_other)
    else:
        results = run.map(part, play_one, calls, **one_after_the_other)
    traces: dict[str, list[Trace]] = {name: [] for name in agents}
    notes: dict[str, list[str]] = {name: [] for name in agents}
    for (trace, said), (name, _, _) in zip(results, jobs):
        traces[name].append(trace)
        notes[name] += [n for n in said if n not in notes[name]]
    optima = np.array([solve(family.cmdp(p)).value_or_raise().value for p in parameters])
    return Comparison(parameters, optima, family.criterion.cost_limits, episodes, traces, notes)


def play_one(
    family: TabularFamily,
    policy_set: PolicySet,
    coarse_set: PolicySet,
    episodes: int,
    delta: float,
    seed: int,
    name: str,
    number: int,
    point: FloatArray,
) -> Played:
    """The agent called ``name`` on the task with parameters ``point``; chance depends on ``seed`` and the task's ``number`` alone."""
    chance, draws = run_seeds(seed, number)
    task = family.cmdp(point)
    agent = make_agent(name, AgentContext(family, policy_set, coarse_set, task, episodes, delta, draws))
    trace = play(agent, task, episodes, chance)
    return trace, tuple(getattr(agent, "notes", ()))


def run_seeds(seed: int, number: int) -> tuple[int, int]:
    """Of what happens on the task, and of the agent's draws."""
    one, two = (int(s.generate_state(1, np.uint64)[0] >> 1) for s in np.random.SeedSequence([seed, number]).spawn(2))
    return one, two


def follow_one(
    family: TabularFamily,
    policy_set: PolicySet,
    coarse_set: PolicySet,
    episodes: int,
    delta: float,
    seed: int,
    name: str,
    number: int,
    point: FloatArray,
) -> Played:
    """The same as :func:`play_one` for ``rehearsed:BOLDNESS``, block by block and without data bounds beside it: twenty times faster.

    Raises:
        InvalidInput: a name without boldness.
    """
    chance, draws = run_seeds(seed, number)
    task = family.cmdp(point)
    rung = rung_called(name, AgentContext(family, policy_set, coarse_set, task, episodes, delta, draws))
    if rung is None:
        raise InvalidInput(
            f"name must state a boldness to be followed block by block, got {name!r}; e.g. rehearsed:2.7",
            code="SF-ARGUMENT-SYNTAX",
        )
    return follow(policy_set, rung, task, chance, draws), ()


def new_directory(out: str | Path) -> Path:
    """Create a run directory.

    Raises:
        OutputExists: it is there already; results are never written over.
    """
    path = Path(out)
    try:
        path.mkdir(parents=True)
    except FileExistsError as error:
        raise OutputExists(f"out must be a new directory, got {path}, which exists; choose another name") from error
    return path


def write_comparison(directory: Path, comparison: Comparison, header: dict[str, Any]) -> dict[str, Any]:
    """Write ``summary.json`` and ``curves/*.npz``; returns the summary."""
    grid = np.unique(np.linspace(1, comparison.episodes, CURVE_POINTS).astype(np.int64))
    (directory / "curves").mkdir()
    for name, traces in comparison.traces.items():
        at = [t.at(grid) for t in traces]
        np.savez_compressed(
            directory / "curves" / (re.sub(r"[^A-Za-z0-9._-]", "-", name) + ".npz"),
            episodes=grid,
            regret=np.stack([t.regret(v, grid) for t, v in zip(traces, comparison.optima)]),
            cost=np.stack([t.costs[k] for t, k in zip(traces, at)]),
            reward=np.stack([t.reward[k] for t, k in zip(traces, at)]),
            weight=np.stack([t.weight[k] for t, k in zip(traces, at)]),
        )
    summary = {**header, "agents": {name: _summarise(comparison, name) for name in comparison.traces}}
    (directory / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return summary


def _summarise(comparison: Comparison, name: str) -> dict[str, Any]:
    traces = comparison.traces[name]
    marks = sorted({k for k in CHECKPOINTS if k < comparison.episodes} | {comparison.episodes})
    regret = np.stack([t.regret(v, np.asarray(marks)) for t, v in zip(traces, comparison.optima)], axis=1)
    costs = np.stack([t.costs.max(axis=0) for t in traces])
    return {
        "regret": {str(k): row.tolist() for k, row in zip(marks, regret)},
        "max_cost": (costs[:, 0] if costs.shape[1] == 1 else costs).tolist(),
        "violating_episodes": [t.violating(comparison.limits) for t in traces],
        "final_candidate_weight": [float(t.weight[-1]) for t in traces],
        "seconds": float(sum(t.seconds for t in traces)),
        "agent_seconds": float(sum(t.agent_seconds for t in traces)),
        "notes": comparison.notes[name],
    }


def comparison_header(
    experiment: str, family: TabularFamily, policy_set: PolicySet, found: Comparison, *, delta: float, seed: int, seconds: float
) -> dict[str, Any]:  # fmt: skip
    """What a summary says before it comes to the agents; ``seconds`` is how long training took."""
    named = [dict(zip(family.parameter_names, point.tolist())) for point in found.parameters]
    return {
        "schema": 1,
        "experiment": experiment,
        "version": VERSION,
        "family": family.name,
        "seed": seed,
        "episodes": found.episodes,
        "delta": delta,
        "cost_limits": found.limits.tolist(),
        "tasks": [{**point, "optimal_value": float(value)} for point, value in zip(named, found.optima)],
        "training": training_header(policy_set, seconds),
        "assumptions": {"holds": policy_set.assumption.holds, "statement": policy_set.assumption.statement},
    }


def training_header(policy_set: PolicySet, seconds: float) -> dict[str, Any]:
    """The ``training`` entry of a summary."""
    certificate = policy_set.certificate
    header: dict[str, Any] = {
        "tasks_sampled": policy_set.training.tasks_sampled,
        "cells": len(policy_set.cells),
        "radius": policy_set.training.radius,
        "oracle": policy_set.training.oracle,
        "proved_coverage": policy_set.training.proved_coverage,
        "safe_margin": policy_set.safe_margin,
        "policy_set": policy_set.hash,
        "seconds": seconds,
    }
    if certificate is not None:
        header |= {
            "holdout": certificate.holdout,
            "uncovered": certificate.uncovered,
            "uncovered_upper_bound": certificate.uncovered_upper,
            "margin_failure_upper_bound": certificate.margin_failure_upper,
            "confidence": 1.0 - certificate.delta_coverage,
        }
    return header
