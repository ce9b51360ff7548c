"""Rungs on plants of a family: what was deployed there, and how it is scored.

*Tabular* plants have exact values. *Simulated* ones are judged by fresh episodes (:mod:`surefoot.rehearsal.judging`); the best is then the best
two-policy mixture of the library within the limits, by the judged means.

Letters: J policies, I constraints, V = 1 + I values, L rungs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.errors import InvalidInput
from surefoot.policy import TabularPolicy
from surefoot.policyset.schema import PolicySet
from surefoot.protocol import Protocol
from surefoot.rehearsal.agents import MakeAgent, play_agent
from surefoot.rehearsal.judging import judge
from surefoot.rehearsal.lockstep import Stretches, play_rung, simulated_source, tabular_source
from surefoot.rehearsal.runs import Path, RunRecord, score
from surefoot.solvers.linear_program import solve

__all__ = ["Cast", "best_pair", "run_rungs"]

JUDGE_STREAM, EPISODE_STREAM = 0x1D6E, 0xE715
BLOCK = 50
"""Episodes of a policy that are simulated at a time."""


@dataclass(frozen=True, eq=False)
class Cast:
    """Everything that is frozen, and how runs are scored.

    Attributes:
        family: of tabular or simulated tasks.
        episodes: K.
        protocol: how plants are used.
        rungs: of the belief's agent, by name; empty where agents are given.
        agents: by name; empty where rungs are given.
        policy_set: with a belief; for agents only where there is one.
        eps: for the episodes until near-optimal.
        beta: error of judging a simulated plant.
        budget: most judging episodes of one policy.
    """

    family: Any
    episodes: int
    protocol: Protocol
    rungs: dict[str, Rung]
    agents: dict[str, MakeAgent]
    policy_set: PolicySet | None
    eps: float
    beta: float
    budget: int

    @property
    def names(self) -> tuple[str, ...]:
        """Of the configurations, from cautious to bold."""
        return tuple(self.rungs or self.agents)

    @property
    def simulated(self) -> bool:
        """Whether plants have no models."""
        return not hasattr(self.family, "cmdp")


def run_rungs(cast: Cast, parameters: FloatArray, seed: int, names: Sequence[str]) -> list[RunRecord]:
    """One record for each of the named configurations on the plant with these parameters."""
    if cast.simulated:
        return _simulated(cast, parameters, seed, names)
    return _tabular(cast, parameters, seed, names)


def _tabular(cast: Cast, parameters: FloatArray, seed: int, names: Sequence[str]) -> list[RunRecord]:
    cmdp = cast.family.cmdp(parameters)
    best = solve(cmdp)
    optimum = float(best.value) if best.status == "optimal" else -np.inf
    paths: list[Path] = []
    if cast.rungs:
        assert cast.policy_set is not None
        tables = np.stack([p.table for p in cast.policy_set.policies if isinstance(p, TabularPolicy)])
        values = evaluate_many(cmdp, tables)
        safe = values[0]
        source = tabular_source(cast.policy_set, cast.rungs[names[0]], cmdp, tables, seed)
        for name in names:
            found = _played(cast, name, source, seed)
            paths.append(Path(found.starts, found.weights @ values, found.surprise))
    else:
        safe = None
        for name in names:
            agent = cast.agents[name](seed)
            if safe is None:
                safe = evaluate_many(cmdp, _safe_table(cast, agent))[0]
            paths.append(play_agent(agent, cmdp, cast.protocol, episodes=cast.episodes, plant_seed=seed))
    if not np.isfinite(optimum):
        optimum = max(float(path.values[:, 0].max()) for path in paths)
    limits = cmdp.cost_limits
    return [score(p, limits=limits, safe=safe, best=optimum, episodes=cast.episodes, eps=cast.eps) for p in paths]


def _safe_table(cast: Cast, agent: Any) -> FloatArray:
    """The policy that a stopped deployment plays: the policy set's where there is one, else the agent's first."""
    policy = cast.policy_set.policies[0] if cast.policy_set is not None else agent.policies[0]
    if not isinstance(policy, TabularPolicy):
        raise InvalidInput(
            "policies of an agent on tabular plants must be tables, got others; use TabularPolicy",
            code="SF-POLICY-KIND",
        )
    return policy.table


def _played(cast: Cast, name: str, source: Any, seed: int) -> Stretches:
    assert cast.policy_set is not None
    return play_rung(
        cast.policy_set, cast.rungs[name], source, seed=seed, chance=seed, lost_if_costly=cast.protocol.lost_if_costly
    )


def _simulated(cast: Cast, parameters: FloatArray, seed: int, names: Sequence[str]) -> list[RunRecord]:
    from surefoot.gym.play import EpisodeCache

    if not cast.rungs or cast.policy_set is None:
        raise InvalidInput(
            "agents must be rehearsed on tabular plants, got a simulated family; rehearse its policy set",
            code="SF-ARGUMENT-COMBINATION",
        )
    policies, criterion = cast.policy_set.policies, cast.policy_set.criterion
    cache = EpisodeCache(cast.family, parameters, policies, seed=(seed, EPISODE_STREAM), block=BLOCK)
    played = [_played(cast, name, simulated_source(cache, criterion.n_constraints), seed) for name in names]
    judges = EpisodeCache(cast.family, parameters, policies, seed=(seed, JUDGE_STREAM), block=BLOCK)
    used = np.zeros(len(policies), dtype=np.int64)

    def sample(j: int, n: int) -> FloatArray:
        blocks, rows = np.divmod(used[j] + np.arange(n), judges.block)
        used[j] += n
        parts = [judges.take(j, b, rows[blocks == b], 0) for b in np.unique(blocks).tolist()]
        found: FloatArray = np.concatenate(parts)[:, : 1 + criterion.n_constraints]
        return found

    alone = np.zeros((1, len(policies)))
    alone[0, 0] = 1.0
    mixtures = np.concatenate([alone, *(p.weights for p in played)])
    ceilings = np.asarray(cast.family.ranges()[1][1 : 1 + criterion.n_constraints], dtype=np.float64)
    verdict = judge(
        sample, np.unique(mixtures, axis=0), criterion.cost_limits, ceilings, beta=cast.beta, budget=cast.budget
    )
    means = verdict.means
    best = best_pair(means, criterion.cost_limits)
    records, shown = [], {w.tobytes(): bool(s) for w, s in zip(np.unique(mixtures, axis=0), verdict.shown)}
    for found in played:
        path = Path(found.starts, found.weights @ means, found.surprise)
        record = score(
            path, limits=criterion.cost_limits, safe=means[0], best=best, episodes=cast.episodes, eps=cast.eps
        )
        proved = all(shown[w.tobytes()] for w in np.concatenate([alone, found.weights]))
        records.append(replace(record, violating=not proved))
    return records


def best_pair(values: FloatArray, limits: FloatArray) -> float:
    """The largest return of a mixture of at most two policies with values (J, V) within limits (I,); with one constraint, of any mixture.

    Where no such mixture keeps the limits: the return of the policy that exceeds them least.
    """
    reward, over = values[:, 0], values[:, 1:] - limits
    rise = over[None] - over[:, None]
    # over[a] + w rise[a, b] <= 0 bounds w from above where it rises, from below where it falls.
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -over[:, None] / rise
    high = np.where(rise > 0.0, crossing, np.where((rise == 0.0) & (over[:, None] > 0.0), -np.inf, np.inf)).min(axis=2)
    low = np.where(rise < 0.0, crossing, -np.inf).max(axis=2)
    high, low = np.minimum(high, 1.0), np.maximum(low, 0.0)
    possible = low <= high
    if not possible.any():
        return float(reward[over.max(axis=1).argmin()])
    gain = reward[None] - reward[:, None]
    best = reward[:, None] + np.where(gain > 0.0, high, low) * gain
    return float(best[possible].max())
