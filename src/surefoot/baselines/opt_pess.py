"""OptPess-LP (Liu, Zhou, Kalathil, Kumar & Tian 2021, arXiv 2106.02684): optimistic reward, pessimistic cost, one point model.

With ``beta(s,a) = sqrt(Z / max(1, N(s,a)))``, the paper's finite-horizon signals are

    r-bar  = r-hat + (1 + S H + 4 H (1 + S H)/(tau - c0)) beta,        c-under = c-hat + (1 + S H) beta,

and each episode plays ``pi_s`` while ``V_c(pi_s; c-under, P-hat) >= (tau + c0)/2``, else the optimum of the ordinary linear program on
``P-hat`` with these signals and budget ``tau``. Ported to the discounted case (:mod:`surefoot.baselines.model_based`):

    Z = ln(16 S^2 A H K T / delta),
    c-under = c + n H C beta,          r-bar = r + n H R (1 + 4 H C/xi) beta,          test: V_c(pi_s; c-under, P-hat) < b - xi/2 .

The leading 1 goes because r and c are known. The S in ``S H`` counts the terms of a sum over successors: with a known support it is the
number ``n(s,a)`` of possible ones; pairs with n = 1 need no bonus. R is the range of rewards, C the largest cost; several
constraints take the largest of ``4 H C_i/xi``.

Why (our derivation). On the event ``|P - P-hat| <= beta`` entry by entry, ``|V_f(P) - V_f(P-hat)| <= gamma sum d-hat (n beta / 2) H f_max``:
pessimism holds with room to spare. Optimism: mix pi* and pi_s in P-hat with the largest feasible weight ``alpha >= (xi/2)/(xi/2 + 2 C x)``,
``x = sum d n H beta``; the reward bonus makes up for ``1 - alpha`` exactly when its factor is ``R + 4 C H R/xi``.

Letters: S states, A actions, I constraints, E entries of the support, K episodes, T counted steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.baselines.counts import ModelEstimate
from surefoot.baselines.model_based import EpisodePlan, Known, ModelBasedAgent, Reason, known_from, point_model
from surefoot.baselines.presets import BaselineContext, choose
from surefoot.cmdp.evaluate import evaluate
from surefoot.solvers.linear_program import OccupancyProgram

__all__ = ["OptPess", "make"]


@dataclass(frozen=True, eq=False)
class OptPess:
    """The rule of OptPess-LP.

    Attributes:
        known: what is told beforehand.
    """

    known: Known
    _program: OccupancyProgram = field(default_factory=OccupancyProgram, repr=False)

    @property
    def log_term(self) -> float:
        """Z."""
        k = self.known
        s, a = k.support.n_states, k.support.n_actions
        return math.log(16.0 * s**2 * a * k.horizon * k.trials / k.delta)

    def radius(self, estimate: ModelEstimate) -> FloatArray:
        """(S, A) ``beta``; at most 1, 0 where there is one possible successor."""
        k = self.known
        beta = k.multiplier * np.sqrt(self.log_term / np.maximum(estimate.visits, 1.0))
        return np.where(k.support.certain, 0.0, np.minimum(beta, 1.0)).reshape(k.rewards.shape)

    def signals(self, estimate: ModelEstimate) -> tuple[FloatArray, FloatArray]:
        """``r-bar`` (S, A) and ``c-under`` (I, S, A)."""
        k = self.known
        width = k.support.sizes.reshape(k.rewards.shape) * k.horizon * self.radius(estimate)
        compensation = 4.0 * k.horizon * float(k.largest_costs.max(initial=0.0)) / k.safe_margin
        rewards = k.rewards + k.reward_range * (1.0 + compensation) * width
        return rewards, k.costs + k.largest_costs[:, None, None] * width

    @property
    def threshold(self) -> FloatArray:
        """(I,) ``(tau + c0)/2``."""
        return self.known.limits - 0.5 * self.known.safe_margin

    def safe_costs(self, estimate: ModelEstimate) -> FloatArray:
        """(I,) ``V_c(pi_s; c-under, P-hat)``."""
        k = self.known
        model = point_model(k, estimate.probabilities, *self.signals(estimate), k.limits)
        return evaluate(model, k.safe_policy).costs

    def plan(self, estimate: ModelEstimate) -> EpisodePlan:
        """The safe policy until the test flips, then the optimum of the point model."""
        k = self.known
        safe_costs = self.safe_costs(estimate)
        if (safe_costs >= self.threshold).any():
            return EpisodePlan.safe("test", safe_costs)
        model = point_model(k, estimate.probabilities, *self.signals(estimate), k.limits)
        found = self._program.solve(model)
        if found.status != "optimal":
            reason: Reason = "infeasible" if found.status == "infeasible" else "failed"
            return EpisodePlan.safe(reason, safe_costs)
        return EpisodePlan(found.policy, "planned", safe_costs, found.value, found.costs)


def make(context: BaselineContext, argument: str) -> ModelBasedAgent:
    """``optpess-lp``, ``optpess-lp:theory``, ``optpess-lp:calibrated``, ``optpess-lp:calibrated=1e-4``.

    Raises:
        InvalidInput: any other argument.
    """
    choice = choose("optpess-lp", argument, context.family.name)
    return ModelBasedAgent(OptPess(known_from(context, choice)), choice=choice, seed=context.seed)
