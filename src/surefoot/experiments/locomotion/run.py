"""What the locomotion experiment runs (Ni & Kamgarpour 2026, Appendix H.2, Figure 4).

    library (shipped, or trained)  ->  cells by simulation, hold-out  ->  20 test tasks x agents  ->  logs

Continuous tasks have no exact values. What every library policy is worth in every test task is therefore *judged* beforehand, from many fresh
episodes that no agent ever sees, and a deployed mixture w is worth ``sum_j w_j V(pi_j)``. The judgement of the default test tasks
ships with the library, for it takes far longer than the experiment; any other is made anew.

The rows that belong beside every curve:

* ``oracle``: the best mixture of the library within the limits of the real task, by its judged values;
* ``always-safe``: the safe policy for ever;
* ``robust-fixed``: the one mixture that is best on average over the cells among those within the limits in every cell.

Letters: T tasks, p parameters, J policies, I constraints, N cells, K episodes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from surefoot.arrays import FloatArray, check_integer, check_real
from surefoot.errors import InvalidInput
from surefoot.experiments.comparison import (
    Comparison,
    comparison_header,
    fresh_tasks,
    new_directory,
    write_comparison,
)
from surefoot.experiments.locomotion.families import locomotion
from surefoot.experiments.locomotion.library import DAMAGED_ARRAYS, load_library, train_library
from surefoot.experiments.registry import AgentContext, AgentOptions, make_agent
from surefoot.gym.family import GymFamily
from surefoot.gym.pipeline import train_simulated
from surefoot.gym.play import BLOCK, EpisodeCache, Trace, evaluate_policy, play_gym
from surefoot.gym.values import Widths
from surefoot.policyset.schema import PolicySet
from surefoot.progress import track
from surefoot.stats.bootstrap import mean_over_tasks

__all__ = ["DEFAULT_AGENTS", "SHIPPED_TASKS", "Judgement", "make_judgement", "make_policy_set", "reproduce", "ship"]

Source = Literal["shipped", "cells", "all"]

DEFAULT_AGENTS = (
    "oracle", "always-safe", "robust-fixed", "safe-pce:theory", "safe-pce:published", "pce",
    "certified:cells", "certified:envelope", "certified:data",
)  # fmt: skip
SHIPPED_TASKS, SHIPPED_SEED = 20, 0
JUDGED_EPISODES = 10_000
CACHE_STREAM, JUDGE_STREAM = 0xBA11, 0x70D6E


@dataclass(frozen=True, eq=False)
class LocomotionSettings:
    """How the cells of one family are made.

    Attributes:
        tasks, holdout, cells: as in :func:`surefoot.gym.pipeline.train_simulated`.
        widths: of simulated intervals.
        max_episodes: per policy, and per task where tasks do not share episodes.
        cover: which tasks are neighbours.
        members: which policies of the library; all by default.
        p_max: what share of the family the agent accepts to be uncovered.
        banks: how many repeats of a test task meet real episodes of their own, which have to be simulated; later ones meet the first ones'
            again, in another order.
    """

    tasks: int
    holdout: int
    cells: int
    widths: Widths
    max_episodes: int
    cover: Literal["values", "parameters"]
    members: tuple[int, ...] | None = None
    p_max: float = 0.05
    banks: int = 4


SETTINGS = {
    "hopper": LocomotionSettings(400, 300, 40, Widths(reward=1.5, cost=0.3, signal=0.05), 800, "parameters"),
    "half-cheetah": LocomotionSettings(400, 300, 40, Widths(reward=1.5, cost=0.3, signal=0.05), 2000, "parameters"),
    # Every task needs episodes of its own: five policies, a small hold-out, and a larger uncovered share than one would like.
    "half-cheetah-dynamics": LocomotionSettings(
        24, 60, 10, Widths(reward=10.0, cost=3.0, signal=0.3), 120, "values", (0, 2, 4, 6, 8), 0.15, 1
    ),
}
"""Chosen on training tasks alone."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """What the library's policies are worth in T test tasks.

    Attributes:
        parameters: (T, p).
        mean, lower, upper: (T, J, 1+I) with intervals that hold together, per task, at error .001.
        episodes: fresh episodes per policy and task.
        policies: digest of the policies that were judged.
    """

    parameters: FloatArray
    mean: FloatArray
    lower: FloatArray
    upper: FloatArray
    episodes: int
    policies: str

    def save(self, path: Path) -> None:
        """Plain arrays."""
        arrays: dict[str, Any] = {name: np.asarray(getattr(self, name)) for name in self.__dataclass_fields__}
        np.savez_compressed(path, **arrays)

    @staticmethod
    def load(path: Path) -> Judgement:
        """Read plain arrays.

        Raises:
            InvalidInput: no judgement.
        """
        try:
            with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                parts = {name: file[name] for name in Judgement.__dataclass_fields__}
            return Judgement(**{**parts, "episodes": int(parts["episodes"]), "policies": str(parts["policies"])})
        except DAMAGED_ARRAYS as error:
            raise InvalidInput(
                f"path must be a judgement, got {path}: {error}; make it again", code="SF-RECORD-UNREADABLE"
            ) from error


def reproduce(
    out: str | Path,
    *,
    env: str = "hopper",
    agents: Sequence[str] = DEFAULT_AGENTS,
    tasks: int = SHIPPED_TASKS,
    repeats: int = 1,
    episodes: int = 1000,
    delta: float = 0.05,
    source: Source = "shipped",
    judged: int | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Run the experiment and write its logs into the new directory ``out``; returns the summary.

    Args:
        out: new directory.
        env: a name in :data:`surefoot.experiments.locomotion.families.LOCOMOTION`.
        agents: names of rows.
        tasks: fresh test tasks.
        repeats: how often each test task is met, with chance of its own.
        episodes: K.
        delta: error probability of the deployment.
        source: ``shipped`` policies and cells; ``cells`` simulates the cells of the shipped policies anew; ``all`` trains policies too.
        judged: fresh episodes per policy and test task that decide what mixtures are worth. By default what ships with the default test
            tasks, and 10 000 for others.
        seed: of all random draws.
        workers: processes that simulate.
        progress: draw progress bars where that makes sense.

    Raises:
        InvalidInput: an argument out of range, an unknown agent or family.
        MissingExtra: MuJoCo, or what trains policies, is not installed.
        OutputExists: ``out`` is there already.
    """
    family = locomotion(env)
    _check(agents, tasks, repeats, episodes, delta, source, judged)
    directory = new_directory(out)
    began = time.perf_counter()
    policy_set = make_policy_set(family, source, seed=seed, workers=workers, progress=progress)
    policy_set.save(directory / "policy-set.sf")
    seconds = time.perf_counter() - began
    points = fresh_tasks(family, tasks, seed)  # type: ignore[arg-type]
    verdict = make_judgement(family, policy_set, points, judged, seed=seed, workers=workers, progress=progress)
    verdict.save(directory / "judged.npz")
    found = _play(family, policy_set, verdict, agents, repeats, episodes, delta, seed, workers, progress)
    header = comparison_header(f"locomotion:{env}", family, policy_set, found, delta=delta, seed=seed, seconds=seconds)  # type: ignore[arg-type]
    header["judged"] = _described(verdict)
    header["distinct_banks"] = min(repeats, SETTINGS[env].banks)
    summary = write_comparison(directory, found, header)
    return _with_judgement(directory, summary, found, verdict, repeats)


def _check(
    agents: Sequence[str], tasks: int, repeats: int, episodes: int, delta: float, source: str, judged: int | None
) -> None:
    for name, value in (("tasks", tasks), ("repeats", repeats), ("episodes", episodes)):
        check_integer(name, value, low=1)
    delta = check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
    if judged is not None:
        judged = check_integer("judged", judged, low=100)
    if source not in ("shipped", "cells", "all"):
        raise InvalidInput(
            f"source must be one of shipped, cells, all, got {source!r}; choose one", code="SF-ARGUMENT-CHOICE"
        )
    if not agents or len(set(agents)) < len(agents):
        raise InvalidInput(
            f"agents must be distinct names, got {list(agents)}; list every agent once", code="SF-ARGUMENT-DISTINCT"
        )
    for name in agents:
        if name not in FIXED and name not in LEARNERS:
            raise InvalidInput(
                f"agent must be one of {', '.join([*FIXED, *LEARNERS])}, got {name!r}; choose among these",
                code="SF-ARGUMENT-CHOICE",
            )


# ------------------------------------------------------------------------------------------------- what is prepared


def shipped(name: str) -> Any:
    """Context manager for the path of a file that ships with the library."""
    return resources.as_file(resources.files("surefoot.experiments.locomotion") / "data" / name)


def make_policy_set(
    family: GymFamily, source: Source = "shipped", *, seed: int = 0, workers: int = 1, progress: bool = True
) -> PolicySet:
    """The policy set that ships with a family, or one made anew from shipped or freshly trained policies."""
    if source == "shipped":
        with shipped(f"{family.name}.sf") as path:
            if not path.exists():
                raise InvalidInput(
                    f"source must be cells or all for {family.name}, got 'shipped', and no cells ship with it; on the command line: --train cells",
                    code="SF-ARGUMENT-COMBINATION",
                )
            return PolicySet.load(path)
    library = load_library(family.name) if source == "cells" else train_library(family.name, seed=seed).policies
    how = SETTINGS[family.name]
    if how.members is not None:
        library = tuple(library[j] for j in how.members)
    return train_simulated(
        family, library, tasks=how.tasks, holdout=how.holdout, cells=how.cells, widths=how.widths, max_episodes=how.max_episodes,
        cover=how.cover, strict=False, seed=seed, workers=workers, progress=progress,
    )  # fmt: skip


def make_judgement(
    family: GymFamily,
    policy_set: PolicySet,
    points: FloatArray,
    judged: int | None = None,
    *,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> Judgement:
    """What the policies are worth in test tasks (T, p); what ships is used where it fits and nothing else is asked for."""
    digest = _digest(policy_set)
    if judged is None:
        with shipped(f"{family.name}-judged.npz") as path:
            ready = Judgement.load(path) if path.exists() else None
        if ready is not None and ready.policies == digest and np.array_equal(ready.parameters, points):
            return ready
    n, i = judged or JUDGED_EPISODES, 1 + family.n_constraints
    found = evaluate_policy(
        family, points, policy_set.policies, episodes=n, seed=(seed, JUDGE_STREAM), workers=workers, progress=progress
    )
    mean, lower, upper = (part[:, :, :i] for part in (found.mean, found.lower, found.upper))
    return Judgement(points, mean, lower, upper, n, digest)


def ship(
    env: str,
    folder: Path,
    *,
    judged: int = JUDGED_EPISODES,
    workers: int = 1,
    seed: int = SHIPPED_SEED,
    progress: bool = True,
) -> None:
    """Make the files that ship with a family, from its shipped policies: cells and the judgement of the default test tasks."""
    family = locomotion(env)
    policy_set = make_policy_set(family, "cells", seed=seed, workers=workers, progress=progress)
    policy_set.save(folder / f"{env}.sf")
    points = fresh_tasks(family, SHIPPED_TASKS, seed)  # type: ignore[arg-type]
    verdict = make_judgement(family, policy_set, points, judged, seed=seed, workers=workers, progress=progress)
    verdict.save(folder / f"{env}-judged.npz")


def _digest(policy_set: PolicySet) -> str:
    """Of the policies alone, whatever their cells."""
    from hashlib import sha256

    found = sha256()
    for policy in policy_set.policies:
        for name in sorted(f.name for f in fields(policy)):  # type: ignore[arg-type]
            value = getattr(policy, name)
            for part in value if isinstance(value, tuple) else (value,):
                found.update(
                    np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode()
                )
    return found.hexdigest()


# ------------------------------------------------------------------------------------------------------------- rows


def _oracle(policy_set: PolicySet, values: FloatArray) -> FloatArray:
    """(J,) the best mixture within the limits of the real task, by judged values (J, 1+I)."""
    return _best(values[:, 0], values[None, :, 1:], policy_set.criterion.cost_limits)


def _always_safe(policy_set: PolicySet, values: FloatArray) -> FloatArray:
    return _only_safe(len(policy_set.policies))


def _robust(policy_set: PolicySet, values: FloatArray) -> FloatArray:
    """(J,) the mixture that is best on average over cells and within the limits in all of them."""
    cells = policy_set.cells.predictions
    return _best(cells.reward_center.mean(axis=0), cells.cost_upper, policy_set.criterion.cost_limits)


def _best(reward: FloatArray, cost: FloatArray, limits: FloatArray) -> FloatArray:
    """(J,) mixture of largest reward (J,) within the limits in every row of costs (H, J, I); the safe policy where there is none."""
    from scipy.optimize import linprog

    matrix = cost.transpose(0, 2, 1).reshape(-1, reward.size)
    found = linprog(-reward, A_ub=matrix, b_ub=np.tile(limits, len(cost)), A_eq=np.ones((1, reward.size)), b_eq=[1.0])
    if found.status != 0:
        return _only_safe(reward.size)
    weights: FloatArray = np.clip(found.x, 0.0, None)
    weights /= weights.sum()
    return weights


def _only_safe(size: int) -> FloatArray:
    weights = np.zeros(size)
    weights[0] = 1.0
    return weights


FIXED: dict[str, Callable[[PolicySet, FloatArray], FloatArray]] = {
    "oracle": _oracle,
    "always-safe": _always_safe,
    "robust-fixed": _robust,
}
"""Rows that play one mixture for ever."""


LEARNERS = (
    "safe-pce:theory", "safe-pce:published", "pce", "certified:cells", "certified:envelope", "certified:data",
)  # fmt: skip
"""Rows that learn: names in the registry."""


def agent_context(policy_set: PolicySet, episodes: int, delta: float, seed: int) -> AgentContext:
    """What agents are made from: no models, returns and costs as the only evidence, the constants of the authors' locomotion code."""
    options = AgentOptions(
        evidence="returns", p_max=SETTINGS[policy_set.training.family].p_max, published="locomotion", eps=_radius(policy_set)
    )  # fmt: skip
    return AgentContext(None, policy_set, policy_set, None, episodes, delta, seed, options)


def _radius(policy_set: PolicySet) -> float:
    """The cover's radius in the units of the proof: the largest difference of rewards, in units of their range.

    Tasks that differ in the dynamics are at distance 1 from each other, for all the proof can know.
    """
    cells, (low, high) = policy_set.cells.parameters, policy_set.criterion.reward_bounds
    if policy_set.training.parameter_names != ("target speed",):
        return 1.0
    ordered = np.sort(cells[:, 0])
    gap = float(np.diff(ordered).max(initial=0.0)) / 2.0 if ordered.size > 1 else high - low
    return max(gap / (high - low), 1e-9)


# ------------------------------------------------------------------------------------------------------------- play


def _play(
    family: GymFamily,
    policy_set: PolicySet,
    verdict: Judgement,
    agents: Sequence[str],
    repeats: int,
    episodes: int,
    delta: float,
    seed: int,
    workers: int,
    progress: bool,
) -> Comparison:
    """Every agent on every task; agents with the same number meet the same episodes in the same order."""
    points = verdict.parameters
    traces: dict[str, list[Any]] = {name: [] for name in agents}
    notes: dict[str, list[str]] = {name: [] for name in agents}
    jobs = [(k, r) for k in range(len(points)) for r in range(repeats)]
    banks, blocks = SETTINGS[family.name].banks, -(-episodes // BLOCK)
    shared = (
        EpisodeCache(family, points, policy_set.policies, seed=(seed, CACHE_STREAM), workers=workers)
        if family.shared
        else None
    )
    cache, at = shared, -1
    for number, (k, repeat) in enumerate(track(jobs, "playing", len(jobs), show=progress)):
        if shared is None and k != at:
            cache, at = (
                EpisodeCache(
                    family, points[k], policy_set.policies, seed=(seed, CACHE_STREAM), workers=workers, task=k
                ),
                k,
            )
        chance, draws = (int(s.generate_state(1)[0]) for s in np.random.SeedSequence([seed, number]).spawn(2))
        for name in agents:
            if name in FIXED:
                traces[name].append(_constant(FIXED[name](policy_set, verdict.mean[k]), verdict.mean[k], episodes))
                continue
            agent = make_agent(name, agent_context(policy_set, episodes, delta, draws))
            trace = play_gym(
                agent, cache, episodes=episodes, seed=chance, values=verdict.mean[k], task=0 if shared is None else k,  # type: ignore[arg-type]
                first_block=repeat % banks * blocks,
            )  # fmt: skip
            traces[name].append(trace)
            notes[name] += [note for note in getattr(agent, "notes", ()) if note not in notes[name]]
    rows = np.repeat(np.arange(len(points)), repeats)
    optima = np.array([_oracle(policy_set, values) @ values[:, 0] for values in verdict.mean])
    return Comparison(points[rows], optima[rows], family.criterion.cost_limits, episodes, traces, notes)


def _constant(weights: FloatArray, values: FloatArray, episodes: int) -> Trace:
    worth = weights @ values
    return Trace(np.array([episodes]), worth[None, 0], worth[None, 1:], np.array([1.0 - weights[0]]), 0.0, 0.0)


def _described(verdict: Judgement) -> dict[str, Any]:
    """How sure the judgement is."""
    half = 0.5 * (verdict.upper - verdict.lower)
    return {
        "episodes": verdict.episodes,
        "largest_half_width_reward": float(half[:, :, 0].max()),
        "largest_half_width_cost": float(half[:, :, 1:].max(initial=0.0)),
        "error_per_task": 0.001,
    }


def _with_judgement(
    directory: Path, summary: dict[str, Any], found: Comparison, verdict: Judgement, repeats: int
) -> dict[str, Any]:
    """Add what is lost per episode, with a bootstrap interval over tasks, and how many episodes violate even at the lower end of the judged costs.

    A mixture's judged cost is an estimate: right at the limit, half of all safe mixtures would be called violating by it.
    """
    for name, traces in found.traces.items():
        room = [
            (verdict.mean - verdict.lower)[k // repeats, :, 1:].max(axis=0, initial=0.0) for k in range(len(traces))
        ]
        summary["agents"][name]["surely_violating_episodes"] = [
            t.violating(found.limits + more) for t, more in zip(traces, room)
        ]
        regret = [float(t.regret(best, t.ends[-1:])[0]) / found.episodes for t, best in zip(traces, found.optima)]
        tasks = [k // repeats for k in range(len(traces))]
        mean, low, high = mean_over_tasks(np.array(regret), tasks)
        summary["agents"][name]["lost_per_episode"] = {"mean": mean, "lower": low, "upper": high}
    (directory / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return summary
