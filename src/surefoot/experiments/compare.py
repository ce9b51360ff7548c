"""Agents compared on a family of one's own: ``sf.compare`` and ``surefoot reproduce compare``.

Every agent meets the same fresh test tasks with the same chance; every deployed mixture is judged exactly by the task's model, whatever the agent
believes. The two agents that bound every comparison, the oracle and the safe policy for ever, are always in the table.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surefoot.arguments import check_family
from surefoot.arrays import check_integer, check_real
from surefoot.errors import InvalidInput
from surefoot.experiments.comparison import (
    Factory,
    comparison_header,
    fresh_tasks,
    play_all,
    refusals,
    results_table,
    summarised,
    write_comparison,
)
from surefoot.experiments.registry import check_agents
from surefoot.experiments.run_directory import RunDirectory, as_setting, probe
from surefoot.policyset.file import load
from surefoot.policyset.schema import PolicySet, check_policy_set
from surefoot.training.pipeline import train

__all__ = ["DEFAULT_AGENTS", "Compared", "compare"]

DEFAULT_AGENTS = ("certified:cells", "certified:envelope", "certified:data")
BOUNDING = ("oracle", "always-safe")
"""Best and worst that make sense; in every table."""
TRAINING: Mapping[str, Any] = {"tasks": 400, "holdout": 150, "cells": 30}
"""How a policy set is trained where none is given and nothing else is said."""


@dataclass(frozen=True, eq=False)
class Compared:
    """What a comparison found.

    Attributes:
        summary: plain values, as ``summary.json`` holds them; see docs/experiments.md.
        columns, rows: the tidy table, as ``results.csv`` holds it: one row per agent, task and checkpoint.
        policy_set: what the agents deployed.
        refused: agent to why it refuses this family; such agents played nothing.
    """

    summary: dict[str, Any]
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    policy_set: PolicySet
    refused: dict[str, str]

    @property
    def text(self) -> str:
        """The table for people."""
        from surefoot.report.table import allowance, render_table

        allowed = allowance(self.summary["delta"], len(self.summary["tasks"]))
        said = [f"{name} refused: {why}" for name, why in self.refused.items()]
        return "\n".join([render_table(self.summary), "", allowed, *said])

    def __repr__(self) -> str:
        tasks, episodes = len(self.summary["tasks"]), self.summary["episodes"]
        return f"Compared({', '.join(self.summary['agents'])} on {tasks} tasks of {episodes} episodes; print its text)"


def compare(
    agents: Sequence[str] | Mapping[str, str | Factory],
    family: Any,
    *,
    tasks: int = 10,
    episodes: int = 20_000,
    policy_set: PolicySet | str | Path | None = None,
    training: Mapping[str, Any] | None = None,
    delta: float = 0.05,
    seed: int = 0,
    out: str | Path | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Compared:
    """Play agents on fresh tasks of a family and judge everything they deploy.

    ``oracle`` and ``always-safe`` are added where they are missing. An agent that refuses the family is in ``refused`` and plays nothing.

    Args:
        agents: names from the registry (``certified:cells``, ``dope:calibrated``, ...), or a mapping from labels to names and to factories of your
            own: ``factory(context)`` returns a new agent for one run; :class:`~surefoot.experiments.registry.AgentContext` holds the policy
            set, K, delta and the seed of the agent's draws.
        family: of tasks with models (:class:`~surefoot.tasks.family.TabularFamily`).
        tasks: fresh test tasks; none that training draws.
        episodes: K per run.
        policy_set: what agents deploy, or the path of its file; by default it is trained.
        training: options of :func:`surefoot.train`; by default 400 tasks, 150 held out, 30 cells.
        delta: error probability that agents are given.
        seed: of everything.
        out: new folder for ``summary.json``, ``results.csv``, the policy set and curves. Where the same call was interrupted it goes on; factories
            are known by their names there, so take another folder after a change of an agent's code. Without one nothing is written.
        workers: processes; the result does not depend on it.
        progress: show progress.

    Raises:
        InvalidInput: an argument out of range, an unknown agent, or a family without models.
        AssumptionError: the family breaks the method's assumption; ``training={"strict": False, ...}`` goes on nevertheless.
        OutputExists: ``out`` is there already.

    >>> import surefoot as sf
    >>> found = sf.compare(
    ...     ["certified:data"], sf.tasks.NoisyGridworld(), tasks=2, episodes=100,
    ...     training={"tasks": 20, "holdout": 0, "cells": 2}, progress=False,
    ... )
    >>> list(found.summary["agents"])
    ['oracle', 'always-safe', 'certified:data']
    """
    named = _named(agents)
    check_family(family)
    tasks, episodes = check_integer("tasks", tasks, low=1), check_integer("episodes", episodes, low=1)
    delta = check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
    seed = check_integer("seed", seed, low=0)
    how = {**TRAINING, **({} if training is None else training)}
    given = load(policy_set) if isinstance(policy_set, str | Path) else policy_set
    if given is not None:
        check_policy_set(given)

    def made(run: RunDirectory | None) -> PolicySet:
        if given is None:

            def trained() -> PolicySet:
                shared = {"delta": delta, "seed": seed, "workers": workers, "progress": progress}
                return train(family, **{**shared, **how})

            return trained() if run is None else run.policy_set("policy-set.sf", trained)
        return given if run is None else run.policy_set("policy-set.sf", lambda: given)

    def found(run: RunDirectory | None) -> Compared:
        began = time.perf_counter()
        mine = made(run)
        points = fresh_tasks(family, tasks, seed)
        refused = refusals(family, mine, mine, points[0], named, episodes, delta, seed)
        seconds = time.perf_counter() - began
        result = play_all(
            family, mine, mine, points, {label: agent for label, agent in named.items() if label not in refused}, episodes=episodes,
            delta=delta, seed=seed, workers=workers, progress=progress, run=run,
        )  # fmt: skip
        header = comparison_header("compare", family, mine, result, delta=delta, seed=seed, seconds=seconds)
        header |= {"published": {}, "refused": refused}
        summary = summarised(result, header) if run is None else write_comparison(run.path, result, header)
        return Compared(summary, *results_table(result, summary), mine, refused)

    if out is None:
        return found(None)
    settings = {
        "experiment": "compare", "family": family.name, "probe": probe(family), "tasks": tasks, "episodes": episodes, "delta": delta, "seed": seed,
        "agents": {label: agent if isinstance(agent, str) else _called(agent) for label, agent in named.items()},
        "policy_set": None if given is None else given.hash, "training": {name: as_setting(value) for name, value in how.items()},
    }  # fmt: skip
    with RunDirectory(out, settings) as run:
        return found(run)


def _named(agents: Any) -> dict[str, str | Factory]:
    """Label to name or factory; the bounding agents come first where nobody named them."""
    if isinstance(agents, Mapping):
        named = dict(agents)
    elif isinstance(agents, Sequence) and not isinstance(agents, str):
        named = {name: name for name in agents}
        if len(named) < len(agents):
            raise InvalidInput(
                f"agents must be distinct names, got {list(agents)}; list every agent once", code="SF-ARGUMENT-DISTINCT"
            )
    else:
        raise InvalidInput(
            f"agents must be a list of names, or a mapping from labels to names or factories, got {agents!r}; for example ['certified:cells']",
            code="SF-ARGUMENT-TYPE",
        )
    for label, agent in named.items():
        if not isinstance(label, str) or not label.strip():
            raise InvalidInput(f"label of an agent must be a text, got {label!r}; name it", code="SF-ARGUMENT-TYPE")
        if isinstance(agent, type) or not (isinstance(agent, str) or callable(agent)):
            raise InvalidInput(
                f"agent {label!r} must be a name or a function of the context, got {agent!r}; write lambda context: MyAgent(context.policy_set, "
                "seed=context.seed)",
                code="SF-ARGUMENT-TYPE",
            )
    check_agents([agent for agent in named.values() if isinstance(agent, str)])
    missing = [name for name in BOUNDING if name not in named.values()]
    return {**{name: name for name in missing}, **named}


def _called(factory: Factory) -> str:
    """How a factory of one's own is known to a later attempt."""
    return f"{getattr(factory, '__module__', '')}.{getattr(factory, '__qualname__', type(factory).__name__)}"
