"""What a rehearsal costs: runs in lockstep against agents played one by one, and against the episodes alone.

    python benchmarks/bench_rehearsal.py [--plants 20] [--episodes 10000] [--zones 4]

Prints, on one process: seconds of a rehearsal of six rungs per plant; the same for one agent that is asked and told episode by episode, as a ratio;
and the seconds that simulating the episodes alone takes. Scaled to 500 plants on two cores beside the limit of 60 s.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

import surefoot as sf
from surefoot.cmdp.simulate import Simulator
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.protocol import Protocol
from surefoot.rehearsal.agents import play_agent
from surefoot.rehearsal.lockstep import play_rung, tabular_source
from surefoot.tasks import ZonedGridworld


def say(text: str) -> None:
    """One line on standard output."""
    sys.stdout.write(text + "\n")


LADDER = (4.0, 3.5, 3.1, 2.8, 2.5, 2.2)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plants", type=int, default=20)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--zones", type=int, default=4)
    given = parser.parse_args()
    family = ZonedGridworld(zones=given.zones)
    policy_set = sf.train(family, tasks=200, holdout=0, cells=None, seed=0, progress=False)
    tables = np.stack([p.table for p in policy_set.policies])
    points = family.sample(given.plants, np.random.default_rng(1))
    rungs = [Rung(b, given.episodes) for b in LADDER]

    def lockstep(k: int) -> None:
        source = tabular_source(policy_set, rungs[0], family.cmdp(points[k]), tables, k)
        for rung in rungs:
            play_rung(policy_set, rung, source, seed=k, chance=k)

    lockstep(0)
    began = time.perf_counter()
    for k in range(given.plants):
        lockstep(k)
    together = (time.perf_counter() - began) / given.plants
    few = min(given.episodes, 500)
    agent = sf.CertifiedAgent(policy_set, trust="rehearsed", rung=Rung(3.0, few), seed=0)
    began = time.perf_counter()
    play_agent(agent, family.cmdp(points[0]), Protocol(), episodes=few, plant_seed=0)
    alone = (time.perf_counter() - began) / few
    began = time.perf_counter()
    simulator = Simulator(family.cmdp(points[0]), tables)
    index = np.random.default_rng(2).integers(0, len(tables), given.episodes)
    simulator.run(index, seed=1, groups=np.zeros(given.episodes, dtype=np.int64))
    bare = time.perf_counter() - began
    per_run = together / len(rungs)
    say(
        f"policies {len(tables)}, latents {policy_set.beliefs['all'].latents}, episodes {given.episodes}, rungs {len(rungs)}"
    )
    say(f"lockstep: {together:.3f} s per plant, {1e6 * per_run / given.episodes:.2f} us per episode and rung")
    say(
        f"agent alone: {1e6 * alone:.0f} us per episode; lockstep is {alone * given.episodes / per_run:.0f} times as fast"
    )
    say(f"episodes alone: {1e6 * bare / given.episodes:.2f} us; lockstep takes {per_run / bare:.1f} times that")
    say(f"500 plants on two cores: {250 * together:.0f} s (limit 60 s)")


if __name__ == "__main__":
    main()
