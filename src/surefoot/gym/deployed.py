"""Policies as they will be deployed, and whether an episode of theirs depends on anything but itself.

Simulation measures ``V(pi)`` with many environments in lockstep, in one process, from one file or none; the plant runs one episode at a time. The two
values are the same only if an action is a function of the episode's own observations (and its own generator):

    a_t = f(o_0, .., o_t; chance of the episode)

That is tested, not assumed. A few episodes are run in lockstep, later ones in the places of earlier ones, and everything is recorded. Each is then
replayed alone, its observations shown to an instance of its own as a ticket of a deployment would hand it out, and to one that has been through a
file where files can hold the policy. Every action has to be the same. Observations are recorded, so rounding cannot grow along the way.

Letters: J policies, n episodes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from surefoot.controllers import LinearPolicy, MLPPolicy
from surefoot.errors import InvalidInput
from surefoot.gym.family import GymFamily
from surefoot.gym.rollout import RolloutWorker, chance
from surefoot.policy import TabularPolicy, as_policy, for_episode, is_shared, parameters_of
from surefoot.policyset.codec import is_of_a_kind, is_registered, name_of, rebuilt

__all__ = ["as_deployed", "check_memory", "owned"]

NUM_ENVS, EPISODES = 3, 5
"""Environments in lockstep and episodes of the test: two begin where others have ended."""
CLOSE = 1e-5
"""Relative difference of actions that rounding explains: single-precision networks, rows in larger matrix products."""
CHECK = 9
"""Number of the purpose in the seeds of the test's episodes."""
WITHOUT_MEMORY = (TabularPolicy, LinearPolicy, MLPPolicy)
"""Arrays alone: there is nothing to test. Exact types, for a subclass may add a memory."""


def as_deployed(policy: Any) -> Any:
    """What is measured, which must be what is deployed: controllers of a registered kind go to files as they are and are measured by what they do by
    default; of everything else :func:`surefoot.policy.as_policy`.
    """
    return policy if is_of_a_kind(policy) else as_policy(policy)


def owned(library: Sequence[Any]) -> tuple[Any, ...]:
    """The library as a policy set keeps it: as deployed, and copies, so that whoever goes on using an object changes nothing that was measured."""
    if not len(library):
        raise InvalidInput(
            "library must hold at least the safe policy, got none; put it first", code="SF-ARGUMENT-EMPTY"
        )
    return tuple(as_deployed(_own(policy)) for policy in library)


def _own(policy: Any) -> Any:
    if is_shared(policy) or callable(getattr(policy, "for_episode", None)) or name_of(policy) is not None:
        return policy
    try:
        return copy.deepcopy(policy)
    except Exception:
        # Where that matters, simulation says that its episodes cannot have instances of their own.
        return policy


def check_memory(family: GymFamily, parameters: Any, policy: Any, index: int, *, seed: int) -> list[str]:
    """What is wrong with a policy (as deployed; ``index`` in its library) whose episodes depend on more than themselves, tried on one task (p,).

    Episodes that the simulator does not finish are compared as far as they went.

    Raises:
        SimulationError: it cannot be run at all.
    """
    if type(policy) in WITHOUT_MEMORY:
        return []
    log = _Log()
    recorded = replace(family, make=lambda p: _Recorded(family.make(p), log))
    with RolloutWorker(recorded, parameters, num_envs=NUM_ENVS) as worker:
        worker.run(policy, index, seed=(seed, CHECK), first=0, count=EPISODES, tolerant=True)
    who = f"policy {index} of {family.name} ({_kind(policy)})"
    for number in range(EPISODES):
        first, draws = chance((seed, CHECK), (0, index, number))
        steps = log.episodes[first]
        found = _differs(policy, steps, draws)
        if found is not None:
            return [
                f"{who} must act in an episode alone as it does beside other episodes and after them, got {found} of episode {number}; it has a "
                "memory that episodes share, or hidden randomness: give it reset(), or hand the memory back through predict(observation, state=...), "
                "or make it a class instead of a function; draw from predict(observation, rng=...) alone"
            ]
        found = _differs(rebuilt(policy), steps, draws) if is_registered(policy) else None
        if found is not None:
            return [
                f"{who} must act as it does when a policy-set file has rebuilt it, got {found} of episode {number}; register every parameter that it "
                "acts by, and train with a controller that has not acted before"
            ]
    return []


def _kind(policy: Any) -> str:
    inner = getattr(policy, "function", getattr(policy, "policy", policy))
    return getattr(inner, "__qualname__", type(inner).__qualname__)


@dataclass
class _Log:
    """Steps ``(observation, action)`` of every episode, by the seed of its reset."""

    episodes: dict[int, list[tuple[Any, Any]]] = field(default_factory=dict)


class _Recorded:
    """An environment that writes down what it shows and what it is answered."""

    def __init__(self, env: Any, log: _Log) -> None:
        self._env, self._log = env, log

    def reset(self, *, seed: int) -> Any:
        self._steps = self._log.episodes[seed] = []
        result = self._env.reset(seed=seed)
        self._seen = copy.copy(result[0]) if isinstance(result, tuple) and result else None
        return result

    def step(self, action: Any) -> Any:
        self._steps.append((self._seen, copy.copy(action)))
        result = self._env.step(action)
        self._seen = copy.copy(result[0]) if isinstance(result, tuple) and result else None
        return result

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._env, name)


def _differs(policy: Any, steps: list[tuple[Any, Any]], draws: np.random.SeedSequence) -> str | None:
    """Where a fresh instance, alone with these observations, acts otherwise."""
    own = for_episode(policy)
    rng = np.random.default_rng(draws)
    more = {"rng": rng} if "rng" in parameters_of(getattr(policy, "predict", None)) else {}
    for t, (observation, action) in enumerate(steps):
        shown = copy.copy(observation)
        answer = own.predict(shown, **more)[0] if hasattr(own, "predict") else own(shown)
        if not _same(answer, action):
            return f"{_short(answer)} alone instead of {_short(action)} at step {t}"
    return None


def _same(one: Any, two: Any) -> bool:
    a, b = np.asarray(one), np.asarray(two)
    if a.shape != b.shape:
        return False
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        return bool(np.allclose(a, b, rtol=CLOSE, atol=CLOSE * 0.01))
    return bool(np.array_equal(a, b))


def _short(action: Any) -> str:
    return np.array2string(np.asarray(action), precision=6, threshold=8)
