"""Task families that are cheap, and families that remember what was asked of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from surefoot import Criterion, TabularCMDP
from surefoot.arrays import FloatArray
from surefoot.tasks import TabularFamily
from surefoot.training import OptimalPolicy
from tests.models import one_state, random_cmdp

__all__ = ["Arm", "ArmOptimum", "Blend", "Spy"]


@dataclass(frozen=True)
class Arm:
    """One state, two arms: arm 0 is free and idle, arm 1 earns 1 and costs q; the limit is half of what q = 1 costs.

    The optimum plays arm 1 with probability ``min(1, 1/(2q))``; always idling is safe everywhere.
    """

    low: float = 0.3
    high: float = 1.0
    name: str = "arm"
    parameter_names: tuple[str, ...] = ("price",)

    @property
    def support(self) -> FloatArray:
        return np.array([[self.low, self.high]])

    @property
    def criterion(self) -> Criterion:
        return Criterion(0.5, np.array([1.0]), (0.0, 1.0), np.array([1.0]))

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        return rng.uniform(self.low, self.high, size=(n, 1))

    def cmdp(self, parameters: Any) -> TabularCMDP:
        price = float(np.asarray(parameters).reshape(-1)[0])
        return one_state([0.0, 1.0], [[0.0, price]], [1.0], 0.5)

    def safe_policy(self) -> FloatArray:
        return np.array([[1.0, 0.0]])


class ArmOptimum:
    """Its optimum in closed form: hundreds of training runs without a linear program."""

    def solve(self, task: TabularCMDP) -> OptimalPolicy:
        price = float(task.costs[0, 0, 1])
        share = min(1.0, 0.5 / price) if price > 0.0 else 1.0
        costs = np.array([2.0 * share * price])
        return OptimalPolicy(True, np.array([[1.0 - share, share]]), 2.0 * share, costs, 2.0 * share)


class Blend:
    """Two parameters that move rewards, costs, start and kernel of a random CMDP with two constraints."""

    name = "blend"
    parameter_names = ("first", "second")
    support = np.array([[0.0, 1.0], [0.0, 1.0]])

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._ends = [random_cmdp(rng, states=3, actions=2, constraints=2, limits=np.full(2, 6.0)) for _ in range(3)]
        self.criterion = Criterion(0.8, np.full(2, 6.0), (-4.0, 4.0), np.array([2.0, 4.0]))

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        return rng.random((n, 2))

    def cmdp(self, parameters: Any) -> TabularCMDP:
        a, b = np.asarray(parameters)
        weights = np.array([2.0 - a - b, a, b]) / 2.0

        def mixed(name: str) -> FloatArray:
            parts: FloatArray = np.tensordot(weights, np.stack([getattr(m, name) for m in self._ends]), axes=1)
            return parts

        return TabularCMDP(
            mixed("dense"), mixed("rewards"), mixed("costs"), self.criterion.cost_limits, mixed("start"), 0.8
        )


@dataclass
class Spy:
    """Any family, with a record of every sample drawn from it."""

    inner: TabularFamily
    samples: list[FloatArray] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        drawn = self.inner.sample(n, rng)
        self.samples.append(drawn.copy())
        return drawn
