"""TRPO with a cost critic and a Lagrange multiplier (Ray, Achiam & Amodei 2019, section 4.2; Schulman et al. 2015).

    max_pi min_{u >= 0}   V_r(pi) - u (V_c(pi) - d)

    policy       one TRPO step on the advantages  (A_r - u A_c) / (1 + u)             (the division keeps their size)
    multiplier   u <- [u + rate (V_c - d) / d]_+                                      (projected ascent)

``u`` counts in units of the width of the returns' range over the limit, so that one rate fits all families. Training draws a fresh task for every
episode; at test time the same update goes on with the episodes of the test task. Ray et al. parametrise ``u`` by a softplus and use Adam; projected
ascent has the same fixed points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.baselines.deep.batch import Batch, World
from surefoot.baselines.deep.learner import Progress, State
from surefoot.baselines.deep.networks import StochasticPolicy
from surefoot.baselines.deep.trust_region import TRUST, Trust, trpo_step

__all__ = ["TRPOLagrangian", "mixed_tasks", "seen"]

LARGEST = 100.0


@dataclass(frozen=True)
class TRPOLagrangian:
    """See the module.

    Attributes:
        policy: the distribution.
        trust: of a step.
        rate: of the multiplier.
        episodes: of a step of training, each in a task of its own.
    """

    policy: StochasticPolicy
    trust: Trust = TRUST
    rate: float = 0.05
    episodes: int = 24
    name: str = "trpo-lagrangian"

    def adapt(self, state: State, batch: Batch, world: World) -> State:
        """One step of both."""
        u = state.multiplier * world.exchange
        advantages = (batch.reward_advantages - u * batch.cost_advantages) / (1.0 + u)
        theta = trpo_step(self.policy, state.theta, batch, advantages, self.trust)
        multiplier = state.multiplier + self.rate * (batch.cost - world.limit) / world.limit
        return replace(state, theta=theta, multiplier=float(np.clip(multiplier, 0.0, LARGEST)))

    def train(self, state: State, world: World, rng: np.random.Generator) -> tuple[State, Progress]:
        """The same on fresh tasks."""
        batch, progress = mixed_tasks(self.policy, state, world, rng, self.episodes)
        return self.adapt(state, batch, world), progress


def mixed_tasks(
    policy: StochasticPolicy, state: State, world: World, rng: np.random.Generator, episodes: int
) -> tuple[Batch, Progress]:
    """Samples of one policy in fresh tasks, one episode each."""
    found = world.run(policy, state.theta, world.tasks(episodes, rng), rng, episodes=1)
    batch = world.prepared(policy, found)
    return batch, seen(world, [found.sums(world.discount)[:, 1]], [batch], [batch])


def seen(world: World, costs: list[FloatArray], before: list[Batch], after: list[Batch]) -> Progress:
    """Summary of (E,) costs of all episodes and of the batches before and after adaptation, which may be the same."""
    every, batches = np.concatenate(costs), {id(b): b for b in [*before, *after]}.values()
    return Progress(
        reward=float(np.mean([b.reward for b in after])), cost=float(np.mean([b.cost for b in after])),
        before=float(np.mean([b.cost for b in before])), steps=sum(b.steps for b in batches), episodes=int(every.size),
        exceeding=int((every > world.limit).sum()),
    )  # fmt: skip
