"""Exact evaluation against slower methods that share nothing with it: value iteration, enumeration, simulation, identities."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import TabularCMDP, TabularPolicy, ceilings, distance, evaluate, evaluate_many, occupancy
from surefoot.cmdp import simulate, state_values
from surefoot.cmdp.evaluate import outcome_variances
from surefoot.stats.hoeffding import lipschitz
from surefoot.tasks import NoisyGridworld
from tests.models import cmdps, fork, random_cmdp, random_policy, slow_values
from tests.refusals import refused

seeds = st.integers(0, 2**32)


@given(cmdps(), seeds)
@pytest.mark.statistical
def test_values_equal_iterated_values(cmdp: TabularCMDP, seed: int) -> None:
    table = random_policy(np.random.default_rng(seed), cmdp.n_states, cmdp.n_actions)
    values = evaluate(cmdp, table)
    expected = slow_values(cmdp, table)
    np.testing.assert_allclose(values.reward, expected[0], atol=1e-10)
    np.testing.assert_allclose(values.costs, expected[1:], atol=1e-10)


def test_values_of_the_fork_in_closed_form() -> None:
    cmdp, g = fork(1.0), 0.9
    fast, slow = np.eye(2)[[0, 0, 0]], np.eye(2)[[1, 1, 1]]
    values = evaluate_many(cmdp, np.stack([fast, slow, 0.3 * fast + 0.7 * slow]))
    fast_value, slow_value = g / (1 - g), g**2 / (1 - g)
    np.testing.assert_allclose(values[:, 0], [fast_value, slow_value, 0.3 * fast_value + 0.7 * slow_value], atol=1e-12)
    np.testing.assert_allclose(values[:, 1], [1.0, 0.0, 0.3], atol=1e-12)


@given(cmdps(), seeds)
def test_occupancy_satisfies_flow_total_and_value_identities(cmdp: TabularCMDP, seed: int) -> None:
    table = random_policy(np.random.default_rng(seed), cmdp.n_states, cmdp.n_actions)
    x = occupancy(cmdp, table)
    inflow = cmdp.start + cmdp.discount * np.einsum("sa,sat->t", x, cmdp.dense)
    np.testing.assert_allclose(x.sum(axis=1), inflow, atol=1e-10)
    np.testing.assert_allclose(x.sum(), 1.0 / (1.0 - cmdp.discount), rtol=1e-10)
    np.testing.assert_allclose(np.einsum("sa,fsa->f", x, cmdp.signals), evaluate_many(cmdp, table)[0], atol=1e-9)
    assert (x >= 0.0).all()


def test_simulation_agrees_with_exact_values(rng: np.random.Generator) -> None:
    cmdp = random_cmdp(rng, states=6, constraints=2, discount=0.85)
    table = random_policy(rng, 6, 3)
    played = simulate(cmdp, table, episodes=40_000, seed=5)
    outcomes = np.column_stack([played.returns, played.costs])
    z = (outcomes.mean(axis=0) - evaluate_many(cmdp, table)[0]) / (outcomes.std(axis=0) / np.sqrt(len(played)))
    assert np.abs(z).max() < 4.0  # false alarm below 2e-4


@pytest.mark.parametrize("batch_bytes", [1, 2**27])
def test_sparse_and_dense_paths_agree(
    batch_bytes: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    cmdp = random_cmdp(rng, states=9, actions=4, constraints=2, density=0.3)
    tables = random_policy(rng, 9, 4, count=5)
    module = sys.modules["surefoot.cmdp.evaluate"]  # the package's attribute of that name is the function
    monkeypatch.setattr(module, "BATCH_BYTES", batch_bytes)
    dense = state_values(cmdp, tables), occupancy(cmdp, tables[0])
    monkeypatch.setattr(module, "DENSE_STATES", 0)
    sparse = state_values(cmdp, tables), occupancy(cmdp, tables[0])
    for one, two in zip(dense, sparse):
        np.testing.assert_allclose(one, two, atol=1e-11)


def test_a_model_too_large_for_dense_arrays_is_evaluated() -> None:
    from scipy.sparse import csr_matrix

    n, g = 20_000, 0.9  # a ring of n states; dense transitions would take 3 GB
    forward = csr_matrix((np.ones(n), (np.arange(n), (np.arange(n) + 1) % n)), shape=(n, n))
    cost = np.zeros((1, n, 1))
    cost[0, 7] = 1.0
    cmdp = TabularCMDP(forward, np.ones((n, 1)), cost, np.ones(1), np.eye(1, n)[0], g)
    values = evaluate(cmdp, np.ones((n, 1)))
    assert values.reward == pytest.approx(1.0 / (1.0 - g))
    assert values.costs[0] == pytest.approx(g**7)
    assert occupancy(cmdp, np.ones((n, 1)))[7, 0] == pytest.approx(g**7)


def test_state_values_average_to_values_and_accept_policy_objects(rng: np.random.Generator) -> None:
    cmdp = random_cmdp(rng, constraints=2)
    tables = random_policy(rng, 4, 3, count=3)
    by_state = state_values(cmdp, [TabularPolicy(t) for t in tables])
    assert by_state.shape == (3, 3, 4)
    np.testing.assert_allclose(by_state @ cmdp.start, evaluate_many(cmdp, tables), atol=1e-13)


def enumerated_paths(cmdp: TabularCMDP, steps: int, allowed: Any) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest discounted partial sums of every signal over all possible paths, by recursion over paths."""
    low, high = np.full(1 + cmdp.n_constraints, np.inf), np.full(1 + cmdp.n_constraints, -np.inf)

    def walk(state: int, depth: int, total: np.ndarray) -> None:
        nonlocal low, high
        if depth == steps:
            low, high = np.minimum(low, total), np.maximum(high, total)
            return
        for action in np.flatnonzero(allowed[state]):
            for successor in np.flatnonzero(cmdp.dense[state, action]):
                walk(int(successor), depth + 1, total + cmdp.discount**depth * cmdp.signals[:, state, action])

    for state in np.flatnonzero(cmdp.start):
        walk(int(state), 0, np.zeros(1 + cmdp.n_constraints))
    return low, high


@settings(max_examples=25)
@given(seeds, st.booleans())
@pytest.mark.slow
def test_ceilings_equal_enumeration_of_all_paths(seed: int, restricted: bool) -> None:
    rng = np.random.default_rng(seed)
    cmdp = random_cmdp(rng, states=3, actions=2, constraints=2, discount=0.2, density=0.4)
    table = random_policy(rng, 3, 2)
    allowed = table > 0.0 if restricted else np.ones((3, 2), dtype=bool)
    steps = 5
    tail = np.abs(cmdp.signals).max(axis=(1, 2)) * 0.2**steps / 0.8
    low, high = enumerated_paths(cmdp, steps, allowed)
    found = ceilings(cmdp, table) if restricted else ceilings(cmdp)
    assert abs(found.return_lower - low[0]) <= tail[0] + 1e-9
    assert abs(found.return_upper - high[0]) <= tail[0] + 1e-9
    assert (np.abs(found.costs - high[1:]) <= tail[1:] + 1e-9).all()


def test_ceilings_hold_in_every_simulated_episode_and_are_far_below_the_trivial_one() -> None:
    family = NoisyGridworld()
    cmdp, safe = family.cmdp(0.3), family.safe_policy()
    found = ceilings(cmdp)
    played = simulate(cmdp, np.stack([safe, np.full((49, 4), 0.25)]), episodes=20_000, seed=3, weights=[0.5, 0.5])
    assert found.return_lower - 1e-9 <= played.returns.min()
    assert played.returns.max() <= found.return_upper + 1e-9
    assert played.costs.max() <= found.costs[0] + 1e-9
    # An episode starts beside a hazard at the earliest and pays from its second step on: gamma * 10 / (1 - gamma).
    assert found.costs[0] == pytest.approx(90.0)
    assert played.costs.max() > 0.5 * found.costs[0]
    # At the goal from the first step, or never.
    assert found.return_upper == pytest.approx(100.0)
    assert found.return_lower == pytest.approx(0.0, abs=1e-9)


def test_ceilings_count_reachable_states_only() -> None:
    costs = np.array([[[0.0], [100.0]]])
    cmdp = TabularCMDP(np.eye(2)[:, None, :], np.zeros((2, 1)), costs, np.ones(1), np.array([1.0, 0.0]), 0.5)
    assert ceilings(cmdp).costs[0] == pytest.approx(0.0, abs=1e-9)


@given(seeds, st.floats(0.05, 0.95))
def test_distance_is_a_metric_bounded_below_by_its_parts(seed: int, discount: float) -> None:
    rng = np.random.default_rng(seed)
    one, two, three = (random_cmdp(rng, constraints=2, discount=discount) for _ in range(3))
    assert distance(one, one) == 0.0
    assert distance(one, two) == pytest.approx(distance(two, one), abs=1e-15)
    assert distance(one, three) <= distance(one, two) + distance(two, three) + 1e-12
    parts = (
        np.abs(one.rewards - two.rewards).max(),
        np.abs(one.costs - two.costs).max(),
        0.5 * np.abs(one.start - two.start).sum(),
        0.5 * np.abs(one.dense - two.dense).sum(axis=2).max(),
    )
    assert distance(one, two) == pytest.approx(max(parts), abs=1e-12)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_distance_of_two_gridworlds_in_closed_form(first: float, second: float) -> None:
    # An interior cell: the intended one loses |i - j| (1 - 1/4), three neighbours gain a quarter each.
    world = NoisyGridworld()
    assert distance(world.cmdp(first), world.cmdp(second)) == pytest.approx(0.75 * abs(first - second), abs=1e-12)


def interpolated(one: TabularCMDP, two: TabularCMDP, share: float) -> TabularCMDP:
    def between(a: Any, b: Any) -> Any:
        return (1.0 - share) * a + share * b

    return TabularCMDP(
        between(one.dense, two.dense), between(one.rewards, two.rewards), between(one.costs, two.costs),
        one.cost_limits, between(one.start, two.start), one.discount,
    )  # fmt: skip


@given(seeds, st.floats(0.05, 0.97), st.floats(0.0, 1.0))
def test_simulation_lemma(seed: int, discount: float, share: float) -> None:
    """Values differ by at most L times the distance, with the width w of the signal in both models."""
    rng = np.random.default_rng(seed)
    one = random_cmdp(rng, discount=discount)
    two = interpolated(one, random_cmdp(rng, discount=discount), share)
    table = random_policy(rng, 4, 3)
    apart = np.abs(evaluate_many(one, table)[0] - evaluate_many(two, table)[0])
    for k in range(2):
        both = np.concatenate([one.signals[k].ravel(), two.signals[k].ravel()])
        # A signal shifted by a constant moves both values equally: only its width counts.
        assert apart[k] <= lipschitz(discount, float(np.ptp(both))) * distance(one, two) + 1e-10


def test_the_lemmas_constant_is_needed_to_a_factor_of_two() -> None:
    """One state whose exit probability differs by e: the value differs by about gamma w e / (1-gamma)^2."""
    g, e = 0.9, 1e-4

    def lamp(stay: float) -> TabularCMDP:
        kernel = np.array([[[stay, 1.0 - stay]], [[0.0, 1.0]]])
        return TabularCMDP(kernel, np.array([[1.0], [0.0]]), np.zeros((0, 2, 1)), np.zeros(0), np.array([1.0, 0.0]), g)

    one, two = lamp(1.0), lamp(1.0 - e)
    apart = evaluate(one, np.ones((2, 1))).reward - evaluate(two, np.ones((2, 1))).reward
    assert apart > 0.75 * lipschitz(g, 1.0) * distance(one, two)


BAD_POLICIES: dict[str, tuple[Any, list[str]]] = {
    "wrong shape": (np.ones((3, 2)) / 2, ("SF-ARGUMENT-SHAPE", "policy", "(any, 4, 3)", "(1, 3, 2)")),
    "no axes": (np.ones(3), ("SF-ARGUMENT-SHAPE", "policy", "(S, A)", "(J, S, A)", "(3,)")),
    "rows sum to .9": (np.full((4, 3), 0.3), ("SF-ARGUMENT-SIMPLEX", "policy[0, 0]", "1", "0.9")),
    "negative": (np.tile([1.5, -0.5, 0.0], (4, 1)), ("SF-ARGUMENT-SIMPLEX", "policy[0, 0, 1]", "0", "-0.5")),
    "NaN": (np.full((4, 3), np.nan), ("SF-ARGUMENT-FINITE", "policy[0, 0, 0]", "nan")),
}


@pytest.mark.parametrize(("policy", "refusal"), BAD_POLICIES.values(), ids=BAD_POLICIES.keys())
@pytest.mark.parametrize("function", [evaluate, evaluate_many, occupancy, state_values, ceilings])
def test_bad_policies_are_refused(
    function: Any, policy: Any, refusal: tuple[str, ...], rng: np.random.Generator
) -> None:
    with refused(*refusal):
        function(random_cmdp(rng), policy)


@pytest.mark.parametrize("function", [evaluate, occupancy])
def test_several_policies_where_one_is_meant_are_refused(function: Any, rng: np.random.Generator) -> None:
    with refused("SF-ARGUMENT-SHAPE", "policy", "2"):
        function(random_cmdp(rng), random_policy(rng, 4, 3, count=2))


def test_models_that_cannot_be_compared_are_refused(rng: np.random.Generator) -> None:
    base = {"states": 3, "actions": 2, "constraints": 1, "discount": 0.8}
    for change in ({"states": 4}, {"actions": 3}, {"constraints": 2}, {"discount": 0.7}):
        with refused("SF-ARGUMENT-MISMATCH"):
            distance(random_cmdp(rng, **base), random_cmdp(rng, **(base | change)))  # type: ignore[arg-type]


def test_distance_sees_every_part_alone(rng: np.random.Generator) -> None:
    cmdp = random_cmdp(rng, constraints=2)
    arrays = {"transitions": cmdp.dense, "rewards": cmdp.rewards, "costs": cmdp.costs, "start": cmdp.start}

    def built(**changes: Any) -> TabularCMDP:
        return TabularCMDP(**(arrays | changes), cost_limits=cmdp.cost_limits, discount=cmdp.discount)

    costs, start, kernel = np.array(cmdp.costs), np.array(cmdp.start), np.array(cmdp.dense)
    costs[1, 2, 0] += 0.25
    start[[0, 1]] += [-start[0], start[0]]
    kernel[3, 1] = np.roll(kernel[3, 1], 1)
    assert distance(cmdp, built(rewards=cmdp.rewards - 0.125)) == pytest.approx(0.125)
    assert distance(cmdp, built(costs=costs)) == pytest.approx(0.25)
    assert distance(cmdp, built(start=start)) == pytest.approx(float(cmdp.start[0]))
    expected = 0.5 * np.abs(kernel[3, 1] - cmdp.dense[3, 1]).sum()
    assert distance(cmdp, built(transitions=kernel)) == pytest.approx(expected)
    assert expected > 0.0


def test_every_pair_of_deterministic_fork_policies_orders_as_it_should() -> None:
    values = [evaluate(fork(1.0), np.eye(2)[list(choice)]) for choice in itertools.product((0, 1), repeat=3)]
    rewards = {round(v.reward, 9) for v in values}
    assert rewards == {9.0, 8.1}


def slow_largest(cmdp: TabularCMDP, signal: np.ndarray, sweeps: int) -> float:
    """Largest discounted sum along a path of the support, in plain loops."""
    support = cmdp.dense > 0.0
    value = np.zeros(cmdp.n_states)
    for _ in range(sweeps):
        best = np.where(support, value[None, None, :], -np.inf).max(axis=2)
        value = (signal + cmdp.discount * best).max(axis=1)
    return float(value[cmdp.start > 0.0].max())


@given(cmdps())
def test_ceilings_are_the_largest_sums_along_paths(cmdp: TabularCMDP) -> None:
    found = ceilings(cmdp)
    sweeps = int(np.ceil(np.log(1e-13) / np.log(cmdp.discount))) + 1
    for got, signal in ((found.return_upper, cmdp.rewards), *zip(found.costs, cmdp.costs)):
        expected = slow_largest(cmdp, signal, sweeps)
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert got >= expected - 1e-11 * abs(expected)
    assert found.return_lower == pytest.approx(-slow_largest(cmdp, -cmdp.rewards, sweeps), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("discount", [0.9, 0.99999])
def test_ceilings_of_a_chain_in_closed_form(discount: float, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cost 1 in each of n - 1 states until the absorbing end; the last but one may stay for ever. A few rounds settle it."""
    monkeypatch.setattr(sys.modules["surefoot.cmdp.evaluate"], "MAX_ROUNDS", 30)
    n = 20
    kernel, costs = np.zeros((n, 1, n)), np.zeros((2, n, 1))
    for s in range(n - 1):
        kernel[s, 0, s + 1] = 1.0
    kernel[n - 2, 0] = 0.0
    kernel[n - 2, 0, [n - 2, n - 1]] = [0.5, 0.5]
    kernel[n - 1, 0, n - 1] = 1.0
    costs[0, : n - 1, 0] = scale
    costs[1, : n - 2, 0] = scale
    cmdp = TabularCMDP(kernel, np.zeros((n, 1)), costs, [1.0, 1.0], np.eye(n)[0], discount)
    expected = [scale / (1.0 - discount), scale * (1.0 - discount ** (n - 2)) / (1.0 - discount)]
    np.testing.assert_allclose(ceilings(cmdp).costs, expected, rtol=1e-9)


def test_variances_of_outcomes_agree_with_simulation(rng: np.random.Generator) -> None:
    cmdp = random_cmdp(rng, states=5, constraints=2)
    tables = np.stack([random_policy(rng, 5, 3) for _ in range(2)])
    exact = outcome_variances(cmdp, tables)
    for table, expected in zip(tables, exact):
        seen = simulate(cmdp, table, episodes=40_000, seed=3)
        outcomes = np.column_stack([seen.returns, seen.costs])
        error = np.sqrt(((outcomes - outcomes.mean(axis=0)) ** 2).var(axis=0) / len(outcomes))
        np.testing.assert_array_less(np.abs(outcomes.var(axis=0) - expected), 4.5 * error + 1e-9)


def test_variances_of_the_fork_in_closed_form() -> None:
    """Both paths are certain; a policy that draws one at the first step and keeps to it (the rest does not branch) mixes two numbers."""
    cmdp, g = fork(1.0), 0.9
    fast, slow = np.eye(2)[[0, 0, 0]], np.eye(2)[[1, 1, 1]]
    found = outcome_variances(cmdp, np.stack([fast, slow, 0.3 * fast + 0.7 * slow]))
    gap = g / (1 - g) - g**2 / (1 - g)
    np.testing.assert_allclose(found[:, 0], [0.0, 0.0, 0.21 * gap**2], atol=1e-9)
    np.testing.assert_allclose(found[:, 1], [0.0, 0.0, 0.21], atol=1e-9)
