"""The public interface as a user's type checker sees it: ``make check`` runs mypy --strict over this file; nothing in it is run.

Every result that users pass on must have a type of its own; ``Any`` would hide their mistakes.
"""

from __future__ import annotations

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import surefoot as sf

Floats = NDArray[np.float64]


def exact(task: sf.TabularCMDP, table: Floats) -> None:
    answer = sf.solve(task, method="auto", gap=1e-8)
    assert_type(answer, sf.Solution)
    assert_type(answer.value, float)
    assert_type(answer.policy, Floats)
    assert_type(sf.evaluate(task, table).reward, float)
    assert_type(sf.evaluate_many(task, [sf.TabularPolicy(table)]), Floats)
    assert_type(sf.simulate(task, table, episodes=10, seed=0).returns, Floats)
    assert_type(sf.DeterministicPolicies(np.zeros(3, dtype=int), 2).n_states, int)


def trained() -> None:
    policy_set = sf.train(sf.tasks.NoisyGridworld(), tasks=10, progress=False)
    assert_type(policy_set, sf.PolicySet)
    assert_type(policy_set.hash, str)
    assert_type(sf.PolicySet.load("plant.sf"), sf.PolicySet)
    rehearsal = sf.rehearse(policy_set, sf.tasks.NoisyGridworld(), episodes=100, protocol=sf.Protocol(batch=2))
    assert_type(rehearsal, sf.Rehearsal)
    assert_type(rehearsal.text, str)


def played(policy_set: sf.PolicySet) -> None:
    agent = sf.CertifiedAgent(policy_set, trust="data", delta=0.05, seed=1)
    assert_type(agent.ask(), sf.Episode)
    assert_type(agent.ask(3), sf.Batch)
    agent.tell([0, 1], reward=[1.0, 2.0], costs=[[0.1], [0.2]])
    assert_type(agent.status().text, str)
    assert_type(agent.bounds, Floats)


def deployed(policy_set: sf.PolicySet) -> None:
    with sf.Deployment.open("plant.db", policy_set, trust="data") as plant:
        ticket = plant.ask()
        assert_type(ticket.id, int)
        assert_type(plant.tell(ticket.id, reward=1.0, costs=[0.1]), tuple[str, ...])
        assert_type(plant.status().state, str)


def compared() -> None:
    found = sf.compare(["certified:data"], sf.tasks.SlipperyLake(), progress=False)
    assert_type(found.text, str)
    assert_type(found.policy_set, sf.PolicySet)
