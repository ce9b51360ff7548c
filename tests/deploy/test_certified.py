"""The certified agent: what it refuses, what it survives, that late and lost reports change nothing but speed, and that it is safe and learns."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from surefoot import AssumptionError, InvalidReport, PolicySet, evaluate_many, train
from surefoot.arrays import FloatArray
from surefoot.cmdp.model import TabularCMDP
from surefoot.deploy import reorder
from surefoot.deploy.bounds import ProductRegion
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.objective import promises
from surefoot.deploy.planner import largest_weight, verify
from surefoot.deploy.trust import BOUNDS_SHARE, trust_level
from surefoot.deploy.tuning import TUNING
from surefoot.policyset.schema import AssumptionReport, Certificate, Look, SignalPredictions
from surefoot.stats.binomial import clopper_pearson_upper, rate_test, trials_without_failure
from surefoot.tasks import NoisyGridworld
from tests.deploy.worlds import Valves, hand_made, play_batches
from tests.refusals import refused

TRUSTS = ("cells", "envelope", "data")
LIMIT, CEILING, MARGIN = 1.5, 10.0, 0.5
KAPPA = trust_level("cells").exploration


def three_cells(**parts: Any) -> PolicySet:
    """Policy 0 is safe; policies 1 to 3 earn more the more they cost, and cost more in every next cell."""
    reward = np.array([[3.0, 4.0, 5.0, 6.0]] * 3) + np.array([[0.3], [0.2], [0.1]])
    cost = np.array([[1.0, 1.2, 1.3, 1.4], [1.0, 1.3, 1.6, 2.0], [1.0, 1.4, 2.0, 3.0]])[:, :, None]
    return hand_made(reward, cost, width=0.05, margin=MARGIN, limits=(LIMIT,), ceilings=(CEILING,), **parts)


def agent(policy_set: PolicySet | None = None, **options: Any) -> CertifiedAgent:
    """Without a ramp, unless a test is about it (test_ramp.py)."""
    return CertifiedAgent(three_cells() if policy_set is None else policy_set, **{"ramp": 0, **options})


def outcomes(n: int, rng: np.random.Generator, mean: float = 1.0) -> tuple[FloatArray, FloatArray]:
    """Rewards and costs; costs are 5 or nothing."""
    return rng.uniform(0.0, 8.0, n), np.where(rng.random((n, 1)) < mean / 5.0, 5.0, 0.0)


def run(one: CertifiedAgent, episodes: int, rng: np.random.Generator, mean: float = 1.0, batch: int = 50) -> None:
    for _ in range(episodes // batch):
        asked = one.ask(batch)
        one.tell(asked.ids, *outcomes(batch, rng, mean))


def state(one: CertifiedAgent) -> dict[str, Any]:
    """Everything that a refused report must leave alone."""
    return {
        "bounds": one.bounds,
        "alive": one.active,
        "wealth": one._evidence.log_wealth(),
        "monitor": one._monitor._log_wealth.copy(),
        "weights": one.plan.weights.copy(),
        "numbers": np.array(
            [one.status().pending, one.status().episodes, one._buffer.waiting, one._buffer.settled, len(one.events)]
        ),
        "lost": np.concatenate([p.lost for p in one._bounds._processes]),
        "alarm": np.array(one.alarm is not None),
    }


def assert_same(left: Mapping[str, Any], right: Mapping[str, Any], *, exact: bool = True) -> None:
    for name in left:
        np.testing.assert_allclose(
            left[name], right[name], rtol=0.0 if exact else 1e-9, atol=0.0 if exact else 1e-9, err_msg=name
        )


# What it refuses.


@pytest.mark.parametrize("trust", TRUSTS)
@pytest.mark.parametrize("margin", [0.0, -0.2])
def test_a_margin_that_is_not_positive_is_refused(trust: str, margin: float) -> None:
    with refused("SF-ASSUMPTION-MARGIN", "margin of the safe policy"):
        agent(trust=trust, margin=margin)
    poor = replace(three_cells(), assumption=AssumptionReport(False, margin))
    with refused("SF-ASSUMPTION-MARGIN", "margin of the safe policy"):
        agent(poor, trust=trust)
    assert agent(poor, trust=trust, margin=0.1).margin == 0.1


def test_a_margin_beyond_the_limit_is_refused() -> None:
    with refused("SF-ASSUMPTION-UNIT", "1.5", "1.6"):
        agent(margin=1.6)


@pytest.mark.parametrize(
    ("holdout", "missed", "had"), [(200, 12, "12 of 200"), (20, 0, "0 of 20"), (None, 0, "no hold-out")]
)
def test_a_certificate_that_misses_p_max_is_refused_under_cells_alone(
    holdout: int | None, missed: int, had: str
) -> None:
    found = None if holdout is None else Certificate(holdout, missed, 0.9, 0, 0.9, 0.05)
    poor = replace(three_cells(), certificate=found)
    with refused("SF-ASSUMPTION-COVERAGE", "p_max=0.04", "0.02", had, "look 1", "0.01") as caught:
        agent(poor, p_max=0.04, delta_coverage=0.02)
    # Raising the level after a refusal is named for what it is.
    assert ("choose them after the hold-out was seen" in str(caught.value)) == (holdout is not None)
    for trust in ("envelope", "data"):
        assert agent(poor, trust=trust, p_max=0.04).trust == trust


def refusal(certificate: Certificate | None, looks: int = 0) -> str:
    seen = (Look("other cells", 3, 100, 30, 0, 0.01),) * looks
    with pytest.raises(AssumptionError) as caught:
        agent(replace(three_cells(), certificate=certificate, looks=seen), p_max=0.04, delta_coverage=0.02)
    return str(caught.value)


def test_a_refusal_names_the_cure_that_works() -> None:
    """Too few hold-out tasks, or too many misses; and the next look pays half of what this one did, except where none was made."""
    assert f"train with holdout={trials_without_failure(0.04, 0.02 / 4)} or more, or use trust" in refusal(None)
    few = refusal(Certificate(20, 0, 0.9, 0, 0.9, 0.05))
    assert f"(look 2 pays 0.005) and holdout={trials_without_failure(0.04, 0.02 / 8)} or more, or use trust" in few
    later = refusal(Certificate(20, 0, 0.9, 0, 0.9, 0.05), looks=2)
    assert "look 3, which pays 0.0025" in later
    assert f"(look 4 pays 0.00125) and holdout={trials_without_failure(0.04, 0.02 / 32)} or more" in later
    # 1 of 100 may be enough at a few hundred tasks, if the share stays what it was.
    some = refusal(Certificate(100, 1, 0.9, 0, 0.9, 0.05))
    found = re.search(r"holdout=(\d+) or more, or more training tasks and fewer cells", some)
    assert found is not None
    enough = int(found[1])
    assert clopper_pearson_upper(math.ceil(0.01 * enough), enough, 0.02 / 8) <= 0.04
    # 12 of 200 are 6%: no number of hold-out tasks makes that 4%.
    many = refusal(Certificate(200, 12, 0.9, 0, 0.9, 0.05))
    tasks, cells = three_cells().training.tasks_sampled, len(three_cells().cells)
    assert "more hold-out tasks do not help" in many and "holdout=" not in many
    assert f"tasks={2 * tasks} or more) and fewer cells (cells={cells // 2} or fewer)" in many


def test_every_look_pays_half_of_what_the_looks_before_it_left() -> None:
    """At look a the limit is read at delta / 2^(a+1)."""
    for earlier in range(4):
        m = trials_without_failure(0.05, 0.05 / 2 ** (earlier + 2))
        seen = (Look("other cells", 3, 100, 30, 0, 0.01),) * earlier
        enough = replace(three_cells(), certificate=Certificate(m, 0, 0.05, 0, 0.05, 0.05), looks=seen)
        assert agent(enough, p_max=0.05, delta_coverage=0.05).trust == "cells"
        once_more = replace(enough, looks=(*seen, Look("cells", 3, m, 0, 0, 0.01)))
        with refused("SF-ASSUMPTION-COVERAGE", f"look {earlier + 2}"):
            agent(once_more, p_max=0.05, delta_coverage=0.05)


def test_the_certificate_is_judged_at_a_quarter_of_delta_coverage_and_with_the_simulation_error() -> None:
    """(1 - p)^m = delta / 4 without a miss at the first look; another quarter pays for the margin, half is left for later looks."""
    m = trials_without_failure(0.05, 0.05 / 4)
    enough = replace(three_cells(), certificate=Certificate(m, 0, 0.05, 0, 0.05, 0.05))
    assert agent(enough, p_max=0.05, delta_coverage=0.05).trust == "cells"
    for poor in (
        Certificate(m - 1, 0, 0.05, 0, 0.05, 0.05),
        Certificate(m, 0, 0.06, 0, 0.05, 0.05, simulation_error=0.01),
    ):
        with refused("SF-ASSUMPTION-COVERAGE", "0.05"):
            agent(replace(three_cells(), certificate=poor), p_max=0.05, delta_coverage=0.05)


def test_what_simulation_adds_grows_with_the_limit_below_the_error_it_was_stated_at() -> None:
    """beta = .1, 500 tasks without a miss: at delta_coverage = 4e-10 the share is at most (1 - 1e-10^(1/500)) / .9 = .0500."""
    stated = 1.0 - 1e-6 ** (1 / 500)
    found = Certificate(500, 0, 0.05, 0, 0.05, 0.05, simulation_error=stated / 9.0)
    simulated = replace(three_cells(), certificate=found)
    needed = (1.0 - 1e-10 ** (1 / 500)) / 0.9
    assert agent(simulated, p_max=needed + 1e-6, delta_coverage=4e-10).trust == "cells"
    with refused("SF-ASSUMPTION-COVERAGE", "4e-10"):
        agent(simulated, p_max=needed - 1e-6, delta_coverage=4e-10)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "trust": ({"trust": "hope"}, ("SF-ARGUMENT-CHOICE", "trust", "cells, data, envelope", "'hope'")),
    "evidence": ({"evidence": "some"}, ("SF-ARGUMENT-CHOICE", "evidence", "all, returns", "'some'")),
    "losses": ({"losses": "rare"}, ("SF-ARGUMENT-CHOICE", "losses", "independent, worst", "'rare'")),
    "delta zero": ({"delta": 0.0}, ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "0")),
    "delta one": ({"delta": 1.0}, ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "1")),
    "p_max": ({"p_max": -0.1}, ("SF-ARGUMENT-RANGE", "p_max")),
    "delta_coverage": ({"delta_coverage": 2}, ("SF-ARGUMENT-RANGE", "delta_coverage")),
    "monitor_delta": ({"monitor_delta": 0}, ("SF-ARGUMENT-RANGE", "monitor_delta")),
    "seed": ({"seed": -1}, ("SF-ARGUMENT-RANGE", "seed", "0")),
    "margin NaN": ({"margin": np.nan}, ("SF-ARGUMENT-RANGE", "margin")),
    "ceilings shape": ({"cost_ceilings": [1.0, 2.0]}, ("SF-ARGUMENT-SHAPE", "cost_ceilings", "(1)")),
    "ceilings zero": ({"cost_ceilings": [0.0]}, ("SF-ARGUMENT-RANGE", "cost_ceilings")),
}


@pytest.mark.parametrize(("options", "refusal"), BAD.values(), ids=BAD.keys())
def test_bad_arguments_are_refused(options: dict[str, Any], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        agent(**options)


# Reports that cannot be true.

REFUSED: dict[str, dict[str, Any]] = {
    "NaN reward": {"reward": np.nan},
    "NaN cost": {"costs": [np.nan]},
    "infinite cost": {"costs": [np.inf]},
    "negative cost": {"costs": [-0.1]},
    "a state that no policy knows": {"transitions": [[8, 0, 0, 1]]},
    "a successor that no policy knows": {"transitions": [[0, 0, 1, 3], [0, 0, 8, 1]]},
    "an action that no policy knows": {"transitions": [[0, 8, 0, 1]]},
    "initial state beyond the last": {"initial_state": 8},
    "initial state below the first": {"initial_state": -1},
    "two costs for one": {"costs": [1.0, 2.0]},
    "never asked": {"ids": 99},
    "told before": {"ids": 0},
    "fractional transitions": {"transitions": [[0.5, 0, 0, 1]]},
    "negative count": {"transitions": [[0, 0, 0, -1]]},
    "triples without count": {"transitions": [[0, 0, 0]]},
    "two initial states": {"initial_state": [0, 1]},
    "fractional initial state": {"initial_state": 0.5},
    "NaN signal": {"signals": [np.nan]},
    "two signals for one": {"signals": [0.2, 0.3]},
    "signal outside its range": {"signals": [1.5]},
    "signal of text": {"signals": ["hot"]},
}


@pytest.mark.parametrize("trust", TRUSTS)
@pytest.mark.parametrize("broken", REFUSED.values(), ids=REFUSED.keys())
def test_a_report_that_cannot_be_true_is_refused_and_changes_nothing(broken: dict[str, Any], trust: str) -> None:
    center = np.full((3, 4, 1), 0.5)
    heat = SignalPredictions(("heat",), np.array([[0.0, 1.0]]), center - 0.1, center + 0.1)
    one = agent(three_cells(signals=heat), trust=trust)
    for k in range(3):
        assert one.ask().id == k
    one.tell(0, 3.0, [0.0], signals=[0.5])
    before = state(one)
    good = {
        "ids": 1,
        "reward": 3.0,
        "costs": [1.0],
        "initial_state": 0,
        "transitions": [[0, 0, 0, 1]],
        "signals": [0.5],
    }
    with pytest.raises(InvalidReport):
        one.tell(**(good | broken))
    assert_same(before, state(one))
    one.tell(**good)
    one.tell(**(good | {"ids": 2}))
    assert one.status().pending == 0


@pytest.mark.parametrize("trust", TRUSTS)
@pytest.mark.parametrize("wrong", [10.1, -0.1, 1e12])
def test_a_return_out_of_its_range_does_not_keep_the_costs_back(wrong: float, trust: str) -> None:
    """Its costs count as ever, its return as lost: never better than any return that could have been told."""
    told, lucky = agent(trust=trust, evidence="returns"), [agent(trust=trust, evidence="returns") for _ in range(3)]
    for one, reward in zip([told, *lucky], [wrong, 0.0, 5.0, 10.0]):
        asked = one.ask(30)
        one.tell(asked.ids[:20], np.full(20, 4.0), np.full((20, 1), 0.2))
        one.tell(asked.ids[20:], np.full(10, reward), np.full((10, 1), 0.2))
    assert told.alarm is None and told.status().pending == 0
    assert sum("outside its declared range" in note for note in told.status().notes) == 1
    for one in lucky:
        np.testing.assert_array_equal(told.bounds, one.bounds)
        assert (told._evidence.log_wealth() <= one._evidence.log_wealth() + 1e-12).all()
        assert np.array_equal(told._monitor._log_wealth, one._monitor._log_wealth)


def test_one_bad_episode_refuses_the_whole_report() -> None:
    one = agent()
    asked = one.ask(3)
    before = state(one)
    with refused("SF-REPORT-FINITE", "costs[2, 0]"):
        one.tell(asked.ids, [1.0, 1.0, 1.0], [[0.0], [0.0], [np.nan]])
    with refused("SF-REPORT-DISTINCT", "ids"):
        one.tell([0, 0], [1.0, 1.0], [[0.0], [0.0]])
    assert_same(before, state(one))


@pytest.mark.parametrize("ids", [7, [0, 7], 0.5, [], "0", -1])
def test_only_pending_episodes_can_be_lost(ids: Any) -> None:
    one = agent()
    one.ask(2)
    before = state(one)
    with pytest.raises(InvalidReport):
        one.lost(ids)
    assert_same(before, state(one))


def test_what_is_lost_cannot_be_told_any_more() -> None:
    one = agent()
    one.ask(2)
    one.lost([0])
    with refused("SF-REPORT-CLOSED", "0"):
        one.tell(0, 1.0, [0.0])
    assert one.status().pending == 1


# Alarms.


@pytest.mark.parametrize("trust", TRUSTS)
def test_a_cost_above_the_declared_ceiling_stops_everything_for_good(trust: str, rng: np.random.Generator) -> None:
    one = agent(trust=trust, cost_ceilings=[6.0])
    run(one, 100, rng)
    asked = one.ask(2)
    one.tell(asked.ids, [1.0, 1.0], [[6.0], [6.1]])
    assert one.alarm is not None and "6.1" in one.alarm and "above the declared ceiling 6" in one.alarm
    assert one.status().pending == 0, "the report was recorded"
    for _ in range(3):
        run(one, 500, rng, mean=0.0)
        assert one.plan.weights.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert one.status().text.startswith("ALARM")
    assert "find out what is wrong" in one.status().text
    assert [e.kind for e in one.events].count("alarm") == 1
    assert one.notes[-1].startswith("alarm:")


def test_a_cost_at_the_ceiling_is_no_alarm() -> None:
    one = agent(cost_ceilings=[6.0])
    one.tell(one.ask().id, 1.0, [6.0 * (1.0 + 1e-12)])
    assert one.alarm is None


@pytest.mark.parametrize("trust", ["cells", "envelope"])
def test_when_every_cell_is_dead_the_starts_are_dropped_and_the_safe_policy_is_played(
    trust: str, rng: np.random.Generator
) -> None:
    one = agent(trust=trust, delta=0.2)
    assert (one.bounds[1:] < CEILING).all() == (trust == "envelope")
    for _ in range(400):
        asked = one.ask(50)
        one.tell(asked.ids, np.full(50, 9.5), np.where(rng.random((50, 1)) < 0.4, 0.0, 2.4))
        if one.alarm is not None:
            break
    assert one.alarm == "every cell is rejected: the real task is outside the family"
    assert not one.active.any()
    expected = np.full((4, 1), CEILING)
    expected[0] = LIMIT - MARGIN
    if trust == "cells":
        proved = one._bounds._processes[0].bounds(one._bounds._threshold)
        np.testing.assert_array_equal(one.bounds, np.minimum(expected, proved[:, None]))
    else:
        fresh = ProductRegion(expected, one._ceilings, one._limits, 0.2)
        fresh.load_state_dict({**one._bounds.state_dict(), "_start": expected})
        np.testing.assert_array_equal(one._bounds.staircase, fresh.staircase)
        assert one.bounds.max() == CEILING
    for _ in range(2):
        run(one, 100, rng)
        assert one.plan.weights.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert one.status().cells_left == 0


def set_wealth(one: CertifiedAgent, log_wealth: list[float]) -> None:
    """Put the cells' wealth where it is wanted, as if the episodes had done it, and let it take effect."""
    evidence = one._evidence
    evidence.kinds["joint"].log_wealth[:] = (np.asarray(log_wealth) - np.log(evidence.weights["joint"]))[:, None]
    one._review()


def test_while_every_cell_may_still_come_back_data_bounds_decide_and_no_alarm_is_raised() -> None:
    one = agent(delta=0.05)
    refuted = float(np.log(1.0 / (0.05 * (1.0 - BOUNDS_SHARE)))) + 0.5
    careful = one.plan.weights
    set_wealth(one, [refuted] * 3)
    assert not one.active.any() and one.alarm is None
    rows = np.array([LIMIT - MARGIN, CEILING, CEILING, CEILING])
    assert float(one.plan.weights @ rows) <= LIMIT, (
        "nothing is proved about other policies, but the margin has room for a little"
    )
    assert "data bounds count" in one.status().text
    set_wealth(one, [-40.0, refuted, refuted])
    assert one.active.tolist() == [True, False, False]
    assert one.events[-1].kind == "readmitted" and one.events[-1].text == "cells 0 readmitted, 1 left"
    assert one.plan.weights @ np.arange(4) > careful @ np.arange(4), "the remaining cell allows more than all three did"
    set_wealth(one, [refuted, refuted + 10.0, refuted + 10.0])
    assert one.alarm is None
    set_wealth(one, [refuted + 10.0] * 3)
    assert one.alarm == "every cell is rejected: the real task is outside the family"


def test_a_report_that_never_comes_is_given_up_and_memory_stays_bounded(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setattr(reorder, "PATIENCE", 200)
    one = agent()
    missing = one.ask()
    largest = 0
    for _ in range(60):
        asked = one.ask(10)
        one.tell(asked.ids, *outcomes(10, rng))
        largest = max(largest, one._buffer.waiting)
    assert largest <= 210
    assert len(one._bets) <= 22 and one._buffer.waiting == 0
    assert any(e.kind == "lost" and "episodes 0 kept too many reports waiting" in e.text for e in one.events)
    before = one._evidence.log_wealth()
    one.tell(missing.id, *outcomes(1, rng))
    np.testing.assert_array_equal(one._evidence.log_wealth(), before)
    assert one.status().pending == 0


def test_exploration_doubles_while_nothing_changes_among_the_cells() -> None:
    one, found = agent(), []
    for settled in (
        TUNING.stalled,
        2 * TUNING.stalled - 1,
        2 * TUNING.stalled,
        4 * TUNING.stalled,
        1000 * TUNING.stalled,
    ):
        one._buffer.settled = settled
        one._review()
        found.append(one._kappa)
        program = one._program()
        assert program.kappa == one._kappa
        assert one.plan.weights[program.candidate] >= 0.999 * one._kappa * largest_weight(program)
    assert found == [KAPPA, KAPPA, 2 * KAPPA, 4 * KAPPA, TUNING.most_exploration]
    set_wealth(one, [-1.0, -1.0, 50.0])
    assert one._kappa == KAPPA, "a change among the cells starts anew"


def test_envelope_starts_are_dropped_even_if_another_alarm_came_first() -> None:
    one = agent(trust="envelope", cost_ceilings=[6.0])
    one.tell(one.ask().id, 1.0, [6.1])
    one._evidence.active[:] = one._evidence.watched[:] = False
    one.tell(one.ask().id, 1.0, [0.0])
    assert one.bounds.ravel().tolist() == [LIMIT - MARGIN, 6.0, 6.0, 6.0]
    assert one.alarm is not None and "declared ceiling" in one.alarm


def test_an_impossible_episode_is_an_alarm_under_cells_and_nothing_under_data() -> None:
    for trust, alarmed in (("cells", True), ("data", False)):
        one = agent(trust=trust, cost_ceilings=[50.0])
        one.tell(one.ask().id, 1.0, [CEILING + 0.1])
        assert (one.alarm is not None) == alarmed


@pytest.mark.parametrize("trust", TRUSTS)
def test_real_costs_that_refute_the_limit_are_an_alarm(trust: str, rng: np.random.Generator) -> None:
    one = agent(trust=trust)
    run(one, 4000, rng, mean=2.5)
    assert one.alarm is not None
    assert one.plan.weights.tolist() == [1.0, 0.0, 0.0, 0.0]
    if trust == "data":
        assert one.alarm == "the real costs reject that every deployed mixture met the limit"


@pytest.mark.parametrize("grouped", [False, True])
def test_reporting_dear_episodes_first_is_no_alarm(grouped: bool) -> None:
    """The monitor reads costs in ask order, whether costly ones come first in one report or in a report of their own."""
    for seed in range(10):
        one, rng = agent(trust="data"), np.random.default_rng(seed)
        asked = one.ask(400)
        _, costs = outcomes(400, rng, mean=1.2)
        order = np.argsort(-costs[:, 0], kind="stable")
        cut = int((costs > 0).sum()) if grouped else 400
        for part in (order[:cut], order[cut:]):
            if part.size:
                one.tell(asked.ids[part], np.zeros(part.size), costs[part])
        assert one.alarm is None


# Order, delay, loss.


def conversation(
    trust: str, seed: int, deliver: Callable[[CertifiedAgent, Any, FloatArray, FloatArray], None]
) -> CertifiedAgent:
    """Three rounds of 40 episodes asked at once and then delivered somehow."""
    one, rng = agent(trust=trust, evidence="returns"), np.random.default_rng(seed)
    for _ in range(3):
        asked = one.ask(40)
        rewards, costs = outcomes(40, rng)
        deliver(one, asked, rewards, costs)
    return one


def at_once(one: CertifiedAgent, asked: Any, rewards: FloatArray, costs: FloatArray) -> None:
    one.tell(asked.ids, rewards, costs)


def one_by_one(one: CertifiedAgent, asked: Any, rewards: FloatArray, costs: FloatArray) -> None:
    for k in range(len(asked)):
        one.tell(int(asked.ids[k]), float(rewards[k]), costs[k])


def backwards(one: CertifiedAgent, asked: Any, rewards: FloatArray, costs: FloatArray) -> None:
    for k in range(len(asked))[::-1]:
        one.tell(int(asked.ids[k]), float(rewards[k]), costs[k])


def shuffled(one: CertifiedAgent, asked: Any, rewards: FloatArray, costs: FloatArray) -> None:
    for part in np.array_split(np.random.default_rng(1).permutation(len(asked)), 5):
        one.tell(asked.ids[part], rewards[part], costs[part])


@pytest.mark.parametrize("trust", TRUSTS)
@pytest.mark.parametrize("deliver", [one_by_one, backwards, shuffled])
def test_how_reports_are_delivered_changes_nothing_in_the_end(trust: str, deliver: Any) -> None:
    one, two = conversation(trust, 3, at_once), conversation(trust, 3, deliver)
    left, right = state(one), state(two)
    left["numbers"], right["numbers"] = left["numbers"][:4], right["numbers"][:4]
    assert_same(left, right, exact=False)


@pytest.mark.parametrize("trust", TRUSTS)
def test_one_report_may_span_several_asks(trust: str) -> None:
    """Every episode counts by the bets that were fixed when *it* was asked, whichever report brings it."""

    def told(together: bool) -> CertifiedAgent:
        one, rng = agent(trust=trust, evidence="returns", seed=1), np.random.default_rng(3)
        early, first = one.ask(40), one.ask(10)
        one.tell(early.ids, *outcomes(40, rng))
        second = one.ask(10)  # what was told meanwhile has changed the bets
        rewards, costs = outcomes(20, rng)
        if together:
            order = np.random.default_rng(4).permutation(20)
            one.tell(np.concatenate([first.ids, second.ids])[order], rewards[order], costs[order])
        else:
            one.tell(first.ids, rewards[:10], costs[:10])
            one.tell(second.ids, rewards[10:], costs[10:])
        return one

    left, right = state(told(False)), state(told(True))
    left["numbers"], right["numbers"] = left["numbers"][:4], right["numbers"][:4]
    assert_same(left, right, exact=False)


def test_asking_one_by_one_draws_what_a_batch_draws() -> None:
    one, two = agent(trust="envelope", seed=5), agent(trust="envelope", seed=5)
    batch = one.ask(60)
    singles = [two.ask() for _ in range(60)]
    assert batch.policy_index.tolist() == [e.policy_index for e in singles]
    assert batch.ids.tolist() == [e.id for e in singles]
    assert all(e.policy is two.policies[e.policy_index] for e in singles)
    np.testing.assert_array_equal(singles[0].weights, batch.weights)


def test_a_draw_is_certified_at_the_moment_of_asking() -> None:
    """The mixture handed out is the plan that was verified, also after the plan has changed."""
    one, rng = agent(), np.random.default_rng(0)
    for _ in range(40):
        planned = one.plan
        asked = one.ask(20)
        np.testing.assert_array_equal(asked.weights, planned.weights)
        assert (planned.bounds <= LIMIT * (1 + 1e-9)).all()
        one.tell(asked.ids, *outcomes(20, rng))


def test_bets_are_fixed_when_an_episode_is_asked() -> None:
    """Reports of other episodes in between must not change what an episode is worth."""
    totals = []
    for early in (False, True):
        one = agent(evidence="returns", seed=1)
        first = one.ask(30)
        if early:
            second = one.ask(1)
        one.tell(first.ids, *outcomes(30, np.random.default_rng(0)))
        if not early:
            second = one.ask(1)
        before = one._evidence.kinds["joint"].log_wealth.copy()
        one.tell(second.ids, [7.9], [[0.0]])
        totals.append(one._evidence.kinds["joint"].log_wealth - before)
    assert np.abs(totals[0] - totals[1]).max() > 1e-6, "thirty residuals change the scale of later bets"
    fresh = agent(evidence="returns", seed=1)
    fresh.tell(fresh.ask(1).ids, [7.9], [[0.0]])
    np.testing.assert_allclose(totals[1], fresh._evidence.kinds["joint"].log_wealth, atol=1e-12)


@pytest.mark.parametrize("trust", TRUSTS)
def test_what_is_never_told_counts_as_the_ceiling_and_stops_no_one(trust: str, rng: np.random.Generator) -> None:
    """Told are only free episodes; a tenth never comes. Bounds must not fall below a tenth of the ceiling."""
    one = agent(trust=trust)
    for _ in range(60):
        asked = one.ask(50)
        keep = np.arange(5, 50)
        one.tell(asked.ids[keep], np.full(45, 3.0), np.zeros((45, 1)))
        if trust != "cells":
            one.lost(asked.ids[:5])
    start = CertifiedAgent(three_cells(), trust=trust).bounds
    improved = (one.bounds < start).ravel()
    assert (one.bounds.ravel()[improved] > 0.08 * CEILING).all()
    assert one.status().pending == (300 if trust == "cells" else 0)


def test_one_missing_report_holds_evidence_back_and_costs_no_time() -> None:
    one, rng = agent(evidence="returns"), np.random.default_rng(0)
    missing = one.ask()
    for _ in range(30):
        asked = one.ask(50)
        one.tell(asked.ids, np.full(50, 9.9), np.zeros((50, 1)))
    np.testing.assert_allclose(one._evidence.log_wealth(), 0.0, atol=1e-12)
    assert one._buffer.waiting == 1500
    assert any("1500 reports wait until episode 0 is told or declared lost" in note for note in one.status().notes)
    one.tell(missing.id, *[part[0] for part in outcomes(1, rng)])
    assert one._buffer.waiting == 0
    assert np.abs(one._evidence.log_wealth()).max() > 1.0 or not one.active.all()


def test_losses_count_against_evidence_unless_declared_independent() -> None:
    wealth = {}
    for losses in ("worst", "independent"):
        one = agent(evidence="returns", losses=losses)
        asked = one.ask(20)
        one.lost(asked.ids)
        wealth[losses] = one._evidence.log_wealth()
    assert (wealth["worst"] < -0.01).all()
    np.testing.assert_allclose(wealth["independent"], 0.0, atol=1e-12)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_episodes(deploy_set: PolicySet) -> None:
    one, task = agent(deploy_set), NoisyGridworld().cmdp([0.31])
    sizes = []
    for episodes in (2000, 18_000):
        play_batches(one, task, episodes, seed=0, batch=200)
        sizes.append(footprint(one))
        assert (
            not one._tracker._pending and not one._bets.asked and one._buffer.waiting == 0 and not one._buffer._groups
        )
    assert sizes[1] <= sizes[0]


def footprint(thing: Any, seen: set[int] | None = None) -> int:
    """Bytes of arrays and entries of containers reachable from an object, its event log aside."""
    known = set() if seen is None else seen
    if id(thing) in known or isinstance(thing, str | int | float | type | PolicySet):
        return 0
    known.add(id(thing))
    if isinstance(thing, np.ndarray):
        return int(thing.nbytes)
    if isinstance(thing, dict):
        return len(thing) + sum(footprint(v, known) for v in thing.values())
    if isinstance(thing, list | tuple | set):
        return len(thing) + sum(footprint(v, known) for v in thing)
    fields = getattr(thing, "__dict__", {})
    return sum(footprint(v, known) for k, v in fields.items() if k not in ("events", "_plan"))


# What it says.


@pytest.mark.parametrize("trust", TRUSTS)
def test_the_ledger_sums_to_delta(trust: str) -> None:
    one = agent(trust=trust, delta=0.03)
    parts = {entry.name: entry.delta for entry in one.ledger.entries}
    assert abs(one.ledger.spent - 0.03) < 1e-15
    if trust == "cells":
        assert parts == {"elimination": 0.03 * (1 - BOUNDS_SHARE), "bounds": 0.03 * BOUNDS_SHARE}
        assert one._evidence._threshold == -np.log(parts["elimination"])
    else:
        assert parts == {"bounds": 0.03}
    shares = np.exp(-np.atleast_1d(one._bounds._threshold))
    assert shares.sum() <= parts["bounds"] * (1 + 1e-12)


def test_the_status_says_in_plain_words_where_things_stand(rng: np.random.Generator) -> None:
    one = agent(delta=0.04)
    text = one.status().text
    assert "After 0 episodes (0 pending)" in text
    assert "certified to be at most 1.5 (limit 1.5)" in text
    assert "hypotheses left: 3 of 3" in text
    assert "limited by cell 2" in text
    assert "which of the 3 active cells" in text
    assert f"elimination {0.04 * (1 - BOUNDS_SHARE):.4g}, bounds {0.04 * BOUNDS_SHARE:.4g} of 0.04" in text
    one.ask(7)
    assert "After 7 episodes (7 pending)" in one.status().text
    two = agent(trust="data", margin=0.2)
    # Until something is proved, the ceiling of 100 leaves room for two thousandths of anything else.
    assert "policy 0 with weight 0.998 (the safe policy makes room; limited by the data bounds)" in two.status().text
    assert f"which policy is worth proving safe, from at most {TUNING.warm_up} episodes" in two.status().text
    run(two, TUNING.warm_up, rng)
    assert "proving policy" in two.status().text
    status = two.status()
    assert (status.cells, status.episodes, status.pending, status.alarm) == (3, TUNING.warm_up, 0, None)


def test_events_name_what_happened(deploy_set: PolicySet) -> None:
    one = agent(deploy_set, evidence="returns")
    play_batches(one, NoisyGridworld().cmdp([0.27]), 1500, seed=0)
    gone = [e for e in one.events if e.kind == "eliminated"]
    assert gone and all("rejected" in e.text and "left" in e.text for e in gone)
    assert gone[-1].text.endswith(f"{int(one.active.sum())} left")
    one.ask(3)
    one.lost([1500, 1502])
    assert (one.events[-1].kind, one.events[-1].text) == ("lost", "2 episodes declared lost")


# Way B.


def twins() -> PolicySet:
    """Two cells that look alike under the safe policy and disagree about which of two policies is good; nothing is known to be cheap."""
    reward = np.array([[3.0, 6.0, 4.0], [3.0, 4.0, 6.0]])
    return hand_made(reward, np.array([[1.0, 1.2, 1.2]] * 2)[:, :, None], limits=(LIMIT,), ceilings=(CEILING,))


@pytest.mark.parametrize("trust", ["envelope", "data"])
def test_a_target_is_chosen_once_and_judged_by_later_episodes_only(trust: str, rng: np.random.Generator) -> None:
    one = agent(trust=trust)
    assert TUNING.first_update == 20
    run(one, 15, rng, batch=1)
    assert one._objective.target == 0 and one._bounds.selections == 1
    late = one.ask(3)
    run(one, TUNING.warm_up, rng)
    assert one._objective.target == 0, "evidence stops at the first episode that is missing"
    opened = one.status().episodes
    one.tell(late.ids, *outcomes(3, rng))
    assert one._objective.target > 0 and one._bounds.selections == 2
    assert (one._bounds._streams[1], one._bounds._since[1]) == (one._objective.target, opened)
    assert [e.kind for e in one.events].count("target") == 1
    run(one, 2000, rng)
    assert one._bounds.selections == 2


def test_while_the_task_is_in_doubt_no_target_is_chosen_until_the_end_of_the_warm_up(rng: np.random.Generator) -> None:
    """Under the safe policy alone, to which the ceiling forces the agent, the twins look the same."""
    one = agent(twins(), trust="data", cost_ceilings=[1e6])
    while one.status().episodes < TUNING.warm_up:
        assert one._objective.target == 0
        run(one, 10, rng, batch=10)
    assert one._objective.target > 0


def test_a_target_is_the_policy_that_promises_most_within_the_limits(rng: np.random.Generator) -> None:
    """Mixed with the safe policy as far as the limits require, on average over the posterior: 5.5 at full weight, 9 at a quarter, 5.3."""
    reward, cost = np.array([[3.0, 5.5, 9.0, 5.3]] * 2), np.array([[1.0, 1.2, 2.7, 1.0]] * 2)[:, :, None]
    one = agent(hand_made(reward, cost, limits=(LIMIT,), ceilings=(CEILING,)), trust="data")
    share = ((1 - TUNING.target_slack) * LIMIT - 1.0) / 1.7
    np.testing.assert_allclose(promises(one._set, np.array([1])), [[5.5, share * 9 + (1 - share) * 3, 5.3]])
    run(one, TUNING.first_update + 30, rng)
    assert one._objective.target == 1


def test_where_the_safe_policy_costs_nearly_the_limit_a_target_has_a_quarter_of_what_is_left() -> None:
    """1.46 of 1.5: policies at 1.47 fill a quarter of the rest and count in full, those at 1.48 half."""
    reward, cost = np.array([[3.0, 4.0, 6.0]] * 2), np.array([[1.46, 1.47, 1.48]] * 2)[:, :, None]
    one = agent(hand_made(reward, cost, limits=(LIMIT,), ceilings=(CEILING,), margin=0.04), trust="data")
    np.testing.assert_allclose(promises(one._set, np.array([0])), [[4.0, 4.5]])


@pytest.mark.parametrize("trust", ["envelope", "data"])
def test_no_target_is_chosen_while_nothing_promises_a_gain(trust: str, rng: np.random.Generator) -> None:
    flat = hand_made(np.full((2, 3), 4.0), np.ones((2, 3, 1)), limits=(LIMIT,), ceilings=(CEILING,))
    one = agent(flat, trust=trust)
    run(one, 2 * TUNING.warm_up, rng)
    assert one._objective.target == 0 and one._bounds.selections == 1


@pytest.mark.parametrize("trust", ["envelope", "data"])
@pytest.mark.parametrize("when", [0, 1000])
@pytest.mark.parametrize("huge", [1e9, 1e300])
def test_an_absurd_cost_raises_the_alarm_and_breaks_nothing(
    trust: str, when: int, huge: float, rng: np.random.Generator
) -> None:
    reward, cost = (
        np.array([[3.0, 4.0], [3.0, 5.0]]),
        np.repeat(np.array([[1.0, 1.2], [1.0, 1.1]])[:, :, None], 2, axis=2),
    )
    one = agent(hand_made(reward, cost, limits=(LIMIT,) * 2, ceilings=(CEILING,) * 2), trust=trust)

    def meet(episodes: int) -> None:
        for _ in range(episodes // 10):
            asked = one.ask(10)
            one.tell(asked.ids, rng.uniform(0.0, 8.0, 10), np.tile(outcomes(10, rng)[1], 2))

    meet(when)
    with np.errstate(all="ignore"):
        one.tell(one.ask().id, 4.0, [huge, huge])
    assert one.alarm is not None and "declared ceiling" in one.alarm
    meet(TUNING.warm_up + 200)
    assert one.plan.weights.tolist() == [1.0, 0.0] and np.isfinite(one.plan.value)


def test_the_aim_follows_the_guess_and_the_rows_stay_what_they_are(rng: np.random.Generator) -> None:
    """Both policies are certified from the start; which is played follows from returns, also after the target was chosen."""
    one = agent(twins(), trust="envelope", monitor_delta=1e-300)  # no alarm: what happens is beyond all cells
    np.testing.assert_allclose(one._objective.returns, [3.0, 5.0, 5.0])

    def meet(means: tuple[float, float, float], episodes: int) -> None:
        for _ in range(episodes // 10):
            asked = one.ask(10)
            reward = np.array(means)[asked.policy_index] + rng.normal(0.0, 0.3, 10)
            one.tell(asked.ids, np.clip(reward, 0.0, 10.0), outcomes(10, rng, 1.2)[1])

    meet((3.0, 6.0, 4.0), 50)
    assert one.plan.weights[1] > 0.99 and one._objective.target == 1
    meet((3.0, 4.0, 6.0), 1000)  # the guess is not made once and for all
    assert one.plan.weights[2] > 0.99 and one._objective.target == 1
    rows = one._program().rows
    np.testing.assert_array_equal(rows, one._bounds.rows)
    np.testing.assert_array_equal(rows.max(axis=0), one.bounds)
    assert verify(one.plan.weights, rows, np.array([LIMIT]))


@pytest.mark.slow
def test_looks_become_rarer(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    one, looks = agent(trust="envelope"), []
    posterior = one._objective.posterior
    assert posterior is not None
    look = posterior.posterior
    monkeypatch.setattr(posterior, "posterior", lambda: (looks.append(one._buffer.settled), look())[1])
    run(one, 3000, rng, batch=1)
    assert looks[:4] == [20, 22, 25, 28]
    assert all(b <= max(a + 1, math.ceil(TUNING.update_growth * a)) for a, b in pairwise(looks))
    assert TUNING.warm_up in looks and 45 < len(looks) < 60 and looks[-1] > 2700


def test_under_data_only_what_is_proved_is_played(rng: np.random.Generator) -> None:
    """With a ceiling of 10, a margin of .5 and nothing proved: at most .5 / 9 of the target."""
    one = agent(trust="data", cost_ceilings=[CEILING])
    while one._objective.target == 0:
        run(one, 10, rng, mean=0.8, batch=10)
    # The bound of the safe policy may have improved on d - xi by then, which makes more room.
    room = LIMIT - one.bounds[0, 0]
    assert abs(one.plan.weights[one._objective.target] - room / (CEILING - one.bounds[0, 0])) < 1e-5
    run(one, 20_000, rng, mean=0.8)
    assert one.plan.weights[one._objective.target] > 0.9


# Safety and learning on real tasks, judged by exact values.


def library(one: CertifiedAgent, task: TabularCMDP) -> FloatArray:
    return evaluate_many(task, list(one.policies))


def worst_cost(batches: list[Any], values: FloatArray, limits: FloatArray) -> float:
    """Largest excess over a limit of any deployed mixture."""
    weights = np.stack([b.weights for b in batches])
    return float((weights @ values[:, 1:] - limits).max())


def in_cell(policy_set: PolicySet, i: int, noise: float) -> bool:
    """Whether everything that cell i predicts holds for the task with this noise."""
    cells, task = policy_set.cells, NoisyGridworld().cmdp([noise])
    assert cells.kernel is not None
    values, whole = evaluate_many(task, list(policy_set.policies)), cells.predictions
    state, action, successor = cells.kernel.support.T
    row = task.dense[state, action, successor]
    return bool(
        (whole.reward_lower[i] <= values[:, 0]).all()
        and (values[:, 0] <= whole.reward_upper[i]).all()
        and (whole.cost_lower[i] <= values[:, 1:]).all()
        and (values[:, 1:] <= whole.cost_upper[i]).all()
        and (cells.kernel.lower[i] <= row).all()
        and (row <= cells.kernel.upper[i]).all()
    )


def edges(policy_set: PolicySet, i: int) -> list[float]:
    """The two ends of cell i, by bisection."""
    ends = []
    for direction in (-0.05, 0.05):
        inside = float(policy_set.cells.parameters[i, 0])
        beyond = inside + direction
        for _ in range(30):
            middle = 0.5 * (inside + beyond)
            inside, beyond = (middle, beyond) if in_cell(policy_set, i, middle) else (inside, middle)
        ends.append(inside)
    return ends


@pytest.mark.slow
@pytest.mark.parametrize(("evidence", "delta"), [("all", 0.05), ("returns", 0.05)])
def test_no_mixture_violates_on_tasks_of_the_family_and_at_the_edges_of_cells(
    deploy_set: PolicySet, evidence: str, delta: float
) -> None:
    inner = np.argsort(deploy_set.cells.parameters[:, 0])[4:-4:4]
    tasks = NoisyGridworld().sample(9, np.random.default_rng(5))[:, 0].tolist()
    tasks += [end for i in inner for end in edges(deploy_set, int(i))]
    failures, learned = 0, 0
    for k, noise in enumerate(tasks):
        one, task = agent(deploy_set, delta=delta, seed=k, evidence=evidence), NoisyGridworld().cmdp([noise])
        batches = play_batches(one, task, 1200, seed=k)
        values = library(one, task)
        failures += worst_cost(batches, values, task.cost_limits) > 1e-6
        learned += float(batches[-1].weights @ values[:, 0]) > float(batches[0].weights @ values[:, 0]) + 0.1
    assert rate_test(failures, len(tasks), delta) > 1e-3
    assert learned > 0.6 * len(tasks)


def test_an_unsafe_plan_would_be_noticed(deploy_set: PolicySet) -> None:
    """The same judge convicts an agent that plans with the cheapest cell alone."""
    one, task = agent(deploy_set), NoisyGridworld().cmdp([0.33])
    one._evidence.active[:] = one._evidence.watched[:] = False
    one._evidence.active[int(deploy_set.cells.parameters[:, 0].argmin())] = True
    one._stale = True
    assert worst_cost(play_batches(one, task, 50, seed=0), library(one, task), task.cost_limits) > 0.1


def test_under_cells_the_own_policy_of_the_most_promising_cell_stays_in_play(deploy_set: PolicySet) -> None:
    one, task, cells = agent(deploy_set), NoisyGridworld().cmdp([0.3]), deploy_set.cells
    for _ in range(12):
        active = np.flatnonzero(one.active)
        candidate = int(cells.policy_index[active[cells.optimal_upper[active].argmax()]])
        rows = np.minimum(cells.predictions.cost_upper[active], one.bounds)
        extra = rows[:, candidate] - rows[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            alpha = np.where(extra > 0, (1.5 - rows[:, 0]) / extra, 1.0).min()
        assert one.plan.weights[candidate] >= KAPPA * min(1.0, alpha) * 0.999 - 1e-9
        play_batches(one, task, 100, seed=len(active))


@pytest.fixture(scope="module")
def valves() -> PolicySet:
    return train(Valves(), tasks=60, holdout=150, cells=8, policies=6, seed=0, progress=False)


@pytest.mark.parametrize("trust", TRUSTS)
def test_two_constraints_are_both_kept_and_something_is_learned(valves: PolicySet, trust: str) -> None:
    gained = 0
    for k, leak in enumerate((0.32, 0.45, 0.58)):
        task = Valves().cmdp([leak])
        one = CertifiedAgent(valves, trust=trust, seed=k, p_max=0.1)  # type: ignore[arg-type]
        assert one.plan.bounds.shape == (2,)
        batches = play_batches(one, task, 6000, seed=k, batch=100)
        values = library(one, task)
        assert worst_cost(batches, values, task.cost_limits) <= 1e-9
        assert one.alarm is None
        gained += float(batches[-1].weights @ values[:, 0]) > values[0, 0] + 0.01
        text = one.status().text
        assert "(limit 0.2)" in text and "(limit 0.25)" in text
    assert gained >= 2


def test_two_constraints_share_the_level(valves: PolicySet) -> None:
    one = CertifiedAgent(valves, p_max=0.1, delta=0.05)
    np.testing.assert_allclose(one._bounds._threshold, np.log(7 * 2 / (0.05 * BOUNDS_SHARE)))


# Whatever is absent costs only speed.


@pytest.mark.parametrize("trust", TRUSTS)
def test_reward_and_costs_are_enough(deploy_set: PolicySet, trust: str) -> None:
    one, rng = agent(deploy_set, trust=trust), np.random.default_rng(0)
    for _ in range(20):
        asked = one.ask(25)
        one.tell(asked.ids, rng.uniform(30, 60, 25), np.where(rng.random((25, 1)) < 0.1, 12.0, 0.0))
    assert one.alarm is None
    assert not np.isnan(one._evidence.log_wealth()).any()


def test_a_constraint_that_never_costs_in_simulation_is_no_trouble(rng: np.random.Generator) -> None:
    reward, cost = np.full((2, 3), 4.0), np.zeros((2, 3, 2))
    cost[:, :, 0] = 1.0
    free = hand_made(reward, cost, limits=(1.5, 0.5), ceilings=(10.0, 0.0), margin=0.4)
    for trust in TRUSTS:
        one = agent(free, trust=trust)
        asked = one.ask(50)
        one.tell(asked.ids, np.full(50, 4.0), np.column_stack([outcomes(50, rng)[1][:, 0], np.zeros(50)]))
        assert one.alarm is None


def test_a_library_of_the_safe_policy_alone_is_played(rng: np.random.Generator) -> None:
    alone = hand_made(np.full((2, 1), 4.0), np.ones((2, 1, 1)), own=[0, 0])
    for trust in TRUSTS:
        one = agent(alone, trust=trust)
        run(one, TUNING.warm_up + 100, rng)
        assert one.plan.weights.tolist() == [1.0]


def test_the_same_seed_and_reports_give_the_same_run(deploy_set: PolicySet) -> None:
    task = NoisyGridworld().cmdp([0.29])
    runs = [play_batches(agent(deploy_set, seed=3), task, 500, seed=1) for _ in range(2)]
    other = play_batches(agent(deploy_set, seed=4), task, 500, seed=1)
    for left, right in zip(*runs):
        np.testing.assert_array_equal(left.policy_index, right.policy_index)
        np.testing.assert_array_equal(left.weights, right.weights)
    assert any((left.policy_index != right.policy_index).any() for left, right in zip(runs[0], other))


def test_what_the_agent_wants_is_what_speeds_it_up(deploy_set: PolicySet) -> None:
    assert agent(deploy_set).wants == {"initial_state", "transitions"}
    assert agent(deploy_set, evidence="returns").wants == {"initial_state"}
    assert agent().wants == frozenset()
