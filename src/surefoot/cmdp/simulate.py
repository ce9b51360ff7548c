"""Rolling out many episodes of many policies in one compiled kernel.

For a fixed policy the pair (action, successor) has one joint distribution per state, so each step needs one random
number: Walker's alias table of that joint distribution, whose entries carry the successor's own table and the signals.
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
from functools import reduce
from typing import Any

import numpy as np
from numba import njit

from surefoot.arrays import FloatArray, IntArray, check_integer, check_real
from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import InvalidInput
from surefoot.kernels import kernel
from surefoot.policy import as_tables

__all__ = ["Episodes", "Simulator", "Visits", "simulate", "transition_rows"]

DEFAULT_TAIL = 1e-9
THREAD_EPISODES = 4096
"""Batches smaller than this per thread are not worth a thread; visits are summed in blocks of this size."""


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

    def __len__(self) -> int:
        return int(self.returns.size)


class Simulator:
    """Tables of one CMDP and J policies, built once and rolled out as often as needed.

    Args:
        cmdp: the task.
        policies: (J, S, A) tables, a list of ``TabularPolicy``, or one of either.
        tail_tolerance: largest part of a signal that cutting an episode may hide.

    Raises:
        InvalidInput: the policies do not fit the CMDP, or the tolerance is not positive.
    """

    def __init__(self, cmdp: TabularCMDP, policies: Any, tail_tolerance: float = DEFAULT_TAIL) -> None:
        tail_tolerance = check_real("tail_tolerance", tail_tolerance, low=0.0, open_low=True)
        self.cmdp = cmdp
        tables = as_tables("policies", policies, cmdp.n_states, cmdp.n_actions)
        self.n_policies = len(tables)
        self._policies = np.ascontiguousarray(tables)
        signals = np.ascontiguousarray(cmdp.signals.reshape(1 + cmdp.n_costs, -1).T)
        self._tables = _build_tables(
            tables, cmdp.row_start, cmdp.successors, cmdp.probabilities, signals, cmdp.n_actions
        )
        self._start = np.empty(cmdp.n_states), np.empty(cmdp.n_states, dtype=np.int64)
        _alias_table(cmdp.start, *self._start)
        scale = np.abs(cmdp.signals).max(axis=(1, 2)) / (1.0 - cmdp.discount)
        # Where all signals are small, the part that cutting hides is small beside them, not beside 1.
        largest = max(float(scale.max()), 1.0, tail_tolerance)
        self.horizon = max(1, int(np.ceil(np.log(tail_tolerance / largest) / np.log(cmdp.discount))))
        self._tail = scale * cmdp.discount**self.horizon

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
        edges = np.linspace(0, n, blocks + 1).astype(int)
        counts = np.zeros((blocks, n_groups, self.cmdp.successors.size), dtype=np.int64)
        seen = [self._no_visits(int(size)) if visits else None for size in np.diff(edges)]

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
            transitions=counts.sum(axis=0) if groups is not None else None,
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

    def _no_visits(self, episodes: int) -> Visits:
        """Sums for the kernel to add to."""
        shape = (self.cmdp.n_states, self.cmdp.n_actions)
        zeros = np.zeros(shape)
        return Visits(episodes, np.zeros(shape, dtype=np.int64), zeros, np.zeros((1 + self.cmdp.n_costs, *shape)))

    def _trail(self, seen: Visits | None) -> Any:
        """What the kernel needs to credit visits, or ``None``: a type of its own, so that the branch costs nothing."""
        if seen is None:
            return None
        return self._policies, self.cmdp.rows, seen.count, seen.discounted, seen.to_go


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
    limit = np.iinfo(np.int64).max if upper is None else upper
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


@kernel
def _build_tables(tables, row_start, successors, probabilities, signals, n_actions):  # type: ignore[no-untyped-def]
    """Alias tables of the joint (action, successor) law of every (policy, state).

    Returns, over table entries: both outcomes of each column (2E,), thresholds, where the successor's own table begins and
    how long it is, signals, and the stored transition it stands for; over (policy, state): where the table begins, its length
    (0: absorbed, and the beginning is then the pair's own number), and the signals of one absorbed step.
    """
    n_policies, n_states, _ = tables.shape
    n_signals = signals.shape[1]
    total = 0
    for j in range(n_policies):
        for s in range(n_states):
            for a in range(n_actions):
                if tables[j, s, a] > 0.0:
                    total += row_start[s * n_actions + a + 1] - row_start[s * n_actions + a]
    threshold = np.empty(total)
    weights = np.empty(total)
    local = np.empty(total, np.int64)
    outcomes = np.empty(2 * total, np.uint32)
    next_state = np.empty(total, np.int64)
    slot = np.empty(total, np.int64)
    gain = np.empty((total, n_signals))
    begin = np.empty(n_policies * n_states, np.uint32)
    length = np.empty(n_policies * n_states, np.uint32)
    resting = np.zeros((n_policies * n_states, n_signals))
    k = 0
    for j in range(n_policies):
        for s in range(n_states):
            first = k
            absorbed = True
            for a in range(n_actions):
                row = s * n_actions + a
                if tables[j, s, a] <= 0.0:
                    continue
                for e in range(row_start[row], row_start[row + 1]):
                    next_state[k] = j * n_states + successors[e]
                    slot[k] = e
                    weights[k] = tables[j, s, a] * probabilities[e]
                    absorbed = absorbed and successors[e] == s
                    for f in range(n_signals):
                        gain[k, f] = signals[row, f]
                        absorbed = absorbed and gain[k, f] == gain[first, f]
                    k += 1
            pair = j * n_states + s
            begin[pair] = pair if absorbed else first
            length[pair] = 0 if absorbed else k - first
            resting[pair] = gain[first]
            _alias_table(weights[first:k], threshold[first:k], local[first:k])
            for e in range(first, k):
                outcomes[2 * e] = e
                outcomes[2 * e + 1] = first + local[e]
    return outcomes, threshold, begin[next_state], length[next_state], gain, slot, begin, length, resting


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
    outcomes, threshold, next_begin, next_length, gain, slot, begin, length, resting, start_threshold, start_alias,
    discount, horizon, seed, first_episode, policy_index, states, groups, sums, counts, visits,
):  # fmt: skip
    """Fill ``sums`` (n, F), ``states`` where negative, ``counts`` and ``visits``; return (steps, episodes cut).

    Indices are unsigned so that no negative-index check is compiled, and the alias decision is a table look-up, not a branch:
    which side of the threshold a random number falls on cannot be predicted.
    """
    n_signals = sums.shape[1]
    n_states = np.uint32(start_threshold.size)
    golden = np.uint64(0x9E3779B97F4A7C15)
    unit = 1.0 / 9007199254740992.0
    counting = counts.shape[0] > 0
    total = np.zeros(n_signals)
    steps = 0
    cut = 0
    if visits is not None:
        path = np.empty(horizon, np.uint32)
        weights = np.empty(horizon)
    key = _mix(seed + golden)
    for i in range(policy_index.size):
        x0 = _mix(key ^ _mix((first_episode + np.uint64(i)) * golden + golden))
        x1 = _mix(x0 + golden)
        if states[i] < 0:
            u = ((x0 + x1) >> np.uint64(11)) * unit * n_states
            column = np.uint32(u)
            states[i] = start_alias[column] if u - column >= start_threshold[column] else column
        pair = np.uint32(policy_index[i] * n_states + states[i])
        at = begin[pair]
        n = length[pair]
        for f in range(n_signals):
            total[f] = 0.0
        weight = 1.0
        t = 0
        while n > 0 and t < horizon:
            word = _rotate(x0 + x1, 17) + x0
            x1 ^= x0
            x0 = _rotate(x0, 49) ^ x1 ^ (x1 << np.uint64(21))
            x1 = _rotate(x1, 28)
            u = (word >> np.uint64(11)) * unit * n
            column = np.uint32(u)
            e = np.uint32(at + column)
            e = outcomes[np.uint32(2 * e + np.uint32(u - column >= threshold[e]))]
            for f in range(n_signals):
                total[f] += weight * gain[e, f]
            if counting:
                counts[groups[i], slot[e]] += 1
            if visits is not None:
                path[t] = e
                weights[t] = weight
            weight *= discount
            at = next_begin[e]
            n = next_length[e]
            t += 1
        steps += t
        if n > 0:
            cut += 1
            weight = 0.0
            at = pair
        for f in range(n_signals):
            sums[i, f] = total[f] + weight * resting[at, f] / (1.0 - discount)
        if visits is not None:
            _credit(visits, path, weights, t, gain, slot, resting, np.int64(at), weight, discount, total)
    return steps, cut


@njit(inline="always")
def _credit(visits, path, weights, t, gain, slot, resting, at, weight, discount, ahead):  # type: ignore[no-untyped-def]
    """Go back along one episode of t steps and add to every visit what followed it; ``ahead`` (F,) is overwritten.

    ``weight`` is 0 for an episode that was cut; else ``at`` is the pair of policy and state in which it was absorbed.
    """
    tables, rows, count, discounted, to_go = visits
    n_actions = tables.shape[2]
    rest = 1.0 / (1.0 - discount)
    for f in range(ahead.size):
        ahead[f] = resting[at, f] * rest if weight > 0.0 else 0.0
    if weight > 0.0:
        j, s = divmod(at, tables.shape[1])
        for a in range(n_actions):
            share = weight * rest * tables[j, s, a]
            discounted[s, a] += share
            for f in range(ahead.size):
                to_go[f, s, a] += share * ahead[f]
    for k in range(t - 1, -1, -1):
        e = path[k]
        s, a = divmod(rows[slot[e]], n_actions)
        count[s, a] += 1
        discounted[s, a] += weights[k]
        for f in range(ahead.size):
            ahead[f] = gain[e, f] + discount * ahead[f]
            to_go[f, s, a] += weights[k] * ahead[f]


def transition_rows(task: TabularCMDP, counts: IntArray) -> IntArray:
    """(m, 4) rows ``(s, a, s', count)`` from counts (E,) of a task's stored transitions; what ``tell`` takes."""
    seen = np.flatnonzero(counts)
    states, actions = np.divmod(task.rows[seen], task.n_actions)
    return np.stack([states, actions, task.successors[seen], counts[seen]], axis=1)
