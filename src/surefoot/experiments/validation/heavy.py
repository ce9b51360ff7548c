"""A harder version of any family: rare catastrophes and hardly any margin.

After a step that costs ``c`` under the base family the process falls, with probability ``p c / c_max``, into a *pit*: an absorbing state
that earns the least reward and costs ``c_max`` in every further step. Ordinary costs are scaled by ``1 - weight``. Almost every episode
is then cheaper than before and a few cost up to ``c_max / (1 - gamma)``, many times the limit: a tail as heavy as the range allows, and a
mean that small samples do not show. Limits are set so that the safe policy keeps only ``margin`` of them in the worst task.

Letters: S states of the base (S + 1 here, the last is the pit), A actions, I constraints, p parameters.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, check_real, freeze
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import Criterion
from surefoot.errors import InvalidInput

__all__ = ["RareCatastrophes"]

PROBES = 64
PROBE_SEED = 20_260_121
"""The limits are part of the family, so the tasks that set them are drawn with a seed of their own."""


@dataclass(frozen=True)
class RareCatastrophes:
    """The family above.

    Attributes:
        base: a family with a safe policy of its own (``safe_policy()``) and finite ``support``.
        probability: ``p``, of a catastrophe in the costliest step.
        weight: share of ordinary costs that is taken away.
        margin: what the safe policy keeps of the limit in the worst task.

    Raises:
        InvalidInput: an attribute out of range, or a base without safe policy.
    """

    base: Any
    probability: float = 0.02
    weight: float = 0.5
    margin: float = 0.02

    def __post_init__(self) -> None:
        for name in ("probability", "weight", "margin"):
            object.__setattr__(
                self, name, check_real(name, getattr(self, name), low=0.0, high=1.0, open_low=True, open_high=True)
            )
        if not callable(getattr(self.base, "safe_policy", None)):
            raise InvalidInput(
                f"base must have a method safe_policy, got {type(self.base).__name__}; add one", code="SF-POLICY-KIND"
            )

    @property
    def name(self) -> str:
        """Used in reports."""
        return f"{self.base.name} with rare catastrophes"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Those of the base."""
        names: tuple[str, ...] = self.base.parameter_names
        return names

    @property
    def support(self) -> FloatArray:
        """That of the base."""
        support: FloatArray = np.asarray(self.base.support, dtype=np.float64)
        return support

    @cached_property
    def criterion(self) -> Criterion:
        """The base's, with the limits of the module's docstring."""
        own: Criterion = self.base.criterion.means_only("rare catastrophes")
        return Criterion(own.discount, self._limits, own.reward_bounds, own.cost_bounds, None, own.cost_names)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, p), as the base draws them."""
        drawn: FloatArray = self.base.sample(n, rng)
        return drawn

    def cmdp(self, parameters: Any) -> TabularCMDP:
        """The task with these parameters."""
        return self._build(parameters, self.criterion.cost_limits)

    def safe_policy(self) -> FloatArray:
        """(S+1, A) the base's safe policy; what it does in the pit makes no difference."""
        table = np.asarray(self.base.safe_policy(), dtype=np.float64)
        return freeze(np.vstack([table, np.eye(1, table.shape[1])]))

    @cached_property
    def _limits(self) -> FloatArray:
        points = self.sample(PROBES, np.random.default_rng(PROBE_SEED))
        if np.isfinite(self.support).all():
            points = np.concatenate([points, np.asarray(list(itertools.product(*self.support)))])
        safe, none = self.safe_policy(), np.zeros(self.base.criterion.n_constraints)
        costs = np.stack([evaluate_many(self._build(p, none), safe)[0, 1:] for p in points])
        return freeze(costs.max(axis=0) / (1.0 - self.margin))

    def _build(self, parameters: Any, limits: FloatArray) -> TabularCMDP:
        task: TabularCMDP = self.base.cmdp(parameters)
        bounds, size = self.base.criterion.cost_bounds, task.n_states
        fall = self.probability * (task.costs / bounds[:, None, None]).max(axis=0, initial=0.0)
        kernel = np.zeros((size + 1, task.n_actions, size + 1))
        kernel[:size, :, :size] = (1.0 - fall)[:, :, None] * task.dense
        kernel[:size, :, size] = fall
        kernel[size, :, size] = 1.0
        low = self.base.criterion.reward_bounds[0]
        rewards = np.vstack([task.rewards, np.full((1, task.n_actions), low)])
        pit = np.broadcast_to(bounds[:, None, None], (bounds.size, 1, task.n_actions))
        costs = np.concatenate([(1.0 - self.weight) * task.costs, pit], axis=1)
        return TabularCMDP(kernel, rewards, costs, limits, np.append(task.start, 0.0), task.discount)
