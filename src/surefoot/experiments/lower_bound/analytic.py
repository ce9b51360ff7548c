"""What can be computed about the hard instance without playing it. Everything counts episodes, in the paper's units.

* The theorem's expression (Ni & Kamgarpour 2026, Theorem 5.1; ``(1-gamma)^-5`` transitions are ``(1-gamma)^-4`` episodes), constant 1:

      C xi^-2 eps^-2 (1-gamma)^-4.

* Corollary 4.3 without its constant: the K at which the regret bound ``sqrt(C K Lambda) / ((1-gamma)^2 xi)`` of Safe-PCE averages to ``eps``,

      C Lambda xi^-2 eps^-2 (1-gamma)^-4,      Lambda = ln(2 (1+I) K W / delta).

* The change of measure behind the theorem, made exact for this instance. Let n episodes be enough with probability ``1 - delta`` over tasks and
  chance, ``delta_k`` being the error in task k. In task 0 a mixture that is good there is then deployed with probability ``1 - delta_0``; in task i,
  where it is not good, with probability at most ``delta_i``. The two tasks differ behind gate i alone, where an entry is worth
  ``KL(q0 || q2) / (1 - q0)``: ``1/(1-q0)`` steps are seen on average. An episode enters one gate, so by data processing and convexity

      n KL(q0 || q2) / (1-q0) >= sum_i kl(1-delta_0, delta_i) >= min over delta_0 of (C-1) kl(1-delta_0, (C delta - delta_0)/(C-1)).

* Safe-PCE and PCE with the constants of their proofs, as noise-free schedules (:mod:`surefoot.stats.hoeffding`): every running mean sits at its
  expectation, so candidate l leaves when ``sqrt(2 Lambda / n)/(1-gamma) + e (L+1)`` falls below what it mispredicts, and its weight rises when
  ``n >= 32 Lambda / ((1-gamma)^2 slack^2)``, whichever comes first; ``e`` is the radius of the cover.

Letters: C tasks, I constraints, K episodes, W windows, N candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_real
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.cmdp.model import TabularCMDP
from surefoot.policy import TabularPolicy
from surefoot.policyset.schema import PolicySet
from surefoot.stats import hoeffding
from surefoot.tasks.hard_instance import HardInstance

__all__ = ["cover_radius", "information_floor", "noise_free_episodes", "theorem_episodes", "upper_bound_episodes"]

ROUNDS = 50
SPREADS = 999
"""Ways to spread the error over tasks that are tried for the smallest sum; it is convex and smooth in them."""


def theorem_episodes(family: HardInstance) -> float:
    """The theorem's expression with constant 1."""
    return family.n_tasks / (family.margin * family.accuracy * (1.0 - family.discount) ** 2) ** 2


def upper_bound_episodes(family: HardInstance, delta: float) -> float:
    """Corollary 4.3 without its constant: the fixed point of ``K = C Lambda(K) / (xi eps (1-gamma)^2)^2``."""
    eps = cover_radius(family)
    windows = family.n_tasks * (hoeffding.last_level(family.margin, eps, lipschitz(family.discount)) + 2)
    return _fixed_point(lambda log_term: log_term * theorem_episodes(family), windows, 1, delta)


def information_floor(family: HardInstance, delta: float) -> float:
    """Fewest episodes of any agent whatever; see the module's docstring.

    Raises:
        InvalidInput: ``delta`` is not below one over the number of tasks; then one of them may be given up.
    """
    others = family.n_tasks - 1
    delta = check_real("delta", delta, low=0.0, high=1.0 / family.n_tasks, open_low=True, open_high=True)
    total = family.n_tasks * delta
    first = np.linspace(0.0, total, SPREADS + 2)[1:-1]
    told_apart = min(_binary_divergence(1.0 - f, (total - f) / others) for f in first.tolist())
    q0, _, q2 = family.loop_probabilities
    return others * told_apart * (1.0 - q0) / _binary_divergence(q0, q2)


def _binary_divergence(p: float, q: float) -> float:
    return p * math.log(p / q) + (1.0 - p) * math.log((1.0 - p) / (1.0 - q))


def lipschitz(discount: float) -> float:
    """``L`` as Safe-PCE uses it: the larger of the printed constant and the one that counts the start distribution."""
    printed = 1.0 / (1.0 - discount) + 2.0 * discount / (1.0 - discount) ** 2
    return max(printed, hoeffding.lipschitz(discount, 1.0))


def cover_radius(family: HardInstance) -> float:
    """The ``e`` for which Safe-PCE's weights end at ``1 - eps/R``: coarser covers never get eps-close, finer ones only add levels."""
    return family.margin * family.accuracy / family.goal_value / (4.0 * lipschitz(family.discount) + 9.0)


@dataclass(frozen=True, eq=False)
class _Schedule:
    """Candidates, best predicted first, and what is true of them; rewards and slacks in the paper's units.

    Attributes:
        own: (N,) library index of each candidate's policy.
        predicted, safe: (N, 1+I) of that policy and of the safe policy, in the candidate's cell.
        true: (J, 1+I) of the library in the real task.
        discount, eps: gamma and the radius of the cover.
    """

    own: IntArray
    predicted: FloatArray
    safe: FloatArray
    true: FloatArray
    discount: float
    eps: float

    @staticmethod
    def of(policy_set: PolicySet, exact: FloatArray) -> _Schedule:
        """From a policy set and (J, 1+I) exact values of its library."""
        cells, criterion = policy_set.cells, policy_set.criterion
        rows, centers = np.arange(len(cells)), cells.predictions
        order = np.argsort(-centers.reward_center[rows, cells.policy_index], kind="stable")
        own = cells.policy_index[order]

        def units(rewards: FloatArray, costs: FloatArray) -> FloatArray:
            low, high = criterion.reward_bounds
            return np.column_stack([rewards / (high - low), criterion.slack(costs)])

        return _Schedule(
            own=own,
            predicted=units(centers.reward_center[order, own], centers.cost_center[order, own]),
            safe=units(centers.reward_center[order, 0], centers.cost_center[order, 0]),
            true=units(exact[:, 0], exact[:, 1:]),
            discount=criterion.discount,
            eps=policy_set.training.radius,
        )

    def windows(self) -> int:
        """W, over all candidates."""
        return sum(self.last_level(k) + 2 for k in range(len(self.safe)))

    def last_level(self, candidate: int) -> int:
        """-1 where the cover is too coarse for the proof and the weight never rises."""
        slack, constant = float(self.safe[candidate, 1:].min()), lipschitz(self.discount)
        fine = (8.0 * constant + 18.0) * self.eps <= slack
        return hoeffding.last_level(slack, self.eps, constant) if fine else -1

    def weight(self, candidate: int, level: int, previous: float) -> float:
        """``alpha_level``."""
        slack, constant = float(self.safe[candidate, 1:].min()), lipschitz(self.discount)
        if level == 1:
            return hoeffding.first_weight(slack, self.eps, constant, self.discount)
        return hoeffding.next_weight(previous, slack, self.eps, constant)

    def leaves_after(self, candidate: int, weight: float, log_term: float) -> float:
        """Episodes until the radius falls below what the mixture mispredicts; infinite where it never does."""
        predicted = weight * self.predicted[candidate] + (1.0 - weight) * self.safe[candidate]
        true = weight * self.true[self.own[candidate]] + (1.0 - weight) * self.true[0]
        excess = float(np.abs(predicted - true).max()) - hoeffding.model_error(self.eps, lipschitz(self.discount))
        return 2.0 * log_term / ((1.0 - self.discount) * excess) ** 2 if excess > 0.0 else math.inf

    def rises_after(self, candidate: int, level: int, weight: float, log_term: float) -> float:
        """Episodes until the weight may rise; infinite from the last level on."""
        if level > self.last_level(candidate):
            return math.inf
        mixture = weight * self.predicted[candidate] + (1.0 - weight) * self.safe[candidate]
        return hoeffding.promotion_episodes(float(mixture[1:].min()), self.discount, log_term)


def noise_free_episodes(
    policy_set: PolicySet,
    task: TabularCMDP,
    good: Callable[[float, FloatArray], bool],
    *,
    delta: float,
    safe_start: bool,
    episodes: int | None = None,
) -> float:
    """Episodes after which the noise-free schedule deploys nothing but good mixtures; infinite where it never does.

    Args:
        policy_set: what the agent is given; its ``training.radius`` is ``e``.
        task: the real one.
        good: whether a mixture with this exact return and these costs (I,) is what is asked for.
        delta: error probability of the agent.
        safe_start: true for Safe-PCE, false for PCE, which plays every candidate with weight one.
        episodes: K of the union bound; by default the answer itself.
    """
    exact = evaluate_many(task, np.stack([p.table for p in policy_set.policies if isinstance(p, TabularPolicy)]))
    schedule = _Schedule.of(policy_set, exact)

    def deployed(candidate: int | None, weight: float) -> bool:
        mixture = exact[0] if candidate is None else weight * exact[schedule.own[candidate]] + (1.0 - weight) * exact[0]
        return good(float(mixture[0]), mixture[1:])

    def count(log_term: float) -> float:
        return _play(schedule, deployed, log_term, safe_start)

    windows, constraints = schedule.windows(), policy_set.criterion.n_constraints
    if episodes is not None:
        return count(hoeffding.log_term(episodes, windows, constraints, delta))
    return _fixed_point(count, windows, constraints, delta)


def _play(
    schedule: _Schedule, deployed: Callable[[int | None, float], bool], log_term: float, safe_start: bool
) -> float:
    """Walk through candidates and levels; the answer is when the last stretch of good mixtures began."""
    total, since = 0.0, math.inf
    for candidate in range(len(schedule.safe)):
        level, weight = 0, 0.0 if safe_start else 1.0
        while True:
            since = min(since, total) if deployed(candidate, weight) else math.inf
            leaves = schedule.leaves_after(candidate, weight, log_term)
            rises = schedule.rises_after(candidate, level, weight, log_term) if safe_start else math.inf
            if math.isinf(leaves) and math.isinf(rises):
                return since
            total += min(leaves, rises)
            if leaves <= rises:
                break
            level += 1
            weight = schedule.weight(candidate, level, weight)
    return min(since, total) if deployed(None, 0.0) else math.inf


def _fixed_point(count: Callable[[float], float], windows: int, constraints: int, delta: float) -> float:
    """K with ``K = count(Lambda(K))``: the union bound covers exactly the episodes that are needed."""
    episodes = 1e6
    for _ in range(ROUNDS):
        found = count(hoeffding.log_term(max(1, math.ceil(episodes)), windows, constraints, delta))
        if found == 0.0 or math.isinf(found) or abs(found - episodes) <= 1e-9 * episodes:
            return found
        episodes = max(found, 1.0)
    return episodes
