"""Agent time and memory per episode of the certified agent; run from the repository's root.

    python benchmarks/bench_agent.py [--episodes 40000] [--noise 0.31] [--json] [--profile]

The plant is simulated beforehand batch by batch (10 episodes, growing by a tenth up to 100, as in the experiments); only ``ask`` and ``tell`` are
timed, in CPU time of this thread, so that other programs on the machine do not count. Three policy sets:

* 60 cells of the gridworld, one constraint. Target: 20 microseconds per episode;
* 500 cells of the gridworld with a second constraint, the discounted time spent in the leftmost column. Target: 200;
* 900 cells of the gridworld, from returns and costs alone (``cells:returns``). Target: 150.

Memory is what one more agent on a policy set already in use allocates, right after construction and after the last episode. Compiled code is
warmed up on a short run of another seed first.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
import time
import tracemalloc
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from surefoot import Criterion, PolicySet, Simulator, TabularCMDP, evaluate, train
from surefoot.arrays import FloatArray
from surefoot.cmdp.simulate import transition_rows
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.trace import batch_sizes
from surefoot.tasks import NoisyGridworld
from surefoot.text_table import text_table

WARM_UP = 600
AGENTS = (("cells", "all"), ("cells", "returns"), ("envelope", "all"), ("data", "all"))


@dataclass(frozen=True)
class TwoCosts:
    """The gridworld with a second cost: one per step in the leftmost column.

    Its limit is a tenth above what the safe policy needs in the noisiest task.
    """

    base: NoisyGridworld = field(default_factory=NoisyGridworld)
    name: str = "gridworld with two costs"
    parameter_names: tuple[str, ...] = ("noise",)

    @property
    def support(self) -> FloatArray:
        """That of the base."""
        return self.base.support

    @cached_property
    def criterion(self) -> Criterion:
        """The base's, with one more limit."""
        worst = self._with_column(self.base.cmdp(float(self.support[0, 1])), np.array([self.base.limit, 1.0]))
        needed = float(evaluate(worst, self.safe_policy()).costs[1])
        return Criterion(0.9, np.array([self.base.limit, 1.1 * needed]), (0.0, 10.0), np.array([10.0, 1.0]))

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """As the base draws."""
        return self.base.sample(n, rng)

    def cmdp(self, parameters: Any) -> TabularCMDP:
        """The task with this noise."""
        return self._with_column(self.base.cmdp(parameters), self.criterion.cost_limits)

    def safe_policy(self) -> FloatArray:
        """That of the base."""
        return self.base.safe_policy()

    def _with_column(self, task: TabularCMDP, limits: FloatArray) -> TabularCMDP:
        column = np.zeros((1, task.n_states, task.n_actions))
        column[0, ::7] = 1.0
        costs = np.concatenate([task.costs, column])
        return TabularCMDP(task.dense, task.rewards, costs, limits, task.start, task.discount)


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        family: of the tasks.
        tasks, cells, policies: of training.
        target: microseconds per episode.
        agents: trust levels with their evidence.
    """

    family: Any
    tasks: int
    cells: int
    policies: int
    target: float
    agents: tuple[tuple[str, str], ...] = AGENTS


CASES = (
    Case(NoisyGridworld(), 500, 60, 20, 20.0),
    Case(TwoCosts(), 1500, 500, 40, 200.0),
    Case(NoisyGridworld(), 1500, 900, 40, 150.0, (("cells", "returns"),)),
)


class Plant:
    """Episodes of one task, reported as the experiments report them."""

    def __init__(self, policy_set: PolicySet, task: TabularCMDP) -> None:
        self._simulator = Simulator(task, list(policy_set.policies))
        self._task = task

    def run(self, agent: Any, episodes: int, seed: int, profile: cProfile.Profile | None = None) -> float:
        """Play; returns the seconds spent inside the agent."""
        counting = "transitions" in agent.wants
        played, inside = 0, 0.0
        for n in batch_sizes(episodes):
            if profile is not None:
                profile.enable()
            mark = time.thread_time()
            batch = agent.ask(n)
            inside += time.thread_time() - mark
            if profile is not None:
                profile.disable()
            groups = np.zeros(n, dtype=np.int64) if counting else None
            seen = self._simulator.run(batch.policy_index, seed=seed, first_episode=played, groups=groups)
            rows = None if seen.transitions is None else transition_rows(self._task, seen.transitions[0])
            if profile is not None:
                profile.enable()
            mark = time.thread_time()
            agent.tell(batch.ids, seen.returns, seen.costs, initial_state=seen.initial_states, transitions=rows)
            inside += time.thread_time() - mark
            if profile is not None:
                profile.disable()
            played += n
        return inside


def measure(case: Case, episodes: int, noise: float, profiled: bool) -> list[dict[str, Any]]:
    """One row per agent."""
    began = time.perf_counter()
    policy_set = train(
        case.family, tasks=case.tasks, holdout=20, cells=case.cells, policies=case.policies, seed=0, progress=False
    )
    sys.stderr.write(f"trained {len(policy_set.cells)} cells in {time.perf_counter() - began:.0f} s\n")
    plant = Plant(policy_set, case.family.cmdp(noise))
    return [_row(policy_set, plant, case, trust, kind, episodes, profiled) for trust, kind in case.agents]


def _agent(policy_set: PolicySet, trust: Any, kind: Any) -> CertifiedAgent:
    # Speed does not depend on how well the cells cover the family, so a small hold-out will do.
    return CertifiedAgent(policy_set, trust=trust, evidence=kind, p_max=0.999, seed=1)


def _row(
    policy_set: PolicySet, plant: Plant, case: Case, trust: str, kind: str, episodes: int, profiled: bool
) -> dict[str, Any]:
    plant.run(_agent(policy_set, trust, kind), WARM_UP, seed=1)
    seconds = plant.run(_agent(policy_set, trust, kind), episodes, seed=0)
    fresh, grown = _memory(policy_set, plant, trust, kind, min(episodes, 4000))
    if profiled:
        profile = cProfile.Profile()
        plant.run(_agent(policy_set, trust, kind), episodes, 0, profile)
        sys.stderr.write(f"\n{trust}, {kind}, {len(policy_set.cells)} cells\n")
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(14)
    return {
        "cells": len(policy_set.cells),
        "policies": len(policy_set.policies),
        "constraints": policy_set.criterion.n_constraints,
        "trust": trust,
        "evidence": kind,
        "episodes": episodes,
        "microseconds": 1e6 * seconds / episodes,
        "target": case.target,
        "megabytes": fresh / 1e6,
        "megabytes_after": grown / 1e6,
    }


def _memory(policy_set: PolicySet, plant: Plant, trust: str, kind: str, episodes: int) -> tuple[int, int]:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        agent = _agent(policy_set, trust, kind)
        fresh = tracemalloc.get_traced_memory()[0] - before
        plant.run(agent, episodes, seed=0)
        return fresh, tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and fail where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--episodes", type=int, default=40_000)
    parser.add_argument("--noise", type=float, default=0.31)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profile", action="store_true", help="where the time goes, on standard error")
    options = parser.parse_args(arguments)
    rows = [row for case in CASES for row in measure(case, options.episodes, options.noise, options.profile)]
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return 0
    table = [["cells", "I", "agent", "us/episode", "target", "MB", "MB after"]]
    for row in rows:
        name = f"{row['trust']}:{row['evidence']}"
        sizes = (f"{row[k]:.2f}" for k in ("megabytes", "megabytes_after"))
        table.append(
            [
                str(row["cells"]),
                str(row["constraints"]),
                name,
                f"{row['microseconds']:.1f}",
                f"{row['target']:.0f}",
                *sizes,
            ]
        )
    sys.stdout.write("\n".join(text_table(table, left=(2,))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
