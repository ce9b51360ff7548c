"""The model: what is accepted is frozen and means the same dense and sparse; what is not is refused by name."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from scipy.sparse import coo_matrix, csc_matrix, csr_matrix

from surefoot import TabularCMDP
from tests.models import cmdps, random_cmdp
from tests.refusals import refused


def parts(**changes: Any) -> dict[str, Any]:
    """Arguments of a valid CMDP with S = 3, A = 2, I = 1, and changes to it."""
    kernel = np.zeros((3, 2, 3))
    kernel[..., 0] = 1.0
    whole = {
        "transitions": kernel,
        "rewards": np.zeros((3, 2)),
        "costs": np.ones((1, 3, 2)),
        "cost_limits": np.array([1.5]),
        "start": np.array([1.0, 0.0, 0.0]),
        "discount": 0.9,
    }
    return whole | changes


def changed(array: Any, index: Any, value: Any) -> np.ndarray:
    copy = np.array(array, dtype=float)
    copy[index] = value
    return copy


VALID = parts()
KERNEL = VALID["transitions"]
SPARSE = csr_matrix(VALID["transitions"].reshape(6, 3))
SPARSE_SHORT = SPARSE.copy() * 0.5
SPARSE_NEGATIVE = csr_matrix(changed(VALID["transitions"].reshape(6, 3), 3, [1.25, -0.25, 0.0]))
SPARSE_NAN = SPARSE.copy()
SPARSE_NAN.data[4] = np.nan

MALFORMED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "row sums to .97": ({"transitions": changed(KERNEL, (2, 1, 0), 0.97)}, ("SF-ARGUMENT-SIMPLEX", "transitions[2, 1]", "1", "1e-09", "0.97")),
    "row sums to 1 + 1e-8": ({"transitions": changed(KERNEL, (0, 0, 0), 1 + 1e-8)}, ("SF-ARGUMENT-SIMPLEX", "transitions[0, 0]", "1", "1.00000001")),
    "negative probability": ({"transitions": changed(KERNEL, (1, 0), [1.5, 0, -0.5])}, ("SF-ARGUMENT-SIMPLEX", "transitions[1, 0, 2]", "0", "-0.5")),
    "NaN probability": ({"transitions": changed(KERNEL, (1, 1, 2), np.nan)}, ("SF-ARGUMENT-FINITE", "transitions[1, 1, 2]", "nan")),
    "infinite probability": ({"transitions": changed(KERNEL, (0, 1, 2), np.inf)}, ("SF-ARGUMENT-FINITE", "transitions[0, 1, 2]", "inf")),
    "axes of P in another order": ({"transitions": np.moveaxis(KERNEL, 1, 0)}, ("SF-ARGUMENT-SHAPE", "transitions", "(3, 2, 3)", "(2, 3, 3)")),
    "P without successors": ({"transitions": np.ones((3, 2))}, ("SF-ARGUMENT-SHAPE", "transitions", "(3, 2, 3)", "(3, 2)")),
    "P ragged": ({"transitions": [[1.0], [0.5, 0.5]]}, ("SF-ARGUMENT-SHAPE", "transitions")),
    "P of text": ({"transitions": np.full((3, 2, 3), "x")}, ("SF-ARGUMENT-TYPE", "transitions")),
    "P complex": ({"transitions": KERNEL.astype(complex)}, ("SF-ARGUMENT-TYPE", "transitions", "complex128")),
    "sparse P transposed": ({"transitions": SPARSE.T}, ("SF-ARGUMENT-SHAPE", "transitions", "(6, 3)", "(3, 6)", "s*A + a")),
    "sparse row too short": ({"transitions": SPARSE_SHORT}, ("SF-ARGUMENT-SIMPLEX", "transitions[0, 0]", "1", "0.5")),
    "sparse negative": ({"transitions": SPARSE_NEGATIVE}, ("SF-ARGUMENT-SIMPLEX", "transitions[1, 1, 1]", "0", "-0.25")),
    "sparse NaN": ({"transitions": SPARSE_NAN}, ("SF-ARGUMENT-SIMPLEX", "transitions[2, 0, 0]", "nan")),
    "sparse complex": ({"transitions": SPARSE.astype(complex)}, ("SF-ARGUMENT-TYPE", "transitions", "complex128")),
    "no states": ({"rewards": np.zeros((0, 2))}, ("SF-ARGUMENT-EMPTY", "rewards", "(0, 2)")),
    "no actions": ({"rewards": np.zeros((3, 0))}, ("SF-ARGUMENT-EMPTY", "rewards", "(3, 0)")),
    "rewards per state only": ({"rewards": np.zeros(3)}, ("SF-ARGUMENT-SHAPE", "rewards", "(any, any)", "(3,)")),
    "NaN reward": ({"rewards": changed(VALID["rewards"], (2, 0), np.nan)}, ("SF-ARGUMENT-FINITE", "rewards[2, 0]", "nan")),
    "costs without constraint axis": ({"costs": np.ones((3, 2))}, ("SF-ARGUMENT-SHAPE", "costs", "(1, 3, 2)", "(3, 2)")),
    "two costs, one limit": ({"costs": np.ones((2, 3, 2))}, ("SF-ARGUMENT-LENGTH", "costs", "(1, 3, 2)", "(2, 3, 2)")),
    "negative cost": ({"costs": changed(VALID["costs"], (0, 1, 1), -0.1)}, ("SF-ARGUMENT-RANGE", "costs[0, 1, 1]", "0", "-0.1")),
    "infinite cost": ({"costs": changed(VALID["costs"], (0, 0, 0), np.inf)}, ("SF-ARGUMENT-FINITE", "costs[0, 0, 0]", "inf")),
    "negative limit": ({"cost_limits": np.array([-1.0])}, ("SF-ARGUMENT-RANGE", "cost_limits[0]", "0", "-1")),
    "scalar limit": ({"cost_limits": 1.5}, ("SF-ARGUMENT-SHAPE", "cost_limits", "(any)", "()")),
    "NaN limit": ({"cost_limits": np.array([np.nan])}, ("SF-ARGUMENT-FINITE", "cost_limits[0]")),
    "start too long": ({"start": np.array([0.5, 0.5, 0.0, 0.0])}, ("SF-ARGUMENT-SHAPE", "start", "(3)", "(4,)")),
    "start sums to .9": ({"start": np.array([0.5, 0.4, 0.0])}, ("SF-ARGUMENT-SIMPLEX", "start", "1", "0.9")),
    "start negative": ({"start": np.array([1.5, -0.5, 0.0])}, ("SF-ARGUMENT-SIMPLEX", "start[1]", "0", "-0.5")),
    "discount one": ({"discount": 1.0}, ("SF-ARGUMENT-RANGE", "discount", "(0, 1)", "1")),
    "discount zero": ({"discount": 0.0}, ("SF-ARGUMENT-RANGE", "discount", "(0, 1)", "0")),
    "discount NaN": ({"discount": float("nan")}, ("SF-ARGUMENT-RANGE", "discount", "(0, 1)", "nan")),
    "discount text": ({"discount": "0.9"}, ("SF-ARGUMENT-TYPE", "discount", "(0, 1)", "'0.9'")),
    "discount True": ({"discount": True}, ("SF-ARGUMENT-TYPE", "discount", "(0, 1)", "True")),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "refusal"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_cmdps_are_refused_by_name_rule_value_and_remedy(
    changes: dict[str, Any], refusal: tuple[str, ...]
) -> None:
    with refused(*refusal) as caught:
        TabularCMDP(**parts(**changes))
    assert ";" in str(caught.value), "the message must end with a remedy"


def test_the_valid_example_behind_the_malformed_ones_is_accepted() -> None:
    cmdp = TabularCMDP(**parts())
    assert (cmdp.n_states, cmdp.n_actions, cmdp.n_constraints) == (3, 2, 1)


@given(cmdps())
def test_dense_and_sparse_transitions_are_the_same_model(cmdp: TabularCMDP) -> None:
    flat = cmdp.dense.reshape(-1, cmdp.n_states)
    for form in (csr_matrix, csc_matrix, coo_matrix):
        twin = dataclasses.replace(cmdp, transitions=form(flat))
        for name in ("row_start", "successors", "probabilities", "dense"):
            np.testing.assert_array_equal(getattr(twin, name), getattr(cmdp, name))


@given(cmdps())
def test_every_array_is_read_only(cmdp: TabularCMDP) -> None:
    for name in (
        "rewards", "costs", "cost_limits", "start", "row_start", "successors", "probabilities", "rows", "dense",
    ):  # fmt: skip
        array = getattr(cmdp, name)
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_later_changes_to_the_callers_arrays_have_no_effect() -> None:
    arguments = parts()
    cmdp = TabularCMDP(**arguments)
    for name in ("transitions", "rewards", "costs", "cost_limits", "start"):
        arguments[name][...] = 7.0
    assert cmdp.dense.max() == 1.0
    assert cmdp.costs.max() == 1.0
    assert cmdp.start.tolist() == [1.0, 0.0, 0.0]


def test_a_frozen_model_cannot_be_reassigned() -> None:
    cmdp = TabularCMDP(**parts())
    with pytest.raises(dataclasses.FrozenInstanceError):
        cmdp.discount = 0.5  # type: ignore[misc]


def test_explicit_zeros_and_duplicates_in_sparse_input_disappear() -> None:
    rows, columns = [0, 0, 0, 1, 1], [0, 0, 1, 1, 0]
    sparse = coo_matrix(([0.25, 0.5, 0.25, 1.0, 0.0], (rows, columns)), shape=(2, 2))
    cmdp = TabularCMDP(sparse, np.zeros((2, 1)), np.zeros((0, 2, 1)), np.zeros(0), np.array([1.0, 0.0]), 0.5)
    assert cmdp.dense[0, 0].tolist() == [0.75, 0.25]
    assert cmdp.probabilities.size == 3
    assert (cmdp.probabilities > 0.0).all()


def test_sparse_input_is_not_changed() -> None:
    sparse = coo_matrix(([0.5, 0.5, 0.0], ([0, 0, 0], [0, 0, 0])), shape=(1, 1)).tocsr()
    before = sparse.copy()
    TabularCMDP(sparse, np.zeros((1, 1)), np.zeros((0, 1, 1)), np.zeros(0), np.ones(1), 0.5)
    assert (sparse != before).nnz == 0
    assert sparse.nnz == before.nnz


def test_other_limits_share_everything_else(rng: np.random.Generator) -> None:
    cmdp = random_cmdp(rng, constraints=2)
    twin = cmdp.with_limits([0.25, 3.0])
    assert twin.cost_limits.tolist() == [0.25, 3.0]
    assert twin.probabilities is cmdp.probabilities
    assert cmdp.cost_limits.tolist() != [0.25, 3.0]
    with refused("SF-ARGUMENT-RANGE", "cost_limits[1]", "0", "-1"):
        cmdp.with_limits([0.0, -1.0])
    with refused("SF-ARGUMENT-SHAPE", "cost_limits", "(2)", "(1,)"):
        cmdp.with_limits([1.0])


def test_the_criterion_is_read_off_the_model(rng: np.random.Generator) -> None:
    cmdp = random_cmdp(rng, constraints=2)
    criterion = cmdp.criterion
    assert criterion.reward_bounds == (cmdp.rewards.min(), cmdp.rewards.max())
    np.testing.assert_array_equal(criterion.cost_bounds, [cmdp.costs[0].max(), cmdp.costs[1].max()])
    assert criterion.discount == cmdp.discount
    flat = TabularCMDP(**parts(costs=np.zeros((1, 3, 2))))
    assert flat.criterion.reward_bounds == (0.0, 1.0)
    assert flat.criterion.cost_bounds.tolist() == [1.0]


ARGUMENTS = {
    "transitions": np.full((3, 2, 3), 1.0 / 3.0),
    "rewards": np.zeros((3, 2)),
    "costs": np.ones((1, 3, 2)),
    "cost_limits": [1.0],
    "start": np.eye(3)[0],
    "discount": 0.9,
}


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"rewards": np.zeros((2, 3))}, ("SF-ARGUMENT-SHAPE", "rewards", "(3, 2)")),
        (
            {"rewards": np.zeros((2, 3)), "transitions": csr_matrix(np.full((6, 3), 1.0 / 3.0))},
            ("SF-ARGUMENT-SHAPE", "rewards", "(3, 2)"),
        ),
        ({"cost_limits": [1.0, 2.0]}, ("SF-ARGUMENT-LENGTH", "costs", "2", "cost_limits", "(1, 3, 2)")),
        ({"costs": np.ones((1, 2, 3))}, ("SF-ARGUMENT-SHAPE", "costs", "(1, 3, 2)", "(1, 2, 3)")),
        ({"costs": np.ones((3, 2))}, ("SF-ARGUMENT-SHAPE", "costs", "(1, 3, 2)", "(3, 2)")),
        ({"costs": [[1.0], [1.0, 2.0]]}, ("SF-ARGUMENT-SHAPE", "costs")),
        ({"transitions": np.ones((2, 2, 3))}, ("SF-ARGUMENT-SHAPE", "transitions", "(3, 2, 3)")),
    ],
)
def test_the_argument_that_stands_alone_is_named(change: dict[str, Any], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        TabularCMDP(**(ARGUMENTS | change))


def test_a_discount_of_single_precision_is_stored_in_double() -> None:
    cmdp = TabularCMDP(**(ARGUMENTS | {"discount": np.float32(0.9)}))
    assert type(cmdp.discount) is float
    assert type(cmdp.criterion.effective_horizon) is float


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 (its own bytes)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_copies_are_read_only_too(copied: Any) -> None:
    cmdp = copied(TabularCMDP(**ARGUMENTS))
    arrays = [cmdp.rewards, cmdp.costs, cmdp.cost_limits, cmdp.start, *cmdp.transitions, cmdp.criterion.cost_limits]
    assert not any(array.flags.writeable for array in arrays)
    np.testing.assert_array_equal(cmdp.dense, ARGUMENTS["transitions"])


def test_successor_arrays_mean_the_same_as_dense_transitions() -> None:
    """A successor that is named twice counts twice, and what has probability 0 is none."""
    rng = np.random.default_rng(4)
    successors = rng.integers(0, 3, (3, 2, 4))
    chances = rng.dirichlet(np.ones(4), (3, 2))
    successors[1, 1], chances[1, 1] = [2, 2, 0, 1], [0.25, 0.25, 0.5, 0.0]
    dense = np.zeros((3, 2, 3))
    np.add.at(dense, (np.arange(3)[:, None, None], np.arange(2)[:, None], successors), chances)
    cmdp = TabularCMDP(**parts(transitions=(successors, chances)))
    np.testing.assert_allclose(cmdp.dense, dense, atol=1e-15)
    assert cmdp.successors[cmdp.row_start[3] : cmdp.row_start[4]].tolist() == [0, 2]
    chances[:] = 0.0  # what was given stays the user's own
    np.testing.assert_allclose(cmdp.dense, dense, atol=1e-15)


@pytest.mark.parametrize(
    ("pair", "code", "names"),
    [
        ((np.full((3, 2, 1), 3), np.ones((3, 2, 1))), "SF-ARGUMENT-RANGE", ("successors[0, 0, 0]", "3")),
        ((np.full((3, 2, 1), -1), np.ones((3, 2, 1))), "SF-ARGUMENT-RANGE", ("successors[0, 0, 0]", "-1")),
        ((np.zeros((3, 2, 2), int), np.ones((3, 2, 1))), "SF-ARGUMENT-SHAPE", ("transitions",)),
        ((np.zeros((2, 3, 1), int), np.ones((2, 3, 1))), "SF-ARGUMENT-SHAPE", ("transitions",)),
        ((np.zeros((3, 2, 1)), np.ones((3, 2, 1))), "SF-ARGUMENT-TYPE", ("transitions",)),
        ((np.zeros((3, 2, 1), int), np.full((3, 2, 1), 0.9)), "SF-ARGUMENT-SIMPLEX", ("transitions[0, 0]", "0.9")),
        ((np.zeros((3, 2, 0), int), np.ones((3, 2, 0))), "SF-ARGUMENT-SIMPLEX", ("transitions[0, 0]", "0")),
    ],
)
def test_successor_arrays_that_are_wrong_are_refused_by_name(pair: Any, code: str, names: tuple[str, ...]) -> None:
    with refused(code, *names):
        TabularCMDP(**parts(transitions=pair))


def test_a_sparse_matrix_stays_the_users_own() -> None:
    given = csr_matrix(np.asarray(KERNEL).reshape(6, 3))
    cmdp = TabularCMDP(**parts(transitions=given))
    given.data[:] = 0.5
    assert (cmdp.probabilities == 1.0).all()
    assert not any(array.flags.writeable for array in (cmdp.row_start, cmdp.successors, cmdp.probabilities))
