"""Meta-SRL: learning within constrained tasks and across them online (Khattar et al., ICLR 2023), with CRPO inside.

**Within a task**, CRPO (Xu, Liang & Lan 2021): estimate costs; where all are within the limit plus a tolerance, a natural-gradient step on the
reward, else one against the most violated cost. For a softmax table the natural-gradient step is multiplicative weights,

    pi_{k+1}(a|s) prop to pi_k(a|s) exp( +- alpha H_g Q(s,a) ),

and the answer is the average of the iterates at which reward steps were taken, an average of occupancy measures.

**Across tasks**, follow the leader on ``sum_t E_nu_t KL(pi*_t || phi)``: the next task starts from

    phi_{t+1}(a|s) = sum_i nu_i(s) pi*_i(a|s) / sum_i nu_i(s),

kept inside the simplex by a minimal mixture with the uniform policy; nu_i is the visitation of task i's answer pi*_i. A second learner
sets step and tolerance from the mean divergence D of the answers from their starts, which is small where tasks are alike. With M
iterations per task

    alpha = sqrt(D / (c M)),        tolerance = 4 sqrt(c D / M),        c = 2 S A H_g^3,

which balance ``alpha (sum of gaps) <= D + c alpha^2 M`` and leave a reward step by then. All signals in [0, 1] per step. **From memory, not
confirmed against the papers:** c and the factor 4.

Meta-training plays the tasks of the training family one after the other with exact evaluation. Deployment starts from the last phi and
runs CRPO with every-visit Monte-Carlo estimates, every :data:`BATCH` episodes; each iterate is played as it comes, the average is not.
**Nothing bounds the cost of a single episode**: the papers bound average violations, by the tolerance.

Presets: ``theory`` as above; with its c the tolerance on the 7x7 gridworld is hundreds of times the limit and the step moves nothing.
``calibrated``: one multiplier m on ``sqrt(c)``, the constant behind both, in meta-training and in deployment: tolerance times m, step
divided by m. Outside the proof.

Letters: S states, A actions, I constraints, F = 1 + I signals (reward first), T training tasks, M iterations per task.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.baselines.gradient import Units, shift_logits
from surefoot.baselines.meta_training import TaskStack, interior, trained
from surefoot.baselines.on_policy import OnPolicyAgent, Sample, safe_table
from surefoot.baselines.presets import BaselineContext, Choice, Preset, choose

__all__ = ["PRESETS", "MetaPolicy", "MetaSRL", "Schedule", "crpo", "crpo_step", "make", "meta_train", "raised"]

PRESETS: tuple[Preset, ...] = ("theory", "calibrated")
BATCH = 500
TASKS, ITERATIONS = 32, 80


@dataclass(frozen=True)
class Schedule:
    """Step and tolerance of one task.

    Attributes:
        step: ``alpha``.
        tolerance: allowed excess of an estimated cost.
    """

    step: float
    tolerance: float

    @staticmethod
    def of(divergence: float, iterations: float, pairs: int, horizon: float, multiplier: float) -> Schedule:
        """For a mean divergence D, M iterations and S A pairs; see the module's docstring."""
        constant = multiplier * sqrt(2.0 * pairs * horizon**3)
        return Schedule(sqrt(divergence / iterations) / constant, 4.0 * constant * sqrt(divergence / iterations))


def crpo_step(
    table: FloatArray, advantages: FloatArray, excess: FloatArray, schedule: Schedule, horizon: float
) -> tuple[FloatArray, bool]:
    """The next policy (S, A) from advantages (F, S, A) and ``V_c - d`` (I,), and whether the step was on the reward.

    Advantages do for action values: what they differ by is the same for all actions of a state.
    """
    on_reward = bool((excess <= schedule.tolerance).all())
    direction = advantages[0] if on_reward else -advantages[1 + int(excess.argmax())]
    return shift_logits(table, schedule.step * horizon * direction), on_reward


def crpo(task: TaskStack, start: FloatArray, schedule: Schedule, iterations: int) -> FloatArray:
    """(S, A) mean occupancy of the iterates with reward steps in a stack of one task; of the last policy where there is none."""
    table, total, taken = start, np.zeros_like(start), 0
    for _ in range(iterations):
        values = task.evaluate(table)
        excess = values.totals[0, 1:] - task.limits
        after, on_reward = crpo_step(table, values.advantages[0], excess, schedule, task.horizon)
        if on_reward:
            total, taken = total + values.states[0][:, None] * table, taken + 1
        table = after
    if not taken:
        total, taken = task.evaluate(table).states[0][:, None] * table, 1
    return total / taken


@dataclass(frozen=True, eq=False)
class MetaPolicy:
    """What meta-training hands over.

    Attributes:
        table: (S, A) ``phi``.
        divergence: D.
    """

    table: FloatArray
    divergence: float


def meta_train(
    stack: TaskStack, safe: FloatArray, multiplier: float = 1.0, tasks: int = TASKS, iterations: int = ITERATIONS
) -> MetaPolicy:
    """The meta-policy after the first T tasks of the stack, one after the other; D starts from ``ln A``, the farthest there is."""
    start = interior(stack, safe)
    floor, pairs = float(start.min()), start.size
    table, total, divergence = start, np.zeros_like(start), log(start.shape[1])
    count = min(tasks, len(stack))
    for t in range(count):
        schedule = Schedule.of(divergence / (t + 1), iterations, pairs, stack.horizon, multiplier)
        occupancy = crpo(stack.take(slice(t, t + 1)), table, schedule, iterations)
        total = total + occupancy
        divergence += _divergence(occupancy, table, stack.horizon)
        table = raised(_policy(total, safe), floor)
    return MetaPolicy(table, divergence / (count + 1))


def _policy(occupancy: FloatArray, otherwise: FloatArray) -> FloatArray:
    """(S, A) policy of an occupancy measure; ``otherwise`` where a state is never visited."""
    states = occupancy.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        result: FloatArray = np.where(states > 0.0, occupancy / states, otherwise)
    return result


def _divergence(occupancy: FloatArray, table: FloatArray, horizon: float) -> float:
    """``E_nu KL(policy of the occupancy || table)``."""
    states = occupancy.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(occupancy > 0.0, occupancy * np.log(occupancy / (states * table)), 0.0)
    return max(0.0, float(terms.sum())) / horizon


def raised(table: FloatArray, floor: float) -> FloatArray:
    """(S, A) every row mixed with the uniform one as little as makes its smallest entry ``floor`` <= 1/A."""
    smallest, uniform = table.min(axis=1, keepdims=True), 1.0 / table.shape[1]
    lacking = smallest < floor
    share = np.where(lacking, (floor - smallest) / np.where(lacking, uniform - smallest, 1.0), 0.0)
    result: FloatArray = (1.0 - share) * table + share * uniform
    return result


@dataclass(frozen=True, eq=False)
class MetaSRL:
    """The learner.

    Attributes:
        units: the papers'.
        start: (S, A) the meta-policy.
        schedule: step and tolerance.
        notes: what a reader of the results must know.
    """

    units: Units
    start: FloatArray
    schedule: Schedule
    notes: tuple[str, ...] = ()

    def batch(self, moves: int) -> int:
        """See :class:`~surefoot.baselines.on_policy.Learner`."""
        return BATCH

    def update(self, table: FloatArray, sample: Sample, moves: int) -> FloatArray | None:
        """See :class:`~surefoot.baselines.on_policy.Learner`."""
        excess = sample.means[1:] - self.units.limits
        return crpo_step(table, sample.advantages(), excess, self.schedule, self.units.horizon)[0]


def make(context: BaselineContext, argument: str) -> OnPolicyAgent:
    """``meta-srl``, ``meta-srl:theory``, ``:calibrated``, ``:calibrated=1e-4``.

    Raises:
        InvalidInput: any other argument, or no multiplier known for the family.
        AssumptionError: the safe policy is not strictly feasible in the training tasks.
    """
    choice = choose("meta-srl", argument, context.family.name, PRESETS)
    safe, units = safe_table(context.policy_set), Units.of(context.family.criterion)
    meta = trained(
        context.family, context.policy_set, f"meta-srl {choice.multiplier!r}",
        lambda stack: meta_train(stack, safe, choice.multiplier),
    )  # fmt: skip
    iterations = max(1.0, context.episodes / BATCH)
    schedule = Schedule.of(meta.divergence, iterations, safe.size, units.horizon, choice.multiplier)
    learner = MetaSRL(units, meta.table, schedule, _notes(choice, schedule, units))
    return OnPolicyAgent(context.policy_set, learner, seed=context.seed)


def _notes(choice: Choice, schedule: Schedule, units: Units) -> tuple[str, ...]:
    notes = [
        "violations while learning are allowed by the method: only their average is bounded, by its tolerance",
        "the start is not the safe policy: it is meta-trained and keeps every action possible",
    ]
    if (schedule.tolerance >= units.limits).any():
        notes.append(
            f"the tolerance is {schedule.tolerance / units.limits.min():.2g} times the limit: the bound is empty"
        )
    if choice.preset == "calibrated":
        notes.append(f"the constant of step and tolerance is multiplied by {choice.multiplier:g}, outside the proof")
    return tuple(notes)
