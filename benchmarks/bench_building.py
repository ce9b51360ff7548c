"""A rehearsed deployment in a building with six unknowns: what it gives up per day.

    python benchmarks/bench_building.py [--plants 200] [--days 300] [--workers 2]

Trains without boxes, rehearses on simulated plants that are judged by fresh episodes, and prints the rehearsal and what never adapting gives up.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

import surefoot as sf
from surefoot.gym import train_simulated
from surefoot.gym.building import building, building_policies


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plants", type=int, default=200)
    parser.add_argument("--days", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    family = building()
    policy_set = train_simulated(
        family, building_policies(), tasks=150, holdout=0, cells=None, margin=0.5, seed=0, max_episodes=30, strict=False,
        progress=False, workers=given.workers,
    )  # fmt: skip
    found = sf.rehearse(
        policy_set, family, episodes=given.days, plants=given.plants, seed=0, workers=given.workers, ladder=(5.0, 4.0, 3.5), budget=6000
    )  # fmt: skip
    regret, gain = found.numbers[:, 0, 2], found.numbers[:, 0, 3]
    per_day = ", ".join(f"{rung.name}: {rung.regret / given.days:.3f}" for rung in found.rungs)
    sys.stdout.write(
        f"{found.text}\nGiven up per day, by rung: {per_day}; never adapting: {np.nanmean(regret + gain) / given.days:.2f}\n"
    )


if __name__ == "__main__":
    main()
