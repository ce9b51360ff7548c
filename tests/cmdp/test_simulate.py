"""The compiled rollout: right in law, honest about its tail, and a function of (seed, episode number, policy) alone.

False-alarm rates: z-tests use 4 standard errors (6e-5 each), chi-square tests level 1e-4; seeds are fixed, so a test that passes once
passes always.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from surefoot import Simulator, TabularCMDP, evaluate_many, occupancy, simulate, state_values
from surefoot.cmdp.simulate import Visits, _alias_table
from surefoot.tasks import NoisyGridworld
from tests.models import random_cmdp, random_policy
from tests.refusals import refused

LEVEL = 1e-4


def second_moments(cmdp: TabularCMDP, table: np.ndarray) -> np.ndarray:
    """(F,) second moments of the discounted sums, by their own recursion over states.

    ``E[X_s^2] = sum_a pi(a|s) [f^2 + 2 gamma f sum_s' P V(s') + gamma^2 sum_s' P M(s')]``.
    """
    first = state_values(cmdp, table)[0]
    moments = np.zeros_like(first)
    for _ in range(3000):
        update = np.empty_like(moments)
        for k, f in enumerate(cmdp.signals):
            ahead, ahead_squared = cmdp.dense @ first[k], cmdp.dense @ moments[k]
            inner = f**2 + 2 * cmdp.discount * f * ahead + cmdp.discount**2 * ahead_squared
            update[k] = (table * inner).sum(axis=1)
        change, moments = float(np.abs(update - moments).max()), update
        if change < 1e-13:
            break
    result: np.ndarray = moments @ cmdp.start
    return result


def worlds() -> dict[str, tuple[TabularCMDP, np.ndarray]]:
    """Models and policies with different shapes of risk."""
    rng = np.random.default_rng(12)
    grid = NoisyGridworld()
    dense = random_cmdp(rng, states=7, actions=3, constraints=2, discount=0.9)
    return {
        "gridworld, safe": (grid.cmdp(0.31), np.asarray(grid.safe_policy())),
        "gridworld, uniform": (grid.cmdp(0.31), np.full((49, 4), 0.25)),
        "random": (dense, random_policy(rng, 7, 3)),
        "deterministic": (dense, np.eye(3)[rng.integers(0, 3, 7)]),
    }


@pytest.mark.parametrize("name", worlds())
def test_means_and_variances_of_returns_and_costs(name: str) -> None:
    cmdp, table = worlds()[name]
    n = 60_000
    played = simulate(cmdp, table, episodes=n, seed=11)
    outcomes = np.column_stack([played.returns, played.costs])
    means, moments = evaluate_many(cmdp, table)[0], second_moments(cmdp, table)
    deviations = np.sqrt(moments - means**2)
    assert (np.abs(outcomes.mean(axis=0) - means) <= 4 * deviations / np.sqrt(n) + played.tail).all()
    squares = outcomes**2
    assert (np.abs(squares.mean(axis=0) - moments) <= 4 * squares.std(axis=0) / np.sqrt(n) + 1e-6).all()


def test_transition_counts_follow_the_kernel_and_the_occupancy() -> None:
    rng = np.random.default_rng(4)
    cmdp = random_cmdp(rng, states=5, actions=3, discount=0.8)
    table = random_policy(rng, 5, 3)
    simulator = Simulator(cmdp, table)
    played = simulator.run(np.zeros(20_000, dtype=int), seed=1, groups=np.zeros(20_000, dtype=int))
    assert played.transitions is not None
    counts = played.transitions[0]
    assert counts.sum() == played.steps
    by_row = np.bincount(cmdp.rows, weights=counts, minlength=15)
    expected = by_row[cmdp.rows] * cmdp.probabilities
    assert (counts[expected == 0.0] == 0).all()
    seen = expected > 0.0
    freedom = np.unique(cmdp.rows[seen], return_counts=True)[1] - 1
    statistic = float(((counts - expected)[seen] ** 2 / expected[seen]).sum())
    assert statistic < chi2.isf(LEVEL, freedom.sum())
    # Actions follow the policy: given the visits of a state, too.
    visits = by_row.reshape(5, 3).sum(axis=1, keepdims=True)
    wanted = visits * table
    used = wanted > 0.0
    assert (by_row.reshape(5, 3)[~used] == 0).all()
    actions = float(((by_row.reshape(5, 3) - wanted)[used] ** 2 / wanted[used]).sum())
    assert actions < chi2.isf(LEVEL, int(used.sum()) - 5)


def test_the_first_state_and_the_first_step_are_independent() -> None:
    """Both are drawn from words of one stream; a chi-square test of their joint table would see words reused."""
    n_states = 8
    kernel = np.zeros((n_states + 4, 1, n_states + 4))
    kernel[:n_states, 0, n_states:] = 0.25
    kernel[np.arange(n_states, n_states + 4), 0, np.arange(n_states, n_states + 4)] = 1.0
    rewards = np.zeros((n_states + 4, 1))
    rewards[n_states:, 0] = [0.0, 1.0, 2.0, 3.0]
    start = np.r_[np.full(n_states, 1.0 / n_states), np.zeros(4)]
    cmdp = TabularCMDP(kernel, rewards, np.zeros((0, n_states + 4, 1)), np.zeros(0), start, 0.5)
    played = simulate(cmdp, np.ones((n_states + 4, 1)), episodes=64_000, seed=2)
    table = np.zeros((n_states, 4))
    np.add.at(table, (played.initial_states, np.rint(played.returns).astype(int)), 1)
    expected = len(played) / table.size
    assert float(((table - expected) ** 2 / expected).sum()) < chi2.isf(LEVEL, table.size - 1)


def outcome(simulator: Simulator, index: np.ndarray, **options: Any) -> tuple[np.ndarray, ...]:
    groups = np.arange(index.size) % 3
    played = simulator.run(index, groups=groups, **options)
    assert played.transitions is not None
    return played.returns, played.costs, played.initial_states, played.transitions


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_results_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    world = NoisyGridworld()
    simulator = Simulator(world.cmdp(0.3), np.stack([world.safe_policy(), np.full((49, 4), 0.25)]))
    index = np.arange(20_001) % 2
    for one, two in zip(outcome(simulator, index, seed=9), outcome(simulator, index, seed=9, threads=threads)):
        np.testing.assert_array_equal(one, two)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 200), max_size=3), st.integers(0, 2**62), st.integers(0, 2**40))
def test_results_do_not_depend_on_how_a_run_is_split(cuts: list[int], seed: int, first: int) -> None:
    rng = np.random.default_rng(3)
    simulator = Simulator(random_cmdp(rng), random_policy(rng, 4, 3, count=3))
    index = rng.integers(0, 3, 200)
    whole = simulator.run(index, seed=seed, first_episode=first)
    edges = [0, *sorted(cuts), 200]
    for low, high in itertools.pairwise(edges):
        part = simulator.run(index[low:high], seed=seed, first_episode=first + low)
        np.testing.assert_array_equal(part.returns, whole.returns[low:high])
        np.testing.assert_array_equal(part.costs, whole.costs[low:high])
        np.testing.assert_array_equal(part.initial_states, whole.initial_states[low:high])


def test_an_episode_depends_on_its_own_policy_only() -> None:
    rng = np.random.default_rng(3)
    cmdp, tables = random_cmdp(rng), random_policy(rng, 4, 3, count=2)
    alone = Simulator(cmdp, tables[1]).run(np.zeros(50, dtype=int), seed=4)
    mixed = Simulator(cmdp, tables).run(np.arange(50) % 2, seed=4)
    np.testing.assert_array_equal(alone.returns[1::2], mixed.returns[1::2])


def test_seeds_and_episode_numbers_give_different_episodes() -> None:
    rng = np.random.default_rng(3)
    simulator = Simulator(random_cmdp(rng), random_policy(rng, 4, 3))
    zeros = np.zeros(1000, dtype=int)
    runs = [simulator.run(zeros, seed=s).returns for s in (0, 1, 2**62)]
    runs.append(simulator.run(zeros, seed=0, first_episode=1000).returns)
    together = np.concatenate(runs)
    assert np.unique(together).size > 0.99 * together.size


def test_absorption_in_closed_form_equals_simulating_on() -> None:
    """The goal kept absorbing, and the goal with an invisible twin to step to, which forces step-by-step simulation."""
    g = 0.9
    kernel = np.zeros((4, 1, 4))
    kernel[0, 0, [1, 2]] = 0.5
    kernel[1, 0, 1] = kernel[2, 0, 2] = 1.0
    kernel[3, 0, 3] = 1.0
    rewards, costs = np.array([[0.0], [1.0], [-2.0], [0.0]]), np.array([[[0.5], [0.0], [3.0], [0.0]]])
    start = np.array([1.0, 0.0, 0.0, 0.0])
    closed = TabularCMDP(kernel, rewards, costs, np.ones(1), start, g)
    moving = kernel.copy()
    moving[1, 0], moving[2, 0], moving[3, 0] = [0, 0.5, 0, 0.5], [0, 0, 1, 0], [0, 0.5, 0, 0.5]
    rewards_moving = rewards.copy()
    rewards_moving[3] = 1.0  # a twin of state 1
    long = TabularCMDP(moving, rewards_moving, costs, np.ones(1), start, g)
    one, two = (simulate(m, np.ones((4, 1)), episodes=2000, seed=6) for m in (closed, long))
    assert one.steps == 2000, "one step each, then closed form"
    assert two.steps > 50_000
    assert one.tail.tolist() == [0.0, 0.0]
    values = sorted({round(v, 9) for v in one.returns})
    np.testing.assert_allclose(values, [-2 * g / (1 - g), g / (1 - g)])
    np.testing.assert_allclose(sorted({round(v, 6) for v in two.returns}), values, atol=1e-5)
    np.testing.assert_allclose(sorted({round(v, 6) for v in two.costs[:, 0]}), [0.5, 0.5 + 3 * g / (1 - g)], atol=1e-5)


def test_a_state_is_not_absorbing_while_its_signal_still_varies() -> None:
    """One state, two actions, costs 0 and 1: it never leaves itself, yet the episode's cost is random."""
    cmdp = TabularCMDP(np.ones((1, 2, 1)), np.zeros((1, 2)), np.array([[[0.0, 1.0]]]), np.ones(1), np.ones(1), 0.8)
    played = simulate(cmdp, np.array([[0.5, 0.5]]), episodes=20_000, seed=1)
    assert played.costs[:, 0].mean() == pytest.approx(2.5, abs=4 * np.sqrt(0.25 / (1 - 0.64) / 20_000))
    assert played.costs[:, 0].var() == pytest.approx(0.25 / (1 - 0.64), rel=0.1)
    pure = simulate(cmdp, np.array([[0.0, 1.0]]), episodes=10, seed=1)
    np.testing.assert_allclose(pure.costs[:, 0], 5.0)
    assert pure.steps == 0


@pytest.mark.parametrize("tolerance", [1e-9, 1e-3, 1.0])
def test_the_tail_of_cut_episodes_is_reported_and_covers_what_is_missing(tolerance: float) -> None:
    """A two-state clock of constant reward 1 and cost 2: every episode is cut, and the truth is known."""
    flip = np.array([[[0.0, 1.0]], [[1.0, 0.0]]])
    cmdp = TabularCMDP(flip, np.ones((2, 1)), np.full((1, 2, 1), 2.0), np.ones(1), np.array([0.5, 0.5]), 0.9)
    simulator = Simulator(cmdp, np.ones((2, 1)), tail_tolerance=tolerance)
    played = simulator.run(np.zeros(100, dtype=int), seed=0)
    missing = np.array([10.0 - played.returns.min(), 20.0 - played.costs.min()])
    assert (missing > 0.0).all()
    assert (missing <= played.tail * (1 + 1e-9) + 1e-12).all()
    assert played.tail.max() <= tolerance
    # And it is no larger than it must be: one step less would exceed the tolerance.
    assert played.tail.max() / 0.9 > tolerance
    assert played.steps == 100 * simulator.horizon


def test_no_tail_is_reported_where_nothing_was_cut() -> None:
    cmdp = TabularCMDP(np.ones((1, 1, 1)), np.ones((1, 1)), np.ones((1, 1, 1)), np.ones(1), np.ones(1), 0.9)
    played = simulate(cmdp, np.ones((1, 1)), episodes=5, seed=0)
    assert played.tail.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(played.returns, 10.0)


def test_initial_states_can_be_conditioned_on() -> None:
    rng = np.random.default_rng(5)
    cmdp, table = random_cmdp(rng, states=4, discount=0.85), random_policy(rng, 4, 3)
    simulator, n = Simulator(cmdp, table), 20_000
    exact = state_values(cmdp, table)[0]
    for state in range(4):
        played = simulator.run(np.zeros(n, dtype=int), seed=8, initial_states=np.full(n, state))
        assert (played.initial_states == state).all()
        error = np.abs(played.returns.mean() - exact[0, state]) / (played.returns.std() / np.sqrt(n))
        assert error < 4.0


def test_initial_states_follow_the_start_distribution_and_the_callers_array_is_kept() -> None:
    rng = np.random.default_rng(6)
    weights = np.array([0.05, 0.0, 0.6, 0.35, 0.0])
    base = random_cmdp(rng, states=5)
    cmdp = TabularCMDP(base.dense, base.rewards, base.costs, base.cost_limits, weights, 0.5)
    played = simulate(cmdp, random_policy(rng, 5, 3), episodes=50_000, seed=7)
    counts = np.bincount(played.initial_states, minlength=5)
    assert counts[[1, 4]].tolist() == [0, 0]
    used = weights > 0.0
    expected = 50_000 * weights[used]
    assert float(((counts[used] - expected) ** 2 / expected).sum()) < chi2.isf(LEVEL, 2)
    given_states = np.array([2, 2, 3])
    Simulator(cmdp, random_policy(rng, 5, 3)).run(np.zeros(3, dtype=int), seed=0, initial_states=given_states)
    assert given_states.tolist() == [2, 2, 3]


@given(st.lists(st.sampled_from([0.0, 1e-12, 1e-3, 0.1, 1.0, 3.0, 1.0 / 3.0]), min_size=1, max_size=12).filter(any))
def test_alias_tables_reproduce_their_weights_and_never_draw_a_zero(weights: list[float]) -> None:
    array = np.asarray(weights)
    threshold, alias = np.empty(array.size), np.empty(array.size, dtype=np.int64)
    _alias_table(array, threshold, alias)
    assert (threshold >= 0.0).all() and (threshold <= 1.0 + 1e-12).all()
    law = threshold.copy()
    np.add.at(law, alias, 1.0 - threshold)
    np.testing.assert_allclose(law / array.size, array / array.sum(), atol=1e-12)
    for k in np.flatnonzero(array == 0.0):
        assert threshold[k] == 0.0, "its own column must always pass it on"
        assert k not in alias[threshold < 1.0]


def test_mixtures_draw_one_policy_per_episode() -> None:
    rng = np.random.default_rng(9)
    cmdp, tables = random_cmdp(rng, constraints=2), random_policy(rng, 4, 3, count=3)
    weights = np.array([0.2, 0.0, 0.8])
    played = simulate(cmdp, tables, episodes=40_000, seed=3, weights=weights)
    assert not (played.policy_index == 1).any()
    outcomes = np.column_stack([played.returns, played.costs])
    exact = weights @ evaluate_many(cmdp, tables)
    assert (np.abs(outcomes.mean(axis=0) - exact) < 4 * outcomes.std(axis=0) / 200.0).all()


def test_groups_split_the_counts() -> None:
    rng = np.random.default_rng(9)
    simulator = Simulator(random_cmdp(rng), random_policy(rng, 4, 3))
    zeros = np.zeros(30, dtype=int)
    whole = simulator.run(zeros, seed=2, groups=zeros).transitions
    split = simulator.run(zeros, seed=2, groups=np.arange(30) % 4).transitions
    first = simulator.run(zeros[:1], seed=2, groups=zeros[:1]).transitions
    assert whole is not None and split is not None and first is not None
    assert split.shape[0] == 4
    np.testing.assert_array_equal(split.sum(axis=0), whole[0])
    alone = simulator.run(zeros, seed=2, groups=np.arange(30)).transitions
    assert alone is not None
    np.testing.assert_array_equal(alone[0], first[0])
    assert simulator.run(zeros, seed=2).transitions is None


def test_no_episodes_at_all_is_an_empty_answer() -> None:
    rng = np.random.default_rng(9)
    played = Simulator(random_cmdp(rng), random_policy(rng, 4, 3)).run(np.zeros(0, dtype=int), seed=2)
    assert (len(played), played.steps) == (0, 0)


BAD_RUNS: dict[str, tuple[dict[str, Any], str]] = {
    "policy too large": ({"policy_index": [0, 2]}, ("SF-ARGUMENT-RANGE", "policy_index", "[0, 2)", "0..2")),
    "policy negative": ({"policy_index": [-1]}, ("SF-ARGUMENT-RANGE", "policy_index", "[0, 2)", "-1..-1")),
    "policy of floats": ({"policy_index": [0.0]}, ("SF-ARGUMENT-TYPE", "policy_index", "shape")),
    "policy table": ({"policy_index": [[0]]}, ("SF-ARGUMENT-TYPE", "policy_index", "shape (1, 1)")),
    "states too short": ({"policy_index": [0, 1], "initial_states": [0]}, ("SF-ARGUMENT-TYPE", "initial_states", "2", "shape (1,)")),
    "state too large": ({"policy_index": [0], "initial_states": [4]}, ("SF-ARGUMENT-RANGE", "initial_states", "[0, 4)", "4..4")),
    "groups too short": ({"policy_index": [0, 1], "groups": [0]}, ("SF-ARGUMENT-TYPE", "groups", "2")),
    "group negative": ({"policy_index": [0], "groups": [-1]}, ("SF-ARGUMENT-RANGE", "groups", "0", "-1")),
    "negative seed": ({"policy_index": [0], "seed": -1}, ("SF-ARGUMENT-RANGE", "seed", "0")),
    "fractional seed": ({"policy_index": [0], "seed": 0.5}, ("SF-ARGUMENT-TYPE", "seed", "0", "0.5")),
    "negative episode": ({"policy_index": [0], "first_episode": -1}, ("SF-ARGUMENT-RANGE", "first_episode", "0", "-1")),
    "no threads": ({"policy_index": [0], "threads": 0}, ("SF-ARGUMENT-RANGE", "threads", "1", "0")),
}  # fmt: skip


@pytest.mark.parametrize(("options", "refusal"), BAD_RUNS.values(), ids=BAD_RUNS.keys())
def test_bad_runs_are_refused(options: dict[str, Any], refusal: tuple[str, ...]) -> None:
    rng = np.random.default_rng(9)
    simulator = Simulator(random_cmdp(rng), random_policy(rng, 4, 3, count=2))
    with refused(*refusal):
        simulator.run(**({"seed": 0} | options))


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan")])
def test_bad_tolerances_are_refused(tolerance: float) -> None:
    rng = np.random.default_rng(9)
    with refused("SF-ARGUMENT-RANGE", "tail_tolerance", "(0, inf]"):
        Simulator(random_cmdp(rng), random_policy(rng, 4, 3), tail_tolerance=tolerance)


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"weights": [0.5, 0.5]}, ("SF-ARGUMENT-LENGTH", "weights", "1", "2")),
        ({"weights": [0.5]}, ("SF-ARGUMENT-SIMPLEX", "weights", "1")),
        ({"episodes": 0}, ("SF-ARGUMENT-RANGE", "episodes", "1", "0")),
        ({"seed": -3}, ("SF-ARGUMENT-RANGE", "seed", "0")),
    ],
)
def test_bad_simulations_are_refused(options: dict[str, Any], refusal: tuple[str, ...]) -> None:
    rng = np.random.default_rng(9)
    with refused(*refusal):
        simulate(random_cmdp(rng), random_policy(rng, 4, 3), **({"episodes": 5, "seed": 0} | options))


def layered_cmdp(rng: np.random.Generator, layers: int = 5, width: int = 3, actions: int = 2) -> TabularCMDP:
    """Every step leads one layer on, the last layer absorbs: what an episode did can be read off its transition counts."""
    n = layers * width
    kernel = np.zeros((n, actions, n))
    for s in range(n):
        ahead = s // width + 1
        if ahead < layers:
            kernel[s, :, ahead * width : (ahead + 1) * width] = rng.dirichlet(np.ones(width), size=actions)
        else:
            kernel[s, :, s] = 1.0
    rewards, costs = rng.normal(size=(n, actions)), rng.random((2, n, actions))
    rewards[-width:], costs[:, -width:] = rewards[-width:, :1], costs[:, -width:, :1]
    start = np.r_[rng.dirichlet(np.ones(n - width)), np.zeros(width)]
    return TabularCMDP(kernel, rewards, costs, np.ones(2), start, 0.8)


def plain_visits(cmdp: TabularCMDP, table: np.ndarray, paths: list[tuple[list[tuple[int, int]], int]]) -> Visits:
    """The sums by definition: 400 further steps of every absorbed episode, each shared out over the actions by the policy."""
    gamma, shape = cmdp.discount, (cmdp.n_states, cmdp.n_actions)
    count, discounted = np.zeros(shape, dtype=np.int64), np.zeros(shape)
    to_go = np.zeros((1 + cmdp.n_constraints, *shape))
    for path, last in paths:
        signals = [cmdp.signals[:, s, a] for s, a in path] + [cmdp.signals[:, last] @ table[last]] * 800
        for t, (s, a) in enumerate(path):
            count[s, a] += 1
            discounted[s, a] += gamma**t
            to_go[:, s, a] += gamma**t * sum(gamma ** (k - t) * f for k, f in enumerate(signals) if k >= t)
        value = sum(gamma**k * f for k, f in enumerate(signals[len(path) :]))
        for t in range(len(path), len(path) + 400):
            discounted[last] += gamma**t * table[last]
            to_go[:, last] += gamma**t * np.multiply.outer(value, table[last])
    return Visits(len(paths), count, discounted, to_go)


def test_visits_equal_a_plain_loop_over_the_same_transitions(rng: np.random.Generator) -> None:
    cmdp = layered_cmdp(rng)
    table = random_policy(rng, cmdp.n_states, 2)
    n = 40
    played = Simulator(cmdp, table).run(np.zeros(n, dtype=int), seed=3, groups=np.arange(n), visits=True)
    assert played.visits is not None and played.transitions is not None
    paths = []
    for counts in played.transitions:
        steps = np.flatnonzero(counts)  # rows increase with the state, hence with time
        paths.append(([divmod(int(cmdp.rows[e]), 2) for e in steps], int(cmdp.successors[steps[-1]])))
    wanted = plain_visits(cmdp, table, paths)
    assert wanted.count.sum() > n
    np.testing.assert_array_equal(played.visits.count, wanted.count)
    np.testing.assert_allclose(played.visits.discounted, wanted.discounted, rtol=1e-12)
    np.testing.assert_allclose(played.visits.to_go, wanted.to_go, rtol=1e-10)
    assert played.visits.episodes == n


def test_every_visit_of_a_cycle_is_credited_and_the_cut_tail_is_missing() -> None:
    """A two-state clock: 3 in state 0, nothing in state 1, cut after H steps."""
    flip = np.array([[[0.0, 1.0]], [[1.0, 0.0]]])
    rewards = np.array([[3.0], [0.0]])
    cmdp = TabularCMDP(flip, rewards, np.zeros((0, 2, 1)), np.zeros(0), np.array([1.0, 0.0]), 0.9)
    simulator = Simulator(cmdp, np.ones((2, 1)), tail_tolerance=1e-2)
    played = simulator.run(np.zeros(7, dtype=int), seed=0, visits=True)
    assert played.visits is not None
    weights, earned = 0.9 ** np.arange(simulator.horizon), np.tile([3.0, 0.0], simulator.horizon)[: simulator.horizon]
    ahead = np.cumsum((weights * earned)[::-1])[::-1]
    for s in range(2):
        assert played.visits.count[s, 0] == 7 * weights[s::2].size
        assert played.visits.discounted[s, 0] == pytest.approx(7 * weights[s::2].sum())
        assert played.visits.to_go[0, s, 0] == pytest.approx(7 * ahead[s::2].sum())


def test_an_episode_that_starts_absorbed_is_shared_out_by_its_policy() -> None:
    cmdp = TabularCMDP(np.ones((1, 2, 1)), np.full((1, 2), 2.0), np.zeros((0, 1, 2)), np.zeros(0), np.ones(1), 0.5)
    tables = np.array([[[0.25, 0.75]], [[1.0, 0.0]]])
    played = Simulator(cmdp, tables).run(np.array([0, 0, 0, 1]), seed=0, visits=True)
    assert played.visits is not None
    assert played.visits.count.sum() == 0
    np.testing.assert_allclose(played.visits.discounted, [[2 * (3 * 0.25 + 1.0), 2 * 3 * 0.75]])
    np.testing.assert_allclose(played.visits.to_go[0], 4.0 * played.visits.discounted)


def test_visits_estimate_occupancies_and_action_values() -> None:
    world = NoisyGridworld()
    cmdp, table = world.cmdp(0.31), 0.8 * np.asarray(world.safe_policy()) + 0.05
    n = 40_000
    seen = Simulator(cmdp, table).run(np.zeros(n, dtype=int), seed=5, visits=True).visits
    assert seen is not None
    exact = occupancy(cmdp, table)
    np.testing.assert_allclose(seen.discounted.sum(), n / (1.0 - cmdp.discount))
    assert np.abs(seen.discounted / n - exact).max() < 0.03
    value = state_values(cmdp, table)[0]
    action_values = cmdp.signals + cmdp.discount * np.einsum("sat,ft->fsa", cmdp.dense, value)
    well = seen.count > 2_000
    assert well.sum() > 30
    errors = (seen.to_go / seen.discounted)[:, well] - action_values[:, well]
    assert np.abs(errors[0]).max() < 4 * 30.0 / np.sqrt(2_000)  # deviations of a return are below 30, of a cost below 8
    assert np.abs(errors[1]).max() < 4 * 8.0 / np.sqrt(2_000)


@pytest.mark.parametrize("name", worlds())
def test_outcomes_are_the_same_to_the_last_bit_with_and_without_visits(name: str) -> None:
    cmdp, table = worlds()[name]
    simulator, index, groups = Simulator(cmdp, table), np.zeros(9_001, dtype=int), np.arange(9_001) % 4
    bare = simulator.run(index, seed=6, groups=groups)
    full = simulator.run(index, seed=6, groups=groups, visits=True)
    assert bare.visits is None and full.visits is not None
    for field in ("returns", "costs", "initial_states", "policy_index", "tail", "transitions"):
        np.testing.assert_array_equal(getattr(bare, field), getattr(full, field))
    assert bare.steps == full.steps == full.visits.count.sum()
    assert bare.transitions is not None
    by_row = np.bincount(cmdp.rows, weights=bare.transitions.sum(axis=0), minlength=cmdp.rewards.size)
    np.testing.assert_array_equal(full.visits.count.reshape(-1), by_row)


def test_visits_do_not_depend_on_the_number_of_threads_and_pool_over_parts() -> None:
    world = NoisyGridworld()
    simulator = Simulator(world.cmdp(0.3), np.stack([world.safe_policy(), np.full((49, 4), 0.25)]))
    index = np.arange(20_001) % 2
    one, two = (simulator.run(index, seed=9, visits=True, threads=k).visits for k in (1, 3))
    assert one is not None and two is not None
    first = simulator.run(index[:7_000], seed=9, visits=True).visits
    rest = simulator.run(index[7_000:], seed=9, first_episode=7_000, visits=True).visits
    assert first is not None and rest is not None
    pooled = first + rest
    for field in ("count", "discounted", "to_go"):
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
        np.testing.assert_allclose(getattr(pooled, field), getattr(one, field), rtol=1e-12)
    assert pooled.episodes == one.episodes == 20_001
    empty = simulator.run(index[:0], seed=9, visits=True).visits
    assert empty is not None and (empty.episodes, empty.count.sum()) == (0, 0)
