"""Rolling out many episodes of many policies in one compiled kernel.

For a fixed policy the pair (action, successor) has one joint distribution per state, so each step needs one random
number: Walker's alias table of that joint distribution, whose entries carry the successor's own table and the signals.
All that a step can need stands in one record of 4 + 2 F numbers of 8 bytes, so that a step waits for memory once:

    threshold | stored transition of either outcome, 32 bits each | for either outcome: where the successor's own table begins and how
    long it is, 32 bits each, and the F signals

and :data:`LANES` episodes are in play at once, so that they wait for memory, and for one another's arithmetic, together. There is one record per
(policy, state, action that it takes, successor): for one deterministic policy and one cost 64 bytes per state and successor. Records are
built when the first episode is played, from the model's compressed rows; nothing of size S^2 is.

An episode

* ends in closed form when it enters a state that never leaves itself and whose signals no longer vary under the policy:
  ``gamma^t f / (1 - gamma)`` is added;
* is cut after the ``H`` steps for which ``gamma^H max|f| / (1 - gamma) <= tail_tolerance``; the tail that can be missing is
  reported in :attr:`Episodes.tail`, never dropped silently.

Random numbers: xoroshiro128++ (Blackman & Vigna 2021), one stream per episode seeded by hashing (seed, episode number)
with splitmix64. An episode's outcome therefore depends on the seed, its number and its policy alone: not on the number of
threads, on the size of the batch or on what ran before.

On request every visit of a pair is credited with what followed it, which is all that score-function gradients and every-visit
Monte-Carlo estimates need: see :class:`Visits`. That is a branch of the kernel decided at compile time.

Letters: S states, A actions, I constraints, K costs, F = 1 + K signals, J policies, E stored transition probabilities.
"""

from __future__ import annotations

import operator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from surefoot.arguments import short_repr
from surefoot.arrays import FloatArray, IntArray, check_integer, check_real, read_only
from surefoot.cmdp.model import TabularCMDP, check_task
from surefoot.errors import InvalidInput
from surefoot.kernels import kernel, prefetch
from surefoot.policy import DeterministicPolicies, as_tables

__all__ = ["Episodes", "Simulator", "Visits", "simulate", "transition_rows"]

DEFAULT_TAIL = 1e-9
THREAD_EPISODES = 4096
"""Batches smaller than this per thread are not worth a thread; visits are summed in blocks of this size."""
LANES = 16
"""Episodes in play at once."""
LINE = 8
"""Numbers in a line of the processor's cache."""
LARGEST = 2**63 - 1
_NO_GROUPS = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Visits:
    """What n episodes say about single pairs of state and action, summed over them and over every time t.

    With ``G_t = sum_{k>=t} gamma^{k-t} f_k``, the signal still to come, ``E discounted`` is the occupancy measure, ``to_go / discounted``
    estimates ``Q_f(s,a)``, and ``to_go[f,s,a] - pi(a|s) sum_b to_go[f,s,b]`` is an unbiased estimate, times n, of the gradient of
    ``V_f`` in the logits of a softmax policy.

    An episode absorbed in state s at time t adds there what the rest of it would add in expectation:
    ``gamma^t pi(a|s) / (1 - gamma)`` to ``discounted`` and that times ``f / (1 - gamma)`` to ``to_go``. What cutting an episode hides is
    missing here as in its return.

    Attributes:
        episodes: n.
        count: (S, A) visits in simulated steps.
        discounted: (S, A) sums of ``gamma^t``.
        to_go: (1+I, S, A) sums of ``gamma^t G_t``, reward first.
    """

    episodes: int
    count: IntArray
    discounted: FloatArray
    to_go: FloatArray

    __repr__ = short_repr

    def __add__(self, other: Visits) -> Visits:
        """Both samples pooled."""
        return Visits(
            self.episodes + other.episodes,
            self.count + other.count,
            self.discounted + other.discounted,
            self.to_go + other.to_go,
        )


@dataclass(frozen=True, eq=False)
class Episodes:
    """Outcomes of n episodes.

    Attributes:
        returns: (n,) discounted returns.
        costs: (n, K) discounted costs, as a plant reports them: functionals are not applied (:meth:`TabularCMDP.measure`).
        initial_states: (n,).
        policy_index: (n,).
        tail: (1+I,) largest absolute amount that cutting an episode can hide in each signal; 0 where none was cut.
        steps: simulated steps in all.
        transitions: ``None``, or (G, E) counts of each stored transition probability of the CMDP, per group.
        visits: ``None``, or sums over the visits of every pair of state and action.
    """

    returns: FloatArray
    costs: FloatArray
    initial_states: IntArray
    policy_index: IntArray
    tail: FloatArray
    steps: int
    transitions: IntArray | None = None
    visits: Visits | None = None

    __repr__ = short_repr

    def __len__(self) -> int:
        return int(self.returns.size)


class Simulator:
    """Tables of one CMDP and J policies, built once and rolled out as often as needed.

    Args:
        cmdp: the task.
        policies: (J, S, A) tables, a list of ``TabularPolicy``, one of either, or ``DeterministicPolicies``, which stay action indices.
        tail_tolerance: largest part of a signal that cutting an episode may hide.

    Raises:
        InvalidInput: the policies do not fit the CMDP, or the tolerance is not positive.
    """

    def __init__(self, cmdp: TabularCMDP, policies: Any, tail_tolerance: float = DEFAULT_TAIL) -> None:
        check_task(cmdp)
        tail_tolerance = check_real("tail_tolerance", tail_tolerance, low=0.0, open_low=True)
        self.cmdp = cmdp
        if isinstance(policies, DeterministicPolicies):
            policies.check("policies", cmdp.n_states, cmdp.n_actions)
            self._policies: NDArray[Any] = policies.actions
        else:
            self._policies = np.ascontiguousarray(as_tables("policies", policies, cmdp.n_states, cmdp.n_actions))
        self.n_policies = len(self._policies)
        self._start = np.empty(cmdp.n_states), np.empty(cmdp.n_states, dtype=np.int64)
        _alias_table(cmdp.start.copy(), *self._start)
        scale = np.abs(cmdp.signals).max(axis=(1, 2)) / (1.0 - cmdp.discount)
        # Where all signals are small, the part that cutting hides is small beside them, not beside 1.
        largest = max(float(scale.max()), 1.0, tail_tolerance)
        self.horizon = max(1, int(np.ceil(np.log(tail_tolerance / largest) / np.log(cmdp.discount))))
        self._tail = scale * cmdp.discount**self.horizon

    def __repr__(self) -> str:
        return f"Simulator({self.cmdp!r}, {self.n_policies} policies)"

    @cached_property
    def _tables(self) -> tuple[Any, ...]:
        """Records as floats and as 32-bit integers, and per (policy, state) where its table begins, its length, and its resting signals."""
        cmdp = self.cmdp
        # Numba compiles anew for arrays that may be written to and for those that may not: there is one kind of each argument, of policies two.
        policies = self._for_kernels()
        signals = read_only(np.ascontiguousarray(cmdp.signals.reshape(1 + cmdp.n_costs, -1).T))
        begin, length, resting, total, longest = _layout(
            policies, cmdp.row_start, cmdp.successors, signals, cmdp.n_actions
        )
        # Made by numpy, which asks for large pages, and moved to the edge of a cache line: with one cost a record is one line.
        memory = np.empty(total * (4 + 2 * signals.shape[1]) + LINE)
        real = memory[-(memory.ctypes.data // memory.itemsize) % LINE :]
        word = real.view(np.uint32)
        _pack(
            policies, cmdp.row_start, cmdp.successors, cmdp.probabilities, signals, begin, length, longest, real, word
        )  # fmt: skip
        return real, word, begin, length, resting

    def run(
        self,
        policy_index: Any,
        *,
        seed: int,
        first_episode: int = 0,
        initial_states: Any = None,
        groups: Any = None,
        visits: bool = False,
        threads: int = 1,
    ) -> Episodes:
        """Roll out one episode for every entry of ``policy_index``.

        Args:
            policy_index: (n,) which policy each episode runs.
            seed: any integer in [0, 2^63).
            first_episode: number of the first episode; the stream of episode k depends on ``(seed, first_episode + k)``.
            initial_states: (n,) to condition on, or ``None`` to draw from the start distribution.
            groups: (n,) row of the transition counts each episode is counted in, or ``None`` for no counts.
            visits: whether to sum over visits as well; outcomes are the same to the last bit.
            threads: how many threads share the work; the result does not depend on it.

        Raises:
            InvalidInput: an index out of range or a wrong length.
        """
        index = _indices("policy_index", policy_index, self.n_policies, None)
        n = index.size
        seed = check_integer("seed", seed, low=0, high=2**63 - 1)
        first_episode = check_integer("first_episode", first_episode, low=0)
        fixed = None if initial_states is None else _indices("initial_states", initial_states, self.cmdp.n_states, n)
        states = np.full(n, -1, dtype=np.int64) if fixed is None else fixed.copy()
        group = np.zeros(0, dtype=np.int64) if groups is None else _indices("groups", groups, None, n)
        n_groups = 0 if groups is None else int(group.max(initial=-1)) + 1
        sums = np.empty((n, 1 + self.cmdp.n_costs))
        work = min(check_integer("threads", threads, low=1), max(1, n // THREAD_EPISODES))
        # Sums of visits are rounded: in blocks of their own they do not depend on the number of threads.
        blocks = max(1, -(-n // THREAD_EPISODES)) if visits else work
        edges = [0, n] if blocks == 1 else np.linspace(0, n, blocks + 1).astype(int).tolist()
        counts = np.zeros((blocks, n_groups, self.cmdp.successors.size), dtype=np.int64)
        seen = [self._no_visits(size) if visits else None for size in (b - a for a, b in pairwise(edges))]

        def part(k: int) -> tuple[int, int]:
            span = slice(edges[k], edges[k + 1])
            out = _rollout(
                *self._tables, *self._start, self.cmdp.discount, self.horizon, np.uint64(seed),
                np.uint64(first_episode + edges[k]), index[span], states[span], group[span], sums[span], counts[k],
                self._trail(seen[k]),
            )  # fmt: skip
            return int(out[0]), int(out[1])

        if work == 1:
            totals = [part(k) for k in range(blocks)]
        else:
            with ThreadPoolExecutor(work) as pool:
                totals = list(pool.map(part, range(blocks)))
        cut = any(t[1] for t in totals)
        return Episodes(
            returns=sums[:, 0],
            costs=sums[:, 1:],
            initial_states=states,
            policy_index=index,
            tail=self._tail if cut else np.zeros_like(self._tail),
            steps=sum(t[0] for t in totals),
            transitions=None if groups is None else counts[0] if blocks == 1 else counts.sum(axis=0),
            visits=reduce(operator.add, seen) if visits else None,
        )

    def block(
        self, policy_index: IntArray, *, seed: int, first_episode: int, groups: IntArray | None, n_groups: int
    ) -> tuple[FloatArray, IntArray, IntArray]:
        """Outcomes (n, 1+K), initial states (n,) and transition counts (G, E) as :meth:`run` gives them; arguments are not checked again."""
        n = policy_index.size
        states = np.full(n, -1, dtype=np.int64)
        sums = np.empty((n, 1 + self.cmdp.n_costs))
        counts = np.zeros((0 if groups is None else n_groups, self.cmdp.successors.size), dtype=np.int64)
        _rollout(
            *self._tables, *self._start, self.cmdp.discount, self.horizon, np.uint64(seed), np.uint64(first_episode), policy_index, states,
            _NO_GROUPS if groups is None else groups, sums, counts, None,
        )  # fmt: skip
        return sums, states, counts

    def _for_kernels(self) -> NDArray[Any]:
        """(J, S, A) tables, or (J, S) action indices of one kind of integers."""
        return read_only(self._policies if self._policies.ndim == 3 else self._policies.astype(np.int32))

    def _no_visits(self, episodes: int) -> Visits:
        """Sums for the kernel to add to."""
        shape = (self.cmdp.n_states, self.cmdp.n_actions)
        zeros = np.zeros(shape)
        return Visits(episodes, np.zeros(shape, dtype=np.int64), zeros, np.zeros((1 + self.cmdp.n_costs, *shape)))

    def _trail(self, seen: Visits | None) -> Any:
        """What the kernel needs to credit visits, or ``None``: a type of its own, so that the branch costs nothing."""
        if seen is None:
            return None
        return self._for_kernels(), self.cmdp.rows, seen.count, seen.discounted, seen.to_go


def simulate(
    cmdp: TabularCMDP, policies: Any, *, episodes: int, seed: int, weights: Any = None, threads: int = 1
) -> Episodes:
    """Roll out ``episodes`` episodes of a per-episode mixture of ``policies`` (all weight on the first by default)."""
    from surefoot.policy import Mixture

    episodes = check_integer("episodes", episodes, low=1)
    seed = check_integer("seed", seed, low=0, high=2**63 - 1)
    simulator = Simulator(cmdp, policies)
    mixture = Mixture.pure(0, simulator.n_policies) if weights is None else Mixture(weights)
    if mixture.weights.size != simulator.n_policies:
        raise InvalidInput(
            f"weights must hold {simulator.n_policies} weights, got {mixture.weights.size}; give one per policy",
            code="SF-ARGUMENT-LENGTH",
        )
    index = mixture.draw(episodes, np.random.default_rng([seed, 1]))
    return simulator.run(index, seed=seed, threads=threads)


def _indices(name: str, value: Any, upper: int | None, length: int | None) -> IntArray:
    array = np.ascontiguousarray(value)
    if array.ndim != 1 or array.dtype.kind not in "iu" or (length is not None and array.size != length):
        wanted = "one-dimensional integers" if length is None else f"{length} integers"
        raise InvalidInput(
            f"{name} must be {wanted}, got shape {array.shape} of {array.dtype}; pass an index array",
            code="SF-ARGUMENT-TYPE",
        )
    limit = LARGEST if upper is None else upper
    if array.size and (array.min() < 0 or array.max() >= limit):
        raise InvalidInput(
            f"{name} must lie in [0, {limit}), got {array.min()}..{array.max()}; check the indices",
            code="SF-ARGUMENT-RANGE",
        )
    return array.astype(np.int64, copy=False)


@kernel
def _alias_table(weights, threshold, alias):  # type: ignore[no-untyped-def]
    """Walker's alias table of ``weights``, by Vose's method: column k keeps k below its threshold, else gives ``alias[k]``."""
    n = weights.size
    scaled = weights * (n / weights.sum())
    small = np.empty(n, np.int64)
    large = np.empty(n, np.int64)
    n_small = 0
    n_large = 0
    for k in range(n):
        threshold[k] = 1.0
        alias[k] = k
        if scaled[k] < 1.0:
            small[n_small] = k
            n_small += 1
        else:
            large[n_large] = k
            n_large += 1
    while n_small > 0 and n_large > 0:
        n_small -= 1
        low = small[n_small]
        high = large[n_large - 1]
        threshold[low] = scaled[low]
        alias[low] = high
        scaled[high] -= 1.0 - scaled[low]
        if scaled[high] < 1.0:
            n_large -= 1
            small[n_small] = high
            n_small += 1
    # What rounding left over on either stack is one up to rounding; a weight of zero must stay impossible, though.
    for k in range(n):
        if weights[k] <= 0.0 and alias[k] == k:
            threshold[k] = 0.0
            alias[k] = np.argmax(weights)


@njit
def _chance(policies, j, s, a):  # type: ignore[no-untyped-def]
    """``pi_j(a|s)``, from tables (J, S, A) or action indices (J, S)."""
    if policies.ndim == 2:
        return 1.0 if policies[j, s] == a else 0.0
    return policies[j, s, a]


@kernel
def _layout(policies, row_start, successors, signals, n_actions):  # type: ignore[no-untyped-def]
    """Where the table of every (policy, state) begins, its length, and the signals of one absorbed step; entries in all and in the longest.

    Where the state is absorbed the length is 0, and the beginning is the pair's own number.
    """
    n_policies, n_states = policies.shape[0], policies.shape[1]
    n_signals = signals.shape[1]
    begin = np.empty(n_policies * n_states, np.uint32)
    length = np.empty(n_policies * n_states, np.uint32)
    resting = np.zeros((n_policies * n_states, n_signals))
    total = 0
    longest = 0
    for j in range(n_policies):
        for s in range(n_states):
            size = 0
            absorbed = True
            first = -1
            for a in range(n_actions):
                row = s * n_actions + a
                if _chance(policies, j, s, a) <= 0.0 or row_start[row] == row_start[row + 1]:
                    continue
                if first < 0:
                    first = row
                size += row_start[row + 1] - row_start[row]
                for e in range(row_start[row], row_start[row + 1]):
                    absorbed = absorbed and successors[e] == s
                for f in range(n_signals):
                    absorbed = absorbed and signals[row, f] == signals[first, f]
            pair = j * n_states + s
            begin[pair] = pair if absorbed else total
            length[pair] = 0 if absorbed else size
            for f in range(n_signals):  # assigning a row would take Numba four seconds to compile
                resting[pair, f] = signals[first, f]
            if not absorbed:
                total += size
                longest = max(longest, size)
    return begin, length, resting, total, longest


@kernel
def _pack(policies, row_start, successors, probabilities, signals, begin, length, longest, real, word):  # type: ignore[no-untyped-def]
    """Fill the records (see the top of the module); ``word`` (2 x) is the same memory as ``real``, read as 32-bit integers."""
    n_policies, n_states = policies.shape[0], policies.shape[1]
    n_actions = signals.shape[0] // n_states
    n_signals = signals.shape[1]
    size = 4 + 2 * n_signals
    weights = np.empty(longest)
    threshold = np.empty(longest)
    alias = np.empty(longest, np.int64)
    slot = np.empty(longest, np.int64)
    rows = np.empty(longest, np.int64)
    for j in range(n_policies):
        for s in range(n_states):
            pair = j * n_states + s
            n = np.int64(length[pair])
            if n == 0:
                continue
            k = 0
            for a in range(n_actions):
                row = s * n_actions + a
                chance = _chance(policies, j, s, a)
                if chance <= 0.0:
                    continue
                for e in range(row_start[row], row_start[row + 1]):
                    weights[k] = chance * probabilities[e]
                    slot[k] = e
                    rows[k] = row
                    k += 1
            _alias_table(weights[:n], threshold[:n], alias[:n])
            for k in range(n):
                record = (np.int64(begin[pair]) + k) * size
                real[record] = threshold[k]
                for side in range(2):
                    drawn = alias[k] if side else k
                    word[2 * (record + 1) + side] = slot[drawn]
                    there = record + 2 + side * (1 + n_signals)
                    after = j * n_states + successors[slot[drawn]]
                    word[2 * there] = begin[after]
                    word[2 * there + 1] = length[after]
                    for f in range(n_signals):
                        real[there + 1 + f] = signals[rows[drawn], f]


@njit(inline="always")
def _mix(z):  # type: ignore[no-untyped-def]
    """The output function of splitmix64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(inline="always")
def _rotate(x, k):  # type: ignore[no-untyped-def]
    return (x << np.uint64(k)) | (x >> np.uint64(64 - k))


@kernel
def _rollout(  # type: ignore[no-untyped-def]
    real, word, begin, length, resting, start_threshold, start_alias,
    discount, horizon, seed, first_episode, policy_index, states, groups, sums, counts, visits,
):  # fmt: skip
    """Fill ``sums`` (n, F), ``states`` where negative, ``counts`` and ``visits``; return (steps, episodes cut).

    Lanes 0..width-1 hold the episodes in play. A lane's next random number is drawn, and its record asked for, one round before it is needed.
    An episode that ends leaves its lane to the last one; the next episode then begins. Where visits are credited, whose sums depend on the order
    of episodes, the next ones begin only when all have ended.

    Indices are unsigned so that no negative-index check is compiled, and the alias decision is arithmetic, not a branch: which side of the
    threshold a random number falls on cannot be predicted.
    """
    n_signals = sums.shape[1]
    one = np.uint64(1)
    two = np.uint64(2)
    side_size = np.uint64(1 + n_signals)
    size = np.uint64(4 + 2 * n_signals)
    n_states = np.uint32(start_threshold.size)
    golden = np.uint64(0x9E3779B97F4A7C15)
    unit = 1.0 / 9007199254740992.0
    counting = counts.shape[0] > 0
    tally = counts.reshape(-1)
    group_size = np.uint64(counts.shape[1])
    nothing = np.uint64(0xFFFFFFFFFFFFFFFF)
    x0 = np.empty(LANES, np.uint64)
    x1 = np.empty(LANES, np.uint64)
    record = np.empty(LANES, np.uint64)
    part = np.empty(LANES)
    weight = np.empty(LANES)
    left = np.empty(LANES, np.int64)
    who = np.empty(LANES, np.uint64)
    group = np.empty(LANES, np.uint64)
    pending = np.empty(LANES, np.uint64)
    if visits is not None:
        path = np.empty((LANES, horizon), np.uint64)
        slots = np.empty((LANES, horizon), np.uint32)
        ends = np.empty(LANES, np.int64)
        lengths = np.empty(LANES, np.int64)
        last = np.empty(LANES)
        weights = np.empty(horizon)
        power = 1.0
        for t in range(horizon):
            weights[t] = power
            power *= discount
        total = np.empty(n_signals)
    steps = 0
    cut = 0
    key = _mix(seed + golden)
    n = np.uint64(policy_index.size)
    i = np.uint64(0)
    width = np.uint64(0)
    opened = i
    while i < n or width > np.uint64(0):
        while width < np.uint64(LANES) and i < n:
            if visits is not None:
                if i - opened == np.uint64(LANES):
                    break
            y0 = _mix(key ^ _mix((first_episode + i) * golden + golden))
            y1 = _mix(y0 + golden)
            if states[i] < 0:
                u = ((y0 + y1) >> np.uint64(11)) * unit * n_states
                column = np.uint32(u)
                states[i] = start_alias[column] if u - column >= start_threshold[column] else column
            pair = np.uint64(policy_index[i] * n_states + states[i])
            size_here = length[pair]
            if size_here == 0:
                for f in range(n_signals):
                    sums[i, f] = 0.0 + 1.0 * resting[pair, f] / (1.0 - discount)
                if visits is not None:
                    ends[i - opened] = pair
                    lengths[i - opened] = 0
                    last[i - opened] = 1.0
            else:
                for f in range(n_signals):
                    sums[i, f] = 0.0
                bits = _rotate(y0 + y1, 17) + y0
                y1 ^= y0
                x0[width] = _rotate(y0, 49) ^ y1 ^ (y1 << np.uint64(21))
                x1[width] = _rotate(y1, 28)
                u = (bits >> np.uint64(11)) * unit * size_here
                column = np.uint32(u)
                part[width] = u - column
                record[width] = (np.uint64(begin[pair]) + np.uint64(column)) * size
                prefetch(real, record[width])
                weight[width] = 1.0
                left[width] = horizon
                who[width] = i
                if counting:
                    group[width] = np.uint64(groups[i]) * group_size
                    pending[width] = nothing
                width += one
            i += one
        lane = np.uint64(0)
        while lane < width:
            here = record[lane]
            side = np.uint64(part[lane] >= real[here])
            there = here + two + side * side_size
            episode = who[lane]
            w = weight[lane]
            if n_signals == 2:  # the usual number, without a loop
                sums[episode, 0] += w * real[there + one]
                sums[episode, 1] += w * real[there + two]
            else:
                for f in range(n_signals):
                    sums[episode, f] += w * real[there + one + np.uint64(f)]
            if visits is not None:
                row = episode - opened
                path[row, horizon - left[lane]] = there
                slots[row, horizon - left[lane]] = word[two * (here + one) + side]
            w *= discount
            left[lane] -= 1
            at = word[two * there]
            size_here = word[two * there + one]
            ended = size_here == 0 or left[lane] == 0
            if counting:
                if pending[lane] != nothing:
                    tally[pending[lane]] += 1
                seen = group[lane] + np.uint64(word[two * (here + one) + side])
                if ended:
                    tally[seen] += 1
                else:
                    pending[lane] = seen
                    prefetch(tally, seen)
            if ended:
                steps += horizon - left[lane]
                if size_here == 0:
                    for f in range(n_signals):
                        sums[episode, f] += w * resting[at, f] / (1.0 - discount)
                else:
                    cut += 1
                if visits is not None:
                    row = episode - opened
                    ends[row] = at
                    lengths[row] = horizon - left[lane]
                    last[row] = w if size_here == 0 else 0.0
                width -= one
                x0[lane] = x0[width]
                x1[lane] = x1[width]
                record[lane] = record[width]
                part[lane] = part[width]
                weight[lane] = weight[width]
                left[lane] = left[width]
                who[lane] = who[width]
                group[lane] = group[width]
                pending[lane] = pending[width]
            else:
                weight[lane] = w
                y0 = x0[lane]
                y1 = x1[lane]
                bits = _rotate(y0 + y1, 17) + y0
                y1 ^= y0
                x0[lane] = _rotate(y0, 49) ^ y1 ^ (y1 << np.uint64(21))
                x1[lane] = _rotate(y1, 28)
                u = (bits >> np.uint64(11)) * unit * size_here
                column = np.uint32(u)
                part[lane] = u - column
                here = (np.uint64(at) + np.uint64(column)) * size
                record[lane] = here
                prefetch(real, here)
                lane += one
        if visits is not None and width == np.uint64(0):
            for k in range(np.int64(i - opened)):
                _credit(
                    visits, path[k], slots[k], weights, lengths[k], real, resting, ends[k], last[k], discount, total
                )
            opened = i
    return steps, cut


@njit(inline="always")
def _credit(visits, path, slots, weights, t, real, resting, at, weight, discount, ahead):  # type: ignore[no-untyped-def]
    """Go back along one episode of t steps and add to every visit what followed it; ``ahead`` (F,) is overwritten.

    ``weight`` is 0 for an episode that was cut; else ``at`` is the pair of policy and state in which it was absorbed.
    """
    policies, rows, count, discounted, to_go = visits
    n_actions = discounted.shape[1]
    rest = 1.0 / (1.0 - discount)
    for f in range(ahead.size):
        ahead[f] = resting[at, f] * rest if weight > 0.0 else 0.0
    if weight > 0.0:
        j, s = divmod(at, policies.shape[1])
        for a in range(n_actions):
            share = weight * rest * _chance(policies, j, s, a)
            discounted[s, a] += share
            for f in range(ahead.size):
                to_go[f, s, a] += share * ahead[f]
    for k in range(t - 1, -1, -1):
        s, a = divmod(rows[slots[k]], n_actions)
        count[s, a] += 1
        discounted[s, a] += weights[k]
        for f in range(ahead.size):
            ahead[f] = real[path[k] + np.uint64(1 + f)] + discount * ahead[f]
            to_go[f, s, a] += weights[k] * ahead[f]


def transition_rows(task: TabularCMDP, counts: IntArray) -> IntArray:
    """(m, 4) rows ``(s, a, s', count)`` from counts (E,) of a task's stored transitions; what ``tell`` takes."""
    seen = np.flatnonzero(counts)
    states, actions = np.divmod(task.rows[seen], task.n_actions)
    return np.stack([states, actions, task.successors[seen], counts[seen]], axis=1)
