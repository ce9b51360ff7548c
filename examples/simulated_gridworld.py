# ruff: noqa: T201
"""The continuous path on tasks whose exact values are known: the gridworld, seen through Gymnasium only.

    python examples/simulated_gridworld.py [--limit 3] [--tasks 8] [--holdout 8] [--max-episodes 1500] [--workers 2]

Trains a tabular policy set, takes its policies as a library, and trains again from simulated episodes alone. Then it asks: how many
intervals hold the exact value, and do agents of the two sets decide alike?
"""

import argparse
import time

import numpy as np

import surefoot as sf
from surefoot.gym.values import estimate

parser = argparse.ArgumentParser()
# At 3 the limit still binds in every task; at the published 1.5 intervals from 5 000 episodes leave the safe policy no margin.
parser.add_argument("--limit", type=float, default=3.0)
parser.add_argument("--reward-width", type=float, default=6.0)
parser.add_argument("--cost-width", type=float, default=0.8)
parser.add_argument("--tasks", type=int, default=8)
parser.add_argument("--holdout", type=int, default=8)
parser.add_argument("--max-episodes", type=int, default=1500)
parser.add_argument("--workers", type=int, default=2)
arguments = parser.parse_args()

LIMIT = arguments.limit
grid = sf.tasks.NoisyGridworld(limit=LIMIT)
cautious = sf.tasks.NoisyGridworld().safe_policy()
exact_set = sf.train(grid, tasks=200, holdout=200, cells=6, policies=2, safe_policy=cautious, seed=0, progress=False)
family = sf.gym.tabular_family(grid, horizon=60)
tables = np.stack([policy.table for policy in exact_set.policies])

began = time.perf_counter()
widths = sf.gym.Widths(reward=arguments.reward_width, cost=arguments.cost_width)
simulated_set = sf.gym.train_simulated(
    family, exact_set.policies, tasks=arguments.tasks, holdout=arguments.holdout, cells=6, widths=widths,
    max_episodes=arguments.max_episodes, strict=False, workers=arguments.workers,
)  # fmt: skip
print(f"trained in {time.perf_counter() - began:.0f} s: {simulated_set.extra['simulation']['episodes']} episodes")
print(f"certificate: {simulated_set.certificate}")
print(f"margin of the safe policy: {simulated_set.safe_margin:.3f} simulated, {exact_set.safe_margin:.3f} exact")

points = grid.sample(12, np.random.default_rng(5))
found = estimate(
    family,
    points,
    exact_set.policies,
    alpha=0.1,
    seed=7,
    widths=widths,
    max_episodes=arguments.max_episodes,
    workers=arguments.workers,
)
truth = np.stack([sf.evaluate_many(grid.cmdp(point), tables) for point in points])
inside = (found.lower <= truth) & (truth <= found.upper)
print(
    f"intervals that hold the exact value: {inside.sum()} of {inside.size}; tasks in which all do: {inside.all(axis=(1, 2)).sum()} of 12"
)

margin = min(exact_set.safe_margin, simulated_set.safe_margin)  # what both are sure of
for noise in (0.25, 0.30, 0.34):
    values = sf.evaluate_many(grid.cmdp([noise]), tables)
    for name, policy_set in (("exact", exact_set), ("simulated", simulated_set)):
        rewards, costs = [], []
        for seed in range(3):
            agent = sf.CertifiedAgent(policy_set, trust="envelope", margin=margin, evidence="returns", seed=seed)
            plant = sf.Simulator(grid.cmdp([noise]), list(exact_set.policies))
            for _ in range(100):
                batch = agent.ask(50)
                seen = plant.run(batch.policy_index, seed=seed, first_episode=int(batch.ids[0]))
                # The plant goes on after the horizon, which is worth .2 at most.
                returns = np.minimum(seen.returns, policy_set.criterion.return_range[1])
                agent.tell(batch.ids, returns, seen.costs)
            rewards.append(agent.ask(1).weights @ values[:, 0])
            costs.append(agent.ask(1).weights @ values[:, 1])
        print(
            f"noise {noise:.2f}, {name:>9} values: deployed return {np.mean(rewards):6.2f}, cost {np.max(costs):5.3f} at most (limit {LIMIT:g})"
        )
