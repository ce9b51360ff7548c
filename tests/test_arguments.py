"""Arguments of the wrong kind: a sentence that says what to do, never a traceback from inside; and short texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.errors import SurefootError
from tests.refusals import refused

FAMILY = sf.tasks.NoisyGridworld()


@pytest.fixture(scope="module")
def trained() -> sf.PolicySet:
    return sf.train(FAMILY, tasks=20, holdout=0, cells=2, progress=False)


SETS: dict[str, Callable[[Any], Any]] = {
    "CertifiedAgent": lambda given: sf.CertifiedAgent(given, trust="data"),
    "SafePCE": lambda given: sf.SafePCE(given),
    "PCE": lambda given: sf.PCE(given),
    "open": lambda given: sf.Deployment.open("sqlite://", given),
    "rehearse": lambda given: sf.rehearse(given, FAMILY, episodes=5, plants=5, progress=False),
    "learn_belief": lambda given: sf.learn_belief(given, FAMILY),
}
FAMILIES: dict[str, Callable[[Any], Any]] = {
    "train": lambda given: sf.train(given, tasks=5, holdout=0, progress=False),
    "compare": lambda given: sf.compare(["certified:data"], given, progress=False),
    "train_simulated": lambda given: sf.gym.train_simulated(given, [], tasks=8, holdout=0, progress=False),
}
TASKS: dict[str, Callable[[Any], Any]] = {
    "solve": sf.solve,
    "evaluate": lambda given: sf.evaluate(given, np.full((49, 4), 0.25)),
    "evaluate_many": lambda given: sf.evaluate_many(given, np.full((49, 4), 0.25)),
    "state_values": lambda given: sf.state_values(given, np.full((49, 4), 0.25)),
    "occupancy": lambda given: sf.occupancy(given, np.full((49, 4), 0.25)),
    "ceilings": sf.ceilings,
    "Simulator": lambda given: sf.Simulator(given, np.full((49, 4), 0.25)),
    "simulate": lambda given: sf.simulate(given, np.full((49, 4), 0.25), episodes=1, seed=0),
}


@pytest.mark.parametrize("use", SETS)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (sf.PolicySet, "got the class PolicySet"),
        ("plant.sf", "got 'plant.sf'; load it first: surefoot.PolicySet.load(path)"),
        (Path("plant.sf"), "got 'plant.sf'; load it first"),
        (3, "got a int without criterion, policies, cells"),
    ],
)
def test_what_is_no_policy_set(use: str, given: Any, said: str) -> None:
    with refused("SF-ARGUMENT-TYPE", said):
        SETS[use](given)


@pytest.mark.parametrize("use", FAMILIES)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (sf.tasks.NoisyGridworld, "got the class NoisyGridworld; give an instance: NoisyGridworld()"),
        ("gridworld", "got 'gridworld'; names are for the command line"),
        (object(), "got a object without criterion, sample"),
    ],
)
def test_what_is_no_family(use: str, given: Any, said: str) -> None:
    if use == "train_simulated":
        pytest.importorskip("gymnasium")
    with refused("SF-ARGUMENT-TYPE", said):
        FAMILIES[use](given)


@pytest.mark.parametrize("use", TASKS)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (sf.TabularCMDP, "got the class TabularCMDP"),
        (
            FAMILY,
            "got a NoisyGridworld without n_states, signals, functionals; take one of its tasks: family.cmdp(parameters)",
        ),
        ("gridworld", "build one"),
    ],
)
def test_what_is_no_task(use: str, given: Any, said: str) -> None:
    with refused("SF-ARGUMENT-TYPE", said):
        TASKS[use](given)


def test_without_a_trust_level_a_refusal_names_all_of_them(trained: sf.PolicySet) -> None:
    with pytest.raises(SurefootError) as caught:
        sf.CertifiedAgent(trained)
    for level in ("'cells'", "'envelope'", "'data'", "'rehearsed'"):
        assert level in str(caught.value)
    with pytest.raises(SurefootError) as chosen:
        sf.CertifiedAgent(trained, trust="cells")
    assert chosen.value.code == caught.value.code and "'rehearsed'" not in str(chosen.value)


def test_texts_of_an_interactive_session_are_short(trained: sf.PolicySet) -> None:
    task = FAMILY.cmdp(np.array([0.3]))
    agent = sf.CertifiedAgent(trained, trust="data")
    agent.ask(3)
    found = {
        "PolicySet(family='gridworld (truncated)'": trained,
        "TabularCMDP(49 states, 4 actions": task,
        "TabularPolicy(49 states, 4 actions)": trained.policies[0],
        "CertifiedAgent(trust='data', 3 episodes, 3 pending, ramping)": agent,
        "Solution(status='optimal'": sf.solve(task),
        "Cells(policy_index=": trained.cells,
        "Simulator(TabularCMDP(": sf.Simulator(task, trained.safe_policy),
        "Episodes(returns=<float64 (9,)>": sf.simulate(task, trained.safe_policy, episodes=9, seed=0),
        "DeterministicPolicies(actions=[[0, 1]], n_actions=2)": sf.DeterministicPolicies([0, 1], 2),
    }
    for start, thing in found.items():
        text = repr(thing)
        assert text.startswith(start) and len(text) < 600 and "\n" not in text, text
