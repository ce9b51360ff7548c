"""Nanoseconds per simulated step of the compiled rollout, beside two plain ones; run from the repository's root.

    python benchmarks/bench_simulation.py [--episodes 1000000] [--repeats 5] [--states 90000 1000000] [--json]

All three play the safe policy on the published gridworld at noise .31 until the goal absorbs or 240 steps are over, on one core:

* the library's kernel, bare, with transition counts, and with sums over visits;
* a straightforward compiled kernel: an action by search along the policy's cumulative row, a successor along the dense cumulative row,
  ``np.random`` for both;
* a rollout in plain Python with two ``choice`` calls per step, as experiments are often written.

Then the library's kernel, bare and with counts, against the plain loop on gridworlds with large numbers of states, four actions with four
successors each and a deterministic policy, whose states are numbered at random so that no step stays near the last one; the plain loop searches
the same compressed rows. A million states need 3 GB and some minutes, most of it to make the model.

Times are the best of several repeats; ratios come from the same run. Targets stand beside the figures, for a core on which the plain loop takes
21.7, 100 and 187 ns at 49, 90,000 and 10^6 states; on a slower or busy core compare ratios.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

from surefoot import Simulator, TabularCMDP
from surefoot.tasks import NoisyGridworld

HORIZON = 240
TARGETS = {49: 11.0, 90_000: 45.0, 1_000_000: 70.0}
"""Nanoseconds per step by number of states."""
PLAIN = {49: 21.7, 90_000: 100.0, 1_000_000: 187.0}
"""The plain loop on the same core."""
LARGE_EPISODES = 6_000
PYTHON_EPISODES = 300


@njit  # type: ignore[untyped-decorator]
def plain_kernel(actions: Any, successors: Any, start: Any, signals: Any, goal: int, gamma: float, sums: Any) -> int:
    """Roll out ``len(sums)`` episodes by search along cumulative rows; returns the number of steps."""
    steps = 0
    for i in range(sums.shape[0]):
        s = np.searchsorted(start, np.random.random(), side="right")  # noqa: NPY002
        weight = 1.0
        for _ in range(HORIZON):
            if s == goal:
                break
            u = np.random.random()  # noqa: NPY002
            a = 0
            while u >= actions[s, a]:
                a += 1
            for f in range(signals.shape[0]):
                sums[i, f] += weight * signals[f, s, a]
            u = np.random.random()  # noqa: NPY002
            t = 0
            while u >= successors[s, a, t]:
                t += 1
            s = t
            weight *= gamma
            steps += 1
        for f in range(signals.shape[0]):
            sums[i, f] += weight * signals[f, s, 0] / (1.0 - gamma) * (s == goal)
    return steps


@njit  # type: ignore[untyped-decorator]
def plain_sparse(
    action: Any,
    row_start: Any,
    successors: Any,
    edges: Any,
    start: Any,
    signals: Any,
    gamma: float,
    horizon: int,
    sums: Any,
) -> int:
    """The same on compressed rows: ``edges`` (E,) are cumulative probabilities within each row, ``action`` (S,) is what the policy does."""
    steps, n_actions = 0, signals.shape[2]
    for i in range(sums.shape[0]):
        s = np.searchsorted(start, np.random.random(), side="right")  # noqa: NPY002
        weight = 1.0
        for _ in range(horizon):
            for f in range(signals.shape[0]):
                sums[i, f] += weight * signals[f, s, action[s]]
            u = np.random.random()  # noqa: NPY002
            e = row_start[s * n_actions + action[s]]
            while u >= edges[e]:
                e += 1
            s = successors[e]
            weight *= gamma
            steps += 1
    return steps


def large(states: int, rng: np.random.Generator) -> tuple[TabularCMDP, Any]:
    """A square gridworld of about so many states, numbered at random, and the actions (S,) of a policy."""
    side = int(np.sqrt(states))
    n, actions = side * side, 4
    s = np.arange(n)
    row, column = np.divmod(s, side)
    to = np.stack([
        np.maximum(row - 1, 0) * side + column, np.minimum(row + 1, side - 1) * side + column,
        row * side + np.maximum(column - 1, 0), row * side + np.minimum(column + 1, side - 1),
    ])  # fmt: skip
    number = rng.permutation(n)
    chances = np.full((n, actions, 4), 0.1)
    chances[:, np.arange(actions), np.arange(4)] = 0.7
    rows = np.repeat((number[:, None] * actions + np.arange(actions)).ravel(), 4)
    columns = number[np.repeat(to.T[:, None], actions, axis=1)].ravel()
    kernel = csr_matrix((chances.ravel(), (rows, columns)), shape=(n * actions, n))
    cmdp = TabularCMDP(kernel, rng.random((n, actions)), rng.random((1, n, actions)), [5.0], np.full(n, 1.0 / n), 0.95)
    return cmdp, rng.integers(0, actions, n)


def measure_large(states: int, repeats: int) -> dict[str, float]:
    """Nanoseconds per step on a large model: bare, with counts, and of the plain loop."""
    cmdp, action = large(states, np.random.default_rng(0))
    simulator = Simulator(cmdp, np.eye(cmdp.n_actions)[action])
    index, sums = np.zeros(LARGE_EPISODES, dtype=np.int64), np.zeros((LARGE_EPISODES, 2))
    before = np.r_[0.0, np.cumsum(cmdp.probabilities)][cmdp.row_start[:-1]]
    edges = np.cumsum(cmdp.probabilities) - before[cmdp.rows]
    edges[cmdp.row_start[1:] - 1] = 1.0
    start, signals = cumulative(cmdp.start), np.ascontiguousarray(cmdp.signals)

    def plain() -> int:
        steps: int = plain_sparse(
            action, cmdp.row_start, cmdp.successors, edges, start, signals, cmdp.discount, simulator.horizon, sums
        )
        return steps

    found: dict[str, float] = {}
    simulator.run(index[:10], seed=0, groups=index[:10])
    plain()
    for name, call in (
        ("surefoot", lambda: simulator.run(index, seed=0).steps),
        ("surefoot, counts", lambda: simulator.run(index, seed=0, groups=index).steps),
        ("straightforward kernel", plain),
    ):
        seconds, steps = best_seconds(call, repeats)
        found[name] = 1e9 * seconds / steps
    return found


def python_rollout(
    cmdp: TabularCMDP, table: Any, goal: int, episodes: int, rng: np.random.Generator
) -> tuple[int, float]:
    """The same in plain Python; returns the number of steps and the mean return."""
    dense, steps, total = cmdp.dense, 0, 0.0
    for _ in range(episodes):
        s = int(rng.choice(cmdp.n_states, p=cmdp.start))
        weight = 1.0
        for _ in range(HORIZON):
            if s == goal:
                break
            a = int(rng.choice(cmdp.n_actions, p=table[s]))
            total += weight * cmdp.rewards[s, a]
            s = int(rng.choice(cmdp.n_states, p=dense[s, a]))
            weight *= cmdp.discount
            steps += 1
        total += weight * cmdp.rewards[s, 0] / (1.0 - cmdp.discount) * (s == goal)
    return steps, total / episodes


def cumulative(rows: Any) -> Any:
    """Cumulative rows that no uniform can overrun."""
    edges = np.cumsum(rows, axis=-1)
    edges[..., -1] = 1.0
    return edges


def best_seconds(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Shortest wall time of several calls, and what the last one returned."""
    seconds, value = np.inf, None
    for _ in range(repeats):
        began = time.perf_counter()
        value = call()
        seconds = min(seconds, time.perf_counter() - began)
    return float(seconds), value


def measure(episodes: int, repeats: int) -> dict[str, Any]:
    """Nanoseconds per step of every variant, and ratios to the library's kernel."""
    world = NoisyGridworld()
    cmdp, table = world.cmdp(0.31), world.safe_policy()
    goal = int(np.flatnonzero(cmdp.rewards.max(axis=1))[0])
    simulator, index = Simulator(cmdp, table), np.zeros(episodes, dtype=np.int64)
    edges = cumulative(table), cumulative(cmdp.dense), cumulative(cmdp.start)
    sums = np.zeros((episodes, 2))

    def plain() -> int:
        sums[:] = 0.0
        steps: int = plain_kernel(*edges, np.ascontiguousarray(cmdp.signals), goal, cmdp.discount, sums)
        return steps

    simulator.run(index[:10], seed=0, groups=index[:10])
    simulator.run(index[:10], seed=0, visits=True)
    plain()
    found, means = {}, {}
    seconds, played = best_seconds(lambda: simulator.run(index, seed=0), repeats)
    found["surefoot"], means["surefoot"] = 1e9 * seconds / played.steps, float(played.returns.mean())
    seconds, played = best_seconds(lambda: simulator.run(index, seed=0, groups=index), repeats)
    found["surefoot, counts"] = 1e9 * seconds / played.steps
    seconds, played = best_seconds(lambda: simulator.run(index, seed=0, visits=True), repeats)
    found["surefoot, visits"] = 1e9 * seconds / played.steps
    seconds, steps = best_seconds(plain, repeats)
    found["straightforward kernel"], means["straightforward kernel"] = 1e9 * seconds / steps, float(sums[:, 0].mean())
    rng = np.random.default_rng(0)
    seconds, (steps, mean) = best_seconds(lambda: python_rollout(cmdp, table, goal, PYTHON_EPISODES, rng), 2)
    found["plain Python"], means["plain Python"] = 1e9 * seconds / steps, mean
    return {
        "episodes": episodes,
        "steps_per_episode": played.steps / episodes,
        "target_ns": TARGETS[49],
        "ns_per_step": found,
        "ratio_to_surefoot": {name: value / found["surefoot"] for name, value in found.items()},
        "mean_return": means,
    }


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--states", type=int, nargs="*", default=[90_000])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.episodes, options.repeats)
    found["large"] = {n: measure_large(n, options.repeats) for n in options.states}
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    sys.stdout.write(
        f"{found['episodes']} episodes, {found['steps_per_episode']:.2f} steps each, one core; target {TARGETS[49]:g} ns\n"
    )
    for name, value in found["ns_per_step"].items():
        mean = found["mean_return"].get(name)
        checked = "" if mean is None else f"   mean return {mean:.3f}"
        sys.stdout.write(f"{name:24} {value:10.1f} ns/step   x {found['ratio_to_surefoot'][name]:8.2f}{checked}\n")
    for n, rates in {49: found["ns_per_step"], **found["large"]}.items():
        plain = rates["straightforward kernel"]
        for name in ("surefoot", "surefoot, counts"):
            limit = f"   target {TARGETS[n]:g} ns, x {TARGETS[n] / PLAIN[n]:.2f}" if n in TARGETS else ""
            sys.stdout.write(
                f"S = {n}, {name}: {rates[name]:.1f} ns/step, x {rates[name] / plain:.2f} of the plain loop's {plain:.1f}{limit}\n"
            )


if __name__ == "__main__":
    main()
