"""Stages: a table of what leads to which, steadiness against a recount, and agents that pass through them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from surefoot.deploy import stages
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.stages import NOTICEABLE, TRIED, Standing, Steadiness, stage_name, stage_of
from surefoot.deploy.tuning import TUNING
from surefoot.policyset.schema import PolicySet
from tests.deploy.worlds import hand_made

EVERYTHING = {"compared": (3, 50), "aborted": "enough", "learned": "one cell is left"}


@pytest.mark.parametrize(
    ("standing", "name"),
    [
        (Standing(), "ramping"),
        (Standing(compared=(3, 50)), "comparing"),
        (Standing(learned="one cell is left"), "learned"),
        (Standing(aborted="enough"), "stopped"),
        (Standing(compared=(3, 50), learned="one cell is left"), "comparing"),
        (Standing(**EVERYTHING), "stopped"),
        (Standing(alarm=("monitor", "costs"), **EVERYTHING), "drifted"),
        (Standing(alarm=("ceiling", "costs"), **EVERYTHING), "stopped"),
        (Standing(alarm=("nobody listed it", "costs")), "stopped"),
    ],
)
def test_the_most_serious_decides(standing: Standing, name: str) -> None:
    assert stage_name(standing) == stage_of(standing).name == name
    assert stage_of(standing).text and stage_of(standing).until


def test_sentences_say_how_far_and_why() -> None:
    assert "13 of 50" in stage_of(Standing(compared=(13, 50))).text
    assert stage_of(Standing(compared=(13, 50))).until.startswith("37 more")
    assert "one cell is left" in stage_of(Standing(learned="one cell is left")).text
    assert "cells 3 and 4" in stage_of(Standing(next="cells 3 and 4")).until
    for found in (
        Standing(alarm=("monitor", "why it is")),
        Standing(alarm=("ceiling", "why it is")),
        Standing(aborted="why it is"),
    ):
        assert "why it is" in stage_of(found).text and "new deployment" in stage_of(found).until


def test_every_listed_alarm_ends_a_deployment() -> None:
    assert set(stages.ALARMS.values()) <= {"drifted", "stopped"}


def test_steady_means_no_noticeable_move_over_a_doubling(rng: np.random.Generator) -> None:
    """Against a recount over everything that was planned."""
    steadiness, moves, told = Steadiness(3), [np.array([1.0, 0.0, 0.0])], np.zeros(3, dtype=int)
    since_settled, since_told, seen = 0, told.copy(), set()
    for settled in range(1, 3000):
        policy = int(rng.integers(3))
        steadiness.reported(np.array([policy]))
        told[policy] += 1
        if settled < 600:
            share = 1.0 / (1.0 + 400.0 / settled)
            weights = np.array([1.0 - share, share, 0.0])
            steadiness.planned(weights, settled)
            far = np.abs(weights - moves[-1]).sum() / 2.0 / max(1.0 - weights[0], 1.0 - moves[-1][0])
            if far > NOTICEABLE:
                moves.append(weights)
                since_settled, since_told = settled, told.copy()
        for least in (0, 900):
            wanted = settled >= 2 * since_settled and settled >= 2 * least
            assert steadiness.since_settled(settled, least) is wanted
            seen.add(wanted)
        assert steadiness.since_tried(1) is bool(told[1] >= 2 * since_told[1] and told[1] >= 2 * TRIED)
    assert seen == {True, False} and len(moves) > 10


def test_small_steps_add_up() -> None:
    """A mixture that creeps is noticed, however small each step is."""
    steadiness = Steadiness(2)
    for settled in range(1, 1001):
        share = 0.5 + 0.0002 * settled
        steadiness.planned(np.array([1.0 - share, share]), settled)
    assert not steadiness.since_settled(1000, 0)


# ---------------------------------------------------------------------------------------------------------------- agents


def world(**parts: Any) -> PolicySet:
    """Three cells: policy k + 1 is good in cell k and costly elsewhere."""
    own = np.eye(3, dtype=bool)
    reward, cost = np.full((3, 4), 3.0), np.full((3, 4), 1.6)
    reward[:, 1:][own], cost[:, 1:][own] = [6.0, 6.5, 7.0], 0.7
    reward[:, 0], cost[:, 0] = 2.0, 0.3
    return hand_made(reward, cost[:, :, None], width=0.15, limits=(1.0,), ceilings=(4.0,), margin=0.6, **parts)


def live(
    agent: CertifiedAgent, episodes: int, rng: np.random.Generator, cost: float = 1.0, batch: int = 1
) -> list[str]:
    """The stages that an agent goes through where the last cell is the truth, its costs times ``cost``."""
    predictions, seen = world().cells.predictions, [agent.stage.name]
    for _ in range(episodes // batch):
        asked = agent.ask(batch)
        j = asked.policy_index
        value = np.minimum(cost * predictions.cost_center[-1, j, 0] * rng.uniform(0.5, 1.5, batch), 3.99)
        agent.tell(asked.ids, predictions.reward_center[-1, j] + rng.uniform(-0.5, 0.5, batch), value[:, None])
        if agent.stage.name != seen[-1]:
            seen.append(agent.stage.name)
    return seen


def noted(agent: CertifiedAgent) -> list[str]:
    return [event.text.partition(":")[0] for event in agent.events if event.kind == "stage"]


def test_cells_are_compared_ramp_up_and_are_learned_when_one_is_left(rng: np.random.Generator) -> None:
    agent = CertifiedAgent(world(), ramp=10, seed=1)
    assert live(agent, 300, rng) == ["comparing", "ramping", "learned"]
    assert noted(agent) == ["ramping", "learned"]
    assert agent.status().cells_left == 1 and "one cell" in agent.stage.text
    assert "stage: learned" in agent.status().text
    assert CertifiedAgent(world(), ramp=0).stage.name == "ramping"


def test_cells_that_cannot_be_told_apart_are_learned_when_the_mixture_is_steady(rng: np.random.Generator) -> None:
    """Two cells alike stay for good; the agent itself waits for ``stalled`` episodes before it tries harder."""
    one = world()
    last, cells = [2, 2, 2], one.cells
    alike = hand_made(
        cells.predictions.reward_center[last], cells.predictions.cost_center[last], width=0.15, limits=(1.0,), ceilings=(4.0,), margin=0.6,
        own=np.array([3, 3, 3]),
    )  # fmt: skip
    agent = CertifiedAgent(alike, ramp=0, seed=1)
    predictions = alike.cells.predictions
    changed = 0
    while agent.stage.name == "ramping" and changed < 12:
        batch = agent.ask(1000)
        noise = rng.uniform(-0.1, 0.1, 1000)
        j = batch.policy_index
        agent.tell(
            batch.ids, predictions.reward_center[-1, j] + noise, (predictions.cost_center[-1, j, 0] + noise)[:, None]
        )
        changed += 1
    assert changed == 2 * TUNING.stalled / 1000
    assert agent.status().cells_left == 3 and "steady" in agent.stage.text


@pytest.mark.parametrize("trust", ["data", "envelope"])
def test_a_target_is_learned_when_it_is_proved_and_not_because_nothing_moves(
    trust: str, rng: np.random.Generator
) -> None:
    agent = CertifiedAgent(world(), trust=trust, ramp=0, seed=1)
    for _ in range(60):
        live(agent, 100, rng, batch=10)
        proved = agent.bounds[3, 0] <= 1.0
        steady = agent._steadiness.since_tried(3)
        assert (agent.stage.name == "learned") is bool(proved or steady)
        if not proved:
            assert agent._steadiness.told[3] >= 2 * TRIED or agent.stage.name == "ramping"
    assert agent.stage.name == "learned" and "policy 3" in agent.stage.text


def test_a_plant_that_costs_more_drifts_or_stops_by_what_found_it(rng: np.random.Generator) -> None:
    watched = CertifiedAgent(world(), trust="data", ramp=0, seed=1)
    assert live(watched, 400, rng, cost=6.0)[-1] == "drifted"
    assert "real costs" in watched.stage.text and watched.status().alarm is not None
    assert noted(watched)[-1] == "drifted" and noted(watched).count("drifted") == 1
    above = CertifiedAgent(world(), ramp=10, seed=1)
    above.tell(above.ask().id, 2.0, [4.5])
    assert above.stage.name == "stopped" and noted(above) == ["stopped"]
    elsewhere = CertifiedAgent(world(), ramp=10, seed=1)
    assert live(elsewhere, 300, rng, cost=3.0)[-1] == "stopped"
    assert "simulation" in elsewhere.stage.text


def test_an_agent_that_is_put_aside_keeps_its_stage(rng: np.random.Generator) -> None:
    agent, twin = (CertifiedAgent(world(), ramp=10, seed=1) for _ in range(2))
    live(agent, 120, rng)
    twin.load_state_dict(agent.state_dict())
    assert twin.stage == agent.stage and noted(twin) == noted(agent)
    seeds = [np.random.default_rng(5) for _ in range(2)]
    assert live(agent, 150, seeds[0]) == live(twin, 150, seeds[1])
