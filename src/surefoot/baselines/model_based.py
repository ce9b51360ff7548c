"""The shell that OptPess-LP, DOPE and DOPE+ share: count transitions, plan again when a count doubles, never play what is not proved.

What differs between the papers is a *rule*, a pure function from an estimate of the kernel to a plan: which confidence radii, which
optimistic reward, which pessimistic cost, which program. What they share, ported to the discounted tabular case:

* rewards, costs, start and limits are known (so their own confidence radii are zero); the kernel is not;
* the safe policy ``pi_s`` is known with ``V_c(pi_s) <= b - xi``. The papers know ``V_c(pi_s)`` itself; here ``xi`` is the margin of the
  policy set, which makes every optimistic reward larger and every test stricter, both on the proved side;
* ``H = 1/(1-gamma)`` takes the horizon's place, ``K T`` the number of episodes inside logarithms, where T steps of an episode leave
  a discounted rest of 1e-15;
* ``pi_s`` is played until the rule's own test says that its pessimistic cost leaves room.

All radii are multiplied by ``m`` (1 in theory) and count an unvisited pair as visited once, as in the papers' formulas: in theory that leaves
the whole simplex over the support, at small m it does not. A pair with a single possible successor is known without data.

Episodes that are never told bias the counts if their loss depends on the outcome; the papers do not consider it, and neither does this.

Letters: S states, A actions, I constraints, E entries of the support, K episodes, T counted steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, overload

import numpy as np

from surefoot.arrays import FloatArray, as_floats, check_integer, check_probabilities, check_real
from surefoot.baselines.counts import ModelEstimate, Support, TransitionCounts
from surefoot.baselines.presets import BaselineContext, Choice
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import Criterion
from surefoot.deploy.tracker import Batch, Episode, EpisodeTracker
from surefoot.deploy.turns import undivided
from surefoot.errors import InvalidInput
from surefoot.policy import Mixture, Policy, TabularPolicy

__all__ = ["EpisodePlan", "Known", "ModelBasedAgent", "Rule", "known_from", "point_model"]

REST = 1e-15
FAR = 1e18
"""Factor of more data beyond which a test is said never to pass."""

Reason = Literal["planned", "test", "infeasible", "failed"]


@dataclass(frozen=True, eq=False)
class Known:
    """What a model-based learner is told before the first episode.

    Attributes:
        rewards: (S, A).
        costs: (I, S, A), >= 0.
        start: (S,).
        criterion: discount, limits, declared ranges of an episode.
        support: possible successors.
        safe_policy: (S, A) ``pi_s``.
        safe_margin: ``xi > 0`` with ``V_c(pi_s) <= b - xi`` for every constraint.
        episodes: K.
        delta: error probability.
        multiplier: m.

    Raises:
        InvalidInput: shapes that do not fit, or a number out of range.
    """

    rewards: FloatArray
    costs: FloatArray
    start: FloatArray
    criterion: Criterion
    support: Support
    safe_policy: FloatArray
    safe_margin: float
    episodes: int
    delta: float
    multiplier: float = 1.0

    def __post_init__(self) -> None:
        n, a, i = self.support.n_states, self.support.n_actions, self.criterion.n_constraints
        table = as_floats("safe_policy", self.safe_policy, (n, a))
        values = {
            "rewards": as_floats("rewards", self.rewards, (n, a)),
            "costs": as_floats("costs", self.costs, (i, n, a)),
            "start": check_probabilities("start", as_floats("start", self.start, (n,))),
            "safe_policy": check_probabilities("safe_policy", table),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        object.__setattr__(
            self,
            "safe_margin",
            check_real("safe_margin", self.safe_margin, low=0.0, high=math.inf, open_low=True, open_high=True),
        )
        object.__setattr__(self, "episodes", check_integer("episodes", self.episodes, low=1))
        object.__setattr__(
            self, "delta", check_real("delta", self.delta, low=0.0, high=1.0, open_low=True, open_high=True)
        )
        object.__setattr__(
            self, "multiplier", check_real("multiplier", self.multiplier, low=0.0, high=math.inf, open_high=True)
        )

    @property
    def limits(self) -> FloatArray:
        """(I,) b."""
        return self.criterion.cost_limits

    @property
    def horizon(self) -> float:
        """``H = 1/(1-gamma)``, or that of a finite criterion."""
        return self.criterion.effective_horizon

    @cached_property
    def reward_range(self) -> float:
        """R: largest minus smallest reward of a step."""
        return float(self.rewards.max() - self.rewards.min())

    @cached_property
    def largest_costs(self) -> FloatArray:
        """(I,) C: largest cost of a step."""
        largest: FloatArray = self.costs.max(axis=(1, 2), initial=0.0)
        return largest

    @property
    def trials(self) -> float:
        """``K T``: a bound on how often one pair is visited."""
        gamma, horizon = self.criterion.discount, self.criterion.horizon
        steps = math.ceil(math.log(REST) / math.log(gamma)) if horizon is None else horizon
        return float(self.episodes) * steps


@dataclass(frozen=True, eq=False)
class EpisodePlan:
    """What a rule answers.

    Attributes:
        policy: (S, A) to play, or ``None``: the safe policy.
        reason: ``"planned"``; or why the safe policy is played: its ``"test"`` leaves no room, the program is ``"infeasible"``, or the
            solver ``"failed"`` the independent check.
        safe_costs: (I,) pessimistic costs of the safe policy.
        optimum: optimistic value of the plan; NaN without one.
        costs: (I,) pessimistic costs of the plan; NaN without one.
    """

    policy: FloatArray | None
    reason: Reason
    safe_costs: FloatArray
    optimum: float
    costs: FloatArray

    @staticmethod
    def safe(reason: Reason, safe_costs: FloatArray) -> EpisodePlan:
        """Play the safe policy."""
        return EpisodePlan(None, reason, safe_costs, math.nan, np.full(safe_costs.shape, np.nan))


class Rule(Protocol):
    """One paper's way from an estimate to a plan."""

    @property
    def known(self) -> Known: ...

    def safe_costs(self, estimate: ModelEstimate) -> FloatArray:
        """(I,) pessimistic costs of the safe policy."""
        ...

    @property
    def threshold(self) -> FloatArray:
        """(I,) the program is solved once ``safe_costs`` are at most this."""
        ...

    def plan(self, estimate: ModelEstimate) -> EpisodePlan:
        """What to play now."""
        ...


def point_model(
    known: Known, kernel: FloatArray, rewards: FloatArray, costs: FloatArray, limits: FloatArray
) -> TabularCMDP:
    """The CMDP with a given kernel (E,) on the support and given signals."""
    from scipy.sparse import csr_matrix

    support = known.support
    # Frequencies sum to one only up to rounding of E divisions.
    shares = kernel / support.sum(kernel)[support.rows]
    edges = np.append(support.first, len(support))
    matrix = csr_matrix((shares, support.successors, edges), shape=(support.sizes.size, support.n_states))
    return TabularCMDP(matrix, rewards, costs, limits, known.start, known.criterion.discount)


class ModelBasedAgent:
    """Plays a rule behind the agent protocol.

    Args:
        rule: of the paper.
        choice: the preset, for the notes.
        seed: of the (degenerate) draws.
        notes: further plain sentences about the rule.
        phase: the rule is asked first after this many episodes have been told.

    Attributes:
        plan: the last plan, ``None`` before the first.
        solves: how often the rule was asked.
    """

    wants: frozenset[str] = frozenset({"transitions"})

    def __init__(
        self, rule: Rule, *, choice: Choice, seed: int = 0, notes: tuple[str, ...] = (), phase: int = 0
    ) -> None:
        known = rule.known
        criterion = known.criterion.means_only("model-based baselines")
        rng = np.random.default_rng(check_integer("seed", seed, low=0))
        self._safe = TabularPolicy(known.safe_policy)
        self._tracker = EpisodeTracker((self._safe,), criterion, criterion.return_range, criterion.cost_ceilings, rng)
        self._rule, self._choice, self._said = rule, choice, notes
        self._counts = TransitionCounts(known.support)
        self._mixture = Mixture.pure(0, 1)
        self._reasons: dict[Reason, int] = {"planned": 0, "test": 0, "infeasible": 0, "failed": 0}
        self._silent, self._told, self._phase = 0, 0, phase
        self.plan: EpisodePlan | None = None

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The safe policy, and the planned one while there is a plan."""
        return self._tracker.policies

    @property
    def solves(self) -> int:
        """How often the rule was asked for a plan."""
        return sum(self._reasons.values())

    @property
    def reasons(self) -> dict[Reason, int]:
        """How often the rule gave which answer."""
        return dict(self._reasons)

    @property
    def estimate(self) -> ModelEstimate:
        """What the counts say now."""
        return self._counts.estimate()

    @overload
    def ask(self, n: None = None) -> Episode: ...

    @overload
    def ask(self, n: int) -> Batch: ...

    @undivided
    def ask(self, n: int | None = None) -> Episode | Batch:
        """See :class:`~surefoot.deploy.agent.Agent`."""
        batch = self._tracker.open(self._mixture, 1 if n is None else n)
        return batch[0] if n is None else batch

    @undivided
    def tell(
        self,
        ids: Any,
        reward: Any,
        costs: Any,
        *,
        initial_state: Any = None,
        transitions: Any = None,
        signals: Any = None,
    ) -> None:
        """See :class:`~surefoot.deploy.agent.Agent`; without ``transitions`` nothing is learned."""
        report = self._tracker.check(ids, reward, costs)
        table = None if transitions is None else self._counts.check(transitions)
        self._tracker.close(report)
        if table is None:
            self._silent += report.ids.size
            return
        self._counts.add(table)
        self._told += report.ids.size
        if self._counts.outside:
            self._play(None)
        elif self._told >= self._phase and self._counts.due:
            self._replan()

    def _replan(self) -> None:
        self._counts.mark()
        self.plan = self._rule.plan(self._counts.estimate())
        self._reasons[self.plan.reason] += 1
        self._play(self.plan.policy)

    def _play(self, table: FloatArray | None) -> None:
        if table is None and len(self._tracker.policies) == 1:
            return
        planned = () if table is None else (TabularPolicy(table),)
        self._tracker.policies = (self._safe, *planned)
        self._mixture = Mixture.pure(len(planned), 1 + len(planned))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results must know, in plain words."""
        return (*self._said, *self._choice.notes, *self._about_the_test(), *self._about_failures())

    def _about_the_test(self) -> tuple[str, ...]:
        """Whether the agent ever left the safe policy, and how much data that would take."""
        if self._reasons["test"] < self.solves or not self.solves:
            return ()
        factor = self._factor_until_test()
        if math.isinf(factor):
            return ("equal to always-safe so far: no number of such episodes would pass the method's own test",)
        needed = f"about 1e{math.log10(factor * self._tracker.opened):.0f} episodes of the safe policy"
        return (f"equal to always-safe so far: the method's own test would first pass after {needed}",)

    def _factor_until_test(self) -> float:
        """How many times the present data the test needs if frequencies stay as they are: bisection in the logarithm."""
        estimate, threshold = self._counts.estimate(), self._rule.threshold

        def passes(factor: float) -> bool:
            return bool((self._rule.safe_costs(estimate.scaled(factor)) <= threshold).all())

        low, high = 0.0, math.log(FAR)
        if not passes(FAR):
            return math.inf
        while high - low > 0.05:
            middle = 0.5 * (low + high)
            low, high = (low, middle) if passes(math.exp(middle)) else (middle, high)
        return math.exp(high)

    def _about_failures(self) -> tuple[str, ...]:
        found = []
        if self._counts.outside:
            found.append(
                "a transition outside the known support was seen: the model is wrong, the safe policy is played for good"
            )
        if self._reasons["infeasible"]:
            found.append("where the linear program was infeasible the safe policy was played until the next one")
        if self._reasons["failed"]:
            found.append(
                "where the solver's answer failed the independent check the safe policy was played until the next one"
            )
        if self._silent:
            found.append(f"{self._silent} episodes were told without transitions: nothing was learned from them")
        return tuple(found)


def known_from(context: BaselineContext, choice: Choice) -> Known:
    """What the context may tell a model-based learner: never the task's transitions.

    Raises:
        InvalidInput: a safe policy that is no table, or without margin.
    """
    task, policy_set = context.task, context.policy_set
    safe, kernel = policy_set.safe_policy, policy_set.cells.kernel
    if not isinstance(safe, TabularPolicy):
        raise InvalidInput(
            f"safe policy must be a table, got {type(safe).__name__}; model-based baselines are tabular",
            code="SF-POLICY-KIND",
        )
    return Known(
        rewards=task.rewards,
        costs=task.costs,
        start=task.start,
        criterion=policy_set.criterion,
        support=Support(task.n_states, task.n_actions, None if kernel is None else kernel.support),
        safe_policy=safe.table,
        safe_margin=policy_set.safe_margin,
        episodes=context.episodes,
        delta=context.delta,
        multiplier=choice.multiplier,
    )
