"""Logged episodes: they count as if they had been asked and told, everywhere but in the monitor; what makes them invalid and can be seen is said."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surefoot import PolicySet
from surefoot.arrays import FloatArray
from surefoot.deploy.bounds import CostBounds
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.history import FIRST_BLOCK, FRACTIONS, LEVEL, SHIFTED, LogCheck, blocks
from surefoot.deploy.report import Report
from surefoot.policyset.schema import Certificate
from tests.deploy.worlds import hand_made
from tests.journal.plants import Plant, small_set
from tests.refusals import refused

TRUSTS = ("cells", "envelope", "data")
SETS = {
    "returns": small_set(),
    "signals": small_set(signals=True),
    "states": small_set(states=True),
    "all": small_set(kernel=True, states=True, signals=True),
}


def agent(policy_set: PolicySet, trust: str = "data", **options: Any) -> CertifiedAgent:
    return CertifiedAgent(policy_set, trust=trust, **{"ramp": 0, **options})


def log(policy_set: PolicySet, n: int, *, seed: int = 5) -> dict[str, Any]:
    found = Plant(policy_set, seed=seed).batch(list(range(n)), [0] * n)
    del found["ids"]
    return found


def cut(given: dict[str, Any], which: slice) -> dict[str, Any]:
    return {name: value[which] for name, value in given.items()}


# ------------------------------------------------------------------------------------------------------------ what counts


@pytest.mark.parametrize("trust", TRUSTS)
@pytest.mark.parametrize("kind", ["returns", "signals", "states"])
def test_a_log_counts_as_if_its_episodes_had_been_asked_and_told(trust: str, kind: str) -> None:
    """Block by block, by hand; before a target is chosen only the safe policy is played, so the hand can."""
    policy_set, n = SETS[kind], 400
    given = log(policy_set, n)
    one, by_hand = (
        agent(policy_set, trust, margin=0.05, cost_ceilings=[4.0], ramp=100 if trust != "data" else 0) for _ in range(2)
    )
    fresh = agent(policy_set, trust, cost_ceilings=[4.0])
    one.recall(**given)
    first = 0
    while first < n:
        stop = min(n, 2 * first or FIRST_BLOCK)
        ids = np.arange(first, stop)
        by_hand._bounds.asked(ids, np.zeros(ids.size, dtype=np.int64))
        by_hand._bounds.told(ids, np.zeros(ids.size, dtype=np.int64), np.array(given["costs"][first:stop]))
        report = by_hand._tracker.logged(Report.logged(**{**EMPTY, **cut(given, slice(first, stop))}, n_constraints=1))
        if trust != "data":
            by_hand._evidence.settle(report, [(by_hand._evidence.bets(), np.arange(ids.size))])
            by_hand._reality.settle([report], [])
        by_hand._learn(report)
        first = stop
    by_hand._log.add(np.column_stack([given["reward"], given["costs"]]))
    by_hand._review(logged=True)
    assert np.array_equal(one.weights, by_hand.weights)
    assert np.array_equal(one.bounds, by_hand.bounds)
    assert one.bounds[0, 0] < 0.9 and np.array_equal(one.bounds[1:], fresh.bounds[1:])
    assert np.array_equal(one._evidence.log_wealth(), by_hand._evidence.log_wealth())
    assert any(np.abs(part).max() > 1e-9 for part in one._evidence.parts().values()) == (trust != "data")
    if trust != "data":
        assert one._reality.ramp is not None and by_hand._reality.ramp is not None
        assert one._reality.ramp.compared == n and one._reality.ramp.log_wealth == by_hand._reality.ramp.log_wealth
    if one._objective.posterior is not None and by_hand._objective.posterior is not None:
        assert np.array_equal(one._objective.posterior.posterior(), by_hand._objective.posterior.posterior())
    assert not one._monitor._log_wealth.any() and one.logged == n and one.status().logged == n
    assert "400 logged" in one.status().text and "logged" not in agent(policy_set, trust).status().text


EMPTY: dict[str, Any] = {"initial_state": None, "transitions": None, "signals": None}


@pytest.mark.parametrize("trust", ["envelope", "data"])
def test_a_target_is_chosen_from_the_log_and_proved_from_what_is_asked_later(trust: str) -> None:
    policy_set = SETS["returns"]
    one = agent(policy_set, trust)
    one.recall(**log(policy_set, 10))
    assert one._objective.target == 0  # too early to look
    one.recall(**log(policy_set, 600, seed=6))
    target = one._objective.target
    assert target and one.logged == 610 and "target" in {event.kind for event in one.events}
    assert one.bounds[target, 0] == agent(policy_set, trust).bounds[target, 0]
    assert one._bounds._streams == [0, target] and one._bounds._since == [0, 0]
    assert one._bounds._processes[0].counts.tolist() == [610, 0]


def test_the_ramp_counts_the_log() -> None:
    policy_set = SETS["returns"]
    one = agent(policy_set, "cells", ramp=50)
    one.recall(**log(policy_set, 49))
    assert one.ramping and one.weights[0] == 1.0
    one.recall(**log(policy_set, 1, seed=9))
    assert not one.ramping and one.weights[0] < 1.0 and "ramp" in {event.kind for event in one.events}


def test_a_log_that_simulation_cannot_explain_alarms() -> None:
    policy_set = SETS["returns"]
    one = agent(policy_set, "envelope", ramp=50)
    strange = log(policy_set, 300)
    one.recall(np.array(strange["reward"]) + 4.0, strange["costs"])
    assert one.alarm is not None and one.weights[0] == 1.0
    assert one._reality.ramp is not None and "simulation" in str(one._reality.ramp.alarm())


def test_what_a_log_lacks_forfeits_nothing() -> None:
    """Logs of returns and costs alone: evidence that wants more stands still, and starts with the first report."""
    policy_set = SETS["all"]
    bare, fresh = (agent(policy_set, "cells", ramp=10) for _ in range(2))
    given = log(policy_set, 100)
    bare.recall(given["reward"], given["costs"])
    assert not any(np.abs(part).max() > 1e-9 for part in bare._evidence.parts().values()) and not bare.ramping
    assert {"lacks transitions", "lacks signals", "lacks initial_state, signals"} <= {
        note.split(":")[0].removeprefix("the log ") for note in bare.notes
    }
    given_first, extra = bare._reality.ramp._given, bare._reality.ramp._extra  # type: ignore[union-attr]
    assert given_first is not None and extra is not None and given_first.lost == extra.lost == 0
    for one in (bare, fresh):
        asked, truth = one.ask(30), Plant(policy_set)
        one.tell(**truth.batch(asked.ids.tolist(), asked.policy_index.tolist()))
    wealth = bare._evidence.log_wealth()
    assert not bare._evidence.kinds["transitions"].forfeited and np.isfinite(wealth).all() and (wealth != 0.0).any()
    assert bare._evidence.parts().keys() == fresh._evidence.parts().keys()
    # All of it given, every kind moves but the joint bets, which stand by where transitions are reported.
    whole = agent(policy_set, "cells", ramp=10)
    whole.recall(**given)
    moved = {name for name, part in whole._evidence.parts().items() if np.abs(part).max() > 1e-9}
    assert moved == {"transitions", "separate"} and not whole._evidence.notes


def test_later_blocks_are_bet_on_jointly() -> None:
    reward, shift = np.array([[1.0, 4.0], [3.0, 4.0]]), np.array([-0.1, 0.1])
    cost = np.full((2, 2, 1), 0.5)
    policy_set = hand_made(reward, cost, width=0.3, by_state=(reward[..., None] + shift, cost[..., None] + shift))
    rng = np.random.default_rng(0)
    given = {
        "reward": rng.uniform(2.0, 4.0, 80),
        "costs": rng.uniform(0.0, 1.0, (80, 1)),
        "initial_state": rng.integers(0, 2, 80),
    }
    one, two = (agent(policy_set, "envelope", evidence="returns") for _ in range(2))
    one.recall(**cut(given, slice(FIRST_BLOCK)))
    assert not one._evidence.parts()["joint"].any()  # the first report says what is told
    two.recall(**given)
    assert two._evidence.parts()["joint"][0] > 1.0 > two._evidence.parts()["joint"][1]


def test_a_log_is_cut_where_bets_look_at_it_again() -> None:
    report = Report.logged(np.arange(50.0), np.arange(50.0)[:, None], np.arange(50), None, np.ones((50, 1)), 1)
    parts = blocks(
        agent(SETS["returns"])._tracker.logged(Report(**{**vars_of(report), "signals": None, "initial_state": None}))
    )
    assert [part.ids.size for part in parts] == [10, 10, 20, 10]
    assert np.array_equal(np.concatenate([part.costs for part in parts]), report.costs)
    whole = Report.logged(np.zeros(50), np.zeros((50, 1)), None, [[0, 0, 1, 3]], None, 1)
    assert len(blocks(whole)) == 1


def vars_of(report: Report) -> dict[str, Any]:
    return {
        name: getattr(report, name) for name in ("ids", "reward", "costs", "initial_state", "transitions", "signals")
    }


# ------------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("trust", TRUSTS)
def test_logs_come_before_the_first_ask_and_must_be_possible(trust: str) -> None:
    policy_set = SETS["returns"]
    one = agent(policy_set, trust)
    given = log(policy_set, 5)
    with refused("SF-REPORT-FINITE", "costs"):
        one.recall(given["reward"], [[math.nan]] * 5)
    with refused("SF-REPORT-RANGE", "costs"):
        one.recall(given["reward"], [[-1.0]] * 5)
    with refused("SF-REPORT-SHAPE", "costs"):
        one.recall(given["reward"], [[0.1, 0.1]] * 5)
    with refused("SF-REPORT-SHAPE", "reward"):
        one.recall([], [])
    assert one.logged == 0 and np.array_equal(one.bounds, agent(policy_set, trust).bounds)
    one.recall(**given)
    one.ask()
    with refused("SF-CONFLICT-HISTORY", "recall", "1", "5"):
        one.recall(**given)
    assert one.logged == 5


@pytest.mark.parametrize("trust", TRUSTS)
def test_a_logged_cost_above_its_ceiling_alarms(trust: str) -> None:
    one = agent(SETS["returns"], trust, cost_ceilings=[4.0])
    one.recall([2.0, 2.0], [[0.3], [4.1]])
    assert "ceiling" in str(one.alarm) and one.weights[0] == 1.0
    two = agent(SETS["returns"], trust, cost_ceilings=[4.0])
    two.recall([2.0, 2.0], [[0.3], [4.0]])
    assert two.alarm is None


# ------------------------------------------------------------------------------------------------------------ the bounds


@pytest.mark.statistical
@pytest.mark.parametrize("selected", [False, True])
def test_bounds_with_a_log_cover_the_real_costs(selected: bool) -> None:
    """Two-point costs; the mean is exceeded at some time, from the first logged episode to the last one told, in at most delta of the runs."""
    rng, delta, mean, failures, runs = np.random.default_rng(3), 0.1, 1.0, 0, 400
    for _ in range(runs):
        start = np.array([[9.0], [9.0]])
        bounds = CostBounds(start, np.array([9.0]), np.array([1.5]), delta, selected=selected)
        if selected:
            bounds.select(0, 0)
        paths = []
        for part in (10, 30, 60):
            bounds.recalled(two_values(part, mean, rng))
            paths.append(bounds.values[0, 0])
        for first in range(0, 100, 20):
            ids = np.arange(first, first + 20)
            bounds.asked(ids, ids * 0)
            bounds.told(ids, ids * 0, two_values(20, mean, rng))
            paths.append(bounds.values[0, 0])
        failures += min(paths) < mean
        assert paths == sorted(paths, reverse=True) and bounds.values[1, 0] == 9.0
    assert failures <= runs * delta + 3 * math.sqrt(runs * delta)
    assert failures > 0 or selected  # and not for want of trying


def two_values(n: int, mean: float, rng: np.random.Generator) -> FloatArray:
    return np.where(rng.random((n, 1)) < mean / 9.0, 9.0, 0.0)


def test_a_log_makes_the_bound_of_the_safe_policy_fall_as_told_episodes_do() -> None:
    """Against a second object that is asked and told the same costs."""
    rng = np.random.default_rng(0)
    for selected in (False, True):
        pair = [
            CostBounds(np.array([[4.0, 3.0]] * 3), np.array([4.0, 3.0]), np.array([1.0, 1.0]), 0.05, selected=selected)
            for _ in range(2)
        ]
        for one in pair if selected else ():
            one.select(0, 0)
        costs = rng.uniform(0.0, 1.0, (50, 2))
        ids = np.arange(50)
        assert pair[0].recalled(costs)
        pair[1].asked(ids, ids * 0)
        assert pair[1].told(ids, ids * 0, costs)
        assert np.array_equal(pair[0].values, pair[1].values) and (pair[0].values[0] < [4.0, 3.0]).all()
        assert not pair[0].recalled(np.array([[4.0, 3.0]]))


@pytest.mark.statistical
def test_a_log_rejects_the_true_cell_as_rarely_as_stated() -> None:
    """The truth lies in the corner of its cell's box that is nearest to the other cells; costs and returns are correlated."""
    reward, cost = np.array([[3.0, 4.0], [3.6, 4.0], [4.2, 4.0]]), np.array([[0.5, 0.9], [0.7, 0.9], [0.9, 0.9]])
    policy_set = hand_made(reward, cost[:, :, None], width=0.1, limits=(1.5,), ceilings=(2.0,))
    policy_set = replace(policy_set, certificate=Certificate(400, 0, 0.01, 0, 0.01, 0.05))
    rng, delta, runs, gone, others = np.random.default_rng(8), 0.1, 200, 0, 0
    for _ in range(runs):
        one = agent(policy_set, "cells", evidence="returns", delta=delta)
        bad = rng.random(250) < 0.8 / 2.0  # mean cost .8, the upper end of cell 1
        one.recall(np.where(bad, 3.7 + 0.6 * 1.2, 3.7 - 0.4 * 1.2), np.where(bad, 2.0, 0.0)[:, None])
        gone += not one.active[1]
        others += not one.active[0]
    assert gone <= runs * delta + 3 * math.sqrt(runs * delta)
    assert others > 0.5 * runs


# ------------------------------------------------------------------------------------------------------------ stationarity


def plain_wealth(outcomes: FloatArray) -> float:
    """The largest average wealth, by products and sums of plain numbers."""
    half, outcomes_ = len(outcomes) // 2, outcomes.T.tolist()
    wealth = {(f, s, c): 1.0 for f in range(len(outcomes_)) for s in (1, -1) for c in FRACTIONS}
    seen: list[list[float]] = [[] for _ in outcomes_]
    top = 1.0
    for k in range(half):
        for f, x in enumerate(outcomes_):
            gap = x[k + half] - x[k]
            usual = sum(seen[f]) / len(seen[f]) if seen[f] else 0.0
            gain = gap / (abs(gap) + usual) if gap else 0.0
            seen[f].append(abs(gap))
            for s in (1, -1):
                for c in FRACTIONS:
                    wealth[f, s, c] *= 1.0 + s * c * gain
        top = max(top, sum(wealth.values()) / len(wealth))
    return top


def test_the_check_is_the_product_it_says() -> None:
    rng = np.random.default_rng(1)
    for n in (2, 3, 41):
        outcomes = np.column_stack([rng.normal(size=n), rng.integers(0, 2, n)]) + np.arange(n)[:, None] / n
        check = LogCheck(("the return", "cost c"))
        check.add(outcomes)
        assert check.peak == pytest.approx(math.log(plain_wealth(outcomes)), rel=1e-12) and check.count == n
    check = LogCheck(("the return", "cost c"))
    assert check.add(np.ones((1, 2))) is None and check.add(np.ones((8, 2))) is None and check.peak == 0.0


def test_logs_given_in_parts_are_one_process() -> None:
    rng = np.random.default_rng(2)
    check, parts = (
        LogCheck(("the return",)),
        [rng.normal(size=(20, 1)) + np.repeat([0.0, 0.5], 10)[:, None] for _ in range(12)],
    )
    said = [check.add(part) for part in parts]
    warned = [text for text in said if text is not None]
    assert len(warned) == 1 and SHIFTED in warned[0] and check.shifted
    assert check.peak >= -math.log(LEVEL) > max(peak_of(part) for part in parts)


def peak_of(part: FloatArray) -> float:
    check = LogCheck(("the return",))
    check.add(part)
    return check.peak


@pytest.mark.statistical
def test_a_stationary_log_is_warned_of_as_rarely_as_stated_and_a_shift_is_found() -> None:
    rng, runs, false, found = np.random.default_rng(4), 2000, 0, 0
    for _ in range(runs):
        log_ = np.column_stack([rng.gamma(0.5, size=60), rng.integers(0, 2, 60)])
        false += LogCheck(("the return", "cost c")).add(log_) is not None
    assert false <= runs * LEVEL + 3 * math.sqrt(runs * LEVEL)
    for _ in range(100):
        log_ = rng.normal(size=(90, 2))
        log_[45:, 1] += 1.0  # one standard deviation, on 90 days
        found += "cost c" in str(LogCheck(("the return", "cost c")).add(log_))
    assert found > 50


def test_a_log_that_drifts_is_said_in_the_status_and_decides_nothing() -> None:
    policy_set = SETS["returns"]
    one, steady = agent(policy_set), agent(policy_set)
    given = log(policy_set, 90)
    order = np.argsort(np.array(given["costs"])[:, 0], kind="stable")
    one.recall(np.array(given["reward"]), np.array(given["costs"])[order])
    steady.recall(**given)
    assert any(SHIFTED in note and "cost" in note for note in one.status().notes) and one.alarm is None
    assert not any(SHIFTED in note for note in steady.status().notes)
