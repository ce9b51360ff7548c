r"""Values by simulation, with intervals that hold at every number of episodes at once.

For outcomes ``x_1, x_2, ..`` in [0, 1], independent with mean mu, and a fraction ``0 < c < 1``,

    K_n(m; c) = prod_{t<=n} (1 - c + c (1 - x_t) / (1 - m))

is a nonnegative supermartingale that starts at 1 whenever ``mu >= m`` (:mod:`surefoot.stats.betting`). Its average over fractions
fixed beforehand increases in m and crosses ``2/alpha`` at ``U_n``; with the mirror image ``L_n``,

    P( L_n < mu < U_n for all n ) >= 1 - alpha                                                  (Ville, each side alpha/2).

The crossing is found by bisection on the outcomes themselves, not on a grid, and read on the outer side. Because the statement is about
all n at once, sampling may stop whenever an interval is narrow enough for its use, and intervals read at several n may be intersected.

One task has ``J (1+I+X)`` quantities; its level is split equally among them, so that all its intervals hold together. Where one batch of
episodes serves T tasks (families that differ in the reward only), each task has that level *by itself*, and the errors of different tasks are
dependent.

An episode that the simulator does not finish has an outcome that nobody knows, somewhere in the declared range. It counts as the upper end of the
range where upper ends are computed and as the lower end where lower ends are: both ends are monotone in every outcome, so they hold whatever the
outcome would have been.

Letters: T tasks, J policies, I constraints, X signals, Q = 1+I+X quantities of a policy, n episodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, as_floats, check_integer, check_real
from surefoot.deprecation import renamed_arguments
from surefoot.errors import InvalidInput, SimulationError
from surefoot.gym.family import GymFamily
from surefoot.gym.rollout import NUM_ENVS, Rollouts, RolloutWorker, Seed, join
from surefoot.kernels import compiled
from surefoot.parallel import iter_tasks, processes
from surefoot.stats.betting import BetGrid, bet_grid

if TYPE_CHECKING:
    from surefoot.gym.checkpoint import Checkpoint

__all__ = ["Estimated", "Estimates", "Widths", "episodes_for", "estimate", "interval", "interval_ends"]

FIRST = 32
"""Episodes before the first look."""
GROWTH, LARGEST_GROWTH = 1.25, 3.0
"""Looks are at least this factor apart, and at most."""
RESOLUTION = 1e-3
"""Bisection stops at this share of the distance from the mean: what is lost is lost on the safe side."""
GUARD = 1e-9
"""Added to the logarithm of the threshold: more than what rounding can add to a wealth of a million factors."""
REWARD_SHARE, COST_SHARE, SIGNAL_SHARE = 0.02, 0.05, 0.02


@dataclass(frozen=True)
class Widths:
    """How narrow intervals have to be before sampling stops.

    Attributes:
        reward: by default 2% of the range of an episode's return.
        cost: one number or I of them; by default 5% of each limit (of the range, where the limit is 0).
        signal: one number or X of them; by default 2% of each range.
    """

    reward: float | None = None
    cost: Any = None
    signal: Any = None

    def of(self, family: GymFamily) -> FloatArray:
        """(Q,) widths for a family.

        Raises:
            InvalidInput: a width that is not positive, or as many as there are no quantities.
        """
        low, high = family.ranges()
        n, limits, top = family.n_constraints, family.criterion.cost_limits, high - low
        reward = REWARD_SHARE * top[0] if self.reward is None else self.reward
        cost = COST_SHARE * np.where(limits > 0.0, limits, top[1 : 1 + n]) if self.cost is None else self.cost
        signal = SIGNAL_SHARE * top[1 + n :] if self.signal is None else self.signal
        parts = [
            _positive("reward_width", reward, 1),
            _positive("cost_width", cost, n),
            _positive("signal_width", signal, len(family.signals)),
        ]
        return np.concatenate(parts)


def _positive(name: str, value: Any, size: int) -> FloatArray:
    array = as_floats(name, np.broadcast_to(np.asarray(value), (size,)) if np.ndim(value) == 0 else value, (size,))
    if (array <= 0.0).any():
        raise InvalidInput(
            f"{name} must be positive, got {array.tolist()}; no number of episodes makes an interval that narrow",
            code="SF-ARGUMENT-RANGE",
        )
    return array


@dataclass(frozen=True, eq=False)
class Estimates:
    """Values of J policies in T tasks.

    Attributes:
        mean, lower, upper: (T, J, Q) return, costs, signals.
        deviation: (T, J, Q) standard deviations of single episodes.
        episodes: (T, J) spent.
        alpha: with probability at least ``1 - alpha`` all J Q intervals of a task hold, for each task.
        narrow: (T, J) whether sampling stopped because the intervals were narrow enough, not because the budget was spent.
        shared: whether all tasks were estimated from the same episodes, which ``episodes`` then counts once per task.
        failed: (T, J) episodes among them that the simulator did not finish.
        failure: what the first of these said, ``None`` where there is none.
    """

    mean: FloatArray
    lower: FloatArray
    upper: FloatArray
    deviation: FloatArray
    episodes: IntArray
    alpha: float
    narrow: np.ndarray[Any, np.dtype[np.bool_]]
    shared: bool
    failed: IntArray
    failure: str | None = None

    @property
    def widths(self) -> FloatArray:
        """(T, J, Q)."""
        return self.upper - self.lower

    @property
    def spent(self) -> int:
        """Episodes simulated."""
        return int(self.episodes[0].sum() if self.shared and len(self.episodes) else self.episodes.sum())

    def take(self, rows: Any) -> Estimates:
        """Some of the tasks."""
        names = ("mean", "lower", "upper", "deviation", "episodes", "narrow", "failed")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


@lru_cache(maxsize=1)
def _bets() -> BetGrid:
    """Fractions from a two-hundredth of the largest bet on: deviations near half the range at a hundred thousand outcomes."""
    return bet_grid(12, 0.005, tilt=0.5)


def interval(values: Any, low: float, high: float, alpha: float) -> tuple[float, float]:
    """Betting interval at error ``alpha`` for the mean of independent ``values`` (n,) in ``[low, high]``.

    >>> [round(end, 3) for end in interval([0.0, 1.0] * 200, 0.0, 1.0, 0.05)]
    [0.416, 0.584]
    """
    alpha = check_real("alpha", alpha, low=0.0, high=1.0, open_low=True, open_high=True)
    high = check_real("high", high, low=low, open_low=True)
    array = as_floats("values", values, (None,))
    if not array.size or array.min() < low or array.max() > high:
        raise InvalidInput(
            f"values must be at least one number in [{low:g}, {high:g}], got {array.size} numbers; check the range",
            code="SF-ARGUMENT-RANGE",
        )
    ends = interval_ends(np.ascontiguousarray(array[:, None]), np.array([low]), np.array([high]), alpha)
    return float(ends[0, 0]), float(ends[1, 0])


def interval_ends(values: FloatArray, low: FloatArray, high: FloatArray, alpha: float) -> FloatArray:
    """(2, q) lower and upper ends for the means of the columns of ``values`` (n, q)."""
    unit = np.clip((values - low) / (high - low), 0.0, 1.0)
    bets = _bets()
    out = np.empty((2, values.shape[1]))
    _intervals(np.ascontiguousarray(unit.T), math.log(2.0 / alpha) + GUARD, bets.fractions, bets.weights, out)
    return np.asarray(low + (high - low) * out)


@compiled
def _wealth(losses: FloatArray, odds: float, fractions: FloatArray, weights: FloatArray, threshold: float) -> bool:
    """Whether ``log sum_k w_k prod_t (1 - c_k + c_k losses_t odds)`` reaches the threshold; ``losses`` (n,) are ``1 - x``."""
    logs = np.empty(fractions.size)
    top = -np.inf
    for k in range(fractions.size):
        kept, scale, total, product = 1.0 - fractions[k], fractions[k] * odds, math.log(weights[k]), 1.0
        for t in range(losses.size):
            product *= kept + scale * losses[t]
            if product > 1e100 or product < 1e-100:
                total += math.log(product)
                product = 1.0
        logs[k] = total + math.log(product)
        if logs[k] >= threshold:
            return True
        top = max(top, logs[k])
    total = 0.0
    for k in range(fractions.size):
        total += math.exp(logs[k] - top)
    return bool(top + math.log(total) >= threshold)


@compiled
def _crossing(losses: FloatArray, fractions: FloatArray, weights: FloatArray, threshold: float) -> float:
    """``U``: where the wealth against means above m crosses the threshold, from above; 1 where nothing below is rejected."""
    below = 1.0 - losses.mean()
    above = 1.0
    if not _wealth(losses, 1e9, fractions, weights, threshold):
        return 1.0
    while above - below > RESOLUTION * (above - (1.0 - losses.mean())) and above - below > 1e-12:
        middle = 0.5 * (below + above)
        if _wealth(losses, 1.0 / (1.0 - middle), fractions, weights, threshold):
            above = middle
        else:
            below = middle
    return float(above)


@compiled
def _intervals(
    values: FloatArray, threshold: float, fractions: FloatArray, weights: FloatArray, out: FloatArray
) -> None:
    """Ends (2, q) for rows (q, n) in [0, 1]."""
    for q in range(values.shape[0]):
        out[1, q] = _crossing(1.0 - values[q], fractions, weights, threshold)
        out[0, q] = 1.0 - _crossing(values[q], fractions, weights, threshold)


@renamed_arguments(width="num_envs")
def estimate(
    family: GymFamily,
    parameters: Any,
    policies: Sequence[Any],
    *,
    alpha: float,
    seed: Seed,
    widths: Widths | None = None,
    max_episodes: int = 2000,
    failed_share: float = 0.0,
    workers: int = 1,
    num_envs: int = NUM_ENVS,
    label: str = "simulating",
    progress: bool = False,
    checkpoint: Checkpoint | None = None,
) -> Estimates:
    """Values of every policy in every task, each pair sampled until its intervals are narrow enough.

    Args:
        family: where the tasks come from.
        parameters: (T, p).
        policies: J of them.
        alpha: error probability of all intervals of one task together.
        seed: of all random draws.
        widths: what is narrow enough.
        max_episodes: budget per policy and task (per policy, where tasks share their episodes).
        failed_share: largest share of a policy's episodes in a task that the simulator may leave unfinished; 0: the first one is an error.
        workers: processes; they share tasks, or policies where there are few tasks or tasks share their episodes.
        num_envs: environments in lockstep.
        label: of the progress bar.
        progress: draw one where that makes sense.
        checkpoint: where results are kept as they come, and found again.

    Raises:
        SimulationError: an environment or a policy breaks a rule, or too many episodes fail.
    """
    failed_share = check_real("failed_share", failed_share, low=0.0, high=1.0, open_high=True)
    alpha = check_real("alpha", alpha, low=0.0, high=1.0, open_low=True, open_high=True)
    max_episodes = check_integer("max_episodes", max_episodes, low=1)
    workers = check_integer("workers", workers, low=1)
    points = np.asarray(parameters, dtype=np.float64).reshape(-1, family.n_parameters)
    goal = (Widths() if widths is None else widths).of(family)
    plan = _Plan(family, alpha / (len(policies) * goal.size), goal, max_episodes, seed, num_envs, failed_share)
    everyone, whole = list(range(len(policies))), len(points) >= 2 * processes(workers)
    groups = [everyone] if whole and not family.shared else [[j] for j in everyone]
    rows_of = [slice(0, len(points))] if family.shared else [slice(k, k + 1) for k in range(len(points))]
    units = [(rows, group) for rows in rows_of for group in groups]
    calls = [(plan, points[rows], rows.start, [policies[j] for j in group], group) for rows, group in units]
    keys = [plan.key(points[rows], rows.start, group, label) for rows, group in units]
    found = [None if checkpoint is None else checkpoint.get(key) for key in keys]
    missing = [k for k, one in enumerate(found) if one is None]
    several = workers if len(missing) > 1 else 1
    results = iter_tasks(_unit, [calls[k] for k in missing], workers=several, label=label, progress=progress)
    for k, one in zip(missing, results):
        found[k] = one
        if checkpoint is not None:
            checkpoint.put(keys[k], one)
    done = [one for one in found if one is not None]
    return _gather(plan, units, done, (len(points), len(policies)), alpha)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What every pair of a task and a policy shares; ``alpha`` is that of one interval."""

    family: GymFamily
    alpha: float
    widths: FloatArray
    budget: int
    seed: Seed
    num_envs: int
    failed_share: float

    def key(self, points: FloatArray, task: int, group: list[int], label: str) -> dict[str, Any]:
        """What decides the result of a unit, beside family and policies: plain data."""
        seed = list(self.seed) if isinstance(self.seed, tuple) else [self.seed]
        return {
            "label": label,
            "points": points.tolist(),
            "task": task,
            "policies": group,
            "alpha": self.alpha,
            "widths": self.widths.tolist(),
            "budget": self.budget,
            "seed": [int(k) for k in seed],
            "failed_share": self.failed_share,
        }


@dataclass(frozen=True, eq=False)
class Estimated:
    """One policy in the tasks that its episodes serve: mean, lower, upper, deviation (T, Q)."""

    mean: FloatArray
    lower: FloatArray
    upper: FloatArray
    deviation: FloatArray
    episodes: int
    narrow: bool
    failed: int = 0
    failure: str | None = None


def _unit(plan: _Plan, points: FloatArray, task: int, policies: list[Any], indices: list[int]) -> list[Estimated]:
    """Some policies in one task, or in all tasks that share their episodes."""
    points_served = points if plan.family.shared else None
    with RolloutWorker(plan.family, points[0], task=task, rewards_at=points_served, num_envs=plan.num_envs) as worker:
        return [_sample(plan, worker, policy, j) for j, policy in zip(indices, policies)]


def _sample(plan: _Plan, worker: RolloutWorker, policy: Any, index: int) -> Estimated:
    """Episodes of one policy until all its intervals are narrow, or the budget is spent."""
    parts: list[Rollouts] = []
    played, goal = 0, min(FIRST, plan.budget)
    lower, upper = np.array(-np.inf), np.array(np.inf)
    while True:
        tolerant = plan.failed_share > 0.0
        parts.append(worker.run(policy, index, seed=plan.seed, first=played, count=goal - played, tolerant=tolerant))
        played = goal
        outcomes, failed = _outcomes(parts)
        _check_failures(plan, worker, index, parts[0])
        needed = _episodes_needed(plan, outcomes)
        if played < plan.budget and needed > played * GROWTH:
            goal = min(plan.budget, math.ceil(min(needed, played * LARGEST_GROWTH)))
            continue
        ends = _pair_ends(plan, outcomes, failed)
        lower, upper = np.maximum(lower, ends[0]), np.minimum(upper, ends[1])
        # Disjoint intervals prove that one of them missed; that has its probability, and the last one is as good as any.
        crossed = lower > upper
        lower, upper = np.where(crossed, ends[0], lower), np.where(crossed, ends[1], upper)
        worst = float(((upper - lower) / plan.widths).max())
        if worst <= 1.0 or played == plan.budget:
            columns = np.concatenate([outcomes[0], outcomes[1]], axis=1)[~failed]
            mean, deviation = (_by_task(row, len(lower)) for row in (columns.mean(axis=0), columns.std(axis=0)))
            # Intersected intervals of different n may leave the last mean outside.
            return Estimated(
                np.clip(mean, lower, upper),
                lower,
                upper,
                deviation,
                played,
                worst <= 1.0,
                int(failed.sum()),
                parts[0].failure,
            )
        goal = min(plan.budget, math.ceil(played * min(LARGEST_GROWTH, max(GROWTH, 1.05 * worst**2))))


_Outcomes = tuple[FloatArray, FloatArray]
"""(n, T) returns and (n, I+X) the rest."""


def _outcomes(parts: list[Rollouts]) -> tuple[_Outcomes, Any]:
    """What n episodes came to, and which (n,) failed."""
    whole = join(parts)
    parts[:] = [whole]
    return (whole.returns.reshape(len(whole), -1), np.column_stack([whole.costs, whole.signals])), whole.failed


def _check_failures(plan: _Plan, worker: RolloutWorker, index: int, seen: Rollouts) -> None:
    """One failed episode is forgiven where any is; more only up to the declared share.

    Raises:
        SimulationError: there are more, or nothing else.
    """
    failed, n = int(seen.failed.sum()), len(seen)
    if failed > max(1.0, plan.failed_share * n) or failed == n:
        raise SimulationError(
            f"at most a share of {plan.failed_share:g} of a policy's episodes in a task may fail (failed_share), got {failed} of {n} "
            f"({failed / n:.1%}) for policy {index} at {worker.parameters.tolist()} of {worker.family.name}; first: {seen.failure}; mend the "
            "simulator, or raise failed_share: every failed episode counts as the worst and as the best that it could have been",
            code="SF-SIMULATION-FAILURES",
        )


def _by_task(row: FloatArray, tasks: int) -> FloatArray:
    """(T, Q) from T returns and what all tasks share."""
    return np.column_stack([row[:tasks], np.tile(row[tasks:], (tasks, 1))])


def _episodes_needed(plan: _Plan, outcomes: _Outcomes) -> float:
    low, high = plan.family.ranges()
    spread = np.r_[outcomes[0].std(axis=0).max(), outcomes[1].std(axis=0)]
    return float(episodes_for(plan.widths, spread, high - low, plan.alpha).max())


def episodes_for(width: FloatArray, deviation: FloatArray, span: FloatArray, alpha: float) -> FloatArray:
    """A rough number: a betting interval is about ``2 s sqrt(2.4 ln(2/alpha) / n) + 2 B ln(2/alpha) / n`` wide.

    It only decides when to look, and what is said about it; what is read then holds at every n.
    """
    log = math.log(2.0 / alpha)
    root = 2.0 * deviation * math.sqrt(2.4 * log)
    # Solve  width = root / sqrt(n) + line / n  for sqrt(n).
    line = span * log
    roots = (root + np.sqrt(root**2 + 4.0 * width * line)) / (2.0 * width)
    return np.asarray(0.9 * roots**2)


def _pair_ends(plan: _Plan, outcomes: _Outcomes, failed: Any) -> FloatArray:
    """(2, T, Q); failed episodes (n,) count as either end of the range, whichever makes the interval wider."""
    low, high = plan.family.ranges()
    if failed.any():
        sides = []
        for k, end in enumerate((low, high)):
            filled = [part.copy() for part in outcomes]
            filled[0][failed], filled[1][failed] = end[0], end[1:]
            sides.append(_pair_ends(plan, (filled[0], filled[1]), np.zeros(failed.size, dtype=bool))[k])
        return np.stack(sides)
    returns = interval_ends(outcomes[0], low[:1], high[:1], plan.alpha)
    rest = interval_ends(outcomes[1], low[1:], high[1:], plan.alpha)
    return np.concatenate([returns[:, :, None], np.repeat(rest[:, None, :], returns.shape[1], axis=1)], axis=2)


def _gather(
    plan: _Plan,
    units: list[tuple[slice, list[int]]],
    found: list[list[Estimated]],
    size: tuple[int, int],
    alpha: float,
) -> Estimates:
    """From what the units returned to (T, J, Q)."""
    parts = {name: np.empty((*size, plan.widths.size)) for name in ("mean", "lower", "upper", "deviation")}
    episodes, narrow = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.bool_)
    failed, first = np.zeros(size, dtype=np.int64), None
    for (rows, group), results in zip(units, found):
        for j, one in zip(group, results):
            for name, array in parts.items():
                array[rows, j] = getattr(one, name)
            episodes[rows, j], narrow[rows, j], failed[rows, j] = one.episodes, one.narrow, one.failed
            first = first or one.failure
    return Estimates(
        **parts, episodes=episodes, alpha=alpha, narrow=narrow, shared=plan.family.shared, failed=failed, failure=first
    )
