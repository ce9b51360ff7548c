"""Opening episodes and checking reports: the bookkeeping that all agents share.

The tracker hands out increasing ids, draws the policy of every episode from the mixture it is given, remembers which episodes are
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
from surefoot.deploy.report import Report
from surefoot.deploy.turns import Turns
from surefoot.errors import InvalidReport
from surefoot.policy import Mixture, Policy, TabularPolicy, for_episode
from surefoot.policyset.schema import SignalPredictions
from surefoot.stateful import Stateful

__all__ = [
    "Batch",
    "Episode",
    "EpisodeTracker",
]

SLACK = 1e-6
"""Relative rounding allowed at the ends of a range."""
_ZERO, _ANY = np.zeros(1), np.full(1, np.inf)


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


class EpisodeTracker(Stateful):
    """Ids, draws, pending episodes.

    Args:
        policies: the library.
        criterion: for the number of constraints.
        return_range: largest possible range of an episode's return.
        cost_ceilings: (I,) largest possible episode costs.
        rng: of the draws.
        signals: what is declared of further signals, if anything is.

    Attributes:
        opened: episodes so far.
        turns: lets one operation of the agent happen at a time.
    """

    CHANGES = ("opened", "_pending")

    def __init__(
        self,
        policies: tuple[Policy, ...],
        criterion: Criterion,
        return_range: tuple[float, float],
        cost_ceilings: FloatArray,
        rng: np.random.Generator,
        *,
        signals: SignalPredictions | None = None,
    ) -> None:
        self.policies = policies
        self.criterion = criterion
        self.return_range = return_range
        self.cost_ceilings = cost_ceilings
        self._rng, self._signals = rng, signals
        self._shape: tuple[tuple[Policy, ...], tuple[int | None, int | None]] = policies, _table_shape(policies)
        self._pending: dict[int, int] = {}
        self.opened = 0
        self.turns = Turns()

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~surefoot.stateful.HasState`."""
        return {**super().state_dict(), "random": self._rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~surefoot.stateful.HasState`."""
        rest = dict(state)
        random = rest.pop("random", None)
        if random is None:
            raise ValueError("state of EpisodeTracker must hold random, got none; it is that of something else")
        super().load_state_dict(rest)
        self._rng.bit_generator.state = random

    @property
    def pending(self) -> int:
        """How many episodes are open."""
        return len(self._pending)

    @property
    def open_episodes(self) -> dict[int, int]:
        """Policy by id of every open episode."""
        return dict(self._pending)

    def is_pending(self, episode: int) -> bool:
        """Whether an episode may still be told."""
        return episode in self._pending

    def open(self, mixture: Mixture, n: int) -> Batch:
        """Open n episodes; the draws are recorded before they are returned."""
        n = check_integer("n", n, low=1)
        self.turns.changes()
        return self.record(mixture.draw(n, self._rng), mixture.weights)

    def record(self, index: IntArray, weights: FloatArray) -> Batch:
        """Open episodes with these policies (n,), which were drawn from ``weights`` (J,) already."""
        self.turns.changes()
        n = index.size
        ids = np.arange(self.opened, self.opened + n, dtype=np.int64)
        self.opened += n
        self._pending.update(zip(ids.tolist(), index.tolist()))
        return Batch(ids, index, weights, self.policies)

    def expect(self, pending: dict[int, int], opened: int) -> None:
        """Take these episodes (policy by id) of ``opened`` for the pending ones: for :meth:`check` alone."""
        self._pending, self.opened = dict(pending), opened

    def check(
        self,
        ids: Any,
        reward: Any,
        costs: Any,
        *,
        initial_state: Any = None,
        transitions: Any = None,
        signals: Any = None,
    ) -> Report:
        """The report in its normal form, with the policies that were drawn, if everything in it can be true; nothing is recorded yet.

        ``costs`` are the (n, K) that the plant reports; those of the answer are the (n, I) that are limited
        (:meth:`~surefoot.criterion.Criterion.measure`).

        Signals that are not declared are left out.

        Raises:
            InvalidReport: see :class:`~surefoot.deploy.agent.Agent`.
        """
        report = Report.of(ids, reward, costs, initial_state, transitions, signals, self.criterion.n_costs)
        return self.checked(report)

    def checked(self, report: Report) -> Report:
        """The same for a report that is in its normal form already."""
        number = report.ids.tolist()
        try:
            index = np.array([self._pending[k] for k in number], dtype=np.int64)
        except KeyError:
            index = np.array([self._policy_of(k) for k in number], dtype=np.int64)
        return self._possible(report, index)

    def logged(self, report: Report) -> Report:
        """The same for episodes of the safe policy that were logged before anything was asked; their ids mean nothing."""
        return self._possible(report, np.zeros(report.ids.size, dtype=np.int64))

    def _possible(self, report: Report, index: IntArray) -> Report:
        """A report of these policies (n,), if everything in it can be true."""
        low, high = self.return_range
        reach = max(abs(low), abs(high)) if math.isfinite(high - low) else 0.0
        units = "check units and discounting"
        _check_range("reward", report.reward, np.array(low), np.array(high), np.array(reach), units)
        remedy = f"{units}, or declare a higher ceiling"
        costs = report.costs
        if self.criterion.functionals:
            # Limits do not see how far below zero a cost is, so it is looked at before it is measured.
            _check_range("costs", costs, _ZERO, _ANY, self.criterion.cost_bounds, units)
            costs = self.criterion.measure(costs)
        _check_range("costs", costs, _ZERO, self.cost_ceilings, self.criterion.cost_ceilings, remedy)
        if report.transitions is not None or report.initial_state is not None:
            if self._shape[0] is not self.policies:  # some agents replace their policies
                self._shape = self.policies, _table_shape(self.policies)
            _check_labels(report, *self._shape[1])
        signals = None if report.signals is None else self._declared(report)
        starts, rows = report.initial_state, report.transitions
        return Report(report.ids, report.reward, costs, starts, rows, signals, index)

    def _declared(self, report: Report) -> FloatArray | None:
        """(n, X) the declared signals."""
        declared, array = self._signals, report.signals
        if array is None or declared is None:
            return None
        if array.shape[1] != len(declared.names):
            raise InvalidReport(
                f"signals must be {len(declared.names)} finite numbers per episode, got {array.shape[1]}; report all of them, the episodes stay "
                "pending",
                code="SF-REPORT-SIGNALS",
            )
        low, high = declared.bounds.T
        # Clipping would move means, which the cells predict for the signal as it is.
        slack = SLACK * magnitude(np.maximum(np.abs(low), np.abs(high)))
        if ((array < low - slack) | (array > high + slack)).any():
            raise InvalidReport(
                f"signals must lie in their declared ranges {declared.bounds.tolist()}, got {array.tolist()}; check units, the episodes stay pending",
                code="SF-REPORT-RANGE",
            )
        return array

    def close(self, report: Report) -> None:
        """Forget reported episodes."""
        self.turns.changes()
        for k in report.ids.tolist():
            del self._pending[k]

    def forget(self, ids: Any) -> IntArray:
        """Episodes that are given up; they can no longer be told. Returns their ids, increasing.

        Raises:
            InvalidReport: one of them is not pending; then none is forgotten.
        """
        number = np.unique(_ids(ids))
        for k in number.tolist():
            self._policy_of(k)
        self.turns.changes()
        for k in number.tolist():
            self._pending.pop(k, None)
        return number

    def _policy_of(self, k: int) -> int:
        if k in self._pending:
            return self._pending[k]
        if 0 <= k < self.opened:
            raise InvalidReport(
                f"id must name a pending episode, got {k}, which was told or declared lost before; tell every episode once",
                code="SF-REPORT-CLOSED",
            )
        raise InvalidReport(
            f"id must name a pending episode, got {k}, which was never asked; use the id that ask() returned",
            code="SF-REPORT-UNKNOWN",
        )


def _ids(ids: Any) -> IntArray:
    """(n,) ids, of which some may stand twice."""
    array = np.atleast_1d(np.asarray(ids))
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.size == 0:
        raise InvalidReport(
            f"ids must be one or more whole numbers, got {ids!r}; use the ids that ask() returned", code="SF-REPORT-ID"
        )
    return array.astype(np.int64)


def _check_range(
    name: str, array: FloatArray, low: FloatArray, high: FloatArray, size: FloatArray, remedy: str
) -> None:
    """``size``: of what is measured; rounding is relative to it, also where one end is zero or open."""
    if bool(((array >= low) & (array <= high)).all()):
        return
    slack = SLACK * magnitude(size)
    bad = (array < low - slack) | (array > high + slack)
    if bad.any():
        index = first_where(bad)
        top = float(np.broadcast_to(high, array.shape)[index])
        bottom = float(np.broadcast_to(low, array.shape)[index])
        raise InvalidReport(
            f"{entry(name, index)} must lie in [{bottom:g}, {top:g}], got {array[index]:g}; {remedy}; the episode stays pending",
            code="SF-REPORT-RANGE",
        )


def _table_shape(policies: tuple[Policy, ...]) -> tuple[int | None, int | None]:
    """Numbers of states and actions, where policies are tables."""
    shapes = [policy.table.shape for policy in policies if isinstance(policy, TabularPolicy)]
    return (shapes[0][0], shapes[0][1]) if shapes else (None, None)


def _check_labels(report: Report, states: int | None, actions: int | None) -> None:
    """States and actions are counted from 0, below their numbers where these are known (``None`` where they are not)."""
    rows = report.transitions
    for column, name, size in ((0, "s", states), (1, "a", actions), (2, "s'", states)):
        if rows is not None and size is not None and rows.size and rows[:, column].max() >= size:
            k = int(rows[:, column].argmax())
            raise InvalidReport(
                f"transitions[{k}] must have {name} in 0..{size - 1}, got the row {rows[k].tolist()}; count states and actions from 0, "
                "the episodes stay pending",
                code="SF-REPORT-TRANSITIONS",
            )
    if report.initial_state is None:
        return
    outside = (report.initial_state < 0) | (
        report.initial_state >= (np.iinfo(np.int64).max if states is None else states)
    )
    if outside.any():
        rule = ">= 0" if states is None else f"in 0..{states - 1}"
        raise InvalidReport(
            f"initial_state must be {rule}, got {int(report.initial_state[outside.argmax()])}; count states from 0, the episodes stay pending",
            code="SF-REPORT-STATE",
        )
