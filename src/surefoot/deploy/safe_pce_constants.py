"""The constants of Safe-PCE and PCE: radii, lengths of windows, weights (Ni & Kamgarpour 2026, Algorithms 2 and 4).

Sets of constants:

* ``theory``: those of the proof (:mod:`surefoot.stats.hoeffding`), in the paper's units: rewards divided by their per-step range, cost slack
  ``(d - C)/c_max``. The schedule needs ``(8L+18) eps <= xi``; where it fails the weight stays 0 and :attr:`SafePCE.notes` says so.
* ``published``: those of the authors' code for the 7x7 gridworld, in raw units: radii ``sqrt(4000/n) + 8 eps`` and ``sqrt(300/n) + eps``
  with ``eps = .01``, at least 1000 episodes before an elimination, promotion after ``min(max(100/slack^2, 1000), 5200)`` episodes,
  ``alpha_1 = s/(s+2)``, and the data of the safe policy pooled over all candidates at level 0. **They are outside the proof.** For PCE:
  ``sqrt(3000/n) + .8``, ``sqrt(600/n) + .1``, at least 100 episodes.
* ``locomotion``: those of the authors' other code, for Hopper, likewise outside the proof: radii ``sqrt(60000/n) + 28`` for returns that are
  *not* discounted over 200 steps (here both are multiplied by the discounted length of an episode over 200) and ``sqrt(600/n) + 1`` for costs,
  at least 301 episodes before an elimination, promotion after 350, at most 15 levels, ``alpha_1 = s/(s+2)``. The same for PCE.
* ``between``: a share of the way from ``theory`` to ``published`` on a logarithmic scale, ``theory^(1 - share) published^share`` for every radius
  and length of a window; shares above 1 go on in the same direction. The first check, the weights and the pooling are the published ones, because
  the schedule of the proof does not exist on the published cover. Likewise outside the proof. It is a ladder from cautious to bold, for those
  who rehearse (:mod:`surefoot.experiments.fair`).

Letters: I constraints, N candidates, n episodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.policyset.schema import PolicySet
from surefoot.stats import hoeffding

__all__ = ["Between", "Candidates", "Constants", "Locomotion", "Published", "PublishedPCE", "Theory"]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Predictions of the N candidates, best first, in raw units.

    Attributes:
        policy_index: (N,).
        value, safe_value: (N,) predicted return of the candidate's policy and of the safe policy.
        cost, safe_cost: (N, I).
    """

    policy_index: IntArray
    value: FloatArray
    cost: FloatArray
    safe_value: FloatArray
    safe_cost: FloatArray

    @staticmethod
    def of(policy_set: PolicySet) -> Candidates:
        """Read off a policy set; ties keep the set's order."""
        cells, rows = policy_set.cells, np.arange(len(policy_set.cells))
        value = cells.predictions.reward_center[rows, cells.policy_index]
        order = np.argsort(-value, kind="stable")
        own = cells.policy_index[order]
        return Candidates(
            policy_index=own,
            value=value[order],
            cost=cells.predictions.cost_center[order, own],
            safe_value=cells.predictions.reward_center[order, 0],
            safe_cost=cells.predictions.cost_center[order, 0],
        )

    def __len__(self) -> int:
        return int(self.policy_index.size)


class Constants(Protocol):
    """The numbers in which the presets differ; radii in raw units."""

    first_check: int
    pools_safe_data: bool

    def reward_radius(self, n: FloatArray, level: int, candidate: int) -> FloatArray: ...

    def cost_radius(self, n: FloatArray, level: int, candidate: int) -> FloatArray: ...

    def promotion(self, slack: FloatArray) -> float: ...

    def weight(self, level: int, previous: float, safe_slack: FloatArray) -> float: ...

    def last_level(self, safe_slack: FloatArray) -> float: ...


class Theory:
    """Constants of the proof; all inputs raw, converted by the criterion's scales."""

    first_check = 1
    pools_safe_data = False

    def __init__(self, policy_set: PolicySet, candidates: Candidates, eps: float, episodes: int, delta: float) -> None:
        criterion = policy_set.criterion
        gamma = criterion.discount
        low, high = criterion.reward_bounds
        self.eps, self.gamma = eps, gamma
        self.reward_scale, self.cost_scale = high - low, criterion.cost_bounds
        printed = 1.0 / (1.0 - gamma) + 2.0 * gamma / (1.0 - gamma) ** 2
        self.lipschitz = max(printed, hoeffding.lipschitz(gamma, 1.0))
        windows = sum(self._windows(slack) for slack in criterion.slack(candidates.safe_cost))
        self.log_term = hoeffding.log_term(episodes, windows, criterion.n_constraints, delta)

    def _windows(self, slack: FloatArray) -> int:
        """Windows that one candidate can open; its weight stays 0 where the cover is too coarse."""
        worst = float(slack.min())
        return hoeffding.last_level(worst, self.eps, self.lipschitz) + 2 if self._fine_enough(worst) else 1

    def reward_radius(self, n: FloatArray, level: int, candidate: int) -> FloatArray:
        """Of the mean return."""
        return self.reward_scale * self._radius(n)

    def cost_radius(self, n: FloatArray, level: int, candidate: int) -> FloatArray:
        """(n, I) of the mean costs."""
        return self._radius(n)[:, None] * self.cost_scale

    def _radius(self, n: FloatArray) -> FloatArray:
        statistical = np.sqrt(2.0 * self.log_term / n) / (1.0 - self.gamma)
        return statistical + hoeffding.model_error(self.eps, self.lipschitz)

    def promotion(self, slack: FloatArray) -> float:
        """Episodes a window needs, for the slack (I,) of the predicted mixture."""
        return hoeffding.promotion_episodes(float((slack / self.cost_scale).min()), self.gamma, self.log_term)

    def weight(self, level: int, previous: float, safe_slack: FloatArray) -> float:
        """``alpha_level``."""
        slack = float((safe_slack / self.cost_scale).min())
        if level == 1:
            return hoeffding.first_weight(slack, self.eps, self.lipschitz, self.gamma)
        return hoeffding.next_weight(previous, slack, self.eps, self.lipschitz)

    def last_level(self, safe_slack: FloatArray) -> float:
        """Levels after which the weight no longer rises; none at all where the proof's condition on the cover fails."""
        slack = float((safe_slack / self.cost_scale).min())
        return float(hoeffding.last_level(slack, self.eps, self.lipschitz)) if self._fine_enough(slack) else -1.0

    def _fine_enough(self, slack: float) -> bool:
        """``(8L + 18) eps <= v_s``, which makes the first weight positive and the schedule safe."""
        return (8.0 * self.lipschitz + 18.0) * self.eps <= slack


class Published:
    """Hand-set constants of the authors' gridworld code; outside the proof."""

    first_check = 1000
    pools_safe_data = True
    eps, reward_lipschitz, cost_lipschitz = 0.01, 8.0, 1.0

    def reward_radius(self, n: FloatArray, level: int, candidate: int) -> FloatArray:
        """Of the mean return."""
        return np.sqrt(4000.0 / n) + self.eps * self.reward_lipschitz

    def cost_radius(self, n: FloatArray, level: int, candidate: int) -> FloatArray:
        """(n, 1) of the mean costs; the pooled windows of later candidates use half the variance."""
        variance = 150.0 if level == 0 and candidate > 0 else 300.0
        radius: FloatArray = np.sqrt(variance / n) + self.eps * self.cost_lipschitz
        return radius[:, None]

    def promotion(self, slack: FloatArray) -> float:
        """Episodes a window needs; the code counts from one episode later than the window starts."""
        margin = float(slack.min())
        return min(max(100.0 / margin**2 if margin != 0.0 else math.inf, 1000.0), 5200.0) + 2.0

    def weight(self, level: int, previous: float, safe_slack: FloatArray) -> float:
        """``alpha_level``, clipped to [0, 1]."""
        slack = float(safe_slack.min())
        if level == 1:
            usable = slack - 2.0 * self.eps * self.cost_lipschitz
            value = usable / (usable + 2.0)
        else:
            error = (2.0 * self.cost_lipschitz + 1.0) * self.eps
            value = 3.0 * slack * previous / ((previous + 2.0) * slack + error)
        return min(max(value, 0.0), 1.0)

    def last_level(self, safe_slack: FloatArray) -> float:
        """``log_{2/3} eps``."""
        return math.log(self.eps, 2.0 / 3.0)


class PublishedPCE(Published):
    """Hand-set constants of the authors' PCE arm."""

    first_check = 100
    pools_safe_data = False

    def reward_radius(self, n: FloatArray, level: int, candidate: int) -> FloatArray:
        """Of the mean return."""
        return np.sqrt(3000.0 / n) + 0.8

    def cost_radius(self, n: FloatArray, level: int, candidate: int) -> FloatArray:
        """(n, 1) of the mean costs."""
        radius: FloatArray = np.sqrt(600.0 / n) + 0.1
        return radius[:, None]


class Locomotion:
    """Hand-set constants of the authors' code for Hopper; outside the proof."""

    first_check = 301
    pools_safe_data = False
    eps, steps, levels = 0.1, 200.0, 15

    def __init__(self, effective_horizon: float) -> None:
        self._share = effective_horizon / self.steps

    def reward_radius(self, n: FloatArray, level: int, candidate: int) -> FloatArray:
        """Of the mean return."""
        radius: FloatArray = (np.sqrt(60_000.0 / n) + self.eps * 280.0) * self._share
        return radius

    def cost_radius(self, n: FloatArray, level: int, candidate: int) -> FloatArray:
        """(n, 1) of the mean costs."""
        radius: FloatArray = np.sqrt(600.0 / n) + self.eps * 10.0
        return radius[:, None]

    def promotion(self, slack: FloatArray) -> float:
        """Episodes a window needs; the code takes the larger of 650 and another number, and then at most 350."""
        return 350.0

    def weight(self, level: int, previous: float, safe_slack: FloatArray) -> float:
        """``alpha_level``; the slack cancels after the first level."""
        slack = max(abs(float(safe_slack.min())), 1e-6)
        return slack / (slack + 2.0) if level == 1 else min(3.0 * previous / (2.0 + previous), 1.0)

    def last_level(self, safe_slack: FloatArray) -> float:
        """The code counts levels from 0."""
        return float(self.levels - 1)


class Between:
    """Between the proof's constants and hand-set ones; see the module's docstring.

    Args:
        theory: at share 0, but for what is not on a scale.
        published: at share 1.
        share: how far, >= 0.
    """

    def __init__(self, theory: Theory, published: Published, share: float) -> None:
        self._theory, self._published, self._share = theory, published, share
        self.first_check = published.first_check
        self.pools_safe_data = published.pools_safe_data

    def reward_radius(self, n: FloatArray, level: int, candidate: int) -> FloatArray:
        """Of the mean return."""
        one, other = (c.reward_radius(n, level, candidate) for c in (self._theory, self._published))
        result: FloatArray = one ** (1.0 - self._share) * other**self._share
        return result

    def cost_radius(self, n: FloatArray, level: int, candidate: int) -> FloatArray:
        """(n, I) of the mean costs."""
        one, other = (c.cost_radius(n, level, candidate) for c in (self._theory, self._published))
        result: FloatArray = one ** (1.0 - self._share) * other**self._share
        return result

    def promotion(self, slack: FloatArray) -> float:
        """Episodes a window needs; for ever where the proof's window has no end, short of the published share."""
        one, other = self._theory.promotion(slack), self._published.promotion(slack)
        if math.isinf(one):
            return math.inf if self._share < 1.0 else other
        return float(one ** (1.0 - self._share) * other**self._share)

    def weight(self, level: int, previous: float, safe_slack: FloatArray) -> float:
        """``alpha_level``, as published."""
        return self._published.weight(level, previous, safe_slack)

    def last_level(self, safe_slack: FloatArray) -> float:
        """As published."""
        return self._published.last_level(safe_slack)
