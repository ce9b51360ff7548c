"""How many cells a sample supports, and what ``cells="auto"`` chooses; run from the repository's root.

    python benchmarks/bench_cells.py [--zones 2] [--tasks 400 2000] [--cells 60 20 15] [--holdout 400] [--policies 15] [--workers 2] [--json]

The 7x7 gridworld with a noise of its own in every zone of columns: as many unknown parameters as zones. For every number of training tasks and cells:
the hold-out's misses, its limit on the uncovered share at error .0125, and seconds of training.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

import surefoot as sf
from surefoot.errors import AssumptionError
from surefoot.stats.binomial import clopper_pearson_upper
from surefoot.tasks import NoisyGridworld


class ZonedGridworld:
    """Noise differs between zones of columns, each uniform on (.2, .38).

    Args:
        zones: how many.
    """

    def __init__(self, zones: int) -> None:
        self._base = NoisyGridworld()
        self.name, self.criterion = f"gridworld of {zones} zones", self._base.criterion
        self.parameter_names = tuple(f"noise {zone + 1}" for zone in range(zones))
        self.support = np.tile([0.2, 0.38], (zones, 1))
        self._zone = np.arange(49) % 7 * zones // 7

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """(n, zones)."""
        return rng.uniform(0.2, 0.38, (n, len(self.support)))

    def cmdp(self, parameters: Any) -> sf.TabularCMDP:
        """The task with these noises: every state moves as in the gridworld of its zone's noise."""
        tasks = [self._base.cmdp(noise) for noise in np.asarray(parameters)]
        kernel = np.stack([tasks[zone].dense[state] for state, zone in enumerate(self._zone)])
        one = tasks[0]
        return sf.TabularCMDP(kernel, one.rewards, one.costs, one.cost_limits, one.start, one.discount)

    def safe_policy(self) -> np.ndarray:
        """(49, 4) as in the gridworld."""
        return self._base.safe_policy()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--zones", type=int, default=2)
    parser.add_argument("--tasks", type=int, nargs="+", default=[400, 2000])
    parser.add_argument("--cells", type=int, nargs="*", default=[60, 20, 15])
    parser.add_argument("--holdout", type=int, default=400)
    parser.add_argument("--policies", type=int, default=15)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    family, rows = ZonedGridworld(given.zones), []
    for tasks in given.tasks:
        for cells in (*given.cells, "auto"):
            began = time.perf_counter()
            row: dict[str, Any] = {"tasks": tasks, "cells": cells}
            try:
                found = sf.train(
                    family, tasks=tasks, holdout=given.holdout, cells=cells, policies=given.policies, workers=given.workers,
                    progress=False,
                )  # fmt: skip
                judged = found.certificate
                row |= {"made": len(found.cells), "missed": judged.uncovered, "holdout": judged.holdout}
                row["limit"] = clopper_pearson_upper(judged.uncovered, judged.holdout, 0.0125)
                row["choice"] = found.extra.get("cells")
            except AssumptionError as error:
                row["refused"] = str(error)
            row["seconds"] = time.perf_counter() - began
            rows.append(row)
            print(row if given.json else _line(row), file=sys.stderr if given.json else sys.stdout, flush=True)
    if given.json:
        sys.stdout.write(json.dumps(rows) + "\n")


def _line(row: dict[str, Any]) -> str:
    start = f"{row['tasks']:>6} tasks, cells {row['cells']!s:>5}: "
    end = f"  ({row['seconds']:.0f} s)"
    if "refused" in row:
        return start + row["refused"] + end
    tried = (
        ""
        if row["choice"] is None
        else "  tried " + ", ".join(f"{t['cells']}: {t['missed']}" for t in row["choice"]["tried"])
    )
    return (
        start
        + f"{row['made']:>4} made, {row['missed']} of {row['holdout']} missed, at most {row['limit']:.1%}"
        + tried
        + end
    )


if __name__ == "__main__":
    main()
