"""Everything that ``surefoot validate`` does, from worlds to ``validation.json``.

Runs are cut into chunks whose size does not depend on the number of workers, every run's randomness depends on ``(seed, scenario, run)`` alone, and
nothing is carried from one run to the next: the result does not depend on ``workers``. All agents meet the same tasks and the same chance.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from surefoot.arrays import FloatArray, check_integer, check_real
from surefoot.errors import InvalidInput
from surefoot.experiments.registry import check_agents
from surefoot.experiments.run_directory import RunDirectory, probe
from surefoot.experiments.validation.calibration import MaxWealth, find_nulls, run_null
from surefoot.experiments.validation.heavy import RareCatastrophes
from surefoot.experiments.validation.procedure import Attempt, run_procedure
from surefoot.experiments.validation.scenarios import (
    DENSITY_RATIO,
    FOR_REHEARSED,
    LONG,
    PROCEDURES,
    SCENARIOS,
    TaskSampler,
    World,
    dearest,
    worst_tasks,
)
from surefoot.experiments.validation.summary import (
    CONFIDENCE,
    LEVEL,
    calibration_rows,
    judged_rows_pass,
    procedure_rows,
    rows_of,
    violations_of,
)
from surefoot.experiments.validation.trial import Job, Outcome, TrialSettings, play_jobs
from surefoot.policyset.schema import PolicySet
from surefoot.rehearsal import rehearse
from surefoot.training.belief import learn_belief
from surefoot.training.pipeline import train
from surefoot.version import VERSION

__all__ = ["Training", "playable", "validate"]

SCHEMA = 1
CHUNK = 10
PILOTS = 8
"""Pilot runs per task and agent when tasks are chosen against an agent; fewer where few runs follow."""
WORST = 3
CALIBRATION_EPISODES = 1000

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Training:
    """How policy sets are trained where none is given.

    Attributes:
        cells, policies, tasks, holdout: as in :func:`surefoot.train`.
        plants: that a rehearsal meets, where an agent rests on one; deployments are as long as the runs.
    """

    cells: int = 60
    policies: int = 30
    tasks: int = 500
    holdout: int = 200
    plants: int = 200


def validate(
    out: str | Path,
    family: Any,
    agents: Sequence[str],
    *,
    scenarios: Sequence[str] | None = None,
    runs: int = 1000,
    episodes: int = 4000,
    calibration_runs: int = 2000,
    delta: float = 0.05,
    seed: int = 0,
    workers: int = 1,
    policy_set: PolicySet | None = None,
    coarse_set: PolicySet | None = None,
    outside: FloatArray | None = None,
    training: Training | None = None,
    strict: bool = True,
    progress: bool = True,
) -> dict[str, Any]:
    """Try agents' guarantees and write ``validation.json`` into the new directory ``out``; returns its content.

    Args:
        out: new directory.
        family: the distribution over tasks.
        agents: names from the registry.
        scenarios: keys of :data:`SCENARIOS`; by default all that all agents can play.
        runs: per agent and scenario; scenarios whose runs take long (:data:`LONG`) get one for so many.
        episodes: per run.
        calibration_runs: per position of the truth; 0 leaves the calibration out.
        delta: error probability given to agents, and the level of the calibration.
        seed: of everything; training uses it too.
        workers: processes; the result does not depend on it.
        policy_set: trained on ``family``; by default it is trained as ``training`` says. ``heavy`` always trains its own.
        coarse_set: for agents with the published constants; by default the policy set.
        outside: (T, p) tasks for the scenario of that name; by default a net beyond the declared support.
        training: sizes.
        strict: refuse families that break the method's assumption.
        progress: draw progress bars where that makes sense.

    Raises:
        InvalidInput: an argument out of range, an unknown agent or scenario.
        OutputExists: ``out`` is there already.
    """
    scenarios = tuple(playable(agents)) if scenarios is None else scenarios
    _check(agents, scenarios, runs, episodes, calibration_runs, delta, seed, workers)
    sizes = training or Training()
    decisive = {
        "experiment": "validation", "family": family.name, "probe": probe(family), "agents": list(agents), "scenarios": list(scenarios),
        "runs": runs, "episodes": episodes, "calibration_runs": calibration_runs, "delta": delta, "seed": seed, "training": asdict(sizes),
        "policy_sets": [None if one is None else one.hash for one in (policy_set, coarse_set)], "strict": strict,
        "outside": None if outside is None else np.asarray(outside).tolist(),
    }  # fmt: skip
    with RunDirectory(out, decisive) as run:
        began = time.perf_counter()

        def ready(name: str, of: Any, given: PolicySet | None) -> PolicySet:
            """A policy set for a family, trained where none is given."""
            if given is not None:
                return given
            return run.policy_set(
                f"{name}.sf",
                lambda: train(
                    of, tasks=sizes.tasks, holdout=sizes.holdout, cells=sizes.cells, policies=sizes.policies, delta=delta,
                    seed=seed, strict=strict, workers=workers, progress=progress,
                ),
                apart=True,
            )  # fmt: skip

        if policy_set is None and any(map(_rests_on_rehearsal, agents)):
            policy_set = run.policy_set(
                "rehearsed.sf",
                lambda: _rehearse(family, sizes, episodes, delta, seed, workers, strict, progress),
                apart=True,
            )
        main = ready("main", family, policy_set)
        worlds = {"main": World(family, main, main if coarse_set is None else coarse_set, outside)}
        if "heavy" in scenarios:
            rare = RareCatastrophes(family)
            heavy = ready("heavy", rare, None)
            worlds["heavy"] = World(rare, heavy, heavy, None)
        bench = _Bench(worlds, TrialSettings(episodes, delta, seed), run, workers, progress)
        summary = _summary(bench, family, agents, scenarios, runs, calibration_runs)
        summary["seconds"] = time.perf_counter() - began
        (run.path / "validation.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
        return summary


def _summary(
    bench: _Bench, family: Any, agents: Sequence[str], scenarios: Sequence[str], runs: int, calibration_runs: int
) -> dict[str, Any]:
    """Play everything; what ``validation.json`` says."""
    episodes, delta, seed = bench.settings.episodes, bench.settings.delta, bench.settings.seed
    outcomes: list[Outcome] = []
    attempts: list[Attempt] = []
    for name in dict.fromkeys(scenarios):
        some = max(1, runs // LONG.get(name, 1))
        if name in PROCEDURES:
            attempts += bench.procedures(name, agents, some)
        else:
            outcomes += bench.play(bench.jobs(name, agents, some), f"scenario {name}")
    outcomes += [attempt.deployed for attempt in attempts if attempt.deployed is not None]
    outcomes.sort(key=lambda o: list(agents).index(o.job.agent))
    maxima = bench.calibrate(calibration_runs) if calibration_runs else []
    names = family.parameter_names
    rows, calibration, procedures = rows_of(outcomes, delta), calibration_rows(maxima, delta), procedure_rows(attempts)
    return {
        "schema": SCHEMA,
        "experiment": "validation",
        "version": VERSION,
        "family": family.name,
        "agents": list(agents),
        "scenarios": {name: SCENARIOS[name] for name in dict.fromkeys(scenarios)},
        "runs": runs,
        "episodes": episodes,
        "calibration_episodes": min(episodes, CALIBRATION_EPISODES),
        "delta": delta,
        "seed": seed,
        "confidence": CONFIDENCE,
        "level": LEVEL,
        "policy_sets": {name: _describe(world.policy_set) for name, world in bench.worlds.items()},
        "rows": rows,
        "calibration": calibration,
        "procedures": procedures,
        "violations": violations_of(outcomes, names),
        "passed": all(judged_rows_pass(some) for some in (rows, calibration, procedures)),
    }


def _check(
    agents: Sequence[str], scenarios: Sequence[str], runs: int, episodes: int, calibration_runs: int, delta: float,
    seed: int, workers: int,
) -> None:  # fmt: skip
    for name, value, low in (
        ("runs", runs, 1),
        ("episodes", episodes, 1),
        ("calibration_runs", calibration_runs, 0),
        ("seed", seed, 0),
        ("workers", workers, 1),
    ):
        check_integer(name, value, low=low)
    delta = check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
    if not agents or len(set(agents)) < len(agents):
        raise InvalidInput(
            f"agents must be distinct names, got {list(agents)}; list every agent once", code="SF-ARGUMENT-DISTINCT"
        )
    check_agents(agents)
    unknown = [name for name in scenarios if name not in SCENARIOS]
    if unknown or not scenarios:
        got = repr(unknown[0]) if unknown else "none"
        raise InvalidInput(
            f"scenarios must be among {', '.join(SCENARIOS)}, got {got}; list some of them", code="SF-ARGUMENT-CHOICE"
        )
    beyond = [name for name in scenarios if name not in playable(agents)]
    if beyond:
        raise InvalidInput(
            f"scenarios of a rehearsed agent must be among {', '.join(FOR_REHEARSED)}, got {beyond[0]!r}; leave it out",
            code="SF-ARGUMENT-COMBINATION",
        )


def playable(agents: Sequence[str]) -> tuple[str, ...]:
    """The scenarios that all of these agents can play."""
    return FOR_REHEARSED if any(map(_rests_on_rehearsal, agents)) else tuple(SCENARIOS)


def _rests_on_rehearsal(agent: str) -> bool:
    return agent.partition(":")[0] == "rehearsed"


def _rehearse(
    family: Any, sizes: Training, episodes: int, delta: float, seed: int, workers: int, strict: bool, progress: bool
) -> PolicySet:
    """A policy set with a belief and the certificate of a rehearsal at ``alpha = delta``.

    Raises:
        AssumptionError: no rung was accepted.
    """
    trained = train(
        family, tasks=sizes.tasks, holdout=sizes.holdout, cells=sizes.cells, policies=sizes.policies, delta=delta, seed=seed, strict=strict,
        workers=workers, progress=progress,
    )  # fmt: skip
    believing = learn_belief(trained, family, tasks=sizes.tasks, seed=seed, workers=workers, progress=progress)
    found = rehearse(
        believing,
        family,
        episodes=episodes,
        plants=sizes.plants,
        alpha=delta,
        seed=seed,
        workers=workers,
        progress=progress,
    )
    assert found.policy_set is not None
    return found.policy_set


class _Bench:
    """Makes jobs and has them done."""

    def __init__(
        self, worlds: dict[str, World], settings: TrialSettings, run: RunDirectory, workers: int, progress: bool
    ) -> None:
        self.worlds, self.settings, self._run, self._workers, self._progress = worlds, settings, run, workers, progress
        self._atlas: TaskSampler | None = None

    @property
    def sampler(self) -> TaskSampler:
        """Of the main world; made when first needed."""
        if self._atlas is None:
            self._atlas = TaskSampler(self.worlds["main"])
        return self._atlas

    def edges(self) -> FloatArray:
        """(T, p) edge tasks."""
        return self.sampler.edges()[0]

    def jobs(self, scenario: str, agents: Sequence[str], runs: int) -> list[Job]:
        """``runs`` per agent."""
        if scenario == "adversarial":
            return [job for agent in agents for job in _jobs(agent, scenario, self._against(agent, runs), runs)]
        points = self._points(scenario, runs)
        return [job for agent in agents for job in _jobs(agent, scenario, points, runs)]

    def _points(self, scenario: str, runs: int) -> FloatArray:
        if scenario == "edges":
            return self.edges()
        if scenario == "outside":
            return self.sampler.outside()
        if scenario == "reweighted":
            world = self.worlds["main"]
            rng = np.random.default_rng([self.settings.seed, 1 + list(SCENARIOS).index(scenario)])
            return dearest(world, np.asarray(world.family.sample(DENSITY_RATIO * runs, rng), dtype=np.float64))
        family = self.worlds["heavy" if scenario == "heavy" else "main"].family
        rng = np.random.default_rng([self.settings.seed, 1 + list(SCENARIOS).index(scenario)])
        return np.asarray(family.sample(runs, rng), dtype=np.float64)

    def _against(self, agent: str, runs: int) -> FloatArray:
        """(T, p) the tasks on which a pilot came closest to a limit, or above it.

        Only tasks whose assumption holds for the agent are of interest: elsewhere failing is no achievement.
        """
        points = np.concatenate([self.edges(), self.sampler.net()])
        pilots = len(points) * max(1, min(PILOTS, runs // 20))
        jobs = _jobs(agent, "adversarial", points, pilots)
        found = self.play([replace(job, pilot=True) for job in jobs], f"pilot against {agent}")
        scores = np.full(len(points), -np.inf)
        for outcome in found:
            point = _position(outcome.job.run, pilots, len(points))
            if outcome.holds or outcome.trust is None:
                # A violation outweighs any excess, and more of them outweigh fewer.
                scores[point] = max(scores[point], outcome.excess) + 1e3 * (outcome.violating > 0)
        return worst_tasks(points, lambda k: float(scores[k]), WORST)

    def play(self, jobs: list[Job], label: str) -> list[Outcome]:
        """Outcomes in the order of the jobs."""
        world = self.worlds["heavy" if jobs[0].scenario == "heavy" else "main"]
        settings = self.settings
        return self._share(lambda w, chunk: play_jobs(w, chunk, settings), world, jobs, label, list[Outcome])

    def procedures(self, scenario: str, agents: Sequence[str], runs: int) -> list[Attempt]:
        """``runs`` trainings and deployments per agent; nothing of the worlds is used."""
        settings = self.settings
        wanted = [(agent, run) for agent in agents for run in range(runs)]

        def work(world: World, chunk: Sequence[tuple[str, int]]) -> list[Attempt]:
            return [run_procedure(scenario, agent, run, settings) for agent, run in chunk]

        return self._share(work, self.worlds["main"], wanted, f"scenario {scenario}", list[Attempt])

    def calibrate(self, runs: int) -> list[MaxWealth]:
        """MaxWealth of true cells' wealth."""
        world, settings = self.worlds["main"], self.settings
        nulls, episodes = (
            find_nulls(world, self.sampler, runs, settings.seed),
            min(settings.episodes, CALIBRATION_EPISODES),
        )
        return self._share(
            lambda w, chunk: run_null(w, chunk, episodes, settings.seed), world, nulls, "calibration", list[MaxWealth]
        )

    def _share(
        self,
        work: Callable[[World, Sequence[Item]], list[Result]],
        world: World,
        items: Sequence[Item],
        label: str,
        returns: Any,
    ) -> list[Result]:
        chunks = [items[k : k + CHUNK] for k in range(0, len(items), CHUNK)]
        calls = [(world, chunk) for chunk in chunks]
        parts = self._run.map(
            label, work, calls, workers=self._workers, label=label, progress=self._progress, returns=returns
        )
        return [result for part in parts for result in part]


def _jobs(agent: str, scenario: str, points: FloatArray, runs: int) -> list[Job]:
    """Runs go through the points in blocks, so that neighbours share a task."""
    at = [_position(run, runs, len(points)) for run in range(runs)]
    return [Job(agent, scenario, run, tuple(points[k].tolist())) for run, k in enumerate(at)]


def _position(run: int, runs: int, points: int) -> int:
    return run * points // runs


def _describe(policy_set: PolicySet) -> dict[str, Any]:
    certificate = policy_set.certificate
    return {
        "hash": policy_set.hash,
        "family": policy_set.training.family,
        "cells": len(policy_set.cells),
        "policies": len(policy_set.policies),
        "cost_limits": policy_set.criterion.cost_limits.tolist(),
        "safe_margin": policy_set.safe_margin,
        "uncovered_upper_bound": None if certificate is None else certificate.uncovered_upper,
        "holdout": 0 if certificate is None else certificate.holdout,
    }
