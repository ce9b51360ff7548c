"""The rehearsed agent on half-cheetahs whose mass, friction, damping and gravity are unknown: what it loses per episode.

    python benchmarks/bench_cheetah.py [--plants 15] [--episodes 1000] [--training-tasks 90] [--seed 0]

All 13 shipped policies take part. A belief is learned from fresh tasks; then every plant is learned by each rung, and values are judged by 300 fresh
episodes of every policy. Lost: against the best mixture of two policies within the limit, by the judged means. An episode takes about 30 ms of one
core, so a few plants are played here; a certificate would take hundreds (``surefoot.rehearse``). The counts of violating plants are printed as they
are, with the interval that so few plants give.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from surefoot.deploy.belief.planner import BeliefPlanner
from surefoot.experiments.locomotion.families import locomotion
from surefoot.experiments.locomotion.library import load_library
from surefoot.gym.belief import fit_simulated_belief
from surefoot.gym.play import EpisodeCache
from surefoot.gym.rollout import rollout
from surefoot.policy import draw_policies
from surefoot.rehearsal.lockstep import simulated_source
from surefoot.rehearsal.plants import best_pair
from surefoot.stats.binomial import clopper_pearson

NAME, LADDER, PER_POLICY, JUDGING = "half-cheetah-dynamics", (5.0, 4.0, 3.0), 20, 300


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plants", type=int, default=15)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--training-tasks", type=int, default=90)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    family, policies, began = locomotion(NAME), load_library(NAME), time.perf_counter()
    limits = family.criterion.cost_limits
    means, noise = [], []
    for k, point in enumerate(family.sample(given.training_tasks, np.random.default_rng([given.seed, 1]))):
        played = rollout(family, point, policies, episodes=PER_POLICY, seed=(given.seed, 1), task=k)
        outcomes = np.stack([part.outcomes() for part in played])
        gap = outcomes - outcomes.mean(axis=1, keepdims=True)
        means.append(outcomes.mean(axis=1))
        noise.append(np.einsum("jnf,jng->jfg", gap, gap) / (PER_POLICY - 1))
    counts = np.full((given.training_tasks, len(policies)), PER_POLICY)
    belief = fit_simulated_belief(np.stack(means), np.stack(noise), counts, 1 + len(limits))
    sys.stdout.write(
        f"belief with {belief.latents} latents from {given.training_tasks} tasks, {time.perf_counter() - began:.0f} s\n"
    )
    never: list[float] = []
    lost: dict[float, list[float]] = {boldness: [] for boldness in LADDER}
    worst: dict[float, list[float]] = {boldness: [] for boldness in LADDER}
    for k, point in enumerate(family.sample(given.plants, np.random.default_rng([given.seed, 2]))):
        truth = EpisodeCache(family, point, policies, seed=(given.seed, 3, k), block=JUDGING)
        values = np.array(
            [truth.take(j, 0, np.arange(JUDGING), 0)[:, : 1 + len(limits)].mean(axis=0) for j in range(len(policies))]
        )
        best = best_pair(values, limits)
        never.append(best - values[0, 0])
        cache = EpisodeCache(family, point, policies, seed=(given.seed, 4, k), block=50)
        for boldness in LADDER:
            planner, rng, first = (
                BeliefPlanner(belief, limits, boldness, given.episodes),
                np.random.default_rng([given.seed, k]),
                0,
            )
            source, total, highest = simulated_source(cache, len(limits)), 0.0, -np.inf
            while first < given.episodes:
                planner.refresh()
                end = min(planner.due, given.episodes)
                index = draw_policies(planner.weights, end - first, rng)
                mixture = planner.weights @ values
                total += (end - first) * (best - mixture[0])
                highest = max(highest, float(np.max((mixture[1:] - limits) / limits)))
                seen = source(index, first, np.zeros(end - first, dtype=int))
                planner.tell(np.arange(first, end), index, seen.outcomes, signals=seen.signals)
                first = end
            lost[boldness].append(total / given.episodes)
            worst[boldness].append(highest)
        rows = [f"never adapting {np.mean(never):.2f}"]
        for boldness in LADDER:
            bad = int(np.sum(np.array(worst[boldness]) > 0.0))
            low, high = clopper_pearson(bad, k + 1, 0.05)
            rows.append(
                f"rung {boldness:g} {np.mean(lost[boldness]):.2f}, {bad} violate by the judged means ({low:.0%} to {high:.0%}), "
                f"worst excess {max(worst[boldness]):+.1%}"
            )
        sys.stdout.write(
            f"{k + 1} plants, {time.perf_counter() - began:.0f} s; lost per episode: " + "; ".join(rows) + "\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
