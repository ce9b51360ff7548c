"""DOPE (Bura, HasanzadeZonuzy, Kalathil, Shakkottai & Chamberland 2022, arXiv 2112.00885): the safe learner with an extended program.

Radii (empirical Bernstein), with ``L = ln(2 S A H K / delta)`` and N the visits of (s, a):

    beta(s'|s,a) = 2 sqrt(P-hat (1 - P-hat) L / N) + 14 L / (3 N) .

The paper's signals, without the terms of unknown r and c, are ``r-bar = r + H^2/(C-bar - C_b) sum_s' beta`` and
``c-bar = c + H sum_s' beta``; after a first phase of ``pi_s`` every episode plays the optimum of the extended program
(:mod:`surefoot.baselines.extended_lp`) with these signals and budget ``C-bar``. Ported to the discounted case
(:mod:`surefoot.baselines.model_based`), with ``beta-bar = min(1, sum_s' beta)`` and K T for K in L:

    c-bar_i = c_i + gamma H C_i beta-bar,          r-bar = r + (H R / xi) max_i gamma H C_i beta-bar,
    first phase: while V_c(pi_s; c-bar, P-hat) > b .

Why (our derivation). ``|V_c(pi;P) - V_c(pi;P~)| <= gamma sum d~ |P - P~|_1/2 H C <= gamma H C sum d~ beta-bar`` when both kernels are in
the box, so the plan's pessimistic cost bounds its true one: pessimism. Optimism: in the true kernel mix pi* and pi_s so that the
pessimistic excess uses up the room exactly; ``(1 - alpha) xi`` is then the excess, and the reward bonus ``H R/xi`` per unit of excess
pays for ``(1 - alpha)(V* - V_s)``. That needs ``V_c(pi_s; c-bar, P) <= b`` for the *true* P; the test, which the specification states
at P-hat, is close to it but not the same, and only regret depends on the difference. The paper's authors run their code below these
constants (log factors, K0, clipping), and admit it.

In theory L also covers every number of visits up to K T: ``2 L >= ln(4 S^2 A K T/delta)``, which the empirical Bernstein inequality needs.

Letters: S states, A actions, I constraints, E entries of the support, K episodes, T counted steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.baselines.counts import ModelEstimate
from surefoot.baselines.extended_lp import ExtendedProgram, Problem
from surefoot.baselines.model_based import EpisodePlan, Known, ModelBasedAgent, Rule, known_from, point_model
from surefoot.baselines.presets import BaselineContext, choose
from surefoot.cmdp.evaluate import evaluate

__all__ = ["DOPE", "box", "extended_plan", "make"]


@dataclass(frozen=True, eq=False)
class DOPE:
    """The rule of DOPE.

    Attributes:
        known: what is told beforehand.
    """

    known: Known
    _program: ExtendedProgram = field(default_factory=ExtendedProgram, repr=False)

    @property
    def log_term(self) -> float:
        """L."""
        return log_term(self.known)

    def radius(self, estimate: ModelEstimate) -> FloatArray:
        """(E,) ``beta``; at most 1, 0 where there is one possible successor."""
        n, p = np.maximum(estimate.entry_visits, 1.0), estimate.probabilities
        beta = 2.0 * np.sqrt(p * (1.0 - p) * self.log_term / n) + 14.0 * self.log_term / (3.0 * n)
        return settle(self.known.multiplier * beta, estimate)

    def bonus(self, estimate: ModelEstimate) -> FloatArray:
        """(I, S, A) ``gamma H C beta-bar``."""
        k = self.known
        total = np.minimum(1.0, k.support.sum(self.radius(estimate))).reshape(k.rewards.shape)
        return k.criterion.discount * k.horizon * k.largest_costs[:, None, None] * total

    def signals(self, estimate: ModelEstimate) -> tuple[FloatArray, FloatArray]:
        """``r-bar`` (S, A) and ``c-bar`` (I, S, A)."""
        k, bonus = self.known, self.bonus(estimate)
        price = k.horizon * k.reward_range / k.safe_margin
        return k.rewards + price * bonus.max(axis=0, initial=0.0), k.costs + bonus

    @property
    def threshold(self) -> FloatArray:
        """(I,) b."""
        return self.known.limits

    def safe_costs(self, estimate: ModelEstimate) -> FloatArray:
        """(I,) ``V_c(pi_s; c-bar, P-hat)``."""
        return pessimistic_costs(self.known, estimate, self.signals(estimate))

    def plan(self, estimate: ModelEstimate) -> EpisodePlan:
        """The safe policy until its pessimistic cost fits the limit, then the optimum of the extended program."""
        return extended_plan(self, self._program, estimate, self.signals(estimate), self.radius(estimate))


def log_term(known: Known) -> float:
    """``L = ln(2 S A H K T / delta)``."""
    pairs = known.support.n_states * known.support.n_actions
    return math.log(2.0 * pairs * known.horizon * known.trials / known.delta)


def settle(beta: FloatArray, estimate: ModelEstimate) -> FloatArray:
    """Radii (E,) of probabilities: at most 1, and 0 where nothing is unknown."""
    return np.where(estimate.known, 0.0, np.minimum(beta, 1.0))


def box(estimate: ModelEstimate, beta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(E,) lower and upper ends ``P-hat -+ beta`` inside [0, 1]."""
    p = estimate.probabilities
    return np.maximum(p - beta, 0.0), np.minimum(p + beta, 1.0)


def pessimistic_costs(known: Known, estimate: ModelEstimate, signals: tuple[FloatArray, FloatArray]) -> FloatArray:
    """(I,) costs of the safe policy under ``P-hat`` and pessimistic signals."""
    return evaluate(point_model(known, estimate.probabilities, *signals, known.limits), known.safe_policy).costs


def extended_plan(
    rule: Rule,
    program: ExtendedProgram,
    estimate: ModelEstimate,
    signals: tuple[FloatArray, FloatArray],
    beta: FloatArray,
) -> EpisodePlan:
    """Test the safe policy, then solve the extended program over the box around ``P-hat``."""
    known = rule.known
    safe_costs = pessimistic_costs(known, estimate, signals)
    if (safe_costs > rule.threshold).any():
        return EpisodePlan.safe("test", safe_costs)
    lower, upper = box(estimate, beta)
    rewards, costs = signals
    gamma = known.criterion.discount
    problem = Problem(known.support, lower, upper, rewards, costs, known.limits, known.start, gamma)
    found = program.solve(problem, known.safe_policy)
    if found.proof is None or found.status != "optimal":
        return EpisodePlan.safe("infeasible" if found.status == "infeasible" else "failed", safe_costs)
    return EpisodePlan(found.policy, "planned", safe_costs, found.proof.value, found.proof.costs)


def make(context: BaselineContext, argument: str) -> ModelBasedAgent:
    """``dope``, ``dope:theory``, ``dope:calibrated``, ``dope:calibrated=1e-3``.

    Raises:
        InvalidInput: any other argument.
    """
    choice = choose("dope", argument, context.family.name)
    return ModelBasedAgent(DOPE(known_from(context, choice)), choice=choice, seed=context.seed)
