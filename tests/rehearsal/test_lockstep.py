"""Runs in lockstep against the agent alone, one episode after the other."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import surefoot as sf
from surefoot.cmdp.simulate import Simulator, transition_rows
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.policyset.schema import PolicySet
from surefoot.rehearsal.lockstep import play_rung, tabular_source
from surefoot.tasks import NoisyGridworld
from surefoot.training.belief import learn_belief


@cache
def believing_set() -> PolicySet:
    found = sf.train(NoisyGridworld(), tasks=40, holdout=0, cells=6, seed=1, progress=False)
    return learn_belief(found, NoisyGridworld(), tasks=60, seed=2, progress=False)


def play_alone(rung: Rung, noise: float, seed: int, plant_seed: int) -> list[tuple[int, np.ndarray]]:
    """The mixtures of an agent that is asked and told as the rung's protocol says, each report as late as it may be."""
    policy_set = believing_set()
    cmdp = NoisyGridworld().cmdp([noise])
    simulator = Simulator(cmdp, policy_set.policies)
    agent = sf.CertifiedAgent(policy_set, trust="rehearsed", rung=rung, seed=seed)
    if rung.history:
        safe = np.zeros(rung.history, dtype=np.int64)
        logged = simulator.run(safe, seed=plant_seed, first_episode=rung.episodes, groups=safe)
        agent.recall(
            logged.returns,
            logged.costs,
            initial_state=logged.initial_states,
            transitions=transition_rows(cmdp, logged.transitions[0]),
        )
    mixtures: list[tuple[int, np.ndarray]] = []
    untold: list[tuple[int, dict]] = []
    opened = 0
    while opened < rung.episodes:
        n = min(rung.batch, rung.episodes - opened)
        batch = agent.ask(n)
        if not mixtures or not np.array_equal(mixtures[-1][1], batch.weights):
            mixtures.append((opened, batch.weights))
        played = simulator.run(batch.policy_index, seed=plant_seed, first_episode=opened, groups=np.arange(n))
        for k in range(n):
            rows = transition_rows(cmdp, played.transitions[k])
            report = {
                "reward": played.returns[k],
                "costs": played.costs[k],
                "initial_state": played.initial_states[k],
                "transitions": rows,
            }
            untold.append((opened + k, report))
        opened += n
        while untold and untold[0][0] < opened - rung.delay:
            k, report = untold.pop(0)
            agent.tell(k, **report)
    assert agent.status().alarm is None
    assert not [e for e in agent.events if e.kind == "protocol"]
    return mixtures


@pytest.mark.parametrize(
    "rung",
    [
        Rung(boldness=2.0, episodes=120),
        Rung(boldness=2.0, episodes=120, evidence="returns"),
        Rung(boldness=1.5, episodes=150, batch=7, delay=20),
        Rung(boldness=1.5, episodes=100, exposure=0.3),
        Rung(boldness=1.5, episodes=60, history=25),
    ],
    ids=["all", "returns", "batches and delays", "exposure", "history"],
)
def test_lockstep_decides_as_the_agent_alone(rung: Rung) -> None:
    policy_set = believing_set()
    tables = np.stack([p.table for p in policy_set.policies])
    source = tabular_source(policy_set, rung, NoisyGridworld().cmdp([0.27]), tables, seed=11)
    together = play_rung(policy_set, rung, source, seed=5, chance=0)
    alone = play_alone(rung, 0.27, seed=5, plant_seed=11)
    changes = [0, *(1 + np.flatnonzero((np.diff(together.weights, axis=0) != 0).any(axis=1)))]
    assert [int(together.starts[k]) for k in changes] == [start for start, _ in alone]
    for k, (_, weights) in zip(changes, alone, strict=True):
        np.testing.assert_array_equal(together.weights[k], weights)
    assert together.weights[:, 0].min() < 0.99 and len(changes) > 5
    if rung.exposure < 1.0:
        assert (1.0 - together.weights[:, 0]).max() == pytest.approx(rung.exposure)
