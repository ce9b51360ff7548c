r"""What the runner has to know about a world, and plants: one real task each, on which agents are played and judged.

A deployed mixture w is worth ``sum_j w_j V(pi_j)``. On a :class:`TabularPlant` the values ``V`` are exact and the oracle is the optimum of the CMDP;
on a :class:`SimulatedPlant` they are means of many fresh episodes that no agent meets, and the oracle is the best mixture of two library policies by
these means. A judge of one's own is another class with the members of :class:`Plant`.

Letters: p parameters, J policies, I constraints, K episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.deploy.trace import Trace
from surefoot.experiments.runner import follow, play
from surefoot.policy import TabularPolicy
from surefoot.policyset.schema import PolicySet
from surefoot.protocol import Protocol as Use
from surefoot.rehearsal.lockstep import play_rung, simulated_source
from surefoot.rehearsal.plants import best_pair
from surefoot.solvers.linear_program import solve

__all__ = ["Outside", "Plant", "SimulatedPlant", "TabularPlant", "World"]

EPISODE_STREAM, JUDGE_STREAM = 0xE715, 0x1D6E
BLOCK = 50


class Plant(Protocol):
    """One real task and the policies of one policy set.

    Attributes:
        values: (J, 1+I) what the set's policies are worth here, exactly or as judged.
        oracle: (1+I,) return and costs of the best that respects the limits here.
    """

    @property
    def values(self) -> FloatArray: ...

    @property
    def oracle(self) -> FloatArray: ...

    def play(self, agent: Any, episodes: int, chance: int, largest_batch: int) -> Trace:
        """K episodes of an agent that asks and is told; ``chance`` decides what happens on the plant."""
        ...

    def follow(self, rung: Rung, chance: int, draws: int) -> Trace:
        """The episodes of a rung of ``trust="rehearsed"``, block by block, with the agent's ``draws``."""
        ...


class TabularPlant:
    """A CMDP.

    Args:
        family: has ``cmdp``.
        parameters: (p,).
        policy_set: of tabular policies.
        seed: unused; values are exact.
        oracle: (1+I,) where it is known already.
    """

    def __init__(
        self, family: Any, parameters: FloatArray, policy_set: PolicySet, seed: int = 0, oracle: FloatArray | None = None
    ) -> None:  # fmt: skip
        self._task, self._policy_set = family.cmdp(parameters), policy_set
        tables = np.stack([p.table for p in policy_set.policies if isinstance(p, TabularPolicy)])
        self.values: FloatArray = evaluate_many(self._task, tables)
        if oracle is None:
            best = solve(self._task).value_or_raise()
            oracle = np.array([best.value, *best.costs])
        self.oracle: FloatArray = oracle

    def play(self, agent: Any, episodes: int, chance: int, largest_batch: int) -> Trace:
        """See :class:`Plant`."""
        return play(agent, self._task, episodes, chance, largest_batch=largest_batch)

    def follow(self, rung: Rung, chance: int, draws: int) -> Trace:
        """See :class:`Plant`."""
        return follow(self._policy_set, rung, self._task, chance, draws)


class SimulatedPlant:
    """A task of a :class:`~surefoot.gym.family.GymFamily`.

    Args:
        family: of simulated tasks.
        parameters: (p,).
        policy_set: its policies are played.
        seed: of the judging episodes.
        oracle: (1+I,) where it is known already.
        judged: fresh episodes per policy that judge.
    """

    def __init__(
        self, family: Any, parameters: FloatArray, policy_set: PolicySet, seed: int = 0, oracle: FloatArray | None = None, *,
        judged: int = 2000,
    ) -> None:  # fmt: skip
        from surefoot.gym.play import evaluate_policy

        self._family, self._parameters, self._policy_set = family, parameters, policy_set
        width = 1 + family.n_constraints
        found = evaluate_policy(family, parameters, policy_set.policies, episodes=judged, seed=(seed, JUDGE_STREAM))
        self.values: FloatArray = found.mean[0, :, :width]
        self.oracle: FloatArray = (
            best_mixture(self.values, policy_set.criterion.cost_limits) if oracle is None else oracle
        )

    def _bank(self, chance: int) -> Any:
        from surefoot.gym.play import EpisodeCache

        return EpisodeCache(
            self._family, self._parameters, self._policy_set.policies, seed=(chance, EPISODE_STREAM), block=BLOCK
        )

    def play(self, agent: Any, episodes: int, chance: int, largest_batch: int) -> Trace:
        """See :class:`Plant`."""
        from surefoot.gym.play import play_gym

        return play_gym(
            agent, self._bank(chance), episodes=episodes, seed=chance, values=self.values, largest_batch=largest_batch
        )

    def follow(self, rung: Rung, chance: int, draws: int) -> Trace:
        """See :class:`Plant`."""
        source = simulated_source(self._bank(chance), self._family.n_constraints)
        found = play_rung(self._policy_set, rung, source, seed=draws, chance=chance)
        worth = found.weights @ self.values
        ends = np.append(found.starts[1:], rung.episodes)
        return Trace(ends, worth[:, 0], worth[:, 1:], 1.0 - found.weights[:, 0], 0.0, 0.0)


def best_mixture(values: FloatArray, limits: FloatArray) -> FloatArray:
    """(1+I,) of the best mixture of two policies with values (J, 1+I) within limits (I,); see :func:`best_pair` for where there is none."""
    best = best_pair(values, limits)
    pairs = [(a, b) for a in range(len(values)) for b in range(len(values))]
    shares = np.linspace(0.0, 1.0, 1001)[:, None]
    mixed = [(1.0 - shares) * values[a] + shares * values[b] for a, b in pairs]
    # Where a pair crosses a limit, exactly: the best of one limit sits there.
    for a, b in pairs:
        rise = values[b, 1:] - values[a, 1:]
        at = (limits - values[a, 1:])[rise != 0.0] / rise[rise != 0.0]
        at = at[(at > 0.0) & (at < 1.0)][:, None]
        mixed.append((1.0 - at) * values[a] + at * values[b])
    found = np.concatenate(mixed)
    kept = found[(found[:, 1:] <= limits + 1e-9).all(axis=1)]
    if not len(kept):
        least: FloatArray = values[(values[:, 1:] - limits).max(axis=1).argmin()]
        return least
    return np.concatenate([[best], kept[kept[:, 0].argmax(), 1:]])


MakePlant = Callable[[Any, FloatArray, PolicySet, int, Any], Plant]
"""``make(family, parameters, policy_set, seed, oracle)``; ``oracle`` is ``None`` or (1+I,) where another set's plant found it."""


@dataclass(frozen=True, eq=False)
class Outside:
    """A reality that the family does not hold.

    Attributes:
        name: in tables.
        text: one sentence about what differs.
        family: where such plants come from; its criterion is the world's.
    """

    name: str
    text: str
    family: Any


@dataclass(frozen=True, eq=False)
class World:
    """One world as the runner takes it; every function is one of a module, so that processes can be sent it.

    Attributes:
        name: of the experiment.
        title: one line about it.
        family: where fresh plants come from.
        train: ``train(cells, previous, seed, workers, progress)`` -> the policy set. ``cells`` is ``None`` for the set with a belief, which ``data``,
            ``envelope`` and ``rehearsed`` deploy, or the largest number of cells; ``previous`` is the set whose hold-out was looked at last.
        plant: makes one.
        episodes: K by default.
        ladder: boldness of the rungs, from cautious to bold; fixed beforehand.
        cells: numbers of cells to try, falling; empty where there is no set for ``cells``.
        p_max: largest share of the family in no cell that ``cells`` accepts.
        margin: of the safe policy, where more is known of it than training verified; by default what training verified.
        use: how plants are used.
        evidence: what plants report in rehearsals: ``"all"`` or ``"returns"``.
        cells_evidence: the same under ``cells``.
        outside: for the mismatch study.
        largest_batch: episodes that share one mixture, at most.
    """

    name: str
    title: str
    family: Any
    train: Callable[[int | None, PolicySet | None, int, int, bool], PolicySet]
    plant: MakePlant
    episodes: int
    ladder: tuple[float, ...]
    cells: tuple[int, ...] = ()
    p_max: float = 0.05
    margin: float | None = None
    use: Use = field(default_factory=Use)
    evidence: str = "all"
    cells_evidence: str = "all"
    outside: tuple[Outside, ...] = ()
    largest_batch: int = 50
