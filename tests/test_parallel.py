"""The same results in the same order, in one process or in several."""

from __future__ import annotations

import os

import pytest

from surefoot.parallel import map_tasks


def whence(x: int, y: int) -> tuple[int, int]:
    return 10 * x + y, os.getpid()


@pytest.mark.parametrize("batch_size", [None, 1])
def test_order_and_results_do_not_depend_on_workers(batch_size: int | None) -> None:
    calls = [(k, k % 3) for k in range(12)]
    alone = map_tasks(whence, calls, workers=1, batch_size=batch_size)
    shared = map_tasks(whence, calls, workers=2, batch_size=batch_size)
    assert [value for value, _ in alone] == [value for value, _ in shared] == [10 * x + y for x, y in calls]
    assert {process for _, process in alone} == {os.getpid()}, "one worker is this process"
    assert os.getpid() not in {process for _, process in shared}


def test_no_calls_and_errors() -> None:
    assert map_tasks(whence, [], workers=1) == []
    for workers in (1, 2):
        with pytest.raises(ZeroDivisionError):
            map_tasks(divmod, [(1, 1), (1, 0)], workers=workers)
