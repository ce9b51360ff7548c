"""The rules of a policy (:class:`surefoot.policy.Policy`).

    predict(o_t) -> (a_t, memory);      a_t = f(o_0, .., o_t; chance of the episode)

Every episode, simulated or real, acts through an instance of its own (:func:`surefoot.policy.for_episode`). What was measured in simulation is what
happens on the plant only if an action depends on nothing but the episode's own observations and its own generator.

Letters: m observations.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from surefoot.gym.deployed import as_deployed
from surefoot.policy import for_episode, parameters_of
from surefoot.policyset.codec import is_registered, rebuilt
from surefoot.testing.suite import Suite, require

__all__ = ["PolicySuite"]

CLOSE = 1e-5
"""Relative difference of actions that rounding explains, as in the check of families."""


class PolicySuite(Suite):
    """Conformance of a policy; inherit it, return a fresh policy from :meth:`make` and an episode from :meth:`observations`.

    Attributes:
        seed: of the generator of policies that draw.
        saved: whether a policy-set file must be able to hold the policy; ``None`` where it need not.
    """

    seed: int = 0
    saved: bool | None = None

    def make(self) -> Any:
        """A fresh policy."""
        raise NotImplementedError("make() must return a fresh policy; define it in the class that inherits the suite")

    def observations(self) -> Sequence[Any]:
        """What a policy sees in one episode: two observations or more, different ones where there are any."""
        raise NotImplementedError(
            "observations() must return what one episode shows; define it in the class that inherits the suite"
        )

    def legal(self, action: Any) -> bool:
        """Whether the plant takes an action; override it."""
        return True

    def test_predict_returns_an_action_and_a_memory(self) -> None:
        policy = for_episode(as_deployed(self.make()))
        answer = policy.predict(self.observations()[0], **self._chance(policy))
        require(
            isinstance(answer, tuple) and len(answer) == 2,
            f"predict must return (action, memory), with None for no memory, got {type(answer).__name__}; return a pair",
        )

    def test_actions_are_legal(self) -> None:
        for action in self._acts(as_deployed(self.make()), self.observations()):
            require(
                self.legal(action), f"predict must return a legal action, got {action!r}; clip it, or correct legal()"
            )

    def test_observations_are_left_alone(self) -> None:
        policy = for_episode(as_deployed(self.make()))
        more = self._chance(policy)
        for observation in self.observations():
            shown = copy.deepcopy(observation)
            policy.predict(shown, **more)
            require(
                np.array_equal(np.asarray(shown), np.asarray(observation)),
                f"predict must leave the observation alone, got {shown!r} where {observation!r} was shown; copy it first",
            )

    def test_an_episode_can_be_repeated(self) -> None:
        seen = self.observations()
        first, other = self._acts(as_deployed(self.make()), seen), self._acts(as_deployed(self.make()), seen)
        require(
            _same(first, other),
            f"actions must be decided by observations and the generator handed in, got {first} and {other}; draw from rng= alone",
        )

    def test_an_episode_remembers_no_other(self) -> None:
        policy, seen = as_deployed(self.make()), self.observations()
        first = self._acts(policy, seen)
        self._acts(policy, seen[::-1])
        again = self._acts(policy, seen)
        require(
            _same(first, again),
            f"an episode must act as if it were the first, got {again} instead of {first} after others; give the policy reset(), for_episode(), or "
            "hand its memory back through predict(observation, state=...)",
        )

    def test_episodes_side_by_side_do_not_meet(self) -> None:
        policy, seen = as_deployed(self.make()), self.observations()
        orders = (seen, seen[::-1])
        alone = [self._acts(policy, order) for order in orders]
        own = [for_episode(policy) for _ in orders]
        more = [self._chance(one) for one in own]
        together: list[list[Any]] = [[], []]
        for pair in zip(*orders):
            for k, observation in enumerate(pair):
                together[k].append(own[k].predict(copy.deepcopy(observation), **more[k])[0])
        require(
            all(_same(one, two) for one, two in zip(alone, together)),
            f"episodes side by side must act as they do alone, got {together} instead of {alone}; keep the memory in the instance of the episode",
        )

    def test_many_observations_at_once_give_the_same_actions(self) -> None:
        policy = as_deployed(self.make())
        if not callable(getattr(policy, "act_batch", None)):
            return  # simulation asks one by one
        seen = self.observations()
        single, batch = self._acts(policy, seen), list(policy.act_batch(np.asarray(seen)))
        require(
            _same(single, batch),
            f"act_batch must give the actions of predict, got {batch} instead of {single}; compute both by one function",
        )

    def test_a_file_rebuilds_it(self) -> None:
        policy, seen = as_deployed(self.make()), self.observations()
        claimed = is_registered(policy)
        if not claimed and not self.saved:
            return  # it lives in this process only
        require(
            claimed,
            f"policy must be of a kind that files can hold, got {type(policy).__name__}; register it with surefoot.policyset.register_controller",
        )
        first, again = self._acts(policy, seen), self._acts(rebuilt(policy), seen)
        require(
            _same(first, again),
            f"a policy rebuilt from a file must act as before, got {again} instead of {first}; register every parameter that it acts by",
        )

    def _chance(self, policy: Any) -> dict[str, Any]:
        """A generator, for policies that draw."""
        return {"rng": np.random.default_rng(self.seed)} if "rng" in parameters_of(policy.predict) else {}

    def _acts(self, policy: Any, observations: Sequence[Any]) -> list[Any]:
        """Actions of one episode."""
        own = for_episode(policy)
        more = self._chance(own)
        return [copy.deepcopy(own.predict(copy.deepcopy(observation), **more)[0]) for observation in observations]


def _same(one: Sequence[Any], two: Sequence[Any]) -> bool:
    """Whether actions are equal: numbers up to rounding, everything else exactly."""
    return len(one) == len(two) and all(_alike(np.asarray(a), np.asarray(b)) for a, b in zip(one, two))


def _alike(a: Any, b: Any) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        return bool(np.allclose(a, b, rtol=CLOSE, atol=CLOSE * 0.01))
    return bool(np.array_equal(a, b))
