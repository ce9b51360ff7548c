"""Safe-PCE and PCE (Ni & Kamgarpour 2026, Algorithms 2 and 4; PCE: Ye et al. 2023).

Candidates are the cells' predictions, largest predicted value first. While candidate l stands, the mixture
``alpha pi_l + (1 - alpha) pi_s`` is played; its predicted return and costs are the same convex combination. The candidate is
eliminated when a running mean over the current window leaves its prediction by more than the radius; after enough episodes at
level m the weight rises to ``alpha_{m+1}`` and a new window starts. PCE is the same with ``alpha = 1`` throughout.

The sets of constants are in :mod:`surefoot.deploy.safe_pce_constants`.

A batch is played with the weight it was asked with; eliminations are decided at every episode of the batch, in ask order, and take effect
at its end. Letters: K episodes, I constraints, J policies, N candidates, W windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np

from surefoot.arrays import FloatArray, check_integer, check_real
from surefoot.deploy.safe_pce_constants import (
    Between,
    Candidates,
    Constants,
    Locomotion,
    Published,
    PublishedPCE,
    Theory,
)
from surefoot.deploy.tracker import Batch, Episode, EpisodeTracker
from surefoot.deploy.turns import undivided
from surefoot.errors import InvalidInput
from surefoot.policy import Mixture, Policy
from surefoot.policyset.schema import PolicySet, check_policy_set

__all__ = ["PCE", "SafePCE"]

Preset = Literal["theory", "published", "locomotion", "between"]


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
        preset: ``"theory"``, ``"published"``, ``"locomotion"`` or ``"between"``; see :mod:`surefoot.deploy.safe_pce_constants`.
        delta: error probability (``theory`` only).
        episodes: K, the number of episodes the union bound covers (``theory`` only).
        seed: of the draws.
        eps: radius of the cover in the paper's distance; by default what training used (with ``between`` the published one).
        share: of the way from ``theory`` to ``published``, >= 0 (``between`` only).

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
        share: float = 1.0,
    ) -> None:
        check_policy_set(policy_set)
        share = check_real("share", share, low=0.0)
        delta = check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
        episodes = check_integer("episodes", episodes, low=1)
        seed = check_integer("seed", seed, low=0)
        criterion = policy_set.criterion.means_only("Safe-PCE")
        self._limits = criterion.cost_limits
        self._candidates = Candidates.of(policy_set)
        self._constants = self._choose(preset, policy_set, delta, episodes, eps, share)
        rng = np.random.default_rng(seed)
        self._tracker = EpisodeTracker(
            policy_set.policies, criterion, criterion.return_range, criterion.cost_ceilings, rng
        )
        self._candidate, self._level, self._weight = 0, 0, self._first_level_weight()
        self._window, self._window_from = _Window.empty(criterion.n_constraints), 0
        self._safe_pool = _Window.empty(criterion.n_constraints)
        self.notes = self._describe(preset)

    def _choose(
        self, preset: str, policy_set: PolicySet, delta: float, episodes: int, eps: float | None, share: float
    ) -> Constants:
        if preset == "published":
            return self._published()
        if preset == "between":
            radius = Published.eps if eps is None else check_real("eps", eps, low=0.0, open_low=True)
            return Between(Theory(policy_set, self._candidates, radius, episodes, delta), self._published(), share)
        if preset == "locomotion":
            return Locomotion(policy_set.criterion.effective_horizon)
        if preset != "theory":
            raise InvalidInput(
                f"preset must be theory, published, locomotion or between, got {preset!r}; choose one",
                code="SF-ARGUMENT-CHOICE",
            )
        if eps is None and policy_set.training.oracle != "CMDP distance":
            raise InvalidInput(
                f"eps must be given, got None: the cover's radius is a {policy_set.training.oracle}; pass eps in the CMDP distance",
                code="SF-ARGUMENT-MISSING",
            )
        radius = policy_set.training.radius if eps is None else eps
        radius = check_real("eps", radius, low=0.0, open_low=True)
        return Theory(policy_set, self._candidates, radius, episodes, delta)

    def _published(self) -> Published:
        return Published()

    def _first_level_weight(self) -> float:
        return 0.0 if self.safe_start else 1.0

    def _describe(self, preset: str) -> tuple[str, ...]:
        if preset == "between":
            return ("constants between the proof's and the published ones, outside the proof: nothing is guaranteed",)
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

    def _published(self) -> Published:
        return PublishedPCE()

    def _describe(self, preset: str) -> tuple[str, ...]:
        return ("explores with full weight: safety is not attempted", *super()._describe(preset))
