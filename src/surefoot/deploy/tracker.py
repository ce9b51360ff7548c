"""Opening episodes and checking reports: the bookkeeping that all agents share.

The desk hands out increasing ids, draws the policy of every episode from the mixture it is given, remembers which episodes are
pending (and nothing of those that are told), and refuses reports that cannot be true. A refused report changes nothing.

Letters: n episodes, I constraints, J policies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_integer, entry, first_where, magnitude
from surefoot.criterion import Criterion
from surefoot.deploy.turns import Turns
from surefoot.errors import InvalidReport
from surefoot.policy import Mixture, Policy, for_episode

__all__ = ["Batch", "Episode", "EpisodeTracker", "Reports"]

SLACK = 1e-6
"""Relative rounding allowed at the ends of a range."""
_ZERO = np.zeros(1)


@dataclass(frozen=True, eq=False)
class Episode:
    """One opened episode.

    Attributes:
        id: to be given back with the report.
        policy: run this one for the whole episode; an instance of the episode's own, made when first asked for, which remembers no other
            (:func:`surefoot.policy.for_episode`).
        policy_index: its index in the library.
        weights: (J,) mixture it was drawn from; what is certified is the mixture, not the single draw.
    """

    id: int
    policy_index: int
    weights: FloatArray
    _policies: tuple[Policy, ...] = field(repr=False)

    @cached_property
    def policy(self) -> Policy:
        """The policy to run."""
        return for_episode(self._policies[self.policy_index])  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Batch:
    """n episodes opened at once from one mixture: as arrays, and one by one as :class:`Episode`.

    Attributes:
        ids: (n,).
        policy_index: (n,) which policy each of them runs.
        weights: (J,).
        policies: the library; what acts is an episode's ``policy``, never these.
    """

    ids: IntArray
    policy_index: IntArray
    weights: FloatArray
    policies: tuple[Policy, ...] = field(repr=False)

    def __len__(self) -> int:
        return int(self.ids.size)

    def __getitem__(self, k: int) -> Episode:
        return Episode(int(self.ids[k]), int(self.policy_index[k]), self.weights, self.policies)

    def __iter__(self) -> Iterator[Episode]:
        return (self[k] for k in range(len(self)))


@dataclass(frozen=True, eq=False)
class Reports:
    """Checked reports of n episodes.

    Attributes:
        ids: (n,).
        policy_index: (n,) the policies drawn when the episodes were asked.
        rewards: (n,).
        costs: (n, I).
    """

    ids: IntArray
    policy_index: IntArray
    rewards: FloatArray
    costs: FloatArray


class EpisodeTracker:
    """Ids, draws, pending episodes.

    Args:
        policies: the library.
        criterion: for the number of constraints.
        return_range: largest possible range of an episode's return.
        cost_ceilings: (I,) largest possible episode costs.
        rng: of the draws.

    Attributes:
        opened: episodes so far.
        turns: lets one operation of the agent happen at a time.
    """

    def __init__(
        self,
        policies: tuple[Policy, ...],
        criterion: Criterion,
        return_range: tuple[float, float],
        cost_ceilings: FloatArray,
        rng: np.random.Generator,
    ) -> None:
        self.policies = policies
        self.criterion = criterion
        self.return_range = return_range
        self.cost_ceilings = cost_ceilings
        self._rng = rng
        self._pending: dict[int, int] = {}
        self.opened = 0
        self.turns = Turns()

    @property
    def pending(self) -> int:
        """How many episodes are open."""
        return len(self._pending)

    @property
    def open_episodes(self) -> dict[int, int]:
        """Policy by id of every open episode."""
        return dict(self._pending)

    def open(self, mixture: Mixture, n: int) -> Batch:
        """Open n episodes; the draws are recorded before they are returned."""
        n = check_integer("n", n, low=1)
        self.turns.changes()
        index = mixture.draw(n, self._rng)
        ids = np.arange(self.opened, self.opened + n, dtype=np.int64)
        self.opened += n
        self._pending.update(zip(ids.tolist(), index.tolist()))
        return Batch(ids, index, mixture.weights, self.policies)

    def check(self, ids: Any, reward: Any, costs: Any) -> Reports:
        """The reports as arrays, if every one of them can be true; nothing is recorded yet.

        Raises:
            InvalidReport: see :class:`~surefoot.deploy.agent.Agent`.
        """
        number = _ids(ids)
        try:
            index = np.array([self._pending[k] for k in number.tolist()], dtype=np.int64)
        except KeyError:
            index = np.array([self._policy_of(k) for k in number.tolist()], dtype=np.int64)
        if len(set(number.tolist())) < number.size:
            raise InvalidReport("ids must differ, got one twice in the same report; tell every episode once")
        rewards = _reals("reward", reward, (number.size,), scalar=True)
        table = _reals("costs", costs, (number.size, self.criterion.n_constraints), scalar=number.size == 1)
        low, high = self.return_range
        reach = max(abs(low), abs(high)) if math.isfinite(high - low) else 0.0
        _check_range("reward", rewards, np.array(low), np.array(high), np.array(reach), "check units and discounting")
        remedy = "check units and discounting, or declare a higher ceiling"
        _check_range("costs", table, _ZERO, self.cost_ceilings, self.criterion.cost_ceilings, remedy)
        return Reports(number, index, rewards, table)

    def close(self, reports: Reports) -> None:
        """Forget reported episodes."""
        self.turns.changes()
        for k in reports.ids.tolist():
            del self._pending[k]

    def forget(self, ids: Any) -> None:
        """Episodes that are given up; they can no longer be told.

        Raises:
            InvalidReport: one of them is not pending; then none is forgotten.
        """
        number = _ids(ids).tolist()
        for k in number:
            self._policy_of(k)
        self.turns.changes()
        for k in number:
            self._pending.pop(k, None)

    def _policy_of(self, k: int) -> int:
        if k in self._pending:
            return self._pending[k]
        if 0 <= k < self.opened:
            raise InvalidReport(
                f"id must name a pending episode, got {k}, which was told or declared lost before; tell every episode once"
            )
        raise InvalidReport(
            f"id must name a pending episode, got {k}, which was never asked; use the id that ask() returned"
        )


def _ids(ids: Any) -> IntArray:
    array = np.atleast_1d(np.asarray(ids))
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.size == 0:
        raise InvalidReport(f"ids must be one or more whole numbers, got {ids!r}; use the ids that ask() returned")
    return array.astype(np.int64)


def _reals(name: str, value: Any, shape: tuple[int, ...], *, scalar: bool) -> FloatArray:
    try:
        given = np.asarray(value)
        # Text that happens to read as a number, or a truth value, is a mistake at the plant.
        array = given.astype(np.float64) if given.dtype.kind in "iuf" else None
    except (TypeError, ValueError, OverflowError):
        array = None
    if array is None:
        raise InvalidReport(f"{name} must be numbers, got {value!r}; report floats; the episode stays pending")
    if scalar and array.size == math.prod(shape):
        array = array.reshape(shape)
    if array.shape != shape:
        raise InvalidReport(
            f"{name} must have shape {shape}, got {array.shape}; report one value per episode and constraint"
        )
    finite = np.isfinite(array)
    if not finite.all():
        index = first_where(~finite)
        raise InvalidReport(
            f"{entry(name, index)} must be finite, got {array[index]}; the episode stays pending and counts as lost until it is told"
        )
    return array


def _check_range(
    name: str, array: FloatArray, low: FloatArray, high: FloatArray, size: FloatArray, remedy: str
) -> None:
    """``size``: of what is measured; rounding is relative to it, also where one end is zero or open."""
    if bool(((array >= low) & (array <= high)).all()):
        return
    room = SLACK * magnitude(size)
    bad = (array < low - room) | (array > high + room)
    if bad.any():
        index = first_where(bad)
        top = float(np.broadcast_to(high, array.shape)[index])
        bottom = float(np.broadcast_to(low, array.shape)[index])
        raise InvalidReport(
            f"{entry(name, index)} must lie in [{bottom:g}, {top:g}], got {array[index]:g}; {remedy}; the episode stays pending"
        )
