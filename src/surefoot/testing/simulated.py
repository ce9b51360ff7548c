"""The rules of a family of Gymnasium environments (:class:`surefoot.gym.GymFamily`).

    make(x) -> environment;     reset(seed=k), then up to H steps: o_t, a_t -> o_{t+1}, r_t, c_t

An episode is a function of task, seed and actions, and of nothing else: simulation runs many of them in lockstep and in several processes, and the
plant one at a time. Rewards and costs per step stay inside the criterion's ranges, from which ceilings are computed.

Actions are drawn from the action space. What a policy of yours does is looked at by :func:`surefoot.gym.check_family`, which the last rule runs.

Letters: p parameters, I constraints, H steps.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.testing.suite import Suite, require

__all__ = ["SimulatedFamilySuite"]

TOLERANCE = 1e-9
"""Relative rounding allowed at the ends of a range."""
MANY = 50
"""Tasks that are sampled where chance must show."""

Step = tuple[Any, float, FloatArray, bool, bool]
"""Observation, reward, (I,) costs, terminated, truncated."""


class SimulatedFamilySuite(Suite):
    """Conformance of a family of environments; inherit it and return a fresh family from :meth:`make`.

    Attributes:
        tasks: how many sampled tasks are looked at.
        seed: of samples, episodes and actions.
        accepted: parts of warnings of ``check_family`` that are meant so.
    """

    tasks: int = 3
    seed: int = 0
    accepted: tuple[str, ...] = ()

    def make(self) -> Any:
        """A fresh family."""
        raise NotImplementedError("make() must return a fresh family; define it in the class that inherits the suite")

    def policies(self) -> Sequence[Any]:
        """The library to be trained with, the safe policy first; none by default."""
        return ()

    def sampled(self, family: Any) -> FloatArray:
        """(tasks, p) parameters."""
        return np.asarray(family.sample(self.tasks, np.random.default_rng(self.seed)), dtype=np.float64)

    def test_a_seed_decides_the_sample(self) -> None:
        family = self.make()
        first, again, other = (
            np.asarray(f.sample(self.tasks, np.random.default_rng(self.seed))) for f in (family, family, self.make())
        )
        require(
            np.array_equal(first, again) and np.array_equal(first, other),
            f"sampler must be decided by the generator it is given, got {first.tolist()} and {again.tolist()} from one seed; draw from rng alone",
        )

    def test_tasks_are_drawn_and_not_listed(self) -> None:
        family = self.make()
        low, high = np.asarray(family.support).T
        if bool((low == high).all()):
            return  # there is one task only
        rng = np.random.default_rng(self.seed)
        first, second = (np.asarray(family.sample(MANY, rng)) for _ in range(2))
        require(
            not np.array_equal(first, second),
            f"sampler must give fresh tasks at every call, got the same {MANY} twice; draw from rng, and do not seed it again",
        )

    def test_every_environment_is_made_afresh(self) -> None:
        family = self.make()
        row = self.sampled(family)[0]
        one, two = family.make(row.copy()), family.make(row.copy())
        require(
            one is not two,
            "make must return a fresh environment at every call, got the same object twice; build it inside make",
        )
        one.close()
        two.close()

    def test_parameters_are_left_alone(self) -> None:
        family = self.make()
        for row in self.sampled(family):
            given = row.copy()
            self._episode(family, given)
            require(
                np.array_equal(given, row),
                f"make must leave the parameters it is given alone, got {given.tolist()} where {row.tolist()} was passed; copy them first",
            )

    def test_observations_lie_in_their_space(self) -> None:
        family = self.make()
        for row in self.sampled(family):
            env = family.make(row.copy())
            for observation in (self._reset(env), *(step[0] for step in self._run(family, env))):
                require(
                    bool(env.observation_space.contains(observation)),
                    f"observation must lie in {env.observation_space}, got {observation!r}; widen the space, or fix shape and dtype",
                )
            env.close()

    def test_rewards_stay_within_the_criterion(self) -> None:
        family = self.make()
        low, high = family.criterion.reward_bounds
        room = TOLERANCE * (1.0 + max(abs(low), abs(high)))
        for row in self.sampled(family):
            rewards = [step[1] for step in self._episode(family, row)]
            require(
                all(low - room <= reward <= high + room for reward in rewards),
                f"rewards must be numbers in criterion.reward_bounds [{low:g}, {high:g}], got {rewards}; widen the bounds, or clip",
            )

    def test_costs_stay_under_their_ceilings(self) -> None:
        family = self.make()
        bounds = np.asarray(family.criterion.cost_bounds)
        for row in self.sampled(family):
            for _, _, costs, _, _ in self._episode(family, row):
                require(
                    costs.shape == bounds.shape,
                    f"cost must hold {bounds.size} numbers, one per constraint, got shape {costs.shape}; fix cost= or info['cost']",
                )
                require(
                    bool(((costs >= 0.0) & (costs <= bounds * (1.0 + TOLERANCE))).all()),
                    f"costs per step must lie in [0, {bounds.tolist()}] (criterion.cost_bounds), got {costs.tolist()}; raise the bounds: the "
                    "ceilings of episodes are computed from them",
                )

    def test_an_episode_is_not_cut_before_the_horizon(self) -> None:
        family = self.make()
        for row in self.sampled(family):
            steps = self._episode(family, row)
            early = [
                t + 1 for t, step in enumerate(steps) if step[4] and not step[3] and t + 1 < family.criterion.horizon
            ]
            require(
                not early,
                f"truncated must not come before step {family.criterion.horizon} (criterion.horizon), got it after {early[:1]}; remove the time "
                "limit, or shorten the horizon",
            )

    def test_task_and_seed_decide_an_episode(self) -> None:
        family = self.make()
        for row in self.sampled(family):
            env, other = family.make(row.copy()), self.make().make(row.copy())
            first, again = self._run(family, env, reset=True), self._run(family, env, reset=True)
            require(
                _same(first, again),
                f"an episode must start afresh at reset(seed=), got another one at {row.tolist()} in the same environment; draw from self.np_random "
                "alone, and reset everything",
            )
            require(
                _same(first, self._run(family, other, reset=True)),
                f"task and seed must decide an episode, got another one at {row.tolist()} in a second environment; draw from self.np_random alone",
            )
            env.close()
            other.close()

    def test_environments_do_not_meet(self) -> None:
        family = self.make()
        rows = self.sampled(family)
        alone = [self._episode(family, row) for row in (rows[0], rows[-1])]
        envs = [family.make(row.copy()) for row in (rows[0], rows[-1])]
        draws = [self._reset_and_draw(env) for env in envs]
        together: list[list[Step]] = [[], []]
        for _ in range(int(family.criterion.horizon)):
            for k, env in enumerate(envs):
                if not (together[k] and (together[k][-1][3] or together[k][-1][4])):
                    together[k].append(self._step(family, env, draws[k]))
        for env in envs:
            env.close()
        require(
            all(_same(one, two) for one, two in zip(alone, together)),
            "environments must not share anything, got other episodes where two run in turn; keep all state in the environment's own attributes",
        )

    def test_the_check_of_the_family_finds_nothing(self) -> None:
        from surefoot.gym.check import check_family

        library = list(self.policies())
        found = check_family(self.make(), library=library or None, tasks=self.tasks, seed=self.seed)
        warnings = [text for text in found.warnings if not any(part in text for part in self.accepted)]
        require(
            found.ok and not warnings,
            f"check_family must find nothing, got: {found.text}\nfix the family, or name the warnings that are meant so in accepted=",
        )

    # -------------------------------------------------------------------------------------------------------- episodes

    def _reset(self, env: Any) -> Any:
        answer = env.reset(seed=self.seed)
        good = isinstance(answer, tuple) and len(answer) == 2
        require(
            good, f"reset must return (observation, info), got {type(answer).__name__}; follow Gymnasium's interface"
        )
        return answer[0]

    def _reset_and_draw(self, env: Any) -> _Draws:
        return _Draws(env, self._reset(env), self.seed)

    def _episode(self, family: Any, row: FloatArray) -> list[Step]:
        """One episode in an environment of its own."""
        env = family.make(row)
        steps = self._run(family, env, reset=True)
        env.close()
        return steps

    def _run(self, family: Any, env: Any, *, reset: bool = False) -> list[Step]:
        """Steps to the horizon or the end."""
        draws = self._reset_and_draw(env) if reset else _Draws(env, None, self.seed)
        steps: list[Step] = []
        while len(steps) < int(family.criterion.horizon) and not (steps and (steps[-1][3] or steps[-1][4])):
            steps.append(self._step(family, env, draws))
        return steps

    def _step(self, family: Any, env: Any, draws: _Draws) -> Step:
        action, before = draws.action(), draws.latest
        answer = env.step(action)
        require(
            isinstance(answer, tuple) and len(answer) in (5, 6),
            "step must return five entries, or six with the cost after the reward, got another number; follow Gymnasium's interface",
        )
        after, reward, info = copy.copy(answer[0]), answer[1], answer[-1]
        draws.latest = after
        cost = answer[2] if len(answer) == 6 else info.get("cost")
        if family.cost is not None:
            cost = family.cost(before, action, after, info)
        costs = np.zeros(0) if cost is None else np.atleast_1d(np.asarray(cost, dtype=np.float64))
        return after, float(reward), costs, bool(answer[-3]), bool(answer[-2])


class _Draws:
    """Random actions of one episode."""

    def __init__(self, env: Any, first: Any, seed: int) -> None:
        self.latest = copy.copy(first)
        self._space = copy.deepcopy(env.action_space)
        self._space.seed(seed)

    def action(self) -> Any:
        return self._space.sample()


def _same(one: list[Step], two: list[Step]) -> bool:
    """Whether two episodes are equal to the last bit."""
    return len(one) == len(two) and all(
        np.array_equal(np.asarray(a), np.asarray(b), equal_nan=False) if not isinstance(a, bool) else a == b
        for first, second in zip(one, two)
        for a, b in zip(first, second)
    )
