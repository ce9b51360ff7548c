"""Families drawn more often where plants were found to be."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from surefoot.tasks import NoisyGridworld, TabularFamily, reweighted
from tests.refusals import refused

POINTS = np.array([[0.1], [0.2], [0.3]])


def shares(family: object, n: int = 6000) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    drawn = family.sample(n, np.random.default_rng(3))  # type: ignore[attr-defined]
    nearest = np.abs(drawn - POINTS[:, 0]).argmin(axis=1)
    return np.bincount(nearest, minlength=3) / n


def test_a_share_of_the_tasks_is_drawn_by_the_weights_and_the_rest_as_before() -> None:
    base = NoisyGridworld()
    before = shares(base)
    weights = np.array([0.0, 0.25, 0.75])
    for share in (0.0, 0.5, 1.0):
        found = shares(reweighted(base, POINTS, 4.0 * weights, share=share))
        np.testing.assert_allclose(found, (1.0 - share) * before + share * weights, atol=0.03)


def test_within_a_cell_tasks_are_distributed_as_before() -> None:
    base, one = NoisyGridworld(), reweighted(NoisyGridworld(), POINTS, [0.0, 1.0, 0.0], share=1.0)
    drawn, plain = one.sample(4000, np.random.default_rng(0)), base.sample(40_000, np.random.default_rng(1))
    near = plain[np.abs(plain - POINTS[:, 0]).argmin(axis=1) == 1]
    assert drawn.shape == (4000, 1)
    np.testing.assert_allclose(np.quantile(drawn, [0.1, 0.5, 0.9]), np.quantile(near, [0.1, 0.5, 0.9]), atol=0.01)


def test_everything_else_is_the_familys() -> None:
    base = NoisyGridworld()
    one = reweighted(base, POINTS, [1.0, 1.0, 1.0])
    assert isinstance(one, TabularFamily)
    assert one.name == f"{base.name} re-weighted" and one.parameter_names == base.parameter_names
    np.testing.assert_array_equal(one.support, base.support)
    np.testing.assert_array_equal(one.cmdp([0.2]).dense, base.cmdp([0.2]).dense)
    again = copy.deepcopy(one)  # by the protocol that worker processes use
    np.testing.assert_array_equal(again.sample(5, np.random.default_rng(0)), one.sample(5, np.random.default_rng(0)))
    with pytest.raises(AttributeError):
        one.nothing_of_the_kind  # noqa: B018


def test_refusals() -> None:
    base = NoisyGridworld()
    with refused("SF-ARGUMENT-RANGE", "weights", "not all zero"):
        reweighted(base, POINTS, [0.0, 0.0, 0.0])
    with refused("SF-ARGUMENT-RANGE", "weights", "nonnegative"):
        reweighted(base, POINTS, [1.0, -1.0, 1.0])
    with refused("SF-ARGUMENT-RANGE", "share", "1.5"):
        reweighted(base, POINTS, [1.0, 1.0, 1.0], share=1.5)
    with refused("SF-ARGUMENT-SHAPE", "points"):
        reweighted(base, np.zeros((3, 2)), [1.0, 1.0, 1.0])
