"""From a simulated family to a certified policy set."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.controllers import LinearPolicy
from surefoot.gym.adapters import tabular_family
from surefoot.gym.pipeline import DeterministicPolicy, FunctionPolicy, train_simulated
from surefoot.gym.values import Widths, estimate
from surefoot.policyset.lineage import fingerprint, holdout_stream
from surefoot.stats.binomial import clopper_pearson_upper, rate_test, simulated_upper
from surefoot.training import ParameterDistance
from tests.gym.toys import CRITERION, DISCOUNT, HORIZON, MEAN_COIN, Constant, coins, exact, shared_coins
from tests.refusals import refused
from tests.training.families import Arm

pytestmark = pytest.mark.slow

ACTIONS = (0.1, 0.4, 0.7)


def constant(action: float) -> LinearPolicy:
    return LinearPolicy(np.zeros((1, 2)), np.array([action]), 0.0, 1.0)


LIBRARY = [constant(action) for action in ACTIONS]
QUICK: dict[str, Any] = {
    "tasks": 8,
    "holdout": 5,
    "cells": 3,
    "widths": Widths(reward=0.6, cost=0.6),
    "max_episodes": 150,
    "progress": False,
}


def trained(family: Any = None, library: Any = LIBRARY, **changes: Any) -> sf.PolicySet:
    return train_simulated(coins() if family is None else family, library, **{**QUICK, **changes})


@pytest.fixture(scope="module")
def plain() -> sf.PolicySet:
    return trained(coins(signals=(MEAN_COIN,)))


@pytest.fixture(scope="module")
def shared() -> sf.PolicySet:
    return trained(shared_coins(), max_episodes=900, widths=Widths(reward=0.3, cost=0.3))


def boxes(found: sf.PolicySet) -> Any:
    p = found.cells.predictions
    lower = np.concatenate([p.reward_lower[..., None], p.cost_lower], axis=2)
    return lower, np.concatenate([p.reward_upper[..., None], p.cost_upper], axis=2)


@pytest.mark.parametrize("which", ["plain", "shared"])
def test_exact_values_of_fresh_tasks_lie_in_a_cell(which: str, request: pytest.FixtureRequest) -> None:
    lower, upper = boxes(request.getfixturevalue(which))
    gains = np.linspace(0.2, 1.0, 33)
    truth = np.stack([np.stack(np.broadcast_arrays(*exact(gains, action)), axis=-1) for action in ACTIONS], axis=1)
    inside = ((truth[:, None] >= lower) & (truth[:, None] <= upper)).all(axis=(2, 3)).any(axis=1)
    assert inside.all()


def test_the_certificate_is_the_binomial_limit_and_what_simulation_adds(plain: sf.PolicySet) -> None:
    found = plain.certificate
    assert found is not None and found.holdout == 5
    # P(in no cell) <= p / (1 - beta), at any error.
    for delta in (0.5, 0.025, 1e-6, 1e-9, 1e-15):
        p = clopper_pearson_upper(found.uncovered, 5, delta)
        assert simulated_upper(found.uncovered, 5, delta, found.simulation_error) >= min(1.0, p / 0.9) - 1e-12
    assert found.simulation_error == pytest.approx(clopper_pearson_upper(found.uncovered, 5, 1e-6) / 9.0)
    assert found.uncovered_upper == min(1.0, clopper_pearson_upper(found.uncovered, 5, 0.0125) + found.simulation_error)
    assert found.margin_failures == 0
    assert found.margin_failure_upper == pytest.approx(
        clopper_pearson_upper(0, 5, 0.0125) + clopper_pearson_upper(0, 5, 1e-6) / 9.0
    )
    assert {e.name: e.delta for e in plain.ledger.entries} == {"coverage": 0.0125, "margin": 0.0125}
    assert plain.extra["simulation"]["level_per_task"] == 0.1


def test_a_holdout_task_is_covered_only_if_all_its_intervals_lie_in_one_cell() -> None:
    """Cells from a corner of the family, so that intervals decide: means alone would call more tasks covered."""

    def corner(n: int, rng: np.random.Generator) -> Any:
        return rng.uniform(0.2, 0.3 if n == 2 else 1.0, (n, 1))

    family = coins(sampler=corner)
    narrow: dict[str, Any] = {"widths": Widths(reward=0.35, cost=0.6), "max_episodes": 400}
    found = trained(family, tasks=2, cells=2, holdout=10, strict=False, **narrow)
    lower, upper = boxes(found)
    tasks, episodes = holdout_stream(0, fingerprint(found), 1).spawn(2)
    fresh = int(episodes.integers(2**53))
    values = estimate(coins(), family.sample(10, tasks), LIBRARY, alpha=0.1, seed=(fresh, 2), **narrow)

    def uncovered(low: Any, high: Any) -> int:
        return int((~((low[:, None] >= lower) & (high[:, None] <= upper)).all(axis=(2, 3)).any(axis=1)).sum())

    assert found.certificate is not None
    assert found.certificate.uncovered == uncovered(values.lower, values.upper) > uncovered(values.mean, values.mean)


def test_tasks_in_no_cell_are_noticed_at_the_stated_rate() -> None:
    """A box that every task misses by a hair: hold-out tasks count as covered in it with probability beta at most."""
    truth = np.array([exact(0.5, action) for action in ACTIONS])
    covered = 0
    for seed in range(60):
        values = estimate(coins(), [[0.5]], LIBRARY, alpha=0.3, seed=seed, widths=Widths(9.0, 9.0), max_episodes=40)
        low, high = np.zeros((3, 2)), np.full((3, 2), 9.0)
        high[1, 1] = truth[1, 1] - 1e-9
        covered += int(((values.lower[0] >= low) & (values.upper[0] <= high)).all())
    assert rate_test(covered, 60, 0.3) > 1e-3


def test_shared_episodes_pay_for_their_dependence(shared: sf.PolicySet) -> None:
    spent = {e.name: e.delta for e in shared.ledger.entries}
    assert spent == pytest.approx({"simulation": 0.0025, "coverage": 0.01125, "margin": 0.01125})
    # Markov: the level of a task's intervals is beta times what the ledger spends.
    assert shared.extra["simulation"]["level_per_task"] == pytest.approx(0.005 * 0.0025)
    assert shared.certificate is not None
    assert shared.certificate.uncovered_upper == pytest.approx(
        clopper_pearson_upper(shared.certificate.uncovered, 5, 0.01125) + 0.005
    )


@pytest.mark.parametrize("which", ["plain", "shared"])
def test_the_margin_is_what_every_cell_guarantees(which: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(which)
    _, upper = boxes(found)
    assert found.assumption.holds
    assert found.safe_margin == CRITERION.cost_limits[0] - upper[:, 0, 1].max()
    assert 0.0 < found.safe_margin < CRITERION.cost_limits[0] - exact(1.0, ACTIONS[0])[1]


def test_a_cell_is_explored_towards_the_best_policy_that_is_surely_feasible_there(plain: sf.PolicySet) -> None:
    # The costs are .17, .69 and 1.20, the limit is 1.2: the third is nowhere surely feasible.
    assert set(plain.cells.policy_index.tolist()) <= {0, 1}
    assert plain.cells.policy_index[plain.cells.parameters[:, 0].argmax()] == 1


def test_optimal_values_bound_what_mixtures_of_the_library_reach(plain: sf.PolicySet) -> None:
    for k, gain in enumerate(plain.cells.parameters[:, 0]):
        rewards, costs = exact(gain, np.array(ACTIONS))
        best = max(
            w * rewards[i] + (1 - w) * rewards[j]
            for i in range(3)
            for j in range(3)
            for w in np.linspace(0, 1, 21)
            if w * costs[i] + (1 - w) * costs[j] <= CRITERION.cost_limits[0]
        )
        assert plain.cells.optimal_upper[k] >= best - 1e-9


def test_signals_are_predicted(plain: sf.PolicySet) -> None:
    signals = plain.cells.signals
    assert signals is not None and signals.names == ("coins",)
    np.testing.assert_array_equal(signals.bounds, [[0.0, 1.0]])
    truth = np.array(ACTIONS)[:, None]
    assert ((signals.lower <= truth) & (truth <= signals.upper)).all()


def test_the_spread_of_episodes_is_reported(plain: sf.PolicySet) -> None:
    spread = plain.extra["simulation"]["spread"]
    assert len(spread) == 3 and all(0.0 < share < 1.0 for share in spread)
    # A mean of four fair coins has half the deviation of one, and that has the largest there is.
    assert 0.35 < spread[2] < 0.65


def test_the_set_survives_a_file(plain: sf.PolicySet, tmp_path: Path) -> None:
    plain.save(tmp_path / "set.sf")
    assert sf.PolicySet.load(tmp_path / "set.sf").hash == plain.hash


@pytest.mark.parametrize("trust", ["cells", "envelope", "data"])
def test_the_agent_runs_at_every_trust_level(plain: sf.PolicySet, trust: Any) -> None:
    agent = sf.CertifiedAgent(plain, trust=trust, evidence="returns", p_max=0.9, ramp=0)  # returns are invented below
    rng, costs = np.random.default_rng(0), exact(0.5, np.array(ACTIONS))[1]
    for _ in range(5):
        batch = agent.ask(20)
        assert batch.weights @ costs <= CRITERION.cost_limits[0]
        coins_seen = rng.random((20, 1))
        told = 2.0 * rng.random(20) * costs[batch.policy_index]
        agent.tell(batch.ids, rng.random(20), told[:, None], signals=coins_seen)
    assert agent.alarm is None


def test_fewer_episodes_make_wider_cells() -> None:
    never = Widths(reward=1e-6, cost=1e-6)
    few, many = (boxes(trained(coins(), holdout=0, cells=1, widths=never, max_episodes=n)) for n in (100, 200))
    room = (few[1] - few[0]) - (many[1] - many[0])
    # Where nothing is random nothing can widen; everywhere else half the episodes must show.
    assert (room[0, :, 1] > 0.1 * (many[1] - many[0])[0, :, 1]).all()
    assert (room[0, :, 0] > 0.0).all()


def test_cells_hold_their_members_intervals_and_room_for_a_fresh_one() -> None:
    lower, upper = boxes(trained(coins(), holdout=0, cells=1))
    drawn = coins().sample(8, np.random.default_rng(np.random.SeedSequence(0).spawn(2)[0]))
    values = estimate(coins(), drawn, LIBRARY, alpha=0.1, seed=(0, 1), widths=QUICK["widths"], max_episodes=150)
    room = np.minimum(values.lower.min(axis=0) - lower[0], upper[0] - values.upper.max(axis=0))
    at_the_end = (lower[0] <= 0.0) | (upper[0] >= coins().ranges()[1])
    assert (room >= 0.45 * values.widths.max(axis=0))[~at_the_end].all()


def test_nothing_depends_on_the_number_of_processes(plain: sf.PolicySet) -> None:
    assert trained(coins(signals=(MEAN_COIN,)), workers=2).hash == plain.hash


@pytest.mark.parametrize("cover", ["parameters", ParameterDistance(np.array([0.1]))])
def test_covers_other_than_by_values(cover: Any) -> None:
    found = trained(cover=cover, holdout=0)
    assert len(found.cells) == 3 and "parameter distance" in found.training.oracle
    assert found.certificate is None and found.ledger.entries == ()


@pytest.mark.parametrize("family", [coins(), shared_coins()])
def test_simulated_seams_lie_inside_like_interpolated_ones(family: Any) -> None:
    found = trained(family, seams="simulate", holdout=0)
    lower, upper = boxes(found)
    order = np.argsort(found.cells.parameters[:, 0])
    assert "closing gaps" in found.extra["simulation"]["episodes"]
    # Neighbouring cells touch in every quantity.
    for a, b in itertools.pairwise(order):
        assert (np.minimum(upper[a], upper[b]) >= np.maximum(lower[a], lower[b])).all()


def test_tasks_outside_are_kept_to_bet_on() -> None:
    found = trained(outside=[[0.0], [1.7]], holdout=0)
    outside = found.cells.outside
    assert outside is not None
    assert outside.reward.shape == (2, 3) and outside.cost.shape == (2, 3, 1)
    np.testing.assert_allclose(outside.reward[0], exact(0.0, np.array(ACTIONS))[0], atol=1e-9)
    assert sf.CertifiedAgent(found, trust="envelope", evidence="returns").policies is found.policies


def test_the_choice_of_policies_may_be_the_users() -> None:
    found = trained(policy_for_cell=lambda p: 2 if p[0] > 0.5 else 0, holdout=0)
    assert found.cells.policy_index.tolist() == [2 if p > 0.5 else 0 for p in found.cells.parameters[:, 0]]
    with refused("SF-ARGUMENT-RANGE", "policy_for_cell", "0", "2", "3"):
        trained(policy_for_cell=lambda p: 3, holdout=0)


def test_functions_are_policies_that_stay_in_this_process(tmp_path: Path) -> None:
    found = trained(library=[lambda o: np.array([0.1]), Constant(0.4)], holdout=0)
    assert isinstance(found.policies[0], FunctionPolicy)
    with refused("SF-POLICY-UNREGISTERED"):
        found.save(tmp_path / "set.sf")


def test_an_unsafe_safe_policy_is_refused_or_reported() -> None:
    with refused("SF-ASSUMPTION-INFEASIBLE", "8"):
        trained(library=LIBRARY[::-1])
    with refused("SF-ASSUMPTION-INFEASIBLE", "8"):
        trained(library=LIBRARY[::-1], strict=False)


def test_tasks_without_margin_are_left_out_when_not_strict() -> None:
    """The cost of a task is its parameter, without chance: tasks above the limit are known for sure."""
    criterion = sf.Criterion(DISCOUNT, [2.0], (0.0, 1.0), [1.0], HORIZON)
    family = coins(criterion=criterion, make=Priced, bounds=None)
    narrow = Widths(reward=3.0, cost=0.5)
    with refused("SF-ASSUMPTION-INFEASIBLE", "safe policy"):
        trained(family, LIBRARY[:1], widths=narrow)
    found = trained(family, LIBRARY[:1], widths=narrow, strict=False, tasks=20, holdout=20)
    assert not found.assumption.holds and found.assumption.offenders
    assert min(o[0] for o in found.assumption.offenders) > found.cells.parameters.max()
    assert found.certificate is not None and found.certificate.uncovered >= found.certificate.margin_failures > 0
    assert "is not shown to keep the margin" in found.assumption.statement


class Priced:
    """Coins whose cost per step is the task's parameter."""

    def __init__(self, parameters: Any) -> None:
        from tests.gym.toys import Coins

        self.inner, self.price = Coins(0.5), float(parameters[0])
        self.action_space, self.observation_space = self.inner.action_space, self.inner.observation_space
        self.reset, self.close = self.inner.reset, self.inner.close

    def step(self, action: Any) -> Any:
        result = self.inner.step(action)
        return *result[:4], {"cost": self.price}


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"tasks": 1}, ("SF-ARGUMENT-RANGE", "tasks", "2")),
        ({"holdout": -1}, ("SF-ARGUMENT-RANGE", "holdout", "0")),
        ({"cells": 0}, ("SF-ARGUMENT-RANGE", "cells", "1")),
        ({"delta": 0.0}, ("SF-ARGUMENT-RANGE", "delta")),
        ({"beta": 1.0}, ("SF-ARGUMENT-RANGE", "beta")),
        ({"margin": 0.0}, ("SF-ARGUMENT-RANGE", "margin")),
        ({"seams": "none"}, ("SF-ARGUMENT-CHOICE", "seams", "interpolate, simulate", "'none'")),
        ({"cover": "colour"}, ("SF-ARGUMENT-CHOICE", "cover", "'colour'")),
        ({"outside": [[0.1, 0.2]]}, ("SF-ARGUMENT-SHAPE", "outside", "(M, 1)", "(1, 2)")),
        ({"library": []}, ("SF-ARGUMENT-EMPTY", "library")),
        ({"max_episodes": 0}, ("SF-ARGUMENT-RANGE", "max_episodes", "1")),
    ],
)
def test_an_argument_is_refused(changes: dict[str, Any], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        trained(**{"holdout": 0, "max_episodes": 40, "margin": None, **changes})


def test_an_error_in_a_simulation_stops_training() -> None:
    with refused("SF-SIMULATION-RANGE", "action", "1"):
        trained(library=[LIBRARY[0], Constant(1.5)])


def test_too_wide_cells_leave_no_margin() -> None:
    with refused("SF-ASSUMPTION-WIDEST"):
        trained(library=[constant(0.5)], max_episodes=220, holdout=0, cells=1, widths=Widths(1e-6, 1e-6))


def test_the_simulated_path_agrees_with_the_exact_one() -> None:
    """One cell over the whole family of arms: the same certified costs and plan as from exact values, up to interval widths."""
    arm = Arm()
    family = tabular_family(arm, 8)
    tables = [np.array([[1.0 - p, p]]) for p in (0.0, 0.6)]
    library = [sf.TabularPolicy(t) for t in tables]
    widths = Widths(reward=0.4, cost=0.4)
    found = train_simulated(
        family, library, tasks=4, holdout=6, cells=1, widths=widths, max_episodes=250, progress=False
    )
    lower, upper = boxes(found)
    values = np.stack([sf.evaluate_many(arm.cmdp([q]), np.stack(tables)) for q in np.linspace(0.3, 1.0, 50)])
    hull = values.min(axis=0), values.max(axis=0)
    assert (lower[0] <= hull[0] + 0.02).all() and (upper[0] >= hull[1] - 0.02).all()
    assert (lower[0] >= hull[0] - 2.0 * 0.4 - 0.05).all() and (upper[0] <= hull[1] + 2.0 * 0.4 + 0.05).all()
    agent = sf.CertifiedAgent(found, trust="cells", evidence="returns", p_max=0.999, ramp=0)
    weights = agent.ask(1).weights
    # From exact values the plan plays policy 1 with weight 5/6: its dearest cost is 1.2, the limit 1, idling costs nothing.
    upper_costs = upper[0, :, 1]
    np.testing.assert_allclose(weights[1], (1.0 - upper_costs[0]) / (upper_costs[1] - upper_costs[0]), atol=1e-6)
    assert 0.4 <= weights[1] <= 5 / 6 + 1e-9


class Undecided:
    """Draws at random unless asked not to, as models of Stable-Baselines3 do; and remembers that it was reset."""

    starts = 0

    def reset(self) -> None:
        self.starts += 1

    def predict(self, observation: Any, state: Any = None, deterministic: bool = False) -> tuple[Any, Any]:
        return (np.array([0.1]) if deterministic else np.random.default_rng().random(1)), state


def test_what_is_measured_is_what_is_deployed() -> None:
    found = trained(library=[LIBRARY[0], Undecided()], holdout=0)
    policy = found.policies[1]
    assert isinstance(policy, DeterministicPolicy)
    assert policy.predict(np.zeros(2))[0] == 0.1 and policy.predict(np.zeros(2), 5, deterministic=False) == (0.1, 5)
    twin = copy.deepcopy(policy)
    twin.reset()
    assert (twin.starts, policy.starts) == (1, 0)
    again = trained(library=[LIBRARY[0], LIBRARY[0]], holdout=0)
    np.testing.assert_allclose(boxes(found)[1][:, 1, 1], boxes(again)[1][:, 1, 1], atol=0.3)
    # Kinds that files hold stay what they are.
    assert again.policies[0] is LIBRARY[0]


def test_what_shared_episodes_cost_is_part_of_the_certificates_error(shared: sf.PolicySet, plain: sf.PolicySet) -> None:
    for found in (shared, plain):
        assert found.certificate is not None
        assert found.certificate.delta_coverage == pytest.approx(0.025) == pytest.approx(found.ledger.spent)
    # A tenth of the first look's half went to the episodes that all hold-out tasks share: at that error nothing is left for the limit.
    assert shared.ledger.spent_on("simulation") == pytest.approx(0.0025) and plain.ledger.spent_on("simulation") == 0.0
    with refused("SF-ASSUMPTION-SPENT", "delta_coverage", "0.005", "0.004"):
        sf.CertifiedAgent(shared, trust="cells", evidence="returns", p_max=0.99, delta_coverage=0.004)
    certificate = shared.certificate
    assert certificate is not None
    limit = clopper_pearson_upper(certificate.uncovered, certificate.holdout, 0.01125) + certificate.simulation_error
    assert limit == pytest.approx(certificate.uncovered_upper)
    sf.CertifiedAgent(shared, trust="cells", evidence="returns", p_max=limit + 1e-9, delta_coverage=0.05)
    with refused("SF-ASSUMPTION-COVERAGE"):
        sf.CertifiedAgent(shared, trust="cells", evidence="returns", p_max=limit - 1e-9, delta_coverage=0.05)


def test_a_stated_margin_is_not_said_to_be_guaranteed_by_cells_that_do_not() -> None:
    library = [constant(0.1)]
    kept = trained(library=library, holdout=0).safe_margin
    stated = kept + 0.1
    found = trained(library=library, holdout=0, margin=stated).assumption
    assert (
        f"the stated margin of {stated:.4g} in every task" in found.statement
        and f"guarantees a margin of {kept:.4g} only" in found.statement
    )
    assert "in every cell" in trained(library=library, holdout=0, margin=kept / 2).assumption.statement


@pytest.mark.parametrize("which", ["plain", "shared"])
def test_a_second_look_has_other_tasks_other_episodes_and_half_the_share(
    which: str, request: pytest.FixtureRequest
) -> None:
    """Cells and policies are the same to the last bit: nothing about them depends on the look."""
    first, drawn = request.getfixturevalue(which), []

    def sampler(n: int, rng: np.random.Generator) -> Any:
        drawn.append(coins().sample(n, rng))
        return drawn[-1]

    family = coins(signals=(MEAN_COIN,), sampler=sampler) if which == "plain" else shared_coins(sampler=sampler)
    finer = {} if which == "plain" else {"max_episodes": 900, "widths": Widths(reward=0.3, cost=0.3)}
    again = trained(family, previous=first, **finer)
    assert (first.attempt, again.attempt) == (1, 2) and again.looks[0].holdout == 5
    for name in ("reward_lower", "reward_upper", "cost_lower", "cost_upper"):
        one, two = (getattr(found.cells.predictions, name) for found in (first, again))
        assert (one == two).all()
    assert fingerprint(first) == fingerprint(again)
    for entry, paid in (("coverage", 0.00625), ("margin", 0.00625), ("looks", 0.025)):
        factor = 0.9 if which == "shared" and entry != "looks" else 1.0
        assert again.ledger.spent_on(entry) == pytest.approx(factor * paid)
    tasks, _ = holdout_stream(0, fingerprint(first), 2).spawn(2)
    assert (drawn[-1] == coins().sample(5, tasks)).all()


# The number of cells


def test_the_number_of_cells_is_chosen_without_further_simulation() -> None:
    options: dict[str, Any] = {"tasks": 16, "holdout": 40, "p_max": 0.4}
    found = trained(cells="auto", **options)
    choice = found.extra["cells"]
    assert choice["tasks"] == 16 and 1 <= len(found.cells) <= choice["cells"] == max(
        row["cells"] for row in choice["tried"] if row["chance"] >= 0.8
    )
    fixed = trained(cells=choice["cells"], **options)
    np.testing.assert_array_equal(found.cells.predictions.cost_upper, fixed.cells.predictions.cost_upper)
    assert found.extra["simulation"] == fixed.extra["simulation"]
    assert "cells" not in fixed.extra


def test_a_hopeless_number_of_cells_is_refused_before_the_hold_out_is_simulated() -> None:
    with refused("SF-ASSUMPTION-CELLS"):
        trained(cells="auto", tasks=12, holdout=400, p_max=0.02)
    with refused("SF-ARGUMENT-CHOICE", "cells", "1", '"auto"'):
        trained(cells="all")
