"""What ``surefoot reproduce lower-bound`` runs: episodes needed on the hard instance as one factor at a time varies.

*What is measured.* R runs per setting; their tasks go through ``0 .. C-1`` evenly, as D is uniform. With ``n_r`` the number of episodes after
which run r deploys nothing but mixtures that are eps-optimal and feasible (judged exactly, up to the end of the run), the number for the setting
is the smallest n with

    #{r : n_r <= n} >= (1 - delta) R,

with a bootstrap interval over runs, drawn within tasks. A run whose last mixture is not good is *censored*; where more than ``delta R`` runs are,
so is the number. ``delta`` must be below ``1/C``, as in the theorem: otherwise a task could be given up.

*What is computed.* Agents with the constants of the proofs need more episodes than can be played: their number is that of the noise-free schedule
(:func:`~surefoot.experiments.lower_bound.analytic.noise_free_episodes`), task by task, with the same quantile. They are labelled ``computed``.

*Fits.* Least squares in log-log coordinates over the levels of one factor, everything else at the base setting. The interval comes from the
same bootstrap.

Letters: R runs, C tasks.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_integer, check_real
from surefoot.errors import InvalidInput
from surefoot.experiments.comparison import check_comparison
from surefoot.experiments.lower_bound.analytic import (
    cover_radius,
    information_floor,
    noise_free_episodes,
    theorem_episodes,
    upper_bound_episodes,
)
from surefoot.experiments.lower_bound.listed import listed_set
from surefoot.experiments.registry import AgentContext, make_agent
from surefoot.experiments.run_directory import RunDirectory
from surefoot.experiments.runner import LARGEST_BATCH, VIOLATION_TOLERANCE, Trace, play
from surefoot.policyset.schema import PolicySet
from surefoot.tasks.hard_instance import HardInstance
from surefoot.version import VERSION

__all__ = ["DEFAULT_AGENTS", "FACTORS", "Levels", "Setting", "reproduce"]

DEFAULT_AGENTS = ("certified:cells", "safe-pce:theory", "pce:theory")
FACTORS = {"accuracy": -2.0, "margin": -2.0, "tasks": 1.0, "horizon": 4.0}
"""What varies, and the theorem's exponent of it in episodes."""
COMPUTED = {"safe-pce": True, "safe-pce:theory": True, "pce:theory": False}
"""Agents whose numbers are computed, and whether they start at the safe policy."""
SCALE = 0.4
CHUNK = 4
REPLICATES = 2000
CONFIDENCE = 0.95
BATCHES = 100
"""Batches grow up to a run's length over this: what is measured is rounded up to a batch."""


@dataclass(frozen=True)
class Setting:
    """One hard instance.

    Attributes:
        accuracy: ``eps``.
        margin: ``xi``.
        tasks: C.
        horizon: ``1/(1-gamma)``.
    """

    accuracy: float = 0.15
    margin: float = 0.5
    tasks: int = 4
    horizon: float = 10.0

    def family(self) -> HardInstance:
        """The instance, in the smallest tree; its values do not depend on the depth.

        Raises:
            InvalidInput: numbers that no instance has.
        """
        object.__setattr__(self, "tasks", check_integer("tasks", self.tasks, low=2))
        object.__setattr__(self, "horizon", check_real("horizon", self.horizon, low=1.0, open_low=True))
        return HardInstance(
            depth=math.ceil(math.log2(self.tasks)), margin=self.margin, accuracy=self.accuracy,
            discount=1.0 - 1.0 / self.horizon, tasks=self.tasks, scale=SCALE,
        )  # fmt: skip


@dataclass(frozen=True)
class Levels:
    """What varies, one at a time, around a base.

    Attributes:
        base: where the others stay.
        accuracy, margin, tasks, horizon: levels of each factor; the base need not be among them.
    """

    base: Setting = field(default_factory=Setting)
    accuracy: tuple[float, ...] = (0.3, 0.2, 0.15, 0.1)
    margin: tuple[float, ...] = (1.0, 0.7, 0.5, 0.35)
    tasks: tuple[int, ...] = (4, 8, 16)
    horizon: tuple[float, ...] = (5.0, 7.0, 10.0, 14.0)

    def sweeps(self) -> dict[str, list[Setting]]:
        """Settings by factor, in the order of the levels.

        Raises:
            InvalidInput: fewer than two distinct levels of a factor.
        """
        found = {}
        for factor in FACTORS:
            values = getattr(self, factor)
            if len(set(values)) < 2:
                raise InvalidInput(
                    f"{factor} must have two levels or more for a slope, got {list(values)}; add some",
                    code="SF-ARGUMENT-EMPTY",
                )
            found[factor] = [replace(self.base, **{factor: value}) for value in dict.fromkeys(values)]
        return found


def reproduce(
    out: str | Path,
    *,
    agents: Sequence[str] = DEFAULT_AGENTS,
    levels: Levels | None = None,
    runs: int = 40,
    delta: float = 0.05,
    share: float = 0.025,
    shortest: int = 50_000,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Run the experiment and write its logs into the new directory ``out``; returns the summary.

    Args:
        out: new directory.
        agents: names from the registry.
        levels: what varies.
        runs: R, per measured agent and setting.
        delta: error probability, of agents and of the measurement.
        share: length of a run, as a share of the theorem's expression with constant 1.
        shortest: length of a run where that is less.
        seed: of all random draws.
        workers: processes; the result does not depend on it.
        progress: draw a progress bar where that makes sense.

    Raises:
        InvalidInput: an argument out of range, an unknown agent, or a level that no instance has.
        OutputExists: ``out`` is there already.
    """
    check_comparison(agents, 1)
    for name, value in (("runs", runs), ("shortest", shortest), ("workers", workers)):
        check_integer(name, value, low=1)
    seed = check_integer("seed", seed, low=0)
    share = check_real("share", share, low=0.0, open_low=True)
    sweeps = (levels or Levels()).sweeps()
    settings = list(dict.fromkeys(s for group in sweeps.values() for s in group))
    largest = max(s.tasks for s in settings)
    delta = check_real("delta", delta, low=0.0, high=1.0 / largest, open_low=True, open_high=True)
    plan = _Plan([s.family() for s in settings], runs, delta, share, shortest, seed)
    decisive = {
        "experiment": "lower-bound", "agents": list(agents), "levels": asdict(levels or Levels()), "runs": runs, "delta": delta, "share": share,
        "shortest": shortest, "seed": seed,
    }  # fmt: skip
    with RunDirectory(out, decisive) as run:
        return _run(run, plan, sweeps, settings, agents, workers, progress)


def _run(
    run: RunDirectory, plan: _Plan, sweeps: dict[str, list[Setting]], settings: list[Setting], agents: Sequence[str], workers: int, progress: bool
) -> dict[str, Any]:  # fmt: skip
    """Measure what is measured, compute the rest, and write both."""
    began = time.perf_counter()
    measured = {name: plan.measure(name, run, workers, progress) for name in agents if name not in COMPUTED}
    rows = [plan.row(k, s, agents, measured) for k, s in enumerate(settings)]
    summary = {
        "schema": 1,
        "experiment": "lower-bound",
        "version": VERSION,
        "seed": plan.seed,
        "runs": plan.runs,
        "delta": plan.delta,
        "confidence": CONFIDENCE,
        "share": plan.share,
        "shortest": plan.shortest,
        "scale": SCALE,
        "agents": {name: "computed" if name in COMPUTED else "measured" for name in agents},
        "factors": {factor: {"theorem": exponent} for factor, exponent in FACTORS.items()},
        "settings": rows,
        "sweeps": {factor: [settings.index(s) for s in group] for factor, group in sweeps.items()},
        "fits": _fits(plan, settings, sweeps, rows, measured),
        "seconds": time.perf_counter() - began,
    }
    _write(run.path, summary, plan, measured)
    return summary


@dataclass(frozen=True, eq=False)
class _Measured:
    """One agent on all settings.

    Attributes:
        settled: (settings, R) episodes after which everything deployed is good; infinite where censored.
        violating: (settings, R) whether a run ever deployed an infeasible mixture.
        seconds: wall time of its runs.
    """

    settled: FloatArray
    violating: FloatArray
    seconds: float


@dataclass(frozen=True, eq=False)
class _Plan:
    """Families in the order of the settings, and how they are played."""

    families: list[HardInstance]
    runs: int
    delta: float
    share: float
    shortest: int
    seed: int

    def episodes(self, k: int) -> int:
        """Length of a run."""
        return max(self.shortest, math.ceil(self.share * theorem_episodes(self.families[k])))

    def tasks(self, k: int) -> IntArray:
        """(R,) numbers of the runs' tasks."""
        return np.arange(self.runs, dtype=np.int64) % self.families[k].n_tasks

    def measure(self, name: str, run: RunDirectory, workers: int, progress: bool) -> _Measured:
        """Play one agent everywhere."""
        # Longest first: the last job decides when all are done.
        order = sorted(range(len(self.families)), key=self.episodes, reverse=True)
        jobs = [(k, range(r, min(r + CHUNK, self.runs))) for k in order for r in range(0, self.runs, CHUNK)]
        calls = [(name, self.families[k], k, chunk, self.episodes(k), self.delta, self.seed) for k, chunk in jobs]
        parts = run.map(name, _play, calls, workers=workers, label=name, progress=progress, batch_size=1)
        settled, violating = np.empty((2, len(self.families), self.runs))
        for (k, chunk), part in zip(jobs, parts):
            settled[k, chunk.start : chunk.stop], violating[k, chunk.start : chunk.stop] = part[:, 0], part[:, 1]
        return _Measured(settled, violating, float(sum(part[:, 2].sum() for part in parts)))

    def row(self, k: int, setting: Setting, agents: Sequence[str], measured: dict[str, _Measured]) -> dict[str, Any]:
        """Everything about one setting."""
        family = self.families[k]
        return {
            **asdict(setting),
            "discount": family.discount,
            "loop_probabilities": list(family.loop_probabilities),
            "theorem": theorem_episodes(family),
            "upper_bound": upper_bound_episodes(family, self.delta),
            "floor": information_floor(family, self.delta),
            "agents": {
                name: self._computed(k, COMPUTED[name]) if name in COMPUTED else self._measured(k, measured[name])
                for name in agents
            },
        }

    def _computed(self, k: int, safe_start: bool) -> dict[str, Any]:
        family = self.families[k]
        policy_set = _policy_set(family, self.delta)
        counts = [
            noise_free_episodes(
                policy_set, family.cmdp(task), _Good.of(family, task), delta=self.delta, safe_start=safe_start
            )
            for task in range(family.n_tasks)
        ]
        return {"kind": "computed", "episodes": _finite(_enough(np.array(counts), self.delta))}

    def _measured(self, k: int, found: _Measured) -> dict[str, Any]:
        settled = found.settled[k]
        low, high = np.quantile(
            self.replicates(k, found), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest"
        )
        return {
            "kind": "measured",
            "episodes": _finite(_enough(settled, self.delta)),
            "interval": [_finite(float(low)), _finite(float(high))],
            "censored_runs": int(np.isinf(settled).sum()),
            "violating_runs": int(found.violating[k].sum()),
            "played": self.episodes(k),
        }

    def replicates(self, k: int, found: _Measured) -> FloatArray:
        """(B,) the number for resampled runs, drawn within tasks; the same draws for every agent."""
        rng = np.random.default_rng([self.seed, k, 0xB007])
        tasks = self.tasks(k)
        groups = [np.flatnonzero(tasks == task) for task in np.unique(tasks)]
        drawn = np.concatenate([rng.choice(group, size=(REPLICATES, group.size)) for group in groups], axis=1)
        return _quantiles(found.settled[k][drawn], self.delta)


def _quantiles(settled: FloatArray, delta: float) -> FloatArray:
    """Smallest n that is enough for a share ``1 - delta`` of the runs, along the last axis."""
    rank = math.ceil((1.0 - delta) * settled.shape[-1] - 1e-9)
    found: FloatArray = np.sort(settled, axis=-1)[..., rank - 1]
    return found


def _enough(settled: FloatArray, delta: float) -> float:
    """The same for one sample."""
    return float(_quantiles(settled, delta))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class _Good:
    """Whether a mixture is eps-optimal and feasible, from its exact values.

    Attributes:
        worst: smallest return that is eps-optimal.
        limit: largest cost that is feasible.
    """

    worst: float
    limit: float

    @staticmethod
    def of(family: HardInstance, task: int) -> _Good:
        """In one task; rounding is allowed for."""
        worst = family.optimal_value(task) - family.accuracy * (1.0 + 1e-9)
        limit = float(family.criterion.cost_limits[0])
        return _Good(worst, limit * (1.0 + VIOLATION_TOLERANCE))

    def __call__(self, value: float, costs: FloatArray) -> bool:
        return bool(value >= self.worst and costs[0] <= self.limit)


@lru_cache(maxsize=4)
def _policy_set(family: HardInstance, delta: float) -> PolicySet:
    return listed_set(family, radius=cover_radius(family), delta=delta, seed=0)


def _play(
    name: str, family: HardInstance, setting: int, runs: range, episodes: int, delta: float, seed: int
) -> FloatArray:
    """(len(runs), 3): settled after, ever violating, seconds."""
    policy_set, rows = _policy_set(family, delta), []
    for run in runs:
        task = run % family.n_tasks
        model = family.cmdp(task)
        chance, draws = (
            int(s.generate_state(1, np.uint64)[0] >> 1) for s in np.random.SeedSequence([seed, setting, run]).spawn(2)
        )
        agent = make_agent(name, AgentContext(family, policy_set, policy_set, model, episodes, delta, draws))
        trace = play(agent, model, episodes, chance, largest_batch=max(LARGEST_BATCH, episodes // BATCHES))
        rows.append([_settled(trace, _Good.of(family, task)), trace.violating(model.cost_limits) > 0, trace.seconds])
    return np.asarray(rows, dtype=np.float64)


def _settled(trace: Trace, good: _Good) -> float:
    """Episodes after which everything deployed is good; infinite where the last mixture is not."""
    bad = [t for t in range(trace.ends.size) if not good(float(trace.reward[t]), trace.costs[t])]
    if not bad:
        return 0.0
    return float(trace.ends[bad[-1]]) if bad[-1] + 1 < trace.ends.size else math.inf


def _fits(
    plan: _Plan,
    settings: list[Setting],
    sweeps: dict[str, list[Setting]],
    rows: list[dict[str, Any]],
    measured: dict[str, _Measured],
) -> dict[str, Any]:
    """Exponents by agent and factor; also of the exact bounds, over the same levels."""
    names = list(rows[0]["agents"])
    found: dict[str, Any] = {name: {} for name in (*names, "floor", "upper_bound")}
    for factor, group in sweeps.items():
        where = [settings.index(s) for s in group]
        x = np.log([float(getattr(s, factor)) for s in group])
        for name in found:
            if name in measured:
                found[name][factor] = _fit_measured(plan, where, x, measured[name])
                continue
            exact = [rows[k][name] if name in rows[k] else rows[k]["agents"][name]["episodes"] for k in where]
            found[name][factor] = {"exponent": None if None in exact else _slope(x, np.array(exact)), "interval": None}
    return found


def _fit_measured(plan: _Plan, where: list[int], x: FloatArray, found: _Measured) -> dict[str, Any]:
    """A censored number stands at the length of its runs, which it exceeds: such a slope is too flat, and says so."""
    ends = np.array([plan.episodes(k) for k in where], dtype=np.float64)
    numbers = np.array([_enough(found.settled[k], plan.delta) for k in where])
    resampled = np.stack([plan.replicates(k, found) for k in where], axis=1)
    slopes = [_slope(x, np.minimum(row, ends)) for row in resampled]
    low, high = np.quantile(slopes, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {
        "exponent": _slope(x, np.minimum(numbers, ends)),
        "interval": [float(low), float(high)],
        "censored_levels": int(np.isinf(numbers).sum()),
        "censored_replicates": float(np.isinf(resampled).any(axis=1).mean()),
    }


def _slope(x: FloatArray, numbers: FloatArray) -> float:
    """Least-squares slope of the logarithms; a number below one episode counts as one."""
    y = np.log(np.maximum(numbers, 1.0))
    centred = x - x.mean()
    return float(centred @ y / (centred @ centred))


def _write(directory: Path, summary: dict[str, Any], plan: _Plan, measured: dict[str, _Measured]) -> None:
    (directory / "runs").mkdir(exist_ok=True)
    for name, found in measured.items():
        np.savez_compressed(
            directory / "runs" / f"{name.replace(':', '-')}.npz",
            settled=found.settled,
            violating=found.violating.astype(bool),
            task=np.stack([plan.tasks(k) for k in range(len(plan.families))]),
        )
    (directory / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
