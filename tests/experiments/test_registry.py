"""Agents by name."""

from __future__ import annotations

import numpy as np
import pytest

from surefoot import PCE, FixedAgent, InvalidInput, PolicySet, SafePCE, TabularPolicy, solve
from surefoot.experiments.registry import AGENTS, AgentContext, all_agents, check_agents, make_agent
from surefoot.tasks import NoisyGridworld

WORLD = NoisyGridworld()


@pytest.fixture
def context(gridworld_set: PolicySet) -> AgentContext:
    return AgentContext(WORLD, gridworld_set, gridworld_set, WORLD.cmdp(0.33), 1000, 0.05, 7)


def table(agent: object) -> np.ndarray:
    assert isinstance(agent, FixedAgent)
    policy = agent.policies[0]
    assert isinstance(policy, TabularPolicy)
    return policy.table


def test_trivial_agents_play_what_their_names_say(context: AgentContext, gridworld_set: PolicySet) -> None:
    np.testing.assert_array_equal(table(make_agent("oracle", context)), solve(context.task).policy)
    np.testing.assert_array_equal(table(make_agent("robust-fixed:0.36", context)), solve(WORLD.cmdp(0.36)).policy)
    np.testing.assert_array_equal(table(make_agent("always-safe", context)), WORLD.safe_policy())


def test_learning_agents_get_the_cover_their_constants_go_with(context: AgentContext) -> None:
    theory, published = make_agent("safe-pce:theory", context), make_agent("safe-pce:published", context)
    assert type(theory) is SafePCE and type(published) is SafePCE
    assert theory.notes[0].startswith("the cover is too coarse")
    assert published.notes[0].startswith("hand-set constants")
    assert type(make_agent("safe-pce", context)) is SafePCE
    assert type(make_agent("pce", context)) is PCE


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sage", "agent must be one of always-safe, .*safe-pce, got 'sage'; add :argument where needed"),
        ("", "agent must be one of .* got ''"),
        ("robust-fixed", r"robust-fixed needs the parameters of a task, got ''; e.g. robust-fixed:0.36"),
        ("robust-fixed:low", r"robust-fixed needs the parameters of a task, got 'low'"),
        ("robust-fixed:0.1,0.2", r"parameters must have shape \(1\), got \(2,\)"),
        ("oracle:now", "oracle takes no argument, got 'now'; write oracle"),
        ("always-safe:0.4", "always-safe takes no argument, got '0.4'"),
        ("safe-pce:tuned", 'preset of safe-pce must be "theory" or "published", got \'tuned\'; e.g. safe-pce:theory'),
        ("certified:sure", "certified takes cells, envelope or data, then :all or :returns, got 'sure'"),
        ("certified:cells:guesses", "certified takes .*, got 'cells:guesses'"),
        ("pce:tuned", 'preset of pce must be "theory" or "published", got \'tuned\''),
    ],
)
def test_unknown_agents_are_refused(name: str, message: str, context: AgentContext) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_agent(name, context)


@pytest.mark.parametrize("name", ["certified:sure", "robust-fixed:low", "pce:tuned", "oracle:now"])
def test_wrong_arguments_are_refused_before_anything_is_trained(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_agents(["always-safe", name])


def test_all_agents_are_runnable_names_and_miss_no_key() -> None:
    names = all_agents("robust-fixed:0.36")
    check_agents(names)
    assert len(set(names)) == len(names)
    assert {name.partition(":")[0] for name in names} == set(AGENTS)
    assert names[:3] == ("oracle", "always-safe", "robust-fixed:0.36")
    assert {"dope-plus:published", "certified:cells:returns", "optpess-lp:calibrated"} < set(names)
