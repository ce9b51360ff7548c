"""Policies and mixtures: linearity, draws, and what is refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from surefoot import Mixture, Policy, TabularPolicy
from surefoot.policy import as_tables
from tests.refusals import refused

seeds = st.integers(0, 2**32)


@pytest.mark.parametrize("last", [0.0, 1e-17, 0.3])
def test_draws_follow_the_weights_and_never_touch_a_zero(last: float) -> None:
    weights = np.array([0.0, 0.5 - last / 2, 0.0, 0.5 - last / 2, last, 0.0])
    drawn = Mixture(weights).draw(20_000, np.random.default_rng(3))
    assert drawn.dtype == np.int64
    counts = np.bincount(drawn, minlength=6)
    assert (counts[weights == 0.0] == 0).all()
    used = weights > 1e-9
    expected = 20_000 * weights[used]
    assert float(((counts[used] - expected) ** 2 / expected).sum()) < chi2.isf(1e-4, int(used.sum()) - 1)


class _Extremes:
    """A generator whose uniforms are the ends of their range."""

    def random(self, n: int) -> np.ndarray:
        return np.resize([0.0, np.nextafter(1.0, 0.0)], n)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8).filter(lambda w: sum(w) > 1e-3))
def test_extreme_uniforms_draw_policies_of_positive_weight(raw: list[float]) -> None:
    weights = np.asarray(raw) / np.sum(raw)
    drawn = Mixture(weights).draw(2, _Extremes())  # type: ignore[arg-type]
    assert (weights[drawn] > 0.0).all()


def test_draws_depend_on_the_generator_only() -> None:
    mixture = Mixture(np.array([0.2, 0.3, 0.5]))
    one, two = (mixture.draw(100, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


@given(seeds, st.integers(1, 5))
def test_expectation_is_linear_in_the_weights(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    values, one, two = rng.normal(size=(size, 3)), rng.dirichlet(np.ones(size)), rng.dirichlet(np.ones(size))
    halfway = Mixture(0.5 * one + 0.5 * two).expect(values)
    np.testing.assert_allclose(
        halfway, 0.5 * Mixture(one).expect(values) + 0.5 * Mixture(two).expect(values), atol=1e-12
    )
    assert Mixture.pure(size - 1, size).expect(values[:, 0]) == values[-1, 0]


def test_predict_draws_from_the_row_of_the_state() -> None:
    policy = TabularPolicy(np.array([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]]))
    assert isinstance(policy, Policy)
    rng = np.random.default_rng(1)
    actions = [policy.predict(0, rng=rng)[0] for _ in range(4000)]
    assert set(actions) == {0, 1}
    assert np.mean(actions) == pytest.approx(0.75, abs=0.03)
    assert policy.predict(1)[0] == 2
    assert policy.predict(np.int64(0), deterministic=True) == (1, None)
    assert (policy.n_states, policy.n_actions) == (2, 3)


def test_tables_come_from_arrays_and_objects(rng: np.random.Generator) -> None:
    table = rng.dirichlet(np.ones(3), size=2)
    for given_as in (table, table[None], TabularPolicy(table), [TabularPolicy(table)], (TabularPolicy(table),)):
        tables = as_tables("policy", given_as, 2, 3)
        assert tables.shape == (1, 2, 3)
        np.testing.assert_array_equal(tables[0], table)


def test_tables_are_read_only() -> None:
    source = np.array([[0.5, 0.5]])
    policy, mixture = TabularPolicy(source), Mixture(source[0])
    source[...] = 0.0
    assert policy.table.tolist() == [[0.5, 0.5]]
    assert mixture.weights.tolist() == [0.5, 0.5]
    for array in (policy.table, mixture.weights):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1.0


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda: TabularPolicy(np.ones(2)), ("SF-ARGUMENT-SHAPE", "policy", "(any, any)", "(2,)")),
        (lambda: TabularPolicy(np.array([[0.5, 0.4]])), ("SF-ARGUMENT-SIMPLEX", "policy[0]", "1", "1e-09", "0.9")),
        (lambda: TabularPolicy(np.array([[1.0, 0.0], [2.0, -1.0]])), ("SF-ARGUMENT-SIMPLEX", "policy[1, 1]", "0", "-1")),
        (lambda: TabularPolicy(np.array([[np.nan, 1.0]])), ("SF-ARGUMENT-FINITE", "policy[0, 0]", "nan")),
        (lambda: Mixture(np.array([0.5, 0.6])), ("SF-ARGUMENT-SIMPLEX", "weights", "1", "1e-09", "1.1")),
        (lambda: Mixture(np.array([[1.0]])), ("SF-ARGUMENT-SHAPE", "weights", "(any)", "(1, 1)")),
        (lambda: Mixture(np.array([-0.5, 1.5])), ("SF-ARGUMENT-SIMPLEX", "weights[0]", "0", "-0.5")),
        (lambda: Mixture.pure(2, 2), ("SF-ARGUMENT-RANGE", "index", "0", "1", "2")),
        (lambda: TabularPolicy(np.ones((2, 1))).predict(2), ("SF-ARGUMENT-RANGE", "observation", "0", "1", "2")),
        (lambda: TabularPolicy(np.ones((2, 1))).predict(0.5), ("SF-ARGUMENT-TYPE", "observation", "0.5")),
        (lambda: as_tables("policy", np.ones((1, 1, 1, 1)), 1, 1), ("SF-ARGUMENT-SHAPE", "policy", "(S, A)", "(J, S, A)")),
        (lambda: as_tables("policy", np.ones((2, 1)), 3, 1), ("SF-ARGUMENT-SHAPE", "policy", "(any, 3, 1)", "(1, 2, 1)")),
    ],
)  # fmt: skip
def test_what_is_no_policy_is_refused(call: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        call()


class Uniform:
    """A generator whose next number is known."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2.0**-53])
def test_extreme_uniforms_draw_actions_of_positive_probability(uniform: float) -> None:
    # Ten times .1 do not add up to 1, and the first and last actions are never played.
    table = np.array([[0.0, *[0.1] * 10, 0.0], [0.0, 1.0 - 4e-10, *[0.0] * 10]])
    policy = TabularPolicy(table)
    for state in (0, 1):
        action, _ = policy.predict(state, rng=Uniform(uniform))  # type: ignore[arg-type]
        assert table[state, action] > 0.0


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 (its own bytes)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_copies_are_read_only_too(copied: Any) -> None:
    policy, mixture = copied(TabularPolicy(np.eye(2))), copied(Mixture([0.5, 0.5]))
    assert not policy.table.flags.writeable
    assert not mixture.weights.flags.writeable
    np.testing.assert_array_equal(policy.table, np.eye(2))
