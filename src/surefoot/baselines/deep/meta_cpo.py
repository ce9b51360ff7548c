"""Meta-CPO: constrained policy optimisation in both loops (Cho & Sun, AAAI 2024).

    adaptation    theta' = phi + x*(phi),   x* = argmax g^T x   s.t.  c + b^T x <= 0,  x^T F x / 2 <= delta         (their inner problem, CPO's)
    meta          one step of CPO on  mean_tau V_r(theta'_tau)  subject to  mean_tau V_c(theta'_tau) <= d            (their outer problem)

The meta-gradients go through the convex programme. Where its optimality conditions hold with multipliers ``l`` and ``v``,

    l F x = g - v b,    x^T F x = 2 delta,    c + b^T x = 0 (if v > 0)

differentiating them with F held fixed gives a symmetric system, so that for any vector w (one solve, no Jacobian)

    [ l F   F x   b ] [ y ]   [ w ]
    [ x^T F  0    0 ] [ . ] = [ 0 ]        w^T dx = y^T (dg - v db) - k (dc + x^T db),        dg = G dphi,  db = B dphi,  dc = b^T dphi
    [ b^T    0    0 ] [ k ]   [ 0 ]

with the Hessians G, B of the two surrogates, applied exactly. The authors differentiate with a library for cone programmes; that F moves with phi is
left out here. A recovery step has no such multipliers: its adaptation counts as a shift, as in first-order MAML. So does every adaptation within the
line search of the outer step. The constraint is met by meta-iterates as far as CPO's estimates go; nothing is promised while a test task is
adapted to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.baselines.deep.batch import Batch, World, pooled
from surefoot.baselines.deep.cpo import Step, cpo_step, solve_step
from surefoot.baselines.deep.learner import Progress, State
from surefoot.baselines.deep.maml import MetaTask, meta_tasks
from surefoot.baselines.deep.networks import StochasticPolicy, along
from surefoot.baselines.deep.trpo_lagrangian import seen
from surefoot.baselines.deep.trust_region import TRUST, Product, Trust, backtrack, conjugate_gradient, curvature

__all__ = ["MetaCPO", "inner_step", "through_step"]


def inner_step(
    policy: StochasticPolicy, phi: FloatArray, batch: Batch, limit: float, trust: Trust
) -> tuple[Step, Product]:
    """CPO's step without a line search, and the curvature it was made with."""
    product = curvature(policy, phi, batch, trust)
    g = batch.gradient(policy, phi, batch.reward_advantages)
    b = batch.gradient(policy, phi, batch.cost_advantages)
    return solve_step(g, b, batch.cost - limit, product, trust), product


def through_step(
    policy: StochasticPolicy, phi: FloatArray, batch: Batch, step: Step, product: Product, trust: Trust, w: FloatArray
) -> FloatArray:
    """(P,) ``w + (dx*/dphi)^T w``: how ``w^T (phi + x*(phi))`` moves with phi."""
    if step.recovery or step.trust <= 0.0:
        return w

    def gradient(kind: FloatArray) -> Any:
        return lambda at: batch.gradient(policy, at, kind)

    ahead = product(step.x)
    b = gradient(batch.cost_advantages)(phi)
    columns = [ahead, b] if step.cost > 0.0 else [ahead]
    solved = [conjugate_gradient(product, column, trust.iterations) / step.trust for column in [w, *columns]]
    inner = np.array([[column @ s for s in solved[1:]] for column in columns])
    shares = np.linalg.lstsq(inner, np.array([column @ solved[0] for column in columns]), rcond=1e-10)[0]
    y = solved[0] - sum(share * s for share, s in zip(shares, solved[1:]))
    moved = w + along(gradient(batch.reward_advantages), phi, y)
    if step.cost > 0.0:
        k = shares[1]
        hessian_b = gradient(batch.cost_advantages)
        moved = moved - along(hessian_b, phi, step.cost * y + k * step.x) - k * b
    return np.asarray(moved)


@dataclass(frozen=True)
class MetaCPO:
    """See the module.

    Attributes:
        policy: the distribution.
        trust: of the adaptation and, separately, of the outer step.
        differentiate: through the adaptation; otherwise it counts as a shift.
        tasks, episodes: of a meta-step; episodes before and, again, after adaptation in every task.
    """

    policy: StochasticPolicy
    trust: Trust = TRUST
    differentiate: bool = True
    tasks: int = 6
    episodes: int = 8
    name: str = "meta-cpo"

    def adapt(self, state: State, batch: Batch, world: World) -> State:
        """One step of CPO, with its line search."""
        return state.moved(cpo_step(self.policy, state.theta, batch, world.limit, self.trust))

    def train(self, state: State, world: World, rng: np.random.Generator) -> tuple[State, Progress]:
        """One meta-step."""
        tasks = meta_tasks(_Inner(self), state, world, rng)
        progress = seen(world, [t.costs for t in tasks], [t.before for t in tasks], [t.after for t in tasks])
        return state.moved(self.outer_step(state.theta, tasks, world.limit)), progress

    def outer_step(self, phi: FloatArray, tasks: Sequence[MetaTask], limit: float) -> FloatArray:
        """(P,) parameters after one step of CPO on what the adapted policies earn and cost."""
        policy, trust = self.policy, self.trust
        g = np.mean([self.meta_gradient(phi, t, limit, reward=True) for t in tasks], axis=0)
        b = np.mean([self.meta_gradient(phi, t, limit, reward=False) for t in tasks], axis=0)
        c = float(np.mean([t.after.cost for t in tasks])) - limit
        before = pooled([t.before for t in tasks])
        found = solve_step(g, b, c, curvature(policy, phi, before, trust), trust)
        inner = [phi + inner_step(policy, phi, t.before, limit, trust)[0].x for t in tasks]

        def moved(trial: FloatArray, reward: bool) -> float:
            kinds = [t.after.reward_advantages if reward else t.after.cost_advantages for t in tasks]
            return float(np.mean([t.after.change(policy, x + trial - phi, a) for t, x, a in zip(tasks, inner, kinds)]))

        start = moved(phi, True), moved(phi, False)

        def accept(trial: FloatArray) -> bool:
            better = c > 0.0 or moved(trial, True) >= start[0]
            within = moved(trial, False) - start[1] <= max(-c, 0.0)
            return bool(better and within and before.divergence(policy, phi, trial) <= trust.delta)

        return backtrack(phi, found.x, accept, trust)

    def meta_gradient(self, phi: FloatArray, task: MetaTask, limit: float, *, reward: bool) -> FloatArray:
        """(P,) gradient of the return, or cost, after adaptation."""
        step, product = inner_step(self.policy, phi, task.before, limit, self.trust)
        kind = task.after.reward_advantages if reward else task.after.cost_advantages
        w = task.after.gradient(self.policy, phi + step.x, kind)
        if not self.differentiate:
            return np.asarray(w)
        return through_step(self.policy, phi, task.before, step, product, self.trust, w)


class _Inner:
    """The adaptation that meta-gradients are taken of: the whole step."""

    def __init__(self, learner: MetaCPO) -> None:
        self.policy, self.tasks, self.episodes, self._trust = (
            learner.policy,
            learner.tasks,
            learner.episodes,
            learner.trust,
        )

    def adapt(self, state: State, batch: Batch, world: World) -> State:
        return state.moved(state.theta + inner_step(self.policy, state.theta, batch, world.limit, self._trust)[0].x)
