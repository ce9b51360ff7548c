"""Counts: estimates, doubling, supports, and reports that are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.baselines.counts import ModelEstimate, Support, TransitionCounts
from tests.refusals import refused

TRIPLES = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]])
"""Two states, two actions; action 1 leads from 0 to 1 for certain."""


def counts() -> TransitionCounts:
    return TransitionCounts(Support(2, 2, TRIPLES))


def told(c: TransitionCounts, *rows: tuple[int, int, int, int]) -> TransitionCounts:
    c.add(c.check(np.array(rows)))
    return c


def test_support_knows_its_pairs() -> None:
    support = Support(2, 2, TRIPLES)
    assert len(support) == 7
    assert support.rows.tolist() == [0, 0, 1, 2, 2, 3, 3]
    assert support.successors.tolist() == [0, 1, 1, 0, 1, 0, 1]
    assert support.sizes.tolist() == [2, 1, 2, 2]
    assert support.first.tolist() == [0, 2, 3, 5]
    assert support.certain.tolist() == [False, True, False, False]
    assert support.sum(np.arange(7.0)).tolist() == [1.0, 2.0, 7.0, 11.0]


def test_without_triples_every_state_may_follow() -> None:
    support = Support(3, 2)
    assert len(support) == 18 and set(support.sizes.tolist()) == {3}
    assert support.triples[0].tolist() == [0, 0, 0] and support.triples[-1].tolist() == [2, 1, 2]


@pytest.mark.parametrize(
    ("triples", "refusal"),
    [
        (TRIPLES[:, :2], ("SF-ARGUMENT-SHAPE", "support", "(E, 3)", "(7, 2) of int64")),
        (TRIPLES * 1.0, ("SF-ARGUMENT-SHAPE", "support", "(E, 3)", "(7, 3) of float64")),
        (TRIPLES + [0, 0, 1], ("SF-ARGUMENT-RANGE", "support[1, 2]", "[0, 2)", "2")),
        (TRIPLES - [0, 1, 0], ("SF-ARGUMENT-RANGE", "support[0, 1]", "[0, 2)", "-1")),
        (TRIPLES[::-1], ("SF-ARGUMENT-ORDER", "support[1]", "[1, 1, 0]")),
        (TRIPLES[[0, 0, 1, 2, 3, 4, 5, 6]], ("SF-ARGUMENT-ORDER", "support[1]")),
        (TRIPLES[[0, 1, 3, 4, 5, 6]], ("SF-ARGUMENT-EMPTY", "(0, 1)")),
    ],
)
def test_wrong_supports_are_refused(triples: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        Support(2, 2, triples)


def test_frequencies_are_pooled_and_uniform_without_data() -> None:
    c = told(counts(), (0, 0, 0, 3), (0, 0, 1, 1), (0, 1, 1, 5))
    told(c, (0, 0, 0, 2), (0, 0, 0, 2))
    found = c.estimate()
    assert found.visits.tolist() == [8.0, 5.0, 0.0, 0.0]
    assert found.probabilities.tolist() == [7 / 8, 1 / 8, 1.0, 0.5, 0.5, 0.5, 0.5]
    assert found.entry_visits.tolist() == [8.0, 8.0, 5.0, 0.0, 0.0, 0.0, 0.0]


def test_more_of_the_same_data_keeps_frequencies() -> None:
    estimate = told(counts(), (0, 0, 0, 3), (0, 0, 1, 1)).estimate()
    assert estimate.scaled(2.5).visits.tolist() == [10.0, 0.0, 0.0, 0.0]
    assert estimate.scaled(2.5).probabilities is estimate.probabilities
    with refused("SF-ARGUMENT-RANGE", "factor", "(0, inf]"):
        estimate.scaled(0.0)


def test_an_estimate_is_due_when_a_count_has_doubled() -> None:
    c = counts()
    assert not c.due
    told(c, (0, 1, 1, 100))
    assert not c.due, "nothing is learned where one successor is possible"
    told(c, (0, 0, 0, 3))
    assert c.due, "a first visit counts as doubling"
    c.mark()
    assert not c.due
    told(c, (0, 0, 1, 2))
    assert not c.due, "5 is less than twice 3"
    told(c, (0, 0, 1, 1))
    assert c.due
    c.mark()
    told(c, (1, 0, 1, 1))
    assert c.due, "another pair's first visit"


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(1, 40)), min_size=1, max_size=60))
def test_solves_are_logarithmic_in_visits(reports: list[tuple[int, int, int]]) -> None:
    """Marking whenever due, at most ``sum (1 + log2 N)`` over the pairs that can be learned about."""
    c, solves = counts(), 0
    for state, action, count in reports:
        told(c, (state, action, 1, count))
        if c.due:
            c.mark()
            solves += 1
    visits = c.estimate().visits[~c.support.certain]
    assert solves <= sum(1 + np.log2(n) for n in visits if n > 0)


def test_transitions_outside_the_support_are_kept_apart() -> None:
    c = told(counts(), (0, 1, 0, 4), (0, 1, 1, 2), (0, 0, 0, 1))
    assert c.outside == 4
    assert c.estimate().visits.tolist() == [1.0, 2.0, 0.0, 0.0]


def test_an_empty_report_changes_nothing() -> None:
    c = counts()
    c.add(c.check(np.zeros((0, 4), dtype=np.int64)))
    assert not c.due and c.estimate().visits.sum() == 0.0


@pytest.mark.parametrize(
    ("report", "refusal"),
    [
        ([[0, 0, 1]], ("SF-REPORT-TRANSITIONS", "transitions", "(m, 4)", "(1, 3)")),
        ([0, 0, 1, 1], ("SF-REPORT-TRANSITIONS", "transitions", "(m, 4)", "(4,)")),
        ([[0.0, 0.0, 1.0, 1.0]], ("SF-REPORT-TRANSITIONS", "transitions", "(m, 4)")),
        (
            [[0, 0, 1, 1], [2, 0, 1, 1]],
            ("SF-REPORT-TRANSITIONS", "transitions[1, 0]", "[0, 2)", "2"),
        ),
        ([[0, -1, 1, 1]], ("SF-REPORT-TRANSITIONS", "transitions[0, 1]", "[0, 2)", "-1")),
        ([[0, 0, 5, 1]], ("SF-REPORT-TRANSITIONS", "transitions[0, 2]", "[0, 2)", "5")),
        ([[0, 0, 1, -3]], ("SF-REPORT-TRANSITIONS", "transitions[0, 3]", "[0, 9007199254740992)", "-3")),
    ],
)
def test_bad_reports_are_refused_and_change_nothing(report: Any, refusal: tuple[str, ...]) -> None:
    c = counts()
    with refused(*refusal):
        c.check(np.array(report))
    assert c.estimate().visits.sum() == 0.0


def test_estimates_of_a_full_support_sum_to_one(rng: np.random.Generator) -> None:
    c = TransitionCounts(Support(4, 3))
    rows = np.column_stack(
        [rng.integers(0, 4, 50), rng.integers(0, 3, 50), rng.integers(0, 4, 50), rng.integers(1, 9, 50)]
    )
    c.add(c.check(rows))
    found: ModelEstimate = c.estimate()
    np.testing.assert_allclose(c.support.sum(found.probabilities), 1.0)
    assert found.visits.sum() == rows[:, 3].sum()
