"""What the plant measured: one form of it, made and checked in one place.

    Report.of(...)                are these numbers, and one per episode?             wherever a report enters
    EpisodeTracker.check(...)     can they be true of episodes that are pending?      :mod:`surefoot.deploy.tracker`

The same report has the same values whoever sends it, so that a retry can be told from a contradiction: transitions are sorted and
counted once, minus zero is zero. Letters: n episodes, I constraints, K costs that a plant reports, X declared signals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, entry, first_where
from surefoot.errors import InvalidReport

__all__ = ["OPTIONAL", "Report", "above_ceiling", "episode_ids"]

OPTIONAL = ("initial_state", "transitions", "signals")
"""Parts that a report may lack."""
LARGEST_COUNT = 2**53


@dataclass(frozen=True, eq=False)
class Report:
    """What the plant measured in n episodes.

    Attributes:
        ids: (n,).
        reward: (n,) discounted returns.
        costs: (n, K) discounted costs as the plant reported them, before a tracker has checked the report; after that (n, I), what is limited
            (:meth:`~surefoot.criterion.Criterion.measure`). The two differ only where limits are on more than means.
        initial_state: (n,) or ``None``.
        transitions: (m, 4) rows ``(s, a, s', count)`` over all n episodes, sorted and counted once, or ``None``.
        signals: (n, X) or ``None``.
        drawn: (n,) the policies that were drawn when the episodes were asked, ``None`` before a tracker has checked the report.
    """

    ids: IntArray
    reward: FloatArray
    costs: FloatArray
    initial_state: IntArray | None = None
    transitions: IntArray | None = None
    signals: FloatArray | None = None
    drawn: IntArray | None = field(default=None, repr=False)

    @staticmethod
    def of(
        ids: Any,
        reward: Any,
        costs: Any,
        initial_state: Any,
        transitions: Any,
        signals: Any,
        n_constraints: int,
    ) -> Report:
        """Normalise what a caller gave.

        Raises:
            InvalidReport: no numbers, not finite, or not as many as there are episodes.
        """
        number = episode_ids(ids)
        n = number.size
        starts = None if initial_state is None else _whole("initial_state", np.atleast_1d(_array(initial_state)), (n,))
        return Report(
            number,
            _reals("reward", reward, (n,)),
            _reals("costs", costs, (n, n_constraints)),
            starts,
            None if transitions is None else _counted(transitions),
            None if signals is None else _reals("signals", signals, (n, None)),
        )

    @staticmethod
    def logged(
        reward: Any, costs: Any, initial_state: Any, transitions: Any, signals: Any, n_constraints: int
    ) -> Report:
        """The same for n episodes that were logged before anything was asked; their ids, 0 to n - 1, mean nothing.

        Raises:
            InvalidReport: see :meth:`of`; or there is none.
        """
        n = np.atleast_1d(_array(reward)).size
        if not n:
            raise InvalidReport(
                f"reward must hold one number for each logged episode, and at least one, got {_shown(reward)}; leave an empty log out",
                code="SF-REPORT-SHAPE",
            )
        return Report.of(np.arange(n), reward, costs, initial_state, transitions, signals, n_constraints)

    @property
    def policy_index(self) -> IntArray:
        """(n,) the policies drawn when the episodes were asked.

        Raises:
            InvalidReport: no tracker has checked the report yet.
        """
        if self.drawn is None:
            raise InvalidReport(
                "drawn must be known, got a report that no tracker has checked; use EpisodeTracker.check",
                code="SF-REPORT-UNCHECKED",
            )
        return self.drawn

    @cached_property
    def outcomes(self) -> FloatArray:
        """(n, 1 + I) return and costs."""
        return np.column_stack([self.reward, self.costs])

    @cached_property
    def span(self) -> tuple[int, int]:
        """Smallest and largest id."""
        return int(self.ids.min()), int(self.ids.max())

    def body(self) -> dict[str, Any]:
        """Plain values, as the journal and the service write them."""
        found = {"ids": self.ids.tolist(), "reward": self.reward.tolist(), "costs": self.costs.tolist()}
        for name in OPTIONAL:
            value = getattr(self, name)
            if value is not None:
                found[name] = value.tolist()
        return found

    def arguments(self) -> dict[str, Any]:
        """What an agent's ``tell`` takes."""
        return {name: getattr(self, name) for name in ("ids", "reward", "costs", *OPTIONAL)}

    @staticmethod
    def recorded(body: dict[str, Any]) -> Report:
        """From plain values that :meth:`body` gave."""
        ids = np.asarray(body["ids"], dtype=np.int64)
        rows = body.get("transitions")
        starts, signals = body.get("initial_state"), body.get("signals")
        return Report(
            ids,
            np.asarray(body["reward"], dtype=np.float64),
            np.asarray(body["costs"], dtype=np.float64).reshape(ids.size, -1),
            None if starts is None else np.asarray(starts, dtype=np.int64),
            None if rows is None else np.asarray(rows, dtype=np.int64).reshape(-1, 4),
            None if signals is None else np.asarray(signals, dtype=np.float64).reshape(ids.size, -1),
        )

    def episode(self, position: int) -> dict[str, Any]:
        """What was said about one episode alone."""
        found: dict[str, Any] = {"reward": float(self.reward[position]), "costs": self.costs[position].tolist()}
        if self.initial_state is not None:
            found["initial_state"] = int(self.initial_state[position])
        if self.signals is not None:
            found["signals"] = self.signals[position].tolist()
        return found

    def without(self, positions: set[int]) -> Report:
        """The report of the other episodes; only without transitions, which cannot be taken apart."""
        keep = [k for k in range(self.ids.size) if k not in positions]
        starts = None if self.initial_state is None else self.initial_state[keep]
        signals = None if self.signals is None else self.signals[keep]
        return Report(self.ids[keep], self.reward[keep], self.costs[keep], starts, None, signals)


def episode_ids(ids: Any) -> IntArray:
    """(n,) whole numbers from one id or several, each once.

    Raises:
        InvalidReport: anything else.
    """
    given = np.atleast_1d(_array(ids))
    if given.dtype.kind not in "iu" or given.ndim != 1 or not given.size:
        raise InvalidReport(
            f"ids must be one or more whole numbers, got {_shown(ids)}; use the ids that ask() returned",
            code="SF-REPORT-ID",
        )
    number = _whole("ids", given, (None,))
    if number.size > 1 and len(set(number.tolist())) < number.size:
        raise InvalidReport(
            "ids must differ, got one twice in the same report; tell every episode once", code="SF-REPORT-DISTINCT"
        )
    return number


def _array(value: Any) -> Any:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, OverflowError):
        # Ragged lists; an array of objects is refused by its dtype.
        return np.empty(0, dtype=object)


def _whole(name: str, array: Any, shape: tuple[int | None, ...]) -> IntArray:
    if array.dtype.kind not in "iu" or array.ndim != len(shape):
        raise InvalidReport(
            f"{name} must be whole numbers, got {array.dtype} of shape {array.shape}; the episodes stay pending",
            code="SF-REPORT-TYPE",
        )
    if any(want is not None and got != want for got, want in zip(array.shape, shape)):
        raise InvalidReport(
            f"{name} must have shape {shape}, got {array.shape}; report one per episode", code="SF-REPORT-SHAPE"
        )
    if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
        raise InvalidReport(
            f"{name} must be below 2^63, got {int(array.max())}; the episodes stay pending", code="SF-REPORT-RANGE"
        )
    result: IntArray = array.astype(np.int64)
    return result


def _reals(name: str, value: Any, shape: tuple[int | None, ...]) -> FloatArray:
    given = _array(value)
    # Text that happens to read as a number, or a truth value, is a mistake at the plant.
    if given.dtype.kind not in "iuf":
        raise InvalidReport(
            f"{name} must be numbers, got {_shown(value)}; report floats; the episode stays pending",
            code="SF-REPORT-TYPE",
        )
    array = given.astype(np.float64)
    if array.shape != shape:
        array = _shaped(name, array, shape)
    finite = np.isfinite(array)
    if not finite.all():
        index = first_where(~finite)
        raise InvalidReport(
            f"{entry(name, index)} must be finite, got {array[index]}; the episode stays pending and counts as lost until it is told",
            code="SF-REPORT-FINITE",
        )
    # Minus zero would be another text for the same number.
    result: FloatArray = array + 0.0
    return result


def _shaped(name: str, array: FloatArray, shape: tuple[int | None, ...]) -> FloatArray:
    """One episode may be reported without the axis of episodes, one number per episode with an axis too many."""
    given, n = array.shape, shape[0] or 0
    if len(shape) == 1 and array.size == n:
        array = array.reshape(n)
    elif n == 1:
        array = array.reshape(1, -1)
    if array.ndim != len(shape) or any(want is not None and got != want for got, want in zip(array.shape, shape)):
        raise InvalidReport(
            f"{name} must have shape {shape}, got {given}; report one value per episode and constraint",
            code="SF-REPORT-SHAPE",
        )
    return array


def _shown(value: Any) -> str:
    return ascii(value)[:80]


def _in_order(rows: IntArray, base: int) -> bool:
    """Whether rows with entries below ``base`` are in their normal form already."""
    if base >= 2**20 or int(rows[:, 3].min()) == 0:
        return False
    keys = (rows[:, 0] * base + rows[:, 1]) * base + rows[:, 2]
    return bool((keys[1:] > keys[:-1]).all())


def _counted(transitions: Any) -> IntArray:
    """Rows sorted by ``(s, a, s')``, equal ones added up, empty ones dropped."""
    rows = _array(transitions)
    if rows.size == 0 and rows.dtype != object:
        return np.zeros((0, 4), dtype=np.int64)
    shaped = rows.ndim == 2 and rows.shape[1] == 4 and rows.dtype.kind in "iu"
    least, most = (int(rows.min()), int(rows.max())) if shaped else (-1, 0)
    if not shaped or least < 0:
        raise InvalidReport(
            f"transitions must be rows (s, a, s', count) of whole numbers >= 0, got shape {rows.shape} of {rows.dtype}; the episodes stay "
            "pending",
            code="SF-REPORT-TRANSITIONS",
        )
    if most >= LARGEST_COUNT or most * len(rows) >= LARGEST_COUNT <= float(rows[:, 3].sum(dtype=np.float64)):
        raise InvalidReport(
            "transitions must stay below 2^53, got more; the episodes stay pending", code="SF-REPORT-TRANSITIONS"
        )
    given: IntArray = rows.astype(np.int64)
    if _in_order(given, most + 1):
        return given
    rows = given[np.lexsort((given[:, 2], given[:, 1], given[:, 0]))]
    first = np.flatnonzero(np.r_[True, (rows[1:, :3] != rows[:-1, :3]).any(axis=1)])
    counted = np.column_stack([rows[first, :3], np.add.reduceat(rows[:, 3], first)])
    result: IntArray = counted[counted[:, 3] > 0]
    return result


def above_ceiling(report: Report, ceilings: FloatArray, names: Sequence[str]) -> str | None:
    """What the alarm says of the first constraint in which an episode of ``report`` cost more than its policy's ceiling; ``None`` if none did.

    Args:
        ceilings: (J, I) largest possible episode costs of every policy.
        names: I names of the costs.
    """
    most = ceilings[report.policy_index]
    above = report.costs > most * (1.0 + 1e-9)
    if not above.any():
        return None
    i = int(above.any(axis=0).argmax())
    k = int(np.where(above[:, i], report.costs[:, i], -np.inf).argmax())
    return f"an episode cost {report.costs[k, i]:.4g} in {names[i]}, above the declared ceiling {most[k, i]:.4g}: an assumption is false"
