"""One episode of a plant becomes one report, the one that simulation would have made."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.criterion import Criterion
from surefoot.errors import SimulationError
from surefoot.gym.adapters import tabular_env
from surefoot.gym.episode import EpisodeReport, run_episode
from surefoot.gym.family import Signal
from surefoot.gym.rollout import chance, rollout
from tests.gym.test_adapters import Six
from tests.gym.test_deployed import Counting
from tests.gym.test_pipeline import LIBRARY, trained
from tests.gym.test_rollout import change
from tests.gym.toys import CRITERION, DISCOUNT, HORIZON, MEAN_COIN, WEIGHT, Coins, Constant, Noisy, coins, make
from tests.refusals import refused

SIGNALS = (
    MEAN_COIN,
    Signal("sum", 0.0, 9.0, lambda o, a, n, r, i: r, "sum"),
    Signal("last", 0.0, 1.0, lambda o, a, n, r, i: n[0], "last"),
    Signal("max", 0.0, 1.0, lambda o, a, n, r, i: o[1], "max"),
)
FAMILY = coins(signals=SIGNALS)


def ticket(policy: Any, number: int = 0) -> Any:
    return SimpleNamespace(id=number, policy=policy)


class Seeded(Coins):
    """Takes the seeds that simulation would have given."""

    def __init__(self, gain: float, number: int) -> None:
        super().__init__(gain)
        self.number = number

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        assert seed is None
        return super().reset(seed=chance([7], (0, 0, self.number))[0])


def test_a_report_is_what_simulation_measures() -> None:
    (simulated,) = rollout(FAMILY, [0.5], [Constant(0.6)], episodes=6, seed=7)
    for k in range(6):
        found = run_episode(Seeded(0.5, k), ticket(Constant(0.6), k), FAMILY)
        np.testing.assert_allclose(
            np.concatenate([[found.reward], found.costs, found.signals]), simulated.outcomes()[k], rtol=1e-12
        )
        assert (found.id, found.steps, found.initial_state, found.transitions) == (k, HORIZON, None, None)
    bare = run_episode(Seeded(0.5, 5), ticket(Constant(0.6), 5), CRITERION)
    assert (bare.reward, bare.signals) == (found.reward, None) and (bare.costs == found.costs).all()


def test_seed_and_id_decide_an_episode_and_that_of_a_policy_that_draws() -> None:
    def run(seed: int | None, number: int) -> float:
        return run_episode(make([0.5]), ticket(Noisy(), number), FAMILY, seed=seed).reward

    assert run(3, 0) == run(3, 0) and len({run(3, 0), run(3, 1), run(4, 0)}) == 3
    assert len({run(None, 0) for _ in range(40)}) > 1
    with refused("SF-ARGUMENT-RANGE", "seed", "0"):
        run(-1, 0)


def test_costs_come_from_where_simulation_takes_them() -> None:
    priced = coins(cost=lambda o, a, n, info: 0.25)
    assert run_episode(make([0.5]), ticket(Constant(1.0)), priced).costs == pytest.approx([0.25 * WEIGHT])
    six = run_episode(Six(0.5), ticket(Constant(1.0)), CRITERION, seed=1)
    five = run_episode(Coins(0.5), ticket(Constant(1.0)), CRITERION, seed=1)
    assert (six.reward, six.costs.tolist()) == (five.reward, five.costs.tolist())


def test_an_end_of_its_own_is_an_end_and_a_cut_is_none() -> None:
    early = run_episode(change(terminated=True)([0.5]), ticket(Constant(0.0)), CRITERION, seed=1)
    assert early.steps == 3 and early.reward == pytest.approx(0.3 * (1 + DISCOUNT + DISCOUNT**2))
    with refused("SF-SIMULATION-END", "truncated", "4", "it after 3 steps (episode 0, step 3)"):
        run_episode(change(truncated=True)([0.5]), ticket(Constant(0.0)), CRITERION, seed=1)


def test_without_a_horizon_what_is_cut_off_counts_as_the_worst() -> None:
    rule = Criterion(DISCOUNT, [3.0], (-1.0, 1.0), [2.0])
    found = run_episode(make([0.5]), ticket(Constant(0.0)), rule, steps=3)
    tail = DISCOUNT**3 / (1 - DISCOUNT)
    assert found.reward == pytest.approx(0.3 * (1 + DISCOUNT + DISCOUNT**2) - tail)
    assert found.costs == pytest.approx([2.0 * tail])
    ended = run_episode(change(terminated=True)([0.5]), ticket(Constant(0.0)), rule, steps=30)
    assert ended.costs == pytest.approx([0.0])
    for criterion, steps in ((rule, None), (CRITERION, 3)):
        with refused("SF-ARGUMENT-COMBINATION", "steps"):
            run_episode(make([0.5]), ticket(Constant(0.0)), criterion, steps=steps)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reward": float("nan")}, "reward must hold 1 finite numbers, got nan (episode 4, step 2); do not report this episode"),
        ({"info": {"cost": float("inf")}}, "cost must hold 1 finite numbers, got inf"),
        ({"info": {"cost": [0.1, 0.2]}}, "cost must hold 1 finite numbers, got [0.1, 0.2]"),
        ({"info": {"cost": "low"}}, "cost must hold 1 finite numbers, got 'low'"),
        ({"info": {}}, 'cost must be in info["cost"], or the third entry of a step of six, got nothing'),
        ({"step": None}, "step must return five entries, or six with the cost after the reward, got None"),
        ({"reset": 5}, "reset must not raise, got TypeError"),
    ],
)  # fmt: skip
def test_nothing_doubtful_is_reported(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SimulationError) as caught:
        run_episode(change(**fields)([0.5]), ticket(Constant(0.5), 4), CRITERION)
    assert message in str(caught.value)


def test_a_signal_that_is_no_number_and_a_policy_that_raises_are_named() -> None:
    family = coins(signals=(Signal("odd", 0.0, 1.0, lambda o, a, n, r, i: float("nan")),))
    with refused("SF-SIMULATION-FINITE", "'odd'", "nan"):
        run_episode(make([0.5]), ticket(Constant(0.5)), family)
    with refused("SF-SIMULATION-RAISED", "policy", "ZeroDivisionError"):
        run_episode(make([0.5]), ticket(SimpleNamespace(predict=lambda o: 1 / 0)), CRITERION)


def test_finite_plants_report_states_and_transitions(gridworld_set: sf.PolicySet) -> None:
    cmdp = sf.tasks.NoisyGridworld().cmdp([0.3])
    agent = sf.CertifiedAgent(gridworld_set, trust="cells", p_max=0.9, seed=0)
    plain = sf.CertifiedAgent(gridworld_set, trust="cells", p_max=0.9, evidence="returns", seed=0)
    for told in (agent, plain):
        for _ in range(5):
            found = run_episode(tabular_env(cmdp), told.ask(), cmdp_rule(gridworld_set), seed=1, **cut(gridworld_set))
            assert found.transitions is not None and found.transitions[:, 3].sum() == found.steps
            assert found.initial_state is not None and cmdp.start[found.initial_state] > 0
            ends = found.transitions[:, 2]
            # A path: as many arrivals as departures everywhere, but for the first state and the last.
            flow = np.zeros(cmdp.n_states)
            np.add.at(flow, found.transitions[:, 0], found.transitions[:, 3])
            np.add.at(flow, ends, -found.transitions[:, 3])
            assert flow.sum() == 0 and np.abs(flow).sum() in (0, 2)
            found.tell(told)
        assert told.status().episodes == 5 and told.alarm is None


def cmdp_rule(policy_set: sf.PolicySet) -> Criterion:
    return policy_set.criterion


def cut(policy_set: sf.PolicySet) -> dict[str, Any]:
    return {"steps": 200} if policy_set.criterion.horizon is None else {}


def test_from_ticket_to_a_verified_journal(tmp_path: Path) -> None:
    found = trained(coins(signals=(MEAN_COIN,)), library=[LIBRARY[0], *LIBRARY[1:]], holdout=0)
    with sf.Deployment.open(tmp_path / "plant.db", found, trust="envelope", evidence="returns") as plant:
        for _ in range(12):
            report = run_episode(make([0.5]), plant.ask(), coins(signals=(MEAN_COIN,)), seed=2)
            assert isinstance(report, EpisodeReport) and not report.tell(plant)
        assert plant.status().episodes == 12 and plant.status().pending == 0 and plant.verify().ok


def test_a_controller_with_a_memory_starts_afresh_with_every_ticket() -> None:
    found = trained(library=[LIBRARY[0], Counting()], holdout=0)
    agent = sf.CertifiedAgent(found, trust="envelope", evidence="returns", ramp=0, seed=1)
    family = coins(signals=(Signal("last action", 0.0, 1.0, lambda o, a, n, r, i: float(a[0]), "last"),))
    drawn = [e for e in agent.ask(300) if e.policy_index == 1][:4]
    assert len(drawn) == 4
    for episode in drawn:
        signals = run_episode(make([0.5]), episode, family).signals
        assert signals is not None and signals == pytest.approx([0.1 * HORIZON])
