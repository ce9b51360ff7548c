"""MAML with a constraint penalty (Finn, Abbeel & Levine 2017, algorithm 3; the penalty as in Xu & Zhu 2025's comparison).

    in a task     L(theta) = V_r - u max(V_c - d, 0)                                        penalised return, by its surrogate on a batch
    adaptation    theta' = phi + a grad L(phi)                                              (eq 1)
    meta          max_phi  mean over tasks of L'(theta'),   L' on fresh episodes of theta'   (eq 4)

    full            grad_phi = (I + a H) grad L'(theta'),   H = Hessian of L at phi
    first-order     grad_phi = grad L'(theta')

The surrogate has importance weights, so its Hessian at phi holds the product of scores too, ``E[A (hess log pi + score score^T)]``: the part by
which the adaptation's own sampling depends on phi (Rothfuss et al. 2019). Hessian-vector products are exact (a complex step, see
:func:`~surefoot.baselines.deep.networks.along`).

Outer steps: ``trpo`` (as in the paper's experiments: natural gradient, Fisher matrix of ``pi_phi`` on the episodes before adaptation, line search on
the meta-objective with every task adapted anew) or ``adam``. Advantages are divided by their deviation in each batch, which gives the inner rate a
meaning across families.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.baselines.deep.batch import Batch, Trajectories, World, pooled
from surefoot.baselines.deep.learner import Progress, State
from surefoot.baselines.deep.networks import StochasticPolicy, along
from surefoot.baselines.deep.trpo_lagrangian import seen
from surefoot.baselines.deep.trust_region import TRUST, Trust, backtrack, curvature, natural_step

__all__ = ["MAML", "FirstOrderMAML", "MetaTask", "adam", "meta_gradient", "meta_objective", "penalised"]

ADAM = (0.9, 0.999, 1e-8)


@dataclass(frozen=True, eq=False)
class MetaTask:
    """One task of a meta-step.

    Attributes:
        before: episodes of ``pi_phi``.
        after: episodes of the adapted policy.
        costs: (E,) of all these episodes.
    """

    before: Batch
    after: Batch
    costs: FloatArray


def penalised(batch: Batch, limit: float, penalty: float) -> FloatArray:
    """(n,) advantages of the penalised return, in units of their deviation."""
    price = penalty if batch.cost > limit else 0.0
    advantages = batch.reward_advantages - price * batch.cost_advantages
    return np.asarray(advantages / (advantages.std() + 1e-8))


def ascended(policy: StochasticPolicy, phi: Any, batch: Batch, advantages: FloatArray, rate: float) -> Any:
    """(P,) ``phi + a grad L(phi)``; gradients are means over samples."""
    return phi + rate * batch.gradient(policy, phi, advantages) / batch.weights.sum()


def meta_objective(
    policy: StochasticPolicy, phi: FloatArray, tasks: Sequence[MetaTask], limit: float, penalty: float, rate: float
) -> float:
    """Mean of ``L'(phi + a grad L(phi))`` on given episodes."""
    total = 0.0
    for task in tasks:
        theta = ascended(policy, phi, task.before, penalised(task.before, limit, penalty), rate)
        total += task.after.change(policy, theta, penalised(task.after, limit, penalty)) / task.after.weights.sum()
    return total / len(tasks)


def meta_gradient(
    policy: StochasticPolicy,
    phi: FloatArray,
    tasks: Sequence[MetaTask],
    limit: float,
    penalty: float,
    rate: float,
    *,
    first_order: bool,
) -> FloatArray:
    """(P,) gradient of :func:`meta_objective`, or what is left of it without Hessians."""
    total = np.zeros_like(phi)
    for task in tasks:
        inner, outer = (penalised(b, limit, penalty) for b in (task.before, task.after))
        theta = ascended(policy, phi, task.before, inner, rate)
        slope = task.after.gradient(policy, theta, outer) / task.after.weights.sum()
        if not first_order:
            move: Callable[[Any], Any] = lambda at: ascended(policy, at, task.before, inner, rate)  # noqa: E731, B023
            slope = along(move, phi, slope)  # (I + a H) slope: the map's Jacobian is symmetric
        total += slope / len(tasks)
    return total


def adam(state: State, gradient: FloatArray, rate: float) -> State:
    """One step of ascent (Kingma & Ba 2015, algorithm 1)."""
    b1, b2, tiny = ADAM
    zero = np.zeros_like(gradient)
    m = b1 * state.memory.get("adam.m", zero) + (1.0 - b1) * gradient
    v = b2 * state.memory.get("adam.v", zero) + (1.0 - b2) * gradient**2
    t = float(state.memory.get("adam.t", np.zeros(1))[0]) + 1.0
    step = rate * (m / (1.0 - b1**t)) / (np.sqrt(v / (1.0 - b2**t)) + tiny)
    memory = {**state.memory, "adam.m": m, "adam.v": v, "adam.t": np.array([t])}
    return State(state.theta + step, state.multiplier, memory)


@dataclass(frozen=True)
class MAML:
    """See the module.

    Attributes:
        policy: the distribution.
        first_order: drop the Hessians.
        outer: ``trpo`` or ``adam``.
        rate: ``a`` of the adaptation.
        outer_rate: of Adam.
        penalty: ``u``, in units of the returns' range over the limit.
        trust: of the outer step of TRPO.
        tasks, episodes: of a meta-step; episodes before and, again, after adaptation in every task.
    """

    policy: StochasticPolicy
    first_order: bool = False
    outer: Literal["trpo", "adam"] = "trpo"
    rate: float = 0.1
    outer_rate: float = 3e-3
    penalty: float = 1.0
    trust: Trust = TRUST
    tasks: int = 6
    episodes: int = 8
    name: str = "maml"

    def adapt(self, state: State, batch: Batch, world: World) -> State:
        """One gradient step."""
        advantages = penalised(batch, world.limit, self.penalty * world.exchange)
        return state.moved(ascended(self.policy, state.theta, batch, advantages, self.rate))

    def train(self, state: State, world: World, rng: np.random.Generator) -> tuple[State, Progress]:
        """One meta-step."""
        tasks = meta_tasks(self, state, world, rng)
        rest = world.limit, self.penalty * world.exchange, self.rate
        gradient = meta_gradient(self.policy, state.theta, tasks, *rest, first_order=self.first_order)
        progress = seen(world, [t.costs for t in tasks], [t.before for t in tasks], [t.after for t in tasks])
        if self.outer == "adam":
            return adam(state, gradient, self.outer_rate), progress
        before = pooled([t.before for t in tasks])
        step = natural_step(gradient, curvature(self.policy, state.theta, before, self.trust), self.trust)
        start = meta_objective(self.policy, state.theta, tasks, *rest)

        def accept(trial: FloatArray) -> bool:
            close = before.divergence(self.policy, state.theta, trial) <= self.trust.delta
            return close and meta_objective(self.policy, trial, tasks, *rest) > start

        return state.moved(backtrack(state.theta, step, accept, self.trust)), progress


class FirstOrderMAML(MAML):
    """MAML without Hessians."""

    def __init__(self, policy: StochasticPolicy, **settings: Any) -> None:
        super().__init__(policy, **{"name": "maml-first-order", "first_order": True, **settings})


def meta_tasks(learner: Any, state: State, world: World, rng: np.random.Generator) -> list[MetaTask]:
    """Fresh tasks, with episodes before and after the learner's own adaptation."""
    points = world.tasks(learner.tasks, rng)
    first = world.run(learner.policy, state.theta, points, rng, episodes=learner.episodes)
    found = []
    for k, point in enumerate(points):
        own = episodes_of(first, k * learner.episodes, (k + 1) * learner.episodes)
        before = world.prepared(learner.policy, own)
        adapted = learner.adapt(replace(state), before, world)
        later = world.run(learner.policy, adapted.theta, point, rng, episodes=learner.episodes)
        costs = np.concatenate([t.sums(world.discount)[:, 1] for t in (own, later)])
        found.append(MetaTask(before, world.prepared(learner.policy, later), costs))
    return found


def episodes_of(found: Trajectories, first: int, last: int) -> Trajectories:
    """Episodes ``first .. last - 1``."""
    ends = np.concatenate([[0], np.cumsum(found.lengths)])
    rows = slice(ends[first], ends[last])
    return Trajectories(
        found.observations[rows], found.actions[rows], found.log_probs[rows], found.rewards[rows], found.costs[rows],
        found.lengths[first:last],
    )  # fmt: skip
