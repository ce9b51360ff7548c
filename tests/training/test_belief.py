"""Beliefs about tabular tasks against exact values of fresh tasks."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from surefoot.cmdp.evaluate import evaluate_many, state_values
from surefoot.cmdp.simulate import Simulator
from surefoot.policyset.schema import PolicySet
from surefoot.tasks import NoisyGridworld, ZonedGridworld
from surefoot.training.belief import fit_quadratic, learn_belief, principal_components
from surefoot.training.pipeline import train
from tests.journal.rehearsed import rehearsed_set, rehearsing
from tests.refusals import refused


@cache
def zoned_set() -> PolicySet:
    family = ZonedGridworld(zones=3)
    found = train(family, tasks=30, holdout=0, cells=5, seed=1, progress=False)
    return learn_belief(found, family, tasks=120, seed=2, progress=False)


def latents_of(policy_set: PolicySet, parameters: np.ndarray) -> np.ndarray:
    """Latents of a task, from its kernel: exact where kernels are linear in the parameters."""
    belief, family = policy_set.beliefs["all"], ZonedGridworld(zones=3)
    dense = family.cmdp(parameters).dense.reshape(49, 4, 49)
    kernel = dense[tuple(belief.support.T)]
    z, rest = np.linalg.lstsq(belief.kernel_slope, kernel - belief.kernel_center, rcond=None)[:2]
    assert float(rest.sum()) < 1e-16
    return z


def test_latents_are_as_many_as_unknown_parameters_and_standard() -> None:
    belief = zoned_set().beliefs["all"]
    assert belief.latents == 3 and not belief.informative
    rng = np.random.default_rng(3)
    z = np.array([latents_of(zoned_set(), p) for p in ZonedGridworld(zones=3).sample(200, rng)])
    assert np.abs(z.mean(axis=0)).max() < 0.35
    np.testing.assert_allclose(np.cov(z, rowvar=False), np.eye(3), atol=0.35)


def test_values_of_fresh_tasks_are_predicted_within_the_residuals() -> None:
    policy_set, family = zoned_set(), ZonedGridworld(zones=3)
    tables = np.stack([p.table for p in policy_set.policies])
    for kind in ("all", "returns"):
        b = policy_set.beliefs[kind]
        gaps, spread = [], []
        for point in family.sample(40, np.random.default_rng(4)):
            z = latents_of(policy_set, point)
            first, second = np.triu_indices(3)
            predicted = b.value_center + b.value_slope @ z + b.value_curve @ (z[first] * z[second])
            values = evaluate_many(family.cmdp(point), tables)
            gaps.append(predicted - values)
            spread.append(values)
        gap = np.sqrt((np.array(gaps) ** 2).mean(axis=0))
        assert (gap <= 2.5 * b.value_residual + 1e-9).all()
        assert (b.value_residual < 0.1 * np.std(spread, axis=0)).all()


def test_outcomes_by_initial_state_have_their_means_and_noise() -> None:
    policy_set, family = zoned_set(), ZonedGridworld(zones=3)
    b = policy_set.beliefs["returns"]
    tables = np.stack([p.table for p in policy_set.policies])
    point = np.full(3, 0.29)
    exact = state_values(family.cmdp(point), tables)[:, :, b.initial_states].transpose(0, 2, 1)
    z = latents_of(policy_set, point)
    first, second = np.triu_indices(3)
    predicted = b.outcome_center + b.outcome_slope @ z + b.outcome_curve @ (z[first] * z[second])
    assert np.abs(predicted - exact).max() < 0.1
    played = Simulator(family.cmdp(point), tables).run(
        np.zeros(20_000, dtype=np.int64), seed=5, initial_states=np.full(20_000, b.initial_states[7])
    )
    measured = np.cov(np.column_stack([played.returns, played.costs]), rowvar=False)
    np.testing.assert_allclose(b.outcome_noise[0, 7], measured, rtol=0.35, atol=0.5)


def test_a_set_with_beliefs_keeps_everything_else_and_comes_back_from_its_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    policy_set = zoned_set()
    policy_set.save(tmp_path / "set.sf")
    again = PolicySet.load(tmp_path / "set.sf")
    assert again.hash == policy_set.hash and set(again.beliefs) == {"all", "returns"}
    np.testing.assert_array_equal(again.beliefs["all"].kernel_slope, policy_set.beliefs["all"].kernel_slope)


def test_the_same_seed_gives_the_same_belief_whatever_the_workers() -> None:
    bare = train(NoisyGridworld(), tasks=20, holdout=0, cells=3, seed=1, progress=False)
    one, two = (
        learn_belief(bare, NoisyGridworld(), tasks=60, seed=3, workers=w, progress=False, evidence="all")
        for w in (1, 2)
    )
    assert one.hash == two.hash and bare.hash != one.hash


def test_too_few_tasks_for_a_quadratic_fit_are_fitted_by_a_line() -> None:
    rng = np.random.default_rng(6)
    z = rng.standard_normal((30, 6))
    center, slope, curve, residual = fit_quadratic(z, 1.0 + z @ np.arange(6.0))
    assert curve.shape == (0,) and residual < 1e-12
    np.testing.assert_allclose(slope, np.arange(6.0), atol=1e-12)
    assert float(center) == pytest.approx(1.0)
    many = rng.standard_normal((200, 3))
    target = 2.0 + many[:, 0] * many[:, 2] - 3.0 * many[:, 1] ** 2
    *_, curve, residual = fit_quadratic(many, target)
    np.testing.assert_allclose(curve, [0, 0, 1, -3, 0, 0], atol=1e-10)
    assert fit_quadratic(many, target, largest_curve=5)[2].size == 0


def test_residuals_are_corrected_for_what_was_fitted() -> None:
    rng = np.random.default_rng(7)
    z = rng.standard_normal((60, 5))
    found = [float(fit_quadratic(z, rng.standard_normal(60))[3]) ** 2 for _ in range(400)]
    assert np.mean(found) == pytest.approx(1.0, abs=5 * np.std(found) / 20)


def test_components_are_white_and_tasks_that_do_not_differ_are_refused() -> None:
    rng = np.random.default_rng(8)
    x = rng.standard_normal((100, 2)) @ rng.standard_normal((2, 30))
    z = principal_components([x, np.zeros((100, 4))])
    assert z.shape == (100, 2)
    np.testing.assert_allclose(z.T @ z / 100, np.eye(2), atol=1e-10)
    with refused("SF-FAMILY-SAMPLE", "family"):
        principal_components([np.ones((10, 3))])


def test_another_belief_drops_the_certificate_and_counts_as_a_look() -> None:
    """What was rehearsed is another agent."""
    bare = train(NoisyGridworld(), tasks=20, holdout=0, cells=3, seed=1, progress=False)
    certificate = rehearsed_set("returns", rehearsing()).rehearsed
    assert certificate is not None
    again = learn_belief(
        replace(bare, rehearsed=certificate), NoisyGridworld(), tasks=8, seed=2, progress=False, evidence="returns"
    )
    assert again.rehearsed is None and again.rehearsal_looks == (certificate.look,)
    assert again.rehearsal_looks[0].violating == (14, 60)
