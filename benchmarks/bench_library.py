"""What a library of few policies loses, where tasks have many parameters.

    python benchmarks/bench_library.py [--zones 1 2 4 7 15] [--sizes 10 20 40] [--tasks 200] [--fresh 200]

For every family and size: how much of what there is to gain over the safe policy the best mixture of the library gives away, in fresh tasks,

    loss = sum over tasks of (optimum - best mixture) / sum over tasks of (optimum - safe policy),

the optimum by the linear program of the task, the best mixture by a linear program over the library's exact values; its largest
value in one task; and the seconds of the training without its belief.
"""

from __future__ import annotations

import argparse
import sys
import time
from unittest import mock

import numpy as np
from scipy.optimize import linprog

import surefoot as sf
from surefoot.arrays import FloatArray
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.solvers.linear_program import solve
from surefoot.tasks import ZonedGridworld
from surefoot.training import pipeline


def best_mixture(values: FloatArray, limits: FloatArray) -> float:
    """Largest return of a mixture of policies with values (J, 1+I) that keeps the limits."""
    found = linprog(-values[:, 0], A_ub=values[:, 1:].T, b_ub=limits, A_eq=np.ones((1, len(values))), b_eq=[1.0])
    return float(-found.fun)


def train_library(zones: int, size: int, tasks: int, seed: int) -> sf.PolicySet:
    """A policy set without boxes and without a belief, which libraries do not depend on."""
    with mock.patch.object(pipeline, "learn_belief", lambda policy_set, *_, **__: policy_set):
        return sf.train(
            ZonedGridworld(zones=zones), tasks=tasks, holdout=0, cells=None, policies=size, seed=seed, progress=False
        )


def losses(policy_set: sf.PolicySet, family: ZonedGridworld, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(T,) what the best mixtures lose, and (T,) what there is to gain over the safe policy."""
    tables = np.stack([policy.table for policy in policy_set.policies])
    lost, gain = [], []
    for point in points:
        cmdp = family.cmdp(point)
        values, optimum = evaluate_many(cmdp, tables), solve(cmdp).value_or_raise().value
        lost.append(optimum - best_mixture(values, family.criterion.cost_limits))
        gain.append(optimum - values[0, 0])
    return np.array(lost), np.array(gain)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zones", type=int, nargs="+", default=[1, 2, 4, 7, 15])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--fresh", type=int, default=200)
    given = parser.parse_args()
    sys.stdout.write("zones  asked  policies  lost      worst task  seconds\n")
    for zones in given.zones:
        family = ZonedGridworld(zones=zones)
        points = family.sample(given.fresh, np.random.default_rng(2**31))
        for size in given.sizes:
            began = time.perf_counter()
            policy_set = train_library(zones, size, given.tasks, seed=0)
            seconds = time.perf_counter() - began
            lost, gain = losses(policy_set, family, points)
            sys.stdout.write(
                f"{zones:5d}  {size:5d}  {len(policy_set.policies):8d}  {lost.sum() / gain.sum():8.3%}  {(lost / gain).max():10.3%}  {seconds:7.1f}\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
