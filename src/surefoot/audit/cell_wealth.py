"""The e-processes of the cells a second time: what every kind of evidence says against every cell, and what follows.

Letters: N cells, R alternatives, J policies, F signals, B initial states, n episodes, w watched cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.audit.groups import Group, PredictedBoxes, log_sum
from surefoot.audit.joint_bets import Residuals, joint_steps
from surefoot.audit.single_bets import SingleBets, TransitionBets
from surefoot.deploy.evidence.alternatives import CHEAPER_SHARE, NEAREST_ALTERNATIVE, Alternatives, choose_alternatives
from surefoot.deploy.evidence.base import evidence_shares
from surefoot.deploy.evidence.joint import JOINT_RATIO, LARGEST_LOSS
from surefoot.deploy.evidence.mixture import RETURN
from surefoot.policyset.schema import PolicySet

__all__ = ["CellWealth"]

Walk = list[tuple[float, FloatArray, Callable[[], None]]]
"""Shares of the wealth, log-wealths (n, w) after each of n episodes, and what makes the last of them so."""


class CellWealth:
    """E-processes of the cells.

    Attributes:
        alive, watched: (N,).
    """

    def __init__(
        self,
        policy_set: PolicySet,
        kind: str,
        boxes: PredictedBoxes,
        delta: float,
        *,
        final: float,
    ) -> None:
        cells, self._boxes = policy_set.cells, boxes
        self._shares = {"transitions": 0.0, **evidence_shares(kind, cells.kernel is not None)}
        self.threshold = -math.log(delta)
        self.final = self.threshold - math.log(final)
        self.active, self.watched = np.ones((2, len(cells)), dtype=bool)
        self.impossible = np.zeros(len(cells), dtype=bool)
        self._transitions = None
        if self._shares["transitions"] > 0.0 and cells.kernel is not None:
            self._transitions = TransitionBets(policy_set)
        self._alternatives = choose_alternatives(cells, JOINT_RATIO, CHEAPER_SHARE, NEAREST_ALTERNATIVE)
        self._wide, self._signals = boxes.widened(policy_set), cells.signals
        self._joint, self._residuals = np.zeros(self._alternatives.index.shape), Residuals(self._wide)
        self._joint_on = self._transitions is None
        whole = boxes.states.size
        signals = cells.signals
        declared = [] if signals is None else range(len(signals.names))
        self._separate = [
            SingleBets(boxes.lower[:, :, f, whole], boxes.upper[:, :, f, whole], boxes.low[f], boxes.high[f])
            for f in range(boxes.low.size)
        ]
        if signals is not None:
            self._extra = [
                SingleBets(signals.lower[..., x], signals.upper[..., x], *signals.bounds[x]) for x in declared
            ]
        else:
            self._extra = []
        self._conditional: bool | None = None
        self._measured: bool | None = None if signals is not None else False

    def bets(self) -> FloatArray | None:
        """What is fixed for the episodes asked now."""
        decided = self._conditional is not None or not self._boxes.states.size
        if not self._joint_on or not decided or self._measured is None:
            return None
        return self._residuals.inverse(None if self._measured else self._boxes.low.size)

    def settle(self, group: Group, bets: list[FloatArray | None], *, logged: bool = False) -> None:
        """Multiply in a group; ``bets`` was fixed for each of its episodes when it was asked.

        What wants something that a whole log lacks takes nothing from ``logged`` episodes, and loses nothing.
        """
        furthest = np.maximum(np.abs(self._boxes.low), np.abs(self._boxes.high))
        room = 1e-6 * np.where(furthest < 1.0, 2.0 * furthest, 1.0 + furthest)
        inside = (group.outcomes >= self._boxes.low - room) & (group.outcomes <= self._boxes.high + room)
        if not inside[:, 1:].all():
            self.active &= ~self.watched
            self.watched[:] = False
            return
        sound = group.sound(float(self._boxes.low[0]), float(self._boxes.high[0]))
        if not sound.all():
            self.watched &= self.active
        bare = logged and group.signals is None and bool(self._extra)
        if not (bare or (logged and group.starts is None and self._boxes.states.size)):
            columns = self._columns(group)
            self._measured = group.signals is not None if self._measured is None else self._measured
            self._settle_joint(group, columns, bets, sound)
        if not bare:
            self._settle_separate(group, sound)
        if self._transitions is not None:
            if group.rows is not None:
                self.impossible |= self._transitions.update(group.rows)
            elif not logged:
                self._give_up_transitions()

    def _settle_separate(self, group: Group, sound: Any) -> None:
        clipped = np.clip(group.outcomes, self._boxes.low, self._boxes.high)
        for policy in sorted(set(group.policies.tolist())):
            mine = group.policies == policy
            for f, process in enumerate(self._separate):
                process.update(policy, clipped[mine & sound if f == 0 else mine, f], self.watched)
            self._separate[0].lose(policy, int((mine & ~sound).sum()))
            for x, process in enumerate(self._extra):
                if group.signals is None:
                    process.lose(policy, int(mine.sum()))
                else:
                    process.update(policy, group.signals[mine, x], self.watched)

    @property
    def entries(self) -> int:
        """Numbers that one episode moves at most: what bounds how many episodes are looked at together."""
        moved = [self._alternatives.index.size * self._wide.low.size, self.active.size * self._boxes.lower.shape[1]]
        if self._transitions is not None:
            moved.append(self._transitions.logs.size)
        return int(max(moved))

    def foresee(
        self, group: Group, rows: Sequence[IntArray] | None, close: float
    ) -> tuple[int, Callable[[], None] | None]:
        """Episodes that were asked and told one after the other: what :meth:`settle` would do with them, one by one, when called.

        Before it how many episodes pass without anything else, or nearly: a cell rejected, readmitted or given up, evidence lost or limited. If these
        are not all, there is nothing to call.

        Args:
            group: n episodes in ask order.
            rows: (m, 4) transitions of each, or ``None``.
            close: what counts as nearly.
        """
        boxes, whole, signals = self._boxes, self._boxes.states.size, group.signals
        furthest = np.maximum(np.abs(boxes.low), np.abs(boxes.high))
        room = 1e-6 * np.where(furthest < 1.0, 2.0 * furthest, 1.0 + furthest)
        inside = (group.outcomes >= boxes.low - room) & (group.outcomes <= boxes.high + room)
        settled = self._conditional is not None and self._measured is not None
        if not settled or not inside.all() or not group.sound(float(boxes.low[0]), float(boxes.high[0])).all():
            return 0, None
        if (self._conditional and whole and group.starts is None) or (
            signals is None and (self._measured or self._extra)
        ):
            return 0, None
        if (self.active & ~self.watched).any() or (self.active & self.impossible).any():
            return 0, None
        columns = boxes.columns(group.starts if self._conditional else None, group.ids.size)
        watched = np.flatnonzero(self.watched)
        commits, parts = [], []
        for walk in (
            self._walk_separate(group),
            self._walk_joint(group, columns, watched),
            self._walk_steps(rows, watched),
        ):
            if walk is None:
                return 0, None
            for share, logs, finish in walk:
                parts.append(math.log(share) + logs)
                commits.append(finish)
        wealth, active = log_sum(np.array(parts), axis=0), self.active[watched]
        back = (wealth <= math.log(RETURN) + close) & ~active & ~self.impossible[watched]
        gone = (wealth >= self.threshold - close) & active
        eventful = (gone | back | (wealth >= self.final - close)).any(axis=1)
        if eventful.any():
            return int(eventful.argmax()), None

        def commit() -> None:
            for each in commits:
                each()

        return group.ids.size, commit

    def _walk_separate(self, group: Group) -> Walk:
        """Log-wealths (n, w) of the w watched cells after every episode, from bets on one signal at a time."""
        clipped = np.clip(group.outcomes, self._boxes.low, self._boxes.high)
        found = [process.walk(group.policies, clipped[:, f], self.watched) for f, process in enumerate(self._separate)]
        if group.signals is not None:
            found += [
                process.walk(group.policies, group.signals[:, x], self.watched) for x, process in enumerate(self._extra)
            ]
        mean = log_sum(np.array([logs for logs, _ in found]), axis=0) - math.log(len(found))

        def commit() -> None:
            for _, each in found:
                each()

        return [(self._shares["separate"], mean, commit)]

    def _walk_joint(self, group: Group, columns: IntArray, watched: IntArray) -> Walk:
        """The same from joint bets."""
        n, whole, boxes = group.ids.size, self._boxes.states.size, self._wide
        start = self._joint[watched]
        if not self._joint_on:
            still = np.broadcast_to(log_sum(start + self._alternatives.log_weights[watched], axis=1), (n, watched.size))
            return [(self._shares["joint"], still, lambda: None)]
        kept = np.flatnonzero((columns < whole) | (not (self._conditional and whole)))
        outcomes, j, b = group.outcomes[kept], group.policies[kept], columns[kept]
        if self._signals is not None:
            (least, most), told = self._signals.bounds.T, group.signals
            more = np.tile(least, (kept.size, 1)) if told is None else np.clip(told[kept], least, most)
            outcomes = np.hstack([outcomes, more])
        steps = np.zeros((n, *start.shape))
        commits: list[Callable[[], None]] = []
        if kept.size:
            low = boxes.lower[watched[None], j[:, None], :, b[:, None]]
            high = boxes.upper[watched[None], j[:, None], :, b[:, None]]
            residuals = outcomes - (0.5 * (low + high)).mean(axis=1) if watched.size else outcomes
            fixed, add = self._residuals.walk(b, residuals, None if self._measured else self._boxes.low.size)
            commits.append(add)
            alternative = boxes.points[self._alternatives.index[watched][None], j[:, None, None], :, b[:, None, None]]
            steps[kept] = joint_steps(
                low[:, :, None], high[:, :, None], alternative, fixed, boxes.low, boxes.high, outcomes
            )
        walk = start + np.cumsum(steps, axis=0)

        def commit() -> None:
            self._joint[watched] = walk[-1]
            for each in commits:
                each()

        return [(self._shares["joint"], log_sum(walk + self._alternatives.log_weights[watched], axis=2), commit)]

    def _walk_steps(self, rows: Sequence[IntArray] | None, watched: IntArray) -> Walk | None:
        """The same from transitions; nothing where there is no such evidence."""
        found = self._transitions
        if found is None:
            return []
        if rows is None:
            over = self._joint_on and bool((found.logs == -np.inf).all()) and not (self.watched & ~self.active).any()
            if not over:
                return None
            return [(self._shares["transitions"], np.full((1, watched.size), -np.inf), lambda: None)]
        steps = found.walk(rows)
        if steps is None:
            return None
        walk = found.logs + np.cumsum(steps, axis=0)

        def commit() -> None:
            found.logs = walk[-1]

        logs = log_sum(walk[:, watched] + found.alternatives.log_weights[watched], axis=2)
        return [(self._shares["transitions"], logs, commit)]

    def _columns(self, group: Group) -> IntArray:
        n, whole = group.ids.size, self._boxes.states.size
        if self._conditional is None:
            self._conditional = group.starts is not None
        if self._conditional and group.starts is not None:
            return self._boxes.columns(group.starts, n)
        if self._conditional and whole:
            self.watched &= self.active
            self._joint[:] = -np.inf
        return np.full(n, whole)

    def _settle_joint(self, group: Group, columns: IntArray, bets: list[FloatArray | None], sound: Any) -> None:
        whole = self._boxes.states.size
        rows, used = np.flatnonzero(self.watched), []
        start = 0
        while start < len(bets):
            stop = start + 1
            while stop < len(bets) and bets[stop] is bets[start]:
                stop += 1
            kept = [k for k in range(start, stop) if columns[k] < whole or not (self._conditional and whole)]
            fixed = bets[start]
            if fixed is not None and kept:
                used.append((kept, fixed))
            start = stop
        boxes = self._wide
        outcomes = group.outcomes
        if self._signals is not None and not (self._measured and group.signals is None):
            (least, most), n = self._signals.bounds.T, group.ids.size
            more = np.tile(least, (n, 1)) if group.signals is None else np.clip(group.signals, least, most)
            outcomes = np.hstack([outcomes, more])
        for kept, fixed in used:
            if outcomes.shape[1] < boxes.low.size:
                self.watched &= self.active
                rows = np.flatnonzero(self.watched)
                for k in kept:
                    self._worst_bets(rows, int(group.policies[k]), fixed)
                continue
            for k in [k for k in kept if not sound[k]]:
                self._worst_bets(rows, int(group.policies[k]), fixed)
            kept = [k for k in kept if sound[k]]
            for k in kept:
                j, b = int(group.policies[k]), int(columns[k])
                direction, offset, _ = self._directions(rows, j, b, fixed)
                self._joint[rows] += np.log1p(direction @ outcomes[k] - offset)
            middle = 0.5 * (boxes.lower + boxes.upper)[rows[:, None], group.policies[kept], :, columns[kept]]
            told = outcomes[kept]
            self._residuals.update(columns[kept], told - middle.mean(axis=0) if rows.size else told)

    def _directions(
        self, rows: IntArray, j: int, b: int, fixed: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Bets of all pairs: directions (n, R, F), offsets (n, R), and the smallest ``u . x - offset`` (n, R)."""
        boxes = self._wide
        low, high = boxes.lower[rows, j, :, b][:, None], boxes.upper[rows, j, :, b][:, None]
        alternative = boxes.points[self._alternatives.index[rows], j, :, b]
        alternative = np.where(np.isnan(alternative), low, alternative)  # what is unknown is no reason to bet
        gap = np.maximum(alternative - high, 0.0) + np.minimum(alternative - low, 0.0)

        def support(u: FloatArray) -> Any:
            return np.maximum(u * low, u * high).sum(axis=2)

        full = gap @ fixed[b].T
        plain = gap * np.diag(fixed[b])
        gains = (full * alternative).sum(axis=2) > support(full)
        u = np.where(gains[..., None], full, plain)
        u = np.where((gap != 0.0).any(axis=2)[..., None], u, 0.0)
        offset = support(u)
        least = np.minimum(u * boxes.low, u * boxes.high).sum(axis=2) - offset
        shrink = np.where(least < -LARGEST_LOSS, -LARGEST_LOSS / np.where(least < 0.0, least, -1.0), 1.0)
        return u * shrink[..., None], offset * shrink, np.maximum(least, -LARGEST_LOSS)

    def forfeit(self, policy: int, fixed: FloatArray | None) -> None:
        """An episode that is not told: the smallest factors."""
        self.watched &= self.active
        for process in (*self._separate, *self._extra):
            process.lose(policy, 1)
        if fixed is not None:
            rows = np.flatnonzero(self.watched)
            self._worst_bets(rows, policy, fixed)
        if self._transitions is not None:
            self._give_up_transitions()

    def _worst_bets(self, rows: IntArray, policy: int, fixed: FloatArray) -> None:
        worst = [self._directions(rows, policy, b, fixed)[2] for b in range(len(fixed))]
        self._joint[rows] += np.log1p(np.minimum(np.min(worst, axis=0), 0.0))

    def _give_up_transitions(self) -> None:
        if self._transitions is not None:
            self.watched &= self.active
            self._transitions.logs[:] = -np.inf
            self._joint_on = True

    def log_wealth(self) -> FloatArray:
        """(N,)."""
        processes = (*self._separate, *self._extra)
        separate = log_sum(np.array([p.log_mean() for p in processes]), axis=0) - math.log(len(processes))
        # What is no longer watched did not move with the rest; it never comes back.
        separate = np.where(self.watched, separate, -np.inf)
        parts = [
            (self._shares["separate"], separate),
            (self._shares["joint"], averaged(self._joint, self._alternatives)),
        ]
        if self._transitions is not None:
            parts.append(
                (self._shares["transitions"], averaged(self._transitions.logs, self._transitions.alternatives))
            )
        return np.asarray(log_sum(np.array([math.log(share) + part for share, part in parts]), axis=0))

    def review(self) -> tuple[FloatArray, Any, Any]:
        """Wealths, and masks of the cells to reject and to readmit."""
        wealth = self.log_wealth()
        dying = self.active & ((wealth >= self.threshold) | self.impossible)
        back = self.watched & ~self.active & (wealth <= math.log(RETURN)) & ~self.impossible
        return wealth, dying, back


def averaged(logs: FloatArray, alternatives: Alternatives) -> Any:
    return log_sum(logs + alternatives.log_weights, axis=1)
