"""Constrained policy optimisation (Achiam, Held, Tamar & Abbeel 2017).

With gradients ``g`` of the return and ``b`` of the cost, both in units of V, ``c = V_c - d`` and the Fisher matrix F, a step solves (their eq 10,
stated as a maximum)

    max_x  g^T x     s.t.    c + b^T x <= 0,    x^T F x / 2 <= delta

With ``q = g^T F^-1 g``, ``r = g^T F^-1 b``, ``s = b^T F^-1 b`` and multipliers ``l`` of the trust region, ``v`` of the cost, the dual function is

    D(l, v) = (q - 2 v r + v^2 s) / (2 l) - v c + l delta            v*(l) = [(r + l c) / s]_+            x* = F^-1 (g - v* b) / l*

(Theorem 2, appendix 10.2; their ``r`` has the other sign). It is minimised in closed form on the two pieces of the axis on which ``v*`` is
positive (``l* = sqrt((q - r^2/s) / (2 delta - c^2/s))``) and on which it is zero (``l* = sqrt(q / (2 delta))``), each projected on its piece.

* The ellipsoid lies within the limit (``c <= 0`` and ``c^2/s >= 2 delta``): the step of TRPO.
* No point of it does (``c > 0`` and ``c^2/s >= 2 delta``): the recovery step ``x = -sqrt(2 delta / s) F^-1 b`` (eq 14).

The line search (section 6.2) shortens the step until the surrogate of the return does not fall, that of the cost rises by at most ``max(-c, 0)``,
and the mean divergence is at most delta. Where the limit is exceeded (``c > 0``) the return may fall, as in the authors' code: otherwise a policy
slightly above the limit could never leave it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.baselines.deep.batch import Batch, World
from surefoot.baselines.deep.learner import Progress, State
from surefoot.baselines.deep.networks import StochasticPolicy
from surefoot.baselines.deep.trpo_lagrangian import mixed_tasks
from surefoot.baselines.deep.trust_region import TRUST, Product, Trust, backtrack, conjugate_gradient, curvature

__all__ = ["CPO", "Step", "cpo_step", "dual", "solve_step"]

SMALL = 1e-12


@dataclass(frozen=True, eq=False)
class Step:
    """Solution of the subproblem.

    Attributes:
        x: (P,).
        trust: ``l``, multiplier of the trust region.
        cost: ``v``, multiplier of the limit.
        recovery: whether no point of the trust region is within the limit, so that x only lowers the cost.
    """

    x: FloatArray
    trust: float
    cost: float
    recovery: bool


def solve_step(g: FloatArray, b: FloatArray, c: float, product: Product, trust: Trust) -> Step:
    """The subproblem's solution; ``product`` applies F."""
    inverse_g = conjugate_gradient(product, g, trust.iterations)
    q, s = float(g @ inverse_g), 0.0
    if float(b @ b) > SMALL:
        inverse_b = conjugate_gradient(product, b, trust.iterations)
        r, s = float(g @ inverse_b), float(b @ inverse_b)
    if s <= SMALL or (c <= 0.0 and c**2 / s >= 2.0 * trust.delta):
        l = np.sqrt(q / (2.0 * trust.delta))
        return Step(inverse_g / max(l, SMALL), float(l), 0.0, False)
    if c > 0.0 and c**2 / s >= 2.0 * trust.delta:
        return Step(-np.sqrt(2.0 * trust.delta / s) * inverse_b, 0.0, 0.0, True)
    l, v = dual(q, r, s, c, trust.delta)
    return Step((inverse_g - v * inverse_b) / max(l, SMALL), l, v, False)


def dual(q: float, r: float, s: float, c: float, delta: float) -> tuple[float, float]:
    """``(l*, v*)``, where the limit cuts the trust region."""
    bent = np.sqrt(max(q - r**2 / s, 0.0) / max(2.0 * delta - c**2 / s, SMALL))
    flat = np.sqrt(q / (2.0 * delta))
    # r + l c > 0 is the piece on which the multiplier of the limit is positive.
    edge = -r / c if abs(c) > SMALL else (np.inf if r > 0.0 else -np.inf)
    if abs(c) <= SMALL:
        pieces = (0.0, np.inf) if r > 0.0 else None, None if r > 0.0 else (0.0, np.inf)
    elif c > 0.0:
        pieces = (max(edge, 0.0), np.inf), (0.0, edge) if edge > 0.0 else None
    else:
        pieces = (0.0, edge) if edge > 0.0 else None, (max(edge, 0.0), np.inf)
    found = []
    for best, piece in zip((bent, flat), pieces):
        if piece is not None:
            l = max(float(np.clip(best, *piece)), SMALL)
            v = max((r + l * c) / s, 0.0)
            found.append(((q - 2.0 * v * r + v**2 * s) / (2.0 * l) - v * c + l * delta, l, v))
    _, l, v = min(found)
    return l, v


def cpo_step(policy: StochasticPolicy, theta: FloatArray, batch: Batch, limit: float, trust: Trust) -> FloatArray:
    """(P,) parameters after one step of CPO."""
    reward, cost, c = batch.reward_advantages, batch.cost_advantages, batch.cost - limit
    g, b = batch.gradient(policy, theta, reward), batch.gradient(policy, theta, cost)
    found = solve_step(g, b, c, curvature(policy, theta, batch, trust), trust)
    before = batch.change(policy, theta, reward), batch.change(policy, theta, cost)

    def accept(trial: FloatArray) -> bool:
        better = c > 0.0 or batch.change(policy, trial, reward) >= before[0]
        within = batch.change(policy, trial, cost) - before[1] <= max(-c, 0.0)
        return bool(better and within and batch.divergence(policy, theta, trial) <= trust.delta)

    return backtrack(theta, found.x, accept, trust)


@dataclass(frozen=True)
class CPO:
    """See the module.

    Attributes:
        policy: the distribution.
        trust: of a step.
        episodes: of a step of training, each in a task of its own.
    """

    policy: StochasticPolicy
    trust: Trust = TRUST
    episodes: int = 24
    name: str = "cpo"

    def adapt(self, state: State, batch: Batch, world: World) -> State:
        """One step."""
        return state.moved(cpo_step(self.policy, state.theta, batch, world.limit, self.trust))

    def train(self, state: State, world: World, rng: np.random.Generator) -> tuple[State, Progress]:
        """The same on fresh tasks."""
        batch, progress = mixed_tasks(self.policy, state, world, rng, self.episodes)
        return self.adapt(state, batch, world), progress
