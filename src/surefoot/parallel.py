"""The same work on many arguments: in this process, or spread over several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from surefoot.progress import track

__all__ = ["iter_tasks", "map_tasks"]

Result = TypeVar("Result")


def map_tasks(
    work: Callable[..., Result],
    calls: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    label: str = "",
    progress: bool = False,
    batch_size: int | None = None,
) -> list[Result]:
    """``[work(*call) for call in calls]``, in this order, whatever the number of workers.

    Args:
        work: a function that decides its result from its arguments alone.
        calls: its arguments.
        workers: processes; with one, everything runs in this process.
        label: name of the loop where progress is shown.
        progress: show progress on standard error.
        batch_size: calls that a process takes at once; by default joblib chooses. 1 where calls differ much in length.

    Raises:
        Exception: whatever ``work`` raises.

    >>> map_tasks(divmod, [(7, 2), (9, 4)], workers=1)
    [(3, 1), (2, 1)]
    """
    return list(iter_tasks(work, calls, workers=workers, label=label, progress=progress, batch_size=batch_size))


def iter_tasks(
    work: Callable[..., Result],
    calls: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    label: str = "",
    progress: bool = False,
    batch_size: int | None = None,
) -> Iterator[Result]:
    """As :func:`map_tasks`, one result after the other as they are ready, so that each can be stored before the rest is done."""
    running: Iterable[Result]
    if workers == 1:
        running = (work(*call) for call in calls)
    else:
        from joblib import Parallel, delayed

        size = "auto" if batch_size is None else batch_size
        pool = Parallel(n_jobs=workers, return_as="generator", batch_size=size)
        running = pool(delayed(work)(*call) for call in calls)
    return track(running, label, len(calls), show=progress)
