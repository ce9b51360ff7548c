r"""What ``surefoot reproduce unknowns`` runs: every trust level on grids with 1, 2, 4, 7 and 15 unknown noises.

For every number p of unknown parameters, on :class:`~surefoot.tasks.zoned_gridworld.ZonedGridworld` with p zones:

* *One library without boxes* (``cells=None``), for ``data``, ``envelope`` and ``rehearsed``. The latter plays the boldest rung of :data:`LADDER`
  that a rehearsal on m fresh plants accepts at alpha and the first look's error.
* *Cells*, for ``cells``. Boxes in more dimensions leave more of a family uncovered, fewer and larger ones leave less: numbers of cells are tried
  from the largest down, each judged by a hold-out of its own and paid for as the next look (``previous=``), until one shows ``p_max``. With a single
  cell ``cells`` would be ``envelope``, so the numbers end above 1.
* A level whose certificate cannot be had plays nothing, and the summary says why.
* n fresh tasks, the same for all levels, with the same chance per task. Every deployed mixture is judged exactly.

Given up is the regret ``sum_k V* - V(w_k)`` against the optimum of each task, as a share of the same for the safe policy alone: the ratio of the two
means over tasks. Agents are asked in batches of 10 growing to :data:`BATCH`, the rehearsed one episode by episode as its protocol says, block by
block (:mod:`surefoot.rehearsal.lockstep`).

Letters: p unknown parameters, m plants, n tasks, K episodes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, check_integer, check_real
from surefoot.cmdp.evaluate import evaluate
from surefoot.deploy.admission import check_margin
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.deploy.certified import CertifiedAgent
from surefoot.errors import AssumptionError, InvalidInput
from surefoot.experiments.comparison import fresh_tasks, new_directory, run_seeds
from surefoot.experiments.fair import check_rehearsal
from surefoot.experiments.looks import largest_accepted
from surefoot.experiments.runner import follow, play
from surefoot.json_reading import read_object
from surefoot.kept_files import write_bytes
from surefoot.parallel import map_tasks
from surefoot.policyset.lineage import look_share
from surefoot.policyset.schema import PolicySet
from surefoot.rehearsal.core import rehearse
from surefoot.rehearsal.result import Rehearsal
from surefoot.solvers.linear_program import solve
from surefoot.stats.binomial import trials_without_failure
from surefoot.tasks.zoned_gridworld import ZonedGridworld
from surefoot.training.pipeline import train
from surefoot.version import VERSION

__all__ = ["CELLS", "LADDER", "LEVELS", "UNKNOWNS", "reproduce"]

UNKNOWNS = (1, 2, 4, 7, 15)
LEVELS = ("data", "envelope", "cells", "rehearsed")
CELLS = (30, 8, 2)
"""Numbers of cells, from the largest: each is a look at a hold-out."""
LADDER = (3.6, 3.3, 3.1, 2.9, 2.75)
"""Boldness of the rungs that are rehearsed; fixed beforehand."""
BATCH = 50
MOST_UNKNOWNS = 49
REMEDY = "name another directory"


@dataclass(frozen=True)
class _Sizes:
    """How every family is trained, rehearsed and played."""

    tasks: int
    episodes: int
    plants: int
    alpha: float
    delta: float
    delta_coverage: float
    p_max: float
    cells: tuple[int, ...]
    policies: int
    training_tasks: int
    holdout: int
    seed: int
    workers: int
    progress: bool

    @property
    def shared(self) -> dict[str, Any]:
        """What every call takes."""
        return {"seed": self.seed, "workers": self.workers, "progress": self.progress}

    def check(self) -> None:
        """Refuse what would fail after minutes, or what no certificate could come of.

        Raises:
            InvalidInput: an argument out of range.
        """
        for name in ("tasks", "policies", "workers"):
            check_integer(name, getattr(self, name), low=1)
        check_integer("training_tasks", self.training_tasks, low=2)
        check_integer("seed", self.seed, low=0)
        for name in ("delta", "p_max"):
            check_real(name, getattr(self, name), low=0.0, high=1.0, open_low=True, open_high=True)
        # A rehearsal pays the share of its first look, the hold-out half of that: the other half is for the margin.
        first = self.delta_coverage * look_share(1)
        check_rehearsal(self.plants, self.episodes, self.alpha, first)
        fewest = trials_without_failure(self.p_max, first / 2.0)
        if self.holdout < fewest:
            raise InvalidInput(
                f"holdout must be at least {fewest} for p_max={self.p_max:g} and delta_coverage={self.delta_coverage:g}, got {self.holdout}: even "
                f"without a task in no cell the certificate could not be had; take {fewest} or more",
                code="SF-TRAINING-HOLDOUT",
            )
        _check_falling("cells", self.cells, high=10_000, falling=True)


def reproduce(
    out: str | Path,
    *,
    unknowns: Sequence[int] = UNKNOWNS,
    tasks: int = 20,
    episodes: int = 10_000,
    plants: int = 150,
    alpha: float = 0.05,
    delta: float = 0.05,
    delta_coverage: float = 0.05,
    p_max: float = 0.05,
    cells: Sequence[int] = CELLS,
    policies: int = 20,
    training_tasks: int = 500,
    holdout: int = 400,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Run the experiment and write ``summary.json`` into the new directory ``out``; returns the summary.

    Args:
        out: new directory, or the one in which the same call was interrupted: it goes on there, number by number.
        unknowns: numbers of unknown parameters, rising.
        tasks: n fresh test tasks per number.
        episodes: K.
        plants: m that are rehearsed on.
        alpha: share of rehearsed deployments that may violate.
        delta: error probability of the other levels' deployments.
        delta_coverage: of the rehearsal over all looks, and of the hold-outs over all looks.
        p_max: largest share of the family that may lie in no cell.
        cells: numbers of cells to try, falling, all above 1.
        policies: size of the library besides the safe policy.
        training_tasks, holdout: fresh tasks that train, and that judge finished cells.
        seed: of everything.
        workers: processes; the result does not depend on it.
        progress: show progress.

    Raises:
        InvalidInput: an argument out of range, or fewer plants or hold-out tasks than any certificate needs.
        OutputExists: ``out`` is there already and holds anything else.
    """
    numbers = _check_falling("unknowns", tuple(unknowns), high=MOST_UNKNOWNS, falling=False)
    sizes = _Sizes(
        tasks, episodes, plants, alpha, delta, delta_coverage, p_max, tuple(cells), policies, training_tasks, holdout, seed, workers, progress
    )  # fmt: skip
    sizes.check()
    header: dict[str, Any] = {
        "schema": 1,
        "experiment": "unknowns",
        "version": VERSION,
        "seed": seed,
        "episodes": episodes,
        "tasks": tasks,
        "plants": plants,
        "alpha": alpha,
        "delta": delta,
        "delta_coverage": delta_coverage,
        "p_max": p_max,
        "policies": policies,
        "training_tasks": training_tasks,
        "batch": BATCH,
        "levels": list(LEVELS),
    }
    directory, rows = (
        _begin(out, {**header, "unknowns": numbers, "cells": sizes.cells, "holdout": holdout, "ladder": LADDER}),
        [],
    )
    for k, p in enumerate(numbers, 1):
        if progress:
            sys.stderr.write(f"{p} unknown {'parameter' if p == 1 else 'parameters'} ({k} of {len(numbers)})\n")
        kept = directory / f"unknowns-{p}.json"
        if not kept.exists():
            _write(kept, _row(ZonedGridworld(zones=p), sizes))
        rows.append(read_object(kept, remedy=REMEDY))
    summary = {**header, "rows": rows}
    _write(directory / "summary.json", summary)
    return summary


def _begin(out: str | Path, settings: dict[str, Any]) -> Path:
    """A new directory, or the one in which the same call was interrupted.

    Raises:
        OutputExists: it holds something else, or the call had come to its end.
    """
    path, wanted = Path(out), json.loads(json.dumps(settings))
    index = path / "settings.json"
    if index.exists() and not (path / "summary.json").exists() and read_object(index, remedy=REMEDY) == wanted:
        return path
    path = new_directory(out)
    _write(path / "settings.json", settings)
    return path


def _write(path: Path, content: dict[str, Any]) -> None:
    """All of the file or none of it."""
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def _check_falling(name: str, values: tuple[int, ...], *, high: int, falling: bool) -> tuple[int, ...]:
    """Whole numbers that fall (each above 1) or rise strictly."""
    found = tuple(check_integer(name, value, low=2 if falling else 1, high=high) for value in values)
    ordered = sorted(set(found), reverse=falling)
    if not found or list(found) != ordered:
        raise InvalidInput(
            f"{name} must {'fall' if falling else 'rise'} strictly, got {list(found)}; sort them, each once",
            code="SF-ARGUMENT-ORDER",
        )
    return found


@dataclass(frozen=True, eq=False)
class _Player:
    """What a level deploys; the boldness of a rehearsed rung."""

    policy_set: PolicySet
    boldness: float | None = None


def _row(family: ZonedGridworld, sizes: _Sizes) -> dict[str, Any]:
    """Everything about one number of unknown parameters."""
    times = [time.perf_counter()]
    boxless = train(
        family, tasks=sizes.training_tasks, holdout=0, cells=None, policies=sizes.policies, strict=False, **sizes.shared
    )  # fmt: skip
    times.append(time.perf_counter())
    boxed, looks = _cells(family, sizes)
    times.append(time.perf_counter())
    rehearsal = rehearse(
        boxless, family, episodes=sizes.episodes, plants=sizes.plants, alpha=sizes.alpha, delta_coverage=sizes.delta_coverage,
        ladder=LADDER, **sizes.shared,
    )  # fmt: skip
    times.append(time.perf_counter())
    points = fresh_tasks(family, sizes.tasks, sizes.seed)
    optima = np.array([solve(family.cmdp(point)).value_or_raise().value for point in points])
    safe = np.array([evaluate(family.cmdp(point), boxless.safe_policy).reward for point in points])
    players: dict[str, _Player] = {}
    refused: dict[str, str] = {}
    for level in ("data", "envelope"):
        try:
            check_margin(boxless, None)
            players[level] = _Player(boxless)
        except AssumptionError as error:
            refused[level] = str(error)
    if boxed is None:
        refused["cells"] = looks[-1]["refused"]
    else:
        players["cells"] = _Player(boxed)
    if rehearsal.chosen is None:
        refused["rehearsed"] = rehearsal.certificate.text
    else:
        players["rehearsed"] = _Player(boxless, rehearsal.chosen.boldness)
    found = _play_all(family, players, points, optima, sizes)
    times.append(time.perf_counter())
    return {
        "unknowns": family.zones,
        "family": family.name,
        "optimal_value": float(optima.mean()),
        "never_adapting": (sizes.episodes * (optima - safe)).tolist(),
        "levels": {level: found[level] if level in found else {"refused": refused[level]} for level in LEVELS},
        "cells": looks,
        "rehearsal": _rehearsal(rehearsal),
        "seconds": dict(zip(("training", "cells", "rehearsal", "playing"), np.diff(times).tolist())),
    }


def _cells(family: ZonedGridworld, sizes: _Sizes) -> tuple[PolicySet | None, list[dict[str, Any]]]:
    """The policy set with the largest number of cells that ``cells`` accepts, ``None`` without one, and all looks."""

    def trained(cells: int, previous: PolicySet | None) -> PolicySet:
        return train(
            family, tasks=sizes.training_tasks, holdout=sizes.holdout, cells=cells, policies=sizes.policies, delta=sizes.delta_coverage,
            strict=False, previous=previous, **sizes.shared,
        )  # fmt: skip

    return largest_accepted(trained, sizes.cells, p_max=sizes.p_max, delta=sizes.delta_coverage)


def _rehearsal(found: Rehearsal) -> dict[str, Any]:
    """What the summary says of it."""
    keys = ("name", "plants", "violating", "upper", "accepted", "complete", "regret", "excess")
    return {
        "chosen": None if found.chosen is None else found.chosen.name,
        "rungs": [{key: getattr(rung, key) for key in keys} for rung in found.rungs],
    }


def _play_all(
    family: ZonedGridworld, players: dict[str, _Player], points: FloatArray, optima: FloatArray, sizes: _Sizes
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Every level on every task."""
    calls = [
        (family, player.policy_set, level, player.boldness, sizes, k, point, float(best))
        for level, player in players.items()
        for k, (point, best) in enumerate(zip(points, optima))
    ]
    played = map_tasks(_play, calls, workers=sizes.workers, label="playing", progress=sizes.progress, batch_size=1)
    found = {}
    for position, (level, player) in enumerate(players.items()):
        mine = played[position * len(points) : (position + 1) * len(points)]
        found[level] = {
            "policies": len(player.policy_set.policies),
            "regret": [run[0] for run in mine],
            "violating_runs": sum(run[1] for run in mine),
            "worst_excess": max(run[2] for run in mine),
            "seconds": sum(run[3] for run in mine),
        }
    return found


def _play(
    family: ZonedGridworld, policy_set: PolicySet, level: str, boldness: float | None, sizes: _Sizes, number: int, point: FloatArray, best: float
) -> tuple[float, bool, float, float]:  # fmt: skip
    """Of one run: regret, whether it violates, largest expected cost minus limit, seconds; all levels meet the same chance on a task."""
    task = family.cmdp(point)
    chance, draws = run_seeds(sizes.seed, number)
    if boldness is not None:
        trace = follow(policy_set, Rung(boldness=boldness, episodes=sizes.episodes), task, chance, draws)
    else:
        agent = CertifiedAgent(
            policy_set, trust=level, delta=sizes.delta, p_max=sizes.p_max, delta_coverage=sizes.delta_coverage, seed=draws
        )  # fmt: skip
        trace = play(agent, task, sizes.episodes, chance, largest_batch=BATCH)
    limits = task.cost_limits
    regret = float(trace.regret(best, np.array([sizes.episodes]))[0])
    return regret, trace.violating(limits) > 0, float((trace.costs - limits).max()), trace.seconds
