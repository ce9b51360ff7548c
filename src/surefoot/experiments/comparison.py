"""Many agents on many tasks of one family: the logs that tables and figures are made from.

A run directory holds ``summary.json``, one file of arrays per agent under ``curves/``, and whatever the experiment adds. It is created
once and never written over.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_integer
from surefoot.deploy.agent import Agent
from surefoot.errors import AssumptionError, InvalidInput, OutputExists
from surefoot.experiments.registry import AgentContext, check_agents, make_agent, rung_called
from surefoot.experiments.run_directory import RunDirectory
from surefoot.experiments.runner import VIOLATION_TOLERANCE, Trace, follow, play
from surefoot.parallel import map_tasks
from surefoot.policyset.schema import PolicySet
from surefoot.solvers.linear_program import solve
from surefoot.tasks.family import TabularFamily
from surefoot.version import VERSION

__all__ = [
    "Comparison",
    "Factory",
    "check_comparison",
    "comparison_header",
    "follow_one",
    "fresh_tasks",
    "new_directory",
    "play_all",
    "play_one",
    "refusals",
    "results_table",
    "run_seeds",
    "summarised",
    "training_header",
    "write_comparison",
]

CHECKPOINTS = (1_000, 5_000, 10_000, 20_000, 40_000)
CURVE_POINTS = 400

Factory = Callable[[AgentContext], Agent]
"""Makes an agent of one's own for one run."""
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


def play_all(
    family: TabularFamily,
    policy_set: PolicySet,
    coarse_set: PolicySet,
    parameters: FloatArray,
    agents: Sequence[str] | Mapping[str, str | Factory],
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
    kept there as the part of that name. Agents are names, or labels that stand for names or factories.

    Raises:
        InvalidInput: an unknown agent.
    """
    named = agents if isinstance(agents, Mapping) else {name: name for name in agents}
    jobs = [(label, k, point) for label in named for k, point in enumerate(parameters)]
    calls = [
        (family, policy_set, coarse_set, episodes, delta, seed, named[label], k, point) for label, k, point in jobs
    ]
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
    traces: dict[str, list[Trace]] = {name: [] for name in named}
    notes: dict[str, list[str]] = {name: [] for name in named}
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
    name: str | Factory,
    number: int,
    point: FloatArray,
) -> Played:
    """The agent called ``name``, or made by a factory, on the task with parameters ``point``; chance depends on ``seed`` and the task's ``number``
    alone.
    """
    chance, draws = run_seeds(seed, number)
    task = family.cmdp(point)
    agent = made(name, AgentContext(family, policy_set, coarse_set, task, episodes, delta, draws))
    trace = play(agent, task, episodes, chance)
    return trace, tuple(getattr(agent, "notes", ()))


def made(name: str | Factory, context: AgentContext) -> Agent:
    """The agent of a name or a factory.

    Raises:
        InvalidInput: unknown name, or the factory gave something that is no agent.
    """
    if isinstance(name, str):
        return make_agent(name, context)
    agent = name(context)
    lacking = [part for part in ("policies", "wants", "ask", "tell") if not hasattr(agent, part)]
    if lacking:
        raise InvalidInput(
            f"a factory must return an agent with policies, wants, ask and tell, got a {type(agent).__name__} without {', '.join(lacking)}; see "
            "docs/extending.md",
            code="SF-ARGUMENT-TYPE",
        )
    return agent


def refusals(
    family: TabularFamily, policy_set: PolicySet, coarse_set: PolicySet, point: FloatArray, agents: Mapping[str, str | Factory], episodes: int,
    delta: float, seed: int,
) -> dict[str, str]:  # fmt: skip
    """Agents that cannot be made for this family, and what they say."""
    task, refused = family.cmdp(point), {}
    for label, name in agents.items():
        try:
            made(name, AgentContext(family, policy_set, coarse_set, task, episodes, delta, seed))
        except (AssumptionError, InvalidInput) as error:
            refused[label] = str(error)
    return refused


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
    """Write ``summary.json``, ``results.csv`` and ``curves/*.npz``; returns the summary."""
    grid = np.unique(np.linspace(1, comparison.episodes, CURVE_POINTS).astype(np.int64))
    (directory / "curves").mkdir(exist_ok=True)
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
    summary = summarised(comparison, header)
    (directory / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    columns, rows = results_table(comparison, summary)
    with (directory / "results.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return summary


def summarised(comparison: Comparison, header: dict[str, Any]) -> dict[str, Any]:
    """The summary: a header, and every agent's figures."""
    return {**header, "agents": {name: _summarise(comparison, name) for name in comparison.traces}}


def results_table(comparison: Comparison, summary: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Columns and rows of the tidy table, one row per agent, task and checkpoint.

    Up to a checkpoint k: ``regret`` is cumulative, ``violating_episodes`` are those drawn from a mixture above a limit. At k: ``reward``, ``cost_0``,
    ... are expected values of the mixture in force, ``weight`` is its weight off the safe policy.
    """
    parameters = [name for name in summary["tasks"][0] if name != "optimal_value"]
    costs = [f"cost_{i}" for i in range(comparison.limits.size)]
    columns = (
        "experiment", "family", "seed", "agent", "task", *parameters, "optimal_value", "episode", "regret", "reward", *costs, "weight",
        "violating_episodes",
    )  # fmt: skip
    marks = np.asarray(_marks(comparison.episodes))
    rows: list[tuple[Any, ...]] = []
    for name, traces in comparison.traces.items():
        for k, (trace, best) in enumerate(zip(traces, comparison.optima)):
            known = [summary["tasks"][k][parameter] for parameter in parameters]
            regret, at, broken = (
                trace.regret(float(best), marks),
                trace.at(marks),
                _violating_until(trace, comparison.limits, marks),
            )
            for i, (mark, b) in enumerate(zip(marks.tolist(), at.tolist())):
                rows.append(
                    (
                        summary["experiment"], summary["family"], summary["seed"], name, k, *known, float(best), mark, float(regret[i]),
                        float(trace.reward[b]), *trace.costs[b].tolist(), float(trace.weight[b]), int(broken[i]),
                    )
                )  # fmt: skip
    return columns, rows


def _marks(episodes: int) -> list[int]:
    """Checkpoints of a run of K episodes."""
    return sorted({k for k in CHECKPOINTS if k < episodes} | {episodes})


def _violating_until(trace: Trace, limits: FloatArray, marks: IntArray) -> IntArray:
    """Violating episodes among the first k, for every mark k."""
    bad = (trace.costs > limits * (1.0 + VIOLATION_TOLERANCE)).any(axis=1)
    begins = np.concatenate([[0], trace.ends[:-1]])
    return np.array([int((np.clip(mark, begins, trace.ends) - begins)[bad].sum()) for mark in marks.tolist()])


def _summarise(comparison: Comparison, name: str) -> dict[str, Any]:
    traces = comparison.traces[name]
    marks = _marks(comparison.episodes)
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
