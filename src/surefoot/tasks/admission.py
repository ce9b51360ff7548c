"""Admission and service control of a queue whose arrival rate is unknown.

State ``s = 0..N``: customers in the system. In a step a customer arrives with probability ``q`` (the parameter) and enters when the gate is
open and there is room; independently the customer in service leaves with probability ``mu(a)``. With ``u = q`` (gate open and ``s < N``,
else 0) and ``m = mu(a)`` (``s > 0``, else 0),

    P(s+1 | s,a) = u (1-m),      P(s-1 | s,a) = (1-u) m,      P(s | s,a) = 1 - u (1-m) - (1-u) m.

Actions are ``2 open + fast``: the ordinary pace has ``mu = .4``, the fast one ``.8`` and needs power at .4 per step. A customer pays 1 on
leaving, so ``r(s,a) = mu(a) 1{s>0} - .4 fast``, which does not give ``q`` away. Waiting costs ``c(s,a) = s/N``; its discounted sum is limited
(flow control under a delay constraint: Lazar 1983; Altman 1999, chapter 5). An episode starts empty; ``gamma = .95``.

``q`` is uniform on [.25, .6]. The safe policy is the optimum at ``q = .65`` under nine tenths of the limit: under any one policy that
admits up to a threshold, more arrivals mean longer queues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, as_floats, check_integer, check_real, freeze
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import Criterion

__all__ = ["QueueAdmission"]

PACES = (0.4, 0.8)
"""Probability per step that the ordinary and the fast server finish a customer."""
POWER = 0.4
DISCOUNT = 0.95
SUPPORT = (0.25, 0.6)
SAFE_ARRIVALS, SAFE_SHARE = 0.65, 0.9


@dataclass(frozen=True)
class QueueAdmission:
    """The family, named by one parameter: the arrival probability.

    Attributes:
        limit: on the discounted waiting of an episode.
        capacity: N, customers that fit.
    """

    limit: float = 1.5
    capacity: int = 15

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", check_real("limit", self.limit, low=0.0))
        object.__setattr__(self, "capacity", check_integer("capacity", self.capacity, low=2))

    @property
    def name(self) -> str:
        """Used in reports."""
        return "queue admission"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """One parameter."""
        return ("arrivals",)

    @property
    def support(self) -> FloatArray:
        """(1, 2)."""
        return freeze(np.array([SUPPORT]))

    @property
    def criterion(self) -> Criterion:
        """Shared by all tasks."""
        return Criterion(
            discount=DISCOUNT,
            cost_limits=np.array([self.limit]),
            reward_bounds=(-POWER, PACES[0]),
            cost_bounds=np.ones(1),
            cost_names=("waiting",),
        )

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, 1) arrival probabilities."""
        return rng.uniform(*SUPPORT, size=(n, 1))

    def cmdp(self, parameters: Any) -> TabularCMDP:
        """The task with this arrival probability.

        Raises:
            InvalidInput: it is no probability.
        """
        arrivals = float(as_floats("parameters", np.atleast_1d(parameters), (1,))[0])
        arrivals = check_real("arrivals", arrivals, low=0.0, high=1.0)
        n = self.capacity + 1
        kernel, rewards = np.zeros((n, 4, n)), np.zeros((n, 4))
        for s in range(n):
            for action in range(4):
                opened, fast = divmod(action, 2)
                enters = arrivals if opened and s < self.capacity else 0.0
                leaves = PACES[fast] if s > 0 else 0.0
                up, down = enters * (1.0 - leaves), (1.0 - enters) * leaves
                kernel[s, action, min(s + 1, self.capacity)] += up
                kernel[s, action, max(s - 1, 0)] += down
                kernel[s, action, s] += 1.0 - up - down
                rewards[s, action] = leaves - POWER * fast
        waiting = np.tile(np.arange(n)[:, None] / self.capacity, (1, 1, 4))
        return TabularCMDP(kernel, rewards, waiting, np.array([self.limit]), np.eye(n)[0], DISCOUNT)

    def safe_policy(self) -> FloatArray:
        """(S, A) the optimum for more arrivals than the support allows, with a tenth of the limit to spare."""
        from surefoot.solvers.linear_program import solve

        hardest = self.cmdp(SAFE_ARRIVALS).with_limits([SAFE_SHARE * self.limit])
        return freeze(solve(hardest).value_or_raise().policy)
