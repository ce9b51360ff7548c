"""Safe-PCE and PCE (Ni & Kamgarpour 2026, Algorithms 2 and 4; PCE: Ye et al. 2023).

Candidates are the cells' predictions, largest predicted value first. While candidate l stands, the mixture
``alpha pi_l + (1 - alpha) pi_s`` is played; its predicted return and costs are the same convex combination. The candidate is
eliminated when a running mean over the current window leaves its prediction by more than the radius; after enough episodes at
level m the weight rises to ``alpha_{m+1}`` and a new window starts. PCE is the same with ``alpha = 1`` throughout.

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

A batch is played with the weight it was asked with; eliminations are decided at every episode of the batch, in ask order, and take effect
at its end. Letters: K episodes, I constraints, J policies, N candidates, W windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol, overload

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_integer, check_real
from surefoot.deploy.tracker import Batch, Episode, EpisodeTracker
from surefoot.deploy.turns import undivided
from surefoot.errors import InvalidInput
from surefoot.policy import Mixture, Policy
from surefoot.policyset.schema import PolicySet
from surefoot.stats import hoeffding

__all__ = ["PCE", "SafePCE"]

Preset = Literal["theory", "published", "locomotion"]


@dataclass(frozen=True, eq=False)
class _Candidates:
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
    def of(policy_set: PolicySet) -> _Candidates:
        """Read off a policy set; ties keep the set's order."""
        cells, rows = policy_set.cells, np.arange(len(policy_set.cells))
        value = cells.predictions.reward_center[rows, cells.policy_index]
        order = np.argsort(-value, kind="stable")
        own = cells.policy_index[order]
        return _Candidates(
            policy_index=own,
            value=value[order],
            cost=cells.predictions.cost_center[order, own],
            safe_value=cells.predictions.reward_center[order, 0],
            safe_cost=cells.predictions.cost_center[order, 0],
        )

    def __len__(self) -> int:
        return int(self.policy_index.size)


class _Constants(Protocol):
    """The numbers in which the presets differ; radii in raw units."""

    first_check: int
    pools_safe_data: bool

    def reward_radius(self, n: FloatArray, level: int, candidate: int) -> FloatArray: ...

    def cost_radius(self, n: FloatArray, level: int, candidate: int) -> FloatArray: ...

    def promotion(self, slack: FloatArray) -> float: ...

    def weight(self, level: int, previous: float, safe_slack: FloatArray) -> float: ...

    def last_level(self, safe_slack: FloatArray) -> float: ...


class _Theory:
    """Constants of the proof; all inputs raw, converted by the criterion's scales."""

    first_check = 1
    pools_safe_data = False

    def __init__(self, policy_set: PolicySet, candidates: _Candidates, eps: float, episodes: int, delta: float) -> None:
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


class _Published:
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


class _PublishedPCE(_Published):
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


class _Locomotion:
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


@dataclass
class _Window:
    """Sums over the current window; mutable, owned by one agent."""

    n: int
    reward: float
    cost: FloatArray

    @staticmethod
    def empty(constraints: int) -> _Window:
        return _Window(0, 0.0, np.zeros(constraints))

    def copy(self) -> _Window:
        return _Window(self.n, self.reward, self.cost.copy())


class SafePCE:
    """Safe policy collection elimination.

    Args:
        policy_set: from training.
        preset: ``"theory"`` or ``"published"``; see the module's docstring.
        delta: error probability (``theory`` only).
        episodes: K, the number of episodes the union bound covers (``theory`` only).
        seed: of the draws.
        eps: radius of the cover in the paper's distance; by default what training used.

    Attributes:
        notes: what a reader of the results must know, in plain words.

    Raises:
        InvalidInput: an argument out of range, or no radius in the units the proof needs.
    """

    wants: frozenset[str] = frozenset()
    safe_start = True

    def __init__(
        self,
        policy_set: PolicySet,
        *,
        preset: Preset = "theory",
        delta: float = 0.05,
        episodes: int = 40_000,
        seed: int = 0,
        eps: float | None = None,
    ) -> None:
        delta = check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
        episodes = check_integer("episodes", episodes, low=1)
        seed = check_integer("seed", seed, low=0)
        criterion = policy_set.criterion
        self._limits = criterion.cost_limits
        self._candidates = _Candidates.of(policy_set)
        self._constants = self._choose(preset, policy_set, delta, episodes, eps)
        rng = np.random.default_rng(seed)
        self._tracker = EpisodeTracker(
            policy_set.policies, criterion, criterion.return_range, criterion.cost_ceilings, rng
        )
        self._candidate, self._level, self._weight = 0, 0, self._first_level_weight()
        self._window, self._window_from = _Window.empty(criterion.n_constraints), 0
        self._safe_pool = _Window.empty(criterion.n_constraints)
        self.notes = self._describe(preset)

    def _choose(self, preset: str, policy_set: PolicySet, delta: float, episodes: int, eps: float | None) -> _Constants:
        if preset == "published":
            return _Published()
        if preset == "locomotion":
            return _Locomotion(policy_set.criterion.effective_horizon)
        if preset != "theory":
            raise InvalidInput(
                f"preset must be theory, published or locomotion, got {preset!r}; choose one", code="SF-ARGUMENT-CHOICE"
            )
        if eps is None and policy_set.training.oracle != "CMDP distance":
            raise InvalidInput(
                f"eps must be given, got None: the cover's radius is a {policy_set.training.oracle}; pass eps in the CMDP distance",
                code="SF-ARGUMENT-MISSING",
            )
        radius = policy_set.training.radius if eps is None else eps
        radius = check_real("eps", radius, low=0.0, open_low=True)
        return _Theory(policy_set, self._candidates, radius, episodes, delta)

    def _first_level_weight(self) -> float:
        return 0.0 if self.safe_start else 1.0

    def _describe(self, preset: str) -> tuple[str, ...]:
        if preset != "theory":
            which = "gridworld" if preset == "published" else "locomotion"
            return (f"hand-set constants of the published {which} code, outside the proof: nothing is guaranteed",)
        slack = self._limits - self._candidates.safe_cost
        stuck = sum(self._constants.last_level(s) < 0.0 for s in slack)
        if stuck and self.safe_start:
            return (
                f"the cover is too coarse for the proof in {stuck} of {len(slack)} cells: the weight stays 0 there",
            )
        return ()

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The library."""
        return self._tracker.policies

    @property
    def candidate(self) -> int | None:
        """Rank of the current candidate, or ``None`` when all are eliminated."""
        return self._candidate if self._candidate < len(self._candidates) else None

    @property
    def level(self) -> int:
        """m."""
        return self._level

    @property
    def weight(self) -> float:
        """Weight of the current candidate."""
        return self._weight if self.candidate is not None else 0.0

    @property
    def mixture(self) -> Mixture:
        """What the next episode is drawn from."""
        weights = np.zeros(len(self._tracker.policies))
        if self.candidate is None:
            weights[0] = 1.0
        else:
            weights[self._candidates.policy_index[self._candidate]] = self._weight
            weights[0] += 1.0 - self._weight
        return Mixture(weights)

    @overload
    def ask(self, n: None = None) -> Episode: ...

    @overload
    def ask(self, n: int) -> Batch: ...

    @undivided
    def ask(self, n: int | None = None) -> Episode | Batch:
        """See :class:`~surefoot.deploy.agent.Agent`."""
        batch = self._tracker.open(self.mixture, 1 if n is None else n)
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
        """See :class:`~surefoot.deploy.agent.Agent`."""
        report = self._tracker.check(ids, reward, costs)
        self._tracker.close(report)
        # Ids increase: what was asked before the window opened ran another mixture and says nothing about this prediction.
        current = report.ids >= self._window_from
        if self.candidate is not None and current.any():
            self._learn(report.reward[current], report.costs[current])

    def _learn(self, rewards: FloatArray, costs: FloatArray) -> None:
        """Add n episodes of the current mixture to its window, then eliminate or promote."""
        pool = self._pool()
        n = pool.n + np.arange(1.0, rewards.size + 1.0)
        mean_reward = (pool.reward + np.cumsum(rewards)) / n
        mean_cost = (pool.cost + np.cumsum(costs, axis=0)) / n[:, None]
        for window in {id(w): w for w in (pool, self._window)}.values():
            window.n += rewards.size
            window.reward += float(rewards.sum())
            window.cost = window.cost + costs.sum(axis=0)
        in_window = self._window.n - rewards.size + np.arange(1, rewards.size + 1)
        checked = in_window >= self._constants.first_check
        if bool((checked & self._outside(n, mean_reward, mean_cost)).any()):
            self._eliminate()
        else:
            self._promote()

    def _pool(self) -> _Window:
        """The window whose mean is compared: the published code pools the safe policy's data of later candidates at level 0."""
        pooled = self._constants.pools_safe_data and self._level == 0 and self._candidate > 0
        return self._safe_pool if pooled else self._window

    def _predicted(self) -> tuple[float, FloatArray]:
        c, k, w = self._candidates, self._candidate, self._weight
        value = w * c.value[k] + (1.0 - w) * c.safe_value[k]
        return float(value), w * c.cost[k] + (1.0 - w) * c.safe_cost[k]

    def _outside(
        self, n: FloatArray, mean_reward: FloatArray, mean_cost: FloatArray
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        value, cost = self._predicted()
        off_reward = np.abs(mean_reward - value) > self._constants.reward_radius(n, self._level, self._candidate)
        off_cost = np.abs(mean_cost - cost) > self._constants.cost_radius(n, self._level, self._candidate)
        result: np.ndarray[Any, np.dtype[np.bool_]] = off_reward | off_cost.any(axis=1)
        return result

    def _eliminate(self) -> None:
        self._keep_safe_data()
        self._candidate += 1
        self._level, self._weight = 0, self._first_level_weight()
        self._open_window()

    def _keep_safe_data(self) -> None:
        """Leaving the first candidate at level 0 starts the pool of the safe policy's data."""
        if self._level == 0 and self._candidate == 0:
            self._safe_pool = self._window.copy()

    def _promote(self) -> None:
        _, cost = self._predicted()
        safe_slack = self._limits - self._candidates.safe_cost[self._candidate]
        if not self.safe_start or self._level > self._constants.last_level(safe_slack):
            return
        if self._window.n < self._constants.promotion(self._limits - cost):
            return
        self._keep_safe_data()
        self._level += 1
        self._weight = self._constants.weight(self._level, self._weight, safe_slack)
        self._open_window()

    def _open_window(self) -> None:
        self._window, self._window_from = _Window.empty(self._limits.size), self._tracker.opened


class PCE(SafePCE):
    """Policy collection elimination: the candidate is played with weight one from the start. It is not safe."""

    safe_start = False

    def _choose(self, preset: str, policy_set: PolicySet, delta: float, episodes: int, eps: float | None) -> _Constants:
        return _PublishedPCE() if preset == "published" else super()._choose(preset, policy_set, delta, episodes, eps)

    def _describe(self, preset: str) -> tuple[str, ...]:
        return ("explores with full weight: safety is not attempted", *super()._describe(preset))
