"""LB-SGD: stochastic gradient ascent on a log barrier (Ni & Kamgarpour, AISTATS 2025, arXiv 2312.00561).

A softmax policy climbs ``B(theta) = V_r + eta sum_i ln(d_i - V_ci)``. From n episodes of the current policy come means, gradients
(REINFORCE with rewards to go) and radii

    sigma_0 = H_g sqrt(2 ln(2 (1+I) K' / delta) / n)          of values (Proposition 3.3)
    sigma_1 = sqrt(2) H_g sigma_0                              of gradients

hence a lower bound of every slack and one step:

    a_i = d_i - V^_ci - sigma_0                                g = grad V_r - sum_i (eta / a_i) grad V_ci
    beta_i = |<grad V_ci, g / |g|>| + sigma_1                  M_2 = M + sum_i (10 eta M / a_i + 8 eta beta_i^2 / a_i^2)
    step = min( min_i a_i / ((2 beta_i + sqrt(M a_i)) |g|), 1 / M_2 )

with M the smoothness of values in the logits: no cost can use up more than half of its slack along a step. Where a radius is more than
half of an estimated slack the policy stays and more episodes are collected; where ``|g| <= eta / 2`` the policy is as good as the
barrier can tell, and stays. The start is the safe policy mixed with a little of the uniform one
(:func:`~surefoot.baselines.meta_training.interior`): a softmax policy needs every action.

The step's formula was checked against the authors' public code. **From memory, not confirmed against the paper:** the constant of
``sigma_1`` and ``M = 8 H_g^3``.

Presets:

* ``theory``: as above, ``eta`` = .01 of the reward's range, K' every look that the run can take. Where not even K episodes can make
  ``sigma_0`` less than half of a limit, no data whatever could lead to a step; then the safe policy itself is played.
* ``calibrated``: one multiplier on the three worst-case constants, ``sigma_0``, ``sigma_1`` and M. Outside the proof.
* ``published``: the adaptation to the gridworld in the Safe-PCE authors' code, in raw units. What is wrong with it: a constant step of 4
  in place of the adaptive one, so the slack is not protected; no radii; slack clipped from below at .05, so the barrier never grows
  steep; batches of 500 and then always 3000, because ``max(min(1/slack^2, 500), 3000)`` has its two ends swapped, hence about 14 steps in
  40 000 episodes; and the start is another policy than every other method's, the optimum at noise .4 regularised with 8 times its
  entropy, which is some 13 per episode short of the optimum where the safe policy is 2.4 short.

Letters: S states, A actions, I constraints, F = 1 + I signals (reward first), n episodes of a policy, K episodes of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import log, sqrt
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, freeze
from surefoot.baselines.gradient import Units, shift_logits
from surefoot.baselines.meta_training import interior, trained
from surefoot.baselines.on_policy import OnPolicyAgent, Sample, looks, safe_table
from surefoot.baselines.presets import BaselineContext, Preset, choose
from surefoot.cmdp.evaluate import evaluate
from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import InvalidInput
from surefoot.tasks.gridworld import SAFE_NOISE, NoisyGridworld

__all__ = [
    "PRESETS",
    "BarrierRadii",
    "LogBarrier",
    "PublishedLogBarrier",
    "barrier_direction",
    "barrier_step",
    "make",
    "regularised_optimum",
]

PRESETS: tuple[Preset, ...] = ("theory", "calibrated", "published")
ETA = 0.01
"""Weight of the barrier, in units of the reward's range per step: what the Safe-PCE authors use for this method, .1 where rewards reach 10."""
BATCH = 500
"""Of 100, 500 and 2000 the one that did best on four training tasks of the gridworld over multipliers from 1e-7 to 1e-4."""


def barrier_direction(gradients: FloatArray, slack: FloatArray, eta: float) -> FloatArray:
    """(S, A) estimate of the barrier's gradient from gradients (F, S, A) and slacks (I,) > 0."""
    result: FloatArray = gradients[0] - np.einsum("i,isa->sa", eta / slack, gradients[1:])
    return result


def barrier_step(
    gradients: FloatArray,
    direction: FloatArray,
    slack: FloatArray,
    eta: float,
    smoothness: float,
    gradient_radius: float,
) -> float:
    """Length of the step along ``direction``, which must not vanish; see the module's docstring."""
    norm = float(np.linalg.norm(direction))
    along = np.abs(np.einsum("isa,sa->i", gradients[1:], direction / norm))
    beta = along + gradient_radius
    curvature = smoothness + (10.0 * eta * smoothness / slack + 8.0 * eta * beta**2 / slack**2).sum()
    reach = slack / (2.0 * beta + np.sqrt(smoothness * slack)) / norm
    return float(min(reach.min(initial=np.inf), 1.0 / curvature))


@dataclass(frozen=True)
class BarrierRadii:
    """Radii and smoothness, all times one multiplier.

    Attributes:
        horizon: ``H_g``.
        log_term: ``ln(2 (1+I) K' / delta)``.
        multiplier: 1 as proved.
    """

    horizon: float
    log_term: float
    multiplier: float = 1.0

    @staticmethod
    def of(units: Units, episodes: int, delta: float, multiplier: float = 1.0) -> BarrierRadii:
        """Radii that hold at every look of a run of this many episodes."""
        n_signals = units.scale.size
        return BarrierRadii(units.horizon, log(2.0 * n_signals * looks(episodes) / delta), multiplier)

    def value(self, n: int) -> float:
        """``sigma_0``."""
        return self.multiplier * self.horizon * sqrt(2.0 * self.log_term / n)

    def gradient(self, n: int) -> float:
        """``sigma_1``."""
        return sqrt(2.0) * self.horizon * self.value(n)

    @property
    def smoothness(self) -> float:
        """M."""
        return self.multiplier * 8.0 * self.horizon**3


@dataclass(frozen=True, eq=False)
class LogBarrier:
    """The learner, for ``theory`` and ``calibrated``.

    Attributes:
        units: the papers'.
        start: (S, A), or ``None`` where no step is possible.
        radii: radii and smoothness.
        eta: weight of the barrier.
        notes: what a reader of the results must know.
    """

    units: Units
    start: FloatArray | None
    radii: BarrierRadii
    eta: float = ETA
    notes: tuple[str, ...] = ()

    def batch(self, moves: int) -> int:
        """See :class:`~surefoot.baselines.on_policy.Learner`."""
        return BATCH

    def update(self, table: FloatArray, sample: Sample, moves: int) -> FloatArray | None:
        """See :class:`~surefoot.baselines.on_policy.Learner`."""
        radius = self.radii.value(sample.n)
        slack = self.units.limits - sample.means[1:] - radius
        if (slack < radius).any():
            return None
        gradients = sample.gradient(table)
        direction = barrier_direction(gradients, slack, self.eta)
        if np.linalg.norm(direction) <= self.eta / 2.0:
            return None
        step = barrier_step(gradients, direction, slack, self.eta, self.radii.smoothness, self.radii.gradient(sample.n))
        return shift_logits(table, step * direction)


@dataclass(frozen=True, eq=False)
class PublishedLogBarrier:
    """The learner as adapted by the Safe-PCE authors; the module's docstring says what is wrong with it.

    Attributes:
        units: raw.
        start: (S, A) the entropy-regularised optimum.
        notes: what a reader of the results must know.
    """

    units: Units
    start: FloatArray
    notes: tuple[str, ...] = (
        "published adaptation: constant step, no radii, a start of its own far below the safe policy; nothing is guaranteed",
    )
    eta, step = 0.1, 4.0
    least_slack, offset = 0.05, 1e-8
    first_batch, later_batch = 500, 3000

    def batch(self, moves: int) -> int:
        """See :class:`~surefoot.baselines.on_policy.Learner`."""
        return self.later_batch if moves else self.first_batch

    def update(self, table: FloatArray, sample: Sample, moves: int) -> FloatArray | None:
        """See :class:`~surefoot.baselines.on_policy.Learner`."""
        slack = np.maximum(self.units.limits - sample.means[1:], self.least_slack) + self.offset
        return shift_logits(table, self.step * barrier_direction(sample.gradient(table), slack, self.eta))


def regularised_optimum(cmdp: TabularCMDP, weight: float) -> FloatArray:
    """(S, A) maximiser of ``V_r + weight E sum_t gamma^t entropy(pi(.|s_t))`` with the one cost at its limit.

    Soft value iteration ``V(s) = weight ln sum_a exp(Q(s,a) / weight)`` with reward ``r - u c``, the multiplier u found by a root search.

    Raises:
        InvalidInput: not one constraint, or the unregularised limit cannot be met by any multiplier up to 10^6.
    """
    from scipy.optimize import brentq

    if cmdp.n_constraints != 1:
        raise InvalidInput(
            f"cmdp must have one constraint, got {cmdp.n_constraints}; this start knows one multiplier",
            code="SF-ARGUMENT-MISMATCH",
        )

    def excess(multiplier: float) -> float:
        return float(evaluate(cmdp, _soft_policy(cmdp, multiplier, weight)).costs[0] - cmdp.cost_limits[0])

    if excess(0.0) <= 0.0:
        return _soft_policy(cmdp, 0.0, weight)
    high = 1.0
    while excess(high) > 0.0:
        if high > 1e6:
            raise InvalidInput(
                f"cost limit must be attainable with entropy weight {weight:g}, got {cmdp.cost_limits[0]:g}; lower the weight",
                code="SF-ARGUMENT-RANGE",
            )
        high *= 2.0
    return _soft_policy(cmdp, float(brentq(excess, 0.0, high, xtol=1e-9)), weight)


def _soft_policy(cmdp: TabularCMDP, multiplier: float, weight: float) -> FloatArray:
    """(S, A) ``exp((Q - V) / weight)`` at the fixed point, which is reached to rounding."""
    signal = cmdp.rewards - multiplier * cmdp.costs[0]
    values = np.zeros(cmdp.n_states)
    for _ in range(int(np.ceil(np.log(1e-14) / np.log(cmdp.discount)))):
        action_values = signal + cmdp.discount * (cmdp.dense @ values)
        top = action_values.max(axis=1, keepdims=True)
        values = top[:, 0] + weight * np.log(np.exp((action_values - top) / weight).sum(axis=1))
    table = np.exp((action_values - top) / weight)
    result: FloatArray = table / table.sum(axis=1, keepdims=True)
    return result


@cache
def _published_start(limit: float) -> FloatArray:
    return freeze(regularised_optimum(NoisyGridworld(limit=limit).cmdp(SAFE_NOISE), 8.0))


def make(context: BaselineContext, argument: str) -> OnPolicyAgent:
    """``lb-sgd``, ``lb-sgd:theory``, ``:calibrated``, ``:calibrated=1e-3``, and on the gridworld ``:published``.

    Raises:
        InvalidInput: any other argument, or no multiplier known for the family.
        AssumptionError: the safe policy has no slack that randomising leaves.
    """
    choice = choose("lb-sgd", argument, context.family.name, PRESETS)
    if choice.preset == "published":
        return OnPolicyAgent(context.policy_set, _published(context), seed=context.seed)
    units = Units.of(context.family.criterion)
    radii = BarrierRadii.of(units, context.episodes, context.delta, choice.multiplier)
    notes: tuple[str, ...] = ("the constants of smoothness and of the gradient's radius could not be confirmed",)
    if choice.preset == "calibrated":
        notes = (f"radii and smoothness are multiplied by {choice.multiplier:g}, which is outside the proof",)
    start: FloatArray | None = None
    if 2.0 * radii.value(context.episodes) <= units.limits.min(initial=np.inf):
        safe = safe_table(context.policy_set)
        notes += ("the start is not the safe policy itself: a little of the uniform one is mixed in",)
        start = trained(context.family, context.policy_set, "interior", lambda stack: interior(stack, safe))
    else:
        notes += ("no data could prove a single step safe in so few episodes: the safe policy is played throughout",)
    return OnPolicyAgent(context.policy_set, LogBarrier(units, start, radii, notes=notes), seed=context.seed)


def _published(context: BaselineContext) -> Any:
    if not isinstance(context.family, NoisyGridworld):
        raise InvalidInput(
            f"lb-sgd:published must run on the gridworld it was written for, got {context.family.name!r}; use lb-sgd:theory",
            code="SF-ARGUMENT-MISMATCH",
        )
    criterion = context.family.criterion
    return PublishedLogBarrier(Units.raw(criterion), _published_start(context.family.limit))
