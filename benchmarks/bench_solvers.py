"""Optima of large CMDPs: seconds of CPU beside their limits, and the occupancy program where it finishes; run from the repository's root.

    python benchmarks/bench_solvers.py [--sizes small large huge] [--gap 1e-8] [--peer 30]

Two seeded generators, both with few successors per row:

* *grid*: side x side cells, four actions that slip to the right or left of where they are meant to go, absorbing goals (one cell in 400) with
  rewards, a small price per step, and costs in one cell of five;
* *random*: four random successors per row, random rewards and costs.

Limits lie half-way between what the best policy without limits costs and what the cheapest one does. ``small`` is 10 000 states with one, two and
three limits, ``large`` 90 000, ``huge`` 10^6 (about a minute, below 2 GB). The peer solves a grid of ``--peer`` x ``--peer`` cells by both methods
in the same run. Times include the check of the certificate; the best of two, one for ``huge``; CPU time of one thread.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

import surefoot as sf
from surefoot.arrays import FloatArray
from surefoot.text_table import text_table

SLIP = 0.2
LIMITS = {
    ("grid", 100, 0.9, 1): 0.4, ("grid", 100, 0.99, 1): 2.5, ("random", 100, 0.9, 1): 0.4, ("random", 100, 0.99, 1): 2.5,
    ("grid", 100, 0.9, 2): 3.0, ("random", 100, 0.9, 2): 3.0, ("grid", 300, 0.9, 1): 4.0, ("grid", 300, 0.99, 1): 20.0,
    ("random", 300, 0.9, 1): 4.0, ("random", 300, 0.99, 1): 20.0, ("grid", 1000, 0.9, 1): 45.0,
}  # fmt: skip
"""Seconds on two cores."""


def with_limits(kernel: Any, rewards: FloatArray, costs: FloatArray, discount: float) -> sf.TabularCMDP:
    """The CMDP with a uniform start, and limits half-way between dear and cheap."""
    n, count = len(rewards), len(costs)
    cmdp = sf.TabularCMDP(kernel, rewards, costs, np.full(count, 1e6), np.full(n, 1.0 / n), discount)
    best = sf.solve(cmdp, "columns", gap=1e-4).costs
    # Limits of zero cannot be met: the answer is the policy of smallest excess.
    cheap = sf.solve(cmdp.with_limits(np.full(count, 1e-3)), "columns", gap=1e-3).costs
    return cmdp.with_limits(0.5 * (best + cheap))


def grid(side: int, discount: float, constraints: int, seed: int = 0) -> sf.TabularCMDP:
    """A gridworld that slips."""
    rng, n = np.random.default_rng(seed), side * side
    y, x = np.divmod(np.arange(n), side)
    moves = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    ahead = [np.clip(y + dy, 0, side - 1) * side + np.clip(x + dx, 0, side - 1) for dy, dx in moves]
    goal = np.zeros(n, dtype=bool)
    goal[rng.choice(n, max(1, n // 400), replace=False)] = True
    following = np.stack([np.stack([ahead[(a + turn) % 4] for turn in (0, 1, -1)], axis=-1) for a in range(4)], axis=1)
    following[goal] = np.flatnonzero(goal)[:, None, None]
    chances = np.tile([1.0 - SLIP, SLIP / 2.0, SLIP / 2.0], 4 * n)
    kernel = csr_matrix(
        (chances, following.astype(np.int32).reshape(-1), np.arange(0, 12 * n + 1, 3, dtype=np.int32)), shape=(4 * n, n)
    )
    rewards = np.repeat(np.where(goal, 0.5 + rng.random(n), -0.05 * rng.random(n))[:, None], 4, axis=1)
    costs = np.repeat(
        (rng.random((constraints, n)) * (rng.random((constraints, n)) < 0.2) * ~goal)[..., None], 4, axis=2
    )
    return with_limits(kernel, rewards, costs, discount)


def random(side: int, discount: float, constraints: int, seed: int = 0) -> sf.TabularCMDP:
    """Random successors, as many states as the grid has."""
    rng, n = np.random.default_rng(seed), side * side
    following = rng.integers(0, n, (4 * n, 4))
    weights = 0.05 + rng.random((4 * n, 4))
    weights /= weights.sum(axis=1, keepdims=True)
    kernel = csr_matrix((weights.reshape(-1), following.reshape(-1), np.arange(0, 16 * n + 1, 4)), shape=(4 * n, n))
    return with_limits(kernel, rng.random((n, 4)), rng.random((constraints, n, 4)), discount)


def timed(cmdp: sf.TabularCMDP, method: Any, gap: float, repeats: int) -> tuple[float, sf.Solution]:
    """CPU seconds, the best of several, and the answer."""
    best = np.inf
    for _ in range(repeats):
        began = time.process_time()
        found = sf.solve(cmdp, method, gap=gap)
        best = min(best, time.process_time() - began)
    return best, found


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=["small", "large", "huge"], default=["small", "large"])
    parser.add_argument("--gap", type=float, default=1e-8)
    parser.add_argument("--peer", type=int, default=30, help="side of the grid that the occupancy program solves too")
    given = parser.parse_args()
    makers = {"grid": grid, "random": random}
    sf.solve(grid(10, 0.9, 1), "columns")  # compiled, or read from the cache
    small = [(kind, 100, g, 1) for kind in makers for g in (0.9, 0.99)] + [
        (kind, 100, 0.9, i) for i in (2, 3) for kind in makers
    ]
    large = [(kind, 300, g, 1) for kind in makers for g in (0.9, 0.99)]
    wanted = {"small": small, "large": large, "huge": [("grid", 1000, 0.9, 1)]}
    rows = [["model", "states", "gamma", "limits", "status", "gap", "CPU s", "limit s"]]
    for size in given.sizes:
        for kind, side, discount, constraints in wanted[size]:
            cmdp = makers[kind](side, discount, constraints)
            seconds, found = timed(cmdp, "columns", given.gap, 1 if size == "huge" else 2)
            limit = LIMITS.get((kind, side, discount, constraints))
            rows.append(
                [kind, f"{side * side}", f"{discount:g}", f"{constraints}", found.status, f"{found.gap:.1e}", f"{seconds:.2f}",
                 "-" if limit is None else f"{limit:g}"]
            )  # fmt: skip
            del cmdp, found
    sys.stdout.write("\n".join(text_table(rows)) + "\n")
    sys.stdout.write(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB\n\n")
    for side in sorted({10, 20, given.peer}):
        cmdp = grid(side, 0.9, 1)
        (one, first), (two, second) = (timed(cmdp, method, 1e-7, 2) for method in ("occupancy", "columns"))
        sys.stdout.write(
            f"peer, grid of {side * side} states: occupancy {one:.3f} s, columns {two:.3f} s, ratio {one / two:.1f}; "
            f"values differ by {abs(first.value - second.value):.1e}\n"
        )


if __name__ == "__main__":
    main()
