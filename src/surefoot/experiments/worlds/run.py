r"""One runner for every world: train, certify, deploy on fresh plants at every trust level, judge; and once more where the family is wrong.

* *Training* gives one library without boxes for ``data``, ``envelope`` and ``rehearsed``, and a set with cells for ``cells``: numbers of cells are
  tried from the largest down, each judged by a hold-out of its own and paid for as the next look. A level whose certificate cannot be had plays
  nothing and the summary says why.
* *Rehearsed* plays the boldest rung of the world's ladder that m fresh plants support at alpha.
* *Beside them*: the safe policy for ever; the best fixed mixture, the one of largest mean return among those within the limits on each of
  :data:`FIXED_PLANTS` plants of its own; the oracle, which knows the plant.
* *Deployment* on n fresh plants, all levels with the same chance per plant.

For each level: runs in which some deployed mixture exceeds a limit, with the exact interval for their rate (Clopper & Pearson 1934); *gain* ``sum_k
V(w_k) - V(pi_s)`` as a share of the oracle's ``K (V* - V(pi_s))``, the ratio of the two sums over plants with a bootstrap interval over plants; and
after how many episodes half of ``V* - V(pi_s)`` is first reached.

*Mismatch.* Plants from outside the family, each way stated: episodes drawn from a violating mixture before any alarm. An alarm leads back to the
safe policy for good, which may itself violate there: that is counted beside.

Letters: m plants rehearsed on, n plants deployed on, K episodes, J policies, I constraints.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, check_integer, check_real
from surefoot.deploy.admission import check_margin
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.trace import VIOLATION_TOLERANCE, Trace
from surefoot.errors import AssumptionError
from surefoot.experiments.comparison import fresh_tasks, new_directory, run_seeds
from surefoot.experiments.fair import check_rehearsal
from surefoot.experiments.looks import largest_accepted
from surefoot.experiments.worlds.world import Outside, Plant, World
from surefoot.parallel import map_tasks
from surefoot.policyset.lineage import look_share
from surefoot.policyset.schema import PolicySet
from surefoot.rehearsal.core import rehearse
from surefoot.rehearsal.result import Rehearsal
from surefoot.stats.binomial import clopper_pearson_lower, clopper_pearson_upper
from surefoot.version import VERSION

__all__ = ["LEVELS", "Sizes", "reproduce_world"]

LEVELS = ("data", "envelope", "cells", "rehearsed")
BESIDE = ("never adapting", "best fixed")
FIXED_PLANTS = 50
FIXED_STREAM, OUTSIDE_STREAM = 0xF18ED, 0x0175
BINDING = 1e-4
"""Of a limit: the oracle sits on it where it leaves less."""
DRAWS = 4000


@dataclass(frozen=True)
class Sizes:
    """How much is run.

    Attributes:
        plants: m.
        runs: n.
        episodes: K.
        outside_runs: plants per way of being outside; 0 leaves the mismatch study out.
        alpha: share of rehearsed deployments that may violate.
        delta: error probability of the other levels' deployments.
        delta_coverage: of the rehearsal over all looks, and of the hold-outs over all looks.
        seed: of everything.
        workers: processes; the result does not depend on it.
        progress: show progress.
    """

    plants: int
    runs: int
    episodes: int
    outside_runs: int = 20
    alpha: float = 0.05
    delta: float = 0.05
    delta_coverage: float = 0.05
    seed: int = 0
    workers: int = 1
    progress: bool = True

    def __post_init__(self) -> None:
        check_integer("runs", self.runs, low=2)
        check_integer("workers", self.workers, low=1)
        check_integer("outside_runs", self.outside_runs, low=0)
        check_integer("seed", self.seed, low=0)
        check_real("delta", self.delta, low=0.0, high=1.0, open_low=True, open_high=True)
        check_rehearsal(self.plants, self.episodes, self.alpha, self.delta_coverage * look_share(1))


@dataclass(frozen=True, eq=False)
class _Player:
    """What a level deploys.

    Attributes:
        policy_set: its policies.
        rung: of ``rehearsed``.
        weights: (J,) of what never adapts.
    """

    policy_set: PolicySet
    rung: Rung | None = None
    weights: FloatArray | None = None


@dataclass(frozen=True)
class _Run:
    """One level on one plant.

    Attributes:
        gain, possible: of the run, and of the oracle in as many episodes.
        half: episodes before the first that reaches half of what there is to gain; ``None`` where none does.
        violating: episodes drawn from a mixture above a limit.
        before: those of them before any alarm.
        alarm: episodes before the alarm; ``None`` without one.
        excess: largest expected cost above a limit, as a share of it.
        seconds: of the run.
    """

    gain: float
    possible: float
    half: int | None
    violating: int
    before: int
    alarm: int | None
    excess: float
    seconds: float


def reproduce_world(world: World, out: str | Path, sizes: Sizes) -> dict[str, Any]:
    """Run everything and write ``summary.json`` into the new directory ``out``; returns the summary.

    Raises:
        OutputExists: ``out`` is there already.
    """
    directory = new_directory(out)
    marks = [time.perf_counter()]
    shared = (sizes.seed, sizes.workers, sizes.progress)
    plain = world.train(None, None, *shared)
    marks.append(time.perf_counter())
    rehearsal = rehearse(
        plain, world.family, episodes=sizes.episodes, plants=sizes.plants, alpha=sizes.alpha, delta_coverage=sizes.delta_coverage,
        protocol=world.use, ladder=world.ladder, evidence=world.evidence, seed=sizes.seed, workers=sizes.workers, progress=sizes.progress,
    )  # fmt: skip
    marks.append(time.perf_counter())
    boxed, looks = largest_accepted(
        lambda cells, previous: world.train(cells, previous, *shared), world.cells, p_max=world.p_max, delta=sizes.delta_coverage,
        margin=world.margin,
    )  # fmt: skip
    marks.append(time.perf_counter())
    players, refused = _players(world, plain, boxed, looks, rehearsal, sizes)
    points = fresh_tasks(world.family, sizes.runs, sizes.seed)
    calls = [(world, world.family, players, sizes, False, k, point) for k, point in enumerate(points)]
    played = map_tasks(_deploy, calls, workers=sizes.workers, label="deploying", progress=sizes.progress, batch_size=1)
    marks.append(time.perf_counter())
    mismatch = [_mismatch(world, outside, players, sizes) for outside in world.outside] if sizes.outside_runs else []
    marks.append(time.perf_counter())
    limits = world.family.criterion.cost_limits
    oracles, safe = np.array([p.oracle for p in played]), np.array([p.safe for p in played])
    summary: dict[str, Any] = {
        "schema": 1,
        "experiment": world.name,
        "title": world.title,
        "version": VERSION,
        "seed": sizes.seed,
        "episodes": sizes.episodes,
        "plants": sizes.plants,
        "runs": sizes.runs,
        "outside_runs": sizes.outside_runs,
        "alpha": sizes.alpha,
        "delta": sizes.delta,
        "delta_coverage": sizes.delta_coverage,
        "p_max": world.p_max,
        "unknowns": list(world.family.parameter_names),
        "cost_limits": limits.tolist(),
        "policies": len(plain.policies),
        "safe_margin": plain.safe_margin,
        "oracle": {
            "reward": float(oracles[:, 0].mean()),
            "costs": oracles[:, 1:].mean(axis=0).tolist(),
            "binding": float((oracles[:, 1:] >= limits * (1.0 - BINDING)).any(axis=1).mean()),
        },
        "safe": {"reward": float(safe[:, 0].mean()), "costs": safe[:, 1:].mean(axis=0).tolist()},
        "levels": _rows(players, refused, [p.runs for p in played], sizes, _summarise),
        "cells": looks,
        "rehearsal": _rehearsal(rehearsal),
        "mismatch": mismatch,
        "seconds": dict(zip(("training", "rehearsal", "cells", "deploying", "mismatch"), np.diff(marks).tolist())),
    }  # fmt: skip
    (directory / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return summary


def _players(
    world: World, plain: PolicySet, boxed: PolicySet | None, looks: list[dict[str, Any]], rehearsal: Rehearsal, sizes: Sizes
) -> tuple[dict[str, _Player], dict[str, str]]:  # fmt: skip
    """What each level deploys, and why those that are missing deploy nothing."""
    alone = np.eye(len(plain.policies))[0]
    players, refused = {"never adapting": _Player(plain, weights=alone)}, {}
    players["best fixed"] = _Player(plain, weights=_best_fixed(world, plain, sizes))
    for level in ("data", "envelope"):
        try:
            check_margin(plain, world.margin)
            players[level] = _Player(plain)
        except AssumptionError as error:
            refused[level] = str(error)
    if boxed is None:
        refused["cells"] = looks[-1]["refused"] if looks else "no set with cells was trained"
    else:
        players["cells"] = _Player(boxed)
    if rehearsal.chosen is None or rehearsal.policy_set is None:
        refused["rehearsed"] = rehearsal.certificate.text
    else:
        rung = Rung.of(rehearsal.chosen.boldness, sizes.episodes, world.evidence, world.use)
        players["rehearsed"] = _Player(rehearsal.policy_set, rung)
    return players, refused


def _best_fixed(world: World, policy_set: PolicySet, sizes: Sizes) -> FloatArray:
    """(J,) the mixture of largest mean return among those within the limits on every one of some fresh plants; the safe policy without one."""
    from scipy.optimize import linprog

    stream = np.random.default_rng(np.random.SeedSequence([sizes.seed, FIXED_STREAM]))
    points = world.family.sample(min(FIXED_PLANTS, 2 * sizes.plants), stream)
    calls = [(world, policy_set, k, point) for k, point in enumerate(points)]
    values = np.array(
        map_tasks(_values, calls, workers=sizes.workers, label="best fixed", progress=sizes.progress, batch_size=1)
    )
    limits = world.family.criterion.cost_limits
    rows = values[:, :, 1:].transpose(0, 2, 1).reshape(-1, values.shape[1])
    found = linprog(
        -values[:, :, 0].mean(axis=0), A_ub=rows, b_ub=np.tile(limits, len(values)),
        A_eq=np.ones((1, rows.shape[1])), b_eq=[1.0], bounds=(0.0, 1.0),
    )  # fmt: skip
    if found.x is None:
        safe: FloatArray = np.eye(rows.shape[1])[0]
        return safe
    weights: FloatArray = np.maximum(found.x, 0.0)
    weights /= weights.sum()
    return weights


def _values(world: World, policy_set: PolicySet, number: int, point: FloatArray) -> FloatArray:
    unused = np.zeros(1 + world.family.criterion.n_constraints)
    return world.plant(world.family, point, policy_set, run_seeds(FIXED_STREAM, number)[0], unused).values


@dataclass(frozen=True, eq=False)
class _Played:
    """All levels on one plant."""

    oracle: FloatArray
    safe: FloatArray
    runs: dict[str, _Run]


def _deploy(
    world: World, family: Any, players: dict[str, _Player], sizes: Sizes, watched: bool, number: int, point: FloatArray
) -> _Played:  # fmt: skip
    """Every level on one plant, with the same chance; ``watched``: agents with all their alarms, also where blocks would do."""
    chance, draws = run_seeds(sizes.seed, number)
    limits = world.family.criterion.cost_limits
    plants: dict[str, Plant] = {}
    oracle: FloatArray | None = None
    runs: dict[str, _Run] = {}
    safe = np.zeros(0)
    for level, player in players.items():
        key = player.policy_set.library_hash
        if key not in plants:
            plants[key] = world.plant(family, point, player.policy_set, chance, oracle)
            oracle = plants[key].oracle
        plant = plants[key]
        if not safe.size:
            safe = plant.values[0]
        assert oracle is not None
        trace, alarm = _trace(world, plant, level, player, sizes, watched, chance, draws)
        runs[level] = _score(trace, alarm, oracle, plant.values[0], limits)
    assert oracle is not None
    return _Played(oracle, safe, runs)


def _trace(
    world: World, plant: Plant, level: str, player: _Player, sizes: Sizes, watched: bool, chance: int, draws: int
) -> tuple[Trace, int | None]:  # fmt: skip
    """What was deployed, and after how many episodes the alarm went off."""
    if player.weights is not None:
        worth = player.weights @ plant.values
        ends = np.array([sizes.episodes])
        return Trace(ends, worth[:1], worth[None, 1:], np.array([1.0 - player.weights[0]]), 0.0, 0.0), None
    if player.rung is not None and not watched:
        return plant.follow(player.rung, chance, draws), None
    shared: dict[str, Any] = {"trust": level, "seed": draws, "delta_coverage": sizes.delta_coverage}
    if level == "cells":
        shared |= {"p_max": world.p_max, "evidence": world.cells_evidence}
    elif level == "rehearsed":
        shared |= {"evidence": world.evidence}
    if level != "rehearsed":
        shared |= {"margin": world.margin}
    # Under rehearsed delta is the share of violating deployments that the rehearsal certified.
    shared |= {"delta": sizes.alpha if level == "rehearsed" else sizes.delta}
    agent = _Watched(CertifiedAgent(player.policy_set, **shared))
    trace = plant.play(agent, sizes.episodes, chance, world.largest_batch)
    return trace, agent.found()


class _Watched:
    """An agent, and when its alarm went off."""

    def __init__(self, agent: CertifiedAgent) -> None:
        self._agent, self._asked = agent, 0
        self._alarm: int | None = None
        self.policies, self.wants = agent.policies, agent.wants

    @property
    def together(self) -> int | None:
        return self._agent.together

    def ask(self, n: int) -> Any:
        self.found()
        self._asked += n
        return self._agent.ask(n)

    def tell(self, ids: Any, **outcome: Any) -> None:
        self._agent.tell(ids, **outcome)

    def found(self) -> int | None:
        """Episodes that were asked before the alarm."""
        if self._alarm is None and self._agent.alarm is not None:
            self._alarm = self._asked
        return self._alarm


def _score(trace: Trace, alarm: int | None, oracle: FloatArray, safe: FloatArray, limits: FloatArray) -> _Run:
    sizes = np.diff(trace.ends, prepend=0)
    begins = trace.ends - sizes
    rise, possible = trace.reward - safe[0], float(oracle[0] - safe[0])
    reached = np.flatnonzero(rise >= 0.5 * possible)
    bad = (trace.costs > limits * (1.0 + VIOLATION_TOLERANCE)).any(axis=1)
    early = bad if alarm is None else bad & (begins < alarm)
    scale = np.where(limits > 0.0, limits, 1.0)
    return _Run(
        gain=float(sizes @ rise),
        possible=possible * float(trace.ends[-1]),
        half=int(begins[reached[0]]) if reached.size else None,
        violating=int(sizes[bad].sum()),
        before=int(sizes[early].sum()),
        alarm=alarm,
        excess=float(((trace.costs - limits) / scale).max()),
        seconds=trace.seconds,
    )


def _rows(
    players: dict[str, _Player], refused: dict[str, str], played: list[dict[str, _Run]], sizes: Sizes, summarise: Any
) -> dict[str, dict[str, Any]]:  # fmt: skip
    return {
        level: summarise([runs[level] for runs in played], sizes) if level in players else {"refused": refused[level]}
        for level in (*BESIDE, *LEVELS)
    }


def _summarise(runs: list[_Run], sizes: Sizes) -> dict[str, Any]:
    """What the summary says of one level."""
    n, k = len(runs), sum(r.violating > 0 for r in runs)
    gain, possible = (np.array([getattr(r, part) for r in runs]) for part in ("gain", "possible"))
    share, low, high = ratio_interval(gain, possible, sizes.seed)
    halves = np.array([np.inf if r.half is None else r.half for r in runs])
    return {
        "runs": n,
        "violating": k,
        "rate": k / n,
        "rate_lower": clopper_pearson_lower(k, n, 0.025),
        "rate_upper": clopper_pearson_upper(k, n, 0.025),
        "violating_episodes": sum(r.violating for r in runs),
        "worst_excess": max(r.excess for r in runs),
        "gain": share,
        "gain_lower": low,
        "gain_upper": high,
        "half_median": _finite(np.quantile(halves, 0.5, method="higher")),
        "half_upper": _finite(np.quantile(halves, 0.9, method="higher")),
        "half_never": float(np.isinf(halves).mean()),
        "alarms": sum(r.alarm is not None for r in runs),
        "seconds": sum(r.seconds for r in runs),
    }


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def ratio_interval(above: FloatArray, below: FloatArray, seed: int) -> tuple[float, float, float]:
    """``sum above / sum below`` of pairs (n,), and the ends of its bootstrap interval at level .95 (pairs are drawn; percentile ends).

    Draws in which there is nothing to divide by say nothing and are left out.
    """
    total = float(below.sum())
    if not total > 0.0:
        return 0.0, 0.0, 0.0
    draws = np.random.default_rng([seed, DRAWS]).integers(0, above.size, size=(DRAWS, above.size))
    parts = below[draws].sum(axis=1)
    low, high = np.quantile(above[draws].sum(axis=1)[parts > 0.0] / parts[parts > 0.0], [0.025, 0.975])
    return float(above.sum()) / total, float(low), float(high)


def _mismatch(world: World, outside: Outside, players: dict[str, _Player], sizes: Sizes) -> dict[str, Any]:
    """Every level on plants of one kind from outside."""
    key = sum(ord(c) << (k % 24) for k, c in enumerate(outside.name))
    stream = np.random.default_rng(np.random.SeedSequence([sizes.seed, OUTSIDE_STREAM, key]))
    points = outside.family.sample(sizes.outside_runs, stream)
    calls = [(world, outside.family, players, sizes, True, k, point) for k, point in enumerate(points)]
    played = map_tasks(_deploy, calls, workers=sizes.workers, label=outside.name, progress=sizes.progress, batch_size=1)
    rows = {
        level: _outside_row([p.runs[level] for p in played]) for level in (*BESIDE, *LEVELS) if level in players
    }  # fmt: skip
    return {"name": outside.name, "text": outside.text, "runs": len(played), "levels": rows}


def _outside_row(runs: list[_Run]) -> dict[str, Any]:
    alarms = [r.alarm for r in runs if r.alarm is not None]
    return {
        "violating": sum(r.violating > 0 for r in runs),
        "before_alarm": float(np.mean([r.before for r in runs])),
        "violating_episodes": float(np.mean([r.violating for r in runs])),
        "alarms": len(alarms),
        "alarm_median": float(np.median(alarms)) if alarms else None,
        "worst_excess": max(r.excess for r in runs),
        "gain": ratio_interval(np.array([r.gain for r in runs]), np.array([r.possible for r in runs]), 0)[0],
    }


def _rehearsal(found: Rehearsal) -> dict[str, Any]:
    """What the summary says of it."""
    keys = ("name", "plants", "violating", "upper", "accepted", "complete", "regret", "gain", "excess")
    return {
        "chosen": None if found.chosen is None else found.chosen.name,
        "rungs": [{key: getattr(rung, key) for key in keys} for rung in found.rungs],
    }
