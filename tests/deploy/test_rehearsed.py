"""Rehearsed plans: every way of leaving the protocol, and that use as rehearsed never leaves it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.deploy.belief.planner import following_time
from surefoot.deploy.belief.rehearsed import LOST_ERROR, RehearsedPlan, Rung
from tests.journal.plants import Plant
from tests.journal.rehearsed import SETS, rehearsing
from tests.refusals import refused

SET = SETS["returns"]


def agent_of(rung: Rung, **how: Any) -> sf.CertifiedAgent:
    return sf.CertifiedAgent(SET, trust="rehearsed", rung=rung, seed=1, **how)


def plan_of(agent: sf.CertifiedAgent) -> RehearsedPlan:
    assert agent.rehearsed is not None
    return agent.rehearsed


def tell(agent: sf.CertifiedAgent, ids: list[int]) -> None:
    agent.tell(**Plant(SET).batch(ids, [agent.open_episodes[k] for k in ids]))


def run(
    agent: sf.CertifiedAgent, sizes: Any, delay: int, episodes: int, rng: np.random.Generator, lost: float = 0.0
) -> None:
    """Ask in ``sizes`` and tell one by one, in any order, each episode at some time within the delay."""
    opened, pending = 0, {}
    while opened < episodes:
        n = int(rng.choice(sizes))
        agent.ask(n)
        pending.update({k: k + n + int(rng.integers(0, delay + 1)) for k in range(opened, opened + n)})
        opened += n
        ready = rng.permutation([k for k, when in pending.items() if when <= opened or k < opened - delay])
        for k in ready.tolist():
            pending.pop(k)
            if rng.random() < lost:
                agent.lost(k)
            else:
                tell(agent, [k])


@pytest.mark.parametrize(
    ("rung", "sizes", "delay", "lost"),
    [
        (rehearsing(), [1], 0, 0.0),
        (rehearsing(batch=12), [12], 0, 0.0),
        (rehearsing(batch=12), [4], 0, 0.0),
        (rehearsing(batch=12, delay=30), [12], 30, 0.0),
        (rehearsing(delay=17), [1], 17, 0.0),
        (rehearsing(delay=17), [1], 5, 0.0),
        (rehearsing(delay=5, lost=0.2), [1], 5, 0.2),
        (rehearsing(lost=0.2), [1], 0, 0.0),
        (rehearsing(episodes=30), [1], 0, 0.0),
    ],
)  # fmt: skip
def test_use_as_rehearsed_never_leaves(rung: Rung, sizes: list[int], delay: int, lost: float) -> None:
    agent = agent_of(rung)
    run(agent, sizes, delay, 120, np.random.default_rng(3), lost)
    plan = plan_of(agent)
    assert plan.inside and agent.alarm is None
    assert plan.planner.cutoff >= min(60, rung.episodes // 2)  # it learned
    assert not [event for event in agent.events if event.kind == "protocol"]


def left(agent: sf.CertifiedAgent, at: int) -> str:
    """It left, once, and data bounds decide from then on."""
    plan = plan_of(agent)
    assert plan.left is not None and plan.left_at == at
    assert [event.kind for event in agent.events].count("protocol") == 1
    assert "belief" not in str(agent.plan.reasons) and agent.status().proved
    np.testing.assert_array_equal(agent.plan.bounds <= SET.criterion.cost_limits, True)
    return plan.left


def test_a_report_later_than_the_delay_leaves_when_the_next_is_asked() -> None:
    agent = agent_of(rehearsing())
    agent.ask()
    mixture = agent.weights
    assert plan_of(agent).inside
    np.testing.assert_array_equal(agent.ask().weights, mixture)  # once more, for it was rehearsed
    assert "episode 1 was asked while 1 reports" in left(agent, 2)


def test_asking_across_a_plan_leaves() -> None:
    agent = agent_of(rehearsing())
    agent.ask(2)
    assert "batches of 1" in left(agent, 2)
    agent = agent_of(rehearsing(batch=5))
    agent.ask(3)
    tell(agent, [0, 1, 2])
    assert plan_of(agent).inside
    agent.ask(3)
    assert "before episode 5" in left(agent, 6)


def test_after_the_last_plan_nothing_leaves() -> None:
    agent = agent_of(rehearsing(episodes=4))
    run(agent, [1], 0, 4, np.random.default_rng(0))
    assert plan_of(agent).planner.due >= 4
    agent.ask(50)
    tell(agent, [5, 40, 20])
    agent.lost(list(range(6, 20)))
    assert plan_of(agent).inside


def test_telling_episodes_of_two_plans_together_leaves() -> None:
    agent = agent_of(rehearsing(delay=6))
    for _ in range(4):
        agent.ask()
    planner = plan_of(agent).planner
    assert planner.plan_for(0) != planner.plan_for(1)
    tell(agent, [0, 1])
    assert "different plans" in left(agent, 4)


def test_more_losses_than_rehearsed_leave_and_chance_does_not() -> None:
    from scipy.stats import binom

    agent = agent_of(rehearsing())
    agent.ask()
    agent.lost(0)
    assert "1 of 1 episodes are lost" in left(agent, 1)
    agent = agent_of(rehearsing(lost=0.1))
    for k in range(40):
        agent.ask()
        agent.lost(k)
        expected = any(binom.sf(n - 1, n, 0.1) < LOST_ERROR for n in range(1, k + 2))
        assert plan_of(agent).inside != expected
        if expected:
            break
    assert k == 3 or not plan_of(agent).inside


def test_logged_episodes_that_are_missing_leave() -> None:
    agent = agent_of(rehearsing(history=20))
    assert agent.weights[0] == 1.0
    agent.ask()
    assert "20 logged episodes" in left(agent, 1)


def test_somebody_may_leave_and_only_once() -> None:
    agent = agent_of(rehearsing())
    run(agent, [1], 0, 30, np.random.default_rng(0))
    assert agent.weights[0] < 0.9
    agent.leave_protocol("a valve was replaced")
    agent.leave_protocol("another reason")
    assert left(agent, 30) == "a valve was replaced"
    other = sf.CertifiedAgent(SET, trust="data", seed=1)
    other.leave_protocol("nothing to leave")
    assert other.rehearsed is None and not [event for event in other.events if event.kind == "protocol"]


def test_an_alarm_ends_everything_and_leaves_nothing() -> None:
    agent = agent_of(rehearsing(), cost_ceilings=[2.0])
    run(agent, [1], 0, 10, np.random.default_rng(0))
    agent.ask()
    agent.tell(10, 1.0, [3.5])
    assert agent.alarm is not None and agent.weights[0] == 1.0
    agent.ask(30)
    agent.leave_protocol("late")
    assert plan_of(agent).inside and agent.status().proved


def test_what_is_kept_goes_on_as_if_nothing_had_happened() -> None:
    one, two = agent_of(rehearsing(delay=4)), agent_of(rehearsing(delay=4))
    run(one, [1], 4, 25, np.random.default_rng(1))
    two.load_state_dict(one.state_dict())
    for agent in (one, two):
        for k in sorted(agent.open_episodes):
            tell(agent, [k])
        agent.ask()
        agent.ask(9)
    assert plan_of(one).left == plan_of(two).left is not None
    np.testing.assert_array_equal(one.weights, two.weights)


def test_boundaries_of_plans_are_those_of_the_planner() -> None:
    """``asked`` refuses exactly what reaches beyond the next plan time."""
    for batch in (1, 3, 10):
        plan = RehearsedPlan(rehearsing(batch=batch), SET)
        plan.follow(0)
        due = plan.planner.due
        assert due == following_time(0, batch) == batch
        assert plan.asked(0, due) is None and plan.asked(0, due + 1) is not None


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"boldness": 0.0}, "boldness"), ({"episodes": 0}, "episodes"), ({"batch": 0}, "batch"), ({"lost": 1.5}, "lost")],
)
def test_a_rung_that_makes_no_sense_is_refused(changes: dict[str, Any], name: str) -> None:
    with refused("SF-ARGUMENT-RANGE", name):
        rehearsing(**changes)


def test_a_rung_needs_its_belief() -> None:
    with refused("SF-ASSUMPTION-BELIEF", "returns"):
        sf.CertifiedAgent(replace(SET, beliefs={"all": SET.beliefs["all"]}), trust="rehearsed", rung=rehearsing(evidence="returns"))  # fmt: skip
    with refused("SF-ARGUMENT-CHOICE", "evidence"):
        rehearsing(evidence="some")
