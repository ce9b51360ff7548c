"""All rungs on one plant, block by block: the mixtures that the certified agent would play there, without the agent.

Between two plan times (:mod:`surefoot.deploy.belief.planner`) the mixture stays, so its episodes are simulated together. The agent's draws, the
plant's episodes and the planner are the same as when an agent is asked and told one episode after the other, and so are its decisions: a test
compares them. All rungs meet the same chance: episode k of a tabular plant is ``(seed, k)`` for every rung, and the n-th episode of a policy on a
simulated plant is simulated once.

Alarms, data bounds and everything else that only leads back to the safe policy is left out: whoever counts a run on which the safe policy violates as
violating may do so (:mod:`surefoot.rehearsal`).

Letters: J policies, I constraints, E transitions, X signals, n episodes, T stretches between plans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.cmdp.model import TabularCMDP
from surefoot.cmdp.simulate import Simulator
from surefoot.deploy.belief.planner import BeliefPlanner
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.deploy.evidence.transitions import encode
from surefoot.policy import draw_policies
from surefoot.policyset.schema import PolicySet

if TYPE_CHECKING:
    from surefoot.gym.play import EpisodeCache

__all__ = ["Block", "Stretches", "play_rung", "rungs_of", "simulated_source", "tabular_source"]

HISTORY_STREAM, LOST_STREAM = 0x415, 0x1057


@dataclass(frozen=True, eq=False)
class Block:
    """What n episodes of a plant gave.

    Attributes:
        outcomes: (n, 1 + I).
        initial_states: (n,), or ``None``.
        signals: (n, X), or ``None``.
        moves: (groups, E) transitions by entry of the belief's support, or ``None``.
        odd: (groups,) whether there were transitions outside it.
    """

    outcomes: FloatArray
    initial_states: IntArray | None = None
    signals: FloatArray | None = None
    moves: FloatArray | None = None
    odd: Any = None


Source = Callable[[IntArray, int, IntArray], Block]
"""``source(policy_index, first, groups)``: episodes ``first, first + 1, ...`` of a plant, their transitions summed over ``groups`` (n,)."""


@dataclass(frozen=True, eq=False)
class Stretches:
    """The mixtures of one run.

    Attributes:
        starts: (T,) first episode of each stretch.
        weights: (T, J).
        surprise: largest surprise.
    """

    starts: IntArray
    weights: FloatArray
    surprise: float


def tabular_source(policy_set: PolicySet, rung: Rung, cmdp: TabularCMDP, tables: FloatArray, seed: int) -> Source:
    """Episodes of a tabular plant; episode k is decided by ``(seed, k)`` and its policy."""
    support = policy_set.beliefs[rung.evidence].support
    simulator = Simulator(cmdp, tables)
    if not len(support):

        def outcomes_alone(policy_index: IntArray, first: int, groups: IntArray) -> Block:
            sums, states, _ = simulator.block(policy_index, seed=seed, first_episode=first, groups=None, n_groups=0)
            return Block(_limited(cmdp, sums), states)

        return outcomes_alone
    entries = np.column_stack([cmdp.rows // cmdp.n_actions, cmdp.rows % cmdp.n_actions, cmdp.successors])
    keys, mine = encode(support), encode(entries)
    where = np.minimum(np.searchsorted(keys, mine), keys.size - 1)
    known = keys[where] == mine
    same = bool(known.all()) and where.size == keys.size

    def everything(policy_index: IntArray, first: int, groups: IntArray) -> Block:
        n_groups = int(groups.max(initial=0)) + 1
        sums, states, counts = simulator.block(
            policy_index, seed=seed, first_episode=first, groups=groups, n_groups=n_groups
        )
        moves = counts.astype(np.float64) if same else np.zeros((len(counts), keys.size))
        odd: Any = np.zeros(len(counts), dtype=np.bool_)
        if not same:
            moves[:, where[known]] = counts[:, known]
            odd = counts[:, ~known].any(axis=1)
        return Block(_limited(cmdp, sums), states, None, moves, odd)

    return everything


def _limited(cmdp: TabularCMDP, sums: FloatArray) -> FloatArray:
    """(n, 1+I) returns and what is limited of the costs of episodes (n, 1+K)."""
    return np.column_stack([sums[:, 0], cmdp.measure(sums[:, 1:])]) if cmdp.functionals else sums


def simulated_source(cache: EpisodeCache, n_constraints: int) -> Source:
    """Episodes of a simulated plant for one run: the n-th episode of a policy is the n-th of the cache, whichever rung asks for it."""
    used = np.zeros(len(cache.policies), dtype=np.int64)

    def next_episodes(policy_index: IntArray, first: int, groups: IntArray) -> Block:
        found = None
        for j in np.unique(policy_index).tolist():
            where = np.flatnonzero(policy_index == j)
            blocks, rows = np.divmod(used[j] + np.arange(where.size), cache.block)
            used[j] += where.size
            for b in np.unique(blocks).tolist():
                mine = blocks == b
                part = cache.take(j, b, rows[mine], 0)
                if found is None:
                    found = np.empty((policy_index.size, part.shape[1]))
                found[where[mine]] = part
        if found is None:
            found = np.zeros((0, 1 + n_constraints))
        signals = found[:, 1 + n_constraints :]
        return Block(found[:, : 1 + n_constraints], None, signals if signals.shape[1] else None)

    return next_episodes


def play_rung(
    policy_set: PolicySet,
    rung: Rung,
    source: Source,
    *,
    seed: int,
    chance: int,
    lost_if_costly: tuple[float, float] | None = None,
) -> Stretches:
    """One run of K episodes.

    Args:
        policy_set: with a belief.
        rung: what is played.
        source: the plant.
        seed: of the agent's draws.
        chance: of what happens to reports: the same number loses the same episodes.
        lost_if_costly: as in the protocol; ``rung.lost`` then holds both kinds of losses, and the plain ones are what is left.
    """
    planner = rung.planner(policy_set)
    draws = np.random.default_rng(seed)
    losses = _Losses(rung, chance, lost_if_costly)
    if rung.history:
        before = source(np.zeros(rung.history, dtype=np.int64), rung.episodes, np.zeros(rung.history, dtype=np.int64))
        _enter(planner, 0, np.zeros(0, dtype=np.int64), np.zeros(rung.history, dtype=np.int64), before, 0, slice(None))
    starts, weights, opened = [], [], 0
    while opened < rung.episodes:
        planner.refresh()
        end = min(planner.due, rung.episodes)
        starts.append(opened)
        weights.append(planner.weights)
        index = draw_policies(planner.weights, end - opened, draws)
        _play_block(planner, index, opened, source, losses)
        opened = end
    return Stretches(np.array(starts, dtype=np.int64), np.array(weights), planner.surprise)


class _Losses:
    """Which episodes are never told."""

    def __init__(self, rung: Rung, chance: int, costly: tuple[float, float] | None) -> None:
        self._costly = costly
        extra = 0.0 if costly is None else costly[1]
        plain = 0.0 if extra >= 1.0 else 1.0 - (1.0 - rung.lost) / (1.0 - extra)
        self.any = rung.lost > 0.0
        rng = np.random.default_rng([chance, LOST_STREAM])
        draws = rng.random((2, rung.episodes)) if self.any else np.zeros((2, 0))
        self._plain, self._extra = draws[0] < plain - 1e-12, draws[1] < extra

    def of(self, first: int, block: Block) -> Any:
        """(n,) whether each episode of a block is lost."""
        part = slice(first, first + len(block.outcomes))
        gone = self._plain[part]
        if self._costly is not None:
            gone = gone | (self._extra[part] & (block.outcomes[:, 1] > self._costly[0]))
        return gone


def _play_block(planner: BeliefPlanner, index: IntArray, first: int, source: Source, losses: _Losses) -> None:
    """Episodes between two plans; what of them enters which later plan."""
    end = first + index.size
    times, edges = [], [first]
    while edges[-1] < end:
        time = planner.plan_for(edges[-1])
        if time is None:
            raise AssertionError("an episode is asked before it is too late")
        times.append(time)
        edges.append(min(end, planner.cutoff_at(time)))
    groups = np.repeat(np.arange(len(times)), np.diff(edges))
    block = source(index, first, groups)
    lost = losses.of(first, block) if losses.any else np.zeros(index.size, dtype=np.bool_)
    if lost.any() and block.moves is not None:
        # The same episodes once more, to count the transitions of those that are told.
        block = source(index, first, np.where(lost, len(times), groups))
    for g, time in enumerate(times):
        part = slice(edges[g] - first, edges[g + 1] - first)
        ids = np.arange(edges[g], edges[g + 1])
        kept: Any = part
        if lost[part].any():
            kept = np.flatnonzero(~lost[part]) + part.start
        _enter(planner, time, ids, index[kept], block, g, kept)


def _enter(
    planner: BeliefPlanner, time: int, ids: IntArray, policy_index: IntArray, block: Block, group: int, kept: Any
) -> None:
    """Episodes ``ids`` are accounted for by the plan at ``time``; those ``kept`` are learned from."""
    planner.add(
        time,
        ids,
        policy_index,
        np.ascontiguousarray(block.outcomes[kept]),
        initial_state=None if block.initial_states is None else block.initial_states[kept],
        moves=None if block.moves is None or group >= len(block.moves) else block.moves[group],
        signals=None if block.signals is None else block.signals[kept],
        odd=block.odd is not None and group < len(block.odd) and bool(block.odd[group]),
    )


def rungs_of(boldness: Sequence[float], **shared: Any) -> list[Rung]:
    """Rungs that differ in boldness alone."""
    return [Rung(boldness=b, **shared) for b in boldness]
