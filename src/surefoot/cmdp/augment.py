"""The program whose policies look at the cost accumulated so far: exact optima under chance constraints and CVaR.

    wide = augment(task, grid=40)
    best = solve_over_policies(wide.cmdp)   # exact, certified
    wide.values(best.policy)                # return, and upper bounds on what is limited
    policy = wide.policy(best.policy)       # plays on the plant: it adds up the costs of its own steps

The state is ``(t, s, z)``, with ``z = sum_{k<t} gamma^k c_k`` held on the grid of :class:`surefoot.cmdp.functionals.Ladder` and rounded **up**. A
step that moves ``z`` to ``z'`` is charged

    c'_f = (f(z') - f(z)) / gamma^t,        so that   sum_t gamma^t c'_f = f(z_end) - f(0)      on every path,

which makes the functional an ordinary discounted cost with the limit ``d - f(0)``, and the whole an ordinary CMDP: values, the solver and its
certificate need no change. As ``f`` does not decrease, what is charged is at least the truth for every policy, so the optimum is met by a policy
of the real task, and tends to its optimum as the grid is refined.

Once no threshold is within reach, ``z + gamma^t M`` below it or ``z`` above it, ``f`` is linear in what follows: its slope times the plain cost is
charged per step, and neither t nor z is needed any more. After H steps the largest cost that could follow is charged at once.

One cost signal has functionals other than ``Mean``; with two, z would have two dimensions. Letters: S states, A actions, I limits, C distinct costs,
S' augmented states, m thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, as_floats, check_integer, freeze
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.cmdp.functionals import Ladder
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import CVaR, Exceeds, Mean, measure
from surefoot.errors import InvalidInput
from surefoot.policy import as_tables

__all__ = ["Augmented", "CostAwarePolicy", "augment"]

MOST_STATES = 200_000
"""Default of the largest S'."""


@dataclass(frozen=True, eq=False)
class Augmented:
    """An augmented task.

    Attributes:
        task: what was augmented.
        cmdp: (S') the ordinary CMDP; its costs are charges, its limits ``d - f(0)``.
        offset: (I,) ``f(0)``.
        state: (S',) state of the task.
        layer: (S',) t, -1 where it is not needed any more.
        level: (S',) level of z on the grid; where t is not needed, which region of z it is.
        moves: (t, C, n) where a step of each distinct cost leads from each level: a level of the next layer, or ``-1 - region``.
        first: level (or ``-1 - region``) of an episode that starts.
    """

    task: TabularCMDP
    cmdp: TabularCMDP
    offset: FloatArray
    state: IntArray
    layer: IntArray
    level: IntArray
    moves: tuple[IntArray, ...]
    first: int

    def lift(self, policies: Any) -> FloatArray:
        """(J, S', A) policies of the task, which do not look at the cost."""
        tables = as_tables("policy", policies, self.task.n_states, self.task.n_actions)
        lifted: FloatArray = tables[:, self.state]
        return lifted

    def values(self, policies: Any) -> FloatArray:
        """(J, 1+I) returns, exact, and upper bounds on what is limited, of policies (J, S', A)."""
        found = evaluate_many(self.cmdp, policies)
        found[:, 1:] += self.offset
        return found

    def policy(self, table: Any) -> CostAwarePolicy:
        """A policy (S', A) as one that plays on the plant."""
        size = (self.cmdp.n_states, self.cmdp.n_actions)
        return CostAwarePolicy(self, freeze(as_floats("table", table, size)))

    @cached_property
    def index(self) -> dict[tuple[int, int, int], int]:
        """Number of the augmented state by (t, level, s)."""
        keys = zip(self.layer.tolist(), self.level.tolist(), self.state.tolist(), strict=True)
        return {key: k for k, key in enumerate(keys)}

    @cached_property
    def paid(self) -> IntArray:
        """(S, A) which of the C distinct costs a step has."""
        cost = self.task.costs[_signal(self.task)]
        found: IntArray = np.searchsorted(np.unique(cost), cost).astype(np.int64)
        return freeze(found)


class CostAwarePolicy:
    """Plays a policy of an augmented task: it knows what its own steps cost, from the task that was augmented, and adds that up during an episode.

    Args:
        augmented: the task.
        table: (S', A).
    """

    def __init__(self, augmented: Augmented, table: FloatArray) -> None:
        self._augmented, self._table = augmented, table
        self._t, self._level = 0, augmented.first
        self._before: tuple[int, int] | None = None

    def for_episode(self) -> CostAwarePolicy:
        """One that has not spent anything yet."""
        return CostAwarePolicy(self._augmented, self._table)

    def predict(
        self, observation: Any, *, deterministic: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[int, None]:
        """Action in state ``observation`` after everything that this instance was asked before; drawn, as certified values say.

        Raises:
            InvalidInput: a state that the task does not lead to.
        """
        wide = self._augmented
        state = check_integer("observation", observation, low=0, high=wide.task.n_states - 1)
        if self._before is not None and self._level >= 0:
            self._level = int(wide.moves[self._t][wide.paid[self._before], self._level])
            self._t += 1
        key = (self._t, self._level, state) if self._level >= 0 else (-1, -1 - self._level, state)
        if key not in wide.index:
            raise InvalidInput(
                f"observation must be a state that the augmented task leads to, got {state} at step {self._t}; the plant is not like the task: play "
                "a policy that does not look at the cost",
                code="SF-ARGUMENT-RANGE",
            )
        row = self._table[wide.index[key]]
        if deterministic:
            action = int(row.argmax())
        else:
            draw = (np.random.default_rng() if rng is None else rng).random() * row.sum()
            action = min(int(np.searchsorted(np.cumsum(row), draw, side="right")), int(np.flatnonzero(row)[-1]))
        self._before = (state, action)
        return action, None


def augment(task: TabularCMDP, *, grid: int | None = None, most_states: int = MOST_STATES) -> Augmented:
    """The program over policies that look at the accumulated cost.

    Args:
        task: with limits on functionals, all of one cost except ``Mean``.
        grid: cells of the grid; by default the task's.
        most_states: S' beyond which to give up.

    Raises:
        InvalidInput: no functionals, functionals of several costs, or too many augmented states.
    """
    size = task.grid if grid is None else check_integer("grid", grid, low=2)
    return _Builder(task, size, check_integer("most_states", most_states, low=1)).build()


def _signal(task: TabularCMDP) -> int:
    signals: list[int] = sorted({f.signal for f in task.functionals if not isinstance(f, Mean)})
    if len(signals) != 1:
        raise InvalidInput(
            f"task must have limits on more than the mean of one cost, got them of {len(signals)} costs; "
            + ("solve it as it is" if not signals else "augment one cost at a time"),
            code="SF-ARGUMENT-COMBINATION",
        )
    return signals[0]


class _Builder:
    """Layer after layer, reachable states only."""

    def __init__(self, task: TabularCMDP, grid: int, most_states: int) -> None:
        self.task, self.most_states, signal = task, most_states, _signal(task)
        self.cost = task.costs[signal]
        self.values = np.unique(self.cost)
        self.thresholds = np.unique(
            [float(f.threshold or 0.0) for f in task.functionals if isinstance(f, Exceeds | CVaR)]
        )
        top = float(self.thresholds[-1])
        self.ladder = Ladder(top, float(self.cost.max()) / (1.0 - task.discount), task.discount, grid)
        self.regions = self.thresholds.size + 1
        # One more region in which nothing is charged: everything that could follow is charged when it is entered.
        self.paid_up = self.regions
        # Layers matter while some threshold is in reach of a cost of zero so far.
        self.horizon = self.ladder.horizon

    def levels(self, t: int) -> int:
        """Levels down to a cost of zero, not to the end of the highest threshold's window: lower ones have windows of their own."""
        return round(self.ladder.threshold / self.ladder.cell(t)) + 1 if self.ladder.threshold > 0.0 else 1

    def heights(self, t: int) -> FloatArray:
        """(n,) accumulated costs of the levels."""
        found: FloatArray = np.maximum(self.ladder.threshold - np.arange(self.levels(t)) * self.ladder.cell(t), 0.0)
        return found

    def region(self, z: FloatArray, t: int) -> IntArray:
        """(n,) region of accumulated costs after t steps, -1 where a threshold is in reach: how many thresholds are passed."""
        reach = z + self.ladder.most * self.task.discount**t
        passed = (z[..., None] > self.thresholds).sum(axis=-1)
        undecided = ((z[..., None] <= self.thresholds) & (reach[..., None] > self.thresholds)).any(axis=-1)
        return np.where(undecided, -1, passed).astype(np.int64)

    def slopes(self, region: int) -> FloatArray:
        """(I,) what is charged per unit of the cost in a region."""
        found = np.zeros(self.task.n_constraints)
        for i, f in enumerate(self.task.functionals):
            if isinstance(f, CVaR) and region < self.paid_up and self.thresholds[:region].size:
                found[i] = float(f.threshold or 0.0) <= self.thresholds[region - 1] and 1.0 / f.level
        return found

    def step(self, t: int) -> tuple[IntArray, FloatArray]:
        """From every level of layer t, at every distinct cost: where to (C, n), as :attr:`Augmented.moves`, and charges (C, n, I)."""
        z, discount, last = self.heights(t), self.task.discount, t + 1 == self.horizon
        after = z + discount**t * self.values[:, None]
        cell, following = self.ladder.cell(t), self.ladder.cell(t + 1)
        # Rounded up: towards level 0. What costs nothing stays where it is, to the last bit.
        down = np.arange(z.size) * (cell / following) - discount**t * self.values[:, None] / following
        level = np.clip(np.floor(down), 0, self.levels(t + 1) - 1).astype(np.int64)
        over = (after > self.ladder.threshold) & (self.values > 0.0)[:, None]
        rounded = np.where(over, after, self.heights(t + 1)[level])
        region = self.region(rounded, t + 1)
        if last:
            region = np.where(region < 0, self.paid_up, region)
        end = np.where(region == self.paid_up, rounded + self.ladder.most * discount ** (t + 1), rounded)
        gain = self._functionals(end) - self._functionals(z)[None]
        return np.where(region >= 0, -1 - region, level), np.maximum(gain, 0.0) / discount**t

    def _functionals(self, z: FloatArray) -> FloatArray:
        """(..., I) values of functionals of the one cost; ``Mean`` has no part in them."""
        columns = [np.zeros(z.shape) if isinstance(f, Mean) else f.of(z) for f in self.task.functionals]
        return np.stack(columns, axis=-1)

    def build(self) -> Augmented:
        task, n_states, n_actions = self.task, self.task.n_states, self.task.n_actions
        size = (self.regions + 1) * n_states
        state = [np.tile(np.arange(n_states), self.regions + 1)]
        layer = [np.full(size, -1)]
        level = [np.repeat(np.arange(self.regions + 1), n_states)]
        own = np.arange(n_states * n_actions)
        rows, columns, chances, charges = [], [], [], []
        for r in range(self.regions + 1):
            rows.append(r * own.size + task.rows)
            columns.append(r * n_states + task.successors)
            chances.append(task.probabilities)
            charges.append((self.slopes(r)[:, None] * self.cost.reshape(-1)[None]).T)
        start, first = np.zeros(size), self._first()
        begins = np.flatnonzero(task.start > 0.0)
        if first < 0:
            start[(-1 - first) * n_states + begins] = task.start[begins]
            now = np.zeros((0, 2), dtype=np.int64)
        else:
            now = np.column_stack([begins, np.full(begins.size, first)])
        moves: list[IntArray] = []
        opened = size
        firsts = task.start[begins] if first >= 0 else np.zeros(0)
        for t in range(self.horizon):
            if not len(now):
                break
            target, gain = self.step(t)
            moves.append(freeze(target))
            pairs = now[:, 0][:, None] * n_actions + np.arange(n_actions)
            paid = np.searchsorted(self.values, self.cost.reshape(-1)[pairs])
            charges.append(gain[paid, now[:, 1][:, None]].reshape(-1, task.n_constraints))
            # Every entry of the rows of these pairs, with the row it belongs to.
            lengths = np.diff(task.row_start)[pairs].ravel()
            offsets = np.repeat(task.row_start[:-1][pairs].ravel() - np.r_[0, np.cumsum(lengths)[:-1]], lengths)
            entries = np.arange(lengths.sum()) + offsets
            rows.append(opened * n_actions + np.repeat(np.arange(pairs.size), lengths))
            going = np.repeat(target[paid, now[:, 1][:, None]].ravel(), lengths)
            successor = task.successors[entries]
            width = self.levels(t + 1)
            keys = np.where(going >= 0, successor * width + going, -1)
            reached = np.unique(keys[keys >= 0])
            state.append(now[:, 0])
            layer.append(np.full(len(now), t))
            level.append(now[:, 1])
            opened += len(now)
            if opened + reached.size > self.most_states:
                raise InvalidInput(
                    f"most_states must be at least the number of augmented states, got {self.most_states} and {opened + reached.size} after {t + 1} "
                    "of the steps; use a coarser grid, or allow more",
                    code="SF-ARGUMENT-RANGE",
                )
            ahead = opened + np.searchsorted(reached, np.maximum(keys, 0))
            columns.append(np.where(going >= 0, ahead, (-1 - going) * n_states + successor))
            chances.append(task.probabilities[entries])
            now = np.column_stack([reached // width, reached % width])
        whole = np.concatenate(state)
        begin = np.zeros(whole.size)
        begin[:size] = start
        begin[size : size + firsts.size] = firsts
        return self._finish(whole, layer, level, rows, columns, chances, charges, begin, tuple(moves), first)

    def _first(self) -> int:
        region = int(self.region(np.zeros(1), 0)[0])
        if region >= 0:
            return -1 - region
        if self.horizon == 0:
            return -1 - self.paid_up
        return self.levels(0) - 1

    def _finish(
        self, state: IntArray, layer: Any, level: Any, rows: Any, columns: Any, chances: Any, charges: Any, start: FloatArray,
        moves: tuple[IntArray, ...], first: int,
    ) -> Augmented:  # fmt: skip
        from scipy.sparse import csr_matrix

        task, n = self.task, state.size
        shape = (n * task.n_actions, n)
        kernel = csr_matrix((np.concatenate(chances), (np.concatenate(rows), np.concatenate(columns))), shape=shape)
        costs = np.concatenate(charges).T.reshape(task.n_constraints, n, task.n_actions).copy()
        for i, f in enumerate(task.functionals):
            if isinstance(f, Mean):
                costs[i] = task.costs[f.signal][state]
        offset = measure(task.functionals, np.zeros((1, task.n_costs)))[0]
        if first == -1 - self.paid_up:  # what could follow was to be charged before the first step
            offset = offset + self._functionals(np.array([self.ladder.most]))[0] - self._functionals(np.zeros(1))[0]
        limits = task.cost_limits - offset
        if (limits < 0.0).any():
            raise InvalidInput(
                f"cost_limits must leave something beyond what an episode without cost amounts to {offset.tolist()}, got "
                f"{task.cost_limits.tolist()}; raise them, or lower the threshold",
                code="SF-ARGUMENT-RANGE",
            )
        wide = TabularCMDP(kernel, task.rewards[state], costs, limits, start, task.discount)
        return Augmented(
            task=task,
            cmdp=wide,
            offset=freeze(offset),
            state=freeze(state),
            layer=freeze(np.concatenate(layer).astype(np.int64)),
            level=freeze(np.concatenate(level).astype(np.int64)),
            moves=moves,
            first=first,
        )
