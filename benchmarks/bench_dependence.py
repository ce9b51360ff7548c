"""How often the check of a family calls a sound one wrong, and finds parameters that reset draws anew; run from the repository's root.

    python benchmarks/bench_dependence.py [--runs 50] [--families gridworld half-cheetah-dynamics] [--json]

*Sound*: the family as it is. *Redrawn*: ``make(z)`` returns an environment whose ``reset`` builds the task of parameters that it draws itself, as
stock simulators do, so that an episode does not depend on z. Counted are runs, with seeds of their own, in which ``check_family``'s search for
dependence reports a problem; sound families should have none beyond the level of the permutation test (1%), redrawn ones one in every run.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np

from surefoot.gym.adapters import tabular_family
from surefoot.gym.dependence import dependence
from surefoot.gym.family import GymFamily
from surefoot.stats.binomial import clopper_pearson
from surefoot.tasks import NoisyGridworld


class Redrawn:
    """An environment of ``family`` whose every reset draws the task anew."""

    def __init__(self, family: GymFamily) -> None:
        self._family, self._env = family, family.make(family.sample(1, np.random.default_rng(0))[0])
        self.observation_space, self.action_space = self._env.observation_space, self._env.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Another task, then its own reset."""
        self._env.close()
        self._env = self._family.make(self._family.sample(1, np.random.default_rng(seed))[0])
        return self._env.reset(seed=seed)

    def step(self, action: Any) -> Any:
        """As the task drawn."""
        return self._env.step(action)

    def close(self) -> None:
        """Of the task drawn."""
        self._env.close()


def families(names: list[str]) -> list[tuple[GymFamily, list[Any]]]:
    """Families and policies to act with."""
    found: list[tuple[GymFamily, list[Any]]] = []
    for name in names:
        if name == "gridworld":
            found.append((tabular_family(NoisyGridworld(), horizon=40), []))
        else:
            from surefoot.experiments.locomotion.families import locomotion

            found.append((locomotion(name), []))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--families", nargs="+", default=["gridworld"])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    for family, policies in families(given.families):
        for kind, tried in (("sound", family), ("redrawn", replace(family, make=lambda _, one=family: Redrawn(one)))):
            hits = sum(bool(dependence(tried, policies, seed=seed).problems) for seed in range(given.runs))
            low, high = clopper_pearson(hits, given.runs, 0.05)
            rows.append(
                {"family": family.name, "kind": kind, "runs": given.runs, "problems": hits, "interval": [low, high]}
            )
            text = f"{family.name:<24} {kind:<8} {hits} of {given.runs} runs report a problem ({low:.1%} to {high:.1%})"
            print(text, file=sys.stderr if given.json else sys.stdout, flush=True)
    if given.json:
        sys.stdout.write(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
