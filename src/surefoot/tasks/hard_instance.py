"""The hard instance of the lower bound (Ni & Kamgarpour 2026, Theorem 5.1; after Vaswani, Yang & Szepesvari 2022).

A binary tree of depth m leads from the start to ``2^m`` gates. Behind gate i lies a loop ``s~_i``, in which action 0 stays with probability
``p_i`` and otherwise falls to ``z_i`` for ever; action 1 falls at once. Action 1 at any gate leads to ``g`` for ever instead. Only ``g``
earns, and it costs too much; the loops cost nothing, and how long they last is all that is unknown. In task 0, ``p_0 = q1`` and ``p_i =
q0`` for i >= 1; in task i >= 1, additionally ``p_i = q2``, with ``q0 < q1 < q2``. Tasks 0 .. C-1 are equally likely.

*Values.* A loop lasts ``T(p) = 1/(1 - gamma p)`` discounted steps. Write ``h`` for what a unit of signal behind the gates is worth at the start
(``h = gamma^(m+1)``, or less by scaling the signals) and measure costs by the slack ``d - V_c``, the paper's constraint value. Then entering
gate i has slack ``h T(p_i) - const`` and return 0, leaving has slack ``-xi`` and return ``R = h/(1-gamma)``, and the constant is such that gate 0 has
slack ``xi`` in every task: always entering gate 0 is safe with margin exactly ``xi``. The best policy enters the gate of largest slack ``sigma``
as rarely as the limit allows:

    V* = R sigma / (xi + sigma),      entering with probability  xi / (xi + sigma).

*The two spacings.* ``T(q1) - T(q0) = T(q2) - T(q1) = D/h`` with ``D = 8 xi eps / (R - 4 eps)`` make gate i worth exactly ``2 eps`` more
than gate 0 in task i. A policy that is feasible in two tasks leaves with probability at most 1/2 and earns at most ``R/2``, which is ``2
eps`` short in at least one of them: none is eps-optimal and feasible in two. With ``q0 = (1 - c1 (1-gamma)) / gamma`` this gives the
paper's ``q1 - q0, q2 - q0 ~ (1 - gamma q0)^2 xi (1-gamma) eps / gamma``. All pairwise distances are ``q2 - q0``, and the covering number is
the number of tasks.

*Costs* (the paper's zero is ``(1-gamma) d`` per step here): 0 in the loops, ``k = h gamma^-(m+1)`` at ``z``, ``(1-gamma) d`` on the way,
``(1-gamma) (d + xi gamma^-(m+1))`` at ``g``.

Letters: C tasks, m depth, S = 4 * 2^m states in the order tree, gates, loops, z, g.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, as_floats, check_integer, check_real, freeze
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import Criterion
from surefoot.errors import InvalidInput

__all__ = ["HardInstance"]

ENTER, LEAVE = 0, 1


@dataclass(frozen=True)
class HardInstance:
    """The family, named by one parameter: the number of the task. Between two numbers, loops interpolate linearly.

    Attributes:
        depth: m.
        margin: ``xi``, in units of cost.
        accuracy: ``eps``, in units of reward.
        discount: gamma.
        tasks: C, at most ``2^m``; by default all of them.
        scale: ``h``, at most ``gamma^(m+1)``, which is the default. Fixing it frees values of the discount and the depth of the tree.
        ratio: ``c1 > 1``; a loop lasts about ``1/(c1 (1-gamma))`` discounted steps.

    Raises:
        InvalidInput: an argument out of range, or numbers that no instance has.
    """

    depth: int = 2
    margin: float = 0.5
    accuracy: float = 0.1
    discount: float = 0.9
    tasks: int | None = None
    scale: float | None = None
    ratio: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", check_integer("depth", self.depth, low=1, high=12))
        object.__setattr__(
            self, "discount", check_real("discount", self.discount, low=0.0, high=1.0, open_low=True, open_high=True)
        )
        tasks = check_integer("tasks", self.n_tasks, low=2, high=2**self.depth)
        object.__setattr__(self, "tasks", None if self.tasks is None else tasks)
        scale = check_real("scale", self.worth, low=0.0, high=self._routing, open_low=True)
        object.__setattr__(self, "scale", None if self.scale is None else scale)
        object.__setattr__(
            self,
            "ratio",
            check_real("ratio", self.ratio, low=1.0, high=1.0 / (1.0 - self.discount), open_low=True, open_high=True),
        )
        object.__setattr__(
            self, "accuracy", check_real("accuracy", self.accuracy, low=0.0, high=self.goal_value / 12.0, open_low=True)
        )
        object.__setattr__(
            self,
            "margin",
            check_real("margin", self.margin, low=0.0, high=0.5 * self.worth * self._durations[0], open_low=True),
        )
        if self._durations[2] * (1.0 - self.discount) >= 1.0:
            raise InvalidInput(
                f"accuracy must leave q2 below 1, got {self.accuracy:g}; lower it or raise the ratio",
                code="SF-ARGUMENT-RANGE",
            )

    @property
    def n_tasks(self) -> int:
        """C."""
        return 2**self.depth if self.tasks is None else self.tasks

    @property
    def _routing(self) -> float:
        """``gamma^(m+1)``: the discount of whatever lies behind the gates."""
        return float(self.discount ** (self.depth + 1))

    @property
    def worth(self) -> float:
        """``h``."""
        return self._routing if self.scale is None else self.scale

    @property
    def goal_value(self) -> float:
        """``R``, the return of leaving at the gate."""
        return self.worth / (1.0 - self.discount)

    @property
    def spacing(self) -> float:
        """``D``: by how much the slacks of gates with ``q0``, ``q1``, ``q2`` differ."""
        return 8.0 * self.margin * self.accuracy / (self.goal_value - 4.0 * self.accuracy)

    @property
    def _durations(self) -> tuple[float, float, float]:
        """``T(q0), T(q1), T(q2)``."""
        shortest, step = 1.0 / (self.ratio * (1.0 - self.discount)), self.spacing / self.worth
        return shortest, shortest + step, shortest + 2.0 * step

    @property
    def loop_probabilities(self) -> tuple[float, float, float]:
        """``q0, q1, q2``."""
        q0, q1, q2 = ((1.0 - 1.0 / duration) / self.discount for duration in self._durations)
        return q0, q1, q2

    @property
    def distance(self) -> float:
        """``q2 - q0``, of any two tasks."""
        q0, _, q2 = self.loop_probabilities
        return q2 - q0

    @property
    def _limit(self) -> float:
        """``d``: the cost of gate 0's ``z`` at the margin; see the module's docstring."""
        k = self.worth / self._routing
        return k / (1.0 - self.discount) - (self.worth * self._durations[1] - self.margin) / self._routing

    @property
    def name(self) -> str:
        """Used in reports."""
        return "hard instance"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """One parameter."""
        return ("task",)

    @property
    def support(self) -> FloatArray:
        """(1, 2)."""
        return freeze(np.array([[0.0, self.n_tasks - 1.0]]))

    @property
    def criterion(self) -> Criterion:
        """Shared by all tasks."""
        return Criterion(
            discount=self.discount,
            cost_limits=np.array([self._limit]),
            reward_bounds=(0.0, 1.0),
            cost_bounds=np.ones(1),
        )

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, 1) numbers of tasks, all equally likely."""
        return rng.integers(self.n_tasks, size=(n, 1)).astype(np.float64)

    def cmdp(self, parameters: Any) -> TabularCMDP:
        """The task with this number.

        Raises:
            InvalidInput: there is none.
        """
        number = float(as_floats("parameters", np.atleast_1d(parameters), (1,))[0])
        number = check_real("task", number, low=0.0, high=self.n_tasks - 1.0)
        gates = 2**self.depth
        gate, loop, fallen = (np.arange(gates) + (k + 1) * gates - 1 for k in range(3))
        goal = 4 * gates - 1
        kernel = np.zeros((goal + 1, 2, goal + 1))
        for node in range(gates - 1):
            kernel[node, [0, 1], [2 * node + 1, 2 * node + 2]] = 1.0
        stays = self._stays(number)
        kernel[gate, ENTER, loop], kernel[gate, LEAVE, goal] = 1.0, 1.0
        kernel[loop, 0, loop], kernel[loop, 0, fallen], kernel[loop, 1, fallen] = stays, 1.0 - stays, 1.0
        kernel[fallen, :, fallen], kernel[goal, :, goal] = 1.0, 1.0
        rewards, costs = np.zeros((goal + 1, 2)), np.full((1, goal + 1, 2), (1.0 - self.discount) * self._limit)
        rewards[goal] = self.worth / self._routing
        costs[0, loop], costs[0, fallen] = 0.0, self.worth / self._routing
        costs[0, goal] += (1.0 - self.discount) * self.margin / self._routing
        return TabularCMDP(kernel, rewards, costs, np.array([self._limit]), np.eye(goal + 1)[0], self.discount)

    def _stays(self, number: float) -> FloatArray:
        """(2^m,) probabilities of staying in the loops."""
        q0, q1, q2 = self.loop_probabilities
        bumps = np.maximum(0.0, 1.0 - np.abs(np.arange(2**self.depth) - number))
        stays = q0 + (q2 - q0) * bumps
        stays[0] = q1
        return stays

    def slacks(self, number: float) -> FloatArray:
        """(2^m,) closed form: the slack of always entering each gate."""
        q1 = self.loop_probabilities[1]
        lasts = 1.0 / (1.0 - self.discount * self._stays(number))
        return self.margin + self.worth * (lasts - 1.0 / (1.0 - self.discount * q1))

    def optimal_value(self, number: float) -> float:
        """Closed form: ``R sigma / (xi + sigma)`` for the gate of largest slack."""
        slack = float(self.slacks(number).max())
        return self.goal_value * slack / (self.margin + slack)

    def safe_policy(self) -> FloatArray:
        """(S, A) enter gate 0, always."""
        table = np.zeros((4 * 2**self.depth, 2))
        table[:, ENTER] = 1.0
        return freeze(table)
