"""Policy gradients of discounted tabular CMDPs: exact, estimated from episodes, and steps in the logits.

For a softmax policy ``pi(a|s) prop to exp theta(s,a)``, occupancy ``d(s) = E sum_t gamma^t 1{s_t = s}`` and advantage
``A_f = Q_f - V_f`` of a signal f (Sutton et al. 2000; for tables Agarwal et al. 2021):

    dV_f / dtheta(s,a) = d(s) pi(a|s) A_f(s,a)
                       = E sum_t gamma^t 1{s_t = s} (1{a_t = a} - pi(a|s)) G_t,      G_t = sum_{k>=t} gamma^{k-t} f_k

The second line needs only the sums that :class:`~surefoot.cmdp.simulate.Visits` holds, and so does the every-visit estimate of ``Q_f``.

The papers that use this take signals in [0, 1] per step. :class:`Units` converts: rewards ``(r - r_min) / (r_max - r_min)``, costs
``c / c_max``, limits ``d / c_max``, so that values lie in ``[0, H_g]`` with ``H_g = 1 / (1 - gamma)``.

Letters: S states, A actions, I constraints, F = 1 + I signals (reward first), n episodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surefoot.arrays import FloatArray, freeze
from surefoot.cmdp.evaluate import occupancy, state_values
from surefoot.cmdp.model import TabularCMDP
from surefoot.cmdp.simulate import Visits
from surefoot.criterion import Criterion

__all__ = [
    "Units",
    "estimated_advantages",
    "estimated_gradient",
    "exact_advantages",
    "exact_gradient",
    "shift_logits",
    "with_uniform",
]

LEAST_LOG = -40.0
"""Logarithm of the smallest probability that a step leaves to an action which had one: below, it could never come back."""


@dataclass(frozen=True, eq=False)
class Units:
    """Scales of the signals.

    Attributes:
        low: (F,) smallest signal of a step.
        scale: (F,) what a unit is worth.
        limits: (I,) cost limits, in units.
        discount: ``gamma``.
    """

    low: FloatArray
    scale: FloatArray
    limits: FloatArray
    discount: float

    @staticmethod
    def of(criterion: Criterion) -> Units:
        """The papers' units: every signal of a step in [0, 1]."""
        bottom, top = criterion.means_only("policy gradients").reward_bounds
        low = np.concatenate([[bottom], np.zeros(criterion.n_constraints)])
        scale = np.concatenate([[top - bottom], criterion.cost_bounds])
        limits = criterion.cost_limits / criterion.cost_bounds
        return Units(freeze(low), freeze(scale), freeze(limits), criterion.discount)

    @staticmethod
    def raw(criterion: Criterion) -> Units:
        """The task's own units."""
        n = 1 + criterion.means_only("policy gradients").n_constraints
        return Units(freeze(np.zeros(n)), freeze(np.ones(n)), criterion.cost_limits, criterion.discount)

    @property
    def horizon(self) -> float:
        """``H_g``."""
        return 1.0 / (1.0 - self.discount)

    def values(self, raw: FloatArray) -> FloatArray:
        """(..., F) discounted sums in units."""
        return (raw - self.low * self.horizon) / self.scale

    def visits(self, raw: Visits) -> Visits:
        """Sums over visits in units."""
        shifted = raw.to_go - (self.low * self.horizon)[:, None, None] * raw.discounted
        return Visits(raw.episodes, raw.count, raw.discounted, shifted / self.scale[:, None, None])


def exact_advantages(cmdp: TabularCMDP, table: FloatArray) -> FloatArray:
    """(F, S, A) advantages of one policy."""
    values = state_values(cmdp, table)[0]
    ahead = np.stack([np.add.reduceat(cmdp.probabilities * v[cmdp.successors], cmdp.row_start[:-1]) for v in values])
    advantages: FloatArray = cmdp.signals + cmdp.discount * ahead.reshape(cmdp.signals.shape) - values[:, :, None]
    return advantages


def exact_gradient(cmdp: TabularCMDP, table: FloatArray) -> FloatArray:
    """(F, S, A) gradients of returns and costs in the logits."""
    gradient: FloatArray = occupancy(cmdp, table) * exact_advantages(cmdp, table)
    return gradient


def estimated_gradient(visits: Visits, table: FloatArray) -> FloatArray:
    """(F, S, A) unbiased estimate of the same from episodes of the policy ``table``."""
    centred: FloatArray = visits.to_go - table * visits.to_go.sum(axis=2, keepdims=True)
    return centred / visits.episodes


def estimated_advantages(visits: Visits) -> FloatArray:
    """(F, S, A) every-visit Monte-Carlo advantages, visits weighted by ``gamma^t``; 0 where a pair was never tried."""
    states = visits.discounted.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        action_values = visits.to_go / visits.discounted
        values = visits.to_go.sum(axis=2, keepdims=True) / states
        advantages: FloatArray = np.where(visits.discounted > 0.0, action_values - values, 0.0)
    return advantages


def shift_logits(table: FloatArray, shift: FloatArray) -> FloatArray:
    """(..., S, A) policy ``prop to table exp(shift)``; what has no probability keeps none, what has some keeps some."""
    with np.errstate(divide="ignore"):
        logits = np.log(table) + shift
    logits -= logits.max(axis=-1, keepdims=True)
    moved = np.where(table > 0.0, np.exp(np.maximum(logits, LEAST_LOG)), 0.0)
    result: FloatArray = moved / moved.sum(axis=-1, keepdims=True)
    return result


def with_uniform(table: FloatArray, share: float) -> FloatArray:
    """(S, A) policy that acts uniformly with probability ``share``."""
    mixed: FloatArray = (1.0 - share) * table + share / table.shape[1]
    return mixed
