"""Tuning a small controller without derivatives: CMA-ES over a vector of its parameters.

For a vector x, ``make_policy(x)`` is a controller; with tasks z of a list,

    R(x) = mean_z V_r(x, z),        X(x) = max over z and constraints of  (V_c,i(x, z) - d'_i) / d'_i,        d' = share * d

Candidates that keep the limit on their episodes (``X <= 0``) rank before those that do not, the former by R, the latter by X. CMA-ES uses
ranks only, so this needs neither a multiplier nor the size of a penalty. One task in the list: oracle ``O_l`` (this is how to tune the PID
you run). Several tasks: one controller that meets the limit in the worst of them, oracle ``O_s``; give it a share below 1, which becomes
the margin.

All candidates of a generation meet the same chance (common random numbers), the next generation fresh one, and the winner is judged on fresh
episodes: the luckiest of many candidates is no estimate of its own value. Comes with an extra: ``pip install "surefoot[cma]"``.

Letters: T tasks, n numbers in x, I constraints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, as_floats, check_integer, check_real
from surefoot.errors import InvalidInput, MissingExtra
from surefoot.gym.family import GymFamily
from surefoot.gym.lagrange import Trained, evaluate_trained
from surefoot.gym.rollout import RolloutWorker
from surefoot.parallel import map_tasks, processes

try:
    import cma
except ModuleNotFoundError as error:
    raise MissingExtra("cma", "cma") from error

__all__ = ["Generation", "rank", "tune"]

MakePolicy = Callable[[FloatArray], Any]


@dataclass(frozen=True, eq=False)
class Generation:
    """How far the search is.

    Attributes:
        number: from 0.
        best: the leading candidate of the generation.
        reward: its mean return over tasks.
        excess: its ``X``, at most 0 where it kept the limit.
        spread: the search's current step size.
    """

    number: int
    best: FloatArray
    reward: float
    excess: float
    spread: float


def tune(
    family: GymFamily,
    make_policy: MakePolicy,
    start: Any,
    *,
    tasks: Any,
    seed: int,
    deviation: float = 0.3,
    bounds: tuple[Any, Any] | None = None,
    generations: int = 40,
    population: int | None = None,
    episodes: int = 8,
    judged_episodes: int = 200,
    share: float = 1.0,
    workers: int = 1,
    tell: Callable[[Generation], None] | None = None,
) -> Trained:
    """Search for the best controller that keeps the limits.

    Args:
        make_policy: ``make_policy(x)`` for a vector x of n numbers; with ``workers > 1`` it must be importable.
        start: (n,) where the search begins, e.g. the settings you run today.
        tasks: (T, p).
        deviation: size of the first steps, in the units of x; scale x so that one number fits all entries.
        bounds: ``(low, high)`` of x, scalars or (n,) each.
        generations, population: of the search; the default population is CMA-ES's own.
        episodes: of every candidate in every task.
        judged_episodes: fresh ones of the winner in every task.
        share: of the limit that the search may use.
        tell: called after every generation.

    Raises:
        InvalidInput: arguments outside their ranges.
        SimulationError: the environment or a candidate breaks a rule.
    """
    first = as_floats("start", np.atleast_1d(np.asarray(start, dtype=np.float64)), (None,))
    listed = as_floats("tasks", np.atleast_2d(np.asarray(tasks, dtype=np.float64)), (None, family.n_parameters))
    generations = check_integer("generations", generations, low=1)
    episodes = check_integer("episodes", episodes, low=1)
    deviation = check_real("deviation", deviation, low=0.0, open_low=True)
    if not 0.0 < share <= 1.0:
        raise InvalidInput(
            f"share must lie in (0, 1], got {share}; it is the part of the limit that the search may use",
            code="SF-ARGUMENT-RANGE",
        )
    began, steps = time.monotonic(), 0
    rng = np.random.default_rng(seed)
    search = _search(first, deviation, bounds, population, generations, int(rng.integers(1, 2**31)))
    winner = Generation(-1, first, -np.inf, np.inf, deviation)
    for number in range(generations):
        candidates = [np.asarray(x, dtype=np.float64) for x in search.ask()]
        rewards, costs, count = _measure(
            family, make_policy, candidates, listed, episodes, int(rng.integers(2**31)), workers
        )
        excess = _excess(costs, share * family.criterion.cost_limits)
        order = rank(rewards, excess)
        search.tell(candidates, order.astype(float).tolist())
        lead = int(np.argmin(order))
        steps += count
        winner = Generation(number, candidates[lead], float(rewards[lead]), float(excess[lead]), float(search.sigma))
        if tell is not None:
            tell(winner)
        if search.stop():
            break
    # The centre of the search has averaged over many generations' chance, the last leader was lucky in one.
    finalists = [np.asarray(search.result.xfavorite, dtype=np.float64), winner.best]
    rewards, costs, count = _measure(
        family, make_policy, finalists, listed, 4 * episodes, int(rng.integers(2**31)), workers
    )
    chosen = finalists[int(np.argmin(rank(rewards, _excess(costs, share * family.criterion.cost_limits))))]
    return evaluate_trained(
        family,
        make_policy(chosen),
        listed,
        episodes=judged_episodes,
        seed=int(rng.integers(2**31)),
        workers=workers,
        steps=steps + count,
        seconds=time.monotonic() - began,
    )


def rank(rewards: FloatArray, excess: FloatArray) -> Any:
    """(n,) 0 for the best: first those without excess by reward, then the others by excess."""
    order = np.lexsort((np.where(excess <= 0.0, -rewards, excess), excess > 0.0))
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return places


def _search(
    start: FloatArray, deviation: float, bounds: Any, population: int | None, generations: int, seed: int
) -> Any:
    if len(start) < 2:
        raise InvalidInput(
            f"start must have at least 2 entries, got {len(start)}; CMA-ES needs a plane, add a second parameter",
            code="SF-ARGUMENT-LENGTH",
        )
    options: dict[str, Any] = {"seed": seed, "verbose": -9, "maxiter": generations}
    if population is not None:
        options["popsize"] = check_integer("population", population, low=4)
    if bounds is not None:
        options["bounds"] = [np.broadcast_to(end, start.shape).astype(float).tolist() for end in bounds]
    return cma.CMAEvolutionStrategy(start.tolist(), deviation, options)


def _measure(
    family: GymFamily,
    make_policy: MakePolicy,
    candidates: Sequence[FloatArray],
    tasks: FloatArray,
    episodes: int,
    seed: int,
    workers: int,
) -> tuple[FloatArray, FloatArray, int]:
    """Mean returns (n,), costs (n, T, I) and the number of steps of all candidates, under the same chance."""
    many = processes(workers)
    if many == 1:
        parts = [_one_task(family, make_policy, candidates, task, k, episodes, seed) for k, task in enumerate(tasks)]
        table, steps = np.stack([part[0] for part in parts], axis=1), sum(part[1] for part in parts)
        return table[:, :, 0].mean(axis=1), table[:, :, 1:], steps
    chunks = [list(chunk) for chunk in np.array_split(np.stack(candidates), min(many, len(candidates)))]
    calls = [(family, make_policy, chunk, tasks, episodes, seed, 1) for chunk in chunks]
    measured = map_tasks(_measure, calls, workers=workers)
    return (
        np.concatenate([p[0] for p in measured]),
        np.concatenate([p[1] for p in measured]),
        sum(p[2] for p in measured),
    )


def _one_task(
    family: GymFamily,
    make_policy: MakePolicy,
    candidates: Sequence[FloatArray],
    task: FloatArray,
    k: int,
    episodes: int,
    seed: int,
) -> tuple[FloatArray, int]:
    """(n, 1+I) mean outcomes of the candidates in one task, and the steps they took."""
    rows, steps = [], 0
    with RolloutWorker(family, task, task=k) as worker:
        for x in candidates:
            # Every candidate runs as number 0, which is what makes their chance the same.
            done = worker.run(make_policy(x), 0, seed=seed, first=0, count=episodes)
            rows.append(done.outcomes()[:, : 1 + family.n_constraints].mean(axis=0))
            steps += int(done.lengths.sum())
    return np.stack(rows), steps


def _excess(costs: FloatArray, limits: FloatArray) -> FloatArray:
    """(n,) largest share of a limit by which (n, T, I) mean costs exceed it; limits of 0 count in absolute terms."""
    return np.asarray(((costs - limits) / np.where(limits > 0.0, limits, 1.0)).max(axis=(1, 2)))
