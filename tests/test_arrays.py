"""The checks every array passes: what they let through is frozen float64, what they refuse is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from surefoot.arrays import (
    as_floats,
    check_integer,
    check_probabilities,
    check_real,
    entry,
    first_where,
    freeze,
    magnitude,
)
from tests.refusals import refused


@given(nps.arrays(np.float64, nps.array_shapes(max_dims=3), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_what_passes_is_equal_read_only_and_shares_no_memory(array: np.ndarray) -> None:
    passed = as_floats("x", array, (None,) * array.ndim)
    np.testing.assert_array_equal(passed, array)
    assert not passed.flags.writeable
    assert passed.flags.c_contiguous
    assert not np.shares_memory(passed, array)


@pytest.mark.parametrize("value", [[1, 2], (True, False), np.arange(3, dtype=np.uint8), np.float32([0.5])])
def test_every_real_kind_becomes_float64(value: Any) -> None:
    assert as_floats("x", value, (None,)).dtype == np.float64


@pytest.mark.parametrize(
    ("value", "shape", "refusal"),
    [
        ([1.0, 2.0], (3,), ("SF-ARGUMENT-SHAPE", "x", "(3)", "(2,)")),
        (1.0, (None,), ("SF-ARGUMENT-SHAPE", "x", "(any)", "()")),
        ([[1.0]], (None,), ("SF-ARGUMENT-SHAPE", "x", "(any)", "(1, 1)")),
        (np.ones((2, 3)), (None, 2), ("SF-ARGUMENT-SHAPE", "x", "(any, 2)", "(2, 3)")),
        ([1.0, np.nan], (None,), ("SF-ARGUMENT-FINITE", "x[1]", "nan")),
        ([[0.0], [-np.inf]], (None, 1), ("SF-ARGUMENT-FINITE", "x[1, 0]", "-inf")),
        ([1j], (None,), ("SF-ARGUMENT-TYPE", "x", "dtype complex128")),
        (["1"], (None,), ("SF-ARGUMENT-TYPE", "x", "dtype <U1")),
        ([None], (None,), ("SF-ARGUMENT-TYPE", "x")),
        ([[1.0], [1.0, 2.0]], (None, None), ("SF-ARGUMENT-SHAPE", "x")),
    ],
)
def test_arrays_that_break_a_rule_are_refused(value: Any, shape: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        as_floats("x", value, shape)


@given(st.integers(1, 6), st.integers(0, 2**32))
def test_probability_vectors_pass_unchanged(size: int, seed: int) -> None:
    array = np.random.default_rng(seed).dirichlet(np.ones(size), size=3)
    assert check_probabilities("w", array) is array


@pytest.mark.parametrize("off", [2e-9, -2e-9, 0.1, -0.5])
def test_the_simplex_has_a_tolerance_of_1e_9(off: float) -> None:
    with refused("SF-ARGUMENT-SIMPLEX", "w", "1", "1e-09"):
        check_probabilities("w", np.array([0.5, 0.5 + off]))
    assert check_probabilities("w", np.array([0.5, 0.5 + off / np.abs(off) * 5e-10])).size == 2


def test_the_first_offender_is_named() -> None:
    bad = np.array([[1.0, 0.0], [1.2, -0.2], [2.0, -1.0]])
    with refused("SF-ARGUMENT-SIMPLEX", "w[1, 1]", "0", "-0.2"):
        check_probabilities("w", bad)
    with refused("SF-ARGUMENT-SIMPLEX", "w[1]", "1", "1e-09", "0.9"):
        check_probabilities("w", np.array([[1.0, 0.0], [0.5, 0.4], [0.0, 0.0]]))
    assert first_where(np.array([[False, False], [False, True]])) == (1, 1)
    assert entry("x", (1, 2)) == "x[1, 2]"
    assert entry("x", ()) == "x"


@pytest.mark.parametrize(
    ("value", "bounds", "refusal"),
    [
        (1.5, {"low": 0.0, "high": 1.0}, ("SF-ARGUMENT-RANGE", "x", "[0, 1]", "1.5")),
        (0.0, {"low": 0.0, "open_low": True}, ("SF-ARGUMENT-RANGE", "x", "(0, inf]", "0")),
        (1.0, {"high": 1.0, "open_high": True}, ("SF-ARGUMENT-RANGE", "x", "[-inf, 1)", "1")),
        (float("nan"), {}, ("SF-ARGUMENT-RANGE", "x", "[-inf, inf]", "nan")),
        (True, {}, ("SF-ARGUMENT-TYPE", "x", "True")),
        ("1", {}, ("SF-ARGUMENT-TYPE", "x", "'1'")),
        (None, {}, ("SF-ARGUMENT-TYPE", "x", "None")),
        (np.ones(1), {}, ("SF-ARGUMENT-TYPE", "x", "array([1.])")),
    ],
)
def test_reals_that_break_a_rule_are_refused(value: Any, bounds: dict[str, Any], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        check_real("x", value, **bounds)


@pytest.mark.parametrize("value", [0.25, 1, np.float32(0.5), np.int8(1), 0.0])
def test_reals_inside_pass_as_floats(value: Any) -> None:
    passed = check_real("x", value, low=0.0, high=1.0)
    assert type(passed) is float
    assert passed == float(value)


@pytest.mark.parametrize(
    ("value", "refusal"),
    [
        (0, ("SF-ARGUMENT-RANGE", "n", "1", "5", "0")),
        (6, ("SF-ARGUMENT-RANGE", "n", "1", "5", "6")),
        (2.0, ("SF-ARGUMENT-TYPE", "n", "1", "5", "2.0")),
        (True, ("SF-ARGUMENT-TYPE", "n", "1", "5", "True")),
        ("3", ("SF-ARGUMENT-TYPE", "n", "1", "5", "'3'")),
    ],
)
def test_integers_that_break_a_rule_are_refused(value: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        check_integer("n", value, low=1, high=5)


@pytest.mark.parametrize("value", [1, 5, np.int64(3), np.uint8(2)])
def test_integers_inside_pass_as_ints(value: Any) -> None:
    assert type(check_integer("n", value, low=1, high=5)) is int
    assert check_integer("n", value, low=1) == int(value)


def test_freezing_copies_even_what_is_frozen_already() -> None:
    base = np.zeros(3)
    view = base[:]
    view.setflags(write=False)
    frozen = freeze(view)
    base[0] = 1.0
    assert frozen.tolist() == [0.0, 0.0, 0.0]


def test_magnitude_is_relative_below_one_and_zero_at_zero() -> None:
    np.testing.assert_array_equal(magnitude(np.array([0.0, 1e-20, 0.5, 1.0, 4.0])), [0.0, 2e-20, 1.0, 2.0, 5.0])
