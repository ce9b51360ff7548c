"""Agents by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surefoot import PCE, AssumptionError, FixedAgent, InvalidInput, PolicySet, SafePCE, TabularPolicy, solve
from surefoot.experiments.registry import (
    AGENTS,
    AgentContext,
    AgentOptions,
    all_agents,
    check_agents,
    make_agent,
    rung_called,
)
from surefoot.tasks import NoisyGridworld
from tests.refusals import refused

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
    ("name", "refusal"),
    [
        ("sage", ("SF-ARGUMENT-CHOICE", "agent", "always-safe", "'sage'")),
        ("", ("SF-ARGUMENT-CHOICE", "agent", "''")),
        ("robust-fixed", ("SF-ARGUMENT-SYNTAX", "robust-fixed", "''")),
        ("robust-fixed:low", ("SF-ARGUMENT-SYNTAX", "robust-fixed", "'low'")),
        ("robust-fixed:0.1,0.2", ("SF-ARGUMENT-SHAPE", "parameters", "(1)", "(2,)")),
        ("oracle:now", ("SF-ARGUMENT-SYNTAX", "oracle", "'now'")),
        ("always-safe:0.4", ("SF-ARGUMENT-SYNTAX", "always-safe", "'0.4'")),
        ("safe-pce:tuned", ("SF-ARGUMENT-CHOICE", "preset of safe-pce", '"theory"', '"published"', "'tuned'")),
        ("certified:sure", ("SF-ARGUMENT-SYNTAX", "certified", "'sure'")),
        ("certified:cells:guesses", ("SF-ARGUMENT-SYNTAX", "certified", "'cells:guesses'")),
        ("certified:cells:delta=1", ("SF-ARGUMENT-SYNTAX", "certified", "delta", "(0, 1)", "'cells:delta=1'")),
        ("certified:cells:delta=x", ("SF-ARGUMENT-SYNTAX", "certified", "'cells:delta=x'")),
        ("certified:data:log=1.5", ("SF-ARGUMENT-SYNTAX", "certified", "log=EPISODES", "'data:log=1.5'")),
        ("certified:data:log=-3", ("SF-ARGUMENT-SYNTAX", "certified", "'data:log=-3'")),
        ("certified:cells:all:all", ("SF-ARGUMENT-SYNTAX", "certified", "'cells:all:all'")),
        ("rehearsed:0", ("SF-ARGUMENT-SYNTAX", "rehearsed", "'0'")),
        ("rehearsed:2:signals", ("SF-ARGUMENT-SYNTAX", "rehearsed", "'2:signals'")),
        ("safe-pce:between", ("SF-ARGUMENT-CHOICE", "preset of safe-pce", "'between'")),
        ("safe-pce:between=-1", ("SF-ARGUMENT-CHOICE", "preset of safe-pce", "'between=-1'")),
        ("safe-pce:theory=1", ("SF-ARGUMENT-CHOICE", "preset of safe-pce", "'theory=1'")),
        ("pce:tuned", ("SF-ARGUMENT-CHOICE", "preset of pce", '"theory"', '"published"', "'tuned'")),
    ],
)
def test_unknown_agents_are_refused(name: str, refusal: tuple[str, ...], context: AgentContext) -> None:
    with refused(*refusal):
        make_agent(name, context)


@pytest.mark.parametrize("name", ["certified:sure", "robust-fixed:low", "pce:tuned", "oracle:now"])
def test_wrong_arguments_are_refused_before_anything_is_trained(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_agents(["always-safe", name])


def test_all_agents_are_runnable_names_and_miss_no_key() -> None:
    names = all_agents("robust-fixed:0.36")
    check_agents(names)
    assert len(set(names)) == len(names)
    assert {name.partition(":")[0] for name in names} == set(AGENTS) - {"rehearsed"}, "which needs a belief"
    assert names[:3] == ("oracle", "always-safe", "robust-fixed:0.36")
    assert {"dope-plus:published", "certified:cells:returns", "optpess-lp:calibrated"} < set(names)


def test_options_reach_the_agents_they_are_for(context: AgentContext) -> None:
    def made(name: str, **options: Any) -> Any:
        return make_agent(name, replace(context, options=AgentOptions(**options)))

    assert "transitions" in made("certified:data").wants
    assert "transitions" not in made("certified:data", evidence="returns").wants
    assert "transitions" in made("certified:data:all", evidence="returns").wants
    with pytest.raises(AssumptionError):
        made("certified:cells", p_max=1e-4)
    assert made("certified:cells", p_max=0.5).trust == "cells"
    constants = [type(made(name, published="locomotion")._constants).__name__ for name in ("pce", "safe-pce:published")]
    assert constants[0] == constants[1] != type(made("pce")._constants).__name__
    assert made("safe-pce:theory", published="locomotion", eps=0.125)._constants.eps == 0.125


@pytest.mark.parametrize("name", ["oracle", "robust-fixed:0.3", "dope", "lb-sgd"])
def test_who_needs_a_model_is_refused_where_there_is_none(name: str, context: AgentContext) -> None:
    with refused("SF-ARGUMENT-COMBINATION"):
        make_agent(name, replace(context, family=None, task=None))
    blind = make_agent("always-safe", replace(context, family=None, task=None))
    assert blind.ask(2).policy_index.tolist() == [0, 0]


def test_a_certified_agent_is_given_the_delta_of_its_name(context: AgentContext) -> None:
    spent = [
        sum(entry.delta for entry in make_agent(name, context).ledger.entries)
        for name in ("certified:data", "certified:data:delta=0.3", "certified:envelope:returns:delta=0.9")
    ]
    assert spent == pytest.approx([0.05, 0.3, 0.9])


def test_a_certified_agent_is_given_the_log_of_its_name(context: AgentContext) -> None:
    """Episodes of the safe policy in the real task, and none that the deployment will meet."""
    plain, logged, again = (make_agent(f"certified:data{more}", context) for more in ("", ":log=2000", ":log=2000"))
    assert logged.bounds[0, 0] < plain.bounds[0, 0]
    np.testing.assert_array_equal(logged.bounds, again.bounds)
    with refused("SF-ARGUMENT-COMBINATION"):
        make_agent("certified:data:log=10", replace(context, family=None, task=None))


def test_a_rehearsed_agent_has_the_boldness_of_its_name_and_needs_a_belief(context: AgentContext) -> None:
    rung = rung_called("rehearsed:2.5:returns", context)
    assert rung is not None
    assert (rung.boldness, rung.episodes, rung.evidence) == (2.5, context.episodes, "returns")
    assert rung_called("rehearsed", context) is None
    with refused("SF-ASSUMPTION-BELIEF", "belief"):
        make_agent("rehearsed:2.5", context)
