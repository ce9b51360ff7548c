"""Is this family fit for training? Everything that can be found out on a few tasks and episodes, in words that say what to fix.

*Problems* make simulation fail or its results wrong: a rule of Gymnasium's own checker, a broken step, an episode that its seed does not determine,
parameters or seeds that change nothing, a controller whose memory outlives its episode. *Warnings* cost episodes or point at mistakes: ranges far
wider than what is seen, a cost that is always zero, a policy above the limit, episodes that were not seen to depend on the parameters
(:mod:`surefoot.gym.dependence`).

Letters: T tasks, p parameters, I constraints, n episodes.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, check_integer
from surefoot.errors import MissingExtra, SimulationError, SurefootError
from surefoot.gym.dependence import RandomActions, dependence
from surefoot.gym.deployed import as_deployed, check_memory, owned
from surefoot.gym.family import GymFamily
from surefoot.gym.rollout import Rollouts, RolloutWorker
from surefoot.stats.start_up import ceiling_advice

__all__ = ["FamilyCheck", "check_family"]

WELCOME = ("different from the unwrapped version", "-infinity", "value is infinity")
"""What Gymnasium's checker says of every wrapper and every unbounded observation, which are no matter here."""
NARROW = 0.02
"""A range of which episodes use less than this share deserves a warning."""


@dataclass(frozen=True)
class FamilyCheck:
    """What was found.

    Attributes:
        family: its name.
        problems: what has to be fixed.
        warnings: what may be meant so.
        episodes: how many were run.
    """

    family: str
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    episodes: int

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    @property
    def text(self) -> str:
        """The findings as a paragraph for people."""
        lines = [
            f"{self.family}: {len(self.problems)} problems, {len(self.warnings)} warnings in {self.episodes} episodes"
        ]
        lines += [f"  problem: {problem}" for problem in self.problems]
        lines += [f"  warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def raise_if_bad(self) -> None:
        """Raise if there are problems.

        Raises:
            SimulationError: with the whole text.
        """
        if self.problems:
            raise SimulationError(self.text, code="SF-SIMULATION-CHECK")


def check_family(
    family: GymFamily,
    *,
    policy: Any = None,
    library: Sequence[Any] | None = None,
    tasks: int = 5,
    episodes: int = 3,
    seed: int = 0,
) -> FamilyCheck:
    """Look for what would go wrong in training.

    Args:
        family: to be checked.
        policy: the safe policy, say; by default the library's first, and without a library actions are drawn at random.
        library: all policies to be trained with: each is tried for a memory that its episodes would share.
        tasks: how many are sampled.
        episodes: how many are run in each.
        seed: of all random draws.

    Raises:
        MissingExtra: no ``gymnasium``.
    """
    tasks = check_integer("tasks", tasks, low=1)
    episodes = check_integer("episodes", episodes, low=1)
    seed = check_integer("seed", seed, low=0)
    given = list(library) if library is not None else [] if policy is None else [policy]
    policies = owned(given) if given or library is not None else ()
    acting = as_deployed(policy) if policy is not None else policies[0] if policies else None
    found = _Findings(family, acting, episodes, seed)
    points = found.attempt(_sample, family, tasks, seed)
    for task, point in enumerate([] if points is None else points):
        found.attempt(found.task, task, point)
    if family.shared and points is not None and len(points) > 1:
        found.attempt(found.premise, points[0], points[-1])
    for j, one in enumerate(policies if points is not None else ()):
        found.attempt(found.memory, points[0], one, j)
        found.attempt(found.cost, points[0], one, j)
    if points is not None and not found.problems:
        found.attempt(found.dependence, policies or ([] if acting is None else [acting]))
    found.ranges()
    return FamilyCheck(
        family.name, tuple(dict.fromkeys(found.problems)), tuple(dict.fromkeys(found.notes)), found.count
    )


def _sample(family: GymFamily, tasks: int, seed: int) -> FloatArray:
    """Tasks inside the support, the same for the same generator."""
    first, again = (family.sample(tasks, np.random.default_rng(seed)) for _ in range(2))
    if not np.array_equal(first, again):
        raise SimulationError(
            f"sampler of {family.name} must draw from the generator it is given, got other tasks for the same seed; use rng alone",
            code="SF-FAMILY-RANDOM",
        )
    return first


class _Findings:
    """Problems and notes, collected task by task."""

    def __init__(self, family: GymFamily, policy: Any, episodes: int, seed: int) -> None:
        self.family, self.policy, self.episodes, self.seed = family, policy, episodes, seed
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.parts: list[Rollouts] = []
        self.costing: list[bool] | None = None
        self.count = 0

    def attempt(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What ``work`` returns; an error on purpose becomes a problem."""
        try:
            return work(*arguments)
        except MissingExtra:
            raise
        except SurefootError as error:
            self.problems.append(str(error))
        except Exception as error:
            self.problems.append(
                f"{self.family.name}: {type(error).__name__}: {error}; call it alone to see the traceback"
            )
        return None

    def task(self, task: int, point: FloatArray) -> None:
        """Everything about one task."""
        with closing(RolloutWorker(self.family, point, task=task, num_envs=2)) as worker:
            (env,) = worker.environments(1)
            policy = RandomActions(env.action_space) if self.policy is None else self.policy
            if task == 0:
                self._gymnasium(point)
            first = self._run(worker, policy)
            self.parts.append(first)
            self._same(first, self._run(worker, policy), "the same environment", point)
        with closing(RolloutWorker(self.family, point, task=task, num_envs=1)) as worker:
            self._same(first, self._run(worker, policy), "another environment of the same task", point)
        if (first.lengths == 0).any():
            self.problems.append(f"{self.family.name}: an episode must have a step, got none; fix reset")

    def premise(self, point: FloatArray, other: FloatArray) -> None:
        """Tasks that share episodes differ in nothing but the reward, and ``rewards`` says what each of them pays."""
        parts = []
        for parameters in (point, other):
            with closing(RolloutWorker(self.family, parameters, num_envs=1)) as worker:
                (env,) = worker.environments(1)
                parts.append(self._run(worker, RandomActions(env.action_space) if self.policy is None else self.policy))
                self._pays(env, parameters)
        for name in ("first_observations", "lengths", "costs", "signals"):
            if not np.array_equal(getattr(parts[0], name), getattr(parts[1], name)):
                self.problems.append(
                    f"{name} must be the same in all tasks of {self.family.name}, whose rewards= says that they differ in the reward only, got "
                    f"others at {point.tolist()} and {other.tolist()} for one seed; leave rewards= out, and every task gets episodes of its own"
                )
                return

    def memory(self, point: FloatArray, policy: Any, index: int) -> None:
        """Whether an episode of a policy depends on other episodes."""
        self.problems.extend(check_memory(self.family, point, policy, index, seed=self.seed))

    def cost(self, point: FloatArray, policy: Any, index: int) -> None:
        """Which costs a policy of the library has, where the acting one has none: ``costing`` says of each whether some policy does."""
        known = self.costing
        if known is None:
            known = [any(bool(part.costs[:, i].any()) for part in self.parts) for i in range(self.family.n_constraints)]
        if not all(known):
            with closing(RolloutWorker(self.family, point, num_envs=2)) as worker:
                self.count += self.episodes
                costs = worker.run(policy, index, seed=self.seed, first=0, count=self.episodes).costs
            known = [had or bool(costs[:, i].any()) for i, had in enumerate(known)]
        self.costing = known

    def dependence(self, policies: Sequence[Any]) -> None:
        """Whether episodes depend on the parameters, and otherwise on their seeds alone."""
        result = dependence(self.family, policies, seed=self.seed)
        self.count += result.episodes
        self.problems.extend(result.problems)
        self.notes.extend(result.notes)

    def _pays(self, env: Any, point: FloatArray) -> None:
        """Whether ``rewards`` gives what the environment pays, over one episode of random actions."""
        rng, rewards = np.random.default_rng(self.seed), self.family.rewards
        before, _ = env.reset(seed=self.seed)
        for _ in range(self.family.horizon):
            before = copy.copy(before)
            action, _ = RandomActions(env.action_space).predict(before, rng=rng)
            result = env.step(action)
            after, reward, over, info = result[0], float(result[1]), bool(result[-3]), result[-1]
            said = float(np.ravel(rewards(point[None], before, action, after, reward, info))[0])  # type: ignore[misc]
            if not abs(said - reward) <= 1e-9 * (1.0 + abs(reward)):
                self.problems.append(
                    f"rewards of {self.family.name} must give what the environment pays, got {said:g} where it pays {reward:g} at {point.tolist()}; "
                    "fix the one that is wrong"
                )
                return
            if over:
                return
            before = after

    def _run(self, worker: RolloutWorker, policy: Any) -> Rollouts:
        self.count += self.episodes
        return worker.run(policy, 0, seed=self.seed, first=0, count=self.episodes)

    def _same(self, first: Rollouts, again: Rollouts, where: str, point: FloatArray) -> None:
        """The seed decides an episode: no memory of earlier ones, no task that changes on reset, no hidden randomness."""
        for name in ("first_observations", "lengths", "returns", "costs", "signals"):
            one, two = getattr(first, name), getattr(again, name)
            if not np.array_equal(one, two):
                self.problems.append(
                    f"{name} of an episode must be decided by its seed, got others in {where} ({self.family.name} at {point.tolist()}); draw from "
                    "self.np_random alone, start afresh in reset, keep the task fixed, and let the policy be deterministic or take rng"
                )
                return

    def _gymnasium(self, point: FloatArray) -> None:
        """Gymnasium's own checker on a fresh environment."""
        try:
            from gymnasium.utils.env_checker import check_env
        except ModuleNotFoundError as error:
            raise MissingExtra("gymnasium", "gym") from error
        env = _five(self.family.make(point.copy()))
        with closing(env), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                check_env(env, skip_render_check=True)
            except Exception as error:
                self.problems.append(
                    f"Gymnasium's checker must accept the environment of {self.family.name}, got {type(error).__name__}: {error}; fix it first"
                )
        said = [_plain(str(w.message)) for w in caught]
        self.notes += [f"Gymnasium's checker: {text}" for text in said if not any(w in text for w in WELCOME)]

    def ranges(self) -> None:
        """Ranges, costs and limits against what was seen."""
        if not self.parts:
            return
        family = self.family
        seen = np.concatenate([part.outcomes() for part in self.parts])
        low, high = family.ranges()
        for name, q in _quantities(family):
            used = float(np.ptp(seen[:, q])) / (high[q] - low[q])
            if used < NARROW:
                self.notes.append(
                    f"{name} of episodes lay within {seen[:, q].min():.4g}..{seen[:, q].max():.4g}, {used:.1%} of the declared range "
                    f"{low[q]:.4g}..{high[q]:.4g}; where that range can be narrower, intervals need fewer episodes (bounds=)"
                )
        costs = seen[:, 1 : 1 + family.n_constraints]
        for i, name in enumerate(family.criterion.cost_names):
            if not costs[:, i].any():
                if self.costing is None or not self.costing[i]:
                    whose = "of every policy of the library" if self.costing is not None else "that was run"
                    self.notes.append(f"{name} was zero in every episode {whose}; is it computed at all?")
            elif self.policy is not None and _surely_above(costs[:, i], family.criterion.cost_limits[i]):
                self.notes.append(
                    f"{name} of the policy was {costs[:, i].mean():.4g} on average, above the limit {family.criterion.cost_limits[i]:.4g}; as a safe "
                    "policy it would not do"
                )
        if self.policy is not None and family.n_constraints:
            most = high[1 : 1 + family.n_constraints]
            advice = ceiling_advice(
                most.tolist(), family.criterion.cost_limits.tolist(), costs.mean(axis=0).tolist(), 0.05
            )
            self.notes += [] if advice is None else [advice]
        if max(int(part.lengths.max()) for part in self.parts) < family.horizon:
            self.notes.append(
                f"no episode reached criterion.horizon {family.horizon}; a smaller one gives narrower ranges"
            )


def _quantities(family: GymFamily) -> Iterator[tuple[str, int]]:
    """Names and positions of an episode's numbers."""
    names = ["return", *family.criterion.cost_names, *(f"signal {s.name!r}" for s in family.signals)]
    yield from ((name, q) for q, name in enumerate(names))


def _surely_above(values: FloatArray, limit: float) -> bool:
    """Whether the mean of (n,) values is above the limit by more than three standard errors."""
    return bool(values.mean() - 3.0 * values.std() / np.sqrt(values.size) > limit)


def _five(env: Any) -> Any:
    """Gymnasium's checker wants steps of five."""
    from surefoot.gym.adapters import SafetyGymnasiumAdapter

    env.reset(seed=0)
    result = env.step(env.action_space.sample())
    return SafetyGymnasiumAdapter(env) if isinstance(result, tuple) and len(result) == 6 else env


def _plain(text: str) -> str:
    """Without terminal colours."""
    return text.replace("\x1b[33m", "").replace("\x1b[0m", "").removeprefix("WARN: ").strip()
