"""Ceilings of each policy: who may cost how much, and what is known before anything is played."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot import CertifiedAgent, PolicySet
from surefoot.journal import Deployment
from tests.cli.running import run
from tests.journal.plants import Plant, drive, open_plant, small_set
from tests.refusals import refused

OWN = [[0.8], [4.0], [4.0], [1.5]]


@pytest.fixture(scope="module")
def few() -> PolicySet:
    return small_set()


@pytest.mark.parametrize("trust", ["data", "envelope", "cells"])
@pytest.mark.parametrize("joint", [True, False])
def test_no_policy_costs_more_than_its_own_ceiling(few: PolicySet, trust: Any, joint: bool) -> None:
    agent = CertifiedAgent(few, trust=trust, seed=0, cost_ceilings=OWN, joint_bounds=joint)
    assert (agent.bounds <= np.array(OWN)).all()


def test_an_episode_above_the_ceiling_of_its_own_policy_raises_the_alarm(few: PolicySet) -> None:
    agent = CertifiedAgent(few, trust="data", seed=0, cost_ceilings=OWN)
    for _ in range(20):
        ticket = agent.ask()
        assert ticket.policy_index in (0, 3)
        agent.tell(ticket.id, 2.0, [0.8 if ticket.policy_index == 0 else 1.5])
    assert agent.alarm is None
    ticket = next(asked for asked in iter(agent.ask, None) if asked.policy_index == 0)
    agent.tell(ticket.id, 2.0, [0.9])
    assert agent.alarm is not None and "0.9" in agent.alarm and "ceiling 0.8" in agent.alarm
    other = CertifiedAgent(few, trust="data", seed=0, cost_ceilings=[4.0])
    assert other.weights[0] > 0.8
    other.tell(other.ask().id, 2.0, [0.9])
    assert other.alarm is None


def test_a_target_with_a_low_ceiling_is_proved_sooner(few: PolicySet) -> None:
    truth, bounds = Plant(few), []
    for ceilings in ([4.0], [[4.0], [4.0], [4.0], [1.5]]):
        agent = CertifiedAgent(few, trust="data", seed=0, cost_ceilings=ceilings, ramp=0)
        for _ in range(100):
            ticket = agent.ask()
            agent.tell(ticket.id, **truth.report(ticket.id, ticket.policy_index))
        assert agent.alarm is None
        bounds.append(float(agent.bounds[3, 0]))
    assert bounds[1] < 0.9 * bounds[0]


def test_a_deployment_keeps_them_and_passes_its_audit(tmp_path: Path, few: PolicySet) -> None:
    with open_plant(tmp_path / "plant.db", few, trust="data", cost_ceilings=OWN) as plant:
        drive(plant, Plant(few), 120)
        (opened,) = (event for event in plant.events() if event.kind == "opened")
        assert opened.body["cost_ceilings"] == [4.0]  # of any policy
        assert opened.body["settings"]["cost_ceilings"] == OWN
        weights = plant.status().weights
    with Deployment.open(tmp_path / "plant.db", few) as plant:
        assert plant.status().weights == weights
        assert plant.verify().ok
    with refused("SF-SETTINGS-CHANGED", "cost_ceilings"):
        Deployment.open(tmp_path / "plant.db", few, cost_ceilings=[4.0])


@pytest.mark.parametrize("wrong", [[[4.0], [4.0]], [[4.0, 4.0]] * 4])
def test_one_row_for_each_policy_is_wanted(few: PolicySet, wrong: Any) -> None:
    with refused("SF-ARGUMENT-SHAPE", "cost_ceilings"):
        CertifiedAgent(few, trust="data", seed=0, cost_ceilings=wrong)


def test_none_may_be_zero(few: PolicySet) -> None:
    with refused("SF-ARGUMENT-RANGE", "cost_ceilings"):
        CertifiedAgent(few, trust="data", seed=0, cost_ceilings=[[0.0], [4.0], [4.0], [4.0]])


def test_the_command_line_takes_them_by_policy(
    tmp_path: Path, few: PolicySet, capsys: pytest.CaptureFixture[str]
) -> None:
    few.save(tmp_path / "set.sf")
    given = ["--policy-set", str(tmp_path / "set.sf"), "--trust", "data"]
    url, own = str(tmp_path / "plant.db"), ["--policy-ceiling", "0:0.8", "--policy-ceiling", "3:1.5"]
    done = run(["deploy", "open", url, *given, "--cost-ceiling", "4", *own], capsys)
    assert done.status == 0, done.err
    with Deployment.open(url) as plant:
        assert plant.settings.cost_ceilings == ((0.8,), (4.0,), (4.0,), (1.5,))
    for wrong, said in (
        (own, "give --cost-ceiling"),
        (["--cost-ceiling", "4", "--policy-ceiling", "4:1"], "from 0 to 3"),
        (["--cost-ceiling", "4", "--policy-ceiling", "3:1,2"], "1 cost(s)"),
        (["--cost-ceiling", "4", "--policy-ceiling", "x"], "'x'"),
    ):
        done = run(["deploy", "open", str(tmp_path / "other.db"), *given, *wrong], capsys)
        assert done.status == 2 and said in done.err
    done = run(["deploy", "open", url, "--cost-ceiling", "4", *own], capsys)
    assert done.status == 2 and "--policy-set" in done.err
    few_runs = ["--runs", "1", "--episodes", "50", "--trust", "data", "--cost-ceiling", "4"]
    done = run(["plan", str(tmp_path / "set.sf"), *few_runs, *own], capsys)
    assert done.status == 0, done.err
