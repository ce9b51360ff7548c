"""Evidence about cells: weights, Ville's promise inside cells and at their edges, power, and what missing or lost reports cost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import PolicySet, Simulator
from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.evidence import FINAL, RETURN, Evidence
from surefoot.deploy.evidence.alternatives import CHEAPER_SHARE
from surefoot.deploy.evidence.base import evidence_shares
from surefoot.policyset.schema import KernelBoxes, SignalPredictions
from surefoot.stats.binomial import rate_test
from surefoot.tasks import NoisyGridworld
from tests.deploy.worlds import hand_made, told, transition_rows, two_point, vertex_towards

DELTA = 0.2
"""Large, so that a few hundred runs can tell a broken process from a sound one."""
POLICIES, BATCH, BATCHES, RUNS = 2, 20, 8, 160

SUPPORT = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 1, 2]])
ALLOWED = [[0.5, 0.5, 0.4, 0.6], [0.7, 0.3, 0.4, 0.6], [0.5, 0.5, 0.7, 0.3]]


def kernel() -> KernelBoxes:
    center = np.array(ALLOWED)
    return KernelBoxes(SUPPORT, np.maximum(center - 0.08, 0.0), np.minimum(center + 0.08, 1.0), center)


def signals() -> SignalPredictions:
    centers = np.array([[[0.2], [0.4]], [[0.5], [0.4]], [[0.2], [0.8]]])
    return SignalPredictions(("heat",), np.array([[0.0, 1.0]]), centers - 0.05, centers + 0.05)


def world(**parts: Any) -> PolicySet:
    """Three cells, two policies; the cells differ in reward and cost, given two initial states and on average."""
    reward = np.array([[5.0, 6.0], [5.0, 7.0], [4.0, 6.0]])
    cost = np.array([[[1.0], [2.0]], [[1.6], [2.0]], [[1.0], [2.8]]])
    by_state = (reward[:, :, None] + np.array([-1.0, 1.0]), cost[..., None] + np.array([0.4, -0.4]))
    return hand_made(reward, cost, width=0.25, limits=(2.5,), ceilings=(6.0,), margin=0.5, by_state=by_state, **parts)


def evidence(policy_set: PolicySet, kind: str = "returns", delta: float = DELTA) -> Evidence:
    return Evidence(policy_set, kind, delta, np.asarray(policy_set.bounds.cost_ceilings))


def settle(found: Evidence, group: Any, bets: FloatArray | None = None) -> None:
    fixed = found.bets() if bets is None else bets
    found.settle(group, [(fixed, np.arange(group.ids.size))])


@pytest.mark.parametrize("kind", ["all", "returns"])
@pytest.mark.parametrize("has_kernel", [True, False])
def test_shares_sum_to_one_and_all_are_positive_that_are_used(kind: str, has_kernel: bool) -> None:
    shares = evidence_shares(kind, has_kernel)
    assert abs(sum(shares.values()) - 1.0) < 1e-12 and min(shares.values()) > 0.0
    assert {"joint", "separate"} <= set(shares) <= {"joint", "separate", "transitions"}
    assert ("transitions" in shares) == (kind == "all" and has_kernel)


@pytest.mark.parametrize(
    "parts", [{}, {"kernel": kernel()}, {"signals": signals()}, {"kernel": kernel(), "signals": signals()}]
)
def test_wealth_starts_at_one(parts: dict[str, Any]) -> None:
    for kind in ("all", "returns"):
        np.testing.assert_allclose(evidence(world(**parts), kind).log_wealth(), 0.0, atol=1e-12)  # type: ignore[arg-type]


# Ville: the truth inside its cell, at its edges, given the initial state; against every other cell as an alternative.


def truths(found: Evidence, cell: int, where: str, by_state: bool, rng: np.random.Generator) -> FloatArray:
    """(J, F, B+1) means in the boxes of ``cell``: the centre, or the vertex on the side of another cell."""
    lower, upper = found.table.lower[cell], found.table.upper[cell]
    if where == "inside":
        middle: FloatArray = lower + (upper - lower) * rng.random(lower.shape)
        return middle
    aim = found.table.center[(cell + 1 + int(rng.integers(2))) % 3]
    edge: FloatArray = np.clip(aim, lower, upper)
    return edge


def null_run(policy_set: PolicySet, kind: str, where: str, by_state: bool, seed: int) -> bool:
    """Whether a true cell is rejected."""
    rng = np.random.default_rng([seed, 7])
    cell = seed % 3
    found = evidence(policy_set, kind)
    means = truths(found, cell, where, by_state, rng)
    boxes = policy_set.cells.kernel
    row = None if boxes is None else _row(boxes, cell, where, rng)
    for b in range(BATCHES):
        policy = rng.integers(POLICIES, size=BATCH)
        column = rng.integers(2, size=BATCH) if by_state else np.full(BATCH, 2)
        outcomes = two_point(means[policy, :, column], found.table.low, found.table.high, rng)
        counts = None if row is None or kind == "returns" else _counts(row, rng)
        settle(found, told(policy, outcomes, first=b * BATCH, states=column if by_state else None, transitions=counts))
        found.review()
        if not found.active[cell]:
            return True
    return False


def _row(boxes: KernelBoxes, cell: int, where: str, rng: np.random.Generator) -> list[FloatArray]:
    rows = []
    for part in (slice(0, 2), slice(2, 4)):
        lower, upper = boxes.lower[cell, part], boxes.upper[cell, part]
        wish = boxes.center[(cell + 1) % 3, part] / boxes.center[cell, part] if where == "edge" else rng.random(2)
        vertex = vertex_towards(wish, lower, upper)
        rows.append(vertex if where == "edge" else 0.5 * (vertex + boxes.center[cell, part]))
    return rows


def _counts(row: list[FloatArray], rng: np.random.Generator) -> IntArray:
    counts = np.concatenate([rng.multinomial(BATCH, p / p.sum()) for p in row])
    seen: IntArray = np.column_stack([SUPPORT, counts])
    return seen


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("kind", "where", "by_state"),
    [
        ("returns", "inside", False),
        ("returns", "edge", False),
        ("returns", "edge", True),
        ("all", "inside", True),
        ("all", "edge", False),
    ],
)
def test_a_true_cell_is_refuted_at_most_at_its_level(kind: str, where: str, by_state: bool) -> None:
    policy_set = world(kernel=kernel() if kind == "all" else None)
    refuted = sum(null_run(policy_set, kind, where, by_state, seed) for seed in range(RUNS))
    assert rate_test(refuted, RUNS, DELTA) > 1e-3


@pytest.mark.statistical
def test_the_same_simulation_convicts_bets_at_half_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes shrunk to their centres: what the evidence would promise if it knew training tasks only."""
    import surefoot.deploy.evidence as module

    policy_set = world()
    honest = module.PredictionTable.of

    def shrunk(given: PolicySet, ceilings: FloatArray) -> Any:
        table = honest(given, ceilings)
        middle = 0.5 * (table.lower + table.upper)
        return module.PredictionTable(middle, middle, table.center, table.states, table.low, table.high)

    edges = honest(policy_set, np.array([6.0]))
    monkeypatch.setattr(module.PredictionTable, "of", staticmethod(shrunk))
    refuted, rng = 0, np.random.default_rng(0)
    for _ in range(60):
        found = evidence(policy_set)
        means = np.clip(edges.center[1], edges.lower[0], edges.upper[0])
        for b in range(40):
            policy = rng.integers(POLICIES, size=100)
            outcomes = np.clip(
                means[policy, :, 2] + rng.choice([-0.3, 0.3], size=(100, 2)), found.table.low, found.table.high
            )
            settle(found, told(policy, outcomes, first=b * 100))
            found.review()
        refuted += bool(found.ever_rejected[0])
    assert rate_test(refuted, 60, DELTA) < 1e-3


# Power.


def test_wrong_cells_die_soon_and_the_true_one_stays() -> None:
    for kind in ("returns", "all"):
        policy_set = world(kernel=kernel() if kind == "all" else None)
        found, rng = evidence(policy_set, kind, 0.05), np.random.default_rng(0)  # type: ignore[arg-type]
        means = found.table.center[0]
        dead: list[int] = []
        for b in range(60):
            policy = rng.integers(POLICIES, size=BATCH)
            noise = rng.choice([-1.0, 1.0], size=(BATCH, 2)) * [1.0, 0.8]
            counts = None if kind == "returns" else _counts([np.array(ALLOWED[0][:2]), np.array(ALLOWED[0][2:])], rng)
            settle(found, told(policy, means[policy, :, 2] + noise, first=b * BATCH, transitions=counts))
            dead += found.review()[0].tolist()
        assert sorted(dead) == [1, 2]
        assert found.active.tolist() == [True, False, False]


def smallest_divergence(alternative: FloatArray, lower: FloatArray, upper: FloatArray) -> float:
    """``min KL(alternative || P)`` over the box within the simplex, by bisection on the multiplier of ``sum P = 1``."""
    low, high = 0.0, 1e9
    for _ in range(200):
        scale = 0.5 * (low + high) if high < 1e8 else low * 2.0 + 1.0
        if np.clip(scale * alternative, lower, upper).sum() < 1.0:
            low = scale
        else:
            high = scale
    nearest = np.clip(high * alternative, lower, upper)
    used = alternative > 0.0
    return float((alternative[used] * np.log(alternative[used] / nearest[used])).sum())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("true", "wrong", "price"), [(0.26, 0.33, 1.0), (0.29, 0.36, 1.0), (0.33, 0.26, 1.0 - CHEAPER_SHARE)]
)
def test_a_far_cell_dies_within_twice_the_information_bound(
    deploy_set: PolicySet, true: float, wrong: float, price: float
) -> None:
    """``ln(1/delta) / inf over the cell of the KL per episode`` under what is played: no e-process can be faster on average.

    Where the truth is costlier than the cell says, what was bet on costlier alternatives is a small share, on purpose; its logarithm comes on top.
    """
    cells, boxes = deploy_set.cells, deploy_set.cells.kernel
    assert boxes is not None
    cell = int(np.abs(cells.parameters[:, 0] - wrong).argmin())
    task = NoisyGridworld().cmdp([true])
    simulator, delta, runs, batch = Simulator(task, list(deploy_set.policies)), 0.05, 20, 5
    mixture = np.array([0, int(cells.policy_index[cell])])
    policy = np.tile(mixture, 500)
    counts = simulator.run(policy, seed=99, groups=np.zeros(1000, dtype=np.int64)).transitions
    assert counts is not None
    visits = np.bincount(task.rows, weights=counts[0]) / 1000.0
    state, action, successor = boxes.support.T
    rate, truth = 0.0, task.dense[state, action, successor]
    for k in np.flatnonzero(visits):
        mine = np.flatnonzero(state * task.n_actions + action == k)
        rate += visits[k] * smallest_divergence(truth[mine], boxes.lower[cell, mine], boxes.upper[cell, mine])
    times = []
    for run in range(runs):
        found, played = evidence(deploy_set, "all", delta), 0
        while found.active[cell]:
            index = mixture[np.random.default_rng([run, played]).integers(2, size=batch)]
            seen = simulator.run(index, seed=run, first_episode=played, groups=np.zeros(batch, dtype=np.int64))
            assert seen.transitions is not None
            outcomes = np.column_stack([seen.returns, seen.costs])
            rows = transition_rows(task, seen.transitions[0])
            settle(found, told(index, outcomes, first=played, states=seen.initial_states, transitions=rows))
            found.review()
            played += batch
            assert played < 20_000
        times.append(played)
    assert np.mean(times) - batch / 2 <= (2.0 * math.log(1.0 / delta) - math.log(price)) / rate


# What the reports leave out.


def random_group(rng: np.random.Generator, first: int, *, states: Any = None) -> Any:
    outcomes = np.column_stack([rng.uniform(0, 10, BATCH), rng.uniform(0, 6, BATCH)])
    return told(rng.integers(POLICIES, size=BATCH), outcomes, first=first, states=states)


def test_the_first_report_settles_whether_initial_states_count() -> None:
    """Without states first, later ones are ignored: the outcome must not choose the bet."""
    one, two, rng = evidence(world()), evidence(world()), np.random.default_rng(0)
    for b in range(3):
        group = random_group(rng, b * BATCH)
        settle(one, group)
        settle(
            two,
            told(
                group.policy_index,
                group.outcomes,
                first=b * BATCH,
                states=None if b == 0 else np.ones(BATCH, dtype=int),
            ),
        )
    np.testing.assert_array_equal(one.log_wealth(), two.log_wealth())


def test_initial_states_change_the_bets_when_they_are_told_from_the_start() -> None:
    one, two, rng = evidence(world()), evidence(world()), np.random.default_rng(0)
    for first in (0, BATCH):
        group = random_group(rng, first)
        settle(one, group)
        settle(two, told(group.policy_index, group.outcomes, first=first, states=np.zeros(BATCH, dtype=int)))
    assert not np.allclose(one.kinds["joint"].log_wealth, two.kinds["joint"].log_wealth)


def test_nothing_is_bet_jointly_before_a_report_has_settled_how() -> None:
    """Else the plant could choose between conditional and unconditional bets after seeing the outcome."""
    found, rng = evidence(world()), np.random.default_rng(0)
    assert found.bets() is None
    settle(found, random_group(rng, 0, states=np.zeros(BATCH, dtype=int)))
    assert (found.kinds["joint"].log_wealth == 0.0).all()
    settle(found, random_group(rng, BATCH, states=np.zeros(BATCH, dtype=int)))
    assert (found.kinds["joint"].log_wealth != 0.0).any()


def test_a_refuted_cell_comes_back_when_what_refuted_it_is_gone() -> None:
    found = evidence(world(kernel=kernel()), "all", 0.05)
    assert found.kinds["transitions"] is not None
    need = math.log(20.0 / found.weights["transitions"])
    found.kinds["transitions"].log_wealth[:] = [[need + 0.1], [-50.0], [-50.0]]
    assert [part.tolist() for part in found.review()] == [[0], []]
    found.kinds["joint"].log_wealth[:] = -np.inf
    low = math.log((RETURN - found.weights["separate"]) / found.weights["transitions"])
    found.kinds["transitions"].log_wealth[0] = low + 0.01
    assert [part.tolist() for part in found.review()] == [[], []]
    found.kinds["transitions"].log_wealth[0] = low - 0.01
    assert [part.tolist() for part in found.review()] == [[], [0]]
    assert found.active.all()
    assert found.ever_rejected.tolist() == [True, False, False]


def test_a_cell_refuted_far_beyond_the_threshold_never_comes_back() -> None:
    found = evidence(world(kernel=kernel()), "all", 0.05)
    assert found.kinds["transitions"] is not None
    final = math.log(20.0 / FINAL / found.weights["transitions"])
    found.kinds["transitions"].log_wealth[:] = [[final - 0.1], [final + 0.1], [-50.0]]
    found.review()
    assert found.watched.tolist() == [True, False, True]
    found.kinds["transitions"].log_wealth[:] = -50.0
    assert found.review()[1].tolist() == [0]
    assert found.active.tolist() == [True, False, True]


@pytest.mark.parametrize("how", ["lost", "no transitions"])
def test_giving_up_wealth_brings_no_refuted_cell_back(how: str) -> None:
    found = evidence(world(kernel=kernel()), "all", 0.05)
    assert found.kinds["transitions"] is not None
    found.kinds["transitions"].log_wealth[0] = math.log(20.0 / found.weights["transitions"]) + 0.1
    found.review()
    if how == "lost":
        found.forfeit(0, None)
    else:
        settle(found, told([0], [[5.0, 1.0]]))
    assert np.isneginf(found.kinds["transitions"].log_wealth).all()
    assert [part.tolist() for part in found.review()] == [[], []]
    assert found.active.tolist() == [False, True, True]


def test_initial_states_that_stop_coming_forfeit_joint_bets_alone() -> None:
    found, rng = evidence(world()), np.random.default_rng(0)
    settle(found, random_group(rng, 0, states=np.zeros(BATCH, dtype=int)))
    settle(found, random_group(rng, BATCH))
    assert np.isneginf(found.parts()["joint"]).all()
    assert np.isfinite(found.log_wealth()).all()
    assert any("initial state was missing" in note for note in found.notes)


def test_an_initial_state_without_predictions_is_not_bet_on() -> None:
    """The unconditional box says nothing about the mean given that state."""
    one, two, rng = evidence(world()), evidence(world()), np.random.default_rng(0)
    group = random_group(rng, 0)
    states = np.where(np.arange(BATCH) < 5, 7, 1)
    for found in (one, two):
        found.kinds["joint"]._conditional = True
    settle(one, told(group.policy_index, group.outcomes, states=states))
    settle(two, told(group.policy_index[5:], group.outcomes[5:], states=states[5:]))
    np.testing.assert_allclose(one.kinds["joint"].log_wealth, two.kinds["joint"].log_wealth, atol=1e-12)


def test_missing_transitions_forfeit_their_share_and_joint_bets_take_over() -> None:
    found, rng = evidence(world(kernel=kernel()), "all"), np.random.default_rng(0)
    assert found.bets() is None, "while transitions come, joint bets stand by"
    assert found.wants == {"initial_state", "transitions"}
    settle(found, random_group(rng, 0))
    assert found.kinds["transitions"] is not None and np.isneginf(found.parts()["transitions"]).all()
    assert found.bets() is not None
    assert np.isfinite(found.log_wealth()).all()
    assert any("evidence from transitions is forfeited" in note for note in found.notes)
    assert evidence(world(kernel=kernel()), "returns").wants == {"initial_state"}


def test_an_impossible_transition_kills_at_once() -> None:
    found = evidence(world(kernel=kernel()), "all")
    settle(found, told([0], [[5.0, 1.0]], transitions=[[0, 0, 2, 1]]))
    assert found.review()[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("outcome", [[5.0, 6.01], [5.0, 5e9], [99.0, 6.01]])
def test_an_outcome_that_no_task_of_the_family_can_produce_refutes_all_cells(outcome: list[float]) -> None:
    found = evidence(world())
    settle(found, told([1, 0], [[5.0, 1.0], outcome]))
    assert not found.active.any()
    assert any("no task of the family" in note for note in found.notes)


def test_a_lost_episode_costs_every_component_and_is_never_better_than_any_report() -> None:
    policy_set = world(signals=signals())
    base, rng = evidence(policy_set), np.random.default_rng(0)
    lost = evidence(policy_set)
    for found in (base, lost):
        found.kinds["joint"]._conditional = found.kinds["joint"]._measured = True
    fixed = base.bets()
    assert fixed is not None
    lost.forfeit(1, fixed)
    for _ in range(40):
        other = evidence(policy_set)
        other.kinds["joint"]._conditional = other.kinds["joint"]._measured = True
        outcome = two_point(rng.uniform(0, 6, (1, 2)), other.table.low, other.table.high, rng)
        group = told([1], outcome, states=rng.integers(0, 2, 1), signals=np.array([[float(rng.integers(2))]]))
        settle(other, group, fixed)
        assert (lost.log_wealth() <= other.log_wealth() + 1e-9).all()
    assert (lost.log_wealth() < -1e-3).all()


def test_a_lost_episode_forfeits_transitions_for_good() -> None:
    found = evidence(world(kernel=kernel()), "all")
    found.forfeit(0, None)
    settle(found, told([0], [[5.0, 1.0]], first=1, transitions=[[0, 0, 0, 50]]))
    assert found.kinds["transitions"] is not None and np.isneginf(found.parts()["transitions"]).all()
    assert any("an episode was lost" in note for note in found.notes)


def test_declared_signals_are_evidence_and_missing_ones_count_as_worst() -> None:
    rng, group = np.random.default_rng(0), 200
    with_signal, without = (
        evidence(world(signals=signals()), delta=0.01),
        evidence(world(signals=signals()), delta=0.01),
    )
    for b in range(60):
        policy = rng.integers(POLICIES, size=group)
        flat = np.tile([5.5, 1.5], (group, 1))
        # The means of returns and costs say nothing definite here; the signal follows cell 1.
        values = np.where(rng.random(group) < np.array([0.5, 0.4])[policy], 1.0, 0.0)[:, None]
        settle(with_signal, told(policy, flat, first=b * group, signals=values), None)
        settle(without, told(policy, flat, first=b * group), None)
    apart = with_signal.kinds["separate"]._extra[0].log_mean()
    assert apart[0] > 15.0 and apart[2] > 15.0 and apart[1] < 1.0
    assert (without.kinds["separate"]._extra[0].log_mean() < 0.0).all()


def alike(**parts: Any) -> PolicySet:
    """Two cells and two policies; only the declared signal tells the cells apart."""
    reward, cost = np.full((2, 2), 5.0), np.full((2, 2, 1), 1.0)
    cost[1] += 1e-3  # an order among the cells, for there are no bets between equals
    centers = np.array([[[0.3], [0.3]], [[0.5], [0.5]]])
    heat = SignalPredictions(("heat",), np.array([[0.0, 1.0]]), centers - 0.05, centers + 0.05)
    return hand_made(reward, cost, width=0.5, limits=(2.5,), ceilings=(6.0,), margin=0.5, **{"signals": heat, **parts})


def test_joint_bets_use_declared_signals() -> None:
    rng, found = np.random.default_rng(3), evidence(alike(), delta=0.01)
    first = found.bets()
    assert first is None, "nothing is bet before it is known what is reported"
    for b in range(40):
        values = np.clip(rng.normal(0.5, 0.1, (10, 1)), 0, 1)
        outcomes = np.column_stack([rng.normal(5.0, 0.3, 10), rng.uniform(0.5, 1.5, 10)])
        settle(found, told(np.zeros(10, dtype=int), outcomes, first=10 * b, signals=values))
    assert found.parts()["joint"][0] > 15.0
    assert found.parts()["joint"][1] < 1.0


def test_what_the_first_report_lacks_is_never_bet_on() -> None:
    outcome, walks = [[5.2, 1.1]], []
    for heat in (0.0, 1.0):
        found = evidence(alike())
        settle(found, told([0], outcome))
        for k in range(1, 30):
            settle(found, told([0], outcome, first=k, signals=np.array([[heat]])))
        walks.append(found.kinds["joint"].log_wealth.copy())
    np.testing.assert_array_equal(*walks)


def test_a_signal_that_is_missing_later_counts_as_the_worst_it_could_have_been() -> None:
    for heat in np.linspace(0.0, 1.0, 11).tolist():
        without, with_ = evidence(alike()), evidence(alike())
        for found in (without, with_):
            settle(found, told([0], [[5.0, 1.0]], signals=np.array([[0.4]])))
        fixed = with_.bets()
        settle(with_, told([0], [[5.0, 1.0]], first=1, signals=np.array([[heat]])), fixed)
        settle(without, told([0], [[5.0, 1.0]], first=1), fixed)
        assert (without.kinds["joint"].log_wealth <= with_.kinds["joint"].log_wealth + 1e-12).all()
    assert (without.kinds["joint"].log_wealth < 0.0).any()


@pytest.mark.statistical
@pytest.mark.parametrize("corner", [(0, 0, 1), (1, 1, 1)])
def test_a_true_cell_survives_with_signals_reported_or_withheld_by_outcome(corner: tuple[int, ...]) -> None:
    """The truth at a vertex of cell 0; a plant that keeps quiet about signals whenever they speak for the cell. The rate is judged at 1e-3."""
    policy_set, runs, level = alike(), 200, 0.1
    rng, refuted = np.random.default_rng(11), 0
    low, high = np.array([4.5, 0.5, 0.25]), np.array([5.5, 1.5, 0.35])
    mean = np.where(corner, high, low)
    top = np.array([evidence(policy_set).table.high[0], 6.0, 1.0])
    bottom = np.array([evidence(policy_set).table.low[0], 0.0, 0.0])
    for _ in range(runs):
        found, gone = evidence(policy_set, delta=level), False
        for b in range(8):
            x = two_point(np.tile(mean, (25, 1)), bottom, top, rng)
            quiet = b > 0 and bool((x[:, 2] < 0.5).mean() > 0.8)
            settle(
                found,
                told(np.zeros(25, dtype=int), x[:, :2], first=25 * b, signals=None if quiet else x[:, 2:]),
            )
            found.review()
            gone = gone or not found.active[0]
        refuted += gone
    assert rate_test(refuted, runs, level) > 1e-3


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_no_history_makes_wealth_undefined(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = evidence(world(kernel=kernel(), signals=signals()), "all" if seed % 2 else "returns", 0.01)
    for b in range(12):
        fixed = found.bets()
        if rng.random() < 0.2:
            found.forfeit(int(rng.integers(POLICIES)), fixed)
            continue
        n = int(rng.integers(1, 5))
        outcomes = two_point(rng.uniform(0, 6, (n, 2)), found.table.low, found.table.high, rng)
        states = rng.choice([0, 1, 5], size=n) if rng.random() < 0.8 else None
        rows = np.column_stack([SUPPORT, rng.integers(0, 3, 4)]) if rng.random() < 0.8 else None
        values = rng.integers(0, 2, (n, 1)).astype(float) if rng.random() < 0.7 else None
        group = told(
            rng.integers(POLICIES, size=n), outcomes, first=b * 5, states=states, transitions=rows, signals=values
        )
        settle(found, group, fixed)
        found.review()
        assert not np.isnan(found.log_wealth()[found.active]).any()


def test_dead_cells_stay_dead_and_are_reported_once() -> None:
    found = evidence(world(kernel=kernel()), "all", 0.05)
    settle(found, told([0], [[5.0, 1.0]], transitions=[[0, 0, 0, 80], [0, 0, 1, 0]]))
    first = found.review()[0].tolist()
    assert first
    assert found.review()[0].tolist() == []
    settle(found, told([0], [[5.0, 1.0]], first=1, transitions=[[0, 0, 1, 400]]))
    assert not set(found.review()[0].tolist()) & set(first)
    assert not found.active[first].any()


def test_the_threshold_is_one_over_delta() -> None:
    found = evidence(world(kernel=kernel()), "all", 0.01)
    assert found.kinds["transitions"] is not None
    need = math.log(100.0 / found.weights["transitions"])
    found.kinds["transitions"].log_wealth[:] = need - 0.02
    assert found.review()[0].size == 0 or found.log_wealth().max() >= math.log(100.0)
    found.kinds["transitions"].log_wealth[1] = need + 1e-6
    assert 1 in found.review()[0]
