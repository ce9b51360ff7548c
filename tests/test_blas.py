"""Small systems are solved by one thread, and the limit is taken back whatever the order of leaving."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from surefoot import blas


def threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_inside_there_is_one_thread_and_outside_what_was_before() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        with blas.one_thread():
            with blas.one_thread():
                assert threads() == {1}
            assert threads() == {1}
        assert threads() == before


def test_two_python_threads_that_leave_in_the_order_they_came() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        before, entered, left = threads(), threading.Event(), threading.Event()

        def first() -> None:
            with blas.one_thread():
                entered.set()
                left.wait(60.0)

        other = threading.Thread(target=first)
        other.start()
        entered.wait(60.0)
        with blas.one_thread():
            assert threads() == {1}
            left.set()
            other.join()
        assert threads() == before


@pytest.mark.parametrize("size", [3, blas.TINY, 60])
def test_the_answer_is_that_of_numpy(size: int, rng: np.random.Generator) -> None:
    system, right = np.eye(size) + 0.1 * rng.random((4, size, size)), rng.random((4, size, 2))
    np.testing.assert_array_equal(blas.solve_systems(system, right), np.linalg.solve(system, right))


def test_medium_systems_are_held_to_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[int]] = []
    real = np.linalg.solve

    def watched(system: np.ndarray, right: np.ndarray) -> np.ndarray:
        seen.append(threads())
        return real(system, right)

    monkeypatch.setattr(np.linalg, "solve", watched)
    with threadpool_limits(limits=2, user_api="blas"):
        blas.solve_systems(np.eye(400), np.ones((400, 1)))
    assert seen == [{1}]
