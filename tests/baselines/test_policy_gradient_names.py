"""The names under which the policy-gradient baselines are registered."""

from __future__ import annotations

import pytest

from surefoot.baselines.on_policy import OnPolicyAgent
from surefoot.experiments.registry import AgentContext, check_agents, make_agent
from surefoot.experiments.runner import play
from tests.baselines.test_meta_training import arm_set
from tests.refusals import refused
from tests.training.families import Arm

ARM = Arm()


@pytest.mark.parametrize("key", ["lb-sgd", "safe-meta-rl", "meta-srl"])
@pytest.mark.parametrize("argument", ["", ":theory", ":calibrated=1e-2"])
def test_registered_names_play(key: str, argument: str) -> None:
    task = ARM.cmdp([0.7])
    agent = make_agent(key + argument, AgentContext(ARM, arm_set(), arm_set(), task, 3_000, 0.05, 7))
    assert isinstance(agent, OnPolicyAgent)
    trace = play(agent, task, 3_000, seed=4)
    assert trace.ends[-1] == 3_000
    assert all(isinstance(note, str) and note for note in agent.notes) and agent.notes
    again = make_agent(key + argument, AgentContext(ARM, arm_set(), arm_set(), task, 3_000, 0.05, 7))
    assert (play(again, task, 3_000, seed=4).reward == trace.reward).all()


@pytest.mark.parametrize(
    "name",
    ["lb-sgd:tuned", "safe-meta-rl:calibrated=-1", "meta-srl:published", "lb-sgd:theory=1", "meta-srl:calibrated="],
)
def test_wrong_names_are_refused_before_anything_is_trained(name: str) -> None:
    agent, _, argument = name.partition(":")
    code = "SF-ARGUMENT-RANGE" if argument.startswith("calibrated=") else "SF-ARGUMENT-CHOICE"
    with refused(code, f"of {agent}"):
        check_agents((name,))
