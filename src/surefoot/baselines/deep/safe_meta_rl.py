"""Safe Meta-RL on a policy network (Xu & Zhu, NeurIPS 2025); the tabular version is :mod:`surefoot.baselines.safe_meta_rl`.

From ``pi_phi`` with discounted state visitation ``nu``, the adapted policy solves

    max_pi  E_nu,pi[A_r] - l E_nu KL(pi || pi_phi)
    s.t.    V_c(pi_phi) + E_nu,pi[A_c] / (1 - gamma) + l_c E_nu KL(pi || pi_phi) <= d + delta_c

in closed form: with the multiplier ``u >= 0`` of the limit

    pi_u(a|s) prop to pi_phi(a|s) exp((A_r - u A_c) / eta),        eta = l + (1 - gamma) u l_c

    u <- [u - rate (d' - E_nu,pi_u[A_c] - (1 - gamma) l_c E_nu KL(pi_u || pi_phi))]_+,      d' = (1 - gamma) (d + delta_c - V_c(pi_phi))

a projected subgradient of the convex dual ``D(u) = eta ln E_nu,pi_phi exp(. / eta) + u d'``. On samples, expectations under ``pi_u`` are those under
``pi_phi`` with weights ``W_n prop to exp(. / eta)`` of mean 1 (one normalisation for all states: advantages of other actions are not known), and
``1 / (1 - gamma)`` is the sum of the samples' weights, since episodes end.

**Projection on the network.** ``pi_u`` is no network. The adapted parameters maximise the weighted regression

    F(theta) = E_nu,pi_phi[ W log pi_theta - pi_theta / pi_phi ]

whose pointwise maximum is ``pi_theta = W pi_phi``; the second term has a constant mean and cancels noise. A few natural-gradient steps from phi,
each with a line search on F and on the divergence from ``pi_phi``.

**Meta-training** (CRPO-like): while ``V_c(pi_phi) <= d`` on average over the tasks, a step along the Hessian-free meta-gradient
``sum_n w_n grad log pi_phi(a_n|s_n) A_n`` with samples and advantages of the adapted policies (how u and the advantages depend on phi is dropped),
else a step that lowers the cost of ``pi_phi``; both natural-gradient steps of bounded divergence.

The published weights are tied to units. Here ``l = kappa std(A_r)`` and ``(1 - gamma) l_c = kappa std(A_c)``, which keeps the divergence near
``1 / (2 kappa^2)`` whatever the units; ``delta_c = 0`` as in their tables. Their proof of anytime safety takes advantages as exact and ``l_c`` as
large as a bound asks; neither holds here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.baselines.deep.batch import Batch, World, pooled
from surefoot.baselines.deep.learner import Progress, State
from surefoot.baselines.deep.maml import meta_tasks
from surefoot.baselines.deep.networks import StochasticPolicy
from surefoot.baselines.deep.trpo_lagrangian import seen
from surefoot.baselines.deep.trust_region import TRUST, Trust, backtrack, conjugate_gradient, curvature, natural_step

__all__ = ["Penalties", "SafeMetaRL", "Tilt", "project", "tilt"]

DUAL_STEPS, DUAL_RATE, LARGEST = 200, 15.0, 1e3
"""Subgradient steps, their size in units of the penalties, and the largest multiplier, likewise."""


@dataclass(frozen=True)
class Penalties:
    """Weights of the divergence.

    Attributes:
        reward: ``l``.
        cost: ``(1 - gamma) l_c``.
    """

    reward: float
    cost: float

    @staticmethod
    def of(batch: Batch, kappa: float) -> Penalties:
        """In units of the advantages' deviations."""
        r, c = (float(a.std()) for a in (batch.reward_advantages, batch.cost_advantages))
        return Penalties(kappa * max(r, 1e-8), kappa * max(c, 1e-8))


@dataclass(frozen=True, eq=False)
class Tilt:
    """The adapted policy on the samples of ``pi_phi``.

    Attributes:
        weights: (n,) ``W``, of mean 1 under ``nu``.
        multiplier: u.
        slope: derivative of the dual there: the room that is left, times ``1 - gamma``.
        divergence: ``E_nu KL(pi_u || pi_phi)``.
    """

    weights: FloatArray
    multiplier: float
    slope: float
    divergence: float


def tilted(batch: Batch, u: float, room: float, penalties: Penalties) -> Tilt:
    """``pi_u`` for one multiplier; ``room`` is d'."""
    nu = batch.weights / batch.weights.sum()
    exponent = (batch.reward_advantages - u * batch.cost_advantages) / (penalties.reward + u * penalties.cost)
    raw = np.exp(exponent - exponent.max())
    weights = raw / (nu @ raw)
    divergence = float((nu * weights) @ exponent - exponent.max() - np.log(nu @ raw))
    slope = room - float((nu * weights) @ batch.cost_advantages) - penalties.cost * divergence
    return Tilt(weights, u, slope, divergence)


def tilt(batch: Batch, limit: float, penalties: Penalties) -> Tilt:
    """The adapted policy at the multiplier that projected subgradients find; steps shrink with the square root of their number."""
    room = (limit - batch.cost) / float(batch.weights.sum())
    u, size = 0.0, penalties.reward / penalties.cost
    for k in range(DUAL_STEPS):
        found = tilted(batch, u, room, penalties)
        if u == 0.0 and found.slope >= 0.0:
            break
        step = DUAL_RATE * size * found.slope / penalties.cost / np.sqrt(1.0 + k)
        u = float(np.clip(u - step, 0.0, LARGEST * size))
    return tilted(batch, u, room, penalties)


def project(
    policy: StochasticPolicy, phi: FloatArray, batch: Batch, weights: FloatArray, trust: Trust, steps: int
) -> FloatArray:
    """(P,) parameters whose policy is close to ``weights * pi_phi``."""
    nu = batch.weights / batch.weights.sum()

    def ratio(theta: FloatArray) -> FloatArray:
        return np.asarray(np.exp(policy.log_prob(theta, batch.inputs, batch.actions) - batch.log_probs))

    def fit(theta: FloatArray) -> float:
        logs = policy.log_prob(theta, batch.inputs, batch.actions) - batch.log_probs
        return float(nu @ (weights * logs - np.exp(logs)))

    theta = phi
    for _ in range(steps):
        gradient = policy.score(theta, batch.inputs, batch.actions, nu * (weights - ratio(theta)))
        step = conjugate_gradient(curvature(policy, theta, batch, trust), gradient, trust.iterations)
        start = fit(theta)

        def accept(trial: FloatArray, start: float = start) -> bool:
            return fit(trial) > start and batch.divergence(policy, phi, trial) <= trust.delta

        following = backtrack(theta, step, accept, trust)
        if following is theta:
            break
        theta = following
    return theta


@dataclass(frozen=True)
class SafeMetaRL:
    """See the module.

    Attributes:
        policy: the distribution.
        kappa: of the penalties.
        fits: natural-gradient steps of the projection.
        trust: of meta-steps; the projection may move three times as far.
        tasks, episodes: of a meta-step; episodes before and, again, after adaptation in every task.
    """

    policy: StochasticPolicy
    kappa: float = 3.0
    fits: int = 3
    trust: Trust = TRUST
    tasks: int = 6
    episodes: int = 8
    name: str = "safe-meta-rl"

    def adapt(self, state: State, batch: Batch, world: World) -> State:
        """Closed form, then the projection."""
        found = tilt(batch, world.limit, Penalties.of(batch, self.kappa))
        wide = replace(self.trust, delta=3.0 * self.trust.delta)
        return state.moved(project(self.policy, state.theta, batch, found.weights, wide, self.fits))

    def train(self, state: State, world: World, rng: np.random.Generator) -> tuple[State, Progress]:
        """One meta-step."""
        tasks = meta_tasks(self, state, world, rng)
        before, after = pooled([t.before for t in tasks]), pooled([t.after for t in tasks])
        gradient = self.meta_gradient(state.theta, before, after, world.limit)
        step = natural_step(gradient, curvature(self.policy, state.theta, before, self.trust), self.trust)

        def accept(trial: FloatArray) -> bool:
            return before.divergence(self.policy, state.theta, trial) <= self.trust.delta

        progress = seen(world, [t.costs for t in tasks], [t.before for t in tasks], [t.after for t in tasks])
        return state.moved(backtrack(state.theta, step, accept, self.trust)), progress

    def meta_gradient(self, phi: FloatArray, before: Batch, after: Batch, limit: float) -> FloatArray:
        """(P,) of the adapted return, or against the cost of ``pi_phi`` where that is over the limit."""
        if before.cost > limit:
            return np.asarray(-before.gradient(self.policy, phi, before.cost_advantages))
        weights = after.weights * after.reward_advantages
        return np.asarray(self.policy.score(phi, after.inputs, after.actions, weights))
