"""Chance constraints and CVaR: what policies are worth under them, and how often certified agents break them; run from the repository's root.

    python benchmarks/bench_functionals.py [--runs 200] [--episodes 4000] [--trust data envelope cells] [--tasks 60] [--cells 8] [--grid 100]
        [--only gridworld-chance ...] [--memory 4] [--workers 1] [--json]

Gridworld and queue, each under a chance constraint and under a CVaR. For the task in the middle: the safe policy, the best stationary policy found,
the optimum over policies that look at the accumulated cost (``--memory``: cells of its grid, 0 leaves it out; a coarse grid errs on the low side) and
the proved upper bound. Then runs of certified agents on fresh tasks at delta = .05: on how many some deployed mixture surely, or possibly, exceeded
a limit (values are bounds on a grid), and the share of the gain over the safe policy that the last mixture had, on average.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

import surefoot as sf
from surefoot.cmdp import state_bounds
from surefoot.cmdp.simulate import transition_rows
from surefoot.parallel import map_tasks
from surefoot.stats.binomial import clopper_pearson_upper, rate_test
from surefoot.tasks import NoisyGridworld, QueueAdmission, with_limits

DELTA = 0.05
BATCH = 200
JUDGE_GRIDS = (200, 1000)
"""Cells on which runs are judged, whatever training used: the finer ones where the coarser do not show that a run is safe."""
CASES: dict[str, tuple[Any, Any]] = {
    "gridworld-chance": (NoisyGridworld, sf.Exceeds(5.01, at_most=0.15)),
    "gridworld-cvar": (NoisyGridworld, sf.CVaR(0.1, at_most=16.0)),
    "queue-chance": (QueueAdmission, sf.Exceeds(1.53, at_most=0.2)),
    "queue-cvar": (QueueAdmission, sf.CVaR(0.2, at_most=2.5)),
}
SAFE_SHARE = 0.6
"""The queue's own safe policy is made for a mean; this share of the limit is what the one used here meets for more arrivals than there are."""


def made(name: str, grid: int) -> tuple[Any, Any]:
    """The family under its limit, and its safe policy."""
    make, limit = CASES[name]
    base = make()
    if isinstance(base, NoisyGridworld):
        return with_limits(base, [limit], grid=grid), base.safe_policy()
    first = with_limits(base, [limit], grid=grid)
    hardest = base.cmdp(0.65).with_functionals(first.limits, grid)
    return first, sf.solve(hardest.with_limits(SAFE_SHARE * hardest.cost_limits)).policy


def optima(family: Any, safe: Any, memory: int) -> dict[str, float]:
    """Returns in the middle of the family."""
    task = family.cmdp(np.median(family.sample(200, np.random.default_rng(0)), axis=0))
    best = sf.solve(task)
    found = {"safe": sf.evaluate(task, safe).reward, "stationary": best.value, "bound": best.bound}
    if memory:
        wide = sf.augment(task, grid=memory)
        began = time.perf_counter()
        answer = sf.solve_over_policies(wide.cmdp)
        found |= {
            "memory": answer.value,
            "memory states": wide.cmdp.n_states,
            "memory seconds": time.perf_counter() - began,
        }
        # An independent look at the same optimum: episodes of its policy, simulated on the augmented task.
        played = sf.simulate(wide.cmdp, answer.policy, episodes=20_000, seed=1)
        found |= {
            "simulated": float(played.returns.mean()),
            "its error": float(played.returns.std() / np.sqrt(len(played))),
            "limited": float(played.costs.mean() + wide.offset[0]),
        }
    return {k: float(v) for k, v in found.items()}


def run(
    policy_set: sf.PolicySet, family: Any, trust: str, episodes: int, seed: int, optimum: bool
) -> tuple[bool, bool, float]:
    """Whether some mixture surely, or possibly, exceeded the limit on a fresh task; and the share of the gain at the end."""
    point = family.sample(1, np.random.default_rng([seed, 77]))[0]
    task = family.cmdp(point)
    tables = np.stack([p.table for p in policy_set.policies if isinstance(p, sf.TabularPolicy)])
    agent = sf.CertifiedAgent(policy_set, trust=trust, delta=DELTA, seed=seed, p_max=0.99)  # type: ignore[arg-type]
    simulator, weights, first = sf.Simulator(task, tables), [], 0
    groups = np.zeros(BATCH, dtype=np.int64) if trust == "cells" else None
    while first < episodes:
        batch = agent.ask(BATCH)
        seen = simulator.run(batch.policy_index, seed=seed, first_episode=first, groups=groups)
        more = {} if seen.transitions is None else {"transitions": transition_rows(task, seen.transitions[0])}
        agent.tell(batch.ids, seen.returns, seen.costs, initial_state=seen.initial_states, **more)
        weights.append(batch.weights)
        first += BATCH
    # The judge looks at the safe policy and at what was played; values on a fine grid are what takes time.
    weighed = np.array(weights)
    used = np.flatnonzero(weighed.any(axis=0) | (np.arange(len(tables)) == 0))
    played, limit = weighed[:, used], task.cost_limits[0] * (1.0 + 1e-9)
    for grid in JUDGE_GRIDS[1:] if optimum else JUDGE_GRIDS:
        fine = task.with_functionals(task.functionals, grid)
        lower, upper = (b @ task.start for b in state_bounds(fine, tables[used]))
        surely, possibly = (bool((played @ bound[:, 1] > limit).any()) for bound in (lower, upper))
        if not possibly:
            break
    share = np.nan
    if optimum:
        best = sf.solve(fine).value
        share = (played[-1] @ lower[:, 0] - lower[0, 0]) / (best - lower[0, 0])
    return surely, possibly, float(share)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--episodes", type=int, default=4000)
    parser.add_argument("--trust", nargs="+", default=["data", "envelope", "cells"])
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--holdout", type=int, default=60)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--grid", type=int, default=100)
    parser.add_argument("--only", nargs="+", default=list(CASES))
    parser.add_argument("--memory", type=int, default=4)
    parser.add_argument("--optima", type=int, default=50, help="runs of which the share of the gain is computed")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    for name in args.only:
        family, safe = made(name, args.grid)
        began = time.perf_counter()
        trained = sf.train(
            family, tasks=args.tasks, holdout=args.holdout, cells=args.cells, safe_policy=safe, seed=0, progress=False, workers=args.workers
        )  # fmt: skip
        found: dict[str, Any] = {
            "case": name,
            "limit": family.criterion.limit_texts[0],
            "threshold": family.limits[0].threshold,
            "margin": trained.safe_margin,
            "training seconds": time.perf_counter() - began,
            **optima(family, safe, args.memory),
        }
        for trust in args.trust:
            calls = [(trained, family, trust, args.episodes, seed, seed < args.optima) for seed in range(args.runs)]
            done = map_tasks(run, calls, workers=args.workers, label=f"{name} {trust}", progress=not args.json)
            surely, possibly = sum(d[0] for d in done), sum(d[1] for d in done)
            found[trust] = {
                "runs": args.runs,
                "surely violating": surely,
                "possibly violating": possibly,
                "upper limit on the rate, 95%": clopper_pearson_upper(possibly, args.runs, 0.05),
                "p-value of rate <= delta": rate_test(possibly, args.runs, DELTA),
                "share of the gain": float(np.nanmean([d[2] for d in done])) if args.optima else None,
            }
        if args.json:
            sys.stdout.write(json.dumps(found) + "\n")
        else:
            sys.stdout.write("\n".join(f"{k}: {v}" for k, v in found.items()) + "\n\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
