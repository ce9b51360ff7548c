"""Episodes of policies in simulated tasks, as one row of numbers each.

    R = sum_{t<H} gamma^t r_t,      C_k = sum_{t<H} gamma^t c_kt,      X_x = mean, sum, last or largest of x_t over the steps

Where the criterion limits more than means, what stands for the costs is what is limited, ``f_i(C)`` (:meth:`surefoot.criterion.Criterion.measure`).

Inside a process m environments of one task are stepped in lockstep, so that a policy with ``act_batch`` answers all of them with one
matrix product; processes share whole blocks of episodes. Episode e of policy j in task k draws its chance from the seed sequence with
spawn key (k, j, e) and from nothing else: neither the number of processes nor m nor how episodes are split changes a bit of the result.

Every step is checked. A cost that is missing, not finite, negative or above its bound, a reward outside its range, an observation or
action of another shape ... is an error that names family, parameters, policy, episode, step and value, because a wrong number here would
become a wrong certificate. Where the caller allows it (``tolerant``), an episode in which the simulator itself gives up (``step`` or
``reset`` raises, or something is not finite) is marked as failed instead, and the others go on; what it counts as is up to the caller.

A policy acts through ``act_batch(observations)`` where it has one (and no ``reset``), else ``predict(observation)``, else it is called. ``predict``
gets the episode's own ``rng`` if it takes one and otherwise nothing but the observation (and state), as in deployment: what is measured is what is
deployed. Whether a policy is deterministic is up to its own default. Every episode acts through an instance of its own
(:func:`surefoot.policy.for_episode`), as every episode of a deployment does.

Letters: T tasks, p parameters, J policies, I constraints, X signals, n episodes, m environments in lockstep.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_integer, first_where
from surefoot.deprecation import renamed_arguments
from surefoot.errors import InvalidInput, SimulationError, SurefootError
from surefoot.gym.family import ROOM, GymFamily
from surefoot.parallel import map_tasks, processes
from surefoot.policy import instances, parameters_of
from surefoot.progress import track

__all__ = ["RolloutWorker", "Rollouts", "chance", "join", "rollout"]

NUM_ENVS = 16
"""Environments in lockstep; more share a matrix product among more, and cost memory."""
ACTION_ROOM = 1e-6
"""Relative rounding allowed at the ends of an action space, whose bounds are single precision."""
BLOCKS = 4
"""Parts per process into which the episodes of all policies are split, so that slow ones do not hold up the rest."""

SHORT = 64
"""Longest vector that is looked at number by number where one environment runs alone."""

Seed = int | tuple[int, ...]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


class _GaveUp(Exception):
    """The simulator did not finish an episode."""


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Episodes of one policy.

    Attributes:
        returns: (n,) discounted returns; (n, T) where one batch serves T tasks.
        costs: (n, I) discounted costs, or the functionals of them that the criterion limits.
        signals: (n, X).
        lengths: (n,) numbers of steps.
        first_observations: (n, ...).
        failed: (n,) episodes that the simulator did not finish; they stand with the smallest return and the largest costs.
        failure: what the first of them said, ``None`` where there is none.
    """

    returns: FloatArray
    costs: FloatArray
    signals: FloatArray
    lengths: IntArray
    first_observations: Any
    failed: BoolArray
    failure: str | None = None

    def __len__(self) -> int:
        return int(self.lengths.size)

    def outcomes(self, task: int = 0) -> FloatArray:
        """(n, 1+I+X) return in one task, costs and signals side by side."""
        returns = self.returns if self.returns.ndim == 1 else self.returns[:, task]
        return np.column_stack([returns, self.costs, self.signals])


def join(parts: Sequence[Rollouts]) -> Rollouts:
    """The episodes of all parts, in order."""
    names = ("returns", "costs", "signals", "lengths", "first_observations", "failed")
    whole: Any = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Rollouts(**whole, failure=next((part.failure for part in parts if part.failure is not None), None))


@renamed_arguments(width="num_envs")
def rollout(
    family: GymFamily,
    parameters: Any,
    policies: Sequence[Any],
    *,
    episodes: int,
    seed: Seed,
    workers: int = 1,
    first_episode: int = 0,
    task: int = 0,
    rewards_at: Any = None,
    indices: Sequence[int] | None = None,
    num_envs: int = NUM_ENVS,
    progress: bool = False,
) -> tuple[Rollouts, ...]:
    """Run every policy in one task.

    Args:
        family: where the task comes from.
        parameters: (p,) the task.
        policies: J of them.
        episodes: n for each policy.
        seed: of all random draws; with ``task``, the policy's position and the episode's number it decides an episode.
        workers: processes.
        first_episode: number of the first episode; 0..99 and then 100..199 are the same episodes as 0..199.
        task: number of the task, so that tasks do not share their chance.
        rewards_at: (T, p) tasks whose returns are wanted from the same episodes, for families that differ in the reward only.
        indices: (J,) positions of the policies in their library, by default 0, 1, ..
        num_envs: m.
        progress: draw a progress bar where that makes sense.

    Returns:
        J rollouts.

    Raises:
        SimulationError: the environment or a policy breaks a rule.
    """
    episodes = check_integer("episodes", episodes, low=1)
    workers = check_integer("workers", workers, low=1)
    num_envs = check_integer("num_envs", num_envs, low=1)
    first_episode = check_integer("first_episode", first_episode, low=0)
    many = processes(workers)
    parts = 1 if many == 1 else max(1, -(-many * BLOCKS // len(policies)))
    numbers = list(range(len(policies))) if indices is None else [int(j) for j in indices]
    if len(numbers) != len(policies):
        raise InvalidInput(
            f"indices must hold {len(policies)} positions, got {len(numbers)}; give one per policy",
            code="SF-ARGUMENT-LENGTH",
        )
    edges = np.linspace(0, episodes, min(parts, episodes) + 1).astype(int)
    units = [(j, int(a), int(b - a)) for j in range(len(policies)) for a, b in itertools.pairwise(edges)]
    if many == 1:
        with RolloutWorker(family, parameters, task=task, rewards_at=rewards_at, num_envs=num_envs) as worker:
            done = [
                worker.run(policies[j], numbers[j], seed=seed, first=first_episode + a, count=n)
                for j, a, n in track(units, "simulating", len(units), show=progress)
            ]
    else:
        calls = [
            (family, parameters, task, rewards_at, num_envs, policies[j], numbers[j], seed, first_episode + a, n)
            for j, a, n in units
        ]
        done = map_tasks(_unit, calls, workers=workers, label="simulating", progress=progress)
    size = len(edges) - 1
    return tuple(join(done[j * size : (j + 1) * size]) for j in range(len(policies)))


def _unit(
    family: GymFamily,
    parameters: Any,
    task: int,
    rewards_at: Any,
    num_envs: int,
    policy: Any,
    index: int,
    seed: Seed,
    first: int,
    n: int,
) -> Rollouts:
    with RolloutWorker(family, parameters, task=task, rewards_at=rewards_at, num_envs=num_envs) as worker:
        return worker.run(policy, index, seed=seed, first=first, count=n)


class RolloutWorker:
    """One task in one process: its environments, made when first needed, and what every step is checked against.

    Args:
        family, parameters, task, rewards_at, num_envs: as in :func:`rollout`.
    """

    def __init__(
        self, family: GymFamily, parameters: Any, *, task: int = 0, rewards_at: Any = None, num_envs: int = NUM_ENVS
    ) -> None:
        self.family, self.task, self.num_envs = family, task, num_envs
        self.parameters = np.asarray(parameters, dtype=np.float64)
        if self.parameters.shape != (family.n_parameters,):
            raise InvalidInput(
                f"parameters must have shape ({family.n_parameters},), got {self.parameters.shape}; name one task",
                code="SF-ARGUMENT-SHAPE",
            )
        if rewards_at is not None and not family.shared:
            raise InvalidInput(
                f"rewards_at must be None for {family.name}, whose tasks differ in more than the reward, got {np.shape(rewards_at)}; run each task",
                code="SF-ARGUMENT-COMBINATION",
            )
        points = None if not family.shared else self.parameters[None] if rewards_at is None else rewards_at
        self.rewards_at = None if points is None else np.asarray(points, dtype=np.float64)
        self.single = rewards_at is None
        self.envs: list[Any] = []

    def __enter__(self) -> RolloutWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()
        self.envs = []

    def environments(self, count: int) -> list[Any]:
        """At least ``count`` environments."""
        while len(self.envs) < count:
            self.envs.append(self._make())
        return self.envs[:count]

    def _make(self) -> Any:
        where = f"{self.family.name} at {self.parameters.tolist()}"
        try:
            env = self.family.make(self.parameters.copy())
        except SurefootError:
            raise
        except Exception as error:
            raise SimulationError(
                f"make of {where} must return an environment, got {type(error).__name__}: {error}; call it alone with these parameters",
                code="SF-SIMULATION-RAISED",
            ) from error
        for name in ("reset", "step", "close", "action_space", "observation_space"):
            if not hasattr(env, name):
                raise SimulationError(
                    f"make of {where} must return a Gymnasium environment, got {type(env).__name__} without {name}; subclass gymnasium.Env",
                    code="SF-SIMULATION-API",
                )
        if not hasattr(env.observation_space, "shape") or env.observation_space.shape is None:
            raise SimulationError(
                f"observation_space of {where} must be an array space, got {type(env.observation_space).__name__}; "
                "wrap it in gymnasium.wrappers.FlattenObservation",
                code="SF-SIMULATION-API",
            )
        return env

    def run(self, policy: Any, index: int, *, seed: Seed, first: int, count: int, tolerant: bool = False) -> Rollouts:
        """``count`` episodes of one policy, numbered from ``first``; ``index`` is its position in the library.

        Args:
            policy, index, seed, first, count: which episodes.
            tolerant: mark episodes that the simulator does not finish as failed, instead of raising.

        Raises:
            SimulationError: the environment or the policy breaks a rule.
        """
        return _Run(self, policy, index, seed, first, count, tolerant).finish()

    def replace(self, slot: int) -> Any:
        """A fresh environment in the place of one that gave up."""
        try:
            self.envs[slot].close()
        except Exception:
            pass
        self.envs[slot] = self._make()
        return self.envs[slot]


def chance(entropy: Sequence[int], key: tuple[int, int, int]) -> tuple[int, np.random.SeedSequence]:
    """What decides an episode, ``key`` being its task, policy and number: the seed of ``reset``, and that of a policy which draws."""
    # 32 bits, which every library takes as a seed.
    seed = int(np.random.SeedSequence(entropy, spawn_key=key).generate_state(1)[0])
    return seed, np.random.SeedSequence(entropy, spawn_key=(*key, 1))


class _Run:
    """Episodes on their way; slot k runs one of them in environment k."""

    def __init__(
        self, worker: RolloutWorker, policy: Any, index: int, seed: Seed, first: int, count: int, tolerant: bool
    ) -> None:
        self.tolerant = tolerant
        self.failure: str | None = None
        self.failed: BoolArray = np.zeros(count, dtype=np.bool_)
        self.worker, self.family, self.index, self.first, self.count = worker, worker.family, index, first, count
        self.entropy = [int(s) for s in (seed if isinstance(seed, tuple) else (seed,))]
        self.low, self.high = self.family.criterion.reward_bounds
        self.ends = self.family.ranges()
        m, family = min(worker.num_envs, count), self.family
        self.envs = worker.environments(m)
        self.space = self.envs[0].observation_space
        self.horizon, self.constrained = self.family.horizon, self.family.n_constraints > 0
        self.shape = self.space.shape
        self.doing, self.slot = "policy", 0
        self.points = np.zeros((1, 0)) if worker.rewards_at is None else worker.rewards_at
        n_tasks = len(self.points)
        self.weights = family.criterion.discount ** np.arange(family.horizon + 1)
        self.cost_ends = family.criterion.cost_bounds * (1.0 + ROOM) + ROOM
        self.episode, self.steps = np.zeros((2, m), dtype=np.int64)
        self.returns, self.costs = np.zeros((m, n_tasks)), np.zeros((m, family.criterion.n_costs))
        self.signals = np.zeros((m, len(family.signals)))
        self.observations: list[Any] = [None] * m
        self.kept: list[Any] = [None] * m
        self.seen = np.zeros((m, *self.space.shape), dtype=self.space.dtype)
        self.flat = self.seen.reshape(-1)
        self.plain_weights, self.plain_ends = self.weights.tolist(), self.cost_ends.tolist()
        self.lowest, self.highest = self.low - ROOM * (1.0 + abs(self.low)), self.high + ROOM * (1.0 + abs(self.high))
        self.out = (
            np.zeros((count, n_tasks)),
            np.zeros((count, family.n_constraints)),
            np.zeros((count, len(family.signals))),
            np.zeros(count, dtype=np.int64),
            np.zeros((count, *self.space.shape), dtype=self.space.dtype),
        )
        self.actor = _Actor(self, policy, m)
        self.started = 0
        self.live: list[int] = []

    def finish(self) -> Rollouts:
        """Run to the end of the last episode."""
        try:
            self._play()
            self._inside()
        except SurefootError:
            raise
        except Exception as error:
            raise SimulationError(
                f"{self.doing} must not raise, got {type(error).__name__}: {error} ({self._where(self.slot)}); run it alone to see why",
                code="SF-SIMULATION-RAISED",
            ) from error
        returns, *rest = self.out
        returns, (costs, signals, lengths, first) = returns[:, 0] if self.worker.single else returns, rest
        return Rollouts(returns, costs, signals, lengths, first, self.failed, self.failure)

    def _play(self) -> None:
        for slot in range(len(self.envs)):
            self._start(slot)
        while self.live:
            live = self.live
            self.doing, self.slot = "policy", live[0]
            actions = self.actor.act(live)
            ended = self._step(live, actions)
            for slot in ended:
                self._end(slot)

    def _start(self, slot: int) -> None:
        """Put the next episode into a slot, or retire the slot."""
        while True:
            if self.started == self.count:
                self.live = [k for k in self.live if k != slot]
                return
            self.episode[slot], self.steps[slot] = self.started, 0
            self.started += 1
            self.doing, self.slot = "reset", slot
            key = (self.worker.task, self.index, self.first + int(self.episode[slot]))
            try:
                result = self._reset(slot, chance(self.entropy, key)[0])
            except _GaveUp as failure:
                self._mark(slot, failure)
                continue
            break
        if not isinstance(result, tuple) or len(result) != 2:
            self._refuse(
                "SF-SIMULATION-API",
                "reset",
                "return (observation, info)",
                type(result).__name__,
                slot,
                "follow Gymnasium's API",
            )
        self.returns[slot], self.costs[slot] = 0.0, 0.0
        self.signals[slot] = [-np.inf if s.reduce == "max" else 0.0 for s in self.family.signals]
        self._see(slot, result[0])
        self._check_seen([slot])
        self.out[4][self.episode[slot]] = self.seen[slot]
        self.actor.start(slot, self.entropy, key)
        if slot not in self.live:
            self.live = sorted([*self.live, slot])

    def _reset(self, slot: int, seed: int) -> Any:
        if not self.tolerant:
            return self.envs[slot].reset(seed=seed)
        try:
            result = self.envs[slot].reset(seed=seed)
        except Exception as error:
            raise _GaveUp(f"reset raised {type(error).__name__}: {error}") from error
        if isinstance(result, tuple) and len(result) == 2 and not _finite(result[0]):
            raise _GaveUp("the observation of reset was not finite")
        return result

    def _advance(self, slot: int, action: Any) -> Any:
        """A step of one environment."""
        if not self.tolerant:
            return self.envs[slot].step(action)
        try:
            result = self.envs[slot].step(action)
        except Exception as error:
            raise _GaveUp(f"step raised {type(error).__name__}: {error}") from error
        if isinstance(result, tuple) and len(result) in (5, 6):
            self._finite_or_gone("observation", result[0])
            self._finite_or_gone("reward", result[1])
        return result

    def _mark(self, slot: int, failure: _GaveUp) -> None:
        """The episode of a slot has failed; its environment is replaced."""
        row = int(self.episode[slot])
        self.failed[row], self.failure = True, self.failure or f"{failure} ({self._where(slot)})"
        self.out[3][row] = max(1, self.steps[slot])
        self.doing = "make"
        self.envs[slot] = self.worker.replace(slot)
        self.observations[slot] = None

    def _see(self, slot: int, observation: Any) -> None:
        if observation is self.observations[slot] and isinstance(observation, np.ndarray) and observation.ndim:
            self._refuse(
                "SF-SIMULATION-API",
                "observation",
                "be a fresh array every step",
                "the same object",
                slot,
                "return a copy",
            )
        if isinstance(observation, np.ndarray):
            shape = observation.shape
        else:
            shape = () if isinstance(observation, int | float) else np.shape(observation)
        if shape != self.shape:
            self._refuse(
                "SF-SIMULATION-SHAPE",
                "observation",
                f"have shape {self.space.shape}",
                str(shape),
                slot,
                "fix the environment, or its observation_space",
            )
        self.observations[slot] = observation
        # Of arrays a copy: the environment may write the next observation into the same memory.
        self.kept[slot] = observation.copy() if isinstance(observation, np.ndarray) else observation
        try:
            self.seen[slot] = observation
        except (TypeError, ValueError, OverflowError):
            self._refuse(
                "SF-SIMULATION-TYPE", "observation", "hold numbers", repr(observation)[:60], slot, "fix the environment"
            )

    def _check_seen(self, slots: list[int]) -> None:
        # A sum of squares is finite only where all of them are; it costs a fraction of looking at each.
        if len(slots) == len(self.seen) and math.isfinite(self.flat.dot(self.flat)):
            return
        fine = np.isfinite(self.seen) if len(slots) == len(self.seen) else np.isfinite(self.seen[slots])
        if not fine.all():
            slot = slots[int(np.argmin(fine.reshape(len(slots), -1).all(axis=1)))]
            self._refuse(
                "SF-SIMULATION-FINITE",
                "observation",
                "be finite",
                np.array2string(self.seen[slot], threshold=8),
                slot,
                "look for a division by zero, or an unstable simulation",
            )

    def _step(self, live: list[int], actions: Any) -> list[int]:
        """One step of every live slot; returns the slots whose episodes are over."""
        family, rewards, costs, terms, ended = self.family, [], [], [], []
        gone: dict[int, _GaveUp] = {}
        for slot, action in zip(live, actions):
            try:
                reward, cost, term, terminated, truncated = self._one_step(slot, action)
            except _GaveUp as failure:
                gone[slot] = failure
                continue
            rewards.append(reward)
            if self.constrained:
                costs.append(cost)
            if family.rewards is not None:
                terms.append(term)
            self.steps[slot] += 1
            last = self.steps[slot] == self.horizon
            if terminated or last:
                ended.append(slot)
                if not last and not self.low <= 0.0 <= self.high:
                    self._refuse(
                        "SF-SIMULATION-END",
                        "reward_bounds",
                        "contain 0, the reward after an early end",
                        str((self.low, self.high)),
                        slot,
                        "widen criterion.reward_bounds",
                    )
            elif truncated:
                self._refuse(
                    "SF-SIMULATION-END",
                    "truncated",
                    f"not come before step {family.horizon}, criterion.horizon",
                    f"it after {self.steps[slot]} steps",
                    slot,
                    "raise the environment's own time limit, or lower the horizon",
                )
        if gone:
            live = [slot for slot in live if slot not in gone]
        if live:
            self._check_seen(live)
            alone = len(live) == 1 and self._add_plain(
                live[0], rewards[0], costs[0] if costs else None, terms[0] if terms else None
            )
            if not alone:
                self._add(live, rewards, costs, terms)
        for slot, why in gone.items():
            self._mark(slot, why)
            self._start(slot)
        return ended

    def _one_step(self, slot: int, action: Any) -> tuple[Any, Any, Any, bool, bool]:
        """Reward, cost, rewards of all tasks, terminated, truncated; what is not there is ``None``."""
        family, cost, term = self.family, None, None
        self.doing, self.slot = "step", slot
        before = self.kept[slot]
        result = self._advance(slot, action)
        after, reward, stated, terminated, truncated, info = self._unpack(result, slot)
        self._see(slot, after)
        if self.constrained:
            cost = self._cost(before, action, after, stated, info, slot)
            self._finite_or_gone("cost", cost)
        if family.rewards is not None:
            self.doing = "rewards"
            term = family.rewards(self.points, before, action, after, reward, info)
            self._finite_or_gone("rewards", term)
        if family.signals:
            # One episode serves many tasks, and the environment's reward is that of one of them: using it is an error, not a number.
            self._signal(slot, before, action, after, None if family.rewards is not None else reward, info)
        return reward, cost, term, terminated, truncated

    def _finite_or_gone(self, name: str, value: Any) -> None:
        if self.tolerant and not _finite(value):
            raise _GaveUp(f"the {name} of a step was not finite")

    def _unpack(self, result: Any, slot: int) -> tuple[Any, Any, Any, bool, bool, dict[str, Any]]:
        """A step of five entries, or of six with the cost after the reward."""
        size = len(result) if isinstance(result, tuple) else 0
        if size == 5:
            cost = None
            after, reward, terminated, truncated, info = result
        elif size == 6:
            after, reward, cost, terminated, truncated, info = result
        else:
            self._refuse(
                "SF-SIMULATION-API",
                "step",
                "return (observation, reward, terminated, truncated, info), or six with the cost after the reward",
                f"{size} entries" if isinstance(result, tuple) else type(result).__name__,
                slot,
                "follow Gymnasium's API",
            )
        # Plain flags are the rule, and this runs for every step.
        if terminated is not False and terminated is not True and not isinstance(terminated, np.bool_):
            self._refuse(
                "SF-SIMULATION-TYPE",
                "terminated",
                "be True or False",
                repr(terminated)[:60],
                slot,
                "convert it with bool()",
            )
        if truncated is not False and truncated is not True and not isinstance(truncated, np.bool_):
            self._refuse(
                "SF-SIMULATION-TYPE",
                "truncated",
                "be True or False",
                repr(truncated)[:60],
                slot,
                "convert it with bool()",
            )
        if not isinstance(info, dict):
            self._refuse(
                "SF-SIMULATION-TYPE",
                "info",
                "be a dict",
                type(info).__name__,
                slot,
                "return {} where there is nothing to say",
            )
        return after, reward, cost, bool(terminated), bool(truncated), info

    def _cost(self, before: Any, action: Any, after: Any, cost: Any, info: dict[str, Any], slot: int) -> Any:
        if self.family.cost is not None:
            self.doing = "cost"
            return self.family.cost(before, action, after, info)
        if cost is None:
            cost = info.get("cost")
        if cost is None:
            keys = ", ".join(sorted(map(str, info))[:6]) or "nothing"
            self._refuse(
                "SF-SIMULATION-COST",
                "cost",
                'be in info["cost"]',
                f"an info with {keys}",
                slot,
                "put it there, return steps of six, or give the family cost=",
            )
        return cost

    def _signal(self, slot: int, before: Any, action: Any, after: Any, reward: Any, info: dict[str, Any]) -> None:
        for x, signal in enumerate(self.family.signals):
            self.doing = f"signal {signal.name!r}"
            if reward is None:
                self.doing += " of tasks that share episodes (it gets no reward, for each task has its own)"
            value = float(signal.of(before, action, after, reward, info))
            self._finite_or_gone(self.doing, value)
            if not math.isfinite(value):
                self._refuse(
                    "SF-SIMULATION-FINITE", self.doing, "be finite", f"{value:g}", slot, "fix what computes it"
                )
            if signal.reduce in ("mean", "sum"):
                self.signals[slot, x] += value
            elif signal.reduce == "last" or value > self.signals[slot, x]:
                self.signals[slot, x] = value

    def _add_plain(self, slot: int, reward: Any, cost: Any, term: Any) -> bool:
        """:meth:`_add` for one episode, without arrays: the same sums to the last bit, or ``False``.

        It answers ``False``, and has changed nothing, wherever a number is not a plain one within its bounds; the general way then
        adds it or says what is wrong.
        """
        if not isinstance(reward, float | np.floating) or not math.isfinite(reward):
            return False
        earned = _numbers(reward if self.family.rewards is None else term)
        spent = _numbers(cost) if self.constrained else []
        if len(earned) != self.returns.shape[1] or len(spent) != len(self.plain_ends) * self.constrained:
            return False
        for value in earned:
            if not self.lowest <= value <= self.highest:
                return False
        for value, end in zip(spent, self.plain_ends):
            if not 0.0 <= value <= end:
                return False
        weight = self.plain_weights[self.steps[slot] - 1]
        for k, value in enumerate(earned):
            self.returns[slot, k] += weight * value
        for k, value in enumerate(spent):
            self.costs[slot, k] += weight * value
        return True

    def _add(self, live: list[int], rewards: list[Any], costs: list[Any], terms: list[Any]) -> None:
        """Check the numbers of one step and add them to the episodes' sums."""
        size, whole = len(live), len(live) == len(self.envs)
        where: Any = slice(None) if whole else live
        weight = self.weights[self.steps[where] - 1][:, None]
        plain = self._table("reward", rewards, live, ())
        if terms:
            table = self._table("rewards", terms, live, (self.returns.shape[1],))
            if not np.isfinite(plain).all():
                slot = live[int(np.argmin(np.isfinite(plain)))]
                self._refuse(
                    "SF-SIMULATION-FINITE",
                    "reward",
                    "be finite",
                    str(plain[live.index(slot)]),
                    slot,
                    "fix the environment",
                )
        else:
            table = plain.reshape(size, 1)
        fine = (table >= self.lowest) & (table <= self.highest)
        if not fine.all():
            k, t = (int(i) for i in np.argwhere(~fine)[0])
            name = f"rewards[{t}]" if terms else "reward"
            self._refuse(
                "SF-SIMULATION-RANGE",
                name,
                f"lie in criterion.reward_bounds [{self.low:g}, {self.high:g}]",
                f"{table[k, t]:g}",
                live[k],
                "fix the environment, or widen the bounds",
            )
        self.returns[where] += weight * table
        if costs:
            sums = self._table("cost", costs, live, (self.family.criterion.n_costs,))
            fine = (sums >= 0.0) & (sums <= self.cost_ends)
            if not fine.all():
                k, i = (int(i) for i in np.argwhere(~fine)[0])
                top = self.family.criterion.cost_bounds[i]
                name = self.family.criterion.signal_names[i]
                self._refuse(
                    "SF-SIMULATION-RANGE",
                    f"cost[{i}] ({name})",
                    f"lie in [0, {top:g}], criterion.cost_bounds",
                    f"{sums[k, i]:g}",
                    live[k],
                    "fix the environment's cost, or widen the bounds",
                )
            self.costs[where] += weight * sums

    def _table(self, name: str, rows: list[Any], live: list[int], shape: tuple[int, ...]) -> FloatArray:
        """``rows``, one per live slot, as floats (len(live), *shape); a lone number passes for one of length 1."""
        size = math.prod(shape)
        try:
            array = np.array(rows, dtype=np.float64)
            if array.shape == (len(live), *shape) or (array.shape == (len(live),) and size == 1):
                return array.reshape(len(live), *shape)
        except (TypeError, ValueError):
            pass
        for slot, row in zip(live, rows):
            try:
                fits = np.array(row, dtype=np.float64).shape in ((shape,) if size != 1 else (shape, ()))
            except (TypeError, ValueError):
                fits = False
            if not fits:
                kind = "SF-SIMULATION-TYPE" if shape == () else "SF-SIMULATION-SHAPE"
                wanted = "be a number" if shape == () else f"hold {size} numbers" if size > 1 else "be one number"
                self._refuse(kind, name, wanted, repr(row)[:60], slot, "fix what computes it")
        return np.array([np.reshape(np.asarray(row, dtype=np.float64), shape) for row in rows])

    def _end(self, slot: int) -> None:
        """Write an episode's sums down and put the next one into its slot."""
        row = int(self.episode[slot])
        limited = self.family.criterion.measure(self.costs[slot])
        self.out[0][row], self.out[1][row], self.out[2][row] = self.returns[slot], limited, self.signals[slot]
        self.out[3][row] = self.steps[slot]
        self._start(slot)

    def _inside(self) -> None:
        """Check the finished episodes against their ranges, and clip what rounding put outside."""
        returns, costs, signals, lengths, _ = self.out
        means = [s.reduce == "mean" for s in self.family.signals]
        signals[:] = np.where(means, signals / lengths[:, None], signals)
        signals[self.failed] = self.ends[0][1 + self.family.n_constraints :]
        returns[self.failed] = self.ends[0][0]
        costs[self.failed] = self.ends[1][1 : 1 + self.family.n_constraints]
        names = [("return", "the family's bounds")]
        names += [(f"cost {name!r}", "the family's bounds") for name in self.family.criterion.cost_names]
        names += [(f"signal {s.name!r}", "the signal's range") for s in self.family.signals]
        columns = [returns, *costs.T, *signals.T]
        for (name, whose), low, high, values in zip(names, *self.ends, columns):
            fine = (values >= low - ROOM * (1.0 + abs(low))) & (values <= high + ROOM * (1.0 + abs(high)))
            if not fine.all():
                index = first_where(~fine)
                self._refuse(
                    "SF-SIMULATION-RANGE",
                    f"{name} of the episode",
                    f"lie in [{low:g}, {high:g}], {whose}",
                    f"{values[index]:g}",
                    (index[0], int(lengths[index[0]])),
                    "declare a range that holds always",
                )
            np.clip(values, low, high, out=values)

    def _where(self, slot: int | tuple[int, int]) -> str:
        """Where a slot is, or a finished episode of so many steps."""
        row, steps = slot if isinstance(slot, tuple) else (int(self.episode[slot]), int(self.steps[slot]))
        return f"{self.family.name} at {self.worker.parameters.tolist()}, policy {self.index}, episode {self.first + row}, step {steps}"

    def _refuse(self, code: str, name: str, rule: str, got: str, slot: int | tuple[int, int], remedy: str) -> NoReturn:
        raise SimulationError(f"{name} must {rule}, got {got} ({self._where(slot)}); {remedy}", code=code)


class _Actor:
    """Turns the observations of the live slots into checked actions."""

    def __init__(self, run: _Run, policy: Any, slots: int) -> None:
        self.run, self.policy = run, policy
        self.space = run.envs[0].action_space
        self.batch = getattr(policy, "act_batch", None)
        self.takes_rng = "rng" in parameters_of(getattr(policy, "predict", None))
        if not callable(self.batch) and not callable(getattr(policy, "predict", None)) and not callable(policy):
            raise SimulationError(
                f"policy {run.index} must have predict(observation) or be callable, got {type(policy).__name__} ({run.family.name}); "
                "wrap it in a function",
                code="SF-SIMULATION-POLICY",
            )
        if callable(getattr(policy, "reset", None)) or not callable(self.batch):
            self.batch = None
        self.instance = instances(policy)
        self.policies: list[Any] = [None] * slots
        self.rngs: list[Any] = [None] * slots
        shape = getattr(self.space, "shape", None)
        self.box = type(self.space).__name__ == "Box" and shape is not None
        self.discrete = type(self.space).__name__ == "Discrete"
        if self.box:
            room = ACTION_ROOM * (1.0 + np.abs(np.where(np.isfinite(self.space.low), self.space.low, 0.0)))
            self.low = np.asarray(self.space.low, dtype=np.float64) - room
            self.high = np.asarray(self.space.high, dtype=np.float64) + ACTION_ROOM * (
                1.0 + np.abs(np.where(np.isfinite(self.space.high), self.space.high, 0.0))
            )
            self.plain_low, self.plain_high = self.low.reshape(-1).tolist(), self.high.reshape(-1).tolist()

    def start(self, slot: int, entropy: list[int], key: tuple[int, int, int]) -> None:
        """A new episode: its own generator, its own instance of the policy."""
        if self.takes_rng:
            self.rngs[slot] = np.random.default_rng(chance(entropy, key)[1])
        if self.batch is None:
            self.run.doing = "policy.reset"
            self.policies[slot] = self.instance()

    def act(self, live: list[int]) -> Any:
        """Actions of the live slots, in order."""
        run = self.run
        if self.batch is not None:
            seen = run.seen if len(live) == len(run.seen) else run.seen[live]
            actions = self.batch(seen)
            if len(actions) != len(live):
                run._refuse(
                    "SF-SIMULATION-SHAPE",
                    "act_batch",
                    f"return {len(live)} actions",
                    f"{len(actions)}",
                    live[0],
                    "one row per observation",
                )
        else:
            actions = [self._one(slot) for slot in live]
        self._check(live, actions)
        return actions

    def _one(self, slot: int) -> Any:
        self.run.slot = slot
        policy, observation = self.policies[slot], self.run.observations[slot]
        if not hasattr(policy, "predict"):
            return policy(observation)
        answer = policy.predict(observation, rng=self.rngs[slot]) if self.takes_rng else policy.predict(observation)
        if not isinstance(answer, tuple) or len(answer) != 2:
            self.run._refuse(
                "SF-SIMULATION-API",
                "predict",
                "return (action, state)",
                type(answer).__name__,
                slot,
                "return (action, None)",
            )
        return answer[0]

    def _check(self, live: list[int], actions: Any) -> None:
        if self.box:
            self._check_box(live, actions)
            return
        for slot, action in zip(live, actions):
            fine = self._discrete(action) if self.discrete else self.space.contains(action)
            if not fine:
                self.run._refuse(
                    "SF-SIMULATION-RANGE",
                    "action",
                    f"be in the action space {self.space}",
                    repr(action)[:60],
                    slot,
                    "fix the policy",
                )

    def _discrete(self, action: Any) -> bool:
        array = isinstance(action, np.ndarray) and action.dtype.kind in "iu" and action.size == 1
        whole = array or isinstance(action, int | np.integer)
        return bool(whole and self.space.start <= int(action) < self.space.start + self.space.n)

    def _plain(self, action: Any) -> bool:
        """Whether one action is a short vector of floats within its ends, looked at without arrays."""
        if not isinstance(action, np.ndarray) or action.shape != self.space.shape or action.dtype.kind != "f":
            return False
        if action.ndim != 1 or action.size > SHORT:
            return False
        for value, low, high in zip(action.tolist(), self.plain_low, self.plain_high):
            if not low <= value <= high:
                return False
        return True

    def _check_box(self, live: list[int], actions: Any) -> None:
        shape = self.space.shape
        if len(live) == 1 and self._plain(actions[0]):
            return
        for slot, action in zip(live, actions):
            if np.shape(action) != shape:
                self.run._refuse(
                    "SF-SIMULATION-SHAPE",
                    "action",
                    f"have shape {shape}",
                    str(np.shape(action)),
                    slot,
                    "fix the policy",
                )
        try:
            array = np.asarray(actions, dtype=np.float64)
        except (TypeError, ValueError):
            self.run._refuse(
                "SF-SIMULATION-TYPE", "action", "hold numbers", repr(actions)[:60], live[0], "fix the policy"
            )
        fine = (array >= self.low) & (array <= self.high)
        if not fine.all():
            k = int(np.argmin(fine.reshape(len(live), -1).all(axis=1)))
            self.run._refuse(
                "SF-SIMULATION-RANGE",
                "action",
                f"lie in the action space {_short(self.space)}",
                np.array2string(array[k], threshold=8),
                live[k],
                "clip it in the policy",
            )


def _numbers(value: Any) -> list[float]:
    """A float, or a short vector of floats, as a list; the empty list for everything else."""
    if isinstance(value, float | np.floating):
        return [float(value)]
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind == "f" and value.size <= SHORT:
        found: list[float] = value.tolist()
        return found
    return []


def _finite(value: Any) -> bool:
    """Whether numbers are finite; what is no number is another rule's business."""
    try:
        return math.isfinite(value) if isinstance(value, float) else bool(np.isfinite(value).all())
    except (TypeError, ValueError):
        return True


def _short(space: Any) -> str:
    low, high = np.asarray(space.low), np.asarray(space.high)
    if (low == low.flat[0]).all() and (high == high.flat[0]).all():
        return f"[{low.flat[0]:g}, {high.flat[0]:g}]"
    return f"{low.tolist()}..{high.tolist()}"
