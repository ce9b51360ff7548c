"""Families under chance constraints and CVaR: from tasks to a certified agent that is told costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.cmdp import state_bounds
from surefoot.cmdp.simulate import transition_rows
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.planning.surrogate import fit_surrogate
from surefoot.rehearsal.lockstep import play_rung, tabular_source
from surefoot.stats.binomial import rate_test
from surefoot.tasks import NoisyGridworld, StreamingBuffer, with_limits
from tests.refusals import refused

pytestmark = pytest.mark.slow

LIMIT = 0.15


@pytest.fixture(scope="module")
def family() -> Any:
    return with_limits(NoisyGridworld(), [sf.Exceeds(5.01, at_most=LIMIT)], grid=30)


@pytest.fixture(scope="module")
def trained(family: Any) -> sf.PolicySet:
    found: sf.PolicySet = sf.train(family, tasks=12, holdout=6, cells=3, progress=False, seed=1)
    return found


def test_a_family_under_other_limits(family: Any) -> None:
    assert "at most 15% of episodes with cost above 5.01" in family.name
    assert family.criterion.cost_limits.tolist() == [LIMIT] and family.criterion.cost_ceilings.tolist() == [1.0]
    points = family.sample(2, np.random.default_rng(0))
    np.testing.assert_array_equal(points, NoisyGridworld().sample(2, np.random.default_rng(0)))
    task, base = family.cmdp(points[0]), NoisyGridworld().cmdp(points[0])
    np.testing.assert_array_equal(task.dense, base.dense)
    np.testing.assert_array_equal(task.costs, base.costs)
    assert task.grid == 30 and task.functionals == family.criterion.functionals
    np.testing.assert_array_equal(family.safe_policy(), NoisyGridworld().safe_policy())
    assert not hasattr(with_limits(_WithoutSafe(), [sf.Mean(1.0)]), "safe_policy")


class _WithoutSafe:
    """A family that brings no controller."""

    name, parameter_names, support = "bare", ("noise",), np.array([[0.0, 0.38]])
    criterion = NoisyGridworld().criterion

    def sample(self, n: int, rng: np.random.Generator) -> Any:
        return NoisyGridworld().sample(n, rng)

    def cmdp(self, parameters: Any) -> sf.TabularCMDP:
        return NoisyGridworld().cmdp(parameters)


def test_a_threshold_of_a_cvar_is_the_quantile_of_costs_near_the_limit() -> None:
    family = StreamingBuffer()
    found = with_limits(family, [sf.CVaR(0.2, at_most=3.0), sf.Mean(1.5)], grid=50)
    threshold = found.limits[0].threshold
    middle = found.cmdp(0.75)
    best = sf.solve(middle).policy
    costs = sf.simulate(family.cmdp(0.75), best, episodes=4000, seed=1).costs[:, 0]
    assert np.mean(costs <= threshold) == pytest.approx(0.8, abs=0.08)
    # Under a threshold of zero, as a very safe policy would give it, the same limit allows less.
    strict = family.cmdp(0.75).with_functionals([sf.CVaR(0.2, 3.0, 0.0), sf.Mean(1.5)], grid=50)
    assert sf.solve(strict).value < sf.solve(middle).value - 0.05
    assert found.limits == with_limits(family, [sf.CVaR(0.2, at_most=3.0), sf.Mean(1.5)], grid=50).limits
    # A safe policy that is hardly below the limit leaves no room above its own quantile.
    (capped,) = sf.fit_thresholds([sf.CVaR(0.5, at_most=1.0)], np.full((10, 1), 7.0))
    assert capped.threshold == pytest.approx(0.8)
    kept = sf.CVaR(0.5, at_most=1.0, threshold=0.3)
    assert sf.fit_thresholds([kept, sf.Mean(1.0)], np.ones((3, 1))) == (kept, sf.Mean(1.0))


def test_refusals() -> None:
    with refused("SF-ARGUMENT-EMPTY", "limits"):
        with_limits(NoisyGridworld(), [1.0])
    with refused("SF-ARGUMENT-MISSING", "policy", "bare"):
        with_limits(_WithoutSafe(), [sf.CVaR(0.1, at_most=9.0)])
    with refused("SF-ARGUMENT-RANGE", "cost_limits[0].signal"):
        with_limits(NoisyGridworld(), [sf.Exceeds(1.0, 0.1, signal=2)])
    with refused("SF-ARGUMENT-RANGE", "signal"):
        sf.fit_thresholds([sf.CVaR(0.1, 3.0, signal=1)], np.ones((4, 1)))
    odd = with_limits(NoisyGridworld(), [sf.Exceeds(5.01, at_most=LIMIT)])
    object.__setattr__(odd, "cmdp", NoisyGridworld().cmdp)
    with refused("SF-FAMILY-CRITERION", "cost_limits"):
        sf.train(odd, tasks=3, holdout=0, cells=1, progress=False)


def tables_of(policy_set: sf.PolicySet) -> Any:
    return np.stack([p.table for p in policy_set.policies if isinstance(p, sf.TabularPolicy)])


def test_cells_hold_both_ends_of_what_values_can_be(family: Any, trained: sf.PolicySet) -> None:
    """Values are bounds on a grid of 30 cells; on a grid of 600 they are ten times as close, and lie inside."""
    tables, cells = tables_of(trained), trained.cells.predictions
    for k, point in enumerate(trained.cells.parameters):
        fine = NoisyGridworld().cmdp(point).with_functionals(family.limits, grid=600)
        low, high = (b @ fine.start for b in state_bounds(fine, tables))
        assert (cells.cost_lower[k, :, 0] <= high[:, 1] + 1e-9).all() and (cells.cost_upper[k, :, 0] >= low[:, 1]).all()
        given = trained.cells.conditional
        assert given is not None
        low, high = (b[:, 1][:, given.initial_states] for b in state_bounds(fine, tables))
        assert (given.cost_lower[k, :, 0] <= high + 1e-9).all() and (given.cost_upper[k, :, 0] >= low).all()
    assert trained.bounds.cost_ceilings == (1.0,)
    assert trained.safe_margin > 0.02
    # The library holds policies worth more than the safe one, which meet the limit in the task they were made for.
    values = sf.evaluate_many(family.cmdp(trained.cells.parameters[0]), tables)
    own = trained.cells.policy_index[0]
    assert values[own, 0] > values[0, 0] + 1.0 and values[own, 1] <= LIMIT


def lived(policy_set: sf.PolicySet, family: Any, trust: str, noise: float, seed: int, episodes: int) -> tuple[Any, Any]:
    """Mixtures (T, J) that an agent deployed on a task, and the agent; it is told costs, as a plant reports them."""
    task, tables = family.cmdp(noise), tables_of(policy_set)
    agent = sf.CertifiedAgent(policy_set, trust=trust, delta=0.1, seed=seed, p_max=0.9)  # type: ignore[arg-type]
    simulator, played, first = sf.Simulator(task, tables), [], 0
    groups = np.zeros(500, dtype=np.int64)
    while first < episodes:
        batch = agent.ask(500)
        seen = simulator.run(batch.policy_index, seed=seed, first_episode=first, groups=groups)
        more = {"transitions": transition_rows(task, seen.transitions[0])} if seen.transitions is not None else {}
        agent.tell(batch.ids, seen.returns, seen.costs, initial_state=seen.initial_states, **more)
        played.append(batch.weights)
        first += 500
    return np.array(played), agent


@pytest.mark.parametrize("trust", ["data", "envelope", "cells"])
def test_agents_learn_and_keep_the_chance_constraint(family: Any, trained: sf.PolicySet, trust: str) -> None:
    task = NoisyGridworld().cmdp(0.3).with_functionals(family.limits, grid=400)
    values = sf.evaluate_many(task, tables_of(trained))
    played, agent = lived(trained, family, trust, 0.3, 3, 8000)
    worth = played @ values
    assert (worth[:, 1] <= LIMIT).all() and agent.alarm is None
    assert worth[-1, 0] > values[0, 0] + 0.8
    assert "at most 0.15 (limit 0.15)" in agent.status().text or agent.plan.bounds[0] <= LIMIT


@pytest.mark.statistical
def test_violations_are_rare(family: Any, trained: sf.PolicySet) -> None:
    """Runs on fresh tasks that deploy a mixture above the limit: at most delta."""
    rng, bad, runs = np.random.default_rng(8), 0, 40
    for seed, point in enumerate(family.sample(runs, rng)):
        fine = NoisyGridworld().cmdp(point).with_functionals(family.limits, grid=100)
        lower = state_bounds(fine, tables_of(trained))[0] @ fine.start
        played, _ = lived(trained, family, "data", float(point[0]), seed, 2500)
        bad += bool((played @ lower[:, 1] > LIMIT).any())
    assert rate_test(bad, runs, 0.1) > 1e-3


def test_two_limits_on_one_cost() -> None:
    family = with_limits(StreamingBuffer(), [sf.Exceeds(2.53, at_most=0.2), sf.CVaR(0.2, at_most=4.0)], grid=20)
    found = sf.train(family, tasks=6, holdout=0, cells=2, progress=False, seed=0)
    assert found.cells.predictions.cost_upper.shape[2] == 2 and len(found.bounds.cost_ceilings) == 2
    agent = sf.CertifiedAgent(found, trust="data", delta=0.1, seed=0)
    batch = agent.ask(50)
    agent.tell(batch.ids, np.full(50, 5.0), np.full((50, 1), 1.0))
    assert agent.bounds.shape == (len(found.policies), 2)


def test_rehearsals_count_what_is_limited(family: Any, trained: sf.PolicySet) -> None:
    from surefoot.training.belief import learn_belief

    believing = learn_belief(trained, family, tasks=20, seed=2, progress=False)
    rung = Rung(boldness=3.0, episodes=600, evidence="returns")
    source = tabular_source(believing, rung, family.cmdp(0.3), tables_of(believing), seed=4)
    block = source(np.zeros(400, dtype=np.int64), 0, np.zeros(400, dtype=np.int64))
    assert set(np.unique(block.outcomes[:, 1])) == {0.0, 1.0}
    found = play_rung(believing, rung, source, seed=1, chance=1)
    assert found.weights.shape[1] == len(believing.policies)


def test_plans_and_forecasts_are_about_what_is_limited(trained: sf.PolicySet) -> None:
    surrogate = fit_surrogate(trained)
    plant = surrogate.plant(0)
    seen = plant.run(np.zeros(300, dtype=np.int64), 1, 0)
    assert seen.costs.min() >= 0.0 and seen.costs.max() <= 1.0
    assert seen.costs.mean() == pytest.approx(plant.values[0, 1], abs=0.05)
    agent = sf.CertifiedAgent(surrogate.policy_set, trust="data", delta=0.1, seed=0)
    batch = agent.ask(300)
    agent.tell(batch.ids, seen.returns, seen.costs)
    assert agent.bounds[0, 0] < 1.0
