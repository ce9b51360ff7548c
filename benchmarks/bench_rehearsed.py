"""What rehearsed deployments give up, and how often they violate, on fresh plants drawn after everything was frozen.

    python benchmarks/bench_rehearsed.py [--family zoned-gridworld:4] [--episodes 10000] [--plants 500] [--fresh 2000] [--evidence all] [--workers 2]

Trains without boxes, rehearses, deploys the chosen rung on so many fresh plants, and prints the rehearsal, the violation rate with its interval, the
mean regret, and each certified speed statement beside what the fresh plants show.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

import surefoot as sf
from surefoot.parallel import iter_tasks
from surefoot.rehearsal.core import LADDER, _play_chunk, _Setting
from surefoot.rehearsal.runs import NUMBERS
from surefoot.stats.binomial import clopper_pearson
from surefoot.tasks.catalogue import make_family

CHUNK = 20


def say(text: str) -> None:
    """One line on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="zoned-gridworld:4")
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--plants", type=int, default=500)
    parser.add_argument("--fresh", type=int, default=2000)
    parser.add_argument("--evidence", default="all")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    family = make_family(given.family)
    began = time.perf_counter()
    policy_set = sf.train(family, tasks=500, holdout=0, cells=None, seed=0, workers=given.workers, progress=False)
    say(f"trained {len(policy_set.policies)} policies in {time.perf_counter() - began:.0f} s")
    found = sf.rehearse(
        policy_set, family, episodes=given.episodes, plants=given.plants, evidence=given.evidence, seed=0, workers=given.workers,
        progress=False, ladder=LADDER[:10],
    )  # fmt: skip
    say(f"rehearsed in {found.seconds:.0f} s\n{found.text}")
    if found.chosen is None or not given.fresh:
        return
    name = found.chosen.name
    setting = _Setting(
        policy_set, family, None, given.episodes, given.fresh, 0.05, 0.05, sf.Protocol(), [float(name)], given.evidence, None, 0.02, 0.05,
        2, 777, None,
    )  # fmt: skip
    parameters, seeds = setting.drawn()
    calls = [
        (setting.cast, parameters[k : k + CHUNK], seeds[k : k + CHUNK], [name], None, k)
        for k in range(0, given.fresh, CHUNK)
    ]
    parts = [numbers for numbers, _, _ in iter_tasks(_play_chunk, calls, workers=given.workers)]
    columns = dict(zip(NUMBERS, np.concatenate(parts)[:, 0].T, strict=True))
    violating = int(columns["violating"].sum())
    low, high = clopper_pearson(violating, given.fresh, 0.05)
    say(
        f"{given.fresh} fresh plants: {violating} violate = {violating / given.fresh:.2%} ({low:.2%} to {high:.2%}), worst excess "
        f"{columns['excess'].max():+.2%}; mean regret {columns['regret'].mean():.0f}"
    )
    for statement in found.certificate.speed:
        values = columns[statement.quantity]
        if statement.kind == "mean":
            shown = float(values.mean())
        else:
            good = values >= statement.bound if statement.quantity == "gain" else values <= statement.bound
            shown = float(good.mean())
        say(f"{statement.text} Fresh plants: {shown:.1%}.")


if __name__ == "__main__":
    main()
