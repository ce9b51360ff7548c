"""Agents that never learn still keep the books."""

from __future__ import annotations

import numpy as np

from surefoot import Agent, Criterion, FixedAgent, TabularPolicy
from tests.refusals import refused

CRITERION = Criterion(0.9, np.array([1.5]), (0.0, 1.0), np.array([1.0]))
POLICY = TabularPolicy(np.array([[0.5, 0.5]]))


def test_it_plays_its_policy_for_ever() -> None:
    agent: Agent = FixedAgent(POLICY, CRITERION, seed=3)
    episode = agent.ask()
    assert episode.policy is POLICY
    assert episode.weights.tolist() == [1.0]
    agent.tell(episode.id, 3.0, [9.0])
    batch = agent.ask(50)
    agent.tell(batch.ids, np.full(50, 10.0), np.full((50, 1), 10.0), initial_state=np.zeros(50), transitions=None)
    assert set(agent.ask(50).policy_index.tolist()) == {0}
    assert agent.policies == (POLICY,)
    assert agent.wants == frozenset()


def test_it_refuses_what_cannot_be_true() -> None:
    agent = FixedAgent(POLICY, CRITERION)
    episode = agent.ask()
    with refused("SF-REPORT-RANGE", "costs[0, 0]", "[0, 10]", "11"):
        agent.tell(episode.id, 3.0, [11.0])
    with refused("SF-REPORT-UNKNOWN"):
        agent.tell(episode.id + 1, 3.0, [1.0])
    agent.tell(episode.id, 3.0, [1.0])
    with refused("SF-REPORT-CLOSED"):
        agent.tell(episode.id, 3.0, [1.0])
