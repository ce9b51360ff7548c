"""One episode on a plant that is a Gymnasium environment: from a ticket to a report.

    report = run_episode(plant, ticket, family)
    report.tell(deployment)

The report holds what :mod:`surefoot.gym.rollout` would have measured, had the plant been one of the simulator's tasks:

    R = sum_{t<H} gamma^t r_t,      C_k = sum_{t<H} gamma^t c_kt,      X_x = mean, sum, last or largest of x_t over the steps

A plant that terminates earlier has reached a state without reward and cost. Where the criterion has no horizon, the episode is cut after ``steps``
steps, and what the rest could have cost is added: ``gamma^steps c_max / (1 - gamma)`` to every cost, and the least it could earn to the return.

Nothing doubtful is reported. A number that is missing or not finite, a plant that raises or stops before its time: an error, and no report. The
episode then stays pending, which counts as the worst that its costs could have been; it may be declared lost.

Letters: K costs, X signals, m distinct transitions.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_integer, freeze
from surefoot.criterion import Criterion
from surefoot.errors import InvalidInput, SimulationError
from surefoot.gym.family import GymFamily, Signal
from surefoot.policy import parameters_of

__all__ = ["EpisodeReport", "run_episode"]


@dataclass(frozen=True, eq=False)
class EpisodeReport:
    """What an episode came to.

    Attributes:
        id: of the ticket.
        reward: discounted return.
        costs: (K,) discounted costs, which ``tell`` takes.
        signals: (X,) the family's signals; ``None`` where none are declared.
        initial_state: the first state; ``None`` unless states and actions are finite and counted from 0.
        transitions: (m, 4) rows ``(s, a, s', count)``; ``None`` as above.
        steps: how many there were.
    """

    id: int
    reward: float
    costs: FloatArray
    signals: FloatArray | None
    initial_state: int | None
    transitions: IntArray | None
    steps: int

    def tell(self, plant: Any) -> Any:
        """Report it to the deployment or agent that asked for it; returns what its ``tell`` returns.

        Raises:
            InvalidReport: refused there, out of the declared range say; the episode stays pending.
        """
        found = {"initial_state": self.initial_state, "transitions": self.transitions, "signals": self.signals}
        return plant.tell(self.id, self.reward, self.costs, **{k: v for k, v in found.items() if v is not None})


def run_episode(
    env: Any, ticket: Any, criterion: Criterion | GymFamily, *, seed: int | None = None, steps: int | None = None
) -> EpisodeReport:
    """Run a ticket's policy for one whole episode.

    Args:
        env: the plant behind Gymnasium's ``reset`` and ``step``; steps of six with the cost after the reward will do.
        ticket: what ``ask()`` returned, of a deployment or an agent; its policy is an instance of its own.
        criterion: discount, horizon, number of costs. Of a family, ``cost=`` and signals are used as well.
        seed: of the whole deployment, for plants that are simulated; with the ticket's id it decides the episode. By default the plant's own chance.
        steps: where the episode is cut if the criterion has no horizon.

    Raises:
        SimulationError: the plant raised, stopped before its time, or gave no finite reward and costs; do not report such an episode.
        InvalidInput: neither horizon nor ``steps``, or both.
    """
    family = criterion if isinstance(criterion, GymFamily) else None
    rule = criterion.criterion if isinstance(criterion, GymFamily) else criterion
    return _Play(env, ticket, family, rule, _horizon(rule, steps)).run(seed)


def _horizon(rule: Criterion, steps: int | None) -> int:
    if rule.horizon is not None and steps is None:
        return rule.horizon
    if steps is None or rule.horizon is not None:
        raise InvalidInput(
            f"steps must be given where the criterion has no horizon, and only there, got steps {steps} and horizon {rule.horizon}; say where an "
            "episode is cut",
            code="SF-ARGUMENT-COMBINATION",
        )
    return check_integer("steps", steps, low=1)


class _Play:
    """An episode on its way."""

    def __init__(self, env: Any, ticket: Any, family: GymFamily | None, rule: Criterion, horizon: int) -> None:
        self.env, self.ticket, self.family, self.rule, self.horizon = env, ticket, family, rule, horizon
        self.signals: tuple[Signal, ...] = () if family is None else family.signals
        self.values: list[list[float]] = [[] for _ in self.signals]
        self.doing, self.step = "reset", 0
        spaces = (getattr(env, "observation_space", None), getattr(env, "action_space", None))
        self.tabular = all(type(s).__name__ == "Discrete" and int(s.start) == 0 for s in spaces)  # type: ignore[union-attr]

    def run(self, seed: int | None) -> EpisodeReport:
        try:
            return self._run(seed)
        except (SimulationError, InvalidInput):
            raise
        except Exception as error:
            raise SimulationError(
                f"{self.doing} must not raise, got {type(error).__name__}: {error} ({self._where()}); do not report this episode",
                code="SF-SIMULATION-RAISED",
            ) from error

    def _run(self, seed: int | None) -> EpisodeReport:
        start, draws = (None, None) if seed is None else _chance(seed, self.ticket.id)
        self.doing = "policy"
        policy = self.ticket.policy
        more = {"rng": np.random.default_rng(draws)} if "rng" in parameters_of(policy.predict) else {}
        self.doing = "reset"
        seen, _ = self.env.reset(seed=start)
        first, counts = seen, Counter[tuple[int, int, int]]()
        reward, costs = 0.0, np.zeros(self.rule.n_costs)
        over = False
        while self.step < self.horizon and not over:
            self.doing = "policy"
            before = copy.copy(seen)
            action = policy.predict(copy.copy(seen), **more)[0]
            self.doing = "step"
            result = self.env.step(action)
            if not isinstance(result, tuple) or len(result) not in (5, 6):
                self._refuse(
                    "SF-SIMULATION-API",
                    "step",
                    "return five entries, or six with the cost after the reward",
                    repr(result)[:60],
                )
            seen, earned, over, cut, info = result[0], result[1], bool(result[-3]), bool(result[-2]), result[-1]
            weight = self.rule.discount**self.step
            reward += weight * self._number("reward", earned, ())[()]
            costs += weight * self._costs(before, action, seen, result[2] if len(result) == 6 else None, info)
            self._note(before, action, seen, earned, info)
            if self.tabular:
                counts[int(before), int(action), int(seen)] += 1
            self.step += 1
            if cut and not over and self.step < self.horizon:
                self._refuse(
                    "SF-SIMULATION-END",
                    "truncated",
                    f"not come before step {self.horizon}",
                    f"it after {self.step} steps",
                )
        if not over and self.rule.horizon is None:
            tail = self.rule.discount**self.step / (1.0 - self.rule.discount)
            reward, costs = reward + tail * self.rule.reward_bounds[0], costs + tail * np.asarray(self.rule.cost_bounds)
        return EpisodeReport(
            id=int(self.ticket.id),
            reward=float(reward),
            costs=freeze(costs),
            signals=freeze(np.array([_reduced(s, v) for s, v in zip(self.signals, self.values)]))
            if self.signals
            else None,
            initial_state=int(first) if self.tabular else None,
            transitions=_rows(counts) if self.tabular else None,
            steps=self.step,
        )

    def _costs(self, before: Any, action: Any, after: Any, cost: Any, info: Any) -> FloatArray:
        if self.family is not None and self.family.cost is not None:
            self.doing = "cost"
            cost = self.family.cost(before, action, after, info)
        elif cost is None and isinstance(info, dict):
            cost = info.get("cost")
        if cost is None and self.rule.n_costs == 0:
            return np.zeros(0)
        if cost is None:
            self._refuse(
                "SF-SIMULATION-COST", "cost", 'be in info["cost"], or the third entry of a step of six', "nothing"
            )
        return np.asarray(self._number("cost", cost, (self.rule.n_costs,)))

    def _number(self, name: str, value: Any, shape: tuple[int, ...]) -> Any:
        """Finite numbers of a shape; a lone one passes for one of length 1."""
        try:
            array = np.asarray(value, dtype=np.float64)
            if array.size == math.prod(shape):
                array = array.reshape(shape)
        except (TypeError, ValueError):
            array = np.full((), np.nan)
        if array.shape != shape or not np.isfinite(array).all():
            code = "SF-SIMULATION-FINITE" if array.shape == shape else "SF-SIMULATION-SHAPE"
            self._refuse(code, name, f"hold {math.prod(shape)} finite numbers", repr(value)[:60])
        return array

    def _note(self, before: Any, action: Any, after: Any, reward: Any, info: Any) -> None:
        # Signals of tasks that share episodes were simulated without a reward.
        given: Any = None if self.family is not None and self.family.shared else reward
        for signal, values in zip(self.signals, self.values):
            self.doing = f"signal {signal.name!r}"
            value = float(signal.of(before, action, after, given, info))
            if not math.isfinite(value):
                self._refuse("SF-SIMULATION-FINITE", self.doing, "be finite", f"{value:g}")
            values.append(value)

    def _where(self) -> str:
        return f"episode {self.ticket.id}, step {self.step}"

    def _refuse(self, code: str, name: str, rule: str, got: str) -> Any:
        raise SimulationError(
            f"{name} must {rule}, got {got} ({self._where()}); do not report this episode: while it is pending it counts as the worst",
            code=code,
        )


def _chance(seed: int, number: int) -> tuple[int, np.random.SeedSequence]:
    """Seed of ``reset`` and of a policy that draws, for one ticket."""
    check_integer("seed", seed, low=0)
    start, draws = np.random.SeedSequence(seed, spawn_key=(int(number),)).spawn(2)
    return int(start.generate_state(1)[0]), draws


def _reduced(signal: Signal, values: list[float]) -> float:
    if signal.reduce == "last":
        return values[-1]
    if signal.reduce == "max":
        return max(values)
    return math.fsum(values) / (len(values) if signal.reduce == "mean" else 1)


def _rows(counts: Counter[tuple[int, int, int]]) -> IntArray:
    """(m, 4) in order."""
    return np.array([(*key, n) for key, n in sorted(counts.items())], dtype=np.int64).reshape(-1, 4)
