"""Alternatives: any choice is valid as long as weights sum to one and do not look at data; which ones are chosen decides the speed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import PolicySet
from surefoot.deploy.evidence.alternatives import choose_alternatives
from surefoot.policyset.schema import OutsideTasks
from tests.deploy.worlds import hand_made
from tests.strategies import random_policy_set

RATIO, CHEAPER = 1.5, 0.9


def ladder(costs: list[float], outside: list[float] | None = None) -> PolicySet:
    """One policy besides the safe one; cells, and tasks outside, differ in its cost alone."""
    cost = np.array([[[0.5], [c]] for c in costs])
    far = None
    if outside is not None:
        m = len(outside)
        away = np.array([[[0.5], [c]] for c in outside])
        far = OutsideTasks(
            np.zeros((m, 1)), np.full((m, 2), 5.0), away, np.zeros((m, 2, 0)), np.zeros((m, 2, 1, 0)), np.zeros((m, 0))
        )
    return hand_made(np.full((len(costs), 2), 5.0), cost, outside=far)


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.integers(0, 5),
    st.floats(1.01, 4.0),
    st.floats(0.01, 0.99),
    st.floats(0.0, 0.3),
)
def test_weights_of_every_cell_sum_to_one_and_no_cell_is_its_own_rival(
    seed: int, cells: int, outside: int, ratio: float, share: float, nearest: float
) -> None:
    rng = np.random.default_rng(seed)
    policy_set = random_policy_set(rng, cells=cells, policies=3, constraints=int(rng.integers(0, 3)), outside=outside)
    found = choose_alternatives(policy_set.cells, ratio, share, nearest)
    used = np.isfinite(found.log_weights)
    assert ((found.index >= 0) & (found.index < cells + outside)).all()
    assert not (used & (found.index == np.arange(cells)[:, None])).any()
    totals = np.where(used, np.exp(found.log_weights), 0.0).sum(axis=1)
    np.testing.assert_allclose(totals, 1.0 if cells + outside > 1 else 0.0, atol=1e-12)
    assert (np.diff(used.astype(int), axis=1) <= 0).all(), "what is used comes first"


def test_cheaper_rivals_get_their_share_and_distances_grow_by_the_ratio() -> None:
    costs = [1.0 + 0.1 * k for k in range(21)]
    found = choose_alternatives(ladder(costs).cells, RATIO, CHEAPER)
    for i in range(21):
        used = np.isfinite(found.log_weights[i])
        alternatives, weights = found.index[i, used], np.exp(found.log_weights[i, used])
        cheaper = alternatives < i
        if 0 < i < 20:
            assert abs(weights[cheaper].sum() - CHEAPER) < 1e-12
        for side in (alternatives[cheaper], alternatives[~cheaper]):
            steps = np.abs(side - i)
            assert (steps[1:] >= RATIO * steps[:-1] - 1e-9).all()
        if i > 0:
            assert (i - 1) in alternatives, "the nearest cheaper cell is one of them"
        assert len(set(alternatives.tolist())) == alternatives.size


def test_the_ends_put_all_weight_on_the_side_there_is() -> None:
    found = choose_alternatives(ladder([1.0, 1.5, 2.0]).cells, RATIO, CHEAPER)
    for i in (0, 2):
        used = np.isfinite(found.log_weights[i])
        assert abs(np.exp(found.log_weights[i, used]).sum() - 1.0) < 1e-12


def test_tasks_outside_are_rivals_numbered_after_the_cells() -> None:
    found = choose_alternatives(ladder([1.0, 1.2], outside=[0.1, 3.0]).cells, RATIO, CHEAPER)
    assert set(found.index[np.isfinite(found.log_weights)].tolist()) == {0, 1, 2, 3}


def test_near_rivals_are_skipped_unless_there_is_nothing_else() -> None:
    policy_set = ladder([1.0, 1.001, 3.0])
    near = choose_alternatives(policy_set.cells, RATIO, CHEAPER, 0.0)
    far = choose_alternatives(policy_set.cells, RATIO, CHEAPER, 0.1)
    assert 1 in near.index[0, np.isfinite(near.log_weights[0])]
    assert far.index[0, np.isfinite(far.log_weights[0])].tolist() == [2]
    twins = choose_alternatives(ladder([1.0, 1.001]).cells, RATIO, CHEAPER, 1e9)
    assert twins.index[0, np.isfinite(twins.log_weights[0])].tolist() == [1]


def test_identical_cells_are_no_rivals_of_each_other() -> None:
    found = choose_alternatives(ladder([1.0, 1.0, 2.0]).cells, RATIO, CHEAPER)
    assert found.index[0, np.isfinite(found.log_weights[0])].tolist() == [2]
    alone = choose_alternatives(ladder([1.0, 1.0]).cells, RATIO, CHEAPER)
    assert not np.isfinite(alone.log_weights).any()


def test_units_do_not_matter() -> None:
    policy_set = random_policy_set(np.random.default_rng(1), cells=9, policies=4, constraints=1)
    own = policy_set.cells.predictions
    scaled = replace(
        own,
        reward_lower=1e-3 * own.reward_lower,
        reward_upper=1e-3 * own.reward_upper,
        reward_center=1e-3 * own.reward_center,
    )
    one, two = (
        choose_alternatives(replace(policy_set.cells, predictions=p), RATIO, CHEAPER, 0.01) for p in (own, scaled)
    )
    np.testing.assert_array_equal(one.index, two.index)
    np.testing.assert_allclose(one.log_weights, two.log_weights)
