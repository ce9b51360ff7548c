"""Safe Meta-RL: one-step safe adaptation in closed form, from a meta-policy trained for it (Xu & Zhu, NeurIPS 2025).

From a policy ``pi_phi`` with visitation ``nu = (1-gamma) d`` and advantages ``A_r``, ``A_c`` in the new task, the adapted policy solves

    max_pi  E_nu,pi[A_r] - lambda E_nu KL(pi || pi_phi)
    s.t.    V_ci(pi_phi) + H_g E_nu,pi[A_ci] + lambda_c E_nu KL(pi || pi_phi) <= d_i + delta_c             for every constraint i

With multipliers ``u >= 0`` the maximiser of the Lagrangian is

    pi_u(a|s) prop to pi_phi(a|s) exp( (A_r - sum_i u_i A_ci) / eta ),        eta = lambda + (1-gamma) sum_i u_i lambda_c

and the dual function ``D(u) = E_nu[eta ln sum_a pi_phi exp(. / eta)] + sum_i u_i d'_i``, where ``d' = (1-gamma) (d + delta_c - V_c(pi_phi))``,
is convex with derivative ``d'_i - E_nu,pi_u[A_ci] - (1-gamma) lambda_c E_nu KL(pi_u || pi_phi)``. The paper descends on it by projected
subgradients; here each multiplier in turn is bisected to the root of its derivative, which finds the same minimum.

Meta-training maximises ``E_tau V_r,tau(adapted)`` over phi subject to ``V_c,tau(pi_phi) <= d + delta_c`` in every training task, with the
paper's Hessian-free gradient (the adapted policy's own, at its own logits; the dependence of u and of the advantages on phi is dropped), a
switch to cost steps where a training task is violated, and natural-gradient steps of bounded KL, starting from the safe policy mixed with
a little of the uniform one. Evaluation is exact. The best feasible iterate is returned. The paper's tables have ``delta_c = 0``; here it
is minus half of the safe policy's smallest slack, at most 5% of the limit, so that fresh tasks and the adaptation find some room.

Deployment plays the meta-policy from the first episode and repeats the adaptation from its own result, every :data:`BATCH` episodes of
the current policy, with every-visit Monte-Carlo estimates (advantage 0 where a pair was never tried). The proof takes the estimates as
exact; nothing here repairs that.

Presets:

* ``theory``: ``lambda_c = 2 gamma A_max H_g^2`` and ``lambda = 2 gamma A_max H_g`` with ``A_max = H_g``, for which the constraint's left side bounds
  the true cost when the mean KL is replaced by the largest over states (trust-region bound of Schulman et al. 2015 with Pinsker's inequality;
  **that the paper's own constant is this one is not confirmed**). Where the adapted policy breaks the constraint with the largest KL, its
  exponent is halved until it does not.
* ``calibrated``: one multiplier on ``lambda`` and ``lambda_c``, in meta-training and in deployment. Outside the proof.
* ``published``: the adaptation to the gridworld in the Safe-PCE authors' code, in raw units. What is wrong with it: there is no meta-training, the
  meta-policy is the safe policy; that policy is nearly deterministic and the update is multiplicative, so it cannot leave its support and
  little can be gained; ``lambda = lambda_c = .2`` where a bound would need about 1000; and the multiplier, 30 subgradient steps from 0, stays at 0
  whenever there is slack, so the constraint is hardly ever active. (There, steps are 50 episodes apart; here at ends of batches.)

Letters: S states, A actions, I constraints, F = 1 + I signals (reward first), T tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefoot.arrays import FloatArray
from surefoot.baselines.gradient import Units, shift_logits
from surefoot.baselines.meta_training import StackValues, TaskStack, interior, trained
from surefoot.baselines.on_policy import OnPolicyAgent, Sample, safe_table
from surefoot.baselines.presets import BaselineContext, Choice, Preset, choose

__all__ = [
    "PRESETS",
    "Adaptation",
    "Penalties",
    "PublishedSafeMetaRL",
    "SafeMetaRL",
    "Situation",
    "adapt",
    "allowance",
    "make",
    "meta_train",
    "situation",
]

PRESETS: tuple[Preset, ...] = ("theory", "calibrated", "published")
BATCH = 2000
"""Of 500, 1000 and 2000 the one that did best on six training tasks of the gridworld over multipliers from 1e-5 to 1e-3."""
DOUBLINGS, BISECTIONS, SWEEPS = 60, 45, 4
ITERATIONS, ADAPTED, HARDEST = 120, 32, 8
"""Steps of meta-training, training tasks that the objective averages over, tasks a cost step looks at; the constraint is checked in all."""
KL_STEP, KL_DECAY, LARGEST_SHIFT = 0.01, 10.0, 1.0
KEPT_SLACK, LARGEST_ALLOWANCE = 0.5, 0.05


@dataclass(frozen=True)
class Penalties:
    """Weights of the divergence, in units.

    Attributes:
        reward: ``lambda``.
        cost: ``lambda_c``.
        discount: ``gamma``.
    """

    reward: float
    cost: float
    discount: float

    @staticmethod
    def proved(units: Units, multiplier: float = 1.0) -> Penalties:
        """``2 gamma A_max H_g`` and ``2 gamma A_max H_g^2`` with ``A_max = H_g``, times the multiplier."""
        base = 2.0 * units.discount * units.horizon**2
        return Penalties(multiplier * base, multiplier * base * units.horizon, units.discount)

    def temperature(self, multipliers: FloatArray) -> FloatArray:
        """(T,) ``eta`` for multipliers (T, I)."""
        result: FloatArray = self.reward + (1.0 - self.discount) * self.cost * multipliers.sum(axis=1)
        return result


@dataclass(frozen=True, eq=False)
class Situation:
    """What an adaptation starts from, for T tasks side by side.

    Attributes:
        table: (S, A) ``pi_phi``.
        visitation: (T, S) ``nu``, sums to one.
        advantages: (T, F, S, A).
        room: (T, I) ``d'``.
        penalties: weights of the divergence.
    """

    table: FloatArray
    visitation: FloatArray
    advantages: FloatArray
    room: FloatArray
    penalties: Penalties

    def take(self, which: NDArray[np.bool_]) -> Situation:
        """Some of the tasks."""
        return Situation(self.table, self.visitation[which], self.advantages[which], self.room[which], self.penalties)

    def tilted(self, multipliers: FloatArray) -> FloatArray:
        """(T, S, A) ``pi_u`` for multipliers (T, I)."""
        gain = self.advantages[:, 0] - np.einsum("ti,tisa->tsa", multipliers, self.advantages[:, 1:])
        return shift_logits(self.table, gain / self.penalties.temperature(multipliers)[:, None, None])

    def slopes(self, tables: FloatArray, *, largest: bool = False) -> FloatArray:
        """(T, I) derivative of the dual at ``pi_u = tables``: the room that the constraint leaves, times ``1 - gamma``.

        ``largest`` takes the largest divergence over states instead of the mean.
        """
        divergence = _divergence(tables, self.table)
        size = divergence.max(axis=1) if largest else (self.visitation * divergence).sum(axis=1)
        used = np.einsum("ts,tsa,tisa->ti", self.visitation, tables, self.advantages[:, 1:])
        result: FloatArray = self.room - used - (1.0 - self.penalties.discount) * self.penalties.cost * size[:, None]
        return result


@dataclass(frozen=True, eq=False)
class Adaptation:
    """Answer of :func:`adapt`.

    Attributes:
        tables: (T, S, A) adapted policies.
        multipliers: (T, I).
    """

    tables: FloatArray
    multipliers: FloatArray


def adapt(given: Situation) -> Adaptation:
    """The closed form at the minimum of the dual, in every task; damped where the largest divergence breaks the constraint."""
    multipliers = np.zeros(given.room.shape)
    n_constraints = given.room.shape[1]
    for _ in range(1 if n_constraints == 1 else SWEEPS):
        for i in range(n_constraints):
            multipliers[:, i] = _root(given, multipliers, i)
    return Adaptation(_damped(given, given.tilted(multipliers)), multipliers)


def _root(given: Situation, multipliers: FloatArray, i: int) -> FloatArray:
    """(T,) smallest value of multiplier i at which the dual no longer falls, the others fixed."""

    def slope(values: FloatArray, part: Situation, others: FloatArray) -> FloatArray:
        trial = others.copy()
        trial[:, i] = values
        return part.slopes(part.tilted(trial))[:, i]

    result = np.zeros(len(multipliers))
    active: NDArray[np.bool_] = slope(result, given, multipliers) < 0.0
    if not active.any():
        return result
    part, others = given.take(active), multipliers[active]
    low, high = np.zeros(len(others)), np.ones(len(others))
    for _ in range(DOUBLINGS):
        short = slope(high, part, others) < 0.0
        if not short.any():
            break
        low, high = np.where(short, high, low), np.where(short, 2.0 * high, high)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        enough = slope(middle, part, others) >= 0.0
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    result[active] = high
    return result


def _damped(given: Situation, tables: FloatArray) -> FloatArray:
    """Exponents halved until the constraint holds with the largest divergence, wherever there is room at all."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(given.table > 0.0, np.log(tables) - np.log(given.table), 0.0)
    roomy = (given.room > 0.0).all(axis=1)
    for _ in range(DOUBLINGS):
        broken = np.logical_and(roomy, (given.slopes(tables, largest=True) < 0.0).any(axis=1))
        if not broken.any():
            break
        shift = np.where(broken[:, None, None], 0.5 * shift, shift)
        tables = shift_logits(given.table, shift)
    return tables


def _divergence(tables: FloatArray, table: FloatArray) -> FloatArray:
    """(T, S) ``KL(tables || table)`` in every state."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(tables > 0.0, tables * (np.log(tables) - np.log(table)), 0.0)
    result: FloatArray = np.maximum(terms.sum(axis=-1), 0.0)
    return result


def allowance(stack: TaskStack, safe: FloatArray) -> FloatArray:
    """(I,) ``-delta_c``: half of the safe policy's smallest slack over the training tasks, at most 5% of the limit."""
    smallest = (stack.limits - stack.totals(safe)[:, 1:]).min(axis=0)
    result: FloatArray = np.minimum(KEPT_SLACK * smallest, LARGEST_ALLOWANCE * stack.limits)
    return result


def situation(
    stack: TaskStack, table: FloatArray, values: StackValues, limits: FloatArray, penalties: Penalties
) -> Situation:
    """The exact situation of one policy in every task of a stack."""
    room = (limits - values.totals[:, 1:]) / stack.horizon
    return Situation(table, values.states / stack.horizon, values.advantages, room, penalties)


def meta_train(stack: TaskStack, safe: FloatArray, penalties: Penalties, iterations: int = ITERATIONS) -> FloatArray:
    """(S, A) the best meta-policy met that keeps its room in every training task; see the module's docstring."""
    limits = stack.limits - allowance(stack, safe)
    some = stack.take(slice(ADAPTED))
    table = best = interior(stack, safe)
    value = -np.inf
    for k in range(iterations):
        excess = stack.totals(table)[:, 1:] - limits
        if bool((excess <= 0.0).all()):
            reached, gradient, visitation = _reward_step(some, table, limits, penalties)
            if reached > value:
                best, value = table, reached
        else:
            gradient, visitation = _cost_step(stack, table, excess)
        table = _natural_step(table, gradient, visitation, KL_STEP / np.sqrt(1.0 + k / KL_DECAY))
    return best


def _reward_step(
    stack: TaskStack, table: FloatArray, limits: FloatArray, penalties: Penalties
) -> tuple[float, FloatArray, FloatArray]:
    """Mean adapted value, its Hessian-free gradient (S, A), and the meta-policy's mean visitation (S,)."""
    values = stack.evaluate(table)
    adapted = adapt(situation(stack, table, values, limits, penalties)).tables
    after = stack.evaluate(adapted)
    gradient: FloatArray = (after.states[:, :, None] * adapted * after.advantages[:, 0]).mean(axis=0)
    return float(after.totals[:, 0].mean()), gradient, values.states.mean(axis=0) / stack.horizon


def _cost_step(stack: TaskStack, table: FloatArray, excess: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gradient (S, A) of the mean violated cost, downwards, in the tasks with the largest excess, and visitation there."""
    violated = int((excess > 0.0).any(axis=1).sum())
    hard = np.argsort(-excess.max(axis=1), kind="stable")[: min(HARDEST, violated)]
    values = stack.take(hard).evaluate(table)
    weight = (excess[hard] > 0.0) / (excess[hard] > 0.0).sum()
    gradient = -np.einsum("ti,ts,sa,tisa->sa", weight, values.states, table, values.advantages[:, 1:])
    return gradient, values.states.mean(axis=0) / stack.horizon


def _natural_step(table: FloatArray, gradient: FloatArray, visitation: FloatArray, size: float) -> FloatArray:
    """The step along the natural gradient whose mean divergence is about ``size``, no logit moving by more than 1."""
    fisher = np.maximum(visitation, 1e-12)[:, None] * table
    direction = gradient / np.maximum(fisher, 1e-300)
    direction -= (table * direction).sum(axis=1, keepdims=True)
    norm = float((fisher * direction**2).sum())
    if norm <= 0.0:
        return table
    shift = np.clip(direction * np.sqrt(2.0 * size / norm), -LARGEST_SHIFT, LARGEST_SHIFT)
    return shift_logits(table, shift)


@dataclass(frozen=True, eq=False)
class SafeMetaRL:
    """The learner, for ``theory`` and ``calibrated``.

    Attributes:
        units: the papers'.
        start: (S, A) the meta-policy.
        penalties: weights of the divergence.
        margin: (I,) ``-delta_c``.
        notes: what a reader of the results must know.
    """

    units: Units
    start: FloatArray
    penalties: Penalties
    margin: FloatArray
    notes: tuple[str, ...] = ()

    def batch(self, moves: int) -> int:
        """See :class:`~surefoot.baselines.on_policy.Learner`."""
        return BATCH

    def update(self, table: FloatArray, sample: Sample, moves: int) -> FloatArray | None:
        """See :class:`~surefoot.baselines.on_policy.Learner`."""
        adapted: FloatArray = adapt(estimated(table, sample, self.units, self.margin, self.penalties)).tables[0]
        return adapted


def estimated(
    table: FloatArray, sample: Sample, units: Units, margin: FloatArray | float, penalties: Penalties
) -> Situation:
    """The situation as a sample shows it: one task."""
    states = sample.visits.discounted.sum(axis=1)
    room = (units.limits - margin - sample.means[1:]) / units.horizon
    return Situation(table, (states / states.sum())[None], sample.advantages()[None], room[None], penalties)


@dataclass(frozen=True, eq=False)
class PublishedSafeMetaRL:
    """The learner as adapted by the Safe-PCE authors; the module's docstring says what is wrong with it.

    Attributes:
        units: raw.
        start: (S, A) the safe policy.
        notes: what a reader of the results must know.
    """

    units: Units
    start: FloatArray
    notes: tuple[str, ...] = (
        "published adaptation: no meta-training (the meta-policy is the safe policy), penalties far below any bound",
    )
    penalty = 0.2
    dual_steps, dual_rate = 30, 1.0

    def batch(self, moves: int) -> int:
        """See :class:`~surefoot.baselines.on_policy.Learner`."""
        return 50

    def update(self, table: FloatArray, sample: Sample, moves: int) -> FloatArray | None:
        """See :class:`~surefoot.baselines.on_policy.Learner`."""
        given = estimated(table, sample, self.units, 0.0, Penalties(self.penalty, self.penalty, self.units.discount))
        adapted: FloatArray = given.tilted(self.multipliers(given))[0]
        return adapted

    def multipliers(self, given: Situation) -> FloatArray:
        """(T, I) after the projected subgradient steps."""
        multipliers = np.zeros(given.room.shape)
        for _ in range(self.dual_steps):
            multipliers = np.maximum(multipliers - self.dual_rate * given.slopes(given.tilted(multipliers)), 0.0)
        return multipliers


def make(context: BaselineContext, argument: str) -> OnPolicyAgent:
    """``safe-meta-rl``, ``safe-meta-rl:theory``, ``:calibrated``, ``:calibrated=1e-4``, ``:published``.

    Raises:
        InvalidInput: any other argument, or no multiplier known for the family.
        AssumptionError: the safe policy is not strictly feasible in the training tasks.
    """
    choice = choose("safe-meta-rl", argument, context.family.name, PRESETS)
    safe, criterion = safe_table(context.policy_set), context.family.criterion
    learner: Any
    if choice.preset == "published":
        learner = PublishedSafeMetaRL(Units.raw(criterion), safe)
    else:
        penalties = Penalties.proved(Units.of(criterion), choice.multiplier)
        table, margin = trained(
            context.family, context.policy_set, f"safe-meta-rl {choice.multiplier!r}",
            lambda stack: (meta_train(stack, safe, penalties), allowance(stack, safe)),
        )  # fmt: skip
        learner = SafeMetaRL(Units.of(criterion), table, penalties, margin, _notes(choice))
    return OnPolicyAgent(context.policy_set, learner, seed=context.seed)


def _notes(choice: Choice) -> tuple[str, ...]:
    exact = "the proof takes advantages and costs as known exactly, here they are estimated from episodes"
    if choice.preset == "theory":
        return (
            exact,
            "with the proved penalties the adaptation hardly moves: what is gained over the safe policy is meta-training",
        )
    return (exact, f"the divergence penalties are multiplied by {choice.multiplier:g}, which is outside the proof")
