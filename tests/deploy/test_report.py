"""One normal form: the same report has the same bytes whoever sends it."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from surefoot.deploy.report import Report
from surefoot.journal.events import canonical

ROWS = [[1, 0, 2, 3], [0, 1, 1, 1], [1, 0, 2, 4], [0, 0, 0, 0]]


def body(**parts: Any) -> str:
    given_ = {
        "ids": 4, "reward": 1, "costs": 0.5, "initial_state": None, "transitions": None, "signals": None, "n_constraints": 1, **parts,
    }  # fmt: skip
    return canonical(Report.of(**given_).body())


def test_kinds_of_numbers_and_missing_axes_do_not_matter() -> None:
    plain = body()
    assert plain == '{"costs":[[0.5]],"ids":[4],"reward":[1.0]}'
    assert plain == body(ids=[4], reward=[1.0], costs=[0.5])
    assert plain == body(ids=np.int32(4), reward=np.float32(1.0), costs=np.array([[0.5]]))
    assert body(costs=-0.0) == body(costs=0)
    assert body(initial_state=np.uint8(3)) == body(initial_state=[3])
    assert body(signals=[[0.25]]) == body(signals=[0.25]) == body(signals=0.25)


@given(st.permutations(ROWS))
def test_transitions_are_counted(rows: list[list[int]]) -> None:
    assert body(transitions=rows) == body(transitions=[[0, 1, 1, 1], [1, 0, 2, 7]])


def test_no_transitions_are_something_else_than_none_reported() -> None:
    assert body(transitions=[]) == body(transitions=[[0, 0, 0, 0]]) == body(transitions=np.zeros((0, 4)))
    assert body(transitions=[]) != body()


def test_a_report_reads_back() -> None:
    report = Report.of([3, 1], [1.0, 2.0], [[0.1, 0.2], [0.3, 0.4]], [5, 6], ROWS, [[0.5], [0.6]], 2)
    assert canonical(Report.recorded(report.body()).body()) == canonical(report.body())
    assert report.episode(1) == {"reward": 2.0, "costs": [0.3, 0.4], "initial_state": 6, "signals": [0.6]}
    rest = report.without({0})
    assert rest.body() == {"ids": [1], "reward": [2.0], "costs": [[0.3, 0.4]], "initial_state": [6], "signals": [[0.6]]}
