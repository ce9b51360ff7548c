"""The rules of an agent that lives in a deployment (:class:`surefoot.deploy.agent.DeployableAgent`), beside those of every agent.

    state = agent.state_dict();      twin.load_state_dict(state)      from then on both ask and answer alike

A deployment is rebuilt from its journal, or from a snapshot and what came after it; the two must be the same agent. What limits of an operator thin
out is drawn from ``weights``, so these must be what ``ask`` draws from.

Letters: J policies.
"""

from __future__ import annotations

import copy
from collections import deque
from functools import partial
from typing import Any

import numpy as np

from surefoot.errors import InvalidReport
from surefoot.testing.agents import AgentSuite
from surefoot.testing.suite import refused, require

__all__ = ["DeployableAgentSuite"]


class DeployableAgentSuite(AgentSuite):
    """Conformance of an agent with a state; inherit it and define what :class:`~surefoot.testing.agents.AgentSuite` asks for."""

    def test_weights_are_those_of_the_next_draw(self) -> None:
        agent, rng = self.make(self.seed), np.random.default_rng(self.seed)
        for _ in range(self.rounds):
            weights = np.array(agent.weights, dtype=np.float64)
            episode = agent.ask()
            require(
                np.array_equal(weights, np.asarray(episode.weights)),
                f"weights must be what the next episode is drawn from, got {weights.tolist()} before a draw from "
                f"{np.asarray(episode.weights).tolist()}; compute both in one place",
            )
            agent.tell(episode.id, **self.report(episode, rng))

    def test_a_state_is_plain_values(self) -> None:
        agent = self.make(self.seed)
        self._live(agent, self.rounds)
        strange = _strange(agent.state_dict(), "state")
        require(
            not strange,
            f"state_dict() must hold numbers, text, arrays, lists, tuples, sets and dictionaries, got {', '.join(strange[:3])}; take others apart",
        )

    def test_a_restored_agent_goes_on_alike(self) -> None:
        agent = self.make(self.seed)
        self._live(agent, self.rounds)
        early = agent.ask()  # an episode that is open meanwhile
        twin = self.make(self.seed)
        twin.load_state_dict(copy.deepcopy(agent.state_dict()))
        courses = []
        for one in (agent, twin):
            one.tell(early.id, **self.report(early, np.random.default_rng([self.seed, early.id])))
            courses.append(self._live(one, self.rounds))
        require(
            courses[0] == courses[1],
            "an agent that took up a state must go on as the one that gave it, got other mixtures or draws; put everything that changes into the "
            "state, its generator too",
        )

    def test_the_state_of_something_else_is_refused(self) -> None:
        refused(partial(self.make(self.seed).load_state_dict, {"nothing": 1}), ValueError, "a state of something else")

    def test_a_lost_episode_is_told_no_more(self) -> None:
        agent, rng = self.make(self.seed), np.random.default_rng(self.seed)
        if not callable(getattr(agent, "lost", None)):
            return  # it is not told
        one, two = agent.ask(), agent.ask()
        agent.lost(one.id)
        refused(
            partial(agent.tell, one.id, **self.report(one, rng)),
            InvalidReport,
            "a report of an episode that was declared lost",
        )
        agent.tell(two.id, **self.report(two, rng))

    def _live(self, agent: Any, rounds: int) -> list[tuple[Any, ...]]:
        """Ids, policies and weights of so many episodes, whose reports are decided by their ids."""
        course = []
        for _ in range(rounds):
            episode = agent.ask()
            course.append((episode.id, episode.policy_index, np.asarray(episode.weights).tolist()))
            agent.tell(episode.id, **self.report(episode, np.random.default_rng([self.seed, episode.id])))
        return course


def _strange(value: Any, where: str) -> list[str]:
    """Where a state holds what a snapshot does not."""
    from surefoot.journal.snapshot import NAMES

    if value is None or isinstance(value, bool | int | float | str | np.generic) or type(value) in NAMES:
        return []
    if isinstance(value, np.ndarray):
        return [f"{where} of objects"] if value.dtype.hasobject else []
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in _strange(item, f"{where}[{key!r}]")]
    if isinstance(value, list | tuple | set | deque):
        return [text for k, item in enumerate(value) for text in _strange(item, f"{where}[{k}]")]
    return [f"{where} of {type(value).__name__}"]
