"""Limits on more than the mean: the functionals, and a chance constraint from training to the audited journal."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import surefoot as sf
from surefoot.audit.groups import limited
from surefoot.gym.rollout import rollout
from tests.refusals import refused

TWO = [sf.Exceeds(1.5, at_most=0.2), sf.CVaR(0.25, at_most=2.5, threshold=1.0), sf.Mean(1.2)]


def make(**changes: Any) -> sf.Criterion:
    fields: dict[str, Any] = {"discount": 0.9, "cost_limits": TWO, "reward_bounds": (0.0, 1.0), "cost_bounds": [1.0]}
    return sf.Criterion(**(fields | {"horizon": 4} | changes))


def test_what_is_limited_of_an_episodes_cost() -> None:
    found = make().measure([[0.0], [1.5], [1.6], [3.0]])
    np.testing.assert_allclose(found, [[0, 1, 0], [0, 3, 1.5], [1, 3.4, 1.6], [1, 9, 3]])
    np.testing.assert_array_equal(make().cost_limits, [0.2, 2.5, 1.2])
    top = sum(0.9**t for t in range(4))
    np.testing.assert_allclose(make().cost_ceilings, [1.0, 1.0 + (top - 1.0) / 0.25, top])
    # A threshold that nothing reaches leaves something to measure by.
    assert make(cost_limits=[sf.Exceeds(50.0, at_most=0.1)]).cost_ceilings.tolist() == [1.0]


@given(st.lists(st.floats(0.0, 20.0), min_size=1, max_size=40), st.floats(0.01, 1.0), st.floats(0.0, 9.0))
def test_no_threshold_undercuts_the_mean_of_the_worst(costs: list[float], level: float, threshold: float) -> None:
    """``CVaR_a`` of an empirical law, from its definition: the mean of the worst share, the last atom split."""
    law, share = np.sort(costs)[::-1], level * len(costs)
    weights = np.clip(share - np.arange(len(costs)), 0.0, 1.0) / share
    worst = float(weights @ law)
    assert sf.CVaR(level, 10.0, threshold).of(law).mean() >= worst - 1e-9
    quantile = float(law[min(int(np.ceil(share)) - 1, len(costs) - 1)])
    best = quantile + np.maximum(law - quantile, 0.0).mean() / level
    assert best == pytest.approx(worst, abs=1e-9)


@given(st.lists(st.lists(st.floats(0.0, 10.0), min_size=2, max_size=2), min_size=1, max_size=9))
def test_the_audit_measures_by_code_of_its_own(costs: list[list[float]]) -> None:
    given = (*TWO, sf.Exceeds(3.0, at_most=0.1, signal=1), sf.CVaR(0.5, 4.0, 2.0, signal=1))
    criterion = make(cost_limits=list(given), cost_bounds=[1.0, 2.0])
    np.testing.assert_allclose(limited(given, np.array(costs)), criterion.measure(costs), rtol=1e-12)


def test_limits_read_well() -> None:
    found = make(signal_names=("stalls",))
    assert found.limit_texts == (
        "at most 20% of episodes with stalls above 1.5",
        "stalls at most 2.5 on average over the worst 25% of episodes",
        "stalls at most 1.2 on average",
    )
    assert found.cost_names[:2] == ("share of episodes with stalls above 1.5", "stalls in the worst 25% of episodes")
    assert found.as_dict()["limits"] == list(found.limit_texts)
    assert make(cost_limits=[2.0], cost_names=("stalls",)).limit_texts == ("stalls at most 2 on average",)


def test_a_number_among_functionals_limits_the_mean_of_its_own_cost() -> None:
    found = make(cost_limits=[2.0, sf.Exceeds(1.0, at_most=0.1, signal=1)], cost_bounds=[1.0, 1.0])
    assert found.functionals[0] == sf.Mean(2.0, signal=0)
    np.testing.assert_allclose(found.measure([[0.5, 3.0]]), [[0.5, 1.0]])


@pytest.mark.parametrize(
    ("build", "refusal"),
    [
        (lambda: sf.Exceeds(-1.0, at_most=0.1), ("SF-ARGUMENT-RANGE", "threshold")),
        (lambda: sf.Exceeds(1.0, at_most=1.1), ("SF-ARGUMENT-RANGE", "at_most")),
        (lambda: sf.CVaR(0.0, at_most=1.0), ("SF-ARGUMENT-RANGE", "level")),
        (lambda: sf.CVaR(0.1, at_most=1.0, threshold=1.0), ("SF-ARGUMENT-RANGE", "threshold")),
        (lambda: sf.CVaR(0.1, at_most=1.0).of(np.zeros(1)), ("SF-ARGUMENT-MISSING", "threshold")),
        (lambda: sf.Mean(-1.0), ("SF-ARGUMENT-RANGE", "limit")),
        (lambda: sf.Mean(1.0, signal=-1), ("SF-ARGUMENT-RANGE", "signal")),
        (lambda: make(cost_limits=[sf.CVaR(0.1, at_most=1.0)]), ("SF-ARGUMENT-MISSING", "cost_limits[0].threshold")),
        (lambda: make(cost_limits=[sf.Mean(1.0, signal=1)]), ("SF-ARGUMENT-RANGE", "cost_limits[0].signal", "1")),
        (lambda: make(functionals=tuple(TWO)), ("SF-ARGUMENT-COMBINATION", "functionals")),
        (lambda: make(cost_limits=[1.0], functionals=(sf.Mean(2.0),)), ("SF-ARGUMENT-MISMATCH", "cost_limits")),
        (lambda: make(cost_limits=[1.0], functionals=("mean",)), ("SF-ARGUMENT-TYPE", "functionals[0]")),
        (lambda: make(signal_names=("a", "b")), ("SF-ARGUMENT-LENGTH", "signal_names")),
        (lambda: make(cost_names=("a", "b")), ("SF-ARGUMENT-LENGTH", "cost_names")),
        (lambda: make().means_only("a method"), ("SF-ARGUMENT-COMBINATION", "cost_limits", "1.5")),
    ],
)
def test_refusals(build: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        build()


# ----------------------------------------------------------------------------------------------------- simulated tasks

toys = pytest.importorskip("tests.gym.toys")
LIMITS = [sf.Exceeds(1.5, at_most=0.5), sf.CVaR(0.25, at_most=5.0, threshold=1.5)]
ACTIONS = (0.1, 0.4, 0.7)


def coins(limits: Any = LIMITS) -> Any:
    return toys.coins(criterion=make(cost_limits=list(limits), signal_names=("heads",)))


def constants() -> list[Any]:
    from surefoot.controllers import LinearPolicy

    return [LinearPolicy(np.zeros((1, 2)), np.array([action]), 0.0, 1.0) for action in ACTIONS]


def exact(action: float, limits: Any = LIMITS) -> Any:
    """Means of functionals of the coins' costs, outcome by outcome."""
    total = np.zeros(len(limits))
    for heads in itertools.product((0, 1), repeat=toys.HORIZON):
        chance = np.prod([0.5 * action if h else 1.0 - 0.5 * action for h in heads])
        cost = np.array(sum(toys.DISCOUNT**t * h for t, h in enumerate(heads)))
        total += chance * np.array([float(f.of(cost)) for f in limits])
    return total


def test_episodes_of_simulated_tasks_count_what_is_limited() -> None:
    family = coins()
    for action, found in zip(ACTIONS, rollout(family, [0.5], constants(), episodes=800, seed=1)):
        error = found.costs.std(axis=0) / np.sqrt(800)
        np.testing.assert_array_less(np.abs(found.costs.mean(axis=0) - exact(action)), 5.0 * error + 1e-9)
    assert set(np.unique(found.costs[:, 0])) == {0.0, 1.0}


@pytest.fixture(scope="module")
def trained() -> sf.PolicySet:
    from surefoot.gym.pipeline import train_simulated
    from surefoot.gym.values import Widths

    widths = Widths(reward=0.6, cost=(0.4, 2.5))
    found: sf.PolicySet = train_simulated(
        coins(), constants(), tasks=4, holdout=2, cells=2, widths=widths, max_episodes=500, progress=False
    )
    return found


def test_cells_hold_the_exact_means_of_functionals(trained: sf.PolicySet) -> None:
    low, high = trained.cells.predictions.cost_lower, trained.cells.predictions.cost_upper
    truth = np.array([exact(action) for action in ACTIONS])
    assert ((truth >= low) & (truth <= high)).all()
    assert trained.bounds.cost_ceilings[0] == 1.0


def test_files_keep_limits_and_refuse_others(trained: sf.PolicySet, tmp_path: Path) -> None:
    trained.save(tmp_path / "set.sfps")
    twin = sf.PolicySet.load(tmp_path / "set.sfps")
    assert twin.criterion.functionals == trained.criterion.functionals == tuple(LIMITS)
    assert twin.criterion.signal_names == ("heads",) and twin.hash == trained.hash


def episodes_of(family: Any, tickets: Any, seed: int) -> list[Any]:
    from surefoot.gym.episode import run_episode

    return [run_episode(family.make(np.array([0.5])), ticket, family, seed=seed) for ticket in tickets]


def test_an_agent_is_told_costs_and_judges_functionals(trained: sf.PolicySet) -> None:
    agent = sf.CertifiedAgent(trained, trust="data", delta=0.05, seed=0)
    batch = agent.ask(200)
    reports = episodes_of(coins(), batch, 3)
    for report in reports:
        assert report.costs.shape == (1,)
        report.tell(agent)
    costs = np.array([report.costs for report in reports])
    limited_costs = trained.criterion.measure(costs)
    # The bound of the chance constraint lies above the share that was seen, and below its ceiling of 1.
    assert limited_costs[:, 0].mean() < agent.bounds[0, 0] < 1.0
    # Below zero is a mistake of units that no functional would show.
    one = agent.ask()
    with refused("SF-REPORT-RANGE", "costs[0, 0]"):
        agent.tell(one.id, 1.0, [-0.5])
    with refused("SF-REPORT-SHAPE", "costs"):
        agent.tell(one.id, 1.0, [0.5, 0.5])
    agent.tell(one.id, 1.0, [0.5])


def test_a_journal_keeps_costs_as_reported_and_its_audit_agrees(trained: sf.PolicySet, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/plant.db"
    with sf.Deployment.open(url, trained, trust="envelope", seed=1) as plant:
        for k in range(8):
            for report in episodes_of(coins(), plant.ask(5), k):
                report.tell(plant)
        told = report.costs
        text = plant.status().text
        assert plant.verify().first_disagreement is None
    assert "share of episodes with heads above 1.5" in text and "heads in the worst 25% of episodes" in text
    with sf.Deployment.open(url, trained, trust="envelope", seed=1) as plant:
        last = [event for event in plant.events() if event.kind == "told"][-1]
        assert last.body["costs"] == [told.tolist()]
        # The same report again is a retry, another one a contradiction.
        plant.tell(report.id, report.reward, told)
        with refused("SF-CONFLICT-TOLD"):
            plant.tell(report.id, report.reward, told + 1.0)


def test_methods_for_means_refuse_functionals(trained: sf.PolicySet) -> None:
    with refused("SF-ARGUMENT-COMBINATION", "Safe-PCE"):
        sf.SafePCE(trained, episodes=100, delta=0.1, seed=0)


def test_a_simulated_family_under_other_limits() -> None:
    from surefoot.gym import with_limits
    from surefoot.policyset.schema import EpisodeBounds

    base = toys.coins(bounds=EpisodeBounds(0.0, 3.4, (3.439,)))
    found = with_limits(base, [sf.Exceeds(1.5, at_most=0.5), sf.CVaR(0.25, at_most=5.0)], policy=constants()[2])
    chance, worst = found.criterion.functionals
    costs = np.concatenate([rollout(base, [0.5], constants()[2:], episodes=2000, seed=4)[0].costs])
    assert 0.0 < worst.threshold < 4.0 and np.mean(costs <= worst.threshold) >= 0.7
    assert found.episode_bounds.cost_ceilings == (1.0, worst.of(np.array(3.439)))
    assert found.criterion.signal_names == base.criterion.cost_names and "above 1.5" in found.name
    (seen,) = rollout(found, [0.5], constants()[2:], episodes=300, seed=4)
    np.testing.assert_allclose(seen.costs, found.criterion.measure(costs[:300]))
    with refused("SF-ARGUMENT-MISSING", "policy"):
        with_limits(base, [sf.CVaR(0.1, at_most=9.0)])
    with refused("SF-ARGUMENT-COMBINATION", "cost_limits"):
        with_limits(found, [chance])
    with refused("SF-ARGUMENT-EMPTY", "limits"):
        with_limits(base, [1.0])


def test_a_page_measures_what_is_limited(trained: sf.PolicySet, tmp_path: Path) -> None:
    """With or without the policy set: the journal says what is limited."""
    from surefoot.report.deployment.measured import Measured

    with sf.Deployment.open(f"sqlite:///{tmp_path}/page.db", trained, trust="data", seed=1) as plant:
        reports = episodes_of(coins(), plant.ask(30), 5)
        for report in reports:
            report.tell(plant)
        events = list(plant.events())
    seen = trained.criterion.measure(np.array([r.costs for r in reports]))
    for known in (trained, None):
        page = Measured(events[0].body, known)
        page.planned({0: 1.0}, [0.5, 5.0])
        page.asked(0, [0] * 30)
        page.told([r.id for r in reports], [r.reward for r in reports], [r.costs.tolist() for r in reports])
        now = page.now()
        assert now is not None
        found = page.about([now])[0].costs
        assert [c.mean for c in found] == pytest.approx(seen.mean(axis=0).tolist())
    with pytest.raises(ValueError, match="cost"):
        page.told([0], [1.0], [[]])
    assert criterion_data(events[0].body) == tuple(LIMITS)
    with refused("SF-ARGUMENT-CHOICE", "functionals"):
        criterion_data({"functionals": [{"kind": "worst"}]})


def criterion_data(body: dict[str, Any]) -> Any:
    from surefoot.criterion import functionals_of

    return functionals_of(body["functionals"])
