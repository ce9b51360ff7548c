"""Tables for terminals: every column as wide as its widest entry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.text_table import text_table


def test_names_begin_and_numbers_end_where_their_titles_do() -> None:
    rows = [["agent", "runs", "said"], ["certified:cells", "5", "pass"], ["pce", "10000", ""]]
    assert text_table(rows, left=(0, 2), rule=True) == [
        "agent             runs  said",
        "----------------------------",
        "certified:cells      5  pass",
        "pce              10000",
    ]
    assert text_table(rows, left=())[1] == "certified:cells      5  pass"


def test_no_rows_no_lines() -> None:
    assert text_table([]) == []


def test_rows_must_be_equally_long() -> None:
    with pytest.raises(ValueError, match="is shorter"):
        text_table([["a", "b"], ["c"]])


@given(st.lists(st.lists(st.text("ab ", max_size=6), min_size=3, max_size=3), min_size=1), st.sets(st.integers(0, 2)))
def test_entries_are_found_where_the_widths_say(rows: list[list[str]], left: set[int]) -> None:
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    for row, line in zip(rows, text_table(rows, left=left), strict=True):
        whole, start = line.ljust(sum(widths) + 4), 0
        for k, width in enumerate(widths):
            entry = whole[start : start + width]
            assert entry == (row[k].ljust(width) if k in left else row[k].rjust(width))
            start += width + 2
