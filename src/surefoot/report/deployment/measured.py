r"""What real episodes cost and earned, with intervals, from a journal's events.

Episode t is drawn from the mixture ``w_t`` in force when it was asked for. Its cost and return have the conditional means ``V_c(w_t)`` and
``V_r(w_t)`` given everything before, so that bounds on running means (:mod:`surefoot.stats.running_mean`) speak, at all times at once, about

    (1/n) sum_t V_c(w_t)         the expected cost of what was deployed, averaged over the first n episodes;
    (1/n) sum_t V_r(w_t)         the same for the return;
    V_r(0), V_c(0)               the safe policy, from the episodes that were drawn from it (and logged ones before the first);
    (1/n) sum_t [V_r(w_t) - V_r(0)]    what was gained over the safe policy.

They do not speak about the mixture in force now, nor about single draws. The gain is read from

    (1/n) sum_t E[Z_t | past] - (Omega / n) (V_r(0) - a),     Z_t = 1{j_t != 0} (R_t - a),     Omega = sum_t (1 - w_t[0]),     a the anchor,

whose two parts are bounded at half the error each. Episodes of the safe policy add nothing to the first part, so that the difference is not blurred
by them.

**Late reports.** Sums over episodes commute, but the next n are those in ask order. Episodes are kept in blocks (one per ask); finished blocks at
the front become the *settled front*. An interval speaks about the front, or about some blocks more with what they still miss counted at its worst,
whichever has the smallest ``(1 + pending) / n``; bounds hold for all n at once, so that this choice costs nothing. What was lost counts at its
worst for good.

Memory: at most :data:`BLOCKS` blocks and :data:`POINTS` points of the curves, and a flag for every episode that is pending.

Letters: I constraints, J policies, N cells.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.criterion import functionals_of, measure
from surefoot.stats.running_mean import RunningMeanBounds, RunningMeanState

if TYPE_CHECKING:
    from surefoot.policyset.schema import PolicySet

__all__ = ["ERROR", "Estimate", "Measured", "Settled"]

ERROR = 0.05
"""Error probability of each interval; nothing is decided by them, so that it is no part of delta."""
BLOCKS, POINTS, ROWS = 128, 96, 256


@dataclass(frozen=True)
class Estimate:
    """A mean per episode and its interval.

    Attributes:
        mean: of what was reported; ``None`` where nothing was.
        low, high: of the interval; ``None`` where there is none.
        count: episodes behind it.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int


@dataclass(eq=False, slots=True)
class Block:
    """Successive episodes, from ``first`` up to but without ``end``.

    Attributes:
        pending, lost: of them.
        safe_pending, safe_lost: of those of the safe policy.
        weights: (J,) sums of the mixtures in force.
        bounds: (I,) sums of what was certified.
        seen: what was observed; ``None`` while it is nothing.
        rows: returns and costs that are not in ``seen`` yet, and whether the safe policy had been drawn.
    """

    first: int
    end: int
    pending: int
    safe_pending: int
    weights: FloatArray
    bounds: FloatArray
    lost: int = 0
    safe_lost: int = 0
    seen: Seen | None = None
    rows: list[tuple[bool, tuple[float, ...]]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Episodes."""
        return self.end - self.first


class Seen(NamedTuple):
    """Observations: of all episodes, of those of the safe policy, and (1 + I,) the sums of returns and costs of both."""

    every: RunningMeanState
    safe: RunningMeanState
    total: FloatArray
    safe_total: FloatArray


@dataclass(frozen=True)
class Settled:
    """What is known about the first ``episodes`` episodes.

    Attributes:
        episodes: n.
        costs: I estimates; ``certified``: I averages of what was certified.
        reward: of what was deployed; ``gain``: over the safe policy.
        safe_costs, safe_reward: of the safe policy.
        weights: (J,) the average mixture.
    """

    episodes: int
    costs: tuple[Estimate, ...]
    certified: tuple[float, ...]
    reward: Estimate
    gain: Estimate
    safe_costs: tuple[Estimate, ...]
    safe_reward: Estimate
    weights: FloatArray


class Measured:
    """Real outcomes, event by event.

    Args:
        opened: body of the first event.
        policy_set: tells the range of returns and what was predicted; without it returns have no interval.

    Attributes:
        void: why intervals do not hold any more; empty while they do.
        points: the settled front at some moments, for curves.
    """

    def __init__(self, opened: Mapping[str, Any], policy_set: PolicySet | None) -> None:
        limits, self._many = [float(d) for d in opened["cost_limits"]], int(opened["policies"])
        ceilings = [float(h) for h in opened.get("cost_ceilings", ())]
        self.void, self.ranged = "", policy_set is not None
        if len(ceilings) != len(limits):
            ceilings, self.void = [1.0] * len(limits), "the journal does not say how much an episode can cost"
        low, high, anchor = _return_range(policy_set)
        self._anchor = anchor
        functionals = functionals_of(opened.get("functionals", ()))
        self._measure: Callable[[FloatArray], FloatArray] | None = (
            partial(measure, functionals) if functionals else None
        )
        if policy_set is not None and policy_set.criterion.functionals:
            self._measure = policy_set.criterion.measure
        tops = [h if h > 0.0 else 1.0 for h in ceilings]
        guesses = [min(max(d, 1e-3 * h), 0.5 * h) for d, h in zip(limits, tops)]
        zeros = [0.0] * len(tops)
        self._every = RunningMeanBounds(
            [low - anchor, low, *zeros], [high - anchor, high, *tops], [0.0, anchor, *guesses]
        )
        self._safe = RunningMeanBounds([low, *zeros], [high, *tops], [anchor, *guesses])
        size = 1 + len(tops)
        self._nothing = Seen(self._every.start, self._safe.start, np.zeros(size), np.zeros(size))
        self._history = self._nothing  # what was logged before the first episode
        self._front = Block(0, 0, 0, 0, np.zeros(self._many), np.zeros(size - 1), seen=self._nothing)
        self._blocks: list[Block] = []
        self._drawn: dict[int, bool] = {}
        self._plan = self._front.weights, self._front.bounds
        self.points: list[Block] = []
        self._width = 1

    # ---------------------------------------------------------------------------------------------------- what happens

    def recalled(self, reward: Any, costs: Any) -> None:
        """Logged episodes of the safe policy, from before the first."""
        inside, rows = self._inside(self._rows(reward, costs))
        safe = self._safe.observe(self._history.safe, inside)
        self._history = self._history._replace(safe=safe, safe_total=self._history.safe_total + rows.sum(axis=0))

    def planned(self, weights: Mapping[int, float], bounds: Sequence[float]) -> None:
        """A mixture comes into force."""
        mixture = np.zeros(self._many)
        for j, weight in weights.items():
            mixture[j] = weight
        self._plan = mixture, np.array([float(b) for b in bounds])

    def asked(self, first: int, draws: Sequence[int]) -> None:
        """Episodes from ``first`` on were drawn from the mixture in force."""
        n, safe, (mixture, bounds) = len(draws), [int(j) == 0 for j in draws], self._plan
        self._drawn.update(zip(range(first, first + n), safe, strict=True))
        self._blocks.append(Block(first, first + n, n, sum(safe), n * mixture, n * bounds))
        if len(self._blocks) > BLOCKS:
            for one, two in zip(self._blocks[::2], self._blocks[1::2]):
                self._join(one, two)
            self._blocks = self._blocks[::2]

    def told(self, ids: Sequence[int], reward: Any, costs: Any) -> None:
        """Reports came."""
        for number, row in zip(ids, self._rows(reward, costs), strict=True):
            safe = self._drawn.pop(int(number), None)
            if safe is not None:  # a journal made by hand may hold others
                block = self._block_of(int(number))
                block.pending, block.safe_pending = block.pending - 1, block.safe_pending - safe
                block.rows.append((safe, row))
                if len(block.rows) >= ROWS:
                    self._fold(block)
        self._settle()

    def lost(self, ids: Sequence[int]) -> None:
        """Episodes will never be reported."""
        for number in ids:
            safe = self._drawn.pop(int(number), None)
            if safe is not None:
                block = self._block_of(int(number))
                block.pending, block.safe_pending = block.pending - 1, block.safe_pending - safe
                block.lost, block.safe_lost = block.lost + 1, block.safe_lost + safe
        self._settle()

    def _block_of(self, number: int) -> Block:
        return self._blocks[bisect_right(self._blocks, number, key=lambda block: block.first) - 1]

    def _rows(self, reward: Any, costs: Any) -> list[tuple[float, ...]]:
        """The return of each episode, and what is limited of it: functionals of its costs.

        Raises:
            ValueError: not finite, or not one row of numbers for each.
        """
        if self._measure is not None:
            try:
                costs = self._measure(np.asarray(costs, np.float64).reshape(len(reward), -1)).tolist()
            except IndexError as error:
                raise ValueError("reports must hold every cost that a limit is on") from error
        # Without arrays: most reports are about one episode.
        found = [(float(earned), *map(float, row)) for earned, row in zip(reward, costs, strict=True)]
        if not all(len(row) == self._safe.low.size and all(map(math.isfinite, row)) for row in found):
            raise ValueError("reports must be finite, one cost for each constraint")
        return found

    def _inside(self, rows: Sequence[tuple[float, ...]]) -> tuple[FloatArray, FloatArray]:
        """(n, 1 + I) rows inside the declared ranges, and as they were; where one was outside, intervals are void from now on."""
        found = np.array(rows, np.float64).reshape(len(rows), self._safe.low.size)
        low, high = self._safe.low, self._safe.high
        room = 1e-6 * (high - low)
        outside = (found < low - room) | (found > high + room)
        if outside[:, 0 if self.ranged else 1 :].any():
            self.void = "an episode was reported outside its declared range"
        return np.clip(found, low, high), found

    def _fold(self, block: Block) -> Seen:
        """Take rows into account."""
        seen = self._nothing if block.seen is None else block.seen
        if block.rows:
            inside, rows = self._inside([row for _, row in block.rows])
            safe = np.array([flag for flag, _ in block.rows])
            apart = np.where(safe, 0.0, inside[:, 0] - self._anchor)
            seen = Seen(
                self._every.observe(seen.every, np.column_stack([apart, inside])),
                self._safe.observe(seen.safe, inside[safe]) if safe.any() else seen.safe,
                seen.total + rows.sum(axis=0),
                seen.safe_total + rows[safe].sum(axis=0),
            )
            block.seen, block.rows = seen, []
        return seen

    def _join(self, one: Block, two: Block) -> None:
        """``one`` becomes both."""
        one.end = two.end
        one.pending, one.safe_pending = one.pending + two.pending, one.safe_pending + two.safe_pending
        one.lost, one.safe_lost = one.lost + two.lost, one.safe_lost + two.safe_lost
        one.weights, one.bounds = one.weights + two.weights, one.bounds + two.bounds
        one.rows += two.rows
        if two.seen is not None:
            one.seen = two.seen if one.seen is None else self._both(one.seen, two.seen)
        if len(one.rows) >= ROWS:
            self._fold(one)

    def _both(self, one: Seen, two: Seen) -> Seen:
        return Seen(
            self._every.joined(one.every, two.every),
            self._safe.joined(one.safe, two.safe),
            one.total + two.total,
            one.safe_total + two.safe_total,
        )

    def _settle(self) -> None:
        """Move finished blocks to the front, and keep a point of the curves now and then."""
        done = 0
        while done < len(self._blocks) and not self._blocks[done].pending:
            self._join(self._front, self._blocks[done])
            done += 1
        if not done:
            return
        del self._blocks[:done]
        if not self.points or self._front.end - self.points[-1].end >= self._width:
            self.points.append(self._copy(self._front))
        if len(self.points) > POINTS:
            self.points = self.points[::2]
            self._width = max(2 * self._width, 2 * self._front.end // POINTS)

    def _copy(self, block: Block) -> Block:
        return replace(block, seen=self._fold(block), rows=[])

    # -------------------------------------------------------------------------------------------------------- what is known

    def now(self) -> Block | None:
        """The episodes that the latest interval is about; ``None`` before the first report."""
        found, whole = self._copy(self._front), self._copy(self._front)
        for block in self._blocks:
            self._join(whole, self._copy(block))
            if not found.size or (1 + whole.pending) * found.size <= (1 + found.pending) * whole.size:
                found = self._copy(whole)
        return found if found.seen is not None and found.seen.every.n else None

    def about(self, blocks: Sequence[Block]) -> list[Settled]:
        """What fronts say, each with what was logged before the first episode."""
        if not blocks:
            return []
        seen = [self._fold(block) for block in blocks]
        safes = [self._safe.joined(s.safe, self._history.safe) for s in seen]
        missing = [block.pending + block.lost for block in blocks]
        safe_missing = [block.safe_pending + block.safe_lost for block in blocks]
        off_missing = [m - s for m, s in zip(missing, safe_missing)]
        sides = {
            "every": self._every.bounds_of([s.every for s in seen], ERROR, missing),
            "safe": self._safe.bounds_of(safes, ERROR, safe_missing),
            # Lost episodes of the safe policy add nothing to the gain, and are known to.
            "away": self._every.bounds_of([s.every for s in seen], 0.5 * ERROR, off_missing),
            "half": self._safe.bounds_of(safes, 0.5 * ERROR, safe_missing),
        }
        return [
            self._settled(block, s, safe, off, {name: (low[k], high[k]) for name, (low, high) in sides.items()})
            for k, (block, s, safe, off) in enumerate(zip(blocks, seen, safes, off_missing))
        ]

    def _settled(
        self, block: Block, seen: Seen, safe: RunningMeanState, off_missing: int, sides: Mapping[str, tuple[FloatArray, FloatArray]]
    ) -> Settled:  # fmt: skip
        def estimates(total: FloatArray, count: int, low: FloatArray, high: FloatArray) -> tuple[Estimate, ...]:
            return tuple(
                self._estimate(float(sum_) / count if count else None, float(a), float(b), count, k > 0 or self.ranged)
                for k, (sum_, a, b) in enumerate(zip(total, low, high))
            )

        (low, high), n = sides["every"], max(block.size, 1)
        both = estimates(seen.total, seen.every.n, low[1:], high[1:])
        alone = estimates(seen.safe_total + self._history.safe_total, safe.n, *sides["safe"])
        return Settled(
            block.size, both[1:], tuple((block.bounds / n).tolist()), both[0], self._gain(block, seen, safe, off_missing, sides), alone[1:],
            alone[0], block.weights / n,
        )  # fmt: skip

    def _estimate(self, mean: float | None, low: float, high: float, count: int, ranged: bool) -> Estimate:
        return Estimate(mean, low, high, count) if ranged and not self.void else Estimate(mean, None, None, count)

    def _gain(
        self, block: Block, seen: Seen, safe: RunningMeanState, off_missing: int, sides: Mapping[str, tuple[FloatArray, FloatArray]]
    ) -> Estimate:  # fmt: skip
        """See the module's docstring; at half the error each, because two intervals meet."""
        n, told = max(block.size, 1), seen.every.n
        off = float(block.weights.sum() - block.weights[0]) / n
        mean = None
        if safe.n and told:
            own = float(seen.safe_total[0] + self._history.safe_total[0]) / safe.n
            away = float(seen.total[0] - seen.safe_total[0]) - (told - seen.safe.n) * self._anchor
            mean = away / told - off * (own - self._anchor)
        (low, high), (safe_low, safe_high) = sides["away"], sides["half"]
        share, span = (told + off_missing) / n, off * float(self._safe.high[0] - self._safe.low[0])
        least = share * float(low[0]) - off * (float(safe_high[0]) - self._anchor)
        most = share * float(high[0]) - off * (float(safe_low[0]) - self._anchor)
        return self._estimate(mean, max(least, -span), min(most, span), told, self.ranged)


def _return_range(policy_set: PolicySet | None) -> tuple[float, float, float]:
    """Range of an episode's return, and what the safe policy is predicted to earn."""
    if policy_set is None:
        return -1.0, 1.0, 0.0
    low, high = policy_set.criterion.return_range
    predicted = policy_set.cells.predictions
    middle = 0.5 * float((predicted.reward_lower[:, 0] + predicted.reward_upper[:, 0]).mean())
    room = 0.01 * (high - low)
    return low, high, min(max(middle, low + room), high - room)
