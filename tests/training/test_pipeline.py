"""Training: cells that hold what they claim, a certificate that counts what it says, and the same set for the same seed."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, binom

import surefoot as sf
from surefoot.policyset.schema import Cells
from surefoot.tasks import NoisyGridworld
from surefoot.training import ParameterDistance
from surefoot.training.assembly import _library
from surefoot.training.assumption import assumption_report
from tests.refusals import refused
from tests.training.families import Arm, ArmOptimum, Blend, Spy

WORLD = NoisyGridworld()


def tables_of(policy_set: sf.PolicySet) -> np.ndarray:
    return np.stack([p.table for p in policy_set.policies if isinstance(p, sf.TabularPolicy)])


def consistent(policy_set: sf.PolicySet, cmdp: sf.TabularCMDP, bound: float) -> np.ndarray:
    """Cells whose every interval holds the task's quantities; written from the schema, not from training's code."""
    cells, slack = policy_set.cells, 1e-12
    by_state = sf.state_values(cmdp, tables_of(policy_set))
    values = by_state @ cmdp.start
    p = cells.predictions
    inside = ((p.reward_lower - slack <= values[:, 0]) & (values[:, 0] <= p.reward_upper + slack)).all(axis=1)
    inside &= ((p.cost_lower - slack <= values[:, 1:]) & (values[:, 1:] <= p.cost_upper + slack)).all(axis=(1, 2))
    inside &= bound <= cells.optimal_upper + slack
    if cells.conditional is not None:
        c, given = cells.conditional, by_state[:, :, cells.conditional.initial_states]
        inside &= ((c.reward_lower - slack <= given[:, 0]) & (given[:, 0] <= c.reward_upper + slack)).all(axis=(1, 2))
        costs = given[:, 1:]
        inside &= ((c.cost_lower - slack <= costs) & (costs <= c.cost_upper + slack)).all(axis=(1, 2, 3))
    if cells.kernel is not None:
        s, a, t = cells.kernel.support.T
        row = cmdp.dense[s, a, t]
        inside &= ((cells.kernel.lower - slack <= row) & (row <= cells.kernel.upper + slack)).all(axis=1)
        inside &= abs(row.sum() - cmdp.n_states * cmdp.n_actions) < 1e-9
    return np.flatnonzero(inside)


def arrays_of(cells: Cells) -> list[np.ndarray]:
    parts = [cells, cells.predictions, cells.conditional, cells.kernel]
    return [v for part in parts if part is not None for v in vars(part).values() if isinstance(v, np.ndarray)]


@pytest.mark.slow
def test_after_training_neighbouring_cells_touch(gridworld_set: sf.PolicySet) -> None:
    """Evenly spaced noises between the extremes of the sample: none falls between two cells."""
    parameters = np.sort(gridworld_set.cells.parameters[:, 0])
    program = sf.solvers.OccupancyProgram(WORLD.cmdp(0.3))
    covering = []
    for noise in np.linspace(parameters[0], parameters[-1], 200):
        cmdp = WORLD.cmdp(noise)
        covering.append(consistent(gridworld_set, cmdp, program.solve(cmdp).bound))
    assert all(found.size for found in covering)
    assert max(found.size for found in covering) <= 3, "cells are local: a noise belongs to one, or to two neighbours"
    assert {int(k) for found in covering for k in found} == set(range(len(gridworld_set.cells)))


def test_tasks_far_outside_are_in_no_cell(gridworld_set: sf.PolicySet) -> None:
    for noise in (0.05, 0.15, 0.42):
        assert consistent(gridworld_set, WORLD.cmdp(noise), sf.solve(WORLD.cmdp(noise)).bound).size == 0


def test_every_cell_predicts_its_own_center_exactly(gridworld_set: sf.PolicySet) -> None:
    cells = gridworld_set.cells
    for k, noise in enumerate(cells.parameters[:, 0]):
        values = sf.evaluate_many(WORLD.cmdp(noise), tables_of(gridworld_set))
        np.testing.assert_allclose(cells.predictions.reward_center[k], values[:, 0], atol=1e-9)
        np.testing.assert_allclose(cells.predictions.cost_center[k], values[:, 1:], atol=1e-9)
        best = sf.solve(WORLD.cmdp(noise))
        assert cells.predictions.reward_center[k, cells.policy_index[k]] == pytest.approx(best.value, abs=1e-6)
        assert cells.optimal_center[k] == pytest.approx(best.value, abs=1e-5)
        assert cells.optimal_upper[k] >= best.value


def test_the_library_starts_with_the_safe_policy(gridworld_set: sf.PolicySet) -> None:
    np.testing.assert_array_equal(tables_of(gridworld_set)[0], WORLD.safe_policy())
    assert len(gridworld_set.policies) == len(gridworld_set.cells) + 1
    assert len(gridworld_set.cells) <= 10


def test_a_smaller_library_serves_every_cell_with_its_nearest_policy() -> None:
    distances = np.abs(np.arange(9.0)[:, None] - np.arange(9.0))
    centers, owner = _library(distances, 3)
    assert len(centers) <= 3
    np.testing.assert_array_equal(centers[owner], [centers[np.abs(centers - k).argmin()] for k in range(9)])
    everyone, own = _library(distances, 9)
    assert everyone.tolist() == own.tolist() == list(range(9))
    small = sf.train(Arm(), tasks=60, holdout=0, cells=8, policies=3, seed=1, optimal=ArmOptimum())
    assert len(small.policies) <= 4 < len(small.cells)
    assert set(small.cells.policy_index.tolist()) == set(range(1, len(small.policies)))


def test_the_margin_is_what_every_cell_guarantees(gridworld_set: sf.PolicySet) -> None:
    worst = gridworld_set.cells.predictions.cost_upper[:, 0, 0].max()
    assert gridworld_set.safe_margin == pytest.approx(1.5 - worst)
    assert gridworld_set.safe_margin > 0.1
    assert gridworld_set.assumption.holds


def test_episode_bounds_hold_in_simulation(gridworld_set: sf.PolicySet) -> None:
    bounds = gridworld_set.bounds
    assert (bounds.return_lower, bounds.return_upper) == pytest.approx((0.0, 100.0), abs=1e-6)
    assert bounds.cost_ceilings == pytest.approx((90.0,))
    played = sf.simulate(WORLD.cmdp(0.33), tables_of(gridworld_set)[3], episodes=5000, seed=1)
    assert played.returns.max() <= bounds.return_upper + 1e-9
    assert played.costs.max() <= bounds.cost_ceilings[0] + 1e-9


def test_the_hold_out_is_fresh_last_and_counted_honestly() -> None:
    """A recount of the hold-out from the schema alone gives the certificate's numbers."""
    spy: Any = Spy(Blend(4))
    policy_set = sf.train(spy, tasks=40, holdout=60, cells=5, delta=0.1, seed=2, safe_policy=_cheapest(Blend(4)))
    training, holdout = spy.samples
    assert (len(training), len(holdout)) == (40, 60)
    assert not (training[:, None] == holdout[None]).all(axis=2).any()
    cmdps = [spy.cmdp(p) for p in holdout]
    missed = sum(consistent(policy_set, m, sf.solve(m).bound).size == 0 for m in cmdps)
    margins = [6.0 - sf.evaluate(m, tables_of(policy_set)[0]).costs.max() for m in cmdps]
    failures = int((np.asarray(margins) < policy_set.safe_margin).sum())
    certificate = policy_set.certificate
    assert certificate is not None
    assert (certificate.holdout, certificate.uncovered, certificate.margin_failures) == (60, missed, failures)
    assert 0 < missed < 60, "both outcomes must occur, or the recount shows little"
    # The first look pays half of delta, and each of the two limits half of that.
    assert certificate.uncovered_upper == pytest.approx(beta.ppf(1 - 0.025, missed + 1, 60 - missed))
    assert certificate.margin_failure_upper == pytest.approx(beta.ppf(1 - 0.025, failures + 1, 60 - failures))
    assert certificate.delta_coverage == 0.05
    assert (policy_set.ledger.total, policy_set.ledger.left) == pytest.approx((0.1, 0.05))
    assert [e.name for e in policy_set.ledger.entries] == ["coverage", "margin"]


def _cheapest(family: Blend) -> np.ndarray:
    """A policy that is feasible over the whole family, found here by trying all deterministic ones at the corners."""
    from tests.models import deterministic_policies

    corners = [family.cmdp(p) for p in itertools.product((0.0, 1.0), repeat=2)]
    tables = deterministic_policies(3, 2)
    worst = np.max([sf.evaluate_many(m, tables)[:, 1:].max(axis=1) for m in corners], axis=0)
    best: np.ndarray = tables[int(worst.argmin())]
    return best


@pytest.mark.slow
def test_cells_are_frozen_before_the_hold_out_is_drawn() -> None:
    def train(holdout: int) -> sf.PolicySet:
        return sf.train(WORLD, tasks=40, holdout=holdout, cells=4, seed=5)

    without, few, many = train(0), train(10), train(30)
    for other in (few, many):
        for one, two in zip(arrays_of(without.cells), arrays_of(other.cells)):
            np.testing.assert_array_equal(one, two)
        assert other.safe_margin == without.safe_margin
    assert without.certificate is None
    assert without.ledger.spent == 0.0


@pytest.mark.statistical
def test_the_upper_limit_is_false_in_at_most_a_quarter_of_delta_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """80 independent trainings; the truly uncovered mass is measured on a fine grid of the one parameter.

    Cells are shrunk a little instead of widened, so that there is something to miss.
    """
    monkeypatch.setattr("surefoot.training.assembly.INFLATION", -0.01)
    delta, runs, false_claims, family = 0.9, 80, 0, Arm()
    prices = np.linspace(0.3, 1.0, 701)
    for seed in range(runs):
        policy_set = sf.train(
            family,
            tasks=12,
            holdout=40,
            cells=3,
            delta=delta,
            seed=seed,
            optimal=ArmOptimum(),
            coverage=ParameterDistance(),
        )
        assert policy_set.certificate is not None
        false_claims += policy_set.certificate.uncovered_upper < _uncovered(policy_set, prices)
    assert false_claims > 0, "delta is large on purpose: a limit that is never wrong would test nothing"
    assert binom.sf(false_claims - 1, runs, delta / 4) > 1e-3


def _uncovered(policy_set: sf.PolicySet, prices: np.ndarray) -> float:
    """Share of prices in no cell; values of all policies at all prices at once: V_c = 2 q share."""
    shares = tables_of(policy_set)[:, 0, 1]
    costs = 2.0 * prices[:, None, None] * shares[None, None, :]
    p = policy_set.cells.predictions
    inside = ((p.cost_lower[None, :, :, 0] <= costs) & (costs <= p.cost_upper[None, :, :, 0])).all(axis=2)
    inside &= np.minimum(2.0, 1.0 / prices)[:, None] <= policy_set.cells.optimal_upper[None]
    return float(1.0 - inside.any(axis=1).mean())


@pytest.mark.slow
@pytest.mark.parametrize("large", [False, True])
def test_the_same_seed_gives_the_same_set_on_any_number_of_workers(
    large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr("surefoot.training.values.BULK_TASKS", 60)
        monkeypatch.setattr("surefoot.training.cover.MATRIX_TASKS", 59)
    options: dict[str, Any] = {"tasks": 60, "holdout": 30, "cells": 4, "progress": False}
    first = sf.train(WORLD, seed=1, **options)
    assert sf.train(WORLD, seed=1, **options).hash == first.hash
    assert sf.train(WORLD, seed=1, workers=2, **options).hash == first.hash
    assert sf.train(WORLD, seed=2, **options).hash != first.hash


def test_subroutine_3_decides_the_sample_when_no_number_is_given() -> None:
    spy: Any = Spy(Arm())
    policy_set = sf.train(
        spy, tasks=None, radius=0.4, delta=0.3, holdout=10, seed=0, coverage=ParameterDistance(), optimal=ArmOptimum()
    )
    sizes = [len(s) for s in spy.samples]
    assert sizes[:-1] == [17 * 2**k for k in range(len(sizes) - 1)]
    assert sizes[-1] == 10
    report = policy_set.training
    assert (report.tasks_sampled, report.rounds) == (sizes[-2], len(sizes) - 1)
    assert report.level <= 0.3
    assert report.radius == 0.4


def test_reports_name_family_oracle_and_sample(gridworld_set: sf.PolicySet) -> None:
    report = gridworld_set.training
    assert (report.family, report.oracle, report.tasks_sampled, report.rounds) == (
        "gridworld (truncated)", "CMDP distance", 150, 1,
    )  # fmt: skip
    assert report.uncovered_fraction == 0.0
    assert report.proved_coverage == 0.0, "150 tasks prove nothing by the paper's theorem, and the report says so"


def test_the_published_family_is_reported_to_break_the_assumption() -> None:
    policy_set = sf.train(NoisyGridworld("published"), tasks=60, holdout=20, cells=5, seed=0)
    report = policy_set.assumption
    assert not report.holds
    assert (0.5,) in report.offenders
    assert report.minimum_costs[report.offenders.index((0.5,))][0] > 1.5
    assert "noise=0.5: no policy is feasible" in report.statement
    assert "the last feasible task is noise=0.436" in report.statement


class Shifted(NoisyGridworld):
    """Samples beyond what is feasible."""

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return np.where(rng.random((n, 1)) < 0.1, 0.45, rng.uniform(0.28, 0.34, (n, 1)))


@pytest.mark.slow
def test_infeasible_sampled_tasks_are_named_and_refused_or_left_uncovered() -> None:
    options: dict[str, Any] = {"tasks": 40, "cells": 4, "seed": 1}
    with pytest.raises(sf.AssumptionError) as caught:
        sf.train(Shifted(), holdout=0, **options)
    least = sf.solve(WORLD.cmdp(0.45)).costs[0]
    assert f"noise=0.45: no policy is feasible, the least attainable cost is {least:.3g}" in str(caught.value)
    assert "strict=False" in str(caught.value)
    lenient = sf.train(Shifted(), holdout=60, strict=False, **options)
    assert not lenient.assumption.holds
    assert (0.45,) in lenient.assumption.offenders
    certificate = lenient.certificate
    assert certificate is not None and certificate.uncovered >= 2, "tasks without a promise count as uncovered"
    assert consistent(lenient, WORLD.cmdp(0.45), -np.inf).size == 0


@pytest.mark.slow
def test_a_family_without_any_usable_task_is_refused() -> None:
    class Hopeless(NoisyGridworld):
        def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
            return rng.uniform(0.45, 0.5, (n, 1))

    for strict in (True, False):
        with refused("SF-ASSUMPTION-INFEASIBLE"):
            sf.train(Hopeless(), tasks=10, holdout=0, cells=2, strict=strict)


@pytest.mark.slow
def test_a_stated_margin_is_required_and_kept() -> None:
    options: dict[str, Any] = {"tasks": 40, "holdout": 20, "cells": 4, "seed": 1}
    stated = sf.train(WORLD, margin=0.1, **options)
    assert stated.safe_margin == 0.1
    assert stated.certificate is not None and stated.certificate.margin_failures == 0
    with refused("SF-ASSUMPTION-MARGIN", "safe policy"):
        sf.train(WORLD, margin=0.45, **options)
    corner = sf.train(WORLD, margin=0.135, **options)
    assert not corner.assumption.holds, "no sampled task has less, but the corner at noise .38 has .131"
    assert set(corner.assumption.offenders) == {(0.38,)}


def test_a_stated_margin_is_not_said_to_be_guaranteed_by_cells_that_do_not() -> None:
    for kept, words in (
        (0.05, "in every task that training looked at; the widest cell guarantees 0.05"),
        (0.2, "0.1 in every cell"),
    ):
        found = assumption_report(WORLD, np.zeros((1, 1)), [], kept, 0.1)
        assert found.safe_margin == 0.1 and words in found.statement
    assert assumption_report(WORLD, np.zeros((1, 1)), [], 0.05, None).safe_margin == 0.05


def test_the_users_controller_is_verified() -> None:
    idle = sf.train(Arm(), tasks=20, holdout=0, cells=2, safe_policy=np.array([[0.9, 0.1]]), optimal=ArmOptimum())
    np.testing.assert_array_equal(tables_of(idle)[0], [[0.9, 0.1]])
    with refused("SF-ASSUMPTION-INFEASIBLE", "price="):
        sf.train(Arm(), tasks=20, holdout=0, cells=2, safe_policy=np.array([[0.0, 1.0]]), optimal=ArmOptimum())


def test_without_a_policy_of_its_own_a_family_gets_one() -> None:
    policy_set = sf.train(Blend(2), tasks=20, holdout=20, cells=3, seed=0, strict=False)
    assert policy_set.safe_margin > 0.0
    for a, b in itertools.product((0.2, 0.5, 0.8), repeat=2):
        assert sf.evaluate(Blend(2).cmdp((a, b)), tables_of(policy_set)[0]).costs.max() < 6.0


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "one task": ({"tasks": 1}, ("SF-ARGUMENT-RANGE", "tasks", "2", "1")),
    "fractional tasks": ({"tasks": 10.0}, ("SF-ARGUMENT-TYPE", "tasks", "2", "10.0")),
    "negative hold-out": ({"holdout": -1}, ("SF-ARGUMENT-RANGE", "holdout", "0", "-1")),
    "no cells": ({"cells": 0}, ("SF-ARGUMENT-RANGE", "cells", "1", "0")),
    "no policies": ({"policies": 0}, ("SF-ARGUMENT-RANGE", "policies", "1", "0")),
    "delta zero": ({"delta": 0.0}, ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "0")),
    "delta one": ({"delta": 1.0}, ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "1")),
    "negative seed": ({"seed": -1}, ("SF-ARGUMENT-RANGE", "seed", "0", "-1")),
    "no workers": ({"workers": 0}, ("SF-ARGUMENT-RANGE", "workers", "1", "0")),
    "radius zero": ({"radius": 0.0}, ("SF-ARGUMENT-RANGE", "radius", "(0, inf]", "0")),
    "margin zero": ({"margin": 0.0}, ("SF-ARGUMENT-RANGE", "margin", "(0, inf]", "0")),
    "no radius for subroutine 3": ({"tasks": None}, ("SF-ARGUMENT-MISSING", "radius", "None")),
    "safe policy of another shape": (
        {"safe_policy": np.ones((2, 2))},
        ("SF-ARGUMENT-SHAPE", "safe_policy", "(any, 1, 2)"),
    ),
    "safe policy unnormalised": (
        {"safe_policy": np.array([[0.5, 0.4]])},
        ("SF-ARGUMENT-SIMPLEX", "safe_policy[0, 0]", "1"),
    ),
}


@pytest.mark.parametrize(("options", "refusal"), BAD.values(), ids=BAD.keys())
def test_bad_arguments_are_refused(options: dict[str, Any], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        sf.train(Arm(), **({"tasks": 10, "holdout": 0, "optimal": ArmOptimum()} | options))


@pytest.mark.parametrize(
    "drawn", [np.zeros(10), np.zeros((9, 1)), np.full((10, 1), np.nan)], ids=["flat", "few", "NaN"]
)
def test_families_that_sample_nonsense_are_refused(drawn: np.ndarray) -> None:
    class Broken(Arm):
        def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
            return drawn

    with refused("SF-FAMILY-SAMPLE", "arm.sample(10)", "10", "shape"):
        sf.train(Broken(), tasks=10, holdout=0, optimal=ArmOptimum())


# What the hold-out judges, and how often


class Rare:
    """Episodes of rare tasks start, or move, where those of the others do not: there they are ten times as costly as any other episode.

    Only the hold-out draws rare tasks. Of the two actions the second earns, and costs with probability theta.
    """

    name, parameter_names, support = "rare", ("kind", "theta"), np.array([[0.0, 1.0], [0.3, 0.6]])
    criterion = sf.Criterion(0.9, [0.6], (0.0, 1.0), [100.0])

    def __init__(self, how: str, share: float) -> None:
        self.how, self.share, self.calls = how, share, 0

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        self.calls += 1
        kinds = rng.random(n) < (self.share if self.calls > 1 else 0.0)
        return np.column_stack([kinds, rng.uniform(0.3, 0.6, n)])

    def cmdp(self, parameters: Any) -> sf.TabularCMDP:
        rare, theta = bool(parameters[0] > 0.5), float(parameters[1])
        kernel, costs = np.zeros((7, 2, 7)), np.zeros((1, 7, 2))
        usual, other, mild, bad, hub, end = 0, 1, 2, 3, 4, 5
        kernel[usual, :, [mild, hub]] = np.array([[0.3], [0.7]])
        kernel[other, :, [bad, hub]] = np.array([[0.003], [0.997]])
        if rare and self.how == "moves":
            kernel[usual] = kernel[other]
        kernel[[mild, bad], :, hub] = 1.0
        kernel[hub, 0, end] = kernel[6, :, end] = kernel[end, :, end] = 1.0
        kernel[hub, 1, 6], kernel[hub, 1, end] = theta, 1.0 - theta
        costs[0, mild] = costs[0, 6] = 1.0
        costs[0, bad] = 100.0
        rewards = np.zeros((7, 2))
        rewards[hub] = [0.2, 1.0]
        start = np.eye(7)[other if rare and self.how == "starts" else usual]
        return sf.TabularCMDP(kernel, rewards, costs, [0.6], start, 0.9)

    def safe_policy(self) -> np.ndarray:
        return np.tile([1.0, 0.0], (7, 1))


@pytest.mark.parametrize("entries", [200_000, 0], ids=["kernels kept", "kernels dropped"])
@pytest.mark.parametrize("how", ["starts", "moves"])
def test_tasks_outside_what_the_ceilings_rest_on_are_uncovered(
    how: str, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ceilings are computed from where sampled tasks start and move: a task that does otherwise lies in no cell, whatever its values."""
    monkeypatch.setattr("surefoot.training.pipeline.KERNEL_ENTRIES", entries)
    spy: Any = Spy(Rare(how, 0.3))
    found = sf.train(spy, tasks=30, holdout=40, cells=4, seed=0, progress=False)
    assert max(found.bounds.cost_ceilings) < 2.0, "training saw no rare task"
    rare = int(spy.samples[1][:, 0].sum())
    assert found.certificate is not None and found.certificate.uncovered >= rare > 5
    usual = sf.train(Rare(how, 0.0), tasks=30, holdout=40, cells=4, seed=0, progress=False)
    assert usual.certificate is not None and usual.certificate.uncovered <= 3


def test_a_task_without_the_stated_margin_is_uncovered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of cells start at the limit less the margin, so a cell promises it; here boxes reach farther than the stated margin."""
    monkeypatch.setattr("surefoot.training.assembly.INFLATION", 0.5)
    found = sf.train(
        Arm(), tasks=40, holdout=200, cells=2, safe_policy=np.array([[0.9, 0.1]]), margin=0.81, strict=False, optimal=ArmOptimum()
    ).certificate  # fmt: skip
    assert found is not None and found.uncovered >= found.margin_failures > 0


def test_the_hold_out_depends_on_what_it_judges_and_on_the_look() -> None:
    options: dict[str, Any] = {"tasks": 20, "holdout": 15, "optimal": ArmOptimum(), "progress": False, "seed": 3}

    def drawn(**changes: Any) -> tuple[sf.PolicySet, np.ndarray]:
        spy: Any = Spy(Arm())
        return sf.train(spy, **(options | changes)), spy.samples[1]

    first, tasks = drawn(cells=3)
    assert (drawn(cells=3)[1] == tasks).all()
    for changes in ({"cells": 4}, {"cells": 3, "seed": 4}, {"cells": 3, "tasks": 40}, {"cells": 3, "previous": first}):
        assert not np.isin(drawn(**changes)[1], tasks).any(), changes
    # The same cells at a larger hold-out, without a word of the first look, meet the same tasks again.
    assert (drawn(cells=3, holdout=30)[1][:15] == tasks).all()


def test_looks_are_handed_on_and_paid() -> None:
    """Attempt a pays delta / 2^a, half for each of the two limits, and the ledger says what the looks before it cost."""
    options: dict[str, Any] = {"tasks": 20, "cells": 3, "optimal": ArmOptimum(), "progress": False, "delta": 0.08}
    one = sf.train(Arm(), holdout=15, **options)
    idle = sf.train(Arm(), holdout=0, previous=one, **options)
    two = sf.train(Arm(), holdout=25, previous=idle, **options)
    three = sf.train(Arm(), holdout=35, previous=two, **options)
    assert [s.attempt for s in (one, idle, two, three)] == [1, 2, 2, 3]
    assert [look.holdout for look in three.looks] == [15, 25]
    assert three.looks[0].uncovered == one.certificate.uncovered  # type: ignore[union-attr]
    assert three.looks[0].judged == three.looks[1].judged, "the same cells were judged twice"
    for found, paid in ((one, 0.04), (two, 0.02), (three, 0.01)):
        c = found.certificate
        assert c is not None and c.delta_coverage == pytest.approx(paid)
        assert c.uncovered_upper == pytest.approx(beta.ppf(1 - paid / 2, c.uncovered + 1, c.holdout - c.uncovered))
        assert found.ledger.left == pytest.approx(paid), "what is left is for later looks"
        assert found.lineage_known
    assert {e.name: e.delta for e in three.ledger.entries} == pytest.approx(
        {"looks": 0.06, "coverage": 0.005, "margin": 0.005}
    )
    old = dataclasses.replace(one, lineage_known=False)
    assert not sf.train(Arm(), holdout=5, previous=old, **options).lineage_known


def test_previous_is_a_set_of_the_same_family() -> None:
    one = sf.train(Arm(), tasks=10, holdout=5, cells=2, optimal=ArmOptimum(), progress=False)
    with refused("SF-ARGUMENT-MISMATCH", "previous"):
        sf.train(Blend(2), tasks=10, holdout=5, cells=2, previous=one, progress=False)
    with refused("SF-ARGUMENT-TYPE", "previous", "str"):
        sf.train(Arm(), tasks=10, holdout=5, cells=2, previous="one.sf", progress=False)  # type: ignore[arg-type]


def test_many_tasks_are_solved_side_by_side_and_covered_without_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same promises on the path of large trainings, with one and with two workers, and against the path of small ones."""
    world = NoisyGridworld()
    options: dict[str, Any] = {"tasks": 40, "holdout": 20, "cells": 6, "seed": 3, "progress": False}
    monkeypatch.setattr("surefoot.training.values.BULK_TASKS", 41)
    small = sf.train(world, **options)
    monkeypatch.setattr("surefoot.training.values.BULK_TASKS", 40)
    bulk = sf.train(world, **options)
    for one, two in zip(tables_of(small), tables_of(bulk)):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(arrays_of(small.cells), arrays_of(bulk.cells)):
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-9)
    assert small.certificate == bulk.certificate
    monkeypatch.setattr("surefoot.training.cover.MATRIX_TASKS", 39)
    spread = sf.train(world, **options)
    assert len(spread.cells) == 6
    assert spread.training.uncovered_fraction == 0.0
    assert spread.training.radius <= 2.0 * small.training.radius * (1.0 + 1e-3)
    for center in spread.cells.parameters:
        assert consistent(spread, world.cmdp(center), sf.solve(world.cmdp(center)).value).size


def test_two_methods_that_disagree_about_an_optimum_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from surefoot.solvers.bulk import BulkProgram, Solutions

    original = BulkProgram.solve

    def worse(self: BulkProgram, cmdps: Any) -> Solutions:
        found = original(self, cmdps)
        poorer = (dataclasses.replace(a, bound=0.9 * a.bound, value=0.9 * a.value) for a in found.answers)
        return dataclasses.replace(found, answers=tuple(poorer))

    monkeypatch.setattr("surefoot.training.values.BULK_TASKS", 10)
    monkeypatch.setattr(BulkProgram, "solve", worse)
    with refused("SF-SOLVER-UNCERTIFIED", "value"):
        sf.train(NoisyGridworld(), tasks=12, holdout=0, cells=3, progress=False)
